"""Events as lines of a transcript."""

import re
from typing import Any, Dict, Tuple

from search.world import SHORT, Network

from aws_vpc_net.core import backup as tags_of
from aws_vpc_net.core.model import FrozenMap
from aws_vpc_net.core.protocol import DeleteTags, Failure, Instances, LookUpGroups, Read, SetGroups, WriteTags

from .cloud import Node, shown
from .process import EPOCH


def without_names(text: str) -> str:
    """What kind of violation this is."""
    return re.sub(r"(eni|i|sg)-[0-9a-f]+", r"\1", text)


def line(node: Node, event: Tuple[Any, ...]) -> str:
    """One event, and what EC2 holds after it."""
    now, step, who, *what, tags, network = event
    text = " ".join(filter(None, (_text(node, w) for w in what)))
    return f"{now:12.3f} #{step} {who:16} {text}   [{_world(node, tags, network)}]"


def _groups(groups: Any) -> str:
    return "+".join(sorted(SHORT.get(g, g) for g in groups)) or "none"


def _nic(interface: str) -> str:
    return interface[:8]


def _world(node: Node, tags: FrozenMap, network: Network) -> str:
    nics = " ".join(f"{_nic(n.id)}={_groups(n.groups)}" for n in network.attached)
    away = " ".join(f"({_nic(n.id)}={_groups(n.groups)})" for n in network.elsewhere)
    read = tags_of.read(shown(node.id, tags, network))
    sets = sorted((t, i, _groups(g)) for i, times in read.sets.items() for t, g in times.items())
    kept = " ".join(f"{t - EPOCH}:{_nic(i)}={g}" for t, i, g in sets)
    last = f"last {read.lastfence - EPOCH} " if read.lastfence else ""
    state = "" if network.state == "running" else f"{network.state} "
    return f"{state}{nics} {away}| {last}{kept or 'no tags'}"


def _text(node: Node, what: Any) -> str:
    if what is None:
        return ""
    if isinstance(what, str):
        return _nic(what) if what.startswith("eni-") else what
    if isinstance(what, Failure):
        return f"{what.outcome.name}: {what.text}"
    if isinstance(what, SetGroups):
        goals = " ".join(f"{_nic(i)}={_groups(g)}" for i, g in sorted(what.goals.items()))
        return f"{what.change.name} {goals}"
    if isinstance(what, WriteTags):
        if what.backup is None:
            return "CLAIM"
        originals = " ".join(f"{_nic(i)}={_groups(g)}" for i, g in sorted(what.backup.originals.items()))
        return f"WRITE {what.backup.time - EPOCH} {originals}"
    names = {Read: "READ", DeleteTags: "DELETE", LookUpGroups: "LOOK UP", Instances: ""}
    if isinstance(what, dict):
        return _reply(node, what)
    return names.get(type(what), "")


def _reply(node: Node, reply: Dict[str, Any]) -> str:
    shown_node = reply.get(node.id)
    if shown_node is not None:
        nics = " ".join(f"{_nic(i)}={_groups(g)}" for i, g in shown_node.groups.items())
        read = tags_of.read(shown_node)
        return f"-> {nics} | {' '.join(str(t - EPOCH) for t in sorted(read.times)) or 'no tags'}"
    parts = [f"{_nic(i)}:{r.outcome.name if isinstance(r, Failure) else 'accepted'}" for i, r in sorted(reply.items())
             if r is None or isinstance(r, Failure)]  # fmt: skip
    return "-> " + (" ".join(parts) or "nothing of it")
