"""Output to stderr, stdout, syslog and log files that never blocks an operation.

A pipe without a reader fills up, and a disk can hang; a write to them then blocks forever. So one thread writes to
each, and the process waits for it only briefly at its exit.
"""

from __future__ import annotations

import logging
import os
import select
import stat
import threading
import time
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, ClassVar, List, Optional, TextIO

STILL_SECONDS = 0.5  # the wait without progress after which the process exits
MOST_SECONDS = 1.0  # for all that is written at exit, however slow the readers are
OPEN_SECONDS = 1.0
PIECE = select.PIPE_BUF  # a pipe that is writable takes so many bytes at once

NO_THREAD = (RuntimeError, MemoryError)  # what Python raises where no thread can be started


class StreamWriter(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes a line that is formatted already, at once and with next to no memory; a failure is the caller's."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write the line, and wait until it is taken."""
        data = f"{record.msg}\n".encode(errors="backslashreplace")
        descriptor = self.stream.fileno()
        while data:
            data = data[os.write(descriptor, data) :]


class BackgroundHandler(logging.Handler):
    """Passes log records to a handler in its own thread, so that a hanging handler blocks nothing."""

    _all: ClassVar[List[BackgroundHandler]] = []

    def __init__(self, handler: logging.Handler) -> None:
        super().__init__()
        self._handler = handler
        self._records: SimpleQueue[Optional[logging.LogRecord]] = SimpleQueue()
        self._thread: Optional[threading.Thread] = None
        self.written = 0
        self._all.append(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Queue the record without waiting. It is formatted here, because its arguments may change."""
        try:
            text = self.format(record)
        except Exception:  # noqa: BLE001 - as every handler: a line that cannot be made ends no operation
            self.handleError(record)
            return
        self.put(text, record.levelno)

    def put(self, text: str, level: int) -> None:
        """Write a line, after those before it. Where no thread can be started, it waits for one, or for the exit."""
        self._records.put(logging.LogRecord("", level, "", 0, text, None, None))
        if self._thread is None:
            with suppress(*NO_THREAD):
                thread = threading.Thread(target=self._work, daemon=True)
                thread.start()
                self._thread = thread

    def _work(self) -> None:
        for record in iter(self._records.get, None):
            try:
                self._handler.emit(record)  # without its lock, which others may wait for
            except MemoryError:
                self._records.put(record)  # for whoever ends the process, and has some left
                return
            except Exception:  # noqa: BLE001 - any error: no operation fails because of its log
                pass
            self.written += 1

    def finish(self, ends: float) -> None:
        """Wait until all is written, at the latest until then, and not where nothing is being written."""
        self._records.put(None)
        if self._thread is not None and self._taken(ends):
            return
        self._write_what_fits()

    def _taken(self, ends: float) -> bool:
        """Has the thread written all? It may wait for a reader, or be gone where memory is short."""
        assert self._thread is not None
        last, since = self.written, time.monotonic()
        while self._thread.is_alive():
            now = time.monotonic()
            if self.written != last:
                last, since = self.written, now
            if now >= ends or now >= since + STILL_SECONDS:
                return False
            self._thread.join(0.05)
        return self._records.empty()

    def _write_what_fits(self) -> None:
        """Where no thread writes, or it is stuck: only what is taken at once."""
        if not isinstance(self._handler, StreamWriter):
            return
        with suppress(Exception):
            while takes(self._handler.stream.fileno()):
                record = self._records.get_nowait()  # the thread may have taken it
                if record:
                    record.msg = str(record.msg)[: PIECE - 1]
                    self._handler.emit(record)

    @classmethod
    def drain(cls) -> None:
        """Before the process exits: wait until all is written, but not for long."""
        ends = time.monotonic() + MOST_SECONDS
        for one in cls._all:
            one.finish(ends)


def takes(descriptor: int) -> bool:
    """Can something be written there without waiting?"""
    return bool(select.select([], [descriptor], [], 0)[1])


def say_last(text: str) -> None:
    """Write a last line on stderr, after those that are on their way, if it takes it."""
    for one in BackgroundHandler._all:
        if one.name == "stderr" and one._thread is not None:
            one.put(text, logging.ERROR)
            one.finish(time.monotonic() + STILL_SECONDS)
            return
    if takes(2):
        os.write(2, f"{text}\n".encode(errors="backslashreplace")[:PIECE])


def write_answer(stream: Optional[TextIO], text: str) -> Optional[threading.Thread]:
    """Write the answer to stdout, in a thread to join; None if it was written, or has no reader."""

    def write() -> None:
        with suppress(OSError, ValueError, AttributeError):  # closed, or never open
            if stream is not None:
                stream.write(text)
                stream.flush()

    with suppress(*NO_THREAD):
        thread = threading.Thread(target=write, daemon=True)
        thread.start()
        return thread
    if stream is not None and takes(stream.fileno()):
        write()
    return None


def open_log(path: str) -> logging.Handler:
    """A handler that appends to a file that only its owner may read.

    What follows a link could write into a file that others need: no links, neither symbolic nor hard.

    Raises:
        OSError: it cannot be written, or is a link.
    """
    from .deadline import call_with_timeout

    try:
        done, result = call_with_timeout(lambda: _open(path), OPEN_SECONDS)
    except NO_THREAD as error:
        raise OSError(f"no thread to open it: {error}") from error
    if not done:
        raise OSError("its file system is too slow")
    if isinstance(result, BaseException):
        raise result
    return BackgroundHandler(StreamWriter(result))


def _open(path: str) -> Any:
    if os.path.islink(path):
        raise OSError("it is a symbolic link")
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_NOCTTY
    descriptor = os.open(path, flags, 0o600)  # a pipe without a reader is refused
    try:
        status = os.fstat(descriptor)
        if stat.S_ISREG(status.st_mode):
            if status.st_nlink > 1:
                raise OSError("it is a hard link: the file has another name")
            os.fchmod(descriptor, 0o600)
        os.set_blocking(descriptor, True)
        return os.fdopen(descriptor, "a", encoding="utf-8", errors="backslashreplace")
    except BaseException:
        os.close(descriptor)
        raise
