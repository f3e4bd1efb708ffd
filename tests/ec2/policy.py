"""IAM policy documents, as far as a policy for the agent needs them; what is not modelled is refused at loading.

Modelled: Allow and Deny, wildcards in actions and ARNs, the operators in OPERATORS, and the condition keys that
`accesses` fills in. Not modelled: policy variables, NotAction, NotResource, Principal, boundaries, and policies
of organisations. Which resources an action is checked against is as in AWS's service authorization reference;
of an interface that is attached, the instance too, which the reference leaves open.
"""

import json
import re
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Tuple

from .wire import Call

Values = Tuple[str, ...]
Context = Mapping[str, Values]
"""Condition key in lower case -> its values; a key that does not apply is missing."""

KINDS = {"i": "instance", "eni": "network-interface", "sg": "security-group", "vpc": "vpc", "subnet": "subnet"}
KNOWN_KEYS = re.compile(r"aws:(resourcetag|requesttag)/.+|ec2:resourcetag/.+|aws:tagkeys|ec2:region|ec2:vpc")
OPERATORS = (
    *("StringEquals", "StringLike", "ArnEquals", "ArnLike", "Null"),
    *("ForAllValues:StringEquals", "ForAllValues:StringLike"),
    *("ForAnyValue:StringEquals", "ForAnyValue:StringLike"),
)


@dataclass(frozen=True)
class Access:
    """One thing that a call does to one resource."""

    action: str
    resource: str
    """An ARN, or "*" for actions without resources."""
    context: Context


def _like(value: str, pattern: str, *, exact: bool = False) -> bool:
    if exact:
        return value == pattern
    parts = (".*" if c == "*" else "." if c == "?" else re.escape(c) for c in pattern)
    return re.fullmatch("".join(parts), value, re.DOTALL) is not None


def _list(value: Any) -> List[str]:
    return [value] if isinstance(value, str) else [str(v) for v in value]


@dataclass(frozen=True)
class Condition:
    """An operator, a key, and the values that it may have."""

    operator: str
    key: str
    wanted: Values

    def holds(self, context: Context) -> bool:
        """Whether the call meets it."""
        found = context.get(self.key.lower())
        if self.operator == "Null":
            return (found is None) == (self.wanted == ("true",))
        quantity, _, name = self.operator.rpartition(":")
        exact = name.endswith("Equals") and not name.startswith("Arn")
        matches = [any(_like(v, w, exact=exact) for w in self.wanted) for v in found or ()]
        if quantity == "ForAllValues":  # also where there is no value
            return all(matches)
        return any(matches)


@dataclass(frozen=True)
class Statement:
    """One statement of a policy."""

    allow: bool
    actions: Values
    resources: Values
    conditions: Tuple[Condition, ...]

    def covers(self, access: Access) -> bool:
        """Whether it says something on this access."""
        return (
            any(_like(access.action.lower(), a.lower()) for a in self.actions)
            and any(_like(access.resource, r) for r in self.resources)
            and all(c.holds(access.context) for c in self.conditions)
        )


class Policy:
    """A policy document."""

    def __init__(self, text: str) -> None:
        document = json.loads(text)
        if set(document) != {"Version", "Statement"} or document["Version"] != "2012-10-17":
            raise ValueError("not a policy of version 2012-10-17")
        self.statements = [_statement(s) for s in document["Statement"]]

    def allows(self, access: Access) -> bool:
        """Denied beats allowed; what nothing is said on is denied."""
        said = [s.allow for s in self.statements if s.covers(access)]
        return bool(said) and all(said)


def _statement(raw: Dict[str, Any]) -> Statement:
    unknown = set(raw) - {"Sid", "Effect", "Action", "Resource", "Condition"}
    if unknown or raw["Effect"] not in ("Allow", "Deny"):
        raise ValueError(f"not modelled: {raw}")
    conditions = []
    for operator, tests in raw.get("Condition", {}).items():
        for key, wanted in tests.items():
            if operator not in OPERATORS or not KNOWN_KEYS.fullmatch(key.lower()):
                raise ValueError(f"not modelled: {operator} {key}")
            conditions.append(Condition(operator, key, tuple(_list(wanted))))
    return Statement(
        raw["Effect"] == "Allow",
        tuple(_list(raw["Action"])),
        tuple(_list(raw["Resource"])),
        tuple(conditions),
    )


def accesses(call: Call, backend: Any, account: str) -> List[Access]:
    """All that a call does: the policy must allow each."""
    action = f"{call.service}:{call.action}"
    common: Dict[str, Values] = {"ec2:region": (call.region,)}
    if call.action in ("CreateTags", "DeleteTags"):
        common.update(_tags(call))
    ids = _resources(call, backend)
    if not ids:
        return [Access(action, "*", common)]
    home = f"arn:aws:ec2:{call.region}:{account}"
    return [Access(action, _arn(home, i), {**common, **_resource_context(home, backend, i)}) for i in ids]


def _arn(home: str, resource: str) -> str:
    kind = KINDS.get(resource.partition("-")[0], "unknown")
    return f"{home}:{kind}/{resource}"


def _resources(call: Call, backend: Any) -> List[str]:
    if call.action in ("CreateTags", "DeleteTags"):
        return call.listing("ResourceId")
    if call.action in ("StopInstances", "StartInstances", "RebootInstances", "TerminateInstances"):
        return call.listing("InstanceId")
    if call.action in ("GetConsoleOutput", "DescribeInstanceAttribute"):
        return [call.params.get("InstanceId", "")]
    if call.action == "ModifyNetworkInterfaceAttribute":
        interface = call.params.get("NetworkInterfaceId", "")
        attached = getattr(backend.enis.get(interface), "instance", None)
        return [interface, *call.listing("SecurityGroupId"), *([attached.id] if attached else [])]
    return []


def _tags(call: Call) -> Dict[str, Values]:
    records = call.records("Tag")
    found: Dict[str, Values] = {f"aws:requesttag/{r['Key'].lower()}": (r.get("Value", ""),) for r in records}
    if records:
        found["aws:tagkeys"] = tuple(r["Key"] for r in records)
    return found


def _resource_context(home: str, backend: Any, resource: str) -> Dict[str, Values]:
    found: Dict[str, Values] = {}
    for key, value in dict(backend.tags.get(resource, {})).items():
        found[f"aws:resourcetag/{key.lower()}"] = found[f"ec2:resourcetag/{key.lower()}"] = (value,)
    groups = {gid: group for some in backend.groups.values() for gid, group in some.items()}
    vpc = getattr(backend.enis.get(resource) or groups.get(resource), "vpc_id", None)
    if vpc:
        found["ec2:vpc"] = (f"{home}:vpc/{vpc}",)
    return found
