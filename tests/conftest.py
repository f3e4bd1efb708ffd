"""Which tests go to which process, what they measured (record_property("measured", text)), and what they counted."""

import os
import sys
from collections import Counter
from typing import Any, List

import pytest

# Or else each process compiles all tests. Only if ./tests/check asks for it: in trees that are broken on purpose, as
# those of tests/mutation, the time and the size of a file do not tell two versions apart.
if "TESTS_BYTECODE" in os.environ:
    sys.dont_write_bytecode, sys.pycache_prefix = False, os.environ["TESTS_BYTECODE"]

# The longest first, so that none is left alone in the end; then those that compute, beside the clusters, which wait.
LONGEST = tuple(f"tests/agent/test_{name}.py" for name in "acceptance memory guide deadline".split())
COMPUTING = ("tests/matrix/", "tests/search/", "tests/simulation/", "tests/core/")
# Three clusters side by side: their scenarios take as long. Some have nodes without a cluster.
SECOND_CLUSTER, THIRD_CLUSTER, WITHOUT_CLUSTER = (
    tuple(f"tests/cluster/test_{name}.py" for name in names.split())
    for names in ("api_faults names return takeover", "split writer", "dataplane late_network probe")
)


def pytest_collection_modifyitems(items: List[pytest.Item]) -> None:
    """The order in which tests are started."""
    items.sort(key=lambda item: (not item.nodeid.startswith(LONGEST), not item.nodeid.startswith(COMPUTING)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: Any, log: Any) -> Any:
    """One after the other for each process, but the scenarios of a cluster together, as they share one.

    xdist's own way, the mark xdist_group, has no effect with pytest 9.2.
    """
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            if not nodeid.startswith("tests/cluster/"):
                return nodeid
            if nodeid.startswith(WITHOUT_CLUSTER):
                return nodeid.split("::", maxsplit=1)[0]
            if nodeid.startswith(THIRD_CLUSTER):
                return "third cluster"
            return "second cluster" if nodeid.startswith(SECOND_CLUSTER) else "first cluster"

    return Scheduling(config, log)


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: Any) -> None:
    """A line for each measurement, and one for all counts: properties that are numbers."""
    reports = [r for some in terminalreporter.stats.values() for r in some if isinstance(r, pytest.TestReport)]
    counts: Counter = Counter()
    lines = []
    for report in reports:
        found = report.user_properties if report.when == "teardown" else ()
        counts.update({name: value for name, value in found if isinstance(value, int)})
        lines += [f"{report.nodeid.split('::')[-1]}: {text}" for name, text in found if name == "measured"]
    if lines:
        terminalreporter.section("measured")
        for line in lines:
            terminalreporter.line(line)
    if counts:
        terminalreporter.section("counted")
        terminalreporter.line(", ".join(f"{count} {what}" for what, count in counts.items()))
