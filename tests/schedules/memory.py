"""An EC2 in memory: one instance, calls that take effect one at a time, a past that stale reads can show."""

from dataclasses import dataclass, field
from typing import Any, Dict, FrozenSet, List, Mapping, Optional, Set, Tuple

from aws_vpc_net import messages
from aws_vpc_net.ec2 import CallContext
from aws_vpc_net.errors import ApiError

ID = "i-0000000000000000a"
APP, DB, ISO, OPEN = (f"sg-{c * 17}" for c in "abcd")
E0, E1 = "eni-00000000000000000", "eni-11111111111111111"
EDIT, EDIT_CUT = frozenset((APP, "sg-" + "f" * 17)), frozenset((DB, "sg-" + "f" * 17))  # by hand: open; without APP
ORIGINALS: Mapping[str, FrozenSet[str]] = {E0: frozenset((APP, DB)), E1: frozenset((APP, ISO[:3] + "e" * 17))}

State = Tuple[Tuple[Tuple[str, FrozenSet[str]], ...], Tuple[Tuple[str, str], ...]]


@dataclass
class Memory:
    """The instance's interfaces and tags, and what they were after each change."""

    groups: Dict[str, FrozenSet[str]] = field(default_factory=lambda: dict(ORIGINALS))
    tags: Dict[str, str] = field(default_factory=dict)
    denied: Set[Tuple[str, str]] = field(default_factory=set)  # (invocation, interface)
    swapped: Set[str] = field(default_factory=set)  # invocations that are shown another order of interfaces
    past_groups: List[Dict[str, FrozenSet[str]]] = field(default_factory=list)
    past_tags: List[Dict[str, str]] = field(default_factory=list)

    def copy(self) -> "Memory":
        """Another one that is as this one is, and was."""
        new = Memory(dict(self.groups), dict(self.tags), set(self.denied), set(self.swapped))
        new.past_groups, new.past_tags = list(self.past_groups), list(self.past_tags)
        return new

    def perform(
        self, who: str, operation: str, purpose: CallContext, params: Mapping[str, Any], back: Tuple[int, int]
    ) -> Any:
        """Let a call take effect; ``back``: how many changes of tags and of groups a read is behind."""
        if operation == "describe_instances":
            return self._describe(*back, swapped=who in self.swapped)
        if operation == "modify_network_interface_attribute":
            return self._modify(who, purpose, params["NetworkInterfaceId"], frozenset(params["Groups"]))
        self.past_tags.append(dict(self.tags))
        for tag in params["Tags"]:
            if operation == "create_tags":
                self.tags[tag["Key"]] = tag["Value"]
            elif self.tags.get(tag["Key"]) == tag["Value"]:
                del self.tags[tag["Key"]]
        return {}

    def _modify(self, who: str, purpose: CallContext, interface: str, groups: FrozenSet[str]) -> Any:
        if (who, interface) in self.denied:
            raise messages.not_permitted(
                purpose, "ModifyNetworkInterfaceAttribute", "UnauthorizedOperation", "denied"
            )
        self.past_groups.append(dict(self.groups))
        self.groups[interface] = groups
        return {}

    def _describe(self, tags_back: int = 0, groups_back: int = 0, swapped: bool = False) -> Any:
        tags = self.past_tags[-tags_back:][0] if tags_back and self.past_tags else self.tags
        groups = self.past_groups[-groups_back:][0] if groups_back and self.past_groups else self.groups
        interfaces = [
            {
                "NetworkInterfaceId": eni,
                "VpcId": "vpc-0",
                "Attachment": {"DeviceIndex": -index if swapped else index},
                "Groups": [{"GroupId": g} for g in sorted(some)],
            }
            for index, (eni, some) in enumerate(groups.items())
        ]
        instance = {
            "InstanceId": ID,
            "State": {"Name": "running"},
            "NetworkInterfaces": interfaces,
            "Tags": [{"Key": k, "Value": v} for k, v in tags.items()],
        }
        return {"Reservations": [{"Instances": [instance]}]}


def failing(purpose: CallContext, operation: str, how: str) -> ApiError:
    """The call is throttled, or its reply never arrives."""
    if how == "throttled":
        return messages.transient_error(
            purpose, operation, "RequestLimitExceeded", "slow down", outcome_unknown=False
        )
    return messages.broken_connection(purpose, operation, "ConnectionClosedError", "the connection was closed")


Back = Optional[Tuple[int, int]]
