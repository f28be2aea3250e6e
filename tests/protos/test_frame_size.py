"""A frame is refused before it is parsed if it is large beside its vectors: small messages take many times their bytes in memory."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from protos import frame_size, frames, secagg_pb2
from protos import training_pb2 as pb
from protos.codec import encode_reply
from protos.codec_fields import CodecError
from protos.frame_size import MAX_STRUCTURE_BYTES, REPLY, REQUEST, SECAGG, Layout, oversize
from protos.frames import (
    ChampionModel,
    Checkpoint,
    Reply,
    SecureAnswer,
    SecureRequest,
    Stage,
    Statement,
    Update,
    Upload,
)
from protos.secure_codec import decode_answer, decode_asked, encode_secure_reply, encode_secure_request
from strategies.features import Scaling
from strategies.ids import Digest, SiteName, run_id
from strategies.pieces import Bytes, Pieces, joined
from strategies.secagg.messages import Frame, MaskedInput, MaskRequest
from strategies.server_optimizers import OptimizerState
from tests.strategies.secagg.attempt_for_tests import attempt_of

LAYOUTS = [
    (REQUEST, pb.Request.DESCRIPTOR, {"model", "champion.model", "secure.aggregate", "secure.frames.masked_input.packed",
     "secure.checkpoint.model", "secure.checkpoint.optimizer"}),
    (REPLY, pb.Reply.DESCRIPTOR, {"moments", "update", "score_counts", "panels", "secure.frames.masked_input.packed"}),
    (SECAGG, secagg_pb2.Frame.DESCRIPTOR, {"masked_input.packed"}),
]  # fmt: skip


def vectors(layout: Layout, of: Descriptor, path: str = "") -> set[str]:
    """The fields that a layout says hold vectors, by name; each must be bytes in the .proto."""
    found = set()
    for number in layout.vectors:
        assert of.fields_by_number[number].type == FieldDescriptor.TYPE_BYTES
        found.add(path + of.fields_by_number[number].name)
    for number, inner in layout.inner.items():
        field = of.fields_by_number[number]
        found |= vectors(inner, field.message_type, f"{path}{field.name}.")
    return found


@pytest.mark.parametrize(("layout", "message", "names"), LAYOUTS, ids=["request", "reply", "secagg"])
def test_the_layouts_are_those_of_the_protos(layout: Layout, message: Descriptor, names: set[str]) -> None:
    assert vectors(layout, message) == names


def small_messages(count: int) -> bytes:
    """A request whose secure part is `count` empty frames: two bytes each."""
    frames = b"\x0a\x00" * count
    length, size = len(frames), b""
    while length > 127:
        size, length = size + bytes([length & 127 | 128]), length >> 7
    return b"\x2a" + size + bytes([length]) + frames


def test_many_small_messages_are_refused_unparsed() -> None:
    data = small_messages(MAX_STRUCTURE_BYTES // 2)
    tracemalloc.start()
    with pytest.raises(CodecError, match="bytes beside its vectors; at most 4194304 are accepted"):
        decode_asked(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20


def test_many_small_messages_are_parsed_without_the_guard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("protos.codec_fields.oversize", lambda *_: None)
    with pytest.raises(CodecError, match="a request of 100000 steps"):
        decode_asked(small_messages(100_000))


@pytest.mark.parametrize("more", [0, 1])
def test_vectors_are_not_counted_and_the_rest_is_to_the_byte(more: int) -> None:
    request = pb.Request(model=bytes(10 * MAX_STRUCTURE_BYTES))
    request.secure.aggregate = bytes(MAX_STRUCTURE_BYTES)
    request.secure.frames.add().masked_input.packed = bytes(MAX_STRUCTURE_BYTES)
    request.task.plan = b""
    bare = len(request.SerializeToString()) - 12 * MAX_STRUCTURE_BYTES
    # Two bytes are the length of `task`, of `plan` each, when they need four in all instead of one.
    request.task.plan = bytes(MAX_STRUCTURE_BYTES - bare - 8)
    missing = MAX_STRUCTURE_BYTES - (len(request.SerializeToString()) - 12 * MAX_STRUCTURE_BYTES)
    request.task.plan += bytes(missing + more)
    assert (oversize(request.SerializeToString(), REQUEST) is None) == (more == 0)


def test_repeating_a_field_does_not_hide_what_follows() -> None:
    """Only so many fields are walked; all beyond them counts as structure, vector or not."""
    field = pb.Request(model=bytes(1 << 16)).SerializeToString()
    assert oversize(field * frame_size._MOST_FIELDS, REQUEST) is None
    assert oversize(field * 3 * frame_size._MOST_FIELDS, REQUEST) is not None


@given(st.binary(max_size=200))
def test_any_bytes_are_walked(data: bytes) -> None:
    for layout, _, _ in LAYOUTS:
        assert 0 <= frame_size._vector_bytes(data, 0, len(data), layout, iter(range(99))) <= len(data)


def test_a_length_of_more_than_64_bits_hides_nothing() -> None:
    """Parsers take it modulo 2^64; a walker that did not would count what follows as one vector."""
    overlong = b"\x81" + b"\x80" * 8 + b"\x02"  # 2^64 + 1
    data = b"\x22" + overlong + b"x" + small_messages(MAX_STRUCTURE_BYTES // 2 + 8)
    assert oversize(data, REQUEST) is not None


# Frames whose vectors stay where they lie. With a bound of nothing, every frame is read and written in that way.


@pytest.fixture
def apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame_size, "APART_BYTES", 0)


def checkpoint(size: int) -> Checkpoint:
    names = {SiteName("a"): Upload(Digest("12" * 32), b"s" * 64)}
    statement = Statement(
        plan_digest=Digest("ab" * 32), contract_digest=Digest("cd" * 32), members_digest=Digest("ef" * 32),
        run=run_id("run-0123456789abcdef"), stage=Stage.TRAIN, round=3, attempt=1, roster=(SiteName("a"),),
        component="tabular/1",
    )  # fmt: skip
    return Checkpoint(
        model=np.arange(float(size)),
        optimizer=OptimizerState(2, (np.ones(size), np.full(size, 0.5))),
        testimony=frames.Testimony(statement=statement, cohort=Digest("12" * 32), uploads=names),
    )


def asked(size: int) -> SecureRequest:
    """A request with every kind of vector."""
    kept = checkpoint(size)
    champion = ChampionModel(np.arange(float(size)) + 1, Scaling(mean=(0.5,), std=(1.0,)))
    said = replace(kept.testimony.statement, stage=Stage.EVALUATE)
    step = Frame(attempt_of(), MaskRequest(statement=said.digest, roster=(SiteName("a"),), envelopes={}))
    return SecureRequest(
        frames=(step,),
        statement=said,
        aggregate=np.arange(float(size)) / 7,
        checkpoint=kept,
        champion=champion,
    )


def answer(packed: Bytes) -> SecureAnswer:
    sent = MaskedInput(site=SiteName("a"), statement=Digest("12" * 32), packed=packed, signature=b"s" * 64)
    return SecureAnswer((Frame(attempt_of(), sent),), Digest("34" * 32))


def written(size: int) -> tuple[Bytes, Bytes, Bytes]:
    packed = bytes(range(256)) * size
    return (
        encode_secure_request(asked(size)),
        encode_secure_reply(Digest("56" * 32), SiteName("a"), answer(packed)),
        encode_reply(
            Reply(statement_digest=Digest("56" * 32), site=SiteName("a"), body=Update(np.arange(float(size))))
        ),
    )


@pytest.mark.parametrize("size", [1, 20, 9000])
def test_a_frame_with_vectors_apart_has_the_bytes_that_protobuf_gives_it(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a site of the version before reads it, and a coordinator of the version before reads what a site sends."""
    plain = written(size)
    monkeypatch.setattr(frame_size, "APART_BYTES", 0)
    for before, now in zip(plain, written(size), strict=True):
        assert isinstance(before, bytes)
        assert isinstance(now, Pieces)
        assert now.joined() == before


@pytest.mark.usefixtures("apart")
@given(st.integers(1, 60), st.integers(1, 400))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
def test_a_frame_is_read_from_pieces_that_end_anywhere(size: int, piece: int) -> None:
    for frame, read in zip(written(size)[:2], (decode_asked, decode_answer), strict=True):
        data = joined(frame)
        found = read(Pieces(data[first : first + piece] for first in range(0, len(data), piece)))
        if isinstance(found, SecureRequest):
            assert found.aggregate is not None
            assert found.checkpoint is not None
            assert joined(encode_secure_request(found)) == data
        else:
            assert isinstance(found, Reply)
            assert isinstance(found.body, SecureAnswer)
            assert joined(encode_secure_reply(found.statement_digest, found.site, found.body)) == data


@pytest.mark.usefixtures("apart")
def test_a_frame_that_ends_in_a_vector_is_cut_short_and_says_by_how_much() -> None:
    data = joined(written(50)[1])
    with pytest.raises(CodecError, match=f"100 bytes are missing at the end of a frame of {len(data) - 100}"):
        decode_answer(data[:-100])


@pytest.mark.usefixtures("apart")
@given(st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
def test_any_change_of_a_large_frame_is_read_as_protobuf_reads_it_or_refused(data: st.DataObject) -> None:
    frame = bytearray(joined(written(2)[1]))
    for _ in range(data.draw(st.integers(1, 3))):
        frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))

    def read() -> object:
        try:
            found = decode_answer(bytes(frame))
        except CodecError:
            return None
        return (
            joined(encode_secure_reply(found.statement_digest, found.site, found.body))
            if isinstance(found.body, SecureAnswer)
            else found.body
        )

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(frame_size, "APART_BYTES", 1 << 30)
        expected = read()
    assert read() == expected


@pytest.mark.usefixtures("apart")
def test_a_field_that_poses_as_a_token_stands_for_no_vector_of_another() -> None:
    """What comes after so many fields is not cut out, so its own bytes lie where tokens would."""
    filler = pb.Reply(update=b"12345678").SerializeToString() * 300
    frame = pb.Reply(statement_digest=bytes(32), site="a", update=b"\xff\xff\xff\x7f")
    with pytest.raises(CodecError):
        decode_answer(filler + frame.SerializeToString())
