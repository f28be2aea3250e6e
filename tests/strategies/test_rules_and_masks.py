"""What masks is given a rule that a sum is enough for; another one is an error before anything runs."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from mypy import api

from strategies.aggregation import Contribution, weighted_mean
from strategies.ids import SiteName
from strategies.update_rules import LinearRule, RobustRule, WeightedMean

ROOT = Path(__file__).parents[2]
MASKS = """\
from strategies.ids import SiteName
from strategies.update_rules import LinearRule, Median, MultiKrum, RobustRule, TrimmedMean, WeightedMean
from strategies.secagg.payloads import WeightedUpdates

WEIGHTS = {SiteName("west"): 1}


def masked(robust: RobustRule, linear: LinearRule) -> None:
    WeightedUpdates.of(linear, 1.0, WEIGHTS)
    WeightedUpdates.of(WeightedMean(), 1.0, WEIGHTS)
    WeightedUpdates.of(robust, 1.0, WEIGHTS)
    WeightedUpdates.of(Median(), 1.0, WEIGHTS)
    WeightedUpdates.of(TrimmedMean(1), 1.0, WEIGHTS)
    WeightedUpdates.of(MultiKrum(1), 1.0, WEIGHTS)
"""


@pytest.mark.slow
def test_a_robust_rule_on_the_masked_path_is_a_type_error_and_a_linear_one_is_none(tmp_path: Path) -> None:
    file = tmp_path / "masks.py"
    file.write_text(MASKS)
    out, _, status = api.run(["--strict", "--config-file", str(ROOT / "pyproject.toml"), str(file)])
    found = re.findall(r'masks\.py:(\d+): error: .*incompatible type "(\w+)"; expected "LinearRule"', out)
    lines = {line: place for place, line in enumerate(MASKS.splitlines(), 1)}
    refused = [
        ("robust", "RobustRule"),
        ("Median()", "Median"),
        ("TrimmedMean(1)", "TrimmedMean"),
        ("MultiKrum(1)", "MultiKrum"),
    ]
    assert found == [
        (str(lines[f"    WeightedUpdates.of({made}, 1.0, WEIGHTS)"]), kind) for made, kind in refused
    ], out
    assert status == 1
    assert "Found 4 errors in 1 file" in out


def test_no_rule_is_of_both_kinds() -> None:
    assert not set(LinearRule.__subclasses__()) & set(RobustRule.__subclasses__())
    assert not issubclass(RobustRule, LinearRule)


def test_the_linear_rule_is_the_weighted_mean() -> None:
    sent = [Contribution(SiteName("a"), np.ones(2), 3), Contribution(SiteName("b"), np.zeros(2), 1)]
    assert np.array_equal(WeightedMean().aggregate(sent), weighted_mean(sent))
    assert WeightedMean().factors({SiteName("a"): 3}) == {"a": 3}
