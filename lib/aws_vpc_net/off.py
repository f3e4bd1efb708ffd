"""off: record, isolate, prove it; then, if asked to, stop the instance.

The order makes a stop at any point safe, also one by SIGKILL:

    read -> refuse? -> write the record -> read it back -> set all groups -> read until all are cut -> stop

Until the record is proven nothing has changed. From then on the originals are in the tags, and whatever was cut
half way reads as ON, so that the next ``off`` completes it or the next ``on`` brings it back.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import partial
from typing import Dict, List, Mapping, Optional, Sequence

from . import backup_tags, identity, messages, recording, rules
from .context import Context
from .ec2 import RESERVE_SECONDS, run_concurrently
from .errors import ApiError, FenceError
from .isolating_groups import IsolatingGroups
from .isolation import Isolation
from .rules import Groups, Instance

log = logging.getLogger(__name__)

# How long a read is repeated that shows interfaces isolated and no record of that: groups may be behind by seconds
# while tags are not, as after an "on". Such a node is isolated, or an interface of it is so by nature.
DOUBT_SECONDS = 8.0
# What EC2 or the SDK answers where SkipOsShutdown is not supported.
NO_SKIP = ("ParamValidationError", "OperationNotPermitted", "UnsupportedOperation", "UnknownParameter")


@dataclass(frozen=True)
class Fence:
    """What is to be done to one instance: decided, and so far nothing changed."""

    target: Instance
    originals: Mapping[str, Groups]
    goals: Mapping[str, Groups]
    own: Optional[str]  # this machine's instance ID
    isolating: IsolatingGroups


# --- decide ----------------------------------------------------------------------------------------------------


def prepare(tools: Context, plugs: List[str]) -> List[Fence]:
    """Read all targets and this machine in one call, and refuse what must be refused before anything changes.

    Raises:
        FenceError: the refusal.
    """
    settings = tools.settings
    own = None if settings.skip_race_check else identity.own_instance(tools.ec2.imds)
    if own is None and not settings.skip_race_check:
        log.warning(messages.unknown_self())
    if own in plugs:
        raise messages.self_fencing(str(own))
    found = tools.instances.read([*plugs, *([own] if own else [])])
    if any(plug not in found for plug in plugs):  # a stale view, perhaps: once more before that is final
        found = {**found, **tools.read_once_more(plugs)}
    _refuse_fenced_fencer(tools, found.get(own) if own else None)
    return [_decide(tools, plug, found.get(plug), own) for plug in plugs]


def _refuse_fenced_fencer(tools: Context, own: Optional[Instance]) -> None:
    """This machine may be of another account, and then is not found."""
    if own and rules.is_fenced_fencer(own, backup_tags.read(own), tools.policy):
        raise messages.fenced_fencer(own.id)


def _decide(tools: Context, plug: str, target: Optional[Instance], own: Optional[str]) -> Fence:
    policy = tools.policy
    if target is None:
        raise messages.unknown_instance(plug)
    isolating = IsolatingGroups(tools, target)
    if target.terminated:
        return Fence(target, {}, {}, own, isolating)
    if target.state != "running" and not tools.settings.ignore_instance_state:
        raise messages.not_running(plug, target.state)
    _refuse_interfaces(target)
    book = backup_tags.read(target)
    unsure = rules.doubtful(target, book, policy)
    between = any(rules.between_steps(i.groups, policy) for i in target.interfaces if i.id in unsure)
    if unsure and (policy.keep_only or between or not rules.something_to_remove(target, policy)):
        is_sure = lambda i: not rules.doubtful(i, backup_tags.read(i), policy)  # noqa: E731
        target = tools.reread_until(plug, target, is_sure, DOUBT_SECONDS)
        book = backup_tags.read(target)
    if not rules.something_to_remove(target, policy) and not rules.has_record(target, book, policy):
        raise messages.nothing_to_remove(plug)
    originals = rules.backup(target, book, policy)
    goals = _goals(tools, target, originals, isolating)
    if not recording.may_be_missing(tools, target):
        recording.plan(tools, target, originals)
    return Fence(target, originals, goals, own, isolating)


def _goals(
    tools: Context, target: Instance, originals: Mapping[str, Groups], isolating: IsolatingGroups
) -> Dict[str, Groups]:
    """The groups that isolate each interface.

    Which of ``secg`` each can use is looked up now where they are of several VPCs, and where a refusal would find
    the node open to everybody; else when EC2 refuses them.
    """
    policy = tools.policy
    if len({i.vpc for i in target.interfaces}) > 1 or (policy.untrack is not None and len(policy.secg) > 1):
        isolating.look_up()
    goals = {i.id: isolating.of(i, originals[i.id]) for i in target.interfaces}
    for interface in target.interfaces:
        if not goals[interface.id] and policy.keep_only:
            raise messages.no_group_in_vpc(target.id, interface.id, interface.vpc, policy.secg)
        if not goals[interface.id]:
            raise messages.nothing_left(target.id, interface.id, interface.groups)
    return goals


def _refuse_interfaces(target: Instance) -> None:
    if not target.interfaces:
        raise messages.no_interfaces(target.id)
    for interface in target.interfaces:
        if interface.managed:
            raise messages.managed_interface(target.id, interface.id)
        if interface.unfiltered:
            raise messages.unfiltered_interface(target.id, interface.id, interface.kind)
        if not interface.groups:
            raise messages.interface_without_groups(target.id, interface.id)


# --- act -------------------------------------------------------------------------------------------------------


def run(tools: Context, fence: Fence) -> None:
    """Fence one instance; returning means that it is fenced.

    Raises:
        FenceError: it is not, or that was not proven.
    """
    isolation = isolate(tools, fence)
    if isolation:
        isolation.settle()


def isolate(tools: Context, fence: Fence) -> Optional[Isolation]:
    """Isolate one instance, which has to settle then; None for one that is terminated.

    Raises:
        FenceError: it is not isolated, or that was not proven.
    """
    plug = fence.target.id
    if fence.target.terminated:
        log.info(messages.already_terminated(plug))
        return None
    tools.ec2.keep_reserve()

    def look(found: Mapping[str, Instance]) -> None:
        _refuse_fenced_fencer(tools, found.get(fence.own) if fence.own else None)

    recorded = recording.record(tools, fence.target, fence.originals, fence.own, look)
    if tools.policy.untrack is None:
        log.warning(messages.established_may_survive(plug, tools.settings.onfence_poweroff))
    isolation = Isolation(tools, fence, recorded)
    isolation.isolate()
    return isolation


def power_off(tools: Context, plugs: Sequence[str]) -> None:
    """Step 6, for all that are isolated: at once, and not for long. A failure is a warning: isolation is proven."""
    tools.ec2.use_reserve(RESERVE_SECONDS)
    run_concurrently([partial(_stop, tools, plug) for plug in plugs])


def _stop(tools: Context, plug: str) -> None:
    try:
        if not (tools.settings.skip_os_shutdown and _stop_without_guest(tools, plug)):
            tools.instances.stop(plug)
        log.info(messages.stopping(plug))
    except FenceError as error:
        log.warning(messages.stop_failed(plug, error.text))


def _stop_without_guest(tools: Context, plug: str) -> bool:
    """False if this SDK, or this kind of instance, does not support it."""
    try:
        tools.instances.stop(plug, SkipOsShutdown=True)
    except ApiError as error:
        if error.code not in NO_SKIP:
            raise
        log.warning(messages.graceful_stop(plug, error.text))
        return False
    return True
