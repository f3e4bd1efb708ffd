"""The oldest and the newest boto3 that are supported: the same way there and back."""

import os

import pytest
from assertions import is_isolated


@pytest.mark.parametrize("which", ["BOTO3_OLDEST", "BOTO3_NEWEST"])
def test_off_status_on_list_monitor(agent, ec2, mode, which):
    folder = os.environ.get(which)
    if not folder:
        pytest.fail(f"{which} does not name a folder: run ./tests/check")
    agent.env["PYTHONPATH"] = folder
    node = ec2.world.nodes["node1"]
    before = ec2.snapshot()
    assert agent.command("monitor", **mode).code == 0
    off = agent.pacemaker("off", node, onfence_poweroff=1, **mode)
    assert off.code == 0, off.err
    assert is_isolated(ec2, node, mode)
    assert agent.command("status", node, **mode).code == 2
    assert node in agent.command("list").out
    ec2.edit.set_state(node, "running")
    assert agent.pacemaker("on", node, **mode).code == 0
    assert ec2.snapshot() == before


def test_an_incompatible_pyopenssl_is_never_loaded(agent, ec2, keep, tmp_path):
    """Older SDKs import it if it is installed, and then fail with a newer cryptography."""
    folder = tmp_path / "OpenSSL"
    folder.mkdir()
    (folder / "__init__.py").write_text("raise AttributeError('does not fit')\n", "ascii")
    agent.env["PYTHONPATH"] = str(tmp_path)
    assert agent.command("status", ec2.world.nodes["node1"], **keep).code == 0
