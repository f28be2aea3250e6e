"""Dealing rows to sites: each row once, the same way each time, and no site that cannot train."""

from __future__ import annotations

import datetime as dt
import itertools
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pv
import pyarrow.parquet as pq
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from simulation.partition import (
    ByColumn,
    Dirichlet,
    Even,
    Partition,
    Quantity,
    deal,
    describe,
    parse_partition,
    read_rows,
    whole_numbers,
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


ALPHAS = st.floats(2.0, 100.0)
PARTITIONS = st.one_of(
    st.just(ByColumn("state")), st.builds(Dirichlet, ALPHAS), st.builds(Quantity, ALPHAS), st.just(Even())
)


@settings(deadline=None)
@given(PARTITIONS, st.integers(60, 300), st.integers(1, 5), st.integers(0, 2**64))
def test_what_is_dealt_is_the_table_again_and_every_site_can_train(
    partition: Partition, count: int, sites: int, seed: int
) -> None:
    table = rows(count)
    names = [site_name(f"site-{place}") for place in range(sites)]
    try:
        found = dealt(partition, seed=seed, table=table, sites=names)
    except Refused:
        assume(False)
    assert list(found) == names
    assert pa.concat_tables(found.values()).sort_by("key").equals(table)
    for share in found.values():
        assert share["key"].to_pylist() == sorted(share["key"].to_pylist())
        assert set(share["label"].to_pylist()) == {"bad", "good"}


@pytest.mark.parametrize(
    ("partition", "sites"),
    [
        (Dirichlet(3.0), "wennweeeewnenweenwewneenenwewennneenwnne"),
        (Quantity(3.0), "neewwnweeenwewwwennnwwnneeeeneewewneewew"),
        (Even(), "wwwnnenwwwenennnwwewneeeeeweeweenwnennnw"),
    ],
)
def test_a_seed_deals_the_same_on_every_machine(partition: Partition, sites: str) -> None:
    # If another numpy deals otherwise, results of earlier simulations cannot be had again: say so in the changelog.
    shares = dealt(partition, seed=2028, table=rows(40))
    owner = {key: site for site, share in shares.items() for key in share["key"].to_pylist()}
    assert "".join(owner[key][0] for key in range(40)) == sites


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


def test_the_largest_values_are_dealt_first_and_ties_by_name() -> None:
    states = ["d"] * 10 + ["c"] * 6 + ["b"] * 6 + ["a"] * 2
    table = pa.table({"state": states, "label": ["bad", "good"] * 12})
    shares = dealt(ByColumn("state"), table=table)
    found = {site: set(share["state"].to_pylist()) for site, share in shares.items()}
    assert found == {"east": {"d"}, "north": {"a", "b"}, "west": {"c"}}


def test_numbers_are_values_too() -> None:
    table = rows().append_column("branch", pa.array([each % 5 for each in range(600)]))
    assert sorted(share.num_rows for share in dealt(ByColumn("branch"), table=table).values()) == [
        120,
        240,
        240,
    ]


def skew(partition: Partition, seed: int = 0) -> tuple[float, float]:
    """How far sites differ in share of positives, and in size."""
    found = dealt(partition, seed=seed, table=rows(9000)).values()
    positives = [np.mean([word == "bad" for word in share["label"].to_pylist()]) for share in found]
    return float(np.std(positives)), float(np.std([share.num_rows for share in found]) / 3000)


def test_labels_differ_more_as_alpha_shrinks() -> None:
    spreads = [np.mean([skew(Dirichlet(alpha), seed)[0] for seed in range(20)]) for alpha in (2, 20, 200)]
    assert all(more > 2 * less for more, less in itertools.pairwise(spreads))


@pytest.mark.parametrize("alpha", [2.0, 20.0, 200.0])
def test_sizes_differ_as_much_as_the_distribution_says(alpha: float) -> None:
    found = np.sqrt(np.mean([skew(Quantity(alpha), seed)[1] ** 2 for seed in range(60)]))
    # Of k shares from Dir(alpha) each has mean 1/k and the variance of its Beta distribution.
    assert found == pytest.approx(np.sqrt((len(SITES) - 1) / (len(SITES) * alpha + 1)), rel=0.25)


def test_quantity_skew_leaves_the_labels_alike_and_even_leaves_everything_alike() -> None:
    assert skew(Quantity(2.0))[0] < 0.03
    assert skew(Even()) < (0.02, 0.001)


@pytest.mark.parametrize("partition", [Dirichlet(1.7e308), Quantity(1.7e308)], ids=describe)
def test_the_largest_alpha_deals_evenly(partition: Partition) -> None:
    sizes = [share.num_rows for share in dealt(partition).values()]
    assert max(sizes) - min(sizes) <= 2


@settings(deadline=None)
@given(st.lists(st.floats(0.001, 1.0), min_size=1, max_size=30), st.integers(0, 10_000))
def test_largest_remainders_add_up(shares: list[float], count: int) -> None:
    sizes = whole_numbers(np.asarray(shares), count)
    assert sizes.sum() == count
    exact = np.asarray(shares) / sum(shares) * count
    assert np.abs(sizes - exact).max(initial=0.0) <= 1.0 + 1e-6


def test_the_rows_that_are_left_go_to_the_largest_remainders() -> None:
    assert whole_numbers(np.array([0.42, 0.35, 0.23]), 10).tolist() == [4, 4, 2]
    assert whole_numbers(np.array([1.0, 1.0, 1.0]), 5).tolist() == [2, 2, 1]


@pytest.mark.parametrize(
    ("text", "partition", "words"),
    [
        ("by:region", ByColumn("region"), "by the values of column region"),
        ("by:a:b", ByColumn("a:b"), "by the values of column a:b"),
        ("dirichlet:0.5", Dirichlet(0.5), "label skew, Dirichlet with alpha 0.5"),
        ("quantity:2", Quantity(2.0), "quantity skew, Dirichlet with alpha 2"),
        ("even", Even(), "evenly, in random order"),
    ],
)
def test_partitions_are_read_and_described(text: str, partition: Partition, words: str) -> None:
    assert parse_partition(text) == partition
    assert describe(partition) == words


@pytest.mark.parametrize("text", ["", "by", "by:", "even:1", "random", "Dirichlet:1", "dirichlet"])
def test_what_is_no_partition_is_refused_with_what_would_be(text: str) -> None:
    with pytest.raises(UsageError, match=r"by:COLUMN, dirichlet:ALPHA|alpha must be a number above 0"):
        parse_partition(text)


@pytest.mark.parametrize("alpha", ["0", "-1", "nan", "inf", "half"])
def test_alpha_is_a_positive_number(alpha: str) -> None:
    with pytest.raises(UsageError, match=f"quantity:{alpha}: alpha must be a number above 0, such as 0.5"):
        parse_partition(f"quantity:{alpha}")


@pytest.mark.parametrize("kind", [Dirichlet, Quantity])
@pytest.mark.parametrize("alpha", [0.0, -1.0, float("nan"), float("inf")])
def test_no_partition_has_another_alpha(kind: type[Dirichlet | Quantity], alpha: float) -> None:
    with pytest.raises(UsageError, match=f"alpha {alpha}: alpha must be a number above 0"):
        kind(alpha)


@pytest.mark.parametrize(
    ("sites", "sentence"),
    [((), "there are no sites"), (("east", "west", "east"), "site east is named 2 times")],
)
def test_sites_are_named_once(sites: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        dealt(Even(), sites=tuple(map(site_name, sites)))


def test_an_unknown_column_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="there is no column 'regoin' in the data; the nearest are region"):
        dealt(ByColumn("regoin"))
    with pytest.raises(
        UsageError, match="there is no column 'zzz' in the data; there are key, region, state, label"
    ):
        dealt(ByColumn("zzz"))
    with pytest.raises(UsageError, match="there is no column 'lable' in the data; the nearest are label"):
        deal(rows(), SITES, Even(), target="lable", seed=0)


def test_a_column_that_is_there_twice_is_refused() -> None:
    twice = rows().append_column("state", rows()["region"])
    with pytest.raises(UsageError, match="column 'state' is 2 times in the data; keep one"):
        dealt(ByColumn("state"), table=twice)


def test_a_site_that_would_get_no_rows_is_refused() -> None:
    table = rows().filter(pc.not_equal(rows()["region"], "west"))
    with pytest.raises(Refused, match="west would get no rows; use another column or fewer sites"):
        dealt(ByColumn("region"), table=table)
    with pytest.raises(Refused, match=r"would get no rows; use a larger alpha, fewer sites or more rows"):
        dealt(Quantity(0.01), table=rows(20))
    with pytest.raises(Refused, match="west would get no rows; use fewer sites or more rows"):
        dealt(Even(), table=pa.table({"label": ["bad", "good"]}))
    many = [site_name(f"site-{place}") for place in range(14)]
    with pytest.raises(
        Refused, match="site-7, site-8, site-9, site-10, site-11 and 2 more would get no rows"
    ):
        dealt(ByColumn("state"), sites=many)


def test_a_site_with_one_class_is_refused() -> None:
    with pytest.raises(Refused, match="would get rows of one class only, and training needs both"):
        dealt(Dirichlet(0.05), table=rows(30), seed=1, sites=SITES[:2])
    with pytest.raises(
        Refused, match=r"north would get rows of one class only.*; use another column or fewer sites"
    ):
        dealt(
            ByColumn("site"),
            table=pa.table(
                {"site": ["east", "east", "north", "north"], "label": ["bad", "good", "good", "good"]}
            ),
            sites=SITES[:2],
        )


def test_rows_of_one_class_cannot_be_dealt_at_all() -> None:
    with pytest.raises(Refused, match="column 'label' is 'good' in every row; training needs rows of both"):
        dealt(Even(), table=pa.table({"label": ["good"] * 9}))


def test_a_value_that_is_no_site_beside_values_that_are_is_refused() -> None:
    with pytest.raises(Refused, match="column 'region' holds 'west', which is none of the sites east, north"):
        dealt(ByColumn("region"), sites=SITES[:2])


@pytest.mark.parametrize(
    "values",
    [
        ["east", None, "west", None, "north", "east"],
        ["east", "", "west", None, "north", "east"],
        [1.0, float("nan"), 2.0, None, 3.0, 1.0],
    ],
)
def test_missing_values_are_counted(values: list[object]) -> None:
    table = rows(6).set_column(1, "region", pa.array(values))
    with pytest.raises(Refused, match="column 'region' has 2 missing values"):
        dealt(ByColumn("region"), table=table)
    with pytest.raises(Refused, match="column 'region' has 2 missing values"):
        deal(table, SITES, Even(), target="region", seed=0)


def test_csv_and_parquet_give_the_same_rows(tmp_path: Path) -> None:
    table = rows().append_column(
        "rate", pa.array([None if each % 9 == 0 else each / 7 for each in range(600)])
    )
    pq.write_table(table, tmp_path / "rows.parquet")
    pv.write_csv(table, tmp_path / "rows.CSV")
    assert read_rows(tmp_path / "rows.parquet").equals(table)
    assert read_rows(tmp_path / "rows.CSV").equals(table)


def test_a_csv_column_is_of_numbers_or_of_text_as_written(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("day,late,country,income\n2016-01-01,true,NA,1.5\n2016-01-02,false,DE,\n")
    assert read_rows(path).to_pylist() == [
        {"day": "2016-01-01", "late": "true", "country": "NA", "income": 1.5},
        {"day": "2016-01-02", "late": "false", "country": "DE", "income": None},
    ]


def test_a_parquet_file_keeps_its_types(tmp_path: Path) -> None:
    table = pa.table({"day": [dt.date(2016, 1, 1)], "late": [True]})
    (tmp_path / "region=east").mkdir()
    pq.write_table(table, tmp_path / "region=east" / "rows.parquet")
    assert read_rows(tmp_path / "region=east" / "rows.parquet").equals(table)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("rows.xlsx", b"x", "is neither .parquet nor .csv"),
        ("rows", b"x", "is neither .parquet nor .csv"),
        ("rows.parquet", b"not parquet", "cannot be read .*give a readable Parquet or CSV file"),
        ("rows.csv", b"a,b\n1\n", "cannot be read"),
        ("rows.csv", b"", "cannot be read .Empty CSV file"),
        ("rows.csv", "name\nMüller\n".encode("latin-1"), "cannot be read .*invalid UTF8"),
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


@pytest.mark.parametrize("name", ["rows.parquet", "rows.csv"])
def test_a_folder_is_no_file(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    pq.write_table(rows(), tmp_path / name / "part.parquet")
    with pytest.raises(UsageError, match=r"cannot be read \(Is a directory\)"):
        read_rows(tmp_path / name)


def test_text_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    text = pa.Array.from_buffers(
        pa.string(), 1, [None, pa.py_buffer(np.array([0, 1], dtype=np.int32)), pa.py_buffer(b"\xff")]
    )
    pq.write_table(pa.table({"name": text}), tmp_path / "rows.parquet")
    with pytest.raises(UsageError, match=r"cannot be read .*UTF8"):
        read_rows(tmp_path / "rows.parquet")


def test_every_sentence_is_one_line() -> None:
    for partition in (Quantity(0.01), ByColumn("zzz"), ByColumn("key")):
        with pytest.raises((Refused, UsageError)) as caught:
            dealt(partition, table=rows(4))
        assert "\n" not in str(caught.value)
