"""on: set the original groups, prove it, then delete the backup.

    read → claim the backup → set all groups → read until all are as in the backup → delete the tags → look back

The backup is deleted last and by value: until the restore is proven the original groups are in the tags, and a backup
that an ``off`` writes meanwhile is not touched. Every read looks for such an ``off``: it takes precedence.

An ``off`` that is still in progress may isolate again what was restored, under the backup that is about to be
deleted. So its tags are claimed first: rewritten in place with the same contents. Such an ``off`` sees a tag that it
did not write, and writes its backup again before it reports success. No read shows whether there is such an ``off``:
two of the same second write to the same keys, and one of them may have ended.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Callable, Dict, FrozenSet, Iterable, List, Mapping, Optional, Tuple

from .. import messages
from ..errors import Category
from . import backup as tags
from .isolating import unfenced_groups, without_room, write_backup_again
from .isolation import (
    groups_to_restore,
    is_finished_fence,
    is_isolated,
    is_untracking,
    latest_unfenced,
    matches_isolation,
    set_by_fencer,
    static_refusal,
)
from .model import NONE, BackupHistory, FrozenMap, Groups, Instance, Interface, IsolationSpec
from .protocol import (
    INFO,
    READ_ONCE_MORE_SECONDS,
    WARNING,
    Change,
    DeleteTags,
    Fail,
    Knowledge,
    Note,
    Notes,
    Outcome,
    Phase,
    Plan,
    Progress,
    Read,
    SetGroups,
    StartInstance,
    Step,
    Succeed,
    Tick,
    WriteTags,
    fail,
)
from .reisolating import reisolate, start_reisolating
from .stopping import MAY_STOP
from .tag_slots import NoRoom, unreadable_tags

READ_AGAIN_SECONDS = 2.0  # how long a read that may be stale is repeated where no other read can tell


def decide(plan: Plan, k: Knowledge, tick: Tick) -> Step:
    """The next step of ``on``; pure."""
    if plan.restore.ignored:
        notes = [Note(INFO, messages.restore_skipped(plan.id))]
        notes += [Note(WARNING, messages.start_skipped(plan.id))] if plan.power else []
        return Step(Succeed(), k, notes=tuple(notes))
    return _PHASES[k.phase](plan, k, tick)


# --- what to restore -------------------------------------------------------------------------------------------


def _first(plan: Plan, k: Knowledge, tick: Tick) -> Step:
    """The first read, and all refusals."""
    if not k.reads.fresh:
        return Step(Read((plan.id,)), k, tick.ends)
    if k.failure is not None:
        return fail(k, k.failure)
    if k.phase is Phase.FIRST and (k.latest is None or k.latest.lost_names):  # a stale view, perhaps
        wait = tick.now + READ_ONCE_MORE_SECONDS
        return Step(Read((plan.id,)), replace(k, phase=Phase.AGAIN), tick.ends, not_before=wait)
    latest = k.latest or k.first
    if latest is None:
        return fail(k, messages.unknown_instance(plan.id))
    if latest.terminated:
        return fail(k, messages.terminated(plan.id))
    if latest.lost_names:
        return fail(k, messages.lost_names(plan.id, latest.lost_names))
    if plan.power and latest.hibernated and latest.state in MAY_STOP:
        return fail(k, messages.hibernated_not_restored(plan.id))
    if k.phase is not Phase.DOUBT:
        k = _with_read(k, latest)
    return _static(plan, k, latest, tick) if plan.static else _from_backup(plan, k, latest, tick)


def _with_read(k: Knowledge, instance: Instance) -> Knowledge:
    """The tags of this read are known: an ``off`` that writes others began later."""
    return replace(k, backup=replace(k.backup, history=k.backup.history.with_read(instance)))


def _static(plan: Plan, k: Knowledge, latest: Instance, tick: Tick) -> Step:
    """The groups of ``interfaceN-sg``."""
    refusal = static_refusal(latest, plan.static, plan.spec)
    if refusal is not None:
        return fail(k, refusal)
    return _restore_first(plan, k, latest, _static_groups(plan, latest), tick, ())


def _static_groups(plan: Plan, latest: Instance) -> Dict[str, Groups]:
    """What ``interfaceN-sg`` says of each interface; N is the rank in this read, from 0."""
    return {i.id: plan.static[i.number - 1] for i in latest.interfaces}


def looks_fenced(plan: Plan, instance: Instance) -> bool:
    """Is any interface isolated in this read?"""
    history = tags.read(instance)
    return any(is_isolated(i, instance, history, plan.spec) for i in instance.interfaces)


def _from_backup(plan: Plan, k: Knowledge, latest: Instance, tick: Tick) -> Step:
    """The groups in the backup of each attached interface that has one.

    Where something looks isolated and no backup is seen, the read may be stale: there is another. What is known is
    what the truly first one showed: a backup that only a later read shows is a concurrent fencer's, and is not
    restored; unless all was isolated in the first read already, and it is the only one.
    """
    spec = plan.spec
    history = tags.read(latest)
    goals = groups_to_restore(latest, history, spec)
    if not goals and any(matches_isolation(i.groups, spec) for i in latest.interfaces):
        if k.phase is not Phase.DOUBT:
            patience = tick.now + min(READ_AGAIN_SECONDS, (tick.ends - tick.now) / 4)
            k = replace(k, phase=Phase.DOUBT, timers=replace(k.timers, patience=patience))
            return Step(Read((plan.id,)), k, tick.ends, backoff=True)
        if tick.now < k.timers.patience:
            return Step(Read((plan.id,)), k, tick.ends, backoff=True)
    if k.backup.history.has_foreign_writes(latest):  # it is not the truly first read
        assert k.first is not None
        if not is_finished_fence(k.first, history, spec):
            return fail(k, messages.backup_appeared(plan.id))
        k = _with_read(k, latest)
    if not goals and looks_fenced(plan, latest):
        return fail(k, messages.no_backup(plan.id))
    unsure = [] if spec.secg else _with_other_groups(latest, goals)
    if unsure:
        return fail(k, messages.secg_needed(plan.id, unsure))
    return _restore_first(plan, k, latest, goals, tick, _warnings(plan, latest, goals))


def _with_other_groups(latest: Instance, goals: Mapping[str, Groups]) -> List[str]:
    """Interfaces that have other groups than any backup of theirs, which is not the latest one: it is to be restored
    only if they are isolated."""
    sets = tags.read(latest).sets
    older = {i.id: {*sets[i.id].values()} for i in latest.interfaces if i.id in sets and i.id not in goals}
    return [i for i, groups in older.items() if latest.groups[i] not in groups]


def _warnings(plan: Plan, latest: Instance, goals: Mapping[str, Groups]) -> Notes:
    """What is not restored, and why."""
    isolated = latest.interfaces and all(matches_isolation(i.groups, plan.spec) for i in latest.interfaces)
    notes = [Note(WARNING, messages.isolated_without_backup(plan.id))] if isolated and not goals else []
    history = tags.read(latest)
    notes += [
        Note(WARNING, messages.left_without_backup(plan.id, i.id, i.groups))
        for i in latest.interfaces
        if goals and i.id not in goals
    ]
    for i, goal in sorted(goals.items()):
        if _is_left_fenced(goal, plan.spec):
            notes.append(Note(WARNING, messages.restored_as_fenced(plan.id, i, goal)))
        others = {g for g in history.sets[i].values() if g != goal and not set_by_fencer(g, plan.spec)}
        notes += [Note(WARNING, messages.other_backup(plan.id, i, g, goal)) for g in sorted(others, key=sorted)]
    return (*notes, *_detached(plan, history, latest.groups))


def _detached(plan: Plan, history: BackupHistory, known: Iterable[str]) -> Notes:
    """The groups of all other interfaces, which are not attached: their backup is deleted too."""
    notes = []
    for gone in sorted(set(history.sets) - set(known)):
        groups = latest_unfenced(gone, history, plan.spec) or history.latest(gone)
        assert groups is not None
        notes.append(Note(WARNING, messages.detached(plan.id, gone, groups), FrozenMap({gone: groups})))
    return tuple(notes)


def _is_left_fenced(goal: Groups, spec: IsolationSpec) -> bool:
    """Does the backup hold what only a fencer sets? Where groups are removed, others may never have been there."""
    return (spec.keep_only and matches_isolation(goal, spec)) or is_untracking(goal, spec)


def _restore_first(
    plan: Plan, k: Knowledge, latest: Instance, goals: Mapping[str, Groups], tick: Tick, notes: Notes
) -> Step:
    """Restore these groups; claim the backup first, if there is one."""
    # Without secg nobody can tell what is isolated.
    if not goals and not plan.static and (not leftovers(plan, latest) or not plan.spec.secg):
        note = Note(INFO, messages.nothing_to_restore(plan.id))
        step = _power(plan, k, tick)
        return replace(step, notes=(*notes, note, *step.notes))
    progress = FrozenMap({i: Progress(open_groups=g) for i, g in goals.items()})
    # From here on ``first`` is the read that the restore is based on.
    k = replace(k, interfaces=progress, reads=replace(k.reads, first=latest))
    k = replace(k, backup=replace(k.backup, originals=FrozenMap(goals)))
    claims = tags.claim(latest, tick.nonce) if has_restorable_backup(plan, latest) else FrozenMap()
    if claims:
        # What may fail must not take the time of what follows.
        step = Step(WriteTags(plan.id, claims), replace(k, phase=Phase.CLAIM), tick.share(1 / 4))
    else:
        step = _restore(plan, k, tick, goals)
    return replace(step, notes=(*notes, *step.notes))


def leftovers(plan: Plan, instance: Instance) -> Dict[str, str]:
    """Our format's tags, also those that name another instance, as images copy them; and the count of monitor's
    returns, which begins anew with each ``on`` that monitor does not make."""
    counted = {k: v for k, v in instance.tags.items() if k == tags.RETURNED and not plan.restore.unattended}
    return {**tags.own(instance.tags, instance.id), **tags.foreign_tags(instance.tags, instance.id), **counted}


def has_restorable_backup(plan: Plan, first: Instance) -> bool:
    """Is there a backup to restore, which may be of an ``off`` that is still in progress?"""
    return bool(groups_to_restore(first, tags.read(first), plan.spec))


# --- restoring, and the proof ----------------------------------------------------------------------------------


def _claimed(plan: Plan, k: Knowledge, tick: Tick) -> Step:
    return _restore(plan, k, tick, k.interfaces)


def _restore(plan: Plan, k: Knowledge, tick: Tick, interfaces: Iterable[str]) -> Step:
    """Restore these; only read, if there are none."""
    goals = FrozenMap({i: k.interfaces[i].open_groups for i in interfaces})
    k = replace(k, phase=Phase.VERIFY)
    if not goals:
        return Step(Read((plan.id,)), k, tick.ends)
    return Step(SetGroups(Change.RESTORE, goals), k, tick.ends)


def _verify(plan: Plan, k: Knowledge, tick: Tick) -> Step:
    """Converge on the original groups; go on only from a read that shows them, and no ``off`` in between.

    What was opened is looked at with the time that is kept for it: an ``off`` may have succeeded meanwhile.
    """
    if not k.reads.fresh:
        return Step(Read((plan.id,)), k, tick.reserve_ends)
    if k.failure is not None:
        why = {**_why(k, None), "last read": k.failure.text}
        return fail(k, messages.not_restored(plan.id, why, k.failure.category))
    latest = k.latest
    todo: List[str] = []
    if latest is not None:
        if latest.terminated:
            return fail(k, messages.terminated(plan.id))
        if k.backup.history.has_foreign_writes(latest, claims=False):
            return _overtaken(plan, k, latest, tick)
        gap = [i.number - 1 for i in latest.interfaces if plan.static and i.number - 1 not in plan.static]
        if gap:
            return fail(k, messages.static_gap(plan.id, gap, {i.number - 1: i.id for i in latest.interfaces}))
        k, new = _with_new_goals(plan, k, latest)
        wrong = _wrong(k, latest)
        done = not new and set(wrong) <= k.refused and not _is_in_doubt(plan, k)
        if done and k.reads.in_time:
            return _restored(plan, k, latest, tick)
        if done and not tick.expired:  # what may still arrive must not open it behind an "off"
            return Step(Read((plan.id,)), k, tick.ends, not_before=k.due)
        todo = _to_retry(k, wrong, new)
    if tick.expired:
        late = dict.fromkeys(k.late(tick.now), "a change without a reply may still arrive")
        why = _why(k, latest) or late or {"interfaces": "no read showed them"}
        return fail(k, messages.not_restored(plan.id, why, Category.DEADLINE))
    return replace(_restore(plan, k, tick, todo), backoff=True)


def _is_in_doubt(plan: Plan, k: Knowledge) -> bool:
    """Does the latest read lack an interface, for the first time, that matters? It may be there all the same."""
    progress = k.interfaces.values()
    return any(p.lately_gone or (plan.static and p.missing_reads == 1) for p in progress)


def _with_new_goals(plan: Plan, k: Knowledge, latest: Instance) -> Tuple[Knowledge, List[str]]:
    """Interfaces that were attached again meanwhile, and are in the backup that was read first; or that have another
    number now, since an earlier read lacked one."""
    assert k.first is not None
    if plan.static:
        goals = {} if _is_in_doubt(plan, k) else _static_groups(plan, latest)
    else:
        goals = groups_to_restore(latest, tags.read(k.first), plan.spec)
    known = {i: k.interfaces.get(i, Progress()) for i in goals}
    new = {i: replace(p, open_groups=goals[i]) for i, p in known.items() if p.open_groups != goals[i]}
    originals = k.backup.originals.updated({i: goals[i] for i in new})
    k = replace(k, interfaces=k.interfaces.updated(new), backup=replace(k.backup, originals=originals))
    return k, sorted(new)


def _wrong(k: Knowledge, latest: Instance) -> List[str]:
    """Attached interfaces that are not as they should be. Gone with its interface is a warning's matter."""
    return [
        i.id
        for i in latest.interfaces
        if i.id in k.interfaces and (i.groups != k.interfaces[i.id].open_groups or k.interfaces[i.id].failure)
    ]


def _to_retry(k: Knowledge, wrong: List[str], new: List[str]) -> List[str]:
    """What failed, at once; what was accepted and reads wrong, at the second such read, as the first may be stale."""
    failed = [i for i in wrong if k.interfaces[i].failure and i not in k.refused]
    twice = [i for i in wrong if k.interfaces[i].wrong_reads > 1]
    return sorted({*new, *failed, *twice})


def _why(k: Knowledge, latest: Optional[Instance]) -> Dict[str, str]:
    """What is known to be in the way, by this read and the latest attempts."""
    wrong = {i: f"reads {', '.join(sorted(latest.groups[i]))}" for i in _wrong(k, latest)} if latest else {}
    return {**wrong, **{i: p.failure.text for i, p in k.interfaces.items() if p.failure}}


def _restored(plan: Plan, k: Knowledge, latest: Instance, tick: Tick) -> Step:
    """All that can be restored is. The tags are deleted if that is all that has a backup."""
    if k.refused:
        failure = k.interfaces[min(k.refused)].failure
        assert failure is not None
        return fail(k, messages.not_restored(plan.id, _why(k, None), failure.category))
    if not k.interfaces and looks_fenced(plan, latest):  # the first read was stale: nothing may be forgotten
        return fail(k, messages.no_backup(plan.id))
    assert k.first is not None
    unreadable = {key for read in (k.first, latest) for key in unreadable_tags(read, plan.spec)}
    left = [] if plan.static or not unreadable else _left_isolated(plan, k, latest)
    if left:
        return fail(k, messages.unreadable_backup(plan.id, left, unreadable))
    mine = {key: v for key, v in tags.own(latest.tags, latest.id).items() if (key, v) in k.backup.history.tags}
    to_delete = {**leftovers(plan, k.first), **mine, **k.backup.claimed}  # the read may be older than the claim
    notes = _not_restored(plan, k, latest)
    k = replace(k, phase=Phase.DELETE)
    if not to_delete:
        step = _power(plan, k, tick)
        return replace(step, notes=(*notes, *step.notes))
    # What may fail must not take the time of what follows.
    ends = tick.now + (tick.reserve_ends - tick.now) / 2
    return Step(DeleteTags(plan.id, FrozenMap(to_delete)), k, ends, notes=notes)


def _left_isolated(plan: Plan, k: Knowledge, latest: Instance) -> List[str]:
    """The interfaces that are isolated still; without secg nobody can tell, so all that were not restored."""
    isolated = (i for i in latest.interfaces if matches_isolation(i.groups, plan.spec))
    unknown = (i for i in latest.interfaces if not plan.spec.secg and i.id not in k.interfaces)
    return [i.id for i in (*isolated, *unknown)]


def _not_restored(plan: Plan, k: Knowledge, latest: Instance) -> Notes:
    """What the proving read shows for the first time, and is left as it is."""
    assert k.first is not None
    unused = sorted(set(plan.static) - {i.number - 1 for i in latest.interfaces})
    gone = {i: p.open_groups for i, p in k.interfaces.items() if not p.accepted}
    came = [i for i in latest.interfaces if k.interfaces and i.id not in {*k.interfaces, *k.first.groups}]
    if plan.static:  # nothing was restored from the backup
        detached = _detached(plan, tags.read(k.first), {*latest.groups, *k.interfaces} - {*gone})
    else:
        detached = tuple(Note(WARNING, messages.detached(plan.id, i, g), FrozenMap({i: g})) for i, g in gone.items())
    return (
        *(Note(WARNING, messages.static_unused(plan.id, some)) for some in [unused] if some),
        *detached,
        *(Note(WARNING, messages.left_without_backup(plan.id, i.id, i.groups)) for i in came),
    )


def _deleted(plan: Plan, k: Knowledge, tick: Tick) -> Step:
    """Tell what was deleted; look back, as an ``off`` may have been in progress."""
    assert k.first is not None
    if k.failure is not None:
        note = Note(WARNING, messages.cleanup_failed(plan.id, k.failure.text))
    else:
        note = Note(INFO, messages.tags_deleted(plan.id, len(leftovers(plan, k.first))))
    deleted = k.failure is None or k.failure.outcome is Outcome.UNKNOWN  # perhaps
    if deleted and has_restorable_backup(plan, k.first):
        patience = tick.now + min(READ_AGAIN_SECONDS, max(0.0, tick.reserve_ends - tick.now) / 8)
        k = replace(k, phase=Phase.LOOK_BACK, timers=replace(k.timers, patience=patience))
        return Step(Read((plan.id,)), k, tick.now + (tick.reserve_ends - tick.now) / 2, notes=(note,))
    step = _power(plan, k, tick)
    return replace(step, notes=(note, *step.notes))


def _looked_back(plan: Plan, k: Knowledge, tick: Tick) -> Step:
    """The backup is gone: where an ``off`` isolated meanwhile, it is written again.

    A read that still shows what was deleted does not count; nor, for a while, one that shows isolation and no backup.
    """
    assert k.first is not None
    if k.backup.backups or k.backup.failure:  # it was written again, or cannot be
        return fail(k, messages.fenced_concurrently(plan.id))
    if k.failure is not None or k.latest is None:
        reason = k.failure.text if k.failure else "no read shows it"
        note = Note(WARNING, messages.off_not_excluded(plan.id, reason, k.backup.originals), k.backup.originals)
        step = _power(plan, k, tick)
        return replace(step, notes=(note, *step.notes))
    stale = set(tags.own(k.latest.tags, k.latest.id).items()) & k.backup.history.tags
    lost = _lost(plan, k, k.latest)
    if (stale or lost) and tick.now < k.timers.patience:
        return Step(Read((plan.id,)), k, tick.reserve_ends, backoff=True)
    if not lost:
        return _power(plan, k, tick)
    groups = {i: unfenced_groups(plan, k, i, g) for i, g in k.latest.groups.items()}
    k = replace(k, backup=replace(k.backup, originals=FrozenMap({**groups, **k.backup.originals})))
    try:
        return write_backup_again(plan, k, tick, tick.reserve_ends)
    except NoRoom as error:
        k, notes = without_room(plan, k, error)
        return replace(fail(k, messages.fenced_concurrently(plan.id)), notes=notes)


def _lost(plan: Plan, k: Knowledge, latest: Instance) -> List[str]:
    """Interfaces that an ``off`` isolated under the backup that is deleted now."""
    kept = groups_to_restore(latest, tags.read(latest), plan.spec)
    originals = k.backup.originals
    fenced = [i for i in latest.interfaces if set_by_fencer(i.groups, plan.spec)]
    return [i.id for i in fenced if i.id in originals and i.id not in kept and i.groups != originals[i.id]]


# --- an off came in between ------------------------------------------------------------------------------------


def _overtaken(plan: Plan, k: Knowledge, latest: Instance, tick: Tick) -> Step:
    """An ``off`` came in between, and takes precedence: isolate again what was opened, delete nothing, fail."""
    goals = {i: _closing_groups(plan, k, i, latest) for i in k.possibly_changed}
    progress = {i: replace(k.interfaces[i], goal=goal) for i, goal in goals.items()}
    k = replace(k, interfaces=k.interfaces.updated(progress))
    return start_reisolating(plan, k, tick, goals)


def _closing_groups(plan: Plan, k: Knowledge, interface: str, latest: Instance) -> Groups:
    """The groups that close what was opened: those that isolated it when it was read first, if they did; none for
    an interface of which nobody can tell what closes it."""
    assert k.first is not None
    shown = {i.id: i for i in (*latest.interfaces, *k.first.interfaces)}
    opened = k.interfaces[interface].open_groups
    before = shown.get(interface, Interface(interface, 0, NONE))
    if matches_isolation(before.groups, plan.spec):
        return before.groups
    goal = k.groups.of(plan.spec, replace(before, groups=opened)) if plan.spec.secg else NONE
    return goal or (before.groups if before.groups != opened else NONE)


def _reisolate(plan: Plan, k: Knowledge, tick: Tick) -> Step:
    def ending(left: FrozenSet[str]) -> Fail:
        return Fail.of(messages.still_open(plan.id, left) if left else messages.fenced_concurrently(plan.id))

    return reisolate(plan, k, tick, ending)


# --- power -----------------------------------------------------------------------------------------------------


def _power(plan: Plan, k: Knowledge, tick: Tick) -> Step:
    """The groups are back; go on with the power, if that is asked for."""
    k = replace(k, phase=Phase.POWER)
    return Step(Read((plan.id,)), k, tick.reserve_ends) if plan.power else Step(Succeed(), k)


def _last_look(plan: Plan, k: Knowledge, tick: Tick) -> Step:
    """Before any start: an ``off`` may have succeeded before the restore, if the read that proved that was stale."""
    if k.latest is not None and _fenced_since(k, k.latest) and _is_kept(plan, k, k.latest):
        return _overtaken(plan, k, k.latest, tick)
    return _powered(plan, replace(k, phase=Phase.START) if k.latest is not None else k, tick)


def _is_kept(plan: Plan, k: Knowledge, latest: Instance) -> bool:
    """Does a backup hold what was restored? This run has deleted its own. Whoever wrote another one is in progress:
    it reads the open groups, and isolates them itself."""
    kept = groups_to_restore(latest, tags.read(latest), plan.spec)
    changed = k.possibly_changed
    return bool(changed) and all(kept.get(i) == k.interfaces[i].open_groups for i in changed)


def _powered(plan: Plan, k: Knowledge, tick: Tick) -> Step:
    """Start a stopped instance; wait for one that is still stopping, or that EC2 starts. Repeatable.

    An ``off`` that began meanwhile isolates what it reads. Nothing is isolated for it: of so many reads one may be
    behind, and show a backup that was deleted since.

    A start that failed for now is tried again after a read only: an ``off`` may have succeeded since the last one.
    After one that EC2 has accepted there is no other: a read that shows the instance stopped may be behind, or an
    ``off`` relies on the stop. Or EC2 has stopped it again, as where it may not use the key of its volumes.
    """
    latest = k.latest
    if latest is not None and _fenced_since(k, latest):
        return fail(k, messages.not_started_fenced(plan.id, latest.state))
    state = latest.state if latest and k.reads.fresh else ""
    if state == "running" or (state == "pending" and tick.reserve_expired):  # some machines take minutes
        return Step(Succeed(), k)
    if state == "pending" or not (k.reads.fresh or k.failure):
        k = replace(k, ending=None, reads=replace(k.reads, started=True))
    if k.failure is not None:
        reason = k.failure.text
        if k.reads.started and latest and tick.reserve_expired:  # the reads before may say more
            reason += f"; before, {messages.start_not_finished(latest.state, tick.seconds)}"
        why = Fail.of(messages.not_started(plan.id, k.failure.category, reason))
        if k.reads.fresh or k.failure.outcome is Outcome.REFUSED:
            return Step((k.ending if k.reads.fresh else None) or why, k)
        k = replace(k, ending=k.ending if k.ending and tick.reserve_expired else why)
    if state in ("terminated", "shutting-down"):
        error = messages.terminated(plan.id)
        return fail(k, messages.not_started(plan.id, error.category, error.text))
    if tick.reserve_expired and (k.ending is not None or k.reads.started or latest is None):
        return Step(k.ending or _not_running(plan, state, tick), k)
    read_again = Step(Read((plan.id,)), k, tick.reserve_ends, backoff=True)
    if latest is None or not k.reads.fresh or k.reads.started:
        return read_again
    return _start(plan, k, latest, tick) or read_again


def _start(plan: Plan, k: Knowledge, latest: Instance, tick: Tick) -> Optional[Step]:
    """Start it, or fail; None if it is to be read again."""
    isolated = _isolated_again(plan, k)
    if isolated and all(k.interfaces[i].wrong_reads > 1 for i in isolated):
        reason = f"{', '.join(isolated)} is isolated again"
        return fail(k, messages.not_started(plan.id, Category.RESTORE, reason))
    if tick.reserve_expired:
        return Step(_not_running(plan, latest.state, tick), k)
    if latest.state == "stopped" and latest.hibernated:  # since the first read
        return fail(k, messages.not_started(plan.id, Category.STATE, messages.hibernated_since()))
    if latest.state == "stopped" and not isolated:
        note = Note(INFO, messages.starting(plan.id))
        return Step(StartInstance(plan.id), k, tick.reserve_ends, notes=(note,))
    return None


def _not_running(plan: Plan, state: str, tick: Tick) -> Fail:
    reason = messages.start_not_finished(state, tick.seconds)
    return Fail.of(messages.not_started(plan.id, Category.DEADLINE, reason))


def _isolated_again(plan: Plan, k: Knowledge) -> List[str]:
    """Interfaces that this run has restored and the latest read shows isolated: it is stale, or somebody did that."""
    shown = k.latest.groups if k.latest else {}
    wrong = {i: shown[i] for i, p in k.interfaces.items() if i in shown and shown[i] != p.open_groups}
    return [i for i, groups in wrong.items() if matches_isolation(groups, plan.spec)]


def _fenced_since(k: Knowledge, latest: Instance) -> bool:
    """Does this read show an ``off`` that began later? It may rely on the stop."""
    return k.backup.history.has_foreign_writes(latest, claims=False)


_PHASES: Dict[Phase, Callable[[Plan, Knowledge, Tick], Step]] = {
    Phase.FIRST: _first,
    Phase.AGAIN: _first,
    Phase.DOUBT: _first,
    Phase.CLAIM: _claimed,
    Phase.VERIFY: _verify,
    Phase.DELETE: _deleted,
    Phase.LOOK_BACK: _looked_back,
    Phase.REISOLATE: _reisolate,
    Phase.POWER: _last_look,
    Phase.START: _powered,
}
