"""Bad input: one clear last line with its category, exit 1, nothing changed, within seconds, and what to do."""

from typing import Any, Callable, Dict, NamedTuple, Optional

import pytest
from ec2.server import Ec2Server

BAD = "sg-00000000000000bad"
LONG = "x" * 16384


class Row(NamedTuple):
    """A mistake: what differs from a good ``off`` of node1, and what the last line has to say."""

    name: str
    options: Dict[str, Any]
    category: str
    words: str
    prepare: Optional[Callable[[Ec2Server], Any]] = None


def state(name: str) -> Callable[[Ec2Server], Any]:
    return lambda ec2: ec2.edit.set_state(ec2.world.nodes["node1"], name)


def expire(ec2: Ec2Server) -> None:
    ec2.key.expired = True


ROWS = [
    # plug
    Row("no plug", {"plug": None}, "validation", "off requires plug"),
    Row("no plug on on", {"plug": None, "action": "on"}, "validation", "on requires plug"),
    Row("no plug on status", {"plug": None, "action": "status"}, "validation", "status requires plug"),
    Row("empty plug", {"plug": ""}, "validation", "plug is empty"),
    Row("plug of commas", {"plug": " , ,"}, "validation", "plug is empty"),
    Row("short ID", {"plug": "i-123"}, "validation", "i-123 is not an instance ID"),
    Row("ID in capitals", {"plug": "i-0123456789ABCDEF0"}, "validation", "is not an instance ID"),
    Row("short interface ID", {"plug": "eni-123"}, "validation", "eni-123 is not an interface ID; write an ID such"),
    Row("volume ID in capitals", {"plug": "vol-0123456789ABCDEF0"}, "validation", "is not a volume ID"),
    Row("unknown interface", {"plug": "eni-0123456789abcdef0"}, "instance", "is attached to no instance"),
    Row("empty tag key", {"plug_tag": ""}, "validation", "plug_tag is not the key of a tag: it has 0 characters"),
    Row("long tag key", {"plug_tag": "k" * 129}, "validation", "it has 129 characters; write one of 1 to 128"),
    Row("control character in tag key", {"plug_tag": "a\x07"}, "validation", "plug-tag is too long or contains"),
    Row("unknown ID", {"plug": "i-0123456789abcdef0"}, "instance", "no instance i-0123456789abcdef0"),
    Row("unknown ID on on", {"plug": "i-0123456789abcdef0", "action": "on"}, "instance", "no instance"),
    Row("unknown ID on status", {"plug": "i-0123456789abcdef0", "action": "status"}, "instance", "no instance"),
    Row("unknown name", {"plug": "node7"}, "instance", "node7; check plug, filter and region"),
    Row("unknown name with signs", {"plug": "nöde/7 x"}, "instance", "nöde/7 x; check plug"),
    Row("one of two malformed", {"plug": "{node1},i-zz,i-1"}, "validation", "i-1 is not an instance ID"),
    Row("long plug", {"plug": LONG}, "validation", "plug is too long"),
    Row("control character in plug", {"plug": "node\x071"}, "validation", "plug is too long or contains"),
    # secg
    Row("no secg", {"secg": None}, "validation", "off requires secg"),
    Row("no secg on status", {"secg": None, "action": "status"}, "validation", "status requires secg"),
    Row("no secg on validate-all", {"secg": None, "action": "validate-all"}, "validation", "requires secg"),
    Row("empty secg", {"secg": ""}, "validation", "secg is empty"),
    Row("secg of commas", {"secg": " ,,"}, "validation", "secg is empty"),
    Row("a name as group", {"secg": "isolation"}, "validation", "isolation is not a security group ID"),
    Row("short group", {"secg": "sg-123"}, "validation", "sg-123 is not a security group ID"),
    Row("group in capitals", {"secg": "SG-0123456789abcdef0"}, "validation", "is not a security group ID"),
    Row("one of two malformed groups", {"secg": "{isolation},sg-x"}, "validation", "sg-x is not a security group"),
    Row("groups by semicolon", {"secg": "{isolation};{app}"}, "validation", "is not a security group ID"),
    Row("mistyped group to keep", {"secg": BAD}, "modification", f"The security group '{BAD}' does not exist"),
    Row("mistyped group to remove", {"secg": BAD, "invert_sg_removal": None}, "validation", "nothing to remove"),
    Row("forgotten invert", {"invert_sg_removal": None}, "validation", "check secg and invert_sg_removal"),
    Row("removal leaves nothing", {"secg": "{app},{ssh}", "invert_sg_removal": None}, "validation", "no group left"),
    Row("group of another VPC", {"secg": "{foreign}"}, "modification", "belong to different networks"),
    Row("more than 16 groups", {"secg": ",".join(f"sg-{n:017x}" for n in range(17))}, "validation", "17 groups"),
    Row("long secg", {"secg": LONG}, "validation", "secg is too long"),
    Row("control character in secg", {"secg": "{isolation}\x1b[31m"}, "validation", "secg is too long or contains"),
    Row("non-ASCII group", {"secg": "sg-0123456789abcdefé"}, "validation", "is not a security group ID"),
    # untrack_secg
    Row("untracking group within secg", {"untrack_secg": "{isolation}"}, "validation", "is also in secg"),
    Row("empty port", {"probe_port": ""}, "validation", "probe_port= is not a TCP port"),
    Row("empty boolean with a value", {"skip_os_shutdown": ""}, "validation", "skip_os_shutdown="),
    Row("empty untracking group", {"untrack_secg": ""}, "validation", "untrack-secg is empty"),
    Row("blank untracking group", {"untrack_secg": " "}, "validation", "untrack-secg is empty"),
    Row("untracking group of commas", {"untrack_secg": ","}, "validation", "untrack-secg is empty"),
    Row("two untracking groups", {"untrack_secg": "{app},{open}"}, "validation", "has several groups"),
    Row("malformed untracking group", {"untrack_secg": "open"}, "validation", "open is not a security group ID"),
    # booleans and numbers
    Row("unreadable invert", {"invert_sg_removal": "ture"}, "validation", "invert_sg_removal=ture"),
    Row("unreadable poweroff", {"onfence_poweroff": "maybe"}, "validation", "write 1 or 0"),
    Row("empty boolean", {"onfence-poweroff": ""}, "validation", "onfence-poweroff="),
    Row("unreadable poweron", {"unfence_poweron": "2"}, "validation", "unfence_poweron=2"),
    Row("unreadable skip", {"skip_os_shutdown": "perhaps"}, "validation", "skip_os_shutdown=perhaps"),
    Row("unreadable SDK debugging", {"boto3_debug": "x"}, "validation", "boto3_debug=x"),
    Row("empty SDK debugging", {"boto3_debug": ""}, "validation", "boto3_debug= is neither true nor false"),
    Row("blank SDK debugging", {"boto3-debug": " "}, "validation", "boto3_debug= is neither true nor false"),
    Row("unreadable library boolean", {"quiet": "shh"}, "validation", "quiet=shh"),
    Row("deadline in words", {"deadline": "soon"}, "validation", "deadline=soon"),
    Row("negative deadline", {"deadline": "-1"}, "validation", "not a whole number of seconds from 2"),
    Row("no deadline", {"deadline": "0"}, "validation", "deadline=0"),
    Row("huge deadline", {"deadline": "9" * 30}, "validation", "not a whole number of seconds"),
    Row("deadline with a fraction", {"deadline": "4.5"}, "validation", "deadline=4.5"),
    Row("deadline in other digits", {"deadline": "٤٥"}, "validation", "not a whole number of seconds"),
    Row("API limit of zero", {"api_timeout": "0"}, "validation", "api-…=0 is not a whole number of seconds"),
    Row("delay in words", {"delay": "a while"}, "validation", "delay=a while"),
    Row("negative wait", {"power_wait": "-3"}, "validation", "power-wait=-3"),
    Row("library limit in words", {"login_timeout": "x"}, "validation", "login-…=x is not"),
    Row("retries in words", {"retry_on": "x"}, "validation", "retry-on=x"),
    # credentials and connection
    Row("half of a key pair", {"secret_key": None}, "validation", "secret-key is missing"),
    Row("the other half", {"access_key": None}, "validation", "access-key is missing"),
    Row("unknown key", {"access_key": "AKIAUNKNOWN"}, "authentication", "check the credentials"),
    Row("wrong secret", {"secret_key": "wrong"}, "authentication", "AuthFailure"),
    Row("expired credentials", {}, "authentication", "RequestExpired", expire),
    Row("no credentials at all", {"access_key": None, "secret_key": None}, "authentication", "check the credentials"),
    Row("wrong region", {"region": "us-east-1"}, "instance", "check plug, region and credentials"),
    Row("malformed region", {"region": "eu central"}, "region", "set region"),
    Row("no region", {"region": None}, "region", "set region"),
    Row("endpoint of another kind", {"endpoint_url": "ftp://x"}, "validation", "endpoint_url is not"),
    Row("endpoint with a password", {"endpoint_url": "http://u:p@127.0.0.1"}, "validation", "endpoint_url is not"),
    Row("endpoint with an odd host", {"endpoint_url": "http://vpce_1:80"}, "validation", "endpoint_url is not"),
    Row("endpoint with an empty part", {"endpoint_url": "http://a..b"}, "validation", "endpoint_url is not"),
    Row("endpoint with a long part", {"endpoint_url": f"http://{'x' * 64}.b"}, "validation", "endpoint_url is not"),
    Row("endpoint in Unicode", {"endpoint_url": "http://127.0.0.1\u3002:80"}, "validation", "endpoint_url is not"),
    Row("nobody at the endpoint", {"endpoint_url": "http://127.0.0.1:9"}, "deadline", "check the network path"),
    Row("no TLS at the endpoint", {"endpoint_url": "https://127.0.0.1:{port}"}, "retrieval", "SSL"),
    # what the instance is
    Row("stopped", {}, "state", "is not running but stopped; set ignore_instance_state", state("stopped")),
    Row("stopping", {}, "state", "is not running but stopping", state("stopping")),
    Row("pending", {}, "state", "is not running but pending", state("pending")),
    Row("terminated on on", {"action": "on"}, "instance", "is terminated", state("terminated")),
    # the rest
    Row("unknown action", {"action": "explode"}, "validation", "action explode is unknown; use one of on, off"),
    Row("empty plug separator", {"plug_separator": ""}, "validation", "plug-separator is empty"),
    Row("empty separator", {"separator": "", "action": "list"}, "validation", "separator is empty"),
    Row("filter without a value", {"filter": "tag:x"}, "validation", "filter tag:x is not of the form key=value"),
    Row("empty filter values", {"filter": "tag:x=, ,"}, "validation", "filter"),
    Row(
        "two filters of a key",
        {"filter": "tag:Name=node1; tag:Name = node2"},
        "validation",
        "filter has the key tag:Name twice",
    ),
    Row("unknown filter", {"filter": "no=1", "action": "list", "plug": None}, "retrieval", "InvalidParameterValue"),
    Row("static gap", {"action": "on", "interface1_sg": "{app}"}, "validation", "interface0-sg missing"),
    Row("other static gap", {"action": "on", "interface0_sg": "{app}"}, "validation", "interface1-sg missing"),
    Row("malformed static group", {"interface5-sg": "x"}, "validation", "interface5-sg: x is not a security group"),
    Row(
        "static groups that isolate, offline",
        {"action": "validate-all", "plug": None, "interface0_sg": "{isolation}"},
        "validation",
        "the groups of interface0-sg count as isolated",
    ),
    Row("empty static group", {"interface0_sg": ","}, "validation", "interface0-sg is empty"),
    Row("too many static groups", {"interface0_sg": ",".join(f"sg-{n:017x}" for n in range(17))}, "validation", "17"),
    Row(
        "static groups that isolate",
        {"action": "on", "interface0_sg": "{isolation}", "interface1_sg": "{app}"},
        "validation",
        "the groups of interface0-sg count as isolated",
    ),
    Row(
        "debug file nowhere",
        {"action": "validate-all", "debug_file": "/nowhere/x"},
        "validation",
        "cannot write the debug file /nowhere/x",
    ),
    Row("debug file is a folder", {"action": "validate-all", "debug_file": "/"}, "validation", "the debug file /"),
]


def filled(options: Dict[str, Any], names: Dict[str, str]) -> Dict[str, Any]:
    return {k: v.format(**names) if isinstance(v, str) and "{" in v else v for k, v in options.items()}


@pytest.mark.parametrize("row", ROWS, ids=[r.name.replace(" ", "-") for r in ROWS])
def test_a_mistake_is_one_clear_line_and_changes_nothing(agent, ec2, keep, row):
    foreign = ec2.edit.add_group("foreign", ec2.edit.add_vpc()["vpc"])
    names = {**ec2.world.groups, **ec2.world.nodes, "foreign": foreign, "port": str(ec2.port)}
    if row.prepare:
        row.prepare(ec2)
    before = ec2.snapshot()
    given = {"plug": ec2.world.nodes["node1"], "deadline": 4, **keep, **filled(row.options, names)}
    result = agent.pacemaker(given.pop("action", "off"), given.pop("plug"), **given)
    assert result.code == 1, result.err
    assert result.out == ""
    assert result.last.startswith(f"ERROR: {row.category} error: "), result.err
    assert row.words in result.last
    assert len(result.last) < 600
    assert sum("ERROR" in line for line in result.lines) == 1
    assert not any(word in result.err.lower() for word in ("timed out", "timeout", "unsupported action", "traceback"))
    assert result.seconds < 6
    after = ec2.snapshot()
    if row.category == "modification":  # only EC2 knows that the group cannot be used: the backup was written first
        after = {i: {**s, "tags": before[i]["tags"]} for i, s in after.items()}
    assert after == before


def test_the_table_has_enough_rows():
    assert len(ROWS) >= 60
    assert len({r.name for r in ROWS}) == len(ROWS)


def test_a_missing_certificate_bundle_is_named(agent, ec2, keep):
    agent.env["AWS_CA_BUNDLE"] = "/nowhere/ca.pem"
    result = agent.command(
        "status", ec2.world.nodes["node1"], **{**keep, "endpoint_url": f"https://127.0.0.1:{ec2.port}"}
    )
    assert result.code == 1
    assert "check AWS_CA_BUNDLE" in result.last
    assert result.seconds < 6


def test_a_profile_that_does_not_exist_is_named(agent, ec2, keep):
    agent.env["AWS_PROFILE"] = "nobody"
    result = agent.command("status", ec2.world.nodes["node1"], **{**keep, "access_key": None, "secret_key": None})
    assert result.code == 1
    assert "nobody" in result.last
