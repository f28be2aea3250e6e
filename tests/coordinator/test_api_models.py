"""Versions over the control API: officers approve with keys that stay at home, each request once; who may not is refused, and told."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from coordinator.keys import make_artifact_key
from coordinator.office.desk import LocalDesk
from coordinator.registry.signatures import sign_files
from coordinator.registry.versions import register
from protos import control_pb2 as control
from protos.log_office import CallDenied
from protos.membership import Role, Service
from protos.model_approvals import ModelStatement, approve_model
from protos.model_notes import ModelNote, NoteKind, state_note
from protos.model_stages import Stage
from protos.plan_gates import Gate
from strategies.encoding import sha256_hex
from strategies.errors import Refused, UsageError
from strategies.ids import Digest
from tests.coordinator.api_for_tests import FEDERATION, Bank, approved, new_id, plan_of, serving
from tests.coordinator.gate_for_tests import passed
from tests.trust_for_tests import key_of

NAME = "lending-default"
MODEL = f"{NAME}@1"
GATES = (Gate(metric="epsilon", at_most=20.0),)


@pytest.fixture
def bank(tmp_path: Path) -> Iterator[Bank]:
    """A bank with one version, whose files are signed."""
    for each in serving(tmp_path):
        services = [Service(name="artifacts", purpose="artifacts", key=key_of("artifacts").public)]
        what = plan_of()
        what = replace(what, plan=what.plan.model_copy(update={"gates": GATES}))
        run = LocalDesk(each.centre).launch(approved(what))
        each.certify(each.listed.next(services=services))
        make_artifact_key(
            each.centre.settings.home,
            key_of("artifacts"),
            "artifacts",
            None,
            federation=FEDERATION,
            at=datetime.now(UTC),
        )
        files = {"model.onnx": b"a graph"}
        register(
            each.centre.engine,
            each.centre.artifacts,
            name=NAME,
            run_id=run,
            files=files,
            weights=sha256_hex(b"weights"),
            metrics={"auc": 0.7},
            clock=each.centre.clock,
            signed=sign_files(each.centre.settings, files),
        )
        yield each


def said(bank: Bank, name: str, role: Role, key: str | None = None) -> ModelStatement:
    subject = bank.model_desk(name).standing(MODEL).subject
    assert subject is not None
    at = datetime.now(UTC)
    facts = {"federation": FEDERATION, "at": at, "expires": at + timedelta(days=7)}
    return approve_model(subject, name, role, key_of(key or name), **facts)


def test_two_officers_approve_from_their_own_machines(bank: Bank) -> None:
    assert bank.model_desk("risk-1").standing(MODEL).subject is None
    passed(bank.centre, NAME, 1)
    found = bank.model_desk("risk-1").approve(said(bank, "risk-1", Role.MODEL_RISK))
    assert (found.words, found.missing[0].role) == ("validated, 1 of 2 approvals", Role.PRIVACY_OFFICER)
    # The plan's author, who holds the role as well, is not among those who could.
    assert found.subject is not None
    assert found.subject.author == "author-1"
    found = bank.model_desk("privacy-1").approve(said(bank, "privacy-1", Role.PRIVACY_OFFICER))
    assert (found.version.stage, found.missing) == (Stage.APPROVED, ())
    assert [each.statement.officer for each in bank.told("model-approved")] == ["risk-1", "privacy-1"]  # type: ignore[union-attr]


def test_a_request_that_comes_again_is_answered_once(bank: Bank) -> None:
    passed(bank.centre, NAME, 1)
    statement, id_ = said(bank, "risk-1", Role.MODEL_RISK), new_id()
    for _ in range(2):
        bank.client("risk-1").change(
            "covenant.control.v1.Models/ApproveModel",
            lambda _: control.ApproveModelRequest(request_id=id_, statement=statement.canonical),
            control.ModelStanding,
        )
    assert len(bank.told("model-approved")) == 1


def test_nobody_hands_in_what_another_has_signed(bank: Bank) -> None:
    passed(bank.centre, NAME, 1)
    statement = said(bank, "risk-1", Role.MODEL_RISK)
    with pytest.raises(Refused, match="the approval is by risk-1, and privacy-1 hands it in"):
        bank.model_desk("privacy-1").approve(statement)
    assert bank.told("model-approved") == []
    assert [type(each) for each in bank.told("denied")] == [CallDenied]


def test_officers_state_what_they_have_to_say_from_their_own_machines(bank: Bank) -> None:
    version = bank.model_desk("risk-1").standing(MODEL).version

    def note(name: str, role: Role, kind: NoteKind = NoteKind.LIMITATIONS) -> ModelNote:
        about = (NAME, 1, version.digest)
        at = datetime.now(UTC)
        return state_note(kind, "None.", name, role, key_of(name), model=about, federation=FEDERATION, at=at)

    said = note("risk-1", Role.MODEL_RISK)
    assert bank.model_desk("risk-1").state(said) == said.digest
    assert bank.model_desk("risk-1").state(said) == said.digest
    assert [each.note for each in bank.told("model-noted")] == [said]  # type: ignore[union-attr]
    with pytest.raises(Refused, match="the note is by risk-1, and privacy-1 hands it in"):
        bank.model_desk("privacy-1").state(note("risk-1", Role.MODEL_RISK, NoteKind.OVERSIGHT))
    with pytest.raises(Refused, match="author-1 is ml_engineer, and a note as model_risk takes model_risk"):
        bank.model_desk("author-1").state(note("author-1", Role.MODEL_RISK, NoteKind.VALIDATION_OPINION))
    for name in ("operator-1", "auditor-1", "admin-1"):
        with pytest.raises(Refused):
            bank.model_desk(name).state(said)
    assert len(bank.told("model-noted")) == 1


def test_who_decides_and_who_does_not(bank: Bank) -> None:
    for name in ("author-1", "operator-1", "auditor-1", "admin-1"):
        with pytest.raises(Refused):
            bank.model_desk(name).move(MODEL, Stage.QUARANTINED, "a complaint")
    assert bank.model_desk("risk-1").move(MODEL, Stage.QUARANTINED, "a complaint").stage is Stage.QUARANTINED
    (moved,) = bank.told("model-moved")
    assert (moved.by, moved.why) == ("risk-1", "a complaint")  # type: ignore[union-attr]
    for to in (Stage.VALIDATED, Stage.APPROVED, Stage.DEPLOYED):
        with pytest.raises(UsageError, match="by hand"):
            bank.model_desk("risk-1").move(MODEL, to, "no")


def test_engineers_name_versions(bank: Bank) -> None:
    bank.model_desk("author-1").name(NAME, "next", 1)
    assert bank.model_desk("author-1").standing(f"{NAME}@next").version.aliases == ("next",)
    with pytest.raises(Refused):
        bank.model_desk("risk-1").name(NAME, "next", 1)
    bank.model_desk("author-1").name(NAME, "next", None)
    assert bank.model_desk("author-1").standing(MODEL).version.aliases == ()


def test_lineage_is_read_from_elsewhere(bank: Bank) -> None:
    facts = bank.model_desk("auditor-1").trace(MODEL, plan=None, run=None, site=None)
    assert facts["plan"]["author"] == "author-1"
    assert facts["participants"] == []  # its run has not begun
    found = bank.model_desk("auditor-1").trace(None, plan=None, run=facts["run"]["id"], site=None)
    assert [each["model"] for each in found["models"]] == [MODEL]
    with pytest.raises(UsageError, match="name a version, or one of"):
        bank.model_desk("auditor-1").trace(None, plan=None, run=None, site=None)


def test_an_officer_signs_nothing_else_than_was_asked_for(
    bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    passed(bank.centre, NAME, 1)
    mine = bank.model_desk("risk-1")
    true = mine.standing(MODEL)
    version = replace(true.version, digest=Digest("00" * 32))
    monkeypatch.setattr("coordinator.api.model_desk.standing_read", lambda _: replace(true, version=version))
    with pytest.raises(Refused, match="are not those of its digest; sign nothing"):
        mine.standing(MODEL)
    version = replace(true.version, version=2)
    with pytest.raises(Refused, match=f"sent {NAME}@2 for {MODEL}"):
        mine.standing(MODEL)
