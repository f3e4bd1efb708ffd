"""auto_unfence: after its checks, monitor brings back one instance that was fenced and has stopped since.

Every failure is a warning, because fencing still works. What is not finished, the next monitor goes on with:
core/returning.py decides, and says why that is safe at any point.
"""

from __future__ import annotations

import logging
import random
import time
from dataclasses import replace
from typing import Any, Dict, List, Mapping, Sequence, Tuple

from . import actions, messages
from .context import Context
from .core.backup import LASTFENCE, PREFIX, RETURNED
from .core.isolation import static_refusal
from .core.model import FrozenMap, Instance
from .core.protocol import Instances
from .core.returning import MOST_RETURNS, Stopped, Verdict, judge
from .ec2 import CallContext
from .errors import Category, FenceError

log = logging.getLogger(__name__)

NEEDED_SECONDS = 6.0  # a return takes less; what would begin later is left to the next monitor
GRACE_SECONDS = 2.0  # after its deadline, in which an off ends
MOST_PAGES = 3  # of the search; with filter, there is one
MOST_REFUSED = 3  # instances whose tag cannot be written; the next one is tried

SEARCH = CallContext("look for instances to bring back", Category.RETRIEVAL)
STATES = ("stopped", "running")  # of one that runs, isolated, there is a warning
FILTERS = (("instance-state-name", STATES), ("tag-key", (LASTFENCE, f"{PREFIX}*", RETURNED)))

Found = Tuple[Stopped, Verdict]


def bring_back(context: Context, plugs: Sequence[str], results: Dict[str, str]) -> None:
    """Bring one instance back, if there is one and the time suffices. Nothing about it fails the monitor.

    Args:
        plugs: the instances of this device; none: all that match ``filter``.
        results: of each instance that was, or should have been, brought back; added to.
    """
    timing = context.settings.timing
    fence_seconds = timing.deadline + GRACE_SECONDS
    own_timing = replace(timing, deadline=context.settings.seconds)  # messages name the time of this action
    context = replace(context, settings=replace(context.settings, timing=own_timing))
    if not context.spec.secg or not _has_time(context):
        return
    context.ec2.limit(context.ec2.limits[0])
    try:
        _bring_one_back(context, plugs, fence_seconds, results)
    except FenceError as error:
        log.warning(messages.return_search_failed(error.text))


def _bring_one_back(context: Context, plugs: Sequence[str], fence_seconds: float, results: Dict[str, str]) -> None:
    found = _search(context, plugs, fence_seconds)
    for stopped, verdict in found:
        _warn(context, stopped.instance, verdict, results)
    eligible = [(s, v) for s, v in found if v.returns]
    # The one that was tried least recently: one that fails every time does not keep the others from returning. One
    # whose tag cannot be written has no such time; so the next ones are any.
    eligible.sort(key=lambda item: (item[0].returns.latest, random.random()))
    others = eligible[1:]
    random.shuffle(others)
    for stopped, verdict in [*eligible[:1], *others][:MOST_REFUSED]:
        if not _has_time(context) or _try(context, stopped, verdict, fence_seconds, results):
            return


def _has_time(context: Context) -> bool:
    ends = context.ec2.limits[1]
    enough = context.deadline.now() + min(NEEDED_SECONDS, context.settings.seconds / 2) <= ends
    if not enough:
        log.warning(messages.too_late_for_return(context.settings.seconds))
    return enough


# --- search ----------------------------------------------------------------------------------------------------


def _search(context: Context, plugs: Sequence[str], fence_seconds: float) -> List[Found]:
    """What is to be done with each instance that has a tag of ours, in one call.

    Of two filters of one key, only that of the device is used: everything is checked here anyway.
    """
    ids = (("instance-id", tuple(plugs)),) if plugs else ()
    filters = {**dict((*FILTERS, *ids)), **dict(context.settings.filters)}
    found: List[Found] = []
    pages = 0
    for page in context.instances.raw_pages(SEARCH, tuple(filters.items()), MOST_PAGES):
        pages += 1
        stopped = [_stopped(context, raw) for raw in page if not plugs or raw["InstanceId"] in plugs]
        found += [(s, _judge(context, s, fence_seconds)) for s in stopped]
        if not _has_time(context):
            break
    if pages == MOST_PAGES and not any(v.returns for _, v in found):
        log.warning(messages.return_search_incomplete(pages))
    return found


def _stopped(context: Context, raw: Mapping[str, Any]) -> Stopped:
    return Stopped(context.instances.parse(raw), _unix_time(raw.get("LaunchTime", "")))


def _unix_time(text: str) -> int:
    """Of a date in a reply; 0 where it is none."""
    from botocore.utils import parse_timestamp

    try:
        return int(parse_timestamp(text).timestamp())
    except (ValueError, OverflowError, RuntimeError):
        return 0


def _judge(context: Context, stopped: Stopped, fence_seconds: float) -> Verdict:
    verdict = judge(stopped, context.spec, context.settings.static, time.time(), fence_seconds)
    log.debug("auto_unfence: %s: %s", stopped.instance.id, verdict.value)
    return verdict


def _warn(context: Context, shown: Instance, verdict: Verdict, results: Dict[str, str]) -> None:
    """Of an instance that an operator has to bring back."""
    instance, refusal = shown.id, static_refusal(shown, context.settings.static, context.spec)
    if verdict is Verdict.STATIC_REFUSED and refusal is not None:
        results[instance] = "failed"
        log.warning(messages.not_brought_back(instance, refusal.text))
    elif verdict is Verdict.STAYS_STOPPED:
        results[instance] = "stays_stopped"
        log.warning(messages.stays_stopped(instance, MOST_RETURNS))
    elif verdict is Verdict.GIVEN_UP:
        results[instance] = "failed"
        log.warning(messages.not_brought_back(instance, f"{verdict.value}; run on, then start it"))
    elif verdict is Verdict.NO_ROOM:
        results[instance] = "failed"
        log.warning(messages.no_room_for_return(instance))
    elif verdict is Verdict.RUNS:  # no result: no return of it was begun
        log.warning(messages.runs_isolated(instance))
    elif verdict is Verdict.HIBERNATED:
        results[instance] = "failed"
        log.warning(messages.hibernated(instance))


# --- return ----------------------------------------------------------------------------------------------------


def _try(context: Context, stopped: Stopped, verdict: Verdict, fence_seconds: float, results: Dict[str, str]) -> bool:
    """Bring it back; False if nothing was changed, so that another one can be tried."""
    instance, now = stopped.instance.id, time.time()
    returns = stopped.next_returns(now)
    results[instance] = "failed"  # until it is brought back
    try:
        context.tags.count_return(instance, str(returns))
    except FenceError as error:
        log.warning(messages.not_brought_back(instance, error.text))
        return False
    try:
        # The search is some calls old: an "off", an "on", or another monitor may have come since.
        asked = context.deadline.now()
        raw = context.instances.described([instance]).get(instance)
        latest = _stopped(context, raw).with_returns(returns) if raw else None
        if latest is None or _judge(context, latest, fence_seconds) is not verdict:
            del results[instance]
            return True
        log.info(messages.bringing_back(instance, len(returns.times), MOST_RETURNS))
        actions.bring_back(context, Instances(FrozenMap({instance: latest.instance}), asked), instance)
    except FenceError as error:
        log.warning(messages.not_brought_back(instance, error.text))
    else:
        results[instance] = "ok"
        log.info(messages.brought_back(instance))
    return True
