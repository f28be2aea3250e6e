"""Policy packs: what they may hold, who must have signed them, and that nothing else counts."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from protos.documents import DocumentError, read_document
from protos.membership import MemberList, Officer, Role, Trusted
from protos.policy_pack import (
    GOOD_FOR,
    MOST_EXPRESSION,
    MOST_RULES,
    PackStatements,
    PolicyPack,
    SignedPack,
    require_succeeds,
    state_pack,
)
from strategies.encoding import sha256_hex
from strategies.errors import Refused
from tests.ceilings_for_tests import site_of
from tests.policies_for_tests import BEGAN, FEDERATION, pack, rule, signed
from tests.trust_for_tests import FAR, key_of, officers

AT = BEGAN + timedelta(days=100)
PEOPLE = {
    "privacy-1": (Role.PRIVACY_OFFICER,),
    "privacy-2": (Role.PRIVACY_OFFICER,),
    "risk-1": (Role.MODEL_RISK,),
    "both-1": (Role.PRIVACY_OFFICER, Role.MODEL_RISK),
}
PRIVACY, RISK = ("privacy-1", Role.PRIVACY_OFFICER), ("risk-1", Role.MODEL_RISK)


def trusted(expires: Any = FAR) -> Trusted:
    people = tuple(
        Officer(name=name, roles=roles, key=key_of(name).public, expires=expires)
        for name, roles in PEOPLE.items()
    )
    members = MemberList(name="demo", version=1, members=(site_of("north"),), officers=people)
    root = officers().newest
    return Trusted(root, members, members.digest, (root.digest,))


def refusal(given: SignedPack, by: Trusted | None = None, now: Any = AT) -> str:
    with pytest.raises(Refused) as refused:
        given.require(by or trusted(), now)
    return str(refused.value)


def test_a_pack_that_one_of_each_role_signed_counts_in_whatever_order_they_did() -> None:
    one, other = signed(pack(), AT, PRIVACY, RISK), signed(pack(), AT, RISK, PRIVACY)
    assert one == other
    again = SignedPack.from_canonical(one.canonical)
    assert again.require(trusted(), AT).officers == ("privacy-1", "risk-1")


def test_it_takes_both_roles_and_two_persons() -> None:
    assert "not signed as privacy_officer (nobody has signed it)" in refusal(SignedPack(pack=pack()))
    assert "is not signed as model_risk" in refusal(signed(pack(), AT, PRIVACY, ("privacy-2", PRIVACY[1])))
    both = signed(pack(), AT, ("both-1", Role.PRIVACY_OFFICER), ("both-1", Role.MODEL_RISK))
    assert "is not signed as privacy_officer" in refusal(both)
    signed(pack(), AT, ("both-1", Role.PRIVACY_OFFICER), RISK).require(trusted(), AT)


def test_who_may_not_say_it_refuses_everything() -> None:
    swapped = signed(pack(), AT, ("risk-1", Role.PRIVACY_OFFICER), ("both-1", Role.MODEL_RISK))
    assert "on member list demo@1 risk-1 is model_risk" in refusal(swapped)
    stranger = signed(pack(), AT, PRIVACY, RISK, ("stranger", Role.MODEL_RISK))
    assert "stranger is no officer on member list demo@1" in refusal(stranger)
    assert "was good until" in refusal(signed(pack(), AT), trusted(AT - timedelta(days=1)))
    with pytest.raises(DocumentError, match="a policy pack is signed as"):
        state_pack(pack(), "auditor-1", Role.AUDITOR, key_of("x"), federation=FEDERATION, at=AT)


def test_another_key_and_another_federation_do_not_count() -> None:
    forged = state_pack(pack(), "risk-1", Role.MODEL_RISK, key_of("privacy-2"), federation=FEDERATION, at=AT)
    honest = signed(pack(), AT, PRIVACY).statements
    assert "is not signed with the key of risk-1" in refusal(
        SignedPack(pack=pack(), statements=(*honest, forged))
    )
    assert "counts in no other" in refusal(signed(pack(), AT, federation=sha256_hex(b"another")))


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"name": "other"},
        {"effective_from": BEGAN + timedelta(seconds=1)},
        {"reason": "another"},
        {"rules": (rule(expression="plan.rounds <= 51"),)},
        {"rules": (rule(severity="warning"),)},
        {"rules": (rule(remedy="Do nothing."),)},
    ],
)
def test_whatever_is_changed_nobody_has_signed_it(change: dict[str, Any]) -> None:
    moved = SignedPack(pack=pack(**change), statements=signed(pack(), AT).statements)
    assert "a pack with one changed value is another pack" in refusal(moved)


def test_a_statement_that_was_on_its_way_for_long_or_is_of_a_time_to_come_is_none() -> None:
    given = signed(pack(), AT)
    given.require(trusted(), AT + GOOD_FOR)
    given.require(trusted(), AT - timedelta(minutes=4))
    for now in (AT + GOOD_FOR + timedelta(seconds=1), AT - timedelta(minutes=6)):
        assert "is not within 30 days of it" in refusal(given, now=now)


def test_what_was_said_about_another_pack_falls_away() -> None:
    said = PackStatements(statements=signed(pack(), AT).statements)
    assert said.about(pack()) == said
    assert said.about(pack(version=2)).statements == ()


def test_versions_follow_each_other() -> None:
    require_succeeds(pack(version=7), None)
    require_succeeds(pack(version=3), pack())
    for later, words in (
        (pack(), "give it version 2"),
        (pack(version=2, effective_from=BEGAN - timedelta(1)), "before house@1 does"),
    ):
        with pytest.raises(Refused, match=words):
            require_succeeds(later, pack())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"expression": " "}, "1 to 1000 printable"),
        ({"expression": "x" * (MOST_EXPRESSION + 1)}, "1 to 1000 printable"),
        ({"expression": "plan.rounds\x1b[2J"}, "printable"),
        ({"says": "two\nlines"}, "printable"),
        ({"remedy": ""}, "printable"),
        ({"severity": "fatal"}, "'blocking' or 'warning'"),
        ({"applies_to": "site"}, "'plan' or 'model'"),
        ({"id": "Few Rounds"}, "characters a-z"),
        ({"contributes_to": ("model-card", "model-card")}, "named twice"),
        ({"acts": "boss"}, "it should be"),
    ],
)
def test_a_rule_is_bounded_and_closed(change: dict[str, Any], words: str) -> None:
    with pytest.raises(DocumentError, match=words):
        rule(**change)


def test_a_pack_has_few_rules_with_names_of_their_own() -> None:
    with pytest.raises(DocumentError, match="named twice"):
        pack(rule(), rule())
    many = tuple(rule(id=f"rule-{each}") for each in range(MOST_RULES + 1))
    with pytest.raises(DocumentError, match="at most 100"):
        pack(*many)


def test_lines_around_an_expression_change_no_digest() -> None:
    text = """\
covenant: policy-pack/v1
name: house
version: 1
effective_from: {moment}
reason: a test
rules:
- id: few-rounds
  applies_to: plan
  severity: blocking
  says: It trains at most 50 rounds.
  expression: {expression}
  acts: ml_engineer
  remedy: Plan fewer rounds.
"""
    for expression, moment in (
        ("plan.rounds <= 50", "2026-01-01T00:00:00Z"),
        ("|\n    plan.rounds <= 50\n", "2026-01-01T01:00:00+01:00"),
    ):
        read = read_document(text.format(expression=expression, moment=moment), PolicyPack, "pack")
        assert read.digest == pack().digest
