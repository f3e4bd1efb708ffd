"""What the documents name exists: tests, files, options, modules."""

import ast
import json
import re
from pathlib import Path
from typing import List, Set
from xml.etree import ElementTree

import pytest

TOP = Path(__file__).parents[2]
PAGES = [TOP / "README.md", *sorted((TOP / "doc").glob("*.md"))]
PATHS = {"Success paths": 3, "Failure paths": 6}  # as many as the design document has


def text(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def cells(line: str) -> List[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def rows() -> List[List[str]]:
    """The rows of all tables of the page of paths, without their heads."""
    lines = [line for line in text(TOP / "doc" / "design-paths.md").splitlines() if line.startswith("|")]
    return [cells(line) for line in lines if not line.startswith(("|---", "| step |"))]


def functions_of(file: str) -> Set[str]:
    tree = ast.parse(text(TOP / "tests" / file))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_every_path_of_the_design_has_its_table():
    page = text(TOP / "doc" / "design-paths.md")
    for title, count in PATHS.items():
        chapter = page.split(f"## {title}\n")[1].split("\n## ")[0]
        sections = re.split(r"^### ", chapter, flags=re.MULTILINE)[1:]
        assert [s[: s.index(".")] for s in sections] == [str(n + 1) for n in range(count)]
        assert all("| step | here | tests |\n|---|---|---|\n| " in s for s in sections)


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0])
def test_the_tests_that_walk_a_path_exist(row):
    for name in [n.strip() for n in row[2].split(",")]:
        file, _, test = name.partition("::")
        assert re.fullmatch(r"(agent|unit)/test_\w+\.py", file), name
        assert test in functions_of(file), name


def test_every_promise_says_how_it_is_kept_and_is_attacked_by_tests_that_exist():
    page = text(TOP / "doc" / "promises.md")
    promises = page.split("\n## ")[1:]
    assert [p[:2] for p in promises] == [f"{n}." for n in range(1, 9)]
    for promise in promises:
        assert "**Kept by** " in promise, promise
        attacks = promise.split("**Attacked by** ")[1].split("\n\n")[0]
        for name in re.split(r",\s+", attacks.strip()):
            file, _, test = name.partition("::")
            assert test in functions_of(file), name
    for file in re.findall(r"(?:matrix|schedules|unit)/test_\w+\.py", page.split("\n## ")[0]):
        assert (TOP / "tests" / file).exists(), file


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text(page)):
        assert (page.parent / target).exists(), target


def test_new_options_are_named_where_users_look():
    metadata = ElementTree.parse(TOP / "tests" / "metadata" / "fence_aws_vpc_net.xml")
    field = json.loads(text(TOP / "tests" / "metadata" / "field-interface.json"))
    new = {str(p.get("name")) for p in metadata.iter("parameter")} - {p["name"] for p in field["parameters"]}
    assert "untrack_secg" in new
    for page in ("CHANGELOG.md", "migration.md"):
        assert {n for n in new if f"`{n}`" not in text(TOP / "doc" / page)} == set(), page


def test_the_readme_configures_with_options_that_exist():
    metadata = ElementTree.parse(TOP / "tests" / "metadata" / "fence_aws_vpc_net.xml")
    known = {p.get("name") for p in metadata.iter("parameter") if not p.get("deprecated")}
    command = re.search(r"pcs stonith create .*?```", text(TOP / "README.md"), re.DOTALL)
    assert command
    options = {o for o in re.findall(r"(\w+)=", command[0]) if not o.startswith("pcmk_")} - {"interval"}
    assert "secg" in options
    assert options <= known


def test_the_architecture_names_every_module():
    page = text(TOP / "doc" / "architecture.md")
    modules = {p.stem for p in (TOP / "lib" / "aws_vpc_net").glob("*.py")} - {"__init__"}
    assert {m for m in modules if f"`{m}`" not in page} == set()
