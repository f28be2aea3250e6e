"""What "tabular/2" computes is held by golden vectors: another behaviour takes another name, whatever the package's version.

Accounts and masks are bound to the component's name. Gradients are compared as values, in clipping norms: their floating-point factors differ in
the last bits from one processor to the next, behaviour does not. Moments, samples and counts are whole numbers, and compared as such.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from client.data import table_from
from client.training import PRIVATE
from client.training.private import PrivateSession
from protos.plan_training import GradientSums
from strategies.dp.clipping import gradient_value
from strategies.dp.poisson import sampled
from strategies.features import Scaling
from tests.client import loans_for_tests as loans
from tests.client.local_for_tests import CUSTOMERS, seed
from tests.client.private_for_tests import private_plan

VECTORS = Path(__file__).parents[1] / "vectors" / "tabular_2.json"
GOLDEN: dict[str, Any] = json.loads(VECTORS.read_text())
TOLERANCE = 1e-6
SCALING = Scaling(mean=(0.45, 0.7), std=(0.3, 0.2))


def computed(case: dict[str, Any]) -> dict[str, list[float]]:
    """What the component gives for a case: moments, which units it takes, their gradient sum, and counts of scores."""
    plan = private_plan(case["plan"])
    rows = loans.loans(120, seed=4)
    rows = rows.append_column("customer_id", pa.array([f"c{i * 7 % 25}" for i in range(120)]))
    contract = CUSTOMERS if case["customers"] else loans.CONTRACT
    one = PrivateSession(plan, contract, table_from(rows, contract, renamed={}, named="rows"))
    rule, model = plan.training, np.sin(case["model"] * np.arange(1, one.model.size + 1))
    assert isinstance(rule, GradientSums)
    return {
        "moments": one.moments().tolist(),
        "taken": np.flatnonzero(
            sampled(rule.sampling_rate, one._training.units, seed(case["sample"]))
        ).tolist(),
        "gradient": gradient_value(
            one.gradient_sum(model, SCALING, seed(case["sample"])), rule.clip
        ).tolist(),
        "counts": one.evaluate(model, SCALING).tolist(),
    }


@pytest.mark.parametrize("case", GOLDEN["cases"], ids=lambda case: case["name"])
def test_the_component_behaves_as_its_name_says(case: dict[str, Any]) -> None:
    assert GOLDEN["component"] == PRIVATE
    found = computed(case["input"])
    assert set(found) == set(case["output"])
    for name in ("moments", "taken", "counts"):
        assert found[name] == case["output"][name], name
    np.testing.assert_allclose(found["gradient"], case["output"]["gradient"], rtol=0, atol=TOLERANCE)


CHANGES: dict[str, dict[str, Any]] = {
    "another sample": {"sample": 12},
    "another model": {"model": 0.5},
    "another clipping norm": {"plan": {"  expected_batch: 16": "  clip: 0.25\n  expected_batch: 16"}},
    "another hold-out": {"plan": {'salt: "1"': 'salt: "2"'}},
    "another rate": {"plan": {"expected_batch: 16": "expected_batch: 20", "epsilon: 9.0": "epsilon: 20.0"}},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_change_that_a_reader_would_call_another_behaviour_is_seen(change: dict[str, Any]) -> None:
    """The control."""
    case = GOLDEN["cases"][0]
    other = computed({**case["input"], **change})
    assert np.abs(np.subtract(other["gradient"], case["output"]["gradient"])).max() > 1000 * TOLERANCE
