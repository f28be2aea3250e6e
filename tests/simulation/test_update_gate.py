"""The gate on the opened sum, in whole runs: what one site that lies does without it, and who refuses to go on with it.

The liar is a site of a real federation whose masked input is not what training gave; every frame of it is accepted, as the protocol has it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from client.secure.run import Run
from coordinator.db.schema import RoundState, RunState
from coordinator.governance.log import open_log
from coordinator.rounds.driver import Driver
from coordinator.rounds.record import RoundRecord
from coordinator.runs import resume
from protos.documents import load_document, read_document
from protos.frames import SecureRequest, Stage, Statement
from protos.log_audit import Audit, audit
from protos.log_entries import LogEntry
from protos.log_run_events import RoundCommitted, RunEnded, SumSettled
from protos.payloads import payload_of
from protos.plan import Plan
from protos.plan_draft import kind_of, written
from protos.root import SignedRoot
from simulation.found import _rounds
from simulation.partition import Even, deal
from simulation.quiet import silence_logs
from simulation.world.federation import Federation
from simulation.world.layout import lay_out
from simulation.world.world import World
from strategies.encoding import Vector
from strategies.errors import Refused
from strategies.ids import RunId, site_name
from strategies.secagg.payloads import Integers, WeightedUpdates
from strategies.secagg.rings import Ring
from tests.client.loans_for_tests import CONTRACT, loans

SITES = tuple(map(site_name, ("east", "north", "south", "west")))
LIAR = SITES[0]
WANTED = 0.8
"""What the liar wants each parameter to be."""


def plan(gate: float | None) -> Plan:
    """Two rounds over four sites, with a gate or without."""
    text = written(
        kind_of("none"),
        CONTRACT,
        name="gated",
        purpose="credit-risk",
        members="demo@1",
        sites=SITES,
        rounds=2,
    )
    if gate is not None:
        text = text.replace("colluding: 1}", f"colluding: 1, gate: {{update_norm: {gate}}}}}")
        assert f"{{update_norm: {gate}}}" in text
    return read_document(text, Plan, "plan.yaml")


@contextmanager
def federation(folder: Path, gate: float | None) -> Iterator[Federation]:
    silence_logs()
    tables = deal(loans(200), SITES, Even(), target="status", seed=1)
    layout = lay_out(folder / "federation", plan(gate), CONTRACT, tables, seed=7)
    made = Federation(layout, World(), 7)
    try:
        made.start_sites()
        yield made
    finally:
        made.close()


@pytest.fixture
def liar(monkeypatch: pytest.MonkeyPatch) -> None:
    """One site sends, in each round of training, what makes the mean a model of its own choosing."""
    honest = Run.computed

    def lying(self: Run, said: Statement, asked: SecureRequest) -> tuple[Ring, Integers]:
        ring, integers = honest(self, said, asked)
        if said.stage is not Stage.TRAIN or self.site != LIAR:
            return ring, integers
        updates = payload_of(self.accepted.plan, CONTRACT, said.stage, said.roster).embedding
        assert isinstance(updates, WeightedUpdates)
        step = updates.mean(np.ones(1, dtype=np.int64), said.roster)[0]
        return ring, np.rint((WANTED - self.chain.model) / step).astype(np.int64)

    monkeypatch.setattr(Run, "computed", lying)


def entries_of(made: Federation) -> list[bytes]:
    centre = made.centre()
    return [bytes(each.body) for each in open_log(centre.engine, centre.settings, centre.clock).entries()]


def told(made: Federation) -> list[object]:
    return [LogEntry.from_canonical(each).what for each in entries_of(made)]


def audited(made: Federation) -> Audit:
    """The log as an auditor takes it; raises what an auditor would refuse."""
    return audit(entries_of(made), load_document(made.centre().settings.root_file, SignedRoot))


def committed(made: Federation, run: RunId) -> list[int]:
    return [row.number for row in _rounds(made.centre().engine, run) if row.state == RoundState.COMMITTED]


def model_of(made: Federation, run: RunId) -> Vector:
    centre = made.centre()
    found = RoundRecord(centre.engine, centre.artifacts, run).last_committed()
    assert found is not None
    return found.model


@pytest.mark.slow
def test_an_honest_run_passes_a_gate_and_its_log_is_believed(tmp_path: Path) -> None:
    with federation(tmp_path, 2.0) as made:
        ended = made.drive(made.launch())
        assert (ended.state, committed(made, ended.run)) == (RunState.COMPLETED, [1, 2])
        assert audited(made).runs[ended.run].tripped == set()


def test_one_site_in_one_round_makes_any_model_without_a_gate(tmp_path: Path, liar: None) -> None:
    """The control, and the reason for the gate: the liar's part is as large as all others together may be, and nobody clips it.

    What honest sites add is a quarter of a few tenths in each parameter; all else is the liar's choice.
    """
    with federation(tmp_path, None) as made:
        ended = made.drive(made.launch())
        assert ended.state == RunState.COMPLETED
        assert np.abs(model_of(made, ended.run) - WANTED).max() < 0.25
        audited(made)


def test_a_round_above_the_gate_ends_the_run_and_auditors_believe_why(tmp_path: Path, liar: None) -> None:
    with federation(tmp_path, 1.0) as made:
        ended = made.drive(made.launch())
        assert (ended.state, committed(made, ended.run)) == (RunState.FAILED, [])
        assert ended.reason is not None
        assert "the mean update of round 1 has L2 norm" in ended.reason
        assert "the plan's gate is 1 (aggregation.gate.update_norm)" in ended.reason
        assert "no site can be named" in ended.reason
        (over,) = [each for each in told(made) if isinstance(each, RunEnded)]
        assert over.tripped is not None
        assert (over.tripped.round, over.tripped.attempt) == (1, 1)
        assert over.tripped.norm is not None
        assert over.tripped.norm > 1.0
        assert [each.stage for each in told(made) if isinstance(each, SumSettled)] == ["prepare", "train"]
        assert audited(made).runs[ended.run].tripped == {("train", 1, 1)}


@pytest.mark.slow
def test_a_run_that_its_gate_ended_is_not_resumed(tmp_path: Path, liar: None) -> None:
    """Sites open one sum a round: whoever could have another would see one site's update in the difference."""
    with federation(tmp_path, 1.0) as made:
        ended = made.drive(made.launch())
        before = entries_of(made)
        with pytest.raises(Refused, match="was ended by its plan's gate at round 1"):
            resume(made.centre(), ended.run)
        assert made.view(ended.run) == ended
        assert ended.reason is not None
        assert "so the run cannot be resumed" in ended.reason
        assert entries_of(made) == before
        audited(made)


def test_sites_leave_a_coordinator_that_passes_over_the_gate(
    tmp_path: Path, liar: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Driver, "_require_gate", lambda *_: None)
    with federation(tmp_path, 1.0) as made:
        ended = made.drive(made.launch())
        assert ended.state == RunState.FAILED
        assert committed(made, ended.run) == [1]
        assert [each.round for each in told(made) if isinstance(each, RoundCommitted)] == [1]
        assert ended.reason is not None
        for site in SITES:
            assert f"{site} refused (protocol) the mean update of round 1" in ended.reason
        assert "no model follows from it" in ended.reason


@pytest.mark.slow
def test_a_coordinator_that_passes_over_the_gate_is_followed_where_sites_do_not_ask(
    tmp_path: Path, liar: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: without either question the run completes with the liar's model."""
    monkeypatch.setattr(Plan, "require_gate", lambda *_: None)
    with federation(tmp_path, 1.0) as made:
        ended = made.drive(made.launch())
        assert ended.state == RunState.COMPLETED
        assert np.abs(model_of(made, ended.run) - WANTED).max() < 0.25
