"""Each typology has its own signature, and chains of mules are seen by both banks that a payment touches."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from simulation.payments.typology import NEVER_FOUND, TYPOLOGIES
from tests.simulation.payments.payments_for_tests import SMALL, column, of

SIGNATURES = {
    # The feature that shows it, and from which value on.
    "card-testing": ("small_6h", 3),
    "account-takeover": ("new_device", 1),
    "push-payment-scam": ("amount_to_own_mean", 20),
    "mule-chain": ("passed_on_24h", 0.3),
    "merchant-bust-out": ("ticket_ratio", 3),
    "structuring": ("near_threshold_7d", 2),
}


@pytest.mark.parametrize("typology", SIGNATURES)
def test_a_typology_shows_where_ordinary_payments_and_the_others_do_not(typology: str) -> None:
    name, least = SIGNATURES[typology]
    shows = column(name).astype(float) >= least
    mine, ordinary = of(typology), of("ordinary")
    assert mine.sum() > 30
    assert shows[mine].mean() > 0.4
    assert shows[mine].mean() > 10 * shows[ordinary].mean()
    for other in SIGNATURES.keys() - {typology}:
        assert shows[of(other)].mean() < shows[mine].mean(), other


def test_every_kind_of_fraud_has_a_signature_that_is_tested() -> None:
    assert set(SIGNATURES) == {each.typology.word for each in TYPOLOGIES}


def test_an_incident_has_about_as_many_payments_as_its_kind_says() -> None:
    for each in TYPOLOGIES:
        chosen = of(each.typology.word)
        where = zip(
            column("bank")[chosen], column("account_id")[chosen], column("incident")[chosen], strict=True
        )
        found = np.mean(list(Counter(where).values()))
        assert found == pytest.approx(each.payments, rel=0.2), each.typology.word


def test_takeovers_are_at_night_and_scams_are_not() -> None:
    night = column("night")
    assert night[of("account-takeover")].mean() > 0.4
    assert night[of("push-payment-scam")].mean() < 0.1


def test_names_of_payees_do_not_match_where_somebody_was_talked_into_it() -> None:
    mismatch = column("name_check") == "mismatch"
    assert mismatch[of("push-payment-scam")].mean() > 0.4
    assert mismatch[of("ordinary")].mean() < 0.02


def test_merchants_that_bust_out_are_young() -> None:
    young = column("merchant_days") < 120
    assert young[of("merchant-bust-out")].all()
    assert 0 < young[of("ordinary")].mean() < 0.1


def test_structuring_stays_below_what_is_reported() -> None:
    amount = column("amount")[of("structuring")]
    assert amount.min() >= 8_390
    assert amount.max() < 10_000


def test_a_payment_between_two_mules_is_in_both_banks_rows_to_the_second_and_the_cent() -> None:
    chain = of("mule-chain")
    sides: dict[str, Counter] = {"out": Counter(), "in": Counter()}
    account, other = column("account_id")[chain], column("counterparty_id")[chain]
    second = column("time").astype("datetime64[s]").astype(np.int64)[chain]
    amount, direction = column("amount")[chain], column("direction")[chain]
    banks = dict(zip(column("account_id"), column("bank"), strict=True))
    across = 0
    for mine, theirs, at, how_much, way in zip(account, other, second, amount, direction, strict=True):
        if theirs in banks:
            ends = (mine, theirs) if way == "out" else (theirs, mine)
            sides[way][*ends, at, how_much] += 1
            across += banks[mine] != banks[theirs]
    assert across > 20, "money crosses banks"
    # A chain may run on beyond the last day, where neither bank has it any more.
    assert sides["out"] == sides["in"]


def test_what_comes_in_at_a_mule_leaves_within_hours() -> None:
    chosen = of("mule-chain") & (column("direction") == "out")
    assert np.median(column("hours_since_in")[chosen]) < 6
    assert np.median(column("hours_since_in")[of("ordinary")]) > 48


def test_fraud_is_found_out_late_and_not_all_of_it_and_ordinary_payments_are_seldom_reported() -> None:
    day, reported, fraud = column("day"), column("reported_day"), column("fraud")
    unknown = np.isnan(reported.astype(float))
    places = zip(column("bank"), column("account_id"), column("incident"), strict=True)
    incidents = {place: gone for place, gone, bad in zip(places, unknown, fraud, strict=True) if bad}
    assert np.mean(list(incidents.values())) == pytest.approx(NEVER_FOUND, abs=0.03)
    assert (reported[fraud & ~unknown] >= day[fraud & ~unknown]).all()
    assert (
        np.median(reported[of("merchant-bust-out") & ~unknown] - day[of("merchant-bust-out") & ~unknown]) > 5
    )
    assert 0 < (~unknown)[~fraud].mean() < 0.001
    labelled = column("label") == "fraud"
    np.testing.assert_array_equal(labelled, np.where(unknown, SMALL.days, reported) < SMALL.days)
