"""Imports point one way, the core is pure, and costly imports wait until they are needed."""

import ast
import subprocess
import sys
from pathlib import Path
from typing import Dict, Iterable, Iterator, List, Set

import pytest

LIB = Path(__file__).parents[2] / "lib" / "aws_vpc_net"
MODULES: Dict[str, Path] = {p.stem: p for p in LIB.rglob("*.py") if p.stem != "__init__"}
CORE_LAYERS = [
    {"model", "sg_rules"},
    {"isolation", "backup", "probing"},
    {"tag_slots", "group_choice", "returning"},
    {"protocol"},
    {"observe"},
    {"isolating"},
    {"reisolating", "settling"},
    {"backing_up", "rolling_back", "stopping"},
    {"off", "on"},
    {"invariants"},
]
LAYERS = [
    {"errors"},
    {"messages"},
    *CORE_LAYERS,
    {"settings", "inputs", "options", "replies", "names", "deadline", "logs", "outputs"},
    {"ec2", "ec2_errors", "causes", "credentials", "credential_process", "imds"}
    | {"identity", "instances", "security_groups", "tags", "dry_run", "context", "metrics", "probe"},
    {"runner", "target_checks"},
    {"actions", "queries", "preflight", "auto_unfence"},
]
CORE = set().union(*CORE_LAYERS)
ALLOWED_IN_CORE = {"__future__", "dataclasses", "enum", "ipaddress", "json", "re", "typing"}  # no time, chance, I/O
PURE = ("errors", "messages", "settings", "inputs", "options", "replies", "names")


def imported(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """The modules that these statements import; ours without their package."""
    for node in nodes:
        if isinstance(node, ast.ImportFrom):
            module = str(node.module or "")
            inside = module.rpartition(".")[2] if node.level else module
            yield from [a.name for a in node.names] if node.level and inside in ("", "core") else [inside]
        elif isinstance(node, ast.Import):
            yield from (a.name for a in node.names)


def tree_of(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


def imports(module: str) -> Set[str]:
    """What a module imports at its top, but for what only type checkers see."""
    return set(imported(tree_of(module).body))


def test_every_module_has_its_layer():
    layered: List[str] = [m for layer in LAYERS for m in layer]
    files = [p.stem for p in LIB.rglob("*.py") if p.stem != "__init__"]
    assert sorted(layered) == sorted(files), "each in one layer, and no name twice"
    assert {p.stem for p in (LIB / "core").glob("*.py")} - {"__init__"} == CORE


@pytest.mark.parametrize("depth", range(len(LAYERS)))
def test_a_layer_imports_nothing_from_above(depth):
    above = set().union(*LAYERS[depth + 1 :])
    for module in LAYERS[depth]:
        assert not imports(module) & above, module


@pytest.mark.parametrize("module", sorted(CORE))
def test_core_imports_no_time_chance_or_io(module):
    """Wherever in the module the import stands."""
    assert set(imported(ast.walk(tree_of(module)))) <= ALLOWED_IN_CORE | CORE | {"errors", "messages"}


@pytest.mark.parametrize("module", PURE)
def test_pure_modules_import_the_standard_library_only(module):
    assert {name.split(".")[0] for name in imports(module) - set(MODULES)} <= set(sys.stdlib_module_names)


def test_only_the_agent_imports_fencing_and_exits():
    for path in MODULES.values():
        text = path.read_text(encoding="utf-8")
        assert "fencing import" not in text
        assert "sys.exit" not in text
        assert "os._exit" not in text


def test_boto3_and_requests_are_imported_only_when_needed():
    modules = [".".join(p.relative_to(LIB.parent).with_suffix("").parts) for p in sorted(MODULES.values())]
    code = f"import sys, {', '.join(modules)}; print(sorted({{'boto3', 'botocore', 'requests'}} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(LIB.parent), "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert done.stdout == "[]\n"
