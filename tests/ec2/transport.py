"""The sockets: HTTP/1.1 with keep-alive, and deliberately broken replies.

They listen on 127.0.0.1; on another address only in a network namespace of the tests.
"""

import contextlib
import select
import socket
import ssl
import struct
import sys
import threading
import time
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Callable, Dict, Optional, Tuple

from .wire import Reply, Request

POLL = 0.05
"""Seconds between checks whether a waiting connection was closed."""
LONG = 20.0
"""Seconds in which a busy machine has done what takes no time."""
HERE = "127.0.0.1"


class Handler(BaseHTTPRequestHandler):
    """Reads requests, lets the server answer them, sends the replies."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: "Transport"

    def do_POST(self) -> None:
        """Answers one request."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        port, server = int(self.client_address[1]), self.server
        request = Request(self.command, self.path, self.headers, body, port, lambda: server.has(self.connection))
        server.answer(request, self._send)

    do_GET = do_PUT = do_POST

    def _send(self, reply: Reply) -> None:
        try:
            self._deliver(reply)
        except OSError:
            # The client is gone, for instance killed by the test; that is its affair.
            self.close_connection = True

    def _deliver(self, reply: Reply) -> None:
        if reply.mode == "whole":
            self.wfile.write(self._head(reply) + reply.body)
            return
        self.close_connection = True
        if reply.mode == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
        elif reply.mode == "truncated":
            self.wfile.write(self._head(reply) + reply.body)
        elif reply.mode == "stall":
            self._wait(float("inf"))
        elif reply.mode == "trickle":
            for byte in self._head(reply) + reply.body:
                self.wfile.write(bytes((byte,)))
                if not self._wait(reply.pause):
                    return

    def _head(self, reply: Reply) -> bytes:
        length = len(reply.body) if reply.length is None else reply.length
        phrase = self.responses.get(reply.status, ("",))[0]  # type: ignore[call-overload]
        lines = (
            f"HTTP/1.1 {reply.status} {phrase}",
            f"x-amzn-RequestId: {reply.request_id}",
            "Cache-Control: no-cache, no-store",
            f"Content-Type: {reply.content_type}",
            f"Content-Length: {length}",
            f"Date: {formatdate(usegmt=True)}",
            "Server: AmazonEC2",
        )
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    def _wait(self, seconds: float) -> bool:
        """Waits; false as soon as the client is gone or the server ends."""
        end = time.monotonic() + seconds
        while not self.server.closing.is_set():
            left = end - time.monotonic()
            if left <= 0:
                return True
            readable, _, _ = select.select([self.connection], [], [], min(POLL, left))
            if readable and not self.connection.recv(1, socket.MSG_PEEK):
                return False
            if readable:
                # Data of a pipelined request would make select return at once for ever.
                time.sleep(min(POLL, left))
        return False

    def log_message(self, format: str, *args: Any) -> None:
        """Logs nothing: calls are recorded, and stderr is for the tests."""


Answer = Callable[[Request, Callable[[Reply], None]], None]


class Transport(ThreadingHTTPServer):
    """A thread for each connection; `stop` ends them all."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, answer: Answer, port: int = 0, handler: Any = Handler, host: str = HERE) -> None:
        super().__init__((host, port), handler)
        self.answer = answer
        self.closing = threading.Event()
        self._open: Dict[socket.socket, Any] = {}
        """Connections and the addresses of their clients."""
        self._changed = threading.Condition()
        self._thread: Optional[threading.Thread] = None

    @property
    def endpoint(self) -> str:
        """http://127.0.0.1:port"""
        return f"http://{self.server_address[0]!s}:{self.server_address[1]}"

    def start(self) -> None:
        """Serves in a thread."""
        self._thread = threading.Thread(
            target=self.serve_forever, kwargs={"poll_interval": POLL}, name="ec2-front", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Stops listening and closes all connections."""
        self.closing.set()
        self.shutdown()
        self.server_close()
        self.hang_up()
        if self._thread is not None:
            self._thread.join(5)

    def has(self, connection: socket.socket) -> bool:
        """Whether this connection is open, and neither end has closed it that the server knows of."""
        return connection in self._open

    def hang_up(self) -> None:
        """Closes all connections that were made until now. What arrived on them and waits has no effect."""
        if self._thread is not None and not self.closing.is_set():
            self._await_accepted()
        with self._changed:
            opened, self._open = [*self._open], {}
        for connection in opened:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def await_gone(self) -> None:
        """Waits until no request of a client that is gone is still to be read or answered; not for ever."""
        self._await_accepted()
        end = time.monotonic() + LONG
        while self._has_input() and time.monotonic() < end:
            time.sleep(0.002)

    def _has_input(self) -> bool:
        """Whether a connection can be read; its end can, too."""
        with self._changed:
            try:
                return bool(select.select([*self._open], [], [], 0)[0])
            except (OSError, ValueError):  # one was closed just now
                return True

    def _await_accepted(self) -> None:
        """Waits until all connections that clients have made are known: they are accepted in order."""
        if self.server_address[0] != HERE:
            return  # in another network namespace
        with socket.create_connection((HERE, self.server_port), LONG) as last, self._changed:
            address = last.getsockname()
            self._changed.wait_for(lambda: address in self._open.values(), LONG)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Remembers the connection, so that it can be closed."""
        with self._changed:
            self._open[request] = client_address
            self._changed.notify_all()
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Forgets the connection."""
        with self._changed:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Tuple[str, int]) -> None:  # type: ignore[override]
        """A client that went away is no error; others are the front's faults and go to stderr."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class TlsTransport(Transport):
    """The same by HTTPS, with the certificate and key of a file; hands are shaken in the connection's own thread."""

    def __init__(self, answer: Answer, pem: Path, port: int = 0) -> None:
        super().__init__(answer, port)
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.load_cert_chain(pem)

    @property
    def endpoint(self) -> str:
        """https://127.0.0.1:port, as a machine need not know localhost"""
        return f"https://127.0.0.1:{self.server_address[1]}"

    def get_request(self) -> Any:
        """A connection, with TLS still to begin."""
        plain, address = super().get_request()
        return self._tls.wrap_socket(plain, server_side=True, do_handshake_on_connect=False), address
