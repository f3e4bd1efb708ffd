"""An instance metadata service (IMDSv2) on 127.0.0.1."""

import json
import secrets
from types import TracebackType
from typing import Callable, Dict, List, Optional, Type

from .transport import Transport
from .wire import Reply, Request

TOKEN_PATH = "/latest/api/token"
TTL_HEADER = "X-aws-ec2-metadata-token-ttl-seconds"
TOKEN_HEADER = "X-aws-ec2-metadata-token"
MODES = ("ok", "black hole", "404", "garbage", "reset")


class Imds:
    """Answers as IMDSv2 does: a PUT gives a token, a GET needs it.

    `mode`: "ok"; "black hole" accepts and never answers; "404"; "garbage"; "reset".
    """

    def __init__(
        self, instance: str, region: str, role: str = "fence", port: int = 0, host: str = "127.0.0.1"
    ) -> None:
        self.role = role
        self.mode = "ok"
        self.paths: List[str] = []
        """What was asked for, as "PUT /latest/api/token"."""
        self.tokens: Dict[str, int] = {}
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

    def __enter__(self) -> "Imds":
        self._transport.start()
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self._transport.stop()

    def _answer(self, request: Request, send: Callable[[Reply], None]) -> None:
        self.paths.append(f"{request.method} {request.target}")
        if self.mode == "black hole":
            send(Reply(200, b"", mode="stall"))
        elif self.mode == "reset":
            send(Reply(200, b"", mode="reset"))
        elif self.mode == "404":
            send(Reply(404, b"Not Found"))
        elif self.mode == "garbage":
            send(Reply(200, b"\x00\xff<html>not metadata"))
        else:
            send(self._metadata(request))

    def _metadata(self, request: Request) -> Reply:
        if request.target == TOKEN_PATH:
            return self._token(request)
        if request.headers.get(TOKEN_HEADER) not in self.tokens:
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
