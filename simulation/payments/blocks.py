"""One block of payments as two tables: what the bank has, and the truth about it.

1. A block follows from setting, bank and block number, whatever was made before it.
2. Numbers of payments count an account's payments in order of time. Those of accounts and counterparties are scattered, so that none tells how it was made.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import pyarrow as pa

from simulation.payments.accounts import Accounts, Income, accounts_of, merchants_of
from simulation.payments.chains import mule_payments
from simulation.payments.features import category_words, features_of
from simulation.payments.fraud import fraud_at_accounts
from simulation.payments.labels import UNKNOWN, reported_days
from simulation.payments.ordinary import ordinary_payments
from simulation.payments.places import COUNTRIES
from simulation.payments.rows import DAY, NOBODY, Channel, Integers, NameCheck, Payments
from simulation.payments.setting import Setting
from simulation.payments.typology import Typology

FIRST_SECOND: Final = 1_736_121_600
"""The first day, a Monday: 2025-01-06, in Unix time. A date that is as good as any other."""
_PAYMENTS_OF_AN_ACCOUNT: Final = 10**6
_NUMBER_BITS: Final = 62
_ODD: Final = np.uint64(0x9E3779B97F4A7C15 & (2**_NUMBER_BITS - 1))
AGE_BANDS: Final = ("under-30", "30-to-64", "65-and-over")
_BANDS_BEGIN: Final = (30, 65)
FRAUD, ORDINARY = "fraud", "ordinary"


@dataclass(frozen=True, slots=True)
class Block:
    """`payments` is what the bank has; `truth` is about the same rows, by `payment_id`."""

    bank: int
    number: int
    payments: pa.Table
    truth: pa.Table


def block_of(setting: Setting, bank: int, number: int) -> Block:
    """One block, without the warm-up."""
    accounts = accounts_of(setting, bank, number)
    rows = _all_payments(setting, accounts, number).sorted()
    features = features_of(rows, accounts, merchants_of(setting))
    written = np.flatnonzero((rows.second >= 0) & (rows.second < setting.days * DAY))
    rows = rows.at(written)
    columns = {name: values[written] for name, values in features.items()}
    reported = reported_days(setting, bank, number, rows)
    ids = _payment_ids(accounts.number[rows.account])
    name = str(setting.names[bank])
    return Block(
        bank,
        number,
        pa.table(
            {
                "payment_id": ids,
                "bank": _words([name], np.zeros(len(rows), dtype=np.int64)),
                "account_id": _opaque(accounts.number[rows.account]),
                "counterparty_id": _opaque(rows.counterparty),
                "time": pa.array(rows.second + FIRST_SECOND).cast(pa.timestamp("s")),
                "label": _words([ORDINARY, FRAUD], (reported < setting.days).astype(np.int64)),
                **_facts(rows, accounts, setting),
                **columns,
            }
        ),
        pa.table(
            {
                "payment_id": ids,
                "bank": _words([name], np.zeros(len(rows), dtype=np.int64)),
                "day": rows.second // DAY,
                "typology": _words([each.word for each in Typology], rows.typology),
                "fraud": rows.typology != Typology.ORDINARY,
                "incident": pa.array(rows.incident, mask=rows.incident == NOBODY),
                "reported_day": pa.array(reported, mask=reported == UNKNOWN),
            }
        ),
    )


def blocks_of(setting: Setting, bank: int | None = None) -> Iterator[Block]:
    """All blocks in order, one at a time: of one bank, or of all."""
    for each in range(setting.banks) if bank is None else (bank,):
        for number in range(setting.blocks(each)):
            yield block_of(setting, each, number)


def _all_payments(setting: Setting, accounts: Accounts, number: int) -> Payments:
    single = list(fraud_at_accounts(setting, accounts, number))
    first = 1 + max((int(part.incident.max(initial=NOBODY)) for part in single), default=NOBODY)
    chains = mule_payments(setting, accounts.bank, number)
    return Payments.joined(
        [
            ordinary_payments(setting, accounts, number),
            *single,
            replace(chains, incident=chains.incident + first),
        ]
    )


def _facts(rows: Payments, accounts: Accounts, setting: Setting) -> dict[str, Any]:
    """What stands on a payment or in an account's file."""
    merchants = merchants_of(setting)
    band = np.searchsorted(_BANDS_BEGIN, accounts.age[rows.account], side="right")
    return {
        "age_band": _words(AGE_BANDS, band),
        "income_class": _words([each.word for each in Income], accounts.income[rows.account]),
        "direction": _words(["out", "in"], rows.incoming.astype(np.int64)),
        "channel": _words([each.word for each in Channel], rows.channel),
        "country": _words([each[0] for each in COUNTRIES], rows.country),
        "currency": _words([each[1] for each in COUNTRIES], rows.country),
        "merchant_category": pa.array(category_words(rows, merchants), pa.string()),
        "name_check": _words([each.word for each in NameCheck], rows.name_check),
    }


def _words(words: Sequence[str], places: Integers) -> pa.Array:
    """Text, (n,): the word at each place."""
    return pa.array(list(words), pa.string()).take(pa.array(places))


def _payment_ids(account: Integers) -> Integers:
    """Unique numbers, (n,), of payments that are sorted by account."""
    first = np.searchsorted(account, account, side="left")
    return account * _PAYMENTS_OF_AN_ACCOUNT + np.arange(len(account)) - first


def _opaque(numbers: Integers) -> Integers:
    """Each number as another below 2^62, none twice: multiplied by an odd constant, high bits mixed into low ones, and once more."""
    mask, half = np.uint64(2**_NUMBER_BITS - 1), np.uint64(_NUMBER_BITS // 2)
    mixed = (numbers + 2 ** (_NUMBER_BITS - 1)).astype(np.uint64)
    for _ in range(2):
        mixed = (mixed * _ODD) & mask
        mixed ^= mixed >> half
    return np.asarray(mixed, dtype=np.int64)
