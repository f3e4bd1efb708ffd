"""Which groups ``on`` restores where the backup does not tell; see transcript.py."""

import pytest
from core.on_runs import fenced, static
from core.transcript import ID, KEEP, OWN, REMOVE, World, eni, groups, off_of, on_of, play

from aws_vpc_net import messages
from aws_vpc_net.core.backup import LASTFENCE, chunks_of
from aws_vpc_net.core.model import IsolationSpec

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
