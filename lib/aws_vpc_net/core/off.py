"""off: write the backup, prove it, isolate, prove that. Each step is a decision based on what is known.

    read → refuse? → write the backup → read it back → [untrack] → isolate → read until all are isolated
         → [stop] → wait → read [until it has stopped]

``decide`` selects a function by the phase. Each function lists its possible ways out.

- backing_up.py: until the backup is proven. No group is changed before that.
- this module: changing groups, and the proof. A run that fails or is interrupted leaves its backup in the tags. Its
  interfaces may be open, isolated, or unknown (a reply was lost); ``status`` shows ON unless all read isolated. The
  next ``off`` completes it, or the next ``on`` restores it.
- rolling_back.py: after EC2 has refused a change permanently.
- stopping.py: the stop, if success requires it.

**A lost reply.** All interfaces of a round are changed at the same time, with one attempt each. The outcome of a
change without a reply is unknown: it may have taken effect, or may do so until ``api_timeout`` is over
(``k.timers.arrived``). It does not count as accepted, however the interface reads. ``_verify`` reads, and ``_retry``
repeats the change after each read, until

- EC2 accepts an attempt. Success is possible now, but the read that proves it (``k.reads.in_time``) is made after
  ``arrived``: a late request would isolate again what an ``on`` restores after this success;
- EC2 refuses one for good. The outcome of the lost one stays unknown, so nothing is rolled back: ``give_up`` reads,
  writes the backup again if the read lacks it or an ``on`` has claimed it, and fails. What is isolated stays so;
- the deadline is over (``tick.expired``). It fails, and all stays as it is, but for what this run has opened (below).

**Another ``off`` at the same time.** It writes a backup of its own. The reads of this run show that as tags that it
neither wrote nor read at first. Then ``_backup_again`` writes this run's backup once more, under a new time, before
``_retry`` repeats any change (it does not wait for a read of that backup; success does), and once after each round
of changes, whatever their outcome (``answered``, which each change clears). The other fencer, if EC2 refuses a change
of it, rolls back only if a read shows no tags but its own and those of its first read, which may include this run's
first backup: hence the new time. It reads after the refusal, and looks again after the roll-back (rolling_back.py):
what it has opened beside a newer backup, it isolates again. If the backup cannot be written again, a warning names
the original groups (a known limitation: the other fencer may roll back).

**What is known of the backup.** ``missing``: reads lack it, and it was not written since. ``rewritten``: it was tried
to write it again since the latest read. ``failure``: of the latest such attempt. Success needs a read after each
write.

**When success is possible.** ``k.due`` is the latest of ``settled``, ``arrived``, and the end of what a lost change
to ``untrack_secg`` may still open (``k.late``). ``k.latest`` is the latest read, and ``k.failure`` its failure.

**What this run has opened** (``opened``), by ``untrack_secg`` or by a roll-back beside another fencer, is isolated
before the run ends, whatever ends it (``end``). The time between ``ends`` and ``reserve_ends`` is kept for that.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Callable, Dict, FrozenSet, List, Optional

from .. import messages
from ..errors import FenceError
from . import backing_up, stopping
from . import backup as tags
from .backing_up import Proven
from .isolating import (
    UNTRACK_ATTEMPTS,
    end,
    give_up_closing,
    is_shared,
    next_change,
    original_groups,
    originals_in_doubt,
    reads_isolated,
    start_round,
    without_room,
    write_backup_again,
)
from .isolation import (
    backup_is_optional,
    has_backup,
    matches_isolation,
)
from .model import NONE, FrozenMap, Groups, Instance, Interface, tags_of
from .observe import LATE_SECONDS
from .protocol import (
    INFO,
    WARNING,
    Fail,
    Failure,
    Knowledge,
    Note,
    Notes,
    Opening,
    Outcome,
    Phase,
    Plan,
    Progress,
    Read,
    Settle,
    Step,
    Succeed,
    Tick,
    WriteTags,
)
from .rolling_back import after_refusal, give_up, look_again, reisolate_reopened
from .settling import check_before, possibly_tracked, watch, why_not_quiet
from .tag_slots import NoRoom, make_backup


def decide(plan: Plan, k: Knowledge, tick: Tick) -> Step:
    """The next step of ``off``; pure."""
    notes: Notes = ()
    if tick.reserve_expired:
        k, notes = give_up_closing(plan, k)
    step = _PHASES[k.phase](plan, k, tick)
    return replace(step, notes=(*notes, *step.notes))


def _prepare(plan: Plan, k: Knowledge, tick: Tick) -> Step:
    """Write the backup; as soon as it is proven, begin to change groups."""
    prepared = backing_up.prepare(plan, k, tick)
    return _begin(plan, prepared, tick) if isinstance(prepared, Proven) else prepared


def _begin(plan: Plan, proven: Proven, tick: Tick) -> Step:
    """From here on groups are changed.

    Roll-back leads to the groups of the proving read. If another fencer had isolated an interface by then, it stays
    isolated; if not, that fencer sees our backup before it reports success.
    """
    k, shown = proven.knowledge, proven.read.groups
    to_untrack: FrozenSet[str] = frozenset()
    notes = [*proven.notes]
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
        return replace(check, notes=proven.notes)
    progress = {
        i: replace(p, open_groups=shown.get(i, NONE), opening=Opening(untrack_due=i in to_untrack))
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
        return give_up(plan, k, tick)
    return Step(Read((plan.id,)), replace(k, phase=Phase.VERIFY), tick.ends)


def _verify(plan: Plan, k: Knowledge, tick: Tick) -> Step:
    """Converge on the goals; succeed only on a read that proves every interface isolated, made after all settled."""
    if k.failure is not None:
        why = messages.isolation_unverified(plan.id, FenceError(k.failure.category, k.failure.text), _why(plan, k))
        return end(plan, k, tick, Fail.of(why))
    latest = k.latest
    if latest is not None and latest.terminated:
        return Step(Succeed(), k, notes=(Note(INFO, messages.terminated_meanwhile(plan.id)),))
    if latest is not None:
        step = _backup_again(plan, k, latest, tick) or _adopt(plan, k, latest, tick) or _retry(plan, k, latest, tick)
        if step is not None:
            return step
        if _is_proven(plan, k, latest):
            return _proven(plan, k, latest, tick)
    if tick.expired:
        why_not = _why(plan, k) or {"interfaces": "no read showed them"}
        return end(plan, k, tick, Fail.of(messages.not_isolated(plan.id, why_not)))
    return Step(Read((plan.id,)), k, tick.ends, backoff=True)


def _proven(plan: Plan, k: Knowledge, latest: Instance, tick: Tick) -> Step:
    if k.reads.in_time:
        tracked = possibly_tracked(k)
        if tracked:
            return end(plan, k, tick, Fail.of(messages.possibly_tracked(plan.id, tracked, plan.settle_seconds)))
    stop = stopping.request(plan, k, latest, tick)
    if stop is not None:
        return stop
    if k.reads.in_time and not stopping.is_off(plan, latest):
        return stopping.wait(plan, k, latest, tick)
    if k.reads.in_time:
        return Step(Succeed(), k, notes=originals_in_doubt(plan, k))
    k = replace(k, phase=Phase.SETTLE)
    until = min(k.due, tick.now + LATE_SECONDS) if k.late(tick.now) else k.due
    return watch(k, tick) or Step(Settle(until), k, tick.ends)


def _settled(plan: Plan, k: Knowledge, tick: Tick) -> Step:
    """It was waited for the network, and the addresses are quiet: the read that counts is made then."""
    late = k.late(tick.now)
    if not tick.expired:
        step = watch(k, tick)
        watched = k.probe.addresses and not k.probe.unfinished(k.latest)
        if step is None and watched and tick.now < k.due:
            step = Step(Settle(k.due), k, tick.ends)
        machines = plan.machines if k.probe.addresses else (plan.id,)
        return step or Step(Read(machines), replace(k, phase=Phase.VERIFY), tick.ends)
    why = dict.fromkeys(late, "a change to untrack_secg without a reply may still arrive")
    settling = f"settle_time={plan.settle_seconds:g} was not over"
    arriving = "a change without a reply may still arrive"
    pending = arriving if k.timers.arrived > k.timers.settled else settling
    why = why or why_not_quiet(k) or {"the network": pending}
    return end(plan, k, tick, Fail.of(messages.not_isolated(plan.id, why)))


def _open_now(plan: Plan, k: Knowledge, latest: Instance) -> List[str]:
    """The interfaces that this read does not show as done: what EC2 has not accepted, too, however it reads."""
    groups = latest.groups
    return [i for i, p in k.interfaces.items() if i in groups and not _is_done(plan, p, groups[i])]


def _is_done(plan: Plan, p: Progress, groups: Groups) -> bool:
    return _is_accepted(p) and matches_isolation(groups, plan.spec)


def _is_accepted(p: Progress) -> bool:
    """Has EC2 accepted to isolate it, and this run has no more to do? Then what reads open was opened again."""
    return p.accepted and not p.opening.untrack_due


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
    reopened_under_it = any(_is_accepted(p) and p.under in current for p in open_now)
    return reopened_under_it or (k.backup.missing and any(not _is_accepted(p) or p.wrong_reads > 1 for p in open_now))


def _retry(plan: Plan, k: Knowledge, latest: Instance, tick: Tick) -> Optional[Step]:
    """Set again what has to be; None if nothing has.

    What was not accepted (refused temporarily, reply lost), at once, even if it reads isolated. What was accepted and
    reads open: at the second such read, as the first may be stale. An interface that was not tried yet is set once a
    read shows its backup. Nothing is set before a newer backup is written, if one has to be (``_must_precede``).
    """
    open_now = _open_now(plan, k, latest)
    spent = [i for i in open_now if _cannot_untrack(plan, k, i)]
    if spent and len(spent) == len(open_now):
        return end(plan, k, tick, Fail.of(messages.not_untracked(plan.id, spent)))
    if _must_precede(plan, k, latest):
        return None
    progress = k.interfaces
    todo = [i for i in open_now if not _is_accepted(progress[i]) or progress[i].wrong_reads > 1]
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
    return p.opening.untrack_attempts >= UNTRACK_ATTEMPTS or is_shared(k)


def _has_visible_backup(k: Knowledge, latest: Instance, interface: str) -> bool:
    """Are its original groups in a backup that a read has shown? Of one that appeared meanwhile, this read must."""
    if k.interfaces[interface].outcome is not None:
        return True
    return any(interface in b.originals and tags.is_visible(b, latest) for b in k.backup.backups)


def _adopt(plan: Plan, k: Knowledge, latest: Instance, tick: Tick) -> Optional[Step]:
    """Interfaces that appeared meanwhile: into the backup, then isolated like the others. None if there are none."""
    new = [i for i in latest.interfaces if i.id not in k.interfaces]
    if not new:
        return None
    note = Note(WARNING, messages.appeared(plan.id, (i.id for i in new)))
    current = k.backup.latest
    if current is None and not backup_is_optional(plan.spec, plan.static, len(k.interfaces) + len(new)):
        step = end(plan, k, tick, Fail.of(messages.appeared_without_backup(plan.id, (i.id for i in new))))
        return replace(step, notes=(note, *step.notes))
    seen = replace(latest, tags={**tags_of(k.first), **latest.tags})  # this read may lack tags
    groups = original_groups(plan, k, seen)
    originals = {i.id: groups[i.id] for i in new}
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
        added = make_backup(known, originals, current.time, plan.spec, tick.nonce, reserve=0, shown=latest)
    except NoRoom as error:
        refusal = messages.no_room(plan.id, error.needed, error.free)
        failure = Failure(Outcome.REFUSED, refusal.category, refusal.text)
        step = _verify(plan, replace(k, backup=replace(k.backup, failure=failure)), tick)
        return replace(step, notes=(note, *step.notes))
    both = tags.Backup(current.time, current.tags.updated(added.chunks), current.originals.updated(originals))
    return Step(WriteTags(plan.id, FrozenMap(added.chunks), both), k, tick.ends, notes=(note,))


def _adopted(plan: Plan, k: Knowledge, new: Interface, originals: Groups, untrack: bool) -> Progress:
    """What is known of an interface that appeared meanwhile."""
    needed = untrack and not matches_isolation(new.groups, plan.spec)
    goal = k.groups.of(plan.spec, new, originals)
    return Progress(goal=goal, open_groups=new.groups, opening=Opening(untrack_due=needed))


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
    why = {i: _why_open(k.interfaces[i], groups[i]) for i in open_now if not _is_unread(k.interfaces[i])}
    why.update({i: p.failure.text for i, p in k.interfaces.items() if p.failure})
    if k.backup.missing or k.backup.rewritten:
        why["its backup"] = "cannot be rewritten" if k.backup.failure else "no read shows it"
    elif k.latest is not None and _nothing_removed(plan, k, k.latest):
        why["its backup"] = "the attached interfaces had no group of secg"
    if k.reads.stop_requested and k.latest is not None and not stopping.is_off(plan, k.latest):
        why["its stop"] = messages.showed(k.latest.state)
    return why


def _is_unread(p: Progress) -> bool:
    """Has no read shown its groups since its isolation was accepted, and is that all that is left?"""
    return _is_accepted(p) and not p.wrong_reads


def _why_open(p: Progress, groups: Groups) -> str:
    """Why it does not count as done."""
    untrack_left = p.accepted and not p.wrong_reads
    return messages.not_passed_through() if untrack_left else f"reads {', '.join(sorted(groups))}"


def _end(plan: Plan, k: Knowledge, tick: Tick) -> Step:
    assert k.ending is not None
    return end(plan, k, tick, k.ending)


_PHASES: Dict[Phase, Callable[[Plan, Knowledge, Tick], Step]] = {
    **dict.fromkeys(backing_up.PHASES, _prepare),
    Phase.CHANGE: _change,
    Phase.VERIFY: _verify,
    Phase.STOP: stopping.requested,
    Phase.SETTLE: _settled,
    Phase.GIVE_UP: after_refusal,
    Phase.ROLL_BACK: look_again,
    Phase.REISOLATE: reisolate_reopened,
    Phase.END: _end,
}
