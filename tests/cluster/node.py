"""A node: processes in their own namespaces, with a process 1. Killing that is a power failure."""

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
PRIORITY = -10  # a real node has its own machine, so other tests on this one should not slow it down
CLEAN = ("env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/run/home", "LC_ALL=C.UTF-8")
"""Variables of the caller, such as AWS_CA_BUNDLE, would take precedence over the node's settings."""


class Node:
    """One node of the cluster."""

    def __init__(self, machine: Machine, folder: Path, fabric: Fabric) -> None:
        self.name = machine.name
        self.machine = machine
        self.folder = folder
        self._fabric = fabric
        self._unshare: Optional[subprocess.Popen[bytes]] = None  # its only child is the node's process 1
        self.init_pid = 0
        """The process ID, on this machine, of the node's process 1; 0 while the node is off."""
        self._previous_init_pid = -1

    # Start and stop

    def attach(self) -> None:
        """Connects the node to the network."""
        self._fabric.add(self.name, *self.machine.addresses, ipv6=self.machine.ipv6, local=(METADATA,))

    def prepare(self, files: Dict[str, str], agent: Path) -> None:
        """Creates the node's files as after an installation: these (text by path), and the agent."""
        shutil.rmtree(self.folder, ignore_errors=True)
        for name in FOLDERS:
            (self.folder / name).mkdir(parents=True)
        self._install(agent)
        shutil.copytree(RESOURCES, self.folder / "usr/lib/ocf/resource.d/bed")
        for name, text in files.items():
            path = self.folder / name
            path.write_text(text, encoding="utf-8")
        self._chown_to_pacemaker()

    def _install(self, agent: Path) -> None:
        """Installs the agent like a distribution: Pacemaker's user may have no access to the checkout."""
        built, place = agent.parents[1] / "share/fence", self.folder / "usr/share/fence"
        shutil.copytree(built / "aws_vpc_net", place / "aws_vpc_net")
        installed = self.folder / "usr/sbin" / agent.name
        installed.write_text(
            agent.read_text(encoding="utf-8").replace(str(built), "/usr/share/fence"), encoding="utf-8"
        )
        installed.chmod(0o755)

    def _chown_to_pacemaker(self) -> None:
        user, group = pwd.getpwnam("hacluster").pw_uid, grp.getgrnam("haclient").gr_gid
        for name in ("var/lib/pacemaker", "var/log/pacemaker"):
            for path in (self.folder / name).rglob("*"):
                os.chown(path, user, group)
                path.chmod(0o750 if path.is_dir() else 0o600)
            os.chown(self.folder / "var/log/pacemaker", user, group)

    def boot(self, members: int = 1) -> None:
        """Starts the node, and Pacemaker when corosync has so many members (0: neither). Ends with this process."""
        space = names.NETNS / self._fabric.namespace(self.name)
        wait(f"{self.name} is off", self.is_gone, 20, 0.02)
        # A power failure loses the data in the kernel's send buffers. Here, the network namespace outlives the node.
        self._fabric.inside(space.name, "ss", "-K", "-t", "exclude", "listening", check=False)
        self._unshare = subprocess.Popen(
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
        self.init_pid = wait(f"{self.name} has a process 1", self._child, 10, 0.02)
        for number in range(len(self.machine.addresses)):
            self._fabric.set_link(self.name, number, True)

    def _child(self) -> int:
        assert self._unshare is not None
        if self._unshare.poll() is not None:
            raise Failed(f"{self.name} does not start: exit code {self._unshare.returncode}")
        pid = self._unshare.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
        return int(children[0]) if children else 0

    def power_off(self) -> None:
        """A power failure: kills all processes, and sets the links down."""
        if self._unshare is None:
            return
        for number in range(len(self.machine.addresses)):
            self._fabric.set_link(self.name, number, False)
        self._unshare.kill()
        self._unshare.wait()
        self._unshare, self.init_pid, self._previous_init_pid = None, 0, self.init_pid

    def is_gone(self) -> bool:
        """Whether its previous process 1 has ended; the kernel needs a second or two to remove the namespaces."""
        return not Path(f"/proc/{self._previous_init_pid}").exists()

    @property
    def running(self) -> bool:
        """Whether it is on."""
        return self._unshare is not None

    # Commands

    def command(self, *command: str, limit: float = LIMIT, check: bool = True) -> str:
        """Runs a command on the node and returns its output."""
        return run(*self._entered(limit), *command, limit=limit + 5, check=check)

    def result(
        self, *command: str, limit: float = LIMIT, stdin: Optional[str] = None
    ) -> "subprocess.CompletedProcess[str]":
        """Runs a command on the node, whatever its exit code."""
        return finished([*self._entered(limit), *command], limit + 5, stdin)

    def start(self, *command: str, limit: float = LIMIT) -> "subprocess.Popen[str]":
        """Starts a command on the node."""
        pipe = subprocess.PIPE
        return subprocess.Popen(
            [*self._entered(limit), *command], stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True
        )

    def _entered(self, limit: float) -> "tuple[str, ...]":
        if not self.init_pid:
            raise Failed(f"{self.name} is off")
        enter = ("nsenter", "-t", str(self.init_pid), "-m", "-u", "-i", "-n", "-p", "-r", "-w", "--")
        return (*enter, *CLEAN, "timeout", "-k", "1", str(limit))

    def kill(self, program: str) -> None:
        """Kills the node's processes of this name, by SIGKILL."""
        for pid in self.pids(program):
            os.kill(pid, signal.SIGKILL)

    def hang(self) -> None:
        """Stops the cluster daemons by SIGSTOP; all other processes continue."""
        for program in DAEMONS:
            for pid in self.pids(program):
                os.kill(pid, signal.SIGSTOP)

    def pids(self, program: str) -> "list[int]":
        """The process IDs, on this machine, of the node's processes of this name."""
        pids = []
        for pid in names.processes_in(self._fabric.namespace(self.name)):
            try:
                name = Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip()
            except OSError:
                continue
            if name == program[:15]:
                pids.append(pid)
        return pids

    def log(self, name: str = "pacemaker/pacemaker.log") -> str:
        """A log of the node since its files were created."""
        path = self.folder / "var/log" / name
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
