"""Requests and replies of secure aggregation to bytes and back, as `codec` does for plain ones.

Whatever bytes come in, either a request or reply whose every field is within bounds comes out, or a `CodecError`; nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from google.protobuf.message import DecodeError

from protos import training_pb2 as pb
from protos.codec import (
    champion_vector,
    decode_reply,
    decode_request,
    parse,
    put_champion,
    read_champion,
    read_statement,
    read_task,
    statement_message,
    task_message,
)
from protos.codec_fields import MAX_ROSTER, CodecError, decode_digest, put_scaling, read_floats, read_scaling
from protos.frame_size import REPLY, REQUEST, Vectors
from protos.frames import (
    Checkpoint,
    Reply,
    Request,
    SecureAnswer,
    SecureRequest,
    Stage,
    Testimony,
    Upload,
    WitnessRequest,
    scaling_digest,
)
from protos.secagg_codec import frame_message, masked_vector, read_frame
from protos.witness import SignedWitness
from protos.witness_codec import (
    bounded,
    few,
    growth_messages,
    leaf_message,
    read_copied,
    read_gaps,
    read_growth,
    read_leaf,
    read_starts,
    read_view,
    read_vouchers,
    view_bytes,
)
from strategies.encoding import vector_pieces
from strategies.errors import CovenantError
from strategies.ids import Digest, SiteName, run_id, site_name
from strategies.pieces import Bytes
from strategies.secagg.identities import SIGNATURE_BYTES
from strategies.secagg.messages import AdvertiseRequest, Frame, ShareRequest
from strategies.server_optimizers import OptimizerState

_MOST_FRAMES: Final = 4


def encode_secure_request(request: SecureRequest) -> Bytes:
    """Serialise a request deterministically."""
    aggregate = None if request.aggregate is None else vector_pieces(request.aggregate)
    kept = request.checkpoint
    model, optimizer = (
        (None, None) if kept is None else (vector_pieces(kept.model), kept.optimizer.to_pieces())
    )
    masked = map(masked_vector, request.frames)
    vectors = Vectors.beside(aggregate, model, optimizer, champion_vector(request.champion), *masked)
    frame = pb.Request()
    if request.statement is not None:
        frame.statement.CopyFrom(statement_message(request.statement))
    if (task := request.task) is not None:
        frame.task.CopyFrom(task_message(task))
    if request.scaling is not None:
        put_scaling(frame, request.scaling)
    if request.champion is not None:
        put_champion(frame, request.champion, vectors)
    frame.secure.frames.extend(frame_message(each, vectors) for each in request.frames)
    if aggregate is not None:
        frame.secure.aggregate = vectors.token(aggregate)
    if kept is not None and model is not None and optimizer is not None:
        frame.secure.checkpoint.model = vectors.token(model)
        frame.secure.checkpoint.optimizer = vectors.token(optimizer)
        frame.secure.checkpoint.testimony.CopyFrom(_testimony_message(kept.testimony))
    return vectors.put(frame.SerializeToString(deterministic=True), REQUEST)


def encode_witness_request(request: WitnessRequest) -> bytes:
    """Serialise a request to witness a run deterministically."""
    frame = pb.Request()
    asked = frame.witness
    asked.run, asked.note, asked.again = request.run, request.note.encode(), request.again
    asked.growth.extend(growth_messages(request.grown))
    asked.launch.CopyFrom(leaf_message(request.launch))
    asked.plan.CopyFrom(leaf_message(request.plan))
    asked.task.CopyFrom(task_message(request.task))
    asked.statements.extend(each.canonical for each in request.statements)
    asked.views.extend(map(view_bytes, request.views))
    asked.first = request.first
    asked.entries.extend(request.entries)
    asked.gaps.extend(map(leaf_message, request.gaps))
    asked.starts.extend(each.canonical for each in request.starts)
    asked.vouchers.extend(each.canonical for each in request.vouchers)
    return frame.SerializeToString(deterministic=True)


def decode_asked(data: Bytes) -> Request | SecureRequest | WitnessRequest:
    """Parse a request of any kind; raises `CodecError` for anything else."""
    frame = pb.Request()
    vectors = parse(frame, data)
    if not frame.HasField("secure") and not frame.HasField("witness"):
        return decode_request(data)
    try:
        return _witness_request(frame) if frame.HasField("witness") else _secure_request(frame, vectors)
    except CodecError:
        raise
    except (CovenantError, ValueError, LookupError) as error:
        raise CodecError(f"a request with a field out of bounds: {error}") from error


def encode_secure_reply(echo: Digest, site: SiteName, answer: SecureAnswer) -> Bytes:
    """Serialise an answer deterministically; `echo` is the digest of the request that it answers."""
    vectors = Vectors.beside(*map(masked_vector, answer.frames))
    frame = pb.Reply(statement_digest=bytes.fromhex(echo), site=site)
    frame.secure.SetInParent()
    frame.secure.frames.extend(frame_message(each, vectors) for each in answer.frames)
    frame.secure.holds = bytes.fromhex(answer.holds or "")
    return vectors.put(frame.SerializeToString(deterministic=True), REPLY)


def decode_answer(data: Bytes) -> Reply:
    """Parse a reply of either kind; raises `CodecError` for anything else."""
    frame = pb.Reply()
    vectors = parse(frame, data)
    if frame.WhichOneof("body") != "secure":
        return decode_reply(data)
    if not 1 <= len(frame.secure.frames) <= _MOST_FRAMES:
        raise CodecError(f"an answer of {len(frame.secure.frames)} steps; 1 to {_MOST_FRAMES} are accepted")
    try:
        holds = decode_digest(frame.secure.holds, "holds") if frame.secure.holds else None
        return Reply(
            statement_digest=decode_digest(frame.statement_digest, "statement_digest"),
            site=site_name(frame.site),
            body=SecureAnswer(tuple(read_frame(each, vectors) for each in frame.secure.frames), holds),
        )
    except CodecError:
        raise
    except (CovenantError, ValueError, LookupError) as error:
        raise CodecError(f"a reply with a field out of bounds: {error}") from error


def _witness_request(frame: pb.Request) -> WitnessRequest:
    asked = frame.witness
    if {each.name for each, _ in frame.ListFields()} != {"witness"}:
        raise CodecError("a request to witness a run that asks for something else too")
    few(asked.statements, "statements")
    few(asked.views, "views")
    return WitnessRequest(
        run=run_id(asked.run),
        note=asked.note.decode(),
        task=read_task(asked.task),
        launch=read_leaf(asked.launch),
        plan=read_leaf(asked.plan),
        grown=read_growth(asked.growth),
        statements=tuple(map(SignedWitness.from_canonical, asked.statements)),
        views=tuple(map(read_view, asked.views)),
        again=asked.again,
        first=bounded(asked.first),
        entries=read_copied(asked.entries),
        gaps=read_gaps(asked.gaps),
        starts=read_starts(asked.starts),
        vouchers=read_vouchers(asked.vouchers),
    )


def _secure_request(frame: pb.Request, vectors: Vectors) -> SecureRequest:
    secure = frame.secure
    if not 1 <= len(secure.frames) <= _MOST_FRAMES or frame.model:
        raise CodecError(
            f"a request of {len(secure.frames)} steps, or with a model; 1 to {_MOST_FRAMES} are accepted"
        )
    frames = tuple(read_frame(each, vectors) for each in secure.frames)
    _require_keys_ahead(frames[1:])
    statement = read_statement(frame.statement) if frame.HasField("statement") else None
    scaling = read_scaling(frame.scaling) if frame.HasField("scaling") else None
    if scaling is not None and (statement is None or scaling_digest(scaling) != statement.scaling_digest):
        raise CodecError("the scaling is not the one that the statement names")
    champion = read_champion(frame, vectors)
    if champion is not None and (statement is None or statement.stage is not Stage.EVALUATE):
        raise CodecError("a champion where nothing is to be evaluated")
    return SecureRequest(
        frames=frames,
        task=read_task(frame.task) if frame.HasField("task") else None,
        statement=statement,
        scaling=scaling,
        aggregate=read_floats(vectors.of(secure.aggregate), "aggregate") if secure.aggregate else None,
        checkpoint=_checkpoint(secure.checkpoint, vectors) if secure.HasField("checkpoint") else None,
        champion=champion,
    )


def _require_keys_ahead(riders: Sequence[Frame]) -> None:
    """A site's journal guards the first step of a request, so nothing that releases anything may come after it."""
    if not all(isinstance(rider.body, AdvertiseRequest | ShareRequest) for rider in riders):
        raise CodecError("a step that releases something rides on another; only keys ahead do")


def encode_testimony(testimony: Testimony) -> bytes:
    """Serialise who signed what deterministically."""
    return _testimony_message(testimony).SerializeToString(deterministic=True)


def decode_testimony(data: bytes) -> Testimony:
    """Parse what `encode_testimony` wrote; raises `CodecError` for anything else."""
    frame = pb.Testimony()
    try:
        frame.ParseFromString(data)
        return _testimony(frame)
    except CodecError:
        raise
    except (DecodeError, CovenantError, ValueError) as error:
        raise CodecError(f"bytes that are not a testimony: {error}") from error


def _testimony_message(testimony: Testimony) -> pb.Testimony:
    frame = pb.Testimony(
        statement=statement_message(testimony.statement), cohort=bytes.fromhex(testimony.cohort)
    )
    for site in sorted(testimony.uploads):
        upload = testimony.uploads[site]
        frame.uploads.add(site=site, packed_digest=bytes.fromhex(upload.packed), signature=upload.signature)
    return frame


def _checkpoint(frame: pb.Checkpoint, vectors: Vectors) -> Checkpoint:
    model = read_floats(vectors.of(frame.model), "model")
    return Checkpoint(
        model=model,
        optimizer=OptimizerState.from_bytes(vectors.of(frame.optimizer), model.size),
        testimony=_testimony(frame.testimony),
    )


def _testimony(frame: pb.Testimony) -> Testimony:
    if len(frame.uploads) > MAX_ROSTER:
        raise CodecError(f"a testimony of {len(frame.uploads)} sites; at most {MAX_ROSTER} are accepted")
    names = [site_name(item.site) for item in frame.uploads]
    if any(before >= after for before, after in pairwise(names)):
        raise CodecError("a testimony whose sites are not sorted, or that names a site twice")
    return Testimony(
        statement=read_statement(frame.statement),
        cohort=decode_digest(frame.cohort, "cohort"),
        uploads={site: _upload(item) for site, item in zip(names, frame.uploads, strict=True)},
    )


def _upload(frame: pb.Upload) -> Upload:
    if len(frame.signature) != SIGNATURE_BYTES:
        raise CodecError(f"a signature has {len(frame.signature)} bytes; it takes {SIGNATURE_BYTES}")
    return Upload(decode_digest(frame.packed_digest, "packed_digest"), frame.signature)
