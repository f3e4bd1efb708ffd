"""Cases: a fault at a call of a whole run. Which there are, by clean runs of each mode; what must hold afterwards.

They are too many for each check, so half of them are selected: each two of mode, call and kind of fault are together.
MATRIX=all runs all of them.
"""

import os
from collections import Counter
from dataclasses import dataclass
from typing import Callable, Iterable, List, Optional, Sequence, Set, Tuple
from zlib import crc32

from ec2.faults import Error, Fault, Hook, LoseReply, Reset, Throttle
from ec2.wire import Call

from .world import DESCRIBE, MODES, MODIFY, SECONDS, Bench, Outcome, Point, Scene

ACTIONS = ("off", "on", "return")  # on and return, by which monitor brings a stopped node back, follow an off
ALL = os.environ.get("MATRIX") == "all"
Runner = Callable[[Scene, str], Outcome]


def is_run(mode: str, action: str) -> bool:
    """Is this action run in this mode? An ``on`` after a required stop is that after any stop."""
    if mode.endswith("+auto"):
        return action == "return"
    return action == "off" or (action == "on" and not mode.endswith("+required"))


RUNS = tuple((mode, action) for mode in MODES for action in ACTIONS if is_run(mode, action))


@dataclass(frozen=True)
class Kind:
    """What happens to a call.

    Attributes:
        times: how often; None: from then on each time.
        passes: the operation succeeds all the same.
        names: what the error must hold.
        categories: those that the error may have, if not any.
        by_time: the deadline ends it. It may pass just before an attempt, which then hides the cause: such a case is
            wrong only if it is wrong twice.
    """

    name: str
    faults: Callable[[Scene], Tuple[Fault, ...]]
    times: Optional[int] = 1
    passes: bool = False
    names: Callable[[Point], str] = lambda point: ""
    categories: Tuple[str, ...] = ()
    by_time: bool = False


REFUSED = "InvalidParameterValue"
REFUSALS = ("retrieval", "tag", "modification", "restore", "partial", "instance")
WIRE = (
    Kind("throttled", lambda scene: (Throttle(),), times=2, passes=True),
    Kind("lost", lambda scene: (LoseReply(),), passes=True),
    Kind(
        "lost for ever", lambda scene: (LoseReply(),), None,
        names=lambda point: point.action, categories=("deadline", "tag"), by_time=True,
    ),
    Kind("refused", lambda scene: (Error(REFUSED),), None, names=lambda point: REFUSED, categories=REFUSALS),
)  # fmt: skip
KILLS = (
    Kind("kill-before", lambda scene: (Hook(lambda call: scene.kill()), Reset())),
    Kind("kill-after", lambda scene: (Hook(lambda call: scene.kill(), late=True), LoseReply())),
)


@dataclass(frozen=True)
class Case:
    """A fault at a call of an action in a mode."""

    mode: str
    action: str  # one of ACTIONS
    point: Point
    kind: Kind

    @property
    def name(self) -> str:
        return f"{self.mode}/{self.action}/{self.point.name}/{self.kind.name}"


def prepare(scene: Scene, action: str) -> bool:
    """What comes before the action, once for all cases of a mode; does that succeed?"""
    known = scene.bench.prepared.get((scene.mode, action))
    if known is not None:
        scene.put_back(known)
        return True
    done = action == "off" or scene.run("off", ignore_instance_state=True).code == 0
    if action == "return":
        scene.later()
    if done:
        scene.bench.prepared[scene.mode, action] = scene.now
    return done


def points(bench: Bench, mode: str, action: str) -> List[Point]:
    """The calls that a clean run makes."""
    scene = Scene(bench, mode)
    assert prepare(scene, action)
    scene.server.calls.clear()
    outcome = scene.run(action, slow_replies=True)
    assert outcome.code == 0, outcome
    counts: Counter = Counter()
    found = []
    for call in scene.server.calls:
        interface = scene.interfaces.index(call.params["NetworkInterfaceId"]) if call.action == MODIFY else None
        counts[call.action, interface] += 1
        found.append(Point(call.action, counts[call.action, interface], interface))
    return sorted(found, key=lambda p: p.name)


def cases(bench: Bench, mode: str, action: str, kinds: Iterable[Kind]) -> List[Case]:
    """Each of these at every call."""
    return [Case(mode, action, point, kind) for point in points(bench, mode, action) for kind in kinds]


def selected(found: Sequence[Case]) -> List[Case]:
    """Half of them: of each call in a mode half of the kinds, and the others in the next mode."""
    numbers = ((c, MODES.index(c.mode), crc32(c.point.name.encode()), WIRE.index(c.kind)) for c in found)
    return [c for c, mode, point, kind in numbers if ALL or (mode + point + kind) % 2]


def wrong(bench: Bench, case: Case, runner: Runner) -> List[str]:
    """What does not hold of a case: one line, or none."""
    lines = Trial(bench, case).run(runner)
    return Trial(bench, case).run(runner) if lines and case.kind.by_time else lines


class Trial:
    """Runs one case and collects what does not hold."""

    def __init__(self, bench: Bench, case: Case) -> None:
        self.case, self.scene = case, Scene(bench, case.mode)
        self.wrong: List[str] = []

    def run(self, runner: Runner) -> List[str]:
        """What does not hold: one line, or none."""
        scene, case = self.scene, self.case
        self._must(prepare(scene, case.action), "an off before it fails")
        first = len(scene.server.calls)
        scene.put(case.point, *case.kind.faults(scene), times=case.kind.times)
        outcome = runner(scene, case.action)
        calls = list(scene.server.calls[first:])
        scene.calm()
        self._must(bool(scene.faulty), "the fault did not happen")
        self._outcome(outcome)
        self._effect(outcome, calls)
        if case.action == "return":
            self._comes_back(outcome, calls)
        self._recovers()
        self._must(not scene.lost, f"original groups not readable from tags: {scene.lost[:3]}")
        if not self.wrong:
            return []
        return [f"{case.name}: {'; '.join(self.wrong)} [{outcome}] {self._shown(calls)}"]

    def _must(self, holds: bool, text: str) -> None:
        if not holds:
            self.wrong.append(text)

    def _shown(self, calls: Iterable[Call]) -> str:
        scene = self.scene
        names = {i: str(n) for n, i in enumerate(scene.interfaces)}
        groups = {g: n for n, g in scene.names.items()}
        text = []
        for c in calls:
            what = f"[{names[c.params['NetworkInterfaceId']]}]" if c.action == MODIFY else ""
            what += f"={'+'.join(groups[g] for g in c.listing('SecurityGroupId'))}" if c.action == MODIFY else ""
            how = c.error or ("" if c.outcome == "whole" and c.number not in scene.faulty else f"{c.outcome}*")
            text.append(f"{c.action}{what}{f'({how})' if how else ''}")
        now = scene.now
        end = {names.get(i, i): [groups[g] for g in gs] for i, gs in now["interfaces"].items()}
        return f"calls: {' '.join(text)}; in the end {now['state']} {end} {len(scene.tags())} tags"

    # The outcome itself

    def _outcome(self, outcome: Outcome) -> None:
        kind = self.case.kind
        self._must(not outcome.foreign, f"not an error of ours: {outcome.foreign}")
        self._must(outcome.seconds <= SECONDS + 2, f"took {outcome.seconds:.1f} s")
        self._must(not kind.passes or outcome.code == 0, "a fault that passes fails it")
        if outcome.code == 1 and not outcome.foreign:
            named = kind.names(self.case.point)
            self._must(named in outcome.error, f"the error does not name {named}")
            self._must(outcome.category in (kind.categories or (outcome.category,)), f"category {outcome.category}")

    # What success claims

    def _effect(self, outcome: Outcome, calls: List[Call]) -> None:
        scene, action = self.scene, self.case.action
        status, isolated, state = scene.run("status"), scene.is_isolated(), scene.now["state"]
        self._must(status.code in (0, 2), f"status fails: {status}")
        self._must(status.code != 2 or isolated, "status is OFF, and it is not isolated")
        if outcome.code == 0 and action == "off":
            self._success_of_off(calls)
            self._must(status.code == 2, "after off status is not OFF")
            stopped = state in ("stopped", "stopping") or not self.case.kind.passes
            self._must(stopped or not scene.has("poweroff"), f"it is {state}")
            self._must(state == "stopped" or not scene.has("required"), f"exit 0, and it is {state}")
        if self.case.point.action == "StopInstances":
            self._must(isolated, "it is not left isolated, whatever became of its stop")
        if outcome.code == 0 and action == "on":
            self._restored("on said that it succeeded")
            self._must(not scene.has("poweron") or state in ("running", "pending"), f"it is {state}")

    def _success_of_off(self, calls: List[Call]) -> None:
        scene = self.scene
        reads = [c.number for c in calls if c.action == DESCRIBE and c.took_effect]
        accepted: Set[str] = {
            c.params["NetworkInterfaceId"]
            for c in calls
            if c.action == MODIFY and c.took_effect and c.outcome == "whole" and c.number < max(reads)
            and scene.are_isolating(frozenset(c.listing("SecurityGroupId")))
        }  # fmt: skip
        for interface, groups in scene.now["interfaces"].items():
            self._must(scene.are_isolating(frozenset(groups)), f"exit 0, {interface} is not isolated")
            self._must(interface in accepted, f"exit 0, {interface}: no change was accepted before the last read")

    # What monitor says and does

    def _comes_back(self, outcome: Outcome, calls: List[Call]) -> None:
        """It has started nothing that was not restored; what it has not finished, the next one does."""
        scene, then = self.scene, self.scene.now
        searched = any("stopped" in c.params.values() for c in calls)  # which is after all checks of monitor
        self._must(outcome.code != 1 or not searched, "a return that fails fails the monitor")
        if then["state"] != "stopped":
            self._restored(f"it is {then['state']}")
        if not outcome.back:
            self._must(scene.run("return", slow_replies=True).code == 0, "the next monitor fails")
        self._restored("monitor has ended")
        self._must(scene.now["state"] in ("running", "pending"), f"it is {scene.now['state']}, and not back")
        left = scene.tags() and self.case.point.action != "DeleteTags"  # a failure to delete them is a warning
        self._must(not left, "monitor leaves a backup")
        self._must(len(scene.returned.split(",")) == 1, f"one return is counted as {scene.returned}")
        scene.put_back(then)

    # And then

    def _recovers(self) -> None:
        """Once for all cases that end in the same situation."""
        situation, wrong = self.scene.situation, len(self.wrong)
        if situation not in self.scene.bench.recovered:
            self._afterwards()
            if len(self.wrong) == wrong:
                self.scene.bench.recovered.add(situation)

    def _afterwards(self) -> None:
        """A plain on at once; and a plain off, then an on."""
        scene = self.scene
        then = scene.now
        if not scene.has("ignore"):
            self._plain_on("on at once")
            scene.put_back(then)
        # Nothing to remove is left, and no backup, which off takes for a mistake.
        no_backup = scene.mode == "remove+ignore" and scene.is_isolated() and not scene.tags()
        outcome = scene.run("off", ignore_instance_state=True)
        if not no_backup:
            isolated = outcome.code == 0 and scene.is_isolated()
            self._must(isolated, f"a plain off does not isolate: {outcome.error}")
            self._must(scene.now["state"] == "stopped" or not scene.has("required"), "a plain off does not stop it")
            self._must(scene.run("status").code == 2, "after a plain off status is not OFF")
        if not scene.has("ignore"):
            self._plain_on("on after off")

    def _plain_on(self, label: str) -> None:
        outcome = self.scene.run("on")
        self._restored(label)
        self._must(outcome.code == 0, f"{label} fails: {outcome.error or outcome.foreign}")
        self._must(not self.scene.tags() and not self.scene.returned, f"{label} leaves tags")

    def _restored(self, label: str) -> None:
        scene = self.scene
        for interface, groups in scene.now["interfaces"].items():
            shown = "+".join(n for n, g in scene.names.items() if g in groups)
            self._must(frozenset(groups) == scene.originals[interface], f"{label}, {interface} has {shown}")
