"""Orders to halt, and words to lift them, by people whose keys are in memory."""

from __future__ import annotations

import os
from datetime import UTC, datetime

from protos.halt_lifts import LiftStatement, state_lift
from protos.halts import HaltOrder, HaltScope, OrderedBy, order_halt
from protos.keys import SigningKey
from strategies.ids import Digest
from tests.trust_for_tests import key_of, officers

FEDERATION = officers().newest.identity


def ordered(
    scope: HaltScope = "all",
    target: str | None = None,
    *,
    by: str = "officer privacy-1",
    key: SigningKey | None = None,
    reason: str = "something is wrong",
    at: datetime | None = None,
    federation: Digest = FEDERATION,
) -> HaltOrder:
    """An order by `officer NAME` or `site NAME`, signed with the key of that name unless another one is given."""
    kind, name = by.split()
    signer = key or key_of(name)
    giver = OrderedBy.model_validate({"kind": kind, "name": name})
    moment = at or datetime.now(UTC)
    return order_halt(federation, scope, target, reason, giver, signer, at=moment, entropy=os.urandom(16))


def would_lift(
    order: Digest, officer: str, *, key: SigningKey | None = None, at: datetime | None = None
) -> LiftStatement:
    """The word of an officer."""
    return state_lift(
        order, officer, "it was looked into", key or key_of(officer), at=at or datetime.now(UTC)
    )
