"""Bytes in pieces are the bytes that they would be together, wherever they were cut."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategies.encoding import vector_bytes, vector_digest, vector_from_bytes, vector_pieces
from strategies.errors import Refused
from strategies.pieces import Pieces, joined, pieces_of

CUT = st.lists(st.binary(max_size=9), max_size=8)


@given(CUT, st.data())
def test_any_part_of_it_is_that_part_of_the_whole(parts: list[bytes], data: st.DataObject) -> None:
    whole, pieces = b"".join(parts), Pieces(parts)
    begin = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(begin, len(whole) + 3))
    assert pieces.between(begin, end).joined() == whole[begin:end]
    assert [pieces[place] for place in range(len(pieces))] == list(whole)
    assert pieces.sha256() == hashlib.sha256(whole).hexdigest()
    with pytest.raises(IndexError):
        pieces[len(whole)]


@given(CUT, st.integers(1, 12))
def test_blocks_are_of_the_readers_size_and_not_of_the_senders(parts: list[bytes], size: int) -> None:
    whole = b"".join(parts)
    expected = [whole[first : first + size] for first in range(0, len(whole), size)]
    assert [bytes(block) for block in Pieces(parts).blocks(size)] == expected


@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0)])
def test_an_array_without_values_has_no_bytes(shape: tuple[int, ...]) -> None:
    pieces = Pieces((b"before", np.zeros(shape, dtype=np.float32).data, b"after"))
    assert pieces.joined() == b"beforeafter"


def test_what_lies_in_one_piece_is_not_copied() -> None:
    vector = np.arange(1000.0)
    pieces = vector_pieces(vector)
    (part,) = pieces.between(8, 16).parts
    vector[1] = 5.0
    assert np.frombuffer(part) == 5.0
    assert joined(b"one") == b"one"
    assert pieces_of(pieces) is pieces


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=20), st.integers(1, 17))
def test_a_vector_is_read_from_any_pieces_of_its_bytes(values: list[float], size: int) -> None:
    vector = np.asarray(values, dtype=np.float64)
    data = vector_bytes(vector)
    cut = Pieces(data[first : first + size] for first in range(0, len(data), size))
    assert vector_from_bytes(cut, len(values)).tobytes() == data
    assert vector_digest(vector) == hashlib.sha256(data).hexdigest()


def test_a_value_that_is_not_finite_is_named_by_its_place_beyond_the_first_block() -> None:
    vector = np.zeros(100_000)
    vector[70_001] = np.nan
    with pytest.raises(Refused, match="value 70001 of the vector is nan"):
        vector_from_bytes(vector_pieces(vector), vector.size)
