"""How a reply of DescribeInstances is read."""

from aws_vpc_net.instances import parse_instance


def interface(name, device, card=0):
    at = {"DeviceIndex": device, "NetworkCardIndex": card}
    return {"NetworkInterfaceId": name, "Attachment": at, "Groups": [{"GroupId": "sg-00000000"}]}


def test_interfaces_are_numbered_by_card_and_index_whatever_the_order_of_the_reply():
    replies = [interface("eni-c", 0, 1), interface("eni-b", 5), interface("eni-d", 1, 1), interface("eni-a", 0)]
    for order in (replies, replies[::-1]):
        raw = {"InstanceId": "i-00000000", "State": {"Name": "running"}, "NetworkInterfaces": order}
        found = parse_instance(raw).interfaces
        assert [(i.number, i.id) for i in found] == [(1, "eni-a"), (2, "eni-b"), (3, "eni-c"), (4, "eni-d")]


def test_every_private_address_of_an_interface_is_known_and_once():
    addresses = {
        "PrivateIpAddress": "10.0.0.5",
        "PrivateIpAddresses": [
            {"PrivateIpAddress": "10.0.0.5", "Primary": True, "Association": {"PublicIp": "192.0.2.1"}},
            {"PrivateIpAddress": "10.0.0.9", "Primary": False},
        ],
        "Ipv6Addresses": [{"Ipv6Address": "2001:db8::5"}],
    }
    faces = [{**interface("eni-a", 0), **addresses}, interface("eni-b", 1)]
    raw = {"InstanceId": "i-00000000", "State": {"Name": "running"}, "NetworkInterfaces": faces}
    assert [i.addresses for i in parse_instance(raw).interfaces] == [("10.0.0.5", "10.0.0.9", "2001:db8::5"), ()]
