"""The host that nodes write to over eth1. It records which node wrote when."""

import selectors
import socket
import threading
import time
from typing import Dict, List, NamedTuple, Sequence, Tuple

from .cloud import STORAGE, STORAGE_PORT


class Write(NamedTuple):
    """Bytes that arrived from a node."""

    at: float
    """time.monotonic()."""
    node: str
    size: int


class Storage:
    """A server for the data that nodes write. Create it in the network of the storage host."""

    def __init__(self, names: Dict[str, str], addresses: Sequence[str] = (STORAGE,)) -> None:
        self._names = names  # address to node
        self._listeners = [
            socket.create_server((a, STORAGE_PORT), family=socket.AF_INET6 if ":" in a else socket.AF_INET)
            for a in addresses
        ]
        for listener in self._listeners:
            listener.setblocking(False)
        self._stop = threading.Event()
        self.writes: List[Write] = []
        self._thread = threading.Thread(target=self._serve, name="storage", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stops the server."""
        self._stop.set()
        self._thread.join(5)

    def _serve(self) -> None:
        with selectors.DefaultSelector() as selector:
            for listener in self._listeners:
                selector.register(listener, selectors.EVENT_READ)
            while not self._stop.is_set():
                for key, _ in selector.select(0.2):
                    self._receive(key.fileobj, selector)  # type: ignore[arg-type]
            for key in list(selector.get_map().values()):
                key.fileobj.close()  # type: ignore[union-attr]

    def _receive(self, ready: socket.socket, selector: selectors.BaseSelector) -> None:
        if ready in self._listeners:
            connection, _ = ready.accept()
            connection.setblocking(False)
            selector.register(connection, selectors.EVENT_READ)
            return
        try:
            data = ready.recv(65536)
            node = self._names.get(ready.getpeername()[0], "?")
        except OSError:
            data = b""
        if data:
            self.writes.append(Write(time.monotonic(), node, len(data)))
        else:
            selector.unregister(ready)
            ready.close()

    # Queries

    def bytes_of(self, node: str) -> int:
        """The number of bytes that arrived from a node so far."""
        return sum(w.size for w in list(self.writes) if w.node == node)

    def spans(self, since: float = 0.0) -> List[Tuple[str, float, float]]:
        """(node, first, last write) of each period in which only that node wrote, in order."""
        spans: List[Tuple[str, float, float]] = []
        for write in list(self.writes):
            if write.at < since:
                continue
            if spans and spans[-1][0] == write.node:
                spans[-1] = (write.node, spans[-1][1], write.at)
            else:
                spans.append((write.node, write.at, write.at))
        return spans

    def active(self, within: float = 0.5) -> List[str]:
        """The nodes that wrote in the last seconds."""
        now = time.monotonic()
        return sorted({w.node for w in self.writes[-1000:] if now - w.at <= within})
