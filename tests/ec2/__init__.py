"""An EC2 to try a fence agent on: moto's EC2 behind a front as strict as the real one.

A test double for local use: it listens on 127.0.0.1 only, never talks to AWS, and keeps all in memory.
"""

from .faults import (
    Delay,
    Error,
    Fault,
    Garbage,
    Hook,
    LoseReply,
    Page,
    Reset,
    ServerError,
    Stall,
    Throttle,
    Trickle,
    Truncate,
)
from .imds import Imds
from .keys import AccessKey
from .proxy import Proxy
from .server import Ec2Server
from .wire import Call
from .world import World

__all__ = [
    "AccessKey",
    "Call",
    "Delay",
    "Ec2Server",
    "Error",
    "Fault",
    "Garbage",
    "Hook",
    "Imds",
    "LoseReply",
    "Page",
    "Proxy",
    "Reset",
    "ServerError",
    "Stall",
    "Throttle",
    "Trickle",
    "Truncate",
    "World",
]
