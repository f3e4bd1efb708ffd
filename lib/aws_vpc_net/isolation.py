"""Steps 4 and 5 of off: set the groups of all interfaces, then read until every one is cut.

One object works on one instance. What it knows of an interface is what EC2 answered to the *latest* attempt: only an
accepted change, and a read after it that shows the interface cut, make it done. EC2's network follows its API by
seconds, so the read that proves it all is made ``settle_time`` after the last change.

What this run sets to ``untrack_secg`` is open to everybody. It is an obligation on every way out: isolated again, or
given its groups back, without a read in between and with the time that was kept for it.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Dict, List, Mapping, Optional, Set

from . import backup_tags, messages, recording, rules
from .context import READ_AGAIN_SECONDS, Context
from .deadline import backoff
from .errors import ApiError, Category, FenceError
from .recording import Recorded
from .rules import Groups, Instance, Interface

if TYPE_CHECKING:
    from .off import Fence

log = logging.getLogger(__name__)

UNTRACK_ATTEMPTS = 3  # that took effect, or may have
CLOSE_SECONDS = 0.1  # before what was opened and not closed is closed again


class Isolation:
    """Isolates one instance whose record is proven."""

    def __init__(self, tools: Context, fence: Fence, recorded: Recorded) -> None:
        target = fence.target
        self.tools = tools
        self.id = target.id
        self.isolating = fence.isolating
        self.goals: Dict[str, Groups] = dict(fence.goals)
        self.accepted: Dict[str, Optional[int]] = {}  # the latest attempt was, under the record of this time
        self.read_open: Set[str] = set()  # accepted, and open in the latest read
        self.touched: Set[str] = set()  # some attempt took effect, or may have
        self.failed: Dict[str, FenceError] = {}  # for now
        self.uncertain: Set[str] = set()  # some attempt may have taken effect, and none was accepted since
        self.refused: Dict[str, FenceError] = {}  # for good
        # Where to put back to: the read that proved the record. If another fencer had isolated an interface by then,
        # it stays isolated; if not, that fencer sees our record before it reports success (see _keep_record).
        self.before: Dict[str, Groups] = {i.id: i.groups for i in recorded.seen.interfaces}
        self.plan = recorded.plan
        self.plans = [recorded.plan] if recorded.plan else []  # any of them will do
        self.rewritten: Optional[float] = None  # seconds left when a lacking record was written again
        self.lacking = False  # the latest read shows no record of ours, and none was written since
        self.unwritable = False  # the latest attempt to write it again failed
        self.recorded_for: Optional[Instance] = None  # the read that it was made for
        self.nothing_removed = False  # by the records that the latest read shows
        self.gone: Set[str] = set()  # not accepted, and not shown by the latest read
        self.written: Dict[str, str] = dict(recorded.written)
        self.known = recorded.known.and_seen(target)
        self.first_times = backup_tags.read(target).times
        self.originals: Dict[str, Groups] = dict(recorded.plan.originals if recorded.plan else {})
        self.claimed = False  # since groups were last set
        self.settled = 0.0  # the point in time at which the network has followed every change that was accepted
        self.late_until: Dict[str, float] = {}  # the point in time until which an untracking may arrive late
        self.finished = False  # proven, after all has settled
        self.opened: Set[str] = set()  # set to untrack_secg by this run, perhaps, and not isolated since
        self.untracked: Dict[str, int] = {}  # how often it was tried
        self.to_untrack = self._choose_untracked(target, recorded)

    def isolate(self) -> None:
        """Returns when every change was accepted and a later read shows every interface cut. It may have to settle.

        Raises:
            FenceError: it was refused, or not proven before the deadline.
        """
        self._guarded(list(self.goals), settled=False)

    def settle(self) -> None:
        """Returns when a read that is made after the network has settled shows the same: then it is fenced.

        Raises:
            FenceError: as ``isolate``.
        """
        if self.finished:
            return
        self.tools.deadline.pause(self._wait())
        if self.tools.deadline.passed:
            raise messages.not_isolated(self.id, self._why_undue())
        self._guarded([], settled=True)

    def _guarded(self, todo: List[str], *, settled: bool) -> None:
        try:
            self._prove(todo, settled)
        except BaseException:
            self._close()  # at once; and what may arrive late once more
            late = self._late
            self._outlast()
            self.opened |= late
            raise
        finally:
            self._close()

    def _prove(self, todo: List[str], settled: bool) -> None:
        open_now: List[Interface] = []
        for pause in backoff(0.1, 2.0):
            self._change(todo)
            todo = []
            proven = False
            asked = self.tools.deadline.now()
            try:
                seen = self._read()
            except FenceError as error:
                raise messages.unproven(self.id, error, self._why(open_now)) from error
            if seen is not None:
                if seen.terminated:
                    log.info(messages.already_terminated(seen.id))
                    self.finished = True
                    return
                undecided = self._keep_record(seen)  # before what may end it here
                taken_in = self._take_in_new(seen)
                open_now = [i for i in seen.interfaces if not self._is_done(i)]
                late = self._newly_gone(seen)
                proven = self._reads_off(seen) and not (open_now or taken_in or undecided or late)
                self.finished = proven and asked >= self._due
                if self.finished or (proven and not settled):
                    return
                todo = [] if taken_in else self._next(open_now, seen)  # they were just set, all of them
                self._check_untracked(open_now)
            self.tools.deadline.pause(self._wait() if proven else pause)
            if self.tools.deadline.passed:
                nothing = self._why_undue() if proven else {"interfaces": "no read showed them"}
                raise messages.not_isolated(self.id, self._why(open_now) or nothing)

    def _check_untracked(self, open_now: List[Interface]) -> None:
        """Fail where all is isolated, but an interface could not be untracked as often as it may be tried."""
        missed = [i.id for i in open_now if self.untracked.get(i.id, 0) >= UNTRACK_ATTEMPTS and self._is_missed(i)]
        if missed and len(missed) == len(open_now):
            raise messages.not_untracked(self.id, missed)

    def _is_missed(self, interface: Interface) -> bool:
        return interface.id in self.to_untrack and interface.id in self.accepted and self._is_cut(interface)

    # Time

    @property
    def _late(self) -> Set[str]:
        """The interfaces whose untracking had no reply, and may still arrive."""
        now = self.tools.deadline.now()
        return {i for i, until in self.late_until.items() if until > now}

    @property
    def _due(self) -> float:
        """The point in time from which on a read can prove it."""
        return max([self.settled, *self.late_until.values()])

    def _wait(self) -> float:
        """Seconds until the next read, where only time is missing; an untracking that may arrive is looked for."""
        return 1.0 if self._late else self.settled - self.tools.deadline.now()

    def _why_undue(self) -> Dict[str, str]:
        if self._late:
            return dict.fromkeys(self._late, "a change to untrack_secg without a reply may still arrive")
        return {"the network": f"settle_time={self.tools.settings.settle_seconds:g} was not over"}

    def _outlast(self) -> None:
        """Wait for untracking that may still arrive, before this ends without success."""
        if self._late:
            self.tools.ec2.use_reserve()
            self.tools.deadline.pause(max(self.late_until.values()) - self.tools.deadline.now())

    def _next(self, open_now: List[Interface], seen: Instance) -> List[str]:
        """What to set next.

        What was not accepted, at once. What was accepted and reads open: at the second such read, as the first may
        be stale; and only under a record that is newer than the one it was isolated under, written at the first.
        Whoever opened it, an ``on``, has read the older one and is about to delete it.

        Nothing is set again behind a read that shows no record of ours: an ``on`` may have deleted it. It is written
        first, and if that fails nothing is set.
        """
        again = [i.id for i in open_now if i.id not in self.accepted or i.id in self.to_untrack]
        reopened = [i.id for i in open_now if i.id not in again]
        twice = [i for i in reopened if i in self.read_open]
        self.read_open = set(reopened)
        under_it = self.plan is not None and any(self.accepted[i] == self.plan.time for i in reopened)
        if (under_it or (self.lacking and (again or twice))) and not self._record_again(seen):
            return []
        return again if under_it else again + twice

    def _is_done(self, interface: Interface) -> bool:
        accepted = interface.id in self.accepted and interface.id not in self.to_untrack
        return accepted and self._is_cut(interface)

    def _reads_off(self, seen: Instance) -> bool:
        """Does all but the groups read as ``status`` asks for: interfaces, and in removal mode a record of that?"""
        policy = self.tools.policy
        exempt = policy.keep_only or policy.without_record or self.plan is None or self.lacking
        self.nothing_removed = not (exempt or rules.has_record(seen, backup_tags.read(seen), policy))
        return bool(seen.interfaces) and not self.nothing_removed

    def _newly_gone(self, seen: Instance) -> bool:
        """Is this the first read that lacks an interface whose change was not accepted? It may be behind."""
        shown = {i.id for i in seen.interfaces}
        gone = {i for i in self.goals if i not in shown and i not in self.accepted}
        new, self.gone = gone - self.gone, gone
        return bool(new)

    def _why(self, open_now: List[Interface]) -> Dict[str, str]:
        """What is known to be in the way, by the latest attempts and the latest read."""
        why = {i.id: f"reads {', '.join(sorted(i.groups))}" for i in open_now}
        why.update({i: e.text for i, e in self.failed.items() if i in why or not why})
        if self.lacking:
            why["its record"] = "cannot be written again" if self.unwritable else "no read shows it"
        if self.nothing_removed:
            why["its record"] = "no group of secg was removed from what is left of it"
        return why

    def _read(self) -> Optional[Instance]:
        return self.tools.instances.read([self.id]).get(self.id)

    # Changing

    def _change(self, interfaces: List[str]) -> None:
        """Untrack all, then set all to their goals; a refusal ends it here."""
        self.claimed = self.claimed and not interfaces
        self._untrack(interfaces)
        if self.opened:
            if not self.refused:
                self._dwell()
            self.tools.ec2.use_reserve()  # what was opened must be set, whatever time that took
        self._set({i: self.goals[i] for i in interfaces if i not in self.refused})
        if self.opened:
            self.tools.deadline.pause(CLOSE_SECONDS)
        self._close()
        self.tools.ec2.keep_reserve()
        if self.refused:
            self._give_up()

    def _choose_untracked(self, target: Instance, recorded: Recorded) -> Set[str]:
        """Which interfaces pass through ``untrack_secg``: those that are open in the read that proved the record.

        What is isolated stays so: to open it again, even for a moment, would undo a fence that was reported.
        """
        policy = self.tools.policy
        if policy.untrack is None:
            return set()
        if recorded.plan is None:
            log.warning(messages.untracking_skipped(self.id))
            return set()
        chosen = {i.id for i in recorded.seen.interfaces if i.id in self.goals and not rules.cut(i.groups, policy)}
        if set(self.goals) - chosen:
            log.info(messages.not_opened_again(self.id, set(self.goals) - chosen))
        return chosen

    def _untrack(self, interfaces: List[str]) -> None:
        """Set them to exactly ``untrack_secg``, where they have not been yet, so that EC2 stops tracking their flows.

        One whose change is not known to have been accepted is isolated all the same, and passes again later, but not
        often: it opens the node each time.
        """
        untrack = self.tools.policy.untrack
        todo = [i for i in interfaces if i in self.to_untrack and self.untracked.get(i, 0) < UNTRACK_ATTEMPTS]
        if untrack is None or not todo:
            return
        self.opened.update(todo)  # before any of them is, as whatever comes next may end it
        self.tools.ec2.insist = True  # on all that closes them again
        goals = {i: frozenset((untrack,)) for i in todo}
        try:
            outcomes = self.tools.groups.set_groups(goals, Category.MODIFICATION)
        except BaseException:
            self._may_arrive(todo)
            raise
        for interface, error in outcomes.items():
            took = self._took(interface, error)
            if took:
                self.to_untrack.discard(interface)
            elif error is not None and _may_have_taken(error):
                self._may_arrive([interface])
            else:
                self.opened.discard(interface)
                continue
            self.untracked[interface] = self.untracked.get(interface, 0) + 1

    def _may_arrive(self, interfaces: List[str]) -> None:
        """Their untracking may still arrive, after the isolation. Reads go on for a while, and isolate again."""
        until = self.tools.deadline.now() + self.tools.settings.api_seconds
        self.late_until.update(dict.fromkeys(interfaces, until))

    def _dwell(self) -> None:
        """Stay on ``untrack_secg`` until the network has followed: it may only ever see the newest groups."""
        self.tools.deadline.pause(self.settled - self.tools.deadline.now())

    def _set(self, todo: Dict[str, Groups]) -> None:
        while todo:
            again: Dict[str, Groups] = {}
            for interface, error in self.tools.groups.set_groups(todo, Category.MODIFICATION).items():
                self.accepted.pop(interface, None)
                smaller = self._smaller(interface, error)
                if _is_gone(error) and _is_gone(self.failed.get(interface)):  # with a pause between the two
                    self.opened.discard(interface)  # not there, twice: nothing is open
                if smaller:
                    again[interface] = self.goals[interface] = smaller
                elif self._took(interface, error):
                    self.accepted[interface] = self.plan.time if self.plan else None
                    self.opened.discard(interface)
            todo = again

    def _smaller(self, interface: str, error: Optional[FenceError]) -> Groups:
        """What to set instead, where EC2 takes some of the groups that isolate an interface, and not others."""
        if error is None:
            return rules.NONE
        return self.isolating.smaller(interface, self.goals[interface], error, look=not self.opened)

    def _close(self) -> None:
        """Isolate what this run has opened, whatever became of the rest; where EC2 refuses that for good, give it its
        earlier groups, which are narrower than ``untrack_secg``. What cannot be closed is a warning."""
        if not self.opened:
            return
        self.tools.ec2.use_reserve()
        last: Optional[Exception] = None
        for pause in backoff(0.1, 1.0):
            try:
                self._set({i: self.goals[i] for i in self.opened if i not in self.refused})
                self._give_back(self.opened & set(self.refused))
                last = None
            except Exception as error:  # noqa: BLE001 - whatever it is: the node is open to everybody
                last = error
            if self.opened:
                self.tools.deadline.pause(pause)
            if self.opened and self.tools.deadline.passed:
                log.warning(messages.left_untracking(self.id, self.opened, self._why_opened(last)))
                self.opened.clear()  # there is no time left to close it
            if not self.opened:
                return

    def _give_back(self, interfaces: Set[str]) -> None:
        """Set the earlier groups of interfaces whose isolation EC2 refuses."""
        goals = {i: self._earlier(i) for i in interfaces}
        for interface, error in self.tools.groups.set_groups(goals, Category.MODIFICATION).items():
            if error is None:
                self.opened.discard(interface)
                self.touched.discard(interface)
            elif _for_good(error):
                log.warning(messages.left_untracking(self.id, [interface], error.text))
                self.opened.discard(interface)

    def _why_opened(self, error: Optional[Exception]) -> str:
        """Why what was opened is not closed."""
        known = {**self.failed, **self.refused}
        found = [known[i].text for i in sorted(self.opened) if i in known]
        return found[0] if found else f"{type(error).__name__}: {error}" if error else "no time is left"

    def _took(self, interface: str, error: Optional[FenceError]) -> bool:
        """Keep account of an attempt; was it accepted?"""
        self.failed.pop(interface, None)
        if error is None:
            self.touched.add(interface)
            self.uncertain.discard(interface)
            self.settled = self.tools.deadline.now() + self.tools.settings.settle_seconds
            return True
        if _for_good(error):
            self.refused[interface] = error
            return False
        self.failed[interface] = error
        if _may_have_taken(error):
            self.touched.add(interface)
            self.uncertain.add(interface)
        return False

    # Other fencers, other interfaces

    def _keep_record(self, seen: Instance) -> bool:
        """Write the record again where it has to be; must another read decide?

        If reads lack it: an ``on`` that came in between has deleted it, or they are merely behind. It is written
        again at once, as until then the originals may be nowhere; and every MISSING_SECONDS as long as it is lacking.

        If another fencer wrote a record of its own: that one may be refused and put back what it changed. It does so
        only while no record but its own stands. Once is enough: whoever records after this read has a proving read
        that shows our isolation, and that is what it would put back to.

        Where it cannot be written that is a warning, which holds the originals: what reads cut is isolated.
        """
        if self.plan is None:
            return False
        self.lacking = not any(recording.proven(plan, seen) for plan in self.plans)
        if not self.claimed and self.known.is_news(seen):
            self.claimed = True
            self._record_again(seen)
            return True
        if not self.lacking:
            self.rewritten = None
            return False
        now = self.tools.deadline.remaining()
        if self.rewritten is None or self.rewritten - now >= recording.MISSING_SECONDS:
            self.rewritten = now
            self._record_again(seen)
            return True
        return not self.unwritable

    def _record_again(self, seen: Instance) -> bool:
        """Write what we know of the originals under a new time, once for each read; False if that failed."""
        if self.recorded_for is not seen:
            self.recorded_for = seen
            self.unwritable = not self._write_again(seen)
        return not self.unwritable

    def _write_again(self, seen: Instance) -> bool:
        others = recording.others(seen, self.written)
        better = rules.better_backup(self.originals, seen, others, self.tools.policy, self.first_times)
        self.originals = better or self.originals
        attached = {i.id for i in seen.interfaces}
        try:
            originals = {i: g for i, g in self.originals.items() if i in attached}
            plan = recording.plan(self.tools, seen, originals, least=max(self.known.times, default=0) + 1)
            self.tools.tags.write(self.id, plan.tags)
        except FenceError as error:
            log.warning(messages.claim_failed(self.id, error.text, self.originals))
            return False
        self.lacking = False
        self.plan = plan
        self.written.update(plan.tags)
        self.plans.append(plan)
        self.known = self.known.and_seen(seen).and_written(plan)
        log.info(messages.claimed(self.id, plan.time))
        return True

    def _take_in_new(self, seen: Instance) -> bool:
        """An interface that appeared meanwhile is recorded, then isolated like the others. Was there one?"""
        new = [i for i in seen.interfaces if i.id not in self.goals]
        if not new:
            return False
        log.warning(messages.appeared(self.id, (i.id for i in new)))
        policy = self.tools.policy
        found = rules.backup(seen, backup_tags.read(seen), policy)
        originals = {i.id: found[i.id] for i in new}
        goals = {i.id: self.isolating.of(i, originals[i.id]) for i in new}
        for interface in new:
            if interface.managed or interface.unfiltered or not interface.groups or not goals[interface.id]:
                raise messages.cannot_take_in(self.id, interface.id)
        if self.plan is not None:
            more = recording.record_more(self.tools, seen, originals, self.plan)
            self.plan = more or self.plan
            self.known = self.known.and_written(self.plan)
            self.written.update(self.plan.tags)
        self.originals.update(originals)
        self.before.update({i.id: i.groups for i in new})
        self.goals.update(goals)
        if policy.untrack is not None and self.plan is not None:
            self.to_untrack.update(i.id for i in new if not self._is_cut(i))
        self._change(list(goals))
        return True

    # Giving up

    def _give_up(self) -> None:
        """EC2 refused a change for good: put back what may be put back, and fail."""
        category = next(iter(self.refused.values())).category
        if not self.touched and not self.untracked:
            raise messages.refused_all(self.id, self.refused, category)
        self.tools.ec2.use_reserve()
        self._outlast()
        try:
            seen = self._read()
        except FenceError as error:
            raise messages.refused_left(self.id, self.refused, self.touched, error.text) from error
        reason = self._why_left(seen)
        if seen is not None and reason is None:
            reason = self._put_back(seen)
        elif seen is not None:
            self._leave(seen)
        if reason:
            raise messages.refused_left(self.id, self.refused, self.touched, reason)
        raise messages.refused_put_back(self.id, self.refused, category)

    def _why_left(self, seen: Optional[Instance]) -> Optional[str]:
        """Why our changes are not undone; None if they are: while any record but ours stands, nobody may."""
        if self.uncertain:
            return "the outcome of a change is unknown"
        if seen is None or self.plan is None:
            return "no read shows it" if seen is None else "there is no record, so another fencer may have fenced it"
        if backup_tags.only_ours(seen, self.plan):
            return None
        if not backup_tags.own(seen.tags, seen.id):
            return "an on came in between"
        return "another fencer may have fenced it, as another record stands beside ours"

    def _leave(self, seen: Instance) -> None:
        """What stays cut must not be without a record, which an ``on`` may have deleted. And what we left open to
        everybody is isolated, or gets back the groups that it had if EC2 refused that, in any case."""
        if self.plan is not None and not any(recording.proven(plan, seen) for plan in self.plans):
            self._record_again(seen)
        still = {i.id for i in seen.interfaces if rules.between_steps(i.groups, self.tools.policy)}
        self.opened |= still & set(self.untracked)
        self._close()

    def _earlier(self, interface: str) -> Groups:
        """Where to put it back to: what it had in the read that proved the record; never to what is open to all."""
        before = self.before[interface]
        return self.originals[interface] if rules.between_steps(before, self.tools.policy) else before

    def _put_back(self, seen: Instance) -> Optional[str]:
        """Undo our changes, and look at what became of it, whatever EC2 answered; why not, if not."""
        known = {i.id for i in seen.interfaces} & set(self.before)
        goals = {i: self._earlier(i) for i in self.touched & known if self._earlier(i) != self.goals[i]}
        errors = self.tools.groups.set_groups(goals, Category.MODIFICATION)
        undone = self._check_put_back(goals)
        if undone is None:
            self.touched -= {i for i, error in errors.items() if error is None}
            if self.touched & {i.id for i in seen.interfaces} - known:
                return "the read that proved the record lacked an interface"
        return undone or next((e.text for e in errors.values() if e is not None), None)

    def _check_put_back(self, goals: Mapping[str, Groups]) -> Optional[str]:
        """Another fencer may have come between the last read and the change: then what we opened is cut again.

        But not behind a read without any record: an ``on`` has brought it back, or the read is behind.
        """
        blank = 0.0
        for pause in backoff(0.1, 1.0):
            try:
                seen = self._read()
            except FenceError as error:
                return error.text
            if seen is not None and self.plan is not None and backup_tags.only_ours(seen, self.plan):
                return None
            if seen is not None and not backup_tags.own(seen.tags, seen.id):
                blank += pause
                if blank >= READ_AGAIN_SECONDS or self.tools.deadline.passed:
                    return None
            else:
                open_now = {i.id for i in seen.interfaces if not self._is_cut(i)} if seen else set(goals)
                if not open_now & set(goals):
                    return "another fencer came meanwhile"
                again = {i: self.goals[i] for i in goals if i in open_now}
                self.tools.groups.set_groups(again, Category.MODIFICATION)
            if self.tools.deadline.passed:
                return "another fencer came meanwhile, and what had been put back was NOT cut again"
            self.tools.deadline.pause(pause)
        raise AssertionError("backoff never ends")

    def _is_cut(self, interface: Interface) -> bool:
        return rules.cut(interface.groups, self.tools.policy)


def _may_have_taken(error: FenceError) -> bool:
    """May the change have taken effect all the same?"""
    return not isinstance(error, ApiError) or error.outcome_unknown


def _for_good(error: FenceError) -> bool:
    """Is it a refusal? Not what passes, nor an interface that went away (which the next read decides)."""
    if _may_have_taken(error) or not isinstance(error, ApiError):
        return False
    return not error.transient and not _is_gone(error)


def _is_gone(error: Optional[FenceError]) -> bool:
    return isinstance(error, ApiError) and error.gone
