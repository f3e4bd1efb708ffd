"""tests/aws/acceptance against the emulator: all but what only real packets can show, and nothing is left behind."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import boto3
import pytest
from aws import flow, measure
from aws.bed import PORT, user_data
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
def start(ec2, tmp_path):
    """Starts the script."""
    started = []
    env = {k: os.environ[k] for k in ("PATH", "AGENT", "PYTHONDONTWRITEBYTECODE") if k in os.environ}

    def run(*arguments):
        options = [f"--endpoint-url={ec2.endpoint}", f"--region={ec2.region}", f"--agent={os.environ['AGENT']}"]
        options += ["--image=ami-12345678", "--without-packets", "--rounds=1", "--watch=0.2"]
        command = [sys.executable, str(SCRIPT), *options, *arguments]
        pipe = subprocess.PIPE
        process = subprocess.Popen(
            command,
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            text=True,
            env={**env, **ec2.environment(), "HOME": str(tmp_path)},
        )
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.wait()


@pytest.mark.timeout(300)
def test_it_finds_all_as_it_should_be_and_leaves_the_account_as_it_was(ec2, world, start):
    before = world()
    ec2.rules.add("CreateSubnet", Error("InvalidVpcID.NotFound"))  # not known everywhere yet
    ec2.rules.add("DeleteVpc", Error("DependencyViolation"))
    process = start("--yes", f"--role-arn=arn:aws:iam::{ec2.account}:role/tester")
    out, err = process.communicate(timeout=250)
    assert process.returncode == 0, out + err
    assert out.startswith("# fence_aws_vpc_net on EC2\n")
    assert out.endswith("All as it should be.\n")
    assert "NOT as" not in out
    assert "costs about" in err
    for found in ("| `off` | exit code 0", "| `status` after `off` | exit code 2", "| groups: accepted to first"):
        assert found in out
    assert "| `validate-all` without ec2:CreateTags | named |" in out
    assert out.count("only real packets can show it") == 2
    assert world() == before


@pytest.mark.parametrize(
    ("action", "nth"), [("CreateVpc", 1), ("RunInstances", 3), ("ModifyNetworkInterfaceAttribute", 1)]
)
def test_interrupted_in_the_middle_it_leaves_the_account_as_it_was(ec2, world, start, action, nth):
    """When the call has taken effect, and the script does not know it yet."""
    before = world()
    process = start("--yes")
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


def test_what_a_killed_run_left_goes_with_clean_up(ec2, world, start):
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


def test_it_asks_first_and_makes_nothing_without_a_yes(ec2, start):
    process = start()
    _, err = process.communicate("no\n", timeout=60)
    assert process.returncode == 1
    assert "nothing was made" in err
    assert ec2.writes() == []


@pytest.mark.parametrize("kind", ["groups", "tags"])
def test_how_long_reads_lag_is_measured(ec2, client, kind):
    ec2.stale(**{f"{kind}_seconds": 0.5})
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
    assert 0.3 < delays.first[0] < 2
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


def test_flows_are_seen_at_both_ends_and_seen_to_end(ends):
    one, other = ends
    first = [measure.last_report(said(p, 10)) for p in ends]
    later = [measure.last_report(said(p, 10)) for p in ends]
    assert [measure.flows(a, b) for a, b in zip(first, later)] == [(True, True)] * 2
    other.kill()
    said(one, 2)
    before, after = measure.last_report(said(one, 1)), measure.last_report(said(one, 8))
    assert measure.flows(before, after) == (False, False)


def test_a_flow_made_anew_is_not_the_old_one():
    one = measure.last_report(f"{flow.SIGN} 1.0 long=1:5 short=3\n[ 12.3] kernel\n")
    new = measure.last_report(f"{flow.SIGN} 1.0 long=2:50 short=4\n{flow.SIGN} 3.0 long=2:")
    assert measure.flows(one, new) == (False, True)
    assert measure.flows(one, measure.last_report("nothing yet")) == (None, None)


def test_user_data_is_a_short_script_that_starts_the_program(tmp_path):
    text = user_data("10.0.0.1", "10.0.0.2")
    assert len(text) < 16384, "EC2 takes no more"
    put = text.splitlines()[1].replace("/root/", f"{tmp_path}/")
    subprocess.run(["sh", "-c", put], check=True)
    assert (tmp_path / "flow.py").read_text(encoding="utf-8") == Path(flow.__file__).read_text(encoding="utf-8")
    assert f"flow.py 10.0.0.1 10.0.0.2 {PORT} " in text
