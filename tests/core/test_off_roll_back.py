"""What ``off`` does after a change that EC2 refuses; see transcript.py."""


import pytest
from core.off_runs import BACKUP, ORIGINALS, REFUSED, WITHOUT_BACKUP, two
from core.transcript import KEEP_UNTRACK, REMOVE, World, off_of, on_of, play, shown

from aws_vpc_net.core.protocol import Fail

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
