"""Champion against challenger on the same held-out rows, in one release: what comes of it, what it costs, and what sites refuse."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from client.admission.documents import Accepted
from client.admission.judged import Judged
from client.refusal import refusing
from coordinator.bootstrap import Centre
from coordinator.db.schema import Run
from coordinator.registry.champions import as_champion, champion_of
from coordinator.registry.versions import get_version
from coordinator.rounds import reading
from coordinator.rounds.question import Question
from protos.documents import Part
from protos.frames import ChampionModel, Refusal, RefusalCode, SecureRequest, Stage, Task
from protos.plan import Plan
from protos.plan_evaluation import Holdout
from protos.secure_codec import decode_answer, decode_asked, encode_secure_request
from strategies.analytics.histograms import ScoreMetrics, metrics_from
from strategies.analytics.noisy import noisy_metrics
from strategies.errors import CovenantError, Refused, UsageError
from strategies.features import Scaling
from strategies.ids import RunId, SiteName
from tests.coordinator.champion_for_tests import (
    PART,
    SCORER,
    SENT,
    WEIGHTS,
    register_champion,
    with_champion,
)
from tests.coordinator.private_for_tests import MODES, Private, Templates, planned, private_plan, templates
from tests.coordinator.secure_for_tests import FOUR, WEST, Secured, Template, secure_plan

__all__ = ["templates"]
EXEMPT = {"training: 1.5, evaluation: 1.0}": "training: 1.5}\n  exempt: [evaluation]"}

CLEAR = {"score_bins: 4": "score_bins: 2"}
"""In so few counts that their noise hides no class."""


def federation(templates: Templates, changes: dict[str, str], plan: Plan | None = None) -> Private:
    return templates.copy(plan or with_champion(private_plan(changes)), prepare=register_champion)


def exact_counts(made: Secured, sites: tuple[SiteName, ...] = FOUR) -> npt.NDArray[np.int64]:
    """What honest sites count of both models, (2, 2, bins), with no federation around them."""
    model, scaling = made.committed().model, made.scaling()
    sessions = [made.session(site) if isinstance(made, Private) else made._sessions[site] for site in sites]
    counts = [each.evaluate(model, scaling, SCORER) for each in sessions]
    return np.asarray(np.sum(counts, axis=0)).reshape(2, 2, -1)


# --- what comes of it ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_without_noise_both_models_have_the_metrics_of_the_rows_themselves(
    templates: Templates, mode: str
) -> None:
    made = federation(templates, MODES[mode] | EXEMPT)
    metrics = made.drive().metrics
    ours, champion = exact_counts(made)
    assert metrics is not None
    assert metrics.champion == noisy_metrics(champion, 0.0)
    assert replace(metrics, champion=None) == noisy_metrics(ours, 0.0)
    assert metrics.champion.auc != metrics.auc


@pytest.mark.parametrize("mode", MODES)
def test_with_noise_both_are_charged_as_one_release_of_both_and_the_accounts_agree(
    templates: Templates, mode: str
) -> None:
    made = federation(templates, MODES[mode] | CLEAR)
    metrics = made.drive().metrics
    assert metrics is not None
    assert metrics.champion is not None
    assert metrics.noise_std is not None
    assert min(metrics.noise_std["auc"], metrics.champion.noise_std["auc"]) > 0.0
    evaluate = planned(made.plan).evaluate
    assert (evaluate.dimension, evaluate.sensitivity) == (8, pytest.approx(2**0.5, rel=1e-15))
    assert evaluate.noise_multiplier == pytest.approx(1.0)
    assert [each for each in made.settled() if each[1] == "evaluate"] == [
        (site, "evaluate", 2, 1) for site in FOUR
    ]
    for site in FOUR:
        book = made.wire.participants[site].book
        charges = book.charges(made.plan.population_of(site), evaluate.unit)
        assert [each.release for each in charges if each.occasion.stage == "evaluate"] == [evaluate.digest]


def test_secure_sums_without_privacy_are_exact_for_both(tmp_path: Path) -> None:
    plan = with_champion(secure_plan(rounds=2, every=1))
    made = Template(tmp_path / "sites", FOUR).copy(tmp_path / "copy", plan, prepare=register_champion)
    metrics = made.drive().metrics
    ours, champion = exact_counts(made)
    assert metrics == replace(metrics_from(ours), champion=metrics_from(champion))
    assert made.store.metrics(2) == metrics
    first = made.store.metrics(1)
    assert first is not None
    assert first.champion == metrics.champion, "the same rows, the same champion"
    made.close()


def test_a_champion_that_the_noise_hides_leaves_the_metrics_of_the_model(
    templates: Templates, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = federation(templates, EXEMPT)
    real = reading.noisy_metrics

    def hides(counts: npt.NDArray[np.int64], noise_std: float) -> ScoreMetrics:
        if (counts == exact_counts(made)[1]).all():
            raise Refused("too few")
        return real(counts, noise_std)

    monkeypatch.setattr(reading, "noisy_metrics", hides)
    metrics = made.drive().metrics
    assert metrics is not None
    assert metrics.champion is None


# --- what sites refuse ------------------------------------------------------------------------------------------------


OTHER_WEIGHTS = ChampionModel(np.nextafter(WEIGHTS, 9.0), SENT.scaling)
OTHER_SCALING = ChampionModel(WEIGHTS, Scaling(mean=(0.45,), std=(np.nextafter(0.3, 1.0),)))
LIES = {
    "the weights of champion older@1 has digest": OTHER_WEIGHTS,
    "the scaling of champion older@1 has digest": OTHER_SCALING,
    "the plan names champion older@1, and the request has none": None,
}


@pytest.mark.parametrize("reason", LIES)
def test_sites_score_no_other_champion_than_the_approved_plan_names_and_are_charged_nothing(
    templates: Templates, reason: str
) -> None:
    made = federation(templates, {})
    made.documents = replace(made.documents, champion=LIES[reason])
    with pytest.raises(CovenantError, match=f"refused \\(protocol\\) {reason}"):
        made.drive()
    assert [each for each in made.settled() if each[1] == "evaluate"] == []
    for site in FOUR:
        assert [each for each in made.charged(site) if each[0] == "evaluate"] == []
    refusals = [
        body
        for ask in made.wire.asks
        for body in (decode_answer(reply).body for reply in ask.replies.values())
        if isinstance(body, Refusal)
    ]
    assert {each.code for each in refusals} == {RefusalCode.PROTOCOL}
    assert all(each.signature for each in refusals)


def test_a_site_that_is_sent_another_champion_drops_out_and_the_sum_is_of_the_others(
    templates: Templates,
) -> None:
    made = federation(templates, EXEMPT)
    honest = made.wire.participants[WEST].answer

    def swapped(frame: bytes) -> bytes:
        asked = decode_asked(frame)
        if isinstance(asked, SecureRequest) and asked.champion is not None:
            return honest(encode_secure_request(replace(asked, champion=OTHER_WEIGHTS)))
        return honest(frame)

    made.wire.participants[WEST].answer = swapped  # type: ignore[method-assign]
    metrics = made.drive().metrics
    assert metrics is not None
    assert metrics.champion == noisy_metrics(exact_counts(made, FOUR[:3])[1], 0.0)
    assert ("evaluate", 2, 1) not in made.charged(WEST)


def test_only_a_request_to_evaluate_has_the_champion(templates: Templates) -> None:
    made = federation(templates, {})
    made.drive()
    for ask in made.wire.asks:
        for request in ask.requests.values():
            masks = request.statement is not None
            assert (request.champion is not None) == (masks and ask.stage is Stage.EVALUATE)


def test_plans_that_differ_in_their_champion_have_masks_that_do_not_cancel(templates: Templates) -> None:
    """What masks are bound to, the attempt and the statement, names the plan, and the plan names the champion to the bit."""
    made = federation(templates, {})
    other = with_champion(private_plan(), PART.model_copy(update={"weights": "ab" * 32}))
    question = Question(stage=Stage.EVALUATE, number=2, attempt=1, roster=FOUR)
    statements = [
        question.statement(replace(made.documents, plan=plan), FOUR, with_optimizer=False)
        for plan in (made.plan, other)
    ]
    assert statements[0].digest != statements[1].digest
    assert {replace(each, plan_digest=made.plan.digest).digest for each in statements} == {
        statements[0].digest
    }


class OldEvaluation(Part):
    """The section as the release before had it."""

    every: int
    score_bins: int
    holdout: Holdout


class OldPlan(Plan):
    """A plan as the release before reads it."""

    evaluation: OldEvaluation  # type: ignore[assignment]


def test_an_agent_of_the_release_before_refuses_the_plan_and_the_run_goes_on_without_it(
    templates: Templates, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = federation(templates, EXEMPT)
    old, judged = made.wire.participants[WEST]._judged, Judged.documents

    def as_before(documents: Judged, task: Task, run: RunId) -> Accepted:
        if documents is old:
            with refusing(RefusalCode.PROTOCOL, CovenantError):
                OldPlan.from_canonical(task.plan)
        return judged(documents, task, run)

    monkeypatch.setattr(Judged, "documents", as_before)
    with pytest.raises(Refused, match=r"evaluation\.champion"):
        OldPlan.from_canonical(made.plan.canonical)
    metrics = made.drive().metrics
    assert metrics is not None
    assert metrics.champion == noisy_metrics(exact_counts(made, FOUR[:3])[1], 0.0)
    assert made.charged(WEST) == []


# --- what the registry says -----------------------------------------------------------------------------------------


def test_the_registry_writes_the_part_of_a_plan_and_reads_it_back(templates: Templates) -> None:
    made = federation(templates, {})
    assert as_champion(made.engine, get_version(made.engine, "older", 1)) == PART
    sent = champion_of(made.engine, made.artifacts, made.plan)
    assert sent is not None
    assert sent.scaling == SENT.scaling
    np.testing.assert_array_equal(sent.model, WEIGHTS)
    assert champion_of(made.engine, made.artifacts, private_plan()) is None


@pytest.mark.parametrize(
    ("field", "value"),
    [("weights", "ab" * 32), ("scaling", "ab" * 32), ("features", ("amount",))],
)
def test_a_plan_that_says_something_else_of_its_champion_is_not_launched(
    templates: Templates, field: str, value: object
) -> None:
    plan = with_champion(private_plan(), PART.model_copy(update={field: value}))
    with pytest.raises(Refused, match=f"says of its champion older@1 another {field} than the registry"):
        federation(templates, {}, plan)


def test_a_champion_that_is_not_registered_is_not_launched(templates: Templates) -> None:
    with pytest.raises(UsageError, match="the model older@1 is not registered"):
        templates.copy(with_champion(private_plan()))


def test_a_champion_of_another_contract_is_not_launched(templates: Templates) -> None:
    def trained_elsewhere(centre: Centre) -> None:
        def other(run: Run) -> None:
            assert run.contract.count("[0,1000]") == 1
            run.contract = run.contract.replace("[0,1000]", "[0,2000]")

        register_champion(centre, other)

    with pytest.raises(Refused, match="another contract than the registry"):
        templates.copy(with_champion(private_plan()), prepare=trained_elsewhere)
