"""Every next state of a state: each invocation goes on, or something goes wrong."""

from dataclasses import replace
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

from aws_vpc_net.core.model import FrozenMap
from aws_vpc_net.core.probing import Answer, Standing
from aws_vpc_net.core.protocol import Change, CheckAnswers, Connect, Phase, SetGroups
from aws_vpc_net.core.tag_slots import TAG_LIMIT

from .invocations import DEAD, Table, Tables, ec2_refusal
from .tag_edits import TAG_EVENTS, edited
from .truth import (
    AFTERWARDS,
    ALIVE,
    ASKED,
    BASE,
    BEGAN,
    BLIND,
    CHANGED,
    CROSSED,
    DAMAGED,
    DISTURBED,
    DWELLS,
    ENDED,
    EVER_STALE,
    FENCE_SHOWN,
    GROUPS_MOVED,
    LAST_STALE,
    MISLED,
    NAMED,
    NO_TIME_LEFT,
    NOT_CLOSED,
    NOT_TRIED,
    NUMBER,
    OBSERVABLE,
    OLDER,
    PARTS,
    SETTLES,
    SILENCES,
    SILENT,
    TAGS_GONE,
    TWICE,
    UNREADABLE,
    WHOLE,
    WROTE,
    Label,
    State,
    Transition,
    Truth,
)
from .world import (
    ADDRESS,
    CRASH,
    DEADLINE,
    EVENT,
    LACKING,
    LATE,
    LOST,
    OTHERS,
    REFUSED,
    STALE,
    THROTTLED,
    UNREAD,
    UNSHOWN,
    Network,
    Scenario,
)

Transitions = Iterator[Transition]


class Following(Truth):
    """The states of a scenario."""

    def __init__(self, scenario: Scenario, tables: Optional[Tables] = None) -> None:
        super().__init__(scenario, tables)
        self.flights, self.sets = Table(), Table()
        self.flights.number(())
        self.sets.number(frozenset())
        self.may = dict.fromkeys(scenario.kinds, True)
        self._changes: Dict[Tuple[int, int, str], Tuple[str, int]] = {}

    def start(self) -> State:
        """The first state."""
        others = FrozenMap({f"{OTHERS}{n}": "" for n in range(self.scenario.others)})
        tags, net = self.tags.number(others), self.nets.number(self.network)
        plain_off = len(self.actors) - 2
        for _ in range({"open": 0, "fenced": 1, "fenced twice": 2}[self.scenario.start]):
            tags, net, end = self.alone(tags, net, plain_off)
            assert end is not None
            assert end.succeeded, end
        returning = [n for n, a in enumerate(self.scenario.actors) if a.returning]
        if returning:
            net = self.nets.number(self.event("stop", self.nets.values[net]))
        if self.scenario.half:
            action, changes = self.scenario.half
            actor = returning[0] if action == "return" else plain_off + (action == "on")
            tags, net, end = self.alone(tags, net, actor, changes)
            assert end is None or changes == WHOLE, end
        for event in self.scenario.before:
            changed = self.event(event, self.nets.values[net])
            assert changed is not None, event
            kept = set() if self.scenario.half else set.union(*self.allowed.values())  # a backup may hold them
            self.allowed = {n.id: {n.groups} | (self.allowed.get(n.id, set()) & kept)
                            if n not in self.nets.values[net].attached else self.allowed[n.id]
                            for n in changed.attached}  # fmt: skip
            net = self.nets.number(changed)
        self.natural = (tags, net)
        state = [tags, net, 0, 0, 0, self.scenario.budget]
        for actor in range(len(self.scenario.actors)):
            state += [self.begin(actor), 0]
        return tuple(state)

    def successors(self, s: State) -> Transitions:
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
        if self.nets.values[s[1]].state == "stopping":
            yield (-1, "the instance has stopped"), self._made(self._in_state(s, "stopped")), ()
        if left and self.scenario.events and self.may.get(EVENT):
            yield from self._events(s)

    def _without_time(self, s: State, actor: int) -> Optional[Transition]:
        """The answer to an effect for which no time is left, if it is all that has to be followed.

        Nobody else sees it, and no other step changes it: whatever else happens may as well happen afterwards; a
        crash too. Not where the invocation ends, as the truth is checked at that moment.
        """
        p = self.pendings[s[BASE + 2 * actor]]
        if isinstance(p.action, (Connect, CheckAnswers)):  # which take no time
            return None
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
        if self.may.get(STALE):
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
            state[ghost] |= bits
            for i in set(self.changed(state[1], net)) - set(self.open(net)):
                state[ghost] &= ~(NOT_CLOSED << NUMBER[i])

    def _waited(self, state: List[int], actor: int, wait: float) -> None:
        if state[2] and wait:
            flights = self.flights.values[state[2]]
            state[2] = self.flights.number(
                tuple(sorted((((*f[:-1], f[-1] - wait) if f[0] == actor else f) for f in flights), key=repr))
            )

    def _settles(self, state: List[int], actor: int, wait: float) -> None:
        """Time passes for the data plane."""
        for part in (SETTLES, DWELLS):
            ghost = state[BASE + 2 * actor + 1]
            left = ghost >> part & 255
            if left and wait:
                state[BASE + 2 * actor + 1] = ghost - (min(left, round(wait * PARTS)) << part)

    def _accepted(self, state: List[int], actor: int, change: Change, wait: float) -> None:
        """EC2 has accepted a change of groups, so many seconds from now."""
        settle = round((self.actors[actor].settle + wait) * PARTS)
        ghost = state[BASE + 2 * actor + 1] & ~SILENCES
        for part in (SETTLES, DWELLS) if change is Change.UNTRACK else (SETTLES,):
            ghost = ghost & ~(255 << part) | (settle << part if self.actors[actor].settle else 0)
        state[BASE + 2 * actor + 1] = ghost

    def _connect(self, s: State, actor: int, number: int, left: int) -> Transitions:
        state = list(s)
        state[BASE + 2 * actor + 1] |= ASKED
        yield from self._answered(state, actor, number, "accepted", (actor, "connects"))

    def _check(self, s: State, actor: int, number: int, left: int) -> Transitions:
        """The node may answer as it likes: what comes first lets the run end."""
        p = self.pendings[number]
        action, before = p.action, not p.knowledge.probe.checked
        yes, no, never = Answer.ANSWERED, Answer.SILENT, Answer.IMPOSSIBLE
        usual, other = (yes, no) if before else (no, yes)
        first, last = action.addresses[0], action.addresses[-1]
        ways: List[Any] = [{}, {first: other}, {last: other}, {first: never}, {last: never}]
        ways += [dict.fromkeys(action.addresses, other)]
        known = {a: o.standing for a, o in p.knowledge.probe.addresses.items()}
        every = dict.fromkeys(FrozenMap({a: way.get(a, usual) for a in action.addresses}) for way in ways)
        for answers in every:
            for standing in (Standing.ALIVE,) if before else (Standing.DEAD, Standing.ALIVE, Standing.ENDED):
                kept = {a for a in action.addresses if known.get(a) or (a in action.keep and answers[a] is yes)}
                key = tuple((a, answers[a], standing if a in kept else None) for a in action.addresses)
                state = list(s)
                state[BASE + 2 * actor + 1] = self._heard(s[BASE + 2 * actor + 1], key, before)
                words = tuple(f"{a} {answer.value}" for a, answer, _ in key) + ((standing.value,) if kept else ())
                yield from self._answered(state, actor, number, key, (actor, "hears", *words))
                if not kept:
                    break

    def _heard(self, ghost: int, key: Any, before: bool) -> int:
        """What the checks know of the data plane after these answers."""
        numbers = {address: NUMBER[i] for i, address in ADDRESS.items()}
        for address, answer, standing in key:
            n = numbers[address]
            silent = ghost & ASKED and answer is Answer.SILENT
            twice = TWICE if silent and ghost & (SILENT | TWICE) << n else 0
            bits = (SILENT if silent else 0) | twice | (NOT_TRIED if answer is Answer.IMPOSSIBLE else 0)
            if before:
                bits = OBSERVABLE if answer is Answer.ANSWERED else 0
            bits |= {Standing.ALIVE: ALIVE, Standing.ENDED: ENDED}.get(standing, 0)
            ghost = ghost & ~((SILENT | TWICE | NOT_TRIED | ALIVE | ENDED) << n) | bits << n
        return ghost & ~ASKED

    def _answered(
        self, state: List[int], actor: int, number: int, key: Any, label: Label
    ) -> Transitions:
        """The invocation goes on; with its deadline passing just now, too, if that may be."""
        p = self.pendings[number]
        flags = [p.flag]
        if state[5] & 15 and self.may.get(DEADLINE):
            flags += range(p.flag + 1, 3)
        self._waited(state, actor, p.wait)
        self._settles(state, actor, p.wait)
        for flag in flags:
            target, end, problems = self.answer(number, key, flag)
            new = list(state)
            if flag != p.flag:
                new[5] -= 1
            new[BASE + 2 * actor] = target
            if end is not None:
                if flag == 2:
                    new[BASE + 2 * actor + 1] |= NO_TIME_LEFT
                problems = (*problems, *self.at_exit(new, actor, end))
                new[BASE + 2 * actor + 1] &= AFTERWARDS
            yield (label if flag == p.flag else (*label, "deadline" if flag == 1 else "no time at all")), \
                self._made(new), problems  # fmt: skip

    def _read(self, s: State, actor: int, number: int, left: int) -> Transitions:
        ghost = BASE + 2 * actor + 1
        keep = ~(LAST_STALE | DISTURBED | GROUPS_MOVED | TAGS_GONE | UNREADABLE | FENCE_SHOWN)
        if not self.pendings[number].usable:
            yield from self._answered(list(s), actor, number, "no time", (actor, "no time"))
            return
        state = list(s)
        began = self.pendings[number].begun
        state[ghost] = (s[ghost] & keep) | (0 if began is not None and began.verdict is None else BEGAN)
        if self.actors[actor].returning and any(g & OLDER << actor for g in s[BASE + 1 :: 2]):
            state[ghost] |= FENCE_SHOWN
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

    def _write(self, s: State, actor: int, number: int, left: int) -> Transitions:
        action = self.pendings[number].action
        yield from self._tags(s, actor, number, left, self.written(s[0], action.tags), ("tags", action.tags), False)

    def _delete(self, s: State, actor: int, number: int, left: int) -> Transitions:
        action = self.pendings[number].action
        yield from self._tags(s, actor, number, left, self.deleted(s[0], action.tags), ("delete", action.tags), True)

    def _tags(
        self, s: State, actor: int, number: int, left: int, tags: int, change: Tuple[str, FrozenMap], deletion: bool
    ) -> Transitions:
        if not self.pendings[number].usable:
            yield from self._answered(list(s), actor, number, "no time", (actor, "no time"))
            return

        if "tags" in self.actors[actor].denied or (not deletion and len(self.tags.values[tags]) > TAG_LIMIT):
            yield from self._answered(list(s), actor, number, "refused", (actor, change[0], "refused"))
            return

        def done(state: List[int]) -> List[int]:
            self._moved(state, tags, s[1], actor, deletion)
            if not deletion:
                self._note_write(state, actor)
            elif state[BASE + 2 * actor + 1] & LAST_STALE:
                state[BASE + 2 * actor + 1] |= MISLED
            return state

        destroyed = self._destroyed(s, tags)
        for label, new, found in self._answered(done(list(s)), actor, number, "accepted", (actor, change[0])):
            yield label, new, (*destroyed, *found)
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

    def _destroyed(self, s: State, tags: int) -> Tuple[str, ...]:
        """What is wrong with these tags, if an operator has damaged others of an interface that is isolated."""
        isolated = (self.damaged(s) & self.lost(tags, s[1])) - {*self.open(s[1])}
        if not isolated or self.unreadable(s[0], s[1]) <= {*self.tags.values[tags].items()}:
            return ()
        return ("tags of an isolated interface that cannot be read are gone",)

    def _note_write(self, state: List[int], actor: int) -> None:
        ghost = BASE + 2 * actor + 1
        if self.actors[actor].action != "off" or state[ghost] & WROTE:
            return
        state[ghost] |= WROTE
        for other, a in enumerate(self.scenario.actors):
            if a.action == "on" and state[BASE + 2 * other + 1] & BEGAN:
                state[ghost] |= OLDER << other

    def _look_up(self, s: State, actor: int, number: int, left: int) -> Transitions:
        if not self.pendings[number].usable:
            yield from self._answered(list(s), actor, number, "no time", (actor, "no time"))
            return
        yield from self._answered(list(s), actor, number, "accepted", (actor, "looks up"))
        if left and self.may.get(REFUSED):
            yield from self._answered(self._spent(s), actor, number, "refused", (actor, "looks up", "refused"))

    def _in_state(self, s: Sequence[int], name: str) -> List[int]:
        """EC2 shows another state of the instance now."""
        state, network = list(s), self.nets.values[s[1]]
        state[4] = self.sets.number(self.sets.values[s[4]] | {s[1]})
        state[1] = self.nets.number(replace(network, state=name))
        return state

    def _stop(self, s: State, actor: int, number: int, left: int) -> Transitions:
        if not self.pendings[number].usable:
            yield from self._answered(list(s), actor, number, "no time", (actor, "no time"))
            return
        done = s if self.nets.values[s[1]].state == "stopped" else tuple(self._in_state(s, "stopping"))
        yield from self._answered(list(done), actor, number, "accepted", (actor, "stops it"))
        if left and self.may.get(REFUSED):
            yield from self._answered(self._spent(s), actor, number, "refused", (actor, "stops it", "refused"))
        if left and self.may.get(LOST):
            yield from self._answered(self._spent(s), actor, number, "unknown", (actor, "stops it", "lost"))
            yield from self._answered(self._spent(done), actor, number, "unknown", (actor, "stops it", "reply lost"))

    def _start(self, s: State, actor: int, number: int, left: int) -> Transitions:
        if not self.pendings[number].usable:
            yield from self._answered(list(s), actor, number, "no time", (actor, "no time"))
            return
        network: Network = self.nets.values[s[1]]
        if network.state == "stopping":
            yield from self._answered(list(s), actor, number, "refused", (actor, "starts", "too early"))
            return
        after = self.nets.number(network.started())
        state = list(s)
        self._moved(state, s[0], after, actor)
        problems = (*self._started_fenced(s, actor), *self._started_unfenced(s, actor))
        for label, new, found in self._answered(state, actor, number, "accepted", (actor, "starts")):
            yield label, new, (*problems, *found)
        if left and self.may.get(REFUSED):
            yield from self._answered(self._spent(s), actor, number, "refused", (actor, "starts", "refused"))

    def _started_fenced(self, s: State, actor: int) -> Tuple[str, ...]:
        """Its latest read showed the fence of another, which may rely on the stop."""
        ghost = s[BASE + 2 * actor + 1]
        return ("it starts an instance that was fenced since",) * bool(ghost & FENCE_SHOWN and not ghost & LAST_STALE)

    def _started_unfenced(self, s: State, actor: int) -> Tuple[str, ...]:
        """Monitor starts what an operator has stopped, and nobody has fenced."""
        by_hand = self.actors[actor].returning and self.nets.values[s[1]].by_hand
        return ("it starts what nobody has fenced",) * bool(by_hand and not s[BASE + 2 * actor + 1] & EVER_STALE)

    def _set(self, s: State, actor: int, number: int, left: int) -> Transitions:
        p = self.pendings[number]
        goals, done = p.action.goals, dict(p.done)
        if not p.usable:
            key = tuple((i, "no time") for i in sorted(goals))
            yield from self._answered(list(s), actor, number, key, (actor, "no time"))
            return
        for interface in sorted(goals):
            if interface in done:
                continue
            name = (actor, "sets", interface)
            fixed, after = self._change(s[1], number, interface)
            if fixed:
                yield from self._part(list(s), actor, number, interface, fixed, (*name, fixed))
                continue
            state = list(s)
            self._moved(state, s[0], after, actor)
            problems = self._left_too_early(s, actor, number)
            self._accepted(state, actor, p.action.change, p.wait)
            for label, new, found in self._part(state, actor, number, interface, "accepted", name):
                yield label, new, (*problems, *found)
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
                flight = (actor, "groups", interface, goals[interface], self.plans[actor].api_seconds + p.wait)
                state[2] = self.flights.number((*self.flights.values[state[2]], flight))
                yield from self._part(state, actor, number, interface, "unknown", (*name, "late"))

    def _change(self, net: int, number: int, interface: str) -> Tuple[str, int]:
        """EC2's refusal of a change of groups, or "" and the network after it."""
        found = self._changes.get((net, number, interface))
        if found is None:
            found = self._changes[net, number, interface] = self._new_change(net, number, interface)
        return found

    def _new_change(self, net: int, number: int, interface: str) -> Tuple[str, int]:
        p, network = self.pendings[number], self.nets.values[net]
        groups, nic, actor = p.action.goals[interface], network.find(interface), self.actors[p.actor]
        if network.by_hand and actor.action == "off":
            network = replace(network, by_hand=False)
        if nic is None:
            return "gone", net
        fixed = "refused" if interface in actor.denied else ec2_refusal(groups, nic.vpc)
        return fixed, net if fixed else self.nets.number(network.with_groups(interface, groups))

    def _left_too_early(self, s: State, actor: int, number: int) -> Tuple[str, ...]:
        """The network may not have seen untrack_secg; nothing but a refusal or the end of time excuses that."""
        p = self.pendings[number]
        k = p.knowledge
        if p.action.change is not Change.ISOLATE or p.done or p.flag or k.refused or k.phase is not Phase.CHANGE:
            return ()
        left = (s[BASE + 2 * actor + 1] >> DWELLS & 255) - round(p.wait * PARTS)
        return ("it isolates before the network can have seen untrack_secg",) if left > 0 and k.opened else ()

    def _part(
        self, state: List[int], actor: int, number: int, interface: str, how: str, label: Label
    ) -> Transitions:
        p = self.pendings[number]
        if how == "refused" and p.action.change is Change.ISOLATE:
            state[BASE + 2 * p.actor + 1] |= NOT_CLOSED << NUMBER[interface]
        done, target = self.part(number, interface, how)
        if target is None:
            yield from self._answered(state, actor, number, done, label)
            return
        self._waited(state, actor, p.wait)
        self._settles(state, actor, p.wait)
        state[BASE + 2 * actor] = target
        yield label, self._made(state), ()

    def _land(self, s: State, f: Tuple[Any, ...]) -> Transitions:
        actor, what, interface, payload, _ = f
        state = list(s)
        flights = list(self.flights.values[s[2]])
        flights.remove(f)
        state[2] = self.flights.number(tuple(flights))
        if what == "groups":
            net = self.nets.number(self.nets.values[s[1]].with_groups(interface, payload))
            self._moved(state, s[0], net, actor)
        elif what == "tags":
            self._moved(state, self.written(s[0], payload), s[1], actor)
        else:
            self._moved(state, self.deleted(s[0], payload), s[1], actor, True)
        yield (actor, "arrives", what, interface), self._made(state), ()

    def _events(self, s: State) -> Transitions:
        network: Network = self.nets.values[s[1]]
        for event in self.scenario.events:
            if event in TAG_EVENTS:
                yield from self._edit_tags(s, event)
                continue
            new = self.event(event, network)
            if new is not None and new != network:
                state = self._spent(s)
                self._moved(state, s[0], self.nets.number(new), -1)
                yield (-1, event), self._made(state), ()

    def _edit_tags(self, s: State, event: str) -> Transitions:
        """An operator does this to the tags."""
        tags = self.tags.number(edited(event, self.tags.values[s[0]]))
        if tags != s[0]:
            state = self._spent(s)
            for i in self.lost(tags, s[1]) - self.lost(s[0], s[1]):
                state[5] |= DAMAGED << NUMBER[i]
            self._moved(state, tags, s[1], -1)
            yield (-1, event), self._made(state), ()
