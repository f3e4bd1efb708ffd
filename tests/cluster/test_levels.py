"""This agent in a fencing topology, and storage-only fencing with unfencing at the start."""

import time

from .observe import PAUSE
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


def unfence_all(bed):
    """Let Pacemaker unfence the nodes on which nothing has started since it was to.

    Or else it does so when the writer moves there. The DC asks another node to unfence it: perhaps the victim, which
    it does not know to be gone yet, and for whose answer it then waits a minute.
    """
    for number, name in enumerate(bed.names, 1):
        if not was_unfenced(bed, name):
            bed.pcs("constraint", "location", "fence-vpc", "prefers", f"{name}={number}000")
            wait(f"{name} is unfenced", lambda name=name: was_unfenced(bed, name), 60, PAUSE)
            bed.wait_until_healthy()


def was_unfenced(bed, name):
    view = bed.view()
    return view is not None and bool(view.fences(name, action="on"))


def test_storage_only_fencing_is_undone_by_the_cluster_at_its_start(bed, measured):
    storage = bed.cloud.groups["storage"]
    bed.pcs("stonith", "update", "fence-vpc", f"secg={storage}", "invert_sg_removal=0", "untrack_secg=")
    bed.pcs("stonith", "meta", "fence-vpc", "provides=unfencing")
    bed.wait_until_healthy()
    unfence_all(bed)
    victim = bed.writer_on()
    by = bed.others(victim)[0]
    eth0, eth1 = bed.nodes[victim].machine.interfaces
    bed.fence(victim, by=by)
    groups = bed.cloud.interfaces()[victim]
    assert groups[eth0] == bed.cloud.original[victim][eth0]
    assert groups[eth1] == [bed.cloud.groups["base"]]
    # Corosync stays reachable, so the victim learns of it, and its Pacemaker stops the cluster on that node.
    wait("the victim learns of it", lambda: "allegedly just fenced" in bed.nodes[victim].log(), 15)
    assert bed.wait_until_moved(victim) != victim
    earlier = bed.view(of=by).fences(victim, action="on")
    began = time.monotonic()
    bed.restart(victim)
    wait("the cluster has unfenced it", lambda: bed.cloud.pristine(victim), 60)
    bed.wait_until_healthy()
    measured(f"unfenced and healthy {time.monotonic() - began:.1f} s after the start, without a command")
    assert bed.view(of=by).fences(victim, action="on")[0] not in earlier
