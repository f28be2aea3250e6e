"""The officers' approvals of a version as they travel with it, so that a machine without a connection judges them for itself."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from sqlalchemy.orm import Session

from coordinator.registry.approvals import statements_of
from protos.documents import Document
from protos.membership import Trusted
from protos.model_approvals import MOST_STATEMENTS, ModelStatement, verify_approvals
from protos.model_release import ModelRelease, Released
from strategies.errors import Refused


class PackageApprovals(Document):
    """What officers said of one version. Worth nothing before `require_approvals`."""

    covenant: Literal["model-approvals/v1"] = "model-approvals/v1"
    statements: Annotated[tuple[ModelStatement, ...], Field(max_length=MOST_STATEMENTS)]


def approvals_of(session: Session, released: Released) -> bytes:
    """What officers have said of a version, as a package carries it."""
    said = statements_of(session, released.model, released.version)
    return PackageApprovals(statements=said).canonical


def require_approvals(data: bytes, release: ModelRelease, trusted: Trusted) -> None:
    """Check that the officers on the `trusted` list had approved exactly what is released when it was. Raises Refused."""
    found = PackageApprovals.from_canonical(data)
    approved = verify_approvals(found.statements, trusted, release.at).subject
    released = release.released
    if (approved.name, approved.version, approved.digest) != (
        released.model,
        released.version,
        released.digest,
    ):
        raise Refused(
            f"the approvals are of {approved.ref} {approved.digest[:12]}, and {release.words} is of {released.digest[:12]}: what is released was"
            " not approved"
        )
