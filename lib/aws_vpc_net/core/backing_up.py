"""The first part of off, in which no group is changed: read, refuse, write the backup, read it back.

    read → refuse? → write the backup → read it until it is proven

The backup is proven by a read that shows it and agrees with it. If it cannot be written, ``off`` fails; it continues
only if the operator accepts that there is no backup.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Callable, Dict, Mapping, Optional, Union

from .. import messages
from ..errors import Category, FenceError
from . import backup as tags
from .isolating import is_shared, original_groups
from .isolation import (
    amend_backup,
    backup_is_optional,
    fencer_is_fenced,
    has_backup,
    has_groups_to_remove,
    is_untracking,
    isolated_without_backup,
    matches_isolation,
)
from .model import FrozenMap, Groups, Instance, IsolationSpec, tags_of
from .protocol import (
    READ_ONCE_MORE_SECONDS,
    WARNING,
    BackupState,
    Knowledge,
    LookUpGroups,
    Note,
    Notes,
    Phase,
    Plan,
    Progress,
    Read,
    Step,
    Succeed,
    Tick,
    WriteTags,
    fail,
)
from .settling import connect_before
from .stopping import MAY_STOP
from .tag_slots import NoRoom, make_backup, unreadable_tags

# How long a read is repeated that shows interfaces isolated and no backup of that: groups may be behind by seconds
# while tags are not, as after an "on". Such a node is isolated, or an interface of it is so by nature.
DOUBT_SECONDS = 8.0


@dataclass(frozen=True)
class Proven:
    """Groups may be changed now: this read proves the backup, or the operator accepts that there is none."""

    knowledge: Knowledge
    read: Instance
    notes: Notes = ()


Prepared = Union[Step, Proven]


def prepare(plan: Plan, k: Knowledge, tick: Tick) -> Prepared:
    """The next step of this part; or its end."""
    return PHASES[k.phase](plan, k, tick)


def _first(plan: Plan, k: Knowledge, tick: Tick) -> Prepared:
    """The first read, and all refusals."""
    if not k.reads.fresh:
        return Step(Read(plan.machines), k, tick.ends)
    if k.failure is not None:
        return fail(k, k.failure)
    if k.phase is Phase.FIRST and (k.latest is None or k.latest.lost_names):  # a stale view, perhaps
        wait = tick.now + READ_ONCE_MORE_SECONDS
        return Step(Read(plan.machines), replace(k, phase=Phase.AGAIN), tick.ends, not_before=wait)
    target = k.latest or k.first
    if target is None:
        return fail(k, messages.unknown_instance(plan.id))
    return _refuse_or_continue(plan, k, target, tick)


def _refuse_or_continue(plan: Plan, k: Knowledge, target: Instance, tick: Tick) -> Prepared:
    if target.terminated:
        return Step(Succeed(), k, notes=(Note(WARNING, messages.already_terminated(plan.id)),))
    if target.lost_names:
        return fail(k, messages.lost_names(plan.id, target.lost_names))
    if target.state != "running" and not (
        plan.ignore_instance_state or is_stopped_by_off(target, plan.spec, plan.power)
    ):
        return fail(k, messages.not_running(plan.id, target.state))
    refusal = refused_interface(target)
    if refusal is not None:
        return fail(k, refusal)
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
        return fail(k, messages.nothing_to_remove(plan.id))
    unreadable = unreadable_tags(target, plan.spec) if unsure else ()
    prepared = _choose_groups(plan, k, target, tick)
    notes = (Note(WARNING, messages.unreadable_tags(plan.id, unsure, unreadable)),) if unreadable else ()
    return replace(prepared, notes=(*notes, *prepared.notes))


def is_stopped_by_off(target: Instance, spec: IsolationSpec, poweroff: bool) -> bool:
    """Is it in the state that a stop leads to, and isolated with a backup? Then an ``off`` is repeated that failed
    after it had requested the stop."""
    return poweroff and target.state in MAY_STOP and fencer_is_fenced(target, tags.read(target), spec)


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


def _choose_groups(plan: Plan, k: Knowledge, target: Instance, tick: Tick) -> Prepared:
    """The groups that isolate each interface, and the original ones; the refusals that depend on them.

    Which of ``secg`` each can use is looked up now where interfaces are of several VPCs, and where a refusal would
    find the node open to everybody and is to be expected: of several groups one may be gone, and after an ``off``
    that failed the only one. Else when EC2 refuses them.
    """
    spec = plan.spec
    several = len({i.vpc for i in target.interfaces}) > 1 or (spec.untrack is not None and len(spec.secg) > 1)
    if (several or opens_after_another_off(plan, target)) and spec.keep_only and not k.groups.looked_up:
        return Step(LookUpGroups(spec.secg), replace(k, phase=Phase.LOOK_UP), tick.share(1 / 4))
    # Another fencer may have isolated it since the first read, and an ``on`` have deleted that backup.
    originals = original_groups(plan, k, target)
    goals = {i.id: k.groups.of(spec, i, originals[i.id]) for i in target.interfaces}
    for interface in target.interfaces:
        if not goals[interface.id] and spec.keep_only:
            if not k.groups.vpcs:
                return fail(k, messages.no_isolation_group(target.id, spec.secg))
            return fail(k, messages.no_group_in_vpc(target.id, interface.id, interface.vpc, spec.secg))
        if not goals[interface.id]:
            return fail(k, messages.nothing_left(target.id, interface.id, interface.groups))
    progress = FrozenMap({i: Progress(goal=g) for i, g in goals.items()})
    k = replace(k, interfaces=progress)
    return connect_before(plan, k, target, tick) or _write_first_backup(plan, k, target, originals, tick)


def opens_after_another_off(plan: Plan, target: Instance) -> bool:
    """Is ``untrack_secg`` to be set, and has an ``off`` written a backup before? It may have failed to isolate."""
    is_open = any(not matches_isolation(i.groups, plan.spec) for i in target.interfaces)
    return plan.spec.untrack is not None and is_open and bool(tags.own(target.tags, target.id))


def _looked_up(plan: Plan, k: Knowledge, tick: Tick) -> Prepared:
    target = k.latest or k.first
    assert target is not None
    return _choose_groups(plan, k, target, tick)


def _write_first_backup(
    plan: Plan, k: Knowledge, target: Instance, originals: Mapping[str, Groups], tick: Tick
) -> Prepared:
    """Write the backup of these groups; nothing has been changed so far."""
    optional = backup_is_optional(plan.spec, plan.static, len(target.interfaces))
    if k.phase is not Phase.BACKUP:  # in all, not longer than half of the time
        k = replace(k, phase=Phase.BACKUP, timers=replace(k.timers, patience=tick.share(1 / 2)))
    time = tags.next_time(tick.unix_time, target)
    try:
        backup = make_backup(target, originals, time, plan.spec, tick.nonce, k.backup.numbers)
    except NoRoom as error:
        refusal = messages.no_room(plan.id, error.needed, error.free)
        return _go_on_without(plan, k, tick, refusal.text) if optional else fail(k, refusal)
    ends = k.timers.patience if optional else tick.ends
    return Step(WriteTags(plan.id, backup.tags, backup), k, ends)


def _backup(plan: Plan, k: Knowledge, tick: Tick) -> Prepared:
    """Written: read until a read shows it and agrees with it."""
    optional = backup_is_optional(plan.spec, plan.static, len(k.interfaces))
    failure = k.failure or k.backup.failure
    if k.failure and k.failure.category is Category.SELF_FENCING:
        return fail(k, k.failure)
    if failure is not None:
        notes: Notes = ()
        if k.backup.failure is not None and k.backup.failure.unallowed:
            notes = (Note(WARNING, messages.tag_condition(plan.id, tags_of(k.latest).get("cluster"))),)
        step = _go_on_without(plan, k, tick, failure.text) if optional else fail(k, failure)
        return replace(step, notes=(*notes, *step.notes))
    ends = k.timers.patience if optional else tick.ends
    if k.backup.rewritten:  # since the latest read
        return Step(Read(plan.machines), k, ends)
    latest, written = k.latest, k.backup.latest
    assert written is not None
    if latest is not None and tags.is_visible(written, latest):
        if latest.lost_names:
            return fail(k, messages.lost_names(plan.id, latest.lost_names))
        others = tags.foreign_backups(latest, k.backup.written)
        amended = amend_backup(k.backup.originals, latest, others, plan.spec, k.backup.first_times, True)
        if amended is None:
            return Proven(k, latest)
        if tick.now < k.timers.patience:
            return _write_first_backup(plan, k, latest, amended, tick)
    if tick.now >= k.timers.patience:
        unverified = messages.backup_unverified(plan.id, "no group was changed")
        return _go_on_without(plan, k, tick, unverified.text) if optional else fail(k, unverified)
    if tick.now >= k.timers.rewrite:  # an "on" may have deleted it, or reads are behind
        if latest is not None and is_shared(k):  # or another fencer's backup stands in its keys
            return _write_first_backup(plan, k, latest, k.backup.originals, tick)
        return Step(WriteTags(plan.id, written.tags, written), k, ends)
    return Step(Read(plan.machines), k, ends, backoff=True)


def _go_on_without(plan: Plan, k: Knowledge, tick: Tick, reason: str) -> Prepared:
    """The operator accepts that there is no backup; this machine is looked at once more all the same."""
    note = Note(WARNING, messages.without_backup(plan.id, reason))
    k = replace(k, phase=Phase.WITHOUT_BACKUP, backup=BackupState(numbers=k.backup.numbers))
    k = replace(k, reads=replace(k.reads, failure=None))
    if plan.own:
        return Step(Read((plan.own,)), k, tick.ends, notes=(note,))
    step = _without_backup(plan, k, tick)
    return replace(step, notes=(note, *step.notes))


def _without_backup(_plan: Plan, k: Knowledge, _tick: Tick) -> Prepared:
    if k.failure is not None:
        return fail(k, k.failure)
    assert k.first is not None
    return Proven(k, k.first)


PHASES: Dict[Phase, Callable[[Plan, Knowledge, Tick], Prepared]] = {
    Phase.FIRST: _first,
    Phase.AGAIN: _first,
    Phase.DOUBT: _first,
    Phase.LOOK_UP: _looked_up,
    Phase.BACKUP: _backup,
    Phase.WITHOUT_BACKUP: _without_backup,
}
