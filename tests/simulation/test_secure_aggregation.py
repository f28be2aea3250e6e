"""A plan gives the same model with and without masks, as far as the grid of the masked sum allows."""

from __future__ import annotations

from pathlib import Path

import pytest

from protos.contract import Contract
from protos.documents import load_document
from protos.plan import Plan
from protos.plan_aggregation import PlainAggregation, SecureAggregation
from simulation.demo import data
from simulation.experiment import Experiment, simulate
from simulation.quiet import silence_logs
from simulation.result import SimulationResult

DEMO = Path(data.__file__).parent


@pytest.fixture(autouse=True)
def _quiet() -> None:
    silence_logs()


def demo(
    aggregation: PlainAggregation | SecureAggregation, *, rounds: int = 5, **changes: object
) -> SimulationResult:
    plan = load_document(DEMO / data.WITHOUT_PRIVACY, Plan)
    training = plan.training.model_copy(update={"rounds": rounds})
    plan = plan.model_copy(update={"aggregation": aggregation, "training": training})
    contract = load_document(DEMO / data.CONTRACT, Contract)
    tables = data.regional_loans()
    return simulate(
        Experiment(plan=plan, contract=contract, tables=tables, partition="by region", seed=1, **changes)
    )


@pytest.mark.slow
def test_the_demos_auc_is_that_of_plain_aggregation_to_two_thousandths() -> None:
    plain = demo(PlainAggregation(mode="plain"), rounds=25)
    secure = demo(SecureAggregation(), rounds=25)
    assert plain.metrics is not None
    assert secure.metrics is not None
    assert secure.metrics.auc == pytest.approx(plain.metrics.auc, abs=0.002)
    assert secure.metrics.rows == plain.metrics.rows
    assert secure.model_digest != plain.model_digest  # the masked sum is on a grid, so this is another model


@pytest.mark.slow
def test_a_semi_honest_coordinator_and_an_active_one_open_the_same_sums() -> None:
    active, curious = demo(SecureAggregation()), demo(SecureAggregation(adversary="semi-honest"))
    assert active.model_digest == curious.model_digest
    assert sum(each.traffic for each in curious.rounds) < sum(each.traffic for each in active.rounds)


@pytest.mark.slow
def test_either_suite_opens_the_same_sums() -> None:
    suites = ("x25519-aes256-sha256", "p256-aes256-sha256")
    digests = {demo(SecureAggregation(suite=suite)).model_digest for suite in suites}
    assert len(digests) == 1


def test_a_quarter_of_the_sites_drops_out_of_every_round_and_the_rest_opens() -> None:
    result = demo(SecureAggregation(), dropout=0.25)
    assert result.completed
    assert {each.survivors for each in result.rounds} == {3}
