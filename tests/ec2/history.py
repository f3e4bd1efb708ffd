"""The history of the world, for stale reads."""

import time
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Callable, Deque, Dict, Iterator, List, Optional, Tuple

from .wire import Call

KINDS = ("tags", "groups", "states")
STALE_ACTIONS = ("DescribeInstances", "DescribeNetworkInterfaces", "DescribeTags", "DescribeInstanceStatus")
DEPTH = 1000
"""The number of changes of each kind that are kept."""


@dataclass
class Lag:
    """How stale a read is: a number of changes of that kind, or seconds."""

    changes: int = 0
    seconds: float = 0.0


@dataclass
class Staleness:
    """Which reads are stale, and how stale."""

    lags: Dict[str, Lag]
    reads: Optional[int]
    until: Optional[float]
    when: Optional[Callable[[Call], bool]]
    shown: int = 0
    """How often a read was stale by it."""

    def take(self, call: Call) -> bool:
        """Whether the read is stale; counts it."""
        if self.until is not None and time.monotonic() >= self.until:
            return False
        if self.reads is not None and self.reads <= 0:
            return False
        if self.when is not None and not self.when(call):
            return False
        if self.reads is not None:
            self.reads -= 1
        return True


class History:
    """Snapshots of one EC2 backend after each change; used under the server's lock."""

    def __init__(self, backend: Callable[[], Any]) -> None:
        self._backend = backend
        self._past: Dict[str, Deque[Tuple[float, Any]]] = {}
        self._stale: List[Staleness] = []
        self.added: List[Staleness] = []
        """All of them, also those that have ended; until `clear`."""
        self.clear()

    def clear(self) -> None:
        """Clears the history."""
        self._stale, self.added = [], []
        now = time.monotonic()
        self._past = {kind: deque([(now, self._capture(kind))], DEPTH) for kind in KINDS}

    def note(self) -> None:
        """Adds the changes since the last call."""
        now = time.monotonic()
        for kind in KINDS:
            current = self._capture(kind)
            if current != self._past[kind][-1][1]:
                self._past[kind].append((now, current))

    def add(self, staleness: Staleness) -> None:
        """Makes reads stale."""
        self._stale.append(staleness)
        self.added.append(staleness)

    def fresh(self) -> None:
        """Makes all reads current again."""
        self._stale = []

    @contextmanager
    def seen_by(self, call: Call) -> Iterator[None]:
        """Sets the world to the state that this read returns, and back to the current one afterwards."""
        past = self._past_for(call)
        now = {kind: self._capture(kind) for kind in past}
        try:
            self._apply(past)
            yield
        finally:
            self._apply(now)

    def _past_for(self, call: Call) -> Dict[str, Any]:
        if call.action not in STALE_ACTIONS:
            return {}
        past: Dict[str, Any] = {}
        for staleness in self._stale:
            if staleness.take(call):
                for kind, lag in staleness.lags.items():
                    past.setdefault(kind, self._at(kind, lag))
                    staleness.shown += past[kind] != self._capture(kind)
        return past

    def _at(self, kind: str, lag: Lag) -> Any:
        entries = self._past[kind]
        index = max(0, len(entries) - 1 - lag.changes)
        moment = time.monotonic() - lag.seconds
        while index > 0 and lag.seconds and entries[index][0] > moment:
            index -= 1
        return entries[index][1]

    def _capture(self, kind: str) -> Any:
        backend = self._backend()
        if kind == "tags":
            return {rid: dict(tags) for rid, tags in backend.tags.items() if tags}
        if kind == "groups":
            return {eni.id: tuple(eni._group_set) for eni in backend.enis.values()}
        return {i.id: (i._state.name, i._state.code) for i in backend.all_instances()}

    def _apply(self, world: Dict[str, Any]) -> None:
        backend = self._backend()
        if "tags" in world:
            backend.tags.clear()
            backend.tags.update({rid: dict(tags) for rid, tags in world["tags"].items()})
        for eni_id, groups in world.get("groups", {}).items():
            if eni_id in backend.enis:
                backend.enis[eni_id]._group_set = list(groups)
        for instance in backend.all_instances() if "states" in world else ():
            if instance.id in world["states"]:
                instance._state.name, instance._state.code = world["states"][instance.id]
