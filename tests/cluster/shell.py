"""Commands and waits with a time limit."""

import subprocess
import time
from typing import Callable, Optional, Sequence, TypeVar

T = TypeVar("T")
LIMIT = 60.0  # seconds for a command
PAUSE = 0.1  # seconds between checks of a condition


class Failed(AssertionError):
    """A command failed, or a condition was not met in time."""


def run(*command: str, limit: float = LIMIT, stdin: Optional[str] = None, check: bool = True) -> str:
    """Runs a command and returns its stdout. The error of a failed one contains all of its output."""
    done = finished(command, limit, stdin)
    if check and done.returncode:
        raise Failed(f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout}{done.stderr}".rstrip())
    return done.stdout


def finished(
    command: Sequence[str], limit: float = LIMIT, stdin: Optional[str] = None
) -> "subprocess.CompletedProcess[str]":
    """Runs a command, whatever its exit code."""
    given = {"input": stdin} if stdin is not None else {"stdin": subprocess.DEVNULL}
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=limit, **given)  # type: ignore[call-overload,no-any-return]
    except subprocess.TimeoutExpired as reason:
        raise Failed(f"{' '.join(command)}: not done after {limit:g} s") from reason


def wait(what: str, condition: Callable[[], T], limit: float = LIMIT, pause: float = PAUSE) -> T:
    """Waits until a condition is true, and returns its value."""
    end = time.monotonic() + limit
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise Failed(f"not within {limit:g} s: {what}; last value: {value!r}")
        time.sleep(pause)
