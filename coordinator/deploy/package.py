"""Packages: one version of a model with all that a machine needs to judge it by itself, connected or not.

A package holds the version's files, `release.json`, `members.json` with the chain of roots, `approvals.json`, and `model.sig` with its key where
the version is signed, which other people's tools verify. `open_package` is the only way to a model that is served, and checks in this order before anything is loaded:

1. The root that is pinned on the machine leads to the member list in the package; a list older than one accepted before judges nothing new.
2. The artifacts service of the newest list that the machine knows has signed the release, for this federation, target and member list.
3. The officers of the package's list approved exactly this version, by the rule for models, when the release was made.
4. The files are those of the release, all and no others, to the byte.
5. The release is not over, and not older than what this machine has accepted. That it is accepted is on disk before the model is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from coordinator.deploy.accepted import Machine, Memory
from coordinator.deploy.approved import require_approvals
from coordinator.deploy.pieces import read_pieces, write_bundle, write_folder
from coordinator.deploy.scoring.serving import Opened
from protos.artifact_keys import RESERVED
from protos.contract import Contract
from protos.log_made import CONTRACT_FILE, PLAN_FILE
from protos.membership import Membership, Trusted
from protos.model_release import MOST_RELEASE_BYTES, ModelRelease, require_in_force, require_release
from strategies.encoding import sha256_hex
from strategies.errors import Refused

RELEASE_FILE: Final = "release.json"
MEMBERS_FILE: Final = "members.json"
APPROVALS_FILE: Final = "approvals.json"
MODEL_FILE: Final = "model.onnx"
_FETCH: Final = "fetch the package again"
_OF_PACKAGE: Final = frozenset({RELEASE_FILE, MEMBERS_FILE, APPROVALS_FILE, *RESERVED})


class Recalled(Refused):
    """A release that takes the model out of service."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """What a package is written from. `files` are the version's artifacts; `extra` its signature and key, if it has them."""

    release: ModelRelease
    membership: Membership
    approvals: bytes
    files: Mapping[str, bytes]
    extra: Mapping[str, bytes]

    @property
    def pieces(self) -> dict[str, bytes]:
        """By file name. A recall carries no model. Raises Refused where a file of the version has a name of the package's own."""
        own = {RELEASE_FILE: self.release.canonical, MEMBERS_FILE: self.membership.canonical}
        if self.release.mode == "recall":
            return own
        if taken := _OF_PACKAGE & set(self.files):
            raise Refused(
                f"{self.release.released.ref} has a file called {min(taken)}, which a package needs for itself"
            )
        return {**self.files, **self.extra, **own, APPROVALS_FILE: self.approvals}


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """A package that counts on one machine; `verify_pieces` is its only maker. `files` are the version's, by name."""

    release: ModelRelease
    contract: Contract
    files: Mapping[str, bytes]

    @property
    def opened(self) -> Opened:
        """As the scoring service takes it."""
        released = self.release.released
        return Opened(
            name=released.model,
            version=released.version,
            digest=released.digest,
            onnx=self.files[MODEL_FILE],
            contract=self.contract,
            plan_digest=released.artifacts[PLAN_FILE],
            expires=self.release.expires,
        )


def folder_name(release: ModelRelease) -> str:
    """What a package's folder is called: its number first, so that a listing has the order."""
    return f"{release.sequence:09d}-{release.released.model}-{release.released.version}-{release.digest[:16]}"


def write_package(folder: Path, package: Package) -> Path:
    """Write `package` into a folder of its own below `folder`; returns that. The same package again changes nothing. Raises `CovenantError`."""
    path = folder / folder_name(package.release)
    write_folder(path, package.pieces)
    return path


def bundle_package(path: Path, package: Package) -> None:
    """Write `package` as one file. Raises `CovenantError`."""
    write_bundle(path, package.pieces)


def open_package(source: Path, machine: Machine, now: datetime) -> Opened:
    """The model in the package `source`, a folder or a bundle, if it may run on `machine` at `now`. Raises Refused with the reason."""
    return verify_package(source, machine, now).opened


def verify_package(source: Path, machine: Machine, now: datetime) -> Verified:
    """Judge the package `source` by the rules above, and remember that it was accepted.

    Raises Refused with the reason, Recalled for a recall once that is remembered, UsageError where it cannot be read.
    """
    return verify_pieces(read_pieces(source), machine, now)


def verify_pieces(pieces: Mapping[str, bytes], machine: Machine, now: datetime) -> Verified:
    """As `verify_package`, for the files of a package that were read already: what is judged is what the caller has."""
    membership = Membership.from_canonical(_piece(pieces, MEMBERS_FILE))
    trusted = membership.verify(machine.pinned)
    with machine.looking() as memory:
        release = _released(pieces, membership, memory.newest(trusted), machine)
        if release.mode == "recall":
            memory.accept(release, membership, trusted)
            raise Recalled(f"{release.words} is a recall: the model is out of service here")
        return _accepted(release, pieces, membership, trusted, memory, now)


def _released(
    pieces: Mapping[str, bytes], membership: Membership, newest: Trusted, machine: Machine
) -> ModelRelease:
    data = _piece(pieces, RELEASE_FILE)
    if len(data) > MOST_RELEASE_BYTES:
        raise Refused(f"{RELEASE_FILE} has {len(data)} bytes; at most {MOST_RELEASE_BYTES} are read")
    release = ModelRelease.from_canonical(data)
    require_release(release, newest.members, newest.federation, machine.target)
    if release.members != membership.digest:
        raise Refused(f"{release.words} was made under another member list than the package has; {_FETCH}")
    return release


def _accepted(
    release: ModelRelease,
    pieces: Mapping[str, bytes],
    membership: Membership,
    trusted: Trusted,
    memory: Memory,
    now: datetime,
) -> Verified:
    memory.require_not_under_older(release, trusted)
    require_approvals(_piece(pieces, APPROVALS_FILE), release, trusted)
    files = _files(release, pieces)
    contract = Contract.from_canonical(files[CONTRACT_FILE])
    require_in_force(release, now)
    memory.accept(release, membership, trusted)
    return Verified(release=release, contract=contract, files=files)


def _files(release: ModelRelease, pieces: Mapping[str, bytes]) -> dict[str, bytes]:
    """The version's files. Raises Refused unless they are exactly those that were released."""
    named = release.released.artifacts
    if missing := sorted({MODEL_FILE, PLAN_FILE, CONTRACT_FILE} - set(named)):
        raise Refused(f"{release.released.ref} has no {missing[0]}, so nothing can be scored with it")
    if strange := sorted(set(pieces) - set(named) - _OF_PACKAGE):
        raise Refused(f"{strange[0]} in the package is no file of {release.released.ref}; {_FETCH}")
    files: dict[str, bytes] = {}
    for name, digest in named.items():
        files[name] = _piece(pieces, name)
        if (found := sha256_hex(files[name])) != digest:
            raise Refused(
                f"{name} in the package has the digest {found}; {release.released.ref} was approved with {digest}; {_FETCH}"
            )
    return files


def _piece(pieces: Mapping[str, bytes], name: str) -> bytes:
    if name not in pieces:
        raise Refused(f"the package has no {name}; {_FETCH}")
    return pieces[name]
