"""Signed notes: the published example, and every way in which one is none."""

from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from strategies.errors import UsageError
from strategies.transparency.merkle import EMPTY_ROOT, leaf_hash
from strategies.transparency.notes import Checkpoint, NoteKey, NoteRefused, SignedNote

# The example of the Go package golang.org/x/mod/sumdb/note (BSD-3-Clause), which defined the format.
EXAMPLE_KEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
EXAMPLE = (
    "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n\n"
    "\u2014 PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)
PRIVATE = Ed25519PrivateKey.from_private_bytes(bytes(32))
KEY = NoteKey("demo/log", PRIVATE.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))
HEAD = Checkpoint(origin="demo/log", size=7, root=leaf_hash(b"x"))


def signed(text: str, key: NoteKey = KEY) -> SignedNote:
    return SignedNote(text, (key.line(PRIVATE.sign(text.encode())),))


def test_the_published_example_verifies() -> None:
    signer = NoteKey.parse(EXAMPLE_KEY)
    assert signer.words == EXAMPLE_KEY
    note = SignedNote.parse(EXAMPLE)
    assert note.require(signer).startswith("If you think")
    assert note.encoded == EXAMPLE


@pytest.mark.parametrize(
    "words",
    ["", "PeterNeumann", EXAMPLE_KEY[:-1], EXAMPLE_KEY.replace("c74f20a3", "c74f20a4"), f"{EXAMPLE_KEY}\n"],
    ids=["empty", "a name", "cut short", "another hash", "a line more"],
)
def test_a_key_has_one_form(words: str) -> None:
    with pytest.raises(NoteRefused, match="names no key of a log"):
        NoteKey.parse(words)


def test_a_checkpoint_is_read_back_from_the_note_that_its_log_signed() -> None:
    note = SignedNote.parse(signed(HEAD.text).encoded)
    assert Checkpoint.parse(note.require(KEY)) == HEAD
    assert HEAD.text.split("\n")[:2] == ["demo/log", "7"]


def test_a_signature_is_of_one_key_and_one_text() -> None:
    note = signed(HEAD.text)
    other = Ed25519PrivateKey.from_private_bytes(bytes([1]) * 32).public_key()
    impostor = NoteKey("demo/log", other.public_bytes(Encoding.Raw, PublicFormat.Raw))
    for key in (impostor, NoteKey("other/log", KEY.public)):
        with pytest.raises(NoteRefused, match="is not signed by"):
            note.require(key)
    with pytest.raises(NoteRefused, match="is not signed by demo/log"):
        SignedNote(HEAD.text.replace("7", "8"), note.lines).require(KEY)
    # The right identifier in front of somebody else's signature.
    with pytest.raises(NoteRefused, match="is not signed by"):
        SignedNote(HEAD.text, (impostor.line(PRIVATE.sign(HEAD.text.encode())),)).require(impostor)


def test_lines_of_unknown_keys_do_not_disturb() -> None:
    stranger = NoteKey("stranger", bytes(32)).line(bytes(64))
    note = SignedNote.parse(SignedNote(HEAD.text, (stranger, *signed(HEAD.text).lines)).encoded)
    assert note.require(KEY) == HEAD.text


@pytest.mark.parametrize(
    "encoded",
    [
        "",
        HEAD.text,
        HEAD.text + "\n",
        HEAD.text + "\n\u2014 demo/log\n",
        HEAD.text + "\n- demo/log AAAAAAAA\n",
        HEAD.text + "\n\u2014 demo/log AAAAAAAA",
        HEAD.text + "\n\u2014 demo log AAAAAAAA\n",
        HEAD.text + "\n\u2014 demo/log A*AAAAAA\n",
        HEAD.text + "\n" + "\u2014 demo/log AAAAAAAA\n" * 101,
        "x" * 70_000 + "\n\n\u2014 demo/log AAAAAAAA\n",
    ],
)
def test_what_is_no_note_is_refused(encoded: str) -> None:
    with pytest.raises(NoteRefused):
        SignedNote.parse(encoded)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "demo/log\n7\n",
        HEAD.text.rstrip("\n"),
        HEAD.text + "extension\n",
        HEAD.text.replace("7", "07"),
        HEAD.text.replace("7", "-7"),
        HEAD.text.replace("7", "9" * 17),
        HEAD.text.replace("7", str(2**53)),
        HEAD.text.replace("demo/log", "demo log"),
        HEAD.text.replace("demo/log", ""),
        "demo/log\n7\nAAAA\n",
        "demo/log\n7\n" + base64.urlsafe_b64encode(b"\xff" * 32).decode() + "\n",
        "demo/log\n7\n" + base64.b64encode(bytes(32)).decode()[:-2] + "B=\n",
    ],
)
def test_what_is_no_checkpoint_is_refused(text: str) -> None:
    with pytest.raises(NoteRefused):
        Checkpoint.parse(text)


def test_what_no_log_has_is_no_checkpoint() -> None:
    assert Checkpoint(origin="demo/log", size=0, root=EMPTY_ROOT).size == 0
    for origin, size, root in (
        ("", 0, EMPTY_ROOT),
        ("a+b", 0, EMPTY_ROOT),
        ("a", -1, EMPTY_ROOT),
        ("a", 0, b""),
    ):
        with pytest.raises(UsageError):
            Checkpoint(origin=origin, size=size, root=root)
