"""`covenant model explain`: why a model scores applications as it does."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from coordinator.cli.model_approvals import ModelArgument
from coordinator.cli.options import Home, Json, centre_at
from coordinator.registry.versions import find_version
from protos.shell import as_written, emit, people
from strategies.errors import UsageError

Request = Annotated[
    Path,
    typer.Argument(
        help="An inference request in JSON, as the scoring service takes it, with the applications."
    ),
]


def register(app: typer.Typer) -> None:
    """Add it to `covenant model`."""
    app.command("explain")(explain_command)


def explain_command(model: ModelArgument, request: Request, home: Home = None, json: Json = False) -> None:
    """What each feature adds to a score, by captum, and how far that is from what the scoring service computes."""
    from coordinator.deploy.scoring.exports import opened_from
    from coordinator.deploy.scoring.offline import explain
    from coordinator.deploy.scoring.protocol import MAX_BODY_BYTES

    try:
        with request.open("rb") as file:
            body = file.read(MAX_BODY_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{request} cannot be read: {error.strerror}") from error
    if len(body) > MAX_BODY_BYTES:
        raise UsageError(f"{request} has more than {MAX_BODY_BYTES} bytes; explain fewer applications")
    centre = centre_at(home)
    version = find_version(centre.engine, model)
    files = {name: centre.artifacts.get(digest) for name, digest in version.artifacts.items()}
    found = explain(opened_from(version.name, version.version, files), body)
    if json:
        rows = zip(found.scores.tolist(), found.contributions.tolist(), found.reasons, strict=True)
        emit(
            {
                "model": version.ref,
                "largest_difference": found.difference,
                "rows": [
                    {
                        "probability": score,
                        "contributions": dict(zip(found.features, added, strict=True)),
                        "reasons": list(reasons),
                    }
                    for score, added, reasons in rows
                ],
            }
        )
        return
    table = Table("row", "probability", "reasons, the strongest first")
    for row, (score, reasons) in enumerate(zip(found.scores.tolist(), found.reasons, strict=True)):
        table.add_row(str(row), f"{score:.4f}", as_written("\n".join(reasons)))
    people.print(table)
    people.print(f"the service's contributions differ by at most {found.difference:.2g}", highlight=False)
