"""A pack is uploaded whole and sound, or what was in effect goes on: over the real control API, on both databases."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from coordinator.governance.policies.rejudge import take_effect
from protos.policy_pack import PolicyPack
from strategies.errors import Refused, UsageError
from tests.coordinator.api_for_tests import Bank, approved, plan_of, serving
from tests.policies_for_tests import pack, rule, signed

BROKEN = {
    "no end": ("plan.rounds <=", "line 1, column 15: Syntax error"),
    "a fact that there is none of": (
        "plan.rounds <= 50\n  && plan.speed > 1",
        "line 2, column 10: undeclared reference to 'plan.speed'",
    ),
    "no boolean": ("plan.rounds", "line 1, column 1: it is of type INT; a rule is a bool"),
    "two types": ("plan.rounds <= 50.0", "line 1, column 13: found no matching overload"),
    "a choice of other things": ("plan.rounds > 1 ? 'yes' : 'no'", "it is of type STRING; a rule is a bool"),
}


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def bank(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bank]:
    """A coordinator where version 1 of the pack is in effect, which plans of more than 50 rounds do not pass."""
    url = request.getfixturevalue("postgres_url") if request.param == "postgresql" else None
    for bank in serving(tmp_path, database_url=url):
        upload(bank, pack())
        take_effect(bank.centre)
        yield bank


def upload(bank: Bank, what: PolicyPack) -> None:
    bank.desk("risk-1").policies.publish(signed(what, bank.centre.clock()))


def version_in_effect(bank: Bank) -> int:
    (kept,) = bank.desk("risk-1").policies.packs()
    assert kept.state == "in effect"
    return kept.pack.version


@pytest.mark.parametrize("name", BROKEN)
def test_a_pack_with_an_error_is_refused_with_its_place_and_the_one_before_goes_on(
    name: str, bank: Bank
) -> None:
    expression, sentence = BROKEN[name]
    broken = pack(rule(id="good"), rule(id="bad", expression=expression), version=2)
    with pytest.raises(UsageError) as refused:
        upload(bank, broken)
    assert "pack house@2, rule bad: `expression` " in str(refused.value)
    assert sentence in str(refused.value)
    take_effect(bank.centre)
    assert version_in_effect(bank) == 1
    assert len(bank.told("policy")) == 1
    bank.desk("author-1").launch(approved(plan_of()))
    assert len(bank.transport.started) == 1
    bank.audited()


@pytest.mark.parametrize(
    ("expression", "why"),
    [("1 / (plan.rounds - plan.rounds) == 1", "divide by zero"), ("plan.features[99] == 'x'", "index")],
)
def test_a_rule_that_cannot_be_decided_lets_nothing_pass(expression: str, why: str, bank: Bank) -> None:
    upload(bank, pack(rule(id="undecided", expression=expression), version=2))
    with pytest.raises(Refused, match=rf"undecided \(is not decided: .*{why}.*; ml_engineer: Plan fewer"):
        bank.desk("author-1").launch(approved(plan_of()))
    assert bank.transport.started == []
    (denied,) = bank.told("denied")
    assert "undecided" in denied.reason  # type: ignore[union-attr]
    bank.audited()
