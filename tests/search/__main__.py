"""One search on demand, or many; with transcripts.

    python -m search MODE ACTIONS START BUDGET [KIND,… | each]     PYTHONPATH=lib:tests; MODE: one, or all
    python -m search plain | special | probing | probing-pairs | stopping | returns     those of catalogue.py
    python -m search renamed | edited | crowded
    python -m search adversity | alone | static BUDGET                                  with so many adversities
    LIMIT=5000000: states of each; PART=2/5: the second fifth of the scenarios
"""

import os
import sys
from typing import Iterator, List

from . import catalogue
from .engine import Search
from .world import KINDS, MODES, Scenario, actors


def asked(mode: str, actions: str, start: str, budget: int, kinds: str = "") -> Iterator[Scenario]:
    """The scenarios that the arguments name."""
    for m in MODES if mode == "all" else [mode]:
        for some in [[k] for k in KINDS] if kinds == "each" else [kinds.split(",") if kinds else KINDS]:
            yield Scenario(m, actors(*actions.split(",")), start, budget, frozenset(some))


def scenarios(arguments: List[str]) -> List[Scenario]:
    """What the arguments ask for."""
    first, *more = arguments
    if first == "plain":
        return [*catalogue.plain()]
    if first == "adversity":
        return [*catalogue.with_adversity(int(more[0]))]
    if first == "special":
        return catalogue.special_pairs()
    if first == "probing":
        return [*catalogue.probing(), *catalogue.probing_with_adversity()]
    if first == "probing-pairs":
        return [*catalogue.probing_pairs()]
    if first == "stopping":
        return [*catalogue.stopping()]
    if first == "returns":
        return [*catalogue.returns(), *catalogue.returns_alone()]
    if first == "renamed":
        return [*catalogue.renamed(), *catalogue.renamed_with_adversity()]
    if first == "crowded":
        return [*catalogue.crowded()]
    if first == "static":
        return [*catalogue.with_static_groups(int(more[0]))]
    if first == "edited":
        return [*catalogue.with_edited_tags()]
    if first == "alone":
        return [*catalogue.alone(int(more[0]))]
    actions, start, budget, *kinds = more
    return [*asked(first, actions, start, int(budget), *kinds)]


def main() -> None:
    """Search, and print."""
    part, _, parts = os.environ.get("PART", "1/1").partition("/")
    failed = False
    for scenario in scenarios(sys.argv[1:])[int(part) - 1 :: int(parts)]:
        search = Search(scenario, int(os.environ.get("LIMIT", "5000000"))).run()
        print(search.summary(), flush=True)
        for violation in search.violations.values():
            failed = True
            print(search.transcript(violation), flush=True)
    sys.exit(failed)


main()
