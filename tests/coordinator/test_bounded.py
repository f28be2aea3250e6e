"""What a SuperLink refuses before it is kept: bodies without bounds, messages in another's name, trees that are no frame's."""

from __future__ import annotations

import asyncio
import hashlib
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from flwr.common.constant import NOOP_ACCOUNT_NAME, NOOP_FLWR_AID, TIMESTAMP_HEADER
from flwr.proto.fleet_pb2 import PushMessagesRequest
from flwr.proto.message_pb2 import Message as MessageProto
from flwr.proto.message_pb2 import Metadata, ObjectTree, PushObjectRequest
from flwr.proto.node_pb2 import Node
from flwr.proto.recorddict_pb2 import RecordDict as RecordDictProto
from flwr.supercore.constant import FLEET_HTTP_PUBLIC_KEY_HEADER, FLEET_HTTP_SIGNATURE_HEADER
from flwr.supercore.date import now
from flwr.supercore.primitives.asymmetric import generate_key_pairs, public_key_to_bytes, sign_message
from flwr.superlink.main import create_app

from coordinator.flower.bounded import MOST_BODY, MOST_SITE_BODY, MOST_SITE_PIECE, Bounded, why_no_answer
from coordinator.flower.objects import TreeStore
from coordinator.flower.superlink_process import INERT_LAYERS, within_bounds
from coordinator.flower.traffic import Counted, Scope, Traffic, file_in
from protos.envelope import PIECE_BYTES, seal

PUSH = "/v1/fleet/push-messages"
PIECE = "/v1/fleet/push-object"


def name(what: object) -> str:
    return hashlib.sha256(str(what).encode()).hexdigest()


def tree(root: object, *children: ObjectTree) -> ObjectTree:
    return ObjectTree(object_id=name(root), children=children)


# Bodies.


def answered(path: str, *headers: tuple[bytes, bytes]) -> tuple[int, bool]:
    """The status, and whether anything was asked of the application."""
    asked = []
    statuses = []

    async def app(_scope: Scope, _receive, send) -> None:
        asked.append(True)
        await send({"type": "http.response.start", "status": 200})

    async def send(message: Scope) -> None:
        statuses.append(message.get("status"))

    asyncio.run(Bounded(app)({"type": "http", "path": path, "headers": headers}, None, send))
    return statuses[0], bool(asked)


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        (PUSH, [(b"content-length", b"%d" % MOST_SITE_BODY)], 200),
        (PUSH, [(b"content-length", b"%d" % (MOST_SITE_BODY + 1))], 413),
        (PIECE, [(b"content-length", b"%d" % MOST_SITE_PIECE)], 200),
        (PIECE, [(b"content-length", b"%d" % (MOST_SITE_PIECE + 1))], 413),
        (PUSH, [(b"content-length", b"1"), (b"Content-Length", b"99999999")], 413),
        (PUSH, [(b"content-length", b"9" * 5000)], 413),
        (PUSH, [(b"content-length", b"-1")], 400),
        (PUSH, [(b"transfer-encoding", b"chunked")], 411),
        (PUSH, [(b"content-length", b"1"), (b"transfer-encoding", b"chunked")], 411),
        (PUSH, [], 200),
        ("/v1/runtime/push-messages", [(b"content-length", b"%d" % MOST_BODY)], 200),
        ("/v1/runtime/push-messages", [(b"content-length", b"%d" % (MOST_BODY + 1))], 413),
        ("/v1/control/start-run", [(b"transfer-encoding", b"chunked")], 411),
    ],
)
def test_a_body_without_bounds_is_refused_by_its_headers(
    path: str, headers: list[tuple[bytes, bytes]], status: int
) -> None:
    assert answered(path, *headers) == (status, status == 200)


def test_what_is_no_request_passes() -> None:
    async def lifespan(scope: Scope, _receive, _send) -> None:
        scope["reached"] = True

    scope: Scope = {"type": "lifespan"}
    asyncio.run(Bounded(lifespan)(scope, None, None))
    assert scope["reached"]


def test_the_largest_piece_of_a_frame_fits_into_a_sites_request() -> None:
    sealed = seal(bytes(PIECE_BYTES + 1))
    content = max((record.deflate() for record in sealed.values()), key=len)
    request = PushObjectRequest(
        node=Node(node_id=2**63 - 1),
        run_id=2**64 - 1,
        session_id="0" * 36,
        object_id=name(0),
        object_content=content,
    )
    assert PIECE_BYTES < request.ByteSize() < MOST_SITE_PIECE


# What a site announces.


def announced(
    root: ObjectTree, *, source: int = 7, reply_to: str = "asked", named: str | None = None
) -> PushMessagesRequest:
    said = Metadata(
        src_node_id=source,
        reply_to_message_id=reply_to,
        message_id=named or root.object_id,
        message_type="train",
    )
    return PushMessagesRequest(
        node=Node(node_id=7),
        messages_list=[MessageProto(metadata=said, content=RecordDictProto())],
        message_object_trees=[root],
    )


def with_content() -> PushMessagesRequest:
    """What announces a message and has its content inside."""
    request = announced(tree("message"))
    request.messages_list[0].content.items.add(key="frame-00000")
    return request


FRAME = tree("message", tree("content", *(tree(number) for number in range(4))))


@pytest.mark.parametrize("root", [FRAME, tree("message"), tree("message", tree("content"))])
def test_a_frame_and_an_error_are_answers(root: ObjectTree) -> None:
    assert why_no_answer(announced(root)) is None


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (with_content(), "announces a message with its content"),
        (announced(FRAME, source=8), "node 7 sends in the name of node 8"),
        (announced(FRAME, source=1, reply_to=""), "in the name of node 1"),
        (announced(FRAME, reply_to=""), "sends a message that answers none"),
        (announced(FRAME, named=name("other")), "is another message's"),
        (announced(tree("message", tree("a"), tree("b"))), "not that of a message whose content is records"),
        (
            announced(tree("m", tree("c", tree("r", tree("s"))))),
            "not that of a message whose content is records",
        ),
        (announced(tree("m", tree("c", *(tree(n) for n in range(1023))))), "a message in 1023 pieces"),
        (PushMessagesRequest(node=Node(node_id=7)), "0 messages with 0 trees"),
        (
            PushMessagesRequest(
                node=Node(node_id=7),
                messages_list=announced(FRAME).messages_list,
                message_object_trees=[FRAME, FRAME],
            ),
            "1 messages with 2 trees",
        ),
    ],
)
def test_anything_else_is_refused_by_its_defect(request_: PushMessagesRequest, words: str) -> None:
    assert words in str(why_no_answer(request_))


@pytest.fixture
def stock_app() -> Iterator[object]:
    app = create_app()
    app.user_middleware = [layer for layer in app.user_middleware if layer.cls not in INERT_LAYERS]
    return app


def pushed(app: object, request: PushMessagesRequest) -> httpx.Response:
    """The request, by a site that the SuperLink knows."""
    private, public = generate_key_pairs()
    key = public_key_to_bytes(public)
    state = app.state.linkstate_factory.state()
    node = state.create_node(NOOP_FLWR_AID, NOOP_ACCOUNT_NAME, key, 30.0)
    for said in request.messages_list:
        said.metadata.src_node_id = node if said.metadata.src_node_id == 7 else said.metadata.src_node_id
    request.node.node_id = node
    at = now().isoformat()
    headers = {
        "content-type": "application/protobuf",
        FLEET_HTTP_PUBLIC_KEY_HEADER: b64encode(key).decode(),
        TIMESTAMP_HEADER: at,
        FLEET_HTTP_SIGNATURE_HEADER: b64encode(sign_message(private, at.encode())).decode(),
    }

    async def post() -> httpx.Response:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://superlink") as client:
            return await client.post(PUSH, content=request.SerializeToString(), headers=headers)

    return asyncio.run(post())


def test_a_superlink_judges_what_a_member_announces_before_its_handlers_do(stock_app: object) -> None:
    app = within_bounds(stock_app)
    assert isinstance(app.state.linkstate_factory.state().object_store, TreeStore)
    refused = pushed(app, announced(FRAME, source=1, reply_to=""))
    assert refused.status_code == 400
    assert "in the name of node 1" in refused.json()["detail"]
    # The handler looks for the run, and finds none.
    assert pushed(app, announced(FRAME)).status_code == 500


def test_a_refused_body_is_counted(tmp_path: Path) -> None:
    file_in(tmp_path).parent.mkdir()
    counted = Counted(Bounded(None), file_in(tmp_path))  # type: ignore[arg-type]

    async def send(_message: Scope) -> None:
        """To nobody."""

    headers = [(b"content-length", b"99999999999")]
    asyncio.run(counted({"type": "http", "path": PUSH, "headers": headers}, None, send))
    assert (Traffic.read(tmp_path).requests, Traffic.read(tmp_path).refused) == (1, 1)
