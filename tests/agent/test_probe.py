"""probe_port: the fencer looks for itself whether the node is cut off. On real sockets of this machine."""

import pytest


@pytest.fixture
def node(ec2):
    return ec2.world.nodes["node1"]


@pytest.mark.parametrize("value", ["0", "65536", "-1", "ssh", "22.5", "22,23"])
def test_it_is_one_port(agent, ec2, node, keep, value):
    for action in ("off", "monitor", "validate-all"):
        result = agent.command(action, node, **{**keep, "probe_port": value})
        assert result.code == 1
        assert result.last.startswith(f"ERROR: validation error: probe_port={value}: not a TCP port, a whole number")
    assert ec2.calls == []


@pytest.mark.parametrize("value", ["1", "22", "65535", " 22 "])
def test_any_port_is_taken(agent, keep, value):
    assert agent.command("validate-all", **{**keep, "probe_port": value}).code == 0
