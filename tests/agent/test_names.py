"""plug by Name tag, private DNS name or primary private IP."""

import boto3
import pytest
from botocore.config import Config
from world_of import is_cut


@pytest.fixture
def about(ec2):
    """What EC2 shows of node1."""
    client = boto3.client("ec2", config=Config(proxies={}), **ec2.client_kwargs())
    found = client.describe_instances(InstanceIds=[ec2.world.nodes["node1"]])
    ec2.calls.clear()
    return found["Reservations"][0]["Instances"][0]


@pytest.mark.parametrize("kind", ["Name", "PrivateDnsName", "PrivateIpAddress"])
def test_there_and_back_by_each_kind_of_name(agent, ec2, mode, about, kind):
    name = {"Name": "node1", **about}[kind]
    before = ec2.snapshot()
    assert agent.pacemaker("off", name, **mode).code == 0
    assert is_cut(ec2, ec2.world.nodes["node1"], mode)
    assert agent.command("status", name, **mode).code == 2
    assert agent.command("on", name, **mode).code == 0
    assert ec2.snapshot() == before


def test_a_name_adds_three_calls(agent, ec2, keep):
    agent.command("status", "node1", **keep)
    assert len(ec2.calls) == 4


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
    assert is_cut(ec2, mine, keep)


def test_a_terminated_namesake_does_not_count(agent, ec2, keep):
    other = ec2.edit.add_instance("node1")
    ec2.edit.set_state(other, "terminated")
    assert agent.command("off", "node1", **keep).code == 0


@pytest.mark.parametrize("name", ["node*", "node?", "*"])
def test_wildcards_are_no_wildcards(agent, ec2, keep, name):
    before = ec2.snapshot()
    assert agent.command("off", name, **keep).code == 1
    assert ec2.snapshot() == before


def test_names_and_ids_mixed(agent, ec2, keep):
    plugs = f"node1, {ec2.world.nodes['node2']},node1"
    assert agent.command("off", plugs, **keep).code == 0
    assert all(is_cut(ec2, ec2.world.nodes[n], keep) for n in ("node1", "node2"))


def test_oneself_by_name_is_self_fencing(agent, ec2, keep):
    agent.is_on(ec2.world.nodes["node1"])
    assert "Self-fencing detected" in agent.command("off", "node1", **keep).last


def test_a_name_is_looked_up_once(agent, ec2, keep):
    agent.command("off", "node1", **keep)
    assert len(ec2.calls) == 3 + 4 + 2


def test_ignoring_the_restore_looks_nothing_up(agent, ec2, keep):
    assert agent.command("on", "node1", unfence_ignore_restore=True, **keep).code == 0
    assert ec2.calls == []
