"""What surrounds the options: words in the wrong place, a broken environment, a plug that an action does not need."""

import os

import pytest

SECRET = "mIsPlAcEdSeCrEt"


@pytest.fixture
def node(ec2):
    return ec2.world.nodes["node1"]


@pytest.mark.parametrize("plug", ["node1", "nobody"])
@pytest.mark.parametrize(("action", "calls"), [("monitor", 2), ("list", 1)])
def test_an_action_that_needs_no_plug_looks_up_no_name(agent, ec2, keep, action, calls, plug):
    result = agent.command(action, plug, **keep)
    assert result.code == 0, result.err
    assert len(ec2.calls) == calls


def test_a_secret_in_the_wrong_place_of_the_command_line_is_not_shown(agent, node, keep):
    result = agent.raw(*agent.arguments("status", node, **keep), "-a", "AKIA", "-s", "=", SECRET)
    assert result.code == 1
    assert "unused arguments" in result.last
    assert SECRET not in result.err + result.out


def test_a_secret_without_its_equals_sign_on_stdin_is_not_shown(agent, node, keep):
    lines = [
        f"{k}={1 if v is True else v}" for k, v in {"action": "status", "plug": node, **agent.options, **keep}.items()
    ]
    result = agent.stdin("\n".join([*lines, f"secret_key {SECRET}", ""]))
    assert result.code == 0, result.err
    assert SECRET not in result.err + result.out


@pytest.mark.parametrize(
    "env",
    [{"AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://[fd00"}, {"AWS_SECRET_ACCESS_KEY": os.fsdecode(b"\xff\xfe123")}],
)
def test_a_broken_environment_is_no_internal_error(agent, node, keep, env):
    agent.env.update(env)
    result = agent.command("status", node, **keep)
    assert "internal error" not in result.err
    assert result.code == 0 or "error: " in result.last


def test_no_metrics_path_keeps_a_node_from_being_fenced(agent, node, keep, tmp_path):
    for path in (f"{tmp_path}/a\u00a0b.prom", "/" + "x" * 5000):
        result = agent.command("off", node, metrics_file=path, **keep)
        assert result.code == 0, result.err


def test_a_plug_forges_no_field_of_the_summary(agent, keep):
    result = agent.command(
        "monitor",
        "x result=ok",
        verbose=True,
        region="eu-nowhere-1",
        endpoint_url="http://127.0.0.1:9",
        deadline=2,
        **keep,
    )
    (summary,) = [line for line in result.lines if "summary" in line]
    assert summary.split().count("result=ok") == 0
    assert "result=failed" in summary


def test_a_line_for_us_is_a_line_for_the_library(agent, node, keep):
    text = "".join(
        f"{k}={1 if v is True else v}\n" for k, v in {"action": "off", "plug": node, **agent.options, **keep}.items()
    )
    result = agent.stdin(f"{text}onfence_poweroff=true\x0b#x\n")
    assert result.code == 1
    assert "onfence" in result.last
