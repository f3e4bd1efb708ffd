"""The catalogue: what can happen at a call, how it is set up, where it makes sense, and whether it may fail it."""

from dataclasses import dataclass
from functools import partial
from typing import Callable, Dict, List, Optional, Tuple

from ec2.faults import Delay, Error, Fault, Garbage, Hook, LoseReply, Reset, ServerError, Stall, Throttle, Trickle
from ec2.faults import Truncate as Cut
from ec2.wire import Call

from .world import API_SECONDS, DESCRIBE, MODIFY, Point, Scene


@dataclass(frozen=True)
class Kind:
    """A fault of the catalogue."""

    name: str
    set_up: Callable[[Scene, Point], None]
    passing: bool = False  # the operation must succeed all the same
    where: Callable[[Scene, Point], bool] = lambda scene, point: True
    names: Optional[Callable[[Point], str]] = None  # a word that the error must hold
    stale: bool = False
    real_time: bool = False  # pauses must last, as what comes late is late by the wall clock
    event: bool = False  # something happens in the world; the call itself is left alone


def _faults(*faults: Callable[[], Fault], times: Optional[int] = 1) -> Callable[[Scene, Point], None]:
    return lambda scene, point: scene.put(point, *(make() for make in faults), times=times)


def _event(
    name: str,
    happens: Callable[[Scene, Call], None],
    where: Callable[[Scene, Point], bool] = lambda scene, point: True,
    names: Optional[Callable[[Point], str]] = None,
) -> Kind:
    """Something that happens in the world just before the call."""

    def set_up(scene: Scene, point: Point) -> None:
        scene.put(point, Hook(partial(happens, scene)))

    return Kind(name, set_up, where=where, names=names, event=True)


def _call(point: Point) -> str:
    return point.action


# --- events ----------------------------------------------------------------------------------------------------


def _attach(groups: Callable[[Scene], List[str]]) -> Callable[[Scene, Call], None]:
    def happens(scene: Scene, call: Call) -> None:
        wanted = groups(scene)
        interface = scene.server.edit.attach(scene.node, wanted, 5)
        scene.originals[interface] = frozenset(wanted)
        scene.late[interface] = call.number

    return happens


def _cut_groups(scene: Scene) -> List[str]:
    return [scene.names["isolation" if scene.has("keep") else "ssh"]]


def _detach(delete: bool) -> Callable[[Scene, Call], None]:
    return lambda scene, call: scene.server.edit.detach(scene.interfaces[1], delete=delete)


def _secg(scene: Scene) -> Tuple[str, ...]:
    return ("isolation2",) if scene.has("keep") else ("app",)


def _all_secg(scene: Scene) -> Tuple[str, ...]:
    return ("isolation", "isolation2") if scene.has("keep") else ("app",)


def _original(scene: Scene) -> Tuple[str, ...]:
    return ("ssh",) if scene.has("keep") else ("app",)


def _delete(groups: Callable[[Scene], Tuple[str, ...]]) -> Callable[[Scene, Call], None]:
    """EC2 refuses to delete a group that is in use."""

    def happens(scene: Scene, _call: Call) -> None:
        for group in (scene.names[n] for n in groups(scene)):
            if group not in scene.in_use():
                scene.server.edit.delete_group(group)
                scene.deleted.add(group)

    return happens


def _free(groups: Callable[[Scene], Tuple[str, ...]]) -> Callable[[Scene, Point], bool]:
    return lambda scene, point: set(groups(scene)) <= point.free


def _state(state: str) -> Callable[[Scene, Call], None]:
    return lambda scene, call: scene.server.edit.set_state(scene.node, state)


def _expire(scene: Scene, _call: Call) -> None:
    scene.server.key.expired = True


def _kill(late: bool) -> Callable[[Scene, Point], None]:
    def set_up(scene: Scene, point: Point) -> None:
        scene.put(point, Hook(lambda call: scene.killing(), late=late), LoseReply() if late else Reset())

    return set_up


def _swallow(scene: Scene, point: Point) -> None:
    """EC2 accepts the change, and it is not there."""
    undo: List[Callable[[], None]] = []

    def remember(call: Call) -> None:
        interface = call.params.get("NetworkInterfaceId")
        if interface:
            groups = scene.server.groups_of(interface)
            undo.append(lambda: scene.server.edit.set_groups(interface, groups))
        else:
            undo.append(scene.save())

    scene.put(point, Hook(remember), Hook(lambda call: undo.pop()(), late=True))


# --- stale reads -----------------------------------------------------------------------------------------------


def _stale(what: str, changes: int, reads: Optional[int]) -> Kind:
    lags: Dict[str, int] = {f"{k}_changes": changes for k in ("tags", "groups") if what in (k, "both")}

    def set_up(scene: Scene, point: Point) -> None:
        scene.put(point, Hook(lambda call: scene.server.stale(reads=reads, **lags)))  # type: ignore[arg-type]

    name = f"stale-{what}-{changes}{'' if reads else '-for-ever'}"
    return Kind(name, set_up, bool(reads), lambda scene, point: point.action == DESCRIBE, stale=True)


STALE = [_stale(w, c, r) for w in ("tags", "groups", "both") for c, r in ((1, 2), (2, 2), (2, None))]

CATALOGUE: Tuple[Kind, ...] = (
    Kind("throttle", _faults(Throttle, times=2), True),
    Kind("5xx", _faults(ServerError, times=2), True),
    Kind(
        "denied",
        _faults(lambda: Error("UnauthorizedOperation", "You are not authorized", 403), times=None),
        names=lambda point: f"ec2:{point.action}",
    ),
    Kind(
        "refused",
        _faults(lambda: Error("InvalidParameterValue"), times=None),
        names=lambda p: "InvalidParameterValue",
    ),
    Kind("reset", _faults(Reset), True),
    Kind("lost", _faults(LoseReply), True),
    Kind("lost-for-ever", _faults(LoseReply, times=None), names=_call),
    Kind("garbage", _faults(Garbage), True),
    Kind("cut", _faults(Cut), True),
    Kind("cut-xml", _faults(lambda: Cut(announce=False)), True),
    Kind("stall", _faults(Stall), True),
    Kind("stall-effect", _faults(lambda: Stall(effect=True)), True),
    Kind("trickle", _faults(lambda: Trickle(API_SECONDS / 4)), True),
    Kind("late", _faults(lambda: Delay(API_SECONDS * 1.15)), True, real_time=True),
    Kind("swallowed", _swallow, where=lambda scene, point: point.action in ("CreateTags", MODIFY)),
    *STALE,
    _event("attach", _attach(lambda scene: scene.new_groups)),
    _event("attach-cut", _attach(_cut_groups), lambda scene, point: not scene.has("static")),
    _event("detach", _detach(False)),
    _event("detach-delete", _detach(True)),
    _event("secg-deleted", _delete(_secg), _free(_secg)),
    _event("all-secg-deleted", _delete(_all_secg), lambda s, p: s.has("keep") and _free(_all_secg)(s, p)),
    _event("original-deleted", _delete(_original), lambda s, p: s.has("keep") and _free(_original)(s, p)),
    _event("stopped", _state("stopped")),
    _event("terminated", _state("terminated")),
    _event("expired", _expire, names=lambda point: "RequestExpired"),
    Kind("kill-before", _kill(False)),
    Kind("kill-after", _kill(True)),
)
