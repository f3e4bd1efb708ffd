"""Which keys a backup uses, and whether there is room: EC2 allows 50 tags a resource."""

from __future__ import annotations

from typing import Dict, FrozenSet, Mapping, Optional

from . import backup
from .backup import LASTFENCE, PREFIX, Backup, Chunk
from .isolation import latest_unfenced, set_by_fencer
from .model import FrozenMap, Groups, Instance, IsolationSpec

TAG_LIMIT = 50  # user tags of a resource; "aws:" ones are not counted
RESERVED_TAGS = 10  # left free for others as long as old keys of ours can be used again


class NoRoom(Exception):
    """The backup does not fit beside the instance's other tags."""

    def __init__(self, needed: int, free: int) -> None:
        self.needed = needed
        self.free = free


def make_backup(
    instance: Instance,
    originals: Mapping[str, Groups],
    time: int,
    spec: IsolationSpec,
    nonce: int = 0,
    numbers: Mapping[str, int] = FrozenMap(),
    reserve: int = RESERVED_TAGS,
    shown: Optional[Instance] = None,
) -> Backup:
    """The backup of these groups.

    Args:
        nonce: random bits.
        numbers: those of interfaces that the read lacks.
        reserve: tags to leave free; none once groups are changed, as another fencer may use the same keys again.
        shown: the latest read, if ``instance`` has tags that no read has shown: what these repeat is not overwritten.

    New keys, so that every reader of the format finds them; where that would leave others less than ``reserve``, keys
    of our own superseded tags are used again. Nothing is ever deleted here.

    Raises:
        NoRoom: it does not fit even so.
    """
    numbers = {**numbers, **{i.id: i.number for i in instance.interfaces}}
    count = max(numbers.values(), default=1)
    tags = {LASTFENCE: str(time)}
    key_offset = _key_offset(instance, count, spec, nonce)
    for interface, groups in sorted(originals.items(), key=lambda item: (numbers[item[0]], item[0])):
        number = numbers[interface] + key_offset
        values = backup.encode(interface, groups, time, nonce >> 8 * numbers[interface])
        # A key that is there already holds another interface, whose rank was this one when it was written.
        while any(_key(instance.id, time, number, c) in {*instance.tags, *tags} for c in range(len(values))):
            number += count
        tags.update({_key(instance.id, time, number, c): v for c, v in enumerate(values)})
    return Backup(time, FrozenMap(_fit(tags, instance, shown or instance, spec, reserve)), FrozenMap(originals))


def _key_offset(instance: Instance, count: int, spec: IsolationSpec, nonce: int) -> int:
    """What is added to the rank of an interface in a key, which readers do not look at.

    Where an interface has groups that a fencer sets, another fencer may be in progress, and one of us may have read
    old tags and come to the same time; where the read lacks the primary interface, ranks differ from another's.
    Then a random multiple of the count, so that neither overwrites the other.
    """
    fenced = any(set_by_fencer(i.groups, spec) for i in instance.interfaces)
    return count * (1 + nonce % 9999) if fenced or instance.lacks_primary else 0


def _key(instance: str, time: int, number: int, chunk: int) -> str:
    return f"{PREFIX}{instance}_{time}_{number}_{chunk}"


def unreadable_tags(instance: Instance, spec: IsolationSpec) -> FrozenSet[str]:
    """Keys that may hold the last trace of original groups, which nobody can restore from them: values that are not
    of our format, and parts of sets of an interface that has no complete one of open groups."""
    history = backup.read(instance)
    readable = {
        c.key
        for c in backup.chunks_of(instance.tags, instance.id)
        if latest_unfenced(c.interface, history, spec) is not None or set_by_fencer(c.groups, spec)
    }
    return frozenset(backup.own(instance.tags, instance.id)) - readable - {LASTFENCE}


def _protected_keys(instance: Instance, spec: IsolationSpec) -> FrozenSet[str]:
    """Keys that must not be overwritten: of each interface the set of ``lastfence``, and the latest complete ones;
    and what cannot be read."""
    history = backup.read(instance)
    keep = set(unreadable_tags(instance, spec))
    for chunk in backup.chunks_of(instance.tags, instance.id):
        complete = history.sets.get(chunk.interface, {})
        unfenced = [t for t, groups in complete.items() if not set_by_fencer(groups, spec)]
        if chunk.time in (history.lastfence, max(complete, default=None), max(unfenced, default=None)):
            keep.add(chunk.key)
    return frozenset(keep)


def _fit(
    tags: Dict[str, str], instance: Instance, shown: Instance, spec: IsolationSpec, reserve: int
) -> Dict[str, str]:
    """Move values to superseded keys as far as room is short."""
    free = TAG_LIMIT - sum(not k.startswith("aws:") for k in instance.tags)
    new = [k for k in tags if k not in instance.tags]
    protected = _protected_keys(instance, spec) | _protected_keys(shown, spec)
    old = sorted(k for k in backup.own(instance.tags, instance.id) if k != LASTFENCE and k not in protected)
    movable = [k for k in new if k != LASTFENCE]
    reuse = min(len(movable), len(old), max(0, len(new) - max(0, free - reserve)))
    renamed = dict(zip(reversed(movable), old[:reuse]))
    short = max(0, len(new) - reuse - free)
    values = {k: tags[k] for k in movable}  # those that are renamed come last
    renamed.update(_overwrite_identical(values, instance, short, frozenset(renamed.values())))
    missing = len(new) - len(renamed)
    if missing > free:
        raise NoRoom(missing, free)
    return {renamed.get(k, k): v for k, v in tags.items()}


def _overwrite_identical(
    values: Mapping[str, str], instance: Instance, count: int, given: FrozenSet[str]
) -> Dict[str, str]:
    """New key -> a key of ours that holds the same chunk of the same originals, for at most ``count`` of them.

    CreateTags writes all or none: at every moment one of the two is there. Not those that are ``given`` to another.
    """

    def content(chunk: Optional[Chunk]) -> object:
        return chunk and (chunk.interface, chunk.groups, chunk.index, chunk.count)

    there = {content(c): c.key for c in backup.chunks_of(instance.tags, instance.id) if c.key not in given}
    same = ((new, there.get(content(backup.decode(new, value)))) for new, value in values.items())
    return dict([(new, old) for new, old in same if old is not None][:count])
