"""Fraud at single accounts of one block: five typologies, each with its own signature. Chains of mules are in `chains`.

1. An incident is some payments of one account; whose, and when in the season, is chance.
2. What makes a payment odd is how it lies among the account's others, so it takes that account's history to see it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from simulation.payments.accounts import MERCHANT_ACCOUNTS, Accounts, Income, merchants_of, outside_accounts
from simulation.payments.places import BURNERS, COUNTRIES, SMALL
from simulation.payments.rows import (
    DAY,
    HOUR,
    MINUTE,
    Channel,
    Floats,
    Integers,
    NameCheck,
    Payments,
    payments,
)
from simulation.payments.setting import SEASON_DAYS, Setting
from simulation.payments.streams import chance, stream
from simulation.payments.typology import TYPOLOGIES, Typology

REPORTED_EUR: Final = 10_000.0
"""Cash from here on is reported; who splits it stays below."""


@dataclass(frozen=True, slots=True)
class _Victims:
    """`count` incidents of one season: `who` (count,) places of accounts, `begin` (count,) seconds."""

    accounts: Accounts
    setting: Setting
    season: int
    who: Integers
    begin: Integers
    source: np.random.Generator

    def payments(self, times: Integers, apart: Callable[[int], Floats], **columns: Any) -> Payments:  # noqa: ANN401
        """`times` (count,) payments of each; `apart` draws the seconds since the one before. A column is of payments, or a function of incidents."""
        which = np.repeat(np.arange(len(times)), times)
        gaps = np.where(self.step(times) == 0, 0.0, apart(len(which)))
        elapsed = np.cumsum(gaps)
        firsts = np.repeat(np.cumsum(times) - times, times)
        elapsed = elapsed - elapsed[firsts] if len(which) else elapsed
        made = {name: value(which) if callable(value) else value for name, value in columns.items()}
        second = self.begin[which] + elapsed.astype(np.int64)
        return payments(self.who[which], second=second, incident=which, **made)

    @staticmethod
    def step(times: Integers) -> Integers:
        """The place of each payment in its incident, from 0."""
        return np.arange(int(times.sum())) - np.repeat(np.cumsum(times) - times, times)

    def later(self, seconds: Floats) -> _Victims:
        """The same incidents, so much later."""
        return replace(self, begin=self.begin + seconds.astype(np.int64))


def fraud_at_accounts(setting: Setting, accounts: Accounts, block: int) -> Iterator[Payments]:
    """Fraud of all seasons, chains of mules left out. Incidents are numbered from 0, without a gap between parts."""
    source, first = stream(setting.seed, "fraud", accounts.bank, block), 0
    for season in range(setting.seasons):
        expected = setting.fraud_expected(accounts.bank, block, season)
        for place, kind in enumerate(TYPOLOGIES):
            if kind.typology not in _MAKERS:
                continue
            share = float(setting.mixtures[season, accounts.bank, place])
            count = int(source.poisson(expected * share / kind.payments))
            weights = _WEIGHTS.get(kind.typology, _alike)(accounts)
            who = source.choice(len(accounts), count, p=weights / weights.sum())
            begin = season * SEASON_DAYS * DAY + source.integers(0, setting.season_days(season) * DAY, count)
            made = _MAKERS[kind.typology](_Victims(accounts, setting, season, who, begin, source))
            for part in made:
                yield replace(
                    part, typology=np.full(len(part), int(kind.typology)), incident=part.incident + first
                )
            first += count


def _alike(accounts: Accounts) -> Floats:
    return np.ones(len(accounts))


def _at_hour(victims: _Victims, mean: float, spread: float) -> _Victims:
    """The same incidents on the same days, about that hour."""
    hour = victims.source.normal(mean, spread, len(victims.begin)) % 24
    return replace(victims, begin=victims.begin // DAY * DAY + (hour * HOUR).astype(np.int64))


def _card_testing(victims: _Victims) -> Iterator[Payments]:
    """Some tiny online payments within minutes to see that a stolen card works, then large ones at shops whose goods are easily sold."""
    source, count = victims.source, len(victims.who)
    yield _at_shops(
        victims, SMALL, source.integers(3, 7, count), apart_s=(15, 4 * MINUTE), amount_eur=(0.3, 4.5)
    )
    later = victims.later(source.uniform(20 * MINUTE, 3 * HOUR, count))
    yield _at_shops(
        later, BURNERS, source.integers(1, 4, count), apart_s=(60, 30 * MINUTE), amount_eur=(150.0, 900.0)
    )


def _at_shops(
    victims: _Victims,
    categories: Sequence[int],
    times: Integers,
    *,
    apart_s: tuple[float, float],
    amount_eur: tuple[float, float],
) -> Payments:
    """Online payments of each incident at one established merchant of some categories."""
    source, merchants = victims.source, merchants_of(victims.setting)
    places, weights = merchants.of(np.isin(merchants.category, categories) & (merchants.opened < 0))
    shop, total = source.choice(places, len(times), p=weights), int(times.sum())
    return victims.payments(
        times,
        lambda n: source.uniform(*apart_s, n),
        amount=source.uniform(*amount_eur, total),
        channel=Channel.CARD_ONLINE,
        merchant=lambda which: shop[which],
        counterparty=lambda which: MERCHANT_ACCOUNTS + shop[which],
        country=lambda which: merchants.country[shop[which]],
        new_device=chance(source, 0.5, total),
    )


def _account_takeover(victims: _Victims) -> Iterator[Payments]:
    """From a device that was never seen, mostly at night, several transfers to strangers within minutes, until little is left."""
    source, night = victims.source, _at_hour(victims, 3.0, 3.5)
    count = len(victims.who)
    times = source.integers(2, 6, count)
    payee, abroad = outside_accounts(source, (count, 2)), source.integers(0, len(COUNTRIES), count)
    foreign, total = chance(source, 0.4, count), int(times.sum())
    yield night.payments(
        times,
        lambda n: source.uniform(1 * MINUTE, 15 * MINUTE, n),
        amount=lambda which: victims.accounts.monthly[victims.who[which]] * source.uniform(0.1, 0.7, total),
        channel=Channel.TRANSFER,
        counterparty=lambda which: payee[which, source.integers(0, 2, total)],
        country=lambda which: np.where(
            foreign[which], abroad[which], victims.accounts.home[victims.who[which]]
        ),
        new_device=chance(source, 0.9, total),
        name_check=_checked(source, total, match=0.55, close=0.1),
    )


def _push_payment_scam(victims: _Victims) -> Iterator[Payments]:
    """Somebody is talked into one or two large transfers to a stranger, by day and on their own device. Older people more often."""
    source, day = victims.source, _at_hour(victims, 13.0, 2.5)
    count = len(victims.who)
    times = source.integers(1, 3, count)
    payee, total = outside_accounts(source, count), int(times.sum())
    yield day.payments(
        times,
        lambda n: source.uniform(1 * HOUR, 30 * HOUR, n),
        amount=50.0 * np.ceil(source.lognormal(8.0, 0.6, total) / 50.0),
        channel=Channel.TRANSFER,
        counterparty=lambda which: payee[which],
        country=lambda which: victims.accounts.home[victims.who[which]],
        new_device=chance(source, 0.03, total),
        name_check=_checked(source, total, match=0.1, close=0.3),
    )


def _merchant_bust_out(victims: _Victims) -> Iterator[Payments]:
    """A merchant that opened a few weeks ago takes round sums far above what such merchants sell, with cards of people who are in it."""
    source, merchants = victims.source, merchants_of(victims.setting)
    count, colluding = len(victims.who), merchants.colluding(victims.season)
    shop = source.choice(colluding, count)
    times = source.integers(1, 5, count)
    total = int(times.sum())
    factor = source.uniform(3.0, 9.0, total)
    yield _at_hour(victims, 15.0, 3.0).payments(
        times,
        lambda n: source.uniform(2 * HOUR, 40 * HOUR, n),
        amount=lambda which: 50.0 * np.ceil(merchants.ticket[shop[which]] * factor / 50.0),
        channel=np.where(chance(source, 0.5, total), Channel.CARD_ONLINE, Channel.CARD_PRESENT),
        merchant=lambda which: shop[which],
        counterparty=lambda which: MERCHANT_ACCOUNTS + shop[which],
        country=lambda which: merchants.country[shop[which]],
        new_device=chance(source, 0.03, total),
    )


def _structuring(victims: _Victims) -> Iterator[Payments]:
    """Cash, day after day, each time a little below what would be reported."""
    source, day = victims.source, _at_hour(victims, 12.0, 2.0)
    count = len(victims.who)
    times = source.integers(3, 9, count)
    total = int(times.sum())
    counter = source.integers(10**9, 2 * 10**9, total)
    yield day.payments(
        times,
        lambda n: source.uniform(4 * HOUR, 44 * HOUR, n),
        amount=10.0 * np.floor(source.uniform(0.84, 0.999, total) * REPORTED_EUR / 10.0),
        incoming=True,
        channel=Channel.CASH,
        counterparty=-counter * 10_000,
        country=lambda which: victims.accounts.home[victims.who[which]],
    )


def _checked(source: np.random.Generator, count: int, *, match: float, close: float) -> Integers:
    words = [NameCheck.MATCH, NameCheck.CLOSE, NameCheck.MISMATCH]
    return source.choice(np.array(words, dtype=np.int64), count, p=[match, close, 1.0 - match - close])


_MAKERS: Final[Mapping[Typology, Callable[[_Victims], Iterator[Payments]]]] = {
    Typology.CARD_TESTING: _card_testing,
    Typology.ACCOUNT_TAKEOVER: _account_takeover,
    Typology.PUSH_PAYMENT_SCAM: _push_payment_scam,
    Typology.MERCHANT_BUST_OUT: _merchant_bust_out,
    Typology.STRUCTURING: _structuring,
}
_WEIGHTS: Final[Mapping[Typology, Callable[[Accounts], Floats]]] = {
    Typology.PUSH_PAYMENT_SCAM: lambda each: np.exp((each.age - 45.0) / 25.0),
    Typology.STRUCTURING: lambda each: np.where(each.income == Income.BUSINESS, 8.0, 1.0),
}
