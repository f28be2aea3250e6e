"""Access requests: signed with the officer's own key, bounded, judged by the newest list; and how the auditor judges what officers did."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from protos.access import AccessRequest
from protos.approvals import approve
from protos.keys import create_node_key
from protos.log_office import AccessGranted, CallDenied, OfficeEvent, PlanApproved, PlanProposed, judge_office
from protos.membership import Member, MemberList, Officer, Role, Trusted
from strategies.errors import Refused, UsageError
from strategies.ids import SiteName
from tests.coordinator.api_for_tests import approval, authored, plan_of
from tests.trust_for_tests import key_of, officers

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
LATER = NOW + timedelta(days=800)


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> str:
    return create_node_key(tmp_path_factory.mktemp("tls") / "tls.key")


@pytest.fixture(scope="module")
def listed(tls: str) -> MemberList:
    people = (
        Officer(name="author-1", roles=(Role.ML_ENGINEER,), key=key_of("author-1").public, expires=LATER),
        Officer(
            name="privacy-1", roles=(Role.PRIVACY_OFFICER,), key=key_of("privacy-1").public, expires=LATER
        ),
    )
    site = Member(site=SiteName("west"), identity_key=key_of("west").public, node_key=tls)
    return MemberList(name="demo", version=1, members=(site,), officers=people)


def made(
    tls: str, *, name: str = "author-1", key: str = "author-1", days: float = 30, federation: str = "demo"
):
    return AccessRequest.create(federation, name, tls, key_of(key), until=NOW + timedelta(days=days))


def test_a_request_is_good_by_the_officers_own_key(tls: str, listed: MemberList) -> None:
    request = made(tls)
    assert request.judge(listed, NOW).name == "author-1"
    assert AccessRequest.from_canonical(request.canonical) == request
    request.require_bounded(listed.officer("author-1"), NOW)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"name": "stranger", "key": "stranger"}, "stranger is no officer"),
        ({"key": "stranger"}, "is not signed with the key of author-1"),
        ({"name": "privacy-1"}, "is not signed with the key of privacy-1"),
        ({"federation": "other"}, "is for federation other"),
        ({"days": -1}, "was good until"),
    ],
)
def test_any_other_request_is_refused(changed: dict, words: str, tls: str, listed: MemberList) -> None:
    with pytest.raises(Refused, match=words):
        made(tls, **changed).judge(listed, NOW)


def test_one_changed_value_is_another_request(tls: str, listed: MemberList) -> None:
    changed = made(tls).model_copy(update={"until": NOW + timedelta(days=60)})
    with pytest.raises(Refused, match="is not signed with the key"):
        changed.judge(listed, NOW)


def test_a_request_is_for_ninety_days_and_no_longer_than_the_key(tls: str, listed: MemberList) -> None:
    officer = listed.officer("author-1")
    with pytest.raises(Refused, match="at most 90 days"):
        made(tls, days=91).require_bounded(officer, NOW)
    short = officer.model_copy(update={"expires": NOW + timedelta(days=10)})
    with pytest.raises(Refused, match="at most 90 days are given, and none beyond"):
        made(tls, days=30).require_bounded(short, NOW)


def test_only_a_key_that_tls_can_use(tls: str) -> None:
    with pytest.raises(UsageError):
        made(key_of("author-1").public)


# --- what the auditor believes

WHAT = plan_of()


@pytest.fixture(scope="module")
def trusted(listed: MemberList) -> Trusted:
    return officers().sign(listed).verify(officers().pinned)


def told(tls: str) -> dict[str, OfficeEvent]:
    return {
        "access": AccessGranted(request=made(tls)),
        "proposed": PlanProposed(plan="lending-default", statement=authored(WHAT)),
        "approved": PlanApproved(plan="lending-default", statement=approval(WHAT, "privacy-1", Role.PRIVACY_OFFICER)),
        "denied": CallDenied(officer="author-1", method="a.b/C", reason="no"),
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["access", "proposed", "approved", "denied"])
def test_the_auditor_believes_what_officers_signed(kind: str, tls: str, trusted: Trusted) -> None:
    judge_office(told(tls)[kind], trusted, NOW if kind == "access" else datetime.now(UTC))


def _by_another_key(tls: str) -> OfficeEvent:
    return PlanApproved(plan="p", statement=approval(WHAT, "privacy-1", Role.PRIVACY_OFFICER, key="stranger"))


def _without_the_role(tls: str) -> OfficeEvent:
    return PlanApproved(plan="p", statement=approval(WHAT, "privacy-1", Role.MODEL_RISK))


def _by_nobody(tls: str) -> OfficeEvent:
    return PlanProposed(plan="p", statement=authored(WHAT, "stranger"))


def _an_approval_as_a_proposal(tls: str) -> OfficeEvent:
    return PlanProposed(plan="p", statement=approval(WHAT, "privacy-1", Role.PRIVACY_OFFICER))


def _of_another_federation(tls: str) -> OfficeEvent:
    until = datetime.now(UTC).replace(microsecond=0) + timedelta(days=7)
    key = key_of("privacy-1")
    said = approve(
        WHAT.plan, WHAT.contract, "privacy-1", Role.PRIVACY_OFFICER, key, federation="0" * 64, expires=until
    )
    return PlanApproved(plan="p", statement=said)


def _forged_access(tls: str) -> OfficeEvent:
    return AccessGranted(request=made(tls, key="stranger"))


def _endless_access(tls: str) -> OfficeEvent:
    return AccessGranted(request=made(tls, days=400))


@pytest.mark.parametrize(
    ("lie", "words"),
    [
        (_by_another_key, "is not signed with the key of privacy-1"),
        (_without_the_role, "does not count"),
        (_by_nobody, "stranger is no officer"),
        (_an_approval_as_a_proposal, "is told as proposed"),
        (_of_another_federation, "counts in no other"),
        (_forged_access, "is not signed with the key of author-1"),
        (_endless_access, "at most 90 days"),
    ],
)
def test_the_auditor_refuses_what_they_did_not(
    lie: Callable[[str], OfficeEvent], words: str, tls: str, trusted: Trusted
) -> None:
    with pytest.raises(Refused, match=words):
        judge_office(lie(tls), trusted, NOW)


def test_nobody_acts_before_there_is_a_list(tls: str) -> None:
    with pytest.raises(Refused, match="before there is a member list"):
        judge_office(told(tls)["approved"], None, NOW)
