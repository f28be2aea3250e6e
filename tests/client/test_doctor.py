"""`covenant-agent doctor` names cause, evidence and next command of what goes wrong at a site: each fault is planted, by itself, in a real one."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from client.cli.doctor import doctor
from client.cli.halts import halt
from client.doctor import examination
from client.doctor.examination import examine
from client.doctor.findings import Finding, doubtful
from client.operation.state import AgentState, StateFolder
from protos.egress import child_environment
from protos.shell import people
from protos.site import load_site
from simulation.campaign.schedule import (
    Death,
    Delay,
    DiskFull,
    Duplication,
    FlushFails,
    Garbling,
    Loss,
    LyingCoordinator,
    LyingSite,
    Misfortune,
    Replay,
    Rot,
    Skew,
    Snapshot,
    TornWrite,
    Twin,
)
from simulation.campaign.stage import SITES
from simulation.world.world import SERVER
from tests.bank_for_tests import Bank, make_bank
from tests.campaign_for_tests import AFTER_A_SNAPSHOT, struck
from tests.client.test_full_disk import in_a_small_file_system
from tests.contracts import sources_for_tests as places
from tests.tls_for_tests import certificates

WEST = SITES[-1]
Fault = tuple[str, str, str]
"""The check that finds it, words of the finding, and words of what to do next."""


def found(config: Path, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> list[Finding]:
    return list(examine(config, clock=clock))


def require_named(findings: list[Finding], check: str, words: str, then: str) -> Finding:
    """One of the findings is of `check`, not ok, and says `words` and what to do."""
    bad = [each for each in findings if each.level != "ok"]
    named = [each for each in bad if each.check == check and words in each.what]
    assert named, [(each.check, each.what) for each in bad]
    assert then in named[0].next
    return named[0]


# --- faults of the campaign, at a site ---------------------------------------------------------------------------------

OF_A_SITE: Mapping[str, tuple[Misfortune, Fault | None]] = {
    "rot": (Rot(site=WEST, at=60, place=0.0), ("journal", "journal.db is damaged", "covenant-agent reenrol")),
    "snapshot": (Snapshot(site=WEST, taken=2, back=100), ("set back", "was set back to an older copy", "covenant-agent reenrol")),
    "garbling": (Garbling(rate=0.2), ("refusals", "(signature)", "covenant-agent witness")),
    "lying coordinator": (LyingCoordinator(site=WEST, rate=0.6, first=True), ("refusals", "(signature)", "covenant-agent witness")),
    "death": (Death(party=WEST, step=16, down_s=100.0), None),
    "death of the centre": (Death(party=SERVER, step=30, down_s=1.0), None),
    "torn write": (TornWrite(site=WEST, commit=9, share=0.5, down_s=100.0), None),
    "failed flush": (FlushFails(party=WEST, commit=7, written=False), None),
    "full disk": (DiskFull(party=WEST, commit=9, times=2), None),
    "twin": (Twin(site=WEST, at=40), None),
    "loss": (Loss(rate=0.4), None),
    "delay": (Delay(most_s=70.0), None),
    "duplication": (Duplication(rate=0.5), None),
    "replay": (Replay(rate=0.25), None),
    "lying site": (LyingSite(site=SITES[0], kind="stale", rate=0.9), None),
    "clock of the centre": (Skew(seconds=9.0, since=30), None),
}  # fmt: skip
"""What is left at the site once the run is over. Where that is nothing to mend, the doctor says of no record that something is wrong with it."""


def test_every_misfortune_of_the_campaign_is_planted() -> None:
    assert {type(misfortune) for misfortune, _ in OF_A_SITE.values()} == set(Misfortune.__args__)


def records_after(folder: Path, seed: int, *misfortunes: Misfortune) -> list[Finding]:
    """What the doctor says of the records of the site that was struck."""
    with struck(folder, seed, *misfortunes) as left:
        pass
    findings = found(left.federation.sites[WEST].config_file, lambda: left.world.clock.wall(0.0))
    return [each for each in findings if each.check in {"journal", "set back", "refusals", "accounts", "witness"}]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", OF_A_SITE)
def test_a_planted_misfortune_is_named_at_the_site(tmp_path: Path, name: str) -> None:
    misfortune, expected = OF_A_SITE[name]
    more = (AFTER_A_SNAPSHOT,) if isinstance(misfortune, Snapshot) else ()
    findings = [
        each for seed in (1, 2) for each in records_after(tmp_path / str(seed), seed, misfortune, *more)
    ]
    if expected is None:
        assert [each.what for each in findings if each.level == "wrong"] == []
        return
    named = require_named(findings, *expected)
    assert named.evidence
    assert str(tmp_path) in named.next, "the command has the configuration that it is for"


def test_a_journal_that_rotted_is_named_by_its_own_path(tmp_path: Path) -> None:
    """The doctor reads a copy of it, which is nothing to tell people of."""
    findings = records_after(tmp_path, 1, OF_A_SITE["rot"][0])
    damaged = require_named(findings, "journal", "journal.db is damaged", "covenant-agent reenrol")
    assert damaged.level == "wrong"
    assert damaged.what.startswith(str(tmp_path))


# --- the process and its machine ---------------------------------------------------------------------------------------


def run_agent(config: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "client.cli", "run", "--config", str(config)],
        env=child_environment() | {"PYTHONPATH": str(Path(__file__).parents[2])}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


@pytest.mark.slow
def test_an_agent_that_is_cut_off_and_one_that_was_killed_are_told_apart(tmp_path: Path) -> None:
    config = make_bank(tmp_path).config_file("south")
    certificates(tmp_path / "tls", datetime.now(UTC))
    shutil.copy(tmp_path / "tls" / "ca.crt", config.parent)
    folder = StateFolder(config.parent)
    agent = run_agent(config)
    try:
        until = time.monotonic() + 60
        while (state := folder.read()) is None or state.away_because is None:
            assert time.monotonic() < until, "the agent did not say that it cannot reach the SuperLink"
            time.sleep(0.1)
        cut_off = found(config)
    finally:
        os.kill(agent.pid, signal.SIGKILL)
        agent.wait()
    require_named(cut_off, "superlink", "127.0.0.1:1", "run this again")
    assert "cannot be reached" in require_named(cut_off, "agent", "not connected", "covenant-agent doctor").what  # fmt: skip
    assert f"process {agent.pid}" in require_named(found(config), "agent", "ended without a word", "covenant-agent run").evidence  # fmt: skip


def test_why_an_agent_ended_is_told(tmp_path: Path) -> None:
    config = make_bank(tmp_path).config_file("south")
    assert [each.level for each in found(config) if each.check == "agent"] == ["ok"]  # it has not run yet
    ended = AgentState(
        pid=7, version="1", started_at="2026-01-01T00:00:00+00:00", ended_at="2026-01-02T00:00:00+00:00",
        ended_because="appending an answered entry failed (disk I/O error); check the disk",
    )  # fmt: skip
    StateFolder(config.parent).write(ended)
    require_named(found(config), "agent", "disk I/O error", "covenant-agent run")


@pytest.mark.slow
def test_a_disk_that_is_really_full_is_found(tmp_path: Path) -> None:
    if shutil.which("unshare") is None or in_a_small_file_system(tmp_path, "exit 0").returncode:
        pytest.skip("a file system of its own cannot be mounted here (unshare --mount)")
    script = '"$2" -m tests.client.full_disk_for_tests examined "$1"'
    done = in_a_small_file_system(tmp_path, script, sys.executable)
    assert done.returncode == 1, done.stderr
    disk = [each for each in json.loads(done.stdout)["findings"] if each["check"] == "disk"]
    assert [each["level"] for each in disk] == ["wrong"]
    assert "0 MiB free" in disk[0]["evidence"]
    assert "make room on that disk" in disk[0]["next"]


# --- data, contract, policy, accounts ----------------------------------------------------------------------------------


def no_file(bank: Bank) -> None:
    (bank.folder / "south" / "rows.parquet").unlink()


def no_parquet(bank: Bank) -> None:
    (bank.folder / "south" / "rows.parquet").write_bytes(b"loan_id,amount\n1,2\n")


def other_contract(bank: Bank) -> None:
    file = bank.folder / "south" / "loans.yaml"
    file.write_text(file.read_text().replace('"version":1', '"version":2'))


def no_server(bank: Bank) -> None:
    bank.edit("south", "file: rows.parquet", 'url: "postgresql://someone@127.0.0.1:1/core", table: loans')


def no_rules(bank: Bank) -> None:
    text = bank.config_file("south").read_text()
    bank.config_file("south").write_text(text[: text.index("policy:")])


def halted(bank: Bank) -> None:
    with people.capture():
        halt(reason="rows are wrong", everything=True, config=bank.config_file("south"))


def damaged_accounts(bank: Bank) -> None:
    (bank.folder / "south" / "accounts.db").write_bytes(b"no database at all" * 100)
    bank.edit("south", "file: rows.parquet}", "file: rows.parquet, account: {unit: {kind: record}, epsilon: 1.0, delta: 1.0e-5}}")  # fmt: skip


def open_folder(bank: Bank) -> None:
    (bank.folder / "south").chmod(0o755)


PLANTED: Mapping[str, tuple[Callable[[Bank], None], Fault]] = {
    "rows that are not there": (no_file, ("data", "rows.parquet does not exist", "covenant-agent data check loans")),
    "rows in another form": (no_parquet, ("data", "rows.parquet", "covenant-agent data check loans")),
    "a database that does not answer": (no_server, ("data", "cannot be read", "covenant-agent data check loans")),
    "another contract than was agreed": (other_contract, ("contract", "says loans@1, and loans.yaml is loans@2", "right contract")),
    "a policy without rules": (no_rules, ("policy", "takes part in no plan", "privacy officer")),
    "a halt that stands": (halted, ("halts", "have halted everything", "covenant-agent resume")),
    "accounts that are damaged": (damaged_accounts, ("accounts", "accounts.db is damaged", "")),
    "a folder that others may enter": (open_folder, ("permissions", "can look into", "chmod 700")),
}  # fmt: skip


@pytest.mark.parametrize("name", PLANTED)
def test_what_is_wrong_with_a_site_is_named(tmp_path: Path, name: str) -> None:
    plant, fault = PLANTED[name]
    bank = make_bank(tmp_path)
    (bank.folder / "south").chmod(0o700)
    config = bank.config_file("south")
    before = {each.check for each in found(config) if each.level == "wrong"}
    assert fault[0] not in before
    plant(bank)
    assert require_named(found(config), *fault).next


def test_a_table_that_is_not_in_the_database_is_named(tmp_path: Path) -> None:
    bank = make_bank(tmp_path)
    with places.postgres() as url:
        place = f'url: "{places.named(url, "postgresql")}", table: '
        bank.edit("south", "file: rows.parquet", place + "loans")
        missing = require_named(found(bank.config_file("south")), "data", "loans", "covenant-agent data check")  # fmt: skip
        assert missing.level == "wrong"
        places.execute(url, "CREATE TABLE loans (loan_id bigint)")
        assert [each.level for each in found(bank.config_file("south")) if each.check == "data"] == ["ok"]


def test_a_root_that_ends_soon_is_told_before_it_does(tmp_path: Path) -> None:
    config = make_bank(tmp_path).config_file("south")
    ends = json.loads(load_site(config).federation.root.read_text())["root"]["expires"]
    for before, words in ((timedelta(days=3), "ends in"), (timedelta(days=-3), "is past its last day")):
        at = datetime.fromisoformat(ends) - before
        require_named(found(config, lambda at=at: at), "root", words, "ask the officers")  # type: ignore[misc]


def test_what_others_wrote_moves_no_cursor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A refusal quotes what the centre sent."""
    sent = "\x1b[2J[bold]gone[/]"
    monkeypatch.setattr(
        examination, "examine", lambda *_, **__: [doubtful("refusals", sent, evidence=sent, then=sent)]
    )
    doctor(tmp_path / "site.yaml")
    said = capsys.readouterr().err
    assert "\x1b[2J" not in said
    assert said.count("[bold]gone[/]") == 3
