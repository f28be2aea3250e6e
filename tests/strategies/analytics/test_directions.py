"""In which direction features move a model, read off the model itself."""

from __future__ import annotations

import numpy as np
import pytest

from strategies.analytics.contributions import reference_of
from strategies.analytics.directions import Direction, directions
from strategies.features import CategoricalFeature, FeatureSpec, NumericFeature
from strategies.models import Parameters

SPEC = FeatureSpec(
    features=(
        NumericFeature("a", 0.0, 1.0, missing="indicator"),
        CategoricalFeature("c", ("x", "y", "z")),
        NumericFeature("b", 0.0, 1.0),
        NumericFeature("d", 0.0, 1.0),
    )
)


def layer(*weights: list[float]) -> Parameters:
    return np.array(weights), np.zeros(len(weights))


def test_a_logistic_model_is_its_weights() -> None:
    found = directions([layer([0.5, 9.0, 0.1, -0.2, 0.0, 7.0, -1.0, 0.0])], SPEC, reference_of(SPEC))
    assert [each.feature for each in found] == ["a", "c", "b", "d"]
    assert [each.direction for each in found] == [Direction.RAISES, None, Direction.LOWERS, Direction.NEITHER]
    assert [each.by for each in found] == pytest.approx([2.0, 0.3, -4.0, 0.0])
    assert (found[1].lowest, found[1].highest) == ("y", "x")


def test_a_network_that_turns_around_is_said_to_do_both() -> None:
    """|b|, by two ReLUs."""
    up, down = np.zeros(8), np.zeros(8)
    up[6], down[6] = 1.0, -1.0
    found = directions([(np.array([up, down]), np.zeros(2)), layer([1.0, 1.0])], SPEC, reference_of(SPEC))
    assert found[2].direction == Direction.BOTH
    assert found[2].by == pytest.approx(0.0)
    assert found[0].direction == Direction.NEITHER
