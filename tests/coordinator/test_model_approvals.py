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
from protos.log_audit import AuditRefused, audit
from protos.log_entries import LogEntry
from protos.log_registry_events import ModelApproved
from protos.membership import Role
from protos.model_stages import Stage
from strategies.errors import Refused, UsageError
from strategies.ids import Digest
from tests.coordinator.gate_for_tests import held_back, passed
from tests.coordinator.private_for_tests import Templates, templates
from tests.coordinator.recovery_for_tests import empty, replayed, told
from tests.coordinator.registry_for_tests import GATED, NAME, Registry
from tests.coordinator.test_log_export import log_of, pinned_by
from tests.policies_for_tests import pack, rule, signed
from tests.trust_for_tests import key_of

__all__ = ["empty", "templates"]
DAY = 86400.0


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
    found = registry.standing
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
    passed(registry.federation.centre, NAME, 1)  # a later one, which moves nothing
    assert registry.subject().on == verdict.digest
    registry.approve("privacy-1", Role.PRIVACY_OFFICER)
    audited(registry)


def test_nobody_approves_while_the_newest_verdict_fails(registry: Registry) -> None:
    registry.go(Stage.VALIDATED)
    registry.approve("privacy-1", Role.PRIVACY_OFFICER)
    held_back(registry.federation.centre, NAME, 1)
    before = kinds(registry)
    with pytest.raises(
        Refused, match="private@1 cannot be approved: the gate must pass it, and its newest verdict"
    ):
        registry.approve("risk-1", Role.MODEL_RISK)
    with pytest.raises(Refused, match="private@1 cannot be approved"):
        registry.go(Stage.APPROVED)
    assert kinds(registry) == before
    passed(registry.federation.centre, NAME, 1)
    assert registry.approve("risk-1", Role.MODEL_RISK).stage is Stage.APPROVED
    audited(registry)


def test_an_auditor_believes_no_approval_after_a_verdict_that_fails(registry: Registry) -> None:
    registry.go(Stage.VALIDATED)
    held_back(registry.federation.centre, NAME, 1)
    fails = log_of(registry.federation).size() - 1
    passed(registry.federation.centre, NAME, 1)
    passes = log_of(registry.federation).size() - 1
    registry.approve("privacy-1", Role.PRIVACY_OFFICER)
    registry.approve("risk-1", Role.MODEL_RISK)
    bodies = [each.body for each in log_of(registry.federation).entries()]
    with pytest.raises(AuditRefused, match=r"\(model-approved\): private@1 cannot be approved"):
        audit([each for seq, each in enumerate(bodies) if seq != passes], pinned_by(registry.federation))
    moved = [*bodies[:fails], *bodies[passes:-1], bodies[fails], bodies[-1]]
    with pytest.raises(AuditRefused, match=r"\((?:gate|model-moved)\): "):
        audit(moved, pinned_by(registry.federation))


def test_an_approval_that_is_over_is_given_anew(registry: Registry, empty: Engine) -> None:
    registry.go(Stage.VALIDATED)
    approvals.approve(
        registry.federation.centre, registry.say("privacy-1", Role.PRIVACY_OFFICER, days=2), registry.listed
    )
    registry.federation.clock.sleep(3 * DAY)
    assert registry.standing.words == "validated, 0 of 2 approvals"
    assert registry.approve("risk-1", Role.MODEL_RISK).stage is Stage.VALIDATED
    (missing,) = registry.standing.missing
    assert {"privacy-1", "risk-2"} <= set(missing.could)
    assert registry.approve("privacy-1", Role.PRIVACY_OFFICER).stage is Stage.APPROVED
    audited(registry)
    log = [each.body for each in log_of(registry.federation).entries()]
    replayed(empty, log, pinned_by(registry.federation))
    assert told(empty) == told(registry.federation.engine)


def test_another_approves_in_the_place_of_an_officer_who_left(registry: Registry) -> None:
    registry.go(Stage.VALIDATED)
    registry.approve("privacy-1", Role.PRIVACY_OFFICER)
    registry.dismiss("privacy-1")
    assert registry.approve("risk-1", Role.MODEL_RISK).stage is Stage.VALIDATED
    assert registry.approve("risk-2", Role.PRIVACY_OFFICER).stage is Stage.APPROVED
    audited(registry)


def test_an_officer_with_a_new_key_approves_anew(registry: Registry) -> None:
    registry.go(Stage.VALIDATED)
    registry.approve("privacy-1", Role.PRIVACY_OFFICER)
    changed = [
        each.model_copy(update={"key": key_of("new").public}) if each.name == "privacy-1" else each
        for each in registry.people()
    ]
    registry.certify(officers=changed)
    assert registry.approve("risk-1", Role.MODEL_RISK).stage is Stage.VALIDATED
    again = registry.say("privacy-1", Role.PRIVACY_OFFICER, key="new")
    assert approvals.approve(registry.federation.centre, again, registry.listed).stage is Stage.APPROVED
    audited(registry)


def test_what_is_approved_is_approved_for_longer_and_does_not_move(registry: Registry) -> None:
    """What is deployed too: `test_release_approvals`, where it serves somewhere."""
    stage = Stage.APPROVED
    registry.approved()
    registry.federation.clock.sleep(20 * DAY)
    assert registry.standing.words == str(stage)
    shorter = registry.say("privacy-1", Role.PRIVACY_OFFICER, days=10)
    with pytest.raises(Refused, match=r"has approved private@1 already.*lasts longer renews it"):
        approvals.approve(registry.federation.centre, shorter, registry.listed)
    assert registry.approve("privacy-1", Role.PRIVACY_OFFICER).stage is stage
    registry.federation.clock.sleep(11 * DAY)
    assert registry.standing.words == f"{stage}, 1 of 2 approvals"
    assert registry.approve("risk-2", Role.MODEL_RISK).stage is stage
    assert registry.standing.missing == ()
    audited(registry)


def test_an_approval_of_before_a_quarantine_does_not_count_after_it(registry: Registry) -> None:
    registry.go(Stage.VALIDATED)
    before = registry.subject()
    held = [registry.say("privacy-1", Role.PRIVACY_OFFICER), registry.say("risk-1", Role.MODEL_RISK)]
    registry.go(Stage.QUARANTINED)
    assert registry.standing.subject is None
    registry.go(Stage.CANDIDATE, Stage.VALIDATED)
    assert registry.subject().on != before.on
    for each in held:
        with pytest.raises(Refused, match=r"was given on .* read that, and sign again"):
            approvals.approve(registry.federation.centre, each, registry.listed)
    assert [each.returned for each in verdicts_on(registry.federation.engine, NAME, 1)] == [None, 1]
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
    with pytest.raises(AuditRefused, match=r"was given on .*, and what the version was validated on is"):
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
