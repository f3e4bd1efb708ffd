"""What ``on`` does next, one transcript for each behaviour that safety depends on; see transcript.py."""

import pytest
from core.transcript import (
    EPOCH,
    ID,
    ISO,
    ISO2,
    KEEP,
    KEEP_UNTRACK,
    OWN,
    REMOVE,
    REMOVE_UNTRACK,
    Run,
    World,
    eni,
    groups,
    off_of,
    on_of,
    play,
    shown,
)

from aws_vpc_net import messages
from aws_vpc_net.core.backup import LASTFENCE, RETURNED, chunks_of
from aws_vpc_net.core.isolating import close_after_interrupt, end
from aws_vpc_net.core.model import FrozenMap, IsolationSpec
from aws_vpc_net.core.protocol import Change, Fail, Knowledge, Phase, Plan, Progress, Restore, SetGroups, Tick
from aws_vpc_net.core.tag_slots import make_backup

ORIGINALS = "eni-00000000000000000 had sg-11111111111111111, sg-22222222222222222"
OFF = "read\nwrite e0:ad e1:as\nread"
RESTORED = "read\nclaim\nrestore e0:ad e1:as"


def fenced(spec: IsolationSpec = KEEP) -> World:
    """The world after an off."""
    world = World()
    isolated = "e0:i e1:i" if spec.keep_only else "e0:d e1:s"
    untrack = "untrack e0:o e1:o" if spec.untrack else ""
    play(off_of(world, spec), f"{OFF}\n{untrack}\nisolate {isolated}\nread\nsuccess")
    return world


def new_off(run: Run, spec: IsolationSpec = KEEP) -> Run:
    """Another fencer, whose clock is ahead."""
    return off_of(run.world, spec, nonce=2, skew=9)


DELETED = "read\nclaim\nrestore e0:ad e1:as\nread\ndelete"


def in_progress() -> World:
    """An off was killed after it wrote its backup, or is still in progress."""
    world = World()
    play(off_of(world), OFF)
    return world


# --- the order of steps ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", [KEEP, REMOVE, KEEP_UNTRACK, REMOVE_UNTRACK])
def test_on_deletes_the_backup_after_a_read_that_shows_the_originals(spec):
    run = on_of(fenced(spec), spec)
    play(run, f"{RESTORED}\nread | stale groups\npause read\ndelete\nread\nsuccess")
    assert shown(run.world.groups) == "e0:ad e1:as"
    assert not run.world.tags


def test_on_sets_an_accepted_interface_again_after_two_wrong_reads():
    play(
        on_of(fenced()),
        f"""{RESTORED}
        read                | stale groups
        pause read          | stale groups
        pause restore e0:ad e1:as
        read
        delete
        read
        success
        """,
    )


def test_on_counts_wrong_reads_anew_after_each_change():
    steps = f"{RESTORED}\nread | stale groups\npause read | stale groups\npause restore e0:ad e1:as"
    play(on_of(fenced()), f"{steps}\n* groups e0:i e1:i\nread\npause read\npause restore e0:ad e1:as")


def test_on_counts_wrong_reads_in_a_row():
    steps = f"{RESTORED} | e1 throttled\nread\npause restore e1:as | e1 throttled"
    play(on_of(fenced()), f"{steps}\n* groups e0:i\nread\npause restore e1:as\nread\npause restore e0:ad")


def test_on_isolates_again_what_it_had_restored_though_a_later_attempt_failed():
    run = on_of(fenced())
    play(run, f"{RESTORED}\nread | stale groups\npause read | stale groups")
    play(run, "pause restore e0:ad e1:as | e0 throttled, e1 throttled")
    play(run, "off: read\noff: write e0:ad e1:as\nread\nisolate e0:i e1:i", off=new_off(run))


def test_on_says_that_it_has_written_the_backup_again():
    run = on_of(in_progress())
    play(run, f"{DELETED}\n* groups e0:i e1:i\nread\npause read\npause read\nwrite e0:ad e1:as")
    assert run.log[-1] == messages.backup_written(run.plan.id, 3, run.knowledge.backup.latest.time)


def test_on_sets_a_throttled_interface_again_at_once():
    play(on_of(fenced()), f"{RESTORED} | e1 throttled\nread\npause restore e1:as\nread\ndelete\nread\nsuccess")


def test_on_keeps_all_tags_where_one_interface_is_refused():
    run = on_of(fenced())
    tags = set(run.world.tags)
    play(run, f"{RESTORED} | e1 refused\nread\nfail: modification: i-0000000000000000a was not completely restored")
    assert set(run.world.tags) == tags


def test_on_of_a_node_that_was_never_fenced_succeeds():
    play(on_of(World()), "read\nsuccess")


def test_on_of_an_isolated_node_without_a_backup_fails():
    play(on_of(World("e0:i e1:i")), "read\npause read\npause read\nfail: backup:")


def test_on_of_an_instance_that_has_lost_its_name_is_refused():
    play(on_of(fenced()), "read | no name\nwait read | no name\nfail: instance: node1 named i-0000000000000000a and")
    play(on_of(fenced()), "read | no name\nwait read\nclaim\nrestore e0:ad e1:as")


def test_on_restores_the_backup_that_only_a_later_read_shows_of_a_finished_off():
    for claim in ("claim", "claim | refused"):
        steps = f"read | no tags\npause read\n{claim}\nrestore e0:ad e1:as\nread\ndelete\nread\nsuccess"
        play(on_of(fenced()), steps)


def test_two_off_of_the_same_second_and_an_on_lose_no_backup():
    """The second writes to the keys of the first, which has ended, and isolates while the on restores and deletes."""
    world = World()
    first, second, on = off_of(world), off_of(world, nonce=7 << 8), on_of(world, nonce=9)
    play(first, "B: read\nread\nwrite e0:ad e1:as\nread\nisolate e0:i e1:i\nread\nsuccess", B=second)
    play(second, "write e0:ad e1:as\nON: read\nON: claim\nON: restore e0:ad e1:as\nread\nisolate e0:i e1:i", ON=on)
    play(second, "read\nwrite e0:ad e1:as\nON: read\npause read\nsuccess", ON=on)
    play(on, "isolate e0:i e1:i\nread\nfail: restore:")
    play(on_of(world), f"{RESTORED}\nread\ndelete\nread\nsuccess")
    assert shown(world.groups) == "e0:ad e1:as"


@pytest.mark.parametrize("first", ["read", "read | no tags\npause read"])
def test_on_notices_a_second_off_of_the_same_second(first):
    """Its tags have the same keys and contents, and spaces of their own."""
    run = on_of(fenced())
    second = {k: f"{v[:-1]} }}" for k, v in run.world.tags.items() if k != LASTFENCE}
    play(run, f"{first}\nclaim\nrestore e0:ad e1:as")
    run.world.write(second)
    play(run, "read\nisolate e0:i e1:i")


def test_on_does_not_restore_a_backup_that_was_written_after_its_first_read():
    """The first read shows no backup, and one interface open: an off is in progress."""
    world = World("e0:i e1:as")
    run = on_of(world)
    play(run, "read")
    off = off_of(world)
    play(off, "read\n" + 8 * "pause read\n" + "write e0:i e1:as\nread\nisolate e0:i e1:i")
    play(run, "pause read\nfail: ")


def test_on_does_not_restore_beside_an_off_that_began_after_its_first_read():
    """All was isolated in that read, and it showed no tags. Now there are two backups, one of a finished off."""
    run = on_of(fenced())
    play(run, "read | no tags")
    play(new_off(run), "read\nwrite e0:ad e1:as\nread\nisolate e0:i e1:i\nread\nsuccess")
    play(run, "pause read\nfail: ")


def test_on_fails_when_time_is_over():
    play(on_of(fenced()), f"{RESTORED} | e1 throttled\n* 50 s\nread\nfail: deadline:")


def test_on_looks_at_what_it_opened_with_the_time_that_is_kept_for_it():
    """An off has succeeded meanwhile: it is isolated again."""
    world = fenced()
    run = on_of(world)
    play(run, "read")
    play(new_off(run), "read\nwrite e0:ad e1:as\nread\nisolate e0:i e1:i\nread\nsuccess")
    play(run, "claim\n* 41 s\nrestore e0:ad e1:as")
    tick = run.tick()
    assert run.decide(run.plan, run.knowledge, tick).ends == tick.reserve_ends
    play(run, "read\nisolate e0:i e1:i\nread\nfail: ")
    assert shown(world.groups) == "e0:i e1:i"


def test_on_reads_again_where_a_read_lacks_what_is_not_restored_yet():
    run = on_of(fenced())
    play(
        run,
        f"""{RESTORED}          | e1 throttled
        read                | without e1
        pause read
        pause restore e1:as
        read
        delete
        read
        success
        """,
    )
    assert shown(run.world.groups) == "e0:ad e1:as"


def test_on_names_the_groups_of_an_interface_that_went_away_before_it_was_restored():
    run = on_of(fenced())
    play(run, f"{RESTORED} | e1 throttled\nread | without e1\npause read | without e1\ndelete\n* detach e1\nread")
    play(run, "success")
    assert any("sg-33333333333333333" in line and "eni-11111111111111111" in line for line in run.log)


def test_on_fails_after_a_failed_read_and_keeps_the_tags():
    run = on_of(fenced())
    play(run, f"{RESTORED}\nread | refused\nfail: ")
    assert run.world.tags


def test_on_sets_static_groups_instead_of_the_backup():
    run = on_of(fenced(), static=FrozenMap({0: groups("s"), 1: groups("d")}))
    play(run, "read\nclaim\nrestore e0:s e1:d\nread\ndelete\nread\nsuccess")


def test_on_restores_an_interface_that_is_attached_again_meanwhile():
    play(
        on_of(fenced()),
        """
        * detach e1
        read
        claim
        restore e0:ad
        * attach e1:i
        read
        pause restore e1:as
        read
        delete
        read
        success
        """,
    )


@pytest.mark.parametrize(
    "steps",
    ["* detach e1\nread\nclaim\nrestore e0:ad", f"{RESTORED} | e1 gone\n* detach e1"],
    ids=["before", "since"],
)
def test_on_names_once_the_groups_of_an_interface_that_is_gone(steps):
    """By the read that shows it for the first time."""
    run = on_of(fenced())
    play(run, f"{steps}\nread" + ("\npause read" if "gone" in steps else "") + "\ndelete\nread\nsuccess")
    named = [line for line in run.log if "no longer attached" in line]
    assert named == [messages.detached(run.plan.id, eni("e1"), groups("as"))]


def test_on_names_the_groups_of_an_interface_that_is_gone_where_nothing_is_restored():
    """They are deleted with the backup, though no interface that is left has one."""
    run = on_of(fenced())
    play(run, "* detach e0\n* detach e1\n* attach e2:a\nread\nread\ndelete\nsuccess")
    for name in ("eni-00000000000000000", "eni-11111111111111111"):
        assert any(f"{name} of the backup is no longer attached" in line for line in run.log)


def test_on_that_is_to_restore_nothing_asks_nothing():
    run = on_of(fenced(), restore=Restore(ignored=True))
    play(run, "success")
    assert run.log == [messages.restore_skipped(run.plan.id)]


# --- the first read --------------------------------------------------------------------------------------------


def test_on_fails_after_a_first_read_that_failed():
    play(on_of(fenced()), "read | refused\nfail: modification: not permitted")


def test_on_reads_once_more_where_the_instance_is_not_shown():
    play(on_of(fenced()), "read | nothing\nwait read\nclaim\nrestore e0:ad e1:as")
    play(on_of(fenced()), "read | nothing\nwait read | nothing\nfail: instance:")


def test_on_deletes_what_it_has_claimed_though_a_read_shows_what_was_there_before():
    run = on_of(fenced())
    play(run, f"{RESTORED}\nread | stale tags\ndelete\nread\nsuccess")
    assert not run.world.tags


@pytest.mark.parametrize("gone", ["* detach e0\n* detach e1\n", ""])
def test_on_of_an_instance_that_is_terminated_meanwhile_fails(gone):
    """It deletes no tags: there is nothing to restore any more."""
    run = on_of(fenced())
    play(run, f"{RESTORED}\n{gone}* state terminated\nread\nfail: instance: i-0000000000000000a is terminated")


def test_on_of_a_terminated_instance_fails():
    run = on_of(fenced())
    run.world.state = "terminated"
    play(run, "read\nfail: instance: i-0000000000000000a is terminated")


def test_on_reads_again_for_a_backup_though_a_read_does_not_show_the_instance():
    play(on_of(fenced()), "read | no tags\npause read | nothing\npause read\nclaim\nrestore e0:ad e1:as")


def test_on_verifies_also_after_a_read_that_does_not_show_the_instance():
    play(on_of(fenced()), f"{RESTORED}\nread | nothing\npause read\ndelete\nread\nsuccess")


# --- backups that cannot be read, or not without secg -------------------------------------------------------------


def damaged(spec: IsolationSpec = KEEP) -> World:
    """Fenced, and the backup of e1 was cut off."""
    world = fenced(spec)
    key = next(c.key for c in chunks_of(world.tags, ID) if c.interface == eni("e1"))
    world.tags[key] = world.tags[key][:-3]
    return world


def test_on_deletes_no_tags_where_some_cannot_be_read_and_an_interface_is_still_isolated():
    """They may hold its original groups. By hand it can be completed."""
    run = on_of(damaged())
    play(run, "read\nclaim\nrestore e0:ad\nread\nfail: backup: i-0000000000000000a: eni-11111111111111111 is still")
    play(on_of(damaged()), "read\nclaim\nrestore e0:ad\n* groups e1:as\nread\ndelete\nread\nsuccess")
    nobody = on_of(damaged(), IsolationSpec(()))
    play(nobody, "read\nclaim\nrestore e0:ad\nread\nfail: backup: i-0000000000000000a: eni-1")
    alone = on_of(damaged(), IsolationSpec(()))
    play(alone, "* detach e1\nread\nclaim\nrestore e0:ad\nread\ndelete\nread\nsuccess")
    play(static(damaged(), n0="s", n1="d"), "read\nclaim\nrestore e0:s e1:d\nread\ndelete\nread\nsuccess")
    never_had_it = static(damaged(REMOVE), REMOVE, n0="a", n1="d")
    play(never_had_it, "read\nclaim\nrestore e0:a e1:d\nread\ndelete\nread\nsuccess")


def test_on_looks_for_tags_that_cannot_be_read_in_its_first_read_too():
    run = on_of(damaged())
    play(run, "read\nclaim\nrestore e0:ad\nread | no tags\nfail: backup: i-0000000000000000a: eni-1")


def test_on_does_not_take_isolation_that_a_repeated_off_has_recorded_for_the_original():
    world = damaged()
    cut = set(world.tags.items())
    run = off_of(world, nonce=7, skew=1000)
    play(run, "read\n" + 8 * "pause read\n" + "write e0:ad e1:i\nread\nisolate e0:i e1:i\nread\nsuccess")
    assert any("eni-11111111111111111 is isolated already, and the tags" in line for line in run.log)
    assert {item for item in cut if item[0] != LASTFENCE} <= set(world.tags.items())
    play(on_of(world), "read\nclaim\nrestore e0:ad e1:i\nread\nfail: backup: i-0000000000000000a: eni-1")


def test_on_without_secg_refuses_a_backup_that_counts_only_for_what_is_isolated():
    """Nobody can tell; it would be deleted."""
    world = fenced()
    del world.tags[LASTFENCE]
    healthy = World(tags=world.tags)
    end = "fail: backup: i-0000000000000000a: the backup of eni-00000000000000000, eni-1"
    play(on_of(world, IsolationSpec(())), f"read\n{end}")
    play(on_of(world), "read\nclaim\nrestore e0:ad e1:as\nread\ndelete\nread\nsuccess")
    play(on_of(healthy, IsolationSpec(())), "read\nsuccess")


def test_on_with_secg_leaves_what_is_open_and_has_an_older_backup():
    world = fenced()
    world.tags[LASTFENCE] = "1800000000"
    play(on_of(world), "* groups e1:o\nread\nclaim\nrestore e0:ad\nread\ndelete\nread\nsuccess")


def test_on_names_the_groups_of_another_backup_that_it_deletes():
    world = fenced()
    play(off_of(world, skew=1000), "* groups e0:o\nread\nwrite e0:o e1:as\nread\nisolate e0:i e1:i\nread\nsuccess")
    run = on_of(world)
    play(run, "read\nclaim\nrestore e0:o e1:as\nread\ndelete\nread\nsuccess")
    assert messages.other_backup(run.plan.id, eni("e0"), groups("ad"), groups("o")) in run.log
    assert sum("another backup" in line for line in run.log) == 1


def test_on_does_not_name_isolating_groups_of_another_backup():
    world = World("e0:ad e1:i")
    play(off_of(world), "read\n" + 8 * "pause read\n" + "write e0:ad e1:i\n* groups e1:as")
    play(off_of(world, skew=1000), "read\nwrite e0:ad e1:as\nread\nisolate e0:i e1:i\nread\nsuccess")
    run = on_of(world)
    play(run, "read\nclaim\nrestore e0:ad e1:as")
    assert run.log == []


# --- static groups ---------------------------------------------------------------------------------------------


def static(world: World, spec: IsolationSpec = KEEP, **numbers: str) -> Run:
    """On with interfaceN-sg: n0="s"."""
    return on_of(world, spec, static=FrozenMap({int(n[1:]): groups(some) for n, some in numbers.items()}))


@pytest.mark.parametrize(
    ("why", "spec", "numbers", "end"),
    [
        ("one is missing", KEEP, {"n0": "s"}, "fail: validation: i-0000000000000000a: interface1-sg missing"),
        ("one isolates", KEEP, {"n0": "s", "n1": "i"}, "fail: validation: the groups of interface1-sg count"),
        ("removal mode: one never had it", REMOVE, {"n0": "a", "n1": "d"}, "claim\nrestore e0:a e1:d"),
        ("removal mode: all isolate", REMOVE, {"n0": "s", "n1": "d"}, "fail: validation: the groups of"),
    ],
)
def test_on_refuses_static_groups_that_do_not_restore(why, spec, numbers, end):
    play(static(fenced(spec), spec, **numbers), f"read\n{end}")


def test_on_with_more_static_groups_than_interfaces_says_so():
    """By the read that proves the restore: the first one may lack an interface."""
    for first in ("", "without e1"):
        steps = f"read | {first}\nclaim\nrestore " + ("e0:s\nread\npause restore e1:d" if first else "e0:s e1:d")
        run = static(fenced(), n0="s", n1="d", n2="d", n3="a")
        play(run, f"{steps}\nread")
        assert run.log == []
        play(run, "delete")
        assert run.log == [messages.static_unused(run.plan.id, [2, 3])]
        run = static(fenced(), n0="s", n1="d")
        play(run, f"{steps}\nread\ndelete")
        assert run.log == []
    run = static(World("e0:i e1:i"), n0="s", n1="d", n2="d")
    play(run, "read\nrestore e0:s e1:d\nread\nsuccess")
    assert run.log == [messages.static_unused(run.plan.id, [2])]


def test_on_numbers_interfaces_anew_where_a_read_lacked_one():
    """And sets what has another number now, whatever came of it before; then it reads again."""
    for outcome in ("", "| e1 refused"):
        run = static(fenced(), n0="s", n1="d")
        play(run, f"read | without e0\nclaim\nrestore e1:s {outcome}\nread\npause restore e0:s e1:d")
        play(run, "read\ndelete\nread\nsuccess")


def test_on_with_static_groups_sets_what_reads_as_it_should_for_the_first_time():
    """It is not taken for one that is gone."""
    run = static(fenced(), n0="s", n1="d")
    play(run, "read | without e1\nclaim\nrestore e0:s\n* groups e1:d\nread\npause restore e1:d\nread\ndelete")
    assert run.log == []


def test_on_with_static_groups_does_not_number_anew_by_one_read_that_lacks_an_interface():
    run = static(fenced(), n0="s", n1="d")
    play(run, "read\nclaim\nrestore e0:s e1:d\nread | without e0\npause read\ndelete\nread\nsuccess")
    run = static(fenced(), n0="s", n1="d")
    play(run, "read\nclaim\nrestore e0:s e1:d\n* detach e0\nread\npause read\npause restore e1:s\nread\ndelete")
    assert run.log == [messages.static_unused(run.plan.id, [1])]


def test_on_with_static_groups_fails_where_an_interface_without_them_appears():
    run = static(fenced(), n0="s", n1="d")
    play(run, "read\nclaim\nrestore e0:s e1:d\n* attach e2:i\nread")
    play(run, "fail: validation: i-0000000000000000a: interface2-sg")


def test_on_with_static_groups_does_not_believe_one_read_that_shows_no_interfaces():
    run = static(World("e0:i e1:i"), n0="s", n1="d")
    play(run, "read | without e0 without e1\nread\npause restore e0:s e1:d\nread\nsuccess")


def test_on_names_an_interface_that_appears_and_has_no_backup():
    run = on_of(fenced())
    play(run, "read\nclaim\nrestore e0:ad e1:as\n* attach e2:i\nread")
    assert run.log == []
    play(run, "delete")
    assert run.log == [messages.left_without_backup(run.plan.id, eni("e2"), groups("i"))]


def test_on_does_not_name_what_appears_where_nothing_has_a_backup():
    """Only the tags of the instance that its image was made of are deleted."""
    run = on_of(World(tags={f"Original_SG_Backup_{OWN}_5_1_0": "{}"}))
    play(run, "read\n* attach e2:a\nread\ndelete\nsuccess")
    assert run.log == [messages.tags_deleted(run.plan.id, 1)]


def test_on_restores_what_a_read_lacked_and_reads_open():
    """It does not say that it is no longer attached."""
    run = on_of(World("e0:i e1:as", fenced().tags))
    play(run, "read | without e1\nclaim\nrestore e0:ad")
    first = len(run.log)
    play(run, "read\npause restore e1:as\nread\ndelete\nread\nsuccess")
    assert not any("no longer attached" in line for line in run.log[first:])


def test_on_with_static_groups_is_not_led_by_the_backup_where_one_lacks_the_groups_to_remove():
    """Such groups look isolated: that they are set is no sign of an off."""
    run = static(fenced(REMOVE), REMOVE, n0="a", n1="s")
    play(run, "read\nclaim\nrestore e0:a e1:s\nread\ndelete\nread\nsuccess")
    assert not run.world.tags


def test_on_with_static_groups_writes_these_where_its_look_back_shows_them_isolated():
    """Also those that look isolated: they are what the options say. Every read since the deletion is behind."""
    run = static(fenced(REMOVE), REMOVE, n0="a", n1="s")
    play(run, "read\nclaim\nrestore e0:a e1:s\nread\ndelete\n* groups e0:d")
    play(run, "read\n* 2 s\nwrite e0:a e1:s\nfail: restore: i-0000000000000000a was fenced concurrently")


def test_on_with_static_groups_names_those_of_an_interface_that_is_gone():
    """They are nowhere else: its backup is deleted with the others."""
    run = static(fenced(), n0="s")
    play(run, "* detach e1\nread\nclaim\nrestore e0:s\nread\ndelete")
    assert run.log == [messages.detached(run.plan.id, eni("e1"), groups("as"))]
    run = static(fenced(), n0="s", n1="d")
    play(run, "read\nclaim\nrestore e0:s e1:d | e1 gone\n* detach e1\nread\npause read\ndelete")
    assert run.log[-1] == messages.detached(run.plan.id, eni("e1"), groups("as"))


def test_on_with_static_groups_deletes_nothing_where_there_are_no_tags():
    """To delete no tags is to EC2 to delete all."""
    play(static(World("e0:i e1:i"), n0="s", n1="d"), "read\nrestore e0:s e1:d\nread\nsuccess")


# --- what it says ----------------------------------------------------------------------------------------------


def test_on_of_a_node_without_groups_of_secg_warns_that_there_is_no_backup():
    """Perhaps an off has removed them."""
    run = on_of(World("e0:d e1:s"), REMOVE)
    play(run, "read\npause read\npause read\nsuccess")
    assert run.log == [messages.isolated_without_backup(run.plan.id), messages.nothing_to_restore(run.plan.id)]


@pytest.mark.parametrize("interfaces", ["e0:ad e1:as", ""], ids=["open", "no interfaces"])
def test_on_of_a_node_that_was_never_fenced_warns_of_nothing(interfaces):
    run = on_of(World(interfaces), REMOVE)
    play(run, "read\nsuccess")
    assert run.log == [messages.nothing_to_restore(run.plan.id)]


def test_on_of_a_node_with_one_interface_without_groups_of_secg_warns_of_nothing():
    run = on_of(World("e0:d e1:as"), REMOVE)
    play(run, "read\npause read\npause read\nsuccess")
    assert run.log == [messages.nothing_to_restore(run.plan.id)]


@pytest.mark.parametrize(("spec", "letter"), [(KEEP, "i"), (KEEP_UNTRACK, "o"), (REMOVE_UNTRACK, "o")])
def test_on_names_an_interface_that_stays_as_a_fencer_sets_it(spec, letter):
    """Its backup was written when the original groups were lost already, or it has had no others."""
    world = World(f"e0:{letter} e1:as")
    world.write(make_backup(world.read(""), dict(world.groups), 1, spec).tags)
    run = on_of(world, spec)
    play(run, "read\nclaim")
    assert run.log == [messages.restored_as_fenced(run.plan.id, eni("e0"), groups(letter))]


def test_on_of_a_node_that_lacked_the_groups_to_remove_names_no_interface():
    world = World("e0:d e1:as")
    world.write(make_backup(world.read(""), dict(world.groups), 1, REMOVE).tags)
    run = on_of(world, REMOVE)
    play(run, "read\nclaim")
    assert run.log == []


def test_on_names_an_interface_without_a_backup():
    run = on_of(fenced())
    play(run, "* attach e2:a\nread")
    step = run.decide(run.plan, run.knowledge, run.tick())
    assert [note.text for note in step.notes] == [
        messages.left_without_backup(run.plan.id, "eni-22222222222222222", groups("a"))
    ]


@pytest.mark.parametrize(
    ("why", "older", "lastfence"),
    [
        ("the groups that it had, not those that isolate", "ad", "i"),
        ("if it was isolated by nature, those", "i", "i"),
        ("those of the latest backup", "s", "ad"),
    ],
)
def test_on_names_the_original_groups_of_an_interface_that_is_gone(why, older, lastfence):
    world = World()
    for time, letters in enumerate((older, lastfence), 1):
        some = {"eni-22222222222222222": groups(letters)}
        world.write(make_backup(world.read(""), some, time, KEEP, numbers=dict.fromkeys(some, 3)).tags)
    run = on_of(world)
    play(run, "read\nread")
    named = groups(older if lastfence == "i" else lastfence)
    assert run.log == [messages.detached(run.plan.id, "eni-22222222222222222", named)], why


def test_on_does_not_name_an_interface_that_was_restored_and_went_away_since():
    run = on_of(fenced())
    play(run, f"{RESTORED}\n* detach e1\nread\ndelete\nread\nsuccess")
    assert run.log == [messages.tags_deleted(run.plan.id, 3)]


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ("", "eni-00000000000000000: reads sg-44444444444444444; eni-11111111111111111: throttled"),
        ("| nothing", "eni-11111111111111111: throttled"),
        ("| refused", "eni-11111111111111111: throttled; last read: not permitted"),
    ],
)
def test_on_says_why_it_is_not_restored(answer, why):
    run = on_of(fenced())
    category = "modification" if "refused" in answer else "deadline"
    text = f"fail: {category}: i-0000000000000000a was not completely restored: {why}; the backup is kept"
    play(run, f"{RESTORED} | e1 throttled\n* groups e0:i\n* 50 s\nread {answer}\n{text}")


def test_on_says_that_no_read_showed_what_it_restored():
    text = "fail: deadline: i-0000000000000000a was not completely restored: interfaces: no read showed them;"
    play(on_of(fenced()), f"{RESTORED}\n* 50 s\nread | nothing\n{text}")


def test_on_says_that_a_change_may_still_arrive():
    text = "was not completely restored: eni-11111111111111111: a change without a reply may still arrive;"
    play(
        on_of(fenced()),
        f"""
        read
        * 37 s
        claim
        restore e0:ad e1:as | e1 lost
        read
        pause restore e1:as
        * 2 s
        read
        fail: deadline: i-0000000000000000a {text}
        """,
    )


# --- what it verifies ------------------------------------------------------------------------------------------


def test_on_waits_until_a_restore_without_a_reply_can_arrive_no_more():
    """It would open the node behind an off that comes after this run."""
    play(on_of(fenced()), f"{RESTORED} | e1 lost\nread\npause restore e1:as\nread\nwait read\ndelete\nread\nsuccess")


def test_on_restores_what_reads_restored_and_was_not_accepted():
    """A read that is behind may show the groups from before the fence."""
    play(
        on_of(fenced()),
        f"{RESTORED} | e1 throttled\n* groups e1:as\nread\npause restore e1:as\nread\ndelete\nread\nsuccess",
    )


def test_on_does_not_try_again_what_was_refused():
    play(on_of(fenced()), f"{RESTORED} | e0 throttled, e1 refused\nread\npause restore e0:ad\nread\nfail: ")


def test_on_restores_what_is_attached_again_also_where_its_first_read_showed_no_tags():
    play(
        on_of(fenced()),
        """
        read                | no tags
        * detach e1
        pause read
        claim
        restore e0:ad
        * attach e1:i
        read
        pause restore e1:as
        read
        delete
        read
        success
        """,
    )


def test_on_that_restores_nothing_does_not_delete_the_backup_of_what_is_isolated_since():
    """Both reads may lack what an off wrote of it."""
    world = fenced()
    play(on_of(world), "* detach e0\n* detach e1\n* attach e2:a\nread\n* groups e2:i\nread\nfail: backup:")
    assert world.tags


def test_on_that_restores_nothing_opens_nothing_behind_an_off_and_claims_nothing():
    world = fenced()
    play(off_of(world), "read\nwrite e0:ad e1:as")
    play(on_of(world), "* detach e0\n* detach e1\n* attach e2:a\nread\nread\ndelete\nsuccess")


def test_on_without_secg_deletes_no_backup_where_it_restores_nothing():
    """It cannot tell what is isolated."""
    run = on_of(fenced(), IsolationSpec())
    play(run, "* detach e0\n* detach e1\n* attach e2:a\nread\nsuccess")
    assert run.world.tags
    assert run.log[-1] == messages.nothing_to_restore(run.plan.id)


# --- beside an off ---------------------------------------------------------------------------------------------


def test_on_writes_the_open_groups_of_an_interface_that_an_off_isolated_meanwhile():
    """It has no backup, and was read open first: what a fencer set since is not what it had."""
    world = fenced()
    play(
        on_of(world),
        """
        * attach e2:a
        read
        claim
        restore e0:ad e1:as
        off: read
        off: write e0:ad e1:as e2:a
        read
        isolate e0:i e1:i
        off: read
        off: isolate e0:i e1:i e2:i
        * no tags
        read
        write e0:ad e1:as e2:a
        fail: restore: i-0000000000000000a was fenced concurrently; off takes precedence
        """,
        off=off_of(world),
    )


def test_on_deletes_no_tag_that_another_on_has_claimed_since():
    """By value: what it has not known is not its to delete."""
    world = in_progress()
    other = on_of(world, nonce=7)
    play(
        on_of(world, nonce=8),
        """
        read
        claim
        restore e0:ad e1:as
        other: read
        other: claim
        read
        delete
        """,
        other=other,
    )
    assert world.tags
    play(other, "restore e0:ad e1:as\nread\ndelete")
    assert not world.tags


def test_on_deletes_what_it_has_claimed_though_it_got_no_reply():
    """EC2 may have written the claim: the read that proves the restore shows it."""
    run = on_of(fenced())
    play(run, "read\nclaim | lost\nrestore e0:ad e1:as\nread\ndelete\nread\nsuccess")
    assert not run.world.tags


def test_on_whose_claim_was_not_written_deletes_no_tag_that_another_on_has_claimed():
    world = in_progress()
    other, run = on_of(world, nonce=0x77), on_of(world, nonce=0x88)
    play(run, "read\nclaim | throttled\nrestore e0:ad e1:as\nother: read\nother: claim\nread\ndelete", other=other)
    assert {c.interface for c in chunks_of(world.tags, ID)} == set(world.groups)
    play(run, "read\nsuccess")
    play(other, "restore e0:ad e1:as\nread\ndelete")
    assert not world.tags


def test_on_claims_the_backup_of_an_off_that_may_be_in_progress():
    """That off sees the claim and writes its backup again, so that it outlives the deletion."""
    world = World()
    off = off_of(world)
    play(off, OFF)
    play(
        on_of(world),
        """
        read
        claim
        restore e0:ad e1:as
        off: isolate e0:i e1:i
        read
        off: read
        off: write e0:ad e1:as
        off: pause read
        off: success
        pause read
        isolate e0:i e1:i
        read
        fail: restore: i-0000000000000000a was fenced concurrently
        """,
        off=off,
    )
    assert shown(world.groups) == "e0:i e1:i"
    assert world.tags


def test_on_isolates_again_what_it_opened_where_an_off_came_in_between():
    run = on_of(fenced())
    play(
        run,
        f"""{RESTORED}
        off: read
        off: write e0:ad e1:as
        read
        isolate e0:i e1:i   | e1 throttled
        pause isolate e1:i
        read
        fail: restore: i-0000000000000000a was fenced concurrently; off takes precedence
        """,
        off=new_off(run),
    )


def test_on_writes_the_groups_of_what_it_isolates_again_and_no_tag_holds():
    """An operator has edited the backup, which is taken for the hand of an off."""
    run = on_of(fenced())
    play(
        run,
        f"""{RESTORED}
        * cut e0
        read
        isolate e0:i e1:i
        read
        write e0:ad e1:as
        fail: restore: i-0000000000000000a was fenced concurrently; off takes precedence
        """,
    )


def test_on_names_the_groups_that_no_tag_holds_where_there_is_no_room_for_them():
    run = on_of(fenced())
    play(run, f"{RESTORED}      | e1 lost\n* cut e0\nread\nisolate e0:i e1:i")
    run.world.write({f"other {n}": "" for n in range(50 - len(run.world.tags))})
    play(
        run,
        """
        read
        wait isolate e1:i
        read
        fail: restore: i-0000000000000000a was fenced concurrently; off takes precedence
        """,
    )
    assert any("not rewritten" in line and f"{eni('e0')} had" in line for line in run.log)


def test_on_isolates_again_until_a_read_shows_it():
    run = on_of(fenced())
    play(
        run,
        f"""{RESTORED}
        off: read
        off: write e0:ad e1:as
        read
        isolate e0:i e1:i
        read                | stale groups
        pause isolate e0:i e1:i
        read
        fail: restore: i-0000000000000000a was fenced concurrently; off takes precedence
        """,
        off=new_off(run),
    )


def test_on_does_not_isolate_what_it_never_opened():
    """EC2 refused it, and would refuse it for the whole deadline."""
    run = on_of(fenced())
    play(
        run,
        f"""{RESTORED}      | e1 refused
        off: read
        off: write e0:ad e1:as
        read
        isolate e0:i
        read
        fail: restore: i-0000000000000000a was fenced concurrently; off takes precedence
        """,
        off=new_off(run),
    )


def test_on_names_an_interface_that_cannot_be_isolated_again():
    run = on_of(fenced())
    play(
        run,
        f"""{RESTORED}
        off: read
        off: write e0:ad e1:as
        read
        isolate e0:i e1:i   | e1 refused
        read
        fail: restore: i-0000000000000000a was fenced concurrently, but eni-11111111111111111 may be open
        """,
        off=new_off(run),
    )


def test_on_without_secg_isolates_again_to_the_groups_of_its_first_read():
    """Nothing tells which groups isolate, so they are those that it replaced; each must read exactly so."""
    run = on_of(fenced(), IsolationSpec())
    play(
        run,
        """
        read
        claim
        off: read
        off: write e0:ad e1:as
        restore e0:ad e1:as
        read
        isolate e0:i e1:i
        read                | stale groups
        pause isolate e0:i e1:i
        read
        fail: restore: i-0000000000000000a was fenced concurrently; off takes precedence
        """,
        off=new_off(run),
    )


def test_on_with_secg_isolates_again_also_what_was_open_at_its_first_read():
    world = fenced()
    run = on_of(world)
    play(
        run,
        """
        * groups e0:d
        read
        claim
        restore e0:ad e1:as
        off: read
        off: write e0:ad e1:as
        read
        isolate e0:i e1:i
        read
        fail: restore:
        """,
        off=new_off(run),
    )


def test_on_without_secg_sets_what_was_open_back_to_the_groups_of_its_first_read():
    run = on_of(fenced(), IsolationSpec())
    play(
        run,
        """
        * groups e0:d
        read
        claim
        restore e0:ad e1:as
        off: read
        off: write e0:ad e1:as
        read
        isolate e0:d e1:i
        read
        fail: restore:
        """,
        off=new_off(run),
    )


BOTH = IsolationSpec((ISO, ISO2), keep_only=True)
AGAIN = "fail: restore: i-0000000000000000a was fenced concurrently; off takes precedence"
OPEN = "fail: restore: i-0000000000000000a was fenced concurrently, but"
E0, E1 = "eni-00000000000000000", "eni-11111111111111111"


def overtaken(outcome: str = "", spec: IsolationSpec = KEEP, settle: float = 0.0) -> Run:
    """An on that has restored, with this outcome, and reads another fencer's backup."""
    run = on_of(fenced(), spec, settle_seconds=settle)
    play(run, f"{RESTORED} | {outcome}\noff: read\noff: write e0:ad e1:as\nread", off=new_off(run))
    return run


@pytest.mark.parametrize(
    ("why", "then"),
    [
        ("a read that failed", f"isolate e0:i e1:i\nread | refused\n{OPEN} {E0}, {E1} may be open"),
        ("no such instance", "isolate e0:i e1:i\nread | nothing\npause read\n" + AGAIN),
        ("no such instance, and no time", f"isolate e0:i e1:i\nread | nothing\n* 50 s\n{AGAIN}"),
        ("no time for a read", f"isolate e0:i e1:i\n* 50 s\n{AGAIN}"),
        ("no time for a second attempt", f"isolate e0:i e1:i | e1 throttled\n* 50 s\n{OPEN} {E1} may be open"),
        ("no time for a third", f"isolate e0:i e1:i\nread | stale groups\n* 50 s\n{OPEN} {E0}, {E1} may be open"),
        ("it went away", f"isolate e0:i e1:i\n* detach e1\nread\n{AGAIN}"),
        ("an on has brought it back", f"isolate e0:i e1:i\n* no tags\n* groups e0:ad e1:as\nread\n{AGAIN}"),
        ("an on has deleted the backup", f"isolate e0:i e1:i\n* no tags\nread\nwrite e0:ad e1:as\n{AGAIN}"),
    ],
)
def test_on_that_isolates_again_ends_by_its_latest_read(why, then):
    play(overtaken(), then)


def test_on_isolates_once_more_when_a_restore_without_a_reply_can_arrive_no_more():
    play(overtaken("e1 lost"), f"isolate e0:i e1:i\nread\nwait isolate e1:i\nread\n{AGAIN}")


def test_on_isolates_again_without_a_pause_with_what_ec2_takes_of_several_groups():
    play(
        overtaken(spec=BOTH, settle=5),
        f"isolate e0:i e1:i | e0 no group, e1 no group\nisolate e0:j e1:j\n* groups e1:i\nread\n{AGAIN}",
    )


def test_on_that_isolates_again_names_the_originals_where_there_is_no_room_for_a_backup():
    run = overtaken()
    play(run, "isolate e0:i e1:i\n* no tags")
    run.world.tags.update({f"user{n}": "" for n in range(50)})
    play(run, f"read\n{AGAIN}")
    assert any(ORIGINALS in line for line in run.log)


def test_on_without_secg_names_what_it_cannot_isolate_again_though_there_is_no_time_for_a_read():
    run = on_of(fenced(), IsolationSpec())
    play(
        run,
        f"""
        * groups e1:as
        read
        claim
        restore e0:ad e1:as
        off: read
        off: write e0:ad e1:as
        read
        isolate e0:i
        * 50 s
        {OPEN} {E1} may be open
        """,
        off=new_off(run),
    )


@pytest.mark.parametrize(
    ("why", "spec", "before", "closed"),
    [
        ("the groups that isolated it, of several", BOTH, "e0:i e1:j", "e0:i e1:j"),
        ("those that isolated it, edited since", REMOVE, "e0:dj e1:s", "e0:dj e1:s"),
        ("of untracked ones what isolates the original ones", REMOVE_UNTRACK, "e0:o e1:s", "e0:d e1:s"),
    ],
)
def test_on_isolates_again_with_the_groups_that_isolate(why, spec, before, closed):
    run = on_of(fenced(KEEP if spec is BOTH else spec), spec)
    play(
        run,
        f"""
        * groups {before}
        read
        claim
        restore e0:ad e1:as
        off: read
        off: write e0:ad e1:as
        read
        isolate {closed}
        """,
        off=new_off(run, spec),
    )


@pytest.mark.parametrize(("reply", "more"), [("", ""), ("| e0 lost", "wait read")])
def test_on_without_secg_says_that_what_was_open_before_may_be_open(reply, more):
    run = on_of(in_progress(), IsolationSpec())
    play(
        run,
        f"""
        read
        claim
        restore e0:ad e1:as {reply}
        off: read
        off: write e0:ad e1:as
        read
        read
        {more}
        fail: restore: i-0000000000000000a was fenced concurrently, but eni-00000000000000000, eni-11111111111111111
        """,
        off=new_off(run),
    )


# --- after the deletion ----------------------------------------------------------------------------------------


def test_on_does_not_count_a_read_that_still_shows_the_deleted_tags():
    play(on_of(in_progress()), f"{DELETED}\nread | stale tags\npause read\nsuccess")


@pytest.mark.parametrize("stale", ["", "| stale tags"])
def test_on_writes_the_backup_again_where_an_off_isolated_meanwhile(stale):
    run = on_of(in_progress())
    play(
        run,
        f"""{DELETED}
        * groups e0:i e1:i
        read                {stale}
        pause read
        pause read
        write e0:ad e1:as
        fail: restore: i-0000000000000000a was fenced concurrently
        """,
    )


@pytest.mark.parametrize("reads_first", [True, False], ids=["off reads first", "on deletes first"])
def test_on_whose_look_back_is_stale_leaves_the_backup_that_off_wrote_again(reads_first):
    """Both succeed; the node is isolated, and the originals are in the tags."""
    world = World()
    off = off_of(world)
    play(off, OFF)
    on = on_of(world)
    play(on, "read\nclaim\nrestore e0:ad e1:as\nread\noff: isolate e0:i e1:i", off=off)
    rewrites = "off: read\noff: write e0:ad e1:as"
    steps = [rewrites, "delete"] if reads_first else ["delete", rewrites]
    play(on, "\n".join([*steps, "read | stale groups", "success", "off: pause read", "off: success"]), off=off)
    play(on_of(world), RESTORED)


def test_on_names_the_originals_where_the_read_after_the_deletion_fails():
    run = on_of(in_progress())
    play(run, f"{DELETED}\nread | refused\nsuccess")
    assert ORIGINALS in run.log[-1]
    assert "not permitted" in run.log[-1]


def test_on_writes_the_backup_again_also_of_what_was_isolated_when_it_was_read_first():
    world = fenced()
    play(off_of(world), "read\nwrite e0:ad e1:as")
    run = on_of(world)
    play(run, f"{DELETED}\n* groups e0:i e1:i\nread\npause read\npause read\nwrite e0:ad e1:as\nfail: ")


def test_on_writes_the_backup_again_also_of_an_interface_that_had_none():
    run = on_of(in_progress())
    play(run, f"* attach e2:a\n{DELETED}\n* groups e0:i e1:i e2:i\nread\npause read\npause read")
    play(run, "write e0:ad e1:as e2:a\nfail: ")


def test_on_writes_the_groups_of_an_interface_without_a_backup_as_it_reads_them():
    run = on_of(in_progress())
    play(run, f"* attach e2:a\n{DELETED}\n* groups e0:i e1:i e2:d\nread\npause read\npause read")
    play(run, "write e0:ad e1:as e2:d\nfail: ")


def test_on_writes_the_backup_again_also_of_what_was_attached_again():
    run = on_of(in_progress())
    play(
        run,
        """
        * detach e1
        read
        claim
        restore e0:ad
        * attach e1:i
        read
        pause restore e1:as
        read
        delete
        * groups e1:i
        read
        pause read
        pause read
        write e0:ad e1:as
        """,
    )


@pytest.mark.parametrize(
    ("why", "event"),
    [
        ("an edit", "groups e0:s"),
        ("an interface that it did not restore", "attach e2:i"),
    ],
)
def test_on_writes_no_backup_again_of_what_no_off_isolated(why, event):
    play(on_of(in_progress()), f"{DELETED}\n* {event}\nread\nsuccess")


def test_on_writes_no_backup_again_beside_that_of_an_off():
    run = on_of(in_progress())
    play(run, DELETED)
    play(new_off(run), "read\nwrite e0:ad e1:as\nread\nisolate e0:i e1:i\nread\nsuccess")
    play(run, "read\nsuccess")


def test_on_looks_back_also_where_the_deletion_had_no_reply():
    run = on_of(in_progress())
    play(run, f"{DELETED} | lost\n* groups e0:i e1:i\nread\npause read\npause read\nwrite e0:ad e1:as\nfail: ")


def test_on_names_the_originals_where_there_is_no_room_to_write_the_backup_again():
    run = on_of(in_progress())
    play(run, f"{DELETED}\n* groups e0:i e1:i")
    run.world.tags.update({f"user{n}": "" for n in range(50)})
    play(run, "read\npause read\npause read\nfail: restore:")
    assert ORIGINALS in run.log[-1]


def test_on_names_the_originals_where_no_read_shows_the_instance_after_the_deletion():
    run = on_of(in_progress())
    play(run, f"{DELETED}\nread | nothing\nsuccess")
    assert run.log[-1] == messages.off_not_excluded(run.plan.id, "no read shows it", run.knowledge.backup.originals)


def test_on_names_the_originals_where_the_backup_cannot_be_written_again():
    run = on_of(in_progress())
    play(
        run,
        f"""{DELETED}
        * groups e0:i e1:i
        read
        pause read
        pause read
        write e0:ad e1:as   | refused
        fail: restore:
        """,
    )
    assert ORIGINALS in run.log[-1]


def test_on_goes_on_where_the_deletion_fails():
    run = on_of(in_progress())
    play(run, "read\nclaim\nrestore e0:ad e1:as\nread\ndelete | refused\nsuccess")
    assert "tags were not deleted" in run.log[-1]


# --- power -----------------------------------------------------------------------------------------------------


def test_on_starts_a_stopped_instance_after_the_restore():
    run = on_of(fenced(), power=True)
    run.world.state = "stopped"
    play(run, f"{RESTORED}\nread\ndelete\nread\nread\nstart\npause read\nsuccess")


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


@pytest.mark.parametrize(("answer", "last"), [("", "; last: it is stopping"), ("| nothing", "")])
def test_on_does_not_wait_for_ever_for_an_instance_that_is_stopping(answer, last):
    run = powered("stopping")
    play(run, f"pause read {answer}\n* 50 s")
    step = run.decide(run.plan, run.knowledge, run.tick())
    error = messages.no_answer(f"start {run.plan.id}", 45.0, "it is stopping" if last else None)
    assert step.action == Fail.of(messages.not_started(run.plan.id, error.category, error.text))


@pytest.mark.parametrize("state", ["terminated", "shutting-down"])
def test_on_says_that_an_instance_cannot_be_started_any_more(state):
    play(powered(state), "fail: instance: the groups of i-0000000000000000a are restored, but it was not")


def test_on_says_that_the_start_was_refused():
    play(powered("stopped"), "start | refused\nfail: modification: the groups of i-0000000000000000a are restored")


def test_on_reads_before_it_starts_again():
    """An off may have succeeded meanwhile."""
    play(powered("stopped"), "start | throttled\npause read\nstart | lost\npause read\nsuccess")
    run = powered("stopped")
    fencer = off_of(run.world, nonce=2, skew=9, ignore_instance_state=True)
    play(run, "start | throttled\noff: read\noff: write e0:ad e1:as", off=fencer)
    play(run, "pause read\nisolate e0:i e1:i\nread\nfail: restore: i-0000000000000000a was fenced concurrently; off")


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
