"""The network of the test cluster does what its modes say; without nodes."""

import contextlib
import errno
import socket

import pytest
from ec2.server import Ec2Server

from . import names
from .cloud import STORAGE, STORAGE6, Cloud
from .dataplane import DataPlane, Mode
from .fabric import Fabric
from .shell import Failed, wait

LAG = 0.5
SSH = [{"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "Ipv6Ranges": [{"CidrIpv6": f"{STORAGE6}/128"}]}]
EARLY = 0.06  # seconds that an effect may come before the lag is over


class Network:
    """Two interfaces of an instance; `apply` sets the groups of both."""

    def __init__(self, fabric, plane, cloud):
        self.fabric, self.plane, self.cloud = fabric, plane, cloud
        self.interfaces = cloud.machines["node1"].interfaces
        self.began = len(plane.effects)

    def apply(self, *groups):
        """One after the other, as fast as that goes."""
        client = self.cloud.client
        for group in groups:
            for interface in self.interfaces:
                client.modify_network_interface_attribute(NetworkInterfaceId=interface, Groups=[group])

    def effects(self, count):
        """When there are so many, and no more to come: each interface's, as (whether it was open, seconds)."""
        expected = self.began + count
        wait("the network has followed", lambda: self.plane.idle and len(self.plane.effects) >= expected, 20)
        found = self.plane.effects[self.began :]
        return [[(e.untracked, e.took) for e in found if e.interface == i] for i in self.interfaces]


@pytest.fixture
def network(machine):
    with Ec2Server() as ec2:
        cloud, fabric = Cloud(ec2, ["node1"], ipv6=["node1"]), Fabric(names.new_prefix())
        plane = DataPlane(ec2, fabric)
        try:
            fabric.up()
            plane.start()
            yield Network(fabric, plane, cloud)
        finally:
            with contextlib.suppress(Failed):
                plane.close()
            fabric.down()


def test_in_order_every_state_is_applied_a_lag_later(network):
    network.plane.set(LAG, Mode.IN_ORDER)
    network.apply(network.cloud.open, network.cloud.isolation)
    for effects in network.effects(4):
        assert [is_open for is_open, _ in effects] == [True, False]
        assert all(took >= LAG - EARLY for _, took in effects)


def test_newest_only_skips_what_lasts_less_than_the_lag(network):
    network.plane.set(LAG, Mode.NEWEST)
    network.apply(network.cloud.open, network.cloud.isolation)
    for effects in network.effects(2):
        assert [is_open for is_open, _ in effects] == [False]
        assert effects[0][1] >= LAG - EARLY


def test_own_pace_is_half_and_whole_of_the_lag(network):
    network.plane.set(3 * LAG, Mode.OWN_PACE)
    network.apply(network.cloud.isolation)
    (_, first), (_, second) = (effects[0] for effects in network.effects(2))
    assert 1.5 * LAG - EARLY <= first < second
    assert second >= 3 * LAG - EARLY


def test_one_late_is_the_last(network):
    network.plane.set(LAG, Mode.ONE_LATE)
    network.apply(network.cloud.isolation)
    at_reply = {e.interface for e in network.plane.effects[network.began :]}
    assert network.interfaces[0] in at_reply
    (_, last) = network.effects(2)[1][0]
    assert last >= LAG - EARLY


def test_without_a_lag_the_effect_is_there_with_the_reply(network):
    network.plane.set(0)
    network.apply(network.cloud.isolation)
    assert network.plane.idle
    assert len(network.plane.effects) == network.began + 2


def test_an_instance_has_a_lag_of_its_own_until_all_are_set(network):
    network.plane.set(60)
    network.plane.set(0, instance=network.cloud.machines["node1"].instance)
    network.apply(network.cloud.open)
    assert network.plane.idle
    network.plane.set(60)
    network.apply(network.cloud.isolation)
    assert not network.plane.idle
    network.plane.follow()
    assert network.plane.idle


def test_isolated_interfaces_still_answer_neighbour_discovery(network):
    """As on EC2. Else packets to them had no route, which is not the same as no answer."""
    machine = network.cloud.machines["node1"]
    network.fabric.add("node1", *machine.addresses, ipv6=machine.ipv6)
    network.fabric.add("other", STORAGE, ipv6=[STORAGE6])
    other = network.fabric.namespace("other")
    network.fabric.inside(other, "sysctl", "-qw", "net.ipv6.neigh.eth0.retrans_time_ms=100")
    assert connect(network, machine.ipv6[1]) == errno.ETIMEDOUT
    network.cloud.client.authorize_security_group_ingress(GroupId=network.cloud.groups["storage"], IpPermissions=SSH)
    network.plane.follow()
    assert connect(network, machine.ipv6[1]) == errno.ECONNREFUSED
    network.plane.set(0)
    network.apply(network.cloud.isolation)
    network.fabric.inside(other, "ip", "neigh", "flush", "all")
    assert connect(network, machine.ipv6[1]) == errno.ETIMEDOUT


def connect(network, address):
    """The error with which an attempt to connect ends, from the host "other"."""

    def attempt():
        with socket.socket(socket.AF_INET6) as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000)  # longer than for a neighbour
            sock.settimeout(10)
            return sock.connect_ex((address, 22))

    return network.fabric.socket_in("other", attempt)


def test_what_fails_in_its_thread_is_raised_where_it_is_asked(network):
    network.plane.set(0.1)
    network.fabric.switch = "fence-bed-none"  # there is no such namespace
    network.apply(network.cloud.isolation)
    with pytest.raises(Failed, match="data plane failed"):
        wait("it fails", lambda: network.plane.check() or False, 10)
