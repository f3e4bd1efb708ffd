"""plug by Name tag, private DNS name or primary private IP."""

import boto3
import pytest
from assertions import is_isolated
from botocore.config import Config
from ec2.faults import Stall


@pytest.fixture
def about(ec2):
    """What EC2 shows of node1."""
    client = boto3.client("ec2", config=Config(proxies={}), **ec2.client_kwargs())
    found = client.describe_instances(InstanceIds=[ec2.world.nodes["node1"]])
    ec2.calls.clear()
    return found["Reservations"][0]["Instances"][0]


@pytest.mark.parametrize("kind", ["Name", "PrivateDnsName", "PrivateIpAddress"])
def test_off_and_on_accept_each_kind_of_name(agent, ec2, mode, about, kind):
    name = {"Name": "node1", **about}[kind]
    before = ec2.snapshot()
    assert agent.pacemaker("off", name, **mode).code == 0
    assert is_isolated(ec2, ec2.world.nodes["node1"], mode)
    assert agent.command("status", name, **mode).code == 2
    assert agent.command("on", name, **mode).code == 0
    assert ec2.snapshot() == before


@pytest.mark.parametrize("kind", ["Name", "PrivateDnsName"])
def test_a_name_in_another_case_is_found(agent, ec2, keep, about, kind):
    """list offers node1; Pacemaker compares without case, and may ask for NODE1."""
    name = {"Name": "node1", **about}[kind]
    assert agent.pacemaker("off", name.upper(), **keep).code == 0
    assert is_isolated(ec2, ec2.world.nodes["node1"], keep)
    assert len({c.action for c in ec2.calls if c.reads}) == 1
    assert agent.command("status", name.title(), **keep).code == 2
    assert agent.command("on", name.upper(), **keep).code == 0


def test_an_exact_match_comes_before_another_case(agent, ec2, keep):
    upper, lower = ec2.edit.add_instance("DB1"), ec2.edit.add_instance("db1")
    assert agent.command("off", "db1", **keep).code == 0
    assert is_isolated(ec2, lower, keep)
    assert not is_isolated(ec2, upper, keep)
    before = ec2.snapshot()
    result = agent.command("off", "Db1", **keep)
    assert result.code == 1
    assert "Db1 matches several instances" in result.last
    assert all(i in result.last for i in (upper, lower))
    assert ec2.snapshot() == before


@pytest.mark.parametrize("name", ["data base;1", "Grüne 1", "a*b", "a?B\\", "x" * 255])
def test_a_node_is_fenced_by_every_name_that_list_offers(agent, ec2, keep, name):
    """As the cluster knows it: with white space and separators replaced, in any case."""
    node = ec2.edit.add_instance(name)
    rows = dict(line.split(",", 1) for line in agent.command("list").out.splitlines())
    for asked in (rows[node], rows[node].upper(), rows[node].lower()):
        assert agent.pacemaker("off", asked, **keep).code == 0
        assert is_isolated(ec2, node, keep)
        assert agent.pacemaker("on", asked, **keep).code == 0


def test_another_case_is_found_on_a_later_page(agent, ec2, keep):
    for n in range(12):
        ec2.edit.add_instance(f"nod{n % 10}")
    wanted = ec2.edit.add_instance("late1")
    ec2.config.page_limit = 5
    assert agent.command("off", "LATE1", **keep).code == 0
    assert is_isolated(ec2, wanted, keep)


def test_another_case_is_looked_for_within_the_filter(agent, ec2, keep):
    ec2.edit.add_instance("db1", tags={"cluster": "b"})
    mine = ec2.edit.add_instance("db1", tags={"cluster": "a"})
    assert agent.command("off", "DB1", filter="tag:cluster=a", **keep).code == 0
    assert is_isolated(ec2, mine, keep)


def test_an_api_that_stalls_ends_the_look_up_in_time(agent, ec2, keep):
    ec2.rules.add("DescribeInstances", Stall(), nth=3, times=None)
    result = agent.command("off", "NODE1", api_timeout=1, deadline=4, **keep)
    assert result.code == 1
    assert result.last.startswith("ERROR: deadline error: ")
    assert "look up instance NODE1" in result.last
    assert result.seconds < 7


def test_a_name_adds_two_calls_and_two_more_in_another_case(agent, ec2, keep, about):
    nobody = ("10.99.99.99", 2 * 2)  # which is looked up once more
    for name, calls in [("node1", 3), ("NODE1", 5), (about["PrivateIpAddress"], 3), nobody]:
        ec2.calls.clear()
        assert agent.command("status", name, **keep).code == (1 if name == nobody[0] else 0)
        assert len(ec2.calls) == calls, name


def test_no_match_is_refused(agent, ec2, keep):
    before = ec2.snapshot()
    result = agent.command("off", "node9", **keep)
    assert result.code == 1
    assert "instance error: no instance has" in result.last
    assert "node9" in result.last
    assert ec2.snapshot() == before


def test_several_matches_are_refused_and_listed(agent, ec2, keep):
    other = ec2.edit.add_instance("node1")
    before = ec2.snapshot()
    result = agent.command("off", "node1", **keep)
    assert result.code == 1
    assert all(i in result.last for i in (other, ec2.world.nodes["node1"]))
    assert ec2.snapshot() == before


def test_a_filter_decides(agent, ec2, keep):
    ec2.edit.add_instance("node1", tags={"cluster": "b"})
    mine = ec2.edit.add_instance("node1", tags={"cluster": "a"})
    assert agent.command("off", "node1", filter="tag:cluster=a", **keep).code == 0
    assert is_isolated(ec2, mine, keep)


def test_a_terminated_namesake_does_not_count(agent, ec2, keep):
    other = ec2.edit.add_instance("node1")
    ec2.edit.set_state(other, "terminated")
    assert agent.command("off", "node1", **keep).code == 0
    assert is_isolated(ec2, ec2.world.nodes["node1"], keep)


def test_a_name_that_only_terminated_instances_have_is_off(agent, ec2, keep):
    for _ in range(2):
        ec2.edit.set_state(ec2.edit.add_instance("gone"), "terminated")
    assert agent.command("status", "gone", **keep).code == 2
    assert agent.command("off", "gone", **keep).code == 0
    assert "is terminated" in agent.command("on", "gone", **keep).last
    alive = ec2.edit.add_instance("GONE")
    assert agent.command("off", "gone", **keep).code == 0
    assert is_isolated(ec2, alive, keep)


@pytest.mark.parametrize("name", ["node*", "node?", "*"])
def test_wildcards_in_names_are_literal(agent, ec2, keep, name):
    before = ec2.snapshot()
    assert agent.command("off", name, **keep).code == 1
    assert ec2.snapshot() == before


def test_names_and_ids_mixed(agent, ec2, keep):
    plugs = f"node1, {ec2.world.nodes['node2']},node1"
    assert agent.command("off", plugs, **keep).code == 0
    assert all(is_isolated(ec2, ec2.world.nodes[n], keep) for n in ("node1", "node2"))


def test_self_fencing_by_name_is_refused(agent, ec2, keep):
    agent.is_on(ec2.world.nodes["node1"])
    assert "Self-fencing detected" in agent.command("off", "node1", **keep).last


def test_a_name_is_looked_up_once(agent, ec2, keep):
    agent.command("off", "node1", **keep)
    assert len(ec2.calls) == 2 + 4 + 2


def test_ignoring_the_restore_looks_nothing_up(agent, ec2, keep):
    assert agent.command("on", "node1", unfence_ignore_restore=True, **keep).code == 0
    assert ec2.calls == []
