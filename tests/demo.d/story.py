"""The story of ./tests/demo. Each step is checked against the state of the emulator, not against texts."""

import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, Dict, Tuple

import terminal
from stage import HERE, Failed, Stage, must

NODE, OTHER = "node1", "node2"


def healthy(stage: Stage) -> None:
    """The interfaces have their own groups, and the instance has no tags of the agent."""
    stage.show(NODE)
    stage.command("status", NODE, code=0)
    must(not stage.tags(NODE), f"{NODE} has tags of the agent before anything happened")


def fenced(stage: Stage) -> None:
    """Only the isolation group is left, and the tags hold the original groups."""
    before = stage.state(NODE)["interfaces"]
    said = stage.command("off", NODE, 0, f"--untrack-secg={stage.ec2.world.open}")
    terminal.say("With untrack_secg: no warning that established connections may survive", 4)
    must("established connections" not in said, "off warns of established connections")
    stage.show(NODE)
    _must_be_isolated(stage, NODE, before)
    stage.command("status", NODE, code=2)


def refused(stage: Stage) -> None:
    """Nothing is written, nothing is changed."""
    before = stage.ec2.snapshot()
    said = stage.command("off", HERE, code=1)
    must("Self-fencing detected" in said, "refused for another reason")
    must(stage.ec2.snapshot() == before, "a refusal changed something")


def back(stage: Stage) -> None:
    """The groups of the backup are restored, then the backup is deleted."""
    wanted = stage.backup(NODE)
    stage.command("on", NODE, code=0)
    stage.show(NODE)
    state = stage.state(NODE)
    must(bool(wanted) and state["interfaces"] == wanted, "the interfaces do not have the groups of the backup")
    must(not stage.tags(NODE), "tags of the agent are left")
    stage.command("status", NODE, code=0)


def by_stdin(stage: Stage) -> None:
    """Options on stdin; reboot is the same as off."""
    before = stage.state(OTHER)["interfaces"]
    stage.pacemaker("reboot", OTHER, code=0)
    stage.show(OTHER)
    _must_be_isolated(stage, OTHER, before)


def _must_be_isolated(stage: Stage, node: str, before: Dict[str, Any]) -> None:
    now = stage.state(node)["interfaces"]
    must(now == {i: [stage.ec2.world.isolation] for i in before}, "an interface is not isolated")
    must(stage.backup(node) == before, "the tags do not hold the original groups")


STORY: Tuple[Tuple[str, Callable[[Stage], None]], ...] = (
    ("1. A healthy node", healthy),
    ("2. off: saves the original groups in tags, then sets untrack_secg, then the group without rules", fenced),
    (f"3. off of {HERE}, the machine that runs the agent, is refused", refused),
    ("4. on: restores the groups of the backup, then deletes the tags", back),
    ("5. As Pacemaker runs it: options on stdin; reboot is the same as off", by_stdin),
)


def tell(stage: Stage) -> int:
    """The exit code."""
    terminal.say(
        f"fence_aws_vpc_net {stage.version()}, installed in build/install, against an EC2 emulator on 127.0.0.1", 0
    )
    terminal.say("Credentials come from the environment. The log is shortened: groups by name, no times.", 0)
    for title, step in STORY:
        terminal.heading(title)
        try:
            step(stage)
        except Failed as reason:
            terminal.say(terminal.paint(f"demo: failed at step {title}: {reason}", "red"), 0)
            return 1
    return 0


def main() -> int:
    """Start the emulator, run the steps, clean up."""
    started = time.monotonic()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        from ec2.server import Ec2Server  # takes a second, in which Ctrl-C is to work too

        with tempfile.TemporaryDirectory(dir=os.environ["SCRATCH"]) as folder, Ec2Server() as ec2:
            code = tell(Stage(ec2, Path(folder), os.environ["AGENT"]))
        if code == 0:
            terminal.say()
            text = f"All {len(STORY)} steps succeeded, in {time.monotonic() - started:.1f} s."
            terminal.say(terminal.paint(text, "green"), 0)
        return code
    except KeyboardInterrupt:
        print("demo: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever read along has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


if __name__ == "__main__":
    sys.exit(main())
