"""What every call of a method has, whichever way it came: who asks, and for a change the request that is answered once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import structlog
from google.protobuf.message import Message

from coordinator.bootstrap import Centre
from coordinator.office.actors import Actor
from coordinator.office.denials import record_denial
from coordinator.office.requests import Asked, RefusedBefore
from strategies.encoding import sha256_hex
from strategies.errors import CovenantError, DiskError, Refused, UsageError

_log = structlog.get_logger(__name__)


@dataclass(kw_only=True)
class Caller:
    """Whoever was let in. `asked` is there where they change something."""

    actor: Actor
    asked: Asked | None = None


def asked_by(actor: Actor, method: str, request: Message | None) -> Asked:
    """The request of a change. Raises UsageError where it has no id, or is none."""
    if request is None:
        raise UsageError(f"{method} changes something, and takes one request")
    content = request.SerializeToString(deterministic=True)
    request_id = cast("str", getattr(request, "request_id", ""))
    return Asked(id=request_id, officer=actor.name, method=method, digest=sha256_hex(content))


def tell_refusal(
    centre: Centre, actor: Actor, method: str, request: Message | None, refused: Refused
) -> None:
    """Tell the log of a change that was refused; where that fails, the process log has it. Raises DiskError."""
    if isinstance(refused, RefusedBefore):
        return
    _log.warning("a change was refused", officer=actor.name, method=method, reason=str(refused))
    try:
        asked = asked_by(actor, method, request)
    except UsageError:
        asked = None
    try:
        record_denial(
            centre,
            centre.clock(),
            officer=actor.name,
            method=method,
            reason=str(refused),
            asked=asked,
        )
    except DiskError:
        raise
    except CovenantError as error:
        _log.error("a refusal could not be told to the log", reason=str(error))
