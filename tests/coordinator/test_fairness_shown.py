"""Fairness by group as people read it: the command, the evidence and the console say the same figures, and the same about what cannot be said."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from html import unescape
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from sqlalchemy import select

from coordinator.console.pages.model_fairness import fairness_views
from coordinator.db import writing
from coordinator.db.monitor_schema import MonitorRow, WindowRow
from coordinator.db.schema import Model
from coordinator.governance.evidence.charts import whiskers
from coordinator.governance.evidence.documents import EvidenceKind, document
from coordinator.governance.evidence.forms import Form
from coordinator.governance.evidence.story import Story, Told
from coordinator.registry.fairness import Stage, facts_of, in_production
from protos.log_run_events import RoundEvaluated
from protos.quantities import thousands
from protos.windows import Monitor, Outcomes, Window
from strategies.analytics.comparisons import Metric
from strategies.analytics.fairness import fairness_of
from strategies.analytics.group_rates import Figure
from strategies.analytics.noisy import logit_counts
from strategies.analytics.panels import NOT_GIVEN, Panels
from tests.coordinator.cli_for_tests import Command
from tests.coordinator.console_deployed_for_tests import Desk, at, covenant
from tests.coordinator.deploy_for_tests import NAME
from tests.coordinator.test_evidence import Evidenced, plain, shown_by, unprotected
from tests.strategies.analytics.fairness_for_tests import panel, rows

pytestmark = pytest.mark.slow

__all__ = ["at", "covenant", "unprotected"]
SIZES = {"old": 4000, "<b>mid</b>": 3000, "young": 900, NOT_GIVEN: 3000}
BAD = {"old": 0.1, "<b>mid</b>": 0.12, "young": 0.6, NOT_GIVEN: 0.2}
NOISE = 6.0
PANEL = replace(panel(rows(1, SIZES, BAD), noise_std=NOISE), suppressed=("rare",))
PANELS = Panels(noise_std=NOISE, groups=(PANEL,))
FACTS = json.loads(json.dumps(asdict(PANELS)))


def with_panels(at: Desk, panels: Mapping[str, Any] | None = FACTS) -> None:
    """A version whose metrics have them, as the gate and the page read them."""
    at.registered(1)
    with writing(at.works.centre.engine, "a test") as session:
        row = session.scalars(select(Model).where(Model.name == NAME)).one()
        row.metrics = {**(row.metrics or {}), "panels": panels}


# --- the command ------------------------------------------------------------------------------------------------------------


def test_command_says_figures_with_intervals_and_what_it_cannot(at: Desk, covenant: Command) -> None:
    with_panels(at)
    left, out, _ = covenant("model", "fairness", f"{NAME}@1", "--json")
    assert left == 0
    told = json.loads(out)
    (attribute,) = told["stages"][0]["attributes"]
    expected = facts_of(fairness_of(PANEL, NOISE))
    assert attribute == {**expected, "declines_at": 0.5}
    young = next(each for each in attribute["groups"] if each["group"] == "young")
    impact = young["against"]["adverse_impact_ratio"]
    assert impact["low"] < impact["value"] < impact["high"]
    assert young["four_fifths"] == "below four fifths"
    assert attribute["reference"] == "old"
    assert attribute["suppressed"] == ["rare"]
    assert any("rare: fewer rows" in each for each in attribute["cautions"])
    assert any("is not given for" in each for each in attribute["cautions"])


def test_command_prints_the_same_for_people_without_markup_of_others(at: Desk, covenant: Command) -> None:
    with_panels(at)
    left, out, err = covenant("model", "fairness", f"{NAME}@1")
    assert (left, out) == (0, "")
    for each in (
        "<b>mid</b>",
        "Adverse impact ratio",
        "rare: fewer rows than are told of",
        "below four fifths",
    ):
        assert each in err


def test_command_compares_with_the_group_that_is_named(at: Desk, covenant: Command) -> None:
    with_panels(at)
    left, out, _ = covenant("model", "fairness", f"{NAME}@1", "--against", "band=young", "--json")
    assert left == 0
    assert json.loads(out)["stages"][0]["attributes"][0]["reference"] == "young"
    for wrong, sentence in (
        ("band", "names no group; write ATTRIBUTE=GROUP"),
        ("band=elder", "band has no group 'elder'"),
        ("sex=male", "sex is not counted by group here"),
    ):
        left, _, err = covenant("model", "fairness", f"{NAME}@1", "--against", wrong)
        assert (left, sentence in err) == (2, True), err


def test_command_gives_weights_for_the_next_plan(at: Desk, covenant: Command) -> None:
    with_panels(at)
    left, out, _ = covenant("model", "fairness", f"{NAME}@1", "--reweigh", "--json")
    assert left == 0
    weights = json.loads(out)["reweigh"]["band"]
    assert weights["young"]["positive"] < 1.0 < weights["young"]["negative"]
    assert set(weights) == set(PANEL.counts)


def test_command_says_that_nothing_was_released(at: Desk, covenant: Command) -> None:
    with_panels(at, None)
    left, out, _ = covenant("model", "fairness", f"{NAME}@1", "--json")
    assert left == 0
    (stage,) = [each for each in json.loads(out)["stages"] if each["stage"] == "evaluation"]
    assert "no counts by protected group were released" in stage["cannot"]


# --- production -------------------------------------------------------------------------------------------------------------

MONITOR = SimpleNamespace(score_bins=16, score_scale="logit")


def window(found: Any, noise_std: float, seed: int, suppressed: tuple[str, ...] = ()) -> Any:
    groups, labels, scores = found
    draw, counts = np.random.default_rng(seed), {}
    for name in dict.fromkeys(groups.tolist()):
        if name in suppressed:
            continue
        inside = np.clip(scores[groups == name], 1e-6, 1 - 1e-6)
        exact = logit_counts(np.log(inside / (1 - inside)), labels[groups == name], 16)
        noisy = np.rint(exact + draw.normal(0.0, noise_std, exact.shape)).astype(int)
        counts[name] = (tuple(noisy[0].tolist()), tuple(noisy[1].tolist()))
    outcomes = Outcomes(
        noise_std=noise_std,
        counts=((1,) * 16, (1,) * 16),
        groups={"band": counts},
        suppressed={"band": suppressed} if suppressed else None,
    )
    begins = datetime(2026, 1, seed, tzinfo=UTC)
    return SimpleNamespace(outcomes=outcomes, place="branch", begins=begins, ends=begins + timedelta(days=1))


def test_windows_of_outcomes_add_up_to_the_same_arithmetic() -> None:
    one, other = (rows(seed, {"old": 3000, "young": 800}, {"old": 0.1, "young": 0.3}) for seed in (1, 2))
    stage = in_production([window(one, 3.0, 1), window(other, 4.0, 2)], MONITOR, 0.5)  # type: ignore[arg-type]
    (found,) = stage.attributes
    assert found.noise_std == pytest.approx(5.0)
    assert found.rows.value == pytest.approx(7600, abs=4 * 5 * 8)
    assert stage.declines_at == {"band": pytest.approx(0.5)}
    assert stage.about.endswith("from 2026-01-01 to 2026-01-03 at branch, in the newest 2 windows")
    young = next(each for each in found.groups if each.group == "young")
    impact = young.against[Metric.ADVERSE_IMPACT_RATIO].interval
    exact = []
    for name in ("young", "old"):
        approved = [(each[2][each[0] == name] < 0.5) for each in (one, other)]
        exact.append(np.concatenate(approved).mean())
    assert impact is not None
    assert impact.low <= exact[0] / exact[1] <= impact.high


def test_group_that_every_window_suppresses_is_suppressed() -> None:
    found = rows(1, {"old": 3000, "young": 800}, {"old": 0.1, "young": 0.3})
    both = in_production([window(found, 0.0, 1, ("young",))] * 2, MONITOR, 0.5)  # type: ignore[arg-type]
    assert both.attributes[0].suppressed == ("young",)
    once = in_production([window(found, 0.0, 1, ("young",)), window(found, 0.0, 1)], MONITOR, 0.5)  # type: ignore[arg-type]
    assert once.attributes[0].suppressed == ()


def test_no_windows_are_said_to_be_none() -> None:
    assert in_production([], None, None).cannot == "no place has released outcomes by protected group"
    assert in_production([], MONITOR, 0.5).cannot  # type: ignore[arg-type]


def test_command_reads_the_windows_that_places_have_released(at: Desk, covenant: Command) -> None:
    with_panels(at)
    monitor = Monitor.model_validate(
        {
            "model": NAME,
            "window": 86_400.0,
            "profile_bins": 4,
            "score_bins": 16,
            "score_scale": "logit",
            "protected": ("band",),
            "privacy": {"noise": 4.0, "limit": {"epsilon": 1.0, "delta": 1e-6}, "period": 86_400.0},
        }
    )
    begins = datetime(2026, 1, 1, tzinfo=UTC)
    found = rows(5, {"old": 3000, "young": 800}, {"old": 0.1, "young": 0.6})
    document = Window(
        place="branch",
        model=f"{NAME}@1",
        version_digest="ab" * 32,
        contract="ab" * 32,
        monitor=monitor.digest,
        number=1,
        sequence=1,
        begins=begins,
        ends=begins + timedelta(days=1),
        outcomes=window(found, 2.0, 5).outcomes,
        spent=0.5,
    )
    with writing(at.works.centre.engine, "a test") as session:
        session.add(
            MonitorRow(
                name=NAME,
                version=1,
                monitor=monitor.canonical.decode(),
                rules="{}",
                reference="ab" * 32,
                added_by="risk-1",
                added_at=begins,
            )
        )
        session.flush()
        session.add(
            WindowRow(
                name=NAME,
                version=1,
                place="branch",
                sequence=1,
                number=1,
                of="outcomes",
                begins=document.begins,
                ends=document.ends,
                digest=document.digest,
                document=document.canonical.decode(),
                found={},
                received_at=document.ends,
            )
        )
    left, out, err = covenant("model", "fairness", f"{NAME}@1", "--json")
    assert left == 0, err
    stages = {each["stage"]: each for each in json.loads(out)["stages"]}
    (told,) = stages["production"]["attributes"]
    expected = in_production([document], monitor, 0.5)
    assert told == {**facts_of(expected.attributes[0]), "declines_at": 0.5}
    text = unescape(at.pages.browser("auditor-1").get(f"/models/{NAME}@1").text)
    assert "Fairness by band, production" in text


# --- evidence ---------------------------------------------------------------------------------------------------------------


def with_groups(story: Story) -> Story:
    """The same log, in which the evaluation counted groups."""
    told = list[Told]()
    for each in story.told:
        what = each.what
        if isinstance(what, RoundEvaluated) and what.metrics is not None:
            what = what.model_copy(update={"metrics": {**what.metrics, "panels": FACTS}})
        told.append(replace(each, what=what))
    return replace(story, told=tuple(told))


def test_evidence_has_every_figure_in_all_forms(unprotected: Evidenced) -> None:
    one = document(with_groups(unprotected.story), EvidenceKind.CARD)
    facts = {each.name: each for each in one.facts()}
    found = fairness_of(PANEL, NOISE)
    young = next(each for each in found.groups if each.group == "young")
    for metric, figure in young.against.items():
        assert figure.interval is not None
        told = facts[f"fairness.band.young.{metric}"]
        assert told.value == figure.interval.value
        assert told.derived == "from the counts by group, label and score bin in this entry"
    for form in Form:
        text = shown_by(one, form)
        assert "Fairness by protected group" in text, form
        for metric in young.against:
            for name in (f"fairness.band.young.{metric}", f"fairness.band.young.{metric}.interval"):
                assert plain(facts[name].shown) in text, (form, name)
        assert "rare: fewer rows than are told of" in text
    charts = [
        block["title"]
        for part in one.view()["sections"]
        for block in part["blocks"]
        if block["type"] == "chart"
    ]
    assert "band: adverse impact ratio with its 95 % interval" in charts
    assert "Metrics by group of people" not in {each.what for each in one.missing()}


def test_evidence_without_groups_says_what_would_supply_them(unprotected: Evidenced) -> None:
    lacks = {each.what: each.supply for each in document(unprotected.story, EvidenceKind.CARD).missing()}
    assert lacks["Metrics by group of people"].endswith("(protected and evaluation.fairness in the plan)")


def test_chart_escapes_names_and_draws_the_bound() -> None:
    drawn = whiskers([("<b>", (0.9, 0.7, 1.1), "<i>")], "t<", "w<", 0.8)
    assert "<b>" not in drawn
    assert "<i>" not in drawn
    assert drawn.count("<polyline") == 2
    assert drawn.count("<circle") == 1


# --- the console ------------------------------------------------------------------------------------------------------------


def test_console_shows_figures_cautions_and_the_picture(at: Desk) -> None:
    with_panels(at)
    browser = at.pages.browser("auditor-1")
    page = browser.get(f"/models/{NAME}@1")
    assert page.status_code == 200
    text = unescape(page.text)
    assert "Fairness by band" in text
    assert "&lt;b&gt;mid&lt;/b&gt;" in page.text
    assert "<b>mid" not in page.text
    assert "rare: fewer rows than are told of" in text
    assert 'id="fairness-1-impact"' in page.text
    sizes = browser.get(f"/models/{NAME}@1?table=fairness-1-groups&format=csv").text
    stands = {each["Group"]: each["Four fifths"] for each in csv.DictReader(io.StringIO(sizes))}
    assert (stands["old"], stands[NOT_GIVEN]) == ("the reference group", "compared with nobody")
    told = browser.get(f"/models/{NAME}@1?table=fairness-1-decisions&format=csv")
    lines = list(csv.DictReader(io.StringIO(told.text)))
    impact = next(
        each for each in lines if (each["Group"], each["Figure"]) == ("young", "Adverse impact ratio")
    )
    young = next(each for each in fairness_of(PANEL, NOISE).groups if each.group == "young")
    interval = young.against[Metric.ADVERSE_IMPACT_RATIO].interval
    assert interval is not None
    assert float(impact["Value"]) == pytest.approx(interval.value)


def test_console_without_groups_has_no_such_part(at: Desk) -> None:
    with_panels(at, None)
    assert "Fairness" not in at.pages.browser("auditor-1").get(f"/models/{NAME}@1").text


def test_a_ratio_that_may_be_any_number_is_drawn_open_and_left_out_nowhere() -> None:
    """Nobody approved in a small reference: where its interval ends above cannot be said, and the group is in the picture all the same."""
    drawn = whiskers([("open", (0.9, 0.7, math.inf), "0.9"), ("told", (0.8, 0.6, 1.0), "0.8")], "t", "w", 0.8)
    assert drawn.count("<circle") == 2
    assert "inf" not in drawn
    assert "nan" not in drawn
    found = fairness_of(PANEL, NOISE)
    group = next(each for each in found.groups if each.group == "young")
    ratio = group.against[Metric.ADVERSE_IMPACT_RATIO].interval
    assert ratio is not None
    endless = replace(
        group,
        against={
            **group.against,
            Metric.ADVERSE_IMPACT_RATIO: Figure(interval=replace(ratio, high=math.inf)),
        },
    )
    (view,) = fairness_views(
        [
            Stage(
                name="evaluation",
                attributes=(
                    replace(found, groups=tuple(endless if each is group else each for each in found.groups)),
                ),
                declines_at={"band": 0.5},
            )
        ]
    )
    assert view.chart is not None
    ends = {each.name: dict(each.points) for each in view.chart.series}
    assert ends["ratio"]["young"] == pytest.approx(ratio.value)
    assert ends["upper end"]["young"] is None
    assert ends["upper end"]["<b>mid</b>"] is not None
    rows = {each[0].value: each[1] for each in view.tables[0].rows}
    assert (rows["old"].value, rows["old"].text) == (
        round(next(each for each in found.groups if each.group == "old").rows.value),
        thousands(next(each for each in found.groups if each.group == "old").rows.value),
    )
    assert "," in str(rows["old"].text)
