"""Whole runs with the real client: the faults that matter on the wire, at every call of every mode, off and on.

Every other fault, and every order of calls, is played on the core in memory.
"""

import pytest

from .case import RUNS, WIRE, cases, selected, wrong

pytestmark = pytest.mark.timeout(300)  # seconds, for all cases of a mode


@pytest.mark.parametrize(("mode", "action"), RUNS)
def test_a_run_survives_each_fault_at_every_call(bench, mode, action, record_property):
    found = selected(cases(bench, mode, action, WIRE))
    lines = [line for case in found for line in wrong(bench, case, lambda scene, name: scene.run(name))]
    record_property("fault cases in-process", len(found))
    assert len(found) >= 2 * len(WIRE)
    assert not lines, "\n".join([f"{len(lines)} of {len(found)} cases:", *lines])
