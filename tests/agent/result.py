"""How a run of the agent ended."""

from dataclasses import dataclass
from typing import List


@dataclass
class Result:
    """How a run of the agent ended."""

    code: int
    out: str
    err: str
    seconds: float

    @property
    def lines(self) -> List[str]:
        """stderr without the time stamps."""
        return [line.split(" ", 2)[2] if line[:2] == "20" else line for line in self.err.splitlines()]

    @property
    def last(self) -> str:
        """The last line on stderr, for the operator."""
        return self.lines[-1] if self.lines else ""
