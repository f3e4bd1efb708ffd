"""Which machine is this: DMI, then IMDSv2, both bounded; unknown is a warning."""

import pytest
from ec2.imds import Imds


@pytest.fixture
def imds(ec2, agent):
    """An instance metadata service that returns node1, and no DMI."""
    agent.is_on(None)
    with Imds(ec2.world.nodes["node1"], ec2.region) as running:
        agent.env["AWS_EC2_METADATA_SERVICE_ENDPOINT"] = running.endpoint
        del agent.env["AWS_EC2_METADATA_DISABLED"]
        yield running


def test_dmi_needs_no_network(agent, ec2, keep, imds):
    agent.is_on(ec2.world.nodes["node1"])
    assert "Self-fencing" in agent.command("off", ec2.world.nodes["node1"], **keep).last
    assert imds.paths == []


def test_imds_identifies_the_machine_without_dmi(agent, ec2, keep, imds):
    assert "Self-fencing" in agent.command("off", ec2.world.nodes["node1"], **keep).last
    assert imds.paths[-1] == "GET /latest/meta-data/instance-id"
    # On a busy machine the first reply may come too late, and it is asked again.
    assert set(imds.paths) == {"PUT /latest/api/token", "GET /latest/meta-data/instance-id"}


def test_a_proxy_is_never_used_for_imds(agent, ec2, keep, imds):
    agent.env["http_proxy"] = "http://127.0.0.1:9"
    agent.env["no_proxy"] = "nothing"
    agent.command("off", ec2.world.nodes["node1"], deadline=3, **keep)
    assert "GET /latest/meta-data/instance-id" in imds.paths


@pytest.mark.parametrize("mode,seconds", [("black hole", 5), ("404", 5), ("garbage", 5), ("reset", 9), ("503", 9)])
def test_an_unavailable_imds_is_a_warning(agent, ec2, keep, imds, mode, seconds):
    """The agent waits for it: an unknown own instance ID is a risk."""
    imds.mode = mode
    result = agent.command("off", ec2.world.nodes["node1"], **keep)
    assert result.code == 0, result.err
    assert any("cannot determine which instance this machine is" in line for line in result.lines)
    assert result.seconds < seconds


def test_the_region_comes_from_imds_by_default(agent, ec2, keep, imds):
    assert agent.command("status", ec2.world.nodes["node1"], region=None, **keep).code == 0
    assert "GET /latest/meta-data/placement/region" in imds.paths


def test_skip_race_check_sends_no_request(agent, ec2, keep, imds):
    assert agent.command("off", ec2.world.nodes["node1"], skip_race_check=True, **keep).code == 0
    assert imds.paths == []
