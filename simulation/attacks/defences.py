"""The defences that a plan's privacy mode leaves: each is a whole plan, which differs from the one that is studied in its aggregation only.

1. Without privacy both aggregations are to be had. A private plan sums up securely, and its defences are clipping at the sites and the gate.
2. A plan that the rules of plans refuse is no defence; why is told.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from protos.contract import Contract
from protos.documents import read_document
from protos.plan import Plan
from protos.plan_aggregation import SecureAggregation
from protos.plan_fit import check_plan
from protos.plan_privacy import NoPrivacy
from strategies.errors import CovenantError

PLAIN_MEAN, CLIPPING, GATE = "none", "clipping at the sites", "gate on the sum"
TRIMMED, MEDIAN, KRUM = "trimmed mean", "median", "Multi-Krum"
SECURE: Final = (CLIPPING, GATE)


@dataclass(frozen=True, slots=True)
class Defence:
    """`plan` is the studied one with this defence."""

    name: str
    plan: Plan

    @property
    def seen(self) -> str:
        """What the coordinator sees of one site under it."""
        return "sums" if isinstance(self.plan.aggregation, SecureAggregation) else "each update"


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A defence that there is no plan for."""

    name: str
    why: str


def gate_at(plan: Plan, contract: Contract, norm: float) -> Defence | LeftOut:
    """The gate on the opened sum, at `norm`."""
    return _defence(GATE, plan, contract, {**_secure(plan), "gate": {"update_norm": norm}})


def ungated(plan: Plan, contract: Contract, attackers: int) -> Iterator[Defence | LeftOut]:
    """All others, against so many attackers: first the one that others are compared with."""
    if isinstance(plan.privacy, NoPrivacy):
        yield _defence(PLAIN_MEAN, plan, contract, {"mode": "plain"})
    yield _defence(CLIPPING, plan, contract, _secure(plan))
    if isinstance(plan.privacy, NoPrivacy):
        rules = {
            TRIMMED: {"kind": "trimmed-mean", "trim": attackers},
            MEDIAN: {"kind": "median"},
            KRUM: {"kind": "multi-krum", "attackers": attackers},
        }
        for name, rule in rules.items():
            yield _defence(name, plan, contract, {"mode": "plain", "rule": rule})


def _secure(plan: Plan) -> dict[str, Any]:
    """The plan's secure aggregation without its gate, or that of a plan that says nothing."""
    chosen = plan.aggregation
    if not isinstance(chosen, SecureAggregation):
        return {"mode": "secure"}
    return {key: value for key, value in chosen.model_dump().items() if key != "gate"}


def _defence(
    name: str, plan: Plan, contract: Contract, aggregation: Mapping[str, object]
) -> Defence | LeftOut:
    """The plan with `aggregation` over all its sites, which all answer; rules that count sites have no weights."""
    document = json.loads(plan.canonical)
    document["aggregation"] = aggregation
    document["sites"]["minimum"] = len(plan.sites.invite)
    if "rule" in aggregation:
        document["sites"].pop("weights", None)
    try:
        made = read_document(json.dumps(document), Plan, "plan")
        check_plan(made, contract)
    except CovenantError as refused:
        return LeftOut(name, str(refused).removeprefix("plan line 1: "))
    return Defence(name, made)
