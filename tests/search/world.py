"""The world of the search: what there is in EC2, who acts on it, and what may go wrong; all as values."""

from dataclasses import dataclass, replace
from typing import Dict, FrozenSet, Mapping, Optional, Tuple

from aws_vpc_net.core.model import FrozenMap, Groups, Instance, Interface, IsolationSpec
from aws_vpc_net.core.protocol import DataPlane, Plan, Restore

ID = "i-0000000000000000a"
APP, DB, ISO, OPEN, OTHER, EDITED, ISO2, MISSING = (f"sg-{c * 17}" for c in "abcdef12")
E0, E1, E2 = (f"eni-{c * 17}" for c in "012")
NAMES = "APP DB ISO OPEN OTHER EDITED ISO2 GONE E0 E1 E2".split()
SHORT = dict(zip((APP, DB, ISO, OPEN, OTHER, EDITED, ISO2, MISSING, E0, E1, E2), NAMES))

ADDRESS = {E0: "10.0.0.0", E1: "10.0.0.1", E2: "10.0.0.2"}

SPECS: Mapping[str, IsolationSpec] = {
    "keep": IsolationSpec((ISO,), True),
    "remove": IsolationSpec((APP,)),
    "keep+untrack": IsolationSpec((ISO,), True, OPEN),
    "remove+untrack": IsolationSpec((APP,), False, OPEN),
}
MODES = tuple(SPECS)


@dataclass(frozen=True)
class Nic:
    """An interface of the world."""

    id: str
    number: int
    groups: Groups
    vpc: str = "vpc-0"


@dataclass(frozen=True)
class Network:
    """The interfaces that are attached, and those that exist elsewhere; one that is in neither does not exist."""

    attached: Tuple[Nic, ...]
    elsewhere: Tuple[Nic, ...] = ()
    state: str = "running"  # of the instance
    launched: int = 1  # how often
    by_hand: bool = False  # an operator has stopped it, and nobody had fenced it
    renamed: bool = False  # another instance has the name by which it was found

    def find(self, interface: str) -> Optional[Nic]:
        """This interface, attached or not."""
        return next((n for n in (*self.attached, *self.elsewhere) if n.id == interface), None)

    def with_groups(self, interface: str, groups: Groups) -> "Network":
        """After a change of groups."""

        def changed(nics: Tuple[Nic, ...]) -> Tuple[Nic, ...]:
            return tuple(Nic(n.id, n.number, groups, n.vpc) if n.id == interface else n for n in nics)

        return replace(self, attached=changed(self.attached), elsewhere=changed(self.elsewhere))

    def without(self, interface: str) -> "Network":
        """As a read that lacks it shows it; or after it was deleted."""
        return replace(self, attached=tuple(n for n in self.attached if n.id != interface))

    def detached(self, interface: str) -> "Network":
        """After it was detached."""
        nic = next(n for n in self.attached if n.id == interface)
        return replace(self.without(interface), elsewhere=(*self.elsewhere, nic))

    def with_attached(self, nic: Nic) -> "Network":
        """After it was attached."""
        others = tuple(n for n in self.elsewhere if n.id != nic.id)
        attached = tuple(sorted((*self.attached, nic), key=lambda n: n.number))
        return replace(self, attached=attached, elsewhere=others)

    def started(self) -> "Network":
        """After a start; EC2 refuses one while it stops."""
        return replace(self, state="running", launched=self.launched + 1) if self.state == "stopped" else self

    def instance(self, tags: FrozenMap[str, str], addresses: bool = False, by_name: bool = False) -> Instance:
        """As a read shows it; ``addresses``: one of each interface, to whoever looks at them."""
        known = ADDRESS if addresses else {}
        own = {i: (address,) for i, address in known.items()}
        interfaces = [
            Interface(n.id, rank, n.groups, n.vpc, position=(0, n.number - 1), addresses=own.get(n.id, ()))
            for rank, n in enumerate(self.attached, 1)
        ]
        lost = ("node1",) if by_name and self.renamed else ()
        return Instance(ID, self.state, tuple(interfaces), tags, lost)


DEFAULT = Network((Nic(E0, 1, frozenset((APP, DB))), Nic(E1, 2, frozenset((APP, OTHER)))))
WORLDS: Mapping[str, Network] = {
    "default": DEFAULT,
    # removal mode: one that never had the group; keep mode: one that only has the isolation group by nature
    "never had it": Network((Nic(E0, 1, frozenset((APP, DB))), Nic(E1, 2, frozenset((OTHER,))))),
    "by nature": Network((Nic(E0, 1, frozenset((APP, DB))), Nic(E1, 2, frozenset((ISO,))))),
    "two VPCs": Network((Nic(E0, 1, frozenset((APP, DB))), Nic(E1, 2, frozenset((APP, OTHER)), "vpc-1"))),
}
GROUPS: Dict[str, FrozenSet[str]] = {  # the VPCs that take each group
    **{g: frozenset(("vpc-0", "vpc-1")) for g in (APP, DB, OPEN, OTHER, EDITED)},
    ISO: frozenset(("vpc-0",)),
    ISO2: frozenset(("vpc-1",)),
}
OTHERS = "other"  # how the keys of tags begin that are not of this agent
NEW = Nic(E2, 3, frozenset((APP, DB)))
# interfaceN-sg, if it is given: what the interfaces have had; and without one for the interface that is attached
STATIC: FrozenMap[int, Groups] = FrozenMap({n.number - 1: n.groups for n in (*DEFAULT.attached, NEW)})
FEW_STATIC = STATIC.without((2,))
# Others than these; where groups of secg are removed, one without any.
OTHER_STATIC: FrozenMap[int, Groups] = FrozenMap({0: frozenset((APP, EDITED)), 1: frozenset((OTHER,)), 2: NEW.groups})

# What may go wrong. "late": the reply is lost, and the change arrives later.
CRASH, STALE, UNREAD, UNSHOWN, LACKING, REFUSED, THROTTLED, LOST, LATE, DEADLINE, EVENT = KINDS = (
    "crash", "stale read", "read fails", "instance not shown", "interface not shown", "refused", "throttled",
    "reply lost", "late", "deadline", "event",
)  # fmt: skip


@dataclass(frozen=True)
class Actor:
    """One invocation."""

    action: str
    skew: int = 0
    nonce: int = 12345
    denied: FrozenSet[str] = frozenset()  # the interfaces that it may not change, and "tags"
    settle: float = 0.0
    probe: bool = False
    require_poweroff: bool = False
    returning: bool = False  # monitor makes it, of a stopped instance, which it starts
    by_name: bool = False  # the plug is a name
    static: FrozenMap[int, Groups] = FrozenMap()

    def __str__(self) -> str:
        return "return" if self.returning else self.action

    def plan(self, spec: IsolationSpec) -> Plan:
        """What it was asked for."""
        return Plan(
            ID,
            spec,
            static=self.static,
            ignore_instance_state=True,
            restoring=self.action == "on",
            restore=Restore(unattended=self.returning),
            power=self.returning or self.require_poweroff,
            data_plane=DataPlane(self.settle, self.probe, self.require_poweroff),
        )


@dataclass(frozen=True)
class Scenario:
    """Who acts on what, and how much may go wrong."""

    mode: str
    actors: Tuple[Actor, ...]
    start: str = "open"  # or fenced, fenced twice: by plain runs of off
    budget: int = 0
    kinds: FrozenSet[str] = frozenset(KINDS)
    world: str = "default"
    events: Tuple[str, ...] = ()
    spec: Optional[IsolationSpec] = None
    half: Optional[Tuple[str, int]] = None  # an off or on, killed after so many changes, before
    before: Tuple[str, ...] = ()  # what an operator did then, before all that is searched
    others: int = 0  # tags of others, which leave less room

    @property
    def isolation(self) -> IsolationSpec:
        """What the options say."""
        return self.spec or SPECS[self.mode]

    def __str__(self) -> str:
        actors = "||".join(f"{a}{'!' if a.denied else ''}" for a in self.actors)
        more = "" if self.kinds == frozenset(KINDS) or not self.budget else f" of {','.join(sorted(self.kinds))}"
        world = "" if self.world == "default" else f", {self.world}"
        half = f", then {self.half[0]} killed after {self.half[1]} changes" if self.half else ""
        half += "".join(f", {e}" for e in (*self.before, *self.events))
        half += "".join(f", skew {a.skew}" for a in self.actors if a.skew)
        half += "".join(f", settle {a.settle:g}" for a in self.actors if a.settle)
        half += ", probe" * any(a.probe for a in self.actors)
        half += ", stop" * any(a.require_poweroff for a in self.actors)
        half += ", by name" * any(a.by_name for a in self.actors)
        half += "".join({f", static groups of {len(a.static)}" for a in self.actors if a.static})
        half += f", {self.others} other tags" * bool(self.others)
        return f"{self.mode}: {actors}, {self.start}{half}{world}, adversities {self.budget}{more}"


def actors(*actions: str, skew: int = 0) -> Tuple[Actor, ...]:
    """These, each with its own chance; "return": the on of monitor."""
    nonces = (0x1234567, 0x89ABCDE, 0x3141592)
    names = ("on" if a == "return" else a for a in actions)
    return tuple(Actor(a, skew * n, nonces[n], returning=actions[n] == "return") for n, a in enumerate(names))
