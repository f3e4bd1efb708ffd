"""The context of every action: settings, operations, deadline, counters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from .core.model import IsolationSpec
from .deadline import Deadline
from .ec2 import Ec2, Stats
from .instances import InstanceOperations
from .security_groups import SecurityGroupOperations
from .settings import Settings
from .tags import TagOperations


@dataclass(frozen=True)
class Context:
    """The operations of one run on one EC2."""

    settings: Settings
    ec2: Ec2
    instances: InstanceOperations
    groups: SecurityGroupOperations
    tags: TagOperations

    @property
    def spec(self) -> IsolationSpec:
        """When an interface counts as isolated."""
        return self.settings.spec

    @property
    def stats(self) -> Stats:
        """The counters of this run."""
        return self.ec2.stats

    @property
    def deadline(self) -> Deadline:
        """The deadline of the operation."""
        return self.ec2.deadline


def create_context(settings: Settings, deadline: Deadline, stats: Optional[Stats] = None) -> Context:
    """The context of these settings. Nothing is called yet."""
    ec2 = Ec2(settings, deadline, stats or Stats())
    instances = InstanceOperations(ec2, settings.filters)
    return Context(settings, ec2, instances, SecurityGroupOperations(ec2), TagOperations(ec2))
