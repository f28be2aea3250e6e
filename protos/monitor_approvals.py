"""Loosening how a version is watched: what counts as that, and the two officers who sign it.

1. Rules are compared by what they let pass: the rate of false alarms that one window may use, and what is tolerated. A lower rate, or more that is
   tolerated, is looser. Everything else is not to be compared: another monitor has other windows, bins, groups, noise or limits, and what it gains in sight
   it loses in privacy, or the other way round. So any other monitor counts as looser.
2. Whoever tightens rules does so alone. A loosening takes one privacy officer and one model risk officer, who are different people and each sign it.
3. A statement names what is in force, by digest and since when, and what shall be: it counts for that one change and no other. It names the federation by its
   root, version 1, and is good for a week.
4. One wrong statement refuses the change: none is ignored, because each was put there to be counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal, Self

from pydantic import AwareDatetime, model_validator

from protos.approvals import APPROVING
from protos.documents import Document, FieldError, make_document
from protos.drift import DriftRules
from protos.keys import Signature, Signer, verify
from protos.membership import Role, Trusted
from protos.model_release import Number
from protos.moments import SIGNERS_CLOCK_AHEAD, Moment
from protos.names import Name, Sha256
from strategies.encoding import canonical_json
from strategies.errors import Refused
from strategies.ids import Digest

GOOD_FOR: Final = timedelta(days=7)
MOST_STATEMENTS: Final = 2
_LABEL: Final = "covenant/monitor-statement/v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """How a version is watched: its monitor by digest, its rules, and since when; None where that is still to be."""

    monitor: Digest
    rules: DriftRules
    since: datetime | None = None


def loosened(before: Watch, after: Watch) -> tuple[str, ...]:
    """What is looser in `after`, or not to be compared, in words; nothing where it is as tight or tighter."""
    return tuple(_loosened(before, after))


def _loosened(before: Watch, after: Watch) -> Iterator[str]:
    if before.monitor != after.monitor:
        yield "the monitor is another: windows, bins, groups, noise and limits are not to be compared"
    one, other = before.rules, after.rules
    if other.false_alarm_rate / other.horizon < one.false_alarm_rate / one.horizon:
        yield (
            f"a window may use less of the rate of false alarms, {other.false_alarm_rate:g} in {other.horizon} windows after"
            f" {one.false_alarm_rate:g} in {one.horizon}: fewer alarms"
        )
    for name in ("tolerated_psi", "tolerated_drop", "threshold_psi"):
        was, is_ = getattr(one, name), getattr(other, name)
        if is_ > was:
            yield f"{name} is {is_:g} after {was:g}"


class _Statement(Document):
    """What is signed."""

    covenant: Literal["monitor-statement/v1"] = "monitor-statement/v1"
    federation: Sha256
    """Digest of root version 1."""
    model: Name
    version: Number
    digest_of_version: Sha256
    monitor_before: Sha256
    rules_before: Sha256
    since: AwareDatetime
    """When what is in force came into force."""
    monitor: Sha256
    rules: Sha256
    officer: Name
    role: Role
    at: Moment

    @model_validator(mode="after")
    def _role_can_count(self) -> Self:
        if self.role not in APPROVING:
            raise FieldError(
                "role",
                f"how a version is watched is loosened as {' and '.join(APPROVING)}, not as {self.role}",
            )
        return self


class MonitorStatement(_Statement):
    """An officer's word that a version may be watched less tightly, signed. Worth nothing before `require_approved_loosening`."""

    signature: Signature

    @property
    def message(self) -> bytes:
        """What the signature is over: the canonical JSON of all the rest."""
        return canonical_json(self.model_dump(mode="json", exclude={"signature"}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """From one way to watch a version, with registry `digest`, to another."""

    model: str
    version: int
    digest: Digest
    before: Watch
    after: Watch

    @property
    def facts(self) -> dict[str, object]:
        """As a statement names it."""
        return {
            "model": self.model,
            "version": self.version,
            "digest_of_version": self.digest,
            "monitor_before": self.before.monitor,
            "rules_before": self.before.rules.digest,
            "since": self.before.since,
            "monitor": self.after.monitor,
            "rules": self.after.rules.digest,
        }


def state_change(
    change: Change, officer: str, role: Role, signer: Signer, *, federation: Digest, at: datetime
) -> MonitorStatement:
    """The word of `officer`, who holds `signer`, for a change. Raises UsageError."""
    said = make_document(
        _Statement,
        "the statement",
        federation=federation,
        officer=officer,
        role=role,
        at=at.replace(microsecond=0),
        **change.facts,
    )
    return MonitorStatement(**dict(said), signature=signer.sign(_LABEL, said.canonical))


def require_approved_loosening(
    change: Change, said: Sequence[MonitorStatement], trusted: Trusted | None, now: datetime
) -> None:
    """Check that a change that loosens has its two officers; one that does not has nobody's word. Raises Refused at the first rule that is broken."""
    looser = loosened(change.before, change.after)
    ref = f"{change.model}@{change.version}"
    for each in said:
        if trusted is None:
            raise Refused(
                f"how {ref} is watched is loosened before any member list says who may approve that"
            )
        _require_one(each, change, trusted, now)
    if not looser:
        if said:
            raise Refused(
                f"what is asked for {ref} loosens nothing, and takes nobody's word: an entry with {said[0].officer}'s would tell of a loosening; leave the approvals out"
            )
        return
    less = f"{ref} would be watched less tightly: {'; '.join(looser)}"
    missing = [role for role in APPROVING if role not in {each.role for each in said}]
    if missing:
        raise Refused(
            f"{less}. That takes the word of a privacy officer and of a model risk officer (`covenant monitor sign {ref}`), and lacks {' and '.join(missing)}"
        )
    if len({each.officer for each in said}) != len(said):
        raise Refused(f"{less}. That takes two people, and {said[0].officer} signs twice")


def _require_one(said: MonitorStatement, change: Change, trusted: Trusted, now: datetime) -> None:
    officer, words = trusted.members.officer(said.officer), f"{said.officer}'s word to watch otherwise"
    officer.require_current(now)
    if said.role not in officer.roles:
        raise Refused(
            f"{words} does not count: on member list {trusted.members.ref} {officer.name} is {', '.join(officer.roles)}, not {said.role}"
        )
    if not verify(officer.key, said.signature, _LABEL, said.message):
        raise Refused(
            f"{words} is not signed with their key on member list {trusted.members.ref}; have it signed again"
        )
    if said.federation != trusted.federation:
        raise Refused(f"{words} is for another federation, and counts in no other")
    for name, value in change.facts.items():
        if getattr(said, name) != value:
            raise Refused(
                f"{words} is about another change: its `{name}` is not that of what is in force or of what is asked for. Have this change signed"
            )
    if not -SIGNERS_CLOCK_AHEAD <= now - said.at <= GOOD_FOR:
        raise Refused(
            f"{words} is of {said.at:%Y-%m-%d %H:%M:%S} UTC, and is good for {GOOD_FOR.days} days; have it signed again"
        )
