"""The steps of the try, in order. Each adds rows to the report; a step that fails does not stop the others."""

import json
import subprocess
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple

from botocore.exceptions import BotoCoreError, ClientError

from . import measure, receiver, settle
from .bed import Bed
from .measure import Agent, Run
from .report import Report

POLICY = Path(__file__).parents[2] / "doc" / "iam-policy.json"
FLOW_SECONDS = 20.0
"""How long flows are watched after a change: several reports long."""
NEVER = "sg-0123456789abcdef0"
ONLY_REAL = "not measured: only real packets can show it"


@dataclass
class Story:
    """What the steps work with."""

    bed: Bed
    agent: Agent
    report: Report
    packets: bool
    rounds: int
    watch: float
    window: float = 20.0
    """Seconds for which packets are looked for after an isolation."""
    assume: Optional[Callable[[str], Dict[str, str]]] = None
    """A policy document -> environment with credentials that have it; None: no role was given."""

    def __post_init__(self) -> None:
        self.keep = [f"--secg={self.bed.groups['isolation']}", "--invert-sg-removal", "--skip-race-check"]
        self.untrack = f"--untrack-secg={self.bed.groups['open']}"

    def play(self) -> None:
        """All steps."""
        for title, step in STEPS:
            self.bed.say(title)
            self.report.chapter(title)
            try:
                step(self)
            except (
                ClientError,
                BotoCoreError,
                subprocess.SubprocessError,
                RuntimeError,
                OSError,
                LookupError,
            ) as error:
                self.report.row("the step itself", f"{type(error).__name__}: {error}", False)

    def expect(self, run: Run, what: str, code: int, more: str = "") -> None:
        """A row for a run of the agent."""
        counted = {k: v for k, v in run.summary.items() if k in ("seconds", "api_calls", "retries", "throttles")}
        reported = ", ".join(f"{k} {v}" for k, v in counted.items())
        problem = f": {run.last}" if run.code != code else ""
        text = f"exit code {run.code} after {run.seconds:.2f} s ({reported}){problem}{more}"
        self.report.row(what, text, run.code == code)


# --- off, status, on -------------------------------------------------------------------------------------------


def preflight(story: Story) -> None:
    """Nothing may fail on a bed made for it."""
    run = story.agent("validate-all", story.bed.nodes["node1"], *story.keep, story.untrack, "--onfence-poweroff")
    story.expect(run, "`validate-all`", 0)
    for line in run.out.splitlines():
        level, _, rest = line.partition(" ")
        about, _, text = rest.strip().partition(": ")
        if level in ("warn", "FAIL"):
            story.report.row(f"{level} {about}", text)


def plain(story: Story) -> None:
    """Without untrack_secg."""
    _fence_and_return(story, "node1", [])


def untracked(story: Story) -> None:
    """With untrack_secg: the established flow must end too."""
    _fence_and_return(story, "node1", [story.untrack])


def _fence_and_return(story: Story, name: str, more: List[str]) -> None:
    plug, before = story.bed.nodes[name], story.bed.groups_of(name)
    story.expect(story.agent("status", plug, *story.keep, *more), "`status` before", 0)
    alive = story.packets and measure.wait_for_flows(lambda: _consoles(story), 5)
    story.expect(story.agent("off", plug, *story.keep, *more), "`off`", 0)
    story.expect(story.agent("status", plug, *story.keep, *more), "`status` after `off`", 2)
    _flows(story, alive, untracking=bool(more))
    story.expect(story.agent("on", plug, *story.keep, *more), "`on`", 0)
    after = story.bed.groups_of(name)
    story.report.row(
        "groups after `on`", "the same" if after == before else f"{after}, not {before}", after == before
    )
    ours = [t["Key"] for t in story.bed.instance(name)["Tags"] if _is_ours(t["Key"])]
    story.report.row("tags of the agent after `on`", ", ".join(ours) or "none", not ours)


def _is_ours(key: str) -> bool:
    return key == "lastfence" or key.startswith("Original_SG_Backup_")


def _consoles(story: Story) -> List[str]:
    return [story.bed.console("node1"), story.bed.console("node2")]


def _flows(story: Story, alive: bool, untracking: bool) -> None:
    """What still arrives at either end while node1 is isolated. The first seconds are left out."""
    if not story.packets:
        story.report.row("flows of the isolated node", ONLY_REAL)
        return
    if not alive:
        story.report.row("flows of the isolated node", "not measured: they did not run before", False)
        return
    time.sleep(FLOW_SECONDS / 2)
    before = [measure.last_report(c) for c in _consoles(story)]
    time.sleep(FLOW_SECONDS)
    after = [measure.last_report(c) for c in _consoles(story)]
    for end, way, b, a in zip((0, 1), ("into the node", "out of the node"), before, after):
        established, new = measure.flows(b, a)
        good = None if established is None else (not established if untracking else None)
        story.report.row(f"established TCP flow {way}", _words(established), good)
        story.report.row(f"new TCP connections {way}", _words(new), None if new is None else not new)
        story.bed.say(f"console {end}: {b} then {a}")


def _words(goes_on: Optional[bool]) -> str:
    return {True: "went on", False: "ended", None: "no report on the console"}[goes_on]


def power(story: Story) -> None:
    """Stop with SkipOsShutdown where the SDK knows it, and start again; on two interfaces."""
    plug, before = story.bed.nodes["node3"], story.bed.groups_of("node3")
    options = [*story.keep, "--onfence-poweroff", "--skip-os-shutdown=true", "--ignore-instance-state"]
    began = time.monotonic()
    run = story.agent("off", plug, *options)
    story.expect(run, "`off` with onfence_poweroff", 0, " with warnings" if "WARNING" in run.err else "")
    stopped = _wait(lambda: story.bed.instance("node3")["State"]["Name"] == "stopped", 180)
    text = f"{time.monotonic() - began:.1f} s after the start of `off`" if stopped else "not within 180 s"
    story.report.row("stopped", text, stopped)
    run = story.agent("on", plug, *options, "--unfence-poweron", "--deadline=180")
    story.expect(run, "`on` with unfence_poweron", 0)
    state, after = story.bed.instance("node3")["State"]["Name"], story.bed.groups_of("node3")
    good = state in ("pending", "running") and after == before
    story.report.row("afterwards", f"{state}, groups {'the same' if after == before else 'others'}", good)


def _wait(true: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if true():
            return True
        time.sleep(1)
    return False


# --- how EC2 behaves -------------------------------------------------------------------------------------------


def propagation(story: Story) -> None:
    """How long reads lag behind accepted changes, seen by one client."""
    groups, tags = measure.Delays(), measure.Delays()
    ec2, plug = story.bed.ec2, story.bed.nodes["node3"]
    interface = sorted(story.bed.groups_of("node3"))[-1]

    def set_groups(goal: List[str]) -> Any:
        return ec2.modify_network_interface_attribute(NetworkInterfaceId=interface, Groups=goal)

    def has_groups(goal: List[str]) -> bool:
        return story.bed.groups_of("node3")[interface] == goal

    def set_tag(tag: Dict[str, str]) -> Any:
        return ec2.create_tags(Resources=[plug], Tags=[tag])

    def has_tag(tag: Dict[str, str]) -> bool:
        return tag in story.bed.instance("node3")["Tags"]

    for number in range(story.rounds):
        goal = [story.bed.groups["isolation" if number % 2 == 0 else "app"]]
        measure.watch(groups, partial(set_groups, goal), partial(has_groups, goal), story.watch)
        tag = {"Key": "acceptance-probe", "Value": str(number)}
        measure.watch(tags, partial(set_tag, tag), partial(has_tag, tag), story.watch)
    set_groups([story.bed.groups["app"]])
    head = f"accepted to first read that shows it, {story.rounds} rounds, min / median / max"
    story.report.row(f"groups: {head}", str(groups))
    story.report.row(f"tags: {head}", str(tags))


def data_plane(story: Story) -> None:
    """How long packets arrive after an accepted change. The cases take turns, so that a slow hour meets them all."""
    if story.bed.sender is None or not story.packets:
        why = ONLY_REAL if story.bed.sender else "not measured: it takes --subnet, a subnet that this machine reaches"
        story.report.row("the network behind the API", why)
        return
    observations: List[settle.Observation] = []
    try:
        for dwell in story.rounds * settle.DWELLS:
            address, set_groups = story.bed.sender.address, story.bed.set_sender_groups
            observations.append(receiver.observe(address, set_groups, dwell, story.window))
            if observations[-1].new is None:
                break  # it may not have seen the isolation yet, and the next run would begin with it
    finally:
        for row in settle.rows(observations):
            story.report.row(*row)


def questions(story: Story) -> None:
    """What the agent builds on, asked of EC2 itself."""
    ec2, plug = story.bed.ec2, story.bed.nodes["node3"]
    interface = sorted(story.bed.groups_of("node3"))[0]

    def dry(**changes: Any) -> str:
        given = {"NetworkInterfaceId": interface, "Groups": [story.bed.groups["app"]], **changes}
        return _code(lambda: ec2.modify_network_interface_attribute(DryRun=True, **given))

    story.report.row("DryRun of a change that would pass", dry(), dry() == "DryRunOperation")
    story.report.row("DryRun with a group that does not exist", dry(Groups=[NEVER]))
    tag = {"Key": "acceptance-value", "Value": "right"}
    ec2.create_tags(Resources=[plug], Tags=[tag])
    ec2.delete_tags(Resources=[plug], Tags=[{**tag, "Value": "wrong"}])
    kept = _wait(lambda: tag in story.bed.instance("node3")["Tags"], 10)
    story.report.row("DeleteTags with another value", "the tag stayed" if kept else "the tag went", kept)
    _fifty_tags(story)


def _fifty_tags(story: Story) -> None:
    ec2, plug = story.bed.ec2, story.bed.nodes["node3"]
    used = sum(not t["Key"].startswith("aws:") for t in story.bed.instance("node3")["Tags"])
    fill = [{"Key": f"acceptance-{n}", "Value": "x"} for n in range(50 - used)]
    ec2.create_tags(Resources=[plug], Tags=fill)
    over = _code(lambda: ec2.create_tags(Resources=[plug], Tags=[{"Key": "one-more", "Value": "x"}]))
    story.report.row("tag number 51", over, over == "TagLimitExceeded")
    again = _code(lambda: ec2.create_tags(Resources=[plug], Tags=[{**fill[0], "Value": "y"}]))
    story.report.row("overwriting one of 50", again, again == "accepted")
    ec2.delete_tags(Resources=[plug], Tags=[{"Key": t["Key"]} for t in fill])


def _code(call: Callable[[], object]) -> str:
    try:
        call()
    except ClientError as error:
        return str(error.response["Error"]["Code"])
    return "accepted"


# --- permissions -----------------------------------------------------------------------------------------------


WARNED = ("ec2:DescribeInstanceAttribute", "ec2:StopInstances", "ec2:DeleteTags")  # fencing works without these


def permissions(story: Story) -> None:
    """With doc/iam-policy.json all passes; without each action of it, the preflight names it."""
    if story.assume is None:
        story.report.row(
            "doc/iam-policy.json", "not tried: it takes --role-arn, a role that may do what the policy says"
        )
        return
    document = json.loads(POLICY.read_text(encoding="utf-8"))
    options = [*story.keep, story.untrack, "--onfence-poweroff", "--unfence-poweron"]
    env = story.assume(json.dumps(document, separators=(",", ":")))
    plug = story.bed.nodes["node1"]
    for action, code in (("validate-all", 0), ("off", 0), ("on", 0)):
        more = options if action == "validate-all" else [*story.keep, story.untrack]
        story.expect(story.agent(action, plug, *more, env=env), f"`{action}` with exactly the policy", code)
    for action in _actions(document):
        env = story.assume(json.dumps(_without(document, action), separators=(",", ":")))
        run = story.agent("validate-all", plug, *options, env=env)
        code = 0 if action in WARNED else 1
        named = run.code == code and f"allow {action}" in run.out
        unused = action.endswith("VpcAssociations") and run.code == 0
        text = "named" if named else "not asked for in one VPC" if unused else f"exit code {run.code}: {run.last}"
        story.report.row(f"`validate-all` without {action}", text, named or unused)


def _as_list(value: Any) -> List[str]:
    return [value] if isinstance(value, str) else list(value)


def _actions(document: Dict[str, Any]) -> List[str]:
    return [a for s in document["Statement"] for a in _as_list(s["Action"])]


def _without(document: Dict[str, Any], action: str) -> Dict[str, Any]:
    """Without one action; a statement of nothing else is left out, as IAM wants at least one."""
    left = [{**s, "Action": [a for a in _as_list(s["Action"]) if a != action]} for s in document["Statement"]]
    return {**document, "Statement": [s for s in left if s["Action"]]}


STEPS: Tuple[Tuple[str, Callable[[Story], None]], ...] = (
    ("Preflight", preflight),
    ("off and on, without untrack_secg", plain),
    ("off and on, with untrack_secg", untracked),
    ("off with a stop, on with a start", power),
    ("How long reads lag", propagation),
    ("How long the network lags", data_plane),
    ("What the agent builds on", questions),
    ("Permissions", permissions),
)
