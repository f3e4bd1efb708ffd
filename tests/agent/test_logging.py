"""Logs: each line once, where it belongs, without secrets."""

import os
import re
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
from assertions import is_isolated
from ec2 import Error
from ec2.faults import Fault


def off(agent, ec2, keep, **options):
    return agent.command("off", ec2.world.nodes["node1"], **{**keep, **options})


def test_stderr_has_warnings_and_errors_only(agent, ec2, keep):
    assert [line.split(":")[0] for line in off(agent, ec2, keep).lines] == ["WARNING"]


def test_verbose_adds_the_steps_and_one_summary(agent, ec2, keep):
    lines = off(agent, ec2, keep, verbose=True).lines
    assert len(lines) == len(set(lines))
    steps = [line for line in lines if line.startswith("INFO")]
    assert sum("groups set to" in s for s in steps) == 2
    assert sum("backup written" in s for s in steps) == 1
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


def test_quiet_writes_nothing_to_stderr(agent, ec2, keep):
    assert off(agent, ec2, keep, quiet=True).err == ""


def test_the_debug_file_works_and_is_private(agent, ec2, keep, tmp_path, umask):
    path = tmp_path / "debug"
    umask(0o022)
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


@pytest.mark.parametrize("more", [{}, {"verbose": True}, {"quiet": True}], ids=str)
def test_stderr_as_debug_file_shows_each_line_once(agent, ec2, keep, more):
    result = agent.command("off", "i-0000000000000dead", debug_file="/dev/stderr", **more, **keep)
    assert result.code == 1
    assert any("DEBUG: describe_instances" in line for line in result.lines)
    assert len([line for line in result.lines if line.startswith("INFO: summary")]) == 1
    assert len([line for line in result.lines if line.startswith("ERROR")]) == 1
    assert result.last.startswith("ERROR: instance error")


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


class Long(Fault):
    """Makes a reply as long as that of some thousand instances."""

    def after(self, call, reply):
        end = reply.body.rindex(b"</")
        reply.body = reply.body[:end] + b"<x><groupId>sg-0123456789abcdef0</groupId></x>" * 400_000 + reply.body[end:]


def test_a_long_list_with_the_debug_log_of_the_sdk_is_in_time(agent, ec2, keep, tmp_path):
    ec2.rules.add("DescribeInstances", Long())
    log = tmp_path / "boto3.log"
    agent.env["FENCE_AWS_VPC_NET_BOTO3_LOG"] = str(log)
    result = agent.command("list", boto3_debug="1")
    assert (result.code, result.err, len(result.out.splitlines())) == (0, "", 3)
    assert log.stat().st_size < 1 << 20
    assert "Response body: b'<?xml" in log.read_text(encoding="utf-8")


def test_an_unwritable_boto3_log_is_a_warning(agent, ec2, keep):
    agent.env["FENCE_AWS_VPC_NET_BOTO3_LOG"] = "/nowhere/boto3.log"
    result = off(agent, ec2, keep, boto3_debug="true")
    assert result.code == 0
    assert any("cannot write the SDK debug log" in line for line in result.lines)


def symbolic(path, target):
    path.symlink_to(target)


def hard(path, target):
    os.link(target, path)


def dangling(path, target):
    target.unlink()
    path.symlink_to(target)


@pytest.mark.parametrize("option", ["debug_file", "boto3_debug"])
@pytest.mark.parametrize("link", [symbolic, hard, dangling])
def test_a_log_that_is_a_link_is_refused_and_its_target_untouched(agent, ec2, keep, tmp_path, link, option):
    """With a warning: a missing log does not prevent fencing."""
    path, target = tmp_path / "log", tmp_path / "needed by others"
    target.write_text("theirs\n", encoding="ascii")
    target.chmod(0o644)
    link(path, target)
    agent.env["FENCE_AWS_VPC_NET_BOTO3_LOG"] = str(path)
    result = off(agent, ec2, keep, **{option: path if option == "debug_file" else "1"})
    assert result.code == 0, result.err
    assert is_isolated(ec2, ec2.world.nodes["node1"], keep)
    warned = [line for line in result.lines if f" {path}: it is a " in line and "link" in line]
    assert [line.split(":")[0] for line in warned] == ["WARNING"]
    if link is dangling:
        assert not target.exists()
    else:
        assert target.read_text(encoding="ascii") == "theirs\n"
        assert stat.S_IMODE(target.stat().st_mode) == 0o644


@pytest.mark.parametrize("path", ["/nowhere/x", "/", "/dev/full"])
@pytest.mark.parametrize(("action", "code"), [("off", 0), ("status", 0), ("monitor", 0), ("validate-all", 1)])
def test_only_validate_all_fails_without_its_debug_file(agent, ec2, keep, path, action, code):
    result = agent.command(action, ec2.world.nodes["node1"], debug_file=path, **keep)
    opened = path == "/dev/full"  # and every line is lost
    assert result.code == (0 if opened else code), result.err
    assert opened or sum("cannot write" in line for line in result.lines) == 1


FORGED = "x\r\n2026-01-01 00:00:00,000 ERROR: forged\x1b[31m\x9b\u2028\u202e"


@pytest.mark.parametrize("where", ["tag", "error"])
def test_a_text_of_ec2_cannot_forge_a_log_line(agent, ec2, keep, syslog, tmp_path, where):
    """On stderr, in syslog, in the debug file and in the SDK's; names in lists included."""
    debug, sdk = tmp_path / "debug", tmp_path / "boto3.log"
    agent.env["FENCE_AWS_VPC_NET_BOTO3_LOG"] = str(sdk)
    node = ec2.world.nodes["node1"]
    ec2.edit.put_tags(node, {"Name": FORGED.replace("\x1b", "").replace("\x9b", "")})
    if where == "error":
        ec2.rules.add("CreateTags", Error("Weird", FORGED.replace("\x1b", "\x85").replace("\x9b", "")))
    given = {**keep, "verbose_level": 3, "debug_file": debug, "boto3_debug": "1"}
    texts = [(r.err, r.out) for r in (agent.pacemaker("off", node, **given), agent.pacemaker("list", **given))]
    lines = [line for pair in texts for text in pair for line in text.split("\n") if line]
    lines += [line for path in (debug, sdk) for line in path.read_text("utf-8").split("\n") if line]
    lines += [line for line in syslog.read_text("utf-8").split("\0") if line]
    assert sum("forged" in line for line in lines) > 3
    assert [line for line in lines if line.startswith(("2026-01-01", "ERROR: forged"))] == []
    assert [line for line in lines if not line.isprintable()] == []


def test_the_debug_log_of_the_sdk_is_rotated_and_stays_private(agent, ec2, keep, tmp_path):
    """By the installed file for logrotate, with its folder replaced."""
    logrotate = shutil.which("logrotate", path="/usr/sbin:/sbin:/usr/bin:/bin")
    installed = Path(os.environ["AGENT"]).parents[1] / "etc" / "logrotate.d" / "fence_aws_vpc_net"
    text = installed.read_text(encoding="ascii")
    assert text.count("/var/log/fence_aws_vpc_boto3.log {") == 1
    log, conf = tmp_path / "fence_aws_vpc_boto3.log", tmp_path / "conf"
    conf.write_text(text.replace("/var/log/", f"{tmp_path}/"), encoding="ascii")
    conf.chmod(0o644)
    agent.env["FENCE_AWS_VPC_NET_BOTO3_LOG"] = str(log)
    for _ in range(2):
        assert agent.command("monitor", boto3_debug="1", **keep).code == 0
        command = [logrotate, "--force", "--state", tmp_path / "state", conf]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        assert not log.exists()
    kept = sorted(path for path in tmp_path.iterdir() if path.name.startswith(log.name))
    assert [path.suffix for path in kept] == [".1", ".gz"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in kept} == {0o600}


@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_the_debug_file_may_be_a_standard_stream(agent, ec2, keep, name):
    result = off(agent, ec2, keep, debug_file=f"/dev/{name}")
    assert result.code == 0
    assert "DEBUG: " in (result.out if name == "stdout" else result.err)
    assert "cannot write" not in result.err


@pytest.mark.parametrize("link", [True, False])
def test_under_another_name_no_warning_is_lost(agent, tmp_path, monkeypatch, link):
    other = tmp_path / "fence_copy"
    if link:
        other.symlink_to(os.environ["AGENT"])
    else:
        shutil.copy(os.environ["AGENT"], other)
    monkeypatch.setenv("AGENT", str(other))
    monkeypatch.setenv("AGENT_RUNNER", "env")  # an ordinary process: fork servers have the agent under its own name
    result = agent.stdin("action=validate-all\nsecg=sg-0123456789abcdef0\nno_such=1\n")
    assert any(line.startswith("WARNING: Ignoring unknown option in line 3") for line in result.lines)
