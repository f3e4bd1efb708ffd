"""The installed agent as a process, and an EC2 for it to talk to over HTTP."""

import os
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional

import pytest
from ec2.server import Ec2Server
from result import Result

LIMIT = 60  # seconds that no run of the agent takes


@dataclass
class Agent:
    """Runs the agent as operators and as Pacemaker do."""

    ec2: Ec2Server
    folder: Path
    options: Dict[str, str]
    env: Dict[str, str] = field(default_factory=dict)

    def is_on(self, node: Optional[str]) -> None:
        """Let the agent run on this instance; None: on a machine that is none."""
        file = self.folder / "board_asset_tag"
        file.write_text(f"{node or 'not an instance'}\n", encoding="ascii")
        self.env["FENCE_AWS_VPC_NET_DMI"] = str(file)

    def _spawn(self, arguments: List[str], stdin: str = "") -> Result:
        began = time.monotonic()
        command = [*os.environ.get("AGENT_RUNNER", "").split(), os.environ["AGENT"], *arguments]
        done = subprocess.run(
            command, input=stdin, capture_output=True, text=True, env=self.env, timeout=LIMIT, check=False
        )
        result = Result(done.returncode, done.stdout, done.stderr, time.monotonic() - began)
        assert "Traceback" not in result.err + result.out, result.err
        return result

    def arguments(self, action: str, plug: Optional[str] = None, **options: Any) -> List[str]:
        """``a_b=True`` as ``--a-b``, other values as ``--a-b=value``; None leaves an option out."""
        given = {"action": action, "plug": plug, **self.options, **options}
        names = {k: f"--{k if k == 'boto3_debug' else k.replace('_', '-')}" for k in given}
        return [names[k] + ("" if v is True else f"={v}") for k, v in given.items() if v is not None]

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        """The agent, running."""
        command = [*os.environ.get("AGENT_RUNNER", "").split(), os.environ["AGENT"], *arguments]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=self.env)

    def command(self, action: str, plug: Optional[str] = None, **options: Any) -> Result:
        """By command line."""
        return self._spawn(self.arguments(action, plug, **options))

    def raw(self, *arguments: str) -> Result:
        """These arguments and no others."""
        return self._spawn(list(arguments))

    def stdin(self, text: str) -> Result:
        """This input and no arguments."""
        return self._spawn([], text)

    def pacemaker(self, action: str, plug: Optional[str] = None, **options: Any) -> Result:
        """By stdin, as pacemaker-fenced does."""
        given = {"action": action, "plug": plug, "nodename": "node", **self.options, **options}
        text = "".join(f"{k}={'1' if v is True else v}\n" for k, v in given.items() if v is not None)
        return self._spawn([], text)


@pytest.fixture(scope="session")
def server() -> Iterator[Ec2Server]:
    with Ec2Server() as running:
        yield running


@pytest.fixture
def ec2(server: Ec2Server) -> Iterator[Ec2Server]:
    """An EC2 with a fresh small world. In the end each fault that was asked for has happened, and no hook failed."""
    server.reset()
    yield server
    assert server.broken == []
    assert server.idle() == []


@pytest.fixture
def agent(ec2: Ec2Server, tmp_path: Path) -> Agent:
    """The installed agent, on node3, with credentials."""
    if "AGENT" not in os.environ:
        pytest.fail("AGENT does not name the installed agent: run ./tests/check")
    options = {
        "region": ec2.region,
        "access_key": ec2.key.access_key,
        "secret_key": ec2.key.secret_key,
        "endpoint_url": ec2.endpoint,
        "settle_time": "0",  # the emulator has no network that follows later
    }
    env = {k: os.environ[k] for k in ("PATH", "PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX") if k in os.environ}
    made = Agent(ec2, tmp_path, options, {**env, "HOME": str(tmp_path), "AWS_EC2_METADATA_DISABLED": "true"})
    made.is_on(ec2.world.nodes["node3"])
    return made


@pytest.fixture
def keep(ec2: Ec2Server) -> Dict[str, Any]:
    """Options: keep only the isolation group."""
    return {"secg": ec2.world.isolation, "invert_sg_removal": True}


@pytest.fixture
def remove(ec2: Ec2Server) -> Dict[str, Any]:
    """Options: remove the group that every interface has."""
    return {"secg": ec2.world.groups["app"]}


@pytest.fixture(params=["keep", "remove"])
def mode(request: pytest.FixtureRequest, keep: Dict[str, Any], remove: Dict[str, Any]) -> Dict[str, Any]:
    """Each of the two."""
    return keep if request.param == "keep" else remove


# The C library's syslog, into a file: the text as it was handed over, and a NUL.
SYSLOG = """
import os, syslog
def note(priority, text):
    with open(os.environ["SYSLOG_FILE"], "a", encoding="utf-8", errors="surrogateescape", newline="") as file:
        file.write(text + chr(0))
syslog.syslog = note
"""


@pytest.fixture
def syslog(agent: Agent, tmp_path: Path) -> Path:
    """A file with what the agent says to syslog."""
    folder = tmp_path / "with syslog"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(SYSLOG, encoding="ascii")
    file = folder / "said"
    file.touch()
    known = agent.env.get("PYTHONPATH", "")
    agent.env.update(SYSLOG_FILE=str(file), PYTHONPATH=f"{folder}:{known}" if known else str(folder))
    return file
