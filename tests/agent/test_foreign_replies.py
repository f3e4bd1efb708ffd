"""A page instead of a reply of EC2: an error that states this, for any status; a change may have been made."""

import os

import pytest
from assertions import groups, is_isolated, our_tags
from ec2.faults import Lacking, Page
from test_access import use

XHTML = b'<?xml version="1.0"?><!-- a --><html xmlns="http://www.w3.org/1999/xhtml"><title>Log in</title></html>'
DESCRIBED = b'<DescribeTagsResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"/>'
REFUSED = b"<Response><Errors><Error><Code>Unavailable</Code></Error></Errors></Response>"
NOT_EC2 = {
    "html": Page(),
    "xhtml": Page(XHTML),
    "xml": Page(b"<rss><channel/></rss>", content_type="application/xml"),
    "json": Page(b'{"message": "hello"}', content_type="application/json"),
    "empty": Page(b"", content_type=""),
    "other reply": Page(DESCRIBED, content_type="text/xml"),
    "refusal": Page(REFUSED, content_type="text/xml"),
    "204": Page(b"", 204),
    "302": Page(status=302),
    "400": Page(status=400),
    "401": Page(XHTML, 401),
    "403": Page(status=403),
    "404": Page(XHTML, 404),
    "407": Page(status=407),
    "500": Page(XHTML, 500),
    "503": Page(status=503),
    "comments": Page(b"<!-- -->" * 500 + b"<html/>", 403),
    "gateway": Page(b"<Response><Code>403</Code><Message>blocked</Message></Response>", 403),
    "portal": Page(b"<Response><Status><Code>1</Code></Status></Response>", 403),
    "success": Page(b'<CreateTagsResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"/>', 403),
}
# No other try is worth while.
LASTING = ["302", "400", "401", "403", "404", "407", "comments", "gateway", "portal", "success"]
SHORT = {"deadline": 3, "api_timeout": 1}


def pages(*names):
    return pytest.mark.parametrize("page", names or NOT_EC2)


READS = [("list", page) for page in NOT_EC2]
READS += [(action, page) for action in ("monitor", "status", "off", "on") for page in ("html", "xhtml", "403")]


@pytest.mark.parametrize("action,page", READS)
def test_a_read_reports_a_foreign_reply(agent, ec2, keep, action, page):
    before = ec2.snapshot()
    rule = ec2.rules.add("DescribeInstances", NOT_EC2[page], times=None)
    plug = None if action in ("list", "monitor") else ec2.world.nodes["node1"]
    result = agent.command(action, plug, **SHORT, **keep)
    assert result.code == 1
    assert result.out == ""
    assert len(result.lines) == 1
    assert "DescribeInstances: HTTP " + str(NOT_EC2[page].status) in result.last
    assert "the reply is not EC2's" in result.last
    assert "unknown" not in result.last
    assert result.last.startswith(f"ERROR: {'retrieval' if page in LASTING else 'deadline'} error: ")
    assert (rule.fired == 1) == (page in LASTING)
    assert ec2.snapshot() == before


# What each reply has that describes an instance: its element, and the name of the SDK.
PARTS = {
    "instanceId": "InstanceId",
    "instanceState": "State",
    "instanceState/name": "Name",
    "tagSet/key": "Key",
    "networkInterfaceId": "NetworkInterfaceId",
    "networkInterfaceSet/groupId": "GroupId",
}
LACKING = [("status", part) for part in PARTS]
LACKING += [(action, "instanceState") for action in ("off", "on", "monitor", "validate-all", "list")]


@pytest.mark.parametrize("action,part", LACKING)
def test_a_reply_that_lacks_a_part_is_a_foreign_reply(agent, ec2, keep, action, part):
    before = ec2.snapshot()
    ec2.rules.add("DescribeInstances", Lacking(part), times=None)
    plug = None if action == "list" else ec2.world.nodes["node1"]
    result = agent.command(action, plug, **SHORT, **keep)
    assert result.code == 1
    said = result.out if action == "validate-all" else result.last
    assert f"HTTP 200 OK: the reply is not EC2's (text/xml, without {PARTS[part]})" in said
    assert len(result.lines) == 1
    assert ec2.snapshot() == before


def test_a_read_that_lacks_a_part_proves_no_isolation(agent, ec2, keep):
    node = ec2.world.nodes["node1"]
    ec2.rules.add("DescribeInstances", Lacking("networkInterfaceSet/groupId"), nth=3, times=None)
    result = agent.command("off", node, deadline=4, **keep)
    assert result.code == 1
    assert "without GroupId" in result.last
    assert is_isolated(ec2, node, keep)


def test_a_reply_that_lacks_the_id_of_a_group_is_a_foreign_reply(agent, ec2, keep):
    ec2.rules.add("DescribeSecurityGroups", Lacking("securityGroupInfo/groupId"), times=None)
    result = agent.command("monitor", **SHORT, **keep)
    assert result.code == 1
    assert "DescribeSecurityGroups: HTTP 200 OK: the reply is not EC2's (text/xml, without GroupId)" in result.last


@pytest.mark.parametrize("part,name", [("groupId", "GroupId"), ("vpcId", "VpcId")])
def test_a_reply_that_lacks_a_part_of_an_association_is_a_foreign_reply(agent, ec2, keep, part, name):
    group = ec2.edit.add_group("isolation-2", ec2.edit.add_vpc()["vpc"])
    ec2.edit.associate_group(group, ec2.world.vpc)
    agent.env["PYTHONPATH"] = os.environ["BOTO3_NEWEST"]
    ec2.rules.add("DescribeSecurityGroupVpcAssociations", Lacking(part), times=None)
    result = agent.command("validate-all", ec2.world.nodes["node1"], **SHORT, **{**keep, "secg": group})
    assert result.code == 1
    assert f"the reply is not EC2's (text/xml, without {name})" in result.out


def test_a_reply_that_lacks_an_ipv6_address_names_no_other_instance(agent, ec2, keep):
    ec2.edit.ipv6(ec2.world.interfaces["node1"][0], "fd00::1", "fd00::2")
    ec2.rules.add("DescribeInstances", Lacking("ipv6AddressesSet/ipv6Address"), times=None)
    assert agent.command("status", "fd00::2", **keep).code == 0
    assert "primary private IP fd00::1; check plug" in agent.command("status", "fd00::1", **keep).last


@pytest.mark.parametrize("which", ["oldest", "newest"])
def test_a_prefixed_refusal_is_a_reply_of_ec2(agent, ec2, keep, which):
    """As some clouds with this API write it."""
    body = (
        b'<e:Response xmlns:e="http://ec2.amazonaws.com/doc/2016-11-15/"><e:Errors><e:Error>'
        b"<e:Code>UnauthorizedOperation</e:Code><e:Message>Not you.</e:Message></e:Error></e:Errors></e:Response>"
    )
    use(agent, which)
    ec2.rules.add("DescribeInstances", Page(body, 403, content_type="text/xml"))
    result = agent.command("status", ec2.world.nodes["node1"], **keep)
    assert result.last.startswith("ERROR: permission error")
    assert "UnauthorizedOperation" in result.last


@pages("html", "xhtml", "407")
@pytest.mark.parametrize("which", ["oldest", "newest"])
def test_oldest_and_newest_boto3_behave_the_same(agent, ec2, keep, page, which):
    use(agent, which)
    ec2.rules.add("DescribeInstances", NOT_EC2[page], times=None)
    result = agent.command("list", **SHORT)
    assert (result.code, result.out) == (1, "")
    assert f"HTTP {NOT_EC2[page].status} " in result.last
    assert "the reply is not EC2's" in result.last


def test_a_foreign_reply_is_described_with_a_hint(agent, ec2, keep):
    node = ec2.world.nodes["node1"]
    ec2.rules.add("DescribeInstances", Page(status=403))
    assert agent.command("status", node, **keep).last == (
        f"ERROR: retrieval error: cannot read instance {node}: DescribeInstances: HTTP 403 Forbidden: "
        "the reply is not EC2's (text/html, 'Blocked'); check proxy and endpoint_url"
    )
    ec2.rules.add("DescribeInstances", Page(b"<title>" + b"A\n long " * 99 + b"</title>", 407))
    result = agent.command("status", node, **keep)
    assert "HTTP 407 Proxy Authentication Required: the reply is not EC2's (text/html, 'A long A long" in result.last
    assert result.last.endswith("; check the user and password in proxy")
    assert len(result.last) < 400


def test_monitor_rejects_a_page_instead_of_groups(agent, ec2, keep):
    ec2.rules.add("DescribeSecurityGroups", Page(status=403), times=None)
    result = agent.command("monitor", **keep)
    assert result.code == 1
    assert "DescribeSecurityGroups: HTTP 403 Forbidden: the reply is not EC2's" in result.last


@pages("html", "xhtml", "empty", "403", "503")
@pytest.mark.parametrize("effect", [False, True])
def test_a_change_answered_by_a_page_is_repeated(agent, ec2, keep, page, effect):
    """Accepted means by EC2: the change is sent again, though it may have been made."""
    node = ec2.world.nodes["node1"]
    first, _second = ec2.world.interfaces["node1"]
    fault = Page(NOT_EC2[page].body, NOT_EC2[page].status, NOT_EC2[page].content_type, effect)
    on_first = lambda call: call.params["NetworkInterfaceId"] == first  # noqa: E731
    ec2.rules.add("ModifyNetworkInterfaceAttribute", fault, when=on_first)
    result = agent.command("off", node, **keep)
    assert result.code == 0, result.err
    assert is_isolated(ec2, node, keep)
    assert len([c for c in ec2.calls_of("ModifyNetworkInterfaceAttribute") if on_first(c)]) == 2


@pages("xhtml", "403")
def test_a_change_answered_by_a_page_has_an_unknown_outcome(agent, ec2, keep, page):
    """So nothing is rolled back, although another interface is refused permanently."""
    node = ec2.world.nodes["node1"]
    first, second = ec2.world.interfaces["node1"]
    fault = Page(NOT_EC2[page].body, NOT_EC2[page].status, effect=True)
    ec2.rules.add(
        "ModifyNetworkInterfaceAttribute", fault, when=lambda c: c.params["NetworkInterfaceId"] == first, times=None
    )
    ec2.key.deny("ec2:ModifyNetworkInterfaceAttribute", second)
    result = agent.command("off", node, **keep)
    assert result.code == 1
    assert result.last.startswith("ERROR: partial error: ")
    assert "the outcome of a change is unknown" in result.last
    assert groups(ec2, node)[first] == [ec2.world.isolation]


@pages("xhtml", "403")
def test_a_change_answered_only_by_pages_fails(agent, ec2, keep, page):
    node = ec2.world.nodes["node1"]
    fault = Page(NOT_EC2[page].body, NOT_EC2[page].status, effect=True)
    ec2.rules.add("ModifyNetworkInterfaceAttribute", fault, times=None)
    result = agent.command("off", node, deadline=4, **keep)
    assert is_isolated(ec2, node, keep)
    assert result.code == 1
    assert result.last.startswith("ERROR: deadline error: ")
    assert f"ModifyNetworkInterfaceAttribute: HTTP {fault.status}" in result.last
    assert "the reply is not EC2's" in result.last
    assert "the outcome is unknown" in result.last


@pages("html", "xhtml", "403")
def test_nothing_is_isolated_without_an_accepted_backup(agent, ec2, keep, page):
    node = ec2.world.nodes["node1"]
    before = ec2.snapshot()
    ec2.rules.add("CreateTags", NOT_EC2[page], times=None)
    result = agent.command("off", node, deadline=4, **keep)
    assert result.code == 1
    assert f"CreateTags: HTTP {NOT_EC2[page].status}" in result.last
    assert ec2.snapshot() == before


@pages("html", "xhtml", "403")
def test_a_deletion_answered_by_a_page_is_not_reported(agent, ec2, keep, page):
    node = ec2.world.nodes["node1"]
    assert agent.command("off", node, **keep).code == 0
    rule = ec2.rules.add("DeleteTags", NOT_EC2[page], times=None)
    result = agent.command("on", node, verbose=True, deadline=4, **keep)
    assert result.code == 0
    assert not any("backup deleted" in line for line in result.lines)
    (line,) = [line for line in result.lines if "its backup tags were not deleted" in line]
    assert f"DeleteTags: HTTP {NOT_EC2[page].status}" in line
    assert "the outcome is unknown" in line
    assert our_tags(ec2, node)
    ec2.rules.remove(rule)
    assert agent.command("on", node, **keep).code == 0
    assert our_tags(ec2, node) == {}


@pages("xhtml", "403")
def test_a_page_is_no_success_of_a_stop_or_start(agent, ec2, keep, page):
    node = ec2.world.nodes["node1"]
    ec2.rules.add("StopInstances", NOT_EC2[page], times=None)
    ec2.rules.add("StartInstances", NOT_EC2[page], times=None)
    result = agent.command("off", node, onfence_poweroff=True, deadline=6, verbose=True, **keep)
    assert result.code == 0
    assert not any("stop requested" in line for line in result.lines)
    (line,) = [line for line in result.lines if "was not stopped" in line]
    assert f"StopInstances: HTTP {NOT_EC2[page].status}" in line
    ec2.edit.set_state(node, "stopped")
    result = agent.command("on", node, unfence_poweron=True, deadline=4, **keep)
    assert result.code == 1
    assert f"StartInstances: HTTP {NOT_EC2[page].status}" in result.last
    assert ec2.snapshot()[node]["state"] == "stopped"


@pages("html", "xhtml", "403")
@pytest.mark.parametrize("action", ["CreateTags", "DeleteTags", "ModifyNetworkInterfaceAttribute", "StopInstances"])
def test_a_page_is_no_passed_dry_run(agent, ec2, keep, action, page):
    ec2.rules.add(action, NOT_EC2[page], times=None)
    result = agent.command("validate-all", ec2.world.nodes["node1"], onfence_poweroff=True, deadline=4, **keep)
    # A failed stop is a warning of off too, and a failed deletion one of on.
    level, code = ("warn", 0) if action in ("StopInstances", "DeleteTags") else ("FAIL", 1)
    assert result.code == code
    (line,) = [line for line in result.out.splitlines() if f" permission ec2:{action}: " in line]
    assert line.startswith(level)
    assert f"{action}: HTTP {NOT_EC2[page].status}" in line
    assert "the reply is not EC2's" in line


@pytest.fixture
def sts(agent, ec2):
    """The agent with the credentials of a role."""
    (agent.folder / ".aws").mkdir()
    role = f"[profile r]\nrole_arn=arn:aws:iam::{ec2.account}:role/r\nsource_profile=base\n[profile base]\n"
    keys = f"aws_access_key_id={ec2.key.access_key}\naws_secret_access_key={ec2.key.secret_key}\n"
    (agent.folder / ".aws" / "config").write_text(role + keys, encoding="ascii")
    agent.options.update(access_key=None, secret_key=None, profile="r")
    agent.env["PYTHONPATH"] = os.environ["BOTO3_NEWEST"]
    agent.env["AWS_ENDPOINT_URL_STS"] = ec2.endpoint
    return agent


@pages("html", "xhtml", "403")
def test_a_page_instead_of_sts_is_reported(sts, ec2, keep, page):
    ec2.rules.add("AssumeRole", NOT_EC2[page], times=None)
    result = sts.command("status", ec2.world.nodes["node1"], **SHORT, **keep)
    assert result.code == 1
    assert f"no credentials: AssumeRole: HTTP {NOT_EC2[page].status}" in result.last
    assert "the reply is not STS's" in result.last


@pytest.mark.parametrize("part", ["AccessKeyId", "SessionToken", "Expiration"])
def test_a_reply_of_sts_that_lacks_a_part_is_reported(sts, ec2, keep, part):
    ec2.rules.add("AssumeRole", Lacking(part), times=None)
    result = sts.command("status", ec2.world.nodes["node1"], **SHORT, **keep)
    assert result.code == 1
    said = f"no credentials: AssumeRole: HTTP 200 OK: the reply is not STS's (text/xml, without {part})"
    assert said in result.last
