"""Programs that a shell starts by name, each run of which is forked from an interpreter that has loaded it.

A program is a small file that hands its arguments, environment, working directory and streams to this process, which
has a fork server for it, and that ends as the run ends. If it is killed, so is the run.
"""

import contextlib
import json
import os
import select
import shlex
import signal
import socket
import threading
from pathlib import Path
from typing import Dict

from fork_server import ForkServers, _receive

CLIENT = """
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as server:
    server.connect("\\0" + sys.argv[1])
    job = {"program": sys.argv[2], "arguments": sys.argv[3:], "env": dict(os.environ), "cwd": os.getcwd()}
    job = json.dumps(job).encode()
    socket.send_fds(server, [len(job).to_bytes(4, "big")], [0, 1, 2])
    server.sendall(job)
    told = server.recv(4)
code = int.from_bytes(told, "big", signed=True)
if len(told) < 4:
    sys.exit("the run has no end")
if code < 0:
    os.kill(os.getpid(), -code)
os._exit(code)
"""


class Programs:
    """The programs by name; a context manager."""

    def __init__(self, servers: Dict[str, ForkServers], folder: Path) -> None:
        self._servers = servers
        self._name = f"fence_aws_vpc_net-{os.getpid()}-{id(self)}"
        self._client = folder / "client.py"
        self._socket = socket.socket(socket.AF_UNIX)

    def __enter__(self) -> "Programs":
        self._client.write_text(CLIENT, encoding="ascii")
        self._socket.bind(f"\0{self._name}")
        self._socket.listen(16)
        threading.Thread(target=self._listen, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def command(self, program: str) -> str:
        """The beginning of a command of a shell, before the program's arguments."""
        words = ("/usr/bin/python3", "-I", "-S", str(self._client), self._name, program)
        return " ".join(map(shlex.quote, words))

    def install(self, program: str, folder: Path) -> Path:
        """A file of the program's name in this folder, to be executed."""
        file = folder / program
        file.write_text(f'#!/bin/sh\nexec {self.command(program)} "$@"\n', encoding="utf-8")
        file.chmod(0o755)
        return file

    def _listen(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:  # closed
                return
            threading.Thread(target=self._run, args=(connection,), daemon=True).start()

    def _run(self, connection: socket.socket) -> None:
        with connection:
            size, streams, _, _ = socket.recv_fds(connection, 4, 3)
            job = json.loads(_receive(connection, int.from_bytes(size, "big")))
            stdin, stdout, stderr = streams
            servers = self._servers[job["program"]]
            with servers.begin(job["arguments"], job["env"], job["cwd"], (stdin, stdout, stderr)) as control:
                _, (pidfd,), _, _ = socket.recv_fds(control, 4, 1)  # its process ID, and a descriptor
                if control not in select.select([control, connection], [], [])[0]:
                    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                os.close(pidfd)
                code = _receive(control, 4)
            with contextlib.suppress(BrokenPipeError):
                connection.sendall(code)
