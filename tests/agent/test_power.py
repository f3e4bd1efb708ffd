"""Stopping on off, starting on on."""

import os

import pytest
from assertions import groups, is_isolated


@pytest.fixture
def node(ec2):
    return ec2.world.nodes["node1"]


def test_poweroff_also_of_an_instance_that_is_isolated_already(agent, ec2, node, mode):
    assert agent.command("off", node, **mode).code == 0
    assert agent.command("off", node, onfence_poweroff=True, **mode).code == 0
    assert ec2.snapshot()[node]["state"] == "stopped"


def test_skip_os_shutdown_where_the_sdk_knows_it(agent, ec2, node, keep):
    agent.env["PYTHONPATH"] = os.environ["BOTO3_NEWEST"]
    assert agent.command("off", node, onfence_poweroff=True, skip_os_shutdown="true", **keep).code == 0
    assert [c.flag("SkipOsShutdown") for c in ec2.calls_of("StopInstances")] == [True]


def test_an_sdk_that_does_not_know_it_stops_without(agent, ec2, node, keep):
    agent.env["PYTHONPATH"] = os.environ["BOTO3_OLDEST"]
    result = agent.command("off", node, onfence_poweroff=True, skip_os_shutdown="true", **keep)
    assert result.code == 0
    assert any("cannot stop it with skip_os_shutdown" in line for line in result.lines)
    assert ec2.snapshot()[node]["state"] == "stopped"


@pytest.mark.parametrize("answer", ["refuse", "unknown"])
def test_an_instance_or_api_that_does_not_support_it_is_stopped_without(agent, ec2, node, keep, answer):
    agent.env["PYTHONPATH"] = os.environ["BOTO3_NEWEST"]
    ec2.config.skip_os_shutdown = answer
    result = agent.command("off", node, onfence_poweroff=True, skip_os_shutdown="true", **keep)
    assert result.code == 0
    assert any("cannot stop it with skip_os_shutdown" in line for line in result.lines)
    assert ec2.snapshot()[node]["state"] == "stopped"


def test_an_instance_that_cannot_be_stopped_is_fenced_with_a_warning(agent, ec2, node, keep):
    ec2.config.unstoppable.add(node)
    result = agent.command("off", node, onfence_poweroff=True, **keep)
    assert result.code == 0
    assert "is isolated but was not stopped" in result.last
    assert "UnsupportedOperation" in result.last


@pytest.mark.parametrize("state", ["stopped", "running"])
def test_poweron_after_the_groups_are_restored(agent, ec2, node, mode, state):
    before = ec2.snapshot()
    assert agent.command("off", node, **mode).code == 0
    ec2.edit.set_state(node, state)
    start = len(ec2.calls)
    assert agent.pacemaker("on", node, unfence_poweron="true", **mode).code == 0
    assert ec2.snapshot() == before
    done = [c.action for c in ec2.calls[start:] if not c.reads]
    two = ["ModifyNetworkInterfaceAttribute"] * 2
    assert done == [*two, "DeleteTags", *(["StartInstances"] if state == "stopped" else [])]


def test_poweron_waits_out_a_stop(agent, ec2, node, keep):
    before = ec2.snapshot()
    ec2.config.stop_seconds = 2.0
    assert agent.command("off", node, onfence_poweroff=True, **keep).code == 0
    assert ec2.snapshot()[node]["state"] == "stopping"
    assert agent.command("on", node, unfence_poweron=True, **keep).code == 0
    assert ec2.snapshot() == before


def test_a_start_that_fails_is_a_failure_and_can_be_repeated(agent, ec2, node, keep):
    before = ec2.snapshot()
    assert agent.command("off", node, onfence_poweroff=True, **keep).code == 0
    ec2.key.deny("ec2:StartInstances")
    result = agent.command("on", node, unfence_poweron=True, **keep)
    assert result.code == 1
    assert "permission error" in result.last
    assert "allow ec2:StartInstances" in result.last
    assert groups(ec2, node) == before[node]["interfaces"]
    ec2.key.permit_all()
    assert agent.command("on", node, unfence_poweron=True, **keep).code == 0
    assert ec2.snapshot() == before


def test_a_stop_that_never_ends_fails_by_the_deadline(agent, ec2, node, keep):
    assert agent.command("off", node, **keep).code == 0
    ec2.edit.set_state(node, "stopping")
    result = agent.command("on", node, unfence_poweron=True, deadline=4, **keep)
    assert result.code == 1
    assert "was not started" in result.last
    assert result.seconds < 6


def test_without_it_nothing_is_started(agent, ec2, node, keep):
    assert agent.command("off", node, onfence_poweroff=True, **keep).code == 0
    assert agent.command("on", node, unfence_poweron="false", **keep).code == 0
    assert ec2.snapshot()[node]["state"] == "stopped"
    assert not is_isolated(ec2, node, keep)
