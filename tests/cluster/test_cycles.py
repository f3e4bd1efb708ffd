"""Repeated fencing and unfencing leaks nothing. More cycles: tests/cluster/soak."""

import contextlib

from .cycles import cycle, heading, more_than
from .shell import Failed, wait

CYCLES = 5


def test_five_fencing_cycles_leak_nothing(bed, measured):
    """One file, process or descriptor more than after the second cycle is a leak, unless it is temporary.

    The first cycle creates files and fills caches. pacemaker-fenced's own memory grows more slowly with each cycle.
    """
    measured(heading())
    done = []
    for _ in range(CYCLES):
        done.append(cycle(bed))
        measured(str(done[-1]))
        assert [name for name in bed.names if not bed.cloud.pristine(name)] == []
    second, last = done[1], done[-1]
    assert [c.tags for c in done] == [0] * CYCLES
    leaks = []

    def none_left():
        leaks.append(more_than(bed, second))
        return not leaks[-1]

    with contextlib.suppress(Failed):  # the assertion shows the leak
        wait("temporary processes have ended", none_left, 30)
    assert leaks[-1] == {}
    assert last.memory <= second.memory * 1.2 + 500
