"""Why calls failed. An attempt that was abandoned does not tell; those before it may."""

from __future__ import annotations

from typing import TYPE_CHECKING, Dict, List, Optional, Tuple

from . import messages
from .errors import ApiError

if TYPE_CHECKING:
    from .ec2 import CallContext


class Causes:
    """The errors of the latest attempts; safe from several threads.

    Args:
        attempt_seconds: the time of an attempt. One that is abandoned earlier was cut off by the deadline.
    """

    def __init__(self, attempt_seconds: float) -> None:
        self._attempt_seconds = attempt_seconds
        self._hanging = ""  # the source of credentials that an abandoned attempt waited for
        self._errors: Dict[Tuple[str, CallContext], ApiError] = {}

    def is_cut_off(self, seconds: float) -> bool:
        """Is the time of an attempt limited by the deadline?"""
        return seconds < self._attempt_seconds

    def of_abandoned(self, purpose: CallContext, call: str, asked: List[str], seconds: float) -> ApiError:
        """The error of an attempt that was abandoned after this time.

        Args:
            asked: the sources of credentials that it asked, or none, if it waits for an earlier attempt to do so.
        """
        source = asked[-1] if asked else self._hanging
        self._hanging = source
        known = self._errors.get((call, purpose))
        if known and self.is_cut_off(seconds):
            return ApiError(
                known.category, known.text, call=call, code=messages.SLOW, transient=True, outcome_unknown=True
            )
        if source:
            return messages.slow_credentials(purpose, source, seconds)
        return messages.slow_call(purpose, call, seconds)

    def note(self, purpose: CallContext, call: str, error: Optional[ApiError]) -> None:
        """Keep the error of an attempt, or that it had none."""
        if error:
            self._errors[call, purpose] = error
        else:
            self._errors.pop((call, purpose), None)
