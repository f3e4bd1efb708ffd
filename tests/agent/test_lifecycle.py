"""The whole way: off, status, on; by command line and as Pacemaker does it."""

import json

import pytest
from assertions import changes, groups, is_isolated, our_tags
from ec2.faults import Error, Throttle

CHANGE = "ModifyNetworkInterfaceAttribute"


@pytest.fixture(params=["command", "pacemaker"])
def run(request, agent):
    return getattr(agent, request.param)


def test_off_isolates_and_on_restores_exactly(run, ec2, mode):
    node = ec2.world.nodes["node1"]
    before = ec2.snapshot()
    assert run("status", node, **mode).code == 0

    off = run("off", node, **mode)
    assert (off.code, off.out) == (0, "Success: Powered OFF\n")
    assert is_isolated(ec2, node, mode)
    status = run("status", node, **mode)
    assert (status.code, status.out) == (2, "Status: OFF\n")

    back = run("on", node, **mode)
    assert (back.code, back.out) == (0, "Success: Powered ON\n")
    assert ec2.snapshot() == before
    status = run("status", node, **mode)
    assert (status.code, status.out) == (0, "Status: ON\n")


def test_reboot_means_off_until_on(run, ec2, mode):
    node = ec2.world.nodes["node1"]
    before = ec2.snapshot()
    reboot = run("reboot", node, **mode)
    assert (reboot.code, reboot.out) == (0, "Success: Powered OFF\n")
    for _ in range(2):  # it stays so
        assert is_isolated(ec2, node, mode)
        assert run("status", node, **mode).code == 2
    assert run("on", node, **mode).code == 0
    assert ec2.snapshot() == before
    assert ec2.calls_of("StopInstances", "StartInstances", "RebootInstances") == []


def test_off_again_and_again_keeps_the_originals(agent, ec2, mode):
    node = ec2.world.nodes["node2"]
    before = ec2.snapshot()
    for _ in range(4):
        assert agent.command("off", node, **mode).code == 0
    assert agent.command("on", node, **mode).code == 0
    assert ec2.snapshot() == before


def test_off_always_runs_in_full(agent, ec2, keep):
    node = ec2.world.nodes["node1"]
    for _ in range(2):
        done = len(changes(ec2))
        assert agent.command("off", node, **keep).code == 0
        actions = [a for a, _ in changes(ec2)[done:]]
        assert actions == ["CreateTags", "ModifyNetworkInterfaceAttribute", "ModifyNetworkInterfaceAttribute"]


def test_the_number_of_calls_is_minimal(agent, ec2, mode):
    node = ec2.world.nodes["node1"]

    def calls(action: str) -> list:
        done = len(ec2.calls)
        assert agent.command(action, node, **mode).code == 0
        return [c.action for c in ec2.calls[done:]]

    two = ["ModifyNetworkInterfaceAttribute"] * 2
    assert calls("status") == ["DescribeInstances"]
    assert calls("off") == ["DescribeInstances", "CreateTags", "DescribeInstances", *two, "DescribeInstances"]
    proof = ["DescribeInstances", "DeleteTags", "DescribeInstances"]
    assert calls("on") == ["DescribeInstances", "CreateTags", *two, *proof]
    assert calls("monitor") == ["DescribeInstances", "DescribeSecurityGroups"]


def test_the_backup_has_the_established_format(agent, ec2, keep):
    node = ec2.world.nodes["node1"]
    before = groups(ec2, node)
    assert agent.command("off", node, **keep).code == 0
    tags = our_tags(ec2, node)
    time = int(tags.pop("lastfence"))
    assert set(tags) == {f"Original_SG_Backup_{node}_{time}_{n}_0" for n in (1, 2)}
    for number, interface in enumerate(ec2.world.interfaces["node1"], 1):
        value = tags[f"Original_SG_Backup_{node}_{time}_{number}_0"]
        names = [g[3:] for g in before[interface]]
        assert json.loads(value) == {"n": {"i": interface, "s": names, "c": {"i": 0, "t": 1}}, "t": time}


def test_sixteen_groups_are_saved_in_chunks_and_restored(agent, ec2, keep):
    ec2.config.groups_per_interface = 16
    many = [ec2.edit.add_group(f"g{n}") for n in range(16)]
    node = ec2.edit.add_instance("many", [{"groups": many}])
    before = ec2.snapshot()
    assert agent.command("off", node, **keep).code == 0
    assert len(our_tags(ec2, node)) == 3
    assert agent.command("on", node, **keep).code == 0
    assert ec2.snapshot() == before


def test_fifteen_interfaces(agent, ec2, keep):
    world = ec2.world
    sets = [{"groups": [world.groups["app"]], "device_index": n} for n in range(15)]
    node = ec2.edit.add_instance("wide", sets)
    before = ec2.snapshot()
    assert agent.command("off", node, **keep).code == 0
    assert is_isolated(ec2, node, keep)
    assert agent.command("on", node, **keep).code == 0
    assert ec2.snapshot() == before


def test_interfaces_are_numbered_by_network_card_and_device_index(agent, ec2, keep):
    app, db, ssh = (ec2.world.groups[n] for n in ("app", "db", "ssh"))
    node = ec2.edit.add_instance(
        "cards",
        [
            {"groups": [app], "device_index": 0},
            {"groups": [db], "device_index": 1, "network_card": 1},
            {"groups": [ssh], "device_index": 2},
        ],
    )
    assert agent.command("off", node, **keep).code == 0
    by_number = {k.split("_")[5]: json.loads(v)["n"]["s"] for k, v in our_tags(ec2, node).items() if "_" in k}
    assert by_number == {"1": [app[3:]], "2": [ssh[3:]], "3": [db[3:]]}


def test_poweroff_stops_the_instance_after_it_is_isolated(agent, ec2, keep):
    node = ec2.world.nodes["node1"]
    result = agent.pacemaker("off", node, onfence_poweroff=1, **keep)
    assert result.code == 0
    assert ec2.snapshot()[node]["state"] == "stopped"
    stop = ec2.calls_of("StopInstances")[0]
    assert stop.flag("Force")
    assert stop.number == len(ec2.calls), "the last call"


def test_a_failed_stop_is_a_warning(agent, ec2, keep):
    ec2.key.deny("ec2:StopInstances")
    result = agent.command("off", ec2.world.nodes["node1"], onfence_poweroff=True, **keep)
    assert result.code == 0
    assert "is isolated but was not stopped" in result.last
    assert "allow ec2:StopInstances" in result.last


@pytest.mark.parametrize("spelling", ["onfence_poweroff=false", "onfence-poweroff=0", "onfence_poweroff=no"])
def test_a_boolean_that_is_false_is_off(agent, ec2, keep, spelling):
    name, value = spelling.split("=")
    result = agent.pacemaker("off", ec2.world.nodes["node1"], **{name: value}, **keep)
    assert result.code == 0
    assert ec2.calls_of("StopInstances") == []


def test_several_plugs(agent, ec2, mode):
    nodes = [ec2.world.nodes[n] for n in ("node1", "node2")]
    before = ec2.snapshot()
    assert agent.command("off", ",".join(nodes), **mode).code == 0
    assert all(is_isolated(ec2, n, mode) for n in nodes)
    assert agent.command("status", ", ".join(nodes), **mode).code == 2
    assert agent.command("on", nodes[0], **mode).code == 0
    assert agent.command("status", ",".join(nodes), **mode).code == 0, "on if any is on"
    assert agent.command("on", ";".join(nodes), plug_separator=";", **mode).code == 0
    assert ec2.snapshot() == before


def test_one_refused_plug_stops_all_before_the_first_change(agent, ec2, keep):
    node = ec2.world.nodes["node1"]
    before = ec2.snapshot()
    result = agent.command("off", f"{node},i-0000000000000dead", **keep)
    assert result.code == 1
    assert "no instance i-0000000000000dead" in result.last
    assert ec2.snapshot() == before


def test_each_refused_plug_is_named(agent, ec2, keep):
    nodes = [ec2.world.nodes[name] for name in ("node1", "node2")]
    ec2.edit.set_state(nodes[1], "stopped")
    before = ec2.snapshot()
    result = agent.command("off", ",".join([*nodes, "i-0000000000000dead"]), **keep)
    assert result.code == 1
    assert f"{nodes[1]} is not running" in result.last
    assert "no instance i-0000000000000dead" in result.last
    assert ec2.snapshot() == before


@pytest.mark.parametrize("action", ["off", "on"])
def test_each_plug_that_fails_is_named_with_its_cause(agent, ec2, keep, action):
    nodes = [ec2.world.nodes[name] for name in ("node1", "node2", "node3")]
    agent.is_on(None)
    before = ec2.snapshot()
    if action == "on":
        assert agent.command("off", ",".join(nodes), **keep).code == 0
    for name, code in ("node1", "UnauthorizedOperation"), ("node2", "InvalidGroup.NotFound"):
        interfaces = ec2.world.interfaces[name]
        refused = Error(code, f"refused for {name}", 403)
        ec2.rules.add(CHANGE, refused, times=None, when=lambda c, of=interfaces: c.params["NetworkInterfaceId"] in of)
    result = agent.command(action, ",".join(nodes), **keep)
    assert result.code == 1
    assert result.last.startswith("ERROR: permission error: "), "the category of the first"
    assert "refused for node1" in result.last
    assert "refused for node2" in result.last
    assert all(i in result.last for name in ("node1", "node2") for i in ec2.world.interfaces[name])
    assert nodes[2] not in result.last
    if action == "off":
        assert is_isolated(ec2, nodes[2], keep)
    else:
        assert ec2.snapshot()[nodes[2]] == before[nodes[2]]


def test_a_cause_that_all_plugs_have_is_told_once(agent, ec2, keep):
    nodes = ",".join(ec2.world.nodes[name] for name in ("node1", "node2"))
    assert agent.command("off", nodes, **keep).code == 0
    result = agent.command("on", nodes, **keep, interface0_sg=keep["secg"], interface1_sg=keep["secg"])
    assert result.code == 1
    assert result.last.count("count as isolated under secg") == 1


def test_on_changes_one_instance_after_the_other(agent, ec2, keep):
    """What opens an interface follows a read closely: no call for another instance comes between."""
    nodes = [ec2.world.nodes[name] for name in ("node1", "node2")]
    assert agent.command("off", ",".join(nodes), **keep).code == 0
    start = len(ec2.calls)
    ec2.rules.add(CHANGE, Throttle(), when=lambda c: c.params["NetworkInterfaceId"] in ec2.world.interfaces["node1"])
    assert agent.command("on", ",".join(nodes), **keep).code == 0
    of = ["node1" if any(t in v for v in c.params.values() for t in (nodes[0], *ec2.world.interfaces["node1"]))
          else "node2" for c in ec2.calls[start:]]  # fmt: skip
    assert of == sorted(of)
    assert set(of) == {"node1", "node2"}


def test_a_terminated_instance_is_off(agent, ec2, keep):
    node = ec2.world.nodes["node1"]
    ec2.edit.set_state(node, "terminated")
    assert agent.command("status", node, **keep).code == 2
    off = agent.command("off", node, **keep)
    assert off.code == 0
    assert f"WARNING: {node} is terminated, so it is off; if another instance has replaced it" in off.err
    assert ec2.writes() == []
    assert "terminated" in agent.command("on", node, **keep).last


def test_a_deleted_group_to_keep_is_ignored_while_one_remains(agent, ec2, keep):
    node = ec2.world.nodes["node1"]
    both = {**keep, "secg": f"{keep['secg']},sg-00000000000000bad"}
    result = agent.command("off", node, **both)
    assert result.code == 0
    assert any("sg-00000000000000bad of secg does not exist" in line for line in result.lines)
    assert is_isolated(ec2, node, keep)


def test_the_warning_about_established_connections_comes_once(agent, ec2, keep):
    result = agent.command("off", ec2.world.nodes["node1"], **keep)
    assert result.code == 0
    assert ["established connections may survive" in line for line in result.lines] == [True]
    result = agent.command("off", ec2.world.nodes["node2"], onfence_poweroff=True, **keep)
    assert result.code == 0
    assert ["until it has stopped" in line for line in result.lines] == [True]
