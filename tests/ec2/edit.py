"""Changes to the world by the test itself, without the front, its checks, faults and list of calls."""

import functools
from typing import Any, Callable, Dict, Iterable, List, Optional, Sequence, Tuple

from . import world
from .front import INTERRUPTED, Front, launched_again

Interfaces = Sequence[Dict[str, Any]]
RESTORABLE = {"set_groups", "put_tags", "set_state", "end_transitions"}
"""Edits of what an earlier world is restored by; groups and tags are no part of what the front remembers."""


def _noticed(method: Callable[..., Any]) -> Callable[..., Any]:
    """As one step, after which the front remembers nothing that it had rendered before."""

    @functools.wraps(method)
    def edit(self: Any, *args: Any, **kwargs: Any) -> Any:
        with self._front.lock:
            try:
                return method(self, *args, **kwargs)
            finally:
                self._front.touch()

    return edit


def _each_noticed(kind: Any) -> Any:
    for name, method in list(vars(kind).items()):
        if not name.startswith("_") and name not in RESTORABLE:
            setattr(kind, name, _noticed(method))
    return kind


@_each_noticed
class Edit:
    """`server.edit`. Stale reads can miss every change."""

    def __init__(self, front: Front, get_world: Any) -> None:
        self._front = front
        self._world = get_world

    def _backend(self) -> Any:
        self._front.settle()
        return self._front.moto.backend()

    def add_instance(
        self,
        name: str,
        interfaces: Optional[Interfaces] = None,
        tags: Optional[Dict[str, str]] = None,
        subnet: Optional[str] = None,
    ) -> str:
        """Launches an instance; interfaces are {"groups": [IDs], "device_index": 1, "network_card": 0}.

        By default one interface with `app` and `ssh`, in the world's subnet.
        """
        current = self._world()
        wanted = list(interfaces or [{"groups": [current.groups["app"], current.groups["ssh"]]}])
        with self._front.lock:
            instance = world.launch(self._backend(), subnet or current.subnet, wanted, {"Name": name, **(tags or {})})
            self._front.history.note()
        return str(instance.id)

    def add_vpc(self, cidr: str = "10.30.0.0/16") -> Dict[str, str]:
        """A further VPC and a subnet that fills it: {"vpc": ID, "subnet": ID, "default": group ID}."""
        with self._front.lock:
            backend = self._backend()
            vpc = backend.create_vpc(cidr)
            subnet = backend.create_subnet(vpc.id, cidr, availability_zone=backend.region_name + world.ZONE)
            return {
                "vpc": vpc.id,
                "subnet": subnet.id,
                "default": backend.get_default_security_group(vpc.id).id,
            }

    def add_group(self, name: str, vpc: Optional[str] = None) -> str:
        """A group in a VPC (the world's); names that begin with isolation or open get such rules."""
        with self._front.lock:
            return world.new_group(self._backend(), vpc or self._world().vpc, name)

    def delete_group(self, group: str) -> None:
        """Deletes a group, used or not."""
        with self._front.lock:
            self._backend().delete_security_group(group_id=group)

    def add_rule(
        self,
        group: str,
        peer: str,
        protocol: str = "-1",
        ports: Optional[Tuple[int, int]] = None,
        outbound: bool = False,
    ) -> None:
        """Adds a rule to a group, from or to a range, a group or a prefix list."""
        with self._front.lock:
            backend = self._backend()
            add = backend.authorize_security_group_egress if outbound else backend.authorize_security_group_ingress
            first, last = ports or (None, None)
            ranges = [{"CidrIpv6" if ":" in peer else "CidrIp": peer}] if "/" in peer else []
            groups = [{"GroupId": peer}] if peer.startswith("sg-") else []
            lists = [{"PrefixListId": peer}] if peer.startswith("pl-") else []
            numbers = [None if p is None else str(p) for p in (first, last)]
            add(group, protocol, *numbers, ranges, source_groups=groups, prefix_list_ids=lists)

    def drop_rules(self, group: str) -> None:
        """Deletes the inbound rules of a group."""
        with self._front.lock:
            self._backend().get_security_group_from_id(group).ingress_rules.clear()

    def addresses(self, interface: str, *private: str) -> None:
        """Sets the private IPv4 addresses of an interface, the primary one first."""
        nic = self._front.moto.backend().enis[interface]
        nic.private_ip_address = private[0]
        nic.private_ip_addresses = [{"Primary": a == private[0], "PrivateIpAddress": a} for a in private]

    def ipv6(self, interface: str, *addresses: str) -> None:
        """Sets the IPv6 addresses of an interface."""
        self._front.moto.backend().enis[interface].ipv6_addresses = list(addresses)

    def ipv6_only(self, instance: str, *addresses: str) -> None:
        """Shows an instance as in an IPv6-only subnet: an address for each interface, and no private IPv4 address."""
        nics = self._front.moto.backend().get_instance(instance).network_interfaces
        for nic, address in zip(nics, addresses):
            nic.private_ip_address, nic.private_ip_addresses, nic.ipv6_addresses = None, [], [address]
            nic.private_dns_name = None

    def attach_volume(self, instance: str, volume: str = "") -> str:
        """Attaches a volume, perhaps one that is attached elsewhere too (EBS Multi-Attach), or a new one: its ID."""
        with self._front.lock:
            backend = self._backend()
            zone = backend.region_name + world.ZONE
            found = volume or backend.create_volume(size=8, zone_name=zone, volume_type="io2", iops=100).id
            count = len(backend.get_instance(instance).volume_ids)
            backend.attach_volume(found, instance, f"/dev/sd{'fghij'[count]}")
        return str(found)

    def detach_volume(self, instance: str, volume: str) -> None:
        """Detaches a volume from this instance."""
        blocks = self._front.moto.backend().get_instance(instance).block_device_mapping
        for device in [device for device, block in blocks.items() if block.volume_id == volume]:
            del blocks[device]

    def associate_group(self, group: str, vpc: str) -> None:
        """Associates a group with a VPC that is not its own."""
        self._front.config.associated.add((group, vpc))

    def set_groups(self, interface: str, groups: Iterable[str]) -> None:
        """Sets the groups of an interface, unchecked."""
        with self._front.lock:
            backend = self._backend()
            found = [backend.get_security_group_from_id(group) for group in groups]
            backend.enis[interface]._group_set = found
            self._front.history.note()

    def attach(
        self, instance: str, groups: Iterable[str], device_index: int, network_card: int = 0, subnet: str = ""
    ) -> str:
        """Attaches a new interface and returns its ID."""
        with self._front.lock:
            backend = self._backend()
            place = backend.get_subnet(subnet or self._world().subnet)
            eni = backend.create_network_interface(place, None, group_ids=list(groups))
            world.plug(backend.get_instance(instance), eni, device_index, network_card)
            self._front.history.note()
        return str(eni.id)

    def attach_again(self, instance: str, interface: str, device_index: int) -> None:
        """Attaches an interface that was detached."""
        with self._front.lock:
            backend = self._backend()
            world.plug(backend.get_instance(instance), backend.enis[interface], device_index, 0)
            self._front.history.note()

    def detach(self, interface: str, delete: bool = False) -> None:
        """Detaches an interface, and deletes it if requested."""
        with self._front.lock:
            backend = self._backend()
            eni = backend.enis[interface]
            if eni.instance is not None:
                eni.instance.detach_eni(eni)
            if delete:
                del backend.enis[interface]
            self._front.history.note()

    def set_state(self, instance: str, state: str) -> None:
        """Sets the state of an instance at once. A terminated one loses its interfaces."""
        with self._front.lock:
            found = self._backend().get_instance(instance)
            if state == "running" and found._state.name == "stopped":
                launched_again(found)
            {"terminated": found.terminate, "stopped": found.stop, "running": found.start}.get(state, lambda: None)()
            self._front.move(found, "", 0)
            self._front._set_state(instance, state)
            self._front.history.note()

    def end_transitions(self) -> None:
        """Completes `stopping`, `pending` and `shutting-down` now."""
        with self._front.lock:
            self._front.settle(all_of_them=True)

    def put_tags(self, resource: str, tags: Dict[str, Optional[str]]) -> None:
        """Sets tags, `aws:` ones too and any number; None removes one."""
        with self._front.lock:
            stored = self._backend().tags[resource]
            for key, value in tags.items():
                if value is None:
                    stored.pop(key, None)
                else:
                    stored[key] = value
            self._front.history.note()

    def requester_managed(self, interface: str, managed: bool = True) -> None:
        """Marks an interface as managed by a service: changes of it are AuthFailure."""
        self._front.moto.backend().enis[interface].requester_managed = managed

    def network_card(self, interface: str, index: int) -> None:
        """Shows an interface on a network card."""
        self._front.moto.backend().enis[interface].network_card_index = index

    def operator(self, target: str, principal: Optional[str]) -> None:
        """Shows an interface or instance as managed by a service (None: no longer)."""
        backend = self._front.moto.backend()
        thing = backend.enis[target] if target in backend.enis else backend.get_instance(target)
        thing.operator = None if principal is None else {"Managed": True, "Principal": principal}

    def metadata_tags(self, instance: str, enabled: bool = True) -> None:
        """Enables tags in the instance metadata, which allows fewer characters in their keys."""
        options = self._front.moto.backend().get_instance(instance).metadata_options
        options.instance_metadata_tags = "enabled" if enabled else "disabled"

    def stop_protection(self, instance: str, enabled: bool = True) -> None:
        """Protects an instance against StopInstances (DisableApiStop)."""
        self._front.moto.backend().get_instance(instance).disable_api_stop = enabled

    def hibernated(self, instance: str) -> None:
        """Shows a stopped instance as one that was stopped with hibernation."""
        reason = self._front.moto.backend().get_instance(instance).state_reason
        reason.code = "Client.UserInitiatedHibernate"

    def spot(self, instance: str, hibernation: bool = False) -> None:
        """Shows an instance as Spot, of a persistent request; with hibernation set up."""
        found = self._front.moto.backend().get_instance(instance)
        found.instance_lifecycle, found.hibernation_options = "spot", {"Configured": hibernation}

    def interrupted(self, instance: str) -> None:
        """Stops or hibernates a Spot instance as EC2 does where it takes the capacity back."""
        self.set_state(instance, "stopped")
        self._front.moto.backend().get_instance(instance).state_reason.code = INTERRUPTED

    def cannot_stop(self, instance: str, root: str = "ebs", lifecycle: Optional[str] = None) -> None:
        """Shows an instance with an instance-store root, or as Spot: StopInstances is UnsupportedOperation."""
        found = self._front.moto.backend().get_instance(instance)
        found.root_device_type, found.instance_lifecycle = root, lifecycle
        self._front.config.unstoppable.add(instance)

    def interface_type(self, interface: str, kind: str) -> None:
        """Shows an interface as `interface`, `efa`, `efa-only`, `evs` or `trunk`."""
        self._front.moto.backend().enis[interface].interface_type = kind

    def outpost(self, instance: str) -> None:
        """Shows an instance as one on an Outpost."""
        backend = self._front.moto.backend()
        arn = f"arn:aws:outposts:{backend.region_name}:{backend.account_id}:outpost/op-0123456789abcdef0"
        backend.get_instance(instance).outpost_arn = arn

    def tracking(self, interface: str, seconds: Optional[int]) -> None:
        """Sets how long an idle established TCP connection is tracked; None: not set."""
        shown = None if seconds is None else {"TcpEstablishedTimeout": seconds}
        self._front.moto.backend().enis[interface].connection_tracking_configuration = shown

    def secondary_interfaces(self, instance: str, interfaces: List[Dict[str, Any]]) -> None:
        """Shows secondary interfaces, which have no groups; members are named as in boto3's answer."""
        self._front.moto.backend().get_instance(instance).secondary_interfaces = interfaces


def secondary_interface(number: int, network_card: int = 1, device_index: int = 0) -> Dict[str, Any]:
    """An item for Edit.secondary_interfaces."""
    return {
        "SecondaryInterfaceId": f"sni-{number:017x}",
        "MacAddress": f"02:00:00:00:01:{number:02x}",
        "PrivateIpAddresses": [{"PrivateIpAddress": f"10.21.0.{number}"}],
        "SourceDestCheck": False,
        "Status": "in-use",
        "SecondarySubnetId": "ss-00000000000000001",
        "SecondaryNetworkId": "sn-00000000000000001",
        "InterfaceType": "secondary",
        "Attachment": {
            "AttachmentId": f"eni-attach-{number:017x}",
            "DeleteOnTermination": True,
            "DeviceIndex": device_index,
            "NetworkCardIndex": network_card,
            "Status": "attached",
        },
    }
