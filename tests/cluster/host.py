"""What the machine offers, and what it must not run."""

import os
import shutil
from pathlib import Path
from typing import Optional, Tuple

from .fabric import namespaces_work
from .shell import Failed

PROGRAMS = "corosync pacemakerd pcs crm_mon nft conntrack ip ss nsenter unshare setpriv".split()
DAEMONS = ("corosync", "pacemakerd")


def reason_against() -> Optional[str]:
    """Why no cluster can be set up here, in words; None if it can."""
    if os.geteuid() != 0:
        return "a test cluster needs root, for its network namespaces"
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        return f"a test cluster needs programs that are not installed: {', '.join(missing)}"
    if not namespaces_work():
        return "a test cluster needs network, mount and process namespaces, which this machine does not allow"
    return None


def must_be_free() -> None:
    """Raises Failed beside a corosync or Pacemaker of the machine itself. tests/setup.sh looks before it installs."""
    running = host_daemons()
    if running:
        raise Failed(f"{running} runs on this machine: no test cluster beside it")


def host_daemons() -> str:
    """The cluster daemons in this machine's own network; those of test clusters are in others."""
    ours = Path("/proc/self/ns/net").stat().st_ino
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            name = (process / "comm").read_text(encoding="utf-8").strip()
            if name in DAEMONS and (process / "ns" / "net").stat().st_ino == ours:
                found.add(name)
        except OSError:
            continue
    return " and ".join(sorted(found))


def with_agents_of(folder: Path) -> Tuple[str, ...]:
    """A prefix for a command that is to find the fence and resource agents of a node's folder."""
    mounts = "".join(
        f'mount -t overlay -o "lowerdir=$0{place}:{place}" overlay {place}; '
        for place in ("/usr/sbin", "/usr/share/fence", "/usr/lib/ocf/resource.d")
    )
    script = f'set -e; {mounts}exec "$@"'
    clean = ("env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/nonexistent", "LC_ALL=C.UTF-8")
    return ("unshare", "--mount", "--propagation", "private", *clean, "bash", "-c", script, str(folder))
