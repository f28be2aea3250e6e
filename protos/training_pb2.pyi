from protos import secagg_pb2 as _secagg_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Stage(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STAGE_UNSPECIFIED: _ClassVar[Stage]
    STAGE_PREPARE: _ClassVar[Stage]
    STAGE_TRAIN: _ClassVar[Stage]
    STAGE_EVALUATE: _ClassVar[Stage]
STAGE_UNSPECIFIED: Stage
STAGE_PREPARE: Stage
STAGE_TRAIN: Stage
STAGE_EVALUATE: Stage

class Statement(_message.Message):
    __slots__ = ("protocol", "plan_digest", "contract_digest", "members_digest", "run", "stage", "round", "attempt", "roster", "model_digest", "scaling_digest", "component", "optimizer_digest")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    PLAN_DIGEST_FIELD_NUMBER: _ClassVar[int]
    CONTRACT_DIGEST_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_DIGEST_FIELD_NUMBER: _ClassVar[int]
    RUN_FIELD_NUMBER: _ClassVar[int]
    STAGE_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    ROSTER_FIELD_NUMBER: _ClassVar[int]
    MODEL_DIGEST_FIELD_NUMBER: _ClassVar[int]
    SCALING_DIGEST_FIELD_NUMBER: _ClassVar[int]
    COMPONENT_FIELD_NUMBER: _ClassVar[int]
    OPTIMIZER_DIGEST_FIELD_NUMBER: _ClassVar[int]
    protocol: int
    plan_digest: bytes
    contract_digest: bytes
    members_digest: bytes
    run: str
    stage: Stage
    round: int
    attempt: int
    roster: _containers.RepeatedScalarFieldContainer[str]
    model_digest: bytes
    scaling_digest: bytes
    component: str
    optimizer_digest: bytes
    def __init__(self, protocol: _Optional[int] = ..., plan_digest: _Optional[bytes] = ..., contract_digest: _Optional[bytes] = ..., members_digest: _Optional[bytes] = ..., run: _Optional[str] = ..., stage: _Optional[_Union[Stage, str]] = ..., round: _Optional[int] = ..., attempt: _Optional[int] = ..., roster: _Optional[_Iterable[str]] = ..., model_digest: _Optional[bytes] = ..., scaling_digest: _Optional[bytes] = ..., component: _Optional[str] = ..., optimizer_digest: _Optional[bytes] = ...) -> None: ...

class Task(_message.Message):
    __slots__ = ("plan", "contract", "members", "evidence", "witness")
    PLAN_FIELD_NUMBER: _ClassVar[int]
    CONTRACT_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    WITNESS_FIELD_NUMBER: _ClassVar[int]
    plan: bytes
    contract: bytes
    members: bytes
    evidence: bytes
    witness: bytes
    def __init__(self, plan: _Optional[bytes] = ..., contract: _Optional[bytes] = ..., members: _Optional[bytes] = ..., evidence: _Optional[bytes] = ..., witness: _Optional[bytes] = ...) -> None: ...

class Scaling(_message.Message):
    __slots__ = ("mean", "std")
    MEAN_FIELD_NUMBER: _ClassVar[int]
    STD_FIELD_NUMBER: _ClassVar[int]
    mean: _containers.RepeatedScalarFieldContainer[float]
    std: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, mean: _Optional[_Iterable[float]] = ..., std: _Optional[_Iterable[float]] = ...) -> None: ...

class Champion(_message.Message):
    __slots__ = ("model", "scaling")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    SCALING_FIELD_NUMBER: _ClassVar[int]
    model: bytes
    scaling: Scaling
    def __init__(self, model: _Optional[bytes] = ..., scaling: _Optional[_Union[Scaling, _Mapping]] = ...) -> None: ...

class Request(_message.Message):
    __slots__ = ("statement", "task", "scaling", "model", "secure", "witness", "champion")
    STATEMENT_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    SCALING_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    SECURE_FIELD_NUMBER: _ClassVar[int]
    WITNESS_FIELD_NUMBER: _ClassVar[int]
    CHAMPION_FIELD_NUMBER: _ClassVar[int]
    statement: Statement
    task: Task
    scaling: Scaling
    model: bytes
    secure: Secure
    witness: WitnessRequest
    champion: Champion
    def __init__(self, statement: _Optional[_Union[Statement, _Mapping]] = ..., task: _Optional[_Union[Task, _Mapping]] = ..., scaling: _Optional[_Union[Scaling, _Mapping]] = ..., model: _Optional[bytes] = ..., secure: _Optional[_Union[Secure, _Mapping]] = ..., witness: _Optional[_Union[WitnessRequest, _Mapping]] = ..., champion: _Optional[_Union[Champion, _Mapping]] = ...) -> None: ...

class WitnessRequest(_message.Message):
    __slots__ = ("run", "note", "growth", "launch", "plan", "task", "statements", "views", "again", "first", "entries", "gaps", "starts", "vouchers")
    RUN_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    GROWTH_FIELD_NUMBER: _ClassVar[int]
    LAUNCH_FIELD_NUMBER: _ClassVar[int]
    PLAN_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    STATEMENTS_FIELD_NUMBER: _ClassVar[int]
    VIEWS_FIELD_NUMBER: _ClassVar[int]
    AGAIN_FIELD_NUMBER: _ClassVar[int]
    FIRST_FIELD_NUMBER: _ClassVar[int]
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    GAPS_FIELD_NUMBER: _ClassVar[int]
    STARTS_FIELD_NUMBER: _ClassVar[int]
    VOUCHERS_FIELD_NUMBER: _ClassVar[int]
    run: str
    note: bytes
    growth: _containers.RepeatedCompositeFieldContainer[Growth]
    launch: LogLeaf
    plan: LogLeaf
    task: Task
    statements: _containers.RepeatedScalarFieldContainer[bytes]
    views: _containers.RepeatedScalarFieldContainer[bytes]
    again: bool
    first: int
    entries: _containers.RepeatedScalarFieldContainer[bytes]
    gaps: _containers.RepeatedCompositeFieldContainer[LogLeaf]
    starts: _containers.RepeatedScalarFieldContainer[bytes]
    vouchers: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, run: _Optional[str] = ..., note: _Optional[bytes] = ..., growth: _Optional[_Iterable[_Union[Growth, _Mapping]]] = ..., launch: _Optional[_Union[LogLeaf, _Mapping]] = ..., plan: _Optional[_Union[LogLeaf, _Mapping]] = ..., task: _Optional[_Union[Task, _Mapping]] = ..., statements: _Optional[_Iterable[bytes]] = ..., views: _Optional[_Iterable[bytes]] = ..., again: _Optional[bool] = ..., first: _Optional[int] = ..., entries: _Optional[_Iterable[bytes]] = ..., gaps: _Optional[_Iterable[_Union[LogLeaf, _Mapping]]] = ..., starts: _Optional[_Iterable[bytes]] = ..., vouchers: _Optional[_Iterable[bytes]] = ...) -> None: ...

class Growth(_message.Message):
    __slots__ = ("size", "hashes")
    SIZE_FIELD_NUMBER: _ClassVar[int]
    HASHES_FIELD_NUMBER: _ClassVar[int]
    size: int
    hashes: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, size: _Optional[int] = ..., hashes: _Optional[_Iterable[bytes]] = ...) -> None: ...

class LogLeaf(_message.Message):
    __slots__ = ("seq", "body", "hashes")
    SEQ_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    HASHES_FIELD_NUMBER: _ClassVar[int]
    seq: int
    body: bytes
    hashes: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, seq: _Optional[int] = ..., body: _Optional[bytes] = ..., hashes: _Optional[_Iterable[bytes]] = ...) -> None: ...

class WitnessAnswer(_message.Message):
    __slots__ = ("statement", "view", "size", "copied", "start", "vouchers", "version")
    STATEMENT_FIELD_NUMBER: _ClassVar[int]
    VIEW_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    COPIED_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    VOUCHERS_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    statement: bytes
    view: bytes
    size: int
    copied: int
    start: bytes
    vouchers: _containers.RepeatedScalarFieldContainer[bytes]
    version: str
    def __init__(self, statement: _Optional[bytes] = ..., view: _Optional[bytes] = ..., size: _Optional[int] = ..., copied: _Optional[int] = ..., start: _Optional[bytes] = ..., vouchers: _Optional[_Iterable[bytes]] = ..., version: _Optional[str] = ...) -> None: ...

class Secure(_message.Message):
    __slots__ = ("frames", "aggregate", "checkpoint")
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    AGGREGATE_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    frames: _containers.RepeatedCompositeFieldContainer[_secagg_pb2.Frame]
    aggregate: bytes
    checkpoint: Checkpoint
    def __init__(self, frames: _Optional[_Iterable[_Union[_secagg_pb2.Frame, _Mapping]]] = ..., aggregate: _Optional[bytes] = ..., checkpoint: _Optional[_Union[Checkpoint, _Mapping]] = ...) -> None: ...

class Checkpoint(_message.Message):
    __slots__ = ("model", "optimizer", "testimony")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    OPTIMIZER_FIELD_NUMBER: _ClassVar[int]
    TESTIMONY_FIELD_NUMBER: _ClassVar[int]
    model: bytes
    optimizer: bytes
    testimony: Testimony
    def __init__(self, model: _Optional[bytes] = ..., optimizer: _Optional[bytes] = ..., testimony: _Optional[_Union[Testimony, _Mapping]] = ...) -> None: ...

class Testimony(_message.Message):
    __slots__ = ("statement", "cohort", "uploads")
    STATEMENT_FIELD_NUMBER: _ClassVar[int]
    COHORT_FIELD_NUMBER: _ClassVar[int]
    UPLOADS_FIELD_NUMBER: _ClassVar[int]
    statement: Statement
    cohort: bytes
    uploads: _containers.RepeatedCompositeFieldContainer[Upload]
    def __init__(self, statement: _Optional[_Union[Statement, _Mapping]] = ..., cohort: _Optional[bytes] = ..., uploads: _Optional[_Iterable[_Union[Upload, _Mapping]]] = ...) -> None: ...

class Upload(_message.Message):
    __slots__ = ("site", "packed_digest", "signature")
    SITE_FIELD_NUMBER: _ClassVar[int]
    PACKED_DIGEST_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    site: str
    packed_digest: bytes
    signature: bytes
    def __init__(self, site: _Optional[str] = ..., packed_digest: _Optional[bytes] = ..., signature: _Optional[bytes] = ...) -> None: ...

class SecureAnswer(_message.Message):
    __slots__ = ("frames", "holds")
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    HOLDS_FIELD_NUMBER: _ClassVar[int]
    frames: _containers.RepeatedCompositeFieldContainer[_secagg_pb2.Frame]
    holds: bytes
    def __init__(self, frames: _Optional[_Iterable[_Union[_secagg_pb2.Frame, _Mapping]]] = ..., holds: _Optional[bytes] = ...) -> None: ...

class Refusal(_message.Message):
    __slots__ = ("code", "reason", "accused", "signature", "evidence")
    class Code(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        CODE_UNSPECIFIED: _ClassVar[Refusal.Code]
        CODE_POLICY: _ClassVar[Refusal.Code]
        CODE_SIGNATURE: _ClassVar[Refusal.Code]
        CODE_CONTRACT: _ClassVar[Refusal.Code]
        CODE_PROTOCOL: _ClassVar[Refusal.Code]
        CODE_FAILED: _ClassVar[Refusal.Code]
        CODE_BUDGET: _ClassVar[Refusal.Code]
        CODE_AWAY: _ClassVar[Refusal.Code]
        CODE_HALTED: _ClassVar[Refusal.Code]
        CODE_LATER: _ClassVar[Refusal.Code]
    CODE_UNSPECIFIED: Refusal.Code
    CODE_POLICY: Refusal.Code
    CODE_SIGNATURE: Refusal.Code
    CODE_CONTRACT: Refusal.Code
    CODE_PROTOCOL: Refusal.Code
    CODE_FAILED: Refusal.Code
    CODE_BUDGET: Refusal.Code
    CODE_AWAY: Refusal.Code
    CODE_HALTED: Refusal.Code
    CODE_LATER: Refusal.Code
    CODE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ACCUSED_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    code: Refusal.Code
    reason: str
    accused: str
    signature: bytes
    evidence: bytes
    def __init__(self, code: _Optional[_Union[Refusal.Code, str]] = ..., reason: _Optional[str] = ..., accused: _Optional[str] = ..., signature: _Optional[bytes] = ..., evidence: _Optional[bytes] = ...) -> None: ...

class Reply(_message.Message):
    __slots__ = ("statement_digest", "site", "moments", "update", "score_counts", "refusal", "secure", "witness", "panels")
    STATEMENT_DIGEST_FIELD_NUMBER: _ClassVar[int]
    SITE_FIELD_NUMBER: _ClassVar[int]
    MOMENTS_FIELD_NUMBER: _ClassVar[int]
    UPDATE_FIELD_NUMBER: _ClassVar[int]
    SCORE_COUNTS_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    SECURE_FIELD_NUMBER: _ClassVar[int]
    WITNESS_FIELD_NUMBER: _ClassVar[int]
    PANELS_FIELD_NUMBER: _ClassVar[int]
    statement_digest: bytes
    site: str
    moments: bytes
    update: bytes
    score_counts: bytes
    refusal: Refusal
    secure: SecureAnswer
    witness: WitnessAnswer
    panels: bytes
    def __init__(self, statement_digest: _Optional[bytes] = ..., site: _Optional[str] = ..., moments: _Optional[bytes] = ..., update: _Optional[bytes] = ..., score_counts: _Optional[bytes] = ..., refusal: _Optional[_Union[Refusal, _Mapping]] = ..., secure: _Optional[_Union[SecureAnswer, _Mapping]] = ..., witness: _Optional[_Union[WitnessAnswer, _Mapping]] = ..., panels: _Optional[bytes] = ...) -> None: ...
