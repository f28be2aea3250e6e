"""What is opened under a private plan, and what is made of it: the centre adds noise where the plan says so, and keeps nothing without."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from coordinator.rounds import reading as module
from coordinator.rounds.opened import OpenedSums
from coordinator.rounds.question import Question, RunDocuments
from coordinator.rounds.reading import metrics_of, scaling_of
from coordinator.rounds.store import RoundStore
from protos.frames import Stage
from protos.payloads import payload_of, turning_seed
from protos.plan import Plan
from protos.plan_releases import gradient_grid
from protos.plan_training import GradientSums
from strategies.analytics.histograms import metrics_from
from strategies.dp.noise import NoiseSeed, discrete_gaussian
from strategies.encoding import vector_bytes
from strategies.ids import SiteName
from strategies.secagg.messages import UnmaskRequest
from strategies.secagg.server import Opened
from tests.coordinator.private_for_tests import (
    CENTRAL,
    LOCAL,
    MODES,
    Make,
    Private,
    everybody,
    make,
    planned,
    private_plan,
    templates,
)
from tests.coordinator.secure_for_tests import CONTRACT, FOUR, RUN, Ask, DiesError

__all__ = ["make", "templates"]
THREE = FOUR[:3]
ALL = [*everybody("prepare", 0), *everybody("train", 1), *everybody("train", 2), *everybody("evaluate", 2)]


# --- what is opened ---------------------------------------------------------------------------------------------------


def watched(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Stage, Opened]]:
    """Every sum that the centre opens, as it comes out of secure aggregation."""
    seen: list[tuple[Stage, Opened]] = []
    pooled = OpenedSums.pooled

    def look(sums: OpenedSums, question: Question, payload: Any, opened: Opened, seed: bytes) -> Any:
        seen.append((question.stage, opened))
        return pooled(sums, question, payload, opened, seed)

    monkeypatch.setattr(OpenedSums, "pooled", look)
    return seen


def no_entropy(_: int) -> bytes:
    raise AssertionError("the centre drew noise")


@pytest.mark.parametrize("changes", [{}, LOCAL], ids=["distributed", "local"])
def test_only_in_central_mode_does_the_centre_draw_noise(make: Make, changes: dict[str, str]) -> None:
    make(changes, entropy=no_entropy).drive()


def test_in_central_mode_it_draws_a_fresh_seed_for_each_sum(make: Make) -> None:
    drawn: list[bytes] = []

    def entropy(count: int) -> bytes:
        assert count == 32
        drawn.append(os.urandom(count))
        return drawn[-1]

    make(CENTRAL, entropy=entropy).drive()
    assert len(set(drawn)) == len(drawn) == 4


def test_a_driver_that_dies_before_its_commit_adds_the_same_noise_again(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The aggregate is on disk then: two of one sum with different noise would be two releases, charged as one."""
    federation, step = make(CENTRAL), RoundStore._step

    @contextmanager
    def dies(store: RoundStore, doing: str) -> Iterator[Any]:
        if doing.startswith("committing round 1"):
            raise DiesError
        with step(store, doing) as found:
            yield found

    monkeypatch.setattr(RoundStore, "_step", dies)
    seen = watched(monkeypatch)
    with pytest.raises(DiesError):
        federation.drive()
    kept = aggregates(federation)
    monkeypatch.setattr(RoundStore, "_step", step)
    federation.drive()
    assert [stage for stage, _ in seen].count(Stage.TRAIN) == 3
    after = [federation.store.step(number).aggregate for number in (1, 2)]
    assert vector_bytes(after[0]) in kept
    models = [federation.store.step(2).before.model, federation.committed().model]
    initial = federation.store.step(1).before.model
    assert set(aggregates(federation)) == {vector_bytes(each) for each in (*after, *models, initial)}


def aggregates(federation: Private) -> list[bytes]:
    """All vectors that the artifact store holds."""
    return [
        path.read_bytes()
        for path in federation.layout.home.rglob("artifacts/**/*")
        if path.stat().st_size == 7 * 8
    ]


def test_the_seeds_of_its_noise_are_gone_when_the_sums_are_committed(make: Make) -> None:
    """With one of them and the aggregate, anybody would have the raw sum."""
    drawn: list[bytes] = []

    def entropy(count: int) -> bytes:
        drawn.append(os.urandom(count))
        return drawn[-1]

    federation, while_open = make(CENTRAL, entropy=entropy), []

    def look(ask: Ask) -> None:
        if ask.asks is UnmaskRequest:
            while_open.append([each for each in drawn if any(each in file for file in federation.files())])

    federation.wire.before = look
    federation.drive()
    assert [len(each) > 0 for each in while_open] == [True] * 4
    federation.store.finish("completed")
    assert [each for each in drawn if any(each in file for file in federation.files())] == []


def forms(numbers: Any) -> list[bytes]:
    """How a vector might be written down."""
    whole = np.asarray(numbers)
    return [whole.astype(kind).tobytes() for kind in ("<i8", ">i8", "<f8", ">f8")]


@pytest.mark.parametrize("mode", ["central", "distributed"])
def test_in_central_mode_only_the_noised_sum_is_kept_said_or_logged(
    make: Make, mode: str, monkeypatch: pytest.MonkeyPatch, heard: list[dict[str, object]]
) -> None:
    """And in distributed mode what is kept is the sum that was opened: there is no other."""
    federation, kept = make(MODES[mode]), []

    def look(ask: Ask) -> None:
        kept.append(b"\0".join([*federation.files(), *ask.frames.values()]))

    federation.wire.before = look
    seen = watched(monkeypatch)
    federation.drive()
    kept.append(b"\0".join(federation.files()))
    everything, log = b"\0".join(kept), repr(heard)
    plan = federation.plan
    assert isinstance(plan.training, GradientSums)
    grid = gradient_grid(plan, CONTRACT)
    rounds = iter((1, 2))
    raw = []
    for stage, opened in seen:
        if stage is Stage.TRAIN:
            number = next(rounds)
            means = grid.value(opened.total, turning_seed(plan, number)) * (1.0 / (16 * 4))
            aggregate = federation.store.step(number).aggregate
            assert vector_bytes(aggregate) in everything
            assert np.array_equal(aggregate, means) == (mode == "distributed")
            assert np.abs(aggregate - means).max() < 1.0
            raw += [vector_bytes(means), vector_bytes(-means)]
        elif stage is Stage.EVALUATE:
            # In central mode the noise may happen to leave a count as it was, so that proves nothing there.
            assert mode == "central" or f"'rows': {int(opened.total.sum())}" in log
        raw += forms(opened.total)
    assert len(raw) == 2 * 2 + 4 * 4
    found = [each for each in raw if each in everything]
    assert len(found) == (0 if mode == "central" else 2)
    # Numbers of the log are figures of merit and counts, never coordinates.
    assert not [
        each for _, opened in seen for each in opened.total.tolist() if abs(each) > 1000 and str(each) in log
    ]


# --- reading ----------------------------------------------------------------------------------------------------------


def read(plan: Plan, stage: Stage, total: np.ndarray, survivors: tuple[SiteName, ...] = FOUR) -> Any:
    """What the centre makes of an opened sum."""
    documents = RunDocuments(run=RUN, plan=plan, contract=CONTRACT, members=b"{}")
    number = {Stage.PREPARE: 0, Stage.TRAIN: 1, Stage.EVALUATE: 2}[stage]
    question = Question(stage=stage, number=number, attempt=1, roster=FOUR)
    payload = payload_of(plan, CONTRACT, stage, FOUR)
    opened = Opened(survivors=survivors, total=total, doubted=())
    sums = OpenedSums(documents, lambda count: b"\7" * count)
    pooled = sums.pooled(question, payload, opened, sums.drawn(payload))
    match stage:
        case Stage.PREPARE:
            return scaling_of(documents, pooled)
        case Stage.TRAIN:
            return pooled.values
        case Stage.EVALUATE:
            return metrics_of(documents, pooled)


@pytest.mark.parametrize("survivors", [FOUR, THREE])
def test_the_mean_is_over_the_units_that_the_plan_expects_whoever_was_taken(
    survivors: tuple[SiteName, ...],
) -> None:
    plan = private_plan({"  expected_batch": "  clip: 0.5\n  expected_batch"})
    grid = gradient_grid(plan, CONTRACT)
    total = np.arange(-3, 4) * grid.steps
    assert np.allclose(
        read(plan, Stage.TRAIN, total, survivors), np.arange(-3, 4) * 0.5 / (16 * len(survivors))
    )


def test_central_noise_is_that_of_the_release_and_added_to_what_was_opened() -> None:
    plan = private_plan(CENTRAL)
    release, grid = planned(plan).train, gradient_grid(plan, CONTRACT)
    noise = discrete_gaussian(release.variance, release.dimension, NoiseSeed(b"\7" * 32))
    total = np.full(7, 5 * grid.steps)
    assert np.array_equal(read(plan, Stage.TRAIN, total), (total + noise) / grid.steps / (16 * 4))


@pytest.mark.parametrize(
    ("mode", "variances"),
    [
        ("distributed", {FOUR: 4 / 2, THREE: 3 / 2}),
        ("central", {FOUR: 1, THREE: 1}),
        ("local", {FOUR: 4, THREE: 3}),
    ],
)
def test_metrics_and_scaling_count_the_noise_that_is_really_on_the_sum(
    mode: str, variances: dict[tuple[SiteName, ...], float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every survivor's share; in central mode the centre's."""
    plan, said, metrics = private_plan(MODES[mode]), [], metrics_from(np.eye(2, dtype=np.int64))
    monkeypatch.setattr(module, "noisy_metrics", lambda counts, std: said.append(std) or metrics)
    monkeypatch.setattr(module, "noisy_scaling", lambda total, optional, std: said.append(std))
    for survivors, times in variances.items():
        said.clear()
        read(plan, Stage.EVALUATE, np.ones(8, dtype=np.int64), survivors)
        read(plan, Stage.PREPARE, np.ones(planned(plan).prepare.dimension, dtype=np.int64), survivors)
        counts, moments = planned(plan).evaluate, planned(plan).prepare
        assert said[0] ** 2 == pytest.approx(times * counts.variance)
        assert said[1] ** 2 * 2.0**40 == pytest.approx(times * moments.variance)


@pytest.mark.parametrize("mode", MODES)
def test_exempt_sums_are_read_as_they_are(mode: str) -> None:
    changes = {
        "noise: {preparation: 2.0, training: 1.5, evaluation: 1.0}": "noise: {training: 1.5}",
        "retries: 2": "exempt: [preparation, evaluation]",
    }
    plan = private_plan({**MODES[mode], **changes})
    found = read(plan, Stage.EVALUATE, np.array([10, 0, 0, 0, 0, 0, 0, 5]))
    assert (found.rows, found.positives, found.auc) == (15, 5, 1.0)
    scaling = read(plan, Stage.PREPARE, np.array([8, 4, 1, 0, 1, 1]) << 20)
    assert scaling.mean == (0.5 + 1 / 8, 0.5)


def test_held_out_rows_that_the_noise_hides_leave_a_model_without_metrics_and_stay_charged(
    make: Make,
) -> None:
    federation = make({"evaluation: 1.0": "evaluation: 40.0"})
    for _ in range(2):
        finished = federation.drive()
        assert finished.metrics is None
        assert np.array_equal(finished.model, federation.store.last_committed().model)
        assert sorted(federation.settled()) == sorted(ALL)
