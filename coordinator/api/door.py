"""The one door of the control API: every call of every method comes through here, in this order.

1. The caller still waits: work whose deadline has passed is not begun.
2. The caller is an officer (`identity`), of whom the request is then received: nobody else's is waited for or read. The officer has a role that may
   call this method (`roles`). What has no rule is not served.
3. Only then is the method asked. A change that is refused from here on is told to the transparency log, and has changed nothing.
4. A disk that failed ends everything: nothing more is let in, and the coordinator, which looks at `failed`, ends.
5. A stream goes through 1 and 2 again every second, and ends within the hour, whatever its caller does (`overseer`).
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import grpc
import structlog
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc_status import rpc_status

from coordinator.api.calls import Caller, asked_by, tell_refusal
from coordinator.api.errors import Busy, TooLate, defect_status, status_of
from coordinator.api.identity import Identity
from coordinator.api.overseer import REQUEST_WITHIN_S, Overseer
from coordinator.api.roles import RULES, Rule
from coordinator.bootstrap import Centre
from coordinator.office.actors import Actor
from strategies.errors import CovenantError, DiskError, Refused

MOST_STREAMS: Final = 24
MOST_STREAMS_AN_OFFICER: Final = 8
MOST_AWAITED: Final = 16
"""How many requests of one officer may be on their way in at once."""
LONGEST_STREAM_S: Final = 3500.0
POLL_S: Final = 0.2
_JUDGED_EVERY_S: Final = 1.0
_log = structlog.get_logger(__name__)

Function = Callable[[Any, "Call"], Any]
"""A method: takes its request, or all of them where the client streams, and gives its response, or all of them."""


@dataclass(kw_only=True)
class Call(Caller):
    """A call over gRPC."""

    context: grpc.ServicerContext
    again: Callable[[], None]
    """Raises if the caller would not be let in any more."""
    closing: threading.Event
    _began: float = field(default_factory=time.monotonic)
    _judged: float = field(default_factory=time.monotonic)

    def goes_on(self) -> bool:
        """Wait a moment, and say whether the stream is to go on. Raises `CovenantError` for a caller who lost the right to it."""
        if self.closing.wait(POLL_S) or not self.context.is_active():
            return False
        now = time.monotonic()
        if now - self._judged >= _JUDGED_EVERY_S:
            self.again()
            self._judged = now
        return now - self._began < LONGEST_STREAM_S


@dataclass
class Door:
    """Lets calls in."""

    centre: Centre
    identity: Identity
    closing: threading.Event = field(default_factory=threading.Event)
    failed: DiskError | None = None
    _streams: Counter[str] = field(default_factory=Counter)
    _awaited: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _overseer: Overseer = field(init=False)

    def __post_init__(self) -> None:
        """Watch over what is let in, until `closing` is set."""
        self._overseer = Overseer(self.closing)
        self._overseer.start()

    def handlers(
        self, services: Iterable[ServiceDescriptor], functions: Mapping[str, Function]
    ) -> Sequence[grpc.GenericRpcHandler]:
        """What gRPC serves of `services`. Raises CovenantError where a method has no rule, or nobody answers it."""
        return [
            grpc.method_handlers_generic_handler(
                service.full_name,
                {method.name: self._handler(method, functions) for method in service.methods},
            )
            for service in services
        ]

    def _handler(
        self, method: MethodDescriptor, functions: Mapping[str, Function]
    ) -> grpc.RpcMethodHandler[Any, Any]:
        name = name_of(method)
        if name not in RULES or name not in functions:
            raise CovenantError(f"{name} has no rule, or nobody answers it: this version is not complete")
        rule, function = RULES[name], functions[name]
        reads = GetMessageClass(method.input_type).FromString

        # To gRPC every request is a stream: it would wait for one that is none before anybody knows whose it is.
        one = not method.client_streaming

        def answer(requests: Iterator[Message], context: grpc.ServicerContext) -> Any:  # noqa: ANN401
            with self._answering(name, rule, requests, context) as (call, request):
                return function(request, call)

        def stream(requests: Iterator[Message], context: grpc.ServicerContext) -> Iterator[Any]:
            with (
                self._answering(name, rule, requests if one else None, context) as (call, request),
                self._counted(call.actor),
                self._overseer.watching(context, LONGEST_STREAM_S + _JUDGED_EVERY_S, call.again),
            ):
                yield from function(request if one else requests, call)

        if method.server_streaming:
            return grpc.stream_stream_rpc_method_handler(stream, reads, _written)
        return grpc.stream_unary_rpc_method_handler(answer, reads, _written)

    @contextmanager
    def _answering(
        self, method: str, rule: Rule, requests: Iterator[Message] | None, context: grpc.ServicerContext
    ) -> Iterator[tuple[Call, Message | None]]:
        """Let a call in with its request, if it has one, and turn what is raised inside into its status."""
        actor: Actor | None = None
        request: Message | None = None
        try:
            self._require_disk()
            _require_time(context)
            actor = self.identity.actor_of(context)
            request = None if requests is None else self._received(actor, requests, context)
            actor.require(rule.roles, method)
            call = Call(
                actor=actor,
                context=context,
                again=lambda: self._again(method, rule, context),
                closing=self.closing,
                asked=asked_by(actor, method, request) if rule.changes else None,
            )
            yield call, request
        except CovenantError as error:
            if isinstance(error, DiskError):
                self.failed = error
            if isinstance(error, Refused) and rule.changes and actor is not None:
                self._tell(actor, method, request, error)
            context.abort_with_status(rpc_status.to_status(status_of(error, method)))
        except Exception as error:  # noqa: BLE001  (a defect must not show the caller a stack of the server)
            context.abort_with_status(rpc_status.to_status(defect_status(error, method)))

    def _received(self, actor: Actor, requests: Iterator[Message], context: grpc.ServicerContext) -> Message:
        """The request of a call that has one. Raises Busy where too many are on their way, and TooLate where it does not come."""
        with self._lock:
            if self._awaited[actor.name] >= MOST_AWAITED:
                raise Busy(
                    f"{MOST_AWAITED} requests of {actor.name} are on their way already; wait until they are here"
                )
            self._awaited[actor.name] += 1
        try:
            with self._overseer.watching(context, REQUEST_WITHIN_S):
                request = next(requests, None)
        except grpc.RpcError:
            request = None
        finally:
            with self._lock:
                self._awaited[actor.name] -= 1
        if request is None:
            raise TooLate("the request of this call did not come; nothing was done")
        return request

    def _require_disk(self) -> None:
        if self.failed is not None:
            raise CovenantError(f"the coordinator is ending: {self.failed}")

    def _again(self, method: str, rule: Rule, context: grpc.ServicerContext) -> None:
        self.identity.actor_of(context).require(rule.roles, method)

    def _tell(self, actor: Actor, method: str, request: Message | None, refused: Refused) -> None:
        try:
            tell_refusal(self.centre, actor, method, request, refused)
        except DiskError as error:
            self.failed = error

    @contextmanager
    def _counted(self, actor: Actor) -> Iterator[None]:
        """One stream more, as long as there is room. Raises Busy."""
        with self._lock:
            if self._streams.total() >= MOST_STREAMS or self._streams[actor.name] >= MOST_STREAMS_AN_OFFICER:
                raise Busy(
                    f"{actor.name} has {self._streams[actor.name]} streams open, and all officers {self._streams.total()}; there is room for"
                    f" {MOST_STREAMS_AN_OFFICER} and {MOST_STREAMS}: close some"
                )
            self._streams[actor.name] += 1
        try:
            yield
        finally:
            with self._lock:
                self._streams[actor.name] -= 1


def name_of(method: MethodDescriptor) -> str:
    """A method as gRPC names it: `covenant.control.v1.Runs/GetRun`."""
    return f"{method.containing_service.full_name}/{method.name}"


def _written(message: Message) -> bytes:
    return message.SerializeToString()


def _require_time(context: grpc.ServicerContext) -> None:
    left = context.time_remaining()
    if not context.is_active() or (left is not None and left <= 0):
        raise TooLate("the deadline of this call has passed; nothing was done")
