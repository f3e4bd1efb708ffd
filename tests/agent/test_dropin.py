"""Configurations and backups of clusters that ran the earlier agent of this name."""

import json
import random

import pytest
from assertions import groups, is_isolated, our_tags

EARLIER = 1700000000


@pytest.fixture
def node(ec2):
    return ec2.world.nodes["node2"]


def piece(interface, some, chunk=0, chunks=1, when=EARLIER, **form):
    """A backup value as another version may write it."""
    names = [g if form.get("prefix") else g[3:] for g in some]
    body = {"i": interface, "s": names, "c": {"i": chunk, "t": chunks}}
    return json.dumps({"t": when, "n": body, **form.get("extra", {})}, indent=form.get("indent"))


def one_chunk(node, interfaces):
    return {
        f"Original_SG_Backup_{node}_{EARLIER}_{n}_0": piece(i, g) for n, (i, g) in enumerate(interfaces.items(), 1)
    }


def many_chunks(node, interfaces):
    return {
        f"Original_SG_Backup_{node}_{EARLIER}_{n}_{c}": piece(i, [group], c, len(some))
        for n, (i, some) in enumerate(interfaces.items(), 1)
        for c, group in enumerate(some)
    }


def text_times(node, interfaces):
    return {k: v.replace(str(EARLIER), f'"{EARLIER}"') for k, v in one_chunk(node, interfaces).items()}


def odd_spacing(node, interfaces):
    items = enumerate(interfaces.items(), 1)
    return {f"Original_SG_Backup_{node}_{EARLIER}_{n}_0": piece(i, g, indent=1) for n, (i, g) in items}


def odd_order(node, interfaces):
    """Numbered in the order of some reply, chunks and all shuffled."""
    tags = list(many_chunks(node, dict(reversed(list(interfaces.items())))).items())
    random.Random(7).shuffle(tags)
    return dict(tags)


def more_keys_and_prefixes(node, interfaces):
    return {
        f"Original_SG_Backup_{node}_{EARLIER}_{n}_0": piece(i, g, prefix=True, extra={"v": 2, "x": {"y": []}})
        for n, (i, g) in enumerate(interfaces.items(), 1)
    }


def two_generations(node, interfaces):
    older = {i: [g[0]] for i, g in interfaces.items()}
    items = enumerate(older.items(), 1)
    first = {f"Original_SG_Backup_{node}_{EARLIER - 9}_{n}_0": piece(i, g, when=EARLIER - 9) for n, (i, g) in items}
    return {**first, **one_chunk(node, interfaces)}


def beside_half_a_generation(node, interfaces):
    """An attempt after the good one was killed before it had written all of its chunks."""
    later = EARLIER + 9
    half = piece(next(iter(interfaces)), ["sg-00000000000000bad"], 0, 2, later)
    return {**one_chunk(node, interfaces), f"Original_SG_Backup_{node}_{later}_1_0": half}


def beside_copies(node, interfaces):
    other = "i-00000000000000abc"
    copies = {
        k.replace(node, other): v
        for k, v in one_chunk(node, {"eni-00000000000000abc": ["sg-00000000000000bad"]}).items()
    }
    return {**copies, **one_chunk(node, interfaces)}


BACKUPS = [one_chunk, many_chunks, text_times, odd_spacing, odd_order, more_keys_and_prefixes]
BACKUPS += [two_generations, beside_half_a_generation, beside_copies]


@pytest.mark.parametrize("backup", BACKUPS, ids=[f.__name__ for f in BACKUPS])
@pytest.mark.parametrize("first", ["on", "off"])
def test_on_restores_a_node_that_the_other_agent_fenced(agent, ec2, node, mode, backup, first):
    """Directly, and after another off by this one."""
    before = ec2.snapshot()
    interfaces = before[node]["interfaces"]
    ec2.edit.put_tags(node, {"lastfence": str(EARLIER), **backup(node, interfaces)})
    app = ec2.world.groups["app"]
    for interface, some in interfaces.items():
        isolated = [g for g in some if g != app] if "invert_sg_removal" not in mode else [ec2.world.isolation]
        ec2.edit.set_groups(interface, isolated)
    assert agent.command("status", node, **mode).code == 2
    if first == "off":
        assert agent.pacemaker("off", node, **mode).code == 0
    result = agent.pacemaker("on", node, **mode)
    assert result.code == 0, result.err
    assert ec2.snapshot() == before


def test_a_role_that_may_not_look_at_groups_fences_and_unfences(agent, ec2, node, mode):
    ec2.key.allow_only(
        "ec2:DescribeInstances",
        "ec2:ModifyNetworkInterfaceAttribute",
        "ec2:CreateTags",
        "ec2:DeleteTags",
    )
    before = ec2.snapshot()
    assert agent.pacemaker("monitor", **mode).code == 0
    assert agent.pacemaker("off", node, **mode).code == 0
    assert agent.pacemaker("on", node, **mode).code == 0
    assert ec2.snapshot() == before


def test_static_groups_without_permission_to_write_tags(agent, ec2, node, keep):
    """The whole circle of a cluster that never had tags."""
    ec2.key.deny("ec2:CreateTags")
    ec2.key.deny("ec2:DeleteTags")
    app, db = ec2.world.groups["app"], ec2.world.groups["db"]
    options = {**keep, "interface0-sg": app, "interface1-sg": f"{app},{db}"}
    assert agent.pacemaker("off", node, **options).code == 0
    assert is_isolated(ec2, node, keep)
    assert agent.pacemaker("status", node, **options).code == 2
    assert agent.pacemaker("on", node, **options).code == 0
    assert list(groups(ec2, node).values()) == [[app], sorted((app, db))]
    assert our_tags(ec2, node) == {}


@pytest.mark.parametrize(
    "text",
    [
        "secg= {isolation} \ninvert-sg-removal=1\nonfence-poweroff=0\n",
        "secg={isolation},\ninvert_sg_removal=true\nskip_race_check=1\n",
        "secg=,{isolation} ,,\ninvert_sg_removal=on\nunfence-ignore-restore=no\nboto3_debug=False\n",
        'secg="{isolation}"\ninvert_sg_removal="yes"\nignore-tag-write-failure=1\nignore_instance_state=1\n',
        "# a comment\n\nsecg={isolation}\ninvert_sg_removal=YES\npower_timeout=240\nretry_on=4\ndelay=0\nquiet=0\n",
    ],
)
def test_existing_configurations_work(agent, ec2, node, keep, text):
    connection = "".join(f"{k}={v}\n" for k, v in agent.options.items())
    body = text.format(isolation=ec2.world.isolation)
    result = agent.stdin(f"nodename=node2\nport={node}\naction=reboot\n{connection}{body}")
    assert result.code == 0, result.err
    assert is_isolated(ec2, node, keep)
    assert ec2.snapshot()[node]["state"] == "running"
