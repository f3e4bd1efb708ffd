"""doc/terraform: it parses, names what there is, and its groups and policy are the right ones.

`terraform validate` needs the AWS provider, which no package of a distribution or of PyPI holds; so arguments are
compared with those that the provider's documentation lists.
"""

import re
from pathlib import Path

import hcl2
import pytest

from aws_vpc_net.core import sg_rules

DOC = Path(__file__).parents[2] / "doc"
MODULE = DOC / "terraform"
RULE = {"from_port", "to_port", "protocol", "cidr_blocks", "ipv6_cidr_blocks"}
# From website/docs/r and website/docs/d of github.com/hashicorp/terraform-provider-aws: those of use here.
ARGUMENTS = {
    "aws_vpc": {"id"},
    "aws_partition": set(),
    "aws_vpc_endpoint_service": {"service", "service_type"},
    "aws_security_group": {"name", "description", "vpc_id", "ingress", "egress", "tags"},
    "aws_iam_policy": {"name_prefix", "description", "policy", "tags"},
    "aws_iam_role": {"name_prefix", "description", "assume_role_policy", "tags"},
    "aws_iam_role_policy_attachment": {"role", "policy_arn"},
    "aws_iam_instance_profile": {"name_prefix", "role", "tags"},
    "aws_vpc_endpoint": {
        "vpc_id",
        "vpc_endpoint_type",
        "service_name",
        "subnet_ids",
        "security_group_ids",
        "private_dns_enabled",
        "tags",
    },
}
META = {"count", "__is_block__"}


def bare(value):
    """The parser's values, without the quotes that it leaves."""
    if isinstance(value, dict):
        return {bare(key): bare(item) for key, item in value.items()}
    if isinstance(value, list):
        return [bare(item) for item in value]
    return value[1:-1] if isinstance(value, str) and re.fullmatch(r'".*"', value) else value


@pytest.fixture(scope="module")
def text():
    return "\n".join(path.read_text(encoding="utf-8") for path in sorted(MODULE.glob("*.tf")))


@pytest.fixture(scope="module")
def module(text):
    return bare(hcl2.loads(text))


@pytest.fixture(scope="module")
def blocks(module):
    """(kind, type, name) -> arguments; kind is resource or data."""
    return {
        (kind, of, name): body
        for kind in ("resource", "data")
        for block in module[kind]
        for of, named in block.items()
        for name, body in named.items()
    }


def test_arguments_are_documented_ones(blocks):
    for (_, of, name), body in blocks.items():
        assert set(body) - META <= ARGUMENTS[of], f"{of}.{name}"
        for rule in [*body.get("ingress", []), *body.get("egress", [])]:
            assert set(rule) - META <= RULE


def test_what_is_referred_to_is_declared_and_variables_are_used(text, module, blocks):
    variables = {name for block in module["variable"] for name in block}
    code = re.sub(r"^ *#.*$", "", text, flags=re.MULTILINE)
    assert set(re.findall(r"\bvar\.(\w+)", code)) == variables
    resources = {f"{of}.{name}" for kind, of, name in blocks if kind == "resource"}
    assert set(re.findall(r"(?<![\w.\"])(aws_\w+\.\w+)", code)) <= resources
    data = {f"{of}.{name}" for kind, of, name in blocks if kind == "data"}
    assert set(re.findall(r"\bdata\.(aws_\w+\.\w+)", code)) == data
    for block in (*module["variable"], *module["output"]):
        assert all(body["description"] for body in block.values())


def test_its_policy_is_the_one_that_is_documented(blocks):
    policy = blocks["resource", "aws_iam_policy", "fencing"]["policy"]
    partition = re.escape("${data.aws_partition.this.partition}")
    rendered = r'\$\{replace\(file\("\$\{path\.module\}/(.+)"\), "(.+)", "(.+)' + partition + r':"\)\}'
    path, before, after = re.fullmatch(rendered, policy).groups()
    assert (MODULE / path).resolve() == DOC / "iam-policy.json"
    assert (before, after) == ("arn:aws:", "arn:")


def rules_of(body):
    """The rules as EC2 would describe them, read as the agent does."""
    described = {}
    for key, wanted in (("IpPermissions", "ingress"), ("IpPermissionsEgress", "egress")):
        described[key] = [
            {
                "IpProtocol": rule["protocol"],
                "IpRanges": [{"CidrIp": cidr} for cidr in rule.get("cidr_blocks", [])],
                "Ipv6Ranges": [{"CidrIpv6": cidr} for cidr in rule.get("ipv6_cidr_blocks", [])],
            }
            for rule in body[wanted]
        ]
    return sg_rules.read(described)


def test_the_isolation_group_has_no_rules_and_the_other_allows_everything(blocks):
    isolation = blocks["resource", "aws_security_group", "isolation"]
    assert (isolation["ingress"], isolation["egress"]) == ([], []), "left out, a later rule would stay"
    assert sg_rules.missing_rules(rules_of(blocks["resource", "aws_security_group", "untrack"]), ipv6=True) == []
    assert rules_of(isolation) == ()


def test_the_endpoint_has_private_dns_and_takes_https(blocks):
    """With private DNS the device needs no endpoint_url."""
    assert blocks["resource", "aws_vpc_endpoint", "ec2"]["private_dns_enabled"] is True
    (rule,) = blocks["resource", "aws_security_group", "endpoint"]["ingress"]
    assert (rule["protocol"], rule["from_port"], rule["to_port"]) == ("tcp", 443, 443)


def test_the_options_are_those_of_the_device(module):
    outputs = {name: body["value"] for block in module["output"] for name, body in block.items()}
    assert outputs["device_options"] == (
        "secg=${aws_security_group.isolation.id} invert_sg_removal=1 untrack_secg=${aws_security_group.untrack.id}"
    )
