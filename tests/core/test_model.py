"""Values: they can be compared, hashed and copied."""

from aws_vpc_net.core.model import FrozenMap, Instance


def test_frozen_map_is_compared_and_hashed_by_its_items():
    some = FrozenMap({"a": 1, "b": 2})
    assert some == {"b": 2, "a": 1}
    assert some == FrozenMap({"b": 2, "a": 1})
    assert some != FrozenMap({"a": 1})
    assert len({some, FrozenMap({"b": 2, "a": 1}), FrozenMap({"a": 1})}) == 2
    assert hash(some) == hash(some)


def test_frozen_map_without_some_keys():
    assert FrozenMap({"a": 1, "b": 2}).without(["b", "c"]) == {"a": 1}


def test_instance_can_be_hashed_whatever_mapping_its_tags_are():
    plain, frozen = (Instance("i-00000000", "running", (), tags) for tags in ({"a": "1"}, FrozenMap({"a": "1"})))
    assert len({plain, frozen}) == 1
    assert isinstance(frozen.tags, FrozenMap)
