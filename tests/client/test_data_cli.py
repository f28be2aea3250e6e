"""`covenant-agent data check`: rule, column and count for the site's own people, and no value, whatever is asked for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from client.process import open_agent
from tests.client import loans_for_tests as loans
from tests.client.secure_for_tests import VICTIM, SecureBank, secure_bank
from tests.client.test_client_cli import left

CANARY = "canary-4711"


@pytest.fixture
def bank() -> Iterator[SecureBank]:
    with secure_bank() as made:
        yield made


@pytest.fixture
def config(bank: SecureBank) -> Path:
    return bank.folder / VICTIM / "site.yaml"


def spoil(config: Path) -> None:
    data = loans.loans(200)
    data = data.set_column(1, "amount", pa.array([None, float("inf"), *[1.0] * 198]))
    data = data.set_column(4, "status", pa.array([CANARY, *["bad", "good"] * 99, "bad"]))
    pq.write_table(data, config.with_name("rows.parquet"))


def test_rows_that_keep_their_contract(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert left("data", "check", "--config", str(config), "--json") == 0
    said = json.loads(capsys.readouterr().out)["loans"]
    assert (said["accepted"], said["contract"], said["violations"]) == (True, "loans@1", [])


def test_rows_that_break_it(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spoil(config)
    assert left("data", "check", "loans", "--config", str(config), "--json") == 3
    out, err = capsys.readouterr()
    said = json.loads(out)["loans"]
    assert [(each["rule"], each["column"], each["rows"]) for each in said["violations"]] == [
        ("finite", "amount", 1),
        ("missing", "amount", 1),
        ("classes", "status", 1),
    ]
    assert "tells the centre `contract` and no more" in " ".join(err.split())
    assert left("data", "check", "--config", str(config)) == 3
    out, more = capsys.readouterr()
    assert "finite" in more
    assert CANARY not in out + err + more


def test_rows_that_cannot_be_read(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config.with_name("rows.parquet").unlink()
    assert left("data", "check", "--config", str(config), "--json") == 3
    assert "does not exist" in json.loads(capsys.readouterr().out)["loans"]["trouble"]


def test_a_population_that_is_not_there_is_named(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert left("data", "check", "lones", "--config", str(config)) == 2
    assert "it has loans" in capsys.readouterr().err


def test_rows_are_judged_when_the_agent_starts(
    config: Path, bank: SecureBank, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside the connection, which need not be there yet."""
    spoil(config)
    seen: list[object] = []
    monkeypatch.setattr(
        "client.process.threading.Thread", lambda target, args, daemon: _Started(target, args, seen)
    )
    monkeypatch.setattr("client.process.participant", lambda file: bank.participant(VICTIM))
    monkeypatch.setattr("client.process.configure", lambda section: None)
    running = bank.participant(VICTIM)
    with open_agent(config):
        (kept,) = running.rows._kept.values()
    assert seen == [1]
    assert kept.reading is not None
    assert not kept.reading.report.accepted


class _Started:
    """A thread that is over when it has started."""

    def __init__(self, target, args, seen) -> None:  # type: ignore[no-untyped-def]
        self.start = lambda: (target(*args), seen.append(1))
        self.join = lambda: None
