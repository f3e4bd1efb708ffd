"""How many API calls an operation makes, exactly: doc/dev/performance.md states these numbers."""

import os
from collections import Counter

import pytest

READ, TAG, SET, UNTAG, STOP, START = (
    "DescribeInstances",
    "CreateTags",
    "ModifyNetworkInterfaceAttribute",
    "DeleteTags",
    "StopInstances",
    "StartInstances",
)
GROUPS, ASSOCIATIONS = "DescribeSecurityGroups", "DescribeSecurityGroupVpcAssociations"
OFF = Counter({READ: 3, TAG: 1})  # and one change for each interface
ON = Counter({READ: 3, TAG: 1, UNTAG: 1})


@pytest.fixture
def calls(agent, ec2, keep):
    """The calls of one run of the agent, which must end well."""

    def run(action, plug, code=0, **options):
        done = len(ec2.calls)
        result = agent.command(action, plug, **{**keep, **options})
        assert result.code == code, result
        return Counter(c.action for c in ec2.calls[done:])

    return run


@pytest.fixture
def newest(agent):
    """With the newest boto3."""
    agent.env["PYTHONPATH"] = os.environ["BOTO3_NEWEST"]


def changes(count):
    return Counter({SET: count})


@pytest.mark.parametrize("count", [1, 15])
def test_status_takes_1_off_4_and_on_5_and_one_for_each_interface(calls, ec2, count):
    groups = [ec2.world.groups["app"], ec2.world.groups["db"]]
    node = ec2.edit.add_instance("other", [{"groups": groups}] * count)
    assert calls("status", node) == {READ: 1}
    assert calls("off", node) == OFF + changes(count)
    assert calls("status", node, code=2) == {READ: 1}
    assert calls("on", node) == ON + changes(count)


def test_on_takes_1_where_there_is_nothing_to_restore_and_no_more_after_a_repeated_off(calls, node):
    assert calls("on", node) == {READ: 1}
    for _ in range(2):
        assert calls("off", node) == OFF + changes(2)
    assert calls("on", node) == ON + changes(2)


def test_untracking_adds_a_change_for_each_interface(calls, ec2, node):
    assert calls("off", node, untrack_secg=ec2.world.open) == OFF + changes(2 + 2)
    assert calls("on", node, untrack_secg=ec2.world.open) == ON + changes(2)


def test_power_off_adds_1_and_another_without_skip_os_shutdown(calls, ec2, node, newest):
    assert calls("off", node, onfence_poweroff=True) == OFF + changes(2) + Counter({STOP: 1})
    ec2.config.skip_os_shutdown = "refuse"
    options = {"onfence_poweroff": True, "skip_os_shutdown": "true"}
    assert calls("off", ec2.world.nodes["node2"], **options) == OFF + changes(2) + Counter({STOP: 2})


def test_power_on_adds_3_and_1_where_it_runs_already(calls, ec2, node):
    assert calls("off", node, onfence_poweroff=True)
    assert calls("on", node, unfence_poweron=True) == ON + changes(2) + Counter({READ: 2, START: 1})
    assert calls("on", node, unfence_poweron=True) == Counter({READ: 2})


@pytest.fixture
def two_vpcs(ec2):
    """A node with an interface in each: (the node, what isolates it, what can be removed)."""
    world, there = ec2.world, ec2.edit.add_vpc()
    isolation, app, db = (ec2.edit.add_group(name, there["vpc"]) for name in ("isolation2", "app2", "db2"))
    here = {"groups": [world.groups["app"], world.groups["db"]]}
    node = ec2.edit.add_instance("both", [here, {"groups": [app, db], "subnet": there["subnet"]}])
    return node, f"{world.isolation},{isolation}", f"{world.groups['app']},{app}"


def test_several_vpcs_add_2_where_groups_are_kept(calls, two_vpcs, newest):
    node, keep, remove = two_vpcs
    assert calls("off", node, secg=keep) == OFF + changes(2) + Counter({GROUPS: 1, ASSOCIATIONS: 1})
    assert calls("status", node, code=2, secg=keep) == {READ: 1}
    assert calls("on", node, secg=keep) == ON + changes(2)
    assert calls("off", node, secg=remove, invert_sg_removal=None) == OFF + changes(2)


def test_several_vpcs_add_1_where_the_sdk_knows_no_associations(calls, agent, two_vpcs):
    agent.env["PYTHONPATH"] = os.environ["BOTO3_OLDEST"]
    node, keep, _ = two_vpcs
    assert calls("off", node, secg=keep) == OFF + changes(2) + Counter({GROUPS: 1})


def test_groups_of_two_vpcs_add_2_and_a_refused_change_each_to_a_node_in_one(calls, ec2, node, newest):
    there = ec2.edit.add_group("isolation2", ec2.edit.add_vpc()["vpc"])
    options = {"secg": f"{ec2.world.isolation},{there}"}
    assert calls("off", node, **options) == OFF + changes(2 + 2) + Counter({GROUPS: 1, ASSOCIATIONS: 1})
    untracking = {**options, "untrack_secg": ec2.world.open}
    assert calls("off", ec2.world.nodes["node2"], **untracking) == OFF + changes(2 + 2) + Counter(
        {GROUPS: 1, ASSOCIATIONS: 1}
    )


def test_settling_adds_a_read(calls, node):
    assert calls("off", node, settle_time=1) == OFF + changes(2) + Counter({READ: 1})


def test_a_name_adds_2_and_1_where_it_can_be_of_one_kind_only(calls, ec2, node):
    ec2.edit.put_tags(node, {"Host": "web"})
    ec2.edit.ipv6(ec2.world.interfaces["node1"][0], "2001:db8::1")
    one_kind = {"web": 1, "WEB": 2, ec2.edit.attach_volume(node): 1, ec2.world.interfaces["node1"][1]: 1}
    for name, count in {"node1": 2, "NODE1": 4, "2001:DB8::0:1": 2, **one_kind}.items():
        tag = "Host" if name in one_kind else None
        assert calls("status", name, plug_tag=tag) == {READ: count + 1}, name
    assert calls("off", "node1") == OFF + changes(2) + Counter({READ: 2})


def test_a_further_plug_adds_3_to_off_and_its_interfaces_and_none_to_status(calls, ec2):
    both = f"{ec2.world.nodes['node1']},{ec2.world.nodes['node2']}"
    assert calls("status", both) == {READ: 1}
    assert calls("off", both) == OFF + changes(2 + 2) + Counter({READ: 2, TAG: 1})


def test_monitor_takes_2_and_a_list_one_for_each_page(calls, ec2, agent):
    for n in range(30):
        ec2.edit.add_instance(f"other{n}")
    ec2.config.page_limit = 11  # of 33
    assert calls("monitor", None, untrack_secg=ec2.world.open) == {READ: 1, GROUPS: 1}
    assert calls("monitor", ec2.world.nodes["node1"]) == {READ: 1, GROUPS: 1}
    assert calls("monitor", "node1") == {READ: 2, GROUPS: 1}
    auto = {"onfence_poweroff": True, "auto_unfence": True}
    assert calls("monitor", None, **auto) == {READ: 2, GROUPS: 1}
    ec2.calls.clear()
    assert calls("list", None) == {READ: 3}
    assert {c.params["MaxResults"] for c in ec2.calls_of(READ)} == {"1000"}
