"""The whole test cluster with its AWS: set-up, removal, and recovery."""

import contextlib
import os
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import Collection, Dict, List, Optional, Sequence

from ec2.imds import Imds
from ec2.server import Ec2Server

from . import config, host, names
from .cloud import API, API_PORT, STORAGE, STORAGE6, STORAGE_PORT, Cloud
from .dataplane import DataPlane
from .fabric import Fabric
from .node import Node
from .observe import PAUSE, FenceEvent, View, view
from .shell import LIMIT, Failed, run, wait
from .storage import Storage
from .timing import Fencing, fencing_of

TOP = Path(__file__).parents[2]
BEDS = TOP / "build" / "cluster"
UP_LIMIT = 90.0  # seconds for a cluster to form, on a busy machine
DEVICE, WRITER = "fence-vpc", "writer"
FENCING_LINES = re.compile(r"stderr: \[|Requesting peer fencing|Operation '(?:reboot|off|on)'|fenced .*state is now")


class Bed:
    """A cluster of two or three nodes, or any number of nodes without corosync and Pacemaker; a context manager.

    The fence device is fence-vpc. A resource named writer writes to the storage host continuously. The network
    applies groups a second late (DataPlane), and the device's `settle_time` is 2 s (None: the agent's default). The
    nodes named in `ipv6` have IPv6 addresses too.
    """

    def __init__(
        self, size: int = 3, settle_time: Optional[int] = 2, cluster: bool = True, ipv6: Collection[str] = ()
    ) -> None:
        self.agent = Path(os.environ["AGENT"])
        self.prefix = names.new_prefix()
        self.folder = BEDS / self.prefix
        self.names = [f"node{number}" for number in range(1, size + 1)]
        self.settle_time, self.is_cluster, self._ipv6 = settle_time, cluster, ipv6
        self._closing = contextlib.ExitStack()
        self.nodes: Dict[str, Node] = {}
        self.events: List[str] = []
        """Events with times, for the logs of a failed scenario."""

    # Set-up and removal

    def __enter__(self) -> "Bed":
        host.must_be_free()
        names.remove_leftovers(BEDS)
        try:
            self._set_up()
        except BaseException:
            self._closing.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    def _set_up(self) -> None:
        self.folder.mkdir(parents=True)
        self._closing.callback(shutil.rmtree, self.folder, ignore_errors=True)
        self.ec2 = self._closing.enter_context(Ec2Server())
        self.cloud = Cloud(self.ec2, self.names, self._ipv6)
        self.fabric = Fabric(self.prefix)
        self._closing.callback(self.fabric.down)
        self._create_network()
        self._cib = self._create_cib() if self.is_cluster else ""
        self.boot_all()

    def _create_network(self) -> None:
        self.fabric.up()
        self.fabric.add("aws", API)
        ipv6 = (STORAGE6,) if self._ipv6 else ()
        self.fabric.add("storage", STORAGE, ipv6=ipv6)
        self.plane = DataPlane(self.ec2, self.fabric)
        self._closing.callback(self.plane.close)
        self.plane.start()
        self.fabric.socket_in("aws", lambda: self.ec2.listen(API, API_PORT))
        eth1 = {a: name for name, m in self.cloud.machines.items() for a in (m.addresses[1], *m.ipv6[1:])}
        self._closing.callback(self._power_off)
        self.storage: Storage = self.fabric.socket_in("storage", lambda: Storage(eth1, (STORAGE, *ipv6)))
        self._closing.callback(self.storage.close)
        for name, machine in self.cloud.machines.items():
            self.nodes[name] = Node(machine, self.folder / name, self.fabric)
            self.nodes[name].attach()
            metadata: Imds = self.fabric.socket_in(name, lambda m=machine: self.cloud.imds(m))  # type: ignore[misc]
            self._closing.enter_context(metadata)

    # Configuration

    @property
    def host_map(self) -> str:
        """pcmk_host_map: nodes and their instance IDs."""
        return ";".join(f"{name}:{machine.instance}" for name, machine in self.cloud.machines.items())

    @property
    def device_options(self) -> List[str]:
        """The options of fence-vpc, as for pcs."""
        cloud = self.cloud
        options = [f"endpoint_url=http://{API}:{API_PORT}", f"secg={cloud.isolation}", "invert_sg_removal=1"]
        options.append(f"untrack_secg={cloud.open}")
        if self.settle_time is not None:
            options.append(f"settle_time={self.settle_time}")
        return [*options, "pcmk_off_timeout=120", "pcmk_reboot_timeout=120"]

    def _create_cib(self) -> str:
        """The CIB as pcs writes it, in a mount namespace in which the agents are installed as on a node."""
        first = self.nodes[self.names[0]]
        first.prepare({}, self.agent)
        file = self.folder / "cib.xml"
        file.write_text(run("cibadmin", "--empty"), encoding="utf-8")
        create = ("stonith", "create", DEVICE, "fence_aws_vpc_net", f"pcmk_host_map={self.host_map}")
        target = f"target={STORAGE}:{STORAGE_PORT}"
        for command in (
            ("property", "set", "dc-deadtime=2s", f"{host.fencing_property('watchdog-timeout')}=0", "--force"),
            (*create, *self.device_options, "op", "monitor", "interval=60s"),
            ("resource", "create", WRITER, "ocf:bed:writer", target, "op", "monitor", "interval=10s"),
        ):
            run(*host.with_agents_of(first.folder), "pcs", "-f", str(file), *command)
        return file.read_text(encoding="utf-8")

    # Health

    def boot_all(self) -> None:
        """Starts all nodes anew, and waits until the cluster is healthy, if there is one."""
        began = time.monotonic()
        files = config.files([node.machine for node in self.nodes.values()], self._cib)
        self._power_off()
        for node in self.nodes.values():
            node.prepare(files, self.agent)
            node.boot(members=len(self.nodes) if self.is_cluster else 0)
        if self.is_cluster:
            self.wait_until_healthy()
            self._initial_configuration = self._configuration()
        self.log_event(f"{len(self.nodes)} nodes online after {time.monotonic() - began:.1f} s")

    def wait_until_healthy(self, limit: float = UP_LIMIT) -> None:
        """Waits until the cluster is healthy and Pacemaker is idle: a fencing would wait for a running monitor."""
        wait("all nodes are online and the writer writes", self.healthy, limit, PAUSE)
        next(iter(self.nodes.values())).command("crm_resource", "--wait", "--timeout=60s")

    def end_monitor(self) -> None:
        """Ends the recurring monitor of the device, before a device of another agent is created.

        fenced reads the metadata of an agent that it does not know yet, and up to Pacemaker 2.1.7 it does not notice
        the end of any operation that ends meanwhile (ClusterLabs/pacemaker, pull request 3374).
        """
        xpath = f"//primitive[@id='{DEVICE}']/operations/op"
        next(iter(self.nodes.values())).command("cibadmin", "--delete", "--xpath", xpath)
        self.wait_until_healthy()

    def _power_off(self) -> None:
        for node in self.nodes.values():
            node.power_off()
        wait("all nodes are off", lambda: all(node.is_gone() for node in self.nodes.values()), 30, 0.02)

    def view(self, of: str = "") -> Optional[View]:
        """The state of the cluster as a node reports it; by default the first node that answers."""
        for name in [of] if of else self.names:
            reported = view(self.nodes[name])
            if reported is not None:
                return reported
        return None

    def failed_actions(self) -> str:
        """The failed resource actions that Pacemaker shows."""
        for node in self.nodes.values():
            done = node.result("crm_mon", "-1", "--include=none,failures", limit=10) if node.running else None
            if done is not None and done.returncode == 0:
                return done.stdout
        return ""

    def healthy(self) -> bool:
        """Whether each node reports all nodes online, one writer, and a started fence device."""
        if len(self.storage.active()) != 1:  # checked first, because crm_mon takes much CPU time
            return False
        views = (view(node) for node in self.nodes.values())
        return all(v is not None and _is_healthy(v, self.names) for v in views) and len(self.storage.active()) == 1

    def writer_on(self) -> str:
        """The node that the writer runs on."""
        wait("one node writes", lambda: len(self.storage.active()) == 1, 10)
        return self.storage.active()[0]

    def reset(self) -> None:
        """Restores health and the initial configuration, and clears the history; restarts nodes only if needed."""
        self.plane.set_lag()
        unchanged = not self.ec2.rules.any() and all(self.cloud.pristine(name) for name in self.names)
        if unchanged and self.healthy() and self._configuration() == self._initial_configuration:
            self.wait_until_healthy()
            self.nodes[self.names[0]].command("stonith_admin", "--cleanup", "--history", "*")
        else:
            self.recover()

    def _configuration(self) -> str:
        """The configuration in the CIB, without the parts that Pacemaker writes by itself."""
        parts = ("crm_config", "resources", "constraints", "fencing-topology")
        query = [self.nodes[self.names[0]].command("cibadmin", "-Q", "-o", part, check=False) for part in parts]
        return "".join(query)

    def recover(self) -> None:
        """Removes faults and splits, restores the original groups, and starts a new cluster of all nodes."""
        self.ec2.rules.clear()
        self.ec2.key.permit_all()
        self._power_off()  # a fencing that still waits for the API must not continue
        self.fabric.join()
        self.cloud.restore()
        self.plane.set_lag()
        self.boot_all()

    # Actions of scenarios

    def others(self, *names_: str) -> List[str]:
        """All nodes except these."""
        return [name for name in self.names if name not in names_]

    def pcs(self, *words: str) -> str:
        """Runs pcs on the first node that is running."""
        return next(n for n in self.nodes.values() if n.running).command("pcs", *words)

    def fence(self, target: str, by: str = "") -> None:
        """stonith_admin --fence, on another node."""
        self.nodes[by or self.others(target)[0]].command("stonith_admin", "--fence", target, limit=100)

    def unfence(self, target: str, by: str = "") -> None:
        """stonith_admin --unfence, on another node."""
        self.nodes[by or self.others(target)[0]].command("stonith_admin", "--unfence", target, limit=100)

    def restart(self, target: str) -> None:
        """A power cycle."""
        self.nodes[target].power_off()
        self.nodes[target].boot()

    def follow_power(self) -> None:
        """Switches each node off or on as EC2 shows its instance. A node ends with the thread that calls this."""
        shown = self.ec2.snapshot()
        for node in self.nodes.values():
            state = shown[node.machine.instance]["state"]
            if state == "stopped" and node.running:
                node.power_off()
                self.log_event(f"{node.name} has stopped")
            elif state == "running" and not node.running:
                node.boot()
                self.log_event(f"{node.name} has started")

    def return_to_service(self, target: str) -> float:
        """As in the runbook: restart, unfence, wait for the node to rejoin. Returns the seconds after unfencing."""
        self.restart(target)
        began = time.monotonic()
        self.unfence(target)
        self.wait_until_healthy()
        return time.monotonic() - began

    def wait_until_fenced(self, target: str, reported_by: Sequence[str] = (), limit: float = LIMIT) -> FenceEvent:
        """Waits until one of the nodes reports that the target was fenced."""

        def events() -> List[FenceEvent]:
            views = [view(self.nodes[name]) for name in reported_by or self.others(target)]
            return [event for v in views if v is not None for event in v.fences(target)]

        return wait(f"{target} is fenced", events, limit, PAUSE)[0]

    def wait_until_moved(self, away_from: str, limit: float = LIMIT) -> str:
        """Waits until another node writes, and returns its name."""

        def elsewhere() -> List[str]:
            return [name for name in self.storage.active() if name != away_from]

        return wait(f"the writer runs elsewhere than on {away_from}", elsewhere, limit)[0]

    def agent_on(self, node: str, action: str, target: str, *more: str) -> "subprocess.CompletedProcess[str]":
        """Runs the installed agent on a node, with the device's options. Further ones, name=value, replace them.

        As under Pacemaker, it reads its options from stdin.
        """
        run = (f"action={action}", f"plug={self.cloud.machines[target].instance}", "verbose=1")
        own = (o for o in self.device_options if not o.startswith("pcmk_"))
        options = dict(o.split("=", maxsplit=1) for o in (*run, *own, *more))
        stdin = "".join(f"{name}={value}\n" for name, value in options.items())
        return self.nodes[node].result(self.agent.name, stdin=stdin)

    def fencing(self, target: str) -> Fencing:
        """How long the last fencing of a node took, from the nodes' logs and the emulator's list of calls."""
        logs = [node.log() for node in self.nodes.values()]
        return fencing_of(target, logs, self.ec2.calls)

    # Logs

    def log_event(self, text: str) -> None:
        """Adds a line with the time."""
        self.events.append(f"{time.monotonic():.2f} {text}")

    def save_logs(self, folder: Path) -> None:
        """Saves the logs of all nodes, the calls to EC2, and the events."""
        shutil.rmtree(folder, ignore_errors=True)
        for name in self.nodes:
            source, target = self.folder / name / "var/log", folder / name
            target.mkdir(parents=True)
            for log in ("pacemaker/pacemaker.log", "corosync/corosync.log", "corosync-stderr.log"):
                with contextlib.suppress(OSError):
                    shutil.copy(source / log, target)
        calls = [
            f"{c.at:.3f} {c.ended or 0:.3f} {c.action} {c.status} {c.error} {c.outcome} {c.params}"
            for c in self.ec2.calls
        ]
        (folder / "ec2-calls").write_text("\n".join(calls) + "\n", encoding="utf-8")
        (folder / "events").write_text("\n".join(self.events) + "\n", encoding="utf-8")

    def log_excerpt(self, most: int = 12) -> str:
        """The last lines about fencing of each node's log, and the last calls to EC2."""
        lines = []
        for name, node in self.nodes.items():
            about = [line[:400] for line in node.log().splitlines() if FENCING_LINES.search(line)]
            lines += [f"{name}: {line}" for line in about[-most:]]
        lines += [f"{c.at:.3f} {c.ended or 0:.3f} {c.action} {c.error or c.outcome}" for c in self.ec2.calls[-most:]]
        return "\n".join(lines)


def _is_healthy(reported: View, names_: Sequence[str]) -> bool:
    running = reported.running
    return (
        reported.online == sorted(names_)
        and len(running.get(WRITER, [])) == 1
        and len(running.get(DEVICE, [])) == 1
        and not reported.failed.get(DEVICE)
    )


__all__ = ["Bed", "Failed"]
