"""A frame in a Flower message, and nothing beside it."""

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from hypothesis import given
from hypothesis import strategies as st

from protos import envelope
from protos.codec import CodecError
from protos.envelope import PIECE_BYTES, seal, unseal
from tests.flower_for_tests import message


def opened(content: RecordDict) -> bytes:
    return unseal(message(content))


@given(st.binary(max_size=100))
def test_a_small_frame_is_one_record(frame: bytes):
    assert len(seal(frame)) == 1
    assert opened(seal(frame)) == frame


@pytest.mark.parametrize("length", [PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 2 * PIECE_BYTES])
def test_a_large_frame_travels_in_pieces(length):
    frame = np.arange(length, dtype=np.uint32).astype(np.uint8).tobytes()
    sealed = seal(frame)
    assert len(sealed) == -(-length // PIECE_BYTES)
    assert opened(sealed) == frame


def test_pieces_are_put_together_by_their_names_whatever_their_order(monkeypatch):
    monkeypatch.setattr(envelope, "PIECE_BYTES", 1)
    sealed = seal(b"covenant-is-long")
    turned = RecordDict(dict(reversed(list(sealed.config_records.items()))))
    assert opened(turned) == b"covenant-is-long"


def test_a_frame_survives_flowers_own_serialisation():
    sent = message(seal(b"covenant"))
    objects = {name: part.deflate() for name, part in get_all_nested_objects(sent).items()}
    received = inflate_object_from_contents(sent.object_id, objects)
    assert isinstance(received, Message)
    assert unseal(received) == b"covenant"


BAD = {
    "nothing": (RecordDict(), "holds more than a frame"),
    "an array beside the frame": (
        RecordDict({"frame-00000": ConfigRecord({"bytes": b"x"}), "model": ArrayRecord([np.zeros(2)])}),
        "holds more than a frame",
    ),
    "a metric instead": (RecordDict({"frame-00000": MetricRecord({"loss": 0.1})}), "holds more than a frame"),
    "another name": (RecordDict({"frame": ConfigRecord({"bytes": b"x"})}), "piece 0 of a frame is missing"),
    "a gap": (
        RecordDict({name: ConfigRecord({"bytes": b"x"}) for name in ("frame-00000", "frame-00002")}),
        "piece 1 of a frame is missing",
    ),
    "another field": (
        RecordDict({"frame-00000": ConfigRecord({"data": b"x"})}),
        "piece 0 of a frame is missing",
    ),
    "text": (RecordDict({"frame-00000": ConfigRecord({"bytes": "x"})}), "piece 0 of a frame is missing"),
    "a field beside the bytes": (
        RecordDict({"frame-00000": ConfigRecord({"bytes": b"x", "note": "psst"})}),
        "holds more than a frame",
    ),
}


@pytest.mark.parametrize("defect", BAD)
def test_anything_but_a_frame_is_refused_by_its_defect(defect):
    content, sentence = BAD[defect]
    with pytest.raises(CodecError, match=sentence):
        opened(content)


def test_an_error_message_carries_no_frame():
    with pytest.raises(CodecError, match="without content"):
        unseal(message(error=Error(1, "crashed")))


def test_pieces_that_add_up_to_too_much_are_refused(monkeypatch):
    sealed = seal(b"12345678")
    monkeypatch.setattr(envelope, "MAX_FRAME_BYTES", 8)
    assert opened(sealed) == b"12345678"
    monkeypatch.setattr(envelope, "MAX_FRAME_BYTES", 7)
    with pytest.raises(CodecError, match="more than 7 bytes"):
        opened(sealed)
