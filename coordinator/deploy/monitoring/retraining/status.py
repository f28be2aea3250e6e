"""Where every model is in its loop: trained, judged, approved, deployed, monitored, alarmed, drafted, retrained.

Every step is there for every model, with what is known of it; `at` is the step that waits for somebody, or that goes on now.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from coordinator.db.deploy_schema import RolloutRow, RunningRow
from coordinator.db.engine import reading
from coordinator.db.gate_schema import ModelVerdict
from coordinator.db.loop_schema import DraftRow
from coordinator.db.monitor_schema import AlarmRow, MonitorRow, WindowRow
from coordinator.db.schema import FINAL_STATES, Model, Run
from coordinator.deploy.desk import Facts
from coordinator.deploy.monitoring.retraining.drafting import DATA_FAULT, serving_version
from protos.model_stages import RELEASABLE
from protos.rollouts import UNDER_WAY

MOST_MODELS: Final = 200
Name = Literal["trained", "judged", "approved", "deployed", "monitored", "alarm", "draft", "retraining"]
State = Literal["none", "done", "going", "waits", "bad"]
_GIVEN_UP: Final = {"dismissed": "was dismissed by {by}", "expired": "has expired"}
STEPS: Final[tuple[Name, ...]] = (
    "trained",
    "judged",
    "approved",
    "deployed",
    "monitored",
    "alarm",
    "draft",
    "retraining",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of a model's loop: its state, what is known in words, since when, and what programs read."""

    step: Name
    state: State
    says: str
    since: datetime | None = None
    facts: dict[str, Any] | None = None

    def told(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "step": self.step,
            "state": self.state,
            "says": self.says,
            "since": None if self.since is None else self.since.isoformat(),
            "facts": self.facts,
        }


def loop_status(engine: Engine, name: str | None = None) -> Facts:
    """Every model, by name, or the one called `name`, with its steps in order."""
    query = select(Model.name).distinct().order_by(Model.name).limit(MOST_MODELS)
    if name is not None:
        query = query.where(Model.name == name)
    with reading(engine, "looking where every model is") as session:
        return [_of_model(session, each) for each in session.scalars(query).all()]


def _of_model(session: Session, name: str) -> dict[str, Any]:
    steps = tuple(_steps(session, name))
    return {
        "model": name,
        "version": serving_version(session, name),
        "at": at_step(steps),
        "steps": [each.told() for each in steps],
    }


def at_step(steps: Sequence[Step]) -> str:
    """Where the model is: at the last step that waits, goes on or is bad; else at the last that is done."""
    busy = [each.step for each in steps if each.state in {"waits", "going", "bad"}]
    done = [each.step for each in steps if each.state == "done"]
    return (busy or done)[-1]


def _steps(session: Session, name: str) -> Iterator[Step]:
    newest = session.scalars(
        select(Model).where(Model.name == name).order_by(Model.version.desc()).limit(1)
    ).one()
    yield Step(
        step="trained",
        state="done",
        says=f"{name}@{newest.version} by {newest.run_id}",
        since=newest.created_at,
        facts={"version": newest.version, "run": newest.run_id, "stage": newest.stage},
    )
    yield _judged(session, newest)
    yield _approved(session, newest)
    yield _deployed(session, name)
    yield _monitored(session, name)
    alarm = session.scalar(
        select(AlarmRow).where(AlarmRow.name == name).order_by(AlarmRow.raised_at.desc()).limit(1)
    )
    draft = session.scalar(
        select(DraftRow).where(DraftRow.name == name).order_by(DraftRow.drafted_at.desc()).limit(1)
    )
    yield _alarm(alarm)
    yield _draft(draft, alarm)
    yield _retraining(session, draft)


def _judged(session: Session, newest: Model) -> Step:
    query = select(ModelVerdict).where(
        ModelVerdict.name == newest.name, ModelVerdict.version == newest.version
    )
    found = session.scalar(query.order_by(ModelVerdict.entry.desc()).limit(1))
    if found is None:
        return Step(step="judged", state="waits", says=f"the gate has not judged version {newest.version}")
    return Step(
        step="judged",
        state="done" if found.passed else "bad",
        says=f"version {found.version} {'passed' if found.passed else 'did not pass'} the gate",
        since=found.judged_at,
        facts={"version": found.version, "passed": found.passed},
    )


def _approved(session: Session, newest: Model) -> Step:
    query = select(func.max(Model.version)).where(Model.name == newest.name, Model.stage.in_(RELEASABLE))
    version = session.scalar(query)
    if version is None:
        return Step(step="approved", state="none", says="no version is approved")
    if version < newest.version:
        says = f"version {version}; version {newest.version} is {newest.stage}"
        return Step(step="approved", state="done", says=says, facts={"version": version})
    return Step(step="approved", state="done", says=f"version {version}", facts={"version": version})


def _deployed(session: Session, name: str) -> Step:
    query = (
        select(RunningRow).where(RunningRow.name == name).order_by(RunningRow.target, RunningRow.arm.desc())
    )
    running = session.scalars(query).all()
    if not running:
        return Step(step="deployed", state="none", says="it runs nowhere")
    moving = select(RolloutRow).where(RolloutRow.name == name, RolloutRow.state.in_(UNDER_WAY))
    shares = {row.target: row.share for row in session.scalars(moving)}
    places = [
        {
            "target": row.target,
            "version": row.version,
            "arm": row.arm,
            "share": shares.get(row.target, 0.0)
            if row.arm == "challenger"
            else 1.0 - shares.get(row.target, 0.0),
        }
        for row in running
    ]
    says = ", ".join(
        f"version {each['version']} at {each['target']} ({each['share']:.0%})" for each in places
    )
    since = max(row.since for row in running)
    state: State = "going" if shares else "done"
    return Step(step="deployed", state=state, says=says, since=since, facts={"places": places})


def _monitored(session: Session, name: str) -> Step:
    version = serving_version(session, name)
    query = select(MonitorRow).where(MonitorRow.name == name).order_by(MonitorRow.version.desc())
    watched = session.scalars(query).all()
    if not watched:
        return Step(step="monitored", state="none", says="nobody watches it")
    row = next((each for each in watched if each.version == version), watched[0])
    windows = select(WindowRow).where(WindowRow.name == name, WindowRow.version == row.version)
    count = int(session.scalar(select(func.count()).select_from(windows.subquery())) or 0)
    last = session.scalar(windows.order_by(WindowRow.ends.desc(), WindowRow.id.desc()).limit(1))
    facts: dict[str, Any] = {"version": row.version, "windows": count, "last": None}
    if last is None:
        return Step(
            step="monitored", state="done", says=f"version {row.version}; no window has come yet", facts=facts
        )
    moved = last.found["moved"]
    facts["last"] = {
        "place": last.place,
        "number": last.number,
        "of": last.of,
        "ends": last.ends.isoformat(),
        "moved": moved,
        "said": last.found["said"],
        "largest_psi": _largest_psi(last.found),
    }
    told = last.found["said"] or (f"moved: {', '.join(moved)}" if moved else "nothing moved")
    says = f"version {row.version}, {count} windows; the last from {last.place}: {told}"
    return Step(step="monitored", state="done", says=says, since=last.ends, facts=facts)


def _largest_psi(found: dict[str, Any]) -> dict[str, Any] | None:
    known = {name: each["psi"][0] for name, each in found["streams"].items() if "psi" in each}
    if not known:
        return None
    name = max(known, key=lambda each: known[each])
    return {"stream": name, "psi": known[name]}


def _alarm(alarm: AlarmRow | None) -> Step:
    if alarm is None:
        return Step(step="alarm", state="none", says="none")
    facts = {"alarm": alarm.id, "version": alarm.version, "place": alarm.place, "cause": alarm.cause}
    if alarm.acknowledged_at is not None:
        says = f"{alarm.id} ({alarm.cause}) was acknowledged by {alarm.acknowledged_by}"
        return Step(step="alarm", state="none", says=says, since=alarm.acknowledged_at, facts=facts)
    return Step(
        step="alarm", state="bad", says=f"{alarm.id}: {alarm.words}", since=alarm.raised_at, facts=facts
    )


def _draft(draft: DraftRow | None, alarm: AlarmRow | None) -> Step:
    open_alarm = alarm if alarm is not None and alarm.acknowledged_at is None else None
    if (
        open_alarm is not None
        and (draft is None or draft.alarm != open_alarm.id)
        and open_alarm.cause == DATA_FAULT
    ):
        says = "none: the alarm points to a fault in the data, which is mended, and not trained on"
        return Step(step="draft", state="none", says=says)
    if draft is None:
        return Step(step="draft", state="none", says="none")
    facts = {
        "draft": draft.id,
        "alarm": draft.alarm,
        "plan": draft.plan,
        "state": draft.state,
        "author": draft.author,
        "gain": draft.gain,
    }
    if draft.state == "open":
        whom = f", for {draft.author}" if draft.author is not None else ""
        state: State = "waits" if draft.plan is not None else "bad"
        return Step(
            step="draft",
            state=state,
            says=f"{draft.id}{whom}: {draft.says[0]}",
            since=draft.drafted_at,
            facts=facts,
        )
    return Step(
        step="draft",
        state="none" if draft.state in _GIVEN_UP else "done",
        says=f"{draft.id} {_GIVEN_UP[draft.state].format(by=draft.decided_by)}: {draft.why}"
        if draft.state in _GIVEN_UP
        else f"{draft.id} was {draft.state}",
        since=draft.decided_at,
        facts=facts,
    )


def _retraining(session: Session, draft: DraftRow | None) -> Step:
    if draft is None or draft.state not in {"adopted", "launched"} or draft.decided_at is None:
        return Step(step="retraining", state="none", says="none")
    query = select(Run).where(Run.plan_name == draft.name, Run.submitted_at >= draft.decided_at)
    run = session.scalar(query.order_by(Run.submitted_at.desc()).limit(1))
    if run is None:
        until = (
            "" if draft.expires_at is None else f"; without that it expires on {draft.expires_at:%Y-%m-%d}"
        )
        says = f"{draft.id} is adopted, and waits to be proposed, approved and launched{until}"
        return Step(step="retraining", state="waits", says=says)
    facts = {"run": run.id, "state": run.state, "as_drafted": run.plan_digest == draft.plan}
    states: dict[str, State] = {"completed": "done", "failed": "bad", "stopped": "bad"}
    state: State = states[run.state] if run.state in FINAL_STATES else "going"
    return Step(
        step="retraining", state=state, says=f"{run.id} is {run.state}", since=run.submitted_at, facts=facts
    )
