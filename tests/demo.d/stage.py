"""The stage of the demo: an EC2, the installed agent as a process, and a look at what became of a node."""

import json
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Tuple

import terminal

if TYPE_CHECKING:
    from ec2.server import Ec2Server

HERE = "node3"  # the node that the agent runs on
LIMIT = 60  # seconds that no run of the agent takes
Record = Dict[str, List[str]]  # interface -> group IDs


class Failed(Exception):
    """A step did not do what it should."""


def must(condition: bool, otherwise: str) -> None:
    """Fails the step unless the condition holds."""
    if not condition:
        raise Failed(otherwise)


@dataclass
class Stage:
    """Runs the agent and shows the run."""

    ec2: "Ec2Server"
    folder: Path
    agent: str

    def __post_init__(self) -> None:
        dmi = self.folder / "board_asset_tag"
        dmi.write_text(f"{self.id(HERE)}\n", encoding="ascii")
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "AWS_ACCESS_KEY_ID": self.ec2.key.access_key,
            "AWS_SECRET_ACCESS_KEY": self.ec2.key.secret_key,
            "AWS_EC2_METADATA_DISABLED": "true",
            "FENCE_AWS_VPC_NET_DMI": str(dmi),
        }
        self.options = {
            "region": self.ec2.region,
            "secg": self.ec2.world.isolation,
            "invert-sg-removal": "1",
            "endpoint_url": self.ec2.endpoint,
            "settle_time": "1",  # the emulator has no network
        }

    # The agent

    def command(self, action: str, node: str, code: int, *more: str) -> str:
        """Runs it as an operator does, shows that, and returns what it said on stderr."""
        o = self.options
        words = [f"-o {action} -n {self.id(node)} -r {o['region']}", f"--secg={o['secg']} --invert-sg-removal -v"]
        words += [f"--endpoint-url={o['endpoint_url']}", f"--settle-time={o['settle_time']}", *more]
        terminal.command([f"fence_aws_vpc_net {words[0]}", *words[1:]])
        return self._run(" ".join(words).split(), "", code)

    def pacemaker(self, action: str, node: str, code: int) -> str:
        """Runs it as Pacemaker does: without arguments, options on stdin."""
        given = {"action": action, "nodename": node, "plug": self.id(node), "verbose": "1", **self.options}
        lines = [f"{k}={v}" for k, v in given.items()]
        terminal.command(["fence_aws_vpc_net <<END"])
        for line in [*lines, "END"]:
            terminal.say(terminal.paint(line, "cyan"), 4)
        return self._run([], "\n".join(lines) + "\n", code)

    def version(self) -> str:
        """The agent's own."""
        done = subprocess.run([self.agent, "--version"], env=self.env, capture_output=True, text=True, timeout=LIMIT)
        return done.stdout.strip()

    def _run(self, arguments: List[str], stdin: str, code: int) -> str:
        done = subprocess.run(
            [self.agent, *arguments], input=stdin, env=self.env, capture_output=True, text=True, timeout=LIMIT
        )
        for line in done.stderr.splitlines():
            terminal.log_line(self._shortened(line))
        terminal.say(f"{done.stdout.strip()}  [exit code {done.returncode}]".strip(), 4)
        must(done.returncode == code, f"exit code {done.returncode} instead of {code}")
        return done.stderr

    def _shortened(self, line: str) -> str:
        """A log line without its time, with groups by name, without what a summary repeats or did not count."""
        line = re.sub(r"^\S+ \S+ (?=[A-Z]+: )", "", line)
        for name, group in self.ec2.world.groups.items():
            line = line.replace(group, name)
        if "summary " in line:
            line = re.sub(r" (action|plug|version)=\S+| \w+=0(?= |$)", "", line)
        return line

    # The node

    def id(self, node: str) -> str:
        """Its instance ID."""
        return self.ec2.world.nodes[node]

    def state(self, node: str) -> Dict[str, Any]:
        """What the emulator itself holds of it."""
        return self.ec2.snapshot()[self.id(node)]

    def tags(self, node: str) -> Dict[str, str]:
        """The agent's tags on it."""
        tags = self.state(node)["tags"]
        return {k: v for k, v in tags.items() if k == "lastfence" or k.startswith("Original_SG_Backup_")}

    def backup(self, node: str) -> Record:
        """The groups that its backup tags hold for each interface."""
        return dict(_decoded(v) for k, v in self.tags(node).items() if k != "lastfence")

    def show(self, node: str) -> None:
        """Its interfaces, groups and the agent's tags, as a table."""
        state = self.state(node)
        terminal.say(f"{node} = {self.id(node)}, {state['state']}", 4)
        rows = [("interface", "groups"), *((i, self._names(g)) for i, g in state["interfaces"].items())]
        for key, value in self.tags(node).items():
            interface, groups = (value, []) if key == "lastfence" else _decoded(value)
            rows.append((key, f"{self._names(groups)} of {interface}" if groups else interface))
        terminal.table(rows if self.tags(node) else [*rows, ("tags of the agent", "none")])

    def _names(self, groups: List[str]) -> str:
        names = {group: name for name, group in self.ec2.world.groups.items()}
        return ", ".join(sorted(names[g] for g in groups))


def _decoded(value: str) -> Tuple[str, List[str]]:
    body = json.loads(value)["n"]
    return body["i"], [f"sg-{g}" for g in body["s"]]
