"""What a site computes from its rows: scaling moments, model updates or gradient sums, and counts of scores.

1. Held-out rows never train, and are the only rows that evaluation scores.
2. `tabular/1` is training without privacy: equal inputs give equal bits on one machine, from fixed batch orders and no global random state.
   `tabular/2` is what private plans do: bounded sums over units, sampled by the site's own secret randomness.
3. torch is loaded by the first round that needs it, not by importing this package.
"""

from typing import Final

from client.data import Table
from client.training.holdout import held_out_rows
from client.training.private import COMPONENT as PRIVATE
from client.training.private import PrivateSession
from client.training.session import COMPONENT, TrainingSession
from protos.contract import Contract
from protos.plan import Plan
from strategies.ids import SiteName

COMPONENTS: Final = (COMPONENT, PRIVATE)
"""The behaviour versions that are installed here."""

Session = TrainingSession | PrivateSession


def session_for(plan: Plan, contract: Contract, table: Table, *, site: SiteName, threads: int = 1) -> Session:
    """What `site` computes for `plan` from `table`. Raises UsageError where no installed component fits the plan."""
    if plan.privacy.mode == "none":
        return TrainingSession(plan, contract, table, site=site, threads=threads)
    return PrivateSession(plan, contract, table, site=site, threads=threads)


__all__ = [
    "COMPONENT",
    "COMPONENTS",
    "PRIVATE",
    "PrivateSession",
    "Session",
    "TrainingSession",
    "held_out_rows",
    "session_for",
]
