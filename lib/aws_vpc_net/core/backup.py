"""The backup tags: how they are written and read, and whose hand they show.

    lastfence                                              Unix time in seconds
    Original_SG_Backup_<instance>_<time>_<number>_<chunk>  {"n": {"i": <interface>, "s": [<groups without sg->],
                                                            "c": {"i": <chunk>, "t": <chunks>}}, "t": <time>}

Readers trust the value, never the key's time or numbers, and nothing in a tag can make them fail: whoever may tag the
instance may write anything there.

White space in a value means nothing to a reader, and tells writers apart: 0 to 15 spaces before the last member are
the writer's nonce; three spaces before the closing brace say that an ``on`` wrote it, see ``claim``.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Dict, FrozenSet, Iterable, List, Mapping, Optional, Set, Tuple

from .model import BackupHistory, FrozenMap, Groups, Instance

LASTFENCE = "lastfence"
PREFIX = "Original_SG_Backup_"
RETURNED = "fence_aws_vpc_net:returned"  # no part of the backup: when monitor brought the instance back
VALUE_LIMIT = 254  # characters of JSON in a value; EC2 allows 256
MAX_TIMESTAMP = 10**11  # later times are no times (year 5138)
MAX_CHUNKS = 64
MAX_SPACES = 15
CLAIM = "   }"  # the end of a value that an ``on`` wrote

_KEY = re.compile(r"Original_SG_Backup_(i-[0-9a-f]{8,17})_([0-9]{1,20})_[0-9]{1,9}_[0-9]{1,9}")
_INTERFACE = re.compile(r"eni-[0-9a-f]{8,17}")
_GROUP = re.compile(r"(?:sg-)?([0-9a-f]{8,17})")
_NUMBER = re.compile(r"[0-9]{1,12}(?:\.0{1,9})?")


@dataclass(frozen=True)
class Chunk:
    """One backup tag, decoded."""

    key: str
    interface: str
    groups: Groups
    index: int
    count: int
    time: int


@dataclass(frozen=True)
class Backup:
    """The tags that one CreateTags writes, and the original groups that they hold."""

    time: int
    tags: FrozenMap[str, str]
    originals: FrozenMap[str, Groups]

    @property
    def chunks(self) -> Dict[str, str]:
        """The tags without ``lastfence``, which another fencer may move."""
        return {k: v for k, v in self.tags.items() if k != LASTFENCE}


# --- reading ---------------------------------------------------------------------------------------------------


def _number(value: object) -> Optional[int]:
    """A whole number from JSON, as number or text; None if it is not one."""
    text = value.strip() if isinstance(value, str) else repr(value)
    return int(text.split(".")[0]) if _NUMBER.fullmatch(text) else None


def _time(value: object) -> Optional[int]:
    number = _number(value)
    return number if number is not None and 0 < number < MAX_TIMESTAMP else None


def _load(value: str) -> Dict[str, object]:
    try:
        data = json.loads(value)
    except (ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) else {}


def decode(key: str, value: str) -> Optional[Chunk]:
    """A backup tag, or None where it cannot be one."""
    data = _load(value)
    body = data.get("n")
    if not isinstance(body, dict):
        return None
    interface, names, part = body.get("i"), body.get("s"), body.get("c")
    if not isinstance(interface, str) or not _INTERFACE.fullmatch(interface):
        return None
    if not isinstance(names, list) or not isinstance(part, dict):
        return None
    index, count, time = _number(part.get("i")), _number(part.get("t")), _time(data.get("t"))
    if index is None or count is None or time is None or not 0 <= index < count:
        return None
    groups = set()
    for name in names:
        match = _GROUP.fullmatch(name) if isinstance(name, str) else None
        if match is None:
            return None
        groups.add("sg-" + match.group(1))
    return Chunk(key, interface, frozenset(groups), index, count, time)


def _complete(chunks: Iterable[Chunk]) -> Optional[Groups]:
    """The groups of a whole set, perhaps none; None if a chunk is missing, or two disagree."""
    by_index: Dict[int, Chunk] = {}
    for chunk in chunks:
        if by_index.setdefault(chunk.index, chunk).groups != chunk.groups:
            return None
    if len(by_index) != next(iter(by_index.values())).count:
        return None
    return frozenset().union(*(c.groups for c in by_index.values()))


def _assemble(chunks: List[Chunk]) -> List[Groups]:
    """The groups of an interface at one time. Where writers of the same second disagree, one set for each writer."""
    sets: List[Groups] = []
    for count in sorted({c.count for c in chunks}):
        same = [c for c in chunks if c.count == count]
        whole = _complete(same)
        numbers = sorted({c.key.rsplit("_", 1)[0] for c in same})
        parts = [_complete(c for c in same if c.key.rsplit("_", 1)[0] == n) for n in numbers]
        sets += [whole] if whole else [p for p in parts if p]
    return sets


def own(tags: Mapping[str, str], instance: str) -> Dict[str, str]:
    """Our format's tags of this instance, readable or not."""
    return {k: v for k, v in tags.items() if k == LASTFENCE or k.startswith(f"{PREFIX}{instance}_")}


def foreign_tags(tags: Mapping[str, str], instance: str) -> Dict[str, str]:
    """Our format's tags that name another instance: images and templates copy them."""
    matches = {k: _KEY.fullmatch(k) for k in tags}
    return {k: tags[k] for k, m in matches.items() if m and m.group(1) != instance}


def chunks_of(tags: Mapping[str, str], instance: str) -> List[Chunk]:
    """Every backup tag of this instance that can be read."""
    decoded = (decode(k, v) for k, v in own(tags, instance).items() if k != LASTFENCE)
    return [c for c in decoded if c]


def _key_times(tags: Mapping[str, str], instance: str) -> Set[int]:
    matches = (_KEY.fullmatch(k) for k in own(tags, instance))
    times = (_time(m.group(2)) for m in matches if m)
    return {t for t in times if t is not None}


def read(instance: Instance) -> BackupHistory:
    """What an instance's tags say, without those that name another instance."""
    chunks = chunks_of(instance.tags, instance.id)
    grouped: Dict[Tuple[str, int], List[Chunk]] = {}
    for chunk in chunks:
        grouped.setdefault((chunk.interface, chunk.time), []).append(chunk)
    sets: Dict[str, Dict[int, Groups]] = {}
    conflicting: Dict[str, Dict[int, Tuple[Groups, ...]]] = {}
    for (interface, time), some in grouped.items():
        whole = _assemble(some)
        if whole:
            sets.setdefault(interface, {})[time] = whole[0]
            conflicting.setdefault(interface, {})[time] = tuple(whole[1:])
    last = _time(instance.tags.get(LASTFENCE))
    times = {c.time for c in chunks} | ({last} if last is not None else set())
    return BackupHistory(last, sets, frozenset(times), conflicting)


def next_time(now: float, instance: Instance) -> int:
    """The new ``lastfence``: the clock's seconds, but later than every time in our tags, so that it always grows."""
    times = read(instance).times | _key_times(instance.tags, instance.id)
    return max([int(now), *(t + 1 for t in times if t < MAX_TIMESTAMP - 1_000_000)])  # beyond, no room to grow


# --- writing ---------------------------------------------------------------------------------------------------


def _value(interface: str, names: List[str], index: int, count: int, time: int, spaces: int, end: str = "}") -> str:
    body = {"i": interface, "s": names, "c": {"i": index, "t": count}}
    return f'{{"n":{json.dumps(body, separators=(",", ":"))},{" " * spaces}"t":{time}{end}'


def _names(groups: Groups) -> List[str]:
    return sorted(g[len("sg-") :] for g in groups)


def encode(interface: str, groups: Groups, time: int, nonce: int = 0) -> List[str]:
    """The values of an interface's backup, as many as it takes, each at most VALUE_LIMIT characters."""
    parts: List[List[str]] = [[]]
    for name in _names(groups):
        longest = _value(interface, [*parts[-1], name], MAX_CHUNKS, MAX_CHUNKS, time, MAX_SPACES)
        if len(longest) > VALUE_LIMIT:
            parts.append([])
        parts[-1].append(name)
    spaces = [(nonce >> 4 * index) % (MAX_SPACES + 1) for index in range(len(parts))]
    return [_value(interface, some, n, len(parts), time, spaces[n]) for n, some in enumerate(parts)]


def claim(instance: Instance, nonce: int) -> FrozenMap[str, str]:
    """The backup tags of an instance with the same contents and other values, marked as written by an ``on``.

    They tell an ``off`` that is still in progress that its backup is about to be deleted; another ``on`` knows by
    the mark that it is not an ``off``.
    """
    values = {}
    for n, chunk in enumerate(chunks_of(instance.tags, instance.id)):
        names = _names(chunk.groups)
        tight = _value(chunk.interface, names, chunk.index, chunk.count, chunk.time, 0, CLAIM)
        spaces = min((nonce >> 4 * n) % (MAX_SPACES + 1), max(0, VALUE_LIMIT - len(tight)))
        values[chunk.key] = _value(chunk.interface, names, chunk.index, chunk.count, chunk.time, spaces, CLAIM)
    return FrozenMap({k: v for k, v in values.items() if len(v) <= VALUE_LIMIT})


def is_claim(value: str) -> bool:
    """Did an ``on`` write this value?"""
    return value.endswith(CLAIM)


# --- other fencers ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TagHistory:
    """What we have seen in tags, or written: a tag or a time that is not among it is another's hand."""

    tags: FrozenSet[Tuple[str, str]] = frozenset()
    times: FrozenSet[int] = frozenset()

    def with_read(self, instance: Instance) -> TagHistory:
        """With what this read shows."""
        tags = frozenset(own(instance.tags, instance.id).items())
        return TagHistory(self.tags | tags, self.times | read(instance).times)

    def with_write(self, tags: Mapping[str, str]) -> TagHistory:
        """With what we wrote."""
        decoded = [decode(k, v) for k, v in tags.items()]
        return TagHistory(self.tags | frozenset(tags.items()), self.times | {c.time for c in decoded if c})

    def has_foreign_writes(self, instance: Instance, *, claims: bool = True) -> bool:
        """Does this read show more than we know? Less is a stale read, or an ``on`` has deleted tags.

        An older ``lastfence`` alone is a stale read too; a later one is a time that we do not know.

        Args:
            claims: do those of another ``on`` count? If not, nor does what it claimed, which a stale read shows.
        """
        tags = {k: v for k, v in own(instance.tags, instance.id).items() if k != LASTFENCE}
        unknown = set(tags.items()) - self.tags
        if not claims:
            unknown = {(k, v) for k, v in unknown if not is_claim(v) and not self._is_claimed(k, v)}
        return bool(unknown) or not read(instance).times <= self.times

    def _is_claimed(self, key: str, value: str) -> bool:
        """Is a claim known that was made of this tag, and nothing else with its contents? Where the tag that was
        claimed is known, one of the same contents is of another ``off``, which has the same time and keys."""
        chunk = decode(key, value)
        same = [v for k, v in self.tags if decode(k, v) == chunk]
        return bool(same) and all(map(is_claim, same))


def foreign_backups(instance: Instance, written: FrozenSet[Tuple[str, str]]) -> BackupHistory:
    """What the tags say that we did not write."""
    tags = {k: v for k, v in instance.tags.items() if (k, v) not in written}
    return read(Instance(instance.id, instance.state, instance.interfaces, FrozenMap(tags)))


def is_sole_writer(instance: Instance, backup: Backup) -> bool:
    """Are the tags of our format exactly this backup? Then nobody else has fenced."""
    return own(instance.tags, instance.id) == dict(backup.tags)


def is_visible(backup: Backup, instance: Instance) -> bool:
    """Does a read show the whole backup? ``lastfence`` may have been moved by another fencer."""
    if all(instance.tags.get(k) == v for k, v in backup.chunks.items()):
        return True
    history = read(instance)  # a fencer of the same second, or an ``on``, may have written the same over it
    return all(history.at(i, backup.time) == groups for i, groups in backup.originals.items())
