"""What surrounds the options: words in the wrong place, a broken environment, a plug that an action does not need."""

import itertools
import os
import shlex
import signal
import subprocess
from pathlib import Path

import pytest
from assertions import is_isolated
from tarpit import Tarpit
from test_access import use

SECRET = "mIsPlAcEdSeCrEt"


@pytest.mark.parametrize("plug", ["node1", "nobody"])
def test_an_action_that_needs_no_plug_looks_up_no_name(agent, ec2, keep, plug):
    result = agent.command("on", plug, unfence_ignore_restore=True, **keep)
    assert result.code == 0, result.err
    assert ec2.calls == []


def test_a_secret_in_the_wrong_place_of_the_command_line_is_not_shown(agent, node, keep):
    del agent.options["access_key"], agent.options["secret_key"]
    result = agent.raw(*agent.arguments("status", node, **keep), "-a", "AKIA", "-s", "=", SECRET)
    assert result.code == 1
    assert "unexpected arguments" in result.last
    assert SECRET not in result.err + result.out


def test_a_secret_without_its_equals_sign_on_stdin_is_not_shown(agent, node, keep):
    lines = [
        f"{k}={1 if v is True else v}" for k, v in {"action": "status", "plug": node, **agent.options, **keep}.items()
    ]
    result = agent.stdin("\n".join([*lines, f"secret_key {SECRET}", ""]))
    assert result.code == 0, result.err
    assert SECRET not in result.err + result.out


NO_TEXT = os.fsdecode(b"\xff\xfe123")


@pytest.mark.parametrize(
    "variable",
    [
        ("AWS_ACCESS_KEY_ID", NO_TEXT),
        ("AWS_SECRET_ACCESS_KEY", NO_TEXT),
        ("AWS_SECRET_ACCESS_KEY", "\u00e4"),
        ("AWS_SESSION_TOKEN", NO_TEXT),
        ("AWS_SESSION_TOKEN", "two\nlines"),
    ],
    ids=lambda variable: f"{variable[0]}={variable[1]!a}",
)
def test_a_broken_environment_is_no_internal_error(agent, ec2, node, keep, variable):
    """The SDK fails because of it: one line states what to check, and EC2 gets no request."""
    del agent.options["access_key"], agent.options["secret_key"]
    agent.env.update({"AWS_ACCESS_KEY_ID": ec2.key.access_key, "AWS_SECRET_ACCESS_KEY": ec2.key.secret_key})
    agent.env.update([variable])
    result = agent.command("status", node, **keep)
    assert (result.code, result.out, len(result.lines)) == (1, "", 1)
    assert result.last.startswith("ERROR: authentication error: the AWS SDK rejects its configuration: ")
    assert result.last.endswith("; check ~/.aws and AWS_*")
    assert ec2.calls == []


@pytest.mark.parametrize("which", ["distribution", "oldest", "newest"])
@pytest.mark.parametrize("content", [None, "folder", b"\xff\xfe", b"", "role"])
def test_a_web_identity_that_cannot_be_read_is_an_authentication_error(agent, ec2, keep, tmp_path, content, which):
    use(agent, which)
    del agent.options["access_key"], agent.options["secret_key"]
    token = tmp_path / "token"
    if content == "folder":
        token.mkdir()
    elif content is not None:
        token.write_bytes(b"token" if content == "role" else content)
    role = "fencing" if content == "role" else "arn:aws:iam::123456789012:role/fencing"
    agent.env.update(AWS_WEB_IDENTITY_TOKEN_FILE=str(token), AWS_ROLE_ARN=role)
    result = agent.command("monitor", **keep)
    assert (result.code, result.out, len(result.lines)) == (1, "", 1)
    assert result.last.startswith("ERROR: authentication error: cannot read instances: no credentials: ")
    assert "AWS_WEB_IDENTITY_TOKEN_FILE" in result.last
    assert result.seconds < 6
    assert ec2.calls == []


def test_a_broken_imds_address_that_is_not_used_is_ignored(agent, node, keep):
    agent.env["AWS_EC2_METADATA_SERVICE_ENDPOINT"] = "http://[fd00"
    result = agent.command("status", node, **keep)
    assert (result.code, result.out, result.err) == (0, "Status: ON\n", "")


def test_a_broken_environment_secret_is_ignored_with_options(agent, node, keep):
    agent.env["AWS_SECRET_ACCESS_KEY"] = NO_TEXT
    result = agent.command("status", node, **keep)
    assert (result.code, result.out, result.err) == (0, "Status: ON\n", "")


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


def test_the_agent_and_the_library_split_lines_alike(agent, node, keep):
    text = "".join(
        f"{k}={1 if v is True else v}\n" for k, v in {"action": "off", "plug": node, **agent.options, **keep}.items()
    )
    result = agent.stdin(f"{text}onfence_poweroff=true\x0b#x\n")
    assert result.code == 1
    assert "onfence" in result.last


HANGING_SYSLOG = "import syslog, time\nsyslog.syslog = lambda *_: time.sleep(600)\n"


def with_site(agent, folder, **modules):
    """Let the agent find these modules first, before the newest boto3."""
    for name, text in modules.items():
        (folder / f"{name}.py").write_text(text, encoding="ascii")
    agent.env["PYTHONPATH"] = f"{folder}:{os.environ['BOTO3_NEWEST']}"


def test_a_syslog_that_hangs_keeps_no_node_from_being_fenced(agent, ec2, node, keep, tmp_path):
    with_site(agent, tmp_path, sitecustomize=HANGING_SYSLOG)
    result = agent.command("off", node, **keep, delay=1)
    assert result.code == 0, result.err
    assert is_isolated(ec2, node, keep)


BREAKS = {
    "AttributeError": "raise AttributeError('of another release')",
    "TypeError": "raise TypeError('of another release')",
    "OSError": "raise OSError(5, 'of another release')",
    "SyntaxError": "of another release",
    "SystemExit": "raise SystemExit('of another release')",
}
SESSION = """
class Session:
    region_name = "eu-central-1"
    def __init__(self, **_more): {}
    def client(self, *_given, **_more): {}
"""


def packages(folder, files):
    """Packages of this folder, and what is in their files."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="ascii")


def fails_in_one_line(agent, ec2, node, keep, *words):
    result = agent.command("off", node, **keep)
    assert result.code == 1
    assert len(result.err.splitlines()) == 1, result.err
    assert [word for word in ("ERROR: ", "boto3", *words) if word not in result.last] == []
    assert "internal error" not in result.last
    assert ec2.calls == []


@pytest.mark.parametrize(("kind", "package"), list(zip(BREAKS, itertools.cycle(("boto3", "botocore")))))
def test_a_boto3_that_does_not_load_is_one_line(agent, ec2, node, keep, tmp_path, kind, package):
    with_site(agent, tmp_path)
    packages(tmp_path, {f"{package}/__init__.py": f"{BREAKS[kind]}\n"})
    fails_in_one_line(agent, ec2, node, keep, f"cannot import boto3: {kind}", "install python3-boto3")


@pytest.mark.parametrize("where", ["session", "client"])
@pytest.mark.parametrize("kind", ["AttributeError", "TypeError", "SystemExit"])
def test_a_boto3_without_a_client_is_one_line(agent, ec2, node, keep, tmp_path, kind, where):
    with_site(agent, tmp_path)
    first = where == "session"
    text = SESSION.format(*(BREAKS[kind], "pass") if first else ("pass", BREAKS[kind]))
    packages(tmp_path, {"boto3/__init__.py": "__version__ = '0'\n", "boto3/session.py": text})
    fails_in_one_line(agent, ec2, node, keep, f"boto3 does not work: {kind}: of another release")


def test_a_boto3_that_fails_in_a_call_is_one_line(agent, ec2, node, keep, tmp_path):
    broken = "import botocore.client\nbotocore.client.BaseClient._make_api_call = None\n"
    with_site(agent, tmp_path, sitecustomize=broken)
    fails_in_one_line(agent, ec2, node, keep, "DescribeInstances: boto3 does not work: TypeError")


WARNINGS = """
import logging, sys, threading, warnings
warnings.warn("of a library", UserWarning)
warnings.warn("of another", DeprecationWarning)
logging.getLogger("library").error("said by a library")
logging.warning("said by a library, without a logger")
class Finalized:
    def __del__(self):
        raise ValueError("in a finalizer")
Finalized()
def fail():
    raise ValueError("in its thread")
failing = threading.Thread(target=fail)
failing.start()
failing.join()
"""


@pytest.mark.parametrize("setting", ["", "error", "always,error::UserWarning"])
def test_library_warnings_are_in_the_debug_file_only(agent, ec2, node, keep, tmp_path, setting):
    """The session of the newest boto3 is replaced by one that warns; the environment may make errors of warnings."""
    with_site(agent, tmp_path)
    newest = Path(os.environ["BOTO3_NEWEST"])
    (tmp_path / "boto3").mkdir()
    for file in (newest / "boto3").iterdir():
        (tmp_path / "boto3" / file.name).symlink_to(file)
    session = tmp_path / "boto3" / "session.py"
    text = session.read_text(encoding="utf-8")
    session.unlink()
    session.write_text(f"{text}\n{WARNINGS}", encoding="utf-8")
    agent.env["PYTHONWARNINGS"] = setting
    debug = tmp_path / "debug"
    result = agent.command("monitor", debug_file=debug, **keep)
    assert (result.code, result.err) == (0, "")
    lines = debug.read_text(encoding="utf-8").splitlines()
    for words in ("of a library", "of another", "by a library", "in a finalizer", "in its thread"):
        assert ["DEBUG:" in line for line in lines if words in line][:1] == [True], words


@pytest.mark.parametrize("options", ["-Werror -bb", "-Wdefault -Xdev"])
def test_options_of_python_change_nothing(agent, node, keep, tmp_path, monkeypatch, options):
    """All is compiled anew, the fencing library too, whose source has escapes that Python warns of.

    It takes seconds; the deadline of other actions cannot be as long.
    """
    monkeypatch.setenv("AGENT_RUNNER", f"{os.environ['PYTHON']} {options}")
    agent.env["PYTHONPYCACHEPREFIX"] = str(tmp_path / "cache")
    for action in ("off", "on"):
        result = agent.command(action, node, quiet=action == "off" or None, deadline=120, **keep)
        assert (result.code, result.err) == (0, "")


HANGING_DELAY = "import time\nsleep = time.sleep\ntime.sleep = lambda s: sleep(600 if 1 < s < 3 else s)\n"
NO_THREADS = """
import threading
def refuse(thread):
    raise RuntimeError("can't start new thread")
threading.Thread.start = refuse
"""
HANGING_FENCING = "import time\ntime.sleep(600)\n"


def test_a_delay_that_never_ends_is_ended(agent, ec2, node, keep, tmp_path):
    with_site(agent, tmp_path, sitecustomize=HANGING_DELAY)
    result = agent.command("off", node, **keep, delay=2, deadline=3)
    assert result.code == 1
    assert "did not finish within" in result.last
    assert result.seconds < 20, "it would take minutes"
    assert ec2.calls == []


def test_without_threads_it_fails_with_one_line(agent, ec2, node, keep, tmp_path):
    with_site(agent, tmp_path, sitecustomize=NO_THREADS)
    result = agent.command("off", node, **keep)
    assert result.code == 1
    assert "can't start new thread" in result.last
    assert "Traceback" not in result.err
    assert ec2.writes() == []


def test_without_threads_it_still_ends(agent, node, keep, tmp_path):
    with_site(agent, tmp_path, sitecustomize=NO_THREADS, fencing=HANGING_FENCING)
    result = agent.command("off", node, **keep)
    assert result.code == -signal.SIGALRM
    assert result.seconds < 20, "it would take minutes"


@pytest.mark.parametrize(
    ("fencing", "reason"), [("", "'SyslogLibHandler'"), ("1 +\n", "SyntaxError"), ("import pexpects\n", "pexpects")]
)
def test_a_fencing_library_that_does_not_load_is_one_line(agent, ec2, node, keep, tmp_path, fencing, reason):
    with_site(agent, tmp_path, fencing=fencing)
    result = agent.command("off", node, **keep)
    assert result.code == 1
    assert len(result.err.splitlines()) == 1
    assert "cannot import the fencing library" in result.last
    assert reason in result.last
    assert ec2.calls == []


MISREAD = "line one\\nConnection Timed  out; a timeout, a TimeoutError; Unsupported action"


@pytest.mark.parametrize(
    ("module", "error"),
    [("aws_vpc_net", "OSError"), ("aws_vpc_net", "ImportError"), ("fencing", "OSError"), ("fencing", "SystemExit")],
)
def test_an_error_at_the_start_is_one_line_that_pacemaker_does_not_misread(agent, tmp_path, module, error):
    with_site(agent, tmp_path, **{module: f"raise {error}('{MISREAD}')\n"})
    result = agent.raw("-o", "monitor")
    assert result.code == 1
    assert len(result.err.splitlines()) == 1
    assert result.err.startswith("ERROR: ")
    assert "line one Connection took too long; a time-out, a time-outError; unknown action" in result.err


@pytest.mark.parametrize("missing", ["messages", "options"])
def test_an_agent_without_its_modules_is_one_line(agent, ec2, node, keep, tmp_path, missing):
    installed = Path(os.environ["AGENT"]).parents[1] / "share/fence/aws_vpc_net"
    (tmp_path / "aws_vpc_net").mkdir()
    for file in installed.glob("*.py"):
        if file.stem != missing:
            (tmp_path / "aws_vpc_net" / file.name).symlink_to(file)
    with_site(agent, tmp_path)
    result = agent.command("off", node, **keep)
    assert result.code == 1
    assert len(result.err.splitlines()) == 1
    assert "not installed completely" in result.last
    assert missing in result.last
    assert ec2.calls == []


def test_an_interrupt_at_the_start_shows_no_traceback(agent, node, keep, tmp_path):
    foreground = "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"  # the tests may not be
    with_site(agent, tmp_path, sitecustomize=foreground, fencing="import os\nos.kill(os.getpid(), 2)\n")
    result = agent.command("off", node, **keep)
    assert result.code == -signal.SIGINT
    assert result.err == ""


def test_off_succeeds_with_a_closed_stdout(agent, ec2, node, keep):
    command = shlex.join([os.environ["AGENT"], *agent.arguments("off", node, **keep)])
    done = subprocess.run(["sh", "-c", f"{command} >&-"], env=agent.env, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert is_isolated(ec2, node, keep)
    command = shlex.join([os.environ["AGENT"], *agent.arguments("list")])
    for where, why in ((">&-", b"stdout: it is closed; "), (">/dev/full", b"stdout: No space left on device; ")):
        done = subprocess.run(["sh", "-c", f"{command} {where}"], env=agent.env, capture_output=True, check=False)
        assert done.returncode == 1
        assert why in done.stderr


def test_list_succeeds_with_names_that_stdout_cannot_encode(agent, ec2):
    ec2.edit.put_tags(ec2.world.nodes["node2"], {"Name": "\u65e5\u672c"})
    agent.env["PYTHONIOENCODING"] = "latin-1"
    for action in ("list", "list-status"):
        result = agent.command(action)
        assert result.code == 0, result.err
        assert [line.split(",")[0] for line in result.out.splitlines()] == list(ec2.world.nodes.values())


ANSWERS = [["-o", "metadata"], ["--help"], ["--version"], ["-o", "validate-all", "--secg=sg-0123456789abcdef0"]]


@pytest.mark.parametrize(("where", "why"), [(">&-", "it is closed"), (">/dev/full", "No space left on device")])
@pytest.mark.parametrize("arguments", ANSWERS, ids=" ".join)
def test_documentation_that_cannot_be_written_is_one_line(agent, arguments, where, why):
    command = shlex.join([os.environ["AGENT"], *arguments])
    done = subprocess.run(["sh", "-c", f"{command} {where}"], env=agent.env, capture_output=True, check=False)
    (line,) = done.stderr.decode().splitlines()
    assert (done.returncode, f"ERROR: cannot write the answer to stdout: {why}; " in line) == (1, True), line


NO_MEMORY_TO_WRITE = """
import sys
def write(text):
    raise MemoryError
sys.__stdout__.write = write
"""


def test_an_answer_for_which_memory_is_short_is_no_success(agent, ec2, node, keep, tmp_path):
    """An empty list and exit code 0 would mean that the device fences no node."""
    with_site(agent, tmp_path, sitecustomize=NO_MEMORY_TO_WRITE)
    for arguments in (["list"], ["list-status"], ["validate-all", node], ["metadata"]):
        result = agent.command(*arguments, **keep)
        assert (result.code, result.out) == (1, "")
        assert "ERROR: cannot write the answer to stdout: out of memory; " in result.last
    assert agent.command("off", node, **keep).code == 0
    assert is_isolated(ec2, node, keep)


def test_a_long_list_that_cannot_be_written_is_one_line(agent, ec2):
    """Longer than what Python writes at once."""
    ec2.edit.put_tags(ec2.world.nodes["node2"], {"Name": "n" * 100_000})
    command = shlex.join([os.environ["AGENT"], *agent.arguments("list")])
    done = subprocess.run(["sh", "-c", f"{command} >/dev/full"], env=agent.env, capture_output=True, check=False)
    (line,) = done.stderr.decode().splitlines()
    assert (done.returncode, "stdout: No space left on device; " in line) == (1, True), line


def test_a_failed_preflight_whose_answer_cannot_be_written_is_one_line(agent, ec2, node, keep):
    ec2.key.deny("ec2:CreateTags")
    command = shlex.join([os.environ["AGENT"], *agent.arguments("validate-all", node, **keep)])
    done = subprocess.run(["sh", "-c", f"{command} >/dev/full"], env=agent.env, capture_output=True, check=False)
    (line,) = done.stderr.decode().splitlines()
    assert (done.returncode, "would fail: permission ec2:CreateTags; " in line) == (1, True), line


def test_power_wait_does_not_extend_the_deadline(agent, ec2, keep):
    nodes = ",".join(ec2.world.nodes[n] for n in ("node1", "node2"))
    with Tarpit() as pit:
        result = agent.command(
            "off", nodes, **keep, deadline=4, power_wait=8, endpoint_url=f"http://{pit.address}", skip_race_check=True
        )
    assert result.code == 1
    assert result.seconds < 6
    result = agent.command("off", nodes, **keep, deadline=8, power_wait=10)
    assert result.code == 0, result.err
    assert result.seconds > 20, "the second plug began after the deadline of the first"
    assert all(is_isolated(ec2, ec2.world.nodes[n], keep) for n in ("node1", "node2"))
