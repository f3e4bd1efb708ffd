"""CloudFormation stacks in the emulator: moto's, with security groups as CloudFormation makes them."""

from pathlib import Path
from typing import Any, Dict, Iterable, List, Mapping

from moto.cloudformation.models import cloudformation_backends
from moto.ec2.models import ec2_backends
from moto.ec2.models.security_groups import SecurityGroup
from moto.iam.models import iam_backends

from .server import Ec2Server

PEERS = {"CidrIp": "CidrIp", "CidrIpv6": "CidrIpv6"}


def create_stack(ec2: Ec2Server, template: Path, parameters: Mapping[str, str]) -> Dict[str, str]:
    """Creates the account's only stack from a template; its outputs. The account's IAM is emptied before.

    Raises:
        RuntimeError: it was not completed.
    """
    _patch()
    backend = cloudformation_backends[ec2.account][ec2.region]
    backend.reset()
    iam_backends[ec2.account]["aws"].reset()
    stack = backend.create_stack("fencing", template.read_text(encoding="utf-8"), dict(parameters))
    if stack.status != "CREATE_COMPLETE":
        raise RuntimeError(f"the stack is {stack.status}")
    return {str(output["OutputKey"]): str(output["OutputValue"]) for output in stack.outputs or []}


def _patch() -> None:
    """moto omits rules for IPv6 and all outbound rules. May be called repeatedly."""
    SecurityGroup.create_from_cloudformation_json = classmethod(_group)  # type: ignore[method-assign,assignment]


def _group(
    cls: Any, resource_name: str, cloudformation_json: Any, account_id: str, region_name: str, **kwargs: Any
) -> Any:
    """EC2 allows a new group all outbound traffic; CloudFormation revokes that if the template has outbound rules."""
    wanted = cloudformation_json["Properties"]
    backend = ec2_backends[account_id][region_name]
    group = backend.create_security_group(resource_name, wanted["GroupDescription"], wanted["VpcId"])
    for tag in wanted.get("Tags", []):
        group.add_tag(tag["Key"], tag["Value"])
    for rule in _rules(wanted.get("SecurityGroupIngress", [])):
        backend.authorize_security_group_ingress(group.id, **rule)
    if wanted.get("SecurityGroupEgress"):
        group.egress_rules.clear()
    for rule in _rules(wanted.get("SecurityGroupEgress", [])):
        backend.authorize_security_group_egress(group.id, **rule)
    return group


def _rules(properties: Iterable[Mapping[str, Any]]) -> List[Dict[str, Any]]:
    """As the backend takes them."""
    return [
        {
            "ip_protocol": rule["IpProtocol"],
            "from_port": rule.get("FromPort"),
            "to_port": rule.get("ToPort"),
            "ip_ranges": [{key: rule[key]} for key in PEERS if key in rule],
        }
        for rule in properties
    ]
