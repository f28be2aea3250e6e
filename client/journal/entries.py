"""What a journal is made of: entries in a chain of checksums, whose they are, and what can be wrong with it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from strategies.errors import DiskError, UsageError


class JournalBroken(DiskError):  # noqa: N818  (names the state that the process is left in)
    """The journal cannot be written, or is damaged. Nothing may leave this site any more: the process must end."""


class JournalInUse(UsageError):  # noqa: N818  (names the state that it is in)
    """Another process keeps the journal for itself, or has had its turn for too long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """Whose journal it is: `root` is the digest of the root that the site has pinned, `identity` its own public key."""

    federation: str
    root: str
    site: str
    identity: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Whose shared journal it is: a site's, in whatever federations."""

    site: str


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry. `seq` counts from 1."""

    seq: int
    kind: str
    body: Mapping[str, Any]


def chained(before: bytes, seq: int, kind: str, body: bytes) -> bytes:
    """SHA-256 over the checksum before, and the entry with its parts length-prefixed."""
    digest = hashlib.sha256(before)
    digest.update(seq.to_bytes(8, "big"))
    for part in (kind.encode(), body):
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.digest()
