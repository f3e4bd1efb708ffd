"""Instances: read them whole, list them, stop them."""

from __future__ import annotations

import re
from itertools import islice
from typing import Any, Callable, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Tuple

from . import messages
from .core.model import Instance, Interface
from .ec2 import CallContext, Ec2
from .errors import Category

PAGE = 1000  # instances a page, EC2's most
MOST_PAGES = 1000  # a bound, not a limit that an account reaches


def _name(raw: Mapping[str, Any]) -> str:
    return next((t.get("Value", "") for t in raw.get("Tags", ()) if t["Key"] == "Name"), "")


def one_word(name: str) -> str:
    """A name as one word for the cluster's parser, which splits at white space, ',' and ';'."""
    return "".join("_" if c.isspace() or c in ",;" or not c.isprintable() else c for c in name)


def _folded(name: str) -> str:
    """Equal for names that the cluster takes for one: it sees them as ``list`` shows them, and ignores case."""
    return one_word(name).lower()


def _literal(name: str) -> str:
    """The value of a filter that matches exactly this name: EC2 has wildcards."""
    return re.sub(r"([*?\\])", r"\\\1", name)


def _pattern(name: str) -> str:
    """The value of a filter that matches every name that folds to the same, and more: EC2 respects case."""
    return "".join("*" if not c.isascii() else "?" if c.isalpha() or c == "_" else _literal(c) for c in name)


NAMES: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "tag:Name": _name,
    "private-dns-name": lambda raw: str(raw.get("PrivateDnsName", "")),
    "private-ip-address": lambda raw: str(raw.get("PrivateIpAddress", "")),
}


def _kinds(name: str) -> Tuple[str, str]:
    """The filters that can match it: what looks like an address is no DNS name, and nothing else is an address."""
    address = re.fullmatch(r"[0-9]+(?:\.[0-9]+){3}", name)
    return ("tag:Name", "private-ip-address" if address else "private-dns-name")


def _position(raw: Mapping[str, Any]) -> Tuple[int, int, str]:
    at = raw.get("Attachment", {})
    return (at.get("NetworkCardIndex") or 0, at.get("DeviceIndex") or 0, raw["NetworkInterfaceId"])


def _addresses(raw: Mapping[str, Any]) -> Tuple[str, ...]:
    """Of an interface: its private IPv4 addresses, the primary one first, and its IPv6 addresses."""
    private = [raw.get("PrivateIpAddress"), *(a.get("PrivateIpAddress") for a in raw.get("PrivateIpAddresses", ()))]
    ipv6 = [a.get("Ipv6Address") for a in raw.get("Ipv6Addresses", ())]
    return tuple(dict.fromkeys(str(a) for a in (*private, *ipv6) if a))


def parse_instance(raw: Mapping[str, Any]) -> Instance:
    """An instance of a DescribeInstances reply; interfaces numbered by (network card, device index)."""
    ordered = sorted(raw.get("NetworkInterfaces", ()), key=_position)
    interfaces = [
        Interface(
            id=i["NetworkInterfaceId"],
            number=number,
            groups=frozenset(g["GroupId"] for g in i.get("Groups", ())),
            vpc=i.get("VpcId", ""),
            managed=bool(i.get("Operator", {}).get("Managed", False)),
            kind=i.get("InterfaceType", "interface"),
            position=_position(i)[:2],
            addresses=_addresses(i),
        )
        for number, i in enumerate(ordered, 1)
    ]
    # Interfaces of a kind that has no groups cannot be isolated: shown as interfaces without groups.
    for number, i in enumerate(raw.get("SecondaryInterfaces", ()), len(interfaces) + 1):
        interfaces.append(Interface(i["SecondaryInterfaceId"], number, frozenset()))
    tags = {t["Key"]: t.get("Value", "") for t in raw.get("Tags", ())}
    return Instance(raw["InstanceId"], raw["State"]["Name"], tuple(interfaces), tags)


class InstanceOperations:
    """What the agent does with instances."""

    def __init__(self, ec2: Ec2) -> None:
        self._ec2 = ec2

    def read(self, ids: Iterable[str]) -> Dict[str, Instance]:
        """These instances, in one call; the unknown ones are missing."""
        return {i: parse_instance(raw) for i, raw in self.described(ids).items()}

    def described(self, ids: Iterable[str]) -> Dict[str, Mapping[str, Any]]:
        """These instances as EC2 describes them.

        By filter, which finds what there is; by ID, one unknown instance would fail the call.
        """
        wanted = sorted(set(ids))
        purpose = CallContext(f"read instance {', '.join(wanted)}", Category.RETRIEVAL)
        pages = self._pages(purpose, Filters=[{"Name": "instance-id", "Values": wanted}])
        return {raw["InstanceId"]: raw for page in pages for raw in page}

    def listed(self, filters: Sequence[Tuple[str, Tuple[str, ...]]]) -> Iterator[Tuple[str, str, str]]:
        """(ID, Name tag, state) of every instance that matches, page by page."""
        purpose = CallContext("list instances", Category.RETRIEVAL)
        given = [{"Name": k, "Values": list(v)} for k, v in filters]
        for page in self._pages(purpose, Filters=given, MaxResults=PAGE):
            for raw in page:
                yield raw["InstanceId"], _name(raw), raw["State"]["Name"]

    def raw_pages(
        self, purpose: CallContext, filters: Sequence[Tuple[str, Tuple[str, ...]]], most: int
    ) -> Iterator[List[Mapping[str, Any]]]:
        """The instances that match, as EC2 describes them; at most so many pages."""
        given = [{"Name": k, "Values": list(v)} for k, v in filters]
        return islice(self._pages(purpose, Filters=given, MaxResults=PAGE), most)

    def probe(self) -> None:
        """One cheap call that needs good credentials and the permission to read instances."""
        self._ec2.call("describe_instances", CallContext("read instances", Category.RETRIEVAL), MaxResults=5)

    def named(self, name: str, filters: Sequence[Tuple[str, Tuple[str, ...]]]) -> List[str]:
        """IDs of the instances that have this Name tag, private DNS name or primary private IP.

        An exact match takes precedence. Otherwise, names match that differ in case, or in characters that ``list``
        replaces: Pacemaker knows the names from ``list`` and ignores case. Terminated instances are ignored if
        there is another one; otherwise one of them represents all, because it stays off.
        """
        purpose = CallContext(f"look up instance {name}", Category.RETRIEVAL)
        given = [{"Name": k, "Values": list(v)} for k, v in filters]
        terminated: List[str] = []
        for wanted, same in ((_literal(name), str), (_pattern(name), _folded)):
            if wanted == _literal(name) and same is _folded:
                break  # nothing in it that could be written in another way
            states: Dict[str, str] = {}
            for key in _kinds(name):
                narrowed = [*given, {"Name": key, "Values": [wanted]}]
                for raw in (r for page in self._pages(purpose, Filters=narrowed, MaxResults=PAGE) for r in page):
                    if same(NAMES[key](raw)) == same(name):
                        states[raw["InstanceId"]] = raw["State"]["Name"]
            alive = sorted(i for i, state in states.items() if state != "terminated")
            if alive:
                return alive
            terminated += sorted(states)
        return terminated[:1]

    def stop(self, instance: str, **more: bool) -> None:
        """Force a stop; ``SkipOsShutdown=True`` does not wait for the operating system."""
        purpose = CallContext(f"stop instance {instance}", Category.INSTANCE)
        self._ec2.call("stop_instances", purpose, InstanceIds=[instance], Force=True, **more)

    def stop_protected(self, instance: str) -> bool:
        """Is stop protection (``disableApiStop``) on? A dry run does not show it."""
        purpose = CallContext(f"look up the stop protection of {instance}", Category.RETRIEVAL)
        asked = "disableApiStop"  # older SDKs do not know it, and pass it on
        reply = self._ec2.call("describe_instance_attribute", purpose, InstanceId=instance, Attribute=asked)
        return bool(reply.get("DisableApiStop", {}).get("Value", False))

    def start(self, instance: str) -> None:
        """Start it; nothing happens to one that runs."""
        purpose = CallContext(f"start instance {instance}", Category.INSTANCE)
        self._ec2.call("start_instances", purpose, InstanceIds=[instance])

    def _pages(self, purpose: CallContext, **params: Any) -> Iterator[List[Mapping[str, Any]]]:
        token: Optional[str] = None
        for _ in range(MOST_PAGES):
            if token:
                params["NextToken"] = token
            reply = self._ec2.call("describe_instances", purpose, **params)
            yield [i for r in reply.get("Reservations", ()) for i in r.get("Instances", ())]
            token = reply.get("NextToken")
            if not token:
                return
        raise messages.too_many_pages(purpose.what, MOST_PAGES)
