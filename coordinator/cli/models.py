"""`covenant model`: what runs produced."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from coordinator.cli import model_approvals, model_evidence, model_fairness, model_value, model_views
from coordinator.cli.model_approvals import ModelArgument
from coordinator.cli.options import Access, Home, Json, centre_at, model_desk_at
from coordinator.registry.exports import export_version
from coordinator.registry.versions import ModelVersion, find_version
from protos.personal import MOST_STATEMENT_BYTES, PersonalStatement
from protos.shell import emit, people
from strategies.errors import UsageError

app = typer.Typer(no_args_is_help=True, help="Registered models: stages, approvals, signatures, lineage.")
for each in (
    model_approvals.approve,
    model_approvals.status,
    model_approvals.quarantine,
    model_approvals.retire,
    model_approvals.release,
    model_approvals.alias,
    model_evidence.state,
    model_evidence.evidence,
    model_fairness.fairness,
    model_value.value,
    model_views.lineage,
    model_views.compare,
    model_views.verify,
    model_views.mlflow,
):
    app.command(each.__name__)(each)


@app.command("list")
def list_models(home: Home = None, access: Access = None, json: Json = False) -> None:
    """All registered model versions."""
    found = list(model_desk_at(home, access).versions())
    if json:
        emit({"models": [_facts(each) for each in found]})
        return
    table = Table("model", "stage", "aliases", "AUC", "run", "digest", "personalised at")
    for each in found:
        auc = f"{each.metrics['auc']:.4f}" if each.metrics else ""
        names, sites = ", ".join(each.aliases), ", ".join(each.personal)
        table.add_row(each.ref, each.stage, names, auc, each.run_id, each.digest[:16], sites)
    people.print(table)


@app.command("export")
def export(model: ModelArgument, folder: Path, home: Home = None) -> None:
    """Write a model's files to a new folder, verified against their digests, with the signature over them and the key that verifies it.

    `model_signing verify key FOLDER --signature FOLDER/model.sig --public_key FOLDER/artifacts.pub` checks them without this program.
    """
    centre = centre_at(home)
    version = find_version(centre.engine, model)
    export_version(centre, version, folder)
    signed = "signed" if version.signature is not None else "NOT signed: there was no key for that"
    people.print(
        f"wrote {len(version.artifacts)} files of {version.ref} to {folder}; they are {signed}",
        highlight=False,
    )


@app.command("personal")
def personal(
    file: Annotated[
        Path, typer.Argument(help="The statement that `covenant-agent personal tell` wrote at a site.")
    ],
    home: Home = None,
    access: Access = None,
    json: Json = False,
) -> None:
    """Record that a site personalises a model, by its signed statement. What came of it stays at the site."""
    try:
        with file.open("rb") as opened:
            data = opened.read(MOST_STATEMENT_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}") from error
    statement = PersonalStatement.from_canonical(data.strip())
    found = model_desk_at(home, access).tell_personal(statement)
    if json:
        emit({"site": statement.site, "models": list(found)})
    else:
        people.print(f"{statement.site} personalises {', '.join(found)}", highlight=False)


def _facts(version: ModelVersion) -> dict[str, object]:
    return {
        "name": version.name,
        "version": version.version,
        "stage": str(version.stage),
        "run": version.run_id,
        "digest": version.digest,
        "artifacts": dict(version.artifacts),
        "metrics": dict(version.metrics) if version.metrics else None,
        "panels": dict(version.panels) if version.panels else None,
        "personal": list(version.personal),
        "aliases": list(version.aliases),
        "signed": version.signature is not None,
    }
