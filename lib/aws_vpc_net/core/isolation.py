"""What one read means: which groups isolate, is it isolated, what must a backup hold, what does ``on`` set.

Everything that the agent claims rests on this page.

    off says "fenced"  =>  every interface's change was accepted in this run, and a later read shows all isolated.
    status says OFF    =>  all isolated in that one read; tags alone never suffice.
    original groups    :   in the tags before the first change, kept until the last restore is verified.

An interface *matches isolation* if its groups alone are those of an isolated one; it is *isolated* if it does and,
where groups are removed, a backup shows that something was removed. *Untracking*: it is on ``untrack_secg`` alone.
"""

from __future__ import annotations

from typing import Dict, FrozenSet, Iterable, List, Mapping, Optional

from .. import messages
from ..errors import FenceError
from .model import NONE, BackupHistory, Groups, Instance, Interface, IsolationSpec


def matches_isolation(groups: Groups, spec: IsolationSpec) -> bool:
    """Are these the groups of an isolated interface? No groups at all are never."""
    if not groups or not spec.secg:
        return False
    return groups <= spec.named if spec.keep_only else not groups & spec.forbidden_groups


def is_untracking(groups: Groups, spec: IsolationSpec) -> bool:
    """Was the interface left with exactly the group that untracks connections?"""
    return groups == {spec.untrack}


def set_by_fencer(groups: Groups, spec: IsolationSpec) -> bool:
    """Are these groups that a fencer sets, whether it came to its end or not?"""
    return matches_isolation(groups, spec) or is_untracking(groups, spec)


def latest_unfenced(
    interface: str, history: BackupHistory, spec: IsolationSpec, exclude: FrozenSet[int] = frozenset()
) -> Optional[Groups]:
    """The interface's latest complete set of groups that no fencer sets, but for those of some times."""
    sets = [
        (time, sorted(groups), groups)
        for time, groups in history.all_of(interface)
        if time not in exclude and not set_by_fencer(groups, spec)
    ]
    return max(sets)[2] if sets else None


def valid_backup(interface: Interface, history: BackupHistory, spec: IsolationSpec) -> Optional[Groups]:
    """The valid backup of an interface: the set of ``lastfence``; else, if it matches isolation, its latest set.

    Two fencers may run at once and one may have seen old tags, hence the second half. For the same reason a set of
    groups that a fencer sets never outranks one of others: who wrote it did not see those, and was killed before it
    could amend its backup.
    """
    current = history.at(interface.id, history.lastfence)
    if current is not None and not set_by_fencer(current, spec):
        return current
    if current is not None or set_by_fencer(interface.groups, spec):
        return latest_unfenced(interface.id, history, spec) or current or history.latest(interface.id)
    return None


def has_backup(instance: Instance, history: BackupHistory, spec: IsolationSpec) -> bool:
    """Is there a valid backup of this instance's fence?

    Where groups are removed it must hold one that was there to remove. Otherwise tags left behind by a failed
    clean-up, and a forgotten ``invert_sg_removal``, would make a live node read as fenced. That of an interface that
    went away counts too: what is left of the instance is as fenced as it was.
    """
    valid = [valid_backup(i, history, spec) for i in instance.interfaces]
    if spec.keep_only:
        return any(b is not None for b in valid)
    gone = [history.latest(i) for i in set(history.sets) - {i.id for i in instance.interfaces}]
    return any(b is not None and b & spec.named for b in [*valid, *gone])


def is_isolated(interface: Interface, instance: Instance, history: BackupHistory, spec: IsolationSpec) -> bool:
    """Is the interface isolated in this read?"""
    if not matches_isolation(interface.groups, spec):
        return False
    return spec.keep_only or spec.without_backup or has_backup(instance, history, spec)


def is_off(instance: Instance, history: BackupHistory, spec: IsolationSpec) -> bool:
    """The answer of ``status``. No interfaces is never isolated; terminated is off."""
    if instance.terminated:
        return True
    return _all_isolated(instance, history, spec) and not any(i.unfiltered for i in instance.interfaces)


def _all_isolated(instance: Instance, history: BackupHistory, spec: IsolationSpec) -> bool:
    return bool(instance.interfaces) and all(is_isolated(i, instance, history, spec) for i in instance.interfaces)


def fencer_is_fenced(instance: Instance, history: BackupHistory, spec: IsolationSpec) -> bool:
    """Has this machine, the one that runs the agent, been fenced itself? Then it must not fence others."""
    return has_backup(instance, history, spec) and _all_isolated(instance, history, spec)


# --- off -------------------------------------------------------------------------------------------------------


def backup_groups(instance: Instance, history: BackupHistory, spec: IsolationSpec) -> Dict[str, Groups]:
    """What a new backup must hold for every interface.

    Its groups as they are now; but for one that is isolated, or was left untracking, the groups of its valid backup:
    isolated groups are never taken for original ones, unless it was isolated before any fence.
    """
    originals = {}
    for i in instance.interfaces:
        valid = valid_backup(i, history, spec)
        fenced = is_isolated(i, instance, history, spec) or is_untracking(i.groups, spec)
        originals[i.id] = valid if fenced and valid is not None and _took_away(valid, spec) else i.groups
    return originals


def _took_away(backup: Groups, spec: IsolationSpec) -> bool:
    """Does isolation change an interface that has these groups? Where it does not, the groups are its own."""
    return spec.keep_only or bool(backup & spec.forbidden_groups)


def amend_backup(
    written: Mapping[str, Groups],
    latest: Instance,
    others: BackupHistory,
    spec: IsolationSpec,
    known: FrozenSet[int] = frozenset(),
    before_first_change: bool = False,
) -> Optional[Dict[str, Groups]]:
    """What the backup must hold after the read that shows it; None if it holds that already.

    Args:
        written: what we wrote, by earlier reads, which may have been stale; of interfaces that are not attached too.
        others: the tags of that read without our own.
        known: times of backups that the first read showed. What another fencer wrote later, or what that read was too
            old to show, is newer than what we copied from it.
        before_first_change: open groups of that read are original ones too, as nothing has been changed by us yet.
    """
    better = {}
    shown = latest.groups
    for i in written:
        news = latest_unfenced(i, others, spec, known)
        if i in shown and not set_by_fencer(shown[i], spec):
            if before_first_change:
                better[i] = shown[i]
        elif news is not None:
            better[i] = news
        elif set_by_fencer(written[i], spec):
            valid = valid_backup(Interface(i, 0, written[i]), others, spec)
            better[i] = valid if valid is not None and _took_away(valid, spec) else written[i]
    changed = {**written, **better}
    return changed if changed != dict(written) else None


def isolated_without_backup(instance: Instance, history: BackupHistory, spec: IsolationSpec) -> List[str]:
    """Interfaces with groups that a fencer sets though no backup says so: a stale read, or they are so by nature."""
    return [
        i.id for i in instance.interfaces if set_by_fencer(i.groups, spec) and valid_backup(i, history, spec) is None
    ]


def backup_is_optional(spec: IsolationSpec, static: Mapping[int, Groups], interfaces: int) -> bool:
    """Did the operator accept that the original groups of so many interfaces may not be in the tags?"""
    numbers = range(interfaces)
    return spec.without_backup or (all(n in static for n in numbers) and not isolating_options(static, numbers, spec))


def target_groups(groups: Groups, spec: IsolationSpec, originals: Groups = NONE) -> Groups:
    """The groups that isolate an interface; empty if there are none, which EC2 does not allow.

    ``originals`` count where the interface was left untracking.
    """
    if spec.keep_only:
        return spec.named
    base = originals if is_untracking(groups, spec) else groups
    return base - spec.forbidden_groups


def has_groups_to_remove(instance: Instance, spec: IsolationSpec) -> bool:
    """Is any group there that ``off`` would take away? (To keep groups always is something to do.)"""
    return spec.keep_only or any(i.groups & spec.named or is_untracking(i.groups, spec) for i in instance.interfaces)


# --- on --------------------------------------------------------------------------------------------------------


def isolating_options(static: Mapping[int, Groups], numbers: Iterable[int], spec: IsolationSpec) -> List[int]:
    """Of the ``interfaceN-sg`` with these N, those that ``on`` must not set, as what it restores would read isolated.

    Without a group of ``secg`` are all that never had one; so where groups are removed, it is wrong only of all.
    """
    named = [n for n in numbers if n in static]
    isolating = [n for n in named if matches_isolation(static[n], spec)]
    return isolating if spec.keep_only or len(isolating) == len(named) else []


def static_refusal(instance: Instance, static: Mapping[int, Groups], spec: IsolationSpec) -> Optional[FenceError]:
    """Why these ``interfaceN-sg`` cannot be set on this instance; None if they can, or there are none."""
    numbering = {i.number - 1: i.id for i in instance.interfaces}
    missing = [n for n in numbering if static and n not in static]
    if missing:
        return messages.static_gap(instance.id, missing, numbering)
    isolating = isolating_options(static, numbering, spec)
    return messages.static_isolates(f"interface{isolating[0]}-sg") if isolating else None


def is_finished_fence(first: Instance, later: BackupHistory, spec: IsolationSpec) -> bool:
    """Is the backup, which only a later read shows, that of the fence which the first read showed without one?

    It is if every interface matched isolation then, and there is one backup only: an ``off`` that began since would
    have found that one, and written another.
    """
    return all(matches_isolation(i.groups, spec) for i in first.interfaces) and len(later.times) == 1


def groups_to_restore(instance: Instance, history: BackupHistory, spec: IsolationSpec) -> Dict[str, Groups]:
    """What ``on`` sets: the valid backup of each attached interface that has one.

    An open interface is left as it is where the backup shows it isolated: an ``off`` wrote that from a stale read,
    and was killed before it could amend it.
    """
    valid = {i.id: (valid_backup(i, history, spec), i.groups) for i in instance.interfaces}
    return {k: v for k, (v, now) in valid.items() if v is not None and not _is_stale_backup(v, now, spec)}


def _is_stale_backup(backup: Groups, now: Groups, spec: IsolationSpec) -> bool:
    """Is this backup only what these open groups become when they are isolated?"""
    return not set_by_fencer(now, spec) and bool(spec.secg) and backup == target_groups(now, spec)
