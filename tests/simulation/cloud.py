"""EC2 in simulated time: what there is, what there was, and how well it answers just now."""

from collections import deque
from dataclasses import dataclass, field
from random import Random
from typing import Any, Deque, Dict, FrozenSet, List, Optional, Set, Tuple

from search.world import Network

from aws_vpc_net.core import backup as tags_of
from aws_vpc_net.core.isolation import groups_to_restore, matches_isolation
from aws_vpc_net.core.model import FrozenMap, Groups, Instance, Interface, IsolationSpec
from aws_vpc_net.core.protocol import Failure, Outcome
from aws_vpc_net.core.tag_slots import TAG_LIMIT
from aws_vpc_net.errors import Category

THROTTLED = Failure(Outcome.TRANSIENT, Category.MODIFICATION, "throttled", "RequestLimitExceeded")
NO_REPLY = Failure(Outcome.UNKNOWN, Category.MODIFICATION, "no reply", "ConnectionClosedError")
DENIED = Failure(Outcome.REFUSED, Category.PERMISSION, "denied", "UnauthorizedOperation", True)
NO_INTERFACE = Failure(Outcome.GONE, Category.MODIFICATION, "not found", "InvalidNetworkInterfaceID.NotFound")
NO_TIME = Failure(Outcome.UNKNOWN, Category.DEADLINE, "no time is left")
FULL = Failure(Outcome.REFUSED, Category.TAG, "too many tags", "TagLimitExceeded")
STALEST = 12.0  # seconds that a read is behind, at most
REMEMBERED = 60.0  # seconds that reads may be behind, at most


@dataclass(frozen=True)
class Weather:
    """How well EC2 answers; each number but ``lag`` is the probability of a fault at one request.

    Attributes:
        lag: seconds that a read is behind, at most.
        behind: of tags and, independently, of groups.
        lacking: a read lacks an interface, or the whole instance.
        denied: kinds of requests for which the permission was taken away.
        denied_to: of these nodes only; the operator's machine is "". None: of all.
        denied_from: of interfaces from this number on.
    """

    name: str = "calm"
    lag: float = 0.0
    behind: float = 0.0
    lacking: float = 0.0
    throttled: float = 0.0
    lost: float = 0.0
    hanging: float = 0.0
    denied: FrozenSet[str] = frozenset()
    denied_to: Optional[FrozenSet[str]] = None
    denied_from: int = 1
    slow: float = 0.4  # seconds that an answer takes, at most

    def denies(self, kind: str, host: str, number: int) -> bool:
        """Does EC2 refuse this request, of this host, about the interface of this number?"""
        here = self.denied_to is None or host in self.denied_to
        return kind in self.denied and here and number >= self.denied_from


CALM = Weather()


def bad_weather(chance: Random) -> Weather:
    """Some kind of it."""
    some = frozenset(f"node{n}" for n in range(5) if chance.random() < 0.5)
    kinds = [
        Weather("lag", lag=chance.choice((1.0, 4.0, STALEST)), behind=chance.choice((0.1, 0.4))),
        Weather("lacking", lag=3.0, behind=0.05, lacking=chance.choice((0.1, 0.3))),
        Weather("throttling", throttled=chance.choice((0.1, 0.4, 0.8))),
        Weather("lossy", lost=chance.choice((0.05, 0.3))),
        Weather("hanging", hanging=0.1, slow=3.0),
        Weather("slow", slow=6.0),
        Weather("outage", throttled=0.3, lost=0.3, hanging=0.3),
        Weather("denied", denied=frozenset((chance.choice(("read", "tags", "delete", "groups", "power")),))),
        Weather("refused", denied=frozenset(("groups",)), denied_to=some, denied_from=chance.choice((1, 2, 2))),
        Weather("lag and loss", lag=6.0, behind=0.3, lacking=0.05, lost=0.1, slow=1.5),
        Weather("mixed", lag=2.0, behind=0.05, lacking=0.01, throttled=0.05, lost=0.05, hanging=0.02),
    ]
    return chance.choice(kinds)


@dataclass
class Node:
    """An instance of EC2 and what is known of it in truth.

    Attributes:
        allowed: the groups that each interface may have in the end.
        history: (point in time, tags, network), the latest last.
        flights: requests that have not arrived yet.
        episode: the invocations since all was quiet.
        named: interfaces whose original groups a log names, and that do not have them yet.
        crossed: a deletion crossed a change, both decided by reads before either.
        log: the latest events, as tuples.
    answering: the interfaces at which it answers to attempts to connect.
    edited: when an operator has changed groups last.
    returns: when monitor has started it, since the latest on of an operator.
    exempt_since: since when monitor must not.
    is_spot: EC2 refuses to start a Spot instance until some time after its stop: ``startable``.
    """

    id: str
    name: str
    tags: FrozenMap
    network: Network
    allowed: Dict[str, Set[Groups]]
    history: List[Tuple[float, FrozenMap, Network]] = field(default_factory=list)
    flights: int = 0
    episode: List[Any] = field(default_factory=list)
    named: Set[str] = field(default_factory=set)
    crossed: bool = False
    log: Deque[Tuple[Any, ...]] = field(default_factory=lambda: deque(maxlen=400))
    answering: FrozenSet[str] = frozenset()
    edited: float = -REMEMBERED
    returns: List[float] = field(default_factory=list)
    exempt_since: Optional[float] = None
    is_spot: bool = False
    startable: float = 0.0

    def at(self, point: float) -> Tuple[FrozenMap, Network]:
        """What was there at this point in time."""
        for time, tags, network in reversed(self.history):
            if time <= point:
                return tags, network
        return self.history[0][1:]

    def put(self, now: float, tags: FrozenMap, network: Network) -> None:
        """From now on this is there."""
        self.tags, self.network = tags, network
        self.history.append((now, tags, network))
        while len(self.history) > 1 and self.history[1][0] < now - REMEMBERED:
            del self.history[0]

    def since(self, point: float) -> List[Network]:
        """What was attached at this point in time, and all that came after it."""
        later = [network for time, _, network in self.history if time > point]
        return [self.at(point)[1], *later]

    @property
    def changed_at(self) -> float:
        """The point in time of the latest change."""
        return self.history[-1][0]

    @property
    def instance(self) -> Instance:
        """The truth."""
        return shown(self.id, self.tags, self.network)

    @property
    def own_tags(self) -> Dict[str, str]:
        """The tags of our format."""
        return tags_of.own(self.tags, self.id)

    def is_isolated(self, spec: IsolationSpec) -> bool:
        """Is it, in truth?"""
        return not self.open(spec)

    def open(self, spec: IsolationSpec) -> List[str]:
        """The attached interfaces that are not isolated, in truth."""
        return [n.id for n in self.network.attached if not matches_isolation(n.groups, spec)]

    def lost(self, spec: IsolationSpec) -> List[str]:
        """The interfaces whose original groups are neither set nor in the tags; also of those that are elsewhere."""
        every = Network((*self.network.attached, *self.network.elsewhere))
        instance = shown(self.id, self.tags, every)
        kept = groups_to_restore(instance, tags_of.read(instance), spec)
        return [n.id for n in every.attached if not {n.groups, kept.get(n.id)} & self.allowed[n.id]]


def address(interface: str) -> str:
    """The private address of an interface."""
    return f"10.{interface[4:]}"


def is_open(network: Network, interface: str, spec: IsolationSpec) -> bool:
    """Do packets pass there?"""
    nic = network.find(interface)
    return nic is not None and not matches_isolation(nic.groups, spec)


def shown(node: str, tags: FrozenMap, network: Network) -> Instance:
    """As a read shows it."""
    nics = enumerate(network.attached, 1)
    interfaces = tuple(
        Interface(n.id, rank, n.groups, n.vpc, position=(0, n.number - 1), addresses=(address(n.id),))
        for rank, n in nics
    )
    return Instance(node, network.state, interfaces, tags)


def refusal(groups: Groups, existing: Dict[str, FrozenSet[str]], vpc: str) -> Optional[Failure]:
    """What EC2 answers to these groups; None if it takes them."""
    code = "InvalidGroup.NotFound"
    gone = sorted(g for g in groups if g not in existing)
    if gone:
        text = f"{code}: The security group '{gone[0]}' does not exist"
    elif any(vpc not in existing[g] for g in groups):
        text = f"{code}: You have specified two resources that belong to different networks."
    else:
        return None
    return Failure(Outcome.REFUSED, Category.MODIFICATION, text, code)


def is_full(tags: FrozenMap) -> bool:
    """Are these more tags than EC2 takes?"""
    return sum(not k.startswith("aws:") for k in tags) > TAG_LIMIT
