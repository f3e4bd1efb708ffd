"""Performs the decisions of the core: a loop of step, effect and result, until each run has succeeded or failed.

The core has no clock, no randomness and no EC2. This module provides them. Of one run it decides nothing; of several,
only whose turn it is (``run_all``).
"""

from __future__ import annotations

import contextlib
import logging
import math
import random
import time
from typing import Dict, Iterable, Iterator, List, Optional, Sequence, Tuple, Union

from . import messages
from .context import Context
from .core import off, on
from .core.invariants import violations
from .core.isolating import close_after_interrupt, end
from .core.model import FrozenMap
from .core.observe import observe
from .core.protocol import (
    Answers,
    Change,
    Changes,
    CheckAnswers,
    Connect,
    DeleteTags,
    Done,
    Effect,
    Fail,
    Failure,
    Instances,
    Knowledge,
    LookUpGroups,
    Networks,
    Notes,
    Outcome,
    Phase,
    Plan,
    Read,
    Result,
    SetGroups,
    Settle,
    StartInstance,
    Step,
    StopInstance,
    Succeed,
    Tick,
    WriteTags,
)
from .core.settling import network_seconds
from .deadline import backoff
from .errors import ApiError, Category, FenceError
from .probe import Prober

log = logging.getLogger(__name__)

CHANGES = (WriteTags, DeleteTags, SetGroups, StartInstance, StopInstance)
# Before an interface is due to leave untrack_secg, no call for another instance begins.
CLEAR_SECONDS = 1.0


class Runner:
    """One off or on of one instance.

    Attributes:
        error: why it has failed.
    """

    def __init__(self, context: Context, plan: Plan) -> None:
        self.plan = plan
        self.error: Optional[FenceError] = None
        self._context = context
        self._knowledge = Knowledge()
        self._pauses: Dict[Phase, Iterator[float]] = {}
        self._step: Optional[Step] = None  # decided, and not made
        self._due: Optional[float] = 0.0
        self._isolated = False
        self._begun: Optional[Tuple[Knowledge, Effect]] = None  # the current effect
        self._prober = Prober(context.settings.timing.probe_port or 0)

    @property
    def due(self) -> Optional[float]:
        """The time at which its next step is due; None if it has ended."""
        return self._due

    @property
    def is_open(self) -> bool:
        """Has it opened an interface, for example to ``untrack_secg``, which it has to isolate?"""
        return bool(self._knowledge.opened)

    @property
    def is_isolated(self) -> bool:
        """Has a read shown all interfaces isolated? The network may still need to apply that."""
        return self._isolated and not self.terminated

    @property
    def waits_for_power(self) -> bool:
        """Does it wait to look again whether its instance, whose groups are back, has stopped or started?"""
        step = self._step
        return step is not None and step.backoff and step.knowledge.phase in (Phase.POWER, Phase.START)

    @property
    def terminated(self) -> bool:
        """Does EC2 show the instance as terminated?"""
        latest = self._knowledge.latest
        return latest is not None and latest.terminated

    def give(self, effect: Effect, result: Result) -> None:
        """Pass in the result of an effect that was performed for several instances together."""
        self._observe(self._next().knowledge, effect, result)

    def prepare(self) -> bool:
        """Make the next step, after its pause, unless it changes something: is that so?

        Raises:
            FenceError: the action is refused.
        """
        if self._step is not None:
            self._pause_until(self._due or 0.0)
            self._make(self._step, math.inf)
            return False
        step = self._next()
        if isinstance(step.action, (*CHANGES, Succeed)):
            return True
        if isinstance(step.action, Fail):
            _log(step.notes)
            raise FenceError(step.action.category, step.action.text)
        self._plan_step(step)
        return False

    def advance(self, limit: float) -> None:
        """Make the next step, if it is due; decide it, if that is not done.

        Args:
            limit: a call that has no answer at this time is given up, and made again. Not a change of groups, which
                is a single attempt, limited by ``api_timeout``.
        """
        try:
            if self._step is None:
                self._plan_step(self._next())
            if self._step is not None and self._due is not None and self._due <= self._now():
                self._make(self._step, limit)
        except FenceError as error:  # an invariant does not hold
            self.interrupt()
            self.error = error

    def interrupt(self) -> None:
        """End it: isolate interfaces that may be open."""
        if self._due is None:
            return
        knowledge, effect = self._begun or (self._knowledge, None)
        try:
            self._close(knowledge, effect)
        finally:
            self._due = None
            self.close()

    def close(self) -> None:
        """Close the sockets."""
        self._prober.close()

    def _end(self, action: Union[Succeed, Fail]) -> None:
        if isinstance(action, Fail):
            self.error = FenceError(action.category, action.text)
        else:
            self._isolated = True
            self._keep_network_seconds()
        self._due = None
        self.close()

    def _keep_network_seconds(self) -> None:
        """For the summary: the longest of several runs."""
        seconds, stats = network_seconds(self.plan, self._knowledge), self._context.stats
        if seconds is not None:
            stats.network_seconds = max(seconds, stats.network_seconds or 0.0)

    # Steps

    def _next(self) -> Step:
        """The next step, checked against the invariants: a success that breaks one fails, other steps continue."""
        tick = self._tick()
        decide = on.decide if self.plan.restoring else off.decide
        step = decide(self.plan, self._knowledge, tick)
        wrong = violations(self.plan, self._knowledge, step, tick)
        if wrong and isinstance(step.action, Succeed):
            raise FenceError(Category.MODIFICATION, messages.internal(wrong[0]))
        for text in wrong:
            log.warning("%s", messages.internal(text))
        return step

    def _plan_step(self, step: Step) -> None:
        """Log the step, and set when it is due; a wait, and the end, need no more."""
        _log(step.notes)
        if isinstance(step.action, (Succeed, Fail)):
            self._end(step.action)
        elif isinstance(step.action, Settle):
            self._knowledge, self._due = step.knowledge, min(step.action.until, step.ends)
            self._isolated = self._isolated or step.knowledge.phase is Phase.SETTLE
        else:
            self._step, self._due = step, self._due_at(step)

    def _due_at(self, step: Step) -> float:
        """The time at which the step is due, after the pauses before it."""
        due = step.not_before
        if step.backoff:
            pauses = self._pauses.setdefault(step.knowledge.phase, backoff(0.1, 2.0))
            due = max(due, self._now() + next(pauses))
        return min(due, step.ends)

    def _make(self, step: Step, limit: float) -> None:
        assert not isinstance(step.action, (Succeed, Fail, Settle))
        self._step = None
        if self._is_overdue(step):
            return
        ends = step.ends if isinstance(step.action, SetGroups) else min(step.ends, limit)
        self._begun = step.knowledge, step.action
        result = self._perform(step, step.action, ends)
        if ends < step.ends and isinstance(result, Failure) and result.category is Category.DEADLINE:
            self._step, self._due = step, limit
        else:
            self._observe(step.knowledge, step.action, result)
        self._begun = None

    def _is_overdue(self, step: Step) -> bool:
        """Did the pause before it take the rest of its time, and is something else to be done now?

        An effect without time fails as such, which would hide the cause that is known from the attempts before.
        """
        overdue = step.backoff and self._now() >= step.ends
        return overdue and self._next().action != step.action

    def _observe(self, knowledge: Knowledge, effect: Effect, result: Result) -> None:
        self._knowledge, notes = observe(self.plan, knowledge, effect, result, self._tick())
        _log(notes)

    def _close(self, knowledge: Knowledge, effect: Optional[Effect]) -> None:
        ec2 = self._context.ec2
        k = close_after_interrupt(self.plan, knowledge, effect, self._tick())
        while not isinstance((step := end(self.plan, k, self._tick())).action, Fail):
            assert isinstance(step.action, SetGroups)
            ec2.insist = True
            self._pause_until(self._due_at(step))
            try:
                result = self._perform(step, step.action, step.ends)
            except Exception as error:  # noqa: BLE001 - any error: the node is open to all traffic
                result = unknown_result(step.action, f"{type(error).__name__}: {error}")
            k, notes = observe(self.plan, step.knowledge, step.action, result, self._tick())
            _log(notes)
        _log(step.notes)

    # Time

    def _now(self) -> float:
        return self._context.deadline.now()

    def _tick(self) -> Tick:
        ends, reserve_ends = self._context.ec2.limits
        seconds = self._context.settings.timing.deadline
        return Tick(self._now(), ends, reserve_ends, int(time.time()), random.getrandbits(512), seconds)

    def _pause_until(self, point: float) -> None:
        time.sleep(max(0.0, point - self._now()))

    # Effects

    def _perform(self, step: Step, effect: Effect, ends: float) -> Result:
        context = self._context
        context.ec2.limit(ends)
        if step.knowledge.opened:
            context.ec2.insist = True  # on all that closes it again
        if isinstance(effect, (Connect, CheckAnswers)):
            return self._probe(effect)
        try:
            if isinstance(effect, Read):
                asked = self._now()
                return Instances(FrozenMap(context.instances.read(effect.ids)), asked)
            if isinstance(effect, SetGroups):
                category = Category.RESTORE if self.plan.restoring else Category.MODIFICATION
                # Only what isolates may come late: what opens an interface must follow a read closely.
                # Not beside an untracking, which would get none of the calls that EC2 allows.
                queue = effect.change is Change.ISOLATE and self.plan.spec.untrack is None
                errors = context.groups.set_groups(effect.goals, category, queue=queue)
                return Changes(FrozenMap({i: failure_of(e) if e else None for i, e in errors.items()}))
            if isinstance(effect, LookUpGroups):
                return Networks(*context.groups.networks(effect.groups))
            if isinstance(effect, WriteTags):
                context.tags.write(effect.id, effect.tags)
            elif isinstance(effect, DeleteTags):
                context.tags.delete(effect.id, effect.tags)
            elif isinstance(effect, StopInstance):
                context.instances.stop_at_once(effect.id)
            else:
                context.instances.start(effect.id)
        except FenceError as error:
            log.debug("%s", error.text)
            return failure_of(error)
        return Done()

    def _probe(self, effect: Union[Connect, CheckAnswers]) -> Result:
        try:
            if isinstance(effect, Connect):
                self._prober.connect(effect.addresses)
                return Done()
            answers, standing = self._prober.check(effect.addresses, effect.keep)
            return Answers(FrozenMap(answers), FrozenMap(standing))
        except Exception as error:  # noqa: BLE001 - any error: the node is fenced without it
            log.debug("%s", f"{type(error).__name__}: {error}")
            return Done() if isinstance(effect, Connect) else Answers(FrozenMap())


def prepare_all(runners: Sequence[Runner]) -> Dict[str, FenceError]:
    """Run all until the next step of each changes something; the error of each that is refused.

    They share their waits: the first one that is due acts.
    """
    refusals: Dict[str, FenceError] = {}
    preparing = list(runners)
    while preparing:
        runner = min(preparing, key=_due)
        try:
            ready = runner.prepare()
        except FenceError as error:
            refusals[runner.plan.id], ready = error, True
        if ready:
            preparing.remove(runner)
    return {r.plan.id: refusals[r.plan.id] for r in runners if r.plan.id in refusals}


def run_all(runners: Iterable[Runner]) -> List[Optional[FenceError]]:
    """Run all until each has succeeded or failed; returns the error of each, or None.

    They run in one thread and share their waits: while one waits, the next one acts. The error of one does not affect
    the others. The first one that is due acts, in the order of the plugs; one that has isolated its instance, after
    those that have not. (Of ``on`` each runs on its own: ``_take_turn``.)

    While an instance is open, on ``untrack_secg``, it takes precedence: it is isolated when it is due, whatever EC2
    does with the calls for the others. Until then their calls are made only in the time that is left, and no call
    begins within CLEAR_SECONDS of its end. A call that has no answer by then, because EC2 throttles it or is silent,
    is made again afterwards. So no instance waits for the backup of another, neither to be isolated nor to be opened,
    and those that are open wait together. The only exception is a change of groups of another instance, which is not
    made again blindly: its single attempt ends after ``api_timeout``.

    An interrupt, or an error of the program, isolates what any of them has opened.
    """
    known = list(runners)
    try:
        while True:
            running = [r for r in known if r.due is not None]
            if not running:
                return [r.error for r in known]
            if running[0].plan.restoring:
                _take_turn(running)
            else:
                _advance_one(running)
    except BaseException:
        with contextlib.ExitStack() as stack:  # each, whatever the others raise
            for runner in known:
                stack.callback(runner.interrupt)
        raise


def _advance_one(running: Sequence[Runner]) -> None:
    """Let the one whose turn it is make a step; if none is due, wait."""
    now = time.monotonic()
    open_until, opened = min(((_due(r), n) for n, r in enumerate(running) if r.is_open), default=(math.inf, 0))
    is_clear = open_until - now >= CLEAR_SECONDS
    due = [r for r in running if _due(r) <= now]
    if open_until <= now:
        running[opened].advance(math.inf)
    elif is_clear and due:
        min(due, key=lambda r: r.is_isolated).advance(open_until)
    else:
        time.sleep((min(map(_due, running)) if is_clear else open_until) - now)


def _take_turn(running: Sequence[Runner]) -> None:
    """Let one ``on`` run until it ends, or waits for the power: until then it opens interfaces, which must follow a
    read closely, and has to see soon whether an ``off`` came in between. So only their waits for power are shared.
    """
    runner = min(running, key=_due)
    while runner.due is not None:
        time.sleep(max(0.0, runner.due - time.monotonic()))
        runner.advance(math.inf)
        if runner.waits_for_power:
            return


def _due(runner: Runner) -> float:
    return math.inf if runner.due is None else runner.due


def failure_of(error: FenceError) -> Failure:
    """The failure of an attempt. If its time was over, it may have taken effect."""
    if not isinstance(error, ApiError):
        return Failure(Outcome.UNKNOWN, error.category, error.text)
    if error.outcome_unknown:
        outcome = Outcome.UNKNOWN
    elif error.transient:
        outcome = Outcome.TRANSIENT
    else:
        outcome = Outcome.GONE if error.gone else Outcome.REFUSED
    return Failure(outcome, error.category, error.text, error.code, error.denied_by_own_policy)


def unknown_result(effect: SetGroups, reason: str) -> Changes:
    """Any of these changes may have taken effect."""
    failure = Failure(Outcome.UNKNOWN, Category.MODIFICATION, reason)
    return Changes(FrozenMap(dict.fromkeys(effect.goals, failure)))


def _log(notes: Notes) -> None:
    for note in notes:
        log.log(note.level, "%s", note.text)
