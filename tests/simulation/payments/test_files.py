"""Payments as files: the same bytes from the same seed, in bounded memory, with documents that every command takes."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from coordinator.documents import read_plan
from coordinator.main import build
from protos.plan_privacy import Privacy
from simulation.partition import ByColumn, deal, read_rows
from simulation.payments.files import DOCUMENTS, PAYMENTS, PLAN, PRIVATE_PLAN, TRUTH, write
from simulation.payments.setting import Setting
from strategies.errors import UsageError
from strategies.ids import site_name

TINY = Setting(banks=3, accounts=300, days=30, fraud_share=0.02, seed=5)
_PEAK = """
import sys
from pathlib import Path
from simulation.bench.memory import peak_memory
from simulation.payments.files import write
from simulation.payments.setting import Setting
write(Setting(banks=1, accounts=50, days=30), Path(sys.argv[1]) / "warm")
with peak_memory() as peak:
    written = write(Setting(banks=1, accounts=int(sys.argv[2]), days=30), Path(sys.argv[1]) / "out")
print(written.payments, peak.mib)
"""


def digests(folder: Path) -> list[str]:
    return [hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in (PAYMENTS, TRUTH)]


def test_the_same_seed_writes_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    for name in ("first", "second"):
        write(TINY, tmp_path / name)
    assert digests(tmp_path / "first") == digests(tmp_path / "second")
    write(Setting(banks=3, accounts=300, days=30, fraud_share=0.02, seed=6), tmp_path / "other")
    assert digests(tmp_path / "first")[0] != digests(tmp_path / "other")[0]


def test_what_is_written_is_counted_and_dealt_by_bank(tmp_path: Path) -> None:
    written = write(TINY, tmp_path)
    rows, truth = read_rows(tmp_path / PAYMENTS), pq.read_table(tmp_path / TRUTH)
    assert written.payments == rows.num_rows == truth.num_rows
    assert written.fraud == sum(truth["fraud"].to_pylist()) > 0
    assert written.labelled == rows["label"].to_pylist().count("fraud") > 0
    sites = [site_name(f"site-{number}") for number in (1, 2, 3)]
    dealt = deal(rows, sites, ByColumn("bank"), target="label", seed=0)
    assert sorted(len(set(part["bank"].to_pylist())) for part in dealt.values()) == [1, 1, 1]


def test_files_that_are_there_are_not_written_over(tmp_path: Path) -> None:
    write(TINY, tmp_path)
    with pytest.raises(UsageError, match="is there already; name another folder"):
        write(TINY, tmp_path)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="name another folder"):
        write(TINY, tmp_path / "file" / "out")


@pytest.mark.parametrize("name", [PLAN, PRIVATE_PLAN])
def test_contract_and_plans_of_the_package_fit(name: str, tmp_path: Path) -> None:
    for each in DOCUMENTS:
        (tmp_path / each).write_bytes((files("simulation.payments") / each).read_bytes())
    plan, contract = read_plan(tmp_path / name)
    assert set(plan.features) <= set(contract.columns) - set(contract.protected or ())
    assert len(plan.sites.invite) == Setting().banks
    assert list(plan.sites.invite) == list(Setting().names)
    assert isinstance(plan.privacy, Privacy) == (name == PRIVATE_PLAN)
    checked = CliRunner().invoke(build(), ["plan", "check", str(tmp_path / name)])
    assert checked.exit_code == 0, checked.output


def test_the_command_writes_and_tells_in_json(tmp_path: Path) -> None:
    out = tmp_path / "payments"
    asked = [
        "simulate",
        "payments",
        "--out",
        str(out),
        "--banks",
        "3",
        "--accounts",
        "90",
        "--days",
        "30",
        "--json",
    ]
    done = CliRunner().invoke(build(), asked)
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["payments"] == pq.read_metadata(out / PAYMENTS).num_rows
    assert told["setting"]["banks"] == 3


@pytest.mark.slow
def test_a_plan_is_simulated_on_what_is_written(tmp_path: Path) -> None:
    write(Setting(banks=8, accounts=640, days=30, fraud_share=0.02, seed=2), tmp_path)
    asked = ["simulate", str(tmp_path / PLAN), "--data", str(tmp_path / PAYMENTS), "--partition", "by:bank"]
    done = CliRunner().invoke(
        build(), [*asked, "--assert", "auc >= 0.85", "--assert", "sites == 8", "--json"]
    )
    assert done.exit_code == 0, done.output


@pytest.mark.slow
def test_eight_times_the_payments_take_the_same_memory(tmp_path: Path) -> None:
    found = {}
    for accounts in (2_000, 16_000):
        folder = tmp_path / str(accounts)
        folder.mkdir()
        done = subprocess.run(
            [sys.executable, "-c", _PEAK, str(folder), str(accounts)],
            check=True,
            capture_output=True,
            text=True,
        )
        found[accounts] = [float(each) for each in done.stdout.split()]
    assert found[16_000][0] > 7 * found[2_000][0]
    # Arrow's allocator keeps some of what it had; all payments at once would take several hundred MiB.
    assert found[16_000][1] < found[2_000][1] + 60
