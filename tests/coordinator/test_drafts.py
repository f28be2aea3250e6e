"""Plans drafted from alarms: fitted to what stands today, told to the log, and decided by people."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from coordinator.bootstrap import Centre
from coordinator.db import writing
from coordinator.db.halt_schema import HaltRow
from coordinator.db.monitor_schema import AlarmRow
from coordinator.db.progress_schema import SiteHeard
from coordinator.db.schema import Run
from coordinator.deploy.monitoring.receiving import receive
from coordinator.deploy.monitoring.retraining.drafting import draft as draft_of
from coordinator.deploy.monitoring.retraining.drafting import draft_due
from coordinator.deploy.monitoring.retraining.status import loop_status
from coordinator.deploy.monitoring.retraining.text import written
from coordinator.documents import read_root
from coordinator.governance.halts import row_of as halt_row
from coordinator.governance.log import append, append_again, open_log
from coordinator.governance.replay import Replay
from coordinator.office import retraining as office
from coordinator.office.actors import here
from coordinator.office.requests import Asked
from protos.approvals import PlanEvidence, author
from protos.contract import Contract
from protos.documents import read_document
from protos.log_entries import RunLaunched
from protos.log_loop import ADOPTED_FOR, LoopStory, RetrainingDecided, RetrainingDrafted, RetrainingLaunched
from protos.plan import Plan
from strategies.analytics.drift_causes import NO_OUTCOMES
from strategies.errors import CovenantError, Refused, UsageError
from strategies.ids import Digest, RunId
from tests.coordinator.cli_for_tests import SITES
from tests.coordinator.conftest import RUN
from tests.coordinator.deploy_for_tests import NAME
from tests.coordinator.gate_for_tests import PRIVATE, gated_run
from tests.coordinator.loop_for_tests import (
    leave_history,
    loop_events,
    raise_alarm,
    ready,
    row_of,
    shifted,
)
from tests.coordinator.monitor_for_tests import Population, Watch, made, numbers, watched
from tests.coordinator.recovery_for_tests import told
from tests.halts_for_tests import FEDERATION, ordered
from tests.private_plan_for_tests import CONTRACT, PLAN, Change, plan_text
from tests.trust_for_tests import key_of

__all__ = ["made", "watched"]
NOW = datetime(2026, 11, 24, tzinfo=UTC)


@pytest.fixture
def centre(watched: Watch) -> Centre:
    return ready(watched).works.centre


def plan_of(centre: Centre, draft: str) -> Plan:
    text = row_of(centre, draft).text
    assert text is not None
    return read_document(text, Plan, "the draft")


def with_plan(centre: Centre, *changes: Change, gates: str = PRIVATE) -> None:
    """As if the run had had another plan."""
    plan = read_document(f"{plan_text(*changes)}gates: {gates}\n", Plan, "plan")
    with writing(centre.engine, "changing the run") as session:
        run = session.get_one(Run, RUN)
        run.plan, run.plan_digest = plan.canonical.decode(), plan.digest


def test_an_alarm_drafts_one_whole_plan_against_what_serves(watched: Watch, centre: Centre) -> None:
    alarm = raise_alarm(watched)
    (draft,) = draft_due(centre)
    assert draft_due(centre) == ()
    row, plan = row_of(centre, draft), plan_of(centre, draft)
    assert (row.alarm, row.state, row.drafted_by, row.version) == (alarm, "open", "an alarm", 1)
    assert row.plan == plan.digest
    assert plan.evaluation.champion is not None
    assert plan.evaluation.champion.model == f"{NAME}@1"
    assert [gate.metric for gate in plan.gates or ()] == ["epsilon"]
    assert plan.training.rounds == 40
    assert alarm in " ".join(row.says)
    assert "# lending-default@1, which serves now" in (row.text or "")
    assert row.gain["said"].startswith("expected gain cannot be said: no outcomes have arrived")
    (entry,) = loop_events(centre)
    assert isinstance(entry, RetrainingDrafted)
    assert entry.text == row.text


def test_a_fault_in_the_data_drafts_nothing_by_itself_and_warns_whoever_asks(
    watched: Watch, centre: Centre
) -> None:
    found = Population.usual()
    shares = np.full_like(found.inputs[numbers()[0]], 0.02)
    shares[-1] = 1.0
    found.inputs[numbers()[0]] = shares / shares.sum()
    raise_alarm(watched, population=found)
    assert draft_due(centre) == ()
    row = row_of(centre, draft_of(centre, NAME, by="author-1"))
    assert row.drafted_by == "author-1"
    assert any("Mend the data first" in each for each in row.says)


def test_a_model_has_one_open_draft_also_when_two_draft_at_once(watched: Watch, centre: Centre) -> None:
    raise_alarm(watched)
    (first,) = draft_due(centre)
    with pytest.raises(Refused, match=f"{first} of {NAME} is open; adopt it with"):
        draft_of(centre, NAME, by="author-1")
    office.dismiss(centre, here(), first, "not now")
    assert draft_due(centre) == ()  # the alarm has had its draft
    assert draft_of(centre, NAME, by="author-1") != first
    with pytest.raises(UsageError, match="no model called 'cards'"):
        draft_of(centre, "cards", by="author-1")


# --- fitted to today ----------------------------------------------------------------------------------------------------


def test_sites_that_cannot_take_part_are_left_out_with_the_reason(watched: Watch, centre: Centre) -> None:
    with writing(centre.engine, "hearing") as session:
        session.add(
            SiteHeard(site="south", contract="lending-club@1", fits=False, contract_at=centre.clock())
        )
    raise_alarm(watched)
    (draft,) = draft_due(centre)
    plan = plan_of(centre, draft)
    assert plan.sites.invite == ("west", "midwest", "northeast")
    assert plan.sites.minimum == 3
    assert "# left out: south said last that its rows do not fit lending-club@1" in (
        row_of(centre, draft).text or ""
    )


def test_a_halted_site_is_left_out(watched: Watch, centre: Centre) -> None:
    with writing(centre.engine, "halting") as session:
        row: HaltRow = halt_row(ordered("site", "west", federation=FEDERATION), centre.clock())
        session.add(row)
    raise_alarm(watched)
    (draft,) = draft_due(centre)
    assert plan_of(centre, draft).sites.invite == ("midwest", "northeast", "south")


def test_a_site_that_is_away_often_is_left_out_but_kept_where_there_would_be_too_few(
    watched: Watch, centre: Centre
) -> None:
    leave_history(centre, rounds=40, missed={"south": 30})
    raise_alarm(watched)
    (draft,) = draft_due(centre)
    assert plan_of(centre, draft).sites.invite == ("west", "midwest", "northeast")
    office.dismiss(centre, here(), draft, "more are away by now")
    leave_history(centre, "run-" + "cd" * 8, rounds=40, missed=dict.fromkeys(SITES, 30))
    with writing(centre.engine, "another run") as session:
        session.add(gated_run("run-" + "cd" * 8))
    again = draft_of(centre, NAME, by="author-1")
    assert len(plan_of(centre, again).sites.invite) == 4
    assert "sites that stay away often are kept" in (row_of(centre, again).text or "")


def test_deadline_and_minimum_are_those_that_history_advises(watched: Watch, centre: Centre) -> None:
    leave_history(centre, rounds=40, seconds=12.0)
    raise_alarm(watched)
    (draft,) = draft_due(centre)
    plan = plan_of(centre, draft)
    assert plan.training.round_deadline == 30.0
    assert plan.sites.minimum == 4
    text = " ".join((row_of(centre, draft).text or "").split())
    assert "learnt from 40 observations" in text
    batch = plan.training.expected_batch  # type: ignore[union-attr]
    assert re.search(
        rf"# as before; at most \d+ keeps to the plan's own deadline, 30s, 2 times over; {batch} keeps", text
    )


def test_rounds_are_cut_to_what_the_tightest_account_bears(watched: Watch) -> None:
    centre = ready(watched, west=6.0).works.centre
    raise_alarm(watched)
    (draft,) = draft_due(centre)
    plan = plan_of(centre, draft)
    assert 20 <= plan.training.rounds < 40
    assert plan.privacy.noise.training == 1.0  # type: ignore[union-attr]
    assert f"was 40; {plan.training.rounds} is all that the tightest account bears, that of west" in " ".join(
        row_of(centre, draft).says
    )


def test_noise_is_raised_where_half_the_rounds_would_not_do(watched: Watch) -> None:
    centre = ready(watched, west=5.2).works.centre
    raise_alarm(watched)
    (draft,) = draft_due(centre)
    plan = plan_of(centre, draft)
    assert plan.training.rounds == 40
    noise = plan.privacy.noise  # type: ignore[union-attr]
    assert 1.0 < noise.training <= 8.0
    assert noise.evaluation == pytest.approx(6.0 * noise.training)


def test_where_nothing_fits_the_draft_says_so_and_cannot_be_adopted(watched: Watch) -> None:
    centre = ready(watched, west=4.81, south=4.81).works.centre
    raise_alarm(watched)
    (draft,) = draft_due(centre)
    row = row_of(centre, draft)
    assert (row.text, row.plan, row.contract) == (None, None, None)
    assert row.says[0].startswith(
        "no plan fits: the accounts bear neither half of its 40 rounds nor 8 times its noise"
    )
    with pytest.raises(Refused, match=f"{draft} has no plan: no plan fits"):
        office.adopt(centre, here(), draft, "why")
    office.dismiss(centre, here(), draft, "ceilings first")
    assert row_of(centre, draft).state == "dismissed"


def test_sites_without_a_ceiling_are_left_out_and_too_few_with_one_give_no_plan(watched: Watch) -> None:
    centre = ready(watched, south=0.0).works.centre
    raise_alarm(watched)
    (draft,) = draft_due(centre)
    assert plan_of(centre, draft).sites.invite == ("west", "midwest", "northeast")
    assert "left out without a ceiling: south" in (row_of(centre, draft).text or "")


def test_no_account_at_all_gives_no_plan(watched: Watch) -> None:
    centre = watched.works.centre
    raise_alarm(watched)
    (draft,) = draft_due(centre)
    row = row_of(centre, draft)
    assert row.text is None
    assert "have no ceiling" in row.says[0]


def test_gates_over_a_champion_give_no_plan_where_what_serves_has_left_no_weights(watched: Watch) -> None:
    from tests.coordinator.cli_for_tests import open_accounts

    centre = watched.works.centre  # no weights
    open_accounts(centre)
    raise_alarm(watched)
    (draft,) = draft_due(centre)
    row = row_of(centre, draft)
    assert plan_of(centre, draft).evaluation.champion is None
    assert any(each.startswith("no champion: ") for each in row.says)


def test_the_author_is_whoever_signed_the_plan_before(watched: Watch, centre: Centre) -> None:
    with writing(centre.engine, "signing") as session:
        run = session.get_one(Run, RUN)
        plan, contract = Plan.from_canonical(run.plan.encode()), read_document(CONTRACT, Contract, "contract")
        said = author(
            plan, contract, "author-1", key_of("author-1"), federation=FEDERATION, expires=centre.clock()
        )
        run.evidence = PlanEvidence(statements=(said,)).canonical.decode()
    raise_alarm(watched)
    (draft,) = draft_due(centre)
    assert row_of(centre, draft).author == "author-1"


def test_the_text_of_a_draft_is_its_plan_whatever_the_reasons_say() -> None:
    plan = read_document(PLAN, Plan, "plan")
    hostile = {
        "sites.minimum": "a\nminimum: 1\n# \u2028 b: c",
        "training.rounds": "x" * 5000,
        "training.seed": "\x1b[31m\x07 \x7f",
        "gates": "'\": {",
    }
    text = written(plan, hostile, ["one\ntwo: 3"])
    assert read_document(text, Plan, "text").digest == plan.digest
    assert all(line.lstrip().startswith("#") or ":" in line for line in text.splitlines())


# --- what is to be gained -----------------------------------------------------------------------------------------------


def test_with_outcomes_since_the_alarm_the_gain_is_simulated(watched: Watch, centre: Centre) -> None:
    place = watched.place()
    moved = shifted()
    moved.outcomes = np.clip(moved.outcomes + 0.35, 0.0, 0.98)
    got = receive(centre, place.decisions(moved, rows=20_000))
    receive(centre, place.outcomes(moved, 1, rows=20_000))
    assert got.alarm is not None
    (draft,) = draft_due(centre)
    gain = row_of(centre, draft).gain
    assert gain["windows"] == 2
    assert gain["clear"] is True
    middle, low, high = gain["falls_by"]
    assert low <= middle <= high
    assert any(each.startswith("a gain: log loss") for each in row_of(centre, draft).says)


def test_a_draft_says_of_outcomes_what_is_so_when_it_is_drafted(watched: Watch, centre: Centre) -> None:
    """The alarm's own words are of before they came."""
    place, moved = watched.place(), shifted()
    receive(centre, place.decisions(moved))
    first = draft_of(centre, NAME, by="author-1")
    assert any(NO_OUTCOMES in each for each in row_of(centre, first).says)
    office.dismiss(centre, here(), first, "outcomes have arrived since")
    receive(centre, place.outcomes(moved, 1))
    second = draft_of(centre, NAME, by="author-1")
    says = row_of(centre, second).says
    assert not any(NO_OUTCOMES in each for each in says)
    assert any("outcomes have arrived since" in each for each in says)


# --- decided ------------------------------------------------------------------------------------------------------------


def asked(officer: str = "an operator") -> Asked:
    return Asked(id=str(uuid4()), officer=officer, method="m", digest=Digest("ab" * 32))


def test_adopting_gives_text_and_contract_once_and_the_log_tells_who(watched: Watch, centre: Centre) -> None:
    raise_alarm(watched)
    (draft,) = draft_due(centre)
    request = asked()
    found = office.adopt(centre, here(), draft, "we retrain", request)
    assert office.adopt(centre, here(), draft, "we retrain", request) == found
    plan = read_document(found["text"], Plan, "text")
    assert plan.digest == found["plan"]
    assert found["contract_document"] == read_document(CONTRACT, Contract, "c").model_dump(
        mode="json", exclude_none=True
    )
    with pytest.raises(Refused, match="was adopted by an operator"):
        office.dismiss(centre, here(), draft, "changed my mind")
    last = loop_events(centre)[-1]
    assert isinstance(last, RetrainingDecided)
    assert (last.decision, last.why, last.by) == ("adopted", "we retrain", "an operator")


def test_a_request_for_a_draft_that_is_sent_again_drafts_nothing_more(watched: Watch, centre: Centre) -> None:
    request = asked()
    first = office.draft(centre, here(), NAME, request)
    assert office.draft(centre, here(), NAME, request) == first
    assert len(loop_events(centre)) == 1
    assert row_of(centre, first).gain["said"].startswith("expected gain cannot be said: no alarm says")


def test_what_cannot_be_decided_is_refused(centre: Centre) -> None:
    with pytest.raises(UsageError, match="there is no draft 'draft-1'"):
        office.adopt(centre, here(), "draft-1", "why")
    draft = draft_of(centre, NAME, by="author-1")
    with pytest.raises(CovenantError, match="why"):
        office.dismiss(centre, here(), draft, "")
    with pytest.raises(CovenantError, match="why"):
        office.dismiss(centre, here(), draft, "x" * 501)
    assert row_of(centre, draft).state == "open"


def test_a_crash_while_a_draft_is_written_leaves_nothing(
    watched: Watch, centre: Centre, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row, entry and alerts are one transaction."""
    from coordinator.deploy.monitoring.retraining import drafting

    raise_alarm(watched)

    def dies(*_: Any) -> None:
        raise CovenantError("the power failed")

    def breaks(*_: Any) -> None:
        raise ValueError("a defect")

    with monkeypatch.context() as patched:
        patched.setattr(drafting, "fitted", breaks)
        assert draft_due(centre) == ()
    with monkeypatch.context() as patched:
        patched.setattr(drafting, "put_in", dies)
        assert draft_due(centre) == ()
    assert loop_events(centre) == []
    (draft,) = draft_due(centre)
    assert row_of(centre, draft).state == "open"


# --- the log --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def empty(engine: Engine) -> Iterator[Engine]:
    with writing(engine, "submitting") as session:
        session.add(gated_run())
    return engine


def test_the_log_brings_drafts_and_decisions_back(watched: Watch, centre: Centre, empty: Engine) -> None:
    raise_alarm(watched)
    (first,) = draft_due(centre)
    office.dismiss(centre, here(), first, "not now")
    second = draft_of(centre, NAME, by="author-1")
    office.adopt(centre, here(), second, "now")
    draft_of(centre, NAME, by="author-1")
    log = open_log(centre.engine, centre.settings, centre.clock)
    with empty.begin() as connection, Session(bind=connection, expire_on_commit=False) as session:
        replay = Replay(session, empty, read_root(centre.settings))
        for seq, each in enumerate(log.entries()):
            append_again(session, [each.body])
            replay.take(seq, each.body)
        session.commit()
    before, after = told(centre.engine), told(empty)
    assert len(before["retraining_drafts"]) == 3
    assert after["retraining_drafts"] == before["retraining_drafts"]
    assert before["drift_alarms"] == after["drift_alarms"]
    with Session(empty) as session:
        assert session.get_one(AlarmRow, row_of(centre, first).alarm).name == NAME


def test_the_story_of_drafts_is_judged_by_whoever_reads_the_log(watched: Watch, centre: Centre) -> None:
    alarm = raise_alarm(watched)
    draft_due(centre)
    (said,) = loop_events(centre)
    registered, alarms = {(NAME, 1)}, {alarm: NAME}
    story = LoopStory()

    def take(what: Any) -> None:
        story.take(what, registered, alarms, (), NOW)

    with pytest.raises(Refused, match="is not registered"):
        story.take(said, set(), alarms, (), NOW)
    with pytest.raises(Refused, match=f"{alarm} is no alarm of {NAME}"):
        story.take(said, registered, {alarm: "cards"}, (), NOW)
    with pytest.raises(Refused, match="is not the plan of"):
        take(said.model_copy(update={"plan": "ab" * 32}))
    with pytest.raises(Refused, match="is not the open draft"):
        take(RetrainingDecided(draft=said.draft, model=NAME, decision="adopted", why="y", by="b"))
    take(said)
    with pytest.raises(Refused, match="is drafted twice"):
        take(said)
    with pytest.raises(Refused, match="has an open draft already"):
        take(said.model_copy(update={"draft": "draft-" + "ab" * 8}))
    take(RetrainingDecided(draft=said.draft, model=NAME, decision="dismissed", why="y", by="b"))
    none = said.model_copy(
        update={"draft": "draft-" + "cd" * 8, "text": None, "plan": None, "contract": None}
    )
    take(none)
    with pytest.raises(Refused, match="has no plan that could be adopted"):
        take(RetrainingDecided(draft=none.draft, model=NAME, decision="adopted", why="y", by="b"))
    take(RetrainingDecided(draft=none.draft, model=NAME, decision="dismissed", why="y", by="b"))


# --- drafts that nobody took further ------------------------------------------------------------------------------------


def later(centre: Centre, days: timedelta = ADOPTED_FOR) -> Centre:
    at = centre.clock() + days
    return replace(centre, clock=lambda: at)


def test_what_was_adopted_and_led_to_no_run_expires_and_its_alarm_drafts_anew(
    watched: Watch, centre: Centre
) -> None:
    raise_alarm(watched)
    (draft,) = draft_due(centre)
    assert office.expire_adopted(later(centre)) == ()  # one that is open waits for a person
    office.adopt(centre, here(), draft, "we retrain")
    assert row_of(centre, draft).facts()["expires_at"] is not None
    before = later(centre, ADOPTED_FOR - timedelta(minutes=5))
    assert office.expire_adopted(before) == ()
    assert draft_due(before) == ()
    after = later(centre)
    assert office.expire_adopted(after) == (draft,)
    assert office.expire_adopted(after) == ()
    row, last = row_of(centre, draft), loop_events(centre)[-1]
    assert (row.state, row.expires_at) == ("expired", None)
    assert isinstance(last, RetrainingDecided)
    assert (last.decision, last.by) == ("expired", office.TIME)
    assert last.why.startswith("adopted by an operator on ")
    (model,) = loop_status(centre.engine, NAME)
    says = {each["step"]: (each["state"], each["says"]) for each in model["steps"]}
    assert says["draft"] == ("none", f"{draft} has expired: {last.why}")
    assert says["retraining"][0] == "none"
    (again,) = draft_due(after)
    assert again != draft


def test_a_draft_that_a_run_followed_does_not_expire(watched: Watch, centre: Centre) -> None:
    """A person may have changed the plan, so it is any run of the model."""
    raise_alarm(watched)
    (draft,) = draft_due(centre)
    office.adopt(centre, here(), draft, "we retrain")
    run = gated_run(RunId("run-" + "ef" * 8))
    with writing(centre.engine, "launching") as session:
        run.plan_name, run.submitted_at = NAME, centre.clock()
        session.add(run)
    assert office.expire_adopted(later(centre)) == ()
    assert row_of(centre, draft).state == "adopted"


def test_a_run_that_was_launched_before_the_adoption_follows_nothing(watched: Watch, centre: Centre) -> None:
    """By the order of the log, as its auditors judge; clocks do not tell, as a launch looks at its own before it waits for the log."""
    raise_alarm(watched)
    (draft,) = draft_due(centre)
    run = gated_run(RunId("run-" + "ef" * 8))
    with writing(centre.engine, "launching") as session:
        at = centre.clock()
        run.plan_name, run.submitted_at = NAME, at
        session.add(run)
        what = RunLaunched(
            run=run.id, plan="ab" * 32, contract="ab" * 32, members="ab" * 32, releases={}, reserved=()
        )
        append(session, at, [what])
    office.adopt(centre, here(), draft, "we retrain")
    assert office.expire_adopted(later(centre)) == (draft,)


def test_whoever_reads_the_log_refuses_a_draft_that_expires_early_or_after_a_run(
    watched: Watch, centre: Centre
) -> None:
    alarm = raise_alarm(watched)
    draft_due(centre)
    (said,) = loop_events(centre)
    expired = RetrainingDecided(draft=said.draft, model=NAME, decision="expired", why="y", by="b")

    def story(*events: Any) -> LoopStory:
        found = LoopStory()
        for each in (said, *events):
            found.take(each, {(NAME, 1)}, {alarm: NAME}, (), NOW)
        return found

    def take(found: LoopStory, at: datetime) -> None:
        found.take(expired, {(NAME, 1)}, {alarm: NAME}, (), at)

    adopted = RetrainingDecided(draft=said.draft, model=NAME, decision="adopted", why="y", by="b")
    with pytest.raises(Refused, match="is no adopted draft"):
        take(story(), NOW + ADOPTED_FOR)
    with pytest.raises(Refused, match="expires after 29 days"):
        take(story(adopted), NOW + ADOPTED_FOR - timedelta(seconds=1))
    followed = story(adopted)
    followed.launched(RunId("run-" + "ef" * 8), NAME, Digest("ab" * 32), Digest("ab" * 32), ())
    with pytest.raises(Refused, match="was trained again since"):
        take(followed, NOW + ADOPTED_FOR)
    over = story(adopted)
    take(over, NOW + ADOPTED_FOR)
    assert over.states[said.draft] == "expired"
    launch = RetrainingLaunched(
        draft=said.draft,
        model=NAME,
        run=RunId("run-" + "ef" * 8),
        plan=said.plan,
        contract=said.contract,
        pack="ab" * 32,
    )
    with pytest.raises(Refused, match="was adopted more than 30 days before"):
        story(adopted).take(launch, {(NAME, 1)}, {alarm: NAME}, (), NOW + ADOPTED_FOR)
