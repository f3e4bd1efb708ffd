"""The checks of every step: they see what is wrong, cost little, and never end a run."""

from core.transcript import KEEP, World, groups, off_of, play

from aws_vpc_net.core import invariants
from aws_vpc_net.core.model import FrozenMap
from aws_vpc_net.core.protocol import Change, Knowledge, SetGroups, Step, Succeed

GONE = "eni-99999999999999999"


def test_a_change_without_a_backup_is_seen():
    run = off_of(World(), KEEP)
    play(run, "read")
    step = Step(SetGroups(Change.ISOLATE, FrozenMap({GONE: groups("i")})), run.knowledge)
    texts = invariants.violations(run.plan, run.knowledge, step, run.tick())
    assert texts == ["groups change before a read has shown the backup"]


def test_a_success_without_a_read_is_seen():
    run = off_of(World(), KEEP)
    texts = invariants.violations(run.plan, Knowledge(), Step(Succeed(), Knowledge()), run.tick())
    assert texts == ["off succeeds without a read that shows the instance"]


def test_a_step_that_makes_no_sense_is_told_and_not_raised():
    """It changes an interface of which the run knows nothing."""
    run = off_of(World(), KEEP)
    step = Step(SetGroups(Change.ROLL_BACK, FrozenMap({GONE: groups("a")})), Knowledge())
    texts = invariants.violations(run.plan, Knowledge(), step, run.tick())
    assert any(text.startswith("roll_back_is_alone cannot be checked: KeyError") for text in texts)
