"""Replies: what the SDK converts of them."""

import boto3
import botocore.session
import pytest
from botocore.parsers import EC2QueryParser
from ec2.edit import secondary_interface
from ec2.server import Ec2Server

from aws_vpc_net import replies
from aws_vpc_net.instances import parse_instance
from aws_vpc_net.names import Name

PAGE = b"""<DescribeInstancesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><requestId>r</requestId>
<reservationSet><item><reservationId>r-1</reservationId><ownerId>1</ownerId><instancesSet><item>
<instanceId>i-1</instanceId><launchTime>2026-01-01T00:00:00.000Z</launchTime>
<instanceState><code>16</code><name>running</name></instanceState>
<networkInterfaceSet><item><networkInterfaceId>eni-1</networkInterfaceId></item></networkInterfaceSet>
<tagSet><item><key>Name</key><value>node1</value></item><item><key>Empty</key><value/></item></tagSet>
</item><item><instanceId>i-2</instanceId><instanceState><name>stopped</name></instanceState></item></instancesSet></item>
</reservationSet><nextToken>more</nextToken></DescribeInstancesResponse>"""


@pytest.fixture
def shape():
    model = botocore.session.Session().get_service_model("ec2")
    return model.operation_model("DescribeInstances").output_shape


def test_only_what_a_list_needs_is_converted(shape):
    reply = {"status_code": 200, "headers": {}, "body": PAGE}
    replies.narrow(shape, replies.LISTED)
    found = EC2QueryParser().parse(reply, shape)
    tags = [{"Key": "Name", "Value": "node1"}, {"Key": "Empty", "Value": ""}]
    node1 = {"InstanceId": "i-1", "State": {"Name": "running"}, "Tags": tags}
    assert found["Reservations"] == [{"Instances": [node1, {"InstanceId": "i-2", "State": {"Name": "stopped"}}]}]
    assert found["NextToken"] == "more"
    assert set(found) == {"Reservations", "NextToken", "ResponseMetadata"}


def raw(client, node):
    (found,) = client.describe_instances(InstanceIds=[node])["Reservations"]
    return found["Instances"][0]


def test_what_the_actions_read_is_converted():
    """An instance with all that they look at reads the same, and is known by each of its names."""
    with Ec2Server() as server:
        node = server.world.nodes["node1"]
        first, second = server.world.interfaces["node1"]
        server.edit.ipv6(first, "fd00::7")
        server.edit.addresses(second, "10.20.0.77", "10.20.0.78")
        server.edit.network_card(second, 1)
        server.edit.interface_type(second, "efa")
        server.edit.operator(second, "eks.amazonaws.com")
        server.edit.secondary_interfaces(node, [secondary_interface(1)])
        server.edit.spot(node, hibernation=True)
        server.edit.interrupted(node)
        volume = server.edit.attach_volume(node)
        shown = []
        for narrowed in (False, True):
            client = boto3.client("ec2", **server.client_kwargs())
            if narrowed:
                model = client.meta.service_model.operation_model("DescribeInstances")
                replies.narrow(model.output_shape, replies.READ)
            client.meta.events.register("after-call.ec2.DescribeInstances", replies.complete)
            shown.append(raw(client, node))
    full, some = shown
    assert len(some) < len(full) / 2
    assert some["LaunchTime"] == full["LaunchTime"]
    assert some["StateReason"]["Code"] == full["StateReason"]["Code"]
    names = (full["PrivateIpAddress"], full["PrivateDnsName"], "NODE1", "fd00::7", second, volume)
    assert parse_instance(some, map(Name, names)) == parse_instance(full, map(Name, names)) == parse_instance(full)
    assert [len(parse_instance(some).interfaces), parse_instance(some).interfaces[1].managed] == [3, True]
    assert parse_instance(some).hibernated
