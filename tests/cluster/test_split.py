"""Split brain: the nodes do not reach each other, but all reach the API and the storage host."""

import re
import time
from typing import Iterator

import pytest
from ec2.faults import Hook

from .bed import Bed
from .dataplane import Mode
from .shell import Failed, wait
from .timing import reports

SETTLE_TIME = 5  # the default, in all scenarios of this file
OBSERVED_SECONDS = 5.0  # after the last report, during which a fenced node must not write
ATTEMPTS = 3  # if this machine is too busy
DELAY = 15  # seconds, as the setup page recommends
DELAYED = re.compile(r"Delaying '(?:off|reboot)' action targeting \S+ using fence-vpc for 15s")
AGENT = "fence_aws_vpc_net"
ALL_LAGS = "lag, mode", [(0, Mode.IN_ORDER), (3, Mode.NEWEST), (4.9, Mode.IN_ORDER)]
SOME_LAGS = "lag, mode", [(1, Mode.IN_ORDER), (4.9, Mode.NEWEST)]


def split(bed, *some):
    address = {name: node.machine.addresses[0] for name, node in bed.nodes.items()}
    bed.fabric.split([address[name] for name in some], [address[name] for name in bed.others(*some)])


def wrote_after_a_report(bed, since, reported=True):
    """(node, seconds) of bytes that arrived from a node after success of fencing it was reported, since then."""
    offset = time.time() - time.monotonic()
    reported_at = {name: reports(name, [node.log() for node in bed.nodes.values()]) for name in bed.names}
    since_then = {name: [t - offset for t in times if t - offset >= since] for name, times in reported_at.items()}
    first = {name: min(times) for name, times in since_then.items() if times}
    late = [(w.node, w.at - first[w.node]) for w in bed.storage.writes if w.node in first and w.at > first[w.node]]
    assert first or not reported, "no fencing was reported"
    return late


def in_time(bed, lag, mode, scenario, *options):
    """The result of a scenario on a network that is so late.

    If bytes arrived after a report, but this machine was so busy that the network was later than settle_time, the
    scenario is inconclusive and repeated.
    """
    for _ in range(ATTEMPTS):
        if options:
            bed.pcs("stonith", "update", "fence-vpc", *options)
            bed.wait_until_healthy()
        bed.plane.set_lag(lag, mode)
        began = time.monotonic()
        result = scenario(began)
        if bed.plane.longest_delay(began) < SETTLE_TIME or not wrote_after_a_report(bed, began, reported=False):
            return result
        bed.recover()
    raise Failed(f"{ATTEMPTS} times the network was later than {SETTLE_TIME} s")


@pytest.fixture(scope="module")
def two_nodes(machine: None) -> Iterator[Bed]:
    with Bed(size=2, settle_time=None) as made:
        yield made


@pytest.fixture
def two(two_nodes: Bed, request: pytest.FixtureRequest) -> Iterator[Bed]:
    """A healthy cluster of two nodes, like `bed`; each has quorum alone."""
    two_nodes.reset()
    request.node.funcargs["bed"] = two_nodes  # its logs are saved
    yield two_nodes
    two_nodes.plane.check()


def test_majority_of_three_fences_the_minority(bed, measured):
    def majority(began):
        minority = bed.writer_on()
        split(bed, minority)
        event = bed.wait_until_fenced(minority)
        measured(f"fenced {time.monotonic() - began:.1f} s after the split, by {event.delegate}")
        new_node = bed.wait_until_moved(minority)
        time.sleep(OBSERVED_SECONDS)
        return began, minority, event, new_node

    began, minority, event, new_node = in_time(bed, 4.9, Mode.NEWEST, majority, "settle_time=")
    assert event.delegate in bed.others(minority)
    assert [bed.cloud.isolated(name) for name in bed.names] == [name == minority for name in bed.names]
    assert wrote_after_a_report(bed, began) == []
    assert [name for name, _, _ in bed.storage.spans(began)] in ([minority, new_node], [new_node])


@pytest.mark.parametrize(*ALL_LAGS)
def test_two_nodes_without_delay_are_never_both_active(two, measured, lag, mode):
    def both_fence(began):
        split(two, two.names[0])
        wait("one is fenced", lambda: [n for n in two.names if two.cloud.isolated(n)], 60)
        time.sleep(SETTLE_TIME + OBSERVED_SECONDS)
        return began

    began = in_time(two, lag, mode, both_fence)
    isolated = [name for name in two.names if two.cloud.isolated(name)]
    left = [name for name in two.names if name not in isolated]
    # Two nodes that isolate each other at the same moment both lose the API. Unless the network is late, neither can
    # verify the isolation, and none reports success.
    assert wrote_after_a_report(two, began, reported=bool(left)) == []
    assert two.storage.active(2.0) in ([], left)
    measured(f"{lag} s, {mode.value}: fenced: {' and '.join(isolated)}; active: {' and '.join(left) or 'none'}")


@pytest.mark.parametrize(*SOME_LAGS)
def test_two_nodes_with_delay_keep_one_active(two, measured, lag, mode):
    winner, loser = two.names

    def loser_is_late(began):
        split(two, winner)
        wait(f"{winner} has fenced {loser}", lambda: reports(loser, [two.nodes[winner].log()]), 60)
        wait(f"the fencing by {loser} is delayed", lambda: DELAYED.search(two.nodes[loser].log()), 60)
        wait(f"{loser} tries", lambda: time.monotonic() > began + DELAY and two.nodes[loser].pids(AGENT), 60)
        time.sleep(OBSERVED_SECONDS)
        return began

    delay = f"pcmk_delay_base={winner}:{DELAY}s;{loser}:0s"
    began = in_time(two, lag, mode, loser_is_late, delay)
    assert wrote_after_a_report(two, began) == []
    assert [two.cloud.isolated(name) for name in (winner, loser)] == [False, True]
    assert reports(winner, [two.nodes[loser].log()]) == []
    wait("the survivor writes", lambda: two.storage.active() == [winner], 60)
    spans = [name for name, _, _ in two.storage.spans(began)]
    assert spans in ([winner], [loser, winner]), "never two writers at once"
    measured(f"{lag} s, {mode.value}: {winner} survives")


def test_off_by_a_concurrently_fenced_node_is_refused(two, measured):
    """Delayed after it wrote its backup, it reads that it is fenced. Without untracking, its connection survives."""
    two.pcs("stonith", "update", "fence-vpc", "untrack_secg=", "api_timeout=30")  # as each waits for the other
    two.wait_until_healthy()
    quick, slow = two.names

    def hold(_call):
        wait(f"{slow} is fenced", lambda: two.cloud.isolated(slow), 30)

    mine = two.nodes[quick].machine.instance
    began = time.monotonic()  # an earlier scenario may have fenced the same node

    def is_backup(call):
        values = call.params.values() if call.action == "CreateTags" and call.at > began else ()
        return "lastfence" in values and mine in values

    two.ec2.rules.add("CreateTags", Hook(hold, late=True), when=is_backup)

    def wait_for_backup(_call):
        wait(f"{slow} has written its backup", lambda: any(map(is_backup, list(two.ec2.calls))), 30)

    tnew_nodes = list(two.cloud.interfaces()[slow])
    two.ec2.rules.add(
        "ModifyNetworkInterfaceAttribute",
        Hook(wait_for_backup),
        when=lambda call: call.params["NetworkInterfaceId"] in tnew_nodes,
        times=None,
    )
    logged = len(two.nodes[slow].log())
    split(two, quick)
    refused = wait(
        f"the fencer on {slow} refuses",
        lambda: re.search(r".*is fenced and must not fence other nodes.*", two.nodes[slow].log()[logged:]),
        60,
    )
    assert two.cloud.interfaces()[quick] == two.cloud.original[quick], "the refusal changed nothing"
    assert two.cloud.isolated(slow)
    measured(re.sub(r".*(this machine)", r"\1", refused[0])[:118])
