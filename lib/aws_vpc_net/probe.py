"""Attempts to connect to the addresses of an instance, on sockets that wait for nothing.

No attempt takes time or raises anything: what the system refuses is IMPOSSIBLE. All sockets are closed by a reset, so
that nothing of them is left on either side, even if the process is killed.
"""

from __future__ import annotations

import errno
import logging
import resource
import select
import socket
import struct
from typing import Dict, Iterable, List, Mapping, Optional, Tuple

from .core.probing import Answer, Standing

log = logging.getLogger(__name__)

ATTEMPTS = 2  # of one address at a time: an answer to the one before the latest counts as well
KEEPALIVE_SECONDS = 1
DEAD_PROBES = 2  # so many keepalives without an answer in a row
PENDING = (0, errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EINTR)
REFUSED = (errno.ECONNREFUSED, errno.ECONNRESET)  # by the other side
UNANSWERED = (errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH)  # how the system ends a connection itself
ESTABLISHED = 1  # the state in TCP_INFO


class Prober:
    """The attempts to connect to one port of the addresses of one instance, and connections that are kept."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._attempts: Dict[str, List[socket.socket]] = {}
        self._at_once: Dict[str, Answer] = {}  # what the latest attempt came to without a wait
        self._standing: Dict[str, socket.socket] = {}
        self._ended: Dict[str, Standing] = {}

    def connect(self, addresses: Iterable[str]) -> None:
        """Begin one attempt to connect to each address. Of the earlier ones, the one before stays."""
        chosen = list(addresses)
        for address in [*self._attempts]:
            most = ATTEMPTS - 1 if address in chosen else 0
            while len(self._attempts[address]) > most:
                _close(self._attempts[address].pop(0))
        self._at_once = {}
        for address in chosen:
            self._begin(address)

    def _begin(self, address: str) -> None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        sock: Optional[socket.socket] = None
        try:
            socket.inet_pton(family, address)  # else it would be looked up as a name
            sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
            if sock.fileno() >= _most_sockets():
                raise OSError(errno.EMFILE, "too many sockets")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            code = sock.connect_ex((address, self._port))
        except (OSError, ValueError) as error:
            code = getattr(error, "errno", None) or errno.EINVAL
        if sock is not None and code in PENDING:
            self._attempts.setdefault(address, []).append(sock)
            return
        if sock is not None:
            _close(sock)
        self._at_once[address] = _meaning(code)

    def check(
        self, addresses: Iterable[str], keep: Iterable[str] = ()
    ) -> Tuple[Mapping[str, Answer], Mapping[str, Standing]]:
        """What has answered since it was looked last; and how the connections are that are kept.

        Args:
            keep: of these addresses a connection that has come about is kept.
        """
        kept = set(keep)
        answers = {a: self._answer(a, a in kept) for a in addresses}
        return answers, {a: self._state(a) for a in [*self._standing, *self._ended]}

    def _answer(self, address: str, keep: bool) -> Answer:
        """An answer to any of the attempts that are under way; else what the latest came to."""
        answer = self._at_once.pop(address, None)
        answered, latest = answer is Answer.ANSWERED, answer
        for sock in [*self._attempts.get(address, ())]:
            code = _error(sock)
            if code is not None:
                self._attempts[address].remove(sock)
                if code == 0 and keep and address not in self._standing and _keep_alive(sock):
                    self._standing[address] = sock
                else:
                    _close(sock)
            found = Answer.SILENT if code is None else _meaning(code)
            answered = answered or found is Answer.ANSWERED
            latest = found if answer is None else answer
        return Answer.ANSWERED if answered else latest or Answer.IMPOSSIBLE

    def _state(self, address: str) -> Standing:
        """How the connection is. One that has ended stays so."""
        if address in self._ended:
            return self._ended[address]
        sock = self._standing[address]
        try:
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            state, _, _, probes = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 4)
        except (OSError, ValueError) as error:
            log.debug("%s", error)
            code, state, probes = errno.EINVAL, 0, 0
        if code == 0 and state == ESTABLISHED:
            return Standing.DEAD if probes >= DEAD_PROBES else Standing.ALIVE
        _close(self._standing.pop(address))
        self._ended[address] = Standing.DEAD if code in UNANSWERED else Standing.ENDED
        return self._ended[address]

    def close(self) -> None:
        """Close all sockets."""
        for sock in [*(s for attempts in self._attempts.values() for s in attempts), *self._standing.values()]:
            _close(sock)
        self._attempts, self._standing = {}, {}


def local_address(address: str) -> Optional[str]:
    """The address from which this machine sends to another one; None without a route. Nothing is sent."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        socket.inet_pton(family, address)  # else it would be looked up as a name
        with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            sock.connect((address, 9))  # any port
            return str(sock.getsockname()[0])
    except (OSError, ValueError) as error:
        log.debug("the way to %s: %s", address, error)
        return None


def _most_sockets() -> int:
    """The number of a descriptor that is too high: calls of the API need some too."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return soft // 2 if soft > 0 else 1 << 16


def _error(sock: socket.socket) -> Optional[int]:
    """How an attempt has ended, 0 for a connection; None if it has not. It can be asked once."""
    try:
        poll = select.poll()
        poll.register(sock, select.POLLOUT)
        return sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) if poll.poll(0) else None
    except (OSError, ValueError) as error:
        return getattr(error, "errno", None) or errno.EINVAL


def _meaning(code: int) -> Answer:
    """Of the error with which an attempt has ended."""
    if code in (0, *REFUSED):
        return Answer.ANSWERED
    log.debug("an attempt to connect: %s", errno.errorcode.get(code, code))
    return Answer.SILENT if code == errno.ETIMEDOUT else Answer.IMPOSSIBLE


def _keep_alive(sock: socket.socket) -> bool:
    """Let the system ask every second whether the other side is there; False if it does not."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_SECONDS)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_SECONDS)
    except OSError as error:
        log.debug("%s", error)
        return False
    return True


def _close(sock: socket.socket) -> None:
    try:
        sock.close()
    except OSError as error:
        log.debug("%s", error)
