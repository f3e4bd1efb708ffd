"""Runs the program of ``credential_process`` in a profile, isolated from the agent.

The program has no stdin, and its stderr is discarded, because it may contain a key. It ends with the agent: it stays
in the process group of the agent, which Pacemaker kills, and ``end_all`` ends it when the agent exits.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import threading
from contextlib import suppress
from typing import Any, Callable, Dict, List, Set, Tuple

from . import logs

OUTPUT_LIMIT = 65536  # bytes; credentials are much shorter
ENDED_MILLISECONDS = 50  # how often it is looked whether it has ended
ROUNDS = 10  # looks for processes that were started while others were ended

FIELDS = ("AccessKeyId", "SecretAccessKey", "SessionToken", "Expiration")  # without the first two, the SDK fails

_PR_SET_CHILD_SUBREAPER = 36

_ending = threading.Event()
_unfinished: List[subprocess.Popen[bytes]] = []
_others: Set[int] = set()  # children of this process that no unfinished program has started


class ProcessError(Exception):
    """The program returned no credentials; ``str()`` is the reason."""


def runner(note: Callable[[str], None]) -> Callable[..., Program]:
    """The replacement for ``subprocess.Popen`` in the SDK.

    Args:
        note: called with the name of the program before it runs.
    """

    def run(command: List[str], **_pipes: Any) -> Program:
        path = command[0].split() if command else []  # a command in quotes holds its arguments, which may be secret
        name = f"credential_process {path[0] if path else ''}"
        note(name)
        return Program(name, command)

    return run


class Program:
    """The part of ``subprocess.Popen`` that the SDK uses."""

    def __init__(self, name: str, command: List[str]) -> None:
        self.returncode = 0
        self._name = name
        _adopt_orphans()
        _others.update(_children().get(os.getpid(), ()))
        _others.difference_update(p.pid for p in _unfinished)
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
        except (OSError, ValueError, IndexError) as error:
            raise ProcessError(f"{name} cannot be run: {getattr(error, 'strerror', None) or error}") from error
        _unfinished.append(self._process)

    def communicate(self) -> Tuple[bytes, bytes]:
        """Its stdout, which contains credentials.

        Raises:
            ProcessError: it does not.
        """
        text = self._output()
        if len(text) > OUTPUT_LIMIT:
            raise ProcessError(f"{self._name} prints more than credentials can be")
        code = self._process.wait()
        if _ending.is_set():  # the agent has killed it, and ends: nobody is to hear that it failed
            threading.Event().wait()
        _unfinished.remove(self._process)
        if code:
            how = f"exit code {code}" if code > 0 else f"signal {-code}"
            raise ProcessError(f"{self._name} failed with {how}")
        try:
            given = json.loads(text)
        except ValueError as error:
            raise ProcessError(f"{self._name} does not print JSON") from error
        if not isinstance(given, dict) or given.get("Version") != 1:
            raise ProcessError(f"{self._name} does not print credentials of Version 1")
        bad = [k for k in FIELDS if not _is_sendable(given.get(k, "") if k in FIELDS[:2] else given.get(k) or "")]
        logs.register_secrets(*(v for k in ("SecretAccessKey", "SessionToken") if isinstance(v := given.get(k), str)))
        if bad:  # each SDK fails in another way
            raise ProcessError(f"{self._name} prints a malformed {bad[0]}")
        return text, b""

    def _output(self) -> bytes:
        """Its stdout until it is closed, or holds JSON and the program has ended: a daemon may keep it open."""
        assert self._process.stdout is not None
        descriptor, text = self._process.stdout.fileno(), b""
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        while len(text) <= OUTPUT_LIMIT:
            ended = self._process.poll() is not None  # before: what it wrote last is there then
            if poll.poll(ENDED_MILLISECONDS):
                piece = os.read(descriptor, OUTPUT_LIMIT)
                if not piece:
                    break
                text += piece
            elif ended and _is_json(text):
                break
        return text


def _is_sendable(value: Any) -> bool:
    return isinstance(value, str) and value.isascii() and value.isprintable()


def _is_json(text: bytes) -> bool:
    with suppress(ValueError):
        json.loads(text)
        return True
    return False


def _adopt_orphans() -> None:
    """Make orphaned processes children of the agent, so that ``end_all`` finds them."""
    with suppress(Exception):  # not this C library, or no such function: then only its own children are found
        import ctypes

        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end_all() -> None:
    """Kill every unfinished program and its descendants. Daemons of a finished program keep running."""
    if not _unfinished:
        return
    _ending.set()
    killed: Set[int] = set()
    for _ in range(ROUNDS):
        found = _descendants(os.getpid()) - killed
        if not found:
            break
        for number in found:
            with suppress(OSError):  # it has ended
                os.kill(number, signal.SIGKILL)
        killed |= found
    for process in list(_unfinished):  # where there is no /proc
        with suppress(OSError):
            process.kill()


def _children() -> Dict[int, List[int]]:
    """The children of each process, from /proc, including zombies. Only ``stat`` is read, because it never blocks."""
    children: Dict[int, List[int]] = {}
    for name in os.listdir("/proc") if os.path.isdir("/proc") else ():
        if name.isdigit():
            with suppress(OSError, ValueError, IndexError):  # it has ended
                with open(f"/proc/{name}/stat", "rb") as file:
                    parent = int(file.read().rpartition(b")")[2].split()[1])
                children.setdefault(parent, []).append(int(name))
    return children


def _descendants(ancestor: int) -> Set[int]:
    """The descendants of a process, without those that existed before a program was started."""
    children = _children()
    found: Set[int] = set()
    todo = [ancestor]
    while todo:
        for child in children.get(todo.pop(), []):
            if child not in found and child not in _others:
                found.add(child)
                todo.append(child)
    return found
