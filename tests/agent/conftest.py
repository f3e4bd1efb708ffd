"""The installed agent as a process, and an EC2 for it to talk to over HTTP."""

import os
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Union

import pytest
from ec2.server import Ec2Server
from fork_server import ForkServers, Running
from programs import Programs
from result import Result

LIMIT = 60  # seconds that no run of the agent takes


@dataclass
class Agent:
    """Runs the agent as operators and as Pacemaker do."""

    ec2: Ec2Server
    folder: Path
    options: Dict[str, str]
    fork_servers: ForkServers
    env: Dict[str, str] = field(default_factory=dict)

    def is_on(self, node: Optional[str]) -> None:
        """Let the agent run on this instance; None: on a machine that is none."""
        file = self.folder / "board_asset_tag"
        file.write_text(f"{node or 'not an instance'}\n", encoding="ascii")
        self.env["FENCE_AWS_VPC_NET_DMI"] = str(file)

    def _spawn(self, arguments: List[str], stdin: str = "") -> Result:
        if self.fork_servers.can_run(self.env):
            self.fork_servers.start(self.env)
        began = time.monotonic()
        with self.start(*arguments, stdin=subprocess.PIPE) as running:
            try:
                out, err = running.communicate(stdin, timeout=LIMIT)
            except BaseException:
                running.kill()
                raise
        result = Result(running.returncode, out, err, time.monotonic() - began)
        assert "Traceback" not in result.err + result.out, result.err
        assert "please report it with the debug file" not in result.err, result.err
        return result

    def arguments(self, action: str, plug: Optional[str] = None, **options: Any) -> List[str]:
        """``a_b=True`` as ``--a-b``, other values as ``--a-b=value``; None leaves an option out."""
        given = {"action": action, "plug": plug, **self.options, **options}
        names = {k: f"--{k if k == 'boto3_debug' else k.replace('_', '-')}" for k in given}
        return [names[k] + ("" if v is True else f"={v}") for k, v in given.items() if v is not None]

    def start(self, *arguments: str, **how: Any) -> "Union[subprocess.Popen[str], Running]":
        """The agent, running. ``how``: streams, as for subprocess.Popen, and start_new_session."""
        how = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **how}
        if self.fork_servers.can_run(self.env):
            return self.fork_servers.popen(arguments, self.env, **how)
        command = [*os.environ.get("AGENT_RUNNER", "").split(), os.environ["AGENT"], *arguments]
        return subprocess.Popen(command, text=True, env=self.env, **how)

    def command(self, action: str, plug: Optional[str] = None, **options: Any) -> Result:
        """By command line."""
        return self._spawn(self.arguments(action, plug, **options))

    def until_it_waits(self, action: str, plug: str, **options: Any) -> Result:
        """By command line, again if the deadline came during a call: the last line is about that call then."""
        for _ in range(8):
            result = self.command(action, plug, **options)
            if "gave up after" not in result.last:
                break
        return result

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
def node(ec2: Ec2Server) -> str:
    """The instance that most tests fence; it has two interfaces."""
    return ec2.world.nodes["node1"]


@pytest.fixture
def first(ec2: Ec2Server) -> str:
    """Its first interface."""
    return ec2.world.interfaces["node1"][0]


@pytest.fixture
def second(ec2: Ec2Server) -> str:
    """Its second interface."""
    return ec2.world.interfaces["node1"][1]


@pytest.fixture(scope="session")
def syslog_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for PYTHONPATH that writes syslog messages to the file $SYSLOG_FILE."""
    folder = tmp_path_factory.mktemp("with syslog")
    (folder / "sitecustomize.py").write_text(SYSLOG, encoding="ascii")
    return folder


@pytest.fixture(scope="session")
def program(fork_servers: ForkServers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The agent as a program for others: with an environment for which a fork server can run it, at less cost."""
    if not fork_servers.can_run({}):
        yield os.environ["AGENT"]
        return
    folder = tmp_path_factory.mktemp("program")
    with Programs({"fence_aws_vpc_net": fork_servers}, folder) as programs:
        yield str(programs.install("fence_aws_vpc_net", folder))


@pytest.fixture
def agent(ec2: Ec2Server, fork_servers: ForkServers, tmp_path: Path) -> Agent:
    """The installed agent, on node3, with credentials."""
    options = {
        "region": ec2.region,
        "access_key": ec2.key.access_key,
        "secret_key": ec2.key.secret_key,
        "endpoint_url": ec2.endpoint,
        "settle_time": "0",  # the emulator has no network that follows later
    }
    env = {k: os.environ[k] for k in ("PATH", "PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX") if k in os.environ}
    env.update(HOME=str(tmp_path), AWS_EC2_METADATA_DISABLED="true")
    made = Agent(ec2, tmp_path, options, fork_servers, env)
    made.is_on(ec2.world.nodes["node3"])
    return made


@pytest.fixture
def umask() -> Iterator[Callable[[int], int]]:
    """Sets it for the runs of the agent of this test; it is as before for the next one."""
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


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
def syslog(agent: Agent, syslog_folder: Path, tmp_path: Path) -> Path:
    """A file with the syslog messages of the agent."""
    file = tmp_path / "syslog"
    file.touch()
    known = agent.env.get("PYTHONPATH", "")
    agent.env.update(SYSLOG_FILE=str(file), PYTHONPATH=f"{syslog_folder}:{known}" if known else str(syslog_folder))
    return file
