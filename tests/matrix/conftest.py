"""The bench: an EC2, one cached client, a clock that skips the pauses."""

import logging
import time
from types import SimpleNamespace
from typing import Iterator

import pytest
from ec2.server import Ec2Server

from aws_vpc_net import deadline, ec2, runner

from .world import Bench


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with Ec2Server() as server, pytest.MonkeyPatch.context() as patch:
        made = Bench(server, tmp_path_factory.mktemp("matrix") / "dmi")
        patch.setenv("FENCE_AWS_VPC_NET_DMI", str(made.dmi))
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.setattr(ec2, "_client", made.client)
        patch.setattr(deadline, "time", SimpleNamespace(sleep=made.clock.sleep))
        patch.setattr(runner, "time", SimpleNamespace(sleep=made.clock.sleep, time=time.time, monotonic=made.clock))
        patch.setattr(logging.getLogger("aws_vpc_net"), "level", logging.CRITICAL)
        patch.setattr(logging.getLogger("urllib3.connection"), "level", logging.CRITICAL)
        yield made
