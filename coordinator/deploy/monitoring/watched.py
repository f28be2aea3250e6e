"""What is watched: a version, its monitor, its rules, and the reference, which is computed from what the registry has.

The reference is kept nowhere but as its digest in the log: the registry's metrics are in the log as well, so it comes back with them, and one that was
changed since does not have the digest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from sqlalchemy.orm import Session

from coordinator.db.monitor_schema import MonitorRow
from coordinator.db.schema import Model
from protos.drift import DriftReference, DriftRules
from protos.log_made import CONTRACT_FILE
from protos.windows import Monitor
from strategies.analytics.panels import released_panels
from strategies.errors import Refused, UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """A version that is watched, with all that its windows are judged by."""

    name: str
    version: int
    monitor: Monitor
    rules: DriftRules
    reference: DriftReference

    @property
    def ref(self) -> str:
        """`lending-default@3`."""
        return f"{self.name}@{self.version}"

    @classmethod
    def of(cls, session: Session, row: MonitorRow) -> Self:
        """Raises Refused where the registry's metrics are no longer those that the log tells of."""
        reference = reference_of(session, row.name, row.version)
        if reference.digest != row.reference:
            raise Refused(
                f"the reference of {row.name}@{row.version} has digest {reference.digest[:12]}, and the log says {row.reference[:12]}: the registry's metrics"
                " were changed since. Restore the database"
            )
        return cls(
            name=row.name,
            version=row.version,
            monitor=Monitor.from_canonical(row.monitor.encode()),
            rules=DriftRules.from_canonical(row.rules.encode()),
            reference=reference,
        )


def reference_of(session: Session, name: str, version: int) -> DriftReference:
    """What the evaluation of a version released. Raises UsageError where there is no such version, Refused where it released no profile."""
    row = session.get(Model, (name, version))
    if row is None:
        raise UsageError(f"there is no model {name}@{version}; `covenant model list` shows those there are")
    return DriftReference.of_panels(
        released_panels(row.metrics, row.panels),
        model=f"{name}@{version}",
        version_digest=row.digest,
        contract=row.artifacts.get(CONTRACT_FILE, ""),
    )


def watched_version(session: Session, name: str, version: int) -> Watched:
    """Raises Refused for a version that nobody watches."""
    row = session.get(MonitorRow, (name, version))
    if row is None:
        raise Refused(
            f"{name}@{version} is not watched; `covenant monitor add {name}@{version}` has it watched"
        )
    return Watched.of(session, row)
