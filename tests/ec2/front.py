"""The front: authenticates, refuses what EC2 refuses, then answers by moto or by itself."""

import datetime
import re
import threading
import time
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Optional, Set, Tuple

from . import checks, pages, policy
from .history import History
from .keys import AccessKey, Keyring
from .limits import Limits
from .moto_app import Moto
from .shapes import Shapes
from .wire import Abort, ApiError, Call, Reply, Request, success_reply

SECOND = datetime.timedelta(seconds=1)
STATES = {"pending": 0, "running": 16, "shutting-down": 32, "terminated": 48, "stopping": 64, "stopped": 80}

INTERRUPTED = "Server.SpotInstanceShutdown"
"""Why a Spot instance is stopped that EC2 has interrupted, by a stop or by hibernation."""

RESTORABLE = {"CreateTags", "DeleteTags", "ModifyNetworkInterfaceAttribute", "StopInstances", "StartInstances"}
"""Calls that change only tags, groups and states, which an earlier world is restored by."""


@dataclass
class Config:
    """How this EC2 behaves where accounts and instance types differ."""

    groups_per_interface: int = 5
    """The account's limit; 16 is the most."""
    stop_seconds: float = 0.0
    """How long `stopping` lasts."""
    start_seconds: float = 0.0
    """How long `pending` lasts."""
    terminate_seconds: float = 0.0
    """How long `shutting-down` lasts."""
    skip_os_shutdown: str = "accept"
    """"accept"; "refuse" (OperationNotPermitted, as for Xen); "unknown" (UnknownParameter, an older API)."""
    spot_seconds: float = 0.0
    """How long after its stop a Spot instance cannot be started: minutes, until its request is disabled."""
    unstoppable: Set[str] = field(default_factory=set)
    """Instances with an instance-store root or from a one-time Spot request: UnsupportedOperation."""
    cannot_boot: Set[str] = field(default_factory=set)
    """Instances that stop again after an accepted start: who starts them may not use the key of their volumes."""
    disrupted: Set[str] = field(default_factory=set)
    """Instances in a zone with a service disruption: DescribeInstances works only for the IDs of others."""
    page_limit: Optional[int] = None
    """The most items a page holds, asked for or not: EC2 may send fewer than MaxResults and a token."""
    associated: Set[Tuple[str, str]] = field(default_factory=set)
    """(group ID, VPC ID): groups usable in a VPC that is not their own."""


class Front:
    """Answers calls.  One lock makes checks and effect one step; it is never held while waiting."""

    def __init__(self, moto: Moto, keys: Keyring, limits: Limits) -> None:
        self.moto = moto
        self.keys = keys
        self.limits = limits
        self.config = Config()
        self.lock = threading.RLock()
        self.history = History(moto.backend)
        self.shapes = Shapes()
        self.touched = False
        """Whether more has changed than tags, groups and states since the world was made."""
        self._moves: Dict[str, Tuple[float, str]] = {}
        self._own: Dict[str, Callable[[Any, Call], Reply]] = {
            "CreateTags": self._create_tags,
            "DeleteTags": self._delete_tags,
            "ModifyNetworkInterfaceAttribute": self._modify_interface,
            "StopInstances": self._stop,
            "StartInstances": self._start,
            "TerminateInstances": self._terminate,
            "DescribeInstances": self._describe_instances,
            "DescribeSecurityGroups": self._describe_groups,
            "DescribeNetworkInterfaces": self._describe_interfaces,
            "DescribeTags": self._describe_tags,
            "DescribeSecurityGroupVpcAssociations": self._describe_associations,
        }

    def reset(self) -> None:
        """Clears configuration, transitions and history."""
        self.config = Config()
        self._moves.clear()
        self.history.clear()

    def touch(self) -> None:
        """Notes that more changes than tags, groups and states."""
        self.touched = True
        self.shapes.clear()

    def answer(self, call: Call, request: Request) -> Reply:
        """The answer to a call; raises ApiError for a refusal."""
        if not call.action:
            raise ApiError("MissingAction", "The request must contain the parameter Action")
        key = self.keys.authenticate(request)
        if call.service not in ("ec2", "sts") or not self.moto.known(call.region):
            raise out_of_scope(call)
        with self.lock:
            if not request.is_current():
                raise Abort("lost")
            self.limits.check(call)
            backend = self.moto.backend(call.region)
            self.keys.authorize(
                key, call, self.moto.account, lambda: policy.accesses(call, backend, self.moto.account)
            )
            if call.flag("DryRun"):
                checks.named_exist(backend, call)
                raise ApiError("DryRunOperation", "Request would have succeeded, but DryRun flag is set.", 412)
            self.settle()
            reply = self._effect(call)
            call.took_effect = reply.status < 400
            self.history.note()
        return reply

    def _effect(self, call: Call) -> Reply:
        if call.service == "sts":
            return self._sts(call)
        backend = self.moto.backend(call.region)
        own = self._own.get(call.action, lambda _backend, call: self._pass(call))
        if not call.reads and call.action not in RESTORABLE:
            self.touch()
        if not call.reads or call.region != self.moto.region:
            return own(backend, call)
        with self.history.seen_by(call):
            return own(backend, call)

    def _pass(self, call: Call, **changes: Optional[str]) -> Reply:
        """Lets moto answer; `changes` replaces parameters (None removes them)."""
        params = {key: value for key, value in {**call.params, **changes}.items() if value is not None}
        try:
            return self.moto.call(call.service, call.action, params, call.region, call.key_id)
        except (NotImplementedError, KeyError) as error:
            if "Filter.1.Name" in call.params:
                raise ApiError("InvalidParameterValue", f"A filter is invalid: {error}") from error
            if isinstance(error, KeyError):
                raise
            text = f"The action {call.action} is not valid for this web service."
            raise ApiError("InvalidAction", text) from error

    def _sts(self, call: Call) -> Reply:
        """STS's answer; the keys in it are known from then on, and limited to the session's policy."""
        reply = self._pass(call)
        names = ("AccessKeyId", "SecretAccessKey", "SessionToken")
        found = [m.group(1) for m in (re.search(f"<{n}>(.*?)</{n}>", reply.body.decode()) for n in names) if m]
        if len(found) == len(names):
            key = self.keys.add(AccessKey(found[0], found[1], found[2]))
            if "Policy" in call.params:
                key.attach(call.params["Policy"])
        return reply

    def settle(self, all_of_them: bool = False) -> None:
        """Completes the transitions whose time is over, or all."""
        now = time.monotonic()
        for instance_id, (until, state) in list(self._moves.items()):
            if all_of_them or now >= until:
                del self._moves[instance_id]
                self._set_state(instance_id, state)
                self.history.note()

    def _set_state(self, instance_id: str, state: str) -> None:
        instance = self.moto.backend().get_instance_by_id(instance_id)
        if instance is not None:
            instance._state.name, instance._state.code = state, STATES[state]

    def move(self, instance: Any, through: str, seconds: float) -> None:
        """Shows an instance in a transition for a time, although moto has completed it."""
        self._moves.pop(instance.id, None)
        if seconds > 0:
            self._moves[instance.id] = (time.monotonic() + seconds, instance._state.name)
            self._set_state(instance.id, through)

    # Tags

    @staticmethod
    def _create_tags(backend: Any, call: Call) -> Reply:
        ids, tags = checks.tags_to_create(backend, call)
        for resource in ids:
            backend.tags[resource].update(tags)
        return success_reply(call.action)

    @staticmethod
    def _delete_tags(backend: Any, call: Call) -> Reply:
        for resource, keys in checks.tags_to_delete(backend, call).items():
            for key in keys:
                del backend.tags[resource][key]
        return success_reply(call.action)

    def _describe_tags(self, _backend: Any, call: Call) -> Reply:
        size = checks.page_size(call, (), "")
        return self._page(call, self._pass(call, MaxResults=None, NextToken=None), size)

    # Groups and interfaces

    def _modify_interface(self, backend: Any, call: Call) -> Reply:
        config = self.config
        interface, groups = checks.groups_for_interface(backend, call, config.groups_per_interface, config.associated)
        if groups is None:
            self.touch()
            return self._pass(call)
        # EC2 promises no order; this one is not the caller's.
        interface._group_set = sorted(groups, key=lambda group: str(group.id[::-1]))
        return success_reply(call.action)

    def _describe_groups(self, backend: Any, call: Call) -> Reply:
        ids = call.listing("GroupId")
        size = checks.page_size(call, ids, "groupSet")
        found = checks.groups_exist(backend, ids)
        changes = _only("GroupId", ids, found)
        return self._page(call, self._pass(call, **changes), size, not ids)

    def _describe_associations(self, _backend: Any, call: Call) -> Reply:
        """moto does not implement this call."""
        wanted = {record["Name"]: set(_values(record)) for record in call.records("Filter")}
        items = "".join(
            f"<item><groupId>{group}</groupId><vpcId>{vpc}</vpcId><state>associated</state></item>"
            for group, vpc in sorted(self.config.associated)
            if group in wanted.get("group-id", {group}) and vpc in wanted.get("vpc-id", {vpc})
        )
        name = "securityGroupVpcAssociationSet"
        return success_reply(call.action, f"<{name}>{items}</{name}>")

    def _describe_interfaces(self, backend: Any, call: Call) -> Reply:
        ids = call.listing("NetworkInterfaceId")
        size = checks.page_size(call, ids, "networkInterfaceSet")
        found = checks.interfaces_exist(backend, ids)
        changes = _only("NetworkInterfaceId", ids, found)
        return self._page(call, self._pass(call, **changes), size, not ids)

    # Instances

    def _describe_instances(self, backend: Any, call: Call) -> Reply:
        ids = call.listing("InstanceId")
        size = checks.page_size(call, ids, "instancesSet")
        disrupted = self.config.disrupted
        if disrupted and (not ids or disrupted & set(ids)):
            # EC2's documentation has no code for it.
            raise ApiError("Unavailable", "The service is unavailable. Please try again shortly.", 503)
        found = checks.instances_exist(backend, ids)
        changes = _only("InstanceId", ids, found)
        # Without it moto stops after a hundred reservations; with it, it refuses IDs.
        changes["MaxResults"] = None if ids else "1000000"
        filters = {record.get("Name", ""): _values(record) for record in call.records("Filter")}
        reservations = self.moto.reservations(backend, [instance.id for instance in found], filters)
        reply = self.shapes.answer(backend, reservations, lambda: self._pass(call, **changes))
        return self._page(call, reply, size, not ids)

    def _page(self, call: Call, reply: Reply, size: Optional[int], pageable: bool = True) -> Reply:
        if not pageable:
            return reply
        limit = self.config.page_limit
        if limit is not None:
            size = limit if size is None else min(size, limit)
        return pages.select(call, reply, pages.start_of(call), size)

    def _wanted(self, backend: Any, call: Call) -> List[Any]:
        ids = call.listing("InstanceId")
        if not ids:
            raise ApiError("MissingParameter", "The request must contain the parameter InstanceId")
        return checks.instances_exist(backend, ids)

    def _stop(self, backend: Any, call: Call) -> Reply:
        instances = self._wanted(backend, call)
        self._may_stop(call, instances)
        changes = []
        for instance in instances:
            before = instance._state.name
            if before not in ("stopping", "stopped"):
                instance.stop()
                self.move(instance, "stopping", self.config.stop_seconds)
                instance.stop_ends = time.monotonic() + self.config.stop_seconds
            changes.append((instance.id, before, "stopped" if before == "stopped" else "stopping"))
        return _state_changes(call, changes)

    def _may_stop(self, call: Call, instances: List[Any]) -> None:
        if "SkipOsShutdown" in call.params and self.config.skip_os_shutdown == "unknown":
            raise ApiError("UnknownParameter", "The parameter SkipOsShutdown is not recognized")
        for instance in instances:
            name = instance._state.name
            if name == "pending":
                raise ApiError(
                    "IncorrectInstanceState",
                    f"Instance '{instance.id}' cannot be stopped as it has never reached the 'running' state.",
                )
            if name in ("terminated", "shutting-down"):
                raise ApiError(
                    "IncorrectInstanceState",
                    f"The instance '{instance.id}' is not in a state from which it can be stopped.",
                )
            if instance.id in self.config.unstoppable:
                raise ApiError("UnsupportedOperation", _why_unstoppable(instance))
            if instance.disable_api_stop:
                raise ApiError(
                    "OperationNotPermitted",
                    f"The instance '{instance.id}' may not be stopped. Modify its 'disableApiStop' instance "
                    "attribute and try again.",
                )
        # No thread has this text.
        if call.flag("SkipOsShutdown") and self.config.skip_os_shutdown == "refuse":
            raise ApiError("OperationNotPermitted", "The SkipOsShutdown option is not supported for this instance.")

    def _start(self, backend: Any, call: Call) -> Reply:
        instances = self._wanted(backend, call)
        for instance in instances:
            if instance._state.name not in ("stopped", "pending", "running"):
                raise ApiError(
                    "IncorrectInstanceState",
                    f"The instance '{instance.id}' is not in a state from which it can be started.",
                )
            if instance._state.name == "stopped" and _is_spot(instance):
                self._may_start_spot(instance)
        changes = []
        for instance in instances:
            before = instance._state.name
            if before == "stopped":
                instance.start()
                launched_again(instance)
                if instance.id in self.config.cannot_boot:
                    instance.stop()
                    instance.state_reason.code = "Client.InternalError"
                self.move(instance, "pending", self.config.start_seconds)
            changes.append((instance.id, before, "running" if before == "running" else "pending"))
        return _state_changes(call, changes)

    def _may_start_spot(self, instance: Any) -> None:
        """Only EC2 starts one that it has interrupted. The text is that of one that was just stopped."""
        interrupted = instance.state_reason.code == INTERRUPTED
        ready = getattr(instance, "stop_ends", 0.0) + self.config.spot_seconds
        if interrupted or time.monotonic() < ready:
            raise ApiError(
                "IncorrectSpotRequestState",
                f"You can't start the Spot Instance '{instance.id}' because the associated Spot Instance request is "
                "not in an appropriate state to support start.",
            )

    def _terminate(self, backend: Any, call: Call) -> Reply:
        instances = self._wanted(backend, call)
        fresh = [i for i in instances if i._state.name not in ("terminated", "shutting-down")]
        reply = self._pass(call)
        if reply.status == 200:
            for instance in fresh:
                self.move(instance, "shutting-down", self.config.terminate_seconds)
        return reply


def _is_spot(instance: Any) -> bool:
    return getattr(instance, "instance_lifecycle", None) == "spot"


def _why_unstoppable(instance: Any) -> str:
    if _is_spot(instance):
        return (
            f"You can't stop the Spot Instance '{instance.id}' because it is associated with a one-time Spot "
            "Instance request. You can only stop Spot Instances associated with persistent Spot Instance requests."
        )
    return f"The instance '{instance.id}' does not have an 'ebs' root device type and cannot be stopped."


def launched_again(instance: Any) -> None:
    """EC2 shows when an instance was launched last, in seconds; here never the same time twice."""
    now = datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=instance.launch_time.tzinfo)
    instance.launch_time = max(now, instance.launch_time + SECOND)


def out_of_scope(call: Call) -> ApiError:
    """The refusal of a signature that is made for a region that does not exist, or another service's."""
    text = f"Credential should be scoped to a valid region, not '{call.region}'. "
    code, status = ("AuthFailure", 401) if call.service == "ec2" else ("SignatureDoesNotMatch", 403)
    return ApiError(code, text, status)


def _only(name: str, ids: List[str], found: List[Any]) -> Dict[str, Optional[str]]:
    """Parameters with each ID once, because moto counts IDs, and without paging, which moto implements in part."""
    changes: Dict[str, Optional[str]] = {f"{name}.{n}": None for n in range(1, len(ids) + 1)}
    changes.update({f"{name}.{n}": thing.id for n, thing in enumerate(found, 1)})
    return {**changes, "MaxResults": None, "NextToken": None}


def _values(record: Dict[str, str]) -> List[str]:
    return [value for key, value in record.items() if key.startswith("Value.")]


def _state_changes(call: Call, changes: List[Tuple[str, str, str]]) -> Reply:
    """StopInstances' and StartInstances' reply: (instance, state before, state now)."""
    items = "".join(
        f"<item><instanceId>{instance_id}</instanceId>"
        f"<currentState><code>{STATES[now]}</code><name>{now}</name></currentState>"
        f"<previousState><code>{STATES[before]}</code><name>{before}</name></previousState></item>"
        for instance_id, before, now in changes
    )
    return success_reply(call.action, f"<instancesSet>{items}</instancesSet>")
