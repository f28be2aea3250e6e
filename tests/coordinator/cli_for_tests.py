"""The centre's command line within the test's own process: exit codes, stdout and stderr as a shell would see them."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import typer

from coordinator.bootstrap import Centre
from coordinator.cli import register
from coordinator.documents import read_listed, read_plan
from coordinator.ledger.ceilings import Proposal
from coordinator.ledger.store import Ledger
from coordinator.rounds.question import RunDocuments
from coordinator.runs import record
from protos.membership import MemberList, Membership
from protos.shell import people, run_command
from strategies.dp.units import PrivacyUnit, UnitKind
from strategies.ids import RunId, SiteName
from tests.ceilings_for_tests import ONE, Decision, privacy_officers, set_ceiling, site_of
from tests.trust_for_tests import officers

RECORD = PrivacyUnit(kind=UnitKind.RECORD)
SITES = ("west", "midwest", "northeast", "south")

Command = Callable[..., tuple[int, str, str]]


def commands_in(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs a command line in `folder`, whose coordinator is in `home`; exit code, stdout, stderr."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(people, "_width", 400)  # whatever a test before has left it at
    monkeypatch.setenv("COVENANT_HOME", str(folder / "home"))
    app = typer.Typer()
    register(app)

    def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            run_command(lambda: app(list(arguments), standalone_mode=False))
        return (left.value.code, *capsys.readouterr())

    return run


def facts_of(covenant: Command, *arguments: str, code: int = 0) -> dict:
    """What a command prints with --json, if it leaves with `code`."""
    left, out, err = covenant(*arguments, "--json")
    assert left == code, err
    return json.loads(out)


@cache
def membership() -> Membership:
    """A signed list of the plan's sites and of those who decide about accounts."""
    members = tuple(site_of(site) for site in SITES)
    return officers().sign(MemberList(name="demo", version=1, members=members, officers=privacy_officers()))


def make_home(home: Path) -> None:
    """A coordinator whose root and member list are there."""
    home.mkdir(exist_ok=True)
    (home / "covenant.yaml").write_text("covenant: coordinator/v1\nfederation: demo\n")
    officers().save(home)
    (home / "members.json").write_bytes(membership().canonical)


def open_accounts(
    centre: Centre, epsilon: float = 30.0, *, unit: PrivacyUnit = RECORD, **other: float
) -> None:
    """An account at every site, with a ceiling of `epsilon`, or `other` by the site's name; 0 is none."""
    ledger = Ledger(centre.engine, centre.clock)
    for site in SITES:
        if ceiling := other.get(site, epsilon):
            proposal = Proposal(epsilon=ceiling, delta=1e-5, unit=unit, reason="r", order=3)
            decision = Decision(proposal=proposal, officers=ONE)
            set_ceiling(ledger, SiteName(site), "lending-club", decision, read_listed(centre.settings))


def launched(centre: Centre, folder: Path, number: int) -> RunDocuments:
    """Record a run of the plan in `folder`, which reserves all of it."""
    plan, contract = read_plan(folder / "plan.yaml")
    documents = RunDocuments(
        run=RunId(f"run-{number:016x}"), plan=plan, contract=contract, members=membership().canonical
    )
    record(centre, documents)
    return documents
