"""validate-all with an instance: checks whether off, on and status would work. One line per check; changes nothing.

Every check runs, also after a failed one; a check that depends on a failed one says so. Independent calls are made
concurrently. A check whose data could not be read FAILs.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from functools import partial
from typing import Any, Callable, Collection, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

from . import identity, messages
from .context import Context
from .core import backup, isolation, sg_rules
from .core.probing import ATTEMPT_SECONDS, Answer, addresses_of
from .core.protocol import READ_ONCE_MORE_SECONDS
from .ec2 import run_concurrently
from .errors import ApiError, FenceError
from .instances import parse_instance
from .probe import Prober
from .target_checks import FAIL, OK, WARN, CheckResult, Snapshot, Target

Describe = Callable[[Iterable[str]], Mapping[str, Mapping[str, Any]]]

STOPPED = {"instance-state-name": "stopped", "instance-state-code": "80"}  # filters of a state, and this one
POWEROFF_DEADLINE = 180.0  # seconds; EC2 documents no limit for a stop
BY_TAG = ("CreateTags", "DeleteTags", "StopInstances", "StartInstances")  # policies may depend on its tags


def run(context: Context, names: Mapping[str, str]) -> List[CheckResult]:
    """All checks of all plugs.

    Args:
        names: the resolved names: plug -> instance ID.
    """
    plugs = context.settings.plugs
    try:
        context.ec2.connect()
    except FenceError as error:
        return [
            CheckResult(FAIL, "SDK", error.text),
            CheckResult(WARN, "all other checks", messages.depends_on("SDK")),
        ]
    snapshot = _read(context, plugs)
    results = [_identity(context, snapshot), *_sdk(context), *_filter(context)]
    results += [CheckResult(OK, f"plug {p}", messages.name_found(i)) for p, i in names.items() if p != i]
    targets = [Target(context, snapshot, plug) for plug in plugs]
    for target in targets:
        results += target.check_instance()
    results += _groups(context, snapshot)
    for target in targets:
        results += target.check_groups()
    results += _vpcs(context, snapshot, targets)
    results += _let_through(context, snapshot, targets)
    results += [*_permissions(context, targets), *_auto_unfence(context, targets)]
    for target in targets:
        results += target.check_impact()
    return [*results, *_probe(context, targets)]


def conclude(context: Context, results: Sequence[CheckResult]) -> None:
    """End the preflight.

    Raises:
        FenceError: of category validation, if any check failed.
    """
    failed = [r.about for r in results if r.level == FAIL]
    if failed:
        raise messages.preflight_failed(", ".join(context.settings.plugs), list(dict.fromkeys(failed)))


# --- reading ---------------------------------------------------------------------------------------------------


def _run_all(work: List[Callable[[], Any]]) -> List[Any]:
    """Run them concurrently; the result of each, or its FenceError."""
    results = run_concurrently(work)
    for result in results:
        if isinstance(result, Exception) and not isinstance(result, FenceError):
            raise result
    return results


def _split(result: Any, default: Any) -> Tuple[Any, Optional[FenceError]]:
    return (default, result) if isinstance(result, FenceError) else (result, None)


def _all(context: Context, describe: Describe, ids: Collection[str]) -> Mapping[str, Mapping[str, Any]]:
    """What EC2 shows of these; read once more if something is missing, because the read may be stale."""
    shown = describe(ids)
    if set(ids) - set(shown):
        context.deadline.pause(READ_ONCE_MORE_SECONDS)
        shown = {**shown, **describe(ids)}
    return shown


def _read(context: Context, plugs: Sequence[str]) -> Snapshot:
    settings = context.settings
    named = context.spec.forbidden_groups | {g for groups in settings.static.values() for g in groups}
    look = (lambda: None) if settings.overrides.skip_race_check else partial(identity.own_instance, context.ec2.imds)
    stops = [partial(context.instances.stop_protected, p) for p in plugs if settings.power.onfence_poweroff]
    reads = [(context.instances.described, plugs), (context.groups.described, named)]
    described, described_groups, own, *protected = _run_all(
        [*(partial(_all, context, describe, ids) for describe, ids in reads), look, *stops]
    )
    instances, instances_error = _split(described, {})
    groups, groups_error = _split(described_groups, {})
    parsed = [parse_instance(raw) for raw in instances.values()]
    originals = [isolation.backup_groups(i, backup.read(i), context.spec) for i in parsed]
    shown = {g for i in (*(i.groups for i in parsed), *originals) for groups in i.values() for g in groups}
    vpcs = {e.vpc for i in parsed for e in i.interfaces if e.groups}
    foreign = {g for g, raw in groups.items() if g in named and vpcs - {raw.get("VpcId")}}
    self_too = own is not None and own not in plugs
    more, associations, described_self = _run_all(
        [
            partial(context.groups.described, shown) if shown - set(groups) and groups_error is None else dict,
            partial(context.groups.associated, foreign) if foreign else dict,
            partial(context.instances.described, [str(own)]) if self_too else dict,
        ]
    )
    others, others_error = _split(more, {})
    associated, associated_error = _split(associations, {})
    own_read, own_error = _split(described_self, {})
    return Snapshot(
        {**own_read, **instances},
        instances_error,
        {**others, **groups},
        groups_error or others_error,
        associated,
        associated_error,
        own,
        own_error,
        dict(zip(plugs, protected)),
    )


# --- what is the same for all plugs ----------------------------------------------------------------------------


def _identity(context: Context, snapshot: Snapshot) -> CheckResult:
    """Account, region and machine of the caller, from the replies: STS may need another endpoint."""
    owners = [e.get("OwnerId") for raw in snapshot.instances.values() for e in raw.get("NetworkInterfaces", ())]
    known = messages.identity(owners[0] if owners else None, context.ec2.region, snapshot.own)
    if context.settings.overrides.skip_race_check:
        return CheckResult(OK, "identity", f"{known}; {messages.race_check_skipped()}")
    if snapshot.own is None:
        return CheckResult(WARN, "identity", f"{known}; {messages.unknown_self()}")
    if snapshot.own in context.settings.plugs:
        return CheckResult(WARN, "identity", f"{known}; {messages.preflight_of_self()}")
    if snapshot.own_error is not None:
        return CheckResult(FAIL, "identity", snapshot.own_error.text)
    own = snapshot.instance(snapshot.own)
    if own and isolation.fencer_is_fenced(own, backup.read(own), context.spec):
        return CheckResult(FAIL, "identity", messages.fenced_fencer(snapshot.own).text)
    return CheckResult(OK, "identity", known)


def _sdk(context: Context) -> List[CheckResult]:
    power = context.settings.power
    results = [CheckResult(OK, "SDK", context.ec2.sdk)]
    if power.skip_os_shutdown and not power.onfence_poweroff:
        results.append(CheckResult(WARN, "skip_os_shutdown", messages.without_poweroff()))
    if power.unfence_poweron and context.settings.overrides.unfence_ignore_restore:
        results.append(CheckResult(WARN, "unfence_poweron", messages.without_restore()))
    if power.require_poweroff and context.settings.timing.deadline < POWEROFF_DEADLINE:
        text = messages.short_for_poweroff(context.settings.timing.deadline, POWEROFF_DEADLINE)
        results.append(CheckResult(WARN, "require_poweroff", text))
    return results


def _filter(context: Context) -> List[CheckResult]:
    """Does EC2 take it? Plugs that are IDs do not need it, but ``list`` does."""
    try:
        refusal = context.instances.probe(context.settings.filters) if context.settings.filters else None
    except FenceError:  # as of the reads, which tell it
        refusal = None
    return [CheckResult(WARN, "filter", messages.filter_refused(refusal.text))] if refusal else []


def _groups(context: Context, snapshot: Snapshot) -> List[CheckResult]:
    """Every group that an option names exists."""
    named: Dict[str, List[str]] = {}
    untrack = context.spec.untrack
    options = [("secg", context.spec.secg), ("untrack_secg", (untrack,) if untrack else ())]
    options += [(f"interface{n}-sg", tuple(sorted(groups))) for n, groups in sorted(context.settings.static.items())]
    for option, groups in options:
        for group in groups:
            named.setdefault(group, []).append(option)
    if snapshot.groups_error is not None:
        return [CheckResult(FAIL, "groups", snapshot.groups_error.text)]
    others = context.spec.keep_only and any(group in snapshot.groups for group in context.spec.secg)
    return [_group(snapshot, group, by, others) for group, by in named.items()]


def _group(snapshot: Snapshot, group: str, options: Sequence[str], others: bool) -> CheckResult:
    """``others``: is another group of secg there, and off would drop this one?"""
    raw = snapshot.groups.get(group)
    if raw is None and others and options == ["secg"]:
        return CheckResult(WARN, f"group {group}", messages.group_would_be_dropped())
    if raw is None:
        return CheckResult(FAIL, f"group {group}", messages.no_such_group(options))
    return CheckResult(
        OK, f"group {group}", messages.group_found(raw.get("GroupName", ""), raw.get("VpcId", ""), options)
    )


def _vpcs(context: Context, snapshot: Snapshot, targets: Iterable[Target]) -> List[CheckResult]:
    """Groups of secg that no interface can use, of any plug: nodes in several VPCs share secg."""
    error = snapshot.associated_error
    if error is not None:  # looked up only if a group belongs to another VPC than an interface
        unknown = isinstance(error, ApiError) and error.code == "UnknownOperation"
        return [CheckResult(WARN if unknown else FAIL, "VPC associations of groups", error.text)]
    vpcs = {i.vpc for target in targets for i in target.interfaces}
    if not context.spec.keep_only or not vpcs or snapshot.groups_error:
        return []
    existing = [g for g in context.spec.secg if g in snapshot.groups]
    unused = [g for g in existing if not any(snapshot.usable(g, vpc) for vpc in vpcs)]
    return [CheckResult(WARN, f"group {group}", messages.group_of_no_vpc()) for group in unused]


def _let_through(context: Context, snapshot: Snapshot, targets: Iterable[Target]) -> List[CheckResult]:
    """The traffic that an isolated interface still allows, by group."""
    where: Dict[str, List[str]] = {}
    for target in targets:
        for interface, groups in target.goals.items():
            for group in sorted(groups):
                where.setdefault(group, []).append(interface)
    if not where and snapshot.groups_error is None:
        where = {g: [] for g in context.spec.secg if context.spec.keep_only}
    if snapshot.groups_error is not None:
        return [CheckResult(WARN, "what is still let through", messages.depends_on("groups"))]
    return [_through(context, snapshot.groups[g], on) for g, on in where.items() if g in snapshot.groups]


def _through(context: Context, raw: Mapping[str, Any], interfaces: Sequence[str]) -> CheckResult:
    rules_of_group = sg_rules.read(raw)
    about = f"isolation by {raw['GroupId']}"
    if not rules_of_group:
        return CheckResult(OK, about, messages.lets_nothing_through())
    text = messages.lets_through([str(r) for r in rules_of_group], interfaces)
    if not context.spec.keep_only:
        return CheckResult(WARN, about, f"{text}; {messages.remains()}")
    if sg_rules.opens_all(rules_of_group):
        return CheckResult(FAIL, about, f"{text}; {messages.no_isolation()}")
    return CheckResult(WARN, about, f"{text}; {messages.delete_rules()}")


def _permissions(context: Context, targets: Sequence[Target]) -> List[CheckResult]:
    """Every write as a dry run, concurrently. The reads have already succeeded or failed."""
    asked = [(target, action, ask) for target in targets for action, ask in target.dry_runs()]
    replies = _run_all([ask for _, _, ask in asked])
    errors: Dict[str, List[str]] = {action: [] for _, action, _ in asked}
    required = set()
    for (target, action, _), result in zip(asked, replies):
        if result is not None:
            errors[action].append(result.text)
            required |= {action} if target.requires(action) else set()
    refused = {id(t): t for (t, action, _), r in zip(asked, replies) if action in BY_TAG and _is_refusal(r)}
    results = [CheckResult(WARN, "permissions", text) for t in targets for text in t.unchecked()]
    for action, texts in errors.items():
        count = sum(a == action for _, a, _ in asked)
        level = FAIL if action in required else WARN
        text = messages.refusals(texts, count) if texts else messages.permitted(count)
        results.append(CheckResult(level if texts else OK, f"permission ec2:{action}", text))
    return [*results, *(t.tag_condition() for t in refused.values() if t.instance)]


def _auto_unfence(context: Context, targets: Sequence[Target]) -> List[CheckResult]:
    """Can monitor bring the nodes back, and only those of this cluster? Fencing works without, so these warn."""
    settings, about = context.settings, "auto_unfence"
    if not settings.power.auto_unfence:
        return []
    results = [] if settings.filters else [CheckResult(WARN, about, messages.auto_unfence_without_filter())]
    for key, values in settings.filters:
        if key in STOPPED and not any(fnmatchcase(STOPPED[key], value) for value in values):
            results.append(CheckResult(WARN, about, messages.filter_excludes_stopped(key)))
    results += [CheckResult(WARN, about, text) for text in _not_matched(context, targets)]
    asked = [ask for target in targets for _, ask in target.dry_runs_of_return()]
    texts = [messages.cannot_bring_back(error.text) for error in _run_all(asked) if error is not None]
    if asked and not texts:
        results.append(CheckResult(OK, about, messages.permitted(len(asked))))
    return [*results, *(CheckResult(WARN, about, text) for text in texts)]


def _not_matched(context: Context, targets: Sequence[Target]) -> List[str]:
    """Of each instance that ``filter`` does not match, whatever its state: monitor does not see it."""
    plugs = tuple(target.plug for target in targets if target.instance)
    filters = {k: v for k, v in context.settings.filters if k not in STOPPED}
    if not plugs or not filters:
        return []
    given = tuple({"instance-id": plugs, **filters}.items())
    try:
        shown = {raw["InstanceId"] for raw in context.instances.listed(given)}
    except FenceError as error:
        return [messages.return_search_failed(error.text)]
    return [messages.filter_does_not_match(plug) for plug in plugs if plug not in shown]


def _is_refusal(result: Optional[FenceError]) -> bool:
    return isinstance(result, ApiError) and result.denied_by_own_policy


def _probe(context: Context, targets: Sequence[Target]) -> List[CheckResult]:
    """Whether ``probe_port`` can prove isolation: one attempt to connect to each address, all at once."""
    port = context.settings.timing.probe_port
    if port is None:
        return []
    others = [t for t in targets if not t.is_self]
    answers = _answers(context, port, [a for t in others for a in addresses_of(t.instance)])
    return [result for t in targets for result in t.check_probe(port, answers)]


def _answers(context: Context, port: int, addresses: Iterable[str]) -> Mapping[str, Answer]:
    prober = Prober(port)
    chosen = list(dict.fromkeys(addresses))
    try:
        prober.connect(chosen)
        context.deadline.pause(ATTEMPT_SECONDS if chosen else 0)
        return prober.check(chosen)[0]
    finally:
        prober.close()
