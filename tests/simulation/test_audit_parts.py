"""The parts of an audit: what adversaries hear and score, which rows are canaries, and where they are."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest

from client.data import table_from
from client.training import session_for
from protos.plan import Plan
from simulation.audit.adversary import Adversary, Belief, Heard, Sampling, Signals, gradients
from simulation.audit.canaries import canaries, crowd, training_keys
from simulation.audit.cast import Cast
from simulation.audit.setting import Audit
from strategies.dp.clipping import FRACTION_BITS
from strategies.features import Scaling
from strategies.ids import site_name
from strategies.sampling import held_out
from tests.client import loans_for_tests as loans
from tests.client.local_for_tests import CUSTOMERS, local_plan
from tests.simulation.audits_for_tests import CONTRACT, audited_plan
from tests.strategies.dp.gradients_for_tests import UNEVEN, case

ROWS, STEPS = 160, 30


def small_audit(plan: Plan | None = None, *, number: int = 40) -> Audit:
    return Audit(plan=plan or audited_plan(), contract=CONTRACT, rounds=1, canaries=number)


# --- gradients --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hidden", [(), (8,), (16, 4)])
def test_the_adversarys_gradients_are_what_sites_sum_up(hidden: tuple[int, ...]) -> None:
    rows = case(12, hidden, rows=30)
    raw = gradients(rows.model, rows.vector, rows.x, rows.y, UNEVEN) / 0.7
    clipped = Belief().gradients(raw)
    assert np.linalg.norm(clipped, axis=1).max() <= 1 + 1e-12
    for row in range(30):
        part = rows.sum([row], clip=0.7, weights=UNEVEN) * 2.0**-FRACTION_BITS
        np.testing.assert_allclose(part, clipped[row], atol=1e-5)
    assert (Belief(clips=False).gradients(raw) == raw).all()


# --- scores -----------------------------------------------------------------------------------------------------------


def heard_sums(
    adversary: Adversary, included: np.ndarray, scale: float, *, rounds: int = STEPS, overlap: float = 0.05
) -> None:
    """Rounds with canaries along axes that overlap a little, and a crowd along another axis."""
    source, size = np.random.default_rng(7), len(included)
    directions = np.eye(size, size + 3) + overlap * np.ones((size, size + 3)) / size**0.5
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    crowd_direction, weights = np.eye(1, size + 3, size), np.array([500.0])
    for _ in range(rounds):
        taken = source.binomial(adversary.canary.times, adversary.canary.rate, size) * included
        crowded = source.binomial(500 * adversary.row.times, adversary.row.rate)
        noise = scale * adversary.deviation * source.normal(size=size + 3)
        opened = taken @ directions + crowded * crowd_direction[0] + noise
        adversary.listen(Heard(opened=opened, canaries=directions, crowd=crowd_direction, weights=weights))


def adversary(*, scale: float = 1.0, rate: float = 0.2, times: int = 1, deviation: float = 2.0) -> Adversary:
    row = Sampling(rate=rate, times=1)
    return Adversary(
        canary=Sampling(rate=rate, times=times), row=row, deviation=deviation, belief=Belief(scale=scale)
    )


def separation(inside: np.ndarray, outside: np.ndarray) -> float:
    return (inside.mean() - outside.mean()) / np.sqrt((inside.var() + outside.var()) / 2)


@pytest.mark.parametrize(("belief", "truth"), [(1.0, 1.0), (0.25, 0.25), (0.25, 1.0), (1.0, 0.25)])
@pytest.mark.parametrize("times", [1, 4])
def test_scores_are_as_far_apart_as_is_foreseen(belief: float, truth: float, times: int) -> None:
    listener = adversary(scale=belief, times=times)
    included = np.arange(ROWS) % 2 == 0
    heard_sums(listener, included, truth)
    sample = listener.imagine(
        Signals(np.tile(listener.signals.strength, 10), np.tile(listener.signals.noise, 10)),
        truth,
        np.random.default_rng(1),
    )
    foreseen = separation(sample.inside, sample.outside)
    assert foreseen > 0.4
    assert separation(listener.scores[included], listener.scores[~included]) == pytest.approx(
        foreseen, rel=0.15, abs=0.2
    )


def test_a_score_is_the_logarithm_of_a_likelihood_ratio() -> None:
    """So its exponential has the mean 1 for canaries that are not in."""
    listener = adversary(deviation=3.0)
    heard_sums(listener, np.zeros(ROWS, dtype=np.bool_), 1.0, rounds=10, overlap=0.0)
    assert np.exp(listener.scores).mean() == pytest.approx(1.0, abs=0.15)


def test_without_sampling_a_score_is_the_inner_product_with_the_sum() -> None:
    """The likelihood ratio of two Gaussians: the white-box attack of the literature."""
    listener, source = adversary(rate=1.0), np.random.default_rng(3)
    opened = source.normal(size=6)
    heard = Heard(opened=opened, canaries=np.eye(5, 6), crowd=np.zeros((1, 6)), weights=np.array([10.0]))
    listener.listen(heard)
    np.testing.assert_allclose(listener.scores, (opened[:5] - 0.5) / 4.0, rtol=1e-9)


def test_what_the_crowd_adds_along_its_own_direction_disturbs_nobody() -> None:
    quiet, loud = adversary(), adversary()
    directions, along = np.eye(4, 6), np.eye(1, 6, 5)
    opened = np.array([1.0, 0.0, 1.0, 0.0, 0.0, 0.0])
    quiet.listen(Heard(opened=opened, canaries=directions, crowd=along, weights=np.array([0.0])))
    loud.listen(
        Heard(opened=opened + 1e4 * along[0], canaries=directions, crowd=along, weights=np.array([1e6]))
    )
    np.testing.assert_allclose(loud.scores, quiet.scores, atol=1e-6)


@pytest.mark.parametrize("dimension", [7, 40])
def test_more_rows_than_coordinates_and_fewer_give_the_same_scores(dimension: int) -> None:
    """The same gradients, once as they are and once with coordinates that none of them has."""
    source = np.random.default_rng(2)
    directions, along = source.normal(size=(9, 7)), source.normal(size=(3, 7))
    opened, weights = source.normal(size=7), np.array([5.0, 1.0, 2.0])
    short, long = adversary(), adversary()
    short.listen(Heard(opened=opened, canaries=directions, crowd=along, weights=weights))
    wide = [
        np.pad(each, [(0, 0)] * (each.ndim - 1) + [(0, dimension - 7)])
        for each in (opened, directions, along)
    ]
    long.listen(Heard(opened=wide[0], canaries=wide[1], crowd=wide[2], weights=weights))
    np.testing.assert_allclose(long.scores, short.scores, rtol=1e-8)
    np.testing.assert_allclose(long.signals.noise, short.signals.noise, rtol=1e-8)


@pytest.mark.parametrize(("rate", "times"), [(0.2, 1), (1.0, 3), (0.01, 400), (0.5, 20)])
def test_the_law_of_how_often_a_canary_is_taken_is_binomial(rate: float, times: int) -> None:
    sampling = Sampling(rate=rate, times=times)
    numbers, logs = sampling.law()
    assert np.exp(logs).sum() == pytest.approx(1.0, abs=1e-9)
    assert np.exp(logs) @ numbers == pytest.approx(sampling.mean)
    assert np.exp(logs) @ (numbers - sampling.mean) ** 2 == pytest.approx(sampling.variance, rel=1e-6)


# --- canaries ---------------------------------------------------------------------------------------------------------


def test_canaries_say_what_no_other_says_and_are_longer_than_the_clipping_norm() -> None:
    plan = audited_plan()
    found = canaries(plan, CONTRACT, 1.0, 100, np.random.default_rng(0))
    assert np.median(found.lengths) > 2.0
    spec = CONTRACT.feature_spec(plan.features)
    x = spec.encode(found.rows.columns, Scaling(mean=(0.5,) * 400, std=(0.15,) * 400))
    model = plan.dense_model(spec.width)
    raw = gradients(model, np.zeros(model.size), x, found.rows.target, plan.training.class_weights)
    singular = np.linalg.svd(Belief().gradients(raw), compute_uv=False)
    assert len(found.lengths) == 100
    assert singular[-1] > 0.3


def test_a_seed_decides_the_rows_and_another_gives_others() -> None:
    one, again, other = (
        canaries(audited_plan(), CONTRACT, 1.0, 10, np.random.default_rng(seed)).rows for seed in (1, 1, 2)
    )
    for name in one.columns:
        assert (one.columns[name] == again.columns[name]).all()
    assert any((one.columns[name] != other.columns[name]).any() for name in one.columns)


def test_canaries_are_rows_that_the_contract_knows_also_missing_ones_and_words() -> None:
    plan = local_plan()
    found = canaries(plan, CUSTOMERS, 1.0, 6, np.random.default_rng(0)).rows
    table = found.table(training_keys(plan, "canary", len(found.target)), CUSTOMERS)
    session = session_for(plan, CUSTOMERS, table, site=site_name("west"))
    assert session.rows == (len(found.target), 0)
    assert table.customers == table.keys
    amounts = crowd(plan, CUSTOMERS, 8)
    assert set(amounts.columns["amount"]) == {500.0}
    units = CUSTOMERS.feature_spec(plan.features).unit_values(amounts.columns)
    np.testing.assert_allclose(units, 0.5)
    assert amounts.target.tolist() == [0.0, 1.0] * 4


@pytest.mark.parametrize("sites", [0, 2])
def test_a_canary_is_at_its_sites_if_its_coin_says_so_and_always_trains(sites: int) -> None:
    plan = audited_plan(sites=sites)
    cast = Cast.of(small_audit(plan, number=20))
    included = np.arange(cast.size) % 3 == 0
    tables = cast.tables(included)
    holdout = plan.evaluation.holdout
    at = {site: {key for key in table.keys if key.startswith("canary")} for site, table in tables.items()}
    for table in tables.values():
        assert not held_out(table.keys, holdout.salt, holdout.share).any()
        assert len(set(table.keys)) == len(table.keys)
    names = training_keys(plan, "canary", cast.size)
    here = [sum(name in keys for keys in at.values()) for name in names]
    assert here == [max(1, sites) if chosen else 0 for chosen in included]
    assert sites or {len(keys) for keys in at.values()} <= {3, 4}


def test_nobody_trains_or_is_charged_twice_in_a_round() -> None:
    cast = Cast.of(small_audit(number=10))
    listener = Adversary(
        canary=Sampling(rate=0.95, times=1), row=Sampling(rate=0.95, times=1), deviation=2.83, belief=Belief()
    )
    charges = cast.play(np.ones(cast.size, dtype=np.bool_), [listener], Random(1).randbytes, lambda _: None)
    releases = cast.setting.releases
    assert charges == {releases.prepare: 1, releases.train: 1}
    assert listener.signals.strength.shape == (1, cast.size)


def test_a_given_crowd_is_one_row_of_each_unit_that_trains() -> None:
    plan = local_plan(customers=True)
    rows = loans.loans(300)
    rows = rows.append_column("customer_id", [[f"c{place % 40}" for place in range(300)]])
    table = table_from(rows, CUSTOMERS, renamed={}, named="loans.parquet")
    tables = dict.fromkeys(sorted(plan.sites.invite), table)
    setting = Audit(plan=plan, contract=CUSTOMERS, rounds=1, canaries=2, tables=tables)
    taken = Cast.of(setting).crowds[setting.sites[0]]
    training = ~held_out([f"c{place}" for place in range(40)], plan.evaluation.holdout.salt, 0.3)
    assert len(taken.target) == training.sum()
    assert (taken.columns["amount"] == table.columns["amount"][np.flatnonzero(training)]).all()
