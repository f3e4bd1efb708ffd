"""How ``off`` opens interfaces to end connections, and closes them in any case; see transcript.py."""

from dataclasses import replace

import pytest
from core.off_runs import BACKUP, BOTH, ORIGINALS, late, two
from core.transcript import KEEP, KEEP_UNTRACK, World, eni, off_of, parsed, play, shown

from aws_vpc_net import messages
from aws_vpc_net.core.isolating import close_after_interrupt, end
from aws_vpc_net.core.model import FrozenMap
from aws_vpc_net.core.protocol import Change, Fail, LookUpGroups, SetGroups


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
