"""What was measured, as a table, as Markdown, and as a plot."""

from typing import List, Mapping, Sequence, Tuple
from xml.sax.saxutils import escape

from .measure import Case, Spread, median, ratio

LONG = 4.0  # seconds; beside what takes longer all else would look the same
HEAD = (
    *("case", "agent, s", "bare, s", "ratio (middle half)"),
    *("to isolation, s", "its ratio (middle half)", "calls", "CPU, s", "memory, MB"),
)


def rows(cases: Sequence[Case]) -> List[Tuple[str, ...]]:
    """A row a case: the agent / the bare script."""
    return [
        (
            c.name,
            f"{median(c.agent, 'seconds'):.2f}",
            f"{median(c.bare, 'seconds'):.2f}",
            str(c.ratio),
            f"{median(c.agent, 'isolation'):.2f} / {median(c.bare, 'isolation'):.2f}" if c.isolates else "",
            str(c.isolation_ratio) if c.isolates else "",
            f"{c.agent_calls} / {c.bare_calls}",
            f"{median(c.agent, 'cpu'):.2f} / {median(c.bare, 'cpu'):.2f}",
            f"{median(c.agent, 'memory'):.0f} / {median(c.bare, 'memory'):.0f}",
        )
        for c in cases
    ]


def markdown(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """A table."""
    lines = ["| " + " | ".join(row) + " |" for row in (head, *body)]
    return "\n".join([lines[0], "|---" * len(head) + "|", *lines[1:]]) + "\n"


def plain(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """The same for a terminal."""
    widths = [max(len(row[n]) for row in (head, *body)) for n in range(len(head))]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths)).rstrip() for row in (head, *body))


def goals(cases: Mapping[str, Case]) -> List[Tuple[str, Spread, float]]:
    """(what, how it was measured to be, what it is to be at most); only what was measured."""
    slow = "at 50 ms"
    found = [
        (f"{what}, beside the bare script", cases[name].ratio, most)
        for what, name, most in (
            ("metadata", "metadata", 1.3),
            ("status", f"status of 1 {slow}", 1.1),
            *((f"off of {n}", f"off of {n} {slow}", 1.1) for n in (1, 4, 15)),
            ("list of 10,000 instances", "list of 10,000", 0.5),
        )
        if name in cases
    ]
    found += [
        (f"off of {what}, to isolation, beside the bare script", cases[name].isolation_ratio, most)
        for what, name, most in (
            *((f"{n}", f"off of {n} {slow}", 1.1) for n in (1, 4, 15)),
            ("15 with HTTPS", f"off of 15 {slow}, HTTPS", 0.75),
        )
        if name in cases
    ]
    for what, above, below, most in (
        ("off of 15 interfaces, beside off of 1", f"off of 15 {slow}", f"off of 1 {slow}", 1.15),
        ("monitor in an account of 10,000, beside one of 10", "monitor in 10,000", "monitor in 10", 1.1),
    ):
        if above in cases and below in cases:
            found.append((what, ratio(cases[above].agent, cases[below].agent), most))
    return found


def plot(cases: Sequence[Case]) -> str:
    """An SVG: a bar for the agent and one for the bare script."""
    left, width, step, top = 190, 430, 34, 40
    cases = [c for c in cases if median(c.bare, "seconds") < LONG]
    longest = max(max(median(c.agent, "seconds"), median(c.bare, "seconds")) for c in cases)
    scale = width / longest
    colours = {"agent": "#2a6f97", "bare": "#b8c4cc"}
    parts = [f'<text x="{left}" y="18" font-weight="bold">Seconds of a whole run, median</text>']
    for x, (name, colour) in zip((left + 260, left + 330), colours.items()):
        parts.append(f'<rect x="{x}" y="8" width="12" height="12" fill="{colour}"/>')
        parts.append(f'<text x="{x + 17}" y="18">{name}</text>')
    for number, case in enumerate(cases):
        y = top + number * step
        parts.append(f'<text x="{left - 8}" y="{y + 17}" text-anchor="end">{escape(case.name)}</text>')
        for dy, runs, colour in zip((0, 13), (case.agent, case.bare), colours.values()):
            seconds = median(runs, "seconds")
            end = seconds * scale
            parts.append(f'<rect x="{left}" y="{y + dy}" width="{end:.1f}" height="12" fill="{colour}"/>')
            parts.append(f'<text x="{left + end + 5:.1f}" y="{y + dy + 10}" font-size="10">{seconds:.2f}</text>')
    height = top + len(cases) * step
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + width + 50} {height}" '
    return (
        head
        + 'font-family="sans-serif" font-size="12">\n<rect width="100%" height="100%" fill="white"/>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )
