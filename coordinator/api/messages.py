"""Views as messages, and back: the client's commands show the very types that the coordinator's do."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

from coordinator.db.schema import RunState, Stage
from coordinator.governance.halts import HaltView
from coordinator.office.standing import Given, Lacking, PlanStanding
from coordinator.registry.versions import ModelVersion
from coordinator.runs import RunView
from protos import control_pb2 as control
from protos import governance_pb2 as governance
from protos.halt_lifts import HaltLift
from protos.halts import HaltOrder
from strategies.ids import digest, run_id, site_name

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def run_message(view: RunView) -> control.Run:
    """Where a run stands."""
    return control.Run(
        run=view.run,
        plan=view.plan,
        state=str(view.state),
        reason=view.reason,
        rounds=view.rounds,
        committed=view.committed,
        aucs=view.aucs,
        exchange_s=view.exchange_s,
        round_s=view.round_s,
    )


def run_view(message: control.Run) -> RunView:
    """The same, read."""
    return RunView(
        run=run_id(message.run),
        plan=message.plan,
        state=RunState(message.state),
        reason=message.reason if message.HasField("reason") else None,
        rounds=message.rounds,
        committed=message.committed,
        aucs=dict(sorted(message.aucs.items())),
        exchange_s=list(message.exchange_s),
        round_s=list(message.round_s),
    )


def model_message(version: ModelVersion) -> control.Model:
    """A version of a model."""
    return control.Model(
        name=version.name,
        version=version.version,
        stage=str(version.stage),
        run=version.run_id,
        digest=version.digest,
        artifacts=version.artifacts,
        metrics="" if version.metrics is None else json.dumps(dict(version.metrics)),
        panels="" if version.panels is None else json.dumps(dict(version.panels)),
        created_us=(version.created_at - _EPOCH) // _MICROSECOND,
        personal=version.personal,
        aliases=version.aliases,
        signature=version.signature,
    )


def model_version(message: control.Model) -> ModelVersion:
    """The same, read."""
    return ModelVersion(
        name=message.name,
        version=message.version,
        stage=Stage(message.stage),
        run_id=run_id(message.run),
        digest=digest(message.digest),
        artifacts={name: digest(each) for name, each in message.artifacts.items()},
        metrics=json.loads(message.metrics) if message.metrics else None,
        panels=json.loads(message.panels) if message.panels else None,
        created_at=_EPOCH + message.created_us * _MICROSECOND,
        personal=tuple(map(site_name, message.personal)),
        aliases=tuple(message.aliases),
        signature=digest(message.signature) if message.HasField("signature") else None,
    )


def standing_message(standing: PlanStanding) -> governance.PlanStanding:
    """How far a plan is approved."""
    return governance.PlanStanding(
        plan=standing.plan,
        digest=standing.digest,
        contract_ref=standing.contract_ref,
        contract_digest=standing.contract_digest,
        members=standing.members,
        author=standing.author,
        approvals=[
            governance.Approval(officer=each.officer, role=each.role, expires=each.expires)
            for each in standing.approvals
        ],
        missing=[
            governance.Missing(role=each.role, given=each.given, asked=each.asked, could=each.could)
            for each in standing.missing
        ],
        approved=standing.approved,
        reason=standing.reason,
        until=standing.until,
    )


def standing_view(message: governance.PlanStanding) -> PlanStanding:
    """The same, read."""
    return PlanStanding(
        plan=message.plan,
        digest=digest(message.digest),
        contract_ref=message.contract_ref,
        contract_digest=digest(message.contract_digest),
        members=message.members,
        author=message.author if message.HasField("author") else None,
        approvals=tuple(
            Given(officer=each.officer, role=each.role, expires=each.expires) for each in message.approvals
        ),
        missing=tuple(
            Lacking(role=each.role, given=each.given, asked=each.asked, could=tuple(each.could))
            for each in message.missing
        ),
        reason=message.reason if message.HasField("reason") else None,
        until=message.until if message.HasField("until") else None,
    )


def halt_message(found: HaltView) -> governance.Halt:
    """A halt."""
    return governance.Halt(
        order=found.order.canonical,
        halted_at=found.halted_at.isoformat(),
        lift=None if found.lift is None else found.lift.canonical,
        lifted_at=None if found.lifted_at is None else found.lifted_at.isoformat(),
    )


def halt_view(message: governance.Halt) -> HaltView:
    """The same, read; its order's digest is computed from the bytes."""
    lifted_at = datetime.fromisoformat(message.lifted_at) if message.HasField("lifted_at") else None
    return HaltView(
        order=HaltOrder.from_canonical(message.order),
        halted_at=datetime.fromisoformat(message.halted_at),
        lift=HaltLift.from_canonical(message.lift) if message.HasField("lift") else None,
        lifted_at=lifted_at,
    )
