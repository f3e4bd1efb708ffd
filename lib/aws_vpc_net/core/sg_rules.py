"""What a security group lets through, from a reply of DescribeSecurityGroups. Pure.

EC2 does not track a flow whose rule allows 0.0.0.0/0 (::/0) while the other direction allows all to 0.0.0.0/0 (::/0).
So a group untracks exactly if it has a rule for all traffic, both in and out, with these very ranges: two halves of
the address space let as much through, and do not count.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Any, FrozenSet, Iterable, Iterator, List, Mapping, Optional, Tuple, Union

ALL = "-1"
ANYWHERE = {False: "0.0.0.0/0", True: "::/0"}  # by: is it IPv6
ICMP = ("icmp", "icmpv6", "1", "58")
TCP = ("tcp", "6")
NAMES = {"1": "icmp", "6": "tcp", "17": "udp", "58": "icmpv6"}
PEERS = (
    ("IpRanges", "CidrIp"),
    ("Ipv6Ranges", "CidrIpv6"),
    ("PrefixListIds", "PrefixListId"),
    ("UserIdGroupPairs", "GroupId"),
)


@dataclass(frozen=True)
class Rule:
    """One thing that a group lets through; ``peer`` is a range, a prefix list, or a group."""

    outbound: bool
    protocol: str
    first: Optional[int]
    last: Optional[int]
    peer: str

    def __str__(self) -> str:
        way = "out" if self.outbound else "in"
        return f"{way}: {self._traffic()} {'to' if self.outbound else 'from'} {self.peer}"

    def _traffic(self) -> str:
        if self.protocol == ALL:
            return "all traffic"
        name = NAMES.get(self.protocol, self.protocol)
        if self.first is None or self.first == -1:
            return f"all {name}"
        if self.protocol in ICMP:
            return f"{name} type {self.first}" + ("" if self.last in (None, -1) else f" code {self.last}")
        if (self.first, self.last) == (0, 65535):
            return f"all {name}"
        return f"{name} {self.first}" if self.first == self.last else f"{name} {self.first}-{self.last}"


def read(group: Mapping[str, Any]) -> Tuple[Rule, ...]:
    """The rules of a group, inbound ones first, in EC2's order."""
    inbound = (r for p in group.get("IpPermissions", ()) for r in _rules(p, False))
    outbound = (r for p in group.get("IpPermissionsEgress", ()) for r in _rules(p, True))
    return (*inbound, *outbound)


def _rules(permission: Mapping[str, Any], outbound: bool) -> Iterator[Rule]:
    for holder, key in PEERS:
        for peer in permission.get(holder, ()):
            yield Rule(
                outbound,
                str(permission.get("IpProtocol", ALL)),
                permission.get("FromPort"),
                permission.get("ToPort"),
                str(peer.get(key) or "?"),
            )


def all_of(rules: Iterable[Rule], outbound: bool, ipv6: bool) -> bool:
    """Is everything let through, in one direction, for IPv4 or IPv6?"""
    return any(r.outbound == outbound and r.protocol == ALL and r.peer == ANYWHERE[ipv6] for r in rules)


def missing_rules(rules: Iterable[Rule], ipv6: bool) -> List[str]:
    """What is not let through of everything, in words; ``ipv6``: IPv6 counts too. Empty: flows become untracked."""
    present = list(rules)
    families = (False, True) if ipv6 else (False,)
    wanted = [Rule(outbound, ALL, None, None, ANYWHERE[f]) for f in families for outbound in (False, True)]
    return [str(w) for w in wanted if not all_of(present, w.outbound, w.peer == ANYWHERE[True])]


def opens_all(rules: Iterable[Rule]) -> bool:
    """Does it let everything through in some direction? Then it isolates nothing."""
    present = list(rules)
    return any(all_of(present, outbound, ipv6) for outbound in (False, True) for ipv6 in (False, True))


# --- who gets in -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Source:
    """Who connects: what its address may be, and the groups of its interfaces (None: not known)."""

    addresses: FrozenSet[str]
    groups: Optional[FrozenSet[str]] = None


def admitting(rules: Iterable[Rule], port: int, source: Source, ipv6: bool) -> Tuple[List[Rule], List[Rule]]:
    """The rules that let the source connect to a TCP port; and those of which that cannot be told.

    The rules out do not count: what answers a connection that a rule let in passes without them.

    Args:
        ipv6: by IPv6; else by IPv4.
    """
    fitting = [r for r in rules if not r.outbound and _has_port(r, port)]
    admitted = [(r, _is_peer(r.peer, source, ipv6)) for r in fitting]
    return [r for r, known in admitted if known], [r for r, known in admitted if known is None]


def _has_port(rule: Rule, port: int) -> bool:
    """Is a TCP port among the traffic of the rule?"""
    if rule.protocol == ALL:
        return True
    if rule.protocol not in TCP:
        return False
    if rule.first is None or rule.first == -1:
        return True
    return rule.first <= port <= (rule.first if rule.last is None else rule.last)


def _is_peer(peer: str, source: Source, ipv6: bool) -> Optional[bool]:
    """Does the peer of a rule include the source? None: that cannot be told, as of a prefix list."""
    if peer.startswith("sg-"):
        return None if source.groups is None else peer in source.groups
    try:
        network = ipaddress.ip_network(peer, strict=False)
    except ValueError:
        return None
    if (network.version == 6) != ipv6:
        return False
    own = [a for a in _parsed(source.addresses) if a.version == network.version]
    if not own and network.prefixlen:
        return None
    return not network.prefixlen or any(a in network for a in own)


def _parsed(addresses: Iterable[str]) -> Iterator[Union[ipaddress.IPv4Address, ipaddress.IPv6Address]]:
    """Those that are addresses."""
    for address in addresses:
        try:
            yield ipaddress.ip_address(address)
        except ValueError:
            continue
