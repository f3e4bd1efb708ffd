"""probe_port: the fencer probes whether a node is isolated, on networks that are later than settle_time.

The trials run at once, on one bed, as in test_late_network.py. Each node writes continuously.
"""

from concurrent.futures import ThreadPoolExecutor

import pytest

from .bed import Bed
from .cloud import VPC, VPC6
from .dataplane import Mode
from .shell import wait
from .trial import Trial, options_of, run_all

PORT = 7000
SETTLE_TIME = 5  # the default
LATE = 12.0  # seconds
SLACK = 5.0  # seconds that a read may be late if this machine is busy
PROBE, SHORT = (f"probe_port={PORT}", "deadline=60"), (f"probe_port={PORT}", "deadline=35")
FENCER, WITHOUT_STORAGE, WITHOUT_IPV6 = FENCERS = ("node1", "node2", "node3")
CONNECT = """import concurrent.futures, socket, sys
def connect(address):
    try:
        socket.create_connection((address, {port}), 1).close()
        return "SYN-ACK"
    except ConnectionRefusedError:
        return "RST"
    except socket.timeout:
        return "nothing"
    except OSError:
        return "no route"
with concurrent.futures.ThreadPoolExecutor() as pool:
    print(*pool.map(connect, sys.argv[1:]), sep="\\n")
"""
LISTEN = """import os, signal, socket, sys
family = socket.AF_INET6 if {ipv6} else socket.AF_INET
server = socket.create_server(("", {port}), family=family, dualstack_ipv6={ipv6})
open("/run/listens", "w").close()
if {hang}:
    os.kill(os.getpid(), signal.SIGSTOP)
connections = []  # all stay open
while True:
    connections.append(server.accept())
"""


def replies(bed, name, fencer=FENCER):
    """The replies of the node's addresses to the fencer: of two IPv4 addresses, and of two of IPv6 if it has them."""
    machine = bed.cloud.machines[name]
    addresses = (*machine.addresses, *machine.ipv6)
    return bed.nodes[fencer].command("python3", "-c", CONNECT.format(port=PORT), *addresses).splitlines()


def listen(bed, name, hang=False):
    """SYN-ACK: a program accepts connections; or it hangs, and the kernel accepts them."""
    node = bed.nodes[name]
    firewall(bed, name)
    node.command("rm", "-f", "/run/listens")
    ipv6 = bed.cloud.machines[name].ipv6
    program = LISTEN.format(port=PORT, hang=hang, ipv6=bool(ipv6))
    node.command("sh", "-c", 'setsid python3 -c "$1" >/dev/null 2>&1 </dev/null &', "sh", program)
    wait(f"{name} listens", lambda: node.result("test", "-e", "/run/listens").returncode == 0)
    assert set(replies(bed, name)) == {"SYN-ACK"}
    assert replies(bed, name, WITHOUT_STORAGE) == ["SYN-ACK", "no route"] + ["no route" for _ in ipv6]
    assert replies(bed, name, WITHOUT_IPV6) == ["SYN-ACK", "SYN-ACK"] + ["no route" for _ in ipv6]


def hang(bed, name):
    listen(bed, name, hang=True)


def firewall(bed, name, *addresses):
    """Nothing: the node itself drops the packets to these IPv4 addresses. Without addresses, removes the firewall."""
    drop = f"ip daddr {{ {', '.join(addresses)} }} tcp dport {PORT} drop" if addresses else ""
    chain = f"chain c {{ type filter hook input priority 0;\n{drop}\n}}"
    rules = f"add table ip firewall\ndelete table ip firewall\ntable ip firewall {{ {chain}\n}}"
    bed.fabric.inside(bed.fabric.namespace(name), "nft", "-f", "-", stdin=rules)


def firewall_on_both(bed, name):
    listen(bed, name)
    firewall(bed, name, *bed.cloud.machines[name].addresses)
    assert replies(bed, name) == ["nothing", "nothing"]


def firewall_on_eth1(bed, name):
    listen(bed, name)
    firewall(bed, name, bed.cloud.machines[name].addresses[1])
    assert replies(bed, name) == ["SYN-ACK", "nothing"]


def ipv6_only(bed, name):
    listen(bed, name)
    firewall(bed, name, *bed.cloud.machines[name].addresses)
    assert replies(bed, name) == ["nothing", "nothing", "SYN-ACK", "SYN-ACK"]


def ipv6_only_on_eth1(bed, name):
    listen(bed, name)
    firewall(bed, name, bed.cloud.machines[name].addresses[1])
    assert replies(bed, name) == ["SYN-ACK", "nothing", "SYN-ACK", "SYN-ACK"]


def nothing_listens_ipv6_only(bed, name):
    firewall(bed, name, *bed.cloud.machines[name].addresses)
    assert replies(bed, name) == ["nothing", "nothing", "RST", "RST"]


def power_off(bed, name):
    bed.nodes[name].power_off()
    assert set(replies(bed, name)) <= {"nothing", "no route"}


def nothing_listens(bed, name):
    assert replies(bed, name) == ["RST", "RST"]


def probing(name, before, lag, mode=Mode.IN_ORDER, **more):
    return Trial(lag, mode, SETTLE_TIME, more.pop("options", PROBE), name, before, **more)


LATE_TRIALS = [
    probing("SYN-ACK", listen, LATE),
    probing("hung", hang, LATE),
    probing("one interface late", listen, LATE, Mode.ONE_LATE),
    probing("own pace", listen, LATE, Mode.OWN_PACE),
    probing("IPv6 only", ipv6_only, LATE, ipv6=True),
    probing("IPv6 only on eth1", ipv6_only_on_eth1, LATE, Mode.ONE_LATE, ipv6=True),
]
"""The nodes answer with SYN-ACK: success when they are silent, however late that is."""
UNOBSERVABLE = [
    probing("firewall", firewall_on_both, 4.9),
    probing("firewall on eth1", firewall_on_eth1, 4.9, Mode.ONE_LATE),
    probing("no route to eth1", listen, 4.9, Mode.ONE_LATE, fencer=WITHOUT_STORAGE),
    probing("no IPv6 route", ipv6_only_on_eth1, 4.9, Mode.ONE_LATE, fencer=WITHOUT_IPV6, ipv6=True),
    probing("dead", power_off, 4.9),
]
"""At least one interface cannot be observed: settle_time applies in full, and nothing takes longer."""
QUICK = [probing("quick", nothing_listens, 0), probing("quick by IPv6", nothing_listens_ipv6_only, 0, ipv6=True)]
NEVER_OPEN = probing("never open", listen, LATE, Mode.NEWEST, options=SHORT)
ALLOWED_BY_IPV6 = probing(
    "allowed by IPv6", listen, 0, options=(*SHORT, "secg={ipv6-in}"), isolation="ipv6-in", ipv6=True
)
"""The isolation group allows the probe, by IPv6."""
ALLOWED_BY_REST = probing(
    "allowed by the remaining group",
    nothing_listens,
    0,
    options=(*SHORT, "invert_sg_removal=0", "secg={cluster},{storage}"),
    isolation="base",
)
"""The group that remains in remove mode allows the probe."""
ALLOWED = [ALLOWED_BY_IPV6, ALLOWED_BY_REST]
NO_LISTENER = [probing("RST", nothing_listens, LATE, mode) for mode in (Mode.IN_ORDER, Mode.NEWEST)]
"""No program listens: no earlier connection shows whether the network applied the open state."""
TRIALS = [NEVER_OPEN, *ALLOWED, *LATE_TRIALS, *NO_LISTENER, *UNOBSERVABLE, *QUICK]
"""The longest first."""
NODES = {trial: f"node{number}" for number, trial in enumerate(TRIALS, 1 + len(FENCERS))}


@pytest.fixture(scope="module")
def outcomes(machine):
    """The outcomes of all trials; also their machines, and the preflights of some."""
    ipv6 = [FENCER, *(node for trial, node in NODES.items() if trial.ipv6)]
    with Bed(size=len(FENCERS) + len(TRIALS), settle_time=None, cluster=False, ipv6=ipv6) as bed:
        for cidr in (VPC, VPC6):
            bed.cloud.permit(bed.cloud.groups["base"], "tcp", PORT, cidr, both=True)
        bed.ec2.edit.add_rule(bed.cloud.add_group("ipv6-in"), "::/0", "tcp", (PORT, PORT))
        bed.plane.apply_now()
        bed.fabric.set_link(WITHOUT_STORAGE, 1, False)
        bed.fabric.inside(bed.fabric.namespace(WITHOUT_STORAGE), "ip", "address", "flush", "dev", "eth1")
        checked = preflights(bed, [LATE_TRIALS[-1], *ALLOWED])
        results = run_all(bed, TRIALS)
        results["machines"] = {trial: bed.cloud.machines[node] for trial, node in NODES.items()}
        results["preflights"] = checked
        return results


def preflights(bed, trials):
    """The preflights of these trials, run by their fencers."""

    def preflight(trial):
        trial.prepare(bed, NODES[trial])
        return bed.agent_on(trial.fencer, "validate-all", NODES[trial], *options_of(bed, trial))

    with ThreadPoolExecutor(len(trials)) as pool:
        return dict(zip(trials, pool.map(preflight, trials)))


@pytest.mark.parametrize("trial", LATE_TRIALS, ids=str)
def test_off_succeeds_once_the_node_is_silent(outcomes, measured, trial):
    outcome = outcomes[trial]
    assert outcome.code == 0, outcome.stderr
    assert outcome.isolated
    assert outcome.network_delay > SETTLE_TIME + 1, "the network was late"
    assert outcome.bytes_after == 0, outcome
    assert outcome.last_byte > LATE, "it wrote until it was isolated"
    measured(str(outcome))


@pytest.mark.parametrize("trial", UNOBSERVABLE, ids=str)
def test_off_waits_for_settle_time_if_an_interface_is_not_observable(outcomes, measured, trial):
    outcome = outcomes[trial]
    assert outcome.code == 0, outcome.stderr
    assert outcome.isolated
    assert outcome.bytes_after == 0, outcome
    assert SETTLE_TIME <= outcome.last_read < SETTLE_TIME + SLACK
    measured(f"last read {outcome.last_read:.2f} s after the last change; {outcome}")


@pytest.mark.parametrize("trial", QUICK, ids=str)
def test_off_does_not_wait_for_settle_time_after_silence(outcomes, measured, trial):
    outcome = outcomes[trial]
    assert outcome.code == 0, outcome.stderr
    assert outcome.bytes_after == 0, outcome
    assert outcome.last_read < SETTLE_TIME
    measured(f"last read {outcome.last_read:.2f} s after the last change; {outcome}")


@pytest.mark.parametrize("fencer", [WITHOUT_STORAGE, WITHOUT_IPV6])
def test_off_warns_of_addresses_without_a_route(outcomes, fencer):
    trial = next(t for t in UNOBSERVABLE if t.fencer == fencer)
    machine = outcomes["machines"][trial]
    (warning,) = (line for line in outcomes[trial].stderr.splitlines() if "cannot probe" in line)
    assert all(address in warning for address in machine.ipv6 or machine.addresses[1:])
    assert machine.addresses[0] not in warning


def test_off_fails_if_an_earlier_connection_stays_alive(outcomes):
    """The network never applied the open state: earlier connections stay tracked, and continue."""
    outcome = outcomes[NEVER_OPEN]
    assert not outcome.open_applied
    assert outcome.code == 1
    assert outcome.isolated
    assert outcomes["machines"][NEVER_OPEN].addresses[1] in outcome.stderr


@pytest.mark.parametrize("trial", ALLOWED, ids=str)
def test_off_fails_if_isolated_groups_allow_the_probe(outcomes, trial):
    """The node still answers, although EC2 reports it as isolated."""
    outcome, machine = outcomes[trial], outcomes["machines"][trial]
    assert outcome.code == 1
    assert outcome.isolated
    error = outcome.stderr.splitlines()[-1]
    answering = machine.ipv6 or machine.addresses
    if "gave up after" in error:  # the last read began too late to end, and names no address
        return
    assert all(f"{address}: it still answers at probe_port" in error for address in answering), error
    assert not any(address in error for address in {*machine.addresses} - {*answering}), error


@pytest.mark.parametrize("trial", ALLOWED, ids=str)
def test_preflight_fails_if_isolated_groups_allow_the_probe(outcomes, trial):
    done = outcomes["preflights"][trial]
    assert done.returncode == 1
    failed = [line for line in done.stdout.splitlines() if line.startswith("FAIL")]
    assert [line.split(":")[0] for line in failed] == [
        f"FAIL probe_port on {interface}" for interface in outcomes["machines"][trial].interfaces
    ]
    source = "::/0" if trial.ipv6 else VPC
    assert all(f"tcp {PORT} from {source}" in line for line in failed)


def test_preflight_lists_addresses_that_answer(outcomes):
    trial = LATE_TRIALS[-1]
    done, machine = outcomes["preflights"][trial], outcomes["machines"][trial]
    assert done.returncode == 0, done.stdout
    for address in (machine.addresses[0], *machine.ipv6):
        assert f"{address} answers at probe_port\n" in done.stdout
    assert f"{machine.addresses[1]} does not answer at probe_port, but another address" in done.stdout


@pytest.mark.parametrize("trial", NO_LISTENER, ids=str)
def test_off_fails_without_a_listener_if_the_network_is_later_than_settle_time(outcomes, measured, trial):
    """Why a program should listen at probe_port: only an earlier connection shows that the network untracked it."""
    outcome = outcomes[trial]
    assert outcome.open_applied is (trial.mode is Mode.IN_ORDER)
    assert outcome.code == 1, outcome
    assert outcome.isolated
    assert outcomes["machines"][trial].addresses[1] in outcome.stderr
    assert "let a program listen at probe_port" in outcome.stderr
    measured(str(outcome))
