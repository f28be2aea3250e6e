from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class PublishPackRequest(_message.Message):
    __slots__ = ("request_id", "pack")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    PACK_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    pack: bytes
    def __init__(self, request_id: _Optional[str] = ..., pack: _Optional[bytes] = ...) -> None: ...

class Pack(_message.Message):
    __slots__ = ("signed", "published_at", "in_force_at", "state")
    SIGNED_FIELD_NUMBER: _ClassVar[int]
    PUBLISHED_AT_FIELD_NUMBER: _ClassVar[int]
    IN_FORCE_AT_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    signed: bytes
    published_at: str
    in_force_at: str
    state: str
    def __init__(self, signed: _Optional[bytes] = ..., published_at: _Optional[str] = ..., in_force_at: _Optional[str] = ..., state: _Optional[str] = ...) -> None: ...

class ListPacksRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListPacksResponse(_message.Message):
    __slots__ = ("packs", "next_page_token")
    PACKS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    packs: _containers.RepeatedCompositeFieldContainer[Pack]
    next_page_token: str
    def __init__(self, packs: _Optional[_Iterable[_Union[Pack, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class ListJudgementsRequest(_message.Message):
    __slots__ = ("pack", "page_size", "page_token")
    PACK_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    pack: str
    page_size: int
    page_token: str
    def __init__(self, pack: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListJudgementsResponse(_message.Message):
    __slots__ = ("judged", "next_page_token")
    JUDGED_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    judged: _containers.RepeatedCompositeFieldContainer[Judged]
    next_page_token: str
    def __init__(self, judged: _Optional[_Iterable[_Union[Judged, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class Judged(_message.Message):
    __slots__ = ("judgement", "differs", "blocked", "quarantined", "judged_at")
    JUDGEMENT_FIELD_NUMBER: _ClassVar[int]
    DIFFERS_FIELD_NUMBER: _ClassVar[int]
    BLOCKED_FIELD_NUMBER: _ClassVar[int]
    QUARANTINED_FIELD_NUMBER: _ClassVar[int]
    JUDGED_AT_FIELD_NUMBER: _ClassVar[int]
    judgement: bytes
    differs: _containers.RepeatedScalarFieldContainer[bytes]
    blocked: bool
    quarantined: bool
    judged_at: str
    def __init__(self, judgement: _Optional[bytes] = ..., differs: _Optional[_Iterable[bytes]] = ..., blocked: _Optional[bool] = ..., quarantined: _Optional[bool] = ..., judged_at: _Optional[str] = ...) -> None: ...

class SimulatePackRequest(_message.Message):
    __slots__ = ("pack", "page_size", "page_token")
    PACK_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    pack: bytes
    page_size: int
    page_token: str
    def __init__(self, pack: _Optional[bytes] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class SimulatePackResponse(_message.Message):
    __slots__ = ("judged", "next_page_token")
    JUDGED_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    judged: _containers.RepeatedCompositeFieldContainer[Judged]
    next_page_token: str
    def __init__(self, judged: _Optional[_Iterable[_Union[Judged, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class JudgePlanRequest(_message.Message):
    __slots__ = ("plan", "contract", "evidence")
    PLAN_FIELD_NUMBER: _ClassVar[int]
    CONTRACT_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    plan: bytes
    contract: bytes
    evidence: bytes
    def __init__(self, plan: _Optional[bytes] = ..., contract: _Optional[bytes] = ..., evidence: _Optional[bytes] = ...) -> None: ...

class JudgeModelRequest(_message.Message):
    __slots__ = ("name", "version", "stage")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    STAGE_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: int
    stage: str
    def __init__(self, name: _Optional[str] = ..., version: _Optional[int] = ..., stage: _Optional[str] = ...) -> None: ...

class JudgeResponse(_message.Message):
    __slots__ = ("said",)
    SAID_FIELD_NUMBER: _ClassVar[int]
    said: _containers.RepeatedCompositeFieldContainer[Said]
    def __init__(self, said: _Optional[_Iterable[_Union[Said, _Mapping]]] = ...) -> None: ...

class Said(_message.Message):
    __slots__ = ("pack", "judgement")
    PACK_FIELD_NUMBER: _ClassVar[int]
    JUDGEMENT_FIELD_NUMBER: _ClassVar[int]
    pack: bytes
    judgement: bytes
    def __init__(self, pack: _Optional[bytes] = ..., judgement: _Optional[bytes] = ...) -> None: ...
