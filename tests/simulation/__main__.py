"""python -m simulation --seed N --steps N [--stop] [--log]: a run on demand, and its figures; again by its seed."""

import argparse
import sys
import time

from .report import report
from .simulation import Simulation


def main() -> int:
    """Run what the arguments ask for."""
    parser = argparse.ArgumentParser(prog="simulation")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--stop", action="store_true", help="at the first violation")
    parser.add_argument("--log", action="store_true", help="print every event")
    parser.add_argument("--tail", type=int, default=60, help="events in a transcript")
    given = parser.parse_args()
    began = time.process_time()
    simulation = Simulation(given.seed, tail=given.tail)
    simulation.listener = print if given.log else None
    simulation.run(given.steps, given.stop)
    for violation in simulation.violations.values():
        print(f"VIOLATION ({violation.count} times) {violation.transcript}\n")
    print(report(simulation))
    print(f"{time.process_time() - began:.1f} CPU seconds", file=sys.stderr)
    return 1 if simulation.violations else 0


sys.exit(main())
