"""Which keys a backup uses: none that is needed is overwritten, and without room nothing is written."""

import json
from typing import Dict

import pytest
from core.tag_samples import ID, KEEP, history, instance, key, value
from hypothesis import given
from hypothesis import strategies as st

from aws_vpc_net.core import backup, isolation, tag_slots
from aws_vpc_net.core.model import Instance, Interface, IsolationSpec

FIRST, ISOLATED = f"eni-{1:017x}", "sg-99999999"
PART = value(1, ["11111111"], count=2, eni=FIRST)


def test_keys_hold_time_rank_and_chunk():
    some = frozenset(f"sg-{n:017x}" for n in range(16))
    written = tag_slots.make_backup(
        instance({}, 2), {f"eni-{1:017x}": some, f"eni-{2:017x}": frozenset(("sg-00000000",))}, 5, KEEP
    )
    assert list(written.tags) == ["lastfence", key(5, 1, 0), key(5, 1, 1), key(5, 2, 0)]
    assert json.loads(written.tags[key(5, 2, 0)]) == {
        "n": {"i": f"eni-{2:017x}", "s": ["00000000"], "c": {"i": 0, "t": 1}},
        "t": 5,
    }


def test_key_of_another_interface_is_not_overwritten():
    there = {key(5, 1, 0): value(5, ["00000000"]), "lastfence": "5"}
    written = tag_slots.make_backup(instance(there), {f"eni-{1:017x}": frozenset(("sg-11111111",))}, 5, KEEP)
    assert key(5, 1, 0) not in written.tags


def fill(count: int) -> Dict[str, str]:
    return {f"user{n}": "" for n in range(count)}


def test_superseded_keys_are_used_again_where_room_is_short():
    there = {
        **fill(44),
        "lastfence": "3",
        key(1): value(1, ["11111111"]),
        key(2): value(2, ["22222222"]),
        key(3): value(3, ["33333333"]),
    }
    written = tag_slots.make_backup(instance(there), {f"eni-{1:017x}": frozenset(("sg-44444444",))}, 4, KEEP)
    assert set(written.tags) == {"lastfence", key(1)}, "the latest originals, of 3, stay"


@pytest.mark.parametrize(
    ("why", "there", "reused"),
    [
        ("no value of ours", {key(1): "cut o"}, False),
        ("a part", {key(1): PART}, False),
        ("a part of an older set", {key(1): PART, key(2): value(2, ["22222222"], eni=FIRST)}, True),
        (
            "a part, and isolation that was recorded later",
            {key(1): PART, key(2): value(2, [ISOLATED[3:]], eni=FIRST)},
            False,
        ),
        ("a part of isolation", {key(1): value(1, [ISOLATED[3:]], count=2, eni=FIRST)}, True),
    ],
)
def test_what_cannot_be_read_is_not_overwritten(why, there, reused):
    """It may be the last trace of original groups."""
    tags = {**fill(49 - len(there)), "lastfence": "2", **there}
    assert (key(1) in tag_slots.unreadable_tags(instance(tags), KEEP)) != reused
    try:
        written = tag_slots.make_backup(instance(tags), {f"eni-{1:017x}": frozenset(("sg-44444444",))}, 4, KEEP)
    except tag_slots.NoRoom:
        assert not reused, why
    else:
        assert (key(1) in written.tags) == reused, why


def test_lastfence_is_written_where_it_was_deleted_and_room_is_short():
    there = {**fill(46), **{key(n): value(n, [f"{n}" * 8]) for n in (1, 2, 3)}}
    written = tag_slots.make_backup(instance(there), {f"eni-{1:017x}": frozenset(("sg-44444444",))}, 4, KEEP)
    assert set(written.tags) == {"lastfence", key(1)}


def test_no_room_is_an_error():
    there = {**fill(48), "lastfence": "3", key(3): value(3, ["33333333"])}
    with pytest.raises(tag_slots.NoRoom):
        tag_slots.make_backup(instance(there), {f"eni-{1:017x}": frozenset(("sg-44444444",))}, 4, KEEP)
    assert tag_slots.make_backup(
        instance({**fill(48), "aws:x": ""}), {f"eni-{1:017x}": frozenset(("sg-44444444",))}, 4, KEEP
    )


@given(
    st.lists(st.integers(1, 3), min_size=1, max_size=40),
    st.integers(1, 4),
    st.integers(0, 20),
    st.booleans(),
)
def test_repeated_off_keeps_originals_and_room(steps, interfaces, others, keep):
    """Off again and again, with clocks that jump: the first originals stay readable, the tags never exceed 50."""
    iso, app, db = "sg-00000000", "sg-11111111", "sg-22222222"
    spec = IsolationSpec((iso,), keep_only=True) if keep else IsolationSpec((app,))
    first = frozenset((app, db))
    tags = fill(others)
    now = instance(tags, interfaces, first)
    for step in steps:
        originals = isolation.backup_groups(now, backup.read(now), spec)
        written = tag_slots.make_backup(now, originals, backup.next_time(1000 + step, now), spec)
        tags = {**tags, **written.tags}
        assert len(tags) <= 50
        assert set(originals.values()) == {first}
        groups = isolation.target_groups(first, spec) if step > 1 else now.interfaces[0].groups
        now = instance(tags, interfaces, groups)
        restored = isolation.groups_to_restore(now, backup.read(now), spec)
        assert set(restored.values()) == {first}
        assert len(restored) == interfaces


LATER = Interface(f"eni-{1:017x}", 1, frozenset(("sg-00000000",)), position=(0, 1))


@pytest.mark.parametrize(
    "fenced",
    [instance({}, 2, frozenset(KEEP.secg)), Instance(ID, "running", (LATER,))],
    ids=["isolated", "without its primary interface"],
)
def test_keys_of_two_writers_differ_where_one_may_not_see_the_other(fenced):
    """Two fencers may come to the same time; neither may overwrite what the other wrote."""
    backups = [
        tag_slots.make_backup(fenced, {f"eni-{1:017x}": frozenset(("sg-1111111a",))}, 5, KEEP, nonce)
        for nonce in (1, 2)
    ]
    assert not backups[0].chunks.keys() & backups[1].chunks.keys()
    assert history(dict(backups[0].tags)).at(f"eni-{1:017x}", 5) == {"sg-1111111a"}


@pytest.mark.parametrize("drop", ["latest", "open", "last"])
def test_protected_keys_are_not_overwritten(drop):
    """Even where room is short: the set of lastfence, the newest complete one, the newest of real originals."""
    eni = f"eni-{1:017x}"
    isolated = ["99999999"]
    sets = {
        "open": value(1, ["11111111"], eni=eni),
        "last": value(2, isolated, eni=eni),
        "latest": value(3, isolated, eni=eni),
    }
    keys = {"open": key(1), "last": key(2), "latest": key(3)}
    tags = {**fill(45), "lastfence": "2", **{keys[k]: v for k, v in sets.items()}}
    with pytest.raises(tag_slots.NoRoom):
        tag_slots.make_backup(instance({**tags, "x": ""}), {eni: frozenset(("sg-44444444",))}, 4, KEEP)
    written = tag_slots.make_backup(instance(tags), {eni: frozenset(("sg-44444444",))}, 4, KEEP)
    assert keys[drop] not in written.tags


def test_identical_originals_are_overwritten_where_room_is_short():
    """48 interfaces beside a Name tag: a repeated off has no room for a second set, and needs none."""
    some = frozenset(("sg-11111111",))
    before = instance({"Name": "x"}, 48, some)
    originals = {i.id: some for i in before.interfaces}
    first = tag_slots.make_backup(before, originals, 5, KEEP)
    again = instance({"Name": "x", **first.tags}, 48, frozenset(KEEP.secg))
    second = tag_slots.make_backup(again, originals, 6, KEEP, 1234)
    assert second.tags.keys() == first.tags.keys()
    assert backup.read(instance({**again.tags, **second.tags}, 48)).at(f"eni-{48:017x}", 6) == some
    with pytest.raises(tag_slots.NoRoom):
        tag_slots.make_backup(again, {i: frozenset(("sg-22222222",)) for i in originals}, 6, KEEP)


@pytest.mark.parametrize("is_reversed", [False, True], ids=["in order", "reversed"])
def test_no_key_is_used_for_two_interfaces(is_reversed):
    """Superseded keys and the same originals in place, both at once; EC2 gives the tags in any order."""
    some, user = frozenset(("sg-11111111",)), fill(44)
    originals = {f"eni-{n:017x}": some for n in range(1, 4)}
    older = tag_slots.make_backup(instance(user, 2, some), dict(list(originals.items())[:2]), 5, KEEP)
    newer = tag_slots.make_backup(instance({**user, **older.tags}, 3, some), originals, 6, KEEP)
    parts = [older.tags, newer.tags][:: -1 if is_reversed else 1]
    there = {**user, **parts[0], **parts[1], "lastfence": "6"}
    written = tag_slots.make_backup(instance(there, 3, some), originals, 7, KEEP)
    restored = backup.read(instance({**there, **written.tags}, 3, some))
    assert {i: restored.at(i, 7) for i in originals} == originals


def test_room_is_counted_for_an_interface_that_no_backup_can_name():
    """The preflight counts before it knows what ``off`` would refuse, as secondary interfaces are."""
    secondary = Interface("sni-1", 1, frozenset(("sg-44444444",)))
    written = tag_slots.make_backup(Instance(ID, "running", (secondary,)), {"sni-1": secondary.groups}, 4, KEEP)
    assert len(written.tags) == 2
