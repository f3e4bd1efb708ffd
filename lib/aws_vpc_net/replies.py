"""Parts of a reply that the SDK ignores: elements that its model lacks, and whether the reply is from EC2 at all.

An SDK drops elements that its model lacks. Newer kinds of interfaces would be missing, and an instance would read as
isolated although one of its interfaces is open. So this module reads the raw reply. Pure.
"""

from __future__ import annotations

import re
from http.client import responses
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Set, Tuple
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


# --- only what is needed ---------------------------------------------------------------------------------------

# What ``list`` needs of a reply of DescribeInstances, by the names of the SDK.
_LISTED: Mapping[str, Any] = {"InstanceId": {}, "State": {"Name": {}}, "Tags": {"Key": {}, "Value": {}}}
LISTED: Mapping[str, Any] = {"Reservations": {"Instances": _LISTED}, "NextToken": {}}
# What the other actions need, beside what ``complete`` adds. The preflight reads all.
_INTERFACE: Mapping[str, Any] = {
    "NetworkInterfaceId": {},
    "Attachment": {"DeviceIndex": {}, "NetworkCardIndex": {}},
    "Groups": {"GroupId": {}},
    "VpcId": {},
    "InterfaceType": {},
    "PrivateIpAddress": {},
    "PrivateIpAddresses": {"PrivateIpAddress": {}},
    "Ipv6Addresses": {"Ipv6Address": {}},
}
_READ: Mapping[str, Any] = {
    **_LISTED,
    "NetworkInterfaces": _INTERFACE,
    "PrivateIpAddress": {},
    "PrivateDnsName": {},
    "BlockDeviceMappings": {"Ebs": {"VolumeId": {}}},
    "LaunchTime": {},
    "StateReason": {"Code": {}},
    "HibernationOptions": {"Configured": {}},
}
READ: Mapping[str, Any] = {"Reservations": {"Instances": _READ}, "NextToken": {}}


def narrow(shape: Any, wanted: Mapping[str, Any]) -> None:
    """Let the SDK convert only these members of its model of a reply. It would need most of the time of a long list,
    and a fifth of that of ``status``.

    An SDK that makes a new model for each reply ignores this, and is slower.
    """
    structure = shape.member if shape.type_name == "list" else shape
    for name in [n for n in structure.members if n not in wanted]:
        del structure.members[name]
    for name, inner in wanted.items():
        if inner:
            narrow(structure.members[name], inner)


# What is used of a reply as it is, without asking whether it is there; [] stands for a list, which may be missing.
_DESCRIBED: Mapping[str, Any] = {
    "InstanceId": {},
    "State": {"Name": {}},
    "NetworkInterfaces": [{"NetworkInterfaceId": {}, "Groups": [{"GroupId": {}}]}],
    "Tags": [{"Key": {}}],
}
_CREDENTIALS: Mapping[str, Any] = {
    "Credentials": {"AccessKeyId": {}, "SecretAccessKey": {}, "SessionToken": {}, "Expiration": {}}
}
NEEDED: Mapping[str, Mapping[str, Any]] = {
    "DescribeInstances": {"Reservations": [{"Instances": [_DESCRIBED]}]},
    "DescribeSecurityGroups": {"SecurityGroups": [{"GroupId": {}}]},
    "DescribeSecurityGroupVpcAssociations": {"SecurityGroupVpcAssociations": [{"GroupId": {}, "VpcId": {}}]},
    "AssumeRole": _CREDENTIALS,
    "AssumeRoleWithWebIdentity": _CREDENTIALS,
}


def lacking(parsed: Mapping[str, Any], needed: Mapping[str, Any]) -> Optional[str]:
    """The name of a member that a part of a reply needs and lacks; None if there is none."""
    for name, inner in needed.items():
        part = parsed.get(name)
        if isinstance(inner, list):
            for item in part or ():
                found = lacking(item, inner[0])
                if found:
                    return found
        elif part is None or not (part or inner):
            return name
        elif inner:
            found = lacking(part, inner)
            if found:
                return found
    return None


# --- whose reply is it? ----------------------------------------------------------------------------------------

_SERVICES = {"ec2": "EC2", "query": "STS"}  # by the protocol that the SDK parses a reply by
# What a document begins with, up to the name of its first element.
_ASIDE = rb"<\?[^>]*>|<!--(?:(?!-->).)*-->"
_ROOT = re.compile(rb"(?:\xef\xbb\xbf)?\s*(?:(?:" + _ASIDE + rb")\s*)*<(?:[\w.-]+:)?([\w.-]+)", re.DOTALL)
# An error of EC2 (Response/Errors/Error/Code) or of STS (ErrorResponse/Error/Code), with a code in it.
_NAME = rb"<(?:[\w.-]+:)?"
_ERROR = re.compile(_NAME + rb"Error>\s*(?:" + _NAME + rb"Type>[^<]*</[^>]*>\s*)?" + _NAME + rb"Code>\s*[^\s<]")
_TITLE = re.compile(rb"<title[^>]*>([^<]{1,1000})", re.IGNORECASE)


class ForeignReply(Exception):
    """A reply that is not from the service: a page of a proxy, a portal, a load balancer, another web server; or that
    lacks what every reply of the service has.

    Attributes:
        operation: the requested API action.
        transient: worth a retry. This includes any success, because its sender may be temporary, and a wrong address
            is reported at the deadline; and statuses that mean "later". Redirections and refusals are permanent.
    """

    def __init__(self, operation: str, service: str, status: int, content: str) -> None:
        phrase = responses.get(status, "")
        super().__init__(f"HTTP {status}{phrase and ' '}{phrase}: the reply is not {service}'s ({content})")
        self.operation = operation
        self.status = status
        self.transient = status < 300 or status in (408, 425, 429) or status >= 500


class Parsers:
    """The SDK's own parsers of replies, each of which first looks whose reply it is.

    The SDK takes any XML of a success for the reply: without what it looks for it is a list of nothing, or a change
    that was made. Of any other page it reads an error without a code and without a text.
    """

    def __init__(self, sdk: Any) -> None:
        self._sdk = sdk

    def set_parser_defaults(self, **defaults: Any) -> None:
        """As the SDK's."""
        self._sdk.set_parser_defaults(**defaults)

    def create_parser(self, protocol: str) -> Any:
        """As the SDK's."""
        parser = self._sdk.create_parser(protocol)
        return _Parser(parser, _SERVICES[protocol]) if protocol in _SERVICES else parser


class _Parser:
    def __init__(self, sdk: Any, service: str) -> None:
        self._sdk = sdk
        self._service = service

    def parse(self, response: Mapping[str, Any], shape: Any) -> Any:
        """As the SDK's.

        Raises:
            ForeignReply: it is not the service's.
        """
        check(response, self._service)
        parsed = self._sdk.parse(response, shape)
        operation, status = str(response["context"]["operation_name"]), int(response["status_code"])
        without = lacking(parsed, NEEDED.get(operation, {})) if status < 300 else None
        if without:
            content = f"{_content(response['headers'], response['body'])}, without {without}"
            raise ForeignReply(operation, self._service, status, content)
        return parsed


def check(response: Mapping[str, Any], service: str) -> None:
    """Look at a reply as the SDK hands it to its parsers: a dictionary of status, headers, body and action.

    Raises:
        ForeignReply: it is not the service's.
    """
    status: int = response["status_code"]
    body: bytes = response["body"]
    operation = str(response["context"]["operation_name"])
    root = _ROOT.match(body, 0, 4096)
    name = root[1].decode("ascii", "replace") if root else ""
    if status < 300 and name == f"{operation}Response":
        return
    if status >= 300 and name in ("Response", "ErrorResponse") and _ERROR.search(body):
        return
    raise ForeignReply(operation, service, status, _content(response["headers"], body))


def _content(headers: Mapping[str, Any], body: bytes) -> str:
    """What a page is, for a message."""
    kind = next((str(v) for k, v in headers.items() if k.lower() == "content-type"), "").partition(";")[0].strip()
    title = _TITLE.search(body, 0, 65536)
    shown = " ".join(title[1].decode("utf-8", "replace").split())[:80] if title else ""
    parts = [kind[:40] if body else "empty", *([f"'{shown}'"] if shown else [])]
    return ", ".join(p for p in parts if p) or "of no known kind"
