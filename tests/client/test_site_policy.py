"""A site's policy as rules that admit a plan whole: what refuses, what is said of it, and that `plan test` finds what the agent finds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from client import cli
from client.admission.consent import kind_of
from client.admission.findings import Outcome, refusals
from client.admission.policy import judge
from client.refusal import TaskRefused
from protos.codec import decode_reply, encode_request
from protos.frames import Refusal, RefusalCode
from protos.plan import Plan
from protos.shell import run_command
from protos.site import SiteConfig
from protos.site_policy import Acceptance
from tests.bank_for_tests import Bank, make_bank
from tests.client.loans_for_tests import CONTRACT, plan
from tests.client.panels_for_tests import CONTRACT as PROTECTING
from tests.client.panels_for_tests import REWEIGHED, panelled
from tests.client.private_for_tests import private_plan
from tests.client.test_champion_scores import PART


@pytest.fixture
def bank(tmp_path: Path) -> Bank:
    return make_bank(tmp_path)


def with_policy(bank: Bank, *rules: dict[str, Any], **beside: Any) -> SiteConfig:
    """The configuration of west with its one rule changed in as many ways as there are `rules`."""
    config = bank.config("west")
    written = config.policy.accept[0].model_dump()
    accept = tuple(Acceptance.model_validate({**written, **rule}) for rule in rules or ({},))
    return config.model_copy(update={"policy": config.policy.model_copy(update={"accept": accept, **beside})})


def refused(config: SiteConfig, of: Plan | None = None) -> list[str]:
    """The rules that refuse."""
    return [each.rule for each in refusals(judge(of or plan(), CONTRACT, config).findings)]


def agent(bank: Bank, *arguments: str) -> int:
    with pytest.raises(SystemExit) as left:
        run_command(
            lambda: cli.app([*arguments, "--config", str(bank.config_file("west"))], standalone_mode=False)
        )
    return left.value.code


def plan_file(bank: Bank, of: Plan | None = None) -> str:
    path = bank.folder / "plan.json"
    path.write_bytes((of or plan()).canonical)
    return str(path)


def test_a_plan_that_one_rule_admits_whole(bank: Bank) -> None:
    verdict = judge(plan(), CONTRACT, bank.config("west"))
    assert not refusals(verdict.findings)
    assert verdict.require() == bank.config("west").policy.accept[0]


def test_a_site_without_rules_takes_part_in_nothing(bank: Bank) -> None:
    config = bank.config("west").model_copy(
        update={"policy": bank.config("west").policy.model_copy(update={"accept": ()})}
    )
    assert refused(config) == ["policy.accept"]
    with pytest.raises(
        TaskRefused, match=r"`policy\.accept` at this site admits purpose nothing; the plan has credit-risk"
    ):
        judge(plan(), CONTRACT, config).require()


NARROWER = {
    "contracts": {"contracts": ["cards@1"]},
    "components": {"components": ["tabular/2"]},
    "plans": {"plans": ["another"]},
    "targets": {"targets": ["amount"]},
    "privacy.modes": {"privacy": {"modes": ["local"]}},
    "aggregation.modes": {"aggregation": {"modes": ["secure"]}},
}


@pytest.mark.parametrize("key", NARROWER)
def test_each_key_of_a_rule_refuses_by_itself(bank: Bank, key: str) -> None:
    assert refused(with_policy(bank, NARROWER[key])) == [f"policy.accept[0].{key}"]


@pytest.mark.parametrize(
    "wider", [{"plans": ["default"]}, {"targets": ["status"]}, {"plans": []}, {"units": ["customer"]}]
)
def test_what_narrows_a_rule_admits_what_it_names(bank: Bank, wider: dict[str, Any]) -> None:
    assert refused(with_policy(bank, wider)) == []


def test_rules_are_not_added_up(bank: Bank) -> None:
    """Each of the two admits the half that the other one does not."""
    halves = ({"contracts": ["cards@1"]}, {"components": ["tabular/2"]})
    assert refused(with_policy(bank, *halves)) == ["policy.accept[0].contracts"]


def test_any_rule_admits(bank: Bank) -> None:
    config = with_policy(bank, {"contracts": ["cards@1"]}, {"purpose": "other"}, {})
    assert judge(plan(), CONTRACT, config).require() == config.policy.accept[2]


def test_the_rule_that_refuses_the_least_is_the_one_that_speaks(bank: Bank) -> None:
    config = with_policy(
        bank, {"contracts": ["cards@1"], "components": ["tabular/2"]}, {"plans": ["another"]}
    )
    assert refused(config) == ["policy.accept[1].plans"]


def test_rules_for_other_purposes_say_nothing(bank: Bank) -> None:
    assert refused(with_policy(bank, {"purpose": "other"}, {"purpose": "marketing"})) == ["policy.accept"]


def test_a_feature_that_the_policy_forbids_whatever_the_rules_say(bank: Bank) -> None:
    """A plan that asks for a protected attribute as a feature."""
    config = with_policy(bank, forbid_features=("term", "postcode"))
    assert refused(config) == ["policy.forbid_features"]
    with pytest.raises(
        TaskRefused, match=r"`policy\.forbid_features` at this site forbids term, which the plan has"
    ):
        judge(plan(), CONTRACT, config).require()
    assert refused(config, plan().model_copy(update={"features": ("amount", "income")})) == []


def test_a_cohort_smaller_than_the_policy_asks_for(bank: Bank) -> None:
    assert refused(with_policy(bank, minimum_cohort=2)) == []
    assert refused(with_policy(bank, minimum_cohort=3)) == ["policy.minimum_cohort"]


def test_a_package_of_another_version_runs_nothing(bank: Bank) -> None:
    config = bank.config("west")
    pinned = {"numpy": ">=2", "torch": "<1", "nowhere-to-be-found": ">=1"}
    allow = config.allow.model_copy(update={"packages": pinned})
    assert refused(config.model_copy(update={"allow": allow})) == [
        "allow.packages.torch",
        "allow.packages.nowhere-to-be-found",
    ]


def test_a_refusal_names_no_version_that_is_installed(bank: Bank) -> None:
    allow = bank.config("west").allow.model_copy(update={"packages": {"numpy": "<1"}})
    verdict = judge(plan(), CONTRACT, bank.config("west").model_copy(update={"allow": allow}))
    with pytest.raises(TaskRefused) as caught:
        verdict.require()
    assert (
        str(caught.value) == "`allow.packages` at this site does not admit the numpy that is installed there"
    )


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("accept:", "forbid_features: [income]\n  accept:"),
        ("accept:", "minimum_cohort: 9\n  accept:"),
        ("purpose: credit-risk", "purpose: other"),
        ("[loans@1]", "[cards@1]"),
        ("modes: [none]", "modes: [local, central]"),
        ("modes: [plain]", "modes: [secure]"),
        ("contract: loans@1,", "contract: cards@1,"),
    ],
)
def test_plan_test_finds_what_the_agent_refuses_and_leaves_with_3(
    bank: Bank, capsys: pytest.CaptureFixture[str], old: str, new: str
) -> None:
    bank.edit("west", old, new)
    said = decode_reply(bank.participant("west").answer(encode_request(bank.request(plan())))).body
    assert isinstance(said, Refusal)
    assert said.code is RefusalCode.POLICY
    assert agent(bank, "plan", "test", plan_file(bank)) == 3
    shown = " ".join(capsys.readouterr().err.split())
    assert " ".join(said.reason.split()) in shown


def test_plan_test_explains_every_rule_and_leaves_with_0_where_all_pass(
    bank: Bank, capsys: pytest.CaptureFixture[str]
) -> None:
    assert agent(bank, "plan", "test", plan_file(bank), "--json") == 0
    told = json.loads(capsys.readouterr().out)
    outcomes = {each["rule"]: each["outcome"] for each in told["findings"]}
    assert told["takes_part"] is True
    assert outcomes["policy.accept[0].approvals"] == Outcome.OPEN
    assert (
        outcomes["policy.accept[0].privacy.modes"]
        == outcomes["run.window"]
        == outcomes["policy.forbid_features"]
        == Outcome.PASSES
    )
    assert {"plan", "site", "policy.accept", "data", "components", "policy.accept.confirm"} <= outcomes.keys()


def test_plan_test_of_a_plan_that_does_not_fit_its_contract(
    bank: Bank, capsys: pytest.CaptureFixture[str]
) -> None:
    misfit = plan().model_copy(update={"features": ("amount", "status")})
    assert agent(bank, "plan", "test", plan_file(bank, misfit)) == 3
    assert "status is the target of loans@1; the target is never a feature" in " ".join(
        capsys.readouterr().err.split()
    )


def test_plan_test_changes_nothing_at_the_site(bank: Bank) -> None:
    before = {path: path.read_bytes() for path in (bank.folder / "west").iterdir() if path.is_file()}
    agent(bank, "plan", "test", plan_file(bank))
    assert {path: path.read_bytes() for path in (bank.folder / "west").iterdir() if path.is_file()} == before


def test_a_champion_reads_no_column_that_the_policy_forbids_and_is_something_new(bank: Bank) -> None:
    """Also one that the plan's own model does not read."""
    base = plan().model_copy(update={"features": ("amount", "income")})
    part = PART.model_copy(update={"features": ("term",)})
    compared = base.model_copy(update={"evaluation": base.evaluation.model_copy(update={"champion": part})})
    config = with_policy(bank, forbid_features=("term",))
    assert refused(config, base) == []
    assert refused(config, compared) == ["policy.forbid_features"]
    with pytest.raises(
        TaskRefused, match=r"forbids term, which the plan has among its features or those of champion older@3"
    ):
        judge(compared, CONTRACT, config).require()
    assert kind_of(compared, CONTRACT) != kind_of(base, CONTRACT)


def test_where_counts_are_exact_each_champion_is_something_new() -> None:
    """A chosen model whose bins single out one record is a question about it, which noise answers with a bound and exact counts with the truth."""
    probe = PART.model_copy(update={"weights": "ab" * 32})

    def kinds(base: Plan) -> list[str]:
        parts = (PART, PART.model_copy(update={"scaling": "cd" * 32}), probe)
        sections = (base.evaluation.model_copy(update={"champion": part}) for part in parts)
        return [kind_of(base.model_copy(update={"evaluation": each}), CONTRACT) for each in sections]

    exempt = private_plan({"training: 1.5, evaluation: 2.0}": "training: 1.5}\n  exempt: [evaluation]"})
    assert len(set(kinds(private_plan()))) == 1
    assert len(set(kinds(exempt))) == 3
    assert len(set(kinds(plan()))) == 3


def test_a_plan_reads_no_protected_attribute_that_a_rule_does_not_name(bank: Bank) -> None:
    """New plans may count groups; a policy that was written before there were such does not let them."""
    judged = {
        admitted: {
            each.rule: each
            for each in refusals(
                judge(panelled(), PROTECTING, with_policy(bank, {"protected": admitted})).findings
            )
        }
        for admitted in ((), ("sex",), ("sex", "veteran"))
    }
    rule = "policy.accept[0].protected"
    assert "reads protected attribute sex, veteran" in str(judged[()][rule].reason)
    assert "reads protected attribute veteran" in str(judged["sex",][rule].reason)
    assert rule not in judged["sex", "veteran"]
    reweighed = panelled("none", REWEIGHED)
    assert reweighed.protected_columns == ("sex", "veteran")
    bare = plan()
    only = bare.model_copy(
        update={"training": bare.training.model_copy(update={"reweigh": reweighed.training.reweigh})}
    )
    assert rule in refused(with_policy(bank), only)
    assert rule not in refused(with_policy(bank), bare)
