"""The centre's commands: nouns and verbs, tables on stderr, one JSON object on stdout with --json."""

from __future__ import annotations

import typer

from coordinator.cli import (
    access,
    backup,
    centre,
    console,
    deploy,
    desk,
    diagnose,
    forecast,
    gaps,
    halts,
    incidents,
    keys,
    ledger,
    log,
    loop,
    members,
    model_explain,
    model_gate,
    models,
    monitor,
    plans,
    policies,
    privacy,
    restores,
    roots,
    runs,
    score,
    sites,
)

forecast.register(ledger.app)
model_explain.register(models.app)
restores.app.add_typer(gaps.app, name="gap")


def register(app: typer.Typer) -> None:
    """Add the centre's commands to `covenant`."""
    centre.register(app)
    diagnose.register(app)
    app.command("desk")(desk.desk)
    app.add_typer(plans.app, name="plan")
    app.add_typer(runs.app, name="run")
    app.add_typer(keys.app, name="key")
    app.add_typer(roots.app, name="root")
    app.add_typer(members.app, name="members")
    app.add_typer(sites.app, name="site")
    app.add_typer(privacy.app, name="privacy")
    app.add_typer(ledger.app, name="ledger")
    app.add_typer(log.app, name="log")
    app.add_typer(halts.app, name="halt")
    app.add_typer(incidents.app, name="incident")
    app.add_typer(policies.app, name="policy")
    models.app.command("validate")(model_gate.validate)
    models.app.command("champion")(model_gate.champion)
    app.add_typer(models.app, name="model")
    app.add_typer(score.app, name="score")
    app.add_typer(deploy.app, name="deploy")
    app.add_typer(monitor.app, name="monitor")
    app.add_typer(loop.app, name="loop")
    app.add_typer(access.app, name="access")
    app.add_typer(console.app, name="console")
    app.add_typer(backup.app, name="backup")
    app.add_typer(restores.app, name="restore")
