"""Plans at the centre: proposed by their author, approved by officers who race, and launched by digest."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from protos.log_office import CallDenied, PlanApproved
from protos.membership import Role
from strategies.errors import Refused, UsageError
from tests.coordinator.api_for_tests import Bank, approval, approved, authored, plan_of, serving

PRIVACY, RISK = Role.PRIVACY_OFFICER, Role.MODEL_RISK


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def bank(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bank]:
    url = None if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    yield from serving(tmp_path / "bank", database_url=url)


@pytest.fixture
def quick(tmp_path: Path) -> Iterator[Bank]:
    """On SQLite only."""
    yield from serving(tmp_path / "bank")


def test_a_plan_is_proposed_approved_and_launched_by_its_digest(quick: Bank) -> None:
    what = plan_of()
    standing = quick.desk("author-1").propose(what, authored(what))
    assert (standing.digest, standing.author, standing.approved) == (what.plan.digest, "author-1", False)
    assert [(each.role, each.could) for each in standing.missing] == [
        ("privacy_officer", ("privacy-1", "privacy-2")),
        ("model_risk", ("author-2", "risk-1")),
    ]
    with pytest.raises(Refused, match="has 0 of the 1 approvals as privacy_officer"):
        quick.desk("author-1").launch_proposed(what.plan.digest, "")
    quick.desk("privacy-1").approve(approval(what, "privacy-1", PRIVACY))
    assert quick.desk("risk-1").approve(approval(what, "risk-1", RISK)).approved
    found, standing = quick.desk("auditor-1").plan(what.plan.digest[:12], "")
    assert (found.plan, found.contract, standing.approved) == (what.plan, what.contract, True)
    assert [each.officer for each in found.evidence.statements] == ["author-1", "privacy-1", "risk-1"]
    run = quick.desk("author-2").launch_proposed(what.plan.digest[:12], what.contract.digest)
    assert quick.transport.started == [run]
    kinds = [each.kind for each in quick.told() if each.kind not in {"access", "ceiling"}]
    assert kinds == ["members", "proposed", "denied", "approved", "approved", "plan", "launch"]
    assert quick.audited().runs[run].approved.author == "author-1"


def test_two_officers_who_race_both_count(bank: Bank) -> None:
    what = plan_of()
    bank.desk("author-1").propose(what, authored(what))
    said = [
        approval(what, "privacy-1", PRIVACY),
        approval(what, "privacy-2", PRIVACY),
        approval(what, "risk-1", RISK),
    ] * 3
    desks = [bank.desk(each.officer) for each in said]
    with ThreadPoolExecutor(len(said)) as pool:
        list(pool.map(lambda pair: pair[0].approve(pair[1]), zip(desks, said, strict=True)))
    _, standing = bank.desk("auditor-1").plan(what.plan.digest, "")
    assert [each.officer for each in standing.approvals] == ["privacy-1", "privacy-2", "risk-1"]
    assert standing.approved
    told = [each.statement.officer for each in bank.told("approved") if isinstance(each, PlanApproved)]
    assert sorted(told) == ["privacy-1", "privacy-2", "risk-1"]
    bank.audited()


def test_a_plan_that_was_changed_is_another_plan(quick: Bank) -> None:
    what, changed = plan_of(), plan_of(seed=2)
    quick.desk("author-1").propose(what, authored(what))
    quick.desk("privacy-1").approve(approval(what, "privacy-1", PRIVACY))
    with pytest.raises(Refused, match="a plan with one changed value is another plan"):
        quick.desk("risk-1").approve(approval(changed, "risk-1", RISK))
    standing = quick.desk("author-1").propose(changed, authored(changed))
    assert (standing.approvals, standing.approved) == ((), False)
    with pytest.raises(Refused, match="is about plan"):
        quick.desk("author-1").launch(
            type(what)(plan=changed.plan, contract=changed.contract, evidence=approved(what).evidence)
        )
    assert [each.digest for each in quick.desk("auditor-1").plans()] == [
        changed.plan.digest,
        what.plan.digest,
    ]


def test_the_author_does_not_approve(quick: Bank) -> None:
    what = plan_of()
    quick.desk("author-2").propose(what, authored(what, "author-2"))
    with pytest.raises(Refused, match="author-2 is the plan's author; somebody else must approve it"):
        quick.desk("author-2").approve(approval(what, "author-2", RISK))
    assert quick.desk("auditor-1").plan(what.plan.digest, "")[1].author == "author-2"
    (told,) = quick.told("denied")
    assert isinstance(told, CallDenied)
    assert told.officer == "author-2"


def test_only_the_officer_hands_in_what_the_officer_signed(quick: Bank) -> None:
    what = plan_of()
    with pytest.raises(Refused, match="is by author-1, and author-2 hands it in"):
        quick.desk("author-2").propose(what, authored(what))
    quick.desk("author-1").propose(what, authored(what))
    with pytest.raises(Refused, match="is by privacy-1, and privacy-2 hands it in"):
        quick.desk("privacy-2").approve(approval(what, "privacy-1", PRIVACY))
    with pytest.raises(Refused, match="is not signed with the key of privacy-1"):
        quick.desk("privacy-1").approve(approval(what, "privacy-1", PRIVACY, key="stranger"))
    with pytest.raises(Refused, match="privacy-1 is privacy_officer, and an approval as model_risk takes"):
        quick.desk("privacy-1").approve(approval(what, "privacy-1", RISK))
    assert quick.told("approved") == []


def test_what_is_proposed_fits_the_list(quick: Bank) -> None:
    what = plan_of(members="demo@7")
    with pytest.raises(Refused, match="is for member list demo@7"):
        quick.desk("author-1").propose(what, authored(what))
    with pytest.raises(UsageError, match=r"no plan .* was proposed here"):
        quick.desk("author-1").plan(what.plan.digest, "")
    for text in ("", "abc", "x" * 64, "%" * 12, "a" * 65):
        with pytest.raises(UsageError, match="names no plan"):
            quick.desk("author-1").plan(text, "")


def test_an_approval_by_somebody_whose_key_is_over_does_not_launch(quick: Bank) -> None:
    what = plan_of()
    quick.desk("author-1").propose(what, authored(what))
    quick.desk("privacy-1").approve(approval(what, "privacy-1", PRIVACY))
    quick.desk("risk-1").approve(approval(what, "risk-1", RISK))
    quick.expiring("privacy-1", datetime.now(UTC) - timedelta(seconds=1))
    with pytest.raises(Refused, match="member list demo@1, but this is demo@2"):
        quick.desk("author-1").launch_proposed(what.plan.digest, "")
    assert quick.transport.started == []


def test_proposing_and_approving_again_changes_nothing(quick: Bank) -> None:
    what, said = plan_of(), authored(plan_of())
    for _ in range(3):
        quick.desk("author-1").propose(what, said)
    once = approval(what, "risk-1", RISK)
    standings = [quick.desk("risk-1").approve(once) for _ in range(3)]
    assert len({each.until for each in standings}) == 1
    assert (len(quick.told("proposed")), len(quick.told("approved"))) == (1, 1)
