"""Running the agent, reading the flow from consoles, and how long EC2 takes to show a change."""

import os
import re
import subprocess
import time
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from .flow import SIGN

REPORT = re.compile(SIGN + r" (?P<at>[\d.]+) long=(?P<long>\d+:\d+|-) short=(?P<short>\d+|-)")
AGENT_SECONDS = 120
BOOT_SECONDS = 240.0


@dataclass
class Run:
    """How a run of the agent ended."""

    code: int
    out: str
    err: str
    seconds: float

    @property
    def last(self) -> str:
        """What it said in the end, without the time."""
        lines = [line for line in self.err.splitlines() if " INFO: " not in line]
        return re.sub(r"^\S+ \S+ ", "", lines[-1]) if lines else ""

    @property
    def summary(self) -> Dict[str, str]:
        """The fields of its summary line."""
        found = re.search(r" summary (.*)", self.err)
        return dict(pair.split("=", 1) for pair in found[1].split() if "=" in pair) if found else {}


@dataclass
class Agent:
    """The agent as a process."""

    path: str
    options: Sequence[str]
    env: Dict[str, str] = field(default_factory=dict)

    def __call__(self, action: str, plug: str, *more: str, env: Optional[Dict[str, str]] = None) -> Run:
        """One run; ``-v`` for the summary line."""
        began = time.monotonic()
        done = subprocess.run(
            [self.path, "-o", action, "-n", plug, "-v", *self.options, *more],
            capture_output=True,
            text=True,
            timeout=AGENT_SECONDS,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **self.env, **(env or {})},
        )
        return Run(done.returncode, done.stdout, done.stderr, time.monotonic() - began)


# --- flows -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Seen:
    """What had arrived by the last report on a console: the numbers on the long connection and of the short ones."""

    long: Optional[Tuple[int, int]] = None
    short: Optional[int] = None


def last_report(console: str) -> Optional[Seen]:
    """None if there is none yet; a line that the kernel wrote into is none."""
    found = list(REPORT.finditer(console))
    if not found:
        return None
    long, short = found[-1]["long"], found[-1]["short"]
    connection, _, number = long.partition(":")
    return Seen(
        None if long == "-" else (int(connection), int(number)),
        None if short == "-" else int(short),
    )


def flows(before: Optional[Seen], after: Optional[Seen]) -> Tuple[Optional[bool], Optional[bool]]:
    """Between two reports: did the *same* long connection go on, did new connections get through? None: unknown."""
    if before is None or after is None:
        return None, None
    same = before.long is not None and after.long is not None and before.long[0] == after.long[0]
    went_on = same and after.long > before.long  # type: ignore[operator]
    return went_on, after.short is not None and after.short > (before.short or 0)


def wait_for_flows(consoles: Callable[[], List[str]], pause: float) -> bool:
    """Until both ends report both kinds of connections going on; False after BOOT_SECONDS."""
    end = time.monotonic() + BOOT_SECONDS
    before = [last_report(c) for c in consoles()]
    while time.monotonic() < end:
        time.sleep(pause)
        after = [last_report(c) for c in consoles()]
        if all(flows(b, a) == (True, True) for b, a in zip(before, after)):
            return True
        before = after
    return False


# --- propagation -----------------------------------------------------------------------------------------------


@dataclass
class Delays:
    """From an accepted change to the first read that showed it, in seconds, and what later reads said."""

    first: List[float] = field(default_factory=list)
    reads: int = 0
    stale_after: int = 0

    def __str__(self) -> str:
        if not self.first:
            return "none measured"
        low, middle, high = (f"{1000 * f(self.first):.0f}" for f in (min, median, max))
        return f"{low} / {middle} / {high} ms; {self.stale_after} of {self.reads} later reads were stale"


def watch(delays: Delays, change: Callable[[], Any], shown: Callable[[], bool], seconds: float) -> None:
    """Make a change, read until it shows, then read on for so long."""
    change()
    accepted = time.monotonic()
    while not shown():
        if time.monotonic() - accepted > 60:
            raise RuntimeError("a change did not show within 60 s")
        time.sleep(0.05)
    delays.first.append(time.monotonic() - accepted)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.1)
        delays.reads += 1
        delays.stale_after += not shown()
