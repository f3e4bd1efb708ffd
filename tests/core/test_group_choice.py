"""Which of several groups isolate an interface, by a look-up and by what EC2 refused."""

from typing import FrozenSet, Tuple

import pytest

from aws_vpc_net.core.group_choice import NO_SUCH_GROUP, TOO_MANY, IsolatingGroups, named_groups
from aws_vpc_net.core.model import FrozenMap, Groups, Interface, IsolationSpec

A, B, C, D, E, F = (f"sg-{c * 8}" for c in "abcdef")
ALL = (A, B, C, D, E, F)
THREE = IsolationSpec((A, B, C), keep_only=True)
SIX = IsolationSpec(ALL, keep_only=True)
REMOVE = IsolationSpec((A, B, C))
Refused = FrozenSet[Tuple[str, str]]
GONE, DENIED = NO_SUCH_GROUP[0], "UnauthorizedOperation"
UNKNOWN = IsolatingGroups()


def fs(*groups: str) -> Groups:
    return frozenset(groups)


def looked_up(complete: bool = True, refused: Refused = frozenset(), **vpcs: str) -> IsolatingGroups:
    """Known by a look-up: a="1" for group A in vpc-1."""
    known = {f"sg-{name * 8}": frozenset((f"vpc-{number}",)) for name, number in vpcs.items()}
    return IsolatingGroups(FrozenMap(known), complete, True, refused)


REFUSED = frozenset((("vpc-1", A), ("vpc-2", C)))


@pytest.mark.parametrize(
    ("why", "known", "expected"),
    [
        ("nothing is known: all", UNKNOWN, fs(A, B, C)),
        ("not what EC2 refused in this VPC", IsolatingGroups(refused=REFUSED), fs(B, C)),
        ("those of the VPC", looked_up(a="1", b="1", c="2"), fs(A, B)),
        ("those of the VPC, though others may fit", looked_up(False, a="1", b="1", c="2"), fs(A, B)),
        ("those of the VPC that were not refused", looked_up(True, REFUSED, a="1", b="1", c="2"), fs(B)),
        ("none, if these are all VPCs", looked_up(a="2", b="2"), fs()),
        ("those that exist, if not: the VPC may be associated", looked_up(False, a="2", b="2"), fs(A, B)),
    ],
)
def test_groups_that_isolate_an_interface(why, known, expected):
    assert known.of(THREE, Interface("eni-00000000", 1, fs(D), "vpc-1")) == expected, why


@pytest.mark.parametrize(
    ("why", "spec", "known", "code", "text", "expected"),
    [
        ("one of several is wrong", THREE, UNKNOWN, GONE, "two networks", True),
        ("there are too many", THREE, UNKNOWN, TOO_MANY, "limit", True),
        ("EC2 names it", THREE, UNKNOWN, GONE, f"{GONE} '{A}'", False),
        ("EC2 names another one", THREE, UNKNOWN, GONE, f"{GONE} '{F}'", True),
        ("it was done", THREE, looked_up(a="1"), GONE, "", False),
        ("the groups are not the reason", THREE, UNKNOWN, DENIED, "", False),
        ("where groups are removed, secg is not set", REMOVE, UNKNOWN, GONE, "", False),
    ],
)
def test_needs_look_up(why, spec, known, code, text, expected):
    assert known.needs_look_up(spec, fs(A, B), code, text) is expected, why


@pytest.mark.parametrize(
    ("why", "spec", "known", "goal", "code", "text", "refused", "smaller"),
    [
        ("where groups are removed", REMOVE, UNKNOWN, fs(D), GONE, "", fs(), fs()),
        ("for another reason", THREE, UNKNOWN, fs(A, B, C), DENIED, "", fs(), fs()),
        ("the named one is left out", THREE, UNKNOWN, fs(A, B, C), GONE, f"{GONE} '{B}'", fs(B), fs(A, C)),
        ("nothing tells which: one by one", THREE, UNKNOWN, fs(A, B, C), GONE, "", fs(), fs(A)),
        ("the next one by itself", THREE, UNKNOWN, fs(A), GONE, "", fs(A), fs(B)),
        ("the last one: final", IsolationSpec((A,), True), UNKNOWN, fs(A), GONE, "", fs(A), fs()),
        ("looked up since", THREE, looked_up(a="1", b="1"), fs(A, B, C), GONE, "", fs(), fs(A, B)),
        ("too many: the quota", SIX, UNKNOWN, fs(*ALL), TOO_MANY, "", fs(), fs(A, B, C, D, E)),
        ("nor does the quota fit: one by one", SIX, UNKNOWN, fs(A, B, C, D, E), TOO_MANY, "", fs(), fs(A)),
        ("the quota has nothing to do with it", SIX, UNKNOWN, fs(*ALL), GONE, "", fs(), fs(A)),
    ],
)
def test_smaller_goal_after_a_refusal(why, spec, known, goal, code, text, refused, smaller):
    after, groups = known.without_refused(spec, "vpc-1", goal, code, text)
    assert groups == smaller, why
    assert after.refused == {("vpc-1", g) for g in refused}, why


def test_is_unusable_by_look_up_or_refusal():
    assert not UNKNOWN.is_unusable(A, "vpc-1")
    assert IsolatingGroups(refused=REFUSED).is_unusable(A, "vpc-1")
    assert not IsolatingGroups(refused=REFUSED).is_unusable(A, "vpc-2")
    assert looked_up(a="2").is_unusable(A, "vpc-1")
    assert looked_up(a="2").is_unusable(B, "vpc-1")
    assert not looked_up(a="1").is_unusable(A, "vpc-1")


def test_named_groups_stand_behind_the_code():
    assert named_groups(GONE, f"setting {A}: {GONE}: the groups '{B}', '{C}' do not exist") == fs(B, C)
