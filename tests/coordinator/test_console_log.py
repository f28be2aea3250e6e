"""The log's pages: searched, proven, exported; whatever people wrote stays text."""

from __future__ import annotations

import csv
import html
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest
from sqlalchemy import delete

from coordinator.api.roles import RULES
from coordinator.console.log_kinds import LABELS
from coordinator.console.routes import all_routes
from coordinator.db import writing
from coordinator.db.witness_schema import WitnessRow
from coordinator.governance.log import append, open_log
from coordinator.governance.witnesses import WitnessBook
from coordinator.runs import launch_read
from protos import log_subjects
from protos.documents import load_document
from protos.keys import public_bytes
from protos.log_entries import LogEntry
from protos.log_export import verify_file
from protos.log_names import origin_of
from protos.log_office import CallDenied
from protos.root import SignedRoot
from protos.witness import Evidence, Position, SignedWitness, WitnessStatement, key_part, view_digest
from strategies.transparency.merkle import leaf_hash, verify_consistency, verify_inclusion
from strategies.transparency.notes import Checkpoint, NoteKey, SignedNote
from tests.coordinator.api_for_tests import approved, plan_of
from tests.coordinator.console_for_tests import Browser, Pages, copied, pages
from tests.trust_for_tests import key_of

HOSTILE = '"><img src=x onerror=alert(1)><script>alert(1)</script>'


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pages]:
    """A coordinator that has launched a run, and refused what somebody worded badly."""
    folder: Path = tmp_path_factory.mktemp("console-log")
    for bank in copied(folder):
        listed = bank.listed
        members = [
            each.model_copy(update={"identity_key": key_of(each.site).public}) for each in listed.members
        ]
        bank.certify(listed.model_copy(update={"version": listed.version + 1, "members": tuple(members)}))
        with pages(bank) as found:
            what = approved(plan_of(members="demo@2"))
            launch_read(found.centre, what.plan, what.contract, what.evidence)
            with writing(found.centre.engine, "refusing") as session:
                append(
                    session,
                    found.centre.clock(),
                    [CallDenied(officer="risk-1", method=f"x{HOSTILE}", reason=f"\u202e=1+1{HOSTILE}")],
                )
            yield found


@pytest.fixture(scope="module")
def auditor(served: Pages) -> Browser:
    return served.browser("auditor-1")


def numbers(page: str) -> list[int]:
    """Of the entries in a list."""
    return [int(each) for each in re.findall(r'<a href="/log/(\d+)">', page)]


def checked(page: str) -> dict:
    """What the browser is given to check."""
    found = re.search(r'data-proof.*?<script type="application/json">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def found_by(browser: Browser, **query: str) -> list[int]:
    return numbers(browser.get(f"/log?{urlencode(query)}").text)


def seqs(served: Pages, kind: str | None = None) -> list[int]:
    log = open_log(served.centre.engine, served.centre.settings, served.centre.clock)
    return [each.seq for each in log.entries(kind=kind)]


def test_every_kind_of_entry_has_its_words() -> None:
    assert set(LABELS) == set(log_subjects._ABOUT)


def test_the_newest_entries_come_first(served: Pages, auditor: Browser) -> None:
    assert numbers(auditor.get("/log").text) == seqs(served)[::-1][:50]


def test_entries_are_found_by_what_they_are_about(served: Pages, auditor: Browser) -> None:
    (launch,), (plan,) = seqs(served, "launch"), seqs(served, "plan")
    (told,) = served.bank.told("launch")
    what = approved(plan_of(members="demo@2"))

    assert found_by(auditor, about=told.run) == [launch]
    assert found_by(auditor, about=told.plan) == [launch, plan]
    assert plan in found_by(auditor, about=what.plan.name)
    assert {launch, plan} <= set(found_by(auditor, about="site/west"))
    assert found_by(auditor, about="west", kind="launch") == [launch]
    assert found_by(auditor, about="risk-1", kind="denied") == seqs(served, "denied")
    assert found_by(auditor, since="2999-01-01T00:00") == found_by(auditor, until="2001-01-01T00:00") == []
    assert found_by(auditor, since="2001-01-01T00:00", kind="plan") == [plan]


def test_a_number_leads_to_its_entry(auditor: Browser) -> None:
    answered = auditor.get("/log?about=1")

    assert (answered.status_code, answered.url.path) == (200, "/log/1")


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("about=<b>nobody", "Nothing in the log is called"),
        ("about=nobody", "Take away one of the conditions"),
    ],
)
def test_what_is_not_found_says_what_to_do(auditor: Browser, query: str, says: str) -> None:
    page = auditor.get(f"/log?{query}").text

    assert says in html.unescape(page)
    assert "<b>nobody" not in page


@pytest.mark.parametrize(
    "path",
    [
        "/log?kind=<script>",
        "/log?since=yesterday",
        "/log?until=9999-12-31T23:59%2B99:00",
        "/log?since=0001-01-01T00:00",
        "/log?until=9999-12-31T23:59",
        "/log?below=-1",
        "/log?above=1e3",
        "/log/999999",
        "/log/-1",
        "/log/%F0%9D%9F%99",
        "/log/9999999999999999999999",
        "/log/consistency?old=5&new=2",
        "/log/consistency?old=0&new=999999",
    ],
)
def test_what_no_page_gave_is_refused_in_a_sentence(auditor: Browser, path: str) -> None:
    answered = auditor.get(path)

    assert answered.status_code == 400
    assert "That cannot be done" in answered.text
    assert "<script>alert" not in answered.text


def test_what_people_wrote_stays_text(served: Pages, auditor: Browser) -> None:
    (denied,) = seqs(served, "denied")
    for path in (
        "/log",
        f"/log/{denied}",
        f"/log?about={HOSTILE}",
        f"/log?kind=denied&about=risk-1&x={HOSTILE}",
    ):
        page = auditor.get(path).text
        assert "<img src=x" not in page
        assert "<script>alert" not in page
    assert "\u202e" not in auditor.get("/log").text


def test_an_entry_has_its_bytes_and_what_proves_them(served: Pages, auditor: Browser) -> None:
    (launch,) = seqs(served, "launch")
    page = auditor.get(f"/log/{launch}").text
    of = checked(page)
    shown = re.search(r'<pre[^>]* id="entry"[^>]*>(.*?)</pre>', page, re.DOTALL)
    assert shown is not None
    body = html.unescape(shown[1]).encode()
    key = NoteKey.parse(of["key"])
    head = Checkpoint.parse(SignedNote.parse(of["note"]).require(key))

    verify_inclusion(
        leaf_hash(body),
        index=launch,
        size=head.size,
        proof=[bytes.fromhex(each) for each in of["proof"]],
        root=head.root,
    )
    assert auditor.get(f"/log/{launch}/entry.json").content == body
    run = LogEntry.from_canonical(body).what.run
    assert f"about=run%2F{run}" in page or f"/runs/{run}" in page
    assert "does not protect against the server" in page


def test_subjects_lead_to_their_pages_or_to_their_entries(served: Pages, auditor: Browser) -> None:
    (plan,) = seqs(served, "plan")
    page = auditor.get(f"/log/{plan}").text
    links = re.findall(r'<span class="of">(\w+)</span> <a href="([^"]+)">([^<]+)</a>', page)

    assert {of for of, _, _ in links} == {"plan", "site", "officer"}
    for _, href, _ in links:
        assert auditor.get(html.unescape(href)).status_code == 200


def test_the_head_is_signed_and_has_its_witnesses(served: Pages, auditor: Browser) -> None:
    assert "No site has co-signed a head yet" in auditor.get("/log/head").text
    _witness(served, "west", sound=True)
    _witness(served, "south", sound=False)
    page = auditor.get("/log/head").text
    rows = list(csv.DictReader(io.StringIO(auditor.get("/log/head?format=csv").text)))

    with writing(served.centre.engine, "taking the unsound one away") as session:
        session.execute(delete(WitnessRow).where(WitnessRow.site == "south"))
    of = checked(page)
    assert SignedNote.parse(of["note"]).require(NoteKey.parse(of["key"]))
    assert [(each["Site"], each["Signature"]) for each in rows] == [
        ("south", "does not verify"),
        ("west", "by the site's key"),
    ]


def _witness(served: Pages, site: str, *, sound: bool) -> None:
    centre = served.centre
    log = open_log(centre.engine, centre.settings, centre.clock)
    (told,), (launch,), key = served.bank.told("launch"), seqs(served, "launch"), key_of(site)
    assert served.bank.listed.member(site).identity_key == key.public
    said = WitnessStatement(
        federation="demo",
        site=site,
        identity=key.public,
        run=told.run,
        launch=launch,
        plan=told.plan,
        checkpoint=log.head(log.size()).text,
        position=Position(epoch=key_part(key.public) * 2, sequence=1, head=told.plan),
        view=view_digest({}),
        at=centre.clock().replace(microsecond=0),
    )
    signed = SignedWitness.sign(said, key if sound else key_of("somebody else"))
    with writing(centre.engine, "witnessing") as session:
        session.add(
            WitnessRow(
                site=site,
                epoch=said.position.epoch,
                sequence=1,
                run_id=told.run,
                size=said.head.size,
                statement=signed.canonical.decode(),
                view="{}",
                received_at=centre.clock(),
            )
        )


def test_growth_is_proven(served: Pages, auditor: Browser) -> None:
    log = open_log(served.centre.engine, served.centre.settings, served.centre.clock)
    old, new = log.head(2), log.head(log.size())
    proof = auditor.get(f"/log/consistency?old=2&new={new.size}").json()["proof"]

    verify_consistency(
        old=2,
        old_root=old.root,
        new=new.size,
        new_root=new.root,
        proof=[bytes.fromhex(each) for each in proof],
    )


def test_the_export_is_what_verify_takes(served: Pages, auditor: Browser, tmp_path: Path) -> None:
    answered = auditor.get("/log/export")
    file = tmp_path / "log.jsonl"
    file.write_bytes(answered.content)
    found = verify_file(file, load_document(served.centre.settings.root_file, SignedRoot))

    assert found.head.size == len(seqs(served))
    assert f"demo-log-{found.head.size}.jsonl" in answered.headers["content-disposition"]
    assert found.log_key == NoteKey(origin_of("demo"), public_bytes(key_of_log(served)))


def key_of_log(served: Pages) -> str:
    return served.bank.listed.service("log").key


def test_exports_are_bounded(served: Pages) -> None:
    browser = served.browser("risk-1")

    assert [browser.get("/log/export").status_code for _ in range(3)] == [200, 200, 429]


def test_the_csv_is_the_search(served: Pages, auditor: Browser) -> None:
    answered = auditor.get("/log?kind=denied&format=csv")
    (row,) = csv.DictReader(io.StringIO(answered.text))

    assert answered.headers["content-disposition"] == 'attachment; filename="log.csv"'
    assert (row["Entry"], row["Kind"]) == (str(seqs(served, "denied")[0]), "denied")


def test_nobody_reads_the_log_without_a_session(served: Pages) -> None:
    for route in all_routes():
        if route.path.startswith("/log"):
            assert route.needs in RULES
            answered = served.browser().get(route.path.replace("{seq}", "0"))
            assert answered.url.path == "/signin"


def test_evidence_of_a_fork_is_on_the_page_of_the_head_with_what_to_do(
    served: Pages, auditor: Browser
) -> None:
    assert "does not fit this log" not in auditor.get("/log/head").text
    assert auditor.get("/log/evidence/1").status_code == 400
    centre = served.centre
    book = WitnessBook(centre.engine, centre.clock)
    (launched,) = served.bank.told("launch")
    note = open_log(centre.engine, centre.settings, centre.clock).checkpoint().encoded
    evidence = Evidence(shows="split", site="west", notes=(note,))
    book.add(launched.run, evidence)
    page = auditor.get("/log/head").text
    assert "Two heads were signed that are of no one log" in page
    assert "stands: nothing is launched" in page
    (row,) = csv.DictReader(io.StringIO(auditor.get("/log/head?format=csv&table=evidence").text))
    head = Checkpoint.parse(SignedNote.parse(note).text)
    assert row["Heads that were signed"] == f"the log: {head.size} entries, {head.root.hex()[:12]}"
    (found,) = book.newest_found(5)
    assert auditor.get(f"/log/evidence/{found.number}").content == evidence.canonical
    for odd in ("0", "-1", "x", "9" * 30, f"{found.number + 1}"):
        assert auditor.get(f"/log/evidence/{odd}").status_code == 400
    assert "See the evidence" in auditor.get("/").text
    book.settle(found.number, HOSTILE)
    after = auditor.get("/log/head").text
    assert "does not fit this log" not in after
    assert "settled: " in after
    assert HOSTILE not in after
