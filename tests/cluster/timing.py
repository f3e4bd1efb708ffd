"""How long a fencing took, from what pacemaker-fenced writes and from the emulator's record of calls."""

import re
import time
from dataclasses import dataclass
from datetime import datetime
from typing import List, Sequence, Tuple

from ec2.wire import Call

from .shell import Failed

_TIME = r"^(?P<time>\w{3} \d\d \d\d:\d\d:\d\d\.\d{3}) \S+ pacemaker-fenced +\[\d+\] \(\w+\) *\t?\w+: "
_ASKED = _TIME + r"Requesting peer fencing \((?:off|reboot)\) targeting NODE "
_DONE = _TIME + r"Operation '(?:off|reboot)' \[\d+\] targeting NODE using \S+ returned 0 "


@dataclass(frozen=True)
class Fencing:
    """One that succeeded."""

    asked: float
    """When the fencer was asked, time.time()."""
    done: float
    """When the agent had succeeded."""
    api: float
    """Seconds in between in which a call to EC2 was under way."""

    @property
    def seconds(self) -> float:
        """From the request to done."""
        return self.done - self.asked

    @property
    def beyond(self) -> float:
        """Seconds that were not EC2's."""
        return self.seconds - self.api

    def __str__(self) -> str:
        return f"{self.seconds:.2f} s from request to done, {self.api:.2f} s of them in API calls"


def fencing_of(target: str, logs: Sequence[str], calls: Sequence[Call]) -> Fencing:
    """The last successful fencing of a node."""
    done = max(_times(_DONE, target, logs), default=0.0)
    asked = max((t for t in _times(_ASKED, target, logs) if t <= done), default=0.0)
    if not asked:
        raise Failed(f"no log tells of a successful fencing of {target}")
    offset = time.time() - time.monotonic()
    spans = [(c.at + offset, c.ended + offset) for c in list(calls) if c.ended is not None]
    return Fencing(asked, done, covered([(a, b) for a, b in spans if a >= asked and b <= done]))


def covered(spans: Sequence[Tuple[float, float]]) -> float:
    """Seconds that lie in at least one span."""
    total, end = 0.0, 0.0
    for first, last in sorted(spans):
        total += max(0.0, last - max(first, end))
        end = max(end, last)
    return total


def _times(pattern: str, target: str, logs: Sequence[str]) -> List[float]:
    found = []
    for log in logs:
        for match in re.finditer(pattern.replace("NODE", re.escape(target)), log, re.MULTILINE):
            year = datetime.now().year
            found.append(datetime.strptime(f"{year} {match['time']}", "%Y %b %d %H:%M:%S.%f").timestamp())
    return found


def reports(target: str, logs: Sequence[str]) -> List[float]:
    """When agents were seen to have fenced a node, time.time()."""
    return sorted(_times(_DONE, target, logs))


def failures(target: str, logs: Sequence[str]) -> int:
    """How many runs of the agent against a node failed."""
    pattern = rf"Operation '(?:off|reboot)' \[\d+\] targeting {re.escape(target)} using \S+ returned [^0]"
    return sum(len(re.findall(pattern, log)) for log in logs)
