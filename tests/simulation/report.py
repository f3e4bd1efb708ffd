"""The figures of a run."""

from typing import Counter

from .simulation import Simulation


def _counted(what: Counter[str]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in sorted(what.items())) or "none"


def report(simulation: Simulation) -> str:
    """In a few lines."""
    found = sum(v.count for v in simulation.violations.values())
    return "\n".join(
        [
            f"seed {simulation.seed}: {simulation.steps:,} steps, {simulation.now / 86400:.1f} simulated days",
            f"invocations: {_counted(simulation.counts)}",
            f"faults: {_counted(simulation.faults)}",
            f"excuses: {_counted(simulation.excuses)}",
            f"violations: {found}, of {len(simulation.violations)} kinds",
        ]
    )
