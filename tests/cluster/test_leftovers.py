"""Whatever ends a run, nothing of it stays."""

import os
import signal
import subprocess
import sys

import pytest

from . import names
from .bed import BEDS, TOP
from .shell import run, wait

DEAD = 2**22 + 1  # more than any process ID


def left(pid):
    """Namespaces and folders of a run."""
    prefix = f"fence-bed-{pid}"
    folders = [p.name for p in BEDS.iterdir() if p.name.startswith(prefix + "-")] if BEDS.is_dir() else []
    return names.namespaces(prefix) + folders


@pytest.fixture
def demo(machine):
    """./tests/demo --cluster after its set-up, running; ended in any case."""
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


def test_the_demo_leaves_nothing_when_it_is_interrupted(demo):
    assert any(" is down" in line for line in demo.stdout), "it did not come to the cut of the link"
    spaces = names.namespaces(f"fence-bed-{demo.pid}")
    assert len(spaces) == 6
    demo.send_signal(signal.SIGINT)
    said, _ = demo.communicate(timeout=60)
    assert demo.returncode == 130
    assert said.endswith("demo: interrupted\n")
    assert left(demo.pid) == []


def test_what_a_killed_run_left_is_removed_and_what_runs_is_not(machine):
    for pid in (DEAD, os.getpid()):
        run("ip", "netns", "add", f"fence-bed-{pid}-99-aws")
        (BEDS / f"fence-bed-{pid}-99").mkdir(parents=True)
    try:
        names.remove_leftovers(BEDS)
        assert left(DEAD) == []
        assert len(left(os.getpid())) >= 2
    finally:
        names.remove(f"fence-bed-{os.getpid()}-99")
        (BEDS / f"fence-bed-{os.getpid()}-99").rmdir()


def test_a_run_that_is_killed_takes_its_nodes_with_it(demo):
    assert any(line.startswith("  up ") for line in demo.stdout), "it did not come up"
    spaces = names.namespaces(f"fence-bed-{demo.pid}")
    assert sum(len(names.processes_in(space)) for space in spaces) > 20
    demo.kill()
    demo.wait()
    wait("no process is left", lambda: not any(names.processes_in(space) for space in spaces), 20)
    names.remove_leftovers(BEDS)
    assert left(demo.pid) == []
