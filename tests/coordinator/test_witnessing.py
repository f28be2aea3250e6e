"""The coordinator's side of witnesses: who is asked when, what the log then says, and what becomes of evidence against it."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import delete

from coordinator.db.engine import reading, writing
from coordinator.db.witness_schema import WitnessRow
from coordinator.governance.witnesses import WitnessBook, require_no_fork
from coordinator.rounds.asking import TooFewSurvivors
from coordinator.rounds.refusals import ForkFound
from coordinator.runs import record
from protos.codec import encode_reply
from protos.documents import load_document
from protos.frames import REFUSAL, Refusal, RefusalCode, Reply, WitnessAnswer, WitnessRequest
from protos.log_audit import Audit, audit
from protos.log_entries import LogEntry
from protos.log_run_events import RunWitnessed, SiteRefused
from protos.root import SignedRoot
from protos.secure_codec import decode_answer, decode_asked
from protos.vouching import SignedVoucher
from protos.witness import MOST_WITNESSES, Evidence, SignedWitness, view_digest
from strategies.encoding import sha256_hex
from strategies.errors import Refused
from strategies.ids import RunId, SiteName
from strategies.secagg.messages import ConfirmRequest
from strategies.transparency.notes import Checkpoint
from tests.coordinator.secure_for_tests import EAST, NORTH, RUN, SOUTH, WEST, Ask, Secured, secure_plan
from tests.coordinator.sums_for_tests import Make

OTHER = RunId("run-00000000000000aa")


def kinds(federation: Secured) -> list[str]:
    return [LogEntry.from_canonical(each.body).what.kind for each in federation.log.entries()]


def audited(federation: Secured) -> Audit:
    pinned = load_document(federation.centre.settings.root_file, SignedRoot)
    return audit((each.body for each in federation.log.entries()), pinned)


def book(federation: Secured) -> WitnessBook:
    return WitnessBook(federation.engine, federation.clock.wall)


def test_the_witnesses_are_in_the_log_before_anything_is_settled_and_see_the_end(make: Make) -> None:
    federation = make(secure_plan())
    driver = federation.driver()
    driver.drive()
    told = kinds(federation)
    assert told.index("launch") < told.index("witnessed") < told.index("settled")
    size = federation.log.size()
    driver.conclude()
    story = audited(federation)
    assert story.witnesses.sizes == dict.fromkeys(federation.sites, size)
    assert story.witnesses.unseen == 1  # the entry that says so


def test_a_site_that_comes_later_is_a_witness_before_it_is_in_a_sum(make: Make) -> None:
    federation = make(secure_plan(rounds=2))
    absent: set[SiteName] = {WEST}
    federation.wire.absent = lambda: absent if federation.store.last_committed() is None else ()
    federation.drive()
    witnessed = [LogEntry.from_canonical(each.body).what for each in federation.log.entries(kind="witnessed")]
    who = [
        [s.statement.site for s in each.statements] for each in witnessed if isinstance(each, RunWitnessed)
    ]
    assert who == [[site for site in federation.sites if site != WEST], [WEST]]
    assert WEST in audited(federation).runs[RUN].survivors


def test_another_driver_asks_anew(make: Make) -> None:
    federation = make(secure_plan(rounds=2))
    federation.drive()
    federation.drive()
    assert federation.wire.witnessed == [*federation.sites]  # it had nothing left to ask for
    assert audited(federation).runs[RUN].is_complete


def test_too_few_witnesses_settle_nothing(make: Make) -> None:
    federation = make(
        secure_plan().model_copy(
            update={"sites": secure_plan().sites.model_copy(update={"witnesses": 4, "join_within": 1.0})}
        )
    )
    federation.wire.absent = lambda: [WEST]
    with pytest.raises(TooFewSurvivors, match="3 of at least 4 sites have witnessed"):
        federation.drive()
    assert not {"witnessed", "settled"} & set(kinds(federation))


def test_a_database_that_was_set_back_ends_the_run_and_keeps_all_others_from_being_launched(
    make: Make, tmp_path: Path
) -> None:
    federation = make(secure_plan())
    database = federation.layout.home / "covenant.db"
    shutil.copyfile(database, tmp_path / "old.db")
    driver = federation.driver()
    driver.drive()
    driver.conclude()
    before = federation.log.size()
    federation.engine.dispose()
    shutil.copyfile(tmp_path / "old.db", database)
    with pytest.raises(
        ForkFound, match=rf"{EAST} has shown, signed by .*, that the transparency log had \d+ entries"
    ):
        federation.drive()
    assert federation.log.size() < before
    (found,) = book(federation).found()
    assert (found.evidence.shows, found.stands) == ("shorter", True)
    assert len(found.evidence.notes) == 2
    with pytest.raises(Refused, match="nothing is launched before a person has dealt with it"):
        record(federation.centre, replace(federation.documents, run=OTHER))
    book(federation).settle(found.number, "the newest copy was put back")
    with reading(federation.engine, "looking") as session:
        require_no_fork(session)
    assert not {"witnessed", "settled"} & set(kinds(federation))


def test_a_site_that_was_set_back_is_left_out_and_the_evidence_is_kept(make: Make) -> None:
    federation = make(secure_plan(rounds=1))
    journal = federation.layout.journal(WEST)
    federation.drive()
    federation.wire.participants[WEST].close()
    for path in journal.parent.glob("journal.db*"):
        path.unlink()
    federation.wire.participants[WEST] = federation._participant(WEST)
    driver = federation.driver()
    assert driver._witnessing.ensure(federation.sites) == tuple(s for s in federation.sites if s != WEST)
    assert "was set back to an older copy" in driver._roster.refused[WEST]
    (found,) = book(federation).found()
    assert (found.evidence.shows, found.evidence.site, found.stands) == ("set back", WEST, False)
    refused = [LogEntry.from_canonical(each.body).what for each in federation.log.entries(kind="refused")]
    assert [(each.site, each.code) for each in refused if isinstance(each, SiteRefused)] == [
        (WEST, "signature")
    ]
    audited(federation)


def test_a_statement_that_is_not_the_answer_is_not_counted(make: Make) -> None:
    federation = make(secure_plan())
    kept: dict[SiteName, bytes] = {}
    answer = federation.wire.participants[WEST].answer

    def say_again(frame: bytes) -> bytes:
        asked = decode_asked(frame)
        if isinstance(asked, WitnessRequest) and (asked.starts or asked.vouchers):
            return answer(frame)  # it is vouched for
        return kept.setdefault(WEST, answer(frame))

    federation.wire.participants[WEST].answer = say_again  # type: ignore[method-assign]
    driver = federation.driver()
    assert driver._witnessing.ensure(federation.sites) == federation.sites
    again = federation.driver()
    assert WEST not in again._witnessing.ensure(federation.sites)


def test_a_made_up_place_of_another_sites_journal_keeps_nobody_out(make: Make) -> None:
    """West signs that south's journal had an entry which it never had. It is not counted, and south hears nothing of it."""
    federation = make(secure_plan())
    federation.driver()._witnessing.ensure(federation.sites)
    west = federation.wire.participants[WEST]
    answer = west.answer

    def lie(frame: bytes) -> bytes:
        reply = decode_answer(answer(frame))
        if not isinstance(reply.body, WitnessAnswer) or reply.body.statement is None:
            return encode_reply(reply)
        place = reply.body.view[SOUTH]
        view = {**reply.body.view, SOUTH: place.model_copy(update={"sequence": place.sequence + 1000})}
        said = reply.body.statement.statement.model_copy(update={"view": view_digest(view)})
        statement = SignedWitness.sign(said, west.identity)
        return encode_reply(replace(reply, body=replace(reply.body, statement=statement, view=view)))

    west.answer = lie  # type: ignore[method-assign]
    for _ in range(2):
        witnessing = federation.driver()._witnessing
        assert witnessing.ensure(federation.sites) == tuple(s for s in federation.sites if s != WEST)
    assert not book(federation).found()
    west.answer = answer  # type: ignore[method-assign]
    assert federation.driver()._witnessing.ensure(federation.sites) == federation.sites


def test_a_site_that_vouches_a_thousand_times_keeps_nobody_out(make: Make) -> None:
    """With more vouchers than there may be sites, the message to who was started could not be read there."""
    federation = make(secure_plan())
    west = federation.wire.participants[WEST]
    answer = west.answer

    def flood(frame: bytes) -> bytes:
        reply = decode_answer(answer(frame))
        if not isinstance(reply.body, WitnessAnswer) or not reply.body.vouchers:
            return encode_reply(reply)
        of_south = [each for each in reply.body.vouchers if each.voucher.site == SOUTH]
        return encode_reply(
            replace(reply, body=replace(reply.body, vouchers=tuple(of_south * MOST_WITNESSES)))
        )

    west.answer = flood  # type: ignore[method-assign]
    assert SOUTH in federation.driver()._witnessing.ensure(federation.sites)


def test_an_attempt_goes_on_where_the_last_one_ended(make: Make) -> None:
    """Many sites that start at once take longer than one attempt: who has vouched for whom is not asked it again, and no word is lost."""
    federation = make(secure_plan())
    asked: list[tuple[SiteName, tuple[SiteName, ...]]] = []
    slow = {NORTH, SOUTH, WEST}

    def listening(site: SiteName) -> None:
        answer = federation.wire.participants[site].answer

        def listen(frame: bytes) -> bytes:
            request = decode_asked(frame)
            if isinstance(request, WitnessRequest) and request.starts:
                asked.append((site, tuple(sorted(each.start.site for each in request.starts))))
                if site in slow:
                    return b"too late"
            return answer(frame)

        federation.wire.participants[site].answer = listen  # type: ignore[method-assign]

    for site in federation.sites:
        listening(site)
    witnessing = federation.driver()._witnessing
    with pytest.raises(TooFewSurvivors, match="too few have vouched"):
        witnessing.ensure(federation.sites)
    everybody = {site: tuple(each for each in federation.sites if each != site) for site in federation.sites}
    assert dict(asked) == everybody
    asked.clear()
    slow.clear()
    assert witnessing.ensure(federation.sites) == federation.sites
    assert dict(asked) == {site: everybody[site] for site in (NORTH, SOUTH, WEST)}


def test_nobody_vouches_in_the_name_of_another(make: Make) -> None:
    federation = make(secure_plan())
    west, asked = federation.wire.participants[WEST], []
    answers = {site: each.answer for site, each in federation.wire.participants.items()}

    def forge(frame: bytes) -> bytes:
        reply = decode_answer(answers[WEST](frame))
        if not isinstance(reply.body, WitnessAnswer):
            return encode_reply(reply)
        forged = [
            SignedVoucher.sign(each.voucher.model_copy(update={"by": NORTH}), west.identity)
            for each in reply.body.vouchers
        ]
        return encode_reply(replace(reply, body=replace(reply.body, vouchers=tuple(forged))))

    def listen(frame: bytes) -> bytes:
        request = decode_asked(frame)
        asked.extend(request.vouchers if isinstance(request, WitnessRequest) else ())
        return answers[SOUTH](frame)

    west.answer = forge  # type: ignore[method-assign]
    federation.wire.participants[SOUTH].answer = listen  # type: ignore[method-assign]
    federation.driver()._witnessing.ensure(federation.sites)
    assert sorted(each.voucher.by for each in asked) == [EAST, NORTH]


def test_sites_that_know_more_of_each_other_than_the_database_are_heard_again(make: Make) -> None:
    """The database was set back to before it had the newest statements, and the log lost nothing by it."""
    federation = make(secure_plan())
    for _ in range(2):
        federation.driver()._witnessing.ensure(federation.sites)
        federation.drive()
    with writing(federation.engine, "losing statements") as session:
        session.execute(delete(WitnessRow))
    witnessing = federation.driver()._witnessing
    with pytest.raises(TooFewSurvivors, match=r"says of the journal of .* what .* has not signed"):
        witnessing.ensure(federation.sites)
    assert witnessing.ensure(federation.sites) == federation.sites


def refusing(federation: Secured, evidence: Evidence) -> None:
    """What west answers from now on, signed."""
    west = federation.wire.participants[WEST]

    def refuse(frame: bytes) -> bytes:
        echo = sha256_hex(frame)
        said = Refusal(RefusalCode.SIGNATURE, "a fork", evidence=evidence.encoded)
        signed = west.identity.sign_raw(REFUSAL, said.message(echo, WEST))
        return encode_reply(Reply(statement_digest=echo, site=WEST, body=replace(said, signature=signed)))

    west.answer = refuse  # type: ignore[method-assign]


@pytest.mark.parametrize("shows", ["split", "shorter", "not extended"])
def test_a_head_that_a_site_made_up_is_no_fork(make: Make, shows: str) -> None:
    """The site signs what it likes; neither the log's key has signed that head, nor was it an answer to one that was shown."""
    federation = make(secure_plan())
    federation.driver()._witnessing.ensure(federation.sites)
    own = federation.wire.participants[WEST].witness.memory.newest
    assert own is not None
    size = own.statement.head.size + (10**6 if shows == "shorter" else 0)
    head = Checkpoint(origin=own.statement.head.origin, size=size, root=bytes(32))
    said = own.statement.model_copy(update={"checkpoint": head.text})
    made_up = SignedWitness.sign(said, federation.wire.participants[WEST].identity)
    refusing(federation, Evidence(shows=shows, site=WEST, statements=(made_up,)))  # type: ignore[arg-type]
    ready = federation.driver()._witnessing.ensure(federation.sites)
    assert ready == tuple(each for each in federation.sites if each != WEST)
    assert not book(federation).found()


def test_no_run_goes_on_while_the_log_is_known_to_be_forked(make: Make) -> None:
    federation = make(secure_plan(rounds=1))

    def found(asked: Ask) -> None:
        if asked.asks is ConfirmRequest and asked.number == 1:
            notes = (federation.log.checkpoint().encoded,)
            book(federation).add(RUN, Evidence(shows="split", site=EAST, notes=notes))

    federation.wire.after = found
    with pytest.raises(Refused, match="before a person has dealt with it, and no run goes on"):
        federation.drive()
    assert {each.stage.name for each in federation.wire.opening_asks()} == {"PREPARE"}
    with pytest.raises(Refused, match="before a person has dealt with it"):
        federation.drive()
    federation.wire.after = lambda _: None
    book(federation).settle(1, "it was looked into")
    federation.drive()
    assert audited(federation).runs[RUN].committed == 1
