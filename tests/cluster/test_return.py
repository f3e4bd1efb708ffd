"""A fenced node comes back: rejoined, with its original groups, and no tags left."""

import time

from .shell import wait


def test_by_stonith_admin(bed, measured):
    victim = bed.writer_on()
    bed.fence(victim)
    wait("the writer runs elsewhere", lambda: bed.storage.active() and victim not in bed.storage.active(), 20)
    assert bed.cloud.isolated(victim)
    assert bed.cloud.tags(victim)
    seconds = bed.bring_back(victim)
    measured(f"rejoined {seconds:.1f} s after unfencing")
    assert all(bed.cloud.pristine(name) for name in bed.names)
    seen = bed.view()
    assert len(seen.fences(victim, action="on")) == 1
    assert seen.online == bed.names


def test_by_the_agent_by_hand(bed, measured):
    victim = bed.writer_on()
    by = bed.others(victim)[0]
    assert bed.agent_on(by, "off", victim).returncode == 0
    assert bed.agent_on(by, "status", victim).returncode == 2
    bed.fenced(victim)  # Pacemaker misses the node, and fences what is fenced already
    assert bed.cloud.isolated(victim)
    bed.restart(victim)
    began = time.monotonic()
    result = bed.agent_on(by, "on", victim)
    assert result.returncode == 0, result.stderr
    bed.settle()
    measured(f"rejoined {time.monotonic() - began:.1f} s after on")
    assert bed.agent_on(by, "status", victim).returncode == 0
    assert all(bed.cloud.pristine(name) for name in bed.names)
