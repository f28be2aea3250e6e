"""Decisions on ceilings: who may make them, when, where, and what they say."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from protos.ceilings import GOOD_FOR, CeilingDecision, SignedCeiling
from protos.documents import DocumentError, make_document
from protos.membership import MemberList, Officer, Role, Trusted
from protos.root import Root
from strategies.dp.filters import Ceiling
from strategies.dp.units import PrivacyUnit, UnitKind
from strategies.errors import Refused
from tests.ceilings_for_tests import site_of
from tests.trust_for_tests import FAR, key_of, officers, root_of

AT = datetime(2026, 5, 4, 12, tzinfo=UTC)
ROOT = officers().newest
CEILING = Ceiling.fixed(epsilon=8.0, delta=1e-6, unit=PrivacyUnit(kind=UnitKind.RECORD))
PEOPLE = {"privacy-1": Role.PRIVACY_OFFICER, "privacy-2": Role.PRIVACY_OFFICER, "risk-1": Role.MODEL_RISK}


def trusted(root: Root = ROOT, expires: datetime = FAR) -> Trusted:
    people = tuple(
        Officer(name=name, roles=(role,), key=key_of(name).public, expires=expires)
        for name, role in PEOPLE.items()
    )
    members = MemberList(name="demo", version=1, members=(site_of("north"),), officers=people)
    return Trusted(root, members, members.digest, (root.digest,))


def decision(**changes: Any) -> CeilingDecision:
    facts = {
        "federation": ROOT.identity,
        "site": "north",
        "population": "loans",
        "number": 1,
        "ceiling": CEILING.facts(),
        "reason": "as the board decided",
        "at": AT,
    }
    return make_document(CeilingDecision, "the decision", **{**facts, **changes})


def signed(*names: str, **changes: Any) -> SignedCeiling:
    found = SignedCeiling(decision=decision(**changes))
    for name in names:
        found = found.signed_with(name, key_of(name))
    return SignedCeiling.from_canonical(found.canonical)


def refusal(given: SignedCeiling, by: Trusted | None = None, now: datetime = AT) -> str:
    with pytest.raises(Refused) as refused:
        given.require(by or trusted(), now)
    return str(refused.value)


def test_a_decision_that_privacy_officers_signed_counts_in_whatever_order_they_did() -> None:
    one, other = signed("privacy-1", "privacy-2"), signed("privacy-2", "privacy-1")
    assert one == other
    decided = one.require(trusted(), AT)
    assert decided.officers == ("privacy-1", "privacy-2")
    assert decided.decision.terms == CEILING


def test_who_signs_again_counts_once() -> None:
    assert signed("privacy-1", "privacy-1").require(trusted(), AT).officers == ("privacy-1",)


def test_nobody_but_privacy_officers_on_the_list_decides() -> None:
    assert "nobody has signed decision 1 on north/loans" in refusal(signed())
    assert "risk-1 is model_risk, not privacy_officer" in refusal(signed("privacy-1", "risk-1"))
    assert "stranger is no officer on member list demo@1" in refusal(signed("privacy-1", "stranger"))
    assert "was good until" in refusal(signed("privacy-1"), trusted(expires=AT - timedelta(days=1)))


def test_a_decision_counts_in_its_federation_only() -> None:
    other = trusted(root_of("impostor-1", "impostor-2"))
    assert "counts in no other" in refusal(signed("privacy-1"), other)
    later = trusted(officers().rotated("elm", "fir").newest)
    assert signed("privacy-1").require(later, AT).officers == ("privacy-1",)


def test_a_decision_that_was_on_its_way_for_long_or_is_of_a_time_to_come_is_none() -> None:
    given = signed("privacy-1")
    given.require(trusted(), AT + GOOD_FOR)
    given.require(trusted(), AT - timedelta(minutes=4))
    for now in (AT + GOOD_FOR + timedelta(seconds=1), AT - timedelta(minutes=6)):
        assert "is not within 30 days of it" in refusal(given, now=now)


@pytest.mark.parametrize(
    "change",
    [
        {"site": "south"},
        {"population": "cards"},
        {"number": 2},
        {"ceiling": Ceiling.fixed(epsilon=9.0, delta=1e-6, unit=CEILING.unit).facts()},
        {"alert_at": (0.5,)},
        {"overlaps": ("south",)},
        {"reason": "another"},
        {"at": AT + timedelta(seconds=1)},
    ],
    ids=lambda each: next(iter(each)),
)
def test_whatever_is_changed_nobody_has_signed_it(change: dict[str, Any]) -> None:
    moved = SignedCeiling(decision=decision(**change), statements=signed("privacy-1").statements)
    assert "is not signed with the key of privacy-1" in refusal(moved)


@pytest.mark.parametrize(
    "change",
    [
        {"number": 0},
        {"alert_at": (0.0,)},
        {"alert_at": (1.5,)},
        {"alert_at": (float("nan"),)},
        {"overlaps": ("north",)},
        {"overlaps": ("south", "south")},
        {"reason": ""},
        {"reason": "two\nlines"},
        {"ceiling": {**CEILING.facts(), "epsilon": -1.0}},
        {"ceiling": {}},
        {"population": "Retail Loans"},
        {"federation": "demo"},
    ],
)
def test_a_decision_that_means_nothing_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(DocumentError):
        decision(**change)
