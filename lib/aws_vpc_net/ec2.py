"""All calls to EC2: limited in time, retried after transient errors, counted, and with the errors of this agent.

The SDK makes one attempt per call, because its own retries have no deadline. Each attempt runs in its own thread and
is abandoned when its time is over, because neither name resolution nor a reply that arrives byte by byte obeys the
limits of the SDK. The outcome of an abandoned change is unknown.
"""

from __future__ import annotations

import gc
import logging
import os
import re
import ssl
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, FrozenSet, List, NamedTuple, Optional, Tuple

from . import credentials, ec2_errors, identity, logs, messages, replies
from .causes import Causes
from .deadline import Deadline, backoff, call_with_timeout
from .errors import ApiError, Category, FenceError
from .imds import Imds, Stumbles
from .settings import Settings, region_of

log = logging.getLogger(__name__)

NO_SUCH_INSTANCE = "InvalidInstanceID.NotFound"
# The errors of the SDK for missing credentials; not every version has all of them.
NO_CREDENTIALS = (
    "NoCredentialsError PartialCredentialsError CredentialRetrievalError MetadataRetrievalError SSOError LoginError "
    "TokenRetrievalError NoAuthTokenError RefreshWithMFAUnsupportedError InvalidConfigError ConfigNotFound "
    "InfiniteLoopConfigError UnknownCredentialError ProfileNotFound".split()
)
# Parameters of STS that the SDK finds invalid, from profiles, variables and files that they name.
OF_ROLE = re.compile(r"parameter:? \"?(WebIdentityToken|Role[A-Z]|ExternalId|DurationSeconds|SerialNumber)")
ASIDE = "set aside"  # in the context of a request: parameters that the SDK does not know
EXPIRED = frozenset("ExpiredToken ExpiredTokenException RequestExpired".split())
CREDENTIALS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN")
CONNECTIONS = 16  # calls at once
RESERVE_SECONDS = 5.0
# The first and the longest pause after EC2 throttled a call. A bucket refills during pauses, so a pause loses no
# calls. Only the last caller loses time, and the longest pause is short compared to a long queue.
THROTTLED_PAUSES = (0.4, 2.0)
# How long a throttled change is repeated before a read. If it were less, the reads of a hundred nodes would be
# throttled too.
QUEUE_SECONDS = 20.0


@dataclass
class Stats:
    """What an operation did; for the summary line (the numbers) and the metrics.

    Attributes:
        attempts: each attempt at a call: API action, error code or "", seconds.
        network_seconds: how long EC2's network took to follow the latest change, as far as that was seen.
    """

    api_calls: int = 0
    retries: int = 0
    throttles: int = 0
    interfaces_changed: int = 0
    tags_written: int = 0
    chunks: int = 0
    tag_characters: int = 0
    attempts: List[Tuple[str, str, float]] = field(default_factory=list)
    network_seconds: Optional[float] = None
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, **counts: int) -> None:
        """Add to counters; safe from several threads."""
        with self.lock:
            for name, count in counts.items():
                setattr(self, name, getattr(self, name) + count)


@dataclass(frozen=True)
class CallContext:
    """The purpose of a call: its text in an error, and the category if the code of EC2 implies no other."""

    what: str
    category: Category


SETUP = CallContext("set up the AWS SDK and its credentials", Category.AUTHENTICATION)


class Connection(NamedTuple):
    """The result of setting up the SDK.

    Attributes:
        client: the EC2 client of the SDK.
        renewable: can the SDK renew expired credentials?
    """

    client: Any
    imds: Imds
    renewable: bool


class Queue:
    """The throttled calls of this process, which wait for each other.

    The first one tries again, so that the account gets one call from this process and not one for each interface. If
    it succeeds, the next one does not pause.
    """

    def __init__(self, stats: Stats) -> None:
        self._stats = stats
        self._first = threading.Lock()  # held by the first one
        self._flowing = False  # did the latest attempt succeed?
        self._closed = False

    def close(self) -> None:
        """From now on nothing is repeated."""
        self._closed = True

    def repeat(self, attempt: Callable[[], Dict[str, Any]], error: ApiError, until: Deadline) -> Dict[str, Any]:
        """Repeat what was throttled with this error.

        Raises:
            ApiError: that of the latest attempt.
        """
        if not self._first.acquire(timeout=until.remaining()):
            raise error
        try:
            for pause in backoff(*THROTTLED_PAUSES):
                if not self._flowing:
                    until.pause(pause)
                if until.passed or self._closed:
                    raise error
                self._stats.add(retries=1)
                self._flowing = False
                try:
                    reply = attempt()
                except ApiError as latest:
                    if latest.code not in ec2_errors.THROTTLED:
                        raise
                    error = latest
                else:
                    self._flowing = True
                    return reply
            raise AssertionError("backoff never ends")
        finally:
            self._first.release()


class Ec2:
    """EC2, through boto3.

    Attributes:
        deadline: no attempt starts or continues after it. During changes it is earlier than that of the operation,
            to reserve time for a rollback, a re-isolation, or a stop of the instance.
        insist: make calls also if no thread can be started for them.
        queue: of throttled calls.
    """

    def __init__(self, settings: Settings, deadline: Deadline, stats: Stats) -> None:
        self._whole = deadline
        self.deadline = deadline
        self.stats = stats
        self.insist = False
        self._settings = settings
        self._connection: Optional[Connection] = None
        self._renewing = threading.Lock()
        self.queue = Queue(stats)
        self._attempt_seconds = 2 * settings.timing.api_seconds + 1  # to connect, to reply, and a little
        self._causes = Causes(self._attempt_seconds)

    @property
    def limits(self) -> Tuple[float, float]:
        """The points in time at which ordinary calls end, and at which all calls end."""
        reserve = min(RESERVE_SECONDS, self._whole.seconds / 5)
        return self._whole.ends - reserve, self._whole.ends

    def limit(self, ends: float) -> None:
        """From now on no call continues after this time."""
        self.deadline = self._whole.at(ends)

    def call(
        self, operation: str, purpose: CallContext, forms: Optional[List[Dict[str, Any]]] = None, **params: Any
    ) -> Dict[str, Any]:
        """Call an API action, e.g. ``describe_instances``, until it succeeds or fails permanently.

        Args:
            forms: instead of ``params``, several forms of them. One that fails for now, but for throttling, moves to
                the end; by ID, an unknown instance decides nothing, as another form ignores it.

        Raises:
        ApiError: a permanent error.
        FenceError: of category deadline: only transient errors until then.
        """
        self._require(operation, purpose)
        last: Optional[ApiError] = None
        missed = False
        forms = forms or [params]
        pauses, throttled = backoff(0.2, 3.0), backoff(*THROTTLED_PAUSES)
        while not self.deadline.passed:
            try:
                return self._attempt(operation, purpose, forms[0])
            except ApiError as error:
                undecided = error.code == NO_SUCH_INSTANCE and len(forms) > 1 and "InstanceIds" in forms[0]
                behind = error.code == NO_SUCH_INSTANCE and not missed  # a read showed it before: a stale view, once
                if not (error.transient or undecided or behind):
                    raise
                log.debug("%s failed for now: %s", operation, error.text)
                missed = missed or behind
                last = last if undecided else error
                busy = error.code in ec2_errors.THROTTLED
            if not busy:
                forms.append(forms.pop(0))
            self.stats.add(retries=1)
            self.deadline.pause(next(throttled if busy else pauses))
        if last is not None and last.category is Category.AUTHENTICATION:  # which names its own source
            raise messages.no_answer(purpose.what, self.deadline.seconds, last.text)
        endpoint = str(self._connect().client.meta.endpoint_url)
        raise messages.no_answer(purpose.what, self.deadline.seconds, last.text if last else None, endpoint)

    def call_once(
        self, operation: str, purpose: CallContext, *, queue: bool = False, **params: Any
    ) -> Dict[str, Any]:
        """Make one attempt; the caller reads before it tries again.

        Args:
            queue: if EC2 throttles it, which changes nothing, repeat it for up to QUEUE_SECONDS.

        Raises:
            ApiError: it failed.
            FenceError: of category deadline: no time was left.
        """
        self._require(operation, purpose)
        if self.deadline.passed:
            raise messages.no_answer(purpose.what, self.deadline.seconds, None)
        began = self.deadline.now()
        try:
            try:
                return self._attempt(operation, purpose, params)
            except ApiError as error:
                if not queue or error.code not in ec2_errors.THROTTLED:
                    raise
                # Not so late that it would have to be abandoned: its outcome would be unknown.
                until = self.deadline.minus(self._settings.timing.api_seconds).at(began + QUEUE_SECONDS)
                return self.queue.repeat(lambda: self._attempt(operation, purpose, params), error, until)
        except ApiError as error:
            self.stats.add(retries=int(error.transient))  # by the caller
            raise

    def _require(self, operation: str, purpose: CallContext) -> None:
        """Connect.

        Raises:
            FenceError: this SDK does not know the API action.
        """
        if operation not in self._connect().client.meta.method_to_api_mapping:
            raise messages.sdk_too_old(purpose, operation)

    def connect(self) -> None:
        """Build the client, after which calls may be made from several threads.

        Raises:
            FenceError: of category region, authentication or validation.
        """
        self._connect()

    def imds(self) -> Imds:
        """The instance metadata service, as the SDK is set to ask it; connects.

        Raises:
            FenceError: of category region, authentication or validation.
        """
        return self._connect().imds

    @property
    def region(self) -> str:
        """The region that calls go to; after ``connect``."""
        return str(self._connect().client.meta.region_name)

    @property
    def sdk(self) -> str:
        """Which SDK this is, in words; after ``connect``."""
        import boto3

        return f"boto3 {boto3.__version__}"

    def _attempt(self, operation: str, purpose: CallContext, params: Dict[str, Any]) -> Dict[str, Any]:
        limit = min(self._attempt_seconds, self.deadline.remaining())
        started = time.monotonic()
        self.stats.add(api_calls=1)
        client = self._connect().client
        asked: List[str] = []
        work = credentials.noted(lambda: getattr(client, operation)(**params), asked)
        done, result = call_with_timeout(work, limit, insist=self.insist)
        log.debug("%s %s took %.3f s", operation, params, time.monotonic() - started)
        name = client.meta.method_to_api_mapping[operation]
        error: Optional[ApiError] = None
        if not done:
            error = self._causes.of_abandoned(purpose, name, asked, limit)
        elif isinstance(result, BaseException):
            error = self._error_of(result, purpose, name, asked)
        if done and not (error and error.code == NO_SUCH_INSTANCE):  # which may decide nothing
            self._causes.note(purpose, name, error)
        if error and error.code in EXPIRED and self._renew(client):
            error.transient = True
        if not params.get("DryRun"):  # which changes nothing, and succeeds by an error
            # An error about credentials may be that of another call, such as AssumeRole of STS.
            failed = error.call if error and error.call.isalnum() else name
            self.stats.attempts.append((failed, error.code or "none" if error else "", time.monotonic() - started))
        if error:
            self.stats.add(throttles=int(error.code in ec2_errors.THROTTLED))
            raise error from result
        reply: Dict[str, Any] = result
        return reply

    def _error_of(self, error: BaseException, purpose: CallContext, call: str, asked: List[str]) -> ApiError:
        """Our error for one of the SDK's, which may have been about credentials from the last source asked."""
        from botocore import exceptions as sdk

        source = asked[-1] if asked else ""
        of_role = isinstance(error, sdk.ParamValidationError) and OF_ROLE.search(str(error))
        if not asked and (of_role or isinstance(error, (OSError, UnicodeError))):  # before anything was sent
            return messages.unreadable_credentials(purpose, type(error).__name__, str(error))
        ours = credentials.error_of(error, purpose, [source])
        if ours:
            return ours
        imds = self._connect().imds
        if isinstance(error, sdk.NoCredentialsError) and imds.problem:
            text = messages.no_metadata(str(error), imds.name, imds.problem)
            return messages.sdk_error(Category.AUTHENTICATION, purpose, call, type(error).__name__, text)
        if not source or isinstance(error, (sdk.ClientError, EOFError)):
            return self._error(error, purpose, call)
        api_error = self._error(
            error, CallContext(f"{purpose.what}: no credentials", Category.AUTHENTICATION), source
        )
        api_error.outcome_unknown = False  # no call to EC2
        return api_error

    def _error(self, error: BaseException, purpose: CallContext, call: str) -> ApiError:
        """Our error for one of the SDK's."""
        from botocore import exceptions as sdk

        if isinstance(error, sdk.ClientError) and error.operation_name != call:
            # What the SDK calls for credentials, as STS's AssumeRole.
            return _credentials_error(dict(error.response), purpose, error.operation_name)
        if isinstance(error, replies.ForeignReply) and error.operation != call:
            return messages.no_sts(purpose, error.operation, str(error), transient=error.transient)
        code = type(error).__name__
        if isinstance(error, EOFError):  # an MFA prompt, which nobody can answer
            return messages.mfa_not_supported(purpose, call, code)
        if isinstance(error, tuple(getattr(sdk, name) for name in NO_CREDENTIALS if hasattr(sdk, name))):
            return messages.sdk_error(Category.AUTHENTICATION, purpose, call, code, str(error))
        return ec2_errors.from_sdk(error, purpose, call)

    def _connect(self) -> Connection:
        """The connection, set up at the first call, which must not run concurrently with others.

        The set-up loads credentials, which may use IMDS or run a program. It is limited in time like a call.
        """
        if self._connection is None:
            self._connection = self._build()
        return self._connection

    def _renew(self, used: Any) -> bool:
        """Get credentials in place of those that this client was used with; False if others cannot be had."""
        with self._renewing:
            current = self._connect()
            if current.client is used and current.renewable:
                log.debug("the credentials have expired and are asked for anew")
                self._connection = current = current._replace(renewable=False)  # once
                try:
                    connection = self._build()
                except FenceError as error:  # the expiry of the earlier ones is more specific
                    log.debug("there are no others: %s", error.text)
                else:
                    if connection.renewable:  # or there are none now
                        self._connection = current = connection._replace(renewable=False)
            return current.client is not used

    def _build(self) -> Connection:
        """A connection; retried until the deadline."""
        last: Optional[str] = None
        for pause in backoff(0.2, 3.0):
            if self.deadline.passed:
                raise messages.no_answer(SETUP.what, self.deadline.seconds, last)
            asked: List[str] = []
            work = credentials.noted(lambda: _client(self._settings), asked)
            done, result = call_with_timeout(work, self.deadline.remaining())
            if not done:
                silent = messages.no_reply_of_source(asked[-1]) if asked and asked[-1] else None
                said = "; then ".join(text for text in (last, silent) if text)
                raise messages.no_answer(SETUP.what, self.deadline.seconds, said)
            if isinstance(result, ApiError) and result.transient:
                log.debug("no credentials for now: %s", result.text)
                last = result.text
                self.stats.add(retries=1)
                self.deadline.pause(pause)
                continue
            if isinstance(result, BaseException):
                raise result
            connection: Connection = result
            meta, events = connection.client.meta, connection.client.meta.events
            if not self._settings.preflight:
                wanted = replies.LISTED if _is_list(self._settings) else replies.READ
                replies.narrow(meta.service_model.operation_model("DescribeInstances").output_shape, wanted)
            if not _is_list(self._settings):
                events.register("after-call.ec2.DescribeInstances", replies.complete)
            events.register("after-call.ec2.DescribeInstanceAttribute", replies.complete_attribute)
            events.register("provide-client-params.ec2.StopInstances", _set_aside)
            events.register("before-call.ec2.StopInstances", _send_along)
            events.register_last("request-created.ec2", _hide_token)
            return connection
        raise AssertionError("backoff never ends")


def _credentials_error(response: Dict[str, Any], purpose: CallContext, call: str) -> ApiError:
    code = str(response.get("Error", {}).get("Code", ""))
    text = str(response.get("Error", {}).get("Message", ""))
    status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    return messages.no_credentials(purpose, call, code, text, transient=ec2_errors.is_transient(code, status))


def _set_aside(params: Dict[str, Any], model: Any, context: Dict[str, Any], **_more: Any) -> Dict[str, Any]:
    """Flags that are newer than the model of the SDK, which would refuse them."""
    context[ASIDE] = {k: v for k, v in params.items() if k not in model.input_shape.members}
    return {k: v for k, v in params.items() if k not in context[ASIDE]}


def _send_along(params: Dict[str, Any], context: Dict[str, Any], **_more: Any) -> None:
    """Add what was set aside to the request."""
    for name, flag in context.get(ASIDE, {}).items():
        params["body"][name] = str(flag).lower()


def _hide_token(request: Any, **_more: Any) -> None:
    """Register the session token of a request as a secret."""
    token = request.headers.get("X-Amz-Security-Token")
    logs.register_secrets(token.decode() if isinstance(token, bytes) else token)


def _client(settings: Settings) -> Connection:
    """A boto3 client with one attempt per call and time limits, and its session data.

    Its objects live until the end, so garbage collection is disabled during the set-up and skips them later: it would
    take a tenth of the time of a run. For a list it stays disabled: replies contain no cycles, and to search their
    many small objects for some would take half of the time.

    Raises:
        FenceError: of category region, authentication or validation.
    """
    _check_variables(settings)
    gc.disable()
    try:
        return _new_client(settings)
    finally:
        gc.freeze()
        if not _is_list(settings):
            gc.enable()


def _is_list(settings: Settings) -> bool:
    return settings.action.startswith("list")


def _check_variables(settings: Settings) -> None:
    """Credentials of the environment that cannot be sent fail within the SDK, each version in another way.

    Raises:
        FenceError: of category authentication.
    """
    access = settings.access
    if access.access_key or access.profile or not os.environ.get(CREDENTIALS[0]):
        return  # the SDK does not use them
    for name in CREDENTIALS:
        value = os.environ.get(name, "")
        if not (value.isascii() and value.isprintable()):
            raise messages.bad_sdk_configuration(f"{name} holds characters that no credentials have")


class _Context(ssl.SSLContext):
    """Loads trusted certificates once, not for each connection: to read those of a system takes 20 ms."""

    loaded: FrozenSet[Tuple[Any, ...]] = frozenset()

    def load_verify_locations(self, cafile: Any = None, capath: Any = None, cadata: Any = None) -> None:
        """As its parent; what was loaded well before is there already."""
        given = (cafile, capath, cadata)
        if given not in self.loaded:
            super().load_verify_locations(*given)
            self.loaded |= {given}


def _import_sdk() -> None:
    """Import the SDK.

    Raises:
        FenceError: of category validation: it cannot be.
    """
    # Older SDKs import pyOpenSSL if it is installed, and still use the TLS of Python. The import takes a tenth of the
    # time of a run, and fails with an incompatible version of cryptography.
    sys.modules.setdefault("urllib3.contrib.pyopenssl", None)  # type: ignore[arg-type]
    try:
        import boto3.session  # noqa: F401
        import botocore.config
        import botocore.exceptions
        import botocore.httpsession
        import botocore.session
    except (MemoryError, SystemError):
        raise
    except (Exception, SystemExit) as error:  # any error: a module may raise anything when imported
        raise messages.no_boto3(ec2_errors.reason(error)) from error
    botocore.httpsession.SSLContext = _Context


def _new_client(settings: Settings) -> Connection:
    _import_sdk()
    from botocore import exceptions as sdk

    config = _config(settings)
    try:
        return _set_up(settings, config)
    except (sdk.InvalidRegionError, sdk.NoRegionError) as error:
        raise messages.bad_region(str(error)) from error
    except (sdk.BotoCoreError, ValueError, OSError) as error:
        raise messages.bad_sdk_configuration(str(error)) from error
    except ec2_errors.NOT_THE_SDK:
        raise
    except (Exception, SystemExit) as error:  # parts of the SDK are imported here, which may not fit the others
        raise messages.broken_boto3(ec2_errors.reason(error)) from error


def _config(settings: Settings) -> Any:
    from botocore.config import Config

    proxy = settings.access.proxy
    return Config(
        user_agent_extra=settings.access.user_agent or None,
        connect_timeout=settings.timing.api_seconds,
        read_timeout=settings.timing.api_seconds,
        retries={"mode": "standard", "total_max_attempts": 1},
        max_pool_connections=CONNECTIONS,
        proxies={"http": proxy, "https": proxy} if proxy else None,
    )


def _set_up(settings: Settings, config: Any) -> Connection:
    """Raises errors of the SDK too."""
    import boto3.session
    import botocore.session

    access = settings.access
    core = botocore.session.get_session()
    # For the SDK's own clients too, which ask STS or SSO for credentials.
    core.set_default_client_config(config)
    parsers = replies.Parsers(core.get_component("response_parser_factory"))
    parsers.set_parser_defaults(timestamp_parser=str)  # dates are hardly used, and a third of the time of a reply
    core.register_component("response_parser_factory", parsers)
    session = boto3.session.Session(
        aws_access_key_id=access.access_key,
        aws_secret_access_key=access.secret_key,
        region_name=access.region,
        botocore_session=core,
        profile_name=access.profile,
    )
    imds = credentials.prepare(core)
    region = region_of(session.region_name or _region(imds))
    core.set_config_variable("region", region)  # for STS too
    renewable = credentials.load(core, SETUP)
    return Connection(session.client("ec2", region_name=region, endpoint_url=access.endpoint_url), imds, renewable)


def _region(imds: Imds) -> str:
    """The region of this machine.

    Raises:
        FenceError: of category region; or transient.
    """
    try:
        region = identity.region(imds)
    except Stumbles as error:
        raise messages.metadata_unavailable(SETUP, imds.name, str(error)) from error
    if region is None:
        raise messages.no_region()
    return region


def run_concurrently(work: List[Callable[[], Any]], interrupt: Callable[[], None] = lambda: None) -> List[Any]:
    """Run things that bound themselves, CONNECTIONS at a time; what each returned or raised, in order.

    Args:
        interrupt: makes those that are running end soon.
    """
    results: List[Any] = [RuntimeError("not run")] * len(work)
    todo = list(enumerate(work))
    lock = threading.Lock()

    def run() -> None:
        while True:
            with lock:
                if not todo:
                    return
                index, item = todo.pop(0)
            try:
                results[index] = item()
            except Exception as error:  # noqa: BLE001 - the caller knows which are expected
                results[index] = error

    threads: List[threading.Thread] = []
    try:
        with suppress(RuntimeError):  # where no more threads can be started, fewer do the work
            for _ in range(min(CONNECTIONS, len(work)) - 1):
                thread = threading.Thread(target=run, daemon=True)
                thread.start()
                threads.append(thread)
        run()
    except BaseException:  # an interrupt: nothing more is begun, and what is under way is waited for
        interrupt()
        with lock:
            todo.clear()
        raise
    finally:
        for thread in threads:
            thread.join()
    return results
