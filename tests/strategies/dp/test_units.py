"""Units and guarantees: which combinations mean something, and what is said of them."""

from __future__ import annotations

import math
from typing import Any

import pytest

from strategies.dp.units import MOST_ROWS, MOST_SITES, Guarantee, PrivacyUnit, UnitKind, require_delta
from strategies.errors import UsageError

RECORD = PrivacyUnit(kind=UnitKind.RECORD)
NAN = math.nan


def customer(**facts: Any) -> PrivacyUnit:
    return PrivacyUnit(**{"kind": UnitKind.CUSTOMER, "column": "customer_id", **facts})


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "a customer without a column": ({"kind": UnitKind.CUSTOMER}, "told by a column"),
    "a record with a column": ({"kind": UnitKind.RECORD, "column": "id"}, "told by a column"),
    "a site with a column": ({"kind": UnitKind.SITE, "column": "id"}, "told by a column"),
    "a record of two rows": ({"kind": UnitKind.RECORD, "max_rows": 2}, "a record is one row"),
    "a record at two sites": ({"kind": UnitKind.RECORD, "max_sites": 2}, "max_sites is for customers"),
    "a site at two sites": ({"kind": UnitKind.SITE, "max_sites": 2}, "max_sites is for customers"),
    **{
        f"{name} of {value}": (
            {"kind": UnitKind.CUSTOMER, "column": "c", name: value},
            f"{name} is {value}; use 1 to {most}",
        )
        for name, most in (("max_rows", MOST_ROWS), ("max_sites", MOST_SITES))
        for value in (0, -1, most + 1, NAN)
    },
}


@pytest.mark.parametrize(("facts", "words"), BAD.values(), ids=BAD.keys())
def test_a_combination_that_means_nothing_is_refused(facts: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        PrivacyUnit(**facts)


@pytest.mark.parametrize(
    ("unit", "words"),
    [
        (RECORD, "record"),
        (PrivacyUnit(kind=UnitKind.SITE, max_rows=MOST_ROWS), "site"),
        (customer(max_rows=4), "customer (customer_id, up to 4 rows, at one site)"),
        (
            customer(max_rows=4, max_sites=MOST_SITES),
            f"customer (customer_id, up to 4 rows, at up to {MOST_SITES} sites)",
        ),
    ],
)
def test_a_unit_says_whose_rows_it_is(unit: PrivacyUnit, words: str) -> None:
    assert unit.words == words


def test_a_figure_is_about_the_same_person_whatever_the_bounds() -> None:
    assert customer().is_same_person(customer(max_rows=9, max_sites=3))
    assert not customer().is_same_person(customer(column="ssn"))
    assert not customer().is_same_person(RECORD)
    assert not RECORD.is_same_person(PrivacyUnit(kind=UnitKind.SITE))


@pytest.mark.parametrize("delta", [0.0, 1.0, -1e-9, 1.5, math.inf, NAN])
def test_delta_is_a_probability_that_is_neither_0_nor_1(delta: float) -> None:
    with pytest.raises(UsageError, match="above 0 and below 1"):
        require_delta(delta)
    with pytest.raises(UsageError, match="above 0 and below 1"):
        Guarantee(epsilon=1.0, delta=delta, unit=RECORD)


@pytest.mark.parametrize("delta", [5e-324, 1e-6, math.nextafter(1.0, 0.0)])
def test_any_other_delta_is_accepted(delta: float) -> None:
    require_delta(delta)


@pytest.mark.parametrize("epsilon", [-1e-12, -math.inf, NAN])
def test_epsilon_is_at_least_0(epsilon: float) -> None:
    with pytest.raises(UsageError, match="at least 0"):
        Guarantee(epsilon=epsilon, delta=1e-6, unit=RECORD)


def test_a_guarantee_is_never_said_without_unit_and_neighbours() -> None:
    assert Guarantee(epsilon=1.25, delta=1e-6, unit=customer()).words == (
        "epsilon 1.250 at delta 1e-06 per customer (customer_id, up to 1 rows, at one site) (add-or-remove-one)"
    )


def test_nothing_promised_is_said_in_words() -> None:
    promised = Guarantee(epsilon=math.inf, delta=1e-6, unit=RECORD)
    assert promised.words == "epsilon unbounded at delta 1e-06 per record (add-or-remove-one)"
