"""The emulator that ./tests/demo --keep leaves running, and its end: python kept.py start|stop.

It listens on 127.0.0.1, ends by itself after SECONDS, and is recorded with its process ID and start time in
build/demo, so that ``stop`` ends this process and no other.
"""

import json
import os
import select
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Dict, List, Optional

import terminal

FOLDER = Path(os.environ["SCRATCH"]) / "demo"
RECORD, REPLY, LOG = FOLDER / "process.json", FOLDER / "emulator.json", FOLDER / "emulator.log"
ENVIRONMENT, DMI = FOLDER / "environment", FOLDER / "board_asset_tag"
SECONDS = 4 * 3600  # for which it runs at most
START_SECONDS, STOP_SECONDS, LOOK = 60, 10, 0.05
HERE, NODE = "node3", "node1"  # the machine that the agent runs on; the one to fence


def start_time(process: int) -> Optional[str]:
    """When a process was started, in the kernel's ticks; None if there is none. A reused ID has another time."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return stat.rpartition(")")[2].split()[19]


def recorded() -> Optional[int]:
    """The process ID of the emulator that runs."""
    try:
        known = json.loads(RECORD.read_text(encoding="utf-8"))
        process, started = int(known["process"]), known["started"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return process if started is not None and start_time(process) == started else None


def start() -> int:
    """Start the emulator in the background, and print what to try; the exit code."""
    if recorded() is not None:
        terminal.say("demo: an emulator is already running; end it with ./tests/demo --stop", 0)
        return 1
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    command = [sys.executable, "-m", "ec2", "--seconds", str(SECONDS)]
    with REPLY.open("w", encoding="utf-8") as reply, LOG.open("w", encoding="utf-8") as log:
        emulator = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=reply, stderr=log, start_new_session=True
        )
    known = {"process": emulator.pid, "started": start_time(emulator.pid)}
    RECORD.write_text(json.dumps(known), encoding="utf-8")
    end = time.monotonic() + START_SECONDS
    while not REPLY.read_text(encoding="utf-8").endswith("\n"):
        if emulator.poll() is not None or time.monotonic() > end:
            emulator.kill()
            terminal.say(f"demo: the emulator did not start; see {LOG}", 0)
            return 1
        time.sleep(LOOK)
    _show(json.loads(REPLY.read_text(encoding="utf-8")), emulator.pid)
    return 0


def _environment(world: Dict[str, Any]) -> str:
    """Shell commands that set up a shell for the agent and for the AWS CLI."""
    values = {
        "AWS_ACCESS_KEY_ID": world["access_key"],
        "AWS_SECRET_ACCESS_KEY": world["secret_key"],
        "AWS_DEFAULT_REGION": world["region"],
        "AWS_ENDPOINT_URL": world["endpoint"],
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "FENCE_AWS_VPC_NET_DMI": str(DMI),
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }
    lines = [f"export {name}={shlex.quote(str(value))}" for name, value in values.items()]
    path = shlex.quote(str(Path(os.environ["AGENT"]).parent))
    return "\n".join(["unset AWS_PROFILE AWS_SESSION_TOKEN", f"export PATH={path}:$PATH", *lines]) + "\n"


def _commands(world: Dict[str, Any]) -> List[List[str]]:
    """What to try, as words to print."""
    groups, plug = world["groups"], world["nodes"][NODE]
    device = [
        f"--endpoint-url={world['endpoint']} --settle-time=1",
        f"--secg={groups['isolation']} --invert-sg-removal",
        f"--untrack-secg={groups['open']}",
    ]
    actions = ("validate-all", "status", "off", "status", "on")
    listing = [[f"fence_aws_vpc_net -o list -r {world['region']}", device[0].split()[0]]]
    return listing + [[f"fence_aws_vpc_net -o {a} -n {plug} -r {world['region']}", *device] for a in actions]


def _show(world: Dict[str, Any], process: int) -> None:
    DMI.write_text(f"{world['nodes'][HERE]}\n", encoding="ascii")
    ENVIRONMENT.write_text(_environment(world), encoding="utf-8")
    terminal.heading(
        f"An EC2 emulator is running at {world['endpoint']} (process {process}, {SECONDS // 3600} hours)"
    )
    for name, instance in world["nodes"].items():
        terminal.say(
            f"{name} = {instance}" + (" (the machine that runs the agent: off is refused)" if name == HERE else "")
        )
    terminal.say("In another shell, because this replaces its AWS credentials:")
    terminal.say()
    terminal.command([f". {shlex.quote(str(ENVIRONMENT))}"])
    for words in _commands(world):
        terminal.command(words)
    terminal.say()
    terminal.say("Other commands of the agent need --endpoint-url too: boto3 before 1.28 ignores AWS_ENDPOINT_URL,")
    terminal.say("as does an AWS CLI of that age.")
    terminal.say("This ends it:")
    terminal.command(["./tests/demo --stop"])


def stop() -> int:
    """End the emulator; the exit code."""
    process = recorded()
    if process is None:
        terminal.say("demo: no emulator is running", 0)
        return 0
    try:
        handle = os.pidfd_open(process)  # this process, also if its ID is reused meanwhile
    except ProcessLookupError:
        handle = None
    if handle is not None and recorded() == process:
        for number in (signal.SIGTERM, signal.SIGKILL):
            signal.pidfd_send_signal(handle, number)
            if select.select([handle], [], [], STOP_SECONDS)[0]:
                break
    shutil.rmtree(FOLDER, ignore_errors=True)
    terminal.say(f"demo: the emulator has ended (process {process})", 0)
    return 0


if __name__ == "__main__":
    sys.exit({"start": start, "stop": stop}[sys.argv[1]]())
