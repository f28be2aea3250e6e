"""Populations are functions of their seed: who is drawn, whose rows are whose, and that nothing is kept of a client."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos.contract import Contract
from protos.documents import read_document
from protos.plan import Plan
from protos.plan_training import GroupWeights, Reweighing
from simulation.cohorts.engine import Threads, TrainRequest
from simulation.cohorts.engines import StackedSlices
from simulation.cohorts.file_population import FilePopulation
from simulation.cohorts.population import MOST_CLIENTS, Population, sample_cohort
from simulation.cohorts.rows import ClientRows
from simulation.cohorts.synthetic_population import SyntheticPopulation
from simulation.partition import ByColumn, Dirichlet, Even, Partition, Quantity
from strategies.errors import UsageError
from strategies.features import Scaling
from tests.client.loans_for_tests import CONTRACT, loans, plan
from tests.simulation.cohorts.cohorts_for_tests import filed, generated

SOME = np.array([0, 3, 17, 999], dtype=np.int64)
PARTITIONS = [Even(), Quantity(0.5), Dirichlet(0.5), ByColumn("term")]


@given(size=st.integers(1, MOST_CLIENTS), data=st.data(), seed=st.integers(0, 2**40))
def test_a_cohort_is_drawn_without_replacement_and_again(size: int, data: st.DataObject, seed: int) -> None:
    cohort = data.draw(st.integers(1, min(size, 500)))
    found = sample_cohort("round 1", seed, size, cohort)
    assert len(set(found.tolist())) == cohort
    assert (np.diff(found) > 0).all()
    assert found[0] >= 0
    assert found[-1] < size
    assert np.array_equal(found, sample_cohort("round 1", seed, size, cohort))


def test_a_whole_population_can_be_drawn() -> None:
    assert sample_cohort("round 1", 1, 50, 50).tolist() == list(range(50))


def test_rounds_draw_cohorts_of_their_own_and_everybody_is_as_likely() -> None:
    taken = Counter(
        each for number in range(2000) for each in sample_cohort(f"round {number}", 7, 20, 5).tolist()
    )
    assert sorted(taken) == list(range(20))
    assert max(abs(count - 500) for count in taken.values()) < 100  # five standard deviations


@pytest.mark.parametrize(
    ("cohort", "size", "why"),
    [
        (0, 10, "a cohort of 0 clients trains nothing"),
        (11, 10, "use a cohort of at most 10"),
        (-1, 10, "at least 1"),
    ],
)
def test_cohorts_that_cannot_be_drawn_are_refused(cohort: int, size: int, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        sample_cohort("round 1", 0, size, cohort)


@pytest.mark.parametrize("size", [0, -5, MOST_CLIENTS + 1])
def test_populations_that_are_too_large_or_of_nobody_are_refused(size: int) -> None:
    for make in (generated, filed):
        with pytest.raises(UsageError, match="use 1 to 1000000"):
            make(size=size)


def test_a_client_with_no_rows_on_average_or_too_many_is_refused() -> None:
    with pytest.raises(UsageError, match="0 rows a client"):
        generated(rows=0)
    with pytest.raises(UsageError, match="cannot draw 401 of the file's 400 rows"):
        filed(rows=401)


@pytest.mark.parametrize("rows", [generated(), *(filed(each) for each in PARTITIONS)])
def test_a_client_has_its_rows_whenever_and_with_whomever_it_is_asked(rows: Population) -> None:
    together = rows.gathered(SOME)
    for place, client in enumerate(SOME.tolist()):
        alone, among = rows.gathered(np.array([client])).of(0), together.of(place)
        assert list(alone.keys) == list(among.keys)
        assert alone.target.tolist() == among.target.tolist()
        for name, values in alone.columns.items():
            assert [str(each) for each in values] == [str(each) for each in among.columns[name]]


@pytest.mark.parametrize("partition", PARTITIONS)
def test_no_client_has_a_row_of_the_file_twice(partition: Partition) -> None:
    rows = filed(partition, rows=100)
    for place in range(4):
        places = rows.gathered(SOME).of(place).places
        assert len(places) > 0
        assert (np.diff(places) > 0).all()  # in the order of keys, as a site has them


@pytest.mark.parametrize("make", [generated, filed])
def test_another_seed_has_other_rows(make) -> None:
    assert (
        make(seed=1).gathered(SOME).part.target.tolist() != make(seed=2).gathered(SOME).part.target.tolist()
    )


# --- the ways in which clients of a file differ -------------------------------------------------------------------------


MANY = np.arange(400, dtype=np.int64)


def shares(partition: Partition, rows: int = 40) -> np.ndarray:
    gathered = filed(partition, rows=rows, of=4000).gathered(MANY)
    return np.array(
        [gathered.of(place).target.mean() for place in range(len(MANY)) if gathered.counts[place]]
    )


def test_small_alphas_skew_labels_and_large_ones_do_not() -> None:
    own = np.mean(filed(of=4000).table.target)
    assert shares(Dirichlet(0.1)).std() > 3 * shares(Even()).std()
    assert shares(Dirichlet(1e12)).std() < 1.3 * shares(Even()).std()
    assert abs(shares(Dirichlet(0.5)).mean() - own) < 0.08


def test_sizes_are_as_skewed_as_alpha_says() -> None:
    counts = {alpha: filed(Quantity(alpha), rows=40, of=4000).gathered(MANY).counts for alpha in (0.5, 50.0)}
    assert counts[0.5].std() > 40
    assert counts[50.0].std() < 10
    assert all(abs(each.mean() - 40) < 10 for each in counts.values())
    assert set(filed(Quantity(1e300), rows=40).gathered(MANY).counts.tolist()) == {40}


def test_a_column_divides_rows_and_larger_values_have_more_clients() -> None:
    rows = loans(1000).append_column("branch", [["b" if i % 4 else "a" for i in range(1000)]])
    found = FilePopulation.of(
        rows, plan(), CONTRACT, ByColumn("branch"), size=1000, rows_per_client=10, seed=1
    )
    branch = dict(zip(map(str, rows["loan_id"].to_pylist()), rows["branch"].to_pylist(), strict=True))
    gathered = found.gathered(MANY)
    of_client = [{branch[key] for key in gathered.of(place).keys} for place in range(len(MANY))]
    assert all(len(each) == 1 for each in of_client)
    assert 0.65 < np.mean([each == {"b"} for each in of_client]) < 0.85


# --- made-up rows -------------------------------------------------------------------------------------------------------

WIDE = read_document(
    """\
covenant: contract/v1
name: loans
version: 1
key: loan_id
customer: customer_id
target: {column: status, positive: bad, negative: good}
protected: [gender]
columns:
  amount: {type: number, unit: USD, range: [-50, 1000]}
  income: {type: number, unit: USD, range: [10, 1.0e+5], transform: log1p, missing: indicator}
  accounts: {type: integer, unit: accounts, range: [0.5, 3.5]}
  owner: {type: boolean, missing: indicator}
  term: {type: category, vocabulary: [short, long]}
  gender: {type: category, vocabulary: [female, male]}
  opened: {type: date}
""",
    Contract,
    "loans.yaml",
)


def wide_plan() -> Plan:
    base = plan(model="{kind: mlp, hidden: [5]}")
    return base.model_copy(update={"features": ("amount", "income", "accounts", "owner", "term")})


def reweighing_plan() -> Plan:
    weighed = Reweighing(attribute="gender", weights={"female": GroupWeights(positive=2.0)})
    base = wide_plan()
    return base.model_copy(update={"training": base.training.model_copy(update={"reweigh": weighed})})


def test_made_up_rows_are_within_the_contract() -> None:
    rows = SyntheticPopulation(WIDE, wide_plan(), 1000, 200, 4).gathered(SOME)
    columns = rows.part.columns
    assert set(columns) == {"amount", "income", "accounts", "owner", "term"}
    assert columns["amount"].min() >= -50
    assert columns["amount"].max() <= 1000
    assert np.nanmin(columns["income"]) >= 10
    assert 0.02 < np.isnan(columns["income"]).mean() < 0.09
    assert set(columns["accounts"].tolist()) == {1.0, 2.0, 3.0}
    assert {str(each) for each in columns["owner"].tolist()} == {"0.0", "1.0", "nan"}
    assert set(columns["term"]) == {"short", "long"}
    assert len(set(rows.part.keys)) == len(rows.part.keys)
    assert 0.1 < rows.part.target.mean() < 0.9
    assert all(100 <= count <= 300 for count in rows.counts)
    spec = WIDE.feature_spec(wide_plan().features)
    units = spec.unit_values(columns)
    assert ((units >= 0) & (units <= 1) | np.isnan(units)).all()
    assert abs(np.nanmean(units[:, 1]) - 0.5) < 0.05  # even as a model sees it, not in dollars


def test_a_protected_attribute_is_made_where_the_plan_reads_it_and_moves_no_label() -> None:
    chosen = reweighing_plan()
    population = SyntheticPopulation(WIDE, chosen, 1000, 200, 4)
    rows = population.gathered(SOME)
    assert set(rows.part.protected_at(slice(None), ["gender"])["gender"]) == {"female", "male"}
    assert "gender" not in rows.part.columns
    seen = ClientRows(chosen, WIDE, population).training(SOME, Scaling.identity(4))
    assert set(np.unique(seen.importance.numpy())) == {1.0, 2.0}


# --- memory -------------------------------------------------------------------------------------------------------------


def peak_of_a_round(make: Callable[..., Population], size: int) -> int:
    """The most bytes that a round of the same cohort takes, rows, draws and all."""
    chosen = plan(model="{kind: mlp, hidden: [5]}")
    tracemalloc.start()
    try:
        population = make(size=size)
        engine = Threads(StackedSlices(ClientRows(chosen, CONTRACT, population)), 1, "")
        model = chosen.dense_model(CONTRACT.feature_spec(chosen.features).width).initial(1)
        cohort = sample_cohort("round 1", 1, size, 400)
        engine.summed(TrainRequest(1, model, Scaling.identity(2)), cohort)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("make", [generated, filed])
def test_a_million_clients_take_no_more_memory_than_ten_thousand(make: Callable[..., Population]) -> None:
    """A number of four bytes a client would be seen: it is more than the tenth that is let through."""
    few = peak_of_a_round(make, 10_000)
    assert peak_of_a_round(make, MOST_CLIENTS) < 1.1 * few
    assert 0.1 * few < 4 * (MOST_CLIENTS - 10_000)
