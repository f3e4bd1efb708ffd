"""doc/cloudformation.yaml: correct, its policy that of iam-policy.json, and what it makes passes validate-all."""

import json
import subprocess
import sys
from pathlib import Path

import boto3
import pytest
import yaml
from ec2.stacks import create_stack
from moto.iam.models import iam_backends

DOC = Path(__file__).parents[2] / "doc"
TEMPLATE = DOC / "cloudformation.yaml"
POLICY = json.loads((DOC / "iam-policy.json").read_text(encoding="utf-8"))
TAGS = {"cluster": "mycluster"}


class Loader(yaml.SafeLoader):
    """Reads !Ref and the like as what they are called with."""


Loader.add_multi_constructor(
    "!",
    lambda loader, _, node: (
        loader.construct_sequence(node, deep=True) if isinstance(node, yaml.SequenceNode) else node.value
    ),
)


@pytest.fixture
def parameters(ec2):
    return {"VpcId": ec2.world.vpc, "VpcCidr": "10.20.0.0/16", "EndpointSubnetIds": ec2.world.subnet}


@pytest.fixture
def outputs(ec2, parameters):
    return create_stack(ec2, TEMPLATE, parameters)


@pytest.fixture
def options(outputs):
    """The options of the device in the outputs of the stack."""
    return dict(word.split("=") for word in outputs["DeviceOptions"].split())


@pytest.fixture
def node(ec2):
    """With an IPv6 address, so that rules for that count too."""
    instance = ec2.edit.add_instance("tagged", [{"groups": [ec2.world.groups["app"]]}], tags=TAGS)
    (interface,) = ec2.snapshot()[instance]["interfaces"]
    ec2.edit.ipv6(interface, "2001:db8::5")
    return instance


@pytest.fixture
def client(ec2):
    return boto3.client("ec2", **ec2.client_kwargs())


def revoke(outputs, client):
    """Runs the command of the output, by the SDK."""
    words = outputs["RemovePlaceholderRule"].split()
    assert words[:3] == ["aws", "ec2", "revoke-security-group-egress"]
    given = dict(zip(words[3::2], words[4::2]))
    assert given["--ip-permissions"] == "IpProtocol=-1,IpRanges=[{CidrIp=127.0.0.1/32}]"
    rule = {"IpProtocol": "-1", "IpRanges": [{"CidrIp": "127.0.0.1/32"}]}
    client.revoke_security_group_egress(GroupId=given["--group-id"], IpPermissions=[rule])


def test_cfn_lint_reports_nothing():
    command = [str(Path(sys.executable).with_name("cfn-lint")), str(TEMPLATE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_its_policy_is_the_one_that_is_documented():
    text = TEMPLATE.read_text(encoding="utf-8").replace("${AWS::Partition}", "aws")
    resources = yaml.load(text, Loader)["Resources"]
    assert resources["Policy"]["Properties"]["PolicyDocument"] == POLICY


def test_its_resources_pass_every_check(agent, ec2, outputs, options, node, client):
    ec2.key.attach(stored_policy(ec2, outputs))
    options["onfence_poweroff"] = options["unfence_poweron"] = True
    before = agent.command("validate-all", node, **options)
    warned = [line for line in before.out.splitlines() if not line.startswith(("ok ", "Success: "))]
    assert before.code == 0, before.out
    assert len(warned) == 1
    assert "out: all traffic to 127.0.0.1/32" in warned[0], "only the placeholder is reported"
    ec2.key.permit_all()
    revoke(outputs, client)
    ec2.key.attach(stored_policy(ec2, outputs))
    after = agent.command("validate-all", node, **options)
    assert (after.code, after.err) == (0, "")
    assert {line.split()[0] for line in after.out.splitlines()[:-1]} == {"ok"}


def stored_policy(ec2, outputs):
    """The document of the managed policy that the role of the instance profile has."""
    iam = iam_backends[ec2.account]["aws"]
    roles = iam.get_instance_profile(outputs["InstanceProfile"]).roles
    attached = [policy for role in roles for policy in role.managed_policies.values()]
    assert [policy.arn for policy in attached] == [outputs["PolicyArn"]]
    return iam.get_policy_version(outputs["PolicyArn"], "v1").document


def test_its_resources_fence_and_restore_a_node(agent, ec2, outputs, options, node):
    before = ec2.snapshot()
    ec2.key.attach(stored_policy(ec2, outputs))
    assert agent.command("off", node, **options).code == 0
    assert set(map(tuple, ec2.snapshot()[node]["interfaces"].values())) == {(options["secg"],)}
    assert agent.command("on", node, **options).code == 0
    assert ec2.snapshot() == before


def test_the_endpoint_is_for_the_api_of_the_region_and_takes_https_from_the_vpc(ec2, outputs, client):
    (endpoint,) = client.describe_vpc_endpoints()["VpcEndpoints"]
    assert endpoint["ServiceName"] == f"com.amazonaws.{ec2.region}.ec2"
    assert (endpoint["VpcEndpointType"], endpoint["PrivateDnsEnabled"]) == ("Interface", True)
    assert endpoint["SubnetIds"] == [ec2.world.subnet]
    group = client.describe_security_groups(GroupIds=[g["GroupId"] for g in endpoint["Groups"]])["SecurityGroups"][0]
    (rule,) = group["IpPermissions"]
    assert (rule["IpProtocol"], rule["FromPort"], rule["ToPort"]) == ("tcp", 443, 443)
    assert [r["CidrIp"] for r in rule["IpRanges"]] == ["10.20.0.0/16"]


def test_without_subnets_there_is_no_endpoint(ec2, parameters, client):
    create_stack(ec2, TEMPLATE, {**parameters, "EndpointSubnetIds": ""})
    assert client.describe_vpc_endpoints()["VpcEndpoints"] == []
