"""The ledger's views as JSON values, for `--json` and for reports. A guarantee is never a bare number: it has its words with it.

An epsilon of null is unbounded, as its words say: JSON has no infinity.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

from coordinator.ledger.alerts import Crossing
from coordinator.ledger.needs import AccountKey
from coordinator.ledger.overlaps import OverlapView
from coordinator.ledger.reconcile import AccountComparison, Reconciliation
from coordinator.ledger.views import TIGHT_CAVEAT, AccountSummary, AccountView, CeilingChange, RunTotals
from strategies.dp.filters import Ceiling

Facts = dict[str, Any]


def ceiling_facts(ceiling: Ceiling) -> Facts:
    """A ceiling, with its words."""
    return {**ceiling.facts(), "words": ceiling.words}


def key_facts(key: AccountKey) -> Facts:
    """Which account."""
    return {
        "site": key.site,
        "population": key.population,
        "unit": {"kind": str(key.kind), "column": key.column},
    }


def summary_facts(summary: AccountSummary) -> Facts:
    """One line of `covenant ledger list`."""
    return {
        **key_facts(summary.key),
        "ceiling": ceiling_facts(summary.ceiling),
        "spent": summary.spent.facts(),
        "fraction": _fraction(summary.fraction),
        "alerts_reached": list(summary.crossed),
    }


def view_facts(view: AccountView) -> Facts:
    """One account in full."""
    return {
        **key_facts(view.key),
        "ceiling": ceiling_facts(view.ceiling),
        "spent": view.spent.facts(),
        "settled": view.settled.facts(),
        "fraction": _fraction(view.fraction),
        "releases": {"settled": view.settled_releases, "reserved": view.reserved_releases},
        "tight": {**view.tight.facts(), "accountant": "rdp", "caveat": TIGHT_CAVEAT},
        "own_noise_only": view.own_noise.facts(),
        "exempted": list(view.exempted),
        "other_units": [key_facts(each)["unit"] for each in view.other_units],
        "overlap": None if view.overlap is None else overlap_facts(view.overlap),
        "alerts": [
            {
                "fraction": each.fraction,
                "reached_at": None if each.at is None else each.at.isoformat(),
                "run": each.run,
            }
            for each in view.alerts
        ],
        "runs": [_run_facts(each) for each in view.runs],
        "history": [_change_facts(each) for each in view.history],
    }


def overlap_facts(overlap: OverlapView) -> Facts:
    """The worst case of a person at several sites."""
    return {
        "sites": list(overlap.sites),
        "without_account": list(overlap.without_account),
        "worst": overlap.worst.facts(),
    }


def crossing_facts(crossing: Crossing) -> Facts:
    """An alert that was reached."""
    return {**key_facts(crossing.key), "fraction": crossing.fraction, "run": crossing.run}


def reconciliation_facts(found: Reconciliation) -> Facts:
    """Both sides of a site's accounts; alarms one by one, expected differences counted by run."""
    return {
        "site": found.site,
        "made_at": found.made_at.isoformat(),
        "alarms": len(found.alarms),
        "accounts": [_comparison_facts(each) for each in found.accounts],
    }


def _comparison_facts(each: AccountComparison) -> Facts:
    expected = Counter((str(one.kind), one.at.run) for one in each.differences if one not in each.alarms)
    return {
        **key_facts(each.key),
        "ceiling": None if each.ceiling is None else ceiling_facts(each.ceiling),
        "site_ceiling": None if each.site_ceiling is None else ceiling_facts(each.site_ceiling),
        "agreed": each.agreed,
        "centre": each.centre.facts(),
        "site_charged": each.site.facts(),
        "quoted": each.quoted.facts(),
        "alarms": [{"what": str(one.kind), **one.at._asdict()} for one in each.alarms],
        "expected": [
            {"what": kind, "run": run, "attempts": times} for (kind, run), times in sorted(expected.items())
        ],
    }


def _run_facts(totals: RunTotals) -> Facts:
    return {
        "run": totals.run,
        "alone": totals.alone.facts(),
        "fraction": _fraction(totals.fraction),
        "stages": [
            {
                "stage": each.stage,
                "release": each.release.facts(),
                "settled": each.settled,
                "reserved": each.reserved,
                "voided": each.voided,
            }
            for each in totals.stages
        ],
    }


def _change_facts(change: CeilingChange) -> Facts:
    return {
        "seq": change.decided.seq,
        "ceiling": ceiling_facts(change.decided.ceiling),
        "alert_at": list(change.decided.alert_at),
        "overlaps": list(change.decided.overlaps),
        "officers": list(change.officers),
        "reason": change.reason,
        "set_at": change.set_at.isoformat(),
    }


def _fraction(value: float) -> float | None:
    return value if math.isfinite(value) else None
