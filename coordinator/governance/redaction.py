"""The coordinator's secrets, known by what they are, so that none leaves with a log or a report.

Logs hold none to begin with. What is taken out of them here is taken out once more, and what still has one is not written.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from sqlalchemy.engine import make_url

from coordinator.settings import Settings
from strategies.errors import CovenantError

_SHORTEST: Final = 8
"""A shorter secret would take words out of every sentence."""
_LONGEST_FILE: Final = 1 << 20
_REDACTED: Final = b"<redacted>"
_PEM: Final = re.compile(
    rb"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL
)
_TOLD: Final = re.compile(
    rb"(?i)(bearer\s+|pass(?:word|phrase)[\"']?\s*[=:]\s*[\"']?|://[^/\s:@]*:)([^\s\"'@,}]{4,})"
)


@dataclass(frozen=True, slots=True)
class Secrets:
    """What may not leave this coordinator."""

    _known: tuple[bytes, ...]

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """All secrets in the files of a coordinator, in the forms in which a program might write them."""
        found: set[bytes] = set()
        for path in _files(settings):
            found.update(_forms(path))
        password = make_url(settings.database_url).password
        if password:
            found.add(str(password).encode())
        # Longest first: a part of a secret may be one too.
        return cls(tuple(sorted((each for each in found if len(each) >= _SHORTEST), key=len, reverse=True)))

    def redacted(self, data: bytes) -> bytes:
        """`data` without secrets, and without what looks like one."""
        data = _TOLD.sub(rb"\1" + _REDACTED, _PEM.sub(_REDACTED, data))
        for secret in self._known:
            data = data.replace(secret, _REDACTED)
        return data

    def require_clean(self, name: str, data: bytes) -> None:
        """Raise CovenantError where `data` holds a secret."""
        if any(secret in data for secret in self._known) or _PEM.search(data):
            raise CovenantError(
                f"{name} holds a secret of this coordinator, so nothing was written; find out how it came there, and consider it known"
            )

    def __repr__(self) -> str:
        return f"<{len(self._known)} secrets>"


def _files(settings: Settings) -> Iterator[Path]:
    """The files of a home that hold secrets: keys, tokens, and passphrases, wherever the configuration says they are."""
    yield settings.log_key_file
    source = settings.config.keys.passphrase
    if source is not None and source.file is not None:
        yield source.file
    for folder, pattern in (
        (settings.home / "secrets", "*"),
        (settings.home / "tls", "*.key"),
        (settings.control_tls, "*.key"),
        (settings.home, "*.key"),
        (settings.home, "*passphrase*"),
    ):
        yield from folder.glob(pattern)


def _forms(path: Path) -> Iterable[bytes]:
    """A secret file's content as it is, in hexadecimal and in base64, and the lines of a PEM file each."""
    if not path.is_file() or path.stat().st_size > _LONGEST_FILE:
        return
    content = path.read_bytes()
    for each in (content, content.strip()):
        yield each
        yield each.hex().encode()
        yield base64.b64encode(each)
        yield base64.urlsafe_b64encode(each)
    if content.startswith(b"-----BEGIN"):
        yield from (line for line in content.splitlines() if not line.startswith(b"-----"))
