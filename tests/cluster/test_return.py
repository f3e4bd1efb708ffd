"""A fenced node returns to service: it rejoins, with its original groups and without tags."""

import time

from aws_vpc_net.core.backup import RETURNED

from .shell import wait


def test_unfencing_by_stonith_admin_restores_the_node(bed, measured):
    victim = bed.writer_on()
    bed.fence(victim)
    wait("the writer runs elsewhere", lambda: bed.storage.active() and victim not in bed.storage.active(), 20)
    assert bed.cloud.isolated(victim)
    assert bed.cloud.tags(victim)
    seconds = bed.return_to_service(victim)
    measured(f"rejoined {seconds:.1f} s after unfencing")
    assert all(bed.cloud.pristine(name) for name in bed.names)
    view = bed.view()
    assert len(view.fences(victim, action="on")) == 1
    assert view.online == bed.names


def test_unfencing_by_the_agent_restores_the_node(bed, measured):
    victim = bed.writer_on()
    by = bed.others(victim)[0]
    assert bed.agent_on(by, "off", victim).returncode == 0
    assert bed.agent_on(by, "status", victim).returncode == 2
    bed.wait_until_fenced(victim)  # Pacemaker has lost the node, and fences it again
    assert bed.cloud.isolated(victim)
    bed.restart(victim)
    began = time.monotonic()
    result = bed.agent_on(by, "on", victim)
    assert result.returncode == 0, result.stderr
    bed.wait_until_healthy()
    measured(f"rejoined {time.monotonic() - began:.1f} s after on")
    assert bed.agent_on(by, "status", victim).returncode == 0
    assert all(bed.cloud.pristine(name) for name in bed.names)


def test_monitor_returns_a_node_without_a_hand(bed, measured):
    """Link cut, fenced, stopped, back: the node boots with its cluster stack enabled."""
    options = ("onfence_poweroff=1", "auto_unfence=1", "deadline=10", "filter=tag:Name=node*")
    bed.pcs("stonith", "update", "fence-vpc", *options, "op", "monitor", "interval=10s")
    bed.wait_until_healthy()
    victim = bed.writer_on()
    instance = bed.cloud.machines[victim].instance
    began = time.monotonic()
    bed.fabric.set_link(victim, 0, False)
    times = {}

    def reached(what, condition):
        bed.follow_power()
        if condition():
            times.setdefault(what, time.monotonic() - began)
        return what in times

    def state():
        return bed.ec2.snapshot()[instance]["state"]

    wait("stopped", lambda: reached("stopped", lambda: state() == "stopped"), 60)
    assert bed.cloud.isolated(victim)
    wait("moved", lambda: reached("moved", lambda: set(bed.storage.active()) - {victim}), 60)
    wait("started", lambda: reached("started", lambda: state() == "running"), 90)
    assert bed.cloud.pristine(victim)
    wait("healthy", lambda: reached("healthy", bed.healthy), 90)
    measured(f"{victim}: " + ", ".join(f"{what} after {seconds:.1f} s" for what, seconds in times.items()))
    assert bed.view().fences(victim, action="on") == [], "nobody has run it"
    assert len(bed.view().fences(victim)) == 1
    by = bed.others(victim)[0]
    assert RETURNED in bed.ec2.snapshot()[instance]["tags"]
    assert bed.agent_on(by, "on", victim).returncode == 0
    assert RETURNED not in bed.ec2.snapshot()[instance]["tags"], "an on by hand begins the count anew"
