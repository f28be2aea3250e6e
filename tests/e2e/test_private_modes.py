"""Each privacy mode over the real engine: what it costs is on both accounts, they agree, and a site refuses by itself what its own has no room for."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from coordinator.db.schema import Round, RunState
from coordinator.ledger.ceilings import Proposal
from coordinator.registry.versions import list_versions
from simulation.demo import data
from simulation.deployment import Deployment
from strategies.dp.units import PrivacyUnit, UnitKind
from strategies.ids import RunId, SiteName, site_name
from tests.e2e.conftest import Federation, start

pytestmark = [pytest.mark.engine, pytest.mark.slow]

ROUNDS = 2
POPULATION = "lending-club"
RECORD = PrivacyUnit(kind=UnitKind.RECORD)
# South's officer allows less than the centre believes: room for a run of each mode, and not for many more.
CEILING, OF_SOUTH = 40.0, 18.5
DELTA, ORDER = 1e-5, 4
LOCAL = "algorithm: dp-sgd\n  local_steps: 4\n  learning_rate: 0.1"


def plan_of(mode: str, folder: Path) -> Path:
    """The demo's private plan in another mode, and short."""
    text = data.copy_document(data.PLAN, folder).read_text()
    changes = {
        "rounds: 60": f"rounds: {ROUNDS}",
        "every: 60": f"every: {ROUNDS}",
        "epsilon: 6.0": "epsilon: 20.0",
        "retries: 2": "retries: 1",
    }
    changes |= {
        "mode: distributed": f"mode: {mode}",
        "training: 1.6, evaluation: 1.8": "training: 0.8, evaluation: 2.0",
    }
    if mode == "local":
        changes |= {"algorithm: dp-fedsgd": LOCAL}
    for old, new in changes.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    path = folder / f"{mode}.yaml"
    path.write_text(text)
    return path


def set_ceiling(deployment: Deployment, site: SiteName) -> None:
    proposal = Proposal(epsilon=CEILING, delta=DELTA, unit=RECORD, order=ORDER, reason="made for this test")
    deployment.officers.decide(deployment.centre(), site, POPULATION, proposal)


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    """Four agents that admit every private mode, over accounts that centre and sites opened."""
    folder = tmp_path_factory.mktemp("modes")
    contract = data.copy_document(data.CONTRACT, folder)
    with Deployment(folder / "federation") as deployment:
        deployment.lay_out(
            data.regional_loans(),
            contract,
            purpose="credit-risk",
            privacy=["distributed", "central", "local"],
            account=f"record,{CEILING},{DELTA},{ORDER}",
        )
        running = Federation(deployment, plan_of("distributed", folder))
        for site in running.sites:
            set_ceiling(deployment, site_name(site))
        configured = deployment.site_folder("south") / "site.yaml"
        text, count = re.subn(rf"epsilon: {CEILING}", f"epsilon: {OF_SOUTH}", configured.read_text())
        assert count == 1
        configured.write_text(text)
        start(deployment, running.sites)
        yield running


def budget_of(federation: Federation, site: str, statement: Path) -> dict[str, Any]:
    """The site's own account, told and exported by its own command."""
    config = federation.deployment.site_folder(site) / "site.yaml"
    words = [
        sys.executable,
        "-m",
        "client.cli",
        "budget",
        "-c",
        str(config),
        "--json",
        "--export",
        str(statement),
    ]
    (account,) = json.loads(subprocess.run(words, capture_output=True, check=True).stdout)["accounts"]
    return dict(account)


def rosters(federation: Federation, run: RunId) -> Sequence[list[str] | None]:
    """Whose input is in the sum of each round of a run, which completes."""
    assert federation.finish(run).state is RunState.COMPLETED
    with Session(federation.deployment.centre().engine) as session:
        return session.scalars(select(Round.survivors).where(Round.run_id == run)).all()


def reconcile(federation: Federation, statement: Path) -> subprocess.CompletedProcess[bytes]:
    home = str(federation.deployment.home)
    words = [
        sys.executable,
        "-m",
        "coordinator.main",
        "ledger",
        "reconcile",
        str(statement),
        "--json",
        "--home",
        home,
    ]
    return subprocess.run(words, capture_output=True, check=False)


@pytest.mark.parametrize("mode", ["central", "local"])
def test_a_plan_of_each_mode_is_carried_out_and_both_accounts_agree(
    federation: Federation, mode: str, tmp_path: Path
) -> None:
    before = {site: budget_of(federation, site, tmp_path / f"{site}-before") for site in federation.sites}
    run = federation.launch(plan_of(mode, federation.plan.parent))
    finished = federation.finish(run)
    assert (finished.state, finished.committed, set(finished.aucs)) == (RunState.COMPLETED, ROUNDS, {ROUNDS})
    version = list_versions(federation.deployment.centre().engine)[-1]
    assert version.run_id == run
    for site in federation.sites:
        statement = tmp_path / f"{site}.json"
        after = budget_of(federation, site, statement)
        assert after["releases"] == before[site]["releases"] + ROUNDS + 2  # moments, rounds, evaluation
        assert after["spent"]["epsilon"] > before[site]["spent"]["epsilon"]
        compared = reconcile(federation, statement)
        assert compared.returncode == 0, compared.stderr


def test_a_site_whose_own_account_has_no_room_refuses_and_the_others_go_on(
    federation: Federation, tmp_path: Path
) -> None:
    """The centre would let it: its ceiling for south is higher than south's own."""
    for _ in range(8):
        if ["midwest", "northeast", "west"] in rosters(federation, federation.launch()):
            break
    else:
        pytest.fail("south's own account never ran out")
    south = budget_of(federation, "south", tmp_path / "south.json")
    assert 0 < south["spent"]["epsilon"] <= OF_SOUTH
    assert south["ceiling"]["epsilon"] == OF_SOUTH
    assert "would take the account to epsilon" in federation.log("south")
    assert reconcile(federation, tmp_path / "south.json").returncode == 0
