"""The errors: one class, and a category for each kind of cause.

The category shows an operator where to look. The text states what failed, on which object, why, and what to do.
"""

from __future__ import annotations

from enum import Enum


class Category(str, Enum):
    """First word of the agent's last line on stderr."""

    AUTHENTICATION = "authentication"
    REGION = "region"
    PERMISSION = "permission"
    INSTANCE = "instance"
    STATE = "state"
    SELF_FENCING = "self-fencing"
    VALIDATION = "validation"
    BACKUP = "backup"
    TAG = "tag"
    RETRIEVAL = "retrieval"
    MODIFICATION = "modification"
    PARTIAL = "partial"
    RESTORE = "restore"
    DEADLINE = "deadline"


class FenceError(Exception):
    """The operation failed; ``str()`` is the one line that the operator sees."""

    def __init__(self, category: Category, text: str) -> None:
        super().__init__(f"{category.value} error: {text}")
        self.category = category
        self.text = text


class ApiError(FenceError):
    """A call to EC2 failed.

    Attributes:
        call: name of the API action, e.g. ``CreateTags``.
        code: the error code of EC2, or the error class of the SDK.
        transient: worth a retry (throttled, 5xx, broken or slow connection).
        outcome_unknown: the call may still have taken effect.
        denied_by_own_policy: refused because the policy of the caller does not allow it, or without a stated reason.
    """

    denied_by_own_policy = False

    def __init__(
        self,
        category: Category,
        text: str,
        *,
        call: str,
        code: str,
        transient: bool = False,
        outcome_unknown: bool = False,
    ) -> None:
        super().__init__(category, text)
        self.call = call
        self.code = code
        self.transient = transient
        self.outcome_unknown = outcome_unknown

    @property
    def gone(self) -> bool:
        """Is the interface not there? The next read decides, as EC2's view may be behind."""
        return self.code == "InvalidNetworkInterfaceID.NotFound"
