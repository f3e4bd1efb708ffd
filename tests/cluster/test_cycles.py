"""Fenced and unfenced again and again, nothing leaks. More cycles: tests/cluster/soak."""

import contextlib

from .cycles import cycle, heading, more_than
from .shell import Failed, wait

CYCLES = 5


def test_five_cycles_in_a_row_leak_nothing(bed, measured):
    """One file, process or descriptor more than after the second cycle is a leak, if it stays.

    The first time, files and caches come to be. The memory is pacemaker-fenced's own, and grows ever more slowly.
    """
    measured(heading())
    done = []
    for _ in range(CYCLES):
        done.append(cycle(bed))
        measured(str(done[-1]))
        assert [name for name in bed.names if not bed.cloud.pristine(name)] == []
    second, last = done[1], done[-1]
    assert [c.tags for c in done] == [0] * CYCLES
    looks = []

    def none_more():
        looks.append(more_than(bed, second))
        return not looks[-1]

    with contextlib.suppress(Failed):  # the assertion says what there is more of
        wait("what was under way has ended", none_more, 30)
    assert looks[-1] == {}
    assert last.memory <= second.memory * 1.2 + 500
