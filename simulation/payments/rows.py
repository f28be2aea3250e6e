"""Payments of one block while they are made: arrays of equal length, in any order until they are sorted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from enum import IntEnum
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from simulation.payments.typology import Typology

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

DAY, HOUR, MINUTE = 86_400, 3_600, 60
"""Seconds."""
NOBODY: Final = -1


class Channel(IntEnum):
    """How money moves."""

    CARD_PRESENT = 0
    CARD_ONLINE = 1
    TRANSFER = 2
    DIRECT_DEBIT = 3
    CASH = 4

    @property
    def word(self) -> str:
        """As files have it."""
        return self.name.lower().replace("_", "-")


class NameCheck(IntEnum):
    """Whether the payee's name is the account's, as payers are told before a transfer; `NONE` where nobody checks."""

    NONE = 0
    MATCH = 1
    CLOSE = 2
    MISMATCH = 3

    @property
    def word(self) -> str:
        """As files have it."""
        return self.name.lower()


@dataclass(frozen=True, slots=True, kw_only=True)
class Payments:
    """n payments, each as one bank sees it.

    `account` (n,) is a place in the block, `second` counts from the first day, `amount` is in EUR, `merchant` a place in the directory or `NOBODY`, `country` a
    place among the countries, `incident` tells frauds of one block apart, `NOBODY` for ordinary payments.
    """

    account: Integers
    second: Integers
    amount: Floats
    incoming: Flags
    channel: Integers
    counterparty: Integers
    country: Integers
    merchant: Integers
    new_device: Flags
    name_check: Integers
    typology: Integers
    incident: Integers

    def __len__(self) -> int:
        return len(self.account)

    def at(self, places: Any) -> Self:  # noqa: ANN401 (as numpy's)
        """Some of them."""
        return type(self)(**{each.name: getattr(self, each.name)[places] for each in fields(self)})

    @classmethod
    def joined(cls, parts: Iterable[Payments]) -> Payments:
        """All payments of `parts`, in order."""
        several = list(parts)
        return Payments(
            **{
                each.name: np.concatenate([getattr(part, each.name) for part in several])
                for each in fields(cls)
            }
        )

    def sorted(self) -> Self:
        """By account, then time, then amount and counterparty: an order that does not tell how payments were made."""
        return self.at(np.lexsort((self.counterparty, self.amount, self.second, self.account)))


_TYPES: Final[Mapping[str, type]] = {
    "amount": np.float64,
    "incoming": np.bool_,
    "new_device": np.bool_,
}
_USUAL: Final[Mapping[str, Any]] = {
    "incoming": False,
    "merchant": NOBODY,
    "new_device": False,
    "name_check": NameCheck.NONE,
    "typology": Typology.ORDINARY,
    "incident": NOBODY,
}


def payments(account: Integers, **columns: Any) -> Payments:  # noqa: ANN401 (arrays and scalars)
    """Payments of `account`, (n,); other columns are (n,) or one value for all, amounts rounded to cents and at least one."""
    filled: dict[str, Any] = {}
    for each in fields(Payments):
        value = account if each.name == "account" else columns.get(each.name, _USUAL.get(each.name))
        whole = np.broadcast_to(np.asarray(value), account.shape)
        filled[each.name] = whole.astype(_TYPES.get(each.name, np.int64))
    filled["amount"] = np.maximum(np.round(filled["amount"], 2), 0.01)
    return Payments(**filled)
