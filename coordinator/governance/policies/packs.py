"""Published policy packs: kept with their signatures, found by moment, and judged by.

1. A pack is published once, with its entry in the log, if every rule of it is an expression and its officers have signed it. It is in effect by
   the clock from then on, whether everything was judged by it already or not.
2. A judgement is kept with its entry; one that says the same as the last is not told again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from coordinator.bootstrap import Centre
from coordinator.db.engine import reading, writing
from coordinator.db.policy_schema import PolicyJudgementRow, PolicyPackRow
from coordinator.governance.log import append
from coordinator.governance.members import Listed, members_signed
from coordinator.governance.policies.judge import compiled
from protos.log_entries import What
from protos.log_policies import PolicyEvent, PolicyInForce, PolicyJudged, PolicyPublished, in_effect
from protos.policy_pack import PolicyPack, SignedPack, require_succeeds
from protos.policy_verdicts import Difference, Judgement, differences
from strategies.errors import Refused, UsageError
from strategies.ids import Digest

First = Callable[[Session], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptPack:
    """A published version. `state` is `in effect`, `to come`, or `replaced`; `in_force_at` when everything was judged by it."""

    signed: SignedPack
    published_at: datetime
    in_force_at: datetime | None
    state: str

    @property
    def pack(self) -> PolicyPack:
        """What its officers signed."""
        return self.signed.pack


def publish(centre: Centre, signed: SignedPack, listed: Listed, first: First | None = None) -> None:
    """Keep a pack that officers on the list `listed` have signed. `first` is the first thing that the transaction does.

    Raises UsageError with rule, line and column for what is no expression, Refused for signatures that do not count or a version that does not
    follow; nothing is kept then. The very pack again changes nothing.
    """
    compiled(signed.pack).require_sound()
    at = centre.clock()
    with writing(centre.engine, f"publishing pack {signed.pack.ref}") as session:
        if first is not None:
            first(session)
        append(session, at, _published(session, signed, listed, at))


def _published(session: Session, signed: SignedPack, listed: Listed, at: datetime) -> Iterator[What]:
    pack = signed.pack
    known = session.get(PolicyPackRow, (pack.name, pack.version))
    if known is not None and known.digest == pack.digest:
        return
    yield from members_signed(session, listed)
    signed.require(listed.trusted, at)
    named = [each.pack for each in _kept(session) if each.pack.name == pack.name]
    require_succeeds(pack, named[-1] if named else None)
    session.add(row_of(signed, at))
    session.flush()
    yield PolicyPublished(signed=signed)


def row_of(signed: SignedPack, at: datetime) -> PolicyPackRow:
    """A pack as it is kept, once it was published."""
    pack = signed.pack
    return PolicyPackRow(
        name=pack.name,
        version=pack.version,
        digest=pack.digest,
        signed=signed.canonical.decode(),
        effective_from=pack.effective_from,
        published_at=at,
    )


def effective(session: Session, at: datetime) -> tuple[PolicyPack, ...]:
    """The packs that are in effect at a moment, by name."""
    return in_effect([each.pack for each in _kept(session)], at)


def kept_packs(centre: Centre) -> list[KeptPack]:
    """All published versions, by name and number."""
    at = centre.clock()
    with reading(centre.engine, "listing policy packs") as session:
        rows = list(
            session.scalars(select(PolicyPackRow).order_by(PolicyPackRow.name, PolicyPackRow.version))
        )
    packs = [(row, SignedPack.from_canonical(row.signed.encode())) for row in rows]
    now = {each.digest for each in in_effect([signed.pack for _, signed in packs], at)}
    return [
        KeptPack(
            signed=signed,
            published_at=row.published_at,
            in_force_at=row.in_force_at,
            state="in effect" if row.digest in now else "to come" if row.effective_from > at else "replaced",
        )
        for row, signed in packs
    ]


def find_pack(packs: Iterable[KeptPack], name: str) -> KeptPack:
    """Of `packs` the version NAME@VERSION, or of NAME the one that is in effect, or else the newest. Raises UsageError."""
    wanted, _, version = name.partition("@")
    found = [each for each in packs if each.pack.name == wanted]
    if version:
        found = [each for each in found if str(each.pack.version) == version]
    if not found:
        raise UsageError(
            f"no policy pack {name[:70]!r} is published; `covenant policy list` shows those that are"
        )
    return next((each for each in found if each.state == "in effect"), found[-1])


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptJudgement:
    """A judgement that was recorded, and what changed since the one before."""

    judgement: Judgement
    differs: tuple[Difference, ...]
    blocked: bool
    judged_at: datetime


def last_judgements(
    centre: Centre, name: str, start: int = 0, limit: int | None = None
) -> list[KeptJudgement]:
    """The last judgement of each subject by the pack called `name`, plans before models; or at most `limit` of them from `start` on."""
    row = PolicyJudgementRow
    last = select(func.max(row.id)).where(row.pack_name == name).group_by(row.subject)
    query = select(row).where(row.id.in_(last)).order_by(row.kind.desc(), row.subject)
    with reading(centre.engine, f"listing what pack {name[:70]} says") as session:
        return [_judgement(each) for each in session.scalars(query.offset(start).limit(limit))]


def _judgement(row: PolicyJudgementRow) -> KeptJudgement:
    return KeptJudgement(
        judgement=Judgement.from_canonical(row.judgement.encode()),
        differs=tuple(Difference.model_validate(each) for each in json.loads(row.differs)),
        blocked=row.blocked,
        judged_at=row.judged_at,
    )


def _kept(session: Session) -> list[SignedPack]:
    query = select(PolicyPackRow.signed).order_by(PolicyPackRow.name, PolicyPackRow.version)
    return [SignedPack.from_canonical(each.encode()) for each in session.scalars(query)]


def last_judgement(session: Session, name: str, subject: str) -> Judgement | None:
    """The last judgement of a subject, by its key, by any version of the pack called `name`."""
    query = (
        select(PolicyJudgementRow.judgement)
        .where(PolicyJudgementRow.pack_name == name, PolicyJudgementRow.subject == subject)
        .order_by(PolicyJudgementRow.id.desc())
        .limit(1)
    )
    found = session.scalar(query)
    return None if found is None else Judgement.from_canonical(found.encode())


def recorded(session: Session, pack: PolicyPack, found: Judgement, at: datetime) -> Iterator[PolicyJudged]:
    """Keep a judgement and give its entry; nothing where the last one is the same. Call it under the log's lock, as `append` does."""
    before = last_judgement(session, pack.name, found.subject.key)
    if before is not None and before.digest == found.digest:
        return
    told = PolicyJudged(judgement=found, differs=differences(before, found))
    write_judgement(session, pack, told, at)
    yield told


def write_judgement(session: Session, pack: PolicyPack, told: PolicyJudged, at: datetime) -> None:
    """A judgement as it is kept."""
    found = told.judgement
    session.add(
        PolicyJudgementRow(
            pack_name=pack.name,
            pack_version=pack.version,
            kind=found.subject.of,
            subject=found.subject.key,
            blocked=bool(found.blocked_by(pack)),
            judgement=found.canonical.decode(),
            differs=json.dumps([each.model_dump(mode="json", exclude_none=True) for each in told.differs]),
            judged_at=at,
        )
    )
    session.flush()


def write_policy(session: Session, what: PolicyEvent, at: datetime) -> None:
    """The effect of an entry that a copy of the log has, whose pack was published before it. Raises Refused where it was not."""
    match what:
        case PolicyPublished():
            session.add(row_of(what.signed, at))
        case PolicyJudged():
            pack = SignedPack.from_canonical(_row_by(session, what.judgement.pack).signed.encode()).pack
            write_judgement(session, pack, what, at)
        case PolicyInForce():
            _row_by(session, what.pack).in_force_at = at


def _row_by(session: Session, digest: Digest) -> PolicyPackRow:
    row = session.scalar(select(PolicyPackRow).where(PolicyPackRow.digest == digest))
    if row is None:
        raise Refused(f"policy pack {digest} was not published here")
    return row
