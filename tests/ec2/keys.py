"""Access keys, signatures and permissions."""

import calendar
import fnmatch
import hmac
import re
import time
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Optional, Tuple

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from .policy import Access, Policy
from .wire import ApiError, Call, Request

AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256\s+Credential=(?P<key>[^/,\s]+)/(?P<day>\d{8})/(?P<region>[^/]+)/(?P<service>[^/]+)"
    r"/aws4_request,\s*SignedHeaders=(?P<headers>[^,\s]+),\s*Signature=(?P<signature>[0-9a-f]+)"
)
CLOCK_SKEW = 300.0
"""Seconds that a request's time may be off, as in EC2."""


@dataclass
class AccessKey:
    """An access key and its permissions.  Everything is allowed until denied or limited."""

    access_key: str
    secret_key: str
    session_token: Optional[str] = None
    expired: bool = False
    denied: List[Tuple[str, Optional[str], str]] = field(default_factory=list)
    """(action pattern, resource ID or None for every resource, why in EC2's words or "")."""
    allowed: Optional[List[str]] = None
    """Action patterns; None allows all."""
    policy: Optional[Policy] = None
    """A policy document, beside the others; None allows all."""

    def deny(self, action: str, resource: Optional[str] = None, *, why: str = "") -> None:
        """Denies e.g. "ec2:CreateTags" or "ec2:Describe*", on one resource ID only where given.

        ``why`` is the end of EC2's sentence, as "with an explicit deny in a service control policy" or "because no
        permissions boundary allows the ec2:CreateTags action"; without it no identity-based policy allows it.
        """
        self.denied.append((action, resource, why))

    def allow_only(self, *actions: str) -> None:
        """Allows these action patterns and nothing else."""
        self.allowed = list(actions)

    def attach(self, document: str) -> None:
        """Allows what this policy document (JSON) allows, and nothing else."""
        self.policy = Policy(document)

    def permit_all(self) -> None:
        """Removes all denials, limits and policies."""
        self.denied.clear()
        self.allowed = self.policy = None

    def refusal(self, call: Call, accesses: Callable[[], List[Access]]) -> Optional[str]:
        """Why the key may not make the call, in EC2's words; None if it may. `accesses` are those of the call."""
        name = f"{call.service}:{call.action}"
        lacking = f"because no identity-based policy allows the {name} action"
        if self.allowed is not None and not any(fnmatch.fnmatchcase(name, p) for p in self.allowed):
            return lacking
        if self.policy is not None and not all(self.policy.allows(access) for access in accesses()):
            return lacking
        values = set(call.params.values())
        for pattern, resource, why in self.denied:
            if fnmatch.fnmatchcase(name, pattern) and (resource is None or resource in values):
                return why or lacking
        return None


@dataclass
class Scope:
    """The credential scope of a request."""

    key_id: str = ""
    region: str = ""
    service: str = "ec2"


def scope_of(request: Request) -> Scope:
    """Reads the scope from the Authorization header, empty where there is none."""
    match = AUTHORIZATION.match(request.headers.get("Authorization", ""))
    return Scope(match["key"], match["region"], match["service"]) if match else Scope()


class Keyring:
    """The known access keys."""

    def __init__(self) -> None:
        self._keys: Dict[str, AccessKey] = {}
        self.verify = True
        """False accepts any signature of a known key."""

    def add(self, key: AccessKey) -> AccessKey:
        """Adds or replaces a key."""
        self._keys[key.access_key] = key
        return key

    def remove(self, access_key: str) -> None:
        """Removes a key."""
        self._keys.pop(access_key, None)

    def clear(self) -> None:
        """Removes all keys."""
        self._keys.clear()

    def __getitem__(self, access_key: str) -> AccessKey:
        return self._keys[access_key]

    def authenticate(self, request: Request) -> AccessKey:
        """The key that signed the request, or the error that EC2 (or STS) would answer."""
        match = AUTHORIZATION.match(request.headers.get("Authorization", ""))
        if not match:
            raise ApiError("MissingAuthenticationToken", "Request is missing Authentication Token", 403)
        key = self._keys.get(match["key"])
        if key is None:
            raise _rejected(match["service"], "unknown")
        if (request.headers.get("X-Amz-Security-Token") or None) != key.session_token:
            raise _rejected(match["service"], "unknown")
        if self.verify and not hmac.compare_digest(_signature(request, match, key), match["signature"]):
            raise _rejected(match["service"], "signature")
        if key.expired or _skew(request) > CLOCK_SKEW:
            raise _rejected(match["service"], "expired")
        return key

    @staticmethod
    def authorize(key: AccessKey, call: Call, account: str, accesses: Callable[[], List[Access]]) -> None:
        """Raises UnauthorizedOperation where the key may not make the call, with the words of public threads.

        A refusal to read names no resource, and has no encoded message; one to change something has both. STS says
        the same without the first sentence.
        """
        why = key.refusal(call, accesses)
        if why is None:
            return
        user = f"User: arn:aws:iam::{account}:user/fence is not authorized to perform: {call.service}:{call.action}"
        if call.service == "sts":
            raise ApiError("AccessDenied", f"{user} on resource: {call.params.get('RoleArn', '*')} {why}", 403)
        resource = accesses()[0].resource
        where = "" if resource == "*" else f" on resource: {resource}"
        encoded = "" if resource == "*" else f". Encoded authorization failure message: {'eNcoDed-0l_' * 60}"
        text = f"You are not authorized to perform this operation. {user}{where} {why}{encoded}"
        raise ApiError("UnauthorizedOperation", text, 403)


def _rejected(service: str, why: str) -> ApiError:
    if service == "sts":
        return {
            "unknown": ApiError("InvalidClientTokenId", "The security token included in the request is invalid", 403),
            "signature": ApiError(
                "SignatureDoesNotMatch",
                "The request signature we calculated does not match the signature you provided.",
                403,
            ),
            "expired": ApiError("ExpiredToken", "The security token included in the request is expired", 403),
        }[why]
    if why == "expired":
        return ApiError("RequestExpired", "Request has expired.", 400)
    return ApiError("AuthFailure", "AWS was not able to validate the provided access credentials", 401)


def _skew(request: Request) -> float:
    """Seconds between the request's time and now."""
    try:
        stamp = calendar.timegm(time.strptime(request.headers.get("X-Amz-Date", ""), "%Y%m%dT%H%M%SZ"))
    except ValueError:
        return float("inf")
    return abs(time.time() - stamp)


def _signature(request: Request, match: Any, key: AccessKey) -> str:
    """The signature that the holder of the key would have made."""
    headers = {
        name: request.headers[name] for name in match["headers"].split(";") if request.headers.get(name) is not None
    }
    url = "http://" + request.headers.get("Host", "") + request.target
    signed = AWSRequest(method=request.method, url=url, data=request.body, headers=headers)
    # Where botocore keeps the timestamp and what it signs with differs by version; both are set.
    signed.context["timestamp"] = request.headers.get("X-Amz-Date", "")
    signed.context["signing"] = {}
    auth = SigV4Auth(Credentials(key.access_key, key.secret_key), match["service"], match["region"])
    text = auth.string_to_sign(signed, auth.canonical_request(signed))
    return str(auth.signature(text, signed))
