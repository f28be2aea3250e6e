"""Models judged by packs: quarantined where a blocking rule stops them, and the log's auditor believes nothing less."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from coordinator.db import writing
from coordinator.deploy.gate import validate
from coordinator.deploy.verdicts import verdicts_on
from coordinator.documents import read_listed
from coordinator.governance.evidence.notes import record
from coordinator.governance.members import Listed
from coordinator.governance.policies.packs import publish as publish_pack
from coordinator.governance.policies.rejudge import judge_now, simulate, take_effect
from coordinator.governance.policies.stage_rules import judge_for_stage, require_stage
from coordinator.registry.publish import publish
from coordinator.registry.stages import move
from coordinator.registry.versions import get_version
from protos.log_audit import AuditRefused, audit
from protos.log_entries import LogEntry
from protos.membership import Officer, Role
from protos.model_notes import NoteKind, state_note
from protos.model_stages import Stage
from protos.policy_pack import PolicyPack
from protos.policy_verdicts import ModelSubject
from protos.root import SignedRoot
from strategies.encoding import canonical_json, digest_of
from strategies.errors import Refused
from tests.coordinator.gate_for_tests import PRIVATE, gated, passed
from tests.coordinator.private_for_tests import Make, Private, Templates, make, private_plan, templates
from tests.coordinator.test_log_export import listed_in, log_of, pinned_by, put, root_keys, signed_by
from tests.coordinator.test_replay import require_same
from tests.policies_for_tests import pack, rule, signed
from tests.trust_for_tests import FAR, key_of

__all__ = ["make", "templates"]

FEW = rule(id="few-sites", applies_to="model", expression="run.fewest_survivors >= 3", remedy="Invite more.")
MANY = rule(id="few-sites", applies_to="model", expression="run.fewest_survivors >= 9", remedy="Invite more.")


Lie = Callable[[list[dict]], list[dict]]


def certified(federation: Private) -> None:
    """Two officers of the two roles that sign packs."""
    roles = {"privacy-1": Role.PRIVACY_OFFICER, "risk-1": Role.MODEL_RISK}
    people = [
        Officer(name=name, roles=(role,), key=key_of(name).public, expires=FAR)
        for name, role in roles.items()
    ]
    pinned = pinned_by(federation)
    newer = signed_by(listed_in(federation).next(officers=people), root_keys(), (), pinned.root)
    put(federation, newer)
    federation.centre.settings.members_file.write_bytes(newer)


def published(federation: Private, what: PolicyPack) -> None:
    listed: Listed = read_listed(federation.centre.settings)
    made = signed(what, federation.centre.clock(), federation=listed.trusted.federation)
    publish_pack(federation.centre, made, listed)


def trained_by(make: Make, changes: dict[str, str] | None = None) -> Private:
    """A federation whose run is done, with one model, and officers who may sign packs."""
    federation = make(changes)
    publish(federation.centre, federation.documents, federation.drive())
    federation.store.finish("completed")
    certified(federation)
    return federation


@pytest.fixture
def trained(make: Make) -> Private:
    return trained_by(make)


def bodies(federation: Private) -> list[bytes]:
    return [each.body for each in log_of(federation).entries()]


def stage(federation: Private) -> Stage:
    return get_version(federation.engine, federation.plan.name, 1).stage


def test_a_model_that_a_blocking_rule_stops_is_quarantined_once_and_the_log_replays(
    trained: Private, tmp_path: Path
) -> None:
    published(trained, pack(FEW))
    take_effect(trained.centre)
    assert stage(trained) is Stage.CANDIDATE
    (effect,) = simulate(trained.centre, pack(MANY, version=2))
    assert (effect.blocked, effect.quarantined) == (True, True)
    assert stage(trained) is Stage.CANDIDATE
    published(trained, pack(MANY, version=2))
    assert take_effect(trained.centre) == ("house@2",)
    assert stage(trained) is Stage.QUARANTINED
    story = audit(bodies(trained), pinned_by(trained))
    (version,) = story.registry.versions.values()
    (moved,) = version.moves
    assert (moved.by, moved.why) == ("a policy pack", "policy pack house@2 blocks it: few-sites")
    kinds = [LogEntry.from_canonical(each).what.kind for each in bodies(trained)]
    assert kinds[-4:] == ["policy", "judged", "model-moved", "policy-in-force"]
    require_same(trained, str(tmp_path))


def test_a_warning_and_a_model_that_is_out_already_change_no_stage(trained: Private) -> None:
    published(trained, pack(MANY.model_copy(update={"severity": "warning"})))
    take_effect(trained.centre)
    assert stage(trained) is Stage.CANDIDATE
    with writing(trained.engine, "moving") as session:
        move(session, trained.plan.name, 1, Stage.RETIRED, why="old", by="x", at=trained.centre.clock())
    published(trained, pack(MANY, version=2))
    take_effect(trained.centre)
    assert stage(trained) is Stage.RETIRED
    audit(bodies(trained), pinned_by(trained))


def test_a_version_is_judged_for_the_stage_that_it_is_to_enter(trained: Private) -> None:
    serving = rule(
        id="signed", applies_to="model", expression="!model.serves || model.is_signed", remedy="Sign it."
    )
    published(trained, pack(serving))
    subject = ModelSubject(name=trained.plan.name, version=1)
    ((_, as_it_is),) = judge_now(trained.centre, subject)
    ((_, to_serve),) = judge_now(trained.centre, subject, Stage.APPROVED)
    assert as_it_is.outcomes() == {"signed": "passes"}
    assert to_serve.outcomes() == {"signed": "fails"}


@pytest.mark.slow
def test_what_moves_a_version_asks_first_and_the_log_has_what_was_said(make: Make, tmp_path: Path) -> None:
    trained = trained_by(make, gated(PRIVATE))
    serving = rule(
        id="signed", applies_to="model", expression="!model.serves || model.is_signed", remedy="Sign it."
    )
    warning = serving.model_copy(update={"id": "noted", "severity": "warning"})
    name, at = trained.plan.name, trained.centre.clock()
    with writing(trained.engine, "asking") as session:
        assert judge_for_stage(session, name, 1, Stage.VALIDATED, at) == ()
    published(trained, pack(serving, warning))
    with writing(trained.engine, "asking") as session:
        (found,) = judge_for_stage(session, name, 1, Stage.VALIDATED, trained.centre.clock())
        require_stage(session, name, 1, Stage.VALIDATED, trained.centre.clock())
    passed(trained.centre, name, 1)
    (verdict,) = verdicts_on(trained.engine, name, 1)
    assert [(each.rule, each.holds) for each in verdict.policies] == [("house@1/signed", True)]
    assert (found.rule, found.holds, found.words) == ("house@1/signed", True, "passes")
    size = len(bodies(trained))
    with (
        pytest.raises(
            Refused, match=r"cannot become approved: house@1/signed \(fails; ml_engineer: Sign it.\)"
        ),
        writing(trained.engine, "asking") as session,
    ):
        require_stage(session, name, 1, Stage.APPROVED, trained.centre.clock())
    assert len(bodies(trained)) == size
    with writing(trained.engine, "asking") as session:
        (found,) = judge_for_stage(session, name, 1, Stage.APPROVED, trained.centre.clock())
    assert not found.holds
    kinds = [LogEntry.from_canonical(each).what.kind for each in bodies(trained)]
    assert kinds[-4:] == ["judged", "gate", "model-moved", "judged"]
    audit(bodies(trained), pinned_by(trained))
    require_same(trained, str(tmp_path))
    for lie, words in (
        (
            _finding({"rule": "house@1/ghost", "holds": True, "words": "passes"}),
            "tells of house@1/ghost, which is no",
        ),
        (_finding(), "does not say of house@1/signed"),
    ):
        entries = lie([json.loads(each) for each in bodies(trained)])
        with pytest.raises(AuditRefused, match=words):
            audit([canonical_json(each) for each in entries], pinned_by(trained))


@pytest.mark.slow
def test_an_auditor_believes_no_move_on_a_judgement_by_facts_of_an_earlier_day(make: Make) -> None:
    """A judgement that is true when it is written, and not made again before the version moves."""
    trained = trained_by(make, gated(PRIVATE))
    name = trained.plan.name
    published(
        trained, pack(rule(id="unstated", applies_to="model", expression="size(model.statements) == 0"))
    )
    with writing(trained.engine, "asking") as session:
        judge_for_stage(session, name, 1, Stage.VALIDATED, trained.centre.clock())
    version = get_version(trained.engine, name, 1)
    said = state_note(
        NoteKind.LIMITATIONS,
        "Many.",
        "risk-1",
        Role.MODEL_RISK,
        key_of("risk-1"),
        model=(name, 1, version.digest),
        federation=read_listed(trained.centre.settings).trusted.federation,
        at=trained.centre.clock(),
    )
    record(trained.centre, said, read_listed(trained.centre.settings))
    validate(trained.centre, version, why="a test", by="risk-1")
    entries = [json.loads(each) for each in bodies(trained)]
    kinds = [each["what"]["kind"] for each in entries]
    assert kinds[-4:] == ["judged", "model-noted", "judged", "gate"]
    audit(bodies(trained), pinned_by(trained))
    told = entries[-1]["what"]["verdict"]
    told["policies"][0].update(holds=True, words="passes")
    told["passed"] = True
    with pytest.raises(AuditRefused, match=r"judged by model\.statements \[\], and it is \['limitations'\]"):
        audit([canonical_json(each) for each in (*entries[:-2], entries[-1])], pinned_by(trained))


# --- what an auditor does not believe

Told = tuple[list[bytes], SignedRoot]


def _finding(*found: dict[str, object]) -> Lie:
    def lie(entries: list[dict]) -> list[dict]:
        _of(entries, "gate")["verdict"]["policies"] = (
            [*_of(entries, "gate")["verdict"]["policies"], *found] if found else []
        )
        return entries

    return lie


def _of(entries: list[dict], kind: str) -> dict:
    return next(each for each in entries if each["what"]["kind"] == kind)["what"]


def _facts(change: Callable[[dict], None]) -> Lie:
    def lie(entries: list[dict]) -> list[dict]:
        found = _of(entries, "judged")["judgement"]
        change(found["facts"])
        found["inputs"] = digest_of(found["facts"])
        return entries

    return lie


def _verdict(**facts: object) -> Lie:
    def lie(entries: list[dict]) -> list[dict]:
        found = _of(entries, "judged")["judgement"]["verdicts"][0]
        for name, value in facts.items():
            if value is None:
                found.pop(name, None)
            else:
                found[name] = value
        return entries

    return lie


def _without(*kinds: str) -> Lie:
    return lambda entries: [each for each in entries if each["what"]["kind"] not in kinds]


def _quarantine(*, on: str | None) -> Lie:
    def lie(entries: list[dict]) -> list[dict]:
        found = _of(entries, "model-moved")
        found.pop("on")
        found.update({} if on is None else {"on": on})
        return entries

    return lie


def _counts(**counts: int) -> Lie:
    return lambda entries: [_of(entries, "policy-in-force").update(counts), entries][1]


def _twice(entries: list[dict]) -> list[dict]:
    return [*entries, next(each for each in entries if each["what"]["kind"] == "policy-in-force")]


def _unsigned(entries: list[dict]) -> list[dict]:
    found = _of(entries, "policy")["signed"]
    found["statements"] = found["statements"][:1]
    return entries


def _changed_rule(entries: list[dict]) -> list[dict]:
    _of(entries, "policy")["signed"]["pack"]["rules"][0]["expression"] = "true"
    return entries


LIES: dict[str, tuple[Lie, str]] = {
    "inputs of other facts": (
        lambda entries: [_of(entries, "judged")["judgement"].update(inputs="ab" * 32), entries][1],
        "it is of other facts",
    ),
    "a fact of the plan": (_facts(lambda facts: facts.update({"plan.rounds": 1})), "plan.rounds"),
    "a fact left out": (_facts(lambda facts: facts.pop("forecast.epsilon")), "forecast.epsilon"),
    "a lower epsilon": (_facts(lambda facts: facts.update({"forecast.epsilon": 0.1})), "forecast.epsilon"),
    "a fact of the approvals": (
        _facts(lambda facts: facts.update({"approvals.roles": ["model_risk"]})),
        "approvals.roles",
    ),
    "a fact that there is not": (_facts(lambda facts: facts.update({"plan.good": True})), "is no fact"),
    "files of the model": (_facts(lambda facts: facts.update({"model.artifacts": []})), "model.artifacts"),
    "a better model": (_facts(lambda facts: facts["model.metrics"].update(auc=0.999)), "model.metrics"),
    "a signature": (_facts(lambda facts: facts.update({"model.is_signed": True})), "model.is_signed"),
    "more survivors": (_facts(lambda facts: facts.update({"run.fewest_survivors": 9})), "fewest_survivors"),
    "more witnesses": (
        _facts(lambda facts: facts.update({"run.witnesses": ["moon"]})),
        "run.witnesses",
    ),
    "a stage that it cannot enter": (
        _facts(lambda facts: facts.update({"model.stage": "deployed"})),
        "is judged as deployed, is candidate, and cannot become that",
    ),
    "a stage that says something else of serving": (
        _facts(lambda facts: facts.update({"model.serves": True})),
        "model.serves",
    ),
    "who must act": (_verdict(acts="admin"), "does not say who must act"),
    "another rule": (_verdict(rule="many-sites"), "by the rules of house@1"),
    "a model that is blocked left where it was": (
        _without("model-moved"),
        "blocks model private@1, which is still candidate",
    ),
    "no judgement, and a quarantine": (_without("judged"), "no judgement of it before asks for that"),
    "no judgement": (_without("judged", "model-moved"), "was not judged by it"),
    "a quarantine for nothing": (_quarantine(on=None), "no judgement of it before asks for that"),
    "a quarantine by another judgement": (
        _quarantine(on="ab" * 32),
        "no judgement of it before asks for that",
    ),
    "fewer models": (
        _counts(models=0),
        "takes effect with 0 plans and 0 models judged, 1 blocked; before it are 0, 1 and 1",
    ),
    "more plans": (_counts(plans=7), "takes effect with 7 plans"),
    "fewer that are blocked": (_counts(blocked=0), "0 blocked; before it"),
    "an unpublished pack": (_without("policy"), "was not published before"),
    "in effect twice": (_twice, "takes effect twice"),
    "a pack that one role signed": (_unsigned, "is not signed as model_risk"),
    "a pack that nobody signed": (_changed_rule, "a pack with one changed value is"),
}


@pytest.fixture(scope="module")
def judged_log(templates: Templates) -> Told:
    federation = templates.copy(private_plan())
    publish(federation.centre, federation.documents, federation.drive())
    federation.store.finish("completed")
    certified(federation)
    published(federation, pack(MANY))
    take_effect(federation.centre)
    return bodies(federation), pinned_by(federation)


@pytest.mark.parametrize("name", LIES)
def test_an_auditor_refuses_a_log_with(name: str, judged_log: Told) -> None:
    lie, words = LIES[name]
    told, pinned = judged_log
    audit(told, pinned)
    entries = lie([json.loads(each) for each in told])
    with pytest.raises(AuditRefused, match=words):
        audit([canonical_json(each) for each in entries], pinned)
