"""Requests as calls, and replies and errors in EC2's XML."""

import re
import time
import uuid
from dataclasses import dataclass, field
from email.message import Message
from typing import Callable, Dict, List, Optional
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

NAMESPACE = "http://ec2.amazonaws.com/doc/2016-11-15"
XML_HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n'


class ApiError(Exception):
    """A refusal: EC2's error code, message and HTTP status."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status


class Abort(Exception):
    """Ends a call without an answer; `mode` is a Reply mode."""

    def __init__(self, mode: str) -> None:
        super().__init__(mode)
        self.mode = mode


@dataclass
class Request:
    """One HTTP request as it arrived."""

    method: str
    target: str
    headers: "Message[str, str]"
    body: bytes
    port: int
    """Port of the client, which identifies the connection."""
    is_current: Callable[[], bool] = lambda: True
    """Whether its connection was not closed by the server since, as a reset does: such a request has no effect."""


@dataclass
class Reply:
    """What to send and how.

    mode: "whole"; "lost" (close without a byte); "reset" (RST); "stall" (never a byte); "trickle"
    (one byte each `pause` seconds); "truncated" (announce the whole length, send the body given, close).
    """

    status: int
    body: bytes
    code: Optional[str] = None
    mode: str = "whole"
    pause: float = 1.0
    length: Optional[int] = None
    """Content-Length to announce, where it is not the body's."""
    request_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    content_type: str = "text/xml;charset=UTF-8"


@dataclass
class Call:
    """The record of one call.  `status` and `error` say what the call was answered (or would have been)."""

    number: int
    """From 1, in order of arrival."""
    action: str
    params: Dict[str, str]
    """Flat, as in the request: {"InstanceId.1": "i-…"}; without Action and Version."""
    port: int
    service: str = ""
    region: str = ""
    key_id: str = ""
    user_agent: str = ""
    at: float = field(default_factory=time.monotonic)
    """time.monotonic() of the arrival, seconds."""
    ended: Optional[float] = None
    """time.monotonic() when the reply was decided; None while the call is in progress."""
    status: Optional[int] = None
    error: Optional[str] = None
    outcome: str = "pending"
    """How the reply went: pending, whole, lost, reset, stall, trickle, truncated."""
    took_effect: bool = False
    """The call passed all checks and (for a change) changed the world."""

    def listing(self, name: str) -> List[str]:
        """Values of `name.1`, `name.2`, … in order."""
        return [self.params[key] for key in sorted(self._keys(name), key=_ordinal)]

    def _keys(self, name: str) -> List[str]:
        return [key for key in self.params if re.fullmatch(re.escape(name) + r"\.\d+", key)]

    def records(self, name: str) -> List[Dict[str, str]]:
        """`Tag.1.Key=a, Tag.1.Value=b` as [{"Key": "a", "Value": "b"}], in order."""
        found: Dict[int, Dict[str, str]] = {}
        for key, value in self.params.items():
            match = re.fullmatch(re.escape(name) + r"\.(\d+)\.(.+)", key)
            if match:
                found.setdefault(int(match.group(1)), {})[match.group(2)] = value
        return [found[number] for number in sorted(found)]

    def flag(self, name: str) -> bool:
        """A boolean parameter; false where absent."""
        return self.params.get(name, "false").lower() == "true"

    @property
    def reads(self) -> bool:
        """Whether the action only reads."""
        return self.action.startswith(("Describe", "Get", "List"))


def _ordinal(key: str) -> int:
    return int(key.rsplit(".", 1)[1])


def parse_params(request: Request) -> Dict[str, str]:
    """All parameters, from the query string and from the form body."""
    query = request.target.partition("?")[2]
    pairs = parse_qsl(query, keep_blank_values=True)
    pairs += parse_qsl(request.body.decode("utf-8", "replace"), keep_blank_values=True)
    return dict(pairs)


def error_reply(error: ApiError, service: str = "ec2") -> Reply:
    """The error in the XML of the service."""
    reply = Reply(error.status, b"", error.code)
    code, message = escape(error.code), escape(error.message)
    if service == "sts":
        text = (
            '<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type>'
            f"<Code>{code}</Code><Message>{message}</Message></Error>"
            f"<RequestId>{reply.request_id}</RequestId></ErrorResponse>"
        )
    else:
        text = (
            f"<Response><Errors><Error><Code>{code}</Code><Message>{message}</Message></Error></Errors>"
            f"<RequestID>{reply.request_id}</RequestID></Response>"
        )
    reply.body = (XML_HEAD + text).encode()
    return reply


def success_reply(action: str, inner: str = "<return>true</return>") -> Reply:
    """A success with the given XML inside."""
    reply = Reply(200, b"")
    text = (
        f'<{action}Response xmlns="{NAMESPACE}"><requestId>{reply.request_id}</requestId>{inner}</{action}Response>'
    )
    reply.body = (XML_HEAD + text).encode()
    return reply
