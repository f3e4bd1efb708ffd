"""What a reply of DescribeInstances holds beyond what the SDK knows.

An SDK drops what its model does not name. Kinds of interfaces that EC2 came to show later would then be missing, and
an instance would read as isolated though one of its interfaces is open. So the reply itself is asked. Pure.
"""

from __future__ import annotations

from typing import Any, Dict, Iterator, List, Mapping, Set, Tuple
from xml.etree import ElementTree

SIGNS = (b"<secondaryInterfaceSet", b"<operator>")


def complete(http_response: Any, parsed: Dict[str, Any], **_more: Any) -> None:
    """Add ``SecondaryInterfaces`` and ``Operator`` to a parsed reply; the SDK calls it after each call."""
    content: bytes = http_response.content
    if not any(sign in content for sign in SIGNS):
        return
    found = dict(_instances(ElementTree.fromstring(content)))
    for reservation in parsed.get("Reservations", ()):
        for instance in reservation.get("Instances", ()):
            secondary, managed = found.get(instance["InstanceId"], ([], set()))
            instance["SecondaryInterfaces"] = [{"SecondaryInterfaceId": i} for i in secondary]
            for interface in instance.get("NetworkInterfaces", ()):
                if interface["NetworkInterfaceId"] in managed:
                    interface["Operator"] = {"Managed": True}


def _instances(root: ElementTree.Element) -> Iterator[Tuple[str, Tuple[List[str], Set[str]]]]:
    """(instance, (its secondary interfaces, its interfaces that a service manages))."""
    prefix = root.tag[: root.tag.index("}") + 1] if root.tag.startswith("{") else ""

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
        yield item.findtext(names["id"], ""), (secondary, managed)
