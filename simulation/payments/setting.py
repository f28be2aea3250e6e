"""What is generated: how many banks, accounts and days, how much fraud, and how unevenly its typologies are spread.

1. Sizes and mixtures follow from the setting alone, so every block can be made by itself.
2. A bank's mixture is drawn anew each season: campaigns move on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np

from simulation.partition import Indices, whole_numbers
from simulation.payments.streams import stream
from simulation.payments.typology import TYPOLOGIES
from strategies.encoding import Vector
from strategies.errors import UsageError
from strategies.ids import SiteName, site_name

SEASON_DAYS: Final = 30
WARM_UP_DAYS: Final = 30
"""Days before the first, whose payments are history for features and are not written."""
PAYMENTS_A_DAY: Final = 0.95
"""Ordinary payments that an account has a day, about: what shares of fraud are counted by."""
BLOCK_PAYMENTS: Final = 40_000
"""Payments of a block, about: what memory is bounded by."""
_SIZES_ALPHA: Final = 6.0
MOST_BANKS, MOST_ACCOUNTS, MOST_DAYS = 64, 20_000_000, 730
FEWEST_ACCOUNTS_A_BANK, FEWEST_DAYS = 20, 30
MOST_FRAUD: Final = 0.1
MOST_ALPHA: Final = 1_000_000
MOST_SEED: Final = 2**53 - 1


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What decides all payments. `accounts` are of all banks together; `alpha` is the Dirichlet distribution's, per typology.

    Raises UsageError for what is out of bounds.
    """

    banks: int = 8
    accounts: int = 6_000
    days: int = 120
    fraud_share: float = 0.01
    alpha: float = 0.15
    seed: int = 1

    def __post_init__(self) -> None:
        _require("banks", self.banks, 1, MOST_BANKS)
        _require("accounts", self.accounts, FEWEST_ACCOUNTS_A_BANK * self.banks, MOST_ACCOUNTS)
        _require("days", self.days, FEWEST_DAYS, MOST_DAYS)
        _require("fraud_share", self.fraud_share, 0.0001, MOST_FRAUD)
        _require("alpha", self.alpha, 0.01, MOST_ALPHA)
        _require("seed", self.seed, 0, MOST_SEED)

    def facts(self) -> dict[str, float]:
        """The setting as JSON."""
        return {
            "banks": self.banks,
            "accounts": self.accounts,
            "days": self.days,
            "fraud_share": self.fraud_share,
            "alpha": self.alpha,
            "seed": self.seed,
        }

    @property
    def names(self) -> tuple[SiteName, ...]:
        """The banks: bank-1 and so on, numbers of equal width."""
        width = len(str(self.banks))
        return tuple(site_name(f"bank-{number:0{width}d}") for number in range(1, self.banks + 1))

    @property
    def seasons(self) -> int:
        """Seasons, the last one cut short."""
        return math.ceil(self.days / SEASON_DAYS)

    @cached_property
    def sizes(self) -> Indices:
        """(banks,) accounts of each bank: a fixed share for each, and the rest unevenly."""
        shares = stream(self.seed, "sizes").dirichlet(np.full(self.banks, _SIZES_ALPHA))
        rest = self.accounts - FEWEST_ACCOUNTS_A_BANK * self.banks
        return FEWEST_ACCOUNTS_A_BANK + whole_numbers(shares, rest)

    @cached_property
    def mixtures(self) -> Vector:
        """(seasons, banks, typologies): which fraud a bank meets in a season; each mixture adds up to 1."""
        source = stream(self.seed, "mixtures")
        drawn = source.dirichlet(np.full(len(TYPOLOGIES), self.alpha), size=(self.seasons, self.banks))
        return np.asarray(drawn, dtype=np.float64)

    @property
    def block_accounts(self) -> int:
        """Accounts of a full block."""
        return max(1, int(BLOCK_PAYMENTS / (PAYMENTS_A_DAY * (self.days + WARM_UP_DAYS))))

    def blocks(self, bank: int) -> int:
        """How many blocks a bank has."""
        return math.ceil(int(self.sizes[bank]) / self.block_accounts)

    def accounts_in(self, bank: int, block: int) -> int:
        """Accounts of a block; 0 where the bank has no such block."""
        first = block * self.block_accounts
        return max(0, min(self.block_accounts, int(self.sizes[bank]) - first))

    def season_days(self, season: int) -> int:
        """Days of a season."""
        return min(SEASON_DAYS, self.days - season * SEASON_DAYS)

    def fraud_expected(self, bank: int, block: int, season: int) -> float:
        """Fraudulent payments of a block in a season, of all typologies, on average."""
        ordinary = self.accounts_in(bank, block) * PAYMENTS_A_DAY * self.season_days(season)
        return ordinary * self.fraud_share / (1.0 - self.fraud_share)


def _require(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:  # phrased so that NaN is refused
        reason = " (20 for each bank)" if name == "accounts" and value < low else ""
        raise UsageError(f"{name} is {value}; use a number from {low}{reason} to {high}")
