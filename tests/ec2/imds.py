"""An instance metadata service (IMDSv2) on 127.0.0.1."""

import json
import secrets
import threading
import time
from typing import Callable, Dict, List, Optional

from .transport import Transport
from .wire import Reply, Request

TOKEN_PATH = "/latest/api/token"
TTL_HEADER = "X-aws-ec2-metadata-token-ttl-seconds"
TOKEN_HEADER = "X-aws-ec2-metadata-token"
MODES = ("ok", "black hole", "garbage", "reset")
"""Others are a status that is answered to everything: "404", "503"."""


class TemporaryFailure:
    """A mode that lasts for a number of requests, or for a time from the first one."""

    def __init__(self, mode: str, requests: Optional[int], seconds: Optional[float], path: str) -> None:
        self._mode, self._left, self._seconds, self._path = mode, requests, seconds, path
        self._ends: Optional[float] = None
        self._lock = threading.Lock()

    def take(self, path: str, usual: str) -> str:
        """The mode for a request."""
        if not path.endswith(self._path):
            return usual
        with self._lock:
            if self._left is not None:
                self._left -= 1
                return self._mode if self._left >= 0 else usual
            if self._ends is None:
                self._ends = time.monotonic() + (self._seconds or 0.0)
            return self._mode if time.monotonic() < self._ends else usual


class Imds:
    """Answers as IMDSv2 does: a PUT gives a token, a GET needs it.

    `mode`: "ok"; "black hole" accepts and never answers; "garbage"; "reset"; or a status, as "404".
    """

    def __init__(
        self, instance: str, region: str, role: str = "fence", port: int = 0, host: str = "127.0.0.1"
    ) -> None:
        self.role = role
        self.mode = "ok"
        self.slow = 0.0
        """Seconds before each answer."""
        self.v1 = False
        """Whether it answers without a token too."""
        self.uses: Optional[int] = None
        """For how many requests a token is good; None: any number."""
        self._temporary_failure: Optional[TemporaryFailure] = None
        self.paths: List[str] = []
        """What was asked for, as "PUT /latest/api/token"."""
        self.tokens: Dict[str, int] = {}
        self._used: Dict[str, int] = {}
        self.values: Dict[str, str] = {
            "/latest/meta-data/instance-id": instance,
            "/latest/meta-data/placement/region": region,
            "/latest/meta-data/placement/availability-zone": region + "a",
        }
        self._transport = Transport(self._answer, port, host=host)

    @property
    def endpoint(self) -> str:
        """http://127.0.0.1:port, for AWS_EC2_METADATA_SERVICE_ENDPOINT among others."""
        return self._transport.endpoint

    def credentials(self, access_key: str, secret_key: str, token: str, expiration: str) -> None:
        """Offers a role's credentials; expiration as 2030-01-01T00:00:00Z."""
        base = "/latest/meta-data/iam/security-credentials/"
        self.values[base] = self.role
        self.values[base + self.role] = json.dumps(
            {
                "Code": "Success",
                "LastUpdated": "2020-01-01T00:00:00Z",
                "Type": "AWS-HMAC",
                "AccessKeyId": access_key,
                "SecretAccessKey": secret_key,
                "Token": token,
                "Expiration": expiration,
            }
        )

    def fail_temporarily(
        self, mode: str, requests: Optional[int] = None, seconds: Optional[float] = None, path: str = ""
    ) -> None:
        """Is in this mode for so many requests, or seconds from the first one; only for paths that end so."""
        self._temporary_failure = TemporaryFailure(mode, requests, seconds, path)

    def revoke(self) -> None:
        """No token of before is good any longer, as after a restart of the service."""
        self.tokens.clear()

    def __enter__(self) -> "Imds":
        self._transport.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._transport.stop()

    def _answer(self, request: Request, send: Callable[[Reply], None]) -> None:
        self.paths.append(f"{request.method} {request.target}")
        time.sleep(self.slow)
        mode = self._temporary_failure.take(request.target, self.mode) if self._temporary_failure else self.mode
        if mode == "black hole":
            send(Reply(200, b"", mode="stall"))
        elif mode == "reset":
            send(Reply(200, b"", mode="reset"))
        elif mode.isdigit():
            send(Reply(int(mode), b"<html>not now</html>"))
        elif mode == "garbage":
            send(Reply(200, b"\x00\xff<html>not metadata"))
        else:
            send(self._metadata(request))

    def _metadata(self, request: Request) -> Reply:
        if request.target == TOKEN_PATH:
            return self._token(request)
        token = request.headers.get(TOKEN_HEADER)
        if token not in self.tokens and not (token is None and self.v1):
            return Reply(401, b"Unauthorized")
        if token and self.uses is not None:
            self._used[token] = self._used.get(token, 0) + 1
            if self._used[token] > self.uses:
                return Reply(401, b"Unauthorized")
        path = request.target
        value = self.values.get(path, self.values.get(path + "/"))
        return Reply(404, b"Not Found") if value is None else Reply(200, value.encode())

    def _token(self, request: Request) -> Reply:
        ttl = request.headers.get(TTL_HEADER) or ""
        if request.method != "PUT":
            return Reply(405, b"Method Not Allowed")
        if not ttl.isdigit() or not 1 <= int(ttl) <= 21600:
            return Reply(400, b"Bad Request")
        token = secrets.token_urlsafe(40)
        self.tokens[token] = int(ttl)
        return Reply(200, token.encode())
