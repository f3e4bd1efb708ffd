"""Security groups: set those of many interfaces at once, see which exist."""

from __future__ import annotations

import logging
from typing import Any, Callable, Dict, FrozenSet, Iterable, Mapping, Optional, Set, Tuple

from . import messages
from .core.model import FrozenMap, Groups
from .core.protocol import READ_ONCE_MORE_SECONDS
from .ec2 import CallContext, Ec2, run_concurrently
from .errors import Category, FenceError

log = logging.getLogger(__name__)


class SecurityGroupOperations:
    """What the agent does with security groups."""

    def __init__(self, ec2: Ec2) -> None:
        self._ec2 = ec2

    def set_groups(
        self, goals: Mapping[str, Groups], category: Category, *, queue: bool = False
    ) -> Dict[str, Optional[FenceError]]:
        """Replace the groups of each interface, all concurrently, one attempt each.

        Args:
            queue: repeat attempts that EC2 throttles, within the time of a slow one.

        Returns:
            For each interface None if EC2 accepted the change, else the error.
        """

        def change(interface: str, groups: Groups) -> Callable[[], None]:
            return lambda: self._set(interface, groups, category, queue)

        results = run_concurrently([change(i, g) for i, g in goals.items()], self._ec2.queue.close)
        for result in results:
            if result is not None and not isinstance(result, FenceError):
                raise result
        return dict(zip(goals, results))

    def _set(self, interface: str, groups: Groups, category: Category, queue: bool) -> None:
        names = sorted(groups)
        purpose = CallContext(f"set the groups of {interface} to {', '.join(names)}", category)
        self._ec2.call_once(
            "modify_network_interface_attribute",
            purpose,
            queue=queue,
            NetworkInterfaceId=interface,
            Groups=names,
        )
        self._ec2.stats.add(interfaces_changed=1)
        log.info(messages.groups_set(interface, names))

    def networks(self, groups: Iterable[str]) -> Tuple[FrozenMap[str, FrozenSet[str]], bool]:
        """The VPCs in which each of the groups can be used; are these all?

        Missing groups are looked up once more, because reads may be stale.

        Raises:
            FenceError: the look-up failed.
        """
        wanted = sorted(set(groups))
        known = self.own_vpcs(wanted)
        if len(known) < len(wanted):
            self._ec2.deadline.pause(READ_ONCE_MORE_SECONDS)
            known.update(self.own_vpcs(wanted))
        if not known:
            return FrozenMap(), False
        complete = True
        try:
            for group, vpcs in self.associated(known).items():
                known[group].update(vpcs)
        except FenceError as error:
            log.debug("%s", error.text)
            complete = False
        return FrozenMap({g: frozenset(vpcs) for g, vpcs in known.items()}), complete

    def existing(self, groups: Iterable[str]) -> FrozenSet[str]:
        """Those of the groups that exist; by filter, so that one unknown group does not fail the call."""
        return frozenset(self.described(groups))

    def own_vpcs(self, groups: Iterable[str]) -> Dict[str, Set[str]]:
        """The VPC of each of the groups that exist, to which those that it is associated with can be added."""
        return {i: {str(g.get("VpcId", ""))} for i, g in self.described(groups).items()}

    def associated(self, groups: Iterable[str]) -> Dict[str, Set[str]]:
        """The VPCs that each of the groups is associated with, without its own.

        Raises:
            ApiError: the permission is missing, or the SDK does not support associations.
        """
        vpcs: Dict[str, Set[str]] = {g: set() for g in groups}
        purpose = CallContext("look up VPC associations of security groups", Category.RETRIEVAL)
        given = [{"Name": "group-id", "Values": sorted(vpcs)}]
        reply = self._ec2.call("describe_security_group_vpc_associations", purpose, Filters=given)
        for item in reply.get("SecurityGroupVpcAssociations", ()):
            if item.get("State") == "associated" and item["GroupId"] in vpcs:
                vpcs[item["GroupId"]].add(item["VpcId"])
        return vpcs

    def described(self, groups: Iterable[str]) -> Dict[str, Mapping[str, Any]]:
        """Those of the groups that exist, as EC2 describes them, rules included."""
        wanted = sorted(set(groups))
        purpose = CallContext(f"look up security groups {', '.join(wanted)}", Category.RETRIEVAL)
        reply = self._ec2.call("describe_security_groups", purpose, Filters=[{"Name": "group-id", "Values": wanted}])
        return {g["GroupId"]: g for g in reply.get("SecurityGroups", ())}
