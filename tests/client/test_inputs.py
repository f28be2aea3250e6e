"""What a site adds to a private sum: charged first, drawn afresh, bounded whatever rows hold, and refused in words that are signed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from client.accounts.book import ChargeReceipt, Occasion
from client.accounts.charging import Charging
from client.journal.entries import JournalBroken
from client.secure.inputs import Inputs
from client.training import session_for
from client.training.private import PrivateSession
from protos.frames import REFUSAL, Refusal, RefusalCode, Stage, Statement
from protos.payloads import turning_seed
from protos.plan import Plan
from protos.plan_releases import gradient_grid
from protos.plan_training import GradientSums
from protos.secure_codec import encode_secure_request
from strategies.dp.clipping import FRACTION_BITS, clipped_sum
from strategies.dp.events import Release
from strategies.dp.mechanisms import NoisySum, site_variance
from strategies.dp.noise import NoiseSeed, discrete_gaussian
from strategies.encoding import sha256_hex
from strategies.errors import UsageError
from strategies.features import Scaling
from strategies.sampling import held_out
from strategies.secagg.client import Shared
from strategies.secagg.messages import MaskRequest
from strategies.secagg.payloads import dither_seed
from strategies.secagg.rings import Ring
from strategies.secagg.secrets import MaskSeed
from tests.client import loans_for_tests as loans
from tests.client.accounts_for_tests import filling, occasion
from tests.client.private_for_tests import (
    CENTRAL,
    LOCAL,
    PrivateSum,
    Spy,
    book_of,
    charges,
    planned,
    private_bank,
    private_plan,
    rule_of,
    spied,
    training,
)
from tests.client.secure_for_tests import OTHERS, RUN, SCALING, SITES, VICTIM, SecureBank

Asked = Callable[[SecureBank], PrivateSum]
STAGES: dict[str, Asked] = {
    "prepare": PrivateSum,
    "train": training,
}
"""What a site can be asked at once; evaluation comes after rounds (tests/coordinator/test_private_rounds.py)."""


@pytest.fixture
def bank(request: pytest.FixtureRequest) -> Iterator[SecureBank]:
    with private_bank(getattr(request, "param", None)) as made:
        yield made


def refused(bank: SecureBank, asked: PrivateSum) -> Refusal:
    """The refusal of the victim to mask."""
    step = asked.set_up()
    return bank.refusal(VICTIM, asked.mask_request(step, VICTIM))


# --- receipts ---------------------------------------------------------------------------------------------------------


def inputs(plan: Plan, charge: Callable[[Release, Statement], ChargeReceipt], **facts: Any) -> Inputs:
    session = session_for(plan, loans.CONTRACT, loans.table(48), site=VICTIM)
    return Inputs(VICTIM, plan, loans.CONTRACT, session, charge, facts.get("entropy", _no_entropy))


def _no_entropy(count: int) -> bytes:
    raise AssertionError("a secret was drawn")


def said(plan: Plan, stage: Stage, number: int) -> Statement:
    return Statement(
        plan_digest=plan.digest,
        contract_digest=loans.CONTRACT.digest,
        members_digest=sha256_hex(b""),
        run=PrivateSum.__dataclass_fields__["run"].default,
        stage=stage,
        round=number,
        attempt=1,
        roster=SITES,
        component=plan.training.component,
    )


AT = {Stage.PREPARE: 0, Stage.TRAIN: 1, Stage.EVALUATE: 3}


class NothingIsReadError(Exception):
    pass


@pytest.mark.parametrize("stage", list(Stage))
@pytest.mark.parametrize("changes", [{}, CENTRAL, LOCAL], ids=["distributed", "central", "local"])
def test_without_a_charge_nothing_is_computed_and_no_secret_is_drawn(
    stage: Stage, changes: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = private_plan(changes)

    def refuses(release: Release, _: Statement) -> ChargeReceipt:
        assert release == planned(plan).of(stage.name.lower())
        raise NothingIsReadError

    for name in ("moments", "gradient_sum", "evaluate", "local_update"):
        monkeypatch.setattr(PrivateSession, name, _no_entropy)
    with pytest.raises(NothingIsReadError):
        inputs(plan, refuses).compute(said(plan, stage, AT[stage]), np.zeros(7), SCALING)


@pytest.mark.parametrize("stage", list(Stage))
def test_a_receipt_of_another_release_is_none(stage: Stage) -> None:
    plan = private_plan()

    def charges_too_little(release: Release, _: Statement) -> ChargeReceipt:
        return ChargeReceipt(replace(release, variance=release.variance * 2), 1)

    with pytest.raises(UsageError, match="has not been charged to this site's account"):
        inputs(plan, charges_too_little).compute(said(plan, stage, AT[stage]), np.zeros(7), SCALING)


@pytest.mark.parametrize("stage", STAGES)
def test_the_charge_is_on_disk_before_sample_and_noise_are_drawn(bank: SecureBank, stage: str) -> None:
    spy = spied(bank)
    asked = STAGES[stage](bank)
    step = asked.set_up()
    before = len(spy.seen)
    assert {count for _, count in spy.seen} == {0}
    bank.step(VICTIM, asked.mask_request(step, VICTIM))
    drawn = spy.seen[before:]
    assert drawn == [(32, 1)] * (2 if stage == "train" else 1)
    assert charges(bank) == [(stage, asked.number, 1)]


@pytest.mark.parametrize("stage", list(Stage))
@pytest.mark.parametrize("changes", [{}, CENTRAL, LOCAL], ids=["distributed", "central", "local"])
def test_in_every_mode_and_stage_the_sites_own_account_is_charged_before_anything_is_drawn(
    stage: Stage, changes: dict[str, str]
) -> None:
    plan = private_plan(changes)
    with private_bank(plan) as bank:
        site = bank.participant(VICTIM)
        accepted, charging = site._accepted_documents(bank.task, RUN), Charging(site.book, "demo")
        spy = Spy(bank.folder / VICTIM / "accounts.db")
        one = inputs(plan, lambda release, at: charging.charge(accepted, release, at), entropy=spy)
        asked = said(plan, stage, AT[stage])
        model = None if stage is Stage.PREPARE else np.zeros(7)
        one.compute(asked, model, None if model is None else SCALING)
        drawn = 0 if changes is CENTRAL else 1
        drawn += stage is Stage.TRAIN and changes is not LOCAL
        assert spy.seen == [(32, 1)] * drawn
        (charge,) = site.book.charges("loans", planned(plan).train.unit)
        assert (charge.release, charge.occasion) == (
            planned(plan).of(stage.name.lower()).digest,
            Occasion(
                federation="demo", plan=plan.digest, run=asked.run, stage=stage.name.lower(), round=AT[stage], attempt=1
            ),
        )  # fmt: skip


def test_a_site_that_is_over_its_ceiling_draws_nothing() -> None:
    with private_bank() as bank:
        spy = spied(bank)
        asked = PrivateSum(bank)
        step = asked.set_up()
        _spend(bank, 11.999)
        before = len(spy.seen)
        bank.refusal(VICTIM, asked.mask_request(step, VICTIM))
        assert len(spy.seen) == before


# --- fresh secrets ----------------------------------------------------------------------------------------------------


def test_a_retry_is_a_new_charge_with_a_fresh_sample_and_fresh_noise(bank: SecureBank) -> None:
    spy = spied(bank)
    drawn = []
    for number in (1, 2, 3):
        asked = training(bank, attempt_number=number)
        step = asked.set_up()
        before = len(spy.drawn)
        bank.step(VICTIM, asked.mask_request(step, VICTIM))
        drawn += spy.drawn[before:]
    assert charges(bank) == [("train", 1, 1), ("train", 1, 2), ("train", 1, 3)]
    assert len(drawn) == len(set(drawn)) == 6


def test_the_same_request_again_gets_the_same_bytes_and_no_second_charge(bank: SecureBank) -> None:
    asked = training(bank)
    request = asked.mask_request(asked.set_up(), VICTIM)
    frame = encode_secure_request(request)
    first = bank.participant(VICTIM).answer(frame)
    assert bank.participant(VICTIM).answer(frame) == first
    bank.crash(VICTIM)
    assert bank.participant(VICTIM).answer(frame) == first
    assert charges(bank) == [("train", 1, 1)]


class DiesError(Exception):
    """The site's process ends here. Nothing of the product catches it."""


def test_an_attempt_that_was_charged_and_forgotten_is_not_charged_again(
    bank: SecureBank, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process died between the charge and the answer: whoever asks the same attempt again, with fresh keys, is refused."""
    asked = training(bank)
    request = asked.mask_request(asked.set_up(), VICTIM)

    def dies(*_: object) -> None:
        raise DiesError

    monkeypatch.setattr(Shared, "mask", dies)
    with pytest.raises(DiesError):
        bank.said(VICTIM, request)
    monkeypatch.undo()
    for site in SITES:
        bank.crash(site)
    assert charges(bank) == [("train", 1, 1)]
    refusal = refused(bank, asked)
    assert refusal.code is RefusalCode.BUDGET
    assert "is charged already; a retry takes the next attempt" in refusal.reason
    assert charges(bank) == [("train", 1, 1)]
    asked = training(bank, attempt_number=2)
    bank.step(VICTIM, asked.mask_request(asked.set_up(), VICTIM))


@pytest.mark.parametrize("fault", ["envelope", "no envelope", "roster", "statement", "model"])
def test_a_request_that_cannot_be_answered_is_not_charged(bank: SecureBank, fault: str) -> None:
    """Else one site that seals rubbish, or a clumsy coordinator, would use up the others' budgets."""
    asked = training(bank)
    request = asked.mask_request(asked.set_up(), VICTIM)
    (frame,) = request.frames
    assert isinstance(frame.body, MaskRequest)
    assert request.statement is not None
    body, envelopes = frame.body, frame.body.envelopes
    match fault:
        case "envelope":
            body = replace(body, envelopes={site: b"\0" + each[1:] for site, each in envelopes.items()})
        case "no envelope":
            body = replace(body, envelopes={})
        case "roster":
            body = replace(body, roster=body.roster[2:])
        case "statement":
            body = replace(body, statement=sha256_hex(b"another"))
        case "model":
            request = replace(
                request, statement=replace(request.statement, model_digest=sha256_hex(b"another"))
            )
            assert request.statement is not None
            body = replace(body, statement=request.statement.digest)
    request = replace(request, frames=(replace(frame, body=body),))
    assert bank.refusal(VICTIM, request).code is RefusalCode.PROTOCOL
    assert charges(bank) == []


# --- what is summed up ------------------------------------------------------------------------------------------------


def chosen(*seeds: int) -> Callable[[int], bytes]:
    """Entropy that everybody knows."""
    numbers = iter(seeds)
    return lambda count: next(numbers).to_bytes(count, "big")


def given(plan: Plan, stage: Stage, *seeds: int, model: Any = None) -> tuple[Ring, Any]:
    one = inputs(plan, lambda release, _: ChargeReceipt(release, 1), entropy=chosen(*seeds))
    scaling = None if stage is Stage.PREPARE else SCALING
    vector = None if stage is Stage.PREPARE else np.linspace(-1, 1, 7) if model is None else model
    return one.compute(said(plan, stage, AT[stage]), vector, scaling)


@pytest.mark.parametrize("rotation", ["none", "hadamard"])
def test_training_gives_the_clipped_sum_downhill_on_the_grid_and_a_share_of_noise(rotation: str) -> None:
    plan = private_plan({"  expected_batch": f"  rotation: {rotation}\n  expected_batch"})
    ring, integers = given(plan, Stage.TRAIN, 1, 2)
    session = session_for(plan, loans.CONTRACT, loans.table(48), site=VICTIM)
    assert isinstance(session, PrivateSession)
    assert isinstance(plan.training, GradientSums)
    exact = session.gradient_sum(np.linspace(-1, 1, 7), SCALING, MaskSeed((1).to_bytes(32, "big")))
    grid = gradient_grid(plan, loans.CONTRACT)
    steps = grid.rounded(
        -exact,
        dither_seed("tabular/2", str(plan.training.seed), VICTIM, "1"),
        turning_seed(plan, 1),
        plan.training.expected_batch,
    )
    release = planned(plan).train
    noise = discrete_gaussian(site_variance(release), release.dimension, NoiseSeed((2).to_bytes(32, "big")))
    assert np.array_equal(integers, steps + noise)
    assert np.abs(noise).max() > 0
    summed = NoisySum(release=release, cohort=4, levels=grid.levels(plan.training.expected_batch))
    assert ring == summed.ring
    # Downhill: a server that adds it lowers the loss.
    value = grid.value(steps, turning_seed(plan, 1))
    assert np.dot(value, exact / 2.0**FRACTION_BITS) < 0


@pytest.mark.parametrize("stage", [Stage.PREPARE, Stage.EVALUATE])
def test_moments_and_counts_are_exact_but_for_the_noise(stage: Stage) -> None:
    plan = private_plan()
    session = session_for(plan, loans.CONTRACT, loans.table(48), site=VICTIM)
    assert isinstance(session, PrivateSession)
    exact = session.moments() if stage is Stage.PREPARE else session.evaluate(np.linspace(-1, 1, 7), SCALING)
    release = planned(plan).of(stage.name.lower())
    _, integers = given(plan, stage, 5)
    noise = discrete_gaussian(site_variance(release), release.dimension, NoiseSeed((5).to_bytes(32, "big")))
    assert np.array_equal(integers, exact + noise)


@pytest.mark.parametrize("stage", list(Stage))
def test_in_central_mode_a_site_adds_no_noise_and_draws_a_seed_for_its_sample_only(stage: Stage) -> None:
    seeds = (1,) if stage is Stage.TRAIN else ()
    given(private_plan(CENTRAL), stage, *seeds)


@pytest.mark.parametrize("stage", ["preparation", "evaluation"])
def test_an_exempt_stage_is_charged_as_one_and_has_no_noise(stage: str) -> None:
    plan = private_plan({f"{stage}: 2.0": f"{stage}: null", "retries: 2": f"retries: 2\n  exempt: [{stage}]"})
    at = {"preparation": Stage.PREPARE, "evaluation": Stage.EVALUATE}[stage]
    charged: list[Release] = []

    def charge(release: Release, _: Statement) -> ChargeReceipt:
        charged.append(release)
        return ChargeReceipt(release, 1)

    one = inputs(plan, charge)
    model = None if at is Stage.PREPARE else np.zeros(7)
    _, integers = one.compute(said(plan, at, AT[at]), model, None if model is None else SCALING)
    session = one.session
    assert isinstance(session, PrivateSession)
    exact = session.moments() if at is Stage.PREPARE else session.evaluate(np.zeros(7), SCALING)
    assert np.array_equal(integers, exact)
    assert charged == [planned(plan).of(at.name.lower())]
    assert charged[0] in planned(plan).exempt


def test_in_local_mode_an_update_is_charged_and_embedded_as_updates_are(bank: SecureBank) -> None:
    plan = private_plan(LOCAL)
    charged: list[Release] = []

    def charge(release: Release, _: Statement) -> ChargeReceipt:
        charged.append(release)
        return ChargeReceipt(release, 1)

    one = inputs(plan, charge, entropy=chosen(4))
    _, integers = one.compute(said(plan, Stage.TRAIN, 1), np.zeros(7), SCALING)
    assert integers.any()
    assert charged == [planned(plan).train]


# --- nothing refuses because of rows ----------------------------------------------------------------------------------

BAD_MODELS = {
    "no number": np.full(7, math.nan),
    "infinite": np.full(7, math.inf),
    "huge": np.full(7, 1e300),
    "of mixed signs": np.array([1e308, -1e308, math.nan, 0, 1, -math.inf, 1e-320]),
}


@pytest.mark.parametrize("stage", [Stage.TRAIN, Stage.EVALUATE])
@pytest.mark.parametrize("changes", [{}, CENTRAL, LOCAL], ids=["distributed", "central", "local"])
@pytest.mark.parametrize("model", BAD_MODELS.values(), ids=BAD_MODELS.keys())
def test_whatever_model_is_asked_about_a_site_answers(
    stage: Stage, changes: dict[str, str], model: Any
) -> None:
    """Whoever chooses the model would learn from a refusal on which rows it overflows."""
    with np.errstate(all="ignore"):
        _, integers = given(private_plan(changes), stage, 1, 2, model=model)
    assert integers.dtype == np.int64


@pytest.mark.parametrize("spread", [1e-6, 1e300])
def test_whatever_scaling_is_asked_under_a_site_answers(spread: float) -> None:
    plan = private_plan()
    one = inputs(plan, lambda release, _: ChargeReceipt(release, 1), entropy=chosen(1, 2))
    scaling = Scaling(mean=(1e300, -1e300), std=(spread, spread))
    with np.errstate(all="ignore"):
        one.compute(said(plan, Stage.TRAIN, 1), np.ones(7), scaling)


@pytest.mark.parametrize("stage", STAGES)
def test_a_site_whose_rows_are_absurd_answers_as_any_other(bank: SecureBank, stage: str) -> None:
    rows = loans.loans(48, seed=3, first=3000)
    absurd = pa.array([1e308, -1e308, 5e-324, 0.0] * 12)
    rows = rows.set_column(1, "amount", absurd).set_column(2, "income", pa.array([math.nan] * 48))
    pq.write_table(rows, bank.folder / VICTIM / "rows.parquet")
    asked = STAGES[stage](bank)
    bank.step(VICTIM, asked.mask_request(asked.set_up(), VICTIM))


def test_a_site_with_nobody_to_train_on_or_to_score_answers(bank: SecureBank) -> None:
    """Two rows, of which the hash holds out both or neither: every part may be empty."""
    plan = private_plan()
    for keep in (True, False):
        table = loans.table(48)
        out = held_out(table.keys, "1", 0.3)
        session = PrivateSession(plan, loans.CONTRACT, table.rows(out if keep else ~out))
        one = Inputs(
            VICTIM, plan, loans.CONTRACT, session, lambda r, _: ChargeReceipt(r, 1), chosen(1, 2, 3, 4)
        )
        for stage in Stage:
            model = None if stage is Stage.PREPARE else np.zeros(7)
            one.compute(said(plan, stage, AT[stage]), model, None if model is None else SCALING)


def test_a_gradient_that_is_no_number_adds_nothing_to_the_sum() -> None:
    """The control: rows are summed over, and only those whose gradient is finite."""
    source = np.random.default_rng(1)
    plan = private_plan()
    assert isinstance(plan.training, GradientSums)
    model = plan.dense_model(6)
    x = source.normal(size=(5, 6)).astype(np.float32)
    y, vector = np.array([0.0, 1, 0, 1, 0]), source.normal(size=7)
    spoilt = np.concatenate([x, np.full((1, 6), np.nan, dtype=np.float32)])
    sums = [
        clipped_sum(model, vector, rows, labels, clip=1.0, weights=plan.training.class_weights)
        for rows, labels in ((x, y), (spoilt, np.append(y, 1.0)))
    ]
    assert np.array_equal(*sums)
    assert sums[0].any()


# --- refusals ---------------------------------------------------------------------------------------------------------


def _spend(bank: SecureBank, epsilon: float) -> None:
    """Charge the victim's account for something else, in another run, until about `epsilon` is gone."""
    rule = rule_of(bank, VICTIM)
    target = rule.model_copy(update={"epsilon": epsilon, "order": rule.ceiling.order})
    release = filling(1.0, target, what="something else", unit=rule.unit.unit)
    book_of(bank).charge("loans", rule, release, occasion(99, run="run-ffffffffffffffff"))


def test_a_refusal_for_want_of_budget_is_signed_and_tells_the_figures() -> None:
    with private_bank() as bank:
        asked = PrivateSum(bank)
        step = asked.set_up()
        _spend(bank, 11.999)
        request = asked.mask_request(step, VICTIM)
        reply = bank.said(VICTIM, request)
        body = reply.body
        assert isinstance(body, Refusal)
        assert body.code is RefusalCode.BUDGET
        assert "west/loans: scaling moments would take the account to epsilon" in body.reason
        assert "its ceiling is epsilon 12.000 at delta 1e-05 per record" in body.reason
        message = body.message(reply.statement_digest, VICTIM)
        verify = bank.identities.verify
        assert verify(VICTIM, REFUSAL, message, body.signature)
        assert not verify(OTHERS[0], REFUSAL, message, body.signature)
        for changed in (
            replace(body, reason="never"),
            replace(body, code=RefusalCode.FAILED),
            replace(body, accused=OTHERS[0]),
        ):
            assert not verify(
                VICTIM, REFUSAL, changed.message(reply.statement_digest, VICTIM), body.signature
            )
        assert not verify(VICTIM, REFUSAL, body.message(sha256_hex(b"another"), VICTIM), body.signature)


def test_a_run_that_the_account_could_not_pay_to_its_end_is_refused_before_keys_are_made() -> None:
    with private_bank() as bank:
        _spend(bank, 11.5)
        asked = PrivateSum(bank)
        refusal = bank.refusal(VICTIM, asked.advertise_request())
        assert refusal.code is RefusalCode.BUDGET
        assert charges(bank) == [("train", 99, 1)]


def test_a_run_that_has_begun_is_judged_charge_by_charge() -> None:
    """Another run has spent what this one was to have: it goes on as far as there is budget, also after a restart."""
    with private_bank() as bank:
        first = PrivateSum(bank)
        bank.step(VICTIM, first.mask_request(first.set_up(), VICTIM))
        _spend(bank, 11.0)
        bank.crash(VICTIM)
        second = training(bank)
        bank.step(VICTIM, second.mask_request(second.set_up(), VICTIM))
        assert charges(bank)[-1] == ("train", 1, 1)


def test_a_refusal_leaves_no_charge_and_the_next_run_may_fit(bank: SecureBank) -> None:
    asked = PrivateSum(bank)
    bank.edit(VICTIM, "epsilon: 12.0", "epsilon: 1.0")
    bank.start(VICTIM)
    assert bank.refusal(VICTIM, asked.advertise_request()).code is RefusalCode.BUDGET
    assert charges(bank) == []


def test_a_journal_that_broke_lets_nothing_leave(bank: SecureBank) -> None:
    asked = training(bank)
    request = asked.mask_request(asked.set_up(), VICTIM)
    book_of(bank).journal._connection.execute("PRAGMA query_only = ON")
    with pytest.raises(JournalBroken):
        bank.participant(VICTIM).answer(encode_secure_request(request))
    with pytest.raises(JournalBroken):
        charges(bank)


@pytest.mark.parametrize("way", ["an older copy", "a new file"])
def test_accounts_that_were_set_back_while_the_agent_was_down_are_found_when_it_is_started(
    bank: SecureBank, way: str
) -> None:
    """The journal of answers says which charge was the last."""
    accounts = bank.folder / VICTIM / "accounts.db"
    asked = PrivateSum(bank)
    older = accounts.read_bytes() if accounts.exists() else b""
    bank.step(VICTIM, asked.mask_request(asked.set_up(), VICTIM))
    bank.close()
    newest = accounts.read_bytes()
    if way == "an older copy":
        accounts.write_bytes(older)
    else:
        accounts.unlink()
    with pytest.raises(
        JournalBroken, match="the accounts of this site are not those that it last answered with"
    ):
        bank.start(VICTIM)
    accounts.write_bytes(newest)
    bank.start(VICTIM)
    assert charges(bank) == [("prepare", 0, 1)]
