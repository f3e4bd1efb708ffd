"""auto_unfence: monitor brings back a node that was fenced and has stopped, and nothing else."""

import json
import re
import time
from pathlib import Path

import pytest
from assertions import is_isolated, our_tags
from ec2.faults import Delay, Error, Stall, Throttle
from test_metrics import values
from test_races import LIMIT, TOO_LATE, half_changed, killed_at, on_interface, once

RETURNED, EXEMPT = "fence_aws_vpc_net:returned", "fence_aws_vpc_net:auto_unfence"
POLICY = Path(__file__).parents[2] / "doc" / "iam-policy.json"
READ, TAG, SET, UNTAG, START = (
    "DescribeInstances",
    "CreateTags",
    "ModifyNetworkInterfaceAttribute",
    "DeleteTags",
    "StartInstances",
)
RETURN = [READ, TAG, READ, TAG, SET, SET, READ, UNTAG, READ, READ, START, READ]


@pytest.fixture
def auto(keep):
    """The options of a device with auto_unfence."""
    return {**keep, "onfence_poweroff": True, "auto_unfence": True, "ignore_instance_state": True}


def later(ec2, node):
    """Let a minute pass: all times in the tags of the node are older by that, but for its launch."""
    tags = ec2.snapshot()[node]["tags"]
    older = {older_by_a_minute(k): older_by_a_minute(v) for k, v in tags.items()}
    ec2.edit.put_tags(node, {**dict.fromkeys(tags), **older})


def older_by_a_minute(text):
    return re.sub(r"(?<![0-9a-f=])\d{10}(?![0-9a-f])", lambda found: str(int(found[0]) - 60), text)


def fence(agent, ec2, options, *nodes, times=1):
    """Fence them a minute ago; they have stopped."""
    for node in nodes:
        for _ in range(times):
            assert agent.command("off", node, **options).code == 0
        assert ec2.snapshot()[node]["state"] == "stopped"
        later(ec2, node)


def monitor(agent, ec2, options, **more):
    """A monitor, which passes and prints nothing; its result, and the calls that follow those of its checks.

    One that is too late for auto_unfence is repeated, unless a shorter deadline is what it is about.
    """
    debug = agent.folder / "monitor.debug"
    debug.write_text(TOO_LATE, encoding="ascii")
    while TOO_LATE in debug.read_text(encoding="utf-8"):
        debug.unlink()
        done = len(ec2.calls)
        result = agent.pacemaker("monitor", **{**options, **more, "debug_file": str(debug)})
        assert result.code == 0, result.err
        if "deadline" in more:
            break
    assert result.out == ""
    actions = [c.action for c in ec2.calls[done:]]
    return result, actions[actions.index("DescribeSecurityGroups") + 1 :]


def is_back(ec2, node, before):
    """As it was before it was fenced, but for the tag that counts its returns; how many these are."""
    now = ec2.snapshot()[node]
    times = now["tags"].pop(RETURNED).partition(";")[0].split(",")
    assert now == before[node]
    return len(times)


# --- the whole story -------------------------------------------------------------------------------------------


def test_monitor_restores_and_starts_a_stopped_node(agent, ec2, node, mode, auto):
    options = {k: v for k, v in {**auto, "secg": None, "invert_sg_removal": None, **mode}.items() if v is not None}
    before = ec2.snapshot()
    fence(agent, ec2, options, node, times=2)  # which takes no more calls than one
    result, calls = monitor(agent, ec2, options, verbose_level=1)
    assert calls == RETURN
    assert is_back(ec2, node, before) == 1
    assert any("(1 of at most 3 times in 24 hours)" in line for line in result.lines)
    assert any(f"{node}: brought back by auto_unfence" in line for line in result.lines)
    assert "chunks=4 " in result.last  # the claims; a count is none
    assert monitor(agent, ec2, options)[1] == [READ]


def test_a_return_that_is_killed_again_and_again_is_finished_and_counted_once(agent, ec2, node, first, auto):
    before = ec2.snapshot()
    fence(agent, ec2, auto, node)
    arguments = agent.arguments("monitor", verbose_level=2, **auto)
    killed_at(agent, ec2, arguments, TAG)
    half_changed(agent, ec2, arguments)
    assert ec2.snapshot()[node]["interfaces"][first] == before[node]["interfaces"][first]
    assert our_tags(ec2, node)
    killed_at(agent, ec2, arguments, SET, nth=2)
    killed_at(agent, ec2, arguments, UNTAG)
    assert not our_tags(ec2, node)
    assert ec2.snapshot()[node]["state"] == "stopped"
    assert monitor(agent, ec2, auto)[1] == [READ, TAG, READ, READ, START, READ]
    assert is_back(ec2, node, before) == 1
    ec2.edit.set_state(node, "stopped")  # by somebody who wants it so
    assert monitor(agent, ec2, auto)[1] == [READ]


def test_two_monitors_at_once_bring_a_node_back(agent, ec2, node, auto):
    before = ec2.snapshot()
    fence(agent, ec2, auto, node)
    ec2.rules.add(None, Delay(0.05), times=None)
    running = [agent.start(*agent.arguments("monitor", **auto)) for _ in range(2)]
    for process in running:
        _, err = process.communicate(timeout=LIMIT)
        assert process.returncode == 0, err
    ec2.rules.clear()
    monitor(agent, ec2, auto)
    assert is_back(ec2, node, before) in (1, 2)


def test_a_node_whose_lastfence_somebody_deleted_returns(agent, ec2, node, auto):
    """Its backup is valid all the same."""
    before = ec2.snapshot()
    fence(agent, ec2, auto, node)
    ec2.edit.put_tags(node, {"lastfence": None})
    monitor(agent, ec2, auto)
    assert is_back(ec2, node, before) == 1


# --- what is left alone ----------------------------------------------------------------------------------------


def test_nothing_is_done_to_a_node_that_must_not_return(agent, ec2, node, auto):
    """One call each. core/test_returning.py has all reasons."""
    before = ec2.snapshot()
    assert monitor(agent, ec2, auto)[1] == [READ], "a healthy one"
    assert agent.command("off", node, **auto).code == 0
    fenced = ec2.snapshot()
    assert monitor(agent, ec2, auto)[1] == [READ], "its off may not have ended"
    later(ec2, node)
    fenced = ec2.snapshot()
    for options in (
        {"filter": "tag:Name=node2"},
        {"filter": "instance-state-name=running;tag-key=Name"},
        {"plug": ec2.world.nodes["node2"]},
        {"secg": ec2.world.groups["db"]},
    ):
        _, calls = monitor(agent, ec2, auto, **options)
        assert calls == [READ], options
    assert ec2.snapshot() == fenced
    ec2.edit.put_tags(node, {EXEMPT: "no"})
    for state in ("stopped", "stopping", "running"):
        ec2.edit.set_state(node, state)
        assert monitor(agent, ec2, auto)[1] == [READ], state
        ec2.edit.put_tags(node, {EXEMPT: None})
    assert ec2.snapshot()[node]["interfaces"] == fenced[node]["interfaces"]
    ec2.edit.set_state(node, "stopped")
    assert monitor(agent, ec2, auto, plug="node1", filter="tag-key=Name")[1] == RETURN
    assert is_back(ec2, node, before) == 1


def test_a_node_that_returned_three_times_in_a_day_stays_stopped_until_an_on(agent, ec2, node, auto, tmp_path):
    before = ec2.snapshot()
    times = ",".join(str(int(time.time()) - ago) for ago in (86000, 500, 400))
    ec2.edit.put_tags(node, {RETURNED: f"{times};launched=1"})
    fence(agent, ec2, auto, node)
    metrics = tmp_path / "fence.prom"
    for _ in range(2):
        result, calls = monitor(agent, ec2, auto, metrics_file=metrics)
        assert calls == [READ]
        assert f"{node} stays stopped: auto_unfence brought it back 3 times within 24 hours" in result.last
    found = values(metrics)
    assert found["auto_unfence_total", "stays_stopped"] == 2
    assert ("node_last_operation_timestamp_seconds", "on", node, "stays_stopped") in found
    assert agent.command("on", node, **auto, unfence_poweron=True).code == 0
    assert ec2.snapshot() == before
    fence(agent, ec2, auto, node)
    monitor(agent, ec2, auto, metrics_file=metrics)
    assert is_back(ec2, node, before) == 1
    found = values(metrics)
    assert found["auto_unfence_total", "ok"] == 1
    assert ("node_last_operation_timestamp_seconds", "on", node, "ok") in found


def test_a_hibernated_node_is_left_alone_until_it_is_stopped_without_its_memory(agent, ec2, node, auto, tmp_path):
    before = ec2.snapshot()
    fence(agent, ec2, auto, node)
    ec2.edit.hibernated(node)
    metrics = tmp_path / "fence.prom"
    result, calls = monitor(agent, ec2, auto, metrics_file=metrics)
    assert calls == [READ]
    assert f"{node} is not brought back by auto_unfence, because it was hibernated" in result.last
    assert is_isolated(ec2, node, auto)
    assert values(metrics)["auto_unfence_total", "failed"] == 1
    for state in ("running", "stopped"):
        ec2.edit.set_state(node, state)
    assert monitor(agent, ec2, auto)[1] == RETURN
    assert is_back(ec2, node, before) == 1


def test_a_node_that_ec2_stops_again_was_not_brought_back(agent, ec2, node, auto, tmp_path):
    """EC2 has accepted the start."""
    fence(agent, ec2, auto, node)
    ec2.config.cannot_boot.add(node)
    ec2.config.start_seconds = 0.5
    metrics = tmp_path / "fence.prom"
    result, _ = monitor(agent, ec2, auto, metrics_file=metrics)
    assert f"{node} was not brought back by auto_unfence" in result.last
    assert "kms:CreateGrant" in result.last
    assert values(metrics)["auto_unfence_total", "failed"] == 1


@pytest.mark.parametrize("hibernation", [True, False])
def test_a_spot_node_that_ec2_may_have_hibernated_stays_isolated(agent, ec2, node, auto, hibernation):
    """EC2 resumes it whenever it has the capacity, with its memory. One that was just stopped boots."""
    fence(agent, ec2, auto, node)
    ec2.edit.spot(node, hibernation)
    ec2.edit.interrupted(node)
    result, _ = monitor(agent, ec2, auto)
    assert is_isolated(ec2, node, auto) == hibernation
    assert ("because it was hibernated" in result.err) == hibernation
    assert ("IncorrectSpotRequestState" in result.err) != hibernation


def test_a_search_among_many_stopped_instances_is_bounded(agent, ec2, node, auto):
    before = ec2.snapshot()
    strangers = [ec2.edit.add_instance(f"s{n}", tags={"lastfence": "5"} if n < 20 else {}) for n in range(60)]
    for stranger in strangers:
        ec2.edit.set_state(stranger, "stopped")
    ec2.config.page_limit = 5
    result, calls = monitor(agent, ec2, auto)
    assert calls == [READ] * 3
    assert "looked at the first 3 pages of instances only" in result.last
    fence(agent, ec2, auto, node)
    assert monitor(agent, ec2, auto, filter="tag:Name=node*")[1] == RETURN
    assert is_back(ec2, node, before) == 1


def test_a_node_whose_stop_failed_is_a_warning_until_it_is_stopped(agent, ec2, node, auto):
    before = ec2.snapshot()
    ec2.key.deny("ec2:StopInstances")
    result = agent.command("off", node, **auto)
    assert (result.code, "was not stopped" in result.err) == (0, True)
    later(ec2, node)
    result, calls = monitor(agent, ec2, auto)
    assert calls == [READ]
    assert f"{node} is not brought back by auto_unfence, because it runs, isolated" in result.last
    ec2.edit.set_state(node, "stopped")
    assert monitor(agent, ec2, auto)[1] == RETURN
    assert is_back(ec2, node, before) == 1


# --- what goes wrong -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("action", "isolated", "calls"),
    [(TAG, True, RETURN), (SET, True, RETURN), (START, False, [READ, TAG, READ, READ, START, READ])],
)
def test_a_missing_permission_is_a_warning_and_a_later_monitor_finishes(
    agent, ec2, node, auto, tmp_path, action, isolated, calls
):
    before = ec2.snapshot()
    fence(agent, ec2, auto, node)
    ec2.key.deny(f"ec2:{action}")
    metrics = tmp_path / "fence.prom"
    result, _ = monitor(agent, ec2, auto, metrics_file=metrics)
    assert f"{node} was not brought back by auto_unfence: " in result.last
    assert f"allow ec2:{action}" in result.last
    assert "repeat on" not in result.last, "that would end the return, and start nothing"
    assert is_isolated(ec2, node, auto) == isolated
    found = values(metrics)
    assert found["auto_unfence_total", "failed"] == 1
    assert ("node_last_operation_timestamp_seconds", "on", node, "failed") in found
    ec2.key.permit_all()
    assert monitor(agent, ec2, auto)[1] == calls
    assert is_back(ec2, node, before) == 1


@pytest.mark.parametrize("numbers", [[0], [0, 1]], ids=["a gap", "isolating"])
def test_groups_that_on_refuses_are_a_warning_and_nothing_is_written(agent, ec2, node, auto, tmp_path, numbers):
    """Otherwise each monitor would count a return that cannot be made."""
    fence(agent, ec2, auto, node)
    before = ec2.snapshot()
    group = auto["secg"] if len(numbers) > 1 else ec2.world.groups["db"]
    static = {f"interface{n}_sg": group for n in numbers}
    reason = "the groups of interface0-sg count as isolated" if len(numbers) > 1 else "interface1-sg missing"
    metrics = tmp_path / "fence.prom"
    for count in (1, 2):
        result, calls = monitor(agent, ec2, auto, metrics_file=metrics, **static)
        assert calls == [READ]
        (line,) = [line for line in result.lines if "was not brought back" in line]
        assert reason in line
        assert values(metrics)["auto_unfence_total", "failed"] == count
    assert ec2.snapshot() == before
    static = {f"interface{n}_sg": ec2.world.groups["db"] for n in (0, 1)}
    assert monitor(agent, ec2, auto, **static)[1] == RETURN


def test_a_search_that_fails_is_a_warning(agent, ec2, node, auto):
    fence(agent, ec2, auto, node)
    ec2.rules.add(READ, Error("InvalidParameterValue"), nth=2)
    result, calls = monitor(agent, ec2, auto)
    assert "cannot look for instances that auto_unfence may bring back: " in result.last
    assert calls == [READ]


@pytest.mark.parametrize(("action", "monitors"), [(TAG, 1), (SET, 2)])
def test_a_node_that_cannot_return_does_not_keep_another_from_it(agent, ec2, node, auto, action, monitors):
    other = ec2.world.nodes["node2"]
    before = ec2.snapshot()
    fence(agent, ec2, auto, node, other)
    for resource in (node, *ec2.world.interfaces["node1"]):
        ec2.key.deny(f"ec2:{action}", resource)
    for _ in range(monitors):
        monitor(agent, ec2, auto)
    assert is_back(ec2, other, before) == 1
    assert is_isolated(ec2, node, auto)


def test_time_is_kept_and_the_next_monitor_goes_on(agent, ec2, node, auto):
    """The whole of it has 4 s here: too little is left after slow checks, and nothing waits for a start."""
    before = ec2.snapshot()
    fence(agent, ec2, auto, node)
    slow = ec2.rules.add(None, Delay(1.2), times=2)
    result, calls = monitor(agent, ec2, auto, deadline=4)
    assert calls == []
    assert "WARNING: too late for auto_unfence" in result.last
    ec2.rules.remove(slow)
    stalled = ec2.rules.add(START, Stall(), times=None)
    for deadline in (4, 11):  # a busy machine takes more than half of it for the checks alone
        result, calls = monitor(agent, ec2, auto, deadline=deadline)
        if START in calls:
            break
    assert START in calls
    assert "but it was not started" in result.last
    ec2.rules.remove(stalled)
    monitor(agent, ec2, auto)
    assert is_back(ec2, node, before) == 1


@pytest.mark.parametrize("call", [TAG, SET, UNTAG])
def test_an_off_during_a_return_wins(agent, ec2, node, first, auto, call):
    before = ec2.snapshot()
    fence(agent, ec2, auto, node)

    def off():
        process = agent.start(*agent.arguments("off", node, **auto))
        _, err = process.communicate(timeout=LIMIT)
        assert process.returncode == 0, err
        return True

    done = once(ec2, call, off, late=True, when=on_interface(first) if call == SET else None)
    _, calls = monitor(agent, ec2, auto)
    assert done == [True]
    assert START not in calls
    assert is_isolated(ec2, node, auto)
    assert ec2.snapshot()[node]["state"] == "stopped"
    assert agent.command("status", node, **auto).code == 2
    later(ec2, node)
    monitor(agent, ec2, auto)
    assert is_back(ec2, node, before) == 2


def test_an_off_while_ec2_throttles_the_start_wins(agent, ec2, node, auto):
    """It has seen the instance stopped, and that counts with require_poweroff."""
    fence(agent, ec2, auto, node)
    fenced = once(ec2, START, lambda: agent.command("off", node, require_poweroff=True, **auto).code)
    ec2.rules.add(START, Throttle())
    result, _ = monitor(agent, ec2, auto)
    assert fenced == [0]
    assert "was fenced concurrently; off takes precedence: " in result.last
    assert ec2.snapshot()[node]["state"] == "stopped"


def test_a_start_that_does_not_find_the_instance_once_is_repeated(agent, ec2, node, auto):
    before = ec2.snapshot()
    fence(agent, ec2, auto, node)
    ec2.rules.add(START, Error("InvalidInstanceID.NotFound", f"The instance ID '{node}' does not exist"))
    _, calls = monitor(agent, ec2, auto)
    assert calls == [*RETURN[:-1], READ, START, READ]
    assert is_back(ec2, node, before) == 1


@pytest.mark.parametrize("call", [TAG, UNTAG])
def test_an_instance_that_somebody_starts_meanwhile_is_not_started_again(agent, ec2, node, auto, call):
    """If it starts isolated, it is not restored: nobody has looked at what it does."""
    fence(agent, ec2, auto, node)
    once(ec2, call, lambda: ec2.edit.set_state(node, "running"), late=True)
    _, calls = monitor(agent, ec2, auto)
    assert START not in calls
    assert is_isolated(ec2, node, auto) == (call == TAG)
    assert monitor(agent, ec2, auto)[1] == [READ]


def test_an_instance_that_loses_its_name_meanwhile_is_not_brought_back(agent, ec2, node, auto):
    fence(agent, ec2, auto, node)
    once(ec2, TAG, lambda: ec2.edit.put_tags(node, {"Name": "another"}), late=True)
    _, calls = monitor(agent, ec2, auto, plug="node1")
    assert calls[-2:] == [TAG, READ]
    assert is_isolated(ec2, node, auto)


# --- options, and the preflight --------------------------------------------------------------------------------


@pytest.mark.parametrize("action", ["monitor", "off", "validate-all"])
def test_options_that_exclude_each_other_are_refused(agent, ec2, node, auto, action):
    for more, text in (
        ({"onfence_poweroff": None}, "auto_unfence requires onfence_poweroff"),
        ({"unfence_ignore_restore": True}, "auto_unfence and unfence-ignore-restore are both set"),
    ):
        result = agent.command(action, node, **{**auto, **more})
        assert result.code == 1
        assert text in result.last
    assert ec2.calls == []


@pytest.mark.parametrize(
    ("states", "warned"),
    [
        ("instance-state-name=running", 1),
        ("instance-state-name=pending,run*", 1),
        ("instance-state-code=16;instance-state-name=running", 2),
        ("instance-state-name=running,stopped", 0),
        ("instance-state-name=stop*", 0),
        ("instance-state-code=16,80", 0),
        ("tag:Name=running", 0),
    ],
)
def test_the_preflight_warns_of_a_filter_that_excludes_stopped_nodes(agent, ec2, node, auto, states, warned):
    result = agent.command("validate-all", node, **auto, filter=states)
    assert result.code == 0
    found = [line for line in result.out.splitlines() if "auto_unfence: filter excludes stopped" in line]
    assert len(found) == warned


@pytest.mark.parametrize(
    ("given", "warned"),
    [("tag:cluster=other", ["node1", "node2"]), ("tag:Name=node1;instance-state-name=stopped", ["node2"]),
     ("tag:Name=node*", []), ("instance-id={node1}", ["node2"]), ("no-such-filter=x", [])],
)  # fmt: skip
def test_the_preflight_warns_of_nodes_that_the_filter_does_not_match(agent, ec2, auto, given, warned):
    """monitor would leave them stopped without a word."""
    nodes = ec2.world.nodes
    plugs = f"{nodes['node1']},{nodes['node2']}"
    result = agent.command("validate-all", plugs, **auto, filter=given.format(**nodes))
    assert result.code == 0, result.out
    found = [line for line in result.out.splitlines() if line.startswith("warn auto_unfence: ")]
    if given.startswith("no-such"):
        (line,) = found
        assert "cannot look for instances that auto_unfence may bring back: " in line
    else:
        assert re.findall("filter does not match (i-[0-9a-f]+)", "".join(found)) == [nodes[name] for name in warned]
        assert len(found) == len(warned)


@pytest.mark.parametrize(("free", "returned", "warned"), [(4, None, 0), (3, None, 1), (3, "5;launched=1", 0)])
def test_the_preflight_warns_if_there_is_no_room_for_the_tag_of_a_return(
    agent, ec2, node, auto, free, returned, warned
):
    """The backup takes 3 tags."""
    before = {RETURNED: returned} if returned else {}
    used = len({**ec2.snapshot()[node]["tags"], **before})
    ec2.edit.put_tags(node, {**before, **{f"x{n}": "" for n in range(50 - free - used)}})
    for options, count in ((auto, warned), ({**auto, "auto_unfence": None}, 0)):
        result = agent.command("validate-all", node, **options)
        assert result.code == 0, result.out
        found = [line for line in result.out.splitlines() if line.startswith(f"warn tags of {node}: ")]
        assert len(found) == count, result.out
        assert all("takes 3 tags, 3 are free, and auto_unfence needs one more" in line for line in found)
    fence(agent, ec2, auto, node)
    warnings = monitor(agent, ec2, auto)[0].err.count("no room for another tag")
    assert warnings == warned


def test_the_preflight_warns_of_a_missing_filter_and_permission(agent, ec2, auto):
    node = ec2.edit.add_instance("one", tags={"cluster": "one"})
    document = json.loads(POLICY.read_text(encoding="utf-8"))
    ec2.key.attach(json.dumps(document))
    passed = agent.command("validate-all", node, **auto, filter="tag:cluster=one")
    assert "auto_unfence" not in passed.out.replace("ok   auto_unfence: ", "")
    for statement in document["Statement"]:
        keys = statement.get("Condition", {}).get("ForAllValues:StringLike", {}).get("aws:TagKeys", [])
        keys[:] = [k for k in keys if k != RETURNED]
        power = {"ec2:StartInstances", "ec2:StopInstances"}
        if power <= {*statement["Action"]}:
            statement["Action"] = sorted({*statement["Action"]} - power)
    ec2.key.attach(json.dumps(document))
    result = agent.command("validate-all", node, **auto)
    assert result.code == 0
    warned = [line for line in result.out.splitlines() if line.startswith("warn auto_unfence")]
    assert len(warned) == 5, result.out
    for text in ("filter is not set", *(f"allow {a}" for a in ("ec2:CreateTags", "ec2:DeleteTags", *power))):
        assert any(text in line for line in warned), result.out
