"""untrack_secg: through the group that allows everything, so that EC2 stops tracking, and then isolated."""

import signal
import threading
import time

import pytest
from assertions import groups, is_isolated
from ec2.faults import Delay, Error, Hook, LoseReply, Reset, ServerError, Stall, Throttle


@pytest.fixture
def options(ec2, mode):
    return {**mode, "untrack_secg": ec2.world.open}


def sets(ec2, start=0):
    """(interface, groups) of each change of groups, in order of arrival."""
    calls = [c for c in ec2.calls[start:] if c.action == "ModifyNetworkInterfaceAttribute" and c.took_effect]
    return [(c.params["NetworkInterfaceId"], c.listing("SecurityGroupId")) for c in calls]


def test_untrack_all_then_isolate_all_then_read(agent, ec2, node, options):
    before = ec2.snapshot()
    result = agent.command("off", node, **options)
    assert result.code == 0, result.err
    assert result.err == "", "no warning about established connections"
    done = sets(ec2)
    assert {i for i, _ in done[:2]} == {i for i, _ in done[2:]} == set(ec2.world.interfaces["node1"])
    assert [g for _, g in done[:2]] == [[ec2.world.open]] * 2
    assert ec2.world.open not in [g for _, some in done[2:] for g in some]
    assert [c.action for c in ec2.calls][-1] == "DescribeInstances"
    assert is_isolated(ec2, node, options)
    assert agent.command("status", node, **options).code == 2
    assert agent.command("on", node, **options).code == 0
    assert ec2.snapshot() == before


def test_it_takes_one_more_call_for_each_interface(agent, ec2, node, options):
    assert agent.command("off", node, **options).code == 0
    assert len(ec2.calls) == 4 + 2 * 2


def test_an_isolated_interface_is_never_opened_again(agent, ec2, node, options):
    assert agent.command("off", node, **options).code == 0
    start = len(ec2.calls)
    result = agent.command("off", node, verbose=True, **options)
    assert result.code == 0
    assert any("untrack_secg is not set again" in line for line in result.lines)
    assert [g for _, some in sets(ec2, start) for g in some if g == ec2.world.open] == []


@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
def test_a_kill_between_the_steps_is_on_and_restored(agent, ec2, node, options, late):
    before = ec2.snapshot()
    running, known = [], threading.Event()

    def kill(_call):
        assert known.wait(30)
        running[0].send_signal(signal.SIGKILL)
        running[0].wait()

    call = "ModifyNetworkInterfaceAttribute"
    ec2.rules.add(call, Delay(0.2), nth=2)
    ec2.rules.add(call, Hook(kill, late=late), nth=2)
    running.append(agent.start(*agent.arguments("off", node, **options)))
    known.set()
    running[0].communicate(timeout=30)
    assert running[0].returncode == -signal.SIGKILL
    ec2.await_gone()
    ec2.rules.clear()
    assert agent.command("status", node, **options).code == (2 if is_isolated(ec2, node, options) else 0)
    assert any(g == [ec2.world.open] for g in groups(ec2, node).values())
    for action in ("off", "on"):
        assert agent.command(action, node, **options).code == 0
    assert ec2.snapshot() == before


def test_without_a_backup_nothing_is_opened(agent, ec2, node, options):
    ec2.key.deny("ec2:CreateTags")
    result = agent.command("off", node, ignore_tag_write_failure=True, **options)
    assert result.code == 0
    assert any("untrack_secg is not used, because there is no backup" in line for line in result.lines)
    assert [g for _, some in sets(ec2) for g in some if g == ec2.world.open] == []


@pytest.mark.parametrize("fault", [Throttle, LoseReply])
def test_an_interface_is_done_only_when_its_untracking_was_accepted(agent, ec2, node, options, fault):
    first = ec2.world.interfaces["node1"][0]

    def opening(call):
        return call.params.get("NetworkInterfaceId") == first and call.listing("SecurityGroupId") == [ec2.world.open]

    ec2.rules.add("ModifyNetworkInterfaceAttribute", fault(), when=opening)
    assert agent.command("off", node, **options).code == 0
    assert [c.outcome for c in ec2.calls if opening(c)][-1] == "whole"
    assert len([c for c in ec2.calls if opening(c)]) == 2
    assert is_isolated(ec2, node, options)


def test_a_missing_untracking_group_rolls_all_back(agent, ec2, node, mode):
    before = groups(ec2, node)
    result = agent.command("off", node, untrack_secg="sg-00000000000000bad", **mode)
    assert result.code == 1
    assert "InvalidGroup.NotFound" in result.last
    assert groups(ec2, node) == before


def test_a_refusal_in_the_second_step_leaves_nothing_open(agent, ec2, node, options):
    before = groups(ec2, node)
    second = ec2.world.interfaces["node1"][1]

    def isolating(call):
        return call.params["NetworkInterfaceId"] == second and call.listing("SecurityGroupId") != [ec2.world.open]

    ec2.rules.add("ModifyNetworkInterfaceAttribute", Error("OperationNotPermitted"), when=isolating)
    assert agent.command("off", node, **options).code == 1
    assert groups(ec2, node) == before


def test_an_interface_that_appears_passes_through_it_too(agent, ec2, node, options):
    some = [ec2.world.groups["app"], ec2.world.groups["db"]]
    ec2.rules.add("ModifyNetworkInterfaceAttribute", Hook(lambda call: ec2.edit.attach(node, some, 5), late=True))
    assert agent.command("off", node, **options).code == 0
    new = (set(groups(ec2, node)) - set(ec2.world.interfaces["node1"])).pop()
    assert next(g for i, g in sets(ec2) if i == new) == [ec2.world.open]
    assert is_isolated(ec2, node, options)


def test_monitor_misses_the_untracking_group(agent, ec2, mode):
    result = agent.command("monitor", untrack_secg="sg-00000000000000bad", **mode)
    assert result.code == 1
    assert "no such security group: sg-00000000000000bad" in result.last


def test_a_node_that_has_the_group_among_its_own_gets_it_back(agent, ec2, options):
    """It passes through the group alone, is isolated without it, and has it again after on."""
    world = ec2.world
    own = sorted([world.groups["app"], world.groups["db"], world.open])
    node = ec2.edit.add_instance("opened", [{"groups": own}])
    before = ec2.snapshot()
    ((interface, had),) = groups(ec2, node).items()
    assert had == own
    assert agent.command("off", node, **options).code == 0
    isolated = [world.isolation] if options.get("invert_sg_removal") else [world.groups["db"]]
    assert sets(ec2) == [(interface, [world.open]), (interface, isolated)]
    assert groups(ec2, node) == {interface: isolated}
    assert agent.command("status", node, **options).code == 2
    assert agent.command("on", node, **options).code == 0
    assert ec2.snapshot() == before


# --- what was opened is closed again, whatever happens ------------------------------------------------------------

CHANGE = "ModifyNetworkInterfaceAttribute"


def second_round(ec2, interface=None):
    """A change to other groups than the untracking one, of this interface or of any."""

    def isolating(call):
        wanted = interface in (None, call.params["NetworkInterfaceId"])
        return wanted and call.listing("SecurityGroupId") != [ec2.world.open]

    return isolating


def is_open(ec2, node):
    return any(ec2.world.open in g for g in groups(ec2, node).values())


@pytest.mark.parametrize("fault", [Throttle, LoseReply])
def test_reads_that_fail_after_one_isolation_did_leave_nothing_open(agent, ec2, node, options, fault):
    second = ec2.world.interfaces["node1"][1]
    missed = ec2.rules.add(CHANGE, fault(), when=second_round(ec2, second))
    failing = ec2.rules.add("DescribeInstances", ServerError(), when=lambda call: missed.fired > 0, times=None)
    result = agent.command("off", node, deadline=6, **options)
    assert missed.fired == 1
    assert failing.fired > 0
    assert result.code == 1
    assert is_isolated(ec2, node, options)
    changed = [c.number for c in ec2.calls_of(CHANGE) if second_round(ec2, second)(c)]
    assert len(changed) == 2
    assert not [c for c in ec2.calls_of("DescribeInstances") if changed[0] < c.number < changed[1]], "no read between"


def test_a_refused_isolation_rolls_back_without_a_read(agent, ec2, node, options):
    before = groups(ec2, node)
    second = ec2.world.interfaces["node1"][1]
    refused = ec2.rules.add(CHANGE, Error("OperationNotPermitted"), when=second_round(ec2, second))
    ec2.rules.add("DescribeInstances", ServerError(), when=lambda call: refused.fired > 0, times=None)
    result = agent.command("off", node, deadline=6, **options)
    assert result.code == 1
    assert not is_open(ec2, node)
    assert groups(ec2, node)[second] == before[second]


def test_throttled_until_the_deadline_it_names_open_interfaces(agent, ec2, node, options):
    ec2.rules.add(CHANGE, Throttle(), when=second_round(ec2), times=None)
    result = agent.command("off", node, deadline=4, **options)
    assert result.code == 1
    assert any("may still have untrack_secg" in line for line in result.lines)
    ec2.rules.clear()
    assert agent.command("off", node, **options).code == 0
    assert is_isolated(ec2, node, options)


# From the second round on, once: what the SDK raises is no error of ours; or no thread can be started any more.
FOREIGN = """
import os, botocore.client
call = botocore.client.BaseClient._make_api_call
def once(self, name, params):
    if os.path.exists(os.environ["FLAG"]) and not os.path.exists(os.environ["FLAG"] + ".done"):
        open(os.environ["FLAG"] + ".done", "w").close()
        raise TypeError("not an error of the agent's")
    return call(self, name, params)
botocore.client.BaseClient._make_api_call = once
"""
NO_THREADS = """
import os, threading
start = threading.Thread.start
def refuse(thread):
    if os.path.exists(os.environ["FLAG"]):
        raise RuntimeError("can't start new thread")
    start(thread)
threading.Thread.start = refuse
"""


@pytest.fixture
def broken_later(agent, ec2, tmp_path):
    """Let the agent's Python run this at its start; the file FLAG is there from the second untracking on."""

    def prepare(text):
        folder = tmp_path / "site"
        folder.mkdir()
        (folder / "sitecustomize.py").write_text(text, encoding="ascii")
        agent.env.update(PYTHONPATH=str(folder), FLAG=str(tmp_path / "flag"))
        opening = lambda call: call.listing("SecurityGroupId") == [ec2.world.open]  # noqa: E731
        ec2.rules.add(CHANGE, Hook(lambda call: (tmp_path / "flag").touch(), late=True), when=opening, nth=2)
        return tmp_path / "flag"

    return prepare


def test_an_error_of_another_kind_between_the_steps_leaves_nothing_open(agent, ec2, node, options, broken_later):
    flag = broken_later(FOREIGN)
    agent.command("off", node, **options)
    assert flag.with_name("flag.done").exists()
    assert not is_open(ec2, node)


def test_no_thread_for_the_second_round_leaves_nothing_open(agent, ec2, node, options, broken_later):
    flag = broken_later(NO_THREADS)
    agent.command("off", node, **options)
    assert flag.exists()
    assert is_isolated(ec2, node, options)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupt_between_the_steps_isolates_first(agent, ec2, node, options, number):
    running = agent.start(*agent.arguments("off", node, **{**options, "settle_time": 10}))
    while len(sets(ec2)) < 2:
        time.sleep(0.02)
        assert running.poll() is None
    running.send_signal(number)
    _, err = running.communicate(timeout=30)
    assert running.returncode == 1
    assert "interrupted" in err
    assert is_isolated(ec2, node, options)


def test_an_interrupt_does_not_stop_the_isolation(agent, ec2, node, options):
    throttled = ec2.rules.add(CHANGE, Throttle(), when=second_round(ec2), times=8)
    running = agent.start(*agent.arguments("off", node, **options))
    while throttled.fired < 4:
        time.sleep(0.02)
        assert running.poll() is None
    for _ in range(3):
        running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=30)
    assert running.returncode == 1
    assert "interrupted" in err
    assert is_isolated(ec2, node, options)


# --- an untracking without a reply, which arrives later -----------------------------------------------------------


def opening(ec2, interface):
    """A change to the untracking group, of this interface or of any."""

    def untracks(call):
        wanted = interface in (None, call.params["NetworkInterfaceId"])
        return wanted and call.listing("SecurityGroupId") == [ec2.world.open]

    return untracks


def arrives_late(ec2, interface, seconds):
    """The untracking of an interface gets no reply, and takes effect so many seconds later. An event: it has."""
    arrived = threading.Event()

    def take_effect():
        ec2.edit.set_groups(interface, [ec2.world.open])
        arrived.set()

    def later(_call):
        timer = threading.Timer(seconds, take_effect)
        timer.daemon = True
        timer.start()

    ec2.rules.add(CHANGE, Hook(later), when=opening(ec2, interface))
    ec2.rules.add(CHANGE, Reset(), when=opening(ec2, interface))
    return arrived


@pytest.mark.parametrize("how", ["refused", "refused beside another", "reads fail"])
def test_a_late_untracking_is_closed_though_off_fails(agent, ec2, node, options, how):
    first, second = ec2.world.interfaces["node1"]
    before = groups(ec2, node)[second]
    isolates = lambda c: second_round(ec2, second)(c) and sorted(c.listing("SecurityGroupId")) != before  # noqa: E731
    arrived = arrives_late(ec2, first, 1.5)
    if how == "reads fail":
        isolated = ec2.rules.add(CHANGE, Hook(lambda _call: None, late=True), when=second_round(ec2, second))
        denied = Error("UnauthorizedOperation", "You are not authorized to perform this operation.", 403)
        ec2.rules.add("DescribeInstances", denied, when=lambda call: isolated.fired > 0, times=None)
    else:
        ec2.rules.add(CHANGE, Error("OperationNotPermitted"), when=isolates, times=None)
    if how == "refused beside another":
        ec2.rules.add("CreateTags", Hook(lambda _c: ec2.edit.put_tags(node, {"lastfence": "1700000000"}), late=True))
    result = agent.command("off", node, api_timeout=2, **options)
    assert result.code == 1
    assert arrived.wait(30)
    assert not is_open(ec2, node)
    assert len(ec2.calls_of(CHANGE)) < 20, "it waits until nothing can arrive any more"


def test_a_second_of_throttling_does_not_use_up_the_attempts(agent, ec2, node, options):
    first = ec2.world.interfaces["node1"][0]
    throttled = ec2.rules.add(CHANGE, Throttle(), when=opening(ec2, first), times=4)
    result = agent.command("off", node, **options)
    assert result.code == 0, result.err
    assert throttled.fired == 4
    assert is_isolated(ec2, node, options)


def test_a_hanging_untracking_fails_soon(agent, ec2, node, options):
    first = ec2.world.interfaces["node1"][0]
    ec2.rules.add(CHANGE, LoseReply(), when=opening(ec2, first), times=None)
    result = agent.command("off", node, api_timeout=1, **options)
    assert result.code == 1
    assert f"EC2 accepted no change of {first} to untrack_secg" in result.last
    assert result.seconds < 20
    assert is_isolated(ec2, node, options)


def test_where_an_untracking_is_refused_nothing_stays_open_for_the_settle_time(agent, ec2, node, options):
    second = ec2.world.interfaces["node1"][1]
    before = groups(ec2, node)
    ec2.rules.add(CHANGE, Error("OperationNotPermitted"), when=opening(ec2, second), times=None)
    result = agent.command("off", node, **{**options, "settle_time": 15})
    assert result.code == 1
    opened = [c for c in ec2.calls_of(CHANGE) if c.took_effect and c.listing("SecurityGroupId") == [ec2.world.open]]
    closed = [c for c in ec2.calls_of(CHANGE) if c.took_effect and c.listing("SecurityGroupId") != [ec2.world.open]]
    assert closed[0].ended - opened[0].ended < 15
    assert groups(ec2, node) == before


def test_an_interrupt_starts_no_further_change(agent, ec2, options):
    """More interfaces than concurrent changes: waiting ones are not opened after the others have been isolated."""
    some = {"groups": [ec2.world.groups["app"], ec2.world.groups["db"]]}
    node = ec2.edit.add_instance("many", [some] * 24)
    ec2.rules.add(CHANGE, Delay(0.4), times=None)
    running = agent.start(*agent.arguments("off", node, **options))
    while not ec2.calls_of(CHANGE):
        time.sleep(0.02)
        assert running.poll() is None
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=60)
    assert running.returncode == 1, err
    assert not [c for c in ec2.calls_of(CHANGE) if c.outcome == "pending"]
    opened = [c for c in ec2.calls_of(CHANGE) if opening(ec2, None)(c)]
    assert len({c.params["NetworkInterfaceId"] for c in opened}) < 24
    closed = next(c for c in ec2.calls_of(CHANGE) if second_round(ec2)(c))
    assert closed.at - max(c.ended for c in opened) < 3, "closed at once, and not when nothing can arrive any more"
    assert not is_open(ec2, node)


# --- several plugs ------------------------------------------------------------------------------------------------


def seconds_open(ec2, node_name):
    """How long its interfaces were on the untracking group: from the last one opened to the first one isolated."""
    own = [c for c in ec2.calls_of(CHANGE) if c.took_effect]
    own = [c for c in own if c.params["NetworkInterfaceId"] in ec2.world.interfaces[node_name]]
    opened = [c.ended for c in own if opening(ec2, None)(c)]
    return min(c.ended for c in own if second_round(ec2)(c)) - max(opened)


def concerns(*ids):
    """Calls about one of these."""
    return lambda call: set(ids) & set(call.params.values())


@pytest.mark.parametrize(
    ("action", "fault", "first_node"),
    [
        ("CreateTags", Throttle(), "node1"),
        ("CreateTags", Stall(), "node1"),
        ("DescribeInstances", ServerError(), "node1"),
        ("DescribeInstances", Throttle(), "node2"),
    ],
)
def test_a_plug_is_not_kept_open_by_calls_for_another(agent, ec2, options, action, fault, first_node):
    """One is on the untracking group, while EC2 refuses the calls for the other one or does not answer them."""
    nodes = {name: ec2.world.nodes[name] for name in ("node1", "node2")}
    failing = nodes["node2" if first_node == "node1" else "node1"]
    started = lambda c: c.action != "DescribeInstances" or len(ec2.calls_of(CHANGE)) > 1  # noqa: E731
    about = concerns(failing)
    ec2.rules.add(action, fault, when=lambda c: started(c) and about(c), times=None)
    result = agent.command("off", ",".join(nodes.values()), **{**options, "settle_time": 2, "deadline": 12})
    assert result.code == 1
    assert result.seconds > 6, "it was tried until the deadline"
    assert 2 <= seconds_open(ec2, first_node) < 6
    assert is_isolated(ec2, nodes[first_node], options)
    assert not is_open(ec2, failing)


def test_a_backup_that_is_throttled_for_seconds_delays_only_its_own_plug(agent, ec2, options):
    first, second = ec2.world.nodes["node1"], ec2.world.nodes["node2"]
    throttled = ec2.rules.add("CreateTags", Throttle(), when=concerns(second), times=6)
    result = agent.command("off", f"{first},{second}", **{**options, "settle_time": 2})
    assert result.code == 0, result.err
    assert throttled.fired == 6
    for name in ("node1", "node2"):
        assert 2 <= seconds_open(ec2, name) < 6
        assert is_isolated(ec2, ec2.world.nodes[name], options)


def test_an_interrupt_isolates_all_plugs(agent, ec2, options):
    nodes = [ec2.world.nodes[name] for name in ("node1", "node2")]
    running = agent.start(*agent.arguments("off", ",".join(nodes), **{**options, "settle_time": 10}))
    while len(sets(ec2)) < 4:
        time.sleep(0.02)
        assert running.poll() is None
    running.send_signal(signal.SIGTERM)
    _, err = running.communicate(timeout=30)
    assert running.returncode == 1
    assert "interrupted" in err
    assert all(is_isolated(ec2, node, options) for node in nodes)


FINALIZER = """
import os, signal, threading, time
sleep = time.sleep
class Finalized:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        for _ in range(1000):
            pass
def slept(seconds):
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        sleep(0.02)
        if threading.current_thread() is threading.main_thread() and os.path.exists("GO"):
            os.unlink("GO")
            Finalized()
time.sleep = slept
"""


def test_an_interrupt_that_hits_a_finalizer_is_not_lost(agent, ec2, options, tmp_path):
    """Python drops the exceptions that are raised there."""
    (tmp_path / "sitecustomize.py").write_text(FINALIZER.replace("GO", str(tmp_path / "go")), encoding="ascii")
    agent.env["PYTHONPATH"] = str(tmp_path)
    node = ec2.world.nodes["node1"]
    running = agent.start(*agent.arguments("off", node, **{**options, "settle_time": 10}))
    while len(sets(ec2)) < 2:
        time.sleep(0.02)
        assert running.poll() is None
    (tmp_path / "go").touch()
    _, err = running.communicate(timeout=30)
    assert running.returncode == 1
    assert "interrupted" in err
    assert is_isolated(ec2, node, options)


def test_a_node_is_not_opened_once_more_when_its_isolation_group_is_gone(agent, ec2, node, keep):
    """Pacemaker repeats a failed off ten times."""
    before = groups(ec2, node)
    options = {**keep, "secg": "sg-00000000000000bad", "untrack_secg": ec2.world.open}
    assert agent.command("off", node, **options).code == 1
    start = len(ec2.calls)
    result = agent.command("off", node, **options)
    assert result.code == 1
    assert "no group of secg (sg-00000000000000bad) exists; create one and set it in secg" in result.last
    assert sets(ec2, start) == []
    assert groups(ec2, node) == before
    assert agent.command("off", node, **{**keep, "untrack_secg": ec2.world.open}).code == 0
