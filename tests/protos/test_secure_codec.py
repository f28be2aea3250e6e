"""Requests and answers of secure aggregation: what is encoded comes back, and nothing but a value or a `CodecError` comes out of any bytes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import numpy as np
import pytest
from google.protobuf.message import Message
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from protos import frames, secagg_pb2, secure_codec
from protos import training_pb2 as pb
from protos.codec import encode_reply, encode_request
from protos.codec_fields import MAX_DOCUMENT_BYTES, MAX_ROSTER, CodecError
from protos.frames import (
    Checkpoint,
    Moments,
    Reply,
    Request,
    SecureAnswer,
    SecureRequest,
    Stage,
    Statement,
    Task,
    Upload,
    scaling_digest,
)
from protos.secagg_codec import decode_opening, encode_opening
from protos.secure_codec import (
    decode_answer,
    decode_asked,
    decode_testimony,
    encode_secure_reply,
    encode_secure_request,
    encode_testimony,
)
from strategies.encoding import Vector, vector_bytes, vector_digest
from strategies.features import Scaling
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
from strategies.secagg.server import Unmasking
from strategies.secagg.suites import Suite
from strategies.server_optimizers import OptimizerState
from tests.strategies.secagg.attempt_for_tests import Federation

D1, D2, D3 = (Digest(f"{number:064x}") for number in (1, 2, 3))
EAST, NORTH, WEST = SiteName("east"), SiteName("north"), SiteName("west")
MODEL = np.array([1.5, -0.0, 5e-324, -1.7e308])
STATE = OptimizerState(7, (MODEL / 2, np.array([0.0, 1e-6, 1e300, 0.25])))
SCALING = Scaling(mean=(0.25, 1 / 3), std=(0.5, 1e-6))
STATEMENT = Statement(
    plan_digest=D1,
    contract_digest=D2,
    members_digest=D3,
    run=RunId("run-0123456789abcdef"),
    stage=Stage.TRAIN,
    round=7,
    attempt=2,
    roster=(EAST, NORTH, WEST),
    component="tabular/1",
    model_digest=vector_digest(MODEL),
    scaling_digest=scaling_digest(SCALING),
    optimizer_digest=STATE.digest,
)
NOW = Attempt(suite=Suite.X25519, plan=D1, run=STATEMENT.run, stage="TRAIN", round=7, attempt=2)
NEXT = replace(NOW, round=8, attempt=1)
TESTIMONY = frames.Testimony(
    statement=replace(STATEMENT, round=6),
    cohort=D2,
    uploads={
        site: Upload(digest, bytes([place]) * 64)
        for place, (site, digest) in enumerate([(EAST, D1), (WEST, D3)])
    },
)
TASK = Task(plan=b"{}", contract=b"[]", members=b"0", evidence=b"1")
MASK = Frame(
    NOW, MaskRequest(statement=STATEMENT.digest, roster=STATEMENT.roster, envelopes={WEST: bytes(82)})
)
SETTING_UP = SecureRequest(frames=(Frame(NOW, AdvertiseRequest()),), task=TASK)
MASKING = SecureRequest(
    frames=(MASK, Frame(NEXT, AdvertiseRequest())),
    statement=STATEMENT,
    scaling=SCALING,
    aggregate=MODEL,
    checkpoint=Checkpoint(model=MODEL, optimizer=STATE, testimony=TESTIMONY),
)
PREPARING = SecureRequest(
    frames=(Frame(replace(NOW, stage="PREPARE", round=0), MASK.body),),
    statement=replace(
        STATEMENT, stage=Stage.PREPARE, round=0, model_digest=None, scaling_digest=None, optimizer_digest=None
    ),
)
REQUESTS = {"set up": SETTING_UP, "mask": MASKING, "prepare": PREPARING}
INPUT = MaskedInput(site=EAST, statement=D1, packed=b"\x05" * 30, signature=bytes(64))
ANSWER = SecureAnswer(
    (Frame(NOW, INPUT), Frame(NEXT, Confirmation(site=EAST, signature=bytes(64)))), holds=D3
)
FEDERATION = Federation(count=5, minimum=3)
T = TypeVar("T")
M = TypeVar("M", bound=Message)


def _opened() -> Unmasking:
    lost = frozenset(FEDERATION.sites[:1])
    return FEDERATION.confirm(
        FEDERATION.mask(FEDERATION.share(FEDERATION.advertise()), FEDERATION.vectors(), lost)
    )


STEP = _opened()
DIMENSION = len(FEDERATION.vectors()[FEDERATION.sites[0]])
OPENING = encode_opening(STEP)
VALID = {
    "decode_asked": [*map(encode_secure_request, REQUESTS.values())],
    "decode_answer": [
        encode_secure_reply(D1, EAST, ANSWER),
        encode_secure_reply(D2, WEST, SecureAnswer((MASK,))),
    ],
    "decode_testimony": [encode_testimony(TESTIMONY)],
    "decode_opening": [OPENING],
}


def opening(data: bytes) -> Unmasking:
    return decode_opening(data, FEDERATION.parameters, DIMENSION, FEDERATION.identities.verify)


# --- what a value means, so that two can be compared -----------------------------------------------------------------------


def of_request(request: Request | SecureRequest) -> object:
    if isinstance(request, Request):
        return request.statement, request.task, request.scaling, _octets(request.model)
    kept = request.checkpoint
    checkpoint = None if kept is None else (_octets(kept.model), kept.optimizer.to_bytes(), kept.testimony)
    return (
        request.frames,
        request.task,
        request.statement,
        request.scaling,
        _octets(request.aggregate),
        checkpoint,
    )


def of_step(step: Unmasking) -> object:
    return step.cohort, step.bound, step.ring, step.ring.pack(step.total), step.request


def _octets(vector: Vector | None) -> bytes | None:
    return None if vector is None else vector_bytes(vector)


def again_request(request: Request | SecureRequest) -> Request | SecureRequest:
    encoded = encode_request(request) if isinstance(request, Request) else encode_secure_request(request)
    return decode_asked(encoded)


def again_answer(reply: Reply) -> Reply:
    if not isinstance(reply.body, SecureAnswer):
        return decode_answer(encode_reply(reply))
    return decode_answer(encode_secure_reply(reply.statement_digest, reply.site, reply.body))


def of_answer(reply: Reply) -> object:
    if isinstance(reply.body, SecureAnswer):
        return reply
    return reply.site, reply.statement_digest, encode_reply(reply)


# --- there and back -------------------------------------------------------------------------------------------------------

sites = st.from_regex(r"[a-z][a-z0-9-]{0,20}", fullmatch=True).map(SiteName)
rosters = st.sets(sites, min_size=1, max_size=6).map(lambda chosen: tuple(sorted(chosen)))
digests = st.binary(min_size=32, max_size=32).map(lambda data: Digest(data.hex()))
finite = st.floats(allow_nan=False, allow_infinity=False)
vectors = arrays.arrays(np.float64, st.integers(1, 12), elements=finite)
maybe_digests = st.none() | digests
runs = st.from_regex(r"run-[0-9a-f]{16}", fullmatch=True).map(RunId)
statements = st.builds(
    Statement,
    plan_digest=digests,
    contract_digest=digests,
    members_digest=digests,
    run=runs,
    stage=st.sampled_from(Stage),
    round=st.integers(0, 2**32 - 1),
    attempt=st.integers(1, 2**32 - 1),
    roster=rosters,
    component=st.text(st.characters(codec="utf-8"), max_size=80),
    model_digest=maybe_digests,
    scaling_digest=maybe_digests,
    optimizer_digest=maybe_digests,
)
uploads = st.builds(Upload, digests, st.binary(min_size=64, max_size=64))
testimonies = st.builds(
    frames.Testimony,
    statement=statements,
    cohort=digests,
    uploads=st.dictionaries(sites, uploads, max_size=5),
)
attempts = st.builds(
    Attempt,
    suite=st.sampled_from(Suite),
    plan=digests,
    run=runs,
    stage=st.sampled_from(["PREPARE", "TRAIN", "EVALUATE"]),
    round=st.integers(0, 2**31 - 1),
    attempt=st.integers(1, 2**31 - 1),
)
bodies = st.one_of(
    st.just(AdvertiseRequest()),
    st.builds(ConfirmRequest, rosters),
    st.builds(
        MaskRequest,
        statement=digests,
        roster=rosters,
        envelopes=st.dictionaries(sites, st.binary(min_size=82, max_size=82), max_size=4),
    ),
    st.builds(
        MaskedInput,
        site=sites,
        statement=digests,
        packed=st.binary(min_size=1, max_size=90),
        signature=st.binary(min_size=64, max_size=64),
    ),
)
steps = st.lists(st.builds(Frame, attempts, bodies), min_size=1, max_size=4).map(tuple)


@st.composite
def keys_ahead(draw: st.DrawFn) -> Frame:
    """What may ride on a step: a request for keys, or for shares of keys."""
    attempt = draw(attempts)
    if draw(st.booleans()):
        return Frame(attempt, AdvertiseRequest())
    key = st.binary(min_size=attempt.suite.public_bytes, max_size=attempt.suite.public_bytes)
    signature = st.binary(min_size=64, max_size=64)
    cohort = [
        Advertisement(
            site=site,
            mask_key=draw(key),
            envelope_key=draw(key),
            own_seed=draw(digests),
            signature=draw(signature),
        )
        for site in draw(rosters)
    ]
    return Frame(attempt, ShareRequest(tuple(cohort)))


@st.composite
def checkpoints(draw: st.DrawFn) -> Checkpoint:
    model = draw(vectors)
    slots = draw(st.lists(arrays.arrays(np.float64, model.size, elements=finite), max_size=3))
    state = OptimizerState(draw(st.integers(0, 2**53 - 1)), tuple(slots))
    return Checkpoint(model=model, optimizer=state, testimony=draw(testimonies))


@st.composite
def requests(draw: st.DrawFn) -> SecureRequest:
    documents = st.binary(min_size=1, max_size=30)
    scaling, statement = None, draw(st.none() | statements)
    if statement is not None and draw(st.booleans()):
        size = draw(st.integers(0, 4))
        mean, std = (st.lists(each, min_size=size, max_size=size) for each in (finite, st.floats(1e-6, 1e9)))
        scaling = Scaling(mean=tuple(draw(mean)), std=tuple(draw(std)))
        statement = replace(statement, scaling_digest=scaling_digest(scaling))
    return SecureRequest(
        frames=(draw(st.builds(Frame, attempts, bodies)), *draw(st.lists(keys_ahead(), max_size=3))),
        task=draw(st.none() | st.builds(Task, plan=documents, contract=documents, members=documents)),
        statement=statement,
        scaling=scaling,
        aggregate=draw(st.none() | vectors),
        checkpoint=draw(st.none() | checkpoints()),
    )


@settings(max_examples=60, deadline=None)
@given(requests())
@example(SETTING_UP)
@example(MASKING)
@example(PREPARING)
def test_a_request_comes_back_as_it_was_sent(sent: SecureRequest) -> None:
    data = encode_secure_request(sent)
    received = decode_asked(data)
    assert isinstance(received, SecureRequest)
    assert of_request(received) == of_request(sent)
    assert encode_secure_request(received) == data
    assert received.statement is None or received.statement.digest == sent.statement.digest  # type: ignore[union-attr]


@settings(max_examples=60, deadline=None)
@given(digests, sites, steps, maybe_digests)
def test_an_answer_comes_back_as_it_was_sent(
    echo: Digest, site: SiteName, said: tuple[Frame, ...], holds: Digest | None
) -> None:
    data = encode_secure_reply(echo, site, SecureAnswer(said, holds))
    assert decode_answer(data) == Reply(statement_digest=echo, site=site, body=SecureAnswer(said, holds))
    assert again_answer(decode_answer(data)) == decode_answer(data)


@settings(max_examples=100, deadline=None)
@given(testimonies)
@example(TESTIMONY)
def test_a_testimony_comes_back_as_it_was_kept(kept: frames.Testimony) -> None:
    data = encode_testimony(kept)
    assert decode_testimony(data) == kept
    assert encode_testimony(decode_testimony(data)) == data


def test_equal_testimonies_are_equal_bytes_in_whichever_order_sites_were_heard() -> None:
    backwards = replace(TESTIMONY, uploads=dict(sorted(TESTIMONY.uploads.items(), reverse=True)))
    assert list(backwards.uploads) != list(TESTIMONY.uploads)
    assert encode_testimony(backwards) == encode_testimony(TESTIMONY)


def test_an_opening_comes_back_and_gives_the_sum_that_it_would_have_given() -> None:
    kept = opening(OPENING)
    assert of_step(kept) == of_step(STEP)
    assert encode_opening(kept) == OPENING
    expected = sum(FEDERATION.vectors()[site] for site in STEP.request.survivors)
    assert np.array_equal(FEDERATION.unmask(kept).total, expected)


def test_an_opening_has_no_shares_also_of_a_step_that_has_taken_some() -> None:
    taken = opening(OPENING)
    given_by = [FEDERATION.confirmed[site].unmask(taken.request) for site in taken.request.survivors]
    for shares in given_by:
        taken.receive(shares)
    assert encode_opening(taken) == OPENING
    assert opening(encode_opening(taken)).waiting_for == taken.request.survivors
    parts = [part for item in given_by for part in (*item.own_seeds.values(), *item.mask_keys.values())]
    assert len(parts) == 4 * 5
    assert not [part for part in parts if part in OPENING]


def test_what_was_said_in_the_clear_is_read_by_the_same_decoders() -> None:
    statement = PREPARING.statement
    assert statement is not None
    plain = Request(statement=statement, task=TASK)
    assert decode_asked(encode_request(plain)) == plain
    moments = Reply(statement_digest=D1, site=EAST, body=Moments(MODEL))
    assert of_answer(decode_answer(encode_reply(moments))) == of_answer(moments)


# --- fields out of bounds -------------------------------------------------------------------------------------------------

Defect = Callable[[M], object]


def _nan(*values: float) -> bytes:
    return np.array([*values, np.nan]).astype("<f8").tobytes()


def _four_more(message: pb.Request | pb.Reply) -> None:
    message.secure.frames.extend([message.secure.frames[0]] * 4)


def _roster(*names: str) -> Callable[[pb.Request], None]:
    def change(message: pb.Request) -> None:
        message.statement.roster[:] = names

    return change


def _checkpoint(name: str, value: object) -> Callable[[pb.Request], None]:
    return lambda message: setattr(message.secure.checkpoint, name, value)


def _upload(name: str, value: object) -> Callable[[pb.Testimony], None]:
    return lambda message: setattr(message.uploads[0], name, value)


def _another_upload(site: str) -> Callable[[pb.Testimony], object]:
    return lambda message: message.uploads.add(site=site, packed_digest=bytes(32), signature=bytes(64))


def _crowd(message: pb.Testimony) -> None:
    for number in range(MAX_ROSTER + 1):
        message.uploads.add(site=f"s{number:06d}", packed_digest=bytes(32), signature=bytes(64))


BAD_REQUESTS: dict[str, tuple[Callable[[pb.Request], object], str]] = {
    "no steps": (lambda m: m.secure.ClearField("frames"), "a request of 0 steps"),
    "too many steps": (_four_more, "a request of 6 steps.*1 to 4 are accepted"),
    "a model beside the steps": (lambda m: setattr(m, "model", vector_bytes(MODEL)), "or with a model"),
    "a step that is none": (lambda m: m.secure.frames[1].ClearField("advertise_request"), "without a body"),
    "a step of another version": (lambda m: setattr(m.secure.frames[1], "version", 2), "this side speaks 1"),
    "a statement of another version": (lambda m: setattr(m.statement, "protocol", 2), "this side speaks 1"),
    "a statement of attempt 0": (lambda m: setattr(m.statement, "attempt", 0), "attempts count from 1"),
    "a stage that there is not": (lambda m: setattr(m.statement, "stage", 9), "out of bounds"),
    "a run that is none": (lambda m: setattr(m.statement, "run", "run-1"), "out of bounds"),
    "a component too long": (lambda m: setattr(m.statement, "component", "x" * 81), "80 are accepted"),
    "a roster of nobody": (_roster(), "a roster of 0 sites"),
    "a crowded roster": (_roster(*(f"s{n:06d}" for n in range(MAX_ROSTER + 1))), "are accepted"),
    "a roster out of order": (_roster("west", "east"), "not sorted"),
    "a roster with a site twice": (_roster("east", "east"), "names a site twice"),
    "a roster with a name that is none": (_roster("EAST"), "is not a site name"),
    "a short plan digest": (
        lambda m: setattr(m.statement, "plan_digest", bytes(31)),
        "plan_digest has 31 bytes",
    ),
    "no contract digest": (
        lambda m: m.statement.ClearField("contract_digest"),
        "contract_digest has 0 bytes",
    ),
    "a long member digest": (lambda m: setattr(m.statement, "members_digest", bytes(33)), "has 33 bytes"),
    "a short model digest": (
        lambda m: setattr(m.statement, "model_digest", bytes(8)),
        "model_digest has 8 bytes",
    ),
    "a short state digest": (
        lambda m: setattr(m.statement, "optimizer_digest", bytes(8)),
        "optimizer_digest has 8 bytes",
    ),
    "another scaling": (lambda m: m.scaling.mean.__setitem__(0, 0.5), "the scaling is not the one"),
    "a scaling that nobody named": (
        lambda m: m.statement.ClearField("scaling_digest"),
        "the scaling is not the one",
    ),
    "a scaling without a statement": (lambda m: m.ClearField("statement"), "the scaling is not the one"),
    "a scaling that is lopsided": (lambda m: m.scaling.mean.append(1.0), "3 means and 2 standard deviations"),
    "a scaling that is not finite": (lambda m: m.scaling.mean.__setitem__(0, np.inf), "not finite"),
    "a deviation of nothing": (lambda m: m.scaling.std.__setitem__(0, 0.0), "not positive"),
    "a document without bytes": (lambda m: m.task.SetInParent(), "a plan document of 0 bytes"),
    "a document too long": (
        lambda m: m.task.CopyFrom(pb.Task(plan=bytes(MAX_DOCUMENT_BYTES + 1), contract=b"0", members=b"0")),
        "plan document of 1048577 bytes",
    ),
    "half an aggregate value": (
        lambda m: setattr(m.secure, "aggregate", bytes(12)),
        "aggregate has 12 bytes",
    ),
    "an aggregate that is not finite": (lambda m: setattr(m.secure, "aggregate", _nan(1.0)), "not finite"),
    "a checkpoint without a model": (_checkpoint("model", b""), "model has 0 bytes"),
    "a checkpoint that is not finite": (_checkpoint("model", _nan(1.0, 2.0, 3.0)), "not finite"),
    "a state without a header": (_checkpoint("optimizer", bytes(15)), "header alone takes 16"),
    "a state of another size": (
        _checkpoint("optimizer", STATE.to_bytes()[:-8]),
        "2 slots of 4 values take 80",
    ),
    "a state with a slot too many": (
        _checkpoint(
            "optimizer", (7).to_bytes(8, "little") + (3).to_bytes(8, "little") + STATE.to_bytes()[16:]
        ),
        "3 slots of 4 values",
    ),
    "a state with absurdly many slots": (
        _checkpoint("optimizer", bytes(8) + b"\xff" * 8),
        "18446744073709551615 slots",
    ),
    "a state that is not finite": (
        _checkpoint("optimizer", STATE.to_bytes()[:-8] + _nan()),
        "every value must be finite",
    ),
    "a checkpoint that nobody vouches for": (
        lambda m: m.secure.checkpoint.ClearField("testimony"),
        "protocol version 0",
    ),
    "a checkpoint of no cohort": (
        lambda m: m.secure.checkpoint.testimony.ClearField("cohort"),
        "cohort has 0 bytes",
    ),
}
BAD_ANSWERS: dict[str, tuple[Callable[[pb.Reply], object], str]] = {
    "too many steps": (_four_more, "an answer of 6 steps; 1 to 4 are accepted"),
    "a step that is none": (lambda m: m.secure.frames[0].ClearField("masked_input"), "without a body"),
    "a short echo": (lambda m: setattr(m, "statement_digest", bytes(31)), "statement_digest has 31 bytes"),
    "no echo": (lambda m: m.ClearField("statement_digest"), "statement_digest has 0 bytes"),
    "a name that is none": (lambda m: setattr(m, "site", "../etc"), "is not a site name"),
    "a short digest of the model": (lambda m: setattr(m.secure, "holds", bytes(31)), "holds has 31 bytes"),
    "a short signature": (
        lambda m: setattr(m.secure.frames[0].masked_input, "signature", bytes(63)),
        "signature has 63 bytes",
    ),
    "no body": (lambda m: m.ClearField("secure"), "without a body"),
}
BAD_TESTIMONIES: dict[str, tuple[Callable[[pb.Testimony], object], str]] = {
    "too many signatures": (_crowd, f"a testimony of {MAX_ROSTER + 3} sites; at most {MAX_ROSTER}"),
    "a short signature": (_upload("signature", bytes(63)), "a signature has 63 bytes; it takes 64"),
    "a long signature": (_upload("signature", bytes(65)), "a signature has 65 bytes; it takes 64"),
    "a short digest of an input": (_upload("packed_digest", bytes(31)), "packed_digest has 31 bytes"),
    "a name that is none": (_upload("site", "EAST"), "is not a site name"),
    "a short cohort": (lambda m: setattr(m, "cohort", bytes(20)), "cohort has 20 bytes"),
    "no statement": (lambda m: m.ClearField("statement"), "protocol version 0"),
}
UNORDERED: dict[str, Callable[[pb.Testimony], object]] = {
    "a site twice": _another_upload("west"),
    "a site out of order": _another_upload("north"),
}


def _changed(message: M, change: Defect[M]) -> bytes:
    change(message)
    return message.SerializeToString()


@pytest.mark.parametrize("defect", BAD_REQUESTS)
def test_a_request_out_of_bounds(defect: str) -> None:
    change, words = BAD_REQUESTS[defect]
    with pytest.raises(CodecError, match=words):
        decode_asked(_changed(pb.Request.FromString(encode_secure_request(MASKING)), change))


SIGNATURE = bytes(64)
NO_RIDERS: list[Body] = [
    MASK.body,
    ConfirmRequest((EAST, WEST)),
    UnmaskRequest(statement=D1, survivors=(EAST,), dropped=(WEST,), confirmations={EAST: SIGNATURE}),
    INPUT,
    Advertisement(site=EAST, mask_key=bytes(32), envelope_key=bytes(32), own_seed=D1, signature=SIGNATURE),
    Envelopes(site=EAST, sealed={WEST: bytes(82)}),
    Confirmation(site=EAST, signature=SIGNATURE),
    Shares(site=EAST, own_seeds={EAST: bytes(33)}, mask_keys={}),
]


@pytest.mark.parametrize("body", NO_RIDERS, ids=lambda body: type(body).__name__)
@pytest.mark.parametrize("place", [1, 2])
def test_nothing_but_keys_ahead_rides_on_a_step(body: Body, place: int) -> None:
    """The journal guards the first step of a request and no other."""
    riders = [Frame(NEXT, AdvertiseRequest()), Frame(NEXT, ShareRequest(()))]
    alone = SecureRequest(frames=(Frame(NOW, body),))
    assert again_request(alone) == alone
    said = [MASK, *riders]
    whole = SecureRequest(frames=tuple(said))
    assert again_request(whole) == whole
    said.insert(place, Frame(NEXT, body))
    with pytest.raises(CodecError, match="a step that releases something rides on another"):
        decode_asked(encode_secure_request(SecureRequest(frames=tuple(said))))


@pytest.mark.parametrize("defect", BAD_ANSWERS)
def test_an_answer_out_of_bounds(defect: str) -> None:
    change, words = BAD_ANSWERS[defect]
    with pytest.raises(CodecError, match=words):
        decode_answer(_changed(pb.Reply.FromString(encode_secure_reply(D1, EAST, ANSWER)), change))


@pytest.mark.parametrize("defect", BAD_TESTIMONIES)
def test_a_testimony_out_of_bounds_by_itself_or_in_a_checkpoint(defect: str) -> None:
    change, words = BAD_TESTIMONIES[defect]
    data = _changed(pb.Testimony.FromString(encode_testimony(TESTIMONY)), change)
    with pytest.raises(CodecError, match=words):
        decode_testimony(data)
    request = pb.Request.FromString(encode_secure_request(MASKING))
    request.secure.checkpoint.testimony.CopyFrom(pb.Testimony.FromString(data))
    with pytest.raises(CodecError, match=words):
        decode_asked(request.SerializeToString())


@pytest.mark.parametrize("defect", UNORDERED)
def test_a_testimony_lists_its_sites_in_order_and_each_once(defect: str) -> None:
    data = _changed(pb.Testimony.FromString(encode_testimony(TESTIMONY)), UNORDERED[defect])
    with pytest.raises(CodecError, match=r"sorted|twice"):
        decode_testimony(data)


def test_an_answer_has_at_least_one_step() -> None:
    with pytest.raises(CodecError, match="0 steps"):
        decode_answer(encode_secure_reply(D1, EAST, SecureAnswer(())))


def test_a_state_that_is_taken_has_a_digest() -> None:
    """Its digest is over canonical JSON, which holds no larger integer."""
    request = pb.Request.FromString(encode_secure_request(MASKING))
    last = OptimizerState(2**53 - 1, STATE.slots)
    request.secure.checkpoint.optimizer = last.to_bytes()
    asked = decode_asked(request.SerializeToString())
    assert isinstance(asked, SecureRequest)
    assert asked.checkpoint is not None
    assert asked.checkpoint.optimizer.digest == last.digest
    request.secure.checkpoint.optimizer = OptimizerState(2**53, STATE.slots).to_bytes()
    with pytest.raises(CodecError, match="after 9007199254740992 steps"):
        decode_asked(request.SerializeToString())


def _of_strangers(message: secagg_pb2.Opening) -> None:
    for item in message.cohort.share_request.cohort:
        item.signature = bytes(64)


BAD_OPENINGS: dict[str, tuple[Callable[[secagg_pb2.Opening], object], str]] = {
    "keys that nobody signed": (_of_strangers, "not signed by its identity"),
    "keys of another attempt": (
        lambda m: setattr(m.cohort.attempt, "attempt", 2),
        "not signed by its identity",
    ),
    "keys of too few": (lambda m: m.cohort.share_request.ClearField("cohort"), "below the plan's minimum"),
    "keys out of order": (lambda m: m.cohort.share_request.cohort.reverse(), "not sorted"),
    "no attempt": (lambda m: m.cohort.ClearField("attempt"), "attempts count from 1"),
    "no request": (lambda m: m.ClearField("request"), "statement has 0 bytes"),
    "survivors out of order": (lambda m: m.request.unmask_request.survivors.reverse(), "not sorted"),
    "a short confirmation": (
        lambda m: setattr(m.request.unmask_request.confirmations[0], "signature", b""),
        "signature has 0 bytes",
    ),
    "a ring of one bit": (lambda m: setattr(m, "bits", 1), "a ring has 2 to 64 bits"),
    "a ring of too many bits": (lambda m: setattr(m, "bits", 2**32 - 1), "a ring has 2 to 64 bits"),
    "another ring": (lambda m: setattr(m, "bits", 32), "takes 20 bytes in this ring; 15 came"),
    "a sum of another length": (
        lambda m: setattr(m, "total", bytes(18)),
        "takes 15 bytes in this ring; 18 came",
    ),
}


@pytest.mark.parametrize("defect", BAD_OPENINGS)
def test_an_opening_out_of_bounds(defect: str) -> None:
    change, words = BAD_OPENINGS[defect]
    with pytest.raises(CodecError, match=words):
        opening(_changed(secagg_pb2.Opening.FromString(OPENING), change))


MISFITS: dict[str, Callable[[secagg_pb2.Opening], object]] = {
    "a request for another attempt": lambda m: setattr(m.request.attempt, "round", 2),
    "a survivor without keys": lambda m: m.request.unmask_request.survivors.append("site-9999"),
    "a dropped site without keys": lambda m: m.request.unmask_request.dropped.append("site-9999"),
    "a survivor that dropped": lambda m: m.request.unmask_request.dropped.append("site-0001"),
}


@pytest.mark.parametrize("defect", MISFITS)
def test_the_parts_of_an_opening_fit_together(defect: str) -> None:
    with pytest.raises(CodecError):
        opening(_changed(secagg_pb2.Opening.FromString(OPENING), MISFITS[defect]))


@pytest.mark.parametrize("decode", [decode_asked, decode_answer])
def test_a_frame_beyond_the_bound_is_not_even_parsed(
    monkeypatch: pytest.MonkeyPatch, decode: Callable[[bytes], object]
) -> None:
    monkeypatch.setattr("protos.frame_size.MAX_FRAME_BYTES", 100)
    for data in VALID[decode.__name__]:
        with pytest.raises(CodecError, match="at most 100 are accepted"):
            decode(data)
    with pytest.raises(CodecError, match="not a frame"):
        decode(b"\xff" * 100)


# --- anything at all ------------------------------------------------------------------------------------------------------


def same_request(data: bytes) -> None:
    found = decode_asked(data)
    assert of_request(again_request(found)) == of_request(found)


def same_answer(data: bytes) -> None:
    found = decode_answer(data)
    assert of_answer(again_answer(found)) == of_answer(found)


def same_testimony(data: bytes) -> None:
    found = decode_testimony(data)
    assert decode_testimony(encode_testimony(found)) == found


def same_opening(data: bytes) -> None:
    found = opening(data)
    assert of_step(opening(encode_opening(found))) == of_step(found)


DECODERS: dict[str, tuple[Callable[[bytes], None], type[Message]]] = {
    "decode_asked": (same_request, pb.Request),
    "decode_answer": (same_answer, pb.Reply),
    "decode_testimony": (same_testimony, pb.Testimony),
    "decode_opening": (same_opening, secagg_pb2.Opening),
}


def taken(name: str, data: bytes) -> bool:
    """Whether `data` is a value, which then means the same when it is encoded and decoded again. Only a `CodecError` says that it is not."""
    try:
        DECODERS[name][0](data)
    except CodecError:
        return False
    return True


def test_every_decoder_of_this_codec_is_among_these() -> None:
    own = {name for name in vars(secure_codec) if name.startswith("decode_")}
    assert own - {"decode_digest", "decode_reply", "decode_request"} == DECODERS.keys() - {"decode_opening"}
    assert all(taken(name, data) for name, valid in VALID.items() for data in valid)


@pytest.mark.parametrize("name", DECODERS)
@settings(max_examples=300, deadline=None)
@given(data=st.binary(max_size=300))
@example(data=b"")
@example(data=b"\x2a\x00")
@example(data=b"\x3a\x00")
def test_any_bytes_are_a_value_or_a_codec_error(name: str, data: bytes) -> None:
    taken(name, data)


@pytest.mark.parametrize("name", DECODERS)
@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_damaged_bytes_are_a_value_or_a_codec_error(name: str, data: st.DataObject) -> None:
    octets = bytearray(data.draw(st.sampled_from(VALID[name])))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, max(0, len(octets) - 1)))
        match data.draw(st.sampled_from(["flip", "cut", "insert", "repeat"])):
            case "flip" if octets:
                octets[place] ^= data.draw(st.integers(1, 255))
            case "cut":
                del octets[place : place + data.draw(st.integers(1, 20))]
            case "insert":
                octets[place:place] = data.draw(st.binary(max_size=20))
            case _:
                octets += octets[place:]
    taken(name, bytes(octets))


def _fields(message: Message) -> list[tuple[Message, str]]:
    """Every field that is set in a message or in one inside it."""
    found: list[tuple[Message, str]] = []
    for field, value in message.ListFields():
        found.append((message, field.name))
        if field.message_type is not None:
            inside = value if field.is_repeated else [value]
            found += [each for one in inside for each in _fields(one)]
    return found


def _spoil(message: Message, name: str, data: st.DataObject) -> None:
    """Another value of the right type in a field, or none."""
    field, value = message.DESCRIPTOR.fields_by_name[name], getattr(message, name)
    if field.is_repeated:
        match data.draw(st.sampled_from(["empty", "twice", "backwards"])):
            case "empty":
                message.ClearField(name)
            case "twice":
                value.extend(list(value))
            case _:
                value.reverse()
        return
    match value:
        case bytes():
            kept = data.draw(st.sampled_from([b"", value[:-1], value + b"\0", value * 2, value[::-1]]))
            setattr(message, name, data.draw(st.just(kept) | st.binary(max_size=90)))
        case str():
            setattr(
                message,
                name,
                data.draw(st.sampled_from(["", value + "x", "EAST", "é"]) | st.text(max_size=20)),
            )
        case int():
            setattr(
                message, name, data.draw(st.sampled_from([0, 1, 2, 2**31 - 1]) | st.integers(0, 2**31 - 1))
            )
        case _:
            message.ClearField(name)


@pytest.mark.parametrize("name", DECODERS)
@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_frames_of_the_right_form_with_any_values(name: str, data: st.DataObject) -> None:
    message = DECODERS[name][1].FromString(data.draw(st.sampled_from(VALID[name])))
    for _ in range(data.draw(st.integers(1, 3))):
        fields = _fields(message)
        if not fields:
            break
        _spoil(*fields[data.draw(st.integers(0, len(fields) - 1))], data)
    taken(name, message.SerializeToString())
