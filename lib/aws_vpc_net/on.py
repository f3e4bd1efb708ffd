"""on: set the original groups, prove it, then forget the record.

    read -> set all groups -> read until all are as recorded -> delete the tags that were read first

The record is deleted last and by value: until the restore is proven the originals are in the tags, and a record
that another ``off`` writes meanwhile is not touched. Every read looks for such an ``off``: it wins.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Dict, List, Mapping, Optional, Tuple

from . import backup_tags, messages, recording, rules
from .context import Context
from .deadline import backoff
from .errors import ApiError, Category, FenceError
from .isolating_groups import IsolatingGroups
from .rules import Book, Groups, Instance, Interface

log = logging.getLogger(__name__)


def run(tools: Context, plug: str) -> None:
    """Bring one instance back; returning means that it is back.

    Raises:
        FenceError: it is not, or that was not proven; the record is kept.
    """
    tools.ec2.keep_reserve()
    if tools.settings.unfence_ignore_restore:
        log.info(messages.restore_skipped(plug))
    else:
        _bring_back(tools, plug)
    if tools.settings.unfence_poweron:
        _power_on(tools, plug)


def _bring_back(tools: Context, plug: str) -> None:
    first = tools.instances.read([plug]).get(plug) or tools.read_once_more([plug]).get(plug)
    if first is None:
        raise messages.unknown_instance(plug)
    if first.terminated:
        raise messages.terminated(plug)
    known = backup_tags.Known().and_seen(first)
    if tools.settings.static:
        first, goals = _static_goals(tools, first)
    else:
        first, goals, known = _recorded_goals(tools, first, known)
    leftovers = {**backup_tags.own(first.tags, plug), **backup_tags.copied(first.tags, plug)}
    if not goals and (not leftovers or not tools.policy.secg):  # without secg nobody can tell what is isolated
        log.info(messages.nothing_to_restore(plug))
        return
    seen = _Restore(tools, first, goals, known).run()
    if not goals and _looks_fenced(seen, tools):  # the first read was stale: nothing may be forgotten
        raise messages.no_record(plug)
    tools.ec2.use_reserve(tools.deadline.remaining() / 2)  # what may fail must not take the time of what follows
    if _forget(tools, plug, leftovers) and _perhaps_beside_an_off(tools, first):
        _look_back(tools, first)


# --- decide ----------------------------------------------------------------------------------------------------


def _static_goals(tools: Context, first: Instance) -> Tuple[Instance, Dict[str, Groups]]:
    """The groups of ``interfaceN-sg``; N is the rank from 0."""
    static, policy = tools.settings.static, tools.policy
    numbering = {i.number - 1: i.id for i in first.interfaces}
    missing = [n for n in numbering if n not in static]
    if missing:
        raise messages.static_gap(first.id, missing, numbering)
    unused = [n for n in static if n not in numbering]
    if unused:
        log.warning(messages.static_unused(first.id, unused))
    goals = {numbering[n]: frozenset(static[n]) for n in numbering}
    isolating = [n for n in numbering if rules.cut(goals[numbering[n]], policy)]
    if isolating and (policy.keep_only or len(isolating) == len(numbering)):
        raise messages.static_isolates(f"interface{isolating[0]}-sg")
    return first, goals


def _looks_fenced(instance: Instance, tools: Context) -> bool:
    book = backup_tags.read(instance)
    return any(rules.isolated(i, instance, book, tools.policy) for i in instance.interfaces)


def _recorded_goals(
    tools: Context, first: Instance, known: backup_tags.Known
) -> Tuple[Instance, Dict[str, Groups], backup_tags.Known]:
    """The groups on record of each attached interface that has one; the read that shows it, and what is known.

    Where something looks fenced and no record is seen, the read may be stale: there is another. What is known is
    what the truly first one showed: a backup that only a later read shows is a concurrent fencer's, and is not
    restored; unless all was isolated in the first read already, and it is the only one.
    """
    policy = tools.policy

    def is_clear(instance: Instance) -> bool:
        found = rules.originals(instance, backup_tags.read(instance), policy)
        return bool(found) or not any(rules.cut(i.groups, policy) for i in instance.interfaces)

    if not is_clear(first):
        again = tools.reread_until(first.id, first, is_clear)
        if known.is_news(again):
            if not rules.is_finished_fence(first, backup_tags.read(again), policy):
                raise messages.backup_appeared(first.id)
            known = known.and_seen(again)
        first = again
    book = backup_tags.read(first)
    goals = rules.originals(first, book, policy)
    if not goals and _looks_fenced(first, tools):
        raise messages.no_record(first.id)
    if not goals and first.interfaces and all(rules.cut(i.groups, policy) for i in first.interfaces):
        log.warning(messages.cut_without_record(first.id))
    if goals:
        _warn_of_others(first, book, goals)
    return first, goals, known


def _warn_of_others(first: Instance, book: Book, goals: Mapping[str, Groups]) -> None:
    for interface in first.interfaces:
        if interface.id not in goals:
            log.warning(messages.left_without_record(first.id, interface.id, interface.groups))
    attached = {i.id for i in first.interfaces}
    for gone in sorted(set(book.sets) - attached):
        groups = book.at(gone, book.lastfence) or book.newest(gone)
        if groups:
            log.warning(messages.detached(first.id, gone, groups))


# --- restore ---------------------------------------------------------------------------------------------------


class _Restore:
    """Sets the groups and reads until they are there. One object for one instance."""

    def __init__(
        self, tools: Context, first: Instance, goals: Mapping[str, Groups], known: backup_tags.Known
    ) -> None:
        self.tools = tools
        self.first = first
        self.goals = dict(goals)
        self.known = known  # by the truly first read
        self.refused: Dict[str, FenceError] = {}  # for good
        self.failed: Dict[str, FenceError] = {}  # for now: the outcome may be unknown

    def run(self) -> Instance:
        """Return the read that proves it: every attached interface has its goal, no ``off`` came in between.

        Raises:
            FenceError: it was refused, overtaken by an ``off``, or not proven before the deadline.
        """
        todo = list(self.goals)
        wrong: Dict[str, str] = {}
        for pause in backoff(0.1, 2.0):
            self._set(todo)
            try:
                seen = self.tools.instances.read([self.first.id]).get(self.first.id)
            except FenceError as error:
                why = {**self._why(wrong), "last read": error.text}
                raise messages.not_restored(self.first.id, why, error.category) from error
            if seen is not None:
                if self.known.is_news(seen):
                    self._isolate_again(seen)
                new = self._take_in_new(seen)
                wrong = self._wrong(seen)
                if set(wrong) <= set(self.refused):
                    return self._result(seen)
                again = [*new, *(i for i in wrong if i in self.failed and i not in new)]
                todo = again or ([i for i in wrong if i not in self.refused] if not todo else [])
            self.tools.deadline.pause(pause)
            if self.tools.deadline.passed:
                why = self._why(wrong) or {"interfaces": "no read showed them"}
                raise messages.not_restored(self.first.id, why, Category.DEADLINE)
        raise AssertionError("backoff never ends")

    def _result(self, seen: Instance) -> Instance:
        if self.refused:
            category = next(iter(self.refused.values())).category
            raise messages.not_restored(self.first.id, {i: e.text for i, e in self.refused.items()}, category)
        return seen

    def _take_in_new(self, seen: Instance) -> List[str]:
        """Interfaces that were attached again meanwhile, and have a record."""
        if self.tools.settings.static:
            return []
        book = backup_tags.read(self.first)
        found = rules.originals(seen, book, self.tools.policy)
        new = {i: g for i, g in found.items() if i not in self.goals}
        self.goals.update(new)
        return list(new)

    def _set(self, interfaces: List[str]) -> None:
        outcomes = self.tools.groups.set_groups({i: self.goals[i] for i in interfaces}, Category.RESTORE)
        for interface, error in outcomes.items():
            self.failed.pop(interface, None)
            if isinstance(error, ApiError) and not error.transient and not error.outcome_unknown and not error.gone:
                self.refused[interface] = error
            elif error is not None:
                self.failed[interface] = error

    def _wrong(self, seen: Instance) -> Dict[str, str]:
        """Attached interfaces that are not as they should be. Gone with its interface is a warning's matter."""
        return {
            i.id: f"reads {', '.join(sorted(i.groups))}"
            for i in seen.interfaces
            if i.id in self.goals and (i.groups != self.goals[i.id] or i.id in self.failed)
        }

    def _why(self, wrong: Mapping[str, str]) -> Dict[str, str]:
        return {**wrong, **{i: e.text for i, e in {**self.failed, **self.refused}.items()}}

    def _isolate_again(self, seen: Instance) -> None:
        """An ``off`` came in between, and wins: cut again what we opened, delete nothing, fail."""
        self.tools.ec2.use_reserve()
        isolating = IsolatingGroups(self.tools, seen)
        goals = self._isolating(seen, isolating)
        todo = dict(goals)
        for pause in backoff(0.1, 1.0):
            errors = self._close(todo, isolating)
            goals.update(todo)
            try:
                latest = self.tools.instances.read([self.first.id]).get(self.first.id) or seen
            except FenceError as error:
                raise messages.overtaken_open(self.first.id, todo) from error
            if not backup_tags.own(latest.tags, latest.id):
                self._record_what_was_cut(latest)
                raise messages.overtaken(self.first.id)
            attached = {i.id: i.groups for i in latest.interfaces}
            todo = {
                i: g
                for i, g in goals.items()
                if i in attached and (errors.get(i) is not None or not self._is_closed(attached[i], g))
            }
            if not todo or self.tools.deadline.passed:
                break
            self.tools.deadline.pause(pause)
        left = sorted({*todo, *(set(self.goals) - set(goals))})
        raise messages.overtaken_open(self.first.id, left) if left else messages.overtaken(self.first.id)

    def _record_what_was_cut(self, latest: Instance) -> None:
        """Another ``on`` has brought it back since, and deleted the record: what we cut must not stay without one."""
        if any(i.id in self.goals and rules.cut(i.groups, self.tools.policy) for i in latest.interfaces):
            originals = {i.id: self.goals.get(i.id, i.groups) for i in latest.interfaces}
            planned = recording.plan(self.tools, latest, originals)
            self.tools.tags.write(latest.id, planned.tags)
            log.info(messages.record_written(latest.id, len(planned.tags), planned.time))

    def _close(self, todo: Dict[str, Groups], isolating: IsolatingGroups) -> Dict[str, Optional[FenceError]]:
        """Set isolating groups, at once smaller ones where EC2 refuses some; the errors that remain."""
        errors: Dict[str, Optional[FenceError]] = {}
        again = dict(todo)
        while again:
            outcomes = self.tools.groups.set_groups(again, Category.RESTORE)
            errors.update(outcomes)
            refused = {i: e for i, e in outcomes.items() if e is not None}
            smaller = {i: isolating.smaller(i, todo[i], e, look=False) for i, e in refused.items()}
            again = {i: g for i, g in smaller.items() if g}
            todo.update(again)
        return errors

    def _isolating(self, seen: Instance, isolating: IsolatingGroups) -> Dict[str, Groups]:
        """The groups that close what we opened: those that isolated it when it was read first, if they did.

        None for an interface that nobody can tell how to close.
        """
        policy = self.tools.policy
        shown = {i.id: i for i in (*seen.interfaces, *self.first.interfaces)}
        goals = {}
        for interface, opened in self.goals.items():
            latest = shown.get(interface, Interface(interface, 0, rules.NONE))
            before = latest.groups
            wanted = before if rules.cut(before, policy) else rules.NONE
            if policy.secg and not wanted:
                wanted = isolating.of(replace(latest, groups=opened))
            if wanted or before != opened:
                goals[interface] = wanted or before
        return {i: g for i, g in goals.items() if g}

    def _is_closed(self, groups: Groups, goal: Groups) -> bool:
        return rules.cut(groups, self.tools.policy) if self.tools.policy.secg else groups == goal


def _forget(tools: Context, plug: str, leftovers: Mapping[str, str]) -> bool:
    """Delete the tags that were read before the restore. A failure is a warning that breaks nothing later."""
    if not leftovers:
        return False
    try:
        tools.tags.delete(plug, leftovers)
        log.info(messages.tags_deleted(plug, len(leftovers)))
    except FenceError as error:
        log.warning(messages.cleanup_failed(plug, error.text))
        return False
    return True


def _perhaps_beside_an_off(tools: Context, first: Instance) -> bool:
    """May the record that was deleted be of an ``off`` that is still at work?

    It is if an interface was not cut when we read it first; or if ``off`` ran more than once, the last time perhaps
    on interfaces that were cut already. A single, finished ``off`` does not change groups again under that record.
    """
    book = backup_tags.read(first)
    recorded = rules.originals(first, book, tools.policy)
    is_open = any(not rules.cut(i.groups, tools.policy) for i in first.interfaces if i.id in recorded)
    return bool(recorded) and (is_open or len(book.times) > 1)


def _look_back(tools: Context, first: Instance) -> None:
    """One more read after the record is gone: where an ``off`` isolated meanwhile, its record is written again.

    Raises:
        FenceError: it did, and that wins.
    """
    recorded = rules.originals(first, backup_tags.read(first), tools.policy)

    def is_lost(instance: Instance) -> bool:
        kept = rules.originals(instance, backup_tags.read(instance), tools.policy)
        fenced = [i for i in instance.interfaces if rules.looks_fenced(i.groups, tools.policy)]
        return any(i.id in recorded and i.id not in kept and i.groups != recorded[i.id] for i in fenced)

    try:
        seen = tools.instances.read([first.id]).get(first.id)
        if seen is not None and is_lost(seen):
            seen = tools.reread_until(first.id, seen, lambda i: not is_lost(i))  # the read may have been stale
    except FenceError as error:
        log.warning(messages.not_looked_back(first.id, error.text))
        return
    if seen is None or not is_lost(seen):
        return
    kept = rules.originals(seen, backup_tags.read(seen), tools.policy)
    changed = [
        i.id for i in seen.interfaces if rules.looks_fenced(i.groups, tools.policy) and i.groups != recorded.get(i.id)
    ]
    originals = {i.id: i.groups for i in seen.interfaces}
    originals.update({i: kept.get(i) or recorded[i] for i in changed if i in kept or i in recorded})
    planned = recording.plan(tools, seen, originals)
    tools.tags.write(first.id, planned.tags)
    log.info(messages.record_written(first.id, len(planned.tags), planned.time))
    raise messages.overtaken(first.id)


# --- power on --------------------------------------------------------------------------------------------------


def _power_on(tools: Context, plug: str) -> None:
    """Start a stopped instance; wait for one that is still stopping. Repeatable.

    Raises:
        FenceError: it was not started.
    """
    tools.ec2.use_reserve()
    try:
        for pause in backoff(0.2, 2.0):
            seen = tools.instances.read([plug]).get(plug)
            if seen is not None and seen.state in ("running", "pending"):
                return
            if seen is not None and seen.state in ("terminated", "shutting-down"):
                raise messages.terminated(plug)
            if seen is not None and seen.state == "stopped":
                tools.instances.start(plug)
                log.info(messages.starting(plug))
            if tools.deadline.passed:
                raise messages.no_answer(
                    f"start {plug}", tools.deadline.seconds, f"it is {seen.state}" if seen else None
                )
            tools.deadline.pause(pause)
    except FenceError as error:
        raise messages.not_started(plug, error.category, error.text) from error
