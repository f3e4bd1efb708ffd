"""EC2's own words are shown with every refusal, and the advice fits the reason."""

import pytest
from ec2.faults import Error

# How EC2's sentence ends, and what helps.
DENIED = "change the {} that denies it: no other policy can override it"
REASONS = [
    ("with an explicit deny in a service control policy", DENIED.format("service control policy")),
    ("with an explicit deny in a resource control policy", DENIED.format("resource control policy")),
    ("with an explicit deny in an identity-based policy", DENIED.format("identity-based policy")),
    ("with an explicit deny in a resource-based policy", DENIED.format("resource-based policy")),
    ("with an explicit deny in a permissions boundary", DENIED.format("permissions boundary")),
    ("with an explicit deny in a session policy", DENIED.format("session policy")),
    ("with an explicit deny in a VPC endpoint policy", DENIED.format("VPC endpoint policy")),
    ("with an explicit deny", DENIED.format("policy")),
    (
        "with an explicit deny in a service control policy: "
        "arn:aws:organizations::999999999999:policy/o-exampleorg/service_control_policy/p-examplepol",
        DENIED.format("service control policy"),
    ),
    ("because no identity-based policy allows the ec2:{} action", "allow ec2:{}"),
    ("because no permissions boundary allows the ec2:{} action", "allow ec2:{} in the permissions boundary"),
    ("because no session policy allows the ec2:{} action", "allow ec2:{} in the session policy"),
    ("because no service control policy allows the ec2:{} action", "allow ec2:{} in the service control policy"),
    ("because no VPC endpoint policy allows the ec2:{} action", "allow ec2:{} in the VPC endpoint policy"),
]


def proves_a_refusal(text, action, reason, advice):
    assert reason.format(action) in text
    assert f"; {advice.format(action)}" in text
    assert "is not authorized to perform: ec2:" + action in text
    assert ("allow ec2:" in text) == advice.startswith("allow")
    assert "ncoded" not in text
    assert len(text) < 800


@pytest.mark.parametrize("reason,advice", REASONS)
def test_off_shows_why_a_call_is_not_permitted(agent, ec2, keep, reason, advice):
    before = ec2.snapshot()
    ec2.key.deny("ec2:CreateTags", why=reason.format("CreateTags"))
    result = agent.command("off", ec2.world.nodes["node1"], **keep)
    assert result.code == 1
    hinted = [line for line in result.lines[:-1] if "has no tag cluster" in line]
    assert len(result.lines) == 1 + len(hinted)
    assert bool(hinted) == (advice == "allow ec2:{}"), "only where the caller's own policy lacks it"
    assert result.last.startswith("ERROR: permission error: cannot write the backup tags of")
    proves_a_refusal(result.last, "CreateTags", reason, advice)
    assert ec2.snapshot() == before


@pytest.mark.parametrize("action", ["CreateTags", "DeleteTags", "ModifyNetworkInterfaceAttribute", "StopInstances"])
def test_preflight_shows_why_a_call_is_not_permitted(agent, ec2, keep, action):
    reason, advice = REASONS[0]
    ec2.key.deny(f"ec2:{action}", why=reason)
    result = agent.command("validate-all", ec2.world.nodes["node1"], onfence_poweroff=True, **keep)
    # off succeeds where the stop fails, and on where the tags cannot be deleted.
    level, code = ("warn", 0) if action in ("StopInstances", "DeleteTags") else ("FAIL", 1)
    assert result.code == code
    (line,) = [line for line in result.out.splitlines() if f" permission ec2:{action}: " in line]
    assert line.startswith(level)
    proves_a_refusal(line, action, reason, advice)


def test_a_warning_shows_why_a_call_is_not_permitted(agent, ec2, keep):
    reason, advice = REASONS[0]
    ec2.key.deny("ec2:StopInstances", why=reason)
    result = agent.command("off", ec2.world.nodes["node1"], onfence_poweroff=True, **keep)
    assert result.code == 0
    (line,) = [line for line in result.lines if "was not stopped" in line]
    proves_a_refusal(line, "StopInstances", reason, advice)


def test_changes_that_are_denied_for_one_interface_are_rolled_back_with_the_reason(agent, ec2, mode):
    node = ec2.world.nodes["node1"]
    before = ec2.snapshot()
    second = ec2.world.interfaces["node1"][1]
    reason, advice = REASONS[0]
    ec2.key.deny("ec2:ModifyNetworkInterfaceAttribute", second, why=reason)
    result = agent.command("off", node, **mode)
    assert result.code == 1
    assert result.last.startswith("ERROR: permission error: ")
    proves_a_refusal(result.last, "ModifyNetworkInterfaceAttribute", reason, advice)
    assert "rolled back" in result.last
    assert ec2.snapshot()[node]["interfaces"] == before[node]["interfaces"]


def test_a_refusal_without_a_reason_names_the_action(agent, ec2, keep):
    ec2.rules.add(
        "CreateTags", Error("UnauthorizedOperation", "You are not authorized to perform this operation.", 403)
    )
    result = agent.command("off", ec2.world.nodes["node1"], **keep)
    assert (
        "(UnauthorizedOperation): You are not authorized to perform this operation.; allow ec2:CreateTags"
        in result.last
    )


@pytest.mark.parametrize(
    "code", ["UnauthorizedOperation", "AuthFailure", "TagPolicyViolation", "InvalidParameterValue"]
)
def test_a_text_of_ec2_is_one_short_line(agent, ec2, keep, code):
    said = "The first words.\n\tThe\u2028second " + "filling " * 1000 + "the last words."
    ec2.rules.add("CreateTags", Error(code, said))
    result = agent.command("off", ec2.world.nodes["node1"], **keep)
    assert result.code == 1
    assert [line for line in result.lines if "has no tag cluster" not in line] == [result.last]
    assert f"{code}" in result.last
    assert "The first words. The second filling" in result.last
    assert "filling the last words." in result.last
    assert len(result.last) < 700


# --- AuthFailure -----------------------------------------------------------------------------------------------


def test_preflight_blames_an_interface_that_a_service_made(agent, ec2, keep):
    second = ec2.world.interfaces["node1"][1]
    ec2.edit.requester_managed(second)
    result = agent.command("validate-all", ec2.world.nodes["node1"], **keep)
    assert result.code == 1
    (line,) = [line for line in result.out.splitlines() if line.startswith("FAIL")]
    assert line.startswith("FAIL permission ec2:ModifyNetworkInterfaceAttribute: ")
    assert f"cannot set the groups of {second} to" in line
    assert "AuthFailure: You do not have permission to access the specified resource." in line
    assert "an AWS service or another account owns it" in line
    assert "credentials" not in line


def test_on_blames_an_interface_that_a_service_made(agent, ec2, keep):
    node = ec2.world.nodes["node1"]
    assert agent.command("off", node, **keep).code == 0
    second = ec2.world.interfaces["node1"][1]
    ec2.edit.requester_managed(second)
    result = agent.command("on", node, **keep)
    assert result.code == 1
    assert result.last.startswith("ERROR: restore error: ")
    assert f"cannot set the groups of {second} to" in result.last
    assert "an AWS service or another account owns it" in result.last


def test_bad_credentials_are_distinguished_from_a_refusal(agent, ec2, keep):
    ec2.key.secret_key = "another"
    result = agent.command("off", ec2.world.nodes["node1"], **keep)
    assert result.last.startswith("ERROR: authentication error: ")
    assert "AWS was not able to validate the provided access credentials; check the credentials" in result.last


# --- the region ------------------------------------------------------------------------------------------------


def by_option(agent, region):
    agent.options["region"] = region


def by_environment(agent, region):
    agent.options["region"] = None
    agent.env["AWS_DEFAULT_REGION"] = region


def by_profile(agent, region):
    (agent.folder / ".aws").mkdir()
    (agent.folder / ".aws" / "config").write_text(f"[default]\nregion={region}\n", encoding="ascii")
    agent.options["region"] = None


SOURCES = [by_option, by_environment, by_profile]


@pytest.mark.parametrize("source", SOURCES)
def test_a_region_in_capitals_is_that_region(agent, ec2, keep, source):
    source(agent, ec2.region.upper())
    assert agent.command("off", ec2.world.nodes["node1"], **keep).code == 0
    assert {call.region for call in ec2.calls} == {ec2.region}


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("zone", ["a", "-ham-1a", "-wl1-ber-wlz-1"])
def test_a_zone_is_not_a_region(agent, ec2, keep, source, zone):
    source(agent, ec2.region + zone)
    result = agent.command("off", ec2.world.nodes["node1"], **keep)
    assert result.code == 1
    assert result.last == (
        f"ERROR: region error: {ec2.region}{zone} is an availability zone, not a region; set region={ec2.region}"
    )
    assert ec2.calls == []


def test_a_zone_is_reported_without_a_call(agent, ec2, keep):
    result = agent.command("validate-all", **{**keep, "region": ec2.region + "a"})
    assert result.code == 1
    assert "is an availability zone, not a region" in result.last


@pytest.mark.parametrize(
    "region", ["us-gov-west-1", "us-isob-east-1", "eusc-de-east-1", "cn-north-1", "RegionOne", "local"]
)
def test_regions_of_all_partitions_and_of_other_clouds_are_taken_as_they_are(agent, ec2, keep, region):
    result = agent.command("status", ec2.world.nodes["node1"], **{**keep, "region": region})
    assert {call.region for call in ec2.calls} == {region}
    assert "is an availability zone" not in result.last


def test_a_region_that_ec2_does_not_know_is_a_region_error(agent, ec2, keep):
    result = agent.command("status", ec2.world.nodes["node1"], **{**keep, "region": "eu-central-77"})
    assert result.code == 1
    assert result.last.startswith("ERROR: region error: ")
    assert "not 'eu-central-77'." in result.last
    assert "check region" in result.last
    assert "clock" not in result.last
