"""One invocation of the search: what it does next after each answer, looked up where it was decided before.

Time is each invocation's own: it knows points in time only in relation to its present, so these are kept relative.
A pause moves its clock; the deadline comes when an adversity says so.
"""

from dataclasses import dataclass, field, fields, replace
from typing import Any, Dict, FrozenSet, List, Optional, Tuple

from aws_vpc_net.core import invariants, observe, off, on
from aws_vpc_net.core.backup import RETURNED
from aws_vpc_net.core.model import FrozenMap
from aws_vpc_net.core.probing import ATTEMPT_SECONDS, Probe
from aws_vpc_net.core.protocol import (
    Answers,
    Changes,
    CheckAnswers,
    Connect,
    DeleteTags,
    Done,
    Fail,
    Failure,
    Instances,
    Knowledge,
    LookUpGroups,
    Networks,
    Outcome,
    Read,
    SetGroups,
    Settle,
    StartInstance,
    StopInstance,
    Succeed,
    Tick,
    WriteTags,
)
from aws_vpc_net.core.returning import Stopped, Verdict, judge
from aws_vpc_net.errors import Category

from .world import GROUPS, ID, STATIC, Actor, Network, Scenario

ENDS, RESERVE = 12.0, 16.0
NOW = 1_700_000_000
BACKOFF = 1.0
DEAD, SUCCEEDED, FAILED, LEFT_ALONE = -1, -2, -3, -4
LATER = 60  # seconds after a fence, in which monitor comes; other fences are as old
KINDS = {
    Read: "read", WriteTags: "write", DeleteTags: "delete", SetGroups: "set", LookUpGroups: "look up",
    Connect: "connect", CheckAnswers: "check", StartInstance: "start", StopInstance: "stop",
}  # fmt: skip


class Table:
    """Values, numbered."""

    def __init__(self) -> None:
        self.values: List[Any] = []
        self._numbers: Dict[Any, int] = {}

    def number(self, value: Any) -> int:
        """The number of this value."""
        found = self._numbers.get(value)
        if found is None:
            found = self._numbers[value] = len(self.values)
            self.values.append(value)
        return found


@dataclass(frozen=True)
class Begun:
    """A return of monitor that is not an ``on`` yet; what was judged, and the tag, once it is to be written."""

    verdict: Optional[Verdict] = None
    tag: str = ""


@dataclass(frozen=True)
class Pending:
    """An invocation that has decided its next effect; ``done``: what came of a part of it already."""

    actor: int
    flag: int  # 0; 1: no time for ordinary calls; 2: no time at all
    knowledge: Knowledge
    action: Any
    wait: float
    usable: bool
    logged: FrozenSet[Tuple[str, FrozenSet[str]]]
    done: Tuple[Tuple[str, str], ...] = ()
    begun: Optional[Begun] = None


@dataclass(frozen=True)
class Exit:
    """The end of an invocation."""

    actor: int
    succeeded: bool
    text: str
    changed: FrozenSet[str]
    logged: FrozenSet[Tuple[str, FrozenSet[str]]]


Decided = Tuple[int, Optional[Exit], Tuple[str, ...]]  # the next effect, or the end, and what is wrong with it


def _shifted(k: Knowledge, seconds: float) -> Knowledge:
    """The same, so many seconds later."""

    def later(point: float) -> float:
        return max(0.0, round(point - seconds, 3))

    t = k.timers
    timers = replace(t, **{f.name: later(getattr(t, f.name)) for f in fields(t)})
    if timers != t:
        k = replace(k, timers=timers)
    if k.probe.connected is not None:
        k = replace(k, probe=_probe_shifted(k.probe, seconds))
    late = {
        i: replace(p, opening=replace(p.opening, late_until=later(p.opening.late_until)))
        for i, p in k.interfaces.items()
        if p.opening.late_until
    }
    return replace(k, interfaces=k.interfaces.updated(late)) if late else k


def _probe_shifted(probe: Probe, seconds: float) -> Probe:
    """What was longer ago than an attempt takes, no decision depends on."""
    asked = None if probe.asked is None else max(-ATTEMPT_SECONDS, round(probe.asked - seconds, 3))
    addresses = FrozenMap({a: replace(o, since=0.0) for a, o in probe.addresses.items()})
    return replace(probe, asked=asked, addresses=addresses)


TRANSIENT = Failure(Outcome.TRANSIENT, Category.MODIFICATION, "throttled", "RequestLimitExceeded")
UNKNOWN = Failure(Outcome.UNKNOWN, Category.MODIFICATION, "the connection was closed", "ConnectionClosedError")
DENIED = Failure(Outcome.REFUSED, Category.PERMISSION, "denied", "UnauthorizedOperation", True)
NO_INTERFACE = Failure(Outcome.GONE, Category.MODIFICATION, "not found", "InvalidNetworkInterfaceID.NotFound")
NO_TIME = Failure(Outcome.UNKNOWN, Category.DEADLINE, "no time is left")
NOT_READ = Failure(Outcome.UNKNOWN, Category.RETRIEVAL, "no answer")
FAILURES: Dict[str, Optional[Failure]] = {
    "accepted": None, "throttled": TRANSIENT, "unknown": UNKNOWN, "refused": DENIED, "gone": NO_INTERFACE,
    "no time": NO_TIME, "not read": NOT_READ,
}  # fmt: skip


def ec2_refusal(groups: FrozenSet[str], vpc: str) -> str:
    """Which refusal EC2 answers to these groups, as a key of FAILURES; '' if it takes them."""
    gone = sorted(g for g in groups if g not in GROUPS)
    wrong = [g for g in groups if vpc not in GROUPS.get(g, ())]
    code = "InvalidGroup.NotFound"
    if gone:
        text = f"{code}: The security group '{gone[0]}' does not exist"
    elif wrong:
        text = f"{code}: You have specified two resources that belong to different networks."
    else:
        return ""
    FAILURES[text] = Failure(Outcome.REFUSED, Category.MODIFICATION, text, code)
    return text


@dataclass
class Tables:
    """What is known of invocations with the same options: scenarios with the same ``who`` may have them in common."""

    tags: Table = field(default_factory=Table)
    nets: Table = field(default_factory=Table)
    pendings: List[Pending] = field(default_factory=list)
    kinds: List[str] = field(default_factory=list)
    memo: List[Dict[Any, Decided]] = field(default_factory=list)
    numbers: Dict[Pending, int] = field(default_factory=dict)
    decided: Dict[Any, Decided] = field(default_factory=dict)
    parts: Dict[Tuple[int, str, str], Tuple[Any, Optional[int]]] = field(default_factory=dict)

    @staticmethod
    def who(scenario: Scenario) -> Any:
        """All that a decision depends on beside what the invocation has seen."""
        return scenario.actors, scenario.isolation


class Invocations:
    """Those of a scenario, and a plain off and on for what comes afterwards: their tables."""

    def __init__(self, scenario: Scenario, tables: Optional["Tables"] = None) -> None:
        self.scenario = scenario
        self.spec = scenario.isolation
        given = next((a.static for a in scenario.actors if a.static), FrozenMap())
        self.static = STATIC.updated(given) if given else given  # in the end, all of them
        recovery = Actor("off", 5, 0x777, static=self.static), Actor("on", 6, 0x888, static=self.static)
        self.actors = [*scenario.actors, *recovery]
        self.plans = [a.plan(self.spec) for a in self.actors]
        known = tables or Tables()
        self.tags, self.nets = known.tags, known.nets
        self.pendings, self.kinds, self.memo = known.pendings, known.kinds, known.memo
        self._numbers, self._decided, self._parts = known.numbers, known.decided, known.parts
        self.decisions = 0

    def name(self, actor: int) -> str:
        """Of an invocation."""
        return f"{'ABC'[actor]}({self.actors[actor]})" if actor >= 0 else "operator"

    def tick(self, actor: int, flag: int) -> Tick:
        """Its present."""
        a = self.actors[actor]
        return Tick(0.0, ENDS if flag == 0 else 0.0, RESERVE if flag < 2 else 0.0, NOW + a.skew, a.nonce)

    def begin(self, actor: int) -> int:
        """The pending effect of one that starts now."""
        if self.actors[actor].returning:
            return self.pending(Pending(actor, 0, Knowledge(), Read((ID,)), 0.0, True, frozenset(), begun=Begun()))
        return self._decide(actor, Knowledge(), frozenset(), 0)[0]

    def _decide(self, actor: int, k: Knowledge, logged: FrozenSet, flag: int) -> Decided:
        """Several answers may teach the same."""
        key = (actor, k, logged, flag)
        found = self._decided.get(key)
        if found is None:
            problems: List[str] = []
            found = self._decided[key] = (*self._decide_anew(actor, k, logged, flag, problems), tuple(problems))
        return found

    def _decide_anew(
        self, actor: int, k: Knowledge, logged: FrozenSet, flag: int, problems: List[str]
    ) -> Tuple[int, Optional[Exit]]:
        plan, tick = self.plans[actor], self.tick(actor, flag)
        decide = on.decide if plan.restoring else off.decide
        waited = 0.0
        for _ in range(20):
            self.decisions += 1
            step = decide(plan, k, tick)
            problems += invariants.violations(plan, k, step, tick)
            logged = logged | {item for note in step.notes for item in note.originals.items()}
            action = step.action
            if isinstance(action, (Succeed, Fail)):
                text = action.text if isinstance(action, Fail) else ""
                end = Exit(actor, not text, text, step.knowledge.possibly_changed, logged)
                return (FAILED if text else SUCCEEDED), end
            wait = max(BACKOFF if step.backoff else 0.0, step.not_before)
            if isinstance(action, Settle):
                wait = max(wait, action.until)
            wait = min(wait, max(0.0, step.ends))
            waited += wait
            k = _shifted(step.knowledge, wait)
            if not isinstance(action, Settle):
                break
        else:
            problems.append("decides for ever")
        return self.pending(Pending(actor, flag, k, action, waited, step.ends > 0, logged)), None

    def pending(self, pending: Pending) -> int:
        found = self._numbers.get(pending)
        if found is None:
            found = self._numbers[pending] = len(self.pendings)
            self.pendings.append(pending)
            self.memo.append({})
            self.kinds.append(KINDS[type(pending.action)])
        return found

    def part(self, number: int, interface: str, how: str) -> Tuple[Any, Optional[int]]:
        """What has come of the parts of an effect after this one, and the pending rest, if there is one."""
        found = self._parts.get((number, interface, how))
        if found is None:
            p = self.pendings[number]
            done = tuple(sorted((*p.done, (interface, how))))
            rest = None if len(done) == len(p.action.goals) else self.pending(replace(p, wait=0.0, done=done))
            found = self._parts[number, interface, how] = done, rest
        return found

    def answer(self, number: int, key: Any, flag: int) -> Decided:
        """What an invocation does next after this answer to its pending effect."""
        memo = self.memo[number]
        found = memo.get((key, flag))
        if found is None:
            found = memo[(key, flag)] = self._answer(number, key, flag)
        return found

    def _answer(self, number: int, key: Any, flag: int) -> Decided:
        p = self.pendings[number]
        if p.begun is not None:
            begun = self._begin_return(p, p.begun, key, flag)
            if begun is not None:
                return begun
        plan, tick = self.plans[p.actor], self.tick(p.actor, flag)
        k, notes = observe.observe(plan, p.knowledge, p.action, self._result(p, key), tick)
        logged = p.logged | {item for note in notes for item in note.originals.items()}
        return self._decide(p.actor, k, logged, flag)

    def _begin_return(self, p: Pending, begun: Begun, key: Any, flag: int) -> Optional[Decided]:
        """As auto_unfence.py does: judge a read, write the tag, judge another; None: on goes on from that one."""
        left_alone: Decided = LEFT_ALONE, Exit(p.actor, True, "", frozenset(), frozenset()), ()
        if isinstance(p.action, WriteTags):
            if key != "accepted" or flag:
                return left_alone
            return self.pending(replace(p, action=Read((ID,)))), None, ()
        if not isinstance(key, tuple) or flag:
            return left_alone
        actor = self.actors[p.actor]
        now = NOW + LATER + p.actor + actor.skew
        network: Network = self.nets.values[key[1]]
        stopped = Stopped(network.instance(self.tags.values[key[0]], by_name=actor.by_name), network.launched)
        returns = stopped.next_returns(now)
        if begun.verdict is None:
            verdict = judge(stopped, self.spec, {}, now, 0.0)
            if not verdict.returns:
                return left_alone
            tag = FrozenMap({RETURNED: str(returns)})
            write = replace(p, action=WriteTags(ID, tag), begun=Begun(verdict, tag[RETURNED]))
            return self.pending(write), None, ()
        tags = self.tags.values[key[0]].updated({RETURNED: begun.tag})
        shown = Stopped(network.instance(tags, by_name=actor.by_name), network.launched)
        return None if judge(shown, self.spec, {}, now, 0.0) is begun.verdict else left_alone

    def _result(self, p: Pending, key: Any) -> Any:
        if isinstance(p.action, SetGroups):
            return Changes(FrozenMap({i: FAILURES[how] for i, how in key}))
        if isinstance(p.action, LookUpGroups):
            known = {g: GROUPS[g] for g in p.action.groups if g in GROUPS}
            return Networks(FrozenMap(known)) if key == "accepted" else FAILURES[key]
        if isinstance(p.action, CheckAnswers):
            standing = {a: s for a, _, s in key if s}
            return Answers(FrozenMap({a: answer for a, answer, _ in key}), FrozenMap(standing))
        if isinstance(key, tuple):
            tags, net = key
            actor, known = self.actors[p.actor], self.tags.values[tags]
            if p.begun is not None:
                known = known.updated({RETURNED: p.begun.tag})
            shown = self.nets.values[net].instance(known, actor.probe, actor.by_name)
            return Instances(FrozenMap({ID: shown}))
        if key == "not shown":
            return Instances(FrozenMap())
        return Done() if key == "accepted" else FAILURES[key]
