"""What each fault on the wire means: with the real client, for every API action that off and on call.

The core only knows outcomes. That a refusal is one, and that nothing else is, can only be shown on the wire.
"""

from dataclasses import dataclass
from typing import Any, Callable, Dict, Optional

import pytest
from ec2.faults import (
    Delay,
    Error,
    Fault,
    Garbage,
    LoseReply,
    Page,
    Reset,
    ServerError,
    Stall,
    Throttle,
    Trickle,
    Truncate,
)  # fmt: skip

from aws_vpc_net.context import Context
from aws_vpc_net.core.protocol import Outcome
from aws_vpc_net.errors import Category, FenceError
from aws_vpc_net.runner import failure_of

from .world import API_SECONDS, DESCRIBE, MODIFY, SECONDS, Scene

ACCEPTED, REFUSED, TRANSIENT = Outcome.ACCEPTED, Outcome.REFUSED, Outcome.TRANSIENT
UNKNOWN, GONE = Outcome.UNKNOWN, Outcome.GONE
FOR_EVER = None
ONCE = (MODIFY, "StartInstances")  # tried once, as the core reads before it tries again; the others are repeated here
TAG = {"lastfence": "1"}


def _change(context: Context, scene: Scene) -> None:
    goals = {scene.interfaces[0]: frozenset((scene.names["isolation"],))}
    for error in context.groups.set_groups(goals, Category.MODIFICATION).values():
        if error:
            raise error


CALLS: Dict[str, Callable[[Context, Scene], Any]] = {
    MODIFY: _change,
    DESCRIBE: lambda context, scene: context.instances.read([scene.node]),
    "CreateTags": lambda context, scene: context.tags.write(scene.node, TAG),
    "DeleteTags": lambda context, scene: context.tags.delete(scene.node, TAG),
    "DescribeSecurityGroups": lambda context, scene: context.groups.own_vpcs([scene.names["app"]]),
    "DescribeSecurityGroupVpcAssociations": lambda context, scene: context.groups.associated([scene.names["app"]]),
    "StartInstances": lambda context, scene: context.instances.start(scene.node),
    "StopInstances": lambda context, scene: context.instances.stop(scene.node),
}


@dataclass(frozen=True)
class Row:
    """A fault and its outcomes.

    Attributes:
        effect: a change takes effect all the same.
        modify: the outcome of a change of groups, and of a start.
        once: that of every other call, if the fault happens once.
        lasting: the same, if it happens each time.
        category: of the failure, if it is not that of what was done; where the time ends it is DEADLINE.
        slow: the time for a reply has to end.
    """

    name: str
    fault: Callable[[], Fault]
    effect: bool
    modify: Outcome
    once: Outcome
    lasting: Outcome
    category: Optional[Category] = None
    slow: bool = False


def _error(code: str, status: int = 400) -> Callable[[], Fault]:
    return lambda: Error(code, "Said by EC2.", status)


DENIED, LOGIN = Category.PERMISSION, Category.AUTHENTICATION
ROWS = (
    #                                                           effect modify     once      lasting
    Row("throttled", Throttle,                                  False, TRANSIENT, ACCEPTED, UNKNOWN),
    Row("throttled, 400", _error("Client.RequestLimitExceeded"), False, TRANSIENT, ACCEPTED, UNKNOWN),
    Row("HTTP 429", _error("Whatever", 429),                    False, TRANSIENT, ACCEPTED, UNKNOWN),
    Row("busy tags", _error("ConcurrentTagAccess"),             False, TRANSIENT, ACCEPTED, UNKNOWN),
    Row("busy interface", _error("IncorrectState"),             False, TRANSIENT, ACCEPTED, UNKNOWN),
    Row("InternalError", ServerError,                           False, UNKNOWN,   ACCEPTED, UNKNOWN),
    Row("Unavailable", lambda: ServerError("Unavailable", 503), False, UNKNOWN,   ACCEPTED, UNKNOWN),
    Row("HTTP 500", _error("Whatever", 500),                    False, UNKNOWN,   ACCEPTED, UNKNOWN),
    Row("refused", _error("InvalidParameterValue"),             False, REFUSED,   REFUSED,  REFUSED),
    Row("denied", _error("UnauthorizedOperation", 403),         False, REFUSED,   REFUSED,  REFUSED, DENIED),
    Row("expired", _error("RequestExpired"),                    False, REFUSED,   REFUSED,  REFUSED, LOGIN),
    Row("no such key", _error("AuthFailure", 401),              False, REFUSED,   REFUSED,  REFUSED, LOGIN),
    Row("no such group", _error("InvalidGroup.NotFound"),       False, REFUSED,   REFUSED,  REFUSED),
    Row("no such instance", _error("InvalidInstanceID.NotFound"), False, REFUSED, ACCEPTED, REFUSED),
    Row("no such interface", _error("InvalidNetworkInterfaceID.NotFound"), False, GONE, GONE, GONE),
    Row("connection reset", Reset,                              False, UNKNOWN,   ACCEPTED, UNKNOWN),
    Row("reply lost", LoseReply,                                True,  UNKNOWN,   ACCEPTED, UNKNOWN),
    Row("reply lost by reset", lambda: LoseReply(reset=True),   True,  UNKNOWN,   ACCEPTED, UNKNOWN),
    Row("half a reply", Truncate,                               True,  UNKNOWN,   ACCEPTED, UNKNOWN),
    Row("half of the XML", lambda: Truncate(announce=False),    True,  UNKNOWN,   ACCEPTED, UNKNOWN),
    Row("no XML", Garbage,                                      True,  UNKNOWN,   ACCEPTED, UNKNOWN),
    Row("a page, 200", Page,                                    False, UNKNOWN,   ACCEPTED, UNKNOWN),
    Row("a page, 200, late", lambda: Page(effect=True),         True,  UNKNOWN,   ACCEPTED, UNKNOWN),
    Row("a page, 403", lambda: Page(status=403),                False, UNKNOWN,   UNKNOWN,  UNKNOWN),
    Row("a page, 503", lambda: Page(status=503),                False, UNKNOWN,   ACCEPTED, UNKNOWN),
    Row("no reply", Stall,                                      False, UNKNOWN,   ACCEPTED, UNKNOWN, slow=True),
    Row("no reply, done", lambda: Stall(effect=True),           True,  UNKNOWN,   ACCEPTED, UNKNOWN, slow=True),
    Row("byte by byte", lambda: Trickle(API_SECONDS / 4),       True,  UNKNOWN,   ACCEPTED, UNKNOWN, slow=True),
    Row("late", lambda: Delay(API_SECONDS * 3, late=True),      True,  UNKNOWN,   ACCEPTED, UNKNOWN, slow=True),
)  # fmt: skip
# A reply is enough that a name server, a proxy or EC2 refuses: see agent/test_access.py and agent/test_ec2_words.py.


@dataclass(frozen=True)
class Seen:
    """What came of a call."""

    outcome: Outcome
    category: Optional[Category]
    took_effect: bool  # at the first attempt
    repeated: bool


def ask(bench: Any, action: str, row: Row, times: Optional[int]) -> Seen:
    """What comes of a call to which this happens so often.

    If it happens each time, each attempt of a slow one takes its time. 1.5 s suffice for two, but on a busy machine.
    """
    if not row.slow or times is not FOR_EVER:
        return _ask(bench, action, row, times, SECONDS)
    seen = _ask(bench, action, row, times, 1.5)
    return seen if seen.repeated or action in ONCE else _ask(bench, action, row, times, 20.0)


def _ask(bench: Any, action: str, row: Row, times: Optional[int], deadline: float) -> Seen:
    scene = Scene(bench, "keep+poweron")
    if action == "StartInstances":
        scene.server.edit.set_state(scene.node, "stopped")
    scene.server.rules.add(action, row.fault(), times=times)
    context = scene.context("off", slow_replies=not row.slow, deadline=deadline)
    failure = None
    try:
        CALLS[action](context, scene)
    except FenceError as error:
        failure = failure_of(error)
    scene.calm()
    calls = scene.server.calls_of(action)
    outcome, category = (failure.outcome, failure.category) if failure else (ACCEPTED, None)
    return Seen(outcome, category, bool(calls) and calls[0].took_effect, len(calls) > 1)


def expected(action: str, row: Row, outcome: Outcome) -> Seen:
    """What the table says."""
    purpose = {"CreateTags": Category.TAG, "DeleteTags": Category.TAG, MODIFY: Category.MODIFICATION}
    purpose.update(StartInstances=Category.INSTANCE, StopInstances=Category.INSTANCE)
    again = action not in ONCE and row.once is ACCEPTED
    category = row.category or purpose.get(action, Category.RETRIEVAL)
    if again and row.lasting is UNKNOWN:
        category = Category.DEADLINE
    return Seen(outcome, None if outcome is ACCEPTED else category, row.effect, again)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_fault_has_its_outcome_at_every_call(bench, row):
    once = {action: ask(bench, action, row, 1) for action in CALLS}
    outcomes = {action: row.modify if action in ONCE else row.once for action in CALLS}
    if row.name == "no such instance":
        outcomes["StartInstances"] = TRANSIENT  # a read has just shown it
    assert once == {action: expected(action, row, outcomes[action]) for action in CALLS}


@pytest.mark.parametrize("row", [row for row in ROWS if row.once is not row.lasting], ids=lambda row: row.name)
def test_a_fault_that_lasts_has_its_outcome_at_every_call(bench, row):
    others = [action for action in CALLS if action not in ONCE]
    lasting = {action: ask(bench, action, row, FOR_EVER) for action in others}
    assert lasting == {action: expected(action, row, row.lasting) for action in others}


@pytest.mark.parametrize("action", CALLS)
def test_a_call_that_nothing_happens_to_is_accepted(bench, action):
    scene = Scene(bench, "keep+poweron")
    if action == "StartInstances":
        scene.server.edit.set_state(scene.node, "stopped")
    CALLS[action](scene.context("off", slow_replies=True), scene)
    assert [call.took_effect for call in scene.server.calls_of(action)] == [True]


def test_an_outcome_that_is_not_unknown_is_true():
    """What is refused, transient or gone was not done: only the table's own rows are checked here."""
    assert [row.name for row in ROWS if row.effect and row.modify is not UNKNOWN] == []


def test_every_call_of_off_and_on_is_in_the_table(bench):
    made = set()
    for mode in ("keep+untrack", "keep+poweroff+poweron"):
        scene = Scene(bench, mode)
        assert [scene.run(action).code for action in ("off", "on")] == [0, 0]
        made |= {call.action for call in scene.server.calls}
    assert made == set(CALLS)
