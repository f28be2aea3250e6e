from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Attempt(_message.Message):
    __slots__ = ("suite", "plan", "run", "stage", "round", "attempt")
    SUITE_FIELD_NUMBER: _ClassVar[int]
    PLAN_FIELD_NUMBER: _ClassVar[int]
    RUN_FIELD_NUMBER: _ClassVar[int]
    STAGE_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    suite: str
    plan: bytes
    run: str
    stage: str
    round: int
    attempt: int
    def __init__(self, suite: _Optional[str] = ..., plan: _Optional[bytes] = ..., run: _Optional[str] = ..., stage: _Optional[str] = ..., round: _Optional[int] = ..., attempt: _Optional[int] = ...) -> None: ...

class AdvertiseRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Advertisement(_message.Message):
    __slots__ = ("site", "mask_key", "envelope_key", "own_seed", "signature")
    SITE_FIELD_NUMBER: _ClassVar[int]
    MASK_KEY_FIELD_NUMBER: _ClassVar[int]
    ENVELOPE_KEY_FIELD_NUMBER: _ClassVar[int]
    OWN_SEED_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    site: str
    mask_key: bytes
    envelope_key: bytes
    own_seed: bytes
    signature: bytes
    def __init__(self, site: _Optional[str] = ..., mask_key: _Optional[bytes] = ..., envelope_key: _Optional[bytes] = ..., own_seed: _Optional[bytes] = ..., signature: _Optional[bytes] = ...) -> None: ...

class ShareRequest(_message.Message):
    __slots__ = ("cohort",)
    COHORT_FIELD_NUMBER: _ClassVar[int]
    cohort: _containers.RepeatedCompositeFieldContainer[Advertisement]
    def __init__(self, cohort: _Optional[_Iterable[_Union[Advertisement, _Mapping]]] = ...) -> None: ...

class Envelope(_message.Message):
    __slots__ = ("site", "sealed")
    SITE_FIELD_NUMBER: _ClassVar[int]
    SEALED_FIELD_NUMBER: _ClassVar[int]
    site: str
    sealed: bytes
    def __init__(self, site: _Optional[str] = ..., sealed: _Optional[bytes] = ...) -> None: ...

class Envelopes(_message.Message):
    __slots__ = ("site", "envelopes")
    SITE_FIELD_NUMBER: _ClassVar[int]
    ENVELOPES_FIELD_NUMBER: _ClassVar[int]
    site: str
    envelopes: _containers.RepeatedCompositeFieldContainer[Envelope]
    def __init__(self, site: _Optional[str] = ..., envelopes: _Optional[_Iterable[_Union[Envelope, _Mapping]]] = ...) -> None: ...

class MaskRequest(_message.Message):
    __slots__ = ("statement", "roster", "envelopes")
    STATEMENT_FIELD_NUMBER: _ClassVar[int]
    ROSTER_FIELD_NUMBER: _ClassVar[int]
    ENVELOPES_FIELD_NUMBER: _ClassVar[int]
    statement: bytes
    roster: _containers.RepeatedScalarFieldContainer[str]
    envelopes: _containers.RepeatedCompositeFieldContainer[Envelope]
    def __init__(self, statement: _Optional[bytes] = ..., roster: _Optional[_Iterable[str]] = ..., envelopes: _Optional[_Iterable[_Union[Envelope, _Mapping]]] = ...) -> None: ...

class MaskedInput(_message.Message):
    __slots__ = ("site", "statement", "packed", "signature")
    SITE_FIELD_NUMBER: _ClassVar[int]
    STATEMENT_FIELD_NUMBER: _ClassVar[int]
    PACKED_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    site: str
    statement: bytes
    packed: bytes
    signature: bytes
    def __init__(self, site: _Optional[str] = ..., statement: _Optional[bytes] = ..., packed: _Optional[bytes] = ..., signature: _Optional[bytes] = ...) -> None: ...

class ConfirmRequest(_message.Message):
    __slots__ = ("survivors",)
    SURVIVORS_FIELD_NUMBER: _ClassVar[int]
    survivors: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, survivors: _Optional[_Iterable[str]] = ...) -> None: ...

class Confirmation(_message.Message):
    __slots__ = ("site", "signature")
    SITE_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    site: str
    signature: bytes
    def __init__(self, site: _Optional[str] = ..., signature: _Optional[bytes] = ...) -> None: ...

class UnmaskRequest(_message.Message):
    __slots__ = ("statement", "survivors", "dropped", "confirmations")
    STATEMENT_FIELD_NUMBER: _ClassVar[int]
    SURVIVORS_FIELD_NUMBER: _ClassVar[int]
    DROPPED_FIELD_NUMBER: _ClassVar[int]
    CONFIRMATIONS_FIELD_NUMBER: _ClassVar[int]
    statement: bytes
    survivors: _containers.RepeatedScalarFieldContainer[str]
    dropped: _containers.RepeatedScalarFieldContainer[str]
    confirmations: _containers.RepeatedCompositeFieldContainer[Confirmation]
    def __init__(self, statement: _Optional[bytes] = ..., survivors: _Optional[_Iterable[str]] = ..., dropped: _Optional[_Iterable[str]] = ..., confirmations: _Optional[_Iterable[_Union[Confirmation, _Mapping]]] = ...) -> None: ...

class Share(_message.Message):
    __slots__ = ("site", "share")
    SITE_FIELD_NUMBER: _ClassVar[int]
    SHARE_FIELD_NUMBER: _ClassVar[int]
    site: str
    share: bytes
    def __init__(self, site: _Optional[str] = ..., share: _Optional[bytes] = ...) -> None: ...

class Shares(_message.Message):
    __slots__ = ("site", "own_seeds", "mask_keys")
    SITE_FIELD_NUMBER: _ClassVar[int]
    OWN_SEEDS_FIELD_NUMBER: _ClassVar[int]
    MASK_KEYS_FIELD_NUMBER: _ClassVar[int]
    site: str
    own_seeds: _containers.RepeatedCompositeFieldContainer[Share]
    mask_keys: _containers.RepeatedCompositeFieldContainer[Share]
    def __init__(self, site: _Optional[str] = ..., own_seeds: _Optional[_Iterable[_Union[Share, _Mapping]]] = ..., mask_keys: _Optional[_Iterable[_Union[Share, _Mapping]]] = ...) -> None: ...

class Frame(_message.Message):
    __slots__ = ("version", "attempt", "advertise_request", "advertisement", "share_request", "envelopes", "mask_request", "masked_input", "confirm_request", "confirmation", "unmask_request", "shares")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    ADVERTISE_REQUEST_FIELD_NUMBER: _ClassVar[int]
    ADVERTISEMENT_FIELD_NUMBER: _ClassVar[int]
    SHARE_REQUEST_FIELD_NUMBER: _ClassVar[int]
    ENVELOPES_FIELD_NUMBER: _ClassVar[int]
    MASK_REQUEST_FIELD_NUMBER: _ClassVar[int]
    MASKED_INPUT_FIELD_NUMBER: _ClassVar[int]
    CONFIRM_REQUEST_FIELD_NUMBER: _ClassVar[int]
    CONFIRMATION_FIELD_NUMBER: _ClassVar[int]
    UNMASK_REQUEST_FIELD_NUMBER: _ClassVar[int]
    SHARES_FIELD_NUMBER: _ClassVar[int]
    version: int
    attempt: Attempt
    advertise_request: AdvertiseRequest
    advertisement: Advertisement
    share_request: ShareRequest
    envelopes: Envelopes
    mask_request: MaskRequest
    masked_input: MaskedInput
    confirm_request: ConfirmRequest
    confirmation: Confirmation
    unmask_request: UnmaskRequest
    shares: Shares
    def __init__(self, version: _Optional[int] = ..., attempt: _Optional[_Union[Attempt, _Mapping]] = ..., advertise_request: _Optional[_Union[AdvertiseRequest, _Mapping]] = ..., advertisement: _Optional[_Union[Advertisement, _Mapping]] = ..., share_request: _Optional[_Union[ShareRequest, _Mapping]] = ..., envelopes: _Optional[_Union[Envelopes, _Mapping]] = ..., mask_request: _Optional[_Union[MaskRequest, _Mapping]] = ..., masked_input: _Optional[_Union[MaskedInput, _Mapping]] = ..., confirm_request: _Optional[_Union[ConfirmRequest, _Mapping]] = ..., confirmation: _Optional[_Union[Confirmation, _Mapping]] = ..., unmask_request: _Optional[_Union[UnmaskRequest, _Mapping]] = ..., shares: _Optional[_Union[Shares, _Mapping]] = ...) -> None: ...

class Opening(_message.Message):
    __slots__ = ("cohort", "request", "bits", "total")
    COHORT_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    BITS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    cohort: Frame
    request: Frame
    bits: int
    total: bytes
    def __init__(self, cohort: _Optional[_Union[Frame, _Mapping]] = ..., request: _Optional[_Union[Frame, _Mapping]] = ..., bits: _Optional[int] = ..., total: _Optional[bytes] = ...) -> None: ...
