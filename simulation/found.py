"""What a simulated run leaves behind, read back as facts: from the coordinator's database, the sites' rows, and what was counted on the way."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa
from sqlalchemy import Engine, select

from client.data import Table, table_from
from client.training import Session, session_for
from coordinator.bootstrap import Centre
from coordinator.db.engine import reading
from coordinator.db.schema import Round, RoundState, RunState
from coordinator.rounds.record import RoundRecord
from coordinator.runs import RunView
from protos.contract import Contract
from protos.plan import Plan
from protos.plan_releases import guarantee_after
from simulation.result import RoundResult, SimulationResult, SiteResult
from simulation.scores import held_out_auc
from simulation.world.tally import Tally
from strategies.dp.units import Guarantee
from strategies.encoding import vector_digest
from strategies.ids import RunId, SiteName, site_name


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a simulated run left behind, read back as facts: a run of `plan` over `tables`, which `partition` says how were dealt."""

    plan: Plan
    contract: Contract
    tables: Mapping[SiteName, pa.Table]
    partition: str
    seed: int
    centre: Centre
    run: RunId
    tally: Tally

    def result(self, ended: RunView, elapsed_s: float) -> SimulationResult:
        """All of them; `ended` is where the run stands now."""
        plan, contract = self.plan, self.contract
        centre = self.centre
        store = RoundRecord(centre.engine, centre.artifacts, self.run)
        last, scaling = store.last_committed(), store.scaling()
        completed = ended.state == RunState.COMPLETED
        rows = _rounds(centre.engine, self.run)
        committed = [row for row in rows if row.state == RoundState.COMMITTED]
        final = last.model if completed and last is not None else None
        sites = []
        for site, table in sorted(self.tables.items()):
            read = table_from(
                table, contract, renamed={}, named=f"the rows of {site}", protected=plan.protected_columns
            )
            session = session_for(plan, contract, read, site=site)
            auc = None
            if final is not None and scaling is not None:
                auc = held_out_auc(plan, contract, read, final, scaling)
            sites.append(self._site(site, session, read, committed, auc))
        return SimulationResult(
            plan=plan.name,
            plan_digest=plan.digest,
            run=self.run,
            seed=self.seed,
            partition=self.partition,
            completed=completed,
            reason=ended.reason,
            aggregation=plan.aggregation.mode,
            privacy=plan.privacy.mode,
            planned_rounds=plan.training.rounds,
            parameters=plan.dense_model(contract.feature_spec(plan.features).width).size,
            sites=tuple(sites),
            rounds=tuple(self._round(row, rows) for row in committed),
            metrics=store.metrics(plan.training.rounds) if completed else None,
            model_digest=None if final is None else vector_digest(final),
            elapsed_s=elapsed_s,
            guarantee=self._guarantee(len(committed)),
        )

    def _site(
        self,
        site: SiteName,
        session: Session,
        read: Table,
        committed: list[Round],
        auc: float | None,
    ) -> SiteResult:
        training, held_out = session.rows
        answered = sum(site in (row.survivors or ()) for row in committed)
        tally = self.tally
        return SiteResult(
            site=site,
            training_rows=training,
            held_out_rows=held_out,
            positives=float(read.target.mean()),
            answered=answered,
            missed=sum(site in row.roster for row in committed) - answered,
            auc=auc,
            sent=tally.sent[site],
            received=tally.received[site],
            compute_s=sum(seconds for (who, _), seconds in tally.seconds.items() if who == site),
        )

    def _round(self, row: Round, rows: list[Round]) -> RoundResult:
        metrics = row.metrics or {}
        return RoundResult(
            number=row.number,
            attempts=sum(each.number == row.number for each in rows),
            roster=len(row.roster),
            survivors=len(row.survivors or ()),
            auc=metrics.get("auc"),
            log_loss=metrics.get("log_loss"),
            epsilon=self._epsilon(row.number),
            traffic=self.tally.traffic[row.number],
            compute_s=max(self.tally.seconds[site_name(site), row.number] for site in row.survivors or ()),
        )

    def _guarantee(self, number: int) -> Guarantee | None:
        """What everything released up to round `number` costs one unit."""
        last = self.plan.training.rounds
        return guarantee_after(self.plan, self.contract, number, evaluated=number == last)

    def _epsilon(self, number: int) -> float:
        found = self._guarantee(number)
        return math.inf if found is None else found.epsilon


def _rounds(engine: Engine, run: RunId) -> list[Round]:
    with reading(engine, f"reading the rounds of {run}") as session:
        query = select(Round).where(Round.run_id == run).order_by(Round.number, Round.attempt)
        return list(session.scalars(query))
