"""What a version is worth and what it cost, from real federations and registered versions: the command, the file and the console say the same."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from sqlalchemy import func, select

from coordinator.db import reading, writing
from coordinator.db.monitor_schema import MonitorRow, WindowRow
from coordinator.db.progress_schema import SiteExchange
from coordinator.db.schema import Attempt, Model, Round, RoundState, RunState
from coordinator.registry.publish import publish
from coordinator.registry.versions import ModelVersion, get_version
from coordinator.rounds.progress import KeptProgress
from coordinator.worth.figures import APPROVE_ALL, DECLINE_ALL, Value, value_of
from coordinator.worth.page import page_of
from protos.costs import Costs
from protos.documents import read_document
from protos.plan import Plan
from protos.plan_evaluation import Profile
from protos.plan_panels import evaluation_cells
from protos.windows import Monitor, Outcomes, Window
from strategies.analytics.noisy import logit_counts, score_bounds
from strategies.analytics.value import Part
from strategies.ids import RunId
from tests.coordinator.champion_for_tests import SCORER, register_champion, with_champion
from tests.coordinator.cli_for_tests import Command, commands_in
from tests.coordinator.conftest import RUN
from tests.coordinator.console_deployed_for_tests import HOSTILE, Desk, at
from tests.coordinator.deploy_for_tests import NAME
from tests.coordinator.gate_for_tests import PRIVATE, gated, gated_run, passed
from tests.coordinator.private_for_tests import MODES, Private, Templates, private_plan, templates
from tests.coordinator.secure_for_tests import CONTRACT, FOUR, Secured, Template, secure_plan
from tests.protos.test_costs import COSTS as DOCUMENT

pytestmark = pytest.mark.slow

__all__ = ["at", "templates"]
COSTS = read_document(DOCUMENT, Costs, "costs.yaml")
BINS, NOISE = 32, 4.0


def with_profile(plan: Plan) -> Plan:
    """`plan` with a champion, and with score counts that are kept."""
    champion = with_champion(plan)
    kept = champion.evaluation.model_copy(update={"profile": Profile(bins=4)})
    return Plan.from_canonical(champion.model_copy(update={"evaluation": kept}).canonical)


def published(made: Secured) -> ModelVersion:
    """The version of a run of the federation, as its driver registers it."""
    progress = KeptProgress(
        made.engine, made.documents.run, made.plan.contract, made.clock.wall, made.clock.monotonic
    )
    made.store = made._started()
    finished = replace(made.driver(), progress=progress).drive()
    progress.flush()
    return publish(made.centre, made.documents, finished)


def counted(made: Secured) -> npt.NDArray[np.int64]:
    """What the sites count of both models, (2, 2, bins), with no federation around them: score counts come first."""
    model, scaling = made.committed().model, made.scaling()
    total = np.sum([made._sessions[site].evaluate(model, scaling, SCORER) for site in FOUR], axis=0)
    cells = evaluation_cells(made.plan, CONTRACT)
    return cells.blocks(np.asarray(total, dtype=np.int64)).scores // cells.steps


def valued(made: Secured, version: ModelVersion, *thresholds: float) -> Value:
    return value_of(made.centre, version, COSTS, thresholds)


# --- real federations ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_value_of_a_federations_model_is_that_of_the_rows_at_its_sites(tmp_path: Path) -> None:
    plan = with_profile(secure_plan(rounds=2, every=2))
    made = Template(tmp_path / "sites", FOUR).copy(tmp_path / "copy", plan, prepare=register_champion)
    version = published(made)
    ours, champion = counted(made)
    found = valued(made, version, 0.5)
    (source,) = found.sources
    (at,) = source.thresholds
    first = round(at.at * ours.shape[1])
    reviews = max(1, round(0.2 * ours.shape[1]))
    lines = {each.part: each for each in at.lines}
    assert lines[Part.DECLINED_BAD].rows == ours[1, first:].sum()
    assert lines[Part.APPROVED_GOOD].rows == ours[0, : min(first, reviews)].sum()
    assert at.rows == ours.sum()
    assert at.saved[DECLINE_ALL].value == pytest.approx(
        (20 * ours[0].sum() - sum(each.amount for each in at.lines)) / at.rows
    )
    # The champion's own counts say what it would have cost, on the same rows and at the same threshold.
    beside = sum(
        float((champion[label, part] * amount).sum())
        for part, amounts in (
            (slice(0, min(first, reviews)), (-150.0, 4200.0)),
            (slice(min(first, reviews), first), (25.0 - 150.0, 25.0 + 0.4 * 4200.0)),
            (slice(first, None), (20.0, 0.0)),
        )
        for label, amount in enumerate(amounts)
    )
    assert at.saved["older@1"].value == pytest.approx(beside / champion.sum() - at.decision.value)
    assert at.saved["older@1"].low < at.saved["older@1"].value < at.saved["older@1"].high
    with reading(made.centre.engine, "a test") as session:
        sent, received, seconds = session.execute(
            select(
                func.sum(SiteExchange.sent), func.sum(SiteExchange.received), func.sum(SiteExchange.seconds)
            ).where(SiteExchange.run_id == made.documents.run)
        ).one()
    (run,) = found.spent.runs
    assert (run.sent_bytes, run.received_bytes, run.waited_s) == (sent, received, pytest.approx(seconds))
    assert sent > 0
    assert (run.rounds, run.again, run.charges, run.made_it) == (2, 0, (), True)
    hours, gigabytes, signatures = found.spent.charged(COSTS.rates)
    assert hours.amount == pytest.approx(2 * seconds / 3600)
    assert gigabytes.amount == pytest.approx(0.1 * (sent + received) / 1e9)
    assert signatures.number == 0
    made.close()


@pytest.mark.slow
def test_private_counts_have_noise_in_their_intervals_and_what_was_charged_beside_them(
    templates: Templates,
) -> None:
    plan = with_profile(private_plan(gated(PRIVATE, MODES["distributed"])))
    made: Private = templates.copy(plan, prepare=register_champion)
    version = published(made)
    found = valued(made, version)
    (source,) = found.sources
    (at,) = source.thresholds
    assert source.noise_std > 0.0
    assert source.champion == "older@1"
    assert at.decision.low < at.decision.value < at.decision.high
    assert at.at in score_bounds(4, "logit")
    assert at.at != at.asked
    charges = found.spent.runs[0].charges
    assert len(charges) == len(FOUR)
    assert all(each.charged > 0 and each.alone.epsilon > 0 for each in charges)
    assert passed(made.centre, version.name, version.version).stage == "validated"


# --- a registered version through the gate, in the command and the console --------------------------------------------------------


@pytest.fixture
def covenant(
    at: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    monkeypatch.setenv("COVENANT_HOME", str(at.works.centre.settings.home))
    (tmp_path / "costs.yaml").write_text(DOCUMENT)
    return commands_in(tmp_path, monkeypatch, capsys)


def drawn(seed: int, rows: int = 6000) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Noisy counts of scores that know something."""
    source = np.random.default_rng(seed)
    labels = source.binomial(1, 0.15, rows)
    exact = logit_counts(source.normal(-1.6 + 1.5 * labels, 1.0), labels, BINS)
    noisy = exact + np.rint(source.normal(0.0, NOISE, exact.shape)).astype(np.int64)
    return tuple(noisy[0].tolist()), tuple(noisy[1].tolist())


def with_counts(at: Desk, **changes: Any) -> ModelVersion:
    """An approved version whose evaluation kept its score counts, as they are recorded."""
    at.approved(1)
    profile = {"counts": {}, "labels": {}, "noise_std": NOISE, "scores": drawn(1), "champion": (), **changes}
    panels = {"noise_std": NOISE, "groups": (), "attributions": None, "profile": profile}
    with writing(at.works.centre.engine, "a test") as session:
        row = session.scalars(select(Model).where(Model.name == NAME)).one()
        row.metrics = {**(row.metrics or {}), "panels": json.loads(json.dumps(panels))}
    return get_version(at.works.centre.engine, NAME, 1)


def test_command_says_lines_that_add_up(at: Desk, covenant: Command) -> None:
    with_counts(at)
    left, out, err = covenant(
        "model",
        "value",
        f"{NAME}@1",
        "--costs",
        "costs.yaml",
        "--threshold",
        "0.3",
        "--threshold",
        "0.5",
        "--json",
    )
    assert left == 0, err
    told = json.loads(out)
    (source,) = told["sources"]
    first, second = source["thresholds"]
    assert (first["asked"], second["asked"]) == (0.3, 0.5)
    for each in (first, second):
        assert sum(line["amount"] for line in each["lines"]) == pytest.approx(each["amount"])
        for line in each["lines"]:
            assert line["rows"] * line["share"] * line["each"] == pytest.approx(line["amount"])
        assert each["decision"]["value"] == pytest.approx(each["amount"] / each["rows"])
        assert each["year"]["low"] <= each["year"]["at_least_volume"] <= each["year"]["high"]
        assert set(each["saved_beside"]) == {APPROVE_ALL, DECLINE_ALL}
    assert len(source["over_thresholds"]) == BINS + 1
    assert source["best"]["decision"]["value"] == min(each["value"] for each in source["over_thresholds"])
    assert source["best"]["flattered_by"] > 0
    assert told["spent"]["signatures"]["model, by those who approve"] == 2
    assert told["spent"]["runs"][0]["run"] == RUN
    assert told["spent"]["amount"] == pytest.approx(sum(each["amount"] for each in told["spent"]["lines"]))
    again = json.loads(covenant("model", "value", f"{NAME}@1", "--costs", "costs.yaml", "--json")[1])
    assert again["sources"][0]["best"] == source["best"], "the same counts give the same report"


def test_command_prints_the_same_for_people_and_writes_a_file_that_runs_nothing(
    at: Desk, covenant: Command, tmp_path: Path
) -> None:
    version = with_counts(at)
    words = ("model", "value", f"{NAME}@1", "--costs", "costs.yaml", "--html", "value.html")
    left, out, err = covenant(*words)
    assert (left, out) == (0, "")
    found = value_of(at.works.centre, version, COSTS)
    page = (tmp_path / "value.html").read_text()
    assert page == page_of(found)
    (threshold,) = found.sources[0].thresholds
    total = f"EUR {sum(each.amount for each in threshold.lines):,.2f}"
    for text in (err, page):
        for each in (
            total,
            "cost of decisions",
            "looks cheaper than it is by",
            "saved against approving everybody",
        ):
            assert each in text
    assert "<script" not in page
    assert page.count("<svg") == 1
    assert "default-src 'none'" in page
    left, _, err = covenant(*words)
    assert left == 2
    assert "exists and is never overwritten" in err


def test_command_says_what_cannot_be_said_and_still_what_it_cost(at: Desk, covenant: Command) -> None:
    at.registered(1)
    left, out, _ = covenant("model", "value", f"{NAME}@1", "--costs", "costs.yaml", "--json")
    assert left == 0
    told = json.loads(out)
    assert "ask for `evaluation.profile` in the next plan" in told["sources"][0]["cannot"]
    assert told["spent"]["runs"][0]["made_it"]
    with writing(at.works.centre.engine, "a test") as session:
        session.scalars(select(Model).where(Model.name == NAME)).one().metrics = None
    told = json.loads(covenant("model", "value", f"{NAME}@1", "--costs", "costs.yaml", "--json")[1])
    assert "has no evaluation" in told["sources"][0]["cannot"]


def test_counts_that_noise_hides_are_no_figures(at: Desk, covenant: Command) -> None:
    with_counts(at, scores=((1,) * BINS, (0,) * BINS))
    told = json.loads(covenant("model", "value", f"{NAME}@1", "--costs", "costs.yaml", "--json")[1])
    assert told["sources"][0]["cannot"].startswith(
        "the counts come to 32 rows, which noise cannot be told from none"
    )


@pytest.mark.parametrize(
    ("threshold", "sentence"),
    [("1.5", "the threshold 1.5 is no score between 0 and 1"), ("nan", "the threshold nan is no score")],
)
def test_thresholds_that_are_none_are_refused(
    at: Desk, covenant: Command, threshold: str, sentence: str
) -> None:
    with_counts(at)
    left, _, err = covenant("model", "value", f"{NAME}@1", "--costs", "costs.yaml", "--threshold", threshold)
    assert (left, sentence in err) == (2, True), err


def test_review_that_begins_above_the_threshold_is_said_to_be_nobodys(at: Desk, covenant: Command) -> None:
    with_counts(at)
    left, _, err = covenant("model", "value", f"{NAME}@1", "--costs", "costs.yaml", "--threshold", "0.1")
    assert left == 0
    assert "Review begins at 0.2, which is not below this threshold: nobody looks." in err
    assert "reviewed, bad" not in err


# --- production ------------------------------------------------------------------------------------------------------------------


def test_windows_of_outcomes_are_valued_by_the_same_arithmetic(at: Desk, covenant: Command) -> None:
    with_counts(at)
    monitor = Monitor.model_validate(
        {
            "model": NAME,
            "window": 86_400.0,
            "profile_bins": 4,
            "score_bins": BINS,
            "score_scale": "logit",
            "privacy": {"noise": 4.0, "limit": {"epsilon": 1.0, "delta": 1e-6}, "period": 86_400.0},
        }
    )
    begins = datetime(2026, 1, 1, tzinfo=UTC)
    with writing(at.works.centre.engine, "a test") as session:
        session.add(
            MonitorRow(
                name=NAME, version=1, monitor=monitor.canonical.decode(), rules="{}", reference="ab" * 32,
                added_by="risk-1", added_at=begins,
            )
        )  # fmt: skip
        session.flush()
        for number, outcomes in enumerate(
            (Outcomes(noise_std=2.0, counts=drawn(7)), Outcomes(noise_std=50.0, counts=drawn(8, 50))), start=1
        ):
            document = Window(
                place="branch", model=f"{NAME}@1", version_digest="ab" * 32, contract="ab" * 32,
                monitor=monitor.digest, number=number, sequence=number, begins=begins,
                ends=begins + timedelta(days=number), outcomes=outcomes, spent=0.5,
            )  # fmt: skip
            session.add(
                WindowRow(
                    name=NAME, version=1, place="branch", sequence=number, number=number, of="outcomes",
                    begins=document.begins, ends=document.ends, digest=document.digest,
                    document=document.canonical.decode(), found={}, received_at=document.ends,
                )
            )  # fmt: skip
    told = json.loads(covenant("model", "value", f"{NAME}@1", "--costs", "costs.yaml", "--json")[1])
    evaluation, hidden, window = told["sources"]
    assert window["source"] == "window 1 at branch, 2026-01-01 00:00 to 2026-01-02 00:00 UTC"
    assert window["noise_std"] == 2.0
    assert "noise cannot be told from none" in hidden["cannot"]
    rows = sum(map(sum, drawn(7)))
    assert window["thresholds"][0]["rows"] == rows
    assert evaluation["thresholds"][0]["declines_from"] == window["thresholds"][0]["declines_from"]


# --- the console -------------------------------------------------------------------------------------------------------------------


def test_page_works_out_what_is_pasted_and_keeps_nothing(at: Desk) -> None:
    version = with_counts(at)
    browser = at.pages.browser("auditor-1")
    path = f"/models/{NAME}@1/value"
    assert f'href="{path}"' in browser.get(f"/models/{NAME}@1").text
    form = browser.get(path).text
    assert "costs/v1" in form
    text = unescape(browser.post(path, {"costs": DOCUMENT, "thresholds": "0.3, 0.5"}).text)
    found = value_of(at.works.centre, version, COSTS, (0.3, 0.5))
    for each in found.sources[0].thresholds:
        assert f"EUR {sum(line.amount for line in each.lines):,.2f}" in text
    assert "data-chart" in text
    file = browser.post(path, {"costs": DOCUMENT, "thresholds": "0.3 0.5", "form": "html"})
    assert file.headers["content-disposition"] == f'attachment; filename="value-{NAME}-1.html"'
    assert file.text == page_of(found)
    assert (
        "4,711.00" in browser.post(path, {"costs": DOCUMENT.replace("4200", "4711"), "thresholds": ""}).text
    )
    assert "4711" not in browser.get(path).text


def test_costs_that_were_pasted_are_in_their_form_again(at: Desk) -> None:
    with_counts(at)
    path = f"/models/{NAME}@1/value"
    late = at.pages.sent_too_late("auditor-1", path, path, {"costs": DOCUMENT, "thresholds": "0.3"})
    found = late.form(path)
    assert (found["costs"].strip(), found["thresholds"]) == (DOCUMENT.strip(), "0.3")
    assert "data-chart" in late.send(path, {}).text


def test_page_says_what_is_wrong_with_what_was_pasted(at: Desk) -> None:
    with_counts(at)
    browser = at.pages.browser("auditor-1")
    path = f"/models/{NAME}@1/value"
    for costs, thresholds, sentence in (
        (DOCUMENT.replace("{good: 20, bad: 0}", "[20, 0]"), "", "the costs line 4: `decline` is [20, 0]"),
        (DOCUMENT, "many", "thresholds are scores between 0 and 1"),
        (DOCUMENT, " ".join(["0.3", *(f"0.{each}" for each in range(11, 22))]), "at most 10 at once"),
        (DOCUMENT + "#" * 20_000, "", "costs have at most 16 KiB"),
        (HOSTILE, "", "the costs"),
    ):
        answered = browser.post(path, {"costs": costs, "thresholds": thresholds})
        assert answered.status_code == 400
        assert sentence in unescape(answered.text)
        assert "<script>alert" not in answered.text


# --- what it cost -----------------------------------------------------------------------------------------------------------------


def test_runs_of_the_same_plan_that_failed_are_part_of_what_it_cost(at: Desk) -> None:
    version, failed = with_counts(at), RunId("run-00000000000000ff")
    now = datetime(2026, 11, 23, 13, tzinfo=UTC)
    with writing(at.works.centre.engine, "a test") as session:
        row = gated_run(failed)
        row.state, row.reason, row.submitted_at = RunState.FAILED, "too few sites", now
        other = gated_run(RunId("run-00000000000000ee"))
        other.plan_digest = "ef" * 32
        session.add_all([row, other])
        session.flush()
        session.add(
            Round(
                run_id=failed, number=1, attempt=1, state=RoundState.VOIDED, roster=["west"], reason="lost",
                seconds=7.5, opened_at=now,
            )
        )  # fmt: skip
        session.add(
            Attempt(run_id=failed, stage="prepare", round=0, attempt=1, roster=["west"], asked_at=now)
        )
        for site, sent in (("west", 1_000_000), ("south", 3_000_000)):
            session.add(
                SiteExchange(
                    run_id=failed, stage="train", round=1, site=site, asked=1, answered=1, sent=sent,
                    received=500_000, seconds=1800.0, step="input", waiting=False, changed_at=now,
                )
            )  # fmt: skip
    spent = value_of(at.works.centre, version, COSTS).spent
    first, own = spent.runs
    assert (first.run, first.state, first.made_it) == (failed, "failed", False)
    assert (first.rounds, first.again, first.round_s, first.waited_s) == (0, 2, 7.5, 3600.0)
    assert (first.sent_bytes, first.received_bytes) == (4_000_000, 1_000_000)
    assert (own.run, own.made_it, own.rounds) == (RUN, True, 2)
    hours, gigabytes, signatures = spent.charged(COSTS.rates)
    assert (hours.amount, gigabytes.amount, signatures.amount) == (2.0, pytest.approx(0.0005), 180.0)
