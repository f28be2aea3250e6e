from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ProposePlanRequest(_message.Message):
    __slots__ = ("request_id", "plan", "contract", "statement")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    PLAN_FIELD_NUMBER: _ClassVar[int]
    CONTRACT_FIELD_NUMBER: _ClassVar[int]
    STATEMENT_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    plan: bytes
    contract: bytes
    statement: bytes
    def __init__(self, request_id: _Optional[str] = ..., plan: _Optional[bytes] = ..., contract: _Optional[bytes] = ..., statement: _Optional[bytes] = ...) -> None: ...

class ApprovePlanRequest(_message.Message):
    __slots__ = ("request_id", "statement")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    STATEMENT_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    statement: bytes
    def __init__(self, request_id: _Optional[str] = ..., statement: _Optional[bytes] = ...) -> None: ...

class GetPlanRequest(_message.Message):
    __slots__ = ("plan", "contract")
    PLAN_FIELD_NUMBER: _ClassVar[int]
    CONTRACT_FIELD_NUMBER: _ClassVar[int]
    plan: str
    contract: str
    def __init__(self, plan: _Optional[str] = ..., contract: _Optional[str] = ...) -> None: ...

class ListPlansRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListPlansResponse(_message.Message):
    __slots__ = ("plans", "next_page_token")
    PLANS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    plans: _containers.RepeatedCompositeFieldContainer[PlanStanding]
    next_page_token: str
    def __init__(self, plans: _Optional[_Iterable[_Union[PlanStanding, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class CommentPlanRequest(_message.Message):
    __slots__ = ("request_id", "plan", "contract", "text")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    PLAN_FIELD_NUMBER: _ClassVar[int]
    CONTRACT_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    plan: str
    contract: str
    text: str
    def __init__(self, request_id: _Optional[str] = ..., plan: _Optional[str] = ..., contract: _Optional[str] = ..., text: _Optional[str] = ...) -> None: ...

class ListCommentsRequest(_message.Message):
    __slots__ = ("plan", "contract", "page_size", "page_token")
    PLAN_FIELD_NUMBER: _ClassVar[int]
    CONTRACT_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    plan: str
    contract: str
    page_size: int
    page_token: str
    def __init__(self, plan: _Optional[str] = ..., contract: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListCommentsResponse(_message.Message):
    __slots__ = ("comments", "next_page_token")
    COMMENTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    comments: _containers.RepeatedCompositeFieldContainer[PlanComment]
    next_page_token: str
    def __init__(self, comments: _Optional[_Iterable[_Union[PlanComment, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class PlanComment(_message.Message):
    __slots__ = ("officer", "at", "text")
    OFFICER_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    officer: str
    at: str
    text: str
    def __init__(self, officer: _Optional[str] = ..., at: _Optional[str] = ..., text: _Optional[str] = ...) -> None: ...

class ProposedPlan(_message.Message):
    __slots__ = ("standing", "plan", "contract", "evidence")
    STANDING_FIELD_NUMBER: _ClassVar[int]
    PLAN_FIELD_NUMBER: _ClassVar[int]
    CONTRACT_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    standing: PlanStanding
    plan: bytes
    contract: bytes
    evidence: bytes
    def __init__(self, standing: _Optional[_Union[PlanStanding, _Mapping]] = ..., plan: _Optional[bytes] = ..., contract: _Optional[bytes] = ..., evidence: _Optional[bytes] = ...) -> None: ...

class PlanStanding(_message.Message):
    __slots__ = ("plan", "digest", "contract_ref", "contract_digest", "members", "author", "approvals", "missing", "approved", "reason", "until")
    PLAN_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    CONTRACT_REF_FIELD_NUMBER: _ClassVar[int]
    CONTRACT_DIGEST_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    AUTHOR_FIELD_NUMBER: _ClassVar[int]
    APPROVALS_FIELD_NUMBER: _ClassVar[int]
    MISSING_FIELD_NUMBER: _ClassVar[int]
    APPROVED_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    UNTIL_FIELD_NUMBER: _ClassVar[int]
    plan: str
    digest: str
    contract_ref: str
    contract_digest: str
    members: str
    author: str
    approvals: _containers.RepeatedCompositeFieldContainer[Approval]
    missing: _containers.RepeatedCompositeFieldContainer[Missing]
    approved: bool
    reason: str
    until: str
    def __init__(self, plan: _Optional[str] = ..., digest: _Optional[str] = ..., contract_ref: _Optional[str] = ..., contract_digest: _Optional[str] = ..., members: _Optional[str] = ..., author: _Optional[str] = ..., approvals: _Optional[_Iterable[_Union[Approval, _Mapping]]] = ..., missing: _Optional[_Iterable[_Union[Missing, _Mapping]]] = ..., approved: _Optional[bool] = ..., reason: _Optional[str] = ..., until: _Optional[str] = ...) -> None: ...

class Approval(_message.Message):
    __slots__ = ("officer", "role", "expires")
    OFFICER_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_FIELD_NUMBER: _ClassVar[int]
    officer: str
    role: str
    expires: str
    def __init__(self, officer: _Optional[str] = ..., role: _Optional[str] = ..., expires: _Optional[str] = ...) -> None: ...

class Missing(_message.Message):
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

class GetCheckpointRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class SignedHead(_message.Message):
    __slots__ = ("note", "key")
    NOTE_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    note: str
    key: str
    def __init__(self, note: _Optional[str] = ..., key: _Optional[str] = ...) -> None: ...

class ListEntriesRequest(_message.Message):
    __slots__ = ("start", "last", "kind", "page_size", "page_token")
    START_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    start: int
    last: int
    kind: str
    page_size: int
    page_token: str
    def __init__(self, start: _Optional[int] = ..., last: _Optional[int] = ..., kind: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListEntriesResponse(_message.Message):
    __slots__ = ("size", "entries", "next_page_token")
    SIZE_FIELD_NUMBER: _ClassVar[int]
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    size: int
    entries: _containers.RepeatedCompositeFieldContainer[Entry]
    next_page_token: str
    def __init__(self, size: _Optional[int] = ..., entries: _Optional[_Iterable[_Union[Entry, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class Entry(_message.Message):
    __slots__ = ("seq", "body")
    SEQ_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    seq: int
    body: bytes
    def __init__(self, seq: _Optional[int] = ..., body: _Optional[bytes] = ...) -> None: ...

class GetInclusionRequest(_message.Message):
    __slots__ = ("seq", "size")
    SEQ_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    seq: int
    size: int
    def __init__(self, seq: _Optional[int] = ..., size: _Optional[int] = ...) -> None: ...

class GetConsistencyRequest(_message.Message):
    __slots__ = ("old", "new")
    OLD_FIELD_NUMBER: _ClassVar[int]
    NEW_FIELD_NUMBER: _ClassVar[int]
    old: int
    new: int
    def __init__(self, old: _Optional[int] = ..., new: _Optional[int] = ...) -> None: ...

class Proof(_message.Message):
    __slots__ = ("hashes",)
    HASHES_FIELD_NUMBER: _ClassVar[int]
    hashes: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, hashes: _Optional[_Iterable[bytes]] = ...) -> None: ...

class ExportRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ExportPiece(_message.Message):
    __slots__ = ("data",)
    DATA_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    def __init__(self, data: _Optional[bytes] = ...) -> None: ...

class WatchEventsRequest(_message.Message):
    __slots__ = ("start", "kinds")
    START_FIELD_NUMBER: _ClassVar[int]
    KINDS_FIELD_NUMBER: _ClassVar[int]
    start: int
    kinds: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, start: _Optional[int] = ..., kinds: _Optional[_Iterable[str]] = ...) -> None: ...

class ListAccountsRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListAccountsResponse(_message.Message):
    __slots__ = ("accounts", "next_page_token")
    ACCOUNTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    accounts: _containers.RepeatedCompositeFieldContainer[Account]
    next_page_token: str
    def __init__(self, accounts: _Optional[_Iterable[_Union[Account, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class GetAccountRequest(_message.Message):
    __slots__ = ("site", "population", "unit")
    SITE_FIELD_NUMBER: _ClassVar[int]
    POPULATION_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    site: str
    population: str
    unit: str
    def __init__(self, site: _Optional[str] = ..., population: _Optional[str] = ..., unit: _Optional[str] = ...) -> None: ...

class Account(_message.Message):
    __slots__ = ("facts",)
    FACTS_FIELD_NUMBER: _ClassVar[int]
    facts: str
    def __init__(self, facts: _Optional[str] = ...) -> None: ...

class DraftCeilingRequest(_message.Message):
    __slots__ = ("site", "population", "unit", "epsilon", "delta", "reason", "alert_at", "overlaps", "order")
    SITE_FIELD_NUMBER: _ClassVar[int]
    POPULATION_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    EPSILON_FIELD_NUMBER: _ClassVar[int]
    DELTA_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ALERT_AT_FIELD_NUMBER: _ClassVar[int]
    OVERLAPS_FIELD_NUMBER: _ClassVar[int]
    ORDER_FIELD_NUMBER: _ClassVar[int]
    site: str
    population: str
    unit: str
    epsilon: float
    delta: float
    reason: str
    alert_at: Fractions
    overlaps: Names
    order: int
    def __init__(self, site: _Optional[str] = ..., population: _Optional[str] = ..., unit: _Optional[str] = ..., epsilon: _Optional[float] = ..., delta: _Optional[float] = ..., reason: _Optional[str] = ..., alert_at: _Optional[_Union[Fractions, _Mapping]] = ..., overlaps: _Optional[_Union[Names, _Mapping]] = ..., order: _Optional[int] = ...) -> None: ...

class Fractions(_message.Message):
    __slots__ = ("values",)
    VALUES_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, values: _Optional[_Iterable[float]] = ...) -> None: ...

class Names(_message.Message):
    __slots__ = ("values",)
    VALUES_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, values: _Optional[_Iterable[str]] = ...) -> None: ...

class DraftedCeiling(_message.Message):
    __slots__ = ("decision", "officers", "loosens")
    DECISION_FIELD_NUMBER: _ClassVar[int]
    OFFICERS_FIELD_NUMBER: _ClassVar[int]
    LOOSENS_FIELD_NUMBER: _ClassVar[int]
    decision: bytes
    officers: int
    loosens: str
    def __init__(self, decision: _Optional[bytes] = ..., officers: _Optional[int] = ..., loosens: _Optional[str] = ...) -> None: ...

class ApplyCeilingRequest(_message.Message):
    __slots__ = ("request_id", "decision")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    DECISION_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    decision: bytes
    def __init__(self, request_id: _Optional[str] = ..., decision: _Optional[bytes] = ...) -> None: ...

class AppliedCeiling(_message.Message):
    __slots__ = ("account", "alerts_reached_now")
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    ALERTS_REACHED_NOW_FIELD_NUMBER: _ClassVar[int]
    account: Account
    alerts_reached_now: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, account: _Optional[_Union[Account, _Mapping]] = ..., alerts_reached_now: _Optional[_Iterable[str]] = ...) -> None: ...

class GiveHaltRequest(_message.Message):
    __slots__ = ("request_id", "order")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    ORDER_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    order: bytes
    def __init__(self, request_id: _Optional[str] = ..., order: _Optional[bytes] = ...) -> None: ...

class SayLiftRequest(_message.Message):
    __slots__ = ("request_id", "halt", "statement")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    HALT_FIELD_NUMBER: _ClassVar[int]
    STATEMENT_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    halt: str
    statement: bytes
    def __init__(self, request_id: _Optional[str] = ..., halt: _Optional[str] = ..., statement: _Optional[bytes] = ...) -> None: ...

class GetHaltRequest(_message.Message):
    __slots__ = ("halt",)
    HALT_FIELD_NUMBER: _ClassVar[int]
    halt: str
    def __init__(self, halt: _Optional[str] = ...) -> None: ...

class ListHaltsRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListHaltsResponse(_message.Message):
    __slots__ = ("halts", "next_page_token")
    HALTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    halts: _containers.RepeatedCompositeFieldContainer[Halt]
    next_page_token: str
    def __init__(self, halts: _Optional[_Iterable[_Union[Halt, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class Halt(_message.Message):
    __slots__ = ("order", "halted_at", "lift", "lifted_at")
    ORDER_FIELD_NUMBER: _ClassVar[int]
    HALTED_AT_FIELD_NUMBER: _ClassVar[int]
    LIFT_FIELD_NUMBER: _ClassVar[int]
    LIFTED_AT_FIELD_NUMBER: _ClassVar[int]
    order: bytes
    halted_at: str
    lift: bytes
    lifted_at: str
    def __init__(self, order: _Optional[bytes] = ..., halted_at: _Optional[str] = ..., lift: _Optional[bytes] = ..., lifted_at: _Optional[str] = ...) -> None: ...

class GetMembersRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class MemberListInUse(_message.Message):
    __slots__ = ("ref", "membership", "root")
    REF_FIELD_NUMBER: _ClassVar[int]
    MEMBERSHIP_FIELD_NUMBER: _ClassVar[int]
    ROOT_FIELD_NUMBER: _ClassVar[int]
    ref: str
    membership: bytes
    root: bytes
    def __init__(self, ref: _Optional[str] = ..., membership: _Optional[bytes] = ..., root: _Optional[bytes] = ...) -> None: ...
