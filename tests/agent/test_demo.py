"""What ./tests/demo --keep leaves running, and ./tests/demo --stop."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Dict, Iterator

import pytest

DEMO = Path(__file__).parents[1] / "demo.d"
LIMIT = 120


class Demo:
    """kept.py as ./tests/demo runs it, in a folder of its own."""

    def __init__(self, folder: Path, agent: str) -> None:
        self.folder = folder
        self.env: Dict[str, str] = {
            "PATH": os.environ["PATH"],
            "AGENT": agent,
            "PYTHONPATH": str(DEMO.parent),
            "SCRATCH": str(folder),
            "LC_ALL": "C.UTF-8",
        }

    def run(self, action: str) -> "subprocess.CompletedProcess[str]":
        """Start or stop the emulator."""
        command = [sys.executable, str(DEMO / "kept.py"), action]
        return subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=LIMIT, check=False)

    def shell(self, script: str) -> "subprocess.CompletedProcess[str]":
        """Commands in a shell of a user."""
        env = {"PATH": os.environ["PATH"], "AWS_PROFILE": "of-the-user", "http_proxy": "http://127.0.0.1:9"}
        return subprocess.run(
            ["bash", "-uc", script], env=env, capture_output=True, text=True, timeout=LIMIT, check=False
        )

    @property
    def process(self) -> int:
        """The ID of the emulator that is recorded."""
        return int(json.loads((self.folder / "demo" / "process.json").read_text(encoding="utf-8"))["process"])


@pytest.fixture
def demo(tmp_path, program) -> Iterator[Demo]:
    running = Demo(tmp_path, program)
    yield running
    running.run("stop")


def is_running(process: int) -> bool:
    stat = Path(f"/proc/{process}/stat")
    return stat.exists() and stat.read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"


def test_the_printed_commands_work_and_stop_ends_the_emulator(demo):
    started = demo.run("start")
    assert started.returncode == 0, started.stdout + started.stderr
    assert demo.run("start").returncode == 1, "one at a time"
    process = demo.process
    assert is_running(process)
    commands = re.findall(r"^ +\$ ((?:.*\\\n)*.*)$", started.stdout, re.MULTILINE)
    environment, *tries, last = commands
    assert last == "./tests/demo --stop"
    found = [demo.shell(f"{environment}\n{command}") for command in tries]
    assert [re.search(r"-o (\S+)", c)[1] for c in tries] == ["list", "validate-all", "status", "off", "status", "on"]
    assert [done.returncode for done in found] == [0, 0, 0, 0, 2, 0], [done.stderr for done in found]
    assert "node1" in found[0].stdout
    assert found[3].stdout == "Success: Powered OFF\n"
    stopped = demo.run("stop")
    assert stopped.returncode == 0
    assert str(process) in stopped.stdout
    assert not is_running(process)
    assert not (demo.folder / "demo").exists()


def test_stop_ends_no_process_that_is_not_the_emulator(demo):
    """The recorded process has ended, and another one has its ID."""
    with subprocess.Popen(["sleep", "60"]) as other:
        try:
            (demo.folder / "demo").mkdir()
            record = demo.folder / "demo" / "process.json"
            record.write_text(json.dumps({"process": other.pid, "started": "1"}), encoding="utf-8")
            stopped = demo.run("stop")
            assert (stopped.returncode, stopped.stdout) == (0, "demo: no emulator is running\n")
            assert other.poll() is None
        finally:
            other.kill()
