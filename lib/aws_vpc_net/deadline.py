"""Time: how long an operation may still take, pauses that grow, and work that is not waited for too long."""

from __future__ import annotations

import random
import threading
import time
from typing import Any, Callable, Iterator, List, Tuple


class Deadline:
    """A point in time that the operation must not pass. Seconds on the monotonic clock."""

    def __init__(self, seconds: float, started: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds = seconds
        self._ends = started + seconds
        self._clock = clock

    def now(self) -> float:
        """The point in time that it is, in seconds; those of all deadlines of an operation can be compared."""
        return self._clock()

    def remaining(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, self._ends - self._clock())

    @property
    def passed(self) -> bool:
        """Is no time left?"""
        return self.remaining() <= 0.0

    def minus(self, seconds: float) -> Deadline:
        """A deadline that leaves this many seconds of this one for what comes after."""
        return Deadline(self.seconds - seconds, self._ends - self.seconds, self._clock)

    @property
    def ends(self) -> float:
        """The point in time that it is."""
        return self._ends

    def at(self, point: float) -> Deadline:
        """A deadline at this point in time, at the latest at this one's."""
        return self.minus(max(0.0, self._ends - point))

    def pause(self, seconds: float) -> None:
        """Wait, but not beyond the deadline."""
        time.sleep(max(0.0, min(seconds, self.remaining())))


def backoff(first: float, most: float) -> Iterator[float]:
    """Endless pauses in seconds, doubling up to ``most``, each with jitter so that fencers do not go in step."""
    pause = first
    while True:
        yield pause * random.uniform(0.5, 1.0)
        pause = min(most, pause * 2)


def call_with_timeout(work: Callable[[], Any], seconds: float, *, insist: bool = False) -> Tuple[bool, Any]:
    """Run something in a thread, for at most so long: (True, its result or exception) or (False, None).

    Args:
        insist: where no thread can be started, run it in this one, which nothing but the watchdog bounds.

    Raises:
        RuntimeError: no thread can be started.
    """
    results: List[Any] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:  # noqa: BLE001 - the caller knows which are expected
            results.append(error)

    thread = threading.Thread(target=run, daemon=True)
    try:
        thread.start()
    except RuntimeError:
        if not insist:
            raise
        run()
    else:
        thread.join(seconds)
    return (True, results[0]) if results else (False, None)
