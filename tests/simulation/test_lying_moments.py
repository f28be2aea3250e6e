"""Scaling in whole plain runs in which a site lies about its moments: what nobody can have counted is no answer, and a rule that compares sites bounds the rest."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from client.training import TrainingSession
from coordinator.db.schema import RunState
from coordinator.governance.log import open_log
from coordinator.rounds.record import RoundRecord
from coordinator.runs import RunView
from protos.documents import load_document, read_document
from protos.frames import scaling_digest
from protos.log_audit import audit
from protos.log_entries import LogEntry
from protos.log_run_events import RoundPrepared
from protos.plan import Plan
from protos.plan_draft import kind_of, written
from protos.root import SignedRoot
from simulation.partition import Even, deal
from simulation.quiet import silence_logs
from simulation.world.federation import Federation
from simulation.world.layout import lay_out
from simulation.world.world import World
from strategies.analytics.moments import robust_scaling, scaling_from
from strategies.encoding import Vector
from strategies.features import Scaling
from strategies.ids import SiteName, site_name
from tests.client.loans_for_tests import CONTRACT, loans

SITES = tuple(map(site_name, ("east", "north", "south", "west")))
LIAR = SITES[0]
FULL = 2.0**31
"""As many rows as a site can have."""


def plan(rule: str, minimum: int) -> Plan:
    """One round over four sites, of which `minimum` are enough."""
    text = written(
        kind_of("none"),
        CONTRACT,
        name="scaled",
        purpose="credit-risk",
        members="demo@1",
        sites=SITES,
        rounds=1,
    )
    parts = {
        "aggregation:": f"aggregation: {{mode: plain{rule}}}",
        "  minimum:": f"  minimum: {minimum}",
    }
    lines = [
        next((part for key, part in parts.items() if line.startswith(key)), line)
        for line in text.splitlines()
    ]
    return read_document("\n".join(lines), Plan, "plan.yaml")


class Told:
    """What each site said of its rows, a liar `lie` times the features of it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, lie: list[float] | None) -> None:
        self.honest: dict[SiteName, Vector] = {}
        own = TrainingSession.moments

        def moments(session: TrainingSession) -> Vector:
            said = own(session)
            self.honest[session._site] = said
            if lie is None or session._site != LIAR:
                return said
            return np.repeat(lie, said.size // 3)

        monkeypatch.setattr(TrainingSession, "moments", moments)

    def of(self, *sites: SiteName) -> Vector:
        return np.stack([self.honest[site] for site in sites])


@contextmanager
def federation(folder: Path, rule: str, minimum: int = 3) -> Iterator[Federation]:
    silence_logs()
    tables = deal(loans(400), SITES, Even(), target="status", seed=1)
    made = Federation(
        lay_out(folder / "federation", plan(rule, minimum), CONTRACT, tables, seed=7), World(), 7
    )
    try:
        made.start_sites()
        yield made
    finally:
        made.close()


def ended(made: Federation) -> tuple[RunView, Scaling | None, list[RoundPrepared]]:
    """The end of one run, its scaling, and what an audited log has of it."""
    view = made.drive(made.launch())
    centre = made.centre()
    entries = [bytes(each.body) for each in open_log(centre.engine, centre.settings, centre.clock).entries()]
    audit(entries, load_document(centre.settings.root_file, SignedRoot))
    told = [LogEntry.from_canonical(each).what for each in entries]
    scaling = RoundRecord(centre.engine, centre.artifacts, view.run).scaling()
    return view, scaling, [each for each in told if isinstance(each, RoundPrepared)]


@pytest.mark.parametrize("rule", ["", ", rule: {kind: median}"])
def test_moments_that_no_rows_have_are_no_answer_and_the_run_goes_on(
    rule: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = Told(monkeypatch, [1e15, 0.0, 0.0])
    with federation(tmp_path, rule) as made:
        view, scaling, (prepared,) = ended(made)
        assert view.state == RunState.COMPLETED
        assert prepared.survivors == SITES[1:]
        others = told.of(*SITES[1:])
        assert scaling == (robust_scaling(others) if rule else scaling_from(others.sum(axis=0)))


def test_a_site_that_is_needed_is_named_with_what_it_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Told(monkeypatch, [10.0, 11.0, 11.0])
    with federation(tmp_path, ", rule: {kind: median}", len(SITES)) as made:
        view, scaling, prepared = ended(made)
        assert (view.state, scaling, prepared) == (RunState.FAILED, None, [])
        assert view.reason is not None
        assert "east sent moments that no rows have: count 10, sum 11 and sum of squares 11" in view.reason


@pytest.mark.parametrize("lie", [[FULL, 0.0, 0.0], [FULL, FULL, FULL], [FULL, FULL / 2, FULL / 2]])
def test_under_a_rule_a_site_with_all_the_rows_there_can_be_moves_the_scaling_no_further_than_honest_ones(
    lie: list[float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = Told(monkeypatch, lie)
    with federation(tmp_path, ", rule: {kind: median}") as made:
        view, scaling, (prepared,) = ended(made)
        assert view.state == RunState.COMPLETED
        assert scaling is not None
        assert prepared.survivors == SITES
        assert prepared.scaling == scaling_digest(scaling)
        alone = [scaling_from(each) for each in told.of(*SITES[1:])]
        for k, mean in enumerate(scaling.mean):
            means = [each.mean[k] for each in alone]
            assert min(means) <= mean <= max(means)
            assert 0.5 < scaling.std[k] / np.median([each.std[k] for each in alone]) < 2.0


def test_without_a_rule_the_same_site_has_the_scaling_to_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control, and what `rule` is for: a mean goes where one input pulls it."""
    Told(monkeypatch, [FULL, 0.0, 0.0])
    with federation(tmp_path, "") as made:
        view, scaling, _ = ended(made)
        assert view.state == RunState.COMPLETED
        assert scaling is not None
        assert max(scaling.std) < 0.001
