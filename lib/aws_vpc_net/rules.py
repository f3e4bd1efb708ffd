"""The safety rules: is it isolated, what must be backed up, what may be changed, when to put back.

Pure: standard library only, no clock, no I/O. Everything that the agent claims rests on this page.

    off says "fenced"  =>  every interface's change was accepted in this run, and a later read shows all cut.
    status says OFF    =>  all isolated in that one read; tags alone never suffice.
    originals          :   recorded before the first change, kept until the last restore is verified.

Terms. An interface is *cut* if its groups alone are those of a fenced one; it is *isolated* if it is cut and,
where groups are removed, a record shows that something was removed. A *record* is what the tags remember.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Dict, FrozenSet, List, Mapping, Optional, Tuple

Groups = FrozenSet[str]
NONE: Groups = frozenset()
# A trunk carries branch interfaces of containers, which have groups of their own and are not attached to the
# instance; groups do not filter the networks of Amazon EVS.
UNFILTERED = ("trunk", "evs")


@dataclass(frozen=True)
class Interface:
    """A network interface as one read of EC2 showed it; ``number`` is its rank, from 1."""

    id: str
    number: int
    groups: Groups
    vpc: str = ""
    managed: bool = False  # by AWS or another service: EC2 refuses changes
    kind: str = "interface"  # EC2's type of it

    @property
    def unfiltered(self) -> bool:
        """Does traffic of the node pass through it that its groups do not filter? Then nothing isolates it."""
        return self.kind in UNFILTERED


@dataclass(frozen=True)
class Instance:
    """An instance as one read of EC2 showed it; interfaces in order of (network card, device index)."""

    id: str
    state: str
    interfaces: Tuple[Interface, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def terminated(self) -> bool:
        """Nothing brings it back."""
        return self.state == "terminated"


@dataclass(frozen=True)
class Policy:
    """What the options say about isolation."""

    secg: Tuple[str, ...] = ()
    keep_only: bool = False  # invert_sg_removal
    untrack: Optional[str] = None
    without_record: bool = False  # ignore_tag_write_failure

    @property
    def named(self) -> Groups:
        """The groups of ``secg``."""
        return frozenset(self.secg)

    @property
    def harmful(self) -> Groups:
        """Where groups are removed: those that a fenced interface must not have."""
        return self.named | ({self.untrack} if self.untrack else NONE)


@dataclass(frozen=True)
class Book:
    """Our tags of one instance, read: complete backup sets by interface and time, and every time seen."""

    lastfence: Optional[int] = None
    sets: Mapping[str, Mapping[int, Groups]] = field(default_factory=dict)
    times: FrozenSet[int] = frozenset()
    twins: Mapping[str, Mapping[int, Tuple[Groups, ...]]] = field(
        default_factory=dict
    )  # of writers of the same second

    def at(self, interface: str, time: Optional[int]) -> Optional[Groups]:
        """The interface's complete set of that time."""
        return self.sets.get(interface, {}).get(time) if time is not None else None

    def newest(self, interface: str) -> Optional[Groups]:
        """The interface's newest complete set."""
        sets = self.sets.get(interface, {})
        return sets[max(sets)] if sets else None

    def newest_open(self, interface: str, policy: Policy, but: FrozenSet[int] = frozenset()) -> Optional[Groups]:
        """The interface's newest complete set of groups that no fencer set, but those of some times."""
        sets = [
            (time, sorted(groups), groups)
            for time, first in self.sets.get(interface, {}).items()
            for groups in (first, *self.twins.get(interface, {}).get(time, ()))
            if time not in but and not looks_fenced(groups, policy)
        ]
        return max(sets)[2] if sets else None


def cut(groups: Groups, policy: Policy) -> bool:
    """Are these the groups of a fenced interface? No groups at all are never."""
    if not groups or not policy.secg:
        return False
    return groups <= policy.named if policy.keep_only else not groups & policy.harmful


def between_steps(groups: Groups, policy: Policy) -> bool:
    """Was the interface left with exactly the group that untracks connections?"""
    return policy.untrack is not None and groups == {policy.untrack}


def looks_fenced(groups: Groups, policy: Policy) -> bool:
    """Are these groups that a fencer set, whether it came to its end or not?"""
    return cut(groups, policy) or between_steps(groups, policy)


def record_of(interface: Interface, book: Book, policy: Policy) -> Optional[Groups]:
    """The valid record of an interface: the set of ``lastfence``; else, if it is cut, its newest complete one.

    Two fencers may run at once and one may have seen old tags, hence the second half. For the same reason a set of
    groups that a fencer set never outranks one of real originals: who wrote it did not see those, and was killed
    before it could mend its record.
    """
    current = book.at(interface.id, book.lastfence)
    if current is not None and not looks_fenced(current, policy):
        return current
    if current is not None or looks_fenced(interface.groups, policy):
        return book.newest_open(interface.id, policy) or current or book.newest(interface.id)
    return None


def has_record(instance: Instance, book: Book, policy: Policy) -> bool:
    """Is there a valid record of this instance's fence?

    Where groups are removed it must hold one that was there to remove. Otherwise tags left behind by a failed
    clean-up, and a forgotten ``invert_sg_removal``, would make a live node read as fenced. That of an interface that
    went away counts too: what is left of the instance is as fenced as it was.
    """
    found = [record_of(i, book, policy) for i in instance.interfaces]
    if policy.keep_only:
        return any(r is not None for r in found)
    gone = [book.newest(i) for i in set(book.sets) - {i.id for i in instance.interfaces}]
    return any(r is not None and r & policy.named for r in [*found, *gone])


def isolated(interface: Interface, instance: Instance, book: Book, policy: Policy) -> bool:
    """Is the interface isolated in this read?"""
    if not cut(interface.groups, policy):
        return False
    return policy.keep_only or policy.without_record or has_record(instance, book, policy)


def is_off(instance: Instance, book: Book, policy: Policy) -> bool:
    """The answer of ``status``. No interfaces is never isolated; terminated is off."""
    if instance.terminated:
        return True
    return _all_isolated(instance, book, policy) and not any(i.unfiltered for i in instance.interfaces)


def _all_isolated(instance: Instance, book: Book, policy: Policy) -> bool:
    return bool(instance.interfaces) and all(isolated(i, instance, book, policy) for i in instance.interfaces)


def is_fenced_fencer(instance: Instance, book: Book, policy: Policy) -> bool:
    """Has this machine, the one that runs the agent, been fenced itself? Then it must not fence others."""
    fenced = instance.terminated or _all_isolated(instance, book, policy)
    return has_record(instance, book, policy) and fenced


# --- off -------------------------------------------------------------------------------------------------------


def backup(instance: Instance, book: Book, policy: Policy) -> Dict[str, Groups]:
    """What the new record must hold for every interface.

    Its groups as they are now; but for one that is isolated, or was left between untracking and isolation, the
    groups on record: isolated groups are never recorded as originals, unless it was isolated before any fence.
    """
    originals = {}
    for i in instance.interfaces:
        on_record = record_of(i, book, policy)
        kept = isolated(i, instance, book, policy) or between_steps(i.groups, policy)
        originals[i.id] = on_record if kept and on_record is not None else i.groups
    return originals


def better_backup(
    written: Mapping[str, Groups],
    seen: Instance,
    others: Book,
    policy: Policy,
    known: FrozenSet[int] = frozenset(),
    trust_groups: bool = False,
) -> Optional[Dict[str, Groups]]:
    """What the record must hold after the read that shows it; None if it holds that already.

    Args:
        written: what we recorded, by earlier reads, which may have been stale.
        others: the tags of that read without our own.
        known: times of records that the first read showed. What another fencer recorded later, or what that read
            was too old to show, is newer than what we copied from it.
        trust_groups: open groups of that read are originals too, as nothing has been changed by us yet.
    """
    better = {}
    for i in seen.interfaces:
        if i.id not in written:
            continue
        news = others.newest_open(i.id, policy, known)
        if not looks_fenced(i.groups, policy):
            if trust_groups:
                better[i.id] = i.groups
        elif news is not None:
            better[i.id] = news
        elif looks_fenced(written[i.id], policy):
            better[i.id] = record_of(i, others, policy) or written[i.id]
    changed = {**written, **better}
    return changed if changed != dict(written) else None


def doubtful(instance: Instance, book: Book, policy: Policy) -> List[str]:
    """Interfaces that look fenced though no record says so: the read may be stale, or they are so by nature."""
    return [
        i.id for i in instance.interfaces if looks_fenced(i.groups, policy) and record_of(i, book, policy) is None
    ]


def goal(groups: Groups, policy: Policy, originals: Groups = NONE) -> Groups:
    """The groups that isolate an interface; empty if there are none, which EC2 does not allow.

    ``originals`` count where the interface was left between untracking and isolation.
    """
    if policy.keep_only:
        return policy.named
    base = originals if between_steps(groups, policy) and originals else groups
    return base - policy.harmful


def something_to_remove(instance: Instance, policy: Policy) -> bool:
    """Is any group there that ``off`` would take away? (To keep groups always is something to do.)"""
    return policy.keep_only or any(
        i.groups & policy.named or between_steps(i.groups, policy) for i in instance.interfaces
    )


# --- on --------------------------------------------------------------------------------------------------------


def is_finished_fence(first: Instance, later: Book, policy: Policy) -> bool:
    """Is the record, which only a later read shows, that of the fence which the first read showed without one?

    It is if every interface was cut then, and there is one record only: an ``off`` that began since would have found
    that one, and written another.
    """
    return all(cut(i.groups, policy) for i in first.interfaces) and len(later.times) == 1


def originals(instance: Instance, book: Book, policy: Policy) -> Dict[str, Groups]:
    """What ``on`` sets: the valid record of each attached interface that has one.

    An open interface is left as it is where the record shows it isolated: an ``off`` wrote that from a stale read,
    and was killed before it could mend it.
    """
    found = {i.id: (record_of(i, book, policy), i.groups) for i in instance.interfaces}
    return {k: v for k, (v, now) in found.items() if v is not None and not _only_cut(v, now, policy)}


def _only_cut(record: Groups, now: Groups, policy: Policy) -> bool:
    """Is this record but what these open groups become when they are isolated?"""
    return not looks_fenced(now, policy) and bool(policy.secg) and record == goal(now, policy)
