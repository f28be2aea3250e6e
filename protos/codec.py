"""Frames to bytes and back.

Whatever bytes come in, either a frame whose every field is within bounds comes out (`codec_fields`), or a `CodecError`; nothing else.
"""

from __future__ import annotations

from typing import cast

from protos import training_pb2 as pb
from protos.codec_fields import (
    MAX_COMPONENT_CHARACTERS,
    MAX_ROSTER,
    CodecError,
    decode_digest,
    parse_as,
    put_scaling,
    read_counts,
    read_document,
    read_floats,
    read_panels,
    read_scaling,
)
from protos.frame_size import REPLY, REQUEST, Vectors
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
from protos.witness import MOST_BUNDLE_BYTES, MOST_EVIDENCE_BYTES
from protos.witness_codec import put_witness_answer, read_witness_answer
from strategies.encoding import vector_digest, vector_pieces
from strategies.errors import CovenantError
from strategies.ids import run_id, site_name
from strategies.pieces import Bytes, Pieces, joined
from strategies.secagg.identities import SIGNATURE_BYTES


def encode_request(request: Request) -> Bytes:
    """Serialise a request deterministically."""
    model = None if request.model is None else vector_pieces(request.model)
    vectors = Vectors.beside(model, champion_vector(request.champion))
    frame = pb.Request(statement=statement_message(request.statement), task=task_message(request.task))
    if request.scaling is not None:
        put_scaling(frame, request.scaling)
    if model is not None:
        frame.model = vectors.token(model)
    if request.champion is not None:
        put_champion(frame, request.champion, vectors)
    return vectors.put(frame.SerializeToString(deterministic=True), REQUEST)


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


def champion_vector(champion: ChampionModel | None) -> Pieces | None:
    """The vector that a champion brings into a request."""
    return None if champion is None else vector_pieces(champion.model)


def put_champion(frame: pb.Request, champion: ChampionModel, vectors: Vectors) -> None:
    """Put the champion into a request."""
    frame.champion.model = vectors.token(vector_pieces(champion.model))
    put_scaling(frame.champion, champion.scaling)


def read_champion(frame: pb.Request, vectors: Vectors) -> ChampionModel | None:
    """The champion in a request, each value within bounds; raises `CodecError` otherwise. Whether it is the plan's, the site judges."""
    if not frame.HasField("champion"):
        return None
    return ChampionModel(
        model=read_floats(vectors.of(frame.champion.model), "champion"),
        scaling=read_scaling(frame.champion.scaling),
    )


def decode_request(data: Bytes) -> Request:
    """Parse a request; raises `CodecError` for anything else, also when a digest does not match what it names."""
    frame = pb.Request()
    vectors = parse(frame, data)
    try:
        statement = read_statement(frame.statement)
        scaling = read_scaling(frame.scaling) if frame.HasField("scaling") else None
        model = read_floats(vectors.of(frame.model), "model") if frame.model else None
        task = read_task(frame.task)
        champion = read_champion(frame, vectors)
    except CodecError:
        raise
    except (CovenantError, ValueError, LookupError) as error:
        raise CodecError(f"a request with a field out of bounds: {error}") from error
    request = Request(statement=statement, task=task, scaling=scaling, model=model, champion=champion)
    _check_stage(request)
    return request


def encode_reply(reply: Reply) -> Bytes:
    """Serialise a reply deterministically."""
    sent = vector_pieces(reply.body.vector) if isinstance(reply.body, Moments | Update) else None
    vectors = Vectors.beside(sent)
    frame = pb.Reply(statement_digest=bytes.fromhex(reply.statement_digest), site=reply.site)
    match reply.body:
        case Moments(vector=vector):
            frame.moments = vectors.token(vector_pieces(vector))
        case Update(vector=vector):
            frame.update = vectors.token(vector_pieces(vector))
        case ScoreCounts(counts=counts, panels=panels):
            frame.score_counts = counts.astype("<i8").tobytes()
            frame.panels = panels.astype("<i8").tobytes()
        case Refusal() as refusal:
            told = refusal.as_sent
            frame.refusal.code = cast("pb.Refusal.Code", int(told.code))
            frame.refusal.reason, frame.refusal.accused = told.reason, told.accused or ""
            frame.refusal.signature, frame.refusal.evidence = told.signature, told.evidence
        case WitnessAnswer() as answer:
            put_witness_answer(frame, answer)
        case SecureAnswer():
            raise TypeError("protos.secure_codec encodes what is said in secure aggregation")
    return vectors.put(frame.SerializeToString(deterministic=True), REPLY)


def decode_reply(data: Bytes) -> Reply:
    """Parse a reply; raises `CodecError` for anything else."""
    frame = pb.Reply()
    vectors = parse(frame, data)
    try:
        return Reply(
            statement_digest=decode_digest(frame.statement_digest, "statement_digest"),
            site=site_name(frame.site),
            body=_body(frame, vectors),
        )
    except CodecError:
        raise
    except (CovenantError, ValueError, LookupError) as error:
        raise CodecError(f"a reply with a field out of bounds: {error}") from error


def parse(frame: pb.Request | pb.Reply, data: Bytes) -> Vectors:
    """Read bytes into a message, and its vectors; raises `CodecError` where they are too many, or are not one."""
    layout = REQUEST if isinstance(frame, pb.Request) else REPLY
    return parse_as(frame, data, layout, "bytes that are not a frame of this protocol")


def read_task(frame: pb.Task) -> Task:
    """The documents of a task, each within bounds."""
    return Task(
        plan=read_document(frame.plan, "plan"),
        contract=read_document(frame.contract, "contract"),
        members=read_document(frame.members, "members"),
        evidence=read_document(frame.evidence, "evidence", least=0),
        witness=read_document(frame.witness, "witness", least=0, most=MOST_BUNDLE_BYTES),
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


def _body(frame: pb.Reply, vectors: Vectors) -> Body:
    if frame.panels and frame.WhichOneof("body") != "score_counts":
        raise CodecError("a reply with panels and without score_counts")
    match frame.WhichOneof("body"):
        case "moments":
            return Moments(read_floats(vectors.of(frame.moments), "moments", least=0))
        case "update":
            return Update(read_floats(vectors.of(frame.update), "update"))
        case "score_counts":
            return ScoreCounts(
                read_counts(joined(vectors.of(frame.score_counts))),
                read_panels(joined(vectors.of(frame.panels))),
            )
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
