"""Panels through whole federations: real agents, coordinator, masks and accounts, with dropouts and retries, in each privacy mode."""

from __future__ import annotations

import math
import os
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from client.data import table_from
from client.training import session_for
from protos.documents import read_document
from protos.plan import Plan
from protos.plan_panels import evaluation_cells
from protos.plan_privacy import Privacy
from simulation.experiment import Experiment, simulate
from simulation.partition import Even, deal
from simulation.quiet import silence_logs
from simulation.result import SimulationResult
from simulation.unmasked import UnmaskedRun
from strategies.analytics.panels import NOT_GIVEN, Panels
from strategies.features import Scaling
from strategies.ids import SiteName
from tests.client import loans_for_tests as loans
from tests.client.panels_for_tests import CONTRACT, CUSTOMERS, PROTECTED, REWEIGHED, panelled, rows
from tests.client.private_for_tests import CENTRAL, LOCAL

pytestmark = pytest.mark.slow
ROWS = 1600
MODES = {"distributed": {}, "central": CENTRAL, "local": LOCAL}
PLAIN = (
    loans.PLAN.replace("MODEL", "{kind: logistic}")
    .replace("term]", "term]\nprotected: [sex, veteran]")
    .replace("[west, south], minimum: 2", "[east, north, south, west], minimum: 3")
    .replace("every: 1", "every: 3")
    .replace(
        'salt: "1"}}',
        'salt: "1"}, fairness: {decline_at: 0.5, minimum_group: 40, bins: 4}, explanations: {clip: 1.5, parts: rows}, profile: {bins: 5}}',
    )
)


@pytest.fixture(autouse=True)
def _quiet() -> None:
    silence_logs()


def dealt(plan: Plan) -> dict[SiteName, pa.Table]:
    return deal(rows(ROWS, customers=400), tuple(sorted(plan.sites.invite)), Even(), target="status", seed=1)


def run(plan: Plan, **changes: object) -> SimulationResult:
    made = Experiment(plan=plan, contract=CONTRACT, tables=dealt(plan), partition="evenly", seed=5)
    return simulate(replace(made, **changes))


def panels_in(result: SimulationResult) -> Panels:
    assert result.completed, result.reason
    assert result.metrics is not None
    assert result.metrics.panels is not None
    return result.metrics.panels


def exact(plan: Plan) -> dict[str, dict[str, int]]:
    """Held-out rows of each group, as sites would count them for this plan."""
    found: dict[str, dict[str, int]] = {each: {} for each in PROTECTED}
    cells = evaluation_cells(plan, CONTRACT)
    groups = {"sex": ("f", "m", NOT_GIVEN), "veteran": ("false", "true", NOT_GIVEN)}
    for site, data in dealt(plan).items():
        read = table_from(data, CONTRACT, renamed={}, named="x", protected=PROTECTED)
        session = session_for(plan, CONTRACT, read, site=site)
        counted = cells.blocks(session.evaluate(np.zeros(session.model.size), Scaling.identity(2)))
        for name, block in zip(PROTECTED, counted.groups, strict=True):
            for group, counts in zip(groups[name], block, strict=True):
                found[name][group] = found[name].get(group, 0) + int(counts.sum()) // cells.steps
    return found


def require_near(panels: Panels, sizes: dict[str, dict[str, int]]) -> None:
    """Each told group within five deviations of the noise of its rows, and the small one told to nobody where that can be seen."""
    for group in panels.groups:
        cells = 2 * (len(group.edges) - 1)
        for name, counts in group.counts.items():
            told = sum(map(sum, counts))
            assert abs(told - sizes[group.attribute][name]) <= 5 * panels.noise_std * math.sqrt(cells)
        assert set(group.counts) | set(group.suppressed) == set(sizes[group.attribute])


@pytest.mark.parametrize("aggregation", ["plain", "secure"])
def test_without_privacy_the_panels_are_those_of_all_rows_but_for_small_groups(aggregation: str) -> None:
    plan = read_document(PLAIN.replace("{mode: plain}", f"{{mode: {aggregation}}}"), Plan, "plan.yaml")
    panels, sizes = panels_in(run(plan)), exact(plan)
    assert panels.noise_std == 0.0
    require_near(panels, sizes)
    told = {group.attribute: set(group.counts) for group in panels.groups}
    assert told["sex"] == {"f", "m", NOT_GIVEN}
    assert min(sizes["sex"].values()) >= 40
    assert panels.attributions is not None
    assert panels.profile is not None
    assert sum(panels.attributions.rows) == sum(sizes["sex"].values())
    assert {sum(each) for each in panels.profile.counts.values()} == {sum(sizes["sex"].values())}


def test_plain_and_secure_open_the_same_panels() -> None:
    """Of the same model: one round from the same start, before sums of updates part on the grid."""
    text = PLAIN.replace("rounds: 3", "rounds: 1").replace("every: 3", "every: 1")
    found = []
    for aggregation in ("plain", "secure"):
        plan = read_document(text.replace("{mode: plain}", f"{{mode: {aggregation}}}"), Plan, "plan.yaml")
        found.append(panels_in(run(plan)))
    plain, secure = found
    assert plain.profile == secure.profile
    assert plain.attributions is not None
    assert secure.attributions is not None
    assert plain.attributions.rows == secure.attributions.rows
    np.testing.assert_allclose(plain.attributions.absolute, secure.attributions.absolute, rtol=0.02)
    for mine, theirs in zip(plain.groups, secure.groups, strict=True):
        assert mine.suppressed == theirs.suppressed


def test_a_small_group_without_noise_is_hidden_with_the_next_one() -> None:
    text = PLAIN.replace("{mode: plain}", "{mode: secure}").replace("minimum_group: 40", "minimum_group: 90")
    plan = read_document(text, Plan, "plan.yaml")
    sizes = exact(plan)["sex"]
    assert 0 < sizes[NOT_GIVEN] < 90 < sizes["f"]
    panels = panels_in(run(plan))
    assert panels.groups[0].suppressed == ("f", NOT_GIVEN)
    assert set(panels.groups[0].counts) == {"m"}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("unit", ["record", "customer"])
def test_with_privacy_the_panels_are_near_and_say_how_near(mode: str, unit: str) -> None:
    changes = MODES[mode] | (CUSTOMERS if unit == "customer" else {})
    if unit == "customer":
        changes = changes | {"evaluation: 2.0": "evaluation: 1.0"}
    plan = panelled("none" if mode == "central" else "sites", changes)
    panels = panels_in(run(plan))
    assert isinstance(plan.privacy, Privacy)
    cells = evaluation_cells(plan, CONTRACT)
    unit_rows = plan.privacy.unit.unit.max_rows
    multiplier = plan.privacy.noise.evaluation
    assert multiplier is not None
    needed = multiplier * unit_rows * math.sqrt(cells.weight) / cells.stress
    # All four sites add their shares, or all their noise; the centre adds what the release says.
    factor = {"distributed": math.sqrt(4 / 2), "central": 1.0, "local": 2.0}[mode]
    assert panels.noise_std == pytest.approx(needed * factor, rel=1e-9)
    require_near(panels, exact(plan))
    assert panels.attributions is not None
    assert panels.attributions.noise_std == pytest.approx(panels.noise_std * 1.5)
    assert panels.profile is not None
    assert panels.profile.noise_std == pytest.approx(panels.noise_std * 2)
    assert len(panels.attributions.parts) == (1 if mode == "central" else 2)


def test_dropouts_leave_panels_of_those_that_are_left() -> None:
    plan = panelled("rows")
    result = run(plan, dropout=0.1)
    assert [each.survivors for each in result.rounds] == [3, 3, 3]
    require_near(panels_in(result), exact(plan))


def test_a_model_is_reweighed_by_the_plans_constants_in_each_mode() -> None:
    for mode, changes in MODES.items():
        plan, plain = (panelled("none", changes | more) for more in (REWEIGHED, {}))
        found, other = run(plan), run(plain)
        assert found.completed, (mode, found.reason)
        assert found.model_digest != other.model_digest
    reweighed = read_document(
        PLAIN.replace(
            "  seed: 1",
            "  seed: 1\n  reweigh: {attribute: sex, weights: {f: {negative: 3.0, positive: 0.25}}}",
        ),
        Plan,
        "plan.yaml",
    )
    plain_plan = read_document(PLAIN, Plan, "plan.yaml")
    neutral = read_document(
        PLAIN.replace("  seed: 1", "  seed: 1\n  reweigh: {attribute: sex, weights: {f: {negative: 1.0}}}"),
        Plan,
        "plan.yaml",
    )
    digests = [run(each).model_digest for each in (reweighed, plain_plan, neutral)]
    assert digests[0] != digests[1] == digests[2]


def test_many_evaluations_have_the_mean_and_the_deviation_that_they_say() -> None:
    """200 sums with fresh noise, read as the coordinator reads them: 95 % of figures within two deviations."""
    plan = panelled("none")
    tables = {
        site: table_from(data, CONTRACT, renamed={}, named="x", protected=PROTECTED)
        for site, data in dealt(plan).items()
    }
    made = UnmaskedRun(plan, CONTRACT, tables, os.urandom)
    model, sizes, off = np.zeros(made.initial()[0].size), exact(plan), []
    for _ in range(200):
        panels = made.evaluate(model, Scaling.identity(2)).panels
        assert panels is not None
        told = next(each for each in panels.groups if each.attribute == "sex").counts.get("m")
        assert told is not None
        off.append((sum(map(sum, told)) - sizes["sex"]["m"]) / (panels.noise_std * math.sqrt(8)))
    assert abs(np.mean(off)) < 4 / math.sqrt(200)
    assert 0.8 < np.std(off) < 1.2
