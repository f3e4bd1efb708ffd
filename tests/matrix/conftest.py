"""The bench: an EC2, one cached client, a clock that skips the pauses."""

import datetime
import logging
import os
import threading
import time
from types import SimpleNamespace
from typing import Iterator, Optional

import pytest
from ec2.server import Ec2Server

from aws_vpc_net import deadline, ec2, runner

from .world import Bench, Killed


@pytest.fixture(scope="session")
def matrix_seed() -> Optional[int]:
    """Another part of what is too much for one day, each day: of what follows a case that went well, and of cases as
    processes. FENCE_MATRIX_SEED brings one back, or "all" (None)."""
    if "FENCE_MATRIX_CASE" in os.environ:
        return None
    text = os.environ.get("FENCE_MATRIX_SEED") or str(datetime.date.today().toordinal())
    return None if text == "all" else int(text)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory, matrix_seed: Optional[int]) -> Iterator[Bench]:
    with Ec2Server() as server, pytest.MonkeyPatch.context() as patch:
        made = Bench(server, tmp_path_factory.mktemp("matrix") / "dmi", matrix_seed)
        patch.setenv("FENCE_AWS_VPC_NET_DMI", str(made.dmi))
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.setattr(ec2, "_client", made.client)
        patch.setattr(deadline, "time", SimpleNamespace(sleep=made.clock.sleep))
        patch.setattr(runner, "time", SimpleNamespace(sleep=made.clock.sleep, time=time.time))
        patch.setattr(logging.getLogger("aws_vpc_net"), "level", logging.CRITICAL)
        patch.setattr(logging.getLogger("urllib3.connection"), "level", logging.CRITICAL)
        shown = threading.excepthook
        patch.setattr(threading, "excepthook", lambda args: None if args.exc_type is Killed else shown(args))
        yield made


def pytest_report_header() -> str:
    return f"fault matrix: FENCE_MATRIX_SEED={os.environ.get('FENCE_MATRIX_SEED') or 'of the day'}"
