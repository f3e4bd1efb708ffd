"""plug by Name tag, private DNS name, private address or plug_tag, or by an attached interface or volume."""

import boto3
import pytest
from assertions import changes, is_isolated
from botocore.config import Config
from ec2.faults import Hook, Stall


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


def by_address(ec2, node, eni):
    ec2.edit.ipv6(eni, "2001:db8::5:a")
    return "2001:0DB8:0::5:000A", {}


def by_address_alone(ec2, node, eni):
    ec2.edit.ipv6_only(node, "2001:db8::6", "2001:db8::7")
    return "2001:db8::6", {}


def by_dns_name_of_ipv6_only(ec2, node, eni):
    ec2.edit.ipv6_only(node, "2001:db8::6", "2001:db8::7")
    return f"{node}.{ec2.region}.compute.internal", {}


def by_tag(ec2, node, eni):
    """Neither the Name tag of another node nor a wildcard in the key matters."""
    ec2.edit.put_tags(node, {"Cluster node*": "node2"})
    return "NODE2", {"plug_tag": "Cluster node*"}


def by_tag_of_aws(ec2, node, eni):
    ec2.edit.put_tags(node, {"aws:cloudformation:logical-id": "Node1"})
    return "Node1", {"plug_tag": "aws:cloudformation:logical-id"}


NAMED = {
    "interface": lambda ec2, node, eni: (eni, {}),
    "second interface": lambda ec2, node, eni: (ec2.world.interfaces["node1"][1], {"plug_tag": "Hostname"}),
    "volume": lambda ec2, node, eni: (ec2.edit.attach_volume(node), {}),
    "IPv6 address": by_address,
    "address of an IPv6-only instance": by_address_alone,
    "DNS name of an IPv6-only instance": by_dns_name_of_ipv6_only,
    "tag": by_tag,
    "tag of AWS": by_tag_of_aws,
}


@pytest.mark.parametrize("kind", NAMED)
def test_every_action_accepts_the_name(agent, ec2, keep, kind):
    node, eni = ec2.world.nodes["node1"], ec2.world.interfaces["node1"][0]
    name, options = NAMED[kind](ec2, node, eni)
    options = {**keep, **options}
    before = ec2.snapshot()
    assert agent.command("monitor", name, **options).code == 0
    assert f"ok   plug {name}: is {node}" in agent.command("validate-all", name, **options).out
    assert agent.pacemaker("off", name, **options).code == 0
    assert is_isolated(ec2, node, keep)
    assert agent.command("status", name, **options).code == 2
    assert agent.command("on", name, **options).code == 0
    assert ec2.snapshot() == before


def detached_interface(ec2, node, eni):
    second = ec2.world.interfaces["node1"][1]
    ec2.edit.detach(second)
    return second


def detached_volume(ec2, node, eni):
    volume = ec2.edit.attach_volume(node)
    ec2.edit.detach_volume(node, volume)
    return volume


def address_of_the_second_interface(ec2, node, eni):
    ec2.edit.ipv6(ec2.world.interfaces["node1"][1], "2001:db8::5")
    return "2001:db8::5"


def terminated(attach):
    def then(ec2, node, eni):
        name = attach(ec2, node, eni)
        ec2.edit.set_state(node, "terminated")
        return name

    return then


NOT_NAMED = {
    "detached interface": (detached_interface, "is attached to no instance; check plug"),
    "detached volume": (detached_volume, "is attached to no instance; check plug"),
    "address of the second interface": (address_of_the_second_interface, "private IP 2001:db8::5; check plug"),
    "no address": (lambda *_: "fe80::1%eth0", "private IP fe80::1%eth0; check plug"),
    "interface of a terminated one": (terminated(lambda ec2, node, eni: eni), "is attached to no instance"),
    "volume of a terminated one": (terminated(lambda ec2, node, eni: ec2.edit.attach_volume(node)), "no instance"),
    "address of a terminated one": (terminated(lambda *given: by_address(*given)[0]), "no instance has the Name"),
}


@pytest.mark.parametrize("kind", NOT_NAMED)
def test_what_names_no_instance_is_refused(agent, ec2, keep, kind):
    """EC2 does not show what was attached to a terminated instance: only its tags name it."""
    prepare, words = NOT_NAMED[kind]
    name = prepare(ec2, ec2.world.nodes["node1"], ec2.world.interfaces["node1"][0])
    before = ec2.snapshot()
    for action in ("off", "status"):
        result = agent.command(action, name, **keep)
        assert result.code == 1
        assert result.last.startswith("ERROR: instance error: ")
        assert words in result.last
    assert ec2.snapshot() == before


def test_a_volume_of_two_instances_is_refused_and_both_are_listed(agent, ec2, keep):
    nodes = [ec2.world.nodes[name] for name in ("node1", "node2")]
    volume = ec2.edit.attach_volume(nodes[0])
    ec2.edit.attach_volume(nodes[1], volume)
    before = ec2.snapshot()
    result = agent.command("off", volume, **keep)
    assert result.code == 1
    assert f"{volume} matches several instances: {', '.join(sorted(nodes))}" in result.last
    assert ec2.snapshot() == before


# --- the name is given away between the look-up and the change -------------------------------------------------


def move_interface(ec2, name, to):
    ec2.edit.detach(name)
    ec2.edit.attach_again(to, name, 5)


def move_volume(ec2, name, to):
    ec2.edit.detach_volume(ec2.world.nodes["node1"], name)
    ec2.edit.attach_volume(to, name)


def move_tag(ec2, name, to):
    ec2.edit.put_tags(ec2.world.nodes["node1"], {"Name": None})
    ec2.edit.put_tags(to, {"Name": name})


MOVES = {
    "interface": (lambda ec2: ec2.world.interfaces["node1"][1], move_interface, 1),
    "volume": (lambda ec2: ec2.edit.attach_volume(ec2.world.nodes["node1"]), move_volume, 1),
    "Name tag": (lambda ec2: "node1", move_tag, 2),
}


def refused_as_moved(result, ec2, name):
    assert result.code == 1
    node = ec2.world.nodes["node1"]
    assert result.last == (
        f"ERROR: instance error: {name} named {node} and now does not; no group was changed; repeat the operation, "
        "or use an instance ID"
    )


@pytest.mark.parametrize(
    ("action", "kind"), [*(("off", kind) for kind in MOVES), ("on", "Name tag"), ("status", "interface")]
)
def test_an_instance_that_has_lost_the_name_is_not_touched(agent, ec2, keep, action, kind):
    """It had the name at the look-up."""
    name_of, move, lookups = MOVES[kind]
    name = name_of(ec2)
    if action == "on":
        assert agent.command("off", ec2.world.nodes["node1"], **keep).code == 0
    ec2.calls.clear()
    other = ec2.edit.add_instance("other")
    hook = Hook(lambda *_: move(ec2, name, other), late=True)
    ec2.rules.add("DescribeInstances", hook, nth=lookups)
    refused_as_moved(agent.command(action, name, **keep), ec2, name)
    assert changes(ec2) == []


def test_a_name_that_is_lost_after_the_first_read_is_noticed_before_the_first_change_of_groups(agent, ec2, keep):
    volume = ec2.edit.attach_volume(ec2.world.nodes["node1"])
    hook = Hook(lambda *_: move_volume(ec2, volume, ec2.world.nodes["node2"]), late=True)
    ec2.rules.add("CreateTags", hook)
    refused_as_moved(agent.command("off", volume, **keep), ec2, volume)
    assert [action for action, _ in changes(ec2)] == ["CreateTags"]


@pytest.mark.parametrize("action", ["off", "status"])
def test_one_read_without_the_name_may_be_stale(agent, ec2, keep, action):
    node = ec2.world.nodes["node1"]
    for nth, name in ((2, "other"), (3, "node1")):
        hook = Hook(lambda *_, name=name: ec2.edit.put_tags(node, {"Name": name}), late=True)
        ec2.rules.add("DescribeInstances", hook, nth=nth)
    assert agent.command(action, "node1", **keep).code == 0


# --- a node that was replaced under the same name, and a read from before that ---------------------------------


TAGGED = {"node1": (None, 4), "NODE1": (None, 4), "17": ("Rank", 1), "web": ("Rank", 2)}


def replaced_by_tag(ec2, name, tag):
    """The instance that has the name, and a terminated namesake; the latest change of tags is that of its name."""
    key, value = tag or "Name", "node1" if tag is None else name
    ec2.edit.set_state(ec2.edit.add_instance("old", tags={key: value}), "terminated")
    if tag is None:
        ec2.edit.put_tags(ec2.world.nodes["node1"], {"Name": "other"})
    new = ec2.edit.add_instance("new")
    ec2.edit.put_tags(new, {key: value})
    return new


@pytest.mark.parametrize("action", ["off", "status"])
@pytest.mark.parametrize("name", TAGGED)
def test_a_stale_look_up_that_shows_only_a_terminated_namesake_is_repeated(agent, ec2, keep, action, name):
    tag, lookups = TAGGED[name]
    new = replaced_by_tag(ec2, name, tag)
    ec2.stale(tags_changes=1, reads=lookups)
    assert agent.command(action, name, plug_tag=tag, **keep).code == 0
    assert is_isolated(ec2, new, keep) == (action == "off")


@pytest.mark.parametrize("action", ["off", "status"])
@pytest.mark.parametrize("kind", MOVES)
def test_an_instance_that_is_terminated_after_its_look_up_does_not_stand_for_its_replacement(
    agent, ec2, keep, action, kind
):
    """The look-up may have been stale: the other instance had the name already."""
    name_of, move, lookups = MOVES[kind]
    name, other = name_of(ec2), ec2.edit.add_instance("other")

    def replace(*_):
        move(ec2, name, other)
        ec2.edit.set_state(ec2.world.nodes["node1"], "terminated")

    ec2.calls.clear()
    ec2.rules.add("DescribeInstances", Hook(replace, late=True), nth=lookups)
    refused_as_moved(agent.command(action, name, **keep), ec2, name)
    assert changes(ec2) == []
    assert agent.command(action, name, **keep).code == 0
    assert is_isolated(ec2, other, keep) == (action == "off")


@pytest.mark.parametrize("kind", MOVES)
def test_an_instance_that_is_terminated_after_its_look_up_is_off_if_it_has_no_replacement(agent, ec2, keep, kind):
    name_of, _, lookups = MOVES[kind]
    name = name_of(ec2)
    hook = Hook(lambda *_: ec2.edit.set_state(ec2.world.nodes["node1"], "terminated"), late=True)
    ec2.rules.add("DescribeInstances", hook, nth=lookups)
    assert agent.command("off", name, **keep).code == 0


# --- what list offers ------------------------------------------------------------------------------------------


def test_list_offers_the_names_of_plug_tag(agent, ec2, keep):
    """An instance without the tag has no name, also if it has a Name tag: no plug would find it by that."""
    tagged, untagged = ec2.world.nodes["node1"], ec2.world.nodes["node2"]
    ec2.edit.put_tags(tagged, {"Host": "web 1"})
    for action in ("list", "list-status"):
        rows = dict(line.split(",")[:2] for line in agent.command(action, plug_tag="Host").out.splitlines())
        assert (rows[tagged], rows[untagged]) == ("web_1", "")
    assert agent.pacemaker("off", "WEB_1", plug_tag="Host", **keep).code == 0
    assert is_isolated(ec2, tagged, keep)
    ec2.edit.put_tags(untagged, {"Host": ec2.world.interfaces["node1"][0]})  # which names another instance
    assert f"{untagged},\n" in agent.command("list", plug_tag="Host").out
    refused = agent.command("off", "node2", plug_tag="Host", **keep)
    assert "no instance has node2 in its tag Host; check plug, plug_tag, filter and region" in refused.last


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


@pytest.mark.parametrize("name", ["data base;1", "Grüne 1", "a*b", "a?B\\", "x" * 255, "my-variable", "invalid1"])
def test_a_node_is_fenced_by_every_name_that_list_offers(agent, ec2, keep, name):
    """As the cluster knows it: with white space and separators replaced, in any case."""
    node = ec2.edit.add_instance(name)
    rows = dict(line.split(",", 1) for line in agent.command("list").out.splitlines())
    assert not any(word in rows[node] for word in ("invalid", "variable")), "Pacemaker ignores lines with these"
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
    ec2.edit.set_state(ec2.edit.add_instance("gone"), "terminated")
    unsure = {"10.99.99.99": (1, 2 * 2), "gone": (2, 2 * 4 + 1)}  # these are looked up once more
    certain = {"node1": (0, 3), "NODE1": (0, 5), about["PrivateIpAddress"]: (0, 3)}
    for name, (code, calls) in {**certain, **unsure}.items():
        ec2.calls.clear()
        assert agent.command("status", name, **keep).code == code
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


@pytest.mark.parametrize(
    ("names", "code"), [("node*", 2), ("node1", 2), ("other,node1", 2), ("node2", 1), ("NODE1", 1)]
)
def test_a_filter_by_what_a_plug_is_looked_up_by_is_sent_alone(agent, ec2, keep, names, code):
    """EC2 takes one filter of a name: which of two it would use is not documented."""
    assert agent.command("off", ec2.world.nodes["node1"], **keep).code == 0
    ec2.calls.clear()
    for plug in ("node1", "Node1"):
        assert agent.command("status", plug, filter=f"tag:Name={names}", **keep).code == code
    for call in ec2.calls:
        keys = [v for k, v in call.params.items() if k.startswith("Filter.") and k.endswith(".Name")]
        assert len(keys) == len(set(keys))


def test_a_terminated_namesake_does_not_count(agent, ec2, keep):
    other = ec2.edit.add_instance("node1")
    ec2.edit.set_state(other, "terminated")
    assert agent.command("off", "node1", **keep).code == 0
    assert is_isolated(ec2, ec2.world.nodes["node1"], keep)


@pytest.mark.parametrize("key", ["Name", "Host"])
def test_a_name_that_only_terminated_instances_have_is_off(agent, ec2, keep, key):
    given = {**keep, "plug_tag": None if key == "Name" else key}
    for _ in range(2):
        ec2.edit.set_state(ec2.edit.add_instance("x", tags={key: "gone"}), "terminated")
    assert agent.command("status", "gone", **given).code == 2
    assert agent.command("off", "gone", **given).code == 0
    assert "is terminated" in agent.command("on", "gone", **given).last
    alive = ec2.edit.add_instance("x", tags={key: "GONE"})
    assert agent.command("off", "gone", **given).code == 0
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
