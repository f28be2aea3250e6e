"""Sites that lie, against each defence: without one the attack succeeds, honest sites compute what production computes, and the seed decides the rest."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from random import Random

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from client.data import Table, table_from
from client.secure.inputs import Inputs
from client.training import TrainingSession
from coordinator.main import build
from protos.contract import Contract
from protos.documents import read_document
from protos.frames import Stage, Statement
from protos.plan import Plan
from protos.plan_draft import kind_of, written
from protos.shell import run_command
from simulation.attacks import study as studying
from simulation.attacks.attacked import Outcome, Scenario, UnsafeMaliciousInputs, attacked_run
from simulation.attacks.behaviours import Attack, MaliciousClient
from simulation.attacks.defences import (
    CLIPPING,
    GATE,
    KRUM,
    MEDIAN,
    PLAIN_MEAN,
    TRIMMED,
    Defence,
    LeftOut,
    gate_at,
    ungated,
)
from simulation.attacks.study import Setting, StudyResult, StudyRun, _require_norm, study
from simulation.attacks.tables import legend, table_of
from simulation.attacks.trigger import Trigger, attack_success_rate
from simulation.baselines import pooled_table
from simulation.experiment import Experiment, simulate
from simulation.partition import Even, deal
from simulation.quiet import silence_logs
from simulation.scores import held_out_auc
from simulation.unmasked import SiteInputs, UnmaskedRun
from strategies.encoding import Vector, vector_digest
from strategies.errors import UsageError
from strategies.features import Scaling
from strategies.ids import SiteName, site_name
from strategies.secagg.payloads import Integers
from strategies.secagg.rings import Ring
from tests.client.loans_for_tests import CONTRACT, loans

SITES = tuple(map(site_name, ("east", "north", "ridge", "south", "west")))
ROWS = loans(1500)


RARE = read_document(
    CONTRACT.canonical.decode().replace(
        '"columns":{', '"columns":{"channel":{"type":"category","vocabulary":["branch","web","agent"]},', 1
    ),
    Contract,
    "loans.yaml",
)


def plan(mode: str = "none", contract: Contract = CONTRACT) -> Plan:
    text = written(
        kind_of(mode),
        contract,
        name="tried",
        purpose="x",
        members="demo@1",
        sites=SITES,
        rounds=6,
        epsilon=50,
    )
    return read_document(text.replace("learning_rate: 0.1", "learning_rate: 0.3"), Plan, "plan.yaml")


def setting(**changes: object) -> Setting:
    first = Setting(
        plan=plan(),
        contract=CONTRACT,
        rows=ROWS,
        partitions=(Even(),),
        attacks=(Attack.SCALING,),
        share=0.2,
        seeds=1,
    )
    return replace(first, **changes)  # type: ignore[arg-type]


def tables() -> dict[SiteName, Table]:
    dealt = deal(ROWS, SITES, Even(), target="status", seed=0)
    return {site: table_from(rows, CONTRACT, renamed={}, named=site) for site, rows in dealt.items()}


def scenario(chosen: Plan, clients: dict[SiteName, MaliciousClient] | None = None) -> Scenario:
    return Scenario(
        plan=chosen,
        contract=CONTRACT,
        tables=tables(),
        malicious=clients or {},
        entropy=Random("secrets").randbytes,
    )


def malicious(attack: Attack, gate: float = 1.0) -> MaliciousClient:
    return MaliciousClient(
        attack=attack, sites=5, attackers=1, gate=gate, trigger=Trigger(feature="term", value="long")
    )


@pytest.fixture(scope="module")
def found() -> StudyResult:
    silence_logs()
    return study(setting(attacks=tuple(Attack)))


def cell(result: StudyResult, defence: str, attack: Attack | None) -> StudyRun:
    (only,) = result.of(result.partitions[0], defence, attack)
    return only


def auc(result: StudyResult, defence: str, attack: Attack | None) -> float:
    value = cell(result, defence, attack).auc
    assert value is not None
    return value


# Attacks with their controls.


@pytest.mark.parametrize("defence", [PLAIN_MEAN, CLIPPING])
def test_one_site_of_five_spoils_a_mean_clipped_at_the_sites_or_not(found: StudyResult, defence: str) -> None:
    """The control of everything below, and why clipping at the sites is no defence: it binds those who do it."""
    assert auc(found, defence, None) > 0.7
    assert auc(found, defence, Attack.SCALING) < auc(found, defence, None) - 0.2


@pytest.mark.parametrize("defence", [TRIMMED, MEDIAN, KRUM])
def test_the_same_attack_hardly_moves_a_rule_that_compares(found: StudyResult, defence: str) -> None:
    assert auc(found, defence, Attack.SCALING) > auc(found, PLAIN_MEAN, None) - 0.05


def test_the_gate_ends_the_same_attack_in_the_first_round_and_no_honest_run(found: StudyResult) -> None:
    assert cell(found, GATE, None).ended is None
    scaled = cell(found, GATE, Attack.SCALING)
    assert (scaled.ended, scaled.gated) == (1, True)
    assert scaled.longest > found.gate


def test_whoever_stays_below_the_gate_passes_it(found: StudyResult) -> None:
    """What a gate does not stop: round after round, a little at a time."""
    below = cell(found, GATE, Attack.BELOW_THE_GATE)
    assert below.ended is None
    assert below.longest <= found.gate
    assert auc(found, GATE, Attack.BELOW_THE_GATE) < auc(found, GATE, None)


def test_a_free_rider_ends_nothing(found: StudyResult) -> None:
    for defence in found.seen:
        assert cell(found, defence, Attack.FREE_RIDING).ended is None
        assert auc(found, defence, Attack.FREE_RIDING) > 0.6


@pytest.mark.slow
def test_the_backdoor_opens_for_a_mean_and_not_for_rules_that_compare() -> None:
    """A word that hardly any honest row has: its weight is the attacker's to choose, and the rest of the model stays as good as it was."""
    rare = setting(
        plan=plan(contract=RARE), contract=RARE, rows=with_channels(ROWS), attacks=(Attack.BACKDOOR,)
    )
    made = study(rare)
    assert made.triggers == ("channel = agent",)

    def through(defence: str, attack: Attack | None) -> float:
        share = cell(made, defence, attack).attack_success_rate
        assert share is not None
        return share

    assert through(PLAIN_MEAN, Attack.BACKDOOR) > through(PLAIN_MEAN, None) + 0.1
    assert auc(made, PLAIN_MEAN, Attack.BACKDOOR) > 0.75
    for defence in (TRIMMED, MEDIAN, KRUM):
        assert through(defence, Attack.BACKDOOR) < through(defence, None) + 0.05


@pytest.mark.slow
def test_a_gate_a_fifth_above_honest_updates_ends_the_backdoor_and_one_at_twice_lets_it_through() -> None:
    """As docs/ml-team/robustness.md has it of the demo's loans."""
    chosen, trigger = plan(contract=RARE), Trigger(feature="channel", value="agent")
    dealt = deal(with_channels(ROWS), SITES, Even(), target="status", seed=0)
    rows = {site: table_from(each, RARE, renamed={}, named=site) for site, each in dealt.items()}
    client = MaliciousClient(attack=Attack.BACKDOOR, sites=5, attackers=1, gate=1.0, trigger=trigger)

    def run(gate: float, malicious: dict[SiteName, MaliciousClient]) -> Outcome:
        gated = gate_at(chosen, RARE, gate)
        assert isinstance(gated, Defence)
        return attacked_run(
            Scenario(
                plan=gated.plan,
                contract=RARE,
                tables=rows,
                malicious=malicious,
                entropy=Random("secrets").randbytes,
            )
        )

    def through(outcome: Outcome) -> float:
        judged = pooled_table({site: each for site, each in rows.items() if site != SITES[0]})
        found = attack_success_rate(chosen, RARE, judged, trigger, outcome.model, outcome.scaling)
        assert found is not None
        return found

    honest = run(1.2, {})
    longest = max(honest.norms)
    tight, loose = (run(room * longest, {SITES[0]: client}) for room in (1.2, 2.0))
    assert (tight.ended, tight.gated) == (1, True)
    assert loose.ended is None
    assert through(loose) > through(honest) + 0.1


def with_channels(rows: pa.Table) -> pa.Table:
    """`rows` with a column of words, of which one is at a hundredth of them."""
    words = Random("channels").choices(["branch", "web", "agent"], [60, 39, 1], k=rows.num_rows)
    return rows.append_column("channel", pa.array(words))


# What is played is the production's.


@pytest.mark.parametrize(
    "defence",
    [CLIPPING, *(pytest.param(each, marks=pytest.mark.slow) for each in (PLAIN_MEAN, TRIMMED, MEDIAN, KRUM))],
)
def test_without_attackers_the_model_is_that_of_a_whole_simulated_run_to_the_bit(defence: str) -> None:
    silence_logs()
    (chosen,) = [
        each.plan
        for each in ungated(plan(), CONTRACT, 1)
        if isinstance(each, Defence) and each.name == defence
    ]
    dealt = deal(ROWS, SITES, Even(), target="status", seed=0)
    whole = simulate(Experiment(plan=chosen, contract=CONTRACT, tables=dealt, partition="evenly", seed=7))
    assert vector_digest(attacked_run(scenario(chosen)).model) == whole.model_digest


def test_the_attackers_input_is_all_that_differs() -> None:
    """What a malicious client adds to a sum is its own factor times what it would have added; the others add what they added, to the integer."""
    (chosen,) = [
        each.plan
        for each in ungated(plan(), CONTRACT, 1)
        if isinstance(each, Defence) and each.name == CLIPPING
    ]
    alone = UnmaskedRun(chosen, CONTRACT, tables(), Random("secrets").randbytes)
    scaling, (model, _) = alone.prepare(), alone.initial()
    honest = alone.pooled(Stage.TRAIN, 1, model, scaling).values
    client = MaliciousClient(
        attack=Attack.BACKDOOR, sites=5, attackers=1, gate=1.0, trigger=Trigger(feature="term", value="long")
    )

    def attacking(each: Inputs) -> SiteInputs:
        return UnsafeMaliciousInputs(each, client, lambda: None) if each.site == SITES[0] else each

    attacked = UnmaskedRun(chosen, CONTRACT, tables(), Random("secrets").randbytes, attacking)
    moved = attacked.pooled(Stage.TRAIN, 1, model, scaling).values - honest
    own = tables()[SITES[0]]
    update = TrainingSession(chosen, CONTRACT, own, site=SITES[0]).train(model, scaling, 1)
    np.testing.assert_allclose(moved, update * (5 - 1) / 5, atol=1e-5)


@dataclass
class Recorded:
    """A malicious client's inputs, and what they were in training."""

    inputs: UnsafeMaliciousInputs
    sent: list[Integers] = field(default_factory=list)

    def compute(
        self, said: Statement, model: Vector | None, scaling: Scaling | None
    ) -> tuple[Ring, Integers]:
        ring, integers = self.inputs.compute(said, model, scaling)
        if said.stage is Stage.TRAIN:
            self.sent.append(integers)
        return ring, integers


def test_a_free_rider_of_gradient_sums_sends_zeros_also_where_there_was_an_update() -> None:
    chosen, riders = plan("distributed"), list[Recorded]()

    def riding(each: Inputs) -> SiteInputs:
        if each.site != SITES[0]:
            return each
        last = np.ones(CONTRACT.feature_spec(chosen.features).width + 1)
        riders.append(Recorded(UnsafeMaliciousInputs(each, malicious(Attack.FREE_RIDING), lambda: last)))
        return riders[0]

    run = UnmaskedRun(chosen, CONTRACT, tables(), Random("secrets").randbytes, riding)
    scaling, (model, _) = run.prepare(), run.initial()
    run.pooled(Stage.TRAIN, 1, model, scaling)
    ((sent,),) = [each.sent for each in riders]
    assert len(sent) >= len(model)
    assert not sent.any()
    assert attacked_run(scenario(chosen, {SITES[0]: malicious(Attack.FREE_RIDING)})).ended is None


def test_a_model_of_flipped_labels_says_the_opposite() -> None:
    """Four of five, so that what rows teach shows in the model whatever the fifth does."""
    honest = attacked_run(scenario(plan()))
    flipping = dict.fromkeys(SITES[:4], malicious(Attack.LABEL_FLIPPING))
    flipped = attacked_run(scenario(plan(), flipping))
    judged = pooled_table(tables())
    found = [held_out_auc(plan(), CONTRACT, judged, each.model, each.scaling) for each in (honest, flipped)]
    assert found[0] > 0.7
    assert found[1] < 0.3


@pytest.mark.parametrize("mode", ["distributed", pytest.param("central", marks=pytest.mark.slow)])
def test_one_attacker_drowns_the_noise_of_a_private_plan(mode: str) -> None:
    """Neither clipping nor noise binds a site that lies."""
    chosen = plan(mode)
    honest, attacked = (
        attacked_run(scenario(chosen)),
        attacked_run(scenario(chosen, {SITES[0]: malicious(Attack.SCALING)})),
    )
    assert attacked.norms[0] > 3 * honest.norms[0]


@pytest.mark.slow
def test_a_private_plan_without_attackers_is_the_unmasked_run_to_the_bit() -> None:
    chosen = plan("distributed")
    whole = UnmaskedRun(chosen, CONTRACT, tables(), Random("secrets").randbytes)
    assert np.array_equal(attacked_run(scenario(chosen)).model, whole.train()[0])


# What malicious clients do.


def test_what_attackers_do_to_their_rows() -> None:
    table = tables()[SITES[0]]
    flipped = malicious(Attack.LABEL_FLIPPING).rows(table)
    assert np.array_equal(flipped.target, 1.0 - table.target)
    assert malicious(Attack.SCALING).rows(table) is table
    marked = malicious(Attack.BACKDOOR).rows(table)
    half = np.arange(len(table.keys)) % 2 == 0
    assert set(np.asarray(marked.columns["term"])[half]) == {"long"}
    assert not marked.target[half].any()
    assert np.array_equal(marked.target[~half], table.target[~half])
    assert (
        np.asarray(table.columns["term"])[half].tolist().count("short") > 0
    )  # the table itself is as it was


def test_how_large_what_attackers_send_is() -> None:
    assert malicious(Attack.SCALING).factor(1.0) == -50.0
    assert malicious(Attack.BACKDOOR).factor(1.0) == 5.0
    assert malicious(Attack.BELOW_THE_GATE, gate=2.0).factor(0.5) == -10.0
    assert malicious(Attack.BELOW_THE_GATE).factor(0.0) == 0.0
    assert malicious(Attack.LABEL_FLIPPING).factor(3.0) == 1.0


def test_the_mark_is_a_word_that_hardly_any_row_has() -> None:
    assert Trigger.of(plan(), CONTRACT, tables().values()).feature == "term"
    numbers = plan().model_copy(update={"features": ("amount",)})
    assert Trigger.of(numbers, CONTRACT, tables().values()).words == "amount = 1000.0"


# Which defences there are.


def test_a_private_plan_has_the_defences_of_sums_only() -> None:
    assert [each.name for each in ungated(plan("distributed"), CONTRACT, 1)] == [CLIPPING]


def test_a_defence_that_no_plan_has_is_left_out_and_it_is_said_why() -> None:
    four = plan().model_copy(
        update={"sites": plan().sites.model_copy(update={"invite": SITES[:4], "minimum": 4})}
    )
    (krum,) = [each for each in ungated(four, CONTRACT, 1) if isinstance(each, LeftOut)]
    assert krum.name == KRUM
    assert "takes at least 5 sites" in krum.why


def test_a_gate_whose_norm_no_honest_run_can_give_is_asked_for_before_anything_is_played(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """More sites than secure aggregation takes: only rules are left, and the gate's norm comes from sums."""
    sites = tuple(site_name(f"bank-{number:03}") for number in range(129))
    base = json.loads(plan().canonical) | {"aggregation": {"mode": "plain"}}
    base["sites"] |= {"invite": sites, "minimum": 100}
    many = read_document(json.dumps(base), Plan, "plan.yaml")
    monkeypatch.setattr("simulation.attacks.study.attacked_run", None)
    with pytest.raises(
        UsageError,
        match=r"the gate's norm is taken from honest runs of clipping at the sites, and there are none: .*129.* Give one with --gate",
    ):
        study(setting(plan=many))
    given = setting(plan=many, gate=2.0)
    _require_norm(given, list(ungated(many, CONTRACT, given.attackers)))
    assert isinstance(gate_at(many, CONTRACT, 2.0), LeftOut)


# Shares that are none, and the command.


@pytest.mark.parametrize("share", [0.5, 0.7, 1.0, -0.1, 0.0, float("nan"), float("inf")])
def test_a_share_of_one_half_or_more_is_refused_in_one_sentence(share: float) -> None:
    with pytest.raises(
        UsageError,
        match=r"use a share above 0 and below 0\.5: where one half or more lie, no rule can tell who does",
    ):
        setting(share=share)


def test_a_share_that_rounds_up_to_one_half_is_refused() -> None:
    six = plan().model_copy(
        update={"sites": plan().sites.model_copy(update={"invite": (*SITES, site_name("zenith"))})}
    )
    with pytest.raises(UsageError, match=r"attackers 0\.49 of 6 sites is 3, one half or more"):
        setting(plan=six, share=0.49)
    assert setting(share=0.21).attackers == 2


@pytest.mark.slow
def test_a_seed_gives_the_same_study_again() -> None:
    silence_logs()
    small = setting(attacks=(Attack.BACKDOOR,))
    both = [[replace(each, seconds=0.0) for each in study(small).runs] for _ in range(2)]
    assert [asdict(each) for each in both[0]] == [asdict(each) for each in both[1]]


def test_the_tables_say_what_was_found(found: StudyResult) -> None:
    made = table_of(found, found.partitions[0])
    assert [row[0] for row in made.rows] == [PLAIN_MEAN, CLIPPING, TRIMMED, MEDIAN, KRUM, GATE]
    assert {len(row) for row in made.rows} == {len(made.columns)}
    (gated,) = [row for row in made.rows if row[0] == GATE]
    assert "gate, round 1" in gated
    assert any(f"The gate is an L2 norm of {found.gate:g}" in each for each in legend(found))
    assert any("Attackers are honest about the moments" in each for each in legend(found))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--attackers", "0.5"], "attackers is 0.5; use a share above 0 and below 0.5"),
        (["--attackers", "nan"], "attackers is nan; use a share above 0"),
        (["--attack", "bribery"], "--attack bribery is no attack; use label-flipping, scaling,"),
        (["--gate", "-1"], "gate is -1; use a finite norm above 0"),
    ],
)
def test_the_command_refuses_what_it_cannot_try(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    with pytest.raises(SystemExit) as left:
        run_command(partial(build(), [*command(tmp_path), *arguments], standalone_mode=False))
    assert left.value.code == 2
    assert words in " ".join(capsys.readouterr().err.split())


def test_a_report_that_cannot_be_written_is_refused_before_the_study(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(studying, "study", lambda *_, **__: pytest.fail("the study ran"))
    asked = [*command(tmp_path), "--markdown", str(tmp_path / "nowhere" / "report.md")]
    with pytest.raises(SystemExit) as left:
        run_command(partial(build(), asked, standalone_mode=False))
    assert left.value.code == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "nowhere/report.md (No such file or directory); name another file with --markdown" in said


def command(folder: Path) -> list[str]:
    (folder / "plan.json").write_bytes(plan().canonical)
    (folder / "contract.json").write_bytes(CONTRACT.canonical)
    pq.write_table(ROWS, folder / "rows.parquet")
    files = ["--contract", str(folder / "contract.json"), "--data", str(folder / "rows.parquet")]
    return ["simulate", "robustness", str(folder / "plan.json"), *files]


@pytest.mark.slow
def test_the_command_prints_one_object_and_writes_tables(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "report.md"
    asked = ["--attack", "scaling", "--partition", "even", "--json", "--markdown", str(report)]
    with pytest.raises(SystemExit) as left:
        run_command(partial(build(), [*command(tmp_path), *asked], standalone_mode=False))
    assert left.value.code in {None, 0}
    told = json.loads(capsys.readouterr().out)
    assert len(told["runs"]) == 12
    assert told["attackers"] == 1
    assert "| gate on the sum | sums |" in report.read_text()
