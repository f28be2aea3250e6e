"""What the tests of retraining share: a model that is watched, whose run left weights and whose sites have accounts and a history."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from coordinator.bootstrap import Centre
from coordinator.db import writing
from coordinator.db.engine import reading
from coordinator.db.loop_schema import DraftRow
from coordinator.db.progress_schema import SiteExchange
from coordinator.db.schema import Checkpoint, Run
from coordinator.deploy.monitoring.receiving import receive
from coordinator.governance.log import open_log
from protos.contract import Contract
from protos.documents import read_document
from protos.log_entries import LogEntry
from protos.log_loop import LoopEvent
from protos.plan import Plan
from strategies.encoding import vector_bytes
from tests.coordinator.cli_for_tests import SITES, open_accounts
from tests.coordinator.conftest import RUN
from tests.coordinator.monitor_for_tests import Population, Watch, numbers, tilted
from tests.private_plan_for_tests import CONTRACT, PLAN


def leave_weights(centre: Centre) -> None:
    """What a real run leaves of its model, so that its version can be a champion."""
    plan = read_document(PLAN, Plan, "plan")
    features = read_document(CONTRACT, Contract, "contract").feature_spec(plan.features)
    shape = plan.dense_model(features.width)
    weights = np.random.default_rng(1).normal(0.0, 0.6, shape.size)
    digest = centre.artifacts.put(vector_bytes(weights))
    numeric = len(features.numeric)
    with writing(centre.engine, "leaving weights") as session:
        session.get_one(Run, RUN).scaling = {"mean": [0.5] * numeric, "std": [0.2] * numeric}
        session.add(Checkpoint(run_id=RUN, round=40, model_artifact=digest, optimizer_artifact="ab" * 32))


def leave_history(
    centre: Centre,
    run: str = RUN,
    *,
    rounds: int = 40,
    seconds: float = 3.0,
    missed: Mapping[str, int] | None = None,
    sites: Iterable[str] = SITES,
) -> None:
    """Rounds of training in which each site took about `seconds`, and missed as many as `missed` says of it."""
    rng = np.random.default_rng(4)
    with writing(centre.engine, "leaving a history") as session:
        for number in range(1, rounds + 1):
            for site in sites:
                away = number <= (missed or {}).get(site, 0)
                session.add(
                    SiteExchange(
                        run_id=run, stage="train", round=number, site=site, asked=4, answered=0 if away else 4, sent=10_000,
                        received=0 if away else 9_000, seconds=0.0 if away else float(seconds * rng.uniform(0.5, 1.0)), step="input",
                        waiting=False, trouble="refused (policy) no" if away else None, changed_at=centre.clock(),
                    )
                )  # fmt: skip


def ready(watched: Watch, epsilon: float = 30.0, **accounts: float) -> Watch:
    """With weights and accounts."""
    leave_weights(watched.works.centre)
    open_accounts(watched.works.centre, epsilon, **accounts)
    return watched


def shifted(psi: float = 0.6) -> Population:
    """Another population than the reference's."""
    found, feature = Population.usual(), numbers()[0]
    found.inputs[feature] = tilted(found.inputs[feature], psi)
    return found


def raise_alarm(watched: Watch, place: str = "branch", population: Population | None = None) -> str:
    """A window that moved; the alarm's id."""
    found = receive(watched.works.centre, watched.place(place).decisions(population or shifted())).alarm
    assert found is not None
    return found


def row_of(centre: Centre, draft: str) -> DraftRow:
    with reading(centre.engine, "looking") as session:
        return session.get_one(DraftRow, draft)


def loop_events(centre: Centre) -> list[Any]:
    """What the log tells of the loop."""
    log = open_log(centre.engine, centre.settings, centre.clock)
    found = [LogEntry.from_canonical(each.body).what for each in log.entries()]
    return [each for each in found if isinstance(each, LoopEvent)]
