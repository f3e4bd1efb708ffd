"""Mutants of the core, made of its syntax: each condition, each border, each fallback, each step of an account.

k.failure is not None -> True       an operand of a condition, and the whole, replaced by True and by False;
                                    "-> False" of the condition of a guard takes the guard out
now < until -> now <= until         a comparison, at its border
k.latest or k.first -> k.first      a value without its fallback, or its first choice
replace(k, phase=p) -> without phase    a field that keeps the value that it had
k = f(k) -> removed                 a name that keeps the value that it had; a call whose result nobody uses
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Iterator, List, NamedTuple, Optional, Set, Tuple

from mutation.source import Function, Mutant, functions, span

LIB = Path("lib/aws_vpc_net")
BORDERS = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt}
QUANTIFIERS = ("any", "all")


class Change(NamedTuple):
    """An expression or statement, and what stands there instead (None: nothing); ``says``: in the key."""

    node: ast.AST
    new: Optional[str]
    says: str = ""


def mutants(top: Path) -> List[Mutant]:
    """All mutants of the modules of the core."""
    paths = sorted(p for p in (top / LIB / "core").glob("*.py") if p.stem != "__init__")
    return [m for path in paths for m in mutants_of(path.relative_to(top), path.read_text(encoding="utf-8"))]


def mutants_of(path: Path, source: str) -> List[Mutant]:
    """All mutants of one module; a key that comes again in a function is numbered."""
    made: List[Mutant] = []
    keys: Set[str] = set()
    for function in functions(source):
        for change in _changes(function):
            base = f"{path.stem}.{function.name}: {_shown(change)}"
            number = next(n for n in range(1, 1000) if (f"{base} #{n}" if n > 1 else base) not in keys)
            key = f"{base} #{number}" if number > 1 else base
            keys.add(key)
            start, end = span(source, change.node)
            new = "pass" if change.new is None else f"({change.new})"
            made.append(Mutant(key, str(path), start, end, new, (), function.text))
    return made


def _shown(change: Change) -> str:
    old = ast.unparse(change.node).splitlines()[0]
    return f"{old} -> {change.says or ('removed' if change.new is None else change.new)}"


# --- what is changed -------------------------------------------------------------------------------------------


def _changes(function: Function) -> Iterator[Change]:
    bound = {a.arg for a in ast.walk(function.node.args) if isinstance(a, ast.arg)}
    seen: Set[Tuple[int, int, Optional[str]]] = set()
    conditions: Set[int] = set()
    for node in _own_nodes(function.node):
        tests = _tests(node) if id(node) not in conditions or not _is_boolean(node) else []
        conditions |= {id(n) for test in tests for n in _parts(test)}
        operands = (change for test in tests for change in _operands(test))
        fallbacks = [] if id(node) in conditions else _fallbacks(node)
        for change in (*operands, *fallbacks, *_fields(node), *_statements(node, bound)):
            where = (*_position(change.node), change.new)
            if where not in seen:
                seen.add(where)
                yield change


def _position(node: ast.AST) -> Tuple[int, int]:
    return getattr(node, "lineno", 0), getattr(node, "col_offset", 0) * 100_000 + getattr(node, "end_col_offset", 0)


def _own_nodes(function: ast.FunctionDef) -> Iterator[ast.AST]:
    """The nodes of its body in order of the source, without functions within, and without annotations."""

    def walk(node: ast.AST) -> Iterator[ast.AST]:
        yield node
        for name, value in ast.iter_fields(node):
            for child in value if isinstance(value, list) else [value]:
                is_inner = isinstance(child, (ast.FunctionDef, ast.ClassDef, ast.Assert))
                if isinstance(child, ast.AST) and not is_inner and name != "annotation":
                    yield from walk(child)

    for statement in function.body:
        if not isinstance(statement, (ast.FunctionDef, ast.ClassDef, ast.Assert)):
            yield from walk(statement)


def _tests(node: ast.AST) -> List[ast.AST]:
    """The conditions that this node holds, or is."""
    if isinstance(node, (ast.If, ast.While, ast.IfExp)):
        return [node.test]
    if isinstance(node, ast.comprehension):
        return [*node.ifs]
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in QUANTIFIERS:
        return [element for element in [getattr(node.args[0], "elt", None)] if element is not None]
    return [node] if _is_boolean(node) else []


def _parts(test: ast.AST) -> Iterator[ast.AST]:
    """A condition, and the conditions that it is made of."""
    yield test
    inner = [test.operand] if isinstance(test, ast.UnaryOp) else getattr(test, "values", [])
    for part in inner if isinstance(test, (ast.UnaryOp, ast.BoolOp)) else []:
        yield from _parts(part)


def _is_boolean(node: ast.AST) -> bool:
    """Is it True or False, whatever its operands are?"""
    if isinstance(node, ast.BoolOp):
        return all(_is_boolean(v) or _is_question(v) for v in node.values)
    return isinstance(node, ast.Compare) or (isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not))


def _is_question(node: ast.AST) -> bool:
    """Is it a call or an attribute whose name says that the answer is True or False?"""
    called = node.func if isinstance(node, ast.Call) else node
    name = getattr(called, "attr", getattr(called, "id", ""))
    return name in ("bool", "any", "all", "isinstance") or name.lstrip("_").startswith(("is_", "has_", "matches_"))


def _operands(test: ast.AST) -> Iterator[Change]:
    """Of "a and b": a -> True, b -> True, the whole -> False; each by its own operands. Of "a or b": the opposite."""
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        yield from _operands(test.operand)
    elif isinstance(test, ast.BoolOp):
        neutral = isinstance(test.op, ast.And)
        yield Change(test, str(not neutral))
        for value in test.values:
            yield from (c for c in _operands(value) if not (c.node is value and c.new == str(not neutral)))
    else:
        yield Change(test, "True")
        yield Change(test, "False")
        if isinstance(test, ast.Compare):
            yield from _borders(test)


def _borders(test: ast.Compare) -> Iterator[Change]:
    for number, operator in enumerate(test.ops):
        other = BORDERS.get(type(operator))
        if other is not None:
            operators = [*test.ops[:number], other(), *test.ops[number + 1 :]]
            yield Change(test, ast.unparse(ast.Compare(test.left, operators, test.comparators)))


def _fallbacks(node: ast.AST) -> Iterator[Change]:
    """Of a value "a or b": a alone, b alone."""
    if isinstance(node, ast.BoolOp) and not _is_boolean(node):
        for value in node.values:
            others = [v for v in node.values if v is not value]
            rest = others[0] if len(others) == 1 else ast.BoolOp(node.op, others)
            yield Change(node, ast.unparse(rest))


def _fields(node: ast.AST) -> Iterator[Change]:
    """Of what is replaced in a value: each field keeps the value that it had."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "replace":
        for keyword in node.keywords:
            others = [k for k in node.keywords if k is not keyword]
            new = ast.unparse(ast.Call(node.func, node.args, others))
            yield Change(node, new, f"without {keyword.arg}")


def _statements(node: ast.AST, bound: Set[str]) -> Iterator[Change]:
    """What can be left out: a name keeps the value that it had; and a call whose result nobody uses."""
    if isinstance(node, ast.Assign):
        target = node.targets[0]
        names = {n.id for n in ast.walk(target) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
        if names and names <= bound:
            yield Change(node, None)
        bound |= names
    elif isinstance(node, ast.AugAssign) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)):
        yield Change(node, None)
