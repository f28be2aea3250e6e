"""Passphrases of private keys: a credential of the service manager, a file, or a person at a terminal.

1. A passphrase shows nothing of itself and cannot be pickled.
2. It is never an argument of a command nor a variable of the environment: other users of a machine can read those.
3. A file of one that others can read is refused.
"""

from __future__ import annotations

import getpass
import hmac
import os
import re
import sys
from pathlib import Path
from typing import Final, NoReturn, Self

from pydantic import model_validator

from protos.documents import FieldError, FilePath, Part
from strategies.errors import UsageError

CREDENTIALS_VARIABLE: Final = "CREDENTIALS_DIRECTORY"
_LONGEST_BYTES: Final = 1024
_OTHERS: Final = 0o077

_CREDENTIAL: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,254}", re.ASCII)
_CREDENTIAL_WORDS: Final = "the name of a systemd credential, such as covenant-passphrase"


class Passphrase:
    """One line of 1 to 1024 bytes that opens a private key."""

    __slots__ = ("_secret",)

    def __init__(self, secret: bytes) -> None:
        """Raises UsageError for what is empty, too long or more than a line."""
        if not 0 < len(secret) <= _LONGEST_BYTES or b"\n" in secret or b"\0" in secret:
            raise UsageError(f"a passphrase is one line of 1 to {_LONGEST_BYTES} bytes")
        self._secret = secret

    def reveal(self) -> bytes:
        """The passphrase itself, for whatever derives a key from it."""
        return self._secret

    def matches(self, other: Passphrase) -> bool:
        """Whether both are the same, in a time that does not tell how far they are."""
        return hmac.compare_digest(self._secret, other.reveal())

    def __repr__(self) -> str:
        return "<secret Passphrase>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a passphrase cannot be pickled")


class PassphraseSource(Part):
    """Where a passphrase is when nobody is there to type it: a `credential` of the service manager, or a `file` with mode 0600."""

    credential: str | None = None
    file: FilePath | None = None

    @model_validator(mode="before")
    @classmethod
    def _is_a_place(cls, value: object) -> object:
        """No error may repeat what stands here, not even an unknown key: it may be the passphrase itself."""
        if isinstance(value, cls):
            return value
        if not isinstance(value, dict) or not value.keys() <= cls.model_fields.keys():
            raise FieldError("credential", "a passphrase is never written here; name a credential or a file")
        for name, place in value.items():
            if place is not None and not isinstance(place, str | Path):
                raise FieldError(name, "use text; a passphrase is never written here")
        if isinstance(name := value.get("credential"), str) and _CREDENTIAL.fullmatch(name) is None:
            raise FieldError("credential", f"use {_CREDENTIAL_WORDS}; a passphrase is never written here")
        return value

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if (self.credential is None) == (self.file is None):
            raise FieldError("credential", "name a credential or a file, and not both")
        return self

    def read(self) -> Passphrase:
        """The passphrase. Raises UsageError where it is not to be had."""
        if self.file is not None:
            return read_passphrase(self.file)
        folder = os.environ.get(CREDENTIALS_VARIABLE)
        if not folder:
            raise UsageError(
                f"the passphrase is credential {self.credential}, but {CREDENTIALS_VARIABLE} is not set; start this as a service with"
                f" LoadCredentialEncrypted={self.credential}, or name a file instead"
            )
        # The service manager guards this folder by means that a file's mode does not show.
        return _first_line(Path(folder) / str(self.credential), private=False)


def read_passphrase(path: Path) -> Passphrase:
    """The passphrase in the file `path`, without the line's end; UsageError if others can read it, or it holds anything else."""
    return _first_line(path, private=True)


def ask_passphrase(key: Path) -> Passphrase:
    """Ask whoever sits at the terminal for the passphrase of the file `key`. Raises UsageError without a terminal."""
    if not sys.stdin.isatty():
        raise UsageError(
            f"{key} needs a passphrase and there is no terminal to ask for it; name a file that holds it with --passphrase-file"
        )
    return _typed(f"Passphrase of {key}: ")


def choose_passphrase(key: Path) -> Passphrase:
    """Ask for the passphrase that the new file `key` is to have, twice. Raises UsageError if the two differ, or without a terminal."""
    chosen = ask_passphrase(key)
    if not chosen.matches(_typed("The same again: ")):
        raise UsageError("the two passphrases differ; nothing was made, try again")
    return chosen


def _typed(prompt: str) -> Passphrase:
    return Passphrase(getpass.getpass(prompt).encode())


def _first_line(path: Path, *, private: bool) -> Passphrase:
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read(_LONGEST_BYTES + 3)
    except FileNotFoundError as error:
        raise UsageError(f"{path} does not exist; it must hold the passphrase") from error
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    if private and mode & _OTHERS:
        raise UsageError(
            f"{path} can be read by others; run chmod 600 {path}, and consider the passphrase known"
        )
    try:
        return Passphrase(data.removesuffix(b"\n").removesuffix(b"\r"))
    except UsageError as error:
        raise UsageError(f"{path} does not hold a passphrase: {error}") from error
