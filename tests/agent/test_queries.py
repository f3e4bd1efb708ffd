"""monitor, list, list-status: all of it, or an error."""

import time

import pytest
from ec2.faults import Error, Reset, Stall, Throttle


def test_monitor_succeeds_if_fencing_would_work(agent, ec2, mode):
    for how in (agent.command, agent.pacemaker):
        result = how("monitor", **mode)
        assert (result.code, result.out, result.err) == (0, "", "")


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"secret_key": "wrong"}, "authentication error"),
        ({"access_key": "AKIAWRONG"}, "authentication error"),
        ({"secg": "sg-00000000000000bad"}, "no such security group: sg-00000000000000bad"),
        ({"endpoint_url": "http://127.0.0.1:9"}, "deadline error"),
    ],
)
def test_monitor_fails_when_fencing_would_fail(agent, ec2, keep, options, word):
    result = agent.command("monitor", deadline=3, **{**keep, **options})
    assert result.code == 1
    assert word in result.last
    assert result.seconds < 5


def test_expired_credentials_are_named(agent, ec2, keep):
    ec2.key.expired = True
    result = agent.command("monitor", **keep)
    assert result.code == 1
    assert "authentication error" in result.last
    assert "RequestExpired" in result.last


def test_monitor_without_permission_to_look_at_groups_warns(agent, ec2, keep):
    ec2.key.deny("ec2:DescribeSecurityGroups")
    result = agent.command("monitor", **keep)
    assert result.code == 0
    assert "cannot check" in result.last
    assert "allow ec2:DescribeSecurityGroups" in result.last


def test_monitor_warns_of_a_filter_that_ec2_refuses(agent, ec2, keep):
    """list and look-ups of names fail then, and Pacemaker finds no node. Instance IDs need no filter."""
    result = agent.command("monitor", filter="tag=cluster", **keep)
    assert result.code == 0
    assert "WARNING: EC2 refuses filter, so list and the lookup of names fail: cannot read" in result.err
    assert len(ec2.calls) == 3
    ec2.calls.clear()
    result = agent.command("monitor", filter="tag:cluster=none", **keep)
    assert (result.code, result.err, len(ec2.calls)) == (0, "", 2)
    ec2.key.deny("ec2:DescribeInstances")
    assert agent.command("monitor", filter="tag=cluster", **keep).code == 1


def test_monitor_takes_two_calls_however_large_the_account(agent, ec2, keep):
    for n in range(30):
        ec2.edit.add_instance(f"other{n}")
    ec2.config.page_limit = 5
    assert agent.command("monitor", **keep).code == 0
    assert len(ec2.calls) == 2


@pytest.mark.parametrize(
    ("plug", "text"),
    [
        ("i-0000000000000dead", "instance error: no instance i-0000000000000dead"),
        ("node9", "instance error: no instance has the Name tag"),
        ("node1,i-0000000000000dead", "instance error: no instance i-0000000000000dead"),
    ],
)
def test_monitor_fails_when_its_plug_names_no_instance(agent, ec2, keep, plug, text):
    """Pacemaker passes none, so one that is given is configured: off would be refused."""
    for how in (agent.command, agent.pacemaker):
        result = how("monitor", plug, **keep)
        assert result.code == 1
        assert text in result.last


@pytest.mark.parametrize("plug", ["node1", "NODE1", "node1,node2"])
def test_monitor_succeeds_if_its_plug_names_an_instance(agent, ec2, keep, plug):
    result = agent.command("monitor", plug, **keep)
    assert (result.code, result.out, result.err) == (0, "", "")
    assert agent.command("monitor", ec2.world.nodes["node1"], **keep).code == 0


def test_list_shows_every_page(agent, ec2):
    more = {ec2.edit.add_instance(f"other{n}") for n in range(12)}
    ec2.config.page_limit = 5
    result = agent.command("list")
    assert result.code == 0
    rows = dict(line.split(",") for line in result.out.splitlines())
    assert more | set(ec2.world.nodes.values()) == set(rows)
    assert rows[ec2.world.nodes["node1"]] == "node1"


def test_list_status_shows_ec2s_state(agent, ec2):
    nodes = ec2.world.nodes
    ec2.edit.set_state(nodes["node2"], "stopped")
    ec2.edit.set_state(nodes["node3"], "stopping")
    rows = {line.split(",")[1]: line.split(",")[2].lower() for line in agent.command("list-status").out.splitlines()}
    assert rows == {"node1": "on", "node2": "off", "node3": "unknown"}


def test_list_takes_a_filter_and_a_separator(agent, ec2):
    result = agent.pacemaker("list", filter="tag:Name=node1,node2;instance-state-name=running", separator=";")
    assert {line.split(";")[1] for line in result.out.splitlines()} == {"node1", "node2"}


@pytest.mark.parametrize("name", ["plug", "port"])
@pytest.mark.parametrize("action", ["list", "list-status"])
def test_list_with_a_plug_shows_only_that(agent, ec2, keep, name, action):
    """Otherwise Pacemaker fences every node with a device that has a plug, whatever node that names."""
    node = ec2.world.nodes["node2"]
    for plug in (node, "NODE2", f"{ec2.world.nodes['node1']},node2"):
        result = agent.pacemaker(action, **{name: plug}, filter="tag:Name=node*", nodename=None, **keep)
        assert (result.code, result.err) == (0, "")
        assert f"{node},node2" in result.out
        assert ("node1" in result.out) is ("," in plug)
        assert "node3" not in result.out


@pytest.mark.parametrize("name", ["plug", "port"])
def test_status_is_refused_if_pacemaker_asks_about_another_node(agent, ec2, keep, name):
    """After a list has failed, Pacemaker takes a node whose status can be read for one that the device can fence."""
    nodes = ec2.world.nodes
    beside = {"port": "NODE2"} if name == "plug" else {}
    given = {name: nodes["node1"], **beside, "nodename": "NODE2", **keep}
    result = agent.pacemaker("status", **given)
    assert (result.code, result.out) == (1, "")
    text = f"the plug {nodes['node1']} is not the node NODE2, which is {nodes['node2']}; set pcmk_host_list or"
    assert text in result.last
    given[name] = f"{nodes['node1']},{nodes['node2']}"
    assert agent.pacemaker("status", **given).code == 0
    assert agent.pacemaker("status", **{**given, "nodename": "node9", **dict.fromkeys(beside, "node9")}).code == 0


@pytest.mark.parametrize(("nodename", "calls"), [("NODE1", 1), ("another", 2)])
def test_status_looks_up_the_node_that_pacemaker_names_once_at_most(agent, ec2, keep, nodename, calls):
    result = agent.pacemaker("status", ec2.world.nodes["node1"], nodename=nodename, **keep)
    assert result.code == 0
    assert [c.action for c in ec2.calls] == ["DescribeInstances"] * calls


def test_list_fails_if_its_plug_is_not_there(agent, ec2, keep):
    for plug in ("i-0000000000000dead", "node9"):
        result = agent.command("list", plug, **keep)
        assert (result.code, result.out) == (1, "")
        assert f"instance error: no instance {'has' if plug == 'node9' else plug}" in result.last


def test_names_are_safe_for_the_parser_of_the_cluster(agent, ec2):
    ec2.edit.add_instance("a b,c;d\te\u2028é")
    assert "a_b_c_d_e_é" in agent.command("list").out


@pytest.mark.parametrize("fault", [lambda: Error("InternalError", status=500), Reset, Throttle])
def test_a_list_that_breaks_off_is_an_error_not_a_short_list(agent, ec2, fault):
    for n in range(12):
        ec2.edit.add_instance(f"other{n}")
    ec2.config.page_limit = 5
    ec2.rules.add("DescribeInstances", fault(), nth=2, times=None)
    result = agent.command("list", deadline=3)
    assert result.code == 1
    assert result.out == ""
    assert "deadline error" in result.last


def test_reading_actions_end_within_fourteen_seconds(agent, ec2, keep):
    """Side by side, as all that they do is to wait."""
    ec2.rules.add(None, Stall(), times=None)
    began = time.monotonic()
    actions = ("status", "monitor", "list", "list-status")
    running = {a: agent.start(*agent.arguments(a, ec2.world.nodes["node1"], **keep)) for a in actions}
    for action, process in running.items():
        _, err = process.communicate(timeout=30)
        assert time.monotonic() - began < 14, action
        assert process.returncode == 1, action
        assert "deadline error" in err.splitlines()[-1], action


def test_status_of_an_unknown_instance_is_an_error(agent, ec2, keep):
    result = agent.command("status", "i-0000000000000dead", **keep)
    assert (result.code, result.out) == (1, "")
    assert "instance error" in result.last


def test_status_is_not_derived_from_tags(agent, ec2, keep):
    """Tags written, then killed before the groups changed: ON, and off does not say Already OFF."""
    node = ec2.world.nodes["node1"]
    ec2.key.deny("ec2:ModifyNetworkInterfaceAttribute")
    agent.command("off", node, **keep)
    assert "lastfence" in ec2.snapshot()[node]["tags"]
    assert agent.command("status", node, **keep).code == 0
