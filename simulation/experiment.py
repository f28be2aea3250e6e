"""A plan tried before it is launched: a whole run of it in this process, on rows dealt to simulated sites.

1. The run is the real one (`simulation.world`); only time, processes and the network are simulated.
2. The plan is the one that production launches. Another number of sites changes the invitation and nothing else.
3. A site that drops out takes a request and never answers. Which sites do follows from the seed.
"""

from __future__ import annotations

import json
import math
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pyarrow as pa
from flwr.app import Message
from sqlalchemy import Engine, select

from client.data import Table, table_from
from client.training import Session, session_for
from coordinator.db.engine import reading
from coordinator.db.schema import Round, RoundState, RunState
from coordinator.rounds.record import RoundRecord
from coordinator.runs import RunView
from protos.contract import Contract
from protos.frames import Stage
from protos.plan import Plan, SecureAggregation
from protos.plan_privacy import Privacy
from protos.plan_releases import fitting_ceiling, releases_of
from simulation.repeat import require_equal
from simulation.result import RoundResult, SimulationResult, SiteResult
from simulation.scores import held_out_auc
from simulation.world.federation import Federation
from simulation.world.frames import asked_in
from simulation.world.layout import lay_out
from simulation.world.world import LATENCY_S, Faults, World
from strategies.dp.budget import cost_of
from strategies.dp.units import Guarantee
from strategies.encoding import vector_digest
from strategies.errors import UsageError
from strategies.ids import RunId, SiteName, site_name
from strategies.secagg.parameters import sharing_an_honest_site


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """What is to be tried. `dropout` is the least share of the roster that is lost in each exchange, from 0 to below 1."""

    plan: Plan
    contract: Contract
    tables: Mapping[SiteName, pa.Table]
    partition: str
    seed: int = 0
    dropout: float = 0.0


def invited(plan: Plan, count: int | None) -> tuple[Plan, tuple[SiteName, ...]]:
    """The plan for `count` sites, and their names: the invited ones, or site-01 and so on where the count differs.

    More sites under secure aggregation may take a larger minimum, which is then the plan's.

    Raises `UsageError` for fewer sites than the plan's minimum.
    """
    sites = plan.sites
    if count is None or count == len(sites.invite):
        return plan, tuple(sites.invite)
    if count < sites.minimum:
        raise UsageError(
            f"--sites {count} is below the plan's `sites.minimum`, {sites.minimum}; simulate at least that many"
        )
    names = tuple(site_name(f"site-{number:0{len(str(count))}d}") for number in range(1, count + 1))
    # Weights are the invited sites' own, so they cannot be carried over; every simulated site counts the same.
    minimum, chosen = sites.minimum, plan.aggregation
    if isinstance(chosen, SecureAggregation):
        minimum = max(minimum, sharing_an_honest_site(count, chosen.colluding))
    changed = sites.model_copy(update={"invite": names, "weights": {}, "minimum": minimum})
    return plan.model_copy(update={"sites": changed}), names


def simulate(
    experiment: Experiment, *, progress: Callable[[RunView], None] = lambda _: None
) -> SimulationResult:
    """Run the experiment; `progress` hears of each committed round. Raises `CovenantError` for what can't even begin."""
    import torch  # before the clock runs: the first round is not slower than the others

    torch.set_num_threads(1)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="covenant-simulation-", dir=memory_folder()) as folder:
        layout = lay_out(
            Path(folder) / "federation",
            experiment.plan,
            experiment.contract,
            experiment.tables,
            seed=experiment.seed,
        )
        tally = _Tally()
        world = World(faults=Dropouts(experiment.dropout, experiment.seed))
        federation = Federation(layout, world, experiment.seed)
        federation.link.on_frame.append(tally.frame)
        for site in federation.sites.values():
            site.measured = tally.measured
        try:
            federation.start_sites()
            run = federation.launch()
            tally.committed = lambda: progress(federation.view(run))
            ended = federation.drive(run)
            return _Found(experiment, federation, run, tally).result(ended, time.perf_counter() - began)
        finally:
            federation.close()


def run_once_or_twice(
    experiment: Experiment, *, twice: bool, progress: Callable[[RunView], None] = lambda _: None
) -> SimulationResult:
    """`simulate`; twice, and raises `RepeatsDifferentlyError` where the two results differ in more than measured seconds."""
    result = simulate(experiment, progress=progress)
    if twice:
        again = simulate(experiment, progress=progress)
        require_equal(f"seed {experiment.seed}", _repeatable(result), _repeatable(again))
    return result


def _repeatable(result: SimulationResult) -> list[str]:
    """The facts that one seed decides, a line each."""
    # The model first: whether it differs is the first question about a difference.
    text = json.dumps({"model_digest": result.model_digest} | result.facts(), indent=1)
    return [line for line in text.splitlines() if '_s":' not in line]


def memory_folder() -> Path | None:
    """A folder in memory where there is one: simulated disks need not outlive the process, and a real flush is slow."""
    shared = Path("/dev/shm")  # noqa: S108 (a private folder is made inside)
    return shared if shared.is_dir() else None


class Dropouts(Faults):
    """In each exchange a share of the roster, rounded up, takes its request and is not heard of again before the deadline."""

    def __init__(self, share: float, seed: int) -> None:
        if not 0 <= share < 1:  # phrased so that NaN is refused
            raise UsageError(f"--dropout is {share}; use a share from 0 to below 1, such as 0.1")
        self._share = share
        self._seed = seed

    def request(self, site: SiteName, frame: bytes) -> Sequence[tuple[float, bytes]]:
        """See `Faults.request`."""
        if not self._share:
            return [(LATENCY_S, frame)]
        said = asked_in(frame)
        if said.stage is not Stage.TRAIN or said.roster is None:
            return [(LATENCY_S, frame)]
        lost = math.ceil(self._share * len(said.roster))
        chosen = Random(f"dropouts {self._seed} {said.statement}").sample(sorted(said.roster), lost)  # noqa: S311
        return [] if site in chosen else [(LATENCY_S, frame)]


@dataclass
class _Tally:
    """Bytes and computing seconds, by site and round."""

    sent: dict[SiteName, int] = field(default_factory=lambda: defaultdict(int))
    received: dict[SiteName, int] = field(default_factory=lambda: defaultdict(int))
    traffic: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    seconds: dict[tuple[SiteName, int], float] = field(default_factory=lambda: defaultdict(float))
    committed: Callable[[], None] = lambda: None
    _round: int = 0

    def frame(self, site: SiteName, direction: str, frame: bytes) -> None:
        """Count a frame on its way."""
        if direction == "request":
            self.received[site] += len(frame)
            number = asked_in(frame).round
            if number > self._round:
                self._round = number
                self.committed()
        elif direction == "reply":
            self.sent[site] += len(frame)
        else:
            return
        self.traffic[self._round] += len(frame)

    def measured(self, site: SiteName, work: Callable[[], Message]) -> Message:
        """Time a site's answer."""
        began = time.perf_counter()
        reply = work()
        self.seconds[site, self._round] += time.perf_counter() - began
        return reply


@dataclass(frozen=True, slots=True)
class _Found:
    """What a simulated run left behind, read back as facts."""

    experiment: Experiment
    federation: Federation
    run: RunId
    tally: _Tally

    def result(self, ended: RunView, elapsed_s: float) -> SimulationResult:
        plan, contract = self.experiment.plan, self.experiment.contract
        centre = self.federation.centre()
        store = RoundRecord(centre.engine, centre.artifacts, self.run)
        last, scaling = store.last_committed(), store.scaling()
        completed = ended.state == RunState.COMPLETED
        rows = _rounds(centre.engine, self.run)
        committed = [row for row in rows if row.state == RoundState.COMMITTED]
        final = last.model if completed and last is not None else None
        sites = []
        for site, table in sorted(self.experiment.tables.items()):
            read = table_from(table, contract, renamed={}, named=f"the rows of {site}")
            session = session_for(plan, contract, read, site=site)
            auc = None
            if final is not None and scaling is not None:
                auc = held_out_auc(plan, contract, read, final, scaling)
            sites.append(self._site(site, session, read, committed, auc))
        return SimulationResult(
            plan=plan.name,
            plan_digest=plan.digest,
            run=self.run,
            seed=self.experiment.seed,
            partition=self.experiment.partition,
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
        """What everything released up to round `number` costs one unit, aborted attempts left out; None without privacy."""
        plan, contract = self.experiment.plan, self.experiment.contract
        releases = releases_of(plan, contract)
        if releases is None or not isinstance(plan.privacy, Privacy):
            return None
        ceiling = fitting_ceiling(releases, plan.privacy)
        charges = {releases.prepare: 1, releases.train: number}
        if number == plan.training.rounds:
            charges[releases.evaluate] = 1
        return ceiling.guarantee(cost_of(charges, ceiling.order))

    def _epsilon(self, number: int) -> float:
        found = self._guarantee(number)
        return math.inf if found is None else found.epsilon


def _rounds(engine: Engine, run: RunId) -> list[Round]:
    with reading(engine, f"reading the rounds of {run}") as session:
        query = select(Round).where(Round.run_id == run).order_by(Round.number, Round.attempt)
        return list(session.scalars(query))
