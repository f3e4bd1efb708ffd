"""Changing groups: the rounds of off, and what every run owes before it may end.

A round:  [untrack, where that is due → wait until the network has followed] → isolate → close what is still open

What a run opened (it set an interface to ``untrack_secg``, or rolled one back, or restored one beside another fencer)
is an obligation on every way out. It is isolated again, with the time that is kept for it; where EC2 refuses that for
good, it is given its earlier groups, which are narrower than ``untrack_secg``.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Dict, Iterable, Optional, Tuple

from .. import messages
from ..errors import Category
from . import backup as tags
from .isolation import amend_backup, backup_groups, is_untracking, matches_isolation, set_by_fencer
from .model import NONE, FrozenMap, Groups, Instance
from .observe import not_rewritten, observe
from .protocol import (
    WARNING,
    Change,
    Changes,
    Effect,
    Fail,
    Failure,
    Knowledge,
    LookUpGroups,
    Note,
    Notes,
    Outcome,
    Phase,
    Plan,
    Point,
    SetGroups,
    Settle,
    Step,
    Tick,
    WriteTags,
)
from .tag_slots import NoRoom, make_backup

UNTRACK_ATTEMPTS = 3  # that took effect, or may have


# --- rounds ----------------------------------------------------------------------------------------------------


def start_round(k: Knowledge, interfaces: Iterable[str]) -> Knowledge:
    """These are to be set before the next read."""
    todo = frozenset(interfaces)
    fresh = {i: replace(k.interfaces[i], opening=replace(k.interfaces[i].opening, untrack_tried=False)) for i in todo}
    return replace(k, phase=Phase.CHANGE, round=todo, interfaces=k.interfaces.updated(fresh))


def next_change(plan: Plan, k: Knowledge, tick: Tick) -> Optional[Step]:
    """The next change of the round, then of what is still open; None where nothing is left to change."""
    closing = k.phase in (Phase.END, Phase.REISOLATE)
    untrack = [i for i in sorted(k.round) if may_untrack(plan, k, i)]
    if untrack:
        return _untrack(plan, k, untrack, tick)
    todo = sorted(k.round - k.refused)
    if any(_needs_look_up(plan, k, i) for i in todo):
        return Step(LookUpGroups(plan.spec.secg), k, tick.share(1 / 4))
    if todo:
        goals = FrozenMap({i: k.interfaces[i].goal for i in todo})
        # What was opened is isolated whatever time that took, but not before the network has seen it open; at once
        # where a refusal ends it anyway.
        until = max(k.timers.settled, k.timers.arrived)
        if k.opened and tick.now < until and not (closing or k.refused or tick.expired):
            return Step(Settle(until), k, tick.ends)
        return Step(SetGroups(Change.ISOLATE, goals), k, tick.reserve_ends if k.opened else tick.ends)
    given_back = k.round & k.refused & k.opened
    if given_back:
        goals = FrozenMap({i: rollback_groups(plan, k, i) for i in given_back})
        return Step(SetGroups(Change.ROLL_BACK, goals), k, tick.reserve_ends)
    return _close(plan, k, tick)


def _untrack(plan: Plan, k: Knowledge, interfaces: Iterable[str], tick: Tick) -> Step:
    """Open before any of them is, as whatever comes next may end it."""
    assert plan.spec.untrack is not None
    goals = FrozenMap(dict.fromkeys(interfaces, frozenset((plan.spec.untrack,))))
    return Step(SetGroups(Change.UNTRACK, goals), k.with_opened(goals), tick.ends)


def may_untrack(plan: Plan, k: Knowledge, interface: str) -> bool:
    """Is it the turn of this interface to pass through ``untrack_secg``?

    It opens the node each time: so not often, and not where the latest read shows it isolated beside another's
    backup, since that fencer may have reported success.
    """
    way = k.interfaces[interface].opening
    if not way.untrack_due or way.untrack_tried or way.untrack_attempts >= UNTRACK_ATTEMPTS:
        return False
    return not (reads_isolated(plan, k, interface) and is_shared(k))


def reads_isolated(plan: Plan, k: Knowledge, interface: str) -> bool:
    """Does the latest read show it with groups that isolate?"""
    assert k.latest is not None
    return matches_isolation(k.latest.groups.get(interface, NONE), plan.spec)


def is_shared(k: Knowledge) -> bool:
    """Does the latest read show tags of our format that neither the first read showed nor this run wrote?"""
    assert k.latest is not None
    assert k.first is not None
    others = set(tags.own(k.latest.tags, k.latest.id).items()) - k.backup.written - set(k.first.tags.items())
    return bool(others)


def _needs_look_up(plan: Plan, k: Knowledge, interface: str) -> bool:
    p = k.interfaces[interface]
    if p.failure is None:
        return False
    return k.groups.needs_look_up(plan.spec, p.goal, p.failure.code, p.failure.text)


def _close(plan: Plan, k: Knowledge, tick: Tick) -> Optional[Step]:
    """Isolate again what is still open."""
    if not k.opened:
        return None
    todo = sorted(k.opened - k.refused)
    k = replace(k, round=k.opened)
    if todo:
        goals = FrozenMap({i: k.interfaces[i].goal for i in todo})
        return Step(SetGroups(Change.ISOLATE, goals), k, tick.reserve_ends, backoff=True)
    goals = FrozenMap({i: rollback_groups(plan, k, i) for i in k.opened})
    return Step(SetGroups(Change.ROLL_BACK, goals), k, tick.reserve_ends, backoff=True)


def rollback_groups(plan: Plan, k: Knowledge, interface: str) -> Groups:
    """Where it goes back to: what it had in the read that proved the backup; never to what is open to all."""
    before = k.interfaces[interface].open_groups
    return k.backup.originals.get(interface, before) if is_untracking(before, plan.spec) else before


def give_up_closing(plan: Plan, k: Knowledge) -> Tuple[Knowledge, Notes]:
    """There is no time left to close what is open."""
    opened = sorted(k.opened)
    failures = [p.failure.text for p in (k.interfaces[i] for i in opened) if p.failure]
    k = replace(k, round=frozenset()).with_opened(opened, False)
    if k.phase is Phase.REISOLATE or not opened:
        return k, ()  # the last line says it
    why = failures[0] if failures else "no time left"
    return k, (Note(WARNING, messages.left_untracking(plan.id, opened, why)),)


# --- the end ---------------------------------------------------------------------------------------------------


def close_after_interrupt(plan: Plan, k: Knowledge, effect: Optional[Effect], tick: Tick) -> Knowledge:
    """What a run knows that ends in the middle of this effect; ``end`` goes on from it."""
    if isinstance(effect, SetGroups):
        failure = Failure(Outcome.UNKNOWN, Category.MODIFICATION, "interrupted")
        unknown = Changes(FrozenMap(dict.fromkeys(effect.goals, failure)))
        k, _ = observe(plan, k, effect, unknown, tick)
    return replace(k, ending=Fail(Category.MODIFICATION, "interrupted"))


def end(plan: Plan, k: Knowledge, tick: Tick, ending: Optional[Fail] = None) -> Step:
    """Fail, once nothing that this run opened is open, nor can be opened by a change that still arrives."""
    notes: Notes = ()
    if tick.reserve_expired:
        k, notes = give_up_closing(plan, k)
    k = replace(k, phase=Phase.END, ending=k.ending or ending, round=k.round & k.opened)
    step = next_change(plan, k, tick)
    if step is not None:
        return step
    # An interrupted "on" does not know what isolates: nothing of its is set again, nor waited for.
    late = sorted(i for i in k.late(tick.now) if k.interfaces[i].goal)
    if late and not tick.reserve_expired:  # once more, when nothing can arrive any more
        waiting = replace(k, round=frozenset(late)).with_opened(late)
        goals = FrozenMap({i: k.interfaces[i].goal for i in late})
        until = max(k.interfaces[i].opening.late_until for i in late)
        return Step(SetGroups(Change.ISOLATE, goals), waiting, tick.reserve_ends, not_before=until)
    assert k.ending is not None
    return Step(k.ending, k, notes=(*notes, *originals_in_doubt(plan, k)))


def originals_in_doubt(plan: Plan, k: Knowledge) -> Notes:
    """The original groups, where no read has shown since the last change that they are in the tags."""
    proven = k.reads.fresh and k.failure is None and k.latest is not None and not k.backup.missing
    if proven or not k.possibly_changed or not k.backup.originals:
        return ()
    return (Note(WARNING, messages.originals(plan.id, k.backup.originals), k.backup.originals),)


# --- the backup, written again ---------------------------------------------------------------------------------


def write_backup_again(plan: Plan, k: Knowledge, tick: Tick, ends: Optional[Point] = None) -> Step:
    """Write what is known of the original groups under a new time: of every interface, attached or not.

    What the latest read shows of others is known from here on, whether this can be written or not.

    Raises:
        NoRoom: there is no room for it.
    """
    assert k.latest is not None
    b = k.backup
    others = tags.foreign_backups(k.latest, b.written)
    amended = amend_backup(b.originals, k.latest, others, plan.spec, b.first_times)
    originals = FrozenMap(amended or b.originals)
    time = max(max(b.history.times, default=0) + 1, tags.next_time(tick.unix_time, k.latest))
    backup = make_backup(k.latest, originals, time, plan.spec, tick.nonce, b.numbers, reserve=0)
    known = replace(b, originals=originals, history=b.history.with_read(k.latest), answered=True)
    effect = WriteTags(plan.id, backup.tags, backup)
    return Step(effect, replace(k, backup=known), tick.ends if ends is None else ends)


def unfenced_groups(plan: Plan, k: Knowledge, interface: str, latest: Groups) -> Groups:
    """The original groups of an interface without a backup: as it reads, or as it was before a fencer set these."""
    assert k.first is not None
    first = k.first.groups.get(interface, latest)
    return first if set_by_fencer(latest, plan.spec) else latest


def original_groups(plan: Plan, k: Knowledge, read: Instance) -> Dict[str, Groups]:
    """What a backup must hold after this read; not what a fencer has set since the first read."""
    assert k.first is not None
    first = {i: g for i, g in k.first.groups.items() if not set_by_fencer(g, plan.spec)}
    originals = backup_groups(read, tags.read(read), plan.spec)
    return {i: first.get(i, g) if set_by_fencer(g, plan.spec) else g for i, g in originals.items()}


def without_room(plan: Plan, k: Knowledge, error: NoRoom) -> Tuple[Knowledge, Notes]:
    """There is no room to write it again."""
    refusal = messages.no_room(plan.id, error.needed, error.free)
    failure = Failure(Outcome.REFUSED, refusal.category, refusal.text)
    known = replace(k.backup, failure=failure, rewritten=True)
    return replace(k, backup=known), not_rewritten(plan, k, failure)
