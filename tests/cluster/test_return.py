"""A fenced node returns to service: it rejoins, with its original groups and without tags."""

import time

from .shell import wait


def test_unfencing_by_stonith_admin_restores_the_node(bed, measured):
    victim = bed.writer_on()
    bed.fence(victim)
    wait("the writer runs elsewhere", lambda: bed.storage.active() and victim not in bed.storage.active(), 20)
    assert bed.cloud.isolated(victim)
    assert bed.cloud.tags(victim)
    seconds = bed.return_to_service(victim)
    measured(f"rejoined {seconds:.1f} s after unfencing")
    assert all(bed.cloud.pristine(name) for name in bed.names)
    view = bed.view()
    assert len(view.fences(victim, action="on")) == 1
    assert view.online == bed.names


def test_unfencing_by_the_agent_restores_the_node(bed, measured):
    victim = bed.writer_on()
    by = bed.others(victim)[0]
    assert bed.agent_on(by, "off", victim).returncode == 0
    assert bed.agent_on(by, "status", victim).returncode == 2
    bed.wait_until_fenced(victim)  # Pacemaker has lost the node, and fences it again
    assert bed.cloud.isolated(victim)
    bed.restart(victim)
    began = time.monotonic()
    result = bed.agent_on(by, "on", victim)
    assert result.returncode == 0, result.stderr
    bed.wait_until_healthy()
    measured(f"rejoined {time.monotonic() - began:.1f} s after on")
    assert bed.agent_on(by, "status", victim).returncode == 0
    assert all(bed.cloud.pristine(name) for name in bed.names)
