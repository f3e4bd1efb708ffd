"""Runs the tests on a copy of the project for each mutant; started by tests/mutation/run."""

import argparse
import datetime
import os
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import Queue
from typing import List, Optional, Sequence

from mutation.mutants import MUTANTS, Mutant

TOP = Path(__file__).resolve().parents[2]
BUILD = TOP / "build" / "mutation"
COPIED = ("agents", "lib", "tests", "doc", "README.md", "LICENSE", ".pytest.ini", ".mypy.ini", ".ruff.toml")
FALLBACK = ("unit", "agent", "schedules", "matrix")
LIMIT = 900  # seconds for one mutant
PAGE = TOP / "doc" / "mutation.md"
MARK = "<!-- result -->\n"


@dataclass
class Verdict:
    """What became of a mutant."""

    mutant: Mutant
    killed_by: Optional[str]  # a test; None: it survived
    seconds: float


class Tree:
    """A copy of the project that can be broken, with an agent that runs from it."""

    def __init__(self, number: int) -> None:
        self.top = BUILD / str(number)
        shutil.rmtree(self.top, ignore_errors=True)
        self.top.mkdir(parents=True)
        for name in COPIED:
            source = TOP / name
            copy = shutil.copytree if source.is_dir() else shutil.copy
            copy(source, self.top / name)
        self.agent = self.top / "fence_aws_vpc_net"
        self.env = {
            **os.environ,
            "AGENT": str(self.agent),
            "HYPOTHESIS_STORAGE_DIRECTORY": str(self.top / "hypothesis"),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        self.env.pop("PYTHONPATH", None)

    def holds(self, mutant: Optional[Mutant]) -> None:
        """Put the product's sources here, one of them broken, and make the agent of them."""
        for name in ("agents", "lib"):
            shutil.copytree(TOP / name, self.top / name, dirs_exist_ok=True)
        if mutant is not None:
            path = self.top / mutant.path
            text = path.read_text(encoding="utf-8")
            assert text.count(mutant.old) == 1, f"{mutant.rule}: does not apply"
            path.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")
        # By content, as two mutants of one second can be of one size.
        compiled = [sys.executable, "-m", "compileall", "-q", "--invalidation-mode", "checked-hash"]
        subprocess.run([os.environ["PYTHON"], *compiled[1:], str(self.top / "lib")], check=True)
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
        """The first of these tests that fails; None if none does."""
        paths = [f"tests/{test}" for test in tests]
        command = [sys.executable, "-m", "pytest", "-x", "-q", "--tb=no", "-o", "timeout=60", "-n", str(jobs)]
        try:
            done = subprocess.run(
                [*command, *paths],
                cwd=self.top,
                env=self.env,
                capture_output=True,
                text=True,
                timeout=limit,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return None
        if done.returncode == 0:
            return None
        found = re.search(r"^(?:FAILED|ERROR) tests/(\S+::\S+)", done.stdout, re.MULTILINE)
        if found is None:
            raise RuntimeError(
                f"{paths}: pytest ended with {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
            )
        return found[1]


def judge(tree: Tree, mutant: Mutant, fallback: bool) -> Verdict:
    """Try the likely tests, then all others until the time is over."""
    began = time.monotonic()
    tree.holds(mutant)
    for tests in (mutant.tests, *(((f,) for f in FALLBACK) if fallback else ())):
        left = LIMIT - (time.monotonic() - began)
        killer = tree.fails(tests, left) if left > 0 else None
        if killer is not None:
            return Verdict(mutant, killer, time.monotonic() - began)
    return Verdict(mutant, None, time.monotonic() - began)


def judge_all(mutants: Sequence[Mutant], jobs: int, fallback: bool) -> List[Verdict]:
    """All of them, so many at a time; a line each as they come."""
    trees: Queue[Tree] = Queue()
    for number in range(jobs):
        trees.put(Tree(number))

    def one(mutant: Mutant) -> Verdict:
        tree = trees.get()
        try:
            verdict = judge(tree, mutant, fallback)
        finally:
            trees.put(tree)
        how = f"killed by {verdict.killed_by}" if verdict.killed_by else "SURVIVED"
        print(f"{verdict.seconds:6.1f} s  {mutant.rule}: {how}", flush=True)
        return verdict

    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(one, mutants))


def sound(mutants: Sequence[Mutant], jobs: int) -> Optional[str]:
    """The tests that are tried first, and ``unit``, pass where nothing is broken; else the one that does not."""
    tests = sorted({"unit", *(test for mutant in mutants for test in mutant.tests)})
    files = {test for test in tests if "::" not in test}
    tree = Tree(0)
    tree.holds(None)
    return tree.fails([t for t in tests if t in files or t.partition("::")[0] not in files], 1800, jobs)


def table(verdicts: Sequence[Verdict]) -> str:
    """The result as a page shows it."""
    killed = sum(v.killed_by is not None for v in verdicts)
    head = f"{datetime.date.today()}: {len(verdicts)} mutants, {killed} killed, {len(verdicts) - killed} survived.\n"
    rows = [f"| {v.mutant.rule} | `{v.mutant.path.rpartition('/')[2]}` | {_shown(v.killed_by)} |" for v in verdicts]
    return "\n".join((head, "| broken rule | in | killed by |", "|---|---|---|", *rows)) + "\n"


def _shown(test: Optional[str]) -> str:
    return f"{test.partition('[')[0]}" if test else "**survived**"


def write(verdicts: Sequence[Verdict]) -> None:
    """Replace the result in the page."""
    text = PAGE.read_text(encoding="utf-8").partition(MARK)[0]
    PAGE.write_text(f"{text}{MARK}\n{table(verdicts)}", encoding="utf-8")


def main(arguments: Sequence[str]) -> int:
    """The exit code."""
    parser = argparse.ArgumentParser()
    parser.add_argument("-j", type=int, default=2, dest="jobs", help="mutants at a time")
    parser.add_argument("--no-fallback", action="store_true", help="only the tests that should notice")
    parser.add_argument("--write", action="store_true", help="write the result to doc/mutation.md")
    parser.add_argument("words", nargs="*")
    given = parser.parse_args(arguments)
    chosen = [m for m in MUTANTS if not given.words or any(w in m.rule for w in given.words)]
    began = time.monotonic()
    if not given.words:
        failed = sound(chosen, given.jobs)
        if failed is not None:
            print(f"nothing is broken, and {failed} fails")
            return 1
        print(f"{time.monotonic() - began:6.1f} s  nothing broken: all pass", flush=True)
    verdicts = judge_all(chosen, given.jobs, not given.no_fallback)
    if given.write:
        write(verdicts)
    killed = sum(v.killed_by is not None for v in verdicts)
    counts = f"{len(verdicts)} mutants, {killed} killed, {len(verdicts) - killed} survived"
    print(f"{counts}, {time.monotonic() - began:.0f} s")
    return 0 if killed == len(verdicts) > 0 else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
