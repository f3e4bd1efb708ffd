"""Instances that are stopped and started: by off, by on, by monitor with auto_unfence, and by an operator."""

from typing import Any, Generator, Iterator, List, Optional

from search.world import Network

from aws_vpc_net.core import backup as tags_of
from aws_vpc_net.core import observe
from aws_vpc_net.core.backup import RETURNED
from aws_vpc_net.core.isolation import matches_isolation
from aws_vpc_net.core.model import FrozenMap, Instance
from aws_vpc_net.core.protocol import Done, Failure, Instances, Knowledge, Outcome, Read, StartInstance, WriteTags
from aws_vpc_net.core.returning import EXEMPT, Stopped, judge
from aws_vpc_net.core.tag_slots import TAG_LIMIT
from aws_vpc_net.errors import Category

from .cloud import Node

FENCE_SECONDS = 47.0  # that an off takes at most: the deadline of the device, and 2
NEEDED_SECONDS = 6.0  # without which monitor begins no return
DAY = 86400.0
MOST_RETURNS = 3
NOT_NOW = Failure(Outcome.REFUSED, Category.INSTANCE, "it is in another state", "IncorrectInstanceState")
NOT_YET = Failure(Outcome.TRANSIENT, Category.MODIFICATION, "soon after its stop", "IncorrectSpotRequestState")
SPOT_SECONDS = 60.0  # in which EC2 may refuse to start a Spot instance after its stop
UNBOOTABLE = 0.05  # of the starts: EC2 stops it again

# --- EC2 ----------------------------------------------------------------------------------------------------------


def arrives(simulation: Any, process: Any, effect: Any) -> Any:
    """A request to start or to stop reaches EC2; its answer."""
    node = process.node
    if isinstance(effect, StartInstance):
        if node.network.state != "stopped":
            return Done() if node.network.state in ("running", "pending") else NOT_NOW
        if simulation.now < node.startable:
            process.facts.faults += 1
            return NOT_YET
        if process.returning:
            for wrong in at_start(simulation, process):
                simulation.violation(node, wrong)
        start(simulation, node, process)
    elif node.network.state == "pending":
        return NOT_NOW
    else:
        stop(simulation, node, process)
    return Done()


def start(simulation: Any, node: Node, actor: Any) -> None:
    """It starts, and runs some time later; or it stops again."""
    network = node.network
    simulation.counts["starts by monitor" if actor and actor.returning else "starts"] += 1
    _put(simulation, node, actor, state="pending", launched=network.launched + 1, by_hand=False)
    launched, boots = node.network.launched, simulation.chance.random() >= UNBOOTABLE
    if actor and not boots:
        actor.facts.faults += 1

    def runs() -> None:
        if node.network.state == "pending" and node.network.launched == launched:
            _put(simulation, node, actor, state="running" if boots else "stopped")

    simulation.at(simulation.now + simulation.chance.uniform(1.0, 10.0), runs)


def stop(simulation: Any, node: Node, actor: Any, by_hand: bool = False) -> None:
    """It stops, which takes its time; what runs on it ends at once."""
    if node.network.state not in ("running", "pending"):
        return
    simulation.counts["stops"] += 1
    _put(simulation, node, actor, state="stopping", by_hand=by_hand)
    simulation.end_host(node)

    def stopped() -> None:
        if node.network.state == "stopping":
            _put(simulation, node, actor, state="stopped")
            if node.is_spot:
                node.startable = simulation.now + simulation.chance.uniform(0.0, SPOT_SECONDS)

    simulation.at(simulation.now + simulation.cluster.stop_seconds * simulation.chance.uniform(0.5, 1.0), stopped)


def _put(simulation: Any, node: Node, actor: Any, **changes: Any) -> None:
    fields = {**vars(node.network), **changes}
    node.put(simulation.now, node.tags, Network(**fields))
    simulation.tell(node, actor.name if actor else "operator", f"it is {node.network.state}")
    for process in node.episode:
        process.facts.disturbed |= actor is None
        if process is not actor:
            process.facts.alone = False


def by_hand(simulation: Any, node: Node) -> None:
    """An operator starts or stops it, or exempts it from returns, or no longer."""
    if simulation.chance.random() < 0.2:
        exempt = EXEMPT in node.tags
        tags = node.tags.without([EXEMPT]) if exempt else node.tags.updated({EXEMPT: "no"})
        simulation.moved(node, tags, node.network, None)
        node.exempt_since = None if exempt else simulation.now
    elif node.network.state == "stopped":
        start(simulation, node, None)
    elif node.network.state == "running":
        spec = simulation.cluster.spec
        untouched = not tags_of.own(node.tags, node.id)
        untouched &= not any(matches_isolation(n.groups, spec) for n in node.network.attached)
        stop(simulation, node, None, untouched and not any(p.running for p in node.episode))


# --- monitor ------------------------------------------------------------------------------------------------------


def begin_return(process: Any) -> Generator[float, None, Optional[Knowledge]]:
    """As auto_unfence.py: a read, the tag, another read; what on then knows, or None if it is left alone."""
    plan, node = process.plan, process.node
    spec, unix_time = plan.spec, process.tick().unix_time
    found = yield from _stopped(process)
    process.facts.began = False  # on begins with the second read
    verdict = judge(found, spec, {}, unix_time, FENCE_SECONDS) if found else None
    if verdict is None or not verdict.returns or process.tick().now + NEEDED_SECONDS > process.ends:
        return None
    assert found is not None
    returns = found.next_returns(unix_time)
    tag = FrozenMap({RETURNED: str(returns)})
    reply = yield from process.call("tags", WriteTags(node.id, tag))
    if isinstance(reply, Failure):
        return None
    asked = process.simulation.now
    again = yield from _stopped(process)
    latest = again.with_returns(returns) if again else None
    if latest is None or judge(latest, spec, {}, process.tick().unix_time, FENCE_SECONDS) is not verdict:
        return None
    read = Instances(FrozenMap({node.id: latest.instance}), asked)
    knowledge, _ = observe.observe(plan, Knowledge(), Read(plan.machines), read, process.tick())
    return knowledge


def _stopped(process: Any) -> Generator[float, None, Optional[Stopped]]:
    reply = yield from process.call("read", Read((process.node.id,)))
    shown: Optional[Instance] = reply.get(process.node.id) if isinstance(reply, dict) else None
    return Stopped(shown, process.launched) if shown else None


# --- what must hold -----------------------------------------------------------------------------------------------


def at_start(simulation: Any, process: Any) -> Iterator[str]:
    """What is wrong where monitor starts an instance now."""
    node, facts = process.node, process.facts
    unseen = facts.ever_stale or facts.disturbed or node.changed_at > facts.snapshot
    if node.network.by_hand and not unseen:
        yield "monitor starts what an operator has stopped"
    fenced = [n for n in node.network.attached if n.groups not in node.allowed[n.id]]
    if not unseen and any(matches_isolation(n.groups, simulation.cluster.spec) for n in fenced):
        yield "monitor starts what is isolated"
    if node.exempt_since is not None and node.exempt_since < process.began and not facts.ever_stale:
        yield "monitor starts what is exempted"
    error = 2 * max(abs(skew) for skew in simulation.cluster.skews) + 100.0
    node.returns = [*(t for t in node.returns if simulation.now - t < DAY - error), simulation.now]
    if len(node.returns) > MOST_RETURNS and not facts.ever_stale:
        yield "monitor starts an instance too often"


def is_due(process: Any) -> bool:
    """Has monitor to bring it back, by the contract? Only where groups are kept: others need not be of this fence."""
    node, spec = process.node, process.plan.spec
    instance = node.instance
    history = tags_of.read(instance)
    nics: List[str] = [n.id for n in node.network.attached if matches_isolation(n.groups, spec)]
    backed = [i for i in nics if (history.latest(i) or frozenset()) - spec.named]
    old = max(history.times, default=0) + FENCE_SECONDS <= process.tick().unix_time
    attached = bool(nics) and len(backed) == len(node.network.attached) and not instance.lacks_primary
    free = EXEMPT not in node.tags and RETURNED not in node.tags and len(node.tags) < TAG_LIMIT
    return bool(spec.keep_only and node.network.state == "stopped" and attached and free and old)
