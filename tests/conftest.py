"""What runs the agent, and which tests go to which process.

And what they measured (record_property("measured", text)), and what they counted.
"""

import gc
import os
import signal
import sys
import zlib
from collections import Counter
from typing import Any, Generator, Iterator, List, Tuple

import hypothesis
import pytest
from fork_server import ForkServers

# Or else each process compiles all tests. Only if ./tests/check asks for it: in trees that are broken on purpose, as
# those of tests/mutation, the time and the size of a file do not tell two versions apart.
if "TESTS_BYTECODE" in os.environ:
    sys.dont_write_bytecode, sys.pycache_prefix = False, os.environ["TESTS_BYTECODE"]

# The same examples in every run, and no limit of time for one, or tests fail by chance.
# --hypothesis-profile=default: others.
hypothesis.settings.register_profile(
    "check", derandomize=True, deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("check")

# What nohup, or a shell for its background jobs, ignores: programs under test inherit it. pytest itself may, too.
if "PYTEST_XDIST_WORKER" in os.environ:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)

# The longest first, so that none is left alone in the end; then what waits and what computes, mixed; then the short.
LONGEST = tuple(f"tests/agent/test_{name}.py" for name in "acceptance memory guide deadline".split())
MIXED = ("tests/agent/", "tests/search/", "tests/simulation/")
# Three clusters side by side, one of two nodes, and the demo's: the scenarios of each take as long. What comes first
# counts. Some scenarios have nodes without a cluster.
GROUPS = {
    "first cluster": "crmsh cycles failures names secrets",
    "second cluster": "levels pcs return takeover",
    "third cluster": "api_faults writer split.py::test_of_three",
    "two nodes": "split leftovers",
}
GROUP_OF = {f"tests/cluster/test_{name}": group for group, names in GROUPS.items() for name in names.split()}
# What takes long to make is shared: a cluster, a fork server of the AWS CLI, one of another program.
TOGETHER = ("tests/cluster/", "tests/agent/test_guide.py", "tests/agent/test_fork_server.py")


@pytest.fixture(scope="session")
def fork_servers() -> Iterator[ForkServers]:
    """What runs the agent at less cost."""
    if "AGENT" not in os.environ:
        pytest.fail("AGENT does not name the installed agent: run ./tests/check")
    with ForkServers(os.environ["AGENT"]) as servers:
        yield servers


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, Any, Any]:
    """In four fifths of the time: nothing of it is garbage."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items: List[pytest.Item]) -> None:
    """The order in which tests are started."""
    first = (LONGEST, "tests/matrix/", MIXED)

    def key(item: pytest.Item) -> Tuple[List[bool], int]:
        mixed = zlib.crc32(item.nodeid.encode()) if item.nodeid.startswith(MIXED) else 0
        return [not item.nodeid.startswith(some) for some in first], mixed

    items.sort(key=key)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: Any, log: Any) -> Any:
    """One after the other for each process, but the scenarios of a cluster together, as they share one.

    xdist's own way, the mark xdist_group, has no effect with pytest 9.2.
    """
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            if not nodeid.startswith(TOGETHER):
                return nodeid
            group = next((group for start, group in GROUP_OF.items() if nodeid.startswith(start)), None)
            return group or nodeid.split("::", maxsplit=1)[0]

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
