"""The commands of windows with a real service: HTTP with a token, a kill, a restart, outcomes, and a signed file to carry."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from coordinator.deploy.scoring.access import add_caller
from coordinator.deploy.scoring.serving import ServingState, write_state
from protos.keys import SigningKey
from protos.windows import Window, Windows
from simulation.deployment import free_port
from tests.coordinator.cli_for_tests import commands_in, facts_of
from tests.coordinator.scoring_for_tests import INFER, exportable, package, question, releases_in
from tests.coordinator.windows_for_tests import AGREED, MONITOR

pytestmark = pytest.mark.slow
WINDOWS = "/covenant/v1/windows"


@contextmanager
def served(folder: Path, token: str) -> Iterator[tuple[subprocess.Popen[bytes], httpx.Client]]:
    port = free_port()
    command = [
        *(sys.executable, "-m", "coordinator.main", "score", "serve", "--state", str(folder)),
        *releases_in(folder, _NOW).options,
        *(
            "--port",
            str(port),
            "--callers",
            str(folder / "callers"),
            "--monitor",
            str(folder / "monitor.yaml"),
        ),
    ]
    headers = {"Authorization": f"Bearer {token}"}
    with (
        subprocess.Popen(command) as server,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, headers=headers) as client,
    ):
        try:
            _until(lambda: _ready(server, client))
            yield server, client
        finally:
            server.terminate()
            server.wait(20)


_NOW = datetime.now(UTC).replace(microsecond=0)


def test_windows_of_a_real_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "monitor.yaml").write_text(MONITOR.replace("1d", "2s").replace("noise: 4.0", "noise: 30.0"))
    token = add_caller(tmp_path / "callers", "loan-desk")
    stable = package(tmp_path, 3, exportable(AGREED), AGREED, at=_NOW)
    write_state(tmp_path, ServingState(revision=1, stable=stable))
    covenant = commands_in(tmp_path, monkeypatch, capsys)
    with served(tmp_path, token) as (server, client):
        # Versions are expected from the first look on, a second after the start: windows of a day lose nothing by it, and one of two seconds might.
        _until(lambda: _windows(client).windows)
        for each in range(20):
            assert client.post(INFER, json={"id": f"a{each}", **question()}).is_success
        decided = datetime.now(UTC)
        first = _until(lambda: _windows_up_to(decided, client))
        assert client.get(WINDOWS, headers={"Authorization": "Bearer no"}).status_code == 401
        assert first[0].counted is not None
        server.send_signal(signal.SIGKILL)
        server.wait(20)
    with served(tmp_path, token) as (_, client):
        last = first[-1].sequence
        later = _until(lambda: _windows(client, after=last).windows)
        assert later[0].sequence == last + 1
        assert later[0].spent > first[0].spent
        rows = "\n".join(f"a{each},0,{'bad' if each % 2 else 'good'}" for each in range(25))
        (tmp_path / "o.csv").write_text(f"request,row,outcome\n{rows}\n")
        span = f"{first[0].number}-{first[-1].number}"
        told = facts_of(
            covenant,
            "score",
            "outcomes",
            str(tmp_path / "o.csv"),
            "--state",
            str(tmp_path),
            "--windows",
            span,
        )
        assert (told["rows"], told["counted"], told["apart"]) == (25, 20, {"unknown": 5})
        assert [each for each in _windows(client, after=last).windows if each.outcomes is not None]
    SigningKey.generate().save(tmp_path / "edge.key")
    key = SigningKey.load(tmp_path / "edge.key")
    carried = tmp_path / "windows.json"
    found = facts_of(
        covenant,
        *(
            "score",
            "windows",
            "--state",
            str(tmp_path),
            "--export",
            str(carried),
            "--key",
            str(key_path(tmp_path)),
        ),
    )
    windows = Windows.from_canonical(carried.read_bytes().strip())
    windows.require(key.public)
    assert windows.place == "bench"
    assert [each["sequence"] for each in found["windows"]] == [each.sequence for each in windows.windows]
    assert len(found["gaps"]) == 1  # it was killed once, and ended in order once
    code, out, _ = covenant("score", "windows", "--state", str(tmp_path))
    assert code == 0
    assert "inputs and scores" in out + _
    json.dumps(found)


def key_path(folder: Path) -> Path:
    return folder / "edge.key"


def test_a_monitor_that_can_tell_nothing_is_refused_before_the_service_listens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "monitor.yaml").write_text(MONITOR.replace("epsilon: 8", "epsilon: 0.5"))
    stable = package(tmp_path, 3, exportable(AGREED), AGREED, at=_NOW)
    write_state(tmp_path, ServingState(revision=1, stable=stable))
    covenant = commands_in(tmp_path, monkeypatch, capsys)
    code, _, said = covenant(
        *("score", "serve", "--state", str(tmp_path), *releases_in(tmp_path, _NOW).options),
        *("--no-auth-on-loopback", "--monitor", str(tmp_path / "monitor.yaml")),
    )
    assert code == 2
    assert "not one window fits its limit" in " ".join(said.split())
    code, _, said = covenant("score", "windows", "--state", str(tmp_path))
    assert code == 3
    assert "--monitor" in said


def _windows(client: httpx.Client, *, after: int = 0) -> Windows:
    return Windows.from_canonical(client.get(WINDOWS, params={"after": after}).content)


def _windows_up_to(moment: datetime, client: httpx.Client) -> tuple[Window, ...]:
    """What was told, once that moment's window was; before, nothing."""
    found = _windows(client).windows
    return found if found and found[-1].ends > moment else ()


def _ready(server: subprocess.Popen[bytes], client: httpx.Client) -> bool:
    assert server.poll() is None
    try:
        return client.get("/v2/health/ready").is_success
    except httpx.TransportError:
        return False


def _until(found):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if what := found():
            return what
        time.sleep(0.1)
    raise AssertionError("it did not come within a minute")
