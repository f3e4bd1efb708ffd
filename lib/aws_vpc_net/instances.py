"""Instances: read them whole, list them, stop them."""

from __future__ import annotations

import logging
from itertools import islice
from typing import TYPE_CHECKING, Any, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Tuple

from . import messages
from .core.model import Instance, Interface
from .core.protocol import READ_ONCE_MORE_SECONDS
from .ec2 import NO_SUCH_INSTANCE, CallContext, Ec2
from .errors import ApiError, Category

if TYPE_CHECKING:
    from .names import Kind, Name

log = logging.getLogger(__name__)

# The errors of EC2 if SkipOsShutdown is not supported.
NO_SKIP = ("OperationNotPermitted", "UnsupportedOperation", "UnknownParameter")
# The errors of StartInstances if EC2's view is behind, or the read before was.
NOT_YET = (NO_SUCH_INSTANCE, "IncorrectInstanceState")
# That of a Spot instance for some minutes after its stop, or until EC2, which has interrupted it, starts it itself.
SPOT_NOT_YET = "IncorrectSpotRequestState"
# Why EC2 says an instance is stopped: hibernated by a user; a Spot instance interrupted, by a stop or by hibernation.
HIBERNATED, INTERRUPTED = "Client.UserInitiatedHibernate", "Server.SpotInstanceShutdown"
PAGE = 1000  # instances a page, EC2's most
MOST_PAGES = 1000  # a bound, not a limit that an account reaches

Filters = Sequence[Tuple[str, Tuple[str, ...]]]


def _position(raw: Mapping[str, Any]) -> Tuple[int, int, str]:
    at = raw.get("Attachment", {})
    return (at.get("NetworkCardIndex") or 0, at.get("DeviceIndex") or 0, raw["NetworkInterfaceId"])


def _addresses(raw: Mapping[str, Any]) -> Tuple[str, ...]:
    """Of an interface: its private IPv4 addresses, the primary one first, and its IPv6 addresses."""
    private = [raw.get("PrivateIpAddress"), *(a.get("PrivateIpAddress") for a in raw.get("PrivateIpAddresses", ()))]
    ipv6 = [a.get("Ipv6Address") for a in raw.get("Ipv6Addresses", ())]
    return tuple(dict.fromkeys(str(a) for a in (*private, *ipv6) if a))


def parse_instance(raw: Mapping[str, Any], names: Iterable[Name] = ()) -> Instance:
    """An instance of a DescribeInstances reply; interfaces numbered by (network card, device index).

    Args:
        names: by which it was found. (A terminated instance has none but its tags, and is off.)
    """
    ordered = sorted(raw.get("NetworkInterfaces", ()), key=_position)
    interfaces = [
        Interface(
            id=i["NetworkInterfaceId"],
            number=number,
            groups=frozenset(g["GroupId"] for g in i.get("Groups", ())),
            vpc=i.get("VpcId", ""),
            managed=bool(i.get("Operator", {}).get("Managed", False)),
            kind=i.get("InterfaceType", "interface"),
            position=_position(i)[:2],
            addresses=_addresses(i),
        )
        for number, i in enumerate(ordered, 1)
    ]
    # Interfaces of a kind that has no groups cannot be isolated: shown as interfaces without groups.
    for number, i in enumerate(raw.get("SecondaryInterfaces", ()), len(interfaces) + 1):
        interfaces.append(Interface(i["SecondaryInterfaceId"], number, frozenset()))
    tags = {t["Key"]: t.get("Value", "") for t in raw.get("Tags", ())}
    state = raw["State"]["Name"]
    lost = tuple(n.plug for n in names if state != "terminated" and not n.matches(raw))
    return Instance(raw["InstanceId"], state, tuple(interfaces), tags, lost, _may_be_hibernated(raw))


def _may_be_hibernated(raw: Mapping[str, Any]) -> bool:
    reason = raw.get("StateReason", {}).get("Code")
    by_ec2 = reason == INTERRUPTED and bool(raw.get("HibernationOptions", {}).get("Configured", False))
    return reason == HIBERNATED or by_ec2


def _instances(reply: Mapping[str, Any]) -> List[Mapping[str, Any]]:
    return [i for r in reply.get("Reservations", ()) for i in r.get("Instances", ())]


class InstanceOperations:
    """What the agent does with instances.

    Args:
        filters: within which names are looked up.
    """

    def __init__(self, ec2: Ec2, filters: Filters = ()) -> None:
        self._ec2 = ec2
        self._filters = filters
        self._names: Dict[str, List[Name]] = {}  # by which instances were found
        self._not_yet: List[str] = []  # instances that could not be started for now
        self._unread: Dict[str, List[Name]] = {}  # those of instances that were not terminated, until they are read
        self._by_id = False  # did the latest read by ID succeed, after one by filter did not?

    def read(self, ids: Iterable[str]) -> Dict[str, Instance]:
        """These instances, in one call; the unknown ones are missing.

        Raises:
            FenceError: the read failed, or one that was found by its name is terminated, and another has the name:
                the look-up was stale.
        """
        instances = {i: self.parse(raw) for i, raw in self.described(ids).items()}
        for instance in instances.values():
            names = self._unread.pop(instance.id, ())
            replaced = [n.plug for n in names if instance.terminated and set(self.named(n)) - {instance.id}]
            if replaced:
                raise messages.lost_names(instance.id, replaced)
        return instances

    def parse(self, raw: Mapping[str, Any]) -> Instance:
        """An instance of a reply; it may have lost a name by which it was found."""
        return parse_instance(raw, self._names.get(raw["InstanceId"], ()))

    def keep_name(self, instance: str, state: str, name: Name) -> None:
        """The instance was found by this name, in this state; later reads tell whether it still has it."""
        self._names.setdefault(instance, []).append(name)
        if state != "terminated":
            self._unread.setdefault(instance, []).append(name)

    def described(self, ids: Iterable[str]) -> Dict[str, Mapping[str, Any]]:
        """These instances as EC2 describes them.

        By filter, which finds what there is; by ID, one unknown instance would fail the call. But while a zone is
        disrupted, EC2 describes instances of other zones, and by ID only.
        """
        wanted = sorted(set(ids))
        purpose = CallContext(f"read instance {', '.join(wanted)}", Category.RETRIEVAL)
        forms: List[Dict[str, Any]] = [
            {"Filters": [{"Name": "instance-id", "Values": wanted}]},
            {"InstanceIds": wanted},
        ]
        if self._by_id:
            forms.reverse()
        first = self._ec2.call("describe_instances", purpose, forms)
        self._by_id = "InstanceIds" in forms[0]
        token = first.get("NextToken")
        more = self._pages(purpose, token, **forms[0]) if token else ()
        return {raw["InstanceId"]: raw for page in (_instances(first), *more) for raw in page}

    def listed(self, filters: Filters) -> Iterator[Mapping[str, Any]]:
        """Every instance that matches, page by page, with its ID, tags and state only."""
        purpose = CallContext("list instances", Category.RETRIEVAL)
        given = [{"Name": k, "Values": list(v)} for k, v in filters]
        for page in self._pages(purpose, Filters=given, MaxResults=PAGE):
            yield from page

    def raw_pages(
        self, purpose: CallContext, filters: Sequence[Tuple[str, Tuple[str, ...]]], most: int
    ) -> Iterator[List[Mapping[str, Any]]]:
        """The instances that match, as EC2 describes them; at most so many pages."""
        given = [{"Name": k, "Values": list(v)} for k, v in filters]
        return islice(self._pages(purpose, Filters=given, MaxResults=PAGE), most)

    def probe(self, filters: Filters, known: Optional[str] = None) -> Optional[ApiError]:
        """One cheap call that needs good credentials and the permission to read; EC2's refusal of the filters.

        Args:
            known: an instance to read by ID where that fails for now, as while a zone is disrupted.

        Raises:
            FenceError: any other error.
        """
        purpose = CallContext("read instances", Category.RETRIEVAL)
        given = {"Filters": [{"Name": k, "Values": list(v)} for k, v in filters]} if filters else {}
        forms: List[Dict[str, Any]] = [{**given, "MaxResults": 5}, *([{"InstanceIds": [known]}] if known else [])]
        try:
            self._ec2.call("describe_instances", purpose, forms)
        except ApiError as error:
            if error.category is not Category.RETRIEVAL or not filters:
                raise
            return error
        return None

    def named(self, name: Name) -> Dict[str, str]:
        """The instances that have this name, and their states.

        An exact match takes precedence. Otherwise, names match that differ in case, or in characters that ``list``
        replaces: Pacemaker knows the names from ``list`` and ignores case. Terminated instances are ignored if
        there is another one; otherwise one of them represents all, because it stays off. Whether there is another
        one is looked up once more before that is final: the view may be stale.
        """
        states = self._named(name)
        if all(state == "terminated" for state in states.values()):
            self._ec2.deadline.pause(READ_ONCE_MORE_SECONDS)
            states = self._named(name) or states
        return states

    def _named(self, name: Name) -> Dict[str, str]:
        purpose = CallContext(f"look up instance {name.plug}", Category.RETRIEVAL)
        terminated: Dict[str, str] = {}
        for exactly in (True, False):
            states: Dict[str, str] = {}
            for kind in name.kinds:
                states.update(self._matching(purpose, kind, exactly=exactly))
            alive = {i: state for i, state in sorted(states.items()) if state != "terminated"}
            if alive:
                return alive
            terminated.update(sorted(states.items()))
        return dict(islice(terminated.items(), 1))

    def tagged(self, name: Name) -> List[str]:
        """The instances that have this name as their tag, in any spelling; by one call, not the terminated ones."""
        purpose = CallContext(f"look up node {name.plug}", Category.RETRIEVAL)
        kind = name.kinds[0]
        states = self._matching(purpose, kind, exactly=kind.similar is None)
        return sorted(i for i, state in states.items() if state != "terminated")

    def _matching(self, purpose: CallContext, kind: Kind, *, exactly: bool) -> Dict[str, str]:
        """The instances that have this name, and their states."""
        value = kind.exact if exactly else kind.similar
        if value is None:
            return {}  # nothing in it that could be written in another way
        # Of two filters of one key, only that of the device is sent: the name is compared here anyway.
        given = {kind.filter: (value,), **dict(self._filters)}
        narrowed = [{"Name": k, "Values": list(v)} for k, v in given.items()]
        raws = (raw for page in self._pages(purpose, Filters=narrowed, MaxResults=PAGE) for raw in page)
        return {raw["InstanceId"]: raw["State"]["Name"] for raw in raws if kind.matches(raw, exactly=exactly)}

    def stop(self, instance: str, **more: Any) -> None:
        """Force a stop; ``SkipOsShutdown=True`` does not wait for the operating system."""
        purpose = CallContext(f"stop instance {instance}", Category.INSTANCE)
        self._ec2.call("stop_instances", purpose, InstanceIds=[instance], Force=True, **more)

    def stop_at_once(self, instance: str) -> None:
        """Force a stop, without waiting for the operating system where EC2 can; Force alone waits for minutes."""
        try:
            self.stop(instance, SkipOsShutdown=True)
        except ApiError as error:
            if error.code not in NO_SKIP:
                raise
            self.stop(instance)  # where it is refused too, the option was not the reason
            log.warning(messages.graceful_stop(instance, error.text))

    def stop_protected(self, instance: str) -> bool:
        """Is stop protection (``disableApiStop``) on? A dry run does not show it."""
        purpose = CallContext(f"look up the stop protection of {instance}", Category.RETRIEVAL)
        asked = "disableApiStop"  # older SDKs do not know it, and pass it on
        reply = self._ec2.call("describe_instance_attribute", purpose, InstanceId=instance, Attribute=asked)
        return bool(reply.get("DisableApiStop", {}).get("Value", False))

    def start(self, instance: str) -> None:
        """Start it, in one attempt; nothing happens to one that runs.

        Raises:
            ApiError: it failed; transient, if EC2 may just not know yet what a read showed: the next read decides.
        """
        purpose = CallContext(f"start instance {instance}", Category.INSTANCE)
        try:
            self._ec2.call_once("start_instances", purpose, InstanceIds=[instance])
        except ApiError as error:
            once = error.code in NOT_YET and instance not in self._not_yet
            if once:
                self._not_yet.append(instance)
            if once or error.code == SPOT_NOT_YET:
                self._ec2.stats.add(retries=1)
                error.transient = True
            raise

    def _pages(
        self, purpose: CallContext, token: Optional[str] = None, **params: Any
    ) -> Iterator[List[Mapping[str, Any]]]:
        for _ in range(MOST_PAGES):
            if token:
                params["NextToken"] = token
            reply = self._ec2.call("describe_instances", purpose, **params)
            yield _instances(reply)
            token = reply.get("NextToken")
            if not token:
                return
        raise messages.too_many_pages(purpose.what, MOST_PAGES)
