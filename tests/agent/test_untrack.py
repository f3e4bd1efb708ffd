"""untrack_secg: through the group that allows everything, so that EC2 stops tracking, and then isolated."""

import signal

import pytest
from ec2.faults import Delay, Error, Hook, LoseReply, Throttle
from world_of import changes, groups, is_cut, our_tags


@pytest.fixture
def node(ec2):
    return ec2.world.nodes["node1"]


@pytest.fixture
def options(ec2, mode):
    return {**mode, "untrack_secg": ec2.world.open}


def sets(ec2, start=0):
    """(interface, groups) of each change of groups, in order of arrival."""
    calls = [c for c in ec2.calls[start:] if c.action == "ModifyNetworkInterfaceAttribute" and c.took_effect]
    return [(c.params["NetworkInterfaceId"], c.listing("SecurityGroupId")) for c in calls]


def test_untrack_all_then_isolate_all_then_read(agent, ec2, node, options):
    before = ec2.snapshot()
    result = agent.command("off", node, **options)
    assert result.code == 0, result.err
    assert result.err == "", "no warning about established connections"
    done = sets(ec2)
    assert {i for i, _ in done[:2]} == {i for i, _ in done[2:]} == set(ec2.world.interfaces["node1"])
    assert [g for _, g in done[:2]] == [[ec2.world.open]] * 2
    assert ec2.world.open not in [g for _, some in done[2:] for g in some]
    assert [c.action for c in ec2.calls][-1] == "DescribeInstances"
    assert is_cut(ec2, node, options)
    assert agent.command("status", node, **options).code == 2
    assert agent.command("on", node, **options).code == 0
    assert ec2.snapshot() == before


def test_it_takes_one_more_call_for_each_interface(agent, ec2, node, options):
    agent.command("off", node, **options)
    assert len(ec2.calls) == 4 + 2 * 2


def test_what_is_isolated_is_never_opened_again(agent, ec2, node, options):
    assert agent.command("off", node, **options).code == 0
    start = len(ec2.calls)
    result = agent.command("off", node, verbose=True, **options)
    assert result.code == 0
    assert any("not opened again" in line for line in result.lines)
    assert [g for _, some in sets(ec2, start) for g in some if g == ec2.world.open] == []


@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
def test_killed_between_the_two_steps_it_reads_on_and_is_mended(agent, ec2, node, options, late):
    before = ec2.snapshot()
    running = []

    def kill(_call):
        running[0].send_signal(signal.SIGKILL)
        running[0].wait()

    call = "ModifyNetworkInterfaceAttribute"
    ec2.rules.add(call, Delay(0.2), nth=2)
    ec2.rules.add(call, Hook(kill, late=late), nth=2)
    running.append(agent.start(*agent.arguments("off", node, **options)))
    running[0].communicate(timeout=30)
    assert running[0].returncode == -signal.SIGKILL
    ec2.rules.clear()
    assert agent.command("status", node, **options).code == (2 if is_cut(ec2, node, options) else 0)
    assert any(g == [ec2.world.open] for g in groups(ec2, node).values())
    for action in ("off", "on"):
        assert agent.command(action, node, **options).code == 0
    assert ec2.snapshot() == before


def test_no_record_no_opening(agent, ec2, node, options):
    ec2.key.deny("ec2:CreateTags")
    result = agent.command("off", node, ignore_tag_write_failure=True, **options)
    assert result.code == 0
    assert any("not untracked without a backup" in line for line in result.lines)
    assert [g for _, some in sets(ec2) for g in some if g == ec2.world.open] == []


@pytest.mark.parametrize("fault", [Throttle, LoseReply])
def test_an_interface_is_done_only_when_its_untracking_was_accepted(agent, ec2, node, options, fault):
    first = ec2.world.interfaces["node1"][0]

    def opening(call):
        return call.params.get("NetworkInterfaceId") == first and call.listing("SecurityGroupId") == [ec2.world.open]

    ec2.rules.add("ModifyNetworkInterfaceAttribute", fault(), when=opening)
    assert agent.command("off", node, **options).code == 0
    assert [c.outcome for c in ec2.calls if opening(c)][-1] == "whole"
    assert len([c for c in ec2.calls if opening(c)]) == 2
    assert is_cut(ec2, node, options)


def test_an_untracking_group_that_is_gone_fails_it_and_all_is_put_back(agent, ec2, node, mode):
    before = groups(ec2, node)
    result = agent.command("off", node, untrack_secg="sg-00000000000000bad", **mode)
    assert result.code == 1
    assert "InvalidGroup.NotFound" in result.last
    assert groups(ec2, node) == before


def test_refused_in_the_second_step_nothing_stays_open(agent, ec2, node, options):
    before = groups(ec2, node)
    second = ec2.world.interfaces["node1"][1]

    def isolating(call):
        return call.params["NetworkInterfaceId"] == second and call.listing("SecurityGroupId") != [ec2.world.open]

    ec2.rules.add("ModifyNetworkInterfaceAttribute", Error("OperationNotPermitted"), when=isolating)
    assert agent.command("off", node, **options).code == 1
    assert groups(ec2, node) == before


def test_an_interface_that_appears_passes_through_it_too(agent, ec2, node, options):
    some = [ec2.world.groups["app"], ec2.world.groups["db"]]
    ec2.rules.add("ModifyNetworkInterfaceAttribute", Hook(lambda call: ec2.edit.attach(node, some, 5), late=True))
    assert agent.command("off", node, **options).code == 0
    new = (set(groups(ec2, node)) - set(ec2.world.interfaces["node1"])).pop()
    assert next(g for i, g in sets(ec2) if i == new) == [ec2.world.open]
    assert is_cut(ec2, node, options)


def test_monitor_misses_the_untracking_group(agent, ec2, mode):
    result = agent.command("monitor", untrack_secg="sg-00000000000000bad", **mode)
    assert result.code == 1
    assert "no such security group: sg-00000000000000bad" in result.last


def test_a_node_that_has_the_group_among_its_own_gets_it_back(agent, ec2, options):
    world = ec2.world
    node = ec2.edit.add_instance("opened", [{"groups": [world.groups["app"], world.groups["db"], world.open]}])
    before = ec2.snapshot()
    assert agent.command("off", node, **options).code == 0
    assert is_cut(ec2, node, options)
    assert world.open not in [g for some in groups(ec2, node).values() for g in some]
    assert agent.command("on", node, **options).code == 0
    assert ec2.snapshot() == before
    assert our_tags(ec2, node) == {}
    assert changes(ec2)
