"""The tag format: what we write can be read, what others wrote too, and nothing in a tag can do harm."""

import json
from typing import List

import pytest
from core.tag_samples import ENI, ID, KEEP, OTHER, history, instance, key, value, write
from hypothesis import given
from hypothesis import strategies as st

from aws_vpc_net.core import backup, tag_slots

hex17 = st.text("0123456789abcdef", min_size=17, max_size=17)
groups = st.frozensets(hex17.map("sg-{}".format), min_size=1, max_size=16)
times = st.integers(1, backup.MAX_TIMESTAMP - 1)
json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("nistcx"), inner, max_size=4),
    max_leaves=12,
)


@given(groups, times, st.integers(0, 2**256))
def test_read_returns_what_encode_wrote(some, time, nonce):
    values = backup.encode(ENI, some, time, nonce)
    assert all(len(v) <= 254 for v in values)
    tags = {key(time, 1, n): v for n, v in enumerate(values)}
    assert history({"lastfence": str(time), **tags}).at(ENI, time) == some


@given(groups, times, st.randoms(), st.integers(0, 16))
def test_read_ignores_an_incomplete_set(some, time, random, lost):
    values = backup.encode(ENI, some, time)
    tags = [(key(time, 1, n), v) for n, v in enumerate(values)]
    random.shuffle(tags)
    history_of_tags = history(dict(t for t in tags if tags.index(t) != lost)).latest(ENI)
    assert history_of_tags == (some if lost >= len(tags) else None)


@given(
    st.dictionaries(
        st.just("lastfence") | st.text(max_size=40) | st.integers(1, 9).map(key),
        st.text() | json_values.map(json.dumps),
    )
)
def test_read_never_fails(tags):
    history_of_tags = history(tags)
    assert all(g for sets in history_of_tags.sets.values() for g in sets.values())
    backup.next_time(0, instance(tags))


@given(json_values)
def test_decode_never_fails(data):
    chunk = backup.decode(key(1), json.dumps(data))
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
    *(value(time, ONE) for time in ("1e9", -5, 0, True, [5], 10**11, 10**30, 5.5, float("inf"), None)),
    *(value(5, names) for names in ("00000000", 5, {"00000000": 1}, [None], ["sg-"], ["sg-xyz45678"], [ONE], [])),
    value(5, [*ONE, "x"]),
    *(value(5, ONE, index, count) for index, count in ((1, 1), (0, 0), (-1, 1), (0, 10**9), (None, 1), (0, None))),
    *(value(5, ONE, eni=eni) for eni in ("eni-", 7, "eni-00000000\n")),
]


@pytest.mark.parametrize("hostile", HOSTILE, ids=range(len(HOSTILE)))
def test_read_ignores_a_hostile_tag(hostile):
    assert history({key(5): hostile, "lastfence": hostile}).sets == {}


WORSE = [
    *("9" * 10**7, '{"t":' + "9" * 10**7 + "}", '"' + "x" * 10**7 + '"', "[" * 10**7, " " * 10**7, "\x00" * 300),
    *(value(5, ONE, x=x) for x in ("y" * 10**6, float("nan"), "\udfff")),
    *(value(time, ONE, index, count) for time, index, count in ((float("nan"), 0, 1), (5, float("inf"), 1))),
    '{"n":{"i":"eni-00000000","s":["00000000"],"c":{"i":0,"t":1}},"n":5,"t":5}',
    '{"n":{"i":"eni-00000000","s":["00000000"],"s":[[]],"c":{"i":0,"t":1}},"t":5,"t":NaN}',
]


@pytest.mark.parametrize("hostile", [*HOSTILE, *WORSE], ids=range(len(HOSTILE) + len(WORSE)))
def test_hostile_tag_hides_no_backup_and_stops_no_fencer(hostile):
    """Whoever may tag the instance may write anything: beside it, the backup is read, and another is written."""
    good = {"lastfence": "5", key(5, 1): value(5, ["11111111"])}
    bad = {
        key(5, 2): hostile,
        key(9, instance=OTHER): hostile,
        "Original_SG_Backup_": hostile,
        hostile[:128]: hostile,
    }
    there = instance({**good, **bad})
    assert backup.read(there).at(ENI, 5) == {"sg-11111111"}
    written = tag_slots.make_backup(there, {f"eni-{1:017x}": frozenset(("sg-44444444",))}, 7, KEEP)
    assert backup.next_time(0, there) == 6
    assert not backup.TagHistory().with_read(there).with_write(written.tags).has_foreign_writes(there)
    assert not backup.is_sole_writer(there, written)
    assert backup.foreign_tags(there.tags, ID).keys() == {key(9, instance=OTHER)}
    assert backup.read(instance({**good, "lastfence": hostile})).latest(ENI) == {"sg-11111111"}


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
def test_read_of_backups_of_other_versions(why, tags):
    history_of_tags = history({"lastfence": "5", **tags})
    assert history_of_tags.at(ENI, 5) == {"sg-00000000"}, why


def test_read_takes_no_backup_from_lastfence():
    assert history({"lastfence": value(5, ONE)}).sets == {}


def test_read_joins_chunks_in_keys_that_were_used_again():
    tags = {key(3, 2, 0): value(5, ["00000000"], 0, 2), key(5, 1, 1): value(5, ["00000001"], 1, 2)}
    assert history(tags).at(ENI, 5) == {"sg-00000000", "sg-00000001"}


def test_read_of_what_a_writer_of_the_same_second_wrote_over_a_longer_one():
    tags = {key(5, 1, 0): value(5, ["00000000"], 0, 1), key(5, 1, 1): value(5, ["00000001"], 1, 2)}
    assert history(tags).at(ENI, 5) == {"sg-00000000"}


def test_read_joins_chunks_in_any_order():
    tags = {key(5, 1, n): value(5, [f"0000000{n}"], n, 3) for n in (2, 0, 1)}
    assert history(tags).at(ENI, 5) == {"sg-00000000", "sg-00000001", "sg-00000002"}


def test_read_keeps_the_older_set_beside_half_of_a_newer_one():
    tags = {key(5): value(5, ["00000000"]), key(6, 1, 0): value(6, ["11111111"], 0, 2)}
    history_of_tags = history({"lastfence": "6", **tags})
    assert history_of_tags.at(ENI, 6) is None
    assert history_of_tags.latest(ENI) == {"sg-00000000"}


def test_read_does_not_mix_writers_of_one_second():
    tags = {
        key(5, 1, 0): value(5, ["00000000"], 0, 2),
        key(5, 1, 1): value(5, ["00000001"], 1, 2),
        key(5, 2, 0): value(5, ["00000002"], 0, 2),
        key(5, 2, 1): value(5, ["00000003"], 1, 2),
    }
    assert history(tags).at(ENI, 5) == {"sg-00000000", "sg-00000001"}


def test_own_leaves_out_tags_of_other_instances():
    tags = {key(5, instance=OTHER): "x", "lastfence": "5", "Name": "n", key(5): "y", "Original_SG_Backup_": "z"}
    assert backup.own(tags, ID) == {"lastfence": "5", key(5): "y"}
    assert backup.foreign_tags(tags, ID) == {key(5, instance=OTHER): "x"}


LAST_WITH_ROOM = backup.MAX_TIMESTAMP - 1_000_001  # for times to grow


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
        (100.9, {key(10**15): "rubbish"}, 100),
        (100.9, {"lastfence": str(LAST_WITH_ROOM)}, LAST_WITH_ROOM + 1),
        (100.9, {"lastfence": str(LAST_WITH_ROOM + 1)}, 100),
    ],
)
def test_next_time_always_grows(now, tags, expected):
    assert backup.next_time(now, instance(tags)) == expected


def test_nonce_is_white_space():
    one, other = write(5, 0), write(5, 7 << 8)
    assert one.tags.keys() == other.tags.keys()
    assert one.tags != other.tags
    assert history(dict(one.tags)) == history(dict(other.tags))


SAME_SECOND = {k.replace("_1_", "_2_"): v for k, v in write(5, 7 << 8).tags.items()}


@pytest.mark.parametrize(
    ("why", "now", "sole_writer", "foreign_writes"),
    [
        ("nobody else", write(5, 0).tags, True, False),
        ("not seen yet", {}, False, False),
        ("an older generation that we knew", write(3, 0).tags, False, False),
        ("ours beside an older one", {**write(3, 0).tags, **write(5, 0).tags}, False, False),
        ("a later fencer", {**write(5, 0).tags, **write(6, 0).tags}, False, True),
        ("one whose clock is behind", {**write(4, 0).tags, **write(5, 0).tags}, False, True),
        ("one of the same second, same keys", write(5, 7 << 8).tags, False, True),
        ("one of the same second, other keys", {**write(5, 0).tags, **SAME_SECOND}, False, True),
        ("only lastfence moved", {**write(5, 0).tags, "lastfence": "9"}, False, True),
        ("lastfence of an older read", {**write(5, 0).tags, "lastfence": "3"}, False, False),
    ],
)
def test_unknown_tags_are_foreign_writes(why, now, sole_writer, foreign_writes):
    known = backup.TagHistory().with_read(instance(dict(write(3, 0).tags))).with_write(write(5, 0).tags)
    assert backup.is_sole_writer(instance(dict(now)), write(5, 0)) is sole_writer, why
    assert known.has_foreign_writes(instance(dict(now))) is foreign_writes, why


def test_encode_sorts_and_fills_values():
    values = backup.encode(ENI, frozenset(f"sg-{n:017x}" for n in range(16)), 10**10, 2**256 - 1)
    names = [n for v in values for n in json.loads(v)["n"]["s"]]
    assert names == sorted(names)
    assert max(map(len, values)) <= 254
    assert len(values) == 2


def names(count: int, *lengths: int) -> List[str]:
    """So many names of 17 characters, and others of these lengths."""
    return [*(f"{n:017x}" for n in range(count)), *("f" * length for length in lengths)]


@pytest.mark.parametrize(("length", "parts"), [(9, 1), (10, 2)])
def test_encode_fills_a_value_to_its_limit(length, parts):
    """With the longest nonce and numbers of chunks it is 254 characters long."""
    assert len(backup.encode(ENI, frozenset(f"sg-{n}" for n in names(8, length)), 5)) == parts


@pytest.mark.parametrize(("time", "claimed"), [(10**6, True), (10**7, False)])
def test_claim_leaves_out_what_would_be_longer_than_a_value_may_be(time, claimed):
    """Another version may have filled it; EC2 would refuse all tags of the call."""
    written = value(time, names(9)).replace(" ", "")
    assert len(written) <= backup.VALUE_LIMIT
    tags = backup.claim(instance({key(5): written, key(6): value(6, ONE)}), 3)
    assert (key(5) in tags) is claimed
    assert key(6) in tags
    assert all(len(v) <= backup.VALUE_LIMIT for v in tags.values())


BEFORE = {k.replace("_1_", "_0_"): v for k, v in write(5, 7, "sg-55555555").chunks.items()}


@pytest.mark.parametrize(
    ("why", "tags", "expected"),
    [
        ("the very tags", write(5, 0).tags, True),
        ("lastfence was moved", {**write(5, 0).tags, "lastfence": "9"}, True),
        ("the same groups, written by another in that second", write(5, 7 << 8).tags, True),
        ("beside that of another, of that second", {**BEFORE, **write(5, 0).tags}, True),
        ("other groups under the same keys", write(5, 0, "sg-55555555").tags, False),
        ("no key", {"lastfence": "5"}, False),
    ],
)
def test_is_visible_by_what_the_tags_say(why, tags, expected):
    assert backup.is_visible(write(5, 0), instance(dict(tags))) is expected, why


OPEN = write(5, 0).tags
CLAIMED = {**OPEN, **backup.claim(instance(dict(OPEN)), 3)}


@pytest.mark.parametrize(
    ("why", "known", "now", "beside_off", "beside_on"),
    [
        ("a claim", OPEN, CLAIMED, True, False),
        ("what was claimed, in an older read", CLAIMED, OPEN, True, False),
        ("a claim of a claim", CLAIMED, {**OPEN, **backup.claim(instance(dict(OPEN)), 9)}, True, False),
        ("the same, written by an off of that second", OPEN, write(5, 7 << 8).tags, True, True),
        ("other groups, by an off of that second", CLAIMED, write(5, 0, "sg-55555555").tags, True, True),
        ("an interface that an off added", OPEN, {**OPEN, key(5, 2): value(5, ONE)}, True, True),
        ("a later off", CLAIMED, {**CLAIMED, **write(6, 0).tags}, True, True),
        ("an older lastfence", {**write(3, 0).tags, **OPEN}, write(3, 0).tags, False, False),
    ],
)
def test_foreign_writes_of_an_off_or_an_on(why, known, now, beside_off, beside_on):
    history_of_tags = backup.TagHistory().with_read(instance(dict(known)))
    assert history_of_tags.has_foreign_writes(instance(dict(now))) is beside_off, why
    assert history_of_tags.has_foreign_writes(instance(dict(now)), claims=False) is beside_on, why


def test_foreign_backups_are_those_that_were_not_written():
    tags = {**write(3, 0).tags, **write(5, 0).tags}
    assert backup.foreign_backups(instance(tags), frozenset(write(5, 0).tags.items())).times == {3}


def test_another_backup_with_the_contents_of_a_claimed_one_is_that_of_an_off():
    """Two of the same second write the same keys and contents, and spaces of their own."""
    now = instance({k: v if k == backup.LASTFENCE else f"{v[:-1]} }}" for k, v in OPEN.items()})
    only_claims = backup.TagHistory().with_read(instance(CLAIMED))
    both = backup.TagHistory().with_read(instance(dict(OPEN))).with_write(CLAIMED)
    assert both.has_foreign_writes(now, claims=False)
    assert not only_claims.has_foreign_writes(now, claims=False), "it may be an older read"
