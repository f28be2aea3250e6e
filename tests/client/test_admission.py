"""What a site refuses before it touches its data: one test a rule, each against a control that passes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from client.admission.documents import Accepted, check_documents
from client.admission.requests import check_named, check_statement
from client.refusal import TaskRefused
from protos.frames import RefusalCode, Request
from protos.membership import MemberList
from protos.plan import Plan
from strategies.encoding import sha256_hex
from strategies.ids import site_name
from tests.bank_for_tests import Bank, make_bank
from tests.client.loans_for_tests import CONTRACT, plan
from tests.trust_for_tests import impostors


@pytest.fixture
def bank(tmp_path: Path) -> Bank:
    return make_bank(tmp_path)


def check(bank: Bank, request: Request, site: str = "west") -> Accepted:
    participant = bank.participant(site)
    check_named(request)
    return check_documents(
        request.task,
        config=participant.config,
        trust=participant.trust,
        identity_key=participant.identity.public,
        began=None,
    )


def refusal(bank: Bank, request: Request) -> TaskRefused:
    with pytest.raises(TaskRefused) as refused:
        check(bank, request)
    return refused.value


def changed(**values: object) -> Plan:
    return plan().model_copy(update=values)


def test_a_plan_that_keeps_every_rule_is_accepted(bank: Bank) -> None:
    accepted = check(bank, bank.request(plan()))
    assert accepted.plan == plan()
    assert accepted.source.contract == CONTRACT.ref


@pytest.mark.parametrize("document", ["plan", "contract", "members"])
def test_a_document_that_is_not_the_one_the_statement_names(bank: Bank, document: str) -> None:
    request = bank.request(plan())
    task = replace(request.task, **{document: getattr(request.task, document) + b" "})
    refused = refusal(bank, replace(request, task=task))
    assert refused.code is RefusalCode.PROTOCOL
    assert "is not the one that the statement names" in str(refused)


def test_a_plan_that_is_not_canonical(bank: Bank) -> None:
    request = bank.request(plan())
    padded = request.task.plan + b" "
    said = replace(request.statement, plan_digest=sha256_hex(padded))
    refused = refusal(bank, replace(request, statement=said, task=replace(request.task, plan=padded)))
    assert refused.code is RefusalCode.PROTOCOL
    assert "canonical" in str(refused)


def test_a_member_list_signed_by_another_root(bank: Bank) -> None:
    refused = refusal(bank, bank.request(plan(), members=impostors().sign(bank.members.signed.list)))
    assert refused.code is RefusalCode.SIGNATURE
    assert "has 0 of the 2 signatures that root version 1 of demo asks for" in str(refused)


def test_a_member_list_with_another_key_for_this_site(bank: Bank, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = make_bank(tmp_path / "other").members.signed.list
    mixed = tuple(
        m.model_copy(update={"identity_key": other.member(m.site).identity_key}) if m.site == "west" else m
        for m in bank.members.signed.list.members
    )
    signed = bank.officers.sign(MemberList(name="demo", version=1, members=mixed))
    refused = refusal(bank, bank.request(plan(), members=signed))
    assert refused.code is RefusalCode.SIGNATURE
    assert "has another key for west" in str(refused)


def test_a_member_list_that_the_plan_does_not_name(bank: Bank) -> None:
    later = bank.officers.sign(MemberList(name="demo", version=2, members=bank.members.signed.list.members))
    refused = refusal(bank, bank.request(plan(), members=later))
    assert refused.code is RefusalCode.SIGNATURE
    assert "demo@1" in str(refused)
    assert "demo@2" in str(refused)


def test_a_plan_that_invites_a_stranger(bank: Bank) -> None:
    sites = plan().sites.model_copy(update={"invite": (site_name("ghost"), site_name("west"))})
    refused = refusal(bank, bank.request(changed(sites=sites)))
    assert refused.code is RefusalCode.SIGNATURE
    assert "ghost" in str(refused)


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("purpose: credit-risk", "purpose: other", "`policy.accept` at this site admits purpose other; the plan has credit-risk"),
        ("contracts: [loans@1]", "contracts: [cards@1]", "`policy.accept.contracts` at this site admits cards@1; the plan has loans@1"),
        ("[tabular/1, tabular/2]", "[tabular/2]", "`policy.accept.components` at this site admits tabular/2; the plan has tabular/1"),
        ("modes: [none]", "modes: [distributed]", "`policy.accept.privacy.modes` at this site admits distributed; the plan has none"),
        ("modes: [plain]", "modes: [secure]", "`policy.accept.aggregation.modes` at this site admits secure; the plan has plain"),
    ],
)  # fmt: skip
def test_a_policy_that_does_not_list_it(bank: Bank, old: str, new: str, sentence: str) -> None:
    bank.edit("west", old, new)
    refused = refusal(bank, bank.request(plan()))
    assert refused.code is RefusalCode.POLICY
    assert str(refused) == sentence


def test_a_contract_that_differs_from_the_sites_copy(bank: Bank) -> None:
    path = bank.folder / "west" / "loans.yaml"
    path.write_text(path.read_text().replace("1000", "2000"))
    refused = refusal(bank, bank.request(plan()))
    assert refused.code is RefusalCode.POLICY
    assert "differs from the one that this site agreed to" in str(refused)


def test_a_contract_for_which_the_site_has_no_data(bank: Bank) -> None:
    bank.edit("west", "contract: loans@1,", "contract: cards@1,")
    refused = refusal(bank, bank.request(plan()))
    assert refused.code is RefusalCode.POLICY
    assert "no data under contract loans@1" in str(refused)


def test_a_component_that_is_not_installed(bank: Bank) -> None:
    bank.edit("west", "[tabular/1, tabular/2]", "[tabular/1, tabular/9]")
    refused = refusal(bank, bank.request(plan(component="tabular/9")))
    assert refused.code is RefusalCode.POLICY
    assert "tabular/9 is not installed" in str(refused)


@pytest.mark.parametrize(
    ("roster", "sentence"),
    [
        (("south",), "does not name this site"),
        (("ghost", "west"), "names ghost, which the plan does not invite"),
    ],
)
def test_a_roster_that_does_not_fit(bank: Bank, roster: tuple[str, ...], sentence: str) -> None:
    request = bank.request(plan(), roster=tuple(map(site_name, roster)))
    accepted = check(bank, request)
    with pytest.raises(TaskRefused, match=sentence):
        check_statement(request.statement, accepted, site=site_name("west"))
    check_statement(bank.request(plan()).statement, accepted, site=site_name("west"))
