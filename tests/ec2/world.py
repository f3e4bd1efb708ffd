"""The small world: a VPC with three nodes of two interfaces each, and the groups between them."""

from dataclasses import dataclass
from typing import Any, Dict, List, Tuple

ZONE = "a"
NODES: Dict[str, Tuple[Tuple[str, ...], Tuple[str, ...]]] = {
    "node1": (("app", "ssh"), ("app", "db")),
    "node2": (("app", "db", "ssh"), ("app", "db")),
    "node3": (("app", "ssh"), ("app", "db", "ssh")),
}
"""Groups of device index 0 and 1: `app` is on every interface, and no interface has it alone."""


@dataclass(frozen=True)
class World:
    """The IDs of the small world."""

    account: str
    region: str
    vpc: str
    subnet: str
    nodes: Dict[str, str]
    """Name tag (node1 … node3) to instance ID."""
    interfaces: Dict[str, Tuple[str, str]]
    """Name to interface IDs, device index 0 and 1."""
    groups: Dict[str, str]
    """app, db, ssh; isolation (no rules at all); open (everything in and out, IPv4 and IPv6); default."""

    @property
    def isolation(self) -> str:
        """ID of the group without rules."""
        return self.groups["isolation"]

    @property
    def open(self) -> str:
        """ID of the group that lets everything through."""
        return self.groups["open"]


def build(backend: Any) -> World:
    """Makes the world in an empty backend."""
    vpc = backend.create_vpc("10.20.0.0/16")
    vpc.enable_dns_hostnames = True
    subnet = backend.create_subnet(vpc.id, "10.20.0.0/24", availability_zone=backend.region_name + ZONE)
    groups = {"default": backend.get_default_security_group(vpc.id).id}
    for name in ("app", "db", "ssh", "isolation", "open"):
        groups[name] = new_group(backend, vpc.id, name)
    nodes, interfaces = {}, {}
    for name, sets in NODES.items():
        wanted = [{"groups": [groups[group] for group in names]} for names in sets]
        instance = launch(backend, subnet.id, wanted, {"Name": name})
        nodes[name] = instance.id
        interfaces[name] = (instance.nics[0].id, instance.nics[1].id)
    return World(backend.account_id, backend.region_name, vpc.id, subnet.id, nodes, interfaces, groups)


def new_group(backend: Any, vpc_id: str, name: str) -> str:
    """A group: `isolation…` without rules, `open…` with all, others with a rule in and EC2's default out."""
    group = backend.create_security_group(name, f"group {name}", vpc_id)
    if name.startswith("isolation"):
        group.egress_rules.clear()
        return str(group.id)
    everyone = [{"CidrIp": "0.0.0.0/0"}]
    if name.startswith("open"):
        # The default rule out covers IPv4 only.
        six = [{"CidrIpv6": "::/0"}]
        backend.authorize_security_group_ingress(group.id, "-1", None, None, everyone + six)
        backend.authorize_security_group_egress(group.id, "-1", None, None, six)
    else:
        backend.authorize_security_group_ingress(group.id, "tcp", "22", "22", [{"CidrIp": "10.20.0.0/16"}])
    return str(group.id)


def launch(backend: Any, subnet_id: str, interfaces: List[Dict[str, Any]], tags: Dict[str, str]) -> Any:
    """An instance; each interface may say groups, device_index, network_card (index), subnet."""
    first, others = interfaces[0], interfaces[1:]
    reservation = backend.run_instances(
        "ami-12345678",
        1,
        None,
        [],
        nics=[
            {
                "DeviceIndex": 0,
                "SubnetId": first.get("subnet", subnet_id),
                "Groups": list(first["groups"]),
                "DeleteOnTermination": True,
            }
        ],
        instance_type="m5.large",
        is_instance_type_default=True,
        region_name=backend.region_name,
        subnet_id=None,
        client_token="",
        tags={"instance": dict(tags)},
    )
    instance = reservation.instances[0]
    for number, wanted in enumerate(others, 1):
        eni = backend.create_network_interface(
            backend.get_subnet(wanted.get("subnet", subnet_id)),
            None,
            group_ids=list(wanted["groups"]),
            delete_on_termination=True,
        )
        plug(instance, eni, int(wanted.get("device_index", number)), int(wanted.get("network_card", 0)))
    return instance


def plug(instance: Any, eni: Any, device_index: int, network_card: int) -> None:
    """Attaches an interface; on further network cards the same device indexes occur again."""
    key = device_index + 1000 * network_card
    if key in instance.nics:
        raise ValueError(f"network card {network_card}, device index {device_index} is taken")
    instance.attach_eni(eni, key)
    eni.device_index = device_index
    eni.network_card_index = network_card
