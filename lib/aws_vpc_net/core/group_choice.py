"""Which groups isolate an interface: one answer for ``off`` and for an ``on`` that an ``off`` overtakes.

Where groups are kept, ``secg`` may name groups of several VPCs, and groups that are gone. EC2 then refuses the whole
set: "The security group 'sg-…' does not exist" names the group, "You have specified two resources that belong to
different networks" names none. So the VPCs of ``secg`` are looked up; and where that is not possible, or would take
time while a node is open, its groups are tried one by one: each of them isolates.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import FrozenSet, Optional, Tuple

from .isolation import target_groups
from .model import NONE, FrozenMap, Groups, Interface, IsolationSpec

NO_SUCH_GROUP = ("InvalidGroup.NotFound", "InvalidGroupId.NotFound", "InvalidSecurityGroupID.NotFound")
TOO_MANY = "SecurityGroupsPerInterfaceLimitExceeded"
QUOTA = 5  # groups of an interface, where nobody has asked EC2 for more

_GROUP = re.compile(r"sg-[0-9a-f]{8,17}")


@dataclass(frozen=True)
class IsolatingGroups:
    """What is known of the groups of ``secg``: by look-up, and by what EC2 refused.

    Attributes:
        vpcs: group -> the VPCs that are known to take it; None if nothing is known.
        complete: are these all VPCs that take it, associated ones too?
        looked_up: it was tried.
        refused: (VPC, group) that EC2 refused.
    """

    vpcs: Optional[FrozenMap[str, FrozenSet[str]]] = None
    complete: bool = False
    looked_up: bool = False
    refused: FrozenSet[Tuple[str, str]] = frozenset()

    def of(self, spec: IsolationSpec, interface: Interface, originals: Groups = NONE) -> Groups:
        """What to set on it; empty if there are no such groups, which EC2 does not allow."""
        if spec.keep_only:
            return self._fitting(spec, interface.vpc)
        return target_groups(interface.groups, spec, originals)

    def needs_look_up(self, spec: IsolationSpec, goal: Groups, code: str, text: str) -> bool:
        """Does EC2's refusal of ``goal`` leave open which of its groups is wrong?"""
        is_about_groups = spec.keep_only and code in (*NO_SUCH_GROUP, TOO_MANY)
        return is_about_groups and not self.looked_up and not goal & named_groups(code, text)

    def without_refused(
        self, spec: IsolationSpec, vpc: str, goal: Groups, code: str, text: str
    ) -> Tuple[IsolatingGroups, Groups]:
        """After EC2 refused ``goal``: what is known now, and what to try instead; empty if the refusal is final."""
        if not spec.keep_only or code not in (*NO_SUCH_GROUP, TOO_MANY):
            return self, NONE
        named = goal & named_groups(code, text)
        refused = named or (goal if len(goal) == 1 else NONE)
        known = replace(self, refused=self.refused | {(vpc, g) for g in refused})
        smaller = known._fitting(spec, vpc)
        if code == TOO_MANY:
            smaller = frozenset(sorted(smaller)[:QUOTA])
        if smaller >= goal or len(goal) == 1:  # nothing tells which: one by one
            smaller = frozenset(sorted(smaller)[:1])
        return known, smaller

    def is_unusable(self, group: str, vpc: str) -> bool:
        """Is it known that the VPC does not take it?"""
        looked_up = self.vpcs is not None and vpc not in self.vpcs.get(group, ())
        return looked_up or (vpc, group) in self.refused

    def _fitting(self, spec: IsolationSpec, vpc: str) -> Groups:
        """Those of ``secg`` that the VPC takes, as far as that is known."""
        left: Groups = frozenset(g for g in spec.secg if (vpc, g) not in self.refused)
        if self.vpcs is None:
            return left
        known = frozenset(g for g in left if vpc in self.vpcs.get(g, ()))
        return known if known or self.complete else frozenset(g for g in left if g in self.vpcs)


def named_groups(code: str, text: str) -> Groups:
    """The groups that EC2's own words name, which stand behind its code."""
    return frozenset(_GROUP.findall(text.rsplit(code, maxsplit=1)[-1]))
