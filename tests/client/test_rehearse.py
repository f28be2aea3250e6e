"""A rehearsal computes what the agent would, on the site's own rows, and touches neither journal nor accounts nor the network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.rehearsal import Rehearser
from client.training import PrivateSession, TrainingSession
from client.training.champion import Scorer
from client.training.pace import no_progress
from protos.frames import Stage
from protos.payloads import payload_of
from protos.plan import Plan
from strategies.ids import site_name
from tests.bank_for_tests import Bank, make_bank
from tests.client.loans_for_tests import CONTRACT, plan
from tests.client.private_for_tests import CENTRAL, LOCAL, private_bank, private_plan
from tests.client.secure_for_tests import VICTIM
from tests.client.test_champion_scores import PART, with_champion

TODAY = date(2026, 3, 2)
WATCHED = """
import json, sys
seen = []
def watch(event, args):
    if event.startswith(("socket.", "sqlite3.")) and event not in {"socket.gethostname"}:
        seen.append(event)
    if event == "open" and isinstance(args[0], (str, bytes)) and (set(str(args[1] or "")) & set("wax+")):
        seen.append(f"writes {args[0]}")
sys.addaudithook(watch)
from client.cli import app
from protos.shell import run_command
try:
    run_command(lambda: app(sys.argv[1:], standalone_mode=False))
finally:
    print(json.dumps(seen), file=sys.stderr)
"""


def rehearse(folder: Path, config: Path, of: Plan, *more: str) -> tuple[int, dict[str, Any], list[str], str]:
    """Exit code, result, what was opened, and what people read, of the command in a process that is watched."""
    file = folder / "plan.json"
    file.write_bytes(of.canonical)
    done = subprocess.run(
        [sys.executable, "-B", "-c", WATCHED, "rehearse", str(file), "--config", str(config), *more],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"COLUMNS": "200"},
    )
    people, _, seen = done.stderr.strip().rpartition("\n")
    return done.returncode, json.loads(done.stdout or "{}"), json.loads(seen or done.stderr), people


def content(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(each): (each.read_bytes(), each.stat().st_mtime_ns)
        for each in folder.rglob("*")
        if each.is_file()
    }


@pytest.fixture
def bank(tmp_path: Path) -> Bank:
    return make_bank(tmp_path)


def test_neither_journal_nor_accounts_nor_the_network_are_touched(bank: Bank, tmp_path: Path) -> None:
    """A control: the same watch sees what `witness` opens."""
    config, before = bank.config_file("west"), content(bank.folder / "west")
    code, found, seen, _ = rehearse(tmp_path, config, plan(), "--rounds", "3", "--json")
    assert code == 0
    assert seen == []
    assert content(bank.folder / "west") == before
    assert [each["round"] for each in found["rounds"]] == [1, 2, 3]
    assert found["cost"] == "nothing is charged: the plan has no privacy"
    assert found["sent_bytes"] == {"prepare": 2 * 3 * 8, "train": 7 * 8, "evaluate": 2 * 100 * 8}
    assert found["rounds"][-1]["log_loss"] < found["rounds"][0]["log_loss"]
    watched = [sys.executable, "-B", "-c", WATCHED, "halts", "--config", str(config)]
    control = subprocess.run(watched, capture_output=True, text=True, check=False)
    assert any(
        each.startswith("sqlite3.connect") for each in json.loads(control.stderr.strip().rpartition("\n")[2])
    )


@pytest.mark.parametrize("private", [False, True])
def test_a_champion_is_scored_too_for_what_its_shape_takes(
    bank: Bank, monkeypatch: pytest.MonkeyPatch, private: bool
) -> None:
    session, scored = PrivateSession if private else TrainingSession, []
    evaluate = session.evaluate

    def look(self: Any, model: Any, scaling: Any, champion: Scorer | None = None) -> Any:
        scored.append(champion)
        return evaluate(self, model, scaling, champion)

    monkeypatch.setattr(session, "evaluate", look)
    base = private_plan() if private else plan()

    def rehearsed(of: Plan) -> list[Any]:
        config = bank.config("west")
        source = config.source_for("loans@1")
        assert source is not None
        made = Rehearser(of, CONTRACT, source, config, lambda: 0.0, os.urandom, no_progress, TODAY)
        return [each.metrics for each in made.rehearse(1).rounds]

    with_it = rehearsed(with_champion(base))
    (champion,) = scored
    assert champion is not None
    assert champion.shape.hidden == PART.shape.hidden
    assert [each.name for each in champion.features.features] == ["amount"]
    if not private:
        assert with_it == rehearsed(base)


def test_people_read_what_it_takes_and_that_nothing_happened(bank: Bank, tmp_path: Path) -> None:
    code, _, _, shown = rehearse(tmp_path, bank.config_file("west"), plan())
    assert code == 0
    for words in (
        "rehearsed at west, with west alone",
        "MiB were resident",
        "cost of the whole plan",
        "nothing was sent, and nothing charged",
    ):
        assert words in shown


def test_a_plan_that_the_site_would_refuse_is_rehearsed_all_the_same_and_leaves_with_3(
    bank: Bank, tmp_path: Path
) -> None:
    bank.edit("west", "policy:\n", "policy:\n  forbid_features: [term]\n")
    code, found, _, _ = rehearse(tmp_path, bank.config_file("west"), plan(), "--json")
    assert (code, len(found["rounds"])) == (3, 2)
    assert [each["rule"] for each in found["findings"] if each["outcome"] == "refuses"] == [
        "policy.forbid_features"
    ]


def test_a_plan_for_data_that_are_not_there(bank: Bank, tmp_path: Path) -> None:
    code, _, _, shown = rehearse(
        tmp_path, bank.config_file("west"), plan().model_copy(update={"contract": "cards@1"})
    )
    assert code == 3
    assert "west has no data under contract cards@1, so there is nothing to rehearse with" in shown


@pytest.mark.parametrize("changes", [{}, CENTRAL, LOCAL], ids=["distributed", "central", "local"])
def test_private_plans_are_rehearsed_and_priced(changes: dict[str, str]) -> None:
    of = private_plan(changes)
    with private_bank(of) as bank:
        config = bank.participant(VICTIM).config
        source = config.source_for(of.contract)
        assert source is not None
        done = Rehearser(of, CONTRACT, source, config, lambda: 0.0, os.urandom, no_progress, TODAY).rehearse(
            2
        )
        assert len(done.rounds) == 2
        assert done.cost.startswith("epsilon ")
        assert "of a ceiling of epsilon 12" in done.cost
        for stage in Stage:
            payload = payload_of(of, CONTRACT, stage, of.sites.invite)
            assert done.sent[stage.name.lower()] == -(-payload.dimension * payload.ring.bits // 8)


def test_a_rehearsal_trains_what_the_agent_trains(bank: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first update is, to the bit, that of the agent's own session from the same model."""
    from client.data import read_source
    from client.training import TrainingSession
    from strategies.analytics.moments import scaling_from

    config = bank.config("west")
    source = config.source_for("loans@1")
    assert source is not None
    updates: list[np.ndarray] = []
    train = TrainingSession.train
    monkeypatch.setattr(TrainingSession, "train", lambda *given: updates.append(train(*given)) or updates[-1])  # type: ignore[func-returns-value]
    Rehearser(plan(), CONTRACT, source, config, lambda: 0.0, os.urandom, no_progress, TODAY).rehearse(1)
    monkeypatch.undo()
    rows = read_source(source, CONTRACT, today=TODAY, spool=None).accepted()
    one = TrainingSession(plan(), CONTRACT, rows, site=site_name("west"))
    expected = one.train(one.model.initial(plan().training.seed), scaling_from(one.moments()), 1)
    np.testing.assert_array_equal(updates[0], expected)


def test_a_rehearsal_that_takes_longer_than_a_round_may_says_so(bank: Bank) -> None:
    config = bank.config("west")
    source = config.source_for("loans@1")
    assert source is not None
    seconds = iter(range(0, 10_000_000, 1000))
    slow = Rehearser(
        plan(), CONTRACT, source, config, lambda: float(next(seconds)), os.urandom, no_progress, TODAY
    )
    done = slow.rehearse(1)
    assert done.slowest_s > done.deadline_s
    assert done.facts()["in_time"] is False
