"""The ServerApp that every Covenant run names: it finds its run in the coordinator's database and drives it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from coordinator.flower.manifest import RUN_KEY
from strategies.ids import run_id

if TYPE_CHECKING:
    from coordinator.bootstrap import Centre


def server_app(opened: Callable[[], Centre], *, watched: bool = False) -> ServerApp:
    """A ServerApp over the coordinator that `opened` opens; `watched` as in `drive_run`."""
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        """Drive the Covenant run that the Flower run carries; a failure is in the database before it is raised."""
        from coordinator.bootstrap import drive_run

        run = run_id(str(context.run_config[RUN_KEY]))
        drive_run(opened(), run, grid, flower_run=context.run_id, watched=watched)

    return app


def _open() -> Centre:
    from coordinator.bootstrap import open_centre
    from protos.logs import configure

    configure(words=True)
    return open_centre()


app = server_app(_open, watched=True)
