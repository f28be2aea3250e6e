"""A site whose witnessed log does not go on: it follows over a gap that the officers have signed and that names its head, and over nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from client.participant import Participant
from client.transparency.report import report
from protos.frames import Refusal, RefusalCode, WitnessAnswer, WitnessRequest
from protos.gaps import GapDeclared, GapHead, LostHead, SignedGap
from protos.log_entries import GapLogged, LoggedDocument
from protos.site import load_site
from strategies.ids import RunId, SiteName
from strategies.transparency.notes import Checkpoint, SignedNote
from tests.client.secure_for_tests import RUN, SITES, VICTIM, SecureBank, secure_bank
from tests.trust_for_tests import key_of, officers
from tests.witness_for_tests import KeptLog, asked

EAST = SITES[0]
NEXT, LATER = RunId("run-00000000000000aa"), RunId("run-00000000000000bb")
KEPT = 3
"""Entries before the gap: those of the first run."""


@pytest.fixture
def bank() -> Iterator[SecureBank]:
    with secure_bank() as made:
        yield made


def sites(bank: SecureBank, *names: SiteName) -> dict[SiteName, Callable[[], Participant]]:
    return {site: lambda site=site: bank.participant(site) for site in names or SITES}  # type: ignore[misc]


def lost(bank: SecureBank, *names: SiteName) -> SignedNote:
    """The sites have witnessed two runs; all after the first is lost. The head that some of them have signed last."""
    bank.log.witness(RUN, bank.bare_task, sites(bank))
    bank.log.witness(LATER, bank.bare_task, sites(bank, *names))
    return SignedNote.parse(bank.log.note())


def gap_of(log: KeptLog, *notes: SignedNote, by: int = 2, **changes: Any) -> SignedGap:
    root = log.tree.root_at(KEPT)
    assert root is not None
    facts: dict[str, Any] = {
        "federation": "demo",
        "kept": GapHead.of(Checkpoint(origin=log.key.name, size=KEPT, root=root)),
        "lost": tuple(LostHead.known_by(each) for each in notes),
        "reason": "the disk failed",
        "declared": datetime(2026, 11, 25, tzinfo=UTC),
        **changes,
    }
    signed, people = SignedGap(gap=GapDeclared(**facts)), officers()
    for each in people.newest.keys[:by]:
        signed = signed.signed_with(key_of(each.name), people.newest)
    return signed


def restored(bank: SecureBank, gap: SignedGap) -> KeptLog:
    """The log as it goes on after the gap, with what its keeper had known before."""
    log = KeptLog()
    for entry in bank.log.entries[:KEPT]:
        log.entries.append(entry)
        log.tree.append(entry)
    log.append(GapLogged(gap=LoggedDocument.of(gap)))
    return log


def request(log: KeptLog, bank: SecureBank, run: RunId = NEXT, **changes: object) -> WitnessRequest:
    """As an honest keeper asks."""
    made = log.request(run, bank.bare_task)
    honest = replace(made, grown=(*made.grown, *log.grown([KEPT])), gaps=(log.leaf(KEPT),), again=True)
    return replace(honest, **changes)  # type: ignore[arg-type]


def signs(bank: SecureBank, ask: WitnessRequest, site: SiteName = VICTIM) -> WitnessAnswer:
    body = asked(bank.participant(site), ask)
    assert isinstance(body, WitnessAnswer), body
    assert body.statement is not None
    return body


def refuses(bank: SecureBank, ask: WitnessRequest, words: str, site: SiteName = VICTIM) -> Refusal:
    before = bank.participant(site).witness.memory.newest
    body = asked(bank.participant(site), ask)
    assert isinstance(body, Refusal), body
    assert body.code is RefusalCode.SIGNATURE
    assert words in body.reason
    assert bank.participant(site).witness.memory.newest == before
    return body


def test_a_site_follows_over_a_gap_that_names_its_head_and_keeps_what_it_had(bank: SecureBank) -> None:
    before = lost(bank)
    log = restored(bank, gap_of(bank.log, before))
    answer = signs(bank, request(log, bank))
    assert answer.statement is not None
    assert answer.statement.statement.head.size == log.tree.size
    bank.crash(VICTIM)
    facts = report(load_site(bank.folder / VICTIM / "site.yaml"))
    assert facts["forks"] == []
    assert [(each["kept"], each["before"], each["reason"]) for each in facts["gaps"]] == [
        (KEPT, before.encoded, "the disk failed")
    ]
    assert facts["entries"] == log.tree.size
    # From here on it is a log like any other, with the gap in every request or without.
    log.known[VICTIM] = answer
    journal = bank.participant(VICTIM).answers.journal.head[0]
    later = log.request(LATER, bank.bare_task, again=True)
    signs(bank, replace(later, gaps=(log.leaf(KEPT),)))
    signs(bank, later)
    assert bank.participant(VICTIM).answers.journal.head[0] == journal + 2
    # What was lost does not come back.
    refuses(bank, bank.log.request(RunId("run-00000000000000cc"), bank.bare_task, again=True), "")


def test_without_a_gap_the_same_log_is_refused_with_both_heads(bank: SecureBank) -> None:
    before = lost(bank)
    log = restored(bank, gap_of(bank.log, before))
    ask = request(log, bank, gaps=())
    body = refuses(bank, ask, "")
    assert before.encoded.encode() in body.evidence.replace(b"\\n", b"\n").replace(
        b"\\u2014", "\u2014".encode()
    )
    signs(bank, request(log, bank))  # a refusal is no reason to refuse the gap later


Lie = Callable[[SecureBank, SignedNote], WitnessRequest]


def _of(bank: SecureBank, gap: SignedGap, **changes: object) -> WitnessRequest:
    return request(restored(bank, gap), bank, **changes)


def _elsewhere(bank: SecureBank, before: SignedNote) -> WitnessRequest:
    """The gap is in the log, and not after what it says was kept."""
    log = restored(bank, gap_of(bank.log))
    place = log.append(GapLogged(gap=LoggedDocument.of(gap_of(bank.log, before))))
    ask = request(log, bank)
    return replace(ask, gaps=(log.leaf(place),))


def _not_in_it(bank: SecureBank, before: SignedNote) -> WitnessRequest:
    """The gap was signed, and the log does not have it."""
    signed, other = restored(bank, gap_of(bank.log, before)), restored(bank, gap_of(bank.log))
    leaf = signed.leaf(KEPT)
    ask = request(other, bank)
    return replace(ask, gaps=(replace(leaf, hashes=other.leaf(KEPT).hashes),))


def _other_past(bank: SecureBank, before: SignedNote) -> WitnessRequest:
    """What the gap says was kept is no beginning of the log."""
    log = KeptLog()
    for entry in (bank.log.entries[0], bank.log.entries[2], bank.log.entries[1]):
        log.entries.append(entry)
        log.tree.append(entry)
    log.append(GapLogged(gap=LoggedDocument.of(gap_of(bank.log, before))))
    return request(log, bank)


LIES: dict[str, tuple[Lie, str]] = {
    "without the quorum": (lambda b, n: _of(b, gap_of(b.log, n, by=1)), "has 1 of the 2 signatures"),
    "signed by nobody": (
        lambda b, n: _of(b, gap_of(b.log, n).model_copy(update={"signatures": ()})),
        "of the 2 signatures",
    ),
    "another head": (lambda b, _: _of(b, gap_of(b.log)), ""),
    "at another place": (_elsewhere, "says that the log goes on after"),
    "not in the log": (_not_in_it, "does not lead from entry"),
    "after another past": (_other_past, "do not begin with the 3"),
    "without a proof from what was kept": (
        lambda b, n: _of(b, gap_of(b.log, n), grown=()),
        "nothing shows that",
    ),
    "no gap at all": (
        lambda b, n: _swapped(restored(b, gap_of(b.log, n)), b),
        "is no gap",
    ),
}


def _swapped(log: KeptLog, bank: SecureBank) -> WitnessRequest:
    ask = request(log, bank)
    return replace(ask, gaps=(log.leaf(0),))


FAST = {"without the quorum", "another head", "not in the log"}


@pytest.mark.parametrize(
    "lie", [pytest.param(each, marks=[] if each in FAST else pytest.mark.slow) for each in LIES]
)
def test_a_gap_that_is_none_for_this_site_is_refused(lie: str, bank: SecureBank) -> None:
    make, words = LIES[lie]
    before = lost(bank)
    refuses(bank, make(bank, before), words)
    assert bank.participant(VICTIM).witness.memory.bridged == []


def test_peers_who_have_seen_what_is_lost_do_not_stand_in_the_way(bank: SecureBank) -> None:
    """They know each other's statements over lost heads, and one has seen none of it."""
    seen = tuple(site for site in SITES if site != EAST)
    before = lost(bank, *seen)
    bank.log.witness(LATER, bank.bare_task, sites(bank, *seen))  # now they have met
    after = SignedNote.parse(bank.log.note())
    log = restored(bank, gap_of(bank.log, *{each.text: each for each in (before, after)}.values()))
    for site in SITES:
        log.known[site] = signs(bank, request(log, bank), site)
    for site in SITES:
        signs(bank, request(log, bank, LATER), site)
    task = replace(bank.bare_task, witness=log.bundle(log.known).canonical)
    for site in SITES:
        participant = bank.participant(site)
        participant.witness.require(task.witness, participant._judged.documents(task, NEXT), NEXT)


def test_a_peers_old_statement_over_a_lost_head_is_no_fork(bank: SecureBank) -> None:
    before = lost(bank)
    old = bank.log.known[EAST].statement
    assert old is not None
    log = restored(bank, gap_of(bank.log, before))
    signs(bank, request(log, bank, statements=(old,)))
    unnamed = restored(bank, gap_of(bank.log))
    refuses(bank, request(unnamed, bank, LATER, statements=(old,)), "")


def test_the_copy_goes_on_from_what_was_kept(bank: SecureBank) -> None:
    bank.log.witness(RUN, bank.bare_task, sites(bank))
    bank.log.launch(LATER, bank.bare_task)
    ask = replace(
        bank.log.request(LATER, bank.bare_task, again=True),
        entries=tuple(bank.log.entries),
        grown=bank.log.grown([KEPT]),
    )
    assert signs(bank, ask).copied == bank.log.tree.size > KEPT
    log = restored(bank, gap_of(bank.log, SignedNote.parse(bank.log.note())))
    made = request(log, bank)
    body = signs(bank, replace(made, first=KEPT, entries=tuple(log.entries[KEPT:])))
    assert body.copied == log.tree.size
    copy = bank.participant(VICTIM).witness.copy
    assert copy is not None
    assert list(copy.entries(copy.size)) == log.entries
    left = copy._usable().execute("SELECT body FROM left_behind ORDER BY seq").fetchall()
    assert [bytes(each[0]) for each in left] == bank.log.entries[KEPT:]
