"""Tags: write a backup in one call, delete one by key and value; count returns."""

from __future__ import annotations

from typing import Mapping

from .core.backup import LASTFENCE, RETURNED
from .ec2 import CallContext, Ec2
from .errors import Category


class TagOperations:
    """The operations on tags."""

    def __init__(self, ec2: Ec2) -> None:
        self._ec2 = ec2

    def write(self, instance: str, tags: Mapping[str, str]) -> None:
        """Write all tags with one CreateTags: EC2 writes all or none."""
        purpose = CallContext(f"write the backup tags of {instance}", Category.TAG)
        given = [{"Key": k, "Value": v} for k, v in tags.items()]
        self._ec2.call("create_tags", purpose, Resources=[instance], Tags=given)
        chunks, characters = sum(k != LASTFENCE for k in tags), sum(len(value) for value in tags.values())
        self._ec2.stats.add(tags_written=len(tags), chunks=chunks, tag_characters=characters)

    def count_return(self, instance: str, value: str) -> None:
        """Write the tag by which monitor counts its returns."""
        purpose = CallContext(f"write the tag {RETURNED} of {instance}", Category.TAG)
        self._ec2.call("create_tags", purpose, Resources=[instance], Tags=[{"Key": RETURNED, "Value": value}])
        self._ec2.stats.add(tags_written=1, tag_characters=len(value))

    def delete(self, instance: str, tags: Mapping[str, str]) -> None:
        """Delete these tags if they still have these values, so that later tags of another fencer stay."""
        purpose = CallContext(f"delete the backup tags of {instance}", Category.TAG)
        given = [{"Key": k, "Value": v} for k, v in tags.items()]
        self._ec2.call("delete_tags", purpose, Resources=[instance], Tags=given)
