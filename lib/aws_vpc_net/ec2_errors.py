"""Translates the errors of the SDK: the meaning of EC2's error codes, and the errors of the SDK itself.

Two properties of a failed call matter: is it worth a retry (``transient``), and may it still have taken effect
(``outcome_unknown``)? A change with an unknown outcome must not be regarded as undone.
"""

from __future__ import annotations

import os
import re
import socket
from typing import TYPE_CHECKING, Any, Dict, List, Optional

from . import messages, replies
from .errors import ApiError, FenceError

if TYPE_CHECKING:
    from .ec2 import CallContext

AUTHENTICATION = frozenset(
    "AuthFailure Blocked ExpiredToken ExpiredTokenException IncompleteSignature InvalidClientTokenId "
    "MissingAuthenticationToken OptInRequired PendingVerification RequestExpired SignatureDoesNotMatch "
    "UnrecognizedClientException".split()
)
EXPLICIT_DENY = re.compile(r"\bexplicit deny\b", re.I)  # which no other policy can override
# An AuthFailure of these words is not about credentials: the caller is known, the object is not the account's own.
NOT_OWNED = re.compile(r"do not have permission to access|not authorized for|restricted resource", re.I)
WRONG_REGION = re.compile(r"scoped to a valid region", re.I)
PERMISSION = frozenset(("UnauthorizedOperation", "AccessDenied", "AccessDeniedException"))
# Refused for now, and nothing was done. All that any SDK takes for throttling, but for two that are below.
THROTTLED = frozenset(
    "BandwidthLimitExceeded EC2ThrottledException LimitExceededException ProvisionedThroughputExceededException "
    "RequestLimitExceeded RequestThrottled RequestThrottledException SlowDown ThrottledException Throttling "
    "ThrottlingException TooManyRequestsException".split()
)
# The same, since the object is busy: other tags of it are being written, an interface is still being attached.
BUSY = frozenset(("ConcurrentTagAccess", "IncorrectState"))
# Worth another try, and the call may have taken effect: the service failed on the way, or an earlier request of ours
# is still in progress.
TRANSIENT = frozenset(
    "IDPCommunicationError InternalError InternalFailure InternalServerError PriorRequestNotComplete RequestTimeout "
    "RequestTimeoutException ServiceUnavailable ServiceUnavailableException TransactionInProgressException "
    "Unavailable".split()
)
# Texts of SSL errors for which a retry does not help.
UNTRUSTED = (
    "certificate verify failed",
    "doesn't match",
    "CERTIFICATE_VERIFY_FAILED",
    "No such file",
    "WRONG_VERSION_NUMBER",
)
NOT_THE_SDK = (FenceError, MemoryError, SystemError)  # Python raises the last one too where memory is short
PROXIES = ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy")
PROXY_REFUSES = re.compile(r"Tunnel connection failed: (40[37][\w ]*)")


def from_sdk(error: BaseException, purpose: CallContext, call: str) -> ApiError:
    """Our error for one of the SDK's that has nothing to do with credentials; what is not the SDK's is raised."""
    from botocore import exceptions as sdk
    from botocore.parsers import ResponseParserError

    if isinstance(error, sdk.ClientError):
        return from_reply(dict(error.response), purpose, call)
    code = type(error).__name__
    if isinstance(error, replies.ForeignReply):
        return messages.foreign_reply(purpose, call, error.status, str(error), transient=error.transient)
    if isinstance(error, sdk.ParamValidationError):
        return messages.sdk_error(purpose.category, purpose, call, code, str(error))
    if isinstance(error, sdk.SSLError) and any(sign in str(error) for sign in UNTRUSTED):
        return messages.untrusted(purpose, call, code, str(error))
    cause = getattr(error, "kwargs", {}).get("error")
    if type(error) is sdk.HTTPClientError and isinstance(cause, ValueError):  # not of the network
        return messages.malformed_address(purpose, call, code, [name for name in PROXIES if os.environ.get(name)])
    refusal = PROXY_REFUSES.search(str(cause))
    if isinstance(error, sdk.ProxyConnectionError) and refusal:
        return messages.proxy_refuses(purpose, call, code, refusal[1])
    if isinstance(error, (sdk.EndpointConnectionError, sdk.ProxyConnectionError)) and _unknown_host(error):
        through_proxy = isinstance(error, sdk.ProxyConnectionError)
        option = "proxy" if through_proxy else "region and endpoint_url"
        return messages.unknown_host(purpose, call, code, str(error), option)
    transient = (sdk.HTTPClientError, sdk.ConnectionError, sdk.IncompleteReadError, ResponseParserError)
    if isinstance(error, transient):
        return messages.broken_connection(purpose, call, code, str(error))
    if isinstance(error, (sdk.BotoCoreError, OSError)):
        return messages.sdk_error(purpose.category, purpose, call, code, str(error), outcome_unknown=True)
    if isinstance(error, (Exception, SystemExit)) and not isinstance(error, NOT_THE_SDK):
        return messages.broken_sdk(purpose, call, code, reason(error))  # of the SDK; no code of the agent runs there
    raise error


def reason(error: BaseException) -> str:
    """The defect of the SDK; with the class of the error, if its text alone is not clear."""
    return str(error) if isinstance(error, ImportError) else f"{type(error).__name__}: {error}"


def from_reply(response: Dict[str, Any], purpose: CallContext, call: str) -> ApiError:
    """Our error for EC2's."""
    code = bare(str(response.get("Error", {}).get("Code", "")))
    text = str(response.get("Error", {}).get("Message", ""))
    status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if code in PERMISSION:
        tell = messages.denied if EXPLICIT_DENY.search(text) else messages.not_permitted
        return tell(purpose, call, code, text)
    if code == "AuthFailure" and NOT_OWNED.search(text):
        return messages.not_owned(purpose, call, code, text)
    if code in AUTHENTICATION and WRONG_REGION.search(text):
        return messages.wrong_region(purpose, call, code, text)
    if code in AUTHENTICATION:
        return messages.not_authenticated(purpose, call, code, text)
    if is_transient(code, status):
        refused = code in THROTTLED or code in BUSY or status == 429
        return messages.transient_error(purpose, call, code, text, outcome_unknown=not refused)
    return messages.refused(purpose, call, code, text)


def bare(code: str) -> str:
    """The code without the prefix that older APIs and tools give it, as in ``Client.RequestLimitExceeded``."""
    return re.sub(r"^(Client|Server)\.", "", code)


def is_transient(code: str, status: int) -> bool:
    """Is an error of this code, in a reply of this HTTP status, worth another try?"""
    return bare(code) in THROTTLED | BUSY | TRANSIENT or status == 429 or status >= 500


def _unknown_host(error: BaseException) -> bool:
    """Does the host not exist, by the name server? (A name server without an answer is a transient error.)"""
    visited: List[BaseException] = []
    cause: Optional[BaseException] = error
    while cause is not None and cause not in visited:
        if isinstance(cause, socket.gaierror):
            return cause.errno == socket.EAI_NONAME
        visited.append(cause)
        cause = cause.__cause__ or cause.__context__
    return False
