"""Drafts as people and other programs read them."""

from __future__ import annotations

import json
from typing import Any, Final

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from coordinator.db.engine import reading
from coordinator.db.loop_schema import DraftRow
from coordinator.db.schema import Model, Run
from coordinator.deploy.desk import Facts
from protos.contract import Contract
from strategies.errors import UsageError

_MOST: Final = 200


def drafts(engine: Engine, *, only_open: bool = False) -> Facts:
    """Drafts without their text, the latest first."""
    query = select(DraftRow).order_by(DraftRow.drafted_at.desc(), DraftRow.id).limit(_MOST)
    if only_open:
        query = query.where(DraftRow.state == "open")
    with reading(engine, "listing drafts") as session:
        return [
            {name: value for name, value in row.facts().items() if name != "text"}
            for row in session.scalars(query)
        ]


def draft_facts(engine: Engine, draft: str) -> dict[str, Any]:
    """A draft with its text, and its contract as a document. Raises UsageError where there is none."""
    with reading(engine, "looking for a draft") as session:
        row = session.scalar(select(DraftRow).where(DraftRow.id == draft))
        if row is None:
            raise unknown(draft)
        contract = _contract(session, row)
        document = None if contract is None else json.loads(contract.canonical)
        return row.facts() | {"contract_document": document}


def _contract(session: Session, row: DraftRow) -> Contract | None:
    """The contract of a draft, which is that of a run of its model."""
    query = select(Run.contract).join(Model, Model.run_id == Run.id).where(Model.name == row.name).distinct()
    found = (Contract.from_canonical(each.encode()) for each in session.scalars(query))
    return next((each for each in found if each.digest == row.contract), None)


def unknown(draft: str) -> UsageError:
    """There is no such draft."""
    return UsageError(f"there is no draft {draft[:40]!r}; `covenant loop drafts --all` shows those there are")
