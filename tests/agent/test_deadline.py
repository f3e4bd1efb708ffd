"""The deadline holds for the whole run: if anything hangs, the agent ends, reports why, and reports no false success.

Agents that hang run concurrently, because they only wait.
"""

import os
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from assertions import contents, groups, is_isolated, our_tags
from ec2.faults import Delay, Stall, Trickle
from result import Result
from tarpit import HEAD, Tarpit

DEADLINE = 8  # seconds; enough to get to what hangs, on a busy machine too
LIMIT = 120  # seconds after which it hangs
READ, CHANGE = "DescribeInstances", "ModifyNetworkInterfaceAttribute"
HANGING_DNS = Path(__file__).with_name("hanging_dns.py")
SET_FORWARDS = """
import threading
wait = threading.Event.wait
threading.Event.wait = lambda event, timeout=None: wait(event) if timeout is None else event.is_set()
"""


@pytest.fixture
def pits():
    """Servers that say nothing, or some bytes a second of the head, or of the body.

    The pause is well below the second after which the SDK gives up on instance metadata.
    """
    with ExitStack() as stack:
        kinds = {"silent": Tarpit(), "head": Tarpit(pause=0.3), "body": Tarpit(HEAD, 0.3)}
        yield {name: stack.enter_context(pit) for name, pit in kinds.items()}


class SideBySide:
    """Agents that run at the same time."""

    def __init__(self, agent):
        self.agent = agent
        self.running = {}

    def start(self, why, action, plug, before=(), options=None, **environment):
        """``before``: words in front of the agent's; None takes a variable away."""
        env = {k: v for k, v in {**self.agent.env, **environment}.items() if v is not None}
        arguments = self.agent.arguments(action, plug, **(options or {}))
        none, pipe = subprocess.DEVNULL, subprocess.PIPE
        if before:
            command = [*before, os.environ["AGENT"], *arguments]
            process = subprocess.Popen(command, stdin=none, stdout=pipe, stderr=pipe, text=True, env=env)
        else:
            process = replace(self.agent, env=env).start(*arguments, stdin=none)
        self.running[why] = (process, time.monotonic())

    def results(self):
        """How each ended; the seconds are too many rather than too few."""
        found = {}
        for why, (process, began) in self.running.items():
            out, err = process.communicate(timeout=LIMIT)
            found[why] = Result(process.returncode, out, err, time.monotonic() - began)
        self.running = {}
        return found


@pytest.fixture
def agents(agent):
    made = SideBySide(agent)
    yield made
    for process, _ in made.running.values():
        process.kill()


def gave_up(result, latest=DEADLINE + 6, word="deadline error"):
    """In time, with one line that states why. A busy machine has some seconds to start the process."""
    assert result.code == 1, result
    assert result.seconds < latest, result
    assert word in result.last, result
    assert [line for line in result.lines if line.startswith("ERROR")] == [result.last]
    assert "Traceback" not in result.err


def deadlines(agents, ec2, *seconds):
    """One after the other, each in a fresh world: more time, if a busy machine has not come to what was to happen."""
    for number, each in enumerate(seconds):
        if number:
            ec2.reset()
            agents.agent.options.update(access_key=ec2.key.access_key, secret_key=ec2.key.secret_key)
            agents.agent.is_on(ec2.world.nodes["node3"])
        yield {"secg": ec2.world.isolation, "invert_sg_removal": True, "deadline": each}


def hanging_dns(folder):
    """The words before a program's that let every look-up of a name hang."""
    root = [] if os.geteuid() == 0 else ["--map-root-user"]
    return ["unshare", "--mount", "--net", *root, sys.executable, str(HANGING_DNS), str(folder)]


def slow(folder, name):
    """A search path on which the import of this module takes a minute."""
    path = folder / f"slow-{name}"
    path.mkdir()
    (path / f"{name}.py").write_text("import time\ntime.sleep(60)\n", encoding="ascii")
    return str(path)


# --- the way to the API ----------------------------------------------------------------------------------------


def test_an_api_that_blocks_ends_by_the_deadline(agents, ec2, pits):
    for options in deadlines(agents, ec2, DEADLINE, 40):
        node = ec2.world.nodes["node1"]
        for why, pit in pits.items():
            agents.start(why, "off", node, options={**options, "endpoint_url": f"http://{pit.address}"})
        tls = f"https://{pits['silent'].address}"
        agents.start("no handshake", "off", node, options={**options, "endpoint_url": tls})
        found = agents.results()
        if all(pit.taken for pit in pits.values()):
            break
    assert all(pit.taken for pit in pits.values())
    for result in found.values():
        gave_up(result, options["deadline"] + 6)


def test_a_proxy_that_blocks_ends_by_the_deadline(agents, ec2, pits):
    for options in deadlines(agents, ec2, DEADLINE, 40):
        node = ec2.world.nodes["node1"]
        for why, address in {**{k: p.address for k, p in pits.items()}, "dead": "127.0.0.1:9"}.items():
            agents.start(why, "off", node, options=options, HTTP_PROXY=f"http://{address}")
        tunnel = {**options, "endpoint_url": "https://ec2.invalid"}
        agents.start("no tunnel", "off", node, options=tunnel, HTTPS_PROXY=f"http://{pits['silent'].address}")
        found = agents.results()
        if all(pit.taken for pit in pits.values()):
            break
    assert all(pit.taken for pit in pits.values())
    for result in found.values():
        gave_up(result, options["deadline"] + 6)
    assert ec2.calls == []


# --- this machine ----------------------------------------------------------------------------------------------


def test_a_machine_that_blocks_ends_by_the_deadline(agents, ec2, keep, node, pits, tmp_path):
    """A hanging name resolution, modules on a hanging disk, credentials at one byte per second."""
    options = {**keep, "deadline": DEADLINE}
    names = {**options, "endpoint_url": "http://ec2.invalid"}
    agents.start("names", "off", node, before=hanging_dns(tmp_path), options=names)
    for module in ("boto3", "botocore"):
        agents.start(module, "off", node, options=options, PYTHONPATH=slow(tmp_path, module))
    keys = {**options, "access_key": None, "secret_key": None}
    agents.start("credentials", "off", node, options=keys, **metadata(pits["body"]))
    for result in agents.results().values():
        gave_up(result)
    assert ec2.calls == []


def test_a_hanging_library_ends_before_the_options_are_read(agents, ec2, keep, node, tmp_path):
    for module in ("fencing", "pycurl"):
        agents.start(module, "off", node, options=keep, PYTHONPATH=slow(tmp_path, module))
    for result in agents.results().values():
        gave_up(result, 18)
        assert "loading the modules" in result.last
    assert ec2.calls == []


def metadata(pit):
    """The environment that asks this server for instance metadata."""
    return {"AWS_EC2_METADATA_SERVICE_ENDPOINT": f"http://{pit.address}", "AWS_EC2_METADATA_DISABLED": None}


def test_metadata_that_hangs_ends(agents, ec2, keep, node, pits):
    """Region and credentials, which are needed, and which machine it is, which is not."""
    agents.agent.is_on(None)
    options = {**keep, "deadline": DEADLINE}
    no_region = {**options, "region": None}
    for why in ("silent", "body"):
        agents.start(why, "off", node, options=no_region, **metadata(pits[why]))
    no_keys = {**options, "access_key": None, "secret_key": None, "skip_race_check": True, "deadline": 40}
    agents.start("keys", "off", node, options=no_keys, **metadata(pits["silent"]))
    other = ec2.world.nodes["node2"]
    agents.start("identity", "off", other, options=keep, **metadata(pits["body"]))
    before = groups(ec2, node)
    found = agents.results()
    identity = found.pop("identity")
    for why, result in found.items():
        gave_up(result, *((40, "authentication error") if why == "keys" else (DEADLINE + 6, "error")))
    assert groups(ec2, node) == before
    assert identity.code == 0, identity
    assert any("cannot determine which instance this machine is" in line for line in identity.lines)
    assert identity.seconds < 20
    assert is_isolated(ec2, other, keep)


# --- the operation ---------------------------------------------------------------------------------------------


def test_a_blocked_on_ends_and_loses_nothing(agents, ec2):
    """At its first read, at its change, at its clean-up, which harms nothing."""
    for options in deadlines(agents, ec2, DEADLINE, 60):
        options["skip_race_check"] = True
        world, before = ec2.world, ec2.snapshot()
        for node in world.nodes.values():
            assert agents.agent.command("off", node, **{**options, "deadline": 60}).code == 0
        tags = {node: contents(our_tags(ec2, node)) for node in world.nodes.values()}
        first, second, third = world.nodes.values()
        changed = world.interfaces["node2"]
        stalls = [
            ec2.rules.add(READ, Stall(), when=lambda c: first in c.params.values(), times=None),  # noqa: B023
            ec2.rules.add(CHANGE, Stall(), when=lambda c: c.params["NetworkInterfaceId"] in changed, times=None),  # noqa: B023
            ec2.rules.add("DeleteTags", Stall(), times=None),
        ]
        for node in world.nodes.values():
            agents.start(node, "on", node, options=options)
        found = agents.results()
        if all(rule.fired for rule in stalls):
            break
    assert all(rule.fired for rule in stalls)
    gave_up(found[first], options["deadline"] + 6)
    gave_up(found[second], options["deadline"] + 6)
    assert found[third].code == 0
    assert found[third].seconds < options["deadline"] + 6
    assert {node: contents(our_tags(ec2, node)) for node in world.nodes.values()} == tags
    ec2.rules.clear()
    for node in world.nodes.values():
        assert agents.agent.command("on", node, **{**options, "deadline": 60}).code == 0
    assert ec2.snapshot() == before


def test_a_hanging_call_does_not_delay_a_success(agent, ec2, keep, node):
    """The thread that waits for it is left behind: the reply takes longer than the deadline."""
    rule = ec2.rules.add(CHANGE, Trickle(0.5))
    result = agent.command("off", node, api_timeout=1, **keep)
    assert rule.fired == 1
    assert result.code == 0
    assert result.seconds > 3


def test_many_nodes_fenced_at_once_share_the_api_limits(agents, ec2, keep):
    """Eight, with a part of EC2's limits (tests/bench/run --throttled has thirty): no agent fails."""
    groups = [ec2.world.groups["app"], ec2.world.groups["db"]]
    nodes = [ec2.edit.add_instance(f"other{n}", [{"groups": groups}] * 2) for n in range(8)]
    ec2.limits.add(CHANGE, size=2, refill=1)  # for sixteen interfaces: fourteen seconds, however slow the machine is
    ec2.limits.like_ec2(1 / 6)
    for node in nodes:
        agents.start(node, "off", node, options=keep)
    found = agents.results()
    assert {node: result.code for node, result in found.items()} == dict.fromkeys(nodes, 0), found
    assert all(is_isolated(ec2, node, keep) for node in nodes)
    assert sum(c.error == "RequestLimitExceeded" for c in ec2.calls) > 4


def test_time_is_reserved_to_roll_back_after_a_late_refusal(agents, ec2):
    """Three nodes whose second interface is refused late; of two, the putting back is held up as well."""
    for options in deadlines(agents, ec2, 9, 54):
        options["skip_race_check"] = True
        world, before = ec2.world, ec2.snapshot()
        late = options["deadline"] / 3  # of the four fifths that are left beside the share that is kept back
        seconds = [second for _, second in world.interfaces.values()]
        for second in seconds:
            ec2.key.deny(f"ec2:{CHANGE}", second)
        ec2.rules.add(CHANGE, Delay(late), when=lambda c: c.params["NetworkInterfaceId"] in seconds, times=None)  # noqa: B023
        good, no_read, no_change = world.nodes.values()
        first = world.interfaces["node3"][0]
        stalls = [
            ec2.rules.add(READ, Stall(), when=lambda c: no_read in c.params.values(), nth=3, times=None),  # noqa: B023
            ec2.rules.add(CHANGE, Stall(), when=lambda c: c.params["NetworkInterfaceId"] == first, nth=2, times=None),  # noqa: B023
        ]
        for node in world.nodes.values():
            agents.start(node, "off", node, options={**options, "api_timeout": max(5, int(1.6 * late))})
        found = agents.results()
        if all(rule.fired for rule in stalls):
            break
    assert all(rule.fired for rule in stalls)
    gave_up(found[good], options["deadline"] + 6, "permission error")
    assert "rolled back" in found[good].last
    assert groups(ec2, good) == before[good]["interfaces"]
    for node, name in ((no_read, "node2"), (no_change, "node3")):
        gave_up(found[node], options["deadline"] + 6, "partial error")
        assert world.interfaces[name][0] in found[node].last
        assert our_tags(ec2, node)


def test_an_untracking_that_never_answers_leaves_nothing_open(agent, ec2, keep, node):
    """One interface is open, and the other one blocks: the reserved time isolates the open one."""
    options = {**keep, "untrack_secg": ec2.world.open, "deadline": 7, "api_timeout": 6, "skip_race_check": True}
    second = ec2.world.interfaces["node1"][1]
    opening = lambda c: c.params["NetworkInterfaceId"] == second and c.listing("SecurityGroupId") == [ec2.world.open]  # noqa: E731
    stall = ec2.rules.add(CHANGE, Stall(), when=opening, times=None)
    gave_up(agent.command("off", node, **options), 13)
    assert stall.fired
    assert is_isolated(ec2, node, options)


def test_a_clock_that_is_set_forwards_ends_no_run(agent, ec2, keep, node, tmp_path):
    """Up to Python 3.10, waiting for a lock follows that clock, and is over at once."""
    (tmp_path / "sitecustomize.py").write_text(SET_FORWARDS, encoding="ascii")
    agent.env["PYTHONPATH"] = str(tmp_path)
    assert agent.command("off", node, **keep).code == 0
    assert is_isolated(ec2, node, keep)
