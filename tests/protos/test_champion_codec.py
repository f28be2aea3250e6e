"""The champion in a request: there and back to the bit, only to evaluate, and every value within bounds."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given

from protos import training_pb2 as pb
from protos.codec import decode_reply, decode_request, encode_reply, encode_request
from protos.codec_fields import CodecError
from protos.frames import ChampionModel, ScoreCounts, Stage
from protos.secure_codec import decode_asked, encode_secure_request
from strategies.features import Scaling
from tests.protos.test_codec import EVALUATE, TRAIN, UPDATE, scalings, vectors
from tests.protos.test_secure_codec import MASKING, STATEMENT

CHAMPION = ChampionModel(np.array([1.5, -0.0, 5e-324]), Scaling(mean=(0.25, 0.5), std=(0.1, 0.2)))
PLAIN = replace(EVALUATE, champion=CHAMPION)
SECURE = replace(MASKING, statement=replace(STATEMENT, stage=Stage.EVALUATE), champion=CHAMPION)


@given(vectors, scalings)
def test_a_champion_comes_back_to_the_bit(
    model: np.ndarray[tuple[int], np.dtype[np.float64]], scaling: Scaling
) -> None:
    sent = ChampionModel(model, scaling)
    for received in (
        decode_request(encode_request(replace(PLAIN, champion=sent))).champion,
        decode_asked(encode_secure_request(replace(SECURE, champion=sent))).champion,  # type: ignore[union-attr]
    ):
        assert received is not None
        assert received.model.tobytes() == model.tobytes()
        assert received.scaling == scaling


def test_a_request_without_one_is_the_bytes_that_it_was() -> None:
    for data in (encode_request(EVALUATE), encode_secure_request(MASKING)):
        assert not pb.Request.FromString(data).HasField("champion")


def test_a_champion_of_no_numeric_feature_is_there() -> None:
    sent = replace(CHAMPION, scaling=Scaling(mean=(), std=()))
    assert decode_request(encode_request(replace(PLAIN, champion=sent))).champion is not None


DEFECTS: dict[str, tuple[Callable[[pb.Request], object], str]] = {
    "no model": (lambda m: m.champion.ClearField("model"), "champion has 0 bytes"),
    "half a value": (lambda m: setattr(m.champion, "model", bytes(12)), "not a whole number of float64"),
    "NaN": (lambda m: setattr(m.champion, "model", np.array([math.nan]).tobytes()), "not finite"),
    "infinite": (lambda m: setattr(m.champion, "model", np.array([math.inf]).tobytes()), "not finite"),
    "a deviation of zero": (lambda m: m.champion.scaling.std.__setitem__(0, 0.0), "not positive"),
    "uneven scaling": (lambda m: m.champion.scaling.std.append(1.0), "2 means and 3 standard"),
}


@pytest.mark.parametrize("defect", DEFECTS)
@pytest.mark.parametrize("secure", [True, False], ids=["secure", "plain"])
def test_a_champion_out_of_bounds(defect: str, secure: bool) -> None:
    change, words = DEFECTS[defect]
    frame = pb.Request.FromString(encode_secure_request(SECURE) if secure else encode_request(PLAIN))
    change(frame)
    with pytest.raises(CodecError, match=words):
        decode_asked(frame.SerializeToString())


@pytest.mark.parametrize(
    "data",
    [
        encode_request(replace(TRAIN, champion=CHAMPION)),
        encode_secure_request(replace(MASKING, champion=CHAMPION)),
        encode_secure_request(replace(SECURE, statement=None, scaling=None)),
    ],
    ids=["plain to train", "secure to train", "without a statement"],
)
def test_a_champion_where_nothing_is_evaluated(data: bytes) -> None:
    with pytest.raises(CodecError, match="champion"):
        decode_asked(data)


def test_a_request_to_witness_has_no_champion() -> None:
    frame = pb.Request()
    frame.witness.run = "run-0123456789abcdef"
    frame.champion.model = np.zeros(1).tobytes()
    with pytest.raises(CodecError, match="asks for something else too"):
        decode_asked(frame.SerializeToString())


def test_counts_of_two_models_keep_their_order() -> None:
    counts = np.arange(24).reshape(4, 6)
    body = decode_reply(encode_reply(replace(UPDATE, body=ScoreCounts(counts)))).body
    assert isinstance(body, ScoreCounts)
    np.testing.assert_array_equal(body.counts.reshape(-1, 6), counts)
