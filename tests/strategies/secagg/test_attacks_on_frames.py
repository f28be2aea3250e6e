"""Frames and inputs that are cut short or too long. Each attack fails, and its control works.

The codec refuses what cannot be a frame. What still is one after a cut says less than it did, and the states refuse that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
from google.protobuf.message import DecodeError

from protos import codec_fields, secagg_codec
from protos import secagg_pb2 as pb
from protos.codec_fields import CodecError
from protos.secagg_codec import decode_frame, encode_frame
from strategies.errors import Refused
from strategies.secagg import server as central
from strategies.secagg.messages import UPLOAD, AdvertiseRequest, Body, Frame, MaskedInput, Shares
from strategies.secagg.rings import Ring
from tests.strategies.secagg.attacks_for_tests import DIMENSION, OTHERS, VICTIM, Guard, off, without
from tests.strategies.secagg.attempt_for_tests import RING, STATEMENT, Federation

Take = Callable[[Body], object]


@dataclass(frozen=True)
class Said:
    """One message of an attempt, and what its receiver does with whatever comes in its place."""

    body: Body
    take: Take


def conversation(federation: Federation) -> dict[str, Said]:
    """Every message of one attempt in which one of five sites drops out, between the coordinator and the victim."""
    sharing = federation.advertise()
    advertised = federation.advertised[VICTIM]
    fresh = [central.Advertising(federation.server), central.Sharing(federation.server, sharing.cohort)]
    ready = federation.share(sharing)
    _, envelopes = advertised.share(sharing.request, federation.entropy)
    collecting = ready.ask(STATEMENT, RING, DIMENSION)
    asked = collecting.request_for(VICTIM)
    confirming = federation.mask(ready, federation.vectors(), frozenset(federation.sites[-1:]))
    unmasking = federation.confirm(confirming)
    confirmed = federation.confirmed[VICTIM]
    _, confirmation = federation.masked[VICTIM].confirm(confirming.request)
    again = replace(confirming, _signed={})
    zeros = np.zeros(DIMENSION, np.int64)
    return {
        "advertise request": Said(AdvertiseRequest(), lambda body: body),
        "advertisement": Said(advertised.advertisement, fresh[0].receive),
        "share request": Said(sharing.request, lambda body: advertised.share(body, federation.entropy)),
        "envelopes": Said(envelopes, fresh[1].receive),
        "mask request": Said(asked, lambda body: federation.shared[VICTIM].mask(body, RING, zeros)),
        "masked input": Said(federation.sent[VICTIM], collecting.receive),
        "confirm request": Said(confirming.request, federation.masked[VICTIM].confirm),
        "confirmation": Said(confirmation, again.receive),
        "unmask request": Said(unmasking.request, confirmed.unmask),
        "shares": Said(confirmed.unmask(unmasking.request), unmasking.receive),
    }


CUTS = {
    "advertisement": 0,
    "envelopes": 4,
    "mask request": 9,
    "masked input": 0,
    "confirmation": 0,
    "unmask request": 9,
    "shares": 5,
}
"""How many beginnings of each message's body still say something."""

OTHER_MESSAGES = ["advertise request", "share request", "confirm request"]


def cuts(said: Said) -> list[Body]:
    """What is still a body of the wire when it ends too early, in a frame whose lengths are right."""
    whole = pb.Frame.FromString(encode_frame(Frame(Federation().attempt, said.body)))
    kind = whole.WhichOneof("body")
    assert kind is not None
    inner = getattr(whole, kind)
    data, found = inner.SerializeToString(), []
    for length in range(len(data)):
        try:
            getattr(whole, kind).CopyFrom(type(inner).FromString(data[:length]))
            found.append(decode_frame(whole.SerializeToString()).body)
        except (DecodeError, CodecError):
            continue
    return found


@pytest.mark.parametrize("name", [*CUTS, *OTHER_MESSAGES])
def test_a_truncated_frame(name: str) -> None:
    """No beginning of a frame is a frame."""
    federation = Federation(count=5)
    said = conversation(federation)[name]
    whole = encode_frame(Frame(federation.attempt, said.body))
    for length in range(len(whole)):
        with pytest.raises(CodecError):
            decode_frame(whole[:length])
    assert decode_frame(whole).body == said.body


@pytest.mark.parametrize("name", CUTS)
def test_a_frame_with_a_truncated_body(name: str) -> None:
    """What is left says less than it did, where it says anything, and its receiver refuses that; the whole it takes."""
    said = conversation(Federation(count=5))[name]
    left = cuts(said)
    assert len(left) == CUTS[name]
    for body in left:
        with pytest.raises(Refused):
            said.take(body)
    said.take(said.body)


def test_a_truncated_share_request_leads_to_keys_that_nobody_else_has() -> None:
    """A smaller cohort is a thing that a coordinator may say."""
    federation = Federation(count=5)
    *_, fewer = cuts(conversation(federation)["share request"])
    shared, _ = federation.advertised[VICTIM].share(fewer, federation.entropy)  # type: ignore[arg-type]
    assert len(shared.cohort.sites) == 4
    assert shared.cohort.digest != federation.shared[OTHERS[0]].cohort.digest


def test_a_truncated_confirm_request_does_not_reach_the_threshold() -> None:
    """Fewer survivors are a thing that a coordinator may say, too."""
    whole = conversation(Federation(count=5))["confirm request"]
    *_, fewer = cuts(whole)
    with pytest.raises(Refused, match="3 survivors; at least 4 must be in a sum"):
        whole.take(fewer)


# Fields of another length.


def short_shares(federation: Federation) -> tuple[central.Unmasking, bytes]:
    """Step 5 in which all but the victim have given shares, and the victim's frame with the last byte of each share cut off."""
    step = federation.confirm(federation.until_masked())
    for site in OTHERS:
        step.receive(federation.confirmed[site].unmask(step.request))
    shares = federation.confirmed[VICTIM].unmask(step.request)
    cut = replace(shares, own_seeds={site: share[:-1] for site, share in shares.own_seeds.items()})
    return step, encode_frame(Frame(federation.attempt, cut))


def test_a_frame_with_truncated_shares() -> None:
    _, data = short_shares(Federation())
    with pytest.raises(CodecError, match="share has 32 bytes; it takes 33"):
        decode_frame(data)


def test_a_frame_with_truncated_shares_makes_a_liar_of_an_honest_site_without_the_guard(
    monkeypatch: Guard,
) -> None:
    off(monkeypatch, secagg_codec, "_all_of", lambda data, *_: data)
    step, data = short_shares(Federation())
    body = decode_frame(data).body
    assert isinstance(body, Shares)
    step.receive(body)
    assert step.open().doubted == (VICTIM,)


# Frames that are too long.


def flood(federation: Federation, names: int) -> bytes:
    """A list of so many survivors."""
    frame = Frame(federation.attempt, AdvertiseRequest())
    message = pb.Frame.FromString(encode_frame(frame))
    message.confirm_request.survivors.extend(f"s{number:06d}" for number in range(names))
    return message.SerializeToString()


def test_an_oversized_frame(monkeypatch: Guard) -> None:
    """Refused by its length alone: what would parse it is not called. The bound is set low, as a gigabyte is much for a test."""
    data = flood(Federation(), 1000)
    monkeypatch.setattr("protos.frame_size.MAX_FRAME_BYTES", len(data) - 1)
    off(monkeypatch, secagg_codec, "read_frame", lambda *_: pytest.fail("it was parsed"))
    with pytest.raises(CodecError, match=f"at most {len(data) - 1} are accepted"):
        decode_frame(data)


def test_an_oversized_frame_is_read_in_full_without_the_guard(monkeypatch: Guard) -> None:
    data = flood(Federation(), 1000)
    monkeypatch.setattr("protos.frame_size.MAX_FRAME_BYTES", len(data) - 1)
    off(monkeypatch, codec_fields, "oversize")
    body = secagg_codec.decode_frame(data).body
    assert len(body.survivors) == 1000  # type: ignore[union-attr]


def test_a_frame_with_an_oversized_list() -> None:
    with pytest.raises(CodecError, match="a list of 10001 sites; at most 10000 are accepted"):
        decode_frame(flood(Federation(), 10_001))


# Inputs of another length, in a frame that is one.


def of_length(federation: Federation, change: Callable[[bytes], bytes], ring: Ring) -> central.Collecting:
    """The victim sends an input whose bytes it has changed, properly signed."""
    step = federation.share(federation.advertise()).ask(STATEMENT, ring, DIMENSION)
    packed = change(federation.masked_input(step, VICTIM, federation.vectors()[VICTIM]).packed)
    signed = MaskedInput.signed_bytes(step.bound, VICTIM, packed)
    signature = federation.identities.signer(VICTIM)(UPLOAD, signed)
    sent = MaskedInput(site=VICTIM, statement=STATEMENT, packed=packed, signature=signature)
    frame = encode_frame(Frame(federation.attempt, sent))
    step.receive(decode_frame(frame).body)  # type: ignore[arg-type]
    return step


LENGTHS = {
    "three bytes": lambda packed: packed[:3],
    "a byte less": lambda packed: packed[:-1],
    "a byte more": lambda packed: packed + b"\0",
    "a thousand times": lambda packed: packed * 1000,
}


@pytest.mark.parametrize("bits", [24, 25, 33])
@pytest.mark.parametrize("length", LENGTHS)
def test_a_truncated_or_oversized_input(length: str, bits: int) -> None:
    with pytest.raises(Refused, match=r"5 coordinates takes \d+ bytes in this ring"):
        of_length(Federation(), LENGTHS[length], Ring(bits))


@pytest.mark.parametrize("bits", [24, 25, 33])
def test_a_truncated_input_stops_the_coordinator_without_the_guard(monkeypatch: Guard, bits: int) -> None:
    """With an error that is no refusal of one site's message, so the whole run ends."""
    without(monkeypatch, Ring, "check_packed", "bytes in this ring")
    with pytest.raises(ValueError, match=r"strides|reshape"):
        of_length(Federation(), LENGTHS["three bytes"], Ring(bits))


@pytest.mark.parametrize("bits", [24, 25, 33])
def test_an_oversized_input_counts_for_its_beginning_without_the_guard(monkeypatch: Guard, bits: int) -> None:
    """One vector then has any number of encodings, each with a digest and a signature of its own."""
    without(monkeypatch, Ring, "check_packed", "bytes in this ring", "padding")
    totals = [
        of_length(Federation(), LENGTHS[length], Ring(bits)).total
        for length in ("a byte more", "a thousand times")
    ]
    first, second = (Ring(bits).reduce(total) for total in totals)
    assert first.any()
    assert np.array_equal(first[:4], second[:4])
