"""Pages of long replies: moto has pages of reservations only."""

import base64
import binascii
import re
import xml.etree.ElementTree as ET
from typing import List, Optional, Tuple

from .wire import NAMESPACE, XML_HEAD, ApiError, Call, Reply

ITEMS = {
    "DescribeInstances": ("reservationSet", "instancesSet"),
    "DescribeSecurityGroups": ("securityGroupInfo", None),
    "DescribeNetworkInterfaces": ("networkInterfaceSet", None),
    "DescribeTags": ("tagSet", None),
}
Place = Tuple[ET.Element, ET.Element]
"""A list and one item of it."""


def start_of(call: Call) -> int:
    """The number of items on earlier pages."""
    token = call.params.get("NextToken")
    if not token:
        return 0
    try:
        text = base64.urlsafe_b64decode(token.encode()).decode()
    except (binascii.Error, UnicodeDecodeError, ValueError):
        text = ""
    match = re.fullmatch(r"(\w+):(\d+)", text)
    if not match or match.group(1) != call.action:
        raise ApiError("InvalidParameterValue", f"Unable to parse pagination token '{token}'")
    return int(match.group(2))


def select(call: Call, reply: Reply, start: int, size: Optional[int]) -> Reply:
    """The part of the reply from item `start`, at most `size` items, with a token if more follow."""
    if reply.status != 200 or (start == 0 and size is None):
        return reply
    root = ET.fromstring(reply.body)
    places = _places(root, call.action)
    end = len(places) if size is None else start + size
    for number, (parent, item) in enumerate(places):
        if not start <= number < end:
            parent.remove(item)
    _drop_empty(root, call.action)
    for old in root.findall(f"{{{NAMESPACE}}}nextToken"):
        root.remove(old)
    if end < len(places):
        token = ET.SubElement(root, f"{{{NAMESPACE}}}nextToken")
        token.text = base64.urlsafe_b64encode(f"{call.action}:{end}".encode()).decode()
    ET.register_namespace("", NAMESPACE)
    reply.body = XML_HEAD.encode() + ET.tostring(root)
    return reply


def _places(root: ET.Element, action: str) -> List[Place]:
    outer, inner = ITEMS[action]
    holder = root.find(f"{{{NAMESPACE}}}{outer}")
    if holder is None:
        return []
    if inner is None:
        return [(holder, item) for item in list(holder)]
    lists = [part for part in (item.find(f"{{{NAMESPACE}}}{inner}") for item in holder) if part is not None]
    return [(part, item) for part in lists for item in list(part)]


def _drop_empty(root: ET.Element, action: str) -> None:
    """Removes reservations without instances on this page."""
    outer, inner = ITEMS[action]
    holder = root.find(f"{{{NAMESPACE}}}{outer}")
    if inner is None or holder is None:
        return
    for item in list(holder):
        part = item.find(f"{{{NAMESPACE}}}{inner}")
        if part is None or len(part) == 0:
            holder.remove(item)
