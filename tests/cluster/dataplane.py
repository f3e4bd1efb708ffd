"""The security groups of the emulator as nftables rules on the bridge.

As AWS documents: a connection may begin if a rule of any group of the interface allows it. Replies, and all packets
of tracked connections, pass in any case, also after a change of groups. A flow that was allowed by a group that
allows everything is not tracked, and ends with the change; IPv4 and IPv6 count separately. ICMP is always tracked.
IPv6 neighbour discovery always passes.
https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/security-group-connection-tracking.html

The kernel has one tracking entry for both ends of a connection; EC2 has one for each interface.

EC2's API answers before its network applies a change. AWS documents neither how long that takes nor that every state
is applied. So the rules follow with a lag, in one of several modes.
"""

import functools
import os
import re
import threading
import time
from collections import deque
from dataclasses import dataclass
from enum import Enum
from typing import Deque, Dict, Iterable, List, Optional, Tuple

from ec2.filtering import Filtered, Permission
from ec2.server import Ec2Server

from .fabric import Fabric
from .shell import Failed, run

LAG = 1.0  # seconds, by default
APPLY_SECONDS = 0.05  # that replacing the rules takes; it begins so long before the lag is over
MAX_PENDING = 1000  # changes
UNTRACK_ATTEMPTS = 50  # each of which deletes connections; those that end by themselves are fewer

FAMILIES = ("ip", "ip6")
TRACKING = "\n".join(
    f"table {family} tracking {{ chain c {{ type filter hook forward priority -10;\nct state new counter\n}}\n}}"
    for family in FAMILIES
)
"""Permanent, so that the kernel continues to track connections while the rules are replaced."""
NEIGHBOUR_DISCOVERY = (
    "icmpv6 type { nd-router-solicit, nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert } accept"
)
ICMP = {"icmp": "icmp", "1": "icmp", "icmpv6": "icmpv6", "58": "icmpv6"}


def compile_rules(interfaces: Iterable[Filtered]) -> str:
    """The nftables commands that replace all rules in one transaction."""
    known = list(interfaces)
    return "\n".join(_table(family, known) for family in FAMILIES)


def _table(family: str, known: List[Filtered]) -> str:
    replaced = f"add table {family} groups\ndelete table {family} groups"
    ipv6 = family == "ip6"
    numbers = {address: number for number, i in enumerate(known) for address in i.addresses(ipv6)}
    if not numbers:
        return replaced
    chains: List[str] = []
    for number in sorted(set(numbers.values())):
        for egress in (False, True):
            rules = [_rule(p, known, ipv6) for p in known[number].permissions if p.egress is egress]
            body = "\n".join([*filter(None, rules), "counter drop"])
            chains.append(f"chain {_chain(number, egress)} {{\n{body}\n}}")
    jumps = [
        f"{family} {side} vmap {{ {', '.join(f'{a} : jump {_chain(n, egress)}' for a, n in numbers.items())} }}"
        for side, egress in (("saddr", True), ("daddr", False))
    ]
    accepted = ["ct state established,related accept", *([NEIGHBOUR_DISCOVERY] if ipv6 else [])]
    first = "\n".join(["type filter hook forward priority 0;", *accepted, *jumps])
    table = "\n".join([*chains, f"chain forward {{\n{first}\n}}"])
    return f"{replaced}\ntable {family} groups {{\n{table}\n}}"


def _chain(number: int, egress: bool) -> str:
    return f"{'out' if egress else 'in'}_{number}"


def _rule(permission: Permission, known: List[Filtered], ipv6: bool) -> str:
    """An nftables rule of one family; empty if it has no peers of this family."""
    members = [a for i in known if permission.group in i.groups for a in i.addresses(ipv6)]
    peers = [permission.cidr] if permission.cidr else members
    if not peers or (":" in peers[0]) is not ipv6:
        return ""
    match = f"{'ip6' if ipv6 else 'ip'} {'daddr' if permission.egress else 'saddr'} {{ {', '.join(peers)} }}"
    if permission.protocol == "-1":
        return f"{match} return"
    if permission.protocol in ICMP:
        return f"{match} meta l4proto {ICMP[permission.protocol]} return"
    first, last = permission.ports
    ports = first if first == last else f"{first}-{last}"  # nftables 0.9 refuses a range of one
    return f"{match} {permission.protocol} dport {ports} return"


@functools.cache
def _conntrack() -> Tuple[str, ...]:
    """What runs the commands of its input: conntrack itself from 1.4.7 on. Exit code 1: nothing to delete."""
    found = re.search(r"v(\d+)\.(\d+)\.(\d+)", run("conntrack", "--version"))
    if found and tuple(map(int, found.groups())) >= (1, 4, 7):
        return "conntrack", "--load-file", "-"
    return "sh", "-c", "while read -r words; do conntrack $words || [ $? = 1 ] || exit; done"


def _raise_priority() -> None:
    """Runs this thread and its children first, so that other work on the machine does not increase the lag."""
    this = threading.get_native_id()
    try:
        os.sched_setscheduler(this, os.SCHED_RR, os.sched_param(1))
    except OSError:  # not in every container
        os.setpriority(os.PRIO_PROCESS, this, -20)


class Mode(Enum):
    """How the network applies changes."""

    IN_ORDER = "in order"
    """It applies every state, each after the lag."""
    NEWEST = "newest only"
    """It reads the newest state when the lag after a change is over. States in between are never applied."""
    OWN_PACE = "own pace"
    """In order. The last interface of an instance has the whole lag, the first of two has half of it."""
    ONE_LATE = "one late"
    """Only the last interface of an instance has a lag."""


@dataclass(frozen=True)
class Pace:
    """The lag and mode of the interfaces of an instance."""

    lag: float = LAG
    mode: Mode = Mode.IN_ORDER

    def of(self, rank: int, count: int) -> float:
        """The lag of one interface of an instance."""
        if self.mode is Mode.OWN_PACE:
            return self.lag * (rank + 1) / count
        if self.mode is Mode.ONE_LATE:
            return self.lag if rank + 1 == count else 0.0
        return self.lag


@dataclass(frozen=True)
class Effect:
    """An applied state of an interface."""

    interface: str
    changed_at: float
    """When the first change that it contains was made, time.monotonic()."""
    at: float
    """When the rules were applied, and connections untracked."""
    untracked: bool
    """Whether it allows all traffic."""

    @property
    def delay(self) -> float:
        """Seconds from the change to its effect."""
        return self.at - self.changed_at


@dataclass(frozen=True)
class _Pending:
    changed_at: float
    due: float
    state: Optional[Filtered]
    """None: the interface is gone."""


class DataPlane:
    """Applies the groups of the emulator, late. Without a lag, a change has its effect before the API replies."""

    def __init__(self, ec2: Ec2Server, fabric: Fabric) -> None:
        self._ec2 = ec2
        self._fabric = fabric
        self._paces: Dict[str, Pace] = {}  # by instance; "" for all others
        self._applied: Dict[str, Filtered] = {}
        self._pending: Dict[str, Deque[_Pending]] = {}
        self._changed = threading.Condition()  # guards all of these
        self._applying = threading.Lock()  # taken before the other
        self._error: Optional[BaseException] = None
        self._worker: Optional[threading.Thread] = None
        self.effects: List[Effect] = []
        """All effects so far."""

    def start(self) -> None:
        """Begins to apply the groups."""
        self._fabric.nft(TRACKING)
        self.apply_now()
        self._worker = threading.Thread(target=self._work, name="data plane", daemon=True)
        self._worker.start()
        self._ec2.watchers.append(lambda _call: self._on_change())

    def close(self) -> None:
        """Stops applying changes."""
        worker, self._worker = self._worker, None
        with self._changed:
            self._changed.notify_all()
        if worker is not None:
            worker.join(10)
        self.check()

    def check(self) -> None:
        """Raises the error that ended the thread of the data plane, if any."""
        if self._error is not None:
            raise Failed(f"the data plane failed: {self._error}") from self._error

    # The lag

    def set_lag(self, lag: float = LAG, mode: Mode = Mode.IN_ORDER, instance: str = "") -> None:
        """Sets the lag of one instance, or of all, also of those with their own. Applies pending changes."""
        with self._changed:
            if not instance:
                self._paces.clear()
            self._paces[instance] = Pace(lag, mode)
        self.apply_now()

    def apply_now(self) -> None:
        """Applies the current state of the emulator now."""
        self.check()
        with self._applying:
            self._enqueue_changes()
            self._apply(float("inf"))

    def _on_change(self) -> None:
        if self._enqueue_changes():
            with self._applying:  # waits if the thread is applying changes
                self._apply(time.monotonic())

    def _enqueue_changes(self) -> bool:
        """Enqueues all changes; returns whether one of them is due now."""
        with self._changed:
            changed_at, interfaces, due_now = time.monotonic(), self._ec2.filtering(), False
            current = {i.interface: i for i in interfaces}
            for interface in {**self._applied, **current}:
                queue = self._pending.setdefault(interface, deque())
                latest = queue[-1].state if queue else self._applied.get(interface)
                if current.get(interface) != latest:
                    self._enqueue(queue, changed_at, current.get(interface), self._pace_of(interface, interfaces))
                    due_now = due_now or queue[0].due <= changed_at
            if sum(map(len, self._pending.values())) > MAX_PENDING:
                raise Failed(f"more than {MAX_PENDING} changes are pending")
            self._changed.notify_all()
            return due_now

    def _pace_of(self, interface: str, interfaces: List[Filtered]) -> Tuple[float, Mode]:
        instance = next((i.instance for i in interfaces if i.interface == interface), "")
        pace = self._paces.get(instance) or self._paces.get("") or Pace()
        siblings = [i.interface for i in interfaces if i.instance == instance]
        return (pace.of(siblings.index(interface), len(siblings)) if siblings else 0.0), pace.mode

    @staticmethod
    def _enqueue(
        queue: Deque[_Pending], changed_at: float, state: Optional[Filtered], pace: Tuple[float, Mode]
    ) -> None:
        lag, mode = pace
        first = queue.pop() if queue and mode is Mode.NEWEST else _Pending(changed_at, changed_at + lag, None)
        queue.append(_Pending(first.changed_at, first.due, state))

    def _next_due(self) -> float:
        with self._changed:
            return min((queue[0].due for queue in self._pending.values() if queue), default=float("inf"))

    # The effect

    def _work(self) -> None:
        _raise_priority()
        try:
            while self._worker is not None:
                with self._changed:
                    left = self._next_due() - APPLY_SECONDS - time.monotonic()
                    if left > 0:
                        self._changed.wait(min(left, 1.0))
                        continue
                with self._applying:
                    self._apply(time.monotonic() + APPLY_SECONDS)
        except BaseException as error:  # noqa: BLE001 - check() raises it
            self._error = error

    def _apply(self, until: float) -> None:
        """Applies the states that are due until then, one of each interface at a time. Needs _applying."""
        while True:
            with self._changed:
                due = {i: queue.popleft() for i, queue in self._pending.items() if queue and queue[0].due <= until}
                replaced = [self._applied[i] for i, p in due.items() if self._applied.get(i) not in (None, p.state)]
                untracked = [address for interface in replaced for address in interface.untracked_addresses]
                states = {**self._applied, **{i: p.state for i, p in due.items()}}
                self._applied = {i: state for i, state in states.items() if state is not None}
                rules = compile_rules(self._applied.values())
            if not due:
                return
            self._fabric.nft(rules)
            if untracked:
                self.untrack(*untracked)
            at = time.monotonic()
            for interface, change in due.items():
                untracked_now = change.state is not None and change.state.untracked
                self.effects.append(Effect(interface, change.changed_at, at, untracked_now))

    @property
    def idle(self) -> bool:
        """Whether all changes were applied."""
        self.check()
        return self._next_due() == float("inf")

    def longest_delay(self, since: float) -> float:
        """The longest delay of the changes made since then, in seconds."""
        return max((e.delay for e in list(self.effects) if e.changed_at >= since), default=0.0)

    def effects_on(self, interfaces: Iterable[str], since: float) -> List[Effect]:
        """The effects of the changes of these interfaces since then, in order."""
        chosen = set(interfaces)
        return [e for e in list(self.effects) if e.interface in chosen and e.changed_at >= since]

    def untrack(self, *addresses: str) -> None:
        """Ends the tracking of the connections of addresses, so that the rules apply to their next packets."""
        commands = [
            f"-D -f {'ipv6' if ':' in address else 'ipv4'} -p {protocol} {side} {address}\n"
            for address in addresses
            for protocol in ("tcp", "udp")
            for side in ("--orig-src", "--orig-dst")
        ]
        for _ in range(UNTRACK_ATTEMPTS):
            try:
                self._fabric.inside(self._fabric.switch, *_conntrack(), stdin="".join(commands))
                return
            except Failed as error:
                # conntrack lists the connections, then deletes each; one of them ended in between.
                if "such conntrack doesn't exist" not in str(error):
                    raise
        raise Failed(f"connections of {', '.join(addresses)} ended during each of {UNTRACK_ATTEMPTS} attempts")

    def dropped(self, address: str) -> int:
        """The number of packets from and to an address that the groups dropped since the rules changed last."""
        number = [i.address for i in self._applied.values()].index(address)
        chains = [("nft", "list", "chain", "ip", "groups", _chain(number, egress)) for egress in (False, True)]
        text = "".join(self._fabric.inside(self._fabric.switch, *chain) for chain in chains)
        return sum(int(n) for n in re.findall(r"counter packets (\d+) bytes \d+ drop", text))

    def connections(self, address: str) -> List[str]:
        """The tracked connections of an address, one per line."""
        sides = ("--orig-src", "--orig-dst")
        return [
            line
            for side in sides
            for line in self._fabric.inside(
                self._fabric.switch, "conntrack", "-L", side, address, check=False
            ).splitlines()
        ]
