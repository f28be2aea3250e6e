"""Approvals of models judged with nothing but the statements and the member list: who counts, for what, and until when."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from protos.documents import DocumentError
from protos.membership import Member, MemberList, Officer, Role, Trusted
from protos.model_approvals import (
    ModelStatement,
    Subject,
    approve_model,
    counting,
    lacking_for,
    require_covered,
    require_new,
    until,
    verify_approvals,
)
from strategies.errors import Refused, UsageError
from strategies.ids import Digest
from tests.ceilings_for_tests import site_of
from tests.trust_for_tests import FAR, impostors, key_of, officers

AT = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
ABOUT = Subject(
    name="lending-default",
    version=3,
    digest=Digest("ab" * 32),
    on=Digest("cd" * 32),
    author="author-1",
)
PEOPLE = {
    "privacy-1": (Role.PRIVACY_OFFICER,),
    "risk-1": (Role.MODEL_RISK,),
    "both-1": (Role.PRIVACY_OFFICER, Role.MODEL_RISK),
    "author-1": (Role.ML_ENGINEER, Role.MODEL_RISK),
    "engineer-1": (Role.ML_ENGINEER,),
}


def trusted(**expiring: datetime) -> Trusted:
    people = tuple(
        Officer(
            name=name, roles=roles, key=key_of(name).public, expires=expiring.get(name.replace("-", "_"), FAR)
        )
        for name, roles in PEOPLE.items()
    )
    sites: tuple[Member, ...] = (site_of("north"),)
    listed = MemberList(name="demo", version=1, members=sites, officers=people)
    return officers().sign(listed).verify(officers().pinned)


def said(
    name: str, role: Role, about: Subject = ABOUT, key: str | None = None, days: float = 30, **changes: Any
) -> ModelStatement:
    facts = {"federation": officers().pinned.root.identity, "at": AT, "expires": AT + timedelta(days=days)}
    return approve_model(about, name, role, key_of(key or name), **{**facts, **changes})


PRIVACY = said("privacy-1", Role.PRIVACY_OFFICER)
RISK = said("risk-1", Role.MODEL_RISK)


def test_one_officer_of_each_role_approves() -> None:
    found = verify_approvals([RISK, PRIVACY], trusted(), AT, ABOUT)
    assert found.approved_by == (("privacy-1", Role.PRIVACY_OFFICER), ("risk-1", Role.MODEL_RISK))
    assert (found.subject, found.until) == (ABOUT, AT + timedelta(days=30))


def test_without_a_subject_the_statements_say_what_they_are_about() -> None:
    assert verify_approvals([RISK, PRIVACY], trusted(), AT).subject == ABOUT


BAD: dict[str, tuple[list[ModelStatement], str]] = {
    "nobody": ([], "nobody has approved this model"),
    "one role": ([PRIVACY], "0 of the 1 approvals as model_risk"),
    "one person in both roles": (
        [said("both-1", Role.PRIVACY_OFFICER), said("both-1", Role.MODEL_RISK)],
        "both-1 makes two statements",
    ),
    "the same statement twice": ([PRIVACY, PRIVACY], "privacy-1 makes two statements"),
    "a role that the officer has not": (
        [said("risk-1", Role.PRIVACY_OFFICER), said("both-1", Role.MODEL_RISK)],
        "risk-1 is model_risk, not privacy_officer",
    ),
    "another's key": (
        [PRIVACY, said("risk-1", Role.MODEL_RISK, key="stranger")],
        "is not signed with the key",
    ),
    "nobody on the list": ([PRIVACY, said("stranger", Role.MODEL_RISK)], "stranger is no officer"),
    "one of them about another version": (
        [PRIVACY, said("risk-1", Role.MODEL_RISK, replace(ABOUT, version=2))],
        "is about lending-default@2",
    ),
    "one of them about other files": (
        [PRIVACY, said("risk-1", Role.MODEL_RISK, replace(ABOUT, digest=Digest("00" * 32)))],
        "is about the files 000000000000, and these are abababababab",
    ),
    "one of them on another verdict": (
        [PRIVACY, said("risk-1", Role.MODEL_RISK, replace(ABOUT, on=Digest("00" * 32)))],
        "was given on 000000000000",
    ),
    "one of them with another author": (
        [PRIVACY, said("author-1", Role.MODEL_RISK, replace(ABOUT, author="engineer-1"))],
        "names engineer-1 as the plan's author, who is author-1",
    ),
    "of another federation": (
        [PRIVACY, said("risk-1", Role.MODEL_RISK, federation=impostors().pinned.root.identity)],
        "is for the federation with root",
    ),
    "expired": (
        [PRIVACY, said("risk-1", Role.MODEL_RISK, at=AT - timedelta(days=9), days=-1)],
        "was good until",
    ),
    "from the future": (
        [PRIVACY, said("risk-1", Role.MODEL_RISK, at=AT + timedelta(hours=1))],
        "which is to come",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_does_not_count_refuses_all(case: str) -> None:
    statements, reason = BAD[case]
    with pytest.raises(Refused, match=reason):
        verify_approvals(statements, trusted(), AT)


def test_a_statement_that_was_changed_is_not_signed() -> None:
    changed = RISK.model_copy(update={"expires": FAR})
    with pytest.raises(Refused, match="statement or key was changed"):
        verify_approvals([PRIVACY, changed], trusted(), AT)


def test_an_officer_whose_key_is_over_says_nothing() -> None:
    with pytest.raises(Refused, match="the key of officer risk-1 was good until"):
        verify_approvals([PRIVACY, RISK], trusted(risk_1=AT - timedelta(days=1)), AT)


LATER = AT + timedelta(days=31)
LONGER = said("privacy-1", Role.PRIVACY_OFFICER, days=60)


def test_of_each_officer_the_last_statement_that_holds_counts() -> None:
    others = [
        said("risk-1", Role.MODEL_RISK, replace(ABOUT, on=Digest("00" * 32)), days=90),
        said("stranger", Role.MODEL_RISK, days=90),
        said("risk-1", Role.MODEL_RISK, key="stranger", days=90),
    ]
    assert counting([PRIVACY, RISK, *others, LONGER], ABOUT, trusted(), AT) == (LONGER, RISK)
    assert counting([PRIVACY, RISK, LONGER], ABOUT, trusted(), LATER) == (LONGER,)
    assert counting([PRIVACY, RISK, LONGER], ABOUT, trusted(privacy_1=AT), LATER) == ()
    # Signed with a key that is no longer on the list, which takes nothing from the one that holds.
    assert counting(
        [PRIVACY, said("privacy-1", Role.PRIVACY_OFFICER, key="old", days=60)], ABOUT, trusted(), AT
    ) == (PRIVACY,)


@pytest.mark.parametrize(
    "again",
    [
        PRIVACY,
        said("privacy-1", Role.PRIVACY_OFFICER, days=29),
        said("privacy-1", Role.PRIVACY_OFFICER, at=AT - timedelta(days=1), days=30),
        said("privacy-1", Role.MODEL_RISK, days=60),
    ],
)
def test_an_officer_who_counts_says_more_only_for_longer_and_in_the_same_role(again: ModelStatement) -> None:
    with pytest.raises(
        Refused, match="privacy-1 has approved lending-default@3 already, as privacy_officer until"
    ):
        require_new(again, [PRIVACY, RISK])
    require_new(again, [RISK])
    require_new(LONGER, [PRIVACY, RISK])


def test_approvals_last_as_long_as_enough_of_them_do() -> None:
    short, long = said("both-1", Role.MODEL_RISK, days=2), said("risk-1", Role.MODEL_RISK, days=40)
    approved = verify_approvals([LONGER, short, long], trusted(), AT)
    assert approved.until == AT + timedelta(days=40)
    require_covered("release 1", approved.until, approved)
    with pytest.raises(Refused, match=r"release 1 is good until 2027-.*approved anew, then released anew"):
        require_covered("release 1", approved.until + timedelta(seconds=1), approved)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: said("author-1", Role.MODEL_RISK), "author-1 wrote the plan"),
        (lambda: said("engineer-1", Role.ML_ENGINEER), "a model is approved as"),
        (lambda: said("risk-1", Role.MODEL_RISK, days=366), "by at most 365 days"),
        (lambda: said("risk-1", Role.MODEL_RISK, days=0), "it must be after the signature"),
    ],
)
def test_some_statements_cannot_be_made(make: Any, reason: str) -> None:
    with pytest.raises(DocumentError, match=reason):
        make()


def test_who_is_missing_is_named_and_the_author_is_not() -> None:
    (lack,) = lacking_for([PRIVACY], trusted())
    assert (lack.role, lack.could) == (Role.MODEL_RISK, ("both-1", "risk-1"))
    assert [each.could for each in lacking_for([], trusted(), "author-1")] == [
        ("both-1", "privacy-1"),
        ("both-1", "risk-1"),
    ]


def test_an_approval_is_good_for_a_year_at_most() -> None:
    assert until(AT, None) == AT + timedelta(days=365)
    with pytest.raises(UsageError, match="at most a year; name a day until 2027-11-23"):
        until(AT, AT + timedelta(days=366))


def test_a_statement_travels_as_canonical_bytes() -> None:
    assert ModelStatement.from_canonical(RISK.canonical) == RISK
    with pytest.raises(Refused):
        ModelStatement.from_canonical(RISK.canonical.replace(b'"version":3', b'"version":3.0'))
