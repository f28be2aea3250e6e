"""What attacks on a site's door have in common: attempts, a first round, and how a guard is switched off."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from itertools import count
from typing import Any

import pytest

from client.journal import answers
from client.journal.answers import Answers
from client.journal.entries import Entry, JournalBroken
from client.journal.file import Journal
from client.secure.rounds import SecureRounds
from protos.frames import SecureAnswer, SecureRequest, Stage
from strategies.features import Scaling
from strategies.ids import RunId, SiteName
from strategies.secagg import server as central
from strategies.secagg.messages import Frame
from tests.client.secure_for_tests import SITES, SecureBank, Sum, begun

Guard = pytest.MonkeyPatch
_attempts = count(1)


def fresh(standing: SecureBank) -> Sum:
    """An attempt that no other test has made."""
    return Sum(standing, attempt_number=next(_attempts))


def another_run(number: int) -> RunId:
    """A run that is not the one of most tests."""
    return RunId(f"run-{number:016x}")


def training(bank: SecureBank, spread: float = 0.3) -> Sum:
    """The first round, its statement naming a scaling of this spread."""
    scaling = Scaling(mean=(0.5, 0.5), std=(spread, spread))
    return Sum(bank, Stage.TRAIN, 1, told=begun(bank, scaling=scaling))


def confirmed_without_east(bank: SecureBank) -> tuple[Sum, central.Unmasking]:
    """East is on the roster, and its input never comes."""
    asked = Sum(bank)
    return asked, asked.confirm(asked.mask(asked.set_up(), SITES[1:]))


def off(guard: Guard, where: object, name: str, instead: Callable[..., object] = lambda *_: None) -> None:
    """Switch one guard off."""
    guard.setattr(where, name, instead)


def every_step(rounds: SecureRounds, asked: SecureRequest) -> SecureAnswer:
    """In the place of `SecureRounds.answer`: whatever rides is answered as if it came alone, and a refusal of it is one of the whole."""
    return SecureAnswer(
        tuple(Frame(frame.attempt, rounds._step(frame, asked)) for frame in asked.frames), None
    )


def keep_promises(guard: Guard) -> None:
    """What was promised is not wiped from the disk when it was given."""
    append = Journal.append

    def appended(journal: Journal, *entry: Any, forget: object = None, **kept: Any) -> Entry:
        return append(journal, *entry, **kept)

    guard.setattr(Journal, "append", appended)


def unchecked(book: Answers, found: answers._Recorded, _: str) -> tuple[bytes, bytes]:
    """In the place of `Answers._beside`: what is on the disk is what was recorded."""
    kept = book.journal.attachment(found.seq)
    assert kept is not None
    return answers._divided(kept)


def broken(*_: object, **__: object) -> None:
    """Instead of anything that a journal does."""
    raise JournalBroken("no")


def tamper(bank: SecureBank, site: SiteName, old: bytes, new: bytes) -> None:
    """Change the newest answer in the journal of a site that does not run, and what it promises, on the disk."""
    bank.close()
    connection = sqlite3.connect(bank.folder / site / "journal.db")
    newest = "SELECT seq, content FROM attachments ORDER BY seq DESC LIMIT 1"
    seq, content = connection.execute(newest).fetchone()
    assert content.count(old) == 1
    connection.execute("UPDATE attachments SET content = ? WHERE seq = ?", (content.replace(old, new), seq))
    connection.commit()
    connection.close()
