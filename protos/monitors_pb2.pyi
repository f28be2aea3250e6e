from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class WatchModelRequest(_message.Message):
    __slots__ = ("request_id", "model", "version", "monitor", "rules", "why", "approvals")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    MONITOR_FIELD_NUMBER: _ClassVar[int]
    RULES_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    APPROVALS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    model: str
    version: int
    monitor: bytes
    rules: bytes
    why: str
    approvals: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, request_id: _Optional[str] = ..., model: _Optional[str] = ..., version: _Optional[int] = ..., monitor: _Optional[bytes] = ..., rules: _Optional[bytes] = ..., why: _Optional[str] = ..., approvals: _Optional[_Iterable[bytes]] = ...) -> None: ...

class AcknowledgeAlarmRequest(_message.Message):
    __slots__ = ("request_id", "alarm", "why")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    ALARM_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    alarm: str
    why: str
    def __init__(self, request_id: _Optional[str] = ..., alarm: _Optional[str] = ..., why: _Optional[str] = ...) -> None: ...

class ImportWindowsRequest(_message.Message):
    __slots__ = ("request_id", "windows")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    WINDOWS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    windows: bytes
    def __init__(self, request_id: _Optional[str] = ..., windows: _Optional[bytes] = ...) -> None: ...

class RetryAlertRequest(_message.Message):
    __slots__ = ("request_id", "about")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    ABOUT_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    about: str
    def __init__(self, request_id: _Optional[str] = ..., about: _Optional[str] = ...) -> None: ...

class ListMonitorsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetWindowsRequest(_message.Message):
    __slots__ = ("model", "version")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: int
    def __init__(self, model: _Optional[str] = ..., version: _Optional[int] = ...) -> None: ...

class ListAlarmsRequest(_message.Message):
    __slots__ = ("open",)
    OPEN_FIELD_NUMBER: _ClassVar[int]
    open: bool
    def __init__(self, open: _Optional[bool] = ...) -> None: ...

class ListAlertsRequest(_message.Message):
    __slots__ = ("waiting",)
    WAITING_FIELD_NUMBER: _ClassVar[int]
    waiting: bool
    def __init__(self, waiting: _Optional[bool] = ...) -> None: ...

class Done(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Retried(_message.Message):
    __slots__ = ("alerts",)
    ALERTS_FIELD_NUMBER: _ClassVar[int]
    alerts: int
    def __init__(self, alerts: _Optional[int] = ...) -> None: ...

class Facts(_message.Message):
    __slots__ = ("facts", "more")
    FACTS_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    facts: bytes
    more: bool
    def __init__(self, facts: _Optional[bytes] = ..., more: _Optional[bool] = ...) -> None: ...
