"""The EC2 that both talk to, in a process of its own, so that its work is in nobody's time but its own."""

import multiprocessing
import re
import tempfile
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Dict, List, Tuple

PAGE = 1000


class Emulator:
    """Starts the process, and calls the methods of ``Service`` there: ``emulator("delay", 0.05)``."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._here, there = context.Pipe()
        self._process = context.Process(target=serve, args=(there,), daemon=True)

    def __enter__(self) -> "Emulator":
        self._process.start()
        return self

    def __call__(self, method: str, *arguments: Any) -> Any:
        self._here.send((method, arguments))
        answer = self._here.recv()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def __exit__(self, *_: object) -> None:
        self._here.close()
        self._process.join(10)


def serve(connection: Connection) -> None:
    """The other process."""
    from ec2 import Ec2Server

    with Ec2Server() as server, tempfile.TemporaryDirectory() as folder:
        service = Service(server, Path(folder))
        while True:
            try:
                method, arguments = connection.recv()
            except EOFError:
                return
            try:
                connection.send(getattr(service, method)(*arguments))
            except Exception as error:  # noqa: BLE001 - it is raised again where it was asked for
                connection.send(error)


class Service:
    """What can be asked for."""

    def __init__(self, server: Any, folder: Path) -> None:
        from ec2.proxy import certificate
        from ec2.transport import TlsTransport

        self.server = server
        self.pem = certificate(folder, "127.0.0.1")
        self.tls = TlsTransport(server._answer, self.pem)
        self.tls.start()
        self.account = 0
        self._canned: Dict[str, bytes] = {}
        server.keys.verify = False  # to check signatures would take as long as all else
        server.config.groups_per_interface = 16

    def place(self) -> Dict[str, str]:
        """Where and what it is."""
        server = self.server
        return {
            "http": server.endpoint,
            "https": self.tls.endpoint,
            "pem": self.pem.read_text(encoding="ascii"),
            "region": server.region,
            "access_key": server.key.access_key,
            "secret_key": server.key.secret_key,
            "own": server.world.nodes["node3"],
            "isolation": server.world.isolation,
        }

    def node(self, interfaces: int) -> str:
        """A new instance."""
        groups = [self.server.world.groups[name] for name in ("app", "db", "ssh")]
        return str(self.server.edit.add_instance("bench", [{"groups": groups}] * interfaces))

    def delay(self, seconds: float) -> None:
        """Seconds that each call takes, beside the emulator's own."""
        from ec2 import Delay

        self.server.rules.clear()
        self.server.rules.add(None, Delay(seconds), times=None)
        self.server.rules.add("DescribeInstances", _Pages(self), times=None)

    def size(self, account: int) -> None:
        """Let the account have so many instances: pages of copies of one, made once. 0: as it is."""
        self.account, self._canned = account, {}

    def limit(self, share: float) -> None:
        """EC2's limits of calls, of which so much is left to us."""
        self.server.limits.clear()
        if share:
            self.server.limits.like_ec2(share)

    def calls(self) -> Dict[str, int]:
        """Calls by action since this was last asked, and those of them that were throttled."""
        from collections import Counter

        server = self.server
        with server._record:
            calls, server.calls = server.calls, []
        throttled = sum(c.error == "RequestLimitExceeded" for c in calls)
        return {**Counter(c.action for c in calls), **({"throttled": throttled} if throttled else {})}

    def changes(self) -> List[Tuple[float, float, str]]:
        """(when it arrived and ended, on the monotonic clock of all processes; its error or "") of each change of
        groups, since the calls were last asked for."""
        made = self.server.calls_of("ModifyNetworkInterfaceAttribute")
        return [(c.at, c.ended, c.error or "") for c in made if c.ended]

    def isolated(self, nodes: "list[str]") -> int:
        """How many of these are."""
        found = self.server.snapshot()
        only = [self.server.world.isolation]
        return sum(all(groups == only for groups in found[n]["interfaces"].values()) for n in nodes)

    def page(self, start: int, count: int, body: bytes) -> bytes:
        """A page of the account; ``body`` is the emulator's own reply, of which an instance is copied."""
        key = f"{start}+{count}"
        if key not in self._canned:
            text = body.decode()
            item = re.search(r"<reservationSet>\s*(<item>.*?</instancesSet>.*?</item>)", text, re.S)
            assert item
            one = item[1]
            old = re.search(r"<instanceId>(i-[0-9a-f]+)</instanceId>", one)
            assert old
            end = min(start + count, self.account)
            items = "".join(one.replace(old[1], f"i-{n:017x}") for n in range(start, end))
            token = f"<nextToken>{end}</nextToken>" if end < self.account else ""
            head, tail = text[: item.start(1)], "</reservationSet>" + token + "</DescribeInstancesResponse>"
            self._canned[key] = f"{head}{items}{tail}".encode()
        return self._canned[key]


class _Pages:
    """A fault of tests/ec2: replies of DescribeInstances without an instance are pages of the account."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def before(self, call: Any) -> None:
        """The token is ours, and nothing to the emulator."""
        self._start = int(call.params.pop("NextToken", 0)) if self._service.account else 0

    def after(self, call: Any, reply: Any) -> None:
        """Replaces the reply."""
        if self._service.account and reply.status == 200 and "Filter.1.Name" not in call.params:
            reply.body = self._service.page(self._start, int(call.params.get("MaxResults", PAGE)), reply.body)
