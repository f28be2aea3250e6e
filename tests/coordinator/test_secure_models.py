"""One sequence of models under secure aggregation, and what the opened sums say: weighted means, moments, counts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from coordinator.db.engine import writing
from coordinator.db.schema import Round
from coordinator.rounds.asking import Asking
from coordinator.rounds.plain import PlainSums
from coordinator.rounds.question import Question, Receipt
from coordinator.rounds.roster import Roster
from protos import training_pb2 as pb
from protos.frames import Stage
from protos.plan_aggregation import PlainAggregation
from protos.secure_codec import decode_testimony, encode_testimony
from strategies.encoding import vector_bytes, vector_digest
from strategies.errors import CovenantError
from strategies.ids import Digest, SiteName
from strategies.secagg.messages import AdvertiseRequest, MaskedInput, MaskRequest
from tests.coordinator.secure_for_tests import EAST, FOUR, NORTH, SOUTH, WEST, Ask, Secured, secure_plan
from tests.coordinator.sums_for_tests import (
    ACTIVE,
    SET_UP,
    Make,
    absent_in,
    at,
    close_to_the_mean,
    die_while_opening,
)

# --- one sequence of models -------------------------------------------------------------------------------------------


def told(federation: Secured, stage: Stage, number: int) -> dict[SiteName, tuple[bool, bool]]:
    """Who was given an aggregate, and who a checkpoint, with a request for an input."""
    (ask,) = [each for each in federation.wire.of(stage, number) if each.asks is MaskRequest]
    return {
        site: (request.aggregate is not None, request.checkpoint is not None)
        for site, request in ask.requests.items()
    }


NOTHING, AGGREGATE, BOTH = (False, False), (True, False), (True, True)


def holds(federation: Secured, stage: Stage, number: int) -> dict[SiteName, Digest | None]:
    """Which model each site says it has after its input."""
    (ask,) = [each for each in federation.wire.of(stage, number) if each.asks is MaskRequest]
    return {site: answer.holds for site, answer in ask.answers.items()}


@pytest.mark.parametrize("adversary", ["active", "semi-honest"])
def test_a_late_site_is_given_checkpoint_and_aggregate_and_the_others_the_aggregate_only(
    make: Make, adversary: str
) -> None:
    federation = make(secure_plan(rounds=4, every=4, adversary=adversary))
    absent_in(federation, WEST, [2, 3])
    federation.drive()
    assert told(federation, Stage.TRAIN, 1) == dict.fromkeys(FOUR, NOTHING)
    assert told(federation, Stage.TRAIN, 2) == dict.fromkeys((EAST, NORTH, SOUTH), AGGREGATE)
    assert told(federation, Stage.TRAIN, 4) == dict.fromkeys((EAST, NORTH, SOUTH), AGGREGATE) | {WEST: BOTH}
    assert told(federation, Stage.EVALUATE, 4) == dict.fromkeys(FOUR, AGGREGATE)
    assert [row.survivors for row in federation.rounds()][-1] == list(FOUR)
    assert close_to_the_mean(federation, 4, FOUR)
    after = vector_digest(federation.store.step(4).before.model)
    assert holds(federation, Stage.TRAIN, 4) == dict.fromkeys(FOUR, after)
    assert holds(federation, Stage.EVALUATE, 4) == dict.fromkeys(
        FOUR, vector_digest(federation.committed().model)
    )


def test_a_site_that_has_a_model_is_not_told_of_it_again(make: Make) -> None:
    federation = make(secure_plan(rounds=2, every=1))
    federation.drive()
    assert told(federation, Stage.EVALUATE, 1) == dict.fromkeys(FOUR, AGGREGATE)
    assert told(federation, Stage.TRAIN, 2) == dict.fromkeys(FOUR, NOTHING)


def test_a_site_that_was_started_again_misses_an_attempt_and_then_follows(make: Make) -> None:
    federation = make(secure_plan(rounds=4, every=4))

    def restart(ask: Ask) -> None:
        if (ask.stage, ask.number, ask.asks) == (Stage.TRAIN, 3, MaskRequest):
            federation.restart(WEST)

    federation.wire.before = restart
    federation.drive()
    assert [row.survivors for row in federation.rounds()] == [
        list(FOUR), list(FOUR), [EAST, NORTH, SOUTH], list(FOUR),
    ]  # fmt: skip
    assert told(federation, Stage.TRAIN, 4)[WEST] == BOTH
    assert federation.wire.kinds(Stage.TRAIN, 4) == SET_UP + ACTIVE
    assert close_to_the_mean(federation, 4, FOUR)


def test_a_site_follows_no_checkpoint_that_too_few_peers_have_signed(make: Make) -> None:
    federation = make(secure_plan(rounds=3, every=3))
    absent_in(federation, WEST, [2])

    def unsign(ask: Ask) -> None:
        """Of the three that were in round 2, two have signed: one less than the threshold."""
        if (ask.stage, ask.number, ask.asks) == (Stage.TRAIN, 3, AdvertiseRequest):
            with writing(federation.engine, "forgetting a signature") as session:
                row = session.get_one(Round, (federation.documents.run, 2, 1))
                assert row.testimony is not None
                kept = decode_testimony(row.testimony)
                fewer = {site: upload for site, upload in kept.uploads.items() if site != SOUTH}
                row.testimony = encode_testimony(replace(kept, uploads=fewer))

    federation.wire.before = unsign
    federation.drive()
    assert told(federation, Stage.TRAIN, 3)[WEST] == BOTH
    assert federation.rounds()[-1].survivors == [EAST, NORTH, SOUTH]


def test_the_model_itself_never_travels(make: Make) -> None:
    """A late site gets the state before the last round; no request has the model that it is about, by field or by bytes."""
    federation = make(secure_plan(rounds=4, every=2))
    absent_in(federation, WEST, [2, 3])
    federation.drive()
    models = {number: vector_bytes(federation.store.step(number).before.model) for number in range(1, 5)}
    frames = [(ask, frame) for ask in federation.wire.asks for frame in ask.frames.values()]
    assert len(frames) > 50
    for ask, frame in frames:
        assert pb.Request.FromString(frame).model == b""
        if ask.stage is Stage.TRAIN:
            assert models[ask.number] not in frame


# --- weights ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dropped", [[], [NORTH]])
def test_a_weighted_plan_gives_the_weighted_mean(make: Make, dropped: list[SiteName]) -> None:
    federation = make(secure_plan(weights={EAST: 5, NORTH: 2, WEST: 3}), begun=True)
    federation.wire.request_lost = at(Stage.TRAIN, 1, MaskedInput, dropped)
    federation.drive()
    survivors = [site for site in FOUR if site not in dropped]
    assert [row.survivors for row in federation.rounds()] == [survivors]
    assert close_to_the_mean(federation, 1, survivors)
    equal = np.mean([federation.update(site, 1) for site in survivors], axis=0)
    assert np.abs(equal - federation.mean(1, survivors)).max() > 0.01


def test_a_sum_that_a_later_driver_opens_is_weighted_too(make: Make) -> None:
    federation = make(secure_plan(weights={EAST: 5, NORTH: 2, WEST: 3}), begun=True)
    federation.wire.request_lost = at(Stage.TRAIN, 1, MaskedInput, [NORTH])
    die_while_opening(federation, Stage.TRAIN, "when all have answered")
    federation.drive()
    assert close_to_the_mean(federation, 1, [EAST, SOUTH, WEST])


# --- the rest ---------------------------------------------------------------------------------------------------------


def test_a_plan_without_numeric_features_is_prepared(make: Make) -> None:
    federation = make(secure_plan(features="[term]"))
    federation.drive()
    assert federation.scaling().mean == ()
    assert close_to_the_mean(federation, 1, FOUR)


def test_what_came_in_the_clear_is_not_reopened(make: Make) -> None:
    federation = make(secure_plan())
    plain = federation.plan.model_copy(update={"aggregation": PlainAggregation(mode="plain")})
    roster = Roster(plain.sites, federation.wire, federation.clock.monotonic, federation.clock.sleep)
    sums = PlainSums(
        replace(federation.documents, plan=plain),
        Asking(federation.wire, roster, 60.0, federation.documents.identities.verify, lambda *_: False),
        lambda: federation.documents.task,
    )
    question = Question(stage=Stage.TRAIN, number=3, attempt=1, roster=FOUR)
    with pytest.raises(
        CovenantError, match="round 3 has 7 bytes of a sum to open, but the plan aggregates in the clear"
    ):
        sums.reopen(question, b"opening", Receipt(Stage.TRAIN, 3, 1))
    assert federation.wire.asks == []
