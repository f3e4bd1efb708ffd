"""This agent among others: a fencing topology, and unfencing at the start where only storage is cut."""

import time

from .shell import wait


def used(bed, device, target):
    """Whether a device is said to have fenced a node."""
    return any(f"targeting {target} using {device} returned 0" in node.log() for node in bed.nodes.values())


def test_the_second_level_acts_only_where_this_agent_fails(bed, measured):
    bed.pcs(
        "stonith",
        "create",
        "second",
        "fence_dummy",
        "status_file=/run/fence-dummy",
        "pcmk_host_list=node1,node2,node3",
    )
    victims = bed.others(bed.view().dc)
    by = bed.view().dc
    for name in bed.names:
        bed.pcs("stonith", "level", "add", "1", name, "fence-vpc")
        bed.pcs("stonith", "level", "add", "2", name, "second")
    bed.fence(victims[0], by=by)
    assert used(bed, "fence-vpc", victims[0])
    assert not used(bed, "second", victims[0])
    bed.ec2.key.deny("ec2:ModifyNetworkInterfaceAttribute")
    began = time.monotonic()
    bed.fence(victims[1], by=by)
    measured(f"second level done {time.monotonic() - began:.1f} s after the request")
    assert not used(bed, "fence-vpc", victims[1])
    assert used(bed, "second", victims[1])
    assert bed.cloud.interfaces()[victims[1]] == bed.cloud.original[victims[1]]


def test_storage_only_corosync_stays_reachable_and_the_cluster_unfences_at_the_start(bed, measured):
    storage = bed.cloud.groups["storage"]
    bed.pcs("stonith", "update", "fence-vpc", f"secg={storage}", "invert_sg_removal=0", "untrack_secg=")
    bed.pcs("stonith", "meta", "fence-vpc", "provides=unfencing")
    bed.settle()
    victim = bed.writer_on()
    by = bed.others(victim)[0]
    eth0, eth1 = bed.nodes[victim].machine.interfaces
    bed.fence(victim, by=by)
    groups = bed.cloud.interfaces()[victim]
    assert groups[eth0] == bed.cloud.original[victim][eth0]
    assert groups[eth1] == [bed.cloud.groups["base"]]
    # Corosync stays reachable: the victim is told, and Pacemaker then shuts both down there by itself.
    wait("the victim is told", lambda: "allegedly just fenced" in bed.nodes[victim].log(), 15)
    assert bed.moved(victim) != victim
    began = time.monotonic()
    bed.restart(victim)
    wait("the cluster has unfenced it", lambda: bed.cloud.pristine(victim), 60)
    bed.settle()
    measured(f"unfenced and healthy {time.monotonic() - began:.1f} s after power came back, without a command")
    assert bed.view().fences(victim, action="on")
