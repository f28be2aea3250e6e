"""Commands of the simulation floor: the demo, simulations, audits, the benchmarks."""

from __future__ import annotations

import typer

from coordinator.cli.plans import app as plan
from coordinator.cli.privacy import app as privacy
from simulation.cli.bench import bench
from simulation.cli.campaign import campaign
from simulation.cli.capacity import capacity
from simulation.cli.cohorts import simulate_cohorts
from simulation.cli.demo import demo, up
from simulation.cli.payments import bench_payments, simulate_payments
from simulation.cli.privacy_audit import audit
from simulation.cli.robustness import robustness
from simulation.cli.simulate import simulate


def register(app: typer.Typer) -> None:
    """Add these commands to `covenant`."""
    app.command("demo")(demo)
    app.command("up")(up)
    simulate.command("campaign")(campaign)
    simulate.command("cohorts")(simulate_cohorts)
    simulate.command("robustness")(robustness)
    simulate.command("payments")(simulate_payments)
    bench.command("payments")(bench_payments)
    app.add_typer(simulate, name="simulate")
    app.add_typer(bench, name="bench")
    privacy.command("audit")(audit)
    plan.command("capacity")(capacity)
