"""A log's head as a signed note (C2SP `signed-note` and `tlog-checkpoint`), which any tool of that kind can read.

1. The text of a checkpoint is three lines: the log's origin, the number of entries, the head in base64. Anything else is refused, so that equal
   heads have equal texts.
2. A signature line names its key and carries four bytes of the key's digest: a signer's name alone decides nothing.
3. A note is worth what a check against a known key found. Lines of other keys are kept, and believed by nobody.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass
from typing import Final, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from strategies.errors import Refused, UsageError
from strategies.transparency.merkle import HASH_BYTES, MOST_LEAVES

_ED25519: Final = b"\x01"
_KEY_ID_BYTES: Final = 4
_SIGNATURE_BYTES: Final = 64
_LONGEST: Final = 64 * 1024
_MOST_SIGNATURES: Final = 100
_NAME: Final = re.compile(r"[^\s+\x00-\x20]{1,200}")
_SIZE: Final = re.compile(r"0|[1-9][0-9]{0,15}", re.ASCII)
_LINE: Final = re.compile(r"\u2014 (?P<name>[^\s+]{1,200}) (?P<blob>[A-Za-z0-9+/]{8,200}={0,2})")


class NoteRefused(Refused):
    """A note is malformed, or is not signed by whom it must be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """The head of a log: `origin` names it for good, `root` is the (32,) byte hash of its first `size` entries."""

    origin: str
    size: int
    root: bytes

    def __post_init__(self) -> None:
        """Raises UsageError for what no log has."""
        if not _NAME.fullmatch(self.origin):
            raise UsageError(
                f"{self.origin!r} does not name a log: 1 to 200 characters without spaces or '+'"
            )
        if not 0 <= self.size <= MOST_LEAVES or len(self.root) != HASH_BYTES:
            raise UsageError(
                f"a checkpoint of {self.size} entries with a head of {len(self.root)} bytes is none"
            )

    @property
    def text(self) -> str:
        """What is signed."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the text of a checkpoint, in the one form that it has. Raises NoteRefused."""
        origin, size, root, *rest = (*text.split("\n"), "", "")
        if rest != ["", "", ""] or not _SIZE.fullmatch(size):
            raise NoteRefused("this is not the text of a checkpoint: origin, size and root hash, a line each")
        try:
            found = cls(origin=origin, size=int(size), root=base64.b64decode(root, validate=True))
        except (UsageError, ValueError) as error:
            raise NoteRefused(f"this is not the text of a checkpoint: {error}") from error
        if found.text != text:
            raise NoteRefused("this checkpoint is not in the one form that it has")
        return found


@dataclass(frozen=True, slots=True)
class NoteKey:
    """Who signs notes: a name, and an Ed25519 public key of 32 bytes."""

    name: str
    public: bytes

    @property
    def id(self) -> bytes:
        """Four bytes that tell keys of one name apart."""
        return hashlib.sha256(self.name.encode() + b"\n" + _ED25519 + self.public).digest()[:_KEY_ID_BYTES]

    @property
    def words(self) -> str:
        """As tools take it: `name+hash+key`."""
        return f"{self.name}+{self.id.hex()}+{base64.b64encode(_ED25519 + self.public).decode()}"

    @classmethod
    def parse(cls, words: str) -> Self:
        """The key that `words` name, in the one form that they have. Raises NoteRefused."""
        try:
            name, _, key = words.split("+", 2)
            found = cls(name, base64.b64decode(key, validate=True)[1:])
        except ValueError as error:
            raise NoteRefused(f"this names no key of a log: {words[:60]!r}") from error
        if found.words != words:
            raise NoteRefused(f"this names no key of a log: {words[:60]!r}")
        return found

    def line(self, signature: bytes) -> str:
        """The line of a note that carries this key's `signature`."""
        return f"\u2014 {self.name} {base64.b64encode(self.id + signature).decode()}"


@dataclass(frozen=True, slots=True)
class SignedNote:
    """A text and the lines of its signatures, none of them checked yet."""

    text: str
    lines: tuple[str, ...]

    @property
    def encoded(self) -> str:
        """As it is stored and sent."""
        return self.text + "\n" + "".join(f"{line}\n" for line in self.lines)

    @classmethod
    def parse(cls, encoded: str) -> Self:
        """Read a note. Raises NoteRefused for another form, or one that is too long."""
        if len(encoded) > _LONGEST:
            raise NoteRefused(f"a note of {len(encoded)} characters; at most {_LONGEST} are read")
        text, gap, signatures = encoded.rpartition("\n\n")
        lines = signatures.split("\n")
        if not gap or lines.pop() != "" or not 1 <= len(lines) <= _MOST_SIGNATURES:
            raise NoteRefused(
                "this is not a signed note: a text, an empty line, and a line for each signature"
            )
        if not all(_LINE.fullmatch(line) for line in lines):
            raise NoteRefused(
                "a signature line of this note has another form than the dash, a name and base64"
            )
        return cls(text + "\n", tuple(lines))

    def require(self, key: NoteKey) -> str:
        """The text, if `key` signed it. Raises NoteRefused."""
        for line in self.lines:
            found = _LINE.fullmatch(line)
            if found is not None and found["name"] == key.name and self._signed(found["blob"], key):
                return self.text
        raise NoteRefused(
            f"this note is not signed by {key.name} with the key that is known of it ({key.id.hex()})"
        )

    def _signed(self, blob: str, key: NoteKey) -> bool:
        try:
            data = base64.b64decode(blob, validate=True)
            if len(data) != _KEY_ID_BYTES + _SIGNATURE_BYTES or data[:_KEY_ID_BYTES] != key.id:
                return False
            Ed25519PublicKey.from_public_bytes(key.public).verify(data[_KEY_ID_BYTES:], self.text.encode())
        except (binascii.Error, InvalidSignature, ValueError):
            return False
        return True
