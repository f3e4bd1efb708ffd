"""Checks whether EC2 permits a change, with DryRun: EC2 checks the permission, and changes nothing."""

from __future__ import annotations

from typing import Any, Callable, List, Mapping, Optional, Tuple

from . import messages
from .core.model import Groups
from .ec2 import CallContext, Ec2
from .errors import ApiError, Category, FenceError

WOULD_PASS = "DryRunOperation"  # the error code of EC2 for a permitted dry run

Check = Tuple[str, Callable[[], Optional[FenceError]]]
"""(the API action, what asks for it: None if it is permitted, else why not)"""


class DryRun:
    """Checks of permissions, to be run in any order or concurrently."""

    def __init__(self, ec2: Ec2) -> None:
        self._ec2 = ec2

    def tags(self, instance: str, tags: Mapping[str, str], what: str = "backup tags") -> List[Check]:
        """Write a backup, and delete it; or other tags."""
        given = [{"Key": k, "Value": v} for k, v in tags.items()]
        write = CallContext(f"write the {what} of {instance}", Category.TAG)
        delete = CallContext(f"delete the {what} of {instance}", Category.TAG)
        return [
            ("CreateTags", lambda: self._ask("create_tags", write, Resources=[instance], Tags=given)),
            ("DeleteTags", lambda: self._ask("delete_tags", delete, Resources=[instance], Tags=given)),
        ]

    def groups(self, interface: str, groups: Groups) -> Check:
        """Set the groups of an interface."""
        names = sorted(groups)
        purpose = CallContext(f"set the groups of {interface} to {', '.join(names)}", Category.MODIFICATION)
        given = {"NetworkInterfaceId": interface, "Groups": names}
        return (
            "ModifyNetworkInterfaceAttribute",
            lambda: self._ask("modify_network_interface_attribute", purpose, **given),
        )

    def stop(self, instance: str, **more: bool) -> Check:
        """Stop the instance."""
        purpose = CallContext(f"stop instance {instance}", Category.INSTANCE)
        return (
            "StopInstances",
            lambda: self._ask("stop_instances", purpose, InstanceIds=[instance], Force=True, **more),
        )

    def start(self, instance: str) -> Check:
        """Start the instance."""
        purpose = CallContext(f"start instance {instance}", Category.INSTANCE)
        return "StartInstances", lambda: self._ask("start_instances", purpose, InstanceIds=[instance])

    def _ask(self, operation: str, purpose: CallContext, **params: Any) -> Optional[FenceError]:
        try:
            self._ec2.call(operation, purpose, DryRun=True, **params)
        except FenceError as error:
            return None if isinstance(error, ApiError) and error.code == WOULD_PASS else error
        return messages.dry_run_ignored(purpose)
