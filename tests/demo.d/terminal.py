"""What the demo prints: coloured on a terminal, plain in a pipe or with NO_COLOR."""

import os
import sys
from typing import List, Sequence, Tuple

_COLOURS = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}
_LEVELS = {"ERROR": "red", "WARNING": "yellow", "INFO": "dim", "DEBUG": "dim"}
_COLOURED = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM", "dumb") != "dumb"


def paint(text: str, colour: str) -> str:
    """The text in this colour, where colours are wanted."""
    return f"\033[{_COLOURS[colour]}m{text}\033[0m" if _COLOURED and text else text


def say(text: str = "", indent: int = 2) -> None:
    """A line, seen at once in a pipe too."""
    print((" " * indent + text).rstrip(), flush=True)


def heading(text: str) -> None:
    """Begins a step."""
    say()
    say(paint(text, "bold"), 0)


def command(words: Sequence[str], width: int = 96) -> None:
    """A command as one would type it, continued with backslashes."""
    lines: List[str] = []
    for word in words:
        if lines and len(lines[-1]) + len(word) < width:
            lines[-1] += f" {word}"
        else:
            lines.append(("    " if lines else "") + word)
    for number, line in enumerate(lines):
        more = " \\" if number < len(lines) - 1 else ""
        say(paint(("$ " if number == 0 else "  ") + line + more, "cyan"))


def log_line(text: str) -> None:
    """A line of the agent's log, in the colour of its level."""
    say(paint(text, _LEVELS.get(text.split(":", 1)[0], "dim")), 4)


def table(rows: Sequence[Tuple[str, str]]) -> None:
    """Two columns; the first row is their heading."""
    width = max(len(first) for first, _ in rows)
    for number, (first, second) in enumerate(rows):
        line = f"{first:<{width}}  {second}"
        say(paint(line, "dim") if number == 0 else line, 4)
