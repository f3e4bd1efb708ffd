#!/usr/bin/env python3
"""Draws steps of what ./tests/demo printed as an SVG image of a terminal. Run by hand for the README:

./tests/demo | tests/demo.d/svg.py 2 4 > doc/demo.svg
"""

import re
import sys
from typing import Iterable, List, Sequence
from xml.sax.saxutils import escape

SIZE, ADVANCE, LEADING, MARGIN = 13, 7.83, 18, 16
BACKGROUND, PLAIN = "#161b22", "#c9d1d9"
COLOURS = (  # of a line that begins so; the first that fits
    (r"\d+\. ", "#ffffff"),
    (r" +(\$ |--)", "#79c0ff"),
    (r" +ERROR", "#ff7b72"),
    (r" +WARNING", "#e3b341"),
    (r" +Success", "#7ee787"),
    (r" +Status", "#7ee787"),
    (r" +INFO", "#8b949e"),
)


def steps(printed: Iterable[str], wanted: Sequence[str]) -> List[str]:
    """The lines of these steps of the demo; a step begins with its number."""
    chosen: List[str] = []
    inside = False
    for line in printed:
        number = re.match(r"(\d+)\. |\S", line)
        inside = (number[1] in wanted) if number else inside
        if inside:
            chosen.append(line.rstrip())
    return chosen


def colour(line: str) -> str:
    """That of a line."""
    return next((found for begin, found in COLOURS if re.match(begin, line)), PLAIN)


def drawn(lines: Sequence[str]) -> str:
    """The image."""
    while lines and not lines[-1]:
        lines = lines[:-1]
    width = round(2 * MARGIN + ADVANCE * max(map(len, lines)))
    height = 2 * MARGIN + LEADING * len(lines)
    texts = [
        f'<text x="{MARGIN}" y="{MARGIN + LEADING * number + SIZE}" fill="{colour(line)}">{escape(line)}</text>'
        for number, line in enumerate(lines)
        if line
    ]
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        f'font-family="ui-monospace, Menlo, Consolas, monospace" font-size="{SIZE}" xml:space="preserve" '
        'style="white-space: pre">'
    )
    return "\n".join([head, f'<rect width="100%" height="100%" rx="8" fill="{BACKGROUND}"/>', *texts, "</svg>"])


def main(wanted: Sequence[str]) -> int:
    """The exit code."""
    lines = steps(sys.stdin, wanted)
    if not lines:
        print(f"the input has no step {' '.join(wanted)} of ./tests/demo", file=sys.stderr)
        return 1
    print(drawn(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
