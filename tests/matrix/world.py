"""The bench of a worker and the scene of a case: an instance, its modes, runs in this process, looks from outside."""

import json
import re
import time
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Callable, Dict, FrozenSet, List, Optional, Set, Tuple

from ec2.faults import Fault, Hook
from ec2.mark import Mark
from ec2.server import Ec2Server
from ec2.wire import Call

from aws_vpc_net import actions, auto_unfence, ec2, queries, replies, settings
from aws_vpc_net.context import Context, create_context
from aws_vpc_net.core import backup, isolation, model
from aws_vpc_net.deadline import Deadline
from aws_vpc_net.errors import FenceError

MODES = (
    "keep", "remove", "keep+untrack", "remove+untrack", "remove+ignore", "keep+static", "keep+poweroff+poweron",
    "keep+poweroff+required", "remove+untrack+poweroff+required",
    "keep+poweroff+auto", "remove+untrack+poweroff+auto",
)  # fmt: skip
POWER = {"poweron": "unfence_poweron", "required": "require_poweroff", "auto": "auto_unfence"}
AGE_SECONDS = 60  # of a fence when monitor comes
MODIFY, DESCRIBE = "ModifyNetworkInterfaceAttribute", "DescribeInstances"
SECONDS = 10.0  # the deadline, on the bench's clock
SETTLE_SECONDS = 1
API_SECONDS = 0.2
ATTEMPT_SECONDS = 0.5  # for a whole reply
TIME = re.compile(r"(?<![0-9a-f])\d{10}(?![0-9a-f])")
RETURNED = "fence_aws_vpc_net:returned"
BACKUP = re.compile(r"Original_SG_Backup_i-[0-9a-f]+_(\d+)_\d+_(\d+)")  # time, chance, chunk
SCALE = 100.0  # pauses are so many times shorter; the bench's clock counts them in full


class Clock:
    """Monotonic seconds, plus the part of each pause that was skipped."""

    def __init__(self) -> None:
        self.skipped = 0.0
        self.scale = SCALE
        self._really = time.sleep

    def __call__(self) -> float:
        return time.monotonic() + self.skipped

    def sleep(self, seconds: float) -> None:
        self._really(seconds / self.scale)
        self.skipped += seconds * (1 - 1 / self.scale)


def _done(*_what: Any) -> None:
    """It was done once, on the client itself."""


class SharedClient:
    """The cached boto3 client as each run has it."""

    def __init__(self, client: Any) -> None:
        self._client = client
        events = SimpleNamespace(register=_done, register_last=_done)
        meta = client.meta
        self.meta = SimpleNamespace(
            method_to_api_mapping=meta.method_to_api_mapping,
            service_model=meta.service_model,
            endpoint_url=meta.endpoint_url,
            events=events,
        )

    def __getattr__(self, operation: str) -> Callable[..., Any]:
        call: Callable[..., Any] = getattr(self._client, operation)
        return call


class Bench:
    """What the cases of a worker share."""

    def __init__(self, server: Ec2Server, dmi: Path) -> None:
        self.server, self.dmi, self.clock = server, dmi, Clock()
        self._mark: Optional[Mark] = None
        self._make: Callable[[Any], ec2.Connection] = ec2._client
        self._made: Dict[float, ec2.Connection] = {}  # by the time of a call
        self.prepared: Dict[Tuple[str, str], Dict[str, Any]] = {}
        """Mode and action to what the instance looks like before the action."""
        self.recovered: Set[Any] = set()
        """Situations from which plain runs have restored everything."""

    def fresh(self) -> Dict[str, str]:
        """A fresh world, or the last one as it was when it was fresh; its groups."""
        if self._mark is None or not self.server.rewind(self._mark):
            self.server.reset()
            self.prepared.clear()
            self.recovered.clear()
            self._spare = self.server.edit.add_group("isolation2")
            self._mark = self.server.mark()
        return {**self.server.world.groups, "isolation2": self._spare}

    def client(self, chosen: settings.Settings) -> ec2.Connection:
        """In the place of ``aws_vpc_net.ec2._client``."""
        found = self._made.get(chosen.timing.api_seconds)
        if found is None:
            found = self._made[chosen.timing.api_seconds] = self._make(chosen)
            made = found.client
            made.meta.events.register(f"after-call.ec2.{DESCRIBE}", replies.complete)
        return found._replace(client=SharedClient(found.client))


@dataclass
class Outcome:
    """How an operation ended; ``code`` None: it was killed; ``back``: monitor said that it brought the node back."""

    code: Optional[int]
    error: str = ""
    category: str = ""
    seconds: float = 0.0
    foreign: str = ""  # an error that is not ours
    back: bool = False


@dataclass(frozen=True)
class Point:
    """A call of an operation: the nth of its kind, where it changes an interface the nth of that interface."""

    action: str
    nth: int
    interface: Optional[int] = None

    @property
    def name(self) -> str:
        return f"{self.action}{'' if self.interface is None else f'[{self.interface}]'}#{self.nth}"


class Scene:
    """node1 in a fresh world, fenced from node3 in one mode."""

    def __init__(self, bench: Bench, mode: str) -> None:
        self.bench, self.mode, self.server = bench, mode, bench.server
        self.names = bench.fresh()
        world = self.server.world
        self.server.keys.verify = False  # the signature is not what this is about
        self.node = world.nodes["node1"]
        self.interfaces = list(world.interfaces["node1"])
        bench.dmi.write_text(world.nodes["node3"], encoding="ascii")
        self.originals = {i: frozenset(self.server.groups_of(i)) for i in self.interfaces}
        self.options = self._options()
        self.spec = self.settings("off").spec
        self.faulty: Set[int] = set()  # numbers of the calls that a fault happened to
        self._stopping = False  # was it read once since?
        self.lost: List[str] = []  # moments at which originals were not readable from tags
        self.kill: Callable[[], None] = lambda: None  # ends the process that runs
        self.calm()

    def has(self, part: str) -> bool:
        """Is it part of the mode?"""
        return part in self.mode.split("+")

    def _options(self) -> Dict[str, Any]:
        names = self.names
        found: Dict[str, Any] = {"secg": names["app"]}
        if self.has("keep"):
            found = {"secg": f"{names['isolation']},{names['isolation2']}", "invert_sg_removal": True}
        found["settle_time"] = SETTLE_SECONDS if self.has("untrack") else 0
        if self.has("untrack"):
            found["untrack_secg"] = names["open"]
        if self.has("ignore"):
            found["ignore_tag_write_failure"] = True
        if self.has("static"):
            sets = [sorted(self.originals[i]) for i in self.interfaces]
            found.update({f"interface{n}_sg": ",".join(g) for n, g in enumerate(sets)})
        if self.has("poweroff"):
            found.update(onfence_poweroff=True, ignore_instance_state=True)
        found.update({name: True for part, name in POWER.items() if self.has(part)})
        return found

    def settings(
        self, action: str, api_seconds: float = API_SECONDS, deadline: float = SECONDS, **options: Any
    ) -> settings.Settings:
        """The options as the agent parses them, with a shorter time for a call."""
        key = self.server.key
        given = {
            **self.options, "action": action, "plug": self.node, "region": self.server.region,
            "access_key": key.access_key, "secret_key": key.secret_key, "endpoint_url": self.server.endpoint,
            **options,
        }  # fmt: skip
        if action == "return":
            given["action"] = "monitor"
            del given["plug"]  # as Pacemaker calls it
        parsed = settings.parse({f"--{k.replace('_', '-')}": "1" if v is True else v for k, v in given.items()})
        return replace(parsed, timing=replace(parsed.timing, api_seconds=api_seconds, deadline=deadline))

    # Acting

    def context(self, action: str, slow_replies: bool = False, **changes: Any) -> Context:
        """What an action works with; ``slow_replies``: a reply may take its time, as on a machine that is busy."""
        clock = self.bench.clock
        if slow_replies:
            changes["api_seconds"] = 5.0
        chosen = self.settings(action, **changes)
        context = create_context(chosen, Deadline(chosen.seconds, clock(), clock))
        if not slow_replies:
            context.ec2._attempt_seconds = ATTEMPT_SECONDS
        return context

    def run(self, action: str, slow_replies: bool = False, **changes: Any) -> Outcome:
        """An operation in this process, as the agent does it."""
        began = self.bench.clock()
        context = self.context(action, slow_replies, **changes)
        outcome = Outcome(0)
        try:
            if action == "off":
                actions.fence(context, actions.prepare_off(context, [self.node]))
            elif action == "on":
                actions.restore(context, [self.node])
            elif action == "return":
                results: Dict[str, str] = {}
                auto_unfence.bring_back(context, queries.monitor(context), results)
                outcome.back = results.get(self.node) == "ok"
            else:
                outcome.code = 2 if queries.status(context, [self.node])[self.node] else 0
        except FenceError as error:
            outcome = Outcome(1, str(error), error.category.value)
        except Exception as error:  # noqa: BLE001 - what must not happen
            outcome = Outcome(1, foreign=f"{type(error).__name__}: {error}")
        outcome.seconds = self.bench.clock() - began
        return outcome

    def calm(self) -> None:
        """Removes all faults, and waits for the calls in progress, those of a killed process too."""
        self.server.await_gone()
        self.server.rules.clear()
        self.server.fresh()
        self.server.key.expired = False
        end = time.monotonic() + 2
        while any(c.outcome == "pending" for c in list(self.server.calls)) and time.monotonic() < end:
            time.sleep(0.002)
        self.server.rules.add(None, Hook(self._look, late=True), when=lambda call: not call.reads, times=None)
        if self.has("required"):
            self.server.config.stop_seconds = 3600
            self.server.rules.add(DESCRIBE, Hook(self._end_stop), times=None)

    def _end_stop(self, _call: Call) -> None:
        """A stop ends before the second read that could show it."""
        if self.now["state"] == "stopping":
            if self._stopping:
                self.server.edit.set_state(self.node, "stopped")
            self._stopping = not self._stopping

    def put(self, point: Point, *faults: Fault, times: Optional[int] = 1) -> None:
        """Let faults happen at a call."""
        wanted = None if point.interface is None else self.interfaces[point.interface]

        def same(call: Call) -> bool:
            return wanted is None or call.params.get("NetworkInterfaceId") == wanted

        note = Hook(lambda call: self.faulty.add(call.number))
        for fault in (note, *faults):
            self.server.rules.add(point.action, fault, when=same, nth=point.nth, times=times)

    # Looking

    @property
    def now(self) -> Dict[str, Any]:
        """The instance as it is."""
        found: Dict[str, Any] = self.server.snapshot()[self.node]
        return found

    def tags(self) -> Dict[str, str]:
        """Our tags, but for those of ``auto_unfence``."""
        return {k: v for k, v in self.now["tags"].items() if k == "lastfence" or k.startswith("Original_SG_Backup_")}

    @property
    def returned(self) -> str:
        """The tag that counts the returns."""
        return str(self.now["tags"].get(RETURNED, ""))

    def are_isolating(self, groups: FrozenSet[str]) -> bool:
        """Are these the groups of an isolated interface? Said here once more, not asked of the code under test."""
        secg = frozenset(self.options["secg"].split(","))
        if self.has("keep"):
            return bool(groups) and groups <= secg
        return bool(groups) and not groups & (secg | {self.options.get("untrack_secg")})

    def is_isolated(self) -> bool:
        """Are all interfaces?"""
        found = self.now["interfaces"].values()
        return bool(found) and all(self.are_isolating(frozenset(g)) for g in found)

    def unreadable(self) -> List[str]:
        """Interfaces whose groups are not the originals, and whose originals are not in the tags."""
        now = self.now
        if now["state"] == "terminated" or self.has("ignore") or self.has("static"):
            return []
        sets = {i: frozenset(g) for i, g in now["interfaces"].items()}
        shown = tuple(model.Interface(i, n, g) for n, (i, g) in enumerate(sets.items(), 1))
        instance = model.Instance(self.node, now["state"], shown, now["tags"])
        found = isolation.groups_to_restore(instance, backup.read(instance), self.spec)
        return [i for i, g in sets.items() if g != self.originals[i] != found.get(i)]

    def _look(self, call: Call) -> None:
        self.lost += [f"{call.action} {call.number}: {i}" for i in self.unreadable()]

    # Two ways on from one state

    def later(self) -> None:
        """The backup is some time older."""

        def older(text: str) -> str:
            return TIME.sub(lambda found: str(int(found[0]) - AGE_SECONDS), text)

        tags = self.tags()
        self.server.edit.put_tags(self.node, {**dict.fromkeys(tags), **{older(k): older(v) for k, v in tags.items()}})

    def put_back(self, then: Dict[str, Any]) -> None:
        """Groups, tags and state are what they were."""
        now = self.now
        for interface, groups in then["interfaces"].items():
            self.server.edit.set_groups(interface, groups)
        gone = {k: None for k in now["tags"] if k not in then["tags"]}
        self.server.edit.put_tags(self.node, {**gone, **then["tags"]})
        if now["state"] != then["state"]:
            self.server.edit.set_state(self.node, then["state"])

    @property
    def situation(self) -> Any:
        """What the instance looks like, but for when a backup was made, and the chance in its keys and values."""
        now = self.now
        texts = [text for item in now["tags"].items() for text in item]
        times = sorted({time for text in texts for time in TIME.findall(text)})
        tags = []
        for key, value in now["tags"].items():
            match = BACKUP.fullmatch(key)
            body = json.loads(value)["n"] if match else {}
            held = (TIME.findall(value), body["i"], sorted(body["s"]), body["c"]) if match else ()
            tags.append(repr((match.groups(), *held) if match else (key, value)))
        shown = TIME.sub(lambda found: f"time {times.index(found[0])}", repr(sorted(tags)))
        return self.mode, now["state"], repr(sorted(now["interfaces"].items())), shown
