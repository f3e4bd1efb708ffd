"""The safety rules, as tables: each row is a state that an instance can be found in."""

from typing import Dict, FrozenSet, Optional

import pytest

from aws_vpc_net import rules
from aws_vpc_net.rules import Book, Instance, Interface, Policy

APP, DB, SSH, ISO, OPEN = (f"sg-{c * 8}" for c in "abcde")
E0, E1 = "eni-00000000", "eni-11111111"
KEEP = Policy((ISO,), keep_only=True, untrack=OPEN)
REMOVE = Policy((APP,), untrack=OPEN)
REMOVE_ANYWAY = Policy((APP,), without_record=True)


def fs(*groups: str) -> FrozenSet[str]:
    return frozenset(groups)


def instance(*groups: FrozenSet[str], state: str = "running") -> Instance:
    interfaces = tuple(Interface(e, n, g) for n, (e, g) in enumerate(zip((E0, E1), groups), 1))
    return Instance("i-00000000", state, interfaces)


def book(last: Optional[int], **sets: Dict[int, FrozenSet[str]]) -> Book:
    by_id = {{"e0": E0, "e1": E1}[k]: v for k, v in sets.items()}
    times = {t for s in sets.values() for t in s} | ({last} if last else set())
    return Book(last, by_id, frozenset(times))


NO_BOOK = book(None)


@pytest.mark.parametrize(
    ("policy", "groups", "expected"),
    [
        (KEEP, fs(ISO), True),
        (KEEP, fs(ISO, APP), False),
        (KEEP, fs(), False),
        (KEEP, fs(OPEN), False),
        (REMOVE, fs(DB), True),
        (REMOVE, fs(DB, APP), False),
        (REMOVE, fs(DB, OPEN), False),
        (REMOVE, fs(), False),
        (Policy(()), fs(DB), False),
        (Policy((), keep_only=True), fs(DB), False),
        (Policy((ISO, SSH), keep_only=True), fs(SSH), True),
    ],
)
def test_cut_goes_by_the_groups_alone(policy, groups, expected):
    assert rules.cut(groups, policy) is expected


@pytest.mark.parametrize(
    ("why", "policy", "found", "tags", "expected"),
    [
        ("all kept", KEEP, instance(fs(ISO), fs(ISO)), NO_BOOK, True),
        ("one open", KEEP, instance(fs(ISO), fs(APP)), NO_BOOK, False),
        ("no interfaces", KEEP, instance(), NO_BOOK, False),
        ("an interface without groups", KEEP, instance(fs(ISO), fs()), NO_BOOK, False),
        ("terminated", KEEP, instance(fs(APP), state="terminated"), NO_BOOK, True),
        ("stopped is not isolated", KEEP, instance(fs(APP), state="stopped"), NO_BOOK, False),
        ("tags alone", KEEP, instance(fs(APP)), book(5, e0={5: fs(APP)}), False),
        ("removed and recorded", REMOVE, instance(fs(DB)), book(5, e0={5: fs(APP, DB)}), True),
        ("removed, no record: perhaps a forgotten invert", REMOVE, instance(fs(DB)), NO_BOOK, False),
        ("lastfence without a set", REMOVE, instance(fs(DB)), book(5), False),
        ("record of nothing removed: left-over tags", REMOVE, instance(fs(DB)), book(5, e0={5: fs(DB)}), False),
        ("older record, cut", REMOVE, instance(fs(DB)), book(9, e0={5: fs(APP, DB)}), True),
        (
            "a second interface that never had it",
            REMOVE,
            instance(fs(DB), fs(SSH)),
            book(5, e0={5: fs(APP, DB)}),
            True,
        ),
        ("still there on one", REMOVE, instance(fs(DB), fs(APP)), book(5, e0={5: fs(APP, DB)}), False),
        ("no record, but accepted", REMOVE_ANYWAY, instance(fs(DB)), NO_BOOK, True),
        ("between the steps", REMOVE, instance(fs(OPEN)), book(5, e0={5: fs(APP)}), False),
        ("no secg", Policy(), instance(fs(DB)), book(5, e0={5: fs(APP)}), False),
    ],
)
def test_status_is_off_only_if_this_read_shows_every_interface_isolated(why, policy, found, tags, expected):
    assert rules.is_off(found, tags, policy) is expected, why


@pytest.mark.parametrize(
    ("why", "policy", "groups", "sets", "last", "expected"),
    [
        ("set of lastfence", KEEP, fs(APP), {5: fs(APP, DB)}, 5, fs(APP, DB)),
        ("lastfence beats a newer set", KEEP, fs(ISO), {5: fs(APP), 9: fs(DB)}, 5, fs(APP)),
        ("isolated: newest complete", KEEP, fs(ISO), {3: fs(APP), 4: fs(DB)}, 9, fs(DB)),
        ("open: an older set says nothing", KEEP, fs(APP), {4: fs(DB)}, 9, None),
        ("isolated, lastfence lost", KEEP, fs(ISO), {4: fs(DB)}, None, fs(DB)),
        ("between the steps: newest complete", KEEP, fs(OPEN), {4: fs(DB)}, 9, fs(DB)),
        ("no sets", KEEP, fs(ISO), {}, 9, None),
        ("cut groups never outrank real originals", KEEP, fs(ISO), {5: fs(APP), 9: fs(ISO)}, 9, fs(APP)),
        ("nor if they are the newest", KEEP, fs(ISO), {5: fs(APP), 9: fs(ISO)}, None, fs(APP)),
        ("isolated before any fence", KEEP, fs(ISO), {9: fs(ISO)}, 9, fs(ISO)),
        ("removed: the same", REMOVE, fs(DB), {5: fs(APP, DB), 9: fs(DB)}, 9, fs(APP, DB)),
    ],
)
def test_the_valid_record_of_an_interface(why, policy, groups, sets, last, expected):
    found = rules.record_of(Interface(E0, 1, groups), book(last, e0=sets), policy)
    assert found == expected, why


@pytest.mark.parametrize(
    ("why", "policy", "groups", "tags", "expected"),
    [
        ("open: as it is now", KEEP, fs(APP), NO_BOOK, fs(APP)),
        ("open: whatever old tags say", KEEP, fs(APP), book(5, e0={5: fs(DB)}), fs(APP)),
        ("isolated: as recorded", KEEP, fs(ISO), book(5, e0={5: fs(DB)}), fs(DB)),
        ("isolated before any fence", KEEP, fs(ISO), NO_BOOK, fs(ISO)),
        ("exactly the untracking group: as recorded", KEEP, fs(OPEN), book(5, e0={5: fs(DB)}), fs(DB)),
        ("exactly the untracking group, no record", KEEP, fs(OPEN), NO_BOOK, fs(OPEN)),
        ("the untracking group among others is open", KEEP, fs(OPEN, APP), book(5, e0={5: fs(DB)}), fs(OPEN, APP)),
        ("removed: as recorded", REMOVE, fs(DB), book(5, e0={5: fs(APP, DB)}), fs(APP, DB)),
        ("removed, edited since: as recorded", REMOVE, fs(DB, SSH), book(5, e0={5: fs(APP, DB)}), fs(APP, DB)),
        ("not removed yet", REMOVE, fs(APP, DB), book(5, e0={5: fs(SSH)}), fs(APP, DB)),
    ],
)
def test_isolated_groups_are_never_recorded_as_originals(why, policy, groups, tags, expected):
    assert rules.backup(instance(groups), tags, policy)[E0] == expected, why


@pytest.mark.parametrize(
    ("policy", "groups", "originals", "expected"),
    [
        (KEEP, fs(APP, DB), fs(), fs(ISO)),
        (KEEP, fs(ISO), fs(), fs(ISO)),
        (REMOVE, fs(APP, DB), fs(), fs(DB)),
        (REMOVE, fs(DB), fs(), fs(DB)),
        (REMOVE, fs(APP), fs(), fs()),
        (REMOVE, fs(OPEN), fs(APP, DB), fs(DB)),
        (REMOVE, fs(OPEN, DB), fs(APP, DB), fs(DB)),
        (Policy((APP, SSH)), fs(APP, DB, SSH), fs(), fs(DB)),
    ],
)
def test_the_goal_isolates_or_is_empty(policy, groups, originals, expected):
    goal = rules.goal(groups, policy, originals)
    assert goal == expected
    assert not goal or rules.cut(goal, policy)


def test_something_to_remove():
    assert rules.something_to_remove(instance(fs(DB), fs(APP)), REMOVE)
    assert rules.something_to_remove(instance(fs(DB), fs(OPEN)), REMOVE)
    assert not rules.something_to_remove(instance(fs(DB), fs(SSH)), REMOVE)
    assert rules.something_to_remove(instance(fs(DB)), KEEP)


def test_looking_fenced_without_a_record_is_doubtful():
    assert rules.doubtful(instance(fs(ISO), fs(APP)), NO_BOOK, KEEP) == [E0]
    assert rules.doubtful(instance(fs(ISO), fs(APP)), book(5, e0={5: fs(APP)}), KEEP) == []


def test_a_fencer_counts_as_fenced_only_with_a_record_of_its_own():
    assert not rules.is_fenced_fencer(instance(fs(ISO)), NO_BOOK, KEEP)
    assert rules.is_fenced_fencer(instance(fs(ISO)), book(5, e0={5: fs(APP)}), KEEP)
    assert not rules.is_fenced_fencer(instance(fs(APP)), book(5, e0={5: fs(APP)}), KEEP)


def test_originals_are_the_records_of_attached_interfaces():
    found = rules.originals(instance(fs(ISO), fs(APP)), book(5, e0={5: fs(DB)}), KEEP)
    assert found == {E0: fs(DB)}


@pytest.mark.parametrize(
    ("why", "policy", "now", "record", "expected"),
    [
        ("a stale read showed it cut", REMOVE, fs(APP, DB), fs(DB), {}),
        ("the same, kept", KEEP, fs(APP), fs(ISO), {}),
        ("cut: as recorded", REMOVE, fs(DB), fs(DB), {E0: fs(DB)}),
        ("open, other groups on record", REMOVE, fs(APP, DB), fs(APP, SSH), {E0: fs(APP, SSH)}),
        ("an on that forgot to invert", Policy((ISO,)), fs(ISO), fs(APP), {E0: fs(APP)}),
        ("an on without secg", Policy(), fs(APP), fs(ISO), {E0: fs(ISO)}),
    ],
)
def test_on_does_not_set_what_only_a_stale_read_took_for_originals(why, policy, now, record, expected):
    assert rules.originals(instance(now), book(5, e0={5: record}), policy) == expected, why


@pytest.mark.parametrize(
    ("why", "policy", "written", "seen", "others", "expected"),
    [
        ("agrees", KEEP, fs(APP), fs(APP), NO_BOOK, None),
        ("an edit between the reads", KEEP, fs(APP), fs(APP, DB), NO_BOOK, fs(APP, DB)),
        ("isolated by another meanwhile", KEEP, fs(APP), fs(ISO), book(5, e0={5: fs(APP)}), None),
        ("a stale first read", KEEP, fs(ISO), fs(APP), NO_BOOK, fs(APP)),
        ("another's record of real originals", KEEP, fs(ISO), fs(ISO), book(5, e0={5: fs(APP)}), fs(APP)),
        ("isolated before any fence", KEEP, fs(ISO), fs(ISO), NO_BOOK, None),
        ("between another's steps", KEEP, fs(APP), fs(OPEN), NO_BOOK, None),
        ("between another's steps, first read too", KEEP, fs(OPEN), fs(OPEN), book(5, e0={5: fs(APP)}), fs(APP)),
        ("removed: another's record", REMOVE, fs(DB), fs(DB), book(5, e0={5: fs(APP, DB)}), fs(APP, DB)),
        ("removed: never had it", REMOVE, fs(DB), fs(DB), NO_BOOK, None),
    ],
)
def test_the_record_agrees_with_the_read_that_proves_it(why, policy, written, seen, others, expected):
    better = rules.better_backup({E0: written}, instance(seen), others, policy, trust_groups=True)
    assert better == (None if expected is None else {E0: expected}), why


def test_after_our_own_changes_the_groups_of_a_read_are_no_originals():
    assert rules.better_backup({E0: fs(APP)}, instance(fs(DB)), NO_BOOK, KEEP) is None


def test_what_another_recorded_later_is_newer_than_what_we_copied():
    others = book(6, e0={5: fs(APP), 6: fs(DB)})
    assert rules.better_backup({E0: fs(APP)}, instance(fs(ISO)), others, KEEP, frozenset((5,))) == {E0: fs(DB)}
    assert rules.better_backup({E0: fs(APP)}, instance(fs(ISO)), others, KEEP, frozenset((5, 6))) is None


def test_of_two_writers_of_one_second_the_real_originals_count():
    twins = Book(5, {E0: {5: fs(ISO)}}, frozenset((5,)), {E0: {5: (fs(APP),)}})
    assert rules.record_of(Interface(E0, 1, fs(ISO)), twins, KEEP) == fs(APP)
