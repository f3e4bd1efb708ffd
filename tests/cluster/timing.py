"""How long a fencing took, from the log of pacemaker-fenced and the emulator's list of calls."""

import re
import time
from dataclasses import dataclass
from datetime import datetime
from typing import List, Sequence, Tuple

from ec2.wire import Call

from .shell import Failed

_TIME = r"^(?P<time>\w{3} \d\d \d\d:\d\d:\d\d\.\d{3}) \S+ pacemaker-fenced +\[\d+\] \(\w+\) *\t?\w+: "
_REQUESTED = _TIME + r"Requesting peer fencing \((?:off|reboot)\) targeting NODE "
_DONE = _TIME + r"Operation '(?:off|reboot)' \[\d+\] targeting NODE using \S+ returned 0 "


@dataclass(frozen=True)
class Fencing:
    """A fencing that succeeded."""

    requested: float
    """When it was requested, time.time()."""
    done: float
    """When the agent succeeded."""
    api: float
    """Seconds in between with a call to EC2 in progress."""

    @property
    def seconds(self) -> float:
        """From the request to success."""
        return self.done - self.requested

    @property
    def overhead(self) -> float:
        """Seconds without a call to EC2 in progress."""
        return self.seconds - self.api

    def __str__(self) -> str:
        return f"{self.seconds:.2f} s from request to success, {self.api:.2f} s of them in API calls"


def fencing_of(target: str, logs: Sequence[str], calls: Sequence[Call]) -> Fencing:
    """The last successful fencing of a node."""
    done = max(_times(_DONE, target, logs), default=0.0)
    requested = max((t for t in _times(_REQUESTED, target, logs) if t <= done), default=0.0)
    if not requested:
        raise Failed(f"no log shows a successful fencing of {target}")
    offset = time.time() - time.monotonic()
    spans = [(c.at + offset, c.ended + offset) for c in list(calls) if c.ended is not None]
    return Fencing(requested, done, covered([(a, b) for a, b in spans if a >= requested and b <= done]))


def covered(spans: Sequence[Tuple[float, float]]) -> float:
    """The seconds that at least one span covers."""
    total, end = 0.0, 0.0
    for first, last in sorted(spans):
        total += max(0.0, last - max(first, end))
        end = max(end, last)
    return total


def _times(pattern: str, target: str, logs: Sequence[str]) -> List[float]:
    times = []
    for log in logs:
        for match in re.finditer(pattern.replace("NODE", re.escape(target)), log, re.MULTILINE):
            year = datetime.now().year
            times.append(datetime.strptime(f"{year} {match['time']}", "%Y %b %d %H:%M:%S.%f").timestamp())
    return times


def reports(target: str, logs: Sequence[str]) -> List[float]:
    """When agents reported success of fencing a node, time.time()."""
    return sorted(_times(_DONE, target, logs))


def failures(target: str, logs: Sequence[str]) -> int:
    """How many runs of the agent against a node failed."""
    pattern = rf"Operation '(?:off|reboot)' \[\d+\] targeting {re.escape(target)} using \S+ returned [^0]"
    return sum(len(re.findall(pattern, log)) for log in logs)
