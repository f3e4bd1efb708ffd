"""Steps 1 to 3 of off and half of what makes it safe: the originals are in the tags before the first change.

    write all tags in one call -> read -> does that read show the record, and does the record agree with that read?

If not, the record is written again. Nothing has been changed until it is proven; nothing is ever deleted here.
"""

from __future__ import annotations

import logging
import random
import time
from dataclasses import dataclass, field
from typing import Callable, Dict, List, Mapping, Optional

from . import backup_tags, messages, rules
from .context import Context
from .deadline import backoff
from .errors import ApiError, Category, FenceError
from .rules import Groups, Instance

log = logging.getLogger(__name__)

MISSING_SECONDS = 4.0  # how long a record may be missing in reads that are merely behind

Look = Callable[[Mapping[str, Instance]], None]


@dataclass(frozen=True)
class Recorded:
    """The record is proven, or None where the operator accepted that; ``seen`` is the read that proved it."""

    plan: Optional[backup_tags.Plan]
    seen: Instance
    written: Mapping[str, str] = field(default_factory=dict)  # all tags of ours, this record's and mended ones

    @property
    def known(self) -> backup_tags.Known:
        """What we wrote, all of it."""
        times = frozenset(c.time for c in (backup_tags.decode(k, v) for k, v in self.written.items()) if c)
        return backup_tags.Known(frozenset(self.written.items()), times)


def may_be_missing(tools: Context, target: Instance) -> bool:
    """Did the operator accept that the originals may not be in the tags?"""
    static = tools.settings.static
    return tools.policy.without_record or all(n in static for n in range(len(target.interfaces)))


def plan(
    tools: Context, target: Instance, originals: Mapping[str, Groups], when: Optional[int] = None, least: int = 0
) -> backup_tags.Plan:
    """The tags to write; of the time ``when``, or a new one that is not below ``least``.

    Raises:
        FenceError: of category tag: there is no room for them.
    """
    when = when or max(least, backup_tags.next_time(time.time(), target))
    try:
        return backup_tags.plan(target, originals, when, tools.policy, random.getrandbits(512))
    except backup_tags.NoRoom as error:
        raise messages.no_room(target.id, error.needed, error.free) from error


def record(
    tools: Context, target: Instance, originals: Mapping[str, Groups], own: Optional[str], look: Look
) -> Recorded:
    """Write the record and prove it; look at this machine (``own``) again in the same read.

    Raises:
        FenceError: it cannot be written or proven, and nobody accepted that; or ``look`` refused.
    """
    machines = [target.id, *([own] if own else [])]
    if not may_be_missing(tools, target):
        return _write_and_prove(tools, target, originals, machines, look)
    tools.ec2.deadline = tools.deadline.minus(tools.deadline.remaining() / 2)
    try:
        return _write_and_prove(tools, target, originals, machines, look)
    except FenceError as error:
        if error.category is Category.SELF_FENCING:
            raise
        log.warning(messages.without_record(target.id, error.text))
    finally:
        tools.ec2.keep_reserve()
    if own:
        look(tools.instances.read([own]))
    return Recorded(None, target)


def _write_and_prove(
    tools: Context, target: Instance, originals: Mapping[str, Groups], machines: List[str], look: Look
) -> Recorded:
    """Write, read, and mend the record until the read that shows it agrees with it."""
    written: Dict[str, str] = {}
    patience = tools.deadline.minus(tools.deadline.remaining() / 2)
    current = _write(tools, target, originals, written)
    known = backup_tags.read(target).times
    wrote = tools.deadline.remaining()
    for pause in backoff(0.1, 2.0):
        found = tools.instances.read(machines)
        look(found)
        seen = found.get(target.id)
        if seen and proven(current, seen):
            better = rules.better_backup(current.originals, seen, others(seen, written), tools.policy, known, True)
            if better is None:
                return Recorded(current, seen, written)
            current = _write(tools, seen, better, written)
            wrote = tools.deadline.remaining()
        if patience.passed:
            raise messages.record_unverified(target.id, "no group was changed")
        if not seen or not proven(current, seen):
            patience.pause(pause)  # not beyond it: then one more read decides
        if wrote - tools.deadline.remaining() > MISSING_SECONDS:  # an "on" may have deleted it, or reads are behind
            tools.tags.write(target.id, current.tags)
            wrote = tools.deadline.remaining()
    raise AssertionError("backoff never ends")


def others(seen: Instance, written: Mapping[str, str]) -> rules.Book:
    """What tags say that are not ours."""
    tags = {k: v for k, v in seen.tags.items() if written.get(k) != v}
    return backup_tags.read(Instance(seen.id, seen.state, seen.interfaces, tags))


def _write(
    tools: Context, target: Instance, originals: Mapping[str, Groups], written: Dict[str, str]
) -> backup_tags.Plan:
    attached = {i.id for i in target.interfaces}
    planned = plan(tools, target, {i: g for i, g in originals.items() if i in attached})
    try:
        tools.tags.write(target.id, planned.tags)
    except FenceError as error:
        if isinstance(error, ApiError) and error.denied_by_own_policy:
            log.warning(messages.tag_condition(target.id, target.tags.get("cluster")))
        raise
    written.update(planned.tags)
    log.info(messages.record_written(target.id, len(planned.tags), planned.time))
    return planned


def proven(planned: backup_tags.Plan, seen: Instance) -> bool:
    """Does a read show the whole backup? ``lastfence`` may have been moved by another fencer."""
    if all(seen.tags.get(k) == v for k, v in planned.backups.items()):
        return True
    book = backup_tags.read(seen)  # a fencer of the same second may have written the same over it
    return all(book.at(i, planned.time) == g for i, g in planned.originals.items())


def record_more(
    tools: Context, seen: Instance, originals: Mapping[str, Groups], current: backup_tags.Plan
) -> Optional[backup_tags.Plan]:
    """Add interfaces that appeared meanwhile to our record, with its time: they are of one generation.

    Returns:
        The record with them; None if it cannot be written or proven, and somebody accepted that.

    Raises:
        FenceError: nobody accepted that.
    """
    known = Instance(seen.id, seen.state, seen.interfaces, {**seen.tags, **current.tags})  # the read may be stale
    try:
        added = plan(tools, known, originals, current.time)
        tools.tags.write(seen.id, added.backups)
        for pause in backoff(0.1, 2.0):
            again = tools.instances.read([seen.id]).get(seen.id)
            if again and proven(added, again):
                both = {**current.originals, **originals}
                return backup_tags.Plan(current.time, {**current.tags, **added.tags}, both)
            if tools.deadline.passed:
                raise messages.record_unverified(seen.id, f"{', '.join(originals)} not isolated: repeat off")
            tools.deadline.pause(pause)
    except FenceError as error:
        if not may_be_missing(tools, seen):
            raise
        log.warning(messages.without_record(seen.id, error.text))
    return None
