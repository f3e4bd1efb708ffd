"""A node writes to a host over TCP: what of that is left when it is fenced, in bytes that arrive."""

import time

from .shell import wait

WATCHED = 8.0  # seconds without a byte, at a hundred lines a second before


def without_untracking(bed):
    bed.pcs("stonith", "update", "fence-vpc", "untrack_secg=")


def flows(bed, node):
    """What the network tracks of the node's eth1."""
    return bed.plane.connections(bed.nodes[node].machine.addresses[1])


def test_after_plain_fencing_an_established_connection_lives_on_as_aws_documents(bed, measured):
    """Pacemaker takes the node for dead, starts the writer elsewhere, and two write: why untrack_secg is there."""
    without_untracking(bed)
    victim = bed.writer_on()
    bed.fabric.set_link(victim, 0, False)
    bed.fenced(victim)
    fenced = time.monotonic()
    heir = bed.moved(victim)
    before = bed.storage.bytes_of(victim)
    time.sleep(WATCHED)
    after = bed.storage.bytes_of(victim)
    measured(f"{after - before} bytes in {WATCHED:g} s after it was fenced, from {victim} beside {heir}")
    assert bed.cloud.isolated(victim)
    assert after - before > 1000
    assert len(flows(bed, victim)) == 1
    assert {name for name, _, _ in bed.storage.spans(fenced)} == {victim, heir}
    assert any("established connections" in node.log() for node in bed.nodes.values()), "the agent warns"


def test_after_plain_fencing_no_new_connection_begins(bed):
    without_untracking(bed)
    victim = bed.writer_on()
    bed.fence(victim)
    bed.plane._cut(bed.nodes[victim].machine.addresses[1])  # as if it had been idle for long
    wait("the kernel has forgotten the connection", lambda: not flows(bed, victim), 5)
    before = bed.storage.bytes_of(victim)
    time.sleep(3)
    assert bed.storage.bytes_of(victim) == before


def test_with_untracking_not_a_byte_arrives_after_the_agent_reported_success(bed, measured):
    victim = bed.writer_on()
    by = bed.others(victim)[0]
    before = bed.storage.bytes_of(victim)
    began = time.monotonic()
    result = bed.agent_on(by, "off", victim)
    at_success = bed.storage.bytes_of(victim)
    ended = time.monotonic()
    assert result.returncode == 0, result.stderr
    assert at_success > before, "it wrote until it was cut"
    time.sleep(WATCHED)
    assert bed.storage.bytes_of(victim) == at_success
    assert bed.nodes[victim].pids("python3"), "the writer still tries: it was cut, not stopped"
    assert flows(bed, victim) == []
    last = max(w.at for w in bed.storage.writes if w.node == victim)
    measured(f"last byte {last - began:.2f} s after the agent began, success after {ended - began:.2f} s, then none")


def test_with_untracking_pacemaker_moves_the_writer_and_only_one_writes(bed, measured):
    victim = bed.writer_on()
    began = time.monotonic()
    bed.fabric.set_link(victim, 0, False)
    bed.fenced(victim)
    heir = bed.moved(victim)
    time.sleep(WATCHED)
    spans = bed.storage.spans(began)
    assert [name for name, _, _ in spans] == [victim, heir]
    gap = spans[1][1] - spans[0][2]
    measured(
        f"{gap:.2f} s between the last byte of {victim} and the first of {heir}; link cut {spans[1][1] - began:.1f} s before"
    )
    assert bed.nodes[victim].running


def test_a_node_that_was_not_restarted_delivers_what_it_had_buffered(bed, measured):
    """Why a node is restarted before it is unfenced: the kernel still holds what was written before the cut."""
    victim = bed.writer_on()
    bed.fabric.set_link(victim, 0, False)
    bed.fenced(victim)
    heir = bed.moved(victim)
    before = bed.storage.bytes_of(victim)
    bed.fabric.set_link(victim, 0, True)
    bed.unfence(victim, by=heir)
    came = lambda: bed.storage.bytes_of(victim) - before
    wait("bytes of before the cut arrive", came, 60)
    measured(f"{came()} bytes of {victim} arrived after unfencing without a restart")
