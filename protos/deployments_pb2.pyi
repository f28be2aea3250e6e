from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class AddTargetRequest(_message.Message):
    __slots__ = ("request_id", "name", "settings")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    SETTINGS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    name: str
    settings: bytes
    def __init__(self, request_id: _Optional[str] = ..., name: _Optional[str] = ..., settings: _Optional[bytes] = ...) -> None: ...

class StartRolloutRequest(_message.Message):
    __slots__ = ("request_id", "model", "version", "target", "step", "share", "rules", "why", "seen")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    SHARE_FIELD_NUMBER: _ClassVar[int]
    RULES_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    SEEN_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    model: str
    version: int
    target: str
    step: str
    share: float
    rules: bytes
    why: str
    seen: int
    def __init__(self, request_id: _Optional[str] = ..., model: _Optional[str] = ..., version: _Optional[int] = ..., target: _Optional[str] = ..., step: _Optional[str] = ..., share: _Optional[float] = ..., rules: _Optional[bytes] = ..., why: _Optional[str] = ..., seen: _Optional[int] = ...) -> None: ...

class PromoteRolloutRequest(_message.Message):
    __slots__ = ("request_id", "target", "step", "share", "why", "seen")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    SHARE_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    SEEN_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    target: str
    step: str
    share: float
    why: str
    seen: int
    def __init__(self, request_id: _Optional[str] = ..., target: _Optional[str] = ..., step: _Optional[str] = ..., share: _Optional[float] = ..., why: _Optional[str] = ..., seen: _Optional[int] = ...) -> None: ...

class RollBackRequest(_message.Message):
    __slots__ = ("request_id", "target", "why", "seen")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    SEEN_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    target: str
    why: str
    seen: int
    def __init__(self, request_id: _Optional[str] = ..., target: _Optional[str] = ..., why: _Optional[str] = ..., seen: _Optional[int] = ...) -> None: ...

class RenewReleaseRequest(_message.Message):
    __slots__ = ("request_id", "target", "why", "seen")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    SEEN_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    target: str
    why: str
    seen: int
    def __init__(self, request_id: _Optional[str] = ..., target: _Optional[str] = ..., why: _Optional[str] = ..., seen: _Optional[int] = ...) -> None: ...

class RecallModelRequest(_message.Message):
    __slots__ = ("request_id", "model", "version", "target", "why")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    model: str
    version: int
    target: str
    why: str
    def __init__(self, request_id: _Optional[str] = ..., model: _Optional[str] = ..., version: _Optional[int] = ..., target: _Optional[str] = ..., why: _Optional[str] = ...) -> None: ...

class ListTargetsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListRolloutsRequest(_message.Message):
    __slots__ = ("target",)
    TARGET_FIELD_NUMBER: _ClassVar[int]
    target: str
    def __init__(self, target: _Optional[str] = ...) -> None: ...

class ListOrdersRequest(_message.Message):
    __slots__ = ("target",)
    TARGET_FIELD_NUMBER: _ClassVar[int]
    target: str
    def __init__(self, target: _Optional[str] = ...) -> None: ...

class ListRunningRequest(_message.Message):
    __slots__ = ("past",)
    PAST_FIELD_NUMBER: _ClassVar[int]
    past: bool
    def __init__(self, past: _Optional[bool] = ...) -> None: ...

class ListRecallsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Done(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class RolloutStarted(_message.Message):
    __slots__ = ("rollout",)
    ROLLOUT_FIELD_NUMBER: _ClassVar[int]
    rollout: str
    def __init__(self, rollout: _Optional[str] = ...) -> None: ...

class RecallOrdered(_message.Message):
    __slots__ = ("targets",)
    TARGETS_FIELD_NUMBER: _ClassVar[int]
    targets: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, targets: _Optional[_Iterable[str]] = ...) -> None: ...

class Facts(_message.Message):
    __slots__ = ("facts", "more")
    FACTS_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    facts: bytes
    more: bool
    def __init__(self, facts: _Optional[bytes] = ..., more: _Optional[bool] = ...) -> None: ...
