"""Concurrent fencers, kills and stale reads: no fencing is undone, and no original groups are lost.

``stale`` makes EC2 show the past: tags and groups are copied between its servers at their own pace.
"""

import json
import re
import threading
import time

import pytest
from assertions import groups, is_isolated, our_tags
from ec2 import AccessKey
from ec2.faults import Delay, Error, Fault, Hook, Reset, Throttle
from ec2.wire import success_reply

CHANGE = "ModifyNetworkInterfaceAttribute"
LIMIT = 30  # seconds that nothing here takes
TOO_LATE = "too late for auto_unfence"  # on a busy machine: a monitor's warning; the next one does it


@pytest.fixture
def more(ec2):
    """Groups that an administrator gives to an interface: one more than it had."""
    return sorted(ec2.world.groups[g] for g in ("app", "ssh", "db"))


@pytest.fixture
def single(ec2):
    """An instance with one interface."""
    return ec2.edit.add_instance("single")


def on_interface(interface):
    return lambda call: call.params.get("NetworkInterfaceId") == interface


def until_backup(ec2, number):
    """For ``stale``: until this many backups were written; the claim of an ``on`` is none."""
    return lambda call: sum("lastfence" in c.params.values() for c in ec2.calls_of("CreateTags")) < number


def succeeds(result):
    assert result.code == 0, result.err


def restores(agent, ec2, node, options, wanted):
    """An on without faults restores exactly this, and leaves no backup tag."""
    succeeds(agent.command("on", node, **options))
    assert groups(ec2, node) == wanted
    assert our_tags(ec2, node) == {}


def killed_at(agent, ec2, arguments, call, nth=1, when=None):
    """Run the agent; it is killed when this call has taken effect and before it is answered.

    A monitor that is too late for auto_unfence, and makes no such call, is repeated.
    """
    running, known, err = [], threading.Event(), TOO_LATE

    def kill(_call):
        assert known.wait(LIMIT)
        running[-1].kill()
        running[-1].wait(LIMIT)

    ec2.rules.add(call, Hook(kill, late=True), nth=nth, when=when)
    while TOO_LATE in err:
        known.clear()
        running.append(agent.start(*arguments))
        known.set()
        _, err = running[-1].communicate(timeout=LIMIT)
    assert running[-1].returncode == -9, err
    ec2.await_gone()  # what it had sent meets the faults, too
    ec2.rules.clear()


def half_fenced(agent, ec2, options):
    """An off of node1 that was killed after it isolated the first interface and before the second."""
    half_changed(agent, ec2, agent.arguments("off", ec2.world.nodes["node1"], **options))


def half_changed(agent, ec2, arguments):
    """Run the agent; it is killed after it changed the first interface of node1 and before the second."""
    first, second = ec2.world.interfaces["node1"]
    arrived = threading.Event()
    ec2.rules.add(CHANGE, Hook(lambda call: arrived.set()), when=on_interface(second), times=None)
    ec2.rules.add(CHANGE, Reset(), when=on_interface(second), times=None)
    ec2.rules.add(CHANGE, Hook(lambda call: arrived.wait(LIMIT), late=True), when=on_interface(first))
    killed_at(agent, ec2, arguments, CHANGE, when=on_interface(first))


def once(ec2, call, what, late=False, nth=1, when=None):
    """Let this happen at one call; returns what it returned, when it has."""
    done = []
    ec2.rules.add(call, Hook(lambda _call: done.append(what()), late=late), nth=nth, when=when)
    return done


def backup_of_another_fencer(node, when, interfaces):
    """The tags of the backup of another fencer."""
    tags = {"lastfence": str(when)}
    for n, (interface, some) in enumerate(interfaces.items(), 1):
        value = {"n": {"i": interface, "s": [g[3:] for g in some], "c": {"i": 0, "t": 1}}, "t": when}
        tags[f"Original_SG_Backup_{node}_{when}_{n}_0"] = json.dumps(value)
    return tags


# --- fencers at once -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [2, 4])
def test_fencers_at_once_all_succeed_with_few_writes(agent, ec2, node, mode, count):
    before = groups(ec2, node)
    ec2.rules.add(None, Delay(0.05), times=None)
    running = [agent.start(*agent.arguments("off", node, deadline=20, **mode)) for _ in range(count)]
    for process in running:
        _, err = process.communicate(timeout=LIMIT)
        assert process.returncode == 0, err
    assert len(ec2.calls_of("CreateTags")) <= 4 * count
    ec2.rules.clear()
    assert is_isolated(ec2, node, mode)
    restores(agent, ec2, node, mode, before)


def test_a_fencer_that_always_writes_last_does_not_block(agent, ec2, node, mode):
    before = groups(ec2, node)

    def write_backup_again(_call):
        later = 1 + int(our_tags(ec2, node)["lastfence"])
        ec2.edit.put_tags(node, backup_of_another_fencer(node, later, before))

    ec2.rules.add("CreateTags", Hook(write_backup_again, late=True), times=None)
    succeeds(agent.command("off", node, deadline=10, **mode))
    assert len(ec2.calls_of("CreateTags")) <= 2
    ec2.rules.clear()
    restores(agent, ec2, node, mode, before)


def test_a_refused_fencer_rolls_nothing_back_unseen_by_the_other(agent, ec2, node, second, keep):
    """A succeeds on reads without the backup of B, so it does not rewrite its own; B must see that of A."""
    limited = ec2.keys.add(AccessKey("AKIALIMITED000000001", "limited"))
    limited.deny("ec2:ModifyNetworkInterfaceAttribute", second)
    running, refused, go_on = [], threading.Event(), threading.Event()

    def start_b(_call):
        options = {**keep, "access_key": limited.access_key, "secret_key": limited.secret_key}
        running.append(agent.start(*agent.arguments("off", node, **options)))
        assert refused.wait(LIMIT)

    def hold_b(_call):
        refused.set()
        assert go_on.wait(LIMIT)

    ec2.rules.add("DescribeInstances", Hook(start_b, late=True), nth=2)
    is_b = lambda call: call.key_id == limited.access_key and on_interface(second)(call)  # noqa: E731
    ec2.rules.add(CHANGE, Hook(hold_b), when=is_b)
    ec2.stale(tags_changes=1, when=lambda call: refused.is_set() and call.key_id == ec2.key.access_key)
    result = agent.command("off", node, **keep)
    go_on.set()
    _, err = running[0].communicate(timeout=LIMIT)
    succeeds(result)
    assert running[0].returncode == 1
    assert "partial error" in err
    assert is_isolated(ec2, node, keep)


# --- original groups -------------------------------------------------------------------------------------------


def test_a_kill_after_a_backup_of_isolated_groups_loses_nothing(agent, ec2, node, mode):
    """The second off does not see the backup of the first, backs up isolated groups, and is killed at once."""
    before = groups(ec2, node)
    half_fenced(agent, ec2, mode)
    ec2.stale(tags_changes=1000, when=until_backup(ec2, 2))
    killed_at(agent, ec2, agent.arguments("off", node, **mode), "CreateTags")
    ec2.fresh()
    restores(agent, ec2, node, mode, before)


def test_a_kill_after_a_backup_of_an_isolated_node_loses_nothing(agent, ec2, node, keep):
    before = groups(ec2, node)
    succeeds(agent.command("off", node, **keep))
    ec2.stale(tags_changes=1000, when=until_backup(ec2, 2))
    killed_at(agent, ec2, agent.arguments("off", node, **keep), "CreateTags")
    ec2.fresh()
    assert agent.command("status", node, **keep).code == 2
    restores(agent, ec2, node, keep, before)


@pytest.mark.parametrize("changes", [1, 2])
def test_a_kill_after_a_backup_of_restored_groups_loses_nothing(agent, ec2, node, mode, changes):
    """The first read shows an open interface as isolated, and its backup has been deleted."""
    before = groups(ec2, node)
    for action in ("off", "on"):
        succeeds(agent.command(action, node, **mode))
    ec2.stale(groups_changes=changes, reads=1)
    killed_at(agent, ec2, agent.arguments("off", node, **mode), "CreateTags")
    ec2.fresh()
    restores(agent, ec2, node, mode, before)


def test_a_group_added_before_the_backup_is_restored(agent, ec2, node, first, mode, more):
    wanted = {**groups(ec2, node), first: more}
    once(ec2, "CreateTags", lambda: ec2.edit.set_groups(first, more))
    succeeds(agent.command("off", node, **mode))
    assert is_isolated(ec2, node, mode)
    restores(agent, ec2, node, mode, wanted)


def test_stale_reads_of_an_isolated_node_are_not_backed_up(agent, ec2, node, keep):
    before = groups(ec2, node)
    for action in ("off", "on"):
        succeeds(agent.command(action, node, **keep))
    ec2.stale(groups_changes=2, when=until_backup(ec2, 2))
    succeeds(agent.command("off", node, **keep))
    ec2.fresh()
    assert is_isolated(ec2, node, keep)
    restores(agent, ec2, node, keep, before)


@pytest.mark.parametrize("future", [1000, 0])
def test_fencers_with_the_same_timestamp_keep_both_backups(agent, ec2, node, mode, future):
    """Both see the same older lastfence; the second has not seen the backup of the first."""
    before = groups(ec2, node)
    ec2.edit.put_tags(node, {"lastfence": str(int(time.time()) + future)})
    half_fenced(agent, ec2, mode)
    ec2.stale(tags_changes=1, when=until_backup(ec2, 2))
    succeeds(agent.command("off", node, **mode))
    ec2.fresh()
    assert is_isolated(ec2, node, mode)
    restores(agent, ec2, node, mode, before)


@pytest.mark.parametrize("when", ["same time", "later"])
def test_a_left_over_backup_does_not_replace_the_latest(agent, ec2, node, first, mode, more, when):
    """A clean-up failed, the groups changed, off, and off again whose first read shows the left-over only.

    The two come to the same time, as both see the left-over's; or the clock has gone on, and it is "later".
    """
    if when == "same time":
        ec2.edit.put_tags(node, {"lastfence": str(int(time.time()) + 1000)})
    wanted = {**groups(ec2, node), first: more}
    succeeds(agent.command("off", node, **mode))
    ec2.key.deny("ec2:DeleteTags")
    succeeds(agent.command("on", node, **mode))
    ec2.key.permit_all()
    ec2.edit.set_groups(first, more)
    succeeds(agent.command("off", node, **mode))
    while time.time() < int(our_tags(ec2, node)["lastfence"]) + 1 and when == "later":
        time.sleep(0.1)
    ec2.stale(tags_changes=1, reads=1)
    succeeds(agent.command("off", node, **mode))
    ec2.fresh()
    restores(agent, ec2, node, mode, wanted)


@pytest.mark.parametrize("killed", [False, True], ids=["ends", "killed"])
def test_the_backup_of_a_new_interface_overwrites_no_other(agent, ec2, keep, killed):
    """It gets the number of another, in a read that does not show the backup of that one."""
    app, db, ssh = (ec2.world.groups[g] for g in ("app", "db", "ssh"))
    slots = [{"groups": [app], "device_index": 0}, {"groups": [app, db], "device_index": 2}]
    node = ec2.edit.add_instance("gap", slots)
    wanted = groups(ec2, node)
    new = once(ec2, CHANGE, lambda: ec2.edit.attach(node, [ssh], 1), late=True)
    ec2.stale(tags_changes=1000, reads=1, when=lambda call: len(ec2.calls_of("DescribeInstances")) == 3)
    if killed:
        killed_at(agent, ec2, agent.arguments("off", node, **keep), "CreateTags", nth=2)
        ec2.fresh()
    succeeds(agent.command("off", node, **keep))
    ec2.fresh()
    ec2.rules.clear()
    assert is_isolated(ec2, node, keep)
    restores(agent, ec2, node, keep, {**wanted, new[0]: [ssh]})


# --- proof -----------------------------------------------------------------------------------------------------


def test_a_change_of_the_second_round_counts_only_if_it_was_accepted(agent, ec2, node, first, keep):
    """The interface was opened again, the second change is throttled, and a stale read shows the first one."""
    opened = [ec2.world.groups["app"]]
    once(ec2, "DescribeInstances", lambda: ec2.edit.set_groups(first, opened), nth=3)
    ec2.rules.add(CHANGE, Throttle(), nth=3)
    ec2.stale(groups_changes=1, reads=1, when=lambda call: len(ec2.calls_of(CHANGE)) >= 3)
    succeeds(agent.command("off", node, **keep))
    assert is_isolated(ec2, node, keep)
    assert len(ec2.calls_of(CHANGE)) == 4


@pytest.fixture
def full_of_tags(ec2, node):
    """There is room for the backup of two interfaces, and not for a third."""
    ec2.edit.put_tags(node, {f"mine{n}": "" for n in range(46)})


def test_no_room_for_the_backup_of_a_new_interface_is_a_tag_error(agent, ec2, node, keep, full_of_tags):
    app = [ec2.world.groups["app"]]
    new = once(ec2, CHANGE, lambda: ec2.edit.attach(node, app, 5), late=True)
    result = agent.command("off", node, **keep)
    assert result.code == 1
    assert result.last.startswith("ERROR: tag error")
    assert "EC2 allows only 0 more" in result.last
    now = groups(ec2, node)
    assert now.pop(new[0]) == app, "never changed without a backup"
    assert set(map(tuple, now.values())) == {(ec2.world.isolation,)}


@pytest.mark.parametrize("why", ["full", "refused"])
def test_ignore_tag_write_failure_isolates_a_new_interface(agent, ec2, node, mode, request, why):
    groups_of_new = [ec2.world.groups["app"], ec2.world.groups["ssh"]]
    once(ec2, CHANGE, lambda: ec2.edit.attach(node, groups_of_new, 5), late=True)
    if why == "full":
        request.getfixturevalue("full_of_tags")
    else:
        ec2.rules.add("CreateTags", Error("TagPolicyViolation"), nth=2)
    result = agent.command("off", node, ignore_tag_write_failure=True, **mode)
    succeeds(result)
    assert any("continuing without a backup" in line for line in result.lines)
    assert len(groups(ec2, node)) == 3
    assert is_isolated(ec2, node, mode)


# --- on --------------------------------------------------------------------------------------------------------


def test_on_isolates_again_through_throttling(agent, ec2, node, keep):
    before = groups(ec2, node)
    succeeds(agent.command("off", node, **keep))
    off = once(ec2, CHANGE, lambda: agent.command("off", node, **keep))
    closing = lambda call: bool(off) and call.listing("SecurityGroupId") == [ec2.world.isolation]  # noqa: E731
    throttle = ec2.rules.add(CHANGE, Throttle(), when=closing, times=2)
    result = agent.command("on", node, **keep)
    succeeds(off[0])
    assert throttle.fired == 2
    assert result.code == 1
    assert "was fenced concurrently; off takes precedence" in result.last
    assert is_isolated(ec2, node, keep)
    restores(agent, ec2, node, keep, before)


def test_off_takes_precedence_over_an_on_without_secg(agent, ec2, node, keep):
    before = groups(ec2, node)
    succeeds(agent.command("off", node, **keep))
    off = once(ec2, CHANGE, lambda: agent.command("off", node, **keep))
    result = agent.command("on", node)
    succeeds(off[0])
    assert result.code == 1
    assert "was fenced concurrently; off takes precedence" in result.last
    assert is_isolated(ec2, node, keep)
    restores(agent, ec2, node, {}, before)


def test_an_on_that_cannot_isolate_again_names_open_interfaces(agent, ec2, single, keep):
    """Without secg, and open when it began: the backup was left over."""
    succeeds(agent.command("off", single, **keep))
    ec2.key.deny("ec2:DeleteTags")
    succeeds(agent.command("on", single, **keep))
    ec2.key.permit_all()
    off = once(ec2, CHANGE, lambda: agent.command("off", single, **keep))
    result = agent.command("on", single)
    succeeds(off[0])
    assert result.code == 1
    assert "NOT isolated again; run off now" in result.last
    assert all(interface in result.last for interface in groups(ec2, single))
    assert our_tags(ec2, single), "the backup is kept"
    succeeds(agent.command("off", single, **keep))
    assert is_isolated(ec2, single, keep)


def test_an_off_with_the_same_keys_and_time_takes_precedence(agent, ec2, node, keep):
    """A twin of the off that on undoes: only the white space of its values differs."""
    succeeds(agent.command("off", node, **keep))
    twin = {k: re.sub(r', *"t"', ',                "t"', v) for k, v in our_tags(ec2, node).items()}
    once(ec2, CHANGE, lambda: ec2.edit.put_tags(node, twin))
    result = agent.command("on", node, **keep)
    assert result.code == 1
    assert "was fenced concurrently; off takes precedence" in result.last
    assert is_isolated(ec2, node, keep)


def test_an_interface_that_is_attached_again_during_on_is_restored(agent, ec2, node, second, mode):
    before = groups(ec2, node)
    succeeds(agent.command("off", node, **mode))
    ec2.edit.detach(second)
    once(ec2, CHANGE, lambda: ec2.edit.attach_again(node, second, 1))
    restores(agent, ec2, node, mode, before)


def test_one_read_without_the_backup_does_not_end_on(agent, ec2, node, mode):
    before = groups(ec2, node)
    succeeds(agent.command("off", node, **mode))
    ec2.stale(tags_changes=1000, reads=1)
    restores(agent, ec2, node, mode, before)


def test_a_detached_interface_of_an_older_backup_is_a_warning(agent, ec2, node, second, keep):
    before = groups(ec2, node)
    succeeds(agent.command("off", node, **keep))
    ec2.edit.detach(second)
    succeeds(agent.command("off", node, **keep))
    result = agent.command("on", node, **keep)
    succeeds(result)
    assert f"{second} of the backup is no longer attached" in result.last
    assert all(group in result.last for group in before[second])


# --- what is known starts at the truly first read ----------------------------------------------------------------


def test_an_off_that_runs_during_the_second_read_takes_precedence(agent, ec2, node, second):
    """Storage only: one interface never had the group. It looks isolated, and ``on`` reads once more."""
    options = {"secg": ec2.world.groups["ssh"]}
    before = groups(ec2, node)
    assert ec2.world.groups["ssh"] not in before[second]
    off = once(ec2, "DescribeInstances", lambda: agent.command("off", node, **options), late=True)
    result = agent.command("on", node, **options)
    succeeds(off[0])
    assert result.code == 1
    assert "a backup appeared after the first read" in result.last
    assert is_isolated(ec2, node, options)
    restores(agent, ec2, node, options, before)


@pytest.mark.parametrize("seconds", [0.5, 1.5])
def test_an_off_that_starts_during_the_second_read_takes_precedence(agent, ec2, node, seconds):
    options = {"secg": ec2.world.groups["ssh"]}
    before = groups(ec2, node)
    running = agent.start(*agent.arguments("on", node, **options))
    while not any(c.outcome == "whole" for c in ec2.calls_of("DescribeInstances")):
        time.sleep(0.01)
    time.sleep(seconds)
    result = agent.command("off", node, **options)
    _, err = running.communicate(timeout=LIMIT)
    succeeds(result)
    assert running.returncode == 0 or "fenced" in err
    assert is_isolated(ec2, node, options)
    restores(agent, ec2, node, options, before)


@pytest.mark.parametrize("other", ["gone", "other VPC"])
@pytest.mark.parametrize("untracks", [False, True])
def test_a_superseded_on_isolates_with_the_groups_that_fit(agent, ec2, node, keep, other, untracks):
    more = "sg-00000000000000bad" if other == "gone" else ec2.edit.add_group("isolation2", ec2.edit.add_vpc()["vpc"])
    options = {**keep, "secg": f"{ec2.world.isolation},{more}", "untrack_secg": ec2.world.open if untracks else None}
    before = groups(ec2, node)
    succeeds(agent.command("off", node, **options))
    off = once(ec2, CHANGE, lambda: agent.command("off", node, **options))
    result = agent.command("on", node, **options)
    succeeds(off[0])
    assert result.code == 1
    assert "was fenced concurrently; off takes precedence" in result.last
    assert result.seconds < 20, "not only at the deadline"
    assert is_isolated(ec2, node, options)
    restores(agent, ec2, node, options, before)


@pytest.mark.parametrize("other", ["gone", "other VPC"])
def test_a_superseded_on_of_a_half_fenced_node_isolates_too(agent, ec2, node, keep, other):
    """The first read shows an open interface, so the isolating groups are unknown."""
    more = "sg-00000000000000bad" if other == "gone" else ec2.edit.add_group("isolation2", ec2.edit.add_vpc()["vpc"])
    options = {**keep, "secg": f"{ec2.world.isolation},{more}"}
    before = groups(ec2, node)
    half_fenced(agent, ec2, keep)
    off = once(ec2, CHANGE, lambda: agent.command("off", node, **options))
    result = agent.command("on", node, **options)
    succeeds(off[0])
    assert result.code == 1
    assert is_isolated(ec2, node, options)
    restores(agent, ec2, node, options, before)


def test_stale_groups_after_an_on_are_not_backed_up(agent, ec2, node, keep):
    """Tags are fresh, and the backup is deleted, so only the groups are stale."""
    before = groups(ec2, node)
    for action in ("off", "on"):
        succeeds(agent.command(action, node, **keep))
    ec2.stale(groups_changes=2, reads=5)
    succeeds(agent.command("off", node, **keep))
    assert is_isolated(ec2, node, keep)
    restores(agent, ec2, node, keep, before)


# --- what is not there once ---------------------------------------------------------------------------------------


class Nothing(Fault):
    """EC2's answer where the filter matches nothing."""

    def after(self, call, reply):
        reply.body = success_reply(call.action, "<reservationSet/>").body


@pytest.mark.parametrize("plug", ["node1", "10.20.0"])
def test_a_name_that_is_not_found_at_once_is_looked_up_again(agent, ec2, keep, plug):
    address = next(r.nics[0].private_ip_address for r in ec2._moto.backend().all_instances())
    rule = ec2.rules.add("DescribeInstances", Nothing(), times=4 if plug == "node1" else 2)
    result = agent.command("status", plug if plug == "node1" else address, **keep)
    succeeds(result)
    assert rule.fired == (4 if plug == "node1" else 2)


@pytest.mark.parametrize("action", ["off", "on", "status"])
def test_a_first_read_without_the_instance_is_not_final(agent, ec2, node, keep, action):
    if action == "on":
        succeeds(agent.command("off", node, **keep))
    rule = ec2.rules.add("DescribeInstances", Nothing())
    succeeds(agent.command(action, node, **keep))
    assert rule.fired == 1
    assert is_isolated(ec2, node, keep) == (action == "off")


class NoGroups(Fault):
    """EC2's answer where the filter matches no group."""

    def after(self, call, reply):
        reply.body = success_reply(call.action, "<securityGroupInfo/>").body


@pytest.mark.parametrize(("call", "answer"), [("DescribeInstances", Nothing), ("DescribeSecurityGroups", NoGroups)])
def test_a_preflight_reads_twice_before_it_says_that_something_is_missing(agent, ec2, node, keep, call, answer):
    rule = ec2.rules.add(call, answer())
    succeeds(agent.command("validate-all", node, **keep))
    assert rule.fired == 1


def test_monitor_looks_twice_before_it_says_that_a_group_is_gone(agent, ec2, keep):
    rule = ec2.rules.add("DescribeSecurityGroups", NoGroups())
    succeeds(agent.command("monitor", **keep))
    assert rule.fired == 1
    assert len(ec2.calls) == 3


@pytest.mark.parametrize(("action", "call"), [("off", "CreateTags"), ("on", "DeleteTags"), ("off", "StopInstances")])
def test_an_instance_that_is_not_found_once_is_tried_again(agent, ec2, node, keep, action, call):
    options = {**keep, "onfence_poweroff": call == "StopInstances" or None}
    if action == "on":
        succeeds(agent.command("off", node, **keep))
    rule = ec2.rules.add(call, Error("InvalidInstanceID.NotFound", f"The instance ID '{node}' does not exist"))
    result = agent.command(action, node, **options)
    succeeds(result)
    assert rule.fired == 1
    assert [c.error for c in ec2.calls_of(call)[-2:]] == ["InvalidInstanceID.NotFound", None]


def test_an_instance_that_is_never_found_is_final_soon(agent, ec2, node, keep):
    text = f"The instance ID '{node}' does not exist"
    rule = ec2.rules.add("CreateTags", Error("InvalidInstanceID.NotFound", text), times=None)
    result = agent.command("off", node, **keep)
    assert result.code == 1
    assert text in result.last
    assert rule.fired == 2
