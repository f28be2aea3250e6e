"""The kinds of fraud, and what is assumed about each: how many payments an incident has, and how long it takes to be found out.

Signatures are those that the industry names; their figures are assumptions, chosen for plausibility and taken from nobody's payments.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final


class Typology(IntEnum):
    """As `truth.parquet` numbers them; `ORDINARY` is no fraud."""

    ORDINARY = 0
    CARD_TESTING = 1
    ACCOUNT_TAKEOVER = 2
    PUSH_PAYMENT_SCAM = 3
    MULE_CHAIN = 4
    MERCHANT_BUST_OUT = 5
    STRUCTURING = 6

    @property
    def word(self) -> str:
        """As people and files read it: `card-testing`."""
        return self.name.lower().replace("_", "-")


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """`payments`: of one incident at one account, on average. `found_days`: median days until it is found out."""

    typology: Typology
    payments: float
    found_days: float


TYPOLOGIES: Final = (
    Kind(typology=Typology.CARD_TESTING, payments=6.5, found_days=2.0),
    Kind(typology=Typology.ACCOUNT_TAKEOVER, payments=3.5, found_days=1.0),
    Kind(typology=Typology.PUSH_PAYMENT_SCAM, payments=1.5, found_days=6.0),
    Kind(typology=Typology.MULE_CHAIN, payments=3.6, found_days=8.0),
    Kind(typology=Typology.MERCHANT_BUST_OUT, payments=2.5, found_days=12.0),
    Kind(typology=Typology.STRUCTURING, payments=5.5, found_days=10.0),
)
"""In the order of the mixtures."""

FOUND_SPREAD: Final = 0.6
"""Standard deviation of the logarithm of the days until an incident is found out."""
NEVER_FOUND: Final = 0.04
"""Share of incidents that nobody ever reports."""
FALSE_REPORTS: Final = 0.0002
"""Share of ordinary payments that somebody wrongly reports."""
