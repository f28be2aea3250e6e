"""Words in binary form are read as they were written, and digests of many rows are those that a library computes of each."""

from __future__ import annotations

import hmac
import struct
from contextlib import suppress
from random import Random

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import algorithms
from cryptography.hazmat.primitives.cmac import CMAC
from hypothesis import given
from hypothesis import strategies as st

from coordinator.deploy.scoring.row_digests import BLOCK, RowDigests
from coordinator.deploy.scoring.words import Words

LONG = "x" * 255, "y" * 256, "z" * 70_000


def binary(*words: str) -> bytes:
    return b"".join(struct.pack("<I", len(word.encode())) + word.encode() for word in words)


@pytest.mark.parametrize(
    "words",
    [
        ("36", "60", "36", "", "360"),
        ("",),
        ("", "\0", "a", "a\0", "\0a"),
        ("é", "e", "日本"),
        ("x" * 255, "x" * 254, ""),
        LONG,
        (),
    ],
)
def test_words_are_read_as_they_were_written(words: tuple[str, ...]) -> None:
    found = Words.from_binary(binary(*words), len(words))
    assert found is not None
    assert [found.table[place] for place in found.places] == list(words)
    assert len(set(found.table)) == len(found.table)
    assert found.objects().shape == (len(words), 1)
    assert found.objects().ravel().tolist() == list(words)


@pytest.mark.parametrize(
    ("data", "rows"),
    [
        (binary("36", "60"), 1),
        (binary("36", "60"), 3),
        (binary("36", "60")[:-1], 2),
        (binary("36") + b"\x02", 2),
        (binary("36") + b"\x02\0\0\0a", 2),
        (b"\0\1\0\0", 1),
        (b"", 1),
        (b"x", 0),
    ],
)
def test_what_is_cut_off_or_left_over_is_no_column(data: bytes, rows: int) -> None:
    assert Words.from_binary(data, rows) is None


@given(st.lists(st.text("ab\0\x01\x03\x1f é", max_size=5) | st.text(max_size=40), max_size=12), st.randoms())
def test_any_words_are_read_as_written_and_never_otherwise(words: list[str], random: Random) -> None:
    data = binary(*words)
    found = Words.from_binary(data, len(words))
    assert found is not None
    assert [found.table[place] for place in found.places] == words
    for rows in {len(words) - 1, len(words) + 1} - {-1}:
        assert Words.from_binary(data, rows) is None
    if data:
        at = random.randrange(len(data))
        altered = data[:at] + bytes([data[at] ^ random.choice((1, 2, 32))]) + data[at + 1 :]
        with suppress(UnicodeDecodeError):
            found = Words.from_binary(altered, len(words))
            assert found is None or binary(*(found.table[place] for place in found.places)) == altered


def test_a_word_that_is_not_utf_8_is_told() -> None:
    with pytest.raises(UnicodeDecodeError):
        Words.from_binary(b"\x01\0\0\0\xff", 1)


def test_columns_are_joined_row_by_row_and_searched() -> None:
    parts = Words.of(["b", "a"]), Words.of(["a", "", "c"])
    joined = Words.joined(parts)
    assert joined.objects().ravel().tolist() == ["b", "a", "a", "", "c"]
    assert (joined.first(["c", ""]), joined.first(["d"]), joined.first([])) == (3, None, None)


@pytest.mark.parametrize("count", [0, 1, 2, 5])
@pytest.mark.parametrize("texts", [0, 1, 3])
def test_each_row_has_the_cmac_that_a_library_computes(count: int, texts: int) -> None:
    random = np.random.default_rng(1)
    numbers = random.normal(size=(count, 7))
    columns = [random.choice(["a", "", "é" * 40], 7).tolist() for _ in range(texts)]
    secret = b"s" * 32
    rows, words = (hmac.digest(secret, use, "sha256") for use in (b"rows", b"words"))
    expected = []
    for row in range(7):
        message = struct.pack("<QQ", count, texts) + numbers[:, row].tobytes() + bytes(8 * (count % 2))
        for column in columns:
            message += hmac.digest(words, column[row].encode(), "sha256")[:BLOCK]
        mac = CMAC(algorithms.AES(rows))
        mac.update(message)
        expected.append(mac.finalize().hex())
    assert RowDigests(secret).of_rows(numbers, [Words.of(column) for column in columns]) == expected


def test_the_cipher_s_subkey_is_doubled_with_and_without_a_carry() -> None:
    numbers = np.ones((2, 1))
    for number in range(8):
        secret = bytes([number]) * 32
        mac = CMAC(algorithms.AES(hmac.digest(secret, b"rows", "sha256")))
        mac.update(struct.pack("<QQ", 2, 0) + numbers.tobytes())
        assert RowDigests(secret).of_rows(numbers, []) == [mac.finalize().hex()]
