"""A short simulation; a long one on demand: `cd tests; PYTHONPATH=../lib:. python -m simulation --steps 1000000`."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from .report import report
from .simulation import Simulation

TESTS = Path(__file__).resolve().parents[1]
STEPS = 25_000


@pytest.mark.parametrize("seed", [1, int(os.environ.get("SIMULATION_SEED", "20261126"))])
def test_nothing_goes_wrong_in_simulated_days(seed, record_property):
    """SIMULATION_SEED is another one to try: ``python -m simulation`` runs many steps of it."""
    simulation = Simulation(seed)
    simulation.run(STEPS)
    record_property("measured", report(simulation).splitlines()[0])
    record_property("steps of simulations", simulation.steps)
    assert simulation.steps >= STEPS
    assert not simulation.violations, "\n\n".join(v.transcript for v in simulation.violations.values())


def test_the_same_seed_is_the_same_run_to_the_byte():
    """Whatever the order in which Python keeps sets."""
    logs = []
    for hashing in ("1", "2"):
        environment = {**os.environ, "PYTHONPATH": f"{TESTS.parent / 'lib'}:{TESTS}", "PYTHONHASHSEED": hashing}
        command = [sys.executable, "-m", "simulation", "--seed", "3", "--steps", "2000", "--log"]
        logs.append(subprocess.run(command, cwd=TESTS, env=environment, stdout=subprocess.PIPE, timeout=120).stdout)
    assert len(logs[0].splitlines()) > 500
    assert logs[0] == logs[1]
