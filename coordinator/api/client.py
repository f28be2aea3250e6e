"""An officer's end of the control API: the access folder, one channel, and errors as the coordinator would raise them.

1. The server is proved by the authority that the folder pins, and by nothing else; proxies of the environment are not looked at.
2. Every call has a deadline, 30 s unless it streams. A change that gets no answer is sent again under its own request id, which changes nothing
   twice.
3. A stream that ends before its caller has enough is asked for again, and a list is asked for page by page.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, Self, TypeVar
from uuid import uuid4

import grpc
from google.protobuf.message import Message

from coordinator.api.errors import error_of
from coordinator.api.server import MOST_MESSAGE_BYTES
from protos.access import PROFILE_FILE, AccessProfile
from protos.documents import load_document
from protos.key_files import read_private
from strategies.errors import Unreachable, UsageError

DEADLINE_S: Final = 30.0
STREAM_DEADLINE_S: Final = 3600.0
_TRIES: Final = 3
_PAUSE_S: Final = 0.5
_LISTENING_TRIES: Final = 60
_LISTENING_PAUSE_S: Final = 1.0
_LASTED_S: Final = 60.0
"""A stream that told nothing for so long before it broke was there."""
_LONGEST_FILE: Final = 64 << 10
_PASSING: Final = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
M = TypeVar("M", bound=Message)

_OPTIONS: Final = (
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_receive_message_length", MOST_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", 60_000),
)


class ControlClient:
    """Calls to the control API from the access folder `folder`. Use as a context manager."""

    def __init__(self, folder: Path, deadline_s: float = DEADLINE_S) -> None:
        """Nothing is contacted yet. Raises UsageError where a file of the folder is missing, or its key is open to others."""
        profile = load_document(folder / PROFILE_FILE, AccessProfile)
        read_private(profile.key)  # refuses a key that others can read
        self.server = profile.server
        self.deadline_s = deadline_s
        credentials = grpc.ssl_channel_credentials(
            root_certificates=_read(profile.ca),
            private_key=_read(profile.key),
            certificate_chain=_read(profile.certificate),
        )
        self.channel = grpc.secure_channel(profile.server, credentials, options=_OPTIONS)

    def __enter__(self) -> Self:
        """Nothing is contacted yet."""
        return self

    def __exit__(self, *_exc: object) -> None:
        """Hang up."""
        self.close()

    def close(self) -> None:
        """Hang up."""
        self.channel.close()

    def ask(self, method: str, request: Message, answer: type[M]) -> M:
        """Ask once. Raises `CovenantError` of the kind that the coordinator raised."""
        try:
            return self._call(method, answer)(request, timeout=self.deadline_s)
        except grpc.RpcError as error:
            raise error_of(error, self.server) from None

    def change(
        self, method: str, make: Callable[[str], Message], answer: type[M], request_id: str | None = None
    ) -> M:
        """Ask for a change, up to three times until there is an answer, under one request id, which `make` is given: `request_id`, or a fresh one.

        Raises as `ask`.
        """
        request, tries_left = make(request_id or str(uuid4())), _TRIES
        while True:
            try:
                return self._call(method, answer)(request, timeout=self.deadline_s)
            except grpc.RpcError as error:
                tries_left -= 1
                passing = isinstance(error, grpc.Call) and error.code() in _PASSING
                if not (passing and tries_left):
                    raise error_of(error, self.server) from None
            time.sleep(_PAUSE_S)

    def stream(self, method: str, request: Message, answer: type[M]) -> Iterator[M]:
        """What the server tells until it ends the stream. Raises as `ask`."""
        calling = self.channel.unary_stream(
            f"/{method}", request_serializer=_written, response_deserializer=answer.FromString
        )(request, timeout=STREAM_DEADLINE_S)
        try:
            yield from calling
        except grpc.RpcError as error:
            raise error_of(error, self.server) from None
        finally:
            calling.cancel()

    def lasting(self, method: str, make: Callable[[], Message], answer: type[M]) -> Iterator[M]:
        """What streams tell, one after the other, each asked for with what `make` gives then: a stream ends with its deadline, and a coordinator that
        restarts is asked again for a while. The caller says when it has enough.

        Raises Unreachable for one that was never there, or does not come back, and else as `ask`.
        """
        there, tries_left = False, _LISTENING_TRIES
        while True:
            began = time.monotonic()
            try:
                for each in self.stream(method, make(), answer):
                    there, tries_left = True, _LISTENING_TRIES
                    yield each
                there = True
            except Unreachable:
                if time.monotonic() - began > _LASTED_S:
                    there, tries_left = True, _LISTENING_TRIES
                tries_left -= 1
                if not there or not tries_left:
                    raise
            time.sleep(_LISTENING_PAUSE_S)

    def pages(self, method: str, make: Callable[[str], Message], answer: type[Any]) -> Iterator[Any]:
        """All pages of a list: `make` gives the request for a page's token. Raises as `ask`."""
        token = ""
        while True:
            page = self.ask(method, make(token), answer)
            yield page
            token = page.next_page_token
            if not token:
                return

    def _call(self, method: str, answer: type[M]) -> grpc.UnaryUnaryMultiCallable[Message, M]:
        return self.channel.unary_unary(
            f"/{method}", request_serializer=_written, response_deserializer=answer.FromString
        )


def _written(message: Message) -> bytes:
    return message.SerializeToString()


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_LONGEST_FILE)
    except OSError as error:
        raise UsageError(
            f"{path} cannot be read: {error.strerror}; it comes from `covenant access grant`"
        ) from error
