"""Repeated fencing and unfencing on one cluster: does anything leak?"""

import signal
import sys
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Deque, Dict, Tuple

from .bed import Bed
from .shell import wait

# The count includes the shell itself and its timeout, in each cycle.
COUNT = """set -- /proc/[0-9]*
writer=$(cat /run/writer.pid 2>/dev/null) && [ -e "/proc/$writer" ] && shift
echo $#"""
COLUMNS = "fence", "move", "rejoin", "rss KiB", "files open", "processes", "files", "tags"


@dataclass(frozen=True)
class Cycle:
    """One cycle. The counts are those of the first node, which is never fenced, after the cycle."""

    fenced: float
    """Seconds that stonith_admin --fence took."""
    moved: float
    """Seconds from the request until the writer wrote on another node."""
    rejoined: float
    """Seconds from unfencing until the cluster was healthy."""
    memory: int
    """Resident memory of pacemaker-fenced, KiB."""
    descriptors: int
    """Open files of pacemaker-fenced."""
    processes: int
    """Without the writer, which may run on another node."""
    files: int
    """In /run and /dev/shm, without those of the writer, and of the connection of a DC to the scheduler."""
    tags: int
    """Of the agent, on all instances."""

    def __str__(self) -> str:
        seconds = (f"{s:.1f} s" for s in (self.fenced, self.moved, self.rejoined))
        counts = (str(n) for n in (self.memory, self.descriptors, self.processes, self.files, self.tags))
        return "".join(f"{text:>11}" for text in (*seconds, *counts))


def heading() -> str:
    """The heading of the table."""
    return "".join(f"{text:>11}" for text in COLUMNS)


def cycle(bed: Bed) -> Cycle:
    """Fences the node of the writer (the second node, if that is the first), and returns it to service."""
    watcher = bed.names[0]
    victim = bed.writer_on() if bed.writer_on() != watcher else bed.names[1]
    began = time.monotonic()
    bed.fence(victim, by=watcher)
    fenced = time.monotonic() - began
    wait("another node writes", lambda: bed.storage.active() and victim not in bed.storage.active())
    moved = time.monotonic() - began
    rejoined = bed.return_to_service(victim)
    bed.nodes[watcher].command("stonith_admin", "--cleanup", "--history", "*")
    tags = sum(len(bed.cloud.tags(name)) for name in bed.names)
    memory, descriptors, processes, files = _settled(bed)
    return Cycle(fenced, moved, rejoined, memory, descriptors, processes, files, tags)


def more_than(bed: Bed, earlier: Cycle) -> Dict[str, int]:
    """The counts that are higher now than after an earlier cycle, and by how much."""
    current = dict(zip(("descriptors", "processes", "files"), _counts(bed)[1:]))
    return {name: count - getattr(earlier, name) for name, count in current.items() if count > getattr(earlier, name)}


def _settled(bed: Bed) -> Tuple[int, int, int, int]:
    """Counts that are the same three times in a row: monitors and commands start and end."""
    samples: Deque[Tuple[int, int, int, int]] = deque(maxlen=3)

    def stable() -> bool:
        samples.append(_counts(bed))
        return len(samples) == samples.maxlen and len({sample[1:] for sample in samples}) == 1

    wait("the counts are stable", stable, 30)
    return samples[-1]


def _counts(bed: Bed) -> Tuple[int, int, int, int]:
    node = bed.nodes[bed.names[0]]
    fencer = Path("/proc", str(node.pids("pacemaker-fenced")[0]))
    status = (fencer / "status").read_text(encoding="ascii")
    memory = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
    others = [word for name in ("*-pengine-*", "writer.pid") for word in ("!", "-name", name)]
    files = node.command("find", "/run", "/dev/shm", "-type", "f", *others).splitlines()
    processes = node.command("sh", "-c", COUNT)
    return memory, len(list((fencer / "fd").iterdir())), int(processes), len(files)


def main() -> int:
    """python -m cluster.cycles NUMBER"""
    number = int(sys.argv[1])
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    began = time.monotonic()
    with Bed() as bed:
        print(f"{len(bed.names)} nodes are up after {time.monotonic() - began:.1f} s", flush=True)
        print("cycle " + heading(), flush=True)
        done = []
        for count in range(1, number + 1):
            done.append(cycle(bed))
            print(f"{count:>5} {done[-1]}", flush=True)
    first, last = done[0], done[-1]
    print(f"memory of pacemaker-fenced: {first.memory} KiB after the first cycle, {last.memory} KiB after the last")
    for name in ("fenced", "moved", "rejoined"):
        values = sorted(getattr(c, name) for c in done)
        print(f"{name}: median {values[len(values) // 2]:.1f} s, least {values[0]:.1f} s, most {values[-1]:.1f} s")
    print(f"{number} cycles in {time.monotonic() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
