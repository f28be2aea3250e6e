"""What every derived key is for, in bytes that cannot be read in two ways.

A label names protocol version, suite, plan, run, stage, round, attempt, cohort, purpose and parties, each with its length before it. Two keys
for different purposes, rounds or parties are therefore unrelated even if everything else about them is the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final

from strategies.ids import Digest, RunId, SiteName

PROTOCOL: Final = "covenant/secagg/1"
MASK_PAIR: Final = "pair mask"
MASK_OWN: Final = "own mask"
ENVELOPE: Final = "envelope"
COMMITMENT: Final = "own seed"


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One attempt at aggregating one thing. Keys of one attempt are of no use in another."""

    suite: str
    plan: Digest
    run: RunId
    stage: str
    round: int
    attempt: int

    def parts(self) -> tuple[str, ...]:
        """All of it as text, in a fixed order."""
        return (self.suite, self.plan, self.run, self.stage, str(self.round), str(self.attempt))

    @cached_property
    def beginning(self) -> bytes:
        """What all labels of the attempt begin with: the protocol and `parts`, each after its length."""
        return b"".join(prefixed(part.encode()) for part in (PROTOCOL, *self.parts()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """The purpose of a key in an attempt. `cohort` is the digest over all advertised keys; `statement` over what sites were told."""

    attempt: Attempt
    purpose: str
    parties: tuple[SiteName, ...]
    cohort: Digest | None = None
    statement: Digest | None = None

    def encode(self) -> bytes:
        """The label's bytes: each part in UTF-8 after its length in four bytes, absent ones as empty."""
        parts = (
            self.cohort or "",
            self.statement or "",
            self.purpose,
            str(len(self.parties)),
            *self.parties,
        )
        return b"".join([self.attempt.beginning, *[prefixed(part.encode()) for part in parts]])


def seed_label(attempt: Attempt, site: SiteName) -> Label:
    """The label of the commitment to the seed of a site's own mask."""
    return Label(attempt=attempt, purpose=COMMITMENT, parties=(site,))


def prefixed(part: bytes) -> bytes:
    """`part` after its length in four bytes, big-endian."""
    return len(part).to_bytes(4, "big") + part
