"""Several invocations of the agent's actions on one EC2, taking turns at each API call in a chosen order.

Each invocation is a greenlet that stops at every call, with the call decided and not yet in effect; a schedule says
who goes next. The code that runs is the product's; replaced are the wire, the clock and chance.
"""

import random
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from types import SimpleNamespace
from typing import Any, Callable, Dict, FrozenSet, Iterator, List, Mapping, Optional, Sequence, Tuple

import pytest
from greenlet import greenlet

from aws_vpc_net import backup_tags, deadline, ec2, off, on, recording, rules
from aws_vpc_net.context import Context
from aws_vpc_net.deadline import Deadline
from aws_vpc_net.ec2 import CallContext, Ec2, Stats
from aws_vpc_net.errors import Category, FenceError
from aws_vpc_net.instances import InstanceOperations, parse_instance
from aws_vpc_net.rules import Book, Instance, Policy
from aws_vpc_net.security_groups import SecurityGroupOperations
from aws_vpc_net.settings import Settings
from aws_vpc_net.tags import TagOperations

from .memory import APP, E0, ID, ISO, OPEN, ORIGINALS, Memory, failing

CALLS = (
    "describe_instances",
    "create_tags",
    "delete_tags",
    "modify_network_interface_attribute",
)
CALL_SECONDS = 0.05
MOST_STEPS = 400

POLICIES = {
    "keep": Policy((ISO,), keep_only=True),
    "remove": Policy((APP,)),
    "keep+untrack": Policy((ISO,), keep_only=True, untrack=OPEN),
    "remove+untrack": Policy((APP,), untrack=OPEN),
}


# Three functions of the product, which are pure, called once for each input: most of the time went there.
_decode_once = lru_cache(maxsize=None)(backup_tags.decode)
_read = backup_tags.read
_books: Dict[Tuple[str, FrozenSet[Tuple[str, str]]], Book] = {}
_originals: Dict[Any, Mapping[str, FrozenSet[str]]] = {}


def _read_once(instance: Instance) -> Book:
    key = (instance.id, frozenset(instance.tags.items()))
    if key not in _books:
        _books[key] = _read(instance)
    return _books[key]


@dataclass(frozen=True)
class Actor:
    """One invocation: what it does, and what happens to it."""

    name: str
    action: str  # off, on, or edit: an operator who changes the groups of the first interface by hand
    dies_at: Optional[int] = None  # its n-th call, from 1, is the last thing it does
    effect: bool = True  # does that call take effect?
    stale: Dict[int, Tuple[int, int]] = field(default_factory=dict)  # n-th call -> changes of (tags, groups) behind
    skew: int = 0  # seconds that its clock is off
    denied: Tuple[str, ...] = ()  # interfaces that it may not change
    fails: Mapping[int, str] = field(
        default_factory=dict
    )  # n-th change of groups -> throttled, or lost (it took effect)
    swapped: bool = False  # reads show it the interfaces in another order
    edit: FrozenSet[str] = frozenset()  # the groups that the operator sets


class _Wire(Ec2):
    """The product's Ec2, whose attempts go to the explorer."""

    def __init__(self, run: "Run", actor: Actor, settings: Settings) -> None:
        self.now = 0.0
        super().__init__(settings, Deadline(settings.deadline, 0.0, lambda: self.now), Stats())
        self._run = run
        self._actor = actor

    def _connect(self) -> None:
        self._client = SimpleNamespace(meta=SimpleNamespace(method_to_api_mapping=dict.fromkeys(CALLS)))

    def _attempt(self, operation: str, purpose: CallContext, params: Dict[str, Any]) -> Dict[str, Any]:
        self.now += CALL_SECONDS
        reply: Dict[str, Any] = self._run.stop_at(self._actor, operation, purpose, params)
        return reply


@dataclass
class Outcome:
    """How an invocation ended: None is success."""

    error: Optional[BaseException]


@dataclass(frozen=True)
class Read:
    """A read: its step, and up to which steps it shows the changes of tags and of groups."""

    step: int
    tags: int
    groups: int

    @property
    def stale(self) -> bool:
        """Does it show less than there is?"""
        return min(self.tags, self.groups) < self.step


class Run:
    """One schedule, played from the start."""

    def __init__(self, mode: str, actors: Sequence[Actor], memory: Optional[Memory] = None) -> None:
        self.mode = mode
        self.policy = POLICIES[mode]
        self.memory = memory or Memory()
        self.actors = list(actors)
        self.outcomes: Dict[str, Outcome] = {}
        self.steps: List[Tuple[str, str]] = []  # (actor, operation) in order of effect
        self.trace: List[str] = []  # what each step asked for
        self.reads: Dict[str, List[Read]] = {a.name: [] for a in actors}
        self.problems: List[str] = []
        self.in_window = False  # see _check_originals
        self.windows = 0
        self._made: Dict[str, int] = {}
        self._dead: Dict[str, bool] = {}
        self._wires: Dict[str, _Wire] = {}
        self._current = ""
        self._main = greenlet.getcurrent()
        self._lets = {a.name: greenlet(lambda a=a: self._live(a)) for a in actors}
        self._asked: Dict[str, Callable[[], Any]] = {}
        self.memory.denied = {(a.name, i) for a in actors for i in a.denied}
        self.memory.swapped = {a.name for a in actors if a.swapped}
        edits = {a.edit for a in actors if a.action == "edit"}
        self.originals = {i: {g, *(edits if i == E0 else ())} for i, g in ORIGINALS.items()}  # any of them

    # Invocations

    def _live(self, actor: Actor) -> None:
        settings = Settings(
            action=actor.action,
            plugs=(ID,),
            policy=self.policy,
            skip_race_check=True,
            deadline=30.0,
            api_seconds=1.0,
            settle_seconds=0.0,
        )
        wire = self._wires[actor.name] = _Wire(self, actor, settings)
        tools = Context(settings, wire, InstanceOperations(wire), SecurityGroupOperations(wire), TagOperations(wire))
        try:
            if actor.action == "edit":
                tools.groups.set_groups({E0: actor.edit}, Category.MODIFICATION)
            elif actor.action == "off":
                off.run(tools, off.prepare(tools, [ID])[0])
            else:
                on.run(tools, ID)
            self.outcomes[actor.name] = Outcome(None)
        except FenceError as error:
            self.outcomes[actor.name] = Outcome(error)
        except Exception as error:  # noqa: BLE001 - to be reported with its schedule
            self.outcomes[actor.name] = Outcome(error)
            self.problems.append(f"{actor.name} raised {error!r}")

    def stop_at(self, actor: Actor, operation: str, purpose: CallContext, params: Dict[str, Any]) -> Any:
        """Called by an invocation with a decided call; returns when it is this one's turn again."""

        def effect() -> Any:
            number = self._made[actor.name] = self._made.get(actor.name, 0) + 1
            dies = actor.dies_at == number
            reply = None
            if not dies or actor.effect:
                back = actor.stale.get(number, (0, 0))
                if operation == "describe_instances":
                    self.reads[actor.name].append(Read(len(self.steps), *self._shown(*back)))
                self.steps.append((actor.name, operation))
                self.trace.append(_brief(params))
                fault = self._fault(actor, operation)
                if fault != "throttled":
                    reply = self.memory.perform(actor.name, operation, purpose, params, back)
                if fault:
                    raise failing(purpose, operation, fault)
            if dies:
                self._dead[actor.name] = True
                self._main.switch()  # for ever
            return reply

        self._asked[actor.name] = effect
        self._main.switch()
        return self._asked.pop(actor.name)()

    def _fault(self, actor: Actor, operation: str) -> Optional[str]:
        if operation != "modify_network_interface_attribute":
            return None
        return actor.fails.get(sum(step == (actor.name, operation) for step in self.steps))

    # The schedule

    def alive(self) -> List[str]:
        """Who can go next."""
        return [a.name for a in self.actors if not self._lets[a.name].dead and not self._dead.get(a.name)]

    def step(self, name: str) -> None:
        """Let an invocation make its decided call and go on to decide the next."""
        self._current = name
        self._lets[name].switch()
        if self.steps and self.steps[-1][1] != "describe_instances":  # a read changes nothing
            self._check_originals()

    def start(self) -> None:
        """Bring every invocation to its first call."""
        for actor in self.actors:
            self._current = actor.name
            self._lets[actor.name].switch()

    def _shown(self, tags_back: int, groups_back: int) -> Tuple[int, int]:
        """Up to which steps a read that is so many changes behind shows tags and groups."""
        tags = [n for n, (_, o) in enumerate(self.steps) if o in ("create_tags", "delete_tags")]
        groups = [n for n, (_, o) in enumerate(self.steps) if o == "modify_network_interface_attribute"]
        found = [
            some[-back:][0] if back and some else len(self.steps)
            for some, back in ((tags, tags_back), (groups, groups_back))
        ]
        return found[0], found[1]

    # Seen from outside

    def now(self) -> Instance:
        """The instance as it is."""
        raw = self.memory._describe()["Reservations"][0]["Instances"][0]
        return parse_instance(raw)

    def is_cut(self) -> bool:
        """Do all interfaces have the groups of a fenced node?"""
        return all(rules.cut(g, self.policy) for g in self.memory.groups.values())

    def _check_originals(self) -> None:
        """Invariant 4: what is not as it was can be read from the tags.

        But for one window: an ``on`` deletes the record between a read of an ``off`` and the change that this read
        decided; or an ``off`` changes groups between a read of an ``on`` and the deletion that this read decided.
        No order of calls closes it; the next read of that ``off`` does.
        """
        key = (self.mode, *self.memory.groups.items(), *sorted(self.memory.tags.items()))
        if key not in _originals:
            seen = self.now()
            _originals[key] = rules.originals(seen, backup_tags.read(seen), self.policy)
        found = _originals[key]
        lost = [i for i, g in self.memory.groups.items() if not {g, found.get(i)} & self.originals[i]]
        if not lost:
            self.in_window = False
        elif not self.in_window:
            self.in_window = self._crossed(*self.steps[-1])
            self.windows += self.in_window
            if not self.in_window:
                self.problems.append(
                    f"the originals of {', '.join(lost)} are not in the tags after {len(self.steps)} calls"
                )

    def _crossed(self, name: str, operation: str) -> bool:
        """Did this change and one of another invocation cross, both decided by what reads showed of before either?"""
        latest = self.reads[name][-1] if self.reads[name] else Read(0, 0, 0)
        if operation == "delete_tags":
            return self._changed(name, "modify_network_interface_attribute", latest.groups)
        return self._changed(name, "delete_tags", latest.tags)

    def _changed(self, name: str, operation: str, since: int) -> bool:
        """Did anybody but this one make such a call since that step?"""
        return any(o == operation and who != name for who, o in self.steps[since:])

    def first(self, name: str, operation: str) -> int:
        """When this call of an invocation took effect first."""
        return self.steps.index((name, operation)) if (name, operation) in self.steps else MOST_STEPS

    @contextmanager
    def patched(self) -> Iterator[None]:
        """Clock and chance of this run: the same schedule always plays the same."""
        dice = random.Random(1)
        skews = {a.name: a.skew for a in self.actors}

        def sleep(seconds: float) -> None:
            self._wires[self._current].now += seconds

        clock = SimpleNamespace(time=lambda: 1_700_000_000.0 + skews.get(self._current, 0), sleep=sleep)
        with pytest.MonkeyPatch.context() as patch:
            for module in (recording, deadline):
                patch.setattr(module, "time", clock)
                patch.setattr(module, "random", dice)
            patch.setattr(ec2, "CONNECTIONS", 1)
            patch.setattr(backup_tags, "read", _read_once)
            patch.setattr(backup_tags, "decode", _decode_once)
            yield


def _brief(params: Dict[str, Any]) -> str:
    if "Groups" in params:
        return f"{params['NetworkInterfaceId'][:5]} {[g[:4] for g in params['Groups']]}"
    return " ".join(t["Key"][-12:] for t in params.get("Tags", ()))


Choose = Callable[[int, List[str]], str]


def play(mode: str, actors: Sequence[Actor], choose: Choose, memory: Optional[Memory] = None) -> Run:
    """Play one schedule to its end; ``choose`` says who of the living goes at each step."""
    run = Run(mode, actors, memory)
    with run.patched():
        run.start()
        for number in range(MOST_STEPS):
            living = run.alive()
            if not living:
                return run
            run.step(choose(number, living))
    run.problems.append(f"no end after {MOST_STEPS} calls")
    return run


def every_order(
    mode: str, actors: Sequence[Actor], switches: Optional[int] = None, memory: Optional[Memory] = None
) -> Iterator[Tuple[str, Run]]:
    """All schedules, or those with at most so many switches away from one that could go on; (schedule, run).

    Each begins in a copy of ``memory``.
    """
    prefix: Optional[List[str]] = []
    while prefix is not None:
        taken: List[str] = []
        options: List[List[str]] = []

        def choose(  # the defaults bind this round's lists
            number: int,
            living: List[str],
            wanted: Sequence[str] = tuple(prefix or ()),
            taken: List[str] = taken,
            options: List[List[str]] = options,
        ) -> str:
            last = taken[-1] if taken else None
            order = sorted(living, key=lambda n: (n != last, n))
            spent = sum(last_one != one for last_one, one in zip(taken, taken[1:]))
            if switches is not None and last in living and spent >= switches:
                order = [str(last)]
            name = wanted[number] if number < len(wanted) else order[0]
            options.append(order)
            taken.append(name)
            return name

        run = play(mode, actors, choose, memory and memory.copy())
        yield "".join(taken), run
        prefix = _next(taken, options)


def _next(taken: List[str], options: List[List[str]]) -> Optional[List[str]]:
    """The next prefix in depth-first order."""
    for depth in range(len(taken) - 1, -1, -1):
        position = options[depth].index(taken[depth])
        if position + 1 < len(options[depth]):
            return [*taken[:depth], options[depth][position + 1]]
    return None


def random_orders(
    mode: str, actors: Sequence[Actor], count: int, seed: int, memory: Optional[Memory] = None
) -> Iterator[Tuple[str, Run]]:
    """So many random schedules; the seed replays them."""
    dice = random.Random(seed)
    for _ in range(count):
        taken: List[str] = []

        def choose(_number: int, living: List[str], taken: List[str] = taken) -> str:
            taken.append(dice.choice(living))
            return taken[-1]

        run = play(mode, actors, choose, memory and memory.copy())
        yield "".join(taken), run


def replay(mode: str, actors: Sequence[Actor], schedule: str) -> Run:
    """A schedule that was printed, again."""
    return play(mode, actors, lambda number, living: schedule[number] if number < len(schedule) else living[0])
