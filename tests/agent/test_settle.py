"""settle_time: EC2's network follows its API by seconds, so success and the last read come after that."""

import time

import pytest
from assertions import accepted, is_isolated, our_tags
from ec2.faults import Delay, Error, Throttle

CHANGE = "ModifyNetworkInterfaceAttribute"


def last_read(ec2):
    return ec2.calls_of("DescribeInstances")[-1].at


def test_off_succeeds_after_the_network_has_settled_and_reads_then(agent, ec2, node, mode):
    result = agent.command("off", node, **{**mode, "settle_time": 2})
    assert result.code == 0, result.err
    assert last_read(ec2) - accepted(ec2)[-1] >= 2
    assert is_isolated(ec2, node, mode)


def test_nothing_waits_before_the_isolation(agent, ec2, node, mode):
    agent.command("off", node, **{**mode, "settle_time": 6})
    began = min(c.at for c in ec2.calls)
    assert accepted(ec2)[-1] - began < 6


def test_by_default_it_takes_five_seconds(agent, ec2, node, keep):
    del agent.options["settle_time"]
    assert agent.command("off", node, **keep).code == 0
    assert last_read(ec2) - accepted(ec2)[-1] >= 5


def test_untracking_lasts_for_the_settle_time(agent, ec2, node, mode):
    result = agent.command("off", node, **{**mode, "settle_time": 2, "untrack_secg": ec2.world.open})
    assert result.code == 0, result.err
    opened, isolated = accepted(ec2, group=ec2.world.open), accepted(ec2, without=ec2.world.open)
    assert len(opened) == len(isolated) == 2
    assert isolated[0] - opened[-1] >= 2
    assert last_read(ec2) - isolated[-1] >= 2


def test_settling_counts_from_the_last_accepted_change(agent, ec2, node, keep):
    second = ec2.world.interfaces["node1"][1]
    ec2.rules.add(CHANGE, Throttle(), when=lambda c: c.params["NetworkInterfaceId"] == second, times=3)
    assert agent.command("off", node, **{**keep, "settle_time": 1}).code == 0
    first, last = accepted(ec2)
    assert last - first > 0.1
    assert last_read(ec2) - last >= 1


def test_an_interface_that_appears_while_it_settles_is_isolated_and_settles_too(agent, ec2, node, keep):
    running = agent.start(*agent.arguments("off", node, **{**keep, "settle_time": 2}))
    while len(accepted(ec2)) < 2 or len(ec2.calls_of("DescribeInstances")) < 3:
        time.sleep(0.02)
        assert running.poll() is None
    ec2.edit.attach(node, [ec2.world.groups["app"]], 5)
    _, err = running.communicate(timeout=30)
    assert running.returncode == 0, err
    assert is_isolated(ec2, node, keep)
    assert len(accepted(ec2)) >= 3
    assert last_read(ec2) - accepted(ec2)[-1] >= 2


def test_without_time_to_settle_it_isolates_and_fails(agent, ec2, node, keep):
    ec2.rules.add("CreateTags", Delay(4))
    result = agent.command("off", node, **{**keep, "settle_time": 5, "deadline": 9, "api_timeout": 8})
    assert result.code == 1
    assert result.last.startswith("ERROR: deadline error")
    assert "settle_time=5 was not over" in result.last
    assert is_isolated(ec2, node, keep)
    assert our_tags(ec2, node)


@pytest.mark.parametrize(("settle", "untracks"), [(35, False), (18, True)])
def test_a_settle_time_beyond_the_deadline_is_refused(agent, ec2, node, keep, settle, untracks):
    options = {**keep, "untrack_secg": ec2.world.open if untracks else None}
    fits = agent.command("validate-all", **{**options, "settle_time": settle - 1})
    assert fits.code == 0, fits.err
    for action in ("off", "validate-all"):
        result = agent.command(action, node, **{**options, "settle_time": settle})
        assert result.code == 1
        assert f"settle_time={settle}" in result.last
        assert "deadline=45" in result.last
    assert ec2.calls == []


@pytest.mark.parametrize("value", ["soon", "-1", "2.5", "1000000"])
def test_it_is_a_whole_number_of_seconds(agent, ec2, node, keep, value):
    result = agent.command("off", node, **{**keep, "settle_time": value})
    assert result.code == 1
    assert f"settle-time={value} is not a whole number of seconds" in result.last
    assert ec2.calls == []


def test_several_plugs_settle_together(agent, ec2, keep):
    nodes = [ec2.world.nodes["node1"], ec2.world.nodes["node2"]]
    settle = 7
    result = agent.command("off", ",".join(nodes), **{**keep, "settle_time": settle})
    assert result.code == 0, result.err
    changes = accepted(ec2)
    assert len(changes) == 4
    assert changes[-1] - changes[0] < settle, "the second was not isolated after the wait for the first"
    reads = ec2.calls_of("DescribeInstances")
    assert last_read(ec2) - changes[-1] >= settle
    assert last_read(ec2) - changes[0] < 2 * settle
    assert all(is_isolated(ec2, node, keep) for node in nodes)
    assert len(reads) == 1 + 2 * 3, "the first read shows both"


def test_several_plugs_stay_on_the_untracking_group_together(agent, ec2, keep):
    nodes = [ec2.world.nodes["node1"], ec2.world.nodes["node2"]]
    settle = 7
    options = {**keep, "settle_time": settle, "untrack_secg": ec2.world.open}
    result = agent.command("off", ",".join(nodes), **options)
    assert result.code == 0, result.err
    untracking, isolating = accepted(ec2)[:4], accepted(ec2)[4:]
    assert len(isolating) == 4
    assert untracking[-1] - untracking[0] < settle, "the second was not opened after the wait for the first"
    assert isolating[0] - untracking[1] >= settle
    assert isolating[2] - untracking[3] >= settle
    assert isolating[-1] - untracking[0] < 2 * settle
    assert all(is_isolated(ec2, node, keep) for node in nodes)


@pytest.mark.parametrize("action", ["CreateTags", "ModifyNetworkInterfaceAttribute"])
def test_a_failed_plug_leaves_no_other_open(agent, ec2, keep, action):
    """The first is on the untracking group when the second is refused; it is still isolated and reported."""
    first, second = ec2.world.nodes["node1"], ec2.world.nodes["node2"]
    interfaces = ec2.world.interfaces["node2"]
    concerned = {second, *interfaces}
    ec2.rules.add(
        action, Error("UnauthorizedOperation"), when=lambda c: concerned & set(c.params.values()), times=None
    )
    options = {**keep, "settle_time": 2, "untrack_secg": ec2.world.open}
    result = agent.command("off", f"{first},{second}", **options)
    assert result.code == 1
    assert is_isolated(ec2, first, keep)
    assert second in result.last or interfaces[0] in result.last
