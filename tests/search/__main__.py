"""python -m search MODE ACTIONS START BUDGET [KIND,…]: one scenario on demand, with transcripts."""

import sys

from .engine import Search
from .world import KINDS, MODES, Scenario, actors


def main() -> None:
    """Run what the arguments ask for."""
    mode, actions, start, budget, *kinds = sys.argv[1:]
    for m in MODES if mode == "all" else [mode]:
        for one in (KINDS if kinds[0] == "each" else kinds[0].split(",")) if kinds else ["all"]:
            some = frozenset(KINDS if one == "all" else [one])
            scenario = Scenario(m, actors(*actions.split(",")), start, int(budget), some)
            search = Search(scenario).run()
            print(search.summary(), flush=True)
            print("   ", search.terminal)
            for violation in search.violations.values():
                print(search.transcript(violation), flush=True)


main()
