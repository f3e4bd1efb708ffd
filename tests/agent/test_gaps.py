"""Paths of the design that no other file walks: no credentials, no such host, isolation with nothing on record."""

import pytest
from world_of import groups, our_tags

# An address of a network device that is not there: "no such host", said without asking a name server.
NO_SUCH_HOST = "http://[fe80::1%25nowhere]"


def test_partial_without_a_record_is_left_and_named(agent, ec2, mode):
    node = ec2.world.nodes["node1"]
    first, second = ec2.world.interfaces["node1"]
    before = groups(ec2, node)
    ec2.key.deny("ec2:CreateTags")
    ec2.edit.requester_managed(second)
    result = agent.command("off", node, ignore_tag_write_failure=True, **mode)
    assert result.code == 1
    assert "partial error" in result.last
    assert f"{first} not put back" in result.last
    assert f"set the groups of {second}" in result.last
    assert groups(ec2, node)[first] != before[first]
    assert groups(ec2, node)[second] == before[second]
    assert our_tags(ec2, node) == {}
    assert agent.command("status", node, ignore_tag_write_failure=True, **mode).code == 0


def test_neither_tags_nor_groups_is_a_failure_that_changes_nothing(agent, ec2, mode):
    before = ec2.snapshot()
    ec2.key.deny("ec2:CreateTags")
    ec2.key.deny("ec2:ModifyNetworkInterfaceAttribute")
    result = agent.command("off", ec2.world.nodes["node1"], ignore_tag_write_failure=True, **mode)
    assert result.code == 1
    assert "permission error" in result.last
    assert "allow ec2:ModifyNetworkInterfaceAttribute" in result.last
    assert ec2.snapshot() == before


@pytest.mark.parametrize("action", ["off", "on", "status", "monitor", "list"])
def test_no_credentials_anywhere(agent, ec2, keep, action):
    result = agent.command(action, ec2.world.nodes["node1"], access_key=None, secret_key=None, **keep)
    assert result.code == 1
    assert "authentication error" in result.last
    assert "check the credentials" in result.last
    assert ec2.calls == []


def test_no_such_host(agent, ec2, keep):
    result = agent.command("status", ec2.world.nodes["node1"], endpoint_url=NO_SUCH_HOST, **keep)
    assert result.code == 1
    assert "region error" in result.last
    assert "no such host; check region and endpoint_url" in result.last
    assert result.seconds < 5, "no use in trying again"
