"""Expressions of rules: what compiles, what passes, and that nothing else does."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.governance.policies.expressions import MOST_FACTS_BYTES, cel_facts, compile_expression
from coordinator.governance.policies.judge import compiled, require_unblocked
from coordinator.governance.policies.language import Defect
from protos.policy_facts import facts_for
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
        (
            "plan.features.all(a, plan.features.all(b, plan.features.all(c, plan.features.all(d, a != b || c != d))))",
            "may take",
        ),
    ],
    ids=["division", "index", "absent fact", "too many steps"],
)
def test_an_expression_that_errors_passes_never_and_says_why(expression: str, why: str) -> None:
    many = {"plan.features": [f"column-{each}" for each in range(200)]} if why == "may take" else {}
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
        ("dyn(plan.rounds)", "line 1, column 4", "undeclared reference to 'dyn'"),
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
    wrong: dict[str, list[object]] = {
        "plan.rounds": ["40", 40.5, None, [40], True, {"a": 1}],
        "plan.epsilon_limit": ["x", None, [1.0], True, {}],
        "plan.features": ["x", [None], [1], {"a": "b"}],
        "contract.has_definition": [1, "true", None],
        "plan.name": [1, None, ["x"]],
    }
    for name, values in wrong.items():
        for value in values:
            found = verdict("plan.rounds <= 50 || plan.name == 'x'", **{name: value})
            assert (found.outcome, f"the fact {name} is no " in (found.why or "")) == ("error", True), (
                name,
                value,
            )


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


@pytest.mark.parametrize(
    ("expression", "place", "why"),
    [
        ("plan.features.map(x, x) == plan.features", "line 1, column 19", "undeclared reference to 'x'"),
        (
            "plan.features.filter(x, true) == plan.features",
            "line 1, column 22",
            "undeclared reference to 'x'",
        ),
        ("plan.features + plan.features == plan.features", "line 1, column 15", "no matching overload"),
        ("plan.name + 'x' == 'y'", "line 1, column 11", "no matching overload"),
        ("plan.name.matches('(a+)+$')", "line 1, column 18", "undeclared reference to 'matches'"),
        ("dyn(plan.rounds) == 1", "line 1, column 4", "undeclared reference to 'dyn'"),
        ("[plan.features].all(x, x == x)", "line 1, column 2", "a list holds constants only"),
        ("true\n && [[1]].all(x, x == x)", "line 2, column 6", "a list holds constants only"),
        ("[1 + 1].all(x, x > 0)", "line 1, column 4", "a list holds constants only"),
        ("{'a': 1}.size() > 0", "line 1, column 1", "'{' is not used in rules"),
        ("plan.name == r'a'", "line 1, column 15", "without a prefix"),
        ('plan.name == """a"""', "line 1, column 16", "in one pair of quotes"),
        ("plan.name == 'a\\n'", "line 1, column 14", "is not used in rules"),
        ("true // plan.name == 'x'", "line 1, column 7", "there are no comments"),
        ("plan.name == `x`", "line 1, column 14", "is not used in rules"),
    ],
)
def test_what_could_grow_or_be_read_in_two_ways_is_not_in_the_language(
    expression: str, place: str, why: str
) -> None:
    found = compile_expression(expression, "plan")
    assert isinstance(found, Defect)
    assert (f"line {found.line}, column {found.column}", why in found.why) == (place, True), found.words


@pytest.mark.parametrize(
    "expression",
    [
        "plan.purpose in ['credit-risk', \"fraud\"]",
        "plan.features[0] != 'x' && ['a', 'b'][1] == 'b'",
        "plan.rounds in [-1, 40, 50] ? plan.sites % 2 == 0 : false",
        "plan.features.exists_one(each, each.startsWith('funded')) && plan.name.contains('lending')",
        "double(plan.nominal_rows) * plan.holdout_share - 1.0 > 1e2",
    ],
)
def test_what_rules_need_is_in_the_language(expression: str) -> None:
    assert verdict(expression).outcome == "passes"


def test_what_would_take_too_long_over_the_facts_is_not_evaluated() -> None:
    square = "plan.features.all(a, plan.features.exists(b, a == b))"
    assert verdict(square).outcome == "passes"
    many = [f"column-{each}" for each in range(1000)]
    one = verdict("plan.features.all(a, a in plan.features)", **{"plan.features": many})
    assert one.outcome == "passes"
    found = verdict(square, **{"plan.features": many})
    assert (found.outcome, "use fewer comprehensions" in (found.why or "")) == ("error", True)


def test_the_rules_of_a_pack_share_what_they_may_take_in_their_order() -> None:
    """Each of these may take some 40 million steps: two are evaluated, and the small one after them."""
    many = {"plan.features": [f"column-{each}" for each in range(1600)], "plan.exempt": []}
    large = [
        rule(id=f"large-{each}", expression="plan.features.all(a, plan.features != plan.exempt)")
        for each in range(100 - 1)
    ]
    found = compiled(pack(*large, rule(id="small")))
    began = time.perf_counter()
    judgement = found.judge(SUBJECT, facts_of_plan() | many)
    assert time.perf_counter() - began < 2.0, "a hundred would take 4 s and more"
    outcomes = list(judgement.outcomes().values())
    assert outcomes == ["passes"] * 2 + ["error"] * 97 + ["passes"]
    assert "of the 100000000 that all rules of a pack may take" in (judgement.verdicts[2].why or "")
    assert judgement == found.judge(SUBJECT, facts_of_plan() | many)


def test_an_expression_of_very_many_comprehensions_is_an_error_that_can_be_told() -> None:
    text = "[1].all(x,true)&&" * 58 + "true"
    many = {"plan.features": [f"c{each}" for each in range(20_000)]}
    found = verdict(text, **many)
    assert (found.outcome, "may take more than" in (found.why or "")) == ("error", True)


_WORDS = [
    *(each.name for each in facts_for("plan")),
    *["&&", "||", "==", "!=", "<", "<=", ">", ">=", "+", "-", "*", "/", "%", "(", ")", "[", "]", ",", "!", "?", ":", ".", "true", "false", "null", "1", "1.5", "1e400", "18446744073709551616", "'a'", "''", "in", "x"],
    ".all(x,", ".exists(y,", "size(", "double(", "int(", "string(", "timestamp(", "has(", "[1, 'a']", "\n", "\\", "r'", "{", "//",
]  # fmt: skip


@given(st.lists(st.sampled_from(_WORDS), min_size=1, max_size=30).map(" ".join) | st.text(max_size=60))
def test_whatever_is_written_is_an_answer_or_a_defect(text: str) -> None:
    found = compile_expression(text, "plan")
    if isinstance(found, Defect):
        assert found.words
    else:
        assert isinstance(found.answer(cel_facts(facts_of_plan(), "plan")), bool | str)
