"""Commands, bounded in time, and waiting, bounded too."""

import subprocess
import time
from typing import Callable, Optional, Sequence, TypeVar

T = TypeVar("T")
LIMIT = 60.0  # seconds for a command
PAUSE = 0.1  # seconds between looks


class Failed(AssertionError):
    """The bed could not do something, or what was waited for did not come."""


def run(*command: str, limit: float = LIMIT, stdin: Optional[str] = None, check: bool = True) -> str:
    """Runs it and returns what it wrote on stdout; a failure is told with all that it said."""
    done = finished(command, limit, stdin)
    if check and done.returncode:
        raise Failed(f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout}{done.stderr}".rstrip())
    return done.stdout


def finished(
    command: Sequence[str], limit: float = LIMIT, stdin: Optional[str] = None
) -> "subprocess.CompletedProcess[str]":
    """Runs it to its end, whatever that is."""
    given = {"input": stdin} if stdin is not None else {"stdin": subprocess.DEVNULL}
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=limit, **given)  # type: ignore[call-overload,no-any-return]
    except subprocess.TimeoutExpired as reason:
        raise Failed(f"{' '.join(command)}: not done after {limit:g} s") from reason


def wait(what: str, look: Callable[[], T], limit: float = LIMIT, pause: float = PAUSE) -> T:
    """Looks until the answer is true, and returns it."""
    end = time.monotonic() + limit
    while True:
        answer = look()
        if answer:
            return answer
        if time.monotonic() > end:
            raise Failed(f"not within {limit:g} s: {what}; last seen: {answer!r}")
        time.sleep(pause)
