"""What "tabular/1" computes is held by golden vectors: another behaviour takes another name, whatever the package's version.

Masks are bound to the component's name, so two releases whose training differs and is called the same would aggregate apples and pears.
Values are compared, not digests: floating point differs in the last bits from one processor to the next, behaviour does not.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.training import COMPONENT
from tests.client.loans_for_tests import plan
from tests.client.test_training import SOUTH, WEST, scaling_of, session

VECTORS = Path(__file__).parents[1] / "vectors" / "tabular_1.json"
GOLDEN: dict[str, Any] = json.loads(VECTORS.read_text())
TOLERANCE = 1e-6


def computed(case: dict[str, Any]) -> dict[str, list[float]]:
    """What the component gives for a case: moments, an update, and counts of scores."""
    one = session(
        plan(model=case["model"], **case["training"]), site={"west": WEST, "south": SOUTH}[case["site"]]
    )
    scaling = scaling_of(one)
    update = one.train(one.model.initial(case["seed"]), scaling, case["round"])
    counts = one.score_counts(one.model.initial(case["seed"]) + update, scaling)
    return {
        "moments": one.moments().tolist(),
        "update": update.tolist(),
        "scored": counts.sum(axis=1).tolist(),
    }


@pytest.mark.parametrize("case", GOLDEN["cases"], ids=lambda case: case["name"])
def test_the_component_behaves_as_its_name_says(case: dict[str, Any]) -> None:
    assert GOLDEN["component"] == COMPONENT
    for name, values in computed(case["input"]).items():
        np.testing.assert_allclose(values, case["output"][name], rtol=0, atol=TOLERANCE, err_msg=name)


def test_a_change_that_a_reader_would_call_another_behaviour_is_seen() -> None:
    """The control: one more epoch, another batch size, another round and another site each give another update."""
    case = GOLDEN["cases"][0]["input"]
    changes = [
        {"training": {**case["training"], "local_epochs": 3}},
        {"training": {**case["training"], "batch_size": 8}},
        {"round": case["round"] + 1},
        {"site": "south"},
    ]
    for change in changes:
        other = np.asarray(computed({**case, **change})["update"])
        assert np.abs(other - GOLDEN["cases"][0]["output"]["update"]).max() > 1000 * TOLERANCE, change
