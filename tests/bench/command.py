"""The command: which cases, in which order, and what is printed and written."""

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Iterator, List, Sequence, Tuple

from . import report, startup, throttled
from .emulator import Emulator
from .measure import Case, Run, run

TOP = Path(__file__).resolve().parents[2]
PAGE, PLOT = TOP / "doc" / "dev" / "performance.md", TOP / "doc" / "dev" / "performance.svg"
MARK = "<!-- bench -->\n"
BARE = str(Path(__file__).with_name("bare.py"))
STATUS_OFF = 2


@dataclass(frozen=True)
class Group:
    """Steps that follow each other, first by the agent, then by the bare script."""

    label: str
    steps: Tuple[str, ...]
    delay: float = 0.0
    interfaces: int = 1
    account: int = 0
    scheme: str = "http"

    def name(self, step: str) -> str:
        """Of the case."""
        return f"{step}{self.label}"


def groups() -> List[Group]:
    """All that is measured."""
    found = [Group("", ("metadata",))]
    for delay in (0.0, 0.05):
        for count in (1, 4, 15):
            steps = ("status", "off", "on") if count == 1 else ("off", "on")
            found.append(Group(f" of {count} at {delay * 1000:.0f} ms", steps, delay, count))
    for count in (1, 15):
        found.append(Group(f" of {count} at 50 ms, HTTPS", ("off", "on"), 0.05, count, scheme="https"))
    for size in (10, 1000, 10000):
        found.append(Group(f" in {size:,}", ("monitor",), 0.05, account=size))
        found.append(Group(f" of {size:,}", ("list",), 0.05, account=size))
    return found


class Bench:
    """Runs groups on an emulator."""

    def __init__(self, emulator: Emulator, folder: Path) -> None:
        self.emulator = emulator
        self.place: Dict[str, str] = emulator("place")
        self.cases: Dict[str, Case] = {}
        self._nodes: Dict[int, str] = {}
        own, bundle = folder / "board_asset_tag", folder / "bundle.pem"
        own.write_text(self.place["own"], encoding="ascii")
        python = os.environ["PYTHON"]
        asked = [python, "-c", "import botocore.httpsession as h; print(h.where())"]
        usual = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
        bundle.write_text(Path(usual).read_text(encoding="utf-8") + self.place["pem"], encoding="utf-8")
        self.env = {
            "PATH": os.environ["PATH"],
            "LC_ALL": "C.UTF-8",
            "HOME": str(folder),
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CA_BUNDLE": str(bundle),
            "AWS_DEFAULT_REGION": self.place["region"],
            "AWS_ACCESS_KEY_ID": self.place["access_key"],
            "AWS_SECRET_ACCESS_KEY": self.place["secret_key"],
            "FENCE_AWS_VPC_NET_DMI": str(own),
        }

    def play(self, group: Group) -> None:
        """Once by each, A B."""
        self.emulator("delay", group.delay)
        self.emulator("size", group.account)
        if group.interfaces not in self._nodes:
            self._nodes[group.interfaces] = self.emulator("node", group.interfaces)
        for step in group.steps:
            self.cases.setdefault(group.name(step), Case(group.name(step)))
        for step in group.steps:
            case = self.cases[group.name(step)]
            case.agent.append(self._isolated(self._agent(step, group), step))
            case.agent_calls = self._calls()
        for step in group.steps:
            case = self.cases[group.name(step)]
            case.bare.append(self._isolated(self._bare(step, group), step))
            case.bare_calls = self._calls()

    def _isolated(self, done: Run, step: str) -> Run:
        """With the time to isolation, by the emulator's record of calls."""
        accepted = [ended for _, ended, error in self.emulator("changes") if not error]
        return done.isolated_at(max(accepted)) if step == "off" else done

    def _calls(self) -> int:
        found: Dict[str, int] = self.emulator("calls")
        return sum(found.values())

    def options(self, action: str, node: str, scheme: str = "http", settle: int = 0) -> str:
        """As Pacemaker gives them."""
        given: Dict[str, Any] = {
            "action": action,
            "plug": node,
            "nodename": "node",
            "region": self.place["region"],
            "endpoint_url": self.place[scheme],
            "secg": self.place["isolation"],
            "invert_sg_removal": 1,
            "settle_time": settle,  # 0: what is measured is the agent, not a wait
        }
        return "".join(f"{k}={v}\n" for k, v in given.items())

    def _agent(self, step: str, group: Group) -> Run:
        command = [os.environ["AGENT"]]
        if step == "metadata":
            return run([*command, "-o", step], self.env)
        return run(command, self.env, self.options(step, self._nodes[group.interfaces], group.scheme))

    def _bare(self, step: str, group: Group) -> Run:
        python = os.environ["PYTHON"]
        if step == "metadata":
            code = f"import sys; sys.path.append({os.environ['FENCINGDIR']!r}); import fencing"
            return run([python, "-c", code], self.env)
        given = [step, self.place[group.scheme], self._nodes[group.interfaces], self.place["isolation"]]
        return run([python, BARE, *given], self.env)


@contextlib.contextmanager
def bench() -> Iterator[Bench]:
    """With all that it needs."""
    with tempfile.TemporaryDirectory() as folder, Emulator() as emulator:
        yield Bench(emulator, Path(folder))


def machine() -> str:
    """In words, without a name."""
    code = "import sys, boto3; print(f'Python {sys.version.split()[0]}, boto3 {boto3.__version__}')"
    asked = [os.environ["PYTHON"], "-c", code]
    versions = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    return f"{os.cpu_count()} cores, {versions}, load {os.getloadavg()[0]:.1f} at the start"


def write(text: str, cases: Sequence[Case]) -> None:
    """Into the document, between the marks; and the plot beside it."""
    before, _, after = PAGE.read_text(encoding="utf-8").split(MARK)
    PAGE.write_text(f"{before}{MARK}{text}{MARK}{after}", encoding="utf-8")
    PLOT.write_text(report.plot(cases), encoding="utf-8")


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="tests/bench/run", description=__doc__)
    parser.add_argument("words", nargs="*", metavar="WORD", help="only the groups with a case whose name has one")
    parser.add_argument("--quick", action="store_true", help="three rounds")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--write", action="store_true", help="put the result into doc/dev/performance.md")
    parser.add_argument("--throttled", action="store_true", help="many nodes at once, with EC2's limits of calls")
    parser.add_argument("--startup", action="store_true", help="where the time goes before the first call")
    options = parser.parse_args()
    about = machine()
    rounds = 3 if options.quick else options.rounds
    with bench() as made:
        if options.startup:
            print(f"{about}; {rounds} rounds\n\n{startup.play(made.env, rounds)}")
            return 0
        if options.throttled:
            return throttled.play(made, os.environ["AGENT"], 1 if options.quick else min(rounds, 3))
        chosen = [
            g for g in groups() if not options.words or any(w in g.name(s) for w in options.words for s in g.steps)
        ]
        for number in range(rounds):
            for group in chosen:
                made.play(group)
            print(f"round {number + 1} of {rounds}", file=sys.stderr)
    return conclude(list(made.cases.values()), f"{about}; {rounds} rounds", options.write)


def conclude(cases: List[Case], about: str, wanted: bool) -> int:
    """Print it, write it; 1 if a goal was missed."""
    body = report.rows(cases)
    reached = report.goals({c.name: c for c in cases})
    table = [(what, str(spread), f"{most:.2f}") for what, spread, most in reached]
    head = ("goal", "ratio (middle half)", "at most")
    print(f"{about}\n\n{report.plain(report.HEAD, body)}\n\n{report.plain(head, table)}")
    if wanted:
        write(f"{about}.\n\n{report.markdown(report.HEAD, body)}\n{report.markdown(head, table)}", cases)
    return int(any(spread.median > most for _, spread, most in reached))


if __name__ == "__main__":
    sys.exit(main())
