"""What a site has answered: kept with what it promises, checked when it is read, and of one history a run.

At the journal itself; what the rules keep a coordinator from is in the tests of the site's door.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from client.journal import answers
from client.journal.answers import Answers, Question, secure_question
from client.journal.entries import Holder, JournalBroken, Owner
from client.journal.file import Journal
from client.refusal import TaskRefused
from protos.frames import RefusalCode, SecureRequest, Stage, Statement
from strategies.encoding import digest_of
from strategies.ids import RunId, site_name
from strategies.secagg.labels import Attempt
from strategies.secagg.messages import (
    AdvertiseRequest,
    Body,
    ConfirmRequest,
    Frame,
    MaskRequest,
    ShareRequest,
    UnmaskRequest,
)
from strategies.secagg.suites import Suite
from tests.client.rounds_for_tests import unchecked

OWNER = Owner(federation="demo", root="root-key", site="west", identity="west-key")
RUN, ANOTHER = RunId("run-0123456789abcdef"), RunId("run-00000000000000ff")
ROSTER = tuple(map(site_name, ("east", "north", "west")))
PROMISE = b"shares that a confirmation promises"


NOW = datetime(2026, 11, 25, tzinfo=UTC)


@dataclass
class Book:
    """Answers in a file, closed and opened again whenever a test likes."""

    path: Path
    answers: Answers = field(init=False)
    accounts: Journal = field(init=False)

    def __post_init__(self) -> None:
        self.accounts = Journal.open(self.path.with_name("accounts.db"), Holder(site="west"), shared=True)
        self.answers = Answers(Journal.open(self.path, OWNER), self.accounts, lambda: NOW)

    def reopen(self) -> None:
        self.close()
        self.answers = Answers(Journal.open(self.path, OWNER), self.accounts, lambda: NOW)

    def close(self) -> None:
        self.answers.journal.close()

    def spoil(self, old: bytes, new: bytes) -> None:
        """Change an attachment on the disk behind the journal's back."""
        self.close()
        connection = sqlite3.connect(self.path)
        found = connection.execute("SELECT seq, content FROM attachments").fetchall()
        ((seq, content),) = [each for each in found if old in each[1]]
        connection.execute(
            "UPDATE attachments SET content = ? WHERE seq = ?", (content.replace(old, new), seq)
        )
        connection.commit()
        connection.close()
        self.answers = Answers(Journal.open(self.path, OWNER), self.accounts, lambda: NOW)


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Book]:
    made = Book(tmp_path / "journal.db")
    yield made
    made.close()


def told(stage: Stage = Stage.TRAIN, number: int = 2, **changed: object) -> Statement:
    said = Statement(
        plan_digest=digest_of("plan"),
        contract_digest=digest_of("contract"),
        members_digest=digest_of("members"),
        run=RUN,
        stage=stage,
        round=number,
        attempt=1,
        roster=ROSTER,
        component="tabular/1",
        model_digest=digest_of("model"),
        scaling_digest=digest_of("scaling"),
        optimizer_digest=digest_of("optimiser"),
    )
    return replace(said, **changed)


def asked(said: Statement, body: Body) -> SecureRequest:
    attempt = Attempt(
        suite=Suite.X25519,
        plan=said.plan_digest,
        run=said.run,
        stage=said.stage.name,
        round=said.round,
        attempt=said.attempt,
    )
    return SecureRequest(frames=(Frame(attempt, body),), statement=said)


def mask(said: Statement) -> Question:
    question = secure_question(asked(said, MaskRequest(statement=said.digest, roster=ROSTER, envelopes={})))
    assert question is not None
    return question


def confirm(said: Statement) -> Question:
    question = secure_question(replace(asked(said, ConfirmRequest(ROSTER)), statement=None))
    assert question is not None
    return question


def slot(said: Statement) -> tuple[str, str, int, int]:
    return said.run, said.stage.name, said.round, said.attempt


# One history of a run.

NAMES = {
    "scaling": "scaling_digest",
    "model of round 1": "model_digest",
    "optimiser state of round 1": "optimizer_digest",
}
OTHER = digest_of("another")


def original(name: str) -> str:
    digest = getattr(told(), NAMES[name])
    assert isinstance(digest, str)
    return digest


@pytest.mark.parametrize("name", list(NAMES))
def test_what_an_input_was_computed_from_does_not_change_within_a_run(book: Book, name: str) -> None:
    first = told()
    book.answers.record(mask(first), b"input")
    for _ in range(2):
        for stage, number in ((Stage.TRAIN, 2), (Stage.EVALUATE, 1)):
            other = told(stage, number, attempt=2, **{NAMES[name]: OTHER})
            with pytest.raises(TaskRefused, match=f"from another {name}, {original(name)[:16]}"):
                book.answers.kept(mask(other))
            assert book.answers.kept(mask(told(stage, number, attempt=2))) is None
        assert book.answers.kept(mask(first)) == b"input"
        book.reopen()


@pytest.mark.parametrize("name", list(NAMES))
def test_another_run_has_a_history_of_its_own(book: Book, name: str) -> None:
    book.answers.record(mask(told()), b"input")
    assert book.answers.kept(mask(told(run=ANOTHER, **{NAMES[name]: OTHER}))) is None


@pytest.mark.parametrize("name", ["model of round 1", "optimiser state of round 1"])
def test_another_round_has_another_model(book: Book, name: str) -> None:
    book.answers.record(mask(told()), b"input")
    for stage, number in ((Stage.TRAIN, 3), (Stage.EVALUATE, 2)):
        assert book.answers.kept(mask(told(stage, number, **{NAMES[name]: OTHER}))) is None


def test_what_was_refused_makes_no_history(book: Book) -> None:
    """An input that was never masked under a model says nothing of it."""
    assert book.answers.kept(mask(told(model_digest=OTHER))) is None
    assert book.answers.kept(mask(told(attempt=2))) is None


def test_to_prepare_needs_no_history(book: Book) -> None:
    nothing = told(Stage.PREPARE, 0, model_digest=None, scaling_digest=None, optimizer_digest=None)
    assert mask(nothing).history == {}
    book.answers.record(mask(nothing), b"moments")
    assert book.answers.kept(mask(told())) is None


# What is recorded, and what takes no slot.


@pytest.mark.parametrize("body", [AdvertiseRequest(), ShareRequest(())])
def test_keys_are_no_answer_to_record(body: Body) -> None:
    assert secure_question(asked(told(), body)) is None


def test_who_has_confirmed_makes_no_other_question() -> None:
    request = UnmaskRequest(statement=OTHER, survivors=ROSTER, dropped=(), confirmations={ROSTER[0]: b"1"})
    more = replace(request, confirmations=dict.fromkeys(ROSTER, b"2"))
    fewer = replace(request, survivors=ROSTER[:2], dropped=ROSTER[2:])
    first, second, third = (secure_question(asked(told(), each)) for each in (request, more, fewer))
    assert first == second
    assert first != third


# Answers and promises are those that were recorded.


def recorded(book: Book) -> Statement:
    said = told()
    book.answers.record(mask(said), b"the masked input")
    book.answers.record(confirm(said), b"the confirmation", PROMISE)
    return said


def test_an_answer_and_its_promise_come_back(book: Book) -> None:
    said = recorded(book)
    for _ in range(2):
        assert book.answers.kept(mask(said)) == b"the masked input"
        assert book.answers.kept(confirm(said)) == b"the confirmation"
        assert book.answers.promise(*slot(said)) == PROMISE
        book.reopen()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"masked input", b"masked Input"),
        (b"masked input", b"masked input and more"),
        (b"masked input", b""),
    ],
    ids=["changed", "longer", "shorter"],
)
def test_an_answer_that_was_changed_on_the_disk_does_not_leave(book: Book, old: bytes, new: bytes) -> None:
    said = recorded(book)
    book.spoil(old, new)
    with pytest.raises(JournalBroken, match=r"answer to step mask of attempt 1 .* is not what was recorded"):
        book.answers.kept(mask(said))


@pytest.mark.parametrize("new", [b"other shares", b"", PROMISE + b" and more"])
def test_a_promise_that_was_changed_on_the_disk_is_not_used(book: Book, new: bytes) -> None:
    """Nor does the answer beside it leave."""
    said = recorded(book)
    book.spoil(PROMISE, new)
    with pytest.raises(JournalBroken, match="is not what was recorded"):
        book.answers.promise(*slot(said))
    with pytest.raises(JournalBroken, match="is not what was recorded"):
        book.answers.kept(confirm(said))


def test_a_promise_beside_an_answer_that_made_none_is_not_used(book: Book) -> None:
    said = recorded(book)
    book.spoil(b"the masked input", b"the masked input" + PROMISE)
    with pytest.raises(JournalBroken, match="is not what was recorded"):
        book.answers.kept(mask(said))


def test_an_answer_that_was_changed_on_the_disk_leaves_without_the_guard(
    book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = recorded(book)
    book.spoil(b"the masked input", b"the Masked input")
    book.spoil(PROMISE, b"other shares")
    monkeypatch.setattr(Answers, "_beside", unchecked)
    assert book.answers.kept(mask(said)) == b"the Masked input"
    assert book.answers.promise(*slot(said)) == b"other shares"


# How much is kept.


def attachments(book: Book) -> int:
    connection = book.answers.journal._connection
    (count,) = connection.execute("SELECT count(*) FROM attachments").fetchone()
    return int(count)


def test_sixteen_answers_can_be_said_again(book: Book) -> None:
    questions = [mask(told(attempt=attempt)) for attempt in range(1, 31)]
    for number, question in enumerate(questions):
        book.answers.record(question, b"%d" % number)
        assert attachments(book) == min(number + 1, 16)
    assert [book.answers.kept(each) for each in questions[14:]] == [b"%d" % n for n in range(14, 30)]
    for question in questions[:14]:
        with pytest.raises(TaskRefused, match="too long ago to say it again"):
            book.answers.kept(question)


def test_each_run_has_one_promise_at_most_and_others_do_not_touch_it(book: Book) -> None:
    first, other = told(), told(run=ANOTHER)
    book.answers.record(confirm(first), b"first", PROMISE)
    book.answers.record(confirm(other), b"other", PROMISE)
    for _ in range(2):
        assert book.answers.promise(*slot(first)) == book.answers.promise(*slot(other)) == PROMISE
        book.reopen()
    again = told(attempt=2)
    book.answers.record(confirm(again), b"again", PROMISE)
    for _ in range(2):
        assert book.answers.promise(*slot(first)) is None
        assert book.answers.promise(*slot(again)) == book.answers.promise(*slot(other)) == PROMISE
        book.reopen()
    assert attachments(book) == 2


def test_a_promise_goes_with_the_next_step_of_its_run(book: Book) -> None:
    said = recorded(book)
    book.answers.record(mask(told(attempt=2)), b"the next input")
    assert book.answers.promise(*slot(said)) is None
    assert book.answers.kept(mask(said)) == b"the masked input"
    with pytest.raises(TaskRefused, match="too long ago to say it again"):
        book.answers.kept(confirm(said))
    book.close()
    assert not [path for path in book.path.parent.iterdir() if PROMISE in path.read_bytes()]


def test_whoever_names_ever_new_runs_does_not_fill_the_disk(book: Book) -> None:
    """A refusal of documents that anybody may have sent is recorded, and so many of a day, also after a restart."""
    for number in range(answers._MOST_REFUSALS + 5):
        book.answers.note_refusal(RunId(f"run-{number:016x}"), RefusalCode.SIGNATURE, "signed by nobody")
    book.reopen()
    book.answers.note_refusal(ANOTHER, RefusalCode.SIGNATURE, "signed by nobody")
    assert len(list(book.answers.journal.entries(answers.REFUSED))) == answers._MOST_REFUSALS
    book.answers.clock = lambda: NOW + timedelta(days=1)
    book.answers.note_refusal(ANOTHER, RefusalCode.SIGNATURE, "signed by nobody")
    assert len(list(book.answers.journal.entries(answers.REFUSED))) == answers._MOST_REFUSALS + 1
