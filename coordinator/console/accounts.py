"""Local accounts: a password (Argon2id) and the codes of an authenticator (TOTP, RFC 6238).

1. Who is refused learns nothing: unknown officer, wrong password, wrong code and a locked account get one answer, after one kind of time.
2. Wrong tries lock an account for a while that doubles, up to an hour, and never for good. A try while it is locked is not looked at and not counted.
3. A code counts once: its time step is later than that of the code before.
4. Hashing is bounded: a few at a time, whoever asks.
5. A row without this console's seal is no account (`seals`).
6. A password has 12 to 256 characters, of any kind (NIST SP 800-63B-4, 3.1.1.2, asks for a length and against rules of composition).
"""

from __future__ import annotations

import base64
import hmac
import math
import threading
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

import argon2
import pyotp
import structlog
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import Engine, delete, select

from coordinator.console.rates import TooOften
from coordinator.console.seals import holds, seal
from coordinator.console.vault import Vault
from coordinator.db.console_schema import ConsoleAccount
from coordinator.db.engine import reading, writing
from strategies.errors import CovenantError, Refused, UsageError

SHORTEST: Final = 12
LONGEST: Final = 256
STEP_S: Final = 30
_WINDOW: Final = 1
"""Steps before and after now that count: clocks differ, and people type."""
_FREE_TRIES: Final = 5
_FIRST_LOCK: Final = timedelta(minutes=1)
_LONGEST_LOCK: Final = timedelta(hours=1)
_AT_ONCE: Final = 2
_TURN_WITHIN_S: Final = 10.0
_GRID_S: Final = 0.5
"""A refusal takes a whole number of these, so that what was looked at does not show in it."""
_SECRET_BYTES: Final = 20
_LONGEST_NAME: Final = 63
_log = structlog.get_logger(__name__)


class NotAccepted(Refused):
    """A sign-in that did not fit, in whatever."""


def _hasher() -> argon2.PasswordHasher:
    """RFC 9106, section 4, the second recommended option."""
    return argon2.PasswordHasher(time_cost=3, memory_cost=65536, parallelism=4)


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountView:
    """An account, without its secrets."""

    officer: str
    made_at: datetime
    locked_until: datetime | None
    counts: bool
    """Whether the row bears this console's seal."""


@dataclass
class Accounts:
    """The local accounts of one console."""

    engine: Engine
    vault: Vault
    monotonic: Callable[[], float]
    sleep: Callable[[float], None]
    hasher: argon2.PasswordHasher = field(default_factory=_hasher)
    _turns: threading.BoundedSemaphore = field(default_factory=lambda: threading.BoundedSemaphore(_AT_ONCE))
    _nobody: str | None = None
    """The hash that is compared with where there is no account."""

    def sign_in(self, officer: str, password: str, code: str, now: datetime) -> None:
        """Check who signs in. Raises NotAccepted, always in the same words; TooOften where too many wait."""
        began = self.monotonic()
        try:
            self._judge(officer, password, code, now)
        except NotAccepted:
            taken = self.monotonic() - began
            self.sleep(_GRID_S * math.ceil(taken / _GRID_S) - taken)
            raise

    def require_password(self, officer: str, password: str, now: datetime) -> None:
        """Check the password of whoever is signed in; wrong ones count as tries. Raises NotAccepted, TooOften."""
        self._judge(officer, password, None, now)

    def set_up(self, officer: str, password: str, again: str, code: str, secret: str, now: datetime) -> None:
        """Give an officer a password and an authenticator, in the place of what there was. Raises UsageError for a password of the wrong length,
        or a code that the secret does not make now."""
        hashed = self._hash(_chosen(password, again))
        step = _step_of(secret, code, now)
        if step is None:
            raise UsageError(
                "this code is not what the secret makes now: scan the picture, and type the six digits that the authenticator shows. If they were right,"
                " the clock of the phone or of the coordinator is wrong"
            )
        row = ConsoleAccount(
            officer=officer,
            password=hashed,
            totp=self.vault.seal(officer, secret),
            totp_step=step,
            failures=0,
            locked_until=None,
            made_at=now,
        )
        seal(self.vault, row)
        with writing(self.engine, "setting an account up") as session:
            session.execute(delete(ConsoleAccount).where(ConsoleAccount.officer == officer))
            session.add(row)
        _log.info("an account was set up", officer=officer)

    def change_password(self, officer: str, password: str, again: str) -> None:
        """Give an account another password. Whoever calls has checked who asks. Raises UsageError."""
        hashed = self._hash(_chosen(password, again))
        with writing(self.engine, "changing a password") as session:
            row = session.get(ConsoleAccount, officer, with_for_update=True)
            if row is None or not holds(self.vault, row):
                raise UsageError("there is no account to change; have a link made, and set one up")
            row.password, row.failures, row.locked_until = hashed, 0, None
            seal(self.vault, row)
        _log.info("a password was changed", officer=officer)

    def find(self, officer: str) -> AccountView | None:
        """The account of an officer."""
        row = self._read(officer)
        return None if row is None else _view(row, counts=True)

    def views(self, limit: int) -> Sequence[AccountView]:
        """Accounts by name, at most `limit`, also those that do not count."""
        with reading(self.engine, "reading accounts") as session:
            rows = session.scalars(select(ConsoleAccount).order_by(ConsoleAccount.officer).limit(limit)).all()
        return [_view(row, counts=holds(self.vault, row)) for row in rows]

    def remove(self, officer: str) -> bool:
        """Take an account away; whether there was one."""
        with writing(self.engine, "removing an account") as session:
            row = session.get(ConsoleAccount, officer)
            if row is not None:
                session.delete(row)
        return row is not None

    def new_secret(self, officer: str, session: str) -> str:
        """The secret that an authenticator is set up with in a session (by its digest), the same until it is: nothing is kept of what nobody finishes."""
        found = self.find(officer)
        made = "" if found is None else found.made_at.isoformat()
        told = self.vault.derived("authenticator", officer, session, made)
        return base64.b32encode(told[:_SECRET_BYTES]).decode()

    def _judge(self, officer: str, password: str, code: str | None, now: datetime) -> None:
        nobody = self._no_hash()
        typed = officer if officer.isprintable() and len(officer) <= _LONGEST_NAME else ""
        row = self._read(typed)
        fits = self._fits(nobody if row is None else row.password, password)
        if row is None:
            raise _not_accepted()
        renewed = self._renewed(row.password, password) if fits else None
        with writing(self.engine, "signing in") as session:
            current = session.get(ConsoleAccount, officer, with_for_update=True)
            accepted = (
                current is not None
                and current.password == row.password
                and holds(self.vault, current)
                and not (current.locked_until is not None and now < current.locked_until)
                and self._count(current, code, now, fits=fits, renewed=renewed)
            )
        if not accepted:
            _log.warning("a sign-in was refused", officer=officer)
            raise _not_accepted()

    def _count(
        self, row: ConsoleAccount, code: str | None, now: datetime, *, fits: bool, renewed: str | None
    ) -> bool:
        """Whether the try is accepted; the row remembers it."""
        step = row.totp_step if code is None else self._later_step(row, code, now)
        accepted = fits and step is not None
        if fits and step is not None:
            row.totp_step, row.failures, row.locked_until = step, 0, None
            row.password = renewed or row.password
        else:
            row.failures += 1
            over = row.failures - _FREE_TRIES
            if over >= 0:
                row.locked_until = now + min(_LONGEST_LOCK, _FIRST_LOCK * 2 ** min(over, 10))
        seal(self.vault, row)
        return accepted

    def _read(self, officer: str) -> ConsoleAccount | None:
        """The row of an officer, if it bears this console's seal."""
        with reading(self.engine, "looking for an account") as session:
            row = session.get(ConsoleAccount, officer)
        return row if row is not None and holds(self.vault, row) else None

    def _later_step(self, row: ConsoleAccount, code: str, now: datetime) -> int | None:
        """The step of a code that was not used, nor any after it."""
        try:
            secret = self.vault.open(row.officer, row.totp)
        except CovenantError as error:
            _log.error("an account cannot be opened", officer=row.officer, reason=str(error))
            return None
        step = _step_of(secret, code, now)
        return step if step is not None and step > row.totp_step else None

    def _fits(self, hashed: str, password: str) -> bool:
        if len(password) > LONGEST:
            password = ""
        try:
            with self._turn():
                return self.hasher.verify(hashed, _normal(password))
        except (VerificationError, InvalidHashError):
            return False

    def _hash(self, password: str) -> str:
        with self._turn():
            return self.hasher.hash(password)

    def _renewed(self, hashed: str, password: str) -> str | None:
        """The hash anew, where it was made under other parameters than are in use."""
        return self._hash(_normal(password)) if self.hasher.check_needs_rehash(hashed) else None

    def _no_hash(self) -> str:
        if self._nobody is None:
            self._nobody = self._hash("nobody has this password")
        return self._nobody

    def _turn(self) -> _Turn:
        return _Turn(self._turns)


@dataclass(frozen=True, slots=True)
class _Turn:
    """One of the few hashings at a time. Raises TooOften where none comes free."""

    turns: threading.BoundedSemaphore

    def __enter__(self) -> None:
        if not self.turns.acquire(timeout=_TURN_WITHIN_S):
            raise TooOften("too many sign in at once; wait a minute, and try again")

    def __exit__(self, *_: object) -> None:
        self.turns.release()


def _not_accepted() -> NotAccepted:
    return NotAccepted(
        "name, password and code do not fit, or there were too many tries. Wait for the next code, and try again; after several tries wait some minutes."
        " Whoever runs the coordinator can make you a link"
    )


def _chosen(password: str, again: str) -> str:
    """A password that somebody chose, as it is hashed. Raises UsageError."""
    if not hmac.compare_digest(password.encode(), again.encode()):
        raise UsageError("the two passwords differ; type the same twice")
    if not SHORTEST <= len(password) <= LONGEST:
        raise UsageError(
            f"a password has {SHORTEST} to {LONGEST} characters; a few words in a row are easy to remember"
        )
    return _normal(password)


def _normal(password: str) -> str:
    """The same characters, however a keyboard composes them."""
    return unicodedata.normalize("NFKC", password)


def _step_of(secret: str, code: str, now: datetime) -> int | None:
    """The time step whose code this is, of those that count now; the latest of them."""
    typed = "".join(code.split())
    totp = pyotp.TOTP(secret, interval=STEP_S)
    current = int(now.timestamp()) // STEP_S
    found = None
    for step in range(current - _WINDOW, current + _WINDOW + 1):
        if hmac.compare_digest(totp.generate_otp(step).encode(), typed.encode()):
            found = step
    return found


def _view(row: ConsoleAccount, *, counts: bool) -> AccountView:
    return AccountView(officer=row.officer, made_at=row.made_at, locked_until=row.locked_until, counts=counts)
