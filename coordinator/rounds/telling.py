"""What the transparency log is told of a run: each step of its store as an entry."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Literal

from coordinator.db.schema import Round
from protos.frames import Stage, scaling_digest
from protos.log_run_events import (
    STAGE_NAMES,
    AttemptVoided,
    RoundCommitted,
    RoundEvaluated,
    RoundPrepared,
    RunEnded,
    SumSettled,
    Tripped,
    reason_of,
)
from strategies.features import Scaling
from strategies.ids import Digest, RunId, SiteName, digest, run_id, site_name


def prepared(
    run: RunId, attempt: int, survivors: Collection[str], scaling: Scaling, model: Digest
) -> RoundPrepared:
    """Round 0, with the digest of the initial model."""
    return RoundPrepared(
        run=run, attempt=attempt, survivors=_sites(survivors), scaling=scaling_digest(scaling), model=model
    )


def settled(
    run: RunId,
    at: tuple[Stage, int, int],
    sites: Collection[str],
    releases: tuple[Digest, ...],
    statement: Digest | None = None,
) -> SumSettled:
    """T1 of an attempt `at` (stage, round, attempt): each of `sites` is charged `releases`."""
    stage, number, attempt = at
    return SumSettled(
        run=run,
        stage=STAGE_NAMES[stage],
        round=number,
        attempt=attempt,
        sites=_sites(sites),
        releases=releases,
        statement=statement,
    )


def committed(row: Round) -> RoundCommitted:
    """T2 of a round, whose row is complete."""
    return RoundCommitted(
        run=run_id(row.run_id),
        round=row.number,
        attempt=row.attempt,
        roster=_sites(row.roster),
        survivors=_sites(row.survivors or ()),
        statement=digest(row.statement_digest or ""),
        aggregate=digest(row.aggregate_digest or ""),
        model=digest(row.model_digest or ""),
        optimizer=digest(row.optimizer_digest or ""),
    )


def voided(row: Round, reason: str) -> AttemptVoided:
    """An attempt that was given up."""
    return AttemptVoided(
        run=run_id(row.run_id), round=row.number, attempt=row.attempt, reason=reason_of(reason)
    )


def evaluated(
    run: RunId,
    number: int,
    attempt: int,
    survivors: Collection[str],
    metrics: dict[str, Any] | None,
    panels: dict[str, Any] | None = None,
) -> RoundEvaluated:
    """The metrics of a round's model, or that there are none, with what `panels` tell nevertheless."""
    return RoundEvaluated(
        run=run, round=number, attempt=attempt, survivors=_sites(survivors), metrics=metrics, panels=panels
    )


def ended(
    run: RunId,
    state: Literal["completed", "failed", "stopped"],
    reason: str | None,
    tripped: Tripped | None = None,
) -> RunEnded:
    """The end of a run."""
    return RunEnded(
        run=run, state=state, reason=None if reason is None else reason_of(reason), tripped=tripped
    )


def _sites(names: Collection[str]) -> tuple[SiteName, ...]:
    return tuple(site_name(name) for name in sorted(set(names)))
