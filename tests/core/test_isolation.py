"""What one read means, as tables: each row is a state that an instance can be in."""

from typing import Dict, FrozenSet, Optional

import pytest

from aws_vpc_net.core import isolation
from aws_vpc_net.core.model import UNFILTERED, BackupHistory, Instance, Interface, IsolationSpec

APP, DB, SSH, ISO, OPEN = (f"sg-{c * 8}" for c in "abcde")
E0, E1 = "eni-00000000", "eni-11111111"
KEEP = IsolationSpec((ISO,), keep_only=True, untrack=OPEN)
REMOVE = IsolationSpec((APP,), untrack=OPEN)
REMOVE_ANYWAY = IsolationSpec((APP,), without_backup=True)


def fs(*groups: str) -> FrozenSet[str]:
    return frozenset(groups)


def instance(*groups: FrozenSet[str], state: str = "running") -> Instance:
    interfaces = tuple(Interface(e, n, g) for n, (e, g) in enumerate(zip((E0, E1), groups), 1))
    return Instance("i-00000000", state, interfaces)


def history(last: Optional[int], **sets: Dict[int, FrozenSet[str]]) -> BackupHistory:
    by_id = {{"e0": E0, "e1": E1}[k]: v for k, v in sets.items()}
    times = {t for s in sets.values() for t in s} | ({last} if last else set())
    return BackupHistory(last, by_id, frozenset(times))


NO_BACKUP = history(None)


@pytest.mark.parametrize(
    ("spec", "groups", "expected"),
    [
        (KEEP, fs(ISO), True),
        (KEEP, fs(ISO, APP), False),
        (KEEP, fs(), False),
        (KEEP, fs(OPEN), False),
        (REMOVE, fs(DB), True),
        (REMOVE, fs(DB, APP), False),
        (REMOVE, fs(DB, OPEN), False),
        (REMOVE, fs(), False),
        (IsolationSpec(()), fs(DB), False),
        (IsolationSpec((), keep_only=True), fs(DB), False),
        (IsolationSpec((ISO, SSH), keep_only=True), fs(SSH), True),
    ],
)
def test_matches_isolation_by_the_groups_alone(spec, groups, expected):
    assert isolation.matches_isolation(groups, spec) is expected


@pytest.mark.parametrize(
    ("why", "spec", "latest", "tags", "expected"),
    [
        ("all kept", KEEP, instance(fs(ISO), fs(ISO)), NO_BACKUP, True),
        ("one open", KEEP, instance(fs(ISO), fs(APP)), NO_BACKUP, False),
        ("no interfaces", KEEP, instance(), NO_BACKUP, False),
        ("an interface without groups", KEEP, instance(fs(ISO), fs()), NO_BACKUP, False),
        ("terminated", KEEP, instance(fs(APP), state="terminated"), NO_BACKUP, True),
        ("stopped is not isolated", KEEP, instance(fs(APP), state="stopped"), NO_BACKUP, False),
        ("tags alone", KEEP, instance(fs(APP)), history(5, e0={5: fs(APP)}), False),
        ("removed, with a backup", REMOVE, instance(fs(DB)), history(5, e0={5: fs(APP, DB)}), True),
        ("removed, no backup: perhaps a forgotten invert", REMOVE, instance(fs(DB)), NO_BACKUP, False),
        ("lastfence without a set", REMOVE, instance(fs(DB)), history(5), False),
        ("backup of nothing removed: left-over tags", REMOVE, instance(fs(DB)), history(5, e0={5: fs(DB)}), False),
        ("older backup, isolated", REMOVE, instance(fs(DB)), history(9, e0={5: fs(APP, DB)}), True),
        (
            "a second interface that never had it",
            REMOVE,
            instance(fs(DB), fs(SSH)),
            history(5, e0={5: fs(APP, DB)}),
            True,
        ),
        ("still there on one", REMOVE, instance(fs(DB), fs(APP)), history(5, e0={5: fs(APP, DB)}), False),
        ("no backup, but accepted", REMOVE_ANYWAY, instance(fs(DB)), NO_BACKUP, True),
        ("untracking", REMOVE, instance(fs(OPEN)), history(5, e0={5: fs(APP)}), False),
        ("no secg", IsolationSpec(), instance(fs(DB)), history(5, e0={5: fs(APP)}), False),
    ],
)
def test_is_off_only_if_the_read_shows_every_interface_isolated(why, spec, latest, tags, expected):
    assert isolation.is_off(latest, tags, spec) is expected, why


@pytest.mark.parametrize("kind", UNFILTERED)
def test_is_off_never_where_groups_do_not_filter(kind):
    node = Interface(E0, 1, fs(ISO), kind=kind)
    assert not isolation.is_off(Instance("i-00000000", "running", (node,)), NO_BACKUP, KEEP)


@pytest.mark.parametrize(
    ("why", "spec", "groups", "sets", "last", "expected"),
    [
        ("set of lastfence", KEEP, fs(APP), {5: fs(APP, DB)}, 5, fs(APP, DB)),
        ("lastfence beats a newer set", KEEP, fs(ISO), {5: fs(APP), 9: fs(DB)}, 5, fs(APP)),
        ("isolated: latest complete", KEEP, fs(ISO), {3: fs(APP), 4: fs(DB)}, 9, fs(DB)),
        ("open: an older set says nothing", KEEP, fs(APP), {4: fs(DB)}, 9, None),
        ("isolated, lastfence lost", KEEP, fs(ISO), {4: fs(DB)}, None, fs(DB)),
        ("untracking: latest complete", KEEP, fs(OPEN), {4: fs(DB)}, 9, fs(DB)),
        ("no sets", KEEP, fs(ISO), {}, 9, None),
        ("isolated groups never outrank real originals", KEEP, fs(ISO), {5: fs(APP), 9: fs(ISO)}, 9, fs(APP)),
        ("nor if they are the latest", KEEP, fs(ISO), {5: fs(APP), 9: fs(ISO)}, None, fs(APP)),
        ("isolated before any fence", KEEP, fs(ISO), {9: fs(ISO)}, 9, fs(ISO)),
        ("isolated before any fence, lastfence lost", KEEP, fs(ISO), {9: fs(ISO)}, None, fs(ISO)),
        ("never had it: lastfence beats a newer set", REMOVE, fs(DB), {5: fs(DB), 9: fs(SSH)}, 5, fs(DB)),
        ("removed: the same", REMOVE, fs(DB), {5: fs(APP, DB), 9: fs(DB)}, 9, fs(APP, DB)),
    ],
)
def test_valid_backup_of_an_interface(why, spec, groups, sets, last, expected):
    found = isolation.valid_backup(Interface(E0, 1, groups), history(last, e0=sets), spec)
    assert found == expected, why


@pytest.mark.parametrize(
    ("why", "spec", "groups", "tags", "expected"),
    [
        ("open: as it is now", KEEP, fs(APP), NO_BACKUP, fs(APP)),
        ("open: whatever old tags say", KEEP, fs(APP), history(5, e0={5: fs(DB)}), fs(APP)),
        ("isolated: as in the backup", KEEP, fs(ISO), history(5, e0={5: fs(DB)}), fs(DB)),
        ("isolated before any fence", KEEP, fs(ISO), NO_BACKUP, fs(ISO)),
        ("exactly the untracking group: as in the backup", KEEP, fs(OPEN), history(5, e0={5: fs(DB)}), fs(DB)),
        ("exactly the untracking group, no backup", KEEP, fs(OPEN), NO_BACKUP, fs(OPEN)),
        ("the untracking group among others is open", KEEP, fs(OPEN, APP), history(5, e0={5: fs(DB)}), fs(OPEN, APP)),
        ("removed: as in the backup", REMOVE, fs(DB), history(5, e0={5: fs(APP, DB)}), fs(APP, DB)),
        (
            "edited since: as in the backup",
            REMOVE,
            fs(DB, SSH),
            history(5, e0={5: fs(APP, DB)}),
            fs(APP, DB),
        ),
        ("not removed yet", REMOVE, fs(APP, DB), history(5, e0={5: fs(SSH)}), fs(APP, DB)),
    ],
)
def test_backup_groups_are_never_isolated_ones(why, spec, groups, tags, expected):
    assert isolation.backup_groups(instance(groups), tags, spec)[E0] == expected, why


@pytest.mark.parametrize(
    ("spec", "groups", "originals", "expected"),
    [
        (KEEP, fs(APP, DB), fs(), fs(ISO)),
        (KEEP, fs(ISO), fs(), fs(ISO)),
        (REMOVE, fs(APP, DB), fs(), fs(DB)),
        (REMOVE, fs(DB), fs(), fs(DB)),
        (REMOVE, fs(APP), fs(), fs()),
        (REMOVE, fs(DB, SSH), fs(APP, DB), fs(DB, SSH)),
        (REMOVE, fs(OPEN), fs(APP, DB), fs(DB)),
        (REMOVE, fs(OPEN), fs(), fs()),
        (REMOVE, fs(OPEN, DB), fs(APP, DB), fs(DB)),
        (IsolationSpec((APP, SSH)), fs(APP, DB, SSH), fs(), fs(DB)),
    ],
)
def test_target_groups_isolate_or_are_empty(spec, groups, originals, expected):
    goal = isolation.target_groups(groups, spec, originals)
    assert goal == expected
    assert not goal or isolation.matches_isolation(goal, spec)


@pytest.mark.parametrize(
    ("spec", "numbers", "expected"),
    [(KEEP, (0, 1, 2), [1]), (KEEP, (0, 2), []), (REMOVE, (0, 1), []), (REMOVE, (1, 2), [1])],
)
def test_static_groups_must_not_isolate(spec, numbers, expected):
    """There are none for 2. Where groups are removed it is wrong only of all."""
    isolated = isolation.target_groups(fs(APP, DB), spec)
    assert isolation.isolating_options({0: fs(APP), 1: isolated}, numbers, spec) == expected


def test_has_groups_to_remove():
    assert isolation.has_groups_to_remove(instance(fs(DB), fs(APP)), REMOVE)
    assert isolation.has_groups_to_remove(instance(fs(DB), fs(OPEN)), REMOVE)
    assert not isolation.has_groups_to_remove(instance(fs(DB), fs(SSH)), REMOVE)
    assert isolation.has_groups_to_remove(instance(fs(DB)), KEEP)


def test_isolated_without_backup_names_the_interface():
    assert isolation.isolated_without_backup(instance(fs(ISO), fs(APP)), NO_BACKUP, KEEP) == [E0]
    assert isolation.isolated_without_backup(instance(fs(ISO), fs(APP)), history(5, e0={5: fs(APP)}), KEEP) == []


def test_fencer_is_fenced_only_with_a_backup_of_its_own():
    assert not isolation.fencer_is_fenced(instance(fs(ISO)), NO_BACKUP, KEEP)
    assert isolation.fencer_is_fenced(instance(fs(ISO)), history(5, e0={5: fs(APP)}), KEEP)
    assert not isolation.fencer_is_fenced(instance(fs(APP)), history(5, e0={5: fs(APP)}), KEEP)


def test_groups_to_restore_are_backups_of_attached_interfaces():
    found = isolation.groups_to_restore(instance(fs(ISO), fs(APP)), history(5, e0={5: fs(DB)}), KEEP)
    assert found == {E0: fs(DB)}


@pytest.mark.parametrize(
    ("why", "spec", "now", "backup", "expected"),
    [
        ("a stale read showed it isolated", REMOVE, fs(APP, DB), fs(DB), {}),
        ("the same, groups kept", KEEP, fs(APP), fs(ISO), {}),
        ("isolated: as in the backup", REMOVE, fs(DB), fs(DB), {E0: fs(DB)}),
        ("open, other groups in the backup", REMOVE, fs(APP, DB), fs(APP, SSH), {E0: fs(APP, SSH)}),
        ("an on that forgot to invert", IsolationSpec((ISO,)), fs(ISO), fs(APP), {E0: fs(APP)}),
        ("an on without secg", IsolationSpec(), fs(APP), fs(ISO), {E0: fs(ISO)}),
        ("an on without secg, and nothing was isolated", IsolationSpec(), fs(APP), fs(APP), {E0: fs(APP)}),
    ],
)
def test_groups_to_restore_leave_out_a_stale_backup(why, spec, now, backup, expected):
    assert isolation.groups_to_restore(instance(now), history(5, e0={5: backup}), spec) == expected, why


@pytest.mark.parametrize(
    ("why", "spec", "written", "latest", "others", "expected"),
    [
        ("agrees", KEEP, fs(APP), fs(APP), NO_BACKUP, None),
        ("an edit between the reads", KEEP, fs(APP), fs(APP, DB), NO_BACKUP, fs(APP, DB)),
        ("isolated by another meanwhile", KEEP, fs(APP), fs(ISO), history(5, e0={5: fs(APP)}), None),
        ("a stale first read", KEEP, fs(ISO), fs(APP), NO_BACKUP, fs(APP)),
        ("another's backup of open groups", KEEP, fs(ISO), fs(ISO), history(5, e0={5: fs(APP)}), fs(APP)),
        ("isolated before any fence", KEEP, fs(ISO), fs(ISO), NO_BACKUP, None),
        ("untracking by another", KEEP, fs(APP), fs(OPEN), NO_BACKUP, None),
        (
            "untracking by another in both reads",
            KEEP,
            fs(OPEN),
            fs(OPEN),
            history(5, e0={5: fs(APP)}),
            fs(APP),
        ),
        ("removed: another's backup", REMOVE, fs(DB), fs(DB), history(5, e0={5: fs(APP, DB)}), fs(APP, DB)),
        ("removed: never had it", REMOVE, fs(DB), fs(DB), NO_BACKUP, None),
        ("removed: never had it, edited since", REMOVE, fs(DB, SSH), fs(DB, SSH), history(5, e0={5: fs(DB)}), None),
    ],
)
def test_amend_backup_agrees_with_the_read_that_proves_it(why, spec, written, latest, others, expected):
    amended = isolation.amend_backup({E0: written}, instance(latest), others, spec, before_first_change=True)
    assert amended == (None if expected is None else {E0: expected}), why


def test_amend_backup_takes_no_groups_of_a_read_after_a_change():
    assert isolation.amend_backup({E0: fs(APP)}, instance(fs(DB)), NO_BACKUP, KEEP) is None


def test_amend_backup_prefers_what_another_fencer_wrote_later():
    others = history(6, e0={5: fs(APP), 6: fs(DB)})
    assert isolation.amend_backup({E0: fs(APP)}, instance(fs(ISO)), others, KEEP, frozenset((5,))) == {E0: fs(DB)}
    assert isolation.amend_backup({E0: fs(APP)}, instance(fs(ISO)), others, KEEP, frozenset((5, 6))) is None


def test_amend_backup_takes_what_another_fencer_added_to_a_backup_that_was_known():
    """It writes the groups of an interface that appears under the time that its backup has."""
    others = history(5, e0={5: fs(APP)})
    assert isolation.amend_backup({E0: fs(ISO)}, instance(fs(ISO)), others, KEEP, frozenset((5,))) == {E0: fs(APP)}


def test_valid_backup_of_two_writers_of_one_second_is_the_open_one():
    both = BackupHistory(5, {E0: {5: fs(ISO)}}, frozenset((5,)), {E0: {5: (fs(APP),)}})
    assert isolation.valid_backup(Interface(E0, 1, fs(ISO)), both, KEEP) == fs(APP)
