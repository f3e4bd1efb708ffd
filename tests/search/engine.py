"""Every state that some invocations and EC2 can come to, each visited once, the nearest first.

A state is a tuple of small numbers: EC2's tags and groups, what is in flight, what stale reads can show, how much may
still go wrong, and for each invocation its pending effect (with all that it knows) and a few bits that only the
checks look at. ``decide`` and ``observe`` run once for each that is new; all else is a look into a table.

invocations.py: one invocation; truth.py: EC2 and the checks; following.py: the next states; world.py: the values.
"""

import contextlib
import dataclasses
import functools
import gc
import time
from array import array
from dataclasses import dataclass
from typing import Any, Dict, FrozenSet, Iterable, Iterator, List, Optional, Set, Tuple

from aws_vpc_net.core import backup as tags_of
from aws_vpc_net.core import isolating, observe, off, on, probing, protocol, reisolating
from aws_vpc_net.core.protocol import SetGroups, WriteTags

from . import following, invocations
from .following import Following
from .invocations import DEAD, FAILED, LEFT_ALONE, NOW, SUCCEEDED, Tables
from .truth import BASE, Label, State
from .world import SHORT, Scenario

REPLACING = (isolating, observe, off, on, probing, protocol, reisolating, following, invocations)
FATES = {DEAD: "killed", SUCCEEDED: "exit 0", FAILED: "exit 1", LEFT_ALONE: "leaves it alone"}


def _replace(value: Any, **changes: Any) -> Any:
    """dataclasses.replace in a third of the time, as it calls no __init__."""
    if hasattr(value, "__post_init__"):
        return dataclasses.replace(value, **changes)
    new = object.__new__(type(value))
    vars(new).update(vars(value), **changes)
    return new


@contextlib.contextmanager
def quick() -> Iterator[None]:
    """In half the time: most reads show what another has shown, and what a search makes stays to its end."""
    read, decode, collects = tags_of.read, tags_of.decode, gc.isenabled()
    tags_of.read = functools.lru_cache(1 << 16)(read)  # anew for each search, as the core may have a defect
    tags_of.decode = functools.lru_cache(1 << 16)(decode)
    replacing = [m for m in REPLACING if vars(m).get("replace") is dataclasses.replace]
    for module in replacing:
        vars(module)["replace"] = _replace
    gc.disable()
    try:
        yield
    finally:
        tags_of.read, tags_of.decode = read, decode
        for module in replacing:
            vars(module)["replace"] = dataclasses.replace
        if collects:
            gc.enable()


@dataclass
class Violation:
    """What is wrong, and the way there."""

    text: str
    state: int
    label: Optional[Label]
    misc: int = 0


class Search(Following):
    """One scenario: its states, and what was found."""

    def __init__(self, scenario: Scenario, limit: int = 3_000_000, tables: Optional[Tables] = None) -> None:
        super().__init__(scenario, tables)
        self.limit = limit
        self.violations: Dict[str, Violation] = {}
        self.states: List[State] = []
        self.parents = array("i")
        self.transitions = 0
        self.seconds = 0.0
        self.truncated = False
        self.terminal: Dict[Tuple[int, ...], int] = {}

    def run(self, *, first: bool = False) -> "Search":
        """Visit every state; or, if one violation is enough, only until there is ``first`` one."""
        with quick():
            return self._run(first)

    def _run(self, first: bool) -> "Search":
        began = time.process_time()
        start = self.start()
        visited = {start}
        states, parents = self.states, self.parents
        states.append(start)
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
        targets = self._back()
        good: Set[Tuple[int, ...]] = set()
        for index, s in enumerate(self.states):
            for actor, number in enumerate(s[BASE::2]):
                if number in targets and not s[2] and self._alone_for_ever(actor, number, s[:2], good):
                    yield number, index
                    return

    def _back(self) -> FrozenSet[int]:
        """Pending effects to which an invocation may come back; of each circle at least one."""
        color: Dict[int, int] = {}
        found = set()
        for root in {number for s in self.states for number in s[BASE::2] if number >= 0}:
            if root in color:
                continue
            color[root] = 1
            stack = [(root, self._next(root))]
            while stack:
                node, targets = stack[-1]
                for t in targets:
                    if color.get(t) == 1:
                        found.add(t)
                    elif t not in color:
                        color[t] = 1
                        stack.append((t, self._next(t)))
                        break
                else:
                    color[node] = 2
                    stack.pop()
        return frozenset(found)

    def _next(self, number: int) -> Iterator[int]:
        """The pending effects that may follow on one."""
        return (target for target, _, _ in self.memo[number].values() if target >= 0)

    def _alone_for_ever(self, actor: int, number: int, world: State, good: Set[Tuple[int, ...]]) -> bool:
        state = [*world, 0, 0, 0, 0] + [DEAD, 0] * len(self.scenario.actors)
        state[BASE + 2 * actor] = number
        s = tuple(state)
        path: Set[Tuple[int, ...]] = set()
        while s[BASE + 2 * actor] >= 0:
            here = (s[BASE + 2 * actor], *s[:2])
            if here in good or self.nets.values[s[1]].state == "stopping":  # which ends by itself
                break
            if here in path:
                return True
            path.add(here)
            kind = getattr(self, "_" + self.kinds[here[0]].replace(" ", "_"))
            s = next(iter(kind(s, actor, here[0], 0)))[1]
        good |= path
        return False

    # --- telling ----------------------------------------------------------------------------------------------

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
        return [self.step_text(label) for _, label, _ in self._way(violation)]

    def step_text(self, label: Label) -> str:
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
        line = f"  {self.name(actor):7} {what} -> {self.step_text(label).partition(': ')[2]}"
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
        truncated = " TRUNCATED" if self.truncated else ""
        return (
            f"{self.scenario}: {len(self.states)} states, {self.transitions} transitions,"
            f" {len(self.pendings)} pending, {self.decisions} decisions, {self.seconds:.1f} s,"
            f" {len(self.violations)} violations{truncated}"
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
        possible = {search.step_text(label): (label, new, problems) for label, new, problems in search.successors(s)}
        if step not in possible:
            raise LookupError(f"{step}: not among {', '.join(possible)}")
        label, s, problems = possible[step]
        found += [f"{search.name(label[0])}: {text}" for text in problems]
    if search.has_ended(s):
        found += search.at_end(s)
    return found


def _groups(groups: FrozenSet[str]) -> str:
    return "+".join(sorted(SHORT.get(g, g) for g in groups)) or "none"
