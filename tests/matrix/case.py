"""Cases: which there are, by clean runs of each mode; how one is run; what must hold after it."""

import random
from collections import Counter
from dataclasses import dataclass
from typing import Callable, Dict, FrozenSet, Iterable, List, Set, Tuple

from ec2.faults import Hook
from ec2.wire import Call

from .faults import CATALOGUE, Kind
from .world import DESCRIBE, MODIFY, SCALE, SECONDS, Bench, Outcome, Point, Scene

ACTIONS = ("off", "on")
Runner = Callable[[Scene, str], Outcome]
# Reads after which lastfence seems to move: to "on" that means another "off", which wins (§3).
MOVES = (
    *("stale-tags-2", "stale-both-2"),  # the record of an earlier fence
    "stale-both-1",  # no record yet, and not all is isolated: one that appears may be another's
)
# Reads that are never true.
BELIEVED = ("stale-groups-2-for-ever", "stale-both-2-for-ever")
CATEGORIES = {
    "denied": {"permission", "partial"},
    "refused": {"retrieval", "tag", "modification", "restore", "partial", "instance"},
    "expired": {"authentication", "partial"},
    "lost-for-ever": {"deadline", "tag", "partial"},
}


@dataclass(frozen=True)
class Case:
    """A fault at a call of an action in a mode."""

    mode: str
    action: str
    point: Point
    kind: Kind

    @property
    def name(self) -> str:
        return f"{self.mode}/{self.action}/{self.point.name}/{self.kind.name}"


# --- which there are -------------------------------------------------------------------------------------------


def points(bench: Bench, mode: str, action: str) -> List[Point]:
    """The calls that a clean run makes, and which groups could be deleted then."""
    scene = Scene(bench, mode)
    if action == "on":
        assert scene.run("off").code == 0
    free: Dict[int, FrozenSet[str]] = {}

    def look(call: Call) -> None:
        used = scene.in_use()
        free[call.number] = frozenset(n for n, g in scene.names.items() if g not in used)

    scene.server.rules.add(None, Hook(look), times=None)
    scene.server.calls.clear()
    outcome = scene.run(action, api_seconds=5.0)  # on a machine that is busy too
    assert outcome.code == 0, outcome
    seen: Counter = Counter()
    found = []
    before: FrozenSet[str] = frozenset()
    for call in scene.server.calls:
        interface = scene.interfaces.index(call.params["NetworkInterfaceId"]) if call.action == MODIFY else None
        seen[call.action, interface] += 1
        # Interfaces are changed side by side: what is free then is what was free before all of them, and still is.
        before = before & free[call.number] if interface is not None else free[call.number]
        found.append(Point(call.action, seen[call.action, interface], interface, before))
    return sorted(found, key=lambda p: p.name)


def cases(bench: Bench, mode: str, action: str) -> List[Case]:
    """Every fault that makes sense at a call, at every call."""
    scene = Scene(bench, mode)
    found = [(point, kind) for point in points(bench, mode, action) for kind in CATALOGUE if kind.where(scene, point)]
    return [Case(mode, action, point, kind) for point, kind in found]


def named(bench: Bench, name: str) -> Case:
    """The case of this name, chosen by the seed or not."""
    mode, action, call, fault = name.split("/")
    (point,) = [p for p in points(bench, mode, action) if p.name == call]
    (kind,) = [k for k in CATALOGUE if k.name == fault]
    return Case(mode, action, point, kind)


# --- one of them -----------------------------------------------------------------------------------------------


class Trial:
    """Runs one case and collects what does not hold."""

    def __init__(self, bench: Bench, case: Case) -> None:
        self.case, self.scene = case, Scene(bench, case.mode)
        self.wrong: List[str] = []

    def run(self, runner: Runner) -> List[str]:
        """What does not hold, a line each."""
        scene, case = self.scene, self.case
        if case.kind.stale:  # an earlier fence, for reads to go back to
            self._must(scene.run("off").code == 0 and scene.run("on").code == 0, "an earlier off and on fail")
        if case.action == "on":
            self._must(scene.run("off").code == 0, "the off before it fails")
        first = len(scene.server.calls)
        case.kind.set_up(scene, case.point)
        scene.bench.clock.scale = 1.0 if case.kind.real_time else SCALE
        outcome = runner(scene, case.action)
        scene.bench.clock.scale = SCALE
        calls = list(scene.server.calls[first:])
        scene.calm()
        self._must(bool(scene.faulty), "the fault did not happen")
        self._outcome(outcome)
        self._effect(outcome, calls)
        self._afterwards(case.kind.passing and outcome.code == 0)
        self._must(not scene.lost or self._believes, f"I4 originals not readable from tags: {scene.lost[:3]}")
        if not self.wrong:
            return []
        return [f"{case.name}: {'; '.join(self.wrong)} [{outcome}] {self._shown(calls)}"]

    @property
    def _believes(self) -> bool:
        """What reads as isolated without a record, in read after read, is taken to be so by nature.

        Where groups are removed, one other interface that is open lets two such reads be enough: an interface that
        never had the group is nothing rare there, and waiting for a third would delay every fence of such a node.
        """
        removing = self.case.kind.name == "stale-groups-1" and self.scene.has("remove")
        return (self.case.kind.name in BELIEVED or removing) and self.case.point.name == f"{DESCRIBE}#1"

    def _must(self, holds: bool, text: str) -> None:
        if not holds:
            self.wrong.append(text)

    def _shown(self, calls: Iterable[Call]) -> str:
        scene = self.scene
        names = {i: str(n) for n, i in enumerate([*scene.interfaces, *scene.late])}
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

    # I6, I7: the outcome itself

    def _outcome(self, outcome: Outcome) -> None:
        kind, scene = self.case.kind, self.scene
        self._must(not outcome.foreign, f"I7 not an error of ours: {outcome.foreign}")
        self._must(outcome.seconds <= SECONDS + 2, f"I6 took {outcome.seconds:.1f} s")
        if kind.passing and not (self.case.action == "on" and kind.name in MOVES):
            self._must(outcome.code == 0, "passing trouble fails it")
        if outcome.code == 1 and not outcome.foreign:
            word = kind.names(self.case.point) if kind.names else ""
            self._must(word in outcome.error, f"I7 the error does not name {word}")
            allowed = CATEGORIES.get(kind.name, {outcome.category})
            self._must(outcome.category in allowed, f"I7 category {outcome.category}")
            if scene.deleted and kind.name != "secg-deleted":
                self._must(any(g in outcome.error for g in scene.deleted), "I7 the error does not name the group")

    # I1, I2: what success claims

    def _effect(self, outcome: Outcome, calls: List[Call]) -> None:
        scene = self.scene
        now = scene.now
        if now["state"] == "terminated":
            self._must(self.case.action == "on" or outcome.code == 0, "off of a terminated instance fails")
            return
        status = scene.run("status")
        cut = scene.is_cut()
        self._must(status.code in (0, 2), f"I2 status fails: {status}")
        self._must(status.code != 2 or cut, "I2 status is OFF, and it is not cut")
        if outcome.code == 0 and self.case.action == "off":
            self._success_of_off(calls)
            self._must(not cut or status.code == 2, "I2 after off status is not OFF")
        if outcome.code == 0 and self.case.action == "on":
            self._restored("on said that it succeeded")
            self._must(not scene.has("poweron") or now["state"] in ("running", "pending"), f"it is {now['state']}")
        if outcome.code == 0 and self.case.action == "off" and scene.has("poweroff") and self.case.kind.passing:
            self._must(now["state"] in ("stopped", "stopping"), f"it is {now['state']}")

    def _success_of_off(self, calls: List[Call]) -> None:
        scene = self.scene
        reads = [c.number for c in calls if c.action == DESCRIBE and c.took_effect]
        accepted: Set[str] = {
            c.params["NetworkInterfaceId"]
            for c in calls
            if c.action == MODIFY and c.took_effect and not c.error and c.outcome == "whole"
            and (c.number not in scene.faulty or self._is_event)
            and scene.are_cut(frozenset(c.listing("SecurityGroupId")))
        }  # fmt: skip
        for interface, groups in scene.now["interfaces"].items():
            if interface in scene.late and scene.late[interface] > max(reads):
                continue  # it came after the proof
            self._must(scene.are_cut(frozenset(groups)), f"I1 exit 0, {interface} is not cut")
            self._must(interface in accepted, f"I1 exit 0, {interface}: no change was accepted")

    @property
    def _is_event(self) -> bool:
        """Was the call itself left alone?"""
        return self.case.kind.name.split("-")[0] in (
            "attach",
            "detach",
            "stopped",
            "terminated",
            "secg",
            "all",
            "original",
        )

    # I3: and then

    def _afterwards(self, succeeded: bool) -> None:
        """Both ways on; where trouble passed and all is as ever, the one that the seed draws."""
        scene = self.scene
        if scene.now["state"] == "terminated":
            return
        ways: Tuple[str, ...] = ("at once", "after off")
        if succeeded and scene.bench.seed is not None:
            ways = (random.Random(f"{scene.bench.seed}/{self.case.name}").choice(ways),)
        if self._believes:
            return
        load = scene.save()
        if "at once" in ways and not scene.has("ignore"):
            self._plain_on("on at once")
            load()
        if "after off" not in ways:
            return
        # No group to keep is left; or nothing to remove is left, and no record, which off takes for a mistake (§3).
        no_group = scene.has("keep") and set(scene.options["secg"].split(",")) <= scene.deleted
        no_record = scene.mode == "remove+ignore" and scene.is_cut() and not scene.tags()
        outcome = scene.run("off", ignore_instance_state=True)
        if not (no_group or no_record):
            self._must(outcome.code == 0 and scene.is_cut(), f"I3 a plain off does not isolate: {outcome.error}")
            self._must(scene.run("status").code == 2, "I3 after a plain off status is not OFF")
        if not scene.has("ignore"):
            self._plain_on("on after off")

    def _plain_on(self, label: str) -> None:
        scene = self.scene
        outcome = scene.run("on")
        lacking = [g for i in scene.now["interfaces"] for g in scene.originals[i] & scene.deleted]
        self._restored(f"I3 {label}")
        self._must(not outcome.foreign, f"I7 {label}: {outcome.foreign}")
        if outcome.category == "backup" and any(scene.are_cut(scene.originals[i]) for i in scene.now["interfaces"]):
            return  # contract, on: isolated by nature and no record; nothing was changed
        if not lacking:
            self._must(outcome.code == 0, f"I3 {label} fails: {outcome.error}")
            self._must(not scene.tags(), f"I3 {label} leaves tags")
        elif outcome.code != 0:
            self._must(all(g in outcome.error for g in lacking), f"I7 {label} does not name the group")

    def _restored(self, label: str) -> None:
        scene = self.scene
        for interface, groups in scene.now["interfaces"].items():
            wanted = scene.originals[interface]
            if wanted & scene.deleted:
                continue
            shown = "+".join(n for n, g in scene.names.items() if g in groups)
            self._must(frozenset(groups) == wanted, f"{label}, {interface} has {shown}")


def in_process(scene: Scene, action: str) -> Outcome:
    """The faulted run in this process."""
    return scene.run(action)
