"""Nodes without pcmk_host_map, which all other scenarios use: instances are found by their Name tags."""


def test_fencing_without_host_map_uses_the_name_tag(bed, measured):
    bed.pcs("stonith", "update", "fence-vpc", "pcmk_host_map=")
    victim = bed.writer_on()
    by = bed.others(victim)[0]
    assert "fence-vpc" in bed.nodes[by].command("stonith_admin", "--list", victim)
    bed.fence(victim)
    assert bed.cloud.isolated(victim)
    assert [name for name in bed.others(victim) if not bed.cloud.pristine(name)] == []
    measured(str(bed.fencing(victim)))
    bed.return_to_service(victim)
    assert bed.cloud.pristine(victim)
