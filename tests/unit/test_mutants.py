"""The mutants do not rot: each can still be made, at one place, and names tests that exist."""

import ast
from collections import Counter
from pathlib import Path

import pytest
from mutation import generate
from mutation.mutants import EQUIVALENT, ROWS, mutants
from mutation.source import by_hand

TOP = Path(__file__).parents[2]
EXAMPLE = '''
def decide(k, now):
    """Succeed."""
    if k.failure is not None and not (k.late or now < k.until):
        return [i for i in k.all if i.open]
    k = replace(k, phase=1, round=2)
    return k.latest or k.first
'''
MUTANTS_OF_EXAMPLE = """
    k.failure is not None and (not (k.late or now < k.until)) -> False
    k.failure is not None -> True
    k.late or now < k.until -> True
    k.late -> False
    now < k.until -> False
    now < k.until -> now <= k.until
    i.open -> True
    i.open -> False
    k = replace(k, phase=1, round=2) -> removed
    replace(k, phase=1, round=2) -> without phase
    replace(k, phase=1, round=2) -> without round
    k.latest or k.first -> k.first
    k.latest or k.first -> k.latest
"""


def test_mutants_made_of_an_example():
    made = [m.key for m in generate.mutants_of(Path("lib/example.py"), EXAMPLE)]
    assert made == [f"example.decide: {line.strip()}" for line in MUTANTS_OF_EXAMPLE.strip().splitlines()]


def test_mutants_of_the_core_can_be_made_and_each_has_a_key_of_its_own():
    made = generate.mutants(TOP)
    assert [key for key, count in Counter(m.key for m in made).items() if count > 1] == []
    assert {Path(m.path).stem for m in made} >= {"off", "on", "isolation", "backup", "observe", "isolating"}
    sources = {m.path: (TOP / m.path).read_text(encoding="utf-8") for m in made}
    for mutant in made:
        source = sources[mutant.path]
        begins = source.index(mutant.function)
        rest = len(source) - begins - len(mutant.function)
        broken = mutant.broken(source)[begins : -rest or None]
        indent = begins - source.rindex("\n", 0, begins) - 1
        ast.parse(f"if True:\n{' ' * indent}{broken}" if indent else broken)


def test_equivalent_mutants_exist_and_have_a_reason():
    assert set(EQUIVALENT) <= {m.key for m in generate.mutants(TOP)}
    assert all(EQUIVALENT.values())


def test_mutants_by_hand_have_keys_of_their_own():
    made = mutants(TOP)
    assert len({m.key for m in made}) == len(ROWS) == len(made) >= 30


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_a_mutant_by_hand_can_be_made(row):
    rule, path, function, old, new, tests = row
    mutant = by_hand(TOP, path, function, old, new, rule, tests)
    source = (TOP / path).read_text(encoding="utf-8")
    assert ast.dump(ast.parse(mutant.broken(source))) != ast.dump(ast.parse(source))


def test_a_mutant_by_hand_is_at_exactly_one_place():
    with pytest.raises(LookupError):
        by_hand(TOP, "lib/aws_vpc_net/tags.py", "TagOperations.write", "given", "", "", ())
    with pytest.raises(LookupError):
        by_hand(TOP, "lib/aws_vpc_net/tags.py", "TagOperations.erase", "given = ", "", "", ())


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_the_tests_that_should_notice_exist(row):
    assert row[-1]
    for test in row[-1]:
        path, _, name = test.partition("::")
        assert (TOP / "tests" / path).exists(), test
        name = name.partition("[")[0]
        assert not name or f"def {name}(" in (TOP / "tests" / path).read_text(encoding="utf-8"), test
