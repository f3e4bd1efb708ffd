"""The network of the test cluster applies groups as its modes specify; without nodes."""

import concurrent.futures
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
EARLY = 0.06  # seconds that an effect may be early


class Network:
    """Two interfaces of an instance; `apply` sets the groups of both."""

    def __init__(self, fabric, plane, cloud):
        self.fabric, self.plane, self.cloud = fabric, plane, cloud
        self.interfaces = cloud.machines["node1"].interfaces
        self.began = len(plane.effects)

    def apply(self, *groups):
        """Sets these groups one after the other, without a pause."""
        client = self.cloud.client
        for group in groups:
            for interface in self.interfaces:
                client.modify_network_interface_attribute(NetworkInterfaceId=interface, Groups=[group])

    def effects(self, count):
        """Waits for so many effects, and none pending; returns those of each interface as (untracked, delay)."""
        expected = self.began + count
        wait("all changes are applied", lambda: self.plane.idle and len(self.plane.effects) >= expected, 20)
        effects = self.plane.effects[self.began :]
        return [[(e.untracked, e.delay) for e in effects if e.interface == i] for i in self.interfaces]


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


def test_in_order_applies_every_state_after_the_lag(network):
    network.plane.set_lag(LAG, Mode.IN_ORDER)
    network.apply(network.cloud.open, network.cloud.isolation)
    for effects in network.effects(4):
        assert [is_open for is_open, _ in effects] == [True, False]
        assert all(delay >= LAG - EARLY for _, delay in effects)


def test_newest_only_skips_states_shorter_than_the_lag(network):
    network.plane.set_lag(LAG, Mode.NEWEST)
    network.apply(network.cloud.open, network.cloud.isolation)
    for effects in network.effects(2):
        assert [is_open for is_open, _ in effects] == [False]
        assert effects[0][1] >= LAG - EARLY


def test_own_pace_takes_half_and_all_of_the_lag(network):
    network.plane.set_lag(3 * LAG, Mode.OWN_PACE)
    network.apply(network.cloud.isolation)
    (_, first), (_, second) = (effects[0] for effects in network.effects(2))
    assert 1.5 * LAG - EARLY <= first < second
    assert second >= 3 * LAG - EARLY


def test_one_late_delays_only_the_last_interface(network):
    network.plane.set_lag(LAG, Mode.ONE_LATE)
    network.apply(network.cloud.isolation)
    at_reply = {e.interface for e in network.plane.effects[network.began :]}
    assert network.interfaces[0] in at_reply
    (_, last) = network.effects(2)[1][0]
    assert last >= LAG - EARLY


def test_zero_lag_applies_changes_before_the_reply(network):
    network.plane.set_lag(0)
    network.apply(network.cloud.isolation)
    assert network.plane.idle
    assert len(network.plane.effects) == network.began + 2


def test_lag_of_one_instance_holds_until_all_are_set(network):
    network.plane.set_lag(60)
    network.plane.set_lag(0, instance=network.cloud.machines["node1"].instance)
    network.apply(network.cloud.open)
    assert network.plane.idle
    network.plane.set_lag(60)
    network.apply(network.cloud.isolation)
    assert not network.plane.idle
    network.plane.apply_now()
    assert network.plane.idle


def test_untracking_ignores_connections_that_end_meanwhile(network):
    address = network.cloud.machines["node1"].addresses[0]
    inserted = [
        f"-I -p tcp -s {address} -d {STORAGE} --sport {port} --dport 7000 --state ESTABLISHED --timeout 60\n"
        for port in range(20000, 20500)
    ]
    network.fabric.inside(network.fabric.switch, "conntrack", "--load-file", "-", stdin="".join(inserted))
    assert len(network.plane.connections(address)) == len(inserted)
    with concurrent.futures.ThreadPoolExecutor(4) as threads:  # each deletes what another one has listed
        for done in [threads.submit(network.plane.untrack, address) for _ in range(4)]:
            done.result()
    assert network.plane.connections(address) == []


def test_isolated_interfaces_answer_neighbour_discovery(network):
    """As on EC2. Otherwise the result of a connection would be "no route" instead of no answer."""
    machine = network.cloud.machines["node1"]
    network.fabric.add("node1", *machine.addresses, ipv6=machine.ipv6)
    network.fabric.add("other", STORAGE, ipv6=[STORAGE6])
    other = network.fabric.namespace("other")
    network.fabric.inside(other, "sysctl", "-qw", "net.ipv6.neigh.eth0.retrans_time_ms=100")
    assert connect(network, machine.ipv6[1]) == errno.ETIMEDOUT
    network.cloud.client.authorize_security_group_ingress(GroupId=network.cloud.groups["storage"], IpPermissions=SSH)
    network.plane.apply_now()
    assert connect(network, machine.ipv6[1]) == errno.ECONNREFUSED
    network.plane.set_lag(0)
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


def test_failure_in_the_thread_is_raised_by_check(network):
    network.plane.set_lag(0.1)
    network.fabric.switch = "fence-bed-none"  # there is no such namespace
    network.apply(network.cloud.isolation)
    with pytest.raises(Failed, match="data plane failed"):
        wait("it fails", lambda: network.plane.check() or False, 10)
