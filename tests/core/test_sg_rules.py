"""What a security group lets through, in words, whether it is everything, and who gets in at a port."""

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


# --- who gets in at port 22 ------------------------------------------------------------------------------------

OWN = frozenset(("10.20.0.9", "2001:db8::9"))
GROUPS = frozenset(("sg-own",))
UNKNOWN = None
FOUR, SIX = False, True


def from_range(cidr, protocol="-1", **ports):
    return {"IpProtocol": protocol, **ports, "Ipv6Ranges" if ":" in cidr else "IpRanges": [ranged(cidr)]}


def ranged(cidr):
    return {"CidrIpv6" if ":" in cidr else "CidrIp": cidr}


def tcp(first, last, cidr="0.0.0.0/0", protocol="tcp"):
    return from_range(cidr, protocol, FromPort=first, ToPort=last)


def from_group(group, protocol="-1"):
    return {"IpProtocol": protocol, "UserIdGroupPairs": [{"GroupId": group}]}


def verdict(permission, ipv6, source, outbound=False):
    """True: it lets the source in; None: that cannot be told."""
    rules = group([], [permission]) if outbound else group([permission])
    sure, unsure = sg_rules.admitting(rules, 22, source, ipv6)
    assert [*sure, *unsure] in ([], list(rules))
    return UNKNOWN if unsure else bool(sure)


@pytest.mark.parametrize(
    ("permission", "ipv6", "admits"),
    [
        (from_range("0.0.0.0/0"), FOUR, True),
        (from_range("0.0.0.0/0"), SIX, False),
        (from_range("::/0"), SIX, True),
        (from_range("::/0"), FOUR, False),
        (from_range("10.20.0.0/24"), FOUR, True),
        (from_range("10.20.0.9/32"), FOUR, True),
        (from_range("10.20.0.8/32"), FOUR, False),
        (from_range("10.20.0.1/24"), FOUR, True),
        (from_range("10.21.0.0/16"), FOUR, False),
        (from_range("2001:db8::/32"), SIX, True),
        (from_range("2001:db8::9/128"), SIX, True),
        (from_range("2001:db8::8/128"), SIX, False),
        (from_range("10.20.0.0/24, everybody"), FOUR, UNKNOWN),
        (tcp(22, 22), FOUR, True),
        (tcp(22, 22, protocol="6"), FOUR, True),
        (tcp(22, 22, "::/0"), SIX, True),
        (tcp(0, 65535), FOUR, True),
        (tcp(20, 22), FOUR, True),
        (tcp(22, 30), FOUR, True),
        (tcp(23, 30), FOUR, False),
        (tcp(1, 21), FOUR, False),
        (tcp(-1, -1), FOUR, True),
        (tcp(22, None), FOUR, True),
        (tcp(21, None), FOUR, False),
        (from_range("0.0.0.0/0", "tcp"), FOUR, True),
        (tcp(22, 22, protocol="udp"), FOUR, False),
        (tcp(22, 22, protocol="17"), FOUR, False),
        (tcp(-1, -1, protocol="icmp"), FOUR, False),
        (from_range("0.0.0.0/0", "50"), FOUR, False),
        (from_group("sg-own"), FOUR, True),
        (from_group("sg-own"), SIX, True),
        (from_group("sg-own", "udp"), FOUR, False),
        (from_group("sg-other"), FOUR, False),
        ({"IpProtocol": "-1", "PrefixListIds": [{"PrefixListId": "pl-1"}]}, FOUR, UNKNOWN),
        ({"IpProtocol": "udp", "PrefixListIds": [{"PrefixListId": "pl-1"}]}, FOUR, False),
        ({"IpProtocol": "-1", "UserIdGroupPairs": [{}]}, FOUR, UNKNOWN),
    ],
)
def test_admitting_a_source_to_a_port(permission, ipv6, admits):
    source = sg_rules.Source(OWN, GROUPS)
    assert verdict(permission, ipv6, source) is admits
    assert verdict(permission, ipv6, source, outbound=True) is False


@pytest.mark.parametrize(
    ("permission", "ipv6", "admits"),
    [
        (from_group("sg-own"), FOUR, UNKNOWN),
        (from_range("10.20.0.0/24"), FOUR, True),
        (from_range("10.21.0.0/24"), FOUR, False),
        (from_range("2001:db8::/32"), SIX, UNKNOWN),
        (from_range("::/0"), SIX, True),
    ],
)
def test_admitting_a_source_of_which_only_an_address_is_known(permission, ipv6, admits):
    assert verdict(permission, ipv6, sg_rules.Source(frozenset(("10.20.0.9",)))) is admits


@pytest.mark.parametrize("address", ["", "node1", "10.20.0.9/24"])
def test_admitting_a_source_whose_address_cannot_be_read(address):
    assert verdict(from_range("10.20.0.0/24"), FOUR, sg_rules.Source(frozenset((address,)))) is UNKNOWN


def test_admitting_takes_each_rule_by_itself():
    many = group([from_range("10.21.0.0/16"), from_group("sg-own"), tcp(22, 22), tcp(80, 80)])
    sure, unsure = sg_rules.admitting(many, 22, sg_rules.Source(OWN), FOUR)
    assert [str(r) for r in sure] == ["in: tcp 22 from 0.0.0.0/0"]
    assert [str(r) for r in unsure] == ["in: all traffic from sg-own"]
