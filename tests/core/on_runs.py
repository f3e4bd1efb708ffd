"""Runs of ``on``, and steps of them, that transcripts share."""

from core.transcript import KEEP, Run, World, groups, off_of, on_of, play

from aws_vpc_net.core.model import FrozenMap, IsolationSpec

OFF = "read\nwrite e0:ad e1:as\nread"
RESTORED = "read\nclaim\nrestore e0:ad e1:as"


def fenced(spec: IsolationSpec = KEEP) -> World:
    """The world after an off."""
    world = World()
    isolated = "e0:i e1:i" if spec.keep_only else "e0:d e1:s"
    untrack = "untrack e0:o e1:o" if spec.untrack else ""
    play(off_of(world, spec), f"{OFF}\n{untrack}\nisolate {isolated}\nread\nsuccess")
    return world


def new_off(run: Run, spec: IsolationSpec = KEEP) -> Run:
    """Another fencer, whose clock is ahead."""
    return off_of(run.world, spec, nonce=2, skew=9)


DELETED = "read\nclaim\nrestore e0:ad e1:as\nread\ndelete"


def in_progress() -> World:
    """An off was killed after it wrote its backup, or is still in progress."""
    world = World()
    play(off_of(world), OFF)
    return world


def static(world: World, spec: IsolationSpec = KEEP, **numbers: str) -> Run:
    """On with interfaceN-sg: n0="s"."""
    return on_of(world, spec, static=FrozenMap({int(n[1:]): groups(some) for n, some in numbers.items()}))
