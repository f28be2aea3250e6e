"""Payments follow from their setting alone, block by block, and what a bank has tells nothing of the truth."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import average_precision_score

from simulation.payments.blocks import block_of, blocks_of
from simulation.payments.setting import (
    PAYMENTS_A_DAY,
    SEASON_DAYS,
    Setting,
)
from simulation.payments.typology import TYPOLOGIES
from strategies.errors import UsageError
from tests.simulation.payments.payments_for_tests import SMALL, both, column

TINY = Setting(banks=3, accounts=1_500, days=30, fraud_share=0.02, seed=5)


def test_a_block_is_the_same_whichever_was_made_before() -> None:
    forward = {(each.bank, each.number): each for each in blocks_of(TINY)}
    assert max(number for _, number in forward) > 0, "banks of several blocks"
    for bank, number in reversed(forward):
        again = block_of(TINY, bank, number)
        assert again.payments.equals(forward[bank, number].payments)
        assert again.truth.equals(forward[bank, number].truth)


def test_another_seed_makes_other_payments() -> None:
    other = Setting(banks=3, accounts=1_500, days=30, fraud_share=0.02, seed=6)
    first, second = block_of(TINY, 0, 0).payments, block_of(other, 0, 0).payments
    assert not np.isin(first["amount"].to_numpy()[:500], second["amount"].to_numpy()).all()


def test_accounts_of_banks_add_up_and_every_bank_has_some() -> None:
    for setting in (SMALL, TINY, Setting(), Setting(banks=64, accounts=1_280)):
        assert int(setting.sizes.sum()) == setting.accounts
        assert setting.sizes.min() >= 20
        for bank in range(setting.banks):
            parts = [setting.accounts_in(bank, block) for block in range(setting.blocks(bank))]
            assert sum(parts) == setting.sizes[bank]
            assert min(parts) > 0


def test_mixtures_add_up_and_differ_between_banks_and_seasons() -> None:
    mixtures = Setting().mixtures
    assert mixtures.shape == (4, 8, len(TYPOLOGIES))
    np.testing.assert_allclose(mixtures.sum(axis=2), 1.0)
    assert (mixtures < 0.01).mean() > 0.2, "some banks see a typology almost never"
    even = Setting(alpha=1e6).mixtures
    np.testing.assert_allclose(even, 1 / len(TYPOLOGIES), atol=0.01)


def test_payments_are_as_many_as_the_setting_says() -> None:
    payments, truth = both()
    ordinary = ~column("fraud")
    a_day = ordinary.sum() / SMALL.accounts / SMALL.days
    assert a_day == pytest.approx(PAYMENTS_A_DAY, rel=0.05)
    assert column("fraud").mean() == pytest.approx(SMALL.fraud_share, rel=0.15)
    assert payments["payment_id"].equals(truth["payment_id"])
    assert len(set(payments["payment_id"].to_pylist())) == payments.num_rows
    assert set(column("day")) == set(range(SMALL.days))


def test_banks_meet_typologies_as_their_mixtures_say() -> None:
    """Counts of an incident's payments vary, so a bank's share is near its mixture and not at it."""
    season, bank = column("day") // SEASON_DAYS, column("bank")
    for number, name in enumerate(SMALL.names):
        for when in range(SMALL.seasons):
            here = (bank == name) & (season == when) & column("fraud")
            found = [(column("typology")[here] == each.typology.word).mean() for each in TYPOLOGIES]
            assert np.abs(np.array(found) - SMALL.mixtures[when, number]).max() < 0.25
    assert np.corrcoef(_counts(), SMALL.mixtures.ravel())[0, 1] > 0.9


def _counts() -> np.ndarray:
    season, bank, kind = column("day") // SEASON_DAYS, column("bank"), column("typology")
    shares = []
    for when in range(SMALL.seasons):
        for name in SMALL.names:
            here = (bank == name) & (season == when) & column("fraud")
            shares += [(kind[here] == each.typology.word).mean() for each in TYPOLOGIES]
    return np.array(shares)


def _found(x: np.ndarray) -> float:
    """Average precision of trees on accounts that they have not seen, because payments of one incident lie together."""
    account, fraud = column("account_id"), column("fraud")
    training = np.isin(account, np.unique(account)[::2])
    model = HistGradientBoostingClassifier(max_iter=60, random_state=1).fit(x[training], fraud[training])
    return float(average_precision_score(fraud[~training], model.predict_proba(x[~training])[:, 1]))


def test_numbers_and_time_lead_nowhere_and_features_do() -> None:
    """Whose number a counterparty's is says a little: at a large merchant most payments are ordinary."""
    seconds = column("time").astype("datetime64[s]").astype(np.int64)
    numbers = [column(name) for name in ("payment_id", "account_id", "counterparty_id")]
    assert _found(np.column_stack([*numbers, column("payment_id") % 10**6, seconds])) < 0.1
    telling = (
        "amount_to_own_mean",
        "small_6h",
        "passed_on_24h",
        "near_threshold_7d",
        "ticket_ratio",
        "new_device",
    )
    assert _found(np.column_stack([column(name).astype(float) for name in telling])) > 0.6


def test_numbers_are_scattered_and_still_tell_apart() -> None:
    for name in ("account_id", "counterparty_id"):
        assert column(name).min() > 0
    assert len(set(column("account_id"))) == SMALL.accounts
    by_bank = [column("account_id")[column("bank") == bank].mean() for bank in SMALL.names]
    assert max(by_bank) < 1.2 * min(by_bank)


def test_what_a_bank_has_names_neither_typology_nor_truth() -> None:
    payments, truth = both()
    assert {"typology", "fraud", "incident", "reported_day"} <= set(truth.column_names)
    assert not {"typology", "fraud", "incident", "reported_day"} & set(payments.column_names)


def test_a_feature_does_not_change_with_what_comes_later() -> None:
    """Features of the first days are the same when there are fewer days to come, for accounts without fraud."""
    # Days decide how payments are drawn, so it is the features' own function that is asked.
    from simulation.payments.accounts import accounts_of, merchants_of
    from simulation.payments.features import features_of
    from simulation.payments.ordinary import ordinary_payments

    accounts = accounts_of(TINY, 0, 0)
    rows = ordinary_payments(TINY, accounts, 0).sorted()
    whole = features_of(rows, accounts, merchants_of(TINY))
    early = rows.second < 10 * 86_400
    alone = features_of(rows.at(early), accounts, merchants_of(TINY))
    for name, values in whole.items():
        np.testing.assert_allclose(values[early], alone[name], rtol=1e-9, atol=1e-6, err_msg=name)


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"banks": 0}, "banks is 0; use a number from 1 to 64"),
        ({"banks": 65}, "banks is 65"),
        ({"accounts": 100}, r"accounts is 100; use a number from 160 \(20 for each bank\) to 20000000"),
        ({"days": 29}, "days is 29; use a number from 30 to 730"),
        ({"days": 731}, "days is 731"),
        ({"fraud_share": 0.0}, "fraud_share is 0.0; use a number from 0.0001 to 0.1"),
        ({"fraud_share": float("nan")}, "fraud_share is nan"),
        ({"alpha": 0.0}, "alpha is 0.0; use a number from 0.01 to 1000000"),
        ({"seed": -1}, "seed is -1; use a number from 0 to 9007199254740991"),
    ],
)
def test_what_is_out_of_bounds_is_refused_with_the_bounds(asked: dict, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        Setting(**asked)
