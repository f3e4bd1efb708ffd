"""Guards of the core, each taken out, and a scenario in which the search sees that: (function, old text, new text).

The text occurs once in the function's source. Only the function's code is exchanged, so that it holds wherever the
function is known, and is put back afterwards.
"""

import contextlib
import inspect
import textwrap
from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterator, Mapping, Tuple

from aws_vpc_net.core import (
    backing_up,
    isolating,
    isolation,
    observe,
    off,
    on,
    reisolating,
    returning,
    rolling_back,
    stopping,
    tag_slots,
)
from aws_vpc_net.core.probing import Observable, Probe
from aws_vpc_net.core.protocol import Knowledge
from aws_vpc_net.core.returning import Stopped

from . import catalogue
from .truth import WHOLE
from .world import (
    CRASH,
    DEADLINE,
    E1,
    EVENT,
    LACKING,
    LATE,
    LOST,
    OTHER_STATIC,
    STALE,
    THROTTLED,
    UNREAD,
    Actor,
    Scenario,
    actors,
)

Edit = Tuple[Callable[..., Any], str, str]


@dataclass(frozen=True)
class Defect:
    """What is taken out, and where that shows."""

    edits: Tuple[Edit, ...]
    scenario: Scenario


@contextlib.contextmanager
def made(defect: Defect) -> Iterator[None]:
    """The core has this defect."""
    codes = [(function, function.__code__) for function, _, _ in defect.edits]
    try:
        for function, old, new in defect.edits:
            function.__code__ = _edited(function, old, new)
        yield
    finally:
        for function, code in reversed(codes):
            function.__code__ = code


def _edited(function: Callable[..., Any], old: str, new: str) -> Any:
    source = textwrap.dedent(inspect.getsource(function))
    assert source.count(old) == 1, (function.__qualname__, old)
    source = source.replace("@property\n", "").replace("@staticmethod\n", "")
    defined: Dict[str, Any] = {}
    module = "from __future__ import annotations\n" + source.replace(old, new)
    exec(compile(module, inspect.getfile(function), "exec"), function.__globals__, defined)
    return defined[function.__name__].__code__


def _of(function: Callable[..., Any], old: str, new: str, scenario: Scenario) -> Defect:
    return Defect(((function, old, new),), scenario)


def _one(mode: str, who: str, start: str, *kinds: str, **more: Any) -> Scenario:
    return Scenario(mode, actors(*who.split(",")), start, 1 if kinds else 0, frozenset(kinds), **more)


def _denied(who: str, mode: str = "keep", start: str = "open", *kinds: str) -> Scenario:
    """The first of them may not change the second interface."""
    first, *others = actors(*who.split(","))
    refused = Actor(first.action, 0, first.nonce, frozenset((E1,)))
    return Scenario(mode, (refused, *others), start, 1 if kinds else 0, frozenset(kinds))


def _probing(mode: str, *kinds: str, **more: Any) -> Scenario:
    """An off that connects to the node."""
    off = Actor("off", settle=1.5, probe=True)
    return Scenario(mode, (off,), "open", 1 if kinds else 0, frozenset(kinds), **more)


def _property(of: Any) -> Callable[..., Any]:
    return of.fget



DEFECTS: Mapping[str, Defect] = {
    # what issue 14 lists
    "a backup that is written again forgets what one read lacks": _of(
        isolating.write_backup_again,
        "FrozenMap(amended or b.originals)",
        "FrozenMap({i: g for i, g in (amended or b.originals).items() if i in k.latest.groups})",
        _one("keep", "off,on", "fenced", LACKING),
    ),
    "on neither claims nor looks back": _of(
        on.has_restorable_backup, "return bool(", "return False and bool(", _one("keep", "off,on", "fenced")
    ),
    "on does not claim": _of(on._restore_first, "if claims:", "if False:", _one("keep", "off,on", "fenced", CRASH)),
    "on has no second chance after a stale look back": Defect(
        (
            (on._looked_back, "if (stale or lost) and", "if stale and False and"),
            (on._restore_first, "if claims:", "if False:"),
        ),
        _one("keep", "off,on", "fenced", STALE),
    ),
    "off does not name the originals after a failed read": _of(
        isolating.originals_in_doubt, "if proven or", "if True or", _one("keep", "off,on", "open", UNREAD)
    ),
    "on does not name the originals after a failed look back": _of(
        on._looked_back, "k.backup.originals), k.backup.originals)", "k.backup.originals))",
        Scenario("keep", actors("off", "on"), "fenced", 2, frozenset((UNREAD, CRASH))),
    ),
    "an edit of an interface without the group is lost after a killed off": _of(
        isolation._took_away, "return spec.keep_only or", "return True or",
        _one("remove", "off", "open", world="never had it", half=("off", 2), before=("edit the other",)),
    ),
    "off untracks again beside another": _of(
        isolating.is_shared, "return bool(others)", "return False", _one("keep+untrack", "off,off", "open", THROTTLED)
    ),
    "isolating again goes on for what is refused and was never opened": Defect(
        (
            (on._overtaken, "for i in k.possibly_changed", "for i in k.interfaces"),
            (reisolating.reisolate, "open_now - k.refused if", "k.reopened if not k.interfaces[i].accepted and"),
        ),
        _denied("on,off", "keep", "fenced"),
    ),
    "off proves before a late untracking can arrive no more": _of(
        _property(Knowledge.due), "self.timers.arrived, *late", "self.timers.arrived",
        _one("keep+untrack", "off", "open", LATE),
    ),
    # what followed from the search
    "an accepted change ends the wait for one without a reply": _of(
        observe._groups, "settled=settled", "settled=settled, arrived=0.0", _one("keep", "off,on", "open", LATE),
    ),
    "on has no read at the deadline": _of(
        on._verify, "k, tick.reserve_ends)", "k, tick.ends)",
        _one("keep", "off,on", "fenced", DEADLINE),
    ),
    "an isolation without a reply is not waited for": _of(
        observe._isolated, "arrived=now + plan.api_seconds", "arrived=0.0",
        _one("keep", "off,on", "open", LATE),
    ),
    "a restore without a reply is not waited for": _of(
        observe._restored, "if unknown else p", "if False else p", _one("keep", "off,on", "fenced", LATE)
    ),
    "what was opened is not isolated once more when nothing can arrive": _of(
        reisolating._when_arrived, "late = k.late(tick.now) & k.reopened", "late = frozenset()",
        _one("keep", "off,on", "fenced", LATE),
    ),
    # the data plane
    "off does not wait for the network": _of(
        _property(Knowledge.due), "else self.timers.settled", "else 0.0",
        Scenario("keep", (Actor("off", settle=1.5),)),
    ),
    "an interface does not stay on untrack_secg": _of(
        isolating.next_change, "max(k.timers.settled, k.timers.arrived)", "0.0",
        Scenario("keep+untrack", (Actor("off", settle=1.5),)),
    ),
    "an address is quiet after one silent attempt": _of(
        _property(Observable.quiet), "self.silent >= SILENT_ATTEMPTS", "self.silent", _probing("keep")
    ),
    "silent attempts need not be in a row": _of(
        Observable.answered, "if answer is Answer.SILENT else 0", "if answer is Answer.SILENT else self.silent",
        _probing("keep"),
    ),
    "silence from before a change of groups counts": _of(
        observe._groups, "probe=k.probe.changed(repeated)", "probe=replace(k.probe, asked=None)",
        _probing("keep", EVENT, events=("edit",))
    ),
    "one silent interface takes the place of settle_time": _of(
        Probe.has_followed, "{*interfaces, *latest.groups} <= proven", "bool(proven)", _probing("keep")
    ),
    "settle_time ends though an address cannot be tried any more": _of(
        Probe.has_followed, "or self.not_quiet(latest)", "",
        Scenario("keep", (Actor("off", settle=1.7, probe=True),)),
    ),
    "off succeeds though an address still answers": _of(
        observe._read, "and not k.probe.unfinished(latest)", "", _probing("keep", EVENT, events=("edit",))
    ),
    "a read that lacks an interface ends the watch of it": _of(
        Probe._watched, "a in shown.get(o.interface, (a,))",
        "a in shown.get(o.interface, ())", _probing("keep", LACKING),
    ),
    "a connection from before may live on": _of(
        _property(Observable.quiet), "and self.standing is not Standing.ALIVE", "", _probing("keep+untrack")
    ),
    "a connection that the node ended proves something": _of(
        Probe.has_followed, "if o.standing is not Standing.ENDED", "", _probing("keep+untrack")
    ),
    # roll-back
    "off does not look again after it has rolled back": _of(
        rolling_back.look_again, "return start_reisolating(plan, k, tick, k.reopened)",
        "return _rolled_back_alone(plan, k, tick, latest)", _denied("off,off"),
    ),
    "off rolls back beside another": _of(
        rolling_back.why_not_rolled_back, "if tags.is_sole_writer(latest, backup):", "if True:", _denied("off,off")
    ),
    "off rolls back what may have taken effect": _of(
        rolling_back.why_not_rolled_back, "if any(p.outcome_unknown for p in k.interfaces.values()):", "if False:",
        _denied("off,off", "keep", "open", LOST),
    ),
    # the backup, written again
    "nothing is written again beside another": _of(
        off._backup_again, "foreign = not k.backup.answered and", "foreign = False and", _denied("off,off")
    ),
    "a backup is written again beside another only once": _of(
        observe._groups, "answered=False", "answered=k.backup.answered", _denied("off,off", "keep", "open", LOST)
    ),
    "a lacking backup is not written again": _of(
        off._backup_again, "lacking = k.backup.missing and", "lacking = False and", _one("keep", "off,on", "open")
    ),
    "what the first read showed counts as news": _of(
        isolating.write_backup_again, "plan.spec, b.first_times", "plan.spec",
        Scenario("keep", actors("off", "on"), "fenced", half=("on", 2), before=("edit",)),
    ),
    "off does not amend its backup by the read that proves it": _of(
        backing_up._backup, "if amended is None:", "if True:",
        _one("keep", "off", "open", EVENT, events=("edit",)),
    ),
    # keys and times
    "keys are not apart where a read may lack interfaces": _of(
        tag_slots._key_offset, "if fenced or instance.lacks_primary else 0", "if fenced else 0",
        _one("keep", "off,off", "open", LACKING),
    ),
    # what counts
    "off succeeds on the groups alone": _of(
        off._is_done, "_is_accepted(p) and", "not p.opening.untrack_due and", _one("keep", "off,off", "open", LATE)
    ),
    "off succeeds without its backup": _of(
        off._is_proven, "undecided = k.backup.rewritten or", "undecided = False and",
        _one("keep", "off,on", "fenced"),
    ),
    # power
    "off does not wait for a required stop": _of(
        stopping.is_off, "not plan.require_poweroff or", "True or",
        next(catalogue.stopping(["keep"])),
    ),
    "off does not request a required stop": _of(
        stopping.request, "latest.state in ENDS_BY_ITSELF", "True", next(catalogue.stopping(["keep"])),
    ),
    # untrack_secg
    "off leaves open what it opened": _of(
        isolating._close, "if not k.opened:", "if True:",
        Scenario("keep+untrack", actors("off"), "open", 2, frozenset((THROTTLED, UNREAD))),
    ),
    "off does not close again what may arrive late": _of(
        isolating.end, "if late and", "if False and",
        Scenario("keep+untrack", actors("off"), "open", 2, frozenset((LATE, UNREAD))),
    ),
    "another on counts as an off": _of(
        on._verify, "has_foreign_writes(latest, claims=False)", "has_foreign_writes(latest)",
        _one("keep", "on,on", "fenced twice"),
    ),
    "on takes the backup for the groups of the options": _of(
        observe._read, "and not plan.restoring:", "and True:",
        Scenario("remove", (Actor("on", static=OTHER_STATIC),), "fenced"),
    ),
    "on deletes what cannot be read": _of(
        on._restored, "if plan.static or not unreadable else", "if True else",
        _one("keep", "on", "fenced", EVENT, events=("cut a tag",)),
    ),
    "on isolates again what no tag holds any more": _of(
        reisolating.reisolate, "if not k.backup.rewritten and _lost(plan, k, k.latest):", "if False:",
        _one("keep", "on", "fenced", EVENT, events=("cut a tag",)),
    ),
    "on does not look for an off": _of(
        on._verify, "if k.backup.history.has_foreign_writes(latest, claims=False):", "if False:",
        _one("keep", "off,on", "fenced"),
    ),
    "off does not look again for its name": _of(
        backing_up._backup, "if latest.lost_names:", "if False:",
        next(s for s in catalogue.renamed(["keep"]) if str(s.actors[0]) == "off"),
    ),
    "monitor brings back what runs": Defect(
        (
            (returning._judge, 'if instance.state == "running":', "if False:"),
            (returning._unfit, 'if instance.state != "stopped":', "if False:"),
        ),
        _one("keep", "return", "fenced", before=("start",)),
    ),
    "monitor brings back what is not isolated": _of(
        returning._judge, "if not all(isolated):", "if False:", _one("keep", "return", "fenced", before=("edit",)),
    ),
    "monitor starts what nobody has fenced": _of(
        returning._judge, "if resumed else given_up", "if True else given_up",
        _one("keep", "return", "open"),
    ),
    "monitor starts what was stopped after its return": _of(
        Stopped.is_unfinished, "self.returns.launched == self.launched > 0 and", "True and",
        _one("keep", "return", "fenced", half=("return", WHOLE), before=("stop",)),
    ),
    "monitor does not finish a return": _of(
        Stopped.is_resumed, "self.is_unfinished(now) and", "False and",
        _one("keep", "return,return", "fenced", half=("return", 3)),
    ),
    "monitor starts what reads isolated again": _of(
        on._start, 'latest.state == "stopped" and not isolated', 'latest.state == "stopped"',
        _one("keep", "return", "fenced", STALE),
    ),
    "monitor starts what was fenced since": _of(
        on._fenced_since, "return k.backup", "return False and k.backup",
        _one("keep", "off,return", "fenced"),
    ),
    "monitor takes another monitor for an off": _of(
        on._fenced_since, "has_foreign_writes(latest, claims=False)", "has_foreign_writes(latest)",
        _one("keep", "return,return", "fenced twice"),
    ),
}  # fmt: skip
