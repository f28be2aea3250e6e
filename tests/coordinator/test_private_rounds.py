"""Rounds of private plans: charged before anything is opened, once on either side, and refused beyond what was planned."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
from sqlalchemy import select

from coordinator.db.engine import reading, writing
from coordinator.db.schema import Run
from coordinator.ledger import Ledger
from coordinator.rounds.driver import Driver
from coordinator.rounds.exchange import Answered
from coordinator.rounds.question import Question, Receipt, RunDocuments
from coordinator.rounds.record import RoundConflict
from coordinator.runs import needs_of, record, resume
from protos.codec import encode_reply
from protos.frames import REFUSAL, Refusal, RefusalCode, Reply, Stage
from protos.panels_told import require_panels
from protos.plan_panels import evaluation_cells
from protos.secure_codec import decode_answer
from strategies.dp.budget import BudgetRefused
from strategies.dp.mechanisms import centre_variance, site_variance
from strategies.errors import CovenantError
from strategies.ids import Digest, RunId, SiteName
from strategies.secagg.messages import MaskedInput, UnmaskRequest
from tests.coordinator.private_for_tests import (
    MODES,
    Make,
    Private,
    everybody,
    make,
    planned,
    private_plan,
    templates,
)
from tests.coordinator.secure_for_tests import CONTRACT, EAST, FOUR, NORTH, RUN, SOUTH, WEST, Ask
from tests.coordinator.sums_for_tests import at, die_while_opening

__all__ = ["make", "templates"]
THREE = FOUR[:3]
ALL = [*everybody("prepare", 0), *everybody("train", 1), *everybody("train", 2), *everybody("evaluate", 2)]


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


PANELS = {
    'salt: "1"}}': 'salt: "1"}, explanations: {clip: 1.5, parts: rows}, profile: {bins: 5}}',
    "epsilon: 20.0": "epsilon: 49.0",
}


@pytest.mark.parametrize("mode", MODES)
def test_an_evaluation_with_panels_that_is_tried_again_is_charged_twice_and_told_once(
    make: Make, mode: str
) -> None:
    federation = make(MODES[mode] | PANELS)
    federation.wire.reply_lost = at(Stage.EVALUATE, 2, MaskedInput, [SOUTH, WEST])
    pooled = federation.drive()
    assert [each for each in federation.settled() if each[1] == "evaluate"] == everybody("evaluate", 2, 2)
    for site in FOUR:
        assert federation.charged(site)[-2:] == [("evaluate", 2, 1), ("evaluate", 2, 2)]
    asked = [each.asks for each in federation.wire.opening_asks() if each.stage is Stage.EVALUATE]
    assert asked == [UnmaskRequest]  # of the second attempt alone
    assert pooled.metrics is not None
    panels = pooled.metrics.panels
    assert panels is not None
    assert panels.profile is not None
    require_panels(federation.plan, CONTRACT, asdict(pooled.metrics))
    # The noise of one attempt, by all four sites: none of the one that came to nothing.
    release, cells = planned(federation.plan).evaluate, evaluation_cells(federation.plan, CONTRACT)
    one = math.sqrt(4 * site_variance(release) + centre_variance(release))
    assert panels.profile.noise_std == pytest.approx(one / cells.profile_steps)


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

    def refuses(ledger: Ledger, session: Any, run: RunId, which: str, *rest: Any) -> tuple[Digest, ...]:
        charged = settle(ledger, session, run, which, *rest)
        if which == stage.name.lower():
            session.flush()
            raise BudgetRefused("no")
        return charged

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
    """They count attempts that came to nothing, and give a run no more of them than an approver has seen."""
    federation = make({"retries: 2": "retries: 0"})
    federation.wire.reply_lost = at(Stage.TRAIN, 1, MaskedInput, [SOUTH, WEST])
    with pytest.raises(CovenantError):
        federation.drive()
    bodies = [decode_answer(reply).body for ask in federation.wire.asks for reply in ask.replies.values()]
    refusals = [body for body in bodies if isinstance(body, Refusal)]
    assert {body.code for body in refusals} == {RefusalCode.BUDGET}
    assert "this site has sent 2 inputs to the train stage" in refusals[0].reason


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


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["unsigned", "signed by another", "signed for another request", "signed"])
def test_a_refusal_counts_for_good_only_if_the_site_has_signed_it(make: Make, fault: str) -> None:
    """Else whoever carries messages could put any site out of a run."""
    federation = make()

    def meddle(site: SiteName, ask: Ask, reply: bytes) -> Any:
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


# --- resuming after a reservation was given up ------------------------------------------------------------------------


class Carrier:
    """A transport that starts whatever it is asked to."""

    def require(self) -> None:
        """It is always there."""

    def start_run(self, run: RunId) -> int:
        return 1 + len(run)

    def stop_run(self, flower_run: int) -> None:
        raise AssertionError(flower_run)


def left(federation: Private) -> list[dict[str, int]]:
    with reading(federation.engine, "looking") as session:
        return [dict(stages) for stages in federation.ledger.left(session, RUN).values()]


def test_a_run_that_is_resumed_reserves_what_is_left_of_its_plan_and_not_what_it_has_opened(
    make: Make,
) -> None:
    """Reserving all again would charge its rounds twice, and could refuse a run that fits."""
    federation = make()
    releases = planned(federation.plan)
    with writing(federation.engine, "settling") as session:
        for stage, number, sites in (("prepare", 0, FOUR), ("train", 1, FOUR), ("train", 2, THREE)):
            federation.ledger.settle(session, RUN, stage, number, 1, sites)
    federation.store.finish("failed", "because")
    before = federation.ledger.show(EAST, "loans")
    assert federation.ledger.release_run(RUN, "no longer wanted") > 0
    assert left(federation) == []
    centre = replace(federation.centre, transport=Carrier())
    resume(centre, RUN)
    expected = {
        "prepare": releases.times("prepare") - 1,
        "train": releases.times("train") - 2,
        "evaluate": releases.times("evaluate"),
    }
    assert left(federation) == [expected] * len(FOUR)
    after = federation.ledger.show(EAST, "loans")
    assert (after.spent, after.settled_releases) == (before.spent, 3)


def test_a_run_that_is_resumed_with_its_reservation_reserves_nothing_more(make: Make) -> None:
    federation = make()
    federation.store.finish("failed", "because")
    before = federation.outcomes()
    resume(replace(federation.centre, transport=Carrier()), RUN)
    assert federation.outcomes() == before
