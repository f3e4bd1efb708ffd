"""What the tests counted (numbers among their properties), in one line before pytest's own closing line."""

from collections import Counter

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    counts: Counter = Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            if getattr(report, "when", None) == "teardown":
                counts.update({k: v for k, v in report.user_properties if isinstance(v, int)})
    if counts:
        terminalreporter.section("counted")
        terminalreporter.write_line(", ".join(f"{v} {k}" for k, v in counts.items()))
