"""A site checks by itself, and by its own clock, who stands behind a plan, before it touches its data."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from client.participant import Participant
from protos.approval_rule import ApprovalRule
from protos.approvals import PlanEvidence, approve, author
from protos.codec import decode_reply, encode_request
from protos.frames import Body, Moments, Refusal, RefusalCode, Stage, Update
from protos.membership import MemberList, Membership, Officer, Role
from protos.plan import Plan
from strategies.encoding import canonical_json
from strategies.features import Scaling
from strategies.ids import RunId
from tests.bank_for_tests import RUN, Bank, make_bank
from tests.client.loans_for_tests import CONTRACT
from tests.client.loans_for_tests import plan as plan_of
from tests.client.secure_for_tests import SITES, VICTIM, SecureBank, Sum, secure_bank, secure_plan
from tests.trust_for_tests import FAR, key_of, officers

NOW = datetime(2026, 5, 4, 12, tzinfo=UTC)
SOON = NOW + timedelta(days=20)
ROOT = officers().newest.identity
NOBODY = "approvals: {privacy_officer: 0, model_risk: 0}"
OTHER_RUN = RunId("run-eeeeeeeeeeeeeeee")
PEOPLE = {"author-1": Role.ML_ENGINEER, "privacy-1": Role.PRIVACY_OFFICER, "risk-1": Role.MODEL_RISK}


def asking(rule: ApprovalRule | None = None, **training: object) -> Plan:
    """The plan of these tests, which asks for one of each role if it says nothing."""
    return plan_of(**training).model_copy(update={"approvals": rule})


def said(plan: Plan, *names: str, expires: datetime = SOON) -> PlanEvidence:
    """What `names`, or all who must, say about `plan`."""
    statements = tuple(
        author(plan, CONTRACT, name, key_of(name), federation=ROOT, expires=expires)
        if PEOPLE[name] is Role.ML_ENGINEER
        else approve(plan, CONTRACT, name, PEOPLE[name], key_of(name), federation=ROOT, expires=expires)
        for name in names or PEOPLE
    )
    return PlanEvidence(statements=statements)


class Site:
    """West, which asks for one of each role because it says nothing else, and its clock."""

    def __init__(self, folder: Path) -> None:
        self.bank: Bank = make_bank(folder)
        self.now = NOW
        self.bank.clock = lambda: self.now
        self.bank.members = with_officers(self.bank.members)
        self.bank.edit("west", NOBODY, "")
        self.participant = self.restart()

    def restart(self) -> Participant:
        self.participant = self.bank.participant("west")
        self.participant.trust.clock = self.participant.answers.clock = lambda: self.now
        return self.participant

    def body(
        self,
        plan: Plan,
        evidence: PlanEvidence | bytes,
        stage: Stage = Stage.PREPARE,
        number: int = 0,
        *,
        run: RunId = RUN,
        members: Membership | None = None,
    ) -> Body:
        """What the site answers."""
        sent = evidence if isinstance(evidence, bytes) else evidence.canonical
        asked = self.bank.request(
            plan,
            stage,
            members=members,
            number=number,
            model=None if stage is Stage.PREPARE else np.zeros(7),
            scaling=None if stage is Stage.PREPARE else Scaling(mean=(0.5, 0.5), std=(0.3, 0.3)),
            evidence=sent,
            run=run,
        )
        return decode_reply(self.participant.answer(encode_request(asked))).body

    def refusal(self, *args, **kwargs) -> str:
        """The reason of a refusal because of a signature; nothing was loaded and nothing recorded for it."""
        loaded = len(self.participant._sessions)
        body = self.body(*args, **kwargs)
        assert isinstance(body, Refusal)
        assert body.code is RefusalCode.SIGNATURE
        assert len(self.participant._sessions) == loaded
        return body.reason


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.participant.close()


def test_an_approved_plan_is_computed(site: Site) -> None:
    assert isinstance(site.body(asking(), said(asking())), Moments)


def test_a_site_that_says_nothing_asks_for_one_of_each_role(site: Site) -> None:
    lenient = asking(ApprovalRule(privacy_officer=0, model_risk=0))
    assert "nobody has signed plan default" in site.refusal(lenient, b"")
    assert "0 of the 1 approvals as model_risk" in site.refusal(
        lenient, said(lenient, "author-1", "privacy-1")
    )
    assert isinstance(site.body(lenient, said(lenient), run=OTHER_RUN), Moments)


def test_where_neither_plan_nor_site_asks_no_evidence_is_needed(site: Site) -> None:
    site.bank.edit("west", "{modes: [plain]}\n", f"{{modes: [plain]}}\n      {NOBODY}\n")
    site.restart()
    lenient = asking(ApprovalRule(privacy_officer=0, model_risk=0))
    assert isinstance(site.body(lenient, b""), Moments)
    assert "nobody has signed plan" in site.refusal(asking(rounds=4), b"", run=OTHER_RUN)


@pytest.mark.parametrize("left_out", PEOPLE)
def test_a_plan_that_lacks_somebody_is_refused(left_out: str, site: Site) -> None:
    others = [name for name in PEOPLE if name != left_out]
    assert site.refusal(asking(), said(asking(), *others))


def test_the_evidence_of_another_plan_is_refused(site: Site) -> None:
    other = asking(rounds=4)
    reason = site.refusal(asking(), said(other))
    assert f"is about plan {other.digest[:12]}, and this is {asking().digest[:12]}" in reason


def test_evidence_of_a_stranger_and_in_another_form_is_refused(site: Site) -> None:
    forged = approve(
        asking(),
        CONTRACT,
        "privacy-1",
        Role.PRIVACY_OFFICER,
        key_of("stranger"),
        federation=ROOT,
        expires=SOON,
    )
    assert "privacy-1's approval as privacy_officer is not signed" in site.refusal(
        asking(), said(asking()).adding(forged)
    )
    assert "canonical form" in site.refusal(asking(), said(asking()).canonical + b"\n")
    body = said(asking(), "author-1").model_dump(mode="json")
    again = approve(
        asking(),
        CONTRACT,
        "author-1",
        Role.PRIVACY_OFFICER,
        key_of("author-1"),
        federation=ROOT,
        expires=SOON,
    )
    body["statements"].append(again.model_dump(mode="json"))
    assert "author-1 is the author and approves" in site.refusal(asking(), canonical_json(body))


def test_what_was_accepted_with_one_evidence_is_judged_again_with_another(site: Site) -> None:
    assert isinstance(site.body(asking(), said(asking())), Moments)
    assert "0 of the 1" in site.refusal(asking(), said(asking(), "author-1", "risk-1"), run=OTHER_RUN)
    assert "nobody has signed" in site.refusal(asking(), b"", run=OTHER_RUN)


def test_the_approval_of_an_officer_who_was_taken_off_the_list_is_refused(site: Site) -> None:
    listed = site.bank.members.signed.list
    newer = site.bank.officers.sign(listed.without(["privacy-1"], None))
    sites = asking().sites.model_copy(update={"members": "demo@2"})
    plan = asking().model_copy(update={"sites": sites})
    assert "privacy-1 is no officer on member list demo@2" in site.refusal(plan, said(plan), members=newer)


@pytest.mark.parametrize("restarted", [False, True])
def test_a_run_that_has_begun_outlives_its_approvals_and_no_other_begins(site: Site, restarted: bool) -> None:
    plan, evidence = asking(), said(asking())
    assert isinstance(site.body(plan, evidence, Stage.TRAIN, 1), Update)
    site.now = SOON + timedelta(seconds=1)
    if restarted:
        site.restart()
    assert isinstance(site.body(plan, evidence, Stage.TRAIN, 2), Update)
    assert "was good until" in site.refusal(plan, evidence, run=OTHER_RUN)
    # Nor does another plan begin under the name of the run that has.
    other = asking(rounds=4)
    assert "was good until" in site.refusal(other, said(other), Stage.TRAIN, 3)


@pytest.mark.parametrize("restarted", [False, True])
def test_a_run_is_not_begun_to_be_carried_out_some_day(site: Site, restarted: bool) -> None:
    """A coordinator that begins many runs while they are approved could otherwise keep them in stock."""
    plan, evidence = asking(), said(asking())
    assert isinstance(site.body(plan, evidence), Moments)
    began = site.now
    site.now = began + timedelta(days=30)
    assert isinstance(site.body(plan, evidence, Stage.TRAIN, 1), Update)
    site.now = began + timedelta(days=30, seconds=1)
    if restarted:
        site.restart()
    assert "began the run on" in site.refusal(plan, evidence, Stage.TRAIN, 2)


def test_approvals_expire_by_the_sites_own_clock_also_where_the_plan_is_known(site: Site) -> None:
    evidence = said(asking())
    site.now = SOON
    assert isinstance(site.body(asking(), evidence), Moments)
    site.now = SOON + timedelta(seconds=1)
    assert "was good until" in site.refusal(asking(), evidence, run=OTHER_RUN)


def test_a_site_may_ask_for_shorter_approvals_than_the_plan(site: Site) -> None:
    site.bank.edit("west", "{modes: [plain]}\n", "{modes: [plain]}\n      approvals: {valid_for: 10d}\n")
    site.restart()
    assert "`approvals.valid_for` admits 10 days" in site.refusal(asking(), said(asking()))
    shorter = said(asking(), expires=NOW + timedelta(days=10))
    assert isinstance(site.body(asking(), shorter, run=OTHER_RUN), Moments)


# --- under secure aggregation


@pytest.fixture
def secured() -> Iterator[SecureBank]:
    """Sites of a plan that asks for one of each role, who have approved it."""
    plan = secure_plan().model_copy(update={"approvals": None})
    with secure_bank(plan) as bank:
        bank.members = with_officers(bank.members)
        bank.evidence = said(plan).canonical
        yield bank


def with_officers(members: Membership) -> Membership:
    """The list with those who may decide about plans."""
    people = tuple(
        Officer(name=name, roles=(role,), key=key_of(name).public, expires=FAR)
        for name, role in PEOPLE.items()
    )
    return officers().sign(MemberList(**{**dict(members.signed.list), "officers": people}))


def set_clocks(bank: SecureBank, now: datetime) -> None:
    for each in SITES:
        site = bank.participant(each)
        site.trust.clock = site.answers.clock = lambda: now


def test_keys_are_not_made_for_a_plan_that_nobody_approved(secured: SecureBank) -> None:
    set_clocks(secured, NOW)
    assert Sum(secured).opened() is not None
    secured.evidence = b""
    refusal = secured.refusal(VICTIM, Sum(secured, run=OTHER_RUN).advertise_request())
    assert refusal.code is RefusalCode.SIGNATURE
    assert "nobody has signed plan" in refusal.reason


def test_keys_that_were_made_in_time_mask_nothing_once_the_approvals_are_over(secured: SecureBank) -> None:
    set_clocks(secured, NOW)
    asked = Sum(secured)
    step = asked.set_up()
    set_clocks(secured, SOON + timedelta(seconds=1))
    refusal = secured.refusal(VICTIM, asked.mask_request(step, VICTIM))
    assert refusal.code is RefusalCode.SIGNATURE
    assert "was good until" in refusal.reason
    assert secured.recorded(VICTIM) == 0


def test_a_run_that_has_masked_an_input_goes_on_when_its_approvals_are_over(secured: SecureBank) -> None:
    set_clocks(secured, NOW)
    asked = Sum(secured)
    asked.mask(asked.set_up())
    set_clocks(secured, SOON + timedelta(seconds=1))
    again = Sum(secured, attempt_number=2)
    assert np.array_equal(again.opened(), sum(again.plain(site) for site in SITES))
