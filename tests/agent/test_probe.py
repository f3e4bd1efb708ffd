"""probe_port: the fencer checks whether the node is isolated. On real sockets of this machine.

The addresses of the nodes are this machine's, and "the network follows" means that a port falls silent.
"""

import re
import signal
import time
from collections import Counter

import pytest
from assertions import accepted, is_isolated, our_tags
from port import Port, open_ports

CHANGE = "ModifyNetworkInterfaceAttribute"
READ = "DescribeInstances"
HERE = ("127.0.7.1", "127.0.7.2", "127.0.7.3", "127.0.7.4")
MULTICAST = "224.0.0.1"  # nothing connects to it: ENETUNREACH
READS_BEFORE = 11  # a deadline that comes during no read: they are 5 s apart while addresses are watched
NO_DEADLINE = {"settle_time": 30, "deadline": 60}  # what ends before that was ended by silence


@pytest.fixture
def ports(ec2):
    """One of each interface of node1 and of node2, all of the same number."""
    opened = open_ports(*HERE)
    faces = [*ec2.world.interfaces["node1"], *ec2.world.interfaces["node2"]]
    for interface, port in zip(faces, opened):
        ec2.edit.addresses(interface, port.address)
    yield opened
    for port in opened:
        port.close()


@pytest.fixture
def options(keep, ports):
    return {**keep, "probe_port": ports[0].number, "settle_time": 0}


def last_read(ec2):
    return ec2.calls_of(READ)[-1].at


def wait_for(condition, running):
    until = time.monotonic() + 50
    while not condition():
        assert running.poll() is None, running.communicate()[1]
        assert time.monotonic() < until
        time.sleep(0.02)


def isolate(agent, ec2, plug, options, changes=2):
    """An off that runs, and has isolated."""
    running = agent.start(*agent.arguments("off", plug, **options))
    wait_for(lambda: len(accepted(ec2, ec2.world.isolation)) == changes, running)
    return running


def follow(ports, after=0.0):
    """The network follows, so many seconds from now; the point in time before that."""
    time.sleep(after)
    began = time.monotonic()
    for port in ports:
        port.mute()
    return began


@pytest.mark.parametrize("kind", ["SYN-ACK", "RST"])
def test_silence_ends_the_wait(agent, ec2, node, options, ports, kind):
    for port in ports if kind == "SYN-ACK" else ():
        port.accept()
    metrics = agent.folder / "fence.prom"
    running = isolate(agent, ec2, node, {**options, **NO_DEADLINE, "verbose": True, "metrics_file": str(metrics)})
    began = follow(ports[:2], 3)
    _, err = running.communicate(timeout=60)
    assert running.returncode == 0, err
    assert last_read(ec2) - began >= 1, "two attempts, half a second apart"
    isolated = accepted(ec2, ec2.world.isolation)[-1]
    assert last_read(ec2) - isolated < 30
    assert is_isolated(ec2, node, options)
    seconds_reported = float(re.search(r"summary action=off .* network_seconds=(\S+)", err)[1])
    the_reply = 2  # seconds until the agent has it, on a busy machine; it counts from then
    assert began - isolated - the_reply < seconds_reported < last_read(ec2) - isolated
    assert float(re.search(r"^fence_aws_vpc_net_network_seconds (\S+)$", metrics.read_text(), re.M)[1]) > 0.5


@pytest.mark.parametrize("which", ["unknown", "not shown", "skip_race_check"])
def test_silence_that_may_be_the_fencers_own_does_not_end_the_wait(agent, ec2, node, options, ports, which):
    """Another fencer may have isolated this machine: nobody can tell. With skip_race_check it is none of them."""
    agent.is_on("i-0123456789abcdef0" if which == "not shown" else None)
    more = {"skip_race_check": True} if which == "skip_race_check" else {}
    running = isolate(agent, ec2, node, {**options, "settle_time": 5, **more})
    follow(ports[:2])
    _, err = running.communicate(timeout=60)
    assert running.returncode == 0, err
    assert (last_read(ec2) - accepted(ec2, ec2.world.isolation)[-1] >= 5) == (not more)


def test_the_silence_of_a_fencer_that_another_device_isolates_does_not_end_the_wait(agent, ec2, node, options, ports):
    """Its isolation group is another one than this device's."""
    running = isolate(agent, ec2, node, {**options, "settle_time": 6})
    other = {"secg": ec2.world.groups["db"], "invert_sg_removal": True, "skip_race_check": True}
    assert agent.command("off", ec2.world.nodes["node3"], **other).code == 0
    follow(ports[:2])
    _, err = running.communicate(timeout=60)
    assert running.returncode == 0, err
    assert last_read(ec2) - accepted(ec2, ec2.world.isolation)[-1] >= 6


def test_it_waits_for_longer_than_the_settle_time(agent, ec2, node, options, ports):
    running = isolate(agent, ec2, node, {**options, "settle_time": 1})
    began = follow(ports[:2], 3)
    _, err = running.communicate(timeout=60)
    assert running.returncode == 0, err
    assert last_read(ec2) - began >= 1


def test_an_address_that_still_answers_is_named(agent, ec2, node, options, ports):
    running = isolate(agent, ec2, node, {**options, "settle_time": 1, "deadline": READS_BEFORE})
    follow(ports[:1])
    _, err = running.communicate(timeout=60)
    assert running.returncode == 1
    last = err.splitlines()[-1]
    assert f"{HERE[1]}: it still answers at probe_port" in last
    assert "ERROR: deadline error" in last
    assert HERE[0] not in last
    assert is_isolated(ec2, node, options), "it stays isolated"
    assert our_tags(ec2, node)


def test_a_dead_node_takes_no_extra_time(agent, ec2, node, options, ports):
    """No call, and no second."""
    for port in ports:
        port.mute()
    result = agent.command("off", node, **{**options, "settle_time": 2, "verbose": True})
    assert result.code == 0, result.err
    calls = Counter(c.action for c in ec2.calls)
    assert last_read(ec2) - accepted(ec2, ec2.world.isolation)[-1] >= 2
    assert calls == Counter({READ: 4, "CreateTags": 1, CHANGE: 2})
    assert "network_seconds" not in result.err


def test_the_settle_time_holds_where_one_interface_does_not_answer(agent, ec2, node, options, ports):
    ports[1].mute()
    running = isolate(agent, ec2, node, {**options, "settle_time": 3})
    follow(ports[:1])
    _, err = running.communicate(timeout=60)
    assert running.returncode == 0, err
    assert last_read(ec2) - accepted(ec2, ec2.world.isolation)[-1] >= 3


def test_ipv6_counts(agent, ec2, node, options, ports):
    """The second interface answers on IPv6 only."""
    ports[1].mute()
    ec2.edit.ipv6(ec2.world.interfaces["node1"][1], "::1")
    with Port("::1", ports[0].number) as six:
        running = isolate(agent, ec2, node, {**options, **NO_DEADLINE})
        began = follow([ports[0], six], 0.7)
        _, err = running.communicate(timeout=60)
    assert running.returncode == 0, err
    assert 1 <= last_read(ec2) - began < 30


def test_an_ipv6_only_instance_is_probed(agent, ec2, options):
    """Its address is its name, too."""
    ec2.edit.ipv6_only(ec2.edit.add_instance("six"), "::1")
    with Port("::1", options["probe_port"]) as six:
        running = isolate(agent, ec2, "0::1", {**options, **NO_DEADLINE}, changes=1)
        began = follow([six], 0.7)
        _, err = running.communicate(timeout=60)
    assert running.returncode == 0, err
    assert 1 <= last_read(ec2) - began < 30


def test_an_address_without_a_route_is_a_warning(agent, ec2, node, options, ports):
    ec2.edit.addresses(ec2.world.interfaces["node1"][1], MULTICAST)
    running = isolate(agent, ec2, node, {**options, "settle_time": 3})
    follow(ports[:1])
    _, err = running.communicate(timeout=60)
    assert running.returncode == 0, err
    assert f"cannot probe {MULTICAST} at probe_port" in err
    assert last_read(ec2) - accepted(ec2, ec2.world.isolation)[-1] >= 3


def test_plugs_are_watched_together(agent, ec2, options, ports):
    """The second ends while the first still answers."""
    nodes = [ec2.world.nodes[name] for name in ("node1", "node2")]
    running = isolate(agent, ec2, ",".join(nodes), {**options, **NO_DEADLINE}, 4)
    isolated = accepted(ec2, ec2.world.isolation)[-1]
    follow(ports[2:])

    def reads():
        """Of the second without the first, since it is isolated."""
        asked = [(c.at, c.listing("Filter.1.Value")) for c in ec2.calls_of(READ) if c.at > isolated]
        return [at for at, machines in asked if nodes[1] in machines and nodes[0] not in machines]

    def done():
        """One that is still watched is read again after five seconds, and not before."""
        known = reads()
        return len(known) > 1 and (known[-1] - known[-2] < 5 or time.monotonic() - known[-1] > 10)

    wait_for(done, running)
    first_done = follow(ports[:2])
    _, err = running.communicate(timeout=60)
    assert running.returncode == 0, err
    assert reads()[-1] < first_done
    assert all(is_isolated(ec2, node, options) for node in nodes)


def test_a_plug_that_still_answers_fails_alone(agent, ec2, options, ports):
    nodes = [ec2.world.nodes[name] for name in ("node1", "node2")]
    running = isolate(agent, ec2, ",".join(nodes), {**options, "deadline": READS_BEFORE}, 4)
    follow(ports[:2])
    _, err = running.communicate(timeout=60)
    assert running.returncode == 1
    assert nodes[1] in err.splitlines()[-1]
    assert nodes[0] not in err.splitlines()[-1]


# --- untrack_secg ----------------------------------------------------------------------------------------------


@pytest.fixture
def untracks(options, ec2):
    return {**options, "untrack_secg": ec2.world.open}


def test_a_connection_that_stays_alive_fails(agent, ec2, node, untracks, ports):
    """The kernel still answers its keepalives, although new connections are dropped."""
    for port in ports:
        port.accept()
    running = isolate(agent, ec2, node, {**untracks, "settle_time": 1, "deadline": READS_BEFORE})
    follow(ports[:2])
    _, err = running.communicate(timeout=60)
    assert running.returncode == 1
    for address in HERE[:2]:
        assert f"{address}: an earlier connection to probe_port is still alive" in err.splitlines()[-1]
    assert is_isolated(ec2, node, untracks)


def test_a_connection_that_the_node_has_ended_is_not_waited_for(agent, ec2, node, untracks, ports):
    """It shows nothing, so off waits for the full settle time."""
    for port in ports:
        port.accept()
    running = agent.start(*agent.arguments("off", node, **{**untracks, "settle_time": 2}))
    for port in ports[:2]:
        port.end_next()
    wait_for(lambda: len(accepted(ec2, ec2.world.isolation)) == 2, running)
    follow(ports[:2])
    _, err = running.communicate(timeout=60)
    assert running.returncode == 0, err
    assert last_read(ec2) - accepted(ec2, ec2.world.isolation)[-1] >= 2


# --- what it leaves behind, and what it does not do -------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_probe_leaves_no_connection(agent, ec2, node, untracks, ports, number):
    ports[0].accept()
    running = isolate(agent, ec2, node, {**untracks, **NO_DEADLINE, "settle_time": 1})
    running.send_signal(number)
    running.communicate(timeout=30)
    assert running.returncode == (1 if number == signal.SIGTERM else -number)
    assert is_isolated(ec2, node, untracks)
    assert ports[0].next_was_reset()


def test_without_the_option_nothing_is_connected_to(agent, ec2, node, keep, ports):
    """And no settle time is as before: each call once."""
    ports[0].accept()
    assert agent.command("off", node, **keep).code == 0
    assert Counter(c.action for c in ec2.calls) == Counter({READ: 3, "CreateTags": 1, CHANGE: 2})
    assert not ports[0].has_next()


def test_on_and_status_connect_to_nothing(agent, ec2, node, options, ports):
    ports[0].accept()
    agent.command("status", node, **options)
    assert agent.command("on", node, **options).code == 0
    assert not ports[0].has_next()


@pytest.mark.parametrize("value", ["0", "65536", "-1", "ssh", "22.5", "22,23"])
def test_several_ports_are_refused(agent, ec2, node, keep, value):
    for action in ("off", "monitor", "validate-all"):
        result = agent.command(action, node, **{**keep, "probe_port": value})
        assert result.code == 1
        assert result.last.startswith(f"ERROR: validation error: probe_port={value} is not a TCP port")
    assert ec2.calls == []


@pytest.mark.parametrize("value", ["1", "22", "65535", " 22 "])
def test_any_port_is_taken(agent, keep, value):
    assert agent.command("validate-all", **{**keep, "probe_port": value}).code == 0


def test_with_everything_on_it_fits_the_default_deadline_though_ec2_throttles(agent, ec2, node, keep, ports):
    """Untracking, both waits, the probe and the stop, where other software uses up what EC2 allows."""
    ec2.limits.add(READ, size=1, refill=0.5)
    ec2.limits.add("CreateTags", size=1, refill=0.3).take()
    ec2.limits.add(CHANGE, size=1, refill=0.5)
    options = {**keep, "untrack_secg": ec2.world.open, "probe_port": ports[0].number, "onfence_poweroff": "1"}
    began = time.monotonic()
    running = isolate(agent, ec2, node, {**options, "settle_time": 5})
    for port in ports:
        port.mute()
    err = running.communicate(timeout=60)[1]
    assert running.returncode == 0, err
    assert 5 + 5 < time.monotonic() - began < 45 + 2
    assert sum(call.error == "RequestLimitExceeded" for call in ec2.calls) > 5
    assert is_isolated(ec2, node, keep)
