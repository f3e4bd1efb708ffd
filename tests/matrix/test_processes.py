"""The installed agent as a process: a real SIGKILL at every call, before and after it takes effect."""

import functools
import os
import signal
import subprocess
import threading
import time

import pytest

from .case import ACTIONS, KILLS, RUNS, cases, wrong
from .world import SECONDS, Outcome

pytestmark = pytest.mark.timeout(300)  # seconds, for a part
PARTS = 2


def process(servers, scene, action):
    """The faulted run as Pacemaker starts it."""
    key, server = scene.server.key, scene.server
    options = {
        **scene.options, "action": action, "plug": scene.node, "region": server.region,
        "access_key": key.access_key, "secret_key": key.secret_key, "endpoint_url": server.endpoint,
        "api_timeout": 1, "deadline": int(SECONDS), "nodename": "node1",
    }  # fmt: skip
    if action == "return":
        options["action"] = "monitor"
        del options["plug"]  # as Pacemaker calls it
    text = "".join(f"{k}={1 if v is True else v}\n" for k, v in options.items())
    env = {k: os.environ[k] for k in ("PATH", "PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX") if k in os.environ}
    own = {k: os.environ[k] for k in ("FENCE_AWS_VPC_NET_DMI", "AWS_EC2_METADATA_DISABLED")}
    env.update(own)
    if servers.can_run(env):
        servers.start(env)
    began = time.monotonic()
    code, err = run(servers, scene, text, env)
    seconds = time.monotonic() - began
    if code == -signal.SIGKILL:
        return Outcome(None, seconds=seconds)
    error = err.strip().splitlines()[-1].partition("ERROR: ")[2] if code else ""
    foreign = err if "Traceback" in err or "internal error" in err or (code and not error) else ""
    return Outcome(code, error, error.partition(" error:")[0], seconds, foreign)


def run(servers, scene, text, env):
    """Exit code and stderr."""
    known, streams = threading.Event(), dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    running = []

    def kill():
        assert known.wait(30)  # the run may be quicker than who started it
        running[0].kill()
        running[0].wait()

    scene.kill = kill
    if servers.can_run(env):
        running.append(servers.popen([], env, **streams))
    else:
        command = [*os.environ.get("AGENT_RUNNER", "").split(), os.environ["AGENT"]]
        running.append(subprocess.Popen(command, text=True, env=env, **streams))
    known.set()
    with running[0]:
        try:
            _, err = running[0].communicate(text, timeout=60)
        finally:
            running[0].kill()
    return running[0].returncode, err


ASSOCIATIONS = "DescribeSecurityGroupVpcAssociations"  # which the distribution's SDK may not know


def kills(bench, action):
    """Both kills at every call that a run makes in some mode, each in one of those modes, in turn; of a return only
    those after a call, as it makes the next one at once."""
    kinds = KILLS[1:] if action == "return" else KILLS
    by_name = {}
    for mode, _ in (run for run in RUNS if run[1] == action):
        for case in cases(bench, mode, action, kinds):
            if case.point.action != ASSOCIATIONS:
                by_name.setdefault((case.point.name, case.kind.name), []).append(case)
    return [some[n % len(some)] for n, (_, some) in enumerate(sorted(by_name.items()))]


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("action", ACTIONS)
def test_real_processes(bench, fork_servers, action, part, record_property):
    found = kills(bench, action)[part::PARTS]
    lines = [line for case in found for line in wrong(bench, case, functools.partial(process, fork_servers))]
    record_property("processes that were killed", len(found))
    assert found
    assert not lines, "\n".join([f"{len(lines)} of {len(found)} cases:", *lines])
