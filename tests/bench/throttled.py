"""Many nodes of one account are fenced at once, and other software uses half of what EC2 allows.

The agents are forked from a process that has loaded the libraries: to start a hundred interpreters on two cores would
take longer than EC2's limits. In a cluster each fencer has a machine of its own.
"""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, List, Tuple

from fork_server import ForkServers

SHARE = 0.5
SIZE, REFILL = 100 * SHARE, 5 * SHARE  # of the bucket of ModifyNetworkInterfaceAttribute: calls, calls per second
SETTLE = 5  # seconds, the default
MOST = 1.2  # times what the bucket allows
THROTTLED = "RequestLimitExceeded"


@dataclass(frozen=True)
class Crowd:
    """So many nodes, and the deadline of "Many nodes at once" in doc/setup.md for them."""

    nodes: int
    interfaces: int
    deadline: int

    @property
    def changes(self) -> int:
        """One for each interface."""
        return self.nodes * self.interfaces

    @property
    def allowed(self) -> float:
        """Seconds from the first change, at which the bucket is full, until it has let the last one through."""
        return (self.changes - SIZE) / REFILL


CROWDS = (Crowd(30, 3, 45), Crowd(100, 2, 90))


def fence(made: Any, servers: ForkServers, node: str, deadline: int) -> Tuple[int, float, str]:
    """(exit code, the time at its end, stderr) of an agent that is told to fence it."""
    given = made.options("off", node, settle=SETTLE) + f"deadline={deadline}\nverbose=1\n"
    env = {name: value for name, value in made.env.items() if name != "LC_ALL"}  # see ForkServers.can_run
    done = servers.run([], given, env, 2 * deadline)
    return done.returncode, time.monotonic(), done.stderr


def play(made: Any, agent: str, rounds: int) -> int:
    """1 if a node was not fenced, or all together took too long in the median of the rounds."""
    missed = False
    with ForkServers(agent) as servers:
        for crowd in CROWDS:
            print(
                f"{crowd.nodes} nodes of {crowd.interfaces} interfaces at once, {SHARE:.0%} of EC2's limits, "
                f"deadline {crowd.deadline} s: the bucket allows {crowd.changes} changes in {crowd.allowed:.1f} s"
            )
            ratios = [_round(made, servers, crowd) for _ in range(rounds)]
            missed = missed or sorted(ratios)[rounds // 2] > MOST
    return int(missed)


def _round(made: Any, servers: ForkServers, crowd: Crowd) -> float:
    """The time from the first change to the end of the last agent, without settle_time, in multiples of what the
    bucket allows."""
    made.emulator("delay", 0.05)
    made.emulator("limit", 0)
    ids: List[str] = [made.emulator("node", crowd.interfaces) for _ in range(crowd.nodes)]
    made.emulator("limit", SHARE)
    made.emulator("calls")
    began = time.monotonic()
    with ThreadPoolExecutor(crowd.nodes) as pool:
        results = list(pool.map(lambda node: fence(made, servers, node, crowd.deadline), ids))
    failed = [err.strip().splitlines()[-1] for code, _, err in results if code]
    changes = made.emulator("changes")
    print("".join(f"  {line}\n" for line in failed), end="")
    first = min(at for at, _, _ in changes)
    accepted = max(ended for _, ended, error in changes if not error)
    ends = sorted(end - SETTLE for _, end, _ in results)
    isolated = made.emulator("isolated", ids)
    ratio = (ends[-1] - first) / crowd.allowed if not failed and isolated == crowd.nodes else float("inf")
    print(
        f"  first change {first - began:.1f} s after the start; from then: last change {accepted - first:.1f} s,"
        f" end without settle_time: median {ends[len(ends) // 2] - first:.1f} s, last {ends[-1] - first:.1f} s"
        f" = {ratio:.2f} times; isolated: {isolated}; calls: {made.emulator('calls')}",
        flush=True,
    )
    return ratio
