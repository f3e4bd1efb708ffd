"""What ``off`` does where groups are gone, or of another VPC; see transcript.py."""


import pytest
from core.off_runs import BACKUP, BOTH
from core.transcript import (
    ISO,
    ISO2,
    KEEP,
    KEEP_UNTRACK,
    OPEN,
    REMOVE,
    REMOVE_UNTRACK,
    World,
    eni,
    off_of,
    parsed,
    play,
)

from aws_vpc_net import messages
from aws_vpc_net.core.model import IsolationSpec


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
