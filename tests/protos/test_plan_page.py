"""A plan on one page: every question is answered for every kind of plan, in the words that reports use elsewhere."""

from __future__ import annotations

import re
from functools import cache

import pytest

from protos.contract import Contract
from protos.documents import read_document
from protos.plan import Plan
from protos.plan_explanation import explain
from protos.plan_page import Section, lines_of, page
from tests.protos.documents_for_tests import CONTRACT, PLAN
from tests.protos.private_for_tests import CUSTOMERS, MODES, contract_for, plan_of

NONE = read_document(PLAN, Plan, "plan.yaml"), read_document(CONTRACT, Contract, "contract.yaml")
TITLES = [
    "What is computed", "From whose data", "What leaves a site", "Who sees what", "What it costs", "Who must agree",
    "What happens when sites drop out", "What a site that lies can do", "What is not protected",
]  # fmt: skip


def every_kind() -> list[tuple[Plan, Contract]]:
    plans = [plan_of(*changes) for changes in MODES.values()] + [plan_of(*CUSTOMERS)]
    return [NONE, *((each, contract_for(each)) for each in plans)]


@cache
def known(number: int) -> tuple[Section, ...]:
    return page(*every_kind()[number])


@pytest.mark.parametrize("number", range(5))
def test_every_question_is_answered_in_the_words_of_the_other_reports(number: int) -> None:
    plan, contract = every_kind()[number]
    sections, found = known(number), explain(plan, contract)
    assert [each.title for each in sections] == TITLES
    assert all(each.sentences for each in sections)
    text = "\n".join(lines_of(sections))
    for site in plan.sites.invite:
        assert site in text
    for words in (found.words, *found.not_protected, *(each.what for each in found.stages)):
        assert words in text
    if found.figures is not None:
        assert found.figures.whole.words in text
        assert found.figures.limit.words in text


@pytest.mark.parametrize("number", range(5))
def test_no_epsilon_without_its_delta_and_unit(number: int) -> None:
    text = "\n".join(lines_of(known(number)))
    for found in re.finditer(r"epsilon [0-9.]+", text):
        assert re.match(r" at delta \S+ per ", text[found.end() :])


def test_a_plan_without_privacy_says_so() -> None:
    text = "\n".join(lines_of(page(*NONE)))
    assert "nothing protects a person's rows" in text
    assert "no account is charged" in text


def test_a_plan_above_its_limit_says_that_it_may_not_be_run() -> None:
    plan = plan_of(("epsilon: 8.0", "epsilon: 0.5"))
    assert "It may not be run as it is" in "\n".join(lines_of(page(plan, contract_for(plan))))


def test_who_must_agree_is_what_the_plan_asks_for() -> None:
    plan = plan_of(
        (
            "evaluation: {every",
            "approvals: {privacy_officer: 2, model_risk: 0, valid_for: 7d}\nevaluation: {every",
        )
    )
    text = "\n".join(lines_of(page(plan, contract_for(plan))))
    assert "2 privacy officers and no people of model risk" in text
    assert "7 days" in text
