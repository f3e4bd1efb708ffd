"""Errors that pass: at least all that the SDK itself would retry, whichever version of it is there."""

import json
import os
import subprocess

import pytest
from assertions import is_isolated
from ec2.faults import Error, Stall

from aws_vpc_net import ec2_errors
from aws_vpc_net.ec2 import CallContext
from aws_vpc_net.errors import Category

# As EC2, STS and services beside them send them; some SDKs and tools show a prefix.
CODES = (
    "BandwidthLimitExceeded Client.RequestLimitExceeded EC2ThrottledException IDPCommunicationError "
    "InternalFailure LimitExceededException PriorRequestNotComplete ProvisionedThroughputExceededException "
    "RequestThrottledException RequestTimeoutException Server.InternalError Server.Unavailable SlowDown "
    "ThrottledException TransactionInProgressException".split()
)
CALLS = ["DescribeInstances", "CreateTags", "ModifyNetworkInterfaceAttribute"]
# What the SDK retries by its standard mode, and by its legacy mode for these two services.
LISTS = """
import json
from botocore import loaders
from botocore.retries import standard
def codes(value):
    if isinstance(value, list):
        return [code for item in value for code in codes(item)]
    if not isinstance(value, dict):
        return []
    found = [value["service_error_code"]] if "service_error_code" in value else []
    return found + [code for item in value.values() for code in codes(item)]
legacy = loaders.create_loader().load_data("_retry")
print(json.dumps({
    "transient": standard.TransientRetryableChecker._TRANSIENT_ERROR_CODES,
    "statuses": standard.TransientRetryableChecker._TRANSIENT_STATUS_CODES,
    "throttled": standard.ThrottledRetryableChecker._THROTTLED_ERROR_CODES,
    "legacy": codes(legacy["definitions"]) + codes(legacy["retry"]["ec2"]) + codes(legacy["retry"]["sts"]),
}))
"""


@pytest.mark.parametrize("code", CODES)
def test_off_retries_a_transient_error(agent, ec2, keep, code):
    """Once at each kind of call, with the status of a refusal: only the code identifies it."""
    node = ec2.world.nodes["node1"]
    rules = [ec2.rules.add(call, Error(code, "Try again.")) for call in CALLS]
    result = agent.command("off", node, **keep)
    assert [rule.fired for rule in rules] == [1, 1, 1]
    assert result.code == 0, result.err
    assert is_isolated(ec2, node, keep)


def test_a_node_is_fenced_while_another_zone_is_disrupted(agent, ec2, keep):
    """EC2 then describes instances of the other zones, and by ID only."""
    node = ec2.world.nodes["node1"]
    before = ec2.snapshot()
    ec2.config.disrupted = {ec2.world.nodes["node2"]}
    assert agent.pacemaker("off", node, **keep).code == 0
    assert is_isolated(ec2, node, keep)
    refused = [c for c in ec2.calls_of("DescribeInstances") if c.error]
    assert len(refused) == 1, "how to ask is found out once"
    assert agent.command("status", node, **keep).code == 2
    assert agent.pacemaker("on", node, **keep).code == 0
    assert ec2.snapshot() == before


@pytest.mark.parametrize("own", ["node1", "node2"])
def test_monitor_passes_on_a_node_outside_of_a_disrupted_zone(agent, ec2, keep, own):
    """A device that fails everywhere is stopped, and stays so."""
    ec2.config.disrupted = {ec2.world.nodes["node2"]}
    agent.is_on(ec2.world.nodes[own])
    result = agent.pacemaker("monitor", **keep)
    assert result.code == (own == "node2"), result.err
    if own == "node1":
        assert [c.error for c in ec2.calls] == ["Unavailable", None, None]


def test_a_node_in_a_disrupted_zone_cannot_be_fenced(agent, ec2, keep):
    node = ec2.world.nodes["node1"]
    ec2.config.disrupted = {node}
    result = agent.command("off", node, deadline=4, **keep)
    assert result.code == 1
    assert "Unavailable" in result.last
    assert result.seconds < 6


def test_a_read_by_id_decides_nothing_about_unknown_instances(agent, ec2, keep):
    """This machine may be of another account."""
    node, unknown = ec2.world.nodes["node1"], "i-" + "0" * 17
    agent.is_on(unknown)
    ec2.rules.add("DescribeInstances", Error("Unavailable", "Try again.", 503))
    assert agent.command("off", node, **keep).code == 0
    first, second, third = ec2.calls_of("DescribeInstances")[:3]
    assert (first.error, second.error, third.error) == ("Unavailable", "InvalidInstanceID.NotFound", None)
    ec2.rules.add("DescribeInstances", Error("Unavailable", "Try again.", 503), times=None)
    result = agent.command("off", node, deadline=4, **keep)
    assert "Unavailable" in result.last
    assert "NotFound" not in result.last


def test_a_read_that_the_deadline_cuts_off_after_one_by_id_names_the_cause(agent, ec2, keep):
    agent.is_on("i-" + "0" * 17)
    ec2.rules.add("DescribeInstances", Error("Unavailable", "Try again.", 503))
    ec2.rules.add("DescribeInstances", Stall(), nth=3, times=None)
    result = agent.command("off", ec2.world.nodes["node1"], deadline=8, api_timeout=8, **keep)
    assert result.code == 1
    assert [c.error for c in ec2.calls_of("DescribeInstances")][:2] == ["Unavailable", "InvalidInstanceID.NotFound"]
    assert "Unavailable" in result.last


@pytest.mark.parametrize("action", ["off", "on"])
def test_an_interface_that_is_still_being_attached_is_changed_later(agent, ec2, keep, action):
    """Nothing is rolled back. The error code of EC2 is documented; its text is not."""
    node = ec2.world.nodes["node1"]
    before = ec2.snapshot()
    second = ec2.world.interfaces["node1"][1]
    if action == "on":
        assert agent.command("off", node, **keep).code == 0
    busy = Error("IncorrectState", f"Network interface '{second}' is being attached.")
    when = lambda call: call.params["NetworkInterfaceId"] == second  # noqa: E731
    rule = ec2.rules.add("ModifyNetworkInterfaceAttribute", busy, when=when, times=2)
    result = agent.command(action, node, **keep)
    assert rule.fired == 2
    assert result.code == 0, result.err
    assert len(ec2.calls_of("ModifyNetworkInterfaceAttribute")) == 4 + 2 * (action == "on")
    assert is_isolated(ec2, node, keep) == (action == "off")
    assert action == "off" or ec2.snapshot() == before


@pytest.mark.parametrize("code", sorted({*ec2_errors.TRANSIENT, *ec2_errors.THROTTLED, *ec2_errors.BUSY}))
def test_only_a_change_that_was_refused_is_rolled_back(code):
    """A throttled change was not made. After what else passes it may have been."""
    reply = {"Error": {"Code": code, "Message": "Try again."}, "ResponseMetadata": {"HTTPStatusCode": 400}}
    purpose = CallContext("set groups", Category.MODIFICATION)
    error = ec2_errors.from_reply(reply, purpose, "ModifyNetworkInterfaceAttribute")
    assert error.transient
    assert error.outcome_unknown == (code in ec2_errors.TRANSIENT)


@pytest.mark.parametrize("code", ["IDPCommunicationError", "Client.RequestLimitExceeded", "SlowDown"])
def test_sts_is_retried_after_a_transient_error(agent, ec2, keep, code):
    (agent.folder / ".aws").mkdir()
    role = f"[profile r]\nrole_arn=arn:aws:iam::{ec2.account}:role/r\nsource_profile=base\n[profile base]\n"
    keys = f"aws_access_key_id={ec2.key.access_key}\naws_secret_access_key={ec2.key.secret_key}\n"
    (agent.folder / ".aws" / "config").write_text(role + keys, encoding="ascii")
    agent.options.update(access_key=None, secret_key=None, profile="r")
    agent.env["PYTHONPATH"] = os.environ["BOTO3_NEWEST"]
    agent.env["AWS_ENDPOINT_URL_STS"] = ec2.endpoint
    rule = ec2.rules.add("AssumeRole", Error(code, "Try again."))
    assert agent.command("status", ec2.world.nodes["node1"], **keep).code == 0
    assert rule.fired == 1


@pytest.mark.parametrize("which", ["distribution", "oldest", "newest"])
def test_errors_that_the_sdk_retries_are_transient(which):
    folder = "" if which == "distribution" else os.environ[f"BOTO3_{which.upper()}"]
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": folder, "PYTHONDONTWRITEBYTECODE": "1"}
    python = os.environ.get("PYTHON", "/usr/bin/python3")
    done = subprocess.run([python, "-c", LISTS], env=env, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert len(found["transient"]) >= 3
    assert len(found["throttled"]) >= 13
    assert "IDPCommunicationError" in found["legacy"]
    codes = {*found["transient"], *found["throttled"], *found["legacy"]}
    assert [code for code in sorted(codes) if not ec2_errors.is_transient(code, 400)] == []
    assert [status for status in found["statuses"] if not ec2_errors.is_transient("", status)] == []
