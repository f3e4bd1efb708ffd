"""Logs: each line once, where it belongs, without secrets."""

import os
import re
import stat

import pytest


def off(agent, ec2, keep, **options):
    return agent.command("off", ec2.world.nodes["node1"], **{**keep, **options})


def test_stderr_has_warnings_and_errors_only(agent, ec2, keep):
    assert [line.split(":")[0] for line in off(agent, ec2, keep).lines] == ["WARNING"]


def test_verbose_adds_the_steps_and_one_summary(agent, ec2, keep):
    lines = off(agent, ec2, keep, verbose=True).lines
    assert len(lines) == len(set(lines))
    steps = [line for line in lines if line.startswith("INFO")]
    assert sum("groups set to" in s for s in steps) == 2
    assert sum("tags written" in s for s in steps) == 1
    summary = [s for s in steps if "summary" in s]
    assert len(summary) == 1
    fields = dict(f.split("=") for f in summary[0].split()[2:])
    node = ec2.world.nodes["node1"]
    expected = {"action": "off", "plug": node, "result": "ok", "api_calls": "6", "retries": "0", "throttles": "0"}
    assert fields.items() >= expected.items()
    assert (fields["interfaces_changed"], fields["tags_written"], fields["chunks"]) == ("2", "3", "2")
    assert fields["version"] == "0.1.0"
    assert float(fields["seconds"]) > 0


def test_a_parse_warning_does_not_double_the_lines(agent, ec2, keep):
    text = "".join(f"{k}={v}\n" for k, v in {**agent.options, **keep, "invert_sg_removal": 1}.items())
    result = agent.stdin(f"action=off\nplug=i-0000000000000dead\nno_such_option=1\n{text}")
    assert len(result.lines) == len(set(result.lines))
    assert any("Ignoring unknown option" in line for line in result.lines)


def test_a_failure_has_its_error_last(agent, ec2, keep):
    result = agent.command("off", "i-0000000000000dead", verbose=True, **keep)
    assert "result=failed" in result.lines[-2]
    assert result.last.startswith("ERROR: instance error")


def test_quiet_says_nothing_on_stderr(agent, ec2, keep):
    assert off(agent, ec2, keep, quiet=True).err == ""


def test_the_debug_file_works_and_is_private(agent, ec2, keep, tmp_path):
    path = tmp_path / "debug"
    os.umask(0o022)
    path.write_text("older\n", encoding="ascii")
    path.chmod(0o644)
    off(agent, ec2, keep, debug_file=path)
    text = path.read_text(encoding="utf-8")
    assert text.startswith("older\n")
    assert "DEBUG: describe_instances" in text
    assert "INFO: summary" in text
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    stamped = [line for line in text.splitlines()[1:] if not re.match(r"\d{4}-\d\d-\d\d ", line)]
    assert stamped == []


def test_debug_on_stderr_too(agent, ec2, keep):
    result = agent.raw(*agent.arguments("off", ec2.world.nodes["node1"], **keep), "-vv")
    assert any("DEBUG: create_tags" in line for line in result.lines)


@pytest.mark.parametrize("verbosity", [[], ["-v"], ["-vvv"]])
def test_no_secret_reaches_a_log(agent, ec2, keep, tmp_path, verbosity):
    """Static keys with the SDK's debug log on; then a session token from the environment."""
    sdk, debug = tmp_path / "boto3.log", tmp_path / "debug"
    agent.env["FENCE_AWS_VPC_NET_BOTO3_LOG"] = str(sdk)
    arguments = agent.arguments("off", ec2.world.nodes["node1"], boto3_debug="1", debug_file=debug, **keep)
    result = agent.raw(*arguments, *verbosity)
    assert result.code == 0

    import ec2 as double

    token = "FwoGZXIvYXdzEXAMPLETOKEN/with+all=kinds=="
    key = ec2.keys.add(double.AccessKey("ASIATEMPORARY0000001", "temporary/secret+key000000000000000000000", token))
    agent.env.update(AWS_ACCESS_KEY_ID=key.access_key, AWS_SECRET_ACCESS_KEY=key.secret_key, AWS_SESSION_TOKEN=token)
    options = {**keep, "access_key": None, "secret_key": None, "boto3_debug": "true", "debug_file": debug}
    second = agent.raw(*agent.arguments("on", ec2.world.nodes["node1"], **options), *verbosity)
    assert second.code == 0, second.err

    text = result.err + second.err + sdk.read_text(encoding="utf-8") + debug.read_text(encoding="utf-8")
    assert stat.S_IMODE(sdk.stat().st_mode) == 0o600
    for secret in (ec2.key.secret_key, key.secret_key, token):
        assert secret not in text
    assert "Signature" in text, "the SDK logs them"
    assert not re.search(r"[Ss]ignature['\"]?[=:\s]+[0-9a-f]{16}", text)


def test_a_boto3_log_that_cannot_be_written_disturbs_nothing(agent, ec2, keep):
    agent.env["FENCE_AWS_VPC_NET_BOTO3_LOG"] = "/nowhere/boto3.log"
    result = off(agent, ec2, keep, boto3_debug="true")
    assert result.code == 0
    assert any("no SDK debug log" in line for line in result.lines)


def test_a_name_cannot_forge_a_line(agent, ec2, keep):
    ec2.edit.put_tags(ec2.world.nodes["node1"], {"Name": "x\n2026-01-01 00:00:00,000 ERROR: forged"})
    result = agent.raw(*agent.arguments("list"), "-vv")
    assert all(not line.startswith("ERROR: forged") for line in result.lines)
