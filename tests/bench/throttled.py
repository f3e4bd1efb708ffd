"""Thirty nodes of one account are fenced at once, and other software uses half of what EC2 allows."""

import os
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, List, Tuple

NODES, INTERFACES, SHARE, DEADLINE = 30, 3, 0.5, 45.0


def fence(made: Any, node: str) -> Tuple[int, float, str]:
    """(exit code, seconds, stderr) of a process that is told to fence it."""
    began = time.monotonic()
    done = subprocess.run(
        [os.environ["AGENT"]],
        input=made.options("off", node) + f"deadline={DEADLINE:.0f}\nverbose=1\n",
        capture_output=True,
        text=True,
        env=made.env,
        timeout=2 * DEADLINE,
        check=False,
    )
    return done.returncode, time.monotonic() - began, done.stderr


def play(made: Any, nodes: int = NODES) -> int:
    """1 if one of them did not finish."""
    made.emulator("delay", 0.05)
    ids: List[str] = [made.emulator("node", INTERFACES) for _ in range(nodes)]
    made.emulator("limit", SHARE)
    made.emulator("calls")
    with ThreadPoolExecutor(nodes) as pool:
        results = list(pool.map(lambda node: fence(made, node), ids))
    seconds = sorted(s for _, s, _ in results)
    failed = [err for code, _, err in results if code]
    isolated = made.emulator("isolated", ids)
    print(f"{nodes} nodes of {INTERFACES} interfaces at once, {SHARE:.0%} of EC2's limits, deadline {DEADLINE:.0f} s")
    print(f"seconds: median {seconds[nodes // 2]:.1f}, slowest {seconds[-1]:.1f}; isolated: {isolated}; calls:")
    print(made.emulator("calls"))
    print("\n".join(failed))
    return int(bool(failed) or isolated != nodes)
