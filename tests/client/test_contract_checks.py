"""Rules of a contract: each is judged over all rows, named with its column and a count, and never with a value."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from client.data.connectors.memory import InMemory
from client.data.reading import Reading, read, read_source
from client.data.report import DataError
from protos.contract import Contract
from strategies.errors import UsageError
from strategies.features import CategoricalFeature, NumericFeature
from tests.contracts import sources_for_tests as places
from tests.contracts.sources_for_tests import CONTRACT, TODAY, Row, arrow, rows

CANARY = 4711.4711


def judged(of: list[Row] | pa.Table, contract: Contract = CONTRACT, today: date | None = TODAY) -> Reading:
    data = of if isinstance(of, pa.Table) else arrow(of)
    return read(InMemory(data, "cards"), contract, renamed={}, today=today, spool=None)


def broken(change: Callable[[list[Row]], None]) -> list[tuple[str, str | None, int]]:
    changed = rows()
    change(changed)
    found = judged(changed)
    assert found.table is None
    assert not found.report.accepted
    assert "4711" not in json.dumps(found.report.facts())
    assert "\n" not in found.report.sentence
    with pytest.raises(DataError):
        found.accepted()
    return [(each.rule, each.column, each.rows) for each in found.report.violations]


def put(name: str, *values: object) -> Callable[[list[Row]], None]:
    """The first rows get these values."""

    def change(of: list[Row]) -> None:
        for row, value in zip(of, values, strict=False):
            row[name] = value

    return change


TOMORROW_SOMEWHERE = TODAY + timedelta(days=1)

BREAKS: dict[str, tuple[Callable[[list[Row]], None], list[tuple[str, str | None, int]]]] = {
    "a value that is infinite": (
        put("amount", float("inf"), -float("inf")),
        [("finite", "amount", 2), ("range", "amount", 0)][:1],
    ),
    "a value that is missing": (put("amount", None, float("nan")), [("missing", "amount", 2)]),
    "an integer outside its range": (put("months", 4711, 3, -1), [("range", "months", 2)]),
    "a category that is not in the contract": (put("product", "x4711"), [("category", "product", 1)]),
    "a date in the future": (put("opened", TODAY + timedelta(days=2)), [("future", "opened", 1)]),
    "a date that is missing": (put("opened", None), [("missing", "opened", 1)]),
    "keys that two rows have": (put("account", "4711", "4711", "4711"), [("unique", "account", 2)]),
    "a key that is missing": (put("account", ""), [("missing", "account", 1)]),
    "a customer that is missing": (put("client", None), [("missing", "client", 1)]),
    "another class": (put("outcome", "x4711", None), [("classes", "outcome", 1), ("missing", "outcome", 1)]),
    "one class": (
        lambda of: [row.update(outcome="bad") for row in of] and None,
        [("classes", "outcome", 200)],
    ),
    "too few rows": (lambda of: of.__delitem__(slice(6, None)), [("minimum_rows", None, 6)]),
    "no rows": (lambda of: of.clear(), [("rows", None, 0)]),
    "no fresh row": (
        lambda of: [row.update(opened=TODAY - timedelta(days=61)) for row in of] and None,
        [("freshness", "opened", 0)],
    ),
    "several at once": (
        lambda of: [change(of) for change in (put("amount", None), put("months", -5))] and None,
        [("missing", "amount", 1), ("range", "months", 1)],
    ),
}


@pytest.mark.parametrize("defect", BREAKS)
def test_rows_that_break_a_rule_are_counted(defect: str) -> None:
    change, expected = BREAKS[defect]
    assert broken(change) == expected


def test_rows_that_keep_all_rules_are_accepted() -> None:
    assert judged(rows()).report.accepted
    on_the_edge = rows()
    put("opened", TOMORROW_SOMEWHERE)(on_the_edge)  # where it is tomorrow already
    assert judged(on_the_edge).report.accepted


TYPES: dict[str, tuple[str, Any]] = {
    "text for a number": ("amount", pa.array(["a4711"] * 200)),
    "a fraction for an integer": ("months", pa.array([1.5] + [1.0] * 199)),
    "text for a truth": ("married", pa.array(["yes"] * 200)),
    "a number for a date": ("opened", pa.array([20260101] * 200)),
    "a fraction for a word": ("product", pa.array([1.0] * 200)),
    "a number for a truth": ("married", pa.array([0, 2] * 100)),
}


@pytest.mark.parametrize("defect", TYPES)
def test_a_column_of_another_type_is_refused(defect: str) -> None:
    name, values = TYPES[defect]
    data = arrow(rows())
    found = judged(data.set_column(data.column_names.index(name), name, values)).report
    assert {each.column for each in found.violations} == {name}
    assert {each.rule for each in found.violations} & {"type", "integer"}


@pytest.mark.parametrize(
    "place", [each for each in places.FILES if "csv" in each.kind], ids=lambda each: each.kind
)
def test_text_that_is_no_number_no_date_or_no_truth_is_counted(place: places.Place, tmp_path: Path) -> None:
    changed = rows()
    put("months", "x4711", "12 4711", "1e", "")(changed)
    put("opened", "01.04.2026", "2026-13-01")(changed)
    put("married", "perhaps")(changed)
    found = read_source(place.put(changed, tmp_path), CONTRACT, today=TODAY, spool=None).report
    assert [(each.rule, each.column, each.rows) for each in found.violations] == [
        ("type", "married", 1),
        ("missing", "months", 4),
        ("type", "months", 3),
        ("missing", "opened", 2),
        ("type", "opened", 2),
    ]
    assert "4711" not in json.dumps(found.facts())


@pytest.mark.parametrize(
    "values",
    [
        pa.array([timedelta(days=1)] * 200),
        pa.array([[1]] * 200),
        pa.array([{"a": "canary"}] * 200),
        pa.array([b"canary"] * 200),
        pa.array([2**62] * 200, pa.timestamp("s")),
    ],
    ids=["duration", "list", "struct", "binary", "year 146 billion"],
)
@pytest.mark.parametrize("name", ["amount", "months", "married", "product", "account", "outcome", "opened"])
def test_a_column_like_no_other_is_a_data_error_and_no_crash(name: str, values: pa.Array) -> None:
    data = arrow(rows())
    with pytest.raises(DataError) as caught:
        judged(data.set_column(data.column_names.index(name), name, values)).accepted()
    assert "canary" not in str(caught.value)


def test_where_nobody_says_what_day_it_is_no_date_is_late_or_old() -> None:
    old = rows()
    for row in old:
        row["opened"] = date(1999, 1, 1)
    assert judged(old, today=None).report.accepted


# --- features -------------------------------------------------------------------------------------------------------------


def test_integers_and_truths_are_numbers_for_a_model() -> None:
    assert CONTRACT.feature_spec(["months", "married", "product"]).features == (
        NumericFeature(name="months", low=0.0, high=600.0),
        NumericFeature(name="married", low=0.0, high=1.0, missing="indicator"),
        CategoricalFeature(name="product", vocabulary=("gold", "blue", "7")),
    )


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("sex", "sex is a protected attribute of cards@2; no plan takes it as a feature, remove it"),
        ("opened", "opened is a date in cards@2; a date is never a feature, remove it"),
    ],
)
def test_protected_attributes_and_dates_are_never_features(name: str, sentence: str) -> None:
    with pytest.raises(UsageError) as caught:
        CONTRACT.feature_spec(["amount", name])
    assert str(caught.value) == sentence


def test_a_protected_attribute_is_no_feature_under_another_columns_name() -> None:
    with pytest.raises(DataError, match="takes 'sex' for 'product' and for 'sex', which is never a feature"):
        read(InMemory(arrow(rows()), "cards"), CONTRACT, renamed={"product": "sex"}, today=TODAY, spool=None)


@pytest.mark.parametrize("value", [2, -1, 256, 257, 1 << 40])
def test_a_whole_number_is_a_truth_value_if_it_is_0_or_1(value: int) -> None:
    """And not if its last byte is."""
    data = arrow(rows())
    place = data.column_names.index("married")
    numbers = pa.array([value, *[place % 2 for place in range(len(data) - 1)]], pa.int64())
    found = judged(data.set_column(place, "married", numbers)).report.violations
    assert [(each.rule, each.column, each.rows) for each in found] == [("type", "married", 1)]
