"""Who may ask the scoring service, and how much: tokens or client certificates, and a bucket of rows for each caller.

1. Somebody who can reach the service is nobody yet: without a token or a certificate authority it does not start, unless it listens on loopback
   and was told in so many words that anybody there may ask.
2. Of tokens the service has SHA-256 digests only, one a line: `NAME DIGEST`. They are compared in constant time, all of them at every call.
   The file is read again when it changes, so a token can be withdrawn while the service runs; a file that cannot be read changes nothing.
3. Tokens are 256 random bits, so nobody gains by trying.
4. A request costs one of its caller's rows on arrival and its further rows once they are counted. Buckets are kept for the latest callers only.
"""

from __future__ import annotations

import hmac
import re
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import structlog

from coordinator.deploy.scoring.columns import MAX_ROWS, ProtocolError
from protos.files import replace_file
from strategies.encoding import sha256_hex
from strategies.errors import UsageError

UNAUTHENTICATED: Final = 401
TOO_MANY: Final = 429
ANYBODY: Final = "loopback"
_MOST_CALLERS: Final = 1000
_MOST_FILE_BYTES: Final = 1 << 20
_LINE: Final = re.compile(r"([a-z][a-z0-9-]{0,62}) ([0-9a-f]{64})")
_BEARER: Final = re.compile(r"Bearer ([A-Za-z0-9_-]{43})", re.IGNORECASE)
_log = structlog.get_logger(__name__)


def read_callers(path: Path) -> Mapping[str, str]:
    """Digests of tokens by the names of those who have them. Raises UsageError naming the line at fault."""
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_FILE_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    callers: dict[str, str] = {}
    for number, line in enumerate(data.decode(errors="replace").splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        found = _LINE.fullmatch(line.strip())
        if found is None or found[1] in callers:
            raise UsageError(
                f"{path} line {number} is no caller; each line is a name of its own and the SHA-256 of its token, as `covenant score token` writes it"
            )
        callers[found[1]] = found[2]
    if len(data) > _MOST_FILE_BYTES or len(callers) > _MOST_CALLERS:
        raise UsageError(f"{path} is too large; it holds at most {_MOST_CALLERS} callers")
    if not callers:
        raise UsageError(f"{path} names no caller; add one with `covenant score token`")
    return callers


def add_caller(path: Path, name: str) -> str:
    """A new token for `name`, whose digest takes the place of the one before in `path`. Raises UsageError."""
    if not _LINE.fullmatch(f"{name} {'0' * 64}"):
        raise UsageError(
            f"{name!r} is not a caller's name; use 1 to 63 characters a-z, 0-9 and '-', starting with a letter"
        )
    token = secrets.token_urlsafe(32)
    callers = {**(read_callers(path) if path.exists() else {}), name: sha256_hex(token.encode())}
    lines = "".join(f"{each} {digest}\n" for each, digest in sorted(callers.items()))
    replace_file(path, lines.encode(), mode=0o600)
    return token


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Rows a second that a caller may have scored, and how many at once after a pause."""

    rows_per_second: float = 50_000.0
    burst_rows: float = 200_000.0


class Buckets:
    """What is left to each caller; any thread may take. `monotonic` gives seconds."""

    def __init__(self, limits: Limits, monotonic: Callable[[], float]) -> None:
        self._limits, self._monotonic = limits, monotonic
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._taking = threading.Lock()

    def take(self, caller: str, rows: int) -> None:
        """Take `rows` from the caller's bucket. Raises ProtocolError, and takes nothing, where there are too few."""
        with self._taking:
            now = self._monotonic()
            left, then = self._left.pop(caller, (self._limits.burst_rows, now))
            left = min(self._limits.burst_rows, left + (now - then) * self._limits.rows_per_second)
            enough = left >= rows
            self._left[caller] = (left - rows if enough else left, now)
            if len(self._left) > _MOST_CALLERS:
                self._left.popitem(last=False)
        if not enough:
            raise ProtocolError(
                f"{caller} asks for more than {self._limits.rows_per_second:g} rows a second; send fewer, or later",
                TOO_MANY,
            )


class Door:
    """Says who calls. With `callers`, by a token; without, by the name in a certificate that TLS has checked; with neither, anybody."""

    def __init__(self, callers: Path | None, buckets: Buckets, *, certificates: bool) -> None:
        """Raises UsageError when the file of callers cannot be read."""
        self._path, self._certificates, self._buckets = callers, certificates, buckets
        self._stamp = self._stamped()
        self._digests = {} if callers is None else read_callers(callers)

    @classmethod
    def open_to_anybody(cls, buckets: Buckets) -> Self:
        """No token, no certificate: for loopback."""
        return cls(None, buckets, certificates=False)

    def admit(self, authorization: str | None, certificate: str | None) -> str:
        """The caller's name. Raises ProtocolError for nobody, or when the bucket is empty."""
        caller = self._caller(authorization, certificate)
        self._buckets.take(caller, 1)
        return caller

    def take(self, caller: str, rows: int) -> None:
        """Charge the further rows of a request that was admitted, those that a request may have. Raises ProtocolError."""
        if rows > 1:
            self._buckets.take(caller, min(rows, MAX_ROWS) - 1)

    def refresh(self) -> None:
        """Read the callers again if their file has changed."""
        if self._path is None or (stamp := self._stamped()) == self._stamp:
            return
        self._stamp = stamp
        try:
            self._digests = read_callers(self._path)
        except UsageError as error:
            _log.error("the callers are those from before", error=str(error))
        else:
            _log.info("callers read", callers=len(self._digests))

    def _caller(self, authorization: str | None, certificate: str | None) -> str:
        if self._path is not None:
            token = _BEARER.fullmatch(authorization or "")
            given = sha256_hex(token[1].encode()) if token else ""
            same = [name for name, digest in self._digests.items() if hmac.compare_digest(given, digest)]
            if not same:
                raise ProtocolError(
                    "this service wants a token that it knows: `Authorization: Bearer TOKEN`", UNAUTHENTICATED
                )
            return same[0]
        if self._certificates:
            if not certificate:
                raise ProtocolError("this service wants a client certificate with a name", UNAUTHENTICATED)
            return certificate
        return ANYBODY

    def _stamped(self) -> tuple[int, int, int] | None:
        if self._path is None:
            return None
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ino, found.st_size
