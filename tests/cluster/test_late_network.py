"""EC2's API answers before its network applies a change: which bytes of a node arrive after success.

Each trial runs the agent against a node that writes continuously, without corosync and Pacemaker, which would fence
it too. All run at once, and each node has its own lag.
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
    """The outcomes of all trials."""
    trials = [*IN_TIME, TOO_LATE, NEVER_OPEN]
    with Bed(size=1 + len(trials), settle_time=None, cluster=False) as bed:
        return run_all(bed, trials)


@pytest.mark.parametrize("trial", IN_TIME, ids=str)
def test_no_byte_arrives_after_success(outcomes, measured, trial):
    outcome = outcomes[trial]
    assert outcome.code == 0, outcome.stderr
    assert outcome.isolated
    assert outcome.open_applied, "the network applied the open state: otherwise nothing is untracked"
    assert outcome.bytes_after == 0, outcome
    assert outcome.last_byte > trial.settle_time, "it wrote until it was isolated"
    assert trial.lag <= outcome.network_delay + 0.1, "the network was as late as set"
    measured(str(outcome))


def test_bytes_arrive_after_success_if_the_network_is_later_than_settle_time(outcomes, measured):
    outcome = outcomes[TOO_LATE]
    assert outcome.code == 0, outcome.stderr
    assert outcome.bytes_after > 0
    measured(f"settle_time={TOO_LATE.settle_time}, {TOO_LATE}: {outcome}")


def test_connections_survive_if_the_network_never_applied_the_open_state(outcomes, measured):
    """Both changes were made within one lag, so the network never untracked the connection."""
    outcome = outcomes[NEVER_OPEN]
    assert outcome.code == 0, outcome.stderr
    assert not outcome.open_applied
    assert outcome.bytes_after > 0
    assert outcome.last_byte > outcome.applied + 0.5, "it continues after the isolation was applied"
    measured(f"settle_time={NEVER_OPEN.settle_time}, {NEVER_OPEN}: {outcome}")


def test_setup_page_describes_late_networks():
    """The section about settle_time links to the figures."""
    text = (TOP / "doc/setup.md").read_text(encoding="utf-8")
    about = text.partition("### The settle time\n")[2].partition("\n#")[0]
    assert "dev/testing.md#late-networks" in about
    assert "### Late networks\n" in (TOP / "doc/dev/testing.md").read_text(encoding="utf-8")
