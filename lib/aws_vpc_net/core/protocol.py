"""The words of the protocol: effects, outcomes, time, what a run knows, and the next step.

    Step --effect--> EC2 --result--> observe() --Knowledge--> decide() --> Step --> ...

``decide`` (in off.py and on.py) makes all decisions; ``observe`` only updates what is known. Both are pure.
Points in time are seconds on one clock that never goes back; they are never "seconds left".
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum
from typing import FrozenSet, Iterable, Optional, Tuple, Union

from ..errors import Category, FenceError
from .backup import Backup, TagHistory
from .group_choice import IsolatingGroups
from .model import NONE, FrozenMap, Groups, Instance, IsolationSpec
from .probing import Answer, Probe, Standing

Point = float
DEBUG, INFO, WARNING = 10, 20, 30  # the levels of logging
READ_ONCE_MORE_SECONDS = 0.4  # before what is not there is taken to be not there


# --- what is asked of EC2 --------------------------------------------------------------------------------------


class Change(Enum):
    """Why groups are set."""

    UNTRACK = "untrack"
    ISOLATE = "isolate"
    ROLL_BACK = "roll back"
    RESTORE = "restore"


@dataclass(frozen=True)
class Read:
    """Read these instances in one call."""

    ids: Tuple[str, ...]


@dataclass(frozen=True)
class WriteTags:
    """Write all of these tags in one call: EC2 takes all or none. ``backup``: what they then are, with others."""

    id: str
    tags: FrozenMap[str, str]
    backup: Optional[Backup] = None


@dataclass(frozen=True)
class DeleteTags:
    """Delete these tags where they still hold these values."""

    id: str
    tags: FrozenMap[str, str]


@dataclass(frozen=True)
class SetGroups:
    """Replace the groups of each interface, all concurrently, one attempt each."""

    change: Change
    goals: FrozenMap[str, Groups]


@dataclass(frozen=True)
class LookUpGroups:
    """Find the VPCs in which each of these groups can be used; not for long."""

    groups: Tuple[str, ...]


@dataclass(frozen=True)
class StartInstance:
    """Start a stopped instance."""

    id: str


@dataclass(frozen=True)
class StopInstance:
    """Stop it at once, without waiting for its operating system where EC2 can."""

    id: str


@dataclass(frozen=True)
class Connect:
    """Begin one attempt to connect to each address; takes no time."""

    addresses: Tuple[str, ...]


@dataclass(frozen=True)
class CheckAnswers:
    """Look what has answered up to now; takes no time. Of the connections that have come about, keep these."""

    addresses: Tuple[str, ...]
    keep: Tuple[str, ...] = ()


Power = Union[StartInstance, StopInstance]
Effect = Union[Read, WriteTags, DeleteTags, SetGroups, LookUpGroups, Power, Connect, CheckAnswers]


# --- what came of it -------------------------------------------------------------------------------------------


class Outcome(Enum):
    """What is known of one attempt at a change."""

    ACCEPTED = "accepted"
    REFUSED = "refused"  # for good: another try will not change it
    TRANSIENT = "not done, worth another try"
    UNKNOWN = "unknown: it may have taken effect, or still do so"
    GONE = "the interface is not there; the next read decides"


@dataclass(frozen=True)
class Failure:
    """Why an effect was not accepted; ``unallowed``: by the caller's own policy, or for no reason that is given."""

    outcome: Outcome
    category: Category
    text: str
    code: str = ""
    unallowed: bool = False


@dataclass(frozen=True)
class Instances:
    """The answer to Read: those that exist, and the point in time at which it was asked."""

    instances: FrozenMap[str, Instance]
    asked: Point = 0.0


@dataclass(frozen=True)
class Done:
    """The answer to WriteTags, DeleteTags, StartInstance, StopInstance and Connect: accepted."""


@dataclass(frozen=True)
class Changes:
    """The answer to SetGroups: for each interface None if EC2 accepted the change."""

    failures: FrozenMap[str, Optional[Failure]]


@dataclass(frozen=True)
class Networks:
    """The answer to LookUpGroups: the VPCs of each group that exists; are these all, associated ones included?"""

    vpcs: FrozenMap[str, FrozenSet[str]]
    complete: bool = True


@dataclass(frozen=True)
class Answers:
    """The answer to CheckAnswers: of each address, and of the connections that are kept."""

    answers: FrozenMap[str, Answer]
    standing: FrozenMap[str, Standing] = FrozenMap()


Result = Union[Instances, Done, Changes, Networks, Answers, Failure]


@dataclass(frozen=True)
class Tick:
    """Time and chance, as data.

    Attributes:
        now: the point in time that it is.
        ends: no ordinary call after it.
        reserve_ends: no call at all after it. The time from ``ends`` on is kept to close, to roll back, to power off.
        unix_time: seconds since 1970.
        nonce: random bits.
        seconds: the time of the whole operation, for messages.
    """

    now: Point
    ends: Point
    reserve_ends: Point
    unix_time: int
    nonce: int
    seconds: float = 45.0

    @property
    def expired(self) -> bool:
        """Is there no time left for ordinary calls?"""
        return self.now >= self.ends

    @property
    def reserve_expired(self) -> bool:
        """Is there no time left at all?"""
        return self.now >= self.reserve_ends

    def share(self, part: float) -> Point:
        """The point in time at which this part of what is left for ordinary calls is over."""
        return self.now + max(0.0, self.ends - self.now) * part


# --- what is to be done ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class DataPlane:
    """How ``off`` proves that EC2's network has followed a change of groups, which its API accepts before.

    Attributes:
        settle_seconds: how long the network may take.
        probe: this machine tries whether the instance still answers.
        stop: the instance has to stop too, since no group filters its EBS volumes.
        unknown_fencer: nobody can tell whether this machine is fenced itself: then silence proves nothing.
    """

    settle_seconds: float = 0.0
    probe: bool = False
    stop: bool = False
    unknown_fencer: bool = False


@dataclass(frozen=True)
class Restore:
    """What is particular of an ``on``.

    Attributes:
        ignored: it restores nothing.
        unattended: monitor makes it, with auto_unfence: the tag that counts these returns stays.
    """

    ignored: bool = False
    unattended: bool = False


@dataclass(frozen=True)
class Plan:
    """What the operator asked for, of one instance.

    Attributes:
        own: this machine's instance ID, if it is to be looked at.
        static: the groups of ``interfaceN-sg``, by N.
        restoring: it is ``on``.
        restore: what is particular of this ``on``.
        power: ``off`` stops the instance afterwards; ``on`` starts it.
    """

    id: str
    spec: IsolationSpec
    own: Optional[str] = None
    static: FrozenMap[int, Groups] = FrozenMap()
    ignore_instance_state: bool = False
    restoring: bool = False
    restore: Restore = Restore()
    power: bool = False
    data_plane: DataPlane = DataPlane()
    api_seconds: float = 5.0

    @property
    def settle_seconds(self) -> float:
        """How long the network may take to follow."""
        return self.data_plane.settle_seconds

    @property
    def require_poweroff(self) -> bool:
        """Does ``off`` succeed only if the instance has stopped?"""
        return self.data_plane.stop

    @property
    def machines(self) -> Tuple[str, ...]:
        """The target, and this machine, to look whether it was fenced."""
        return (self.id, self.own) if self.own else (self.id,)


@dataclass(frozen=True)
class Succeed:
    """The operation has succeeded."""


@dataclass(frozen=True)
class Fail:
    """The operation has failed; an operator can act on the text."""

    category: Category
    text: str

    @staticmethod
    def of(why: Union[FenceError, Failure]) -> Fail:
        """The end of a run for this reason."""
        return Fail(why.category, why.text)


@dataclass(frozen=True)
class Settle:
    """Nothing to do before this point in time: all is isolated, and EC2's network may still have to follow."""

    until: Point


@dataclass(frozen=True)
class Note:
    """A line for the log; ``originals``: the original groups that it names, for whoever has to set them by hand."""

    level: int
    text: str
    originals: FrozenMap[str, Groups] = FrozenMap()


Notes = Tuple[Note, ...]


@dataclass(frozen=True)
class Step:
    """What to do next.

    Attributes:
        knowledge: what the run knows when this step is taken; ``observe`` goes on from here.
        backoff: pause before it, longer each time.
        not_before: the point in time to wait for, but not beyond ``ends``.
        ends: the point in time by which the effect must have answered.
        notes: what to log before it.
    """

    action: Union[Effect, Settle, Succeed, Fail]
    knowledge: Knowledge
    ends: Point = 0.0
    backoff: bool = False
    not_before: Point = 0.0
    notes: Notes = ()


def fail(k: Knowledge, why: Union[FenceError, Failure]) -> Step:
    """Fail for this reason; nothing that this run has opened is open."""
    return Step(Fail.of(why), k)


# --- what a run knows ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Opening:
    """How this run opens one interface: through ``untrack_secg``, by a roll-back, or by a restore.

    Attributes:
        untrack_due: it has to pass through ``untrack_secg``, and did not yet.
        untrack_attempts: how many changes to that group took effect, or may have.
        untrack_tried: such a change was tried in the present round of changes.
        late_until: until this time a change that opens it, and had no reply, may take effect; 0 if there is none.
        opened: this run may have opened it, and must isolate it before it ends: it has set ``untrack_secg``, or it
            has rolled it back or restored it while another fencer was active.
    """

    untrack_due: bool = False
    untrack_attempts: int = 0
    untrack_tried: bool = False
    late_until: Point = 0.0
    opened: bool = False


@dataclass(frozen=True)
class Progress:
    """What this run knows of one interface, by the latest attempt to change it.

    Attributes:
        goal: the groups that isolate it.
        open_groups: where it goes back to: by ``off`` the groups of the read that proved the backup, by ``on`` the
            original ones.
        outcome: of the latest attempt to isolate it (off) or to restore it (on); None before the first.
        failure: the latest one, as long as no attempt was accepted.
        under: ``lastfence`` of the backup under which isolating it was accepted.
        possibly_changed: some attempt took effect, or may have, and was not undone.
        outcome_unknown: some attempt may have taken effect, and none was accepted since.
        wrong_reads: in how many of the latest reads in a row that show it, since the latest attempt, it had other
            groups than it should; at most 2.
        missing_reads: in how many of the latest reads in a row it was not shown; at most 2.
    """

    goal: Groups = NONE
    open_groups: Groups = NONE
    outcome: Optional[Outcome] = None
    failure: Optional[Failure] = None
    under: Optional[int] = None
    possibly_changed: bool = False
    outcome_unknown: bool = False
    wrong_reads: int = 0
    missing_reads: int = 0
    opening: Opening = Opening()

    @property
    def accepted(self) -> bool:
        """Was the latest attempt?"""
        return self.outcome is Outcome.ACCEPTED

    @property
    def refused(self) -> bool:
        """Was the latest attempt, for good?"""
        return self.outcome is Outcome.REFUSED

    @property
    def lately_gone(self) -> bool:
        """Does the latest read lack it, for the first time, and it is not done? It may be there all the same."""
        return self.missing_reads == 1 and not self.accepted

    def with_opened(self, opened: bool) -> Progress:
        """After it was opened, perhaps, or isolated again."""
        return replace(self, opening=replace(self.opening, opened=opened))


@dataclass(frozen=True)
class BackupState:
    """What this run knows of the backup.

    Attributes:
        first_times: times of the backups that the truly first read showed.
        history: what this run has written, and what it has seen of others and answered.
        written: the tags that this run wrote.
        backups: those that this run wrote, the latest last.
        originals: the original groups, by all that was seen.
        numbers: the number of each interface that was ever seen.
        missing: the latest read shows none of ours, and none was written since.
        rewritten: it was tried to write it again since the latest read.
        failure: of the latest attempt to write it.
        answered: since the latest change of groups it was written again beside another fencer.
        claimed: the tags that this ``on`` has claimed, as EC2 has accepted them.
    """

    first_times: FrozenSet[int] = frozenset()
    history: TagHistory = TagHistory()
    backups: Tuple[Backup, ...] = ()
    originals: FrozenMap[str, Groups] = FrozenMap()
    numbers: FrozenMap[str, int] = FrozenMap()
    missing: bool = False
    rewritten: bool = False
    failure: Optional[Failure] = None
    answered: bool = False
    claimed: FrozenMap[str, str] = FrozenMap()

    @property
    def latest(self) -> Optional[Backup]:
        """The latest one that this run wrote."""
        return self.backups[-1] if self.backups else None

    @property
    def written(self) -> FrozenSet[Tuple[str, str]]:
        """All tags that this run wrote."""
        return frozenset(item for b in self.backups for item in b.tags.items())


@dataclass(frozen=True)
class Timers:
    """Points in time.

    Attributes:
        settled: the network has followed every change that was accepted.
        arrived: a change that isolates, and had no reply, can arrive no more.
        patience: what the phase waits for is given up.
        rewrite: a backup that is missing in reads is written again.
        reread: addresses that go on answering are not watched any longer without a read.
    """

    settled: Point = 0.0
    arrived: Point = 0.0
    patience: Point = 0.0
    rewrite: Point = 0.0
    reread: Point = 0.0


class Phase(Enum):
    """Where a run is."""

    FIRST = "first read"
    AGAIN = "first read, once more"
    DOUBT = "read again: it looks isolated, and no backup says so"
    LOOK_UP = "look up which groups fit"
    BACKUP = "write the backup and prove it"
    WITHOUT_BACKUP = "look at this machine once more"
    CLAIM = "claim the backup"
    CHANGE = "change groups"
    VERIFY = "read until it is proven"
    STOP = "stop the instance"
    SETTLE = "wait for the network, then read"
    GIVE_UP = "read, to decide whether to roll back"
    ROLL_BACK = "rolled back: look again"
    REISOLATE = "isolate again what was opened beside another fencer"
    DELETE = "delete the backup"
    LOOK_BACK = "look whether an off isolated meanwhile"
    POWER = "look once more before the start"
    START = "start the instance"
    END = "close what is open, then fail"


@dataclass(frozen=True)
class Reads:
    """What this run has read.

    Attributes:
        first: the truly first read that showed the instance.
        latest: the latest read; None if it did not show the instance.
        failure: of the latest read; or that read shows that this machine is fenced itself.
        fresh: no group was changed by this run since the latest read.
        in_time: the latest read was asked for after all had settled, and every observable address was quiet.
        own_fenced: the latest read of this machine shows it fenced, or with other groups than the first one, or does
            not show it: then silence proves nothing.
        own_groups: the groups of this machine in the first read of it.
        stop_requested: this run has requested the stop: a read that shows it stopping or stopped may be of that.
        started: EC2 has accepted a start by this run, or a read has shown that EC2 starts it.
    """

    first: Optional[Instance] = None
    latest: Optional[Instance] = None
    failure: Optional[Failure] = None
    fresh: bool = False
    in_time: bool = False
    own_fenced: bool = False
    own_groups: Optional[FrozenMap[str, Groups]] = None
    stop_requested: bool = False
    started: bool = False


@dataclass(frozen=True)
class Knowledge:
    """All that one run has seen, written and tried.

    Attributes:
        round: the interfaces that are still to be set before the next read.
        reopened: those that were opened beside another fencer: rolled back, or restored.
        ending: how it will fail, once nothing is left open.
    """

    phase: Phase = Phase.FIRST
    reads: Reads = Reads()
    backup: BackupState = BackupState()
    interfaces: FrozenMap[str, Progress] = field(default_factory=FrozenMap)
    groups: IsolatingGroups = IsolatingGroups()
    timers: Timers = Timers()
    round: FrozenSet[str] = frozenset()
    reopened: FrozenSet[str] = frozenset()
    ending: Optional[Fail] = None
    probe: Probe = Probe()

    @property
    def first(self) -> Optional[Instance]:
        """The truly first read that showed the instance."""
        return self.reads.first

    @property
    def latest(self) -> Optional[Instance]:
        """The latest read; None if it did not show the instance."""
        return self.reads.latest

    @property
    def failure(self) -> Optional[Failure]:
        """Of the latest read."""
        return self.reads.failure

    @property
    def opened(self) -> FrozenSet[str]:
        """What this run has opened, perhaps, and nothing has closed since: an obligation."""
        return frozenset(i for i, p in self.interfaces.items() if p.opening.opened)

    @property
    def refused(self) -> FrozenSet[str]:
        """The interfaces whose latest change EC2 refused for good."""
        return frozenset(i for i, p in self.interfaces.items() if p.refused)

    @property
    def possibly_changed(self) -> FrozenSet[str]:
        """The interfaces that this run has changed, perhaps, and not put back."""
        return frozenset(i for i, p in self.interfaces.items() if p.possibly_changed)

    @property
    def due(self) -> Point:
        """The point in time from which on a read can prove that all is isolated.

        Silence takes the place of ``settled``, and of nothing else.
        """
        silent = not self.reads.own_fenced and self.probe.has_followed(self.latest, self.interfaces)
        settled = 0.0 if silent else self.timers.settled
        late = (p.opening.late_until for p in self.interfaces.values())
        return max([settled, self.timers.arrived, *late])

    def late(self, now: Point) -> FrozenSet[str]:
        """The interfaces that a change without a reply may still open."""
        return frozenset(i for i, p in self.interfaces.items() if p.opening.late_until > now)

    def with_opened(self, interfaces: Iterable[str], opened: bool = True) -> Knowledge:
        """After these were opened, perhaps, or isolated again."""
        changed = {i: self.interfaces[i].with_opened(opened) for i in interfaces}
        return replace(self, interfaces=self.interfaces.updated(changed))

    def with_progress(self, interface: str, progress: Progress) -> Knowledge:
        """With this knowledge of one interface."""
        return replace(self, interfaces=self.interfaces.updated({interface: progress}))
