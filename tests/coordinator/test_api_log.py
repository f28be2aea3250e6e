"""The log over the control API: events within a second, proofs that prove, pages, the export, and refusals that do not fill it."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from coordinator.db import reading
from coordinator.db.office_schema import StoredRequest
from coordinator.governance.log import open_log
from coordinator.office import plans as office
from coordinator.office.actors import here
from coordinator.office.denials import MOST_AN_HOUR
from protos import governance_pb2 as governance
from protos.documents import load_document
from protos.log_entries import LogEntry
from protos.log_export import verify_file
from protos.log_office import CallDenied
from protos.membership import Role
from protos.root import SignedRoot
from strategies.errors import CovenantError, Refused, UsageError
from strategies.ids import RunId
from strategies.transparency.merkle import leaf_hash, verify_consistency, verify_inclusion
from strategies.transparency.notes import Checkpoint
from tests.coordinator.api_for_tests import Bank, approval, authored, plan_of, serving

LOG = "covenant.governance.v1.Log/"
NOWHERE = RunId("run-0000000000000000")


@pytest.fixture
def bank(tmp_path: Path) -> Iterator[Bank]:
    yield from serving(tmp_path / "bank", accounts=False)


def listening(bank: Bank, name: str, heard: list[tuple[float, str]], most: int) -> threading.Thread:
    """Someone who listens from now on, until so many entries have come."""
    desk, size = bank.desk(name), bank.desk(name).entries(1, None)[0]

    def listen() -> None:
        for each in desk.events(size):
            kind = LogEntry.from_canonical(each.body).what.kind
            heard.append((time.monotonic(), kind))
            if len(heard) >= most:
                return

    thread = threading.Thread(target=listen)
    thread.start()
    return thread


def test_an_approval_and_a_refusal_reach_every_client_within_a_second(bank: Bank) -> None:
    what = plan_of()
    for name in ("author-1", "privacy-1", "auditor-1", "operator-1", "admin-1"):
        bank.access(name)
    heard: dict[str, list[tuple[float, str]]] = {name: [] for name in ("auditor-1", "operator-1", "admin-1")}
    threads = [listening(bank, name, each, 3) for name, each in heard.items()]
    author, privacy = bank.desk("author-1"), bank.desk("privacy-1")
    done = []
    author.propose(what, authored(what))
    done.append(time.monotonic())
    privacy.approve(approval(what, "privacy-1", Role.PRIVACY_OFFICER))
    done.append(time.monotonic())
    with pytest.raises(Refused):
        bank.desk("auditor-1").stop(NOWHERE)
    done.append(time.monotonic())
    for each in threads:
        each.join(10)
    for each in heard.values():
        assert [kind for _, kind in each] == ["proposed", "approved", "denied"]
        assert all(at - then < 1.0 for (at, _), then in zip(each, done, strict=True))


def test_events_resume_from_a_position_and_may_be_of_some_kinds(bank: Bank) -> None:
    what = plan_of()
    bank.desk("author-1").propose(what, authored(what))
    client, found = bank.client("auditor-1"), []
    request = governance.WatchEventsRequest(start=0, kinds=["proposed", "members"])
    for each in client.stream(f"{LOG}WatchEvents", request, governance.Entry):
        found.append(LogEntry.from_canonical(each.body).what.kind)
        if len(found) == 2:
            break
    assert found == ["members", "proposed"]
    events = bank.desk("auditor-1").events(1)
    assert [next(events).seq for _ in range(2)] == [1, 2]


def test_who_listens_hears_everything_once_across_a_restart(tmp_path: Path) -> None:
    bank, heard = Bank.make(tmp_path / "bank"), []
    with bank.serve():
        bank.access("author-1")
        thread = listening(bank, "auditor-1", heard, 3)
        bank.desk("author-1").propose(plan_of(1), authored(plan_of(1)))
    office.propose(bank.centre, here(), plan_of(2).plan, plan_of(2).contract, authored(plan_of(2)))
    with bank.serve():
        bank.desk("author-1").propose(plan_of(3), authored(plan_of(3)))
        thread.join(20)
    assert [kind for _, kind in heard] == ["proposed"] * 3
    bank.close()


def test_an_officer_who_is_taken_off_the_list_hears_no_more(bank: Bank) -> None:
    heard: list[str] = []
    desk = bank.desk("operator-1")

    def listen() -> None:
        try:
            for _ in desk.events(None):
                pass
        except CovenantError as error:
            heard.append(str(error))

    thread = threading.Thread(target=listen)
    thread.start()
    time.sleep(0.3)
    bank.without("operator-1")
    thread.join(5)
    assert "operator-1 is no officer on member list demo@2" in heard[0]


def test_proofs_prove_against_the_signed_head(bank: Bank) -> None:
    for seed in range(5):
        what = plan_of(seed)
        bank.desk("author-1").propose(what, authored(what))
    client, desk = bank.client("auditor-1"), bank.desk("auditor-1")
    note, key = desk.checkpoint()
    head = Checkpoint.parse(note.require(key))
    size, entries = desk.entries(10_000, None)
    assert size == head.size == len(entries)
    for each in entries:
        request = governance.GetInclusionRequest(seq=each.seq, size=size)
        proof = client.ask(f"{LOG}GetInclusion", request, governance.Proof)
        verify_inclusion(
            leaf_hash(each.body), index=each.seq, size=size, proof=list(proof.hashes), root=head.root
        )
    log = open_log(bank.centre.engine, bank.centre.settings, bank.centre.clock)
    request_ = governance.GetConsistencyRequest(old=2, new=size)
    proof = client.ask(f"{LOG}GetConsistency", request_, governance.Proof)
    verify_consistency(
        old=2, new=size, proof=list(proof.hashes), old_root=log.head(2).root, new_root=head.root
    )
    for wrong in (
        governance.GetInclusionRequest(seq=size, size=size),
        governance.GetInclusionRequest(seq=0, size=99),
    ):
        with pytest.raises(UsageError):
            client.ask(f"{LOG}GetInclusion", wrong, governance.Proof)
    with pytest.raises(UsageError):
        client.ask(f"{LOG}GetConsistency", governance.GetConsistencyRequest(old=3, new=2), governance.Proof)


def test_an_export_over_the_api_is_one_that_an_auditor_verifies(bank: Bank, tmp_path: Path) -> None:
    what = plan_of()
    bank.desk("author-1").propose(what, authored(what))
    head = bank.desk("auditor-1").export(tmp_path / "log.jsonl")
    pinned = load_document(bank.centre.settings.root_file, SignedRoot)
    found = verify_file(tmp_path / "log.jsonl", pinned)
    assert (found.head, found.federation) == (head, "demo")
    with pytest.raises(UsageError, match="exists"):
        bank.desk("auditor-1").export(tmp_path / "log.jsonl")


def test_pages_have_a_bound_and_leave_nothing_out(bank: Bank) -> None:
    for seed in range(7):
        what = plan_of(seed)
        bank.desk("author-1").propose(what, authored(what))
    client = bank.client("auditor-1")
    seen, token = [], ""
    while True:
        request = governance.ListPlansRequest(page_size=3, page_token=token)
        page = client.ask("covenant.governance.v1.Plans/ListPlans", request, governance.ListPlansResponse)
        assert len(page.plans) <= 3
        seen += [each.digest for each in page.plans]
        token = page.next_page_token
        if not token:
            break
    assert seen == [plan_of(seed).plan.digest for seed in reversed(range(7))]
    entries, token = [], ""
    while True:
        asked = governance.ListEntriesRequest(page_size=2, page_token=token, kind="proposed")
        page = client.ask(f"{LOG}ListEntries", asked, governance.ListEntriesResponse)
        entries += [each.seq for each in page.entries]
        token = page.next_page_token
        if not token:
            break
    assert len(entries) == len(set(entries)) == 7
    for wrong in ("x", "-1", "9" * 16, "٣"):
        with pytest.raises(UsageError, match="page_token"):
            client.ask(
                f"{LOG}ListEntries",
                governance.ListEntriesRequest(page_token=wrong),
                governance.ListEntriesResponse,
            )


@pytest.mark.slow
def test_refusals_do_not_fill_the_log(bank: Bank) -> None:
    desk = bank.desk("auditor-1")
    for _ in range(MOST_AN_HOUR + 5):
        with pytest.raises(Refused):
            desk.stop(NOWHERE)
    with pytest.raises(Refused):
        bank.desk("operator-1").stop(NOWHERE)
    told = [each for each in bank.told("denied") if isinstance(each, CallDenied)]
    assert [each.officer for each in told] == ["auditor-1"] * (MOST_AN_HOUR + 1) + ["operator-1"]
    assert [each.silent for each in told] == [False] * MOST_AN_HOUR + [True, False]
    with reading(bank.centre.engine, "looking") as session:
        answers = Counter(session.scalars(select(StoredRequest.officer)))
    assert answers == {"auditor-1": MOST_AN_HOUR + 1, "operator-1": 1}
    bank.audited()
