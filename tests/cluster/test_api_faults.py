"""The API fails: Pacemaker shows it, and fencing succeeds by itself when the cause is gone."""

import re
import threading
import time
from functools import partial

import pytest
from ec2.faults import Delay, Fault, Reset, Stall, Throttle

from .shell import wait
from .timing import failures

ATTEMPTS = 10  # after which Pacemaker gives up on a node
PASSING = {"unreachable, then silent": (Reset(), Stall()), "throttling, then slow": (Throttle(), Delay(2.0))}
FAULT_SECONDS = 7.0  # for each of the two


def logs(bed):
    return [node.log() for node in bed.nodes.values()]


def told(bed, words):
    """Whether a node's Pacemaker log has these words of the agent."""
    return any(words in log for log in logs(bed))


def inflict(bed, victim, faults, met):
    """One fault after the other, each for so long from when the fencing met it; `met` gets the times of that."""
    instance = bed.cloud.machines[victim].instance
    for fault in faults:
        bed.ec2.rules.clear()
        bed.ec2.rules.add(None, fault, times=None)
        of_it = bed.ec2.rules.add(None, Fault(), when=lambda call: instance in call.params.values())
        wait("the fencing meets it", partial(getattr, of_it, "fired"))
        met.append(time.monotonic())
        time.sleep(FAULT_SECONDS)
    bed.ec2.rules.clear()


@pytest.mark.parametrize("faults", PASSING)
def test_a_passing_fault_delays_the_fencing_and_uses_up_no_attempts(bed, measured, faults):
    victim = bed.writer_on()
    earlier = failures(victim, logs(bed))
    began = time.monotonic()
    met = []
    faulty = threading.Thread(target=inflict, args=(bed, victim, PASSING[faults], met), daemon=True)
    faulty.start()
    bed.nodes[victim].hang()
    bed.fenced(victim, limit=90)
    failed = failures(victim, logs(bed)) - earlier
    seconds = time.monotonic() - began
    measured(f"{faults}, {FAULT_SECONDS:g} s each: fenced after {seconds:.1f} s, {failed} failed attempts")
    faulty.join()
    assert len(met) == len(PASSING[faults])
    assert bed.ec2.calls_of("ModifyNetworkInterfaceAttribute")[-1].at > met[0] + FAULT_SECONDS
    assert failed == 0
    assert bed.cloud.isolated(victim)
    assert bed.moved(victim) in bed.others(victim)


def test_a_missing_permission_is_named_and_fencing_succeeds_when_it_is_there(bed, measured):
    bed.ec2.key.deny("ec2:ModifyNetworkInterfaceAttribute")
    victim = bed.writer_on()
    earlier = failures(victim, logs(bed))
    bed.nodes[victim].hang()
    wait("a fencing fails", lambda: failures(victim, logs(bed)) >= earlier + 2, 40)
    assert told(bed, "ec2:ModifyNetworkInterfaceAttribute")
    assert not bed.cloud.isolated(victim)
    assert victim in bed.storage.active(), "nothing was started elsewhere"
    assert bed.storage.active() == [victim]
    bed.ec2.key.permit_all()
    began = time.monotonic()
    bed.fenced(victim, limit=60)
    failed = failures(victim, logs(bed)) - earlier
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
    # stonith_admin may have given up earlier than Pacemaker, and with untrack_secg each try opens the node.
    wait("the fencing has failed", lambda: (seen := bed.view()) and seen.fences(victim, "failed"), 60)
    assert any(re.search(rf"InvalidGroup\.NotFound.*{gone}", log) for log in logs(bed)), "off says why"
    assert bed.cloud.interfaces()[victim] == bed.cloud.original[victim]
    bed.pcs("stonith", "update", "fence-vpc", f"secg={bed.cloud.isolation}")
    bed.pcs("stonith", "cleanup", "fence-vpc")
    bed.fence(victim, by=bed.others(victim)[0])
    assert bed.cloud.isolated(victim)
    bed.bring_back(victim)
    assert bed.cloud.pristine(victim), "neither fencing lost what was there before"
