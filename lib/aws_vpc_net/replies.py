"""What a reply of EC2 holds beyond what the SDK knows.

An SDK drops what its model does not name. Kinds of interfaces that EC2 came to show later would then be missing, and
an instance would read as isolated though one of its interfaces is open. So the reply itself is asked. Pure.
"""

from __future__ import annotations

from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Set, Tuple
from xml.etree import ElementTree

SIGNS = (b"<secondaryInterfaceSet", b"<operator>")
TRACKING, TRACKING_SIGN = "ConnectionTrackingConfiguration", b"<connectionTrackingConfiguration>"


class _More(NamedTuple):
    """Of one instance: its secondary interfaces, its interfaces that a service manages, their tracking."""

    secondary: List[str]
    managed: Set[str]
    tracking: Dict[str, int]


def complete(http_response: Any, parsed: Dict[str, Any], **_more: Any) -> None:
    """Complete a parsed reply of DescribeInstances; the SDK calls it after each call.

    It adds ``SecondaryInterfaces``, and to interfaces ``Operator`` and the tracking that is set for them.
    """
    content: bytes = http_response.content
    instances = [i for r in parsed.get("Reservations", ()) for i in r.get("Instances", ())]
    interfaces = [e for i in instances for e in i.get("NetworkInterfaces", ())]
    dropped = TRACKING_SIGN in content and not any(TRACKING in e for e in interfaces)
    if not dropped and not any(sign in content for sign in SIGNS):
        return
    found = dict(_instances(ElementTree.fromstring(content)))
    for instance in instances:
        more = found.get(instance["InstanceId"], _More([], set(), {}))
        instance["SecondaryInterfaces"] = [{"SecondaryInterfaceId": i} for i in more.secondary]
        for interface in instance.get("NetworkInterfaces", ()):
            name = interface["NetworkInterfaceId"]
            if name in more.managed:
                interface["Operator"] = {"Managed": True}
            if name in more.tracking:
                interface[TRACKING] = {"TcpEstablishedTimeout": more.tracking[name]}


def complete_attribute(http_response: Any, parsed: Dict[str, Any], **_more: Any) -> None:
    """Add ``DisableApiStop`` to a parsed reply of DescribeInstanceAttribute; the SDK calls it after each call."""
    content: bytes = http_response.content
    if b"<disableApiStop>" not in content or "DisableApiStop" in parsed:
        return
    root = ElementTree.fromstring(content)
    value = root.findtext(f"{_prefix(root)}disableApiStop/{_prefix(root)}value", "")
    parsed["DisableApiStop"] = {"Value": value == "true"}


def _prefix(root: ElementTree.Element) -> str:
    return root.tag[: root.tag.index("}") + 1] if root.tag.startswith("{") else ""


def _instances(root: ElementTree.Element) -> Iterator[Tuple[str, _More]]:
    """(instance, what is to be added)."""
    prefix = _prefix(root)

    def path(text: str) -> str:
        return "/".join(prefix + part for part in text.split("/"))

    names: Mapping[str, str] = {"id": path("instanceId"), "eni": path("networkInterfaceId")}
    for item in root.iterfind(path("reservationSet/item/instancesSet/item")):
        secondary = [e.text or "" for e in item.iterfind(path("secondaryInterfaceSet/item/secondaryInterfaceId"))]
        managed = {
            interface.findtext(names["eni"], "")
            for interface in item.iterfind(path("networkInterfaceSet/item"))
            if interface.findtext(path("operator/managed"), "") == "true"
        }
        tracking = {
            interface.findtext(names["eni"], ""): int(idle)
            for interface in item.iterfind(path("networkInterfaceSet/item"))
            for idle in [interface.findtext(path("connectionTrackingConfiguration/tcpEstablishedTimeout"), "")]
            if idle.isdigit()
        }
        yield item.findtext(names["id"], ""), _More(secondary, managed, tracking)
