"""The tags: encode and decode a record, choose keys, keep within EC2's room. Pure; format of contract and field.

    lastfence                                              Unix time in seconds
    Original_SG_Backup_<instance>_<time>_<number>_<chunk>  {"n": {"i": <interface>, "s": [<groups without sg->],
                                                            "c": {"i": <chunk>, "t": <chunks>}}, "t": <time>}

Readers trust the value, never the key's time or numbers, and nothing in a tag can make them fail: whoever may
tag the instance may write anything there.

A writer's mark: every value has 0 to 15 spaces before its last member, drawn by the writer. To a reader they are
white space; two fencers of the same second, who write the same keys and values, tell by them whose tags stand.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Dict, FrozenSet, Iterable, List, Mapping, Optional, Set, Tuple

from . import rules
from .rules import Book, Groups, Instance, Policy

LASTFENCE = "lastfence"
PREFIX = "Original_SG_Backup_"
VALUE_LIMIT = 254  # characters of JSON in a value; EC2 allows 256
TAG_LIMIT = 50  # user tags of a resource; "aws:" ones are not counted
SPARE = 10  # tags that we leave free for others as long as old keys of ours can be used again
LATEST = 10**11  # later times are no times (year 5138)
MOST_CHUNKS = 64
MOST_SPACES = 15

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
class Plan:
    """The tags that one CreateTags writes, and the record that they are."""

    time: int
    tags: Mapping[str, str]
    originals: Mapping[str, Groups]

    @property
    def backups(self) -> Dict[str, str]:
        """Without ``lastfence``, which another fencer may move."""
        return {k: v for k, v in self.tags.items() if k != LASTFENCE}


class NoRoom(Exception):
    """The record does not fit beside the instance's other tags."""

    def __init__(self, needed: int, free: int) -> None:
        super().__init__(f"{needed} new tags needed, room for {free}")
        self.needed = needed
        self.free = free


# --- reading ---------------------------------------------------------------------------------------------------


def _number(value: object) -> Optional[int]:
    """A whole number from JSON, as number or text; None if it is not one."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    text = value.strip() if isinstance(value, str) else repr(value)
    return int(text.split(".")[0]) if _NUMBER.fullmatch(text) else None


def _time(value: object) -> Optional[int]:
    number = _number(value)
    return number if number is not None and 0 < number < LATEST else None


def _load(value: str) -> object:
    try:
        return json.loads(value) if len(value) <= 1024 else None
    except (ValueError, RecursionError):
        return None


def decode(key: str, value: str) -> Optional[Chunk]:
    """A backup tag, or None where it cannot be one."""
    data = _load(value)
    body = data.get("n") if isinstance(data, dict) else None
    if not isinstance(data, dict) or not isinstance(body, dict):
        return None
    interface, names, part = body.get("i"), body.get("s"), body.get("c")
    if not isinstance(interface, str) or not _INTERFACE.fullmatch(interface):
        return None
    if not isinstance(names, list) or not isinstance(part, dict):
        return None
    found = [_GROUP.fullmatch(n) if isinstance(n, str) else None for n in names]
    index, count, time = _number(part.get("i")), _number(part.get("t")), _time(data.get("t"))
    if index is None or count is None or time is None or not 0 <= index < count <= MOST_CHUNKS:
        return None
    if any(m is None for m in found):
        return None
    groups = frozenset("sg-" + m.group(1) for m in found if m)
    return Chunk(key, interface, groups, index, count, time)


def _complete(chunks: Iterable[Chunk]) -> Optional[Groups]:
    """The groups of a whole set; None if a chunk is missing, two disagree, or it names no group."""
    by_index: Dict[int, Chunk] = {}
    for chunk in chunks:
        if by_index.setdefault(chunk.index, chunk).groups != chunk.groups:
            return None
    if not by_index or len(by_index) != next(iter(by_index.values())).count:
        return None
    return frozenset().union(*(c.groups for c in by_index.values())) or None


def _assemble(chunks: List[Chunk]) -> List[Groups]:
    """The groups of an interface at one time. Where writers of the same second disagree, one set for each writer."""
    found: List[Groups] = []
    for count in sorted({c.count for c in chunks}):
        same = [c for c in chunks if c.count == count]
        whole = _complete(same)
        numbers = sorted({c.key.rsplit("_", 1)[0] for c in same})
        parts = [_complete(c for c in same if c.key.rsplit("_", 1)[0] == n) for n in numbers]
        found += [whole] if whole else [p for p in parts if p]
    return found


def own(tags: Mapping[str, str], instance: str) -> Dict[str, str]:
    """Our format's tags of this instance, readable or not."""
    return {k: v for k, v in tags.items() if k == LASTFENCE or k.startswith(f"{PREFIX}{instance}_")}


def copied(tags: Mapping[str, str], instance: str) -> Dict[str, str]:
    """Our format's tags that name another instance: images and templates copy them."""
    found = {k: _KEY.fullmatch(k) for k in tags}
    return {k: tags[k] for k, m in found.items() if m and m.group(1) != instance}


def _chunks(tags: Mapping[str, str], instance: str) -> List[Chunk]:
    found = (decode(k, v) for k, v in own(tags, instance).items() if k != LASTFENCE)
    return [c for c in found if c]


def _key_times(tags: Mapping[str, str], instance: str) -> Set[int]:
    found = (_KEY.fullmatch(k) for k in own(tags, instance))
    times = (_time(m.group(2)) for m in found if m)
    return {t for t in times if t is not None}


def read(instance: Instance) -> Book:
    """The book of an instance's tags, without those that name another instance."""
    chunks = _chunks(instance.tags, instance.id)
    grouped: Dict[Tuple[str, int], List[Chunk]] = {}
    for chunk in chunks:
        grouped.setdefault((chunk.interface, chunk.time), []).append(chunk)
    sets: Dict[str, Dict[int, Groups]] = {}
    twins: Dict[str, Dict[int, Tuple[Groups, ...]]] = {}
    for (interface, time), some in grouped.items():
        whole = _assemble(some)
        if whole:
            sets.setdefault(interface, {})[time] = whole[0]
            twins.setdefault(interface, {})[time] = tuple(whole[1:])
    last = _time(instance.tags.get(LASTFENCE))
    times = {c.time for c in chunks} | ({last} if last is not None else set())
    return Book(last, sets, frozenset(times), twins)


# --- writing ---------------------------------------------------------------------------------------------------


def encode(interface: str, groups: Groups, time: int, mark: int = 0) -> List[str]:
    """The values of an interface's backup, as many as it takes, each at most VALUE_LIMIT characters."""
    names = sorted(g[3:] if g.startswith("sg-") else g for g in groups)

    def value(some: List[str], index: int, count: int, spaces: int) -> str:
        body = {"i": interface, "s": some, "c": {"i": index, "t": count}}
        return f'{{"n":{json.dumps(body, separators=(",", ":"))},{" " * spaces}"t":{time}}}'

    parts: List[List[str]] = [[]]
    for name in names:
        if len(value([*parts[-1], name], MOST_CHUNKS, MOST_CHUNKS, MOST_SPACES)) > VALUE_LIMIT:
            parts.append([])
        parts[-1].append(name)
    spaces = [(mark >> 4 * index) % (MOST_SPACES + 1) for index in range(len(parts))]
    return [value(some, index, len(parts), spaces[index]) for index, some in enumerate(parts)]


def next_time(now: float, instance: Instance) -> int:
    """The new ``lastfence``: the clock's seconds, but later than every time in our tags, so that it always grows."""
    seen = read(instance).times | _key_times(instance.tags, instance.id)
    return max([int(now), *(t + 1 for t in seen if t < LATEST - 1_000_000)])  # beyond, there is no room to grow


def _needed(tags: Mapping[str, str], instance: str, policy: Policy) -> FrozenSet[str]:
    """Keys that must not be overwritten: of each interface the set of ``lastfence``, and the newest complete ones."""
    book = read(Instance(instance, "", (), tags))
    keep = set()
    for chunk in _chunks(tags, instance):
        complete = book.sets.get(chunk.interface, {})
        real = [t for t, groups in complete.items() if not rules.looks_fenced(groups, policy)]
        if chunk.time in (book.lastfence, max(complete, default=None), max(real, default=None)):
            keep.add(chunk.key)
    return frozenset(keep)


def plan(instance: Instance, originals: Mapping[str, Groups], time: int, policy: Policy, mark: int = 0) -> Plan:
    """The tags to write for this record; ``mark``: random bits.

    Where an interface looks fenced already, another fencer may be at work, and one of us may have read old tags and
    come to the same time: then the key's number is the rank plus a random multiple of the count, so that neither
    overwrites the other. Readers do not look at it.

    New keys, so that every reader of the format finds them; where that would leave others less than SPARE tags,
    keys of our own superseded tags are used again. Nothing is ever deleted here.

    Raises:
        NoRoom: it does not fit even so.
    """
    numbers = {i.id: i.number for i in instance.interfaces}
    taken = set(instance.tags)
    tags = {LASTFENCE: str(time)}
    fenced = any(rules.looks_fenced(i.groups, policy) for i in instance.interfaces)
    apart = len(numbers) * (1 + mark % 9999) if fenced else 0
    for interface, groups in sorted(originals.items(), key=lambda item: numbers[item[0]]):
        number = numbers[interface] + apart
        values = encode(interface, groups, time, mark >> 8 * numbers[interface])
        # A key that is there already holds another interface, whose rank was this one when it was written.
        while any(f"{PREFIX}{instance.id}_{time}_{number}_{c}" in taken for c in range(len(values))):
            number += len(numbers)
        tags.update({f"{PREFIX}{instance.id}_{time}_{number}_{c}": v for c, v in enumerate(values)})
    return Plan(time, _fit(tags, instance, policy), dict(originals))


def _fit(tags: Dict[str, str], instance: Instance, policy: Policy) -> Dict[str, str]:
    """Move values to superseded keys as far as room is short."""
    free = TAG_LIMIT - sum(not k.startswith("aws:") for k in instance.tags)
    new = [k for k in tags if k not in instance.tags]
    needed = _needed(instance.tags, instance.id, policy)
    old = sorted(k for k in own(instance.tags, instance.id) if k != LASTFENCE and k not in needed)
    movable = [k for k in new if k != LASTFENCE]
    reuse = min(len(movable), len(old), max(0, len(new) - max(0, free - SPARE)))
    renamed = dict(zip(reversed(movable), old[:reuse]))
    if len(new) - reuse > free:
        left = {k: tags[k] for k in movable if k not in renamed}
        renamed.update(_in_place(left, instance, len(new) - reuse - free, frozenset(renamed.values())))
    missing = len(new) - len(renamed)
    if missing > free:
        raise NoRoom(missing, free)
    return {renamed.get(k, k): v for k, v in tags.items()}


def _in_place(values: Mapping[str, str], instance: Instance, count: int, given: FrozenSet[str]) -> Dict[str, str]:
    """New key -> a key of ours that holds the same chunk of the same originals, for at most ``count`` of them.

    CreateTags writes all or none: at every moment one of the two is there. Not those that are ``given`` to another.
    """

    def content(chunk: Optional[Chunk]) -> object:
        return chunk and (chunk.interface, chunk.groups, chunk.index, chunk.count)

    there = {content(c): c.key for c in _chunks(instance.tags, instance.id) if c.key not in given}
    found = ((new, there.get(content(decode(new, value)))) for new, value in values.items())
    return dict([(new, old) for new, old in found if old is not None][:count])


# --- other fencers ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Known:
    """What we have seen in tags, or written: a tag or a time that is not among it is another fencer's hand."""

    tags: FrozenSet[Tuple[str, str]] = frozenset()
    times: FrozenSet[int] = frozenset()

    def and_seen(self, instance: Instance) -> Known:
        """With what this read shows."""
        tags = frozenset(own(instance.tags, instance.id).items())
        return Known(self.tags | tags, self.times | read(instance).times)

    def and_written(self, written: Plan) -> Known:
        """With what we wrote."""
        return Known(self.tags | frozenset(written.tags.items()), self.times | {written.time})

    def is_news(self, instance: Instance) -> bool:
        """Does this read show more than we know? Less is a stale read, or an ``on`` has deleted tags.

        An older ``lastfence`` alone is a stale read too; a later one is a time that we do not know.
        """
        backups = {(k, v) for k, v in own(instance.tags, instance.id).items() if k != LASTFENCE}
        return not read(instance).times <= self.times or not backups <= self.tags


def only_ours(seen: Instance, written: Plan) -> bool:
    """Are the tags of our format exactly what we wrote? Then nobody else has fenced."""
    return own(seen.tags, seen.id) == dict(written.tags)
