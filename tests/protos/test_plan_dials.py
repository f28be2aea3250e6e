"""Dials, and the fitted numbers as text: boundaries are found exactly, and what is pasted or written is what was found."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from protos import yaml12
from protos.documents import read_document
from protos.plan import Plan
from protos.plan_calibration import calibrate, values_of
from protos.plan_dials import Dial, Vary
from protos.plan_snippet import snippet
from protos.yaml_edit import with_values
from tests.private_plan_for_tests import contract, plan_text, private_plan

TENTH = {"preparation": 0.1, "evaluation": 0.1}


def seeded(plan: Plan, position: int) -> Plan:
    return plan.model_copy(update={"training": plan.training.model_copy(update={"seed": position})})


@pytest.mark.parametrize(("dearest", "cheapest"), [(1, 10), (10, 1), (1, 1), (5, 6)])
def test_a_dial_finds_every_boundary_there_is(dearest: int, cheapest: int) -> None:
    plan, step = private_plan(), 1 if dearest <= cheapest else -1
    positions = list(range(dearest, cheapest + step, step))

    def fits_from(first: int) -> Callable[[Plan], bool]:
        return lambda each: (each.training.seed - first) * step >= 0

    dial = Dial(dearest=dearest, cheapest=cheapest, turned=seeded)
    for position in positions:
        assert dial.furthest(plan, fits_from(position)) == position
    assert dial.furthest(plan, lambda _: False) is None


@pytest.mark.parametrize("vary", list(Vary))
@pytest.mark.parametrize("split", [None, TENTH])
def test_the_calibrated_numbers_written_into_the_text_are_the_calibrated_plan(vary, split) -> None:
    found = calibrate(private_plan(), contract(), epsilon=4.0, vary=vary, split=split)
    text = with_values(plan_text(), values_of(found.plan))
    assert read_document(text, Plan, "plan.yaml") == found.plan
    assert "# Agreed in the steering group" in text
    assert "# one gradient sum each" in text


@pytest.mark.parametrize("vary", list(Vary))
def test_the_snippet_is_yaml_that_says_what_was_fitted(vary: Vary) -> None:
    found = calibrate(private_plan(), contract(), epsilon=4.0, vary=vary)
    read = yaml12.parse(snippet(found)).value
    noise = found.plan.privacy.noise
    assert read["privacy"] == {
        "noise": {
            "preparation": noise.preparation,
            "training": noise.training,
            "evaluation": noise.evaluation,
        },
        "limit": {"epsilon": 4.0, "delta": 1e-5},
    }
    told = {"noise": {}, "rounds": {"rounds": found.plan.training.rounds}}
    sampled = {"expected_batch": values_of(found.plan)["training", "expected_batch"]}
    assert read.get("training", {}) == told.get(vary, sampled)
