"""on: restores the original groups, deletes the backup last, and gives precedence to off."""

import json

import pytest
from assertions import contents, groups, is_isolated, our_tags
from ec2.faults import Delay, Garbage, Hook, LoseReply, Reset, ServerError, Throttle

PASSING = [Throttle, ServerError, Reset, LoseReply, Garbage]


@pytest.fixture
def fenced(agent, ec2, node, keep):
    """node1 is fenced, and the snapshot from before."""
    before = ec2.snapshot()
    assert agent.command("off", node, **keep).code == 0
    return before


def record(node, time, interfaces, number=1):
    """Tags as another version of the agent writes them."""
    tags = {"lastfence": str(time)}
    for n, (interface, some) in enumerate(interfaces.items(), number):
        value = {"n": {"i": interface, "s": [g[3:] for g in some], "c": {"i": 0, "t": 1}}, "t": str(time)}
        tags[f"Original_SG_Backup_{node}_{time}_{n}_0"] = json.dumps(value)
    return tags


def test_a_damaged_backup_is_kept_until_its_interface_is_open(agent, ec2, keep):
    """Also by a repeated off, which isolates without it. Somebody has deleted one of two tags of an interface."""
    many = [ec2.edit.add_group(f"group{n}") for n in range(9)]
    node = ec2.edit.add_instance("many", [{"groups": [ec2.world.groups["app"]]}, {"groups": many, "device_index": 1}])
    before = groups(ec2, node)
    first, second = before
    assert agent.command("off", node, **keep).code == 0
    ec2.edit.put_tags(node, {next(key for key in our_tags(ec2, node) if key.endswith("_2_1")): None})
    [part] = [key for key in our_tags(ec2, node) if key.endswith("_2_0")]
    result = agent.command("off", node, **keep)
    assert result.code == 0, result.err
    assert f"{second} is isolated already, and the tags {part} cannot be read" in result.err
    result = agent.command("on", node, **keep)
    assert result.code == 1
    assert f"backup error: {node}: {second} is still isolated, and the tags {part} cannot be read" in result.last
    assert groups(ec2, node) == {first: before[first], second: [ec2.world.isolation]}
    assert part in our_tags(ec2, node)
    ec2.edit.set_groups(second, many)
    result = agent.command("on", node, **keep)
    assert result.code == 0, result.err
    assert groups(ec2, node) == before
    assert our_tags(ec2, node) == {}


def test_without_secg_a_backup_that_counts_only_for_isolation_is_kept(agent, ec2, keep):
    node = ec2.world.nodes["node1"]
    before = groups(ec2, node)
    assert agent.command("off", node, **keep).code == 0
    ec2.edit.put_tags(node, {"lastfence": None})
    result = agent.command("on", node)
    assert result.code == 1
    assert "set secg and invert_sg_removal as for off" in result.last
    assert agent.command("on", node, **keep).code == 0
    assert groups(ec2, node) == before


def test_a_throttled_restore_is_repeated_behind_a_read(agent, ec2, keep):
    """An off may have come in between."""
    node = ec2.world.nodes["node1"]
    assert agent.command("off", node, **keep).code == 0
    ec2.calls.clear()
    ec2.rules.add("ModifyNetworkInterfaceAttribute", Throttle())
    assert agent.command("on", node, **keep).code == 0
    read, change = "DescribeInstances", "ModifyNetworkInterfaceAttribute"
    made = [c.action for c in ec2.calls if c.action in (read, change)]
    assert made == [read, change, change, read, change, read, read], "the last one looks back"


@pytest.mark.parametrize("fault", PASSING, ids=["throttle", "5xx", "reset", "lost", "garbage"])
def test_transient_errors_do_not_fail_it(agent, ec2, node, keep, fenced, fault):
    """Twice at each kind of call."""
    for call in ("DescribeInstances", "CreateTags", "ModifyNetworkInterfaceAttribute", "DeleteTags"):
        ec2.rules.add(call, fault(), times=2)
    result = agent.command("on", node, **keep)
    assert result.code == 0, result.err
    assert ec2.snapshot() == fenced


def test_an_instance_that_was_never_fenced_is_left_alone(agent, ec2, node, mode):
    result = agent.command("on", node, **mode)
    assert result.code == 0
    assert ec2.writes() == []


def test_isolated_without_a_backup_is_a_backup_error(agent, ec2, node, keep):
    for interface in ec2.world.interfaces["node1"]:
        ec2.edit.set_groups(interface, [ec2.world.isolation])
    before = ec2.snapshot()
    result = agent.command("on", node, **keep)
    assert result.code == 1
    assert result.last.startswith("ERROR: backup error")
    assert "interfaceN-sg" in result.last
    assert ec2.snapshot() == before
    assert ec2.writes() == []


def test_a_backup_that_only_a_later_read_shows_is_found(agent, ec2, node, keep, fenced):
    ec2.stale(tags_changes=1000, reads=2)
    result = agent.command("on", node, **keep)
    assert result.code == 0, result.err
    assert ec2.snapshot() == fenced


def test_damaged_backups_are_ignored(agent, ec2, node, keep, fenced):
    ec2.edit.put_tags(node, {k: "{" for k in our_tags(ec2, node) if k != "lastfence"})
    before = ec2.snapshot()
    result = agent.command("on", node, **keep)
    assert result.code == 1
    assert "backup error" in result.last
    assert ec2.snapshot() == before


def test_an_incomplete_backup_falls_back_to_the_complete_one(agent, ec2, node, keep, fenced):
    time = int(our_tags(ec2, node)["lastfence"]) + 5
    half = {"n": {"i": ec2.world.interfaces["node1"][0], "s": ["00000000"], "c": {"i": 0, "t": 2}}, "t": time}
    ec2.edit.put_tags(node, {"lastfence": str(time), f"Original_SG_Backup_{node}_{time}_1_0": json.dumps(half)})
    assert agent.command("on", node, **keep).code == 0
    assert ec2.snapshot() == fenced


def test_an_interface_without_a_backup_is_a_warning(agent, ec2, node, keep, fenced):
    extra = ec2.edit.attach(node, [ec2.world.isolation], 5)
    result = agent.command("on", node, **keep)
    assert result.code == 0
    assert f"{extra} has no backup and keeps {ec2.world.isolation}" in result.last
    assert groups(ec2, node)[extra] == [ec2.world.isolation]
    assert our_tags(ec2, node) == {}


def test_a_detached_interface_of_the_backup_is_a_warning(agent, ec2, node, keep, fenced):
    second = ec2.world.interfaces["node1"][1]
    ec2.edit.detach(second)
    result = agent.command("on", node, **keep)
    assert result.code == 0
    assert f"{second} of the backup is no longer attached" in result.last
    assert all(g in result.last for g in fenced[node]["interfaces"][second])
    assert our_tags(ec2, node) == {}


def test_a_deleted_group_of_the_backup_fails_and_keeps_the_tags(agent, ec2, node, keep, fenced):
    first, second = ec2.world.interfaces["node1"]
    db = ec2.world.groups["db"]
    tags = contents(our_tags(ec2, node))
    ec2.edit.delete_group(db)
    result = agent.command("on", node, **keep)
    assert result.code == 1
    assert result.last.startswith("ERROR: restore error")
    assert db in result.last
    assert groups(ec2, node)[first] == fenced[node]["interfaces"][first]
    assert groups(ec2, node)[second] == [ec2.world.isolation]
    assert contents(our_tags(ec2, node)) == tags
    assert result.last.endswith("; the backup is kept; set interfaceN-sg for every interface, and repeat on")
    chosen = {f"interface{n}_sg": ec2.world.groups["app"] for n in range(2)}
    assert agent.command("on", node, **keep, **chosen).code == 0
    assert our_tags(ec2, node) == {}


def test_one_refused_interface_keeps_all_tags(agent, ec2, node, keep, fenced):
    second = ec2.world.interfaces["node1"][1]
    tags = contents(our_tags(ec2, node))
    ec2.key.deny("ec2:ModifyNetworkInterfaceAttribute", second)
    result = agent.command("on", node, **keep)
    assert result.code == 1
    assert "permission error" in result.last
    assert contents(our_tags(ec2, node)) == tags
    ec2.key.permit_all()
    assert agent.command("on", node, **keep).code == 0
    assert ec2.snapshot() == fenced


def test_a_failed_clean_up_is_a_warning(agent, ec2, node, mode):
    before = ec2.snapshot()
    ec2.key.deny("ec2:DeleteTags")
    for _ in range(2):
        assert agent.command("off", node, **mode).code == 0
        result = agent.command("on", node, **mode)
        assert result.code == 0
        assert "backup tags were not deleted" in result.last
        assert groups(ec2, node) == before[node]["interfaces"]
        assert agent.command("status", node, **mode).code == 0
    ec2.key.permit_all()
    assert agent.command("on", node, **mode).code == 0
    assert ec2.snapshot() == before


def test_tags_that_an_image_brought_along_are_removed(agent, ec2, node, keep, fenced):
    copied = {f"Original_SG_Backup_{ec2.world.nodes['node2']}_5_1_0": "x", "Original_SG_Backup_mine": "not ours"}
    ec2.edit.put_tags(node, copied)
    assert agent.command("on", node, **keep).code == 0
    assert "Original_SG_Backup_mine" in ec2.snapshot()[node]["tags"]
    assert [k for k in ec2.snapshot()[node]["tags"] if k.startswith("Original_SG_Backup_i-")] == []


def test_left_over_tags_of_another_instance_are_removed(agent, ec2, node, keep):
    before = ec2.snapshot()
    ec2.edit.put_tags(node, {"lastfence": "5", f"Original_SG_Backup_{node}_5_1_0": "half"})
    assert agent.command("on", node, **keep).code == 0
    assert ec2.snapshot() == before


def test_on_of_this_machine_is_allowed(agent, ec2, node, keep, fenced):
    agent.is_on(node)
    assert agent.command("on", node, **keep).code == 0
    assert ec2.snapshot() == fenced


def test_ignoring_the_restore_succeeds_at_once(agent, ec2, node, keep, fenced):
    calls = len(ec2.calls)
    for how in (agent.command, agent.pacemaker):
        result = how("on", node, unfence_ignore_restore=True, **keep)
        assert (result.code, result.out) == (0, "Success: Powered ON\n")
    assert len(ec2.calls) == calls


def test_backups_of_the_established_agent_are_restored(agent, ec2, node, keep):
    before = ec2.snapshot()
    interfaces = before[node]["interfaces"]
    ec2.edit.put_tags(node, record(node, 1700000000, interfaces))
    for interface in interfaces:
        ec2.edit.set_groups(interface, [ec2.world.isolation])
    assert agent.command("status", node, **keep).code == 2
    assert agent.command("on", node, **keep).code == 0
    assert ec2.snapshot() == before


def test_static_groups_are_set_instead_of_the_backup(agent, ec2, node, keep, fenced):
    app, ssh = ec2.world.groups["app"], ec2.world.groups["ssh"]
    result = agent.pacemaker("on", node, interface0_sg=f"{app}, {ssh}", **{"interface1-sg": ssh}, **keep)
    assert result.code == 0, result.err
    assert [groups(ec2, node)[i] for i in ec2.world.interfaces["node1"]] == [sorted((app, ssh)), [ssh]]
    assert our_tags(ec2, node) == {}


def test_static_groups_need_every_interface(agent, ec2, node, keep, fenced):
    before = ec2.snapshot()
    result = agent.command("on", node, interface1_sg=ec2.world.groups["app"], **keep)
    assert result.code == 1
    first, second = ec2.world.interfaces["node1"]
    assert "interface0-sg missing" in result.last
    assert f"0={first}, 1={second}" in result.last
    assert ec2.snapshot() == before


def test_static_groups_that_read_as_isolated_are_refused(agent, ec2, node, keep, fenced):
    before = ec2.snapshot()
    result = agent.command(
        "on", node, interface0_sg=ec2.world.groups["app"], interface1_sg=ec2.world.isolation, **keep
    )
    assert result.code == 1
    assert "the groups of interface1-sg count as isolated" in result.last
    assert ec2.snapshot() == before


def test_an_interrupted_off_is_restored_though_status_is_on(agent, ec2, node, keep):
    before = ec2.snapshot()
    ec2.key.deny("ec2:ModifyNetworkInterfaceAttribute")
    assert agent.command("off", node, **keep).code == 1
    assert our_tags(ec2, node)
    ec2.key.permit_all()
    assert agent.command("on", node, **keep).code == 0
    assert ec2.snapshot() == before


class OffMeanwhile(Hook):
    """Another fencer's off, from beginning to end, at a call of the on under test.

    The test looks at `codes`: an assertion in here would only fail the call that it happens at.
    """

    def __init__(self, agent, ec2, node, options, late=False):
        super().__init__(self._run, late)
        self.ec2, self.node = ec2, node
        self.off = lambda: agent.command("off", node, **options)
        self.codes = []
        self.tags = {}

    def _run(self, _call):
        self.ec2.rules.clear()
        self.codes.append(self.off().code)
        self.tags = our_tags(self.ec2, self.node)


@pytest.mark.parametrize("nth", [1, 2])
@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
def test_a_concurrent_off_takes_precedence(agent, ec2, node, keep, fenced, nth, late):
    """Whenever a second fencer runs off between our reads, the node ends isolated, its originals kept."""
    between = OffMeanwhile(agent, ec2, node, keep, late)
    ec2.rules.add("ModifyNetworkInterfaceAttribute", between, nth=nth)
    result = agent.command("on", node, **keep)
    assert between.codes == [0]
    assert result.code == 1
    assert "was fenced concurrently; off takes precedence" in result.last
    assert is_isolated(ec2, node, keep)
    assert agent.command("status", node, **keep).code == 2
    assert agent.command("on", node, **keep).code == 0
    assert ec2.snapshot() == fenced


def test_an_off_before_the_clean_up_keeps_its_backup(agent, ec2, node, keep, fenced):
    """on has verified the restore, and succeeds. It deletes the tags that it read, and none of the off."""
    first = contents(our_tags(ec2, node))
    between = OffMeanwhile(agent, ec2, node, keep)
    ec2.rules.add("DeleteTags", between)
    result = agent.command("on", node, **keep)
    assert between.codes == [0]
    assert result.code == 0, result.err
    assert is_isolated(ec2, node, keep)
    left = {k: v for k, v in contents(between.tags).items() if first.get(k) != v}
    assert contents(our_tags(ec2, node)) == left
    assert "lastfence" in left
    assert len(left) == len(first)
    assert agent.command("status", node, **keep).code == 2
    assert agent.command("on", node, **keep).code == 0
    assert ec2.snapshot() == fenced


def test_two_at_once_both_succeed(agent, ec2, node, keep, fenced):
    ec2.rules.add("ModifyNetworkInterfaceAttribute", Delay(0.3), times=None)
    arguments = agent.arguments("on", node, **keep)
    both = [agent.start(*arguments) for _ in range(2)]
    for process in both:
        _, err = process.communicate(timeout=30)
        assert process.returncode == 0, err
    assert ec2.snapshot() == fenced


def test_groups_that_never_read_right_are_no_success_and_keep_the_tags(agent, ec2, node, keep, fenced):
    """Each change is accepted, and every read after it still shows the isolation group."""
    tags = contents(our_tags(ec2, node))
    interfaces = ec2.world.interfaces["node1"]
    started = ec2.rules.add(
        "ModifyNetworkInterfaceAttribute", Hook(lambda call: ec2.stale(groups_changes=len(interfaces)))
    )
    result = agent.until_it_waits("on", node, deadline=4, **keep)
    assert started.fired == 1
    assert result.code == 1
    assert "deadline error" in result.last
    assert all(f"{interface}: reads {ec2.world.isolation}" in result.last for interface in interfaces)
    assert groups(ec2, node) == fenced[node]["interfaces"], "they were accepted"
    assert contents(our_tags(ec2, node)) == tags
    assert ec2.calls_of("DeleteTags") == []
    ec2.fresh()
    assert agent.command("on", node, **keep).code == 0
    assert ec2.snapshot() == fenced
