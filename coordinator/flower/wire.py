"""What the prompt grid needs of a transport: who is there, push, pull, confirm.

`HttpWire` speaks to a SuperLink without flwr's waiting: no three seconds between pulls, no second of back-off for a late object. What is large goes
object by object, so that a message and all that it is made of are never in memory together.
`GridWire` uses nothing but flwr's public `Grid`, so that a run can go over any other one: memory, or Flower's simulation engine.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from flwr.app import Message
from flwr.app.message import remove_content_from_message
from flwr.common.serde import message_to_proto
from flwr.proto.message_pb2 import ConfirmMessageReceivedRequest, ObjectTree, PullObjectRequest
from flwr.proto.node_pb2 import Node, NodeInfo
from flwr.proto.runtime_pb2 import GetNodesRequest, PullAppMessagesRequest, PushAppMessagesRequest
from flwr.serverapp import Grid
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    no_object_id_recompute,
)
from flwr.supercore.inflatable.inflatable_protobuf_utils import make_push_object_fn_protobuf
from flwr.superlink.grid import HttpGrid

from coordinator.flower.arriving import Arriving, NeverArrivedError
from coordinator.rounds.exchange import Unanswered
from protos.codec_fields import CodecError
from protos.frame_objects import message_of

_OBJECT_POLL_S = 0.005
_OBJECT_PATIENCE_S = 0.1
_LARGE_BYTES = 1 << 20
_MOST_SET_ASIDE = 256 << 20
"""Bytes of replies that are half there: beyond them all but one are given up, and fetched again when their turn comes."""


class Wire(Protocol):
    """A transport of Flower messages in one Flower run. Nothing in it waits for long."""

    def nodes(self) -> Iterable[NodeInfo]:
        """The nodes that are online."""
        ...

    def push(self, messages: Sequence[Message]) -> Sequence[str | None]:
        """Send messages; an id for each one that was taken."""
        ...

    def pull(
        self, message_ids: Collection[str], wanted: Callable[[str], bool], most_bytes: int
    ) -> Iterator[tuple[str, Message | Unanswered]]:
        """What has come in full, after the id of the message that it answers; each reply is delivered once, and fetched when its turn comes.

        Before each object `wanted` says of that id whether it is still waited for, or raises what ends the waiting. A reply whose frame is
        larger than `most_bytes` is no reply, and not fetched to its end.
        """
        ...

    def arriving(self, message_id: str) -> str | None:
        """What is missing of a reply that has begun to come; None where nothing is known of one."""
        ...

    def confirm(self) -> None:
        """Let the transport forget the replies that were pulled, and what had come of others."""
        ...


def wire_over(grid: Grid, monotonic: Callable[[], float], sleep: Callable[[float], None]) -> Wire:
    """The fastest wire that `grid` allows."""
    return HttpWire(grid, monotonic, sleep) if isinstance(grid, HttpGrid) else GridWire(grid)


@dataclass(frozen=True, slots=True)
class GridWire:
    """A wire over the public interface of any `Grid`."""

    grid: Grid

    def nodes(self) -> Iterable[NodeInfo]:
        """See `Wire.nodes`."""
        return self.grid.get_nodes()

    def push(self, messages: Sequence[Message]) -> Sequence[str | None]:
        """See `Wire.push`."""
        return list(self.grid.push_messages(messages))

    def pull(
        self,
        message_ids: Collection[str],
        wanted: Callable[[str], bool],  # noqa: ARG002 (the protocol's signature)
        most_bytes: int,  # noqa: ARG002
    ) -> Iterator[tuple[str, Message | Unanswered]]:
        """See `Wire.pull`. A public Grid fetches all that has come at once, whatever its size."""
        for reply in self.grid.pull_messages(message_ids):
            yield reply.metadata.reply_to_message_id, reply

    def arriving(self, message_id: str) -> str | None:  # noqa: ARG002 (the protocol's signature)
        """See `Wire.arriving`: a public Grid tells of replies that are whole."""
        return None

    def confirm(self) -> None:
        """See `Wire.confirm`: a public Grid confirms by itself."""


@dataclass
class HttpWire:
    """A wire over the HTTP Grid of a ServerApp, through its runtime client: flwr has no public way to any of this."""

    grid: HttpGrid
    monotonic: Callable[[], float]
    sleep: Callable[[float], None]
    _to_confirm: list[str] = field(default_factory=list)
    _arriving: dict[str, Arriving] = field(default_factory=dict)

    def nodes(self) -> Iterable[NodeInfo]:
        """See `Wire.nodes`."""
        return self.grid._runtime_client.GetNodes(GetNodesRequest()).nodes  # noqa: SLF001

    def push(self, messages: Sequence[Message]) -> Sequence[str | None]:
        """See `Wire.push`."""
        if any(len(message.content) > 1 for message in messages):
            return self._pushed_piece_by_piece(messages)
        # None, or no list at all: what flwr says of messages that it did not take.
        return list(self.grid.push_messages(messages)) or [None] * len(messages)

    def pull(
        self, message_ids: Collection[str], wanted: Callable[[str], bool], most_bytes: int
    ) -> Iterator[tuple[str, Message | Unanswered]]:
        """See `Wire.pull`. A reply whose objects are late is set aside, so that one site's slow line holds nobody up."""
        self._arriving = {asked: reply for asked, reply in self._arriving.items() if asked in message_ids}
        waiting = [asked for asked in message_ids if asked not in self._arriving]
        if waiting:
            client = self.grid._runtime_client  # noqa: SLF001
            answer = client.PullMessages(PullAppMessagesRequest(message_ids=waiting))
            for head, tree in zip(answer.messages_list, answer.message_object_trees, strict=True):
                self._to_confirm.append(head.metadata.message_id)
                # What else a SuperLink has for a run answers nothing, and is confirmed alone.
                if (asked := head.metadata.reply_to_message_id) in waiting:
                    self._arriving[asked] = Arriving(tree, most_bytes)
        for asked in list(self._arriving):
            reply = self._complete(self._arriving[asked], partial(wanted, asked))
            if reply is not None:
                del self._arriving[asked]
                yield asked, reply
                del reply  # before the next one comes
            elif sum(each.size for each in self._arriving.values()) > max(
                _MOST_SET_ASIDE, self._arriving[asked].size
            ):
                self._arriving[asked].give_up()

    def arriving(self, message_id: str) -> str | None:
        """See `Wire.arriving`."""
        reply = self._arriving.get(message_id)
        return None if reply is None else reply.missing

    def _pushed_piece_by_piece(self, messages: Sequence[Message]) -> Sequence[str | None]:
        """Send messages as flwr does, but each object when it is its turn: flwr makes all of them beforehand."""
        client, run = self.grid._runtime_client, self.grid.run.run_id  # noqa: SLF001
        with no_object_id_recompute():
            for message in messages:
                message.metadata.__dict__["_message_id"] = message.object_id
                self.grid._check_message(message)  # noqa: SLF001
            answer = client.PushMessages(
                PushAppMessagesRequest(
                    messages_list=[message_to_proto(remove_content_from_message(each)) for each in messages],
                    message_object_trees=[get_object_tree(each) for each in messages],
                )
            )
            push = make_push_object_fn_protobuf(
                push_object_protobuf=client.PushObject,
                node=self.grid.node,
                run_id=run,
                session_id=answer.session_id,
            )
            objects = {
                name: each for message in messages for name, each in get_all_nested_objects(message).items()
            }
            for name in answer.objects_to_push:
                content = objects[name].deflate()
                push(name, content)
                is_large = len(content) > _LARGE_BYTES
                del content
                if is_large:  # the client ties what it has sent into a cycle, where it would stay until the collector comes by
                    gc.collect(1)
        return list(answer.message_ids)

    def confirm(self) -> None:
        """See `Wire.confirm`."""
        self._arriving.clear()
        client, run = self.grid._runtime_client, self.grid.run.run_id  # noqa: SLF001
        while self._to_confirm:
            client.ConfirmMessageReceived(
                ConfirmMessageReceivedRequest(
                    node=self.grid.node, run_id=run, message_object_id=self._to_confirm.pop()
                )
            )

    def _complete(self, reply: Arriving, wanted: Callable[[], bool]) -> Message | Unanswered | None:
        """The reply once all its objects have come, None before."""
        try:
            if not self._fetched(reply, wanted):
                return None
        except NeverArrivedError as error:
            return Unanswered(str(error))
        try:
            return message_of(reply.tree.object_id, reply.contents)
        except CodecError as error:
            return Unanswered(f"sent {error}")

    def _fetched(self, reply: Arriving, wanted: Callable[[], bool]) -> bool:
        """Fetch what is missing of a reply as long as it is wanted; waits a moment, because most objects come within milliseconds."""
        patience = self.monotonic() + _OBJECT_PATIENCE_S
        for part in reply.parts():
            if part.object_id in reply.contents:
                continue
            content = self._object(reply, part, patience) if wanted() else None
            if content is None:
                reply.late = part
                return False
            reply.take(part.object_id, content)
            del content
        return True

    def _object(self, reply: Arriving, part: ObjectTree, patience: float) -> bytes | None:
        client, run = self.grid._runtime_client, self.grid.run.run_id  # noqa: SLF001
        while True:
            answer = client.PullObject(
                PullObjectRequest(
                    node=Node(node_id=self.grid.node.node_id), run_id=run, object_id=part.object_id
                )
            )
            if answer.object_available:
                return answer.object_content
            if not answer.object_found:
                raise NeverArrivedError(
                    f"ended while sending: {reply.place_of(part.object_id)} of its answer never arrived"
                )
            if self.monotonic() > patience:
                return None
            self.sleep(_OBJECT_POLL_S)
