"""Links that sign an officer in once. Whoever works on the coordinator's machine makes them; the first sign-in of an account is by one."""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Engine, delete

from coordinator.console.seals import holds, seal
from coordinator.console.vault import Vault
from coordinator.db.console_schema import ConsoleLink
from coordinator.db.engine import reading, writing
from strategies.encoding import sha256_hex
from strategies.errors import Refused

GOOD_FOR: Final = timedelta(hours=1)
PATH: Final = "/signin/link"


def make_link(engine: Engine, vault: Vault, officer: str, now: datetime) -> str:
    """The secret of a new link for `officer`, good for an hour and once."""
    secret = secrets.token_urlsafe(32)
    row = ConsoleLink(digest=sha256_hex(secret.encode()), officer=officer, until=now + GOOD_FOR)
    seal(vault, row)
    with writing(engine, "making a link") as session:
        session.execute(delete(ConsoleLink).where(ConsoleLink.until < now))
        session.add(row)
    return secret


def withdraw_links(engine: Engine, officer: str) -> None:
    """Have no link of an officer count any longer."""
    with writing(engine, "withdrawing links") as session:
        session.execute(delete(ConsoleLink).where(ConsoleLink.officer == officer))


def officer_of(engine: Engine, vault: Vault, secret: str, now: datetime) -> str | None:
    """Whom a link would sign in; it stays good. None for one that is not, or no longer."""
    with reading(engine, "looking at a link") as session:
        row = session.get(ConsoleLink, sha256_hex(secret.encode()))
    return None if row is None else _good_for(vault, row, now)


def use_link(engine: Engine, vault: Vault, secret: str, now: datetime) -> str:
    """The officer whom a link signs in; it is used up. Raises Refused for one that is not, or no longer, good."""
    with writing(engine, "using a link") as session:
        row = session.get(ConsoleLink, sha256_hex(secret.encode()), with_for_update=True)
        officer = None if row is None else _good_for(vault, row, now)
        if officer is not None:
            session.delete(row)
    if officer is None:
        raise Refused(
            "this link was used already, or is older than an hour; have another one made with `covenant console link`"
        )
    return officer


def _good_for(vault: Vault, row: ConsoleLink, now: datetime) -> str | None:
    return row.officer if now < row.until and holds(vault, row) else None
