"""Rules and gates in plans: which there are, what is refused and in which words, and that plans without them are what they were."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from random import Random

import numpy as np
import pytest
from scipy.stats import binom

from coordinator.rounds.opened import OpenedSums
from coordinator.rounds.question import Question, RunDocuments
from protos.documents import DocumentError, read_document
from protos.frames import Stage
from protos.payloads import payload_of
from protos.plan import Plan
from protos.plan_draft import kind_of, written
from protos.plan_fit import check_plan
from protos.plan_releases import gradient_grid
from protos.plan_training import GradientSums
from protos.plan_update_bounds import gate_words, most_sampled, require_reachable, update_bounds
from strategies.dp.mechanisms import NoisySum, centre_variance, site_variance
from strategies.dp.noise import NoiseSeed
from strategies.encoding import Vector
from strategies.errors import Refused, UsageError
from strategies.ids import RunId, site_name
from strategies.secagg.server import Opened
from strategies.update_gate import UpdateGate, l2_norm
from strategies.update_rules import Median, MultiKrum, TrimmedMean, WeightedMean
from tests.client.loans_for_tests import CONTRACT

SITES = tuple(map(site_name, ("east", "north", "ridge", "south", "west")))
NETWORK = "{kind: mlp, hidden: [16]}"


def text(mode: str = "none") -> str:
    return written(
        kind_of(mode),
        CONTRACT,
        name="ruled",
        purpose="x",
        members="demo@1",
        sites=SITES,
        rounds=2,
        epsilon=50,
    )


def plan(
    aggregation: str,
    *,
    minimum: int = 5,
    weights: str = "",
    mode: str = "none",
    model: str = "{kind: logistic}",
) -> Plan:
    parts = {
        "aggregation:": f"aggregation: {aggregation}",
        "  minimum:": f"  minimum: {minimum}{weights}",
        "model:": f"model: {model}",
    }
    lines = [
        next((part for key, part in parts.items() if line.startswith(key)), line)
        for line in text(mode).splitlines()
    ]
    return read_document("\n".join(lines), Plan, "plan.yaml")


@pytest.mark.parametrize(
    ("rule", "made"),
    [
        ("{kind: trimmed-mean, trim: 2}", TrimmedMean(2)),
        ("{kind: median}", Median()),
        ("{kind: multi-krum, attackers: 1}", MultiKrum(1)),
    ],
)
def test_a_plain_plan_names_its_rule(rule: str, made: object) -> None:
    chosen = plan(f"{{mode: plain, rule: {rule}}}")
    assert chosen.aggregation.update_rule == made
    check_plan(chosen, CONTRACT)


def test_a_plan_that_names_none_takes_the_mean_and_has_the_bytes_that_it_had() -> None:
    for aggregation in ("{mode: plain}", "{mode: secure}"):
        chosen = plan(aggregation)
        assert chosen.aggregation.update_rule == WeightedMean()
        assert chosen.aggregation.rule_kind == "mean"
        assert chosen.update_gate is None
        assert b'"rule"' not in chosen.canonical
        assert b'"gate"' not in chosen.canonical


@pytest.mark.parametrize(
    "kind", ["{kind: trimmed-mean, trim: 1}", "{kind: median}", "{kind: multi-krum, attackers: 1}"]
)
@pytest.mark.parametrize("mode", ["mode: secure, ", ""])
def test_a_rule_under_secure_aggregation_is_refused_with_the_nearest_plans(kind: str, mode: str) -> None:
    word = kind.split(": ")[1].rstrip("}").split(",")[0]
    with pytest.raises(
        DocumentError,
        match=f"`aggregation.rule`: {word} compares the sites' updates, which mode secure hides",
    ) as refused:
        plan(f"{{{mode}rule: {kind}}}")
    assert "a gate, such as gate: {update_norm: 2.5}" in str(refused.value)
    assert "under mode: plain" in str(refused.value)


def test_a_gate_under_plain_aggregation_is_refused() -> None:
    with pytest.raises(
        DocumentError, match=r"`aggregation.gate`: a gate judges a sum .* rule: \{kind: median\}"
    ):
        plan("{mode: plain, gate: {update_norm: 1.0}}")


@pytest.mark.parametrize(
    ("rule", "least"),
    [("{kind: trimmed-mean, trim: 2}", 5), ("{kind: median}", 3), ("{kind: multi-krum, attackers: 1}", 5)],
)
def test_a_rule_holds_at_the_fewest_survivors(rule: str, least: int) -> None:
    assert plan(f"{{mode: plain, rule: {rule}}}", minimum=least)
    with pytest.raises(
        DocumentError,
        match=f"minimum is {least - 1}, but .* takes at least {least} sites in a round; use a minimum of at least {least}",
    ):
        plan(f"{{mode: plain, rule: {rule}}}", minimum=least - 1)


def test_a_rule_that_counts_sites_has_no_weights() -> None:
    weights = "\n  weights: {west: 2}"
    assert plan("{mode: plain}", weights=weights)
    with pytest.raises(DocumentError, match="a median counts sites, and a weight is no number of sites"):
        plan("{mode: plain, rule: {kind: median}}", weights=weights)


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ("{kind: trimmed-mean, trim: 0}", "aggregation.rule.trim"),
        ("{kind: trimmed-mean}", "`aggregation.rule.trim` is missing"),
        ("{kind: multi-krum, attackers: -1}", "aggregation.rule.attackers"),
        ("{kind: mean}", "aggregation.rule.kind"),
        ("{kind: median, trim: 1}", "unknown key `aggregation.rule.trim`"),
    ],
)
def test_a_rule_that_is_none(rule: str, words: str) -> None:
    with pytest.raises(DocumentError, match=words):
        plan(f"{{mode: plain, rule: {rule}}}")


# The gate, against what can be sent.


def test_honest_updates_stay_within_the_root_of_the_dimension_times_the_range() -> None:
    chosen = plan("{mode: secure, update_range: 0.5}")
    bounds, size = (
        update_bounds(chosen, CONTRACT),
        chosen.dense_model(CONTRACT.feature_spec(chosen.features).width).size,
    )
    assert bounds is not None
    assert bounds.honest == 0.5 * math.sqrt(size)
    assert bounds.noise == 0.0
    assert bounds.honest < bounds.reach < 1.001 * bounds.honest  # all five must answer here


def test_a_gate_that_nothing_can_be_above_is_refused_and_one_below_is_not() -> None:
    bounds = update_bounds(plan("{mode: secure}"), CONTRACT)
    assert bounds is not None
    never = plan(f"{{mode: secure, gate: {{update_norm: {bounds.reach!r}}}}}")
    with pytest.raises(UsageError, match="no sum of this plan can have a larger mean update than"):
        check_plan(never, CONTRACT)
    gated = plan(f"{{mode: secure, gate: {{update_norm: {bounds.honest / 2!r}}}}}")
    check_plan(gated, CONTRACT)
    assert gated.update_gate == UpdateGate(update_norm=bounds.honest / 2)
    assert "below what honest sites may send" in gate_words(gated, CONTRACT)


@pytest.mark.parametrize("mode", ["distributed", "central"])
def test_a_gate_below_the_noise_is_refused_and_one_above_honest_rounds_is_not(mode: str) -> None:
    def gated(norm: float) -> Plan:
        return plan(f"{{mode: secure, gate: {{update_norm: {norm!r}}}}}", mode=mode, model=NETWORK)

    bounds = update_bounds(plan("{mode: secure}", mode=mode, model=NETWORK), CONTRACT)
    assert bounds is not None
    assert 0 < bounds.noise < bounds.honest < bounds.reach
    with pytest.raises(
        UsageError, match=r"noise alone makes a mean update longer than .* in 99 of 100 rounds"
    ):
        check_plan(gated(bounds.noise * 0.99), CONTRACT)
    check_plan(gated(bounds.honest), CONTRACT)
    assert "no honest round is above it" in gate_words(gated(bounds.honest), CONTRACT)


@pytest.mark.parametrize("mode", ["distributed", "central"])
def test_the_bounds_are_those_of_the_noise_that_is_drawn(mode: str) -> None:
    """Of a hundred rounds in which no site has a row: the mean update is noise and nothing else."""
    chosen = plan("{mode: secure}", mode=mode, model=NETWORK)
    bounds = update_bounds(chosen, CONTRACT)
    assert bounds is not None
    norms = [l2_norm(noise_of(chosen, seed)) for seed in range(100)]
    assert max(norms) < bounds.honest
    assert sum(norm < bounds.noise for norm in norms) <= 5
    assert min(norms) < 1.3 * bounds.noise + 0.1  # and the bound is not one of nothing


def noise_of(chosen: Plan, seed: int) -> Vector:
    """The mean update of zeros with the noise of all sites and the centre, by the production's own embedding and reading."""
    payload = payload_of(chosen, CONTRACT, Stage.TRAIN, SITES)
    noisy, source = payload.embedding, Random(f"noise {seed}")
    assert isinstance(noisy, NoisySum)

    def drawn() -> NoiseSeed:
        return NoiseSeed(source.randbytes(32))

    exact = np.zeros(payload.dimension, dtype=np.int64)
    sums = np.sum([noisy.at_site(exact, drawn) for _ in SITES], axis=0)
    documents = RunDocuments(run=RunId("run-0123456789abcdef"), plan=chosen, contract=CONTRACT, members=b"{}")
    read = OpenedSums(documents, source.randbytes)
    opened = Opened(survivors=SITES, total=sums, doubted=())
    question = Question(stage=Stage.TRAIN, number=1, attempt=1, roster=SITES, model=None, scaling=None)
    return read.pooled(question, payload, opened, read.drawn(payload)).values.astype(np.float64)


def test_what_lets_anything_through_is_said() -> None:
    assert "make the mean update of a round what it likes" in gate_words(plan("{mode: secure}"), CONTRACT)
    assert gate_words(plan("{mode: plain}"), CONTRACT) == "none: the coordinator sees each update"
    assert update_bounds(plan("{mode: plain}"), CONTRACT) is None


@pytest.mark.parametrize("norm", ["0", "-1", "1.0e+7", ".inf", "big"])
def test_a_norm_that_is_none(norm: str) -> None:
    with pytest.raises(DocumentError, match=r"aggregation\.gate\.update_norm|plan.yaml line"):
        plan(f"{{mode: secure, gate: {{update_norm: {norm}}}}}")


# What chance and the grid add.


@pytest.mark.parametrize("expected", [0.5, 4.0, 30.0, 100.0, 1024.0, 30_000.0])
@pytest.mark.parametrize("rate", [1e-5, 0.01, 0.3])
def test_more_units_than_the_bound_are_sampled_hardly_ever(expected: float, rate: float) -> None:
    """By the exact tail. A Gaussian one, 7.45 standard deviations, would be passed over more often than 2^-40 says where units are few."""
    most = most_sampled(expected)
    units = round(expected / rate)
    assert binom.sf(math.ceil(most) - 1, units, rate) < 2.0**-41
    gaussian = expected + math.sqrt(80.0 * math.log(2.0) * expected)
    if expected <= 100.0 and rate <= 0.01:
        assert binom.sf(math.ceil(gaussian) - 1, units, rate) > 2.0**-40
    assert (
        most < expected + 2.0 * math.sqrt(82.0 * math.log(2.0) * expected) + 20.0
    )  # and not of anything at all


def test_the_bound_of_gradients_has_the_sampled_units_the_grid_and_the_noise() -> None:
    chosen = plan("{mode: secure}", mode="distributed", model=NETWORK)
    rule, bounds, grid = chosen.training, update_bounds(chosen, CONTRACT), gradient_grid(chosen, CONTRACT)
    assert isinstance(rule, GradientSums)
    assert bounds is not None
    expected = rule.expected_batch * chosen.sites.minimum
    rounding = rule.clip * math.sqrt(grid.dimension) / (grid.steps * rule.expected_batch)
    noise = bounds.honest - rule.clip * most_sampled(expected) / expected
    deviation = noise_of_one(chosen)
    assert noise >= deviation * (math.sqrt(grid.parameters) + math.sqrt(82.0 * math.log(2.0))) + rounding * (
        1 - 1e-9
    )
    assert noise < deviation * (math.sqrt(grid.parameters) + 7.6) + 1.01 * rounding


def noise_of_one(chosen: Plan) -> float:
    """The standard deviation of the noise in a coordinate of the mean of the fewest sites."""
    noisy, rule = payload_of(chosen, CONTRACT, Stage.TRAIN, SITES).embedding, chosen.training
    assert isinstance(noisy, NoisySum)
    assert isinstance(rule, GradientSums)
    fewest, release = chosen.sites.minimum, noisy.release
    step = rule.clip / (gradient_grid(chosen, CONTRACT).steps * rule.expected_batch * fewest)
    return step * math.sqrt(fewest * site_variance(release) + centre_variance(release))


@pytest.mark.parametrize("mode", ["none", "distributed", "central"])
def test_a_norm_that_no_sum_has_is_told_by_nobody(mode: str) -> None:
    chosen = plan("{mode: secure}", mode=mode)
    bounds = update_bounds(chosen, CONTRACT)
    assert bounds is not None
    require_reachable(chosen, CONTRACT, bounds.reach)
    for norm, words in ((bounds.reach * 1.001, f"{bounds.reach * 1.001:g}"), (None, "beyond float64")):
        with pytest.raises(Refused, match=f"whose L2 norm is {re.escape(words)}: no sum of plan ruled"):
            require_reachable(chosen, CONTRACT, norm)


def test_a_norm_beyond_float64_is_believed_where_a_sum_can_have_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its square is what the norm is taken from."""
    chosen = plan("{mode: secure}")
    found = update_bounds(chosen, CONTRACT)
    assert found is not None
    monkeypatch.setattr("protos.plan_update_bounds.update_bounds", lambda *_: replace(found, reach=1e200))
    require_reachable(chosen, CONTRACT, None)
    monkeypatch.setattr("protos.plan_update_bounds.update_bounds", lambda *_: replace(found, reach=1e100))
    with pytest.raises(Refused, match="beyond float64"):
        require_reachable(chosen, CONTRACT, None)
