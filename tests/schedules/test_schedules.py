"""All orders in which invocations can take turns at EC2: nobody lies, nothing is lost.

Every violation is printed with its mode, actors and schedule; ``explorer.replay`` plays it again.
"""

import copy
import logging
from typing import Callable, Dict, Hashable, Iterator, List, Optional, Sequence, Tuple

import pytest
from schedules.explorer import POLICIES, Actor, Run, every_order, play, random_orders
from schedules.memory import E1, EDIT, EDIT_CUT, ORIGINALS, Memory

from aws_vpc_net import rules

MODES = list(POLICIES)
MODIFY = "modify_network_interface_attribute"
BEHIND = [(1, 0), (0, 1), (1, 1), (9, 0), (0, 9), (9, 9)]  # changes of (tags, groups)
Schedules = Iterator[Tuple[str, Run]]
followed: Dict[Hashable, List[str]] = {}
played = {"schedules": 0, "windows": 0}  # by this test


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
    """Invariant 3: a plain on brings everything back, directly and after a plain off that isolates.

    Many schedules end in the same state; what follows from it is played once.
    """
    allowed = frozenset((i, frozenset(g)) for i, g in run.originals.items())
    state = (run.mode, allowed, frozenset(run.memory.groups.items()), frozenset(run.memory.tags.items()))
    if state not in followed:
        followed[state] = _mended(run)
    return followed[state]


def _mended(run: Run) -> List[str]:
    found = []
    for actions in (["on"], ["off", "on"]):
        memory = copy.deepcopy(run.memory)
        for action in actions:
            after = alone(run, action, memory)
            if not succeeded(after, "Z"):
                found.append(f"a plain {action} fails: {after.outcomes['Z'].error}")
            if action == "off" and not all(rules.cut(g, run.policy) for g in memory.groups.values()):
                found.append("a plain off does not isolate")
        if any(g not in run.originals[i] for i, g in memory.groups.items()):
            found.append(f"{actions}: the originals are lost: {memory.groups}")
        if memory.tags:
            found.append(f"{actions}: tags are left: {list(memory.tags)}")
    return found


def proved(run: Run, name: str) -> List[str]:
    """Invariant 1: the last read of an off that succeeded came after its last change."""
    changes = [n for n, s in enumerate(run.steps) if s == (name, MODIFY)]
    late = changes and run.reads[name][-1].step > max(changes)
    return [] if late else [f"{name} succeeded without a read after its last change"]


def deceived(run: Run, name: str, recorded: int) -> bool:
    """Was each read of this on, after it set the groups, too old to show the record of that step?"""
    changes = [n for n, s in enumerate(run.steps) if s == (name, MODIFY)]
    reads = [r for r in run.reads[name] if changes and r.step > max(changes)]
    return bool(reads) and all(r.tags <= recorded for r in reads)


def violations(run: Run) -> List[str]:
    """What this run broke, but for the windows that doc/safety.md names."""
    found = list(run.problems)
    offs = [a.name for a in run.actors if a.action == "off"]
    ons = [a.name for a in run.actors if a.action == "on"]
    won = [n for n in offs if succeeded(run, n)]
    dead = any(a.dies_at for a in run.actors)
    for name in won:
        found += proved(run, name)
    records = [run.first(n, "create_tags") for n in won]
    older = [o for o in ons if any(run.first(o, "describe_instances") < r for r in records)]
    # One that dies between the two steps of untracking leaves the node open, and may have begun before the other.
    crossing = dead and (ons or run.policy.untrack is not None)
    crossing = crossing or any(deceived(run, o, min(records)) for o in ons if records)
    by_hand = any(run.first(a.name, MODIFY) > run.reads[n][-1].step
                  for a in run.actors if a.action == "edit" for n in won)  # fmt: skip
    if won and (not ons or older == ons) and not (crossing or by_hand) and not run.is_cut():
        found.append("off succeeded and the node is open")
    if not dead and run.in_window and not any(run.reads[n][-1].stale for n in offs):
        found.append("the originals were lost for longer than one request")
    if not run.in_window:
        found += mended(run)
    return found


@pytest.fixture(autouse=True)
def _counted(record_property):
    played.update(schedules=0, windows=0)
    yield
    for what, count in played.items():
        record_property(what, count)


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
    played["schedules"] += count
    played["windows"] += windows
    return count, windows


def all_succeed(*names: str) -> Callable[[Run], List[str]]:
    return lambda run: [f"{n} failed: {run.outcomes[n].error}" for n in names if not succeeded(run, n)]


TWO = (Actor("A", "off"), Actor("B", "off"))


@pytest.mark.parametrize("mode", MODES)
def test_two_fencers(mode):
    check(every_order(mode, TWO, switches=3), all_succeed("A", "B"))


@pytest.mark.parametrize("mode", MODES)
def test_two_fencers_of_a_fenced_node(mode):
    check(every_order(mode, TWO, switches=3, memory=fenced(mode)), all_succeed("A", "B"))


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
    check(every_order(mode, actors, switches=3, memory=memory), all_succeed("A"))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("skew", [-100, 0, 3])
def test_one_of_two_fencers_is_refused_an_interface(mode, skew):
    """What one puts back must not undo the other's success; their clocks may differ."""
    actors = (Actor("A", "off"), Actor("B", "off", denied=(E1,), skew=skew))
    check(every_order(mode, actors, switches=3), all_succeed("A"))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("state", ["fenced", "open"])
def test_a_fencer_that_is_refused_an_interface_beside_one_that_unfences(mode, state):
    """What stays cut must not be without a record, and what is put back must not be cut again without one."""
    memory = fenced(mode) if state == "fenced" else None
    for actors in (
        (Actor("A", "off", denied=(E1,)), Actor("B", "on")),
        (Actor("A", "off"), Actor("B", "on", denied=(E1,))),
    ):
        check(every_order(mode, actors, switches=2, memory=memory))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("how", ["throttled", "lost"])
@pytest.mark.parametrize("call", range(1, 7))
def test_one_of_two_fencers_is_refused_an_interface_and_a_change_fails(mode, how, call):
    """Whatever became of a put back: the other one's success stands."""
    for limited, other in (({call: how}, {}), ({}, {call: how})):
        actors = (Actor("A", "off", denied=(E1,), fails=limited), Actor("B", "off", fails=other))
        check(every_order(mode, actors, switches=2), all_succeed("B"))


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
@pytest.mark.parametrize("actions", [("off", "off", "off"), ("off", "off", "on"), ("off", "on", "on")])
def test_three_at_once(mode, actions):
    actors = tuple(Actor(n, a) for n, a in zip("ABC", actions))
    memory = fenced(mode) if "on" in actions else None
    check(every_order(mode, actors, switches=3 if mode == "keep" else 2, memory=memory))
    check(random_orders(mode, actors, 300, seed=2026, memory=memory))


@pytest.mark.parametrize("mode", ["keep", "remove"])
@pytest.mark.parametrize("actions", [("off", "off", "off"), ("off", "off", "on"), ("off", "on", "on")])
@pytest.mark.parametrize("call", range(1, 9))
def test_three_and_one_killed_at_random(mode, actions, call):
    memory = fenced(mode) if "on" in actions else None
    for dies in range(3):
        actors = [Actor(n, a, dies_at=call if i == dies else None) for i, (n, a) in enumerate(zip("ABC", actions))]
        check(random_orders(mode, actors, 25, seed=call, memory=memory))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("back", BEHIND)
@pytest.mark.parametrize("call", range(1, 8))
def test_two_fencers_and_one_read_is_stale(mode, back, call):
    actors = (Actor("A", "off", stale={call: back}), Actor("B", "off"))
    check(every_order(mode, actors, switches=2), all_succeed("A", "B"))
    check(every_order(mode, actors, switches=1, memory=fenced(mode)), all_succeed("A", "B"))


@pytest.mark.parametrize("mode", ["keep", "remove"])
@pytest.mark.parametrize("stale", ["off", "on"])
@pytest.mark.parametrize("state", ["fenced", "open"])
def test_a_fencer_beside_one_that_unfences_and_one_read_is_stale(mode, stale, state):
    memory = fenced(mode) if state == "fenced" else None
    for call in range(1, 8):
        for back in BEHIND:
            behind = {call: back}
            actors = [Actor(n, a, stale=behind if a == stale else {}) for n, a in (("A", "off"), ("B", "on"))]
            check(every_order(mode, actors, switches=1, memory=memory))


@pytest.mark.parametrize("mode", ["keep", "remove"])
def test_two_that_unfence_and_one_read_is_stale(mode):
    for call in range(1, 6):
        for back in BEHIND:
            actors = (Actor("A", "on", stale={call: back}), Actor("B", "on"))
            check(every_order(mode, actors, switches=1, memory=fenced(mode)))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("action", ["off", "on"])
def test_readers_that_number_the_interfaces_differently(mode, action):
    actors = (Actor("A", "off"), Actor("B", action, swapped=True))
    check(every_order(mode, actors, switches=2), all_succeed("A"))
    check(every_order(mode, actors, switches=2, memory=fenced(mode)), all_succeed("A"))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("skew", [-100_000, -1, 100_000])
def test_a_clock_that_was_set_since_the_last_fence(mode, skew):
    """Back or forth: the record of this fence is later than the one before, and on finds it."""
    for action in ("off", "on"):
        actors = (Actor("A", "off", skew=skew), Actor("B", action, skew=skew))
        check(every_order(mode, actors, switches=1, memory=fenced(mode)), all_succeed("A"))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("edit", [EDIT, EDIT_CUT], ids=["open", "cut"])
@pytest.mark.parametrize("action", ["off", "on"])
@pytest.mark.parametrize("state", ["fenced", "open"])
def test_an_operator_edits_groups_at_any_moment(mode, edit, action, state):
    """Before the record is proven, and while it is fenced, too. The edit or the original comes back."""
    actors = (Actor("A", action), Actor("O", "edit", edit=edit))
    check(every_order(mode, actors, memory=fenced(mode) if state == "fenced" else None))


def test_nothing_is_set_again_behind_a_read_that_lacks_the_record():
    """B deletes the record that crosses A's changes; A writes it again; C restores by that, and deletes it."""
    actors = [Actor("A", "off"), Actor("B", "on"), Actor("C", "on")]
    schedule = "AAA" + "BBBBBB" + "AAAA" + "CCCCC" + "AAAAAA"
    run = play("keep", actors, lambda n, living: schedule[n] if n < len(schedule) else living[0], fenced("keep"))
    assert run.steps[18:22] == [("A", f"{c}") for c in ("describe_instances",) * 2 + ("create_tags", MODIFY)]
    assert violations(run) == []


# --- the windows that EC2 leaves open: each is played here, and stands in doc/safety.md ---------------------------


def window(actors: Sequence[Actor], schedule: str, memory: Optional[Memory] = None) -> Run:
    return play("keep", actors, lambda n, living: schedule[n] if n < len(schedule) else living[0], memory)


def test_window_a_change_in_flight_arrives_after_a_success_and_its_sender_is_killed():
    """ "on" has decided before "off" began; its change arrives behind the last read of "off"."""
    run = window([Actor("A", "off"), Actor("B", "on", dies_at=2)], "BAAAAAAB", fenced("keep"))
    assert succeeded(run, "A")
    assert not run.is_cut()
    assert mended(run) == []


def test_window_an_on_whose_last_read_is_stale_does_not_see_the_off_that_came_in_between():
    run = window([Actor("A", "off"), Actor("B", "on", stale={4: (1, 0)})], "BAAAAAABBBB", fenced("keep"))
    assert succeeded(run, "A")
    assert succeeded(run, "B")
    assert not run.is_cut()
    assert mended(run) == []


def test_window_a_deletion_crosses_changes_and_the_last_read_of_the_off_is_stale():
    """Both were decided by reads before either; a read that is not stale lets "off" write its record again."""
    for stale, lost in (({6: (1, 0)}, True), ({}, False)):
        run = window([Actor("A", "off", stale=stale), Actor("B", "on")], "AAABBBBBBAAA", fenced("keep"))
        assert run.windows == 1
        assert succeeded(run, "A")
        assert run.is_cut()
        assert run.in_window == lost


def test_window_a_deletion_crosses_changes_and_the_off_is_killed():
    run = window([Actor("A", "off", dies_at=5), Actor("B", "on")], "AAABBBBBBAA", fenced("keep"))
    assert run.is_cut()
    assert run.in_window
