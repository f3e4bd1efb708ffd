"""DescribeInstances: rendered by moto once for each shape of an instance, then filled in."""

import re
from typing import Any, Callable, Dict, List, Optional
from xml.sax.saxutils import escape

from .wire import Reply

SETS = re.compile(r"<groupSet(?:/>|>.*?</groupSet>)|<tagSet(?:/>|>.*?</tagSet>)")
RESERVATION = re.compile("(?=<item><reservationId>)")
END = "</reservationSet>"


def interfaces_of(instance: Any) -> Any:
    """Which interfaces are attached to an instance, where, and how."""
    return tuple((key, nic.id, nic.attachment_id, nic.status) for key, nic in instance.nics.items())


def _addresses_of(instance: Any) -> Any:
    nics = instance.nics.values()
    return tuple((*(a["PrivateIpAddress"] for a in nic.private_ip_addresses), *nic.ipv6_addresses) for nic in nics)


def _shape(instance: Any) -> Any:
    """All that is expected to change but groups and tags."""
    state = instance._state
    nics = interfaces_of(instance), _addresses_of(instance)
    reasons = str(instance._reason), instance.state_reason.code
    return instance.id, state.name, state.code, reasons, instance.launch_time, nics


def _set(name: str, items: List[str]) -> str:
    inner = "".join(f"<item>{item}</item>" for item in items)
    return f"<{name}>{inner}</{name}>" if items else f"<{name}/>"


def _groups(groups: List[Any]) -> str:
    return _set("groupSet", [f"<groupId>{g.id}</groupId><groupName>{escape(g.name)}</groupName>" for g in groups])


def _sets(backend: Any, instance: Any) -> List[str]:
    """Groups of the reservation, of each interface and of the instance, and the instance's tags."""
    tags = backend.tags.get(instance.id, {})
    values = {k: f"<value>{escape(v)}</value>" if v else "<value/>" for k, v in tags.items()}
    shown = _set("tagSet", [f"<key>{escape(k)}</key>{v}" for k, v in values.items()]) if tags else ""
    nics = [_groups(nic.group_set) for nic in instance.network_interfaces]
    return ["<groupSet/>", *nics, _groups(instance.security_groups), shown]


def _filled(parts: List[str], sets: List[str]) -> Optional[str]:
    if len(parts) != len(sets) + 1:
        return None
    return parts[0] + "".join(text + part for text, part in zip(sets, parts[1:]))


class Shapes:
    """Remembers how moto renders an instance, without groups and tags: only where filling those in gives the same.

    To be cleared when anything else of an instance has changed than what is part of its shape.
    """

    def __init__(self) -> None:
        self._parts: Dict[Any, List[str]] = {}
        self._frame = ("", "")
        self.remembered = 0
        """Answers that moto was not asked for."""

    def clear(self) -> None:
        """Forgets all."""
        self._parts.clear()

    def answer(self, backend: Any, reservations: List[Any], ask: Callable[[], Reply]) -> Reply:
        """What ``ask`` would answer, which are these reservations of one instance each."""
        instances = [instance for reservation in reservations for instance in reservation.instances]
        known = [self._parts.get(_shape(instance)) for instance in instances]
        if known and len(known) == len(reservations) and all(known):
            items = [_filled(parts or [], _sets(backend, instance)) for parts, instance in zip(known, instances)]
            if None not in items:
                self.remembered += 1
                return Reply(200, "".join((self._frame[0], *map(str, items), self._frame[1])).encode(), None)
        reply = ask()
        if reply.status == 200:
            self._learn(backend, instances, reply.body.decode())
        return reply

    def _learn(self, backend: Any, instances: List[Any], text: str) -> None:
        head, *items = RESERVATION.split(text)
        if len(items) != len(instances) or not items:
            return
        last, end, rest = items[-1].partition(END)
        self._frame = head, end + rest
        for item, instance in zip([*items[:-1], last], instances):
            parts = SETS.split(item)
            same = _filled(parts, _sets(backend, instance)) == item
            if same and f"<instanceId>{instance.id}</instanceId>" in item:
                self._parts[_shape(instance)] = parts
