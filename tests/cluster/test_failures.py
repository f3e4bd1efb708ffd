"""A node fails: it is fenced through the agent, and what ran there runs elsewhere."""

import os
import time

import pytest

from .shell import wait

BEYOND = 2.0  # seconds from request to done beside EC2's and settle_time, where no process has to wait for a CPU


def cut_link(bed, node):
    bed.fabric.set_link(node, 0, False)


def kill_corosync(bed, node):
    bed.nodes[node].kill("corosync")


def hang(bed, node):
    bed.nodes[node].hang()


def power_failure(bed, node):
    bed.nodes[node].power_off()


@pytest.mark.parametrize("cause", [cut_link, kill_corosync, hang, power_failure], ids=lambda cause: cause.__name__)
def test_a_node_that_fails_is_fenced_and_its_resource_runs_elsewhere(bed, measured, cause):
    victim = bed.writer_on()
    began = time.monotonic()
    cause(bed, victim)
    event = bed.fenced(victim)
    fenced = time.monotonic()
    heir = bed.moved(victim)
    measured(f"fenced after {fenced - began:.1f} s, writer on {heir} after {time.monotonic() - began:.1f} s")
    assert bed.cloud.isolated(victim)
    assert (event.target, event.status) == (victim, "success")
    assert event.delegate in bed.others(victim)
    assert event.origin in bed.others(victim)
    spans = bed.storage.spans(began)
    assert [name for name, _, _ in spans] in ([victim, heir], [heir]), "never two writers at once"
    if cause in (kill_corosync, hang):
        assert [name for name, _, _ in spans] == [victim, heir]
        measured(f"{spans[1][1] - spans[0][2]:.2f} s between the last byte of {victim} and the first of {heir}")
    fencing = bed.fencing(victim)
    measured(str(fencing))
    beyond = fencing.beyond - 2 * bed.settle_time  # open, then isolated
    assert beyond <= BEYOND * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    wait("the survivors are healthy", lambda: bed.view(heir).online == bed.others(victim), 20)
