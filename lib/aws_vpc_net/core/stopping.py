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
ENDS_BY_ITSELF = ("pending", "shutting-down", "terminated")  # EC2 refuses to stop it
MAY_STOP = ("stopping", "stopped")
NOT_NOW = "IncorrectInstanceState"


def is_off(plan: Plan, latest: Instance) -> bool:
    """Does this read show the power off, or need it not be?"""
    return not plan.require_poweroff or latest.state in WRITES_NOTHING


def request(plan: Plan, k: Knowledge, latest: Instance, tick: Tick) -> Optional[Step]:
    """Stop it, if it can be; once also if it stops or has stopped.

    The guest may hang in a stop that waits for it, and a read that shows it stopped may be older than a start.
    """
    if not plan.require_poweroff or latest.state in ENDS_BY_ITSELF or tick.expired:
        return None
    if k.reads.stop_requested and latest.state in MAY_STOP:
        return None
    note = Note(INFO, messages.stopping(plan.id))
    k = replace(k, phase=Phase.STOP, reads=replace(k.reads, stop_requested=True))
    return Step(StopInstance(plan.id), k, tick.ends, notes=(note,))


def requested(plan: Plan, k: Knowledge, tick: Tick) -> Step:
    """Read again after the request: it is isolated, and has to be so until the end.

    A refusal is final, unless the next reads decide: it stops without this request, or is in another state by now.
    """
    assert k.latest is not None
    failure = k.failure
    if failure is not None and failure.code != NOT_NOW and k.latest.state not in MAY_STOP:
        k = replace(k, reads=replace(k.reads, failure=None, fresh=True))  # the groups are as they were read
        return end(plan, k, tick, Fail.of(messages.not_stopped(plan.id, failure.category, failure.text)))
    return Step(Read((plan.id,)), replace(k, phase=Phase.VERIFY), tick.ends, backoff=True)


def wait(plan: Plan, k: Knowledge, latest: Instance, tick: Tick) -> Step:
    """All but the power is proven: read until EC2 shows it off."""
    if not tick.expired:
        return Step(Read((plan.id,)), k, tick.ends, backoff=True)
    reason = messages.stop_not_finished(latest.state, tick.seconds)
    return end(plan, k, tick, Fail.of(messages.not_stopped(plan.id, Category.DEADLINE, reason)))
