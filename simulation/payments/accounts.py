"""Who has the accounts of one block, and what they are used to."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import numpy as np

from simulation.payments.places import COUNTRIES, HOMES, Directory, directory
from simulation.payments.rows import Floats, Integers
from simulation.payments.setting import SEASON_DAYS, Setting
from simulation.payments.streams import chance, stream

FAVOURITES: Final = 12
PAYEES: Final = 6
ACCOUNTS_A_BANK: Final = 10**8
_OUTSIDE: Final = 10**12
"""From here on, account numbers of nobody who is generated."""
MERCHANT_ACCOUNTS: Final = 10**13
YOUNG_DAYS: Final = 150


class Income(IntEnum):
    """Classes of income."""

    LOW = 0
    MIDDLE = 1
    HIGH = 2
    BUSINESS = 3

    @property
    def word(self) -> str:
        """As files have it."""
        return self.name.lower()


_CLASSES: Final = (0.35, 0.45, 0.13, 0.07)
_MONTHLY_EUR: Final = np.array([1_700.0, 3_100.0, 6_500.0, 9_000.0])
"""Assumed, by class of income: its share of accounts above, and here the median of what comes in a month."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Accounts:
    """n accounts: `number` is unique among all banks, `opened` a day (negative), `monthly` in EUR, `hour` the usual one; all (n,), favourites (n, 12), payees (n, 6)."""

    bank: int
    number: Integers
    home: Integers
    age: Integers
    income: Integers
    monthly: Floats
    opened: Integers
    cards_a_day: Floats
    thrift: Floats
    hour: Floats
    favourites: Integers
    payees: Integers

    def __len__(self) -> int:
        return len(self.number)


def account_numbers(bank: int, block: int, setting: Setting) -> Integers:
    """The numbers of a block's accounts."""
    first = (bank + 1) * ACCOUNTS_A_BANK + block * setting.block_accounts
    return first + np.arange(setting.accounts_in(bank, block))


def outside_accounts(source: np.random.Generator, count: int | tuple[int, ...]) -> Integers:
    """Numbers of accounts at banks that are not generated."""
    return np.asarray(source.integers(_OUTSIDE, 2 * _OUTSIDE, count))


def merchants_of(setting: Setting) -> Directory:
    """The directory that all banks share."""
    return directory(setting.seed, setting.days, setting.seasons, SEASON_DAYS)


def accounts_of(setting: Setting, bank: int, block: int) -> Accounts:
    """The accounts of a block."""
    source = stream(setting.seed, "accounts", bank, block)
    count, merchants = setting.accounts_in(bank, block), merchants_of(setting)
    home = np.where(
        chance(source, 0.95, count), bank_home(setting, bank), source.integers(0, len(COUNTRIES), count)
    )
    income = source.choice(len(_CLASSES), count, p=_CLASSES)
    return Accounts(
        bank=bank,
        number=account_numbers(bank, block, setting),
        home=home,
        age=np.clip(source.normal(45, 17, count), 18, 92).astype(np.int64),
        income=income,
        monthly=_MONTHLY_EUR[income] * source.lognormal(0.0, 0.3, count),
        opened=opened_days(setting, bank, block),
        cards_a_day=np.minimum(source.gamma(2.0, 0.32, count), 4.0),
        thrift=source.normal(0.0, 0.35, count) + 0.25 * (income - 1),
        hour=source.normal(14.0, 2.5, count),
        favourites=_favourites(source, home, merchants),
        payees=outside_accounts(source, (count, PAYEES)),
    )


def bank_home(setting: Setting, bank: int) -> int:
    """The country of a bank."""
    return int(stream(setting.seed, "home", bank).integers(0, HOMES))


def opened_days(setting: Setting, bank: int, block: int) -> Integers:
    """The days on which a block's accounts were opened, (n,), all before the first. A few are young."""
    source, count = stream(setting.seed, "opened", bank, block), setting.accounts_in(bank, block)
    young = chance(source, 0.06, count)
    return -np.where(young, source.integers(30, YOUNG_DAYS, count), source.integers(YOUNG_DAYS, 7_000, count))


def _favourites(source: np.random.Generator, home: Integers, merchants: Directory) -> Integers:
    """(n, FAVOURITES): established merchants at home, the well-known ones more often."""
    chosen = np.empty((len(home), FAVOURITES), dtype=np.int64)
    for country in np.unique(home):
        lives = np.flatnonzero(home == country)
        there = (merchants.country == country) & (merchants.opened < -200)  # noqa: PLR2004
        places, weights = merchants.of(there)
        chosen[lives] = source.choice(places, (len(lives), FAVOURITES), p=weights)
    return chosen
