"""The node that fences dies in the middle of it; another completes it."""

import time

from ec2.faults import Hook, Reset

from .shell import wait


def test_another_node_completes_the_fencing_and_unfencing_restores_the_originals(bed, measured):
    """At its worst moment: one interface isolated, the other still open for everybody.

    Pacemaker waits 1.2 times pcmk_reboot_timeout for the dead fencer's answer before it asks another node. If the
    fencer was the DC too, it asks at once, but only for a node that ran a resource.
    """
    bed.pcs("property", "set", "no-quorum-policy=ignore")  # the last node is alone, and has to act
    bed.pcs("stonith", "update", "fence-vpc", "pcmk_reboot_timeout=15", "deadline=10")
    bed.settle()
    seen = bed.view()
    fencer = seen.running["fence-vpc"][0]
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
        event = bed.fenced(name, seen_by=[last])
        assert event.delegate == last
    measured(f"completed by {last} {time.monotonic() - died[0]:.1f} s after the death of {fencer}")
    assert bed.cloud.isolated(victim)
    assert bed.cloud.isolated(fencer)
    for name in (victim, fencer):
        bed.restart(name)
        bed.unfence(name, by=last)
    bed.settle()
    assert all(bed.cloud.pristine(name) for name in bed.names)
