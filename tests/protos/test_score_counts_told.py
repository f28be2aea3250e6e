"""Score counts that a profile tells: the model's and the champion's, in the bins that the plan gives them, or not at all."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest

from protos.documents import read_document
from protos.drift import DriftReference
from protos.panels_told import panels_of, require_evaluation, require_panels
from protos.plan import Plan
from protos.plan_evaluation import Profile
from protos.plan_panels import evaluation_cells
from protos.plan_releases import releases_of
from strategies.analytics.panels import Panels
from strategies.errors import CovenantError, Refused
from tests.coordinator.champion_for_tests import PART
from tests.coordinator.private_for_tests import TEXT
from tests.coordinator.secure_for_tests import CONTRACT, secure_plan

PLAN = read_document(TEXT, Plan, "plan.yaml")


def asking(plan: Plan, **changes: Any) -> Plan:
    kept = plan.evaluation.model_copy(update={"profile": Profile(bins=4), **changes})
    return plan.model_copy(update={"evaluation": kept})


def told(plan: Plan) -> Panels:
    """Panels of a sum whose cells count up from zero."""
    cells = evaluation_cells(plan, CONTRACT)
    total = np.arange(cells.dimension) * cells.steps
    found = panels_of(plan, CONTRACT, cells.blocks(total), 4.0)
    assert found is not None
    return found


def test_the_model_comes_first_and_the_champion_beside_it() -> None:
    found = told(asking(PLAN, champion=PART))
    assert found.profile is not None
    assert found.profile.scores == ((0, 1, 2, 3), (4, 5, 6, 7))
    assert found.profile.champion == ((8, 9, 10, 11), (12, 13, 14, 15))
    assert Panels.from_facts(json.loads(json.dumps(asdict(found)))) == found


def test_without_a_champion_there_are_none_of_it() -> None:
    found = told(asking(PLAN))
    assert found.profile is not None
    assert found.profile.champion == ()
    facts = json.loads(json.dumps(asdict(found)))
    del facts["profile"]["champion"]
    assert Panels.from_facts(facts) == found, "what was recorded before there were any"


def test_more_bins_than_are_kept_are_told_of_by_metrics_alone() -> None:
    found = told(asking(secure_plan(), score_bins=1003))
    assert found.profile is not None
    assert (found.profile.scores, found.profile.champion) == ((), ())


BAD: dict[str, Callable[[dict[str, Any]], object]] = {
    "a champion of other bins": lambda profile: profile.update(champion=[[1, 2], [3, 4]]),
    "a champion that the plan has not": lambda profile: profile.update(champion=[]),
    "counts that are words": lambda profile: profile["champion"][0].__setitem__(0, "1"),
    "a model's counts that are no numbers": lambda profile: profile["scores"][1].__setitem__(2, None),
    "counts that are parts of rows": lambda profile: profile["scores"][1].__setitem__(2, 0.9),
    "counts that no sum has": lambda profile: profile["scores"][1].__setitem__(2, 1e300),
    "counts that JSON has not": lambda profile: profile["scores"][1].__setitem__(2, 2**53),
    "counts that are not finite": lambda profile: profile["scores"][0].__setitem__(0, float("inf")),
}


@pytest.mark.parametrize("defect", BAD)
def test_recorded_counts_of_another_shape_are_refused(defect: str) -> None:
    plan = asking(PLAN, champion=PART)
    facts = json.loads(json.dumps(asdict(told(plan))))
    require_panels(plan, CONTRACT, {"panels": facts})
    BAD[defect](facts["profile"])
    with pytest.raises(Refused, match="panels of another shape"):
        require_panels(plan, CONTRACT, {"panels": facts})


@pytest.mark.parametrize("private", [True, False])
def test_panels_without_metrics_are_taken_where_a_class_is_hidden_and_nowhere_else(private: bool) -> None:
    """Else whoever dislikes a model's metrics could have none."""
    plan = asking(PLAN if private else secure_plan())
    cells = evaluation_cells(plan, CONTRACT)
    noise = 4.0 * cells.steps
    if private:
        releases = releases_of(plan, CONTRACT)
        assert releases is not None
        noise = math.sqrt(releases.evaluate.variance)
    total = np.zeros(cells.dimension, dtype=np.int64)

    def facts() -> dict[str, Any]:
        found = panels_of(plan, CONTRACT, cells.blocks(total), noise if private else 0.0)
        return dict(json.loads(json.dumps(asdict(found))))

    cells.blocks(total).scores[0, 0] = 100_000 * cells.steps
    require_evaluation(plan, CONTRACT, None, facts())
    require_evaluation(plan, CONTRACT, None, None)
    with pytest.raises(Refused, match="panels of another shape"):
        require_evaluation(plan, CONTRACT, None, facts() | {"noise_std": "none"})
    # Cut to whole numbers, as a machine does that asks for some, nothing would be left of a class.
    halves = facts()
    halves["profile"]["scores"][1] = [0.9 for _ in halves["profile"]["scores"][1]]
    with pytest.raises(Refused, match="panels of another shape"):
        require_evaluation(plan, CONTRACT, None, halves)
    cells.blocks(total).scores[0, 1] = 100_000 * cells.steps
    with pytest.raises(Refused, match="has no metrics of an evaluation whose counts give some"):
        require_evaluation(plan, CONTRACT, None, facts())


def test_counts_too_large_for_a_reference_are_refused_and_break_nothing() -> None:
    """An auditor who reads them has a refused entry, and not a program that ends."""
    found = told(asking(PLAN))
    assert found.profile is not None
    large = replace(found, profile=replace(found.profile, scores=((0, 1, 2, 2**52 + 1), (4, 5, 6, 7))))
    with pytest.raises(CovenantError, match="the reference of lending-default@1"):
        DriftReference.of_panels(
            large, model="lending-default@1", version_digest="ab" * 32, contract="ab" * 32
        )
