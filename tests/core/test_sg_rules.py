"""What a security group lets through, in words, and whether it is everything."""

import pytest

from aws_vpc_net.core import sg_rules

ANY, ANY6 = {"IpRanges": [{"CidrIp": "0.0.0.0/0"}]}, {"Ipv6Ranges": [{"CidrIpv6": "::/0"}]}
ALL = {"IpProtocol": "-1", **ANY, **ANY6}


def group(inbound=(), outbound=()):
    return sg_rules.read({"IpPermissions": list(inbound), "IpPermissionsEgress": list(outbound)})


@pytest.mark.parametrize(
    ("permission", "words"),
    [
        ({"IpProtocol": "-1", **ANY}, "in: all traffic from 0.0.0.0/0"),
        ({"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, **ANY6}, "in: tcp 22 from ::/0"),
        ({"IpProtocol": "udp", "FromPort": 5404, "ToPort": 5406, **ANY}, "in: udp 5404-5406 from 0.0.0.0/0"),
        ({"IpProtocol": "tcp", "FromPort": 0, "ToPort": 65535, **ANY}, "in: all tcp from 0.0.0.0/0"),
        ({"IpProtocol": "icmp", "FromPort": -1, "ToPort": -1, **ANY}, "in: all icmp from 0.0.0.0/0"),
        ({"IpProtocol": "icmp", "FromPort": 8, "ToPort": -1, **ANY}, "in: icmp type 8 from 0.0.0.0/0"),
        ({"IpProtocol": "icmp", "FromPort": 3, "ToPort": 4, **ANY}, "in: icmp type 3 code 4 from 0.0.0.0/0"),
        ({"IpProtocol": "50", **ANY}, "in: all 50 from 0.0.0.0/0"),
        ({"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": "sg-1"}]}, "in: all traffic from sg-1"),
        ({"IpProtocol": "-1", "PrefixListIds": [{"PrefixListId": "pl-1"}]}, "in: all traffic from pl-1"),
        ({"IpProtocol": "-1", "UserIdGroupPairs": [{"UserId": "1"}]}, "in: all traffic from ?"),
    ],
)
def test_str_of_a_rule(permission, words):
    assert [str(r) for r in group([permission])] == [words]
    outbound = words.replace("in:", "out:").replace("from", "to")
    assert [str(r) for r in group([], [permission])] == [outbound]


def test_read_makes_a_rule_of_each_peer():
    assert len(group([ALL], [ALL])) == 4


def test_missing_rules_of_a_group_that_is_to_untrack():
    assert sg_rules.missing_rules(group([ALL], [ALL]), ipv6=True) == []
    four = {"IpProtocol": "-1", **ANY}
    assert sg_rules.missing_rules(group([four], [four]), ipv6=False) == []
    assert sg_rules.missing_rules(group([four], [ALL]), ipv6=True) == ["in: all traffic from ::/0"]
    assert sg_rules.missing_rules(group([], [ALL]), ipv6=False) == ["in: all traffic from 0.0.0.0/0"]
    tcp = {"IpProtocol": "tcp", "FromPort": 0, "ToPort": 65535, **ANY}
    halves = {"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/1"}, {"CidrIp": "128.0.0.0/1"}]}
    assert len(sg_rules.missing_rules(group([tcp], [halves]), ipv6=False)) == 2


@pytest.mark.parametrize("side", [0, 1])
def test_opens_all_where_one_direction_lets_everything_through(side):
    def one(permission):
        return group(*[[permission] if n == side else [] for n in range(2)])

    assert sg_rules.opens_all(one({"IpProtocol": "-1", **ANY6}))
    assert not sg_rules.opens_all(one({"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": "sg-1"}]}))
    assert not sg_rules.opens_all(one({"IpProtocol": "tcp", "FromPort": 1, "ToPort": 2, **ANY}))
