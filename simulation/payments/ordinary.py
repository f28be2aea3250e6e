"""Ordinary payments of one block: what people do month after month, and now and then something that looks like fraud and is none."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from simulation.payments.accounts import (
    FAVOURITES,
    MERCHANT_ACCOUNTS,
    PAYEES,
    Accounts,
    Income,
    merchants_of,
    outside_accounts,
)
from simulation.payments.places import CATEGORIES, COUNTRIES, SMALL, Directory
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
from simulation.payments.setting import WARM_UP_DAYS, Setting
from simulation.payments.streams import chance, stream

_MONTH_DAYS: Final = 30
_WEEKDAYS: Final = np.array([1.0, 1.0, 1.0, 1.05, 1.3, 1.4, 0.7])
"""How much is paid by card from Monday, the first day, to Sunday."""
_NAME_CHECKS: Final = (0.0, 0.93, 0.04, 0.03)
"""Assumed shares of what the check of a payee's name says, in the order of `NameCheck`."""


class _Daily:
    """How often an account does something, a day. Assumed, as are all figures of ordinary payments; no source has them."""

    TRIP: Final = 1.0 / 200.0
    BURST: Final = 1.0 / 150.0
    SENDS: Final = 0.06
    RECEIVES: Final = 0.04
    PASSES_ON: Final = 1.0 / 250.0
    WITHDRAWS: Final = 0.04
    BRINGS_TAKINGS: Final = 1.0 / 7.0
    BRINGS_CASH: Final = 1.0 / 180.0


class _Share:
    """The share of cases in which something is so. Assumed."""

    NEW_DEVICE: Final = 0.015
    NEW_DEVICE_ONLINE: Final = 0.05
    FAVOURITE: Final = 0.8
    FAVOURITE_THOUGH_OTHER_IS_FAR: Final = 0.9
    STRANGER: Final = 0.2
    LARGE_TRANSFER: Final = 0.05
    AT_HOME: Final = 0.97
    FROM_PAYEE: Final = 0.6
    ON_TO_STRANGER: Final = 0.3
    RENT_OF_INCOME: Final = 0.3


class _Amount:
    """Lognormal amounts in EUR: mean and standard deviation of the logarithm. Assumed."""

    BURST: Final = (1.2, 0.6)
    TRANSFER: Final = (4.2, 0.9)
    LARGE_TRANSFER: Final = (7.8, 0.7)
    PASSED_ON: Final = (7.6, 0.8)
    TAKINGS: Final = (7.6, 0.8)
    CASH: Final = (5.5, 0.9)


_TRIP_DAYS: Final = 8
_PAYMENTS_A_TRIP: Final = 9.0
_SALARY_SPREAD: Final = 0.02


def ordinary_payments(setting: Setting, accounts: Accounts, block: int) -> Payments:
    """All ordinary payments of a block, warm-up included."""
    source = stream(setting.seed, "ordinary", accounts.bank, block)
    made = _Made(setting, accounts, source)
    return Payments.joined(made.everything())


class _Made:
    """Ordinary payments of the accounts of a block, one kind after the other from one source: their order decides them."""

    def __init__(self, setting: Setting, accounts: Accounts, source: np.random.Generator) -> None:
        self.accounts, self.source = accounts, source
        self.merchants: Directory = merchants_of(setting)
        self.first, self.days = -WARM_UP_DAYS, setting.days + WARM_UP_DAYS

    def everything(self) -> Iterator[Payments]:
        """All kinds."""
        yield self.cards()
        yield self.trips()
        yield self.salaries()
        yield self.bills()
        yield from self.transfers()
        yield self.withdrawals()
        yield self.takings()
        yield from self.passed_on()
        yield self.small_bursts()

    # --- who and when --------------------------------------------------------------------------------------------------

    def who(self, a_day: Floats | float) -> Integers:
        """Places of accounts, each as often as its rate over all days brings it."""
        times = self.source.poisson(np.broadcast_to(np.asarray(a_day), len(self.accounts)) * self.days)
        return np.repeat(np.arange(len(self.accounts)), times)

    def second(self, who: Integers, *, spread: float = 3.5) -> Integers:
        """A day by weekday, and a time about the account's usual hour."""
        days = np.arange(self.first, self.first + self.days)
        weights = _WEEKDAYS[days % len(_WEEKDAYS)]
        day = self.source.choice(days, len(who), p=weights / weights.sum())
        hour = self.source.normal(self.accounts.hour[who], spread) % 24
        return day * DAY + (hour * HOUR).astype(np.int64)

    def amount(self, merchant: Integers, who: Integers) -> Floats:
        """A merchant's usual ticket, larger for who spends more."""
        spread = np.array([each[2] for each in CATEGORIES])[self.merchants.category[merchant]]
        scale = np.log(self.merchants.ticket[merchant]) + self.accounts.thrift[who]
        return self.source.lognormal(scale, spread)

    def new_device(self, who: Integers) -> np.ndarray:
        """(n,) whether a payment is from a device that the account has not used."""
        return chance(self.source, _Share.NEW_DEVICE, len(who))

    def name_check(self, who: Integers) -> Integers:
        """(n,) what the check of the payee's name says, as `NameCheck`."""
        return self.source.choice(len(_NAME_CHECKS), len(who), p=_NAME_CHECKS)

    # --- by card -------------------------------------------------------------------------------------------------------

    def by_card(self, who: Integers, second: Integers, merchant: Integers, amount: Floats) -> Payments:
        """Payments by card, online or not as the merchant's category has it."""
        shares = np.array([each[3] for each in CATEGORIES])[self.merchants.category[merchant]]
        online = chance(self.source, shares, len(who))
        return payments(
            who,
            second=second,
            amount=amount,
            channel=np.where(online, Channel.CARD_ONLINE, Channel.CARD_PRESENT),
            counterparty=MERCHANT_ACCOUNTS + merchant,
            country=self.merchants.country[merchant],
            merchant=merchant,
            new_device=online & chance(self.source, _Share.NEW_DEVICE_ONLINE, len(who)),
        )

    def cards(self) -> Payments:
        """Everyday payments: mostly at favourites, else anywhere."""
        who = self.who(self.accounts.cards_a_day)
        second = self.second(who)
        usual = self.accounts.favourites[who, self.source.integers(0, FAVOURITES, len(who))]
        places, weights = self.merchants.of(np.arange(len(self.merchants.category)) >= 0)
        other = self.source.choice(places, len(who), p=weights)
        far = self.merchants.country[other] != self.accounts.home[who]
        often = chance(self.source, _Share.FAVOURITE, len(who))
        keeps = often | (far & chance(self.source, _Share.FAVOURITE_THOUGH_OTHER_IS_FAR, len(who)))
        closed = self.merchants.opened[other] >= second // DAY
        merchant = np.where(keeps | closed, usual, other)
        return self.by_card(who, second, merchant, self.amount(merchant, who))

    def trips(self) -> Payments:
        """A week away, mostly abroad: many payments far from home at merchants that are new."""
        trip = self.who(_Daily.TRIP)
        where = self.source.integers(0, len(COUNTRIES), len(trip))
        begins = self.source.integers(self.first, self.first + self.days - _TRIP_DAYS, len(trip))
        times = self.source.poisson(_PAYMENTS_A_TRIP, len(trip))
        who, country = np.repeat(trip, times), np.repeat(where, times)
        day = np.repeat(begins, times) + self.source.integers(0, _TRIP_DAYS, len(who))
        hour = self.source.normal(15.0, 4.0, len(who)) % 24
        merchant = np.empty(len(who), dtype=np.int64)
        for each in np.unique(country):
            guests = np.flatnonzero(country == each)
            places, weights = self.merchants.of(
                (self.merchants.country == each) & (self.merchants.opened < self.first)
            )
            merchant[guests] = self.source.choice(places, len(guests), p=weights)
        second = day * DAY + (hour * HOUR).astype(np.int64)
        return self.by_card(who, second, merchant, self.amount(merchant, who))

    def small_bursts(self) -> Payments:
        """A few small online payments within the hour: games, tickets, parking."""
        burst = self.who(_Daily.BURST)
        at = self.second(burst, spread=4.5)
        places, weights = self.merchants.of(
            np.isin(self.merchants.category, SMALL) & (self.merchants.opened < self.first)
        )
        shop = self.source.choice(places, len(burst), p=weights)
        times = self.source.integers(2, 6, len(burst))
        who, merchant = np.repeat(burst, times), np.repeat(shop, times)
        second = np.repeat(at, times) + self.source.integers(0, 50 * MINUTE, len(who))
        return payments(
            who,
            second=second,
            amount=self.source.lognormal(*_Amount.BURST, len(who)),
            channel=Channel.CARD_ONLINE,
            counterparty=MERCHANT_ACCOUNTS + merchant,
            country=self.merchants.country[merchant],
            merchant=merchant,
            new_device=self.new_device(who),
        )

    # --- by account ----------------------------------------------------------------------------------------------------

    def monthly(self, day_of_month: Integers) -> tuple[Integers, Integers]:
        """Places of accounts and days, once a month each."""
        months = np.arange(self.first, self.first + self.days, _MONTH_DAYS)
        day = (months[None, :] + day_of_month[:, None]).ravel()
        who = np.repeat(np.arange(len(self.accounts)), len(months))
        kept = day < self.first + self.days
        return who[kept], day[kept]

    def salaries(self) -> Payments:
        """What comes in every month from one employer."""
        employer = outside_accounts(self.source, len(self.accounts))
        who, day = self.monthly(self.source.integers(0, _MONTH_DAYS, len(self.accounts)))
        return payments(
            who,
            second=day * DAY + self.source.integers(2 * HOUR, 7 * HOUR, len(who)),
            amount=self.accounts.monthly[who] * self.source.normal(1.0, _SALARY_SPREAD, len(who)),
            incoming=True,
            channel=Channel.TRANSFER,
            counterparty=employer[who],
            country=self.accounts.home[who],
        )

    def bills(self) -> Payments:
        """Rent and the like, by direct debit to the same creditor."""
        creditor = outside_accounts(self.source, len(self.accounts))
        who, day = self.monthly(self.source.integers(0, _MONTH_DAYS, len(self.accounts)))
        return payments(
            who,
            second=day * DAY + self.source.integers(1 * HOUR, 6 * HOUR, len(who)),
            amount=_Share.RENT_OF_INCOME * self.accounts.monthly[who],
            channel=Channel.DIRECT_DEBIT,
            counterparty=creditor[who],
            country=self.accounts.home[who],
        )

    def transfers(self) -> Iterator[Payments]:
        """To payees, mostly known ones and now and then a large one to a new one; and from others."""
        for incoming in (False, True):
            who = self.who(_Daily.RECEIVES if incoming else _Daily.SENDS)
            known = self.accounts.payees[who, self.source.integers(0, PAYEES, len(who))]
            strange = chance(self.source, _Share.STRANGER, len(who))
            large = chance(self.source, _Share.LARGE_TRANSFER, len(who))
            usual = self.source.lognormal(*_Amount.TRANSFER, len(who))
            yield payments(
                who,
                second=self.second(who),
                amount=np.where(large, self.source.lognormal(*_Amount.LARGE_TRANSFER, len(who)), usual),
                incoming=incoming,
                channel=Channel.TRANSFER,
                counterparty=np.where(strange, outside_accounts(self.source, len(who)), known),
                country=self._mostly_home(who),
                new_device=False if incoming else self.new_device(who),
                name_check=NameCheck.NONE if incoming else self.name_check(who),
            )

    def passed_on(self) -> Iterator[Payments]:
        """Money that comes in and leaves the same day: a car is sold and bought, savings are moved."""
        who = self.who(_Daily.PASSES_ON)
        arrives = self.second(who)
        amount = self.source.lognormal(*_Amount.PASSED_ON, len(who))
        home, payee = self.accounts.home[who], self.accounts.payees[who, 0]
        sender = np.where(
            chance(self.source, _Share.FROM_PAYEE, len(who)), payee, outside_accounts(self.source, len(who))
        )
        yield payments(
            who,
            second=arrives,
            amount=amount,
            incoming=True,
            channel=Channel.TRANSFER,
            counterparty=sender,
            country=home,
        )
        leaves = arrives + self.source.integers(1 * HOUR, 20 * HOUR, len(who))
        strange = chance(self.source, _Share.ON_TO_STRANGER, len(who))
        yield payments(
            who,
            second=leaves,
            amount=amount * self.source.uniform(0.3, 1.0, len(who)),
            channel=Channel.TRANSFER,
            counterparty=np.where(
                strange, outside_accounts(self.source, len(who)), self.accounts.payees[who, 1]
            ),
            country=home,
            new_device=self.new_device(who),
            name_check=self.name_check(who),
        )

    # --- cash ----------------------------------------------------------------------------------------------------------

    def withdrawals(self) -> Payments:
        """Cash, in tens."""
        who = self.who(_Daily.WITHDRAWS)
        return payments(
            who,
            second=self.second(who),
            amount=10.0 * self.source.integers(2, 31, len(who)),
            channel=Channel.CASH,
            counterparty=_machine(self.accounts, who, self.source.integers(0, 5, len(who))),
            country=self._mostly_home(who),
        )

    def takings(self) -> Payments:
        """Businesses bring their takings, some of them weekly and near what would have to be reported; others rarely bring cash."""
        often = np.where(self.accounts.income == Income.BUSINESS, _Daily.BRINGS_TAKINGS, _Daily.BRINGS_CASH)
        who = self.who(often)
        business = self.accounts.income[who] == Income.BUSINESS
        size = np.where(
            business,
            self.source.lognormal(*_Amount.TAKINGS, len(who)),
            self.source.lognormal(*_Amount.CASH, len(who)),
        )
        return payments(
            who,
            second=self.second(who, spread=2.0),
            amount=10.0 * np.round(size / 10.0),
            incoming=True,
            channel=Channel.CASH,
            counterparty=_machine(self.accounts, who, self.source.integers(0, 2, len(who))),
            country=self.accounts.home[who],
        )

    def _mostly_home(self, who: Integers) -> Integers:
        """Countries: the account's own, and now and then any."""
        abroad = self.source.integers(0, len(COUNTRIES), len(who))
        return np.where(self.source.random(len(who)) < _Share.AT_HOME, self.accounts.home[who], abroad)


def _machine(accounts: Accounts, who: Integers, which: Integers) -> Integers:
    """The number of one of an account's usual cash machines and counters."""
    return -(accounts.number[who] * 10 + which)
