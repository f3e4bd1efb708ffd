"""One process, measured: seconds, CPU seconds, peak memory; and what several of them amount to."""

import os
import statistics
import subprocess
import time
from dataclasses import dataclass, field, replace
from typing import Dict, List, Sequence, Tuple


@dataclass(frozen=True)
class Run:
    """A process that ended as it should: seconds by the clock and of CPU, peak memory in MB.

    Attributes:
        began: on the monotonic clock, which all processes share.
        isolation: seconds until EC2 had accepted the last change of groups; 0 if there was none.
    """

    seconds: float
    cpu: float
    memory: float
    began: float = 0.0
    isolation: float = 0.0

    def isolated_at(self, point: float) -> "Run":
        """The same; the last change was accepted then."""
        return replace(self, isolation=max(0.0, point - self.began))


def run(command: Sequence[str], env: Dict[str, str], text: str = "", codes: Tuple[int, ...] = (0,)) -> Run:
    """Runs it to the end, what it prints thrown away.

    The kernel counts the memory of whoever starts a process as the process's own, so that this one stays small.

    Raises:
        RuntimeError: it ended with another exit code.
    """
    null, pipe = subprocess.DEVNULL, subprocess.PIPE
    began = time.monotonic()
    process = subprocess.Popen(command, stdin=pipe, stdout=null, stderr=pipe, env=env)
    assert process.stdin and process.stderr
    process.stdin.write(text.encode())
    process.stdin.close()
    said = process.stderr.read().decode(errors="replace")
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in codes:
        raise RuntimeError(f"exit code {process.returncode} of {' '.join(command)}: {said}")
    return Run(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, began)


@dataclass
class Case:
    """A step, measured with the agent and with the bare script in turn."""

    name: str
    agent: List[Run] = field(default_factory=list)
    bare: List[Run] = field(default_factory=list)
    agent_calls: int = 0
    bare_calls: int = 0

    @property
    def ratio(self) -> "Spread":
        """Of the seconds, pair by pair."""
        return ratio(self.agent, self.bare)

    @property
    def isolates(self) -> bool:
        """Does it change groups?"""
        return all(r.isolation for r in (*self.agent, *self.bare))

    @property
    def isolation_ratio(self) -> "Spread":
        """Of the seconds until the last change was accepted, pair by pair."""
        return ratio(self.agent, self.bare, "isolation")


@dataclass(frozen=True)
class Spread:
    """The median, and between what the middle half lies."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f} – {self.high:.2f})"


def ratio(above: Sequence[Run], below: Sequence[Run], what: str = "seconds") -> Spread:
    """The spread of the ratio of ``seconds`` or ``isolation``, pair by pair."""
    found = [getattr(a, what) / getattr(b, what) for a, b in zip(above, below)]
    quarters = statistics.quantiles(found, n=4, method="inclusive") if len(found) > 1 else found * 3
    return Spread(statistics.median(found), quarters[0], quarters[-1])


def median(runs: Sequence[Run], what: str) -> float:
    """Of ``seconds``, ``isolation``, ``cpu`` or ``memory``."""
    return statistics.median(getattr(r, what) for r in runs)
