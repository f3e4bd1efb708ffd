"""Token buckets: how many calls an account may make."""

import fnmatch
import threading
import time
from dataclasses import dataclass, field
from typing import List, Tuple

from .wire import ApiError, Call


@dataclass
class Bucket:
    """Holds up to `size` tokens and gains `refill` a second; a call takes one."""

    size: float
    refill: float
    tokens: float = field(init=False)
    filled: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.tokens = self.size

    def take(self) -> bool:
        """Takes a token if there is one."""
        now = time.monotonic()
        self.tokens = min(self.size, self.tokens + (now - self.filled) * self.refill)
        self.filled = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


class Limits:
    """Buckets by action pattern; the first pattern that matches counts.  None at the start."""

    def __init__(self) -> None:
        self._buckets: List[Tuple[str, Bucket]] = []
        self._lock = threading.Lock()

    def add(self, action: str, size: float, refill: float) -> Bucket:
        """Limits an action (or pattern such as "Describe*") by its own bucket."""
        bucket = Bucket(size, refill)
        with self._lock:
            self._buckets.append((action, bucket))
        return bucket

    def like_ec2(self, share: float = 1.0) -> None:
        """The defaults of an account and region, or this share of them; the buckets of each action are its own."""
        describe = ("DescribeInstances", "DescribeSecurityGroups", "DescribeNetworkInterfaces", "DescribeTags")
        buckets = {
            **dict.fromkeys(describe, (100, 20)),
            "ModifyNetworkInterfaceAttribute": (100, 5),
            "CreateTags": (100, 10),
            "DeleteTags": (100, 10),
            "StopInstances": (50, 5),
        }
        for action, (size, refill) in buckets.items():
            self.add(action, size * share, refill * share)

    def clear(self) -> None:
        """Removes all limits."""
        with self._lock:
            self._buckets = []

    def check(self, call: Call) -> None:
        """Raises RequestLimitExceeded where the bucket is empty."""
        with self._lock:
            for pattern, bucket in self._buckets:
                if fnmatch.fnmatchcase(call.action, pattern):
                    if not bucket.take():
                        raise ApiError("RequestLimitExceeded", "Request limit exceeded.", 503)
                    return
