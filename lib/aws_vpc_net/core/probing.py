"""What a run learns by connecting to the addresses of the instance: which answered before the first change, and which
are silent since the latest one. Pure.

An address that answered, with SYN-ACK or RST, is observable. It is quiet once two attempts in a row were silent, each
begun after the latest change of groups by this run, and a connection that stood before is dead.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import FrozenSet, Iterable, Mapping, Optional, Tuple

from .model import FrozenMap, Instance

ATTEMPT_SECONDS = 0.5  # after which an attempt without an answer is silent, and the next one begins
SILENT_ATTEMPTS = 2


class Answer(Enum):
    """What came of an attempt to connect."""

    ANSWERED = "answered"  # accepted or refused: either way packets go there and come back
    SILENT = "silent"
    IMPOSSIBLE = "not tried"  # no route, no socket


class Standing(Enum):
    """A connection that was established before the first change."""

    ALIVE = "alive"
    DEAD = "dead"  # nothing answers its keepalives
    ENDED = "ended"  # by the other side, or unknown: it proves nothing


@dataclass(frozen=True)
class Observable:
    """What is known of an address that answered before the first change.

    Attributes:
        interface: whose address it was then.
        answer: to the latest attempt since this run's latest change of groups; None before the first.
        silent: how many of these attempts in a row were silent, up to the latest; at most 2.
        since: when the first of these began.
        standing: the connection that stood before; None if none was kept.
        late: was one of these attempts answered that began when ``settle_time`` was over?
    """

    interface: str
    answer: Optional[Answer] = None
    silent: int = 0
    since: float = 0.0
    standing: Optional[Standing] = None
    late: bool = False

    @property
    def quiet(self) -> bool:
        """Has it been silent twice in a row, and is no connection alive?"""
        return self.silent >= SILENT_ATTEMPTS and self.standing is not Standing.ALIVE

    @property
    def impossible(self) -> bool:
        """Could it not be tried the last time, and is no connection alive?"""
        return self.answer is Answer.IMPOSSIBLE and self.standing is not Standing.ALIVE

    def answered(self, answer: Answer, asked: float, standing: Optional[Standing], settled: float) -> Observable:
        """After one more attempt, which was begun at this point in time; ``settle_time`` was over at that one."""
        silent = min(SILENT_ATTEMPTS, self.silent + 1) if answer is Answer.SILENT else 0
        since = self.since if silent > 1 else asked if silent else 0.0
        late = self.late or (answer is Answer.ANSWERED and asked >= settled)
        return Observable(self.interface, answer, silent, since, standing, late)

    def changed(self) -> Observable:
        """After a change of groups: all is to be seen again."""
        standing = Standing.ALIVE if self.standing is Standing.DEAD else self.standing
        return Observable(self.interface, standing=standing)


@dataclass(frozen=True)
class Probe:
    """What a run knows by its attempts to connect.

    Attributes:
        connected: the interface of each address to which attempts were begun before the first change; None before
            that.
        checked: it was looked what came of these.
        asked: when the latest attempts were begun; None if they were checked again, or groups have changed since.
        addresses: the observable ones.
        warned: those of which the log says that they cannot be tried.
        repeated: this run has isolated an interface again that it had isolated, perhaps, and that was opened since.
            EC2's network may be at the earlier isolation still: silence does not prove that it has followed.
        unknown_fencer: silence may be that of this machine, which may be fenced itself.
    """

    connected: Optional[FrozenMap[str, str]] = None
    checked: bool = False
    asked: Optional[float] = None
    addresses: FrozenMap[str, Observable] = FrozenMap()
    warned: FrozenSet[str] = frozenset()
    repeated: bool = False
    unknown_fencer: bool = False

    def first_checked(self, answers: Mapping[str, Answer], standing: Mapping[str, Standing]) -> Probe:
        """After the attempts that were begun before the first change."""
        assert self.connected is not None
        found = {a: i for a, i in self.connected.items() if answers.get(a) is Answer.ANSWERED}
        addresses = FrozenMap({a: Observable(i, standing=standing.get(a)) for a, i in found.items()})
        return replace(self, checked=True, addresses=addresses)

    def checked_again(
        self, tried: Iterable[str], answers: Mapping[str, Answer], standing: Mapping[str, Standing], settled: float
    ) -> Probe:
        """After attempts that were begun since the latest change."""
        assert self.asked is not None
        known = {a: self.addresses[a] for a in tried}
        new = {
            a: o.answered(answers.get(a, Answer.IMPOSSIBLE), self.asked, standing.get(a, o.standing), settled)
            for a, o in known.items()
        }
        return replace(self, asked=None, addresses=self.addresses.updated(new))

    def changed(self, repeated: bool) -> Probe:
        """After a change of groups by this run."""
        addresses = FrozenMap({a: o.changed() for a, o in self.addresses.items()})
        return replace(self, asked=None, addresses=addresses, repeated=self.repeated or repeated)

    def not_quiet(self, latest: Optional[Instance]) -> Tuple[str, ...]:
        """The observable addresses that are not quiet."""
        return tuple(a for a in self._watched(latest) if not self.addresses[a].quiet)

    def _watched(self, latest: Optional[Instance]) -> Tuple[str, ...]:
        """All but those that have left their interface in this read; it may lack the interface, and be behind."""
        shown = {i.id: i.addresses for i in latest.interfaces} if latest else {}
        return tuple(a for a, o in self.addresses.items() if a in shown.get(o.interface, (a,)))

    def unfinished(self, latest: Optional[Instance]) -> Tuple[str, ...]:
        """Those of them that have to be waited for: without those that cannot be tried."""
        return tuple(a for a in self.not_quiet(latest) if not self.addresses[a].impossible)

    def late(self, interface: str) -> Tuple[str, ...]:
        """The addresses of an interface that answered when ``settle_time`` was over; none, if a connection to it that
        stood before is dead."""
        known = {a: o for a, o in self.addresses.items() if o.interface == interface}
        if any(o.standing is Standing.DEAD for o in known.values()):
            return ()
        return tuple(a for a, o in known.items() if o.late)

    def has_followed(self, latest: Optional[Instance], interfaces: Iterable[str]) -> bool:
        """Does the silence prove that EC2's network has followed, at each of these interfaces and of this read?

        Not where an address cannot be tried any more. A connection that the other side ended proves nothing: then
        another address of the interface has to.
        """
        if self.repeated or self.unknown_fencer:
            return False
        if latest is None or not self.addresses or self.not_quiet(latest):
            return False
        known = [self.addresses[a] for a in self._watched(latest)]
        proven = {o.interface for o in known if o.standing is not Standing.ENDED}
        return {*interfaces, *latest.groups} <= proven


def addresses_of(instance: Optional[Instance]) -> Tuple[str, ...]:
    """The addresses of all interfaces, each once."""
    return tuple(dict.fromkeys(a for i in (instance.interfaces if instance else ()) for a in i.addresses))
