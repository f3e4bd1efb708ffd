"""One cluster of three nodes for most scenarios; tests/conftest.py runs these in one process."""

from pathlib import Path
from typing import Any, Callable, Generator, Iterator, List

import pytest

from . import host
from .bed import TOP, Bed

HERE = Path(__file__).parent
LOGS = TOP / "build" / "log" / "cluster"
Measured = Callable[[str], None]


def pytest_collection_modifyitems(items: List[pytest.Item]) -> None:
    """Scenarios have a longer timeout than other tests."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.timeout(400))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: Any) -> Generator[None, Any, Any]:
    """Saves the logs of a failed scenario, and shows where they are."""
    report = yield
    bed = getattr(item, "funcargs", {}).get("bed") if HERE in item.path.parents else None
    if bed is not None and call.when == "call" and report.failed:
        folder = LOGS / item.name
        bed.save_logs(folder)
        report.sections.append(("logs of the cluster", f"{folder.relative_to(TOP)}\n{bed.log_excerpt()}"))
    return report


@pytest.fixture(scope="session")
def machine() -> None:
    """Skips the test if no cluster can be set up on this machine."""
    reason = host.reason_against()
    if reason:
        pytest.skip(reason)


@pytest.fixture(scope="package")
def three(machine: None) -> Iterator[Bed]:
    """Until the last scenario of this process has ended: an idle cluster takes CPU time from the other tests."""
    with Bed() as made:
        yield made


@pytest.fixture
def bed(three: Bed) -> Iterator[Bed]:
    """A healthy cluster of three nodes, with its initial configuration and without a history."""
    three.reset()
    yield three
    three.plane.check()


@pytest.fixture
def measured(record_property: Callable[[str, object], None]) -> Measured:
    """Shows a text before the last line of pytest."""

    def show(text: str) -> None:
        print(text)
        record_property("measured", text)

    return show
