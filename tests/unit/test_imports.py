"""Imports point one way, and costly ones wait until they are needed."""

import ast
import subprocess
import sys
from pathlib import Path
from typing import Set

import pytest

LIB = Path(__file__).parents[2] / "lib" / "aws_vpc_net"
LAYERS = [
    {"errors"},
    {"messages"},
    {"rules", "group_rules", "backup_tags", "settings", "inputs", "options", "replies", "deadline"}
    | {"logs", "outputs"},
    {"ec2", "ec2_errors", "credentials", "credential_process", "imds"}
    | {"identity", "instances", "security_groups", "tags", "dry_run", "context", "metrics"},
    {"recording", "isolating_groups"},
    {"isolation", "target_checks"},
    {"off", "on", "queries", "preflight"},
]
PURE = ("errors", "messages", "rules", "group_rules", "backup_tags", "settings", "inputs", "options", "replies")


def imports(module: str) -> Set[str]:
    """What a module imports at its top, but for what only type checkers see."""
    found: Set[str] = set()
    for node in ast.parse((LIB / f"{module}.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and node.level:
            found |= {node.module} if node.module else {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(str(node.module))
        elif isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
    return found


def test_every_module_has_its_layer():
    assert set().union(*LAYERS) == {p.stem for p in LIB.glob("*.py")} - {"__init__"}


@pytest.mark.parametrize("depth", range(len(LAYERS)))
def test_a_layer_imports_nothing_from_above(depth):
    above = set().union(*LAYERS[depth + 1 :])
    for module in LAYERS[depth]:
        assert not imports(module) & above, module


@pytest.mark.parametrize("module", PURE)
def test_the_pure_core_uses_the_standard_library_only(module):
    own = {p.stem for p in LIB.glob("*.py")}
    assert {name.split(".")[0] for name in imports(module) - own} <= set(sys.stdlib_module_names)


def test_only_the_agent_imports_fencing_and_exits():
    for path in LIB.glob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert "fencing import" not in text
        assert "sys.exit" not in text
        assert "os._exit" not in text


def test_boto3_and_requests_wait_until_they_are_needed():
    modules = ", ".join(f"aws_vpc_net.{m}" for m in sorted(set().union(*LAYERS)))
    code = f"import sys, {modules}; print(sorted({{'boto3', 'botocore', 'requests'}} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(LIB.parent), "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert done.stdout == "[]\n"
