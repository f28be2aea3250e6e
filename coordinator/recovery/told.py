"""Whether the tables of a backup say what its log says, of what must not be forgotten: halts, the accounts of privacy, and where models stand.

The log in a backup is audited, and co-signed by others. Its tables are signed with the log's key alone, and whoever has that could leave out a charge.
"""

from __future__ import annotations

import math

from sqlalchemy import select
from sqlalchemy.orm import Session

from coordinator.db.halt_schema import HaltRow
from coordinator.db.registry_schema import ModelAlias
from coordinator.db.schema import Model
from coordinator.ledger.views import AccountSummary, summaries
from protos.log_audit import Audit
from protos.log_budgets import AccountName, Budget
from strategies.errors import Refused

_SAME_COST = 1e-9
"""Sums of the same charges in another order differ by less, as a fraction."""


def require_as_told(session: Session, story: Audit) -> None:
    """Check that the halts, models and accounts in the tables are those of the log that `story` was read from. Raises Refused."""
    _require_halts(session, story)
    _require_models(session, story)
    told = {each.account: each for each in story.budgets.standing()}
    there = {
        AccountName.of(each.key.site, each.key.population, each.ceiling.unit): each
        for each in summaries(session)
    }
    for name in sorted(told.keys() ^ there.keys()):
        where = (
            "the log of this backup and not in its tables"
            if name in told
            else "its tables and not in the log"
        )
        raise Refused(f"the account of {name.words} is in {where}: {_REMEDY}")
    for name, budget in told.items():
        _require_same(name, budget, there[name])


def _require_halts(session: Session, story: Audit) -> None:
    rows = {row.digest: row.lifted_at for row in session.execute(select(HaltRow.digest, HaltRow.lifted_at))}
    told = {each.digest: each.digest in story.halts.standing for each in story.halts.given}
    if {digest: lifted is None for digest, lifted in rows.items()} != told:
        raise Refused(f"the halts in the tables of this backup are not those of its log: {_REMEDY}")


def _require_models(session: Session, story: Audit) -> None:
    """Stages, signatures and aliases: a quarantined version must not come back as an approved one."""
    rows = session.scalars(select(Model)).all()
    there = {(row.name, row.version): (row.digest, row.stage, row.signature) for row in rows}
    told = {
        place: (each.digest, str(each.stage), None if each.signed is None else each.signed.signature)
        for place, each in story.registry.versions.items()
    }
    names = {(row.name, row.alias): row.version for row in session.scalars(select(ModelAlias))}
    of = {name for name, _ in told}
    said = {(name, alias): version for name in of for alias, version in story.registry.aliases(name).items()}
    if there != told or names != said:
        raise Refused(f"the models in the tables of this backup are not those of its log: {_REMEDY}")


def _require_same(name: AccountName, told: Budget, there: AccountSummary) -> None:
    if there.ceiling != told.ceiling:
        raise Refused(
            f"the ceiling of {name.words} in the tables of this backup is not the one of its log: {_REMEDY}"
        )
    if not math.isclose(there.spent.epsilon, told.charged.epsilon, rel_tol=_SAME_COST):
        raise Refused(
            f"by the tables of this backup {name.words} has spent epsilon {there.spent.epsilon:g}, and by its log {told.charged.epsilon:g}: {_REMEDY}"
        )


_REMEDY = "the tables were changed, by the coordinator or by whoever has the log's key. Use another backup, and tell the officers"
