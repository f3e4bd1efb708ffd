"""The actions that change nothing: status, monitor, list."""

from __future__ import annotations

import logging
from typing import Dict, List, Tuple

from . import messages
from .context import Context
from .core import backup, isolation
from .core.model import Instance
from .core.protocol import READ_ONCE_MORE_SECONDS
from .errors import Category, FenceError
from .instances import one_word
from .settings import is_instance_id

log = logging.getLogger(__name__)

MONITOR_CALLS = 3  # with a second look, which is left out beyond
STATES = {"running": "on", "stopped": "off"}


def resolve(context: Context) -> Dict[str, str]:
    """The instance ID of each ``plug``, in order; names are looked up.

    Raises:
        FenceError: a name matches none or several.
    """
    instance_ids: Dict[str, str] = {}
    for plug in context.settings.plugs:
        if is_instance_id(plug):
            instance_ids[plug] = plug
            continue
        matched = context.instances.named(plug, context.settings.filters)
        if not matched:  # a stale view, perhaps: once more before that is final
            context.deadline.pause(READ_ONCE_MORE_SECONDS)
            matched = context.instances.named(plug, context.settings.filters)
        if not matched:
            raise messages.no_such_name(plug)
        if len(matched) > 1:
            raise messages.ambiguous_name(plug, matched)
        instance_ids[plug] = matched[0]
    return instance_ids


def status(context: Context, plugs: List[str]) -> Dict[str, bool]:
    """Whether each plug is off, from one read of all of them.

    Raises:
        FenceError: the read failed, or an instance is not there: never a guess.
    """
    instances = _read_all(context, plugs)
    return {p: isolation.is_off(instances[p], backup.read(instances[p]), context.spec) for p in plugs}


def _read_all(context: Context, ids: List[str]) -> Dict[str, Instance]:
    instances = context.instances.read(ids)
    if any(i not in instances for i in ids):  # a stale view, perhaps: once more before that is final
        context.deadline.pause(READ_ONCE_MORE_SECONDS)
        instances = {**instances, **context.instances.read(ids)}
    for instance in ids:
        if instance not in instances:
            raise messages.unknown_instance(instance)
    return instances


def monitor(context: Context) -> List[str]:
    """Check that fencing would work: credentials, API, groups, and the instance, if ``plug`` names one.

    Two calls, whatever the account's size; three for a name (more if it is written in another case), or where
    something is not there at first. Pacemaker passes no ``plug`` here, unless the device is configured with one: then
    it is the node that the device fences.

    Returns:
        the instance ID of each ``plug``.

    Raises:
        FenceError: it would not.
    """
    resolved = resolve(context)
    ids = [p for p, i in resolved.items() if p == i]
    if ids:
        _read_all(context, ids)
    if not context.settings.plugs:
        context.instances.probe()
    _check_groups(context)
    return list(resolved.values())


def _check_groups(context: Context) -> None:
    """Do the groups exist?"""
    wanted = context.spec.forbidden_groups
    if not wanted:
        log.warning(messages.monitor_without_secg())
        return
    try:
        missing = wanted - context.groups.existing(wanted)
        if (
            missing and context.stats.api_calls < MONITOR_CALLS
        ):  # a stale view, perhaps: once more before that is final
            context.deadline.pause(READ_ONCE_MORE_SECONDS)
            missing = wanted - context.groups.existing(wanted)
    except FenceError as error:
        if error.category is not Category.PERMISSION:
            raise
        log.warning(messages.groups_unchecked(error.text))
        return
    if missing:
        raise messages.groups_missing(missing)


def listed(context: Context) -> Dict[str, Tuple[str, str]]:
    """ID -> (name, on|off|unknown) of every instance that matches ``filter``; all of them or an error."""
    rows = context.instances.listed(context.settings.filters)
    return {i: (one_word(name), STATES.get(state, "unknown")) for i, name, state in rows}
