"""Runs pytest in forks of a process that has loaded it, as that takes longer than most tests of the core.

A line of standard input is a job: {"folder": …, "arguments": […], "output": file, "limit": seconds}. The line of
standard output for it is the exit code, or -1 where the limit was over. What is tested is imported in the fork only.
"""

import contextlib
import importlib
import json
import os
import select
import signal
import sys
from typing import Any, Dict

MODULES = (
    "pytest _pytest.config _pytest.python _pytest.fixtures _pytest.terminal _pytest.junitxml _pytest.pytester"
    " unittest xdist.plugin pytest_timeout _hypothesis_pytestplugin hypothesis hypothesis.strategies"
    " hypothesis.stateful json logging re dataclasses"
).split()


def run(job: Dict[str, Any]) -> int:
    """The exit code of pytest; -1 if it did not end in time."""
    pid = os.fork()
    if not pid:
        _become(job)
    descriptor = os.pidfd_open(pid)
    try:
        if not select.select([descriptor], [], [], job["limit"])[0]:
            os.killpg(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return -1
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    finally:
        os.close(descriptor)


def _become(job: Dict[str, Any]) -> None:
    os.setpgid(0, 0)
    output = os.open(job["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    for descriptor, source in ((0, os.open(os.devnull, os.O_RDONLY)), (1, output), (2, output)):
        os.dup2(source, descriptor)
    os.chdir(job["folder"])
    sys.path[0] = job["folder"]
    import pytest

    code = 1
    try:
        code = int(pytest.main(job["arguments"]))
        sys.stdout.flush()
    finally:
        os._exit(code)


if __name__ == "__main__":
    for name in MODULES:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    for line in sys.stdin:
        print(run(json.loads(line)), flush=True)
