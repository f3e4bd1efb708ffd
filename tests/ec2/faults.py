"""Faults, and rules that inject them at chosen calls."""

import re
import threading
import time
from dataclasses import dataclass, field
from typing import Callable, List, Optional

from .wire import Abort, ApiError, Call, Reply


class Fault:
    """Does something before a call is looked at, and/or after it took effect.

    `after` runs whatever the answer is; it may change the reply.
    """

    def before(self, call: Call) -> None:
        """Runs before authentication; may raise ApiError or Abort."""

    def after(self, call: Call, reply: Reply) -> None:
        """Runs after the effect, before a byte of the reply is sent."""


@dataclass
class Delay(Fault):
    """Waits, before the effect or (late=True) between the effect and the reply."""

    seconds: float
    late: bool = False

    def before(self, call: Call) -> None:
        """Waits unless late."""
        if not self.late:
            time.sleep(self.seconds)

    def after(self, call: Call, reply: Reply) -> None:
        """Waits if late."""
        if self.late:
            time.sleep(self.seconds)


@dataclass
class Error(Fault):
    """Replies with an error; the call has no effect."""

    code: str
    message: str = "An error made for a test"
    status: int = 400

    def before(self, call: Call) -> None:
        """Refuses."""
        raise ApiError(self.code, self.message, self.status)


def Throttle() -> Error:
    """EC2's answer when a token bucket is empty."""
    return Error("RequestLimitExceeded", "Request limit exceeded.", 503)


def ServerError(code: str = "InternalError", status: int = 500) -> Error:
    """An error on AWS's side: InternalError 500, Unavailable 503, ServiceUnavailable 503."""
    unavailable = "The service is unavailable. Please try again shortly."
    return Error(code, unavailable if "Unavailable" in code else "An internal error has occurred", status)


@dataclass
class Reset(Fault):
    """Resets the connection; the call has no effect."""

    def before(self, call: Call) -> None:
        """Ends the call."""
        raise Abort("reset")


@dataclass
class LoseReply(Fault):
    """The call takes effect, but the connection is closed (or reset) instead of a reply."""

    reset: bool = False

    def after(self, call: Call, reply: Reply) -> None:
        """Drops the reply."""
        reply.mode = "reset" if self.reset else "lost"


@dataclass
class Stall(Fault):
    """Never answers; the call takes effect only with effect=True.  The connection stays open."""

    effect: bool = False

    def before(self, call: Call) -> None:
        """Ends the call."""
        if not self.effect:
            raise Abort("stall")

    def after(self, call: Call, reply: Reply) -> None:
        """Holds the reply back."""
        reply.mode = "stall"


@dataclass
class Trickle(Fault):
    """Sends the reply one byte at a time, `pause` seconds apart."""

    pause: float = 1.0

    def after(self, call: Call, reply: Reply) -> None:
        """Marks the reply."""
        reply.mode, reply.pause = "trickle", self.pause


@dataclass
class Garbage(Fault):
    """Sends other bytes instead of the reply; the call takes effect."""

    body: bytes = b"\x00<<<this is not XML"
    status: int = 200

    def after(self, call: Call, reply: Reply) -> None:
        """Replaces the reply."""
        reply.body, reply.status = self.body, self.status


@dataclass
class Lacking(Fault):
    """Sends the reply without the elements of this name, also within others ("instanceState/name"); the call takes
    effect."""

    path: str

    def after(self, call: Call, reply: Reply) -> None:
        """Drops them."""
        *within, name = self.path.split("/")
        element = f"<{name}>[^<]*</{name}>" if within else f"<{name}>.*?</{name}>"
        before = "".join(f"<{outer}>(?:(?!</{outer}>).)*?" for outer in within)
        reply.body = re.sub(f"({before}){element}", r"\1", reply.body.decode(), flags=re.DOTALL).encode()


@dataclass
class Page(Fault):
    """Something before EC2 replies: a proxy, a portal, a load balancer. With effect=True the call takes effect."""

    body: bytes = b"<!DOCTYPE html><html><head><title>Blocked</title></head><body>No<br>way</body></html>"
    status: int = 200
    content_type: str = "text/html; charset=utf-8"
    effect: bool = False

    def before(self, call: Call) -> None:
        """Ends the call before its effect."""
        if not self.effect:
            raise ApiError("NotReached", "A page was sent instead", self.status)

    def after(self, call: Call, reply: Reply) -> None:
        """Replaces the reply."""
        reply.body, reply.status, reply.content_type = self.body, self.status, self.content_type


@dataclass
class Truncate(Fault):
    """Sends the first part of the reply; the call takes effect.

    announce=True announces the whole length and closes early; False announces what is sent, so that
    only the XML shows the loss.
    """

    share: float = 0.5
    announce: bool = True

    def after(self, call: Call, reply: Reply) -> None:
        """Truncates the reply."""
        whole = len(reply.body)
        reply.body = reply.body[: int(whole * self.share)]
        if self.announce:
            reply.mode, reply.length = "truncated", whole


@dataclass
class Hook(Fault):
    """Calls back exactly before or (late=True) after the effect, before the reply; outside all locks."""

    callback: Callable[[Call], object]
    late: bool = False

    def before(self, call: Call) -> None:
        """Calls back unless late."""
        if not self.late:
            self.callback(call)

    def after(self, call: Call, reply: Reply) -> None:
        """Calls back if late."""
        if self.late:
            self.callback(call)


@dataclass
class Rule:
    """Injects a fault at the nth matching call and those after it, `times` in all (None: without end)."""

    action: Optional[str]
    fault: Fault
    when: Optional[Callable[[Call], bool]] = None
    nth: int = 1
    times: Optional[int] = 1
    seen: int = 0
    """Matching calls so far."""
    fired: int = 0
    """How often the fault happened."""

    def take(self, call: Call) -> bool:
        """Counts the call if it matches; true if the fault applies to it."""
        if self.action is not None and self.action != call.action:
            return False
        if self.when is not None and not self.when(call):
            return False
        self.seen += 1
        if self.seen < self.nth or (self.times is not None and self.fired >= self.times):
            return False
        self.fired += 1
        return True


@dataclass
class Rules:
    """The rules of a server. All that match a call apply, in the order in which they were added."""

    added: List[Rule] = field(default_factory=list)
    """All rules, also removed ones; cleared by the server's reset."""
    _rules: List[Rule] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(
        self,
        action: Optional[str],
        fault: Fault,
        *,
        when: Optional[Callable[[Call], bool]] = None,
        nth: int = 1,
        times: Optional[int] = 1,
    ) -> Rule:
        """Adds a rule for an action (None: any) and an optional predicate on the call."""
        rule = Rule(action, fault, when, nth, times)
        with self._lock:
            self._rules.append(rule)
            self.added.append(rule)
        return rule

    def remove(self, rule: Rule) -> None:
        """Removes a rule."""
        with self._lock:
            self._rules = [kept for kept in self._rules if kept is not rule]

    def clear(self) -> None:
        """Removes all rules."""
        with self._lock:
            self._rules = []

    def any(self) -> bool:
        """Whether there are rules."""
        return bool(self._rules)

    def take(self, call: Call, is_current: Callable[[], bool] = lambda: True) -> List[Fault]:
        """The faults that apply to this call; none if it is one of before the rules were cleared."""
        with self._lock:
            return [rule.fault for rule in self._rules if rule.take(call)] if is_current() else []
