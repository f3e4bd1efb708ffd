"""Requirements on the machine that runs the tests."""

import os
import re
import shutil
from pathlib import Path
from typing import Optional, Tuple

from .fabric import namespaces_work
from .shell import Failed, run

PROGRAMS = "corosync pacemakerd pcs crm_mon nft conntrack ip ss nsenter unshare setpriv".split()
DAEMONS = ("corosync", "pacemakerd")


def reason_against() -> Optional[str]:
    """Why no cluster can be set up on this machine; None if it can."""
    if os.geteuid() != 0:
        return "a test cluster needs root, for its network namespaces"
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        return f"a test cluster needs programs that are not installed: {', '.join(missing)}"
    if not namespaces_work():
        return "a test cluster needs network, mount and process namespaces, which this machine does not allow"
    return None


def pacemaker() -> Tuple[int, ...]:
    """Its version."""
    found = re.search(r"(\d+)\.(\d+)\.(\d+)", run("pacemakerd", "--version"))
    if found is None:
        raise Failed("pacemakerd tells no version")
    return tuple(map(int, found.groups()))


def fencing_property(name: str) -> str:
    """A property: stonith-… up to Pacemaker 3.0.1, then fencing-…. Tools warn of the old name, or refuse the new."""
    return f"{'fencing' if pacemaker() >= (3, 0, 2) else 'stonith'}-{name}"


def must_be_free() -> None:
    """Raises Failed if the machine itself runs corosync or Pacemaker. tests/setup.sh checks before it installs."""
    running = host_daemons()
    if running:
        raise Failed(f"{running} runs on this machine: a test cluster must not run beside it")


def host_daemons() -> str:
    """The cluster daemons in this machine's own network namespace; those of test clusters are in others."""
    ours = Path("/proc/self/ns/net").stat().st_ino
    daemons = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            name = (process / "comm").read_text(encoding="utf-8").strip()
            if name in DAEMONS and (process / "ns" / "net").stat().st_ino == ours:
                daemons.add(name)
        except OSError:
            continue
    return " and ".join(sorted(daemons))


def with_agents_of(folder: Path) -> Tuple[str, ...]:
    """A command prefix with which the fence and resource agents of a node's folder are found."""
    mounts = "".join(
        f'mount -t overlay -o "lowerdir=$0{place}:{place}" overlay {place}; '
        for place in ("/usr/sbin", "/usr/share/fence", "/usr/lib/ocf/resource.d")
    )
    script = f'set -e; {mounts}exec "$@"'
    clean = ("env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/nonexistent", "LC_ALL=C.UTF-8")
    return ("unshare", "--mount", "--propagation", "private", *clean, "bash", "-c", script, str(folder))
