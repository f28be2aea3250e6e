"""A plan drafted from an alarm, or because somebody asked: found, fitted to today, written down, told to the log and to the plan's author.

1. The plan is that of the version that serves, which officers had approved, and that version is its champion; where none serves, the newest registered one.
2. All that takes time comes before the transaction; in it, under the log's lock, is checked that no draft of the model is open.
3. An alarm whose cause is a fault in the data drafts nothing: training on faulty data would make it permanent. A person may ask for a draft.
4. Where nothing fits, that is the draft: it says why, and waits to be dismissed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import structlog
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from coordinator.bootstrap import Centre
from coordinator.db.deploy_schema import RunningRow
from coordinator.db.engine import reading, writing
from coordinator.db.loop_schema import DraftRow
from coordinator.db.monitor_schema import AlarmRow, WindowRow
from coordinator.db.schema import Model, Run
from coordinator.deploy.monitoring.alerts.outbox import Alert, put_in
from coordinator.deploy.monitoring.retraining.advice import INVITE
from coordinator.deploy.monitoring.retraining.changed import MEMBERS, Fitted, NothingFits
from coordinator.deploy.monitoring.retraining.effects import carried_out
from coordinator.deploy.monitoring.retraining.expected import gain_facts
from coordinator.deploy.monitoring.retraining.fitting import fitted
from coordinator.deploy.monitoring.retraining.text import written
from coordinator.documents import read_members
from coordinator.governance.log import append
from coordinator.registry.champions import as_champion
from coordinator.registry.versions import get_version
from protos.approvals import PlanEvidence
from protos.contract import Contract
from protos.documents import make_document
from protos.log_loop import MOST_SENTENCES, RetrainingDrafted
from protos.plan import Plan
from protos.plan_evaluation import Champion
from strategies.analytics.drift_causes import NO_OUTCOMES
from strategies.encoding import digest_of
from strategies.errors import CovenantError, DiskError, Refused, UsageError

DATA_FAULT: Final = "data fault"
AN_ALARM: Final = "an alarm"
"""How the log calls whoever drafts where nobody asked; no officer's name has spaces."""
First = Callable[[Session, str], None]
_LONGEST: Final = 1000
_SHOWN: Final = 12
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Before:
    """What a draft starts from: the version that `serves`, and the plan of its `run`."""

    name: str
    serves: int
    run: str
    plan: Plan
    contract: Contract
    author: str | None


def draft_due(centre: Centre) -> tuple[str, ...]:
    """Draft for each open alarm that has no draft yet; the drafts' ids. What fails for one model is told, and tried again."""
    with reading(centre.engine, "looking for alarms without a draft") as session:
        due = _due(session)
    made = []
    for alarm in due:
        try:
            made.append(draft(centre, alarm.name, by=AN_ALARM, alarm=alarm))
            _log.info("retraining drafted", draft=made[-1], model=alarm.name, alarm=alarm.id)
        except DiskError:
            raise
        except CovenantError as error:
            _log.warning("nothing drafted", alarm=alarm.id, reason=str(error))
        except Exception as error:  # noqa: BLE001  (a defect that one model brings out must not keep others, or launches, waiting)
            _log.error("nothing drafted", alarm=alarm.id, trouble=type(error).__name__)
    return tuple(made)


def draft(
    centre: Centre,
    name: str,
    *,
    by: str,
    alarm: AlarmRow | None = None,
    first: First = lambda _session, _id: None,
) -> str:
    """Draft a plan for model `name`; the draft's id. `first` is given it, first in the transaction.

    Raises UsageError for no such model, Refused where a draft is open.
    """
    with reading(centre.engine, f"looking for plans of {name[:63]}") as session:
        _require_none_open(session, name)
        before = _before(session, name)
        alarm = alarm or _open_alarm(session, name)
    told = _drafted(centre, before, alarm, by)
    with writing(centre.engine, f"drafting a plan for {name}") as session:
        first(session, told.draft)
        centre.require_term(session)
        at = centre.clock()
        append(session, at, carried_out(session, at, _checked(session, told)))
        put_in(session, centre.settings.config.alerts, _alert(told), at)
    return told.draft


def _checked(session: Session, told: RetrainingDrafted) -> Iterator[RetrainingDrafted]:
    _require_none_open(session, told.model)
    yield told


def _require_none_open(session: Session, name: str) -> None:
    open_ = session.scalar(select(DraftRow.id).where(DraftRow.name == name, DraftRow.state == "open"))
    if open_ is not None:
        raise Refused(
            f"{open_} of {name} is open; adopt it with `covenant loop adopt {open_} --out plan.yaml`, or dismiss it with `covenant loop dismiss {open_}`"
        )


def _due(session: Session) -> Sequence[AlarmRow]:
    drafted = select(DraftRow.alarm).where(DraftRow.alarm.is_not(None), DraftRow.state != "expired")
    open_ = select(DraftRow.name).where(DraftRow.state == "open")
    query = select(AlarmRow).where(
        AlarmRow.acknowledged_at.is_(None),
        AlarmRow.cause != DATA_FAULT,
        AlarmRow.id.not_in(drafted),
        AlarmRow.name.not_in(open_),
    )
    return session.scalars(query.order_by(AlarmRow.raised_at)).all()


def _open_alarm(session: Session, name: str) -> AlarmRow | None:
    return session.scalar(select(AlarmRow).where(AlarmRow.name == name, AlarmRow.acknowledged_at.is_(None)))


def _before(session: Session, name: str) -> _Before:
    query = select(Model).where(Model.name == name).order_by(Model.version.desc())
    if (serves := serving_version(session, name)) is not None:
        query = query.where(Model.version == serves)
    model = session.scalar(query.limit(1))
    run = None if model is None else session.get(Run, model.run_id)
    if model is None or run is None:
        raise UsageError(
            f"there is no model called {name[:63]!r}; `covenant model list` shows those there are"
        )
    evidence = PlanEvidence.from_canonical(run.evidence.encode()) if run.evidence else PlanEvidence()
    return _Before(
        name=name,
        serves=model.version,
        run=run.id,
        plan=Plan.from_canonical(run.plan.encode()),
        contract=Contract.from_canonical(run.contract.encode()),
        author=None if evidence.author is None else evidence.author.officer,
    )


def serving_version(session: Session, name: str) -> int | None:
    """The version that serves at most targets, the newest of several; None where none does."""
    query = (
        select(RunningRow.version)
        .where(RunningRow.name == name, RunningRow.arm == "stable")
        .group_by(RunningRow.version)
        .order_by(func.count().desc(), RunningRow.version.desc())
    )
    return session.scalar(query.limit(1))


# --- what is drafted --------------------------------------------------------------------------------------------------


def _drafted(centre: Centre, before: _Before, alarm: AlarmRow | None, by: str) -> RetrainingDrafted:
    at = centre.clock()
    common: dict[str, Any] = {
        "model": before.name,
        "version": before.serves,
        "alarm": None if alarm is None else alarm.id,
        "author": before.author,
        "by": by,
    }
    found_then = _of_alarm(centre, alarm)
    id_ = f"draft-{digest_of({**common, 'run': before.run, 'at': at.isoformat()})[:16]}"
    champion, why_not = _champion(centre, before)
    members = read_members(centre.settings)[1].members
    try:
        with reading(centre.engine, f"fitting a plan for {before.name}") as session:
            found = fitted(session, before.plan, before.contract, members, champion)
    except NothingFits as error:
        says = (_cut(str(error)), *found_then)
        return make_document(
            RetrainingDrafted, "the draft", draft=id_, says=says, gain={"said": "there is no plan"}, **common
        )
    gain = gain_facts(centre, found.plan, before.contract, alarm, seed=found.plan.training.seed)
    says = tuple(
        map(_cut, (*_sentences(before, found, found_then, why_not), str(gain.get("words", gain.get("said")))))
    )
    text = written(found.plan, _why(found, before), _heading(id_, at, says))
    return make_document(
        RetrainingDrafted,
        "the draft",
        draft=id_,
        text=text,
        plan=found.plan.digest,
        contract=before.contract.digest,
        says=says[:MOST_SENTENCES],
        gain=gain,
        **common,
    )


def _champion(centre: Centre, before: _Before) -> tuple[Champion | None, str | None]:
    """What serves, as a plan names it, or why it cannot be compared with."""
    try:
        found = as_champion(centre.engine, get_version(centre.engine, before.name, before.serves))
    except (Refused, UsageError) as error:
        return None, str(error)
    return found, None


def _sentences(before: _Before, found: Fitted, of_alarm: Sequence[str], why_not: str | None) -> Iterator[str]:
    plan = found.plan
    yield (
        f"{len(plan.sites.invite)} of {len(before.plan.sites.invite)} sites, {plan.training.rounds} rounds; after the plan of {before.run}"
        f" ({before.plan.digest[:_SHOWN]})"
    )
    yield from of_alarm
    if why_not is not None:
        yield f"no champion: {why_not}"
    yield from (f"{path}: {says}" for path, says in found.why.items())


def _of_alarm(centre: Centre, alarm: AlarmRow | None) -> tuple[str, ...]:
    """What the alarm said, but for what has changed since."""
    if alarm is None:
        return ()
    words = alarm.words
    if NO_OUTCOMES in words and _have_outcomes(centre, alarm):
        words = words.replace(NO_OUTCOMES, "outcomes have arrived since")
    found = f"{alarm.id} of {alarm.name}@{alarm.version} at {alarm.place}: {words}"
    if alarm.cause == DATA_FAULT:
        found += ". Mend the data first: training on faulty data makes the fault permanent"
    return (_cut(found),)


def _have_outcomes(centre: Centre, alarm: AlarmRow) -> bool:
    """Whether a window since the alarm's has outcomes, of whichever place: what a draft's expected gain is computed from."""
    query = select(WindowRow.id).where(
        WindowRow.name == alarm.name,
        WindowRow.version == alarm.version,
        WindowRow.of == "outcomes",
        WindowRow.begins >= alarm.begins,
    )
    with reading(centre.engine, f"looking for outcomes since {alarm.id}") as session:
        return session.scalar(query.limit(1)) is not None


def _why(found: Fitted, before: _Before) -> dict[str, str]:
    same = f"as in the plan of {before.run}"
    return (
        {"gates": same, "approvals": same, **found.why}
        | ({} if MEMBERS in found.why else {MEMBERS: same})
        | ({} if INVITE in found.why else {INVITE: same})
    )


def _heading(id_: str, at: datetime, says: Sequence[str]) -> tuple[str, ...]:
    return (
        f"{id_}, drafted by the coordinator {at:%Y-%m-%d %H:%M} UTC. Nobody has signed it. What has no comment is as in the plan before.",
        says[0],
        says[-1],
    )


def _cut(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 4]} ..."


def _alert(told: RetrainingDrafted) -> Alert:
    """What the alert says: nothing that the log's entry does not."""
    whom = f" for {told.author}" if told.author is not None else ""
    made = f"{told.draft}{whom}: a plan to retrain {told.model}"
    title = made if told.text is not None else f"{told.draft}{whom}: no plan to retrain {told.model} fits"
    facts = told.model_dump(mode="json", exclude={"text"})
    return Alert(
        about=told.draft,
        title=title,
        facts=facts,
        lines=(
            *told.says[:20],
            f"Read it with `covenant loop show {told.draft}`; nobody has signed it.",
        ),
    )
