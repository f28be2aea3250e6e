"""`covenant console`: who may sign in to the web console. On the coordinator's machine."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final

import typer
from rich.table import Table

from coordinator.bootstrap import Centre
from coordinator.cli.options import Home, Json, centre_at
from coordinator.console.accounts import Accounts, AccountView
from coordinator.console.identities import Identities, Identity
from coordinator.console.links import GOOD_FOR, PATH, make_link, withdraw_links
from coordinator.console.sessions import Sessions
from coordinator.console.vault import Vault
from coordinator.documents import read_members
from coordinator.settings import ConsoleSection
from protos.shell import as_written, emit, people, tell
from strategies.errors import UsageError

_MOST: Final = 1000
_UNSEALED: Final = (
    "what does not count does not bear the seal of console.key: it was written before there were seals or under another key, or by somebody else than"
    " this coordinator. Find out which; then `covenant console reset OFFICER` and `covenant console link OFFICER`, and for a subject"
    " `covenant console untie` and `covenant console tie`"
)
Officer = Annotated[str, typer.Argument(help="An officer of the member list.")]
Subject = Annotated[str, typer.Option(help="The subject (sub) of the provider's ID token.")]
app = typer.Typer(no_args_is_help=True, help="The web console: who may sign in.")


@app.command("link")
def link(
    officer: Officer,
    home: Home = None,
    json: Json = False,
) -> None:
    """Make a link that signs an officer in once, within an hour: for a first sign-in, or a forgotten password."""
    centre = centre_at(home)
    section = _section(centre)
    now = centre.clock()
    read_members(centre.settings)[1].members.officer(officer).require_current(now)
    vault = _vault(centre)
    address = (
        f"https://{section.host}:{section.port}{PATH}?key={make_link(centre.engine, vault, officer, now)}"
    )
    if json:
        emit({"officer": officer, "link": address, "good_until": (now + GOOD_FOR).isoformat()})
        return
    people.print(
        f"signs {officer} in once, until {now + GOOD_FOR:%Y-%m-%d %H:%M} UTC; give it to nobody else:"
    )
    people.print(f"  {address}", highlight=False, soft_wrap=True)


@app.command("accounts")
def accounts(home: Home = None, json: Json = False) -> None:
    """List who has a password, and whom the provider's subjects are tied to."""
    centre = centre_at(home)
    local = _accounts(centre).views(_MOST)
    tied = Identities(centre.engine, _vault(centre)).views(_MOST)
    if json:
        emit(
            {
                "accounts": [_account_facts(each) for each in local],
                "identities": [_identity_facts(each) for each in tied],
            }
        )
        return
    if not local and not tied:
        tell("nobody has an account yet; make somebody a link with `covenant console link OFFICER`")
        return
    table = Table("officer", "signs in with", "since", "locked until", title="console accounts")
    for each in local:
        table.add_row(
            as_written(each.officer),
            "password and code",
            _words(each.made_at),
            _words(each.locked_until) if each.counts else "does not count",
        )
    for one in tied:
        table.add_row(
            as_written(one.officer),
            as_written(f"{one.subject} at {one.issuer}"),
            _words(one.tied_at),
            "" if one.counts else "does not count",
        )
    people.print(table)
    if not all([*(each.counts for each in local), *(each.counts for each in tied)]):
        tell(_UNSEALED)


@app.command("reset")
def reset(officer: Officer, home: Home = None, json: Json = False) -> None:
    """Take an officer's password, authenticator, links and sessions away; for a stolen phone, or somebody who left."""
    centre = centre_at(home)
    had = _accounts(centre).remove(officer)
    withdraw_links(centre.engine, officer)
    ended = Sessions(centre.engine, _vault(centre)).end_all(officer)
    if json:
        emit({"officer": officer, "had_account": had, "sessions_ended": ended})
        return
    account = "has no password any more" if had else "had no password"
    tell(f"{officer} {account}; sessions ended: {ended}; links that were not used count no longer")
    tell(
        f"a new start: covenant console link {officer}. What the provider's subjects are stays: covenant console untie"
    )


@app.command("tie")
def tie(officer: Officer, subject: Subject, home: Home = None, json: Json = False) -> None:
    """Say which officer a subject of the OpenID provider is: whoever the provider vouches for as that subject signs in as that officer."""
    centre = centre_at(home)
    now = centre.clock()
    read_members(centre.settings)[1].members.officer(officer).require_current(now)
    issuer = _issuer(centre)
    Identities(centre.engine, _vault(centre)).tie(issuer, subject, officer, now)
    facts = {"officer": officer, "issuer": issuer, "subject": subject}
    _tell(facts, f"{subject} at {issuer} signs in as {officer}", json=json)


@app.command("untie")
def untie(subject: Subject, home: Home = None, json: Json = False) -> None:
    """Forget who a subject of the OpenID provider is, and end that officer's sessions."""
    centre = centre_at(home)
    issuer = _issuer(centre)
    officer = Identities(centre.engine, _vault(centre)).untie(issuer, subject)
    Sessions(centre.engine, _vault(centre)).end_all(officer)
    facts = {"officer": officer, "issuer": issuer, "subject": subject}
    said = f"{subject} at {issuer} is nobody here any more; {officer}'s sessions were ended"
    _tell(facts, said, json=json)


def _section(centre: Centre) -> ConsoleSection:
    section = centre.settings.config.console
    if section is None:
        raise UsageError(
            "covenant.yaml has no section `console`, so nobody can sign in; add one, and start the coordinator"
        )
    return section


def _issuer(centre: Centre) -> str:
    section = _section(centre).oidc
    if section is None:
        raise UsageError(
            "covenant.yaml has no section `console.oidc`, so there is no provider whose subject this could be"
        )
    return section.issuer


def _accounts(centre: Centre) -> Accounts:
    return Accounts(centre.engine, _vault(centre), centre.monotonic, centre.sleep)


def _vault(centre: Centre) -> Vault:
    return Vault(centre.settings.console_key_file)


def _tell(facts: dict[str, str], words: str, *, json: bool) -> None:
    if json:
        emit(facts)
    else:
        tell(words)


def _account_facts(view: AccountView) -> dict[str, str | bool | None]:
    return {
        "officer": view.officer,
        "made_at": view.made_at.isoformat(),
        "locked_until": _moment(view.locked_until),
        "counts": view.counts,
    }


def _identity_facts(view: Identity) -> dict[str, str | bool]:
    return {
        "officer": view.officer,
        "issuer": view.issuer,
        "subject": view.subject,
        "tied_at": view.tied_at.isoformat(),
        "counts": view.counts,
    }


def _moment(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()


def _words(at: datetime | None) -> str:
    return "" if at is None else f"{at:%Y-%m-%d %H:%M} UTC"
