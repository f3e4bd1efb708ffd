"""Tags of one instance, for tests of what they say."""

import json
from typing import Dict, FrozenSet

from hypothesis import HealthCheck, settings

from aws_vpc_net.core import backup, tag_slots
from aws_vpc_net.core.model import BackupHistory, Instance, Interface, IsolationSpec

# How long an example takes says more of the machine than of the code.
settings.register_profile("busy machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy machine")

ID = "i-0123456789abcdef0"
OTHER = "i-0fedcba9876543210"
ENI = "eni-0123456789abcdef0"
KEEP = IsolationSpec(("sg-99999999",), keep_only=True)


def key(time: int, number: int = 1, chunk: int = 0, instance: str = ID) -> str:
    return f"Original_SG_Backup_{instance}_{time}_{number}_{chunk}"


def value(time: object, some: object, index: object = 0, count: object = 1, eni: object = ENI, **more: object) -> str:
    return json.dumps({"n": {"i": eni, "s": some, "c": {"i": index, "t": count}}, "t": time, **more})


def instance(
    tags: Dict[str, str], interfaces: int = 1, some: FrozenSet[str] = frozenset(("sg-00000000",))
) -> Instance:
    attached = tuple(Interface(f"eni-{n:017x}", n, some) for n in range(1, interfaces + 1))
    return Instance(ID, "running", attached, tags)


def history(tags: Dict[str, str]) -> BackupHistory:
    return backup.read(instance(tags))


def write(time: int, nonce: int, group: str = "sg-44444444") -> backup.Backup:
    return tag_slots.make_backup(instance({}), {f"eni-{1:017x}": frozenset((group,))}, time, KEEP, nonce)
