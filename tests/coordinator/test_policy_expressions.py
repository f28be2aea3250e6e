"""Expressions of rules: what compiles, what passes, and that nothing else does."""

from __future__ import annotations

import pytest

from coordinator.governance.policies.expressions import MOST_FACTS_BYTES
from coordinator.governance.policies.judge import compiled, require_unblocked
from protos.policy_verdicts import Judgement, PlanSubject, Verdict
from strategies.encoding import sha256_hex
from strategies.errors import Refused, UsageError
from tests.policies_for_tests import facts_of_plan, pack, rule

SUBJECT = PlanSubject(name="lending-default", plan=sha256_hex(b"plan"), contract=sha256_hex(b"contract"))


def judged(expression: str, **facts: object) -> Judgement:
    found = compiled(pack(rule(expression=expression)))
    found.require_sound()
    return found.judge(SUBJECT, {**facts_of_plan(), **facts})


def verdict(expression: str, **facts: object) -> Verdict:
    (found,) = judged(expression, **facts).verdicts
    return found


def test_only_true_passes() -> None:
    assert verdict("plan.rounds <= 50").outcome == "passes"
    assert verdict("plan.rounds > 50").outcome == "fails"
    assert verdict("plan.rounds <= 50").remedy is None
    assert verdict("plan.rounds > 50").remedy == "Plan fewer rounds."


@pytest.mark.parametrize(
    ("expression", "why"),
    [
        ("1 / 0 == 1", "divide by zero"),
        ("plan.features[99] == 'x'", "index"),
        ("contract.newest_within_s < 1.0", "contract.newest_within_s"),
        ("plan.name.matches('(')", "missing"),
        (
            "plan.features.all(a, plan.features.all(b, plan.features.all(c, plan.features.all(d, a + b + c + d != ''))))",
            "budget",
        ),
    ],
    ids=["division", "index", "absent fact", "bad regular expression", "too many steps"],
)
def test_an_expression_that_errors_passes_never_and_says_why(expression: str, why: str) -> None:
    many = {"plan.features": [f"column-{each}" for each in range(200)]} if why == "budget" else {}
    facts = facts_of_plan() | many
    facts.pop("contract.newest_within_s")
    found = compiled(pack(rule(expression=expression)))
    found.require_sound()
    judgement = found.judge(SUBJECT, facts)
    (only,) = judgement.verdicts
    assert only.outcome == "error"
    assert why in (only.why or "")
    with pytest.raises(Refused, match=r"few-rounds \(is not decided: .*; ml_engineer: Plan fewer rounds"):
        require_unblocked(found.pack, judgement)


@pytest.mark.parametrize(
    ("expression", "place", "why"),
    [
        ("plan.rounds <=", "line 1, column 15", "Syntax error"),
        (
            "plan.rounds <= 50\n  && plan.round > 1",
            "line 2, column 10",
            "undeclared reference to 'plan.round'",
        ),
        ("plan.rounds <= 50.0", "line 1, column 13", "no matching overload"),
        ("plan.rounds", "line 1, column 1", "it is of type INT; a rule is a bool"),
        ("dyn(plan.rounds)", "line 1, column 1", "a rule is a bool"),
        ("model.version > 1", "line 1, column", "undeclared reference"),
        ("(" * 40 + "true" + ")" * 40, "", "recursion limit"),
    ],
    ids=[
        "syntax",
        "second line",
        "types",
        "number",
        "dynamic",
        "fact of models in a rule of plans",
        "nesting",
    ],
)
def test_what_is_no_expression_is_refused_with_its_place(expression: str, place: str, why: str) -> None:
    good = rule(id="good")
    found = compiled(pack(good, rule(expression=expression)))
    with pytest.raises(UsageError) as refused:
        found.require_sound()
    said = str(refused.value)
    assert said.startswith("pack house@1, rule few-rounds: `expression` ")
    assert place in said
    assert why in said
    assert "good" not in said.partition(":")[0]
    by_rule = found.judge(SUBJECT, facts_of_plan()).outcomes()
    assert by_rule == {"good": "passes", "few-rounds": "error"}


def test_all_defects_are_told_at_once_and_many_in_short() -> None:
    bad = [rule(id=f"bad-{each}", expression="nothing") for each in range(12)]
    with pytest.raises(UsageError) as refused:
        compiled(pack(*bad)).require_sound()
    assert str(refused.value).count("undeclared reference") == 10
    assert "and 2 more rules" in str(refused.value)


def test_facts_of_another_type_are_no_answer() -> None:
    for wrong in ("40", 40.5, None, [40]):
        assert verdict("plan.rounds <= 50", **{"plan.rounds": wrong}).outcome == "error", wrong


def test_a_float_that_json_wrote_as_an_integer_is_one_again() -> None:
    assert verdict("plan.epsilon_limit <= 8.0", **{"plan.epsilon_limit": 8}).outcome == "passes"


def test_facts_beyond_their_bound_make_every_rule_an_error() -> None:
    many = ["x" * 100] * (MOST_FACTS_BYTES // 100)
    found = verdict("plan.rounds <= 50", **{"plan.features": many})
    assert found.outcome == "error"
    assert "at most" in (found.why or "")


def test_the_other_side_of_or_is_looked_at_only_where_it_matters() -> None:
    assert verdict("plan.privacy != 'none' || 1 / 0 == 1").outcome == "passes"
    assert verdict("plan.privacy == 'none' || 1 / 0 == 1").outcome == "error"


def test_rules_for_models_judge_no_plan() -> None:
    found = compiled(pack(rule(id="of-models", applies_to="model", expression="model.version > 1"), rule()))
    assert list(found.judge(SUBJECT, facts_of_plan()).outcomes()) == ["few-rounds"]
