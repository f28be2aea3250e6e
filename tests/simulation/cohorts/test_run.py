"""`covenant simulate cohorts`: rounds learn, repeat to the bit, are scored as production scores, and refuse what makes no sense."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from client.training import TrainingSession
from coordinator.main import build
from protos.documents import read_document
from protos.plan import Plan
from protos.plan_aggregation import SecureAggregation
from protos.plan_training import GradientSums
from protos.shell import run_command
from simulation.cohorts.engine import client_name
from simulation.cohorts.engines import table_of
from simulation.cohorts.population import sample_cohort
from simulation.cohorts.private import PrivateRounds, cohort_plan
from simulation.cohorts.rows import ClientRows
from simulation.cohorts.run import CohortRound, CohortRun, Sizes
from simulation.cohorts.synthetic_population import SyntheticPopulation
from simulation.partition import Dirichlet
from strategies.aggregation import Contribution, total, weighted_mean
from strategies.analytics.histograms import metrics_from
from strategies.analytics.moments import scaling_from
from strategies.encoding import vector_digest
from strategies.errors import UsageError
from tests.client.loans_for_tests import CONTRACT, PLAN, loans, plan
from tests.client.local_for_tests import CUSTOMERS, local_plan
from tests.client.private_for_tests import private_plan
from tests.simulation.cohorts.cohorts_for_tests import MLP, filed, generated

SIZES = Sizes(cohort=60, evaluated=80)


def a_run(chosen: Plan | None = None, sizes: Sizes = SIZES, seed: int = 1, **population: int) -> CohortRun:
    chosen = chosen or plan(model=MLP)
    return CohortRun(chosen, CONTRACT, generated(chosen=chosen, **population), sizes, seed)


def test_rounds_are_the_sites_own_arithmetic_from_rows_to_metrics() -> None:
    """Scaling, three rounds and scores against sessions of the clients that were drawn."""
    chosen, rows = plan(model=MLP), filed()
    result = CohortRun(chosen, CONTRACT, rows, SIZES, 1).run()

    def sessions(purpose: str, count: int = 60) -> list[tuple[str, TrainingSession]]:
        clients = sample_cohort(purpose, 1, rows.size, count)
        gathered = rows.gathered(clients)
        return [
            (name, TrainingSession(chosen, CONTRACT, table_of(gathered.of(place)), site=name))
            for place, name in enumerate(map(client_name, clients.tolist()))
        ]

    scaling = scaling_from(total([Contribution(name, each.moments()) for name, each in sessions("scaling")]))
    model = chosen.dense_model(6).initial(chosen.training.seed)
    for number in (1, 2, 3):
        model = model + weighted_mean(
            [
                Contribution(name, each.train(model, scaling, number))
                for name, each in sessions(f"round {number}")
            ]
        )
    assert np.abs(model - chosen.dense_model(6).initial(1)).max() > 0.01
    assert np.abs(result.model - model).max() < 1e-5
    counts = sum(each.score_counts(result.model, scaling) for _, each in sessions("evaluation", 80))
    expected = metrics_from(counts)
    assert (result.metrics.auc, result.metrics.rows) == pytest.approx((expected.auc, expected.rows), abs=1e-6)


@pytest.mark.parametrize("workers", [2, 3])
def test_one_seed_gives_one_model_with_any_number_of_workers(workers: int) -> None:
    alone = a_run(sizes=replace(SIZES, workers=1)).run()
    beside = a_run(sizes=replace(SIZES, workers=workers)).run()
    assert vector_digest(alone.model) == vector_digest(beside.model)
    assert alone.metrics == beside.metrics
    assert vector_digest(a_run(seed=2).run().model) != vector_digest(alone.model)


def test_a_model_learns_what_made_up_rows_follow() -> None:
    result = a_run(plan(model=MLP, learning_rate=0.5, rounds=12), rows=40).run()
    aucs = [each.auc for each in result.rounds]
    assert result.metrics.auc > 0.7
    assert aucs[-1] > aucs[0]
    assert result.rounds[-1].log_loss < result.rounds[0].log_loss


def test_only_rounds_that_the_plan_evaluates_have_figures_and_progress_hears_of_all() -> None:
    base = plan(model=MLP, rounds=5)
    chosen = base.model_copy(update={"evaluation": base.evaluation.model_copy(update={"every": 2})})
    heard: list[CohortRound] = []
    result = a_run(chosen).run(progress=heard.append)
    assert [each.number for each in result.rounds if each.auc is not None] == [2, 4, 5]
    assert heard == list(result.rounds)
    assert all(each.clients == 60 and each.seconds > 0 and each.clients_per_s > 0 for each in heard)


@pytest.mark.parametrize("mode", ["fedadam", "fedavgm"])
def test_the_servers_optimiser_is_the_plans(mode: str) -> None:
    rule = {"kind": mode, "learning_rate": 0.1} | ({"momentum": 0.9} if mode == "fedavgm" else {})
    changed = PLAN.replace("MODEL", MLP).replace(
        "  rounds: 3", "  server_optimiser: " + json.dumps(rule) + "\n  rounds: 3"
    )
    from protos.documents import read_document

    chosen = read_document(changed, Plan, "plan.yaml")
    assert vector_digest(a_run(chosen).run().model) != vector_digest(a_run().run().model)


# --- private plans ------------------------------------------------------------------------------------------------------


def private_run(cohort: int = 12, seed: int = 1) -> CohortRun:
    chosen = private_plan()
    return CohortRun(
        chosen, CONTRACT, generated(chosen=chosen, rows=60), Sizes(cohort=cohort, evaluated=100), seed
    )


def test_a_private_plan_is_computed_by_productions_own_inputs_with_one_warning() -> None:
    said: list[str] = []
    result = private_run().run(warn=said.append)
    assert len(said) == 1
    assert "dp-fedsgd draws each client's sample and noise as production does" in said[0]
    assert result.computed == "one by one, with noise"
    assert result.metrics.rows > 1000
    assert vector_digest(private_run().run().model) == vector_digest(result.model)


@pytest.mark.parametrize("customers", [False, True])
def test_plans_of_local_privacy_are_computed_too(customers: bool) -> None:
    chosen, agreed = local_plan(customers=customers), CUSTOMERS if customers else CONTRACT
    rows = SyntheticPopulation(agreed, chosen, 1000, 60, 3)
    result = CohortRun(chosen, agreed, rows, Sizes(cohort=5, evaluated=50), 1).run()
    assert result.computed == "one by one, with noise"
    assert result.metrics.rows > 100


def test_noise_of_a_private_plan_is_there_and_is_the_seeds() -> None:
    """Two seeds of noise on the same clients give two sums, whose distance is what the plan's noise says and not rounding."""
    chosen, rows = private_plan(), generated(chosen=private_plan(), rows=60)
    clients = sample_cohort("round 1", 1, rows.size, 12)
    width = CONTRACT.feature_spec(chosen.features).width
    model = chosen.dense_model(width).initial(1)
    state = chosen.server_optimizer().initial(model.size)
    scaling = PrivateRounds(chosen, CONTRACT, rows, 1).scaling(clients)
    found = [
        PrivateRounds(chosen, CONTRACT, rows, seed).step(1, model, scaling, state, clients)[0]
        for seed in (1, 1, 2)
    ]
    assert vector_digest(found[0]) == vector_digest(found[1])
    assert np.abs(found[0] - found[2]).max() > 1e-4


@pytest.mark.parametrize("count", [1, 1001])
def test_private_cohorts_are_as_large_as_one_secure_sum(count: int) -> None:
    with pytest.raises(UsageError, match=rf"a cohort of {count} clients .* takes \d+ .* to 1000"):
        cohort_plan(private_plan(), CONTRACT, np.arange(count, dtype=np.int64))


def test_a_larger_private_cohort_has_the_minimum_that_secure_aggregation_needs() -> None:
    found = cohort_plan(private_plan(), CONTRACT, np.arange(12, dtype=np.int64))
    assert len(found.sites.invite) == 12
    assert isinstance(found.training, GradientSums)
    assert isinstance(found.aggregation, SecureAggregation)
    assert found.sites.minimum > 12 // 2


def test_a_private_cohort_whose_shares_of_noise_protect_nobody_is_refused() -> None:
    with pytest.raises(
        UsageError,
        match=r"with a cohort of 21 clients, .* its ceiling is .* Use a smaller cohort, or a plan with more noise",
    ):
        cohort_plan(private_plan(), CONTRACT, np.arange(21, dtype=np.int64))


def test_a_private_cohort_beyond_what_an_active_adversary_allows_is_refused() -> None:
    with pytest.raises(
        UsageError, match=r"a cohort of 200 sites; .* at most 128 take part.* Use a smaller cohort"
    ):
        cohort_plan(private_plan(), CONTRACT, np.arange(200, dtype=np.int64))


# --- the command --------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    from ruamel.yaml import YAML

    with (tmp_path / "loans.yaml").open("w") as file:
        YAML().dump(json.loads(CONTRACT.canonical), file)
    (tmp_path / "plan.yaml").write_text(PLAN.replace("MODEL", MLP))
    pq.write_table(loans(400), tmp_path / "rows.parquet")
    return tmp_path


def command(folder: Path, *options: str) -> int:
    arguments = ["simulate", "cohorts", str(folder / "plan.yaml"), *options]
    with pytest.raises(SystemExit) as left:
        run_command(lambda: build()(arguments, standalone_mode=False))
    return int(left.value.code or 0)


@pytest.mark.parametrize("data", [True, False])
def test_the_command_prints_a_table_or_one_object(
    folder: Path, capsys: pytest.CaptureFixture[str], data: bool
) -> None:
    of = ("--data", str(folder / "rows.parquet"), "--partition", "dirichlet:0.5") if data else ()
    sizes = ("--population", "1000000", "--cohort", "40", "--rows", "30", "--seed", "5", *of)
    assert command(folder, *sizes, "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["population"], facts["computed"], facts["seed"]) == (1_000_000, "stacked", 5)
    assert [each["number"] for each in facts["rounds"]] == [1, 2, 3]
    assert facts["metrics"]["auc"] == facts["rounds"][-1]["auc"]
    assert ("400 rows, label skew" in facts["rows"]) == data
    assert command(folder, *sizes, "--rounds", "2", "--workers", "1") == 0
    said = capsys.readouterr()
    assert said.out == ""
    assert "cohorts of 40 of 1,000,000 clients" in " ".join(said.err.split())
    assert "clients/s" in said.err


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (
            ("--cohort", "11", "--population", "10"),
            "a cohort of 11 clients cannot be drawn from a population of 10",
        ),
        (("--cohort", "0"), "a cohort of 0 clients trains nothing; use at least 1"),
        (
            ("--population", "1000001"),
            "a population of 1000001 clients cannot be simulated; use 1 to 1000000",
        ),
        (("--population", "0"), "a population of 0 clients"),
        (("--rows", "0"), "0 rows a client"),
        (("--rounds", "0"), "--rounds 0 cannot be simulated"),
        (("--workers", "0"), "0 workers cannot compute"),
        (("--evaluated", "0"), "an evaluation over 0 clients"),
        (("--partition", "even"), "--partition says how clients draw from --data"),
    ],
)
def test_bad_sizes_are_one_sentence_and_exit_2(
    folder: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], why: str
) -> None:
    assert command(folder, *options) == 2
    said = capsys.readouterr().err
    assert why in " ".join(said.split())
    assert "Traceback" not in said


def test_a_column_that_clients_are_divided_by_must_be_there(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = ("--data", str(folder / "rows.parquet"), "--rows", "20")
    assert command(folder, *data, "--partition", "by:branch") == 2
    assert "there is no column 'branch'" in " ".join(capsys.readouterr().err.split())


def test_held_out_rows_of_a_client_train_nobody() -> None:
    """What one client holds out and another draws too is held out there as well: the key decides."""
    chosen, rows = plan(model=MLP), filed(Dirichlet(0.5), rows=200)
    seen = ClientRows(chosen, CONTRACT, rows)
    clients = np.arange(20, dtype=np.int64)
    training, _ = seen._some(clients, evaluating=False)
    evaluating, _ = seen._some(clients, evaluating=True)
    assert len(training) + len(evaluating) == int(rows.gathered(clients).counts.sum())
    assert not set(training.keys) & set(evaluating.keys)


def test_a_result_says_its_speed_over_all_rounds() -> None:
    result = a_run().run()
    made = replace(result, rounds=tuple(replace(each, seconds=2.0) for each in result.rounds))
    assert made.clients_per_s == pytest.approx(30.0)
    assert made.facts()["model_digest"] == vector_digest(result.model)


def test_a_rule_that_compares_updates_is_refused_and_a_mean_is_not() -> None:
    """Slices are summed up: a median of sums would be another rule than the plan's."""
    text = json.loads(plan(model=MLP).canonical) | {
        "aggregation": {"mode": "plain", "rule": {"kind": "median"}}
    }
    text["sites"] |= {"invite": ["east", "north", "west"], "minimum": 3}
    ruled = read_document(json.dumps(text), Plan, "plan.yaml")
    with pytest.raises(UsageError, match=r"has the rule .*median.*compares the updates of clients"):
        a_run(ruled).run()
    plain = read_document(json.dumps(text | {"aggregation": {"mode": "plain"}}), Plan, "plan.yaml")
    a_run(plain).check()
