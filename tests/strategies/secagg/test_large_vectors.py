"""A masked input is the same input in however many pieces it comes, and none of it is added before all of it is known to be one."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from typing import cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos.secagg_codec import decode_frame, encode_frame, encode_opening
from strategies.errors import Refused
from strategies.pieces import Bytes, Pieces, joined, pieces_of
from strategies.secagg import rings
from strategies.secagg import server as central
from strategies.secagg.messages import UPLOAD, Frame, MaskedInput
from strategies.secagg.payloads import WeightedUpdates
from strategies.secagg.rings import Ring
from strategies.server_optimizers import FedAdam, FedAvg
from tests.strategies.secagg.attacks_for_tests import VICTIM
from tests.strategies.secagg.attempt_for_tests import RING, STATEMENT, Federation, names

WORDS = st.lists(st.integers(0, 2**64 - 1), max_size=40)
LARGE = 2_000_000


def cut(data: bytes, size: int) -> Pieces:
    return Pieces(data[first : first + size] for first in range(0, len(data), size))


@given(
    WORDS,
    st.sampled_from([2, 7, 8, 13, 24, 25, 32, 33, 47, 48, 62, 64]),
    st.integers(1, 30),
    st.integers(1, 30),
)
def test_any_split_gives_the_sum_of_the_whole(values: list[int], bits: int, chunk: int, piece: int) -> None:
    ring = Ring(bits)
    vector = ring.reduce(np.asarray(values, dtype=np.uint64).astype(ring.word))
    whole = ring.pack(vector)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rings, "CHUNK_BYTES", chunk)
        patch.setattr(rings, "_BLOCK", 8)
        chunked = ring.pack(vector)
        assert joined(chunked) == joined(whole)
        total = vector.copy()
        ring.add_packed(total, cut(joined(chunked), piece))
        ring.add_packed(total, chunked)
    expected = vector + vector + vector
    assert np.array_equal(ring.reduce(total), ring.reduce(expected))


@given(WORDS, st.sampled_from([2, 7, 24, 32, 33, 64]))
def test_words_decoded_in_place_are_the_integers_that_decoding_gives(values: list[int], bits: int) -> None:
    ring = Ring(bits)
    vector = ring.reduce(np.asarray(values, dtype=np.uint64).astype(ring.word))
    expected = ring.decode(vector)
    assert np.array_equal(ring.decode_in_place(vector), expected)
    signed = [value % 2**bits - (2**bits if value % 2**bits >= 2 ** (bits - 1) else 0) for value in values]
    assert expected.tolist() == signed


# What may become of the chunks of an input between a site and the sum. The site has signed all of it.

DIMENSION = 100
CHUNK = 30


def collecting() -> tuple[Federation, central.Collecting, MaskedInput]:
    federation = Federation()
    step = federation.share(federation.advertise()).ask(STATEMENT, RING, DIMENSION)
    values = np.arange(DIMENSION, dtype=np.int64)
    return federation, step, federation.masked_input(step, VICTIM, values)


def foreign() -> Pieces:
    """The same site's input to the same sum in another attempt, cut in the same way."""
    other = Federation(attempt_number=2, seed="other")
    step = other.share(other.advertise()).ask(STATEMENT, RING, DIMENSION)
    return cut(joined(other.masked_input(step, VICTIM, np.arange(DIMENSION, dtype=np.int64)).packed), CHUNK)


DEFECTS: dict[str, Callable[[tuple[memoryview, ...]], list[memoryview]]] = {
    "lost in the middle": lambda parts: [*parts[:4], *parts[5:]],
    "lost at the end": lambda parts: list(parts[:-1]),
    "doubled": lambda parts: [*parts[:4], parts[3], *parts[4:]],
    "doubled in another's place": lambda parts: [*parts[:4], parts[3], *parts[5:]],
    "reordered": lambda parts: [*parts[:4], parts[5], parts[4], *parts[6:]],
    "of another attempt": lambda parts: [*parts[:4], foreign().parts[4], *parts[5:]],
    "oversized": lambda parts: [*parts[:4], memoryview(bytes(3 * CHUNK)), *parts[5:]],
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_an_input_with_a_chunk_that_is_wrong_is_no_input_and_nothing_of_it_is_added(defect: str) -> None:
    _, step, sent = collecting()
    parts = cut(joined(sent.packed), CHUNK).parts
    spoilt = replace(sent, packed=Pieces(DEFECTS[defect](parts)))
    with pytest.raises(Refused, match=f"input of {VICTIM} "):
        step.receive(spoilt)
    assert not step.total.any()
    step.receive(sent)  # the site's own is still awaited
    assert step.total.any()


@pytest.mark.parametrize("defect", ["lost in the middle", "lost at the end", "doubled", "oversized"])
def test_a_wrong_length_is_said_in_bytes(defect: str) -> None:
    _, step, sent = collecting()
    spoilt = Pieces(DEFECTS[defect](cut(joined(sent.packed), CHUNK).parts))
    with pytest.raises(
        Refused,
        match=f"the input of {VICTIM} is not a whole one: .* takes 300 bytes in this ring; {len(spoilt)} came",
    ):
        step.receive(replace(sent, packed=spoilt))


def test_a_signed_input_of_another_length_is_refused_whole() -> None:
    """Its site has signed it, so only its length says that it is none."""
    federation, step, sent = collecting()
    packed = Pieces((joined(sent.packed), b"\0"))
    signed = MaskedInput.signed_bytes(step.bound, VICTIM, packed)
    signature = federation.identities.signer(VICTIM)(UPLOAD, signed)
    with pytest.raises(Refused, match="takes 300 bytes in this ring; 301 came"):
        step.receive(replace(sent, packed=packed, signature=signature))
    assert not step.total.any()


# Memory. Two million coordinates take 6 MB packed, 8 MB as words and 16 MB as float64.

MB = 1_000_000


def peak_mb(work: Callable[[], object]) -> float:
    """What `work` allocates at most beside what was there, and beside what it keeps not at all."""
    tracemalloc.start()
    try:
        kept = work()
        _, peak = tracemalloc.get_traced_memory()
        del kept
    finally:
        tracemalloc.stop()
    return peak / MB


@pytest.fixture(scope="module")
def large() -> tuple[Federation, central.Collecting, Pieces]:
    """A step, and the victim's masked input as it comes: in pieces of a megabyte."""
    federation = Federation()
    step = federation.share(federation.advertise()).ask(STATEMENT, RING, LARGE)
    sent = federation.masked_input(step, VICTIM, np.ones(LARGE, dtype=np.int64))
    return federation, step, cut(joined(encode_frame(Frame(federation.attempt, sent))), 1 << 20)


def received(step: central.Collecting, frame: Bytes) -> None:
    step.receive(cast("MaskedInput", decode_frame(frame).body))


def fresh(step: central.Collecting) -> central.Collecting:
    return central.Collecting(step.ready, step.bound, step.ring, step.total)


def test_an_input_is_added_without_a_copy_of_it(
    large: tuple[Federation, central.Collecting, Pieces],
) -> None:
    _, step, frame = large
    assert peak_mb(lambda: received(fresh(step), frame)) < 1.0


def test_an_input_that_protobuf_parses_is_copied(
    large: tuple[Federation, central.Collecting, Pieces], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control."""
    _, step, frame = large
    monkeypatch.setattr("protos.frame_size.APART_BYTES", 1 << 30)
    assert peak_mb(lambda: received(fresh(step), frame)) > 5.0


def test_a_sum_is_kept_opened_and_applied_with_one_vector_of_each_kind(
    large: tuple[Federation, central.Collecting, Pieces], monkeypatch: pytest.MonkeyPatch
) -> None:
    federation, _, _ = large
    monkeypatch.setattr(rings, "CHUNK_BYTES", 1 << 20)
    inputs = dict.fromkeys(federation.sites, np.ones(LARGE, dtype=np.int64))
    unmasking = federation.confirm(federation.mask(federation.share(federation.advertise()), inputs))
    assert peak_mb(lambda: encode_opening(unmasking)) < 6 + 2.5  # the packed sum
    opened = federation.unmask(unmasking)
    assert np.all(opened.total == len(federation.sites))
    rule = WeightedUpdates(bound=1.0, weights=dict.fromkeys(names(4), 1))
    assert peak_mb(lambda: rule.mean(opened.total, opened.survivors)) < 16 + 2.5  # the mean
    model, update = np.ones(LARGE), rule.mean(opened.total, opened.survivors)
    assert peak_mb(lambda: FedAvg().step(model, update, FedAvg().initial(LARGE))) < 16 + 3.5  # the next model
    room = update.copy()
    assert peak_mb(lambda: FedAvg().step(model, room, FedAvg().initial(LARGE), into=room)) < 3.5  # none
    adam = FedAdam(learning_rate=0.1, beta1=0.9, beta2=0.99, tau=1e-3)
    before = adam.initial(LARGE)
    assert peak_mb(lambda: adam.step(model, update, before)) < 48 + 6.0  # with its two moments


def test_opened_masks_take_one_copy_of_the_sum(
    large: tuple[Federation, central.Collecting, Pieces],
) -> None:
    federation, _, _ = large
    inputs = dict.fromkeys(federation.sites, np.ones(LARGE, dtype=np.int64))
    unmasking = federation.confirm(federation.mask(federation.share(federation.advertise()), inputs))
    assert peak_mb(lambda: federation.unmask(unmasking)) < 8 + 1.5


def test_small_frames_are_one_bytes() -> None:
    federation, _, sent = collecting()
    frame = encode_frame(Frame(federation.attempt, sent))
    assert isinstance(frame, bytes)
    assert pieces_of(frame).joined() == frame
