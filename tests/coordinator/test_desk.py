"""The desk: what an officer checks and signs on their own machine, and that nothing is signed where the coordinator lies."""

from __future__ import annotations

import hashlib
import html
import json
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from coordinator.console.desk import pages as desk_pages
from coordinator.console.desk.memory import Memory
from coordinator.console.desk.pages import ROUTES as DESK_ROUTES
from coordinator.console.desk.plans import plan_at_desk
from coordinator.db.engine import writing
from coordinator.governance.log import append
from coordinator.keys import log_signer
from coordinator.office.plans import ProposedPlan
from protos import governance_pb2 as governance
from protos.approval_rule import ApprovalRule
from protos.halts import OrderedBy, order_halt
from protos.log_entries import Halted, LoggedDocument
from protos.log_office import PlanApproved
from protos.membership import Role
from strategies.errors import UsageError
from strategies.ids import digest
from strategies.transparency.notes import Checkpoint, SignedNote
from tests.coordinator.api_for_tests import BY_ROLE, Bank, approval, authored, plan_of, serving
from tests.coordinator.desk_for_tests import Desk, desk_of
from tests.halts_for_tests import FEDERATION, ordered
from tests.trust_for_tests import FAR, officers

Sit = Callable[..., Desk]
PRIVACY, RISK = Role.PRIVACY_OFFICER, Role.MODEL_RISK


@pytest.fixture
def bank(tmp_path: Path) -> Iterator[Bank]:
    yield from serving(tmp_path / "bank")


@pytest.fixture
def sit(bank: Bank) -> Iterator[Sit]:
    """Opens desks, which are closed after the test."""
    with ExitStack() as stack:

        def opened(name: str, **options: Any) -> Desk:
            return stack.enter_context(desk_of(bank, name, **options))

        yield opened


def proposed(bank: Bank, seed: int = 1) -> ProposedPlan:
    what = plan_of(seed)
    bank.desk("author-1").propose(what, authored(what))
    return what


def page_of(what: ProposedPlan) -> str:
    return f"/plans/{what.plan.digest}?contract={what.contract.digest}"


def approve(desk: Desk, what: ProposedPlan, **changed: str) -> Any:
    """Send the form of the plan's page, confirmed."""
    fields = {"confirmed": what.plan.digest[:8], **changed}
    return desk.post(f"/plans/{what.plan.digest}/approve", fields, on=page_of(what))


def refused(desk: Desk, what: ProposedPlan, words: str) -> str:
    """Check that the page says `words`, offers no signature, and that one that is asked for all the same is not given."""
    shown = desk.get(page_of(what))
    said = html.unescape(shown.text)
    assert words in said, said
    assert "Nothing can be signed" in said
    assert "Sign with your key" not in said
    form = {
        "token": desk.session.token,
        "contract": what.contract.digest,
        "role": "privacy_officer",
        "confirmed": what.plan.digest[:8],
        "shown": '{"plan": null}',
    }
    answered = desk.send(f"/plans/{what.plan.digest}/approve", form)
    assert answered.status_code == 409
    assert desk.signer.labels == []
    assert desk.client.sent == []
    return said


# --- the honest path --------------------------------------------------------------------------------------------------


def test_an_approval_is_checked_signed_and_counts(bank: Bank, sit: Sit) -> None:
    what = proposed(bank)
    desk = sit("privacy-1")
    home, page = desk.get("/").text, desk.get(page_of(what)).text
    answered = approve(desk, what)

    assert f"/plans/{what.plan.digest}" in home
    assert "Every check holds" in page
    canonical = re.search(r'<pre class="exact"[^>]*>([^<]*)</pre>', page)
    assert canonical is not None
    assert hashlib.sha256(html.unescape(canonical[1]).encode()).hexdigest() == what.plan.digest
    assert answered.status_code == 200
    assert "You approved it as privacy_officer" in answered.text
    assert "1 approvals are in the log" in answered.text
    (told,) = bank.told("approved")
    assert isinstance(told, PlanApproved)
    assert (told.statement.officer, told.statement.role) == ("privacy-1", PRIVACY)
    assert desk.signer.labels == ["covenant/plan-statement/v1"]
    assert bank.desk("risk-1").approve(approval(what, "risk-1", RISK)).approved
    bank.audited()


def test_it_takes_the_digits_of_the_digest(bank: Bank, sit: Sit) -> None:
    what = proposed(bank)
    desk = sit("privacy-1")
    for typed in ("", "yes", what.plan.digest[:7], what.plan.digest):
        answered = approve(desk, what, confirmed=typed)
        assert answered.status_code == 400
        assert f"type {what.plan.digest[:8]}" in answered.text
    assert desk.signer.labels == []


def test_the_plan_before_is_the_one_that_the_log_has(bank: Bank, sit: Sit) -> None:
    first, second = proposed(bank), None
    bank.desk("privacy-1").approve(approval(first, "privacy-1", PRIVACY))
    bank.desk("risk-1").approve(approval(first, "risk-1", RISK))
    second = proposed(bank, 2)
    desk = sit("privacy-2")
    approved = desk.get(page_of(second)).text
    run = bank.desk("author-1").launch_proposed(first.plan.digest, first.contract.digest)
    launched = desk.get(page_of(second)).text

    assert "approved by privacy-1 and risk-1 and not launched" in approved
    assert f"launched as {run}" in launched
    assert "seed" in launched
    assert "protects less" in launched or "as before, or more" in launched
    assert "a newer plan of this name" in desk.get(page_of(first)).text


def test_a_plan_that_nobody_was_asked_about_is_not_the_one_before(bank: Bank, sit: Sit) -> None:
    """Its author would launch it, and have what it changed pass for what was there before."""
    first = proposed(bank)
    bank.desk("privacy-1").approve(approval(first, "privacy-1", PRIVACY))
    bank.desk("risk-1").approve(approval(first, "risk-1", RISK))
    changed = plan_of(7)
    for rule in ({"privacy_officer": 0, "model_risk": 0}, {"privacy_officer": 0, "model_risk": 1}):
        unasked = replace(changed, plan=changed.plan.model_copy(update={"approvals": ApprovalRule(**rule)}))
        bank.desk("author-1").propose(unasked, authored(unasked))
        if rule["model_risk"]:
            bank.desk("risk-1").approve(approval(unasked, "risk-1", RISK))
        bank.desk("author-1").launch_proposed(unasked.plan.digest, unasked.contract.digest)
    said = sit("privacy-2").get(page_of(proposed(bank, 7))).text
    assert "approved by privacy-1 and risk-1" in said
    assert "launched as" not in said


def test_a_plan_that_the_log_approved_and_the_coordinator_has_no_more(bank: Bank, sit: Sit) -> None:
    first = proposed(bank)
    bank.desk("privacy-1").approve(approval(first, "privacy-1", PRIVACY))
    bank.desk("risk-1").approve(approval(first, "risk-1", RISK))
    second = proposed(bank, 2)
    with bank.centre.engine.begin() as connection:
        connection.execute(text("DELETE FROM plans WHERE digest = :digest"), {"digest": first.plan.digest})
    desk = sit("privacy-2")
    refused(desk, second, "was approved, and the coordinator does not have it")
    bank.desk("author-1").propose(first, authored(first))
    assert "Every check holds" in desk.get(page_of(second)).text


def test_authors_and_others_cannot_approve(bank: Bank, sit: Sit) -> None:
    what = plan_of()
    bank.desk("author-2").propose(what, authored(what, "author-2"))
    author, auditor = sit("author-2"), sit("auditor-1")
    for desk, words in ((author, "You are its author"), (auditor, "You are auditor")):
        view = plan_at_desk(desk.session, desk.session.look(), what.plan.digest, what.contract.digest)
        asked = {"shown": json.dumps(view.shown), "contract": what.contract.digest}
        assert words in desk.get(page_of(what)).text
        answered = approve(desk, what, role="model_risk", token=desk.session.token, **asked)
        assert answered.status_code == 409
        assert words in answered.text
        assert desk.signer.labels == []


def test_a_key_that_is_not_on_the_list_signs_nothing(bank: Bank, sit: Sit) -> None:
    what = proposed(bank)
    refused(
        sit("privacy-1", key="stranger"),
        what,
        "nobody on member list demo@1 has the key of this desk",
    )


def test_what_was_shown_is_what_is_signed(bank: Bank, sit: Sit) -> None:
    what = proposed(bank)
    desk = sit("privacy-1")
    form = {**desk.form(page_of(what)), "confirmed": what.plan.digest[:8]}
    newer = proposed(bank, 2)
    answered = desk.send(f"/plans/{what.plan.digest}/approve", form)

    assert answered.status_code == 409
    assert "no longer what you were shown" in answered.text
    assert f"now it is {newer.plan.digest[:16]}" in answered.text
    assert desk.signer.labels == []
    for broken in ("", "[]", "{"):
        assert desk.send(f"/plans/{what.plan.digest}/approve", {**form, "shown": broken}).status_code == 400


def test_a_halt_is_given_and_lifted_with_the_officers_key(bank: Bank, sit: Sit) -> None:
    desk = sit("privacy-1")
    desk.send(
        "/halts", {"token": desk.session.token, "scope": "all", "reason": "<b>stop</b>", "confirmed": "no"}
    )
    assert bank.told("halted") == []
    given = desk.send(
        "/halts", {"token": desk.session.token, "scope": "all", "reason": "<b>stop</b>", "confirmed": "halt"}
    )
    (halt,) = bank.desk("auditor-1").halts()
    page = f"/halts/{halt.order.id}"
    second = sit("risk-1")
    for each in (desk, second):
        each.post(f"{page}/lift", {"reason": "looked", "confirmed": halt.order.id[:8]}, on=page)

    assert "everything is halted" in given.text
    assert "&lt;b&gt;stop" in given.text
    (after,) = bank.desk("auditor-1").halts()
    assert after.state == "lifted"
    bank.audited()


# --- a coordinator that lies ------------------------------------------------------------------------------------------


def test_other_bytes_for_a_digest(bank: Bank, sit: Sit) -> None:
    what, other = proposed(bank), proposed(bank, 2)
    desk = sit("privacy-1")

    def swapped(_request: Any, answer: governance.ProposedPlan) -> governance.ProposedPlan:
        answer.plan = other.plan.canonical
        return answer

    desk.client.lies["GetPlan"] = swapped
    assert other.plan.digest in refused(desk, what, "The plan's bytes")
    desk.client.lies.clear()
    assert "Every check holds" in desk.get(page_of(what)).text


def test_bytes_that_are_exchanged_between_showing_and_signing(bank: Bank, sit: Sit) -> None:
    what, other = proposed(bank), proposed(bank, 2)
    desk = sit("privacy-1")
    form = {**desk.form(page_of(what)), "confirmed": what.plan.digest[:8]}

    def swapped(_request: Any, answer: governance.ProposedPlan) -> governance.ProposedPlan:
        answer.plan = other.plan.canonical
        return answer

    desk.client.lies["GetPlan"] = swapped
    answered = desk.send(f"/plans/{what.plan.digest}/approve", form)
    assert answered.status_code == 409
    assert "sign nothing" in answered.text
    assert desk.signer.labels == []


def test_a_halt_that_is_exchanged_for_one_with_the_same_id(bank: Bank, sit: Sit) -> None:
    """Its service may give any order an id, also that of the halt that is really to be lifted."""
    real = ordered("all", by="officer auditor-1", reason="a site was broken into")
    small = order_halt(
        FEDERATION,
        "site",
        "west",
        "only a try",
        OrderedBy(kind="service", name="log", asked_by="admin-1"),
        log_signer(bank.centre.settings),
        at=bank.centre.clock(),
        entropy=bytes.fromhex(real.id),
    )
    with writing(bank.centre.engine, "lying") as session:
        append(
            session,
            bank.centre.clock(),
            [Halted(order=LoggedDocument.of(each)) for each in (real, small)],
        )
    told = [small]

    def answered(method: str, request: Any, answer: Any) -> Any:
        if method.endswith("GetHalt"):
            return governance.Halt(order=told[-1].canonical, halted_at=small.at.isoformat())
        return honest(method, request, answer)

    desk = sit("privacy-1")
    honest = desk.client.honest.ask
    desk.client.honest.ask = answered
    page = f"/halts/{real.id}"
    form = {**desk.form(page), "reason": "it was a try", "confirmed": real.id[:8]}
    assert "only a try" in desk.get(page).text
    told.append(real)
    lifted = desk.send(f"{page}/lift", form)

    assert lifted.status_code == 409
    assert "no longer what you were shown" in lifted.text
    assert desk.signer.labels == []
    assert desk.client.sent == []


def test_a_plan_before_that_others_are_to_hide(bank: Bank, sit: Sit) -> None:
    before, what = proposed(bank), proposed(bank, 2)
    bank.desk("privacy-1").approve(approval(before, "privacy-1", PRIVACY))
    bank.desk("risk-1").approve(approval(before, "risk-1", RISK))
    desk = sit("privacy-2")
    assert "approved by privacy-1 and risk-1" in desk.get(page_of(what)).text
    vain = {each.plan.digest: each for each in map(plan_of, range(10, 61))}
    with writing(bank.centre.engine, "lying") as session:
        said = [approval(each, "privacy-1", PRIVACY) for each in vain.values()]
        append(
            session,
            bank.centre.clock(),
            [PlanApproved(plan=what.plan.name, statement=each) for each in said],
        )
    honest = desk.client.honest.ask

    def asked(method: str, request: Any, answer: Any) -> Any:
        if method.endswith("GetPlan") and request.plan in vain:
            found = honest(method, governance.GetPlanRequest(plan=what.plan.digest), answer)
            found.plan = vain[request.plan].plan.canonical
            return found
        return honest(method, request, answer)

    desk.client.honest.ask = asked
    refused(desk, what, "were signed more than 50 times")


def test_a_plan_that_the_log_does_not_have(bank: Bank, sit: Sit) -> None:
    what, never = proposed(bank), plan_of(9)
    desk = sit("privacy-1")

    def invented(_request: Any, answer: governance.ProposedPlan) -> governance.ProposedPlan:
        answer.plan = never.plan.canonical
        return answer

    desk.client.lies["GetPlan"] = invented
    honest = desk.client.honest.ask

    def asked(method: str, request: Any, answer: Any) -> Any:
        if method.endswith("GetPlan"):
            request = governance.GetPlanRequest(plan=what.plan.digest, contract=what.contract.digest)
        return honest(method, request, answer)

    desk.client.honest.ask = asked
    refused(desk, never, "the log has no entry of plan")


def test_approvals_that_nobody_gave_are_not_shown(bank: Bank, sit: Sit) -> None:
    what = proposed(bank)
    desk = sit("privacy-1")

    def flattered(_request: Any, answer: governance.ProposedPlan) -> governance.ProposedPlan:
        answer.evidence = (
            replace(what).evidence.adding(authored(what)).adding(approval(what, "risk-1", RISK)).canonical
        )
        return answer

    desk.client.lies["GetPlan"] = flattered
    page = desk.get(page_of(what)).text
    assert "0 approvals are in the log" in page
    assert "risk-1" not in page


def test_an_entry_that_is_left_out_or_changed(bank: Bank, sit: Sit) -> None:
    desk = sit("privacy-1")
    what = proposed(bank)

    def changed(_request: Any, answer: governance.ListEntriesResponse) -> governance.ListEntriesResponse:
        for each in answer.entries:
            each.body = each.body.replace(b"author-1", b"author-2")
        return answer

    def shorter(_request: Any, answer: governance.ListEntriesResponse) -> governance.ListEntriesResponse:
        del answer.entries[-1]
        return answer

    def renumbered(_request: Any, answer: governance.ListEntriesResponse) -> governance.ListEntriesResponse:
        del answer.entries[0]
        for each in answer.entries:
            each.seq -= 1
        return answer

    def garbled(_request: Any, answer: governance.ListEntriesResponse) -> governance.ListEntriesResponse:
        answer.entries[0].body = b"[" * 5000
        return answer

    def endless(_request: Any, answer: governance.ListEntriesResponse) -> governance.ListEntriesResponse:
        return governance.ListEntriesResponse(size=answer.size, next_page_token="1")

    for lie, words in (
        (endless, "entries that its log is signed for"),
        (changed, "do not hash to the head"),
        (shorter, "entries that its log is signed for"),
        (renumbered, "entries that its log is signed for"),
        (garbled, "no entry of a log"),
    ):
        desk.client.lies["ListEntries"] = lie
        refused(desk, what, words)
    desk.client.lies.clear()
    assert "Every check holds" in desk.get(page_of(what)).text


def test_a_head_that_another_key_signed(bank: Bank, sit: Sit) -> None:
    what = proposed(bank)
    desk = sit("privacy-1")

    def forged(_request: Any, answer: governance.SignedHead) -> governance.SignedHead:
        head = Checkpoint.parse(SignedNote.parse(answer.note).text)
        answer.note = answer.note.replace(f"\n{head.size}\n", f"\n{head.size + 1}\n")
        return answer

    desk.client.lies["GetCheckpoint"] = forged
    refused(desk, what, "is not signed by demo/log")


def test_an_older_head(bank: Bank, sit: Sit) -> None:
    what = proposed(bank)
    desk = sit("privacy-1")
    old = desk.client.honest.ask(
        "covenant.governance.v1.Log/GetCheckpoint", governance.GetCheckpointRequest(), governance.SignedHead
    )
    proposed(bank, 2)
    desk.get("/")
    desk.client.lies["GetCheckpoint"] = lambda _request, _answer: old
    refused(desk, what, "when this desk saw it last: an older head was sent")
    desk.client.lies.clear()
    assert "Every check holds" in desk.get(page_of(what)).text


def test_a_proof_that_does_not_verify(bank: Bank, sit: Sit) -> None:
    what = proposed(bank)
    desk = sit("privacy-1")
    desk.get("/")
    proposed(bank, 2)

    def wrong(_request: Any, answer: governance.Proof) -> governance.Proof:
        return governance.Proof(hashes=[bytes(32) for _ in answer.hashes])

    desk.client.lies["GetConsistency"] = wrong
    refused(desk, what, "does not extend the one that this desk saw last")
    refused(desk, what, "It only grew")
    desk.client.lies.clear()
    assert "Every check holds" in desk.get(page_of(what)).text  # it is shown now that both were of one log


def test_a_log_that_forks_stays_a_fork(bank: Bank, sit: Sit, tmp_path: Path) -> None:
    what = proposed(bank)
    other = Bank.copied(bank.centre.settings.home, tmp_path / "fork")
    desk = sit("privacy-1")
    bank.desk("risk-1").approve(approval(what, "risk-1", RISK))
    desk.get("/")
    with other.serve():
        for name in ("privacy-2", "author-2", "auditor-1", "admin-1", "operator-1", "risk-1"):
            other.access(name)
        other.desk("risk-1").halts()
        for seed in (3, 4, 5, 6):
            proposed(other, seed)
        mine, desk.client.honest = desk.client.honest, other.client("privacy-1")
        said = refused(desk, what, "does not extend the one that this desk saw last")
        assert "tell the other officers and the sites" in said
        desk.client.honest = mine
        refused(desk, what, "was shown another head")  # though this one is the log that it knows
        again = sit("privacy-1", file=desk.session.trust.memory.path)
        refused(again, what, "was shown another head")  # also after a restart
    other.close()


def test_an_older_member_list_does_not_come_back(bank: Bank, sit: Sit) -> None:
    what = proposed(bank)
    known = bank.listed
    desk = sit("privacy-1")
    before = desk.client.honest.ask(
        "covenant.governance.v1.Members/GetMembers",
        governance.GetMembersRequest(),
        governance.MemberListInUse,
    )
    bank.expiring("operator-1", FAR.replace(year=FAR.year - 1))
    assert bank.listed.version == known.version + 1
    desk.get("/")
    desk.client.lies["GetMembers"] = lambda _request, _answer: before
    refused(desk, what, "an older one such as demo@1 counts no more")


def test_accounts_are_the_coordinators_word_and_must_add_up(bank: Bank, sit: Sit) -> None:
    what = proposed(bank)
    desk = sit("privacy-1")
    honest = desk.get(page_of(what)).text

    def more_is_spent(_request: Any, answer: governance.Account) -> governance.Account:
        facts = json.loads(answer.facts)
        facts["spent"]["epsilon"] = 5.0
        return governance.Account(facts=json.dumps(facts))

    def unreadable(_request: Any, _answer: governance.Account) -> governance.Account:
        return governance.Account(facts=json.dumps({"ceiling": {}, "runs": [{"stages": 1}], "spent": {}}))

    desk.client.lies["GetAccount"] = more_is_spent
    short = desk.get(page_of(what)).text
    desk.client.lies["GetAccount"] = unreadable
    broken = desk.get(page_of(what))

    assert "are the coordinator&#39;s word" in honest or "are the coordinator's word" in honest
    assert "the figures below are too low" not in honest
    assert "the figures below are too low" in short
    assert broken.status_code == 409
    assert "cannot be read" in broken.text


def test_a_member_list_that_the_officer_knows_of(bank: Bank, sit: Sit) -> None:
    what = proposed(bank)
    newer = officers().sign(bank.listed.next(officers=[]))
    refused(sit("privacy-1", known=newer), what, "an older one such as demo@1 counts no more")


# --- its door ---------------------------------------------------------------------------------------------------------


def test_nobody_without_the_cookie(bank: Bank, sit: Sit) -> None:
    what = proposed(bank)
    desk = sit("privacy-1")
    stranger, home = desk.stranger(), desk.session.home
    page = stranger.get(page_of(what))
    knocked = stranger.get(f"{home}{page_of(what)}")
    form = {**desk.form(page_of(what)), "confirmed": what.plan.digest[:8]}
    path = f"/plans/{what.plan.digest}/approve"
    posted = [
        stranger.post(f"{room}{path}", data=form, headers={"Origin": desk.origin}) for room in (home, "")
    ]

    assert page.status_code == 200
    assert knocked.status_code == posted[0].status_code == posted[1].status_code == 401
    assert "data-knock" in page.text
    for each in (page, knocked, *posted):
        assert what.plan.name not in each.text
        assert desk.session.room not in each.text
    assert "data-knock" not in knocked.text
    assert desk.signer.labels == []
    assert stranger.get(f"{home}/enter?key=wrong").status_code == 403
    assert not desk.session.closed


def test_the_cookie_is_for_a_path_that_no_other_port_can_know(bank: Bank, sit: Sit) -> None:
    """Browsers send a cookie to every port of 127.0.0.1, where another user of the machine may listen, but to its path only."""
    what = proposed(bank)
    desk = sit("privacy-1")
    (kept,) = list(desk.browser.cookies.jar)
    assert kept.path == f"{desk.session.home}/"
    assert len(desk.session.room) == 43
    stolen = desk.stranger()
    stolen.cookies.set(kept.name, kept.value or "")
    for path in ("/", page_of(what), "/enter?key=", f"//{page_of(what)}"):
        answered = stolen.get(path)
        assert desk.session.token not in answered.text
        assert desk.session.room not in str(answered.url) + answered.text
    assert not desk.session.closed


def test_the_address_opens_once_and_a_second_time_closes_the_desk(bank: Bank, sit: Sit) -> None:
    desk = sit("privacy-1")
    cookie = desk.browser.cookies.jar
    (kept,) = list(cookie)
    assert kept.has_nonstandard_attr("HttpOnly")
    assert kept.get_nonstandard_attr("SameSite") == "strict"
    assert (
        desk.browser.get(desk.session.address).status_code == 200
    )  # the officer goes back, and is in already
    stranger = desk.stranger()

    assert stranger.get(desk.session.address).status_code == 403
    assert desk.session.closed
    assert desk.get("/").status_code == 403


def test_other_hosts_origins_and_forms_are_refused(bank: Bank, sit: Sit) -> None:
    what = proposed(bank)
    desk = sit("privacy-1")
    form = {**desk.form(page_of(what)), "confirmed": what.plan.digest[:8]}
    path, port = f"/plans/{what.plan.digest}/approve", desk.session.port
    for host in (f"localhost:{port}", f"desk.example:{port}", "127.0.0.1", "127.0.0.1:1"):
        assert desk.browser.get(f"{desk.session.home}/", headers={"Host": host}).status_code == 421
    for origin in (
        f"https://127.0.0.1:{port}",
        f"http://localhost:{port}",
        "null",
        "https://console.example",
    ):
        assert desk.send(path, form, Origin=origin).status_code == 403
    assert desk.browser.post(desk.session.home + path, data=form).status_code == 403
    assert desk.send(path, {**form, "token": "another"}).status_code == 403
    assert desk.signer.labels == []


def test_every_answer_has_the_policy_and_keeps_nothing(bank: Bank, sit: Sit) -> None:
    desk = sit("privacy-1")
    for path in ("/", "/plans/x", "/nowhere", "/static/0/none.js"):
        headers = desk.get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["cache-control"] == "no-store"
        assert (
            headers["referrer-policy"] == "same-origin"
        )  # without a referrer, browsers send no `Origin` with a form
    assert desk.get("/plans/%3Cscript%3E").status_code == 400


def test_secrets_are_in_no_repr(bank: Bank, sit: Sit) -> None:
    session = sit("privacy-1").session
    for secret in (session.room, session.enter, session.cookie, session.token):
        assert secret not in repr(session)


def test_the_desk_of_another_federation_is_refused(bank: Bank, sit: Sit, tmp_path: Path) -> None:
    Memory(tmp_path / "one.desk", digest("a" * 64)).close()
    with pytest.raises(UsageError, match="another federation"):
        Memory(tmp_path / "one.desk", digest("b" * 64))
    (tmp_path / "one.desk").chmod(0o644)
    with pytest.raises(UsageError, match="open to others"):
        Memory(tmp_path / "one.desk", digest("a" * 64))


def filled(path: str, what: ProposedPlan) -> str:
    """A route's path with a plan of this desk in it, or a name that there is not."""
    return re.sub(r"\{[^}]+\}", "x", path.replace("{plan}", what.plan.digest))


def test_every_page_asks_who_comes_and_every_form_whose_it_is(bank: Bank, sit: Sit) -> None:
    """All routes, by walking: without the cookie nothing is shown, and no form counts that is not this desk's own."""
    what = proposed(bank)
    desk = sit("privacy-1")
    stranger, token = desk.stranger(), desk.session.token
    assert {method for method, _, _ in DESK_ROUTES} == {"GET", "POST"}
    for method, path, _ in DESK_ROUTES:
        inside = desk.session.home + filled(path, what)
        said = {"token": token, "confirmed": "halt", "scope": "all", "reason": "x"}
        origin = {"Origin": desk.origin}
        for knocking in (inside, filled(path, what)):
            answered = stranger.request(method, knocking, headers=origin)
            assert "data-knock" in answered.text or answered.status_code == 401, (method, path)
            assert what.plan.name not in answered.text
        if method == "POST":
            forms = [
                (said, {}),
                (said, {"Origin": "null"}),
                (said, {"Origin": "https://elsewhere.example"}),
                ({**said, "token": ""}, origin),
                ({**said, "token": token[:-1]}, origin),
                ({key: value for key, value in said.items() if key != "token"}, origin),
            ]
            for form, headers in forms:
                refused_form = desk.browser.post(inside, data=form, headers=headers)
                assert refused_form.status_code == 403, (path, form, headers)
                assert "Nothing was signed" in refused_form.text
            assert desk.browser.get(inside).status_code in {404, 405}  # no address does what a form does
    assert desk.signer.labels == []
    assert desk.client.sent == []
    assert bank.told("halted") == []


@pytest.mark.parametrize("role", list(Role), ids=str)
def test_no_role_breaks_a_page_or_signs_what_it_may_not(bank: Bank, sit: Sit, role: Role) -> None:
    what = proposed(bank)
    desk = sit(BY_ROLE[role])
    for method, path, _ in DESK_ROUTES:
        if method == "GET":
            answered = desk.get(filled(path, what))
            assert answered.status_code < 500, (path, answered.text)
    form = {"contract": what.contract.digest, "confirmed": what.plan.digest[:8], "role": str(role)}
    desk.post(f"/plans/{what.plan.digest}/approve", form, on=page_of(what))
    may = role in {Role.PRIVACY_OFFICER, Role.MODEL_RISK}
    assert bool(desk.signer.labels) is may
    assert len(bank.told("approved")) == may


@pytest.mark.parametrize(
    "target",
    [
        "/../desk.key",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/static/x/..%2f..%2fsession.py",
        "/plans/..%2f..%2f",
        "/%00",
        "//",
    ],
)
def test_no_path_of_the_desk_reaches_a_file(bank: Bank, sit: Sit, target: str) -> None:
    desk = sit("privacy-1")
    for room in (desk.session.home, ""):
        with socket.create_connection(("127.0.0.1", desk.session.port), 10) as sock:
            (cookie,) = list(desk.browser.cookies.jar)
            lines = (
                f"GET {room}{target} HTTP/1.1",
                f"Host: 127.0.0.1:{desk.session.port}",
                f"Cookie: {cookie.name}={cookie.value}",
                "Connection: close",
            )
            sock.sendall("\r\n".join((*lines, "", "")).encode())
            told = b""
            while chunk := sock.recv(65536):
                told += chunk
        assert b"root:" not in told
        assert b"PRIVATE KEY" not in told
        assert b"def " not in told
        assert b"content-security-policy" in told.lower()


def test_a_list_of_plans_that_was_cut_says_so(bank: Bank, sit: Sit, monkeypatch: pytest.MonkeyPatch) -> None:
    what = plan_of()
    bank.desk("author-1").propose(what, authored(what))
    desk = sit("privacy-1")
    assert "proposed last" not in desk.get("/").text
    monkeypatch.setattr(desk_pages, "_MOST", 1)
    assert "Plans that wait for you, of the 1 that were proposed last" in desk.get("/").text


def test_others_on_the_machine_do_not_keep_the_officer_from_the_desk(sit: Sit) -> None:
    """All come from one address, and whoever opens connections and asks nothing would have them all."""
    desk = sit("privacy-1")
    place = ("127.0.0.1", desk.session.port)
    crowd = [socket.create_connection(place, 10) for _ in range(40)]
    with httpx.Client(cookies=desk.browser.cookies, timeout=10, trust_env=False) as newcomer:
        assert newcomer.get(f"{desk.origin}{desk.session.home}/ceilings").status_code == 200
    assert desk.get("/").status_code == 200
    for each in crowd:
        each.close()
