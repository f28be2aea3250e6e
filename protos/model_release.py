"""Releases: what a target may run, signed by the coordinator's service for artifacts, and the order in which releases count.

1. A release names one version of one model, by the digest of its files, for one target of one federation. It is worth nothing elsewhere.
2. Releases of a target are numbered from 1. Each says by its `floor` from which number on the releases before it still count, so that a machine
   that has accepted one takes back no older model, whoever hands it in. To go back to an older model is a newer release of it.
3. A release `serve`s answers, is on `trial` beside what serves, or is a `recall`: nothing before it counts, and nothing of the version may run.
4. A release ends. After `expires` the machine refuses, connected or not.
5. It names the member list it was made under: the officers' approvals are judged by that list, the release by the newest that the machine knows.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from protos.documents import FROZEN, Document, FieldError, Part, make_document
from protos.keys import Signature, Signer, verify
from protos.membership import MemberList
from protos.moments import SIGNERS_CLOCK_AHEAD, Moment
from protos.names import Name, Sha256, matching
from strategies.encoding import canonical_json, digest_of
from strategies.errors import Refused
from strategies.ids import Digest

_LABEL: Final = "covenant/model-release/v1"
_MOST_FILES: Final = 50
MOST_RELEASE_BYTES: Final = 64 * 1024

Mode = Literal["serve", "trial", "recall"]
FileName = Annotated[
    str,
    matching(
        r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", "up to 100 letters, digits, '.', '_' and '-' for a file's name"
    ),
]
Number = Annotated[int, Field(ge=1, lt=10**9)]


class Released(Part):
    """What is released: a version of a model, by the digest that the registry gives the map of its files."""

    model: Name
    version: Number
    digest: Sha256
    artifacts: Annotated[Mapping[FileName, Sha256], *FROZEN, Field(min_length=1, max_length=_MOST_FILES)]

    @property
    def ref(self) -> str:
        """`lending-default@3`."""
        return f"{self.model}@{self.version}"

    @model_validator(mode="after")
    def _digest_is_of_the_artifacts(self) -> Self:
        if digest_of(dict(self.artifacts)) != self.digest:
            raise FieldError("digest", "it is not of these artifacts")
        return self


class _Release(Document):
    """What is signed."""

    covenant: Literal["model-release/v1"] = "model-release/v1"
    federation: Sha256
    """Digest of root version 1."""
    members: Sha256
    """Digest of the member list, with its signatures and roots, that the release is made under."""
    target: Name
    sequence: Number
    floor: Number
    mode: Mode
    released: Released
    at: Moment
    expires: Moment

    @model_validator(mode="after")
    def _floor_is_no_higher(self) -> Self:
        if self.floor > self.sequence:
            raise FieldError("floor", f"release {self.sequence} would not count itself")
        if self.mode == "recall" and self.floor != self.sequence:
            raise FieldError("floor", "after a recall nothing before it counts: its own number")
        if self.at >= self.expires:
            raise FieldError("expires", "it ends before it begins")
        return self


class ModelRelease(_Release):
    """A release, signed. Worth nothing before `require_release`."""

    signature: Signature

    @property
    def message(self) -> bytes:
        """What the signature is over: the canonical JSON of all the rest."""
        return canonical_json(self.model_dump(mode="json", exclude={"signature"}, exclude_none=True))

    @property
    def words(self) -> str:
        """`release 7 of lending-default@3 for branch-1`."""
        return f"release {self.sequence} of {self.released.ref} for {self.target}"


def sign_release(
    signer: Signer,
    *,
    federation: Digest,
    members: Digest,
    target: str,
    sequence: int,
    floor: int,
    mode: Mode,
    released: Released,
    at: datetime,
    expires: datetime,
) -> ModelRelease:
    """A release by whoever holds the artifacts service's key, `signer`. Raises UsageError."""
    said = make_document(
        _Release,
        "the release",
        federation=federation,
        members=members,
        target=target,
        sequence=sequence,
        floor=floor,
        mode=mode,
        released=released,
        at=at.replace(microsecond=0),
        expires=expires.replace(microsecond=0),
    )
    return ModelRelease(**dict(said), signature=signer.sign(_LABEL, said.canonical))


def require_release(
    release: ModelRelease, members: MemberList, federation: Digest, target: str
) -> ModelRelease:
    """Check who signed `release`, and for whom; not yet whether it is good now. Raises Refused."""
    if release.federation != federation:
        raise Refused(f"{release.words} is of another federation; take releases from your own coordinator")
    if release.target != target:
        raise Refused(f"{release.words} is not for {target}; each target gets releases of its own")
    service = members.service("artifacts")
    if not verify(service.key, release.signature, _LABEL, release.message):
        raise Refused(
            f"{release.words} is not signed by {service.name}, the artifacts service of member list {members.ref}; fetch it again"
        )
    return release


def require_in_force(release: ModelRelease, now: datetime) -> None:
    """Check that `release` is neither of the future nor over at `now`. Raises Refused."""
    if release.at > now + SIGNERS_CLOCK_AHEAD:
        raise Refused(
            f"{release.words} was made at {release.at:%Y-%m-%d %H:%M} UTC, which is in this machine's future; set its clock"
        )
    if now > release.expires:
        raise Refused(
            f"{release.words} was good until {release.expires:%Y-%m-%d %H:%M} UTC; have it renewed with `covenant deploy renew` and carry the"
            " new one here"
        )


class Floor(Document):
    """What a machine has accepted for its target: the newest release, and the number below which none counts.

    `serves` is the digest of the release with that number, once it was accepted: beside the newest it is the only one that counts.
    """

    covenant: Literal["release-floor/v1"] = "release-floor/v1"
    target: Name
    floor: Number
    sequence: Number
    release: Sha256
    serves: Sha256 | None = None


def floor_after(release: ModelRelease, before: Floor | None) -> Floor:
    """What is accepted once `release` is, after `before`. Raises Refused for a release that no longer counts."""
    if before is None:
        return _floor_of(release)
    if release.target != before.target:
        raise Refused(f"{release.words} is not for {before.target}, which runs here")
    if release.sequence < before.floor:
        raise Refused(
            f"{release.words} is older than what this machine has accepted: releases before {before.floor} count no more. An older model comes"
            " back by a newer release of it"
        )
    if release.sequence > before.sequence:
        return _floor_of(release, before)
    counts = before.release if release.sequence == before.sequence else before.serves
    if release.sequence == before.floor and counts is None:  # the trial beside it was seen first
        return before.model_copy(update={"serves": release.digest})
    if release.digest != counts:
        raise Refused(
            f"another release {release.sequence} for {release.target} was accepted before, or none of that number counts beside release"
            f" {before.sequence}: somebody has signed two. Take neither, and tell the officers"
        )
    return before


def _floor_of(release: ModelRelease, before: Floor | None = None) -> Floor:
    # `release` is newer than all that was accepted before.
    floor = release.floor if before is None else max(release.floor, before.floor)
    serves = release.digest if release.sequence == floor else None
    if before is not None and floor in {before.floor, before.sequence}:
        serves = before.serves if floor == before.floor else before.release
    return Floor(
        target=release.target,
        floor=floor,
        sequence=release.sequence,
        release=release.digest,
        serves=serves,
    )
