"""A record is proven by what it says, not by where it stands."""

from aws_vpc_net import backup_tags, recording
from aws_vpc_net.rules import Instance, Interface, Policy

ID, APP, DB = "i-0123456789abcdef0", "sg-11111111", "sg-22222222"
KEEP = Policy(("sg-99999999",), keep_only=True)


def written(group: str, mark: int = 0) -> backup_tags.Plan:
    return backup_tags.plan(shown({}), {"eni-00000001": frozenset((group,))}, 5, KEEP, mark)


def shown(tags) -> Instance:
    return Instance(ID, "running", (Interface("eni-00000001", 1, frozenset((APP,))),), dict(tags))


def test_a_read_that_shows_it_proves_it():
    assert recording.proven(written(APP), shown(written(APP).tags))


def test_lastfence_may_have_been_moved():
    assert recording.proven(written(APP), shown({**written(APP).tags, "lastfence": "9"}))


def test_the_same_groups_by_another_writer_of_that_second_prove_it():
    assert recording.proven(written(APP), shown(written(APP, 7 << 8).tags))


def test_other_groups_under_the_same_keys_do_not():
    assert not recording.proven(written(APP), shown(written(DB).tags))


def test_a_key_that_is_not_there_does_not():
    assert not recording.proven(written(APP), shown({"lastfence": "5"}))
