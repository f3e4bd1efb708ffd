"""What an operator, or a program, does to the tags of a fence: cuts or deletes some, or changes ``lastfence``."""

from aws_vpc_net.core import backup
from aws_vpc_net.core.backup import LASTFENCE
from aws_vpc_net.core.model import FrozenMap

from .invocations import NOW
from .world import E0, ID

TAG_EVENTS = ("cut a tag", "delete a tag", "delete all", "delete lastfence", "break lastfence", "raise lastfence")


def edited(event: str, tags: FrozenMap[str, str]) -> FrozenMap[str, str]:
    """The tags after this deed; the same, where there is nothing to do it to."""
    if event == "delete all":
        return tags.without(backup.own(tags, ID))
    if event.endswith("lastfence"):
        if LASTFENCE not in tags:
            return tags
        if event.startswith("delete"):
            return tags.without((LASTFENCE,))
        return tags.updated({LASTFENCE: "today" if event.startswith("break") else str(NOW + 1_000_000)})
    chunks = [c for c in backup.chunks_of(tags, ID) if c.interface == E0]
    if not chunks:
        return tags
    key = max(chunks, key=lambda c: (c.time, c.key)).key
    return tags.without((key,)) if event.startswith("delete") else tags.updated({key: tags[key][:-4]})
