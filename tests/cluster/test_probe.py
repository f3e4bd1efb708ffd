"""probe_port: the fencer looks for itself whether a node is cut off, on networks that follow later than settle_time.

Trials as in test_late_network.py, at once, on one bed. Each node writes all the time, whatever else it does.
"""

import pytest

from .bed import Bed
from .cloud import VPC
from .dataplane import Mode
from .shell import wait
from .trial import Trial, run_all

PORT = 7000
SETTLE_TIME = 5  # the default
LATE = 12.0  # seconds
SLACK = 5.0  # seconds that a read may come late, where processes wait for a CPU
PROBE = (f"--probe-port={PORT}", "--deadline=60")
FENCER, WITHOUT_STORAGE = "node1", "node2"
SEE = """import socket, sys
for address in sys.argv[1:]:
    try:
        socket.create_connection((address, {port}), 1).close()
        print("SYN-ACK")
    except ConnectionRefusedError:
        print("RST")
    except socket.timeout:
        print("nothing")
    except OSError:
        print("no route")
"""
LISTEN = """import os, signal, socket, sys
server = socket.create_server(("", {port}))
open("/run/listens", "w").close()
if {hang}:
    os.kill(os.getpid(), signal.SIGSTOP)
connections = []  # all stay open
while True:
    connections.append(server.accept())
"""


def seen(bed, name, fencer=FENCER):
    """How the node's two addresses answer the fencer."""
    addresses = bed.cloud.machines[name].addresses
    return bed.nodes[fencer].command("python3", "-c", SEE.format(port=PORT), *addresses).split("\n")[:2]


def listen(bed, name, hang=False):
    """SYN-ACK: a program takes connections, or hangs, and the kernel goes on taking them for it."""
    node = bed.nodes[name]
    node.command("rm", "-f", "/run/listens")
    program = LISTEN.format(port=PORT, hang=hang)
    node.command("sh", "-c", 'setsid python3 -c "$1" >/dev/null 2>&1 </dev/null &', "sh", program)
    wait(f"{name} listens", lambda: node.result("test", "-e", "/run/listens").returncode == 0)
    assert seen(bed, name) == ["SYN-ACK", "SYN-ACK"]
    assert seen(bed, name, WITHOUT_STORAGE) == ["SYN-ACK", "no route"]


def hang(bed, name):
    listen(bed, name, hang=True)


def firewall(bed, name, *addresses):
    """Nothing: the node itself drops the packets."""
    drop = f"ip daddr {{ {', '.join(addresses)} }} tcp dport {PORT} drop"
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


def power_off(bed, name):
    bed.nodes[name].power_off()
    assert set(seen(bed, name)) <= {"nothing", "no route"}


def nothing_listens(bed, name):
    assert seen(bed, name) == ["RST", "RST"]


def probing(name, before, lag, mode=Mode.IN_ORDER, fencer=FENCER):
    return Trial(lag, mode, SETTLE_TIME, PROBE, name, before, fencer)


LATE_TRIALS = [
    probing("SYN-ACK", listen, LATE),
    probing("hung", hang, LATE),
    probing("one interface late", listen, LATE, Mode.ONE_LATE),
    probing("own pace", listen, LATE, Mode.OWN_PACE),
]
"""Programs listen: success comes when they no longer do, however late that is."""
UNSEEN = [
    probing("firewall", firewall_on_both, 4.9),
    probing("firewall on eth1", firewall_on_eth1, 4.9, Mode.ONE_LATE),
    probing("no route to eth1", listen, 4.9, Mode.ONE_LATE, WITHOUT_STORAGE),
    probing("dead", power_off, 4.9),
]
"""At least one address is not seen to answer: settle_time holds in full, and nothing takes longer."""
QUICK = probing("quick", nothing_listens, 0)
NEVER_OPEN = Trial(
    LATE, Mode.NEWEST, SETTLE_TIME, (f"--probe-port={PORT}", "--deadline=35"), "never open", listen, FENCER
)
NOT_HELD = [probing("RST", nothing_listens, LATE, mode) for mode in (Mode.IN_ORDER, Mode.NEWEST)]
"""Nothing listens: no connection of before shows whether the network has seen the open state."""
TRIALS = [*LATE_TRIALS, *UNSEEN, QUICK, NEVER_OPEN, *NOT_HELD]


@pytest.fixture(scope="module")
def outcomes(machine):
    """Of all trials."""
    with Bed(size=2 + len(TRIALS), settle_time=None, cluster=False) as bed:
        bed.cloud.permit(bed.cloud.groups["base"], "tcp", PORT, VPC, both=True)
        bed.plane.follow()
        bed.fabric.set_link(WITHOUT_STORAGE, 1, False)
        bed.fabric.inside(bed.fabric.namespace(WITHOUT_STORAGE), "ip", "address", "flush", "dev", "eth1")
        found = run_all(bed, TRIALS)
        found["eth1"] = {
            trial: bed.cloud.machines[name].addresses[1] for name, trial in zip(bed.names[-len(TRIALS) :], TRIALS)
        }
        return found


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


def test_silence_ends_the_wait_early(outcomes, measured):
    outcome = outcomes[QUICK]
    assert outcome.code == 0, outcome.stderr
    assert outcome.late == 0, outcome
    assert outcome.settled < SETTLE_TIME
    measured(f"last read {outcome.settled:.2f} s after the last change; {outcome}")


def test_no_route_is_a_warning_that_names_the_address(outcomes):
    trial = next(t for t in UNSEEN if t.fencer == WITHOUT_STORAGE)
    assert outcomes["eth1"][trial] in outcomes[trial].stderr


def test_a_connection_that_stays_alive_fails(outcomes):
    """The network never saw the open state: connections of before the fencing are tracked, and go on."""
    outcome = outcomes[NEVER_OPEN]
    assert not outcome.opened
    assert outcome.code == 1
    assert outcome.isolated
    assert outcomes["eth1"][NEVER_OPEN] in outcome.stderr


@pytest.mark.parametrize("trial", NOT_HELD, ids=str)
def test_where_nothing_listens_off_fails_on_a_network_later_than_settle_time(outcomes, measured, trial):
    """Why a program should listen at probe_port: only a connection of before shows what was untracked."""
    outcome = outcomes[trial]
    assert outcome.opened is (trial.mode is Mode.IN_ORDER)
    assert outcome.code == 1, outcome
    assert outcome.isolated
    assert outcomes["eth1"][trial] in outcome.stderr
    assert "let a program listen at probe_port" in outcome.stderr
    measured(str(outcome))
