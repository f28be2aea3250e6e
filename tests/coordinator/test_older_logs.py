"""A log is never written anew, so what an older version recorded is believed, judged again and replayed by this one (`tests/vectors/log/README.md`)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from coordinator.governance.evidence.documents import EvidenceKind, document
from coordinator.governance.evidence.write import story_in
from coordinator.governance.policies.judge import compiled
from coordinator.governance.policies.recheck import recheck
from protos.documents import load_document
from protos.log_audit import Audit, AuditRefused, audit
from protos.log_entries import LogEntry
from protos.log_export import verify_file
from protos.log_policies import PolicyJudged, PolicyPublished
from protos.policy_facts import FACTS, LATER
from protos.policy_pack import PolicyPack
from protos.policy_verdicts import Judgement
from protos.root import SignedRoot
from strategies.encoding import digest_of
from strategies.errors import Refused
from tests.coordinator.recovery_for_tests import empty, replayed
from tests.policies_for_tests import facts_of_plan, pack, rule

__all__ = ["empty"]

LOG = Path(__file__).parents[1] / "vectors" / "log"
EXPORT = LOG / "judged-0.1.0.jsonl"


def pinned() -> SignedRoot:
    return load_document(LOG / "root.json", SignedRoot)


def bodies() -> list[bytes]:
    _, *entries = EXPORT.read_bytes().splitlines()
    return entries


def judgements() -> list[Judgement]:
    found = (LogEntry.from_canonical(each).what for each in bodies())
    return [each.judgement for each in found if isinstance(each, PolicyJudged)]


def test_an_older_log_with_judgements_is_believed_and_judged_again() -> None:
    assert all(not LATER.keys() & each.facts.keys() for each in judgements())
    story: Audit = verify_file(EXPORT, pinned()).story
    stages = [each.facts.get("model.stage") for each in story.policies.told]
    assert stages == ["candidate", "validated", "validated", "approved", None]
    assert recheck(story.policies) == len(stages)


def test_each_fact_that_older_judgements_do_not_have_says_what_it_was_of_their_plans() -> None:
    """A new one without a neutral value would have every older log refused."""
    known = {name for each in judgements() for name in each.facts}
    assert {each.name for each in FACTS if not each.absent} - known == set(LATER)


def test_an_older_log_gives_evidence() -> None:
    story = story_in(EXPORT, pinned(), None, "private@1")
    assert all(list(document(story, kind).facts()) for kind in EvidenceKind)


def test_an_older_log_is_replayed(empty: Engine) -> None:
    replayed(empty, bodies(), pinned())


def changed(change: Callable[[dict[str, Any]], None]) -> list[bytes]:
    """The log with other facts in each judgement, that are given as those that it was judged by."""
    entries = bodies()
    for place, body in enumerate(entries):
        entry = LogEntry.from_canonical(body)
        if isinstance(entry.what, PolicyJudged):
            facts = dict(entry.what.judgement.facts)
            change(facts)
            judged = entry.what.judgement.model_copy(update={"facts": facts, "inputs": digest_of(facts)})
            what = entry.what.model_copy(update={"judgement": judged})
            entries[place] = entry.model_copy(update={"what": what}).canonical
    return entries


@pytest.mark.parametrize("name", LATER)
def test_a_later_fact_is_what_it_is_wherever_it_is_told(name: str) -> None:
    true: Any = LATER[name]
    lie = {"plan.protected": ["sex"], "plan.rule": "median"}.get(name, True)
    audit(changed(lambda facts: facts.update({name: true})), pinned())
    with pytest.raises(AuditRefused, match=f"is judged by {name} "):
        audit(changed(lambda facts: facts.update({name: lie})), pinned())


def test_any_other_fact_is_in_every_judgement() -> None:
    with pytest.raises(AuditRefused, match=r"is judged by plan.sites None, and it is 4"):
        audit(changed(lambda facts: facts.pop("plan.sites")), pinned())


# A rule that reads a fact which its judgement does not have is judged as a coordinator did that knew of no such fact: it does not pass.


def outcome(expression: str, facts: dict[str, Any]) -> str:
    judge = compiled(pack(rule(expression=expression)))
    return judge.judge(judgements()[-1].subject, facts).outcomes()["few-rounds"]


READING = {
    "plan.protected": "plan.protected.size() == 0",
    "plan.explanations": "!plan.explanations",
    "plan.profile": "!plan.profile",
    "plan.rule": "plan.rule == 'mean'",
    "plan.has_gate": "!plan.has_gate",
}


@pytest.mark.parametrize("name", LATER)
@pytest.mark.parametrize("either", ["", " || plan.rounds > 0"])
def test_a_rule_that_reads_a_fact_that_was_left_out_is_not_decided(name: str, either: str) -> None:
    whole = dict(facts_of_plan())
    short = {each: value for each, value in whole.items() if each != name}
    expression = READING[name] + either
    assert outcome(expression, whole) == "passes"
    assert outcome(expression, short) == "error"
    assert outcome("plan.rounds > 0", short) == "passes"
    assert outcome("!plan.has_gate || plan.gate_norm < 4.0", whole) == "passes"


def test_a_judgement_that_leaves_out_what_its_rule_reads_is_not_believed_to_pass() -> None:
    """Whoever only verifies has no evaluator; `covenant policy recheck` finds it."""
    story = audit(bodies(), pinned())
    said = story.policies.told[-1]
    reading: PolicyPack = pack(rule(expression="!plan.has_gate"))
    story.policies.published = {reading.digest: reading}
    story.policies.told = [said.model_copy(update={"pack": reading.digest})]
    with pytest.raises(Refused, match=r"is said to come to passes by rule few-rounds .* comes to error"):
        recheck(story.policies)


def test_the_vector_is_as_it_was_written() -> None:
    """Canonical lines, with both versions of the pack."""
    assert all(LogEntry.from_canonical(each).canonical == each for each in bodies())
    packs = [LogEntry.from_canonical(each).what for each in bodies()]
    assert [each.signed.pack.ref for each in packs if isinstance(each, PolicyPublished)] == [
        "house@1",
        "house@2",
    ]
