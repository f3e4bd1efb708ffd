"""The installed agent as a process: a real SIGKILL at every call, and a rotating part of the other faults.

What follows a faulted run, and the looks from outside, are those of the other cases, and so is FENCE_MATRIX_CASE.
"""

import os
import random
import signal
import subprocess
import time

import pytest

from .case import ACTIONS, Trial, cases, named
from .world import MODES, SECONDS, Outcome

ONE = os.environ.get("FENCE_MATRIX_CASE")
pytestmark = pytest.mark.timeout(600)  # seconds, for all cases of a mode
PARTS = 2
DRAWN = 10  # of the faults that do not kill, a part


def process(scene, action):
    """The faulted run as Pacemaker starts it."""
    key, server = scene.server.key, scene.server
    options = {
        **scene.options, "action": action, "plug": scene.node, "region": server.region,
        "access_key": key.access_key, "secret_key": key.secret_key, "endpoint_url": server.endpoint,
        "api_timeout": 1, "deadline": int(SECONDS), "nodename": "node1",
    }  # fmt: skip
    text = "".join(f"{k}={1 if v is True else v}\n" for k, v in options.items())
    env = {k: os.environ[k] for k in ("PATH", "PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX") if k in os.environ}
    own = {k: os.environ[k] for k in ("FENCE_AWS_VPC_NET_DMI", "AWS_EC2_METADATA_DISABLED")}
    command = [*os.environ.get("AGENT_RUNNER", "").split(), os.environ["AGENT"]]
    began = time.monotonic()
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env={**env, **own}) as running:

        def kill():
            running.send_signal(signal.SIGKILL)
            running.wait()

        scene.killing = kill
        _, err = running.communicate(text, timeout=60)
    seconds = time.monotonic() - began
    if running.returncode == -signal.SIGKILL:
        return Outcome(None, seconds=seconds)
    error = err.strip().splitlines()[-1].partition("ERROR: ")[2] if running.returncode else ""
    foreign = err if "Traceback" in err or "internal error" in err or (running.returncode and not error) else ""
    return Outcome(running.returncode, error, error.partition(" error:")[0], seconds, foreign)


ASSOCIATIONS = "DescribeSecurityGroupVpcAssociations"  # which the distribution's SDK may not know


def drawn(bench, action, seed):
    """Both kills at every call, in a mode that has it; and some others. To a process "late" is not late enough."""
    chosen = random.Random(f"{seed}/{action}/processes")
    found = [c for mode in MODES for c in cases(bench, mode, action)]
    found = [c for c in found if c.kind.name != "late" and "for-ever" not in c.kind.name]
    found = [c for c in found if c.point.action != ASSOCIATIONS]
    chosen.shuffle(found)
    kills = {(c.point.name, c.kind.name): c for c in found if c.kind.name.startswith("kill")}
    others = [c for c in found if not c.kind.name.startswith("kill")]
    return [kills[k] for k in sorted(kills)] + others[: DRAWN * PARTS]


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("action", ACTIONS)
def test_real_processes(bench, matrix_seed, action, part, record_property):
    if "AGENT" not in os.environ:
        pytest.fail("AGENT does not name the installed agent: run ./tests/check")
    if ONE:
        found = [named(bench, ONE)] if ONE.split("/")[1] == action and part == 0 else []
    else:
        found = drawn(bench, action, matrix_seed)[part::PARTS]
    wrong = [line for case in found for line in Trial(bench, case).run(process)]
    record_property("fault cases as processes", len(found))
    print(f"processes, {action}, {part}: {len(found)} cases, {len(wrong)} wrong, seed {matrix_seed}")
    assert found or ONE
    assert not wrong, "\n".join([f"{len(wrong)} of {len(found)} cases, seed {matrix_seed}:", *wrong])
