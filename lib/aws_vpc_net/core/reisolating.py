"""Another fencer came: what this run opened (rolled back, or restored) is isolated again, until a read shows it."""

from __future__ import annotations

from dataclasses import replace
from typing import Callable, FrozenSet, Iterable, List, Optional

from . import backup as tags
from .isolating import next_change, originals_in_doubt, unfenced_groups, without_room, write_backup_again
from .isolation import groups_to_restore, matches_isolation
from .model import NONE, FrozenMap, Instance
from .protocol import Change, Fail, Knowledge, Phase, Plan, Point, Progress, Read, SetGroups, Step, Tick
from .tag_slots import NoRoom

Ending = Callable[[FrozenSet[str]], Fail]  # by what could not be isolated again


def start_reisolating(plan: Plan, k: Knowledge, tick: Tick, interfaces: Iterable[str]) -> Step:
    """The latest read shows another fencer: isolate these again, which this run opened."""
    reopened = frozenset(interfaces)
    untried = {i: replace(k.interfaces[i], outcome=None) for i in reopened}
    k = replace(k, phase=Phase.REISOLATE, reopened=reopened, interfaces=k.interfaces.updated(untried))
    todo = frozenset(i for i in reopened if k.interfaces[i].goal)  # of others nobody can tell what closes them
    return _isolate(k, tick, todo) if todo else Step(Read((plan.id,)), k, tick.reserve_ends)


def _isolate(k: Knowledge, tick: Tick, interfaces: FrozenSet[str]) -> Step:
    goals = FrozenMap({i: k.interfaces[i].goal for i in interfaces})
    k = replace(k, round=interfaces).with_opened(interfaces)
    return Step(SetGroups(Change.ISOLATE, goals), k, tick.reserve_ends)


def reisolate(plan: Plan, k: Knowledge, tick: Tick, ending: Ending) -> Step:
    """Go on until a read shows all of them isolated; then fail, as another fencer has precedence."""
    if tick.reserve_expired:
        return _fail(plan, k, ending(k.reopened if k.failure is not None else _open_now(plan, k)))
    if not k.reads.fresh:
        return next_change(plan, k, tick) or Step(Read((plan.id,)), k, tick.reserve_ends)
    if k.failure is not None:
        return _when_arrived(plan, k, tick) or _fail(plan, k, ending(k.reopened))
    if k.latest is None:
        return Step(Read((plan.id,)), k, tick.reserve_ends, backoff=True)
    if not tags.own(k.latest.tags, k.latest.id):
        return _without_tags(plan, k, k.latest, tick, ending)
    open_now = _open_now(plan, k)
    todo = frozenset(i for i in open_now - k.refused if k.interfaces[i].goal)
    if todo:
        return replace(_isolate(k, tick, todo), backoff=True)
    if not k.backup.rewritten and _lost(plan, k, k.latest):  # an operator has edited the tags meanwhile
        return _write_again(plan, k, k.latest, tick, ending)
    return _when_arrived(plan, k, tick) or _fail(plan, k, ending(open_now))


def _when_arrived(plan: Plan, k: Knowledge, tick: Tick) -> Optional[Step]:
    """Once more, when no change can arrive any more that opens them; a read, where EC2 refuses to isolate them."""
    late = k.late(tick.now) & k.reopened
    todo = frozenset(i for i in late - k.refused if k.interfaces[i].goal)
    if todo:
        return replace(_isolate(k, tick, todo), not_before=_arrived(k, todo))
    return _read_when_arrived(plan, k, tick, late) if late else None


def _read_when_arrived(plan: Plan, k: Knowledge, tick: Tick, late: FrozenSet[str]) -> Step:
    return Step(Read((plan.id,)), k, tick.reserve_ends, not_before=_arrived(k, late))


def _arrived(k: Knowledge, late: FrozenSet[str]) -> Point:
    return max(k.interfaces[i].opening.late_until for i in late)


def _open_now(plan: Plan, k: Knowledge) -> FrozenSet[str]:
    """Those that the latest read shows open; all of them, if it is older than the latest change."""
    if k.latest is None or not k.reads.fresh:
        return frozenset(i for i in k.reopened if not k.interfaces[i].accepted)
    groups = k.latest.groups
    return frozenset(i for i in k.reopened if i in groups and not _is_closed(plan, k.interfaces[i], groups[i]))


def _is_closed(plan: Plan, p: Progress, groups: FrozenSet[str]) -> bool:
    return matches_isolation(groups, plan.spec) if plan.spec.secg else groups == p.goal


def _without_tags(plan: Plan, k: Knowledge, latest: Instance, tick: Tick, ending: Ending) -> Step:
    """Another ``on`` has brought it back since, and deleted the backup: what reads isolated gets one again.

    While a change may still arrive that opens it, the read may as well be behind: there is another one then.
    """
    late = k.late(tick.now) & k.reopened
    if late:
        return _read_when_arrived(plan, k, tick, late)
    if k.backup.rewritten or not _isolated_now(plan, k, latest):
        return _fail(plan, k, ending(frozenset()))
    return _write_again(plan, k, latest, tick, ending)


def _isolated_now(plan: Plan, k: Knowledge, latest: Instance) -> List[str]:
    return [i for i in k.reopened if matches_isolation(latest.groups.get(i, NONE), plan.spec)]


def _lost(plan: Plan, k: Knowledge, latest: Instance) -> List[str]:
    """Those that are isolated again, and whose original groups no tag of this read holds."""
    kept = groups_to_restore(latest, tags.read(latest), plan.spec)
    return [i for i in _isolated_now(plan, k, latest) if i not in kept]


def _write_again(plan: Plan, k: Knowledge, latest: Instance, tick: Tick, ending: Ending) -> Step:
    """The backup, once."""
    groups = {i: unfenced_groups(plan, k, i, g) for i, g in latest.groups.items()}
    others = {i: g for i, g in groups.items() if i not in k.backup.originals}
    k = replace(k, backup=replace(k.backup, originals=k.backup.originals.updated(others)))
    try:
        return write_backup_again(plan, k, tick, tick.reserve_ends)
    except NoRoom as error:
        k, notes = without_room(plan, k, error)
        step = reisolate(plan, k, tick, ending)
        return replace(step, notes=(*notes, *step.notes))


def _fail(plan: Plan, k: Knowledge, ending: Fail) -> Step:
    return Step(ending, k, notes=originals_in_doubt(plan, k))
