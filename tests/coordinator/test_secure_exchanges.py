"""How many exchanges sums under secure aggregation take, when keys are made ahead, and what is on record before anything is opened."""

from __future__ import annotations

import weakref

import numpy as np
import pytest

from coordinator.rounds import exchanges
from coordinator.rounds.exchanges import Requests, _Frames
from coordinator.rounds.record import RoundConflict
from protos.frame_size import APART_BYTES
from protos.frames import SecureRequest, Stage
from strategies.encoding import Vector, sha256_hex
from strategies.ids import Digest, SiteName, run_id
from strategies.pieces import Bytes, joined
from strategies.secagg.labels import Attempt
from strategies.secagg.messages import (
    Advertisement,
    AdvertiseRequest,
    Body,
    Confirmation,
    ConfirmRequest,
    Frame,
    MaskedInput,
    ShareRequest,
    UnmaskRequest,
)
from strategies.secagg.suites import Suite
from tests.coordinator.secure_for_tests import (
    ASKED_BY,
    EAST,
    FOUR,
    NORTH,
    SOUTH,
    WEST,
    Ask,
    DiesError,
    Secured,
    secure_plan,
)
from tests.coordinator.sums_for_tests import (
    ACTIVE,
    SET_UP,
    STEPS,
    Make,
    absent_in,
    at,
    close_to_the_mean,
    require_fresh_keys,
)

# --- how many exchanges -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("adversary", "first", "steady"), [("active", 5, 3), ("semi-honest", 4, 2)])
def test_a_steady_attempt_takes_three_exchanges_and_two_in_semi_honest_mode_and_only_the_first_sets_keys_up(
    make: Make, adversary: str, first: int, steady: int
) -> None:
    federation = make(secure_plan(rounds=4, every=2, adversary=adversary))
    federation.drive()
    assert federation.wire.exchanges() == [
        ("PREPARE", 0, first),
        ("TRAIN", 1, steady),
        ("TRAIN", 2, steady),
        ("EVALUATE", 2, steady),
        ("TRAIN", 3, steady),
        ("TRAIN", 4, steady),
        ("EVALUATE", 4, steady),
    ]
    assert federation.wire.kinds(Stage.PREPARE, 0) == [*SET_UP, *STEPS[adversary]]
    assert federation.wire.kinds(Stage.TRAIN, 3) == STEPS[adversary]
    require_fresh_keys(federation)


def test_a_driver_that_takes_over_sets_fresh_keys_up_once(make: Make) -> None:
    federation = make(secure_plan(rounds=3))

    def die(ask: Ask) -> None:
        if ask.stage is Stage.TRAIN and ask.number == 2:
            federation.wire.before = lambda _: None
            raise DiesError

    federation.wire.before = die
    with pytest.raises(DiesError):
        federation.drive()
    federation.drive()
    assert federation.wire.kinds(Stage.TRAIN, 2, attempt=2) == SET_UP + ACTIVE
    assert federation.wire.kinds(Stage.TRAIN, 3) == ACTIVE
    require_fresh_keys(federation)


def test_keys_ahead_are_asked_for_no_attempt_that_will_not_come(make: Make) -> None:
    federation = make(secure_plan(rounds=2, every=2))
    federation.drive()
    ahead = {
        (frame.attempt.stage, frame.attempt.round)
        for ask in federation.wire.asks
        for request in ask.requests.values()
        for frame in request.frames[1:]
    }
    assert ahead == {("TRAIN", 1), ("TRAIN", 2), ("EVALUATE", 2)}


# --- keys made ahead --------------------------------------------------------------------------------------------------


def cohort_keys(federation: Secured, number: int, attempt: int = 1) -> set[bytes]:
    """The mask keys of the cohort that an attempt at a round was made with, wherever they were shown."""
    (asked,) = {
        frame.body
        for ask in federation.wire.asks
        for request in ask.requests.values()
        for frame in request.frames
        if isinstance(frame.body, ShareRequest)
        and (frame.attempt.stage, frame.attempt.round, frame.attempt.attempt) == ("TRAIN", number, attempt)
        and frame is request.frames[0]
    }
    return {each.mask_key for each in asked.cohort}


def ahead_keys(federation: Secured, number: int) -> set[bytes]:
    """The mask keys that rode on earlier requests for a round."""
    return {
        body.mask_key
        for ask in federation.wire.asks
        for _, attempt, body in ask.said(Advertisement)
        if (attempt.stage, attempt.round) == ("TRAIN", number)
        and (ask.stage, ask.number) != (Stage.TRAIN, number)
    }


def test_another_cohort_discards_the_keys_made_ahead(make: Make) -> None:
    federation = make(secure_plan(rounds=4))
    absent_in(federation, WEST, [2])
    federation.drive()
    assert federation.wire.kinds(Stage.TRAIN, 1) == ACTIVE
    assert federation.wire.kinds(Stage.TRAIN, 2) == SET_UP + ACTIVE
    assert federation.wire.kinds(Stage.TRAIN, 3) == SET_UP + ACTIVE
    assert federation.wire.kinds(Stage.TRAIN, 4) == ACTIVE
    for number in (2, 3):
        assert len(ahead_keys(federation, number)) == (4 if number == 2 else 3)
        assert not ahead_keys(federation, number) & cohort_keys(federation, number)
    assert [row.survivors for row in federation.rounds()] == [
        list(FOUR),
        [EAST, NORTH, SOUTH],
        list(FOUR),
        list(FOUR),
    ]
    assert close_to_the_mean(federation, 2, [EAST, NORTH, SOUTH], roster=[EAST, NORTH, SOUTH])
    require_fresh_keys(federation)


@pytest.mark.parametrize("lost", [MaskedInput, Confirmation])
def test_a_site_that_gave_nothing_ahead_is_in_the_next_round_by_fresh_keys(
    make: Make, lost: type[Body]
) -> None:
    """Its advertisement would have come with its masked input, its envelopes with its confirmation."""
    federation = make(secure_plan(rounds=2))
    federation.wire.reply_lost = at(Stage.TRAIN, 1, lost, [WEST])
    federation.drive()
    assert federation.wire.kinds(Stage.TRAIN, 2) == SET_UP + ACTIVE
    assert not ahead_keys(federation, 2) & cohort_keys(federation, 2)
    assert federation.rounds()[-1].survivors == list(FOUR)
    require_fresh_keys(federation)


@pytest.mark.parametrize("kind", [MaskedInput, Confirmation])
def test_a_void_discards_the_keys_made_ahead(make: Make, kind: type[Body]) -> None:
    federation = make(secure_plan(rounds=3))
    federation.wire.reply_lost = at(Stage.TRAIN, 2, kind, [SOUTH, WEST])
    federation.drive()
    assert federation.wire.kinds(Stage.TRAIN, 2, 1) == ACTIVE[: ACTIVE.index(ASKED_BY[kind]) + 1]
    assert federation.wire.kinds(Stage.TRAIN, 2, 2) == SET_UP + ACTIVE
    assert federation.wire.kinds(Stage.TRAIN, 3) == ACTIVE
    assert not ahead_keys(federation, 2) & cohort_keys(federation, 2, attempt=2)
    require_fresh_keys(federation)


# --- settled before anything is opened --------------------------------------------------------------------------------


@pytest.mark.parametrize("adversary", ["active", "semi-honest"])
def test_nobody_is_asked_for_shares_before_the_survivors_are_on_record(make: Make, adversary: str) -> None:
    federation = make(secure_plan(rounds=2, every=1, adversary=adversary))
    seen: list[tuple[Stage, int]] = []

    def look(ask: Ask) -> None:
        left = federation.store.unopened(ask.stage, ask.number)
        if ask.asks is UnmaskRequest:
            assert left is not None
            assert left.receipt.attempt == ask.attempt.attempt
            seen.append((ask.stage, ask.number))
        else:
            assert left is None

    federation.wire.before = look
    federation.drive()
    assert seen == [
        (Stage.PREPARE, 0),
        *((stage, number) for number in (1, 2) for stage in (Stage.TRAIN, Stage.EVALUATE)),
    ]
    assert [federation.store.unopened(*each) for each in seen] == [None] * 5


@pytest.mark.parametrize("stage", list(Stage))
def test_a_driver_that_cannot_settle_any_more_asks_for_no_shares(make: Make, stage: Stage) -> None:
    federation = make(secure_plan())

    def replace_driver(ask: Ask) -> None:
        if (ask.stage, ask.asks) == (stage, ConfirmRequest):
            federation.replaced()

    federation.wire.after = replace_driver
    with pytest.raises(RoundConflict, match="another driver"):
        federation.drive()
    assert stage not in [ask.stage for ask in federation.wire.opening_asks()]


# --- what is held of them ---------------------------------------------------------------------------------------------

ATTEMPT = Attempt(
    suite=Suite.P256,
    plan=Digest("ab" * 32),
    run=run_id("run-00000000000000ab"),
    stage="TRAIN",
    round=2,
    attempt=1,
)


def test_a_large_request_is_held_by_nobody_once_it_is_sent() -> None:
    held: list[weakref.ref[Vector]] = []

    def made(_: SiteName) -> SecureRequest:
        aggregate = np.zeros(APART_BYTES // 8 + 1)
        held.append(weakref.ref(aggregate))
        return SecureRequest(frames=(Frame(ATTEMPT, AdvertiseRequest()),), aggregate=aggregate)

    frames = _Frames(Requests(FOUR, made))
    for site in FOUR:
        frame = frames[site]
        assert held[-1]() is not None
        echo = sha256_hex(frame)
        del frame
        assert held[-1]() is None
        assert frames.echo(site) == echo


def test_a_small_request_to_all_sites_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[SecureRequest] = []
    encode = exchanges.encode_secure_request

    def counted(request: SecureRequest) -> Bytes:
        made.append(request)
        return encode(request)

    monkeypatch.setattr(exchanges, "encode_secure_request", counted)
    frames = _Frames(dict.fromkeys(FOUR, SecureRequest(frames=(Frame(ATTEMPT, AdvertiseRequest()),))))
    assert len({joined(frames[site]) for site in FOUR}) == 1
    assert len(made) == 1
