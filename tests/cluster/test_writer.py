"""A hung node continues to write to a host over TCP: which bytes arrive after it was fenced.

Hung: its cluster daemons are stopped, so that nothing on the node stops the writer.
"""

import threading
import time

from ec2.faults import Hook

from .shell import wait

OBSERVED_SECONDS = 8.0  # the writer writes 40 lines per second


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


def test_no_write_to_a_shared_volume_after_success_if_the_stop_is_required(bed, measured):
    """No group filters a volume (EBS): the node writes to it while it is isolated, until it has stopped."""
    victim = bed.writer_on()
    node, by, volume = bed.nodes[victim], bed.others(victim)[0], bed.folder / "volume"
    sizes = []

    def stop(_call):
        sizes.append(volume.stat().st_size)
        threading.Timer(1.5, node.power_off).start()

    bed.ec2.rules.add("StopInstances", Hook(stop, late=True))
    bed.ec2.config.stop_seconds = 2.5
    node.start("bash", "-c", f"while :; do echo data >>{volume}; sleep 0.05; done")
    wait("it writes", volume.exists, 10)
    began = time.monotonic()
    required = ("onfence_poweroff=1", "require_poweroff=1", "settle_time=0")
    result = bed.agent_on(by, "off", victim, *required)
    seconds, at_success = time.monotonic() - began, volume.stat().st_size
    assert result.returncode == 0, result.stderr
    assert bed.ec2.snapshot()[node.machine.instance]["state"] == "stopped"
    assert at_success > sizes[0], "it wrote while it was isolated"
    assert not node.running
    time.sleep(1)
    assert volume.stat().st_size == at_success
    measured(f"{at_success - sizes[0]} bytes after the isolation, success after {seconds:.2f} s, then none")
