"""What tests of sums under secure aggregation have in common: losses and offences at a step, and what a round must have come to."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Protocol

import numpy as np
import pytest

from coordinator.rounds.exchange import Answered, Outcome
from protos.frames import Stage
from protos.plan import Plan
from strategies.ids import Digest, SiteName
from strategies.secagg.messages import (
    Advertisement,
    AdvertiseRequest,
    Body,
    Confirmation,
    ConfirmRequest,
    Envelopes,
    MaskedInput,
    MaskRequest,
    ShareRequest,
    Shares,
    UnmaskRequest,
)
from tests.coordinator.secure_for_tests import ASKED_BY, Ask, DiesError, Loses, Secured

SET_UP: list[type[Body]] = [AdvertiseRequest, ShareRequest]
ACTIVE: list[type[Body]] = [MaskRequest, ConfirmRequest, UnmaskRequest]
SEMI_HONEST: list[type[Body]] = [MaskRequest, UnmaskRequest]
STEPS = {"active": ACTIVE, "semi-honest": SEMI_HONEST}
KINDS: dict[str, list[type[Body]]] = {
    "active": [Advertisement, Envelopes, MaskedInput, Confirmation, Shares],
    "semi-honest": [Advertisement, Envelopes, MaskedInput, Shares],
}
LOSSES = [(adversary, kind) for adversary, kinds in KINDS.items() for kind in kinds]
VOIDING = [(adversary, kind) for adversary, kind in LOSSES if kind is not Shares]
UNANSWERED = "did not answer before the deadline"
RIVAL = Digest("cd" * 32)


class Make(Protocol):
    """Makes a federation for a plan; with `begun`, its next attempt is at round 1, and its keys are fresh."""

    def __call__(self, plan: Plan, *, begun: bool = False) -> Secured: ...


def at(
    stage: Stage, number: int, kind: type[Body], sites: Collection[SiteName], attempt: int | None = 1
) -> Loses:
    """Some sites at the exchange in which a step of `kind` is due, in one attempt at a round, or in all of them."""

    def matches(site: SiteName, ask: Ask) -> bool:
        return (
            site in sites
            and (ask.stage, ask.number, ask.asks) == (stage, number, ASKED_BY[kind])
            and attempt in {None, ask.attempt.attempt}
        )

    return matches


def close_to_the_mean(
    federation: Secured,
    number: int,
    survivors: Collection[SiteName],
    *,
    roster: Collection[SiteName] | None = None,
) -> bool:
    """Whether a round's aggregate is the survivors' mean as the grid shows it, and could not be taken for everybody's."""
    exact, aggregate = federation.mean(number, survivors), federation.store.step(number).aggregate
    bound = federation.grid_error(roster or federation.sites, survivors)
    others = federation.mean(number, federation.sites)
    told_apart = set(survivors) == set(federation.sites) or np.abs(exact - others).max() > 1000 * bound
    return bool(told_apart and np.abs(exact - aggregate).max() < bound)


def keys_of(sent: Advertisement) -> tuple[bytes, bytes, Digest]:
    return sent.mask_key, sent.envelope_key, sent.own_seed


def require_fresh_keys(federation: Secured) -> None:
    """Every key and every commitment that ever left a site is another one."""
    parts = [part for sent in federation.wire.advertised() for part in keys_of(sent)]
    assert parts
    assert len(parts) == len(set(parts))


def absent_in(federation: Secured, site: SiteName, rounds: Collection[int]) -> None:
    """`site` is offline whenever the round to come is one of these; before the first there is none."""

    def absent() -> Collection[SiteName]:
        last = federation.store.last_committed()
        return [site] if last is not None and last.number + 1 in rounds else []

    federation.wire.absent = absent


def die_while_opening(federation: Secured, stage: Stage, when: str) -> Ask:
    """The request for shares at which the driver dies: before anybody has it, or when all sites have answered it."""
    last: list[Ask] = []

    def die(ask: Ask) -> None:
        if (ask.stage, ask.asks) == (stage, UnmaskRequest):
            last.append(ask)
            federation.wire.before = federation.wire.after = lambda _: None
            raise DiesError

    if when == "before it is sent":
        federation.wire.before = die
    else:
        federation.wire.after = die
    with pytest.raises(DiesError):
        federation.drive()
    return last[0]


Change = Callable[[Secured, SiteName, Ask, bytes], bytes]


def sign(federation: Secured, site: SiteName, purpose: str, message: bytes) -> bytes:
    return federation.wire.participants[site].identity.sign_raw(purpose, message)


def offends(
    federation: Secured, kind: type[Body], change: Change, sites: dict[int, Collection[SiteName]]
) -> None:
    """Have some sites change what they say at one step of round 1; which ones, by attempt."""

    def meddle(site: SiteName, ask: Ask, reply: bytes) -> Outcome:
        due = at(Stage.TRAIN, 1, kind, sites.get(ask.attempt.attempt, ()), attempt=None)
        return Answered(change(federation, site, ask, reply) if due(site, ask) else reply)

    federation.wire.meddle = meddle
