"""The actions that change nothing: status, monitor, list."""

from __future__ import annotations

import logging
from typing import Dict, List, Mapping, Optional, Tuple

from . import identity, messages
from .context import Context
from .core import backup, isolation
from .core.model import Instance
from .core.protocol import READ_ONCE_MORE_SECONDS
from .errors import Category, FenceError
from .settings import LIKE_ID, is_instance_id

log = logging.getLogger(__name__)

MONITOR_CALLS = 3  # with a second look, which is left out beyond
STATES = {"running": "on", "stopped": "off"}


def resolve(context: Context) -> Dict[str, str]:
    """The instance ID of each ``plug``, in order; names are looked up.

    Raises:
        FenceError: a name matches none or several.
    """
    return {p: p if is_instance_id(p) else _found(context, p) for p in context.settings.plugs}


def _found(context: Context, plug: str) -> str:
    """The ID of the only instance that has this name."""
    from .names import Name

    tag = context.settings.lookup.tag
    name = Name(plug, tag)
    matched = context.instances.named(name)
    if not matched:
        raise _not_found(plug, tag)
    if len(matched) > 1:
        raise messages.ambiguous_name(plug, matched)
    [(instance, state)] = matched.items()
    context.instances.keep_name(instance, state, name)
    return instance


def _not_found(plug: str, tag: Optional[str]) -> FenceError:
    from .names import is_attached_thing

    if is_attached_thing(plug):
        return messages.not_attached(plug)
    return messages.no_such_tag(plug, tag) if tag else messages.no_such_name(plug)


def status(context: Context, plugs: List[str]) -> Dict[str, bool]:
    """Whether each plug is off, from one read of all of them.

    Raises:
        FenceError: the read failed, or an instance is not there: never a guess; or Pacemaker asks about another node.
    """
    instances = _read_all(context, plugs)
    _check_node(context, instances)
    return {p: isolation.is_off(instances[p], backup.read(instances[p]), context.spec) for p in plugs}


def _check_node(context: Context, plugs: Mapping[str, Instance]) -> None:
    """Is the node that Pacemaker names another instance, by its tag? One call, unless a plug has that name.

    Pacemaker asks for the status of a node to learn whether the device can fence it: with pcmk_host_check=status, and
    after a list has failed. A device with a plug of its own fences only that.
    """
    from .names import Name, is_same

    node, tag = context.settings.lookup.node, context.settings.lookup.tag
    if not node or any(is_same(node, i.tags.get(tag or "Name", "")) for i in plugs.values()):
        return
    matched = context.instances.tagged(Name(node, tag))
    if matched and not set(matched) & set(plugs):
        raise messages.another_node(node, matched, plugs)


def _read_all(context: Context, ids: List[str]) -> Dict[str, Instance]:
    instances = context.instances.read(ids)
    if any(i not in instances or instances[i].lost_names for i in ids):  # a stale view, perhaps
        context.deadline.pause(READ_ONCE_MORE_SECONDS)
        instances = {**instances, **context.instances.read(ids)}
    for instance in ids:
        if instance not in instances:
            raise messages.unknown_instance(instance)
        if instances[instance].lost_names:
            raise messages.lost_names(instance, instances[instance].lost_names)
    return instances


def monitor(context: Context) -> List[str]:
    """Check that fencing would work: credentials, API, groups, and the instance, if ``plug`` names one.

    Two calls, whatever the account's size; three for a name (more if it is written in another case), or if something
    is not there at first or EC2 refuses the filter. Pacemaker passes no ``plug`` here, unless the device has one
    configured: then it is the node that the device fences.

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
        _probe(context)
    _check_groups(context)
    return list(resolved.values())


def _probe(context: Context) -> None:
    """Are credentials and API good, and the filter? Without the latter instances are found by their IDs only."""
    refusal = context.instances.probe(context.settings.filters, identity.from_dmi())
    if refusal:
        context.instances.probe(())
        log.warning(messages.filter_refused(refusal.text))


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
    """ID -> (name, on|off|unknown) of every instance that matches ``filter``; all of them or an error.

    With ``plug`` only of these: Pacemaker takes every name in the list for a node that the device can fence, but a
    device with a plug of its own fences nothing else.

    The name is that by which plugs are looked up, so that the cluster fences what it is offered: an instance without
    the tag of ``plug_tag`` has none, also if it has a Name tag. Nor has one whose name looks like an ID, which would
    name another instance.
    """
    from .names import one_word, tag_of

    key, plugs = context.settings.lookup.tag or "Name", context.settings.plugs
    if plugs:
        instances = ((i.id, i.tags.get(key, ""), i.state) for i in _read_all(context, list(plugs)).values())
    else:
        raws = context.instances.listed(context.settings.filters)
        instances = ((raw["InstanceId"], tag_of(raw, key), raw["State"]["Name"]) for raw in raws)
    rows: Dict[str, Tuple[str, str]] = {}
    for instance, tag, state in instances:
        name = one_word(tag)
        shown = "" if LIKE_ID.fullmatch(name) else name
        rows[instance] = (shown, STATES.get(state, "unknown"))
    return rows
