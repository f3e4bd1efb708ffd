"""What was found, as Markdown to attach to an issue."""

from typing import List, Tuple


class Report:
    """Rows of (what, found, verdict), in chapters."""

    def __init__(self, title: str, facts: List[Tuple[str, str]]) -> None:
        self._title = title
        self._facts = facts
        self._chapters: List[Tuple[str, List[Tuple[str, str, str]]]] = []
        self.bad = 0

    def chapter(self, title: str) -> None:
        """A new table."""
        self._chapters.append((title, []))

    def row(self, what: str, found: str, good: "bool | None" = None) -> None:
        """One line; ``good``: as it should be, or not, or a mere finding."""
        verdict = {True: "as it should be", False: "**NOT as it should be**", None: ""}[good]
        self.bad += good is False
        self._chapters[-1][1].append((what, found, verdict))

    def __str__(self) -> str:
        lines = [f"# {self._title}", "", *(f"- {name}: {value}" for name, value in self._facts)]
        for title, rows in self._chapters:
            lines += ["", f"## {title}", "", "| what | found | |", "|---|---|---|"]
            lines += [f"| {' | '.join(_cell(c) for c in row)} |" for row in rows]
        end = "All as it should be." if not self.bad else f"{self.bad} NOT as it should be."
        return "\n".join([*lines, "", end])


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
