"""Performs the decisions of the core: a loop of step, effect and result, until success, failure or a wait.

The core has no clock, no randomness and no EC2. This module provides them, and decides nothing.
"""

from __future__ import annotations

import logging
import random
import time
from typing import Callable, Dict, Iterable, Iterator, List, Optional, Tuple, Union

from . import messages
from .context import Context
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
    Succeed,
    Tick,
    WriteTags,
)
from .core.settling import network_seconds
from .deadline import backoff
from .errors import ApiError, Category, FenceError
from .probe import Prober

log = logging.getLogger(__name__)

Decide = Callable[[Plan, Knowledge, Tick], Step]
CHANGES = (WriteTags, DeleteTags, SetGroups, StartInstance)


class Runner:
    """One off or on of one instance."""

    def __init__(self, context: Context, plan: Plan, decide: Decide) -> None:
        self.plan = plan
        self._context = context
        self._decide = decide
        self._knowledge = Knowledge()
        self._pauses: Dict[Phase, Iterator[float]] = {}
        self._until: Optional[float] = None  # the time until which it waits
        self._succeeded = False
        self._isolated = False
        self._begun: Optional[Tuple[Knowledge, Effect]] = None  # the current effect
        self._prober = Prober(context.settings.timing.probe_port or 0)

    @property
    def until(self) -> Optional[float]:
        """The time until which it waits; None if a step is due, or if it has ended."""
        return self._until

    @property
    def is_isolated(self) -> bool:
        """Has a read shown all interfaces isolated? The network may still need to apply that."""
        return self._isolated and not self.terminated

    @property
    def terminated(self) -> bool:
        """Does EC2 show the instance as terminated?"""
        latest = self._knowledge.latest
        return latest is not None and latest.terminated

    def give(self, effect: Effect, result: Result) -> None:
        """Pass in the result of an effect that was performed for several instances together."""
        self._observe(self._next().knowledge, effect, result)

    def prepare(self) -> None:
        """Run until the next step changes something.

        Raises:
            FenceError: the action is refused.
        """
        while True:
            step = self._next()
            if isinstance(step.action, (*CHANGES, Succeed)):
                return
            if isinstance(step.action, Fail):
                _log(step.notes)
                raise FenceError(step.action.category, step.action.text)
            self._take(step)

    def run(self) -> None:
        """Run until success, or until a wait; ``go_on`` continues after it.

        Raises:
            FenceError: it has failed.
        """
        try:
            failure = self._advance()
        except BaseException:  # an interrupt, or a bug: interfaces that this run has opened are isolated first
            self.interrupt()
            raise
        if failure is not None or self._succeeded:
            self.close()
        if failure is not None:
            raise FenceError(failure.category, failure.text)

    def _advance(self) -> Optional[Fail]:
        """Perform steps; returns the failure, or None."""
        while not self._succeeded and self._until is None:
            step = self._next()
            action = step.action
            if isinstance(action, (Fail, Succeed)):
                _log(step.notes)
            if isinstance(action, Fail):
                return action
            if isinstance(action, Succeed):
                self._succeeded = self._isolated = True
                self._tell_network_seconds()
            elif isinstance(action, Settle):
                self._knowledge, self._until = step.knowledge, action.until
                self._isolated = self._isolated or step.knowledge.phase is Phase.SETTLE
            else:
                self._take(step)
        return None

    @property
    def is_due(self) -> bool:
        """Is the wait over, and a step due?"""
        return self._until is not None and self._context.deadline.now() >= self._until

    def go_on(self) -> None:
        """Wait until a step is due, at most until the deadline; then continue as ``run``.

        Raises:
            FenceError: it has failed.
        """
        if self._until is not None:
            self._pause_until(self._until, self._tick().ends)
            self._until = None
        self.run()

    def interrupt(self) -> None:
        """Handle an interrupt: isolate interfaces that may be open before the end."""
        self._until = None
        knowledge, effect = self._begun or (self._knowledge, None)
        try:
            self._close(knowledge, effect)
        finally:
            self.close()

    def close(self) -> None:
        """Close the sockets after the run."""
        self._prober.close()

    def _tell_network_seconds(self) -> None:
        """Keep the longest of several runs."""
        seconds, stats = network_seconds(self.plan, self._knowledge), self._context.stats
        if seconds is not None:
            stats.network_seconds = max(seconds, stats.network_seconds or 0.0)

    # Steps

    def _next(self) -> Step:
        """The next step, checked against the invariants: a success that breaks one fails, other steps continue."""
        tick = self._tick()
        step = self._decide(self.plan, self._knowledge, tick)
        wrong = violations(self.plan, self._knowledge, step, tick)
        if wrong and isinstance(step.action, Succeed):
            raise FenceError(Category.MODIFICATION, messages.internal(wrong[0]))
        for text in wrong:
            log.warning("%s", messages.internal(text))
        return step

    def _take(self, step: Step) -> None:
        _log(step.notes)
        assert not isinstance(step.action, (Succeed, Fail, Settle))
        self._wait(step)
        if self._is_overdue(step):
            return
        self._begun = step.knowledge, step.action
        self._observe(step.knowledge, step.action, self._perform(step, step.action))
        self._begun = None

    def _is_overdue(self, step: Step) -> bool:
        """Did the pause before it take the rest of its time, and is something else to be done now?

        An effect without time fails as such, which would hide the cause that is known from the attempts before.
        """
        overdue = step.backoff and self._context.deadline.now() >= step.ends
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
            self._wait(step)
            try:
                result = self._perform(step, step.action)
            except Exception as error:  # noqa: BLE001 - any error: the node is open to all traffic
                result = unknown_result(step.action, f"{type(error).__name__}: {error}")
            k, notes = observe(self.plan, step.knowledge, step.action, result, self._tick())
            _log(notes)
        _log(step.notes)

    # Time

    def _tick(self) -> Tick:
        ends, reserve_ends = self._context.ec2.limits
        now = self._context.deadline.now()
        seconds = self._context.settings.timing.deadline
        return Tick(now, ends, reserve_ends, int(time.time()), random.getrandbits(512), seconds)

    def _wait(self, step: Step) -> None:
        if step.backoff:
            pauses = self._pauses.setdefault(step.knowledge.phase, backoff(0.1, 2.0))
            self._pause_until(self._context.deadline.now() + next(pauses), step.ends)
        self._pause_until(step.not_before, step.ends)

    def _pause_until(self, point: float, ends: float) -> None:
        time.sleep(max(0.0, min(point, ends) - self._context.deadline.now()))

    # Effects

    def _perform(self, step: Step, effect: Effect) -> Result:
        context = self._context
        context.ec2.limit(step.ends)
        if step.knowledge.opened:
            context.ec2.insist = True  # on all that closes it again
        if isinstance(effect, (Connect, CheckAnswers)):
            return self._probe(effect)
        try:
            if isinstance(effect, Read):
                asked = context.deadline.now()
                return Instances(FrozenMap(context.instances.read(effect.ids)), asked)
            if isinstance(effect, SetGroups):
                category = Category.RESTORE if self.plan.restoring else Category.MODIFICATION
                # Only what isolates may come late: what opens an interface must follow a read closely.
                queue = effect.change is Change.ISOLATE
                errors = context.groups.set_groups(effect.goals, category, queue=queue)
                return Changes(FrozenMap({i: failure_of(e) if e else None for i, e in errors.items()}))
            if isinstance(effect, LookUpGroups):
                return Networks(*context.groups.networks(effect.groups))
            if isinstance(effect, WriteTags):
                context.tags.write(effect.id, effect.tags)
            elif isinstance(effect, DeleteTags):
                context.tags.delete(effect.id, effect.tags)
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


def run_all(runners: Iterable[Runner]) -> List[Optional[FenceError]]:
    """Run all until each has succeeded or failed; returns the error of each, or None.

    They wait together: the one with the next step continues first. The error of one does not affect the others.
    """
    known = list(runners)
    begun = 0
    errors: List[Optional[FenceError]] = [None] * len(known)
    while True:
        waiting = [(r.until, n) for n, r in enumerate(known) if r.until is not None]
        number = min(waiting)[1] if waiting else None
        if begun < len(known) and (number is None or not known[number].is_due):
            number, begun = begun, begun + 1
        if number is None:
            return errors
        try:
            known[number].go_on()
        except FenceError as error:
            errors[number] = error
        except BaseException:
            for runner in known:
                if runner.until is not None:
                    runner.interrupt()
            raise


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
