"""Monitoring as the transparency log tells it: what is watched by which rules, and the alarms that came of it.

1. A registered version is watched from its entry on, by one monitor, one reference and one set of rules. The reference stays: it is what the version's one
   last evaluation released. A later entry replaces the others, and one that loosens them has the signatures of two officers (`monitor_approvals`).
2. An alarm is of a version that is watched. A model has at most one that is open: the next one comes after somebody has acknowledged it.
3. An entry has nothing but what windows released, and what follows from that.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Annotated, Final, Literal

from pydantic import AwareDatetime, Field

from protos.documents import Part
from protos.drift import DriftRules
from protos.log_registry_events import By, Why
from protos.membership import Trusted
from protos.model_release import Number
from protos.monitor_approvals import (
    MOST_STATEMENTS,
    Change,
    MonitorStatement,
    Watch,
    require_approved_loosening,
)
from protos.names import Name, Sha256, matching
from protos.windows import Monitor
from strategies.analytics.drift_causes import Kind
from strategies.errors import Refused

_DIGITS: Final = 16
AlarmId = Annotated[str, matching(r"alarm-[0-9a-f]{16}", "an id such as alarm-0123456789abcdef")]
Words = Annotated[str, Field(min_length=1, max_length=2000)]
Stream = Annotated[str, Field(min_length=1, max_length=200)]


def alarm_of(window: str) -> str:
    """The id of the alarm that the window with that digest raises."""
    return f"alarm-{window[:_DIGITS]}"


class MonitorAdded(Part):
    """A version is watched from now on, or by other rules than before."""

    kind: Literal["monitor-added"] = "monitor-added"
    model: Name
    version: Number
    digest: Sha256
    contract: Sha256
    monitor: Monitor
    rules: DriftRules
    reference: Sha256
    """Of the `drift-reference/v1` that windows are compared with."""
    approvals: (
        Annotated[tuple[MonitorStatement, ...], Field(min_length=1, max_length=MOST_STATEMENTS)] | None
    ) = None
    """Of the officers who loosen what was in force."""
    why: Why
    by: By

    @property
    def watch(self) -> Watch:
        """How the version is watched from now on."""
        return Watch(monitor=self.monitor.digest, rules=self.rules)

    def change_from(self, before: Watch) -> Change:
        """What it changes of what was in force."""
        return Change(
            model=self.model, version=self.version, digest=self.digest, before=before, after=self.watch
        )

    def require_reference_of(self, reference: str) -> None:
        """Check that windows are compared with what they were before. Raises Refused."""
        if self.reference != reference:
            raise Refused(
                f"{self.model}@{self.version} is compared with another reference, {self.reference[:12]} after {reference[:12]}: what its evaluation"
                " released does not change, so the registry or the log was changed. Restore the database"
            )


class DriftAlarm(Part):
    """A window has drifted further than is tolerated. `window` is the digest of the document, `moved` the streams that the test names, the clearest first."""

    kind: Literal["drift-alarm"] = "drift-alarm"
    alarm: AlarmId
    model: Name
    version: Number
    place: Name
    window: Sha256
    number: Number
    begins: AwareDatetime
    ends: AwareDatetime
    moved: Annotated[tuple[Stream, ...], Field(min_length=1, max_length=3000)]
    cause: Kind
    words: Words
    evidence: Annotated[tuple[Words, ...], Field(max_length=50)] = ()


class DriftAcknowledged(Part):
    """Somebody has seen an alarm: the next window that drifts raises another."""

    kind: Literal["drift-acknowledged"] = "drift-acknowledged"
    alarm: AlarmId
    model: Name
    why: Why
    by: By


MonitorEvent = MonitorAdded | DriftAlarm | DriftAcknowledged


@dataclass(slots=True)
class MonitorStory:
    """Judges entries about monitoring, in order."""

    watched: dict[tuple[str, int], Monitor] = field(default_factory=dict)
    """The monitor of each version."""
    in_force: dict[tuple[str, int], Watch] = field(default_factory=dict)
    """How each version is watched, and since when."""
    references: dict[tuple[str, int], str] = field(default_factory=dict)
    """What the windows of each version are compared with, by digest."""
    alarms: dict[str, str] = field(default_factory=dict)
    """All that there were, to their model."""
    open: dict[str, str] = field(default_factory=dict)
    """By model."""

    def take(
        self,
        what: MonitorEvent,
        registered: Collection[tuple[str, int, str]],
        at: datetime,
        trusted: Trusted | None = None,
    ) -> None:
        """Judge one; `registered` are models by name, version and digest, `trusted` is the member list of the moment. Raises Refused."""
        match what:
            case MonitorAdded():
                self._add(what, registered, at, trusted)
            case DriftAlarm():
                self._alarm(what, at)
            case DriftAcknowledged():
                if self.open.get(what.model) != what.alarm:
                    raise Refused(f"{what.alarm} is not the open alarm of {what.model}")
                del self.open[what.model]

    def _add(
        self,
        what: MonitorAdded,
        registered: Collection[tuple[str, int, str]],
        at: datetime,
        trusted: Trusted | None,
    ) -> None:
        if (what.model, what.version, what.digest) not in registered:
            raise Refused(f"{what.model}@{what.version} with digest {what.digest[:12]} is not registered")
        if what.monitor.model != what.model:
            raise Refused(f"the monitor is of {what.monitor.model}, and {what.model} is watched by it")
        version = what.model, what.version
        what.require_reference_of(self.references.setdefault(version, what.reference))
        if (before := self.in_force.get(version)) is not None:
            require_approved_loosening(what.change_from(before), what.approvals or (), trusted, at)
        elif what.approvals is not None:
            raise Refused(f"{what.model}@{what.version} is watched for the first time, which loosens nothing")
        self.watched[version], self.in_force[version] = what.monitor, replace(what.watch, since=at)

    def _alarm(self, what: DriftAlarm, at: datetime) -> None:
        if (what.model, what.version) not in self.watched:
            raise Refused(f"{what.model}@{what.version} is not watched, and raises no alarm")
        if what.alarm != alarm_of(what.window):
            raise Refused(
                f"{what.alarm} is of window {what.window[:12]}, whose alarm is {alarm_of(what.window)}"
            )
        if what.alarm in self.alarms:
            raise Refused(f"{what.alarm} is raised twice")
        if what.model in self.open:
            raise Refused(f"{what.model} has an open alarm already, {self.open[what.model]}")
        if not what.begins < what.ends <= at:
            raise Refused(f"{what.alarm} is of a window that is not over")
        span = self.watched[what.model, what.version].window
        if (what.ends - what.begins).total_seconds() != span or what.begins.timestamp() % span:
            raise Refused(f"{what.alarm} is of no window of the monitor that {what.model}@{what.version} has")
        self.alarms[what.alarm], self.open[what.model] = what.model, what.alarm
