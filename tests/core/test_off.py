"""What ``off`` does next, one transcript for each behaviour that safety depends on; see transcript.py."""

from dataclasses import replace
from typing import Tuple

import pytest
from core.transcript import (
    APP,
    ID,
    ISO,
    ISO2,
    KEEP,
    KEEP_UNTRACK,
    OPEN,
    OWN,
    REMOVE,
    REMOVE_UNTRACK,
    Run,
    World,
    eni,
    groups,
    off_of,
    on_of,
    parsed,
    play,
    shown,
)

from aws_vpc_net import messages
from aws_vpc_net.core.isolating import close_after_interrupt, end
from aws_vpc_net.core.model import FrozenMap, IsolationSpec
from aws_vpc_net.core.protocol import Change, Fail, LookUpGroups, SetGroups
from aws_vpc_net.errors import Category

ORIGINALS = f"{eni('e0')} had sg-11111111111111111, sg-22222222222222222; {eni('e1')} had sg-11111111111111111, sg-33"
WITHOUT_BACKUP = IsolationSpec((ISO,), keep_only=True, without_backup=True)
BACKUP = "read\nwrite e0:ad e1:as\nread"


def two(spec: IsolationSpec = KEEP) -> Tuple[Run, Run]:
    """Two off of one node; the clock of the second is ahead."""
    world = World()
    return off_of(world, spec, nonce=1), off_of(world, spec, nonce=2, skew=3)


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


NOT_PROVEN = "fail: deadline: cannot verify in time that i-0000000000000000a is isolated:"


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


# --- the backup ------------------------------------------------------------------------------------------------


def test_off_without_a_visible_backup_changes_nothing():
    """It is written again every four seconds, for half of the time."""
    written = "write e0:ad e1:as | no tags\nread | no tags\n" + 4 * "pause read | no tags\n"
    run = off_of(World())
    play(run, "read\n" + 4 * written + "write e0:ad e1:as\n* 4 s\nread | no tags\nfail: tag:")
    assert shown(run.world.groups) == "e0:ad e1:as"
    assert len(run.knowledge.backup.backups) == 1, "nobody else is there: always the same"


STATIC = FrozenMap({0: groups("s"), 1: groups("d")})


@pytest.mark.parametrize(
    ("why", "world", "steps"),
    [
        ("it is refused", {}, "read\nwrite e0:ad e1:as | refused"),
        ("there is no room", {f"user{n}": "" for n in range(48)}, "read"),
        ("a read fails", {}, "read\nwrite e0:ad e1:as\nread | refused"),
        (
            "no read shows it",
            {},
            "read\nwrite e0:ad e1:as | no tags\n* 4 s\nread | no tags\nwrite e0:ad e1:as\n* 20 s\nread | no tags",
        ),
    ],
)
@pytest.mark.parametrize(
    ("spec", "options"), [(WITHOUT_BACKUP, {}), (KEEP, {"static": STATIC})], ids=["accepted", "static groups"]
)
def test_off_goes_on_without_a_backup_only_where_that_is_accepted(why, world, steps, spec, options):
    """It then neither looks for that backup, nor writes one."""
    run = off_of(World(tags=world), spec, **options)
    play(run, f"{steps}\nisolate e0:i e1:i\nread | no tags\nsuccess")
    assert any("continuing without a backup" in line for line in run.log)
    play(off_of(World(tags=world)), f"{steps}\nfail: ")
    some = FrozenMap({0: groups("s")})
    play(off_of(World(tags=world), static=some), f"{steps}\nfail: ")


def test_off_without_a_backup_has_no_originals_to_name():
    run = off_of(World(), WITHOUT_BACKUP)
    play(run, "read\nwrite e0:ad e1:as | refused\nisolate e0:i e1:i\nread | refused\nfail: modification:")
    assert not any("original groups" in line for line in run.log)


def test_off_without_a_backup_looks_at_this_machine_once_more():
    run = off_of(World(), WITHOUT_BACKUP, own=OWN)
    play(run, "read target and own\nwrite e0:ad e1:as | refused\nread own\nisolate e0:i e1:i")
    run = off_of(World(), WITHOUT_BACKUP, own=OWN)
    play(run, "read target and own\nwrite e0:ad e1:as | refused")
    run.world.own_is_fenced = True
    play(run, "read own\nfail: self-fencing:")


def test_off_without_a_backup_writes_none_beside_another_fencer():
    run = off_of(World(), WITHOUT_BACKUP)
    play(
        run,
        """
        read
        write e0:ad e1:as   | refused
        B: read
        isolate e0:i e1:i   | e1 throttled
        B: write e0:ad e1:as
        read
        pause isolate e1:i
        """,
        B=off_of(run.world, nonce=2, skew=3),
    )


@pytest.mark.parametrize(("spec", "part"), [(KEEP, 1), (WITHOUT_BACKUP, 1 / 2)], ids=["needed", "optional"])
def test_off_spends_half_of_its_time_on_an_optional_backup(spec, part):
    """So that there is time to isolate without it; where it is needed there is nothing else to do."""
    run = off_of(World(), spec)
    play(run, "read")
    until = run.tick().share(part)
    for line in ("write e0:ad e1:as", "read | no tags", "pause read"):
        assert run.decide(run.plan, run.knowledge, run.tick()).ends == pytest.approx(until)
        play(run, line)


@pytest.mark.parametrize("value", ["x", None])
def test_off_tells_what_a_policy_may_ask_for_where_it_may_not_write_tags(value):
    run = off_of(World(tags={"cluster": value} if value else {}))
    play(run, "read\nwrite e0:ad e1:as | unallowed\nfail: modification")
    assert run.log == [messages.tag_condition(run.plan.id, value)]
    run = off_of(World())
    play(run, "read\nwrite e0:ad e1:as | refused")
    assert not run.decide(run.plan, run.knowledge, run.tick()).notes


def test_off_tells_what_a_policy_may_ask_for_also_where_no_read_shows_the_instance():
    run = off_of(World("e0:i e1:a"))
    play(run, "read\n" + 7 * "pause read\n" + "pause read | nothing\nwrite e0:i e1:a | unallowed")
    step = run.decide(run.plan, run.knowledge, run.tick())
    assert [note.text for note in step.notes] == [messages.tag_condition(run.plan.id, None)]


def test_off_writes_its_backup_again_where_no_read_shows_the_instance():
    play(off_of(World()), "read\nwrite e0:ad e1:as\nread | nothing\npause read | nothing\n* 4 s\nwrite e0:ad e1:as")
    play(off_of(World()), "read\nwrite e0:ad e1:as\nread | nothing\npause read\nisolate e0:i e1:i")


def test_off_amends_its_backup_only_as_long_as_it_may_be_proven():
    play(off_of(World()), "read\nwrite e0:ad e1:as\n* 20 s\n* groups e0:s\nread\nfail: tag:")


@pytest.mark.parametrize(
    ("spec", "interfaces", "note"),
    [
        (KEEP, "e0:ad e1:as", messages.established_may_survive("i-0000000000000000a", False)),
        (KEEP_UNTRACK, "e0:i e1:as", messages.not_opened_again("i-0000000000000000a", [eni("e0")])),
        (KEEP_UNTRACK, "e0:ad e1:as", None),
    ],
)
def test_off_says_what_is_not_untracked(spec, interfaces, note):
    run = off_of(World(interfaces), spec)
    doubts = 8 * "pause read\n" if "i" in interfaces else ""
    play(run, f"read\n{doubts}write {interfaces}\nread")
    notes = run.decide(run.plan, run.knowledge, run.tick()).notes
    assert [n.text for n in notes] == ([note] if note else [])


def test_off_untracks_nothing_without_a_backup():
    spec = IsolationSpec((ISO,), keep_only=True, untrack=OPEN, without_backup=True)
    run = off_of(World(), spec)
    play(run, "read\nwrite e0:ad e1:as | refused\nisolate e0:i e1:i")
    assert run.log[-1] == messages.untracking_skipped(run.plan.id)


def test_off_untracks_only_what_the_proving_read_shows():
    play(off_of(World(), KEEP_UNTRACK), "read\nwrite e0:ad e1:as\nread | without e1\nuntrack e0:o\nisolate e0:i e1:i")


def test_off_does_not_write_again_for_one_read_that_is_behind_in_all():
    """It was written a moment ago, and nothing is to be set yet."""
    play(
        off_of(World()),
        f"""{BACKUP}
        isolate e0:i e1:i
        read                | no tags
        write e0:ad e1:as
        pause read          | stale groups, no tags
        pause read
        success
        """,
    )


def test_off_amends_the_backup_by_the_read_that_proves_it():
    play(
        off_of(World()),
        """
        read
        * groups e0:s
        write e0:ad e1:as
        read
        write e0:s e1:as
        read
        isolate e0:i e1:i
        """,
    )


def test_off_spends_half_of_its_time_on_the_backup_though_it_amends_it():
    play(
        off_of(World()),
        """
        read
        write e0:ad e1:as
        * 15 s
        * groups e0:s
        read
        write e0:s e1:as
        * 5 s
        read                | no tags
        fail: tag:
        """,
    )


def test_off_takes_isolated_groups_for_originals_only_after_eight_seconds_of_reads():
    """After an on the groups may be behind for seconds, while the tags are not."""
    play(off_of(World("e0:i e1:a")), "read\n" + 8 * "pause read\n" + "write e0:i e1:a")
    play(
        off_of(World("e0:i e1:a")),
        """
        read
        pause read
        * groups e0:d
        pause read
        write e0:d e1:a
        """,
    )


def test_off_writes_a_missing_backup_before_it_sets_anything():
    play(
        off_of(World()),
        f"""{BACKUP}
        isolate e0:i e1:i   | e1 throttled
        read                | no tags
        write e0:ad e1:as
        pause isolate e1:i
        read
        success
        """,
    )


def test_off_sets_nothing_where_a_missing_backup_cannot_be_written():
    run = off_of(World())
    play(
        run,
        f"""{BACKUP}
        isolate e0:i e1:i   | e1 throttled
        read                | no tags
        write e0:ad e1:as   | refused
        pause read          | no tags
        write e0:ad e1:as   | refused
        pause read
        pause isolate e1:i
        read
        success
        """,
    )
    assert any(ORIGINALS in line for line in run.log)


def test_off_writes_a_backup_that_stays_missing_every_four_seconds():
    play(
        off_of(World()),
        f"""{BACKUP}
        isolate e0:i e1:i
        read                | no tags
        write e0:ad e1:as
        pause read          | no tags
        pause read          | no tags
        pause read          | no tags
        pause read          | no tags
        write e0:ad e1:as
        pause read
        success
        """,
    )


def test_off_writes_its_backup_again_beside_another_fencer_once_after_each_change():
    first, second = two()
    third = off_of(first.world, nonce=3, skew=9)
    play(
        first,
        f"""{BACKUP}
        isolate e0:i e1:i   | e1 throttled
        B: read
        B: write e0:ad e1:as
        read
        write e0:ad e1:as
        C: read
        C: write e0:ad e1:as
        pause isolate e1:i
        read
        write e0:ad e1:as
        pause read
        success
        """,
        B=second,
        C=third,
    )


def test_off_does_not_write_its_backup_again_twice_without_a_change_in_between():
    first, second = two()
    third = off_of(first.world, nonce=3, skew=9)
    play(
        first,
        f"""{BACKUP}
        isolate e0:i e1:i
        B: read
        B: write e0:ad e1:as
        read
        write e0:ad e1:as
        C: read
        C: write e0:ad e1:as
        pause read
        success
        """,
        B=second,
        C=third,
    )


@pytest.mark.parametrize("answer", ["", "| refused"])
def test_off_takes_an_edit_from_another_backup_whose_time_is_earlier_than_its_own(answer):
    """Only that fencer has read it, before this run isolated the interface."""
    world = World()
    other, run = off_of(world, nonce=2, skew=-3), off_of(world, nonce=1)
    play(
        run,
        f"""{BACKUP}
        * groups e0:s
        B: read             | no tags
        isolate e0:i e1:i
        B: write e0:s e1:as
        read
        write e0:s e1:as    {answer}
        """,
        B=other,
    )
    assert any(f"{eni('e0')} had sg-33333333333333333" in line for line in run.log) is bool(answer)


def test_off_keeps_an_interface_in_the_backup_that_one_read_lacks():
    first, second = two()
    play(
        first,
        f"""{BACKUP}
        isolate e0:i e1:i
        B: read
        B: write e0:ad e1:as
        read                | without e1
        write e0:ad e1:as
        pause read
        success
        """,
        B=second,
    )


def test_off_keeps_an_edit_of_an_interface_that_it_does_not_change():
    """Removal mode: the interface never had the group. An off was killed, and an operator edited it since."""
    world = World("e0:ad e1:d")
    play(off_of(world, REMOVE), "read\nwrite e0:ad e1:d\nread\nisolate e0:d e1:d")
    play(
        off_of(world, REMOVE),
        """
        * groups e1:ds
        read
        write e0:ad e1:ds
        read
        isolate e0:d e1:ds
        read
        success
        """,
    )
    play(on_of(world, REMOVE), "read\nclaim\nrestore e0:ad e1:ds\nread\ndelete\nread\nsuccess")


def test_off_writes_the_backup_of_a_new_interface_before_it_isolates_it():
    play(
        off_of(World()),
        f"""{BACKUP}
        isolate e0:i e1:i
        * attach e2:a
        read
        write e0:ad e1:as e2:a
        pause read          | stale tags
        write e0:ad e1:as e2:a
        pause read
        pause isolate e2:i
        read
        success
        """,
    )


def test_off_is_not_proven_by_an_earlier_backup_without_a_new_interface():
    """Its original groups would be nowhere if that read were all that there is."""
    play(
        off_of(World()),
        f"""{BACKUP}
        isolate e0:i e1:i
        read                | no tags
        write e0:ad e1:as
        * attach e2:a
        pause read
        write e0:ad e1:as e2:a
        pause read
        pause isolate e2:i
        read                | stale tags
        write e0:ad e1:as e2:a
        pause read
        success
        """,
    )


def test_off_writes_a_missing_backup_anew_beside_another():
    """The other one may have used its keys, and its time is later."""
    world = World()
    other = off_of(world, nonce=0x7654321)
    run = off_of(world)
    play(
        run,
        """
        read
        write e0:ad e1:as
        * no tags
        * 5 s
        other: read
        other: write e0:ad e1:as
        read
        write e0:ad e1:as
        """,
        other=other,
    )
    assert int(world.tags["lastfence"]) > other.knowledge.backup.latest.time


def test_off_that_succeeds_without_a_backup_in_reads_names_the_groups_last():
    """It was refused to write it again."""
    run = off_of(World())
    play(
        run,
        f"""{BACKUP}
        isolate e0:i e1:i
        read                | stale groups
        write e0:ad e1:as
        pause read          | stale groups, no tags
        write e0:ad e1:as   | refused
        pause read          | no tags
        success
        """,
    )
    assert run.log[-1] == messages.originals(run.plan.id, run.knowledge.backup.originals)


def test_off_adopts_with_the_groups_of_a_backup_that_only_the_first_read_showed():
    """The interface was isolated by another fencer before this run saw it."""
    world = World()
    play(off_of(world, nonce=0x7654321), "read\nwrite e0:ad e1:as")
    play(
        off_of(world),
        """
        read                | without e1
        write e0:ad
        read                | without e1
        isolate e0:i
        * groups e1:i
        read                | no tags
        write e0:ad
        write e0:ad e1:as
        """,
    )


def test_off_adopts_with_the_groups_of_a_first_read_that_later_ones_did_not_show():
    """Another fencer has isolated the interface since, and the read lacks its backup."""
    world = World("e0:i e1:as")
    play(
        off_of(world),
        """
        read
        pause read          | without e1
        * 8 s
        write e0:i
        read                | without e1
        isolate e0:i
        * groups e1:i
        read
        write e0:i e1:as
        """,
    )


def test_off_without_room_for_the_backup_changes_nothing():
    play(off_of(World(tags={f"user{n}": "" for n in range(48)})), "read\nfail: tag: the backup of")


def test_off_without_room_for_a_new_interface_fails():
    world = World(tags={f"user{n}": "" for n in range(47)})
    run = off_of(world)
    play(run, f"{BACKUP}\nisolate e0:i e1:i\n* attach e2:a\nread\nfail: tag: the backup of")
    assert any("eni-22222222222222222 appeared during off" in line for line in run.log)


@pytest.mark.parametrize(("event", "answer"), [("detach e1", ""), ("0 s", "without e1")], ids=["gone", "stale"])
def test_off_reads_twice_before_it_takes_an_interface_for_gone(event, answer):
    run = off_of(World())
    play(run, f"{BACKUP}\nisolate e0:i e1:i | e1 throttled\n* {event}\nread | {answer}\npause read")
    play(run, "success" if event == "detach e1" else "pause isolate e1:i\nread\nsuccess")


def test_off_isolates_the_others_while_the_backup_of_a_new_interface_is_not_proven():
    play(
        off_of(World()),
        f"""{BACKUP}
        isolate e0:i e1:i   | e1 throttled
        * attach e2:a
        read
        write e0:ad e1:as e2:a
        pause isolate e1:i
        read
        pause isolate e2:i
        read
        success
        """,
    )


@pytest.mark.parametrize(
    ("spec", "attached", "steps"),
    [(KEEP_UNTRACK, "e2:a", "pause untrack e2:o\nisolate e2:i"), (KEEP_UNTRACK, "e2:i", "pause isolate e2:i")],
    ids=["open", "isolated"],
)
def test_off_untracks_a_new_interface_unless_it_is_isolated(spec, attached, steps):
    run = off_of(World(), spec)
    play(run, f"{BACKUP}\nuntrack e0:o e1:o\nisolate e0:i e1:i\n* attach {attached}\nread")
    play(run, f"write e0:ad e1:as {attached}\npause read\n{steps}\nread\nsuccess")
    assert any("eni-22222222222222222 appeared during off" in line for line in run.log)


@pytest.mark.parametrize(
    ("why", "spec", "attached", "more"),
    [
        ("no groups", KEEP, "e2:", {}),
        ("managed", KEEP, "e2:a", {"managed": True}),
        ("unfiltered", KEEP, "e2:a", {"kind": "trunk"}),
        ("no group would be left", REMOVE, "e2:a", {}),
    ],
)
def test_off_fails_where_a_new_interface_cannot_be_isolated(why, spec, attached, more):
    run = off_of(World(), spec)
    isolated = "e0:i e1:i" if spec is KEEP else "e0:d e1:s"
    play(run, f"{BACKUP}\nisolate {isolated}\n* attach {attached}")
    run.world.more = more
    play(run, "read\nfail: partial: eni-22222222222222222 of i-0000000000000000a appeared during off and cannot")
    assert any("eni-22222222222222222 appeared during off" in line for line in run.log), why


def test_off_without_a_backup_isolates_a_new_interface_at_once():
    spec = IsolationSpec((ISO,), keep_only=True, untrack=OPEN, without_backup=True)
    run = off_of(World(), spec)
    play(run, "read\nwrite e0:ad e1:as | refused\nisolate e0:i e1:i\n* attach e2:a")
    play(run, "read\nisolate e2:i\nread\nsuccess")
    assert any("eni-22222222222222222 appeared during off" in line for line in run.log)


def test_off_with_static_groups_does_not_isolate_a_new_interface_without_a_backup_and_without_groups():
    """Its original groups would be nowhere."""
    steps = "read\nwrite e0:ad e1:as | refused\nisolate e0:i e1:i\n* attach e2:a\nread"
    three = STATIC.updated({2: groups("a")})
    play(off_of(World(), static=three), f"{steps}\nisolate e2:i\nread\nsuccess")
    end = "fail: partial: eni-22222222222222222 of i-0000000000000000a appeared during off without a backup"
    run = off_of(World(), static=STATIC)
    play(run, f"{steps}\n{end}")
    assert run.log[-1] == messages.appeared(run.plan.id, [eni("e2")])
    isolating = STATIC.updated({2: groups("i")})
    play(off_of(World(), static=isolating), f"{steps}\n{end}")


def test_off_does_not_rely_on_static_groups_that_on_refuses():
    steps = "read\nwrite e0:ad e1:as | refused"
    play(off_of(World(), static=FrozenMap({0: groups("i"), 1: groups("s")})), f"{steps}\nfail: ")
    play(off_of(World(), REMOVE, static=FrozenMap({0: groups("d"), 1: groups("s")})), f"{steps}\nfail: ")
    play(off_of(World(), REMOVE, static=FrozenMap({0: groups("ad"), 1: groups("s")})), f"{steps}\nisolate e0:d e1:s")


def test_off_writes_what_another_backup_said_better_also_after_that_was_deleted():
    """It was not due to be written when it was read."""
    world = World("e0:ad e1:s")
    run = off_of(world, REMOVE, settle_seconds=5)
    play(run, "read\nwrite e0:ad e1:s\nread\nisolate e0:d e1:s")
    play(off_of(world, REMOVE, nonce=2, skew=9), "read\nwrite e0:ad e1:s")
    play(run, "read\nwrite e0:ad e1:s")
    play(off_of(world, REMOVE, nonce=3, skew=20), "* groups e1:as\nread\nwrite e0:ad e1:as\n* groups e1:s")
    play(run, "pause read\nsettle\n* attach e2:ad\nread\nwrite e0:ad e1:s e2:ad")
    world.tags.clear()
    play(run, "pause read\nwrite e0:ad e1:as e2:ad")


def test_off_writes_anew_before_it_changes_groups_what_another_backup_says_better():
    other = off_of(World())
    play(other, BACKUP)
    run = off_of(World("e0:ad e1:i", other.world.tags), nonce=2)
    play(run, "read | no tags\n" + 8 * "pause read | no tags\n" + "write e0:ad e1:i\nread\nwrite e0:ad e1:as")


def test_off_of_a_node_that_is_not_isolated_says_nothing_of_tags_that_cannot_be_read():
    run = off_of(World(tags={f"Original_SG_Backup_{ID}_5_1_0": "cut o"}))
    play(run, "read\nwrite e0:ad e1:as\nread")
    assert not any("cannot be read" in line for line in run.log)


def test_off_isolates_a_new_interface_whose_backup_was_refused_only_where_that_is_accepted():
    """And writes its groups with those of the others, once it writes them again."""
    steps = f"{BACKUP}\nisolate e0:i e1:i\n* attach e2:a\nread\nwrite e0:ad e1:as e2:a | refused"
    run = off_of(World())
    play(run, f"{steps}\nfail: modification: not permitted")
    assert not any("concurrent fencing detected" in line for line in run.log)
    run = off_of(World(), WITHOUT_BACKUP)
    other = off_of(run.world, nonce=2, skew=3)
    play(run, f"{steps}\nB: read\npause isolate e2:i\nB: write e0:ad e1:as e2:a", B=other)
    play(run, "read\nwrite e0:ad e1:as e2:a")
    assert messages.without_backup(run.plan.id, "not permitted") in run.log


def test_off_names_the_originals_where_there_is_no_room_to_write_a_lost_backup():
    run = off_of(World())
    play(run, f"{BACKUP}\nisolate e0:i e1:i | e1 throttled\n* no tags")
    run.world.tags.update({f"user{n}": "" for n in range(50)})
    play(run, "read\npause read")
    assert any(ORIGINALS in line for line in run.log)
    play(run, f"* 50 s\n{NOT_PROVEN} eni-11111111111111111: throttled; its backup: cannot be rewritten;")


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


# --- roll-back -------------------------------------------------------------------------------------------------

REFUSED = f"{BACKUP}\nisolate e0:i e1:i | e1 refused"
LEFT = (
    "fail: partial: i-0000000000000000a is not completely isolated: eni-11111111111111111: not permitted; "
    "eni-00000000000000000 not rolled back:"
)


def test_off_rolls_back_after_a_refusal_and_looks_again():
    play(
        off_of(World()),
        f"""{REFUSED}
        read
        roll back e0:ad
        read
        fail: modification: i-0000000000000000a is not isolated
        """,
    )


def test_off_says_why_it_did_not_look_whether_it_may_roll_back():
    play(off_of(World()), f"{REFUSED}\nread | refused\n{LEFT} not permitted; correct the cause and repeat off")


def test_off_does_not_roll_back_an_interface_that_is_gone():
    end = "fail: modification: i-0000000000000000a is not isolated"
    play(off_of(World()), f"{REFUSED}\n* detach e0\nread\nread\n{end}")


def test_off_does_not_roll_back_what_the_proving_read_lacked():
    """It is not known what groups it had then."""
    steps = "read\nwrite e0:ad e1:as\nread | without e0\nisolate e0:i e1:i | e1 refused\nread\nread"
    play(off_of(World()), f"{steps}\n{LEFT} the read that verified the backup did not show")


def test_off_without_a_backup_rolls_nothing_back():
    steps = "read\nwrite e0:ad e1:as | refused\nisolate e0:i e1:i | e1 refused\nread"
    play(off_of(World(), WITHOUT_BACKUP), f"{steps}\n{LEFT} there is no backup, so a concurrent fencer")


def test_off_says_that_it_gave_back_the_only_interface_that_it_changed():
    run = off_of(World("e0:ad"), KEEP_UNTRACK)
    play(run, "read\nwrite e0:ad\nread\nuntrack e0:o\nisolate e0:i | e0 refused\nroll back e0:ad\nread\nread")
    end = "is not isolated: eni-00000000000000000: not permitted; the changes were rolled back"
    play(run, f"fail: modification: i-0000000000000000a {end}")


def test_off_fails_where_the_backup_of_what_it_isolated_cannot_be_written_again():
    run = off_of(World())
    play(run, f"{REFUSED}\n* no tags\nread\nwrite e0:ad e1:as | refused\n{LEFT} an on ran concurrently")
    assert any(ORIGINALS in line for line in run.log)


def test_off_names_the_originals_where_there_is_no_room_to_write_them_again():
    run = off_of(World())
    play(run, f"{REFUSED}\n* no tags")
    run.world.tags.update({f"user{n}": "" for n in range(50)})
    play(run, "read\nfail: partial:")
    assert any("EC2 allows only" in line for line in run.log)


def test_off_writes_with_the_time_that_is_kept_what_stays_isolated():
    run = off_of(World())
    play(run, f"{REFUSED}\n* no tags\nread")
    tick = run.tick()
    assert run.decide(run.plan, run.knowledge, tick).ends == tick.reserve_ends


def test_off_isolates_what_it_untracked_and_reads_so_beside_another_fencer():
    """An untracking that arrives late."""
    first, second = two(KEEP_UNTRACK)
    play(
        first,
        f"""{BACKUP}
        untrack e0:o e1:o   | e0 lost before, e1 refused
        isolate e0:i
        B: read
        B: look up          | i1
        B: write e0:ad e1:as
        * groups e0:o
        wait read
        pause isolate e0:i
        fail: partial:
        """,
        B=second,
    )
    assert shown(first.world.groups) == "e0:i e1:as"


def test_off_leaves_to_another_fencer_what_that_one_untracks():
    first, second = two(KEEP_UNTRACK)
    play(
        first,
        f"""{BACKUP}
        untrack e0:o e1:o   | e1 refused
        B: read
        B: look up          | i1
        B: write e0:ad e1:as
        B: read
        B: untrack e0:o e1:o
        isolate e0:i
        read
        {LEFT} a concurrent fencer may have fenced it
        """,
        B=second,
    )


THROTTLED = "isolate e0:i e1:i | e1 throttled\nread"


@pytest.mark.parametrize(
    ("why", "steps"),
    [
        ("something is isolated", "isolate e0:i e1:i | e1 refused\nread\nwrite e0:ad e1:as\nfail: partial:"),
        ("it was written again", f"{THROTTLED}\nwrite e0:ad e1:as\npause isolate e1:i | e1 refused\nread\nfail: "),
        ("nothing is", "isolate e0:i e1:i | e0 refused, e1 refused\nfail: modification:"),
    ],
)
def test_off_that_is_refused_writes_its_backup_again_if_an_on_has_claimed_it(why, steps):
    world = World()
    other = on_of(world)
    play(off_of(world), f"{BACKUP}\nON: read\nON: claim\n{steps}", ON=other)


def test_off_reads_after_a_roll_back_though_that_fails():
    play(off_of(World()), f"{REFUSED}\nread\nroll back e0:ad\nread | refused\nfail: partial:")


def test_off_isolates_again_where_no_read_shows_what_it_rolled_back():
    play(off_of(World()), f"{REFUSED}\nread\nroll back e0:ad\nread | nothing\nisolate e0:i\nread\nfail: partial:")


@pytest.mark.parametrize(
    ("outcome", "end"),
    [
        ("", f"{LEFT} a concurrent fencer was detected;"),
        ("| e0 refused", "fail: partial: i-0000000000000000a is not completely isolated: eni-00000000000000000: not"),
    ],
)
def test_off_says_whether_it_isolated_again_what_it_rolled_back(outcome, end):
    first, second = two()
    play(
        first,
        f"""{REFUSED}
        read
        B: read
        B: write e0:ad e1:as
        roll back e0:ad
        read
        isolate e0:i        {outcome}
        read
        {end}
        """,
        B=second,
    )
    action = first.decide(first.plan, first.knowledge, first.tick()).action
    assert isinstance(action, Fail)
    assert ("and the restored interfaces were NOT isolated again" in action.text) is bool(outcome)


def test_off_says_that_what_it_rolled_back_may_be_open_where_the_last_read_failed():
    first, second = two()
    play(first, f"{REFUSED}\nread\nB: read\nB: write e0:ad e1:as\n* 43 s", B=second)
    play(first, "roll back e0:ad | e0 lost before\nread\nisolate e0:i | e0 refused\nread\nwait read | refused")
    action = first.decide(first.plan, first.knowledge, first.tick()).action
    assert isinstance(action, Fail)
    assert "and the restored interfaces were NOT isolated again" in action.text


def test_off_says_once_that_there_was_no_time_to_isolate_again_what_it_rolled_back():
    first, second = two()
    play(first, f"{REFUSED}\nread\nB: read\nB: write e0:ad e1:as\nroll back e0:ad\nread", B=second)
    play(first, f"isolate e0:i | e0 throttled\n* 50 s\n{LEFT} a concurrent fencer was detected, and the")
    assert not any("still have untrack_secg" in line for line in first.log)


def test_off_rolls_back_nothing_where_every_change_was_refused():
    run = off_of(World())
    play(run, f"{BACKUP}\nisolate e0:i e1:i | e0 refused, e1 refused\nfail: modification:")
    assert not any("original groups" in line for line in run.log)


def test_off_rolls_back_nothing_after_an_unknown_outcome():
    run = off_of(World())
    play(
        run,
        f"""{BACKUP}
        isolate e0:i e1:i   | e0 lost before, e1 refused
        read
        fail: partial:
        """,
    )


def test_off_rolls_back_nothing_beside_another_fencer():
    first, second = two()
    play(first, f"{REFUSED}\nB: read\nB: write e0:ad e1:as\nread\n{LEFT} a concurrent fencer may", B=second)
    assert shown(first.world.groups) == "e0:i e1:as"


def test_off_rolls_back_nothing_where_no_read_shows_the_instance():
    play(off_of(World()), f"{REFUSED}\nread | nothing\n{LEFT} no read shows it")


def test_off_rolls_back_nothing_that_it_did_not_change():
    play(
        off_of(World("e0:d e1:as"), REMOVE),
        """
        read
        write e0:d e1:as
        read
        isolate e0:d e1:s   | e1 refused
        read
        read
        fail: modification:
        """,
    )


def test_off_says_that_the_other_backup_is_its_own():
    """An earlier backup of this run: another fencer may have read it, but none is known."""
    run = off_of(World())
    play(
        run,
        f"""{BACKUP}
        isolate e0:i e1:i   | e1 throttled
        read                | no tags
        write e0:ad e1:as
        pause isolate e1:i  | e1 refused
        read
        fail: partial: i-0000000000000000a is not completely isolated: eni-11111111111111111: not permitted; \
eni-00000000000000000 not rolled back: an earlier backup of this run
        """,
    )


def test_off_says_that_an_on_came_in_between_and_writes_the_backup_again():
    play(
        off_of(World()),
        f"""{REFUSED}
        * no tags
        read
        write e0:ad e1:as
        fail: partial: i-0000000000000000a is not completely isolated: eni-11111111111111111: not permitted; \
eni-00000000000000000 not rolled back: an on ran concurrently
        """,
    )


def test_off_isolates_again_what_it_rolled_back_beside_another_fencer():
    first, second = two()
    play(
        first,
        f"""{REFUSED}
        read
        B: read
        B: write e0:ad e1:as
        B: read
        B: isolate e0:i e1:i
        roll back e0:ad
        read
        isolate e0:i        | e0 throttled
        pause isolate e0:i
        read
        fail: partial:
        """,
        B=second,
    )
    assert shown(first.world.groups) == "e0:i e1:i"


def test_off_isolates_nothing_again_behind_a_read_without_tags():
    """After a roll-back: an on has brought it back, or the read is behind."""
    play(
        off_of(World()),
        f"""{REFUSED}
        read
        roll back e0:ad
        * no tags
        read
        pause read
        pause read
        fail: modification:
        """,
    )


def test_off_says_what_a_refused_roll_back_leaves_isolated():
    run = off_of(World())
    play(run, f"{REFUSED}\nread\nroll back e0:ad | e0 refused\nread\n{LEFT} not permitted")
    assert not any("still have untrack_secg" in line for line in run.log)


# --- untracking ------------------------------------------------------------------------------------------------


def test_off_untracks_again_what_was_throttled_and_isolates_in_between():
    play(
        off_of(World(), KEEP_UNTRACK),
        f"""{BACKUP}
        untrack e0:o e1:o   | e1 throttled
        isolate e0:i e1:i
        read
        pause untrack e1:o
        isolate e1:i
        read
        success
        """,
    )


@pytest.mark.parametrize("fails", ["lost before", "throttled"])
def test_off_does_not_untrack_what_another_fencer_has_isolated(fails):
    """That one may have reported success, and the latest read shows its backup."""
    first, second = two(KEEP_UNTRACK)
    play(
        first,
        f"""{BACKUP}
        untrack e0:o e1:o   | e1 {fails}
        B: read
        B: look up          | i1
        B: write e0:ad e1:as
        B: read
        B: untrack e0:o e1:o
        B: isolate e0:i e1:i
        B: read
        B: success
        isolate e0:i e1:i
        read
        write e0:ad e1:as
        """,
        B=second,
    )
    ends = "wait isolate e1:i\n" if fails == "lost before" else ""
    refusal = "i-0000000000000000a is isolated, but EC2 accepted no change of eni-11111111111111111"
    play(first, f"{ends}fail: modification: {refusal}")


def test_off_does_not_untrack_in_a_later_round_what_another_fencer_has_isolated():
    first, second = two(KEEP_UNTRACK)
    play(
        first,
        f"""{BACKUP}
        untrack e0:o e1:o   | e1 throttled
        isolate e0:i e1:i   | e1 throttled
        B: read
        B: look up          | i1
        B: write e0:ad e1:as
        B: read
        B: untrack e1:o
        B: isolate e0:i e1:i
        read
        write e0:ad e1:as
        pause isolate e1:i
        read
        fail: modification: i-0000000000000000a is isolated, but EC2 accepted no change of eni-11111111111111111
        """,
        B=second,
    )


def test_off_isolates_what_is_not_isolated_yet_before_it_gives_up_untracking():
    world = World("e0:i e1:as")
    first, second = off_of(world, KEEP_UNTRACK, nonce=1), off_of(world, KEEP_UNTRACK, nonce=2, skew=3)
    play(first, "read\n" + 8 * "pause read\n" + "write e0:i e1:as\nread\nuntrack e1:o | e1 throttled")
    play(
        first,
        """
        B: read
        B: look up          | i1
        B: write e0:i e1:as
        B: read
        B: untrack e1:o
        B: isolate e0:i e1:i
        isolate e0:i e1:i   | e0 throttled
        read
        write e0:i e1:as
        pause isolate e0:i
        read
        fail: modification: i-0000000000000000a is isolated, but EC2 accepted no change of eni-11111111111111111
        """,
        B=second,
    )


def test_off_isolates_again_what_reads_open_though_it_may_not_be_untracked_any_more():
    lost = "untrack e1:o | e1 lost before\nisolate e1:i\nread\npause "
    play(
        off_of(World("e1:as"), KEEP_UNTRACK),
        f"""
        read
        write e1:as
        read
        {lost}{lost}untrack e1:o | e1 lost before
        isolate e1:i
        * groups e1:as
        read
        pause isolate e1:i
        """,
    )


def test_off_ends_with_what_it_opened_where_there_is_no_time_to_close_it():
    run = off_of(World(), KEEP_UNTRACK)
    play(run, f"{BACKUP}\nuntrack e0:o e1:o\n* 50 s\nread | refused\nfail: modification:")
    assert messages.left_untracking(run.plan.id, [eni("e0"), eni("e1")], "no time left") in run.log


def test_off_says_why_it_could_not_close_what_it_opened():
    run = off_of(World(), KEEP_UNTRACK)
    play(run, f"{BACKUP}\nuntrack e0:o e1:o\nisolate e0:i e1:i | e0 throttled, e1 throttled\n* 50 s")
    play(run, "read | refused\nfail: modification:")
    assert messages.left_untracking(run.plan.id, [eni("e0"), eni("e1")], "throttled") in run.log


def test_off_untracks_three_times_at_most_and_leaves_nothing_open():
    """Each reply is lost; the last request may arrive until five seconds later."""
    run = off_of(World(), KEEP_UNTRACK)
    play(
        run,
        f"""{BACKUP}
        untrack e0:o e1:o   | e1 lost
        isolate e0:i e1:i
        read
        pause untrack e1:o  | e1 lost
        isolate e1:i
        read
        pause untrack e1:o  | e1 lost before
        isolate e1:i
        read
        * groups e1:o
        wait isolate e1:i
        fail: modification: i-0000000000000000a is isolated, but EC2 accepted no change of eni-11111111111111111
        """,
    )
    assert shown(run.world.groups) == "e0:i e1:i"


def test_off_succeeds_by_a_read_after_the_last_moment_of_a_late_untracking():
    run = off_of(World(), KEEP_UNTRACK)
    play(run, f"{BACKUP}\nuntrack e0:o e1:o | e0 lost before")
    late_until = run.world.now + 5
    play(run, "isolate e0:i e1:i\nread\npause untrack e0:o\nisolate e0:i\nread\n" + 3 * "settle\nread\n")
    assert run.world.now < late_until
    play(run, "settle\nread\nsuccess")
    assert run.world.now > late_until


def test_off_closes_a_late_untracking_that_arrives_between_two_reads():
    play(
        off_of(World(), KEEP_UNTRACK),
        f"""{BACKUP}
        untrack e0:o e1:o   | e0 lost before
        isolate e0:i e1:i
        read
        pause untrack e0:o
        isolate e0:i
        read
        settle
        * groups e0:o
        read
        write e0:ad e1:as
        pause read
        pause isolate e0:i
        read
        """,
    )


def test_off_closes_what_it_opened_though_its_time_is_over():
    run = off_of(World(), KEEP_UNTRACK)
    play(
        run,
        f"""{BACKUP}
        untrack e0:o e1:o
        * 41 s
        isolate e0:i e1:i   | e0 throttled
        pause isolate e0:i
        read
        """,
    )
    assert shown(run.world.groups) == "e0:i e1:i"


def test_off_closes_at_once_where_a_refusal_ends_it_anyway():
    """It does not wait until the network has seen it open."""
    run = off_of(World(), KEEP_UNTRACK, settle_seconds=5)
    play(run, f"{BACKUP}\nuntrack e0:o e1:o | e1 refused\nisolate e0:i")


def test_off_does_not_wait_for_the_network_where_nothing_is_open():
    run = off_of(World(), settle_seconds=10)
    play(run, f"{BACKUP}\nisolate e0:i e1:i | e1 throttled\nread\npause isolate e1:i")
    assert run.world.now - run.begun < 10


@pytest.mark.parametrize(("spec", "open_"), [(KEEP, False), (KEEP_UNTRACK, True)], ids=["nothing", "what it opened"])
def test_off_isolates_what_it_opened_with_the_time_that_is_kept(spec, open_):
    run = off_of(World(), spec)
    play(run, f"{BACKUP}\nuntrack e0:o e1:o" if open_ else BACKUP)
    tick = run.tick()
    assert run.decide(run.plan, run.knowledge, tick).ends == (tick.reserve_ends if open_ else tick.ends)


def test_off_untracks_beside_another_fencer_what_reads_open():
    first, second = two(KEEP_UNTRACK)
    play(
        first,
        """
        read
        write e0:ad e1:as
        B: read
        B: look up          | i1
        B: write e0:ad e1:as
        read
        untrack e0:o e1:o
        """,
        B=second,
    )


def test_off_gives_groups_back_before_it_isolates_what_is_throttled():
    """Otherwise it would stay open to all for as long as that takes."""
    play(
        off_of(World(), KEEP_UNTRACK),
        f"""{BACKUP}
        untrack e0:o e1:o
        isolate e0:i e1:i   | e0 throttled, e1 refused
        roll back e1:as     | e1 throttled
        pause isolate e0:i
        roll back e1:as     | e1 throttled
        pause roll back e1:as
        read
        """,
    )


def test_off_gives_groups_back_without_a_pause_at_each_attempt():
    play(
        off_of(World(), KEEP_UNTRACK),
        f"""{BACKUP}
        untrack e0:o e1:o
        isolate e0:i e1:i   | e0 throttled
        pause isolate e0:i  | e0 refused
        roll back e0:ad
        """,
    )


def test_off_gives_back_the_original_groups_where_it_was_left_untracking():
    world = World()
    play(off_of(world, KEEP_UNTRACK), f"{BACKUP}\nuntrack e0:o e1:o")
    again = BACKUP.replace("write", "look up | i1\nwrite")
    steps = f"{again}\nuntrack e0:o e1:o\nisolate e0:i e1:i | e0 refused\nroll back e0:ad"
    play(off_of(world, KEEP_UNTRACK), steps)


def late(outcome: str, **options: float) -> Run:
    """A failed read, and an untracking that may still arrive, which is closed with this outcome."""
    run = off_of(World(), KEEP_UNTRACK, **options)
    play(run, f"{BACKUP}\nuntrack e0:o e1:o | e1 lost before\nisolate e0:i e1:i\nread | refused")
    play(run, f"wait isolate e1:i {outcome}")
    return run


def test_off_closes_what_may_arrive_late_until_that_is_accepted_or_refused():
    run = late("")
    play(run, "fail: modification:")
    assert any(ORIGINALS in line for line in run.log), "no later read shows the backup"
    play(late("| e1 throttled"), "pause isolate e1:i\nfail: modification:")
    play(late("| e1 refused"), "roll back e1:as\nfail: modification:")


def test_off_does_not_wait_for_what_may_arrive_after_its_time():
    run = off_of(World(), KEEP_UNTRACK, api_seconds=100.0)
    play(run, f"{BACKUP}\nuntrack e0:o e1:o | e1 lost before\nisolate e0:i e1:i\n* 50 s\nread | refused\nfail: modif")


def test_off_that_is_interrupted_closes_what_it_opened_and_changes_nothing_else():
    run = off_of(World(), KEEP_UNTRACK)
    play(run, BACKUP)
    tick = run.tick()
    step = run.decide(run.plan, run.knowledge, tick)
    known = close_after_interrupt(run.plan, step.knowledge, step.action, tick)
    assert end(run.plan, known, tick).action == SetGroups(Change.ISOLATE, FrozenMap(parsed("e0:i e1:i")))
    over = replace(tick, now=tick.reserve_ends)
    ended = end(run.plan, known, over)
    assert isinstance(ended.action, Fail)
    assert "may still have untrack_secg" in ended.notes[0].text
    run = off_of(World(), BOTH)
    play(run, f"{BACKUP}\nisolate e0:ij e1:ij | e0 no group, e1 no group")
    step = run.decide(run.plan, run.knowledge, run.tick())
    assert isinstance(step.action, LookUpGroups)
    known = close_after_interrupt(run.plan, step.knowledge, step.action, run.tick())
    assert isinstance(end(run.plan, known, run.tick()).action, Fail)


def test_off_gives_its_groups_back_where_what_it_opened_cannot_be_isolated():
    run = off_of(World(), KEEP_UNTRACK)
    play(
        run,
        f"""{BACKUP}
        untrack e0:o e1:o
        isolate e0:i e1:i   | e1 refused
        roll back e1:as
        read
        roll back e0:ad
        read
        fail: modification:
        """,
    )


def test_off_says_what_it_could_neither_isolate_nor_give_back():
    run = off_of(World(), KEEP_UNTRACK)
    play(run, f"{BACKUP}\nuntrack e0:o e1:o\nisolate e0:i e1:i | e1 refused\nroll back e1:as | e1 refused\nread")
    assert run.log[-1] == messages.left_untracking(run.plan.id, [eni("e1")], "not permitted")


def test_off_isolates_what_is_open_at_once_when_its_time_is_over():
    run = off_of(World(), KEEP_UNTRACK, settle_seconds=5)
    play(run, "read\nwrite e0:ad e1:as\nread\n* 39 s\nuntrack e0:o e1:o\n* 1 s\nisolate e0:i e1:i")
    play(run, "read\nsettle\nfail: deadline")


def test_off_does_not_wait_for_the_network_where_no_untracking_was_accepted():
    run = off_of(World(), KEEP_UNTRACK, settle_seconds=5)
    play(run, f"{BACKUP}\nuntrack e0:o e1:o | e0 lost, e1 lost\nisolate e0:i e1:i")


@pytest.mark.parametrize(
    ("why", "steps"),
    [
        ("an untracking", "isolate e0:i e1:i | e0 refused\nroll back e0:ad"),
        ("giving groups back", "isolate e0:i e1:i | e1 refused\nroll back e1:as | e1 lost\npause roll back e1:as"),
    ],
)
def test_off_rolls_back_nothing_after_an_unknown_outcome_of(why, steps):
    lost = "| e0 lost" if why == "an untracking" else ""
    run = off_of(World(), KEEP_UNTRACK)
    play(run, f"{BACKUP}\nuntrack e0:o e1:o {lost}\n{steps}")
    wait = "wait " if lost or "lost" in steps else ""
    play(run, f"{wait}read\nfail: partial:")
    action = run.decide(run.plan, run.knowledge, run.tick()).action
    assert isinstance(action, Fail)
    assert "the outcome of a change is unknown" in action.text


def test_off_names_the_originals_of_what_it_may_have_untracked_where_there_is_no_time():
    run = off_of(World(), KEEP_UNTRACK)
    play(run, f"{BACKUP}\nuntrack e0:o e1:o | e0 lost, e1 throttled\n* 50 s\nread | refused\nfail: modification:")
    assert any(ORIGINALS in line for line in run.log)


GIVEN_BACK = "isolate e0:i e1:i | e1 refused\n"


@pytest.mark.parametrize(
    ("why", "steps"),
    [
        ("twice", "isolate e0:i e1:i | e1 gone\npause isolate e1:i | e1 gone\nread"),
        ("twice", f"{GIVEN_BACK}roll back e1:as | e1 gone\npause roll back e1:as | e1 gone\nread"),
        ("once", "isolate e0:i e1:i | e1 gone\npause isolate e1:i | e1 throttled\npause isolate e1:i"),
        ("once", f"{GIVEN_BACK}roll back e1:as | e1 gone\npause roll back e1:as | e1 lost\npause roll back e1:as"),
        ("once, after", "isolate e0:i e1:i | e1 throttled\npause isolate e1:i | e1 gone\npause isolate e1:i"),
    ],
)
def test_off_tries_to_close_until_ec2_has_said_twice_that_it_is_gone(why, steps):
    run = off_of(World(), KEEP_UNTRACK)
    play(run, f"{BACKUP}\nuntrack e0:o e1:o\n{steps}")
    warned = any("still have untrack_secg" in line for line in run.log)
    assert warned is (why == "twice" and GIVEN_BACK in steps), "it was there when EC2 refused to isolate it"


def test_off_does_not_give_back_what_it_rolled_back_beside_another_fencer():
    """It has its groups; that fencer may isolate it."""
    first, second = two(KEEP_UNTRACK)
    play(
        first,
        f"""{BACKUP}
        untrack e0:o e1:o   | e1 refused
        isolate e0:i
        read
        B: read
        B: look up          | i1
        B: write e0:ad e1:as
        roll back e0:ad
        read
        isolate e0:i        | e0 refused
        read
        fail: partial:
        """,
        B=second,
    )


def test_off_gives_groups_back_though_the_latest_read_does_not_show_the_instance():
    run = off_of(World(), KEEP_UNTRACK)
    play(run, f"{BACKUP}\n* 38 s\nuntrack e0:o e1:o | e1 lost before\nisolate e0:i e1:i\n* 2 s\nread | nothing")
    play(run, "wait isolate e1:i | e1 no group\nroll back e1:as\nfail: deadline:")


# --- several VPCs, groups that are gone ------------------------------------------------------------------------

BOTH = IsolationSpec((ISO, ISO2), keep_only=True)


def two_vpcs(interfaces: str = "e0:ad e1:as") -> World:
    world = World(interfaces)
    world.vpcs[eni("e1")] = "vpc-2"
    return world


def test_off_looks_up_the_groups_before_it_opens_a_node_that_they_may_not_close():
    spec = IsolationSpec((ISO, ISO2), keep_only=True, untrack=OPEN)
    steps = "read\nlook up | i1j1\nwrite e0:ad e1:as\nread\nuntrack e0:o e1:o\nisolate e0:ij e1:ij"
    play(off_of(World(), spec), steps)


@pytest.mark.parametrize(
    ("interfaces", "earlier", "spec", "second"),
    [
        ("e0:ad e1:as", True, KEEP_UNTRACK, "look up | i1\nwrite e0:ad e1:as"),
        ("e0:i e1:as", True, KEEP_UNTRACK, "look up | i1\nwrite e0:ad e1:as"),
        ("e0:i e1:i", True, KEEP_UNTRACK, "write e0:ad e1:as"),
        ("e0:ad e1:as", False, KEEP_UNTRACK, "write e0:ad e1:as"),
        ("e0:ad e1:as", True, KEEP, "write e0:ad e1:as"),
        ("e0:ad e1:as", True, REMOVE_UNTRACK, "write e0:ad e1:as"),
    ],
)
def test_off_looks_up_the_only_group_before_it_opens_a_node_that_an_earlier_off_did_not_isolate(
    interfaces, earlier, spec, second
):
    world = World()
    if earlier:
        play(off_of(world, spec), "read\nwrite e0:ad e1:as")
    world.groups.update(parsed(interfaces))
    play(off_of(world, spec, skew=1), f"read\n{second}")


def test_off_opens_nothing_when_its_group_is_gone_and_an_earlier_off_failed():
    world = World()
    play(
        off_of(world, KEEP_UNTRACK),
        f"""{BACKUP}
        untrack e0:o e1:o
        isolate e0:i e1:i | e0 no group, e1 no group
        """,
    )
    world.groups.update(parsed("e0:ad e1:as"))
    refusal = "fail: validation: i-0000000000000000a cannot be isolated: no group of secg (sg-"
    play(off_of(world, KEEP_UNTRACK, skew=1), f"read\nlook up |\n{refusal}")
    play(off_of(world, KEEP_UNTRACK, skew=2), "read\nlook up | refused\nwrite e0:ad e1:as\nread\nuntrack e0:o e1:o")


GONE = "look up | i1"
DROPPED = [messages.group_dropped(i, ISO2) for i in ("i-0000000000000000a", eni("e0"), eni("e1"))]


@pytest.mark.parametrize(
    ("why", "first", "look_up", "isolated", "dropped"),
    [
        ("both are unclear", "e0 no group, e1 no group", GONE, "e0:i e1:i", DROPPED),
        ("EC2 names it", "e0 no iso2, e1 no iso2", "", "e0:i e1:i", DROPPED[1:]),
        ("EC2 names it for one", "e0 no iso2, e1 no group", GONE, "e0:i e1:i", DROPPED),
        ("one is accepted", "e1 no group", GONE, "e1:i", [DROPPED[0], DROPPED[2]]),
        ("the look-up fails", "e0 no group, e1 no group", "look up | refused", "e0:i e1:i", []),
        ("the look-up shows nothing", "e0 no group, e1 no group", "look up |", "e0:i e1:i", []),
    ],
)
def test_off_isolates_with_what_is_left_of_several_groups(why, first, look_up, isolated, dropped):
    run = off_of(World(), BOTH)
    play(run, f"{BACKUP}\nisolate e0:ij e1:ij | {first}\n{look_up}\nisolate {isolated}")
    assert sorted(line for line in run.log if "of secg" in line) == sorted(dropped), why


def test_off_remembers_which_groups_were_refused():
    run = off_of(World(), BOTH)
    play(run, f"{BACKUP}\nisolate e0:ij e1:ij | e0 no group, e1 no group\nlook up | refused")
    play(run, "isolate e0:i e1:i | e0 no group, e1 no group\nisolate e0:j e1:j | e0 no group, e1 no group\nfail: ")


def test_off_looks_up_what_is_unclear_though_an_earlier_attempt_had_another_outcome():
    throttled = "isolate e0:ij e1:ij | e0 throttled, e1 throttled\nread\npause "
    run = off_of(World(), BOTH)
    play(run, f"{BACKUP}\n{throttled}isolate e0:ij e1:ij | e0 no group, e1 no group\n{GONE}\nisolate e0:i e1:i")
    run = off_of(World(), BOTH)
    play(run, f"{BACKUP}\n{throttled}isolate e0:ij e1:ij | e0 no iso2, e1 no group\n{GONE}\nisolate e0:i e1:i")


def test_off_does_not_count_as_done_what_ec2_has_refused_since():
    run = off_of(World(), BOTH)
    play(run, f"{BACKUP}\nisolate e0:ij e1:ij\n* groups e0:ad\nread\nwrite e0:ad e1:as\npause read")
    play(run, "pause isolate e0:ij | e0 no iso2")
    assert not run.knowledge.interfaces[eni("e0")].accepted


def test_off_looks_up_a_refusal_where_what_it_opened_is_closed_by_then():
    run = off_of(World("e0:i e1:as"), KEEP_UNTRACK)
    play(run, "read\n" + 8 * "pause read\n" + "write e0:i e1:as\nread\nuntrack e1:o")
    play(run, "isolate e0:i e1:i | e0 no group\nlook up | i1")


def test_off_in_removal_mode_looks_up_nothing():
    play(off_of(two_vpcs(), REMOVE), "read\nwrite e0:ad e1:as\nread\nisolate e0:d e1:s")


def test_off_is_refused_where_no_group_fits_a_vpc():
    refusal = "fail: validation: no group of secg (sg-"
    play(off_of(two_vpcs(), BOTH), f"read\nlook up | i1j1\n{refusal}")


def test_off_looks_up_the_groups_of_what_it_read_last():
    play(
        off_of(two_vpcs("e0:i e1:a"), BOTH),
        "read\n* groups e1:d\n" + 8 * "pause read\n" + "look up | i1j2\nwrite e0:i e1:d",
    )
    play(
        off_of(two_vpcs("e0:i e1:a"), BOTH),
        "read\n" + 7 * "pause read\n" + "pause read | nothing\nlook up | i1j2\nwrite e0:i e1:a",
    )


def test_off_looks_up_which_group_fits_which_vpc():
    world = World()
    world.vpcs[eni("e1")] = "vpc-2"
    play(off_of(world, BOTH), "read\nlook up | i1j2\nwrite e0:ad e1:as\nread\nisolate e0:i e1:j\nread\nsuccess")


def test_off_looks_up_the_groups_when_one_of_them_is_gone():
    play(
        off_of(World(), BOTH),
        f"""{BACKUP}
        isolate e0:ij e1:ij | e0 no group, e1 no group
        look up             | i1
        isolate e0:i e1:i
        read
        success
        """,
    )


# --- the stop, if success requires it --------------------------------------------------------------------------


REQUESTED = f"{BACKUP}\nisolate e0:i e1:i\nread\nstop"


def stopping_off(**options):
    return off_of(World(), power=True, stop=True, settle_seconds=5, **options)


def test_a_required_stop_is_requested_at_once_and_success_waits_for_it():
    play(
        stopping_off(),
        f"""
        {REQUESTED}
        pause read
        settle
        read
        pause read
        * state stopped
        pause read
        success
        """,
    )


def test_an_instance_that_has_stopped_within_settle_time_adds_no_wait():
    play(stopping_off(), f"{REQUESTED}\n* state stopped\npause read\nsettle\nread\nsuccess")


def test_a_stop_that_reads_do_not_show_is_requested_again():
    play(
        stopping_off(),
        f"""
        {REQUESTED}
        * state running
        pause read
        stop
        pause read
        settle
        read
        * state running
        pause read
        stop
        """,
    )


@pytest.mark.parametrize("answer", ["", " | refused"])
@pytest.mark.parametrize("state", ["stopping", "stopped"])
def test_what_stops_already_is_stopped_once_more(state, answer):
    """The guest may hang in its shutdown, and the read may be older than a start."""
    run = stopping_off(ignore_instance_state=True)
    isolated = f"* state {state}\n{REQUESTED}{answer}"
    play(run, f"{isolated}\n* state {state}\npause read\nsettle\nread\n* state stopped\n")
    play(run, "success" if state == "stopped" else "pause read\nsuccess")


@pytest.mark.parametrize("state", ["stopping", "stopped"])
def test_an_off_that_is_repeated_waits_for_the_stop_of_the_earlier_one(state):
    world = World()
    play(off_of(world, power=True, stop=True), REQUESTED)
    world.state = state
    play(off_of(world, power=True, stop=True, nonce=2), REQUESTED)
    play(off_of(world, power=True, nonce=3), "read\nwrite e0:ad e1:as\nread\nisolate e0:i e1:i\nread\nsuccess")
    play(off_of(world, nonce=4), "read\nfail: state:")


@pytest.mark.parametrize(("state", "interfaces"), [("pending", "e0:i e1:i"), ("stopped", "e0:ad e1:i")])
def test_an_off_is_not_repeated_where_the_instance_is_not_as_the_earlier_one_left_it(state, interfaces):
    world = World()
    play(off_of(world, power=True, stop=True), REQUESTED)
    world.state = state
    world.groups.update(parsed(interfaces))
    play(off_of(world, power=True, stop=True, nonce=2), "read\nfail: state:")


def test_an_instance_that_starts_is_stopped_as_soon_as_ec2_permits_it():
    play(
        stopping_off(ignore_instance_state=True),
        f"""
        * state pending
        {BACKUP}
        isolate e0:i e1:i
        read
        settle
        read
        pause read
        * state running
        pause read
        stop | not now
        pause read
        stop
        * state stopped
        pause read
        success
        """,
    )


@pytest.mark.parametrize("answer", ["refused", "lost"])
def test_a_required_stop_that_fails_ends_off_and_leaves_it_isolated(answer):
    run = stopping_off()
    play(run, f"{REQUESTED} | {answer}\nfail: modification: i-0000000000000000a is isol")
    assert not any("save the original groups" in line for line in run.log)


def test_what_is_opened_again_during_the_stop_is_isolated_again():
    play(
        stopping_off(),
        f"""
        {REQUESTED}
        * groups e1:as
        pause read
        write e0:ad e1:as
        pause read
        pause isolate e1:i
        read
        settle
        read
        * state stopped
        pause read
        success
        """,
    )


def test_a_stop_that_does_not_end_fails_at_the_deadline():
    run = stopping_off()
    play(run, f"{REQUESTED}\npause read\nsettle\nread\n* 45 s")
    error = messages.not_stopped(run.plan.id, Category.DEADLINE, messages.stop_not_finished("stopping", 45.0))
    play(run, f"fail: deadline: {error.text}")


UNVERIFIED = "fail: modification: cannot verify that i-0000000000000000a is isolated: not permitted"


@pytest.mark.parametrize(
    ("before", "earlier"),
    [
        ("pause read\nsettle\nread\n", "; earlier: its stop: EC2 showed it as stopping; "),
        ("* state stopped\npause read\n", "; isolated interfaces"),  # a read before the end of settle_time
        ("pause read | nothing\n", "; isolated interfaces"),
    ],
)
def test_a_read_that_fails_during_the_stop_does_not_hide_its_state(before, earlier):
    run = stopping_off()
    play(run, f"{REQUESTED}\n{before}")
    line = "settle\nread | refused" if "stopped" in before else "pause read | refused"
    play(run, f"{line}\n{UNVERIFIED}{earlier}")


def test_a_read_that_fails_before_the_stop_is_requested_says_nothing_of_it():
    steps = f"{BACKUP}\nisolate e0:i e1:i\nread | refused"
    play(stopping_off(), f"{steps}\n{UNVERIFIED}; isolated interfaces")


@pytest.mark.parametrize(
    ("steps", "earlier"),
    [
        ("isolate e0:i e1:i | e1 throttled\nread\npause isolate e1:i\n", ""),
        ("isolate e0:i e1:i\nread | stale groups\nwrite e0:ad e1:as\npause ", "; earlier: eni-0"),
    ],
)
def test_a_read_that_fails_does_not_hide_what_was_read_since_the_groups_were_changed(steps, earlier):
    """Only that: what was read before says nothing of the change."""
    play(off_of(World()), f"{BACKUP}\n{steps}read | refused\n{UNVERIFIED}{earlier or '; isolated interfaces'}")


def test_no_stop_is_requested_without_time_for_it():
    run = stopping_off()
    play(run, f"{BACKUP}\nisolate e0:i e1:i\n* 42 s\nread\nfail: deadline: i-0000000000000000a is isolated but")
