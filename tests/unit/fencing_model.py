"""A node's interfaces and tags, and invocations of off and on that go through their API calls one at a time.

Every decision is the product's. What stands here is the order of the calls, as in off.py, recording.py, isolation.py
and on.py, and what the operator wants: see `Node.wanted`.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Dict, FrozenSet, Iterator, List, Mapping, Optional, Set, Tuple, Union

from aws_vpc_net import backup_tags, recording, rules
from aws_vpc_net.backup_tags import NoRoom, Plan
from aws_vpc_net.rules import Groups, Instance, Interface, Policy

ID = "i-0000000000000000a"
APP, DB, SSH, ISO, OPEN = (f"sg-{c * 17}" for c in "abcde")
POLICIES = (
    Policy((ISO,), keep_only=True),
    Policy((APP,)),
    Policy((ISO,), keep_only=True, untrack=OPEN),
    Policy((APP,), untrack=OPEN),
)
OURS = ("lastfence", "Original_SG_Backup_")
EPOCH = 1_700_000_000
PAST = 6  # changes that a stale read may be behind
ROUNDS = 8


class Refused(Exception):
    """The operation ends without success."""


def is_cut(groups: Groups, policy: Policy) -> bool:
    """What a fenced interface looks like: said again, not asked of the product."""
    if policy.keep_only:
        return groups == {ISO}
    return bool(groups) and APP not in groups and (policy.untrack is None or OPEN not in groups)


@dataclass
class Node:
    """EC2's truth of one instance, and what a plain `on` may bring back.

    ``wanted``: by interface the groups that count as its originals. An operator's edit means:

    - no tag of ours, and no fencer at work: the edited groups are the originals;
    - else, to groups of a live node: `on` may bring back those on record, or the edit if an `off` saw it: both count,
      until an `off` has proven its record, or `on` has succeeded;
    - to groups of a fenced node while tags are there: the record counts.

    ``replaced``: what counted before an edit. A stale first read may still show it; see `Off.limit`.
    """

    policy: Policy
    attached: Dict[str, Groups] = field(default_factory=dict)  # in order of device index
    detached: Dict[str, Groups] = field(default_factory=dict)
    tags: Dict[str, str] = field(default_factory=dict)
    wanted: Dict[str, Set[Groups]] = field(default_factory=dict)
    replaced: Dict[str, Set[Groups]] = field(default_factory=dict)
    past_groups: List[Dict[str, Groups]] = field(default_factory=list)
    past_tags: List[Dict[str, str]] = field(default_factory=list)
    clock: int = EPOCH

    def copy(self) -> Node:
        """For what-ifs."""
        wanted = {i: set(w) for i, w in self.wanted.items()}
        others = (dict(self.attached), dict(self.detached), dict(self.tags), wanted, dict(self.replaced))
        return Node(self.policy, *others, clock=self.clock)

    # Calls

    def read(self, tags_back: int = 0, groups_back: int = 0) -> Instance:
        """DescribeInstances, so many changes behind."""
        attached = (self.past_groups[-groups_back:] or [self.attached])[0] if groups_back else self.attached
        tags = (self.past_tags[-tags_back:] or [self.tags])[0] if tags_back else self.tags
        interfaces = tuple(Interface(i, n, g) for n, (i, g) in enumerate(sorted(attached.items()), 1))
        return Instance(ID, "running", interfaces, dict(tags))

    def set_groups(self, interface: str, groups: Groups) -> None:
        """ModifyNetworkInterfaceAttribute; EC2 takes no empty list."""
        assert groups
        self._changes_groups()
        (self.attached if interface in self.attached else self.detached)[interface] = groups

    def write(self, tags: Mapping[str, str]) -> None:
        """CreateTags: all or none."""
        assert all(len(k) <= 128 and len(v) <= 256 for k, v in tags.items())
        if len({k for k in {**self.tags, **tags} if not k.startswith("aws:")}) > 50:
            raise Refused("TagLimitExceeded")
        self._changes_tags()
        self.tags.update(tags)

    def delete(self, tags: Mapping[str, str]) -> None:
        """DeleteTags by key and value."""
        self._changes_tags()
        self.tags = {k: v for k, v in self.tags.items() if tags.get(k) != v}

    def _changes_groups(self) -> None:
        self.past_groups = [*self.past_groups, dict(self.attached)][-PAST:]

    def _changes_tags(self) -> None:
        self.past_tags = [*self.past_tags, dict(self.tags)][-PAST:]

    # The operator

    @property
    def ours(self) -> Dict[str, str]:
        """Tags of our format."""
        return {k: v for k, v in self.tags.items() if k.startswith(OURS)}

    def edit(self, interface: str, groups: Groups, at_work: bool) -> None:
        """Somebody sets groups by hand."""
        self.set_groups(interface, groups)
        if not (self.ours or at_work):
            self.settle(interface, groups)
        elif not rules.looks_fenced(groups, self.policy):
            self.wanted[interface].add(groups)
        else:
            self.settle(interface, self.on_record(interface) or groups)

    def settle(self, interface: str, groups: Groups) -> None:
        """From here on these count, and no others."""
        self.replaced[interface] = self.replaced.get(interface, set()) | self.wanted[interface]
        self.wanted[interface] = {groups}

    def on_record(self, interface: str) -> Optional[Groups]:
        """What the tags remember of an interface."""
        seen = self.read()
        return rules.originals(seen, backup_tags.read(seen), self.policy).get(interface)

    def attach(self, interface: str, groups: Groups) -> None:
        """A new interface, or one that was detached and has its groups still."""
        self._changes_groups()
        if interface in self.detached:
            groups = self.detached.pop(interface)
        else:
            self.wanted[interface] = {groups}
        self.attached[interface] = groups

    def detach(self, interface: str) -> None:
        """The interface goes on to exist."""
        self._changes_groups()
        self.detached[interface] = self.attached.pop(interface)

    # What must hold

    def lost(self) -> Dict[str, object]:
        """Interfaces that are not as wanted, and whose originals no tag remembers."""
        book = backup_tags.read(self.read())
        found: Dict[str, object] = {}
        for interface, groups in {**self.attached, **self.detached}.items():
            here = self.on_record(interface) if interface in self.attached else None
            kept = here or book.newest_open(interface, self.policy) or book.newest(interface)
            if groups not in self.wanted[interface] and kept not in self.wanted[interface]:
                found[interface] = (groups, kept, self.wanted[interface])
        return found


@dataclass
class Run:
    """An invocation; ``steps`` yields after each call that changes something, and raises Refused."""

    node: Node
    skew: int = 0
    back: Tuple[int, int] = (0, 0)  # of the first read: changes of tags, of groups
    seed: int = 0
    alone: bool = True  # nobody else was ever at work meanwhile

    def __post_init__(self) -> None:
        self.dice = random.Random(self.seed)

    def planned(self, seen: Instance, originals: Mapping[str, Groups], time: Optional[int] = None) -> Plan:
        """The tags of a record, of a new time that is later than all of this read."""
        if time is None:
            time = backup_tags.next_time(self.node.clock + self.skew, seen)
            assert all(time > t for t in backup_tags.read(seen).times), "lastfence grows"
        try:
            return backup_tags.plan(seen, originals, time, self.node.policy, self.dice.getrandbits(512))
        except NoRoom as error:
            raise Refused("no room") from error


class Off(Run):
    """off: read, record, prove, untrack, set, prove."""

    def steps(self) -> Iterator[str]:
        """See the class."""
        policy = self.node.policy
        target = self._first_read()
        originals, goals = self._decide(target)
        self.written: Dict[str, str] = {}
        self.known = backup_tags.read(target).times
        yield from self._record(target, originals)
        opened = [i.id for i in self.seen.interfaces if i.id in goals and not rules.cut(i.groups, policy)]
        yield from self._isolate(goals, opened if policy.untrack else [])
        yield from self._prove(goals, set(backup_tags.own(target.tags, ID)))

    def _first_read(self) -> Instance:
        node, policy = self.node, self.node.policy
        target = node.read(*self.back)
        if not target.interfaces:
            raise Refused("no interfaces")
        unsure = rules.doubtful(target, backup_tags.read(target), policy)
        between = any(rules.between_steps(i.groups, policy) for i in target.interfaces if i.id in unsure)
        if unsure and (policy.keep_only or between or not rules.something_to_remove(target, policy)):
            return node.read()
        return target

    def _decide(self, target: Instance) -> Tuple[Dict[str, Groups], Dict[str, Groups]]:
        policy, book = self.node.policy, backup_tags.read(target)
        if not rules.something_to_remove(target, policy) and not rules.has_record(target, book, policy):
            raise Refused("nothing to remove")
        originals = rules.backup(target, book, policy)
        goals = {i.id: rules.goal(i.groups, policy, originals[i.id]) for i in target.interfaces}
        if not all(goals.values()):
            raise Refused("nothing left")
        return originals, goals

    def _record(self, target: Instance, originals: Mapping[str, Groups]) -> Iterator[str]:
        """Write, and mend until the read that shows it agrees with it."""
        self.limit(originals)
        current = self._write(target, originals)
        yield "record"
        for _ in range(ROUNDS):
            self.seen = seen = self.node.read()
            others = recording.others(seen, self.written)
            if not recording.proven(current, seen):
                raise Refused("not proven")
            better = rules.better_backup(current.originals, seen, others, self.node.policy, self.known, True)
            if better is None:
                self._is_proven(current)
                return
            current = self._write(seen, better)
            yield "record mended"
        raise AssertionError("the record never agrees with a read")

    def limit(self, originals: Mapping[str, Groups]) -> None:
        """What a record may hold that is wrong, until the read that proves it: the first read may be stale.

        It may miss an edit: killed right then, a plain `on` sets the groups from before it. It may show cut groups
        where groups are removed, but these a plain `on` does not set.
        """
        for interface, groups in originals.items():
            if groups not in self.node.wanted[interface]:
                assert self.back != (0, 0), "a fresh read, and a wrong record"
                if groups in self.node.replaced.get(interface, ()):
                    self.node.wanted[interface].add(groups)
                else:
                    assert is_cut(groups, self.node.policy) and not self.node.policy.keep_only

    def _write(self, seen: Instance, originals: Mapping[str, Groups]) -> Plan:
        attached = {i.id for i in seen.interfaces}
        planned = self.planned(seen, {i: g for i, g in originals.items() if i in attached})
        self.node.write(planned.tags)
        self.written.update(planned.tags)
        self.plan = planned
        return planned

    def _is_proven(self, current: Plan) -> None:
        """From here on the record is what `on` brings back."""
        now = {i.id: i.groups for i in self.seen.interfaces}
        for interface, groups in current.originals.items():
            assert groups in self.node.wanted[interface], (interface, groups, self.node.wanted[interface])
            if interface in now and not rules.looks_fenced(now[interface], self.node.policy):
                assert groups == now[interface], "the record does not agree with the read that proves it"
            if self.alone and interface in self.node.attached:
                self.node.settle(interface, groups)

    def _isolate(self, goals: Mapping[str, Groups], opened: List[str]) -> Iterator[str]:
        for interface in self.dice.sample(opened, len(opened)):
            self.node.set_groups(interface, frozenset((str(self.node.policy.untrack),)))
            yield "untracked"
        for interface in self.dice.sample(sorted(goals), len(goals)):
            self.node.set_groups(interface, goals[interface])
            yield "isolated"

    def _prove(self, goals: Dict[str, Groups], known: Set[str]) -> Iterator[str]:
        """Read until all is cut; take in what appeared; under a newer record, isolate again what was opened."""
        policy, known = self.node.policy, known | set(self.written)
        for _ in range(ROUNDS):
            seen = self.node.read()
            new = [i for i in seen.interfaces if i.id not in goals]
            opened = [i.id for i in seen.interfaces if i.id in goals and not rules.cut(i.groups, policy)]
            news = set(backup_tags.own(seen.tags, ID)) - known
            if seen.interfaces and not (new or opened or news):
                assert all(is_cut(g, policy) for g in self.node.attached.values()), "success, and not cut"
                return
            if news or opened:
                others = recording.others(seen, self.written)
                better = rules.better_backup(self.plan.originals, seen, others, policy, self.known)
                self._write(seen, better or self.plan.originals)
                known |= news | set(self.written)
                yield "recorded again"
            if new:
                yield from self._take_in(seen, new, goals)
                known |= set(self.written)
            yield from self._isolate({i: goals[i] for i in opened}, [])
        raise Refused("the deadline")

    def _take_in(self, seen: Instance, new: List[Interface], goals: Dict[str, Groups]) -> Iterator[str]:
        policy = self.node.policy
        found = rules.backup(seen, backup_tags.read(seen), policy)
        originals = {i.id: found[i.id] for i in new}
        more = {i.id: rules.goal(i.groups, policy, originals[i.id]) for i in new}
        if not all(more.values()):
            raise Refused("cannot take in")
        shown = Instance(ID, seen.state, seen.interfaces, {**seen.tags, **self.plan.tags})
        added = self.planned(shown, originals, self.plan.time)
        self.node.write(added.backups)
        self.written.update(added.backups)
        self.plan = Plan(self.plan.time, {**self.plan.tags, **added.backups}, {**self.plan.originals, **originals})
        goals.update(more)
        yield "recorded a new interface"
        yield from self._isolate(more, [i.id for i in new if policy.untrack and not rules.cut(i.groups, policy)])


class On(Run):
    """on: read, set, read back, delete by key and value. Not beside an off: see tests/schedules."""

    def steps(self) -> Iterator[str]:
        """See the class."""
        node, policy = self.node, self.node.policy
        first = node.read()
        book = backup_tags.read(first)
        goals = rules.originals(first, book, policy)
        if not goals and any(rules.isolated(i, first, book, policy) for i in first.interfaces):
            raise Refused("no record")
        leftovers = {**backup_tags.own(first.tags, ID), **backup_tags.copied(first.tags, ID)}
        for interface in self.dice.sample(sorted(goals), len(goals)):
            node.set_groups(interface, goals[interface])
            yield "restored"
        if any(node.attached[i] != g for i, g in goals.items() if i in node.attached):
            raise Refused("somebody edits")
        node.delete(leftovers)
        for interface, groups in {**node.attached, **node.detached}.items() if leftovers else ():
            node.settle(interface, groups)
        yield "forgotten"


def finish(run: Union[Off, On]) -> Optional[str]:
    """Run to the end; why it was refused, or None."""
    try:
        for _ in run.steps():
            pass
    except Refused as error:
        return str(error)
    return None


def all_cut(node: Node) -> bool:
    """Are all interfaces those of a fenced node?"""
    return bool(node.attached) and all(is_cut(g, node.policy) for g in node.attached.values())


def as_wanted(node: Node, wanted: Mapping[str, FrozenSet[Groups]]) -> bool:
    """Has every attached interface groups that count as its originals?"""
    return all(g in wanted[i] for i, g in node.attached.items())
