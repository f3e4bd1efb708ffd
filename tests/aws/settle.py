"""From observations of the data plane to rows of the report, and to the settle_time that follows. Pure functions."""

import math
from dataclasses import dataclass
from statistics import median
from typing import Dict, List, Optional, Sequence, Tuple

DWELLS: Tuple[Optional[float], ...] = (None, 0.0, 0.5, 1.0, 2.0, 5.0)
"""Seconds on the group that allows everything; None: a plain swap, not through it."""
QUIET_SECONDS = 2.0
"""What arrived less than this before the end of an observation may go on."""
BEFORE_SECONDS = 1.0
DEFAULT = 5
"""The default of settle_time, and the least that a report advises: see ``advise``."""
DEADLINE = 45
CALL_SECONDS = 30
RESERVE_SECONDS = 5
"""Of a deadline: what calls and throttling may take, and what the agent keeps to close. The rest is settle_time."""
NOT_SHOWN = "other hosts, hours and instance types; protocols but TCP over IPv4; connections that the node begins"
Row = Tuple[str, str, Optional[bool]]


@dataclass(frozen=True)
class Observation:
    """One run. All times are seconds on the receiver's monotonic clock.

    Attributes:
        dwell: seconds from the acceptance of the group that allows everything to the call that isolates; None: plain.
        accepted: when EC2's reply to the isolation had arrived.
        ended: when the observation ended.
        tries: when new connections were begun.
        answers: when the first line of a new connection arrived.
        lines: when lines arrived on the established connection.
        retries: how often the SDK sent a change again. The attempt that took effect may be an earlier one then.
    """

    dwell: Optional[float]
    accepted: float
    ended: float
    tries: Tuple[float, ...]
    answers: Tuple[float, ...]
    lines: Tuple[float, ...]
    retries: int = 0

    @property
    def valid(self) -> bool:
        """Is the moment of acceptance certain, and did both kinds of connections work before it?"""
        recent = self.accepted - BEFORE_SECONDS
        works = all(any(recent <= at <= self.accepted for at in arrived) for arrived in (self.answers, self.lines))
        return works and self.retries == 0

    @property
    def new(self) -> Optional[float]:
        """Seconds until the last new connection was answered; None: they were answered to the end."""
        return self._seconds_to_last(self.answers)

    @property
    def established(self) -> Optional[float]:
        """Seconds until the last line arrived on the established connection; None: it went on to the end."""
        return self._seconds_to_last(self.lines)

    def _seconds_to_last(self, arrived: Sequence[float]) -> Optional[float]:
        last = max(arrived, default=self.accepted)
        return None if last > self.ended - QUIET_SECONDS else max(0.0, last - self.accepted)

    @property
    def resolution(self) -> float:
        """The longest time without a try, or, before the acceptance, without a line: what may have been missed."""
        begin = self.accepted - BEFORE_SECONDS
        tries = [*(at for at in self.tries if begin <= at <= self.ended), self.ended]
        lines = [at for at in self.lines if begin <= at <= self.accepted]
        return max((b - a for times in (tries, lines) for a, b in zip(times, times[1:])), default=0.0)


@dataclass(frozen=True)
class Advice:
    """What follows.

    Attributes:
        seconds: settle_time; None: none follows.
        why: the arithmetic, or why none follows.
        untracks: established connections ended where the interface was untracked for long enough.
    """

    seconds: Optional[int]
    why: str
    untracks: bool = True


def cases(observations: Sequence[Observation]) -> Dict[Optional[float], List[Observation]]:
    """The valid ones by dwell, plain ones first."""
    dwells = sorted({o.dwell for o in observations}, key=lambda dwell: (dwell is not None, dwell or 0.0))
    return {dwell: [o for o in observations if o.dwell == dwell and o.valid] for dwell in dwells}


def least_dwell(observations: Sequence[Observation]) -> Optional[float]:
    """The least dwell at which, and at every longer one, the established connection ended in every run."""
    least = None
    for dwell, runs in reversed(list(cases(observations).items())):
        if dwell is None or not runs or any(o.established is None for o in runs):
            return least
        least = dwell
    return least


def unseen_share(runs: int) -> float:
    """With 95 % confidence at most this share of changes takes longer than the slowest of so many."""
    return float(1 - 0.05 ** (1 / runs))


def advise(observations: Sequence[Observation]) -> Advice:
    """The smallest whole second that is twice the slowest end observed, and twice the least dwell that worked.

    Twice, since a run has few samples of one host, of one hour. For the same reason never less than the default:
    after 60 runs without a slower one, one change in 20 may still be slower.
    """
    valid = [o for o in observations if o.valid]
    if not any(o.dwell is None for o in valid):
        return Advice(None, "no plain swap was measured")
    if any(o.new is None for o in valid):
        longest = max(o.ended - o.accepted for o in valid)
        return Advice(None, f"new connections were answered for all {longest:.0f} s: repeat with a longer --window")
    slowest = max(at + o.resolution for o in valid for at in (o.new, o.established) if at is not None)
    untracked = any(o.dwell is not None for o in observations)
    dwell = least_dwell(observations)
    seconds = max(DEFAULT, math.ceil(round(2 * slowest, 3)), math.ceil(2 * (dwell or 0.0)))
    share = 100 * unseen_share(len(valid))
    why = f"2 × {slowest:.2f} s, the slowest end with the resolution"
    why += f"; 2 × {dwell:g} s, the least dwell that worked" if dwell is not None else ""
    why += f"; at least {DEFAULT} s, as up to {share:.0f} % of changes may be slower than the slowest of {len(valid)}"
    return Advice(seconds, why, not untracked or dwell is not None)


def configuration(advice: Advice) -> str:
    """What to set; a deadline and timeouts where the default ones leave too little time for calls."""
    if advice.seconds is None:
        return "nothing follows; use power fencing, or repeat"
    command = f"pcs stonith update DEVICE settle_time={advice.seconds}"
    deadline = RESERVE_SECONDS + CALL_SECONDS + 2 * advice.seconds
    if deadline > DEADLINE:
        timeout = 10 * math.ceil((2 * (deadline + 2) + 12) / 10)
        command += f" deadline={deadline} pcmk_off_timeout={timeout} pcmk_reboot_timeout={timeout}"
    return command + ("" if advice.untracks else "; do not rely on untrack_secg: connections survived each dwell")


def rows(observations: Sequence[Observation]) -> List[Row]:
    """The report. Each delay counts from the acceptance of the isolation."""
    found: List[Row] = []
    for dwell, runs in cases(observations).items():
        head = "plain swap" if dwell is None else f"untracked for {dwell:g} s"
        if not runs:
            found.append((head, "no valid run", False))
            continue
        new = [o.new for o in runs]
        found.append((f"{head}: last new connection", _delays(new), _within_default(new)))
        flows = [o.established for o in runs]
        good = _within_default(flows) if dwell is not None and dwell >= DEFAULT else None
        found.append((f"{head}: established connection", _delays(flows), good))
    invalid = sum(not o.valid for o in observations)
    if invalid:
        found.append(("runs left out: sent again, or nothing arrived before", str(invalid), None))
    resolutions = [1000 * o.resolution for o in observations] or [0.0]
    found.append(("resolution", f"{median(resolutions):.0f} ms, at worst {max(resolutions):.0f} ms", None))
    advice = advise(observations)
    follows = "none" if advice.seconds is None else f"**settle_time={advice.seconds}**"
    found.append(("what follows", f"{follows} ({advice.why})", advice.seconds is not None and advice.untracks))
    found.append(("for the configuration", configuration(advice), None))
    found.append(("what this does not show", NOT_SHOWN, None))
    return found


def _within_default(delays: Sequence[Optional[float]]) -> bool:
    return all(delay is not None and delay <= DEFAULT for delay in delays)


def _delays(delays: Sequence[Optional[float]]) -> str:
    ended = [d for d in delays if d is not None]
    text = f"ended in {len(ended)} of {len(delays)} runs"
    return text + (f", after {median(ended):.2f} s (median), {max(ended):.2f} s (maximum)" if ended else "")
