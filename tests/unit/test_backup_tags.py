"""The tag format: what we write can be read, what others wrote too, and nothing in a tag can hurt."""

import json
from typing import Dict, FrozenSet

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aws_vpc_net import backup_tags, rules
from aws_vpc_net.rules import Instance, Interface, Policy

# How long an example takes says more of the machine than of the code.
settings.register_profile("busy machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy machine")

ID = "i-0123456789abcdef0"
OTHER = "i-0fedcba9876543210"
ENI = "eni-0123456789abcdef0"
ENI2 = "eni-0fedcba9876543210"
KEEP = Policy(("sg-99999999",), keep_only=True)

hex17 = st.text("0123456789abcdef", min_size=17, max_size=17)
groups = st.frozensets(hex17.map("sg-{}".format), min_size=1, max_size=16)
times = st.integers(1, backup_tags.LATEST - 1)
json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("nistcx"), inner, max_size=4),
    max_leaves=12,
)


def key(time: int, number: int = 1, chunk: int = 0, instance: str = ID) -> str:
    return f"Original_SG_Backup_{instance}_{time}_{number}_{chunk}"


def value(time: object, some: object, index: object = 0, count: object = 1, eni: object = ENI, **more: object) -> str:
    return json.dumps({"n": {"i": eni, "s": some, "c": {"i": index, "t": count}}, "t": time, **more})


def instance(
    tags: Dict[str, str], interfaces: int = 1, some: FrozenSet[str] = frozenset(("sg-00000000",))
) -> Instance:
    found = tuple(Interface(f"eni-{n:017x}", n, some) for n in range(1, interfaces + 1))
    return Instance(ID, "running", found, tags)


def book(tags: Dict[str, str]) -> rules.Book:
    return backup_tags.read(instance(tags))


@given(groups, times, st.integers(0, 2**256))
def test_what_we_write_we_read(some, time, mark):
    values = backup_tags.encode(ENI, some, time, mark)
    assert all(len(v) <= 254 for v in values)
    tags = {key(time, 1, n): v for n, v in enumerate(values)}
    assert book({"lastfence": str(time), **tags}).at(ENI, time) == some


@given(groups, times, st.randoms(), st.integers(0, 16))
def test_a_set_is_complete_or_nothing(some, time, random, lost):
    values = backup_tags.encode(ENI, some, time)
    tags = [(key(time, 1, n), v) for n, v in enumerate(values)]
    random.shuffle(tags)
    found = book(dict(t for t in tags if tags.index(t) != lost)).newest(ENI)
    assert found == (some if lost >= len(tags) else None)


@given(
    st.dictionaries(
        st.just("lastfence") | st.text(max_size=40) | st.integers(1, 9).map(key),
        st.text() | json_values.map(json.dumps),
    )
)
def test_no_tag_makes_reading_fail(tags):
    found = book(tags)
    assert all(g for sets in found.sets.values() for g in sets.values())
    backup_tags.next_time(0, instance(tags))


@given(json_values)
def test_no_value_makes_decoding_fail(data):
    chunk = backup_tags.decode(key(1), json.dumps(data))
    assert chunk is None or chunk.groups is not None


ONE = ["00000000"]
HOSTILE = [
    *(
        "",
        "{",
        "null",
        "[]",
        "[" * 1000 + "]" * 1000,
        "[" * 100000,
        '{"n":' * 200,
        "1" * 5000,
        '{"t":' + "9" * 300 + "}",
    ),
    *("\ud800", '"\\ud800"', '{"n":[],"t":5}', '{"n":{},"t":{}}'),
    '{"n":{"i":"eni-00000000","s":["00000000"],"c":[]},"t":5}',
    *(value(time, ONE) for time in ("1e9", -5, True, 10**30, 5.5, float("inf"), None)),
    *(value(5, names) for names in ("00000000", [None], ["sg-"], ["sg-xyz45678"], [ONE], [])),
    *(value(5, ONE, index, count) for index, count in ((1, 1), (0, 0), (-1, 1), (0, 10**9), (None, 1))),
    *(value(5, ONE, eni=eni) for eni in ("eni-", 7, "eni-00000000\n")),
]


@pytest.mark.parametrize("hostile", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_tag_is_no_backup(hostile):
    assert book({key(5): hostile, "lastfence": hostile}).sets == {}


WORSE = [
    *("9" * 10**7, '{"t":' + "9" * 10**7 + "}", '"' + "x" * 10**7 + '"', "[" * 10**7, " " * 10**7, "\x00" * 300),
    *(value(5, ONE, x=x) for x in ("y" * 10**6, float("nan"), "\udfff")),
    *(value(time, ONE, index, count) for time, index, count in ((float("nan"), 0, 1), (5, float("inf"), 1))),
    '{"n":{"i":"eni-00000000","s":["00000000"],"c":{"i":0,"t":1}},"n":5,"t":5}',
    '{"n":{"i":"eni-00000000","s":["00000000"],"s":[[]],"c":{"i":0,"t":1}},"t":5,"t":NaN}',
]


@pytest.mark.parametrize("hostile", [*HOSTILE, *WORSE], ids=range(len(HOSTILE) + len(WORSE)))
def test_a_hostile_tag_stops_nobody_and_hides_no_record(hostile):
    """Whoever may tag the instance may write anything: beside it, the record is read, and another is written."""
    good = {"lastfence": "5", key(5, 1): value(5, ["11111111"])}
    bad = {
        key(5, 2): hostile,
        key(9, instance=OTHER): hostile,
        "Original_SG_Backup_": hostile,
        hostile[:128]: hostile,
    }
    there = instance({**good, **bad})
    assert backup_tags.read(there).at(ENI, 5) == {"sg-11111111"}
    written = backup_tags.plan(there, {f"eni-{1:017x}": frozenset(("sg-44444444",))}, 7, KEEP)
    assert backup_tags.next_time(0, there) == 6
    assert not backup_tags.Known().and_seen(there).and_written(written).is_news(there)
    assert not backup_tags.only_ours(there, written)
    assert backup_tags.copied(there.tags, ID).keys() == {key(9, instance=OTHER)}
    assert backup_tags.read(instance({**good, "lastfence": hostile})).newest(ENI) == {"sg-11111111"}


@pytest.mark.parametrize(
    ("why", "tags"),
    [
        ("as we write it", {key(5): value(5, ["00000000"])}),
        (
            "white space",
            {key(5): value(5, ["00000000"]).replace(",", " ,\t").replace(":", " : ")},
        ),
        ("sg- kept", {key(5): value(5, ["sg-00000000"])}),
        ("time as text", {key(5): value("5", ["00000000"])}),
        ("time as a float", {key(5): value(5.0, ["00000000"])}),
        ("counts as text", {key(5): value(5, ["00000000"], "0", "1")}),
        ("extra keys", {key(5): value(5, ["00000000"], x=[1, {"y": 2}])}),
        ("another time and number in the key", {key(99, 7, 3): value(5, ["00000000"])}),
        (
            "beside another instance's",
            {key(5): value(5, ["00000000"]), key(9, instance=OTHER): value(9, ["11111111"])},
        ),
        ("beside rubbish", {key(5): value(5, ["00000000"]), key(6): "rubbish", "Name": "x"}),
    ],
)
def test_records_of_other_versions_are_read(why, tags):
    found = book({"lastfence": "5", **tags})
    assert found.at(ENI, 5) == {"sg-00000000"}, why


def test_chunks_in_any_order_make_a_set():
    tags = {key(5, 1, n): value(5, [f"0000000{n}"], n, 3) for n in (2, 0, 1)}
    assert book(tags).at(ENI, 5) == {"sg-00000000", "sg-00000001", "sg-00000002"}


def test_half_a_generation_leaves_the_older_whole_one():
    tags = {key(5): value(5, ["00000000"]), key(6, 1, 0): value(6, ["11111111"], 0, 2)}
    found = book({"lastfence": "6", **tags})
    assert found.at(ENI, 6) is None
    assert found.newest(ENI) == {"sg-00000000"}


def test_writers_of_the_same_second_are_not_mixed():
    tags = {
        key(5, 1, 0): value(5, ["00000000"], 0, 2),
        key(5, 1, 1): value(5, ["00000001"], 1, 2),
        key(5, 2, 0): value(5, ["00000002"], 0, 2),
        key(5, 2, 1): value(5, ["00000003"], 1, 2),
    }
    assert book(tags).at(ENI, 5) == {"sg-00000000", "sg-00000001"}


def test_other_instances_tags_are_not_ours():
    tags = {key(5, instance=OTHER): "x", "lastfence": "5", "Name": "n", key(5): "y", "Original_SG_Backup_": "z"}
    assert backup_tags.own(tags, ID) == {"lastfence": "5", key(5): "y"}
    assert backup_tags.copied(tags, ID) == {key(5, instance=OTHER): "x"}


@pytest.mark.parametrize(
    ("now", "tags", "expected"),
    [
        (100.9, {}, 100),
        (100.9, {"lastfence": "100"}, 101),
        (100.9, {"lastfence": "500"}, 501),
        (100.9, {key(7): value(600, ["00000000"])}, 601),
        (100.9, {key(700): "rubbish"}, 701),
        (100.9, {key(700, instance=OTHER): "rubbish"}, 100),
        (100.9, {"lastfence": "9" * 30}, 100),
    ],
)
def test_lastfence_always_grows(now, tags, expected):
    assert backup_tags.next_time(now, instance(tags)) == expected


def test_keys_carry_time_rank_and_chunk():
    some = frozenset(f"sg-{n:017x}" for n in range(16))
    plan = backup_tags.plan(
        instance({}, 2), {f"eni-{1:017x}": some, f"eni-{2:017x}": frozenset(("sg-00000000",))}, 5, KEEP
    )
    assert list(plan.tags) == ["lastfence", key(5, 1, 0), key(5, 1, 1), key(5, 2, 0)]
    assert json.loads(plan.tags[key(5, 2, 0)]) == {
        "n": {"i": f"eni-{2:017x}", "s": ["00000000"], "c": {"i": 0, "t": 1}},
        "t": 5,
    }


def test_a_key_that_holds_another_interface_is_not_overwritten():
    there = {key(5, 1, 0): value(5, ["00000000"]), "lastfence": "5"}
    plan = backup_tags.plan(instance(there), {f"eni-{1:017x}": frozenset(("sg-11111111",))}, 5, KEEP)
    assert key(5, 1, 0) not in plan.tags


def fill(count: int) -> Dict[str, str]:
    return {f"user{n}": "" for n in range(count)}


def test_superseded_tags_are_used_again_when_room_is_short():
    there = {
        **fill(44),
        "lastfence": "3",
        key(1): value(1, ["11111111"]),
        key(2): value(2, ["22222222"]),
        key(3): value(3, ["33333333"]),
    }
    plan = backup_tags.plan(instance(there), {f"eni-{1:017x}": frozenset(("sg-44444444",))}, 4, KEEP)
    assert set(plan.tags) == {"lastfence", key(1)}, "the newest originals, of 3, stay"


def test_no_room_is_said_before_anything_is_written():
    there = {**fill(48), "lastfence": "3", key(3): value(3, ["33333333"])}
    with pytest.raises(backup_tags.NoRoom):
        backup_tags.plan(instance(there), {f"eni-{1:017x}": frozenset(("sg-44444444",))}, 4, KEEP)
    assert backup_tags.plan(
        instance({**fill(48), "aws:x": ""}), {f"eni-{1:017x}": frozenset(("sg-44444444",))}, 4, KEEP
    )


@given(
    st.lists(st.integers(1, 3), min_size=1, max_size=40),
    st.integers(1, 4),
    st.integers(0, 20),
    st.booleans(),
)
def test_any_number_of_fences_keeps_the_originals_and_the_room(steps, interfaces, others, keep):
    """Off again and again, with clocks that jump: the first originals stay readable, the tags never exceed 50."""
    iso, app, db = "sg-00000000", "sg-11111111", "sg-22222222"
    policy = Policy((iso,), keep_only=True) if keep else Policy((app,))
    first = frozenset((app, db))
    tags = fill(others)
    now = instance(tags, interfaces, first)
    for step in steps:
        originals = rules.backup(now, backup_tags.read(now), policy)
        plan = backup_tags.plan(now, originals, backup_tags.next_time(1000 + step, now), policy)
        tags = {**tags, **plan.tags}
        assert len(tags) <= 50
        assert set(originals.values()) == {first}
        cut = rules.goal(first, policy) if step > 1 else now.interfaces[0].groups  # killed before, or after
        now = instance(tags, interfaces, cut)
        found = rules.originals(now, backup_tags.read(now), policy)
        assert set(found.values()) == {first}
        assert len(found) == interfaces


def write(time: int, mark: int) -> backup_tags.Plan:
    return backup_tags.plan(instance({}), {f"eni-{1:017x}": frozenset(("sg-44444444",))}, time, KEEP, mark)


def test_a_mark_is_white_space():
    one, other = write(5, 0), write(5, 7 << 8)
    assert one.tags.keys() == other.tags.keys()
    assert one.tags != other.tags
    assert book(dict(one.tags)) == book(dict(other.tags))


TWIN = {k.replace("_1_", "_2_"): v for k, v in write(5, 7 << 8).tags.items()}


@pytest.mark.parametrize(
    ("why", "now", "ours", "news"),
    [
        ("nobody else", write(5, 0).tags, True, False),
        ("not seen yet", {}, False, False),
        ("an older generation that we knew", write(3, 0).tags, False, False),
        ("ours beside an older one", {**write(3, 0).tags, **write(5, 0).tags}, False, False),
        ("a later fencer", {**write(5, 0).tags, **write(6, 0).tags}, False, True),
        ("one whose clock is behind", {**write(4, 0).tags, **write(5, 0).tags}, False, True),
        ("one of the same second, same keys", write(5, 7 << 8).tags, False, True),
        ("one of the same second, other keys", {**write(5, 0).tags, **TWIN}, False, True),
        ("only lastfence moved", {**write(5, 0).tags, "lastfence": "9"}, False, True),
        ("lastfence of an older read", {**write(5, 0).tags, "lastfence": "3"}, False, False),
    ],
)
def test_what_we_do_not_know_is_another_fencers_hand(why, now, ours, news):
    known = backup_tags.Known().and_seen(instance(dict(write(3, 0).tags))).and_written(write(5, 0))
    assert backup_tags.only_ours(instance(dict(now)), write(5, 0)) is ours, why
    assert known.is_news(instance(dict(now))) is news, why


def test_beside_one_that_looks_fenced_keys_are_kept_apart():
    """Two fencers may come to the same time; neither may overwrite what the other recorded."""
    cut = instance({}, 2, frozenset(KEEP.secg))
    plans = [backup_tags.plan(cut, {f"eni-{1:017x}": frozenset(("sg-1111111a",))}, 5, KEEP, mark) for mark in (1, 2)]
    assert not plans[0].backups.keys() & plans[1].backups.keys()
    assert book(dict(plans[0].tags)).at(f"eni-{1:017x}", 5) == {"sg-1111111a"}


@pytest.mark.parametrize("drop", ["newest", "open", "last"])
def test_what_is_needed_is_not_used_again(drop):
    """Even where room is short: the set of lastfence, the newest complete one, the newest of real originals."""
    eni = f"eni-{1:017x}"
    cut = ["99999999"]
    sets = {"open": value(1, ["11111111"], eni=eni), "last": value(2, cut, eni=eni), "newest": value(3, cut, eni=eni)}
    keys = {"open": key(1), "last": key(2), "newest": key(3)}
    tags = {**fill(45), "lastfence": "2", **{keys[k]: v for k, v in sets.items()}}
    with pytest.raises(backup_tags.NoRoom):
        backup_tags.plan(instance({**tags, "x": ""}), {eni: frozenset(("sg-44444444",))}, 4, KEEP)
    planned = backup_tags.plan(instance(tags), {eni: frozenset(("sg-44444444",))}, 4, KEEP)
    assert keys[drop] not in planned.tags


def test_values_are_sorted_and_short():
    values = backup_tags.encode(ENI, frozenset(f"sg-{n:017x}" for n in range(16)), 10**10, 2**256 - 1)
    names = [n for v in values for n in json.loads(v)["n"]["s"]]
    assert names == sorted(names)
    assert max(map(len, values)) <= 254
    assert len(values) == 2


def test_above_half_of_the_room_the_same_originals_are_overwritten_in_place():
    """48 interfaces beside a Name tag: a repeated off has no room for a second set, and needs none."""
    some = frozenset(("sg-11111111",))
    before = instance({"Name": "x"}, 48, some)
    originals = {i.id: some for i in before.interfaces}
    first = backup_tags.plan(before, originals, 5, KEEP)
    again = instance({"Name": "x", **first.tags}, 48, frozenset(KEEP.secg))
    second = backup_tags.plan(again, originals, 6, KEEP, 1234)
    assert second.tags.keys() == first.tags.keys()
    assert backup_tags.read(instance({**again.tags, **second.tags}, 48)).at(f"eni-{48:017x}", 6) == some
    with pytest.raises(backup_tags.NoRoom):
        backup_tags.plan(again, {i: frozenset(("sg-22222222",)) for i in originals}, 6, KEEP)


@pytest.mark.parametrize("turned", [False, True], ids=["in order", "turned"])
def test_no_key_is_given_to_two_interfaces(turned):
    """Superseded keys and the same originals in place, both at once; EC2 gives the tags in any order."""
    some, user = frozenset(("sg-11111111",)), fill(44)
    originals = {f"eni-{n:017x}": some for n in range(1, 4)}
    older = backup_tags.plan(instance(user, 2, some), dict(list(originals.items())[:2]), 5, KEEP)
    newer = backup_tags.plan(instance({**user, **older.tags}, 3, some), originals, 6, KEEP)
    parts = [older.tags, newer.tags][:: -1 if turned else 1]
    there = {**user, **parts[0], **parts[1], "lastfence": "6"}
    planned = backup_tags.plan(instance(there, 3, some), originals, 7, KEEP)
    found = backup_tags.read(instance({**there, **planned.tags}, 3, some))
    assert {i: found.at(i, 7) for i in originals} == originals
