"""What the security groups of interfaces let through: for a network that is to obey them."""

from dataclasses import dataclass
from typing import Any, List, Tuple


@dataclass(frozen=True)
class Permission:
    """A rule of a group: what it lets in, or out."""

    egress: bool
    protocol: str
    """tcp, udp, icmp, or -1 for all."""
    ports: Tuple[int, int]
    """First and last; (-1, -1) for all."""
    cidr: str
    """IPv4 or IPv6 range, or empty where `group` is set."""
    group: str

    @property
    def anything(self) -> bool:
        """All protocols and ports, from or to everybody (IPv4)."""
        return self.protocol == "-1" and self.cidr == "0.0.0.0/0"


@dataclass(frozen=True)
class Filtered:
    """An interface and what its groups permit."""

    interface: str
    instance: str
    address: str
    """Primary private IPv4 address."""
    groups: Tuple[str, ...]
    permissions: Tuple[Permission, ...]

    @property
    def untracked(self) -> bool:
        """Everything is let in and out: EC2 then does not track connections."""
        return all(any(p.anything for p in self.permissions if p.egress is egress) for egress in (False, True))


def filtering(backend: Any) -> List[Filtered]:
    """Every interface that is attached to an instance."""
    found = []
    for instance in backend.all_instances():
        for nic in instance.network_interfaces:
            groups = sorted(nic._group_set, key=lambda group: str(group.id))
            permissions = tuple(p for group in groups for p in _permissions(group))
            ids = tuple(str(group.id) for group in groups)
            found.append(Filtered(nic.id, instance.id, nic.private_ip_address, ids, permissions))
    return found


def _permissions(group: Any) -> List[Permission]:
    return [
        Permission(egress, rule.ip_protocol, _ports(rule), *_whom(rule))
        for egress, rules in ((False, group.ingress_rules), (True, group.egress_rules))
        for rule in rules
    ]


def _ports(rule: Any) -> Tuple[int, int]:
    if rule.from_port is None or rule.to_port is None:
        return (-1, -1)
    return (int(rule.from_port), int(rule.to_port))


def _whom(rule: Any) -> Tuple[str, str]:
    cidr = rule.ip_range.get("CidrIp") or rule.ip_range.get("CidrIpv6") or ""
    return str(cidr), str(rule.source_group.get("GroupId") or "")
