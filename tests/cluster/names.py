"""Unique names, and the removal of what killed runs left."""

import contextlib
import os
import re
import shutil
from pathlib import Path
from typing import Iterator, List

from .shell import run

_PREFIX = re.compile(r"fence-bed-(\d+)-(\d+)(?:-|$)")
_count = iter(range(1000))
NETNS = Path("/run/netns")


def new_prefix() -> str:
    """fence-bed-<pid>-<number>: the prefix of all names of one bed."""
    return f"fence-bed-{os.getpid()}-{next(_count)}"


def namespaces(prefix: str) -> List[str]:
    """The existing network namespaces of a bed."""
    paths = NETNS.iterdir() if NETNS.is_dir() else ()
    return sorted(p.name for p in paths if p.name.startswith(prefix + "-"))


def processes_in(namespace: str) -> List[int]:
    """The processes in a network namespace."""
    pids: List[int] = []
    try:
        wanted = (NETNS / namespace).stat().st_ino
    except FileNotFoundError:
        return pids
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (process / "ns" / "net").stat().st_ino == wanted:
                pids.append(int(process.name))
    return pids


def remove(prefix: str) -> None:
    """Kills all processes in the namespaces of a bed, and deletes the namespaces."""
    for namespace in namespaces(prefix):
        for pid in processes_in(namespace):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)
        run("ip", "netns", "delete", namespace, check=False)  # the run itself may delete it at the same time


def remove_leftovers(folder: Path) -> None:
    """Removes the namespaces and the folders below `folder` of beds whose process has ended."""
    for prefix in sorted(set(_abandoned(folder))):
        remove(prefix)
        shutil.rmtree(folder / prefix, ignore_errors=True)


def _abandoned(folder: Path) -> Iterator[str]:
    for place in (NETNS, folder):
        for path in place.iterdir() if place.is_dir() else ():
            match = _PREFIX.match(path.name)
            if match and not Path("/proc", match[1]).exists():
                yield match[0].rstrip("-")
