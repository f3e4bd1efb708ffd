"""Updates what a run knows by the result of an effect. No decisions are made here."""

from __future__ import annotations

from dataclasses import replace
from typing import List, Optional, Tuple

from .. import messages
from ..errors import Category
from . import backup as tags
from .group_choice import IsolatingGroups
from .isolation import amend_backup, fencer_is_fenced, matches_isolation
from .model import FrozenMap, Groups, Instance
from .probing import Answer
from .protocol import (
    INFO,
    WARNING,
    Answers,
    BackupState,
    Change,
    Changes,
    CheckAnswers,
    Connect,
    Effect,
    Failure,
    Instances,
    Knowledge,
    LookUpGroups,
    Networks,
    Note,
    Notes,
    Outcome,
    Phase,
    Plan,
    Point,
    Progress,
    Read,
    Result,
    SetGroups,
    Tick,
    WriteTags,
)

MISSING_SECONDS = 4.0  # how long a backup may be missing in reads that are merely behind
REREAD_SECONDS = 5.0  # between reads while addresses are watched
LATE_SECONDS = 1.0  # between reads that look for an untracking that may still arrive


def observe(plan: Plan, k: Knowledge, effect: Effect, result: Result, tick: Tick) -> Tuple[Knowledge, Notes]:
    """What the run knows after an effect, and what to log of it."""
    if isinstance(effect, Read):
        return _read(plan, k, effect, result), ()
    if isinstance(effect, SetGroups):
        assert isinstance(result, Changes)
        return _groups(plan, k, effect, result, tick)
    if isinstance(effect, WriteTags):
        return _written(plan, k, effect, result, tick.now)
    if isinstance(effect, LookUpGroups):
        return _looked_up(plan, k, effect, result)
    if isinstance(effect, Connect):
        return replace(k, probe=replace(k.probe, asked=tick.now)), ()
    if isinstance(effect, CheckAnswers):
        return _answers(plan, k, effect, result)
    failure = result if isinstance(result, Failure) else None  # of a deletion, a start or a stop
    return replace(k, reads=replace(k.reads, failure=failure, fresh=False)), ()


# --- reads -----------------------------------------------------------------------------------------------------


def _read(plan: Plan, k: Knowledge, effect: Read, result: Result) -> Knowledge:
    if not isinstance(result, Instances):
        assert isinstance(result, Failure)
        return replace(k, reads=replace(k.reads, failure=result, fresh=True))
    latest = result.instances.get(plan.id) if plan.id in effect.ids else k.latest
    failure = _own_failure(plan, result)
    own_fenced, own_groups = k.reads.own_fenced, k.reads.own_groups
    if plan.own in effect.ids:  # a device with another secg may have isolated it
        own = result.instances.get(plan.own)
        shown_groups = FrozenMap(own.groups) if own else None
        own_groups = own_groups or shown_groups
        own_fenced = shown_groups is None or shown_groups != own_groups
    failure = None if k.phase is Phase.VERIFY else failure  # it has isolated the other by now
    reads = replace(k.reads, first=k.first or latest, latest=latest, failure=failure)
    reads = replace(reads, fresh=True, own_fenced=own_fenced, own_groups=own_groups)
    first, k = k.first, replace(k, reads=reads, backup=replace(k.backup, rewritten=False))
    in_time = result.asked >= k.due and not k.probe.unfinished(latest)
    k = replace(k, reads=replace(reads, in_time=in_time))
    if k.probe.addresses:  # it may be open again: by a change that arrives late, soon, or by another's
        reread = result.asked + (LATE_SECONDS if k.late(result.asked) else REREAD_SECONDS)
        k = replace(k, timers=replace(k.timers, reread=reread))
    if latest is None:
        return k
    shown = latest.groups
    progress = {i: _progress_after_read(plan, p, shown.get(i)) for i, p in k.interfaces.items()}
    # Not an earlier one without an interface that was adopted since: nobody could restore that one.
    wanted = set(k.backup.latest.originals) if k.backup.latest else set()
    visible = any(wanted <= set(b.originals) and tags.is_visible(b, latest) for b in k.backup.backups)
    numbers = k.backup.numbers.updated({i.id: i.number for i in latest.interfaces})
    missing = bool(k.backup.backups) and not visible
    backup = replace(k.backup, numbers=numbers, missing=missing)
    if first is None:
        backup = replace(backup, first_times=tags.read(latest).times)
    if k.phase is not Phase.BACKUP and not plan.restoring:
        backup = _with_others(plan, backup, latest)
    timers = replace(k.timers, rewrite=0.0) if visible else k.timers
    return replace(k, interfaces=FrozenMap(progress), backup=backup, timers=timers)


def _with_others(plan: Plan, b: BackupState, latest: Instance) -> BackupState:
    """What the backups of others say better, whether it is to be written now or not: an ``on`` may delete them."""
    others = tags.foreign_backups(latest, b.written)
    amended = amend_backup(b.originals, latest, others, plan.spec, b.first_times)
    return replace(b, originals=FrozenMap(amended)) if amended else b


def _own_failure(plan: Plan, result: Instances) -> Optional[Failure]:
    """The refusal to fence others, where this machine is fenced. One of another account is not shown."""
    own = result.instances.get(plan.own) if plan.own else None
    if own is None or not fencer_is_fenced(own, tags.read(own), plan.spec):
        return None
    return Failure(Outcome.REFUSED, Category.SELF_FENCING, messages.fenced_fencer(own.id).text)


def _progress_after_read(plan: Plan, p: Progress, groups: Optional[Groups]) -> Progress:
    if groups is None:
        return replace(p, missing_reads=min(2, p.missing_reads + 1))
    right = groups == p.open_groups if plan.restoring else matches_isolation(groups, plan.spec)
    wrong = 0 if right else min(2, p.wrong_reads + 1)
    return replace(p, wrong_reads=wrong, missing_reads=0)


# --- changes of groups -----------------------------------------------------------------------------------------


def _groups(plan: Plan, k: Knowledge, effect: SetGroups, result: Changes, tick: Tick) -> Tuple[Knowledge, Notes]:
    update = {
        Change.UNTRACK: _untracked,
        Change.ISOLATE: _isolated,
        Change.ROLL_BACK: _rolled_back,
        Change.RESTORE: _restored,
    }[effect.change]
    notes: List[Note] = []
    k = replace(k, backup=replace(k.backup, answered=False), reads=replace(k.reads, fresh=False))
    outcomes = [k.interfaces[i].outcome for i in effect.goals]
    repeated = any(o in (Outcome.ACCEPTED, Outcome.UNKNOWN) for o in outcomes)
    k = replace(k, probe=k.probe.changed(repeated))
    settled = tick.now + plan.settle_seconds
    # What was accepted first: whether a refusal may be looked into depends on what is still open.
    for interface, failure in sorted(result.failures.items(), key=lambda item: item[1] is not None):
        if failure is None:
            k = replace(k, timers=replace(k.timers, settled=settled))
        k, more = update(plan, k, interface, failure, tick.now)
        notes += more
    return k, tuple(notes)


def _untracked(
    plan: Plan, k: Knowledge, interface: str, failure: Optional[Failure], now: Point
) -> Tuple[Knowledge, Notes]:
    p = k.interfaces[interface]
    way = replace(p.opening, untrack_tried=True)
    if failure is None:
        way = replace(way, untrack_due=False, untrack_attempts=way.untrack_attempts + 1)
        return k.with_progress(interface, replace(_changed(p), opening=way)), ()
    if failure.outcome is Outcome.UNKNOWN:
        way = replace(way, untrack_attempts=way.untrack_attempts + 1, late_until=now + plan.api_seconds)
        p = replace(p, possibly_changed=True, outcome_unknown=True)
    else:
        way = replace(way, opened=False)
    outcome = Outcome.REFUSED if failure.outcome is Outcome.REFUSED else p.outcome
    return k.with_progress(interface, replace(p, outcome=outcome, failure=failure, opening=way)), ()


def _changed(p: Progress) -> Progress:
    return replace(p, possibly_changed=True, outcome_unknown=False)


def _isolated(
    plan: Plan, k: Knowledge, interface: str, failure: Optional[Failure], now: Point
) -> Tuple[Knowledge, Notes]:
    p = replace(k.interfaces[interface], wrong_reads=0)
    done = replace(k, round=k.round - {interface})
    if failure is None:
        under = k.backup.latest.time if k.backup.latest else None
        p = replace(_changed(p), outcome=Outcome.ACCEPTED, failure=None, under=under)
        return done.with_progress(interface, p.with_opened(False)), ()
    if failure.outcome is Outcome.REFUSED:
        return _refused(plan, k, interface, failure)
    if _is_gone(p, failure):
        p = p.with_opened(False)
    if failure.outcome is Outcome.UNKNOWN:
        p = replace(p, possibly_changed=True, outcome_unknown=True)
        # What arrives late isolates: not after this run has ended, when an "on" may have come.
        done = replace(done, timers=replace(done.timers, arrived=now + plan.api_seconds))
    return done.with_progress(interface, replace(p, outcome=failure.outcome, failure=failure)), ()


def _is_gone(p: Progress, failure: Failure) -> bool:
    """Not there, twice, with a pause between the two: nothing is open."""
    return failure.outcome is Outcome.GONE and p.failure is not None and p.failure.outcome is Outcome.GONE


def _refused(plan: Plan, k: Knowledge, interface: str, failure: Failure) -> Tuple[Knowledge, Notes]:
    """EC2 refused groups that isolate: perhaps it takes some of them."""
    p = replace(k.interfaces[interface], failure=failure)
    unclear = k.groups.needs_look_up(plan.spec, p.goal, failure.code, failure.text)
    if unclear and not k.opened:  # a look-up takes time
        return k.with_progress(interface, p), ()
    return _smaller(plan, k, interface, failure)


def _smaller(plan: Plan, k: Knowledge, interface: str, failure: Failure) -> Tuple[Knowledge, Notes]:
    p = k.interfaces[interface]
    vpc = _vpc(k, interface)
    groups, goal = k.groups.without_refused(plan.spec, vpc, p.goal, failure.code, failure.text)
    if goal:
        left_out = [g for g in sorted(p.goal - goal) if groups.is_unusable(g, vpc)]
        notes = tuple(Note(WARNING, messages.group_dropped(interface, g)) for g in left_out)
        progress = replace(p, goal=goal, outcome=None, failure=None)  # the refusal was of the earlier goal
        return replace(k, groups=groups).with_progress(interface, progress), notes
    # What is on untrack_secg is given its earlier groups; what was rolled back has them, and another may isolate it.
    if not p.opening.untrack_attempts or k.phase is Phase.REISOLATE:
        p = p.with_opened(False)
    return k.with_progress(interface, replace(p, outcome=Outcome.REFUSED, failure=failure)), ()


def _vpc(k: Knowledge, interface: str) -> str:
    reads = [instance for instance in (k.first, k.latest) if instance is not None]
    return {i.id: i.vpc for instance in reads for i in instance.interfaces}.get(interface, "")


def _rolled_back(
    plan: Plan, k: Knowledge, interface: str, failure: Optional[Failure], now: Point
) -> Tuple[Knowledge, Notes]:
    p = k.interfaces[interface]
    done = replace(k, round=k.round - {interface})
    if failure is None:
        return done.with_progress(interface, replace(p, possibly_changed=False).with_opened(False)), ()
    notes: Notes = ()
    if p.opening.opened and (failure.outcome is Outcome.REFUSED or _is_gone(p, failure)):
        notes = (Note(WARNING, messages.left_untracking(plan.id, [interface], failure.text)),)
        p = p.with_opened(False)
    if failure.outcome is Outcome.UNKNOWN:
        p = _may_arrive(replace(p, outcome_unknown=True), now + plan.api_seconds)
    return done.with_progress(interface, replace(p, failure=failure)), notes


def _may_arrive(p: Progress, until: Point) -> Progress:
    """The change, which opens the interface, may still arrive."""
    return replace(p, opening=replace(p.opening, late_until=until))


def _restored(
    plan: Plan, k: Knowledge, interface: str, failure: Optional[Failure], now: Point
) -> Tuple[Knowledge, Notes]:
    p = replace(k.interfaces[interface], wrong_reads=0, failure=failure)
    if failure is None:
        p = replace(p, outcome=Outcome.ACCEPTED, possibly_changed=True)
    else:
        unknown = failure.outcome is Outcome.UNKNOWN
        p = replace(p, outcome=failure.outcome, possibly_changed=p.possibly_changed or unknown)
        p = _may_arrive(p, now + plan.api_seconds) if unknown else p
    return k.with_progress(interface, p), ()


# --- attempts to connect ---------------------------------------------------------------------------------------


def _answers(plan: Plan, k: Knowledge, effect: CheckAnswers, result: Result) -> Tuple[Knowledge, Notes]:
    """What answered; of what cannot be tried, a warning, once."""
    assert isinstance(result, Answers)
    if k.probe.checked:
        probe = k.probe.checked_again(effect.addresses, result.answers, result.standing, k.timers.settled)
    else:
        probe = k.probe.first_checked(result.answers, result.standing)
    impossible = {a for a in effect.addresses if result.answers.get(a, Answer.IMPOSSIBLE) is Answer.IMPOSSIBLE}
    notes: Notes = ()
    if not k.probe.checked:
        notes = (Note(INFO, messages.observable(plan.id, probe.addresses, effect.addresses)),)
    if impossible - probe.warned:
        notes += (Note(WARNING, messages.cannot_probe(plan.id, impossible - probe.warned)),)
    return replace(k, probe=replace(probe, warned=probe.warned | impossible)), notes


# --- tags and look-ups -----------------------------------------------------------------------------------------


def _written(plan: Plan, k: Knowledge, effect: WriteTags, result: Result, now: Point) -> Tuple[Knowledge, Notes]:
    # Known whatever came of it: should they be read, nobody else has written them.
    b = replace(k.backup, rewritten=True, history=k.backup.history.with_write(effect.tags))
    failure = result if isinstance(result, Failure) else None
    if effect.backup is None:
        return replace(k, backup=b if failure else replace(b, claimed=effect.tags)), ()
    if failure is not None:
        notes = not_rewritten(plan, k, failure) if effect.tags == effect.backup.tags else ()
        return replace(k, backup=replace(b, failure=failure)), notes
    same = [other for other in b.backups if other.time != effect.backup.time]
    added = len(same) < len(k.backup.backups)  # an interface that appeared, to the backup of this time
    originals = b.originals if added else effect.backup.originals
    b = replace(b, backups=(*same, effect.backup), originals=originals, missing=False, failure=None)
    timers = replace(k.timers, rewrite=now + MISSING_SECONDS)
    again = k.phase is not Phase.BACKUP and not added and not plan.restoring
    written = messages.backup_written(plan.id, len(effect.tags), effect.backup.time)
    text = messages.backup_rewritten(plan.id, effect.backup.time) if again else written
    return replace(k, backup=b, timers=timers), (Note(INFO, text),)


def not_rewritten(plan: Plan, k: Knowledge, failure: Failure) -> Notes:
    """What to log of a backup that could not be written again: it holds the original groups."""
    if k.phase is Phase.BACKUP:
        return ()  # nothing has been changed
    originals = k.backup.originals
    return (Note(WARNING, messages.backup_not_rewritten(plan.id, failure.text, originals), originals),)


def _looked_up(plan: Plan, k: Knowledge, effect: LookUpGroups, result: Result) -> Tuple[Knowledge, Notes]:
    groups = replace(k.groups, looked_up=True)
    notes: Notes = ()
    # Before the first change, none means that off is refused. Later, EC2's answer to the next change decides.
    if isinstance(result, Networks) and (result.vpcs or k.phase is Phase.LOOK_UP):
        groups = IsolatingGroups(result.vpcs, result.complete, True, groups.refused)
        unknown = [g for g in effect.groups if g not in result.vpcs]
        notes = tuple(Note(WARNING, messages.group_dropped(plan.id, g)) for g in unknown)
    k = replace(k, groups=groups)
    for interface in sorted(k.round):
        p = k.interfaces[interface]
        if p.failure:
            k, more = _smaller(plan, k, interface, p.failure)
            notes += more
    return k, notes
