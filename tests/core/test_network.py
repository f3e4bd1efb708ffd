"""What counts as proof that EC2's network has followed: the check of every step, and the account of attempts."""

from dataclasses import replace
from typing import Any, Dict, Optional

import pytest
from core.transcript import ID, KEEP, eni

from aws_vpc_net.core.invariants import network_is_proven
from aws_vpc_net.core.model import FrozenMap, Instance, Interface
from aws_vpc_net.core.probing import Answer, Observable, Probe, Standing, addresses_of
from aws_vpc_net.core.protocol import (
    DataPlane,
    Fail,
    Knowledge,
    Opening,
    Plan,
    Progress,
    Reads,
    Step,
    Succeed,
    Tick,
    Timers,
)
from aws_vpc_net.errors import Category

A0, A1, MORE = "10.0.0.0", "10.0.0.1", "10.0.9.9"
QUIET = Observable(eni("e0"), Answer.SILENT, 2)
TWO = {A0: QUIET, A1: replace(QUIET, interface=eni("e1"))}
SETTLED = 100.0


def owners(addresses: Dict[str, Observable]) -> FrozenMap[str, str]:
    """The interface of each address."""
    return FrozenMap({a: o.interface for a, o in addresses.items()})


def shown(state: str = "running", interfaces: str = "01") -> Instance:
    """As the latest read shows it."""
    attached = [Interface(eni(f"e{n}"), int(n) + 1, KEEP.named, addresses=(f"10.0.0.{n}",)) for n in interfaces]
    return Instance(ID, state, tuple(attached))


def violations(
    addresses: Dict[str, Observable],
    now: float = SETTLED - 1,
    action: Any = None,
    restoring: bool = False,
    latest: Optional[Instance] = None,
    untracked: bool = False,
    repeated: bool = False,
    unknown_fencer: bool = False,
    **reads: Any,
) -> str:
    """What the check says of a success at this point in time."""
    progress = Progress(opening=Opening(untrack_attempts=int(untracked)))
    k = Knowledge(
        reads=Reads(latest=latest or shown(), fresh=True, in_time=True, **reads),
        interfaces=FrozenMap(dict.fromkeys((eni("e0"), eni("e1")), progress)),
        timers=Timers(settled=SETTLED),
        probe=Probe(owners(addresses), True, None, FrozenMap(addresses), repeated=repeated),
    )
    plan = Plan(ID, KEEP, restoring=restoring, data_plane=DataPlane(5.0, True, unknown_fencer=unknown_fencer))
    return "; ".join(
        network_is_proven(plan, k, Step(action or Succeed(), k), Tick(now, SETTLED + 40, SETTLED + 45, 0, 0))
    )


def changed(address: str, **more: Any) -> Dict[str, Observable]:
    """Two quiet addresses, but for what is said of one."""
    return {**TWO, address: replace(TWO[address], **more)}


EARLY = "before settle_time is over"


@pytest.mark.parametrize(
    ("says", "arguments"),
    [
        ("", {"addresses": TWO}),
        ("", {"addresses": {}, "now": SETTLED}),
        (EARLY, {"addresses": {}}),
        (EARLY, {"addresses": {A0: QUIET}}),
        (EARLY, {"addresses": TWO, "own_fenced": True}),
        (EARLY, {"addresses": TWO, "repeated": True}),
        (EARLY, {"addresses": TWO, "unknown_fencer": True}),
        ("", {"addresses": TWO, "repeated": True, "now": SETTLED}),
        (EARLY, {"addresses": changed(A0, standing=Standing.ENDED)}),
        ("", {"addresses": changed(A0, standing=Standing.DEAD)}),
        ("", {"addresses": changed(A0, standing=Standing.ENDED), "now": SETTLED}),
        ("10.0.0.1 was not silent twice", {"addresses": changed(A1, silent=1), "now": SETTLED}),
        ("10.0.0.1 was not silent twice", {"addresses": changed(A1, silent=0, answer=None), "now": SETTLED}),
        ("", {"addresses": changed(A1, silent=0, answer=Answer.IMPOSSIBLE), "now": SETTLED}),
        (EARLY, {"addresses": changed(A1, silent=0, answer=Answer.IMPOSSIBLE)}),
        (EARLY, {"addresses": {**TWO, MORE: Observable("eni-9", Answer.IMPOSSIBLE)}}),
        ("a connection to 10.0.0.0 is alive", {"addresses": changed(A0, standing=Standing.ALIVE), "now": SETTLED}),
        ("", {"addresses": {**TWO, MORE: Observable(eni("e0"), Answer.ANSWERED)}}),
        ("", {"addresses": changed(A1, late=True), "now": SETTLED}),
        ("10.0.0.1 may be tracked", {"addresses": changed(A1, late=True), "now": SETTLED, "untracked": True}),
        ("", {"addresses": changed(A1, late=True, standing=Standing.DEAD), "now": SETTLED, "untracked": True}),
        (
            "10.0.0.1 may be tracked",
            {"addresses": changed(A1, late=True, standing=Standing.ENDED), "now": SETTLED, "untracked": True},
        ),
        ("", {"addresses": TWO, "now": SETTLED, "untracked": True}),
        ("", {"addresses": {}, "action": Fail(Category.MODIFICATION, "")}),
        ("", {"addresses": {}, "restoring": True}),
        ("", {"addresses": {}, "latest": shown("terminated")}),
        (EARLY, {"addresses": {A0: QUIET}, "latest": shown(interfaces="0")}),
    ],
)
def test_success_needs_a_network_that_has_followed(says, arguments):
    said = violations(**arguments)
    assert says in said
    assert bool(says) == bool(said)


@pytest.mark.parametrize(
    ("before", "answer", "asked", "after"),
    [
        (Observable("e"), Answer.SILENT, 3.0, Observable("e", Answer.SILENT, 1, 3.0)),
        (Observable("e", Answer.SILENT, 1, 3.0), Answer.SILENT, 4.0, Observable("e", Answer.SILENT, 2, 3.0)),
        (Observable("e", Answer.SILENT, 2, 3.0), Answer.SILENT, 5.0, Observable("e", Answer.SILENT, 2, 3.0)),
        (Observable("e", Answer.SILENT, 2, 3.0), Answer.ANSWERED, 4.0, Observable("e", Answer.ANSWERED)),
        (Observable("e", Answer.SILENT, 1, 3.0), Answer.IMPOSSIBLE, 4.0, Observable("e", Answer.IMPOSSIBLE)),
        (Observable("e"), Answer.ANSWERED, 9.9, Observable("e", Answer.ANSWERED)),
        (Observable("e"), Answer.ANSWERED, 10.0, Observable("e", Answer.ANSWERED, late=True)),
        (Observable("e"), Answer.SILENT, 10.0, Observable("e", Answer.SILENT, 1, 10.0)),
        (Observable("e", late=True), Answer.SILENT, 3.0, Observable("e", Answer.SILENT, 1, 3.0, late=True)),
    ],
)
def test_an_attempt_counts_from_the_point_at_which_it_began(before, answer, asked, after):
    assert before.answered(answer, asked, None, settled=10.0) == after


def test_a_change_of_groups_begins_the_account_anew():
    """A connection that was dead may be alive again; one that has ended is not."""
    known = Observable("e", Answer.SILENT, 2, 3.0, Standing.DEAD, True)
    assert known.changed() == Observable("e", standing=Standing.ALIVE)
    assert replace(known, standing=Standing.ENDED).changed() == Observable("e", standing=Standing.ENDED)
    probe = Probe(owners({A0: known}), True, 7.0, FrozenMap({A0: known}))
    expected = replace(probe, asked=None, addresses=FrozenMap({A0: known.changed()}))
    assert probe.changed(False) == expected
    assert probe.changed(True) == probe.changed(True).changed(False) == replace(expected, repeated=True)


def test_without_a_read_of_the_instance_silence_proves_nothing():
    probe = Probe(owners(TWO), True, None, FrozenMap(TWO))
    assert probe.has_followed(shown(), ())
    assert not probe.has_followed(None, ())
    assert not replace(probe, repeated=True).has_followed(shown(), ())
    assert not Probe(FrozenMap(), True).has_followed(Instance(ID, "running", ()), ())
    assert probe.not_quiet(None) == ()
    assert (addresses_of(shown()), addresses_of(None)) == ((A0, A1), ())
