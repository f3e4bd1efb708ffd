"""What holds at every step of every run, stated over what the run knows: for the search, the simulation, the runner.

Each function says in its docstring what must hold, and returns what is wrong: no texts if nothing is.
``before`` is what the run knew when it decided, ``step`` is what it decided.
"""

from __future__ import annotations

from typing import Callable, Dict, List, Mapping

from . import backup as tags
from .isolating import rollback_groups
from .isolation import (
    backup_is_optional,
    is_isolated,
    is_untracking,
    latest_unfenced,
    matches_isolation,
    set_by_fencer,
)
from .model import NONE, Groups, tags_of
from .probing import SILENT_ATTEMPTS, Answer, Standing
from .protocol import (
    Change,
    DeleteTags,
    Fail,
    Knowledge,
    Outcome,
    Phase,
    Plan,
    SetGroups,
    StartInstance,
    Step,
    Succeed,
    Tick,
    WriteTags,
)

Texts = List[str]
# Where ``off`` has changed no group so far.
UNCHANGED = (Phase.FIRST, Phase.AGAIN, Phase.DOUBT, Phase.LOOK_UP, Phase.BACKUP, Phase.WITHOUT_BACKUP)


def violations(plan: Plan, before: Knowledge, step: Step, tick: Tick) -> Texts:
    """Everything that is wrong with this step; never raises, as what checks a run may not end it."""
    return [text for check in CHECKS for text in _checked(check, plan, before, step, tick)]


def _checked(check: Check, plan: Plan, before: Knowledge, step: Step, tick: Tick) -> Texts:
    try:
        return check(plan, before, step, tick)
    except Exception as error:  # noqa: BLE001 - a step that the check did not expect
        return [f"{check.__name__} cannot be checked: {type(error).__name__}: {error}"]


def backup_precedes_change(plan: Plan, before: Knowledge, step: Step, tick: Tick) -> Texts:
    """``off`` changes no group before a read shows a backup that agrees with it, or the operator does without one."""
    action = step.action
    if plan.restoring or not isinstance(action, SetGroups) or before.phase not in UNCHANGED:
        return []
    written, latest = step.knowledge.backup.latest, before.latest  # it may go on without one by this very step
    if written is None and backup_is_optional(plan.spec, plan.static, max(1, len(step.knowledge.interfaces))):
        return []
    if written is None or latest is None or not before.reads.fresh:
        return ["groups change before a read has shown the backup"]
    if not tags.is_visible(written, latest):
        return ["groups change behind a read that does not show the backup"]
    groups = {i: g for i, g in latest.groups.items() if i in action.goals and not set_by_fencer(g, plan.spec)}
    wrong = [i for i, g in groups.items() if written.originals.get(i) != g]
    return (
        [f"groups change, and the backup does not agree with the proving read: {', '.join(wrong)}"] if wrong else []
    )


def open_groups_outrank(plan: Plan, before: Knowledge, step: Step, tick: Tick) -> Texts:
    """Groups that a fencer sets are never written as the original ones of an interface that was read open, or of
    which a backup that was read holds open ones; but for those that ``on`` was given as ``interfaceN-sg``."""
    action = step.action
    if not isinstance(action, WriteTags) or action.backup is None or (plan.restoring and plan.static):
        return []
    originals = action.backup.originals  # of a new interface only its own groups are written, beside the others
    written = {c.interface for c in tags.chunks_of(action.tags, plan.id)}
    wrong = [i for i in written if set_by_fencer(originals[i], plan.spec) and _known_open(plan, before, i)]
    return [f"groups that a fencer sets are written as the original ones of {', '.join(wrong)}"] if wrong else []


def _known_open(plan: Plan, k: Knowledge, interface: str) -> bool:
    for read in (k.first, k.latest):
        if read is None:
            continue
        shown = read.groups.get(interface, NONE)
        if shown and not set_by_fencer(shown, plan.spec) and read is k.first:
            return True
        if latest_unfenced(interface, tags.read(read), plan.spec):
            return True
    return False


def success_is_proven(plan: Plan, before: Knowledge, step: Step, tick: Tick) -> Texts:
    """``off`` succeeds only if the latest attempt on each interface was accepted, and a read that was made after all
    had settled shows every interface isolated; or on a terminated instance."""
    latest = before.latest
    if plan.restoring or not isinstance(step.action, Succeed):
        return []
    if latest is None:
        return ["off succeeds without a read that shows the instance"]
    if latest.terminated:
        return []
    wrong = [
        i.id
        for i in latest.interfaces
        if i.id not in before.interfaces
        or not before.interfaces[i.id].accepted
        or before.interfaces[i.id].opening.untrack_due
        or not matches_isolation(i.groups, plan.spec)
    ]
    texts = [f"off succeeds, and {', '.join(wrong)} is not proven to be isolated"] if wrong else []
    if not latest.interfaces or before.failure is not None:
        texts.append("off succeeds on a read that failed or shows no interfaces")
    if not before.reads.fresh or not before.reads.in_time:
        texts.append("off succeeds on a read that was made too early")
    return texts


def network_is_proven(plan: Plan, before: Knowledge, step: Step, tick: Tick) -> Texts:
    """``off`` succeeds only once each observable address that has not left its interface was silent to two attempts
    in a row since the latest change of groups, or cannot be tried, and a connection that stood before is dead. Nor
    before ``settle_time`` is over, unless silence at every interface has taken its place; it does not where this run
    has isolated an interface again, or this machine may be fenced itself."""
    latest = before.latest
    if plan.restoring or not isinstance(step.action, Succeed) or latest is None or latest.terminated:
        return []
    shown = {i.id: i.addresses for i in latest.interfaces}
    known = {a: o for a, o in before.probe.addresses.items() if a in shown.get(o.interface, (a,))}
    alive = [a for a, o in known.items() if o.standing is Standing.ALIVE]
    heard = [a for a, o in known.items() if o.silent < SILENT_ATTEMPTS and o.answer is not Answer.IMPOSSIBLE]
    texts = [f"off succeeds, and {', '.join(heard)} was not silent twice"] if heard else []
    texts += [f"off succeeds, and a connection to {', '.join(alive)} is alive"] if alive else []
    proving = {o.interface for o in known.values() if o.standing is not Standing.ENDED}
    watched = {*shown, *before.interfaces} <= proving and all(o.silent for o in known.values())
    watched = watched and not (before.reads.own_fenced or before.probe.repeated or plan.data_plane.unknown_fencer)
    if tick.now < before.timers.settled and not watched:
        texts.append("off succeeds before settle_time is over, and silence has not taken its place")
    untracked = {i for i, p in before.interfaces.items() if p.opening.untrack_attempts}
    untracked -= {o.interface for o in before.probe.addresses.values() if o.standing is Standing.DEAD}
    late = [a for a, o in before.probe.addresses.items() if o.late and o.interface in untracked]
    return [*texts, f"off succeeds, and connections to {', '.join(late)} may be tracked"] if late else texts


def power_is_proven(plan: Plan, before: Knowledge, step: Step, tick: Tick) -> Texts:
    """Where success requires that the power is off, a read shows that."""
    if plan.restoring or not plan.require_poweroff or not isinstance(step.action, Succeed):
        return []
    state = before.latest.state if before.latest else "not shown"
    return [] if state in ("stopped", "terminated") else [f"off succeeds, and the instance is {state}"]


def start_is_proven(plan: Plan, before: Knowledge, step: Step, tick: Tick) -> Texts:
    """An instance is started only behind a read that shows it stopped, nothing isolated of what was restored, and no
    ``off`` that began later."""
    latest = before.latest
    if not isinstance(step.action, StartInstance):
        return []
    if latest is None or not before.reads.fresh or before.failure is not None:
        return ["it is started without a read before it"]
    texts = [] if latest.state == "stopped" else [f"it is started, and it is {latest.state}"]
    shown = {i: g for i, g in latest.groups.items() if matches_isolation(g, plan.spec)}
    wrong = [i for i, p in before.interfaces.items() if shown.get(i, p.open_groups) != p.open_groups]
    texts += [f"it is started, and {', '.join(wrong)} is isolated"] if wrong else []
    overtaken = before.backup.history.has_foreign_writes(latest, claims=False)
    return [*texts, "it is started beside an off that began later"] if overtaken else texts


def return_is_allowed(plan: Plan, before: Knowledge, step: Step, tick: Tick) -> Texts:
    """What monitor restores or starts was stopped before it began, and fenced: it has a backup of each interface, and
    each was isolated or restored already. Or nothing is isolated, and there is no backup: then a return that was not
    finished has restored it. In any case a tag counts the return."""
    action, first = step.action, step.knowledge.first
    restores = isinstance(action, SetGroups) and action.change is Change.RESTORE
    if not plan.restore.unattended or not (restores or isinstance(action, StartInstance)):
        return []
    if first is None:
        return ["monitor brings back what no read has shown"]
    texts = [] if first.state == "stopped" else [f"monitor brings back an instance that was {first.state}"]
    if tags.RETURNED not in first.tags:
        texts.append("monitor brings an instance back without counting it")
    known = step.knowledge.interfaces
    history = tags.read(first)
    isolated = {i.id for i in first.interfaces if is_isolated(i, first, history, plan.spec)}
    unfit = [i for i, g in first.groups.items() if i in known and i not in isolated and g != known[i].open_groups]
    texts += [f"monitor restores {', '.join(unfit)}, which was not isolated"] if unfit else []
    without = sorted(set(first.groups) - set(known)) if known else sorted(isolated)
    return [*texts, f"monitor brings back {', '.join(without)} without a backup"] if without else texts


def name_is_kept(plan: Plan, before: Knowledge, step: Step, tick: Tick) -> Texts:
    """No group, and nothing before the backup, is changed behind a read that shows the instance without the name by
    which it was found."""
    first = isinstance(step.action, WriteTags) and not before.backup.backups
    changes = before.phase in UNCHANGED and (first or isinstance(step.action, SetGroups))
    if not changes or before.latest is None or not before.latest.lost_names:
        return []
    return [f"it is changed, and is not {', '.join(before.latest.lost_names)}"]


def knowledge_grows(plan: Plan, before: Knowledge, step: Step, tick: Tick) -> Texts:
    """What was seen or written is never forgotten, and the truly first read stays the first."""
    after = step.knowledge
    texts = []
    if after.first != before.first and not plan.restoring:
        texts.append("the first read is replaced")
    forgotten = before.backup.history.tags - after.backup.history.tags
    if forgotten and after.backup.latest is not None:
        texts.append(f"{len(forgotten)} tags that were seen or written are forgotten")
    if not before.backup.history.times <= after.backup.history.times and after.backup.latest is not None:
        texts.append("times that were seen or written are forgotten")
    if set(before.interfaces) - set(after.interfaces):
        texts.append("interfaces are forgotten")
    return texts


def tags_are_deleted_last(plan: Plan, before: Knowledge, step: Step, tick: Tick) -> Texts:
    """Tags are deleted by values that were read, behind a read that shows every attached interface restored."""
    action = step.action
    if not isinstance(action, DeleteTags):
        return []
    texts = []
    if not plan.restoring:
        texts.append("off deletes tags")
    latest = before.latest
    seen = set(before.backup.history.tags) | set(tags_of(before.first).items())
    if not set(action.tags.items()) <= seen:
        texts.append("tags are deleted with values that were never seen")
    if latest is None or not before.reads.fresh:
        return [*texts, "tags are deleted before a read shows the restore"]
    wrong = [i for i, p in before.interfaces.items() if latest.groups.get(i, p.open_groups) != p.open_groups]
    if wrong:
        texts.append(f"tags are deleted before {', '.join(wrong)} is restored")
    return texts


def what_was_opened_is_closed(plan: Plan, before: Knowledge, step: Step, tick: Tick) -> Texts:
    """Nothing that the run has opened is open at an exit, nor does ``off`` end while a change that opens may still
    arrive, unless no time at all is left."""
    if not isinstance(step.action, (Succeed, Fail)) or tick.reserve_expired:
        return []
    k = step.knowledge
    texts = [f"the run ends, and has left open {', '.join(sorted(k.opened))}"] if k.opened else []
    late = sorted(k.late(tick.now)) if not plan.restoring else []
    return [*texts, f"the run ends, and a change may still open {', '.join(late)}"] if late else texts


def what_was_isolated_has_a_backup(plan: Plan, before: Knowledge, step: Step, tick: Tick) -> Texts:
    """At its exit a run that has isolated something has a backup of it, which a read has shown or EC2 has accepted
    since, or names the original groups in the log."""
    k = step.knowledge
    changed = set(k.possibly_changed)
    if backup_is_optional(plan.spec, plan.static, len(k.interfaces)):
        changed &= set(k.backup.latest.originals if k.backup.latest else ())
    if plan.restoring or not isinstance(step.action, (Succeed, Fail)) or not changed:
        return []
    named = {i: g for note in step.notes for i, g in note.originals.items()}
    if named:
        return []
    written = k.backup.latest
    if written is not None and k.backup.rewritten and not k.backup.missing:  # accepted since the latest read
        lost = sorted(changed - set(written.originals))
        return [f"the run ends, and the backup that it has written lacks {', '.join(lost)}"] if lost else []
    if k.latest is None or k.failure is not None or not k.reads.fresh:
        return ["the run ends without a read of its backup, and does not name the original groups"]
    shown = frozenset(tags.read(k.latest).sets)  # attached or not
    lost = sorted(changed - shown)
    return [f"the run ends, and no read shows a backup of {', '.join(lost)}"] if lost else []


def roll_back_is_alone(plan: Plan, before: Knowledge, step: Step, tick: Tick) -> Texts:
    """A run rolls back only behind a read that shows no tags but its own backup, and only to the groups of the read
    that proved it. What it has untracked itself and cannot isolate gets these groups in any case."""
    action = step.action
    if not isinstance(action, SetGroups) or action.change is not Change.ROLL_BACK:
        return []
    k = before
    goals: Mapping[str, Groups] = action.goals
    texts = [
        f"{i} is rolled back to other groups than it had"
        for i, g in goals.items()
        if g not in (k.interfaces[i].open_groups, rollback_groups(plan, k, i))
    ]
    texts += [f"{i} is rolled back to untrack_secg" for i, g in goals.items() if is_untracking(g, plan.spec)]
    given_back = {i for i in goals if k.interfaces[i].opening.untrack_attempts and i in step.knowledge.refused}
    if set(goals) <= given_back:
        return texts
    if k.latest is None or k.backup.latest is None or not k.reads.fresh:
        return [*texts, "a roll-back without a read before it"]
    if not tags.is_sole_writer(k.latest, k.backup.latest):
        texts.append("a roll-back beside another backup")
    if any(p.outcome is Outcome.UNKNOWN for p in k.interfaces.values()):
        texts.append("a roll-back while the outcome of a change is unknown")
    return texts


def never_opened_beside_another(plan: Plan, before: Knowledge, step: Step, tick: Tick) -> Texts:
    """An interface that the latest read shows isolated, beside tags of another hand, is not set to the group that
    untracks connections: that fencer may have reported success."""
    action = step.action
    if not isinstance(action, SetGroups) or action.change is not Change.UNTRACK or before.latest is None:
        return []
    others = set(tags.own(before.latest.tags, plan.id).items()) - before.backup.written
    others -= set(tags_of(before.first).items())
    wrong = [i for i in action.goals if matches_isolation(before.latest.groups.get(i, NONE), plan.spec)]
    return [f"{', '.join(wrong)} is opened beside another fencer"] if wrong and others else []


def untracked_is_no_goal(plan: Plan, before: Knowledge, step: Step, tick: Tick) -> Texts:
    """Nothing is isolated with groups that do not isolate."""
    action = step.action
    if not isinstance(action, SetGroups) or action.change is not Change.ISOLATE:
        return []
    wrong = [i for i, g in action.goals.items() if not matches_isolation(g, plan.spec)]
    wrong = [i for i in wrong if not plan.restoring or action.goals[i] == before.interfaces[i].open_groups]
    return [f"{', '.join(wrong)} is given groups that do not isolate"] if wrong else []


Check = Callable[[Plan, Knowledge, Step, Tick], Texts]
CHECKS: List[Check] = [
    backup_precedes_change,
    open_groups_outrank,
    success_is_proven,
    network_is_proven,
    power_is_proven,
    start_is_proven,
    return_is_allowed,
    name_is_kept,
    knowledge_grows,
    tags_are_deleted_last,
    what_was_opened_is_closed,
    what_was_isolated_has_a_backup,
    roll_back_is_alone,
    never_opened_beside_another,
    untracked_is_no_goal,
]
NAMES: Dict[str, Check] = {check.__name__: check for check in CHECKS}
