"""A node fails: it is fenced by the agent, and its resource is recovered on another node."""

import os
import time

import pytest

from .shell import wait

MAX_OVERHEAD = 2.0  # seconds from request to success beside EC2's and settle_time, on an idle machine


def link_down(bed, node):
    bed.fabric.set_link(node, 0, False)


def corosync_killed(bed, node):
    bed.nodes[node].kill("corosync")


def node_hung(bed, node):
    bed.nodes[node].hang()


def power_failure(bed, node):
    bed.nodes[node].power_off()


CAUSES = (link_down, corosync_killed, node_hung, power_failure)


@pytest.mark.parametrize("cause", CAUSES, ids=lambda cause: cause.__name__)
def test_failed_node_is_fenced_and_its_resource_recovered(bed, measured, cause):
    victim = bed.writer_on()
    began = time.monotonic()
    cause(bed, victim)
    event = bed.wait_until_fenced(victim)
    fenced = time.monotonic()
    new_node = bed.wait_until_moved(victim)
    measured(f"fenced after {fenced - began:.1f} s, writer on {new_node} after {time.monotonic() - began:.1f} s")
    assert bed.cloud.isolated(victim)
    assert (event.target, event.status) == (victim, "success")
    assert event.delegate in bed.others(victim)
    assert event.origin in bed.others(victim)
    spans = bed.storage.spans(began)
    assert [name for name, _, _ in spans] in ([victim, new_node], [new_node]), "never two writers at once"
    if cause in (corosync_killed, node_hung):
        assert [name for name, _, _ in spans] == [victim, new_node]
        measured(f"{spans[1][1] - spans[0][2]:.2f} s between the last byte of {victim} and the first of {new_node}")
    fencing = bed.fencing(victim)
    measured(str(fencing))
    overhead = fencing.overhead - 2 * bed.settle_time  # untracked, then isolated
    assert overhead <= MAX_OVERHEAD * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    wait("the survivors are healthy", lambda: bed.view(new_node).online == bed.others(victim), 20)
