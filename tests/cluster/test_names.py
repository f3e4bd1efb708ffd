"""Nodes without pcmk_host_map, which all other scenarios use: instances are found by their tags."""


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
