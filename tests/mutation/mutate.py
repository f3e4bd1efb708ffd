"""Runs tests on a copy of the project for each mutant; started by tests/mutation/run.

What was judged is kept in build/mutation/verdicts.jsonl, so that a run that was ended goes on where it was. A verdict
counts as long as the mutant's function is the same; one of survival, as long as the tests are, too.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import json
import os
import random
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from queue import Queue
from typing import Dict, Iterable, List, Optional, Sequence, Tuple

from mutation import generate
from mutation.mutants import EQUIVALENT, mutants
from mutation.source import Mutant

TOP = Path(__file__).resolve().parents[2]
BUILD = TOP / "build" / "mutation"
VERDICTS = BUILD / "verdicts.jsonl"
COPIED = (
    *("agents", "lib", "tests", "doc", ".github", "README.md", "LICENSE"),
    *(".pytest.ini", ".mypy.ini", ".ruff.toml"),
)
# Of the core: in this order, each by itself, as far as they exist; those first that notice most in the least time.
_FIRST = (
    "off off_backup off_roll_back off_untracking off_groups off_stop on on_groups on_concurrent on_power isolation"
)
CORE_TESTS = (" ".join(f"core/test_{name}.py" for name in _FIRST.split()), "core", "search")
FALLBACK = ("unit", "agent", "matrix")  # of the others, after the tests that should notice
LIMIT = 900  # seconds for one mutant
REPORT = BUILD / "report.md"


@dataclass
class Verdict:
    """What became of a mutant; ``killed_by``: a test, or None if it survived."""

    key: str
    killed_by: Optional[str]
    seconds: float
    function: str = ""
    tests: str = ""


class Tree:
    """A copy of the project that can be broken, with an agent that runs from it."""

    def __init__(self, number: int, with_agent: bool) -> None:
        self.top = BUILD / f"{'agent' if with_agent else 'core'}-{number}"
        self.with_agent = with_agent
        shutil.rmtree(self.top, ignore_errors=True)
        self.top.mkdir(parents=True)
        for name in COPIED:
            source = TOP / name
            copy = shutil.copytree if source.is_dir() else shutil.copy
            copy(source, self.top / name)
        self.agent = self.top / "fence_aws_vpc_net"
        hypothesis = {"HYPOTHESIS_STORAGE_DIRECTORY": str(self.top / "hypothesis"), "PYTHONDONTWRITEBYTECODE": "1"}
        self.env = {**os.environ, "AGENT": str(self.agent), **hypothesis}
        self.env.pop("PYTHONPATH", None)
        self._server: Optional[subprocess.Popen[str]] = None

    def holds(self, mutant: Optional[Mutant]) -> None:
        """Put the product's sources here, one of them broken, and make the agent of them."""
        for name in ("agents", "lib"):
            shutil.copytree(TOP / name, self.top / name, dirs_exist_ok=True)
        if mutant is not None:
            path = self.top / mutant.path
            path.write_text(mutant.broken(path.read_text(encoding="utf-8")), encoding="utf-8")
        if self.with_agent:
            # By content, as two mutants of one second can be of one size.
            compiled = ["-m", "compileall", "-q", "--invalidation-mode", "checked-hash", str(self.top / "lib")]
            subprocess.run([os.environ["PYTHON"], *compiled], check=True)
            self._make_agent()

    def _make_agent(self) -> None:
        """As make does it; the values are those of the agent that was built, but for the folder of the modules."""
        built = Path(os.environ["AGENT"]).read_text(encoding="utf-8").splitlines()
        source = (self.top / "agents/aws_vpc_net/fence_aws_vpc_net.py").read_text(encoding="utf-8")
        lines = source.splitlines()
        lines[0] = built[0]
        place = next(n for n, line in enumerate(lines) if "@AWSVPCNETDIR@" in line)
        folders = re.findall(r'"([^"]*)"', next(line for line in built if line.startswith("sys.path.extend")))
        lines[place] = f"sys.path.extend(p for p in {(str(self.top / 'lib'), *folders[1:])!r} if p)"
        version = next(line for line in built if line.startswith("VERSION = "))
        text = "\n".join(version if line.startswith("VERSION = ") else line for line in lines) + "\n"
        self.agent.write_text(text, encoding="utf-8")
        self.agent.chmod(0o755)

    def fails(self, tests: Sequence[str], limit: float, jobs: int = 0) -> Optional[str]:
        """The first of these tests that fails, or does not end; None if none does."""
        paths = [f"tests/{test}" for test in tests]
        output = self.top / "output"
        arguments = ["-x", "-q", "--tb=no", "-o", "timeout=60", "-n", str(jobs), *paths]
        job = {"folder": str(self.top), "arguments": arguments, "output": str(output), "limit": limit}
        code = self._ask(job)
        if code == 0:
            return None
        if code == -1:
            return "the limit of time"
        text = output.read_text(encoding="utf-8", errors="replace")
        failed = re.search(r"^(?:FAILED|ERROR) tests/(\S+)", text, re.MULTILINE)
        if failed is None and "Timeout" not in text:
            raise RuntimeError(f"{paths}: pytest ended with {code}\n{text[-4000:]}")
        return failed[1] if failed else "the limit of time of a test"

    def _ask(self, job: Dict[str, object]) -> int:
        """The exit code of pytest in a fork of a process that has loaded it; -1: it did not end in time."""
        if self._server is None:
            command = [sys.executable, str(Path(__file__).with_name("quick.py"))]
            self._server = subprocess.Popen(
                command, cwd=self.top, env=self.env, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(job) + "\n")
        self._server.stdin.flush()
        return int(self._server.stdout.readline())

    def close(self) -> None:
        """End the process that pytest is forked from."""
        if self._server is not None:
            self._server.communicate(timeout=10)


# --- judging ---------------------------------------------------------------------------------------------------


def selections(mutant: Mutant, tests: Sequence[str], fallback: bool) -> List[Tuple[str, ...]]:
    """What is run, one after the other until something fails: as far as it exists."""
    own = f"core/test_{Path(mutant.path).stem}.py"  # those of the module notice most of what is not noticed otherwise
    core = [[own], *(t.split() for t in tests)]
    given = [mutant.tests, *((f,) for f in FALLBACK if fallback)] if mutant.tests else core
    some = [tuple(t for t in group if (TOP / "tests" / t.partition("::")[0]).exists()) for group in given]
    return [group for group in some if group]


def judge(tree: Tree, mutant: Mutant, groups: Sequence[Tuple[str, ...]]) -> Verdict:
    """Try these tests until one fails, or the time is over."""
    began = time.monotonic()
    tree.holds(mutant)
    killer = None
    for tests in groups:
        left = LIMIT - (time.monotonic() - began)
        killer = killer or (tree.fails(tests, left) if left > 0 else None)
    seconds = round(time.monotonic() - began, 1)
    return Verdict(mutant.key, killer, seconds, digest(mutant.function), digest_of(groups))


def digest(text: str) -> str:
    """A short one, to compare."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def digest_of(groups: Sequence[Tuple[str, ...]]) -> str:
    """Of the tests' own text."""
    return digest(" ".join(_digest_of_tests(t.partition("::")[0]) for group in groups for t in group))


@cache
def _digest_of_tests(name: str) -> str:
    path = TOP / "tests" / name
    files = sorted(path.rglob("*.py")) if path.is_dir() else sorted(path.parent.glob("*.py"))
    return digest("".join(f.read_text(encoding="utf-8") for f in files))


def kept() -> Dict[str, Verdict]:
    """The latest verdict on each mutant, of earlier runs."""
    if not VERDICTS.exists():
        return {}
    verdicts = [Verdict(**json.loads(line)) for line in VERDICTS.read_text(encoding="utf-8").splitlines()]
    return {v.key: v for v in verdicts}


def still_counts(verdict: Optional[Verdict], mutant: Mutant, groups: Sequence[Tuple[str, ...]]) -> bool:
    """Would it be the same today?"""
    if verdict is None or verdict.function != digest(mutant.function):
        return False
    return verdict.killed_by is not None or verdict.tests == digest_of(groups)


def judge_all(mutants: Sequence[Mutant], tests: Sequence[str], jobs: int, fallback: bool) -> List[Verdict]:
    """All of them, so many at a time; a line each as they come."""
    before = kept()
    trees: Queue[Tree] = Queue()
    for number in range(jobs):
        trees.put(Tree(number, with_agent=any(m.tests for m in mutants)))

    def one(mutant: Mutant) -> Verdict:
        groups = selections(mutant, tests, fallback)
        earlier = before.get(mutant.key)
        if earlier is not None and still_counts(earlier, mutant, groups):
            return earlier
        tree = trees.get()
        try:
            verdict = judge(tree, mutant, groups)
        finally:
            trees.put(tree)
        with VERDICTS.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(verdict)) + "\n")
        how = f"killed by {verdict.killed_by}" if verdict.killed_by else "SURVIVED"
        print(f"{verdict.seconds:6.1f} s  {mutant.key}: {how}", flush=True)
        return verdict

    with ThreadPoolExecutor(jobs) as pool:
        verdicts = list(pool.map(one, mutants))
    while not trees.empty():
        trees.get().close()
    return verdicts


def unbroken(mutants: Sequence[Mutant], tests: Sequence[str], jobs: int) -> Optional[str]:
    """The tests that are tried first pass where nothing is broken; else the one that does not."""
    first = {t for m in mutants for group in selections(m, tests, False) for t in group}
    whole = sorted(
        t for t in first if not any(t != other and t.startswith((f"{other}/", f"{other}::")) for other in first)
    )
    tree = Tree(0, with_agent=any(m.tests for m in mutants))
    tree.holds(None)
    failed = tree.fails(whole, 1800, jobs)
    tree.close()
    return failed


# --- the result ------------------------------------------------------------------------------------------------


def summary(verdicts: Iterable[Verdict]) -> List[str]:
    """A line for each module, as rows of a table."""
    some = list(verdicts)
    modules = Counter(v.key.split(".")[0] for v in some)
    killed = Counter(v.key.split(".")[0] for v in some if v.killed_by)
    same = Counter(v.key.split(".")[0] for v in some if v.key in EQUIVALENT and not v.killed_by)
    rows = [(m, n, killed[m], same[m], n - killed[m] - same[m]) for m, n in sorted(modules.items())]
    head = ["| module | mutants | killed | equivalent | survived |", "|---|---|---|---|---|"]
    return [*head, *("| " + " | ".join(map(str, row)) + " |" for row in rows)]


def survivors(verdicts: Iterable[Verdict]) -> List[str]:
    """The keys of those that survived, and are not known to change nothing."""
    return [v.key for v in verdicts if v.killed_by is None and v.key not in EQUIVALENT]


def report(verdicts: Sequence[Verdict], by_hand: Sequence[str]) -> None:
    """Write the result to the build folder."""
    alive = survivors(verdicts)
    head = f"{datetime.date.today()}: {len(verdicts)} mutants, {len(alive)} survived."
    listed = [f"- `{key}`" for key in alive]
    same = [f"- `{key}`: {why}" for key, why in EQUIVALENT.items()]
    rules = [v for v in verdicts if v.key in by_hand]
    rows = ["| broken by hand | killed by |", "|---|---|"]
    rows += [f"| {v.key} | {v.killed_by.partition('[')[0] if v.killed_by else '**survived**'} |" for v in rules]
    parts = [[head], summary(verdicts), listed, ["Equivalent:"] if same else [], same, rows if rules else []]
    REPORT.write_text("\n\n".join("\n".join(p) for p in parts if p) + "\n", encoding="utf-8")


def chosen_of(given: argparse.Namespace) -> List[Mutant]:
    """The mutants that the command line asks for."""
    every = [*([] if given.by_hand else generate.mutants(TOP)), *([] if given.core else mutants(TOP))]
    chosen = [m for m in every if not given.words or any(w in m.key for w in given.words)]
    if given.survivors:
        before = kept()
        chosen = [m for m in chosen if m.key in before and before[m.key].killed_by is None]
    if given.sample:
        chosen = random.Random(given.sample).sample(chosen, min(given.sample, len(chosen)))
    return chosen


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("-j", type=int, default=2, dest="jobs", help="mutants at a time")
    parser.add_argument("--core", action="store_true", help="only those made of the core")
    parser.add_argument("--by-hand", action="store_true", help="only the others")
    parser.add_argument("--tests", action="append", help="below tests/, for those of the core; again: afterwards")
    parser.add_argument("--sample", type=int, help="only so many, always the same")
    parser.add_argument("--survivors", action="store_true", help="only those that have survived so far")
    parser.add_argument("--fresh", action="store_true", help="forget what was judged before")
    parser.add_argument("--no-fallback", action="store_true", help="by hand: only the tests that should notice")
    parser.add_argument("--list", action="store_true", help="only say which they are")
    parser.add_argument("words", nargs="*", help="only those whose key has one of these words")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    """The exit code."""
    given = parsed(arguments)
    chosen = chosen_of(given)
    if given.list:
        print("\n".join(m.key for m in chosen))
        return 0
    BUILD.mkdir(parents=True, exist_ok=True)
    if given.fresh:
        VERDICTS.unlink(missing_ok=True)
    tests = given.tests or CORE_TESTS
    began = time.monotonic()
    failed = unbroken(chosen, tests, given.jobs) if chosen else "no such mutant"
    if failed is not None:
        print(f"nothing is broken, and this fails: {failed}")
        return 1
    print(f"{time.monotonic() - began:6.1f} s  nothing broken: all pass", flush=True)
    verdicts = judge_all(chosen, tests, given.jobs, not given.no_fallback)
    alive = survivors(verdicts)
    report(verdicts, [m.key for m in chosen if m.tests])
    print("\n".join([*summary(verdicts), *(f"survived: {key}" for key in alive)]))
    print(f"{len(verdicts)} mutants, {len(alive)} survived, {time.monotonic() - began:.0f} s")
    return 1 if alive else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
