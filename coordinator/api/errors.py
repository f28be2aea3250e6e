"""Errors on the wire: a google.rpc.Status with one `Problem`, from which the client makes the same kind of error again.

1. Every sentence that a person would read at the coordinator arrives as it is, with the exit code that it has there.
2. A defect of the server says nothing of itself but a number under which the server's own log has it.
"""

from __future__ import annotations

import secrets
from typing import Final

import grpc
import structlog
from google.protobuf.any_pb2 import Any as Packed
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from coordinator.leadership import Deposed
from coordinator.office.actors import Forbidden
from coordinator.office.requests import RefusedBefore, RequestConflict
from protos.control_pb2 import Problem
from strategies.dp.budget import BudgetRefused
from strategies.errors import CovenantError, Refused, Unreachable, UsageError

_log = structlog.get_logger(__name__)


class Unauthenticated(Refused):
    """Whoever calls is nobody on the member list."""


class TooLate(Unreachable):
    """The caller has stopped waiting."""


class Busy(Unreachable):
    """The server has no room for this now."""


# The first that fits: what gRPC calls it, and the rule's name.
_KINDS: Final[tuple[tuple[type[CovenantError], grpc.StatusCode, str], ...]] = (
    (Unauthenticated, grpc.StatusCode.UNAUTHENTICATED, "identity"),
    (Forbidden, grpc.StatusCode.PERMISSION_DENIED, "role"),
    (RequestConflict, grpc.StatusCode.ALREADY_EXISTS, "request-id"),
    (RefusedBefore, grpc.StatusCode.FAILED_PRECONDITION, "refused"),
    (BudgetRefused, grpc.StatusCode.FAILED_PRECONDITION, "budget"),
    (Refused, grpc.StatusCode.FAILED_PRECONDITION, "refused"),
    (UsageError, grpc.StatusCode.INVALID_ARGUMENT, "usage"),
    (TooLate, grpc.StatusCode.DEADLINE_EXCEEDED, "deadline"),
    (Busy, grpc.StatusCode.RESOURCE_EXHAUSTED, "busy"),
    (Deposed, grpc.StatusCode.UNAVAILABLE, "leader"),
    (Unreachable, grpc.StatusCode.UNAVAILABLE, "unreachable"),
    (CovenantError, grpc.StatusCode.INTERNAL, "failure"),
)
_REMEDIES: Final = {
    "role": "ask an officer who has the role; `docs/reference/roles` lists them",
    "identity": "have access granted anew with `covenant access request` and `covenant access grant`",
    "deadline": "ask again with a later deadline; a change keeps its request id",
    "leader": "ask the coordinator that leads; a change keeps its request id",
    "busy": "close other streams, or ask again later",
}
_BY_EXIT_CODE: Final[dict[int, type[CovenantError]]] = {
    each.exit_code: each for each in (CovenantError, UsageError, Refused, Unreachable)
}


def status_of(error: CovenantError, method: str) -> Status:
    """How `error` goes out."""
    code, rule = next((code, rule) for kind, code, rule in _KINDS if isinstance(error, kind))
    problem = Problem(
        what=str(error),
        where=method,
        rule=rule,
        remedy=_REMEDIES.get(rule, ""),
        exit_code=error.exit_code,
    )
    packed = Packed()
    packed.Pack(problem)
    # grpc says the message in a header, which is bounded; the problem has it whole.
    return Status(code=code.value[0], message=str(error)[:512], details=[packed])


def defect_status(error: Exception, method: str) -> Status:
    """How a defect of the server goes out; its own log has the rest."""
    number = secrets.token_hex(4)
    _log.error("a call failed", method=method, number=number, exc_info=error)
    return status_of(
        CovenantError(
            f"the coordinator failed at {method}; its log has the reason under number {number}. Nothing is known to have changed: look, then try"
            " again"
        ),
        method,
    )


def problem_of(error: grpc.RpcError) -> Problem | None:
    """The problem that a call's error carries, if it does."""
    if not isinstance(error, grpc.Call):
        return None
    try:
        status = rpc_status.from_call(error)
    except ValueError:  # trailers that contradict each other: not from our server
        return None
    problem = Problem()
    for each in [] if status is None else status.details:
        if each.Unpack(problem):
            return problem
    return None


def error_of(error: grpc.RpcError, server: str) -> CovenantError:
    """The error that a command meets, for what a call to `server` met."""
    problem = problem_of(error)
    if problem is not None:
        return _BY_EXIT_CODE.get(problem.exit_code, CovenantError)(problem.what)
    code = error.code() if isinstance(error, grpc.Call) else None
    details = (error.details() if isinstance(error, grpc.Call) else None) or "no reason was given"
    match code:
        case grpc.StatusCode.UNAVAILABLE:
            return Unreachable(
                f"{server} did not answer, or accepts no call from this folder's certificate: {details[:300]}. Check that the coordinator runs, the"
                " address in access.yaml, and that the certificate is not over"
            )
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return Unreachable(f"{server} did not answer in time; try again, which changes nothing twice")
        case grpc.StatusCode.RESOURCE_EXHAUSTED:
            return Refused(f"{server} takes no such message or no more calls now: {details[:300]}")
        case grpc.StatusCode.UNIMPLEMENTED:
            return UsageError(
                f"{server} is of another version and does not know this command: {details[:300]}"
            )
        case _:
            return CovenantError(f"{server} failed: {details[:300]}")
