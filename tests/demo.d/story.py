"""The story that ./tests/demo tells. Each step is checked against what the emulator holds, not against words."""

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
    """Interfaces have their own groups, and there are no tags of ours."""
    stage.show(NODE)
    stage.command("status", NODE, code=0)
    must(not stage.tags(NODE), f"{NODE} has tags of the agent before anything happened")


def fenced(stage: Stage) -> None:
    """Only the isolation group is left, and the tags hold the groups that were there."""
    before = stage.state(NODE)["interfaces"]
    said = stage.command("off", NODE, 0, f"--untrack-secg={stage.ec2.world.open}")
    terminal.say("Through the group that allows everything: no warning that established connections may survive", 4)
    must("established connections" not in said, "it warns of established connections")
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
    """The groups on record are back, then the record goes."""
    wanted = stage.record(NODE)
    stage.command("on", NODE, code=0)
    stage.show(NODE)
    state = stage.state(NODE)
    must(bool(wanted) and state["interfaces"] == wanted, "the interfaces do not have the groups on record")
    must(not stage.tags(NODE), "tags of the agent are left")
    stage.command("status", NODE, code=0)


def by_stdin(stage: Stage) -> None:
    """Options on stdin; reboot means off until on."""
    before = stage.state(OTHER)["interfaces"]
    stage.pacemaker("reboot", OTHER, code=0)
    stage.show(OTHER)
    _must_be_isolated(stage, OTHER, before)


def _must_be_isolated(stage: Stage, node: str, before: Dict[str, Any]) -> None:
    now = stage.state(node)["interfaces"]
    must(now == {i: [stage.ec2.world.isolation] for i in before}, "an interface is not isolated")
    must(stage.record(node) == before, "the tags do not hold the groups that were there")


STORY: Tuple[Tuple[str, Callable[[Stage], None]], ...] = (
    ("1. A healthy node", healthy),
    ("2. off: the original groups go into tags, then through untrack_secg to the group without rules", fenced),
    (f"3. off of the machine that the agent runs on ({HERE}) is refused", refused),
    ("4. on: the groups on record come back, then the tags go", back),
    ("5. Pacemaker's way: options on stdin; reboot means off, until on", by_stdin),
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
    """Set the stage, tell the story, clear away."""
    started = time.monotonic()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        from ec2.server import Ec2Server  # takes a second, in which Ctrl-C is to work too

        with tempfile.TemporaryDirectory(dir=os.environ["SCRATCH"]) as folder, Ec2Server() as ec2:
            code = tell(Stage(ec2, Path(folder), os.environ["AGENT"]))
        if code == 0:
            terminal.say()
            text = f"All {len(STORY)} steps did what they should, in {time.monotonic() - started:.1f} s."
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
