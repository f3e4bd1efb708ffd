"""So little memory that not all of it works: no traceback, a line if at all possible, and no lie in the exit code."""

import itertools

from assertions import groups, is_isolated, our_tags

LIMITS = range(24, 264, 24)  # MB of address space; from not even Python's modules to enough for all


def limited(agent, monkeypatch, limit, action, node, **options):
    """A run with this limit, and whether it ended with a useful line."""
    monkeypatch.setenv("AGENT_RUNNER", f"prlimit --as={limit << 20}")
    result = agent.command(action, node, deadline=4, **options)
    monkeypatch.delenv("AGENT_RUNNER")
    assert result.seconds < 15
    assert sum(line.startswith("ERROR: ") for line in result.lines) <= 1, result.err
    assert result.code != 2
    # The interpreter may have said something before.
    return result, result.last.startswith("ERROR: ") and "internal error" not in result.last


def test_off_and_on_complete_an_off_without_memory(agent, ec2, node, keep, remove, monkeypatch, record_property):
    """In both modes, in turn: at what point the memory ends is not the same in any two runs."""
    before = groups(ec2, node)
    reported = []
    for mode, limit in zip(itertools.cycle((keep, remove)), LIMITS):
        result, has_line = limited(agent, monkeypatch, limit, "off", node, **mode)
        if result.code == 0:
            assert is_isolated(ec2, node, mode), limit
        else:
            reported.append(has_line)
        assert agent.command("off", node, **mode).code == 0
        assert is_isolated(ec2, node, mode)
        assert agent.command("on", node, **mode).code == 0
        assert (groups(ec2, node), our_tags(ec2, node)) == (before, {}), limit
    assert len(reported) > 2, "the limits are too high"
    assert sum(reported) >= len(reported) / 2  # a thread that dies before it begins leaves no word
    record_property("measured", f"{sum(reported)} of {len(reported)} failures reported")


def test_a_monitor_with_too_little_memory_fails(agent, ec2, keep, monkeypatch):
    reported = []
    for limit in LIMITS:
        result, has_line = limited(agent, monkeypatch, limit, "monitor", None, **keep)
        reported += [has_line] * (result.code != 0)
    assert len(reported) > 2
    assert sum(reported) >= len(reported) / 2


def test_an_action_that_needs_little_works_with_little(agent, monkeypatch):
    monkeypatch.setenv("AGENT_RUNNER", f"prlimit --as={128 << 20}")
    assert agent.raw("-o", "metadata").code == 0
