"""tests/aws/acceptance against the emulator: all but what only real packets can show, and nothing is left behind."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import boto3
import pytest
from aws import flow, measure, sender, settle
from aws.bed import PORT, Bed, Sender, user_data
from aws.measure import Agent
from aws.receiver import Receiver
from aws.report import Report
from aws.settle import DWELLS, Observation
from aws.story import Story, data_plane
from ec2 import Error, Hook

SCRIPT = Path(__file__).parents[1] / "aws" / "acceptance"
DESCRIBED = ("vpcs", "subnets", "security_groups", "network_interfaces")


@pytest.fixture
def client(ec2):
    return boto3.client("ec2", **ec2.client_kwargs())


@pytest.fixture
def world(ec2, client):
    """Everything in the account, as long as it lives."""

    def look():
        found = {what: getattr(client, f"describe_{what}")() for what in DESCRIBED}
        parts = {what: next(v for v in reply.values() if isinstance(v, list)) for what, reply in found.items()}
        living = {i: s for i, s in ec2.snapshot().items() if s["state"] != "terminated"}
        return parts, living

    return look


@pytest.fixture
def start(ec2, tmp_path, program):
    """Starts the script."""
    started = []
    names = ("PATH", "AGENT", "PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX")
    env = {k: os.environ[k] for k in names if k in os.environ}
    env.update(ec2.environment(), HOME=str(tmp_path))

    def run(*arguments):
        options = [f"--endpoint-url={ec2.endpoint}", f"--region={ec2.region}", f"--agent={program}"]
        options += ["--image=ami-12345678", "--without-packets", "--rounds=1", "--watch=0.2"]
        command = [sys.executable, str(SCRIPT), *options, *arguments]
        pipe = subprocess.PIPE
        process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=env)
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.wait()


@pytest.mark.timeout(300)
def test_a_full_run_passes_and_restores_the_account(ec2, world, start):
    before = world()
    ec2.rules.add("CreateSubnet", Error("InvalidVpcID.NotFound"))  # not known everywhere yet
    ec2.rules.add("DeleteVpc", Error("DependencyViolation"))
    role, subnet = f"--role-arn=arn:aws:iam::{ec2.account}:role/tester", f"--subnet={ec2.world.subnet}"
    process = start("--yes", role, subnet)
    out, err = process.communicate(timeout=250)
    assert process.returncode == 0, out + err
    assert out.startswith("# fence_aws_vpc_net on EC2\n")
    assert out.endswith("All as it should be.\n")
    assert "NOT as" not in out
    assert "costs about" in err
    for found in ("| `off` | exit code 0", "| `status` after `off` | exit code 2", "| groups: accepted to first"):
        assert found in out
    assert "| `validate-all` without ec2:CreateTags | named |" in out
    assert out.count("only real packets can show it") == 3
    assert f"In {ec2.world.subnet}, three more security groups" in err
    assert world() == before


@pytest.mark.parametrize(
    ("action", "nth"), [("CreateVpc", 1), ("RunInstances", 4), ("ModifyNetworkInterfaceAttribute", 1)]
)
def test_an_interrupted_run_restores_the_account(ec2, world, start, action, nth):
    """When the call has taken effect, and the script does not know it yet."""
    before = world()
    process = start("--yes", f"--subnet={ec2.world.subnet}")
    ec2.rules.add(
        action, Hook(lambda call: (process.send_signal(signal.SIGINT), time.sleep(0.5)), late=True), nth=nth
    )
    out, err = process.communicate(timeout=250)
    assert process.returncode == 130, out + err
    assert "interrupted" in err
    assert "| left behind | nothing |" in out
    assert out.endswith("\n1 NOT as it should be.\n"), "a run that was cut short has shown nothing"
    assert [c.action for c in ec2.calls].count("CreateVpc") == 1
    assert world() == before


def test_clean_up_removes_what_a_killed_run_left(ec2, world, start):
    before = world()
    process = start("--yes")
    ec2.rules.add("CreateTags", Hook(lambda call: process.kill(), late=True))
    _, err = process.communicate(timeout=250)
    assert process.returncode == -signal.SIGKILL
    assert world() != before
    run = re.search(r"--clean-up (\S+)", err)
    cleaning = start("--clean-up", run[1])
    _, err = cleaning.communicate(timeout=250)
    assert cleaning.returncode == 0, err
    assert world() == before


def test_nothing_is_created_without_a_confirmation(ec2, start):
    process = start()
    _, err = process.communicate("no\n", timeout=60)
    assert process.returncode == 1
    assert "nothing was made" in err
    assert ec2.writes() == []


@pytest.mark.parametrize("kind", ["groups", "tags"])
def test_the_lag_of_reads_is_measured(ec2, client, kind):
    ec2.stale(**{f"{kind}_seconds": 3})
    node, eni = ec2.world.nodes["node1"], ec2.world.interfaces["node1"][0]
    tag, app = {"Key": "a", "Value": "b"}, [ec2.world.groups["app"]]

    def change():
        if kind == "tags":
            return client.create_tags(Resources=[node], Tags=[tag])
        return client.modify_network_interface_attribute(NetworkInterfaceId=eni, Groups=app)

    def shown():
        (found,) = client.describe_instances(InstanceIds=[node])["Reservations"][0]["Instances"]
        groups = {i["NetworkInterfaceId"]: [g["GroupId"] for g in i["Groups"]] for i in found["NetworkInterfaces"]}
        return tag in found["Tags"] if kind == "tags" else groups[eni] == app

    delays = measure.Delays()
    measure.watch(delays, change, shown, 0.3)
    assert 1 < delays.first[0] < 20, "3 s from when the change was made; its reply may take a part of it"
    assert (delays.reads > 0, delays.stale_after) == (True, 0)


# Flows: the program that runs on the instances, on two addresses of this machine


@pytest.fixture
def ends():
    """Both ends as processes, and what each said so far."""
    addresses = ("127.0.0.2", "127.0.0.3")
    with socket.socket() as free:
        free.bind((addresses[0], 0))
        port = str(free.getsockname()[1])
    pairs = (addresses, addresses[::-1])
    pipe = subprocess.PIPE
    running = [
        subprocess.Popen([sys.executable, flow.__file__, *pair, port, "0.25"], stdout=pipe, text=True)
        for pair in pairs
    ]
    yield running
    for process in running:
        process.kill()
        process.wait()


def said(process, lines):
    """So many lines of a console."""
    return "".join(process.stdout.readline() for _ in range(lines))


def said_at(process, moment):
    """The first line of a console that was written then or later."""
    while float((line := process.stdout.readline()).split()[1]) < moment:
        pass
    return line


def test_flows_are_seen_at_both_ends_and_seen_to_end(ends):
    one, other = ends
    for process in ends:
        known = [measure.last_report(said(process, 10))]
        while measure.flows(known[0], known[-1]) != (True, True):  # the other one may begin late
            known = [known[-1], measure.last_report(said(process, 10))]
    other.kill()
    other.wait()
    before = measure.last_report(said_at(one, time.time() + 1.5))
    after = measure.last_report(said(one, 8))
    assert measure.flows(before, after) == (False, False)


def test_a_flow_made_anew_is_not_the_old_one():
    one = measure.last_report(f"{flow.SIGN} 1.0 long=1:5 short=3\n[ 12.3] kernel\n")
    new = measure.last_report(f"{flow.SIGN} 1.0 long=2:50 short=4\n{flow.SIGN} 3.0 long=2:")
    assert measure.flows(one, new) == (False, True)
    assert measure.flows(one, measure.last_report("nothing yet")) == (None, None)


@pytest.mark.parametrize("name", ["flow.py", "sender.py"])
def test_user_data_is_a_short_script_that_starts_the_program(tmp_path, name):
    text = user_data(name, "10.0.0.1", str(PORT))
    assert len(text) < 16384, "EC2 takes no more"
    put = text.splitlines()[1].replace("/root/", f"{tmp_path}/")
    subprocess.run(["sh", "-c", put], check=True)
    source = Path(flow.__file__).with_name(name)
    assert (tmp_path / name).read_text(encoding="utf-8") == source.read_text(encoding="utf-8")
    assert f"{name} 10.0.0.1 {PORT} " in text


# How long the network lags: the arithmetic, on observations whose acceptance is at 100 s


def observed(dwell, new=0.3, established=None, retries=0, step=0.02):
    """Tries each ``step`` and lines each 20 ms: answered until so long after the acceptance; None: to the end."""
    tries = [98 + n * step for n in range(int(22 / step))]
    lines = [98 + n * 0.02 for n in range(1100)]
    last = [120 if seconds is None else 100 + seconds for seconds in (new, established)]
    answers = [at for at in tries if at <= last[0] + 1e-6]
    return Observation(
        dwell, 100.0, 120.0, tuple(tries), tuple(answers), tuple(at for at in lines if at <= last[1] + 1e-6), retries
    )


@pytest.mark.parametrize(
    ("new", "established", "expected"),
    [
        (0.3, 0.5, (0.3, 0.5)),
        (0.3, None, (0.3, None)),
        (None, None, (None, None)),
        (17.98, 18.02, (17.98, None)),  # less than 2 s before the end it may go on
        (-0.5, -0.5, (0.0, 0.0)),  # the network was faster than the reply
    ],
)
def test_delays_count_from_the_acceptance_and_to_the_last_arrival(new, established, expected):
    observation = observed(None, new, established)
    assert observation.valid
    assert (observation.new, observation.established) == pytest.approx(expected)


def test_uncertain_runs_are_not_counted():
    """A change that the SDK sent again may have been accepted earlier."""
    assert not observed(None, retries=1).valid
    assert not observed(None, new=-1.5).valid
    assert not observed(None, established=-1.5).valid
    assert settle.advise([observed(None, 9.0, retries=1), observed(None, 1.0)]).seconds == 5


def test_the_resolution_is_the_longest_time_without_a_try_or_a_line():
    assert observed(None).resolution == pytest.approx(0.02)
    assert observed(None, step=0.25).resolution == pytest.approx(0.25)
    whole = observed(None)
    hung = Observation(None, 100.0, 120.0, whole.tries[:200], whole.answers, whole.lines)
    assert hung.resolution == pytest.approx(120 - whole.tries[199]), "a receiver that hung has seen nothing"
    paused = tuple(at for at in whole.lines if not 99.2 < at < 99.7)
    stalled = Observation(None, 100.0, 120.0, whole.tries, whole.answers, paused)
    assert stalled.resolution == pytest.approx(0.5, abs=0.05)


def at_dwells(*survives):
    """Runs of each dwell; of those in ``survives`` the established connection goes on."""
    return [observed(d, 0.3, None if d is None or d in survives else 0.4) for d in DWELLS]


@pytest.mark.parametrize(
    ("observations", "seconds", "untracks"),
    [
        (at_dwells(), 5, True),
        (at_dwells(0.0, 0.5), 5, True),
        (at_dwells(0.0, 0.5, 1.0, 2.0), 10, True),  # 5 s was the least dwell that worked: twice that
        (at_dwells(2.0), 10, True),  # shorter ones only happened to work
        (at_dwells(0.0, 0.5, 1.0, 2.0, 5.0), 5, False),
        ([observed(None, 2.48)], 5, True),  # 2 × 2.5
        ([observed(None, 2.5)], 6, True),  # 2 × 2.52
        ([observed(None, 0.1), observed(None, 3.9), observed(None, 0.2)], 8, True),
        ([observed(None, 3.9, step=0.3)], 9, True),  # 2 × 4.2
        ([observed(None, 0.3), observed(0.0, 0.3, 7.0)], 15, True),  # the established one ended last
        ([observed(None, 0.3), observed(None, None)], None, True),
        ([observed(0.0, 0.3, 0.3)], None, True),  # nothing plain
        ([], None, True),
    ],
)
def test_the_settle_time_that_follows(observations, seconds, untracks):
    advice = settle.advise(observations)
    assert (advice.seconds, advice.untracks) == (seconds, untracks)


def test_the_report_shows_observations_and_conclusions():
    runs = [observed(None, new) for new in (0.2, 0.3, 2.6)]
    runs += [observed(0.0, 0.3), *(observed(5.0, 0.3, 0.4) for _ in range(2))]
    found = {what: (text, good) for what, text, good in settle.rows([*runs, observed(5.0, retries=1)])}
    assert found["plain swap: last new connection"] == (
        "ended in 3 of 3 runs, after 0.30 s (median), 2.60 s (maximum)",
        True,
    )
    assert found["plain swap: established connection"] == ("ended in 0 of 3 runs", None)
    assert found["untracked for 0 s: established connection"] == ("ended in 0 of 1 runs", None)
    assert found["untracked for 5 s: established connection"][0].startswith("ended in 2 of 2 runs, after 0.40 s")
    assert found["runs left out: sent again, or nothing arrived before"] == ("1", None)
    assert found["resolution"] == ("20 ms, at worst 20 ms", None)
    text, good = found["what follows"]
    assert (text.partition(" (")[0], good) == ("**settle_time=10**", True)
    assert "2 × 2.62 s" in text
    assert "2 × 5 s, the least dwell that worked" in text
    assert "up to 39 % of changes may be slower than the slowest of 6" in text
    timeouts = "deadline=55 pcmk_off_timeout=130 pcmk_reboot_timeout=130"
    assert found["for the configuration"][0] == f"pcs stonith update DEVICE settle_time=10 {timeouts}"


def test_the_report_shows_deviations():
    slow = {what: good for what, _, good in settle.rows([observed(None, 6.0), observed(5.0, 0.3)])}
    assert slow["plain swap: last new connection"] is False
    assert slow["untracked for 5 s: established connection"] is False
    assert slow["what follows"] is False
    assert slow["what this does not show"] is None
    (last,) = [text for what, text, _ in settle.rows([observed(None, None)]) if what == "for the configuration"]
    assert last == "nothing follows; use power fencing, or repeat"


# How long the network lags: a run, with a network between this machine and the sender that does


LAG = 2.0  # seconds; what is done "at once" takes less on a busy machine, too


class LaggingNetwork:
    """Forwards connections to the sender as security groups would, which it follows ``lag`` seconds later.

    It only ever sees the newest groups: those that lasted for less than ``lag`` it never sees.
    """

    def __init__(self, target, lag):
        self.target, self.lag = target, lag
        self.changes = [(0.0, "app")]
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = self.listener.getsockname()
        threading.Thread(target=self.accept, daemon=True).start()

    def change(self, group):
        self.changes.append((time.monotonic(), group))

    def groups(self):
        """What is in force, newest last."""
        changes, now = list(self.changes), time.monotonic()
        ends = [at for at, _ in changes[1:]] + [now]
        return [name for (at, name), end in zip(changes, ends) if min(now, end) >= at + self.lag]

    def accept(self):
        while True:
            try:
                link, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.forward, args=(link,), daemon=True).start()

    def forward(self, link):
        """A connection that began under app is tracked, until the network sees open."""
        with suppress(OSError), link, socket.create_connection(self.target) as sender_link:
            begun = self.groups()
            if begun[-1] == "isolation":
                link.recv(1)  # silent until it is given up
                return
            while data := sender_link.recv(65536):
                seen = self.groups()
                if seen[-1] == "isolation" and "open" in seen[len(begun) :]:
                    link.recv(1)
                    return
                link.sendall(data)


@pytest.fixture
def lines():
    """A sender, as runs on the instance."""
    with sender.Server(("127.0.0.1", 0), sender.Lines) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def network(lines):
    """Before a sender."""
    made = LaggingNetwork(lines.server_address, lag=LAG)
    yield made
    made.listener.close()


def test_a_refusal_is_a_packet_of_the_instance_too(lines):
    """A sender that died is not taken for an isolated instance."""
    receiver = Receiver(lines.server_address)
    receiver.start()
    lines.shutdown()
    lines.socket.close()
    seen, end = len(receiver.tries), time.monotonic() + 30
    while len(receiver.answers) < seen + 10 and time.monotonic() < end:
        time.sleep(0.02)
    receiver.close()
    assert len(receiver.answers) >= seen + 10


def test_the_lag_of_a_network_is_measured(ec2, client, network, monkeypatch):
    """The calls go to the emulator, whose network this is."""
    groups = {"app": ec2.world.groups["app"], "open": ec2.world.open, "isolation": ec2.world.isolation}
    names = {group: name for name, group in groups.items()}
    follow = Hook(lambda call: network.change(names[call.listing("SecurityGroupId")[0]]), late=True)
    ec2.rules.add("ModifyNetworkInterfaceAttribute", follow, times=None)
    bed = Bed(client, "run", lambda text: None)
    bed.groups = groups
    bed.sender = Sender(ec2.world.interfaces["node1"][0], network.address, groups)
    report = Report("", [])
    report.chapter("")
    monkeypatch.setattr(settle, "DWELLS", (None, 0.1, 4.0))
    data_plane(Story(bed, Agent("", []), report, True, 1, 0.0, window=3 * LAG + settle.QUIET_SECONDS))
    text = str(report)
    found = re.findall(r"last new connection \| ended in 1 of 1 runs, after ([\d.]+) s", text)
    assert len(found) == 3, text
    assert all(LAG / 4 < float(seconds) < 2 * LAG for seconds in found), text
    assert "untracked for 0.1 s: established connection | ended in 0 of 1 runs" in text
    assert "untracked for 4 s: established connection | ended in 1 of 1 runs" in text
    assert "2 × 4 s, the least dwell that worked" in text
