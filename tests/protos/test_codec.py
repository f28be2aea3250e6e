"""Whatever bytes come in: a frame within bounds, or a `CodecError`."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from protos import codec_fields
from protos import training_pb2 as pb
from protos.codec import MAX_REASON_CHARACTERS, decode_reply, decode_request, encode_reply, encode_request
from protos.codec_fields import (
    MAX_COMPONENT_CHARACTERS,
    MAX_COUNTED_ROWS,
    MAX_DOCUMENT_BYTES,
    MAX_ROSTER,
    CodecError,
)
from protos.frames import (
    Moments,
    Refusal,
    RefusalCode,
    Reply,
    Request,
    ScoreCounts,
    Stage,
    Statement,
    Task,
    Update,
    scaling_digest,
)
from strategies.encoding import vector_bytes, vector_digest
from strategies.errors import CovenantError
from strategies.features import Scaling
from strategies.ids import Digest, RunId, SiteName

D1, D2, D3 = (Digest(f"{number:064x}") for number in (1, 2, 3))
MODEL = np.array([1.5, -0.0, 5e-324, -1.7e308])
SCALING = Scaling(mean=(0.25, 1 / 3), std=(0.5, 1e-6))
STATEMENT = Statement(
    plan_digest=D1,
    contract_digest=D2,
    members_digest=D3,
    run=RunId("run-0123456789abcdef"),
    stage=Stage.PREPARE,
    round=0,
    attempt=1,
    roster=(SiteName("south"), SiteName("west")),
    component="tabular/1",
)
TASK = Task(plan=b"{}", contract=b"[]", members=b"0")
PREPARE = Request(statement=STATEMENT, task=TASK)
TRAIN = Request(
    statement=replace(
        STATEMENT,
        stage=Stage.TRAIN,
        round=7,
        attempt=2,
        model_digest=vector_digest(MODEL),
        scaling_digest=scaling_digest(SCALING),
    ),
    task=TASK,
    scaling=SCALING,
    model=MODEL,
)
EVALUATE = replace(TRAIN, statement=replace(TRAIN.statement, stage=Stage.EVALUATE))
UPDATE = Reply(statement_digest=D1, site=SiteName("west"), body=Update(MODEL))
COUNTS = np.array([[3, 0, 1], [0, 2, 9]])

digests = st.binary(min_size=32, max_size=32).map(lambda data: Digest(data.hex()))
names = st.from_regex(r"[a-z][a-z0-9-]{0,62}", fullmatch=True).map(SiteName)
finite = st.floats(allow_nan=False, allow_infinity=False)
vectors = arrays.arrays(np.float64, st.integers(1, 40), elements=finite)
scalings = st.integers(0, 8).flatmap(
    lambda k: st.builds(
        Scaling,
        st.lists(finite, min_size=k, max_size=k).map(tuple),
        st.lists(st.floats(1e-6, 1e9), min_size=k, max_size=k).map(tuple),
    )
)


@st.composite
def requests(draw: st.DrawFn) -> Request:
    stage = draw(st.sampled_from(Stage))
    preparing = stage is Stage.PREPARE
    model = None if preparing else draw(vectors)
    scaling = None if preparing else draw(scalings)
    statement = Statement(
        plan_digest=draw(digests),
        contract_digest=draw(digests),
        members_digest=draw(digests),
        run=RunId(draw(st.from_regex(r"run-[0-9a-f]{16}", fullmatch=True))),
        stage=stage,
        round=draw(st.integers(0, 2**32 - 1)),
        attempt=draw(st.integers(1, 2**32 - 1)),
        roster=tuple(sorted(draw(st.sets(names, min_size=1, max_size=8)))),
        component=draw(st.text(st.characters(codec="utf-8"), max_size=MAX_COMPONENT_CHARACTERS)),
        model_digest=None if model is None else vector_digest(model),
        scaling_digest=None if scaling is None else scaling_digest(scaling),
    )
    documents = st.binary(min_size=1, max_size=30)
    task = Task(
        plan=draw(documents),
        contract=draw(documents),
        members=draw(documents),
        evidence=draw(st.just(b"") | documents),
    )
    return Request(statement=statement, task=task, scaling=scaling, model=model)


bodies = st.one_of(
    vectors.map(Update),
    arrays.arrays(np.float64, st.integers(0, 30), elements=finite).map(Moments),
    arrays.arrays(np.int64, st.tuples(st.just(2), st.integers(1, 20)), elements=st.integers(0, 2**47)).map(
        ScoreCounts
    ),
    st.builds(
        Refusal,
        st.sampled_from([code for code in RefusalCode if code is not RefusalCode.CONTRACT]),
        st.text(st.characters(codec="utf-8"), max_size=MAX_REASON_CHARACTERS),
        st.none() | names,
    ),
    st.just(Refusal(RefusalCode.CONTRACT)),
)
replies = st.builds(Reply, statement_digest=digests, site=names, body=bodies)


def values(reply: Reply) -> bytes:
    match reply.body:
        case Moments(vector=vector) | Update(vector=vector):
            return vector_bytes(vector)
        case ScoreCounts(counts=counts):
            return repr(counts.shape).encode() + counts.tobytes()
        case Refusal() as refusal:
            return repr(refusal).encode()


# --- there and back ---------------------------------------------------------------------------------------------------


@given(requests())
def test_a_request_comes_back_as_it_was_sent(sent: Request):
    received = decode_request(encode_request(sent))
    assert received.statement == sent.statement
    assert received.statement.digest == sent.statement.digest
    assert (received.task, received.scaling) == (sent.task, sent.scaling)
    if sent.model is None:
        assert received.model is None
    else:
        assert vector_bytes(received.model) == vector_bytes(sent.model)


@given(replies)
def test_a_reply_comes_back_as_it_was_sent(sent: Reply):
    received = decode_reply(encode_reply(sent))
    assert (received.statement_digest, received.site) == (sent.statement_digest, sent.site)
    assert type(received.body) is type(sent.body)
    assert values(received) == values(sent)


@given(requests())
def test_equal_requests_are_equal_bytes(request: Request):
    assert encode_request(request) == encode_request(decode_request(encode_request(request)))


@pytest.mark.parametrize(
    "field", ["plan_digest", "members_digest", "run", "stage", "round", "attempt", "roster", "component"]
)
def test_every_field_of_a_statement_changes_its_digest(field):
    other = {
        "plan_digest": D3,
        "members_digest": D1,
        "run": RunId("run-0000000000000000"),
        "stage": Stage.TRAIN,
        "round": 1,
        "attempt": 2,
        "roster": (SiteName("west"),),
        "component": "tabular/2",
    }
    assert replace(STATEMENT, **{field: other[field]}).digest != STATEMENT.digest


def test_the_scaling_of_no_numeric_feature_is_there():
    empty = Scaling.identity(0)
    sent = replace(
        TRAIN, scaling=empty, statement=replace(TRAIN.statement, scaling_digest=scaling_digest(empty))
    )
    assert decode_request(encode_request(sent)).scaling == empty
    nothing = replace(UPDATE, body=Moments(np.zeros(0)))
    assert decode_reply(encode_reply(nothing)).body.vector.size == 0


# --- anything at all --------------------------------------------------------------------------------------------------


def decoded(decode: Callable[[bytes], Request | Reply], data: bytes) -> Request | Reply | None:
    """What comes of `data`; every exception but a CodecError fails the test."""
    try:
        return decode(data)
    except CodecError:
        return None


@given(st.binary(max_size=400))
def test_arbitrary_bytes_are_a_frame_or_a_codec_error(data: bytes):
    decoded(decode_request, data)
    decoded(decode_reply, data)


@given(st.data(), st.one_of(requests().map(encode_request), replies.map(encode_reply)))
def test_damaged_frames_are_a_frame_or_a_codec_error(data: st.DataObject, frame: bytes):
    damaged = bytearray(frame)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(damaged[: data.draw(st.integers(0, len(damaged)))])
    for decode in (decode_request, decode_reply):
        decoded(decode, bytes(damaged))
        decoded(decode, cut)


loose = st.one_of(st.binary(max_size=40), st.binary(min_size=32, max_size=32))
words = st.one_of(names, st.text(st.characters(codec="utf-8"), max_size=20))


@given(
    st.builds(
        pb.Reply,
        statement_digest=loose,
        site=words,
        update=st.one_of(st.none(), st.binary(max_size=32)),
        score_counts=st.one_of(st.none(), st.binary(max_size=64)),
        refusal=st.one_of(st.none(), st.builds(pb.Refusal, code=st.integers(-3, 9), reason=words)),
    )
)
def test_well_formed_replies_with_arbitrary_fields_are_within_bounds_or_refused(frame: pb.Reply):
    reply = decoded(decode_reply, frame.SerializeToString())
    if reply is None:
        return
    assert len(reply.statement_digest) == 64
    assert decode_reply(encode_reply(reply)).site == reply.site
    match reply.body:
        case Update(vector=vector) | Moments(vector=vector):
            assert np.isfinite(vector).all()
        case ScoreCounts(counts=counts):
            assert counts.shape[0] == 2
            assert counts.min() >= 0
        case Refusal(code=code, reason=reason):
            assert code in RefusalCode
            assert not (code is RefusalCode.CONTRACT and reason)


@given(
    st.builds(
        pb.Statement,
        protocol=st.sampled_from([0, 1, 1, 1, 2]),
        plan_digest=loose,
        contract_digest=loose,
        members_digest=loose,
        run=st.one_of(st.just("run-0123456789abcdef"), words),
        stage=st.integers(-1, 5),
        attempt=st.integers(0, 3),
        roster=st.lists(words, max_size=4),
        model_digest=loose,
        scaling_digest=loose,
        component=words,
    ),
    st.builds(pb.Scaling, mean=st.lists(st.floats(), max_size=2), std=st.lists(st.floats(), max_size=2)),
    st.binary(max_size=16),
)
def test_well_formed_requests_with_arbitrary_fields_are_within_bounds_or_refused(statement, scaling, model):
    frame = pb.Request(statement=statement, scaling=scaling, model=model)
    frame.task.plan = frame.task.contract = frame.task.members = b"{}"
    request = decoded(decode_request, frame.SerializeToString())
    if request is not None:
        assert request.statement.protocol == 1
        assert list(request.statement.roster) == sorted(set(request.statement.roster))
        assert (request.model is None) == (request.statement.stage is Stage.PREPARE)


# --- each defect has its name -----------------------------------------------------------------------------------------


def two_sites_once(frame: pb.Request) -> None:
    frame.statement.roster[:] = ["west", "west"]


BAD_REQUESTS: dict[str, tuple[Request, Callable[[pb.Request], object], str]] = {
    "another protocol": (PREPARE, lambda f: setattr(f.statement, "protocol", 2), "protocol version 2; this"),
    "no protocol": (PREPARE, lambda f: f.statement.ClearField("protocol"), "protocol version 0"),
    "no statement": (PREPARE, lambda f: f.ClearField("statement"), "protocol version 0"),
    "no stage": (PREPARE, lambda f: f.statement.ClearField("stage"), "0 is not a valid Stage"),
    "unknown stage": (PREPARE, lambda f: setattr(f.statement, "stage", 4), "4 is not a valid Stage"),
    "attempt zero": (
        PREPARE,
        lambda f: f.statement.ClearField("attempt"),
        "attempt 0; attempts count from 1",
    ),
    "empty roster": (PREPARE, lambda f: f.statement.ClearField("roster"), "a roster of 0 sites"),
    "unsorted roster": (PREPARE, lambda f: f.statement.roster.reverse(), "not sorted"),
    "site twice": (PREPARE, two_sites_once, "names a site twice"),
    "bad site name": (PREPARE, lambda f: f.statement.roster.append("Z"), "'Z' is not a site name"),
    "bad run id": (PREPARE, lambda f: setattr(f.statement, "run", "run-1"), "'run-1' is not a run id"),
    "short digest": (PREPARE, lambda f: setattr(f.statement, "plan_digest", b"1" * 31), "plan_digest has 31"),
    "long digest": (
        PREPARE,
        lambda f: setattr(f.statement, "members_digest", b"1" * 33),
        "members_digest has 33 bytes; a SHA-256 digest has 32",
    ),
    "no plan": (PREPARE, lambda f: f.task.ClearField("plan"), "a plan document of 0 bytes"),
    "no contract": (PREPARE, lambda f: f.task.ClearField("contract"), "a contract document of 0 bytes"),
    "no members": (PREPARE, lambda f: f.task.ClearField("members"), "a members document of 0 bytes"),
    "huge plan": (
        PREPARE,
        lambda f: setattr(f.task, "plan", b"1" * (MAX_DOCUMENT_BYTES + 1)),
        f"a plan document of {MAX_DOCUMENT_BYTES + 1} bytes",
    ),
    "huge evidence": (
        PREPARE,
        lambda f: setattr(f.task, "evidence", b"1" * (MAX_DOCUMENT_BYTES + 1)),
        f"an evidence document of {MAX_DOCUMENT_BYTES + 1} bytes; 0 to",
    ),
    "long component": (
        PREPARE,
        lambda f: setattr(f.statement, "component", "x" * (MAX_COMPONENT_CHARACTERS + 1)),
        f"a component of {MAX_COMPONENT_CHARACTERS + 1} characters",
    ),
    "prepare with a model": (
        PREPARE,
        lambda f: setattr(f, "model", bytes(8)),
        "prepare request with a model",
    ),
    "prepare with a model's digest": (
        PREPARE,
        lambda f: setattr(f.statement, "model_digest", bytes(32)),
        "prepare request with a model",
    ),
    "prepare with a scaling": (PREPARE, lambda f: f.scaling.SetInParent(), "prepare request with a scaling"),
    "train without a model": (TRAIN, lambda f: f.ClearField("model"), "train request without a model"),
    "evaluate without a model": (
        EVALUATE,
        lambda f: f.ClearField("model"),
        "evaluate request without a model",
    ),
    "train without a scaling": (TRAIN, lambda f: f.ClearField("scaling"), "train request without a scaling"),
    "train without a scaling's digest": (
        TRAIN,
        lambda f: f.statement.ClearField("scaling_digest"),
        "train request without a scaling",
    ),
    "another model": (
        TRAIN,
        lambda f: setattr(f, "model", vector_bytes(MODEL + 1)),
        "the model is not the one that the statement names",
    ),
    "a model with the other zero": (
        TRAIN,
        lambda f: setattr(f, "model", vector_bytes(np.abs(MODEL) * np.sign(MODEL))),
        "the model is not the one",
    ),
    "another scaling": (
        TRAIN,
        lambda f: f.scaling.mean.__setitem__(0, 0.5),
        "the scaling is not the one that the statement names",
    ),
    "half a float": (TRAIN, lambda f: setattr(f, "model", bytes(12)), "not a whole number of float64"),
    "NaN in the model": (
        TRAIN,
        lambda f: setattr(f, "model", vector_bytes(MODEL * math.nan)),
        "model holds a value that is not finite",
    ),
    "NaN in the scaling": (TRAIN, lambda f: f.scaling.mean.__setitem__(0, math.nan), "is not finite"),
    "infinite deviation": (TRAIN, lambda f: f.scaling.std.__setitem__(0, math.inf), "is not finite"),
    "deviation of zero": (TRAIN, lambda f: f.scaling.std.__setitem__(0, 0.0), "that is not positive"),
    "uneven scaling": (TRAIN, lambda f: f.scaling.std.append(1.0), "2 means and 3 standard deviations"),
}


@pytest.mark.parametrize("defect", BAD_REQUESTS)
def test_a_bad_request_is_refused_by_its_defect(defect):
    good, spoil, sentence = BAD_REQUESTS[defect]
    frame = pb.Request.FromString(encode_request(good))
    decode_request(frame.SerializeToString())  # a control: it is the defect that is refused
    spoil(frame)
    with pytest.raises(CodecError, match=sentence):
        decode_request(frame.SerializeToString())


BAD_REPLIES: dict[str, tuple[Callable[[pb.Reply], object], str]] = {
    "no body": (lambda f: f.ClearField("update"), "a reply without a body"),
    "no digest": (lambda f: f.ClearField("statement_digest"), "statement_digest has 0 bytes"),
    "no site": (lambda f: f.ClearField("site"), "'' is not a site name"),
    "bad site": (lambda f: setattr(f, "site", "../west"), "'../west' is not a site name"),
    "empty update": (lambda f: setattr(f, "update", b""), "update has 0 bytes"),
    "half a float": (lambda f: setattr(f, "update", bytes(9)), "update has 9 bytes"),
    "NaN": (
        lambda f: setattr(f, "update", vector_bytes(np.array([math.nan]))),
        "update holds a value that is not finite",
    ),
    "infinity": (
        lambda f: setattr(f, "moments", vector_bytes(np.array([-math.inf]))),
        "moments holds a value",
    ),
    "no counts": (lambda f: setattr(f, "score_counts", b""), "score_counts has 0 bytes"),
    "one row of counts": (lambda f: setattr(f, "score_counts", bytes(24)), "which is not two rows"),
    "negative count": (
        lambda f: setattr(f, "score_counts", np.array([1, -1]).tobytes()),
        "score_counts holds a negative count",
    ),
    "more rows than there can be": (
        lambda f: setattr(f, "score_counts", np.array([MAX_COUNTED_ROWS, 2]).tobytes()),
        "score_counts holds more than",
    ),
    "counts whose sum wraps": (
        lambda f: setattr(f, "score_counts", np.array([2**63 - 1] * 4).tobytes()),
        "score_counts holds more than",
    ),
    "panels that are no integers": (
        lambda f: (setattr(f, "score_counts", np.array([1, 1]).tobytes()), setattr(f, "panels", bytes(9))),
        "panels has 9 bytes",
    ),
    "too many panels": (
        lambda f: (
            setattr(f, "score_counts", np.array([1, 1]).tobytes()),
            setattr(f, "panels", bytes(8 * 20_001)),
        ),
        "it is at most 20000 int64 values",
    ),
    "panels beyond what there can be": (
        lambda f: (
            setattr(f, "score_counts", np.array([1, 1]).tobytes()),
            setattr(f, "panels", np.array([-(2**63)]).tobytes()),
        ),
        "panels holds a value beyond",
    ),
    "panels beside another body": (
        lambda f: setattr(f, "panels", bytes(8)),
        "panels and without score_counts",
    ),
    "refusal that accuses a name that is none": (
        lambda f: f.refusal.CopyFrom(pb.Refusal(code=4, accused="../west")),
        "'../west' is not a site name",
    ),
    "refusal without a code": (lambda f: f.refusal.SetInParent(), "0 is not a valid RefusalCode"),
    "refusal with an unknown code": (
        lambda f: setattr(f.refusal, "code", 10),
        "10 is not a valid RefusalCode",
    ),
}


@pytest.mark.parametrize("defect", BAD_REPLIES)
def test_a_bad_reply_is_refused_by_its_defect(defect):
    spoil, sentence = BAD_REPLIES[defect]
    frame = pb.Reply.FromString(encode_reply(UPDATE))
    decode_reply(frame.SerializeToString())
    spoil(frame)
    with pytest.raises(CodecError, match=sentence):
        decode_reply(frame.SerializeToString())


@pytest.mark.parametrize("decode", [decode_request, decode_reply])
def test_bytes_that_are_no_protobuf_are_refused(decode):
    with pytest.raises(CodecError, match="not a frame of this protocol"):
        decode(b"\xff" * 40)


def test_a_codec_error_is_one_that_commands_can_show():
    assert issubclass(CodecError, CovenantError)


# --- every bound is the last value that is taken ------------------------------------------------------------------------


def test_a_frame_of_the_largest_size_is_parsed_and_one_byte_more_is_not(monkeypatch):
    frame = encode_request(PREPARE)
    monkeypatch.setattr("protos.frame_size.MAX_FRAME_BYTES", len(frame))
    decode_request(frame)
    monkeypatch.setattr("protos.frame_size.MAX_FRAME_BYTES", len(frame) - 1)
    with pytest.raises(CodecError, match=f"a frame of {len(frame)} bytes; at most {len(frame) - 1}"):
        decode_request(frame)


def test_the_largest_roster_is_taken_and_one_more_is_not():
    roster = tuple(sorted(SiteName(f"s{number}") for number in range(MAX_ROSTER + 1)))
    fits = replace(PREPARE, statement=replace(STATEMENT, roster=roster[:-1]))
    assert len(decode_request(encode_request(fits)).statement.roster) == MAX_ROSTER
    over = replace(PREPARE, statement=replace(STATEMENT, roster=roster))
    with pytest.raises(CodecError, match=f"a roster of {MAX_ROSTER + 1} sites"):
        decode_request(encode_request(over))


def test_the_largest_document_is_taken():
    largest = replace(PREPARE, task=replace(TASK, members=b" " * MAX_DOCUMENT_BYTES))
    assert decode_request(encode_request(largest)).task == largest.task


def test_the_widest_scaling_is_taken_and_one_more_is_not(monkeypatch):
    monkeypatch.setattr(codec_fields, "MAX_FEATURES", 2)
    decode_request(encode_request(TRAIN))
    monkeypatch.setattr(codec_fields, "MAX_FEATURES", 1)
    with pytest.raises(CodecError, match="a scaling of 2 means"):
        decode_request(encode_request(TRAIN))


def test_as_many_rows_as_there_can_be_are_taken():
    most = replace(UPDATE, body=ScoreCounts(np.array([[MAX_COUNTED_ROWS], [0]])))
    assert decode_reply(encode_reply(most)).body.counts[0, 0] == MAX_COUNTED_ROWS


# --- what a refusal may say -------------------------------------------------------------------------------------------


def test_a_contract_refusal_says_nothing_on_the_wire():
    told = replace(UPDATE, body=Refusal(RefusalCode.CONTRACT, "row 17 has income -1"))
    frame = encode_reply(told)
    assert b"income" not in frame
    assert decode_reply(frame).body == Refusal(RefusalCode.CONTRACT, "")


def test_a_contract_refusal_that_says_more_is_not_repeated():
    frame = pb.Reply.FromString(encode_reply(replace(UPDATE, body=Refusal(RefusalCode.POLICY, "x"))))
    frame.refusal.code = pb.Refusal.CODE_CONTRACT
    assert decode_reply(frame.SerializeToString()).body == Refusal(RefusalCode.CONTRACT, "")


def test_a_long_reason_is_cut_on_both_sides():
    long = "x" * (MAX_REASON_CHARACTERS + 1)
    frame = encode_reply(replace(UPDATE, body=Refusal(RefusalCode.POLICY, long)))
    assert decode_reply(frame).body.reason == long[:MAX_REASON_CHARACTERS]
    unbounded = pb.Reply.FromString(frame)
    unbounded.refusal.reason = long
    assert decode_reply(unbounded.SerializeToString()).body.reason == long[:MAX_REASON_CHARACTERS]


def test_panels_travel_beside_score_counts_and_of_a_plan_without_them_not_a_byte():
    panels = np.array([0, -7, MAX_COUNTED_ROWS, -MAX_COUNTED_ROWS])
    received = decode_reply(encode_reply(replace(UPDATE, body=ScoreCounts(COUNTS, panels)))).body
    np.testing.assert_array_equal(received.counts, COUNTS)
    np.testing.assert_array_equal(received.panels, panels)
    frame = pb.Reply.FromString(encode_reply(replace(UPDATE, body=ScoreCounts(COUNTS))))
    assert frame.panels == b""
    assert decode_reply(frame.SerializeToString()).body.panels.shape == (0,)


def test_score_counts_keep_negatives_before_positives():
    received = decode_reply(encode_reply(replace(UPDATE, body=ScoreCounts(COUNTS)))).body
    np.testing.assert_array_equal(received.counts, COUNTS)


def test_the_evidence_of_a_refusal_travels_and_is_signed_by_its_digest() -> None:
    refusal = Refusal(RefusalCode.HALTED, "halted", evidence=b"an order")
    reply = Reply(statement_digest=Digest("ab" * 32), site=SiteName("west"), body=refusal)
    read = decode_reply(encode_reply(reply)).body
    assert read == refusal
    assert isinstance(read, Refusal)
    bare = Refusal(RefusalCode.HALTED, "halted")
    assert read.message(Digest("ab" * 32), SiteName("west")) != bare.message(
        Digest("ab" * 32), SiteName("west")
    )
    large = Refusal(RefusalCode.HALTED, evidence=bytes(64 * 1024 + 1))
    frame = encode_reply(Reply(statement_digest=Digest("ab" * 32), site=SiteName("west"), body=large))
    with pytest.raises(CodecError, match="evidence of 65537 bytes; at most 65536 are accepted"):
        decode_reply(frame)
