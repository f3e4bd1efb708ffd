"""Replies: what the SDK converts of a long one."""

import botocore.session
import pytest
from botocore.parsers import EC2QueryParser

from aws_vpc_net import replies

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
