"""`covenant console`: what whoever runs the coordinator says about who may sign in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from coordinator.console.accounts import Accounts
from coordinator.console.identities import Identities
from coordinator.console.links import make_link, use_link
from coordinator.console.sessions import Sessions
from coordinator.console.vault import Vault
from strategies.errors import Refused, UsageError
from tests.coordinator.api_for_tests import Bank
from tests.coordinator.cli_for_tests import Command, commands_in, facts_of
from tests.coordinator.console_for_tests import Ticking, copied, with_console
from tests.coordinator.test_console_accounts import CHEAP, made

ISSUER = "https://id.bank.example"
OIDC = f", oidc: {{issuer: '{ISSUER}', client_id: covenant, client_secret: {{credential: covenant-oidc}}}}"


def vault_of(bank: Bank) -> Vault:
    return Vault(bank.centre.settings.console_key_file)


@pytest.fixture
def bank(tmp_path: Path) -> Iterator[Bank]:
    for found in copied(tmp_path / "bank"):
        with_console(found, OIDC)
        yield found


@pytest.fixture
def covenant(
    bank: Bank, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    ran = commands_in(tmp_path, monkeypatch, capsys)
    monkeypatch.setenv("COVENANT_HOME", str(bank.centre.settings.home))
    return ran


def test_accounts_and_subjects_are_listed_without_their_secrets(bank: Bank, covenant: Command) -> None:
    assert "nobody has an account" in covenant("console", "accounts")[2]
    accounts = Accounts(bank.centre.engine, vault_of(bank), Ticking(), lambda _: None, CHEAP)
    secret = made(accounts)
    facts_of(covenant, "console", "tie", "risk-1", "--subject", "\x1b[31mkim".replace("\x1b", "") + "@bank")
    told = facts_of(covenant, "console", "accounts")
    assert [each["officer"] for each in told["accounts"]] == ["privacy-1"]
    assert [(each["officer"], each["issuer"], each["subject"]) for each in told["identities"]] == [
        ("risk-1", ISSUER, "[31mkim@bank")
    ]
    shown = covenant("console", "accounts")[2]
    assert "privacy-1" in shown
    assert "[31mkim@bank" in shown
    assert not any(each in f"{told}{shown}" for each in (secret, "argon2"))


def test_a_subject_is_one_officer_until_it_is_untied(bank: Bank, covenant: Command) -> None:
    sessions = Sessions(bank.centre.engine, vault_of(bank))
    facts_of(covenant, "console", "tie", "privacy-1", "--subject", "kim")
    facts_of(covenant, "console", "tie", "privacy-1", "--subject", "kim")
    left, _, err = covenant("console", "tie", "risk-1", "--subject", "kim")
    assert (left, "this subject is privacy-1's" in " ".join(err.split())) == (2, True)
    left, _, err = covenant("console", "tie", "stranger", "--subject", "other")
    assert left != 0
    secret = sessions.begin("privacy-1", "oidc", bank.centre.clock())
    assert facts_of(covenant, "console", "untie", "--subject", "kim")["officer"] == "privacy-1"
    assert sessions.find(secret, bank.centre.clock()) is None
    assert Identities(bank.centre.engine, vault_of(bank)).officer(ISSUER, "kim") is None
    assert covenant("console", "untie", "--subject", "kim")[0] == 2


@pytest.mark.parametrize("subject", ["", "x" * 256, "a\nb"])
def test_a_subject_is_a_line_of_text(bank: Bank, subject: str) -> None:
    with pytest.raises(UsageError, match="1 to 255"):
        Identities(bank.centre.engine, vault_of(bank)).tie(ISSUER, subject, "privacy-1", bank.centre.clock())


def test_a_reset_takes_account_links_and_sessions_away(bank: Bank, covenant: Command) -> None:
    engine, now, vault = bank.centre.engine, bank.centre.clock(), vault_of(bank)
    accounts = Accounts(engine, vault_of(bank), Ticking(), lambda _: None, CHEAP)
    made(accounts)
    link, session = (
        make_link(engine, vault, "privacy-1", now),
        Sessions(engine, vault).begin("privacy-1", "link", now),
    )
    other = make_link(engine, vault, "risk-1", now)
    told = facts_of(covenant, "console", "reset", "privacy-1")
    assert (told["had_account"], told["sessions_ended"]) == (True, 1)
    assert accounts.find("privacy-1") is None
    assert Sessions(engine, vault).find(session, now) is None
    with pytest.raises(Refused):
        use_link(engine, vault, link, now)
    assert use_link(engine, vault, other, now) == "risk-1"


def test_without_a_provider_there_is_nothing_to_tie(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for bank in copied(tmp_path / "bank"):
        with_console(bank)
        covenant = commands_in(tmp_path, monkeypatch, capsys)
        monkeypatch.setenv("COVENANT_HOME", str(bank.centre.settings.home))
        left, _, err = covenant("console", "tie", "privacy-1", "--subject", "kim")
    assert (left, "no section `console.oidc`" in " ".join(err.split())) == (2, True)
