"""How Pacemaker finds the instance of a node: pcmk_host_map (all other scenarios), or the instances' Name tags."""


def test_without_a_host_map_a_node_is_found_by_its_name_tag(bed, measured):
    bed.pcs("stonith", "update", "fence-vpc", "pcmk_host_map=")
    victim = bed.writer_on()
    by = bed.others(victim)[0]
    assert "fence-vpc" in bed.nodes[by].command("stonith_admin", "--list", victim)
    bed.fence(victim)
    assert bed.cloud.isolated(victim)
    assert [name for name in bed.others(victim) if not bed.cloud.pristine(name)] == []
    measured(str(bed.fencing(victim)))
    bed.bring_back(victim)
    assert bed.cloud.pristine(victim)
