"""What a bank can say of a payment when it is made, from that account's own payments until then: no label, no other account, nothing later."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from simulation.payments.accounts import Accounts
from simulation.payments.fraud import REPORTED_EUR
from simulation.payments.places import CATEGORIES, Directory, distances_km
from simulation.payments.rows import DAY, HOUR, MINUTE, NOBODY, Channel, Flags, Floats, Integers, Payments

_LONGEST_DAYS: Final = 30
SMALL_EUR: Final = 5.0
_NEAR: Final = 0.8
_PRIOR_EUR, _PRIOR_WEIGHT = 40.0, 3.0
WEEK: Final = 7


@dataclass(frozen=True, slots=True)
class History:
    """n payments, sorted by account and time, asked about the time before each one."""

    payments: Payments

    @property
    def _clock(self) -> Integers:
        """(n,) increases; two accounts are further apart than any window."""
        second = self.payments.second
        span = int(second.max() - second.min()) + 2 * _LONGEST_DAYS * DAY if len(second) else 1
        return self.payments.account * span + (second - (second.min() if len(second) else 0))

    def within(self, seconds: int, values: Floats | Flags) -> Floats:
        """(n,) the sum of `values` over the account's payments of the last `seconds`, this one included."""
        clock = self._clock
        total = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
        first = np.searchsorted(clock, clock - seconds, side="left")
        return np.asarray(np.maximum(total[1:] - total[first], 0.0))

    def before(self, values: Floats | Flags) -> Floats:
        """(n,) the sum of `values` over all of the account's earlier payments."""
        total = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
        return np.asarray(total[:-1] - total[self._firsts])

    def since(self, of: Flags) -> Floats:
        """(n,) seconds since the account's last earlier payment among `of`; 30 days where there is none, and at most."""
        last = np.where(of, np.arange(len(of)), NOBODY)
        last = np.concatenate([[NOBODY], np.maximum.accumulate(last)[:-1]]) if len(of) else last
        known = last >= self._firsts
        second = self.payments.second
        passed = np.where(known, second - second[np.maximum(last, 0)], _LONGEST_DAYS * DAY)
        return np.minimum(passed, _LONGEST_DAYS * DAY).astype(np.float64)

    def times_with_counterparty(self) -> Integers:
        """(n,) how often the account had to do with this counterparty, this payment included."""
        rows = self.payments
        order = np.lexsort((np.arange(len(rows)), rows.counterparty, rows.account))
        account, other = rows.account[order], rows.counterparty[order]
        begins = np.ones(len(rows), dtype=np.bool_)
        begins[1:] = (account[1:] != account[:-1]) | (other[1:] != other[:-1])
        start = np.maximum.accumulate(np.where(begins, np.arange(len(rows)), 0))
        times = np.empty(len(rows), dtype=np.int64)
        times[order] = np.arange(len(rows)) - start + 1
        return times

    @property
    def _firsts(self) -> Integers:
        """(n,) the place of each account's first payment."""
        return np.searchsorted(self.payments.account, self.payments.account, side="left")


def features_of(rows: Payments, accounts: Accounts, merchants: Directory) -> dict[str, Floats | Flags]:
    """The numeric and boolean features of sorted payments, (n,) each, by column name."""
    history = History(rows)
    out, amount = ~rows.incoming, rows.amount
    arrives, leaves = (history.within(DAY, np.where(side, amount, 0.0)) for side in (rows.incoming, out))
    day, shop = rows.second // DAY, np.maximum(rows.merchant, 0)
    by_card = rows.merchant != NOBODY
    cash_in = (rows.channel == Channel.CASH) & rows.incoming
    hour = rows.second % DAY / HOUR
    return {
        "amount": amount,
        "amount_to_own_mean": amount / _own_mean(history, rows),
        "hour": hour,
        "night": hour < 6,  # noqa: PLR2004
        "weekend": day % WEEK >= 5,  # noqa: PLR2004
        "payments_1h": history.within(HOUR, np.ones(len(rows))),
        "payments_24h": history.within(DAY, np.ones(len(rows))),
        "small_1h": history.within(HOUR, out & (amount < SMALL_EUR)),
        "small_6h": history.within(6 * HOUR, out & (amount < SMALL_EUR)),
        "out_24h": leaves,
        "in_24h": arrives,
        "passed_on_24h": np.minimum(leaves, arrives) / np.maximum(np.maximum(leaves, arrives), 0.01),
        "minutes_since_last": history.since(np.ones(len(rows), dtype=np.bool_)) / MINUTE,
        "hours_since_in": history.since(rows.incoming) / HOUR,
        "near_threshold_7d": history.within(
            WEEK * DAY, cash_in & (amount >= _NEAR * REPORTED_EUR) & (amount < REPORTED_EUR)
        ),
        "new_counterparty": history.times_with_counterparty() == 1,
        "new_counterparties_24h": history.within(DAY, (history.times_with_counterparty() == 1) & out),
        "new_device": rows.new_device,
        "distance": distances_km()[accounts.home[rows.account], rows.country],
        "account_days": (day - accounts.opened[rows.account]).astype(np.float64),
        "merchant_days": np.where(by_card, day - merchants.opened[shop], 5000).astype(np.float64),
        "ticket_ratio": np.where(by_card, amount / merchants.ticket[shop], 1.0),
    }


def _own_mean(history: History, rows: Payments) -> Floats:
    """(n,) the geometric mean of the account's earlier payments in the same direction, drawn towards 40 EUR where there are few."""
    logs, found = np.log(rows.amount), np.zeros(len(rows))
    for side in (rows.incoming, ~rows.incoming):
        count, total = history.before(side), history.before(np.where(side, logs, 0.0))
        mean = (total + _PRIOR_WEIGHT * np.log(_PRIOR_EUR)) / (count + _PRIOR_WEIGHT)
        found = np.where(side, np.exp(mean), found)
    return found


def category_words(rows: Payments, merchants: Directory) -> list[str]:
    """n names of merchants' categories; `none` where no merchant is paid."""
    names = np.array([each[0] for each in CATEGORIES] + ["none"], dtype=object)
    places = np.where(
        rows.merchant == NOBODY, len(CATEGORIES), merchants.category[np.maximum(rows.merchant, 0)]
    )
    return list(names[places])
