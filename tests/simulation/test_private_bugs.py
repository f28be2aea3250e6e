"""Rules without which no figure of privacy holds, each checked twice: it holds for the code, and the very same check fails with a bug planted.

These are the bugs that an audit would need luck to notice: they leak little, or only from some data.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from random import Random

import numpy as np
import pyarrow as pa
import pytest

from client.accounts.book import ChargeReceipt
from client.data import Table, table_from
from client.secure.inputs import Inputs
from client.training import PrivateSession, private, session_for
from protos.documents import read_document
from protos.frames import Stage, Statement
from protos.plan import Plan
from protos.plan_releases import releases_of
from simulation.quiet import silence_logs
from simulation.unmasked import UnmaskedRun
from strategies.dp.clipping import FRACTION_BITS
from strategies.dp.mechanisms import site_variance
from strategies.encoding import sha256_hex
from strategies.features import Scaling
from strategies.ids import RunId, site_name
from strategies.secagg.secrets import MaskSeed
from tests.client import loans_for_tests as loans
from tests.client import local_for_tests
from tests.client.local_for_tests import CUSTOMERS, local_plan
from tests.simulation import private_bugs_for_tests as bugs
from tests.simulation.audits_for_tests import CONTRACT, audited_plan
from tests.simulation.private_bugs_for_tests import Plant

SCALING = Scaling(mean=(0.5, 0.5), std=(0.3, 0.3))
STRETCHED = Scaling(mean=(0.5, 0.5), std=(0.05, 0.05))
"""With it gradients are longer than the clipping norm."""
SOUTH, WEST = site_name("south"), site_name("west")


@pytest.fixture(autouse=True)
def _quiet() -> None:
    silence_logs()


# --- a site -----------------------------------------------------------------------------------------------------------


def sums_plan(*, customers: bool = False, batch: int = 32) -> Plan:
    """Gradient sums over `batch` of 160 units a site, on average; customers have up to five rows."""
    text = local_plan(customers=customers).canonical.decode()
    text = text.replace('"dp-sgd"', '"dp-fedsgd"').replace('"mode":"local"', '"mode":"distributed"')
    text = text.replace('"local_steps":4,', "").replace('"learning_rate":0.5,', "")
    text = text.replace('"expected_batch":32', f'"expected_batch":{batch}').replace(
        '"epsilon":40', '"epsilon":50'
    )
    return read_document(text, Plan, "plan.json")


def rows(count: int, customers: int, *, first: int = 0) -> pa.Table:
    """Loans of customers by turns, each with an amount of its own."""
    table = loans.loans(count, seed=first, first=first)
    amounts = pa.array(np.linspace(1.0, 999.0, count) + first * 1e-6)
    table = table.set_column(table.column_names.index("amount"), "amount", amounts)
    return table.append_column(
        "customer_id", pa.array([f"c{first + place % customers}" for place in range(count)])
    )


def site_table(*parts: pa.Table) -> Table:
    return table_from(pa.concat_tables(parts), CUSTOMERS, renamed={}, named="loans.parquet")


def session(plan: Plan, *parts: pa.Table) -> PrivateSession:
    made = session_for(plan, CUSTOMERS, site_table(*parts), site=WEST)
    assert isinstance(made, PrivateSession)
    return made


def norm(integers: np.ndarray) -> float:
    """In clipping norms."""
    return float(np.linalg.norm(integers.astype(np.float64))) * 2.0**-FRACTION_BITS


# --- rules ------------------------------------------------------------------------------------------------------------


def one_more_unit_adds_its_own_clipped_gradient(customers: bool) -> None:
    """Whoever else is in the step, and however many rows it has."""
    plan = sums_plan(customers=customers, batch=160)

    def total(*parts: pa.Table) -> np.ndarray:
        return session(plan, *parts).gradient_sum(np.zeros(7), STRETCHED, MaskSeed(bytes(32)))

    moved = []
    for first in range(1000, 1020):
        one = rows(5 if customers else 2, 1, first=first)
        added = [total(crowd, one) - total(crowd) for crowd in (rows(10, 4), rows(300, 90))]
        assert (added[0] == added[1]).all()
        moved.append(norm(added[0]) / (1 if customers else max(1, _training(plan, one))))
    assert 0.9 < max(moved) <= 1.0


def _training(plan: Plan, part: pa.Table) -> int:
    return session(plan, part).rows[0]


def one_more_unit_moves_a_local_step_by_one_clipping_norm() -> None:
    """In dp-sgd, where the noise of equal seeds is equal."""
    given = local_for_tests.rule(clip=0.25)
    x = np.full(6, 3.0)
    added = [
        crowd.joined(x).update(given) - crowd.update(given)
        for crowd in (local_for_tests.rows(10), local_for_tests.rows(40))
    ]
    np.testing.assert_allclose(added[0], added[1], atol=1e-9)
    assert np.linalg.norm(added[0]) <= 0.5 * 0.25 / 40 * (1 + 1e-6)


def units_are_taken_whole_independently_and_at_the_plans_rate(customers: bool) -> None:
    """At a site with far fewer units than the plan takes it to have."""
    plan = sums_plan(customers=customers)
    given = session(plan, rows(200, 60))
    units = given._training.units
    seen: list[np.ndarray] = []
    with pytest.MonkeyPatch.context() as patch:
        real = private.clipped_sum

        def watched(
            model: object, vector: object, x: np.ndarray, *rest: object, **other: object
        ) -> np.ndarray:
            seen.append(x[:, 0].copy())
            return real(model, vector, x, *rest, **other)

        patch.setattr(private, "clipped_sum", watched)
        for number in range(400):
            given.gradient_sum(np.zeros(7), SCALING, MaskSeed(number.to_bytes(32, "big")))
    amounts = given._inputs(SCALING)[:, 0]
    taken = np.array([np.isin(amounts, each) for each in seen])
    by_unit = [taken[:, given._training.unit == unit] for unit in range(units)]
    assert all((each == each[:, :1]).all() for each in by_unit), "a unit is taken whole or not at all"
    chosen = np.array([each[:, 0] for each in by_unit]).T
    spread = 5.0 * np.sqrt(0.2 * 0.8 / chosen.size)
    assert chosen.mean() == pytest.approx(0.2, abs=spread)
    np.testing.assert_allclose(chosen.mean(axis=0), 0.2, atol=5.0 * np.sqrt(0.2 * 0.8 / 400))
    assert chosen.sum(axis=1).var() == pytest.approx(units * 0.2 * 0.8, rel=0.4)
    pairs = np.corrcoef(chosen.T)[np.triu_indices(units, 1)]
    assert abs(pairs.mean()) < 5.0 / np.sqrt(400 * len(pairs))


def a_local_step_takes_a_unit_at_the_plans_rate() -> None:
    """In dp-sgd, at a site with a few units: a step that takes a unit differs from one without it, the secrets being equal."""
    given = local_for_tests.rule(expected_batch=32, nominal_rows=160)
    crowd, x = local_for_tests.rows(9), np.full(6, 3.0)
    joined = crowd.joined(x)
    taken = [np.any(joined.update(given, seed) != crowd.update(given, seed)) for seed in range(1, 401)]
    assert np.mean(taken) == pytest.approx(0.2, abs=5.0 * np.sqrt(0.2 * 0.8 / 400))


def a_unit_counts_the_same_among_few_and_among_many() -> None:
    """From its rows to the opened mean: the noise is the same, for the secrets are."""
    plan = sums_plan(batch=160)
    one = rows(8, 8, first=5000)
    moved = []
    for crowd in (rows(20, 20), rows(200, 200)):
        means = []
        for parts in ((crowd,), (crowd, one)):
            tables = {WEST: site_table(*parts), SOUTH: site_table(rows(30, 30, first=9000))}
            run = UnmaskedRun(plan, CUSTOMERS, tables, Random("equal secrets").randbytes)
            means.append(run.pooled(Stage.TRAIN, 1, np.zeros(7), SCALING).values)
        moved.append(means[1] - means[0])
    assert np.linalg.norm(moved[0]) > 1e-3
    np.testing.assert_allclose(moved[1], moved[0], atol=1e-6)


def a_unit_counts_the_same_among_few_and_among_many_locally() -> None:
    """In dp-sgd."""
    given, x = local_for_tests.rule(), np.full(6, 0.2)
    moved = [
        crowd.joined(x).update(given) - crowd.update(given)
        for crowd in (local_for_tests.rows(10), local_for_tests.rows(80))
    ]
    np.testing.assert_allclose(moved[1], moved[0], atol=1e-9)


def no_two_inputs_have_noise_in_common() -> None:
    """Of two sites with equal rows that are all taken, in two attempts at each of two rounds: what differs is noise, and two noises' worth."""
    plan = audited_plan().model_copy(
        update={"training": audited_plan().training.model_copy(update={"expected_batch": 400})}
    )
    source = np.random.default_rng(1)
    columns = {name: source.uniform(0, 100, 20) for name in CONTRACT.columns}
    keys = [f"loan-{place}" for place in range(20)]
    table = Table(columns, np.arange(20) % 2 * 1.0, keys, keys)
    release = releases_of(plan, CONTRACT).train
    scaling = Scaling(mean=(0.5,) * 400, std=(0.3,) * 400)
    inputs = []
    for site in (SOUTH, WEST):
        made = Inputs(
            site,
            plan,
            CONTRACT,
            session_for(plan, CONTRACT, table, site=site),
            lambda released, _: ChargeReceipt(released, 0),
            Random(f"secrets of {site}").randbytes,
        )
        for number, attempt in ((1, 1), (1, 2), (2, 1), (2, 2)):
            said = statement(plan, Stage.TRAIN, number, attempt)
            inputs.append(made.compute(said, np.zeros(401), scaling)[1])
    expected = np.sqrt(2.0 * site_variance(release))
    for one, other in combinations(inputs, 2):
        assert np.std(one - other) == pytest.approx(expected, rel=0.25)


def statement(plan: Plan, stage: Stage, number: int, attempt: int) -> Statement:
    return Statement(
        plan_digest=plan.digest,
        contract_digest=CONTRACT.digest,
        members_digest=sha256_hex(b""),
        run=RunId("run-0000000000000000"),
        stage=stage,
        round=number,
        attempt=attempt,
        roster=(SOUTH, WEST),
        component="tabular/2",
    )


def the_centre_draws_anew_for_each_sum() -> None:
    """Of mode central: the sums of equal rounds differ by two noises' worth."""
    text = sums_plan(batch=160).canonical.decode().replace('"mode":"distributed"', '"mode":"central"')
    plan = read_document(text, Plan, "plan.json")
    run = UnmaskedRun(plan, CUSTOMERS, {WEST: site_table(rows(50, 50))}, Random("centre").randbytes)
    sums = np.array([run.pooled(Stage.TRAIN, number, np.zeros(7), SCALING).values for number in range(1, 9)])
    noise = plan.privacy.noise.training / 160
    assert np.sqrt(sums.var(axis=0, ddof=1).mean()) == pytest.approx(noise, rel=0.4)


def every_sum_is_charged_and_forecast() -> None:
    """Each stage, each time a site is asked for it, and no more often than the plan said."""
    plan = sums_plan()
    tables = {site: site_table(rows(200, 200)) for site in (SOUTH, WEST)}
    run = UnmaskedRun(plan, CUSTOMERS, tables, Random("charges").randbytes)
    asked: Counter[Stage] = Counter()
    with pytest.MonkeyPatch.context() as patch:
        real = Inputs.compute

        def watched(inputs: Inputs, said: Statement, *given: object) -> object:
            asked[said.stage] += inputs.site == SOUTH
            return real(inputs, said, *given)

        patch.setattr(Inputs, "compute", watched)
        model, scaling = run.train()
        run.pooled(Stage.EVALUATE, plan.training.rounds, model, scaling)
    releases = releases_of(plan, CUSTOMERS)
    assert asked == {Stage.PREPARE: 1, Stage.TRAIN: 3, Stage.EVALUATE: 1}
    assert run.charges == {releases.of(stage.name.lower()): times for stage, times in asked.items()}
    planned = releases.planned()
    assert all(times <= planned.get(release, 0) for release, times in run.charges.items())


# --- with and without bugs --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rule:
    """A check that raises AssertionError unless the rule holds, and bugs that it notices."""

    check: Callable[[], None]
    bugs: dict[str, Plant]


RULES = {
    "clipping, records": Rule(
        lambda: one_more_unit_adds_its_own_clipped_gradient(customers=False),
        {"per batch": bugs.the_batch_is_clipped, "never": bugs.nothing_is_clipped},
    ),
    "clipping, customers": Rule(
        lambda: one_more_unit_adds_its_own_clipped_gradient(customers=True),
        {"per batch": bugs.the_batch_is_clipped, "per row": bugs.rows_are_clipped},
    ),
    "clipping, dp-sgd": Rule(
        one_more_unit_moves_a_local_step_by_one_clipping_norm, {"per batch": bugs.the_local_batch_is_clipped}
    ),
    "sampling, records": Rule(
        lambda: units_are_taken_whole_independently_and_at_the_plans_rate(customers=False),
        {
            "rate of actual rows": bugs.the_rate_is_of_actual_units,
            "fixed size": bugs.a_batch_has_a_fixed_size,
            "always the same": bugs.every_sample_is_the_same,
        },
    ),
    "sampling, customers": Rule(
        lambda: units_are_taken_whole_independently_and_at_the_plans_rate(customers=True),
        {
            "rate of actual customers": bugs.the_rate_is_of_actual_units,
            "fixed size": bugs.a_batch_has_a_fixed_size,
            "by rows": bugs.rows_are_sampled,
        },
    ),
    "sampling, dp-sgd": Rule(
        a_local_step_takes_a_unit_at_the_plans_rate, {"rate of actual rows": bugs.the_rate_is_of_actual_units}
    ),
    "denominators": Rule(
        a_unit_counts_the_same_among_few_and_among_many,
        {
            "the batch taken": bugs.a_sum_is_divided_by_the_batch_that_was_taken,
            "counted rows": bugs.a_sum_is_divided_by_rows_that_were_counted,
        },
    ),
    "denominators, dp-sgd": Rule(
        a_unit_counts_the_same_among_few_and_among_many_locally,
        {"the batch taken": bugs.a_local_step_is_divided_by_the_batch_that_was_taken},
    ),
    "noise": Rule(
        no_two_inputs_have_noise_in_common,
        {
            "same in all attempts": bugs.noise_is_told_apart_only_by("site", "round"),
            "same in all rounds": bugs.noise_is_told_apart_only_by("site", "attempt"),
            "same at all sites": bugs.noise_is_told_apart_only_by("round", "attempt"),
        },
    ),
    "noise of the centre": Rule(
        the_centre_draws_anew_for_each_sum, {"always the same": bugs.the_centre_always_draws_the_same}
    ),
    "charges": Rule(
        every_sum_is_charged_and_forecast,
        {
            "preparation left out": bugs.a_stage_is_not_charged(Stage.PREPARE),
            "evaluation left out": bugs.a_stage_is_not_charged(Stage.EVALUATE),
            "one round for all": bugs.charged_once_a_stage,
            "forecast without preparation": bugs.the_forecast_leaves_out("prepare"),
            "forecast without evaluation": bugs.the_forecast_leaves_out("evaluate"),
        },
    ),
}


SAMPLING = "sampling, dp-sgd"
"""A rule that many rounds are sampled for: `make test-long` holds it."""


@pytest.mark.parametrize(
    "rule", [pytest.param(each, marks=[pytest.mark.slow] * (each == SAMPLING)) for each in RULES]
)
def test_the_rule_holds(rule: str) -> None:
    RULES[rule].check()


@pytest.mark.parametrize(
    ("rule", "bug"),
    [
        pytest.param(rule, bug, marks=[pytest.mark.slow] * (rule == SAMPLING))
        for rule in RULES
        for bug in RULES[rule].bugs
    ],
)
def test_the_same_check_fails_with_the_bug(rule: str, bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    RULES[rule].bugs[bug](monkeypatch)
    with pytest.raises(AssertionError):
        RULES[rule].check()
