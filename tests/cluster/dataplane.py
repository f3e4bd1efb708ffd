"""The security groups of the emulator, made to bite: nftables rules on the bridge.

As AWS documents it: a rule of any group of an interface is enough to let a connection begin; replies and whatever
belongs to a tracked connection pass in any case, also after the groups have changed. What was let through by a group
that allows everything is not tracked: it ends with the change. ICMP is always tracked.
https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/security-group-connection-tracking.html

One entry of the kernel's connection tracking stands for both ends of a connection; EC2 tracks at each interface.
"""

import re
import threading
from typing import Dict, Iterable, List

from ec2.filtering import Filtered, Permission
from ec2.server import Ec2Server

from .fabric import Fabric

TRACKING = "table ip tracking { chain c { type filter hook forward priority -10;\nct state new counter\n}\n}"
"""Stays, so that the kernel does not stop tracking between two versions of the rules."""


def compiled(interfaces: Iterable[Filtered]) -> str:
    """The rules, to replace those that are there in one step."""
    known = list(interfaces)
    chains: List[str] = []
    for number, interface in enumerate(known):
        for egress in (False, True):
            rules = [_rule(p, known) for p in interface.permissions if p.egress is egress]
            body = "\n".join([*filter(None, rules), "counter drop"])
            chains.append(f"chain {_chain(number, egress)} {{\n{body}\n}}")
    jumps = [
        f"ip {side} vmap {{ {', '.join(f'{i.address} : jump {_chain(n, egress)}' for n, i in enumerate(known))} }}"
        for side, egress in (("saddr", True), ("daddr", False))
    ]
    first = "\n".join(["type filter hook forward priority 0;", "ct state established,related accept", *jumps])
    table = "\n".join([*chains, f"chain forward {{\n{first}\n}}"])
    return f"add table ip groups\ndelete table ip groups\ntable ip groups {{\n{table}\n}}"


def _chain(number: int, egress: bool) -> str:
    return f"{'out' if egress else 'in'}_{number}"


def _rule(permission: Permission, known: List[Filtered]) -> str:
    """An nftables rule; empty if nobody is meant."""
    whom = [permission.cidr] if permission.cidr else [i.address for i in known if permission.group in i.groups]
    if not whom or ":" in whom[0]:
        return ""
    match = f"ip {'daddr' if permission.egress else 'saddr'} {{ {', '.join(whom)} }}"
    if permission.protocol == "-1":
        return f"{match} return"
    if permission.protocol == "icmp":
        return f"{match} ip protocol icmp return"
    first, last = permission.ports
    return f"{match} {permission.protocol} dport {first}-{last} return"


class DataPlane:
    """Follows the emulator. A change has its effect before the call that made it is answered."""

    def __init__(self, ec2: Ec2Server, fabric: Fabric) -> None:
        self._ec2 = ec2
        self._fabric = fabric
        self._before: Dict[str, Filtered] = {}
        self._lock = threading.Lock()

    def start(self) -> None:
        """Obeys the groups from now on."""
        self._fabric.nft(TRACKING)
        self.follow()
        self._ec2.watchers.append(lambda _call: self.follow())

    def follow(self) -> None:
        """Looks at the emulator, and lets what has changed have its effect."""
        with self._lock:
            now = {i.interface: i for i in self._ec2.filtering()}
            if now == self._before:
                return
            self._fabric.nft(compiled(now.values()))
            changed = [old for old in self._before.values() if now.get(old.interface) != old]
            self._before = now
            for interface in changed:
                if interface.untracked:
                    self.forget(interface.address)

    def forget(self, address: str) -> None:
        """Ends the tracking of an interface's connections, so that the rules decide on their next packets."""
        for protocol in ("tcp", "udp"):
            for side in ("--orig-src", "--orig-dst"):
                command = ("conntrack", "-D", "-p", protocol, side, address)
                self._fabric.inside(self._fabric.switch, *command, check=False)  # 1: there are none

    def dropped(self, address: str) -> int:
        """Packets from and to an address that the groups did not let through, since groups changed last."""
        number = [i.address for i in self._before.values()].index(address)
        chains = [("nft", "list", "chain", "ip", "groups", _chain(number, egress)) for egress in (False, True)]
        text = "".join(self._fabric.inside(self._fabric.switch, *chain) for chain in chains)
        return sum(int(n) for n in re.findall(r"counter packets (\d+) bytes \d+ drop", text))

    def connections(self, address: str) -> List[str]:
        """What the kernel tracks of an address, one connection a line."""
        sides = ("--orig-src", "--orig-dst")
        return [
            line
            for side in sides
            for line in self._fabric.inside(
                self._fabric.switch, "conntrack", "-L", side, address, check=False
            ).splitlines()
        ]
