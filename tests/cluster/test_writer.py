"""A hung node goes on writing to a host over TCP: what of that is left when it is fenced, in bytes that arrive.

Hung: its cluster daemons stand still, so that nothing on the node stops the writer.
"""

import time

from .shell import wait

WATCHED = 8.0  # seconds; the writer writes a hundred lines in each


def flows(bed, node):
    """The established connections of the node's eth1 that the network tracks."""
    return [line for line in bed.plane.connections(bed.nodes[node].machine.addresses[1]) if "ESTABLISHED" in line]


def test_after_plain_fencing_an_established_connection_lives_on_as_aws_documents(bed, measured):
    """Pacemaker takes the node for dead and starts the writer elsewhere: two write. Why untrack_secg is there."""
    bed.pcs("stonith", "update", "fence-vpc", "untrack_secg=")
    victim = bed.writer_on()
    bed.nodes[victim].hang()
    bed.fenced(victim)
    fenced = time.monotonic()
    heir = bed.moved(victim)
    before = bed.storage.bytes_of(victim)
    time.sleep(WATCHED)
    after = bed.storage.bytes_of(victim)
    measured(f"{after - before} bytes from {victim} beside {heir} in {WATCHED:g} s after it was fenced")
    assert bed.cloud.isolated(victim)
    assert after - before > 1000
    assert len(flows(bed, victim)) == 1
    assert {name for name, _, _ in bed.storage.spans(fenced)} == {victim, heir}
    assert any("established connections" in node.log() for node in bed.nodes.values()), "the agent warns"
    bed.plane.forget(bed.nodes[victim].machine.addresses[1])  # as after five idle days
    time.sleep(0.5)
    before = bed.storage.bytes_of(victim)
    time.sleep(3)
    assert bed.storage.bytes_of(victim) == before, "no new connection begins"


def test_with_untracking_not_a_byte_arrives_after_the_agent_reported_success(bed, measured):
    victim = bed.writer_on()
    by = bed.others(victim)[0]
    bed.nodes[victim].hang()
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


def test_a_node_that_was_not_restarted_delivers_what_it_had_buffered(bed, measured):
    """Why a node is restarted before it is unfenced: its kernel still holds what was written before the cut."""
    victim = bed.writer_on()
    bed.nodes[victim].hang()
    bed.fenced(victim)
    heir = bed.moved(victim)
    before = bed.storage.bytes_of(victim)
    bed.unfence(victim, by=heir)
    wait("bytes of before the cut arrive", lambda: bed.storage.bytes_of(victim) > before, 60)
    measured(f"{bed.storage.bytes_of(victim) - before} bytes of {victim} arrived, after unfencing without a restart")
