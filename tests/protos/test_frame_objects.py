"""Of the objects that another party made nothing but a frame, or an error, is put together: whatever else they say, they are not larger for it."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Mapping

import numpy as np
import pytest
from flwr.app import ConfigRecord, Error, Message, MetricRecord, RecordDict
from flwr.proto.message_pb2 import Message as MessageProto
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_id

from protos import envelope
from protos.codec_fields import CodecError
from protos.envelope import PIECE_BYTES, seal, unseal
from protos.frame_objects import MOST_PARSED_BYTES, message_of
from strategies.pieces import joined
from tests.flower_for_tests import message


def objects(of: Message | ConfigRecord) -> tuple[str, dict[str, bytes]]:
    """What travels of a message, by id."""
    return of.object_id, {name: each.deflate() for name, each in get_all_nested_objects(of).items()}


def carrying(content: RecordDict) -> tuple[str, dict[str, bytes]]:
    return objects(message(content))


def made(kind: str, children: list[str], body: bytes) -> tuple[str, bytes]:
    """An object as flwr writes it, of what nobody would write."""
    content = f"{kind} {','.join(children)} {len(body)}".encode() + b"\0" + body
    return get_object_id(content), content


def around(record: tuple[str, bytes], *others: tuple[str, bytes]) -> tuple[str, dict[str, bytes]]:
    """A message whose only record is `record`."""
    content = made("RecordDict", [record[0]], json.dumps({"frame-00000": record[0]}).encode())
    root = made("Message", [content[0]], MessageProto().SerializeToString())
    return root[0], dict([root, content, record, *others])


@pytest.mark.parametrize("size", [0, 1, 80, *range(95, 130), 16_256, 16_383, 16_384, 2_097_140, 2_097_152])
def test_a_record_is_read_as_flwr_writes_it(size: int) -> None:
    frame = np.arange(size, dtype=np.uint32).astype(np.uint8).tobytes()
    assert unseal(message_of(*carrying(seal(frame)))) == frame


def test_a_large_frame_is_its_pieces_and_no_piece_is_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(envelope, "PIECE_BYTES", 1 << 20)
    frame = np.arange(5 << 18, dtype=np.uint32).tobytes()
    root, contents = carrying(seal(frame))
    tracemalloc.start()
    found = unseal(message_of(root, contents))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < PIECE_BYTES // 8
    assert joined(found) == frame


def test_an_error_is_a_message_without_content() -> None:
    found = message_of(*objects(Message(Error(code=3, reason="no rows"), reply_to=message(RecordDict()))))
    assert found.has_error()
    assert found.error.reason == "no rows"


def bomb() -> tuple[str, dict[str, bytes]]:
    """An array of one chunk of 1 MiB, named a million times."""
    chunk = made("ArrayChunk", [], bytes(1 << 20))
    shape = {"dtype": "u", "shape": [1], "stype": "numpy", "arraychunk_ids": [0] * 1_000_000}
    array = made("Array", [chunk[0]], json.dumps(shape).encode())
    record = made("ArrayRecord", [array[0]], json.dumps({"a": array[0]}).encode())
    return around(record, array, chunk)


def headed(head: bytes) -> tuple[str, dict[str, bytes]]:
    return get_object_id(head), {get_object_id(head): head}


LARGE = made("RecordDict", [], b" " * MOST_PARSED_BYTES)
CROWDED = made("RecordDict", [], json.dumps({f"frame-{n:05d}": "a" for n in range(5000)}).encode())
BAD: Mapping[str, tuple[tuple[str, dict[str, bytes]], str]] = {
    "an array": (bomb(), "a Flower message that holds more than a frame"),
    "a metric": (carrying(RecordDict({"frame-00000": MetricRecord({"a": 1.0})})), "holds more than a frame"),
    "two entries": (
        carrying(RecordDict({"frame-00000": ConfigRecord({"bytes": b"x", "more": 1})})),
        "holds more than a frame",
    ),
    "a million entries": (
        around(made("ConfigRecord", [], b"\n\x07\n\x01a\x12\x022\0" * 1_000_000)),
        "holds more than a frame",
    ),
    "text": (carrying(RecordDict({"frame-00000": ConfigRecord({"bytes": "x"})})), "holds more than a frame"),
    "another name": (
        carrying(RecordDict({"frame-00000": ConfigRecord({"other": b"x"})})),
        "holds more than a frame",
    ),
    "a record with children": (
        around(made("ConfigRecord", ["0" * 64], ConfigRecord({"bytes": b"x"}).deflate()[16:])),
        "holds more than a frame",
    ),
    "a record alone": (objects(ConfigRecord({"bytes": b"x"})), "no Flower message: 'ConfigRecord'"),
    "two contents": (headed(made("Message", ["0" * 64, "1" * 64], b"")[1]), "with 2 contents"),
    "a content that has not come": (headed(made("Message", ["0" * 64], b"")[1]), "has not come"),
    "no head": (headed(b"Message"), "no Flower message: ValueError"),
    "a message without anything": (headed(made("Message", [], b"")[1]), "no Flower message: IndexError"),
    "a head that is no text": (headed(b"\xff  0\0"), "no Flower message: UnicodeDecodeError"),
    "a large content": (
        (made("Message", [LARGE[0]], b"")[0], dict([made("Message", [LARGE[0]], b""), LARGE])),
        f"at most {MOST_PARSED_BYTES} are accepted",
    ),
    "a large head": (headed(b"Message " + b"0" * MOST_PARSED_BYTES), "beside its pieces"),
    "records of no object": (
        (made("Message", [CROWDED[0]], b"")[0], dict([made("Message", [CROWDED[0]], b""), CROWDED])),
        "names other records than it has",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_anything_else_is_refused_and_takes_no_memory(name: str) -> None:
    (root, contents), words = BAD[name]
    tracemalloc.start()
    with pytest.raises(CodecError) as refused:
        message_of(root, contents)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert words in str(refused.value)
    assert peak < 8 * MOST_PARSED_BYTES
