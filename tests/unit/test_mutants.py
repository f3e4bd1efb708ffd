"""The list of mutants does not rot: each can still be made, and names tests that exist."""

import ast
from pathlib import Path

import pytest
from mutation.mutants import MUTANTS

TOP = Path(__file__).parents[2]


def test_there_are_enough_and_each_has_a_name_of_its_own():
    assert len({m.rule for m in MUTANTS}) == len(MUTANTS) >= 40


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: m.rule)
def test_a_mutant_can_be_made(mutant):
    text = (TOP / mutant.path).read_text(encoding="utf-8")
    assert text.count(mutant.old) == 1, "the code has changed: change the mutant with it"
    broken = text.replace(mutant.old, mutant.new)
    assert ast.dump(ast.parse(broken)) != ast.dump(ast.parse(text))


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: m.rule)
def test_the_tests_that_should_notice_exist(mutant):
    assert mutant.tests
    for test in mutant.tests:
        path, _, name = test.partition("::")
        assert (TOP / "tests" / path).exists(), test
        name = name.partition("[")[0]
        assert not name or f"def {name}(" in (TOP / "tests" / path).read_text(encoding="utf-8"), test
