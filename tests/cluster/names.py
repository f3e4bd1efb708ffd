"""Names that no other run has, and what is left of runs that were killed."""

import contextlib
import os
import re
import shutil
from pathlib import Path
from typing import Iterator, List

from .shell import run

_itself = re.compile(r"fence-bed-(\d+)-(\d+)(?:-|$)")
_count = iter(range(1000))
NETNS = Path("/run/netns")


def new_prefix() -> str:
    """fence-bed-<pid>-<number>: before every name of this bed."""
    return f"fence-bed-{os.getpid()}-{next(_count)}"


def namespaces(prefix: str) -> List[str]:
    """The network namespaces of a bed that exist."""
    found = NETNS.iterdir() if NETNS.is_dir() else ()
    return sorted(p.name for p in found if p.name.startswith(prefix + "-"))


def processes_in(namespace: str) -> List[int]:
    """The processes whose network is this namespace."""
    found: List[int] = []
    try:
        wanted = (NETNS / namespace).stat().st_ino
    except FileNotFoundError:
        return found
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (process / "ns" / "net").stat().st_ino == wanted:
                found.append(int(process.name))
    return found


def remove(prefix: str) -> None:
    """Ends what still runs in the namespaces of a bed, and deletes them."""
    for namespace in namespaces(prefix):
        for pid in processes_in(namespace):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)
        run("ip", "netns", "delete", namespace, check=False)  # its own run may be at it too


def remove_leftovers(folder: Path) -> None:
    """What beds left whose process is no longer there: namespaces, and folders below `folder`."""
    for prefix in sorted(set(_abandoned(folder))):
        remove(prefix)
        shutil.rmtree(folder / prefix, ignore_errors=True)


def _abandoned(folder: Path) -> Iterator[str]:
    for place in (NETNS, folder):
        for path in place.iterdir() if place.is_dir() else ():
            match = _itself.match(path.name)
            if match and not Path("/proc", match[1]).exists():
                yield match[0].rstrip("-")
