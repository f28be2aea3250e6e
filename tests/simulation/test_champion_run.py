"""Two runs after one another through the real ServerApp: the second compares with what the first has made."""

from __future__ import annotations

from pathlib import Path

import pytest

from coordinator.db.schema import RunState
from coordinator.deploy.gate import validate
from coordinator.registry.champions import as_champion
from coordinator.registry.versions import get_version
from protos.model_stages import Stage
from protos.plan_gates import Gate
from simulation.world.federation import Federation
from simulation.world.layout import lay_out
from simulation.world.world import World
from tests.coordinator.champion_for_tests import with_champion
from tests.coordinator.secure_for_tests import CONTRACT, FOUR, _loans, secure_plan


@pytest.mark.slow
def test_a_challenger_is_compared_with_the_model_of_an_earlier_run(tmp_path: Path) -> None:
    gates = (Gate(metric="auc", at_least=0.1), Gate(metric="auc", over="champion", at_least=-1.0))
    first = secure_plan(rounds=1).model_copy(update={"gates": gates[:1]})
    tables = {site: _loans(place) for place, site in enumerate(FOUR)}
    federation = Federation(lay_out(tmp_path / "world", first, CONTRACT, tables, seed=0), World(), seed=1)
    federation.start_sites()
    try:
        assert federation.drive(federation.launch()).state == RunState.COMPLETED
        champion = as_champion(
            federation.centre().engine, get_version(federation.centre().engine, "secure", 1)
        )
        second = with_champion(secure_plan(rounds=2).model_copy(update={"name": "later"}), champion)
        federation.layout.plan_file.write_text(second.model_copy(update={"gates": gates}).canonical.decode())
        federation._launch()
        run = federation.link.waiting[-1][1]
        assert federation.drive(run).state == RunState.COMPLETED, federation.view(run).reason
        centre = federation.centre()
        made = get_version(centre.engine, "later", 1)
        assert made.metrics is not None
        earlier = get_version(centre.engine, "secure", 1).metrics
        assert earlier is not None
        # The same held-out rows, scored by the same model: to the bit.
        assert made.metrics["champion"]["auc"] == earlier["auc"]
        verdict = validate(centre, made, why="the quarter is over", by="risk-1")
        assert verdict.passed
        assert verdict.gates[1].value == made.metrics["auc"] - earlier["auc"]
        assert get_version(centre.engine, "later", 1).stage is Stage.VALIDATED
    finally:
        federation.close()
