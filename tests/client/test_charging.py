"""Charging in the name of a run: foreseen once, charged each time, refused in words for the centre, and told to the site's operator."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from client.accounts.charging import Charging
from client.admission.documents import Accepted
from client.refusal import TaskRefused
from protos.frames import RefusalCode, Stage, Statement
from strategies.dp.units import PrivacyUnit, UnitKind
from strategies.ids import RunId
from tests.client.accounts_for_tests import filling, occasion
from tests.client.private_for_tests import PrivateSum, book_of, planned, private_bank, rule_of
from tests.client.secure_for_tests import RUN, VICTIM, SecureBank

ANOTHER = RunId("run-eeeeeeeeeeeeeeee")


@pytest.fixture
def bank() -> Iterator[SecureBank]:
    with private_bank() as made:
        yield made


@pytest.fixture
def heard() -> Iterator[list[Any]]:
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(0))
    with capture_logs() as lines:
        yield lines
    structlog.configure(**before)


def accepted(bank: SecureBank) -> Accepted:
    return bank.participant(VICTIM)._accepted_documents(bank.task, RUN)


def charging(bank: SecureBank, federation: str = "demo") -> Charging:
    return Charging(book_of(bank), federation)


def said(bank: SecureBank, stage: Stage, number: int, attempt: int = 1) -> Statement:
    return PrivateSum(bank, stage, number, attempt_number=attempt).statement


def spend(bank: SecureBank, epsilon: float, *, number: int = 90) -> None:
    """Let another run have taken the account to `epsilon`."""
    rule = rule_of(bank, VICTIM)
    target = rule.model_copy(update={"epsilon": epsilon, "order": rule.ceiling.order})
    book_of(bank).charge("loans", rule, filling(1.0, target, what="more"), occasion(number, run=ANOTHER))


def spent(bank: SecureBank) -> int:
    return len(book_of(bank).charges("loans", rule_of(bank, VICTIM).unit.unit))


# --- what a charge is for ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("stage", "number"), [(Stage.PREPARE, 0), (Stage.TRAIN, 2), (Stage.EVALUATE, 3)])
def test_a_charge_says_for_which_attempt_of_which_run_of_which_federation_it_was(
    bank: SecureBank, stage: Stage, number: int
) -> None:
    release = planned(bank.plan).of(stage.name.lower())
    receipt = charging(bank, "banking").charge(accepted(bank), release, said(bank, stage, number, 4))
    assert receipt.release == release
    (charge,) = book_of(bank).charges("loans", release.unit)
    assert charge.release == release.digest
    at = charge.occasion
    assert (at.federation, at.plan, at.run) == ("banking", bank.plan.digest, RUN)
    assert (at.stage, at.round, at.attempt) == (stage.name.lower(), number, 4)


def test_a_charge_over_the_ceiling_is_a_refusal_by_budget_and_charges_nothing(bank: SecureBank) -> None:
    spend(bank, 11.99)
    with pytest.raises(TaskRefused, match="would take the account to") as refused:
        charging(bank).charge(accepted(bank), planned(bank.plan).train, said(bank, Stage.TRAIN, 1))
    assert refused.value.code is RefusalCode.BUDGET
    assert spent(bank) == 1


def test_a_plan_about_another_unit_is_a_refusal_by_budget(bank: SecureBank) -> None:
    """`admission` refuses such a plan before; the account would do so too."""
    other = PrivacyUnit(kind=UnitKind.CUSTOMER, column="customer_id")
    release = replace(planned(bank.plan).train, unit=other)
    with pytest.raises(TaskRefused, match="the account is per record") as refused:
        charging(bank).charge(accepted(bank), release, said(bank, Stage.TRAIN, 1))
    assert refused.value.code is RefusalCode.BUDGET


def test_a_population_without_an_account_is_a_refusal_by_policy(bank: SecureBank) -> None:
    bare = replace(accepted(bank), source=accepted(bank).source.model_copy(update={"account": None}))
    for step in (
        lambda: charging(bank).charge(bare, planned(bank.plan).train, said(bank, Stage.TRAIN, 1)),
        lambda: charging(bank).foresee(bare, RUN),
    ):
        with pytest.raises(TaskRefused, match=r"`data\.loans\.account` is not configured") as refused:
            step()
        assert refused.value.code is RefusalCode.POLICY


@pytest.mark.parametrize(("stage", "times"), [(Stage.PREPARE, 3), (Stage.TRAIN, 5), (Stage.EVALUATE, 3)])
def test_a_run_has_as_many_attempts_as_its_plan_says_and_no_more_though_the_account_would_bear_them(
    bank: SecureBank, stage: Stage, times: int
) -> None:
    """What an approver saw is what may be spent; also after a restart, and whatever the attempts are called."""
    release = replace(planned(bank.plan).of(stage.name.lower()), variance=1e30)
    for attempt in range(times):
        charging(bank).charge(accepted(bank), release, said(bank, stage, attempt % 4, attempt + 1))
    bank.crash(VICTIM)
    with pytest.raises(
        TaskRefused, match=f"has sent {times} inputs to the {stage.name.lower()} stage"
    ) as refused:
        charging(bank).charge(accepted(bank), release, said(bank, stage, 1, 99))
    assert refused.value.code is RefusalCode.BUDGET
    assert spent(bank) == times
    other = replace(said(bank, stage, 1, 1), run=ANOTHER)
    charging(bank).charge(accepted(bank), release, other)


# --- foreseeing -------------------------------------------------------------------------------------------------------


def test_a_run_that_the_account_can_pay_to_its_end_is_let_in_and_nothing_is_charged(bank: SecureBank) -> None:
    charging(bank).foresee(accepted(bank), RUN)
    assert spent(bank) == 0


def test_a_run_is_foreseen_with_every_retry_that_the_plan_pays_for(bank: SecureBank) -> None:
    """So much is left that the rounds fit, and the retries do not."""
    releases = planned(bank.plan)
    rule, book = rule_of(bank, VICTIM), book_of(bank)
    step, number = filling(0.02, rule, what="another plan's"), 0
    while book.account("loans", rule).ceiling.admits(
        book.account("loans", rule).charged({**releases.planned(), step: number}).cost
    ):
        number += 1
    for each in range(number):
        book.charge("loans", rule, step, occasion(each, run=ANOTHER))
    with pytest.raises(TaskRefused) as refused:
        charging(bank).foresee(accepted(bank), RUN)
    assert refused.value.code is RefusalCode.BUDGET
    book.require("loans", rule, {releases.prepare: 1, releases.train: 3, releases.evaluate: 1})


def test_a_run_that_has_charged_is_not_foreseen_again(bank: SecureBank) -> None:
    run = charging(bank)
    run.charge(accepted(bank), planned(bank.plan).prepare, said(bank, Stage.PREPARE, 0))
    spend(bank, 11.0)
    run.foresee(accepted(bank), RUN)
    with pytest.raises(TaskRefused):
        run.foresee(accepted(bank), RunId("run-dddddddddddddddd"))


def test_a_plan_without_privacy_asks_no_account(bank: SecureBank) -> None:
    bare = replace(accepted(bank), releases=None)
    charging(bank).foresee(bare, RUN)
    assert spent(bank) == 0


# --- alerts -----------------------------------------------------------------------------------------------------------


def test_the_operator_is_told_once_when_a_fraction_of_the_budget_is_passed(
    bank: SecureBank, heard: list[Any]
) -> None:
    rule = rule_of(bank, VICTIM)
    small = filling(0.3, rule)
    run = charging(bank)
    beyond = []
    for number in (1, 2, 3):
        heard.clear()
        run.charge(accepted(bank), small, said(bank, Stage.TRAIN, number))
        beyond.append([each["beyond"] for each in heard if each["event"] == "account"])
    assert beyond == [[], [0.5], [0.8]]
    (line,) = [each for each in heard if each["event"] == "account"]
    assert line["population"] == "loans"
    assert "per record (add-or-remove-one)" in line["spent"]
    assert line["ceiling"] == "epsilon 12.000 at delta 1e-05 per record (add-or-remove-one)"


def test_a_charge_that_passes_two_fractions_tells_the_larger(bank: SecureBank, heard: list[Any]) -> None:
    charging(bank).charge(accepted(bank), filling(0.9, rule_of(bank, VICTIM)), said(bank, Stage.TRAIN, 1))
    assert [each["beyond"] for each in heard if each["event"] == "account"] == [0.8]
