"""off when EC2 misbehaves: no false success, no lost originals, and passing trouble does not fail it."""

import os
import signal
import threading
from dataclasses import replace

import pytest
from assertions import groups, is_isolated, our_tags
from ec2 import AccessKey
from ec2.faults import Delay, Error, Garbage, Hook, LoseReply, Reset, ServerError, Stall, Throttle, Truncate
from test_access import chain

CALLS = ["DescribeInstances", "CreateTags", "ModifyNetworkInterfaceAttribute"]
PASSING = [Throttle, ServerError, Reset, LoseReply, Garbage, Truncate, lambda: LoseReply(reset=True)]


def on_interface(interface):
    return lambda call: call.params.get("NetworkInterfaceId") == interface


def both_ways(agent, ec2, node, options, before):
    """After this, an off without faults isolates, and an on without faults restores everything."""
    assert agent.command("off", node, **options).code == 0
    assert is_isolated(ec2, node, options)
    assert agent.command("on", node, **options).code == 0
    assert ec2.snapshot() == before


@pytest.mark.parametrize("fault", PASSING, ids=[f"{n}" for n in range(len(PASSING))])
def test_transient_errors_do_not_fail_it(agent, ec2, keep, fault):
    """Twice at each kind of call."""
    node = ec2.world.nodes["node1"]
    before = ec2.snapshot()
    rules = [ec2.rules.add(call, fault(), times=2) for call in CALLS]
    result = agent.command("off", node, verbose=True, **keep)
    assert [rule.fired for rule in rules] == [2, 2, 2]
    assert result.code == 0, result.err
    assert is_isolated(ec2, node, keep)
    ec2.rules.clear()
    assert agent.command("on", node, **keep).code == 0
    assert ec2.snapshot() == before


def test_throttled_changes_are_repeated_one_at_a_time_and_without_a_read(agent, ec2, keep):
    """Each read, and each refused attempt of another interface, would be one more call of the account."""
    node = ec2.edit.add_instance("other", [{"groups": [ec2.world.groups["app"]]}] * 3)
    ec2.rules.add(CALLS[2], Delay(0.5), times=None)
    ec2.rules.add(CALLS[2], Throttle(), times=3 + 1)
    assert agent.command("off", node, **keep).code == 0
    assert is_isolated(ec2, node, keep)
    assert (len(ec2.calls_of("DescribeInstances")), len(ec2.calls_of("CreateTags"))) == (3, 1)
    repeated = ec2.calls_of(CALLS[2])[3:]
    assert len(repeated) == 1 + 3
    assert all(later.at >= earlier.ended for earlier, later in zip(repeated, repeated[1:]))


@pytest.mark.parametrize("kind", ["tags", "groups"])
def test_stale_reads_do_not_fail_it(agent, ec2, mode, kind):
    node = ec2.world.nodes["node1"]
    before = ec2.snapshot()
    ec2.stale(**{f"{kind}_changes": 1}, reads=4)
    assert agent.command("off", node, **mode).code == 0
    ec2.fresh()
    assert is_isolated(ec2, node, mode)
    assert agent.command("on", node, **mode).code == 0
    assert ec2.snapshot() == before


def test_without_permission_to_write_tags_nothing_is_isolated(agent, ec2, mode):
    node = ec2.world.nodes["node1"]
    before = ec2.snapshot()
    ec2.key.deny("ec2:CreateTags")
    result = agent.command("off", node, **mode)
    assert result.code == 1
    assert "permission error" in result.last
    assert "allow ec2:CreateTags" in result.last
    assert ec2.snapshot() == before


@pytest.mark.parametrize("code", ["TagLimitExceeded", "TagPolicyViolation"])
def test_refused_tags_are_a_tag_error(agent, ec2, keep, code):
    node = ec2.world.nodes["node1"]
    before = ec2.snapshot()
    ec2.rules.add("CreateTags", Error(code))
    result = agent.command("off", node, **keep)
    assert (result.code, result.last.startswith("ERROR: tag error")) == (1, True)
    assert code in result.last
    assert ec2.snapshot() == before


def test_tags_that_are_accepted_but_never_seen_isolate_nothing(agent, ec2, keep):
    node = ec2.world.nodes["node1"]
    before = groups(ec2, node)
    ec2.stale(tags_changes=1000)
    result = agent.command("off", node, deadline=4, **keep)
    assert result.code == 1
    assert "tag error" in result.last
    assert "could not be verified" in result.last
    assert groups(ec2, node) == before
    assert result.seconds < 6


@pytest.mark.parametrize("how", ["denied", "unseen", "throttled"])
def test_ignore_tag_write_failure_isolates_without_tags(agent, ec2, mode, how):
    node = ec2.world.nodes["node1"]
    if how == "denied":
        ec2.key.deny("ec2:CreateTags")
    elif how == "unseen":
        ec2.stale(tags_changes=1000)
    else:
        ec2.rules.add("CreateTags", Throttle(), times=None)
    result = agent.command("off", node, ignore_tag_write_failure=True, deadline=8, **mode)
    assert result.code == 0, result.err
    assert any("continuing without a backup" in line for line in result.lines)
    assert is_isolated(ec2, node, mode)
    assert agent.command("status", node, ignore_tag_write_failure=True, **mode).code == 2


def test_static_groups_for_every_interface_do_without_tags_too(agent, ec2, keep):
    node = ec2.world.nodes["node1"]
    ec2.key.deny("ec2:CreateTags")
    app = ec2.world.groups["app"]
    assert agent.command("off", node, interface0_sg=app, **keep).code == 1, "one of two"
    result = agent.command("off", node, interface0_sg=app, interface1_sg=app, **keep)
    assert result.code == 0
    assert any("continuing without a backup" in line for line in result.lines)


def test_partial_without_a_backup_stays_isolated_and_is_named(agent, ec2, mode):
    node = ec2.world.nodes["node1"]
    first, second = ec2.world.interfaces["node1"]
    before = groups(ec2, node)
    ec2.key.deny("ec2:CreateTags")
    ec2.edit.requester_managed(second)
    result = agent.command("off", node, ignore_tag_write_failure=True, **mode)
    assert result.code == 1
    assert "partial error" in result.last
    assert f"{first} not rolled back" in result.last
    assert f"set the groups of {second}" in result.last
    assert groups(ec2, node)[first] != before[first]
    assert groups(ec2, node)[second] == before[second]
    assert our_tags(ec2, node) == {}
    assert agent.command("status", node, ignore_tag_write_failure=True, **mode).code == 0


def test_refused_tags_and_groups_change_nothing(agent, ec2, mode):
    before = ec2.snapshot()
    ec2.key.deny("ec2:CreateTags")
    ec2.key.deny("ec2:ModifyNetworkInterfaceAttribute")
    result = agent.command("off", ec2.world.nodes["node1"], ignore_tag_write_failure=True, **mode)
    assert result.code == 1
    assert "permission error" in result.last
    assert "allow ec2:ModifyNetworkInterfaceAttribute" in result.last
    assert ec2.snapshot() == before


def test_a_refused_interface_rolls_the_other_back(agent, ec2, mode):
    node = ec2.world.nodes["node1"]
    before = groups(ec2, node)
    second = ec2.world.interfaces["node1"][1]
    ec2.edit.requester_managed(second)
    result = agent.command("off", node, **mode)
    assert result.code == 1
    assert result.last.startswith("ERROR: modification error: ")
    assert f"cannot set the groups of {second}" in result.last
    assert "AuthFailure: You do not have permission to access the specified resource" in result.last
    assert "an AWS service or another account owns it" in result.last
    assert "credentials" not in result.last
    assert "rolled back" in result.last
    assert groups(ec2, node) == before
    assert agent.command("status", node, **mode).code == 0
    ec2.edit.requester_managed(second, False)
    assert agent.command("off", node, **mode).code == 0
    assert agent.command("on", node, **mode).code == 0
    assert groups(ec2, node) == before
    assert our_tags(ec2, node) == {}


def test_every_interface_refused_changes_nothing(agent, ec2, keep):
    node = ec2.world.nodes["node1"]
    before = groups(ec2, node)
    ec2.key.deny("ec2:ModifyNetworkInterfaceAttribute")
    result = agent.command("off", node, **keep)
    assert result.code == 1
    assert "permission error" in result.last
    assert "allow ec2:ModifyNetworkInterfaceAttribute" in result.last
    assert "no group was changed" in result.last
    assert groups(ec2, node) == before


def test_an_unknown_group_to_keep_is_named(agent, ec2):
    node = ec2.world.nodes["node1"]
    before = groups(ec2, node)
    result = agent.command("off", node, secg="sg-00000000000000bad", invert_sg_removal=True)
    assert result.code == 1
    assert "modification error" in result.last
    assert "InvalidGroup.NotFound" in result.last
    assert "sg-00000000000000bad" in result.last
    assert groups(ec2, node) == before


def test_nothing_is_rolled_back_after_a_concurrent_fencer(agent, ec2, keep):
    """The other one moved lastfence: it may have reported success."""
    node = ec2.world.nodes["node1"]
    first, second = ec2.world.interfaces["node1"]
    ec2.rules.add(
        "ModifyNetworkInterfaceAttribute",
        Hook(lambda call: ec2.edit.put_tags(node, {"lastfence": "9999999999"})),
        when=on_interface(second),
    )
    ec2.key.deny("ec2:ModifyNetworkInterfaceAttribute", second)
    result = agent.command("off", node, **keep)
    assert result.code == 1
    assert "partial error" in result.last
    assert "a concurrent fencer" in result.last
    assert groups(ec2, node)[first] == [ec2.world.isolation]
    changes = ec2.calls_of("ModifyNetworkInterfaceAttribute")
    assert {tuple(c.listing("SecurityGroupId")) for c in changes} == {(ec2.world.isolation,)}, "not even for a moment"


def test_an_unknown_outcome_stays_isolated(agent, ec2, keep):
    node = ec2.world.nodes["node1"]
    before = ec2.snapshot()
    first, second = ec2.world.interfaces["node1"]
    ec2.rules.add("ModifyNetworkInterfaceAttribute", LoseReply(), when=on_interface(first), times=None)
    ec2.key.deny("ec2:ModifyNetworkInterfaceAttribute", second)
    result = agent.command("off", node, **keep)
    assert result.code == 1
    assert "partial error" in result.last
    assert groups(ec2, node)[first] == [ec2.world.isolation]
    ec2.rules.clear()
    ec2.key.permit_all()
    both_ways(agent, ec2, node, keep, before)


def test_an_unknown_outcome_stays_isolated_after_a_later_refusal(agent, ec2, keep):
    """The first attempt may still take effect; what was isolated is not rolled back behind it."""
    node, second = ec2.world.nodes["node1"], ec2.world.interfaces["node1"][1]
    mine = lambda call: call.params["NetworkInterfaceId"] == second  # noqa: E731
    change = "ModifyNetworkInterfaceAttribute"
    ec2.rules.add(change, LoseReply(), when=mine)
    ec2.rules.add(change, Error("OperationNotPermitted"), when=mine, nth=2)
    result = agent.command("off", node, **keep)
    assert result.code == 1
    assert "the outcome of a change is unknown" in result.last
    assert is_isolated(ec2, node, keep)


def test_a_change_that_is_never_accepted_fails(agent, ec2, keep):
    node = ec2.world.nodes["node1"]
    ec2.rules.add("ModifyNetworkInterfaceAttribute", LoseReply(), times=None)
    result = agent.command("off", node, deadline=4, **keep)
    assert is_isolated(ec2, node, keep)
    assert result.code == 1
    assert "deadline error" in result.last


def test_groups_that_never_read_right_are_no_success(agent, ec2, keep):
    node = ec2.world.nodes["node1"]
    ec2.stale(groups_changes=1000)
    result = agent.until_it_waits("off", node, deadline=4, **keep)
    assert result.code == 1
    assert "deadline error" in result.last
    assert "cannot verify in time" in result.last


def test_an_interface_that_appears_is_backed_up_and_isolated(agent, ec2, mode):
    node = ec2.world.nodes["node1"]
    groups_of_new = [ec2.world.groups["app"], ec2.world.groups["db"]]
    ec2.rules.add(
        "ModifyNetworkInterfaceAttribute", Hook(lambda call: ec2.edit.attach(node, groups_of_new, 5), late=True)
    )
    result = agent.command("off", node, verbose=True, **mode)
    assert result.code == 0, result.err
    assert any("appeared during off" in line for line in result.lines)
    assert not any("concurrent fencing detected" in line for line in result.lines)
    assert len(groups(ec2, node)) == 3
    assert is_isolated(ec2, node, mode)
    new = (set(groups(ec2, node)) - set(ec2.world.interfaces["node1"])).pop()
    assert next(c.action for c in ec2.writes() if new in str(c.params)) == "CreateTags"
    assert agent.command("on", node, **mode).code == 0
    assert groups(ec2, node)[new] == sorted(groups_of_new)
    assert our_tags(ec2, node) == {}


def test_a_detached_interface_is_ignored(agent, ec2, keep):
    node = ec2.world.nodes["node1"]
    second = ec2.world.interfaces["node1"][1]
    ec2.rules.add(
        "ModifyNetworkInterfaceAttribute",
        Hook(lambda call: ec2.edit.detach(second, delete=True)),
        when=on_interface(second),
    )
    assert agent.command("off", node, **keep).code == 0
    assert is_isolated(ec2, node, keep)


def test_an_instance_terminated_during_off_is_off(agent, ec2, keep):
    node = ec2.world.nodes["node1"]
    ec2.rules.add("CreateTags", Hook(lambda call: ec2.edit.set_state(node, "terminated"), late=True))
    assert agent.command("off", node, **keep).code == 0


def test_an_added_group_that_isolates_is_left(agent, ec2, remove):
    node = ec2.world.nodes["node1"]
    first = ec2.world.interfaces["node1"][0]
    more = [ec2.world.groups["ssh"], ec2.world.isolation]
    ec2.rules.add("DescribeInstances", Hook(lambda call: ec2.edit.set_groups(first, more)), nth=3)
    result = agent.command("off", node, **remove)
    assert result.code == 0
    assert groups(ec2, node)[first] == sorted(more)
    assert len(ec2.calls_of("ModifyNetworkInterfaceAttribute")) == 2


def test_an_interface_that_is_opened_again_is_isolated_again(agent, ec2, keep):
    node = ec2.world.nodes["node1"]
    first = ec2.world.interfaces["node1"][0]
    opened = [ec2.world.groups["app"]]
    ec2.rules.add("DescribeInstances", Hook(lambda call: ec2.edit.set_groups(first, opened)), nth=3)
    assert agent.command("off", node, **keep).code == 0
    assert is_isolated(ec2, node, keep)


def test_the_fencer_that_was_fenced_after_its_first_read_stops(agent, ec2, keep):
    own, node = ec2.world.nodes["node3"], ec2.world.nodes["node1"]
    before = groups(ec2, node)

    def fence_the_fencer(call):
        second = replace(agent, env={**agent.env, "FENCE_AWS_VPC_NET_DMI": "/dev/null"})
        assert second.command("off", own, **keep).code == 0

    ec2.rules.add("CreateTags", Hook(fence_the_fencer))
    result = agent.command("off", node, **keep)
    assert result.code == 1
    assert "self-fencing error" in result.last
    assert groups(ec2, node) == before


def test_on_restores_after_a_kill_with_all_changes_in_flight(agent, ec2, mode):
    """SIGKILL when the changes of all interfaces have arrived; they take effect after its death."""
    node = ec2.world.nodes["node1"]
    before = ec2.snapshot()
    running, known = [], threading.Event()
    all_arrived = threading.Barrier(len(ec2.world.interfaces["node1"]), timeout=20)
    took_effect = threading.Barrier(all_arrived.parties + 1, timeout=20)

    def kill(_call):
        all_arrived.wait()
        assert known.wait(20)
        running[0].kill()
        running[0].wait()

    ec2.rules.add("ModifyNetworkInterfaceAttribute", Hook(kill), times=None)
    ec2.rules.add("ModifyNetworkInterfaceAttribute", Hook(lambda call: took_effect.wait(), late=True), times=None)
    running.append(agent.start(*agent.arguments("off", node, **mode)))
    known.set()
    running[0].communicate(timeout=30)
    assert running[0].returncode == -signal.SIGKILL
    took_effect.wait()
    assert is_isolated(ec2, node, mode)
    assert len(ec2.calls_of("ModifyNetworkInterfaceAttribute")) == all_arrived.parties
    ec2.rules.clear()
    assert agent.command("on", node, **mode).code == 0
    assert ec2.snapshot() == before


@pytest.mark.parametrize("call", CALLS)
def test_an_api_that_never_answers_ends_by_the_deadline(agent, ec2, keep, call):
    node = ec2.world.nodes["node1"]
    before = ec2.snapshot()
    ec2.rules.add(call, Stall(), times=None)
    result = agent.command("off", node, deadline=4, api_timeout=1, **keep)
    assert result.code == 1
    assert result.last.startswith("ERROR: deadline error: ")
    assert call in result.last
    assert result.seconds < 6
    assert groups(ec2, node) == before[node]["interfaces"]


@pytest.mark.parametrize("call", [*CALLS, "AssumeRole"])
def test_an_attempt_that_the_deadline_cuts_off_does_not_hide_the_cause(agent, ec2, keep, call):
    node = ec2.world.nodes["node1"]
    if call == "AssumeRole":
        chain(agent, ec2)
        agent.env["AWS_ENDPOINT_URL_STS"] = ec2.endpoint
        agent.env["PYTHONPATH"] = os.environ["BOTO3_NEWEST"]  # which knows the variable
    ec2.rules.add(call, Error("Unavailable", "Come back later.", 503), times=2)  # of one interface each
    ec2.rules.add(call, Stall(), nth=3, times=None)
    result = agent.command("off", node, deadline=5, api_timeout=6, **keep)
    assert result.code == 1
    assert f"{call}: Unavailable: Come back later.; " in result.last
    assert "; then no complete reply in " in result.last


@pytest.mark.parametrize("action", ["off", "on"])
def test_a_hanging_last_read_does_not_hide_the_cause(agent, ec2, keep, action):
    node = ec2.world.nodes["node1"]
    if action == "on":
        assert agent.command("off", node, **keep).code == 0
    ec2.rules.add("ModifyNetworkInterfaceAttribute", LoseReply(), times=None)
    ec2.rules.add("DescribeInstances", Stall(), nth=3 if action == "off" else 2, times=None)
    result = agent.command(action, node, deadline=4, api_timeout=1, **keep)
    assert result.code == 1
    assert "gave up after" in result.last
    assert f"; check the network path to {ec2.endpoint}, then repeat" in result.last
    assert f"cannot set the groups of {ec2.world.interfaces['node1'][0]}" in result.last
    assert "ModifyNetworkInterfaceAttribute" in result.last


def test_a_refused_second_fencer_keeps_a_success(agent, ec2, keep):
    """B backs up after A, isolates one interface, and is refused the other; A succeeds concurrently.

    A rewrites its backup when it sees the tags of B; otherwise the tags would be those of B alone.
    """
    node = ec2.world.nodes["node1"]
    second = ec2.world.interfaces["node1"][1]
    limited = ec2.keys.add(AccessKey("AKIALIMITED000000001", "limited"))
    limited.deny("ec2:ModifyNetworkInterfaceAttribute", second)
    running, refused, go_on = [], threading.Event(), threading.Event()

    def start_b(_call):
        options = {**keep, "access_key": limited.access_key, "secret_key": limited.secret_key}
        running.append(agent.start(*agent.arguments("off", node, **options)))
        assert refused.wait(20)

    def hold_b(_call):
        refused.set()
        assert go_on.wait(20)

    ec2.rules.add("DescribeInstances", Hook(start_b, late=True), nth=2)
    ec2.rules.add(
        "ModifyNetworkInterfaceAttribute",
        Hook(hold_b),
        when=lambda call: call.key_id == limited.access_key and on_interface(second)(call),
    )
    result = agent.command("off", node, verbose=True, **keep)
    go_on.set()
    _, err = running[0].communicate(timeout=30)
    assert result.code == 0, result.err
    assert any("concurrent fencing detected" in line for line in result.lines)
    assert running[0].returncode == 1
    assert "a concurrent fencer may have fenced it" in err
    assert is_isolated(ec2, node, keep)
