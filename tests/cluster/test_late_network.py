"""EC2's API answers before its network follows: what of a node arrives after its fencer's success.

Each trial is the agent by hand against a node that writes all the time, without corosync and Pacemaker, which would
fence it too. All at once, on a network in which each node has a lag of its own.
"""

import pytest

from .bed import TOP, Bed
from .dataplane import Mode
from .trial import Trial, run_all

LAGS = (0, 1, 3, 4.9)
IN_TIME = [
    *(Trial(lag, mode) for mode in (Mode.IN_ORDER, Mode.NEWEST) for lag in LAGS),
    Trial(LAGS[-1], Mode.OWN_PACE),
    Trial(LAGS[-1], Mode.ONE_LATE),
]
"""With the default settle_time, and untrack_secg."""
TOO_LATE, NEVER_OPEN = (
    Trial(4, mode, settle_time=1, options=("settle_time=1",)) for mode in (Mode.IN_ORDER, Mode.NEWEST)
)


@pytest.fixture(scope="module")
def outcomes(machine):
    """Of all trials."""
    trials = [*IN_TIME, TOO_LATE, NEVER_OPEN]
    with Bed(size=1 + len(trials), settle_time=None, cluster=False) as bed:
        return run_all(bed, trials)


@pytest.mark.parametrize("trial", IN_TIME, ids=str)
def test_not_a_byte_arrives_after_success(outcomes, measured, trial):
    outcome = outcomes[trial]
    assert outcome.code == 0, outcome.stderr
    assert outcome.isolated
    assert outcome.opened, "the network saw the open state, or untracking is of no use"
    assert outcome.late == 0, outcome
    assert outcome.last_byte > trial.settle_time, "it wrote until it was cut"
    assert trial.lag <= outcome.network + 0.1, "the network followed late"
    measured(str(outcome))


def test_a_network_later_than_settle_time_lets_bytes_through_after_success(outcomes, measured):
    outcome = outcomes[TOO_LATE]
    assert outcome.code == 0, outcome.stderr
    assert outcome.late > 0
    measured(f"settle_time={TOO_LATE.settle_time}, {TOO_LATE}: {outcome}")


def test_where_the_network_never_sees_the_open_state_connections_outlive_the_fencing(outcomes, measured):
    """Both changes fell between two looks of the network: nothing was untracked, and nothing ends."""
    outcome = outcomes[NEVER_OPEN]
    assert outcome.code == 0, outcome.stderr
    assert not outcome.opened
    assert outcome.late > 0
    assert outcome.last_byte > outcome.success + NEVER_OPEN.lag, "it goes on when the network has followed"
    measured(f"settle_time={NEVER_OPEN.settle_time}, {NEVER_OPEN}: {outcome}")


def test_the_documents_say_so():
    """The setup page says at settle_time what may happen; the numbers are in a chapter of their own."""
    text = (TOP / "doc/setup.md").read_text(encoding="utf-8")
    about = text.partition("### The settle time\n")[2].partition("\n#")[0]
    assert "dev/testing.md#late-networks" in about
    assert "### Late networks\n" in (TOP / "doc/dev/testing.md").read_text(encoding="utf-8")
