"""Functions and classes of the product stay small."""

import ast
from pathlib import Path
from typing import Iterator, List, Set

import pytest

TOP = Path(__file__).parents[2]
LIB, AGENT = TOP / "lib" / "aws_vpc_net", TOP / "agents" / "aws_vpc_net" / "fence_aws_vpc_net.py"
FILES = sorted([*LIB.rglob("*.py"), AGENT])
MAX_LINES = 40
MAX_ATTRIBUTES = 10
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
EXAMPLE = '''
@dataclass
class Example:
    """Two fields, three attributes of self."""
    limit = 3
    field: int = 0
    other: str = ""

    @property
    def double(self):
        local: int = 2 * self.field
        return local

    def change(self, values):
        self.field = 1
        self.one, [self.two] = values
        self.three += 1
        self.read.written = 1
'''


def attributes(class_: ast.ClassDef) -> Set[str]:
    """The annotated fields, as of a dataclass, and what is assigned to ``self``."""
    fields = {n.target.id for n in class_.body if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)}
    targets = [n for n in ast.walk(class_) if isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Store)]
    return fields | {t.attr for t in targets if isinstance(t.value, ast.Name) and t.value.id == "self"}


def too_large(source: str) -> Iterator[str]:
    """What exceeds a limit, and by how much it counts."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, FUNCTIONS):
            lines = (node.end_lineno or 0) - node.lineno + 1
            if lines > MAX_LINES:
                yield f"{node.name}: {lines} lines"
        elif isinstance(node, ast.ClassDef) and len(attributes(node)) > MAX_ATTRIBUTES:
            yield f"{node.name}: {len(attributes(node))} attributes"


def function_of(lines: int) -> str:
    return "def f():\n" + "    pass\n" * (lines - 1)


def class_of(count: int) -> str:
    return "class C:\n" + "".join(f"    a{n}: int\n" for n in range(count))


def test_fields_and_attributes_of_self_are_counted_once():
    (example,) = ast.parse(EXAMPLE).body
    assert isinstance(example, ast.ClassDef)
    assert attributes(example) == {"field", "other", "one", "two", "three"}


@pytest.mark.parametrize(
    ("source", "found"),
    [
        (function_of(40), []),
        (function_of(41), ["f: 41 lines"]),
        (class_of(10), []),
        (class_of(11), ["C: 11 attributes"]),
    ],
    ids=["40-lines", "41-lines", "10-attributes", "11-attributes"],
)
def test_only_an_exceeded_limit_is_too_large(source: str, found: List[str]):
    assert list(too_large(source)) == found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_no_function_or_class_of_the_product_is_too_large(path: Path):
    assert list(too_large(path.read_text(encoding="utf-8"))) == []


def test_the_core_and_the_agent_are_among_the_files():
    assert {AGENT, LIB / "ec2.py", LIB / "core" / "off.py"} <= set(FILES)
