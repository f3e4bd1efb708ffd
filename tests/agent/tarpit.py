"""A server that takes connections and holds them up."""

import contextlib
import socket
import threading
import time
from typing import Optional

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nContent-Length: 5000\r\n\r\n"


class Tarpit:
    """Accepts on 127.0.0.1, sends `head` at once and then a byte every `pause` seconds; no pause: nothing at all."""

    def __init__(self, head: bytes = b"", pause: Optional[float] = None) -> None:
        self._head = head
        self._pause = pause
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._ended = threading.Event()
        self.taken = 0
        """Connections so far."""

    @property
    def address(self) -> str:
        """127.0.0.1:port"""
        return f"127.0.0.1:{self._listening.getsockname()[1]}"

    def __enter__(self) -> "Tarpit":
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while not self._ended.is_set():
                connection, _ = self._listening.accept()
                self.taken += 1
                threading.Thread(target=self._hold, args=(connection,), daemon=True).start()

    def _hold(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            if self._pause is None:
                self._ended.wait()
                return
            connection.sendall(self._head)
            while not self._ended.is_set():
                connection.sendall(b" " if self._head else b"H")
                time.sleep(self._pause)
