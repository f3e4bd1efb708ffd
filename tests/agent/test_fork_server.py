"""A run from a fork server equals an ordinary one, in all that the agent can see, and in all that is seen of it."""

import json
import os
import re
import shlex
import signal
import subprocess

import pytest
from fork_server import ForkServers
from programs import Programs

PROBE = """
import importlib.util, json, locale, os, pkgutil, random, re, resource, signal, sys, threading, warnings
def limits():
    return {n: resource.getrlimit(value) for n, value in vars(resource).items() if n[:7] == "RLIMIT_"}
def modules():
    import aws_vpc_net
    names = [module.name for module in pkgutil.walk_packages(aws_vpc_net.__path__, "aws_vpc_net.")]
    return [aws_vpc_net, *map(importlib.import_module, names)]
def held(module):
    values = {name: value for name, value in vars(module).items() if name == "__file__" or name[:2] != "__"}
    return {name: [told(value), cached(value)] for name, value in values.items()}
def cached(value):
    ours = str(getattr(value, "__module__", None)).startswith("aws_vpc_net")
    return told(value.cache_info()) if ours and hasattr(value, "cache_info") else ""
def told(value):  # whatever its address, and the order of sets
    return "".join(sorted(re.sub("0x[0-9a-f]+", "", repr(value))))
here = {
    "argv": sys.argv, "path": sys.path, "flags": list(sys.flags), "file": __file__, "name": __name__,
    "environment": dict(os.environ), "folder": os.getcwd(), "main": sys.modules["__main__"].__dict__ is globals(),
    "signals": [str(signal.getsignal(n)) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE, signal.SIGCHLD)],
    "streams": [[s.encoding, s.errors, s.line_buffering, s.isatty()] for s in (sys.stdin, sys.stdout, sys.stderr)],
    "threads": threading.active_count(), "hooks": [sys.excepthook.__name__, threading.excepthook.__name__],
    "group": [os.getpgrp(), os.getsid(0)], "limits": limits(),
    "masked": [int(n) for n in signal.pthread_sigmask(signal.SIG_BLOCK, [])], "umask": os.umask(0o22),
    "locale": locale.setlocale(locale.LC_CTYPE), "stdin": sys.stdin.read(),
    "open": [n for n in os.listdir("/proc/self/fd") if int(n) > 2 and os.path.exists(f"/proc/self/fd/{n}")],
    "fencing": importlib.util.find_spec("fencing").origin,
    "ours": {module.__name__: held(module) for module in modules()},
}
print(json.dumps(here))
print("text on stderr", file=sys.stderr)
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """Executes its first argument; interpreter and libraries are the agent's."""
    with open(os.environ["AGENT"], encoding="utf-8") as agent:
        source = agent.read()
    extends = re.search(r"^sys\.path\.extend.*$", source, re.MULTILINE)[0]
    file = tmp_path_factory.mktemp("program") / "program"
    file.write_text(f"{source.splitlines()[0]}\nimport sys\n{extends}\nexec(sys.argv[1])\n", encoding="utf-8")
    file.chmod(0o755)
    return str(file)


@pytest.fixture(scope="module")
def servers(program):
    with ForkServers(program) as made:
        yield made


@pytest.fixture
def both(program, servers):
    """Runs this code both ways: as an ordinary process, and from the fork server."""

    def run(code, env, stdin=""):
        arguments = [code, "-o", "a b", "é"]
        plain = subprocess.run(
            [program, *arguments], input=stdin, capture_output=True, text=True, env=env, check=False
        )
        assert servers.can_run(env)
        return plain, servers.run(arguments, stdin, env, 60)

    return run


@pytest.mark.parametrize("libraries", ["", "BOTO3_OLDEST", "BOTO3_NEWEST", "own BOTO3_NEWEST"])
def test_a_forked_run_sees_what_an_ordinary_one_sees(both, agent, tmp_path, umask, libraries):
    """With "own", the run brings a sitecustomize and a fencing library with it."""
    umask(0o027)
    (tmp_path / "sitecustomize.py").write_text("import os\nos.environ['SITE'] = 'was here'\n", encoding="ascii")
    (tmp_path / "fencing.py").touch()
    folders = [str(tmp_path) if name == "own" else os.environ[name] for name in libraries.split()]
    env = {**agent.env, **({"PYTHONPATH": ":".join(folders)} if folders else {})}
    plain, forked = both(f"{PROBE}sys.exit(7)", env, "line\nlast")
    seen = json.loads(forked.stdout)
    assert seen == json.loads(plain.stdout)
    assert (forked.returncode, forked.stderr) == (plain.returncode, plain.stderr) == (7, "text on stderr\n")
    assert seen["umask"] == 0o027
    assert seen["environment"].get("SITE") == ("was here" if "own" in libraries else None)
    assert seen["fencing"].startswith(str(tmp_path)) == ("own" in libraries)


@pytest.mark.parametrize(
    "end",
    ["os._exit(3)", "os.kill(os.getpid(), 15)", "raise ValueError('told')", "import atexit; atexit.register(print)"],
)
def test_a_forked_run_ends_like_an_ordinary_one(both, agent, end):
    plain, forked = both(f"import os\nprint('before', flush=True)\n{end}", agent.env)
    assert forked.returncode == plain.returncode
    assert forked.stderr.splitlines()[-1:] == plain.stderr.splitlines()[-1:]
    assert forked.stdout == plain.stdout


def test_a_forked_run_that_hangs_is_killed(agent, servers):
    with pytest.raises(subprocess.TimeoutExpired) as caught:
        servers.run(["import time\nprint('so far', flush=True)\ntime.sleep(60)"], "", agent.env, 1)
    assert caught.value.timeout == 1
    assert caught.value.stdout in (b"", b"so far\n")


WAITS = """
import os, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # the tests may not be in the foreground
signal.signal(signal.SIGHUP, lambda *_: sys.exit(f"hung up, and read {sys.stdin.read()}"))
print(os.getpid(), os.getpid() == os.getpgrp(), flush=True)
time.sleep(60)
print("was not ended")
"""


@pytest.mark.parametrize("session", [False, True])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_a_signal_ends_a_forked_run_as_it_ends_a_child(agent, program, servers, number, session):
    def ended(running):
        with running:
            assert running.stdout.readline() == f"{running.pid} {session}\n"
            assert running.poll() is None
            with pytest.raises(subprocess.TimeoutExpired):
                running.communicate("typed", timeout=0.01)
            if session:
                os.killpg(running.pid, number)
            else:
                running.send_signal(number)
            out, err = running.communicate(timeout=60)
            running.kill()  # it is no more, and nothing happens
            return running.wait(), running.poll(), out, err.splitlines()[-1:]

    pipe = subprocess.PIPE
    how = {"stdin": pipe, "stdout": pipe, "stderr": pipe, "env": agent.env, "start_new_session": session}
    plain = ended(subprocess.Popen([program, WAITS], text=True, **how))
    assert ended(servers.popen([WAITS], **how)) == plain


def test_who_kills_a_program_kills_its_run(agent, servers, tmp_path):
    with Programs({"waits": servers}, tmp_path) as programs:
        command = [*shlex.split(programs.command("waits")), WAITS]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=agent.env) as running:
            assert running.stdout.readline().endswith(" False\n")
            running.kill()
            assert running.stdout.read() == ""


@pytest.mark.parametrize("name", ["LANG", "PYTHONWARNINGS", "PYTHONPATH", "LD_PRELOAD"])
def test_an_environment_that_affects_the_start_of_python_needs_an_ordinary_run(agent, name):
    assert agent.fork_servers.can_run(agent.env)
    assert not agent.fork_servers.can_run({**agent.env, name: "/somewhere"})


@pytest.mark.parametrize("file", ["boto3.py", "boto3/__init__.py", "pycurl.so"])
def test_a_folder_with_modules_that_are_loaded_before_needs_an_ordinary_run(agent, tmp_path, file):
    env = {**agent.env, "PYTHONPATH": str(tmp_path)}
    assert agent.fork_servers.can_run(env)
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).touch()
    assert not agent.fork_servers.can_run(env)


def test_the_agent_behaves_alike(agent, ec2, node, keep, monkeypatch):
    """Exit codes, output and API calls of a whole cycle."""

    def run(action):
        """Again, where a busy machine takes all of a reading action's time to load the SDK."""
        for _ in range(3):
            done = agent.command(action, None if action == "list" else node, verbose=True, **keep)
            if "set up the AWS SDK" not in done.last:
                break
        return done

    def cycle():
        seen = []
        for action in ("validate-all", "off", "status", "on", "list"):
            done = run(action)
            lines = [re.sub(r"\d+\.\d+|\d{10}|0x\w+", "#", line) for line in done.lines]
            seen.append((done.code, done.out, len(lines), lines[-1]))
        seen.append(agent.raw("-o", "metadata").out)
        seen.append(agent.stdin("action=off\nplug=\n").last)
        seen.append(sorted(call.action for call in ec2.calls))  # some are made at the same time
        ec2.calls.clear()
        return seen

    forked = cycle()
    monkeypatch.setenv("AGENT_RUNNER", "env")
    assert cycle() == forked
