"""The live figures of a target: what serves against what is on trial, and what the rollout's rules say of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from coordinator.console.charts import Chart, Series
from coordinator.console.reads.deployments import Place, baseline_of
from coordinator.console.tables import Cell, Column, Table
from coordinator.console.visit import Visit
from coordinator.deploy.figures import figures_since
from coordinator.deploy.opening import open_target
from coordinator.deploy.scoring.serving import LATENCY_BOUNDS_MS, SCORE_BINS, ArmStatus, ServiceStatus
from protos.rollouts import Canary, GoOn, RolloutRules, Shadow, State, TakeBack, judge, psi, standing_of
from strategies.errors import CovenantError, DiskError

_TENTHS: Final = 0.95
_NOT_TOLD: Final = (
    "A target of this kind tells no figures of itself; ask its own monitoring (Prometheus: /metrics)."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """What a target tells now; `silent` is why there is nothing. `decision` is what the rules of a rollout on trial say at this
    moment, and `because` why."""

    silent: str | None = None
    table: Table | None = None
    charts: Sequence[Chart] = ()
    decision: Cell | None = None
    because: str = ""


def live_of(visit: Visit, place: Place) -> Live:
    """Ask a target, for two seconds at most."""
    if place.view.kind != "local":
        return Live(silent=_NOT_TOLD)
    try:
        seen = open_target(visit.centre, place.view.name).observe()
    except DiskError:
        raise
    except CovenantError as error:
        return Live(silent=f"It does not answer now, so there are no figures: {error}")
    if seen.status is None or seen.status.stable is None:
        return Live(silent="Nothing serves there, so there are no figures.")
    arms = [("serves", seen.status.stable)]
    if seen.status.challenger is not None:
        arms.append(("on trial", seen.status.challenger))
    decision, because = _decision(visit, place, seen.revision, seen.status)
    return Live(
        table=_table(arms),
        charts=[_latencies(arms), _outcomes(arms), _scores(arms)],
        decision=decision,
        because=because,
    )


def _decision(visit: Visit, place: Place, revision: int, status: ServiceStatus) -> tuple[Cell | None, str]:
    """What the driver would do now, by the figures since the step began."""
    found, order = place.under_way, place.order
    if found is None or order is None or order.revision != revision or status.challenger is None:
        return None, ""
    now, rules = standing_of(State(found.state), found.share), RolloutRules.model_validate(found.rules)
    if not isinstance(now, Shadow | Canary):
        return None, ""
    row = baseline_of(visit.centre.engine, place.view.name, revision)
    verdict = judge(rules, now, *figures_since(None if row is None else row.baseline, status))
    by_hand = "" if rules.automatic else "; nothing happens by itself"
    match verdict:
        case GoOn(_, why):
            return Cell("may go on", tone="good"), f"{why}{by_hand}"
        case TakeBack(why):
            return Cell("is to be taken back", tone="bad"), f"{why}{by_hand}"
    return Cell("waits", tone="warn"), f"{verdict.why}{by_hand}"


def _table(arms: Sequence[tuple[str, ArmStatus]]) -> Table:
    rows = [
        ("Version", [Cell(f"{arm.name}@{arm.version}") for _, arm in arms]),
        ("Counted since", [Cell(arm.since) for _, arm in arms]),
        ("Requests", [Cell(arm.requests) for _, arm in arms]),
        ("Rows", [Cell(arm.rows) for _, arm in arms]),
        ("Declined", [_share(_declined(arm)) for _, arm in arms]),
        ("Errors", [_share(_errors(arm)) for _, arm in arms]),
        ("Mean latency, ms", [_number(_mean(arm)) for _, arm in arms]),
        ("95 % are faster than, ms", [Cell(_quantile(arm)) for _, arm in arms]),
    ]
    if len(arms) > 1 and all(sum(arm.scores) for _, arm in arms):
        shift = psi(arms[0][1].scores, arms[1][1].scores)
        rows.append(("Shift of scores (PSI)", [Cell(None), _number(shift)]))
    return Table(
        name="arms",
        caption="Figures now",
        columns=[Column("Figure"), *(Column(word, number=True) for word, _ in arms)],
        rows=[[Cell(label), *cells] for label, cells in rows],
    )


def _latencies(arms: Sequence[tuple[str, ArmStatus]]) -> Chart:
    names = [*(f"≤ {each:g}" for each in LATENCY_BOUNDS_MS), f"> {LATENCY_BOUNDS_MS[-1]:g}"]
    return Chart(
        name="latency",
        title="Latency of requests",
        x="ms",
        y="share of requests",
        axis="category",
        y_from=0.0,
        series=[
            Series(name=word, kind="bar", points=list(zip(names, _shares(arm.latencies), strict=True)))
            for word, arm in arms
        ],
    )


def _outcomes(arms: Sequence[tuple[str, ArmStatus]]) -> Chart:
    return Chart(
        name="outcomes",
        title="Declined and failed",
        x="outcome",
        y="share",
        axis="category",
        y_from=0.0,
        series=[
            Series(name=word, kind="bar", points=[("declined", _declined(arm)), ("failed", _errors(arm))])
            for word, arm in arms
        ],
    )


def _scores(arms: Sequence[tuple[str, ArmStatus]]) -> Chart:
    names = [f"{place / SCORE_BINS:.2f}" for place in range(SCORE_BINS)]
    return Chart(
        name="live-scores",
        title="Scores",
        x="score from",
        y="share of rows",
        axis="category",
        y_from=0.0,
        series=[
            Series(name=word, points=list(zip(names, _shares(arm.scores), strict=False)))
            for word, arm in arms
        ],
    )


def _shares(counts: Sequence[int]) -> list[float]:
    total = sum(counts) or 1
    return [round(each / total, 6) for each in counts]


def _declined(arm: ArmStatus) -> float:
    return arm.declined / arm.rows if arm.rows else 0.0


def _errors(arm: ArmStatus) -> float:
    asked = arm.requests + arm.errors
    return arm.errors / asked if asked else 0.0


def _mean(arm: ArmStatus) -> float:
    return arm.latency_sum_ms / arm.requests if arm.requests else 0.0


def _quantile(arm: ArmStatus) -> str:
    """The bound below which 95 % of requests are, as far as the histogram tells."""
    total, seen = sum(arm.latencies), 0
    if not total:
        return "no requests"
    for bound, count in zip(LATENCY_BOUNDS_MS, arm.latencies, strict=False):
        seen += count
        if seen >= _TENTHS * total:
            return f"{bound:g}"
    return f"more than {LATENCY_BOUNDS_MS[-1]:g}"


def _share(value: float) -> Cell:
    return Cell(value, text=f"{value:.2%}")


def _number(value: float) -> Cell:
    return Cell(value, text=f"{value:.3g}")
