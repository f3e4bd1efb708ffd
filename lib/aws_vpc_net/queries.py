"""The actions that change nothing: status, monitor, list."""

from __future__ import annotations

import logging
from typing import Dict, List, Tuple

from . import backup_tags, messages, rules
from .errors import Category, FenceError
from .settings import is_instance_id
from .toolbox import READ_ONCE_MORE_SECONDS, Toolbox

log = logging.getLogger(__name__)

STATES = {"running": "on", "stopped": "off"}


def resolve(tools: Toolbox) -> Tuple[str, ...]:
    """The instance IDs of ``plug``: IDs as they are, names looked up; each once, in order.

    Raises:
        FenceError: a name matches none or several.
    """
    found: List[str] = []
    for plug in tools.settings.plugs:
        if is_instance_id(plug):
            found.append(plug)
            continue
        matched = tools.instances.named(plug, tools.settings.filters)
        if not matched:
            raise messages.no_such_name(plug)
        if len(matched) > 1:
            raise messages.ambiguous_name(plug, matched)
        found.append(matched[0])
    return tuple(dict.fromkeys(found))


def status(tools: Toolbox, plugs: List[str]) -> Dict[str, bool]:
    """For each plug: is it off? By one read of all of them.

    Raises:
        FenceError: the read failed, or an instance is not there: never a guess.
    """
    found = tools.instances.read(plugs)
    if any(plug not in found for plug in plugs):  # a stale view, perhaps: once more before that is final
        found = tools.read_once_more(plugs)
    for plug in plugs:
        if plug not in found:
            raise messages.unknown_instance(plug)
    return {p: rules.is_off(found[p], backup_tags.read(found[p]), tools.policy) for p in plugs}


def monitor(tools: Toolbox) -> None:
    """Prove that fencing would work: credentials, API, groups. Two or three calls, whatever the account's size.

    Raises:
        FenceError: it would not.
    """
    tools.instances.probe()
    wanted = tools.policy.harmful
    if not wanted:
        log.warning(messages.monitor_without_secg())
        return
    try:
        missing = wanted - tools.groups.existing(wanted)
        if missing:  # a stale view, perhaps: once more before that is final
            tools.deadline.pause(READ_ONCE_MORE_SECONDS)
            missing = wanted - tools.groups.existing(wanted)
    except FenceError as error:
        if error.category is not Category.PERMISSION:
            raise
        log.warning(messages.groups_unchecked(error.text))
        return
    if missing:
        raise messages.groups_missing(missing)


def _safe(name: str) -> str:
    """A name as one word for the cluster's parser, which splits at white space, ',' and ';'."""
    return "".join("_" if c.isspace() or c in ",;" or not c.isprintable() else c for c in name)


def listed(tools: Toolbox) -> Dict[str, Tuple[str, str]]:
    """ID -> (name, on|off|unknown) of every instance that matches ``filter``; all of them or an error."""
    rows = tools.instances.listed(tools.settings.filters)
    return {i: (_safe(name), STATES.get(state, "unknown")) for i, name, state in rows}
