"""Versions handed to a real MLflow server, which runs in an environment of its own."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from coordinator.registry.mlflow_export import hand_over
from protos.artifact_keys import SIGNATURE_FILE
from protos.model_stages import Stage
from simulation.deployment import free_port
from strategies.errors import Unreachable, UsageError
from tests.coordinator.private_for_tests import Templates, templates
from tests.coordinator.registry_for_tests import GATED, NAME, Registry

__all__ = ["templates"]
VARIABLE = "COVENANT_TEST_MLFLOW"
SERVER = Path(os.environ.get(VARIABLE, Path(__file__).parents[2] / ".venv-mlflow")) / "bin" / "mlflow"
_STARTS_WITHIN_S = 200.0


@dataclass(frozen=True)
class Server:
    """A server, and what it says by its own API."""

    url: str

    def ask(self, method: str, **query: str) -> dict[str, Any]:
        found = httpx.get(f"{self.url}/api/2.0/mlflow/{method}", params=query, trust_env=False)
        found.raise_for_status()
        return dict(found.json())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Skips where there is none, and fails in CI."""
    if not SERVER.exists():
        reason = f"no MLflow server at {SERVER} ({VARIABLE}); `make test-long` installs one"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    folder, port = tmp_path_factory.mktemp("mlflow"), free_port()
    command = [
        *(str(SERVER), "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
        *("--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}", "--artifacts-destination", str(folder)),
    ]
    quiet = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
    with (folder / "log").open("wb") as log:
        running = subprocess.Popen(
            command, cwd=folder, env=quiet, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            found = Server(f"http://127.0.0.1:{port}")
            _wait(found, running, folder / "log")
            yield found
        finally:
            with suppress(ProcessLookupError):
                os.killpg(running.pid, 15)
            try:
                running.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(running.pid, 9)
                running.wait()


def _wait(server: Server, running: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + _STARTS_WITHIN_S
    while time.monotonic() < until and running.poll() is None:
        with suppress(httpx.HTTPError):
            if httpx.get(f"{server.url}/health", trust_env=False).status_code == httpx.codes.OK:
                return
        time.sleep(0.2)
    pytest.fail(f"the MLflow server did not start: {log.read_text()[-2000:]}")


@pytest.fixture(scope="module")
def registry(templates: Templates) -> Iterator[Registry]:
    federation = templates.copy(GATED)
    made = Registry.of(federation)
    made.approved()
    yield made
    federation.close()


@pytest.mark.slow
def test_a_version_is_handed_over_once_and_brought_up_to_date(
    server: Server, registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # where nobody is
    centre, version = registry.federation.centre, registry.version
    first = hand_over(centre, version, server.url)
    assert (first.name, first.version, first.fresh) == (NAME, "1", True)

    run = server.ask("runs/get", run_id=first.run)["run"]
    metrics = {each["key"]: each["value"] for each in run["data"]["metrics"]}
    assert version.metrics is not None
    assert metrics["auc"] == version.metrics["auc"]
    params = {each["key"]: each["value"] for each in run["data"]["params"]}
    assert params["training.rounds"] == "2"
    assert params["features"] == "amount, income, term"
    assert run["info"]["status"] == "FINISHED"

    listed = server.ask("artifacts/list", run_id=first.run, path="model")["files"]
    assert {Path(each["path"]).name for each in listed} >= {*version.artifacts, SIGNATURE_FILE}
    sent = httpx.get(
        f"{server.url}/get-artifact",
        params={"run_id": first.run, "path": "model/model.onnx"},
        trust_env=False,
    )
    assert sent.content == centre.artifacts.get(version.artifacts["model.onnx"])

    found = server.ask("model-versions/get", name=NAME, version="1")["model_version"]
    tags = {each["key"]: each["value"] for each in found["tags"]}
    assert tags["covenant.digest"] == version.digest
    assert tags["covenant.plan_digest"] == registry.federation.plan.digest
    assert tags["covenant.stage"] == "approved"
    assert found["run_id"] == first.run

    registry.go(Stage.DEPLOYED)
    again = hand_over(centre, registry.version, server.url)
    assert (again.version, again.run, again.fresh) == ("1", first.run, False)
    found = server.ask("model-versions/get", name=NAME, version="1")["model_version"]
    assert {"key": "covenant.stage", "value": "deployed"} in found["tags"]
    assert (
        server.ask("registered-models/alias", name=NAME, alias="champion")["model_version"]["version"] == "1"
    )

    registry.go(Stage.QUARANTINED)
    hand_over(centre, registry.version, server.url)
    found = server.ask("model-versions/get", name=NAME, version="1")["model_version"]
    assert {"key": "covenant.stage", "value": "quarantined"} in found["tags"]
    assert found.get("aliases", []) == []
    assert os.environ["http_proxy"] == "http://127.0.0.1:9"


@pytest.mark.slow
def test_a_server_that_is_not_there(registry: Registry) -> None:
    with pytest.raises(Unreachable, match="does not answer"):
        hand_over(registry.federation.centre, registry.version, f"http://127.0.0.1:{free_port()}")


@pytest.mark.parametrize("url", ["file:///tmp/x", "127.0.0.1:5000", "http://", "sqlite:///x.db"])
def test_what_is_no_server_is_refused(url: str, registry: Registry) -> None:
    with pytest.raises(UsageError, match="is no MLflow server"):
        hand_over(registry.federation.centre, registry.version, url)


def test_no_password_is_written_into_a_url(registry: Registry) -> None:
    with pytest.raises(UsageError, match="write no name or password into the URL") as refused:
        hand_over(registry.federation.centre, registry.version, "http://somebody:hidden@127.0.0.1:5000")
    assert "hidden" not in str(refused.value)
