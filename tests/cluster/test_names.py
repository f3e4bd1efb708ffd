"""Nodes without pcmk_host_map, which all other scenarios use: instances are found by their tags."""

import pytest


def test_fencing_without_host_map_uses_the_name_tag_and_unfencing_that_of_plug_tag(bed, measured):
    bed.pcs("stonith", "update", "fence-vpc", "pcmk_host_map=")
    victim = bed.writer_on()
    by = bed.others(victim)[0]
    assert "fence-vpc" in bed.nodes[by].command("stonith_admin", "--list", victim)
    bed.fence(victim)
    assert bed.cloud.isolated(victim)
    assert [name for name in bed.others(victim) if not bed.cloud.pristine(name)] == []
    measured(str(bed.fencing(victim)))
    for name, machine in bed.cloud.machines.items():
        bed.ec2.edit.put_tags(machine.instance, {"Hostname": name, "Name": f"instance of {name}"})
    try:
        bed.pcs("stonith", "update", "fence-vpc", "plug_tag=Hostname")
        bed.return_to_service(victim)
        assert bed.cloud.pristine(victim)
    finally:
        for name, machine in bed.cloud.machines.items():
            bed.ec2.edit.put_tags(machine.instance, {"Hostname": None, "Name": name})


@pytest.mark.parametrize("name", ["plug", "port"])
def test_a_device_with_a_plug_is_not_used_for_other_nodes(bed, name):
    """Pacemaker would take another node for fenced, while that of the plug is isolated."""
    instance = bed.cloud.machines["node2"].instance
    bed.pcs("stonith", "update", "fence-vpc", "pcmk_host_map=", f"{name}={instance}")
    by = bed.nodes["node1"]
    offered = [n for n in bed.names if "fence-vpc" in by.command("stonith_admin", "--list", n, check=False)]
    assert offered == ["node2"]
    assert by.result("stonith_admin", "--fence", "node3", limit=100).returncode != 0
    assert all(bed.cloud.pristine(n) for n in bed.names)
    bed.fence("node2", by="node1")
    assert bed.cloud.isolated("node2")
