"""metrics_file: what operations did, for Prometheus; and nothing about it disturbs fencing."""

import fcntl
import os
import resource
import stat
import subprocess
import time

import pytest
from assertions import is_isolated
from ec2 import Error, Throttle
from prometheus_client.parser import text_string_to_metric_families

MARK = "# Written by fence_aws_vpc_net"


@pytest.fixture
def path(agent, tmp_path):
    folder = tmp_path / "textfile"
    folder.mkdir()
    agent.options["metrics_file"] = folder / "fence.prom"
    return folder / "fence.prom"


def values(path):
    """As Prometheus reads it."""
    return {
        (sample.name.replace("fence_aws_vpc_net_", ""), *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(path.read_text(encoding="ascii"))
        for sample in family.samples
    }


def fences(agent, ec2, node, keep, **options):
    """An off that succeeds in spite of this; returns its warnings about the metrics."""
    result = agent.pacemaker("off", node, **{**keep, **options})
    assert result.code == 0, result.err
    assert is_isolated(ec2, node, keep)
    assert result.seconds < 15
    return [line for line in result.lines if "metrics_file" in line]


def test_operations_add_up(agent, ec2, keep, path, node, umask):
    umask(0o077)
    ec2.rules.add("CreateTags", Throttle())
    for action, code in (("monitor", 0), ("off", 0), ("status", 2), ("on", 0), ("status", 0)):
        assert agent.command(action, None if action == "monitor" else node, **keep).code == code
    assert agent.command("off", "i-0000000000000dead", **keep).code == 1
    found = values(path)
    expected = {
        ("operations_total", "off", "ok"): 1,
        ("operations_total", "off", "failed"): 1,
        ("operations_total", "on", "ok"): 1,
        ("operations_total", "status", "ok"): 1,
        ("operations_total", "status", "off"): 1,
        ("operations_total", "monitor", "ok"): 1,
        ("operation_failures_total", "off", "instance"): 1,
        ("security_group_changes_total", "ok"): 4,
        ("tag_operations_total", "write", "ok"): 2,
        ("tag_operations_total", "write", "failed"): 1,
        ("tag_operations_total", "delete", "ok"): 1,
        ("api_errors_total", "CreateTags", "RequestLimitExceeded"): 1,
        ("api_throttles_total",): 1,
        ("api_retries_total",): 1,
        ("tags_written_total",): 3 + 2,  # off also writes lastfence; on claims what it restores
        ("backup_chunks_total",): 2 + 2,
        ("last_operation_success", "off"): 0,
        ("last_operation_success", "on"): 1,
        ("last_operation_interfaces_changed", "on"): 2,
        ("api_calls_total", "DescribeInstances"): len(ec2.calls_of("DescribeInstances")),
    }
    assert found.items() >= expected.items()
    assert time.time() - found["last_operation_timestamp_seconds", "off"] < 60
    assert {key[1:] for key in found if key[0] == "node_last_operation_timestamp_seconds"} == {
        ("off", node, "ok"),
        ("on", node, "ok"),
        ("off", "i-0000000000000dead", "failed"),
    }
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert sorted(p.name for p in path.parent.iterdir()) == [".fence.prom.lock", "fence.prom"]


def test_metrics_name_the_instance_that_a_name_means(agent, ec2, keep, path, node):
    fences(agent, ec2, node, keep)
    assert agent.command("on", "node1", **keep).code == 0
    assert agent.command("off", 'no such "node"', **keep).code == 1
    found = {key[1:]: value for key, value in values(path).items() if key[0].startswith("node_last_operation")}
    assert set(found) == {
        ("off", node, "ok"),
        ("on", node, "ok"),
        ("on", "node1", "resolved"),
        ("off", "other", "failed"),
    }
    assert time.time() - min(found.values()) < 60


def test_a_failed_lookup_is_corrected_when_the_name_is_found(agent, ec2, keep, path, node):
    """Otherwise the failure would be the last that is known of the name."""
    ec2.rules.add("DescribeInstances", Error("UnauthorizedOperation"))
    assert agent.command("off", "node1", **keep).code == 1
    ec2.rules.clear()
    assert agent.command("off", "node1", **keep).code == 0
    found = {key[1:]: value for key, value in values(path).items() if key[0].startswith("node_last_operation")}
    assert set(found) == {("off", "node1", "failed"), ("off", "node1", "resolved"), ("off", node, "ok")}
    assert found["off", "node1", "failed"] < found["off", "node1", "resolved"]


def test_refused_self_fencing_is_counted_apart(agent, ec2, keep, path, node):
    agent.is_on(node)
    assert agent.command("off", node, **keep).code == 1
    found = values(path)
    assert found["operations_total", "off", "refused"] == 1
    assert found["operations_total", "off", "failed"] == 0
    assert ("node_last_operation_timestamp_seconds", "off", node, "refused") in found
    assert ("node_last_operation_timestamp_seconds", "off", node, "failed") not in found


WRONG = [{"settle_time": "5s"}, {"secg": "sg-typo"}, {"power_timeout": "soon"}]


@pytest.mark.parametrize("wrong", WRONG, ids=str)
@pytest.mark.parametrize("action", ["monitor", "off"])
def test_run_whose_options_are_refused_is_a_failure(agent, ec2, keep, path, node, action, wrong):
    result = agent.pacemaker(action, node, **{**keep, **wrong})
    assert result.code == 1
    assert "validation error" in result.last
    found = values(path)
    assert found["operations_total", action, "failed"] == 1
    assert found["operation_failures_total", action, "validation"] == 1
    assert time.time() - found["last_failure_timestamp_seconds", action] < 60
    reported = [key[1:] for key in found if key[0] == "node_last_operation_timestamp_seconds"]
    assert reported == ([("off", node, "failed")] if action == "off" else [])


def test_refused_options_where_nothing_can_be_counted(agent, keep, path):
    """The refusal stays the last line; what only checks options is no operation."""
    assert "settle-time=5s" in agent.command("monitor", **{**keep, "settle_time": "5s", "metrics_file": "here"}).last
    path.mkdir()
    assert "settle-time=5s" in agent.command("monitor", **{**keep, "settle_time": "5s"}).last
    path.rmdir()
    assert agent.command("validate-all", **{**keep, "settle_time": "5s"}).code == 1
    assert not path.exists()


def test_a_preflight_is_not_counted(agent, ec2, keep, path, node):
    """An optional permission that it lacks would raise the alert FencingNotPermitted."""
    ec2.key.deny("ec2:DescribeInstanceAttribute")
    result = agent.command("validate-all", node, onfence_poweroff=True, **keep)
    assert result.code == 0, result.out
    assert "allow ec2:DescribeInstanceAttribute" in result.out
    assert not path.exists()


def test_a_missing_permission_has_a_timestamp(agent, ec2, keep, path, node):
    ec2.rules.add("CreateTags", Error("UnauthorizedOperation"))
    assert agent.command("off", node, **keep).code == 1
    found = values(path)
    assert time.time() - found["last_api_error_timestamp_seconds", "CreateTags", "UnauthorizedOperation"] < 60


def test_no_run_is_lost_where_many_write_at_once(agent, ec2, keep, path):
    """Each waits a second for its turn. If that is too short on a busy machine, it says so, and all are repeated."""
    counted, warned = 0, [""]
    for _ in range(3):
        if warned:
            running = [agent.start(*agent.arguments("monitor", **keep)) for _ in range(5)]
            said = [process.communicate(timeout=40)[1] for process in running]
            assert [process.returncode for process in running] == [0] * 5, said
            warned = [text for text in said if text]
            assert all("another run holds its lock" in text for text in warned), warned
            counted += 5 - len(warned)
    assert not warned
    assert sum(v for k, v in values(path).items() if k[:2] == ("operations_total", "monitor")) == counted


def test_a_held_lock_does_not_block(agent, ec2, keep, path, node):
    with (path.parent / ".fence.prom.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        (warning,) = fences(agent, ec2, node, keep)
    assert "was not updated" in warning
    assert not path.exists()


def foreign(path):
    path.write_text("root:x:0:0:root:/root:/bin/bash\n", encoding="ascii")


def huge(path):
    path.write_text(f"{MARK}, whose counters add up over runs. Delete it to begin anew.\n", encoding="ascii")
    os.truncate(path, 1 << 34)


def link(path):
    (path.parent / "target").write_text("precious", encoding="ascii")
    path.symlink_to("target")


def locked(path):
    (path.parent / ".fence.prom.lock").symlink_to(path.parent / "elsewhere")


def no_folder(path):
    path.parent.rmdir()


IN_THE_WAY = [foreign, huge, link, locked, no_folder, os.mkfifo, lambda path: path.mkdir()]
NAMES = ["foreign", "huge", "link", "locked", "no folder", "pipe", "folder"]


@pytest.mark.parametrize("make", IN_THE_WAY, ids=NAMES)
def test_an_obstacle_is_a_warning_and_is_not_changed(agent, ec2, keep, path, node, make):
    make(path)
    before = os.lstat(path) if os.path.lexists(path) else None
    (warning,) = fences(agent, ec2, node, keep)
    assert warning.startswith("WARNING: metrics_file ")
    assert "was not updated: " in warning
    after = os.lstat(path) if os.path.lexists(path) else None
    assert (before and (before.st_ino, before.st_size, before.st_mtime)) == (
        after and (after.st_ino, after.st_size, after.st_mtime)
    )


def test_links_to_its_files_are_not_followed(agent, ec2, keep, path, node):
    """A link in place of the temporary file is removed; another name of the metrics' file keeps what it had."""
    target, other = path.parent / "target", path.parent / "other"
    agent.command("monitor", **keep)
    target.write_text("precious", encoding="ascii")
    os.link(path, other)
    before = other.read_bytes()
    (path.parent / ".fence.prom.tmp").symlink_to(target)
    assert fences(agent, ec2, node, keep) == []
    assert (target.read_text(encoding="ascii"), other.read_bytes()) == ("precious", before)
    assert path.read_bytes() != before


def test_a_disk_that_is_full_leaves_the_old_file(agent, ec2, keep, path, node):
    agent.command("monitor", **keep)
    before = path.read_bytes()
    no_room = (resource.RLIMIT_FSIZE, (0, 0))
    command = [os.environ["AGENT"], *agent.arguments("off", node, **keep)]
    done = subprocess.run(
        command, capture_output=True, text=True, env=agent.env, timeout=30, check=False,
        preexec_fn=lambda: resource.setrlimit(*no_room),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "was not updated: File too large" in done.stderr
    assert path.read_bytes() == before
    assert sorted(p.name for p in path.parent.iterdir()) == [".fence.prom.lock", "fence.prom"]


def test_invalid_lines_are_dropped_alone(agent, ec2, keep, path, node):
    agent.command("monitor", **keep)
    with path.open("ab") as file:
        file.write(b'fence_aws_vpc_net_tags_written_total{x="\xff\n\0\0nonsense\n' + b"x" * 100000)
    (warning,) = fences(agent, ec2, node, keep)
    assert "had 3 invalid lines" in warning
    assert values(path)["operations_total", "monitor", "ok"] == 1
    assert values(path)["operations_total", "off", "ok"] == 1


@pytest.mark.parametrize("name", ["fence.prom", "textfile/", "."])
def test_a_path_that_is_not_absolute_is_a_warning(agent, ec2, keep, node, name):
    (warning,) = fences(agent, ec2, node, keep, metrics_file=name)
    assert "it is not the absolute path of a file" in warning


def test_a_name_that_node_exporter_ignores_is_a_warning(agent, ec2, keep, node, tmp_path):
    (warning,) = fences(agent, ec2, node, keep, metrics_file=tmp_path / "metrics")
    assert "does not end with .prom" in warning
    assert (tmp_path / "metrics").exists()


def test_a_file_of_a_killed_run_is_replaced(agent, ec2, keep, path):
    (path.parent / ".fence.prom.tmp").write_text("half", encoding="ascii")
    assert agent.command("monitor", **keep).code == 0
    assert sorted(p.name for p in path.parent.iterdir()) == [".fence.prom.lock", "fence.prom"]


def test_the_reason_for_a_missing_update_is_readable(agent, ec2, keep, tmp_path):
    node, path = ec2.world.nodes["node1"], tmp_path / "x.prom"
    path.symlink_to(tmp_path / "target")
    assert "it or its lock is a symbolic link" in agent.command("status", node, metrics_file=path, **keep).err
    path.unlink()
    with (tmp_path / ".x.prom.lock").open("w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "another run holds its lock" in agent.command("status", node, metrics_file=path, **keep).err


NO_THREAD_FOR_METRICS = """
import sys, threading
start = threading.Thread.start
def refuse(thread):
    if sys._getframe(2).f_globals["__name__"] == "aws_vpc_net.metrics":
        raise RuntimeError("can't start new thread")
    start(thread)
threading.Thread.start = refuse
"""


@pytest.mark.parametrize("secg,code", [("right", 0), ("wrong", 1)])
def test_without_a_thread_the_result_stays(agent, ec2, keep, path, node, tmp_path, secg, code):
    (tmp_path / "sitecustomize.py").write_text(NO_THREAD_FOR_METRICS, encoding="ascii")
    agent.env["PYTHONPATH"] = str(tmp_path)
    result = agent.command("monitor", **(keep if secg == "right" else {**keep, "secg": "sg-0000000000000dead"}))
    assert result.code == code, result.err
    assert "was not updated: can't start new thread" in result.err
    assert "out of memory or threads" not in result.err
