"""Which stopped instance monitor may bring back: one table of everything that speaks against it."""

from dataclasses import replace
from typing import Any

import pytest
from core.transcript import APP, DB, ID, ISO, ISO2, KEEP, OPEN, REMOVE, SSH, eni

from aws_vpc_net.core.backup import RETURNED
from aws_vpc_net.core.model import FrozenMap, Instance, Interface, IsolationSpec
from aws_vpc_net.core.returning import EXEMPT, MOST_RETURNS, Returns, Stopped, Verdict, judge
from aws_vpc_net.core.tag_slots import TAG_LIMIT, make_backup

NOW, DAY, LAUNCHED = 1_764_200_000, 86_400, 1_764_000_000
FENCED = NOW - 100
ORIGINALS = {eni("e0"): frozenset((APP, DB)), eni("e1"): frozenset((APP, SSH))}
WITHOUT_BACKUP = IsolationSpec((APP,), without_backup=True)


def interfaces(spec: IsolationSpec, *, restored: str = "", **more: Any) -> Any:
    """Isolated, but for the restored ones; ``more``: of the second."""
    isolated = {i: frozenset((ISO,)) if spec.keep_only else g - {APP} for i, g in ORIGINALS.items()}
    groups = {i: ORIGINALS[i] if i[4] in restored else isolated[i] for i in ORIGINALS}
    both = [Interface(i, n, groups[i], "vpc-1", position=(0, n - 1)) for n, i in enumerate(ORIGINALS, 1)]
    return (both[0], replace(both[1], **more))


def fenced(spec: IsolationSpec = KEEP, time: int = FENCED, by_nature: str = "", **more: Any) -> Stopped:
    """An instance that was fenced at this time and has stopped; these interfaces were isolated before, too."""
    open_ = Instance(ID, "running", interfaces(spec, restored="01"))
    originals = {i: frozenset((ISO,)) if i[4] in by_nature else groups for i, groups in ORIGINALS.items()}
    tags = make_backup(open_, originals, time, spec).tags
    return Stopped(Instance(ID, "stopped", interfaces(spec, **more), tags), LAUNCHED)


def with_tags(stopped: Stopped, **tags: str) -> Stopped:
    named = {RETURNED: tags.pop("returned", None), EXEMPT: tags.pop("exempt", None), **tags}
    return changed(stopped, tags=FrozenMap({**stopped.instance.tags, **{k: v for k, v in named.items() if v}}))


def changed(stopped: Stopped, **fields: Any) -> Stopped:
    return replace(stopped, instance=replace(stopped.instance, **fields))


def returned(*ago: int, launched: int = LAUNCHED - 1) -> str:
    """The tag of returns so long ago; before the latest start of the instance, or with ``LAUNCHED`` since."""
    return str(Returns(tuple(NOW - a for a in ago), launched))


def left(stopped: Stopped, **tags: str) -> Stopped:
    """Without its backup, and with these tags."""
    return with_tags(changed(stopped, tags=FrozenMap()), **tags)


def verdict(stopped: Stopped, spec: IsolationSpec = KEEP, **static: Any) -> Verdict:
    return judge(stopped, spec, static.get("static", {}), NOW, 47.0)


OPEN_AGAIN: Any = {"restored": "01"}
UNFINISHED = returned(60, launched=LAUNCHED)
CASES = {
    "keep": (fenced(), KEEP, Verdict.RESTORE),
    "remove": (fenced(REMOVE), REMOVE, Verdict.RESTORE),
    "and without a backup if need be": (fenced(WITHOUT_BACKUP), WITHOUT_BACKUP, Verdict.RESTORE),
    "another's isolation group": (fenced(), replace(KEEP, secg=(ISO2,)), Verdict.NOT_ISOLATED),
    "another's removed group": (fenced(REMOVE), replace(REMOVE, secg=(DB,)), Verdict.NOT_ISOLATED),
    "fenced by a device that keeps groups": (fenced(), REMOVE, Verdict.NOT_ISOLATED),
    "fenced by a device that removes more": (fenced(REMOVE, groups=frozenset((OPEN,))), REMOVE, Verdict.NOT_ISOLATED),
    "a group was added since": (fenced(REMOVE, groups=frozenset((SSH, OPEN))), REMOVE, Verdict.RESTORE),
    "no backup of a removed group": (left(fenced(REMOVE)), REMOVE, Verdict.NO_BACKUP),
    "no backup": (left(fenced()), KEEP, Verdict.NO_BACKUP),
    "only lastfence": (left(fenced(), lastfence=str(FENCED)), KEEP, Verdict.NO_BACKUP),
    "a backup of one interface": (
        changed(fenced(), interfaces=(*fenced().instance.interfaces, Interface(eni("e2"), 3, frozenset((ISO,))))),
        KEEP,
        Verdict.NO_BACKUP,
    ),
    "of another instance": (changed(fenced(), id="i-0000000000000000f"), KEEP, Verdict.NO_BACKUP),
    "one open": (fenced(restored="1"), KEEP, Verdict.NOT_ISOLATED),
    "one with another group": (fenced(groups=frozenset((ISO, OPEN))), KEEP, Verdict.NOT_ISOLATED),
    "managed": (fenced(managed=True), KEEP, Verdict.UNCHANGEABLE),
    "trunk": (fenced(kind="trunk"), KEEP, Verdict.UNCHANGEABLE),
    "without groups": (fenced(groups=frozenset()), KEEP, Verdict.UNCHANGEABLE),
    "without interfaces": (changed(fenced(), interfaces=()), KEEP, Verdict.UNCHANGEABLE),
    "without the primary": (
        changed(fenced(), interfaces=fenced().instance.interfaces[1:]), KEEP, Verdict.UNCHANGEABLE
    ),
    "renamed": (changed(fenced(), lost_names=("node1",)), KEEP, Verdict.LOST_NAME),
    **{s: (changed(fenced(), state=s), KEEP, Verdict.NOT_STOPPED) for s in ("stopping", "pending", "x")},
    "running": (changed(fenced(), state="running"), KEEP, Verdict.RUNS),
    "running, back three times today": (
        changed(with_tags(fenced(), returned=returned(DAY - 1, 900, 500)), state="running"), KEEP, Verdict.RUNS
    ),
    "running, no room": (
        changed(with_tags(fenced(), **{f"t{n}": "x" for n in range(TAG_LIMIT - 3)}), state="running"),
        KEEP,
        Verdict.RUNS,
    ),
    "running and exempt": (changed(with_tags(fenced(), exempt="no"), state="running"), KEEP, Verdict.NOT_STOPPED),
    "running, off may be in progress": (
        changed(fenced(time=NOW - 47 + 1), state="running"), KEEP, Verdict.NOT_STOPPED
    ),
    "running and restored": (
        changed(left(fenced(**OPEN_AGAIN), returned=UNFINISHED), state="running"), KEEP, Verdict.NOT_STOPPED
    ),
    **{f"exempt {v}": (with_tags(fenced(), exempt=v), KEEP, Verdict.EXEMPT) for v in ("no", "False", "0", "look")},
    **{f"exempt {v}": (with_tags(fenced(), exempt=v), KEEP, Verdict.RESTORE) for v in ("yes", "True", " 1", "on")},
    "exempt while it is brought back": (
        with_tags(left(fenced(**OPEN_AGAIN)), returned=UNFINISHED, exempt="no"), KEEP, Verdict.EXEMPT
    ),
    "off may be in progress": (fenced(time=NOW - 47 + 1), KEEP, Verdict.RECENT),
    "off has ended": (fenced(time=NOW - 47), KEEP, Verdict.RESTORE),
    "of a clock that is ahead": (fenced(time=NOW + DAY - 1), KEEP, Verdict.RECENT),
    "of a clock that is a day ahead": (fenced(time=NOW + DAY), KEEP, Verdict.RESTORE),
    "isolated with one of the groups to keep": (fenced(), replace(KEEP, secg=(ISO, ISO2)), Verdict.RESTORE),
    "no room": (with_tags(fenced(), **{f"t{n}": "x" for n in range(TAG_LIMIT - 3)}), KEEP, Verdict.NO_ROOM),
    "room for one": (
        with_tags(fenced(), **{"aws:x": "y", **{f"t{n}": "x" for n in range(TAG_LIMIT - 4)}}), KEEP, Verdict.RESTORE
    ),
    "no room, but the tag is there": (
        with_tags(fenced(), returned=returned(9), **{f"t{n}": "x" for n in range(TAG_LIMIT - 4)}), KEEP,
        Verdict.RESTORE,
    ),
    "hibernated": (changed(fenced(), hibernated=True), KEEP, Verdict.HIBERNATED),
    "hibernated, and back three times today": (
        changed(with_tags(fenced(), returned=returned(DAY - 1, 900, 500)), hibernated=True), KEEP, Verdict.HIBERNATED
    ),
    "hibernated, and exempt": (changed(with_tags(fenced(), exempt="no"), hibernated=True), KEEP, Verdict.EXEMPT),
    "hibernated, and not isolated": (changed(fenced(restored="1"), hibernated=True), KEEP, Verdict.NOT_ISOLATED),
    "hibernated, and restored by a return": (
        changed(left(fenced(**OPEN_AGAIN), returned=UNFINISHED), hibernated=True), KEEP, Verdict.HIBERNATED
    ),
    "back twice today": (with_tags(fenced(), returned=returned(DAY - 1, 500)), KEEP, Verdict.RESTORE),
    "back three times today": (
        with_tags(fenced(), returned=returned(DAY - 1, 900, 500)), KEEP, Verdict.STAYS_STOPPED
    ),
    "once of these less than a day ahead": (
        with_tags(fenced(), returned=returned(1 - DAY, 900, 500)), KEEP, Verdict.STAYS_STOPPED
    ),
    "once of these a day ahead": (with_tags(fenced(), returned=returned(-DAY, 900, 500)), KEEP, Verdict.RESTORE),
    "once of these yesterday": (with_tags(fenced(), returned=returned(DAY, 900, 500)), KEEP, Verdict.RESTORE),
    "the third is not finished": (
        with_tags(fenced(), returned=returned(900, 500, 60, launched=LAUNCHED)), KEEP, Verdict.RESTORE
    ),
    "fenced again since": (
        with_tags(fenced(time=NOW - 50), returned=returned(900, 500, 60, launched=LAUNCHED)), KEEP,
        Verdict.STAYS_STOPPED,
    ),
    "a tag that cannot be read": (with_tags(fenced(), returned="yesterday"), KEEP, Verdict.RESTORE),
    "fenced again in the same second": (
        with_tags(fenced(restored="1", time=NOW - 60), returned=UNFINISHED), KEEP, Verdict.NOT_ISOLATED
    ),
    "isolated by nature": (fenced(by_nature="01"), KEEP, Verdict.NO_BACKUP),
    "one isolated by nature": (fenced(by_nature="1"), KEEP, Verdict.RESTORE),
    "one is restored": (with_tags(fenced(restored="1"), returned=UNFINISHED), KEEP, Verdict.RESTORE),
    "all are restored": (with_tags(fenced(**OPEN_AGAIN), returned=UNFINISHED), KEEP, Verdict.RESTORE),
    "one is restored, long ago": (
        with_tags(fenced(restored="1", time=NOW - 4000), returned=returned(3600, launched=LAUNCHED)), KEEP,
        Verdict.GIVEN_UP,
    ),
    "one is restored, long ago, and was fenced since": (
        with_tags(fenced(restored="1", time=NOW - 3000), returned=returned(3600, launched=LAUNCHED)), KEEP,
        Verdict.NOT_ISOLATED,
    ),
    "none is restored, long ago": (
        with_tags(fenced(time=NOW - 4000), returned=returned(3600, launched=LAUNCHED)), KEEP, Verdict.RESTORE
    ),
    "one is restored, of a fence a day ahead": (
        with_tags(fenced(restored="1", time=NOW + DAY), returned=UNFINISHED), KEEP, Verdict.RESTORE
    ),
    "one is restored, of a fence less than a day ahead": (
        with_tags(fenced(restored="1", time=NOW + DAY - 1), returned=UNFINISHED), KEEP, Verdict.RECENT
    ),
    "a tag of ours that cannot be read": (
        with_tags(fenced(), **{f"Original_SG_Backup_{ID}_5_1_1": "cut o"}), KEEP, Verdict.NO_BACKUP
    ),
    "one is restored, and was started since": (
        with_tags(fenced(restored="1"), returned=returned(60)), KEEP, Verdict.NOT_ISOLATED
    ),
    "one has other groups": (
        with_tags(fenced(groups=frozenset((OPEN,))), returned=UNFINISHED), KEEP, Verdict.NOT_ISOLATED
    ),
    "restored, and not started": (left(fenced(**OPEN_AGAIN), returned=UNFINISHED), KEEP, Verdict.START),
    "removed group restored": (left(fenced(REMOVE, **OPEN_AGAIN), returned=UNFINISHED), REMOVE, Verdict.START),
    "isolated since, without a backup": (left(fenced(), returned=UNFINISHED), KEEP, Verdict.NOT_ISOLATED),
    "restored an hour ago": (
        left(fenced(**OPEN_AGAIN), returned=returned(3600, launched=LAUNCHED)), KEEP, Verdict.GIVEN_UP
    ),
    "restored less than an hour ahead": (
        left(fenced(**OPEN_AGAIN), returned=returned(-3599, launched=LAUNCHED)), KEEP, Verdict.START
    ),
    "restored an hour ahead": (
        left(fenced(**OPEN_AGAIN), returned=returned(-3600, launched=LAUNCHED)), KEEP, Verdict.GIVEN_UP
    ),
    "stopped by somebody after its return": (
        left(fenced(**OPEN_AGAIN), returned=returned(60)), KEEP, Verdict.NO_BACKUP
    ),
    "a launch that EC2 does not show": (
        replace(left(fenced(**OPEN_AGAIN), returned=returned(60, launched=0)), launched=0), KEEP, Verdict.NO_BACKUP
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_an_instance_is_brought_back_only_if_nothing_speaks_against_it(name):
    stopped, spec, wanted = CASES[name]
    assert verdict(stopped, spec) is wanted
    assert wanted.returns == (wanted in (Verdict.RESTORE, Verdict.START))


def test_groups_of_interface_n_sg_are_those_of_a_return_that_is_not_finished():
    stopped = with_tags(fenced(groups=frozenset((OPEN,))), returned=UNFINISHED)
    assert verdict(stopped, static={0: frozenset((DB,)), 1: frozenset((OPEN,))}) is Verdict.RESTORE


BOTH = {0: frozenset((DB,)), 1: frozenset((SSH,))}


@pytest.mark.parametrize(
    ("stopped", "spec", "static", "wanted"),
    [
        (fenced(), KEEP, BOTH, Verdict.RESTORE),
        (fenced(), KEEP, {**BOTH, 2: frozenset((DB,))}, Verdict.RESTORE),
        (fenced(), KEEP, {0: BOTH[0]}, Verdict.STATIC_REFUSED),
        (fenced(), KEEP, {**BOTH, 1: frozenset((ISO,))}, Verdict.STATIC_REFUSED),
        (fenced(REMOVE), REMOVE, {**BOTH, 0: frozenset((APP,))}, Verdict.RESTORE),
        (fenced(REMOVE), REMOVE, BOTH, Verdict.STATIC_REFUSED),
        (left(fenced(**OPEN_AGAIN), returned=UNFINISHED), KEEP, {0: BOTH[0]}, Verdict.STATIC_REFUSED),
        (fenced(restored="1"), KEEP, {0: BOTH[0]}, Verdict.NOT_ISOLATED),
    ],
)
def test_what_on_refuses_is_not_brought_back(stopped, spec, static, wanted):
    assert verdict(stopped, spec, static=static) is wanted
    assert not Verdict.STATIC_REFUSED.returns


def test_a_new_return_is_counted_and_one_that_goes_on_is_not():
    stopped = with_tags(fenced(), returned=returned(DAY, DAY - 99, 500))
    times = (NOW - DAY + 99, NOW - 500, NOW)
    assert stopped.next_returns(NOW) == Returns(times, LAUNCHED)
    begun = stopped.with_returns(stopped.next_returns(NOW))
    assert begun.returns == Returns(times, LAUNCHED)
    assert begun == with_tags(stopped, returned=str(begun.returns))
    assert begun.is_resumed(NOW + 60)
    assert begun.next_returns(NOW + 60) == Returns((*times[:-1], NOW + 60), LAUNCHED)
    assert len(str(Returns((9999999999,) * MOST_RETURNS, 9999999999))) < 100
