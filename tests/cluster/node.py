"""A node: processes in namespaces of their own, below a pid 1 that can be killed like a power failure."""

import grp
import os
import pwd
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Dict, Optional

from . import names
from .cloud import METADATA, Machine
from .fabric import Fabric
from .shell import LIMIT, Failed, finished, run, wait

INIT = Path(__file__).with_name("node-init")
RESOURCES = Path(__file__).with_name("resources")
FOLDERS = (
    "var/lib/pacemaker/cib",
    "var/lib/pacemaker/pengine",
    "var/lib/pacemaker/blackbox",
    "var/lib/pacemaker/cores",
    "var/lib/corosync",
    "var/lib/pcsd",
    "var/log/pacemaker",
    "var/log/corosync",
    "var/log/crmsh",
    "etc/corosync",
    "usr/sbin",
    "usr/share/fence",
    "usr/lib/ocf/resource.d",
)
DAEMONS = (
    "corosync",
    "pacemakerd",
    *(f"pacemaker-{name}" for name in "based fenced execd attrd schedulerd controld".split()),
)
PRIORITY = -10  # a node has a machine of its own: other tests on this one are not to slow it down
CLEAN = ("env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/run/home", "LC_ALL=C.UTF-8")
"""Environment variables of the caller, such as AWS_CA_BUNDLE, outrank a node's own settings."""


class Node:
    """One node of the cluster."""

    def __init__(self, machine: Machine, folder: Path, fabric: Fabric) -> None:
        self.name = machine.name
        self.machine = machine
        self.folder = folder
        self._fabric = fabric
        self._keeper: Optional[subprocess.Popen[bytes]] = None  # unshare, whose only child is the node's pid 1
        self.first = 0
        """The host's pid of the node's pid 1; 0 while the node is off."""
        self._last = -1

    # Life

    def attach(self) -> None:
        """Gives it its place in the network."""
        self._fabric.add(self.name, *self.machine.addresses, ipv6=self.machine.ipv6, local=(METADATA,))

    def prepare(self, files: Dict[str, str], agent: Path) -> None:
        """A disk as after an installation: these files (path to text), the agent, nothing of an earlier life."""
        shutil.rmtree(self.folder, ignore_errors=True)
        for name in FOLDERS:
            (self.folder / name).mkdir(parents=True)
        self._install(agent)
        shutil.copytree(RESOURCES, self.folder / "usr/lib/ocf/resource.d/bed")
        for name, text in files.items():
            path = self.folder / name
            path.write_text(text, encoding="utf-8")
        self._give_to_pacemaker()

    def _install(self, agent: Path) -> None:
        """As a distribution does: Pacemaker's own user may not be allowed to read the checkout."""
        built, place = agent.parents[1] / "share/fence", self.folder / "usr/share/fence"
        shutil.copytree(built / "aws_vpc_net", place / "aws_vpc_net")
        installed = self.folder / "usr/sbin" / agent.name
        installed.write_text(
            agent.read_text(encoding="utf-8").replace(str(built), "/usr/share/fence"), encoding="utf-8"
        )
        installed.chmod(0o755)

    def _give_to_pacemaker(self) -> None:
        user, group = pwd.getpwnam("hacluster").pw_uid, grp.getgrnam("haclient").gr_gid
        for name in ("var/lib/pacemaker", "var/log/pacemaker"):
            for path in (self.folder / name).rglob("*"):
                os.chown(path, user, group)
                path.chmod(0o750 if path.is_dir() else 0o600)
            os.chown(self.folder / "var/log/pacemaker", user, group)

    def boot(self, members: int = 1) -> None:
        """Starts it; Pacemaker when corosync has so many members. It ends with this process, however that ends."""
        space = names.NETNS / self._fabric.namespace(self.name)
        wait(f"{self.name} is off", self.is_gone, 20, 0.02)
        # With the power all is lost that the kernel still had to send; here the network namespace outlives the node.
        self._fabric.inside(space.name, "ss", "-K", "-t", "exclude", "listening", check=False)
        self._keeper = subprocess.Popen(
            [
                *("nice", "-n", str(PRIORITY), "setpriv", "--pdeathsig", "KILL", "nsenter", f"--net={space}"),
                *("unshare", "--mount", "--propagation", "private", "--uts", "--ipc", "--pid", "--fork"),
                *("--kill-child", "--mount-proc", *CLEAN),
                *("bash", str(INIT), self.name, str(self.folder), str(members)),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
        )
        self.first = wait(f"{self.name} has a pid 1", self._child, 10, 0.02)
        for number in range(len(self.machine.addresses)):
            self._fabric.set_link(self.name, number, True)

    def _child(self) -> int:
        assert self._keeper is not None
        if self._keeper.poll() is not None:
            raise Failed(f"{self.name} does not start: exit code {self._keeper.returncode}")
        pid = self._keeper.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
        return int(children[0]) if children else 0

    def power_off(self) -> None:
        """A power failure: all its processes end at once, and its links go down."""
        if self._keeper is None:
            return
        for number in range(len(self.machine.addresses)):
            self._fabric.set_link(self.name, number, False)
        self._keeper.kill()
        self._keeper.wait()
        self._keeper, self.first, self._last = None, 0, self.first

    def is_gone(self) -> bool:
        """Whether nothing of its last life is left; the kernel takes a second or two to clear its namespaces."""
        return not Path(f"/proc/{self._last}").exists()

    @property
    def running(self) -> bool:
        """Whether it has power."""
        return self._keeper is not None

    # Inside

    def command(self, *command: str, limit: float = LIMIT, check: bool = True) -> str:
        """Runs a command on the node and returns its output."""
        return run(*self._entered(limit), *command, limit=limit + 5, check=check)

    def result(
        self, *command: str, limit: float = LIMIT, stdin: Optional[str] = None
    ) -> "subprocess.CompletedProcess[str]":
        """Runs a command on the node, however it ends."""
        return finished([*self._entered(limit), *command], limit + 5, stdin)

    def start(self, *command: str, limit: float = LIMIT) -> "subprocess.Popen[str]":
        """A command on the node, running."""
        pipe = subprocess.PIPE
        return subprocess.Popen(
            [*self._entered(limit), *command], stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True
        )

    def _entered(self, limit: float) -> "tuple[str, ...]":
        if not self.first:
            raise Failed(f"{self.name} is off")
        enter = ("nsenter", "-t", str(self.first), "-m", "-u", "-i", "-n", "-p", "-r", "-w", "--")
        return (*enter, *CLEAN, "timeout", "-k", "1", str(limit))

    def kill(self, program: str) -> None:
        """kill -9 of the node's processes of this name."""
        for pid in self.pids(program):
            os.kill(pid, signal.SIGKILL)

    def hang(self) -> None:
        """Stops the cluster daemons where they stand; all else on the node goes on."""
        for program in DAEMONS:
            for pid in self.pids(program):
                os.kill(pid, signal.SIGSTOP)

    def pids(self, program: str) -> "list[int]":
        """The host's pids of the node's processes of this name."""
        found = []
        for pid in names.processes_in(self._fabric.namespace(self.name)):
            try:
                name = Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip()
            except OSError:
                continue
            if name == program[:15]:
                found.append(pid)
        return found

    def log(self, name: str = "pacemaker/pacemaker.log") -> str:
        """A log of the node, from its first boot."""
        path = self.folder / "var/log" / name
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
