"""EC2's network, which follows changes of groups later; and what a fencer sees of it by connecting to a node."""

from typing import Any, Dict, FrozenSet, List, Optional

from aws_vpc_net.core.model import FrozenMap
from aws_vpc_net.core.probing import Answer, Standing
from aws_vpc_net.core.protocol import Answers, CheckAnswers, Connect

from .cloud import Node, address, is_open

KEEPALIVE_SECONDS = 2.0  # without an answer to keepalives, after which a connection is dead
NO_ROUTE = 0.01  # the probability that an attempt is not possible
HANGS_UP = 0.01  # the probability that the node ends a connection, for each check


class View:
    """The attempts of one process to connect to a node.

    Attributes:
        observable: the interfaces that answered before the first change.
        not_tried: the interfaces of which the latest attempt was not possible.
    """

    def __init__(self, simulation: Any, node: Node, host: Optional[Node]) -> None:
        self.simulation, self.node, self.host = simulation, node, host
        self.asked: Dict[str, List[float]] = {}
        self.standing: Dict[str, float] = {}  # since when
        self.ended: Dict[str, Standing] = {}
        self.observable: Optional[FrozenSet[str]] = None
        self.not_tried: FrozenSet[str] = frozenset()

    def passes(self, interface: str, point: float) -> bool:
        """Did packets pass between this machine and the interface at this point in time?"""
        at, spec = point - self.simulation.cluster.network_lag, self.simulation.cluster.spec
        host = self.host.at(at)[1].attached if self.host else ()
        reaches = self.host is None or any(is_open(self.host.at(at)[1], n.id, spec) for n in host)
        return reaches and is_open(self.node.at(at)[1], interface, spec)

    def connect(self, effect: Connect) -> None:
        """Begin an attempt at each address; the one before goes on."""
        for a in effect.addresses:
            self.asked[a] = [*self.asked.get(a, ())[-1:], self.simulation.now]

    def check(self, effect: CheckAnswers) -> Answers:
        """What has answered."""
        interfaces = {address(n.id): n.id for n in (*self.node.network.attached, *self.node.network.elsewhere)}
        answers = {a: self._answer(a, interfaces.get(a)) for a in effect.addresses}
        answered = {a: interfaces[a] for a, answer in answers.items() if answer is Answer.ANSWERED}
        if self.observable is None:
            self.observable = frozenset(answered.values())
            self.standing = dict.fromkeys((a for a in effect.keep if a in answered), self.simulation.now)
        not_tried = {interfaces.get(a, "") for a, answer in answers.items() if answer is Answer.IMPOSSIBLE}
        self.not_tried = (self.not_tried - {interfaces.get(a, "") for a in answers}) | not_tried
        standing = {a: self._standing(a, interfaces.get(a)) for a in self.standing}
        self.simulation.tell(self.node, "", "answers", " ".join(f"{a}:{r.name}" for a, r in answers.items()))
        return Answers(FrozenMap(answers), FrozenMap(standing))

    def _answer(self, an_address: str, interface: Optional[str]) -> Answer:
        if self.simulation.chance.random() < NO_ROUTE:
            return Answer.IMPOSSIBLE
        if interface is None or interface not in self.node.answering:
            return Answer.SILENT
        asked = self.asked[an_address]
        self.asked[an_address] = [point for point in asked if not self.passes(interface, point)]  # each answers once
        return Answer.SILENT if self.asked[an_address] == asked else Answer.ANSWERED

    def _standing(self, an_address: str, interface: Optional[str]) -> Standing:
        """A tracked connection lives on, whatever the groups are, until the network has seen ``untrack_secg``."""
        if an_address not in self.ended and self.simulation.chance.random() < HANGS_UP:
            self.ended[an_address] = Standing.ENDED
        if an_address in self.ended:
            return self.ended[an_address]
        now, cluster = self.simulation.now, self.simulation.cluster
        seen = [*self.node.since(self.standing[an_address] - cluster.network_lag)]
        seen = seen[: len(seen) - len(self.node.since(now - cluster.network_lag)) + 1]
        nics = [network.find(interface or "") for network in seen]
        if not any(nic and nic.groups == {cluster.spec.untrack} for nic in nics):
            return Standing.ALIVE
        passed = [self.passes(interface or "", point) for point in (now, now - KEEPALIVE_SECONDS)]
        return Standing.ALIVE if any(passed) else Standing.DEAD
