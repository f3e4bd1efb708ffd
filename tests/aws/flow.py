"""Runs on two of the instances, by their user data: keeps TCP connections going to the other, reports what arrives.

    python3 flow.py ADDRESS PEER PORT SECONDS

To the peer it holds one connection open for ever and sends a number on it each half second; and each second it
opens a new one, sends a number, and closes it. What arrives from the peer is printed each SECONDS to standard output,
which is the serial console there: it needs no network, so an isolated instance still reports. Standard library only.
"""

import socket
import socketserver
import sys
import threading
import time
from typing import Dict

SIGN = "fence-flow"
GIVE_UP = 20
"""Seconds after which an unanswered connection is given up and made anew."""
seen: Dict[str, str] = {"long": "-", "short": "-"}


class Arrived(socketserver.StreamRequestHandler):
    """Notes each line: its kind, and the connection's and its own number."""

    def handle(self) -> None:
        """Reads until the connection ends."""
        for line in self.rfile:
            kind, _, value = line.decode("ascii", "replace").strip().partition(" ")
            if kind in seen:
                seen[kind] = value


class Server(socketserver.ThreadingTCPServer):
    """A thread for each connection."""

    allow_reuse_address = True
    daemon_threads = True


def hold(peer: str, port: int) -> None:
    """One connection, for as long as it lasts."""
    connection = 0
    while True:
        connection += 1
        try:
            with socket.create_connection((peer, port), timeout=2) as link:
                link.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, GIVE_UP * 1000)
                link.settimeout(GIVE_UP)
                number = 0
                while True:
                    number += 1
                    link.sendall(f"long {connection}:{number}\n".encode("ascii"))
                    time.sleep(0.5)
        except OSError:
            time.sleep(1)


def knock(peer: str, port: int) -> None:
    """A new connection each second."""
    number = 0
    while True:
        number += 1
        try:
            with socket.create_connection((peer, port), timeout=2) as link:
                link.sendall(f"short {number}\n".encode("ascii"))
        except OSError:
            pass
        time.sleep(1)


def main() -> None:
    """Never returns."""
    address, peer, port, seconds = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
    server = Server((address, port), Arrived)
    for work in (server.serve_forever, lambda: hold(peer, port), lambda: knock(peer, port)):
        threading.Thread(target=work, daemon=True).start()
    while True:
        time.sleep(seconds)
        print(f"{SIGN} {time.time():.1f} long={seen['long']} short={seen['short']}", flush=True)


if __name__ == "__main__":
    main()
