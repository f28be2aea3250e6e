"""The ServerApp that every Covenant run names: it finds its run in the coordinator's database and drives it."""

from __future__ import annotations

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp
from flwr.superlink.grid import HttpGrid

from coordinator.flower.manifest import RUN_KEY
from strategies.errors import CovenantError
from strategies.ids import run_id

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Drive the Covenant run that the Flower run carries; a failure is in the database before it is raised."""
    from coordinator.bootstrap import drive_run

    if not isinstance(grid, HttpGrid):
        raise CovenantError(f"this ServerApp runs over a SuperLink; it was given a {type(grid).__name__}")
    drive_run(run_id(str(context.run_config[RUN_KEY])), grid, flower_run=context.run_id)
