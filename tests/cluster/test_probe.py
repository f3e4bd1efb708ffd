"""probe_port: the fencer looks for itself whether a node is cut off, on networks that follow later than settle_time.

Trials as in test_late_network.py, at once, on one bed. Each node writes all the time, whatever else it does.
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
SLACK = 5.0  # seconds that a read may come late, where processes wait for a CPU
PROBE, SHORT = (f"probe_port={PORT}", "deadline=60"), (f"probe_port={PORT}", "deadline=35")
FENCER, WITHOUT_STORAGE, WITHOUT_IPV6 = FENCERS = ("node1", "node2", "node3")
SEE = """import concurrent.futures, socket, sys
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


def seen(bed, name, fencer=FENCER):
    """How the node's addresses answer the fencer: two, and two of IPv6 if it has them."""
    machine = bed.cloud.machines[name]
    addresses = (*machine.addresses, *machine.ipv6)
    return bed.nodes[fencer].command("python3", "-c", SEE.format(port=PORT), *addresses).splitlines()


def listen(bed, name, hang=False):
    """SYN-ACK: a program takes connections, or hangs, and the kernel goes on taking them for it."""
    node = bed.nodes[name]
    firewall(bed, name)
    node.command("rm", "-f", "/run/listens")
    ipv6 = bed.cloud.machines[name].ipv6
    program = LISTEN.format(port=PORT, hang=hang, ipv6=bool(ipv6))
    node.command("sh", "-c", 'setsid python3 -c "$1" >/dev/null 2>&1 </dev/null &', "sh", program)
    wait(f"{name} listens", lambda: node.result("test", "-e", "/run/listens").returncode == 0)
    assert set(seen(bed, name)) == {"SYN-ACK"}
    assert seen(bed, name, WITHOUT_STORAGE) == ["SYN-ACK", "no route"] + ["no route" for _ in ipv6]
    assert seen(bed, name, WITHOUT_IPV6) == ["SYN-ACK", "SYN-ACK"] + ["no route" for _ in ipv6]


def hang(bed, name):
    listen(bed, name, hang=True)


def firewall(bed, name, *addresses):
    """Nothing: the node itself drops the packets to these IPv4 addresses. Without any, it has no firewall."""
    drop = f"ip daddr {{ {', '.join(addresses)} }} tcp dport {PORT} drop" if addresses else ""
    chain = f"chain c {{ type filter hook input priority 0;\n{drop}\n}}"
    rules = f"add table ip firewall\ndelete table ip firewall\ntable ip firewall {{ {chain}\n}}"
    bed.fabric.inside(bed.fabric.namespace(name), "nft", "-f", "-", stdin=rules)


def firewall_on_both(bed, name):
    listen(bed, name)
    firewall(bed, name, *bed.cloud.machines[name].addresses)
    assert seen(bed, name) == ["nothing", "nothing"]


def firewall_on_eth1(bed, name):
    listen(bed, name)
    firewall(bed, name, bed.cloud.machines[name].addresses[1])
    assert seen(bed, name) == ["SYN-ACK", "nothing"]


def ipv6_only(bed, name):
    listen(bed, name)
    firewall(bed, name, *bed.cloud.machines[name].addresses)
    assert seen(bed, name) == ["nothing", "nothing", "SYN-ACK", "SYN-ACK"]


def ipv6_only_on_eth1(bed, name):
    listen(bed, name)
    firewall(bed, name, bed.cloud.machines[name].addresses[1])
    assert seen(bed, name) == ["SYN-ACK", "nothing", "SYN-ACK", "SYN-ACK"]


def nothing_listens_ipv6_only(bed, name):
    firewall(bed, name, *bed.cloud.machines[name].addresses)
    assert seen(bed, name) == ["nothing", "nothing", "RST", "RST"]


def power_off(bed, name):
    bed.nodes[name].power_off()
    assert set(seen(bed, name)) <= {"nothing", "no route"}


def nothing_listens(bed, name):
    assert seen(bed, name) == ["RST", "RST"]


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
"""Programs listen: success comes when they no longer do, however late that is."""
UNSEEN = [
    probing("firewall", firewall_on_both, 4.9),
    probing("firewall on eth1", firewall_on_eth1, 4.9, Mode.ONE_LATE),
    probing("no route to eth1", listen, 4.9, Mode.ONE_LATE, fencer=WITHOUT_STORAGE),
    probing("no IPv6 route", ipv6_only_on_eth1, 4.9, Mode.ONE_LATE, fencer=WITHOUT_IPV6, ipv6=True),
    probing("dead", power_off, 4.9),
]
"""At least one address is not seen to answer: settle_time holds in full, and nothing takes longer."""
QUICK = [probing("quick", nothing_listens, 0), probing("quick by IPv6", nothing_listens_ipv6_only, 0, ipv6=True)]
NEVER_OPEN = probing("never open", listen, LATE, Mode.NEWEST, options=SHORT)
LET_IN_BY_IPV6 = probing(
    "let in by IPv6", listen, 0, options=(*SHORT, "secg={ipv6-in}"), isolation="ipv6-in", ipv6=True
)
"""The isolation group lets the fencer in, by IPv6."""
LET_IN_BY_REST = probing(
    "let in by the rest",
    nothing_listens,
    0,
    options=(*SHORT, "invert_sg_removal=0", "secg={cluster},{storage}"),
    isolation="base",
)
"""The group that remains after removing others lets the fencer in."""
LET_IN = [LET_IN_BY_IPV6, LET_IN_BY_REST]
NOT_HELD = [probing("RST", nothing_listens, LATE, mode) for mode in (Mode.IN_ORDER, Mode.NEWEST)]
"""Nothing listens: no connection of before shows whether the network has seen the open state."""
TRIALS = [NEVER_OPEN, *LET_IN, *LATE_TRIALS, *NOT_HELD, *UNSEEN, *QUICK]
"""The longest first."""
NODES = {trial: f"node{number}" for number, trial in enumerate(TRIALS, 1 + len(FENCERS))}


@pytest.fixture(scope="module")
def outcomes(machine):
    """Of all trials; and of each trial the node, and what the preflight said of some."""
    ipv6 = [FENCER, *(node for trial, node in NODES.items() if trial.ipv6)]
    with Bed(size=len(FENCERS) + len(TRIALS), settle_time=None, cluster=False, ipv6=ipv6) as bed:
        for cidr in (VPC, VPC6):
            bed.cloud.permit(bed.cloud.groups["base"], "tcp", PORT, cidr, both=True)
        bed.ec2.edit.add_rule(bed.cloud.add_group("ipv6-in"), "::/0", "tcp", (PORT, PORT))
        bed.plane.follow()
        bed.fabric.set_link(WITHOUT_STORAGE, 1, False)
        bed.fabric.inside(bed.fabric.namespace(WITHOUT_STORAGE), "ip", "address", "flush", "dev", "eth1")
        checked = preflights(bed, [LATE_TRIALS[-1], *LET_IN])
        found = run_all(bed, TRIALS)
        found["machines"] = {trial: bed.cloud.machines[node] for trial, node in NODES.items()}
        found["preflights"] = checked
        return found


def preflights(bed, trials):
    """The preflight of these trials, by their fencers."""

    def preflight(trial):
        trial.before(bed, NODES[trial])
        return bed.agent_on(trial.fencer, "validate-all", NODES[trial], *options_of(bed, trial))

    with ThreadPoolExecutor(len(trials)) as pool:
        return dict(zip(trials, pool.map(preflight, trials)))


@pytest.mark.parametrize("trial", LATE_TRIALS, ids=str)
def test_success_comes_when_the_node_is_silent_however_late(outcomes, measured, trial):
    outcome = outcomes[trial]
    assert outcome.code == 0, outcome.stderr
    assert outcome.isolated
    assert outcome.network > SETTLE_TIME + 1, "the network was late"
    assert outcome.late == 0, outcome
    assert outcome.last_byte > LATE, "it wrote until it was cut"
    measured(str(outcome))


@pytest.mark.parametrize("trial", UNSEEN, ids=str)
def test_where_an_address_is_not_seen_settle_time_holds_and_no_more(outcomes, measured, trial):
    outcome = outcomes[trial]
    assert outcome.code == 0, outcome.stderr
    assert outcome.isolated
    assert outcome.late == 0, outcome
    assert SETTLE_TIME <= outcome.settled < SETTLE_TIME + SLACK
    measured(f"last read {outcome.settled:.2f} s after the last change; {outcome}")


@pytest.mark.parametrize("trial", QUICK, ids=str)
def test_silence_ends_the_wait_early(outcomes, measured, trial):
    outcome = outcomes[trial]
    assert outcome.code == 0, outcome.stderr
    assert outcome.late == 0, outcome
    assert outcome.settled < SETTLE_TIME
    measured(f"last read {outcome.settled:.2f} s after the last change; {outcome}")


@pytest.mark.parametrize("fencer", [WITHOUT_STORAGE, WITHOUT_IPV6])
def test_no_route_is_a_warning_that_names_the_addresses(outcomes, fencer):
    trial = next(t for t in UNSEEN if t.fencer == fencer)
    machine = outcomes["machines"][trial]
    (warning,) = (line for line in outcomes[trial].stderr.splitlines() if "cannot probe" in line)
    assert all(address in warning for address in machine.ipv6 or machine.addresses[1:])
    assert machine.addresses[0] not in warning


def test_a_connection_that_stays_alive_fails(outcomes):
    """The network never saw the open state: connections of before the fencing are tracked, and go on."""
    outcome = outcomes[NEVER_OPEN]
    assert not outcome.opened
    assert outcome.code == 1
    assert outcome.isolated
    assert outcomes["machines"][NEVER_OPEN].addresses[1] in outcome.stderr


@pytest.mark.parametrize("trial", LET_IN, ids=str)
def test_off_fails_if_the_groups_of_isolated_interfaces_let_the_fencer_in(outcomes, trial):
    """The node still answers: isolated as EC2 says, but not proven."""
    outcome, machine = outcomes[trial], outcomes["machines"][trial]
    assert outcome.code == 1
    assert outcome.isolated
    error = outcome.stderr.splitlines()[-1]
    answering = machine.ipv6 or machine.addresses
    assert all(f"{address}: it still answers at probe_port" in error for address in answering), error
    assert not any(address in error for address in {*machine.addresses} - {*answering}), error


@pytest.mark.parametrize("trial", LET_IN, ids=str)
def test_preflight_fails_if_these_groups_let_the_fencer_in(outcomes, trial):
    done = outcomes["preflights"][trial]
    assert done.returncode == 1
    failed = [line for line in done.stdout.splitlines() if line.startswith("FAIL")]
    assert [line.split(":")[0] for line in failed] == [
        f"FAIL probe_port on {interface}" for interface in outcomes["machines"][trial].interfaces
    ]
    source = "::/0" if trial.ipv6 else VPC
    assert all(f"tcp {PORT} from {source}" in line for line in failed)


def test_preflight_says_which_addresses_answer(outcomes):
    trial = LATE_TRIALS[-1]
    done, machine = outcomes["preflights"][trial], outcomes["machines"][trial]
    assert done.returncode == 0, done.stdout
    for address in (machine.addresses[0], *machine.ipv6):
        assert f"{address} answers at probe_port\n" in done.stdout
    assert f"{machine.addresses[1]} does not answer at probe_port, but another address" in done.stdout


@pytest.mark.parametrize("trial", NOT_HELD, ids=str)
def test_where_nothing_listens_off_fails_on_a_network_later_than_settle_time(outcomes, measured, trial):
    """Why a program should listen at probe_port: only a connection of before shows what was untracked."""
    outcome = outcomes[trial]
    assert outcome.opened is (trial.mode is Mode.IN_ORDER)
    assert outcome.code == 1, outcome
    assert outcome.isolated
    assert outcomes["machines"][trial].addresses[1] in outcome.stderr
    assert "let a program listen at probe_port" in outcome.stderr
    measured(str(outcome))
