"""What the parties of one attempt say to each other, as types. `protos/secagg.proto` is how it travels.

Whatever is signed is signed as length-prefixed bytes that name protocol version, attempt, purpose and signer, so that no signature can
be shown as one for another attempt, purpose or site.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final, TypeAlias

from strategies.encoding import sha256_hex
from strategies.ids import Digest, SiteName
from strategies.pieces import Bytes
from strategies.secagg.labels import Attempt, Label, prefixed

ADVERTISEMENT: Final = "covenant/secagg/1 advertisement"
UPLOAD: Final = "covenant/secagg/1 upload"
CONFIRMATION: Final = "covenant/secagg/1 confirmation"


@dataclass(frozen=True, slots=True)
class AdvertiseRequest:
    """Asks for fresh keys."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Advertisement:
    """A site's two public keys for an attempt, and the commitment to the seed of its own mask, under its identity's signature."""

    site: SiteName
    mask_key: bytes
    envelope_key: bytes
    own_seed: Digest
    signature: bytes

    @property
    def public_keys(self) -> tuple[bytes, bytes]:
        """Both keys."""
        return self.mask_key, self.envelope_key

    @staticmethod
    def signed_bytes(
        attempt: Attempt, site: SiteName, mask_key: bytes, envelope_key: bytes, own_seed: Digest
    ) -> bytes:
        """What `signature` is over."""
        label = Label(attempt=attempt, purpose="advertisement", parties=(site,)).encode()
        return label + advertised(mask_key, envelope_key, own_seed)


def advertised(mask_key: bytes, envelope_key: bytes, own_seed: Digest) -> bytes:
    """What a site advertises, each part after its length: what its signature and the digest of a cohort are over."""
    return b"".join([prefixed(mask_key), prefixed(envelope_key), prefixed(own_seed.encode())])


@dataclass(frozen=True, slots=True)
class Bound:
    """What an attempt's secrets are bound to once it is known: its keys (`cohort`) and what all sites were told (`statement`)."""

    attempt: Attempt
    cohort: Digest
    statement: Digest

    def label(self, purpose: str, *parties: SiteName) -> Label:
        """The label of a key, or of a signature, of this attempt."""
        return Label(
            attempt=self.attempt,
            purpose=purpose,
            parties=parties,
            cohort=self.cohort,
            statement=self.statement,
        )


@dataclass(frozen=True, slots=True)
class ShareRequest:
    """Everybody's keys, sorted by site."""

    cohort: tuple[Advertisement, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelopes:
    """What `site` has sealed for each of its neighbours."""

    site: SiteName
    sealed: Mapping[SiteName, bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskRequest:
    """`roster`, sorted: who is asked for a masked input. `envelopes`: what its neighbours on it have sealed for the site that is asked."""

    statement: Digest
    roster: tuple[SiteName, ...]
    envelopes: Mapping[SiteName, bytes]


@dataclass(frozen=True, kw_only=True)
class MaskedInput:
    """A site's masked vector, packed, with its signature over it and over what the site was told.

    The signature is over the digest of all of it, in however many pieces it came.
    """

    site: SiteName
    statement: Digest
    packed: Bytes
    signature: bytes

    @cached_property
    def digest(self) -> Digest:
        """SHA-256 of the packed vector."""
        return sha256_hex(self.packed)

    @staticmethod
    def signed_bytes(bound: Bound, site: SiteName, packed: Bytes) -> bytes:
        """What `signature` is over."""
        return MaskedInput.signed_digest(bound, site, sha256_hex(packed))

    @staticmethod
    def signed_digest(bound: Bound, site: SiteName, packed: Digest) -> bytes:
        """The same from the digest of the packed vector, for those who have the signature and not the vector."""
        return bound.label("upload", site).encode() + prefixed(packed.encode())


@dataclass(frozen=True)
class ConfirmRequest:
    """Who survived, sorted."""

    survivors: tuple[SiteName, ...]

    @cached_property
    def digest(self) -> Digest:
        """SHA-256 over the names, each length-prefixed."""
        return sha256_hex(b"".join(prefixed(name.encode()) for name in self.survivors))


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmation:
    """A survivor's signature over who survived and what they were told."""

    site: SiteName
    signature: bytes

    @staticmethod
    def signed_bytes(bound: Bound, site: SiteName, survivors: Digest) -> bytes:
        """What `signature` is over; `survivors` is the digest of who survived."""
        return bound.label("confirmation", site).encode() + prefixed(survivors.encode())


@dataclass(frozen=True, slots=True, kw_only=True)
class UnmaskRequest:
    """The one partition of the roster for which shares are given, both parts sorted, with the survivors' confirmations (none if semi-honest)."""

    statement: Digest
    survivors: tuple[SiteName, ...]
    dropped: tuple[SiteName, ...]
    confirmations: Mapping[SiteName, bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shares:
    """One site's shares: of own seeds of survivors, of mask keys of the dropped, never both of one site.

    They need no signature: what they rebuild is checked against what its owner signed when it advertised.
    """

    site: SiteName
    own_seeds: Mapping[SiteName, bytes] = field(repr=False)
    mask_keys: Mapping[SiteName, bytes] = field(repr=False)


Body: TypeAlias = (
    AdvertiseRequest
    | Advertisement
    | ShareRequest
    | Envelopes
    | MaskRequest
    | MaskedInput
    | ConfirmRequest
    | Confirmation
    | UnmaskRequest
    | Shares
)
"""Anything that is said in an attempt; requests come from the coordinator."""


@dataclass(frozen=True, slots=True)
class Frame:
    """Something said in an attempt."""

    attempt: Attempt
    body: Body
