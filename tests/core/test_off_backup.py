"""What ``off`` writes, reads and does without, of its backup; see transcript.py."""

from typing import Set

import pytest
from core.off_runs import BACKUP, NOT_PROVEN, ORIGINALS, WITHOUT_BACKUP, two
from core.transcript import (
    EPOCH,
    ID,
    ISO,
    KEEP,
    KEEP_UNTRACK,
    OPEN,
    OWN,
    REMOVE,
    World,
    eni,
    groups,
    off_of,
    on_of,
    play,
    shown,
)

from aws_vpc_net import messages
from aws_vpc_net.core.backup import read as read_tags
from aws_vpc_net.core.model import FrozenMap, IsolationSpec


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


@pytest.mark.parametrize(("others", "then"), [(40, "write e0:ad e1:as e2:as"), (45, "fail: tag: the backup of")])
def test_off_overwrites_nothing_that_only_a_backup_of_its_own_repeats_which_no_read_has_shown(others, then):
    """Another off may overwrite that one meanwhile, where both use keys again as room is short."""
    world = World("e0:ad e1:as", {f"user{n}": "" for n in range(others)})
    run = off_of(world)
    play(run, f"{BACKUP}\nisolate e0:i e1:i\n* detach e1")
    play(off_of(world, nonce=77, skew=3), "read\nwrite e0:ad")
    play(run, f"* attach e2:as\nread\nwrite e0:ad e1:as\n{then}")
    assert sets_of(world, "e1") == {EPOCH + 100, EPOCH + 104}
    assert (EPOCH + 100 in sets_of(world, "e0")) == (others == 40), "used again only where none is free"


def test_off_isolates_a_new_interface_under_any_backup_of_its_own_that_a_read_shows():
    """The latest one may be overwritten in part by another off, and an earlier one be whole."""
    world = World()
    run = off_of(world)
    play(run, f"{BACKUP}\nisolate e0:i e1:i\n* attach e2:a\nread\nwrite e0:ad e1:as e2:a")
    play(off_of(world, nonce=77, skew=3), "read\nwrite e0:ad e1:as e2:a")
    play(run, "pause read\nwrite e0:ad e1:as e2:a\npause isolate e2:i\nread\nsuccess")


def sets_of(world: World, interface: str) -> Set[int]:
    """The times of its sets."""
    return set(read_tags(world.read("")).sets[eni(interface)])


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
