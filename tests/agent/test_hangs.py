"""Nothing that the surroundings do holds it up, and nothing that they are told is a secret."""

import fcntl
import os
import subprocess
import time
from contextlib import contextmanager

import pytest
from ec2.faults import Stall, Throttle
from world_of import is_cut

LIMIT = 20  # seconds after which it hangs


@pytest.fixture
def node(ec2):
    return ec2.world.nodes["node1"]


def as_stdin(agent, action, plug, **options):
    given = {"action": action, "plug": plug, **agent.options, **options}
    return "".join(f"{k}={'1' if v is True else v}\n" for k, v in given.items() if v is not None)


@contextmanager
def full_pipe():
    """The writing end of a pipe that is full and that nobody reads."""
    reading, writing = os.pipe()
    try:
        fcntl.fcntl(writing, fcntl.F_SETFL, os.O_NONBLOCK)
        for size in (4096, 1):
            try:
                while True:
                    os.write(writing, b"x" * size)
            except BlockingIOError:
                pass
        fcntl.fcntl(writing, fcntl.F_SETFL, 0)
        yield writing
    finally:
        os.close(reading)
        os.close(writing)


def start(agent, text, stderr):
    """The agent, running, with stderr that may never be read."""
    null, pipe = subprocess.DEVNULL, subprocess.PIPE
    running = subprocess.Popen([os.environ["AGENT"]], stdin=pipe, stdout=null, stderr=stderr, env=agent.env)
    running.stdin.write(text.encode())
    running.stdin.close()
    return running


def ends(running, began):
    """The exit code, and the seconds until then."""
    try:
        return running.wait(LIMIT), time.monotonic() - began
    finally:
        running.kill()


def test_errors_that_nobody_reads_do_not_hold_it_up(agent, node, keep):
    """Refused before the deadline is known: the limit for reading the options holds."""
    wrong = [{"secg": "sg-x"}, {"secg": ",,"}, {"delay": "x"}, {"no_such_option": "1", "secg": None}]
    began = time.monotonic()
    with full_pipe() as stderr:
        texts = [as_stdin(agent, "status", node, **{**keep, **options}) for options in wrong]
        running = [start(agent, text, stderr) for text in [*texts, "action=explode\n", ""]]
        ended = [ends(process, began) for process in running]
    assert {code for code, _ in ended} == {1}
    assert max(seconds for _, seconds in ended) < 14


def test_a_read_with_a_delay_whose_errors_nobody_reads_ends(agent, ec2, node, keep):
    """The delay is for off only, and does not move the end of others."""
    ec2.rules.add("DescribeInstances", Stall(), times=None)
    began = time.monotonic()
    with full_pipe() as stderr:
        code, seconds = ends(
            start(agent, as_stdin(agent, "status", node, deadline=3, delay=15, **keep), stderr), began
        )
    assert code == 1
    assert seconds < 5


def test_an_off_whose_warnings_nobody_reads_ends_by_the_deadline(agent, node, keep):
    began = time.monotonic()
    with full_pipe() as stderr:
        _, seconds = ends(start(agent, as_stdin(agent, "off", node, deadline=3, **keep), stderr), began)
    assert seconds < 5


@pytest.mark.parametrize("read", [False, True], ids=["closed", "open"])
def test_a_debug_file_that_is_a_pipe_does_not_hold_it_up(agent, node, keep, tmp_path, read):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK) if read else None
    try:
        result = agent.command("off", node, debug_file=path, **keep)
    finally:
        if reader is not None:
            os.close(reader)
    assert result.code == (0 if read else 1)
    assert read or "cannot write" in result.last
    assert result.seconds < 5


@pytest.mark.parametrize(
    "line",
    ["secret-access-key=HIDE-ME", "secret_access_key=HIDE-ME", "secretkey=HIDE-ME", "secret_ky=HIDE-ME",
     "passwd=HIDE-ME", "password=HIDE-ME", "session-token=HIDE-ME", "aws_session_token=HIDE-ME",
     "aws-secret=HIDE ME HIDE-ME", "secret-access-key = HIDE-ME", "sekret=HIDE-ME"],
)  # fmt: skip
def test_an_option_that_is_unknown_keeps_its_value_to_itself(agent, node, keep, line, tmp_path):
    debug = tmp_path / "debug"
    text = as_stdin(agent, "status", node, verbose_level=3, debug_file=debug, **keep)
    result = agent.stdin(f"{text}{line}\n")
    assert result.code == 0, result.err
    assert any("Ignoring unknown option" in said for said in result.lines)
    assert "HIDE" not in result.err + result.out + debug.read_text(encoding="utf-8")


def test_a_stop_that_is_throttled_does_not_keep_the_next_node_from_being_fenced(agent, ec2, node, keep):
    other = ec2.world.nodes["node2"]
    ec2.rules.add("StopInstances", Throttle(), times=None)
    result = agent.command("off", f"{node},{other}", onfence_poweroff=True, deadline=6, **keep)
    assert result.code == 0
    assert sum("is isolated but was not stopped" in line for line in result.lines) == 2
    assert is_cut(ec2, node, keep)
    assert is_cut(ec2, other, keep)
    assert result.seconds < 8
