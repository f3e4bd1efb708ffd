"""The names of instances: the filters of EC2 for a ``plug`` that is no instance ID, and what its replies say.

Pure. Imported only where there is a name.
"""

from __future__ import annotations

import re
from typing import Any, Callable, Iterator, Mapping, Optional, Tuple

Raw = Mapping[str, Any]  # an instance of a reply of DescribeInstances
Values = Callable[[Raw], Iterator[str]]

_ATTACHED = re.compile(r"(eni|vol)-(?:[0-9a-f]{8}|[0-9a-f]{17})")
_IPV4 = re.compile(r"[0-9]+(?:\.[0-9]+){3}")
_LIKE_IPV6 = re.compile(r"[0-9a-fA-F.]*:[0-9a-fA-F.]*:[0-9a-fA-F:.]*")


def is_attached_thing(plug: str) -> bool:
    """Is it the ID of an interface or of a volume?"""
    return bool(_ATTACHED.fullmatch(plug))


def tag_of(raw: Raw, key: str) -> str:
    """The value of a tag; empty if the instance does not have it."""
    return next((str(t.get("Value", "")) for t in raw.get("Tags", ()) if t["Key"] == key), "")


def one_word(name: str) -> str:
    """A name as one word for the cluster's parser, which splits at white space, ',' and ';'.

    It ignores case, but also any line with one of two words in lower case.
    """
    word = "".join("_" if c.isspace() or c in ",;" or not c.isprintable() else c for c in name)
    return re.sub("invalid|variable", lambda match: match[0].upper(), word)


def ipv6(text: str) -> Optional[str]:
    """An IPv6 address in the spelling of EC2; None if it is none."""
    if not _LIKE_IPV6.fullmatch(text):
        return None
    import ipaddress

    try:
        return ipaddress.IPv6Address(text).compressed
    except ValueError:
        return None


def _folded(name: str) -> str:
    """Equal for names that the cluster takes for one: it sees them as ``list`` shows them, and ignores case."""
    return one_word(name).lower()


def is_same(name: str, other: str) -> bool:
    """Are they one name to the cluster?"""
    return _folded(name) == _folded(other)


def _literal(name: str) -> str:
    """The value of a filter that matches exactly this name: EC2 has wildcards."""
    return re.sub(r"([*?\\])", r"\\\1", name)


def _pattern(name: str) -> str:
    """The value of a filter that matches every name that folds to the same, and more: EC2 respects case."""
    return "".join("*" if not c.isascii() else "?" if c.isalpha() or c == "_" else _literal(c) for c in name)


def _primary_ipv6(raw: Raw) -> Iterator[str]:
    """The IPv6 addresses of the primary interface."""
    for interface in raw.get("NetworkInterfaces", ()):
        at = interface.get("Attachment", {})
        if not at.get("DeviceIndex") and not at.get("NetworkCardIndex"):
            for address in interface.get("Ipv6Addresses", ()):
                yield ipv6(address.get("Ipv6Address", "")) or ""


def _member(name: str) -> Values:
    return lambda raw: iter((str(raw.get(name, "")),))


def _tag(key: str) -> Values:
    return lambda raw: iter((tag_of(raw, key),))


_ATTACHMENTS: Mapping[str, Tuple[str, Values]] = {
    "eni": (
        "network-interface.network-interface-id",
        lambda raw: (i["NetworkInterfaceId"] for i in raw.get("NetworkInterfaces", ())),
    ),
    "vol": (
        "block-device-mapping.volume-id",
        lambda raw: (b.get("Ebs", {}).get("VolumeId", "") for b in raw.get("BlockDeviceMappings", ())),
    ),
}


class Kind:
    """One way in which a name can name an instance.

    Attributes:
        filter: the name of EC2's filter.
        exact: its value for exactly this name.
        similar: its value for other spellings of the name; None if there are none.
    """

    def __init__(self, filter_name: str, values: Values, text: str, *, ignores_case: bool = False) -> None:
        self.filter = filter_name
        self.exact = _literal(text)
        self.similar = _pattern(text) if ignores_case and _pattern(text) != self.exact else None
        self._text, self._values = text, values

    def matches(self, raw: Raw, *, exactly: bool) -> bool:
        """Does it name this instance?"""
        if exactly or self.similar is None:
            return self._text in self._values(raw)
        return any(_folded(value) == _folded(self._text) for value in self._values(raw))


class Name:
    """A plug that is no instance ID.

    It is the ID of an attached interface or volume; otherwise, with ``tag``, the value of this tag; otherwise the
    Name tag, the private DNS name, the primary private IPv4 address or an IPv6 address of the primary interface.
    """

    def __init__(self, plug: str, tag: Optional[str] = None) -> None:
        self.plug = plug
        self.kinds = tuple(_kinds(plug, tag))

    def matches(self, raw: Raw) -> bool:
        """Does it name this instance, in any spelling?"""
        return any(kind.matches(raw, exactly=False) for kind in self.kinds)


def _kinds(plug: str, tag: Optional[str]) -> Iterator[Kind]:
    attached = _ATTACHED.fullmatch(plug)
    if attached:
        yield Kind(*_ATTACHMENTS[attached[1]], plug)
        return
    yield Kind(f"tag:{tag or 'Name'}", _tag(tag or "Name"), plug, ignores_case=True)
    if tag:
        return
    address = ipv6(plug)
    if address:  # what looks like an address is no DNS name, and nothing else is an address
        yield Kind("network-interface.ipv6-addresses.ipv6-address", _primary_ipv6, address)
    elif _IPV4.fullmatch(plug):
        yield Kind("private-ip-address", _member("PrivateIpAddress"), plug)
    else:
        yield Kind("private-dns-name", _member("PrivateDnsName"), plug, ignores_case=True)
