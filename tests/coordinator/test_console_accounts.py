"""Local accounts: passwords, codes, locks, and what they tell whoever is refused."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

import argon2
import pyotp
import pytest
from sqlalchemy import Engine

from coordinator.console.accounts import STEP_S, Accounts, NotAccepted
from coordinator.console.links import PATH, make_link
from coordinator.console.seals import seal
from coordinator.console.vault import Vault
from coordinator.db.console_schema import ConsoleAccount
from coordinator.db.engine import reading, writing
from strategies.errors import CovenantError, UsageError
from tests.coordinator.console_for_tests import Browser, Pages, Shifted, Ticking, copied, pages

WORDS = "correct horse battery staple"
OFFICER = "privacy-1"
CHEAP = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
NOW = datetime.fromisoformat("2026-03-01T12:00:10+00:00")


@pytest.fixture
def accounts(engine: Engine, tmp_path: Path) -> Accounts:
    return Accounts(engine, Vault(tmp_path / "console.key"), Ticking(), lambda _: None, CHEAP)


def code(secret: str, at: datetime, steps: int = 0) -> str:
    return pyotp.TOTP(secret).at(at + timedelta(seconds=STEP_S * steps))


def made(accounts: Accounts, officer: str = OFFICER) -> str:
    """An account; returns its authenticator's secret."""
    secret = accounts.new_secret(officer, "session")
    accounts.set_up(officer, WORDS, WORDS, code(secret, NOW, -1), secret, NOW)
    return secret


def row_of(accounts: Accounts, officer: str = OFFICER) -> ConsoleAccount:
    with reading(accounts.engine, "looking") as session:
        return session.get_one(ConsoleAccount, officer)


def refused(accounts: Accounts, officer: str, password: str, typed: str, at: datetime) -> str:
    with pytest.raises(NotAccepted) as error:
        accounts.sign_in(officer, password, typed, at)
    return str(error.value)


def test_a_code_counts_once_and_none_before_it_any_more(accounts: Accounts) -> None:
    secret = made(accounts)
    accounts.sign_in(OFFICER, WORDS, code(secret, NOW), NOW)
    refused(accounts, OFFICER, WORDS, code(secret, NOW), NOW)
    refused(accounts, OFFICER, WORDS, code(secret, NOW, -1), NOW)
    accounts.sign_in(OFFICER, WORDS, f"{code(secret, NOW, 1)[:3]} {code(secret, NOW, 1)[3:]}", NOW)


def test_a_code_of_two_steps_away_does_not_count(accounts: Accounts) -> None:
    secret = made(accounts)
    later = NOW + timedelta(seconds=10 * STEP_S)
    for steps in (-2, 2):
        refused(accounts, OFFICER, WORDS, code(secret, later, steps), later)
    accounts.sign_in(OFFICER, WORDS, code(secret, later, 1), later)


def test_a_code_counts_once_also_where_several_come_at_once(accounts: Accounts) -> None:
    secret = made(accounts)
    typed, together = code(secret, NOW), threading.Barrier(4)

    def one(_: int) -> bool:
        together.wait(10)
        try:
            accounts.sign_in(OFFICER, WORDS, typed, NOW)
        except NotAccepted:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(one, range(4))) == [False, False, False, True]


def test_everybody_who_is_refused_is_told_the_same(accounts: Accounts) -> None:
    secret = made(accounts)
    right = code(secret, NOW)
    said = {
        refused(accounts, "nobody", WORDS, right, NOW),
        refused(accounts, "no\0body", WORDS, right, NOW),
        refused(accounts, "x" * 5000, WORDS, right, NOW),
        refused(accounts, OFFICER, "another password", right, NOW),
        refused(accounts, OFFICER, WORDS + " " * 300, right, NOW),
        refused(accounts, OFFICER, WORDS, "000000", NOW),
        refused(accounts, OFFICER, WORDS, "", NOW),
        refused(accounts, OFFICER, WORDS, "\u0661\u0662\u0663\u0664\u0665\u0666", NOW),
    }
    assert len(said) == 1
    assert row_of(accounts).locked_until is not None
    assert said == {refused(accounts, OFFICER, WORDS, right, NOW)}


def test_a_refusal_hashes_and_lasts_alike_for_officers_and_for_nobody(accounts: Accounts) -> None:
    secret, hashed, slept = made(accounts), [], []
    fits = accounts._fits

    def counted(known: str, password: str) -> bool:
        hashed.append(known.split("$")[:4])
        return fits(known, password)

    accounts._fits, accounts.sleep = counted, slept.append  # type: ignore[method-assign]
    for officer in ("nobody", OFFICER):
        refused(accounts, officer, "another password", code(secret, NOW), NOW)
    assert hashed[0] == hashed[1]
    assert slept[0] == slept[1]


def test_wrong_tries_lock_for_a_growing_while_and_never_for_good(accounts: Accounts) -> None:
    secret = made(accounts)
    at, locks = NOW + timedelta(hours=1), []
    for _ in range(16):
        refused(accounts, OFFICER, "wrong", "000000", at)
        until = row_of(accounts).locked_until
        if until is not None:
            locks.append(until - at)
            refused(accounts, OFFICER, WORDS, code(secret, at), at)
            assert row_of(accounts).locked_until == until  # a try meanwhile makes it no longer
            at = until
    assert locks[0] == timedelta(minutes=1)
    assert all(later == min(2 * one, timedelta(hours=1)) for one, later in pairwise(locks))
    assert locks[-1] == timedelta(hours=1)
    accounts.sign_in(OFFICER, WORDS, code(secret, at), at)
    assert (row_of(accounts).failures, row_of(accounts).locked_until) == (0, None)


def test_a_hash_of_other_parameters_is_made_anew_at_the_next_sign_in(accounts: Accounts) -> None:
    secret = made(accounts)
    before = row_of(accounts).password
    accounts.hasher = argon2.PasswordHasher(time_cost=2, memory_cost=16, parallelism=1)
    accounts.sign_in(OFFICER, WORDS, code(secret, NOW), NOW)
    assert before != (after := row_of(accounts).password)
    assert not accounts.hasher.check_needs_rehash(after)
    accounts.sign_in(OFFICER, WORDS, code(secret, NOW, 1), NOW)
    assert row_of(accounts).password == after


def test_what_hashes_by_default_is_argon2id_with_64_mib() -> None:
    from coordinator.console.accounts import _hasher

    assert _hasher().hash("x").startswith("$argon2id$v=19$m=65536,t=3,p=4$")


@pytest.mark.parametrize(
    ("chosen", "again"), [("elevenchars", "elevenchars"), ("x" * 257, "x" * 257), (WORDS, "another one here")]
)
def test_a_password_of_another_length_or_typed_differently_is_refused(
    accounts: Accounts, chosen: str, again: str
) -> None:
    made(accounts)
    before = row_of(accounts).password
    with pytest.raises(UsageError, match=r"12 to 256|differ"):
        accounts.change_password(OFFICER, chosen, again)
    assert row_of(accounts).password == before


@pytest.mark.parametrize("chosen", ["a" * 12, "\u00e9" * 256, "zw\u00f6lf W\u00f6rter \U0001f510 ok"])
def test_any_characters_will_do_however_they_are_composed(accounts: Accounts, chosen: str) -> None:
    import unicodedata

    secret = made(accounts)
    accounts.change_password(OFFICER, chosen, chosen)
    accounts.sign_in(OFFICER, unicodedata.normalize("NFC", chosen), code(secret, NOW), NOW)


def test_a_wrong_code_sets_nothing_up(accounts: Accounts) -> None:
    secret = accounts.new_secret(OFFICER, "session")
    with pytest.raises(UsageError, match="not what the secret makes"):
        accounts.set_up(OFFICER, WORDS, WORDS, "000000", secret, NOW)
    assert accounts.find(OFFICER) is None


def test_a_secret_is_another_for_each_officer_session_and_set_up(accounts: Accounts) -> None:
    first = accounts.new_secret(OFFICER, "session")
    assert first == accounts.new_secret(OFFICER, "session")
    others = {accounts.new_secret("risk-1", "session"), accounts.new_secret(OFFICER, "another")}
    made(accounts)
    assert len({first, accounts.new_secret(OFFICER, "session"), *others}) == 4


def test_a_sealed_secret_opens_for_its_officer_and_with_its_key_only(
    accounts: Accounts, tmp_path: Path
) -> None:
    secret = made(accounts)
    sealed = row_of(accounts).totp
    assert secret not in sealed
    assert accounts.vault.open(OFFICER, sealed) == secret
    with pytest.raises(CovenantError, match="does not open"):
        accounts.vault.open("risk-1", sealed)
    elsewhere = Vault(tmp_path / "another.key")
    elsewhere.seal(OFFICER, "x")
    with pytest.raises(CovenantError, match="does not open"):
        elsewhere.open(OFFICER, sealed)


def test_an_account_whose_key_is_lost_signs_nobody_in_and_no_key_is_made(accounts: Accounts) -> None:
    secret = made(accounts)
    accounts.vault.file.unlink()
    refused(accounts, OFFICER, WORDS, code(secret, NOW), NOW)
    assert not accounts.vault.file.exists()


def test_the_key_is_private_and_a_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    vault = Vault(tmp_path / "console.key")
    vault.seal(OFFICER, "x")
    assert vault.file.stat().st_mode & 0o777 == 0o600
    vault.file.chmod(0o640)
    with pytest.raises(UsageError, match="chmod 600"):
        vault.seal(OFFICER, "x")
    vault.file.chmod(0o600)
    vault.file.write_bytes(b"short")
    with pytest.raises(UsageError, match="does not hold a key"):
        vault.seal(OFFICER, "x")


# --- in the browser ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clock() -> Shifted:
    return Shifted()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, clock: Shifted) -> Iterator[Pages]:
    for bank in copied(tmp_path_factory.mktemp("console")):
        bank.centre = replace(bank.centre, clock=clock, monotonic=Ticking(), sleep=lambda _: None)
        with pages(bank) as found:
            yield found


def by_link(served: Pages, officer: str) -> Browser:
    browser = served.browser()
    answered = browser.post(
        PATH, {"link": make_link(served.centre.engine, served.vault, officer, served.centre.clock())}
    )
    assert answered.status_code == 200
    return browser


def secret_on(page: str) -> str:
    found = re.search(r"<code>((?:[A-Z2-7]{4} ){7}[A-Z2-7]{4})</code>", page)
    assert found is not None
    return found[1].replace(" ", "")


def set_up(served: Pages, officer: str, password: str = WORDS) -> tuple[Browser, str]:
    browser = by_link(served, officer)
    secret = secret_on(browser.get("/account").text)
    typed = code(secret, served.centre.clock(), -1)
    answered = browser.post(
        "/account/setup", {"password": password, "again": password, "code": typed}, on="/account"
    )
    assert "From now on" in answered.text
    return browser, secret


def test_a_link_an_account_and_a_sign_in_with_it(served: Pages) -> None:
    browser, secret = set_up(served, OFFICER)
    assert secret not in browser.get("/account").text
    again = served.browser()
    fields = {
        "officer": OFFICER,
        "password": WORDS,
        "code": code(secret, served.centre.clock()),
        "next": "/halt",
    }
    answered = again.post("/signin", fields, on="/signin")
    assert (answered.status_code, answered.url.path) == (200, "/halt")
    assert OFFICER in answered.text
    used = served.browser().post("/signin", fields, on="/signin")
    assert used.status_code == 403
    assert WORDS not in used.text
    assert f'value="{OFFICER}"' in used.text


def test_the_picture_is_of_the_secret_and_only_shortly_after_a_link(served: Pages, clock: Shifted) -> None:
    browser = by_link(served, "risk-1")
    picture = browser.get("/account/qr.svg")
    assert picture.headers["content-type"] == "image/svg+xml"
    assert picture.headers["cache-control"] == "no-store"
    assert b"style=" not in picture.content
    other = served.browser("risk-1")
    assert other.get("/account/qr.svg").status_code == 409
    assert "qr.svg" not in other.get("/account").text
    refused = other.post("/account/setup", {"password": WORDS, "again": WORDS, "code": "1"}, on="/account")
    assert refused.status_code == 409
    clock.ahead = timedelta(minutes=20)
    browser.get("/account")
    clock.ahead = timedelta(minutes=31)
    try:
        assert browser.get("/account/qr.svg").status_code == 409
    finally:
        clock.ahead = timedelta(0)


def test_a_password_changes_with_the_old_one_and_ends_other_sessions(served: Pages) -> None:
    set_up(served, "author-1")
    one, other = served.browser("author-1"), served.browser("author-1")
    new = "another four words here"
    fields = {"current": "not this one", "password": new, "again": new}
    assert one.post("/account/password", fields, on="/account").status_code == 409
    assert other.get("/account").url.path == "/account"
    changed = one.post("/account/password", {**fields, "current": WORDS}, on="/account")
    assert "The password was changed" in changed.text
    assert other.get("/account").url.path == "/signin"


def test_after_a_link_a_forgotten_password_changes_without_it(served: Pages) -> None:
    set_up(served, "auditor-1")
    browser, new = by_link(served, "auditor-1"), "another four words here"
    changed = browser.post("/account/password", {"password": new, "again": new}, on="/account")
    assert "The password was changed" in changed.text


def test_signing_out_everywhere_ends_all_sessions_of_one_officer(served: Pages) -> None:
    one, other, stranger = (served.browser(each) for each in ("author-2", "author-2", "risk-1"))
    one.post("/signout/everywhere", {}, on="/account")
    assert [each.get("/account").url.path for each in (one, other, stranger)] == [
        "/signin",
        "/signin",
        "/account",
    ]


def test_an_account_of_somebody_who_is_off_the_list_signs_nobody_in(served: Pages) -> None:
    _, secret = set_up(served, "operator-1")
    served.bank.without("operator-1")
    fields = {"officer": "operator-1", "password": WORDS, "code": code(secret, served.centre.clock())}
    assert served.browser().post("/signin", fields, on="/signin").status_code == 409


def test_nobody_guesses_quickly(tmp_path: Path) -> None:
    """Tries are bounded for an address, whichever account they are at."""
    for bank in copied(tmp_path / "bank"):
        with pages(bank) as served:
            browser = served.browser()
            answers = [
                browser.client.post(
                    PATH, data={"link": f"guess-{n}"}, headers={"Origin": served.address}
                ).status_code
                for n in range(16)
            ]
    assert answers.count(409) >= 12
    assert 429 in answers


def test_the_sessions_of_an_officer_are_shown_without_what_opens_them(served: Pages) -> None:
    browser = served.browser("admin-1")
    page = browser.get("/account").text
    digests = [each.digest for each in served.sessions.of("admin-1", served.centre.clock())]
    assert "this browser" in page
    csv = browser.get("/account?format=csv&table=sessions")
    assert csv.headers["content-type"].startswith("text/csv")
    assert csv.text.splitlines()[0] == "Began,Last seen,Signed in,Where"
    assert csv.text.count("this browser") == 1
    page += csv.text
    assert digests
    assert all(each not in page for each in digests)


def test_a_locked_account_opens_after_its_time(served: Pages, clock: Shifted) -> None:
    _, secret = set_up(served, "privacy-2")
    with writing(served.centre.engine, "locking") as session:
        row = session.get_one(ConsoleAccount, "privacy-2")
        row.failures, row.locked_until = 5, served.centre.clock() + timedelta(minutes=1)
        seal(served.vault, row)
    fields = {"officer": "privacy-2", "password": WORDS}

    def tried() -> int:
        typed = {**fields, "code": code(secret, served.centre.clock())}
        return served.browser().post("/signin", typed, on="/signin").status_code

    assert tried() == 403
    clock.ahead = timedelta(seconds=90)
    try:
        assert tried() == 200
    finally:
        clock.ahead = timedelta(0)
