"""A frame is refused before it is parsed if it is large beside its vectors: small messages take many times their bytes in memory."""

from __future__ import annotations

import tracemalloc

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from hypothesis import given
from hypothesis import strategies as st

from protos import frame_size, secagg_pb2
from protos import training_pb2 as pb
from protos.codec import CodecError
from protos.frame_size import MAX_STRUCTURE_BYTES, REPLY, REQUEST, SECAGG, Layout, oversize
from protos.secure_codec import decode_asked

LAYOUTS = [
    (REQUEST, pb.Request.DESCRIPTOR, {"model", "champion.model", "secure.aggregate", "secure.frames.masked_input.packed",
     "secure.checkpoint.model", "secure.checkpoint.optimizer"}),
    (REPLY, pb.Reply.DESCRIPTOR, {"moments", "update", "score_counts", "secure.frames.masked_input.packed"}),
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
    monkeypatch.setattr("protos.codec.oversize", lambda *_: None)
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
