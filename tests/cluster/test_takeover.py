"""The fencer dies during a fencing, and another node completes it."""

import time

from ec2.faults import Hook, Reset

from .shell import wait


def test_second_fencer_completes_the_fencing_of_a_dead_one(bed, measured):
    """At the worst moment: one interface is isolated, the other still has the group that allows all traffic.

    Pacemaker waits 1.2 times pcmk_reboot_timeout for the dead fencer's answer before it asks another node. If the
    fencer was the DC too, it asks at once, but only for a node that ran a resource.
    """
    bed.pcs("property", "set", "no-quorum-policy=ignore")  # the last node is alone, and must fence
    bed.pcs("stonith", "update", "fence-vpc", "pcmk_reboot_timeout=15", "deadline=10")
    bed.wait_until_healthy()
    fencer = bed.view().running["fence-vpc"][0]
    victim = bed.writer_on()
    assert victim != fencer
    last = bed.others(fencer, victim)[0]
    eth0, eth1 = bed.nodes[victim].machine.interfaces
    isolated = [bed.cloud.isolation]
    died = []

    def at_eth1(call):
        return call.params["NetworkInterfaceId"] == eth1 and call.listing("SecurityGroupId") == isolated

    def die(_call):
        wait("eth0 is isolated", lambda: bed.cloud.interfaces()[victim][eth0] == isolated, 10, 0.02)
        bed.nodes[fencer].power_off()
        died.append(time.monotonic())

    for fault in (Hook(die), Reset()):  # the call itself is lost
        bed.ec2.rules.add("ModifyNetworkInterfaceAttribute", fault, when=at_eth1)
    bed.nodes[victim].hang()
    wait("the fencer is dead", lambda: died, 30)
    assert bed.cloud.interfaces()[victim] == {eth0: isolated, eth1: [bed.cloud.open]}, "half done"
    for name in (victim, fencer):
        event = bed.wait_until_fenced(name, reported_by=[last])
        assert event.delegate == last
    measured(f"completed by {last} {time.monotonic() - died[0]:.1f} s after the death of {fencer}")
    assert bed.cloud.isolated(victim)
    assert bed.cloud.isolated(fencer)
    for name in (victim, fencer):
        bed.restart(name)
        bed.unfence(name, by=last)
    bed.wait_until_healthy()
    assert all(bed.cloud.pristine(name) for name in bed.names)
