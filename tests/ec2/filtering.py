"""What the security groups of interfaces allow, for a network that applies them."""

from dataclasses import dataclass
from typing import Any, List, Tuple


@dataclass(frozen=True)
class Permission:
    """A rule of a group, inbound or outbound."""

    egress: bool
    protocol: str
    """tcp, udp, icmp, icmpv6, or -1 for all."""
    ports: Tuple[int, int]
    """First and last; (-1, -1) for all."""
    cidr: str
    """IPv4 or IPv6 range, or empty where `group` is set."""
    group: str

    def allows_all(self, ipv6: bool) -> bool:
        """All protocols and ports, from or to everybody, by IPv4 or IPv6."""
        return self.protocol == "-1" and self.cidr == ("::/0" if ipv6 else "0.0.0.0/0")


@dataclass(frozen=True)
class Filtered:
    """An interface and the rules of its groups."""

    interface: str
    instance: str
    address: str
    """Primary private IPv4 address; empty if it has none."""
    groups: Tuple[str, ...]
    permissions: Tuple[Permission, ...]
    ipv6: Tuple[str, ...] = ()

    def addresses(self, ipv6: bool) -> Tuple[str, ...]:
        """Of one family."""
        return self.ipv6 if ipv6 else (self.address,) if self.address else ()

    @property
    def untracked_addresses(self) -> Tuple[str, ...]:
        """Those of the families of which all traffic is allowed in and out: EC2 then does not track connections."""
        return tuple(a for ipv6 in (False, True) if self._allows_all(ipv6) for a in self.addresses(ipv6))

    @property
    def untracked(self) -> bool:
        """EC2 does not track connections of any of its addresses."""
        return self.untracked_addresses == (*self.addresses(False), *self.ipv6)

    def _allows_all(self, ipv6: bool) -> bool:
        return {p.egress for p in self.permissions if p.allows_all(ipv6)} == {False, True}


def filtering(backend: Any) -> List[Filtered]:
    """Every interface that is attached to an instance."""
    found = []
    for instance in backend.all_instances():
        for nic in instance.network_interfaces:
            groups = sorted(nic._group_set, key=lambda group: str(group.id))
            permissions = tuple(p for group in groups for p in _permissions(group))
            ids = tuple(str(group.id) for group in groups)
            ipv6 = tuple(str(a) for a in nic.ipv6_addresses)
            found.append(Filtered(nic.id, instance.id, nic.private_ip_address or "", ids, permissions, ipv6))
    return found


def _permissions(group: Any) -> List[Permission]:
    return [
        Permission(egress, rule.ip_protocol, _ports(rule), *_peer(rule))
        for egress, rules in ((False, group.ingress_rules), (True, group.egress_rules))
        for rule in rules
    ]


def _ports(rule: Any) -> Tuple[int, int]:
    if rule.from_port is None or rule.to_port is None:
        return (-1, -1)
    return (int(rule.from_port), int(rule.to_port))


def _peer(rule: Any) -> Tuple[str, str]:
    cidr = rule.ip_range.get("CidrIp") or rule.ip_range.get("CidrIpv6") or ""
    return str(cidr), str(rule.source_group.get("GroupId") or "")
