"""Whoever can write the coordinator's database, and has not the console's key, lets nobody in."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, delete, select, update
from sqlalchemy.orm import Session

from coordinator.console.accounts import Accounts, NotAccepted
from coordinator.console.identities import Identities
from coordinator.console.links import PATH, make_link, officer_of, use_link
from coordinator.console.seals import SealedRow, broken, holds, seal
from coordinator.console.sessions import COOKIE, Sessions
from coordinator.console.vault import Vault
from coordinator.db.console_schema import (
    ConsoleAccount,
    ConsoleDraft,
    ConsoleIdentity,
    ConsoleLink,
    ConsoleSession,
)
from coordinator.db.engine import reading, writing
from coordinator.db.migrate import migrate, upgrade
from strategies.encoding import sha256_hex
from strategies.errors import CovenantError, Refused, UsageError
from tests.coordinator.console_for_tests import Pages, Ticking, copied, pages
from tests.coordinator.test_console_accounts import CHEAP, NOW, OFFICER, WORDS, code, made

ISSUER = "https://id.bank.example"
SECRET = "what the attacker knows"
LATER = NOW + timedelta(seconds=30)


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return Vault(tmp_path / "console.key")


@pytest.fixture
def rows(engine: Engine, vault: Vault) -> list[SealedRow]:
    """One row of each kind, as the console writes it."""
    Sessions(engine, vault).begin(OFFICER, "password", NOW)
    make_link(engine, vault, OFFICER, NOW)
    made(Accounts(engine, vault, Ticking(), lambda _: None, CHEAP))
    Identities(engine, vault).tie(ISSUER, "kim", OFFICER, NOW)
    draft = ConsoleDraft(id="d", officer=OFFICER, path="/halt", fields="{}", kept_at=NOW)
    seal(vault, draft)
    planted(engine, draft)
    with reading(engine, "looking") as session:
        return [
            session.scalars(select(ConsoleSession)).one(),
            session.scalars(select(ConsoleLink)).one(),
            session.scalars(select(ConsoleAccount)).one(),
            session.scalars(select(ConsoleIdentity)).one(),
            session.scalars(select(ConsoleDraft)).one(),
        ]


def otherwise(value: str | int | datetime | None) -> str | int | datetime:
    match value:
        case None:
            return NOW
        case str():
            return f"{value}x"
        case int():
            return value + 1
        case datetime():
            return value + timedelta(microseconds=1)


def test_every_column_that_grants_is_under_the_seal(rows: list[SealedRow], vault: Vault) -> None:
    for row in rows:
        assert holds(vault, row), row.__tablename__
        for column in row.__table__.columns:
            if column.name == "notice":
                continue
            before = getattr(row, column.name)
            setattr(row, column.name, otherwise(before))
            assert broken(vault, [row]) == [row], f"{row.__tablename__}.{column.name}"
            setattr(row, column.name, before)
        assert holds(vault, row), row.__tablename__


def test_a_seal_of_another_table_or_key_or_none_does_not_hold(
    rows: list[SealedRow], vault: Vault, tmp_path: Path
) -> None:
    """`other` has the row's own words under the keys of other tables."""
    for row in rows:
        own = row.seal
        for other in rows:
            if other is not row:
                row.seal = other.seal
                assert not holds(vault, row), row.__tablename__
        row.seal = ""
        assert not holds(vault, row), row.__tablename__
        another = Vault(tmp_path / "another.key")
        seal(another, row)
        assert holds(another, row)
        assert not holds(vault, row), row.__tablename__
        row.seal = own
    vault.file.unlink()
    assert broken(vault, rows) == rows
    assert not vault.file.exists()  # no new key makes anything hold


def test_a_key_that_cannot_be_used_lets_nobody_in_and_strangers_do_not_learn_its_place(
    rows: list[SealedRow], vault: Vault
) -> None:
    vault.file.chmod(0o644)
    with pytest.raises(CovenantError, match="the console's key cannot be used") as raised:
        holds(vault, rows[0])
    assert str(vault.file) not in str(raised.value)


def planted(engine: Engine, *rows: SealedRow) -> None:
    with writing(engine, "planting") as session:
        session.add_all(rows)


def test_a_planted_session_is_none(engine: Engine, vault: Vault) -> None:
    sessions = Sessions(engine, vault)
    sessions.begin("risk-1", "password", NOW)
    planted(engine, session_row(seal="0" * 64))
    assert sessions.find(SECRET, NOW) is None
    assert not sessions.lives(sha256_hex(SECRET.encode()), NOW)
    assert not sessions.of(OFFICER, NOW)


def session_row(**more: str) -> ConsoleSession:
    return ConsoleSession(
        digest=sha256_hex(SECRET.encode()),
        officer=OFFICER,
        method="link",
        token="t",
        began_at=NOW,
        seen_at=NOW,
        ends_at=NOW + timedelta(hours=10),
        **more,
    )


@pytest.mark.parametrize(
    "changed",
    [
        {"officer": "admin-1"},
        {"ends_at": NOW + timedelta(days=9)},
        {"seen_at": NOW + timedelta(hours=1)},
        {"method": "link"},
        {"token": "known"},
    ],
    ids=lambda each: next(iter(each)),
)
def test_a_session_that_somebody_changed_is_none(
    engine: Engine, vault: Vault, changed: dict[str, object]
) -> None:
    """Whoever has a session of their own would make it another's, longer, or one that may set a password."""
    sessions = Sessions(engine, vault)
    cookie = sessions.begin("risk-1", "password", NOW)
    assert sessions.find(cookie, NOW) is not None
    with writing(engine, "changing") as session:
        session.execute(update(ConsoleSession).values(**changed))
    assert sessions.find(cookie, NOW) is None


def test_a_session_that_goes_on_is_sealed_anew_and_keeps_its_notice(engine: Engine, vault: Vault) -> None:
    sessions = Sessions(engine, vault)
    cookie = sessions.begin("risk-1", "password", NOW)
    digest = sha256_hex(cookie.encode())
    sessions.tell(digest, "done")
    for minutes in (20, 40, 60):
        found = sessions.find(cookie, NOW + timedelta(minutes=minutes))
        assert found is not None
        assert not found.over
    assert sessions.told(digest) == "done"
    assert sessions.find(cookie, NOW + timedelta(minutes=61)) is not None


def test_a_planted_link_signs_nobody_in_and_stays_to_be_looked_at(engine: Engine, vault: Vault) -> None:
    good = make_link(engine, vault, "risk-1", NOW)
    planted(
        engine,
        ConsoleLink(digest=sha256_hex(SECRET.encode()), officer=OFFICER, until=NOW + timedelta(minutes=5)),
    )
    assert officer_of(engine, vault, SECRET, NOW) is None
    with pytest.raises(Refused, match="used already"):
        use_link(engine, vault, SECRET, NOW)
    with writing(engine, "changing") as session:
        session.execute(update(ConsoleLink).values(officer="admin-1"))
    assert officer_of(engine, vault, good, NOW) is None
    with reading(engine, "looking") as session:
        assert len(session.scalars(select(ConsoleLink)).all()) == 2


def change(column: str, value: object) -> Callable[[Session], object]:
    return lambda session: session.execute(update(ConsoleAccount).values(**{column: value}))


@pytest.mark.parametrize(
    "changing",
    [
        change("password", CHEAP.hash("another password")),
        change("totp_step", 0),
        change("failures", 0),
        change("seal", ""),
        change("seal", "0" * 64),
    ],
    ids=["password", "step", "failures", "none", "made up"],
)
def test_an_account_that_somebody_changed_is_none_and_tells_a_stranger_nothing(
    engine: Engine, vault: Vault, changing: Callable[[Session], object]
) -> None:
    accounts = Accounts(engine, vault, Ticking(), lambda _: None, CHEAP)
    secret = made(accounts)
    with pytest.raises(NotAccepted):
        accounts.sign_in(OFFICER, "wrong", "1", NOW)
    with writing(engine, "changing") as session:
        changing(session)
    said = set()
    for officer, password in ((OFFICER, WORDS), (OFFICER, "another password"), ("nobody", WORDS)):
        with pytest.raises(NotAccepted) as refused:
            accounts.sign_in(officer, password, code(secret, LATER), LATER)
        said.add(str(refused.value))
    assert len(said) == 1
    with pytest.raises(NotAccepted):
        accounts.require_password(OFFICER, WORDS, LATER)
    with pytest.raises(UsageError, match="no account to change"):
        accounts.change_password(OFFICER, WORDS, WORDS)
    assert accounts.find(OFFICER) is None
    assert [each.counts for each in accounts.views(5)] == [False]
    again = accounts.new_secret(OFFICER, "a new link")
    accounts.set_up(OFFICER, WORDS, WORDS, code(again, NOW), again, NOW)
    accounts.sign_in(OFFICER, WORDS, code(again, LATER), LATER)


def test_a_subject_that_somebody_tied_in_the_database_is_nobody_until_it_is_tied_again(
    engine: Engine, vault: Vault
) -> None:
    identities = Identities(engine, vault)
    planted(engine, ConsoleIdentity(issuer=ISSUER, subject="mine", officer=OFFICER, tied_at=NOW))
    assert identities.officer(ISSUER, "mine") is None
    assert [each.counts for each in identities.views(5)] == [False]
    identities.tie(ISSUER, "mine", OFFICER, LATER)
    assert identities.officer(ISSUER, "mine") == OFFICER


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Pages]:
    for bank in copied(tmp_path):
        with pages(bank) as found:
            yield found


def test_a_planted_row_opens_no_page_and_stands_on_everybodys_overview(
    served: Pages, capfd: pytest.CaptureFixture[str]
) -> None:
    now = served.centre.clock()
    assert "did not write as they are" not in served.browser("auditor-1").get("/").text
    row = session_row()
    row.began_at, row.seen_at, row.ends_at = now, now, now + timedelta(hours=1)
    link = ConsoleLink(digest=sha256_hex(b"planted"), officer="admin-1", until=now + timedelta(hours=1))
    planted(served.centre.engine, row, link)
    attacker = served.browser()
    attacker.client.cookies.set(COOKIE, SECRET, domain="127.0.0.1", path="/")
    assert attacker.get("/").url.path == "/signin"
    assert attacker.get("/live").status_code == 401
    answered = attacker.client.post(PATH, data={"link": "planted"}, headers={"Origin": served.address})
    assert (answered.status_code, "used already" in answered.text) == (409, True)
    assert "does not bear its seal" in capfd.readouterr().out
    for officer in ("auditor-1", "operator-1"):
        page = served.browser(officer).get("/").text
        assert "1 sessions, 1 links in the name of admin-1, privacy-1" in re.sub(r"\s+", " ", page)
    with writing(served.centre.engine, "clearing") as session:
        session.execute(delete(ConsoleSession).where(ConsoleSession.digest == row.digest))
        session.execute(delete(ConsoleLink))
    assert "did not write as they are" not in served.browser("auditor-1").get("/").text


def test_rows_of_before_seals_end_or_count_no_longer(tmp_path: Path, opened: Callable[..., Engine]) -> None:
    """No key is at hand when a database is migrated, and whoever wrote such a row is not known."""
    engine = opened()
    with engine.begin() as connection:
        upgrade(connection, "0021")
        connection.exec_driver_sql(
            "INSERT INTO console_accounts (officer, password, totp, totp_step, failures, made_at)"
            " VALUES ('privacy-1', 'x', 'x', 0, 0, '2026-01-01 00:00:00')"
        )
        connection.exec_driver_sql(
            "INSERT INTO console_links (digest, officer, until) VALUES ('x', 'privacy-1', '2026-01-01 00:00:00')"
        )
    migrate(engine)
    vault = Vault(tmp_path / "console.key")
    assert [each.counts for each in Accounts(engine, vault, Ticking(), lambda _: None, CHEAP).views(5)] == [
        False
    ]
    with reading(engine, "looking") as session:
        assert not session.scalars(select(ConsoleLink)).all()
