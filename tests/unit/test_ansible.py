"""doc/ansible.yml: variables and keys are the role's documented ones, options the agent's, and names fit."""

from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

TOP = Path(__file__).parents[2]
PLAYBOOK = TOP / "doc" / "ansible.yml"
METADATA = TOP / "tests" / "metadata" / "fence_aws_vpc_net.xml"
# "Role Variables" in README.md of github.com/linux-system-roles/ha_cluster, commit 053ae70: those of use here.
VARIABLES = {
    "ha_cluster_cluster_name",
    "ha_cluster_hacluster_password",
    "ha_cluster_install_cloud_agents",
    "ha_cluster_fence_agent_packages",
    "ha_cluster_extra_packages",
    "ha_cluster_cluster_properties",
    "ha_cluster_resource_primitives",
    "ha_cluster_stonith_levels",
    "ha_cluster_alerts",
    "ha_cluster_sbd_enabled",
    "ha_cluster_sbd_options",
}
PRIMITIVE = {"id", "agent", "instance_attrs", "meta_attrs", "copy_operations_from_agent", "operations", "utilization"}
LEVEL = {"level", "target", "target_pattern", "target_attribute", "target_value", "resource_ids"}
PACEMAKER = {"pcmk_host_map", "pcmk_off_timeout", "pcmk_reboot_timeout", "pcmk_reboot_action"}
FENCE_AWS = {"region"}


@pytest.fixture(scope="module")
def play():
    (play,) = yaml.safe_load(PLAYBOOK.read_text(encoding="utf-8"))
    return play


@pytest.fixture(scope="module")
def variables(play):
    return play["vars"]


@pytest.fixture(scope="module")
def primitives(variables):
    return {primitive["id"]: primitive for primitive in variables["ha_cluster_resource_primitives"]}


def attributes(sets):
    """name -> value of the only set that the role uses; each is a name and a value, and nothing else."""
    (one,) = sets
    assert all(set(attribute) == {"name", "value"} for attribute in one["attrs"])
    assert all(isinstance(attribute["value"], str) for attribute in one["attrs"]), "on, off and 1 are words here"
    return {attribute["name"]: attribute["value"] for attribute in one["attrs"]}


def test_variables_and_keys_are_the_roles(play, variables, primitives):
    assert play["roles"] == ["fedora.linux_system_roles.ha_cluster"]
    assert set(variables) <= VARIABLES
    for primitive in primitives.values():
        assert set(primitive) <= PRIMITIVE
        assert [set(operation) for operation in primitive["operations"]] == [{"action", "attrs"}]
    for level in variables["ha_cluster_stonith_levels"]:
        assert set(level) <= LEVEL
        assert len({"target", "target_pattern", "target_attribute"} & set(level)) == 1
    assert attributes(variables["ha_cluster_cluster_properties"])["stonith-enabled"] == "true"


def test_options_are_those_of_the_agents(primitives):
    known = {str(p.get("name")) for p in ElementTree.parse(METADATA).iter("parameter") if not p.get("deprecated")}
    ours, power = primitives["fence-vpc"], primitives["fence-power"]
    assert (ours["agent"], power["agent"]) == ("stonith:fence_aws_vpc_net", "stonith:fence_aws")
    given = set(attributes(ours["instance_attrs"]))
    assert {"secg", "invert_sg_removal", "untrack_secg", "ignore_instance_state"} <= given <= known | PACEMAKER
    assert set(attributes(power["instance_attrs"])) <= FENCE_AWS | PACEMAKER


def test_each_node_of_the_map_has_both_levels_and_no_other(variables, primitives):
    maps = {attributes(primitive["instance_attrs"])["pcmk_host_map"] for primitive in primitives.values()}
    (host_map,) = maps
    nodes = [pair.split(":")[0] for pair in host_map.split(";")]
    levels = [(x["target"], x["level"], *x["resource_ids"]) for x in variables["ha_cluster_stonith_levels"]]
    assert levels == [(n, level, d) for n in nodes for level, d in ((1, "fence-vpc"), (2, "fence-power"))]
    assert {device for *_, device in levels} == set(primitives)
