"""Runs of ``off``, and steps of them, that transcripts share."""

from typing import Tuple

from core.transcript import ISO, ISO2, KEEP, KEEP_UNTRACK, Run, World, eni, off_of, play

from aws_vpc_net.core.model import IsolationSpec

ORIGINALS = f"{eni('e0')} had sg-11111111111111111, sg-22222222222222222; {eni('e1')} had sg-11111111111111111, sg-33"
WITHOUT_BACKUP = IsolationSpec((ISO,), keep_only=True, without_backup=True)
BACKUP = "read\nwrite e0:ad e1:as\nread"


def two(spec: IsolationSpec = KEEP) -> Tuple[Run, Run]:
    """Two off of one node; the clock of the second is ahead."""
    world = World()
    return off_of(world, spec, nonce=1), off_of(world, spec, nonce=2, skew=3)


NOT_PROVEN = "fail: deadline: cannot verify in time that i-0000000000000000a is isolated:"
REFUSED = f"{BACKUP}\nisolate e0:i e1:i | e1 refused"


def late(outcome: str, **options: float) -> Run:
    """A failed read, and an untracking that may still arrive, which is closed with this outcome."""
    run = off_of(World(), KEEP_UNTRACK, **options)
    play(run, f"{BACKUP}\nuntrack e0:o e1:o | e1 lost before\nisolate e0:i e1:i\nread | refused")
    play(run, f"wait isolate e1:i {outcome}")
    return run


BOTH = IsolationSpec((ISO, ISO2), keep_only=True)
