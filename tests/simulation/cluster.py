"""A cluster of some days: its nodes and options, what happens to them, and who acts on them."""

from dataclasses import dataclass, field
from random import Random
from typing import Any, Dict, FrozenSet, List, Mapping

from search.world import APP, DB, EDITED, ISO, ISO2, OPEN, OTHER, Network, Nic

from aws_vpc_net.core.model import FrozenMap, Groups, IsolationSpec

from .cloud import CALM, Node, Weather

MODES: Mapping[str, IsolationSpec] = {
    "keep": IsolationSpec((ISO,), True),
    "keep two": IsolationSpec((ISO, ISO2), True),
    "remove": IsolationSpec((APP,)),
    "keep+untrack": IsolationSpec((ISO,), True, OPEN),
    "keep two+untrack": IsolationSpec((ISO, ISO2), True, OPEN),
    "remove+untrack": IsolationSpec((APP,), False, OPEN),
}
ORDINARY = (frozenset((APP, DB)), frozenset((APP, OTHER)), frozenset((APP, DB, OTHER)), frozenset((APP, EDITED)))
VPC = "vpc-0"


@dataclass
class Cluster:
    """What does not change in its days, and the weather.

    Attributes:
        reaches: an isolated node still reaches EC2's API.
        skews: seconds by which the clock of each node is wrong; the last is of the operator's machine.
        probe: the options have ``probe_port``.
    network_lag: seconds that EC2's network takes to follow a change of groups.
    poweroff: the options have ``onfence_poweroff``; ``required``: and ``require_poweroff``; ``auto``: and
        ``auto_unfence``.
    stop_seconds: that a stop takes at most.
    groups: those that exist, and the VPCs that take them.
    """

    mode: str
    nodes: List[Node]
    settle: float
    reaches: bool
    skews: List[float]
    until: float
    probe: bool = False
    network_lag: float = 0.0
    poweroff: bool = False
    required: bool = False
    auto: bool = False
    stop_seconds: float = 0.0
    weather: Weather = CALM
    calm_again: float = 0.0
    groups: Dict[str, FrozenSet[str]] = field(default_factory=dict)
    crashed: Dict[str, float] = field(default_factory=dict)

    @property
    def spec(self) -> IsolationSpec:
        """What the options say."""
        return MODES[self.mode]


def nic(chance: Random, number: int, groups: Groups) -> Nic:
    """A new one."""
    return Nic(f"eni-{chance.getrandbits(68):017x}", number, groups, VPC)


def new_cluster(chance: Random, now: float) -> Cluster:
    """Three to five nodes."""
    mode = chance.choice(list(MODES))
    nodes = [_node(chance, n, now, mode) for n in range(chance.randint(3, 5))]
    skews = [chance.choice((0.0, 0.0, 0.4, -2.0, 5.0, -1800.0, 90.0)) for _ in range(len(nodes) + 1)]
    groups = dict.fromkeys((APP, DB, ISO, ISO2, OPEN, OTHER, EDITED), frozenset((VPC,)))
    settle = chance.choice((0.0, 2.0, 5.0))
    days = 86400.0 * chance.uniform(0.5, 3.0)
    probe, lag = chance.random() < 0.6, chance.choice((0.0, 0.5, 1.9, 4.0, 9.0))
    lag = lag if probe else min(lag, settle)
    cluster = Cluster(mode, nodes, settle, chance.random() < 0.6, skews, now + days, probe, lag, groups=groups)
    cluster.poweroff = chance.random() < 0.5
    cluster.required = cluster.poweroff and chance.random() < 0.5
    cluster.auto = cluster.poweroff and chance.random() < 0.7
    cluster.stop_seconds = chance.choice((1.0, 8.0, 30.0, 200.0))
    return cluster


def _node(chance: Random, number: int, now: float, mode: str) -> Node:
    some = [chance.choice(ORDINARY) for _ in range(chance.choice((1, 2, 2, 3)))]
    if len(some) > 1 and chance.random() < 0.2:  # one that never had the group
        some[-1] = frozenset((OTHER,))
    network = Network(tuple(nic(chance, n, groups) for n, groups in enumerate(some, 1)))
    fillers = chance.choice((1, 1, 5, 20, 38, 44))
    tags: Any = {f"tag{n}": "x" for n in range(fillers)}
    allowed = {n.id: {n.groups} for n in network.attached}
    node = Node(f"i-{chance.getrandbits(68):017x}", f"node{number}", FrozenMap(tags), network, allowed)
    node.put(now, node.tags, network)
    node.is_spot = chance.random() < 0.3
    return node


def answering(chance: Random, node: Node) -> FrozenSet[str]:
    """The interfaces at which a node that fails still answers: all, none, or all but one."""
    some = [n.id for n in node.network.attached]
    return frozenset(chance.choice((some, some, [], some[1:])))


# --- operators ----------------------------------------------------------------------------------------------------


def edit(chance: Random, node: Node) -> Network:
    """The network after an operator edited it; the same if there is nothing to do."""
    network = node.network
    what = chance.choice(("groups", "attach", "detach", "detach", "return", "return", "delete"))
    spare = [n for n in network.attached if n.number > 1]
    if what == "groups" and network.attached:
        chosen = chance.choice(network.attached)
        return network.with_groups(chosen.id, chance.choice(ORDINARY))
    if what == "attach" and len(network.attached) + len(network.elsewhere) < 4:
        number = max(n.number for n in (*network.attached, *network.elsewhere)) + 1
        return network.with_attached(nic(chance, number, chance.choice(ORDINARY)))
    if what == "detach" and spare:
        return network.detached(chance.choice(spare).id)
    if what == "return" and network.elsewhere:
        return network.with_attached(chance.choice(network.elsewhere))
    if what == "delete" and spare:
        return network.without(chance.choice(spare).id)
    return network
