"""The server as a whole: what tests start, set up and ask."""

import itertools
import threading
import time
import traceback
from typing import Any, Callable, Dict, List, Optional

from .edit import Edit
from .faults import Fault, Rules
from .filtering import Filtered, filtering
from .front import Config, Front
from .history import Lag, Staleness
from .keys import AccessKey, Keyring, scope_of
from .limits import Limits
from .mark import Mark
from .moto_app import Moto
from .transport import Transport
from .wire import Abort, ApiError, Call, Reply, Request, error_reply, parse_params
from .world import World, build

ACCESS_KEY = "AKIAFENCETEST0000001"
SECRET_KEY = "secret/of+the/test/double/0000000000001"
_accounts = itertools.count(100000000001)


class Ec2Server:
    """An EC2 with a small world in it; a context manager.

    moto's store is one for the process; each server has an account of its own in it.
    """

    def __init__(self, port: int = 0, region: str = "eu-central-1") -> None:
        self.region = region
        self.account = str(next(_accounts))
        self.keys = Keyring()
        self.limits = Limits()
        self.rules = Rules()
        self.calls: List[Call] = []
        self.broken: List[Exception] = []
        """What failed in here, such as an assertion in a hook, of which the caller only sees a bad reply."""
        self.watchers: List[Callable[[Call], object]] = []
        """Called after each change that took effect, before its reply is sent; kept by reset."""
        self._doors: List[Transport] = []
        self._moto = Moto(self.account, region)
        self._front = Front(self._moto, self.keys, self.limits)
        self.edit = Edit(self._front, lambda: self.world)
        self._numbers = itertools.count(1)
        self._record = threading.Lock()
        self.world: World = self._fresh()
        # moto builds its application and reads the EC2 model on the first call: 0.3 s.
        self._moto.call("ec2", "DescribeInstances", {})
        self._transport = Transport(self._answer, port)

    # Life

    def __enter__(self) -> "Ec2Server":
        self._transport.start()
        return self

    def __exit__(self, *_: object) -> None:
        for transport in (self._transport, *self._doors):
            transport.stop()

    def listen(self, host: str, port: int) -> None:
        """Serves on one more address, of the network namespace that the calling thread is in."""
        door = Transport(self._answer, port, host=host)
        self._doors.append(door)
        door.start()

    def _fresh(self) -> World:
        with self._front.lock:
            self._moto.reset()
            self._front.shapes.clear()
            world = build(self._moto.backend())
            self._new = Mark(self._moto.backend())
            self._forget()
            self._front.touched = False
        return world

    def _forget(self) -> None:
        """All but the world."""
        self.keys.clear()
        self.keys.verify = True
        self.key = self.keys.add(AccessKey(ACCESS_KEY, SECRET_KEY))
        self.rules.clear()
        self.limits.clear()
        self._front.reset()
        self.rules.added.clear()
        self.broken = []
        with self._record:
            self.calls = []
            self._numbers = itertools.count(1)

    def reset(self) -> World:
        """A fresh small world; rules, calls, keys, limits, stale reads, configuration cleared.

        It has the same IDs if no more than tags, groups and states had changed, and new ones otherwise. Open
        connections are closed, which ends the calls that are stalled or trickle. What a client has sent before, and
        is gone perhaps, has no effect afterwards and is in no list of calls.
        """
        if self._front.touched or not self.rewind(self._new):
            self._hang_up()
            self.world = self._fresh()
        return self.world

    def mark(self) -> Mark:
        """Remembers the world as it is."""
        with self._front.lock:
            return Mark(self._moto.backend())

    def rewind(self, mark: Mark) -> bool:
        """As reset, but to the marked world, with its IDs. Where that is not possible nothing is done: False."""
        with self._front.lock:
            possible = mark.restore(self._moto.backend())
        if possible:
            self._hang_up()
            with self._front.lock:
                mark.restore(self._moto.backend())  # a call may have been in progress
                self._forget()
        return possible

    def await_gone(self) -> None:
        """Waits until all that clients have sent that are gone, killed perhaps, was answered: it had its effect."""
        for transport in (self._transport, *self._doors):
            transport.await_gone()

    def _hang_up(self) -> None:
        for transport in (self._transport, *self._doors):
            transport.hang_up()

    # Set-up

    @property
    def endpoint(self) -> str:
        """http://127.0.0.1:port, for endpoint_url."""
        return self._transport.endpoint

    @property
    def port(self) -> int:
        """The port on 127.0.0.1."""
        return int(self._transport.server_address[1])

    @property
    def config(self) -> Config:
        """Limits and durations; replaced by reset."""
        return self._front.config

    def client_kwargs(self) -> Dict[str, Any]:
        """Arguments for boto3.client("ec2", …) or ("sts", …)."""
        return {
            "endpoint_url": self.endpoint,
            "region_name": self.region,
            "aws_access_key_id": self.key.access_key,
            "aws_secret_access_key": self.key.secret_key,
        }

    def environment(self) -> Dict[str, str]:
        """Environment variables for a program: region, credentials, and the endpoint (botocore 1.31 on)."""
        return {
            "AWS_ACCESS_KEY_ID": self.key.access_key,
            "AWS_SECRET_ACCESS_KEY": self.key.secret_key,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def stale(
        self,
        *,
        tags_changes: int = 0,
        tags_seconds: float = 0.0,
        groups_changes: int = 0,
        groups_seconds: float = 0.0,
        states_changes: int = 0,
        states_seconds: float = 0.0,
        reads: Optional[int] = None,
        duration: Optional[float] = None,
        when: Optional[Callable[[Call], bool]] = None,
    ) -> Staleness:
        """Lets Describes show the past: tags, groups, states as they were so many changes or seconds ago.

        Only changes of the same kind count, back from the read.  Holds for the next `reads` Describes of
        instances, interfaces or tags, or for `duration` seconds, or until `fresh` or `reset`.
        """
        given = {
            "tags": Lag(tags_changes, tags_seconds),
            "groups": Lag(groups_changes, groups_seconds),
            "states": Lag(states_changes, states_seconds),
        }
        lags = {kind: lag for kind, lag in given.items() if lag.changes or lag.seconds}
        until = None if duration is None else time.monotonic() + duration
        staleness = Staleness(lags, reads, until, when)
        with self._front.lock:
            self._front.history.add(staleness)
        return staleness

    def idle(self) -> List[object]:
        """Faults and stale reads that were asked for since the last reset and never happened."""
        with self._front.lock:
            unseen = [staleness for staleness in self._front.history.added if not staleness.shown]
        return [*(rule for rule in self.rules.added if not rule.fired), *unseen]

    def fresh(self) -> None:
        """Ends all stale reads."""
        with self._front.lock:
            self._front.history.fresh()

    # Looking

    def snapshot(self) -> Dict[str, Dict[str, Any]]:
        """{instance: {"state": …, "tags": {…}, "interfaces": {interface: sorted group IDs}}}, as of now."""
        with self._front.lock:
            self._front.settle()
            backend = self._moto.backend()
            return {
                instance.id: {
                    "state": instance._state.name,
                    "tags": dict(backend.tags.get(instance.id, {})),
                    "interfaces": {
                        nic.id: sorted(group.id for group in nic._group_set) for nic in instance.network_interfaces
                    },
                }
                for instance in backend.all_instances()
            }

    def groups_of(self, interface: str) -> List[str]:
        """Sorted group IDs of an interface, attached or not, as of now."""
        with self._front.lock:
            return sorted(group.id for group in self._moto.backend().enis[interface]._group_set)

    def filtering(self) -> List[Filtered]:
        """What the groups of each attached interface let through, as of now."""
        with self._front.lock:
            return filtering(self._moto.backend())

    def calls_of(self, *actions: str) -> List[Call]:
        """The calls of these actions so far, in order of arrival."""
        with self._record:
            return [call for call in self.calls if call.action in actions]

    def writes(self) -> List[Call]:
        """The calls so far that would change something, whatever their outcome."""
        with self._record:
            return [call for call in self.calls if not call.reads]

    # Serving

    def _answer(self, request: Request, send: Callable[[Reply], None]) -> None:
        call = self._recorded(request)
        if call is None:
            return
        faults = self.rules.take(call, request.is_current)
        try:
            reply = self._reply(call, request, faults)
        except Abort as abort:
            reply = Reply(0, b"", mode=abort.mode)
        call.ended = time.monotonic()
        # Recorded before it is sent, so that a client with a reply finds its call in the list.
        call.outcome = reply.mode
        send(reply)

    def _reply(self, call: Call, request: Request, faults: List[Fault]) -> Reply:
        try:
            for fault in faults:
                fault.before(call)
            reply = self._front.answer(call, request)
            if call.took_effect and not call.reads:
                for watcher in self.watchers:
                    watcher(call)
        except ApiError as error:
            reply = error_reply(error, call.service)
        except Abort:
            raise
        except Exception as error:  # noqa: BLE001 - a fault of the double is to be seen as one, not as a hang
            self._note(error)
            reply = error_reply(ApiError("InternalError", "The test double failed", 500), call.service)
        call.status, call.error = reply.status, reply.code
        try:
            for fault in faults:
                fault.after(call, reply)
        except Exception as error:
            self._note(error)
            raise
        return reply

    def _note(self, error: Exception) -> None:
        traceback.print_exc()
        self.broken.append(error)

    def _recorded(self, request: Request) -> Optional[Call]:
        """The call in the list; None if it is one of before the last reset."""
        params = parse_params(request)
        action = params.pop("Action", "")
        params.pop("Version", None)
        scope = scope_of(request)
        with self._record:
            if not request.is_current():
                return None
            call = Call(
                next(self._numbers),
                action,
                params,
                request.port,
                scope.service,
                scope.region,
                scope.key_id,
                request.headers.get("User-Agent") or "",
            )
            self.calls.append(call)
        return call
