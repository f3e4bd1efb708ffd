"""Which machine is this? DMI first, which needs no network; then the instance metadata service.

Both have short limits, and unknown is an answer: without EC2 the metadata address swallows packets.
"""

from __future__ import annotations

import logging
import os
import re
from typing import Callable, Optional

from .deadline import call_with_timeout
from .imds import PATIENCE_SECONDS, Imds, ImdsError, Stumbles

log = logging.getLogger(__name__)

DMI_VARIABLE = "FENCE_AWS_VPC_NET_DMI"  # another file, for tests and for guests that see none
DMI_FILE = "/sys/devices/virtual/dmi/id/board_asset_tag"
SILENT_SECONDS = 1.0  # a service without a sign of life is asked again for so long
STUMBLES_SECONDS = 5.0
WHOLE_SECONDS = 8.0

_INSTANCE = re.compile(r"i-(?:[0-9a-f]{8}|[0-9a-f]{17})")
_REGION = re.compile(r"[a-z]{2,}(?:-[a-z]+)+-[0-9]+")


def own_instance(service: Callable[[], Imds]) -> Optional[str]:
    """The instance ID of this machine; None if it is unknown.

    Args:
        service: returns the metadata service, whose settings are known only after the SDK is loaded.

    Raises:
        FenceError: the SDK cannot be loaded.
    """
    known = from_dmi()
    if known:
        return known
    imds = service()

    def ask() -> str:
        return imds.ask("instance-id", _reader(_INSTANCE), patience=SILENT_SECONDS, stumbles=STUMBLES_SECONDS)

    done, answer = call_with_timeout(ask, WHOLE_SECONDS)
    if isinstance(answer, Exception):  # any error: the machine is then unknown
        log.debug("no instance ID from the instance metadata service: %r", answer)
    return answer if done and isinstance(answer, str) else None


def region(imds: Imds) -> Optional[str]:
    """The region of this machine; None if it is unknown.

    Raises:
        Stumbles: the service is unavailable for now.
    """
    try:
        return imds.ask("placement/region", _reader(_REGION), patience=PATIENCE_SECONDS)
    except ImdsError as error:
        if isinstance(error, Stumbles):
            raise
        return None


def _reader(form: re.Pattern[str]) -> Callable[[str], str]:
    def read(text: str) -> str:
        if not form.fullmatch(text):
            raise ValueError("something else")
        return text

    return read


def from_dmi() -> Optional[str]:
    """The instance ID of this machine, as far as it is known without the network."""
    try:
        with open(os.environ.get(DMI_VARIABLE, DMI_FILE), encoding="ascii", errors="replace") as file:
            text = file.read(64).strip()
    except OSError as error:
        log.debug("no instance ID from DMI: %s", error)
        return None
    return text if _INSTANCE.fullmatch(text) else None
