"""What ``off`` does next, one transcript for each behaviour that safety depends on; see transcript.py."""


import pytest
from core.off_runs import BACKUP, NOT_PROVEN, ORIGINALS, REFUSED, WITHOUT_BACKUP, two
from core.transcript import (
    APP,
    ID,
    KEEP,
    KEEP_UNTRACK,
    OWN,
    REMOVE,
    REMOVE_UNTRACK,
    Run,
    World,
    groups,
    off_of,
    parsed,
    play,
    shown,
)

from aws_vpc_net import messages
from aws_vpc_net.core.model import FrozenMap, IsolationSpec
from aws_vpc_net.core.protocol import Fail

# --- the order of steps ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("spec", "isolated"), [(KEEP, "e0:i e1:i"), (REMOVE, "e0:d e1:s")], ids=["keep", "remove"])
def test_off_isolates_only_after_a_read_that_shows_the_backup(spec, isolated):
    run = off_of(World(), spec)
    play(
        run,
        f"""
        read
        write e0:ad e1:as
        read                | stale tags
        pause read
        isolate {isolated}
        read
        success
        """,
    )
    assert not any("original groups" in line for line in run.log)


@pytest.mark.parametrize(
    ("spec", "isolated"), [(KEEP_UNTRACK, "e0:i e1:i"), (REMOVE_UNTRACK, "e0:d e1:s")], ids=["keep", "remove"]
)
def test_off_untracks_and_waits_for_the_network_twice(spec, isolated):
    run = off_of(World(), spec, settle_seconds=5)
    began = run.world.now
    play(
        run,
        f"""{BACKUP}
        untrack e0:o e1:o
        settle
        isolate {isolated}
        read
        settle
        read
        success
        """,
    )
    assert run.world.now - began >= 10


def test_off_pauses_after_each_unfinished_read():
    play(
        off_of(World()),
        f"""{BACKUP}
        isolate e0:i e1:i
        read                | nothing
        pause read          | nothing
        pause read
        success
        """,
    )


def test_off_reads_twice_before_it_sets_an_accepted_interface_again():
    """One such read may be stale; and whoever opened it has read the backup, so that is written again at once."""
    play(
        off_of(World()),
        f"""{BACKUP}
        isolate e0:i e1:i
        read                | stale groups
        write e0:ad e1:as
        pause read          | stale groups
        pause isolate e0:i e1:i
        read
        success
        """,
    )


def test_off_sets_a_throttled_interface_again_at_once():
    play(
        off_of(World()),
        f"""{BACKUP}
        isolate e0:i e1:i   | e1 throttled
        read
        pause isolate e1:i
        read
        success
        """,
    )


def test_off_sets_an_interface_again_whose_reply_was_lost_though_it_reads_isolated():
    """And waits until the first change can arrive no more: an ``on`` may come after this run, and not be undone."""
    play(
        off_of(World()),
        f"""{BACKUP}
        isolate e0:i e1:i   | e1 lost
        read
        pause isolate e1:i
        read
        settle
        read
        success
        """,
    )


def test_off_backs_up_what_its_first_read_showed_open():
    """Another off isolates it while this one doubts its reads, and an on has deleted that one's backup."""
    world = World("e0:i e1:as")
    run = off_of(world)
    play(run, "read\npause read")
    world.change(parsed("e1:i"))
    play(run, 7 * "pause read\n" + "write e0:i e1:as")


def test_off_backs_up_what_it_reads_open_not_what_it_read_first():
    world = World("e0:i e1:a")
    play(off_of(world), "read\n* groups e1:d\n" + 8 * "pause read\n" + "write e0:i e1:d")


def test_off_backs_up_an_isolated_interface_that_appeared_while_it_doubted():
    world = World("e0:i")
    play(off_of(world), "read\n* attach e1:i\n" + 8 * "pause read\n" + "write e0:i e1:i")


def test_off_does_not_take_the_untracking_group_of_its_first_read_for_an_original():
    world = World("e0:o e1:as")
    play(off_of(world, KEEP_UNTRACK), "read\n* groups e0:i\n" + 8 * "pause read\n" + "write e0:i e1:as")


def test_off_does_not_roll_back_again_what_it_cannot_isolate():
    """The roll-back had no reply, and EC2 refuses to isolate once more: another fencer may have isolated it."""
    run = off_of(World())
    play(
        run,
        f"""{BACKUP}
        isolate e0:i e1:i   | e1 refused
        read
        roll back e0:ad     | e0 lost
        read
        wait isolate e0:i   | e0 refused
        fail:
        """,
    )


@pytest.mark.parametrize(
    ("why", "steps"),
    [
        ("the read fails", "isolate e0:i\nread | refused\nwait isolate e0:i\nread | refused\nfail: partial:"),
        ("the read fails in time", "isolate e0:i\n* 9 s\nread | refused\nfail: partial:"),
        ("no tags are seen", "isolate e0:i\nread | no tags\nwait read\nfail: partial:"),
        ("EC2 refuses to isolate", "isolate e0:i | e0 refused\nread\nwait read\nfail: partial:"),
    ],
)
def test_off_ends_after_a_roll_back_without_a_reply_only_when_that_can_arrive_no_more(why, steps):
    run = off_of(World())
    play(run, f"{REFUSED}\nread\nroll back e0:ad | e0 lost\nread | nothing\n{steps}")


def test_off_fails_at_once_after_a_failed_read_and_names_the_originals():
    """An on may have deleted the backup since: whoever reads the log can set the groups by hand."""
    run = off_of(World())
    play(
        run,
        f"""{BACKUP}
        isolate e0:i e1:i
        read                | refused
        fail: modification: cannot verify that i-0000000000000000a is isolated
        """,
    )
    assert ORIGINALS in run.log[-1]


@pytest.mark.parametrize(
    ("spec", "then", "why"),
    [
        (KEEP, "isolate e0:i e1:i | e1 throttled\n* 50 s\nread", "eni-11111111111111111: throttled; repeat off"),
        (KEEP, "isolate e0:i e1:i | e1 throttled\n* 50 s\nread | nothing", "eni-11111111111111111: throttled;"),
        (KEEP, "isolate e0:i e1:i\n* 50 s\nread | nothing", "interfaces: no read showed them;"),
        (REMOVE, "isolate e0:d e1:s\n* 50 s\nread | nothing", "interfaces: no read showed them;"),
        (KEEP, "isolate e0:i e1:i\n* groups e1:d\n* 50 s\nread\nwrite e0:ad e1:as", "eni-11111111111111111: reads"),
        (KEEP, "isolate e0:i e1:i\n* 50 s\nread | no tags\nwrite e0:ad e1:as | refused", "its backup: cannot be"),
        (KEEP, "isolate e0:i e1:i\n* 50 s\nread | no tags\nwrite e0:ad e1:as", "its backup: no read shows it;"),
        (
            KEEP,
            "isolate e0:i e1:i\n* attach e2:a\n* 50 s\nread\nwrite e0:ad e1:as e2:a",
            "eni-22222222222222222: reads sg-11111111111111111;",
        ),
        (
            KEEP_UNTRACK,
            "untrack e0:o e1:o | e1 throttled\nisolate e0:i e1:i\n* 50 s\nread",
            "eni-11111111111111111: EC2 accepted no change to untrack_secg; repeat off",
        ),
    ],
)
def test_off_fails_when_time_is_over_and_says_why(spec, then, why):
    run = off_of(World(), spec)
    play(run, f"{BACKUP}\n{then}\n{NOT_PROVEN} {why}")
    assert not any("still have untrack_secg" in line for line in run.log), "nothing was opened"
    assert any(ORIGINALS in line for line in run.log) is ("nothing" in then or "refused" in then)


@pytest.mark.parametrize(
    ("spec", "then", "earlier"),
    [
        (KEEP, "isolate e0:i e1:i", ""),
        (
            KEEP_UNTRACK,
            "untrack e0:o e1:o | e1 throttled\nisolate e0:i e1:i",
            "; earlier: eni-11111111111111111: EC2 accepted no change to untrack_secg",
        ),
    ],
    ids=["unread", "not untracked"],
)
def test_off_says_of_an_interface_that_no_read_shows_only_what_was_not_accepted(spec, then, earlier):
    """The latest read that EC2 answered is the one before the change."""
    why = f"cannot verify that {ID} is isolated: not permitted{earlier}; isolated interfaces stay isolated"
    play(off_of(World(), spec), f"{BACKUP}\n{then}\nread | refused\nfail: modification: {why}")


def test_off_says_that_no_read_shows_its_backup():
    """It was written again less than four seconds before."""
    run = off_of(World())
    play(run, f"{BACKUP}\nisolate e0:i e1:i\n* 36 s\nread | no tags\nwrite e0:ad e1:as\npause read | no tags")
    play(run, f"* 2.5 s\n{NOT_PROVEN} its backup: no read shows it;")


def left_of(spec: IsolationSpec) -> Run:
    """What is left of a fenced node never had the group; and an on deletes the backup of what went away."""
    world = World("e0:ad e1:d")
    play(off_of(world, spec), "read\nwrite e0:ad e1:d\nread\nisolate e0:d e1:d\nread\nsuccess\n* detach e0")
    before, run = dict(world.tags), off_of(world, spec)
    play(run, "read\nwrite e1:d\nread\nisolate e1:d")
    world.delete(before)
    play(run, "read")
    return run


def test_off_in_removal_mode_does_not_succeed_where_nothing_was_removed():
    """``status`` would not say that it is fenced."""
    play(left_of(REMOVE), f"pause read\n* 50 s\n{NOT_PROVEN} its backup: the attached interfaces had no group")
    play(left_of(IsolationSpec((APP,), without_backup=True)), "success")


def test_off_in_removal_mode_with_static_groups_succeeds_without_a_backup():
    run = off_of(World(), REMOVE, static=FrozenMap({0: groups("ad"), 1: groups("s")}))
    play(run, "read\nwrite e0:ad e1:as | refused\nisolate e0:d e1:s\nread\nsuccess")


def test_off_in_removal_mode_succeeds_where_its_backup_was_lost_and_cannot_be_written_again():
    run = off_of(World(), REMOVE)
    play(
        run,
        f"""{BACKUP}
        isolate e0:d e1:s
        read                | stale groups
        write e0:ad e1:as
        pause read          | stale groups, no tags
        write e0:ad e1:as   | refused
        pause read          | no tags
        success
        """,
    )


def test_off_does_not_succeed_on_a_read_without_interfaces():
    steps = "* detach e0\n* detach e1\nread\npause read\npause read"
    play(off_of(World()), f"{BACKUP}\nisolate e0:i e1:i\n{steps}")
    play(off_of(World(), REMOVE), f"{BACKUP}\nisolate e0:d e1:s\n{steps}")


def test_off_does_not_succeed_where_the_network_had_no_time_to_settle():
    play(
        off_of(World(), settle_seconds=30),
        f"""{BACKUP}
        * 20 s
        isolate e0:i e1:i
        read
        settle
        fail: deadline: cannot verify in time that i-0000000000000000a is isolated: the network: settle_time=30
        """,
    )


def test_off_does_not_blame_settle_time_where_a_change_without_a_reply_may_still_arrive():
    play(
        off_of(World(), settle_seconds=1, api_seconds=20),
        f"""{BACKUP}
        * 25 s
        isolate e0:i e1:i | e1 lost before
        read
        pause isolate e1:i
        read
        settle
        {NOT_PROVEN} the network: a change without a reply may still arrive
        """,
    )


def test_off_says_that_a_change_may_still_open_an_interface():
    run = off_of(World(), KEEP_UNTRACK)
    play(run, f"{BACKUP}\n* 38 s\nuntrack e0:o e1:o | e1 lost before\nisolate e0:i e1:i\nread")
    play(run, "pause untrack e1:o\nisolate e1:i\nread\nsettle\n* 1 s\nwait isolate e1:i")
    play(run, f"{NOT_PROVEN} eni-11111111111111111: a change to untrack_secg without a reply may still arrive;")
    assert any(ORIGINALS in line for line in run.log), "no later read shows the backup"


def test_off_of_a_terminated_instance_succeeds():
    run = off_of(World())
    run.world.state = "terminated"
    play(run, "read\nsuccess")


def test_off_of_an_instance_that_is_terminated_meanwhile_succeeds():
    run = off_of(World())
    play(run, f"{BACKUP}\nisolate e0:i e1:i | e1 throttled")
    run.world.state = "terminated"
    play(run, "read\nsuccess")


# --- refusals --------------------------------------------------------------------------------------------------


def test_off_of_a_stopped_instance_is_refused():
    run = off_of(World())
    run.world.state = "stopped"
    play(run, "read\nfail: state:")
    run = off_of(run.world, ignore_instance_state=True)
    play(run, "read\nwrite e0:ad e1:as")


def test_off_fails_after_a_first_read_that_failed():
    play(off_of(World()), "read | refused\nfail: modification: not permitted")


def test_off_reads_again_in_doubt_though_a_read_does_not_show_the_instance():
    play(off_of(World("e0:i e1:a")), "read\npause read | nothing\n" + 7 * "pause read\n" + "write e0:i e1:a")


@pytest.mark.parametrize(
    ("why", "interfaces", "more", "words"),
    [
        ("without groups", "e0:a e1:", {}, "has no security groups"),
        ("none", "", {}, "shows no network interface"),
        ("managed", "e0:a", {"managed": True}, "is managed"),
        ("unfiltered", "e0:a", {"kind": "trunk"}, "trunk"),
    ],
)
def test_off_of_interfaces_that_cannot_be_isolated_is_refused(why, interfaces, more, words):
    run = off_of(World(interfaces))
    run.world.more = more
    play(run, "read\nfail: state:")
    action = run.decide(run.plan, run.knowledge, run.tick()).action
    assert isinstance(action, Fail)
    assert words in action.text, why


def test_off_in_removal_mode_doubts_a_read_of_the_untracking_group_without_a_backup():
    world = World("e0:o e1:as")
    play(off_of(world, REMOVE_UNTRACK), "read\npause read\n* groups e0:ad\npause read\nwrite e0:ad e1:as")


def test_off_of_an_instance_that_two_reads_do_not_show_is_refused():
    play(off_of(World()), "read | nothing\nwait read | nothing\nfail: instance:")


LOST_NAME = "fail: instance: node1 named i-0000000000000000a and now does not; no group was changed"


def test_off_of_an_instance_that_has_lost_its_name_is_refused_before_its_groups_change():
    """One read without the name may be stale, but not one that shows the backup: it is no older than that."""
    play(off_of(World()), f"read | no name\nwait read | no name\n{LOST_NAME}")
    play(off_of(World()), f"read | no name\nwait read\nwrite e0:ad e1:as\nread | no name\n{LOST_NAME}")
    play(off_of(World()), f"{BACKUP} | stale tags, no name\npause read\nisolate e0:i e1:i\nread | no name\nsuccess")


def test_off_of_an_instance_with_nothing_to_remove_is_refused():
    refusal = "fail: validation: i-0000000000000000a has nothing to remove"
    play(off_of(World("e0:d e1:s"), REMOVE), "read\n" + 8 * "pause read\n" + refusal)


def test_off_is_refused_where_removal_would_leave_no_group():
    play(off_of(World("e0:ad e1:a"), REMOVE), "read\nfail: validation: eni-11111111111111111")


def test_off_from_a_machine_that_is_fenced_while_the_backup_is_proven_changes_nothing():
    run = off_of(World(), own=OWN)
    play(run, "read target and own\nwrite e0:ad e1:as")
    run.world.own_is_fenced = True
    play(run, "read target and own\nfail: self-fencing:")
    assert shown(run.world.groups) == "e0:ad e1:as"


def test_off_from_a_fenced_machine_changes_nothing_also_where_no_backup_is_needed():
    run = off_of(World(), WITHOUT_BACKUP, own=OWN)
    play(run, "read target and own\nwrite e0:ad e1:as")
    run.world.own_is_fenced = True
    play(run, "read target and own\nfail: self-fencing:")


# --- what is remembered ------------------------------------------------------------------------------------------


def test_off_does_not_take_what_its_first_read_showed_for_news():
    """An operator has edited the groups since that backup."""
    world = World()
    play(off_of(world), BACKUP)
    world.change(parsed("e0:s"))
    run = off_of(world)
    play(run, "read\nwrite e0:s e1:as\nread\nisolate e0:i e1:i\n* groups e1:as\nread\nwrite e0:s e1:as")


def test_off_counts_wrong_reads_anew_after_each_change():
    play(
        off_of(World()),
        f"""{BACKUP}
        isolate e0:i e1:i
        read                | stale groups
        write e0:ad e1:as
        pause read          | stale groups
        pause isolate e0:i e1:i
        * groups e0:ad e1:as
        read
        write e0:ad e1:as
        pause read
        pause isolate e0:i e1:i
        """,
    )


def test_off_counts_missing_reads_in_a_row():
    play(
        off_of(World()),
        f"""{BACKUP}
        isolate e0:i e1:i   | e1 throttled
        read                | without e1
        pause read
        pause isolate e1:i  | e1 throttled
        read                | without e1
        pause read
        pause isolate e1:i
        """,
    )


def test_off_rolls_back_once_an_unknown_outcome_is_known():
    play(
        off_of(World()),
        f"""{BACKUP}
        isolate e0:i e1:i   | e0 lost, e1 throttled
        read
        pause isolate e0:i e1:i | e1 refused
        read
        roll back e0:ad
        """,
    )


def test_off_forgets_a_failure_once_the_change_is_accepted():
    run = off_of(World())
    play(run, f"{BACKUP}\nisolate e0:i e1:i | e0 throttled, e1 throttled\nread")
    play(run, "pause isolate e0:i e1:i | e1 throttled")
    play(run, f"* 50 s\nread\n{NOT_PROVEN} eni-11111111111111111: throttled; repeat off")


def test_off_does_not_succeed_without_a_backup_that_was_written_after_it_was_refused():
    """A read that lacks it may be behind."""
    play(
        off_of(World()),
        f"""{BACKUP}
        isolate e0:i e1:i
        read                | no tags
        write e0:ad e1:as   | refused
        pause read          | no tags
        write e0:ad e1:as
        pause read          | no tags
        pause read
        success
        """,
    )


def test_off_says_what_it_has_written():
    first, second = two()
    play(first, BACKUP)
    assert first.log == [messages.backup_written(first.plan.id, 3, first.knowledge.backup.latest.time)]
    play(first, "isolate e0:i e1:i\nB: read\nB: write e0:ad e1:as\nread\nwrite e0:ad e1:as", B=second)
    assert first.log[-1] == messages.backup_rewritten(first.plan.id, first.knowledge.backup.latest.time)
    play(first, "* attach e2:a\npause read\nwrite e0:ad e1:as e2:a")
    assert first.log[-1] == messages.backup_written(first.plan.id, 1, first.knowledge.backup.latest.time)


def test_off_without_a_backup_still_knows_the_instance_after_it_has_looked_at_this_machine():
    run = off_of(World(), WITHOUT_BACKUP, own=OWN)
    play(run, "read target and own\nwrite e0:ad e1:as | refused\nread own")
    assert run.knowledge.latest is not None
