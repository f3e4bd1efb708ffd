"""The agent by hand against nodes that write all the time, on a network that follows late: when comes the last byte?

All trials of a bed run side by side, each against a node of its own, as most of it is waiting. The first node is the
fencer of all.
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

_End = Tuple[str, float, float, int, str]  # node, began, ended, exit code, stderr
WATCHED = 1.5  # seconds after the network has followed; a writer writes a hundred lines in each
TRIES = 4
PREPARED = 6  # nodes at once, before their trials


@dataclass(frozen=True)
class Trial:
    """How the network of a node follows, and how it is fenced."""

    lag: float
    mode: Mode
    settle_time: int = 5
    options: Tuple[str, ...] = ()
    """Of the agent, name=value, beside the bed's; {name} is the ID of the bed's group of that name."""
    name: str = ""
    before: Callable[[Bed, str], None] = lambda bed, node: None
    """What is done to the node before it is fenced; perhaps twice."""
    fencer: str = "node1"
    isolation: str = "isolation"
    """The group that isolated interfaces have."""
    ipv6: bool = False
    """The node has IPv6 addresses, and writes over IPv6."""

    def __str__(self) -> str:
        return ", ".join(filter(None, (self.name, f"{self.lag:g} s", self.mode.value)))


@dataclass(frozen=True)
class Outcome:
    """What came of a trial. Times are seconds from when the agent began."""

    code: int
    stderr: str
    isolated: bool
    success: float
    """When it had ended."""
    last_byte: float
    """When the last byte of the node arrived."""
    settled: float
    """When the last read of the node came, after the last change of groups was accepted."""
    late: int
    """Bytes that arrived after that end."""
    network: float
    """The longest that the network took to follow a change."""
    opened: bool
    """Whether the network was seen to let everything through."""

    def __str__(self) -> str:
        return f"last byte at {self.last_byte:.2f} s, success at {self.success:.2f} s, {self.late} bytes after that"


def run_all(bed: Bed, trials: Sequence[Trial]) -> Dict[Trial, Outcome]:
    """All of them, each against one of the bed's last nodes.

    Where bytes arrived after success, but this machine was so busy that the network followed later than settle_time,
    nothing is learnt: it is done again.
    """
    nodes = dict(zip(bed.names[-len(trials) :], trials))
    done: Dict[Trial, Outcome] = {}
    for _ in range(TRIES):
        left = {name: trial for name, trial in nodes.items() if trial not in done or _is_void(trial, done[trial])}
        if left:
            done.update(_run(bed, left))
    return done


def _is_void(trial: Trial, outcome: Outcome) -> bool:
    return outcome.late > 0 and trial.lag < trial.settle_time <= outcome.network


def start_writers(bed: Bed, nodes: Sequence[str]) -> None:
    """Starts a writer on each of these nodes, which have groups that let it write."""
    for name in nodes:
        if not bed.nodes[name].running:
            bed.nodes[name].boot(members=0)
        bed.nodes[name].kill("python3")
        host = STORAGE6 if bed.cloud.machines[name].ipv6 else STORAGE
        command = f"setsid python3 /usr/lib/ocf/resource.d/bed/.stream {host}:{STORAGE_PORT} >/dev/null 2>&1 &"
        bed.nodes[name].command("sh", "-c", command)
    wait("all of them write", lambda: set(nodes) <= set(bed.storage.active()))


def _run(bed: Bed, trials: Mapping[str, Trial]) -> Dict[Trial, Outcome]:
    bed.cloud.restore()
    bed.plane.set()
    start_writers(bed, list(trials))
    with ThreadPoolExecutor(PREPARED) as pool:
        list(pool.map(lambda name: trials[name].before(bed, name), trials))
    for name, trial in trials.items():
        bed.plane.set(trial.lag, trial.mode, instance=bed.cloud.machines[name].instance)
    with ThreadPoolExecutor(len(trials)) as pool:
        runs: List[Future[_End]] = []
        for name, trial in trials.items():
            earlier = len(bed.ec2.calls)
            runs.append(pool.submit(_fence, bed, name, trial))
            instance = bed.cloud.machines[name].instance
            # One after the other, as to start is what takes the CPU.
            wait(f"{name} is being fenced", partial(_is_fenced, bed, instance, earlier))
        ends = [run.result() for run in runs]
    wait("the network has followed", lambda: bed.plane.idle)
    time.sleep(WATCHED)
    return {trials[end[0]]: _outcome(bed, trials[end[0]], *end) for end in ends}


def _is_fenced(bed: Bed, instance: str, earlier: int) -> bool:
    return any(instance in call.params.values() for call in bed.ec2.calls[earlier:] if call.action == "CreateTags")


def _fence(bed: Bed, name: str, trial: Trial) -> _End:
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
        _settled(bed, bed.cloud.machines[name].instance, interfaces),
        sum(w.size for w in writes if w.at > ended),
        max((e.took for e in effects), default=0.0),
        {e.interface for e in effects if e.untracked} == set(interfaces),
    )


def _settled(bed: Bed, instance: str, interfaces: Sequence[str]) -> float:
    reads = [c.at for c in bed.ec2.calls_of("DescribeInstances") if instance in c.params.values()]
    changes = [
        c.ended or 0.0
        for c in bed.ec2.calls_of("ModifyNetworkInterfaceAttribute")
        if c.params["NetworkInterfaceId"] in interfaces
    ]
    return max(reads, default=0.0) - max(changes, default=0.0)
