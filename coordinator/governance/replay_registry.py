"""The effects of what became of registered models, written into the tables again: signed, approved, moved, named."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy.orm import Session

from coordinator.db.schema import Model
from coordinator.deploy.verdicts import verdict_row
from coordinator.governance.evidence.notes import write_note
from coordinator.registry.approvals import write_statement
from coordinator.registry.stages import write_alias, write_move
from protos.log_evidence import ModelNoted
from protos.log_gate import GateJudged
from protos.log_registry_events import ModelAliased, ModelApproved, ModelMoved, ModelSigned, RegistryEvent


def replay_registry(
    session: Session, seq: int, at: datetime, what: RegistryEvent | GateJudged | ModelNoted
) -> None:
    """The effect of entry `seq`. Raises CovenantError."""
    match what:
        case ModelSigned():
            session.get_one(Model, (what.name, what.version)).signature = what.signature
        case ModelApproved():
            write_statement(session, what, at, seq)
        case ModelMoved():
            write_move(session, what, at, seq)
        case ModelAliased():
            write_alias(session, what.name, what.alias, what.version)
        case GateJudged():
            session.add(verdict_row(what, at, seq))
        case ModelNoted():
            write_note(session, what.note, at, seq)
