"""What a SuperLink takes in, by bounds that stock Flower has not.

1. No body is larger than its door needs, whoever sends it: flwr reads it into memory before it asks for a key (`Bounded`).
2. A site announces answers of its own to what it was asked, each a frame in its pieces, and nothing else (`OwnAnswers`). Stock Flower lets any member
   push messages in the name of others and of the run, and announce trees of any shape.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Final

from flwr.proto.fleet_pb2 import PushMessagesRequest
from flwr.proto.message_pb2 import ObjectTree

from coordinator.flower.arriving import MOST_OBJECTS
from coordinator.flower.traffic import OF_SITES, Application, Receive, Scope, Send
from protos.envelope import PIECE_BYTES

MOST_SITE_BODY: Final = 1 << 20
"""An answer's tree of a thousand objects, and several times more than anything else that an agent says."""
MOST_SITE_PIECE: Final = PIECE_BYTES + (1 << 20)
"""A piece of a frame, and what a request has around it."""
_PIECES: Final = f"{OF_SITES}push-object"
MOST_BODY: Final = 64 << 20
"""What a run sends at once: the trees of its requests, of thousands of sites and hundreds of pieces."""
_LONGEST_NUMBER: Final = 19
_MALFORMED, _NO_LENGTH, _TOO_LARGE = 400, 411, 413
_REQUEST: Final = "protobuf_request"
"""Where flwr keeps what it has parsed."""


class Bounded:
    """An ASGI application that is handed no request whose body is too large, or of a length that is not told beforehand."""

    def __init__(self, app: Application) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it by its headers, before any of its body was read."""
        is_request = scope["type"] == "http"
        if is_request and (refused := _by_length(scope.get("headers", ()), _most(scope["path"]))):
            await _refuse(send, *refused)
            return
        await self._app(scope, receive, send)


class OwnAnswers:
    """An ASGI layer right before flwr's handlers, where requests are parsed and their senders known."""

    def __init__(self, app: Application) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse what a site announces."""
        request = scope["state"].get(_REQUEST) if scope["type"] == "http" and "state" in scope else None
        if isinstance(request, PushMessagesRequest) and (reason := why_no_answer(request)):
            await _refuse(send, _MALFORMED, reason)
            return
        await self._app(scope, receive, send)


def why_no_answer(request: PushMessagesRequest) -> str | None:
    """Why what a site announces is no answer of its own, or no frame; None if it is one."""
    if len(request.messages_list) != 1 or len(request.message_object_trees) != 1:
        return f"{len(request.messages_list)} messages with {len(request.message_object_trees)} trees; announce one with its own"
    said, tree = request.messages_list[0].metadata, request.message_object_trees[0]
    if said.src_node_id != request.node.node_id:
        return f"node {request.node.node_id} sends in the name of node {said.src_node_id}"
    if request.messages_list[0].content.ByteSize():
        return f"node {request.node.node_id} announces a message with its content; content comes in objects"
    if not said.reply_to_message_id:
        return f"node {request.node.node_id} sends a message that answers none"
    if said.message_id != tree.object_id:
        return "the tree of objects is another message's"
    return _why_no_frame(tree)


def _why_no_frame(tree: ObjectTree) -> str | None:
    """Why the tree is not that of a message with records, or with an error alone, as agents send it."""
    pieces = [piece for content in tree.children for piece in content.children]
    if len(tree.children) > 1 or any(piece.children for piece in pieces):
        return "the tree of objects is not that of a message whose content is records"
    if len(pieces) + 2 > MOST_OBJECTS:
        return f"a message in {len(pieces)} pieces; at most {MOST_OBJECTS - 2} are accepted"
    return None


def _most(path: str) -> int:
    """How many bytes the body of a request to `path` may have."""
    if not path.startswith(OF_SITES):
        return MOST_BODY
    return MOST_SITE_PIECE if path == _PIECES else MOST_SITE_BODY


def _by_length(headers: Iterable[tuple[bytes, bytes]], most: int) -> tuple[int, str] | None:
    """The status and the reason by which a request is refused whose body is too large."""
    told = [(name.lower(), value.strip()) for name, value in headers]
    if any(name == b"transfer-encoding" for name, _ in told):
        return _NO_LENGTH, "a body of no stated length; send it whole, with its Content-Length"
    for length in (value for name, value in told if name == b"content-length"):
        if not length.isdigit():
            return _MALFORMED, "a Content-Length that is no number"
        if len(length) > _LONGEST_NUMBER or int(length) > most:
            return _TOO_LARGE, f"a body of more than {most} bytes is not accepted here"
    return None


async def _refuse(send: Send, status: int, reason: str) -> None:
    """Answer as flwr does. The connection ends: what is left of a body is not waited for."""
    body = json.dumps({"detail": reason}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
