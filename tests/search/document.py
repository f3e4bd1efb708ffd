"""The parts of doc/dev/safety.md that follow from the core: computed here, never typed.

    PYTHONPATH=lib:tests build/venv/bin/python -m search.document            # print them
    PYTHONPATH=lib:tests build/venv/bin/python -m search.document --update   # write them into the page

Off and on are played alone, with one adversity of every kind, and beside one another without any; each decision that
comes up is a row or an edge. ``test_document.py`` holds the page and the core equal.
"""

import inspect
import re
import sys
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any, Callable, Dict, FrozenSet, Iterator, List, Mapping, Optional, Tuple

from aws_vpc_net.core import backup as tags_of
from aws_vpc_net.core import invariants, observe, off, on, rolling_back
from aws_vpc_net.core.backing_up import opens_after_another_off
from aws_vpc_net.core.isolating import may_untrack, rollback_groups
from aws_vpc_net.core.isolation import (
    amend_backup,
    groups_to_restore,
    has_groups_to_remove,
    is_off,
    is_untracking,
    isolated_without_backup,
    matches_isolation,
    set_by_fencer,
)
from aws_vpc_net.core.model import Instance, IsolationSpec
from aws_vpc_net.core.protocol import (
    DeleteTags,
    Fail,
    Knowledge,
    LookUpGroups,
    Phase,
    Plan,
    Read,
    Reads,
    SetGroups,
    Settle,
    StartInstance,
    Step,
    Succeed,
    Tick,
    WriteTags,
)

from .engine import Search
from .invocations import FAILURES, NOW, Pending, _shifted, ec2_refusal
from .truth import State
from .world import CRASH, DEADLINE, E0, E1, ID, ISO, ISO2, LATE, LOST, MODES, REFUSED, UNREAD, Actor, Scenario, actors

PAGE = Path(__file__).parents[2] / "doc" / "dev" / "safety.md"
MARK = r"(<!-- generated: {} -->\n).*?(<!-- end -->)"
MAX_CONDITIONS = 4
POWER = "`unfence_poweron` is set"  # not in the table: it would double the rows that succeed


# --- every decision of some scenarios ---------------------------------------------------------------------------


Texts = Iterator[Tuple[str, str]]
Observed = FrozenSet[Tuple[str, str]]


class Alone(Search):
    """A search whose runs look at their own machine too, as the agent's do; no read shows it fenced."""

    def __init__(self, scenario: Scenario, power: bool = False) -> None:
        super().__init__(scenario)
        own = "i-0000000000000000b"
        self.plans = [replace(p, power=power) if p.restoring else replace(p, own=own) for p in self.plans]


@dataclass(frozen=True)
class Decision:
    """One decision: where the run was, what it had just observed, and what it does next."""

    action: str
    phase: Phase
    observed: Tuple[Tuple[str, str], ...]
    effect: str
    then: Optional[Phase]  # None: the run ends


def scenarios() -> Iterator[Scenario]:
    """Together these come to every phase."""
    for mode in MODES:
        yield Scenario(mode, actors("off"), "open", 1)
        yield Scenario(mode, (Actor("off", settle=2.0),), "open", 0)
    for mode in ("keep", "remove"):
        yield from (Scenario(mode, actors("on"), start, 1) for start in ("open", "fenced", "fenced twice"))
        yield Scenario(mode, actors("off"), "open", 1, world="by nature")
    yield Scenario("keep", actors("off"), "fenced", 1)
    several = IsolationSpec((ISO, ISO2), True)
    yield Scenario("keep", actors("off"), "open", 1, world="two VPCs", spec=several)
    yield Scenario("keep", actors("off"), "open", 1, spec=IsolationSpec((ISO,), True, without_backup=True))
    yield Scenario("keep+untrack", actors("off"), "open", 2, frozenset((LATE, DEADLINE, REFUSED)))
    yield Scenario("keep", actors("off", "on"), "open", 0)
    yield from (refused("keep", other) for other in ("off", "on"))


def refused(mode: str, *others: str, denied: FrozenSet[str] = frozenset((E1,)), **more: Any) -> Scenario:
    """An off to which EC2 denies some interfaces, and others beside it."""
    first, *rest = actors("off", *others)
    return Scenario(mode, (replace(first, denied=denied), *rest), **more)


def decisions_of(search: Search) -> Iterator[Tuple[Plan, Pending, Any, Knowledge, Step, Tick]]:
    """Each decision that the runs of a search came to, with the effect and the answer before it."""
    for number, memo in enumerate(search.memo):
        p = search.pendings[number]
        for key, flag in memo:
            plan, tick = search.plans[p.actor], search.tick(p.actor, flag)
            k, _ = observe.observe(plan, p.knowledge, p.action, search._result(p, key), tick)
            while True:
                step = decide(plan, k, tick)
                yield plan, p, key, k, step, tick
                if not isinstance(step.action, Settle):
                    break
                k = _shifted(step.knowledge, min(step.action.until, step.ends))


def decide(plan: Plan, k: Knowledge, tick: Tick) -> Step:
    """Of off, or of on."""
    return (on if plan.restoring else off).decide(plan, k, tick)


def explore() -> List[Decision]:
    """All decisions, each once."""
    found: Dict[Decision, None] = {}
    starts = [Scenario("keep", actors("on"), start) for start in ("open", "fenced", "fenced twice")]
    searches = [Alone(s) for s in scenarios()] + [Alone(s, power=True) for s in starts]
    for search in searches:
        search.run()
        for plan, p, key, k, step, tick in decisions_of(search):
            action = "on" if plan.restoring else "off"
            then = None if isinstance(step.action, (Succeed, Fail)) else step.knowledge.phase
            observed = tuple(observation(plan, p, key, k, tick).items())
            found[Decision(action, k.phase, observed, in_words(step.action), then)] = None
    for decision in [*_beginning(), *_power()]:
        found[decision] = None
    return list(found)


def _beginning() -> Iterator[Decision]:
    for action in ("off", "on"):
        yield Decision(action, Phase.FIRST, (("result", "nothing yet"),), "read", Phase.FIRST)


def _power() -> Iterator[Decision]:
    """The start of an instance, which the search does not play."""
    plan = Plan(ID, IsolationSpec((ISO,), True), restoring=True, power=True)
    for phase in (Phase.POWER, Phase.START):
        for state in ("pending", "running", "shutting-down", "stopped", "stopping", "terminated"):
            k = Knowledge(phase, Reads(latest=Instance(ID, state), fresh=True))
            step = decide(plan, k, Tick(0.0, 1.0, 1.0, NOW, 0))
            then = None if isinstance(step.action, (Succeed, Fail)) else step.knowledge.phase
            yield Decision("on", phase, (("state", f"it is {state}"),), in_words(step.action), then)


def in_words(action: Any) -> str:
    """An effect, or an end."""
    if isinstance(action, SetGroups):
        return action.change.value
    if isinstance(action, WriteTags):
        return "write the backup" if action.backup else "claim the backup"
    words = {Read: "read", DeleteTags: "delete the tags", LookUpGroups: "look up groups", StartInstance: "start it"}
    words.update({Settle: "wait", Succeed: "succeed", Fail: "fail"})
    return words[type(action)]


# --- what was observed ------------------------------------------------------------------------------------------


def observation(plan: Plan, p: Pending, key: Any, k: Knowledge, tick: Tick) -> Dict[str, str]:
    """What a run knows when it decides, as far as some decision depends on it: each kind in words."""
    texts = dict(_result(p, key, k))
    if k.failure is None and k.latest is not None and k.reads.fresh and isinstance(p.action, Read):
        texts.update(_of_restore(plan, k, k.latest) if plan.restoring else _of_read(plan, k, k.latest, tick))
    if k.phase in (Phase.CHANGE, Phase.VERIFY):
        texts["refusals"] = "EC2 refused a change" if k.refused else "no refusal"
        texts.update(_of_changes(plan, k))
    if k.phase in (Phase.DOUBT, Phase.BACKUP, Phase.ROLL_BACK, Phase.LOOK_BACK):
        texts["patience"] = "waited long enough" if tick.now >= k.timers.patience else "not waited long enough"
    if k.phase in (Phase.CHANGE, Phase.VERIFY, Phase.SETTLE, Phase.ROLL_BACK, Phase.REISOLATE, Phase.END):
        texts["late"] = "a change may still arrive" if k.late(tick.now) else "nothing may still arrive"
    if k.phase is Phase.BACKUP:
        texts["optional"] = "the backup is optional" if plan.spec.without_backup else "the backup is required"
    if k.phase is Phase.DELETE and k.first:
        kept = on.has_restorable_backup(plan, k.first)
        texts["kept"] = "there was a backup to restore" if kept else "there was none to restore"
    if plan.power:
        texts["power"] = POWER
    texts["time"] = "deadline over" if tick.expired else "in time"
    texts["reserve"] = "reserve over" if tick.reserve_expired else "reserve left"
    return texts


def _result(p: Pending, key: Any, k: Knowledge) -> Texts:
    """The answer to the effect."""
    if isinstance(p.action, Read):
        yield "result", "read fails" if k.failure else "instance not shown" if k.latest is None else "read"
        return
    answers = {h for _, h in key} if isinstance(p.action, SetGroups) else {key}
    accepted = answers == {"accepted"}
    yield "result", f"{in_words(p.action)}: {'accepted' if accepted else 'not accepted'}"
    names = {"refused": "refused", "unknown": "no reply", "throttled": "throttled", "no time": "no time"}
    if not accepted:
        yield "how", next((text for word, text in names.items() if word in answers), "refused")


def _of_read(plan: Plan, k: Knowledge, latest: Instance, tick: Tick) -> Texts:
    """A read of off."""
    spec, history, b = plan.spec, tags_of.read(latest), k.backup
    some = {i: g for i, g in latest.groups.items() if k.phase is not Phase.REISOLATE or i in k.reopened}
    isolated = [i for i, g in some.items() if matches_isolation(g, spec)]
    what = "what was rolled back" if k.phase is Phase.REISOLATE else "all"
    yield "groups", f"{what} isolated" if len(isolated) == len(some) else f"not {what} isolated"
    yield "tags", _tags(k, latest)
    if k.phase in (Phase.FIRST, Phase.AGAIN, Phase.DOUBT):
        doubt = isolated_without_backup(latest, history, spec)
        yield "doubt", "something is isolated without a backup" if doubt else "nothing is isolated without a backup"
        several = len({i.vpc for i in latest.interfaces}) > 1
        repeated = spec.keep_only and opens_after_another_off(plan, latest)
        usual = "one VPC, no untracking after an earlier off"
        yield "vpcs", "several VPCs" if several else "untracking is due after an earlier off" if repeated else usual
        removable = "there are groups to remove" if has_groups_to_remove(latest, spec) else "no group to remove"
        yield "remove", "groups are kept" if spec.keep_only else removable
    if k.phase is Phase.BACKUP and b.latest:
        others = tags_of.foreign_backups(latest, b.written)
        agrees = amend_backup(b.originals, latest, others, spec, b.first_times, before_first_change=True) is None
        yield "agrees", "the backup agrees with this read" if agrees else "the backup does not agree with this read"
        due = spec.untrack and any(i in some and i not in isolated for i in k.interfaces)
        yield "untrack", "untracking is due" if due else "no untracking is due"
    if k.backup.missing:
        yield "rewrite", f"{'' if tick.now >= k.timers.rewrite else 'not '}due to be written again"
    if k.phase is Phase.GIVE_UP:
        reason = rolling_back.why_not_rolled_back(plan, k)
        yield "alone", f"because {reason}" if reason else "roll-back is allowed"
        yield "claimed", "an on has claimed it" if rolling_back.is_claimed(k, latest) else "no on has claimed it"
        goals = {i: rollback_groups(plan, k, i) for i in k.possibly_changed if i in some}
        undo = any(g and g != k.interfaces[i].goal for i, g in goals.items())
        yield "changed", "there is something to roll back" if undo else "there is nothing to roll back"
        left = any(is_untracking(g, spec) for g in some.values())
        yield "untracking", "something is untracking" if left else "nothing is untracking"
    if k.phase is Phase.ROLL_BACK:
        yield "changed", "something was rolled back" if k.reopened else "nothing was rolled back"
    if k.phase is Phase.REISOLATE:
        yield "any", "a part of it isolated" if isolated else "nothing of it isolated"


def _tags(k: Knowledge, latest: Instance) -> str:
    shown = bool(tags_of.own(latest.tags, latest.id))
    if k.backup.latest is None:
        return "this run has no backup" if k.phase is Phase.VERIFY else "earlier tags" if shown else "no tags"
    if not shown:
        return "no tags"
    if k.backup.missing:
        return "own backup not shown"
    if k.phase is Phase.VERIFY:
        new = k.backup.history.has_foreign_writes(latest) and not k.backup.answered
        return "tags of another fencer, not yet answered" if new else "no new tags of another fencer"
    alone = tags_of.is_sole_writer(latest, k.backup.latest)
    return "own backup alone" if alone else "own backup and another one"


def _of_restore(plan: Plan, k: Knowledge, latest: Instance) -> Texts:
    """A read of on."""
    spec, b, history = plan.spec, k.backup, tags_of.read(latest)
    kept = groups_to_restore(latest, history, spec)
    if k.phase in (Phase.FIRST, Phase.AGAIN, Phase.DOUBT):
        isolated = any(matches_isolation(i.groups, spec) for i in latest.interfaces)
        yield "match", "an interface matches isolation" if isolated else "no interface matches isolation"
        yield "goals", "a backup to restore" if kept else "no backup to restore"
        yield "tags", "tags" if on.leftovers(plan, latest) else "no tags"
    if k.phase is Phase.DOUBT:
        yield "isolated", "an interface is isolated" if on.looks_fenced(plan, latest) else "no interface is isolated"
    if k.phase in (Phase.VERIFY, Phase.REISOLATE):
        foreign = b.history.tags and b.history.has_foreign_writes(latest, claims=False)
        yield "foreign", "an off has written since" if foreign else "no off has written since"
    if k.phase is Phase.VERIFY:
        goals = {i: p.open_groups for i, p in k.interfaces.items()}
        right = all(goals.get(i.id, i.groups) == i.groups for i in latest.interfaces)
        yield "groups", "all restored" if right else "not all restored"
        again = k.first and set(groups_to_restore(latest, tags_of.read(k.first), spec)) - set(k.interfaces)
        yield "again", "an interface with a backup is attached again" if again else "no interface is attached again"
    if k.phase is Phase.REISOLATE:
        groups = [latest.groups[i] for i in k.reopened if i in latest.groups]
        closed = all(matches_isolation(g, spec) for g in groups)
        yield "groups", "what was restored isolated" if closed else "not what was restored isolated"
    if k.phase is Phase.LOOK_BACK:
        stale = set(tags_of.own(latest.tags, latest.id).items()) & b.history.tags
        yield "stale", "the deleted tags are still shown" if stale else "the deleted tags are gone"
        lost = [
            i.id
            for i in latest.interfaces
            if set_by_fencer(i.groups, spec)
            and i.id in b.originals
            and i.id not in kept
            and i.groups != b.originals[i.id]
        ]
        yield "lost", "something is isolated without a backup" if lost else "nothing is isolated without a backup"


def _of_changes(plan: Plan, k: Knowledge) -> Texts:
    """What the changes of this run came to."""
    progress = k.interfaces.values()
    yield "accepted", "every change accepted" if all(p.accepted for p in progress) else "not every change accepted"
    if k.phase is Phase.CHANGE:
        yield "opened", "this run left something open" if k.opened else "nothing left open"
        seen = not k.opened or max(k.timers.settled, k.timers.arrived) <= 0  # relative to the present
        yield "seen", "the network has followed" if seen else "the network has not followed"
        untracking = any(may_untrack(plan, k, i) for i in k.round)
        yield "untrack", "an interface is still to be untracked" if untracking else "none is to be untracked"
        left = k.round - k.refused
        yield "round", "an interface is still to be isolated" if left else "none is left to isolate"
        failures = [(p.goal, p.failure) for i, p in k.interfaces.items() if i in left and p.failure and not p.outcome]
        unknown = any(k.groups.needs_look_up(plan.spec, g, f.code, f.text) for g, f in failures)
        yield "look up", "EC2 did not say which group it refused" if unknown else "no look-up is due"
        back = k.round & k.refused & k.opened
        yield "back", "a refused one is open" if back else "no refused one is open"
        changed = k.possibly_changed or any(p.opening.untrack_attempts for p in progress)
        yield "changed", "something was changed" if changed else "nothing was changed"
        return
    wrong = max((p.wrong_reads for p in progress if p.accepted), default=0)
    if plan.restoring:
        texts = (
            "no accepted change reads otherwise",
            "an accepted change reads otherwise",
            "it does so twice in a row",
        )
        yield "twice", texts[wrong]
        yield (
            "settled",
            "asked after all could have arrived" if k.reads.in_time else "asked before all could have arrived",
        )
        return
    new = k.latest and set(k.latest.groups) - set(k.interfaces)
    yield "new", "an interface appeared" if new else "no interface appeared"
    yield "untrack", "untracking is due" if any(p.opening.untrack_due for p in progress) else "no untracking is due"
    yield "settled", "asked after the network followed" if k.reads.in_time else "asked before the network followed"
    texts = ("nothing is open again", "something is open again", "something is open again, twice in a row")
    yield "twice", texts[wrong]
    written = k.backup.latest
    under = any(p.wrong_reads and p.accepted and written and p.under == written.time for p in progress)
    yield "under", "it was isolated under the latest backup" if under else "it was isolated under an earlier backup"
    blocked = k.backup.failure is not None
    yield "blocked", "the backup cannot be written again" if blocked else "the backup can be written"


# --- the diagrams and the table of decisions --------------------------------------------------------------------


def diagram(action: str, decisions: List[Decision]) -> str:
    """Phase to another phase, labelled by the effect; without failures."""
    edges: Dict[Tuple[str, str], List[str]] = {}
    for d in sorted((d for d in decisions if d.action == action), key=_order):
        if d.effect != "fail" and d.phase is not d.then:
            labels = edges.setdefault((d.phase.name, d.then.name if d.then else "[*]"), [])
            labels += [] if d.effect in labels else [d.effect]
    lines = ["```mermaid", "stateDiagram-v2", "    [*] --> FIRST"]
    lines += [f"    {a} --> {b}: {', '.join(labels)}" for (a, b), labels in edges.items()]
    return "\n".join([*lines, "```"])


def _order(d: Decision) -> Tuple[int, int, str]:
    order = list(Phase)
    return order.index(d.phase), order.index(d.then) if d.then else 99, d.effect


def transitions(action: str, decisions: List[Decision]) -> str:
    """One row for each phase and next effect, with the shortest conditions that tell it from the others."""
    rows: List[Tuple[str, ...]] = []
    for phase in Phase:
        some = [
            d for d in decisions if d.action == action and d.phase is phase and ("power", POWER) not in d.observed
        ]
        for effect, then in dict.fromkeys((d.effect, d.then) for d in sorted(some, key=_order)):
            chosen = [d for d in some if (d.effect, d.then) == (effect, then)]
            other = [d for d in some if (d.effect, d.then) != (effect, then)]
            name = f"`{phase.name}`" if rows and rows[-1][0].startswith(f"`{phase.name}`") else _described(phase)
            rows.append((name, conditions(chosen, other), effect, f"`{then.name}`" if then else "ends"))
    return table(("phase", "what was observed", "next effect", "then"), rows)


def _described(phase: Phase) -> str:
    return f"`{phase.name}`: {phase.value}"


def conditions(chosen: List[Decision], other: List[Decision]) -> str:
    """Conjunctions that hold only in these decisions, until all are covered. An observation after
    which the run may do one or the other has "sometimes" before it: then ``observation`` lacks what decides."""
    if not other:
        return "always"
    order = list(dict.fromkeys(kind for d in (*chosen, *other) for kind, _ in d.observed))
    others = [frozenset(d.observed) for d in other]
    left = [frozenset(d.observed) for d in chosen]
    texts = [f"sometimes: {_phrase(o, order)}" for o in left if o in others]
    left = [o for o in left if o not in others]
    found = {frozenset(c) for o in left for n in range(1, MAX_CONDITIONS + 1) for c in combinations(sorted(o), n)}
    exact = [c for c in found if not any(c <= o for o in others)]
    while left:
        best = max(exact, key=lambda c: (sum(c <= o for o in left), -_cost(c), sorted(c)), default=left[0])
        best = best if any(best <= o for o in left) else _shortened(left[0], others)
        left = [o for o in left if not best <= o]
        texts.append(_phrase(best, order))
    return "; ".join(texts)


def _shortened(
    some: FrozenSet[Tuple[str, str]], others: List[FrozenSet[Tuple[str, str]]]
) -> FrozenSet[Tuple[str, str]]:
    """Without what it does not take to tell it from the others; what is usual goes first."""
    for item in sorted(some, key=lambda item: (item[1] not in DEFAULTS, item)):
        if not any(some - {item} <= o for o in others):
            some -= {item}
    return some


DEFAULTS = {  # they say that nothing special is the case: used only where another row differs by them
    "", "read", "in time", "reserve left", "no refusal", "nothing left open", "nothing may still arrive",
    "one VPC, no untracking after an earlier off",
    "the backup is required", "no untracking is due", "none is to be untracked", "no off has written since",
    "nothing is isolated without a backup", "there was a backup to restore", "no look-up is due",
    "nothing is open again",
    "no accepted change reads otherwise", "no refused one is open", "no interface is attached again",
    "the backup can be written", "it was isolated under an earlier backup", "no new tags of another fencer",
    "nothing is untracking", "no on has claimed it",
    "asked after all could have arrived", "no power is asked for", "no interface appeared",
}  # fmt: skip


def _cost(some: Observed) -> float:
    return sum(1.5 if text in DEFAULTS else 1 for _, text in some)


def _phrase(some: Observed, order: List[str]) -> str:
    shown = sorted(some, key=lambda item: order.index(item[0]))
    return ", ".join(text for _, text in shown if text != "read" or len(some) == 1)


def table(head: Tuple[str, ...], rows: List[Tuple[str, ...]]) -> str:
    """Markdown."""
    lines = ["| " + " | ".join(row) + " |" for row in [head, *rows]]
    return "\n".join([lines[0], "|---" * len(head) + "|", *lines[1:]])


# --- a stop after each step -------------------------------------------------------------------------------------

Stop = Tuple[str, int, int]  # after what; the tags and the groups that EC2 then has


def run_alone(search: Search, actor: int, tags: int, net: int) -> Iterator[Tuple[Any, str, int, int]]:
    """The effects of a run with nothing beside it, each change of groups by itself; then its end."""
    number = search.begin(actor)
    while number >= 0:
        p = search.pendings[number]
        action: Any = p.action
        key: Any = "accepted"
        if isinstance(action, SetGroups):
            results = []
            for i, groups in sorted(action.goals.items()):
                network = search.nets.values[net]
                how = ec2_refusal(groups, network.find(i).vpc) or "accepted"
                net = search.nets.number(network.with_groups(i, groups)) if how == "accepted" else net
                results.append((i, how))
                yield action, f"{in_words(action)}, {len(results)} of {len(action.goals)}", tags, net
            number, end, _ = search.answer(number, tuple(results), p.flag)
            continue
        if isinstance(action, Read):
            key = (tags, net)
        elif isinstance(action, WriteTags):
            tags = search.tags.number(search.tags.values[tags].updated(action.tags))
        elif isinstance(action, DeleteTags):
            tags = search.tags.number(search.tags.values[tags].without(action.tags))
        yield action, in_words(action), tags, net
        number, end, _ = search.answer(number, key, p.flag)
    assert end is not None
    yield end, "exit 0" if end.succeeded else "exit 1", tags, net


def stops(mode: str, action: str, start: str) -> List[Tuple[str, ...]]:
    """What EC2 shows after each step of a clean run, and what follows from that."""
    search = Search(Scenario(mode, actors(action), start))
    first = search.start()
    rows: List[Tuple[str, ...]] = []
    for _effect, text, tags, net in run_alone(search, 0, *first[:2]):
        if text.startswith("exit"):
            break
        instance = search.nets.values[net].instance(search.tags.values[tags])
        status = "OFF" if is_off(instance, tags_of.read(instance), search.spec) else "ON"
        cells = (_shows(search, instance), status, _next_off(search, tags, net), _next_on(search, tags, net))
        if rows and rows[-1][1:] == cells:
            rows[-1] = (f"{rows[-1][0]}; {text}", *cells)
        else:
            rows.append((text, *cells))
    return rows


def _shows(search: Search, instance: Instance) -> str:
    spec, total = search.spec, len(instance.interfaces)
    kinds = {"isolated": 0, "untracking": 0, "open": 0}
    for i in instance.interfaces:
        kind = "untracking" if is_untracking(i.groups, spec) else "open"
        kinds["isolated" if matches_isolation(i.groups, spec) else kind] += 1
    some = [f"{n} {kind}" for kind, n in kinds.items() if n]
    groups = f"all {some[0].split()[1]}" if len(some) == 1 else ", ".join(some)
    sets = tags_of.read(instance).sets
    complete = sum(i.id in sets for i in instance.interfaces)
    claimed = any(tags_of.is_claim(v) for v in instance.tags.values())
    backup = "a backup of all" if complete == total else f"a backup of {complete}" if complete else "no backup"
    return f"{groups}; {backup}{', claimed' if claimed else ''}"


def _next_off(search: Search, tags: int, net: int) -> str:
    """What a plain off does."""
    before = search.nets.values[net].instance(search.tags.values[tags]).groups
    texts: List[str] = []
    for effect, text, t, n in run_alone(search, len(search.actors) - 2, tags, net):  # noqa: B007
        if isinstance(effect, WriteTags) and effect.backup:
            kept = sum(effect.backup.originals[i] != g for i, g in before.items())
            both = f"backs up {len(before) - kept} as it is, {kept} from the earlier backup"
            words = {0: "backs up the groups as they are", len(before): "backs up the groups of the earlier backup"}
            texts.append(words.get(kept, both))
        elif isinstance(effect, SetGroups) and ", 1 of " in text:
            texts.append(f"{in_words(effect)}s {text.split(' of ')[1]}")
    isolated = "" if search.isolated(n) else ", and the node is OPEN"
    lost = ", and groups are LOST" if search.lost(t, n) else ""
    return ", ".join([*texts, *_unless_good(text)]) + isolated + lost


def _next_on(search: Search, tags: int, net: int) -> str:
    """What a plain on does, and whether all is as it was."""
    texts: List[str] = []
    for effect, text, t, n in run_alone(search, len(search.actors) - 1, tags, net):  # noqa: B007
        if isinstance(effect, (WriteTags, DeleteTags)):
            texts.append({"claim the backup": "claims the backup", "delete the tags": "deletes the tags"}[text])
        elif isinstance(effect, SetGroups) and ", 1 of " in text:
            texts.append(f"{in_words(effect)}s {text.split(' of ')[1]}")
    right = all(nic.groups in search.allowed[nic.id] for nic in search.nets.values[n].attached)
    good = "" if right and not search.tags.values[t] else ", and groups or tags are WRONG"
    return ", ".join([*(texts or ["changes nothing"]), *_unless_good(text)]) + good


def _unless_good(text: str) -> List[str]:
    return [] if text == "exit 0" else [text]


RUNS = (
    ("off", "open", "`off` of an open node"),
    ("off", "fenced", "`off` of a node that is isolated already"),
    ("on", "fenced", "`on` after one `off`"),
    ("on", "fenced twice", "`on` after two `off`"),
)


def stop_tables() -> str:
    """A table for each kind of run; modes with the same rows share one."""
    parts = []
    head = ("after", "state of EC2", "`status`", "a plain `off` then", "a plain `on` then")
    for action, start, title in RUNS:
        same: Dict[str, List[Tuple[str, str]]] = {}
        for mode in MODES:
            text = table(head, stops(mode, action, start))
            same.setdefault(re.sub(r"untracks \d, ", "", text), []).append((mode, text))
        for texts in same.values():
            where = "every mode" if len(texts) == len(MODES) else ", ".join(mode for mode, _ in texts)
            rows = max((text for _, text in texts), key=len)
            rows = re.sub(r"(untracks \d), ", r"(\1,) ", rows) if len({t for _, t in texts}) > 1 else rows
            parts.append(f"{title} ({where}):\n\n{rows}")
    return "\n\n".join(parts)


# --- after a refusal --------------------------------------------------------------------------------------------


def refusals() -> Iterator[Tuple[str, Scenario]]:
    """Off, and EC2 refuses a change for good."""
    both = frozenset((E0, E1))
    no_backup = IsolationSpec((ISO,), True, without_backup=True)
    for mode in ("keep", "keep+untrack"):
        yield "every change is refused", refused(mode, denied=both)
        yield "one change is refused", refused(mode)
        yield "the reply to a call is lost", refused(mode, budget=1, kinds=frozenset((LOST,)))
        yield "a read fails", refused(mode, budget=1, kinds=frozenset((UNREAD,)))
        yield "with a concurrent `off`", refused(mode, "off")
        yield "with a concurrent `on`", refused(mode, "on")
        yield "the deadline is over", refused(mode, budget=1, kinds=frozenset((DEADLINE,)))
        yield "another call is refused too", refused(mode, budget=1, kinds=frozenset((REFUSED,)))
    yield "of an isolated node", refused("keep", start="fenced")
    yield "without a backup", refused("keep", spec=no_backup, budget=1, kinds=frozenset((REFUSED,)))


def refusal_table() -> str:
    """Each way in which an off ends that was refused a change; the circumstances in which it comes up."""
    found: Dict[Tuple[str, ...], Tuple[List[str], List[str]]] = {}
    for circumstance, scenario in refusals():
        search = Search(scenario).run()
        for plan, _p, _key, before, step, _tick in decisions_of(search):
            k = step.knowledge
            if plan.restoring or not isinstance(step.action, Fail) or not k.refused:
                continue
            row = (_rolled_back(before, k), _left(before, k), _backup_then(k))
            for texts, text in zip(found.setdefault(row, ([], [])), (circumstance, _reason(step.action))):
                texts += [] if text in texts else [text]
    rows = [(*row, "; ".join(when), "; ".join(why)) for row, (when, why) in sorted(found.items())]
    return table(("rolled back", "left isolated", "the backup", "circumstances", "reason in the message"), rows)


def _rolled_back(before: Knowledge, k: Knowledge) -> str:
    if before.phase is Phase.REISOLATE:
        return "yes, then isolated again" if k.reopened else "no"
    return "yes" if k.reopened - k.possibly_changed else "no"


def _left(before: Knowledge, k: Knowledge) -> str:
    changed = k.reopened if before.phase is Phase.REISOLATE else k.possibly_changed
    news = [i for i in changed if k.interfaces[i].open_groups != k.interfaces[i].goal]
    return "what was isolated" if news else "nothing that was open before" if changed else "nothing"


def _backup_then(k: Knowledge) -> str:
    if k.backup.latest is None:
        return "none"
    if k.backup.rewritten:
        return "written again" if k.backup.failure is None else "not written again, named in the log"
    if k.failure or not k.reads.fresh:
        return "named in the log" if k.possibly_changed else "stays"
    return "gone" if k.backup.missing else "stays"


def _reason(action: Fail) -> str:
    text = action.text.replace("; correct the cause and repeat off", "").replace("; repeat off", "")
    text = text.rpartition("; ")[2].rpartition("rolled back: ")[2]
    return "the error of the latest call" if text in {f.text for f in FAILURES.values() if f} else text


# --- invariants and windows -------------------------------------------------------------------------------------


def invariant_table() -> str:
    """Their names, and what they say."""
    return table(("invariant", "what holds"), [(f"`{n}`", in_one_line(c)) for n, c in invariants.NAMES.items()])


def in_one_line(thing: Callable[..., Any]) -> str:
    """Its docstring."""
    return " ".join((inspect.getdoc(thing) or "").replace("``", "`").split())


class Found(Exception):
    """The search need not go on."""


class Without(Search):
    """A search to which one of the windows is a violation like others; it ends at the first."""

    def __init__(self, scenario: Scenario, window: str) -> None:
        super().__init__(scenario)
        self.ending = True
        assert hasattr(self, window), window
        setattr(self, window, lambda state, interface: False)

    def successors(self, s: State) -> Iterator[Any]:
        """Not after the first violation."""
        if self.violations and self.ending:
            raise Found
        return super().successors(s)

    def shortest(self) -> str:
        """The shortest transcript that ends in the window."""
        try:
            self.run()
        except Found:
            self.ending = False
        violation = next(iter(self.violations.values()))
        lines = self.transcript(violation).replace(ID, "the node").splitlines()
        lines[1] = lines[1].replace("VIOLATION ", "").split(":")[0]
        return "\n".join(_merged([line.split("; earlier: ")[0].rstrip() for line in lines]))


def _merged(lines: List[str]) -> List[str]:
    """Steps of the same effect in one line."""
    merged: List[str] = []
    for line in lines:
        last = next((n for n in (-1, -2) if len(merged) >= -n and "->" in merged[n]), None)
        what, arrow, came = line.partition(" -> ")
        if arrow and last and merged[last].partition(" -> ")[0] == what and what.endswith(tuple("OPRBE")):
            done = merged[last]
            del merged[last:]
            line = f"{done.partition('   **')[0]}, {came}"
        merged.append(line)
    return merged


WINDOWS: Mapping[str, Tuple[Scenario, ...]] = {  # Search's predicates, and where to look for the ways into each
    "opening_is_excused": (Scenario("keep", actors("off", "on"), "fenced", 1, frozenset((CRASH,))),),
    "loss_is_excused": tuple(
        Scenario("keep", actors("off", "on"), "open", 1, frozenset((kind,))) for kind in (CRASH, REFUSED)
    ),
}


def windows() -> str:
    """Each window: its exact condition, and the shortest ways into it."""
    parts = []
    for name, looked_at in WINDOWS.items():
        parts.append(f"**`{name}`**: {in_one_line(getattr(Search, name))}")
        parts += [f"```\n{Without(scenario, name).shortest()}\n```" for scenario in looked_at]
    return "\n\n".join(parts)


# --- the page ---------------------------------------------------------------------------------------------------


def generated() -> Dict[str, str]:
    """Every generated part, by its name."""
    decisions = explore()
    parts = {f"diagram of {a}": diagram(a, decisions) for a in ("off", "on")}
    parts.update({f"decisions of {a}": transitions(a, decisions) for a in ("off", "on")})
    parts.update({"stops": stop_tables(), "refusals": refusal_table()})
    return {**parts, "invariants": invariant_table(), "windows": windows()}


def with_parts(page: str, parts: Mapping[str, str]) -> str:
    """The page with these parts between their marks."""
    for name, text in parts.items():
        pattern = re.compile(MARK.format(re.escape(name)), re.DOTALL)
        assert len(pattern.findall(page)) == 1, f"the page has no place for: {name}"
        before, after = pattern.findall(page)[0][:2]
        page = page.replace(pattern.search(page)[0], f"{before}{text}\n{after}")  # type: ignore[index]
    return page


def main() -> None:
    """Print the parts, or write them into the page."""
    parts = generated()
    if sys.argv[1:] == ["--update"]:
        PAGE.write_text(with_parts(PAGE.read_text(encoding="utf-8"), parts), encoding="utf-8")
    else:
        print("\n\n".join(parts.values()))


if __name__ == "__main__":
    main()
