"""A hung node continues to write to a host over TCP: which bytes arrive after it was fenced.

Hung: its cluster daemons are stopped, so that nothing on the node stops the writer.
"""

import time

from .shell import wait

OBSERVED_SECONDS = 8.0  # the writer writes 100 lines per second


def flows(bed, node):
    """The established connections of the node's eth1 that the network tracks."""
    return [line for line in bed.plane.connections(bed.nodes[node].machine.addresses[1]) if "ESTABLISHED" in line]


def test_established_connection_survives_without_untracking(bed, measured):
    """As AWS documents. Pacemaker starts the writer on another node, so two nodes write: hence untrack_secg."""
    bed.pcs("stonith", "update", "fence-vpc", "untrack_secg=")
    victim = bed.writer_on()
    bed.nodes[victim].hang()
    bed.wait_until_fenced(victim)
    fenced = time.monotonic()
    new_node = bed.wait_until_moved(victim)
    before = bed.storage.bytes_of(victim)
    time.sleep(OBSERVED_SECONDS)
    after = bed.storage.bytes_of(victim)
    measured(f"{after - before} bytes from {victim} beside {new_node} in {OBSERVED_SECONDS:g} s after it was fenced")
    assert bed.cloud.isolated(victim)
    assert after - before > 1000
    assert len(flows(bed, victim)) == 1
    assert {name for name, _, _ in bed.storage.spans(fenced)} == {victim, new_node}
    assert any("established connections" in node.log() for node in bed.nodes.values()), "the agent warns"
    bed.plane.untrack(bed.nodes[victim].machine.addresses[1])  # as after five idle days
    time.sleep(0.5)
    before = bed.storage.bytes_of(victim)
    time.sleep(3)
    assert bed.storage.bytes_of(victim) == before, "no new connection begins"


def test_no_byte_arrives_after_success_with_untracking(bed, measured):
    victim = bed.writer_on()
    by = bed.others(victim)[0]
    bed.nodes[victim].hang()
    before = bed.storage.bytes_of(victim)
    began = time.monotonic()
    result = bed.agent_on(by, "off", victim)
    at_success = bed.storage.bytes_of(victim)
    ended = time.monotonic()
    assert result.returncode == 0, result.stderr
    assert at_success > before, "it wrote until it was isolated"
    time.sleep(OBSERVED_SECONDS)
    assert bed.storage.bytes_of(victim) == at_success
    assert bed.nodes[victim].pids("python3"), "the writer still runs: it was isolated, not stopped"
    assert flows(bed, victim) == []
    last = max(w.at for w in bed.storage.writes if w.node == victim)
    measured(f"last byte {last - began:.2f} s after the agent began, success after {ended - began:.2f} s, then none")


def test_unfencing_without_restart_delivers_buffered_data(bed, measured):
    """Why a node is restarted before it is unfenced: its kernel still holds data written before the isolation."""
    victim = bed.writer_on()
    bed.nodes[victim].hang()
    bed.wait_until_fenced(victim)
    new_node = bed.wait_until_moved(victim)
    before = bed.storage.bytes_of(victim)
    bed.unfence(victim, by=new_node)
    wait("bytes written before the isolation arrive", lambda: bed.storage.bytes_of(victim) > before, 60)
    measured(f"{bed.storage.bytes_of(victim) - before} bytes of {victim} arrived, after unfencing without a restart")
