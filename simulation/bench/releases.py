"""A federation in memory that releases models: real packages for a scoring service that is measured, without a coordinator.

Its officers' keys live as long as the process. What it signs is judged by a machine like everything else: the root in `root.json`, a member list, a
service for artifacts, the approvals of two officers, a release that ends.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, Self

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from coordinator.deploy.approved import PackageApprovals
from coordinator.deploy.package import Package, write_package
from coordinator.deploy.scoring.serving import PackageRef
from protos.keys import SigningKey
from protos.membership import Member, MemberList, Membership, Officer, Role, Service, SignedMembers
from protos.model_approvals import Subject, approve_model
from protos.model_release import Released, sign_release
from protos.root import Root, RootKey, SignedRoot
from strategies.encoding import digest_of, sha256_hex
from strategies.ids import Digest, SiteName

TARGET: Final = "bench"
_OFFICERS: Final = {"privacy-officer": Role.PRIVACY_OFFICER, "model-risk": Role.MODEL_RISK}
_YEARS: Final = timedelta(days=3650)
_LASTS: Final = timedelta(days=30)


@dataclass(frozen=True, slots=True, kw_only=True)
class Releases:
    """Packages in `folder` for the target TARGET, all made at the moment `at`; `root.json` there is what the service pins."""

    folder: Path
    at: datetime
    membership: Membership
    pinned: SignedRoot
    officers: Mapping[str, SigningKey]
    signer: SigningKey

    @classmethod
    def begun(cls, folder: Path, at: datetime) -> Self:
        """A new federation; `root.json` is written."""
        top, signer = SigningKey.generate(), SigningKey.generate()
        officers = {name: SigningKey.generate() for name in _OFFICERS}
        key = RootKey(name="officer-1", key=top.public)
        root = Root(federation=TARGET, version=1, keys=(key,), quorum=1, expires=at + _YEARS)
        members = MemberList(
            name=TARGET,
            version=1,
            members=(_site(),),
            officers=tuple(
                Officer(name=name, roles=(role,), key=officers[name].public, expires=at + _YEARS)
                for name, role in _OFFICERS.items()
            ),
            services=(Service(name="artifacts", purpose="artifacts", key=signer.public),),
        )
        pinned = SignedRoot(root=root).signed_with(top, None)
        membership = Membership(roots=(), signed=SignedMembers(list=members).signed_with(top, root))
        (folder / "root.json").write_bytes(pinned.canonical)
        return cls(
            folder=folder, at=at, membership=membership, pinned=pinned, officers=officers, signer=signer
        )

    def package(
        self,
        name: str,
        version: int,
        files: Mapping[str, bytes],
        *,
        floor: int = 1,
        approvals: int = len(_OFFICERS),
        lasts: timedelta = _LASTS,
    ) -> PackageRef:
        """What `made` makes, written, as the service is told of it."""
        package = self.made(name, version, files, floor=floor, approvals=approvals, lasts=lasts)
        digest = package.release.released.digest
        return PackageRef(package=str(write_package(self.folder, package)), digest=digest)

    def made(
        self,
        name: str,
        version: int,
        files: Mapping[str, bytes],
        *,
        floor: int = 1,
        approvals: int = len(_OFFICERS),
        lasts: timedelta = _LASTS,
    ) -> Package:
        """Release number `version` of the target, of that version of a model: its package, with the first `approvals` officers' word."""
        released = Released(
            model=name,
            version=version,
            digest=digest_of({each: sha256_hex(data) for each, data in files.items()}),
            artifacts={each: sha256_hex(data) for each, data in files.items()},
        )
        release = sign_release(
            self.signer,
            federation=self.pinned.root.identity,
            members=self.membership.digest,
            target=TARGET,
            sequence=version,
            floor=floor,
            mode="serve",
            released=released,
            at=self.at,
            expires=self.at + lasts,
        )
        said = self._approvals(released, approvals)
        return Package(release=release, membership=self.membership, approvals=said, files=files, extra={})

    @property
    def options(self) -> tuple[str, ...]:
        """Those of `covenant score serve` by which a service judges these packages."""
        return ("--root", str(self.folder / "root.json"), "--target", TARGET)

    def _approvals(self, released: Released, count: int) -> bytes:
        subject = Subject(
            name=released.model,
            version=released.version,
            digest=released.digest,
            on=Digest(sha256_hex(b"nothing was judged")),
            author=None,
        )
        statements = tuple(
            approve_model(
                subject,
                name,
                _OFFICERS[name],
                key,
                federation=self.pinned.root.identity,
                at=self.at,
                expires=self.at + _LASTS,
            )
            for name, key in list(self.officers.items())[:count]
        )
        return PackageApprovals(statements=statements).canonical


def _site() -> Member:
    """A member list has a site; nobody asks this one."""
    public = ec.generate_private_key(ec.SECP256R1()).public_key()
    node = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    return Member(site=SiteName("west"), identity_key=SigningKey.generate().public, node_key=node)
