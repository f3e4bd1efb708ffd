"""The checks of every step: they see what is wrong, and never end a run.

That they are silent where nothing is wrong is checked at every step of every transcript.
"""

import itertools
from dataclasses import replace
from typing import Any, List, Optional

import pytest
from core.transcript import (
    ID,
    ISO,
    KEEP,
    KEEP_UNTRACK,
    OWN,
    Run,
    World,
    eni,
    groups,
    off_of,
    on_of,
    parsed,
    play,
)

from aws_vpc_net.core import invariants
from aws_vpc_net.core.backup import RETURNED, Backup, encode
from aws_vpc_net.core.model import FrozenMap, IsolationSpec, tags_of
from aws_vpc_net.core.protocol import (
    WARNING,
    Change,
    DeleteTags,
    Fail,
    Failure,
    Knowledge,
    Note,
    Opening,
    Outcome,
    Restore,
    SetGroups,
    StartInstance,
    Step,
    Succeed,
    WriteTags,
)
from aws_vpc_net.errors import Category

GONE = "eni-99999999999999999"
WITHOUT_BACKUP = IsolationSpec((ISO,), keep_only=True, without_backup=True)
FAIL = Fail(Category.MODIFICATION, "")
FAILURE = Failure(Outcome.TRANSIENT, Category.MODIFICATION, "")
BACKUP = "read\nwrite e0:ad e1:as\nread"
ISOLATED = f"{BACKUP}\nisolate e0:i e1:i\nread"


NAMED = (Note(WARNING, "", FrozenMap(parsed("e0:ad"))),)


def played(transcript: str, spec: IsolationSpec = KEEP, world: Optional[World] = None, **options: Any) -> Run:
    run = off_of(world or World(), spec, **options)
    play(run, transcript)
    return run


def checked(
    run: Run, action: Any, before: Optional[Knowledge] = None, after: Optional[Knowledge] = None
) -> List[str]:
    """What is wrong with a run that does this next."""
    known = before or run.knowledge
    return invariants.violations(run.plan, known, Step(action, after or known), run.tick())


def sets(change: Change, goals: str) -> SetGroups:
    return SetGroups(change, FrozenMap(parsed(goals)))


def reads(k: Knowledge, **changes: Any) -> Knowledge:
    return replace(k, reads=replace(k.reads, **changes))


def backup(k: Knowledge, **changes: Any) -> Knowledge:
    return replace(k, backup=replace(k.backup, **changes))


def reading(k: Knowledge, interfaces: str = "e0:i e1:i", tags: Any = None, state: str = "running") -> Knowledge:
    """The latest read shows this."""
    world = World(interfaces)
    world.state = state
    return reads(k, latest=replace(world.read(""), tags=FrozenMap(tags_of(k.latest) if tags is None else tags)))


def one(k: Knowledge, name: str = "e1", **changes: Any) -> Knowledge:
    """With this about one interface."""
    return k.with_progress(eni(name), replace(k.interfaces[eni(name)], **changes))


def test_no_group_changes_before_a_read_shows_the_backup():
    run = played(BACKUP)
    k, isolate = run.knowledge, sets(Change.ISOLATE, "e0:i e1:i")
    assert checked(run, isolate) == []
    early = ["groups change before a read has shown the backup"]
    assert checked(played("read"), sets(Change.ISOLATE, "e0:i")) == early
    assert checked(run, isolate, reads(k, latest=None)) == early
    assert checked(run, isolate, reads(k, fresh=False)) == early
    assert checked(run, isolate, reading(k, "e0:ad e1:as", {})) == [
        "groups change behind a read that does not show the backup"
    ]
    wrong = [f"groups change, and the backup does not agree with the proving read: {eni('e0')}"]
    assert checked(run, isolate, reading(k, "e0:s e1:as")) == wrong
    assert checked(run, sets(Change.ISOLATE, "e1:i"), reading(k, "e0:s e1:as")) == []
    optional = played(BACKUP, WITHOUT_BACKUP)
    assert checked(optional, isolate, reads(optional.knowledge, fresh=False)) == early


def test_isolated_groups_are_never_written_as_original_ones_of_what_was_open():
    def writes(run: Run, interface: str, before: Optional[Knowledge] = None) -> List[str]:
        some = FrozenMap({interface: groups("i"), eni("e8"): groups("i")})
        [value] = encode(interface, groups("i"), 5)  # those of the other stand in older tags
        written = FrozenMap({f"Original_SG_Backup_{ID}_5_1_0": value})
        return checked(run, WriteTags(ID, written, Backup(5, written, some)), before)

    run, wrong = played("read"), "groups that a fencer sets are written as the original ones of"
    assert writes(run, eni("e0")) == [f"{wrong} {eni('e0')}"]
    assert writes(run, GONE) == []
    isolated = played("read", world=World("e0:i e1:i"))
    assert writes(isolated, eni("e0")) == []
    assert writes(isolated, eni("e0"), reading(isolated.knowledge, "e0:ad e1:i")) == []
    tags = played(BACKUP).world.tags
    assert writes(isolated, eni("e0"), reading(isolated.knowledge, tags=tags)) == [f"{wrong} {eni('e0')}"]
    for restoring, static in itertools.product((True, False), (FrozenMap({0: groups("i")}), FrozenMap())):
        run.plan = replace(run.plan, restoring=restoring, static=static)
        only_given = bool(restoring and static)
        assert bool(writes(run, eni("e0"))) is not only_given, "an on was given them as interfaceN_sg"


@pytest.mark.parametrize(
    ("why", "change", "text"),
    [
        ("nothing", lambda k: k, None),
        ("no read", lambda k: reads(k, latest=None), "without a read that shows the instance"),
        ("terminated", lambda k: reads(reading(k, "e0:ad e1:as", state="terminated"), fresh=False), None),
        ("one is unknown", lambda k: reading(k, "e0:i e1:i e2:i"), f"{eni('e2')} is not proven to be isolated"),
        ("one was not accepted", lambda k: one(k, outcome=None), f"{eni('e1')} is not proven to be isolated"),
        (
            "one was not untracked",
            lambda k: one(k, opening=Opening(untrack_due=True)),
            f"{eni('e1')} is not proven to be isolated",
        ),
        ("one is open", lambda k: reading(k, "e0:i e1:as"), f"{eni('e1')} is not proven to be isolated"),
        ("no interfaces", lambda k: reading(k, ""), "on a read that failed or shows no interfaces"),
        ("a failed read", lambda k: reads(k, failure=FAILURE), "on a read that failed or shows no interfaces"),
        ("an old read", lambda k: reads(k, fresh=False), "on a read that was made too early"),
        ("an early read", lambda k: reads(k, in_time=False), "on a read that was made too early"),
    ],
)
def test_success_is_proven(why, change, text):
    run = played(ISOLATED)
    k = change(run.knowledge)
    texts = invariants.violations(run.plan, k, Step(Succeed(), k, notes=NAMED), run.tick())
    assert [t for t in texts if text and text in t] == texts, why
    assert bool(texts) is bool(text), why


def test_a_required_stop_is_shown_by_a_read():
    def succeeds(run: Run, state: str) -> List[str]:
        k = reading(run.knowledge, state=state)
        texts = invariants.violations(run.plan, k, Step(Succeed(), k, notes=NAMED), run.tick())
        return [t for t in texts if t.startswith("off succeeds")]

    run = played(ISOLATED, stop=True)
    assert succeeds(run, "running") == ["off succeeds, and the instance is running"]
    assert succeeds(run, "stopping") == ["off succeeds, and the instance is stopping"]
    assert succeeds(run, "stopped") == succeeds(run, "terminated") == []
    assert succeeds(played(ISOLATED), "running") == []
    k = reads(run.knowledge, latest=None)
    assert "off succeeds, and the instance is not shown" in checked(run, Succeed(), k)
    assert checked(run, FAIL) == [], "only success is"
    run.plan = replace(run.plan, restoring=True)
    assert succeeds(run, "running") == [], "an on starts it"


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda k: reading(reads(k, first=reading(k).latest)), "the first read is replaced"),
        (
            lambda k: backup(k, history=replace(k.backup.history, tags=frozenset())),
            "3 tags that were seen or written are forgotten",
        ),
        (
            lambda k: backup(k, history=replace(k.backup.history, times=frozenset())),
            "times that were seen or written are forgotten",
        ),
        (lambda k: replace(k, interfaces=k.interfaces.without([eni("e1")])), "interfaces are forgotten"),
    ],
    ids=["first", "tags", "times", "interfaces"],
)
def test_knowledge_grows(change, text):
    run = played(ISOLATED)
    action = sets(Change.ISOLATE, "e0:i")
    after = change(run.knowledge)
    texts = checked(run, action, after=after)
    assert texts == [text]


def test_tags_are_deleted_last_and_by_value():
    other = {f"Original_SG_Backup_{OWN}_5_1_0": "of the machine that the image was made of"}
    world = World(tags=other)
    play(off_of(world), f"{ISOLATED}\nsuccess")
    run = on_of(world)
    play(run, "read\nclaim\nrestore e0:ad e1:as\nread")
    k, delete = run.knowledge, DeleteTags(ID, FrozenMap(world.tags))
    assert checked(run, delete) == []
    unknown = ["tags are deleted with values that were never seen"]
    assert checked(run, DeleteTags(ID, FrozenMap({"lastfence": "7"}))) == unknown
    assert checked(run, delete, reads(k, first=None)) == unknown
    early = ["tags are deleted before a read shows the restore"]
    assert checked(run, delete, reads(k, latest=None)) == early
    assert checked(run, delete, reads(k, fresh=False)) == early
    assert checked(run, delete, reading(k, "e0:ad e1:i")) == [f"tags are deleted before {eni('e1')} is restored"]
    assert checked(run, delete, reading(k, "e0:ad")) == []
    off = played(ISOLATED)
    assert "off deletes tags" in checked(off, DeleteTags(ID, FrozenMap(off.world.tags)))


def restored(unattended: bool = False, **tags: str) -> Run:
    """An on of a stopped instance that is about to start it."""
    world = World()
    play(off_of(world), f"{ISOLATED}\nsuccess")
    world.state, world.tags = "stopped", {**world.tags, **tags}
    run = on_of(world, power=True, restore=Restore(unattended=unattended))
    play(run, "read\nclaim\nrestore e0:ad e1:as\nread\ndelete\nread\nread")
    return run


def test_an_instance_is_started_only_behind_a_read_that_shows_it_stopped_and_restored():
    run = restored()
    k, start = run.knowledge, StartInstance(ID)
    assert checked(run, start) == []
    early = ["it is started without a read before it"]
    for before in (reads(k, latest=None), reads(k, fresh=False), reads(k, failure=FAILURE)):
        assert checked(run, start, before) == early
    assert checked(run, start, reading(k, "e0:ad e1:as", state="stopping")) == ["it is started, and it is stopping"]
    isolated = reading(k, "e0:ad e1:i", state="stopped")
    assert checked(run, start, isolated) == [f"it is started, and {eni('e1')} is isolated"]
    assert checked(run, start, one(isolated, open_groups=groups("i"))) == [], "by nature"
    assert checked(run, start, reading(k, "e0:ad", state="stopped")) == [], "it was detached"
    foreign = reading(k, "e0:ad e1:as", tags={"lastfence": "1800000000"}, state="stopped")
    assert checked(run, start, foreign) == ["it is started beside an off that began later"]
    ignoring = replace(run, plan=replace(run.plan, restore=Restore(ignored=True)))
    assert checked(ignoring, start, foreign) == checked(run, start, foreign)


def test_monitor_restores_and_starts_only_what_was_stopped_and_fenced():
    counted = {RETURNED: "1700000000;launched=1600000000"}
    run = restored(True, **counted)
    k, restore, start = run.knowledge, sets(Change.RESTORE, "e0:ad e1:as"), StartInstance(ID)

    def first(interfaces: str, state: str = "stopped", tags: Any = None) -> Knowledge:
        there = replace(World(interfaces).read(""), state=state, tags=k.first.tags if tags is None else tags)
        return reads(k, first=there)

    def wrong(after: Knowledge, *actions: Any) -> List[str]:
        (texts,) = {tuple(invariants.return_is_allowed(run.plan, k, Step(a, after), run.tick())) for a in actions}
        return list(texts)

    assert wrong(k, restore, start) == []
    assert wrong(first("e0:i e1:as"), restore, start) == [], "half of it was restored already"
    assert wrong(reads(k, first=None), restore, start) == ["monitor brings back what no read has shown"]
    running = ["monitor brings back an instance that was running"]
    assert wrong(first("e0:i e1:i", "running"), restore, start) == running
    uncounted = ["monitor brings an instance back without counting it"]
    assert wrong(first("e0:i e1:i", tags=k.first.tags.without([RETURNED])), restore, start) == uncounted
    assert wrong(first("e0:i e1:d"), restore, start) == [f"monitor restores {eni('e1')}, which was not isolated"]
    lacking = [f"monitor brings back {eni('e2')} without a backup"]
    assert wrong(first("e0:i e1:i e2:i"), restore, start) == lacking
    none = replace(first("e0:ad e1:as", tags=FrozenMap(counted)), interfaces=FrozenMap())
    assert wrong(none, start) == [], "all of it was restored already"
    none = replace(first("e0:ad e1:i", tags=FrozenMap(counted)), interfaces=FrozenMap())
    assert wrong(none, start) == [f"monitor brings back {eni('e1')} without a backup"]
    assert wrong(first("e0:i e1:i", "running"), sets(Change.ISOLATE, "e0:i"), Succeed()) == []
    assert checked(restored(), start, first("e0:i e1:i", "running", {})) == [], "an operator may"


def test_nothing_is_changed_behind_a_read_that_shows_another_name():
    run = played(BACKUP)
    k, isolate = run.knowledge, sets(Change.ISOLATE, "e0:i e1:i")
    lost = reads(k, latest=replace(k.latest, lost_names=("node1",)))
    assert checked(run, isolate, lost) == ["it is changed, and is not node1"]
    write = WriteTags(ID, FrozenMap(), k.backup.latest)
    assert checked(run, write, lost) == [], "a read of before the backup"
    assert "it is changed, and is not node1" in checked(run, write, backup(lost, backups=()))
    later = played(ISOLATED)
    lost = reads(later.knowledge, latest=replace(later.knowledge.latest, lost_names=("node1",)))
    assert checked(later, isolate, lost) == [], "it is finished"


def test_what_was_opened_is_closed_at_the_end():
    run = played(f"{BACKUP}\nuntrack e0:o e1:o", KEEP_UNTRACK)
    left = f"the run ends, and has left open {eni('e0')}, {eni('e1')}"
    assert left in checked(run, FAIL)
    play(run, "* 50 s")
    assert left not in checked(run, FAIL)
    run = played(f"{BACKUP}\nuntrack e0:o e1:o | e1 lost\nisolate e0:i e1:i\nread", KEEP_UNTRACK)
    assert checked(run, FAIL) == [f"the run ends, and a change may still open {eni('e1')}"]


@pytest.mark.parametrize(
    ("why", "transcript", "change", "text"),
    [
        ("nothing changed", BACKUP, lambda k: reads(k, fresh=False), None),
        ("a read shows it", ISOLATED, lambda k: k, None),
        ("no read", ISOLATED, lambda k: reads(k, latest=None), "without a read of its backup"),
        ("a failed read", ISOLATED, lambda k: reads(k, failure=FAILURE), "without a read of its backup"),
        ("an old read", ISOLATED, lambda k: reads(k, fresh=False), "without a read of its backup"),
        ("no tags", ISOLATED, lambda k: reading(k, tags={}), f"no read shows a backup of {eni('e0')}, {eni('e1')}"),
        ("a read shows it, and none is known", ISOLATED, lambda k: backup(k, rewritten=True, backups=()), None),
        ("accepted since", ISOLATED, lambda k: backup(reading(k, tags={}), rewritten=True), None),
        (
            "refused since",
            ISOLATED,
            lambda k: backup(reading(k, tags={}), rewritten=True, missing=True),
            f"no read shows a backup of {eni('e0')}, {eni('e1')}",
        ),
        (
            "accepted since, but for one",
            ISOLATED,
            lambda k: backup(
                k, rewritten=True, backups=(replace(k.backup.latest, originals=FrozenMap(parsed("e0:ad"))),)
            ),
            f"the backup that it has written lacks {eni('e1')}",
        ),
    ],
)
def test_what_was_isolated_has_a_backup_or_is_named_at_the_end(why, transcript, change, text):
    run = played(transcript)
    k = change(run.knowledge)
    texts = checked(run, FAIL, k)
    assert [t for t in texts if text and text in t] == texts, why
    assert bool(texts) is bool(text), why
    assert invariants.violations(run.plan, k, Step(FAIL, k, notes=NAMED), run.tick()) == []


def test_what_was_isolated_where_none_is_needed_has_no_backup():
    run = played("read\nwrite e0:ad e1:as | refused\nisolate e0:i e1:i\nread", WITHOUT_BACKUP)
    assert checked(run, FAIL) == []
    run = played(ISOLATED, WITHOUT_BACKUP)
    assert checked(run, FAIL, reading(run.knowledge, tags={})) != []


def test_a_roll_back_is_alone():
    run = played(f"{BACKUP}\nisolate e0:i e1:i | e1 refused\nread")
    k, back = run.knowledge, sets(Change.ROLL_BACK, "e0:ad")
    assert checked(run, back) == []
    assert checked(run, sets(Change.ROLL_BACK, "e0:s")) == [f"{eni('e0')} is rolled back to other groups than it had"]
    early = ["a roll-back without a read before it"]
    assert checked(run, back, reads(k, latest=None)) == early
    assert checked(run, back, backup(k, backups=())) == early
    assert checked(run, back, reads(k, fresh=False)) == early
    assert checked(run, back, reading(k, "e0:i e1:as", {})) == ["a roll-back beside another backup"]
    assert checked(run, back, one(k, "e0", outcome=Outcome.UNKNOWN)) == [
        "a roll-back while the outcome of a change is unknown"
    ]


def test_what_was_opened_is_given_back_in_any_case_but_never_to_the_untracking_group():
    run = played(f"{BACKUP}\nuntrack e0:o e1:o\nisolate e0:i e1:i | e1 refused", KEEP_UNTRACK)
    k = run.knowledge
    assert checked(run, sets(Change.ROLL_BACK, "e1:as")) == []
    assert checked(run, sets(Change.ROLL_BACK, "e1:o"), one(k, open_groups=groups("o"))) == [
        f"{eni('e1')} is rolled back to untrack_secg"
    ]
    early = ["a roll-back without a read before it"]
    assert checked(run, sets(Change.ROLL_BACK, "e0:ad")) == early
    assert checked(run, sets(Change.ROLL_BACK, "e1:as"), one(k, opening=Opening())) == early


def test_nothing_is_opened_beside_another_fencer():
    world = World()
    play(off_of(world, KEEP_UNTRACK), BACKUP)
    run = played("read\nlook up | i1\nwrite e0:ad e1:as\nread", KEEP_UNTRACK, world)
    k, untrack = run.knowledge, sets(Change.UNTRACK, "e0:o")
    others = {**k.latest.tags, f"Original_SG_Backup_{ID}_9_1_0": "of another"}
    assert checked(run, untrack, reading(k, "e0:i e1:as")) == []
    assert checked(run, untrack, reading(k, "e0:ad e1:as", others)) == []
    wrong = [f"{eni('e0')} is opened beside another fencer"]
    assert checked(run, untrack, reading(k, "e0:i e1:as", others)) == wrong
    assert checked(run, untrack, reads(k, latest=None)) == ["groups change before a read has shown the backup"]


def test_nothing_is_isolated_with_groups_that_do_not_isolate():
    wrong = [f"{eni('e0')} is given groups that do not isolate"]
    run = played(BACKUP, KEEP_UNTRACK)
    assert checked(run, sets(Change.ISOLATE, "e0:o")) == wrong
    assert checked(run, sets(Change.ISOLATE, "e0:ad")) == wrong
    on = on_of(run.world)
    play(on, "read\nclaim\nrestore e0:ad e1:as")
    assert checked(on, sets(Change.ISOLATE, "e0:ad")) == wrong
    assert checked(on, sets(Change.ISOLATE, "e0:s")) == [], "what it was, perhaps"


def test_a_step_that_makes_no_sense_is_told_and_not_raised():
    """It changes an interface of which the run knows nothing."""
    run = off_of(World(), KEEP)
    step = Step(SetGroups(Change.ROLL_BACK, FrozenMap({GONE: groups("a")})), Knowledge())
    texts = invariants.violations(run.plan, Knowledge(), step, run.tick())
    assert any(text.startswith("roll_back_is_alone cannot be checked: KeyError") for text in texts)
