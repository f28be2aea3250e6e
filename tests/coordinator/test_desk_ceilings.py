"""Ceilings at the desk: what is signed stands beside what the log has, and one officer after the other signs the same."""

from __future__ import annotations

import html
import json
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from coordinator.db.engine import writing
from coordinator.governance.log import append
from protos import governance_pb2 as governance
from protos.ceilings import LABEL, SignedCeiling
from protos.log_entries import CeilingSet, LoggedDocument
from strategies.errors import UsageError
from tests.coordinator.api_for_tests import Bank, serving
from tests.coordinator.desk_for_tests import Desk, desk_of
from tests.trust_for_tests import key_of

pytestmark = pytest.mark.slow

Sit = Callable[..., Desk]
PAGE, LOOK, SIGN = "/ceilings", "/ceilings/look", "/ceilings/sign"
LINK = "/ceilings?site=west&population=lending-club&unit=record"
_FIELD = re.compile(r'name="(document|shown)" value="([^"]*)"')
_FILLED = re.compile(r'<input name="(\w+)"[^>]*? value="([^"]*)"')
HOSTILE = '"><img src=x onerror=alert(1)> <script>alert(1)</script>'


@pytest.fixture
def bank(tmp_path: Path) -> Iterator[Bank]:
    yield from serving(tmp_path / "bank")


@pytest.fixture
def sit(bank: Bank) -> Iterator[Sit]:
    with ExitStack() as stack:

        def opened(name: str, **options: Any) -> Desk:
            return stack.enter_context(desk_of(bank, name, **options))

        yield opened


def looked(desk: Desk, **changed: str) -> Any:
    """The page of a draft of the account that is there, with other values."""
    filled = {name: html.unescape(value) for name, value in _FILLED.findall(desk.get(LINK).text)}
    return desk.post(LOOK, {**filled, "reason": "as agreed", **changed}, on=PAGE)


def signed(desk: Desk, page: Any, **changed: str) -> Any:
    """Send the form of a decision's page, confirmed."""
    form = {name: html.unescape(value) for name, value in _FIELD.findall(page.text)}
    digest = SignedCeiling.from_canonical(form["document"].encode()).decision.digest
    return desk.send(SIGN, {"token": desk.session.token, "confirmed": digest[:8], **form, **changed})


def document_of(page: Any) -> str:
    found = re.search(r"<textarea readonly[^>]*>([^<]*)</textarea>", page.text)
    assert found is not None, page.text
    return html.unescape(found[1])


def epsilon(bank: Bank) -> float:
    found: float = bank.desk("privacy-1").ledger.account("west", "lending-club", None)["ceiling"]["epsilon"]
    return found


def test_a_ceiling_is_lowered_by_one_officer_who_sees_what_changes(bank: Bank, sit: Sit) -> None:
    desk, before, told = sit("privacy-1"), epsilon(bank), len(bank.told("ceiling"))
    assert "Ceilings of accounts" in desk.get("/").text
    assert "west/lending-club" in desk.get(PAGE).text
    page = looked(desk, epsilon="40", alerts="0.5, 0.9", reason=HOSTILE)
    text = html.unescape(page.text)
    assert page.status_code == 200
    assert f'<td data-label="By the log">{before!r}</td>' in text
    assert ">40.0</td>" in text
    assert HOSTILE not in page.text
    assert "Yours is the last signature" in text
    assert desk.signer.labels == []
    assert desk.client.sent == []
    assert signed(desk, page, confirmed="00000000").status_code == 400
    assert desk.signer.labels == []

    done = signed(desk, page)
    assert done.status_code == 200
    assert "the coordinator carried it out" in done.text
    assert desk.signer.labels == [LABEL]
    assert epsilon(bank) == 40.0
    assert len(bank.told("ceiling")) == told + 1
    again = desk.send(SIGN, {"token": desk.session.token, "document": document(page), "shown": "{}"})
    assert (again.status_code, "decision 3 is next" in html.unescape(again.text)) == (409, True)
    bank.audited()


def document(page: Any) -> str:
    return html.unescape(dict(_FIELD.findall(page.text))["document"])


def test_what_loosens_goes_from_one_officer_to_the_next(bank: Bank, sit: Sit) -> None:
    first, second = sit("privacy-1"), sit("privacy-2")
    raised = epsilon(bank) + 10
    page = looked(first, epsilon=str(raised))
    assert "raising a ceiling" in page.text
    assert "Another privacy officer has to sign it after you" in page.text
    sent = document_of(signed(first, page))
    assert epsilon(bank) == raised - 10
    assert first.client.sent == []
    mine = first.post(LOOK, {"document": sent}, on=PAGE)
    assert "You have signed it" in mine.text
    assert "Sign with your key" not in mine.text

    theirs = second.post(LOOK, {"document": f"\n{sent}\n"}, on=PAGE)
    assert "signed by privacy-1" in theirs.text
    assert "Yours is the last signature" in theirs.text
    assert "the coordinator carried it out" in signed(second, theirs).text
    assert epsilon(bank) == raised
    bank.audited()


def test_a_first_ceiling_opens_an_account(bank: Bank, sit: Sit) -> None:
    desk = sit("privacy-1")
    fields = {
        "site": "west", "population": "cards", "unit": "customer:holder:4:1", "epsilon": "3", "delta": "1e-6", "reason": "new",
    }  # fmt: skip
    page = desk.post(LOOK, fields, on=PAGE)
    assert "by the log, this account has none yet" in page.text
    assert "this decision opens the account" in page.text
    signed(desk, page)
    assert bank.desk("privacy-1").ledger.account("west", "cards", None)["ceiling"]["epsilon"] == 3.0
    link = desk.get("/ceilings?site=west&population=cards&unit=customer:holder").text
    assert 'value="customer:holder:4:1"' in link


@pytest.mark.parametrize("name", ["risk-1", "auditor-1", "author-1", "admin-1", "operator-1"])
def test_only_privacy_officers_sign(bank: Bank, sit: Sit, name: str) -> None:
    privacy, other = sit("privacy-1"), sit(name)
    made = document(looked(privacy, epsilon="40"))
    page = other.post(LOOK, {"document": made}, on=PAGE)
    assert "Sign with your key" not in page.text
    told = {"token": other.session.token, "document": made, "confirmed": "x", "shown": "{}"}
    assert other.send(SIGN, told).status_code == 409
    assert other.signer.labels == []
    assert other.client.sent == []


def refused(desk: Desk, page: Any, words: str) -> None:
    text = html.unescape(page.text)
    assert words in text, text
    assert "Sign with your key" not in text
    assert desk.signer.labels == []
    assert desk.client.sent == []


def test_a_coordinator_that_tells_another_ceiling_than_its_log(bank: Bank, sit: Sit) -> None:
    """A raised one would make raising look like lowering."""
    desk = sit("privacy-1")

    def higher(_request: Any, answer: governance.Account) -> governance.Account:
        facts = json.loads(answer.facts)
        facts["ceiling"]["epsilon"] = 400.0
        return governance.Account(facts=json.dumps(facts))

    desk.client.lies["GetAccount"] = higher
    refused(desk, looked(desk, epsilon="300"), "and its log has")


def test_a_coordinator_that_says_that_there_is_no_account(bank: Bank, sit: Sit) -> None:
    desk = sit("privacy-1")

    def none(_request: Any, _answer: governance.Account) -> governance.Account:
        raise UsageError("there is none")

    desk.client.lies["GetAccount"] = none
    refused(desk, looked(desk, epsilon="40"), "differ in whether there is such an account")


def test_a_decision_that_somebody_changed_or_made_for_others(bank: Bank, sit: Sit) -> None:
    desk = sit("privacy-1")
    made = SignedCeiling.from_canonical(document(looked(desk, epsilon="40")).encode())
    other = made.decision.model_copy(update={"federation": "ab" * 32})
    number = made.decision.model_copy(update={"number": 7})
    order = made.decision.model_copy(update={"ceiling": {**made.decision.ceiling, "order": 8}})
    forged = made.signed_with("privacy-2", key_of("risk-1"))
    swapped = made.signed_with("privacy-2", key_of("privacy-2")).model_copy(update={"decision": number})
    for each, words in (
        (SignedCeiling(decision=other), "is for another federation"),
        (SignedCeiling(decision=number), "this is decision 7 on the account"),
        (SignedCeiling(decision=order), "an order never changes"),
        (forged, "is not signed with the key of privacy-2"),
        (swapped, "is not signed with the key of privacy-2"),
        (made.signed_with("risk-1", key_of("risk-1")), "does not count"),
    ):
        refused(desk, desk.post(LOOK, {"document": each.canonical.decode()}, on=PAGE), words)
    for text in ("", "{}", "x" * 1000, '{"covenant": "ceiling/v1"}'):
        answered = desk.post(
            LOOK, {"document": text, "unit": "record", "epsilon": "x", "delta": "1"}, on=PAGE
        )
        assert answered.status_code in {400, 409}, text


@pytest.mark.parametrize(
    ("field", "value"),
    [("epsilon", "nan"), ("epsilon", "-1"), ("epsilon", "x"), ("delta", "2"), ("unit", "odd"), ("alerts", "7"), ("overlaps", "west"), ("site", "../x")],
)  # fmt: skip
def test_values_out_of_bounds_are_refused(bank: Bank, sit: Sit, field: str, value: str) -> None:
    desk = sit("privacy-1")
    answered = looked(desk, **{field: value})
    assert answered.status_code in {400, 409}
    assert desk.signer.labels == []


def test_what_was_decided_in_between_is_seen_before_anything_is_signed(bank: Bank, sit: Sit) -> None:
    first, second = sit("privacy-1"), sit("privacy-2")
    page = looked(first, epsilon="40")
    signed(second, looked(second, epsilon="41"))
    answered = signed(first, page)
    assert answered.status_code == 409
    refused(first, answered, "another one was in between")
    assert epsilon(bank) == 41.0


def test_a_desk_of_before_ceilings_were_kept_reads_the_log_once_more(bank: Bank, tmp_path: Path) -> None:
    """What it had not kept would look like an account without a ceiling."""
    file = tmp_path / "privacy-1.desk"
    with desk_of(bank, "privacy-1", file=file) as desk:
        desk.get("/")
        head = desk.session.trust.memory.seen().head
    with closing(sqlite3.connect(file, isolation_level=None)) as kept:
        kept.execute("DELETE FROM entries WHERE kind = 'ceiling'")
        kept.execute("PRAGMA user_version = 0")
    with desk_of(bank, "privacy-1", file=file) as desk:
        assert desk.session.trust.memory.seen().head == head  # an older one would still be found out
        assert "by the log, decision 1" in looked(desk, epsilon="40").text


def logged(bank: Bank, *decisions: SignedCeiling) -> None:
    """A coordinator that writes into its log what nobody decided so."""
    with writing(bank.centre.engine, "lying") as session:
        append(
            session,
            bank.centre.clock(),
            [CeilingSet(decision=LoggedDocument.of(each)) for each in decisions],
        )


@pytest.mark.parametrize("by", [(), ("privacy-2",), ("risk-1", "privacy-2")])
def test_a_ceiling_in_the_log_that_its_officers_did_not_decide(
    bank: Bank, sit: Sit, by: tuple[str, ...]
) -> None:
    """A raised one that nobody signed, or too few, would make raising look like lowering, which one officer may."""
    desk = sit("privacy-1")
    real = SignedCeiling.from_canonical(document(looked(desk, epsilon="400")).encode())
    for each in by:
        real = real.signed_with(each, key_of(each))
    logged(bank, real)

    def as_logged(_request: Any, answer: governance.Account) -> governance.Account:
        facts = json.loads(answer.facts)
        facts["ceiling"]["epsilon"] = 400.0
        return governance.Account(facts=json.dumps(facts))

    desk.client.lies["GetAccount"] = as_logged
    asked = {"site": "west", "population": "lending-club", "unit": "record", "delta": "1e-6"}
    drafted = desk.post(LOOK, {**asked, "epsilon": "300", "reason": "lower"}, on=PAGE)
    assert (drafted.status_code, "not as the rules have it" in drafted.text) == (409, True), drafted.text
    next_one = real.decision.model_copy(
        update={"number": real.decision.number + 1, "ceiling": {**real.decision.ceiling, "epsilon": 300.0}}
    )
    sent = SignedCeiling(decision=next_one).canonical.decode()
    refused(desk, desk.post(LOOK, {"document": sent}, on=PAGE), "not as the rules have it")


def test_a_ceiling_that_was_decided_under_an_older_list_holds(bank: Bank, sit: Sit) -> None:
    first = sit("privacy-2")
    signed(first, looked(first, epsilon="40"))
    bank.without("privacy-2")
    assert "by the log, decision 2" in looked(sit("privacy-1"), epsilon="39").text


def test_a_decision_that_is_dated_ahead_is_signed_by_nobody(bank: Bank, sit: Sit) -> None:
    """It would count in a year, when nobody remembers it."""
    desk = sit("privacy-1")
    made = SignedCeiling.from_canonical(document(looked(desk, epsilon="40")).encode()).decision
    ahead = made.model_copy(update={"at": made.at + timedelta(days=365)})
    sent = SignedCeiling(decision=ahead).canonical.decode()
    refused(desk, desk.post(LOOK, {"document": sent}, on=PAGE), "is not within 30 days")


def test_an_alert_that_moves_by_little_is_shown_to_move(bank: Bank, sit: Sit) -> None:
    desk = sit("privacy-1")
    signed(desk, looked(desk, alerts="0.9", reason="first"))
    page = html.unescape(looked(desk, alerts="0.904").text)
    row = page.partition(">Alerts at</")[2].partition("</tr>")[0]
    assert "as before" not in row
    assert "0.904" in row
