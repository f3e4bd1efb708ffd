"""One cluster of three nodes for all scenarios; tests/conftest.py sends all of them to one process."""

from pathlib import Path
from typing import Any, Callable, Generator, Iterator, List

import pytest

from . import host
from .bed import TOP, Bed

HERE = Path(__file__).parent
LOGS = TOP / "build" / "log" / "cluster"
Measured = Callable[[str], None]


def pytest_collection_modifyitems(items: List[pytest.Item]) -> None:
    """A scenario may take longer than other tests."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.timeout(400))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: Any) -> Generator[None, Any, Any]:
    """Keeps the logs of a failed scenario, and names them."""
    report = yield
    bed = getattr(item, "funcargs", {}).get("bed") if HERE in item.path.parents else None
    if bed is not None and call.when == "call" and report.failed:
        folder = LOGS / item.name
        bed.save_logs(folder)
        report.sections.append(("logs of the cluster", f"{folder.relative_to(TOP)}\n{bed.told()}"))
    return report


@pytest.fixture(scope="session")
def machine() -> None:
    """A machine that can hold a cluster."""
    reason = host.reason_against()
    if reason:
        pytest.skip(reason)


@pytest.fixture(scope="session")
def three(machine: None) -> Iterator[Bed]:
    with Bed() as made:
        yield made


@pytest.fixture
def bed(three: Bed) -> Iterator[Bed]:
    """A cluster of three nodes, healthy, with its first configuration and without a history."""
    three.renew()
    yield three
    three.plane.check()


@pytest.fixture
def measured(record_property: Callable[[str, object], None]) -> Measured:
    """Shows a text before pytest's closing line."""

    def show(text: str) -> None:
        print(text)
        record_property("measured", text)

    return show
