"""Nothing is left after a run, however it ends."""

import os
import signal
import subprocess
import sys

import pytest

from . import names
from .bed import BEDS, TOP
from .shell import run, wait

DEAD = 2**22 + 1  # more than any process ID


def leftovers(pid):
    """Namespaces and folders of a run."""
    prefix = f"fence-bed-{pid}"
    folders = [p.name for p in BEDS.iterdir() if p.name.startswith(prefix + "-")] if BEDS.is_dir() else []
    return names.namespaces(prefix) + folders


@pytest.fixture
def demo(machine):
    """./tests/demo --cluster without its set-up, running; killed at the end of the test."""
    env = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "PYTHONPATH": "tests",
        "PYTHONDONTWRITEBYTECODE": "1",
        "AGENT": os.environ["AGENT"],
    }
    story = [sys.executable, "-u", "tests/demo.d/cluster_story.py"]
    with subprocess.Popen(
        story, cwd=TOP, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as running:
        yield running
        running.kill()


def test_interrupted_demo_leaves_nothing(demo):
    assert any(" is down" in line for line in demo.stdout), "it did not reach the step that sets the link down"
    spaces = names.namespaces(f"fence-bed-{demo.pid}")
    assert len(spaces) == 6
    demo.send_signal(signal.SIGINT)
    output, _ = demo.communicate(timeout=60)
    assert demo.returncode == 130
    assert output.endswith("demo: interrupted\n")
    assert leftovers(demo.pid) == []


def test_next_run_removes_only_what_killed_runs_left(machine):
    for pid in (DEAD, os.getpid()):
        run("ip", "netns", "add", f"fence-bed-{pid}-99-aws")
        (BEDS / f"fence-bed-{pid}-99").mkdir(parents=True)
    try:
        names.remove_leftovers(BEDS)
        assert leftovers(DEAD) == []
        assert len(leftovers(os.getpid())) >= 2
    finally:
        names.remove(f"fence-bed-{os.getpid()}-99")
        (BEDS / f"fence-bed-{os.getpid()}-99").rmdir()


def test_killed_demo_ends_its_nodes(demo):
    assert any(line.startswith("  up ") for line in demo.stdout), "the cluster did not start"
    spaces = names.namespaces(f"fence-bed-{demo.pid}")
    assert sum(len(names.processes_in(space)) for space in spaces) > 20
    demo.kill()
    demo.wait()
    wait("no process is left", lambda: not any(names.processes_in(space) for space in spaces), 20)
    names.remove_leftovers(BEDS)
    assert leftovers(demo.pid) == []
