"""What is summed up in each stage follows from plan, contract and roster: ring, noise and length are nobody's to choose."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from protos.contract import Contract
from protos.documents import read_document
from protos.frame_size import MAX_STRUCTURE_BYTES
from protos.frames import Stage
from protos.payloads import Payload, most_reply_bytes, payload_of, turning_seed
from protos.plan import Plan
from protos.plan_releases import gradient_grid, moment_cells
from protos.plan_training import GradientSums
from strategies.dp.evaluation_cells import EvaluationCells
from strategies.dp.mechanisms import NoisySum
from strategies.errors import UsageError
from strategies.ids import SiteName, site_name
from strategies.secagg.payloads import Counts, Moments, WeightedUpdates
from tests.protos.documents_for_tests import PLAN, changed
from tests.protos.private_for_tests import LOCAL, MODES, RECORDS, UNITS, contract_for, plan_of, releases

ROSTER = tuple(map(site_name, ("s0", "s1", "s2", "s3")))
BARE = changed(changed(PLAN, "aggregation: {mode: plain}\n", ""), "minimum: 2", "minimum: 3")


def payload(plan: Plan, stage: Stage, roster: tuple[SiteName, ...] = ROSTER) -> Payload:
    return payload_of(plan, contract_for(plan), stage, roster)


def exact_plan() -> Plan:
    return read_document(BARE, Plan, "plan.yaml")


def test_without_privacy_sums_are_exact_ones() -> None:
    plan, roster = exact_plan(), tuple(map(site_name, ("midwest", "south", "west")))
    kinds = {Stage.PREPARE: Moments, Stage.TRAIN: WeightedUpdates, Stage.EVALUATE: Counts}
    dimensions = {Stage.PREPARE: 3, Stage.TRAIN: plan.dense_model(4).size, Stage.EVALUATE: 2000}
    for stage in Stage:
        found = payload(plan, stage, roster)
        assert isinstance(found.embedding, kinds[stage])
        assert found.dimension == dimensions[stage]
        assert found.ring == found.embedding.ring
    updates = payload(plan, Stage.TRAIN, roster).embedding
    assert isinstance(updates, WeightedUpdates)
    assert updates.weights == {"midwest": 1, "south": 1, "west": 2}


@pytest.mark.parametrize(("mode", "unit", "stage"), list(product(MODES, UNITS, Stage)))
def test_with_privacy_every_sum_is_of_the_release_that_is_charged(mode: str, unit: str, stage: Stage) -> None:
    plan = plan_of(*MODES[mode], *UNITS[unit])
    found = payload(plan, stage)
    if mode == "local" and stage is Stage.TRAIN:
        assert isinstance(found.embedding, WeightedUpdates)
        assert found.dimension == plan.dense_model(contract_for(plan).feature_spec(plan.features).width).size
        return
    release = releases(plan).of(stage.name.lower())
    assert isinstance(found.embedding, NoisySum)
    assert (found.embedding.release, found.embedding.cohort) == (release, len(ROSTER))
    assert found.dimension == release.dimension


def test_the_levels_are_what_a_site_can_have() -> None:
    plan = plan_of()
    assert isinstance(plan.training, GradientSums)
    levels = {}
    for stage in Stage:
        embedding = payload(plan, stage).embedding
        assert isinstance(embedding, NoisySum)
        levels[stage] = embedding.levels
    assert levels == {
        Stage.PREPARE: moment_cells(plan, RECORDS).levels,
        Stage.TRAIN: gradient_grid(plan, RECORDS).levels(plan.training.expected_batch),
        Stage.EVALUATE: EvaluationCells(32).levels,
    }


@pytest.mark.parametrize("stage", list(Stage))
def test_a_smaller_roster_has_the_same_release_and_may_have_a_smaller_ring(stage: Stage) -> None:
    """Who may be missing from a sum changes nothing of what it costs."""
    all_of_them, three = payload(plan_of(), stage), payload(plan_of(), stage, ROSTER[:3])
    assert isinstance(all_of_them.embedding, NoisySum)
    assert isinstance(three.embedding, NoisySum)
    assert three.embedding.release == all_of_them.embedding.release
    assert three.dimension == all_of_them.dimension
    assert three.ring.bits <= all_of_them.ring.bits


@pytest.mark.parametrize("stage", list(Stage))
def test_the_order_of_the_roster_changes_nothing(stage: Stage) -> None:
    assert payload(plan_of(), stage, ROSTER[::-1]) == payload(plan_of(), stage)


@pytest.mark.parametrize(("mode", "stage"), list(product(("distributed", "local", "central"), Stage)))
def test_an_exempt_sum_has_a_ring_without_room_for_noise(mode: str, stage: Stage) -> None:
    changes = (
        ("{preparation: 8.0, training: 1.5, evaluation: 4.0}", "{training: 1.5}"),
        ("retries: 5", "exempt: [preparation, evaluation]"),
    )
    noisy, exempt = payload(plan_of(*MODES[mode]), stage), payload(plan_of(*MODES[mode], *changes), stage)
    assert exempt.dimension == noisy.dimension
    assert exempt.ring.bits <= noisy.ring.bits
    assert exempt == payload(plan_of(*MODES["distributed"], *changes), stage) or stage is Stage.TRAIN


@pytest.mark.parametrize("stage", list(Stage))
def test_what_is_in_the_clear_has_no_payload(stage: Stage) -> None:
    plan = read_document(PLAN, Plan, "plan.yaml")
    with pytest.raises(UsageError, match="aggregates in the clear; it has no payload to mask"):
        payload_of(plan, RECORDS, stage, ROSTER)


def test_the_rotation_of_a_round_is_the_same_for_everybody_and_another_in_each_round() -> None:
    plan = plan_of(("  round_deadline", "  rotation: hadamard\n  round_deadline"))
    again = Plan.from_canonical(plan.canonical)
    seeds = [turning_seed(plan, number).reveal() for number in range(1, 6)]
    assert seeds == [turning_seed(again, number).reveal() for number in range(1, 6)]
    other = plan_of(("  round_deadline", "  rotation: hadamard\n  round_deadline"), ("seed: 1", "seed: 2"))
    assert len({*seeds, *(turning_seed(other, number).reveal() for number in range(1, 6))}) == 10


def test_sums_of_everybody_are_decoded_as_they_were_encoded() -> None:
    """Through the ring itself: the extremes of all sites at once, in every stage and mode."""
    for (mode, changes), stage in product(MODES.items(), Stage):
        if changes is LOCAL and stage is Stage.TRAIN:
            continue
        found = payload(plan_of(*changes), stage)
        assert isinstance(found.embedding, NoisySum), mode
        most = np.full(found.dimension, found.embedding.levels)
        total = found.ring.zeros(found.dimension)
        for _ in ROSTER:
            total += found.ring.encode(-most)
        assert np.array_equal(found.ring.decode(found.ring.reduce(total)), -4 * most)


def test_another_contract_makes_another_payload() -> None:
    """The control: a feature that may be missing has a count of its own."""
    refusing = RECORDS.canonical.replace(b'"missing":"indicator"', b'"missing":"refuse"')
    contract = Contract.from_canonical(refusing)
    assert payload_of(plan_of(), contract, Stage.PREPARE, ROSTER).dimension == 5
    assert payload(plan_of(), Stage.PREPARE).dimension == 6


@pytest.mark.parametrize(("mode", "unit"), list(product(MODES, UNITS)))
def test_every_sum_of_a_plan_fits_into_its_largest_reply(mode: str, unit: str) -> None:
    plan = plan_of(*MODES[mode], *UNITS[unit])
    most = most_reply_bytes(plan, contract_for(plan)) - MAX_STRUCTURE_BYTES
    found = [payload(plan, stage) for stage in Stage]
    assert all(each.ring.packed_size(each.dimension) <= most for each in found)
    assert most <= 8 * max(each.dimension for each in found)


def test_the_largest_reply_has_room_for_a_plan_in_the_clear() -> None:
    plan = read_document(PLAN, Plan, "plan.yaml")
    contract = contract_for(plan)
    parameters = plan.dense_model(contract.feature_spec(plan.features).width).size
    most = most_reply_bytes(plan, contract) - MAX_STRUCTURE_BYTES
    assert most == 8 * max(parameters, 2000)
