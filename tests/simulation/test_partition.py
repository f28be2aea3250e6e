"""Dealing rows to sites: each row once, the same way each time, and no site that cannot train."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pv
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulation.partition import (
    ByColumn,
    Dirichlet,
    Even,
    Partition,
    Quantity,
    _whole,
    deal,
    describe,
    parse_partition,
    read_rows,
)
from strategies.errors import Refused, UsageError
from strategies.ids import site_name

SITES = tuple(map(site_name, ("east", "north", "west")))


def rows(count: int = 600, positives: float = 0.3) -> pa.Table:
    place = np.arange(count)
    return pa.table(
        {
            "key": place,
            "region": [SITES[each % 3] for each in place],
            "state": [f"state-{each % 7}" for each in place],
            "label": np.where(
                np.random.default_rng(1).uniform(size=count) < positives, "bad", "good"
            ).tolist(),
        }
    )


def dealt(partition: Partition, seed: int = 0, table: pa.Table | None = None, sites=SITES):
    return deal(rows() if table is None else table, sites, partition, target="label", seed=seed)


@pytest.mark.parametrize(
    "partition", [ByColumn("region"), ByColumn("state"), Dirichlet(1.0), Quantity(2.0), Even()], ids=describe
)
def test_every_row_is_at_one_site_in_its_order_and_the_same_each_time(partition: Partition) -> None:
    once, again = dealt(partition), dealt(partition)
    keys = [once[site]["key"].to_pylist() for site in SITES]
    assert sorted(key for each in keys for key in each) == list(range(600))
    assert all(each == sorted(each) for each in keys)
    assert all(once[site].equals(again[site]) for site in SITES)


@pytest.mark.parametrize("partition", [Dirichlet(1.0), Quantity(2.0), Even()], ids=describe)
def test_another_seed_deals_otherwise(partition: Partition) -> None:
    assert not dealt(partition, seed=1)["east"].equals(dealt(partition, seed=2)["east"])


def test_values_that_are_sites_go_to_the_sites_of_that_name() -> None:
    assert set(dealt(ByColumn("region"))["north"]["region"].to_pylist()) == {"north"}


def test_other_values_go_whole_to_one_site_each_and_balance_the_sites() -> None:
    shares = dealt(ByColumn("state"))
    states = [set(shares[site]["state"].to_pylist()) for site in SITES]
    assert sum(map(len, states)) == len(set.union(*states)) == 7
    assert sorted(share.num_rows for share in shares.values()) == [172, 172, 256]


def skew(partition: Partition) -> tuple[float, float]:
    """How far sites differ in share of positives, and in size."""
    found = dealt(partition, table=rows(9000)).values()
    positives = [np.mean([word == "bad" for word in share["label"].to_pylist()]) for share in found]
    return float(np.std(positives)), float(np.std([share.num_rows for share in found]) / 3000)


def test_a_small_alpha_skews_and_a_large_one_does_not() -> None:
    assert skew(Dirichlet(0.5))[0] > 5 * skew(Dirichlet(1000.0))[0]
    assert skew(Quantity(0.5))[1] > 5 * skew(Quantity(1000.0))[1]
    assert skew(Quantity(2.0))[0] < 0.03
    assert skew(Even()) < (0.02, 0.001)


@settings(deadline=None)
@given(st.lists(st.floats(0.001, 1.0), min_size=1, max_size=30), st.integers(0, 10_000))
def test_largest_remainders_add_up(shares: list[float], count: int) -> None:
    sizes = _whole(np.asarray(shares), count)
    assert sizes.sum() == count
    exact = np.asarray(shares) / sum(shares) * count
    assert np.abs(sizes - exact).max(initial=0.0) <= 1.0 + 1e-6


@pytest.mark.parametrize(
    ("text", "partition"),
    [
        ("by:region", ByColumn("region")),
        ("by:a:b", ByColumn("a:b")),
        ("dirichlet:0.5", Dirichlet(0.5)),
        ("quantity:2", Quantity(2.0)),
        ("even", Even()),
    ],
)
def test_partitions_are_read(text: str, partition: Partition) -> None:
    assert parse_partition(text) == partition
    assert describe(partition)


@pytest.mark.parametrize("text", ["", "by", "by:", "even:1", "random", "Dirichlet:1", "dirichlet"])
def test_what_is_no_partition_is_refused_with_what_would_be(text: str) -> None:
    with pytest.raises(UsageError, match=r"by:COLUMN, dirichlet:ALPHA|alpha must be a number above 0"):
        parse_partition(text)


@pytest.mark.parametrize("alpha", ["0", "-1", "nan", "inf", "half"])
def test_alpha_is_a_positive_number(alpha: str) -> None:
    with pytest.raises(UsageError, match="alpha must be a number above 0, such as quantity"):
        parse_partition(f"quantity:{alpha}")


def test_an_unknown_column_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="there is no column 'regoin' in the data; the nearest are region"):
        dealt(ByColumn("regoin"))
    with pytest.raises(
        UsageError, match="there is no column 'zzz' in the data; there are key, region, state, label"
    ):
        dealt(ByColumn("zzz"))


def test_a_site_that_would_get_no_rows_is_refused() -> None:
    table = rows().filter(pc.not_equal(rows()["region"], "west"))
    with pytest.raises(Refused, match="west would get no rows; use another column or fewer sites"):
        dealt(ByColumn("region"), table=table)
    with pytest.raises(Refused, match=r"would get no rows; use a larger alpha, fewer sites or more rows"):
        dealt(Quantity(0.01), table=rows(20))


def test_a_site_with_one_class_is_refused() -> None:
    with pytest.raises(Refused, match="would get rows of one class only, and training needs both"):
        dealt(Dirichlet(0.05), table=rows(30), seed=1, sites=SITES[:2])


def test_a_value_that_is_no_site_beside_values_that_are_is_refused() -> None:
    with pytest.raises(Refused, match="column 'region' holds 'west', which is none of the sites east, north"):
        dealt(ByColumn("region"), sites=SITES[:2])


def test_missing_values_are_counted() -> None:
    table = rows(6).set_column(1, "region", pa.array(["east", None, "west", None, "north", "east"]))
    with pytest.raises(Refused, match="column 'region' has 2 missing values"):
        dealt(ByColumn("region"), table=table)


def test_csv_and_parquet_give_the_same_rows(tmp_path: Path) -> None:
    pq.write_table(rows(), tmp_path / "rows.parquet")
    pv.write_csv(rows(), tmp_path / "rows.csv")
    assert read_rows(tmp_path / "rows.parquet").equals(read_rows(tmp_path / "rows.csv"))


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("rows.xlsx", b"x", "is neither .parquet nor .csv"),
        ("rows.parquet", b"not parquet", "cannot be read .*write it again as Parquet or CSV"),
        ("rows.csv", b"a,b\n1\n", "cannot be read"),
        ("rows.csv", b"a,b\n", "has no rows"),
        ("absent.csv", None, "does not exist"),
    ],
)
def test_a_file_without_readable_rows_is_refused(
    tmp_path: Path, name: str, content: bytes | None, sentence: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=sentence):
        read_rows(tmp_path / name)
