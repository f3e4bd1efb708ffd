"""The client of the instance metadata service: for the instance ID, the region and the credentials of the role.

The SDK gets its credentials through this module too, so that one set of settings, those of the SDK, applies to all
three. No proxy is ever used. Transient errors (throttling, 5xx, a broken connection) are worth waiting for; permanent
ones (no such service, no role) are reported soon.
"""

from __future__ import annotations

import datetime
import json
import logging
import os
import re
import socket
import threading
import time
from dataclasses import dataclass
from typing import Any, Callable, Dict, Optional, Set, Tuple, TypeVar
from urllib.parse import urlsplit

from . import logs
from .deadline import backoff, call_with_timeout

log = logging.getLogger(__name__)

# The SDK's own names and defaults.
ENDPOINTS = {"ipv4": "http://169.254.169.254", "ipv6": "http://[fd00:ec2::254]"}
DISABLED = "AWS_EC2_METADATA_DISABLED"
ROLE = "iam/security-credentials/"
FIELDS = {"access_key": "AccessKeyId", "secret_key": "SecretAccessKey", "token": "Token", "expiry_time": "Expiration"}

TOKEN_SECONDS = 300
PATIENCE_SECONDS = 2.0  # how long a service that shows no sign of life is asked for what cannot be done without
EXPIRES_SOON = datetime.timedelta(minutes=20)  # the SDK asks again when 15 minutes are left

_TOKEN = re.compile(r"[\x21-\x7e]+")
_ROLE_NAME = re.compile(r"[\w+=,.@-]+")

T = TypeVar("T")

_living: Set[str] = set()  # endpoints that have answered, also with an error; the client may be created again


class ImdsError(Exception):
    """A permanent error of the metadata service; ``str()`` is the reason."""


class Silent(ImdsError):
    """There is no sign of a metadata service, or what answers makes no sense."""


class Stumbles(ImdsError):
    """There is one, and it fails for the moment."""


@dataclass(frozen=True)
class ImdsSettings:
    """The settings of the SDK for the service.

    Attributes:
        problem: why the service cannot be used; empty if it can.
        v1: are requests without a token allowed, if the service has no tokens?
    """

    endpoint: str
    seconds: float = 1.0
    attempts: int = 1
    v1: bool = True
    problem: str = ""


def settings_of(core: Any) -> ImdsSettings:
    """The settings in environment and configuration file that a botocore session goes by.

    They apply also with older SDKs that lack some of them.
    """
    scoped = core.get_scoped_config()

    def given(name: str, variable: str) -> str:
        return str(os.environ.get(variable) or scoped.get(name) or "").strip()

    def number(name: str) -> float:
        try:
            return float(core.get_config_variable(name) or 1)
        except ValueError:  # the SDK refuses it too, as soon as it needs it
            return 1.0

    def flag(name: str, variable: str) -> bool:
        return given(name, variable).lower() == "true"

    mode = given("ec2_metadata_service_endpoint_mode", "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE").lower()
    mode = mode or ("ipv6" if flag("imds_use_ipv6", "AWS_IMDS_USE_IPV6") else "ipv4")
    endpoint = given("ec2_metadata_service_endpoint", "AWS_EC2_METADATA_SERVICE_ENDPOINT") or ENDPOINTS.get(mode, "")
    problem = "" if _is_address(endpoint) else "ec2_metadata_service_endpoint is no http(s)://host[:port]"
    if not endpoint:
        problem = "ec2_metadata_service_endpoint_mode is neither IPv4 nor IPv6"
    if os.environ.get(DISABLED, "").lower() == "true":
        problem = f"switched off by {DISABLED}"
    return ImdsSettings(
        endpoint,
        seconds=max(0.1, number("metadata_service_timeout")),
        attempts=int(max(1, number("metadata_service_num_attempts"))),
        v1=not flag("ec2_metadata_v1_disabled", "AWS_EC2_METADATA_V1_DISABLED"),
        problem=problem,
    )


def _is_address(endpoint: str) -> bool:
    try:
        parts = urlsplit(endpoint)
        written = re.fullmatch(r"[!-~]+", endpoint)
        return bool(written and parts.scheme in ("http", "https") and parts.hostname and parts.port != 0)
    except ValueError:
        return False


class Imds:
    """The instance metadata service (IMDSv2; version 1 if the service supports no other).

    Attributes:
        settings: of the requests.
        problem: why a request for credentials failed.
    """

    def __init__(self, settings: ImdsSettings) -> None:
        self.settings = settings
        self.problem = ""
        self._tokenless = False  # did it answer without a token?
        self._begun = False  # has a reply begun, in the attempt under way?
        self._token: Optional[str] = None
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        """For messages."""
        return f"the instance metadata service {self.settings.endpoint}"

    def without_proxy(self) -> None:
        """Keep the SDK itself from asking through a proxy of the environment, which it may do for its defaults."""
        try:
            parts = urlsplit(self.settings.endpoint)
        except ValueError:
            return
        host = parts.hostname or ""
        given = (os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or "").split(",")
        if given != ["*"]:
            names = [*given, host, f"[{host}]" if ":" in host else "", parts.netloc]
            os.environ["no_proxy"] = ",".join(dict.fromkeys(name for name in names if name))

    def ask(self, path: str, read: Callable[[str], T], *, patience: float, stumbles: float = 0.0) -> T:
        """The reply of the service for a path below ``meta-data``.

        Args:
            read: converts the text; a ValueError if it is invalid.
            patience: seconds of retries if the service does not answer.
            stumbles: seconds of retries after transient errors.

        Raises:
            ImdsError: the request failed permanently.
        """
        if self.settings.problem:
            raise ImdsError(self.settings.problem)
        began = time.monotonic()
        for count, pause in enumerate(backoff(0.2, 1.0), 1):
            try:
                return read(self._once(path))
            except ValueError as error:
                failure: ImdsError = Silent(f"no metadata but {error}")
            except ImdsError as error:
                failure = error
            log.debug("no %s from %s: %s", path, self.settings.endpoint, failure)
            transient, silent = isinstance(failure, Stumbles), isinstance(failure, Silent)
            enough = time.monotonic() - began >= (stumbles if transient else patience if silent else 0.0)
            if enough and (transient or count >= self.settings.attempts):
                raise failure
            time.sleep(pause)
        raise AssertionError("backoff never ends")

    def role_credentials(self) -> Dict[str, str]:
        """The credentials of the role of the instance, for the SDK; empty if it has none.

        Raises:
            Stumbles: for the moment.
        """
        if self.problem:  # the SDK asks twice before it gives up
            return {}
        try:
            role = self.ask(ROLE, _role_name, patience=PATIENCE_SECONDS)
            credentials = self.ask(f"{ROLE}{role}", _credentials, patience=PATIENCE_SECONDS)
        except Stumbles:
            raise
        except ImdsError as error:
            self.problem = str(error)
            return {}
        logs.register_secrets(credentials["secret_key"], credentials["token"])
        return {"role_name": role, **credentials}

    def _once(self, path: str) -> str:
        """One attempt, also bounded where a reply trickles in byte by byte."""
        self._begun = False
        done, answer = call_with_timeout(lambda: self._get(path), 2 * self.settings.seconds + 0.5)
        if not done:
            answer = Silent("no complete reply")
        slow = not done or isinstance(answer, _NoReply)
        if isinstance(answer, Silent) and (self.settings.endpoint in _living or (slow and self._begun)):
            answer = Stumbles(str(answer))
        if isinstance(answer, BaseException):
            raise answer
        return str(answer)

    def _get(self, path: str) -> str:
        with self._lock:
            token, self._token = self._token, None
        status, text = self._request_with(token, path) if token or self._tokenless else (401, "")
        if status == 401:  # there is no token, or it is good no longer
            token = self._new_token()
            status, text = self._request_with(token, path)
        if status == 200:
            _living.add(self.settings.endpoint)
            self._tokenless = not token
            with self._lock:
                self._token = token
            return text
        if status == 401 and not token:
            raise Silent("no token, without which it says nothing; is its hop limit too small?")
        raise self._failure(status, f"no {path}" if status == 404 else "")

    def _request_with(self, token: Optional[str], path: str) -> Tuple[int, str]:
        return self._request("GET", f"/latest/meta-data/{path}", {"X-aws-ec2-metadata-token": token or ""})

    def _new_token(self) -> Optional[str]:
        """None where the service gives none, or where its answer is lost, as behind one hop too many."""
        headers = {"X-aws-ec2-metadata-token-ttl-seconds": str(TOKEN_SECONDS)}
        try:
            status, text = self._request("PUT", "/latest/api/token", headers)
        except _NoReply:
            if not self.settings.v1:
                raise
            return None
        if status in (403, 404, 405, 501) and self.settings.v1:
            return None
        if status != 200:
            raise self._failure(status)
        if not _TOKEN.fullmatch(text):
            raise Silent("no metadata but an unreadable token")
        return text

    def _failure(self, status: int, more: str = "") -> ImdsError:
        if status == 429 or status >= 500:
            _living.add(self.settings.endpoint)
            return Stumbles(f"HTTP {status}")
        return ImdsError(f"HTTP {status}{f', {more}' if more else ''}")

    def _request(self, method: str, path: str, headers: Dict[str, str]) -> Tuple[int, str]:
        """Status and text. The connection is made directly: this module of the library knows no proxies."""
        import http.client

        parts = urlsplit(self.settings.endpoint)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        # With its port, or the end of an IPv6 address is taken for one.
        port = parts.port or kind.default_port
        connection = kind(str(parts.hostname), port, timeout=self.settings.seconds)
        try:
            connection.connect()
        except ConnectionResetError as error:
            raise Stumbles("connection reset") from error
        except OSError as error:
            raise Silent(f"cannot connect: {error.strerror or error}") from error
        try:
            sent = {name: value for name, value in headers.items() if value}
            connection.request(method, parts.path.rstrip("/") + path, headers={"Connection": "close", **sent})
            reply = connection.getresponse()
            self._begun = True
            return reply.status, reply.read(65536).decode(errors="replace").strip()
        except socket.timeout as error:
            raise _NoReply("no reply") from error
        except (OSError, http.client.HTTPException) as error:
            _living.add(self.settings.endpoint)
            raise Stumbles(f"connection broken: {error or type(error).__name__}") from error
        finally:
            connection.close()


class _NoReply(Silent):
    """It took the request."""


class Fetcher:
    """Replaces the metadata client of the SDK by that of this module."""

    def __init__(self, imds: Imds, note: Callable[[], None]) -> None:
        self._imds = imds
        self._note = note

    def retrieve_iam_role_credentials(self) -> Dict[str, str]:
        """As the SDK's."""
        self._note()
        return self._imds.role_credentials()


def _role_name(text: str) -> str:
    name = text.split("\n", maxsplit=1)[0].strip()
    if not _ROLE_NAME.fullmatch(name):
        raise ValueError("an unreadable role")
    return name


def _credentials(text: str) -> Dict[str, str]:
    try:
        given = json.loads(text)
    except ValueError as error:
        raise ValueError("unreadable credentials") from error
    if not isinstance(given, dict) or not all(isinstance(given.get(name), str) for name in FIELDS.values()):
        code, why = (str(given.get(k, "")) if isinstance(given, dict) else "" for k in ("Code", "Message"))
        raise ValueError(f"incomplete credentials ({code}: {why})" if code else "incomplete credentials")
    fields = {name: str(given[key]) for name, key in FIELDS.items()}
    return {**fields, "expiry_time": _expiry(fields["expiry_time"])}


def _expiry(given: str) -> str:
    """When the SDK is to ask again: not in the middle of a run, which is shorter than they are good for.

    The service gives the same ones until minutes before they expire, and later ones only while it works: asking at
    each call, as the SDK does in these minutes, gains nothing and may fail.
    """
    form = "%Y-%m-%dT%H:%M:%SZ"
    now = datetime.datetime.now(datetime.timezone.utc)
    try:
        ends = datetime.datetime.strptime(given, form).replace(tzinfo=datetime.timezone.utc)
    except ValueError:
        return given
    return max(ends, now + EXPIRES_SOON).strftime(form)
