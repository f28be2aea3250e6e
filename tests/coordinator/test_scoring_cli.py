"""A registered model is tried on loopback and explained apart from the service, by commands."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import numpy as np
import pytest

from coordinator.bootstrap import open_centre
from coordinator.db import writing
from coordinator.registry.versions import register
from coordinator.settings import load_settings
from simulation.deployment import free_port
from strategies.encoding import sha256_hex
from tests.coordinator.cli_for_tests import commands_in, facts_of, make_home
from tests.coordinator.conftest import RUN, submitted
from tests.coordinator.scoring_for_tests import INFER, exportable, files, output, question, reference


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    make_home(folder)
    centre = open_centre(load_settings(folder))
    with writing(centre.engine, "submitting") as session:
        session.add(submitted())
    register(
        centre.engine,
        centre.artifacts,
        name="lending",
        run_id=RUN,
        files=files(exportable()),
        weights=sha256_hex(b"the last model"),
        metrics=None,
        clock=centre.clock,
    )
    return folder


def test_a_registered_model_is_served_and_its_decisions_are_checked(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    port = free_port()
    command = [sys.executable, "-m", "coordinator.main", "score", "serve", "lending", "--home", str(home)]
    with (
        subprocess.Popen(
            [*command, "--port", str(port), "--no-auth-on-loopback", "--decline-at", "0.5"]
        ) as server,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client,
    ):
        try:
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline:
                assert server.poll() is None
                try:
                    if client.get("/v2/health/ready").is_success:
                        break
                except httpx.TransportError:
                    time.sleep(0.05)
            answer = client.post(INFER, json=question())
            np.testing.assert_allclose(output(answer.json())["data"], reference(), rtol=0, atol=1e-5)
            assert any(output(answer.json(), "reasons")["data"])
            assert "server" not in answer.headers
        finally:
            server.send_signal(signal.SIGTERM)
            assert server.wait(20) == 0
    covenant = commands_in(tmp_path, monkeypatch, capsys)
    log = home / "scoring" / "lending" / "decisions"
    found = facts_of(covenant, "score", "decisions", str(log))
    assert (found["lines"], found["torn_bytes"]) == (1, 0)
    (path,) = log.glob("*.jsonl")
    request = tmp_path / "request.json"
    request.write_text(json.dumps(question()))
    key = log.parent / "decisions.key"
    explained = facts_of(covenant, "model", "explain", "lending@1", str(request), "--decisions-key", str(key))
    assert [row["digest"] for row in explained["rows"]] == json.loads(path.read_text())["inputs"]
    code, _, told = covenant(
        "model", "explain", "lending@1", str(request), "--decisions-key", str(tmp_path / "none")
    )
    assert (code, "name the key of the decision log" in told) == (2, True)
    assert not (tmp_path / "none").exists()
    assert covenant("model", "explain", "lending@1", "--decisions-key", str(key))[0] == 2
    path.write_text(path.read_text().replace('"n":1', '"n":2'))
    code, _, told = covenant("score", "decisions", str(log))
    assert code == 3
    assert "does not follow" in told


def test_a_registered_model_is_explained(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    covenant = commands_in(tmp_path, monkeypatch, capsys)
    request = tmp_path / "request.json"
    request.write_text(json.dumps(question()))
    found = facts_of(covenant, "model", "explain", "lending@1", str(request))
    assert found["model"] == "lending@1"
    assert found["largest_difference"] < 1e-2
    np.testing.assert_allclose([row["probability"] for row in found["rows"]], reference(), rtol=0, atol=1e-5)
    for row in found["rows"]:
        strongest = max(row["contributions"], key=row["contributions"].get)
        if row["contributions"][strongest] > 0:
            assert row["reasons"]
    code, _, told = covenant("model", "explain", "lending", str(request))
    assert code == 0
    assert "Too much was asked for" in told
    request.write_text("{}")
    code, _, told = covenant("model", "explain", "lending", str(request))
    assert code == 2
    assert "is not an inference request" in told
