"""Where a mutant is: a function of a module, and a piece of its source."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from pathlib import Path
from typing import Iterator, List, Tuple


@dataclass(frozen=True)
class Mutant:
    """One piece of the product's source, and what stands there instead.

    Attributes:
        key: names it; as long as the function and the piece are the same, so is the key.
        path: below the top.
        tests: below tests/; those that are tried, in this order, as far as they exist.
        function: the text of the function that it is in.
    """

    key: str
    path: str
    start: int
    end: int
    new: str
    tests: Tuple[str, ...]
    function: str

    def broken(self, source: str) -> str:
        """The module with this mutant."""
        return source[: self.start] + self.new + source[self.end :]


@dataclass(frozen=True)
class Function:
    """A function or method; ``name`` with the names of what it is in, ``start`` of its text in the module."""

    name: str
    node: ast.FunctionDef
    start: int
    text: str


def functions(source: str) -> List[Function]:
    """All functions of a module, with those within others."""

    def walk(node: ast.AST, names: Tuple[str, ...]) -> Iterator[Tuple[str, ast.FunctionDef]]:
        for child in ast.iter_child_nodes(node):
            inner = (*names, child.name) if isinstance(child, (ast.FunctionDef, ast.ClassDef)) else names
            if isinstance(child, ast.FunctionDef):
                yield ".".join(inner), child
            yield from walk(child, inner)

    found = []
    for name, node in walk(ast.parse(source), ()):
        start, end = span(source, node)
        found.append(Function(name, node, start, source[start:end]))
    return found


@cache
def _lines(source: str) -> List[Tuple[int, str]]:
    """Each line, with the place at which it begins."""
    lines = source.splitlines(keepends=True)
    return list(zip(accumulate([0, *map(len, lines)]), lines))


def span(source: str, node: ast.AST) -> Tuple[int, int]:
    """The node's place in the source, in characters; the parser counts bytes in a line."""

    def place(line: int, column: int) -> int:
        begins, text = _lines(source)[line - 1]
        return begins + len(text.encode()[:column].decode())

    first = place(node.lineno, node.col_offset)  # type: ignore[attr-defined]
    return first, place(node.end_lineno, node.end_col_offset)  # type: ignore[attr-defined]


def by_hand(top: Path, path: str, function: str, old: str, new: str, rule: str, tests: Tuple[str, ...]) -> Mutant:
    """A mutant that says itself what it breaks.

    Raises:
        LookupError: the piece is not exactly once in that function.
    """
    source = (top / path).read_text(encoding="utf-8")
    matching = [f for f in functions(source) if f.name == function]
    if len(matching) != 1 or matching[0].text.count(old) != 1:
        raise LookupError(f"{path}: {function}: {old!r} is not there exactly once: change the mutant with the code")
    start = matching[0].start + matching[0].text.index(old)
    key = f"{Path(path).stem}.{function}: {rule}"
    return Mutant(key, path, start, start + len(old), new, tests, matching[0].text)
