"""Metrics of operations, as a file for the textfile collector of node_exporter (Prometheus).

Counters add up over runs: each run reads the file, adds its counts, and replaces it, under a lock. Metrics must not
disturb fencing: the file is small, the waits are short, and every error is a warning. A file of another program is
not changed. The file is not synced to disk: a crash costs only counts, and a sync can take seconds. Alerts use
timestamps, because a counter that first appears with 1 shows no increase. There are only counters and gauges, because
a node fences too rarely for a distribution.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import math
import os
import re
import stat
import time
from dataclasses import dataclass, field, replace
from typing import Dict, Iterator, Mapping, NamedTuple, Optional, Tuple

from . import messages
from .deadline import call_with_timeout
from .ec2 import Stats
from .errors import Category
from .logs import hide
from .outputs import NO_THREAD

PREFIX = "fence_aws_vpc_net_"
MARK = "# Written by fence_aws_vpc_net, whose counters add up over runs. Delete it to begin anew.\n"
LOCK_SECONDS = 1.0
WHOLE_SECONDS = 1.5
REASONS = {errno.ELOOP: "it or its lock is a symbolic link", errno.EAGAIN: "another run holds its lock"}
LARGEST = 1 << 18  # bytes of a file that is read
MOST_CODES = 100  # kinds of API errors; the others are counted together
MOST_NODES = 50  # nodes that were fenced or restored; the oldest are dropped
MOST_VALUE = 1e15

ACTIONS = ("off", "on", "status", "monitor", "list", "list-status")
RESULTS = ("ok", "off", "failed", "refused")
TAG_CALLS = {"CreateTags": "write", "DeleteTags": "delete"}
GROUP_CALL = "ModifyNetworkInterfaceAttribute"
NODE_ACTIONS = ("off", "on")
RETURN_RESULTS = ("ok", "failed", "stays_stopped")  # of auto_unfence
NODE_TIME = "node_last_operation_timestamp_seconds"
RESOLVED = "resolved"  # the result for a name: its operation is ok, and counted for the instance that it means

Labels = Tuple[str, ...]
Samples = Dict[Tuple[str, Labels], float]  # (name of the family, values of its labels) -> value


class Family(NamedTuple):
    """A metric: a counter or a gauge."""

    kind: str
    labels: Labels
    help: str


FAMILIES: Mapping[str, Family] = {
    "operations_total": Family("counter", ("action", "result"), "Operations; off is the result of a status."),
    "operation_failures_total": Family("counter", ("action", "category"), "Operations failed or refused, by error."),
    "tag_operations_total": Family("counter", ("operation", "result"), "Attempts to write or delete tags."),
    "security_group_changes_total": Family("counter", ("result",), "Attempts to set an interface's groups."),
    "api_calls_total": Family("counter", ("call",), "Attempts at a call of the EC2 API."),
    "api_call_seconds_total": Family("counter", ("call",), "Time that attempts at a call took."),
    "api_errors_total": Family("counter", ("call", "code"), "Failed attempts at a call, by EC2's or the SDK's code."),
    "last_api_error_timestamp_seconds": Family("gauge", ("call", "code"), "When a call last failed with this code."),
    "api_retries_total": Family("counter", (), "Attempts at a call that were repeated."),
    "api_throttles_total": Family("counter", (), "Attempts at a call that EC2 throttled."),
    "auto_unfence_total": Family("counter", ("result",), "Stopped instances that monitor brought back, or did not."),
    "tags_written_total": Family("counter", (), "Tags written."),
    "backup_chunks_total": Family("counter", (), "Chunks of backups written, each a tag."),
    "tag_characters_total": Family("counter", (), "Length of the values of tags written; EC2 allows 256 each."),
    "last_operation_timestamp_seconds": Family("gauge", ("action",), "When the last operation ended."),
    "last_success_timestamp_seconds": Family("gauge", ("action",), "When the last operation that succeeded ended."),
    "last_failure_timestamp_seconds": Family("gauge", ("action",), "When the last operation that failed ended."),
    "last_operation_success": Family("gauge", ("action",), "Did the last operation succeed?"),
    "last_operation_duration_seconds": Family("gauge", ("action",), "How long the last operation took."),
    "last_operation_api_calls": Family("gauge", ("action",), "Attempts at calls of the last operation."),
    "last_operation_slowest_call_seconds": Family("gauge", ("action",), "The slowest attempt of the last operation."),
    "last_operation_interfaces_changed": Family("gauge", ("action",), "Changes of groups by the last operation."),
    "node_last_operation_timestamp_seconds": Family(
        "gauge", ("action", "plug", "result"), "When an off or on of an instance last ended with this result."
    ),
    "network_seconds": Family(
        "gauge", (), "From the latest change of groups to the silence of the node, by the last off that saw it."
    ),
    "info": Family("gauge", ("version",), "The agent's version."),
}
_VALUE = r"[a-zA-Z0-9_.+-]{1,64}"
_LABEL = rf'([a-z]+)="({_VALUE})"'
_LINE = re.compile(rf"{PREFIX}([a-z_]+)(?:\{{({_LABEL}(?:,{_LABEL})*)\}})? (\S{{1,32}})")


@dataclass(frozen=True)
class Run:
    """The data of one operation."""

    action: str
    result: str
    category: Optional[Category]
    seconds: float
    stats: Stats
    version: str
    plugs: Tuple[str, ...] = ()
    names: Tuple[str, ...] = ()  # that were given in place of the plugs' instance IDs
    returns: Mapping[str, str] = field(default_factory=dict)  # by monitor: instance ID -> result


def update(path: str, run: Run, seconds: float) -> Optional[str]:
    """Add an operation to the file, within so many seconds; a warning, if that was not done. Raises nothing."""
    if seconds <= 0:
        return messages.metrics_not_updated(path, "no time left")
    try:
        done, result = call_with_timeout(lambda: _update(path, run), min(seconds, WHOLE_SECONDS))
    except NO_THREAD as error:
        return messages.metrics_not_updated(path, str(error))
    if not done:
        return messages.metrics_not_updated(path, "its file system is too slow")
    if isinstance(result, OSError):
        return messages.metrics_not_updated(path, REASONS.get(result.errno or 0) or result.strerror or str(result))
    if isinstance(result, BaseException):
        return messages.metrics_not_updated(path, f"{type(result).__name__}: {result}")
    dropped: int = result
    return messages.metrics_dropped(path, dropped) if dropped else None


def _update(path: str, run: Run) -> int:
    """The number of lines of the file that could not be read and are gone."""
    folder, name = os.path.split(path)
    with _locked(os.path.join(folder, f".{name}.lock")):
        samples, dropped = parse(_read(path))
        add(samples, run, time.time())
        _replace(path, os.path.join(folder, f".{name}.tmp"), render(samples))
    return dropped


# --- the file --------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _locked(path: str) -> Iterator[None]:
    """Hold the lock, whose file stays: one that is deleted could be held by two."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    descriptor = os.open(path, flags, 0o600)
    try:
        ends = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > ends:
                    raise
                time.sleep(0.02)
        yield
    finally:
        os.close(descriptor)


def _read(path: str) -> str:
    """The text of the file; "" if there is none.

    Raises:
        OSError: it cannot be read.
        ValueError: another program wrote it.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return ""
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("it is not a regular file")
        data = file.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise ValueError("it is too large; delete it")
    if data and not data.startswith(MARK.encode()):
        raise ValueError("it was not written by this agent; delete it or name another")
    return data.decode("utf-8", "replace")


def _replace(path: str, temporary: str, text: str) -> None:
    """Replace the file atomically. A temporary file of a killed run is overwritten."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(temporary, flags, 0o644)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            os.fchmod(descriptor, 0o644)  # node_exporter is another user; the umask does not matter
            file.write(text)
        os.rename(temporary, path)
    except OSError:
        os.unlink(temporary)
        raise


# --- its text (pure) -------------------------------------------------------------------------------------------


def parse(text: str) -> Tuple[Samples, int]:
    """The samples of the file, and the number of invalid lines."""
    samples: Samples = {}
    dropped = 0
    for line in text.splitlines():
        if line and not line.startswith("#"):
            sample = _sample(line)
            if sample:
                samples[sample[0]] = sample[1]
            dropped += not sample
    return samples, dropped


def _sample(line: str) -> Optional[Tuple[Tuple[str, Labels], float]]:
    match = _LINE.fullmatch(line)
    if not match or match[1] not in FAMILIES:
        return None
    pairs = re.findall(_LABEL, match[2] or "")
    if tuple(name for name, _ in pairs) != FAMILIES[match[1]].labels:
        return None
    try:
        value = float(match[match.lastindex or 0])
    except ValueError:
        return None
    good = math.isfinite(value) and 0 <= value <= MOST_VALUE
    return ((match[1], tuple(value for _, value in pairs)), value) if good else None


def add(samples: Samples, run: Run, now: float) -> None:
    """Add an operation that ended now (Unix time) to the samples.

    What is refused for self-fencing is no failure: Pacemaker asks another node.
    """
    if run.category is Category.SELF_FENCING:
        run = replace(run, result="refused")
    _start(samples)
    _count(samples, "operations_total", run.action, run.result)
    if run.category:
        _count(samples, "operation_failures_total", run.action, run.category.value)
    for call, code, seconds in list(run.stats.attempts):
        _attempt(samples, call, code, seconds, now)
    stats = run.stats
    _count(samples, "api_retries_total", by=stats.retries)
    _count(samples, "api_throttles_total", by=stats.throttles)
    _count(samples, "tags_written_total", by=stats.tags_written)
    _count(samples, "backup_chunks_total", by=stats.chunks)
    _count(samples, "tag_characters_total", by=stats.tag_characters)
    _last(samples, run, now)
    for result in run.returns.values():
        _count(samples, "auto_unfence_total", result)
    if run.action in NODE_ACTIONS or run.returns:
        _nodes(samples, run, now)


def _start(samples: Samples) -> None:
    """Counters that alerts look at begin with 0: what begins with 1 shows no increase."""
    for action in ACTIONS:
        for result in RESULTS:
            _count(samples, "operations_total", action, result, by=0)
    for result in RETURN_RESULTS:
        _count(samples, "auto_unfence_total", result, by=0)
    for result in ("ok", "failed"):
        _count(samples, "security_group_changes_total", result, by=0)
        for operation in TAG_CALLS.values():
            _count(samples, "tag_operations_total", operation, result, by=0)


def _attempt(samples: Samples, call: str, code: str, seconds: float, now: float) -> None:
    result = "failed" if code else "ok"
    if call in TAG_CALLS:
        _count(samples, "tag_operations_total", TAG_CALLS[call], result)
    if call == GROUP_CALL:
        _count(samples, "security_group_changes_total", result)
    _count(samples, "api_calls_total", call)
    _count(samples, "api_call_seconds_total", call, by=seconds)
    if code:
        shown = _code(samples, call, code)
        _count(samples, "api_errors_total", call, shown)
        samples["last_api_error_timestamp_seconds", (call, shown)] = now


def _code(samples: Samples, call: str, code: str) -> str:
    """The code; "other" where it is a strange one, or one too many."""
    known = {labels for name, labels in samples if name == "api_errors_total"}
    fits = re.fullmatch(_VALUE, code)
    return code if fits and ((call, code) in known or len(known) < MOST_CODES) else "other"


def _last(samples: Samples, run: Run, now: float) -> None:
    success = run.result in ("ok", "off")
    if run.stats.network_seconds is not None:
        samples["network_seconds", ()] = run.stats.network_seconds
    values = {
        "timestamp_seconds": now,
        "success": float(success),
        "duration_seconds": run.seconds,
        "api_calls": run.stats.api_calls,
        "slowest_call_seconds": max((seconds for _, _, seconds in list(run.stats.attempts)), default=0.0),
        "interfaces_changed": run.stats.interfaces_changed,
    }
    for name, value in values.items():
        samples[f"last_operation_{name}", (run.action,)] = value
    if success:
        samples["last_success_timestamp_seconds", (run.action,)] = now
    if run.result == "failed":
        samples["last_failure_timestamp_seconds", (run.action,)] = now
    for key in [k for k in samples if k[0] == "info"]:
        del samples[key]
    samples["info", (run.version,)] = 1


def _may_be_told(plug: str) -> bool:
    """Is it a plain word, and no secret in the wrong place? All may read the file."""
    return bool(re.fullmatch(_VALUE, plug)) and hide(plug) == plug


def _nodes(samples: Samples, run: Run, now: float) -> None:
    """When each node was fenced or restored, so that alerts can name it.

    A plug that was not resolved may be any text. A failed lookup is counted under the name; if the name is found
    later, the result is counted under the name too. The oldest nodes are dropped. What monitor brings back, or does
    not, is an ``on`` of that node.
    """
    for plug, result in run.returns.items():
        samples[NODE_TIME, ("on", plug, result)] = now
    for plug in run.plugs if run.action in NODE_ACTIONS else ():
        samples[NODE_TIME, (run.action, plug if _may_be_told(plug) else "other", run.result)] = now
    for name in run.names if run.result == "ok" else ():
        if _may_be_told(name):
            samples[NODE_TIME, (run.action, name, RESOLVED)] = now
    newest: Dict[str, float] = {}
    for (family, labels), value in samples.items():
        if family == NODE_TIME:
            newest[labels[1]] = max(value, newest.get(labels[1], 0))
    kept = sorted(newest, key=lambda plug: newest[plug], reverse=True)[:MOST_NODES]
    for key in [k for k in samples if k[0] == NODE_TIME and k[1][1] not in kept]:
        del samples[key]


def _count(samples: Samples, name: str, *labels: str, by: float = 1) -> None:
    samples[name, labels] = samples.get((name, labels), 0) + by


def render(samples: Samples) -> str:
    """The file's text, by family."""
    return MARK + "".join(_rendered(samples))


def _rendered(samples: Samples) -> Iterator[str]:
    for family, (kind, labels, text) in FAMILIES.items():
        own = sorted((values, value) for (name, values), value in samples.items() if name == family)
        if own:
            yield f"# HELP {PREFIX}{family} {text}\n# TYPE {PREFIX}{family} {kind}\n"
        for values, value in own:
            pairs = ",".join(f'{k}="{v}"' for k, v in zip(labels, values))
            shown = str(int(value)) if value == int(value) else repr(round(value, 6))
            yield f"{PREFIX}{family}{f'{{{pairs}}}' if pairs else ''} {shown}\n"
