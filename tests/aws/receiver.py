"""Observes how long packets of an instance arrive after its groups were changed, at 50 ms resolution.

One process is both the caller of EC2 and the receiver: it changes the groups, and it reads what the instance sends.
So the moment of acceptance (the reply to ModifyNetworkInterfaceAttribute is here) and the arrival of each line are
points on one monotonic clock, and no two clocks are compared. It is also what ``settle_time`` counts from: the agent
starts it when the reply has arrived. The lines carry no times, and the clock of the instance does not matter.

The process connects to the instance, so that its own machine needs no rule to let anything in. It holds one
connection (the established flow), on which the instance sends a line each 20 ms, and begins a new one each 20 ms,
which counts as answered when its first line is here, or its refusal: that is a packet too. An attempt is given up
before the kernel sends its SYN again, so it is one packet at one moment.
"""

import selectors
import socket
import struct
import threading
import time
from contextlib import ExitStack, suppress
from typing import Any, Callable, Dict, List, Optional, Tuple

from .settle import BEFORE_SECONDS, Observation

INTERVAL = 0.02
"""Seconds between two new connections."""
ATTEMPT_SECONDS = 0.5
"""Seconds until an attempt is given up; the kernel would send its SYN again after 1 s."""
START_SECONDS = 240.0
"""Seconds that the instance may take to start, or the network to open."""
Address = Tuple[str, int]
SetGroups = Callable[[str], int]
"""Sets the groups of the instance: app, open or isolation; returns when EC2 has accepted that: how often it was
asked again."""


class Receiver(threading.Thread):
    """Notes when lines arrive on one established connection, and on new ones."""

    def __init__(self, address: Address) -> None:
        super().__init__(daemon=True)
        self.tries: List[float] = []
        self.answers: List[float] = []
        self.lines: List[float] = []
        self._address = address
        self._flow = _connect(address)
        self._attempts: Dict[Any, float] = {}
        self._selector = selectors.DefaultSelector()
        self._done = threading.Event()

    def run(self) -> None:
        """Until ``close``."""
        self._selector.register(self._flow, selectors.EVENT_READ)
        due = time.monotonic()
        while not self._done.is_set():
            if time.monotonic() >= due:
                self._begin_attempt()
                due = max(due + INTERVAL, time.monotonic())
            for key, _ in self._selector.select(max(0.0, due - time.monotonic())):
                self._read(key.fileobj)
            for link, begun in list(self._attempts.items()):
                if time.monotonic() - begun > ATTEMPT_SECONDS:
                    self._drop(link)

    def close(self) -> None:
        """End all connections."""
        self._done.set()
        self.join()
        for link in [self._flow, *self._attempts]:
            _reset(link)
        self._selector.close()

    def _begin_attempt(self) -> None:
        link = socket.socket()
        link.setblocking(False)
        self.tries.append(time.monotonic())
        link.connect_ex(self._address)
        self._attempts[link] = self.tries[-1]
        self._selector.register(link, selectors.EVENT_READ)

    def _read(self, link: Any) -> None:
        """A line, FIN or RST: each is a packet of the instance. What only this machine's kernel says is none."""
        more, arrived = False, True
        try:
            more = bool(link.recv(65536))
        except OSError as error:
            arrived = isinstance(error, (ConnectionRefusedError, ConnectionResetError))
        if arrived:
            (self.lines if link is self._flow else self.answers).append(time.monotonic())
        if link is not self._flow:
            self._drop(link)
        elif not more:
            self._selector.unregister(link)

    def _drop(self, link: Any) -> None:
        del self._attempts[link]
        self._selector.unregister(link)
        _reset(link)


def _connect(address: Address) -> socket.socket:
    """A connection on which lines arrive.

    Raises:
        RuntimeError: there is none within START_SECONDS.
    """
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        with suppress(OSError), ExitStack() as stack:
            link = stack.enter_context(socket.create_connection(address, timeout=ATTEMPT_SECONDS))
            if link.recv(65536):
                stack.pop_all()
                link.setblocking(False)
                return link
        time.sleep(INTERVAL)
    raise RuntimeError(f"no lines from {address[0]}:{address[1]} within {START_SECONDS:g} s")


def _reset(link: Any) -> None:
    """Close it by RST: neither end keeps anything of it."""
    link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    link.close()


def observe(address: Address, set_groups: SetGroups, dwell: Optional[float], window: float) -> Observation:
    """One run: from app to isolation, or through open, where the interface stays for ``dwell`` seconds.

    Args:
        window: seconds for which it is observed after the isolation was accepted.
    """
    set_groups("app")
    receiver = Receiver(address)
    receiver.start()
    try:
        time.sleep(BEFORE_SECONDS)
        retries = 0
        if dwell is not None:
            retries += set_groups("open")
            time.sleep(dwell)
        retries += set_groups("isolation")
        accepted = time.monotonic()
        time.sleep(window)
    finally:
        ended = time.monotonic()
        receiver.close()
    return Observation(
        dwell, accepted, ended, tuple(receiver.tries), tuple(receiver.answers), tuple(receiver.lines), retries
    )
