"""The sources of credentials of the SDK, and which one it is using.

During a call to EC2, the SDK may get credentials from STS, SSO, the metadata service or a program, and its errors do
not name the source that failed. So each thread that makes a call notes the last source.
"""

from __future__ import annotations

import os
import re
import threading
from functools import partial
from typing import TYPE_CHECKING, Any, Callable, List, Optional
from urllib.parse import urlsplit

from . import credential_process, messages
from .errors import ApiError
from .imds import Fetcher, Imds, Stumbles, settings_of

if TYPE_CHECKING:
    from .ec2 import CallContext

_EC2 = "before-send.ec2."
# The text of the SDK if the credentials service of a container is unavailable.
_CONTAINER_STUMBLES = re.compile(
    r"(non 200 response \(?(429|5\d\d)\)? from|error when attempting to retrieve) (ECS|container) metadata"
)
_EXPIRED = "refreshed credentials are still expired"
# When the SDK is to renew credentials. By default it asks their source at each call when 15 minutes are left, and
# fails without a reply when 10 are left; some are not valid for longer. What expires during a run is renewed then.
RENEW_SECONDS = 60

_thread = threading.local()


def noted(work: Callable[[], Any], asked: List[str]) -> Callable[[], Any]:
    """The same work, which notes in ``asked`` the sources that the SDK uses for credentials; "" is EC2 itself."""

    def run() -> Any:
        _thread.asked = asked
        return work()

    return run


def load(core: Any, purpose: CallContext) -> bool:
    """Let the SDK load credentials; returns whether it can renew them. Those of a role come with the first call.

    Raises:
        ApiError: transient, if a source is unavailable; permanent, if a program returns none.
    """
    try:
        found = core.get_credentials()
    except Exception as error:  # of any kind; other errors are raised again
        ours = error_of(error, purpose, _asked()[-1:])
        if ours:
            raise ours from error
        raise
    _note("")
    return hasattr(found, "refresh_needed")


def error_of(error: BaseException, purpose: CallContext, asked: List[str]) -> Optional[ApiError]:
    """The ApiError for an SDK error about credentials that needs another text; otherwise None.

    Args:
        asked: the sources that the SDK used; the last one failed.
    """
    source = (asked[-1] if asked else "") or "their source"
    if _CONTAINER_STUMBLES.search(str(error)):
        return messages.credentials_unavailable(purpose, "the container's credentials service", str(error))
    if isinstance(error, Stumbles):
        return messages.credentials_unavailable(purpose, source, str(error))
    if isinstance(error, KeyError) and error.args[:1] in (("AccessKeyId",), ("SecretAccessKey",), ("Expiration",)):
        return messages.credentials_incomplete(purpose, source, str(error.args[0]))
    if isinstance(error, credential_process.ProcessError):
        return messages.program_failed(purpose, str(error))
    if isinstance(error, RuntimeError) and _EXPIRED in str(error):
        return messages.credentials_expired(purpose, source)
    return None


def _asked() -> List[str]:
    found: List[str] = getattr(_thread, "asked", [])
    return found


def _note(whom: str) -> None:
    _asked().append(whom)


def prepare(core: Any) -> Imds:
    """Set a botocore session up, before it has any client or credentials; returns its metadata service.

    Its profile must be known.
    """
    import botocore.credentials as sdk

    imds = Imds(settings_of(core))
    imds.without_proxy()

    def fetcher(*_args: Any, **_settings: Any) -> Fetcher:
        return Fetcher(imds, lambda: _note(imds.name))

    provider = getattr(sdk.ProcessProvider, "func", sdk.ProcessProvider)
    sdk.ProcessProvider = partial(provider, popen=credential_process.runner(_note))
    sdk.InstanceMetadataFetcher = fetcher
    sdk.RefreshableCredentials._advisory_refresh_timeout = RENEW_SECONDS
    sdk.RefreshableCredentials._mandatory_refresh_timeout = RENEW_SECONDS
    if not _sts_is_configured(core):
        core.set_config_variable("sts_regional_endpoints", "regional")
    core.register("before-send", _note_request)
    return imds


def _sts_is_configured(core: Any) -> bool:
    in_file = core.get_scoped_config().get("sts_regional_endpoints")
    return bool(os.environ.get("AWS_STS_REGIONAL_ENDPOINTS") or in_file)


def _note_request(request: Any, event_name: str, **_more: Any) -> None:
    service, _, operation = event_name.partition(".")[2].partition(".")
    whom = f"{operation} of {service.upper()} at {urlsplit(request.url).netloc}"
    _note("" if event_name.startswith(_EC2) else whom)
