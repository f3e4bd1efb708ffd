"""What EC2 shows, and what the options ask for: values that can be compared, copied and hashed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import (
    Any,
    Dict,
    FrozenSet,
    ItemsView,
    Iterable,
    Iterator,
    Mapping,
    Optional,
    Tuple,
    TypeVar,
    ValuesView,
    cast,
)

Groups = FrozenSet[str]
NONE: Groups = frozenset()
# A trunk carries branch interfaces of containers, which have groups of their own and are not attached to the
# instance; groups do not filter the networks of Amazon EVS.
UNFILTERED = ("trunk", "evs")

K = TypeVar("K")
V = TypeVar("V")


class FrozenMap(Mapping[K, V]):
    """A mapping that cannot change, and can be hashed."""

    __slots__ = ("_data", "_hash")

    def __init__(self, data: Mapping[K, V] = cast("Mapping[K, V]", {})) -> None:
        self._data: Dict[K, V] = dict(data)
        self._hash: Optional[int] = None

    def __getitem__(self, key: K) -> V:
        return self._data[key]

    def __iter__(self) -> Iterator[K]:
        return iter(self._data)

    def __len__(self) -> int:
        return len(self._data)

    # The parent's would call __getitem__ for each key.
    def items(self) -> ItemsView[K, V]:
        return self._data.items()

    def values(self) -> ValuesView[V]:
        return self._data.values()

    def __hash__(self) -> int:
        if self._hash is None:
            self._hash = hash(frozenset(self._data.items()))
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self._data == (other._data if isinstance(other, FrozenMap) else other)

    def __repr__(self) -> str:
        return f"FrozenMap({self._data!r})"

    def updated(self, more: Mapping[K, V]) -> FrozenMap[K, V]:
        """With these values added or replaced."""
        return FrozenMap({**self._data, **more})

    def without(self, keys: Iterable[K]) -> FrozenMap[K, V]:
        """Without these keys."""
        gone = set(keys)
        return FrozenMap({k: v for k, v in self._data.items() if k not in gone})


@dataclass(frozen=True)
class Interface:
    """A network interface as one read of EC2 showed it; ``number`` is its rank, from 1."""

    id: str
    number: int
    groups: Groups
    vpc: str = ""
    managed: bool = False  # by AWS or another service: EC2 refuses changes
    kind: str = "interface"  # EC2's type of it
    position: Tuple[int, int] = (0, 0)  # network card, device index
    addresses: Tuple[str, ...] = ()  # private IPv4, secondary ones too, and IPv6

    @property
    def unfiltered(self) -> bool:
        """Does traffic of the node pass through it that its groups do not filter? Then nothing isolates it."""
        return self.kind in UNFILTERED


@dataclass(frozen=True)
class Instance:
    """An instance as one read of EC2 showed it; interfaces in order of (network card, device index).

    Attributes:
        lost_names: the names by which it was looked up, and which it does not have in this read.
        hibernated: EC2 has saved its memory, or may have. A start would continue it, with what it has not written
            yet, not boot.
    """

    id: str
    state: str
    interfaces: Tuple[Interface, ...] = ()
    tags: Mapping[str, str] = field(default_factory=FrozenMap)
    lost_names: Tuple[str, ...] = ()
    hibernated: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.tags, FrozenMap):
            object.__setattr__(self, "tags", FrozenMap(self.tags))

    @property
    def terminated(self) -> bool:
        """Nothing brings it back."""
        return self.state == "terminated"

    @property
    def lacks_primary(self) -> bool:
        """Is the primary interface, which cannot be detached, not shown? Then the read is behind, and ranks shift."""
        return all(i.position != (0, 0) for i in self.interfaces)

    @property
    def groups(self) -> Dict[str, Groups]:
        """The groups of each interface."""
        return {i.id: i.groups for i in self.interfaces}


@dataclass(frozen=True)
class IsolationSpec:
    """What the options say about isolation."""

    secg: Tuple[str, ...] = ()
    keep_only: bool = False  # invert_sg_removal
    untrack: Optional[str] = None
    without_backup: bool = False  # ignore_tag_write_failure

    @property
    def named(self) -> Groups:
        """The groups of ``secg``."""
        return frozenset(self.secg)

    @property
    def forbidden_groups(self) -> Groups:
        """Where groups are removed: those that an isolated interface must not have."""
        return self.named | ({self.untrack} if self.untrack else NONE)


@dataclass(frozen=True)
class BackupHistory:
    """Our tags of one instance, read: complete backup sets by interface and time, and every time in them."""

    lastfence: Optional[int] = None
    sets: Mapping[str, Mapping[int, Groups]] = field(default_factory=dict)
    times: FrozenSet[int] = frozenset()
    conflicting_sets: Mapping[str, Mapping[int, Tuple[Groups, ...]]] = field(
        default_factory=dict
    )  # of writers of the same second

    def at(self, interface: str, time: Optional[int]) -> Optional[Groups]:
        """The interface's complete set of that time."""
        return self.sets.get(interface, {}).get(time) if time is not None else None

    def latest(self, interface: str) -> Optional[Groups]:
        """The interface's latest complete set."""
        sets = self.sets.get(interface, {})
        return sets[max(sets)] if sets else None

    def all_of(self, interface: str) -> Iterator[Tuple[int, Groups]]:
        """Every complete set of the interface, with its time."""
        for time, first in self.sets.get(interface, {}).items():
            for groups in (first, *self.conflicting_sets.get(interface, {}).get(time, ())):
                yield time, groups


def tags_of(instance: Optional[Instance]) -> Mapping[str, Any]:
    """The tags that a read showed; none if it did not show the instance."""
    return instance.tags if instance else {}
