"""The first hour as its page has it: the commands are typed as they stand there, and the site is in a round within five minutes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path
from tempfile import mkdtemp

import pyarrow.parquet as pq
import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from coordinator.cli.invitations import invite, requests
from coordinator.cli.sites import certify
from coordinator.db.schema import Round, RoundState
from coordinator.governance.exports import export_log, newest_witnesses
from coordinator.governance.log import open_log
from coordinator.runs import launch, stop
from protos.contract import Contract
from protos.documents import load_document
from protos.egress import child_environment
from protos.invitation import Invitation
from protos.plan import Plan
from protos.shell import people
from simulation.demo import data
from simulation.demo.accounts import account_option, open_accounts
from simulation.deployment import Deployment, free_port
from strategies.ids import RunId, SiteName

PAGE = Path(__file__).parents[2] / "docs/site-it/first-hour.md"
NEW = SiteName("west")
MOST_S = 300.0


def commands() -> list[str]:
    """The lines of the page's code blocks, for the site `west`."""
    blocks = re.findall(r"(?s)```\n(.*?)```", PAGE.read_text())
    return [re.sub(r"\bnorth\b", NEW, line) for line in "".join(blocks).splitlines() if line]


def typed(folder: Path, line: str) -> subprocess.CompletedProcess[str]:
    """A line in a shell whose `covenant-agent` is this installation's."""
    shim = f'covenant-agent() {{ {sys.executable} -m client.cli "$@"; }}\n'
    environment = child_environment() | {"PYTHONPATH": str(PAGE.parents[2])}
    return subprocess.run(
        ["bash", "-ec", shim + line],
        cwd=folder,
        capture_output=True,
        check=False,
        text=True,
        env=environment,
        timeout=MOST_S,
    )


@pytest.mark.slow
@pytest.mark.engine
def test_a_site_that_follows_the_page_is_in_a_round_within_five_minutes(tmp_path: Path) -> None:
    tables = data.regional_loans()
    folder = tmp_path / "it"
    folder.mkdir()
    pq.write_table(tables[NEW], folder / "rows.parquet")
    plan_file = data.copy_document(data.PLAN, tmp_path)
    plan_file.write_text(plan_file.read_text().replace("demo@1", "demo@2"))
    contract_file = data.copy_document(data.CONTRACT, tmp_path)
    plan, contract = load_document(plan_file, Plan), load_document(contract_file, Contract)
    with Deployment(tmp_path / "federation", enrolment_port=free_port()) as deployment:
        deployment.lay_out(
            {site: table for site, table in tables.items() if site != NEW},
            contract_file,
            purpose=plan.purpose,
            privacy=[plan.privacy.mode],
            account=account_option(plan, contract, (plan,)),
        )
        for site in set(tables) - {NEW}:  # their people know the new site to be real
            config = deployment.site_folder(site) / "site.yaml"
            config.write_text(re.sub(r"recognise: \[(.*?)\]", rf"recognise: [\1, {NEW}]", config.read_text()))
        open_accounts(deployment, plan, contract, (plan,))
        deployment.start_coordinator()
        for site in set(tables) - {NEW}:
            deployment.start_agent(site)
        deployment.wait_until_ready()
        with people.capture():
            invite(NEW, folder / f"{NEW}.invitation", contract_file, 7, None, deployment.home)
        fingerprint = load_document(folder / f"{NEW}.invitation", Invitation).root.root.fingerprint

        began = time.monotonic()
        *before, run = [line.replace("FINGERPRINT", fingerprint) for line in commands()]
        for line in before:
            done = typed(folder, line)
            if "doctor" in line:
                assert done.returncode == 0, done.stderr
            assert done.returncode == 0, f"{line}\n{done.stderr}"
            if "enroll" in line:
                assert "Tell them this fingerprint" in done.stderr
                _certify(deployment, folder)
                assert "is on member list demo@2" in typed(folder, line).stderr
        survivors = _in_a_round(deployment, folder, plan_file, run)
        first_round_s = time.monotonic() - began
        assert NEW in survivors, (folder / "agent.log").read_text()[-2000:]
        _goes_on_under_a_new_key(deployment, folder)
        survivors = _in_a_round(deployment, folder, _enrolled_again(deployment, folder, contract_file, plan_file), run)  # fmt: skip
        assert NEW in survivors, (folder / "agent.log").read_text()[-2000:]
        assert first_round_s < MOST_S


def _in_a_round(deployment: Deployment, folder: Path, plan_file: Path, line: str) -> list[str]:
    """Who is in the first round of a run that is launched while the page's last command runs."""
    agent = subprocess.Popen(
        [sys.executable, "-m", *line.replace("covenant-agent", "client.cli").split()],
        cwd=folder,
        env=child_environment() | {"PYTHONPATH": str(PAGE.parents[2])},
        stdout=(folder / "agent.log").open("wb"),
        stderr=subprocess.STDOUT,
    )
    try:
        deployment.approve(plan_file)
        centre = deployment.centre()
        _wait_for(deployment, agent, load_document(plan_file, Plan).sites.members)
        run_id = launch(centre, plan_file)
        survivors = _first_round(deployment, run_id)
        stop(centre, run_id)
    finally:
        agent.terminate()
        agent.wait(90)  # it stays up to a minute for the sum that the stop has left in its hand
    return survivors


def _enrolled_again(deployment: Deployment, folder: Path, contract_file: Path, plan_file: Path) -> Path:
    """The site comes in under its new key with a new invitation, as the page on standing says; a plan over the list that has it."""
    invitation = folder / "again.invitation"
    with people.capture():
        invite(NEW, invitation, contract_file, 7, None, deployment.home)
    fingerprint = load_document(invitation, Invitation).root.root.fingerprint
    line = f'covenant-agent enroll {invitation.name} --config {NEW}/site.yaml --fingerprint "{fingerprint}"'
    asked = typed(folder, line)
    assert "Tell them this fingerprint" in asked.stderr, asked.stderr
    _certify(deployment, folder)
    assert "is on member list demo@3" in typed(folder, line).stderr
    again = plan_file.with_name("again.yaml")
    again.write_text(plan_file.read_text().replace("demo@2", "demo@3"))
    return again


def _first_round(deployment: Deployment, run: RunId) -> list[str]:
    """Who was in the first round of a run, once it is committed."""
    query = select(Round.survivors).where(
        Round.run_id == run, Round.number == 1, Round.state == RoundState.COMMITTED
    )
    until = time.monotonic() + MOST_S
    while time.monotonic() < until:
        deployment.check()
        with Session(deployment.centre().engine) as session:
            if (survivors := session.scalar(query)) is not None:
                return list(survivors)
        time.sleep(0.5)
    raise AssertionError(deployment.log_of("coordinator").read_text()[-2000:])


def _goes_on_under_a_new_key(deployment: Deployment, folder: Path) -> None:
    """Journal and accounts of the site are lost; the centre's log says what was settled there."""
    centre = deployment.centre()
    log = open_log(centre.engine, centre.settings, centre.clock)
    export_log(log, deployment.federation, folder / "log.export", newest_witnesses(centre))
    site = folder / NEW
    old = (site / "enrolment.json").read_bytes()
    for lost in (*site.glob("journal.db*"), *site.glob("accounts.db*"), *site.glob("log.db*")):
        lost.unlink()
    command = f"covenant-agent reenrol --reason lost --config {NEW}/site.yaml --json"
    assert "get an export of the log" in typed(folder, command).stderr
    done = typed(folder, f"{command} --log log.export")
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["charges_restored"] >= 2  # to prepare, and a round
    assert facts["last_seen"]["sequence"] > 1
    assert (site / "enrolment.json").read_bytes() != old
    assert list(site.glob("site.key.retired-*"))
    shown = json.loads(typed(folder, f"covenant-agent budget --config {NEW}/site.yaml --json").stdout)
    assert shown["accounts"][0]["releases"] == facts["charges_restored"]


def _certify(deployment: Deployment, folder: Path) -> None:
    with people.capture():
        waiting = Path(mkdtemp(dir=folder)) / "requests"
        requests(waiting, deployment.home)
        certify(
            members=deployment.members,
            root=[deployment.officers.root],
            requests=[waiting / f"{NEW}.enrolment.json"],
            key=deployment.officers._keys,
            passphrase_file=deployment.officers._passphrases,
        )


def _wait_for(deployment: Deployment, agent: subprocess.Popen[bytes], members: str) -> None:
    """Until the coordinator has recorded the new list."""
    until = time.monotonic() + 120
    while time.monotonic() < until and agent.poll() is None:
        deployment.check()
        if (
            f"members={members}" in deployment.log_of("coordinator").read_text()
            or f'"{members}"' in deployment.log_of("coordinator").read_text()
        ):
            return
        time.sleep(0.2)
    raise AssertionError(deployment.log_of("coordinator").read_text()[-2000:])
