"""The commands as a person types them: exit codes, one sentence on stderr, one object on stdout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from client.enrolment.new_site import NewSite
from protos.documents import load_document
from protos.membership import Membership
from protos.root import SignedRoot
from simulation.demo import data
from simulation.officers import ROLES, ROOT_OFFICERS, Officers
from tests.coordinator.cli_for_tests import commands_in


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    data.copy_document(data.PLAN, tmp_path)
    data.copy_document(data.CONTRACT, tmp_path)
    return tmp_path


def covenant(folder: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "coordinator.main", *map(str, arguments)],
        cwd=folder,
        env=os.environ | {"COLUMNS": "300", "COVENANT_HOME": str(folder / "home")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_good_plan_is_checked(folder: Path) -> None:
    done = covenant(folder, "plan", "check", "plan.yaml", "--json")
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert (facts["plan"], facts["parameters"], facts["aggregation"]) == ("lending-default", 74, "secure")
    assert facts["rule"] == "mean"
    assert facts["update_gate"]["update_norm"] is None
    assert 0 < facts["update_gate"]["noise"] < facts["update_gate"]["honest"] < facts["update_gate"]["reach"]


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("  rounds: 60", "  round: 60", "unknown key `training.round`; did you mean `rounds`?"),
        (
            "contract: lending-club@1",
            "contract: lending-club@2",
            "is for contract lending-club@2, but this is lending-club@1",
        ),
        (
            "features:\n  [funded_amnt,",
            "features:\n  [funded_amt,",
            "has no column 'funded_amt'; did you mean 'funded_amnt'?",
        ),
        ("minimum: 3", "minimum: 5", "5 sites must take part but 4 are invited"),
        ("by: loan_id", "by: term", "set evaluation.holdout.by: loan_id"),
    ],
)
def test_a_bad_plan_is_one_sentence_and_exit_code_2(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    old: str,
    new: str,
    sentence: str,
) -> None:
    plan = folder / "plan.yaml"
    assert old in plan.read_text()
    plan.write_text(plan.read_text().replace(old, new))
    code, out, err = commands_in(folder, monkeypatch, capsys)("plan", "check", "plan.yaml", "--json")
    assert (code, out) == (2, "")
    assert sentence in err
    if "unknown key" in sentence:
        line = plan.read_text().splitlines().index(new) + 1
        assert f"line {line}:" in err


def test_no_coordinator_is_told_with_the_remedy(folder: Path) -> None:
    done = covenant(folder, "run", "list")
    assert done.returncode == 2
    assert "covenant init" in done.stderr


@pytest.mark.slow
def test_a_coordinator_that_is_not_running_is_exit_code_4_and_leaves_no_run_behind(folder: Path) -> None:
    federation(folder, "west", "midwest", "northeast", "south")
    Officers(folder / "officers").approve(folder / "plan.yaml")
    done = covenant(folder, "plan", "launch", "plan.yaml")
    assert done.returncode == 4
    assert "covenant up" in done.stderr
    listed = covenant(folder, "run", "list", "--json")
    assert json.loads(listed.stdout) == {"runs": []}


@pytest.mark.slow
def test_a_plan_for_sites_that_are_not_members_is_refused(folder: Path) -> None:
    federation(folder, "west")
    done = covenant(folder, "plan", "launch", "plan.yaml")
    assert done.returncode == 3
    assert "not on member list demo@1" in done.stderr


@pytest.mark.slow
def test_certify_extends_the_list_as_its_next_version(folder: Path) -> None:
    federation(folder, "west")
    enrol(folder, "south")
    officers, members = Officers(folder / "officers"), folder / "home" / "members.json"
    keys = [
        word
        for name in ROOT_OFFICERS[1:]
        for word in ("--key", officers.key(name), "--passphrase-file", officers.passphrase(name))
    ]
    request = folder / "south" / "enrolment.json"
    done = covenant(folder, "site", "certify", request, "--root", officers.root, "--members", members, *keys)
    assert done.returncode == 0, done.stderr
    root = load_document(officers.root, SignedRoot)
    listed = Membership.from_canonical(members.read_bytes().strip()).verify(root).members
    assert (listed.ref, [m.site for m in listed.members]) == ("demo@2", ["south", "west"])
    assert [each.name for each in listed.officers] == sorted(ROLES)
    assert listed.service("log").name == "log"
    assert set(json.loads(covenant(folder, "site", "list", "--json").stdout)["sites"]) == {"south", "west"}


@pytest.mark.slow
def test_neither_a_coordinator_nor_a_root_is_overwritten(folder: Path) -> None:
    federation(folder, "west")
    assert covenant(folder, "init", "home", "--federation", "demo").returncode == 2
    officers = Officers(folder / "officers")
    card = officers.card(ROOT_OFFICERS[0])
    new = ("root", "new", "--federation", "demo", "--key", card, "--quorum", "1", "--out", officers.root)
    assert covenant(folder, *new).returncode == 2


def federation(folder: Path, *sites: str) -> None:
    officers, home = Officers(folder / "officers"), folder / "home"
    officers.make("demo")
    done = covenant(folder, "init", "home", "--federation", "demo")
    assert done.returncode == 0, done.stderr
    (home / "root.json").write_bytes(officers.root.read_bytes())
    for site in sites:
        enrol(folder, site)
    requests = [folder / site / "enrolment.json" for site in sites]
    officers.certify(requests, {"log": home / "log.pub"}, home / "members.json")


def enrol(folder: Path, site: str) -> None:
    home, root = folder / "home", folder / "officers" / "root.json"
    contract, rows = folder / data.CONTRACT, folder / "rows.parquet"
    made = NewSite(
        site=site,
        federation="demo",
        superlink="127.0.0.1:9",
        ca=home / "tls" / "ca.crt",
        root=root,
        contract=contract,
        data=rows,
        purposes=["credit-risk"],
    )
    made.make(folder / site)
    for key in ("site.key", "node.key"):
        assert (folder / site / key).stat().st_mode & 0o777 == 0o600
