"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from coordinator.bootstrap import Centre, open_centre
from coordinator.deploy.desk import DeployDesk
from coordinator.deploy.monitoring.desk import MonitorDesk
from coordinator.deploy.monitoring.retraining.desk import LoopDesk
from coordinator.desk import Desk
from coordinator.model_desk import ModelDesk
from coordinator.settings import HOME_VARIABLE, load_settings

Home = Annotated[
    Path | None,
    typer.Option(
        help="The coordinator's folder; else $COVENANT_HOME, else ./covenant-home.", envvar=HOME_VARIABLE
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]

TrustedRoot = Annotated[
    Path, typer.Option("--root", help="The federation's root.json, from where you trust it.")
]
KnownMembers = Annotated[
    Path | None,
    typer.Option(
        "--members", help="The newest members.json that you have: a log that ends before it is refused."
    ),
]
ACCESS_VARIABLE = "COVENANT_ACCESS"
Access = Annotated[
    Path | None,
    typer.Option(
        help="Access folder of an officer: speak to the coordinator over its control API, whatever --home says; else $COVENANT_ACCESS.",
        envvar=ACCESS_VARIABLE,
    ),
]
PlanFile = Annotated[Path, typer.Argument(help="The plan, in YAML.")]
ContractFile = Annotated[
    Path | None, typer.Option("--contract", help="Its data contract; else NAME.yaml beside the plan.")
]
PlanName = Annotated[
    Path, typer.Argument(metavar="PLAN", help="The plan, in YAML; or the digest of one that was proposed.")
]


def centre_at(home: Path | None) -> Centre:
    """The coordinator whose folder is `home`."""
    return open_centre(load_settings(home))


def desk_at(home: Path | None, access: Path | None) -> Desk:
    """The coordinator that `access` opens from another machine, or the one whose folder is `home`."""
    if access is None:
        from coordinator.office.desk import LocalDesk

        return LocalDesk(centre_at(home))
    from coordinator.api.client import ControlClient
    from coordinator.api.desk import RemoteDesk

    return RemoteDesk(ControlClient(access))


def model_desk_at(home: Path | None, access: Path | None) -> ModelDesk:
    """The registry of the coordinator that `access` opens from another machine, or of the one whose folder is `home`."""
    if access is None:
        from coordinator.office.model_desk import LocalModelDesk

        return LocalModelDesk(centre_at(home))
    from coordinator.api.client import ControlClient
    from coordinator.api.model_desk import RemoteModelDesk

    return RemoteModelDesk(ControlClient(access))


def monitor_desk_at(home: Path | None, access: Path | None) -> MonitorDesk:
    """The monitoring of the coordinator that `access` opens from another machine, or of the one whose folder is `home`."""
    if access is None:
        from coordinator.office.monitor_desk import LocalMonitorDesk

        return LocalMonitorDesk(centre_at(home))
    from coordinator.api.client import ControlClient
    from coordinator.api.monitor_desk import RemoteMonitorDesk

    return RemoteMonitorDesk(ControlClient(access))


def loop_desk_at(home: Path | None, access: Path | None) -> LoopDesk:
    """The loop of the coordinator that `access` opens from another machine, or of the one whose folder is `home`."""
    if access is None:
        from coordinator.office.loop_desk import LocalLoopDesk

        return LocalLoopDesk(centre_at(home))
    from coordinator.api.client import ControlClient
    from coordinator.api.loop_desk import RemoteLoopDesk

    return RemoteLoopDesk(ControlClient(access))


def deploy_desk_at(home: Path | None, access: Path | None) -> DeployDesk:
    """The deployments of the coordinator that `access` opens from another machine, or of the one whose folder is `home`."""
    if access is None:
        from coordinator.office.deploy_desk import LocalDeployDesk

        return LocalDeployDesk(centre_at(home))
    from coordinator.api.client import ControlClient
    from coordinator.api.deploy_desk import RemoteDeployDesk

    return RemoteDeployDesk(ControlClient(access))
