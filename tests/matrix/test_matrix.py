"""Every fault at every API call of every mode, off and on, in this process.

One case alone: FENCE_MATRIX_CASE=keep/off/CreateTags#1/lost ./tests/check tests/matrix
"""

import os

import pytest

from .case import ACTIONS, Trial, cases, in_process, named
from .world import MODES

ONE = os.environ.get("FENCE_MATRIX_CASE")
pytestmark = pytest.mark.timeout(600)  # seconds, for all cases of a mode


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("mode", MODES)
def test_every_fault_at_every_call(bench, matrix_seed, mode, action, record_property):
    if ONE and not ONE.startswith(f"{mode}/{action}/"):
        pytest.skip("another case is asked for")
    found = [named(bench, ONE)] if ONE else cases(bench, mode, action)
    wrong = [line for case in found for line in Trial(bench, case).run(in_process)]
    record_property("fault cases in-process", len(found))
    print(f"{mode}/{action}: {len(found)} cases, {len(wrong)} wrong, seed {matrix_seed}")
    assert found
    assert not wrong, "\n".join([f"{len(wrong)} of {len(found)} cases:", *wrong])


def test_there_are_enough_of_them(bench):
    assert sum(len(cases(bench, mode, action)) for mode in MODES for action in ACTIONS) >= 3000
