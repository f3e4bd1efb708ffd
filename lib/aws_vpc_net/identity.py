"""Which machine is this? DMI first, which needs no network; then the instance metadata service (IMDSv2).

Both have short limits, and unknown is an answer: without EC2 the metadata address swallows packets.
"""

from __future__ import annotations

import logging
import os
import re
from typing import Optional
from urllib.parse import urlsplit

from .deadline import bounded

log = logging.getLogger(__name__)

DMI_VARIABLE = "FENCE_AWS_VPC_NET_DMI"  # another file, for tests and for guests that see none
DMI_FILE = "/sys/devices/virtual/dmi/id/board_asset_tag"
IMDS_VARIABLE = "AWS_EC2_METADATA_SERVICE_ENDPOINT"  # the SDK's own
IMDS_OFF = "AWS_EC2_METADATA_DISABLED"  # the SDK's own
IMDS = "http://169.254.169.254"
IMDS_SECONDS = 1.0  # to connect, and between bytes
IMDS_WHOLE_SECONDS = 2.5

_INSTANCE = re.compile(r"i-(?:[0-9a-f]{8}|[0-9a-f]{17})")
_REGION = re.compile(r"[a-z]{2,}(?:-[a-z]+)+-[0-9]+")


def own_instance() -> Optional[str]:
    """The instance ID of the machine that the agent runs on; None if it cannot be told."""
    return _from_dmi() or _from_imds("instance-id", _INSTANCE)


def region() -> Optional[str]:
    """The region of the machine that the agent runs on; None if it cannot be told."""
    return _from_imds("placement/region", _REGION)


def without_proxy() -> None:
    """Keep the SDK from asking IMDS through a proxy of the environment: the answer would be the proxy's own role."""
    host = urlsplit(os.environ.get(IMDS_VARIABLE, IMDS)).hostname or ""
    given = os.environ.get("no_proxy") or os.environ.get("NO_PROXY")
    if given != "*":
        os.environ["no_proxy"] = f"{given},{host}" if given else host


def _from_dmi() -> Optional[str]:
    try:
        with open(os.environ.get(DMI_VARIABLE, DMI_FILE), encoding="ascii", errors="replace") as file:
            text = file.read(64).strip()
    except OSError as error:
        log.debug("no instance ID from DMI: %s", error)
        return None
    return text if _INSTANCE.fullmatch(text) else None


def _from_imds(path: str, form: re.Pattern[str]) -> Optional[str]:
    if os.environ.get(IMDS_OFF, "").lower() == "true":
        return None
    done, answer = bounded(lambda: _ask_imds(path), IMDS_WHOLE_SECONDS)
    if isinstance(answer, Exception):  # say a requests that does not fit the other modules: unknown is an answer
        log.debug("no %s from the instance metadata service: %r", path, answer)
        return None
    text = answer.strip() if done and answer else ""
    return text if form.fullmatch(text) else None


def _ask_imds(path: str) -> Optional[str]:
    try:
        import requests
    except ImportError as error:
        log.debug("no instance metadata without requests: %s", error)
        return None
    base = os.environ.get(IMDS_VARIABLE, IMDS).rstrip("/")
    try:
        with requests.Session() as http:
            http.trust_env = False  # never through a proxy
            answer = http.put(
                f"{base}/latest/api/token",
                headers={"X-aws-ec2-metadata-token-ttl-seconds": "60"},
                timeout=IMDS_SECONDS,
                allow_redirects=False,
            )
            answer.raise_for_status()
            answer = http.get(
                f"{base}/latest/meta-data/{path}",
                headers={"X-aws-ec2-metadata-token": answer.text},
                timeout=IMDS_SECONDS,
                allow_redirects=False,
            )
            answer.raise_for_status()
    except (requests.RequestException, ValueError) as error:
        log.debug("no %s from the instance metadata service: %s", path, error)
        return None
    return str(answer.text)
