"""Whether EC2's network has followed: this machine connects to the instance, before the first change and afterwards.

    before:  connect → … the first calls … → check: which addresses are observable?
    after:   connect → half a second → check, until each observable address was silent twice in a row

No effect here takes time: all waits are steps of their own.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Dict, FrozenSet, Optional, Tuple

from .model import FrozenMap, Instance
from .probing import ATTEMPT_SECONDS, SILENT_ATTEMPTS, Answer, Standing
from .protocol import CheckAnswers, Connect, Knowledge, Plan, Settle, Step, Tick


def connect_before(plan: Plan, k: Knowledge, target: Instance, tick: Tick) -> Optional[Step]:
    """Begin to connect to each address, before anything is changed; None if that is done, or not asked for."""
    if not plan.data_plane.probe or k.probe.connected is not None:
        return None
    connected = FrozenMap({a: i.id for i in target.interfaces for a in i.addresses})
    probe = replace(k.probe, connected=connected, unknown_fencer=plan.data_plane.unknown_fencer)
    return Step(Connect(tuple(connected)), replace(k, probe=probe), tick.ends)


def check_before(k: Knowledge, untracked: FrozenSet[str], tick: Tick) -> Optional[Step]:
    """Look which addresses answered, just before the first change; None if that is done.

    A connection that stands is kept where its interface is to be untracked: it has to die.
    """
    if k.probe.connected is None or k.probe.checked:
        return None
    keep = tuple(a for a, interface in k.probe.connected.items() if interface in untracked)
    return Step(CheckAnswers(tuple(k.probe.connected), keep), k, tick.ends)


def watch(k: Knowledge, tick: Tick) -> Optional[Step]:
    """All reads isolated: try the observable addresses until they are quiet. None if nothing is left to be tried, or
    a read is due.

    One that could not be tried is tried again as long as ``settle_time`` has to be waited for in any case.
    """
    if k.late(tick.now):  # what may still open it comes first
        return None
    if k.probe.asked is not None:
        until = k.probe.asked + ATTEMPT_SECONDS
        if tick.now < until:
            return Step(Settle(until), k, tick.ends)
        return Step(CheckAnswers(k.probe.not_quiet(k.latest)), k, tick.ends)
    if tick.now >= k.timers.reread:
        return None
    if not k.probe.unfinished(k.latest) and tick.now + ATTEMPT_SECONDS > k.timers.settled:
        return None
    addresses = k.probe.not_quiet(k.latest)
    return Step(Connect(addresses), k, tick.ends) if addresses else None


def possibly_tracked(k: Knowledge) -> Tuple[str, ...]:
    """The addresses that show that the network may never have seen the open state, so that connections may be alive:
    they answered when ``settle_time`` was over, which is also how long their interface was untracked."""
    return tuple(a for i, p in k.interfaces.items() if p.opening.untrack_attempts for a in k.probe.late(i))


def why_not_quiet(k: Knowledge) -> Dict[str, str]:
    """What is known of the addresses that are still to be waited for."""
    why = {}
    for address in k.probe.unfinished(k.latest):
        known = k.probe.addresses[address]
        if known.answer is Answer.ANSWERED:
            why[address] = "it still answers at probe_port"
        elif known.standing is Standing.ALIVE:
            why[address] = "an earlier connection to probe_port is still alive"
        else:
            why[address] = "there was no time to probe it twice"
    return why


def network_seconds(plan: Plan, k: Knowledge) -> Optional[float]:
    """From the latest accepted change of groups to the first of the attempts that were silent, at the address that
    was the last to be so; None if no address was seen to fall silent."""
    silent = [o.since for o in k.probe.addresses.values() if o.silent >= SILENT_ATTEMPTS]
    return max(silent) - (k.timers.settled - plan.settle_seconds) if silent else None
