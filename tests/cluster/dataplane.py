"""The security groups of the emulator, made to bite: nftables rules on the bridge.

As AWS documents it: a rule of any group of an interface is enough to let a connection begin; replies and whatever
belongs to a tracked connection pass in any case, also after the groups have changed. What was let through by a group
that allows everything is not tracked: it ends with the change. That is so for IPv4 and for IPv6, each by its own
rules. ICMP is always tracked. IPv6 neighbour discovery always passes.
https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/security-group-connection-tracking.html

One entry of the kernel's connection tracking stands for both ends of a connection; EC2 tracks at each interface.

EC2's API answers before its network follows, and nothing documents how long that takes, nor that every state is seen:
so the rules follow with a lag, in one of several modes.
"""

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
from .shell import Failed

LAG = 1.0  # seconds; unless a scenario is about it
SOON = 0.05  # seconds; to replace the rules takes about as long, so it begins so much before the lag is over
MOST_WAITING = 1000  # changes

FAMILIES = ("ip", "ip6")
TRACKING = "\n".join(
    f"table {family} tracking {{ chain c {{ type filter hook forward priority -10;\nct state new counter\n}}\n}}"
    for family in FAMILIES
)
"""Stays, so that the kernel does not stop tracking between two versions of the rules."""
NEIGHBOUR_DISCOVERY = (
    "icmpv6 type { nd-router-solicit, nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert } accept"
)
ICMP = {"icmp": "icmp", "1": "icmp", "icmpv6": "icmpv6", "58": "icmpv6"}


def compiled(interfaces: Iterable[Filtered]) -> str:
    """The rules, to replace those that are there in one step."""
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
    """An nftables rule of one family; empty if nobody is meant."""
    members = [a for i in known if permission.group in i.groups for a in i.addresses(ipv6)]
    whom = [permission.cidr] if permission.cidr else members
    if not whom or (":" in whom[0]) is not ipv6:
        return ""
    match = f"{'ip6' if ipv6 else 'ip'} {'daddr' if permission.egress else 'saddr'} {{ {', '.join(whom)} }}"
    if permission.protocol == "-1":
        return f"{match} return"
    if permission.protocol in ICMP:
        return f"{match} meta l4proto {ICMP[permission.protocol]} return"
    first, last = permission.ports
    return f"{match} {permission.protocol} dport {first}-{last} return"


def _go_first() -> None:
    """This thread, and what it starts, before all else: other work on the machine is not to make the lag longer."""
    this = threading.get_native_id()
    try:
        os.sched_setscheduler(this, os.SCHED_RR, os.sched_param(1))
    except OSError:  # not in every container
        os.setpriority(os.PRIO_PROCESS, this, -20)


class Mode(Enum):
    """How the network follows the API."""

    IN_ORDER = "in order"
    """Every state is applied, each a lag after it came to be."""
    NEWEST = "newest only"
    """A lag after a change comes a look, which finds the newest state: what is in between is never applied."""
    OWN_PACE = "own pace"
    """In order, but only the last interface of an instance takes the whole lag, of two the first a half."""
    ONE_LATE = "one late"
    """All at once but the last interface of an instance, which takes the whole lag."""


@dataclass(frozen=True)
class Pace:
    """How an instance's interfaces follow."""

    lag: float = LAG
    mode: Mode = Mode.IN_ORDER

    def of(self, rank: int, count: int) -> float:
        """The lag of one of an instance's interfaces."""
        if self.mode is Mode.OWN_PACE:
            return self.lag * (rank + 1) / count
        if self.mode is Mode.ONE_LATE:
            return self.lag if rank + 1 == count else 0.0
        return self.lag


@dataclass(frozen=True)
class Effect:
    """A state of an interface that was applied."""

    interface: str
    made: float
    """When the first change came about that it shows, time.monotonic()."""
    at: float
    """When the rules were in place, and what was to be untracked was."""
    untracked: bool
    """Whether it let everything through."""

    @property
    def took(self) -> float:
        """Seconds."""
        return self.at - self.made


@dataclass(frozen=True)
class _Waiting:
    made: float
    due: float
    state: Optional[Filtered]
    """None: the interface is gone."""


class DataPlane:
    """Follows the emulator, late. Without a lag a change has its effect before the call that made it is answered."""

    def __init__(self, ec2: Ec2Server, fabric: Fabric) -> None:
        self._ec2 = ec2
        self._fabric = fabric
        self._paces: Dict[str, Pace] = {}  # by instance; "" for all others
        self._applied: Dict[str, Filtered] = {}
        self._waiting: Dict[str, Deque[_Waiting]] = {}
        self._changed = threading.Condition()  # guards all of these
        self._applying = threading.Lock()  # taken before the other
        self._error: Optional[BaseException] = None
        self._worker: Optional[threading.Thread] = None
        self.effects: List[Effect] = []
        """Since the beginning."""

    def start(self) -> None:
        """Obeys the groups from now on."""
        self._fabric.nft(TRACKING)
        self.follow()
        self._worker = threading.Thread(target=self._work, name="data plane", daemon=True)
        self._worker.start()
        self._ec2.watchers.append(lambda _call: self._notice())

    def close(self) -> None:
        """Stops following."""
        worker, self._worker = self._worker, None
        with self._changed:
            self._changed.notify_all()
        if worker is not None:
            worker.join(10)
        self.check()

    def check(self) -> None:
        """Raises what went wrong in the plane's own thread: from then on nothing follows."""
        if self._error is not None:
            raise Failed(f"the data plane failed: {self._error}") from self._error

    # The lag

    def set(self, lag: float = LAG, mode: Mode = Mode.IN_ORDER, instance: str = "") -> None:
        """For one instance, or for all: after that no other has one of its own. What waits has its effect at once."""
        with self._changed:
            if not instance:
                self._paces.clear()
            self._paces[instance] = Pace(lag, mode)
        self.follow()

    def follow(self) -> None:
        """Lets everything that the emulator says have its effect now."""
        self.check()
        with self._applying:
            self._notice_all()
            self._apply(float("inf"))

    def _notice(self) -> None:
        if self._notice_all():
            with self._applying:  # the thread may be at it already: not before it is done
                self._apply(time.monotonic())

    def _notice_all(self) -> bool:
        """Puts in line what has changed; whether something of that is due at once."""
        with self._changed:
            made, found, at_once = time.monotonic(), self._ec2.filtering(), False
            now = {i.interface: i for i in found}
            for interface in {**self._applied, **now}:
                line = self._waiting.setdefault(interface, deque())
                latest = line[-1].state if line else self._applied.get(interface)
                if now.get(interface) != latest:
                    self._put(line, made, now.get(interface), self._pace_of(interface, found))
                    at_once = at_once or line[0].due <= made
            if sum(map(len, self._waiting.values())) > MOST_WAITING:
                raise Failed(f"more than {MOST_WAITING} changes wait for the data plane")
            self._changed.notify_all()
            return at_once

    def _pace_of(self, interface: str, found: List[Filtered]) -> Tuple[float, Mode]:
        instance = next((i.instance for i in found if i.interface == interface), "")
        pace = self._paces.get(instance) or self._paces.get("") or Pace()
        among = [i.interface for i in found if i.instance == instance]
        return (pace.of(among.index(interface), len(among)) if among else 0.0), pace.mode

    @staticmethod
    def _put(line: Deque[_Waiting], made: float, state: Optional[Filtered], pace: Tuple[float, Mode]) -> None:
        lag, mode = pace
        first = line.pop() if line and mode is Mode.NEWEST else _Waiting(made, made + lag, None)
        line.append(_Waiting(first.made, first.due, state))

    def _next_due(self) -> float:
        with self._changed:
            return min((line[0].due for line in self._waiting.values() if line), default=float("inf"))

    # The effect

    def _work(self) -> None:
        _go_first()
        try:
            while self._worker is not None:
                with self._changed:
                    left = self._next_due() - SOON - time.monotonic()
                    if left > 0:
                        self._changed.wait(min(left, 1.0))
                        continue
                with self._applying:
                    self._apply(time.monotonic() + SOON)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the scenario has to know
            self._error = error

    def _apply(self, until: float) -> None:
        """What was due until then, one state of each interface after the other. With _applying held."""
        while True:
            with self._changed:
                due = {i: line.popleft() for i, line in self._waiting.items() if line and line[0].due <= until}
                left = [self._applied[i] for i, w in due.items() if self._applied.get(i) not in (None, w.state)]
                untracked = [address for interface in left for address in interface.untracked_addresses]
                now = {**self._applied, **{i: w.state for i, w in due.items()}}
                self._applied = {i: state for i, state in now.items() if state is not None}
                rules = compiled(self._applied.values())
            if not due:
                return
            self._fabric.nft(rules)
            if untracked:
                self.forget(*untracked)
            at = time.monotonic()
            for interface, change in due.items():
                untracked_now = change.state is not None and change.state.untracked
                self.effects.append(Effect(interface, change.made, at, untracked_now))

    @property
    def idle(self) -> bool:
        """Whether the network has followed everything."""
        self.check()
        return self._next_due() == float("inf")

    def slowest(self, since: float) -> float:
        """The longest that the network took to follow a change made since then, in seconds."""
        return max((e.took for e in list(self.effects) if e.made >= since), default=0.0)

    def effects_on(self, interfaces: Iterable[str], since: float) -> List[Effect]:
        """What changes made since then had, in order."""
        among = set(interfaces)
        return [e for e in list(self.effects) if e.interface in among and e.made >= since]

    def forget(self, *addresses: str) -> None:
        """Ends the tracking of interfaces' connections, so that the rules decide on their next packets."""
        commands = [
            f"-D -f {'ipv6' if ':' in address else 'ipv4'} -p {protocol} {side} {address}\n"
            for address in addresses
            for protocol in ("tcp", "udp")
            for side in ("--orig-src", "--orig-dst")
        ]
        self._fabric.inside(self._fabric.switch, "conntrack", "--load-file", "-", stdin="".join(commands))

    def dropped(self, address: str) -> int:
        """Packets from and to an address that the groups did not let through, since groups changed last."""
        number = [i.address for i in self._applied.values()].index(address)
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
