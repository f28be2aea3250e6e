"""`covenant policy` as officers type it, at the coordinator's machine and over the control API."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from coordinator.governance.policies.rejudge import take_effect
from protos.policy_pack import PackStatements
from strategies.errors import Refused
from tests.coordinator.api_for_tests import Bank, approved, authored, plan_of, serving
from tests.coordinator.cli_for_tests import Command, commands_in, facts_of
from tests.coordinator.test_runbooks import RUNBOOKS, commands_of
from tests.private_plan_for_tests import CONTRACT, PLAN
from tests.trust_for_tests import key_of

PACK = """\
covenant: policy-pack/v1
name: house
version: 1
effective_from: 2026-01-01T00:00:00Z
reason: a first pack
rules:
- id: few-rounds
  applies_to: plan
  severity: blocking
  says: It trains at most 10 rounds.
  expression: plan.rounds <= 10
  contributes_to: [validation-dossier]
  acts: ml_engineer
  remedy: Plan fewer rounds.
"""


@pytest.fixture
def bank(tmp_path: Path) -> Iterator[Bank]:
    yield from serving(tmp_path)


@pytest.fixture
def covenant(
    bank: Bank, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    (tmp_path / "pack.yaml").write_text(PACK)
    (tmp_path / "plan.yaml").write_text(PLAN)
    (tmp_path / "lending-club.yaml").write_text(CONTRACT)
    (tmp_path / "root.json").write_bytes((bank.centre.settings.root_file).read_bytes())
    for name in ("privacy-1", "risk-1"):
        key_of(name).save(tmp_path / f"{name}.key")
    return commands_in(tmp_path, monkeypatch, capsys)


def signs(covenant: Command, name: str, role: str) -> tuple[int, str, str]:
    return covenant(
        "policy", "sign", "pack.yaml", "--as", role, "--officer", name, "--key", f"{name}.key",
        "--root", "root.json", "--yes",
    )  # fmt: skip


def both_sign(covenant: Command) -> None:
    for name, role in (("privacy-1", "privacy_officer"), ("risk-1", "model_risk")):
        code, _, err = signs(covenant, name, role)
        assert code == 0, err


def test_a_pack_goes_from_its_draft_to_the_plans_that_it_blocks(covenant: Command, bank: Bank) -> None:
    code, _, err = covenant("plan", "check", "plan.yaml")
    assert (code, "no policy pack is in effect: nothing blocks" in err) == (0, True)
    assert facts_of(covenant, "policy", "check", "pack.yaml")["signed_by"] == []
    code, _, err = covenant("policy", "publish", "pack.yaml")
    assert (code, "is not signed as privacy_officer (nobody has signed it)" in err) == (3, True)
    both_sign(covenant)
    what = plan_of()
    bank.desk("author-1").propose(what, authored(what))
    (effect,) = facts_of(covenant, "policy", "simulate", "pack.yaml")["effects"]
    assert (effect["blocked"], effect["verdicts"][0]["outcome"]) == (True, "fails")
    assert facts_of(covenant, "policy", "list")["packs"] == []
    assert facts_of(covenant, "policy", "publish", "pack.yaml")["state"] == "in effect"
    take_effect(bank.centre)
    code, _, err = covenant("plan", "check", "plan.yaml")
    assert code == 3
    assert "ok lending-default" in err
    assert "few-rounds" in err
    assert "ml_engineer: Plan fewer rounds." in err
    assert "is blocked by house@1" in err
    code, _, err = covenant("policy", "show", "house")
    assert code == 0
    assert "signed by privacy-1 (privacy_officer), risk-1 (model_risk)" in err
    assert "house@1 is in effect; 1 plans and models were judged by it" in err
    assert "fails; ml_engineer: Plan fewer rounds." in err
    assert "house@1" in covenant("policy", "list")[2]
    assert covenant("policy", "judge", "plan.yaml")[0] == 3
    assert covenant("policy", "judge", what.plan.digest)[0] == 3
    facts = json.loads(covenant("policy", "judge", "plan.yaml", "--json")[1])
    assert facts["judged"][0]["blocked"]
    code, _, err = covenant("plan", "launch", "plan.yaml")
    assert code == 3


@pytest.mark.slow
def test_an_export_is_judged_again_by_whoever_has_cel(covenant: Command, bank: Bank) -> None:
    both_sign(covenant)
    covenant("policy", "publish", "pack.yaml")
    what = plan_of()
    bank.desk("author-1").propose(what, authored(what))
    take_effect(bank.centre)
    covenant("log", "export", "log.jsonl")
    found = facts_of(covenant, "policy", "recheck", "log.jsonl", "--root", "root.json")
    assert found == {"judgements": 1, "packs": 1, "agrees": True}
    facts = facts_of(covenant, "log", "verify", "log.jsonl", "--root", "root.json")
    assert [(each["pack"], each["in_force"]) for each in facts["policies"]] == [("house@1", True)]
    assert (
        "policy pack house@1 from 2026-01-01 00:00 UTC: everything was judged by it"
        in covenant("log", "verify", "log.jsonl", "--root", "root.json")[2]
    )
    assert "lending-default" in covenant("log", "show")[2]


def test_a_changed_pack_loses_its_signatures(covenant: Command, tmp_path: Path) -> None:
    both_sign(covenant)
    (tmp_path / "pack.yaml").write_text(PACK.replace("<= 10", "<= 100"))
    code, _, err = covenant("policy", "publish", "pack.yaml")
    assert code == 3
    assert "2 signatures in pack.signatures.json are about another pack than this" in err


def test_a_pack_with_an_error_is_refused_with_its_place(covenant: Command, tmp_path: Path) -> None:
    (tmp_path / "pack.yaml").write_text(PACK.replace("plan.rounds <= 10", "plan.rounds <= ten"))
    for command in ("check", "simulate", "publish"):
        code, _, err = covenant("policy", command, "pack.yaml")
        assert code == 2
        assert "pack house@1, rule few-rounds: `expression` line 1, column 16: undeclared reference" in err
    assert signs(covenant, "privacy-1", "privacy_officer")[0] == 2


def test_whoever_signs_is_shown_the_rules_and_signs_in_a_role_that_signs(
    covenant: Command, tmp_path: Path
) -> None:
    code, _, err = signs(covenant, "privacy-1", "privacy_officer")
    assert code == 0
    assert "plan.rounds <= 10" in err
    assert "because: a first pack" in err
    beside = PackStatements.from_canonical((tmp_path / "pack.signatures.json").read_bytes().strip())
    assert [each.officer for each in beside.statements] == ["privacy-1"]
    code, _, err = signs(covenant, "privacy-1", "auditor")
    assert code == 2
    assert "a policy pack is signed as privacy_officer or model_risk, not as auditor" in err


def test_the_shipped_pack_is_written_to_be_changed(covenant: Command, tmp_path: Path) -> None:
    assert covenant("policy", "new", "mine.yaml", "--effective-from", "2027-03-01T00:00:00Z")[0] == 0
    assert "# --- plans" in (tmp_path / "mine.yaml").read_text()
    facts = facts_of(covenant, "policy", "check", "mine.yaml")
    assert (facts["pack"], facts["effective_from"]) == ("baseline@1", "2027-03-01T00:00:00+00:00")
    assert covenant("policy", "new", "mine.yaml", "--effective-from", "2027-03-01T00:00:00Z")[0] == 2
    assert covenant("policy", "new", "other.yaml", "--effective-from", "soon")[0] == 2
    assert not (tmp_path / "other.yaml").exists()


def test_a_check_where_no_coordinator_is_says_so(
    covenant: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("COVENANT_HOME", str(tmp_path / "nowhere"))
    code, _, err = covenant("plan", "check", "plan.yaml")
    assert (code, "judged by no policy pack: no coordinator is here to ask" in err) == (0, True)
    assert facts_of(covenant, "plan", "check", "plan.yaml")["policies"] is None


def test_unknown_names_are_told_with_what_there_is(covenant: Command) -> None:
    assert "no policy pack 'house' is published" in covenant("policy", "show", "house")[2]
    assert "is not registered" in covenant("policy", "judge", "lending-default@1")[2]
    assert "is no stage; use candidate" in covenant("policy", "judge", "a@1", "--stage", "best")[2]
    assert covenant("policy", "judge", "a@b")[0] == 2


def test_officers_publish_list_simulate_and_judge_from_their_own_machines(
    covenant: Command, bank: Bank
) -> None:
    both_sign(covenant)
    what = plan_of()
    bank.desk("author-1").propose(what, authored(what))
    away = ("--access", str(bank.access("risk-1")))
    (effect,) = facts_of(covenant, "policy", "simulate", "pack.yaml", *away)["effects"]
    assert effect["blocked"]
    assert facts_of(covenant, "policy", "publish", "pack.yaml", *away)["pack"] == "house@1"
    assert facts_of(covenant, "policy", "publish", "pack.yaml", *away)["pack"] == "house@1"
    assert len(bank.told("policy")) == 1
    take_effect(bank.centre)
    assert [each["state"] for each in facts_of(covenant, "policy", "list", *away)["packs"]] == ["in effect"]
    (judged,) = facts_of(covenant, "policy", "show", "house@1", *away)["judged"]
    assert (judged["blocked"], judged["verdicts"][0]["acts"]) == (True, "ml_engineer")
    assert facts_of(covenant, "policy", "judge", "plan.yaml", *away, code=3)["judged"][0]["pack"] == "house@1"
    assert facts_of(covenant, "plan", "check", "plan.yaml", *away, code=3)["policies"][0]["blocked"]
    code, _, err = covenant("policy", "judge", "lending-default@1", *away)
    assert (code, "is not registered" in err) == (2, True)
    code, _, err = covenant("policy", "publish", "pack.yaml", "--access", str(bank.access("author-1")))
    assert code == 3
    bank.audited()


def test_a_blocked_launch_over_the_api_is_refused_and_told(covenant: Command, bank: Bank) -> None:
    both_sign(covenant)
    covenant("policy", "publish", "pack.yaml")
    with pytest.raises(Refused, match="blocked by policy pack house@1"):
        bank.desk("author-1").launch(approved(plan_of()))
    (denied,) = bank.told("denied")
    assert "few-rounds" in denied.reason  # type: ignore[union-attr]
    assert bank.transport.started == []


@pytest.mark.slow
def test_the_runbook_and_the_officers_page_say_what_can_be_typed(
    covenant: Command, bank: Bank, tmp_path: Path
) -> None:
    (tmp_path / "centre").symlink_to(tmp_path / "home")
    (tmp_path / "pack.yaml").rename(tmp_path / "house.yaml")
    page = (RUNBOOKS.parent / "privacy-officer" / "policies.md").read_text()
    (first,) = re.findall(r"(?s)```\n(covenant policy new.*?)```", page)
    new, *steps = first.splitlines()
    type_line(covenant, new.replace("house.yaml", "copy.yaml"))
    for line in steps:
        type_line(covenant, f"{line} --yes" if " sign " in line else line)
    sections = commands_of("a-policy-stands-in-the-way.md")
    assert covenant("plan", "check", "plan.yaml")[0] == 3
    for line in sections["See what is blocked, and why"]:
        type_line(covenant, line)
    for line in sections["Change the rule instead"]:
        type_line(covenant, line)
    assert [each.state for each in bank.desk("risk-1").policies.packs()] == ["replaced", "in effect"]


def type_line(covenant: Command, line: str) -> None:
    """As it stands on a page: one that ends with `|| true` is refused."""
    line, refused, _ = line.partition("||")
    program, *arguments = shlex.split(line)
    if program != "covenant":
        subprocess.run(["bash", "-ec", line], check=True)
        return
    code, _, err = covenant(*arguments)
    assert code == (3 if refused else 0), (line, err)
