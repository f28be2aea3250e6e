"""A site is enrolled anew only when no agent runs, and when something besides its own records says what it has released."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from client.bootstrap import open_journal
from client.enrolment.anew import enrol_anew
from client.journal.entries import JournalInUse
from strategies.errors import UsageError
from tests.bank_for_tests import make_bank

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def test_not_while_its_agent_runs(tmp_path: Path) -> None:
    config = make_bank(tmp_path).config("south")
    key = config.identity.key.read_bytes()
    with closing(open_journal(config)), pytest.raises(JournalInUse, match="is in use: another agent"):
        enrol_anew(config, (), "set back", now=NOW)
    assert config.identity.key.read_bytes() == key


@pytest.mark.parametrize("damaged", [False, True])
def test_a_damaged_journal_is_no_hindrance_and_a_log_is_asked_for(tmp_path: Path, damaged: bool) -> None:
    config = make_bank(tmp_path).config("south")
    open_journal(config).close()
    if damaged:
        config.journal.write_bytes(b"no journal" * 1000)
    with pytest.raises(UsageError, match="get an export of the log"):
        enrol_anew(config, (), "lost", now=NOW)
    assert config.identity.key.exists()
    assert config.journal.exists()
