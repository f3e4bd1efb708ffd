"""What ``on`` does beside an ``off``; see transcript.py."""

import pytest
from core.on_runs import DELETED, OFF, RESTORED, fenced, in_progress, new_off
from core.transcript import ID, ISO, ISO2, KEEP, REMOVE, REMOVE_UNTRACK, Run, World, eni, off_of, on_of, play, shown

from aws_vpc_net import messages
from aws_vpc_net.core.backup import chunks_of
from aws_vpc_net.core.model import IsolationSpec

ORIGINALS = "eni-00000000000000000 had sg-11111111111111111, sg-22222222222222222"


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


def test_on_names_what_another_backup_says_better_where_it_cannot_write_that():
    """An operator has changed e1 before the other off."""
    run = on_of(fenced())
    play(
        run,
        f"""{RESTORED}
        * groups e0:ad e1:s
        off: read
        off: write e0:ad e1:s
        * cut e0
        read
        isolate e0:i e1:i
        read
        write e0:ad e1:s | refused
        fail: restore: i-0000000000000000a was fenced concurrently; off takes precedence
        """,
        off=new_off(run),
    )
    assert any("not rewritten" in line and f"{eni('e1')} had sg-33333333333333333" in line for line in run.log)


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
