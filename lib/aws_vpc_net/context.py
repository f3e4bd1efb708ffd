"""What every action works with: the settings, the operations, the deadline, the counters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Dict, Optional, Sequence

from .deadline import Deadline, backoff
from .ec2 import Ec2, Stats
from .instances import InstanceOperations
from .rules import Instance, Policy
from .security_groups import SecurityGroupOperations
from .settings import Settings
from .tags import TagOperations

READ_ONCE_MORE_SECONDS = 0.4  # before what is not there is taken to be not there
READ_AGAIN_SECONDS = 2.0  # how long a read that may be stale is repeated where no other read can tell


@dataclass(frozen=True)
class Context:
    """The operations of one run on one EC2."""

    settings: Settings
    ec2: Ec2
    instances: InstanceOperations
    groups: SecurityGroupOperations
    tags: TagOperations

    @property
    def policy(self) -> Policy:
        """What isolated means."""
        return self.settings.policy

    @property
    def stats(self) -> Stats:
        """What was done so far."""
        return self.ec2.stats

    @property
    def deadline(self) -> Deadline:
        """When all must have ended."""
        return self.ec2.deadline

    def read_once_more(self, plugs: Sequence[str]) -> Dict[str, Instance]:
        """Read instances again after a pause, as the first read may have been stale."""
        self.deadline.pause(READ_ONCE_MORE_SECONDS)
        return self.instances.read(plugs)

    def reread_until(
        self,
        plug: str,
        first: Instance,
        enough: Callable[[Instance], bool],
        seconds: float = READ_AGAIN_SECONDS,
    ) -> Instance:
        """Read the instance again, with backoff, until it is as hoped or so many seconds are over.

        For states that are rare but cannot be told from a stale read: at least one more read, always; and never for
        more than a quarter of the time that is left.
        """
        ends = self.deadline.now() + min(seconds, self.deadline.remaining() / 4)
        latest = first
        for pause in backoff(0.2, 1.0):
            self.deadline.pause(pause)
            latest = self.instances.read([plug]).get(plug, latest)
            if enough(latest) or self.deadline.now() >= ends or self.deadline.passed:
                return latest
        raise AssertionError("backoff never ends")


def create_context(settings: Settings, deadline: Deadline, stats: Optional[Stats] = None) -> Context:
    """The context of these settings. Nothing is called yet."""
    ec2 = Ec2(settings, deadline, stats or Stats())
    return Context(settings, ec2, InstanceOperations(ec2), SecurityGroupOperations(ec2), TagOperations(ec2))
