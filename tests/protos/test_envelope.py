"""A frame in a Flower message, and nothing beside it."""

from contextlib import suppress

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from hypothesis import given
from hypothesis import strategies as st

from protos import envelope
from protos.codec_fields import CodecError
from protos.envelope import PIECE_BYTES, seal, unseal
from strategies.pieces import joined
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
    assert joined(opened(sealed)) == frame


def test_pieces_are_put_together_by_their_names_whatever_their_order(monkeypatch):
    monkeypatch.setattr(envelope, "PIECE_BYTES", 1)
    sealed = seal(b"covenant-is-long")
    turned = RecordDict(dict(reversed(list(sealed.config_records.items()))))
    assert joined(opened(turned)) == b"covenant-is-long"


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
    "another name": (
        RecordDict({"frame": ConfigRecord({"bytes": b"x"})}),
        "piece 1 of 1 of a frame is missing",
    ),
    "a number too long to be read": (
        RecordDict({"frame-" + "9" * 5000: ConfigRecord({"bytes": b"x"})}),
        "piece 1 of 1 of a frame is missing",
    ),
    "a number too long to be written": (
        RecordDict({"frame-" + "9" * 4300: ConfigRecord({"bytes": b"x"})}),
        "piece 1 of 1 of a frame is missing",
    ),
    "digits of another script": (
        RecordDict({"frame-" + "\u0669" * 5: ConfigRecord({"bytes": b"x"})}),
        "piece 1 of 1 of a frame is missing",
    ),
    "digits that are no numbers": (
        RecordDict({"frame-" + "\u00b2" * 5: ConfigRecord({"bytes": b"x"})}),
        "piece 1 of 1 of a frame is missing",
    ),
    "a gap": (
        RecordDict({name: ConfigRecord({"bytes": b"x"}) for name in ("frame-00000", "frame-00002")}),
        "piece 2 of 3 of a frame is missing",
    ),
    "another field": (
        RecordDict({"frame-00000": ConfigRecord({"data": b"x"})}),
        "piece 1 of 1 of a frame is missing",
    ),
    "text": (RecordDict({"frame-00000": ConfigRecord({"bytes": "x"})}), "piece 1 of 1 of a frame is missing"),
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
    with pytest.raises(CodecError, match="a frame of 8 bytes; at most 7 are accepted"):
        opened(sealed)


def test_a_frame_larger_than_the_reader_takes_is_refused():
    assert opened(seal(b"12345678")) == b"12345678"
    with pytest.raises(CodecError, match="a frame of 8 bytes; at most 7 are accepted"):
        unseal(message(seal(b"12345678")), 7)


def test_one_object_under_many_names_is_as_large_as_they_make_it():
    """It crosses the network once, and would be read as many times as it has names."""
    piece = ConfigRecord({"bytes": bytes(1000)})
    content = RecordDict({f"frame-{number:05d}": piece for number in range(100)})
    with pytest.raises(CodecError, match="a frame of 100000 bytes; at most 2000 are accepted"):
        unseal(message(content), 2000)


def test_a_frame_in_very_many_pieces_is_refused():
    piece = ConfigRecord({"bytes": b""})
    content = RecordDict({f"frame-{number:05d}": piece for number in range(envelope.MOST_PIECES + 1)})
    with pytest.raises(CodecError, match="a frame in 1023 pieces; at most 1022 are accepted"):
        opened(content)


NUMBERS = st.integers(0, 99_999).map(lambda number: f"frame-{number:05d}")
DIGITS = st.text(st.characters(categories=["Nd", "Nl", "No"]), max_size=8)
LONG = st.sampled_from([6, 4299, 4300, 5000]).map(lambda length: "frame-" + "9" * length)
NAMES = st.one_of(NUMBERS, DIGITS.map(lambda digits: f"frame-{digits}"), LONG, st.text(max_size=12))
SCALARS = st.one_of(
    st.binary(max_size=8),
    st.text(max_size=8),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
    st.lists(st.binary(max_size=3), max_size=3),
)
RECORDS = st.one_of(
    st.binary(max_size=8).map(lambda content: ConfigRecord({"bytes": content})),
    st.dictionaries(st.sampled_from(["bytes", "", "Bytes"]), SCALARS, max_size=2).map(ConfigRecord),
    st.just(MetricRecord({"bytes": [1.0]})),
    st.just(ArrayRecord([np.zeros(1)])),
)


@given(st.dictionaries(NAMES, RECORDS, max_size=5))
def test_whatever_records_come_a_frame_comes_out_or_a_codec_error(records):
    with suppress(CodecError):
        assert isinstance(joined(opened(RecordDict(records))), bytes)
