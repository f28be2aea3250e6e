"""Chains of mules: money that comes in from several strangers and is passed on within hours, often from bank to bank, until it is cash or abroad.

1. A chain lies within the blocks of one number, one of each bank at most. Each block draws all chains of its number again and keeps its own legs.
2. A payment between two mules is in both banks' rows: same second, same amount, each names the other's account.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from simulation.payments.accounts import YOUNG_DAYS, account_numbers, bank_home, opened_days, outside_accounts
from simulation.payments.places import COUNTRIES
from simulation.payments.rows import (
    DAY,
    HOUR,
    MINUTE,
    NOBODY,
    Channel,
    Flags,
    Floats,
    Integers,
    NameCheck,
    Payments,
    payments,
)
from simulation.payments.setting import SEASON_DAYS, Setting
from simulation.payments.streams import chance, stream
from simulation.payments.typology import TYPOLOGIES, Typology

_KIND: Final = next(each for each in TYPOLOGIES if each.typology is Typology.MULE_CHAIN)
_PLACE: Final = TYPOLOGIES.index(_KIND)
_FEWEST, _MOST = 3, 5
_PAYMENTS_A_CHAIN: Final = _KIND.payments * (_FEWEST + _MOST) / 2
_PREFERS_YOUNG: Final = 8.0
_NAME_CHECKS: Final = (0.0, 0.75, 0.1, 0.15)
_NEW_DEVICE: Final = 0.25


@dataclass(frozen=True, slots=True)
class _Leg:
    """One payment. A bank that is `NOBODY` is none of those that are generated."""

    payer: tuple[int, int]
    """Bank, and the account's place in its block."""
    payee: tuple[int, int]
    second: int
    amount: float
    channel: Channel


_OUTSIDE: Final = (NOBODY, NOBODY)


def mule_payments(setting: Setting, bank: int, block: int) -> Payments:
    """The payments of chains that a bank's block sees, in and out. Incidents are numbered by chain."""
    source = stream(setting.seed, "chains", block)
    chains = [each for season in range(setting.seasons) for each in _chains(setting, block, season, source)]
    legs = [leg for chain in chains for leg in chain]
    drawn = _Drawn(
        stranger=outside_accounts(source, len(legs)),
        abroad=source.integers(0, len(COUNTRIES), len(legs)),
        name_check=source.choice(len(NameCheck), len(legs), p=_NAME_CHECKS),
        new_device=chance(source, _NEW_DEVICE, len(legs)),
        chain=np.repeat(np.arange(len(chains)), [len(chain) for chain in chains]),
    )
    return Payments.joined(
        _side(setting, bank, block, legs, drawn, incoming=incoming) for incoming in (True, False)
    )


@dataclass(frozen=True, slots=True)
class _Drawn:
    """What belongs to each leg, (n,): the other side where it is outside, and what the payer's bank sees."""

    stranger: Integers
    abroad: Integers
    name_check: Integers
    new_device: Flags
    chain: Integers
    """The number of each leg's chain."""


def _side(
    setting: Setting, bank: int, block: int, legs: Sequence[_Leg], drawn: _Drawn, *, incoming: bool
) -> Payments:
    """The legs that come in at a bank, or those that leave it, as that bank sees them."""
    mine = [n for n, leg in enumerate(legs) if (leg.payee if incoming else leg.payer)[0] == bank]
    own = [legs[n].payee if incoming else legs[n].payer for n in mine]
    others = [legs[n].payer if incoming else legs[n].payee for n in mine]
    outside = np.array([other == _OUTSIDE for other in others], dtype=np.bool_)
    numbers = [0 if other == _OUTSIDE else _number(setting, other, block) for other in others]
    homes = [0 if other == _OUTSIDE else bank_home(setting, other[0]) for other in others]
    channel = np.array([int(legs[n].channel) for n in mine], dtype=np.int64)
    checked = (channel == Channel.TRANSFER) & (not incoming)
    return payments(
        np.array([place for _, place in own], dtype=np.int64),
        second=[legs[n].second for n in mine],
        amount=[legs[n].amount for n in mine],
        incoming=incoming,
        channel=channel,
        counterparty=np.where(outside, drawn.stranger[mine], np.array(numbers, dtype=np.int64)),
        country=np.where(outside, drawn.abroad[mine], np.array(homes, dtype=np.int64)),
        new_device=drawn.new_device[mine] & (not incoming),
        name_check=np.where(checked, drawn.name_check[mine], NameCheck.NONE),
        typology=Typology.MULE_CHAIN,
        incident=drawn.chain[mine],
    )


def _number(setting: Setting, account: tuple[int, int], block: int) -> int:
    bank, place = account
    return int(account_numbers(bank, block, setting)[place])


def _chains(
    setting: Setting, block: int, season: int, source: np.random.Generator
) -> Iterator[Sequence[_Leg]]:
    """All chains of a season. Banks take part as their mixtures say, so a bank whose share is small is almost never in one."""
    weights = np.array(
        [
            setting.fraud_expected(bank, block, season) * setting.mixtures[season, bank, _PLACE]
            for bank in range(setting.banks)
        ]
    )
    for _ in range(int(source.poisson(weights.sum() / _PAYMENTS_A_CHAIN))):
        count = int(source.integers(_FEWEST, _MOST + 1))
        members = source.choice(setting.banks, count, p=weights / weights.sum())
        mules = [(int(bank), _mule(setting, int(bank), block, source)) for bank in members]
        begin = season * SEASON_DAYS * DAY + int(source.integers(0, setting.season_days(season) * DAY))
        yield _chain(mules, begin, source)


def _mule(setting: Setting, bank: int, block: int, source: np.random.Generator) -> int:
    """The place of an account that somebody lends: mostly a young one."""
    weights = np.where(opened_days(setting, bank, block) > -YOUNG_DAYS, _PREFERS_YOUNG, 1.0)
    return int(source.choice(len(weights), p=weights / weights.sum()))


def _chain(mules: list[tuple[int, int]], begin: int, source: np.random.Generator) -> list[_Leg]:
    """One chain: strangers pay the first mule, each passes on most of what came, the last takes cash or sends it abroad."""
    count = int(source.integers(2, 5))
    arrivals = begin + np.sort(source.integers(0, 5 * HOUR, count))
    amounts = np.round(source.lognormal(7.0, 0.5, count), 2)
    legs = [
        _Leg(_OUTSIDE, mules[0], int(at), float(amount), Channel.TRANSFER)
        for at, amount in zip(arrivals, amounts, strict=True)
    ]
    at, total = int(arrivals[-1]), float(amounts.sum())
    for payer, payee in zip(mules, [*mules[1:], _OUTSIDE], strict=True):
        last = payee == _OUTSIDE
        cash = last and bool(chance(source, 0.5, 1)[0])
        shares = _split(
            float(source.uniform(0.88, 0.985)),
            int(source.integers(2, 4) if last else source.integers(1, 3)),
            source,
        )
        for share in shares:
            at += int(source.integers(8 * MINUTE, 3 * HOUR))
            amount = 10.0 * np.floor(total * share / 10.0) if cash else np.round(total * share, 2)
            legs.append(_Leg(payer, payee, at, float(amount), Channel.CASH if cash else Channel.TRANSFER))
        total *= float(shares.sum())
    return legs


def _split(whole: float, parts: int, source: np.random.Generator) -> Floats:
    return whole * source.dirichlet(np.full(parts, 8.0))
