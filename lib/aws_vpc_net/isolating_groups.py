"""Which groups isolate an interface: one answer for off, for on that an off overtakes, and for roll-back.

Where groups are kept, ``secg`` may name groups of several VPCs, and groups that are gone. EC2 then refuses the whole
set: "The security group 'sg-…' does not exist" names the group, "You have specified two resources that belong to
different networks" names none. So the VPCs of ``secg`` are looked up; and where that is not possible, or would take
time while a node is open, its groups are tried one by one: each of them isolates.
"""

from __future__ import annotations

import logging
import re
from typing import Dict, FrozenSet, Optional, Set, Tuple

from . import messages, rules
from .context import READ_ONCE_MORE_SECONDS, Context
from .errors import ApiError, FenceError
from .rules import NONE, Groups, Instance, Interface

log = logging.getLogger(__name__)

NO_SUCH_GROUP = ("InvalidGroup.NotFound", "InvalidGroupId.NotFound", "InvalidSecurityGroupID.NotFound")
TOO_MANY = "SecurityGroupsPerInterfaceLimitExceeded"
QUOTA = 5  # groups of an interface, where nobody has asked EC2 for more

_GROUP = re.compile(r"sg-[0-9a-f]{8,17}")


class IsolatingGroups:
    """The groups that isolate each interface of one instance; learns from what EC2 refuses."""

    def __init__(self, tools: Context, instance: Instance) -> None:
        self._tools = tools
        self._id = instance.id
        self._vpcs = {i.id: i.vpc for i in instance.interfaces}
        self._usable: Optional[Dict[str, Set[str]]] = None  # group -> the VPCs that are known to take it
        self._complete = False  # are these all VPCs that take it, associated ones too?
        self._looked = False
        self._refused: Set[Tuple[str, str]] = set()  # (VPC, group)

    def of(self, interface: Interface, originals: Groups = NONE) -> Groups:
        """What to set on it; empty if there are no such groups, which EC2 does not allow."""
        self._vpcs[interface.id] = interface.vpc
        if self._tools.policy.keep_only:
            return self._fitting(interface.vpc)
        return rules.goal(interface.groups, self._tools.policy, originals)

    def look_up(self) -> None:
        """Ask which VPCs take the groups of ``secg``; at most once, and not for long. What fails stays unknown."""
        if self._looked or not self._tools.policy.keep_only:
            return
        self._looked = True
        before = self._tools.ec2.deadline
        self._tools.ec2.deadline = before.minus(before.remaining() * 3 / 4)
        try:
            found = self._own_vpcs()
            if not found:
                return  # EC2 knows better when they are set
            self._usable = found
            for group in (g for g in self._tools.policy.secg if g not in found):
                log.warning(messages.group_dropped(self._id, group))
            for group, vpcs in self._tools.groups.associated(found).items():
                found[group].update(vpcs)
            self._complete = True
        except FenceError as error:
            log.debug("%s", error.text)
        finally:
            self._tools.ec2.deadline = before

    def _own_vpcs(self) -> Dict[str, Set[str]]:
        """The VPC of each group of ``secg``; what is not there is looked for once more, as the view may be behind."""
        secg = self._tools.policy.secg
        found = self._tools.groups.own_vpcs(secg)
        if len(found) < len(secg):
            self._tools.deadline.pause(READ_ONCE_MORE_SECONDS)
            found.update(self._tools.groups.own_vpcs(secg))
        return found

    def smaller(self, interface: str, goal: Groups, error: FenceError, *, look: bool) -> Groups:
        """What to try after EC2 refused ``goal``; empty if that is final.

        Args:
            look: may the VPCs of ``secg`` be looked up? Not while the node is open.
        """
        if not self._tools.policy.keep_only or not isinstance(error, ApiError):
            return NONE
        if error.code not in (*NO_SUCH_GROUP, TOO_MANY):
            return NONE
        vpc = self._vpcs.get(interface, "")
        named = goal & set(_GROUP.findall(error.text.split(error.code)[-1]))
        if look and not named:
            self.look_up()
        refused = named or (goal if len(goal) == 1 else NONE)
        self._refused |= {(vpc, g) for g in refused}
        smaller = (goal - refused if refused else NONE) or self._fitting(vpc)
        if error.code == TOO_MANY and smaller >= goal:
            smaller = frozenset(sorted(smaller)[:QUOTA])
        if smaller >= goal or len(goal) == 1:  # nothing tells which: one by one
            smaller = frozenset(sorted(smaller)[:1])
        for group in sorted(goal - smaller) if smaller else ():
            if self._is_unusable(group, vpc):
                log.warning(messages.group_dropped(interface, group))
        return smaller

    def _is_unusable(self, group: str, vpc: str) -> bool:
        """Is it known that the VPC does not take it?"""
        known = self._usable is not None and vpc not in self._usable.get(group, ())
        return known or (vpc, group) in self._refused

    def _fitting(self, vpc: str) -> Groups:
        """Those of ``secg`` that the VPC takes, as far as that is known."""
        secg: FrozenSet[str] = frozenset(g for g in self._tools.policy.secg if (vpc, g) not in self._refused)
        if self._usable is None:
            return secg
        known = frozenset(g for g in secg if vpc in self._usable.get(g, ()))
        return known if known or self._complete else frozenset(g for g in secg if g in self._usable)
