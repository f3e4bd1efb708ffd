"""The cluster's objects in the emulator: two subnets, groups, an instance with two interfaces for each node."""

import ipaddress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from typing import Any, Collection, Dict, List, Sequence, Tuple

import boto3
from ec2.imds import Imds
from ec2.server import Ec2Server

API_PORT = 8000
STORAGE_PORT = 3260
METADATA = "169.254.169.254"
STORAGE_PREFIX = "10.20.1"
STORAGE_SUBNET = f"{STORAGE_PREFIX}.0/24"
API = "10.20.0.2"  # .1 to .3 of a subnet are reserved by AWS: no instance gets them
STORAGE = f"{STORAGE_PREFIX}.2"
VPC, VPC6 = "10.20.0.0/16", "2001:db8:20::/48"
STORAGE6 = "2001:db8:20:1::2"
OUR_TAGS = ("lastfence", "Original_SG_Backup_")


@dataclass(frozen=True)
class Machine:
    """The instance of a node. eth0 is for corosync and the API, eth1 for storage."""

    name: str
    instance: str
    interfaces: Tuple[str, str]
    addresses: Tuple[str, str]
    ipv6: Tuple[str, ...] = ()
    """An IPv6 address of each interface, or none."""


class Cloud:
    """The emulator with the objects of a cluster."""

    def __init__(self, ec2: Ec2Server, nodes: Sequence[str], ipv6: Collection[str] = ()) -> None:
        """
        Args:
            ipv6: the nodes that have IPv6 addresses too.
        """
        self.ec2 = ec2
        for instance in ec2.world.nodes.values():
            ec2.edit.set_state(instance, "terminated")
        self.client = boto3.client("ec2", **ec2.client_kwargs())
        self.groups = self._make_groups()
        self.machines = self._launch(nodes)
        if ipv6:
            self.permit(self.groups["storage"], "tcp", STORAGE_PORT, f"{STORAGE6}/128")
        for name in ipv6:
            self.machines[name] = self._with_ipv6(self.machines[name])
        self.original = self.interfaces()

    @property
    def isolation(self) -> str:
        """The group without rules."""
        return self.ec2.world.isolation

    @property
    def open(self) -> str:
        """The group that allows everything."""
        return self.ec2.world.open

    def _make_groups(self) -> Dict[str, str]:
        made = {name: self._make_group(name) for name in ("base", "cluster", "storage")}
        made.update(isolation=self.isolation, open=self.open)
        own = {"UserIdGroupPairs": [{"GroupId": made["cluster"]}]}
        self.permit(made["base"], "icmp", -1, VPC, both=True)
        self.client.authorize_security_group_ingress(
            GroupId=made["cluster"], IpPermissions=[{"IpProtocol": "-1", **own}]
        )
        self.client.authorize_security_group_egress(
            GroupId=made["cluster"], IpPermissions=[{"IpProtocol": "-1", **own}]
        )
        self.permit(made["cluster"], "tcp", API_PORT, f"{API}/32")
        self.permit(made["storage"], "tcp", STORAGE_PORT, f"{STORAGE}/32")
        return made

    def add_group(self, name: str) -> str:
        """A further group, without rules."""
        self.groups[name] = self._make_group(name)
        return self.groups[name]

    def _make_group(self, name: str) -> str:
        made = self.client.create_security_group(GroupName=name, Description=name, VpcId=self.ec2.world.vpc)
        everything = [{"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}]
        self.client.revoke_security_group_egress(GroupId=made["GroupId"], IpPermissions=everything)
        return str(made["GroupId"])

    def permit(self, group: str, protocol: str, port: int, cidr: str, both: bool = False) -> None:
        """Allows outbound traffic to these addresses and this port (-1: all); with `both`, inbound traffic too."""
        ranges = {"Ipv6Ranges": [{"CidrIpv6": cidr}]} if ":" in cidr else {"IpRanges": [{"CidrIp": cidr}]}
        what: List[Dict[str, Any]] = [{"IpProtocol": protocol, "FromPort": port, "ToPort": port, **ranges}]
        self.client.authorize_security_group_egress(GroupId=group, IpPermissions=what)
        if both:
            self.client.authorize_security_group_ingress(GroupId=group, IpPermissions=what)

    def _launch(self, nodes: Sequence[str]) -> Dict[str, Machine]:
        world = self.ec2.world
        zone = self.ec2.region + "a"
        made = self.client.create_subnet(VpcId=world.vpc, CidrBlock=STORAGE_SUBNET, AvailabilityZone=zone)
        eth0 = [{"groups": [self.groups["cluster"], self.groups["base"]]}]
        ids = {name: self.ec2.edit.add_instance(name, eth0) for name in nodes}
        for number, instance in enumerate(ids.values(), 11):
            self._attach(instance, made["Subnet"]["SubnetId"], f"{STORAGE_PREFIX}.{number}")
        addresses = {i.interface: i.address for i in self.ec2.filtering()}
        machines = {}
        for name, instance in ids.items():
            first, second = self._attached(instance)
            machines[name] = Machine(name, instance, (first, second), (addresses[first], addresses[second]))
        return machines

    def _attach(self, instance: str, subnet: str, address: str) -> None:
        groups = [self.groups["storage"], self.groups["base"]]
        made = self.client.create_network_interface(SubnetId=subnet, Groups=groups, PrivateIpAddress=address)
        interface = made["NetworkInterface"]["NetworkInterfaceId"]
        self.client.attach_network_interface(InstanceId=instance, NetworkInterfaceId=interface, DeviceIndex=1)

    def _attached(self, instance: str) -> Tuple[str, str]:
        reply = self.client.describe_instances(InstanceIds=[instance])
        nics = reply["Reservations"][0]["Instances"][0]["NetworkInterfaces"]
        first, second = sorted(nics, key=lambda nic: int(nic["Attachment"]["DeviceIndex"]))
        return str(first["NetworkInterfaceId"]), str(second["NetworkInterfaceId"])

    def _with_ipv6(self, machine: Machine) -> Machine:
        """Assigns an IPv6 address to each interface, from a /64 for each subnet."""
        first = ipaddress.IPv6Network(VPC6).network_address
        ipv6 = tuple(
            str(first + (subnet << 64) + int(address.rpartition(".")[2]))
            for subnet, address in enumerate(machine.addresses)
        )
        for interface, address in zip(machine.interfaces, ipv6):
            self.ec2.edit.ipv6(interface, address)
        return replace(machine, ipv6=ipv6)

    def imds(self, machine: Machine) -> Imds:
        """The instance metadata service of a node: identity, region, credentials. Call it in the node's network."""
        service = Imds(machine.instance, self.ec2.region, port=80, host=METADATA)
        later = datetime.now(timezone.utc) + timedelta(hours=12)
        self.ec2.keys.add(self.ec2.key)
        token = self.ec2.key.session_token or ""
        service.credentials(
            self.ec2.key.access_key, self.ec2.key.secret_key, token, later.strftime("%Y-%m-%dT%H:%M:%SZ")
        )
        return service

    # State

    def interfaces(self) -> Dict[str, Dict[str, List[str]]]:
        """By node and interface: the groups."""
        now = self.ec2.snapshot()
        return {name: now[machine.instance]["interfaces"] for name, machine in self.machines.items()}

    def tags(self, node: str) -> Dict[str, str]:
        """The agent's tags of a node."""
        tags = self.ec2.snapshot()[self.machines[node].instance]["tags"]
        return {key: value for key, value in tags.items() if key.startswith(OUR_TAGS)}

    def isolated(self, node: str, group: str = "") -> bool:
        """Whether each interface of a node has only this group, by default the one without rules."""
        return all(groups == [group or self.isolation] for groups in self.interfaces()[node].values())

    def pristine(self, node: str) -> bool:
        """Whether each interface has its original groups, and no tags of the agent are left."""
        return self.interfaces()[node] == self.original[node] and not self.tags(node)

    def restore(self) -> None:
        """Restores groups and states and removes the tags, without the API: between two tests."""
        for name, machine in self.machines.items():
            if self.ec2.snapshot()[machine.instance]["state"] == "stopped":
                self.ec2.edit.set_state(machine.instance, "running")
            for interface, groups in self.original[name].items():
                self.ec2.edit.set_groups(interface, groups)
            self.ec2.edit.put_tags(self.machines[name].instance, dict.fromkeys(self.tags(name)))
            self.ec2.edit.set_state(self.machines[name].instance, "running")
        self.ec2.config.stop_seconds = 0.0
