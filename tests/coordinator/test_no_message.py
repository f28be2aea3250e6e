"""Objects that a SuperLink lets through and that make no Flower message are one site's fault, or one bad message, and end nothing."""

from __future__ import annotations

import pytest
from flwr.proto.message_pb2 import Message as MessageProto
from flwr.proto.message_pb2 import ObjectTree
from flwr.supercore.inflatable.inflatable_object import HEAD_BODY_DIVIDER, HEAD_VALUE_DIVIDER, get_object_id
from flwr.supercore.inflatable.inflatable_utils import validate_object_content

from client.fleet.connection import RunOverError, _inflate
from coordinator.flower.arriving import Arriving
from coordinator.flower.wire import HttpWire
from coordinator.rounds.exchange import Unanswered


def deflated(kind: str, children: list[str], body: bytes) -> tuple[str, bytes]:
    """An object as it travels; it passes what a SuperLink checks of objects."""
    head = HEAD_VALUE_DIVIDER.join([kind, ",".join(children), str(len(body))])
    content = head.encode() + HEAD_BODY_DIVIDER + body
    validate_object_content(content)
    return get_object_id(content), content


def message_of(body: bytes) -> tuple[ObjectTree, dict[str, bytes]]:
    """A message whose content is a RecordDict of these bytes."""
    content = deflated("RecordDict", [], body)
    message = deflated("Message", [content[0]], MessageProto().SerializeToString())
    tree = ObjectTree(object_id=message[0])
    tree.children.add(object_id=content[0])
    return tree, dict([content, message])


BODIES = pytest.mark.parametrize(
    "body", [b"[]", b"[" * 100_000, b"\xff"], ids=["a list", "nested", "no text"]
)


@BODIES
def test_the_coordinator_takes_it_for_no_answer(body: bytes) -> None:
    tree, contents = message_of(body)
    wire = HttpWire(grid=None, monotonic=lambda: 0.0, sleep=lambda _: None)  # type: ignore[arg-type]
    found = wire._complete(Arriving(tree, 1 << 20, contents), lambda: True)
    assert isinstance(found, Unanswered)
    assert "sent no Flower message" in found.reason


@BODIES
def test_an_agent_drops_it(body: bytes) -> None:
    tree, contents = message_of(body)
    with pytest.raises(RunOverError, match="delivered no Flower message"):
        _inflate(tree.object_id, contents)
