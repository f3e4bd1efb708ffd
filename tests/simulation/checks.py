"""What must be true of EC2 when a process exits and when all is quiet; and what no order of calls can prevent."""

from typing import Any, Iterator, Tuple

from search.world import Network

from aws_vpc_net.core import backup as tags_of
from aws_vpc_net.core import observe, off, on
from aws_vpc_net.core.isolation import (
    backup_groups,
    fencer_is_fenced,
    has_backup,
    has_groups_to_remove,
    matches_isolation,
    target_groups,
)
from aws_vpc_net.core.model import FrozenMap, IsolationSpec
from aws_vpc_net.core.protocol import (
    Changes,
    DeleteTags,
    Done,
    Fail,
    Instances,
    Knowledge,
    LookUpGroups,
    Networks,
    Plan,
    Read,
    SetGroups,
    Settle,
    Succeed,
    Tick,
    WriteTags,
)
from aws_vpc_net.core.tag_slots import TAG_LIMIT

from .cloud import FULL, NO_INTERFACE, STALEST, Node, is_full, is_open, refusal, shown
from .network import View
from .process import EPOCH, FAILED, KILLED, RESERVE, SUCCEEDED, Process

# --- at an exit ---------------------------------------------------------------------------------------------------


def at_exit(simulation: Any, process: Process) -> Iterator[str]:
    """What is wrong at the moment a process exits by itself."""
    spec, node, facts = process.plan.spec, process.node, process.facts
    if simulation.now > process.ends + 2:
        yield f"{process.action} ends after its deadline"
    if process.returning:
        if process.due and process.fate != SUCCEEDED and not facts.faults and facts.alone:
            yield "monitor does not bring a node back, alone and without any fault"
        return
    if process.action == "off" and process.fate == SUCCEEDED and simulation.cluster.required:
        yield from not_stopped(simulation, process)
    if process.action == "off" and process.fate == SUCCEEDED and not node.is_isolated(spec):
        if facts.groups_stale:
            simulation.excuses["exit 0 and open: the proving read was stale"] += 1
        elif node.changed_at > facts.snapshot and all(
            matches_isolation(n.groups, spec) for n in node.at(facts.snapshot)[1].attached
        ):
            simulation.excuses["exit 0 and open: somebody acted after the proving read"] += 1
        else:
            yield "off exits 0, and the node is open"
    if process.action == "off" and process.fate == SUCCEEDED and not facts.groups_stale and not facts.disturbed:
        yield from too_early(simulation, process)
    unseen = facts.own_stale or (process.host and process.host.changed_at >= process.began)
    if process.action == "off" and facts.fenced_host and facts.changes and not unseen:
        yield "off was made by a node that was fenced itself"
    if process.fate == FAILED and process.action == "off" and not facts.faults and facts.alone:
        reason = legitimate_refusal(simulation, process)
        if reason:
            simulation.excuses[f"off fails without a fault: {reason}"] += 1
        else:
            yield "off fails, alone and without any fault"


def not_stopped(simulation: Any, process: Process) -> Iterator[str]:
    """Was the power not off, at the read that this success relies on?"""
    state = process.node.at(process.facts.snapshot)[1].state
    if state in ("stopped", "terminated"):
        return
    if process.facts.groups_stale:
        simulation.excuses["exit 0 and not stopped: the proving read was stale"] += 1
    else:
        yield f"off exits 0, and the instance was {state} in the proving read"


def too_early(simulation: Any, process: Process) -> Iterator[str]:
    """Do packets of the node still pass after this success, or will they?"""
    cluster, node, view = simulation.cluster, process.node, process.view
    begins = simulation.now - cluster.network_lag
    for nic in node.network.attached:
        networks = node.since(begins)
        if not any(is_open(network, nic.id, cluster.spec) for network in networks):
            continue
        observed = nic.id in (view.observable or ()) and nic.id not in view.not_tried
        slow = cluster.network_lag > cluster.settle
        if not observed and slow:
            excuse = "EC2's network is slower than settle_time, and nobody could watch it"
        elif nic.id not in process.facts.changed:
            excuse = "another has isolated it last"
        elif slow and was_closed(view, nic.id, begins):
            excuse = "it was silent by an earlier isolation, and the network is slower than settle_time"
        elif process.facts.isolations < 2 and was_closed(view, nic.id, begins):
            excuse = "it was silent by the isolation of another"
        else:
            yield "off exits 0, and EC2's network lets packets of the node pass"
            return
        simulation.excuses[f"exit 0 before the network has followed: {excuse}"] += 1


def was_closed(view: View, interface: str, point: float) -> bool:
    """Had EC2's network closed the interface, at the attempts that were silent, by an earlier isolation?

    Whoever opened it in between is not seen by an attempt: the network opens it, and closes it, later.
    """
    networks = view.node.since(point - 2 * view.simulation.cluster.network_lag - view.simulation.cluster.settle)
    is_closed = [not is_open(network, interface, view.simulation.cluster.spec) for network in networks]
    return True in is_closed and False in is_closed[is_closed.index(True) :]


def legitimate_refusal(simulation: Any, process: Process) -> str:
    """Why an ``off`` had to refuse this node; '' if it had not."""
    node, spec, host = process.node, process.plan.spec, process.host
    instance = node.instance
    history = tags_of.read(instance)
    if host and is_fenced(simulation, host):
        return "the fencer is fenced"
    if process.plan.require_poweroff and instance.state != "stopped":
        return "the stop was not finished"
    late = simulation.cluster.weather.slow > 1.0 and simulation.now > process.ends - RESERVE
    if process.plan.require_poweroff and late:
        return "a stop and slow calls took all the time"
    if not has_groups_to_remove(instance, spec) and not has_backup(instance, history, spec):
        return "there is no group to remove"
    originals = backup_groups(instance, history, spec)
    goals = {i.id: target_groups(i.groups, spec, originals[i.id]) for i in instance.interfaces}
    if not all(goals.values()):
        return "nothing would be left"
    cluster = simulation.cluster
    if process.view.observable and spec.untrack and cluster.network_lag > cluster.settle:
        return "the network was later than untracking"
    return "there is no room for tags" if lacks_room(node) else ""


def is_fenced(simulation: Any, host: Node) -> bool:
    """Was this node fenced itself, in truth?"""
    instance = host.instance
    return fencer_is_fenced(instance, tags_of.read(instance), simulation.cluster.spec)


def lacks_room(node: Node) -> bool:
    """May there be no room for a backup of this node?"""
    return TAG_LIMIT - len(node.tags) < len(node.network.attached) + len(node.network.elsewhere) + 1


# --- in a quiet moment --------------------------------------------------------------------------------------------


def when_quiet(simulation: Any, node: Node) -> Iterator[str]:
    """What is wrong once every process on this node has ended, and nothing is in flight."""
    yield from _opened(simulation, node)
    spec = simulation.cluster.spec
    lost = node.lost(spec)
    for i in lost:
        excuse = loss_excuse(node, i)
        if not excuse:
            yield f"the original groups of an interface are nowhere: {i}"
            return
        simulation.excuses[f"originals lost: {excuse}"] += 1
    if not lost:
        yield from recovered(simulation, node)


def _opened(simulation: Any, node: Node) -> Iterator[str]:
    ons = {p.name for p in node.episode if p.action == "on"}
    for process in node.episode:
        facts = process.facts
        if process.action != "off" or process.fate != SUCCEEDED or facts.last_stale or facts.disturbed:
            continue
        for i in node.open(simulation.cluster.spec) if ons <= facts.older else ():
            excuse = opening_excuse(node, i)
            if excuse:
                simulation.excuses[f"open beside a success: {excuse}"] += 1
            else:
                yield "an off has succeeded, every on began earlier, and the node is open in the end"
                return


def opening_excuse(node: Node, interface: str) -> str:
    """Why no order of calls could have closed this interface; '' if one could.

    Whoever changed it last had decided that by a read before the other's success; EC2 cannot take it back.
    It could not close it again, as it was killed; or as each read since then failed, or showed an earlier state
    of EC2; or no time at all was left; or EC2 refused for good to isolate this interface.
    """
    for process in node.episode:
        facts = process.facts
        if interface not in facts.changed:
            continue
        if process.fate == KILLED:
            return "who opened it was killed"
        if process.fate == FAILED:
            reasons = {
                "its read failed": facts.unreadable,
                "its read was stale": facts.last_stale,
                "no time was left": facts.no_time_left,
                "EC2 refused to isolate it": interface in facts.not_closed,
            }
            return next((text for text, holds in reasons.items() if holds), "")
        if process.action == "on" and (facts.last_stale or facts.misled):
            return "the read of an on was stale"
    return ""


def loss_excuse(node: Node, interface: str) -> str:
    """Why the original groups of this interface may be gone; '' if they may not.

    They are named in a log. Or a deletion of the backup crossed the latest change of the interface, both decided by
    reads before either, and neither could write the backup again: the one that changed it was killed, or its last
    read was stale; and the change came after the deletion, perhaps after the look back, or each that deleted was
    killed too, or its read before the deletion, or its look back, was stale. Or the change came after the deletion,
    by a request without a reply that arrived after its sender had failed, or as it was killed while it wrote the
    backup again. Or an operator had changed the groups shortly before, and reads were behind that.
    """
    if interface in node.named:
        return "they are named in a log"
    if any(p.action == "off" and p.facts.ever_stale and p.began < node.edited + STALEST for p in node.episode):
        return "an operator had changed them shortly before, and reads were behind"
    if any(p.fate == KILLED and p.facts.writing and interface in p.facts.changed for p in node.episode):
        return "who changed it was killed while it wrote the backup again"
    ons = [p for p in node.episode if p.action == "on"]
    unaware = all(p.fate == KILLED or p.facts.last_stale or p.facts.misled for p in ons)
    if node.crossed:
        for p in node.episode:
            helpless = p.fate == KILLED or p.facts.last_stale
            if interface in p.facts.late and p.fate == FAILED and interface in p.facts.blind:
                return "a deletion crossed a change that arrived after its sender had failed"
            if interface in p.facts.changed and helpless and (unaware or interface in p.facts.blind):
                return "a deletion crossed a change"
    return ""


# --- plain runs ---------------------------------------------------------------------------------------------------


def recovered(simulation: Any, node: Node) -> Iterator[str]:
    """What is wrong after a plain ``on``, and after a plain ``off`` and ``on``, each on a copy."""
    for actions in (("on",), ("off", "on")):
        tags, network, actions_text = node.tags, node.network, " and ".join(actions)
        for action in actions:
            succeeded, text, tags, network = plain(simulation, node, action, tags, network)
            isolated = all(matches_isolation(n.groups, simulation.cluster.spec) for n in network.attached)
            if succeeded and (action == "on" or isolated):
                continue
            if succeeded:
                yield "afterwards, a plain off does not isolate"
            elif action == "off" and lacks_room(node):
                simulation.excuses["a plain off fails: there is no room for tags"] += 1
            elif action == "off" and is_nothing_to_remove(node, simulation.cluster.spec):
                simulation.excuses["a plain off fails: there is no group to remove"] += 1
            else:
                yield f"afterwards, a plain {action} of {actions_text} fails: {text}"
        for n in network.attached:
            if n.groups not in node.allowed[n.id]:
                yield f"afterwards, a plain {actions_text} does not restore {n.id}"
        if tags_of.own(tags, node.id) or tags_of.RETURNED in tags:
            yield f"afterwards, a plain {actions_text} leaves tags"


def is_nothing_to_remove(node: Node, spec: IsolationSpec) -> bool:
    """Does no interface have a group that ``off`` would take away, nor a backup?"""
    instance = node.instance
    return not has_groups_to_remove(instance, spec) and not has_backup(instance, tags_of.read(instance), spec)


def plain(
    simulation: Any, node: Node, action: str, tags: FrozenMap, network: Network
) -> Tuple[bool, str, FrozenMap, Network]:
    """A run of it with nothing and nobody in its way: (has it succeeded, its last line, tags, network)."""
    plan = Plan(node.id, simulation.cluster.spec, ignore_instance_state=True, restoring=action == "on")
    decide = on.decide if plan.restoring else off.decide
    k, now = Knowledge(), 0.0
    for _ in range(200):
        tick = Tick(now, 40.0, 45.0, EPOCH + int(simulation.now), 12345)
        step = decide(plan, k, tick)
        simulation.steps += 1
        now = max(now + 0.1 + step.backoff, min(step.not_before, step.ends))
        k, effect = step.knowledge, step.action
        if isinstance(effect, (Succeed, Fail)):
            return isinstance(effect, Succeed), getattr(effect, "text", ""), tags, network
        if isinstance(effect, Settle):
            now = max(now, effect.until)
            continue
        reply: Any = Done()
        if isinstance(effect, Read):
            reply = Instances(FrozenMap({node.id: shown(node.id, tags, network)}), now)
        elif isinstance(effect, LookUpGroups):
            existing = simulation.cluster.groups
            reply = Networks(FrozenMap({g: existing[g] for g in effect.groups if g in existing}))
        elif isinstance(effect, SetGroups):
            reply, network = _set(simulation, effect, network)
        elif isinstance(effect, (WriteTags, DeleteTags)):
            after = written(tags, effect)
            reply, tags = (FULL, tags) if is_full(after) else (Done(), after)
        k, _ = observe.observe(plan, k, effect, reply, Tick(now, 40.0, 45.0, tick.unix_time, 12345))
    return False, "it has no end", tags, network


def _set(simulation: Any, effect: SetGroups, network: Network) -> Tuple[Changes, Network]:
    failures: Any = {}
    for i, groups in sorted(effect.goals.items()):
        found = network.find(i)
        failures[i] = refusal(groups, simulation.cluster.groups, found.vpc) if found else NO_INTERFACE
        network = network if failures[i] else network.with_groups(i, groups)
    return Changes(FrozenMap(failures)), network


def written(tags: FrozenMap, effect: Any) -> FrozenMap:
    """The tags after this was written, or deleted by value."""
    if isinstance(effect, WriteTags):
        return tags.updated(effect.tags)
    return tags.without([k for k, v in effect.tags.items() if tags.get(k) == v])
