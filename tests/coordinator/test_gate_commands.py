"""`covenant model validate` and `champion`, here and over the control API, and plans that are begun with a champion."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from coordinator.api.model_desk import RemoteModelDesk
from coordinator.bootstrap import Centre
from coordinator.cli.log_words import words_of
from coordinator.db.engine import reading, writing
from coordinator.db.log_schema import LoggedEntry
from coordinator.db.schema import Model, Round, RoundState, Run, RunState
from protos.documents import load_document
from protos.gates import Verdict
from protos.log_entries import LogEntry
from protos.log_gate import GateJudged
from protos.log_office import CallDenied
from protos.model_stages import Stage
from protos.plan import Plan
from protos.plan_evaluation import Champion
from protos.plan_gates import Gate
from strategies.errors import Refused, UsageError
from tests.coordinator.api_for_tests import Bank, plan_of, serving
from tests.coordinator.champion_for_tests import PART, register_champion
from tests.coordinator.cli_for_tests import Command, commands_in, facts_of, make_home
from tests.coordinator.test_plan_commands import CONTRACT

NOTES = {"rows": 10, "positives": 5, "log_loss": 0.5, "ks": 0.4, "brier": 0.1, "calibration": []}
RUN = "run-00000000000000bb"


def register(centre: Centre, auc: float, gates: tuple[Gate, ...] | None) -> None:
    """A candidate whose run evaluated to `auc`."""
    what = plan_of()
    plan = what.plan.model_copy(update={"gates": gates})
    with writing(centre.engine, "registering") as session:
        session.add(
            Run(
                id=RUN, plan_name=plan.name, plan_digest=plan.digest, plan=plan.canonical.decode(),
                contract=what.contract.canonical.decode(), members="{}", state=RunState.COMPLETED,
                submitted_at=centre.clock(),
            )
        )  # fmt: skip
        session.flush()
        session.add(
            Round(
                run_id=RUN, number=plan.training.rounds, attempt=1, state=RoundState.COMMITTED, roster=["a"],
                survivors=["a"], statement_digest="ab" * 32, aggregate_digest="ab" * 32,
                model_digest="ab" * 32, optimizer_digest="ab" * 32, metrics={**NOTES, "auc": auc},
                opened_at=centre.clock(), closed_at=centre.clock(),
            )
        )  # fmt: skip
        session.add(
            Model(
                name="bad-loans", version=1, stage=Stage.CANDIDATE, run_id=RUN, digest="cd" * 32,
                artifacts={}, metrics=None, created_at=centre.clock(),
            )
        )  # fmt: skip


GATES = (Gate(metric="auc", at_least=0.7),)


# --- over the control API -------------------------------------------------------------------------------------------------


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def bank(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bank]:
    url = None if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    yield from serving(tmp_path / "bank", database_url=url)


def asked(desk: RemoteModelDesk) -> tuple[Verdict, Stage]:
    return desk.validate("bad-loans", 1, "a try")


@pytest.mark.parametrize("officer", ["author-1", "risk-1"])
def test_engineers_and_model_risk_have_a_model_judged_from_another_machine(bank: Bank, officer: str) -> None:
    register(bank.centre, 0.75, GATES)
    verdict, stage = asked(bank.model_desk(officer))
    assert (verdict.passed, stage) == (True, Stage.VALIDATED)
    (told,) = bank.told("gate")
    assert isinstance(told, GateJudged)
    assert (told.by, told.why, told.verdict) == (officer, "a try", verdict)


@pytest.mark.parametrize("officer", ["privacy-1", "auditor-1"])
def test_nobody_else_may(bank: Bank, officer: str) -> None:
    register(bank.centre, 0.75, GATES)
    with pytest.raises(Refused, match="takes ml_engineer or model_risk"):
        asked(bank.model_desk(officer))
    assert bank.told("gate") == []
    (denied,) = bank.told("denied")
    assert isinstance(denied, CallDenied)
    assert denied.method == "covenant.control.v1.Models/ValidateModel"


def test_a_verdict_that_fails_is_an_answer_and_no_error(bank: Bank) -> None:
    register(bank.centre, 0.65, GATES)
    verdict, stage = asked(bank.model_desk("risk-1"))
    assert (verdict.passed, stage) == (False, Stage.CANDIDATE)
    assert verdict.failures == ("auc at least 0.7: it is 0.65",)


def test_a_version_that_is_not_there_and_words_that_are_none(bank: Bank) -> None:
    with pytest.raises(UsageError, match="bad-loans@1 is not registered"):
        asked(bank.model_desk("risk-1"))
    register(bank.centre, 0.75, GATES)
    with pytest.raises(UsageError, match="why"):
        bank.model_desk("risk-1").validate("bad-loans", 1, "")


# --- on the coordinator's own machine -------------------------------------------------------------------------------------


@pytest.fixture
def covenant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return commands_in(tmp_path, monkeypatch, capsys)


@pytest.fixture
def centre(tmp_path: Path) -> Centre:
    from coordinator.bootstrap import open_centre
    from coordinator.settings import load_settings

    make_home(tmp_path / "home")
    return open_centre(load_settings(tmp_path / "home"))


def judged(covenant: Command, *more: str, code: int = 0) -> Any:
    return facts_of(covenant, "model", "validate", "bad-loans@1", "--why", "a try", *more, code=code)


def test_a_verdict_is_printed(covenant: Command, centre: Centre) -> None:
    register(centre, 0.75, GATES)
    found = judged(covenant)
    assert (found["model"], found["stage"], found["passed"], found["failures"]) == (
        "bad-loans@1",
        "validated",
        True,
        [],
    )
    assert Verdict.model_validate_json(json.dumps(found["verdict"]), strict=True).digest == found["digest"]
    code, out, err = covenant("model", "validate", "bad-loans@1", "--why", "again")
    assert (code, out) == (0, "")
    assert "auc at least 0.7" in err
    assert "bad-loans@1 is validated" in err
    with reading(centre.engine, "looking") as session:
        bodies = session.scalars(select(LoggedEntry.body).order_by(LoggedEntry.seq)).all()
    told = LogEntry.from_canonical(bytes(bodies[-1])).what
    assert words_of(told) == "bad-loans@1 passed its gates, asked by an operator: again"


@pytest.mark.parametrize("gates", [GATES, None])
def test_one_that_fails_leaves_with_3(
    covenant: Command, centre: Centre, gates: tuple[Gate, ...] | None
) -> None:
    register(centre, 0.65, gates)
    found = judged(covenant, code=3)
    assert (found["stage"], found["passed"]) == ("candidate", False)
    code, _, err = covenant("model", "validate", "bad-loans@1", "--why", "again")
    assert code == 3
    assert ("failed: auc at least 0.7: it is 0.65" if gates else "failed: the plan has no gates") in err


@pytest.mark.parametrize("name", ["bad-loans", "bad-loans@latest", "bad-loans@", "bad-loans@1234567890"])
def test_a_version_is_named_by_its_number(covenant: Command, centre: Centre, name: str) -> None:
    code, _, err = covenant("model", "validate", name, "--why", "a try")
    assert code == 2
    assert "names no version" in err


def test_what_a_plan_says_of_a_champion_is_printed_and_begins_the_next_plan(
    covenant: Command, centre: Centre, tmp_path: Path
) -> None:
    register_champion(centre)
    code, out, _ = covenant("model", "champion", "older@1")
    assert code == 0
    (tmp_path / "champion.json").write_text(out)
    assert load_document(tmp_path / "champion.json", Champion) == PART


@pytest.mark.parametrize("mode", ["distributed", "none"])
def test_a_new_plan_with_a_champion_is_accepted_at_once(
    covenant: Command, centre: Centre, tmp_path: Path, mode: str
) -> None:
    (tmp_path / "lending-club.yaml").write_text(CONTRACT)
    covenant("plan", "new", "plain", "--members", "home/members.json")
    plain = load_document(tmp_path / "plain.yaml", Plan)
    contract = facts_of(covenant, "plan", "check", "plain.yaml", "--contract", "lending-club.yaml")[
        "contract"
    ]["digest"]
    part = PART.model_copy(update={"contract": contract, "features": plain.features})
    (tmp_path / "champion.json").write_text(part.model_dump_json(exclude_none=True))
    code, _, err = covenant(
        "plan", "new", "next", "--members", "home/members.json", "--contract", "lending-club.yaml", "--mode", mode,
        "--champion", "champion.json",
    )  # fmt: skip
    assert code == 0, err
    plan = load_document(tmp_path / "next.yaml", Plan)
    assert plan.evaluation.champion == part
    assert plan.gates is not None
    assert [gate.over for gate in plan.gates] == [None, "champion"]
    _, _, page = covenant("plan", "explain", "next.yaml", "--contract", "lending-club.yaml")
    assert "The champion older@1 is tried on the same rows" in page
    assert "auc over the champion's at least -0.02" in page
