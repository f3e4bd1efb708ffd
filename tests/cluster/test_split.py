"""Split brain: the nodes do not see each other, all reach the API, and the storage host."""

import re
import time
from typing import Iterator

import pytest
from ec2.faults import Hook

from .bed import Bed
from .shell import Failed, wait
from .timing import reports

WATCHED = 5.0  # seconds after the last report, to see that nobody writes who should not
TRIES = 3  # where both draw the same delay, nothing is learnt of it


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


@pytest.fixture(scope="module")
def two_nodes(machine: None) -> Iterator[Bed]:
    with Bed(size=2) as made:
        yield made


@pytest.fixture
def two(two_nodes: Bed, request: pytest.FixtureRequest) -> Bed:
    """A cluster of two, as healthy as `bed`; each has quorum alone."""
    two_nodes.renew()
    request.node.funcargs["bed"] = two_nodes  # whose logs are kept
    return two_nodes


def test_of_three_nodes_the_majority_fences_the_other(bed, measured):
    alone = bed.writer_on()
    began = time.monotonic()
    split(bed, alone)
    event = bed.fenced(alone)
    heir = bed.moved(alone)
    measured(f"fenced {time.monotonic() - began:.1f} s after the split, by {event.delegate}")
    time.sleep(WATCHED)
    assert event.delegate in bed.others(alone)
    assert [bed.cloud.isolated(name) for name in bed.names] == [name == alone for name in bed.names]
    assert wrote_after_a_report(bed, began) == []
    assert [name for name, _, _ in bed.storage.spans(began)] in ([alone, heir], [heir])


def test_two_nodes_without_a_delay_are_never_both_active(two, measured):
    began = time.monotonic()
    split(two, two.names[0])
    wait("one is fenced", lambda: [n for n in two.names if two.cloud.isolated(n)], 60)
    time.sleep(2 * WATCHED)
    cut = [name for name in two.names if two.cloud.isolated(name)]
    left = [name for name in two.names if name not in cut]
    # Two that cut each other at the same moment both lose the way to the API: neither can prove it, and none reports.
    assert wrote_after_a_report(two, began, reported=bool(left)) == []
    assert two.storage.active(2.0) in ([], left)
    measured(f"fenced: {' and '.join(cut)}; active: {' and '.join(two.storage.active(2.0)) or 'none'}")


def test_two_nodes_with_pcmk_delay_max_one_survives(two, measured):
    two.pcs("stonith", "update", "fence-vpc", "pcmk_delay_max=10s")
    for _ in range(TRIES):
        two.settle()
        began = time.monotonic()
        split(two, two.names[0])
        survivor = wait("one has fenced the other", lambda: _fencers(two), 60)
        delays = _delays(two)
        time.sleep(WATCHED)
        assert wrote_after_a_report(two, began) == []
        if len(set(delays.values())) == 2:
            break
        two.recover()
        two.pcs("stonith", "update", "fence-vpc", "pcmk_delay_max=10s")
    else:
        raise Failed(f"{TRIES} times both drew the same delay: {delays}")
    assert len(survivor) == 1
    cut = two.others(*survivor)[0]
    assert [two.cloud.isolated(name) for name in (cut, *survivor)] == [True, False]
    wait("the survivor writes", lambda: two.storage.active() == survivor, 60)
    measured(f"delays {delays}; {survivor[0]} survives, {time.monotonic() - began:.1f} s after the split")


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
        lambda: re.search(r".*is fenced itself and must not fence others.*", two.nodes[slow].log()[told:]),
        60,
    )
    assert two.cloud.interfaces()[quick] == two.cloud.original[quick], "the refusal changed nothing"
    assert two.cloud.isolated(slow)
    measured(re.sub(r".*(this machine)", r"\1", refused[0])[:118])


def _fencers(two):
    """The nodes whose log tells of a fencing that succeeded."""
    return [name for name in two.names if reports(two.others(name)[0], [two.nodes[name].log()])]


def _delays(two):
    """Node to the seconds that it waited before it fenced."""
    found = {}
    for name, node in two.nodes.items():
        match = re.findall(r"Delaying '(?:off|reboot)' action targeting \S+ using fence-vpc for (\d+)s", node.log())
        found[name] = int(match[-1]) if match else 0
    return found
