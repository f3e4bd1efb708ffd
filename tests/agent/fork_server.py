"""Runs the agent at a sixth of the CPU time: forked from an interpreter that has loaded what the agent imports.

Starting Python and loading boto3 is most of the CPU time of a run. A fork server is started with the interpreter and
the flags of the agent's first line, and imports the libraries, and the modules of this agent as they are before
anything is called. For each run it forks. The child gets arguments, environment, working directory and streams of its
own, and executes the agent's file as __main__. test_fork_server.py compares such a run with an ordinary one, and what
the modules hold in both. The AWS CLI has such a server too: see programs.py.

A run is an ordinary process if its environment affects how Python or the SDK starts, or if AGENT_RUNNER is set:
`AGENT_RUNNER=env ./tests/check` makes all of them ordinary ones.
"""

import contextlib
import gc
import importlib
import json
import os
import pkgutil
import re
import selectors
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from types import ModuleType
from typing import Any, Callable, Dict, List, Optional, Tuple

STARTUP = ("PYTHON", "LC_", "LANG", "LD_", "MALLOC_", "OPENSSL_", "SSL_", "TZ")  # read before the agent runs
SHARED = ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX")  # by all runs of one fork server
MODULES = (
    "fencing dataclasses boto3.session botocore.httpsession botocore.session botocore.exceptions botocore.config "
    "botocore.parsers botocore.retries.standard"
).split()
Key = Tuple[str, ...]


# --- in the tests ------------------------------------------------------------------------------------------------


class ForkServers:
    """A fork server for each set of libraries, started when first needed; a context manager."""

    def __init__(self, agent: str, *folders: str) -> None:
        """Beside those of boto3, PYTHONPATH may name these folders, which do not change."""
        self._agent = agent
        self._folders = {os.environ.get("BOTO3_OLDEST"), os.environ.get("BOTO3_NEWEST"), *folders}
        self._processes: Dict[Key, subprocess.Popen[bytes]] = {}
        self._sockets: Dict[Key, socket.socket] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> "ForkServers":
        return self

    def __exit__(self, *_: object) -> None:
        for connection in self._sockets.values():
            connection.close()  # the server exits
        for process in self._processes.values():
            process.communicate(timeout=10)

    def can_run(self, env: Dict[str, str]) -> bool:
        """Whether a forked run with this environment equals an ordinary one."""
        if any(path.is_dir() for path in Path(env.get("HOME", "/nonexistent"), ".aws").glob("*")):
            return False  # botocore takes the paths of its folders when it is imported
        affects_startup = any(name.startswith(STARTUP) and name not in SHARED for name in env)
        folders = filter(None, env.get("PYTHONPATH", "").split(":"))
        return not affects_startup and self._folders.issuperset(folders) and "AGENT_RUNNER" not in os.environ

    def run(
        self,
        arguments: List[str],
        stdin: str,
        env: Dict[str, str],
        limit: float,
        started: Callable[[int], object] = lambda pid: None,
    ) -> "subprocess.CompletedProcess[str]":
        """Like subprocess.run with captured output; ``started`` is told its process ID before it can end."""
        command = [self._agent, *arguments]
        control, streams = self._fork(arguments, env)
        with control:
            pid = int.from_bytes(_receive(control, 4), "big")
            started(pid)
            expired = threading.Event()

            def kill() -> None:
                expired.set()
                os.kill(pid, signal.SIGKILL)

            timer = threading.Timer(limit, kill)
            timer.start()
            try:
                out, err = _communicate(stdin.encode(), *streams)
                code = int.from_bytes(_receive(control, 4), "big", signed=True)
            finally:
                timer.cancel()
        if expired.is_set():
            raise subprocess.TimeoutExpired(command, limit, out, err)
        return subprocess.CompletedProcess(command, code, _text(out), _text(err))

    def start(self, env: Dict[str, str]) -> None:
        """Waits until the server for such an environment is ready, so that it does not add to the time of a run."""
        with self._lock:
            self._server(env)

    def _fork(self, arguments: List[str], env: Dict[str, str]) -> Tuple[socket.socket, Tuple[int, int, int]]:
        """Starts a run; returns the connection that tells process ID and exit code, and the ends of its streams."""
        (stdin, our_stdin), (our_stdout, stdout), (our_stderr, stderr) = (os.pipe() for _ in range(3))
        control = self.begin(arguments, env, os.getcwd(), (stdin, stdout, stderr))
        return control, (our_stdin, our_stdout, our_stderr)

    def begin(self, arguments: List[str], env: Dict[str, str], cwd: str, streams: Tuple[int, ...]) -> socket.socket:
        """Starts a run on these streams, which are closed here; what tells its process ID, and then its exit code."""
        control, remote = socket.socketpair()
        job = json.dumps({"arguments": arguments, "env": env, "cwd": cwd}).encode()
        with self._lock:
            server = self._server(env)
            socket.send_fds(server, [len(job).to_bytes(4, "big")], [*streams, remote.fileno()])
            server.sendall(job)
        for descriptor in streams:
            os.close(descriptor)
        remote.close()
        return control

    def _server(self, env: Dict[str, str]) -> socket.socket:
        key = tuple(env.get(name, "") for name in SHARED)
        if key not in self._sockets:
            with open(self._agent, encoding="utf-8") as file:
                interpreter = file.readline()[2:].split()
            self._sockets[key], remote = socket.socketpair()
            self._processes[key] = subprocess.Popen(
                [*interpreter, __file__, self._agent, str(remote.fileno())],
                env={name: env[name] for name in ("PATH", *SHARED) if name in env},
                # Pipes, like those of the runs: Python looks once what kind of file its streams are.
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=[remote.fileno()],
            )
            remote.close()
            _receive(self._sockets[key], 1)
        return self._sockets[key]


def _text(data: bytes) -> str:
    return data.decode().replace("\r\n", "\n").replace("\r", "\n")


def _communicate(data: bytes, stdin: int, stdout: int, stderr: int) -> Tuple[bytes, bytes]:
    """Writes the data to stdin and reads the others to their end; closes all."""
    received: Dict[int, bytes] = {stdout: b"", stderr: b""}
    os.set_blocking(stdin, False)
    with selectors.DefaultSelector() as selector:
        selector.register(stdin, selectors.EVENT_WRITE)
        for descriptor in received:
            selector.register(descriptor, selectors.EVENT_READ)
        while selector.get_map():
            for key, _ in selector.select():
                if key.fd == stdin:
                    with contextlib.suppress(BlockingIOError):
                        data = _write(stdin, data)
                    open_still = bool(data)
                else:
                    piece = os.read(key.fd, 65536)
                    received[key.fd] += piece
                    open_still = bool(piece)
                if not open_still:
                    selector.unregister(key.fd)
                    os.close(key.fd)
    return received[stdout], received[stderr]


def _write(descriptor: int, data: bytes) -> bytes:
    """Writes what fits; returns the rest, which is none if nobody reads it."""
    try:
        return data[os.write(descriptor, data) :] if data else data
    except BrokenPipeError:
        return b""


def _receive(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = connection.recv(size - len(data))
        if not piece:
            raise EOFError("the fork server is gone")
        data += piece
    return data


# --- in the fork server ------------------------------------------------------------------------------------------


def _load(agent: str) -> Any:
    """Imports the libraries and the agent's modules; returns the agent's file, compiled."""
    with open(agent, encoding="utf-8") as file:
        source = file.read()
    path = [os.path.dirname(agent), *sys.path[1:]]
    if "import awscli.clidriver" in source:
        sys.path[:] = path
        _keep_models(_use_cli)
        return compile(source, agent, "exec", dont_inherit=True)
    extended = re.search(r"^sys\.path\.extend\((.*)\)$", source, re.MULTILINE)
    folders = re.findall(r"[\"'](/[^\"']*)[\"']", extended[1]) if extended else []
    sys.path[:] = [*path, *folders]
    sys.modules["urllib3.contrib.pyopenssl"] = None  # type: ignore[assignment]  # so does the agent
    for name in (*MODULES, *_own_modules(folders)):
        importlib.import_module(name)
    if "aws_vpc_net.logs" in sys.modules:  # not by the function itself, which keeps them; re knows them now
        sys.modules["aws_vpc_net.logs"]._patterns.__wrapped__()
    del sys.modules["fencing"]  # each run imports it anew, as it counts the delay from then
    _keep_models(_use_client)
    sys.path[:] = path
    return compile(source, agent, "exec", dont_inherit=True)


def _own_modules(folders: List[str]) -> List[str]:
    """The agent's, all of them; none in the folders of a program that is not the agent."""
    own = next((f"{folder}/aws_vpc_net" for folder in folders if os.path.isdir(f"{folder}/aws_vpc_net")), "")
    return [module.name for module in pkgutil.walk_packages([own], "aws_vpc_net.")] if own else []


def _use_client() -> None:
    import boto3.session

    boto3.session.Session("none", "none", region_name="eu-central-1").client("ec2")


def _use_cli() -> None:
    """A call of the AWS CLI to nobody: it imports much at the first."""
    cli = importlib.import_module("awscli.clidriver")
    call = ("ec2", "describe-instances", "--region=eu-central-1", "--no-sign-request")
    os.environ["AWS_MAX_ATTEMPTS"] = "1"
    with open(os.devnull, "w", encoding="ascii") as nowhere, contextlib.redirect_stderr(nowhere):
        cli.create_clidriver().main([*call, "--endpoint-url=http://127.0.0.1:9"])
    del os.environ["AWS_MAX_ATTEMPTS"]


def _remember() -> None:
    """Keeps what the SDK makes of its own data only: which of its handlers take what, and a client's methods."""
    from botocore import client, hooks

    creator, aliaser = client.ClientCreator, hooks.EventAliaser
    accepts, methods, alias = hooks.accepts_kwargs, creator._create_methods, aliaser._alias_event_name
    accepted: Dict[Any, Any] = {}
    made: Dict[str, Dict[str, Any]] = {}
    aliases: Dict[str, str] = {}

    def accepts_kwargs(function: Any) -> Any:
        try:
            found = accepted.get(function)
        except TypeError:  # cannot be hashed
            return accepts(function)
        if found is None:
            found = accepted[function] = accepts(function)
        return found

    def create_methods(self: Any, service_model: Any) -> Dict[str, Any]:
        name = service_model.service_name
        if name not in made:
            made[name] = methods(self, service_model)
        return dict(made[name])

    def alias_event_name(self: Any, event_name: str) -> str:
        if event_name not in aliases:
            aliases[event_name] = alias(self, event_name)
        return aliases[event_name]

    hooks.accepts_kwargs, creator._create_methods = accepts_kwargs, create_methods
    aliaser._alias_event_name = alias_event_name


def _keep_models(use: Callable[[], None]) -> None:
    """Keeps the SDK's data files that a use of it reads. A run's first read of each gets what was read here.

    So does the first look for the names of services, in the same folders.
    """
    from botocore.loaders import JSONFileLoader, Loader

    load, names = JSONFileLoader.load_file, Loader.list_available_services
    kept: Dict[str, Any] = {}
    listed: Dict[Key, List[str]] = {}

    def keep(self: Any, file_path: str) -> Any:
        kept[file_path] = load(self, file_path)
        return load(self, file_path)

    def load_once(self: Any, file_path: str) -> Any:
        return kept.pop(file_path) if file_path in kept else load(self, file_path)

    def key_of(self: Any, type_name: str) -> Key:
        return (type_name, *filter(os.path.isdir, self.search_paths))

    def keep_names(self: Any, type_name: str) -> List[str]:
        return listed.setdefault(key_of(self, type_name), names(self, type_name))

    def names_once(self: Any, type_name: str) -> List[str]:
        key = key_of(self, type_name)
        return listed.pop(key) if key in listed else names(self, type_name)

    JSONFileLoader.load_file, Loader.list_available_services = keep, keep_names
    _remember()
    use()
    JSONFileLoader.load_file, Loader.list_available_services = load_once, names_once


def _serve(requests: socket.socket, imported: Dict[str, str]) -> Optional[Dict[str, Any]]:
    """Forks for each request. Returns the request in the child, and None in the server at the end of the tests.

    ``imported``: the environment variables that imports have set.
    """
    requests.sendall(b"!")  # ready
    with selectors.DefaultSelector() as selector:
        selector.register(requests, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is not requests:
                    selector.unregister(key.fd)
                    os.close(key.fd)
                    _report(*key.data)
                    continue
                size, descriptors, _, _ = socket.recv_fds(requests, 4, 4)
                if not size:
                    return None
                job: Dict[str, Any] = json.loads(_receive(requests, int.from_bytes(size, "big")))
                pid = os.fork()
                if not pid:
                    _become({**job, "env": {**imported, **job["env"]}}, descriptors[:3])
                    return job
                for descriptor in descriptors[:3]:
                    os.close(descriptor)
                os.write(descriptors[3], pid.to_bytes(4, "big"))
                selector.register(os.pidfd_open(pid), selectors.EVENT_READ, (pid, descriptors[3]))


def _report(pid: int, control: int) -> None:
    """Tells the exit code of a run that has ended."""
    _, status = os.waitpid(pid, 0)
    with contextlib.suppress(BrokenPipeError):
        os.write(control, os.waitstatus_to_exitcode(status).to_bytes(4, "big", signed=True))
    os.close(control)


def _become(job: Dict[str, Any], streams: List[int]) -> None:
    """Gives this process the streams, environment, working directory and arguments of a run."""
    for number, descriptor in enumerate(streams):
        os.dup2(descriptor, number)
    locale = os.environ.get("LC_CTYPE")  # Python sets it where no variable names a locale
    os.environ.clear()
    os.environ.update(job["env"])
    if locale:
        os.environ["LC_CTYPE"] = locale
    os.chdir(job["cwd"])
    sys.argv = [sys.argv[1], *job["arguments"]]


if __name__ == "__main__":
    before = dict(os.environ)
    code = _load(sys.argv[1])
    imported = {name: value for name, value in os.environ.items() if name not in before}
    gc.collect()
    gc.freeze()
    if _serve(socket.socket(fileno=int(sys.argv[2])), imported) is not None:
        for number in map(int, os.listdir("/proc/self/fd")):
            if number > 2:
                with contextlib.suppress(OSError):  # that of the listing itself
                    os.close(number)
        main = ModuleType("__main__")
        main.__file__ = sys.argv[0]
        sys.modules["__main__"] = main
        exec(code, main.__dict__)
