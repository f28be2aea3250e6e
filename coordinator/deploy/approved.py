"""The officers' approvals of a version as they travel with it, so that a machine without a connection judges them for itself.

What is released lasts no longer than the approvals that count when it is released: who wants it to run on approves it anew before that, and has it
released anew.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field
from sqlalchemy.orm import Session

from coordinator.registry.approvals import statements_that_count
from protos.documents import Document
from protos.membership import Trusted
from protos.model_approvals import (
    MOST_STATEMENTS,
    ApprovedModel,
    ModelStatement,
    require_covered,
    verify_approvals,
)
from protos.model_release import ModelRelease, Released
from strategies.errors import Refused


class PackageApprovals(Document):
    """What officers said of one version. Worth nothing before `require_approvals`."""

    covenant: Literal["model-approvals/v1"] = "model-approvals/v1"
    statements: Annotated[tuple[ModelStatement, ...], Field(max_length=MOST_STATEMENTS)]


def approvals_of(session: Session, release: ModelRelease, trusted: Trusted) -> bytes:
    """What officers on the `trusted` list, under which `release` was made, had said of its version by then, as a package carries it."""
    released = release.released
    said = statements_that_count(session, released.model, released.version, trusted, release.at)
    return PackageApprovals(statements=said).canonical


def approved_until(session: Session, released: Released, trusted: Trusted, at: datetime) -> datetime:
    """The last moment until which the version may run that is released at `at`. Raises Refused where the officers have not approved it."""
    said = statements_that_count(session, released.model, released.version, trusted, at)
    until = verify_approvals(said, trusted, at).until
    if until <= at.replace(microsecond=0):
        raise Refused(f"the officers' approvals of {released.ref} end now; have it approved anew")
    return until


def require_approvals(data: bytes, release: ModelRelease, trusted: Trusted) -> None:
    """Check that the officers on the `trusted` list had approved exactly what is released when it was, for as long as it runs. Raises Refused."""
    found = PackageApprovals.from_canonical(data)
    approved = verify_approvals(found.statements, trusted, release.at)
    _require_of(approved, release)
    require_covered(release.words, release.expires, approved)


def _require_of(approved: ApprovedModel, release: ModelRelease) -> None:
    about, released = approved.subject, release.released
    if (about.name, about.version, about.digest) != (released.model, released.version, released.digest):
        raise Refused(
            f"the approvals are of {about.ref} {about.digest[:12]}, and {release.words} is of {released.digest[:12]}: what is released was"
            " not approved"
        )
