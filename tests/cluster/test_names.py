"""How Pacemaker finds the instance of a node: pcmk_host_map, or the instances' Name tags."""

import pytest


@pytest.mark.parametrize("way", ["pcmk_host_map", "Name tags", "pcmk_host_list"])
def test_a_node_is_found_and_fenced_by(bed, measured, way):
    if way == "Name tags":
        bed.pcs("stonith", "update", "fence-vpc", "pcmk_host_map=")
    elif way == "pcmk_host_list":
        bed.pcs("stonith", "update", "fence-vpc", "pcmk_host_map=", f"pcmk_host_list={','.join(bed.names)}")
    victim = bed.writer_on()
    listed = bed.nodes[bed.others(victim)[0]].command("stonith_admin", "--list", victim)
    assert "fence-vpc" in listed
    bed.fence(victim)
    assert bed.cloud.isolated(victim)
    assert [name for name in bed.others(victim) if not bed.cloud.pristine(name)] == []
    measured(f"{way}: {bed.fencing(victim)}")
    bed.bring_back(victim)
    assert bed.cloud.pristine(victim)
