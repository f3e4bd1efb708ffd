"""The scenarios that are searched, by what they are for; all of them on demand, a part of them in each check."""

import datetime
import os
import random
from dataclasses import replace
from typing import Iterator, List, Sequence

from aws_vpc_net.core.model import IsolationSpec

from .tag_edits import TAG_EVENTS
from .truth import WHOLE
from .world import (
    CRASH,
    E0,
    E1,
    EVENT,
    FEW_STATIC,
    ISO,
    ISO2,
    KINDS,
    LOST,
    MISSING,
    MODES,
    OPEN,
    OTHER_STATIC,
    REFUSED,
    STALE,
    STATIC,
    UNREAD,
    Actor,
    Scenario,
    actors,
)

STARTS = ("open", "fenced", "fenced twice")
EVENTS = ("edit", "edit isolated", "edit the other", "detach", "delete", "attach")
HALF = (
    *(("open", ("off", changes)) for changes in (1, 2, 3, 4)),
    *(("fenced", ("on", changes)) for changes in (1, 2, 3)),
    ("fenced", ("off", 1)),
    *(("fenced twice", ("on", changes)) for changes in (1, 2, 3)),
)
PAIRS = ("off,on", "off,off", "on,on")


def plain(modes: Sequence[str] = MODES, pairs: Sequence[str] = PAIRS) -> Iterator[Scenario]:
    """Two invocations, and nothing goes wrong."""
    for mode in modes:
        for pair in pairs:
            for start in STARTS:
                yield Scenario(mode, actors(*pair.split(",")), start)


def returns(modes: Sequence[str] = MODES) -> Iterator[Scenario]:
    """What monitor brings back, half of it perhaps, beside an off, an on or another monitor."""
    for mode in modes:
        for other in ("off", "on", "return"):
            pair = actors(other, "return")
            yield from (Scenario(mode, pair, start) for start in ("fenced", "fenced twice"))
            yield from (Scenario(mode, pair, "fenced", half=("return", changes)) for changes in (1, 2, 3, 4, 5))
        for kind in (CRASH, UNREAD, REFUSED, STALE):
            yield Scenario(mode, actors("off", "return"), "fenced", 1, frozenset((kind,)))


def returns_alone(modes: Sequence[str] = MODES) -> Iterator[Scenario]:
    """One return, half of it made before, perhaps; with each adversity, beside an operator, and where it must not."""
    one = actors("return")
    for mode in modes:
        for half in (None, *(("return", changes) for changes in (1, 2, 3, 4, 5))):
            yield Scenario(mode, one, "fenced", 1, half=half)
            for event in ("start", "edit", "edit isolated", "edit the other", "detach", "attach"):
                yield Scenario(mode, one, "fenced", 1, frozenset((EVENT,)), events=(event,), half=half)
        yield Scenario(mode, one, "fenced twice", 1)
        yield Scenario(mode, one, "open")
        yield Scenario(mode, one, "fenced", half=("return", WHOLE), before=("stop",))
        for event in ("edit", "edit isolated", "attach", "attach isolated", "detach", "start"):
            yield Scenario(mode, one, "fenced", before=(event,))


def renamed(modes: Sequence[str] = MODES) -> Iterator[Scenario]:
    """An instance that is found by its name, which another one has from some moment on."""
    for mode in modes:
        for pair in ("off", "on", "return", "off,on"):
            named = tuple(replace(a, by_name=True) for a in actors(*pair.split(",")))
            for start in ("open", "fenced") if pair == "off" else ("fenced",):
                yield Scenario(mode, named, start, 1, frozenset((EVENT,)), events=("rename",))


def renamed_with_adversity(modes: Sequence[str] = MODES) -> Iterator[Scenario]:
    """The same for one invocation, and each kind of adversity."""
    for scenario in renamed(modes):
        for kind in KINDS if len(scenario.actors) == 1 else ():
            if kind != EVENT:
                yield replace(scenario, budget=2, kinds=frozenset((EVENT, kind)))


def with_static_groups(budget: int, modes: Sequence[str] = MODES) -> Iterator[Scenario]:
    """One invocation with interfaceN-sg, which an off may rely on that may not write tags; and an operator."""
    for mode in modes:
        for static in (STATIC, FEW_STATIC, OTHER_STATIC):
            on, off = (replace(a, static=static) for a in actors("on", "off"))
            for one in (on, off, replace(off, denied=frozenset(("tags",)))):
                for start in ("open", "fenced"):
                    yield Scenario(mode, (one,), start, budget)
                    kinds = frozenset(KINDS if budget > 1 else (EVENT,))
                    for event in ("attach", "detach", "delete", "edit"):
                        yield Scenario(mode, (one,), start, budget, kinds, events=(event,))


def with_edited_tags(modes: Sequence[str] = MODES) -> Iterator[Scenario]:
    """One invocation, while an operator edits the tags of a fence."""
    for mode in modes:
        for event in TAG_EVENTS:
            for action in ("off", "on", "return"):
                for start in ("fenced", "fenced twice") if action == "return" else STARTS:
                    yield Scenario(mode, actors(action), start, 1, frozenset((EVENT,)), events=(event,))


def crowded(modes: Sequence[str] = MODES) -> Iterator[Scenario]:
    """Two invocations on an instance with little room for tags, so that keys are used again; and an adversity.

    Not with an event where both use the same keys again: see the known limitations of safety.md.
    """
    for mode in modes:
        for pair in ("off,off", "off,on"):
            for start in STARTS:
                for others in (40, 43, 45):  # keys are used again; the first backup has little room; the second none
                    one = Scenario(mode, actors(*pair.split(","), skew=3), start, others=others)
                    yield one
                    yield from (replace(one, budget=1, kinds=frozenset((kind,))) for kind in (CRASH, REFUSED, LOST))
                    for event in ("attach", "detach") if others == 40 and start != "fenced twice" else ():
                        yield replace(one, budget=1, kinds=frozenset((EVENT,)), events=(event,))


def with_adversity(
    budget: int = 1, kinds: Sequence[str] = KINDS, modes: Sequence[str] = MODES, pairs: Sequence[str] = PAIRS
) -> Iterator[Scenario]:
    """Two invocations, each kind of adversity alone."""
    for scenario in plain(modes, pairs):
        for kind in kinds:
            if kind != EVENT:
                yield replace(scenario, budget=budget, kinds=frozenset((kind,)))


def _special(mode: str, who: Sequence[Actor]) -> Iterator[Scenario]:
    """Other worlds, starts half-way, who may not change everything, network that settles, an operator."""
    some = tuple(who)
    keep = mode.startswith("keep")
    untrack = OPEN if "untrack" in mode else None
    two_vpcs = IsolationSpec((ISO, ISO2), True, untrack) if keep else None
    for start in ("open", "fenced"):
        yield Scenario(mode, some, start, world="never had it")
        yield Scenario(mode, some, start, world="by nature")
        yield Scenario(mode, some, start, world="two VPCs", spec=two_vpcs)
        yield Scenario(mode, tuple(replace(a, settle=3.0) for a in some), start)
        if keep:
            yield Scenario(mode, some, start, spec=IsolationSpec((ISO, MISSING), True, untrack))
        for n, actor in enumerate(some):
            for interface in (E0, E1):
                denied = replace(actor, denied=frozenset((interface,)))
                yield Scenario(mode, (*some[:n], denied, *some[n + 1 :]), start)
        for skew in (-3, 3) if len(some) > 1 else ():
            yield Scenario(mode, (some[0], replace(some[1], skew=skew)), start)
        for event in EVENTS:
            yield Scenario(mode, some, start, 1, frozenset((EVENT,)), events=(event,))
    for start, half in HALF:
        if half[1] < 3 or untrack or start == "fenced twice":  # else it has ended by then
            yield Scenario(mode, some, start, half=half)


def special_pairs() -> List[Scenario]:
    """Two invocations in special circumstances."""
    return [s for mode in MODES for pair in PAIRS for s in _special(mode, actors(*pair.split(",")))]


def alone(budget: int, modes: Sequence[str] = MODES) -> Iterator[Scenario]:
    """One invocation in all circumstances, with adversities of all kinds."""
    for mode in modes:
        for action in ("off", "on"):
            for start in STARTS:
                yield Scenario(mode, actors(action), start, budget)
            for scenario in _special(mode, actors(action)):
                yield replace(scenario, budget=budget, kinds=frozenset(KINDS))
            for start in ("open", "fenced"):
                events = ("detach", "return")
                yield Scenario(mode, actors(action), start, max(2, budget), events=events)


def probing(modes: Sequence[str] = MODES, settle: float = 1.5) -> Iterator[Scenario]:
    """An off that connects to the node, which may answer as it likes."""
    off = replace(actors("off")[0], settle=settle, probe=True)
    for mode in modes:
        yield from (Scenario(mode, (off,), start) for start in ("open", "fenced"))


def probing_with_adversity(modes: Sequence[str] = MODES, settle: float = 1.5) -> Iterator[Scenario]:
    """The same, and each kind of adversity alone."""
    off = replace(actors("off")[0], settle=settle, probe=True)
    for mode in modes:
        for kind in KINDS:
            if kind not in (CRASH, EVENT):
                yield Scenario(mode, (off,), "open", 1, frozenset((kind,)))
        for event in ("edit", "attach", "detach"):
            yield Scenario(mode, (off,), "open", 1, frozenset((EVENT,)), events=(event,))


def probing_pairs(
    pairs: Sequence[str] = ("off,off", "off,on"), modes: Sequence[str] = MODES, settle: float = 1.5
) -> Iterator[Scenario]:
    """The same, and another invocation at the same time; nothing else goes wrong."""
    for mode in modes:
        for pair in pairs:
            first, *others = actors(*pair.split(","))
            for start in ("open", "fenced"):
                yield Scenario(mode, (replace(first, settle=settle, probe=True), *others), start)


def stopping(modes: Sequence[str] = MODES, settle: float = 1.5) -> Iterator[Scenario]:
    """An off that requires that the instance stops: alone with each kind of adversity, and beside another."""
    off = replace(actors("off")[0], settle=settle, require_poweroff=True)
    for mode in modes:
        for start in ("open", "fenced"):
            yield Scenario(mode, (off,), start, 1)
            for pair in ("off,off", "off,on"):
                yield Scenario(mode, (off, actors(*pair.split(","))[1]), start)


ROTATION = 739946  # raise it with a release, after a search of the new part


def seed() -> int:
    """Which rotating part is searched: this one until the number is raised; SEARCH_SEED=today, or another number.

    A part that was never searched may find something: that is for whoever looks for it, not for who changes a comma.
    """
    chosen = os.environ.get("SEARCH_SEED") or str(ROTATION)
    return datetime.date.today().toordinal() if chosen == "today" else int(chosen)


def shuffled(scenarios: Sequence[Scenario]) -> List[Scenario]:
    """Another order on each day."""
    return random.Random(seed()).sample(list(scenarios), len(scenarios))
