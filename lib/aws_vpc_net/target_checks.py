"""The checks of the preflight for one instance, and their data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, FrozenSet, Iterable, List, Mapping, Optional, Sequence, Set, Tuple, Union

from . import messages, probe
from .context import Context
from .core import backup, isolation, sg_rules, tag_slots
from .core.backing_up import is_stopped_by_off
from .core.model import Groups, Instance, Interface
from .core.probing import Answer, addresses_of
from .dry_run import Check, DryRun
from .errors import FenceError
from .inputs import STATIC_INTERFACES
from .instances import parse_instance

OK, WARN, FAIL = "ok", "warn", "FAIL"
IPV6_KEYS = ("Ipv6Addresses", "Ipv6Prefixes")  # keys of an interface with IPv6


@dataclass(frozen=True)
class CheckResult:
    """The result of one check: ``level``, what it is about, and what to know or do."""

    level: str
    about: str
    text: str

    def __str__(self) -> str:
        return f"{self.level:<4} {self.about}: {self.text}"


@dataclass(frozen=True)
class Snapshot:
    """The data of all plugs, read once; the error, for data that could not be read."""

    instances: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    instances_error: Optional[FenceError] = None
    groups: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    groups_error: Optional[FenceError] = None
    associated: Mapping[str, Set[str]] = field(default_factory=dict)
    associated_error: Optional[FenceError] = None
    own: Optional[str] = None
    own_error: Optional[FenceError] = None
    protected: Mapping[str, Union[bool, FenceError]] = field(default_factory=dict)  # stop protection

    def instance(self, plug: str) -> Optional[Instance]:
        """As the actions see it."""
        return parse_instance(self.instances[plug]) if plug in self.instances else None

    def usable(self, group: str, vpc: str) -> bool:
        """Can the group be used in the VPC? Also true if that could not be looked up."""
        if group not in self.groups:
            return self.groups_error is not None
        return self.groups[group].get("VpcId") == vpc or vpc in self.associated.get(group, ())


class Target:
    """The checks of one instance."""

    def __init__(self, context: Context, snapshot: Snapshot, plug: str) -> None:
        self.context = context
        self.spec = context.spec
        self.snapshot = snapshot
        self.plug = plug
        instance = snapshot.instance(plug)
        self.instance = instance if instance and not instance.terminated else None
        self.interfaces: Sequence[Interface] = ()
        self.originals: Mapping[str, Groups] = {}
        self.goals: Mapping[str, Groups] = {}
        if self.instance:
            self.history = backup.read(self.instance)
            self.interfaces = [i for i in self.instance.interfaces if i.groups and not i.managed and not i.unfiltered]
            self.originals = isolation.backup_groups(self.instance, self.history, self.spec)
            self.goals = {i.id: self._goal(i) for i in self.interfaces}

    @property
    def is_self(self) -> bool:
        """Is it this machine?"""
        return self.plug == self.snapshot.own

    def _goal(self, interface: Interface) -> Groups:
        goal = isolation.target_groups(interface.groups, self.spec, self.originals[interface.id])
        if not self.spec.keep_only:
            return goal
        usable = frozenset(g for g in goal if self.snapshot.usable(g, interface.vpc))
        return usable or (goal if self.snapshot.associated_error else usable)

    def check_instance(self) -> List[CheckResult]:
        """Does the instance exist and run, and can its interfaces be changed?"""
        about = f"instance {self.plug}"
        if self.instance is None:
            return [
                CheckResult(FAIL, about, self._missing()),
                CheckResult(WARN, f"interfaces of {self.plug}", self._depends()),
            ]
        state = self.instance.state
        settings = self.context.settings
        any_state = settings.overrides.ignore_instance_state
        if state != "running" and not (
            any_state or is_stopped_by_off(self.instance, self.spec, settings.power.onfence_poweroff)
        ):
            first = CheckResult(FAIL, about, messages.not_running(self.plug, state).text)
        elif isolation.is_off(self.instance, self.history, self.spec):
            first = CheckResult(WARN, about, messages.is_fenced_now(state))
        else:
            first = CheckResult(OK, about, state)
        return [first, *self._interfaces(self.instance)]

    def _missing(self) -> str:
        if self.plug not in self.snapshot.instances and self.snapshot.instances_error:
            return self.snapshot.instances_error.text
        if self.plug in self.snapshot.instances:
            return messages.gone_for_good()
        return messages.unknown_instance(self.plug).text

    def _depends(self) -> str:
        return messages.depends_on(f"instance {self.plug}")

    def _interfaces(self, instance: Instance) -> List[CheckResult]:
        if not instance.interfaces:
            return [CheckResult(FAIL, f"interfaces of {self.plug}", messages.no_interfaces(self.plug).text)]
        results = []
        for i in instance.interfaces:
            about = f"interface {i.id}"
            if i.managed:
                results.append(CheckResult(FAIL, about, messages.managed_interface(self.plug, i.id).text))
            elif i.unfiltered:
                results.append(CheckResult(FAIL, about, messages.unfiltered_interface(self.plug, i.id, i.kind).text))
            elif not i.groups:
                results.append(CheckResult(FAIL, about, messages.interface_without_groups(self.plug, i.id).text))
            else:
                idle = self._tracked_seconds(i.id)
                results.append(CheckResult(OK, about, messages.interface_found(i.number - 1, i.vpc, i.groups, idle)))
                if isolation.is_untracking(i.groups, self.spec):
                    results.append(CheckResult(WARN, about, messages.is_open()))
                if i.kind in ("efa", "efa-only"):
                    results.append(CheckResult(WARN, about, messages.efa_interface(i.kind)))
                elif i.kind != "interface":
                    results.append(CheckResult(WARN, about, messages.unknown_interface_type(i.kind)))
        if self.snapshot.instances[self.plug].get("OutpostArn"):
            results.append(CheckResult(WARN, f"interfaces of {self.plug}", messages.on_outpost()))
        return results

    def tag_condition(self) -> CheckResult:
        """The usual cause of a refusal by a policy with conditions: the tags of the instance."""
        tags = self.instance.tags if self.instance else {}
        return CheckResult(
            WARN, f"tag cluster of {self.plug}", messages.tag_condition(self.plug, tags.get("cluster"))
        )

    def check_groups(self) -> List[CheckResult]:
        """Can each interface use its new groups?"""
        if self.instance is None:
            return [CheckResult(WARN, f"groups for {self.plug}", self._depends())]
        if self.snapshot.groups_error is not None:
            return [CheckResult(WARN, f"groups for {self.plug}", messages.depends_on("groups"))]
        results = [*self._check_secg(), *self._check_other_groups(), *self._check_static(self.instance)]
        fits = CheckResult(OK, f"groups for {self.plug}", messages.groups_fit())
        return results if results or self.snapshot.associated_error else [fits]

    def _check_secg(self) -> List[CheckResult]:
        if not self.spec.keep_only:
            return []
        results = []
        existing = [g for g in self.spec.secg if g in self.snapshot.groups]
        unknown = self.snapshot.associated_error is not None
        for i in self.interfaces:
            if any(self.snapshot.usable(g, i.vpc) for g in self.spec.secg):
                continue
            if existing and unknown:
                results.append(CheckResult(WARN, f"groups for {i.id}", messages.association_unknown(existing, i.vpc)))
            else:
                text = messages.no_group_in_vpc(self.plug, i.id, i.vpc, self.spec.secg).text
                results.append(CheckResult(FAIL, f"groups for {i.id}", text))
        return results

    def _check_other_groups(self) -> List[CheckResult]:
        results = []
        for i in self.interfaces:
            n = i.number - 1
            static = [(f"interface{n}-sg", g) for g in sorted(self.context.settings.static.get(n, ()))]
            untrack = [("untrack_secg", self.spec.untrack)] if self.spec.untrack else []
            for option, group in [*untrack, *static]:
                if group not in self.snapshot.groups or self.snapshot.usable(group, i.vpc):
                    continue
                level, text = FAIL, messages.group_of_other_vpc(option, group, i.vpc)
                if self.snapshot.associated_error is not None:
                    level, text = WARN, messages.association_unknown([group], i.vpc)
                results.append(CheckResult(level, f"groups for {i.id}", text))
        return results

    def _check_static(self, instance: Instance) -> List[CheckResult]:
        """The errors and warnings of ``on`` about ``interfaceN-sg``."""
        static = self.context.settings.static
        numbering = {i.number - 1: i.id for i in instance.interfaces}
        missing = [n for n in numbering if n not in static]
        unused = [n for n in static if n not in numbering]
        isolating = isolation.isolating_options(static, numbering, self.spec)
        results = []
        if static and missing:
            text = messages.static_gap(self.plug, missing, numbering).text
            results.append(CheckResult(FAIL, f"groups for {self.plug}", text))
        if isolating:
            text = messages.static_isolates(f"interface{isolating[0]}-sg").text
            results.append(CheckResult(FAIL, f"groups for {self.plug}", text))
        if unused:
            results.append(CheckResult(WARN, f"groups for {self.plug}", messages.static_unused(self.plug, unused)))
        return results

    # Permissions

    def dry_runs(self) -> List[Check]:
        """A dry run of every write of these options, as close to the real call as possible."""
        dry = DryRun(self.context.ec2)
        if self.instance is None and self.snapshot.instances_error is None:
            return []
        checks = dry.tags(self.plug, self._sample_tags())
        for i in self.interfaces:
            if self._known(self.goals[i.id]):
                checks.append(dry.groups(i.id, self._known(self.goals[i.id])))
        checks += [dry.groups(interface, groups) for interface, groups in self._other_groups()]
        power = self.context.settings.power
        if power.onfence_poweroff:
            checks.append(self._dry_stop(dry))
        if power.unfence_poweron and not self.context.settings.overrides.unfence_ignore_restore:
            checks.append(dry.start(self.plug))
        return checks

    def _dry_stop(self, dry: DryRun) -> Check:
        skip = self.context.settings.power.skip_os_shutdown
        return dry.stop(self.plug, **({"SkipOsShutdown": True} if skip else {}))

    def requires(self, action: str) -> bool:
        """Does off or on fail without this permission? Otherwise it warns."""
        if action == "StopInstances":
            return self.context.settings.power.require_poweroff
        if action == "DeleteTags":
            return False
        return action != "CreateTags" or not self._backup_is_optional()

    def _backup_is_optional(self) -> bool:
        interfaces = len(self.instance.interfaces) if self.instance else STATIC_INTERFACES
        return isolation.backup_is_optional(self.spec, self.context.settings.static, interfaces)

    def dry_runs_of_return(self) -> List[Check]:
        """A dry run of every write that auto_unfence needs: what cannot be stopped is not brought back."""
        if self.instance is None or not self.context.settings.power.auto_unfence:
            return []
        dry = DryRun(self.context.ec2)
        returned = dry.tags(self.plug, {backup.RETURNED: "0"}, f"tag {backup.RETURNED}")
        return [*returned, self._dry_stop(dry), dry.start(self.plug)]

    def unchecked(self) -> List[str]:
        """Why some permissions are not checked."""
        if self.instance is None and self.snapshot.instances_error is None:
            return [self._depends()]
        if not self.interfaces:
            return [f"ec2:ModifyNetworkInterfaceAttribute {messages.depends_on(f'interfaces of {self.plug}')}"]
        return []

    def _known(self, groups: Iterable[str]) -> FrozenSet[str]:
        if self.snapshot.groups_error is not None:
            return frozenset(groups)
        return frozenset(g for g in groups if g in self.snapshot.groups)

    def _other_groups(self) -> List[Tuple[str, Groups]]:
        """The groups for untracking and for the restore; each set once, because these calls are rate-limited."""
        interface_of: Dict[Groups, str] = {}
        for i in self.interfaces:
            static = self.context.settings.static.get(i.number - 1)
            back = static or self.originals[i.id]
            through = [frozenset((self.spec.untrack,))] if self.spec.untrack else []
            for groups in [*through, back]:
                known = self._known(groups)
                if known and known != self.goals[i.id]:
                    interface_of.setdefault(known, i.id)
        return [(interface, groups) for groups, interface in interface_of.items()]

    def _sample_tags(self) -> Dict[str, str]:
        """Keys as ``off`` writes them, because a policy may depend on keys."""
        return {backup.LASTFENCE: "0", f"{backup.PREFIX}{self.plug}_0_1_0": "{}"}

    # What off would do

    def check_impact(self) -> List[CheckResult]:
        """Free tags for the backup, groups to remove, surviving connections."""
        if self.instance is None:
            return [CheckResult(WARN, f"tags, removal and connections of {self.plug}", self._depends())]
        stop = self._stop() if self.context.settings.power.onfence_poweroff else []
        tags = [self._room(self.instance), *self._unreadable(self.instance)]
        return [*tags, *self._removal(self.instance), self._connections(), *stop]

    def _room(self, instance: Instance) -> CheckResult:
        about = f"tags of {self.plug}"
        try:
            time = backup.next_time(1, instance)
            needed = tag_slots.make_backup(instance, self.originals, time, self.spec)
        except tag_slots.NoRoom as error:
            level = WARN if self._backup_is_optional() else FAIL
            return CheckResult(level, about, messages.no_room(self.plug, error.needed, error.free).text)
        free = tag_slots.TAG_LIMIT - sum(not k.startswith("aws:") for k in instance.tags)
        new = len(set(needed.tags) - set(instance.tags))
        returns = self.context.settings.power.auto_unfence and backup.RETURNED not in instance.tags
        if returns and free <= new:
            return CheckResult(WARN, about, messages.room_for_backup_only(new, free))
        return CheckResult(OK, about, messages.room(new, free))

    def _unreadable(self, instance: Instance) -> List[CheckResult]:
        keys = tag_slots.unreadable_tags(instance, self.spec)
        return [CheckResult(WARN, f"tags of {self.plug}", messages.tags_unreadable(keys))] if keys else []

    def _removal(self, instance: Instance) -> List[CheckResult]:
        if self.spec.keep_only:
            return []
        about = f"removal on {self.plug}"
        results = [
            CheckResult(FAIL, about, messages.nothing_left(self.plug, i.id, i.groups).text)
            for i in self.interfaces
            if not self.goals[i.id]
        ]
        if isolation.has_groups_to_remove(instance, self.spec):
            where = {i.id: i.groups & self.spec.forbidden_groups for i in self.interfaces}
            return results or [CheckResult(OK, about, messages.would_remove({k: v for k, v in where.items() if v}))]
        if not isolation.has_backup(instance, self.history, self.spec):
            results.append(CheckResult(FAIL, about, messages.nothing_to_remove(self.plug).text))
        return results

    def _stop(self) -> List[CheckResult]:
        """Reasons for which StopInstances fails although its dry run passes; off then warns, or fails."""
        about = f"stop of {self.plug}"
        raw = self.snapshot.instances[self.plug]
        protected = self.snapshot.protected[self.plug]
        level = FAIL if self.requires("StopInstances") else WARN
        results = []
        if isinstance(protected, FenceError):
            results.append(CheckResult(WARN, about, messages.protection_unchecked(protected.text)))
        elif protected:
            results.append(CheckResult(level, about, messages.stop_protected()))
        if raw.get("RootDeviceType") == "instance-store":
            results.append(CheckResult(level, about, messages.instance_store()))
        if raw.get("InstanceLifecycle") == "spot":
            results.append(CheckResult(WARN, about, messages.spot_instance()))
        return results or [CheckResult(OK, about, messages.can_be_stopped())]

    def _tracked_seconds(self, interface: str) -> Optional[int]:
        """How long an idle TCP connection is tracked; None: the default of EC2."""
        shown = {e["NetworkInterfaceId"]: e for e in self.snapshot.instances[self.plug].get("NetworkInterfaces", ())}
        seconds = shown.get(interface, {}).get("ConnectionTrackingConfiguration", {}).get("TcpEstablishedTimeout")
        return None if seconds is None else int(seconds)

    def _connections(self) -> CheckResult:
        about = f"established connections of {self.plug}"
        untrack = self.spec.untrack
        if untrack is None:
            idle = {i.id: self._tracked_seconds(i.id) for i in self.interfaces}
            stops = self.context.settings.power.onfence_poweroff
            return CheckResult(WARN, about, messages.would_survive(stops, idle))
        if untrack not in self.snapshot.groups:
            return CheckResult(
                WARN, about, messages.depends_on(f"group {untrack}" if not self.snapshot.groups_error else "groups")
            )
        ipv6 = any(
            e.get(k) for e in self.snapshot.instances[self.plug].get("NetworkInterfaces", ()) for k in IPV6_KEYS
        )
        missing_rules = sg_rules.missing_rules(sg_rules.read(self.snapshot.groups[untrack]), ipv6)
        if missing_rules:
            return CheckResult(FAIL, about, messages.untracks_not_all(untrack, missing_rules))
        return CheckResult(OK, about, messages.would_be_untracked(untrack, ipv6))

    # The probe

    def check_probe(self, port: int, answers: Mapping[str, Answer]) -> List[CheckResult]:
        """Can this machine observe the isolation of each interface at ``probe_port``?"""
        about = f"probe_port on {self.plug}"
        if self.instance is None:
            return [CheckResult(WARN, about, self._depends())]
        if self.is_self:
            return [CheckResult(WARN, about, messages.preflight_of_self())]
        results = []
        for i in self.instance.interfaces:
            results += [self._check_answer(self.instance, i, address, answers) for address in i.addresses]
            results += self._check_probe_rules(i, port)
        return results

    def _check_answer(
        self, instance: Instance, interface: Interface, address: str, answers: Mapping[str, Answer]
    ) -> CheckResult:
        about = f"probe_port on {interface.id}"
        settle = self.context.settings.timing.settle_seconds
        isolated = isolation.is_isolated(interface, instance, self.history, self.spec)
        other_answers = any(answers[a] is Answer.ANSWERED for a in interface.addresses if a != address)
        if answers[address] is Answer.IMPOSSIBLE and other_answers:
            return CheckResult(WARN, about, messages.cannot_probe_other_answers(address))
        if answers[address] is Answer.IMPOSSIBLE:
            return CheckResult(WARN, about, messages.cannot_probe_address(address, settle))
        if answers[address] is Answer.ANSWERED:
            if isolated:
                return CheckResult(WARN, about, messages.answers_though_isolated(address))
            return CheckResult(OK, about, messages.answers(address))
        if isolated or instance.state != "running":
            return CheckResult(OK, about, messages.silence_expected(address, None if isolated else instance.state))
        if other_answers:
            return CheckResult(OK, about, messages.other_address_answers(address))
        return CheckResult(WARN, about, messages.address_silent(address, settle))

    def _check_probe_rules(self, interface: Interface, port: int) -> List[CheckResult]:
        """Would the groups after isolation allow this machine to reach the port? Then it is never silent."""
        about = f"probe_port on {interface.id}"
        goal = sorted(self.goals.get(interface.id, ()))
        sources = {a: probe.local_address(a) for a in interface.addresses}
        local = {a: source for a, source in sources.items() if source is not None}
        if not goal or not local:
            return []
        unread = [g for g in goal if g not in self.snapshot.groups]
        if unread:
            which = "groups" if self.snapshot.groups_error else f"group {unread[0]}"
            return [CheckResult(WARN, about, messages.depends_on(which))]
        allowing, possibly_allowing = set(), set()
        for group in goal:
            rules = sg_rules.read(self.snapshot.groups[group])
            for address, source in local.items():
                certain, possible = sg_rules.admitting(rules, port, self._source(source), ":" in address)
                allowing |= {f"{group} {rule}" for rule in certain}
                possibly_allowing |= {f"{group} {rule}" for rule in possible}
        if allowing:
            return [CheckResult(FAIL, about, messages.probe_allowed(allowing, set(local.values())))]
        if possibly_allowing:
            return [CheckResult(WARN, about, messages.probe_possibly_allowed(possibly_allowing))]
        return [CheckResult(OK, about, messages.probe_not_allowed(set(local.values())))]

    def _source(self, local: str) -> sg_rules.Source:
        """This machine, connecting from one of its addresses.

        The groups are those of the interface with this address. If no interface has it, as in a container, it may be
        any of them.
        """
        own = self.snapshot.instance(self.snapshot.own or "")
        if own is None:
            return sg_rules.Source(frozenset((local,)))
        holders = [i for i in own.interfaces if local in i.addresses]
        others = () if holders else addresses_of(own)
        groups = frozenset(g for i in holders or own.interfaces for g in i.groups)
        return sg_rules.Source(frozenset((local, *others)), groups)
