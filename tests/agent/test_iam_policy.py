"""doc/iam-policy.json: exactly this lets every action pass; without any one permission, it is named beforehand."""

import json
import os
import re
from pathlib import Path

import pytest
from assertions import our_tags

POLICY = Path(__file__).parents[2] / "doc" / "iam-policy.json"
TAG = {"cluster": "one"}
# What these do without is looked up in another way, or a warning: they fail no action of their own.
# Not asked for by any action but the preflight, which warns.
OPTIONAL = ("ec2:DescribeInstanceAttribute",)
ONLY_WARN = ("DeleteTags", "StopInstances", "DescribeSecurityGroups", "DescribeSecurityGroupVpcAssociations")
LIMIT = 2048  # characters that a policy inline of a user, or of a session, may have


def actions():
    """Every action that the policy allows."""
    found = []
    for statement in json.loads(POLICY.read_text(encoding="utf-8"))["Statement"]:
        some = statement["Action"]
        found += [some] if isinstance(some, str) else some
    return found


def without(action):
    """The policy without one action."""
    document = json.loads(POLICY.read_text(encoding="utf-8"))
    for statement in document["Statement"]:
        some = statement["Action"]
        statement["Action"] = [a for a in ([some] if isinstance(some, str) else some) if a != action]
    return json.dumps(document)


@pytest.fixture
def node(ec2):
    """An instance with an interface in each of two VPCs, tagged as the policy wants it."""
    return ec2.edit.add_instance("two", two_vpcs(ec2), tags=TAG)


def two_vpcs(ec2):
    other = ec2.edit.add_vpc()
    ec2.elsewhere = other["vpc"]
    app = ec2.edit.add_group("app2", other["vpc"])
    return [{"groups": [ec2.world.groups["app"]]}, {"groups": [app], "subnet": other["subnet"]}]


@pytest.fixture
def options(agent, ec2, node):
    """Everything that asks for a permission."""
    agent.env["PYTHONPATH"] = os.environ["BOTO3_NEWEST"]
    isolation = ec2.edit.add_group("isolation2", ec2.elsewhere)
    ec2.edit.associate_group(ec2.world.open, ec2.elsewhere)
    return {
        "secg": f"{ec2.world.isolation},{isolation}",
        "invert_sg_removal": True,
        "untrack_secg": ec2.world.open,
        "onfence_poweroff": True,
        "unfence_poweron": True,
        "auto_unfence": True,
        "ignore_instance_state": True,
        "verbose_level": 2,
    }


def test_the_policy_allows_every_action(agent, ec2, node, options):
    ec2.key.attach(POLICY.read_text(encoding="utf-8"))
    before = ec2.snapshot()
    assert "FAIL" not in agent.command("validate-all", node, **options).out
    for action, plug, code in [
        ("monitor", None, 0), ("list", None, 0), ("list-status", None, 0), ("status", node, 0), ("off", "two", 0),
        ("status", node, 2), ("off", node, 0), ("on", node, 0),
    ]:  # fmt: skip
        result = agent.command(action, plug, **options)
        assert result.code == code, (action, result.err)
        assert "UnauthorizedOperation" not in result.err
    assert ec2.snapshot() == before
    used = {f"ec2:{c.action}" for c in ec2.calls if c.took_effect}
    assert used == set(actions()), "it allows more than is used, or something is not used here"


@pytest.mark.parametrize("action", actions())
def test_without_one_permission_the_preflight_and_the_action_name_it(agent, ec2, node, options, action):
    ec2.key.attach(without(action))
    before = ec2.snapshot()
    found = agent.command("validate-all", node, **options)
    # off warns of a failed stop, and on of a failed deletion, too
    level = "warn" if action in (*OPTIONAL, "ec2:StopInstances", "ec2:DeleteTags") else "FAIL"
    assert found.code == (level == "FAIL")
    failed = [line for line in found.out.splitlines() if line.startswith(level)]
    assert any(f"allow {action}" in line for line in failed), found.out
    assert ec2.snapshot() == before
    if action in OPTIONAL:
        return
    ended = until_named(agent, node, options, action)
    if action.split(":")[1] in ONLY_WARN:
        assert ended.code == 0
    else:
        assert ended.code == 1
        assert "permission error: " in ended.last
        assert f"allow {action}" in ended.last


def until_named(agent, node, options, action):
    """The first action of the agent, of those that use everything, that names the permission."""
    for name in ("off", "on", "monitor"):
        result = agent.command(name, None if name == "monitor" else node, **options)
        if f"allow {action}" in result.err:
            return result
        assert result.code == 0, result.err
    pytest.fail(f"nothing names {action}")


def test_the_policy_is_no_wider_than_documented(agent, ec2, node, options):
    ec2.key.attach(POLICY.read_text(encoding="utf-8"))
    stranger = ec2.world.nodes["node1"]
    before = ec2.snapshot()
    result = agent.command("off", stranger, **options)
    assert result.code == 1
    assert "permission error: " in result.last, "it has no tag cluster"
    assert ec2.snapshot() == before
    assert our_tags(ec2, stranger) == {}


def test_the_policy_fits_the_size_limit():
    document = json.loads(POLICY.read_text(encoding="utf-8"))
    assert len(json.dumps(document, separators=(",", ":"))) <= LIMIT


def narrowed(ec2):
    """The policy as the chapter "Narrower permissions" says: one cluster, account, region, VPC, and listed groups."""
    page = (POLICY.parent / "setup.md").read_text(encoding="utf-8")
    chapter = page.split("### Narrower permissions")[1].split("\n### ")[0]
    by_tag, by_vpc = (json.loads(f"{{{part}}}") for part in re.findall(r'`("\w+Equals":\s\{[^`]*\})`', chapter))
    document = json.loads(POLICY.read_text(encoding="utf-8"))
    for statement in document["Statement"]:
        if "StringLike" in statement.get("Condition", {}):
            del statement["Condition"]["StringLike"]
            statement["Condition"].update(by_tag)
    (groups,) = [s for s in document["Statement"] if s["Sid"] == "SetGroups"]
    document["Statement"].append({**groups, "Sid": "Instances", "Resource": "arn:aws:ec2:*:*:instance/*"})
    named = [ec2.world.groups[name] for name in ("isolation", "open", "app", "ssh", "db")]
    known = [f"arn:aws:ec2:*:*:security-group/{group}" for group in named]
    groups.update(Resource=["arn:aws:ec2:*:*:network-interface/*", *known], Condition=by_vpc)
    text = json.dumps(document).replace("arn:aws:ec2:*:*:", "arn:aws:ec2:eu-central-1:123456789012:")
    return text.replace("123456789012", ec2.account).replace("vpc-0123456789abcdef0", ec2.world.vpc)


def test_the_narrower_policy_of_the_guide_allows_one_cluster(agent, ec2, keep):
    node, stranger = (ec2.world.nodes[name] for name in ("node1", "node2"))
    ec2.edit.put_tags(node, {"cluster": "mycluster"})
    ec2.edit.put_tags(stranger, {"cluster": "other"})
    ec2.key.attach(narrowed(ec2))
    options = {**keep, "untrack_secg": ec2.world.open, "onfence_poweroff": True, "unfence_poweron": True}
    before = ec2.snapshot()
    assert agent.command("validate-all", node, **options).code == 0
    assert agent.command("off", node, **options).code == 0
    assert agent.command("on", node, **options).code == 0
    assert ec2.snapshot() == before
    assert agent.command("off", stranger, **options).code == 1
    assert ec2.snapshot() == before
