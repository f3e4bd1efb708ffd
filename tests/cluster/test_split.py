"""Split brain: the nodes do not see each other, all reach the API, and the storage host."""

import re
import time
from typing import Iterator

import pytest
from ec2.faults import Hook

from .bed import Bed
from .dataplane import Mode
from .shell import Failed, wait
from .timing import reports

SETTLE_TIME = 5  # the default, which holds in all scenarios here
WATCHED = 5.0  # seconds after the last report, to see that nobody writes who should not
TRIES = 3  # where this machine is too busy
HEAD_START = 15  # seconds, as the guide recommends
DELAYED = re.compile(r"Delaying '(?:off|reboot)' action targeting \S+ using fence-vpc for 15s")
AGENT = "fence_aws_vpc_net"
ALL_LAGS = "lag, mode", [(0, Mode.IN_ORDER), (3, Mode.NEWEST), (4.9, Mode.IN_ORDER)]
SOME_LAGS = "lag, mode", [(1, Mode.IN_ORDER), (4.9, Mode.NEWEST)]


def split(bed, *some):
    address = {name: node.machine.addresses[0] for name, node in bed.nodes.items()}
    bed.fabric.split([address[name] for name in some], [address[name] for name in bed.others(*some)])


def wrote_after_a_report(bed, since, reported=True):
    """(node, seconds) of bytes that arrived from a node after a fencing of it, since then, was reported as done."""
    offset = time.time() - time.monotonic()
    done = {name: reports(name, [node.log() for node in bed.nodes.values()]) for name in bed.names}
    since_then = {name: [t - offset for t in times if t - offset >= since] for name, times in done.items()}
    first = {name: min(times) for name, times in since_then.items() if times}
    late = [(w.node, w.at - first[w.node]) for w in bed.storage.writes if w.node in first and w.at > first[w.node]]
    assert first or not reported, "no fencing was reported"
    return late


def in_time(bed, lag, mode, scenario, *options):
    """What the scenario returns, on a network that follows so late.

    Where bytes arrived after a report, but this machine was so busy that the network followed later than settle_time,
    nothing is learnt: it is done again.
    """
    for _ in range(TRIES):
        if options:
            bed.pcs("stonith", "update", "fence-vpc", *options)
            bed.settle()
        bed.plane.set(lag, mode)
        began = time.monotonic()
        result = scenario(began)
        if bed.plane.slowest(began) < SETTLE_TIME or not wrote_after_a_report(bed, began, reported=False):
            return result
        bed.recover()
    raise Failed(f"{TRIES} times the rules followed later than {SETTLE_TIME} s")


@pytest.fixture(scope="module")
def two_nodes(machine: None) -> Iterator[Bed]:
    with Bed(size=2, settle_time=None) as made:
        yield made


@pytest.fixture
def two(two_nodes: Bed, request: pytest.FixtureRequest) -> Iterator[Bed]:
    """A cluster of two, as healthy as `bed`; each has quorum alone."""
    two_nodes.renew()
    request.node.funcargs["bed"] = two_nodes  # whose logs are kept
    yield two_nodes
    two_nodes.plane.check()


def test_of_three_nodes_the_majority_fences_the_other(bed, measured):
    def majority(began):
        alone = bed.writer_on()
        split(bed, alone)
        event = bed.fenced(alone)
        measured(f"fenced {time.monotonic() - began:.1f} s after the split, by {event.delegate}")
        heir = bed.moved(alone)
        time.sleep(WATCHED)
        return began, alone, event, heir

    began, alone, event, heir = in_time(bed, 4.9, Mode.NEWEST, majority, "settle_time=")
    assert event.delegate in bed.others(alone)
    assert [bed.cloud.isolated(name) for name in bed.names] == [name == alone for name in bed.names]
    assert wrote_after_a_report(bed, began) == []
    assert [name for name, _, _ in bed.storage.spans(began)] in ([alone, heir], [heir])


@pytest.mark.parametrize(*ALL_LAGS)
def test_two_nodes_without_a_delay_are_never_both_active(two, measured, lag, mode):
    def both_fence(began):
        split(two, two.names[0])
        wait("one is fenced", lambda: [n for n in two.names if two.cloud.isolated(n)], 60)
        time.sleep(SETTLE_TIME + WATCHED)
        return began

    began = in_time(two, lag, mode, both_fence)
    cut = [name for name in two.names if two.cloud.isolated(name)]
    left = [name for name in two.names if name not in cut]
    # Two that cut each other at the same moment both lose the way to the API: unless the network is late, neither can
    # prove it, and none reports.
    assert wrote_after_a_report(two, began, reported=bool(left)) == []
    assert two.storage.active(2.0) in ([], left)
    measured(f"{lag} s, {mode.value}: fenced: {' and '.join(cut)}; active: {' and '.join(left) or 'none'}")


@pytest.mark.parametrize(*SOME_LAGS)
def test_two_nodes_with_a_head_start_one_survives(two, measured, lag, mode):
    winner, loser = two.names

    def loser_is_late(began):
        split(two, winner)
        wait(f"{winner} has fenced {loser}", lambda: reports(loser, [two.nodes[winner].log()]), 60)
        wait(f"the fencing by {loser} is delayed", lambda: DELAYED.search(two.nodes[loser].log()), 60)
        wait(f"{loser} tries", lambda: time.monotonic() > began + HEAD_START and two.nodes[loser].pids(AGENT), 60)
        time.sleep(WATCHED)
        return began

    delay = f"pcmk_delay_base={winner}:{HEAD_START}s;{loser}:0s"
    began = in_time(two, lag, mode, loser_is_late, delay)
    assert wrote_after_a_report(two, began) == []
    assert [two.cloud.isolated(name) for name in (winner, loser)] == [False, True]
    assert reports(winner, [two.nodes[loser].log()]) == []
    wait("the survivor writes", lambda: two.storage.active() == [winner], 60)
    spans = [name for name, _, _ in two.storage.spans(began)]
    assert spans in ([winner], [loser, winner]), "never two writers at once"
    measured(f"{lag} s, {mode.value}: {winner} survives")


def test_a_fencer_that_was_fenced_meanwhile_refuses(two, measured):
    """Held up after it wrote its record, it finds itself fenced. Without untracking: its connection lives on."""
    two.pcs("stonith", "update", "fence-vpc", "untrack_secg=", "api_timeout=30")  # as each waits for the other
    two.settle()
    quick, slow = two.names

    def hold(_call):
        wait(f"{slow} is fenced", lambda: two.cloud.isolated(slow), 30)

    mine = two.nodes[quick].machine.instance
    began = time.monotonic()  # an earlier scenario may have fenced the same node

    def is_record(call):
        values = call.params.values() if call.action == "CreateTags" and call.at > began else ()
        return "lastfence" in values and mine in values

    two.ec2.rules.add("CreateTags", Hook(hold, late=True), when=is_record)

    def let_begin(_call):
        wait(f"{slow} has written its record", lambda: any(map(is_record, list(two.ec2.calls))), 30)

    theirs = list(two.cloud.interfaces()[slow])
    two.ec2.rules.add(
        "ModifyNetworkInterfaceAttribute",
        Hook(let_begin),
        when=lambda call: call.params["NetworkInterfaceId"] in theirs,
        times=None,
    )
    told = len(two.nodes[slow].log())
    split(two, quick)
    refused = wait(
        f"the fencer on {slow} refuses",
        lambda: re.search(r".*is fenced and must not fence other nodes.*", two.nodes[slow].log()[told:]),
        60,
    )
    assert two.cloud.interfaces()[quick] == two.cloud.original[quick], "the refusal changed nothing"
    assert two.cloud.isolated(slow)
    measured(re.sub(r".*(this machine)", r"\1", refused[0])[:118])
