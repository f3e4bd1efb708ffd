"""What ``off`` does if success requires the stop of the instance; see transcript.py."""


import pytest
from core.off_runs import BACKUP
from core.transcript import World, off_of, parsed, play

from aws_vpc_net import messages
from aws_vpc_net.errors import Category

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
