"""Runs of the agent against nodes that write continuously, on a late network: when does the last byte arrive?

All trials of a bed run side by side, each against its own node, because they mostly wait. The first node is the
fencer of most.
"""

import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Callable, Dict, List, Mapping, Sequence, Tuple

from .bed import Bed
from .cloud import STORAGE, STORAGE6, STORAGE_PORT
from .dataplane import Mode
from .shell import wait

_Run = Tuple[str, float, float, int, str]  # node, start, end, exit code, stderr
OBSERVED_SECONDS = 1.5  # after the network has applied everything; a writer writes 40 lines per second
ATTEMPTS = 4
PREPARED = 6  # nodes prepared at once


@dataclass(frozen=True)
class Trial:
    """How late the network of a node is, and how the node is fenced."""

    lag: float
    mode: Mode
    settle_time: int = 5
    options: Tuple[str, ...] = ()
    """Of the agent, name=value, beside the bed's; {name} is the ID of the bed's group of that name."""
    name: str = ""
    prepare: Callable[[Bed, str], None] = lambda bed, node: None
    """Prepares the node before it is fenced; may be called again."""
    fencer: str = "node1"
    isolation: str = "isolation"
    """Name of the group of isolated interfaces."""
    ipv6: bool = False
    """The node has IPv6 addresses, and writes over IPv6."""

    def __str__(self) -> str:
        return ", ".join(filter(None, (self.name, f"{self.lag:g} s", self.mode.value)))


@dataclass(frozen=True)
class Outcome:
    """The result of a trial. Times are in seconds since the agent was started."""

    code: int
    stderr: str
    isolated: bool
    ended: float
    last_byte: float
    """When the last byte of the node arrived."""
    last_read: float
    """When EC2 got the last read of the node; seconds after it accepted the last change of groups."""
    bytes_after: int
    """Bytes of the node that arrived after the agent ended."""
    network_delay: float
    """The longest time that the network took to apply a change."""
    applied: float
    """When the network had applied the last change."""
    open_applied: bool
    """Whether the network applied the group that allows all traffic, on each interface."""

    def __str__(self) -> str:
        return f"last byte at {self.last_byte:.2f} s, end at {self.ended:.2f} s, {self.bytes_after} bytes after that"


def run_all(bed: Bed, trials: Sequence[Trial]) -> Dict[Trial, Outcome]:
    """Run all trials, each against one of the bed's last nodes.

    If bytes arrived after success, but this machine was so busy that the network was later than settle_time, the
    trial is inconclusive and repeated.
    """
    nodes = dict(zip(bed.names[-len(trials) :], trials))
    done: Dict[Trial, Outcome] = {}
    for _ in range(ATTEMPTS):
        remaining = {n: t for n, t in nodes.items() if t not in done or _is_inconclusive(t, done[t])}
        if remaining:
            done.update(_run(bed, remaining))
    return done


def _is_inconclusive(trial: Trial, outcome: Outcome) -> bool:
    return outcome.bytes_after > 0 and trial.lag < trial.settle_time <= outcome.network_delay


def start_writers(bed: Bed, nodes: Sequence[str]) -> None:
    """Starts a writer on each of these nodes, which have groups that let it write."""
    for name in nodes:
        if not bed.nodes[name].running:
            bed.nodes[name].boot(members=0)
        bed.nodes[name].kill("python3")
        host = STORAGE6 if bed.cloud.machines[name].ipv6 else STORAGE
        command = f"setsid python3 /usr/lib/ocf/resource.d/bed/.stream {host}:{STORAGE_PORT} >/dev/null 2>&1 &"
        bed.nodes[name].command("sh", "-c", command)
    wait("all nodes write", lambda: set(nodes) <= set(bed.storage.active()))


def _run(bed: Bed, trials: Mapping[str, Trial]) -> Dict[Trial, Outcome]:
    bed.cloud.restore()
    bed.plane.set_lag()
    start_writers(bed, list(trials))
    with ThreadPoolExecutor(PREPARED) as pool:
        list(pool.map(lambda name: trials[name].prepare(bed, name), trials))
    for name, trial in trials.items():
        bed.plane.set_lag(trial.lag, trial.mode, instance=bed.cloud.machines[name].instance)
    with ThreadPoolExecutor(len(trials)) as pool:
        runs: List[Future[_Run]] = []
        for name, trial in trials.items():
            earlier = len(bed.ec2.calls)
            runs.append(pool.submit(_fence, bed, name, trial))
            instance = bed.cloud.machines[name].instance
            # One after the other, because starting an agent takes CPU time.
            wait(f"the fencing of {name} has begun", partial(_has_begun, bed, instance, earlier))
        ends = [run.result() for run in runs]
    wait("the network has applied all changes", lambda: bed.plane.idle)
    time.sleep(OBSERVED_SECONDS)
    return {trials[end[0]]: _outcome(bed, trials[end[0]], *end) for end in ends}


def _has_begun(bed: Bed, instance: str, earlier: int) -> bool:
    return any(instance in call.params.values() for call in bed.ec2.calls[earlier:] if call.action == "CreateTags")


def _fence(bed: Bed, name: str, trial: Trial) -> _Run:
    began = time.monotonic()
    done = bed.agent_on(trial.fencer, "off", name, *options_of(bed, trial))
    return name, began, time.monotonic(), done.returncode, done.stderr


def options_of(bed: Bed, trial: Trial) -> List[str]:
    """The options of a trial, with the IDs of this bed's groups."""
    return [option.format_map(bed.cloud.groups) for option in trial.options]


def _outcome(bed: Bed, trial: Trial, name: str, began: float, ended: float, code: int, stderr: str) -> Outcome:
    writes = [write for write in list(bed.storage.writes) if write.node == name]
    interfaces = bed.cloud.machines[name].interfaces
    effects = bed.plane.effects_on(interfaces, began)
    return Outcome(
        code,
        stderr,
        bed.cloud.isolated(name, bed.cloud.groups[trial.isolation]),
        ended - began,
        max((w.at for w in writes), default=began) - began,
        _last_read(bed, bed.cloud.machines[name].instance, interfaces),
        sum(w.size for w in writes if w.at > ended),
        max((e.delay for e in effects), default=0.0),
        max((e.at for e in effects), default=began) - began,
        {e.interface for e in effects if e.untracked} == set(interfaces),
    )


def _last_read(bed: Bed, instance: str, interfaces: Sequence[str]) -> float:
    reads = [c.at for c in bed.ec2.calls_of("DescribeInstances") if instance in c.params.values()]
    changes = [
        c.ended or 0.0
        for c in bed.ec2.calls_of("ModifyNetworkInterfaceAttribute")
        if c.params["NetworkInterfaceId"] in interfaces
    ]
    return max(reads, default=0.0) - max(changes, default=0.0)
