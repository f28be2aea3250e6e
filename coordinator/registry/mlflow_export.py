"""A version handed to an MLflow server: a run with its parameters, metrics and files, and a registered version that names what the log names.

1. What is handed over is a copy. Nothing that MLflow says is read back into the registry, and nobody approves there.
2. Handed over again, the version that the server has is brought up to date, and no second one made: it is known by its registry digest.
3. MLflow's client is imported where it is used, its telemetry is off, and the proxies of the environment are not looked at.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from coordinator.bootstrap import Centre
from coordinator.registry.compare import figures
from coordinator.registry.exports import export_version
from coordinator.registry.lineage import Lineage, lineage_of
from coordinator.registry.versions import ModelVersion
from protos.egress import quiet_environment
from protos.plan_diff import values_of
from strategies.errors import CovenantError, Unreachable, UsageError

_FILES: Final = "model"
_LONGEST_PARAMETER: Final = 6000
_MOST_AT_ONCE: Final = 100
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SETTINGS: Final = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "60",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class HandedOver:
    """What the MLflow server at `server` calls it: `version` of the registered model `name`, and its `run`. `fresh` where it was not there before."""

    server: str
    name: str
    version: str
    run: str
    fresh: bool


def hand_over(centre: Centre, version: ModelVersion, server: str) -> HandedOver:
    """Copy a version to the MLflow server at the URL `server`. Raises UsageError, Unreachable or CovenantError."""
    _require_url(server)
    lineage = lineage_of(centre, version)
    with _quietly():
        client = _client(server)
        with _clear(server):
            found = _known(client, version)
            if found is not None:
                _bring_up_to_date(client, version, found.version, lineage)
                return HandedOver(
                    server=server, name=version.name, version=found.version, run=found.run_id, fresh=False
                )
            run = _run(client, centre, version, lineage)
            source = f"{client.get_run(run).info.artifact_uri}/{_FILES}"
            made = client.create_model_version(version.name, source, run, tags=_tags(version, lineage))
            _bring_up_to_date(client, version, made.version, lineage)
            return HandedOver(server=server, name=version.name, version=made.version, run=run, fresh=True)


def _run(client: Any, centre: Centre, version: ModelVersion, lineage: Lineage) -> str:  # noqa: ANN401  (has no types)
    """A finished run with parameters, metrics and files; its id."""
    from mlflow.entities import Metric, Param

    experiment = client.get_experiment_by_name(version.name)
    place = client.create_experiment(version.name) if experiment is None else experiment.experiment_id
    at = (version.created_at - _EPOCH) // (_EPOCH.resolution * 1000)
    run: str = client.create_run(
        place, start_time=at, run_name=version.ref, tags=_tags(version, lineage)
    ).info.run_id
    params = [Param(name, value[:_LONGEST_PARAMETER]) for name, value in _parameters(lineage).items()]
    for start in range(0, len(params), _MOST_AT_ONCE):
        client.log_batch(run, params=params[start : start + _MOST_AT_ONCE])
    metrics = [Metric(name, value, at, 0) for name, value in figures(version.metrics or {}).items()]
    client.log_batch(run, metrics=metrics)
    with tempfile.TemporaryDirectory() as made:
        export_version(centre, version, Path(made) / _FILES)
        client.log_artifacts(run, str(Path(made) / _FILES), _FILES)
    client.set_terminated(run)
    return run


def _bring_up_to_date(client: Any, version: ModelVersion, number: str, lineage: Lineage) -> None:  # noqa: ANN401
    """The stage and the aliases as they are now."""
    for key, value in _tags(version, lineage).items():
        client.set_model_version_tag(version.name, number, key, value)
    mine = set(client.get_model_version(version.name, number).aliases)
    for alias in mine - set(version.aliases):
        client.delete_registered_model_alias(version.name, alias)
    for alias in version.aliases:
        client.set_registered_model_alias(version.name, alias, number)


def _known(client: Any, version: ModelVersion) -> Any:  # noqa: ANN401
    """The version on the server with this registry digest, and its model made where there is none; None for one that is not there."""
    if not client.search_registered_models(f"name = '{version.name}'"):
        client.create_registered_model(version.name, description="From Covenant's governance registry.")
    found = client.search_model_versions(
        f"name = '{version.name}' and tags.`covenant.digest` = '{version.digest}'"
    )
    ours = (each for each in found if each.tags.get("covenant.ref") == version.ref)
    return next(ours, None)


def _tags(version: ModelVersion, lineage: Lineage) -> dict[str, str]:
    return {
        "covenant.ref": version.ref,
        "covenant.digest": version.digest,
        "covenant.plan_digest": lineage.plan.digest,
        "covenant.contract_digest": lineage.contract.digest,
        "covenant.run": version.run_id,
        "covenant.stage": str(version.stage),
        "covenant.signed": "true" if version.signature else "false",
        "covenant.participants": ", ".join(lineage.participants),
    }


def _parameters(lineage: Lineage) -> dict[str, str]:
    """The plan's fields by their paths, without those that are empty."""
    values: Mapping[str, Any] = values_of(lineage.plan)
    return {name: text for name, value in sorted(values.items()) if (text := _text(value))}


def _text(value: Any) -> str:  # noqa: ANN401  (whatever a document holds)
    return ", ".join(map(str, value)) if isinstance(value, tuple | list) else str(value)


def _client(server: str) -> Any:  # noqa: ANN401  (the library has no types)
    try:
        from mlflow import MlflowClient
    except ImportError as error:
        raise UsageError("MLflow's client is not installed; install covenant-fl[mlflow]") from error
    return MlflowClient(tracking_uri=server, registry_uri=server)


@contextmanager
def _clear(server: str) -> Iterator[None]:
    """Errors of the client as ours."""
    from mlflow.exceptions import MlflowException, RestException
    from requests import RequestException

    try:
        yield
    except RestException as error:
        raise CovenantError(f"MLflow at {server} refused it: {str(error)[:300]}") from error
    except (MlflowException, RequestException) as error:
        raise Unreachable(
            f"MLflow at {server} does not answer ({str(error)[:300]}); check the URL, and that a server runs there"
        ) from error


@contextmanager
def _quietly() -> Iterator[None]:
    """The environment without proxies and telemetry, as long as the client is used."""
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update({**quiet_environment(before), **_SETTINGS})
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _require_url(server: str) -> None:
    """Raises UsageError for what is no http or https URL, or has a password in it."""
    parts = urlsplit(server)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise UsageError(
            f"{server[:200]!r} is no MLflow server; name one as http://host:port or https://host"
        )
    if parts.username is not None or parts.password is not None:
        raise UsageError(
            "write no name or password into the URL; MLflow's client takes them from MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and"
            " MLFLOW_TRACKING_PASSWORD"
        )
