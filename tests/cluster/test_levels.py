"""This agent in a fencing topology, and storage-only fencing."""

import time

from .shell import wait


def used(bed, device, target):
    """Whether a log reports that a device fenced a node."""
    return any(f"targeting {target} using {device} returned 0" in node.log() for node in bed.nodes.values())


def test_second_level_acts_only_if_this_agent_fails(bed, measured):
    bed.end_monitor()
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


def test_a_level_of_two_devices_leaves_the_node_isolated_with_pcmk_on_action(bed):
    """Pacemaker turns a reboot into off of both, then on of both, whose failure it ignores."""
    bed.pcs("stonith", "update", "fence-vpc", "pcmk_on_action=status")
    bed.end_monitor()
    dummy = ("fence_dummy", "status_file=/run/fence-dummy", f"pcmk_host_list={','.join(bed.names)}")
    bed.pcs("stonith", "create", "second", *dummy)
    bed.pcs("stonith", "level", "add", "1", "node3", "fence-vpc", "second")
    bed.wait_until_healthy()
    bed.nodes["node1"].command("stonith_admin", "--reboot", "node3", limit=100)
    assert any("remapping to 'on'" in node.log() for node in bed.nodes.values())
    assert used(bed, "second", "node3")
    assert bed.cloud.isolated("node3")
    assert bed.nodes["node1"].result("stonith_admin", "--unfence", "node3", limit=100).returncode != 0
    assert bed.cloud.isolated("node3")


def test_storage_only_fencing_is_undone_by_nobody_but_the_operator(bed, measured):
    """With provides=unfencing, Pacemaker would run on for the node that it has just fenced, which is a member."""
    storage = bed.cloud.groups["storage"]
    bed.pcs("stonith", "update", "fence-vpc", f"secg={storage}", "invert_sg_removal=0", "untrack_secg=")
    bed.pcs("resource", "meta", "writer", "resource-stickiness=100")  # it stays away from the node without storage
    bed.wait_until_healthy()
    victim = bed.writer_on()
    by = bed.others(victim)[0]
    eth0, eth1 = bed.nodes[victim].machine.interfaces
    bed.fence(victim, by=by)
    isolated = {eth0: bed.cloud.original[victim][eth0], eth1: [bed.cloud.groups["base"]]}
    assert bed.cloud.interfaces()[victim] == isolated
    # Corosync stays reachable, so the victim learns of it, and its Pacemaker stops the cluster on that node.
    wait("the victim learns of it", lambda: "allegedly just fenced" in bed.nodes[victim].log(), 15)
    assert bed.wait_until_moved(victim) != victim
    bed.restart(victim)
    bed.wait_until_healthy()
    assert bed.view(of=by).fences(victim, action="on") == []
    assert bed.cloud.interfaces()[victim] == isolated
    began = time.monotonic()
    bed.unfence(victim, by=by)
    wait("its groups are back", lambda: bed.cloud.pristine(victim), 20)
    bed.wait_until_healthy()
    measured(f"healthy {time.monotonic() - began:.1f} s after unfencing")
