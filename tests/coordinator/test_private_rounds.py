"""Rounds of private plans: charged before anything is opened, once on either side, and opened with the noise that was charged for."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from sqlalchemy import select

from coordinator.db.engine import reading
from coordinator.db.schema import Run
from coordinator.ledger import Ledger
from coordinator.rounds.asking import TooFewSurvivors
from coordinator.rounds.driver import Driver
from coordinator.rounds.opened import OpenedSums
from coordinator.rounds.question import Question, Receipt, RunDocuments
from coordinator.rounds.reading import metrics_of, scaling_of
from coordinator.rounds.record import RoundConflict
from coordinator.runs import needs_of, record
from protos.codec import encode_reply
from protos.frames import REFUSAL, Refusal, RefusalCode, Reply, Stage
from protos.payloads import payload_of, turning_seed
from protos.plan import Plan
from protos.plan_privacy import Privacy
from protos.plan_releases import forecast, gradient_grid
from protos.plan_training import GradientSums
from protos.secure_codec import decode_answer
from simulation.experiment import memory_folder
from strategies.dp.budget import BudgetRefused
from strategies.dp.mechanisms import NoisySum
from strategies.dp.noise import NoiseSeed, discrete_gaussian
from strategies.encoding import vector_bytes
from strategies.errors import CovenantError
from strategies.ids import RunId, SiteName
from strategies.secagg.messages import MaskedInput, UnmaskRequest
from strategies.secagg.server import Opened
from tests.coordinator.private_for_tests import (
    CENTRAL,
    LOCAL,
    MODES,
    Private,
    Templates,
    everybody,
    planned,
    private_plan,
)
from tests.coordinator.secure_for_tests import CONTRACT, EAST, FOUR, NORTH, RUN, SOUTH, WEST, Ask
from tests.coordinator.sums_for_tests import at, die_while_opening

Make = Callable[..., Private]
THREE = FOUR[:3]
ALL = [*everybody("prepare", 0), *everybody("train", 1), *everybody("train", 2), *everybody("evaluate", 2)]


@pytest.fixture(scope="module")
def templates() -> Iterator[Templates]:
    """In memory if that can be, because here no power is cut and every commit would wait for a disk."""
    with TemporaryDirectory(prefix="covenant-private-", dir=memory_folder()) as name:
        yield Templates(Path(name))


@pytest.fixture
def make(templates: Templates) -> Iterator[Make]:
    made: list[Private] = []

    def build(changes: dict[str, str] | None = None, **facts: Any) -> Private:
        made.append(templates.copy(private_plan(changes), **facts))
        return made[-1]

    yield build
    for each in made:
        each.close()


# --- both accounts ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_a_run_charges_each_site_once_a_release_and_both_sides_agree(make: Make, mode: str) -> None:
    federation = make(MODES[mode])
    finished = federation.drive()
    federation.store.finish("completed")
    assert federation.settled() == ALL
    for site in FOUR:
        assert federation.charged(site) == [
            ("prepare", 0, 1),
            ("train", 1, 1),
            ("train", 2, 1),
            ("evaluate", 2, 1),
        ]
    outcomes = federation.outcomes()
    times = sum(planned(federation.plan).planned().values()) * len(FOUR)
    assert (outcomes["reserved"], outcomes["settled"], outcomes["voided"]) == (
        times,
        len(ALL),
        times - len(ALL),
    )
    assert finished.metrics.auc_interval is not None
    assert np.isfinite(finished.model).all()


def test_a_site_that_dropped_out_before_the_sum_is_charged_by_itself_only(make: Make) -> None:
    federation = make()
    federation.wire.reply_lost = at(Stage.TRAIN, 1, MaskedInput, [WEST])
    federation.drive()
    assert (WEST, "train", 1, 1) not in federation.settled()
    assert set(everybody("train", 1, 1, THREE)) <= set(federation.settled())
    assert ("train", 1, 1) in federation.charged(WEST)


def test_an_attempt_that_opens_nothing_is_charged_at_the_sites_and_not_at_the_centre(make: Make) -> None:
    federation = make()
    federation.wire.reply_lost = at(Stage.TRAIN, 1, MaskedInput, [SOUTH, WEST])
    federation.drive()
    assert [each for each in federation.settled() if each[1:3] == ("train", 1)] == everybody("train", 1, 2)
    for site in FOUR:
        assert federation.charged(site)[1:3] == [("train", 1, 1), ("train", 1, 2)]


# --- before anything is opened ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_when_shares_are_asked_for_the_survivors_are_settled_and_charged(make: Make, mode: str) -> None:
    federation, seen = make(MODES[mode]), []

    def look(ask: Ask) -> None:
        if ask.asks is UnmaskRequest:
            key = (ask.stage.name.lower(), ask.number, ask.attempt.attempt)
            seen.append(key)
            assert [each[0] for each in federation.settled() if each[1:] == key] == list(FOUR)
            assert federation.store.unopened(ask.stage, ask.number) is not None
            assert all(key in federation.charged(site) for site in FOUR)

    federation.wire.before = look
    federation.drive()
    assert seen == [("prepare", 0, 1), ("train", 1, 1), ("train", 2, 1), ("evaluate", 2, 1)]


@pytest.mark.parametrize("stage", list(Stage))
def test_a_charge_that_fails_takes_the_survivors_back_with_it_and_nobody_is_asked_for_shares(
    make: Make, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    federation, settle = make(), Ledger.settle

    def refuses(ledger: Ledger, session: Any, run: RunId, which: str, *rest: Any) -> None:
        settle(ledger, session, run, which, *rest)
        if which == stage.name.lower():
            session.flush()
            raise BudgetRefused("no")

    monkeypatch.setattr(Ledger, "settle", refuses)
    with pytest.raises(BudgetRefused):
        federation.drive()
    assert stage.name.lower() not in {each[1] for each in federation.settled()}
    assert [ask for ask in federation.wire.opening_asks() if ask.stage is stage] == []
    if stage is Stage.TRAIN:
        assert [(row.survivors, row.opening) for row in federation.rounds()] == [(None, None)]
    else:
        assert [
            (row.survivors, row.opening) for row in federation.attempts() if row.stage == stage.name.lower()
        ] == [(None, None)]


@pytest.mark.parametrize("wrong", ["stage", "round", "attempt"])
def test_a_receipt_of_another_attempt_opens_nothing(
    make: Make, wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    federation, settle = make(), Driver._settle

    def another(driver: Driver, question: Question, settled: Any) -> Receipt:
        receipt = settle(driver, question, settled)
        if question.stage is not Stage.TRAIN:
            return receipt
        return {
            "stage": Receipt(Stage.EVALUATE, receipt.number, receipt.attempt),
            "round": Receipt(receipt.stage, receipt.number + 1, receipt.attempt),
            "attempt": Receipt(receipt.stage, receipt.number, receipt.attempt + 1),
        }[wrong]

    monkeypatch.setattr(Driver, "_settle", another)
    with pytest.raises(CovenantError, match="is not settled; nothing is opened before"):
        federation.drive()
    assert {ask.stage for ask in federation.wire.opening_asks()} == {Stage.PREPARE}


def test_more_attempts_than_were_reserved_are_not_opened(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The centre's own door: here sites are made to charge less than they would."""
    federation = make({"retries: 2": "retries: 0"})
    federation.store.next_attempt(Stage.PREPARE, 0, FOUR)
    federation.store.settle_attempt(Stage.PREPARE, 0, 1, FOUR, None)
    with pytest.raises(BudgetRefused, match="has nothing reserved left for stage prepare"):
        federation.drive()
    assert federation.wire.opening_asks() == []


def test_a_retry_that_the_plan_has_not_paid_for_is_refused_by_the_sites(make: Make) -> None:
    """Their accounts hold what the plan said and no more, and they count attempts that came to nothing."""
    bare = private_plan({"retries: 2": "retries: 0", "evaluation: 1.0": "evaluation: 4.0"})
    assert isinstance(bare.privacy, Privacy)
    cost = forecast(planned(bare), bare.privacy).epsilon
    federation = make(
        {
            "retries: 2": "retries: 0",
            "evaluation: 1.0": "evaluation: 4.0",
            "epsilon: 20.0": f"epsilon: {cost * 1.0001}",
        }
    )
    federation.wire.reply_lost = at(Stage.TRAIN, 1, MaskedInput, [SOUTH, WEST])
    with pytest.raises(CovenantError):
        federation.drive()
    bodies = [decode_answer(reply).body for ask in federation.wire.asks for reply in ask.replies.values()]
    refusals = [body for body in bodies if isinstance(body, Refusal)]
    assert {body.code for body in refusals} == {RefusalCode.BUDGET}
    assert "gradient sum would take the account to epsilon" in refusals[0].reason


# --- settling twice, and after the end --------------------------------------------------------------------------------


def test_settling_an_attempt_again_charges_nothing_anew_and_another_opening_is_refused(make: Make) -> None:
    federation = make()
    store = federation.store
    store.next_attempt(Stage.PREPARE, 0, FOUR)
    for _ in range(2):
        store.settle_attempt(Stage.PREPARE, 0, 1, THREE, b"the request")
    assert federation.settled() == everybody("prepare", 0, 1, THREE)
    with pytest.raises(RoundConflict, match="is not open"):
        store.settle_attempt(Stage.PREPARE, 0, 1, FOUR, b"another request")
    assert federation.settled() == everybody("prepare", 0, 1, THREE)


@pytest.mark.parametrize("stage", [Stage.PREPARE, Stage.EVALUATE])
def test_nothing_is_settled_in_a_run_that_was_stopped(make: Make, stage: Stage) -> None:
    """An operator stops it while sites are answering: the driver does not know yet, and must not open any more."""
    federation = make()
    number = 0 if stage is Stage.PREPARE else 2
    federation.store.next_attempt(stage, number, FOUR)
    federation.store.finish("stopped", "by an operator")
    with pytest.raises(RoundConflict, match="is stopped, not running"):
        federation.store.settle_attempt(stage, number, 1, FOUR, b"the request")
    assert federation.settled() == []


@pytest.mark.parametrize("stage", list(Stage))
@pytest.mark.parametrize("when", ["before it is sent", "when all have answered"])
def test_a_driver_after_a_crash_opens_what_was_settled_without_another_charge(
    make: Make, stage: Stage, when: str
) -> None:
    federation = make()
    die_while_opening(federation, stage, when)
    federation.drive()
    assert sorted(federation.settled()) == sorted(ALL)
    for site in FOUR:
        assert len(federation.charged(site)) == 4


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
            assert (f"'rows': {int(opened.total.sum())}" in log) == (mode == "distributed")
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
    from coordinator.rounds import reading as module

    plan, said = private_plan(MODES[mode]), []
    monkeypatch.setattr(module, "noisy_metrics", lambda counts, std: said.append(std))
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


def test_held_out_rows_that_the_noise_hides_end_the_run_without_metrics_and_stay_charged(make: Make) -> None:
    federation = make({"evaluation: 1.0": "evaluation: 40.0"})
    with pytest.raises(CovenantError, match="its evaluation gave no metrics"):
        federation.drive()
    assert sorted(federation.settled()) == sorted(ALL)
    with pytest.raises(CovenantError, match="its evaluation gave no metrics"):
        federation.drive()
    assert sorted(federation.settled()) == sorted(ALL)


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["unsigned", "signed by another", "signed for another request", "signed"])
def test_a_refusal_counts_for_good_only_if_the_site_has_signed_it(make: Make, fault: str) -> None:
    """Else whoever carries messages could put any site out of a run."""
    federation = make()

    def meddle(site: SiteName, ask: Ask, reply: bytes) -> Any:
        from coordinator.rounds.exchange import Answered

        if site != WEST or (ask.stage, ask.number) != (Stage.TRAIN, 1):
            return Answered(reply)
        echo = decode_answer(reply).statement_digest
        refusal = Refusal(RefusalCode.BUDGET, "spent", None)
        signer, about = (NORTH if fault == "signed by another" else WEST), echo
        if fault == "signed for another request":
            about = decode_answer(ask.replies[EAST]).statement_digest[::-1]
        signature = federation.wire.participants[signer].identity.sign_raw(
            REFUSAL, refusal.message(about, WEST)
        )
        if fault == "unsigned":
            signature = b""
        body = Refusal(refusal.code, refusal.reason, refusal.accused, signature)
        return Answered(encode_reply(Reply(statement_digest=echo, site=WEST, body=body)))

    federation.wire.meddle = meddle
    federation.drive()
    present = {each[0] for each in federation.settled() if each[1:3] == ("train", 2)}
    assert WEST not in {each[0] for each in federation.settled() if each[1:3] == ("train", 1)}
    assert (WEST in present) == (fault != "signed")


# --- launches ---------------------------------------------------------------------------------------------------------


def runs_of(federation: Private) -> list[str]:
    with reading(federation.engine, "looking") as session:
        return list(session.scalars(select(Run.id)))


def test_a_launch_over_a_ceiling_leaves_no_run_and_no_entries(make: Make) -> None:
    federation = make()
    documents = RunDocuments(
        run=RunId("run-ffffffffffffffff"),
        plan=federation.plan,
        contract=CONTRACT,
        members=federation.documents.members,
    )
    before = federation.outcomes()
    with pytest.raises(BudgetRefused, match="east/loans"):
        record(federation.centre, documents)
    assert runs_of(federation) == [RUN]
    assert (
        federation.outcomes() == before == {"reserved": 4 * sum(planned(federation.plan).planned().values())}
    )


def test_a_launch_asks_the_account_of_every_site_for_everything_that_is_planned() -> None:
    plan = private_plan({"join_within: 2m}": "join_within: 2m, populations: {west: retail}}"})
    needs = needs_of(RunDocuments(run=RUN, plan=plan, contract=CONTRACT, members=b"{}"))
    assert [(each.site, each.population) for each in needs] == [
        (EAST, "loans"), (NORTH, "loans"), (SOUTH, "loans"), (WEST, "retail"),
    ]  # fmt: skip
    for need in needs:
        assert {each.release: each.times for each in need.planned} == planned(plan).planned()


def test_a_run_that_completed_has_room_for_another_only_as_far_as_it_used_less(make: Make) -> None:
    federation = make()
    federation.drive()
    again = RunDocuments(
        run=RunId("run-eeeeeeeeeeeeeeee"),
        plan=federation.plan,
        contract=CONTRACT,
        members=federation.documents.members,
    )
    with pytest.raises(BudgetRefused):
        record(federation.centre, again)


# --- dropouts and the noise that is left ------------------------------------------------------------------------------

WIDE = {
    "model: {kind: logistic}": "model: {kind: mlp, hidden: [400]}",
    "features: [amount, income, term]": "features: [amount]",
}
"""So many coordinates that a variance is known to a few per cent."""


def without_training_rows() -> list[Any]:
    """Rows of each site that are all held out: gradients of nobody, so that what is opened is noise and nothing else."""
    from strategies.sampling import held_out
    from tests.coordinator.secure_for_tests import _loans

    tables = []
    for place in range(4):
        rows = _loans(place)
        keys = [str(key) for key in rows["loan_id"].to_pylist()]
        tables.append(rows.filter(held_out(keys, "1", 0.5)))
    return tables


def spread(total: np.ndarray) -> float:
    return float(np.square(total.astype(np.float64)).mean())


def too_little(variance: float, release: Any) -> bool:
    """Whether a sum's noise is significantly, by five standard errors, less than what is charged for."""
    return variance < release.variance * (1 - 5 * np.sqrt(2 / release.dimension))


@pytest.mark.parametrize("mode", ["distributed", "central"])
@pytest.mark.parametrize(
    "lost", [(), *[(site,) for site in FOUR]], ids=lambda lost: "-".join(lost) or "nobody"
)
def test_whoever_drops_out_the_opened_sum_has_at_least_the_noise_that_is_charged(
    make: Make, mode: str, lost: tuple[SiteName, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    federation = make(
        {**MODES[mode], **WIDE, "rounds: 2": "rounds: 1", "every: 2": "every: 1"},
        tables=without_training_rows(),
    )
    federation.wire.reply_lost = at(Stage.TRAIN, 1, MaskedInput, lost)
    monkeypatch.setattr(Driver, "_evaluate", lambda *_: None)
    noisy: list[np.ndarray] = []
    at_centre = NoisySum.at_centre

    def look(summed: NoisySum, opened: np.ndarray, draw: Any) -> np.ndarray:
        noisy.append(at_centre(summed, opened, draw))
        return noisy[-1]

    monkeypatch.setattr(NoisySum, "at_centre", look)
    with pytest.raises(CovenantError, match="no metrics"):
        federation.drive()
    release = planned(federation.plan).train
    assert release.dimension == 400 * 2 + 401 == len(noisy[-1])
    survivors = [site for site in FOUR if site not in lost]
    assert [each[0] for each in federation.settled() if each[1] == "train"] == survivors
    assert not too_little(spread(noisy[-1]), release)
    expected = release.variance * (len(survivors) / release.shares if mode == "distributed" else 1)
    assert spread(noisy[-1]) == pytest.approx(expected, rel=5 * np.sqrt(2 / release.dimension))


def noises(dimension: int = 40_000) -> tuple[Any, dict[SiteName, np.ndarray]]:
    """What each site adds to a sum of zeros, and the release that is charged."""
    from dataclasses import replace

    release = replace(planned(private_plan()).train, dimension=dimension)
    summed = NoisySum(release=release, cohort=4, levels=1 << 20)
    zeros = np.zeros(dimension, dtype=np.int64)
    return release, {site: summed.at_site(zeros, lambda: NoiseSeed(os.urandom(32))) for site in FOUR}


def patterns() -> list[tuple[tuple[SiteName, ...], tuple[SiteName, ...]]]:
    """Every set of survivors that a round accepts, with every set of colluding sites that the plan bears."""
    return [
        (survivors, colluding)
        for size in (3, 4)
        for survivors in combinations(FOUR, size)
        for count in (0, 1)
        for colluding in combinations(survivors, count)
    ]


def hidden_by(found: dict[SiteName, np.ndarray], survivors: Any, colluding: Any) -> float:
    """The variance of the noise that colluding sites, who know their own, cannot take off."""
    return spread(np.sum([found[site] for site in survivors if site not in colluding], axis=0))


def test_for_every_dropout_pattern_and_collusion_the_noise_left_is_at_least_what_is_charged() -> None:
    release, found = noises()
    assert len(patterns()) == 4 * 4 + 5
    short = [each for each in patterns() if too_little(hidden_by(found, *each), release)]
    assert short == []
    # And it is not more than it must be: where a dropout and a colluding site come together, it is just that.
    least = min(hidden_by(found, *each) for each in patterns())
    assert least == pytest.approx(release.variance, rel=5 * np.sqrt(2 / release.dimension))


def test_shares_of_everybody_who_is_invited_would_leave_too_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control, a bug planted: a share is the variance over the number invited."""
    from strategies.dp import mechanisms

    monkeypatch.setattr(mechanisms, "site_variance", lambda release: release.variance / 4)
    release, found = noises()
    short = {each for each in patterns() if too_little(hidden_by(found, *each), release)}
    assert len(short) == len([each for each in patterns() if len(each[0]) - len(each[1]) < 4])


def test_fewer_survivors_than_the_noise_counts_on_open_nothing(make: Make) -> None:
    federation = make()
    lost = at(Stage.TRAIN, 1, MaskedInput, [SOUTH, WEST], attempt=None)
    federation.wire.reply_lost = lost
    with pytest.raises(TooFewSurvivors):
        federation.drive()
    assert {ask.stage for ask in federation.wire.opening_asks()} == {Stage.PREPARE}
    assert "train" not in {each[1] for each in federation.settled()}
