"""What tests measured is shown before pytest's closing line: record_property("measured", text)."""

from typing import Any

import pytest


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: Any) -> None:
    """One line for each."""
    reports = [r for some in terminalreporter.stats.values() for r in some if isinstance(r, pytest.TestReport)]
    lines = [
        f"{report.nodeid.split('::')[-1].split('@')[0]}: {text}"
        for report in reports
        if report.when == "call"
        for name, text in report.user_properties
        if name == "measured"
    ]
    if lines:
        terminalreporter.section("measured")
        for line in lines:
            terminalreporter.line(line)
