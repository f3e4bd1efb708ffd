"""Why calls failed. An attempt that the deadline cuts off says little; the one before it may say more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Dict, List, Optional, Tuple

from . import messages
from .errors import ApiError, Category

if TYPE_CHECKING:
    from .ec2 import CallContext


class Causes:
    """The latest transient error of each call; safe from several threads.

    Args:
        attempt_seconds: the time of an attempt. One that is abandoned earlier was cut off by the deadline.
    """

    def __init__(self, attempt_seconds: float) -> None:
        self._attempt_seconds = attempt_seconds
        self._hanging = ""  # the source of credentials that an abandoned attempt waited for
        self._errors: Dict[Tuple[str, CallContext], ApiError] = {}

    def note(self, purpose: CallContext, call: str, error: Optional[ApiError]) -> None:
        """Keep the error of an attempt, if it is worth a retry; any other answer ends what was wrong before."""
        if error and error.transient:
            self._errors[call, purpose] = error
        else:
            self._errors.pop((call, purpose), None)

    def of_abandoned(self, purpose: CallContext, call: str, asked: List[str], seconds: float) -> ApiError:
        """The error of an attempt that was abandoned after this time.

        Args:
            asked: the sources of credentials that it asked, "" for EC2 itself; none, if it waits for an earlier
                attempt to ask.
        """
        source = asked[-1] if asked else self._hanging
        self._hanging = source
        if source:
            error = messages.slow_credentials(purpose, source, seconds)
        else:
            error = messages.slow_call(purpose, call, seconds)
        known = self._errors.get((call, purpose))
        has_credentials = bool(asked) and not source
        if seconds >= self._attempt_seconds:
            self.note(purpose, call, error)
        elif known and not (has_credentials and known.category is Category.AUTHENTICATION):
            return messages.cut_off(known, error, seconds)
        return error
