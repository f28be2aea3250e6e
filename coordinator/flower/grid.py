"""Exchanges over Flower's Grid without its waiting: no three seconds between pulls, no second of back-off for a late object.

A message is claimed on its first pull and never delivered again, so an agent that restarts in mid-round would never see it. The
grid therefore asks again, under a new message id, whoever has come online since it was asked; sites answer a repeated request
with the same bytes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

from flwr.app import Message, MessageType
from flwr.proto.message_pb2 import ConfirmMessageReceivedRequest, ObjectTree, PullObjectRequest
from flwr.proto.node_pb2 import Node, NodeInfo
from flwr.proto.runtime_pb2 import GetNodesRequest, PullAppMessagesRequest
from flwr.supercore.inflatable.inflatable_object import iterate_object_tree
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from flwr.superlink.grid import HttpGrid
from google.protobuf.message import DecodeError

from coordinator.rounds.exchange import Answered, Outcome, Unanswered
from protos.codec import CodecError
from protos.envelope import seal, unseal
from protos.frames import Stage
from strategies.errors import CovenantError
from strategies.ids import SiteName

_POLL_S = 0.02
_LONGEST_POLL_S = 0.5
_LOOK_FOR_NODES_S = 2.0
_FRESH_S = 0.1
_OBJECT_POLL_S = 0.005
_OBJECT_PATIENCE_S = 0.1
_TTL_SPARE_S = 60.0
_MESSAGE_TYPES = {
    Stage.PREPARE: MessageType.QUERY,
    Stage.TRAIN: MessageType.TRAIN,
    Stage.EVALUATE: MessageType.EVALUATE,
}


class _NeverArrivedError(CovenantError):
    """An object of a reply that the SuperLink does not know any more: its site ended in the middle of sending."""


@dataclass(frozen=True, slots=True)
class _Arriving:
    """A reply that was announced; its objects may come a little later."""

    tree: ObjectTree
    contents: dict[str, bytes] = field(default_factory=dict)


@dataclass
class PromptGrid:
    """An `Exchange` over the Grid of a ServerApp. `node_keys` maps each site to its public node key (PEM)."""

    grid: HttpGrid
    node_keys: Mapping[SiteName, bytes]
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    _seen: dict[SiteName, NodeInfo] = field(default_factory=dict)
    _seen_at: float = -_LOOK_FOR_NODES_S
    _silent: dict[SiteName, float] = field(default_factory=dict)
    _to_confirm: list[str] = field(default_factory=list)
    _arriving: dict[str, _Arriving] = field(default_factory=dict)

    def online(self) -> Collection[SiteName]:
        """The member sites that the SuperLink has heard of lately, and not left a request unanswered since.

        A site that dies counts as online until its heartbeats are missed. One that let a deadline pass is therefore
        left out until the SuperLink hears of it again, so a dead site costs one deadline and a slow one a heartbeat.
        """
        return [s for s, node in self._nodes().items() if self._silent.get(s) != node.online_until]

    def ask(
        self, stage: Stage, frames: Mapping[SiteName, bytes], *, round_number: int, deadline_s: float
    ) -> Mapping[SiteName, Outcome]:
        """See `Exchange.ask`."""
        self._arriving.clear()
        asking = _Asking(self, stage, frames, round_number, self.monotonic() + deadline_s)
        outcomes = asking.until_done()
        self._silent |= {
            site: self._seen[site].online_until
            for site, outcome in outcomes.items()
            if isinstance(outcome, Unanswered) and site in self._seen
        }
        self.confirm()
        return outcomes

    def _nodes(self) -> dict[SiteName, NodeInfo]:
        """The member sites that are online, as seen at most `_FRESH_S` ago."""
        now = self.monotonic()
        if now - self._seen_at < _FRESH_S:
            return self._seen
        nodes = self.grid._runtime_client.GetNodes(GetNodesRequest()).nodes  # noqa: SLF001 (flwr has no public way)
        by_key = {bytes(node.public_key): node for node in nodes}
        self._seen = {site: by_key[key] for site, key in self.node_keys.items() if key in by_key}
        self._seen_at = now
        return self._seen

    def pull(self, message_ids: Iterable[str]) -> dict[str, Message | Unanswered]:
        """What has come in full for `message_ids`, each by the message that it answers.

        A reply whose objects are late is set aside, so that one site's slow line does not hold up the others.
        """
        waiting = [message_id for message_id in message_ids if message_id not in self._arriving]
        if waiting:
            client = self.grid._runtime_client  # noqa: SLF001 (flwr has no public way)
            answer = client.PullMessages(PullAppMessagesRequest(message_ids=waiting))
            for head, tree in zip(answer.messages_list, answer.message_object_trees, strict=True):
                self._to_confirm.append(head.metadata.message_id)
                self._arriving[head.metadata.reply_to_message_id] = _Arriving(tree)
        tried = {asked: self._complete(reply) for asked, reply in self._arriving.items()}
        came = {asked: reply for asked, reply in tried.items() if reply is not None}
        for asked in came:
            del self._arriving[asked]
        return came

    def confirm(self) -> None:
        """Let the SuperLink forget the replies that were pulled."""
        client, run = self.grid._runtime_client, self.grid.run.run_id  # noqa: SLF001 (flwr has no public way)
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
        except (ValueError, TypeError, LookupError, DecodeError) as error:
            return Unanswered(f"sent what is no Flower message: {type(error).__name__}")
        return message if isinstance(message, Message) else Unanswered("sent what is no Flower message")

    def _object(self, part: ObjectTree, patience: float) -> bytes | None:
        client, run = self.grid._runtime_client, self.grid.run.run_id  # noqa: SLF001 (flwr has no public way)
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


@dataclass
class _Asking:
    """One exchange in flight."""

    grid: PromptGrid
    stage: Stage
    frames: Mapping[SiteName, bytes]
    round_number: int
    deadline: float
    outcomes: dict[SiteName, Outcome] = field(default_factory=dict)
    asked: dict[str, SiteName] = field(default_factory=dict)
    activations: dict[SiteName, str] = field(default_factory=dict)

    def until_done(self) -> Mapping[SiteName, Outcome]:
        """Ask, collect, ask again who came back, until all have answered or the deadline has passed."""
        self._ask_who_is_online()
        now = self.grid.monotonic()
        wait, look = _POLL_S, now + _LOOK_FOR_NODES_S
        while self._missing() and (now := self.grid.monotonic()) < self.deadline:
            if self.asked and self._collect():
                wait = _POLL_S
                continue
            if now >= look:
                self._ask_who_is_online()
                look = now + _LOOK_FOR_NODES_S
            self.grid.sleep(min(wait, max(0.0, self.deadline - now)))
            wait = min(wait * 1.05, _LONGEST_POLL_S)
        for site in self._missing():
            self.outcomes[site] = Unanswered(
                "did not answer before the deadline" if site in self.activations else "is not online"
            )
        return self.outcomes

    def _missing(self) -> list[SiteName]:
        return [site for site in self.frames if site not in self.outcomes]

    def _ask_who_is_online(self) -> None:
        """Ask every missing site that is online and has not been asked since it came online."""
        nodes = self.grid._nodes()  # noqa: SLF001 (the other half of this class)
        sites = [
            s for s in self._missing() if s in nodes and self.activations.get(s) != nodes[s].last_activated_at
        ]
        if not sites:
            return
        ttl = max(1.0, self.deadline - self.grid.monotonic()) + _TTL_SPARE_S
        sealed = {frame: seal(frame) for frame in {self.frames[site] for site in sites}}
        messages = [
            Message(
                sealed[self.frames[site]],
                nodes[site].node_id,
                _MESSAGE_TYPES[self.stage],
                ttl=ttl,
                group_id=str(self.round_number),
            )
            for site in sites
        ]
        pushed: list[str | None] = list(self.grid.grid.push_messages(messages))
        for site, message_id in zip(sites, pushed, strict=bool(pushed)):
            # None, or no list at all: what flwr says of messages that it did not take.
            if message_id is not None:
                self.asked[message_id] = site
                self.activations[site] = nodes[site].last_activated_at

    def _collect(self) -> bool:
        """Take in what has come; says whether anything has."""
        pending = [message_id for message_id, site in self.asked.items() if site not in self.outcomes]
        replies = self.grid.pull(pending)
        for message_id, reply in replies.items():
            site = self.asked.pop(message_id, None)
            if site is not None and site not in self.outcomes:
                self._judge(site, reply)
        return bool(replies)

    def _judge(self, site: SiteName, reply: Message | Unanswered) -> None:
        if isinstance(reply, Message) and reply.has_error():
            reply = Unanswered(reply.error.reason or f"error {reply.error.code}")
        if isinstance(reply, Unanswered):
            if site not in self.asked.values():
                self.outcomes[site] = reply
            return
        try:
            self.outcomes[site] = Answered(unseal(reply))
        except CodecError as error:
            self.outcomes[site] = Unanswered(str(error))
