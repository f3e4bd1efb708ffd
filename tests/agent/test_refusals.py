"""What off refuses: exit code 1, one line that states why and what to do, and no change."""

import time

import pytest


@pytest.fixture
def refused(agent, ec2):
    """Run off, expect a refusal that changed nothing; returns its last line."""

    def run(plug, **options):
        before = ec2.snapshot()
        result = agent.command("off", plug, **options)
        assert result.code == 1
        assert ec2.snapshot() == before
        assert ec2.writes() == []
        assert sum("ERROR" in line for line in result.lines) == 1
        return result.last

    return run


def test_an_unknown_instance(refused, keep):
    assert "instance error: no instance i-0000000000000dead" in refused("i-0000000000000dead", **keep)


def test_this_machine_itself(refused, agent, ec2, keep):
    agent.is_on(ec2.world.nodes["node1"])
    assert "Self-fencing detected" in refused(ec2.world.nodes["node1"], **keep)


def test_a_fenced_machine_fences_no_other(refused, agent, ec2, mode):
    first, second = ec2.world.nodes["node1"], ec2.world.nodes["node2"]
    assert agent.command("off", first, **mode).code == 0
    agent.is_on(first)
    done = len(ec2.writes())
    result = agent.command("off", second, **mode)
    assert result.code == 1
    assert f"self-fencing error: this machine, {first}, is fenced and must not fence" in result.last
    assert len(ec2.writes()) == done


def test_both_checks_can_be_skipped(agent, ec2, keep):
    node = ec2.world.nodes["node1"]
    agent.is_on(node)
    assert agent.command("off", node, skip_race_check=True, **keep).code == 0


def test_an_unknown_self_is_a_warning(agent, ec2, keep):
    agent.is_on(None)
    result = agent.command("off", ec2.world.nodes["node1"], **keep)
    assert result.code == 0
    assert any("cannot determine which instance this machine is" in line for line in result.lines)


def test_a_fencer_of_another_account_fences(agent, ec2, keep):
    agent.is_on("i-00000000000000abc")
    assert agent.command("off", ec2.world.nodes["node1"], **keep).code == 0


@pytest.mark.parametrize("state", ["stopped", "stopping", "pending", "shutting-down"])
def test_an_instance_that_is_not_running(refused, agent, ec2, keep, state):
    node = ec2.world.nodes["node1"]
    ec2.edit.set_state(node, state)
    line = refused(node, **keep)
    assert f"is not running but {state}" in line
    assert "ignore_instance_state" in line
    assert agent.command("off", node, ignore_instance_state=True, **keep).code == 0


def test_removal_that_would_leave_an_interface_without_a_group(refused, ec2):
    world = ec2.world
    line = refused(world.nodes["node1"], secg=f"{world.groups['app']},{world.groups['ssh']}")
    assert f"{world.interfaces['node1'][0]} of {world.nodes['node1']} would have no group left" in line


@pytest.mark.parametrize("group", ["isolation", "open"])
def test_nothing_to_remove_and_no_backup(refused, ec2, group):
    line = refused(ec2.world.nodes["node1"], secg=ec2.world.groups[group])
    assert "nothing to remove" in line


def test_several_nodes_without_a_backup_are_read_again_together(refused, agent, ec2):
    """Each is read for a fourth of the time before it is refused."""
    plugs = ",".join((ec2.world.nodes["node1"], ec2.world.nodes["node2"], ec2.edit.add_instance("another")))
    started = time.monotonic()
    line = refused(plugs, secg=ec2.world.groups["isolation"], deadline=20)
    assert time.monotonic() - started < 10
    assert line.count("nothing to remove") == 3


def test_a_missing_invert_with_left_over_tags_is_not_fenced(agent, ec2, keep):
    """The clean-up after on failed, and invert_sg_removal was then removed: the node is not isolated."""
    node = ec2.world.nodes["node1"]
    assert agent.command("off", node, **keep).code == 0
    ec2.key.deny("ec2:DeleteTags")
    assert agent.command("on", node, **keep).code == 0
    before = ec2.snapshot()
    assert agent.command("status", node, secg=keep["secg"]).code == 0
    result = agent.command("off", node, secg=keep["secg"])
    assert result.code == 1
    assert "nothing to remove" in result.last
    assert ec2.snapshot() == before


def test_no_room_for_the_tags(refused, agent, ec2, keep):
    node = ec2.world.nodes["node1"]
    ec2.edit.put_tags(node, {f"user{n}": "" for n in range(48)})
    line = refused(node, **keep)
    assert "tag error" in line
    assert "EC2 allows only 1 more" in line
    assert agent.command("off", node, ignore_tag_write_failure=True, **keep).code == 0


@pytest.mark.parametrize("fenced", [False, True], ids=["live", "fenced"])
@pytest.mark.parametrize("action", ["status", "off", "reboot", "on", "monitor", "list", "list-status"])
def test_a_failed_read_is_an_error_for_status_too(agent, ec2, keep, action, fenced):
    """Exit 1, not a word of a state on stdout, and nothing is changed: what is not known is not guessed."""
    node = ec2.world.nodes["node1"]
    if fenced:
        assert agent.command("off", node, **keep).code == 0
    before, done = ec2.snapshot(), len(ec2.writes())
    ec2.key.deny("ec2:DescribeInstances")
    result = agent.command(action, node, **keep)
    assert (result.code, result.out) == (1, "")
    assert "permission error" in result.last
    assert "allow ec2:DescribeInstances" in result.last
    assert ec2.snapshot() == before
    assert len(ec2.writes()) == done
