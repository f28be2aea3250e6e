"""Who issues orders to targets: the key that releases are signed with, and whoever decided."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from coordinator.bootstrap import Centre
from coordinator.documents import read_listed
from coordinator.governance.members import Listed
from coordinator.keys import release_signer
from protos.keys import Signer
from strategies.errors import Refused


@dataclass(frozen=True, slots=True, kw_only=True)
class Issuer:
    """With what orders are made: the artifacts service's key, and the newest member list that the log will have."""

    centre: Centre
    signer: Signer
    listed: Listed


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """Who decided, why, and when; `seen` is the newest order of the target that they had before them, where they say so."""

    by: str
    why: str
    at: datetime
    seen: int | None = None


def issuer_of(centre: Centre, opened: Signer | None = None) -> Issuer:
    """With what this coordinator makes orders; `opened` is its key, if it was opened before.

    Raises UsageError where it has no key to sign releases with, Refused where that is not certified.
    """
    signer, listed = opened or release_signer(centre.settings), read_listed(centre.settings)
    service = listed.trusted.members.service("artifacts")
    if service.key != signer.public:
        raise Refused(
            f"{centre.settings.release_key_file} is not the key of {service.name}, the artifacts service on member list"
            f" {listed.trusted.members.ref}; have the officers certify it"
        )
    return Issuer(centre=centre, signer=signer, listed=listed)
