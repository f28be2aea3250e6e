"""Who may reach the control API: requests that officers signed, granted on the coordinator's machine and kept for good."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from coordinator.bootstrap import Centre
from coordinator.control_tls import ControlFiles, issue
from coordinator.db.engine import reading, writing
from coordinator.db.office_schema import StoredAccess
from coordinator.documents import read_listed
from coordinator.governance.log import append
from coordinator.governance.members import Listed, members_signed
from protos.access import AccessRequest
from protos.log_entries import MembersSigned
from protos.log_office import AccessGranted
from strategies.ids import Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Granted:
    """An access that was granted."""

    request: AccessRequest
    granted_at: datetime


def grant(centre: Centre, files: ControlFiles, request: AccessRequest) -> bytes:
    """A certificate in PEM for an officer's access request; the log is told the first time. Raises Refused."""
    at = centre.clock()
    listed = read_listed(centre.settings)
    request.require_bounded(request.judge(listed.trusted.members, at), at)
    certificate = issue(files, request, at, request.until)
    with writing(centre.engine, f"granting access to {request.officer}") as session:
        if session.get(StoredAccess, request.digest) is None:
            session.add(
                StoredAccess(
                    digest=request.digest,
                    officer=request.officer,
                    request=request.canonical.decode(),
                    fingerprint=request.tls_digest,
                    granted_at=at,
                )
            )
            session.flush()
            append(session, at, _entries(session, listed, request))
    return certificate


def _entries(
    session: Session, listed: Listed, request: AccessRequest
) -> Iterator[MembersSigned | AccessGranted]:
    yield from members_signed(session, listed)
    yield AccessGranted(request=request)


def granted(engine: Engine, digest: Digest) -> AccessRequest | None:
    """The request with this digest, if access was granted on it."""
    with reading(engine, "looking for an access") as session:
        row = session.get(StoredAccess, digest)
    return None if row is None else AccessRequest.from_canonical(row.request.encode())


def list_accesses(engine: Engine) -> Sequence[Granted]:
    """All accesses that were granted, the latest first."""
    query = select(StoredAccess).order_by(StoredAccess.granted_at.desc(), StoredAccess.digest)
    with reading(engine, "listing accesses") as session:
        rows = session.scalars(query).all()
    return [
        Granted(request=AccessRequest.from_canonical(row.request.encode()), granted_at=row.granted_at)
        for row in rows
    ]
