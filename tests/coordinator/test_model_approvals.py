"""Officers approve a version: the last word that it takes moves it, all of it is in the log, and an auditor judges it again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Engine

from coordinator.db import writing
from coordinator.deploy.verdicts import verdicts_on
from coordinator.governance.log import append
from coordinator.governance.policies.packs import publish as publish_pack
from coordinator.governance.policies.stage_rules import judge_for_stage
from coordinator.registry import approvals
from coordinator.registry.approvals import standing
from protos.log_audit import AuditRefused, audit
from protos.log_entries import LogEntry
from protos.log_registry import ModelApproved
from protos.membership import Role
from protos.model_stages import Stage
from strategies.errors import Refused, UsageError
from strategies.ids import Digest
from tests.coordinator.gate_for_tests import held_back
from tests.coordinator.private_for_tests import Templates, templates
from tests.coordinator.recovery_for_tests import empty, replayed, told
from tests.coordinator.registry_for_tests import GATED, NAME, Registry
from tests.coordinator.test_log_export import log_of, pinned_by
from tests.policies_for_tests import pack, rule, signed

__all__ = ["empty", "templates"]


@pytest.fixture
def registry(templates: Templates) -> Iterator[Registry]:
    federation = templates.copy(GATED)
    yield Registry.of(federation)
    federation.close()


def kinds(registry: Registry) -> list[str]:
    return [LogEntry.from_canonical(each.body).what.kind for each in log_of(registry.federation).entries()]


def audited(registry: Registry) -> Any:
    return audit(
        (each.body for each in log_of(registry.federation).entries()), pinned_by(registry.federation)
    )


def test_the_last_approval_that_it_takes_moves_the_version(registry: Registry, empty: Engine) -> None:
    registry.go(Stage.VALIDATED)
    assert registry.approve("privacy-1", Role.PRIVACY_OFFICER).stage is Stage.VALIDATED
    found = standing(registry.federation.engine, registry.version, registry.listed.trusted)
    assert found.words == "validated, 1 of 2 approvals"
    assert [each.could for each in found.missing] == [("risk-1", "risk-2")]
    assert registry.approve("risk-1", Role.MODEL_RISK).stage is Stage.APPROVED
    assert kinds(registry)[-5:] == ["gate", "model-moved", "model-approved", "model-approved", "model-moved"]
    story = audited(registry).registry.versions[NAME, 1]
    assert story.stage is Stage.APPROVED
    assert [each.officer for each in story.approvals] == ["privacy-1", "risk-1"]
    replayed(
        empty, [each.body for each in log_of(registry.federation).entries()], pinned_by(registry.federation)
    )
    assert told(empty) == told(registry.federation.engine)


def test_an_approval_names_the_verdict_that_the_version_was_validated_on(registry: Registry) -> None:
    registry.go(Stage.VALIDATED)
    (verdict,) = verdicts_on(registry.federation.engine, NAME, 1)
    assert registry.subject().on == verdict.digest
    held_back(registry.federation.centre, NAME, 1)  # a later one, which moves nothing
    assert registry.subject().on == verdict.digest
    registry.approve("privacy-1", Role.PRIVACY_OFFICER)
    audited(registry)


def test_handed_in_again_it_changes_nothing(registry: Registry) -> None:
    registry.go(Stage.VALIDATED)
    statement = registry.say("privacy-1", Role.PRIVACY_OFFICER)
    for _ in range(2):
        approvals.approve(registry.federation.centre, statement, registry.listed)
    assert kinds(registry).count("model-approved") == 1


def test_what_does_not_count_is_refused_and_not_recorded(registry: Registry) -> None:
    centre, listed = registry.federation.centre, registry.listed
    registry.go(Stage.VALIDATED)
    subject = registry.subject()
    registry.approve("risk-2", Role.PRIVACY_OFFICER)
    before = kinds(registry)
    for statement, reason in (
        (registry.say("risk-2", Role.MODEL_RISK), "has approved private@1 already, as privacy_officer"),
        (registry.say("risk-1", Role.MODEL_RISK, key="stranger"), "is not signed with the key"),
        (
            registry.say("risk-1", Role.MODEL_RISK, replace(subject, digest=Digest("00" * 32))),
            "about the files",
        ),
        (registry.say("risk-1", Role.MODEL_RISK, replace(subject, on=Digest("00" * 32))), "was given on"),
        (registry.say("engineer-1", Role.MODEL_RISK), "engineer-1 is ml_engineer"),
        (
            registry.say("risk-1", Role.MODEL_RISK, replace(subject, author="privacy-1")),
            "as the plan's author",
        ),
    ):
        with pytest.raises(Refused, match=reason):
            approvals.approve(centre, statement, listed)
    with pytest.raises(UsageError, match="private@2 is not registered"):
        approvals.approve(
            centre, registry.say("risk-1", Role.MODEL_RISK, replace(subject, version=2)), listed
        )
    assert kinds(registry) == before
    assert registry.version.stage is Stage.VALIDATED


@pytest.mark.parametrize(
    "stages", [(), (Stage.QUARANTINED,), (Stage.VALIDATED, Stage.QUARANTINED), (Stage.RETIRED,)]
)
def test_only_a_validated_version_is_approved(stages: tuple[Stage, ...], registry: Registry) -> None:
    registry.go(Stage.VALIDATED, Stage.QUARANTINED, Stage.CANDIDATE, Stage.VALIDATED)
    statement = registry.say("privacy-1", Role.PRIVACY_OFFICER)
    registry.go(Stage.QUARANTINED, Stage.CANDIDATE, *stages)
    with pytest.raises(Refused, match="a version is approved once it is validated"):
        approvals.approve(registry.federation.centre, statement, registry.listed)


def test_after_quarantine_it_is_approved_anew(registry: Registry) -> None:
    assert registry.approved().stage is Stage.APPROVED
    registry.go(Stage.QUARANTINED, Stage.CANDIDATE, Stage.VALIDATED)
    registry.federation.clock.sleep(60.0)
    assert registry.approve("risk-1", Role.MODEL_RISK).stage is Stage.VALIDATED
    assert registry.approve("privacy-1", Role.PRIVACY_OFFICER).stage is Stage.APPROVED
    audited(registry)


def test_unsigned_files_are_never_approved(templates: Templates) -> None:
    federation = templates.copy(GATED)
    registry = Registry.of(federation, key=False)
    registry.go(Stage.VALIDATED)
    with pytest.raises(Refused, match="the files of private@1 are not signed"):
        registry.approve("privacy-1", Role.PRIVACY_OFFICER)
    registry.go(Stage.APPROVED)
    with pytest.raises(AuditRefused, match="nobody has approved this model"):
        audited(registry)
    federation.close()


def test_an_auditor_believes_no_move_without_the_approvals(registry: Registry) -> None:
    registry.go(Stage.VALIDATED)
    registry.approve("privacy-1", Role.PRIVACY_OFFICER)
    registry.go(Stage.APPROVED)
    with pytest.raises(AuditRefused, match="0 of the 1 approvals as model_risk"):
        audited(registry)


def test_an_auditor_believes_no_approval_of_before_again(registry: Registry) -> None:
    registry.approved()
    registry.go(Stage.QUARANTINED, Stage.CANDIDATE, Stage.VALIDATED)
    bodies = [each.body for each in log_of(registry.federation).entries()]
    place = kinds(registry).index("model-approved")
    with pytest.raises(AuditRefused, match="is told twice"):
        audit(
            [*bodies, bodies[-1].replace(*_what(bodies[-1], bodies[place]))], pinned_by(registry.federation)
        )


def _what(of: bytes, other: bytes) -> tuple[bytes, bytes]:
    return of[of.index(b'"what"') :], other[other.index(b'"what"') :]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"officer": "privacy-2"}, "privacy-2 is no officer"),
        ({"role": "model_risk"}, "not model_risk"),
        ({"registry_digest": "00" * 32}, "statement or key was changed"),
        ({"version": 2}, "private@2 is not registered before it"),
    ],
)
def test_an_auditor_judges_what_officers_signed(
    change: dict[str, Any], reason: str, registry: Registry
) -> None:
    registry.approved()
    bodies = [each.body for each in log_of(registry.federation).entries()]
    place = kinds(registry).index("model-approved")
    facts = json.loads(bodies[place])
    facts["what"]["statement"] |= change
    bodies[place] = LogEntry.model_validate_json(json.dumps(facts)).canonical
    with pytest.raises(AuditRefused, match=f"entry {place} .*{reason}"):
        audit(bodies, pinned_by(registry.federation))


def publish(registry: Registry, expression: str) -> None:
    federation = registry.listed.trusted.federation
    what = pack(rule(id="house-rule", applies_to="model", expression=expression, remedy="Look again."))
    centre = registry.federation.centre
    publish_pack(centre, signed(what, centre.clock(), federation=federation), registry.listed)


def test_an_auditor_believes_an_approval_that_the_packs_in_effect_let_pass(registry: Registry) -> None:
    publish(registry, "!model.serves || model.is_signed")
    registry.approved()
    assert kinds(registry)[-2:] == ["judged", "model-moved"]
    assert audited(registry).registry.versions[NAME, 1].stage is Stage.APPROVED
    bodies = [each.body for each in log_of(registry.federation).entries()]
    with pytest.raises(AuditRefused, match="private@1 was not judged for approved by house@1"):
        audit([*bodies[:-2], bodies[-1]], pinned_by(registry.federation))


def test_an_auditor_believes_no_approval_that_a_pack_blocks(registry: Registry) -> None:
    publish(registry, "!model.serves")
    registry.go(Stage.VALIDATED)
    registry.approve("privacy-1", Role.PRIVACY_OFFICER)
    with pytest.raises(Refused, match="cannot become approved: house@1/house-rule"):
        registry.approve("risk-1", Role.MODEL_RISK)
    centre, at = registry.federation.centre, registry.federation.clock.wall()
    with writing(centre.engine, "lying") as session:  # says it, and moves all the same
        told = ModelApproved(statement=registry.say("risk-1", Role.MODEL_RISK))
        append(session, at, [told])
        judge_for_stage(session, NAME, 1, Stage.APPROVED, at)
    registry.go(Stage.APPROVED)
    with pytest.raises(AuditRefused, match="becomes approved, and house@1 blocks it by house-rule"):
        audited(registry)
