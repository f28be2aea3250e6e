"""Sites that follow secure aggregation to the end and lie: with shares, with envelopes, and about each other."""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest

from coordinator.registry.publish import publish
from coordinator.rounds import driver as drivers
from coordinator.rounds.asking import StaysClosed
from coordinator.rounds.exchange import Answered, Outcome
from coordinator.rounds.store import RoundStore
from protos.frames import Stage
from strategies.analytics.histograms import metrics_from
from strategies.errors import CovenantError
from strategies.ids import SiteName
from strategies.secagg.messages import UPLOAD, Body, Bound, MaskedInput, MaskRequest, Shares
from strategies.secagg.payloads import Counts, Moments
from strategies.secagg.rings import Ring
from tests.coordinator.recovery_for_tests import told
from tests.coordinator.secure_for_tests import (
    EAST,
    FOUR,
    NORTH,
    SEVEN,
    SOUTH,
    WEST,
    Ask,
    Secured,
    changed,
    secure_plan,
)
from tests.coordinator.sums_for_tests import Make, at, close_to_the_mean, offends, sign
from tests.coordinator.test_replay import require_same


def lying(shares: Body) -> Body:
    assert isinstance(shares, Shares)
    return replace(
        shares,
        own_seeds={site: b"\0" + share[:0:-1] for site, share in shares.own_seeds.items()},
        mask_keys={site: b"\0" + share[:0:-1] for site, share in shares.mask_keys.items()},
    )


def lies(federation: Secured, *liars: SiteName) -> None:
    """Have some sites give shares of the right form and wrong content in round 1."""
    offends(federation, Shares, lambda _, __, ___, reply: changed(reply, lying, kind=Shares), {1: liars})


def liars_named(heard: list[dict[str, object]]) -> list[object]:
    return [line["sites"] for line in heard if str(line["event"]).startswith("shares that do not fit")]


def test_a_liars_shares_are_left_out_and_it_is_named(make: Make, heard: list[dict[str, object]]) -> None:
    federation = make(secure_plan(), begun=True)
    lies(federation, NORTH)
    federation.drive()
    assert [row.survivors for row in federation.rounds()] == [list(FOUR)]
    assert close_to_the_mean(federation, 1, FOUR)
    assert liars_named(heard) == [(NORTH,)]


def test_a_liar_is_found_by_the_mask_key_of_a_dropped_site_too(
    make: Make, heard: list[dict[str, object]]
) -> None:
    federation = make(secure_plan(SEVEN, minimum=5), begun=True)
    federation.wire.request_lost = at(Stage.TRAIN, 1, MaskedInput, [WEST])

    def lying_about_the_dropped(shares: Body) -> Body:
        assert isinstance(shares, Shares)
        return replace(shares, mask_keys=lying(shares).mask_keys)  # type: ignore[union-attr]

    offends(
        federation,
        Shares,
        lambda _, __, ___, reply: changed(reply, lying_about_the_dropped, kind=Shares),
        {1: [NORTH]},
    )
    federation.drive()
    survivors = [site for site in SEVEN if site != WEST]
    assert [row.survivors for row in federation.rounds()] == [survivors]
    assert close_to_the_mean(federation, 1, survivors)
    assert liars_named(heard) == [(NORTH,)]


def test_shares_of_others_than_were_asked_for_are_not_taken(make: Make) -> None:
    federation = make(secure_plan(), begun=True)

    def fewer(shares: Body) -> Body:
        assert isinstance(shares, Shares)
        return replace(shares, own_seeds={EAST: shares.own_seeds[EAST]})

    offends(
        federation, Shares, lambda _, __, ___, reply: changed(reply, fewer, kind=Shares), {1: [SOUTH, WEST]}
    )
    with pytest.raises(
        StaysClosed, match="south has given other shares than those that were asked for; west west"
    ):
        federation.drive()
    federation.wire.meddle = lambda _, __, reply: Answered(reply)
    federation.drive()
    assert close_to_the_mean(federation, 1, FOUR)


def test_too_many_liars_keep_a_sum_closed_and_honest_shares_open_it_later(make: Make) -> None:
    federation = make(secure_plan(), begun=True)
    lies(federation, SOUTH, WEST)
    with pytest.raises(StaysClosed, match="do not fit"):
        federation.drive()
    assert federation.committed().number == 0
    federation.wire.meddle = lambda _, __, reply: Answered(reply)
    federation.drive()
    assert close_to_the_mean(federation, 1, FOUR)


def test_a_survivor_that_was_late_is_asked_again_where_another_lies(make: Make) -> None:
    federation = make(secure_plan(), begun=True)
    lies(federation, WEST)
    askings, late = count(1), at(Stage.TRAIN, 1, Shares, [EAST])
    federation.wire.request_lost = lambda site, ask: late(site, ask) and next(askings) == 1
    federation.drive()
    assert close_to_the_mean(federation, 1, FOUR)


# A site that adds nonsense to what it sends: the opened sum is one, and says nothing.


def adds(federation: Secured, stage: Stage, number: int, ring: Ring, value: int) -> None:
    """West adds a number to the first coordinate of its masked input to one sum, and signs that."""

    def more(bound: Bound, body: Body) -> Body:
        assert isinstance(body, MaskedInput)
        vector = ring.unpack(body.packed, len(body.packed) * 8 // ring.bits)
        vector[0] += vector.dtype.type(value % ring.modulus)
        packed = ring.pack(vector)
        signature = sign(federation, WEST, UPLOAD, MaskedInput.signed_bytes(bound, WEST, packed))
        return replace(body, packed=packed, signature=signature)

    def meddle(site: SiteName, ask: Ask, reply: bytes) -> Outcome:
        if site != WEST or (ask.stage, ask.number, ask.asks) != (stage, number, MaskRequest):
            return Answered(reply)
        bound = federation.bound(ask.attempt)
        return Answered(changed(reply, lambda body: more(bound, body), kind=MaskedInput))

    federation.wire.meddle = meddle


def test_counts_that_are_no_histogram_cost_the_metrics_of_their_round_and_not_the_run(
    make: Make, heard: list[dict[str, object]]
) -> None:
    federation = make(secure_plan(rounds=2, every=1), begun=True)
    adds(federation, Stage.EVALUATE, 1, Counts(4).ring, -(10**6))
    finished = federation.drive()
    assert federation.store.metrics(1) is None
    assert finished.metrics == metrics_from(federation.counts(FOUR))
    assert [row.attempt for row in federation.attempts() if row.stage == "evaluate"] == [1, 1]
    assert [line["round"] for line in heard if line["event"] == "evaluation without metrics"] == [1]


def test_counts_that_are_no_histogram_keep_the_run_from_going_on_without_the_guard(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever starts it again opens the same sum again."""
    federation = make(secure_plan(rounds=2, every=1), begun=True)
    adds(federation, Stage.EVALUATE, 1, Counts(4).ring, -(10**6))
    monkeypatch.setattr(RoundStore, "record_no_metrics", lambda *_, **__: None)
    monkeypatch.setattr(drivers, "CovenantError", KeyError)
    for _ in range(2):
        with pytest.raises(CovenantError, match="negative"):
            federation.drive()
    assert federation.committed().number == 1


@pytest.mark.parametrize("tries", [1, 2])
def test_counts_of_the_last_round_that_are_no_histogram_leave_a_model_without_metrics(
    make: Make, tries: int
) -> None:
    federation = make(secure_plan(), begun=True)
    adds(federation, Stage.EVALUATE, 1, Counts(4).ring, -(10**6))
    for _ in range(tries):
        assert federation.drive().metrics is None
    assert len(federation.wire.of(Stage.EVALUATE, 1)) == 3


def test_a_model_without_metrics_has_none_after_a_replay_of_the_log_either(
    make: Make, tmp_path: Path
) -> None:
    """An earlier round's metrics are not those of the model."""
    federation = make(secure_plan(rounds=2, every=1), begun=True)
    adds(federation, Stage.EVALUATE, 2, Counts(4).ring, -(10**6))
    publish(federation.centre, federation.documents, federation.drive())
    federation.store.finish("completed")
    assert [federation.store.metrics(number) is None for number in (1, 2)] == [False, True]
    (model,) = told(federation.engine)["models"]
    assert model["metrics"] is None
    require_same(federation, str(tmp_path))


def test_moments_that_are_none_end_the_run_with_the_reason(make: Make) -> None:
    federation = make(secure_plan())
    adds(federation, Stage.PREPARE, 0, Moments(4).ring, -(2**40))
    for _ in range(2):
        with pytest.raises(CovenantError, match=r"cannot be prepared: .* launch a new run"):
            federation.drive()
