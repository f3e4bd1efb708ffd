"""May monitor bring a stopped instance back, with auto_unfence? Pure.

A return is: write the tag RETURNED, restore the groups, delete the backup, start the instance. It may be killed after
each of these, and the next monitor goes on with it: the tag holds when EC2 launched the instance last, which changes
with the start. As long as it has not changed, the return is not finished. The tag also counts the returns:

    fence_aws_vpc_net:returned = 1764198000,1764201600;launched=1764100000
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import Enum
from typing import FrozenSet, Mapping, Optional, Tuple

from . import backup as tags
from .isolation import groups_to_restore, is_isolated, matches_isolation, static_refusal, target_groups
from .model import FrozenMap, Groups, Instance, Interface, IsolationSpec
from .tag_slots import TAG_LIMIT, unreadable_tags

EXEMPT = "fence_aws_vpc_net:auto_unfence"  # the tag of an instance that is not to be brought back
NOT_EXEMPT = ("yes", "true", "on", "1")  # its only values that do not exempt
MOST_RETURNS = 3
# In which an instance is brought back so often at most. A time as far ahead is that of a wrong clock, and does not
# count: it would keep the instance down until then.
PERIOD_SECONDS = 86400.0
RESUME_SECONDS = 3600.0  # after which a return that was not finished, and not tried again, is given up

_TAG = re.compile(r"([0-9]{1,11}(?:,[0-9]{1,11}){0,9});launched=([0-9]{1,11})")


class Verdict(Enum):
    """What to do with an instance, or why nothing."""

    RESTORE = "restore its groups and start it"
    START = "start it: its groups are restored already"
    STAYS_STOPPED = "it was brought back too often"
    NO_ROOM = "it has no room for another tag"
    STATIC_REFUSED = "interfaceN-sg cannot be set on it"
    HIBERNATED = "it was hibernated"
    NOT_STOPPED = "it is not stopped"
    RUNS = "it runs, isolated: it was not stopped, or somebody has started it"
    LOST_NAME = "it no longer has the name by which it was found"
    EXEMPT = "a tag exempts it"
    RECENT = "its fencing may not have ended yet"
    NOT_ISOLATED = "not every interface is isolated under the options of this device"
    UNCHANGEABLE = "an interface of it cannot be restored by groups"
    NO_BACKUP = "it has no complete backup"
    GIVEN_UP = "its return was begun, and not finished within an hour"

    @property
    def returns(self) -> bool:
        """Is the instance to be brought back?"""
        return self in (Verdict.RESTORE, Verdict.START)


@dataclass(frozen=True)
class Returns:
    """The tag: when monitor began to bring the instance back, and when EC2 had launched it before the latest time."""

    times: Tuple[int, ...] = ()
    launched: int = -1

    @property
    def latest(self) -> int:
        """When it was tried last; 0 if never."""
        return max(self.times, default=0)

    def recent(self, now: float) -> Tuple[int, ...]:
        """The times that count."""
        return tuple(t for t in self.times if abs(now - t) < PERIOD_SECONDS)

    def __str__(self) -> str:
        return f"{','.join(map(str, self.times))};launched={self.launched}"


@dataclass(frozen=True)
class Stopped:
    """An instance as one read shows it, and when EC2 launched it last (Unix time; 0: unknown)."""

    instance: Instance
    launched: int = 0

    @property
    def returns(self) -> Returns:
        """What the tag says; nothing if it cannot be read."""
        found = _TAG.fullmatch(self.instance.tags.get(tags.RETURNED, ""))
        return Returns(tuple(map(int, found[1].split(","))), int(found[2])) if found else Returns()

    def is_unfinished(self, now: float) -> bool:
        """Did a monitor begin to bring it back, and was neither it started since nor fenced again?"""
        fenced = max((t for t in tags.read(self.instance).times if t - now < PERIOD_SECONDS), default=0)
        return self.returns.launched == self.launched > 0 and fenced < self.returns.latest

    def is_resumed(self, now: float) -> bool:
        """Is its return to be finished, as it was begun not long ago?"""
        return self.is_unfinished(now) and abs(now - self.returns.latest) < RESUME_SECONDS

    def next_returns(self, now: float) -> Returns:
        """The tag for a return that begins or goes on now."""
        times = self.returns.recent(now)
        return Returns((*(times[:-1] if self.is_resumed(now) else times), int(now)), self.launched)

    def with_returns(self, returns: Returns) -> Stopped:
        """As a read shows it after this was written."""
        written = {**self.instance.tags, tags.RETURNED: str(returns)}
        return replace(self, instance=replace(self.instance, tags=FrozenMap(written)))


def judge(
    stopped: Stopped,
    spec: IsolationSpec,
    static: Mapping[int, Groups],
    now: float,
    fence_seconds: float,
) -> Verdict:
    """May it be brought back?

    Args:
        static: the groups of ``interfaceN-sg``, by N.
        now: Unix time.
        fence_seconds: how long an ``off`` may take from its backup to its end.
    """
    verdict = _judge(stopped, spec, static, now, fence_seconds)
    refused = verdict.returns and static_refusal(stopped.instance, static, spec) is not None
    return Verdict.STATIC_REFUSED if refused else verdict


def _judge(
    stopped: Stopped, spec: IsolationSpec, static: Mapping[int, Groups], now: float, fence_seconds: float
) -> Verdict:
    """The same, for groups of ``interfaceN-sg`` that can be set."""
    instance, resumed = stopped.instance, stopped.is_resumed(now)
    if instance.state == "running":
        then = _judge(replace(stopped, instance=replace(instance, state="stopped")), spec, static, now, fence_seconds)
        fenced = then in (Verdict.RESTORE, Verdict.STAYS_STOPPED, Verdict.NO_ROOM)
        return Verdict.RUNS if fenced else Verdict.NOT_STOPPED
    unfit = _unfit(instance)
    if unfit is not None:
        return unfit
    given_up = Verdict.GIVEN_UP if stopped.is_unfinished(now) and not resumed else None
    if not tags.own(instance.tags, instance.id):
        return _without_backup(stopped, spec) if resumed else given_up or Verdict.NO_BACKUP
    history = tags.read(instance)
    if -PERIOD_SECONDS < now - max(history.times, default=0) < fence_seconds:
        return Verdict.RECENT
    goals = groups_to_restore(instance, history, spec)
    isolating = all(matches_isolation(g, spec) for g in goals.values())
    if len(goals) < len(instance.interfaces) or isolating or unreadable_tags(instance, spec):
        return Verdict.NO_BACKUP
    done = _restored(instance, goals, static) if resumed else frozenset()
    pending = [i for i in instance.interfaces if i.id not in done]
    isolated = (is_isolated(i, instance, history, spec) and _by_this_device(i, goals[i.id], spec) for i in pending)
    if not all(isolated):
        return given_up or Verdict.NOT_ISOLATED
    if instance.hibernated:
        return Verdict.HIBERNATED
    if not resumed and len(stopped.returns.recent(now)) >= MOST_RETURNS:
        return Verdict.STAYS_STOPPED
    if tags.RETURNED not in instance.tags and sum(not k.startswith("aws:") for k in instance.tags) >= TAG_LIMIT:
        return Verdict.NO_ROOM
    return Verdict.RESTORE


def _unfit(instance: Instance) -> Optional[Verdict]:
    """Why it is left alone, whatever its backup says."""
    if instance.state != "stopped":
        return Verdict.NOT_STOPPED
    if instance.lost_names:
        return Verdict.LOST_NAME
    if instance.tags.get(EXEMPT, NOT_EXEMPT[0]).strip().lower() not in NOT_EXEMPT:
        return Verdict.EXEMPT
    if instance.lacks_primary or any(i.managed or i.unfiltered or not i.groups for i in instance.interfaces):
        return Verdict.UNCHANGEABLE
    return None


def _without_backup(stopped: Stopped, spec: IsolationSpec) -> Verdict:
    """A return that was not finished has deleted the backup, so the groups are restored; or somebody isolated it."""
    instance, history = stopped.instance, tags.read(stopped.instance)
    if any(is_isolated(i, instance, history, spec) for i in instance.interfaces):
        return Verdict.NOT_ISOLATED
    return Verdict.HIBERNATED if instance.hibernated else Verdict.START


def _by_this_device(interface: Interface, originals: Groups, spec: IsolationSpec) -> bool:
    """Has it what this device would have left to it? Where groups are removed, any others look isolated, also those
    to which a device that keeps groups has set it."""
    return spec.keep_only or target_groups(originals, spec) <= interface.groups


def _restored(instance: Instance, goals: Mapping[str, Groups], static: Mapping[int, Groups]) -> FrozenSet[str]:
    """The interfaces that have the groups already that ``on`` sets."""
    return frozenset(i.id for i in instance.interfaces if i.groups == static.get(i.number - 1, goals[i.id]))
