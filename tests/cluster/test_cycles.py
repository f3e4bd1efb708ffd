"""Fenced and unfenced again and again, nothing leaks. More cycles: tests/cluster/soak."""

from .cycles import cycle, heading

CYCLES = 5


def test_five_cycles_in_a_row_leak_nothing(bed, measured):
    measured(heading())
    done = []
    for _ in range(CYCLES):
        done.append(cycle(bed))
        measured(str(done[-1]))
        assert all(bed.cloud.pristine(name) for name in bed.names)
    first, last = done[1], done[-1]  # the first time, files and caches come to be
    assert [c.tags for c in done] == [0] * CYCLES
    assert last.processes <= first.processes + 3
    assert last.descriptors <= first.descriptors + 3
    assert last.files <= first.files
    assert last.memory <= first.memory * 1.2 + 500
