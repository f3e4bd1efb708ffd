"""Every state that some invocations and EC2 can come to, each visited once, the nearest first.

A state is a tuple of small numbers: EC2's tags and groups, what is in flight, what stale reads can show, how much may
still go wrong, and for each invocation its pending effect (with all that it knows) and a few bits that only the checks
look at. ``decide`` and ``observe`` run once for each that is new; every other transition is a look into a table.

Time is each invocation's own: it knows points in time only in relation to its present, so these are kept relative.
A pause moves its clock; the deadline comes when an adversity says so.
"""

import time
from array import array
from dataclasses import dataclass, replace
from typing import Any, Dict, FrozenSet, Iterable, Iterator, List, Optional, Set, Tuple

from aws_vpc_net.core import backup as tags_of
from aws_vpc_net.core import invariants, observe, off, on
from aws_vpc_net.core.isolation import groups_to_restore, matches_isolation
from aws_vpc_net.core.model import FrozenMap
from aws_vpc_net.core.protocol import (
    Change,
    Changes,
    DeleteTags,
    Done,
    Failure,
    Instances,
    Knowledge,
    LookUpGroups,
    Networks,
    Outcome,
    Read,
    SetGroups,
    Settle,
    Succeed,
    Tick,
    WriteTags,
)
from aws_vpc_net.errors import Category

from .world import (
    APP,
    CRASH,
    DB,
    DEADLINE,
    E0,
    E1,
    EDITED,
    EVENT,
    GROUPS,
    ID,
    ISO,
    LACKING,
    LATE,
    LOST,
    NEW,
    OTHER,
    REFUSED,
    SHORT,
    STALE,
    THROTTLED,
    UNREAD,
    UNSHOWN,
    WORLDS,
    Actor,
    Network,
    Scenario,
)

ENDS, RESERVE = 12.0, 16.0
NOW = 1_700_000_000
BACKOFF = 1.0
DEAD, SUCCEEDED, FAILED = -1, -2, -3
FATES = {DEAD: "killed", SUCCEEDED: "exit 0", FAILED: "exit 1"}
BASE = 6  # fields of a state before those of the invocations
# what the checks know of an invocation
(LAST_STALE, DISTURBED, BEGAN, WROTE, GROUPS_MOVED, TAGS_GONE, EVER_STALE, MISLED, UNREADABLE, NO_TIME_LEFT) = (
    1 << n for n in range(10)
)
# of each interface, << its number: this invocation changed it last; and did so after a deletion that its latest read
# did not show; EC2 refused it for good to isolate it (again); its original groups are named in the log
CHANGED, BLIND, NOT_CLOSED, NAMED = (1 << n for n in (10, 13, 16, 19))
OLDER = 1 << 22  # << actor: that "on" had begun when this "off" wrote its backup
AFTERWARDS = ~(WROTE | GROUPS_MOVED | TAGS_GONE | EVER_STALE)  # what matters of one that has ended
CROSSED = 16  # in misc: a deletion crossed a change, both decided by reads before either
NUMBER = {E0: 0, E1: 1, NEW.id: 2}

State = Tuple[int, ...]
Label = Tuple[Any, ...]


class Table:
    """Values, numbered."""

    def __init__(self) -> None:
        self.values: List[Any] = []
        self._numbers: Dict[Any, int] = {}

    def number(self, value: Any) -> int:
        """The number of this value."""
        found = self._numbers.get(value)
        if found is None:
            found = self._numbers[value] = len(self.values)
            self.values.append(value)
        return found


@dataclass(frozen=True)
class Pending:
    """An invocation that has decided its next effect; ``done``: what came of a part of it already."""

    actor: int
    flag: int  # 0; 1: no time for ordinary calls; 2: no time at all
    knowledge: Knowledge
    action: Any
    wait: float
    usable: bool
    logged: FrozenSet[Tuple[str, FrozenSet[str]]]
    done: Tuple[Tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Exit:
    """The end of an invocation."""

    actor: int
    succeeded: bool
    text: str
    changed: FrozenSet[str]
    logged: FrozenSet[Tuple[str, FrozenSet[str]]]


@dataclass
class Violation:
    """What is wrong, and the way there."""

    text: str
    state: int
    label: Optional[Label]
    misc: int = 0


def _shifted(k: Knowledge, seconds: float) -> Knowledge:
    """The same, so many seconds later."""

    def later(point: float) -> float:
        return max(0.0, round(point - seconds, 3))

    t = k.timers
    timers = replace(t, settled=later(t.settled), patience=later(t.patience), rewrite=later(t.rewrite))
    if timers != t:
        k = replace(k, timers=timers)
    late = {
        i: replace(p, untracking=replace(p.untracking, late_until=later(p.untracking.late_until)))
        for i, p in k.interfaces.items()
        if p.untracking.late_until
    }
    return replace(k, interfaces=k.interfaces.updated(late)) if late else k


TRANSIENT = Failure(Outcome.TRANSIENT, Category.MODIFICATION, "throttled", "RequestLimitExceeded")
UNKNOWN = Failure(Outcome.UNKNOWN, Category.MODIFICATION, "the connection was closed", "ConnectionClosedError")
DENIED = Failure(Outcome.REFUSED, Category.PERMISSION, "denied", "UnauthorizedOperation", True)
NO_INTERFACE = Failure(Outcome.GONE, Category.MODIFICATION, "not found", "InvalidNetworkInterfaceID.NotFound")
NO_TIME = Failure(Outcome.UNKNOWN, Category.DEADLINE, "no time is left")
NOT_READ = Failure(Outcome.UNKNOWN, Category.RETRIEVAL, "no answer")
FAILURES: Dict[str, Optional[Failure]] = {
    "accepted": None, "throttled": TRANSIENT, "unknown": UNKNOWN, "refused": DENIED, "gone": NO_INTERFACE,
    "no time": NO_TIME, "not read": NOT_READ,
}  # fmt: skip


def ec2_refusal(groups: FrozenSet[str], vpc: str) -> str:
    """Which refusal EC2 answers to these groups, as a key of FAILURES; '' if it takes them."""
    gone = sorted(g for g in groups if g not in GROUPS)
    wrong = [g for g in groups if vpc not in GROUPS.get(g, ())]
    code = "InvalidGroup.NotFound"
    if gone:
        text = f"{code}: The security group '{gone[0]}' does not exist"
    elif wrong:
        text = f"{code}: You have specified two resources that belong to different networks."
    else:
        return ""
    FAILURES[text] = Failure(Outcome.REFUSED, Category.MODIFICATION, text, code)
    return text


class Search:
    """One scenario: its tables, its states and what was found."""

    def __init__(self, scenario: Scenario, limit: int = 3_000_000) -> None:
        self.scenario, self.limit = scenario, limit
        self.spec = scenario.isolation
        self.actors = [*scenario.actors, Actor("off", 5, 0x777), Actor("on", 6, 0x888)]  # the last two: recovery
        self.plans = [a.plan(self.spec) for a in self.actors]
        self.tags, self.nets, self.flights, self.sets = Table(), Table(), Table(), Table()
        self.flights.number(())
        self.sets.number(frozenset())
        self.pendings: List[Pending] = []
        self.kinds: List[str] = []
        self.memo: List[Dict[Any, Tuple[int, Optional[Exit], Tuple[str, ...]]]] = []
        self._numbers: Dict[Pending, int] = {}
        self._recovered: Dict[Tuple[int, int], Tuple[str, ...]] = {}
        self._isolated: Dict[int, bool] = {}
        self._changed: Dict[Tuple[int, int], Tuple[str, ...]] = {}
        self._lost: Dict[Tuple[int, int], FrozenSet[str]] = {}
        self.local: Dict[int, Set[int]] = {}
        self.decisions = 0
        self.violations: Dict[str, Violation] = {}
        self.states: List[State] = []
        self.parents = array("i")
        self.transitions = 0
        self.truncated = False
        self.terminal: Dict[Tuple[int, ...], int] = {}
        self.may = {kind: kind in scenario.kinds for kind in scenario.kinds}
        self.network = WORLDS[scenario.world]
        self.allowed = {n.id: {n.groups} for n in self.network.attached}
        for event in scenario.events:
            if event.startswith("edit"):
                self.allowed[E0].add(self._edit(event))
            if event == "attach":
                self.allowed[NEW.id] = {NEW.groups}

    # --- one invocation ---------------------------------------------------------------------------------------

    def tick(self, actor: int, flag: int) -> Tick:
        """Its present."""
        a = self.actors[actor]
        return Tick(0.0, ENDS if flag == 0 else 0.0, RESERVE if flag < 2 else 0.0, NOW + a.skew, a.nonce)

    def begin(self, actor: int) -> int:
        """The pending effect of one that starts now."""
        return self._decide(actor, Knowledge(), frozenset(), 0, [])[0]

    def _decide(
        self, actor: int, k: Knowledge, logged: FrozenSet, flag: int, problems: List[str]
    ) -> Tuple[int, Optional[Exit]]:
        plan, tick = self.plans[actor], self.tick(actor, flag)
        decide = on.decide if plan.restoring else off.decide
        waited = 0.0
        for _ in range(20):
            self.decisions += 1
            step = decide(plan, k, tick)
            problems += invariants.violations(plan, k, step, tick)
            logged = logged | {item for note in step.notes for item in note.originals.items()}
            action = step.action
            if not hasattr(action, "__dataclass_fields__") or isinstance(action, Succeed) or hasattr(action, "category"):
                ok = isinstance(action, Succeed)
                text = "" if ok else action.text
                changed = step.knowledge.possibly_changed
                return (SUCCEEDED if ok else FAILED), Exit(actor, ok, text, changed, logged)
            wait = max(BACKOFF if step.backoff else 0.0, step.not_before)
            if isinstance(action, Settle):
                wait = max(wait, action.until)
            wait = min(wait, max(0.0, step.ends))
            waited += wait
            k = _shifted(step.knowledge, wait)
            if not isinstance(action, Settle):
                break
        else:
            problems.append("decides for ever")
        return self._pending(Pending(actor, flag, k, action, waited, step.ends > 0, logged)), None

    def _pending(self, pending: Pending) -> int:
        found = self._numbers.get(pending)
        if found is None:
            found = self._numbers[pending] = len(self.pendings)
            self.pendings.append(pending)
            self.memo.append({})
            kind = {Read: "read", WriteTags: "write", DeleteTags: "delete", SetGroups: "set", LookUpGroups: "look up"}
            self.kinds.append(kind[type(pending.action)])
        return found

    def answer(self, number: int, key: Any, flag: int) -> Tuple[int, Optional[Exit], Tuple[str, ...]]:
        """What an invocation does next after this answer to its pending effect."""
        memo = self.memo[number]
        found = memo.get((key, flag))
        if found is None:
            found = memo[(key, flag)] = self._answer(number, key, flag)
        return found

    def _answer(self, number: int, key: Any, flag: int) -> Tuple[int, Optional[Exit], Tuple[str, ...]]:
        p = self.pendings[number]
        plan, tick = self.plans[p.actor], self.tick(p.actor, flag)
        problems: List[str] = []
        k, notes = observe.observe(plan, p.knowledge, p.action, self._result(p, key), tick)
        logged = p.logged | {item for note in notes for item in note.originals.items()}
        target, end = self._decide(p.actor, k, logged, flag, problems)
        if target >= 0:
            self.local.setdefault(number, set()).add(target)
        return target, end, tuple(problems)

    def _result(self, p: Pending, key: Any) -> Any:
        if isinstance(p.action, SetGroups):
            return Changes(FrozenMap({i: FAILURES[how] for i, how in key}))
        if isinstance(p.action, LookUpGroups):
            known = {g: GROUPS[g] for g in p.action.groups if g in GROUPS}
            return Networks(FrozenMap(known)) if key == "accepted" else FAILURES[key]
        if isinstance(key, tuple):
            tags, net = key
            return Instances(FrozenMap({ID: self.nets.values[net].instance(self.tags.values[tags])}))
        if key == "not shown":
            return Instances(FrozenMap())
        return Done() if key == "accepted" else FAILURES[key]

    # --- the world --------------------------------------------------------------------------------------------

    def _written(self, tags: int, more: FrozenMap) -> int:
        return self.tags.number(self.tags.values[tags].updated(more))

    def _deleted(self, tags: int, doomed: FrozenMap) -> int:
        there = self.tags.values[tags]
        return self.tags.number(there.without(k for k, v in doomed.items() if there.get(k) == v))

    def open(self, net: int) -> Tuple[str, ...]:
        """The attached interfaces that are not isolated, in truth."""
        nics = self.nets.values[net].attached
        return tuple(n.id for n in nics if not matches_isolation(n.groups, self.spec))

    def isolated(self, net: int) -> bool:
        """Is the node, in truth?"""
        found = self._isolated.get(net)
        if found is None:
            nics = self.nets.values[net].attached
            found = self._isolated[net] = all(matches_isolation(n.groups, self.spec) for n in nics)
        return found

    def changed(self, before: int, after: int) -> Tuple[str, ...]:
        """The interfaces that are not the same."""
        found = self._changed.get((before, after))
        if found is None:
            old, new = self.nets.values[before], self.nets.values[after]
            both = set((*new.attached, *new.elsewhere)) ^ set((*old.attached, *old.elsewhere))
            found = self._changed[(before, after)] = tuple(sorted({n.id for n in both}))
        return found

    def lost(self, tags: int, net: int) -> FrozenSet[str]:
        """The interfaces whose original groups are neither set nor in the tags."""
        found = self._lost.get((tags, net))
        if found is None:
            network = self.nets.values[net]
            both = Network((*network.attached, *network.elsewhere))
            instance = both.instance(self.tags.values[tags])
            kept = groups_to_restore(instance, tags_of.read(instance), self.spec)
            found = self._lost[(tags, net)] = frozenset(
                n.id for n in both.attached if n.id in self.allowed
                and not {n.groups, kept.get(n.id)} & self.allowed[n.id]
            )  # fmt: skip
        return found

    def alone(self, tags: int, net: int, actor: int, changes: int = 1000) -> Tuple[int, int, Optional[Exit]]:
        """A plain invocation, nothing beside it, which is killed after so many changes; (tags, net, its end)."""
        number, end = self.begin(actor), None
        for _ in range(80):
            p = self.pendings[number]
            action, key = p.action, "accepted"
            if not isinstance(action, (Read, LookUpGroups)):
                if not changes:
                    return tags, net, None
                changes -= 1
            if isinstance(action, Read):
                key = (tags, net)
            elif isinstance(action, WriteTags):
                tags = self._written(tags, action.tags)
            elif isinstance(action, DeleteTags):
                tags = self._deleted(tags, action.tags)
            elif isinstance(action, SetGroups):
                network, results = self.nets.values[net], []
                changes += 1
                for i, g in sorted(action.goals.items()):
                    if not changes:
                        return tags, self.nets.number(network), None
                    changes -= 1
                    nic = network.find(i)
                    how = "gone" if nic is None else ec2_refusal(g, nic.vpc) or "accepted"
                    network = network.with_groups(i, g) if how == "accepted" else network
                    results.append((i, how))
                net, key = self.nets.number(network), tuple(sorted(results))
            number, end, problems = self.answer(number, key, p.flag)
            if number < 0:
                return tags, net, end
        return tags, net, None

    def recovered(self, tags: int, net: int) -> Tuple[str, ...]:
        """What is wrong after a plain on, and after a plain off and on."""
        found = self._recovered.get((tags, net))
        if found is None:
            found = self._recovered[(tags, net)] = tuple(self._recover(tags, net))
        return found

    def _recover(self, tags: int, net: int) -> Iterator[str]:
        plain_off, plain_on = len(self.actors) - 2, len(self.actors) - 1
        for both in (False, True):
            t, n = tags, net
            for actor in (plain_off, plain_on) if both else (plain_on,):
                t, n, end = self.alone(t, n, actor)
                what = self.actors[actor].action
                if what == "on" and self.is_isolated_by_nature(t, n):
                    continue
                if end is None or not end.succeeded:
                    yield f"afterwards, a plain {what} fails: {end.text if end else 'no end'}"
                if what == "off" and not self.isolated(n):
                    yield "afterwards, a plain off does not isolate"
            after = "off and on" if both else "on"
            wrong = [nic.id for nic in self.nets.values[n].attached if nic.groups not in self.allowed.get(nic.id, ())]
            if wrong:
                yield f"afterwards, a plain {after} does not restore {', '.join(SHORT[i] for i in wrong)}"
            if self.tags.values[t]:
                yield f"afterwards, a plain {after} leaves tags"

    def is_isolated_by_nature(self, tags: int, net: int) -> bool:
        """Is nothing to be restored, and an interface has the groups that isolate by nature? Then ``on`` fails, as it
        cannot tell whether the backup was lost."""
        network = self.nets.values[net]
        found = any(matches_isolation(n.groups, self.spec) for n in network.attached) and self.spec.keep_only
        unchanged = all(n.groups in self.allowed.get(n.id, ()) for n in network.attached)
        return found and unchanged and not self.tags.values[tags]

    # --- transitions ------------------------------------------------------------------------------------------

    def start(self) -> State:
        """The first state."""
        tags, net = self.tags.number(FrozenMap()), self.nets.number(self.network)
        plain_off = len(self.actors) - 2
        for _ in range({"open": 0, "fenced": 1, "fenced twice": 2}[self.scenario.start]):
            tags, net, end = self.alone(tags, net, plain_off)
            assert end is not None
            assert end.succeeded, end
        if self.scenario.half:
            action, changes = self.scenario.half
            tags, net, end = self.alone(tags, net, plain_off + (action == "on"), changes)
            assert end is None, end
        for event in self.scenario.before:
            changed = self._event(event, self.nets.values[net])
            assert changed is not None, event
            self.allowed = {n.id: {n.groups} if n not in self.nets.values[net].attached else self.allowed[n.id]
                            for n in changed.attached}  # fmt: skip
            net = self.nets.number(changed)
        state = [tags, net, 0, 0, 0, self.scenario.budget]
        for actor in range(len(self.scenario.actors)):
            state += [self.begin(actor), 0]
        return tuple(state)

    def successors(self, s: State) -> Iterator[Tuple[Label, State, Tuple[str, ...]]]:
        """Every next state, how it comes about, and what is wrong with that step."""
        left = s[5] & 15
        running = [a for a in range(len(self.scenario.actors)) if s[BASE + 2 * a] >= 0]
        if len(running) > 1:
            for actor in running:
                one = self._without_time(s, actor)
                if one is not None:
                    yield one
                    return
        for actor in running:
            number = s[BASE + 2 * actor]
            if left and self.may.get(CRASH):
                state = self._spent(s)
                state[BASE + 2 * actor] = DEAD
                for i in self.named(self.pendings[number].logged):
                    state[BASE + 2 * actor + 1] |= NAMED << NUMBER[i]
                state[BASE + 2 * actor + 1] &= AFTERWARDS
                yield (actor, "killed"), self._made(state), ()
            if s[2]:
                wait = self.pendings[number].wait
                if any(f[0] == actor and f[-1] <= wait for f in self.flights.values[s[2]]):
                    continue  # what is in flight arrives before this invocation's clock is there
            yield from getattr(self, "_" + self.kinds[number].replace(" ", "_"))(s, actor, number, left)
        for f in self.flights.values[s[2]] if s[2] else ():
            yield from self._land(s, f)
        if left and self.scenario.events and self.may.get(EVENT):
            yield from self._events(s)

    def _without_time(self, s: State, actor: int) -> Optional[Tuple[Label, State, Tuple[str, ...]]]:
        """The answer to an effect for which no time is left, if it is all that has to be followed.

        Nobody else sees it, and no other step changes it: whatever else happens may as well happen afterwards; a
        crash too. Not where the invocation ends, as the truth is checked at that moment.
        """
        p = self.pendings[s[BASE + 2 * actor]]
        if p.usable or p.done or (s[5] & 15 and self.may.get(DEADLINE) and p.flag < 2):
            return None
        key = tuple((i, "no time") for i in sorted(p.action.goals)) if isinstance(p.action, SetGroups) else "no time"
        one = next(self._answered(list(s), actor, s[BASE + 2 * actor], key, (actor, "no time")))
        return one if one[1][BASE + 2 * actor] >= 0 else None

    def _spent(self, s: State, units: int = 1) -> List[int]:
        state = list(s)
        state[5] -= units
        return state

    def _made(self, state: List[int]) -> State:
        if not (state[5] & 15 and self.may.get(STALE)) or all(n < 0 for n in state[BASE::2]):
            state[3] = state[4] = 0  # no stale read is to come
        return tuple(state)

    def _moved(self, state: List[int], tags: int, net: int, actor: int, deletion: bool = False) -> None:
        """EC2 has other tags or groups now; ``actor``: by whom, -1 by an operator."""
        for part, past, new in ((0, 3, tags), (1, 4, net)):
            if state[part] != new:
                state[past] = self.sets.number(self.sets.values[state[past]] | {state[part]})
        bits = TAGS_GONE if deletion else 0
        if net != state[1]:
            bits |= GROUPS_MOVED
        if actor >= 0:
            mine = state[BASE + 2 * actor + 1]
            if (deletion and mine & GROUPS_MOVED) or (net != state[1] and mine & TAGS_GONE):
                state[5] |= CROSSED
        if net != state[1]:
            self._note_change(state, net, actor)
        for other in range(len(self.scenario.actors)):
            if other != actor:
                running = state[BASE + 2 * other] >= 0
                state[BASE + 2 * other + 1] |= (bits if running else 0) | (DISTURBED if actor < 0 else 0)
        state[0], state[1] = tags, net
        if state[5] & CROSSED and not self.lost(tags, net):
            state[5] &= ~CROSSED

    def _note_change(self, state: List[int], net: int, actor: int) -> None:
        """Who changed which interface last."""
        bits = 0
        for i in self.changed(state[1], net):
            bits |= (CHANGED | BLIND) << NUMBER[i]
        for other in range(len(self.scenario.actors)):
            state[BASE + 2 * other + 1] &= ~bits
        if actor >= 0:
            ghost = BASE + 2 * actor + 1
            if not state[ghost] & TAGS_GONE:
                bits &= BLIND - 1
            state[ghost] = (state[ghost] & ~(bits // CHANGED * NOT_CLOSED)) | bits

    def _waited(self, state: List[int], actor: int, wait: float) -> None:
        if state[2] and wait:
            flights = self.flights.values[state[2]]
            state[2] = self.flights.number(
                tuple(sorted(((*f[:-1], f[-1] - wait) if f[0] == actor else f) for f in flights))
            )

    def _answered(
        self, state: List[int], actor: int, number: int, key: Any, label: Label
    ) -> Iterator[Tuple[Label, State, Tuple[str, ...]]]:
        """The invocation goes on; with its deadline passing just now, too, if that may be."""
        p = self.pendings[number]
        flags = [p.flag]
        if state[5] & 15 and self.may.get(DEADLINE):
            flags += range(p.flag + 1, 3)
        self._waited(state, actor, p.wait)
        for flag in flags:
            target, end, problems = self.answer(number, key, flag)
            new = list(state)
            if flag != p.flag:
                new[5] -= 1
            new[BASE + 2 * actor] = target
            if end is not None:
                if flag == 2:
                    new[BASE + 2 * actor + 1] |= NO_TIME_LEFT
                problems = (*problems, *self._at_exit(new, actor, end))
                new[BASE + 2 * actor + 1] &= AFTERWARDS
            yield (label if flag == p.flag else (*label, "deadline" if flag == 1 else "no time at all")), \
                self._made(new), problems  # fmt: skip

    def _read(self, s: State, actor: int, number: int, left: int) -> Iterator[Tuple[Label, State, Tuple[str, ...]]]:
        ghost = BASE + 2 * actor + 1
        keep = ~(LAST_STALE | DISTURBED | GROUPS_MOVED | TAGS_GONE | UNREADABLE)
        if not self.pendings[number].usable:
            yield from self._answered(list(s), actor, number, "no time", (actor, "no time"))
            return
        state = list(s)
        state[ghost] = (s[ghost] & keep) | BEGAN
        yield from self._answered(state, actor, number, (s[0], s[1]), (actor, "reads"))
        if not left:
            return
        if self.may.get(STALE):
            for t in sorted({s[0], *self.sets.values[s[3]]}):
                for g in sorted({s[1], *self.sets.values[s[4]]}):
                    if (t, g) != (s[0], s[1]):
                        state = self._spent(s)
                        state[ghost] |= BEGAN | LAST_STALE | EVER_STALE
                        yield from self._answered(state, actor, number, (t, g), (actor, "reads stale", t, g))
        if self.may.get(LACKING):
            network = self.nets.values[s[1]]
            for nic in network.attached:
                state = self._spent(s)
                state[ghost] |= BEGAN | LAST_STALE | EVER_STALE
                without = self.nets.number(network.without(nic.id))
                yield from self._answered(state, actor, number, (s[0], without), (actor, "reads without", nic.id))
        for kind, key in ((UNREAD, "not read"), (UNSHOWN, "not shown"), (REFUSED, "refused")):
            if self.may.get(kind):
                state = self._spent(s)
                state[ghost] |= UNREADABLE if kind != UNSHOWN else 0
                yield from self._answered(state, actor, number, key, (actor, "reads", key))

    def _write(self, s: State, actor: int, number: int, left: int) -> Iterator[Tuple[Label, State, Tuple[str, ...]]]:
        action = self.pendings[number].action
        yield from self._tags(s, actor, number, left, self._written(s[0], action.tags), ("tags", action.tags), False)

    def _delete(self, s: State, actor: int, number: int, left: int) -> Iterator[Tuple[Label, State, Tuple[str, ...]]]:
        action = self.pendings[number].action
        yield from self._tags(s, actor, number, left, self._deleted(s[0], action.tags), ("delete", action.tags), True)

    def _tags(
        self, s: State, actor: int, number: int, left: int, tags: int, change: Tuple[str, FrozenMap], deletion: bool
    ) -> Iterator[Tuple[Label, State, Tuple[str, ...]]]:
        if not self.pendings[number].usable:
            yield from self._answered(list(s), actor, number, "no time", (actor, "no time"))
            return

        def done(state: List[int]) -> List[int]:
            self._moved(state, tags, s[1], actor, deletion)
            if not deletion:
                self._note_write(state, actor)
            elif state[BASE + 2 * actor + 1] & LAST_STALE:
                state[BASE + 2 * actor + 1] |= MISLED
            return state

        yield from self._answered(done(list(s)), actor, number, "accepted", (actor, change[0]))
        if not left:
            return
        if self.may.get(REFUSED):
            yield from self._answered(self._spent(s), actor, number, "refused", (actor, change[0], "refused"))
        if self.may.get(LOST):
            yield from self._answered(self._spent(s), actor, number, "unknown", (actor, change[0], "lost"))
            state = done(self._spent(s))
            yield from self._answered(state, actor, number, "unknown", (actor, change[0], "done, reply lost"))
        if self.may.get(LATE):
            state = self._spent(s)
            self._waited(state, actor, self.pendings[number].wait)
            flight = (actor, change[0], "", change[1], self.plans[actor].api_seconds + self.pendings[number].wait)
            state[2] = self.flights.number((*self.flights.values[state[2]], flight))
            yield from self._answered(state, actor, number, "unknown", (actor, change[0], "late"))

    def _note_write(self, state: List[int], actor: int) -> None:
        ghost = BASE + 2 * actor + 1
        if self.actors[actor].action != "off" or state[ghost] & WROTE:
            return
        state[ghost] |= WROTE
        for other, a in enumerate(self.scenario.actors):
            if a.action == "on" and state[BASE + 2 * other + 1] & BEGAN:
                state[ghost] |= OLDER << other

    def _look_up(self, s: State, actor: int, number: int, left: int) -> Iterator[Tuple[Label, State, Tuple[str, ...]]]:
        if not self.pendings[number].usable:
            yield from self._answered(list(s), actor, number, "no time", (actor, "no time"))
            return
        yield from self._answered(list(s), actor, number, "accepted", (actor, "looks up"))
        if left and self.may.get(REFUSED):
            yield from self._answered(self._spent(s), actor, number, "refused", (actor, "looks up", "refused"))

    def _set(self, s: State, actor: int, number: int, left: int) -> Iterator[Tuple[Label, State, Tuple[str, ...]]]:
        p = self.pendings[number]
        goals, done = p.action.goals, dict(p.done)
        if not p.usable:
            key = tuple((i, "no time") for i in sorted(goals))
            yield from self._answered(list(s), actor, number, key, (actor, "no time"))
            return
        network = self.nets.values[s[1]]
        for interface in sorted(goals):
            if interface in done:
                continue
            groups = goals[interface]
            nic = network.find(interface)
            name = (actor, "sets", interface)
            fixed = ""
            if nic is None:
                fixed = "gone"
            elif interface in self.actors[actor].denied:
                fixed = "refused"
            else:
                fixed = ec2_refusal(groups, nic.vpc)
            if fixed:
                yield from self._part(list(s), actor, number, interface, fixed, (*name, fixed))
                continue
            after = self.nets.number(network.with_groups(interface, groups))
            state = list(s)
            self._moved(state, s[0], after, actor)
            yield from self._part(state, actor, number, interface, "accepted", name)
            if not left:
                continue
            for kind, how in ((REFUSED, "refused"), (THROTTLED, "throttled"), (LOST, "unknown")):
                if self.may.get(kind):
                    state = self._spent(s)
                    yield from self._part(state, actor, number, interface, how, (*name, how))
            if self.may.get(LOST):
                state = self._spent(s)
                self._moved(state, s[0], after, actor)
                yield from self._part(state, actor, number, interface, "unknown", (*name, "done, reply lost"))
            if self.may.get(LATE):
                state = self._spent(s)
                flight = (actor, "groups", interface, groups, self.plans[actor].api_seconds + p.wait)
                state[2] = self.flights.number((*self.flights.values[state[2]], flight))
                yield from self._part(state, actor, number, interface, "unknown", (*name, "late"))

    def _part(
        self, state: List[int], actor: int, number: int, interface: str, how: str, label: Label
    ) -> Iterator[Tuple[Label, State, Tuple[str, ...]]]:
        p = self.pendings[number]
        done = tuple(sorted((*p.done, (interface, how))))
        if how == "refused" and p.action.change is Change.ISOLATE:
            state[BASE + 2 * p.actor + 1] |= NOT_CLOSED << NUMBER[interface]
        if len(done) == len(p.action.goals):
            yield from self._answered(state, actor, number, done, label)
            return
        self._waited(state, actor, p.wait)
        state[BASE + 2 * actor] = self._pending(replace(p, wait=0.0, done=done))
        yield label, self._made(state), ()

    def _land(self, s: State, f: Tuple[Any, ...]) -> Iterator[Tuple[Label, State, Tuple[str, ...]]]:
        actor, what, interface, payload, _ = f
        state = list(s)
        flights = list(self.flights.values[s[2]])
        flights.remove(f)
        state[2] = self.flights.number(tuple(flights))
        if what == "groups":
            net = self.nets.number(self.nets.values[s[1]].with_groups(interface, payload))
            self._moved(state, s[0], net, actor)
        elif what == "tags":
            self._moved(state, self._written(s[0], payload), s[1], actor)
        else:
            self._moved(state, self._deleted(s[0], payload), s[1], actor, True)
        yield (actor, "arrives", what, interface), self._made(state), ()

    def _edit(self, event: str) -> FrozenSet[str]:
        return {
            "edit": frozenset((APP, EDITED)),
            "edit isolated": frozenset((ISO,)) if self.spec.keep_only else frozenset((DB, EDITED)),
        }[event]

    def _events(self, s: State) -> Iterator[Tuple[Label, State, Tuple[str, ...]]]:
        network: Network = self.nets.values[s[1]]
        for event in self.scenario.events:
            new = self._event(event, network)
            if new is not None and new != network:
                state = self._spent(s)
                self._moved(state, s[0], self.nets.number(new), -1)
                yield (-1, event), self._made(state), ()

    def _event(self, event: str, network: Network) -> Optional[Network]:
        """What an operator's deed makes of it; None if it cannot be done."""
        there = {n.id for n in network.attached}
        other = network.find(E1)
        if event == "edit the other":
            return network.with_groups(E1, frozenset((OTHER, EDITED)))
        if event.startswith("edit"):
            return network.with_groups(E0, self._edit(event))
        if event == "delete" and E1 in there:
            return network.without(E1)
        if event == "detach" and E1 in there:
            return network.detached(E1)
        if event == "return" and other and E1 not in there:
            return network.with_attached(other)
        if event == "attach" and network.find(NEW.id) is None:
            return network.with_attached(NEW)
        return None

    # --- checks on the truth ----------------------------------------------------------------------------------

    def _at_exit(self, state: List[int], actor: int, end: Exit) -> Tuple[str, ...]:
        """What is wrong at the moment an invocation exits."""
        ghost = state[BASE + 2 * actor + 1]
        texts = []
        action = self.actors[actor].action
        named = self.named(end.logged)
        for i in named:
            state[BASE + 2 * actor + 1] |= NAMED << NUMBER[i]
        if action == "off" and end.succeeded and not ghost & (LAST_STALE | DISTURBED) and not self.isolated(state[1]):
            texts.append("off exits 0, and the node is open")
        if action == "off" and not ghost & LAST_STALE:
            lost = (self.lost(state[0], state[1]) & end.changed) - named
            if lost:
                texts.append(f"{action} exits, and the original groups of what it isolated are nowhere")
        if action == "on" and end.succeeded and all(a.action == "on" for a in self.scenario.actors):
            nics = self.nets.values[state[1]].attached
            if not ghost & (EVER_STALE | DISTURBED) and any(n.groups not in self.allowed[n.id] for n in nics):
                texts.append("on exits 0, and the original groups are not set")
        return tuple(texts)

    def named(self, logged: FrozenSet[Tuple[str, FrozenSet[str]]]) -> FrozenSet[str]:
        """The interfaces whose original groups this log names."""
        return frozenset(i for i, groups in logged if groups in self.allowed.get(i, ()))

    def at_end(self, s: State) -> List[str]:
        """What is wrong once every invocation has ended."""
        fates, ghosts = s[BASE::2], s[BASE + 1 :: 2]
        excused = all(self.loss_is_excused(s, i) for i in self.lost(s[0], s[1])) and self.lost(s[0], s[1])
        texts = [] if excused else list(self.recovered(s[0], s[1]))
        ons = [i for i, a in enumerate(self.scenario.actors) if a.action == "on"]
        for i, fate in enumerate(fates):
            if self.scenario.actors[i].action != "off" or fate != SUCCEEDED or ghosts[i] & (LAST_STALE | DISTURBED):
                continue
            if all(ghosts[i] & OLDER << o for o in ons) and not all(
                self.opening_is_excused(s, i) for i in self.open(s[1])
            ):
                texts.append("an off has succeeded, every on began earlier, and the node is open in the end")
        if s[5] & 15 == self.scenario.budget and not any(a.denied for a in self.scenario.actors):
            late = "on" in {a.action for a in self.scenario.actors} and "off" in {a.action for a in self.scenario.actors}
            failed = [i for i, f in enumerate(fates) if f == FAILED and not (late and i in ons)]
            if self.is_isolated_by_nature(*self.states[0][:2]):
                failed = [i for i in failed if i not in ons]
            texts += [f"without any adversity, {self.name(i)} fails" for i in failed]
            if len(ons) == len(fates) and (self.lost(s[0], s[1]) or self.tags.values[s[0]]):
                texts.append("without any adversity, on does not restore")
        return texts

    # --- what no order of calls can prevent -------------------------------------------------------------------

    def opening_is_excused(self, s: State, interface: str) -> bool:
        """Is this interface open, beside an off that has succeeded, as no order of calls could have closed it?

        Whoever changed it last had decided that by a read before the other's success; EC2 cannot take it back.
        It could not close it again, as it was killed; or as each read since then failed, or showed an earlier state
        of EC2; or no time at all was left; or EC2 refused for good to isolate this interface.
        """
        bit = NUMBER[interface]
        for actor, (fate, ghost) in enumerate(zip(s[BASE::2], s[BASE + 1 :: 2])):
            if ghost & CHANGED << bit:
                if fate == DEAD:
                    return True
                if fate == FAILED:
                    return bool(ghost & (UNREADABLE | NO_TIME_LEFT | LAST_STALE | NOT_CLOSED << bit))
                return self.actors[actor].action == "on" and bool(ghost & (LAST_STALE | MISLED))
        return False

    def loss_is_excused(self, s: State, interface: str) -> bool:
        """Are the original groups of this interface gone, though an invocation has named them in its log, or as no
        order of calls could have kept them?

        A deletion of the backup crossed the latest change of the interface, both decided by reads before either, and
        neither could write the backup again. The one that changed it was killed, or its last read showed an earlier
        state of EC2. And the change came after the deletion, perhaps after the look back; or the one that deleted
        was killed too, or the read before the deletion, or the look back, showed an earlier state of EC2.
        """
        bit = NUMBER[interface]
        fates, ghosts = s[BASE::2], s[BASE + 1 :: 2]
        if any(ghost & NAMED << bit for ghost in ghosts):
            return True
        ons = [n for n in range(len(fates)) if self.actors[n].action == "on"]
        unaware = all(fates[n] == DEAD or ghosts[n] & (LAST_STALE | MISLED) for n in ons)  # of the change
        return bool(s[5] & CROSSED) and any(
            ghost & CHANGED << bit and (fate == DEAD or ghost & LAST_STALE) and (unaware or ghost & BLIND << bit)
            for fate, ghost in zip(fates, ghosts)
        )

    # --- the search -------------------------------------------------------------------------------------------

    def run(self, *, first: bool = False) -> "Search":
        """Visit every state; or, if one violation is enough, only until there is ``first`` one."""
        began = time.process_time()
        first = self.start()
        visited = {first}
        states, parents = self.states, self.parents
        states.append(first)
        parents.append(-1)
        for index, s in enumerate(states):  # it grows meanwhile
            if self.has_ended(s):
                self.terminal[s[BASE::2]] = self.terminal.get(s[BASE::2], 0) + 1
                for text in self.at_end(s):
                    self.violations.setdefault(text, Violation(text, index, None, s[5]))
                continue
            for label, new, problems in self.successors(s):
                self.transitions += 1
                for text in problems:
                    text = f"{self.name(label[0])}: {text}"
                    if text not in self.violations:
                        self.violations[text] = Violation(text, index, label, new[5])
                if new not in visited:
                    visited.add(new)
                    states.append(new)
                    parents.append(index)
            if len(states) > self.limit or (first and self.violations):
                self.truncated = True
                break
        self.seconds = time.process_time() - began
        for number, index in self.endless():
            text = f"{self.name(self.pendings[number].actor)} alone never ends: {self.describe(number)}"
            self.violations.setdefault(text, Violation(text, index, None))
        return self

    @staticmethod
    def has_ended(s: State) -> bool:
        """Has every invocation, and is nothing in flight?"""
        return not s[2] and max(s[BASE::2]) < 0

    def endless(self) -> Iterator[Tuple[int, int]]:
        """Pending effects, and states, from which an invocation alone comes back to where it is: only the deadline,
        if any time passes at all, would end it."""
        targets, good = self._back(), set()
        for index, s in enumerate(self.states):
            for actor, number in enumerate(s[BASE::2]):
                if number in targets and not s[2] and self._alone_for_ever(actor, number, s[:2], good):
                    yield number, index
                    return

    def _back(self) -> FrozenSet[int]:
        """Pending effects to which an invocation may come back; of each circle at least one."""
        color: Dict[int, int] = {}
        found = set()
        for root in self.local:
            if root in color:
                continue
            color[root] = 1
            stack = [(root, iter(self.local[root]))]
            while stack:
                node, targets = stack[-1]
                for t in targets:
                    if color.get(t) == 1:
                        found.add(t)
                    elif t not in color:
                        color[t] = 1
                        stack.append((t, iter(self.local.get(t, ()))))
                        break
                else:
                    color[node] = 2
                    stack.pop()
        return frozenset(found)

    def _alone_for_ever(self, actor: int, number: int, world: State, good: Set[Tuple[int, ...]]) -> bool:
        state = [*world, 0, 0, 0, 0] + [DEAD, 0] * len(self.scenario.actors)
        state[BASE + 2 * actor] = number
        s = tuple(state)
        path: Set[Tuple[int, ...]] = set()
        while s[BASE + 2 * actor] >= 0:
            here = (s[BASE + 2 * actor], *s[:2])
            if here in good:
                break
            if here in path:
                return True
            path.add(here)
            kind = getattr(self, "_" + self.kinds[here[0]].replace(" ", "_"))
            s = next(iter(kind(s, actor, here[0], 0)))[1]
        good |= path
        return False

    # --- telling ----------------------------------------------------------------------------------------------

    def name(self, actor: int) -> str:
        """Of an invocation."""
        return f"{'ABC'[actor]}({self.actors[actor].action})" if actor >= 0 else "operator"

    def describe(self, number: int) -> str:
        """A pending effect, in words."""
        p = self.pendings[number]
        action = p.action
        text = f"{p.knowledge.phase.name}: {type(action).__name__}"
        if isinstance(action, SetGroups):
            goals = ", ".join(f"{SHORT[i]}={_groups(g)}" for i, g in sorted(action.goals.items()))
            text += f" {action.change.name} {goals}"
        if isinstance(action, WriteTags):
            backup = action.backup
            text += " CLAIM" if backup is None else f" {backup.time - NOW:+d} " + ", ".join(
                f"{SHORT[i]}={_groups(g)}" for i, g in sorted(backup.originals.items()))  # fmt: skip
        return text + (f" after {p.wait:g} s" if p.wait else "")

    def show(self, tags: int, net: int) -> str:
        """The world, in words."""
        network = self.nets.values[net]
        nics = " ".join(f"{SHORT[n.id]}={_groups(n.groups)}" for n in network.attached)
        read = tags_of.read(network.instance(self.tags.values[tags]))
        sets = sorted((t, i, g) for i, times in read.sets.items() for t, g in times.items())
        kept = " ".join(f"{t - NOW:+d}:{SHORT[i]}={_groups(g)}" for t, i, g in sets)
        return f"{nics} | {f'last {read.lastfence - NOW:+d} ' if read.lastfence else ''}{kept or 'no tags'}"

    def _way(self, violation: Violation) -> Iterator[Tuple[State, Label, State]]:
        """The shortest way to it."""
        path = [violation.state]
        while self.parents[path[-1]] >= 0:
            path.append(self.parents[path[-1]])
        path.reverse()
        for a, b in zip(path, path[1:]):
            label = next(lb for lb, state, _ in self.successors(self.states[a]) if state == self.states[b])
            yield self.states[a], label, self.states[b]
        if violation.label is not None:
            last = self.states[violation.state]
            yield next((last, lb, state) for lb, state, _ in self.successors(last) if lb == violation.label)

    def steps(self, violation: Violation) -> List[str]:
        """The way to it, for ``replay``."""
        return [self.told(label) for _, label, _ in self._way(violation)]

    def told(self, label: Label) -> str:
        """A step, in words that mean the same in another search."""
        words = " ".join(SHORT.get(str(w), str(w)) for w in label[1:])
        if label[1] == "reads stale":
            words = " ".join((f"reads stale: {self.show(*label[2:4])}", *label[4:]))
        return f"{self.name(label[0])}: {words}"

    def transcript(self, violation: Violation) -> str:
        """The shortest way to it, readable."""
        world = self.show(*self.states[0][:2])
        lines = [f"{self.scenario}", f"VIOLATION {violation.text}", f"    {world}"]
        lines += [self._line(*step) for step in self._way(violation)]
        return "\n".join([*lines, f"replay with {self.steps(violation)!r}"])

    def _line(self, s: State, label: Label, new: State) -> str:
        actor = label[0]
        what = self.describe(s[BASE + 2 * actor]) if actor >= 0 and label[1] not in ("arrives", "killed") else ""
        line = f"  {self.name(actor):7} {what} -> {self.told(label).partition(': ')[2]}"
        if new[:2] != s[:2]:
            line += f"\n    {self.show(*new[:2])}"
        if actor >= 0 and s[BASE + 2 * actor] >= 0 > new[BASE + 2 * actor]:
            line += f"   ** {FATES[new[BASE + 2 * actor]]}"
            for _, (target, end, _p) in self.memo[s[BASE + 2 * actor]].items():
                if end is not None and target == new[BASE + 2 * actor]:
                    line += f" {end.text}"
                    break
        return line

    def summary(self) -> str:
        """Figures in one line."""
        cut = " TRUNCATED" if self.truncated else ""
        return (
            f"{self.scenario}: {len(self.states)} states, {self.transitions} transitions,"
            f" {len(self.pendings)} pending, {self.decisions} decisions, {self.seconds:.1f} s, {len(self.violations)} violations{cut}"
        )


def replay(scenario: Scenario, steps: Iterable[str]) -> List[str]:
    """Take these steps, as ``Search.steps`` tells them: all that is found to be wrong on the way, and at its end.

    Raises:
        LookupError: one of them is not possible.
    """
    search = Search(scenario)
    s = search.start()
    search.states.append(s)
    found: List[str] = []
    for step in steps:
        possible = {search.told(label): (label, new, problems) for label, new, problems in search.successors(s)}
        if step not in possible:
            raise LookupError(f"{step}: not among {', '.join(possible)}")
        label, s, problems = possible[step]
        found += [f"{search.name(label[0])}: {text}" for text in problems]
    if search.has_ended(s):
        found += search.at_end(s)
    return found


def _groups(groups: FrozenSet[str]) -> str:
    return "+".join(sorted(SHORT.get(g, g) for g in groups)) or "none"
