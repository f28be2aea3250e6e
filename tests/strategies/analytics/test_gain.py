"""Expected gain of retraining: found where outcomes have moved, none where nothing has, refused where nothing is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from protos.contract import Contract
from protos.documents import read_document
from strategies.analytics.gain import Gain, Serving, Side, expected_gain
from strategies.analytics.noisy import logit_counts
from strategies.analytics.outcome_drift import OutcomeCounts
from strategies.analytics.two_histograms import Histogram
from strategies.errors import Refused, UsageError
from strategies.features import Columns, Scaling
from strategies.models import DenseModel, sigmoid

CONTRACT = read_document(
    """\
covenant: contract/v1
name: loans
version: 1
key: id
target: {column: y, positive: bad, negative: good}
columns:
  amount: {type: number, unit: USD, range: [0, 100], missing: indicator}
  income: {type: number, unit: USD, range: [0, 1000], transform: log1p}
  owner: {type: boolean}
  term: {type: category, vocabulary: [short, long]}
""",
    Contract,
    "loans.yaml",
)
NAMES = ("amount", "income", "owner", "term")
BINS, SCORES = 10, 20
FEATURES = CONTRACT.feature_spec(NAMES)
SCALING = Scaling(mean=(0.5, 0.5, 0.5), std=(0.3, 0.3, 0.5))
SHAPE = DenseModel(inputs=FEATURES.width)
WEIGHTS = np.array([1.2, 0.3, -0.9, 0.4, 0.5, -0.5, 0.0, -0.3])
SERVING = Serving(
    profile=CONTRACT.profile(NAMES, BINS),
    features=FEATURES,
    scaling=SCALING,
    logits=lambda rows: SHAPE.logits(WEIGHTS, rows),
    scale="logit",
)


def rows_of(rng: np.random.Generator, n: int, *, shift: float = 0.0) -> Columns:
    amount = np.clip(rng.beta(2.0 + shift, 3.0, n) * 100.0, 0.0, 100.0)
    amount[rng.random(n) < 0.05] = np.nan
    return {
        "amount": amount,
        "income": rng.uniform(0.0, 1000.0, n),
        "owner": (rng.random(n) < 0.4).astype(float),
        "term": np.array(["short", "long", "other"], dtype=object)[rng.choice(3, n, p=[0.6, 0.35, 0.05])],
    }


def side(
    seed: int,
    *,
    slope: float = 1.0,
    level: float = 0.0,
    shift: float = 0.0,
    noise: float = 5.0,
    n: int = 20_000,
) -> Side:
    """Counts of a population whose outcomes follow the model's logit, times `slope`, plus `level`."""
    rng = np.random.default_rng(seed)
    columns = rows_of(rng, n, shift=shift)
    logits = SHAPE.logits(WEIGHTS, FEATURES.encode(columns, SCALING))
    labels = (rng.random(n) < sigmoid(slope * logits + level)).astype(np.int64)
    counts = SERVING.profile.counts(columns) + np.rint(rng.normal(0.0, noise, SERVING.profile.dimension))
    scores = logit_counts(logits, labels, SCORES) + np.rint(rng.normal(0.0, noise, (2, SCORES)))
    profile = {
        name: Histogram(np.array(each), noise) for name, each in SERVING.profile.by_feature(counts).items()
    }
    return Side(profile=profile, outcomes=OutcomeCounts(scores, noise))


def gain(window: Side, seed: int = 0) -> Gain:
    return expected_gain(SERVING, side(1), window, seed=seed, seeds=12, rows=3000)


def test_where_outcomes_moved_the_gain_is_near_the_truth() -> None:
    found = gain(side(2, level=1.5))
    assert found.is_clear
    # What a model that knows the new level would gain over one that does not, over the same rows.
    rng = np.random.default_rng(5)
    logits = SHAPE.logits(WEIGHTS, FEATURES.encode(rows_of(rng, 200_000), SCALING))
    chance = sigmoid(logits + 1.5)
    true = float(
        (np.logaddexp(0.0, logits) - chance * logits).mean()
        - (np.logaddexp(0.0, logits + 1.5) - chance * (logits + 1.5)).mean()
    )
    assert found.window.low - 0.03 <= true <= found.window.high + 0.03
    assert found.words.startswith("a gain: log loss")


def test_where_inputs_moved_and_outcomes_did_not_there_is_no_gain() -> None:
    found = gain(side(3, shift=2.0))
    assert not found.is_clear
    assert "no gain that can be told from chance" in found.words


def test_where_nothing_moved_there_is_no_gain_whatever_the_seed() -> None:
    clear = sum(gain(side(10 + each), seed=each).is_clear for each in range(6))
    assert clear <= 1


def test_the_same_seed_gives_the_same_figures() -> None:
    window = side(2, level=1.0, n=4000)
    assert gain(window, 7).facts() == gain(window, 7).facts()
    assert gain(window, 7).facts() != gain(window, 8).facts()


def test_a_better_ordered_model_is_not_needed_for_a_finite_answer_with_much_noise() -> None:
    facts = gain(side(4, level=0.5, noise=200.0, n=60_000)).facts()
    assert all(np.isfinite(facts["falls_by"]))


def test_too_few_outcomes_say_nothing() -> None:
    with pytest.raises(Refused, match="the windows since the alarm"):
        gain(side(5, n=60))
    empty = Side(profile=side(1).profile, outcomes=OutcomeCounts(np.zeros((2, SCORES)), 5.0))
    with pytest.raises(Refused, match="rows of one outcome"):
        gain(empty)


def test_counts_of_other_features_or_bins_are_refused() -> None:
    window = side(2)
    without = {name: each for name, each in window.profile.items() if name != "income"}
    with pytest.raises(UsageError, match="the counts of income"):
        gain(replace(window, profile=without))
    short = replace(window, outcomes=OutcomeCounts(np.full((2, 5), 500.0), 1.0))
    with pytest.raises(UsageError, match="other score bins"):
        gain(short)
