"""The API fails: Pacemaker shows it, and fencing succeeds by itself when the cause is gone."""

import threading
import time

import pytest
from ec2.faults import Delay, Reset, Stall, Throttle

from .shell import wait
from .timing import failures

ATTEMPTS = 10  # after which Pacemaker gives up on a node
PASSING = {"unreachable, then silent": (Reset(), Stall()), "throttling, then slow": (Throttle(), Delay(2.0))}
FAULT_SECONDS = 7.0  # for each of the two; the fencing begins during the first


def logs(bed):
    return [node.log() for node in bed.nodes.values()]


def told(bed, words):
    """Whether a node's Pacemaker log has these words of the agent."""
    return any(words in log for log in logs(bed))


def inflict(bed, *faults):
    """One fault after the other, and then none."""
    for fault in faults:
        bed.ec2.rules.clear()
        bed.ec2.rules.add(None, fault, times=None)
        time.sleep(FAULT_SECONDS)
    bed.ec2.rules.clear()


@pytest.mark.parametrize("faults", PASSING)
def test_a_passing_fault_delays_the_fencing_and_uses_up_no_attempts(bed, measured, faults):
    victim = bed.writer_on()
    began = time.monotonic()
    faulty = threading.Thread(target=inflict, args=(bed, *PASSING[faults]), daemon=True)
    faulty.start()
    bed.nodes[victim].hang()
    bed.fenced(victim, limit=90)
    failed = failures(victim, logs(bed))
    seconds = time.monotonic() - began
    measured(f"{faults}, {FAULT_SECONDS:g} s each: fenced after {seconds:.1f} s, {failed} failed attempts")
    faulty.join()
    assert bed.ec2.calls_of("ModifyNetworkInterfaceAttribute")[-1].at > began + FAULT_SECONDS
    assert failed <= 2 < ATTEMPTS
    assert bed.cloud.isolated(victim)
    assert bed.moved(victim) in bed.others(victim)


def test_a_missing_permission_is_named_and_fencing_succeeds_when_it_is_there(bed, measured):
    bed.ec2.key.deny("ec2:ModifyNetworkInterfaceAttribute")
    victim = bed.writer_on()
    bed.nodes[victim].hang()
    wait("a fencing fails", lambda: failures(victim, logs(bed)) >= 2, 40)
    assert told(bed, "ec2:ModifyNetworkInterfaceAttribute")
    assert not bed.cloud.isolated(victim)
    assert victim in bed.storage.active(), "nothing was started elsewhere"
    assert bed.storage.active() == [victim]
    bed.ec2.key.permit_all()
    began = time.monotonic()
    bed.fenced(victim, limit=60)
    failed = failures(victim, logs(bed))
    measured(f"fenced {time.monotonic() - began:.1f} s after the permission was there, {failed} failed attempts")
    assert failed < ATTEMPTS
    assert bed.cloud.isolated(victim)


def test_a_deleted_isolation_group_fails_the_monitor_and_the_fencing_until_there_is_another(bed, measured):
    bed.pcs("stonith", "update", "fence-vpc", "op", "monitor", "interval=5s")
    bed.settle()
    gone = bed.ec2.edit.add_group("isolation-of-a-while")
    bed.pcs("stonith", "update", "fence-vpc", f"secg={gone}")
    bed.settle()
    bed.ec2.edit.delete_group(gone)
    began = time.monotonic()
    wait("Pacemaker shows the failed monitor", lambda: "fence-vpc" in bed.failed_actions(), 40)
    measured(f"shown as failed {time.monotonic() - began:.1f} s after the group was deleted")
    assert told(bed, f"no such security group: {gone}")
    victim = bed.others(bed.view().dc)[0]
    result = bed.nodes[bed.view().dc].result("stonith_admin", "--fence", victim, "--timeout", "10", limit=60)
    assert result.returncode != 0
    assert bed.cloud.pristine(victim) or bed.cloud.interfaces()[victim] == bed.cloud.original[victim]
    bed.pcs("stonith", "update", "fence-vpc", f"secg={bed.cloud.isolation}")
    bed.pcs("stonith", "cleanup", "fence-vpc")
    bed.fence(victim, by=bed.others(victim)[0])
    assert bed.cloud.isolated(victim)
