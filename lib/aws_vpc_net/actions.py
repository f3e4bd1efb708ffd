"""The actions off and on: the plan of each instance, and the order for several instances."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial
from typing import Dict, List, Optional, Sequence

from . import identity, messages
from .context import Context
from .core.model import FrozenMap
from .core.protocol import DataPlane, Instances, Plan, Read, Restore
from .ec2 import RESERVE_SECONDS, run_concurrently
from .errors import FenceError
from .runner import Runner, prepare_all, run_all
from .settings import Settings

log = logging.getLogger(__name__)


def prepare_off(context: Context, plugs: Sequence[str]) -> List[Runner]:
    """Read all targets and this machine in one call, and refuse before the first change.

    Raises:
        FenceError: the refusal, of each that is refused.
    """
    skip_race_check = context.settings.overrides.skip_race_check
    own = None if skip_race_check else identity.own_instance(context.ec2.imds)
    if own is None and not skip_race_check:
        log.warning(messages.unknown_self())
    if own in plugs:
        raise messages.self_fencing(str(own))
    machines = (*plugs, own) if own else tuple(plugs)
    asked = context.deadline.now()
    instances = Instances(FrozenMap(context.instances.read(machines)), asked)
    runners = [Runner(context, _plan(context, plug, own)) for plug in plugs]
    try:
        for runner in runners:
            runner.give(Read(runner.plan.machines), instances)
        refusals = prepare_all(runners)
        if refusals:
            raise messages.all_of(refusals)
    except BaseException:
        for runner in runners:
            runner.close()
        raise
    return runners


def _plan(context: Context, plug: str, own: Optional[str], *, restoring: bool = False) -> Plan:
    settings = context.settings
    return Plan(
        id=plug,
        spec=settings.spec,
        own=own,
        static=FrozenMap(settings.static),
        ignore_instance_state=settings.overrides.ignore_instance_state,
        restoring=restoring,
        restore=Restore(ignored=settings.overrides.unfence_ignore_restore),
        power=settings.power.unfence_poweron if restoring else settings.power.onfence_poweroff,
        data_plane=DataPlane() if restoring else _data_plane(settings, own),
        api_seconds=settings.timing.api_seconds,
    )


def _data_plane(settings: Settings, own: Optional[str]) -> DataPlane:
    timing = settings.timing
    return DataPlane(
        timing.settle_seconds,
        probe=timing.probe_port is not None,
        stop=settings.power.require_poweroff,
        unknown_fencer=own is None and not settings.overrides.skip_race_check,
    )


def fence(context: Context, runners: Sequence[Runner]) -> None:
    """Isolate all instances, and let them settle together; stop those that are isolated, also if others are not.

    Raises:
        FenceError: the causes, of each that is not isolated, or of which that was not verified.
    """
    errors = _run(runners)
    isolated = [r.plan.id for r in runners if r.is_isolated]
    power = context.settings.power
    if power.onfence_poweroff and not power.require_poweroff and isolated:
        _power_off(context, isolated)
    if errors:
        raise messages.all_of(errors)


def restore(context: Context, plugs: Sequence[str]) -> None:
    """Restore all instances; returns if they are restored.

    Raises:
        FenceError: the causes, of each that is not restored, or of which that was not verified; its backup is kept.
    """
    errors = _run([Runner(context, _plan(context, plug, None, restoring=True)) for plug in plugs])
    if errors:
        raise messages.all_of(errors)


def _run(runners: Sequence[Runner]) -> Dict[str, FenceError]:
    """Run all; the error of each that failed."""
    return {r.plan.id: error for r, error in zip(runners, run_all(runners)) if error is not None}


def bring_back(context: Context, instances: Instances, plug: str) -> None:
    """Restore one instance and start it, based on a read that shows it stopped: an ``off`` after that read wins.

    Raises:
        FenceError: it is not restored, or not started.
    """
    plan = replace(_plan(context, plug, None, restoring=True), restore=Restore(unattended=True), power=True)
    runner = Runner(context, plan)
    runner.give(Read(plan.machines), instances)
    errors = _run([runner])
    if errors:
        raise messages.all_of(errors)


def _power_off(context: Context, plugs: Sequence[str]) -> None:
    """Stop all isolated instances concurrently, with a short time limit. A failure is only a warning."""
    context.ec2.limit(context.deadline.now() + RESERVE_SECONDS)
    run_concurrently([partial(_stop, context, plug) for plug in plugs])


def _stop(context: Context, plug: str) -> None:
    try:
        stop = context.instances.stop_at_once if context.settings.power.skip_os_shutdown else context.instances.stop
        stop(plug)
        log.info(messages.stopping(plug))
    except Exception as error:  # noqa: BLE001 - any error: the instance is isolated, and still runs
        reason = error.text if isinstance(error, FenceError) else f"{type(error).__name__}: {error}"
        log.warning(messages.stop_failed(plug, reason))
