"""The end of off after a permanent refusal: roll back if this run is alone, otherwise leave what is isolated.

    refused → read → [roll back → read → [isolate again]] → fail
"""

from __future__ import annotations

from dataclasses import replace
from typing import Dict, FrozenSet, Optional

from .. import messages
from ..errors import FenceError
from . import backup as tags
from .isolating import end, rollback_groups, without_room, write_backup_again
from .isolation import is_untracking
from .model import NONE, FrozenMap, Instance
from .protocol import Change, Fail, Knowledge, Phase, Plan, Read, SetGroups, Step, Tick
from .reisolating import reisolate, start_reisolating
from .tag_slots import NoRoom

ROLLED_BACK_SECONDS = 2.0  # how long a read without any tags is repeated after a roll-back


def _refusals(k: Knowledge) -> Dict[str, FenceError]:
    refusals = {}
    for i in sorted(k.refused):
        failure = k.interfaces[i].failure
        assert failure is not None
        refusals[i] = FenceError(failure.category, failure.text)
    return refusals


def give_up(plan: Plan, k: Knowledge, tick: Tick) -> Step:
    """EC2 refused a change for good: roll back what may be rolled back, and fail."""
    refusals = _refusals(k)
    if not k.possibly_changed and not any(p.opening.untrack_attempts for p in k.interfaces.values()):
        category = next(iter(refusals.values())).category
        return end(plan, k, tick, Fail.of(messages.refused_all(plan.id, refusals, category)))
    until = max((p.opening.late_until for p in k.interfaces.values()), default=0.0)
    k = replace(k, phase=Phase.GIVE_UP)
    return Step(Read((plan.id,)), k, tick.reserve_ends, not_before=until)


def _left(plan: Plan, k: Knowledge, tick: Tick, reason: str) -> Step:
    """Fail; what was isolated stays so, for this reason."""
    return end(plan, k, tick, Fail.of(messages.partly_isolated(plan.id, _refusals(k), k.possibly_changed, reason)))


def after_refusal(plan: Plan, k: Knowledge, tick: Tick) -> Step:
    """Read after a refusal: may this run roll back?"""
    if k.failure is not None:
        return _left(plan, k, tick, k.failure.text)
    reason = why_not_rolled_back(plan, k)
    if reason is not None:
        return _secure(plan, k, tick, reason)
    assert k.latest is not None
    goals = {i: rollback_groups(plan, k, i) for i in k.possibly_changed if i in k.latest.groups}
    goals = {i: g for i, g in goals.items() if g and g != k.interfaces[i].goal}
    patience = tick.now + ROLLED_BACK_SECONDS
    k = replace(k, phase=Phase.ROLL_BACK, reopened=frozenset(goals), timers=replace(k.timers, patience=patience))
    if not goals:
        return Step(Read((plan.id,)), k, tick.reserve_ends)
    return Step(SetGroups(Change.ROLL_BACK, FrozenMap(goals)), k, tick.reserve_ends)


def why_not_rolled_back(plan: Plan, k: Knowledge) -> Optional[str]:
    """Why the changes are not undone; None if they may be: alone, to the groups of the proving read."""
    latest, backup = k.latest, k.backup.latest
    if any(p.outcome_unknown for p in k.interfaces.values()):
        return "the outcome of a change is unknown"
    if latest is None or backup is None:
        return "no read shows it" if latest is None else "there is no backup, so a concurrent fencer is not excluded"
    if tags.is_sole_writer(latest, backup):
        return None
    if not tags.own(latest.tags, latest.id):
        return "an on ran concurrently"
    if set(tags.own(latest.tags, latest.id).items()) <= k.backup.written:
        return "an earlier backup of this run is in the tags too, and a concurrent fencer may have read it"
    return "a concurrent fencer may have fenced it, because the tags hold another backup"


def _secure(plan: Plan, k: Knowledge, tick: Tick, reason: str) -> Step:
    """What stays isolated must not be without a backup, which an ``on`` may have deleted or claimed; and what this
    run left open to everybody is isolated in any case, or gets back the groups that it had if EC2 refused that."""
    latest = k.latest
    if latest is None:
        return _left(plan, k, tick, reason)
    if (k.backup.missing or is_claimed(k, latest)) and not k.backup.rewritten:
        try:
            return write_backup_again(plan, k, tick, tick.reserve_ends)
        except NoRoom as error:
            k, notes = without_room(plan, k, error)
            step = _secure(plan, k, tick, reason)
            return replace(step, notes=(*notes, *step.notes))
    groups = latest.groups
    untracked = [i for i, p in k.interfaces.items() if p.opening.untrack_attempts]
    left_open = [i for i in untracked if is_untracking(groups.get(i, NONE), plan.spec)]
    return _left(plan, k.with_opened(left_open), tick, reason)


def is_claimed(k: Knowledge, latest: Instance) -> bool:
    """Is an ``on`` about to delete the backup under which something is left isolated?"""
    history = k.backup.history
    return history.has_foreign_writes(latest) and not history.has_foreign_writes(latest, claims=False)


def look_again(plan: Plan, k: Knowledge, tick: Tick) -> Step:
    """Look again what became of the roll-back, whatever EC2 answered to it.

    Another fencer may have come between the last read and the change: then what was opened is isolated again. But not
    behind a read without any tag: an ``on`` has brought it back, or the read is behind.
    """
    if not k.reads.fresh:
        return Step(Read((plan.id,)), k, tick.reserve_ends)
    if k.failure is not None:
        return _left(plan, k, tick, k.failure.text)
    latest, backup = k.latest, k.backup.latest
    assert backup is not None
    if latest is not None and tags.is_sole_writer(latest, backup):
        return _rolled_back_alone(plan, k, tick, latest)
    if latest is not None and not tags.own(latest.tags, latest.id):
        if tick.now >= k.timers.patience:
            return _rolled_back_alone(plan, k, tick, latest)
        return Step(Read((plan.id,)), k, tick.reserve_ends, backoff=True)
    return start_reisolating(plan, k, tick, k.reopened)


def _rolled_back_alone(plan: Plan, k: Knowledge, tick: Tick, latest: Instance) -> Step:
    left = sorted(i for i in k.possibly_changed if i in latest.groups and i not in k.reopened)
    left = [i for i in left if k.interfaces[i].open_groups != k.interfaces[i].goal]
    if left:
        return _left(plan, k, tick, "the read that verified the backup did not show an interface")
    unchanged = sorted(k.reopened & k.possibly_changed)
    if unchanged:
        failure = k.interfaces[unchanged[0]].failure
        assert failure is not None
        return _left(plan, k, tick, failure.text)
    refusals = _refusals(k)
    category = next(iter(refusals.values())).category
    return end(plan, k, tick, Fail.of(messages.refused_rolled_back(plan.id, refusals, category)))


def reisolate_reopened(plan: Plan, k: Knowledge, tick: Tick) -> Step:
    """Isolate again what the roll-back has opened, because of a concurrent fencer; then fail."""

    def ending(left: FrozenSet[str]) -> Fail:
        reason = "a concurrent fencer was detected"
        reason += ", and the restored interfaces were NOT isolated again" if left else ""
        return Fail.of(messages.partly_isolated(plan.id, _refusals(k), k.reopened, reason))

    return reisolate(plan, k, tick, ending)
