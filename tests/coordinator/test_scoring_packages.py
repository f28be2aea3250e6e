"""`covenant score serve` serves what two officers approved and what was released for its target, in time and in order; whatever else is put before it changes nothing."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from coordinator.deploy.package import write_package
from coordinator.deploy.pieces import read_pieces, write_bundle
from coordinator.deploy.scoring.access import add_caller
from coordinator.deploy.scoring.serving import PackageRef, ServingState, write_state
from coordinator.deploy.targets.base import Order
from coordinator.deploy.targets.kserve import KServeTarget
from coordinator.deploy.targets.settings import KServeSettings
from simulation.bench.releases import TARGET, Releases
from simulation.deployment import free_port
from tests.coordinator.cli_for_tests import Command, commands_in
from tests.coordinator.scoring_for_tests import INFER, exportable, files, output, question

HOUR = timedelta(hours=1)


@pytest.fixture
def releases(tmp_path: Path) -> Releases:
    """A federation that has released for an hour."""
    return Releases.begun(tmp_path, datetime.now(UTC) - HOUR)


@pytest.fixture
def covenant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return commands_in(tmp_path, monkeypatch, capsys)


def made(releases: Releases, version: int, **more: Any) -> PackageRef:
    return releases.package("lending", version, files(exportable(seed=version)), **more)


def tampered(releases: Releases, version: int) -> PackageRef:
    found = made(releases, version)
    path = Path(found.package) / "model.onnx"
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    return found


@contextmanager
def running(folder: Path, *options: str) -> Iterator[httpx.Client]:
    """A service, once it listens; it ends in order."""
    port = free_port()
    command = [sys.executable, "-m", "coordinator.main", "score", "serve", *options, "--port", str(port)]
    with (
        (folder / "stderr").open("wb") as told,
        subprocess.Popen(command, stderr=told) as process,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=20) as client,
    ):
        try:
            until(lambda: client.get("/v2/health/live").is_success, process)
            yield client
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0, (folder / "stderr").read_text()


def until(
    seen: Callable[[], bool], process: subprocess.Popen[bytes] | None = None, within_s: float = 60
) -> None:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        assert process is None or process.poll() is None
        try:
            if seen():
                return
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    raise AssertionError(f"not within {within_s:g} s")


@pytest.mark.slow
def test_a_state_folder_serves_what_was_approved_and_nothing_else(tmp_path: Path, releases: Releases) -> None:
    state = tmp_path / "state"
    state.mkdir()
    refused = {
        "unapproved": (made(releases, 6, approvals=1), "0 of the 1 approvals as model_risk"),
        "tampered": (tampered(releases, 7), "was approved with"),
        "expired": (made(releases, 8, lasts=HOUR / 2), "was good until"),
        "older": (made(releases, 4), "count no more"),
    }
    write_state(state, ServingState(revision=1, stable=made(releases, 5, floor=5)))
    options = ("--state", str(state), *releases.options, "--no-auth-on-loopback")
    with running(tmp_path, *options) as client:
        until(lambda: client.get("/v2/health/ready").is_success)
        before = client.post(INFER, json=question()).json()
        for revision, (package, why) in enumerate(refused.values(), 2):
            write_state(state, ServingState(revision=revision, stable=package))
            until(
                lambda r=revision: (
                    (client.get("/covenant/v1/status").json()["refused"] or {}).get("revision") == r
                )
            )  # type: ignore[misc]
            status = client.get("/covenant/v1/status").json()
            assert why in status["refused"]["why"]
            assert (status["revision"], status["ready"]) == (1, True)
            answer = client.post(INFER, json=question()).json()
            assert (answer["model_version"], output(answer)) == ("5", output(before))
        write_state(state, ServingState(revision=9, stable=made(releases, 9)))
        until(lambda: client.get("/covenant/v1/status").json()["revision"] == 9)


@pytest.mark.slow
def test_kserves_container_serves_its_package_until_that_expires(tmp_path: Path, releases: Releases) -> None:
    lasts = datetime.now(UTC) - releases.at + timedelta(seconds=25)
    package = releases.made("lending", 1, files(exportable()), lasts=lasts)
    folder = write_package(tmp_path, package)
    settings = KServeSettings(
        folder="gitops",
        packages="packages",
        storage="s3://models/covenant",
        namespace="scoring",
        image="registry.example/scoring@sha256:" + "ab" * 32,
        root_config_map="root",
        callers_secret="callers",
        decline_at=0.0,
    )
    order = Order(revision=1, stable=package)
    (container,) = KServeTarget(TARGET, settings).manifest(order)["spec"]["predictor"]["containers"]
    token = add_caller(tmp_path / "callers", "loan-desk")
    mounted = {"/mnt/models": folder, "/var/lib/covenant": tmp_path / "state", "/etc/covenant": tmp_path}
    mounted["/etc/covenant-callers"] = tmp_path
    arguments = list(container["args"])
    for place, each in enumerate(arguments):
        for mount, here in mounted.items():
            if each == mount or each.startswith(mount + "/"):
                arguments[place] = str(here) + each.removeprefix(mount)
    at = arguments.index("--port")
    assert arguments[at + 1] == "8080"
    del arguments[at : at + 2]
    assert arguments[:2] == ["score", "serve"]
    with running(tmp_path, *arguments[2:]) as client:
        ready = container["readinessProbe"]["httpGet"]["path"]
        assert client.get(ready).is_success
        assert client.post(INFER, json=question()).status_code == 401
        asked = {"json": question(), "headers": {"Authorization": f"Bearer {token}"}}
        assert any(output(client.post(INFER, **asked).json(), "reasons")["data"])
        until(lambda: not client.get(ready).is_success)
        answer = client.post(INFER, **asked)
        assert answer.status_code == 503
        assert "expired at" in answer.text


@pytest.mark.slow
def test_a_branch_server_runs_a_bundle_and_nothing_that_is_older(
    tmp_path: Path, releases: Releases, covenant: Command
) -> None:
    def bundle(package: PackageRef) -> str:
        path = tmp_path / f"{Path(package.package).name}.covenant"
        write_bundle(path, read_pieces(Path(package.package)))
        return str(path)

    state = ("--state", str(tmp_path / "state"), *releases.options, "--no-auth-on-loopback")
    older, newer = bundle(made(releases, 1)), bundle(made(releases, 2, floor=2))
    with running(tmp_path, "--package", newer, *state) as client:
        assert client.get("/v2/health/ready").is_success
        assert client.post(INFER, json=question()).json()["model_version"] == "2"
        for wrong, why in (
            (older, "count no more"),
            (bundle(tampered(releases, 3)), "was approved with"),
            (bundle(made(releases, 4, approvals=0)), "nobody has approved this model"),
            (bundle(made(releases, 5, lasts=HOUR / 2)), "was good until"),
        ):
            code, _, told = covenant("score", "serve", "--package", wrong, *state)
            assert (code, why in told) == (3, True), told
        assert client.post(INFER, json=question()).json()["model_version"] == "2"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--state", "state"), "needs --root and --target"),
        (("--state", "state", "--root", "root.json"), "needs --root and --target"),
        (("lending", "--target", "branch"), "leave MODEL out"),
        (("--package", "one.covenant"), "name one MODEL, or a state folder"),
        (("--state", "s", "--root", "root.json", "--target", "t", "--decline-at", "0.5"), "leave --decline-at out"),
    ],
)  # fmt: skip
def test_nothing_is_served_without_somebody_to_trust(
    releases: Releases, covenant: Command, arguments: tuple[str, ...], reason: str
) -> None:
    code, _, told = covenant("score", "serve", *arguments, "--no-auth-on-loopback")
    assert (code, reason in " ".join(told.split())) == (2, True), told
