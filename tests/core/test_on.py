"""What ``on`` does next, one transcript for each behaviour that safety depends on; see transcript.py."""

import pytest
from core.transcript import KEEP, KEEP_UNTRACK, REMOVE, REMOVE_UNTRACK, Run, World, groups, off_of, on_of, play, shown

from aws_vpc_net.core.isolating import close_after_interrupt, end
from aws_vpc_net.core.model import FrozenMap, IsolationSpec
from aws_vpc_net.core.protocol import Change, Fail, Knowledge, Phase, Plan, Progress, SetGroups, Tick

ORIGINALS = "eni-00000000000000000 had sg-11111111111111111, sg-22222222222222222"
OFF = "read\nwrite e0:ad e1:as\nread"
RESTORED = "read\nrestore e0:ad e1:as"


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


# --- the order of steps ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", [KEEP, REMOVE, KEEP_UNTRACK, REMOVE_UNTRACK])
def test_on_deletes_the_backup_after_a_read_that_shows_the_originals(spec):
    run = on_of(fenced(spec), spec)
    play(run, f"{RESTORED}\nread | stale groups\npause read\ndelete\nsuccess")
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
        success
        """,
    )


def test_on_sets_a_throttled_interface_again_at_once():
    play(on_of(fenced()), f"{RESTORED} | e1 throttled\nread\npause restore e1:as\nread\ndelete\nsuccess")


def test_on_keeps_all_tags_where_one_interface_is_refused():
    run = on_of(fenced())
    tags = dict(run.world.tags)
    play(run, f"{RESTORED} | e1 refused\nread\nfail: modification: i-0000000000000000a was not wholly restored")
    assert run.world.tags == tags


def test_on_of_a_node_that_was_never_fenced_succeeds():
    play(on_of(World()), "read\nsuccess")


def test_on_of_an_isolated_node_without_a_backup_fails():
    play(on_of(World("e0:i e1:i")), "read\npause read\npause read\nfail: backup:")


def test_on_restores_the_backup_that_only_a_later_read_shows_of_a_finished_off():
    play(on_of(fenced()), "read | no tags\npause read\nrestore e0:ad e1:as")


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
    play(run, "* 41 s\nrestore e0:ad e1:as")
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
        success
        """,
    )
    assert shown(run.world.groups) == "e0:ad e1:as"


def test_on_names_the_groups_of_an_interface_that_went_away_before_it_was_restored():
    run = on_of(fenced())
    play(run, f"{RESTORED} | e1 throttled\nread | without e1\npause read | without e1\ndelete\nsuccess")
    assert any("sg-33333333333333333" in line and "eni-11111111111111111" in line for line in run.log)


def test_on_fails_after_a_failed_read_and_keeps_the_tags():
    run = on_of(fenced())
    play(run, f"{RESTORED}\nread | refused\nfail: ")
    assert run.world.tags


def test_on_sets_static_groups_instead_of_the_backup():
    run = on_of(fenced(), static=FrozenMap({0: groups("s"), 1: groups("d")}))
    play(run, "read\nrestore e0:s e1:d\nread\ndelete\nsuccess")


def test_on_restores_an_interface_that_is_attached_again_meanwhile():
    play(
        on_of(fenced()),
        """
        * detach e1
        read
        restore e0:ad
        * attach e1:i
        read
        pause restore e1:as
        read
        delete
        success
        """,
    )


def test_on_names_the_groups_of_an_interface_that_is_gone():
    run = on_of(fenced())
    play(run, "* detach e1\nread\nrestore e0:ad\nread\ndelete\nsuccess")
    assert any("eni-11111111111111111 of the backup is not attached any more" in line for line in run.log)


def test_on_names_the_groups_of_an_interface_that_is_gone_where_nothing_is_restored():
    """They are deleted with the backup, though no interface that is left has one."""
    run = on_of(fenced())
    play(run, "* detach e0\n* detach e1\n* attach e2:a\nread\nread\ndelete\nsuccess")
    for name in ("eni-00000000000000000", "eni-11111111111111111"):
        assert any(f"{name} of the backup is not attached any more" in line for line in run.log)


def test_on_that_is_to_restore_nothing_asks_nothing():
    play(on_of(fenced(), ignore_restore=True), "success")


# --- beside an off ---------------------------------------------------------------------------------------------


def test_on_writes_the_open_groups_of_an_interface_that_an_off_isolated_meanwhile():
    """It has no backup, and was read open first: what a fencer set since is not what it had."""
    world = fenced()
    play(
        on_of(world),
        """
        * attach e2:a
        read
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
        """,
        off=off_of(world),
    )


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
        fail: restore: i-0000000000000000a was fenced meanwhile
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
        fail: restore: i-0000000000000000a was fenced meanwhile, and that wins
        """,
        off=new_off(run),
    )


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
        fail: restore: i-0000000000000000a was fenced meanwhile, and that wins
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
        fail: restore: i-0000000000000000a was fenced meanwhile, and that wins
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
        fail: restore: i-0000000000000000a was fenced meanwhile, but eni-11111111111111111 may be open
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
        fail: restore: i-0000000000000000a was fenced meanwhile, and that wins
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


# --- after the deletion ----------------------------------------------------------------------------------------

DELETED = "read\nclaim\nrestore e0:ad e1:as\nread\ndelete"


def in_progress() -> World:
    """An off was killed after it wrote its backup, or is still in progress."""
    world = World()
    play(off_of(world), OFF)
    return world


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
        fail: restore: i-0000000000000000a was fenced meanwhile
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
    play(run, f"{RESTORED}\nread\ndelete\nread\nstart\npause read\nsuccess")


def test_on_that_is_interrupted_ends_without_setting_groups_that_it_does_not_know():
    """Its restore may still arrive, which nothing waits for: an empty set of groups is none that isolates."""
    groups = frozenset(("sg-" + "a" * 17,))
    plan = Plan("i-" + "0" * 17, IsolationSpec(("sg-" + "c" * 17,), keep_only=True), restoring=True)
    progress = FrozenMap({"eni-" + "0" * 17: Progress(open_groups=groups)})
    tick = Tick(0.0, 40.0, 45.0, 1_700_000_000, 0)
    effect = SetGroups(Change.RESTORE, FrozenMap(dict.fromkeys(progress, groups)))
    known = close_after_interrupt(plan, Knowledge(phase=Phase.VERIFY, interfaces=progress), effect, tick)
    assert isinstance(end(plan, known, tick).action, Fail)
