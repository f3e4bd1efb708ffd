"""What the try makes in the account, and how all of it goes again. Everything carries a tag from its first moment."""

import base64
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, List, Optional, Tuple

from botocore.exceptions import BotoCoreError, ClientError

TAG = "fence_aws_vpc_net-acceptance"
CIDR = "10.77.0.0/24"
NODES = {"node1": "10.77.0.11", "node2": "10.77.0.12", "node3": "10.77.0.13"}
PORT = 9000
REPORT_SECONDS = 2
TYPES = ("t4g.nano", "t3.nano")
IMAGE = "al2023-ami-2023.*-kernel-*-"
SETTLE = 3.0
"""Seconds in which EC2 may come to show what a call made whose answer was lost."""
CLEAN_UP_SECONDS = 900.0
MOST_ERRORS = 5
"""So often in a row a look may fail while clearing away."""
LATER = ("DependencyViolation", "InvalidParameterValue", "OperationNotPermitted", "RequestLimitExceeded")
"""What EC2 says of things that others still hang on."""
SOON = 30.0
"""Seconds in which what was just made comes to be known to other calls."""
Say = Callable[[str], None]


@dataclass
class Sender:
    """An instance in a subnet that this machine reaches, and three groups of that VPC by name."""

    interface: str
    address: Tuple[str, int]
    groups: Dict[str, str]


class Bed:
    """A VPC without a way in or out, three groups, three instances; and a sender where a subnet is named for it."""

    def __init__(self, ec2: Any, run_id: str, say: Say) -> None:
        self.ec2 = ec2
        self.run_id = run_id
        self.say = say
        self.vpc = self.subnet = ""
        self.groups: Dict[str, str] = {}
        self.nodes: Dict[str, str] = {}
        self.sender: Optional[Sender] = None

    # Making

    def build(self, kind: str, image: str) -> None:
        """All of it; returns when the instances run."""
        zone, kind = self._place(kind)
        image = image or self._image(kind)
        self.say(f"making a VPC in {zone}, three {kind} of {image}")
        self.vpc = self.ec2.create_vpc(CidrBlock=CIDR, TagSpecifications=self._tags("vpc"))["Vpc"]["VpcId"]
        self.ec2.get_waiter("vpc_available").wait(VpcIds=[self.vpc])
        subnet = self._soon(
            "create_subnet",
            VpcId=self.vpc,
            CidrBlock=CIDR,
            AvailabilityZone=zone,
            TagSpecifications=self._tags("subnet"),
        )
        self.subnet = subnet["Subnet"]["SubnetId"]
        for name in ("isolation", "open", "app"):
            self.groups[name] = self._group(name, self.vpc, CIDR)
        for name, address in NODES.items():
            self.nodes[name] = self._launch(name, address, kind, image)
        self.ec2.get_waiter("instance_running").wait(
            InstanceIds=list(self.nodes.values()), WaiterConfig={"Delay": 3, "MaxAttempts": 100}
        )

    def build_sender(self, subnet: str, kind: str, image: str) -> None:
        """An instance that sends lines to this machine, which alone may connect to it; returns when it runs."""
        (place,) = self.ec2.describe_subnets(SubnetIds=[subnet])["Subnets"]
        kind = self._kind(kind, place["AvailabilityZone"])
        self.say(f"making one {kind} in {subnet}")
        here = f"{own_address(place['CidrBlock'].partition('/')[0])}/32"
        groups = {name: self._group(name, place["VpcId"], here) for name in ("isolation", "open", "app")}
        reply = self._soon(
            "run_instances",
            ImageId=image or self._image(kind),
            InstanceType=kind,
            MinCount=1,
            MaxCount=1,
            ClientToken=f"{self.run_id}-sender",
            NetworkInterfaces=[
                {"DeviceIndex": 0, "SubnetId": subnet, "Groups": [groups["app"]], "DeleteOnTermination": True}
            ],
            UserData=user_data("sender.py", "0.0.0.0", str(PORT)),
            MetadataOptions={"HttpTokens": "required"},
            TagSpecifications=self._tags("instance", "network-interface", "volume", Name=f"{self.run_id}-sender"),
        )
        instance = reply["Instances"][0]
        self.ec2.get_waiter("instance_running").wait(
            InstanceIds=[instance["InstanceId"]], WaiterConfig={"Delay": 3, "MaxAttempts": 100}
        )
        interface = instance["NetworkInterfaces"][0]
        self.sender = Sender(interface["NetworkInterfaceId"], (interface["PrivateIpAddress"], PORT), groups)

    def set_sender_groups(self, name: str) -> int:
        """Returns when EC2 has accepted it: how often the SDK sent it again."""
        assert self.sender is not None
        reply = self.ec2.modify_network_interface_attribute(
            NetworkInterfaceId=self.sender.interface, Groups=[self.sender.groups[name]]
        )
        return int(reply["ResponseMetadata"].get("RetryAttempts", 0))

    def _soon(self, operation: str, **params: Any) -> Any:
        """Make a call on something that was just made: EC2 may not know it yet."""
        end = time.monotonic() + SOON
        while True:
            try:
                return getattr(self.ec2, operation)(**params)
            except ClientError as error:
                if "NotFound" not in error.response["Error"]["Code"] or time.monotonic() > end:
                    raise
            time.sleep(1)

    def _tags(self, *kinds: str, **tags: str) -> List[Dict[str, Any]]:
        given = [{"Key": k, "Value": v} for k, v in {TAG: self.run_id, **tags}.items()]
        return [{"ResourceType": kind, "Tags": given} for kind in kinds]

    def _place(self, wanted: str) -> Tuple[str, str]:
        """A zone that has the smallest kind there is, and that kind."""
        for kind in (wanted,) if wanted else TYPES:
            reply = self.ec2.describe_instance_type_offerings(
                LocationType="availability-zone", Filters=[{"Name": "instance-type", "Values": [kind]}]
            )
            zones = sorted(o["Location"] for o in reply["InstanceTypeOfferings"])
            if zones:
                return zones[0], kind
        raise SystemExit(f"no zone of this region has {wanted or ' or '.join(TYPES)}; name another --instance-type")

    def _kind(self, wanted: str, zone: str) -> str:
        """The smallest kind that this zone has."""
        kinds = (wanted,) if wanted else TYPES
        reply = self.ec2.describe_instance_type_offerings(
            LocationType="availability-zone",
            Filters=[{"Name": "location", "Values": [zone]}, {"Name": "instance-type", "Values": list(kinds)}],
        )
        offered = {o["InstanceType"] for o in reply["InstanceTypeOfferings"]}
        for kind in kinds:
            if kind in offered:
                return kind
        raise SystemExit(f"{zone} has no {' or '.join(kinds)}; name another --instance-type")

    def _image(self, kind: str) -> str:
        """The newest Amazon Linux 2023."""
        family = "arm64" if kind.partition(".")[0].endswith("g") else "x86_64"
        reply = self.ec2.describe_images(
            Owners=["amazon"],
            Filters=[
                {"Name": "name", "Values": [IMAGE + family]},
                {"Name": "state", "Values": ["available"]},
            ],
        )
        found = sorted(reply["Images"], key=lambda i: str(i["CreationDate"]))
        if not found:
            raise SystemExit(f"no image {IMAGE}{family} of Amazon's in this region; name one by --image")
        return str(found[-1]["ImageId"])

    def _group(self, name: str, vpc: str, source: str) -> str:
        reply = self._soon(
            "create_security_group",
            GroupName=f"{self.run_id}-{name}",
            Description=f"fence_aws_vpc_net acceptance: {name}",
            VpcId=vpc,
            TagSpecifications=self._tags("security-group", Name=name),
        )
        group = str(reply["GroupId"])
        everybody = {"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
        six = {"IpProtocol": "-1", "Ipv6Ranges": [{"CidrIpv6": "::/0"}]}
        if name == "isolation":
            self._soon("revoke_security_group_egress", GroupId=group, IpPermissions=[everybody])
        elif name == "open":
            self._soon("authorize_security_group_ingress", GroupId=group, IpPermissions=[everybody, six])
            self._soon("authorize_security_group_egress", GroupId=group, IpPermissions=[six])
        else:
            inside = {"IpProtocol": "tcp", "FromPort": PORT, "ToPort": PORT, "IpRanges": [{"CidrIp": source}]}
            self._soon("authorize_security_group_ingress", GroupId=group, IpPermissions=[inside])
        return group

    def _launch(self, name: str, address: str, kind: str, image: str) -> str:
        """node3 has two interfaces and no flow."""
        first: Dict[str, Any] = {"DeviceIndex": 0, "PrivateIpAddress": address}
        interfaces = [first, {"DeviceIndex": 1}] if name == "node3" else [first]
        for interface in interfaces:
            interface.update(SubnetId=self.subnet, Groups=[self.groups["app"]], DeleteOnTermination=True)
        other = {"node1": NODES["node2"], "node2": NODES["node1"]}.get(name)
        program = {"UserData": user_data("flow.py", address, other, str(PORT), str(REPORT_SECONDS))} if other else {}
        reply = self._soon(
            "run_instances",
            ImageId=image,
            InstanceType=kind,
            MinCount=1,
            MaxCount=1,
            ClientToken=f"{self.run_id}-{name}",
            NetworkInterfaces=interfaces,
            **program,
            MetadataOptions={"HttpTokens": "required"},
            TagSpecifications=self._tags(
                "instance", "network-interface", "volume", Name=f"{self.run_id}-{name}", cluster=self.run_id
            ),
        )
        return str(reply["Instances"][0]["InstanceId"])

    # Reading

    def instance(self, name: str) -> Dict[str, Any]:
        """As one read of EC2 shows it, in the way that the agent reads."""
        given = [{"Name": "instance-id", "Values": [self.nodes[name]]}]
        reply = self.ec2.describe_instances(Filters=given)
        found: Dict[str, Any] = reply["Reservations"][0]["Instances"][0]
        return found

    def groups_of(self, name: str) -> Dict[str, List[str]]:
        """Sorted group IDs by interface."""
        interfaces = self.instance(name)["NetworkInterfaces"]
        return {i["NetworkInterfaceId"]: sorted(g["GroupId"] for g in i["Groups"]) for i in interfaces}

    def console(self, name: str) -> str:
        """The serial console; what has just been said on it, where the instance type can do that."""
        try:
            reply = self.ec2.get_console_output(InstanceId=self.nodes[name], Latest=True)
        except ClientError as error:
            if error.response["Error"]["Code"] != "UnsupportedOperation":
                raise
            reply = self.ec2.get_console_output(InstanceId=self.nodes[name])
        return str(reply.get("Output", ""))

    # Clearing away

    def clean_up(self, interrupted: bool = False) -> List[str]:
        """Remove everything that carries the run's tag; what is left, if time runs out."""
        self.say(f"clearing away what run {self.run_id} made")
        end = time.monotonic() + CLEAN_UP_SECONDS
        empty, enough, errors = 0, 2 if interrupted else 1, 0
        while empty < enough:
            left = self._tried(errors)
            errors = errors + 1 if left is None else 0
            empty = empty + 1 if left == [] else 0
            if errors >= MOST_ERRORS or time.monotonic() > end:
                return left or ["what could not be looked up"]
            time.sleep(0 if empty >= enough else SETTLE)
        return []

    def _tried(self, errors: int) -> "List[str] | None":
        """What was there to remove; None if that failed, which passes or not."""
        try:
            return self._remove_once()
        except (ClientError, BotoCoreError) as error:
            self.say(f"cannot clear away ({errors + 1} of {MOST_ERRORS}): {error}")
            return None

    def _remove_once(self) -> List[str]:
        """Remove what can be removed now; what was there. What hangs on something else goes next time."""
        instances = self._instances()
        if instances:
            self.ec2.terminate_instances(InstanceIds=instances)
            if self._instances():
                return instances
        found = list(instances)
        for operation, key, ids in self._others():
            for name in ids:
                found.append(name)
                self._delete(operation, key, name)
        return found

    def _mine(self) -> List[Dict[str, Any]]:
        return [{"Name": f"tag:{TAG}", "Values": [self.run_id]}]

    def _instances(self) -> List[str]:
        states = ["pending", "running", "shutting-down", "stopping", "stopped"]
        given = [*self._mine(), {"Name": "instance-state-name", "Values": states}]
        reply = self.ec2.describe_instances(Filters=given)
        return [i["InstanceId"] for r in reply["Reservations"] for i in r["Instances"]]

    def _others(self) -> Iterable[Tuple[str, str, List[str]]]:
        """In the order in which they can go."""
        for kind, key in (
            ("network_interface", "NetworkInterfaceId"),
            ("security_group", "GroupId"),
            ("subnet", "SubnetId"),
            ("vpc", "VpcId"),
        ):
            reply = getattr(self.ec2, f"describe_{kind}s")(Filters=self._mine())
            members = next(v for v in reply.values() if isinstance(v, list))
            yield f"delete_{kind}", key, [m[key] for m in members]

    def _delete(self, operation: str, key: str, name: str) -> None:
        try:
            getattr(self.ec2, operation)(**{key: name})
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if "NotFound" in code:
                return
            if code not in LATER:
                raise
            self.say(f"{name}: {code}, once more later")


def own_address(there: str) -> str:
    """The address from which this machine sends to another; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
        link.connect((there, PORT))
        return str(link.getsockname()[0])


def user_data(name: str, *arguments: str) -> str:
    """Starts a program of this directory; what it prints goes to the serial console. (boto3 encodes it.)"""
    program = (Path(__file__).parent / name).read_text(encoding="utf-8")
    text = base64.b64encode(program.encode()).decode()
    return (
        "#!/bin/sh\n"
        f"echo {text} | base64 -d > /root/{name}\n"
        f"nohup python3 /root/{name} {' '.join(arguments)} > /dev/console 2>&1 &\n"
    )
