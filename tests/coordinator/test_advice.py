"""What the history of runs advises about a plan."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import Engine

from coordinator.bootstrap import Centre, open_centre
from coordinator.db import writing
from coordinator.db.engine import reading
from coordinator.db.progress_schema import SiteExchange
from coordinator.deploy.monitoring.retraining.advice import BATCH, DEADLINE, INVITE, MINIMUM, Advice, advise
from coordinator.settings import load_settings
from protos.plan import Plan
from tests.coordinator.cli_for_tests import Command, commands_in, facts_of, make_home
from tests.coordinator.conftest import RUN
from tests.coordinator.gate_for_tests import gated_run
from tests.coordinator.loop_for_tests import leave_history
from tests.private_plan_for_tests import NONE, private_plan, write_documents


@pytest.fixture
def centre(tmp_path: Path, engine: Engine) -> Centre:
    make_home(tmp_path / "home")
    from dataclasses import replace

    made = replace(open_centre(load_settings(tmp_path / "home")), engine=engine)
    with writing(engine, "submitting") as session:
        session.add(gated_run())
    return made


def advised(centre: Centre, plan: Plan | None = None) -> Advice:
    with reading(centre.engine, "looking") as session:
        return advise(session, plan or private_plan())


def test_without_history_nothing_is_advised_and_that_is_said(centre: Centre) -> None:
    found = advised(centre)
    assert [each.proposed for each in found.proposals] == [None] * 4
    assert "not enough history: 0 rounds of runs like it, and it takes 29" in found.of(DEADLINE).says
    leave_history(centre, rounds=28)
    assert advised(centre).of(DEADLINE).proposed is None
    assert advised(centre).of(DEADLINE).rests_on == 28


def test_deadline_batch_and_minimum_are_learnt_and_say_on_what_they_rest(centre: Centre) -> None:
    leave_history(centre, rounds=40, seconds=12.0)
    found = advised(centre)
    deadline = found.of(DEADLINE)
    assert (deadline.now, deadline.proposed, deadline.rests_on) == ("300s", "30s", 40)
    # A round of 128 units took its slowest site about 12 seconds, so 300 s twice over bear about twelve times as many.
    batch = found.of(BATCH)
    assert batch.proposed == 128
    assert 1400 < int(batch.says.split()[2]) < 1700
    assert found.of(MINIMUM).proposed == 4  # everybody has always come
    assert found.of(INVITE).proposed == ["west", "midwest", "northeast", "south"]


def test_a_batch_that_is_too_large_for_the_deadline_is_lowered(centre: Centre) -> None:
    leave_history(centre, rounds=40, seconds=12.0)
    short = private_plan(("round_deadline: 5m", "round_deadline: 12s"))
    assert 50 <= int(str(advised(centre, short).of(BATCH).proposed)) <= 70


def test_a_site_that_is_away_often_is_named_with_its_counts(centre: Centre) -> None:
    leave_history(centre, rounds=40, missed={"south": 25, "west": 1})
    found = advised(centre)
    invite = found.of(INVITE)
    assert invite.proposed == ["west", "midwest", "northeast"]
    assert "south (25 of 40, 25 of them refusals)" in invite.says
    assert "no" not in invite.says.split("refusals")[1].split()  # what the site said is not repeated
    minimum = found.of(MINIMUM)
    assert minimum.proposed is None or minimum.proposed == 3
    facts = found.facts()
    assert [each["missed"] for each in facts["sites"] if each["site"] == "south"] == [25]


def test_runs_of_another_contract_or_algorithm_are_no_history(centre: Centre) -> None:
    leave_history(centre, rounds=40)
    assert advised(centre, private_plan(*NONE)).history.runs == ()
    other = private_plan(("contract: lending-club@1", "contract: mortgages@1"))
    assert advised(centre, other).history.runs == ()
    wider = private_plan(("features: [funded_amnt, int_rate, term]", "features: [funded_amnt, int_rate]"))
    found = advised(centre, wider)
    assert found.of(DEADLINE).proposed is not None
    assert found.of(BATCH).proposed is None  # other work in a round


def test_who_still_answers_is_not_counted(centre: Centre) -> None:
    leave_history(centre, rounds=40)
    with writing(centre.engine, "asking") as session:
        for number in range(41, 81):
            session.add(
                SiteExchange(
                    run_id=RUN, stage="train", round=number, site="west", asked=1, answered=0, sent=1, received=0, seconds=0.0,
                    step="input", waiting=True, trouble=None, changed_at=centre.clock(),
                )
            )  # fmt: skip
    assert advised(centre).history.sites["west"].absence.missed == 0


def test_the_command_shows_proposals_beside_the_plan(
    tmp_path: Path, migrated_sqlite: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from shutil import copyfile

    make_home(tmp_path / "home")
    copyfile(migrated_sqlite, tmp_path / "home" / "covenant.db")
    centre = open_centre(load_settings(tmp_path / "home"))
    with writing(centre.engine, "submitting") as session:
        session.add(gated_run())
    leave_history(centre, rounds=40)
    write_documents(tmp_path)
    covenant: Command = commands_in(tmp_path, monkeypatch, capsys)
    found = facts_of(covenant, "plan", "advise", "plan.yaml")
    assert found["plan"] == "lending-default"
    assert {each["what"]: each["rests_on"] for each in found["proposals"]} == {
        DEADLINE: 40,
        BATCH: 40,
        MINIMUM: 40,
        INVITE: 160,
    }
    code, _, err = covenant("plan", "advise", "plan.yaml")
    assert code == 0
    assert "from 1 runs like it" in err
    assert "training.round_deadline" in err
