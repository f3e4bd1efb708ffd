"""Every order of one and of two invocations: nobody lies, nothing is lost. See engine.py for what a state is.

What is too large for each check is searched a part a day, the nearest states first; see catalogue.py. More of it with
``SEARCH_STATES=1000000``; everything, on demand: ``python -m search``.
"""

import os
from typing import Any, Callable, Dict, Iterable

import pytest

from . import catalogue
from .defects import DEFECTS, made
from .engine import Search, replay
from .invocations import Tables
from .world import CRASH, DEADLINE, EVENT, KINDS, MODES, STALE, UNREAD, Scenario, actors

pytestmark = pytest.mark.timeout(900)  # on a busy machine
ROTATING = int(os.environ.get("SEARCH_STATES", "25000"))  # a test


def search_all(scenarios: Iterable[Scenario], record_property: Callable[[str, Any], None], most: int = 0) -> None:
    """Search these; only as far as so many states, if ``most`` is given."""
    states, transitions, seconds, whole, violations = 0, 0, 0.0, 0, []
    tables: Dict[Any, Tables] = {}
    for scenario in scenarios:
        same = tables.setdefault(Tables.who(scenario), Tables())
        search = Search(scenario, most - states if most else 1_000_000, same).run()
        states, transitions = states + len(search.states), transitions + search.transitions
        seconds += search.seconds
        whole += not search.truncated
        violations += [search.transcript(v) for v in search.violations.values()]
        assert most or not search.truncated
        if most and states >= most:
            break
    record_property("states of the search", states)
    record_property("transitions of the search", transitions)
    rotating = f"SEARCH_SEED={catalogue.seed()}, " if most else ""
    measured = f"{rotating}{whole} scenarios, {states} states, {transitions} transitions, {seconds:.1f} s of CPU"
    record_property("measured", measured)
    assert not violations, f"{rotating}\n\n" + "\n\n".join(violations)


@pytest.mark.parametrize("mode", MODES)
def test_two_invocations_in_every_order(mode, record_property):
    search_all(catalogue.plain([mode]), record_property)


def test_a_return_by_monitor_beside_another_invocation(record_property):
    """Nothing goes wrong; with more, and half-way starts: python -m search returns."""
    search_all([s for s in catalogue.returns(["keep"]) if not s.budget and not s.half], record_property)


def test_a_return_by_monitor_alone(record_property):
    search_all(catalogue.returns_alone(), record_property)


def test_an_instance_that_loses_its_name(record_property):
    alone = [s for s in catalogue.renamed() if len(s.actors) == 1]
    search_all([*alone, *catalogue.renamed_with_adversity(["keep"])], record_property)


@pytest.mark.parametrize("mode", MODES)
def test_one_invocation_in_every_world_and_one_adversity(mode, record_property):
    search_all(catalogue.alone(1, [mode]), record_property)


@pytest.mark.parametrize("mode", MODES)
def test_one_invocation_with_static_groups(mode, record_property):
    search_all(catalogue.with_static_groups(1, [mode]), record_property)


def test_an_operator_who_edits_the_tags(record_property):
    search_all(catalogue.with_edited_tags(), record_property)


@pytest.mark.parametrize("mode", MODES)
def test_an_off_that_connects_to_the_node(mode, record_property):
    search_all(catalogue.probing([mode]), record_property)


def test_an_off_that_connects_to_the_node_and_one_adversity(record_property):
    scenarios = catalogue.shuffled([*catalogue.probing_with_adversity()])
    search_all(scenarios, record_property, ROTATING // 3)


@pytest.mark.parametrize("pair", ["off,off", "off,on"])
def test_an_off_that_connects_to_the_node_beside_another_invocation(pair, record_property):
    search_all(catalogue.shuffled([*catalogue.probing_pairs([pair])]), record_property, ROTATING // 6)


def test_an_off_that_requires_a_stop(record_property):
    alone = [s for s in catalogue.stopping() if len(s.actors) == 1]
    search_all(alone, record_property)


def test_an_off_that_requires_a_stop_beside_another_invocation(record_property):
    pairs = [s for s in catalogue.stopping() if len(s.actors) > 1]
    search_all(catalogue.shuffled(pairs), record_property, ROTATING // 3)


@pytest.mark.parametrize("kind", [CRASH, DEADLINE, UNREAD])
def test_off_and_on_and_one_adversity(kind, record_property):
    search_all(catalogue.with_adversity(1, [kind], ["keep"], ["off,on"]), record_property)


@pytest.mark.parametrize("pair", catalogue.PAIRS)
def test_two_invocations_and_one_adversity(pair, record_property):
    kinds = [k for k in KINDS if k != EVENT]
    scenarios = catalogue.shuffled([*catalogue.with_adversity(1, kinds, MODES, [pair])])
    search_all(scenarios, record_property, ROTATING)


def test_two_invocations_in_special_circumstances(record_property):
    search_all(catalogue.shuffled(catalogue.special_pairs()), record_property, ROTATING)


def test_one_invocation_and_two_adversities(record_property):
    search_all(catalogue.shuffled([*catalogue.alone(2)]), record_property, ROTATING)


@pytest.mark.parametrize("name", DEFECTS)
def test_the_search_sees_each_guard_that_is_taken_out(name):
    with made(DEFECTS[name]):
        assert Search(DEFECTS[name].scenario).run(first=True).violations


def test_a_transcript_can_be_replayed():
    defect = DEFECTS["on neither claims nor looks back"]
    with made(defect):
        search = Search(defect.scenario).run(first=True)
        violation = next(iter(search.violations.values()))
        steps = search.steps(violation)
        assert violation.text in replay(defect.scenario, steps)
    with pytest.raises(LookupError, match=r"B\(on\): sets E0: not among .*B\(on\): tags"):
        replay(defect.scenario, steps)


def test_a_stale_read_can_be_replayed():
    """By what it shows, as the same in another search has other numbers."""
    search = Search(Scenario("keep", actors("on"), "fenced", 1, frozenset((STALE,)))).run()
    steps = [
        search.step_text(label)
        for s in search.states
        for label, *_ in search.successors(s)
        if label[1] == "reads stale"
    ]
    assert "A(on): reads stale: E0=ISO E1=ISO | last +5 +5:E0=APP+DB +5:E1=APP+OTHER" in steps
