"""The documents: their text, their blocks of code, and the IDs that stand in them as examples."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator, List, Tuple

TOP = Path(__file__).parents[2]
DOC = TOP / "doc"
DEV = DOC / "dev"
FOLDERS = (TOP, TOP / ".github", DOC, DEV)
PAGES = [page for folder in FOLDERS for page in sorted(folder.glob("*.md"))]
OPERATORS = ("README.md", "setup.md", "runbook.md", "troubleshooting.md", "migration.md", "SECURITY.md")
"""Pages for operators: each block of commands in them says how it is tested, or what it needs."""


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: str
    line: int
    language: str
    mark: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def text(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def path(page: str) -> Path:
    """Of a page, by its name."""
    (found,) = [known for known in PAGES if known.name == page]
    return found


def blocks(page: Path) -> Iterator[Block]:
    """In order. ```language mark"""
    fence = re.compile(r"^ *```(\S*)(?: (\S+))?\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
    for found in fence.finditer(text(page)):
        line = text(page)[: found.start()].count("\n") + 1
        yield Block(page.name, line, found[1], found[2] or "", found[3])


def introduction(block: Block) -> Tuple[str, str]:
    """The last heading before a block, and the text between it, or the block before, and this one."""
    before = "\n".join(text(path(block.page)).splitlines()[: block.line - 1])
    bare = re.sub(r"^ *```.*?^ *```$", "\0", before, flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", bare, re.MULTILINE)
    return headings[-1] if headings else "", re.split(r"\0|^#+ .+$", bare, flags=re.MULTILINE)[-1].strip()


def operators_blocks(*marks: str) -> List[Block]:
    """Blocks of commands in the pages for operators, with one of these marks, or all."""
    found = [b for page in OPERATORS for b in blocks(path(page)) if b.language == "sh"]
    return [b for b in found if not marks or b.mark in marks]
