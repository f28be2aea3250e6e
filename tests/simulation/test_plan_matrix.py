"""Every kind of plan that the matrix allows runs to its end, and every other one is refused in the words that the matrix prints."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from coordinator.main import build
from protos.documents import read_document
from protos.plan import Plan
from protos.plan_aggregation import MEAN
from protos.plan_draft import Kind
from protos.plan_fit import check_plan
from protos.plan_matrix import SITES, Cell, algorithms, example, example_contract, matrix, rules
from protos.shell import run_command
from simulation.experiment import Experiment, simulate
from simulation.partition import Even, deal
from simulation.quiet import silence_logs
from strategies.errors import UsageError
from strategies.ids import site_name
from tests.client.loans_for_tests import CONTRACT, loans

ALLOWED = [each.kind for each in matrix() if each.allowed]
FORBIDDEN = [each for each in matrix() if not each.allowed]


def name_of(kind: Kind) -> str:
    return f"{kind.algorithm}-{kind.privacy}-{kind.aggregation}-{kind.rule}"


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(each, marks=[pytest.mark.slow] * (n % 4 > 0), id=name_of(each))
        for n, each in enumerate(ALLOWED)
    ],
)
def test_every_allowed_kind_runs_to_its_end(kind: Kind) -> None:
    silence_logs()
    plan = read_document(example(kind, CONTRACT), Plan, "plan.yaml")
    check_plan(plan, CONTRACT)
    assert kind == Kind(
        algorithm=plan.training.algorithm,
        privacy=plan.privacy.mode,
        aggregation=plan.aggregation.mode,
        rule=plan.aggregation.rule_kind,
    )
    rows = 200 if kind.privacy == "none" else 4000  # fewer would drown in noise, and give no metrics
    tables = deal(loans(rows), tuple(map(site_name, SITES)), Even(), target="status", seed=1)
    result = simulate(Experiment(plan=plan, contract=CONTRACT, tables=tables, partition="evenly", seed=7))
    assert result.completed
    assert [each.number for each in result.rounds] == [1, 2]


@pytest.mark.parametrize("cell", FORBIDDEN, ids=lambda each: name_of(each.kind))
def test_every_other_kind_is_refused_in_the_words_of_the_matrix(cell: Cell) -> None:
    with pytest.raises(UsageError) as refused:
        check_plan(read_document(example(cell.kind), Plan, "plan.yaml"), example_contract())
    assert cell.refusal is not None
    assert cell.refusal in str(refused.value)
    assert cell.nearest in ALLOWED


def test_whoever_writes_such_a_plan_is_told_in_the_same_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan, contract = tmp_path / "plan.yaml", tmp_path / "contract.json"
    contract.write_bytes(example_contract().canonical)
    for cell in FORBIDDEN[::8]:
        plan.write_text(example(cell.kind))
        arguments = ["plan", "check", str(plan), "--contract", str(contract)]
        with pytest.raises(SystemExit) as left:
            run_command(partial(build(), arguments, standalone_mode=False))
        assert left.value.code == 2
        assert "".join(str(cell.refusal).split()) in "".join(capsys.readouterr().err.split())


def test_the_matrix_is_of_all_words_that_a_plan_may_use() -> None:
    assert algorithms() == ("fedavg", "fedprox", "dp-fedsgd", "dp-sgd")
    assert {each.kind.privacy for each in matrix()} == {"none", "distributed", "local", "central"}
    assert {each.kind.aggregation for each in matrix()} == {"plain", "secure"}
    assert rules() == ("mean", "trimmed-mean", "median", "multi-krum")
    assert len([each for each in matrix() if each.kind.rule == MEAN]) == 32
    assert len(matrix()) == len({each.kind for each in matrix()})


def test_a_rule_that_compares_updates_goes_with_plain_aggregation_alone() -> None:
    compared = [each for each in matrix() if each.kind.rule != MEAN]
    assert {each.kind.rule for each in compared} == set(rules()) - {MEAN}
    for each in compared:
        assert each.allowed == (each.kind.aggregation == "plain"), each
        if each.refusal is not None:
            assert f"{each.kind.rule} compares the sites' updates, which mode secure hides" in each.refusal
            assert "gate: {update_norm: 2.5}" in each.refusal
            assert each.nearest == replace(each.kind, rule=MEAN)


def test_the_nearest_plan_keeps_the_privacy_mode() -> None:
    assert all(each.nearest is not None and each.nearest.privacy == each.kind.privacy for each in FORBIDDEN)
