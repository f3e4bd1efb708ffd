"""What an instance looks like from outside, and what that means."""

import json
from typing import Any, Dict, List, Optional, Tuple

from ec2.server import Ec2Server


def groups(ec2: Ec2Server, instance: str) -> Dict[str, List[str]]:
    """Groups by interface."""
    found: Dict[str, List[str]] = ec2.snapshot()[instance]["interfaces"]
    return found


def our_tags(ec2: Ec2Server, instance: str) -> Dict[str, str]:
    """The tags that the agent wrote."""
    tags = ec2.snapshot()[instance]["tags"]
    return {k: v for k, v in tags.items() if k == "lastfence" or k.startswith("Original_SG_Backup_")}


def contents(tags: Dict[str, str]) -> Dict[str, Any]:
    """What these tags of the agent hold; an ``on`` that claims them changes only their white space."""
    return {k: json.loads(v) for k, v in tags.items()}


def is_isolated(ec2: Ec2Server, instance: str, options: Dict[str, Any]) -> bool:
    """Do all interfaces have the groups of a fenced node?"""
    secg = set(str(options["secg"]).replace(" ", "").split(","))
    keep = options.get("invert_sg_removal")
    harmful = secg | {options.get("untrack_secg")}
    found = [set(g) for g in groups(ec2, instance).values()]
    return bool(found) and all(g <= secg if keep else bool(g) and not g & harmful for g in found)


def accepted(ec2: Ec2Server, group: Optional[str] = None, without: Optional[str] = None) -> List[float]:
    """When the changes of groups were accepted, in seconds: those to just this group, or to others."""
    calls = [c for c in ec2.calls_of("ModifyNetworkInterfaceAttribute") if c.took_effect]
    if group:
        calls = [c for c in calls if c.listing("SecurityGroupId") == [group]]
    # A call takes effect a little before its reply is decided.
    return sorted(c.ended for c in calls if c.listing("SecurityGroupId") != [without] and c.ended is not None)


def changes(ec2: Ec2Server) -> List[Tuple[str, Dict[str, str]]]:
    """The changing calls that took effect, in order."""
    return [(c.action, c.params) for c in ec2.writes() if c.took_effect]
