"""The console's own key, `console.key` in the coordinator's folder: what a copy of the database alone does not open.

1. Made at first use, mode 0600, and never replaced: a file that others can read, or that holds anything else than a key, is refused.
2. A secret is sealed for one officer: in another officer's row it does not open.
3. Each use has its own key, derived with HKDF under its name.
"""

from __future__ import annotations

import base64
import binascii
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from protos.files import write_new
from strategies.errors import CovenantError, UsageError

_KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_OTHERS: Final = 0o077


@dataclass(frozen=True, slots=True)
class Vault:
    """Seals secrets under the key in `file`."""

    file: Path

    def seal(self, officer: str, secret: str) -> str:
        """`secret` so that only `open` for the same officer gives it back; the key is made where there is none. Raises UsageError."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed = AESGCM(self._made("sealing")).encrypt(nonce, secret.encode(), officer.encode())
        return base64.b64encode(nonce + sealed).decode()

    def open(self, officer: str, sealed: str) -> str:
        """What was sealed for `officer`. Raises CovenantError where it was not, or under another key."""
        try:
            data = base64.b64decode(sealed, validate=True)
            key = AESGCM(_derived(self._read(), "sealing"))
            return key.decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], officer.encode()).decode()
        except (InvalidTag, binascii.Error, ValueError) as error:
            raise CovenantError(
                f"what the database has sealed for {officer} does not open with {self.file}; put the key back that it was sealed with, or set the account"
                f" up anew: covenant console reset {officer}"
            ) from error

    def derived(self, purpose: str, *parts: str) -> bytes:
        """32 bytes that follow from the key, `purpose` and `parts`, and tell nothing of the key. Raises UsageError."""
        return self._made(purpose, *parts)

    def _made(self, purpose: str, *parts: str) -> bytes:
        if not self.file.exists():
            try:
                write_new(self.file, secrets.token_bytes(_KEY_BYTES), mode=0o600)
            except UsageError:
                if not self.file.exists():  # else another made it in the same moment
                    raise
        return _derived(self._read(), purpose, *parts)

    def _read(self) -> bytes:
        try:
            with self.file.open("rb") as file:
                mode = os.fstat(file.fileno()).st_mode
                key = file.read(_KEY_BYTES + 1)
        except OSError as error:
            raise UsageError(f"{self.file} cannot be read: {error.strerror}") from error
        if mode & _OTHERS:
            raise UsageError(
                f"{self.file} can be read by others; run chmod 600 {self.file}, and consider it known"
            )
        if len(key) != _KEY_BYTES:
            raise UsageError(f"{self.file} does not hold a key of {_KEY_BYTES} bytes")
        return key


def _derived(key: bytes, purpose: str, *parts: str) -> bytes:
    """One key for each purpose; parts are told apart by their lengths."""
    info = b"".join(
        len(each).to_bytes(4, "big") + each
        for each in (b"covenant console", purpose.encode(), *(part.encode() for part in parts))
    )
    return HKDF(hashes.SHA256(), _KEY_BYTES, salt=None, info=info).derive(key)
