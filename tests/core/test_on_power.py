"""How ``on`` starts an instance; see transcript.py."""

import pytest
from core.on_runs import OFF, RESTORED, fenced
from core.transcript import EPOCH, ID, KEEP, OUTCOMES, REMOVE, Run, World, eni, groups, off_of, on_of, play, shown

from aws_vpc_net import messages
from aws_vpc_net.core.backup import RETURNED
from aws_vpc_net.core.isolating import close_after_interrupt, end
from aws_vpc_net.core.model import FrozenMap, IsolationSpec
from aws_vpc_net.core.observe import observe
from aws_vpc_net.core.protocol import (
    Change,
    Fail,
    Knowledge,
    Phase,
    Plan,
    Progress,
    Restore,
    SetGroups,
    StartInstance,
    Succeed,
    Tick,
)
from aws_vpc_net.core.tag_slots import make_backup
from aws_vpc_net.errors import Category


def test_on_starts_a_stopped_instance_after_the_restore():
    run = on_of(fenced(), power=True)
    run.world.state = "stopped"
    play(run, f"{RESTORED}\nread\ndelete\nread\nread\nstart\n* state running\npause read\nsuccess")


def powered(state: str) -> Run:
    """Restored, and not started yet."""
    run = on_of(fenced(), KEEP, power=True)
    play(run, f"{RESTORED}\nread\ndelete\nread")
    run.world.state = state
    play(run, "read")
    return run


@pytest.mark.parametrize("state", ["stopped hibernated", "stopping hibernated"])
def test_on_that_would_start_a_hibernated_instance_restores_nothing(state):
    """Its memory is of before the fence, and would go on with the groups of then."""
    run = on_of(fenced(), power=True)
    run.world.state = state
    play(run, "read\nfail: state: i-0000000000000000a was hibernated, and a start (unfence_poweron) would continue")


def test_on_restores_a_hibernated_instance_that_it_does_not_start():
    for state, power in (("stopped hibernated", False), ("running hibernated", True)):
        run = on_of(fenced(), power=power)
        run.world.state = state
        play(run, f"{RESTORED}\nread\ndelete\nread\n" + power * "read\n" + "success")


def test_on_does_not_start_an_instance_that_was_hibernated_since():
    run = powered("stopping hibernated")
    play(run, "pause read\n* state stopped hibernated\npause read")
    play(run, f"fail: state: the groups of {ID} are restored, but it was not started: it was hibernated")


def test_on_that_is_to_restore_nothing_starts_nothing():
    """A start comes after the restore: an isolated instance would write to its volumes again."""
    run = on_of(fenced(), power=True, restore=Restore(ignored=True))
    run.world.state = "stopped"
    play(run, "success")
    assert run.log == [messages.restore_skipped(run.plan.id), messages.start_skipped(run.plan.id)]


def test_on_waits_for_an_instance_that_is_still_stopping():
    run = powered("stopping")
    play(run, "pause read | nothing\npause read")
    run.world.state = "stopped"
    play(run, "pause read\nstart")


@pytest.mark.parametrize(("answer", "state"), [("", "stopping"), ("| nothing", "")])
def test_on_does_not_wait_for_ever_for_an_instance_that_is_stopping(answer, state):
    run = powered("stopping")
    play(run, f"pause read {answer}\n* 50 s")
    step = run.decide(run.plan, run.knowledge, run.tick())
    reason = messages.start_not_finished(state, 45.0)
    assert step.action == Fail.of(messages.not_started(run.plan.id, Category.DEADLINE, reason))


def test_on_waits_until_the_instance_runs():
    run = powered("stopped")
    play(run, "start\n* state pending\npause read\npause read\n* state running\npause read\nsuccess")


@pytest.mark.parametrize("first", ["", "* state pending\npause read\n"])
def test_on_does_not_start_an_instance_again_after_a_start_that_ec2_has_accepted(first):
    """EC2 stops it again where it may not use the key of its volumes. Or an off relies on the stop."""
    begun = f"start | throttled\npause read\nstart\n{first}* state stopped\npause read\npause read\n"
    said = "are restored, but it was not started: EC2 showed it as stopped"
    play(powered("stopped"), f"{begun}* 50 s\nfail: deadline: the groups of {ID} {said}")
    play(powered("stopped"), f"{begun}* state running\npause read\nsuccess")


def test_on_says_that_another_start_was_refused():
    """Not why the one before it failed."""
    play(powered("stopped"), f"start | throttled\npause read\nstart | refused\n{NOT_STARTED}not permitted")


def test_on_does_not_say_that_the_deadline_cut_off_the_last_start():
    run = powered("stopped")
    play(run, "start | throttled\npause read")
    step = run.decide(run.plan, run.knowledge, run.tick())
    assert isinstance(step.action, StartInstance)
    play(run, "* 50 s")
    known = observe(run.plan, step.knowledge, step.action, OUTCOMES["lost"], run.tick())[0]
    assert "it was not started: throttled" in run.decide(run.plan, known, run.tick()).action.text


def test_on_leaves_an_instance_that_starts_for_long_to_ec2():
    play(powered("pending"), "pause read\n* 50 s\nsuccess")
    play(powered("stopped"), "start | throttled\npause read\nstart\n* state pending\npause read\n* 50 s\nsuccess")


def test_on_leaves_it_to_ec2_also_if_the_last_read_has_no_time():
    run = powered("pending")
    step = run.decide(run.plan, run.knowledge, run.tick())
    play(run, "* 50 s")
    read = observe(run.plan, step.knowledge, step.action, OUTCOMES["lost"], run.tick())[0]
    assert run.decide(run.plan, read, run.tick()).action == Succeed()


def test_on_says_what_was_read_before_the_end_of_the_time():
    """Not that the last read was cut off."""
    run = powered("stopped")
    play(run, "start\n* state pending\npause read\n* state stopped\npause read")
    step = run.decide(run.plan, run.knowledge, run.tick())
    play(run, "* 50 s")
    read = observe(run.plan, step.knowledge, step.action, OUTCOMES["lost"], run.tick())[0]
    assert "EC2 showed it as stopped" in run.decide(run.plan, read, run.tick()).action.text


def test_on_says_why_it_does_not_learn_whether_the_instance_runs():
    play(powered("pending"), f"pause read | refused\n{NOT_STARTED}not permitted")


@pytest.mark.parametrize("state", ["pending", "running"])
def test_on_does_not_succeed_where_an_off_came_while_it_waited(state):
    run = powered("stopped")
    fencer = off_of(run.world, nonce=2, skew=9, ignore_instance_state=True)
    off = f"{OFF}\nisolate e0:i e1:i\nread\nsuccess".replace("\n", "\noff: ")
    play(run, f"start\n* state pending\npause read\noff: {off}\n* state {state}\npause read", off=fencer)
    play(run, "fail: restore: i-0000000000000000a was fenced concurrently; off takes precedence; repeat on")
    run = on_of(World(), power=True)
    run.world.state = state
    play(run, "read")
    fencer = off_of(run.world, nonce=2, ignore_instance_state=True)
    play(run, f"off: {OFF}".replace("\n", "\noff: "), off=fencer)
    play(run, "read\nfail: restore: i-0000000000000000a was fenced concurrently; off takes precedence; repeat on")


@pytest.mark.parametrize(
    ("state", "before", "then"),
    [("stopped", "start\n", "pending"), ("stopped", "start | throttled\n", "stopping"), ("stopping", "", "stopping")],
)
def test_on_isolates_nothing_while_it_waits(state, before, then):
    """The read is behind: an earlier on has deleted that backup, and the original groups would be nowhere."""
    run = powered(state)
    play(run, f"{before}* state {then}\npause read")
    tags = make_backup(run.world.read(""), {eni("e0"): groups("ad"), eni("e1"): groups("as")}, EPOCH + 9, KEEP).tags
    run.world.write(tags)
    play(run, "pause read")
    run.world.delete(tags)
    play(run, "fail: restore: i-0000000000000000a was fenced concurrently; off takes precedence")
    assert shown(run.world.groups) == "e0:ad e1:as"


@pytest.mark.parametrize("state", ["terminated", "shutting-down"])
def test_on_says_that_an_instance_cannot_be_started_any_more(state):
    play(powered(state), "fail: instance: the groups of i-0000000000000000a are restored, but it was not")


def test_on_says_that_the_start_was_refused():
    play(powered("stopped"), "start | refused\nfail: modification: the groups of i-0000000000000000a are restored")


def test_on_reads_before_it_starts_again():
    """An off may have succeeded meanwhile."""
    play(powered("stopped"), "start | throttled\npause read\nstart | lost\n* state running\npause read\nsuccess")
    run = powered("stopped")
    fencer = off_of(run.world, nonce=2, skew=9, ignore_instance_state=True)
    play(run, "start | throttled\noff: read\noff: write e0:ad e1:as", off=fencer)
    play(run, "pause read\nfail: restore: i-0000000000000000a was fenced concurrently; off takes precedence: it was")


NOT_STARTED = "fail: modification: the groups of i-0000000000000000a are restored, but it was not started: "


@pytest.mark.parametrize("then", ["* 50 s", "pause read | refused", "pause read | throttled"])
def test_on_that_cannot_start_in_time_says_why(then):
    """Not why the read after it failed."""
    play(powered("stopped"), f"start | throttled\n{then}\n{NOT_STARTED}throttled")


def test_on_does_not_start_what_was_fenced_since_and_isolates_it_again():
    """The read that proves the restore is stale: the off has succeeded before, and may rely on the stop."""
    run = on_of(fenced(), power=True)
    run.world.state = "stopped"
    play(run, "read")
    fencer = off_of(run.world, nonce=2, skew=9, ignore_instance_state=True)
    off = f"{OFF}\nisolate e0:i e1:i\nread\nsuccess".replace("\n", "\noff: ")
    play(run, f"claim\noff: {off}\nrestore e0:ad e1:as\nread | stale tags\ndelete", off=fencer)
    play(run, "read\nread\nisolate e0:i e1:i\nread\nfail: restore: i-0000000000000000a was fenced concurrently; off")


def test_on_isolates_nothing_again_under_a_backup_of_other_groups():
    """An off is in progress that has read the groups from before the restore, and would not see the original ones."""
    run = on_of(fenced(REMOVE), REMOVE, power=True)
    run.world.state = "stopped"
    play(run, f"{RESTORED}\nread\ndelete\nread")
    read = run.world.read("")
    run.world.write(make_backup(read, {eni("e0"): groups("ad"), eni("e1"): groups("s")}, EPOCH, REMOVE).tags)
    play(run, "read\nfail: restore: i-0000000000000000a was fenced concurrently; off takes precedence: it was not")
    assert shown(run.world.groups) == "e0:ad e1:as"


def test_on_that_has_restored_nothing_does_not_start_what_was_fenced_since():
    run = on_of(World(), power=True)
    run.world.state = "stopped"
    play(run, "read")
    fencer = off_of(run.world, nonce=2, ignore_instance_state=True)
    play(run, f"off: {OFF}".replace("\n", "\noff: "), off=fencer)
    play(run, "read\nfail: restore: i-0000000000000000a was fenced concurrently; off takes precedence: it was not")


@pytest.mark.parametrize("state", ["stopping", "running"])
def test_on_looks_once_more_until_a_read_shows_the_instance(state):
    run = on_of(fenced(), KEEP, power=True)
    play(run, f"{RESTORED}\nread\ndelete\nread")
    known = run.world.read("")
    run.world.write(make_backup(known, {eni("e0"): groups("ad"), eni("e1"): groups("as")}, EPOCH + 120, KEEP, 2).tags)
    run.world.state = state
    play(run, "read | nothing\npause read\nisolate e0:i e1:i\nread\nfail: restore: i-0000000000000000a was fenced")


def test_on_starts_an_instance_whose_deleted_backup_a_stale_read_shows():
    run = on_of(fenced(), power=True)
    run.world.state = "stopped"
    play(run, f"{RESTORED}\nread\ndelete\nread\nread | stale tags\nstart")


def test_on_does_not_start_what_reads_isolated_again():
    """One such read may be stale. After two of them somebody has isolated it, and that was no off."""
    run = on_of(fenced(), power=True)
    run.world.state = "stopped"
    play(run, f"{RESTORED}\nread\ndelete\nread\nread | stale groups\npause read\nstart")
    run = on_of(fenced(), power=True)
    run.world.state = "stopped"
    play(run, f"{RESTORED}\nread\ndelete\nread\n* groups e1:i\nread\npause read")
    play(run, "fail: restore: the groups of i-0000000000000000a are restored, but it was not started: eni-1111111111")


def test_on_starts_what_somebody_has_given_other_groups_or_detached():
    for event in ("groups e1:d", "detach e1"):
        run = on_of(fenced(), power=True)
        run.world.state = "stopped"
        play(run, f"{RESTORED}\nread\ndelete\nread\n* {event}\nread\nstart")


def test_on_starts_what_looks_isolated_by_nature():
    world = World("e0:ad e1:s")
    play(off_of(world, REMOVE), "read\nwrite e0:ad e1:s\nread\nisolate e0:d e1:s\nread\nsuccess")
    world.state = "stopped"
    play(on_of(world, REMOVE, power=True), "read\nclaim\nrestore e0:ad e1:s\nread\ndelete\nread\nread\nstart")


@pytest.mark.parametrize("unattended", [False, True])
def test_on_deletes_the_count_of_returns_unless_monitor_makes_it(unattended):
    """Also where nothing is isolated, and by the value that it has read."""
    for world in (fenced(), World()):
        is_fenced = bool(world.tags)
        world.tags.update({RETURNED: "1700000000;launched=1600000000", "Name": "node1"})
        world.state = "stopped"
        play(on_of(world, restore=Restore(unattended=unattended)), STEPS[is_fenced, unattended])
        assert set(world.tags) == {"Name", *([RETURNED] if unattended else [])}


STEPS = {
    (True, False): f"{RESTORED}\nread\ndelete\nread\nsuccess",
    (True, True): f"{RESTORED}\nread\ndelete\nread\nsuccess",
    (False, False): "read\nread\ndelete\nsuccess",
    (False, True): "read\nsuccess",
}


def test_on_that_is_interrupted_ends_without_setting_groups_that_it_does_not_know():
    """Its restore may still arrive, which nothing waits for: an empty set of groups is none that isolates."""
    groups = frozenset(("sg-" + "a" * 17,))
    plan = Plan("i-" + "0" * 17, IsolationSpec(("sg-" + "c" * 17,), keep_only=True), restoring=True)
    progress = FrozenMap({"eni-" + "0" * 17: Progress(open_groups=groups)})
    tick = Tick(0.0, 40.0, 45.0, 1_700_000_000, 0)
    effect = SetGroups(Change.RESTORE, FrozenMap(dict.fromkeys(progress, groups)))
    known = close_after_interrupt(plan, Knowledge(phase=Phase.VERIFY, interfaces=progress), effect, tick)
    assert isinstance(end(plan, known, tick).action, Fail)
