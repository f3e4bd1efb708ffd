"""Stopping on off, starting on on."""

import os
import time

import boto3
import pytest
from assertions import groups, is_isolated, our_tags
from ec2.faults import Error, Hook, LoseReply
from test_races import once


def test_poweroff_also_of_an_instance_that_is_isolated_already(agent, ec2, node, mode):
    assert agent.command("off", node, **mode).code == 0
    assert agent.command("off", node, onfence_poweroff=True, **mode).code == 0
    assert ec2.snapshot()[node]["state"] == "stopped"


@pytest.mark.parametrize("sdk", ["BOTO3_NEWEST", "BOTO3_OLDEST"])
def test_skip_os_shutdown_whatever_the_sdk_knows(agent, ec2, node, keep, sdk):
    agent.env["PYTHONPATH"] = os.environ[sdk]
    result = agent.command("off", node, onfence_poweroff=True, skip_os_shutdown="true", **keep)
    assert result.code == 0
    assert [c.flag("SkipOsShutdown") for c in ec2.calls_of("StopInstances")] == [True]
    assert "SkipOsShutdown" not in result.err
    assert ec2.snapshot()[node]["state"] == "stopped"


@pytest.mark.parametrize("answer", ["refuse", "unknown"])
def test_an_instance_or_api_that_does_not_support_it_is_stopped_without(agent, ec2, node, keep, answer):
    agent.env["PYTHONPATH"] = os.environ["BOTO3_NEWEST"]
    ec2.config.skip_os_shutdown = answer
    result = agent.command("off", node, onfence_poweroff=True, skip_os_shutdown="true", **keep)
    assert result.code == 0
    assert any("cannot stop it with SkipOsShutdown" in line for line in result.lines)
    assert ec2.snapshot()[node]["state"] == "stopped"


def test_a_stop_that_is_refused_either_way_is_no_slow_stop(agent, ec2, node, keep):
    """EC2 uses the same code where the instance, and where SkipOsShutdown, is the reason."""
    agent.env["PYTHONPATH"] = os.environ["BOTO3_NEWEST"]
    ec2.edit.stop_protection(node)
    result = agent.command("off", node, onfence_poweroff=True, skip_os_shutdown="true", **keep)
    assert result.code == 0
    assert len(ec2.calls_of("StopInstances")) == 2
    assert "is isolated but was not stopped" in result.last
    assert "SkipOsShutdown" not in result.err


def test_an_instance_that_cannot_be_stopped_is_fenced_with_a_warning(agent, ec2, node, keep):
    ec2.config.unstoppable.add(node)
    result = agent.command("off", node, onfence_poweroff=True, **keep)
    assert result.code == 0
    assert "is isolated but was not stopped" in result.last
    assert "UnsupportedOperation" in result.last


NO_THREAD_FOR_THE_STOP = """
import sys, threading
start = threading.Thread.start
def refuse(thread):
    frame = sys._getframe()
    while frame is not None:
        if frame.f_code.co_filename.endswith("instances.py") and frame.f_code.co_name == "stop":
            raise RuntimeError("can't start new thread")
        frame = frame.f_back
    start(thread)
threading.Thread.start = refuse
"""


def test_a_stop_that_cannot_be_requested_is_a_warning(agent, ec2, node, keep, tmp_path):
    """Whatever the error: the instance is isolated, and keeps running."""
    (tmp_path / "sitecustomize.py").write_text(NO_THREAD_FOR_THE_STOP, encoding="ascii")
    agent.env["PYTHONPATH"] = str(tmp_path)
    result = agent.command("off", node, onfence_poweroff=True, **keep)
    assert result.code == 0
    assert "is isolated but was not stopped: RuntimeError: can't start new thread" in result.last
    assert ec2.calls_of("StopInstances") == []


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
    assert done == ["CreateTags", *two, "DeleteTags", *(["StartInstances"] if state == "stopped" else [])]


def test_poweron_waits_out_a_stop(agent, ec2, node, keep):
    before = ec2.snapshot()
    ec2.config.stop_seconds = 3600
    assert agent.command("off", node, onfence_poweroff=True, **keep).code == 0
    assert ec2.snapshot()[node]["state"] == "stopping"
    # on makes so many reads only while it waits for the stop.
    ec2.rules.add("DescribeInstances", Hook(lambda _call: ec2.edit.end_transitions()), nth=6)
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


@pytest.mark.parametrize("code", ["InvalidInstanceID.NotFound", "IncorrectInstanceState"])
@pytest.mark.parametrize("times", [1, 2])
def test_a_start_that_contradicts_the_read_is_repeated_once_after_another_read(agent, ec2, node, keep, code, times):
    """EC2's view may be behind, or the read was stale."""
    assert agent.command("off", node, onfence_poweroff=True, **keep).code == 0
    ec2.calls.clear()
    rule = ec2.rules.add("StartInstances", Error(code, f"{node} cannot be started"), times=times)
    result = agent.command("on", node, unfence_poweron=True, **keep)
    assert rule.fired == times
    starts = [c.error for c in ec2.calls_of("StartInstances")]
    if times == 1:
        assert result.code == 0
        assert starts == [code, None]
        assert ec2.snapshot()[node]["state"] == "running"
    else:
        assert result.code == 1
        assert f"{node} cannot be started" in result.last
        assert starts == [code, code]


def test_poweron_waits_until_the_request_of_a_spot_instance_allows_a_start(agent, ec2, node, keep):
    """EC2 disables the request after a stop, which takes minutes, and refuses a start until then."""
    before = ec2.snapshot()
    ec2.edit.spot(node)
    ec2.config.spot_seconds = 3600
    assert agent.command("off", node, onfence_poweroff=True, **keep).code == 0
    running = agent.start(*agent.arguments("on", node, unfence_poweron=True, **keep))
    while running.poll() is None and len([c for c in ec2.calls_of("StartInstances") if c.error]) < 2:
        time.sleep(0.05)
    ec2.config.spot_seconds = 0
    assert running.wait(timeout=60) == 0
    assert ec2.snapshot() == before
    starts = [c.error for c in ec2.calls_of("StartInstances")]
    assert len(starts) > 2
    assert starts == ["IncorrectSpotRequestState"] * (len(starts) - 1) + [None]


def test_a_spot_instance_that_only_ec2_can_start_fails_by_the_deadline(agent, ec2, node, keep):
    ec2.edit.spot(node)
    assert agent.command("off", node, **keep).code == 0
    ec2.edit.interrupted(node)
    result = agent.command("on", node, unfence_poweron=True, deadline=8, **keep)
    assert result.code == 1
    assert "are restored, but it was not started" in result.last
    assert "IncorrectSpotRequestState: You can't start the Spot Instance" in result.last
    assert result.seconds < 10


def test_poweron_waits_until_the_instance_runs(agent, ec2, node, keep):
    before = ec2.snapshot()
    ec2.config.start_seconds = 2.0
    assert agent.command("off", node, onfence_poweroff=True, **keep).code == 0
    assert agent.command("on", node, unfence_poweron=True, **keep).code == 0
    assert len(ec2.calls_of("StartInstances")) == 1
    assert ec2.snapshot() == before


def test_an_instance_that_stops_again_was_not_started(agent, ec2, node, keep):
    """EC2 accepts the start, and stops it if the caller may not use the key of its encrypted volumes."""
    assert agent.command("off", node, onfence_poweroff=True, **keep).code == 0
    ec2.config.cannot_boot.add(node)
    ec2.config.start_seconds = 1.0
    result = agent.command("on", node, unfence_poweron=True, deadline=8, **keep)
    assert result.code == 1
    assert "it was not started" in result.last
    assert "EC2 showed it as stopped" in result.last
    assert "kms:CreateGrant" in result.last
    assert result.seconds < 10


def test_an_instance_that_takes_longer_to_start_is_left_to_ec2(agent, ec2, node, keep):
    """As bare metal does: it is on its way."""
    assert agent.command("off", node, onfence_poweroff=True, **keep).code == 0
    ec2.config.start_seconds = 3600
    result = agent.command("on", node, unfence_poweron=True, deadline=8, **keep)
    assert result.code == 0, result.err
    assert result.seconds < 10


def test_a_stop_that_never_ends_fails_by_the_deadline(agent, ec2, node, keep):
    assert agent.command("off", node, **keep).code == 0
    ec2.edit.set_state(node, "stopping")
    result = agent.command("on", node, unfence_poweron=True, deadline=4, **keep)
    assert result.code == 1
    assert "was not started" in result.last
    assert result.seconds < 6


def test_a_plug_that_still_stops_holds_up_no_other(agent, ec2, keep):
    nodes = [ec2.world.nodes[name] for name in ("node1", "node2")]
    before = ec2.snapshot()
    assert agent.command("off", ",".join(nodes), **keep).code == 0
    ec2.edit.set_state(nodes[0], "stopping")
    ec2.edit.set_state(nodes[1], "stopped")
    result = agent.command("on", ",".join(nodes), unfence_poweron=True, deadline=8, **keep)
    assert result.code == 1
    assert f"{nodes[0]} are restored, but it was not started" in result.last
    assert nodes[1] not in result.last
    assert ec2.snapshot()[nodes[1]] == before[nodes[1]]
    assert result.seconds < 10


def test_plugs_that_still_stop_are_waited_for_together(agent, ec2, keep):
    nodes = [ec2.world.nodes[name] for name in ("node1", "node2")]
    before = ec2.snapshot()
    ec2.config.stop_seconds = 5.0
    assert agent.command("off", ",".join(nodes), onfence_poweroff=True, **keep).code == 0
    result = agent.command("on", ",".join(nodes), unfence_poweron=True, **keep)
    assert result.code == 0, result.err
    assert ec2.snapshot() == before


def test_poweron_of_a_hibernated_node_is_refused(agent, ec2, node, keep):
    """It would go on with its memory of before the fence, as after a return by auto_unfence."""
    before = ec2.snapshot()
    options = {**keep, "onfence_poweroff": True, "unfence_poweron": True}
    assert agent.command("off", node, **options).code == 0
    ec2.edit.hibernated(node)
    fenced = ec2.snapshot()
    result = agent.command("on", node, **options)
    assert result.code == 1
    assert result.last.startswith(f"ERROR: state error: {node} was hibernated, and a start (unfence_poweron) would")
    assert ec2.snapshot() == fenced
    for state in ("running", "stopped"):
        ec2.edit.set_state(node, state)
    assert agent.command("on", node, **options).code == 0
    assert ec2.snapshot() == before


def test_ignoring_the_restore_starts_nothing(agent, ec2, node, keep):
    """And says so: its groups are not back."""
    options = {**keep, "onfence_poweroff": True, "unfence_poweron": True, "unfence_ignore_restore": True}
    assert agent.command("off", node, **options).code == 0
    before, calls = ec2.snapshot(), len(ec2.calls)
    result = agent.command("on", node, **options)
    assert result.code == 0
    assert result.last.startswith(f"WARNING: {node}: unfence_poweron has no effect with unfence-ignore-restore")
    assert (ec2.snapshot(), len(ec2.calls)) == (before, calls)
    checked = agent.command("validate-all", node, **options, ignore_instance_state=True).out
    assert "warn unfence_poweron: has no effect with unfence-ignore-restore" in checked
    assert "ec2:StartInstances" not in checked


def test_without_it_nothing_is_started(agent, ec2, node, keep):
    assert agent.command("off", node, onfence_poweroff=True, **keep).code == 0
    assert agent.command("on", node, unfence_poweron="false", **keep).code == 0
    assert ec2.snapshot()[node]["state"] == "stopped"
    assert not is_isolated(ec2, node, keep)


# --- require_poweroff ----------------------------------------------------------------------------------------------


@pytest.fixture
def required(mode):
    return {**mode, "onfence_poweroff": True, "require_poweroff": True}


def test_off_succeeds_once_the_instance_has_stopped(agent, ec2, node, required):
    agent.env["PYTHONPATH"] = os.environ["BOTO3_NEWEST"]
    ec2.config.stop_seconds = 1.5
    other = ec2.world.nodes["node2"]
    assert agent.pacemaker("off", f"{node},{other}", plug_separator=",", **required).code == 0
    for plug in (node, other):  # they stop at the same time
        assert ec2.snapshot()[plug]["state"] == "stopped"
        assert is_isolated(ec2, plug, required)
    assert [c.flag("SkipOsShutdown") for c in ec2.calls_of("StopInstances")] == [True, True]


@pytest.mark.parametrize("refusal", ["unsupported", "protected", "no permission"])
def test_off_fails_if_the_stop_is_refused(agent, ec2, node, required, refusal):
    if refusal == "unsupported":
        ec2.config.unstoppable.add(node)
    elif refusal == "protected":
        ec2.edit.stop_protection(node)
    else:
        ec2.key.deny("ec2:StopInstances")
    result = agent.command("off", node, **required)
    assert result.code == 1
    assert "is isolated but was not stopped, which require_poweroff requires" in result.last
    assert is_isolated(ec2, node, required)
    ec2.config.unstoppable.clear()
    ec2.edit.stop_protection(node, False)
    ec2.key.permit_all()
    assert agent.command("off", node, **required).code == 0
    assert ec2.snapshot()[node]["state"] == "stopped"


def test_off_fails_if_the_stop_does_not_end_by_the_deadline(agent, ec2, node, required):
    ec2.config.stop_seconds = 60
    result = agent.command("off", node, deadline=6, **required)
    assert result.code == 1
    assert "EC2 showed it as stopping" in result.last  # also if the deadline cuts off the last read
    assert is_isolated(ec2, node, required)
    once(ec2, "StopInstances", lambda: ec2.edit.set_state(node, "stopped"), late=True)
    assert agent.command("off", node, **required).code == 0, "a repeated off waits for it"
    ec2.edit.put_tags(node, dict.fromkeys(our_tags(ec2, node)))
    assert agent.command("off", node, **required).code == 1, "nothing says that an off has stopped it"


def test_a_lost_reply_to_the_stop_is_asked_again(agent, ec2, node, required):
    ec2.rules.add("StopInstances", LoseReply(), times=1)
    assert agent.command("off", node, **required).code == 0
    assert ec2.snapshot()[node]["state"] == "stopped"


@pytest.mark.parametrize("shown", ["pending", "stopping", "stopped"])
def test_an_instance_that_does_not_read_running_is_stopped_too(agent, ec2, node, required, shown):
    """One that starts, once it can be; one whose shutdown hangs; one that runs again, which reads do not show yet."""
    ec2.edit.set_state(node, "stopped")
    if shown == "pending":
        ec2.config.start_seconds = 1.0
        boto3.client("ec2", **ec2.client_kwargs()).start_instances(InstanceIds=[node])
    elif shown == "stopped":
        ec2.edit.set_state(node, "running")
        ec2.stale(states_changes=1, when=lambda _call: not ec2.calls_of("StopInstances"))
    else:
        ec2.edit.set_state(node, "stopping")
        once(ec2, "StopInstances", lambda: ec2.edit.set_state(node, "stopped"), late=True)
    result = agent.command("off", node, ignore_instance_state=True, **required)
    assert result.code == 0, result.err
    assert ec2.calls_of("StopInstances")
    assert ec2.snapshot()[node]["state"] == "stopped"
    assert is_isolated(ec2, node, required)


@pytest.mark.parametrize("action", ["off", "on", "status", "monitor"])
def test_requiring_a_stop_without_one_is_a_usage_error(agent, ec2, node, keep, action):
    result = agent.command(action, node, require_poweroff=True, **keep)
    assert result.code == 1
    assert "require_poweroff requires onfence_poweroff" in result.last
    assert not ec2.calls
