"""A TCP port of an address of this machine, as a node has one: it accepts, refuses, or is silent."""

import socket
from typing import List, Optional


class Port:
    """At first a connection is refused (RST).

    Silence is a listener whose queue is full: the kernel drops what else arrives, as a security group does.
    """

    def __init__(self, address: str, number: int = 0) -> None:
        self.address = address
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._socket = socket.socket(family)
        self._socket.bind((address, number))
        self.number: int = self._socket.getsockname()[1]
        self._own: Optional[socket.socket] = None

    def accept(self) -> None:
        """From now on connections come about."""
        self._socket.listen(64)

    def mute(self) -> None:
        """From now on nothing answers."""
        if self._own is None:
            self._socket.listen(64)
            self._own = socket.create_connection((self.address, self.number), 5)
        self._socket.listen(0)

    def end_next(self) -> None:
        """Accept the next connection, and end it."""
        self._socket.settimeout(50)
        self._socket.accept()[0].close()

    def has_next(self) -> bool:
        """Has somebody connected?"""
        self._socket.settimeout(0)
        try:
            self._socket.accept()[0].close()
        except BlockingIOError:
            return False
        return True

    def next_was_reset(self) -> bool:
        """Did whoever connected leave nothing of it behind?"""
        self._socket.settimeout(50)
        accepted = self._socket.accept()[0]
        accepted.settimeout(50)
        try:
            return accepted.recv(1) == b"never"
        except ConnectionResetError:
            return True

    def close(self) -> None:
        """It is refused again."""
        self._socket.close()
        if self._own is not None:
            self._own.close()

    def __enter__(self) -> "Port":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_ports(first: str, *others: str) -> List[Port]:
    """Ports of the same number, which each address has free."""
    while True:
        opened = [Port(first)]
        try:
            opened += [Port(address, opened[0].number) for address in others]
        except OSError:
            for port in opened:
                port.close()
            continue
        return opened
