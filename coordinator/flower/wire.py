"""What the prompt grid needs of a transport: who is there, push, pull, confirm.

`HttpWire` speaks to a SuperLink without flwr's waiting: no three seconds between pulls, no second of back-off for a late object.
`GridWire` uses nothing but flwr's public `Grid`, so that a run can go over any other one: memory, or Flower's simulation engine.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from flwr.app import Message
from flwr.proto.message_pb2 import ConfirmMessageReceivedRequest, ObjectTree, PullObjectRequest
from flwr.proto.node_pb2 import Node, NodeInfo
from flwr.proto.runtime_pb2 import GetNodesRequest, PullAppMessagesRequest
from flwr.serverapp import Grid
from flwr.supercore.inflatable.inflatable_object import iterate_object_tree
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from flwr.superlink.grid import HttpGrid
from google.protobuf.message import DecodeError

from coordinator.rounds.exchange import Unanswered
from strategies.errors import CovenantError

_NO_MESSAGE = (ValueError, TypeError, LookupError, AttributeError, RecursionError, DecodeError)
"""What flwr raises on objects that make no message."""
_OBJECT_POLL_S = 0.005
_OBJECT_PATIENCE_S = 0.1


class Wire(Protocol):
    """A transport of Flower messages in one Flower run. Nothing in it waits for long."""

    def nodes(self) -> Iterable[NodeInfo]:
        """The nodes that are online."""
        ...

    def push(self, messages: Sequence[Message]) -> Sequence[str | None]:
        """Send messages; an id for each one that was taken."""
        ...

    def pull(self, message_ids: Collection[str]) -> Iterator[tuple[str, Message | Unanswered]]:
        """What has come in full, after the id of the message that it answers; each reply is delivered once, and fetched when its turn comes."""
        ...

    def confirm(self) -> None:
        """Let the transport forget the replies that were pulled."""
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

    def pull(self, message_ids: Collection[str]) -> Iterator[tuple[str, Message | Unanswered]]:
        """See `Wire.pull`. A public Grid fetches all that has come at once."""
        for reply in self.grid.pull_messages(message_ids):
            yield reply.metadata.reply_to_message_id, reply

    def confirm(self) -> None:
        """See `Wire.confirm`: a public Grid confirms by itself."""


class _NeverArrivedError(CovenantError):
    """An object of a reply that the SuperLink does not know any more: its site ended in the middle of sending."""


@dataclass(frozen=True, slots=True)
class _Arriving:
    """A reply that was announced; its objects may come a little later."""

    tree: ObjectTree
    contents: dict[str, bytes] = field(default_factory=dict)


@dataclass
class HttpWire:
    """A wire over the HTTP Grid of a ServerApp, through its runtime client: flwr has no public way to any of this."""

    grid: HttpGrid
    monotonic: Callable[[], float]
    sleep: Callable[[float], None]
    _to_confirm: list[str] = field(default_factory=list)
    _arriving: dict[str, _Arriving] = field(default_factory=dict)

    def nodes(self) -> Iterable[NodeInfo]:
        """See `Wire.nodes`."""
        return self.grid._runtime_client.GetNodes(GetNodesRequest()).nodes  # noqa: SLF001

    def push(self, messages: Sequence[Message]) -> Sequence[str | None]:
        """See `Wire.push`."""
        # None, or no list at all: what flwr says of messages that it did not take.
        return list(self.grid.push_messages(messages)) or [None] * len(messages)

    def pull(self, message_ids: Collection[str]) -> Iterator[tuple[str, Message | Unanswered]]:
        """See `Wire.pull`. A reply whose objects are late is set aside, so that one site's slow line holds nobody up."""
        self._arriving = {asked: reply for asked, reply in self._arriving.items() if asked in message_ids}
        waiting = [asked for asked in message_ids if asked not in self._arriving]
        if waiting:
            client = self.grid._runtime_client  # noqa: SLF001
            answer = client.PullMessages(PullAppMessagesRequest(message_ids=waiting))
            for head, tree in zip(answer.messages_list, answer.message_object_trees, strict=True):
                self._to_confirm.append(head.metadata.message_id)
                self._arriving[head.metadata.reply_to_message_id] = _Arriving(tree)
        for asked in list(self._arriving):
            reply = self._complete(self._arriving[asked])
            if reply is not None:
                del self._arriving[asked]
                yield asked, reply

    def confirm(self) -> None:
        """See `Wire.confirm`."""
        client, run = self.grid._runtime_client, self.grid.run.run_id  # noqa: SLF001
        while self._to_confirm:
            client.ConfirmMessageReceived(
                ConfirmMessageReceivedRequest(
                    node=self.grid.node, run_id=run, message_object_id=self._to_confirm.pop()
                )
            )

    def _complete(self, reply: _Arriving) -> Message | Unanswered | None:
        """The reply once all its objects have come, None before; waits a moment, because most come within milliseconds."""
        patience = self.monotonic() + _OBJECT_PATIENCE_S
        try:
            for part in iterate_object_tree(reply.tree):
                if part.object_id not in reply.contents:
                    content = self._object(part, patience)
                    if content is None:
                        return None
                    reply.contents[part.object_id] = content
            message = inflate_object_from_contents(reply.tree.object_id, reply.contents)
        except _NeverArrivedError as error:
            return Unanswered(str(error))
        except _NO_MESSAGE as error:
            return Unanswered(f"sent what is no Flower message: {type(error).__name__}")
        return message if isinstance(message, Message) else Unanswered("sent what is no Flower message")

    def _object(self, part: ObjectTree, patience: float) -> bytes | None:
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
                raise _NeverArrivedError(f"ended while sending: object {part.object_id} never arrived")
            if self.monotonic() > patience:
                return None
            self.sleep(_OBJECT_POLL_S)
