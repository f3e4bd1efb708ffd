"""off: record, isolate, prove it; then, if asked to, stop the instance.

The order makes a stop at any point safe, also one by SIGKILL:

    read -> refuse? -> write the record -> read it back -> set all groups -> read until all are cut -> stop

Until the record is proven nothing has changed. From then on the originals are in the tags, and whatever was cut
half way reads as ON, so that the next ``off`` completes it or the next ``on`` brings it back.
"""

from __future__ import annotations

import logging
import random
import re
import time
from dataclasses import dataclass
from typing import Dict, List, Mapping, Optional, Set

from . import backup_tags, identity, messages, rules
from .deadline import growing_pauses
from .errors import ApiError, Category, FenceError
from .rules import Groups, Instance, Interface
from .toolbox import Toolbox

log = logging.getLogger(__name__)

# What EC2 or the SDK answers where SkipOsShutdown is not supported.
NO_SKIP = ("ParamValidationError", "OperationNotPermitted", "UnsupportedOperation", "UnknownParameter")

_GROUP = re.compile(r"sg-[0-9a-f]{8,17}")


@dataclass(frozen=True)
class Fence:
    """What is to be done to one instance: decided, and so far nothing changed."""

    target: Instance
    originals: Mapping[str, Groups]
    goals: Mapping[str, Groups]
    own: Optional[str]  # this machine's instance ID


# --- decide ----------------------------------------------------------------------------------------------------


def prepare(tools: Toolbox, plugs: List[str]) -> List[Fence]:
    """Read all targets and this machine in one call, and refuse what must be refused before anything changes.

    Raises:
        FenceError: the refusal.
    """
    settings = tools.settings
    own = None if settings.skip_race_check else identity.own_instance()
    if own is None and not settings.skip_race_check:
        log.warning(messages.unknown_self())
    if own in plugs:
        raise messages.self_fencing(str(own))
    found = tools.instances.read([*plugs, *([own] if own else [])])
    _refuse_fenced_fencer(tools, found.get(own) if own else None)
    return [_decide(tools, plug, found.get(plug), own) for plug in plugs]


def _refuse_fenced_fencer(tools: Toolbox, own: Optional[Instance]) -> None:
    """This machine may be of another account, and then is not found."""
    if own and rules.is_fenced_fencer(own, backup_tags.read(own), tools.policy):
        raise messages.fenced_fencer(own.id)


def _decide(tools: Toolbox, plug: str, target: Optional[Instance], own: Optional[str]) -> Fence:
    policy = tools.policy
    if target is None:
        raise messages.unknown_instance(plug)
    if target.terminated:
        return Fence(target, {}, {}, own)
    if target.state != "running" and not tools.settings.ignore_instance_state:
        raise messages.not_running(plug, target.state)
    _refuse_interfaces(target)
    book = backup_tags.read(target)
    unsure = rules.doubtful(target, book, policy)
    if unsure and (policy.keep_only or not rules.something_to_remove(target, policy)):
        target = tools.reread(plug, target, lambda i: not rules.doubtful(i, backup_tags.read(i), policy))
        book = backup_tags.read(target)
    if not rules.something_to_remove(target, policy) and not rules.has_record(target, book, policy):
        raise messages.nothing_to_remove(plug)
    originals = rules.backup(target, book, policy)
    goals = _goals(tools, target, originals)
    if not _may_go_without_record(tools, target):
        _plan_record(target, originals)
    return Fence(target, originals, goals, own)


def _goals(tools: Toolbox, target: Instance, originals: Mapping[str, Groups]) -> Dict[str, Groups]:
    """The groups that isolate each interface. Of several VPCs each gets those of ``secg`` that it can use.

    Where that cannot be looked up, EC2 refuses the others one by one when they are set (``_smaller_goal``).
    """
    policy = tools.policy
    goals = {i.id: rules.goal(i.groups, policy, originals[i.id]) for i in target.interfaces}
    for interface in target.interfaces:
        if not goals[interface.id]:
            raise messages.nothing_left(target.id, interface.id, interface.groups)
    if not policy.keep_only or len({i.vpc for i in target.interfaces}) == 1:
        return goals
    try:
        usable = tools.groups.vpcs(policy.secg)
    except ApiError as error:
        log.debug("%s", error.text)
        return goals
    for interface in target.interfaces:
        goals[interface.id] = frozenset(g for g in policy.secg if interface.vpc in usable.get(g, ()))
        if not goals[interface.id]:
            raise messages.no_group_in_vpc(target.id, interface.id, interface.vpc)
    return goals


def _refuse_interfaces(target: Instance) -> None:
    if not target.interfaces:
        raise messages.no_interfaces(target.id)
    for interface in target.interfaces:
        if interface.managed:
            raise messages.managed_interface(target.id, interface.id)
        if not interface.groups:
            raise messages.interface_without_groups(target.id, interface.id)


def _may_go_without_record(tools: Toolbox, target: Instance) -> bool:
    """Did the operator accept that the originals may not be in the tags?"""
    static = tools.settings.static
    return tools.policy.without_record or all(n in static for n in range(len(target.interfaces)))


# --- record ----------------------------------------------------------------------------------------------------


def _plan_record(target: Instance, originals: Mapping[str, Groups]) -> backup_tags.Plan:
    try:
        when = backup_tags.next_time(time.time(), target)
        return backup_tags.plan(target, originals, when, random.getrandbits(256))
    except backup_tags.NoRoom as error:
        raise messages.no_room(target.id, error.needed, error.free) from error


@dataclass(frozen=True)
class Recorded:
    """The record is proven; ``seen`` is the read that proved it."""

    plan: Optional[backup_tags.Plan]
    seen: Instance


def _record(tools: Toolbox, fence: Fence) -> Recorded:
    """Write the record and read it back. No group has been changed when this fails.

    Raises:
        FenceError: it cannot be written or proven, and nobody accepted that.
    """
    if not _may_go_without_record(tools, fence.target):
        return _write_and_prove(tools, fence.target, fence.originals, fence.own)
    tools.ec2.deadline = tools.deadline.earlier(tools.deadline.remaining() / 2)
    try:
        return _write_and_prove(tools, fence.target, fence.originals, fence.own)
    except FenceError as error:
        if error.category is Category.SELF_FENCING:
            raise
        log.warning(messages.without_record(fence.target.id, error.text))
        return Recorded(None, fence.target)
    finally:
        tools.ec2.keep_reserve()


def _write_and_prove(
    tools: Toolbox, target: Instance, originals: Mapping[str, Groups], own: Optional[str]
) -> Recorded:
    plan = _plan_record(target, originals)
    tools.tags.write(target.id, plan.tags)
    log.info(messages.record_written(target.id, len(plan.tags), plan.time))
    patience = tools.deadline.earlier(tools.deadline.remaining() / 2)
    for pause in growing_pauses(0.1, 2.0):
        found = tools.instances.read([target.id, *([own] if own else [])])
        _refuse_fenced_fencer(tools, found.get(own) if own else None)
        seen = found.get(target.id)
        if seen and _proven(plan, seen):
            better = _better_originals(tools, target, plan, seen)
            return _write_and_prove(tools, seen, better, own) if better else Recorded(plan, seen)
        if patience.passed:
            raise messages.record_unverified(target.id, "no group was changed")
        tools.deadline.pause(pause)
    raise AssertionError("growing_pauses never ends")


def _proven(plan: backup_tags.Plan, seen: Instance) -> bool:
    """Does a read show the whole backup? ``lastfence`` may have been moved by another fencer."""
    if all(seen.tags.get(k) == v for k, v in plan.backups.items()):
        return True
    book = backup_tags.read(seen)  # a fencer of the same second may have written the same over it
    return all(book.at(i, plan.time) == g for i, g in plan.originals.items())


def _better_originals(
    tools: Toolbox, before: Instance, plan: backup_tags.Plan, seen: Instance
) -> Optional[Dict[str, Groups]]:
    """Originals that another fencer recorded and our first read did not show yet; None if ours are good.

    Only for interfaces that looked fenced when we recorded their groups as they were.
    """
    unsure = rules.doubtful(before, backup_tags.read(before), tools.policy)
    others = {k: v for k, v in seen.tags.items() if plan.tags.get(k) != v}
    book = backup_tags.read(Instance(seen.id, seen.state, seen.interfaces, others))
    known = {i: book.newest(i) for i in unsure}
    better = {i: g for i, g in known.items() if g is not None and g != plan.originals.get(i)}
    return {**plan.originals, **better} if better else None


# --- isolate ---------------------------------------------------------------------------------------------------


class _Isolation:
    """Steps 4 and 5: set the groups, read until all is cut. One object for one target."""

    def __init__(self, tools: Toolbox, fence: Fence, recorded: Recorded) -> None:
        self.tools = tools
        self.fence = fence
        self.recorded = recorded
        self.goals: Dict[str, Groups] = dict(fence.goals)
        self.originals: Dict[str, Groups] = dict(recorded.plan.originals if recorded.plan else {})
        self.accepted: Dict[str, Groups] = {}  # interface -> groups that EC2 accepted in this run
        self.refused: Dict[str, FenceError] = {}  # for good
        self.failed: Dict[str, FenceError] = {}  # for now: the outcome may be unknown
        self.to_untrack: Set[str] = set()  # not passed through untrack_secg yet
        self.opened: Set[str] = set()  # passed through it
        self.plan = recorded.plan
        self.known = backup_tags.read(fence.target).times | ({recorded.plan.time} if recorded.plan else set())

    def run(self) -> None:
        """Returns only when every change was accepted and a later read shows every interface cut."""
        self._choose_untracked()
        todo = list(self.goals)
        open_now: List[Interface] = []
        for pause in growing_pauses(0.1, 2.0):
            self._set(self._untracked(todo))
            if self.refused:
                self._give_up()
            seen = self._read()
            if seen is not None:
                if seen.terminated:
                    log.info(messages.already_terminated(seen.id))
                    return
                taken_in = self._take_in_new(seen)
                open_now = [i for i in seen.interfaces if not self._is_done(i)]
                if seen.interfaces and not open_now and not taken_in and not self._claim(seen):
                    return
                # What was never accepted is set again at once; what reads open may be a stale read first.
                again = [i.id for i in open_now if i.id not in self.accepted or i.id in self.to_untrack]
                todo = again or ([i.id for i in open_now] if not todo else [])
            if self.tools.deadline.passed:
                raise messages.not_isolated(self.fence.target.id, self._why(open_now))
            self.tools.deadline.pause(pause)

    def _choose_untracked(self) -> None:
        """Which interfaces pass through ``untrack_secg``: those that were open in one of the two reads so far.

        What is isolated stays so: to open it again, even for a moment, would undo a fence that was reported.
        """
        if self.tools.policy.untrack is None:
            return
        if self.plan is None:
            log.warning(messages.untracking_skipped(self.fence.target.id))
            return
        policy = self.tools.policy
        reads = [*self.fence.target.interfaces, *self.recorded.seen.interfaces]
        self.to_untrack = {i.id for i in reads if not rules.cut(i.groups, policy)}
        skipped = set(self.goals) - self.to_untrack
        if skipped:
            log.info(messages.not_opened_again(self.fence.target.id, skipped))

    def _untracked(self, interfaces: List[str]) -> List[str]:
        """Set them to exactly ``untrack_secg``, where they have not been yet, so that EC2 stops tracking their flows.

        Returns:
            Those that may now be isolated: one whose change is not known to have been accepted is tried again.
        """
        untrack = self.tools.policy.untrack
        todo = [i for i in interfaces if i in self.to_untrack]
        if untrack is None or not todo:
            return interfaces
        for interface, error in self.tools.groups.set_groups(
            {i: frozenset((untrack,)) for i in todo}, Category.MODIFICATION
        ).items():
            if error is None:
                self.to_untrack.discard(interface)
                self.opened.add(interface)
            elif _for_good(error):
                self.refused[interface] = error
            else:
                self.failed[interface] = error
        return [i for i in interfaces if i not in self.refused]

    def _is_done(self, interface: Interface) -> bool:
        return (
            interface.id in self.accepted
            and interface.id not in self.to_untrack
            and rules.cut(interface.groups, self.tools.policy)
        )

    def _why(self, open_now: List[Interface]) -> Dict[str, str]:
        why = {i.id: f"reads {', '.join(sorted(i.groups))}" for i in open_now}
        why.update({i: e.text for i, e in self.failed.items() if i in why or not why})
        return why or {"interfaces": "no read showed them"}

    def _read(self) -> Optional[Instance]:
        try:
            return self.tools.instances.read([self.fence.target.id]).get(self.fence.target.id)
        except FenceError as error:
            if error.category is not Category.DEADLINE:
                raise
            raise messages.not_isolated(self.fence.target.id, {"last read": error.text}) from error

    def _set(self, interfaces: List[str]) -> None:
        todo = {i: self.goals[i] for i in interfaces}
        while todo:
            outcomes = self.tools.groups.set_groups(todo, Category.MODIFICATION)
            again: Dict[str, Groups] = {}
            for interface, error in outcomes.items():
                self.failed.pop(interface, None)
                if error is None:
                    self.accepted[interface] = todo[interface]
                elif self._smaller_goal(interface, error):
                    again[interface] = self.goals[interface]
                elif _for_good(error):
                    self.refused[interface] = error
                else:
                    self.failed[interface] = error
            todo = again

    def _smaller_goal(self, interface: str, error: FenceError) -> bool:
        """Keeping: leave out a group of ``secg`` that is gone, as long as one remains."""
        if not self.tools.policy.keep_only or getattr(error, "code", "") != "InvalidGroup.NotFound":
            return False
        named = self.goals[interface] & set(_GROUP.findall(error.text.split("InvalidGroup.NotFound")[-1]))
        if not named or named == self.goals[interface]:
            return False
        for group in sorted(named):
            log.warning(messages.group_dropped(interface, group))
        self.goals[interface] = self.goals[interface] - named
        return True

    def _claim(self, seen: Instance) -> bool:
        """All is isolated, but another fencer wrote a record of its own: write ours again, and then read again.

        That one may be refused and put back what it changed. It does so only while its own tags stand.
        """
        if self.plan is None or not backup_tags.contested(seen, self.plan, self.known):
            return False
        self.plan = _plan_record(seen, self.originals)
        self.tools.tags.write(seen.id, self.plan.tags)
        self.known = self.known | backup_tags.read(seen).times | {self.plan.time}
        log.info(messages.claimed(seen.id, self.plan.time))
        return True

    def _take_in_new(self, seen: Instance) -> bool:
        """An interface that appeared meanwhile is recorded, then set. Was there one?"""
        new = [i for i in seen.interfaces if i.id not in self.goals]
        if not new:
            return False
        _refuse_interfaces(seen)
        log.warning(messages.appeared(seen.id, (i.id for i in new)))
        book = backup_tags.read(seen)
        originals = {k: v for k, v in rules.backup(seen, book, self.tools.policy).items() if k not in self.goals}
        if self.plan is not None:
            _record_more(self.tools, seen, originals, self.plan.time)
            self.originals.update(originals)
        for interface in new:
            goal = rules.goal(interface.groups, self.tools.policy, originals[interface.id])
            if not goal:
                raise messages.nothing_left(seen.id, interface.id, interface.groups)
            self.goals[interface.id] = goal
            if self.tools.policy.untrack is not None and self.plan is not None:
                self.to_untrack.add(interface.id)
        self._set(self._untracked([i.id for i in new]))
        if self.refused:
            self._give_up()
        return True

    def _give_up(self) -> None:
        """EC2 refused a change for good: put back what may be put back, and fail."""
        plug, why = self.fence.target.id, self.refused
        category = next(iter(why.values())).category
        before = {i.id: i.groups for i in self.recorded.seen.interfaces}
        touched = {**dict.fromkeys(self.opened, rules.NONE), **self.accepted}
        changed = {i: before[i] for i, g in touched.items() if i in before and before[i] != g}
        unsure = [i for i, e in self.failed.items() if not isinstance(e, ApiError) or e.unknown]
        if not touched and not unsure:
            raise messages.refused_all(plug, why, category)
        if unsure:
            left = [*touched, *unsure]
            raise messages.refused_left(plug, why, left, "the outcome of a change is unknown")
        reason = self._put_back(changed)
        if reason:
            raise messages.refused_left(plug, why, touched, reason)
        raise messages.refused_put_back(plug, why, category)

    def _put_back(self, changed: Dict[str, Groups]) -> Optional[str]:
        """Undo our changes; why not, if not.

        Only while every tag that we wrote stands: else another fencer came after us and may have reported success.
        To the groups of the read that proved our record: if another fencer had isolated the instance by then,
        that is what they are put back to; if not, it reads our record before it reports success (``_claim``).
        """
        self.tools.ec2.use_reserve()
        try:
            seen = self._read()
        except FenceError as error:
            return error.text
        if seen is None or self.plan is None or not backup_tags.still_ours(seen.tags, self.plan):
            return "another fencer may have fenced it"
        errors = self.tools.groups.set_groups(changed, Category.MODIFICATION)
        return next((e.text for e in errors.values() if e is not None), None)


def _record_more(tools: Toolbox, seen: Instance, originals: Mapping[str, Groups], when: int) -> None:
    """Add interfaces to the record that we wrote: same time, so that they are of one generation."""
    plan = backup_tags.plan(seen, originals, when, random.getrandbits(256))
    tools.tags.write(seen.id, plan.backups)
    for pause in growing_pauses(0.1, 2.0):
        again = tools.instances.read([seen.id]).get(seen.id)
        if again and _proven(plan, again):
            return
        if tools.deadline.passed:
            raise messages.record_unverified(seen.id, f"{', '.join(originals)} not isolated: repeat off")
        tools.deadline.pause(pause)


def _for_good(error: FenceError) -> bool:
    """Is it a refusal, and not something that passes or an interface that went away (which the read decides)?"""
    if not isinstance(error, ApiError):
        return False
    return not error.passing and error.code != "InvalidNetworkInterfaceID.NotFound"


# --- the action ------------------------------------------------------------------------------------------------


def run(tools: Toolbox, fence: Fence) -> None:
    """Fence one instance; returning means that it is fenced.

    Raises:
        FenceError: it is not, or that was not proven.
    """
    plug = fence.target.id
    if fence.target.terminated:
        log.info(messages.already_terminated(plug))
        return
    tools.ec2.keep_reserve()
    recorded = _record(tools, fence)
    if tools.policy.untrack is None:
        log.warning(messages.established_may_survive(plug, tools.settings.onfence_poweroff))
    _Isolation(tools, fence, recorded).run()
    if tools.settings.onfence_poweroff:
        _stop(tools, plug)


def _stop(tools: Toolbox, plug: str) -> None:
    """Step 6. A failure is a warning: isolation is proven."""
    tools.ec2.use_reserve()
    try:
        if not (tools.settings.skip_os_shutdown and _stop_without_guest(tools, plug)):
            tools.instances.stop(plug)
        log.info(messages.stopping(plug))
    except FenceError as error:
        log.warning(messages.stop_failed(plug, error.text))


def _stop_without_guest(tools: Toolbox, plug: str) -> bool:
    """False if this SDK, or this kind of instance, does not support it."""
    try:
        tools.instances.stop(plug, SkipOsShutdown=True)
    except ApiError as error:
        if error.code not in NO_SKIP:
            raise
        log.warning(messages.graceful_stop(plug, error.text))
        return False
    return True
