"""Nothing in its environment blocks the agent or gets a secret from it."""

import fcntl
import os
import signal
import subprocess
import time
from contextlib import contextmanager

import pytest
from assertions import is_isolated
from ec2.faults import Stall, Throttle

LIMIT = 20  # seconds after which it hangs
RETURNS = {"onfence_poweroff": True, "auto_unfence": True}
SET_PIPE_SIZE = 1031  # F_SETPIPE_SZ, whose name Python 3.9 lacks
SOON = 10.0  # seconds on a busy machine; far below the deadlines of 12 s and 45 s


def as_stdin(agent, action, plug, **options):
    given = {"action": action, "plug": plug, **agent.options, **options}
    return "".join(f"{k}={'1' if v is True else v}\n" for k, v in given.items() if v is not None)


@contextmanager
def full_pipe():
    """The writing end of a pipe that is full and never read."""
    reading, writing = os.pipe()
    try:
        fill(writing)
        yield writing
    finally:
        os.close(reading)
        os.close(writing)


def fill(pipe):
    os.set_blocking(pipe, False)
    for size in (4096, 1):
        try:
            while True:
                os.write(pipe, b"x" * size)
        except BlockingIOError:
            pass
    os.set_blocking(pipe, True)


def start(agent, text, stderr, stdout=subprocess.DEVNULL):
    """The agent, running, with output that may never be read."""
    running = agent.start(stdin=subprocess.PIPE, stdout=stdout, stderr=stderr)
    running.stdin.write(text)
    running.stdin.close()
    return running


def ends(running, began):
    """The exit code, and the seconds until then."""
    try:
        return running.wait(LIMIT), time.monotonic() - began
    finally:
        running.kill()


def test_unread_stderr_does_not_block(agent, node, keep):
    """Refused before the deadline is known: the limit for reading the options holds."""
    wrong = [{"secg": "sg-x"}, {"secg": ",,"}, {"delay": "x"}, {"no_such_option": "1", "secg": None}]
    began = time.monotonic()
    with full_pipe() as stderr:
        texts = [as_stdin(agent, "status", node, **{**keep, **options}) for options in wrong]
        running = [start(agent, text, stderr) for text in [*texts, "action=explode\n", ""]]
        ended = [ends(process, began) for process in running]
    assert {code for code, _ in ended} == {1}
    assert max(seconds for _, seconds in ended) < 14


def test_a_delayed_read_with_unread_stderr_ends(agent, ec2, node, keep):
    """The delay is for off only, and does not move the end of others."""
    ec2.rules.add("DescribeInstances", Stall(), times=None)
    began = time.monotonic()
    with full_pipe() as stderr:
        code, seconds = ends(
            start(agent, as_stdin(agent, "status", node, deadline=3, delay=15, **keep), stderr), began
        )
    assert code == 1
    assert seconds < SOON


@pytest.mark.parametrize("more", [{}, {"verbose_level": 3}], ids=["warnings", "debug"])
def test_off_with_unread_stderr_succeeds(agent, ec2, node, mode, more):
    """The warning before the isolation, and all else, is written by a thread that is not waited for."""
    began = time.monotonic()
    with full_pipe() as stderr:
        code, seconds = ends(start(agent, as_stdin(agent, "off", node, **mode, **more), stderr), began)
    assert code == 0
    assert is_isolated(ec2, node, mode)
    assert seconds < SOON


@pytest.mark.parametrize(
    ("action", "code", "unbuffered"),
    [("status", 0, ""), ("status", 0, "1"), ("status", 2, ""), ("monitor", 0, ""), ("off", 0, ""), ("off", 0, "1"),
     ("on", 0, "")],
)  # fmt: skip
def test_an_unread_answer_does_not_change_the_exit_code(agent, ec2, node, keep, action, code, unbuffered):
    if code == 2:
        assert agent.command("off", node, **keep).code == 0
    agent.env["PYTHONUNBUFFERED"] = unbuffered
    began = time.monotonic()
    with full_pipe() as pipe:
        code_now, seconds = ends(start(agent, as_stdin(agent, action, node, **keep), pipe, pipe), began)
    assert code_now == code
    assert is_isolated(ec2, node, keep) == (action == "off" or code == 2)
    assert seconds < SOON


def test_an_unread_list_fails_by_the_deadline(agent, ec2):
    """It is the answer, and was not given."""
    began = time.monotonic()
    with full_pipe() as pipe:
        code, seconds = ends(start(agent, as_stdin(agent, "list", None, deadline=2), subprocess.PIPE, pipe), began)
    assert code == 1
    assert seconds < 4.5


@pytest.mark.parametrize("option", ["debug_file", "boto3_debug"])
def test_an_unread_pipe_as_log_does_not_block_off(agent, ec2, node, keep, tmp_path, option):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    agent.env["FENCE_AWS_VPC_NET_BOTO3_LOG"] = str(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(path, os.O_WRONLY)
    try:
        fill(writer)
        result = agent.command("off", node, **keep, **{option: path if option == "debug_file" else "1"})
    finally:
        os.close(reader)
        os.close(writer)
    assert result.code == 0, result.err
    assert is_isolated(ec2, node, keep)
    assert result.seconds < SOON


@pytest.mark.parametrize("slow", [False, True], ids=["at once", "slowly"])
def test_a_slow_reader_gets_whole_lines_and_the_last_one(agent, ec2, node, keep, slow):
    """As much as the pipe holds and the reader takes; never a half of a line before others."""
    ec2.key.deny("ec2:ModifyNetworkInterfaceAttribute")
    reading, writing = os.pipe()
    fcntl.fcntl(reading, SET_PIPE_SIZE, 4096)
    running = start(agent, as_stdin(agent, "off", node, verbose_level=3, **keep), writing)
    os.close(writing)
    with os.fdopen(reading, "rb", buffering=0) as pipe:
        text = b"".join(iter(lambda: slowly(pipe, 0.002 * slow), b"")).decode()
    code, _ = ends(running, time.monotonic())
    assert code == 1
    lines = text.splitlines()
    assert [line for line in lines if not line.startswith("20")] == []
    assert text.endswith("; no group was changed\n")
    assert len(lines) > 8


def slowly(pipe, pause):
    time.sleep(pause)
    return pipe.read(64 if pause else 65536)


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_second_ctrl_c_shows_no_traceback(agent, ec2, node, keep, moment):
    """While a call hangs. The second one comes while the agent is about to end, as stderr is not read."""
    ec2.rules.add("DescribeInstances", Stall(), times=None)
    agent.env["PYTHONPATH"] = str(agent.folder)
    foreground = "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"  # the tests may not be
    (agent.folder / "sitecustomize.py").write_text(foreground, encoding="ascii")
    with full_pipe() as full:
        stderr = full if moment == "after" else subprocess.PIPE
        running = start(agent, as_stdin(agent, "status", node, **keep), stderr)
        until(lambda: ec2.calls)
        running.send_signal(2)
        running.send_signal(2)
        if moment == "after":
            time.sleep(0.1)
            running.send_signal(2)
        code, _ = ends(running, time.monotonic())
    assert code == 1
    if moment == "before":
        text = running.stderr.read()
        assert len(text.splitlines()) == 1
        assert "interrupted" in text


@pytest.mark.parametrize(
    ("action", "more", "advice"),
    [
        *((action, {}, "nothing was changed") for action in ("status", "list", "monitor", "validate-all")),
        *((action, {}, "repeat off to complete it, or run on to undo it") for action in ("off", "reboot")),
        ("on", {}, "repeat on to complete it, or run off to isolate the instance again"),
        ("monitor", RETURNS, "the next monitor completes what auto_unfence has begun"),
    ],
)
def test_an_interrupt_tells_whether_something_may_have_been_changed(agent, ec2, node, keep, action, more, advice):
    ec2.rules.add("DescribeInstances", Stall(), times=None)
    plug = node if action in ("status", "validate-all", "off", "reboot", "on") else None
    running = agent.start(*agent.arguments(action, plug, **more, **keep))
    until(lambda: ec2.calls)
    running.send_signal(signal.SIGTERM)
    _, err = running.communicate(timeout=LIMIT)
    assert running.returncode == 1
    assert err.endswith(f"interrupted; {advice}\n")


def test_an_interrupt_during_the_delay_is_told_like_any_other(agent, ec2, node, keep):
    running = agent.start(*agent.arguments("off", node, delay=10, verbose=True, **keep), stdin=subprocess.PIPE)
    said = running.stderr.readline()
    assert "Delay 1" in said
    running.send_signal(signal.SIGTERM)
    _, err = running.communicate(timeout=LIMIT)
    assert running.returncode == 1
    lines = [line.split(" ", 2)[2] for line in err.splitlines()]
    assert lines[0].startswith("INFO: summary action=off ")
    assert lines[1:] == ["ERROR: interrupted; nothing was changed"]
    assert ec2.calls == []


def until(condition):
    ends = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.01)


@pytest.mark.parametrize("read", [False, True], ids=["closed", "open"])
def test_a_pipe_as_debug_file_does_not_block(agent, ec2, node, keep, tmp_path, read):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK) if read else None
    try:
        result = agent.command("off", node, debug_file=path, **keep)
    finally:
        if reader is not None:
            os.close(reader)
    assert result.code == 0
    assert read or "cannot write the debug file" in result.err
    assert is_isolated(ec2, node, keep)
    assert result.seconds < SOON


@pytest.mark.parametrize(
    "line",
    ["secret-access-key=HIDE-ME", "secret_access_key=HIDE-ME", "secretkey=HIDE-ME", "secret_ky=HIDE-ME",
     "passwd=HIDE-ME", "password=HIDE-ME", "session-token=HIDE-ME", "aws_session_token=HIDE-ME",
     "aws-secret=HIDE ME HIDE-ME", "secret-access-key = HIDE-ME", "sekret=HIDE-ME"],
)  # fmt: skip
def test_the_value_of_an_unknown_option_is_not_shown(agent, node, keep, line, tmp_path):
    debug = tmp_path / "debug"
    text = as_stdin(agent, "status", node, verbose_level=3, debug_file=debug, **keep)
    result = agent.stdin(f"{text}{line}\n")
    assert result.code == 0, result.err
    assert any("Ignoring unknown option" in said for said in result.lines)
    assert "HIDE" not in result.err + result.out + debug.read_text(encoding="utf-8")


def test_a_throttled_stop_does_not_block_the_next_node(agent, ec2, node, keep):
    other = ec2.world.nodes["node2"]
    ec2.rules.add("StopInstances", Throttle(), times=None)
    result = agent.command("off", f"{node},{other}", onfence_poweroff=True, deadline=6, **keep)
    assert result.code == 0
    assert sum("is isolated but was not stopped" in line for line in result.lines) == 2
    assert is_isolated(ec2, node, keep)
    assert is_isolated(ec2, other, keep)
    assert result.seconds < 8
