"""A plan of privacy mode local, whole: the noise is the sites' own, each site is charged for every attempt, and the run repeats."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import numpy as np
import pyarrow as pa
import pytest

from client.data import Table, table_from
from client.training.private import PrivateSession
from coordinator.db.schema import RunState
from coordinator.ledger import Ledger
from coordinator.rounds.record import RoundRecord
from protos.contract import Contract
from protos.frames import Stage
from protos.plan import Plan
from protos.plan_aggregation import SecureAggregation
from protos.plan_releases import releases_of
from protos.plan_training import PrivateSteps
from protos.site import load_site
from simulation.partition import Even, deal
from simulation.quiet import silence_logs
from simulation.unmasked import UnmaskedRun
from simulation.world.federation import Federation
from simulation.world.layout import lay_out
from simulation.world.world import World
from strategies.dp.events import Release
from strategies.encoding import Vector
from strategies.ids import SiteName
from strategies.secagg.secrets import SECRET_BYTES, MaskSeed
from strategies.secagg.shamir import Entropy
from tests.client import loans_for_tests as loans
from tests.client.local_for_tests import CUSTOMERS, local_plan

ROWS = 800


@pytest.fixture(autouse=True)
def _quiet() -> None:
    silence_logs()


def dealt(plan: Plan) -> dict[SiteName, pa.Table]:
    rows = loans.loans(ROWS)
    rows = rows.append_column("customer_id", pa.array([f"c{i * 7 % 300}" for i in range(ROWS)]))
    return deal(rows, tuple(sorted(plan.sites.invite)), Even(), target="status", seed=1)


def tables(plan: Plan, contract: Contract) -> dict[SiteName, Table]:
    return {site: table_from(rows, contract, renamed={}, named=site) for site, rows in dealt(plan).items()}


# --- the whole federation ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ended:
    """What a run left behind: its state, its model, and what the accounts of each site hold, at the site and at the centre."""

    state: str
    reason: str | None
    model: Vector
    at_site: dict[SiteName, dict[Release, int]] = field(default_factory=dict)
    spent_at_site: dict[SiteName, float] = field(default_factory=dict)
    spent_at_centre: dict[SiteName, float] = field(default_factory=dict)


def federated(folder: Path, plan: Plan, *, seed: int) -> Ended:
    layout = lay_out(folder / "federation", plan, loans.CONTRACT, dealt(plan), seed=seed)
    federation = Federation(layout, World(), seed)
    try:
        federation.start_sites()
        run = federation.launch()
        view = federation.drive(run)
        centre = federation.centre()
        last = RoundRecord(centre.engine, centre.artifacts, run).last_committed()
        ended = Ended(view.state, view.reason, np.zeros(0) if last is None else last.model)
        ledger = Ledger(centre.engine, centre.clock)
        for name, site in federation.sites.items():
            population = plan.population_of(name)
            rule = load_site(layout.site_file(name)).data[population].account
            assert rule is not None
            account = site.participant.book.account(population, rule)
            ended.at_site[name] = dict(account.charges)
            ended.spent_at_site[name] = account.guarantee().epsilon
            ended.spent_at_centre[name] = ledger.show(name, population).spent.epsilon
        return ended
    finally:
        federation.close()


@pytest.fixture(scope="module")
def seventh(tmp_path_factory: pytest.TempPathFactory) -> Ended:
    """The run of seed 7."""
    silence_logs()
    return federated(tmp_path_factory.mktemp("seventh"), local_plan(), seed=7)


def test_a_local_plan_runs_and_each_site_is_charged_for_its_steps_on_both_sides(seventh: Ended) -> None:
    plan = local_plan()
    assert (seventh.state, seventh.reason) == (RunState.COMPLETED, None)
    releases = releases_of(plan, loans.CONTRACT)
    assert releases is not None
    once = {releases.prepare: 1, releases.train: 3, releases.evaluate: 1}
    assert seventh.at_site == dict.fromkeys(sorted(plan.sites.invite), once)
    assert all(0 < each < 40 for each in seventh.spent_at_site.values())
    assert seventh.spent_at_centre == pytest.approx(seventh.spent_at_site)
    assert np.isfinite(seventh.model).all()


def test_the_same_seed_gives_the_same_model_and_another_gives_another_noise(
    seventh: Ended, tmp_path: Path
) -> None:
    again, eighth = (federated(tmp_path / str(seed), local_plan(), seed=seed) for seed in (7, 8))
    assert again.model.tobytes() == seventh.model.tobytes()
    assert np.count_nonzero(eighth.model == seventh.model) == 0


# --- the arithmetic of a round ----------------------------------------------------------------------------------------


@dataclass
class Watched:
    """Real secrets, kept."""

    given: list[bytes] = field(default_factory=list)

    def entropy(self) -> Entropy:
        def draw(size: int) -> bytes:
            self.given.append(os.urandom(size))
            return self.given[-1]

        return draw


@pytest.mark.parametrize("customers", [False, True])
def test_a_round_is_the_mean_of_the_sites_own_noisy_steps(customers: bool) -> None:
    plan, contract = local_plan(customers=customers), CUSTOMERS if customers else loans.CONTRACT
    given, watched = tables(plan, contract), Watched()
    run = UnmaskedRun(plan, contract, given, watched.entropy())
    scaling = run.prepare()
    model, _ = run.initial()
    watched.given.clear()
    opened = run.pooled(Stage.TRAIN, 1, model, scaling).values
    seeds = [MaskSeed(each) for each in watched.given if len(each) == SECRET_BYTES]
    assert len(seeds) == len(given)  # one for each site, and nothing for the centre
    updates = [
        PrivateSession(plan, contract, given[site]).local_update(model, scaling, secret)
        for site, secret in zip(sorted(given), seeds, strict=True)
    ]
    assert isinstance(plan.aggregation, SecureAggregation)
    expected = np.mean(
        np.clip(updates, -plan.aggregation.update_range, plan.aggregation.update_range), axis=0
    )
    np.testing.assert_allclose(opened, expected, atol=1e-5)
    assert run.charges[releases_of(plan, contract).train] == 1


def test_the_mean_of_a_round_has_the_noise_of_each_sites_release_over_the_number_of_sites() -> None:
    """Samples add to the spread of a round that is taken again and again; nothing takes from it."""
    plan = local_plan()
    rule = plan.training
    assert isinstance(rule, PrivateSteps)
    given, noise = tables(plan, loans.CONTRACT), plan.privacy.noise.training
    run = UnmaskedRun(plan, loans.CONTRACT, given, Random("noise").randbytes)
    scaling = run.prepare()
    model, _ = run.initial()
    opened = np.array([run.pooled(Stage.TRAIN, 1, model, scaling).values for _ in range(30)])
    each = rule.learning_rate * noise * rule.clip / rule.expected_batch * rule.local_steps**0.5
    least = each / len(given) ** 0.5
    assert np.min(np.std(opened, axis=0)) > 0.6 * least
