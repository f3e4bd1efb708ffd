"""Runs on the instance that is isolated, by its user data: sends numbered lines on each connection that it accepts.

    python3 sender.py ADDRESS PORT

Standard library only.
"""

import socket
import socketserver
import sys
import time

INTERVAL = 0.02
"""Seconds between two lines."""
GIVE_UP = 30
"""Seconds after which a connection without acknowledgements is closed; longer than it is observed."""


class Lines(socketserver.BaseRequestHandler):
    """Sends until the connection ends."""

    def handle(self) -> None:
        """A line each INTERVAL, from 1."""
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, GIVE_UP * 1000)
        number = 0
        try:
            while True:
                number += 1
                self.request.sendall(f"{number}\n".encode("ascii"))
                time.sleep(INTERVAL)
        except OSError:
            return


class Server(socketserver.ThreadingTCPServer):
    """A thread for each connection."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128


if __name__ == "__main__":
    Server((sys.argv[1], int(sys.argv[2])), Lines).serve_forever()
