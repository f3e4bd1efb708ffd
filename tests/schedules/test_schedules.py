"""All orders in which invocations can take turns at EC2: nobody lies, nothing is lost.

Every violation is printed with its mode, actors and schedule; ``explorer.replay`` plays it again.
"""

import copy
import logging
from typing import Callable, Iterator, List, Optional, Sequence, Tuple

import pytest
from schedules.explorer import POLICIES, Actor, Run, every_order, play, random_orders
from schedules.memory import E1, ORIGINALS, Memory

from aws_vpc_net import rules

MODES = list(POLICIES)
Schedules = Iterator[Tuple[str, Run]]


@pytest.fixture(autouse=True)
def _quiet():
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def alone(run: Run, action: str, memory: Optional[Memory] = None) -> Run:
    """A plain invocation by somebody else, afterwards."""
    return play(run.mode, [Actor("Z", action)], lambda _n, living: living[0], memory or run.memory)


def fenced(mode: str) -> Memory:
    """The world after a plain off."""
    run = play(mode, [Actor("Z", "off")], lambda _n, living: living[0])
    assert run.outcomes["Z"].error is None
    return Memory(dict(run.memory.groups), dict(run.memory.tags))


def succeeded(run: Run, name: str) -> bool:
    return name in run.outcomes and run.outcomes[name].error is None


def mended(run: Run) -> List[str]:
    """Invariant 3: a plain on brings everything back, directly and after a plain off that isolates."""
    found = []
    for actions in (["on"], ["off", "on"]):
        memory = copy.deepcopy(run.memory)
        for action in actions:
            after = alone(run, action, memory)
            if not succeeded(after, "Z"):
                found.append(f"a plain {action} fails: {after.outcomes['Z'].error}")
            if action == "off" and not all(rules.cut(g, run.policy) for g in memory.groups.values()):
                found.append("a plain off does not isolate")
        if memory.groups != dict(ORIGINALS):
            found.append(f"{actions}: the originals are lost: {memory.groups}")
        if memory.tags:
            found.append(f"{actions}: tags are left: {list(memory.tags)}")
    return found


def violations(run: Run) -> List[str]:
    """What this run broke."""
    found = list(run.problems)
    offs = [a.name for a in run.actors if a.action == "off"]
    ons = [a.name for a in run.actors if a.action == "on"]
    won = [n for n in offs if succeeded(run, n)]
    dead = any(a.dies_at for a in run.actors)
    for name in won:
        last_read = max(n for n, s in enumerate(run.steps) if s == (name, "describe_instances"))
        changes = [n for n, s in enumerate(run.steps) if s == (name, "modify_network_interface_attribute")]
        if not changes or last_read < max(changes):
            found.append(f"{name} succeeded without a read after its last change")
    older = [o for o in ons if any(run.first(o, "describe_instances") < run.first(n, "create_tags") for n in won)]
    # One that dies between the two steps of untracking leaves the node open, and may have begun before the other.
    crossing = dead and (ons or run.policy.untrack is not None)
    if won and (not ons or older == ons) and not crossing and not run.is_cut():
        found.append("off succeeded and the node is open")
    if not dead and run.in_window:
        found.append("the originals were lost for longer than one request")
    if not run.in_window:
        found += mended(run)
    return found


def check(schedules: Schedules, also: Callable[[Run], List[str]] = lambda run: []) -> Tuple[int, int]:
    """(schedules, windows); fails on the first few violations."""
    count = windows = 0
    bad: List[str] = []
    for schedule, run in schedules:
        count += 1
        windows += run.windows
        wrong = violations(run) + also(run)
        if wrong:
            bad.append(f"mode {run.mode}, actors {run.actors}, schedule {schedule!r}: {wrong}")
            if len(bad) >= 3:
                break
    assert not bad, "\n".join(bad)
    print(f"{count} schedules, {windows} windows")
    return count, windows


def all_succeed(*names: str) -> Callable[[Run], List[str]]:
    return lambda run: [f"{n} failed: {run.outcomes[n].error}" for n in names if not succeeded(run, n)]


TWO = (Actor("A", "off"), Actor("B", "off"))


@pytest.mark.parametrize("mode", MODES)
def test_two_fencers(mode):
    check(every_order(mode, TWO, switches=4), all_succeed("A", "B"))


@pytest.mark.parametrize("mode", MODES)
def test_two_fencers_of_a_fenced_node(mode):
    check(every_order(mode, TWO, switches=4, memory=fenced(mode)), all_succeed("A", "B"))


@pytest.mark.parametrize("mode", MODES)
def test_two_that_unfence(mode):
    actors = (Actor("A", "on"), Actor("B", "on"))

    def restored(run: Run) -> List[str]:
        return [] if run.memory.groups == dict(ORIGINALS) and not run.memory.tags else ["not restored"]

    check(every_order(mode, actors, memory=fenced(mode)), lambda run: all_succeed("A", "B")(run) + restored(run))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("state", ["fenced", "open"])
def test_a_fencer_beside_one_that_unfences(mode, state):
    actors = (Actor("A", "off"), Actor("B", "on"))
    memory = fenced(mode) if state == "fenced" else None
    check(every_order(mode, actors, switches=4, memory=memory), all_succeed("A"))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("skew", [-100, 0, 3])
def test_one_of_two_fencers_is_refused_an_interface(mode, skew):
    """What one puts back must not undo the other's success; their clocks may differ."""
    actors = (Actor("A", "off"), Actor("B", "off", denied=(E1,), skew=skew))
    check(every_order(mode, actors, switches=4), all_succeed("A"))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("effect", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("others", [("off",), ("on",)], ids=["off", "on"])
@pytest.mark.parametrize("action", ["off", "on"])
def test_one_of_two_is_killed_at_any_call(mode, effect, others, action):
    memory = fenced(mode) if "on" in (action, *others) else None
    for call in range(1, 12):
        actors = (Actor("A", action, dies_at=call, effect=effect), Actor("B", others[0]))
        check(every_order(mode, actors, switches=2, memory=memory))


@pytest.mark.parametrize("mode", ["keep", "remove"])
@pytest.mark.parametrize("actions", [("off", "off", "off"), ("off", "off", "on")])
def test_three_at_once(mode, actions):
    actors = tuple(Actor(n, a) for n, a in zip("ABC", actions))
    memory = fenced(mode) if "on" in actions else None
    check(every_order(mode, actors, switches=2, memory=memory))
    check(random_orders(mode, actors, 300, seed=2026, memory=memory))


@pytest.mark.parametrize("mode", ["keep", "remove"])
@pytest.mark.parametrize("call", range(1, 9))
def test_two_fencers_and_one_killed_at_random(mode, call):
    actors: Sequence[Actor] = (Actor("A", "off"), Actor("B", "off"), Actor("C", "off", dies_at=call))
    check(random_orders(mode, actors, 100, seed=call))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("back", [(1, 0), (0, 1), (1, 1), (9, 0), (0, 9), (9, 9)])
@pytest.mark.parametrize("call", range(1, 8))
def test_two_fencers_and_one_read_is_stale(mode, back, call):
    actors = (Actor("A", "off", stale={call: back}), Actor("B", "off"))
    check(every_order(mode, actors, switches=2), all_succeed("A", "B"))
    check(every_order(mode, actors, switches=1, memory=fenced(mode)), all_succeed("A", "B"))
