"""Every order of one and of two invocations: nobody lies, nothing is lost. See engine.py for what a state is."""

import pytest

from .engine import Search
from .world import KINDS, MODES, STALE, Scenario, actors


def check(scenario, record_property):
    search = Search(scenario).run()
    record_property("states", len(search.states))
    record_property("transitions", search.transitions)
    assert not search.truncated
    assert not search.violations, "\n\n".join(search.transcript(v) for v in search.violations.values())


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("start", ["open", "fenced", "fenced twice"])
@pytest.mark.parametrize("actions", ["off,off", "off,on", "on,on"])
def test_two_invocations_in_every_order(mode, start, actions, record_property):
    check(Scenario(mode, actors(*actions.split(",")), start), record_property)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("start", ["open", "fenced", "fenced twice"])
@pytest.mark.parametrize("action", ["off", "on"])
def test_one_invocation_and_one_adversity(mode, start, action, record_property):
    check(Scenario(mode, actors(action), start, 1), record_property)


@pytest.mark.parametrize("kind", [k for k in KINDS if k != STALE])
@pytest.mark.parametrize("actions", ["off,off", "off,on", "on,on"])
def test_two_invocations_and_one_adversity(kind, actions, record_property):
    check(Scenario("keep", actors(*actions.split(",")), "fenced", 1, frozenset((kind,))), record_property)
