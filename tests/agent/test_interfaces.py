"""Interfaces of every kind: several VPCs, secondary, managed, two network cards, very many."""

import os
import xml.etree.ElementTree as ET

import pytest
from assertions import groups, is_isolated, our_tags
from ec2.edit import secondary_interface
from ec2.faults import Error, Fault, Hook

CHANGE = "ModifyNetworkInterfaceAttribute"


@pytest.fixture
def two_vpcs(ec2):
    """An instance with an interface in each of two VPCs, and the other VPC's groups."""
    other = ec2.edit.add_vpc()
    isolation, app = (ec2.edit.add_group(n, other["vpc"]) for n in ("isolation2", "app2"))
    sets = [{"groups": [ec2.world.groups["app"]]}, {"groups": [app, other["default"]], "subnet": other["subnet"]}]
    node = ec2.edit.add_instance("two", sets)
    return node, isolation, app, other


@pytest.mark.parametrize("sdk", ["BOTO3_OLDEST", "BOTO3_NEWEST"])
@pytest.mark.parametrize("may_look", [True, False])
def test_in_several_vpcs_each_interface_keeps_the_groups_of_its_own(agent, ec2, two_vpcs, sdk, may_look):
    agent.env["PYTHONPATH"] = os.environ[sdk]
    if not may_look:
        ec2.key.deny("ec2:DescribeSecurityGroup*")
    node, isolation, _, _ = two_vpcs
    options = {"secg": f"{ec2.world.isolation},{isolation}", "invert_sg_removal": True}
    before = ec2.snapshot()
    result = agent.command("off", node, **options)
    assert result.code == 0, result.err
    assert list(groups(ec2, node).values()) == [[ec2.world.isolation], [isolation]]
    assert agent.command("status", node, **options).code == 2
    assert agent.command("on", node, **options).code == 0
    assert ec2.snapshot() == before


@pytest.mark.parametrize("untracks", [False, True])
@pytest.mark.parametrize("sdk", ["BOTO3_OLDEST", "BOTO3_NEWEST"])
@pytest.mark.parametrize("may_look", [True, False])
def test_one_device_for_nodes_in_two_vpcs(agent, ec2, sdk, may_look, untracks):
    """EC2's words for a group of another VPC name no group."""
    agent.env["PYTHONPATH"] = os.environ[sdk]
    if not may_look:
        ec2.key.deny("ec2:DescribeSecurityGroup*")
    other = ec2.edit.add_vpc()
    there = [ec2.edit.add_group(n, other["vpc"]) for n in ("isolation2", "app2")]
    node2 = ec2.edit.add_instance("there", [{"groups": [there[1]], "subnet": other["subnet"]}])
    options = {"secg": f"{ec2.world.isolation},{there[0]}", "invert_sg_removal": True}
    if untracks:
        options["untrack_secg"] = ec2.world.open
    before = ec2.snapshot()
    for node, isolation in ((ec2.world.nodes["node1"], ec2.world.isolation), (node2, there[0])):
        if untracks and node == node2:
            options["untrack_secg"] = ec2.edit.add_group("open2", other["vpc"])
        result = agent.command("off", node, **options)
        assert result.code == 0, result.err
        assert set(map(tuple, groups(ec2, node).values())) == {(isolation,)}
        assert agent.command("status", node, **options).code == 2
        assert agent.command("on", node, **options).code == 0
    assert ec2.snapshot() == before


def test_all_groups_that_fit_the_vpc_are_kept(agent, ec2):
    """One VPC takes two of three groups, and the fourth is gone."""
    agent.env["PYTHONPATH"] = os.environ["BOTO3_NEWEST"]
    node = ec2.world.nodes["node1"]
    here, there = ec2.edit.add_group("isolation2"), ec2.edit.add_group("isolation3", ec2.edit.add_vpc()["vpc"])
    secg = f"{ec2.world.isolation},{here},{there},sg-00000000000000bad"
    result = agent.command("off", node, secg=secg, invert_sg_removal=True)
    assert result.code == 0, result.err
    assert set(map(tuple, groups(ec2, node).values())) == {tuple(sorted([ec2.world.isolation, here]))}


def test_no_group_of_the_vpc_is_refused_and_changes_nothing(agent, ec2):
    node, before = ec2.world.nodes["node1"], ec2.snapshot()
    vpc = ec2.edit.add_vpc()["vpc"]
    secg = ",".join(ec2.edit.add_group(f"isolation{n}", vpc) for n in range(3))
    result = agent.command("off", node, secg=secg, invert_sg_removal=True)
    assert result.code == 1
    assert "belong to different networks" in result.last
    now = ec2.snapshot()[node]
    assert now["interfaces"] == before[node]["interfaces"]


@pytest.mark.parametrize("code", ["InvalidGroup.NotFound", "InvalidSecurityGroupID.NotFound"])
def test_a_group_that_is_gone_is_left_out_whatever_the_code(agent, ec2, keep, code):
    node, gone = ec2.world.nodes["node1"], "sg-00000000000000bad"
    named = lambda call: gone in call.listing("SecurityGroupId")  # noqa: E731
    text = f"The security group '{gone}' does not exist"
    rule = ec2.rules.add(CHANGE, Error(code, text), when=named, times=None)
    result = agent.command("off", node, secg=f"{keep['secg']},{gone}", invert_sg_removal=True)
    assert result.code == 0, result.err
    assert rule.fired == 2
    assert any(f"{gone} of secg does not exist" in line for line in result.lines)
    assert is_isolated(ec2, node, keep)


def test_more_groups_than_an_interface_may_have_are_left_out(agent, ec2):
    """EC2's quota of an interface is 5 by default; each group of secg isolates."""
    node = ec2.world.nodes["node1"]
    secg = ",".join(ec2.edit.add_group(f"isolation{n}") for n in range(7))
    options = {"secg": secg, "invert_sg_removal": True}
    before = ec2.snapshot()
    result = agent.command("off", node, **options)
    assert result.code == 0, result.err
    assert is_isolated(ec2, node, options)
    assert [len(g) for g in groups(ec2, node).values()] == [5, 5]
    assert agent.command("on", node, **options).code == 0
    assert ec2.snapshot() == before


def test_an_interface_without_groups_that_appears_leaves_the_others_isolated(agent, ec2, keep):
    node = ec2.world.nodes["node1"]
    appear = Hook(lambda _call: ec2.edit.secondary_interfaces(node, [secondary_interface(7)]), late=True)
    ec2.rules.add(CHANGE, appear)
    result = agent.command("off", node, **keep)
    assert result.code == 1
    assert "partial error" in result.last
    assert "cannot be isolated" in result.last
    assert set(map(tuple, groups(ec2, node).values())) == {(ec2.world.isolation,)}
    assert {c.params["NetworkInterfaceId"] for c in ec2.calls_of(CHANGE)} == set(ec2.world.interfaces["node1"])


def test_an_associated_group_serves_both_vpcs(agent, ec2, two_vpcs):
    agent.env["PYTHONPATH"] = os.environ["BOTO3_NEWEST"]
    node, _, _, other = two_vpcs
    ec2.edit.associate_group(ec2.world.isolation, other["vpc"])
    result = agent.command("off", node, secg=ec2.world.isolation, invert_sg_removal=True)
    assert result.code == 0, result.err
    assert list(groups(ec2, node).values()) == [[ec2.world.isolation]] * 2


def test_a_vpc_without_a_group_is_refused_before_the_first_change(agent, ec2, two_vpcs, keep):
    agent.env["PYTHONPATH"] = os.environ["BOTO3_NEWEST"]
    before = ec2.snapshot()
    result = agent.command("off", two_vpcs[0], **keep)
    assert result.code == 1
    assert "can be used on" in result.last
    assert ec2.snapshot() == before


def test_a_refused_vpc_without_a_look_up_is_rolled_back(agent, ec2, two_vpcs, keep):
    ec2.key.deny("ec2:DescribeSecurityGroup*")
    before = groups(ec2, two_vpcs[0])
    result = agent.command("off", two_vpcs[0], **keep)
    assert result.code == 1
    assert groups(ec2, two_vpcs[0]) == before


def test_removal_in_several_vpcs(agent, ec2, two_vpcs):
    node, _, app, _ = two_vpcs
    ec2.edit.set_groups(next(iter(groups(ec2, node))), [ec2.world.groups["app"], ec2.world.groups["db"]])
    options = {"secg": f"{ec2.world.groups['app']},{app}"}
    before = ec2.snapshot()
    assert agent.command("off", node, **options).code == 0
    assert is_isolated(ec2, node, options)
    assert agent.command("on", node, **options).code == 0
    assert ec2.snapshot() == before


@pytest.mark.parametrize("sdk", ["BOTO3_OLDEST", "BOTO3_NEWEST"])
def test_a_secondary_interface_is_never_isolated_whatever_the_sdk_knows(agent, ec2, keep, sdk):
    agent.env["PYTHONPATH"] = os.environ[sdk]
    node = ec2.world.nodes["node1"]
    assert agent.command("off", node, **keep).code == 0
    ec2.edit.secondary_interfaces(node, [secondary_interface(1)])
    assert agent.command("status", node, **keep).code == 0
    before = ec2.snapshot()
    result = agent.command("off", node, **keep)
    assert result.code == 1
    assert "has no security groups" in result.last
    assert ec2.snapshot() == before
    assert agent.command("on", node, **keep).code == 0


@pytest.mark.parametrize("sdk", ["BOTO3_OLDEST", "BOTO3_NEWEST"])
def test_an_interface_that_a_service_manages_is_refused_before_the_first_change(agent, ec2, keep, sdk):
    agent.env["PYTHONPATH"] = os.environ[sdk]
    node, second = ec2.world.nodes["node1"], ec2.world.interfaces["node1"][1]
    ec2.edit.operator(second, "eks.amazonaws.com")
    before = ec2.snapshot()
    result = agent.command("off", node, **keep)
    assert result.code == 1
    assert f"{second} of {node} is managed" in result.last
    assert ec2.snapshot() == before


def wide(ec2, count):
    ec2.config.groups_per_interface = 16
    return ec2.edit.add_instance(
        "wide", [{"groups": [ec2.world.groups["app"]], "device_index": n} for n in range(count)]
    )


def test_forty_eight_interfaces_and_a_name_tag_fill_the_tags(agent, ec2, keep):
    node = wide(ec2, 48)
    before = ec2.snapshot()
    assert agent.command("off", node, **keep).code == 0
    assert len(ec2.snapshot()[node]["tags"]) == 50
    assert is_isolated(ec2, node, keep)
    result = agent.command("off", node, **keep)
    assert result.code == 0, "again, though there is no room for a second backup"
    assert agent.command("on", node, **keep).code == 0
    assert ec2.snapshot() == before


def test_sixty_interfaces_exceed_the_tags_and_are_counted(agent, ec2, keep):
    node = wide(ec2, 60)
    before = ec2.snapshot()
    result = agent.command("off", node, **keep)
    assert result.code == 1
    assert "needs 61 tags, but EC2 allows only 49 more" in result.last
    assert ec2.snapshot() == before
    result = agent.command("off", node, ignore_tag_write_failure=True, **keep)
    assert result.code == 0, result.err
    assert is_isolated(ec2, node, keep)
    assert our_tags(ec2, node) == {}


def test_static_groups_count_by_rank_where_device_indexes_have_gaps(agent, ec2, keep):
    app, db, ssh = (ec2.world.groups[n] for n in ("app", "db", "ssh"))
    node = ec2.edit.add_instance("gap", [{"groups": [app], "device_index": 0}, {"groups": [db], "device_index": 2}])
    assert agent.command("off", node, **keep).code == 0
    assert agent.command("on", node, interface0_sg=ssh, interface2_sg=ssh, **keep).code == 1, "2 is rank 1"
    assert agent.command("on", node, interface0_sg=ssh, interface1_sg=app, **keep).code == 0
    assert list(groups(ec2, node).values()) == [[ssh], [app]]


class Lacking(Fault):
    """A read that does not show one interface yet."""

    def __init__(self, interface):
        self.interface = interface

    def after(self, call, reply):
        root = ET.fromstring(reply.body)
        space = root.tag[: root.tag.index("}") + 1]
        for interfaces in [*root.iter(f"{space}networkInterfaceSet")]:
            for item in [*interfaces]:
                if item.findtext(f"{space}networkInterfaceId") == self.interface:
                    interfaces.remove(item)
        ET.register_namespace("", space[1:-1])
        reply.body = ET.tostring(root)


@pytest.mark.parametrize("backup", [True, False])
def test_on_numbers_interfaces_for_static_groups_anew_where_its_first_read_lacked_one(agent, ec2, keep, backup):
    app, db, ssh = (ec2.world.groups[n] for n in ("app", "db", "ssh"))
    node = ec2.edit.add_instance("three", [{"groups": [g], "device_index": n} for n, g in enumerate((app, db, ssh))])
    static = {"interface0_sg": app, "interface1_sg": db, "interface2_sg": ssh}
    if not backup:
        ec2.key.deny("ec2:CreateTags")
    assert agent.command("off", node, **static, **keep).code == 0
    rule = ec2.rules.add("DescribeInstances", Lacking([*groups(ec2, node)][1]))
    result = agent.command("on", node, **static, **keep)
    assert result.code == 0, result.err
    assert rule.fired == 1
    assert [*groups(ec2, node).values()] == [[app], [db], [ssh]]
    assert "no interface for" not in result.err


def test_off_without_a_backup_leaves_a_new_interface_alone_that_has_no_static_groups(agent, ec2, keep):
    """Its original groups would be nowhere."""
    node = ec2.world.nodes["node1"]
    app, ssh = ec2.world.groups["app"], ec2.world.groups["ssh"]
    ec2.key.deny("ec2:CreateTags")
    new = []
    ec2.rules.add(CHANGE, Hook(lambda _: new.append(ec2.edit.attach(node, [ssh], 2))), times=1)
    result = agent.command("off", node, interface0_sg=app, interface1_sg=app, **keep)
    assert result.code == 1
    assert f"partial error: {new[0]} of {node} appeared during off without a backup" in result.last
    assert groups(ec2, node)[new[0]] == [ssh]
    result = agent.command("off", node, interface0_sg=app, interface1_sg=app, interface2_sg=ssh, **keep)
    assert result.code == 0, result.err
    assert is_isolated(ec2, node, keep)


@pytest.mark.parametrize("nth", [1, 2, 3])
def test_the_only_interface_with_the_group_goes_away_while_it_is_removed(agent, ec2, remove, nth):
    """Before the backup, before its verification, before the change."""
    app, db = ec2.world.groups["app"], ec2.world.groups["db"]
    node = ec2.edit.add_instance("leaving", [{"groups": [db]}, {"groups": [app, db]}])
    second = list(groups(ec2, node))[1]
    calls = ["CreateTags", "DescribeInstances", CHANGE]
    ec2.rules.add(calls[nth - 1], Hook(lambda call: ec2.edit.detach(second)), nth=2 if nth == 2 else 1)
    result = agent.command("off", node, **remove)
    assert result.code == 0, result.err
    assert agent.command("status", node, **remove).code == 2, "status and off mean the same"
    assert agent.command("off", node, **remove).code == 0
    assert agent.command("status", node, **remove).code == 2
    assert agent.command("on", node, **remove).code == 0
    assert our_tags(ec2, node) == {}


def test_the_only_interface_with_the_group_goes_away_after_the_fence(agent, ec2, remove):
    app, db = ec2.world.groups["app"], ec2.world.groups["db"]
    node = ec2.edit.add_instance("left", [{"groups": [db]}, {"groups": [app, db]}])
    assert agent.command("off", node, **remove).code == 0
    ec2.edit.detach(list(groups(ec2, node))[1])
    assert agent.command("status", node, **remove).code == 2
    assert agent.command("off", node, **remove).code == 0
    agent.is_on(node)
    result = agent.command("off", ec2.world.nodes["node1"], **remove)
    assert result.code == 1
    assert "is fenced and must not fence" in result.last


def test_the_only_interface_with_the_group_and_its_backup_go_away(agent, ec2, remove):
    """The backup is written again with the groups of the one that went away: what is left stays isolated."""
    app, db = ec2.world.groups["app"], ec2.world.groups["db"]
    node = ec2.edit.add_instance("none", [{"groups": [db]}, {"groups": [app, db]}])
    second = list(groups(ec2, node))[1]

    def leave(_call):
        ec2.edit.detach(second)
        ec2.edit.put_tags(node, dict.fromkeys(our_tags(ec2, node)))

    ec2.rules.add("DescribeInstances", Hook(leave), nth=3)
    assert agent.command("off", node, **remove).code == 0
    assert agent.command("status", node, **remove).code == 2, "status and off mean the same"
    assert agent.command("on", node, **remove).code == 0
    assert our_tags(ec2, node) == {}


def test_an_interface_missing_in_the_verifying_read_is_not_rolled_back(agent, ec2, keep):
    app, db = ec2.world.groups["app"], ec2.world.groups["db"]
    node = ec2.edit.add_instance("blink", [{"groups": [app]}, {"groups": [db]}])
    first, second = groups(ec2, node)
    ec2.rules.add("DescribeInstances", Hook(lambda call: ec2.edit.detach(second)), nth=2)
    ec2.rules.add(CHANGE, Hook(lambda call: ec2.edit.attach_again(node, second, 1)))
    ec2.rules.add(
        CHANGE,
        Error("UnauthorizedOperation", "no"),
        when=lambda c: c.params["NetworkInterfaceId"] == first,
        times=None,
    )
    result = agent.command("off", node, **keep)
    assert result.code == 1
    assert "internal error" not in result.err
    assert "did not show an interface" in result.last
    ec2.rules.clear()
    assert agent.command("on", node, **keep).code == 0
    assert groups(ec2, node) == {first: [app], second: [db]}


@pytest.mark.parametrize("sdk", ["BOTO3_OLDEST", "BOTO3_NEWEST"])
@pytest.mark.parametrize("kind", ["trunk", "evs"])
def test_a_trunk_is_refused_before_the_first_change(agent, ec2, mode, sdk, kind):
    """Containers behind it have interfaces and groups of their own, which DescribeInstances does not list."""
    agent.env["PYTHONPATH"] = os.environ[sdk]
    node, other = ec2.world.nodes["node1"], ec2.world.nodes["node2"]
    trunk = ec2.world.interfaces["node1"][1]
    ec2.edit.interface_type(trunk, kind)
    before = ec2.snapshot()
    for plugs in (node, f"{other},{node}"):
        result = agent.command("off", plugs, **mode)
        assert result.code == 1
        assert result.last.startswith(f"ERROR: state error: {trunk} of {node} is of type {kind}: ")
    assert ec2.snapshot() == before
    assert ec2.writes() == []


def test_a_trunk_that_appears_during_off_fails_it(agent, ec2, keep):
    node = ec2.world.nodes["node1"]

    def appear(_call):
        ec2.edit.interface_type(ec2.edit.attach(node, [ec2.world.groups["app"]], 2), "trunk")

    ec2.rules.add(CHANGE, Hook(appear))
    result = agent.command("off", node, **keep)
    assert result.code == 1
    assert "partial error: " in result.last
    assert "cannot be isolated: it is managed or a trunk" in result.last


def test_a_fenced_node_with_a_trunk_is_not_off_and_is_restored(agent, ec2, keep):
    node = ec2.world.nodes["node1"]
    before = ec2.snapshot()
    assert agent.command("off", node, **keep).code == 0
    ec2.edit.interface_type(ec2.world.interfaces["node1"][1], "trunk")
    assert agent.command("status", node, **keep).code == 0
    agent.is_on(node)
    assert "is fenced and must not fence" in agent.command("off", ec2.world.nodes["node2"], **keep).last
    agent.is_on(ec2.world.nodes["node3"])
    assert agent.command("on", node, **keep).code == 0
    assert ec2.snapshot() == before
