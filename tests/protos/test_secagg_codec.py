"""Frames of secure aggregation: what is encoded comes back, and nothing but a frame or a `CodecError` comes out of any bytes."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from protos import secagg_pb2 as pb
from protos.codec_fields import MAX_ROSTER, CodecError
from protos.secagg_codec import decode_frame, encode_frame
from strategies.ids import Digest, RunId, SiteName
from strategies.secagg.labels import Attempt
from strategies.secagg.messages import (
    Advertisement,
    AdvertiseRequest,
    Body,
    Confirmation,
    ConfirmRequest,
    Envelopes,
    Frame,
    MaskedInput,
    MaskRequest,
    ShareRequest,
    Shares,
    UnmaskRequest,
)
from strategies.secagg.suites import Suite

ATTEMPT = Attempt(
    suite=Suite.X25519,
    plan=Digest("ab" * 32),
    run=RunId("run-0123456789abcdef"),
    stage="TRAIN",
    round=3,
    attempt=2,
)
DIGEST = Digest("cd" * 32)
EAST, WEST, NORTH = SiteName("east"), SiteName("west"), SiteName("north")


def keys(site: SiteName) -> Advertisement:
    mask, envelope = (hashlib.sha256(f"{site} {name}".encode()).digest() for name in ("mask", "envelope"))
    return Advertisement(
        site=site, mask_key=mask, envelope_key=envelope, own_seed=DIGEST, signature=bytes(range(64))
    )


BODIES: list[Body] = [
    AdvertiseRequest(),
    keys(EAST),
    ShareRequest((keys(EAST), keys(NORTH), keys(WEST))),
    Envelopes(site=EAST, sealed={NORTH: bytes(82), WEST: b"\x01" * 82}),
    MaskRequest(statement=DIGEST, roster=(EAST, WEST), envelopes={WEST: bytes(82)}),
    MaskedInput(site=EAST, statement=DIGEST, packed=b"\x05" * 30, signature=bytes(64)),
    ConfirmRequest((EAST, NORTH)),
    Confirmation(site=EAST, signature=bytes(64)),
    UnmaskRequest(
        statement=DIGEST, survivors=(EAST, NORTH), dropped=(WEST,), confirmations={EAST: bytes(64)}
    ),
    Shares(site=EAST, own_seeds={EAST: bytes(33), NORTH: bytes(33)}, mask_keys={WEST: b"\x00" * 33}),
]


@pytest.mark.parametrize("body", BODIES, ids=lambda body: type(body).__name__)
def test_what_is_encoded_comes_back(body: Body) -> None:
    data = encode_frame(Frame(ATTEMPT, body))
    assert decode_frame(data) == Frame(ATTEMPT, body)
    assert encode_frame(decode_frame(data)) == data


def test_a_vector_may_have_no_coordinates() -> None:
    """What sites prepare under a plan without numeric features, and there is no other way to say it."""
    empty = MaskedInput(site=EAST, statement=DIGEST, packed=b"", signature=bytes(64))
    assert decode_frame(encode_frame(Frame(ATTEMPT, empty))).body == empty


def test_every_body_of_the_wire_is_among_these() -> None:
    frames = [encode_frame(Frame(ATTEMPT, body)) for body in BODIES]
    seen = {pb.Frame.FromString(data).WhichOneof("body") for data in frames}
    assert seen == {field.name for field in pb.Frame.DESCRIPTOR.oneofs_by_name["body"].fields}


def frame(body: Body) -> pb.Frame:
    return pb.Frame.FromString(encode_frame(Frame(ATTEMPT, body)))


def _change(which: int, change: Callable[[pb.Frame], object]) -> bytes:
    message = frame(BODIES[which])
    change(message)
    return message.SerializeToString()


def _unsorted(message: pb.Frame) -> None:
    message.confirm_request.survivors[:] = ["north", "east"]


def _crowd(message: pb.Frame) -> None:
    message.confirm_request.survivors[:] = [f"s{number:06d}" for number in range(MAX_ROSTER + 1)]


BAD: dict[str, tuple[int, Callable[[pb.Frame], object], str]] = {
    "another version": (0, lambda m: setattr(m, "version", 2), "version 2; this side speaks 1"),
    "no attempt": (0, lambda m: m.ClearField("attempt"), "attempts count from 1"),
    "an unknown suite": (0, lambda m: setattr(m.attempt, "suite", "rot13"), "out of bounds"),
    "a suite whose keys are longer": (1, lambda m: setattr(m.attempt, "suite", Suite.P256), "it takes 33"),
    "a stage there is not": (0, lambda m: setattr(m.attempt, "stage", "DANCE"), "stage that there is not"),
    "a run that is none": (0, lambda m: setattr(m.attempt, "run", "../../etc"), "out of bounds"),
    "no body": (0, lambda m: m.ClearField("advertise_request"), "without a body"),
    "a site that is none": (1, lambda m: setattr(m.advertisement, "site", "EAST"), "out of bounds"),
    "a truncated key": (
        1,
        lambda m: setattr(m.advertisement, "mask_key", bytes(31)),
        "mask_key has 31 bytes",
    ),
    "a truncated signature": (
        1,
        lambda m: setattr(m.advertisement, "signature", b""),
        "signature has 0 bytes",
    ),
    "an oversized envelope": (
        3,
        lambda m: setattr(m.envelopes.envelopes[0], "sealed", bytes(83)),
        "it takes 82",
    ),
    "a truncated digest": (4, lambda m: setattr(m.mask_request, "statement", bytes(8)), "SHA-256"),
    "survivors out of order": (6, _unsorted, "not sorted"),
    "a site twice": (8, lambda m: m.unmask_request.dropped.append("west"), "names a site twice"),
    "a crowd": (6, _crowd, f"at most {MAX_ROSTER} are accepted"),
    "an oversized share": (
        9,
        lambda m: setattr(m.shares.own_seeds[0], "share", bytes(34)),
        "share has 34 bytes",
    ),
    "shares of one site twice": (9, lambda m: m.shares.mask_keys.add(site="west", share=bytes(33)), "twice"),
}


@pytest.mark.parametrize("defect", BAD)
def test_a_frame_out_of_bounds(defect: str) -> None:
    which, change, message = BAD[defect]
    with pytest.raises(CodecError, match=message):
        decode_frame(_change(which, change))


def test_a_frame_beyond_the_bound_is_not_even_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("protos.frame_size.MAX_FRAME_BYTES", 10)
    with pytest.raises(CodecError, match="at most 10 are accepted"):
        decode_frame(encode_frame(Frame(ATTEMPT, BODIES[5])))


@settings(max_examples=400, deadline=None)
@given(st.binary(max_size=400))
@example(b"")
@example(b"\x08\x01")
def test_any_bytes_are_a_frame_or_a_codec_error(data: bytes) -> None:
    with contextlib.suppress(CodecError):
        decode_frame(data)


@settings(max_examples=600, deadline=None)
@given(st.sampled_from(BODIES), st.data())
def test_a_damaged_frame_is_a_frame_or_a_codec_error(body: Body, data: st.DataObject) -> None:
    octets = bytearray(encode_frame(Frame(ATTEMPT, body)))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(octets) - 1))
        match data.draw(st.sampled_from(["flip", "cut", "insert", "repeat"])):
            case "flip":
                octets[place] ^= data.draw(st.integers(1, 255))
            case "cut":
                del octets[place : place + data.draw(st.integers(1, 20))]
            case "insert":
                octets[place:place] = data.draw(st.binary(max_size=20))
            case _:
                octets += octets[place:]
        if not octets:
            return
    try:
        found = decode_frame(bytes(octets))
    except CodecError:
        return
    assert decode_frame(encode_frame(found)) == found


@st.composite
def messages(draw: st.DrawFn) -> pb.Frame:
    """Frames of the right form with values of any kind."""
    text, octets, number = st.text(max_size=20), st.binary(max_size=90), st.integers(0, 2**32 - 1)
    names = st.lists(st.sampled_from(["east", "west", "north", "", "EAST", "é"]), max_size=4)
    message = pb.Frame(version=draw(st.sampled_from([0, 1, 1, 1])))
    message.attempt.suite = draw(st.sampled_from([*Suite, ""]))
    message.attempt.plan, message.attempt.run = draw(octets), draw(text)
    if draw(st.booleans()):
        message.attempt.plan, message.attempt.run = bytes(32), ATTEMPT.run
    message.attempt.stage = draw(st.sampled_from(["TRAIN", "PREPARE", "", "X"]))
    message.attempt.round, message.attempt.attempt = draw(number), draw(number)
    match draw(st.integers(0, 3)):
        case 0:
            message.mask_request.statement = draw(octets)
            message.mask_request.roster.extend(draw(names))
        case 1:
            message.unmask_request.survivors.extend(draw(names))
            message.unmask_request.dropped.extend(draw(names))
        case 2:
            for name in draw(names):
                message.shares.own_seeds.add(site=name, share=draw(octets))
        case _:
            for name in draw(names):
                message.share_request.cohort.add(site=name, mask_key=draw(octets), signature=draw(octets))
    return message


@settings(max_examples=300, deadline=None)
@given(messages())
def test_frames_of_the_right_form_with_any_values(message: pb.Frame) -> None:
    with contextlib.suppress(CodecError):
        decode_frame(message.SerializeToString())
