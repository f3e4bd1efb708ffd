"""credential_process: a program that hangs, prompts, fails or prints; it ends with the agent, and shows no key."""

import datetime
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from assertions import is_isolated
from test_access import EXPIRES, files, temporary, use

SDKS = ["distribution", "oldest", "newest"]
SECONDS = 20  # for what a condition is waited for


@pytest.fixture
def program(agent, tmp_path):
    """Makes this text the program, which notes each process in a folder; Python, or a shell's."""

    def make(text, shell="/bin/sh"):
        path = tmp_path / "program"
        path.write_text(f"#!{shell}\n{text}\n", encoding="utf-8")
        path.chmod(0o755)
        files(agent, f"[default]\ncredential_process = {path} --account 'a b'\n")
        return path

    (tmp_path / "processes").mkdir()
    agent.env["PROCESSES"] = str(tmp_path / "processes")
    return make


NOTE = 'touch "$PROCESSES/$$"'
HANGS = f"{NOTE}; exec sleep 600"
CHILDREN = f"{NOTE}; sh -c '{NOTE}; sleep 600; true' & sh -c '{NOTE}; sleep 600; true'; true"
ORPHAN = f"{NOTE}; (sh -c '{NOTE}; sleep 600; true' &) ; exit 0"
SESSION = f"{NOTE}; setsid sh -c '{NOTE}; sleep 600; true'; true"
DEAF = f"trap '' TERM HUP INT; {NOTE}; sh -c '{NOTE}; sleep 600; true'; true"
PROGRAMS = {"hangs": (HANGS, 1), "children": (CHILDREN, 3), "orphan": (ORPHAN, 2), "session": (SESSION, 2)}
PROGRAMS["deaf"] = (DEAF, 2)


def noted(tmp_path):
    return [int(p.name) for p in (tmp_path / "processes").iterdir()]


def left(tmp_path):
    """Of the processes that were noted, and all that these run: those that are there, zombies not counted."""
    marked = f"PROCESSES={tmp_path / 'processes'}".encode()
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/environ", "rb") as file:
                if marked in file.read().split(b"\0"):
                    found.append(int(name))
        except OSError:
            continue
    return found


def wait_for(condition):
    ends = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < ends, "it never came to that"
        time.sleep(0.02)


def are_gone(tmp_path):
    """What was noted was killed, and may take a moment to end."""
    wait_for(lambda: not left(tmp_path))


@pytest.mark.parametrize("which", SDKS)
@pytest.mark.parametrize("kind", PROGRAMS)
def test_a_program_ends_with_the_deadline(agent, node, keep, program, tmp_path, kind, which):
    use(agent, which)
    text, count = PROGRAMS[kind]
    path = program(text)
    for deadline in (3, 20):  # more, if a busy machine has not started all processes by then
        result = agent.pacemaker("off", node, deadline=deadline, **keep)
        assert f"ERROR: deadline error: gave up after {deadline} s: " in result.last
        assert result.seconds < deadline + 2
        are_gone(tmp_path)
        if len(noted(tmp_path)) == count:
            break
        for number in noted(tmp_path):
            (tmp_path / "processes" / str(number)).unlink()
    assert "s: set up the AWS SDK and its credentials" in result.last
    assert f"credential_process {path} did not answer" in result.last
    assert len(noted(tmp_path)) == count


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_program_ends_with_a_signal(agent, node, keep, program, tmp_path, number):
    program(CHILDREN)
    running = agent.start(*agent.arguments("off", node, **keep))
    wait_for(lambda: len(noted(tmp_path)) == 3)
    running.send_signal(number)
    running.communicate(timeout=SECONDS)
    assert running.returncode == 1
    are_gone(tmp_path)


def test_a_program_ends_with_the_watchdog(agent, node, keep, program, tmp_path):
    """Something holds the agent beyond its deadline."""
    program(CHILDREN)
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(
        "import threading\njoin = threading.Thread.join\n"
        "threading.Thread.join = lambda self, seconds=None: join(self, 600 if seconds else seconds)\n",
        encoding="ascii",
    )
    agent.env["PYTHONPATH"] = str(tmp_path / "site")
    result = agent.pacemaker("off", node, deadline=6, **keep)
    assert result.code == 1
    assert "did not finish within 6" in result.last
    assert noted(tmp_path)
    are_gone(tmp_path)


def test_a_kill_by_pacemaker_ends_the_program(agent, node, keep, program, tmp_path):
    """It stays in the agent's process group."""
    program(CHILDREN)
    running = agent.start(*agent.arguments("off", node, **keep), start_new_session=True, stderr=subprocess.DEVNULL)
    wait_for(lambda: len(noted(tmp_path)) == 3)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait(SECONDS)
    are_gone(tmp_path)


def credentials(key, **more):
    pair = {"AccessKeyId": key.access_key, "SecretAccessKey": key.secret_key, "SessionToken": key.session_token}
    return json.dumps({"Version": 1, **pair, "Expiration": EXPIRES, **more})


@pytest.mark.parametrize("which", SDKS)
def test_a_program_that_reads_stdin_does_not_block(agent, ec2, node, keep, program, which):
    use(agent, which)
    program(f"read answer; cat > /dev/null; printf '%s' '{credentials(temporary(ec2))}'")
    read, write = os.pipe()  # a stdin that stays open
    running = agent.start(*agent.arguments("off", node, **keep), stdin=read)
    _, err = running.communicate(timeout=60)
    os.close(read)
    os.close(write)
    assert running.returncode == 0, err
    assert is_isolated(ec2, node, keep)


def everything(agent, syslog, tmp_path, keep, node):
    """All outputs of a run."""
    log, debug = tmp_path / "boto3.log", tmp_path / "debug"
    agent.env["FENCE_AWS_VPC_NET_BOTO3_LOG"] = str(log)
    given = {**keep, "boto3_debug": "1", "debug_file": debug, "verbose_level": 3}
    result = agent.pacemaker("off", node, **given)
    texts = [result.out, result.err, *(path.read_text("utf-8") for path in (log, debug, syslog))]
    return result, "\n".join(texts)


@pytest.mark.parametrize("which", SDKS)
@pytest.mark.parametrize("code", [0, 1])
def test_the_stderr_of_a_program_is_not_shown(agent, ec2, node, keep, program, syslog, tmp_path, which, code):
    use(agent, which)
    key = temporary(ec2)
    loud = f"echo 'using key {key.secret_key}' >&2; printf '{key.secret_key[::-1]}\\377' >&2"
    path = program(f"{loud}; printf '%s' '{credentials(key)}'; exit {code}")
    result, text = everything(agent, syslog, tmp_path, keep, node)
    assert result.code == code, result.err
    assert [s for s in (key.secret_key, key.secret_key[::-1], key.session_token) if s in text] == []
    if code:
        assert f"no credentials: credential_process {path} failed with exit code 1; run it manually" in result.last


SECRET = '"SecretAccessKey": "a-secret-key-on-stdout"'
PAIR = f'"Version": 1, "AccessKeyId": "AKIA", {SECRET}'
BAD = {
    "no JSON": ("echo a-secret-key-on-stdout", "does not print JSON"),
    "no version": (f"echo '{{{SECRET}}}'", "does not print credentials of Version 1"),
    "a list": ("echo '[1]'", "does not print credentials of Version 1"),
    "incomplete": (f"echo '{{\"Version\": 1, {SECRET}}}'", "custom-process"),
    "a number": (f"echo '{{{PAIR}, \"SessionToken\": 7}}'", "prints a malformed SessionToken"),
    "no text": ("echo '{\"Version\": 1, \"AccessKeyId\": [\"a-secret-key\"]}'", "prints a malformed AccessKeyId"),
    "lines": (f"echo '{{{PAIR}, \"SessionToken\": \"a-secret-key\\u000a\"}}'", "prints a malformed SessionToken"),
    "a time as number": (f"echo '{{{PAIR}, \"Expiration\": 5}}'", "prints a malformed Expiration"),
    "endless": ("yes a-secret-key-on-stdout", "prints more than credentials can be"),
    "killed": ("kill -9 $$", "failed with signal 9"),
    "silent": ("true", "does not print JSON"),
}


@pytest.mark.parametrize("which", SDKS)
@pytest.mark.parametrize("kind", BAD)
def test_a_program_without_credentials_is_named_at_once(agent, node, keep, program, syslog, tmp_path, kind, which):
    use(agent, which)
    text, expected = BAD[kind]
    program(text)
    result, said = everything(agent, syslog, tmp_path, keep, node)
    assert result.last.startswith("ERROR: authentication error: ")
    assert expected in result.last
    assert "a-secret-key" not in said
    wait_for(lambda: not left(tmp_path))


def test_a_missing_program_is_named(agent, node, keep):
    files(agent, "[default]\ncredential_process = /nowhere/program\n")
    last = agent.pacemaker("off", node, **keep).last
    assert "no credentials: credential_process /nowhere/program cannot be run: No such file or directory" in last


@pytest.mark.parametrize("which", SDKS)
def test_expired_credentials_of_a_program_are_reported(agent, ec2, node, keep, program, which):
    use(agent, which)
    program(f"printf '%s' '{credentials(temporary(ec2), Expiration='2020-01-01T00:00:00Z')}'")
    result = agent.pacemaker("off", node, **keep)
    assert result.last.startswith("ERROR: authentication error: ")
    assert "they have expired" in result.last


def test_a_daemon_of_a_program_keeps_running(agent, ec2, node, keep, program, tmp_path):
    """An agent for keys that it has started, say."""
    daemon = f"setsid {sys.executable} -c 'import time; time.sleep(600)' < /dev/null > /dev/null 2>&1 &"
    program(f"{NOTE}; {daemon} printf '%s' '{credentials(temporary(ec2))}'")
    assert agent.pacemaker("off", node, **keep).code == 0
    stayed = left(tmp_path)
    assert len(stayed) == 1
    os.kill(stayed[0], signal.SIGKILL)


def test_earlier_processes_are_not_ended(agent, node, keep, program, tmp_path):
    """A wrapper that starts something of its own, and then becomes the agent: that is the agent's child too."""
    program(HANGS)
    mine = tmp_path / "mine"
    words = [os.environ["AGENT"], *agent.arguments("off", node, deadline=5, **keep)]
    text = f'sleep 600 </dev/null >/dev/null 2>&1 & echo $! > {mine}; exec "$@"'
    done = subprocess.run(
        ["/bin/sh", "-c", text, "sh", *words], env=agent.env, capture_output=True, text=True, timeout=60, check=False
    )
    pid = int(mine.read_text())
    try:
        assert done.returncode == 1
        assert len(noted(tmp_path)) == 1
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            assert file.read().rpartition(")")[2].split()[0] != "Z"
    finally:
        os.kill(pid, signal.SIGKILL)


def test_arguments_of_a_quoted_program_are_not_shown(agent, node, keep):
    files(agent, '[default]\ncredential_process = "/no/such/program --pin hunter2hunter2"\n')
    result = agent.command("status", node, **keep)
    assert result.code == 1
    assert "credential_process /no/such/program " in result.last
    assert "hunter2" not in result.err


@pytest.mark.parametrize("which", SDKS)
def test_a_program_is_run_once_though_its_credentials_are_good_for_minutes_only(
    agent, ec2, node, keep, program, tmp_path, which
):
    """The SDK would run it again at each call, and fail where it fails."""
    use(agent, which)
    soon = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(minutes=5)
    given = credentials(temporary(ec2), Expiration=soon.strftime("%Y-%m-%dT%H:%M:%SZ"))
    program(f"{NOTE}; [ $(ls $PROCESSES | wc -l) = 1 ] && printf '%s' '{given}'")
    result = agent.pacemaker("off", node, **keep)
    assert result.code == 0, result.err
    assert is_isolated(ec2, node, keep)


@pytest.mark.parametrize("which", SDKS)
def test_a_daemon_of_a_program_that_keeps_its_stdout_does_not_block(agent, ec2, node, keep, program, tmp_path, which):
    use(agent, which)
    program(f"printf '%s' '{credentials(temporary(ec2))}'; sh -c '{NOTE}; exec sleep 600' & exit 0")
    result = agent.pacemaker("off", node, deadline=8, **keep)
    daemons = noted(tmp_path)
    for number in daemons:
        os.kill(number, signal.SIGKILL)
    assert result.code == 0, result.err
    assert daemons
