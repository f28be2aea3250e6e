"""Approvals: who must stand behind a plan, what a statement says, and that none is ignored."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos.approval_rule import ApprovalRule
from protos.approvals import (
    MOST_STATEMENTS,
    ApprovedPlan,
    PlanEvidence,
    PlanStatement,
    approve,
    author,
    lacking,
    require_approved,
)
from protos.contract import Contract
from protos.documents import DocumentError, read_document
from protos.keys import SigningKey, create_node_key, grouped
from protos.membership import Member, MemberList, Officer, Role, Trusted
from protos.plan import Plan
from protos.root import Root
from strategies.encoding import canonical_json
from strategies.errors import Refused, UsageError
from strategies.ids import SiteName
from tests.protos.documents_for_tests import CONTRACT, PLAN, changed
from tests.trust_for_tests import FAR, key_of, officers, root_of

NOW = datetime(2026, 5, 4, 12, tzinfo=UTC)
SOON = NOW + timedelta(days=20)
ROOT = officers().newest
PEOPLE: dict[str, tuple[Role, ...]] = {
    "author-1": (Role.ML_ENGINEER,),
    "author-2": (Role.ML_ENGINEER, Role.MODEL_RISK),
    "privacy-1": (Role.PRIVACY_OFFICER,),
    "privacy-2": (Role.PRIVACY_OFFICER, Role.MODEL_RISK),
    "risk-1": (Role.MODEL_RISK,),
    "admin-1": (Role.SITE_OPERATOR, Role.AUDITOR, Role.ADMIN),
}
PRIVACY, RISK = Role.PRIVACY_OFFICER, Role.MODEL_RISK
AUTHOR, PRIVATE, SOUND = ("author-1", "author"), ("privacy-1", PRIVACY), ("risk-1", RISK)
NOBODY = ApprovalRule(privacy_officer=0, model_risk=0)


def plan_of(text: str = PLAN) -> Plan:
    return read_document(text, Plan, "plan.yaml")


def contract_of(text: str = CONTRACT) -> Contract:
    return read_document(text, Contract, "contract.yaml")


@pytest.fixture(scope="module")
def members(tmp_path_factory) -> MemberList:
    node = create_node_key(tmp_path_factory.mktemp("node") / "node.key")
    site = Member(site=SiteName("west"), identity_key=SigningKey.generate().public, node_key=node)
    officers = tuple(
        Officer(name=name, roles=roles, key=key_of(name).public, expires=FAR)
        for name, roles in PEOPLE.items()
    )
    return MemberList(name="demo", version=1, members=(site,), officers=officers)


def trusted(members: MemberList, root: Root = ROOT) -> Trusted:
    """As if the quorum of `root` had signed `members`."""
    return Trusted(root, members, members.digest, (root.digest,))


def with_officers(members: MemberList, officers: Iterable[Officer]) -> MemberList:
    return MemberList(**{**dict(members), "officers": tuple(officers)})


def said(
    name: str,
    role: str,
    plan: Plan | None = None,
    *,
    key: str | None = None,
    contract: Contract | None = None,
    expires: datetime = SOON,
    root: Root = ROOT,
) -> PlanStatement:
    """The statement of `name`, as author or in an approving role."""
    about = (plan or plan_of(), contract or contract_of())
    signer = key_of(key or name)
    if role == "author":
        return author(*about, name, signer, federation=root.identity, expires=expires)
    return approve(*about, name, Role(role), signer, federation=root.identity, expires=expires)


def evidence(*statements: PlanStatement) -> PlanEvidence:
    return PlanEvidence(statements=statements)


def complete(**values: Any) -> PlanEvidence:
    return evidence(*(said(*who, **values) for who in (AUTHOR, PRIVATE, SOUND)))


def judged(
    given: PlanEvidence,
    members: MemberList,
    *rules: ApprovalRule,
    plan: Plan | None = None,
    contract: Contract | None = None,
    now: datetime | None = NOW,
    root: Root = ROOT,
) -> ApprovedPlan:
    rules = rules or (ApprovalRule(),)
    about = (plan or plan_of(), contract or contract_of())
    return require_approved(*about, given, trusted(members, root), rules, now)


def refusal(*args, **kwargs) -> str:
    with pytest.raises(Refused) as refused:
        judged(*args, **kwargs)
    assert "\n" not in str(refused.value)
    return str(refused.value)


# --- in which federation


def test_what_is_approved_in_one_federation_counts_in_no_other_of_the_same_name_and_officers(
    members: MemberList,
) -> None:
    other = root_of("impostor-1", "impostor-2")
    assert other.federation == ROOT.federation
    judged(complete(), members)
    words = refusal(complete(), members, root=other)
    assert "what is approved in one federation counts in no other" in words
    assert grouped(ROOT.digest) in words
    assert grouped(other.digest) in words


def test_approvals_count_under_every_version_of_the_federations_root(members: MemberList) -> None:
    later = officers().rotated("elm", "fir").newest
    assert judged(complete(root=later), members).author == "author-1"
    assert judged(complete(), members, root=later).author == "author-1"


# --- what is enough


def test_an_author_and_one_of_each_role_are_enough(members: MemberList):
    approved = judged(PlanEvidence.from_canonical(complete().canonical), members)
    assert (approved.plan, approved.contract, approved.author) == (plan_of(), contract_of(), "author-1")
    assert approved.approved_by == (PRIVATE, SOUND)
    assert approved.until == SOON


def test_who_asks_for_nobody_gets_by_without_evidence(members: MemberList):
    approved = judged(PlanEvidence(), members, NOBODY, NOBODY)
    assert (approved.author, approved.approved_by, approved.until) == (None, (), None)


def test_who_says_nothing_asks_for_one_of_each():
    assert ApprovalRule() == ApprovalRule(privacy_officer=1, model_risk=1, valid_for=30 * 86400)


@pytest.mark.parametrize(
    "text", ["privacy_officer: 11", "model_risk: -1", "valid_for: 367d", "valid_for: 30", "auditor: 1"]
)
def test_a_rule_is_closed_and_bounded(text: str):
    with pytest.raises(DocumentError):
        read_document(text, ApprovalRule, "rule")


@pytest.mark.parametrize(
    ("rules", "missing"),
    [
        ((ApprovalRule(), NOBODY), None),
        ((NOBODY, ApprovalRule(privacy_officer=2)), "privacy_officer"),
        ((ApprovalRule(model_risk=2), ApprovalRule()), "model_risk"),
    ],
)
def test_every_rule_must_hold(rules: tuple[ApprovalRule, ...], missing: str | None, members: MemberList):
    if missing is None:
        assert judged(complete(), members, *rules)
    else:
        assert f"has 1 of the 2 approvals as {missing} that are asked for" in refusal(
            complete(), members, *rules
        )


CHOICES: dict[str, tuple[str, ...]] = {
    "author-2": ("author", RISK),
    "author-1": ("author",),
    "privacy-1": (PRIVACY,),
    "privacy-2": (PRIVACY, RISK),
    "risk-1": (RISK,),
}


@given(
    st.fixed_dictionaries(
        {}, optional={who: st.sampled_from(roles) for who, roles in CHOICES.items()}
    ).filter(lambda who: list(who.values()).count("author") <= 1),
    st.builds(
        ApprovalRule,
        privacy_officer=st.integers(min_value=0, max_value=3),
        model_risk=st.integers(min_value=0, max_value=3),
    ),
)
def test_whoever_signs_the_plan_counts_once_in_one_role(
    members: MemberList, who: dict[str, str], rule: ApprovalRule
):
    roles = list(who.values())
    enough = all(roles.count(role) >= getattr(rule, role) for role in (PRIVACY, RISK))
    needless = not who and not rule.asks
    given_ = evidence(*(said(*each) for each in who.items()))
    if enough and ("author" in roles or needless):
        approved = judged(given_, members, rule)
        assert len(approved.approved_by) == len([role for role in roles if role != "author"])
        assert not list(lacking([rule], given_, members))
    else:
        refusal(given_, members, rule)


# --- who has not signed


def test_a_plan_without_author_is_refused(members: MemberList):
    assert "as its author; an officer who is ml_engineer does" in refusal(PlanEvidence(), members)
    assert "as its author" in refusal(evidence(said(*PRIVATE), said(*SOUND)), members)


def test_who_could_approve_is_said(members: MemberList):
    # privacy-2 has both roles; she has spoken for one.
    text = refusal(evidence(said(*AUTHOR), said("privacy-2", PRIVACY)), members)
    assert (
        "has 0 of the 1 approvals as model_risk that are asked for; author-2 or risk-1 may give one" in text
    )
    text = refusal(evidence(said("author-2", "author"), said(*PRIVATE)), members)
    assert "; privacy-2 or risk-1 may give one with `covenant plan approve --as model_risk`" in text


def test_where_nobody_is_left_the_officers_must_certify_somebody(members: MemberList):
    left = with_officers(
        members, (each for each in members.officers if each.name in {"author-1", "privacy-1"})
    )
    text = refusal(evidence(said(*AUTHOR), said(*PRIVATE)), left)
    assert "nobody who could give one is left on member list demo@1" in text


def test_evidence_beyond_what_is_asked_for_is_judged_as_well(members: MemberList):
    assert "privacy-1 is no officer" in refusal(
        complete(), with_officers(members, (o for o in members.officers if o.name != "privacy-1")), NOBODY
    )


# --- wrong statements


@pytest.mark.parametrize("gone", ["author-1", "privacy-1", "risk-1"])
def test_who_was_taken_off_the_list_says_nothing(gone: str, members: MemberList):
    left = with_officers(members, (each for each in members.officers if each.name != gone))
    assert f"{gone} is no officer on member list demo@1" in refusal(complete(), left)


def test_an_author_must_be_an_ml_engineer(members: MemberList):
    given_ = evidence(said("privacy-2", "author"), said(*PRIVATE), said(*SOUND))
    assert "privacy-2 is model_risk, privacy_officer, not ml_engineer" in refusal(given_, members)


@pytest.mark.parametrize("name", ["author-1", "privacy-1", "admin-1"])
def test_a_role_is_exercised_only_by_who_has_it(name: str, members: MemberList):
    by = said("author-2", "author")
    text = refusal(evidence(by, said("privacy-2", PRIVACY), said(name, RISK)), members)
    assert f"{name}'s approval as model_risk does not count" in text


@pytest.mark.parametrize("who", [AUTHOR, PRIVATE, SOUND])
def test_the_key_on_the_list_must_have_signed(who: tuple[str, str], members: MemberList):
    others = [said(*each) for each in (AUTHOR, PRIVATE, SOUND) if each != who]
    text = refusal(evidence(*others, said(*who, key="stranger")), members)
    assert f"is not signed with the key of {who[0]} on member list demo@1" in text


@pytest.mark.parametrize("who", [AUTHOR, PRIVATE, SOUND])
@pytest.mark.parametrize("field", ["plan", "contract", "expires"])
def test_a_changed_statement_is_refused(field: str, who: tuple[str, str], members: MemberList):
    body = json.loads(complete().canonical)
    for each in body["statements"]:
        if each["officer"] == who[0]:
            each[field] = "2027-01-01T00:00:00Z" if field == "expires" else "0" * 64
    forged = PlanEvidence.from_canonical(canonical_json(body))
    assert f"is not signed with the key of {who[0]}" in refusal(forged, members)


def test_an_approval_in_one_role_cannot_be_presented_in_another(members: MemberList):
    mine = said("privacy-2", PRIVACY)
    moved = PlanStatement(**{**dict(mine), "role": RISK})
    text = refusal(evidence(said(*AUTHOR), said(*PRIVATE), moved), members)
    assert "privacy-2's approval as model_risk is not signed" in text


def test_one_wrong_statement_refuses_everything(members: MemberList):
    wrong = said("privacy-2", PRIVACY, key="stranger")
    assert "privacy-2's approval" in refusal(complete().adding(wrong), members)


@pytest.mark.parametrize("who", [AUTHOR, PRIVATE, SOUND])
def test_a_plan_that_was_changed_after_a_statement_needs_new_ones(who: tuple[str, str], members: MemberList):
    now = plan_of(changed(PLAN, "rounds: 20", "rounds: 21"))
    others = [said(*each, now) for each in (AUTHOR, PRIVATE, SOUND) if each != who]
    text = refusal(evidence(*others, said(*who)), members, plan=now)
    assert f"is about plan {plan_of().digest[:12]}, and this is {now.digest[:12]}" in text
    assert "a plan with one changed value is another plan, and needs new approvals" in text


def test_the_statements_about_another_plan_are_not_good_for_this_one(members: MemberList):
    other = plan_of(changed(PLAN, "name: lending-default", "name: another-plan"))
    assert f"is about plan {plan_of().digest[:12]}" in refusal(complete(), members, plan=other)


def test_a_contract_that_was_changed_needs_new_statements(members: MemberList):
    other = contract_of(changed(CONTRACT, "[0, 50000]", "[0, 60000]"))
    text = refusal(complete(), members, contract=other)
    assert f"is about contract {contract_of().digest[:12]}, and this is {other.digest[:12]}" in text


# --- time


@pytest.mark.parametrize("who", [AUTHOR, PRIVATE, SOUND])
def test_a_statement_is_good_until_its_last_moment(who: tuple[str, str], members: MemberList):
    given_ = evidence(
        *(said(*each, expires=NOW if each == who else SOON) for each in (AUTHOR, PRIVATE, SOUND))
    )
    assert judged(given_, members).until == NOW
    text = refusal(given_, members, now=NOW + timedelta(seconds=1))
    assert f"was good until 2026-05-04 12:00:00 UTC; {who[0]} must sign again" in text


@pytest.mark.parametrize("who", [AUTHOR, PRIVATE, SOUND])
def test_a_key_is_good_until_its_last_moment(who: tuple[str, str], members: MemberList):
    officers = [
        Officer(**{**dict(each), "expires": NOW}) if each.name == who[0] else each
        for each in members.officers
    ]
    short = with_officers(members, officers)
    assert judged(complete(), short)
    assert f"the key of officer {who[0]} was good until" in refusal(
        complete(), short, now=NOW + timedelta(seconds=1)
    )


@pytest.mark.parametrize("days", [1, 30, 366])
def test_no_statement_is_good_for_longer_than_every_rule_admits(days: int, members: MemberList):
    rules = (ApprovalRule(valid_for=366 * 86400), ApprovalRule(valid_for=days * 86400))
    latest = NOW + timedelta(days=days)
    assert judged(complete(expires=latest), members, *rules)
    text = refusal(complete(expires=latest + timedelta(hours=1)), members, *rules)
    assert f"`approvals.valid_for` admits {days} days from now" in text


def test_a_run_that_has_begun_outlives_its_approvals_and_nothing_else(members: MemberList):
    past = complete(expires=NOW - timedelta(days=1))
    assert "was good until" in refusal(past, members)
    assert judged(past, members, now=None)
    left = with_officers(members, (each for each in members.officers if each.name != "privacy-1"))
    assert "privacy-1 is no officer" in refusal(past, left, now=None)
    assert "is not signed" in refusal(past.adding(said("privacy-2", PRIVACY, key="x")), members, now=None)


# --- the document


def test_an_officers_new_statement_takes_the_place_of_the_old():
    before = evidence(said(*AUTHOR), said("privacy-2", PRIVACY))
    after = before.adding(said("privacy-2", RISK))
    assert [(each.officer, each.role) for each in after.statements] == [
        ("author-1", Role.ML_ENGINEER),
        ("privacy-2", RISK),
    ]
    assert len(before.statements) == 2


def test_the_same_statements_make_the_same_evidence():
    statements = complete().statements
    assert evidence(*reversed(statements)).canonical == evidence(*statements).canonical


def test_an_author_does_not_approve_and_there_is_one():
    by = evidence(said("author-2", "author"))
    with pytest.raises(UsageError, match="author-2 is the plan's author; somebody else must approve it"):
        by.adding(said("author-2", RISK))
    with pytest.raises(UsageError, match="author-1 and author-2 both are the author; a plan has one"):
        by.adding(said(*AUTHOR))


@pytest.mark.parametrize(
    ("two", "why"),
    [
        (
            (("author-2", "author"), ("author-2", RISK)),
            "author-2 is the author and approves; somebody else must approve",
        ),
        ((("privacy-2", PRIVACY), ("privacy-2", RISK)), "privacy-2 makes two statements"),
        ((("author-1", "author"), ("author-2", "author")), "a plan has one"),
    ],
)
def test_evidence_in_which_somebody_counts_twice_is_refused_on_arrival(
    two: tuple[tuple[str, str], ...], why: str
):
    body = {
        "covenant": "plan-evidence/v1",
        "statements": [json.loads(said(*each).canonical) for each in two],
    }
    with pytest.raises(Refused, match=why):
        PlanEvidence.from_canonical(canonical_json(body))


def test_evidence_is_bounded():
    body = json.loads(said(*PRIVATE).canonical)
    many = [{**body, "officer": f"officer-{number:02}"} for number in range(MOST_STATEMENTS + 1)]
    with pytest.raises(Refused, match="at most 50"):
        PlanEvidence.from_canonical(canonical_json({"covenant": "plan-evidence/v1", "statements": many}))


@pytest.mark.parametrize(
    ("act", "role"), [("author", PRIVACY), ("approve", "ml_engineer"), ("approve", "admin")]
)
def test_a_plan_is_written_and_approved_in_fitting_roles(act: str, role: str):
    body = {**json.loads(said(*PRIVATE).canonical), "act": act, "role": role}
    with pytest.raises(Refused, match=r"a plan is (written|approved) as"):
        PlanStatement.from_canonical(canonical_json(body))


def test_what_was_said_before_a_change_is_told_apart():
    now = plan_of(changed(PLAN, "rounds: 20", "rounds: 21"))
    mixed = evidence(said(*AUTHOR, now), said(*PRIVATE), said(*SOUND, now))
    kept = mixed.about(now.digest, contract_of().digest)
    assert [each.officer for each in kept.statements] == ["author-1", "risk-1"]
