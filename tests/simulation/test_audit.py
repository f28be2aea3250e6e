"""Audits of the code as it is, and of the code with a fault in it: only the second prove the claim wrong.

A fault is planted by a stand-in that lives here. Everything else is the real code; what is random is seeded, so that a result repeats. By the
theorem an audit of right code is above the claim with a probability of at most 5 %, and in fact with far less: what it shows is below
a half of the claim.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from random import Random

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from client.training import local, private
from coordinator.ledger.audits import kept_audits
from coordinator.main import build
from protos.documents import read_document
from protos.plan import Plan
from protos.plan_releases import releases_of
from protos.shell import run_command
from simulation.audit.result import AuditResult
from simulation.audit.run import audit
from simulation.audit.setting import FEWEST, MOST, Audit, audit_of
from simulation.quiet import silence_logs
from strategies.dp import mechanisms
from strategies.dp.accountants import RdpAccountant
from strategies.dp.clipping import clipped_sum
from strategies.dp.noise import NoiseSeed, discrete_gaussian
from strategies.errors import UsageError
from tests.client import loans_for_tests as loans
from tests.simulation.audits_for_tests import CONTRACT, audited, audited_plan

pytestmark = pytest.mark.slow

Plant = Callable[[pytest.MonkeyPatch], None]


@pytest.fixture(autouse=True)
def _quiet() -> None:
    silence_logs()


# --- faults -----------------------------------------------------------------------------------------------------------


def noise_of_another_scale(scale: float) -> Plant:
    """All noise, of sites and centre, is `scale` times what it should be."""

    def unsafe(variance: float, size: int, seed: NoiseSeed) -> np.ndarray:
        return np.rint(discrete_gaussian(variance, size, seed) * scale).astype(np.int64)

    def plant(patch: pytest.MonkeyPatch) -> None:
        patch.setattr(mechanisms, "discrete_gaussian", unsafe)
        patch.setattr(local, "discrete_gaussian", unsafe)

    return plant


def no_clipping(patch: pytest.MonkeyPatch) -> None:
    """Gradients may be 64 times as long as the plan says, which is longer than any is."""

    def unsafe(*given: object, clip: float, **other: object) -> np.ndarray:
        return clipped_sum(*given, clip=64 * clip, **other) * 64

    patch.setattr(private, "clipped_sum", unsafe)
    patch.setattr(local.LocalRule, "clip", lambda rule, dimension: 64 * rule.training.clip)


FAULTS = {
    "no noise": (noise_of_another_scale(0.0), 2, 400),
    "a quarter of the noise": (noise_of_another_scale(0.25), 4, 1000),
    "no clipping": (no_clipping, 4, 400),
}
"""What is wrong, and the rounds and canaries that show it."""


@pytest.fixture(scope="module")
def right() -> AuditResult:
    """The audit of the code as it is."""
    silence_logs()
    return audited(audited_plan(rounds=4), 1, canaries=1000)


@cache
def found(fault: str) -> AuditResult:
    """The audit of the code with a fault planted."""
    plant, rounds, canaries = FAULTS[fault]
    with pytest.MonkeyPatch.context() as patch:
        plant(patch)
        return audited(audited_plan(rounds=rounds), 1, canaries=canaries)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_proves_the_claim_wrong(fault: str) -> None:
    result = found(fault)
    assert result.refuted
    assert result.epsilon > result.claimed.epsilon


def test_right_code_stays_below_its_claim(right: AuditResult) -> None:
    assert not right.refuted
    assert 0 <= right.epsilon < right.claimed.epsilon / 2


def test_equal_secrets_show_equal_numbers() -> None:
    one, again, other = (audited(audited_plan(), seed, canaries=100) for seed in (1, 1, 2))
    assert (one.epsilon, one.guesses, one.power) == (again.epsilon, again.guesses, again.power)
    assert other.power != one.power


@pytest.mark.parametrize(
    ("mode", "sites", "rounds"), [("central", 0, 2), ("distributed", 2, 1), ("local", 0, 1)]
)
def test_every_mode_and_unit_is_audited_against_its_own_claim(
    mode: str, sites: int, rounds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = audited_plan(mode=mode, sites=sites, rounds=rounds)
    as_it_is = audited(plan, 1, canaries=200)
    assert not as_it_is.refuted
    assert as_it_is.claimed.unit == plan.privacy.unit.unit
    noise_of_another_scale(0.0)(monkeypatch)
    assert audited(plan, 1, canaries=300).refuted


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 12))
def test_right_code_stays_below_its_claim_whatever_the_seed(seed: int) -> None:
    result = audited(audited_plan(rounds=4), seed, canaries=600)
    assert result.epsilon < result.claimed.epsilon / 2


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 8))
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_proves_the_claim_wrong_whatever_the_seed(
    fault: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant, rounds, canaries = FAULTS[fault]
    plant(monkeypatch)
    assert audited(audited_plan(rounds=rounds), seed, canaries=canaries).refuted


# --- power and claim --------------------------------------------------------------------------------------------------


def test_what_is_found_is_what_the_power_said(right: AuditResult) -> None:
    power = right.power
    assert right.epsilon == pytest.approx(power.as_planned, abs=0.4)
    assert power.as_planned <= power.at_claim <= power.a_quarter <= power.no_noise <= power.most
    assert found("a quarter of the noise").epsilon == pytest.approx(power.a_quarter, abs=0.6)


def test_the_claim_is_for_the_releases_of_the_audited_rounds() -> None:
    plan = audited_plan(rounds=3)
    result = audit(Audit(plan=plan, contract=CONTRACT, rounds=2, canaries=20), Random(1).randbytes)
    releases = releases_of(plan, CONTRACT)
    charges = {releases.prepare: 1, releases.train: 2}
    assert result.claimed == RdpAccountant().guarantee(charges, 1e-5, plan.privacy.unit.unit)
    assert result.whole.epsilon > result.claimed.epsilon
    assert (result.rounds, result.planned_rounds) == (2, 3)


def test_the_sum_has_no_more_noise_than_the_claim_counts_on() -> None:
    """Of four sites three must stay and one may collude: the noise of two is left."""
    audit_setting = Audit(plan=audited_plan(), contract=CONTRACT, rounds=1, canaries=10)
    assert len(audit_setting.sites) == 2
    assert audit_setting.deviation == pytest.approx(2 * 2**0.5, rel=1e-3)
    locally = Audit(plan=audited_plan(mode="local"), contract=CONTRACT, rounds=1, canaries=10)
    assert len(locally.sites) == 1
    assert locally.deviation == pytest.approx(2 * 6**0.5 * 3**0.5, rel=1e-4)


def test_without_numbers_an_audit_takes_as_many_rounds_and_canaries_as_can_tell() -> None:
    plan = audited_plan(rounds=8)
    chosen = audit_of(plan, CONTRACT)
    assert (chosen.rounds, chosen.canaries) == (8, FEWEST)
    loud = plan.model_copy(
        update={
            "privacy": plan.privacy.model_copy(
                update={"noise": plan.privacy.noise.model_copy(update={"training": 2.5})}
            )
        }
    )
    fewer = audit_of(loud, CONTRACT)
    assert 1 < fewer.rounds < 8
    assert FEWEST <= fewer.needed <= fewer.canaries <= MOST
    assert audit_of(loud, CONTRACT, rounds=fewer.rounds + 1).needed > MOST


def test_what_promises_nothing_is_not_audited() -> None:
    with pytest.raises(UsageError, match="mode none"):
        audit_of(loans.plan(), loans.CONTRACT)
    site = (
        audited_plan()
        .canonical.decode()
        .replace('"unit":{"kind":"record"}', '"unit":{"kind":"site","max_rows":9}')
    )
    site = site.replace('"expected_batch":380,"nominal_rows":400', '"expected_batch":1,"nominal_rows":1')
    site = site.replace('"expected_batch":380', '"expected_batch":1').replace(
        '"nominal_rows":400', '"nominal_rows":1'
    )
    with pytest.raises(UsageError, match="whole sites"):
        audit_of(read_document(site, Plan, "plan.json"), CONTRACT)
    for rounds, canaries, confidence in ((0, 10, 0.9), (5, 10, 0.9), (1, 0, 0.9), (1, 10, 1.0)):
        with pytest.raises(UsageError):
            Audit(
                plan=audited_plan(),
                contract=CONTRACT,
                rounds=rounds,
                canaries=canaries,
                confidence=confidence,
            )


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "plan.yaml").write_bytes(audited_plan(rounds=2).canonical)
    (tmp_path / "loans.yaml").write_bytes(CONTRACT.canonical)
    return tmp_path


def covenant(*words: str) -> int:
    with pytest.raises(SystemExit) as left:
        run_command(lambda: build()(list(words), standalone_mode=False))
    return int(left.value.code or 0)


def _home(files: Path) -> Path:
    """A coordinator's folder, of which an audit needs no more than that it is one."""
    home = files / "home"
    home.mkdir()
    (home / "covenant.yaml").write_text("covenant: coordinator/v1\nfederation: demo\n")
    return home


def test_the_command_tells_claim_bound_and_power(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["privacy", "audit", str(files / "plan.yaml"), "--canaries", "100"]
    assert covenant(*given, "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert "per record" in facts["claimed"]["words"]
    assert 0 <= facts["epsilon_at_least"] < facts["claimed"]["epsilon"] < facts["claimed_for_all"]["epsilon"]
    assert facts["canaries"] == 100
    assert facts["guesses"]["right"] <= facts["guesses"]["made"]
    assert set(facts["power"]) == {
        "exactly_at_the_claim", "noise_as_planned", "a_quarter_of_the_noise", "no_noise", "no_clipping", "every_guess_right",
    }  # fmt: skip
    assert covenant(*given, "--keep", "--home", str(_home(files))) == 0
    (kept,) = kept_audits(files / "home", [facts["plan_digest"]]).values()
    assert kept.claimed.epsilon == facts["claimed"]["epsilon"]
    assert 0 <= kept.epsilon_at_least < facts["claimed"]["epsilon"]
    said = " ".join(capsys.readouterr().err.split())
    assert "does not prove it" in said
    assert "white box" in said


def test_the_command_fails_where_the_claim_is_wrong(
    files: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    noise_of_another_scale(0.0)(monkeypatch)
    assert covenant("privacy", "audit", str(files / "plan.yaml"), "--canaries", "300", "--json") == 1
    captured = capsys.readouterr()
    assert json.loads(captured.out)["refuted"] is True
    assert "do not run this plan" in " ".join(captured.err.split())


def test_canaries_hide_among_rows_that_are_given(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = np.random.default_rng(1)
    columns = {name: source.uniform(0, 100, 200) for name in CONTRACT.columns}
    rows = pa.table(
        {
            "loan_id": [f"loan-{place}" for place in range(200)],
            "customer_id": [f"somebody-{place % 90}" for place in range(200)],
            "status": ["bad", "good"] * 100,
            **columns,
        }
    )
    pq.write_table(rows, files / "rows.parquet")
    given = ["--data", str(files / "rows.parquet"), "--canaries", "100", "--json"]
    assert covenant("privacy", "audit", str(files / "plan.yaml"), *given) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["crowd"] == "given rows"
    assert facts["epsilon_at_least"] < facts["claimed"]["epsilon"]
