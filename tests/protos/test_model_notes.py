"""What people say of versions: who may, about what, and that the log refuses what does not count."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from protos.documents import DocumentError
from protos.log_evidence import ModelNoted, NoteStory
from protos.log_registry import VersionStory
from protos.membership import Role
from protos.model_notes import ModelNote, NoteKind, state_note
from strategies.errors import Refused
from strategies.ids import Digest
from tests.protos.test_model_approvals import ABOUT, AT, trusted
from tests.trust_for_tests import key_of, officers

OTHER = Digest("ef" * 32)


def note(
    kind: NoteKind = NoteKind.LIMITATIONS,
    text: str = "Not for loans above 40,000.",
    name: str = "risk-1",
    role: Role = Role.MODEL_RISK,
    *,
    digest: Digest = ABOUT.digest,
    key: str | None = None,
    at: datetime = AT,
    federation: Digest | None = None,
) -> ModelNote:
    return state_note(
        kind,
        text,
        name,
        role,
        key_of(key or name),
        model=(ABOUT.name, ABOUT.version, digest),
        federation=federation or officers().pinned.root.identity,
        at=at,
    )


def taken(*notes: ModelNote, at: datetime = AT, **expiring: datetime) -> NoteStory:
    story = NoteStory()
    versions = {(ABOUT.name, ABOUT.version): VersionStory(ABOUT.digest, ABOUT.author)}
    for each in notes:
        story.take(ModelNoted(note=each), versions, trusted(**expiring), at)
    return story


def test_the_last_note_of_a_kind_counts() -> None:
    first, later = note(), note(text="Not for loans above 30,000.", at=AT + timedelta(seconds=1))
    purpose = note(NoteKind.PURPOSE, name="engineer-1", role=Role.ML_ENGINEER)
    story = taken(first, purpose, later)
    place = (ABOUT.name, ABOUT.version)
    assert story.in_force[*place, NoteKind.LIMITATIONS] == later
    assert story.in_force[*place, NoteKind.PURPOSE] == purpose


@pytest.mark.parametrize(
    ("notes", "reason"),
    [
        ([note(), note()], "is told twice"),
        ([note(digest=OTHER)], "is about the files efefefefefef, and these are abababababab"),
        ([note(key="privacy-1")], "is not signed with the key of risk-1"),
        ([note(name="privacy-1")], "is privacy_officer, not model_risk"),
        ([note(federation=OTHER)], "is for the federation with root"),
        ([note(at=AT + timedelta(hours=1))], "which is to come"),
        ([note(), note(text="More.", at=AT - timedelta(days=1))], "that it would supersede; sign it anew"),
        (
            [note(NoteKind.VALIDATION_OPINION, name="author-1")],
            "author-1 wrote the plan of lending-default@3",
        ),
        ([note(name="nobody-1", key="risk-1")], "nobody-1"),
    ],
)
def test_what_does_not_count_is_refused(notes: list[ModelNote], reason: str) -> None:
    with pytest.raises(Refused, match=reason):
        taken(*notes)


def test_a_note_of_an_unknown_version_or_of_an_officer_who_left_is_refused() -> None:
    with pytest.raises(Refused, match="is not registered before it"):
        NoteStory().take(ModelNoted(note=note()), {}, trusted(), AT)
    with pytest.raises(Refused, match="no member list before this"):
        NoteStory().take(ModelNoted(note=note()), {}, None, AT)
    with pytest.raises(Refused, match="was good until 2026-11-22"):
        taken(note(), risk_1=AT - timedelta(days=1))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"text": " "}, "use 1 to 8000 characters"),
        ({"text": "x" * 8001}, "use 1 to 8000 characters"),
        ({"text": "x\n" * 400 + "x"}, "in at most 400 lines"),
        ({"text": "safe\u202etxt"}, r"line 1 has the character U\+202E"),
        ({"text": "a\x1b[2J"}, r"line 1 has the character U\+001B"),
        (
            {"kind": NoteKind.VALIDATION_OPINION, "name": "engineer-1", "role": Role.ML_ENGINEER},
            "is stated as model_risk",
        ),
        ({"name": "risk-1", "role": Role.AUDITOR}, "not as auditor"),
    ],
)
def test_text_is_bounded_and_seen(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(DocumentError, match=reason):
        note(**changes)


def test_a_changed_word_breaks_the_signature() -> None:
    forged = ModelNote(**{**dict(note()), "text": "Fit for everything."})
    with pytest.raises(Refused, match="note or key was changed"):
        taken(forged)


def test_lines_of_another_system_are_lines() -> None:
    assert note(text="one\r\ntwo\r\n").text == "one\ntwo"
