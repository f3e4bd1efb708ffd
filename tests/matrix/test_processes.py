"""The installed agent as a process: a real SIGKILL at every call, before and after it takes effect."""

import functools
import os
import select
import signal
import subprocess
import threading
import time

import pytest
from fork_server import ForkServers

from .case import KILLS, RUNS, cases, wrong
from .world import SECONDS, Outcome

pytestmark = pytest.mark.timeout(300)  # seconds, for a part
PARTS = 2
ACTIONS = ("off", "on", "on after two", "return")


@pytest.fixture(scope="module")
def servers():
    """What runs the agent at less cost."""
    if "AGENT" not in os.environ:
        pytest.fail("AGENT does not name the installed agent: run ./tests/check")
    with ForkServers(os.environ["AGENT"]) as made:
        yield made


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
    run = ordinary
    if servers.can_run(env):
        run = forked
        servers.start(env)
    began = time.monotonic()
    code, err = run(servers, scene, text, env)
    seconds = time.monotonic() - began
    if code == -signal.SIGKILL:
        return Outcome(None, seconds=seconds)
    error = err.strip().splitlines()[-1].partition("ERROR: ")[2] if code else ""
    foreign = err if "Traceback" in err or "internal error" in err or (code and not error) else ""
    return Outcome(code, error, error.partition(" error:")[0], seconds, foreign)


def forked(servers, scene, text, env):
    """Exit code and stderr of a run from a fork server."""
    known, pidfds = threading.Event(), []

    def started(pid):
        pidfds.append(os.pidfd_open(pid))
        known.set()

    def kill():
        assert known.wait(30)  # the run may be quicker than who started it
        signal.pidfd_send_signal(pidfds[0], signal.SIGKILL)
        select.select(pidfds, [], [])

    scene.kill = kill
    done = servers.run([], text, env, 60, started)
    os.close(pidfds[0])
    return done.returncode, done.stderr


def ordinary(_servers, scene, text, env):
    """The same of a process of its own."""
    command = [*os.environ.get("AGENT_RUNNER", "").split(), os.environ["AGENT"]]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=env) as running:

        def kill():
            running.send_signal(signal.SIGKILL)
            running.wait()

        scene.kill = kill
        _, err = running.communicate(text, timeout=60)
    return running.returncode, err


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
def test_real_processes(bench, servers, action, part, record_property):
    found = kills(bench, action)[part::PARTS]
    lines = [line for case in found for line in wrong(bench, case, functools.partial(process, servers))]
    record_property("processes that were killed", len(found))
    assert found
    assert not lines, "\n".join([f"{len(lines)} of {len(found)} cases:", *lines])
