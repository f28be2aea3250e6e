"""`covenant plan new`, `diff`, `explain` and `matrix`, as they are typed."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from coordinator.bootstrap import Centre, open_centre
from coordinator.settings import load_settings
from protos.documents import load_document
from protos.plan import Plan
from protos.plan_privacy import Privacy
from tests.coordinator.cli_for_tests import (
    SITES,
    Command,
    commands_in,
    facts_of,
    launched,
    make_home,
    open_accounts,
)
from tests.private_plan_for_tests import CONTRACT, write_documents

NOBODY = "approvals: {privacy_officer: 0, model_risk: 0}\n"


@pytest.fixture
def covenant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return commands_in(tmp_path, monkeypatch, capsys)


@pytest.fixture
def centre(tmp_path: Path) -> Centre:
    make_home(tmp_path / "home")
    return open_centre(load_settings(tmp_path / "home"))


def edit(folder: Path, old: str, new: str) -> None:
    plan = folder / "plan.yaml"
    assert plan.read_text().count(old) == 1
    plan.write_text(plan.read_text().replace(old, new))


# --- new


@pytest.mark.parametrize("mode", ["distributed", "central", "local", "none"])
def test_a_new_plan_is_accepted_at_once(mode: str, covenant: Command, centre: Centre, tmp_path: Path) -> None:
    (tmp_path / "lending-club.yaml").write_text(CONTRACT)
    code, out, err = covenant("plan", "new", "bad-loans", "--members", "home/members.json", "--mode", mode)
    assert (code, out) == (0, ""), err
    facts = facts_of(covenant, "plan", "check", "bad-loans.yaml")
    plan = load_document(tmp_path / "bad-loans.yaml", Plan)
    assert facts["digest"] == plan.digest
    assert (plan.name, plan.privacy.mode, plan.aggregation.mode) == ("bad-loans", mode, "secure")
    assert plan.sites.members == "demo@1"
    assert plan.sites.invite == tuple(sorted(SITES))
    assert plan.features == ("funded_amnt", "int_rate", "term")
    assert "# the coordinator sees sums only" in (tmp_path / "bad-loans.yaml").read_text()
    if isinstance(plan.privacy, Privacy):
        assert facts["guarantee"]["epsilon"] <= plan.privacy.limit.epsilon
        assert facts["guarantee"]["epsilon"] > 0.9 * plan.privacy.limit.epsilon  # no more noise than it takes


def test_a_plan_is_not_overwritten(covenant: Command, centre: Centre, tmp_path: Path) -> None:
    (tmp_path / "lending-club.yaml").write_text(CONTRACT)
    (tmp_path / "mine.yaml").write_text("mine")
    code, _, err = covenant("plan", "new", "mine", "--members", "home/members.json")
    assert (code, "mine.yaml exists, and a plan is never overwritten" in err) == (2, True)
    assert (tmp_path / "mine.yaml").read_text() == "mine"


def test_what_a_new_plan_is_made_of_must_be_there(covenant: Command, centre: Centre, tmp_path: Path) -> None:
    code, _, err = covenant("plan", "new", "mine", "--members", "home/members.json")
    assert (code, "name one with --contract" in err) == (2, True)
    (tmp_path / "lending-club.yaml").write_text(CONTRACT)
    assert covenant("plan", "new", "mine")[0] == 2
    assert covenant("plan", "new", "Not A Name", "--members", "home/members.json")[0] == 2
    assert not list(tmp_path.glob("[mN]*.yaml"))


# --- diff


def test_a_plan_is_compared_with_the_one_of_its_name_that_was_launched_last(
    covenant: Command, centre: Centre, tmp_path: Path
) -> None:
    write_documents(tmp_path)
    (tmp_path / "plan.yaml").write_text((tmp_path / "plan.yaml").read_text() + NOBODY)
    assert covenant("plan", "diff", "plan.yaml")[0] == 2  # none was launched
    open_accounts(centre, 60.0)
    launched(centre, tmp_path, 1)
    time.sleep(0.01)
    edit(tmp_path, "seed: 1", "seed: 2")
    launched(centre, tmp_path, 2)
    code, _, err = covenant("plan", "diff", "plan.yaml")
    assert (code, "nothing changed" in err) == (0, True)
    edit(tmp_path, "minimum: 3", "minimum: 4")
    edit(tmp_path, "training: 1.0,", "training: 0.9,")
    edit(tmp_path, "limit: {epsilon: 8.0", "limit: {epsilon: 20.0")
    facts = facts_of(covenant, "plan", "diff", "plan.yaml")
    assert facts["old"]["from"] == "run-0000000000000002"
    assert {each["field"]: each["loosens"] for each in facts["changes"]} == {
        "sites.minimum": False,
        "privacy.noise.training": True,
        "privacy.limit.epsilon": True,
    }
    assert facts["cost"]["new"]["epsilon"] > facts["cost"]["old"]["epsilon"]
    assert facts["loosens"]
    code, out, err = covenant("plan", "diff", "plan.yaml")
    assert (code, out) == (0, "")
    for words in (
        "who takes part\n  - The fewest sites in a sum: 4, where it was 3.\n",
        "  - The noise multiplier of training: 0.9, where it was 1.  <- protects less\n",
        "3 changes, of which 2 protect less",
        "The whole plan cost epsilon ",
    ):
        assert words in err


def test_two_files_are_compared_without_a_coordinator(covenant: Command, tmp_path: Path) -> None:
    write_documents(tmp_path)
    (tmp_path / "before.yaml").write_text((tmp_path / "plan.yaml").read_text())
    edit(tmp_path, "adversary: active", "adversary: semi-honest")
    facts = facts_of(covenant, "plan", "diff", "plan.yaml", "before.yaml")
    assert [(each["field"], each["old"], each["new"], each["loosens"]) for each in facts["changes"]] == [
        ("aggregation.adversary", "active", "semi-honest", True)
    ]


# --- explain and matrix


def test_a_plan_is_explained_on_a_page(covenant: Command, tmp_path: Path) -> None:
    write_documents(tmp_path)
    code, out, err = covenant("plan", "explain", "plan.yaml", "--out", "page.md")
    assert (code, out) == (0, "")
    page = (tmp_path / "page.md").read_text()
    for line in page.splitlines():
        assert line in err
    facts = facts_of(covenant, "plan", "explain", "plan.yaml")
    assert [f"## {each['title']}" for each in facts["sections"]] == [
        line for line in page.splitlines() if line.startswith("## ")
    ]
    explained = facts_of(covenant, "privacy", "explain", "plan.yaml")
    assert explained["figures"]["whole"]["words"] in page
    assert covenant("plan", "explain", "plan.yaml", "--out", "page.md")[0] == 2


def test_the_matrix_says_why_not_and_what_instead(covenant: Command) -> None:
    code, out, _ = covenant("plan", "matrix", "--json")
    assert code == 0
    cells = json.loads(out)["cells"]
    assert sum(each["allowed"] for each in cells) == 13
    code, out, err = covenant("plan", "matrix")
    assert (code, out) == (0, "")
    for each in cells:
        if not each["allowed"]:
            assert each["refusal"] in err
