"""A gap counts with the quorum of the root alone, and bridges exactly the heads that it names."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import pytest

from protos.documents import DocumentError, make_document
from protos.gaps import GapDeclared, GapHead, LostHead, SignedGap, SoundGap, require_bridges
from protos.keys import SigningKey
from strategies.errors import Refused, UsageError
from strategies.transparency.notes import Checkpoint, NoteKey, SignedNote
from tests.trust_for_tests import Officers, impostors, key_of, officers

LOG = SigningKey.generate()
AT = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)


def head(size: int, root: int = 1, origin: str = "demo/log") -> Checkpoint:
    return Checkpoint(origin=origin, size=size, root=bytes([root]) * 32)


def note(of: Checkpoint, *others: str) -> SignedNote:
    import base64

    key = NoteKey(of.origin, base64.b64decode(LOG.public))
    return SignedNote(of.text, (key.line(LOG.sign_note(of.text)), *others))


KEPT, LOST, OTHER = head(7), head(9, 2), head(9, 3)


def declared(**changes: Any) -> GapDeclared:
    facts: dict[str, Any] = {
        "federation": "demo",
        "kept": GapHead.of(KEPT),
        "lost": (LostHead.known_by(note(LOST)),),
        "reason": "the disk failed",
        "declared": AT,
        **changes,
    }
    return make_document(GapDeclared, "the gap", **facts)


def signed(by: Officers, *names: str, gap: GapDeclared | None = None) -> SignedGap:
    found = SignedGap(gap=gap or declared(), roots=by.roots[1:])
    for name in names or [each.name for each in by.newest.keys]:
        found = found.signed_with(key_of(name), by.newest)
    return found


def test_a_gap_bridges_the_head_that_it_names() -> None:
    sound = require_bridges(signed(officers(), "ash", "birch"), LOST, officers().pinned)
    assert isinstance(sound, SoundGap)
    assert sound.declared == declared()


def test_it_reads_back_as_it_was_signed() -> None:
    made = signed(officers())
    assert SignedGap.from_canonical(made.canonical) == made


def test_a_head_that_it_does_not_name_is_not_bridged() -> None:
    """Also of the same size: another fork is not covered, nor is what lies between."""
    gap, pinned = signed(officers()), officers().pinned
    for last in (OTHER, head(8, 2), head(10, 2)):
        with pytest.raises(Refused, match="does not name the head"):
            require_bridges(gap, last, pinned)


def test_below_what_was_kept_a_proof_is_needed_and_no_gap() -> None:
    for last in (KEPT, head(3)):
        with pytest.raises(Refused, match="a proof must show"):
            require_bridges(signed(officers()), last, officers().pinned)


def test_two_heads_of_one_size_may_both_be_lost() -> None:
    gap = declared(lost=(LostHead.known_by(note(OTHER)), LostHead.known_by(note(LOST))))
    for last in (LOST, OTHER):
        require_bridges(signed(officers(), gap=gap), last, officers().pinned)


def test_fewer_than_the_quorum_declare_nothing() -> None:
    with pytest.raises(Refused, match="has 1 of the 2 signatures"):
        require_bridges(signed(officers(), "ash"), LOST, officers().pinned)


def test_strangers_declare_nothing() -> None:
    made = signed(officers(), "ash")
    forged = signed(impostors())
    mixed = made.model_copy(update={"signatures": (*made.signatures, *forged.signatures)})
    with pytest.raises(Refused, match="has 1 of the 2 signatures"):
        require_bridges(mixed, LOST, officers().pinned)
    with pytest.raises(UsageError, match="the key is not in root version 1"):
        made.signed_with(key_of("impostor-1"), officers().newest)


def test_signatures_are_over_what_is_declared() -> None:
    made = signed(officers())
    changed = made.model_copy(update={"gap": declared(reason="another reason")})
    with pytest.raises(Refused, match="is not over this document"):
        changed.verify(officers().pinned)


def test_officers_of_a_later_root_declare_it_and_those_before_them_do_not() -> None:
    later = officers().rotated("ash", "dogwood", "elm")
    require_bridges(signed(later, "dogwood", "elm"), LOST, officers().pinned, newest=2)
    with pytest.raises(Refused, match="version 2 has been accepted"):
        require_bridges(signed(officers(), "ash", "birch"), LOST, officers().pinned, newest=2)


def test_another_federations_gap_is_refused() -> None:
    other = Officers.of("ash", "birch", "cedar", federation="other")
    with pytest.raises(Refused, match="the root is of"):
        require_bridges(signed(officers()), LOST, other.pinned)
    with pytest.raises(Refused, match="the gap is declared for demo"):
        signed(officers()).verify(other.pinned)


def test_witnesses_signatures_on_a_note_are_left_out() -> None:
    stranger = NoteKey("north", bytes(range(32)))
    named = LostHead.known_by(note(LOST, stranger.line(bytes(64))))
    assert named == LostHead.known_by(note(LOST))


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "a head before what was kept": ({"lost": (LostHead.known_by(note(head(5))),)}, "is none after the 7"),
    "a head of another log": (
        {"lost": (LostHead.known_by(note(head(9, origin="other/log"))),)},
        "is of another head",
    ),
    "a note of another head": (
        {"lost": (LostHead.known_by(note(LOST)).model_copy(update={"size": 10}),)},
        "is of another head",
    ),
    "a head named twice": ({"lost": (LostHead.known_by(note(LOST)),) * 2}, "named twice"),
    "no reason": ({"reason": ""}, "reason"),
    "a note that is none": (
        {"lost": (LostHead.known_by(note(LOST)).model_copy(update={"note": "x"}),)},
        "not a signed note",
    ),
}


@pytest.mark.parametrize("defect", BAD)
def test_a_gap_that_contradicts_itself_is_no_document(defect: str) -> None:
    changes, words = BAD[defect]
    with pytest.raises(DocumentError, match=re.escape(words)):
        declared(**changes)
