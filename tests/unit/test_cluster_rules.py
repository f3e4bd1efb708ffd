"""The test cluster: security groups as nftables rules, and times from logs."""

from cluster.dataplane import compile_rules
from cluster.timing import covered, failures, reports
from ec2.filtering import Filtered, Permission

ALL = (Permission(False, "-1", (-1, -1), "0.0.0.0/0", ""), Permission(True, "-1", (-1, -1), "0.0.0.0/0", ""))
LOG = (
    "Nov 25 07:29:10.274 node1 pacemaker-fenced    [35] (log_async_result) \tnotice: Operation 'reboot' [178] "
    "targeting node2 using fence-vpc returned {} | call 8\n"
)


ALL6 = (Permission(False, "-1", (-1, -1), "::/0", ""), Permission(True, "-1", (-1, -1), "::/0", ""))


def interface(number, *permissions, groups=("sg-1",), ipv6=()):
    return Filtered(f"eni-{number}", f"i-{number}", f"10.0.0.{number}", groups, permissions, ipv6)


def chain(text, name, family="ip"):
    table = text.split(f"table {family} groups {{\n")[1].split("\nadd table")[0]
    return table.split(f"chain {name} {{\n")[1].split("\n}")[0].splitlines()


def test_a_group_without_rules_allows_no_new_connection():
    text = compile_rules([interface(1)])
    assert chain(text, "in_0") == chain(text, "out_0") == ["counter drop"]


def test_a_rule_has_protocol_ports_and_peer():
    text = compile_rules([interface(1, Permission(True, "tcp", (80, 90), "10.1.0.0/16", ""))])
    assert chain(text, "out_0") == ["ip daddr { 10.1.0.0/16 } tcp dport 80-90 return", "counter drop"]
    assert chain(text, "in_0") == ["counter drop"]


def test_group_as_peer_means_its_current_interfaces():
    own = Permission(False, "-1", (-1, -1), "", "sg-1")
    text = compile_rules([interface(1, own), interface(2, own), interface(3, groups=("sg-2",))])
    assert chain(text, "in_0")[0] == "ip saddr { 10.0.0.1, 10.0.0.2 } return"
    assert chain(text, "in_2") == ["counter drop"]


def test_groups_that_allow_all_traffic_are_untracked():
    assert interface(1, *ALL).untracked
    assert not interface(1, ALL[0]).untracked
    assert not interface(1, ALL[1], Permission(False, "tcp", (1, 65535), "0.0.0.0/0", "")).untracked


def test_ipv4_and_ipv6_are_untracked_each_by_its_rules():
    both = interface(1, *ALL, *ALL6, ipv6=("2001:db8::1",))
    ipv4_only = interface(1, *ALL, ALL6[0], ipv6=("2001:db8::1",))
    assert both.untracked
    assert not ipv4_only.untracked
    assert ipv4_only.untracked_addresses == ("10.0.0.1",)


def test_a_rule_applies_to_the_family_of_its_range():
    ssh, http = Permission(False, "tcp", (22, 22), "::/0", ""), Permission(False, "tcp", (80, 80), "0.0.0.0/0", "")
    text = compile_rules([interface(1, ssh, http, ipv6=("2001:db8::1",))])
    assert chain(text, "in_0", "ip6") == ["ip6 saddr { ::/0 } tcp dport 22 return", "counter drop"]
    assert chain(text, "in_0") == ["ip saddr { 0.0.0.0/0 } tcp dport 80 return", "counter drop"]


def test_a_group_as_source_means_the_addresses_of_each_family():
    own = Permission(False, "-1", (-1, -1), "", "sg-1")
    text = compile_rules([interface(1, own, ipv6=("2001:db8::1",)), interface(2, own)])
    assert chain(text, "in_0", "ip6")[0] == "ip6 saddr { 2001:db8::1 } return"
    assert chain(text, "in_0")[0] == "ip saddr { 10.0.0.1, 10.0.0.2 } return"


def test_tracked_connections_pass_before_any_rule():
    assert chain(compile_rules([interface(1)]), "forward")[1] == "ct state established,related accept"


def test_concurrent_calls_count_once():
    assert covered([(1.0, 2.0), (1.5, 3.0), (4.0, 5.0), (4.2, 4.4)]) == 3.0


def test_the_log_distinguishes_success_and_failure():
    log = LOG.format(0) + LOG.format(1) + LOG.format(1)
    assert len(reports("node2", [log])) == 1
    assert failures("node2", [log]) == 2
    assert reports("node1", [log]) == []
