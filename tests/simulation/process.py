"""One process of the agent in simulated time: the loop of the runner, with a clock and requests that take time."""

from dataclasses import dataclass, field
from random import Random
from typing import Any, Dict, Generator, Iterator, Optional, Set

from aws_vpc_net.core import invariants, observe, off, on
from aws_vpc_net.core.model import FrozenMap
from aws_vpc_net.core.protocol import (
    Change,
    Changes,
    CheckAnswers,
    Connect,
    DataPlane,
    DeleteTags,
    Done,
    Effect,
    Fail,
    Failure,
    Instances,
    Knowledge,
    LookUpGroups,
    Networks,
    Outcome,
    Plan,
    Read,
    Restore,
    SetGroups,
    Settle,
    StartInstance,
    Step,
    StopInstance,
    Succeed,
    Tick,
    WriteTags,
)

from . import power
from .cloud import DENIED, NO_REPLY, NO_TIME, THROTTLED, Node
from .network import View

DEADLINE, RESERVE, API_SECONDS = 45.0, 5.0, 5.0
ATTEMPT_SECONDS = 2 * API_SECONDS + 1
EPOCH = 1_700_000_000
Waiting = Generator[float, None, Any]  # points in time, then a result
RUNNING, KILLED, SUCCEEDED, FAILED, LEFT = "running", "killed", "exit 0", "exit 1", "left alone"
MONITOR_SECONDS = 12.0


def backoff(chance: Random, first: float, most: float) -> Iterator[float]:
    """As deadline.backoff, with the simulation's chance."""
    pause = first
    while True:
        yield pause * chance.uniform(0.5, 1.0)
        pause = min(most, pause * 2)


@dataclass
class Facts:
    """What the checks know of a process; it does not know that itself.

    Attributes:
        last_stale: the latest read showed an earlier state; ``groups``: of interfaces.
        snapshot: when EC2 made the answer to the latest read.
        disturbed: an operator acted since the latest read.
        groups_moved, tags_gone: another changed groups, deleted tags, since the latest read.
        misled: deleted tags behind a stale read.
        unreadable: the latest read failed.
        changed: interfaces that it changed last; ``blind``: after a deletion that its latest read did not show.
        late: changed by a request without a reply, which arrived after it had ended by itself.
        not_closed: EC2 refused for good to isolate it.
        older: each ``on`` that had begun when this ``off`` wrote its backup.
        writing: it is writing tags.
        ever_stale: some read showed an earlier state.
        isolations: how often it has isolated interfaces, all at once.
        alone: nobody else acted on this node in its time.
    """

    last_stale: bool = False
    groups_stale: bool = False
    ever_stale: bool = False
    own_stale: bool = False
    snapshot: float = 0.0
    disturbed: bool = False
    began: bool = False
    wrote: bool = False
    groups_moved: bool = False
    tags_gone: bool = False
    misled: bool = False
    unreadable: bool = False
    no_time_left: bool = False
    changed: Set[str] = field(default_factory=set)
    blind: Set[str] = field(default_factory=set)
    late: Set[str] = field(default_factory=set)
    not_closed: Set[str] = field(default_factory=set)
    older: Set[str] = field(default_factory=set)
    writing: bool = False
    isolations: int = 0
    alone: bool = True
    faults: int = 0
    changes: int = 0
    fenced_host: bool = False


class Process:
    """One ``off`` or ``on``; ``returning``: what monitor does with ``auto_unfence``, an ``on`` once it has begun."""

    def __init__(self, simulation: Any, action: str, node: Node, host: Optional[Node], skew: float) -> None:
        self.returning = action == "return"
        action = "on" if self.returning else action
        self.simulation, self.action, self.node, self.host, self.skew = simulation, action, node, host, skew
        self.name, self.repeats, self.steps, self.flights = action, 0, 0, 0
        self.began, self.fate = simulation.now, RUNNING
        self.facts = Facts()
        restoring = action == "on"
        own = host.id if host and not restoring else None
        settle = 0.0 if restoring else simulation.cluster.settle
        cluster = simulation.cluster
        data_plane = DataPlane(settle, cluster.probe and not restoring, cluster.required and not restoring)
        self.plan = Plan(
            node.id,
            cluster.spec,
            own,
            ignore_instance_state=cluster.poweroff,
            restoring=restoring,
            restore=Restore(unattended=self.returning),
            power=cluster.poweroff,
            data_plane=data_plane,
        )
        self.seconds = MONITOR_SECONDS if self.returning else DEADLINE
        self.ends = self.began + self.seconds
        self.launched = 0  # as the latest read shows it
        self.due = self.returning and power.is_due(self)
        self.view = View(simulation, node, host)

    @property
    def running(self) -> bool:
        """Has it not ended?"""
        return self.fate == RUNNING

    def tick(self) -> Tick:
        """Its present."""
        now, ends = self.simulation.now, self.ends
        nonce = self.simulation.chance.getrandbits(512)
        return Tick(now, ends - min(RESERVE, self.seconds / 5), ends, EPOCH + int(now + self.skew), nonce)

    def body(self) -> Iterator[float]:
        """Its life; each value is the point in time at which it goes on."""
        k, pauses = Knowledge(), {}  # type: ignore[var-annotated]
        if self.returning:
            begun = yield from power.begin_return(self)
            if begun is None:
                self.simulation.left_alone(self)
                return
            k = begun
        while True:
            yield self.simulation.now + self.simulation.chance.uniform(0.001, 0.01)
            tick = self.tick()
            step = self._decide(k, tick)
            if isinstance(step.action, (Succeed, Fail)):
                self.facts.no_time_left = tick.reserve_expired
                self.simulation.ended(self, step, k)
                return
            if isinstance(step.action, Settle):
                k = step.knowledge
                yield min(step.action.until, tick.ends)
                continue
            if step.backoff:
                pause = pauses.setdefault(step.knowledge.phase, backoff(self.simulation.chance, 0.1, 2.0))
                yield min(self.simulation.now + next(pause), step.ends)
            yield min(step.not_before, step.ends)
            if step.backoff and self.simulation.now >= step.ends and self._next(k, self.tick()).action != step.action:
                continue
            result = yield from self._perform(step.action, min(step.ends, tick.reserve_ends))
            k, notes = observe.observe(self.plan, step.knowledge, step.action, result, self.tick())
            self.note(notes)

    def _next(self, k: Knowledge, tick: Tick) -> Step:
        return (on if self.plan.restoring else off).decide(self.plan, k, tick)

    def _decide(self, k: Knowledge, tick: Tick) -> Step:
        step = self._next(k, tick)
        self.simulation.stepped(self)
        for text in invariants.violations(self.plan, k, step, tick):
            self.simulation.violation(self.node, f"{self.action}: {text}")
        self.note(step.notes)
        return step

    def note(self, notes: Any) -> None:
        """Its log names original groups."""
        for note in notes:
            for i, groups in note.originals.items():
                if groups in self.node.allowed.get(i, ()):
                    self.node.named.add(i)
                    self.simulation.tell(self.node, self.name, "names the original groups of", i)

    # --- requests -------------------------------------------------------------------------------------------------

    def _perform(self, effect: Effect, ends: float) -> Waiting:
        if isinstance(effect, SetGroups):
            return (yield from self._set(effect, ends))
        if isinstance(effect, Connect):
            self.view.connect(effect)
            return Done()
        if isinstance(effect, CheckAnswers):
            return self.view.check(effect)
        if isinstance(effect, Read):
            asked = self.simulation.now
            reply = yield from self._call("read", effect, ends)
            return Instances(FrozenMap(reply), asked) if isinstance(reply, dict) else reply
        if isinstance(effect, LookUpGroups):
            reply = yield from self._call("read", effect, ends)
            return Networks(FrozenMap(reply)) if isinstance(reply, dict) else reply
        if isinstance(effect, (StartInstance, StopInstance)):
            return (yield from self._call("power", effect, ends, once=isinstance(effect, StartInstance)))
        assert isinstance(effect, (WriteTags, DeleteTags))
        self.facts.writing = isinstance(effect, WriteTags)
        reply = yield from self._call("delete" if isinstance(effect, DeleteTags) else "tags", effect, ends)
        self.facts.writing = False
        return reply or Done()

    def call(self, kind: str, effect: Any) -> Waiting:
        """Outside of the core's steps."""
        return (yield from self._call(kind, effect, self.ends))

    def _call(self, kind: str, effect: Any, ends: float, once: bool = False) -> Waiting:
        """Try until it answers or fails for good, as ec2.call does; or only ``once``."""
        reply: Any = NO_TIME
        for pause in backoff(self.simulation.chance, 0.2, 3.0):
            if self.simulation.now >= ends:
                break
            box: Dict[str, Any] = {}
            yield self._send(kind, effect, None, ends, box)
            reply = box.get("reply", NO_REPLY)
            if once or not isinstance(reply, Failure) or reply.outcome in (Outcome.REFUSED, Outcome.GONE):
                break
            wait = pause * (3 if reply is THROTTLED else 1)
            reply = NO_TIME
            yield min(self.simulation.now + wait, ends)
        if isinstance(reply, Failure) and kind == "read":
            self.facts.unreadable = True
        self.simulation.tell(self.node, self.name, "gets", effect, reply)
        return reply

    def _set(self, effect: SetGroups, ends: float) -> Waiting:
        """All interfaces at once, one attempt each."""
        if self.simulation.now >= ends:
            self.simulation.tell(self.node, self.name, "has no time for", effect)
            return Changes(FrozenMap(dict.fromkeys(effect.goals, NO_TIME)))
        self.facts.isolations += effect.change is Change.ISOLATE
        boxes: Dict[str, Dict[str, Any]] = {i: {} for i in sorted(effect.goals)}
        yield max([self._send("groups", effect, i, ends, box) for i, box in boxes.items()])
        failures = {i: box.get("reply", NO_REPLY) for i, box in boxes.items()}
        for i, failure in failures.items():
            if failure and failure.outcome is Outcome.REFUSED and effect.change is Change.ISOLATE:
                self.facts.not_closed.add(i)
        self.simulation.tell(self.node, self.name, "gets", effect, failures)
        return Changes(FrozenMap(failures))

    def _send(self, kind: str, effect: Any, part: Optional[str], ends: float, box: Dict[str, Any]) -> float:
        """Send a request; the point in time at which it is answered, or given up."""
        simulation, chance = self.simulation, self.simulation.chance
        now, weather = simulation.now, simulation.cluster.weather
        given_up = min(now + ATTEMPT_SECONDS, ends)
        there = now + chance.uniform(0.01, weather.slow) / 2
        back = there + chance.uniform(0.01, weather.slow) / 2
        fault = self._fault(kind, part)
        if fault:
            self.facts.faults += 1
            simulation.faults[fault] += 1
            simulation.tell(self.node, self.name, "meets", fault, effect, part)
        if fault in ("throttled", "denied"):
            box["reply"] = THROTTLED if fault == "throttled" else DENIED
            return float(min(back, given_up))
        if fault:
            end = given_up if "hang" in fault or fault == "unreachable" else min(back, given_up)
            if "late" in fault:
                simulation.arrives(self, effect, part, end + chance.uniform(0.0, API_SECONDS - 0.1), None)
            elif "done" in fault:
                simulation.arrives(self, effect, part, min(there, end), None)
            return float(end)
        simulation.arrives(self, effect, part, there, box if back <= given_up else None)
        if back > given_up:
            self.facts.faults += 1
            simulation.faults["given up, done"] += 1
        return float(min(back, given_up))

    def _fault(self, kind: str, part: Optional[str]) -> str:
        chance, weather = self.simulation.chance, self.simulation.cluster.weather
        if self.host and not self.simulation.cluster.reaches and self.host.is_isolated(self.plan.spec):
            return "unreachable"
        found = self.node.network.find(part) if part else None
        if weather.denies(kind, self.host.name if self.host else "", found.number if found else 99):
            return "denied"
        if chance.random() < weather.throttled:
            return "throttled"
        how = ["", "done, ", "late, "] if kind != "read" else [""]
        if chance.random() < weather.lost:
            return str(chance.choice(how)) + "reply lost"
        if chance.random() < weather.hanging:
            return str(chance.choice(how)) + "hanging"
        return ""
