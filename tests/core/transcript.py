"""Plays off and on step by step against an EC2 in memory, and compares each step with a line of a transcript.

A line says what `decide` asks for and, behind "|", what EC2 makes of it:

    untrack e0:o e1:o   | e1 lost           the reply is lost; "lost before": the request is
    pause read          | stale groups      as they were before the latest change of groups; "tags" likewise
    write e0:ad e1:a    | refused
    check e0 e1         | e0 silent, e1 alive    or: answers, no route; dead, ended of a connection that is kept

"pause" stands where the step comes after a back-off, "wait" where it waits for a point in time. Groups are letters.
With several runs each line begins with the name of its run. What others do begins with "*".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple

from aws_vpc_net.core import off, on
from aws_vpc_net.core.backup import LASTFENCE
from aws_vpc_net.core.invariants import violations
from aws_vpc_net.core.model import FrozenMap, Groups, Instance, Interface, IsolationSpec
from aws_vpc_net.core.observe import observe
from aws_vpc_net.core.probing import Answer, Standing
from aws_vpc_net.core.protocol import (
    Answers,
    Changes,
    CheckAnswers,
    Connect,
    DataPlane,
    DeleteTags,
    Done,
    Effect,
    Fail,
    Failure,
    Instances,
    Knowledge,
    LookUpGroups,
    Networks,
    Outcome,
    Plan,
    Read,
    Result,
    SetGroups,
    Settle,
    StartInstance,
    Step,
    StopInstance,
    Succeed,
    Tick,
    WriteTags,
)
from aws_vpc_net.errors import Category

ID, OWN = "i-0000000000000000a", "i-0000000000000000b"
LETTERS = {letter: f"sg-{number * 17}" for letter, number in zip("adsioj", "123456")}
NAMES = {group: letter for letter, group in LETTERS.items()}
APP, DB, SSH, ISO, OPEN, ISO2 = LETTERS.values()
KEEP, REMOVE = IsolationSpec((ISO,), keep_only=True), IsolationSpec((APP,))
KEEP_UNTRACK = IsolationSpec((ISO,), keep_only=True, untrack=OPEN)
REMOVE_UNTRACK = IsolationSpec((APP,), untrack=OPEN)
PLANE = ("settle_seconds", "probe", "stop", "unknown_fencer")
EPOCH = 1_700_000_000
ANSWERS = {"answers": Answer.ANSWERED, "silent": Answer.SILENT, "no route": Answer.IMPOSSIBLE}
OUTCOMES = {
    "refused": Failure(Outcome.REFUSED, Category.MODIFICATION, "not permitted", "UnauthorizedOperation"),
    "no group": Failure(Outcome.REFUSED, Category.MODIFICATION, "InvalidGroup.NotFound", "InvalidGroup.NotFound"),
    "no iso2": Failure(
        Outcome.REFUSED, Category.MODIFICATION, f"InvalidGroup.NotFound: '{ISO2}'", "InvalidGroup.NotFound"
    ),
    "throttled": Failure(Outcome.TRANSIENT, Category.MODIFICATION, "throttled", "RequestLimitExceeded"),
    "lost": Failure(Outcome.UNKNOWN, Category.MODIFICATION, "no reply"),
    "not now": Failure(Outcome.REFUSED, Category.INSTANCE, "it is pending", "IncorrectInstanceState"),
    "gone": Failure(Outcome.GONE, Category.MODIFICATION, "no such interface"),
    "unallowed": Failure(Outcome.REFUSED, Category.MODIFICATION, "not permitted", "UnauthorizedOperation", True),
}


def groups(letters: str) -> Groups:
    return frozenset(LETTERS[letter] for letter in letters)


def eni(name: str) -> str:
    """The ID of "e0"."""
    return "eni-" + name[1] * 17


def address(interface: str) -> str:
    """Of this interface."""
    return f"10.0.0.{interface[4]}"


def shown(goals: Mapping[str, Groups]) -> str:
    """As a transcript shows groups: "e0:ad e1:a"."""
    return " ".join(f"e{i[4]}:{''.join(sorted(NAMES[g] for g in some))}" for i, some in sorted(goals.items()))


def parsed(text: str) -> Dict[str, Groups]:
    """The opposite of ``shown``."""
    return {eni(name): groups(letters) for name, _, letters in (word.partition(":") for word in text.split())}


class World:
    """EC2: one instance, and what it was before each change."""

    def __init__(self, interfaces: str = "e0:ad e1:as", tags: Mapping[str, str] = FrozenMap()) -> None:
        self.groups = parsed(interfaces)
        self.tags = dict(tags)
        self.numbers = {i: n for n, i in enumerate(self.groups, 1)}
        self.past_groups: List[Dict[str, Groups]] = []
        self.past_tags: List[Dict[str, str]] = []
        self.state, self.now = "running", 100.0
        self.own_is_fenced, self.own_groups, self.own_is_shown = False, "a", True
        self.vpcs: Dict[str, str] = {}
        self.addresses: Dict[str, Tuple[str, ...]] = {}  # in place of one for each
        self.more: Dict[str, Any] = {}  # of every interface: managed, kind

    def change(self, goals: Mapping[str, Groups]) -> None:
        self.past_groups.append(dict(self.groups))
        self.groups.update(goals)

    def write(self, tags: Mapping[str, str]) -> None:
        self.past_tags.append(dict(self.tags))
        self.tags.update(tags)

    def delete(self, tags: Mapping[str, str]) -> None:
        self.past_tags.append(dict(self.tags))
        self.tags = {k: v for k, v in self.tags.items() if tags.get(k) != v}

    def read(self, answer: str) -> Instance:
        """As it is, or "stale groups", "stale tags", "no tags", "without e1", "no name"."""
        some, tags = dict(self.groups), dict(self.tags)
        some = self.past_groups[-1] if "stale groups" in answer else some
        tags = self.past_tags[-1] if "stale tags" in answer else {} if "no tags" in answer else tags
        some = {i: g for i, g in some.items() if f"without e{i[4]}" not in answer}
        positions = {i: self.numbers.setdefault(i, len(self.numbers) + 1) for i in self.groups}
        numbers = {i: rank for rank, i in enumerate(sorted(some, key=positions.__getitem__), 1)}
        attached = tuple(
            Interface(
                i,
                numbers[i],
                g,
                self.vpcs.get(i, "vpc-1"),
                addresses=self.addresses.get(i, (address(i),)),
                **self.more,
            )
            for i, g in some.items()
        )
        lost = ("node1",) if "no name" in answer else ()
        state, _, how = self.state.partition(" ")
        return Instance(ID, state, attached, FrozenMap(tags), lost, how == "hibernated")

    def own(self) -> Instance:
        """The machine that runs the agent."""
        node = Interface(eni("e9"), 1, groups("i" if self.own_is_fenced else self.own_groups))
        backup = f'{{"n":{{"i":"{node.id}","s":["{APP[3:]}"],"c":{{"i":0,"t":1}}}},"t":5}}'
        tags = {LASTFENCE: "5", f"Original_SG_Backup_{OWN}_5_1_0": backup} if self.own_is_fenced else {}
        return Instance(OWN, "running", (node,), FrozenMap(tags))


@dataclass
class Run:
    """One invocation of off or on."""

    world: World
    decide: Callable[[Plan, Knowledge, Tick], Step]
    plan: Plan
    nonce: int = 0
    skew: int = 0
    knowledge: Knowledge = Knowledge()
    log: List[str] = field(default_factory=list)
    begun: Optional[float] = None
    in_flight: Optional[Tuple[Knowledge, Effect]] = None
    standing: Dict[str, Standing] = field(default_factory=dict)

    def tick(self) -> Tick:
        self.begun = self.world.now if self.begun is None else self.begun
        seconds = 45.0
        unix_time = EPOCH + int(self.world.now) + self.skew
        return Tick(self.world.now, self.begun + seconds - 5, self.begun + seconds, unix_time, self.nonce)

    def step(self, line: str) -> None:
        """The next step, as this line says."""
        expected, _, answer = (part.strip() for part in line.partition("|"))
        if self.in_flight is not None:
            (known, effect), self.in_flight = self.in_flight, None
            assert expected == "arrives"
            self._observe(known, effect, self._perform(effect, answer))
            return
        step = self.decide(self.plan, self.knowledge, self.tick())
        assert not violations(self.plan, self.knowledge, step, self.tick())
        self.log += [note.text for note in step.notes]
        said = self._said(step)
        assert said.startswith(expected) if expected.startswith("fail") else said == expected, f"{said!r}: {line!r}"
        self.world.now = max(self.world.now + (1 if step.backoff else 0.1), min(step.not_before, step.ends))
        action = step.action
        if isinstance(action, Settle):
            self.world.now, self.knowledge = max(self.world.now, action.until), step.knowledge
        elif answer == "in flight":
            assert not isinstance(action, (Succeed, Fail))
            self.in_flight = step.knowledge, action
        elif not isinstance(action, (Succeed, Fail)):
            self._observe(step.knowledge, action, self._perform(action, answer))

    def _observe(self, known: Knowledge, effect: Effect, result: Result) -> None:
        self.knowledge, notes = observe(self.plan, known, effect, result, self.tick())
        self.log += [note.text for note in notes]

    def _said(self, step: Step) -> str:
        before = "pause " if step.backoff else "wait " if step.not_before > self.world.now else ""
        return before + _said(step.action)

    def _perform(self, effect: Effect, answer: str) -> Result:
        if isinstance(effect, SetGroups):
            return self._set(effect, answer)
        if isinstance(effect, CheckAnswers):
            return self._check(effect, answer)
        failure = OUTCOMES.get(answer.partition(" before")[0])
        if failure is not None and answer != "lost":
            return failure
        if isinstance(effect, Read):
            there = {ID: self.world.read(answer), OWN: self.world.own()}
            hidden = ID if answer == "nothing" else None if self.world.own_is_shown else OWN
            read = {i: there[i] for i in effect.ids if i != hidden}
            return Instances(FrozenMap(read), self.world.now)
        if isinstance(effect, LookUpGroups):
            vpcs = {LETTERS[letter]: frozenset(("vpc-" + vpc,)) for letter, vpc in zip(answer[::2], answer[1::2])}
            return Networks(FrozenMap(vpcs))
        if isinstance(effect, WriteTags):
            self.world.write(effect.tags)
        elif isinstance(effect, DeleteTags):
            self.world.delete(effect.tags)
        elif isinstance(effect, (StartInstance, StopInstance)):
            self.world.state = "pending" if isinstance(effect, StartInstance) else "stopping"
        return failure or Done()

    def _check(self, effect: CheckAnswers, answer: str) -> Answers:
        """Before the first change all answer, afterwards all are silent, unless the line says otherwise."""
        default = Answer.SILENT if self.knowledge.probe.checked else Answer.ANSWERED
        answers = dict.fromkeys(effect.addresses, default)
        self.standing.update(dict.fromkeys(effect.keep, Standing.ALIVE))
        for part in answer.split(",") if answer else ():
            name, _, what = part.strip().partition(" ")
            if what in ANSWERS:
                answers[f"10.0.0.{name[1:]}"] = ANSWERS[what]
            else:
                self.standing[f"10.0.0.{name[1:]}"] = Standing(what)
        return Answers(FrozenMap(answers), FrozenMap(self.standing))

    def _set(self, effect: SetGroups, answer: str) -> Changes:
        failures: Dict[str, Optional[Failure]] = dict.fromkeys(effect.goals)
        reach = set(effect.goals)
        for part in answer.split(",") if answer else ():
            name, _, outcome = part.strip().partition(" ")
            failures[eni(name)] = OUTCOMES[outcome.partition(" before")[0]]
            reach -= set() if outcome == "lost" else {eni(name)}
        self.world.change({i: g for i, g in effect.goals.items() if i in reach})
        return Changes(FrozenMap(failures))


def _said(action: Any) -> str:
    if isinstance(action, Fail):
        return f"fail: {action.category.value}: {action.text}"
    if isinstance(action, Read):
        machines = " and ".join({ID: "target", OWN: "own"}[i] for i in action.ids)
        return f"read {machines}" if OWN in action.ids else "read"
    if isinstance(action, WriteTags):
        return f"write {shown(action.backup.originals)}" if action.backup else "claim"
    if isinstance(action, SetGroups):
        return f"{action.change.value} {shown(action.goals)}"
    if isinstance(action, (Connect, CheckAnswers)):
        word = "connect" if isinstance(action, Connect) else "check"
        keep = action.keep if isinstance(action, CheckAnswers) else ()
        names = [f"e{a[7:]}" for a in action.addresses], [f"e{a[7:]}" for a in keep]
        return " keep ".join([f"{word} {' '.join(names[0])}", *([" ".join(names[1])] if keep else [])])
    words = {Succeed: "success", Settle: "settle", DeleteTags: "delete", LookUpGroups: "look up"}
    words[StopInstance] = "stop"
    return words.get(type(action), "start")


def off_of(world: World, spec: IsolationSpec = KEEP, **options: Any) -> Run:
    """An off that begins now."""
    return _run(world, off.decide, spec, options)


def on_of(world: World, spec: IsolationSpec = KEEP, **options: Any) -> Run:
    """An on that begins now."""
    return _run(world, on.decide, spec, {**options, "restoring": True})


def _run(world: World, decide: Any, spec: IsolationSpec, options: Dict[str, Any]) -> Run:
    more = {key: options.pop(key) for key in ("nonce", "skew") if key in options}
    plane = {key: options.pop(key) for key in PLANE if key in options}
    return Run(world, decide, Plan(ID, spec, data_plane=DataPlane(**plane), **options), **more)


def play(run: Run, transcript: str, **others: Run) -> None:
    """Each line is the next step of ``run``; or of another, whose name it begins with."""
    for line in filter(None, map(str.strip, transcript.splitlines())):
        name, _, rest = line.partition(" ")
        if name == "*":
            _by_hand(run.world, rest)
        elif name.rstrip(":") in others:
            others[name.rstrip(":")].step(rest.strip())
        else:
            run.step(line)


def _by_hand(world: World, what: str) -> None:
    """ "groups e0:d", "attach e2:a", "detach e1", "state stopped", "12 s", "no tags", "cut e0" (its backup)."""
    word, _, rest = what.partition(" ")
    if word in ("groups", "attach"):
        world.change(parsed(rest))
    elif word == "detach":
        world.past_groups.append(dict(world.groups))
        del world.groups[eni(rest)]
    elif word == "state":
        world.state = rest
    elif word == "cut":
        world.write({k: v[:-4] for k, v in world.tags.items() if eni(rest) in v})
    elif rest == "tags":
        world.delete(dict(world.tags))
    else:
        assert rest == "s", what
        world.now += float(word)
