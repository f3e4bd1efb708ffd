"""off with ``require_poweroff``: stop the isolated instance, and succeed only on a read that shows it stopped.

EBS is not filtered by security groups: only the stop ends the writes to a volume that nodes share. It is requested as
soon as a read shows all interfaces isolated, so that it takes place while EC2's network follows.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Optional

from .. import messages
from ..errors import Category
from .isolating import end
from .model import Instance
from .protocol import INFO, Fail, Knowledge, Note, Phase, Plan, Read, Step, StopInstance, Tick

WRITES_NOTHING = ("stopped", "terminated")
STOPS = (*WRITES_NOTHING, "stopping", "shutting-down")


def is_off(plan: Plan, latest: Optional[Instance]) -> bool:
    """Does this read show the power off, or need it not be?"""
    return not plan.require_poweroff or (latest is not None and latest.state in WRITES_NOTHING)


def request(plan: Plan, k: Knowledge, tick: Tick) -> Optional[Step]:
    """Stop it, if the latest read shows neither that it has stopped nor that it does."""
    if not plan.require_poweroff or k.latest is None or k.latest.state in STOPS or tick.expired:
        return None
    note = Note(INFO, messages.stopping(plan.id))
    return Step(StopInstance(plan.id), replace(k, phase=Phase.STOP), tick.ends, notes=(note,))


def requested(plan: Plan, k: Knowledge, tick: Tick) -> Step:
    """Read again after the request: it is isolated, and has to be so until the end."""
    if k.failure is not None:
        return end(plan, k, tick, Fail.of(messages.not_stopped(plan.id, k.failure.category, k.failure.text)))
    return Step(Read((plan.id,)), replace(k, phase=Phase.VERIFY), tick.ends, backoff=True)


def wait(plan: Plan, k: Knowledge, tick: Tick) -> Step:
    """All but the power is proven: read until EC2 shows it off."""
    if not tick.expired:
        return Step(Read((plan.id,)), replace(k, phase=Phase.VERIFY), tick.ends, backoff=True)
    state = k.latest.state if k.latest else "not shown"
    reason = messages.stop_not_finished(state, tick.seconds)
    return end(plan, k, tick, Fail.of(messages.not_stopped(plan.id, Category.DEADLINE, reason)))
