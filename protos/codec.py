"""Frames to bytes and back.

Whatever bytes come in, either a frame whose every field is within bounds comes out, or a `CodecError`; nothing else. Vectors
are checked to be finite, because one NaN in one site's update would reach every site's next model.
"""

from __future__ import annotations

from typing import cast

import numpy as np
from google.protobuf.message import DecodeError

from protos import training_pb2 as pb
from protos.frame_size import REPLY, REQUEST, oversize
from protos.frames import (
    MAX_REASON_CHARACTERS,
    PROTOCOL_VERSION,
    Body,
    ChampionModel,
    Moments,
    Refusal,
    RefusalCode,
    Reply,
    Request,
    ScoreCounts,
    SecureAnswer,
    Stage,
    Statement,
    Task,
    Update,
    WitnessAnswer,
    scaling_digest,
)
from protos.witness import MOST_EVIDENCE_BYTES
from protos.witness_codec import put_witness_answer, read_witness_answer
from strategies.encoding import Vector, vector_bytes, vector_digest
from strategies.errors import CovenantError
from strategies.features import Scaling
from strategies.ids import Digest, digest, run_id, site_name
from strategies.secagg.identities import SIGNATURE_BYTES

MAX_DOCUMENT_BYTES = 1 << 20
MAX_ROSTER = 10_000
MAX_FEATURES = 100_000
MAX_COMPONENT_CHARACTERS = 80
MAX_COUNTED_ROWS = 1 << 53
"""More rows than this in one reply are refused, so that counts of a thousand sites add up in int64."""

_DIGEST_BYTES = 32
_FLOAT_BYTES = 8


class CodecError(CovenantError):
    """Bytes that are not a frame of this protocol version."""


def encode_request(request: Request) -> bytes:
    """Serialise a request deterministically."""
    frame = pb.Request(statement=statement_message(request.statement), task=task_message(request.task))
    if request.scaling is not None:
        put_scaling(frame, request.scaling)
    if request.model is not None:
        frame.model = vector_bytes(request.model)
    if request.champion is not None:
        put_champion(frame, request.champion)
    return frame.SerializeToString(deterministic=True)


def task_message(task: Task) -> pb.Task:
    """The message of a task."""
    return pb.Task(
        plan=task.plan,
        contract=task.contract,
        members=task.members,
        evidence=task.evidence,
        witness=task.witness,
    )


def statement_message(said: Statement) -> pb.Statement:
    """The message of a statement."""
    return pb.Statement(
        protocol=said.protocol,
        plan_digest=bytes.fromhex(said.plan_digest),
        contract_digest=bytes.fromhex(said.contract_digest),
        members_digest=bytes.fromhex(said.members_digest),
        run=said.run,
        stage=cast("pb.Stage", int(said.stage)),
        round=said.round,
        attempt=said.attempt,
        roster=list(said.roster),
        model_digest=bytes.fromhex(said.model_digest or ""),
        scaling_digest=bytes.fromhex(said.scaling_digest or ""),
        optimizer_digest=bytes.fromhex(said.optimizer_digest or ""),
        component=said.component,
    )


def put_champion(frame: pb.Request, champion: ChampionModel) -> None:
    """Put the champion into a request."""
    frame.champion.model = vector_bytes(champion.model)
    put_scaling(frame.champion, champion.scaling)


def read_champion(frame: pb.Request) -> ChampionModel | None:
    """The champion in a request, each value within bounds; raises `CodecError` otherwise. Whether it is the plan's, the site judges."""
    if not frame.HasField("champion"):
        return None
    return ChampionModel(
        model=read_floats(frame.champion.model, "champion"), scaling=read_scaling(frame.champion.scaling)
    )


def put_scaling(frame: pb.Request | pb.Champion, scaling: Scaling) -> None:
    """Put `scaling` into a request or a champion, also that of no numeric feature."""
    frame.scaling.SetInParent()
    frame.scaling.mean.extend(scaling.mean)
    frame.scaling.std.extend(scaling.std)


def decode_request(data: bytes) -> Request:
    """Parse a request; raises `CodecError` for anything else, also when a digest does not match what it names."""
    frame = pb.Request()
    parse(frame, data)
    try:
        statement = read_statement(frame.statement)
        scaling = read_scaling(frame.scaling) if frame.HasField("scaling") else None
        model = read_floats(frame.model, "model") if frame.model else None
        task = read_task(frame.task)
        champion = read_champion(frame)
    except CodecError:
        raise
    except (CovenantError, ValueError) as error:
        raise CodecError(f"a request with a field out of bounds: {error}") from error
    request = Request(statement=statement, task=task, scaling=scaling, model=model, champion=champion)
    _check_stage(request)
    return request


def encode_reply(reply: Reply) -> bytes:
    """Serialise a reply deterministically."""
    frame = pb.Reply(statement_digest=bytes.fromhex(reply.statement_digest), site=reply.site)
    match reply.body:
        case Moments(vector=vector):
            frame.moments = vector_bytes(vector)
        case Update(vector=vector):
            frame.update = vector_bytes(vector)
        case ScoreCounts(counts=counts):
            frame.score_counts = counts.astype("<i8").tobytes()
        case Refusal() as refusal:
            sent = refusal.as_sent
            frame.refusal.code = cast("pb.Refusal.Code", int(sent.code))
            frame.refusal.reason, frame.refusal.accused = sent.reason, sent.accused or ""
            frame.refusal.signature, frame.refusal.evidence = sent.signature, sent.evidence
        case WitnessAnswer() as answer:
            put_witness_answer(frame, answer)
        case SecureAnswer():
            raise TypeError("protos.secure_codec encodes what is said in secure aggregation")
    return frame.SerializeToString(deterministic=True)


def decode_reply(data: bytes) -> Reply:
    """Parse a reply; raises `CodecError` for anything else."""
    frame = pb.Reply()
    parse(frame, data)
    try:
        return Reply(
            statement_digest=decode_digest(frame.statement_digest, "statement_digest"),
            site=site_name(frame.site),
            body=_body(frame),
        )
    except CodecError:
        raise
    except (CovenantError, ValueError) as error:
        raise CodecError(f"a reply with a field out of bounds: {error}") from error


def parse(frame: pb.Request | pb.Reply, data: bytes) -> None:
    """Read bytes into a message; raises `CodecError` where they are too many, or are not one."""
    if too_large := oversize(data, REQUEST if isinstance(frame, pb.Request) else REPLY):
        raise CodecError(too_large)
    try:
        frame.ParseFromString(data)
    except DecodeError as error:
        raise CodecError("bytes that are not a frame of this protocol") from error


def read_task(frame: pb.Task) -> Task:
    """The documents of a task, each within bounds."""
    return Task(
        plan=_document(frame.plan, "plan"),
        contract=_document(frame.contract, "contract"),
        members=_document(frame.members, "members"),
        evidence=_document(frame.evidence, "evidence", least=0),
        witness=_document(frame.witness, "witness", least=0),
    )


def read_statement(frame: pb.Statement) -> Statement:
    """A statement, each field within bounds. Raises `CovenantError` and `ValueError` otherwise."""
    if frame.protocol != PROTOCOL_VERSION:
        raise CodecError(f"protocol version {frame.protocol}; this side speaks {PROTOCOL_VERSION}")
    if not 1 <= len(frame.roster) <= MAX_ROSTER:
        raise CodecError(f"a roster of {len(frame.roster)} sites; 1 to {MAX_ROSTER} are accepted")
    roster = tuple(site_name(name) for name in frame.roster)
    if list(roster) != sorted(set(roster)):
        raise CodecError("a roster that is not sorted, or names a site twice")
    if len(frame.component) > MAX_COMPONENT_CHARACTERS:
        raise CodecError(
            f"a component of {len(frame.component)} characters; {MAX_COMPONENT_CHARACTERS} are accepted"
        )
    if frame.attempt < 1:
        raise CodecError("attempt 0; attempts count from 1")
    return Statement(
        protocol=frame.protocol,
        plan_digest=decode_digest(frame.plan_digest, "plan_digest"),
        contract_digest=decode_digest(frame.contract_digest, "contract_digest"),
        members_digest=decode_digest(frame.members_digest, "members_digest"),
        run=run_id(frame.run),
        stage=Stage(frame.stage),
        round=frame.round,
        attempt=frame.attempt,
        roster=roster,
        component=frame.component,
        model_digest=decode_digest(frame.model_digest, "model_digest") if frame.model_digest else None,
        scaling_digest=decode_digest(frame.scaling_digest, "scaling_digest")
        if frame.scaling_digest
        else None,
        optimizer_digest=decode_digest(frame.optimizer_digest, "optimizer_digest")
        if frame.optimizer_digest
        else None,
    )


def _check_stage(request: Request) -> None:
    """What a stage needs is there, what it does not need is not, and digests match what they name."""
    said, preparing = request.statement, request.statement.stage is Stage.PREPARE
    for name, value, named in (
        ("model", request.model, said.model_digest),
        ("scaling", request.scaling, said.scaling_digest),
    ):
        if preparing != (value is None) or preparing != (named is None):
            raise CodecError(
                f"a {said.stage.name.lower()} request {'with' if preparing else 'without'} a {name}"
            )
    if request.champion is not None and said.stage is not Stage.EVALUATE:
        raise CodecError(f"a {said.stage.name.lower()} request with a champion")
    if request.model is not None and vector_digest(request.model) != said.model_digest:
        raise CodecError("the model is not the one that the statement names")
    if request.scaling is not None and scaling_digest(request.scaling) != said.scaling_digest:
        raise CodecError("the scaling is not the one that the statement names")


def _body(frame: pb.Reply) -> Body:
    match frame.WhichOneof("body"):
        case "moments":
            return Moments(read_floats(frame.moments, "moments", least=0))
        case "update":
            return Update(read_floats(frame.update, "update"))
        case "score_counts":
            return ScoreCounts(_counts(frame.score_counts))
        case "refusal":
            code = RefusalCode(frame.refusal.code)
            accused = site_name(frame.refusal.accused) if frame.refusal.accused else None
            signature = frame.refusal.signature
            if len(signature) not in {0, SIGNATURE_BYTES}:
                raise CodecError(
                    f"the signature of a refusal has {len(signature)} bytes; use {SIGNATURE_BYTES}"
                )
            evidence = frame.refusal.evidence
            if len(evidence) > MOST_EVIDENCE_BYTES:
                raise CodecError(
                    f"evidence of {len(evidence)} bytes; at most {MOST_EVIDENCE_BYTES} are accepted"
                )
            reason = frame.refusal.reason[:MAX_REASON_CHARACTERS]
            return Refusal(code, reason, accused, signature, evidence).as_sent
        case "witness":
            return read_witness_answer(frame.witness)
    raise CodecError("a reply without a body")


def decode_digest(data: bytes, name: str) -> Digest:
    """A SHA-256 digest from its 32 bytes; raises `CodecError` for another length."""
    if len(data) != _DIGEST_BYTES:
        raise CodecError(f"{name} has {len(data)} bytes; a SHA-256 digest has {_DIGEST_BYTES}")
    return digest(data.hex())


def _document(data: bytes, name: str, *, least: int = 1) -> bytes:
    if not least <= len(data) <= MAX_DOCUMENT_BYTES:
        raise CodecError(
            f"{'an' if name == 'evidence' else 'a'} {name} document of {len(data)} bytes; {least} to {MAX_DOCUMENT_BYTES} are accepted"
        )
    return data


def read_floats(data: bytes, name: str, *, least: int = 1) -> Vector:
    """Finite float64 values; raises `CodecError` otherwise."""
    if len(data) < least * _FLOAT_BYTES or len(data) % _FLOAT_BYTES:
        raise CodecError(f"{name} has {len(data)} bytes, which is not a whole number of float64 values")
    vector = np.frombuffer(data, dtype="<f8").astype(np.float64)
    if not np.isfinite(vector).all():
        raise CodecError(f"{name} holds a value that is not finite")
    return vector


def _counts(data: bytes) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    if not data or len(data) % (2 * _FLOAT_BYTES):
        raise CodecError(f"score_counts has {len(data)} bytes, which is not two rows of int64 counts")
    counts = np.frombuffer(data, dtype="<i8").astype(np.int64).reshape(2, -1)
    if (counts < 0).any():
        raise CodecError("score_counts holds a negative count")
    if counts.sum(dtype=np.float64) > MAX_COUNTED_ROWS:
        raise CodecError(f"score_counts holds more than {MAX_COUNTED_ROWS} rows")
    return counts


def read_scaling(frame: pb.Scaling) -> Scaling:
    """A scaling of finite means and positive deviations; raises `CodecError` otherwise."""
    if len(frame.mean) != len(frame.std) or len(frame.mean) > MAX_FEATURES:
        raise CodecError(f"a scaling of {len(frame.mean)} means and {len(frame.std)} standard deviations")
    values = np.asarray([*frame.mean, *frame.std], dtype=np.float64)
    if not np.isfinite(values).all() or any(std <= 0 for std in frame.std):
        raise CodecError(
            "a scaling with a value that is not finite, or a standard deviation that is not positive"
        )
    return Scaling(mean=tuple(frame.mean), std=tuple(frame.std))
