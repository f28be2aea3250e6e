"""A site that withdraws in the middle of a run, is suspended and returns, by its own commands, while real agents run."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from coordinator.db.schema import Round, RoundState, RunState
from protos.egress import child_environment
from strategies.ids import RunId
from tests.e2e.conftest import Federation

pytestmark = [pytest.mark.engine, pytest.mark.slow]
SITE = "south"


def say(federation: Federation, *words: str) -> None:
    """A command of the site's operator, beside the agent that runs."""
    config = str(federation.deployment.site_folder(SITE) / "site.yaml")
    command = [sys.executable, "-m", "client.cli", *words, "--reason", "change of hardware", "--config", config]  # fmt: skip
    done = subprocess.run(command, env=child_environment(), capture_output=True, text=True, timeout=60, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr


def survivors(federation: Federation, run: RunId) -> Sequence[Sequence[str]]:
    """Whose input is in each committed round."""
    query = select(Round.survivors).where(Round.run_id == run, Round.state == RoundState.COMMITTED)
    with Session(federation.deployment.centre().engine) as session:
        return [each or [] for each in session.scalars(query.order_by(Round.number))]


def test_a_site_withdraws_in_the_middle_and_the_others_go_on(federation: Federation) -> None:
    run = federation.launch(federation.variant("long", rounds="10", every="10"))
    federation.wait(lambda: federation.view(run).committed >= 1, "the first round", 90.0)
    say(federation, "withdraw", run)
    assert federation.finish(run).state is RunState.COMPLETED
    sums = survivors(federation, run)
    assert len(sums) == 10
    assert SITE in sums[0]
    assert SITE not in sums[-1]
    assert len(sums[-1]) == 3
    after = federation.launch()
    assert federation.finish(after).state is RunState.COMPLETED
    assert SITE in survivors(federation, after)[-1], "it has withdrawn from one run, and not left"


def test_a_suspended_site_is_in_no_round_and_returns_to_the_next_run(federation: Federation) -> None:
    say(federation, "suspend")
    away = federation.launch()
    assert federation.finish(away).state is RunState.COMPLETED
    assert all(SITE not in each for each in survivors(federation, away))
    say(federation, "return")
    back = federation.launch()
    assert federation.finish(back).state is RunState.COMPLETED
    assert SITE in survivors(federation, back)[-1]
    federation.deployment.check()  # the same agents all the while
