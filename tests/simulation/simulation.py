"""Clusters over simulated days: one seed, one queue of events, one source of chance. The same seed, the same run.

Each process decides with the core itself, in simulated time; EC2 is in memory. The invariants are checked at every
step, the truth of EC2 at every exit, and in every quiet moment that nothing is lost. See cluster.py for who acts.
"""

import heapq
from collections import Counter
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple
from typing import Counter as Counts

from search.world import ISO2, Network

from aws_vpc_net.core.backup import RETURNED
from aws_vpc_net.core.model import FrozenMap
from aws_vpc_net.core.protocol import (
    Done,
    LookUpGroups,
    Read,
    SetGroups,
    StartInstance,
    Step,
    StopInstance,
    Succeed,
    WriteTags,
)

from . import checks, power, tell
from .cloud import CALM, FULL, NO_INTERFACE, Node, bad_weather, is_full, refusal, shown
from .cluster import VPC, Cluster, answering, edit, new_cluster
from .process import FAILED, KILLED, LEFT, SUCCEEDED, Process

STEPS_OF_A_PROCESS = 2000
Event = Tuple[float, int, Callable[[], None]]


@dataclass
class Violation:
    """What is wrong, first seen at this step, and the way there."""

    text: str
    step: int
    transcript: str
    count: int = 1


@dataclass
class Simulation:
    """One run."""

    seed: int
    now: float = 0.0
    steps: int = 0
    simulated: float = 0.0
    counts: Counts[str] = field(default_factory=Counter)
    faults: Counts[str] = field(default_factory=Counter)
    excuses: Counts[str] = field(default_factory=Counter)
    violations: Dict[str, Violation] = field(default_factory=dict)
    listener: Optional[Callable[[str], None]] = None
    tail: int = 120

    def __post_init__(self) -> None:
        self.chance = Random(self.seed)
        self.queue: List[Event] = []
        self._number = 0
        self.cluster: Cluster = new_cluster(self.chance, 0.0)

    # --- time -----------------------------------------------------------------------------------------------------

    def run(self, steps: int, stop: bool = False) -> "Simulation":
        """Go on until so many steps are made; with ``stop``, or until something is wrong."""
        while self.steps < steps and not (stop and self.violations):
            self._begin_cluster()
            while self.queue and self.steps < steps and not (stop and self.violations):
                self.now, _, do = heapq.heappop(self.queue)
                do()
        return self

    def at(self, point: float, do: Callable[[], None]) -> None:
        """Do it at this point in time."""
        self._number += 1
        heapq.heappush(self.queue, (max(point, self.now), self._number, do))

    def _begin_cluster(self) -> None:
        self.cluster = new_cluster(self.chance, self.now)
        self.counts["clusters"] += 1
        for node in self.cluster.nodes:
            self._plan_incident(node)
        self._plan_group_change()

    # --- who acts -------------------------------------------------------------------------------------------------

    def _plan_incident(self, node: Node) -> None:
        point = self.now + self.chance.expovariate(1 / 5400.0)
        if point < self.cluster.until:
            self.at(point, lambda: self._incident(node))

    def _incident(self, node: Node) -> None:
        """A node fails: fencers come, and later it is brought back; in between whatever happens."""
        chance = self.chance
        self.counts["incidents"] += 1
        if self.now > self.cluster.calm_again:
            self.cluster.weather = CALM if chance.random() < 0.4 else bad_weather(chance)
            self.cluster.calm_again = self.now + chance.uniform(10.0, 300.0)
            self.at(self.cluster.calm_again, self._clear)
        for _ in range(chance.choice((1, 1, 2, 3))):
            self._start_later("off", node, chance.uniform(0.0, chance.choice((0.1, 2.0, 15.0))), chance.randint(0, 3))
        spread = chance.choice((2.0, 8.0, 30.0))
        unattended = self.cluster.auto and chance.random() < 0.8  # no operator brings it back
        for _ in range(0 if unattended else chance.choice((0, 0, 1, 2))):
            self._start_later("on", node, chance.uniform(0.0, spread), chance.randint(0, 2))
        if chance.random() < 0.3:
            self.at(self.now + chance.uniform(0.0, spread), lambda: self._kill(node))
        for _ in range(chance.choice((0, 0, 0, 1, 2, 3))):
            self.at(self.now + chance.uniform(0.0, spread), lambda: self._operator(node))
        node.answering = answering(chance, node)
        back = chance.choice((20.0, 120.0, 1200.0)) * chance.uniform(0.5, 1.5)
        if self.cluster.poweroff:
            self._plan_power(node, back)
        for _ in range(0 if unattended else chance.choice((1, 1, 1, 2))):
            self._start_later("on", node, back + chance.uniform(0.0, 3.0), chance.randint(0, 3))
        if chance.random() < 0.2:
            self.at(self.now + back + chance.uniform(0.0, 5.0), lambda: self._kill(node))
        if chance.random() < 0.3:
            self.at(self.now + back * chance.uniform(0.2, 3.0), lambda: self._operator(node))
        if not unattended:
            self.at(self.now + back + 600.0, lambda: self._start("on", node, 3))
        self.at(self.now + back + 600.0, lambda: self._plan_incident(node))

    def _plan_power(self, node: Node, back: float) -> None:
        """Monitors on several nodes, and an operator."""
        chance = self.chance
        for _ in range(chance.choice((1, 3, 6)) if self.cluster.auto else 0):
            point = chance.choice((0.0, power.FENCE_SECONDS, power.FENCE_SECONDS + self.cluster.stop_seconds))
            self._start_later("return", node, point + chance.uniform(0.0, chance.choice((3.0, 60.0, 300.0))), 0)
        for _ in range(chance.choice((0, 0, 1, 2))):
            self.at(self.now + chance.uniform(0.0, back + 300.0), lambda: power.by_hand(self, node))

    def _clear(self) -> None:
        if self.now >= self.cluster.calm_again:
            self.cluster.weather = CALM

    def _start_later(self, action: str, node: Node, seconds: float, repeats: int) -> None:
        self.at(self.now + seconds, lambda: self._start(action, node, repeats))

    def _start(self, action: str, node: Node, repeats: int) -> None:
        """Somewhere in the cluster, or on the machine of an operator."""
        others = [
            n
            for n in self.cluster.nodes
            if n is not node and self.cluster.crashed.get(n.id, 0.0) < self.now and n.network.state == "running"
        ]
        host = self.chance.choice([*others, None])
        skew = self.cluster.skews[self.cluster.nodes.index(host) if host else -1]
        self.counts[action] += 1
        process = Process(self, action, node, host, skew)
        process.name = f"{action}{self.counts[action]}@{host.name if host else 'operator'}"
        process.repeats = repeats
        running = [p for p in node.episode if p.running]
        for other in running:
            other.facts.alone = False
        process.facts.alone = not running and not node.flights
        process.facts.fenced_host = host is not None and checks.is_fenced(self, host)
        node.episode.append(process)
        self.tell(node, process.name, "starts")
        self._resume(process, process.body())

    def _resume(self, process: Process, body: Iterator[float]) -> None:
        if not process.running:
            return
        point = next(body, None)
        if point is not None:
            self.at(point, lambda: self._resume(process, body))

    def _kill(self, node: Node) -> None:
        """A process is killed, or with its whole machine."""
        running = [p for p in node.episode if p.running]
        if not running:
            return
        victim = self.chance.choice(running)
        victims = [victim]
        if victim.host and self.chance.random() < 0.3:
            self.cluster.crashed[victim.host.id] = self.now + self.chance.uniform(30.0, 600.0)
            self.counts["crashed nodes"] += 1
            victims = [p for n in self.cluster.nodes for p in n.episode if p.running and p.host is victim.host]
        for process in victims:
            self.counts["killed"] += 1
            self._end(process, KILLED, "")

    def _operator(self, node: Node) -> None:
        """Edits groups, attaches and detaches interfaces."""
        network = edit(self.chance, node)
        if network == node.network:
            return
        self.counts["edits"] += 1
        node.edited = self.now
        quiet = not node.own_tags and not node.flights and not any(p.running for p in node.episode)
        old = {n.id: n for n in node.network.attached}
        for n in network.attached:
            before = old.get(n.id)
            if n.id not in node.allowed or (before and before.groups != n.groups and quiet):
                node.allowed[n.id] = {n.groups}
            elif before and before.groups != n.groups:
                node.allowed[n.id].add(n.groups)
        self.moved(node, node.tags, network, None)
        self.tell(node, "operator", "edits", network)

    def _plan_group_change(self) -> None:
        """A group of ``secg`` is deleted, and comes back."""
        point = self.now + self.chance.uniform(7200.0, 40000.0)
        if point < self.cluster.until:
            self.at(point, self._group_change)

    def _group_change(self) -> None:
        groups = self.cluster.groups
        used = any(ISO2 in n.groups for m in self.cluster.nodes for n in (*m.network.attached, *m.network.elsewhere))
        if ISO2 not in groups:
            groups[ISO2] = frozenset((VPC,))
        elif not used:
            self.counts["deleted groups"] += 1
            del groups[ISO2]
        self._plan_group_change()

    # --- EC2 ------------------------------------------------------------------------------------------------------

    def arrives(self, process: Process, effect: Any, part: Optional[str], point: float, box: Optional[Dict]) -> None:
        """A request reaches EC2; ``box`` takes the reply, if there is somebody to hear it."""
        process.node.flights += 1
        process.flights += 1

        def arrive() -> None:
            process.node.flights -= 1
            process.flights -= 1
            reply = self._answer(process, effect, part, box is not None and process.running)
            if box is not None:
                box["reply"] = reply
            if not process.running:
                self._quiet(process.node)

        self.at(point, arrive)

    def _answer(self, process: Process, effect: Any, part: Optional[str], heard: bool) -> Any:
        if isinstance(effect, Read):
            return self._read(process, effect) if heard else None
        if isinstance(effect, LookUpGroups):
            return {g: self.cluster.groups[g] for g in effect.groups if g in self.cluster.groups}
        node = process.node
        if isinstance(effect, (StartInstance, StopInstance)):
            reply = power.arrives(self, process, effect)
            self.tell(node, process.name, type(effect).__name__, reply if reply != Done() else None)
            return reply
        if isinstance(effect, SetGroups):
            assert part is not None
            found = node.network.find(part)
            failure = refusal(effect.goals[part], self.cluster.groups, found.vpc) if found else NO_INTERFACE
            if not failure:
                process.facts.changes += 1
                network = node.network.with_groups(part, effect.goals[part])
                if process.action == "off":
                    network = replace(network, by_hand=False)
                self.moved(node, node.tags, network, process, part=part)
            self.tell(node, process.name, "sets", effect, part, failure)
            return failure
        tags = checks.written(node.tags, effect)
        if is_full(tags):
            return FULL
        deletion = not isinstance(effect, WriteTags)
        node.returns = node.returns if RETURNED in tags else []
        self.moved(node, tags, node.network, process, deletion=deletion)
        self._note_tags(process, deletion)
        self.tell(node, process.name, "changes tags", effect)
        return Done()

    def _read(self, process: Process, effect: Read) -> Any:
        """Each kind may be behind by another time."""
        facts, node = process.facts, process.node
        reply = {}
        for one in sorted(effect.ids):
            machine = next(n for n in self.cluster.nodes if n.id == one)
            tags, network = self._view(machine)
            if network is None:
                self._stale("instance not shown", process)
                facts.own_stale |= machine is not node
                continue
            reply[one] = shown(one, tags, network)
            if machine is node:
                process.launched = network.launched
            is_stale = (tags, network) != (machine.tags, machine.network)
            if machine is not node:
                facts.own_stale = facts.own_stale or is_stale
            elif is_stale:
                facts.groups_stale = network != machine.network
                facts.began = facts.last_stale = facts.ever_stale = True
            else:
                facts.groups_stale = facts.last_stale = facts.disturbed = False
                facts.groups_moved = facts.tags_gone = facts.unreadable = False
                facts.began = True
            if is_stale:
                self._stale("stale tags" if network == machine.network else "stale groups", process)
            if machine is node:
                facts.snapshot = self.now
        return reply

    def _stale(self, how: str, process: Process) -> None:
        self.faults[how] += 1
        process.facts.faults += 1

    def _view(self, machine: Node) -> Tuple[FrozenMap, Optional[Network]]:
        weather, chance = self.cluster.weather, self.chance
        ages = [chance.uniform(0.0, weather.lag) if chance.random() < weather.behind else 0.0 for _ in range(2)]
        tags, network = machine.at(self.now - ages[0])[0], machine.at(self.now - ages[1])[1]
        if chance.random() < weather.lacking:
            missing = chance.choice([None, *network.attached])
            return tags, network.without(missing.id) if missing else None
        return tags, network

    def _note_tags(self, process: Process, deletion: bool) -> None:
        facts = process.facts
        if deletion and facts.last_stale:
            facts.misled = True
        if not deletion and process.action == "off" and not facts.wrote:
            facts.wrote = True
            facts.older = {p.name for p in process.node.episode if p.action == "on" and p.facts.began}

    def moved(
        self,
        node: Node,
        tags: FrozenMap,
        network: Network,
        actor: Optional[Process],
        part: Optional[str] = None,
        deletion: bool = False,
    ) -> None:
        """EC2 has other tags or groups now; ``actor``: by whom, None by an operator."""
        groups_move = network != node.network
        mine = actor.facts if actor else None
        if mine and ((deletion and mine.groups_moved) or (groups_move and mine.tags_gone)):
            node.crossed = True
        if groups_move:
            self._note_change(node, network, actor, part)
        for other in node.episode:
            if other is actor:
                continue
            other.facts.alone = False
            if other.running or other.flights:
                other.facts.groups_moved |= groups_move
                other.facts.tags_gone |= deletion
            other.facts.disturbed |= actor is None
        node.put(self.now, tags, network)
        if node.crossed and not node.lost(self.cluster.spec):
            node.crossed = False

    @staticmethod
    def _note_change(node: Node, network: Network, actor: Optional[Process], part: Optional[str]) -> None:
        """Who changed which interface last."""
        both = {*network.attached, *network.elsewhere} ^ {*node.network.attached, *node.network.elsewhere}
        changed = {part} if part else {n.id for n in both}
        for other in node.episode:
            other.facts.changed -= changed
            other.facts.blind -= changed
            other.facts.late -= changed
        if actor:
            actor.facts.not_closed -= changed
            actor.facts.changed |= changed
            if actor.fate in (SUCCEEDED, FAILED):
                actor.facts.late |= changed
            if actor.facts.tags_gone:
                actor.facts.blind |= changed

    # --- ends -----------------------------------------------------------------------------------------------------

    def stepped(self, process: Process) -> None:
        """One more decision."""
        self.steps += 1
        process.steps += 1
        if process.steps > STEPS_OF_A_PROCESS:
            raise AssertionError(f"{process.name} decides without an end: seed {self.seed}, step {self.steps}")

    def ended(self, process: Process, step: Step, _knowledge: Any) -> None:
        """By itself."""
        succeeded = isinstance(step.action, Succeed)
        fate = SUCCEEDED if succeeded else FAILED
        process.fate = fate
        text = getattr(step.action, "text", "")
        self.tell(process.node, process.name, fate, text)
        for wrong in checks.at_exit(self, process):
            self.violation(process.node, wrong)
        if succeeded and process.action == "off" and self.cluster.poweroff and not self.cluster.required:
            power.stop(self, process.node, process)
        if not succeeded and process.repeats:
            self._start_later(process.action, process.node, self.chance.uniform(0.5, 5.0), process.repeats - 1)
        self._end(process, fate, text)

    def left_alone(self, process: Process) -> None:
        """Monitor has not begun to bring an instance back, or not gone on."""
        process.fate = LEFT
        self.tell(process.node, process.name, LEFT)
        for wrong in checks.at_exit(self, process):
            self.violation(process.node, wrong)
        self._end(process, LEFT, "")

    def end_host(self, host: Node) -> None:
        """Its power is off."""
        for process in [p for n in self.cluster.nodes for p in n.episode if p.running and p.host is host]:
            self._end(process, KILLED, "")

    def _end(self, process: Process, fate: str, text: str) -> None:
        process.fate = fate
        self.counts[f"{'return' if process.returning else process.action}: {fate}"] += 1
        if fate == KILLED:
            self.tell(process.node, process.name, fate, text)
        self._quiet(process.node)

    def _quiet(self, node: Node) -> None:
        """Where all has ended, nothing may be lost."""
        if node.flights or not node.episode or any(p.running for p in node.episode):
            return
        self.counts["quiet moments"] += 1
        wrong = list(checks.when_quiet(self, node))
        for text in wrong:
            self.violation(node, text)
        lost = node.lost(self.cluster.spec)
        node.episode, node.crossed = [], False
        every = (*node.network.attached, *node.network.elsewhere)
        node.named &= {n.id for n in every if n.groups not in node.allowed[n.id]}
        if wrong or lost:
            self._repair(node)
        elif not node.own_tags:
            for n in node.network.attached:
                node.allowed[n.id] = {n.groups} & node.allowed[n.id] or node.allowed[n.id]

    def _repair(self, node: Node) -> None:
        """By hand: the original groups, and no tags of ours."""
        self.counts["repairs by hand"] += 1
        network = node.network
        for n in (*network.attached, *network.elsewhere):
            network = network.with_groups(n.id, sorted(node.allowed[n.id], key=sorted)[0])
        self.tell(node, "operator", "repairs", network)
        node.put(self.now, node.tags.without([*node.own_tags, RETURNED]), network)
        node.returns = []

    # --- telling --------------------------------------------------------------------------------------------------

    def tell(self, node: Node, who: str, *what: Any) -> None:
        """For the transcript."""
        event = (self.now, self.steps, who, *what, node.tags, node.network)
        node.log.append(event)
        if self.listener:
            self.listener(f"{node.name} {tell.line(node, event)}")

    def violation(self, node: Node, text: str) -> None:
        """Something is wrong."""
        kind = tell.without_names(text)
        if kind in self.violations:
            self.violations[kind].count += 1
            return
        title = f"seed {self.seed}, step {self.steps}, {self.cluster.mode}, {node.name}: {text}"
        events = list(node.log)[-self.tail :]
        lines = [title, *("  " + tell.line(node, event) for event in events)]
        self.violations[kind] = Violation(text, self.steps, "\n".join(lines))
        if self.listener:
            self.listener(title)
