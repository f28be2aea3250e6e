from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Problem(_message.Message):
    __slots__ = ("what", "where", "rule", "remedy", "exit_code")
    WHAT_FIELD_NUMBER: _ClassVar[int]
    WHERE_FIELD_NUMBER: _ClassVar[int]
    RULE_FIELD_NUMBER: _ClassVar[int]
    REMEDY_FIELD_NUMBER: _ClassVar[int]
    EXIT_CODE_FIELD_NUMBER: _ClassVar[int]
    what: str
    where: str
    rule: str
    remedy: str
    exit_code: int
    def __init__(self, what: _Optional[str] = ..., where: _Optional[str] = ..., rule: _Optional[str] = ..., remedy: _Optional[str] = ..., exit_code: _Optional[int] = ...) -> None: ...

class Documents(_message.Message):
    __slots__ = ("plan", "contract", "evidence")
    PLAN_FIELD_NUMBER: _ClassVar[int]
    CONTRACT_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    plan: bytes
    contract: bytes
    evidence: bytes
    def __init__(self, plan: _Optional[bytes] = ..., contract: _Optional[bytes] = ..., evidence: _Optional[bytes] = ...) -> None: ...

class LaunchRunRequest(_message.Message):
    __slots__ = ("request_id", "proposed", "documents")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    PROPOSED_FIELD_NUMBER: _ClassVar[int]
    DOCUMENTS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    proposed: PlanName
    documents: Documents
    def __init__(self, request_id: _Optional[str] = ..., proposed: _Optional[_Union[PlanName, _Mapping]] = ..., documents: _Optional[_Union[Documents, _Mapping]] = ...) -> None: ...

class PlanName(_message.Message):
    __slots__ = ("plan", "contract")
    PLAN_FIELD_NUMBER: _ClassVar[int]
    CONTRACT_FIELD_NUMBER: _ClassVar[int]
    plan: str
    contract: str
    def __init__(self, plan: _Optional[str] = ..., contract: _Optional[str] = ...) -> None: ...

class LaunchRunResponse(_message.Message):
    __slots__ = ("run",)
    RUN_FIELD_NUMBER: _ClassVar[int]
    run: str
    def __init__(self, run: _Optional[str] = ...) -> None: ...

class ListRunsRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListRunsResponse(_message.Message):
    __slots__ = ("runs", "next_page_token")
    RUNS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    runs: _containers.RepeatedCompositeFieldContainer[Run]
    next_page_token: str
    def __init__(self, runs: _Optional[_Iterable[_Union[Run, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class GetRunRequest(_message.Message):
    __slots__ = ("run",)
    RUN_FIELD_NUMBER: _ClassVar[int]
    run: str
    def __init__(self, run: _Optional[str] = ...) -> None: ...

class ChangeRunRequest(_message.Message):
    __slots__ = ("request_id", "run")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    RUN_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    run: str
    def __init__(self, request_id: _Optional[str] = ..., run: _Optional[str] = ...) -> None: ...

class Run(_message.Message):
    __slots__ = ("run", "plan", "state", "reason", "rounds", "committed", "aucs", "exchange_s", "round_s")
    class AucsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: int
        value: float
        def __init__(self, key: _Optional[int] = ..., value: _Optional[float] = ...) -> None: ...
    RUN_FIELD_NUMBER: _ClassVar[int]
    PLAN_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ROUNDS_FIELD_NUMBER: _ClassVar[int]
    COMMITTED_FIELD_NUMBER: _ClassVar[int]
    AUCS_FIELD_NUMBER: _ClassVar[int]
    EXCHANGE_S_FIELD_NUMBER: _ClassVar[int]
    ROUND_S_FIELD_NUMBER: _ClassVar[int]
    run: str
    plan: str
    state: str
    reason: str
    rounds: int
    committed: int
    aucs: _containers.ScalarMap[int, float]
    exchange_s: _containers.RepeatedScalarFieldContainer[float]
    round_s: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, run: _Optional[str] = ..., plan: _Optional[str] = ..., state: _Optional[str] = ..., reason: _Optional[str] = ..., rounds: _Optional[int] = ..., committed: _Optional[int] = ..., aucs: _Optional[_Mapping[int, float]] = ..., exchange_s: _Optional[_Iterable[float]] = ..., round_s: _Optional[_Iterable[float]] = ...) -> None: ...

class ListModelsRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListModelsResponse(_message.Message):
    __slots__ = ("models", "next_page_token")
    MODELS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[Model]
    next_page_token: str
    def __init__(self, models: _Optional[_Iterable[_Union[Model, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class GetModelRequest(_message.Message):
    __slots__ = ("name", "version")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: int
    def __init__(self, name: _Optional[str] = ..., version: _Optional[int] = ...) -> None: ...

class Model(_message.Message):
    __slots__ = ("name", "version", "stage", "run", "digest", "artifacts", "metrics", "created_us", "personal", "aliases", "signature", "panels")
    class ArtifactsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    STAGE_FIELD_NUMBER: _ClassVar[int]
    RUN_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    ARTIFACTS_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    CREATED_US_FIELD_NUMBER: _ClassVar[int]
    PERSONAL_FIELD_NUMBER: _ClassVar[int]
    ALIASES_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    PANELS_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: int
    stage: str
    run: str
    digest: str
    artifacts: _containers.ScalarMap[str, str]
    metrics: str
    created_us: int
    personal: _containers.RepeatedScalarFieldContainer[str]
    aliases: _containers.RepeatedScalarFieldContainer[str]
    signature: str
    panels: str
    def __init__(self, name: _Optional[str] = ..., version: _Optional[int] = ..., stage: _Optional[str] = ..., run: _Optional[str] = ..., digest: _Optional[str] = ..., artifacts: _Optional[_Mapping[str, str]] = ..., metrics: _Optional[str] = ..., created_us: _Optional[int] = ..., personal: _Optional[_Iterable[str]] = ..., aliases: _Optional[_Iterable[str]] = ..., signature: _Optional[str] = ..., panels: _Optional[str] = ...) -> None: ...

class TellPersonalRequest(_message.Message):
    __slots__ = ("request_id", "statement")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    STATEMENT_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    statement: bytes
    def __init__(self, request_id: _Optional[str] = ..., statement: _Optional[bytes] = ...) -> None: ...

class TellPersonalResponse(_message.Message):
    __slots__ = ("models",)
    MODELS_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, models: _Optional[_Iterable[str]] = ...) -> None: ...

class GetStandingRequest(_message.Message):
    __slots__ = ("model",)
    MODEL_FIELD_NUMBER: _ClassVar[int]
    model: str
    def __init__(self, model: _Optional[str] = ...) -> None: ...

class ApproveModelRequest(_message.Message):
    __slots__ = ("request_id", "statement")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    STATEMENT_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    statement: bytes
    def __init__(self, request_id: _Optional[str] = ..., statement: _Optional[bytes] = ...) -> None: ...

class StateModelRequest(_message.Message):
    __slots__ = ("request_id", "note")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    note: bytes
    def __init__(self, request_id: _Optional[str] = ..., note: _Optional[bytes] = ...) -> None: ...

class StateModelResponse(_message.Message):
    __slots__ = ("digest",)
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    digest: str
    def __init__(self, digest: _Optional[str] = ...) -> None: ...

class ModelStanding(_message.Message):
    __slots__ = ("model", "on", "author", "statements", "missing")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    ON_FIELD_NUMBER: _ClassVar[int]
    AUTHOR_FIELD_NUMBER: _ClassVar[int]
    STATEMENTS_FIELD_NUMBER: _ClassVar[int]
    MISSING_FIELD_NUMBER: _ClassVar[int]
    model: Model
    on: str
    author: str
    statements: _containers.RepeatedScalarFieldContainer[bytes]
    missing: _containers.RepeatedCompositeFieldContainer[ModelLack]
    def __init__(self, model: _Optional[_Union[Model, _Mapping]] = ..., on: _Optional[str] = ..., author: _Optional[str] = ..., statements: _Optional[_Iterable[bytes]] = ..., missing: _Optional[_Iterable[_Union[ModelLack, _Mapping]]] = ...) -> None: ...

class ModelLack(_message.Message):
    __slots__ = ("role", "given", "asked", "could")
    ROLE_FIELD_NUMBER: _ClassVar[int]
    GIVEN_FIELD_NUMBER: _ClassVar[int]
    ASKED_FIELD_NUMBER: _ClassVar[int]
    COULD_FIELD_NUMBER: _ClassVar[int]
    role: str
    given: int
    asked: int
    could: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, role: _Optional[str] = ..., given: _Optional[int] = ..., asked: _Optional[int] = ..., could: _Optional[_Iterable[str]] = ...) -> None: ...

class MoveModelRequest(_message.Message):
    __slots__ = ("request_id", "model", "to", "why")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TO_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    model: str
    to: str
    why: str
    def __init__(self, request_id: _Optional[str] = ..., model: _Optional[str] = ..., to: _Optional[str] = ..., why: _Optional[str] = ...) -> None: ...

class NameModelRequest(_message.Message):
    __slots__ = ("request_id", "name", "alias", "version")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    ALIAS_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    name: str
    alias: str
    version: int
    def __init__(self, request_id: _Optional[str] = ..., name: _Optional[str] = ..., alias: _Optional[str] = ..., version: _Optional[int] = ...) -> None: ...

class NameModelResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetLineageRequest(_message.Message):
    __slots__ = ("model", "plan", "run", "site")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    PLAN_FIELD_NUMBER: _ClassVar[int]
    RUN_FIELD_NUMBER: _ClassVar[int]
    SITE_FIELD_NUMBER: _ClassVar[int]
    model: str
    plan: str
    run: str
    site: str
    def __init__(self, model: _Optional[str] = ..., plan: _Optional[str] = ..., run: _Optional[str] = ..., site: _Optional[str] = ...) -> None: ...

class Lineage(_message.Message):
    __slots__ = ("facts",)
    FACTS_FIELD_NUMBER: _ClassVar[int]
    facts: str
    def __init__(self, facts: _Optional[str] = ...) -> None: ...

class ValidateModelRequest(_message.Message):
    __slots__ = ("request_id", "name", "version", "why")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    name: str
    version: int
    why: str
    def __init__(self, request_id: _Optional[str] = ..., name: _Optional[str] = ..., version: _Optional[int] = ..., why: _Optional[str] = ...) -> None: ...

class ValidateModelResponse(_message.Message):
    __slots__ = ("verdict", "stage")
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    STAGE_FIELD_NUMBER: _ClassVar[int]
    verdict: bytes
    stage: str
    def __init__(self, verdict: _Optional[bytes] = ..., stage: _Optional[str] = ...) -> None: ...
