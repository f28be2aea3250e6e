"""A plan tried in one process: what it finds, that it finds it again, and what it refuses to try."""

from __future__ import annotations

import json
import signal
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from client.data import table_from
from client.training import TrainingSession
from coordinator.main import build
from protos.plan_aggregation import SecureAggregation
from protos.shell import run_command
from simulation.experiment import Experiment, run_once_or_twice, simulate
from simulation.invitation import invited, with_sites
from simulation.partition import Even, deal
from simulation.quiet import silence_logs
from simulation.repeat import RepeatsDifferentlyError
from strategies.aggregation import Contribution, total, weighted_mean
from strategies.analytics.moments import scaling_from
from strategies.encoding import vector_digest
from strategies.errors import UsageError
from strategies.ids import site_name
from strategies.secagg.parameters import sharing_an_honest_site
from tests.client.loans_for_tests import CONTRACT, loans, plan

SITES = (site_name("south"), site_name("west"))


@pytest.fixture(autouse=True)
def _quiet() -> None:
    silence_logs()


def an_experiment(**changes: object) -> Experiment:
    tables = deal(loans(400), SITES, Even(), target="status", seed=1)
    first = Experiment(plan=plan(), contract=CONTRACT, tables=tables, partition="evenly", seed=7)
    return replace(first, **changes)


def ten_sites(minimum: int) -> Experiment:
    chosen, names = invited(plan(), 10)
    chosen = chosen.model_copy(update={"sites": chosen.sites.model_copy(update={"minimum": minimum})})
    tables = deal(loans(800), names, Even(), target="status", seed=1)
    return an_experiment(plan=chosen, tables=tables)


def test_the_model_is_that_of_the_sites_own_training_to_the_bit() -> None:
    """Against the arithmetic alone: no store, no frames, no journal, no driver."""
    experiment = an_experiment()
    result = simulate(experiment)
    sessions = [
        TrainingSession(
            experiment.plan, CONTRACT, table_from(rows, CONTRACT, renamed={}, named=site), site=site
        )
        for site, rows in sorted(experiment.tables.items())
    ]
    scaling = scaling_from(total([Contribution(s._site, s.moments()) for s in sessions]))
    model = sessions[0].model.initial(experiment.plan.training.seed)
    for number in (1, 2, 3):
        model = model + weighted_mean(
            [Contribution(s._site, s.train(model, scaling, number)) for s in sessions]
        )
    assert result.completed
    assert result.model_digest == vector_digest(model)


def test_the_facts_of_a_run() -> None:
    result = simulate(an_experiment())
    assert (result.planned_rounds, [each.number for each in result.rounds]) == (3, [1, 2, 3])
    assert all((each.attempts, each.roster, each.survivors) == (1, 2, 2) for each in result.rounds)
    assert all(each.traffic > 0 and each.compute_s > 0 for each in result.rounds)
    assert result.metrics is not None
    assert result.rounds[-1].auc == result.metrics.auc
    assert result.metrics.rows == sum(site.held_out_rows for site in result.sites)
    assert sum(site.training_rows + site.held_out_rows for site in result.sites) == 400
    assert all(site.answered == 3 and site.missed == 0 and site.auc is not None for site in result.sites)
    assert sum(site.sent + site.received for site in result.sites) >= sum(e.traffic for e in result.rounds)
    assert json.loads(json.dumps(result.facts(), allow_nan=False))["rounds"][0]["guarantee"] is None


def test_the_same_seed_gives_the_same_facts_and_progress_is_told() -> None:
    told: list[int] = []
    run_once_or_twice(an_experiment(), twice=True, progress=lambda now: told.append(now.committed))
    assert told[-1] >= 2
    assert told == sorted(told[: len(told) // 2]) * 2


def test_a_run_that_repeats_differently_is_an_error_with_the_difference(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Planted: the sites' batch order comes from a global random state."""
    from client.training import session

    monkeypatch.setattr(session, "batch_seed", lambda *_: int(np.random.default_rng().integers(1 << 60)))
    with pytest.raises(RepeatsDifferentlyError, match="seed 7 repeats differently") as failure:
        run_once_or_twice(an_experiment(), twice=True)
    assert "model_digest" in str(failure.value)


def test_a_tenth_of_the_sites_drops_out_of_every_round_and_the_run_survives() -> None:
    result = simulate(replace(ten_sites(minimum=8), dropout=0.1))
    assert result.completed
    assert [(each.roster, each.survivors) for each in result.rounds] == [(10, 9)] * 3
    assert sum(site.missed for site in result.sites) == 3
    assert len({site.site for site in result.sites if site.missed}) > 1


def test_too_many_dropouts_fail_the_run_in_words() -> None:
    result = simulate(replace(ten_sites(minimum=8), dropout=0.3))
    assert not result.completed
    assert "7 of at least 8 sites answered the train stage of round 1" in str(result.reason)
    assert (result.metrics, result.model_digest, result.rounds) == (None, None, ())


def test_another_number_of_sites_changes_the_invitation_and_nothing_else() -> None:
    given = plan()
    assert invited(given, None) == (given, ("west", "south"))
    assert invited(given, 2)[0] is given
    changed, names = invited(given, 12)
    assert names[0] == "site-01"
    assert names[-1] == "site-12"
    assert changed.model_copy(update={"sites": given.sites}) == given
    with pytest.raises(UsageError, match=r"1 sites are fewer than the plan's `sites.minimum`, 2"):
        invited(given, 1)


def test_a_plan_for_other_sites_is_read_again_as_a_whole() -> None:
    """What its sites had of their own is left behind, and what it can't be run with is refused."""
    given = plan()
    sites = given.sites.model_copy(
        update={"weights": {"west": 2}, "populations": {"west": "clients"}, "witnesses": 2}
    )
    alone = with_sites(given.model_copy(update={"sites": sites}), (site_name("east"),), 1)
    assert (alone.sites.invite, alone.sites.minimum, alone.sites.witnesses) == (("east",), 1, 1)
    assert (dict(alone.sites.weights), alone.sites.populations) == ({}, None)
    secure = given.model_copy(update={"aggregation": SecureAggregation()})
    assert invited(secure, 10)[0].sites.minimum == sharing_an_honest_site(10, 1)
    with pytest.raises(UsageError, match="against an active adversary at most 128 take part"):
        invited(secure, 129)


@pytest.mark.parametrize("share", [-0.1, 1.0, float("nan")])
def test_a_dropout_is_a_share(share: float) -> None:
    with pytest.raises(UsageError, match="use a share from 0 to below 1"):
        simulate(an_experiment(dropout=share))


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "plan.yaml").write_bytes(plan().canonical)
    (tmp_path / "loans.yaml").write_bytes(CONTRACT.canonical)
    rows = loans(400)
    rows = rows.append_column("branch", [["west", "south"] * 200])
    pq.write_table(rows, tmp_path / "rows.parquet")
    return tmp_path


def left(files: Path, *arguments: str) -> int:
    words = ["simulate", str(files / "plan.yaml"), "--data", str(files / "rows.parquet"), *arguments]
    return ended(*words)


def ended(*words: str) -> int:
    with pytest.raises(SystemExit) as caught:
        run_command(lambda: build()(list(words), standalone_mode=False))
    return int(caught.value.code or 0)


def test_the_command_passes_its_gates_and_writes_its_reports(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = {name: files / name for name in ("r.xml", "r.md", "r.html")}
    code = left(
        files, "--partition", "by:branch", "--assert", "auc >= 0.6", "--assert", "rounds == 3", "--json", "--twice",
        "--junit", str(names["r.xml"]), "--markdown", str(names["r.md"]), "--html", str(names["r.html"]),
    )  # fmt: skip
    assert code == 0
    facts = json.loads(capsys.readouterr().out)
    assert [each["passed"] for each in facts["gates"]] == [True, True]
    assert facts["partition"] == "by the values of column branch"
    assert len(ET.parse(names["r.xml"]).getroot().findall(".//testcase")) == 3
    assert "passed" in names["r.md"].read_text()
    assert "<svg" in names["r.html"].read_text()


def test_a_failed_gate_is_exit_code_1_and_one_sentence(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert left(files, "--assert", "auc >= 0.999", "--assert", "epsilon <= 4", "--assert", "rounds == 3") == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "error: 2 of 3 gates failed: auc >= 0.999, epsilon <= 4" in said
    assert "nothing bounds what the model tells of a person" in said


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["--partition", "by:brunch"], 2, "there is no column 'brunch' in the data; the nearest are branch"),
        (
            ["--partition", "by:branch", "--sites", "5"],
            3,
            "would get no rows; use another column or fewer sites",
        ),
        (["--partition", "dirichlet:0"], 2, "alpha must be a number above 0"),
        (["--assert", "acu >= 0.7"], 2, "auc"),
        (["--assert", "auc is good"], 2, "METRIC OPERATOR NUMBER"),
        (["--sites", "1"], 2, "1 sites are fewer than the plan's `sites.minimum`, 2"),
        (["--dropout", "1.5"], 2, "use a share from 0 to below 1"),
        (["--contract", "/nowhere.yaml"], 2, "/nowhere.yaml does not exist"),
        (["--junit", "/nowhere/report.xml"], 2, "cannot be written to /nowhere/report.xml"),
    ],
)
def test_bad_input_is_one_clear_sentence(
    files: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, sentence: str
) -> None:
    assert left(files, *arguments) == code
    said = " ".join(capsys.readouterr().err.split())
    assert sentence in said
    assert "Traceback" not in said


@pytest.mark.slow
def test_a_campaign_from_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended("simulate", "campaign", "--seeds", "3", "--jobs", "1", "--json") == 0
    assert json.loads(capsys.readouterr().out)["seeds"] == 3
    assert ended("simulate", "campaign", "--seed", "29", "--only", "1", "--json") == 0
    replayed = json.loads(capsys.readouterr().out)
    assert [each["place"] for each in replayed["schedule"]] == [1]
    assert replayed["replay"] == "covenant simulate campaign --seed 29 --only 1"
    assert replayed["trace"]
    for words, sentence in (
        (["--seed", "1", "--only", "77"], "only names 77"),
        (["--seed", "1", "--only", "x"], "use places of the schedule"),
        (["--only", "1"], "name it with --seed"),
    ):
        assert ended("simulate", "campaign", *words) == 2
        assert sentence in " ".join(capsys.readouterr().err.split())


@pytest.mark.slow
def test_a_campaign_that_finds_something_says_how_to_replay_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.simulation.test_campaign import gives_up_dead_drivers

    gives_up_dead_drivers(monkeypatch)
    assert ended("simulate", "campaign", "--seeds", "60", "--jobs", "1") == 1
    said = capsys.readouterr().err
    assert "Replay with: covenant simulate campaign --seed" in said
    assert "breaks runs-end: run-" in said


@pytest.mark.parametrize("which", ["plan", "robustness"])
def test_a_simulation_that_is_terminated_unwinds_like_one_that_is_interrupted(
    tmp_path: Path, which: str
) -> None:
    """A command that found no plan has said so, and by then it knows what to do when it is told to end."""
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        missing = [str(tmp_path / "none.yaml"), "--data", str(tmp_path / "none.parquet")]
        with pytest.raises(SystemExit):
            run_command(lambda: build()(["simulate", which, *missing], standalone_mode=False))
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
