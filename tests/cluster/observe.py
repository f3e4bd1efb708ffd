"""The state of the cluster, as Pacemaker on one node reports it."""

import xml.etree.ElementTree as ET
from dataclasses import dataclass
from typing import Dict, List, Optional

from .node import Node

PAUSE = 0.25  # seconds between queries: each is a process that takes much CPU time, on every node


@dataclass(frozen=True)
class FenceEvent:
    """An entry of the fence history."""

    action: str
    target: str
    delegate: str
    origin: str
    status: str
    """success, failed or pending."""
    reason: str
    completed: str


@dataclass(frozen=True)
class View:
    """The output of crm_mon."""

    nodes: Dict[str, str]
    """By node: online, unclean, standby, pending or offline."""
    running: Dict[str, List[str]]
    """By resource: the nodes that it runs on."""
    failed: Dict[str, bool]
    """By resource: whether it is shown as failed."""
    quorum: bool
    dc: str
    history: List[FenceEvent]

    @property
    def online(self) -> List[str]:
        """The nodes that are healthy members."""
        return sorted(name for name, state in self.nodes.items() if state == "online")

    def fences(self, target: str, status: str = "success", action: str = "") -> List[FenceEvent]:
        """The history of a node, newest first; `reboot` counts as `off`."""
        wanted = (action,) if action else ("off", "reboot")
        return [e for e in self.history if e.target == target and e.status == status and e.action in wanted]


def view(node: Node) -> Optional[View]:
    """The view of a node; None if its Pacemaker does not answer."""
    if not node.running:
        return None
    done = node.result("crm_mon", "-1", "--output-as=xml", "--inactive", "--fence-history=3", limit=10)
    if done.returncode or not done.stdout.startswith("<"):
        return None
    root = ET.fromstring(done.stdout)
    dc = root.find("summary/current_dc")
    return View(
        nodes={str(n.get("name")): _state(n) for n in root.iterfind("nodes/node")},
        running={str(r.get("id")): [str(n.get("name")) for n in r.iterfind("node")] for r in root.iter("resource")},
        failed={str(r.get("id")): r.get("failed") == "true" for r in root.iter("resource")},
        quorum=dc is not None and dc.get("with_quorum") == "true",
        dc=str(dc.get("name") or "") if dc is not None else "",
        history=[_event(e) for e in root.iterfind("fence_history/fence_event")],
    )


def _state(node: ET.Element) -> str:
    if node.get("unclean") == "true":
        return "unclean"
    if node.get("online") != "true":
        return "offline"
    if node.get("standby") == "true":
        return "standby"
    return "pending" if node.get("pending") == "true" else "online"


def _event(event: ET.Element) -> FenceEvent:
    names = ("action", "target", "delegate", "origin", "status", "exit-reason", "completed")
    return FenceEvent(*(event.get(name, "") for name in names))
