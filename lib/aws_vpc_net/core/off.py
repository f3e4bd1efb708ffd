"""off: write the backup, prove it, isolate, prove that, each as a decision over what is known.

    read → refuse? → write the backup → read it back → [untrack] → isolate → read until all are isolated → wait → read

Until the backup is proven nothing has changed. From then on the original groups are in the tags, and whatever was
isolated half way reads as ON, so that the next ``off`` completes it or the next ``on`` brings it back.

``decide`` looks at the phase first; each phase is one function, which says what its possible ways out are. After a
change whose reply is lost, EC2 is read and the change is made again (``_retry``); what another ``off`` writes
meanwhile shows in that read as a tag that this run neither read first nor wrote, and makes it write its own backup
once more (``_backup_again``).

What ``observe`` makes of the results, as far as it matters here. All interfaces of a round are set at once, one
attempt each. A change without a reply is unknown: neither accepted nor refused. So it is made again however the
interface reads, and nothing is rolled back while any outcome is unknown; an accepted attempt settles that, a refused
one does not. A write leaves phase and latest read as they are, and marks ``rewritten`` until the next read. Writing
again beside another fencer is ``answered`` until groups are changed once more, and what it wrote is known from then
on. If it cannot be written, that is a warning, which names the original groups (a known limitation: the other may
roll back). ``opened``: by this run, to ``untrack_secg`` or back beside another fencer; whatever ends the run closes
that first (``end``), in the time between ``ends`` and ``reserve_ends``.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Callable, Container, Dict, FrozenSet, List, Mapping, Optional

from .. import messages
from ..errors import Category, FenceError
from . import backup as tags
from .isolating import (
    UNTRACK_ATTEMPTS,
    end,
    give_up_closing,
    is_shared,
    next_change,
    originals_in_doubt,
    reads_isolated,
    rollback_groups,
    start_round,
    without_room,
    write_backup_again,
)
from .isolation import (
    amend_backup,
    backup_groups,
    has_backup,
    has_groups_to_remove,
    is_untracking,
    isolated_without_backup,
    matches_isolation,
    set_by_fencer,
)
from .model import NONE, FrozenMap, Groups, Instance, Interface, IsolationSpec, tags_of
from .observe import LATE_SECONDS
from .protocol import (
    INFO,
    READ_ONCE_MORE_SECONDS,
    WARNING,
    BackupState,
    Change,
    Fail,
    Failure,
    Knowledge,
    LookUpGroups,
    Note,
    Notes,
    Outcome,
    Phase,
    Plan,
    Progress,
    Read,
    SetGroups,
    Settle,
    Step,
    Succeed,
    Tick,
    Untracking,
    WriteTags,
)
from .reisolating import reisolate, start_reisolating
from .settling import check_before, connect_before, possibly_tracked, watch, why_not_quiet
from .tag_slots import NoRoom, make_backup

# How long a read is repeated that shows interfaces isolated and no backup of that: groups may be behind by seconds
# while tags are not, as after an "on". Such a node is isolated, or an interface of it is so by nature.
DOUBT_SECONDS = 8.0
ROLLED_BACK_SECONDS = 2.0  # how long a read without any tags is repeated after a roll-back


def decide(plan: Plan, k: Knowledge, tick: Tick) -> Step:
    """The next step of ``off``; pure."""
    notes: Notes = ()
    if tick.reserve_expired:
        k, notes = give_up_closing(plan, k)
    step = _PHASES[k.phase](plan, k, tick)
    return replace(step, notes=(*notes, *step.notes))


# --- until the backup is proven: nothing has changed -----------------------------------------------------------


def _first(plan: Plan, k: Knowledge, tick: Tick) -> Step:
    """The first read, and all refusals."""
    if not k.reads.fresh:
        return Step(Read(plan.machines), k, tick.ends)
    if k.failure is not None:
        return _fail(k, k.failure.category, k.failure.text)
    if k.latest is None and k.phase is Phase.FIRST:
        wait = tick.now + READ_ONCE_MORE_SECONDS
        return Step(Read(plan.machines), replace(k, phase=Phase.AGAIN), tick.ends, not_before=wait)
    target = k.latest or k.first
    if target is None:
        return _refuse(k, messages.unknown_instance(plan.id))
    return _refuse_or_go_on(plan, k, target, tick)


def _refuse_or_go_on(plan: Plan, k: Knowledge, target: Instance, tick: Tick) -> Step:
    if target.terminated:
        return Step(Succeed(), k, notes=(Note(INFO, messages.already_terminated(plan.id)),))
    if target.state != "running" and not plan.ignore_instance_state:
        return _refuse(k, messages.not_running(plan.id, target.state))
    refusal = refused_interface(target)
    if refusal is not None:
        return _refuse(k, refusal)
    history = tags.read(target)
    unsure = isolated_without_backup(target, history, plan.spec)
    untracking = any(is_untracking(target.groups[i], plan.spec) for i in unsure)
    doubtful = unsure and (plan.spec.keep_only or untracking or not has_groups_to_remove(target, plan.spec))
    if doubtful and k.phase is not Phase.DOUBT:
        patience = tick.now + min(DOUBT_SECONDS, (tick.ends - tick.now) / 4)
        k = replace(k, phase=Phase.DOUBT, timers=replace(k.timers, patience=patience))
        return Step(Read((plan.id,)), k, tick.ends, backoff=True)
    if unsure and tick.now < k.timers.patience:
        return Step(Read((plan.id,)), k, tick.ends, backoff=True)
    if not has_groups_to_remove(target, plan.spec) and not has_backup(target, history, plan.spec):
        return _refuse(k, messages.nothing_to_remove(plan.id))
    return _choose_groups(plan, k, target, tick)


def refused_interface(target: Instance) -> Optional[FenceError]:
    """Why its interfaces cannot be isolated; None if they can."""
    if not target.interfaces:
        return messages.no_interfaces(target.id)
    for interface in target.interfaces:
        if interface.managed:
            return messages.managed_interface(target.id, interface.id)
        if interface.unfiltered:
            return messages.unfiltered_interface(target.id, interface.id, interface.kind)
        if not interface.groups:
            return messages.interface_without_groups(target.id, interface.id)
    return None


def _choose_groups(plan: Plan, k: Knowledge, target: Instance, tick: Tick) -> Step:
    """The groups that isolate each interface, and the original ones; the refusals that depend on them.

    Which of ``secg`` each can use is looked up now where interfaces are of several VPCs, and where a refusal would
    find the node open to everybody; else when EC2 refuses them.
    """
    spec = plan.spec
    several = len({i.vpc for i in target.interfaces}) > 1 or (spec.untrack is not None and len(spec.secg) > 1)
    if several and spec.keep_only and not k.groups.looked_up:
        return Step(LookUpGroups(spec.secg), replace(k, phase=Phase.LOOK_UP), tick.share(1 / 4))
    originals = backup_groups(target, tags.read(target), spec)
    # Another fencer may have isolated it since the first read, and an ``on`` have deleted that backup.
    assert k.first is not None
    before = k.first.groups
    seen = {i: before[i] for i, g in originals.items() if set_by_fencer(g, spec) and i in before}
    originals.update({i: g for i, g in seen.items() if not set_by_fencer(g, spec)})
    goals = {i.id: k.groups.of(spec, i, originals[i.id]) for i in target.interfaces}
    for interface in target.interfaces:
        if not goals[interface.id] and spec.keep_only:
            return _refuse(k, messages.no_group_in_vpc(target.id, interface.id, interface.vpc, spec.secg))
        if not goals[interface.id]:
            return _refuse(k, messages.nothing_left(target.id, interface.id, interface.groups))
    progress = FrozenMap({i: Progress(goal=g) for i, g in goals.items()})
    k = replace(k, interfaces=progress)
    return connect_before(plan, k, target, tick) or _write_first_backup(plan, k, target, originals, tick)


def _looked_up(plan: Plan, k: Knowledge, tick: Tick) -> Step:
    target = k.latest or k.first
    assert target is not None
    return _choose_groups(plan, k, target, tick)


def backup_is_optional(spec: IsolationSpec, static: Container[int], interfaces: int) -> bool:
    """Did the operator accept that the original groups may not be in the tags?"""
    return spec.without_backup or all(n in static for n in range(interfaces))


def _write_first_backup(
    plan: Plan, k: Knowledge, target: Instance, originals: Mapping[str, Groups], tick: Tick
) -> Step:
    """Write the backup of these groups; nothing has been changed so far."""
    optional = backup_is_optional(plan.spec, plan.static, len(target.interfaces))
    if k.phase is not Phase.BACKUP:  # in all, not longer than half of the time
        k = replace(k, phase=Phase.BACKUP, timers=replace(k.timers, patience=tick.share(1 / 2)))
    time = tags.next_time(tick.unix_time, target)
    try:
        backup = make_backup(target, originals, time, plan.spec, tick.nonce, k.backup.numbers)
    except NoRoom as error:
        refusal = messages.no_room(plan.id, error.needed, error.free)
        return _go_on_without(plan, k, tick, refusal.text) if optional else _refuse(k, refusal)
    ends = k.timers.patience if optional else tick.ends
    return Step(WriteTags(plan.id, backup.tags, backup), k, ends)


def _backup(plan: Plan, k: Knowledge, tick: Tick) -> Step:
    """Written: read until a read shows it and agrees with it."""
    optional = backup_is_optional(plan.spec, plan.static, len(k.interfaces))
    failure = k.failure or k.backup.failure
    if k.failure and k.failure.category is Category.SELF_FENCING:
        return _fail(k, k.failure.category, k.failure.text)
    if failure is not None:
        notes: Notes = ()
        if k.backup.failure is not None and k.backup.failure.unallowed:
            notes = (Note(WARNING, messages.tag_condition(plan.id, tags_of(k.latest).get("cluster"))),)
        step = _go_on_without(plan, k, tick, failure.text) if optional else _fail(k, failure.category, failure.text)
        return replace(step, notes=(*notes, *step.notes))
    ends = k.timers.patience if optional else tick.ends
    if k.backup.rewritten:  # since the latest read
        return Step(Read(plan.machines), k, ends)
    latest, written = k.latest, k.backup.latest
    assert written is not None
    if latest is not None and tags.is_visible(written, latest):
        others = tags.foreign_backups(latest, k.backup.written)
        amended = amend_backup(k.backup.originals, latest, others, plan.spec, k.backup.first_times, True)
        if amended is None:
            return _begin(plan, k, latest, tick)
        if tick.now < k.timers.patience:
            return _write_first_backup(plan, k, latest, amended, tick)
    if tick.now >= k.timers.patience:
        unverified = messages.backup_unverified(plan.id, "no group was changed")
        return _go_on_without(plan, k, tick, unverified.text) if optional else _refuse(k, unverified)
    if tick.now >= k.timers.rewrite:  # an "on" may have deleted it, or reads are behind
        if latest is not None and is_shared(k):  # or another fencer's backup stands in its keys
            return _write_first_backup(plan, k, latest, k.backup.originals, tick)
        return Step(WriteTags(plan.id, written.tags, written), k, ends)
    return Step(Read(plan.machines), k, ends, backoff=True)


def _go_on_without(plan: Plan, k: Knowledge, tick: Tick, reason: str) -> Step:
    """The operator accepts that there is no backup; this machine is looked at once more all the same."""
    note = Note(WARNING, messages.without_backup(plan.id, reason))
    k = replace(k, phase=Phase.WITHOUT_BACKUP, backup=BackupState(numbers=k.backup.numbers))
    k = replace(k, reads=replace(k.reads, failure=None))
    if plan.own:
        return Step(Read((plan.own,)), k, tick.ends, notes=(note,))
    step = _without_backup(plan, k, tick)
    return replace(step, notes=(note, *step.notes))


def _without_backup(plan: Plan, k: Knowledge, tick: Tick) -> Step:
    if k.failure is not None:
        return _fail(k, k.failure.category, k.failure.text)
    assert k.first is not None
    return _begin(plan, k, k.first, tick)


def _begin(plan: Plan, k: Knowledge, proving: Instance, tick: Tick) -> Step:
    """The backup is proven by this read: from here on groups change.

    Roll-back leads to the groups of this read. If another fencer had isolated an interface by then, it stays
    isolated; if not, that fencer sees our backup before it reports success.
    """
    shown = proving.groups
    to_untrack: FrozenSet[str] = frozenset()
    notes: List[Note] = []
    if plan.spec.untrack is None:
        notes.append(Note(WARNING, messages.established_may_survive(plan.id, plan.power)))
    elif k.backup.latest is None:
        notes.append(Note(WARNING, messages.untracking_skipped(plan.id)))
    else:  # what is isolated stays so: to open it again would undo a fence that was reported
        to_untrack = frozenset(i for i in k.interfaces if i in shown and not matches_isolation(shown[i], plan.spec))
        isolated = set(k.interfaces) - to_untrack
        notes += [Note(INFO, messages.not_opened_again(plan.id, isolated))] if isolated else []
    check = check_before(k, to_untrack, tick)
    if check is not None:
        return check
    progress = {
        i: replace(p, open_groups=shown.get(i, NONE), untracking=Untracking(needed=i in to_untrack))
        for i, p in k.interfaces.items()
    }
    assert k.first is not None
    # What the first read showed, and what this run wrote. All else is answered by writing once more.
    backup = replace(k.backup, history=k.backup.history.with_read(k.first))
    k = replace(k, interfaces=FrozenMap(progress), backup=backup)
    step = _change(plan, start_round(k, progress), tick)
    return replace(step, notes=(*notes, *step.notes))


# --- isolating, and the proof ----------------------------------------------------------------------------------


def _change(plan: Plan, k: Knowledge, tick: Tick) -> Step:
    """The rest of the round; then read what became of it, unless EC2 refused a change for good."""
    step = next_change(plan, k, tick)
    if step is not None:
        return step
    if k.refused:
        return _give_up(plan, k, tick)
    return Step(Read((plan.id,)), replace(k, phase=Phase.VERIFY), tick.ends)


def _verify(plan: Plan, k: Knowledge, tick: Tick) -> Step:
    """Converge on the goals; succeed only on a read that proves every interface isolated, made after all settled."""
    if k.failure is not None:
        why = messages.isolation_unverified(plan.id, FenceError(k.failure.category, k.failure.text), _why(plan, k))
        return end(plan, k, tick, Fail.of(why))
    latest = k.latest
    if latest is not None and latest.terminated:
        return Step(Succeed(), k, notes=(Note(INFO, messages.already_terminated(plan.id)),))
    if latest is not None:
        step = _backup_again(plan, k, latest, tick) or _adopt(plan, k, latest, tick) or _retry(plan, k, latest, tick)
        if step is not None:
            return step
        if _is_proven(plan, k, latest):
            return _proven(plan, k, tick)
    if tick.expired:
        why_not = _why(plan, k) or {"interfaces": "no read showed them"}
        return end(plan, k, tick, Fail.of(messages.not_isolated(plan.id, why_not)))
    return Step(Read((plan.id,)), k, tick.ends, backoff=True)


def _proven(plan: Plan, k: Knowledge, tick: Tick) -> Step:
    if k.reads.in_time:
        tracked = possibly_tracked(k)
        if tracked:
            return end(plan, k, tick, Fail.of(messages.possibly_tracked(plan.id, tracked, plan.settle_seconds)))
        return Step(Succeed(), k, notes=originals_in_doubt(plan, k))
    k = replace(k, phase=Phase.SETTLE)
    until = min(k.due, tick.now + LATE_SECONDS) if k.late(tick.now) else k.due
    return watch(k, tick) or Step(Settle(until), k, tick.ends)


def _settled(plan: Plan, k: Knowledge, tick: Tick) -> Step:
    """It was waited for the network, and the addresses are quiet: the read that counts is made then."""
    late = k.late(tick.now)
    if not tick.expired:
        step = watch(k, tick)
        watched = k.probe.addresses and not k.probe.unfinished(k.latest) and not late
        if step is None and watched and tick.now < k.due:
            step = Step(Settle(k.due), k, tick.ends)
        machines = plan.machines if k.probe.addresses else (plan.id,)
        return step or Step(Read(machines), replace(k, phase=Phase.VERIFY), tick.ends)
    why = dict.fromkeys(late, "a change to untrack_secg without a reply may still arrive")
    why = why or why_not_quiet(k) or {"the network": f"settle_time={plan.settle_seconds:g} was not over"}
    return end(plan, k, tick, Fail.of(messages.not_isolated(plan.id, why)))


def _open_now(plan: Plan, k: Knowledge, latest: Instance) -> List[str]:
    """The interfaces that this read does not show as done."""
    groups = latest.groups
    return [i for i, p in k.interfaces.items() if i in groups and not _is_done(plan, p, groups[i])]


def _is_done(plan: Plan, p: Progress, groups: Groups) -> bool:
    return p.accepted and not p.untracking.needed and matches_isolation(groups, plan.spec)


def _is_reopened(p: Progress) -> bool:
    return p.accepted and not p.untracking.needed


def _backup_again(plan: Plan, k: Knowledge, latest: Instance, tick: Tick) -> Optional[Step]:
    """Write the backup again where it has to be, once for each read; None if it has not.

    If reads lack it: an ``on`` that came in between has deleted it, or they are merely behind. It is written again at
    once, as until then the original groups may be nowhere; and every MISSING_SECONDS as long as it is lacking.

    If another fencer wrote a backup of its own: that one may be refused and roll back. It does so only while no
    backup but its own stands. Once after each change is enough: whoever writes after this read has a proving read
    that shows our isolation, and that is what it would roll back to.

    If an interface was opened again: whoever opened it, an ``on``, has read the backup under which it was isolated,
    and is about to delete it.
    """
    if k.backup.latest is None or k.backup.rewritten:
        return None
    foreign = not k.backup.answered and k.backup.history.has_foreign_writes(latest)
    lacking = k.backup.missing and tick.now >= k.timers.rewrite
    if not (foreign or lacking or _must_precede(plan, k, latest)):
        return None
    try:
        return write_backup_again(plan, k, tick)
    except NoRoom as error:
        k, notes = without_room(plan, k, error)
        step = _verify(plan, k, tick)
        return replace(step, notes=(*notes, *step.notes))


def _must_precede(plan: Plan, k: Knowledge, latest: Instance) -> bool:
    """Must a newer backup be there before the next change of groups?"""
    current = [b.time for b in k.backup.backups[-1:]]
    open_now = [k.interfaces[i] for i in _open_now(plan, k, latest)]
    reopened_under_it = any(_is_reopened(p) and p.under in current for p in open_now)
    return reopened_under_it or (k.backup.missing and any(not _is_reopened(p) or p.wrong_reads > 1 for p in open_now))


def _retry(plan: Plan, k: Knowledge, latest: Instance, tick: Tick) -> Optional[Step]:
    """Set again what has to be; None if nothing has.

    What was not accepted, at once. What was accepted and reads open: at the second such read, as the first may be
    stale. Nothing behind a read that shows no backup of ours, or before a newer one is there that has to be.
    """
    open_now = _open_now(plan, k, latest)
    spent = [i for i in open_now if _cannot_untrack(plan, k, i)]
    if spent and len(spent) == len(open_now):
        return end(plan, k, tick, Fail.of(messages.not_untracked(plan.id, spent)))
    if _must_precede(plan, k, latest):
        return None
    progress = k.interfaces
    todo = [i for i in open_now if not _is_reopened(progress[i]) or progress[i].wrong_reads > 1]
    todo = [i for i in todo if i not in spent]
    unproven = [i for i in todo if not _has_visible_backup(k, latest, i)]
    notes: Notes = ()
    if unproven and k.backup.failure is not None:
        if not backup_is_optional(plan.spec, plan.static, len(k.interfaces)):
            return end(plan, k, tick, Fail(k.backup.failure.category, k.backup.failure.text))
        notes = (Note(WARNING, messages.without_backup(plan.id, k.backup.failure.text)),)
    else:
        todo = [i for i in todo if i not in unproven]
    if not todo or tick.expired:
        return None
    step = _change(plan, start_round(k, todo), tick)
    return replace(step, backoff=True, notes=(*notes, *step.notes))


def _cannot_untrack(plan: Plan, k: Knowledge, interface: str) -> bool:
    """Is it isolated, but could not be untracked as often as it may be tried?"""
    p = k.interfaces[interface]
    if not (p.accepted and reads_isolated(plan, k, interface)):
        return False
    return p.untracking.attempts >= UNTRACK_ATTEMPTS or is_shared(k)


def _has_visible_backup(k: Knowledge, latest: Instance, interface: str) -> bool:
    """Are its original groups in a backup that a read has shown? Of one that appeared meanwhile, this read must."""
    if k.interfaces[interface].outcome is not None:
        return True
    return any(interface in b.originals and tags.is_visible(b, latest) for b in k.backup.backups[-1:])


def _adopt(plan: Plan, k: Knowledge, latest: Instance, tick: Tick) -> Optional[Step]:
    """Interfaces that appeared meanwhile: into the backup, then isolated like the others. None if there are none."""
    new = [i for i in latest.interfaces if i.id not in k.interfaces]
    if not new:
        return None
    note = Note(WARNING, messages.appeared(plan.id, (i.id for i in new)))
    seen = replace(latest, tags={**tags_of(k.first), **latest.tags})  # this read may lack tags
    groups = backup_groups(seen, tags.read(seen), plan.spec)
    originals = {i.id: groups[i.id] for i in new}
    current = k.backup.latest
    untrack = plan.spec.untrack is not None and current is not None
    progress = {i.id: _adopted(plan, k, i, originals[i.id], untrack) for i in new}
    for i in new:
        if i.managed or i.unfiltered or not i.groups or not progress[i.id].goal:
            step = end(plan, k, tick, Fail.of(messages.cannot_isolate_new_interface(plan.id, i.id)))
            return replace(step, notes=(note, *step.notes))
    k = replace(k, interfaces=k.interfaces.updated(progress))
    k = replace(k, backup=replace(k.backup, originals=k.backup.originals.updated(originals)))
    if current is None:
        step = _change(plan, start_round(k, originals), tick)
        return replace(step, notes=(note, *step.notes))
    known = Instance(latest.id, latest.state, latest.interfaces, {**latest.tags, **current.tags})  # it may be stale
    try:
        added = make_backup(known, originals, current.time, plan.spec, tick.nonce)
    except NoRoom as error:
        told = messages.no_room(plan.id, error.needed, error.free)
        failure = Failure(Outcome.REFUSED, told.category, told.text)
        step = _verify(plan, replace(k, backup=replace(k.backup, failure=failure)), tick)
        return replace(step, notes=(note, *step.notes))
    both = tags.Backup(current.time, current.tags.updated(added.chunks), current.originals.updated(originals))
    return Step(WriteTags(plan.id, FrozenMap(added.chunks), both), k, tick.ends, notes=(note,))


def _adopted(plan: Plan, k: Knowledge, new: Interface, originals: Groups, untrack: bool) -> Progress:
    """What is known of an interface that appeared meanwhile."""
    needed = untrack and not matches_isolation(new.groups, plan.spec)
    goal = k.groups.of(plan.spec, new, originals)
    return Progress(goal=goal, open_groups=new.groups, untracking=Untracking(needed=needed))


def _is_proven(plan: Plan, k: Knowledge, latest: Instance) -> bool:
    """Does this read prove it? Every interface accepted and isolated, and nothing that another read would decide."""
    undecided = k.backup.rewritten or (k.backup.missing and k.backup.failure is None)
    lately_gone = any(p.lately_gone for p in k.interfaces.values())
    return not undecided and not lately_gone and not _open_now(plan, k, latest) and _reads_off(plan, k, latest)


def _reads_off(plan: Plan, k: Knowledge, latest: Instance) -> bool:
    """Does all but the groups read as ``status`` asks for: interfaces, and in removal mode a backup of that?"""
    return bool(latest.interfaces) and not _nothing_removed(plan, k, latest)


def _nothing_removed(plan: Plan, k: Knowledge, latest: Instance) -> bool:
    exempt = plan.spec.without_backup or k.backup.latest is None or k.backup.missing
    return not exempt and not has_backup(latest, tags.read(latest), plan.spec)


def _why(plan: Plan, k: Knowledge) -> Dict[str, str]:
    """What is known to be in the way, by the latest attempts and the latest read."""
    groups = k.latest.groups if k.latest else {}
    open_now = _open_now(plan, k, k.latest) if k.latest else []
    why = {i: f"reads {', '.join(sorted(groups[i]))}" for i in open_now}
    why.update({i: p.failure.text for i, p in k.interfaces.items() if p.failure})
    if k.backup.missing or k.backup.rewritten:
        why["its backup"] = "cannot be rewritten" if k.backup.failure else "no read shows it"
    elif k.latest is not None and _nothing_removed(plan, k, k.latest):
        why["its backup"] = "the attached interfaces had no group of secg"
    return why


# --- giving up -------------------------------------------------------------------------------------------------


def _refusals(k: Knowledge) -> Dict[str, FenceError]:
    refusals = {}
    for i in sorted(k.refused):
        failure = k.interfaces[i].failure
        assert failure is not None
        refusals[i] = FenceError(failure.category, failure.text)
    return refusals


def _give_up(plan: Plan, k: Knowledge, tick: Tick) -> Step:
    """EC2 refused a change for good: roll back what may be rolled back, and fail."""
    refusals = _refusals(k)
    if not k.possibly_changed and not any(p.untracking.attempts for p in k.interfaces.values()):
        category = next(iter(refusals.values())).category
        return end(plan, k, tick, Fail.of(messages.refused_all(plan.id, refusals, category)))
    until = max((p.untracking.late_until for p in k.interfaces.values()), default=0.0)
    k = replace(k, phase=Phase.GIVE_UP)
    return Step(Read((plan.id,)), k, tick.reserve_ends, not_before=until)


def _left(plan: Plan, k: Knowledge, tick: Tick, reason: str) -> Step:
    """Fail; what was isolated stays so, for this reason."""
    return end(plan, k, tick, Fail.of(messages.partly_isolated(plan.id, _refusals(k), k.possibly_changed, reason)))


def _give_up_read(plan: Plan, k: Knowledge, tick: Tick) -> Step:
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
    """What stays isolated must not be without a backup, which an ``on`` may have deleted; and what this run left open
    to everybody is isolated in any case, or gets back the groups that it had if EC2 refused that."""
    latest = k.latest
    if latest is None:
        return _left(plan, k, tick, reason)
    if k.backup.missing and not k.backup.rewritten:
        try:
            return write_backup_again(plan, k, tick, tick.reserve_ends)
        except NoRoom as error:
            k, notes = without_room(plan, k, error)
            step = _secure(plan, k, tick, reason)
            return replace(step, notes=(*notes, *step.notes))
    groups = latest.groups
    left = {
        i: replace(p, untracking=replace(p.untracking, opened=True))
        for i, p in k.interfaces.items()
        if p.untracking.attempts and is_untracking(groups.get(i, NONE), plan.spec)
    }
    return _left(plan, replace(k, interfaces=k.interfaces.updated(left)), tick, reason)


def _rolled_back(plan: Plan, k: Knowledge, tick: Tick) -> Step:
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


def _reisolate(plan: Plan, k: Knowledge, tick: Tick) -> Step:
    def ending(left: FrozenSet[str]) -> Fail:
        reason = "a concurrent fencer was detected"
        reason += ", and the restored interfaces were NOT isolated again" if left else ""
        return Fail.of(messages.partly_isolated(plan.id, _refusals(k), k.reopened, reason))

    return reisolate(plan, k, tick, ending)


def _fail(k: Knowledge, category: Category, text: str) -> Step:
    """Fail; this run has changed no group."""
    return Step(Fail(category, text), k)


def _refuse(k: Knowledge, error: FenceError) -> Step:
    return Step(Fail.of(error), k)


def _end(plan: Plan, k: Knowledge, tick: Tick) -> Step:
    assert k.ending is not None
    return end(plan, k, tick, k.ending)


_PHASES: Dict[Phase, Callable[[Plan, Knowledge, Tick], Step]] = {
    Phase.FIRST: _first,
    Phase.AGAIN: _first,
    Phase.DOUBT: _first,
    Phase.LOOK_UP: _looked_up,
    Phase.BACKUP: _backup,
    Phase.WITHOUT_BACKUP: _without_backup,
    Phase.CHANGE: _change,
    Phase.VERIFY: _verify,
    Phase.SETTLE: _settled,
    Phase.GIVE_UP: _give_up_read,
    Phase.ROLL_BACK: _rolled_back,
    Phase.REISOLATE: _reisolate,
    Phase.END: _end,
}
