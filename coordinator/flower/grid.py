"""Exchanges that answer promptly and survive what happens to messages and to sites.

A message is claimed on its first pull and never delivered again: an agent that restarts in mid-round would never see it, and one
whose reply was lost would never be asked for it. The grid therefore asks again, under a new message id, whoever has come online
since it was asked, and whoever has been silent for a while; a site answers a repeated request with the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from flwr.app import Message, MessageType
from flwr.proto.node_pb2 import NodeInfo

from coordinator.flower.wire import Wire
from coordinator.rounds.exchange import Answered, Outcome, Unanswered
from protos.codec import CodecError
from protos.envelope import seal, unseal
from protos.frames import Stage
from strategies.ids import SiteName

_POLL_S = 0.02
_LONGEST_POLL_S = 0.5
_LOOK_FOR_NODES_S = 2.0
_FRESH_S = 0.1
_TTL_SPARE_S = 60.0
_ASKINGS = 5
"""How often a site that stays silent is asked within one deadline."""
_ASK_AGAIN_S = 10.0
"""But not sooner than this: a site that is computing answers late, and is not helped by the question."""
_MESSAGE_TYPES = {
    Stage.PREPARE: MessageType.QUERY,
    Stage.TRAIN: MessageType.TRAIN,
    Stage.EVALUATE: MessageType.EVALUATE,
}


@dataclass
class PromptGrid:
    """An `Exchange` over a wire. `node_keys` maps each site to its public node key (PEM)."""

    wire: Wire
    node_keys: Mapping[SiteName, bytes]
    monotonic: Callable[[], float]
    sleep: Callable[[float], None]
    _seen: dict[SiteName, NodeInfo] = field(default_factory=dict)
    _seen_at: float = -_LOOK_FOR_NODES_S
    _silent: dict[SiteName, float] = field(default_factory=dict)

    def online(self) -> Collection[SiteName]:
        """The member sites that the SuperLink has heard of lately, and not left a request unanswered since.

        A site that dies counts as online until its heartbeats are missed. One that let a deadline pass is therefore
        left out until the SuperLink hears of it again, so a dead site costs one deadline and a slow one a heartbeat.
        """
        return [s for s, node in self.nodes().items() if self._silent.get(s) != node.online_until]

    def ask(
        self, stage: Stage, frames: Mapping[SiteName, bytes], *, round_number: int, deadline_s: float
    ) -> Mapping[SiteName, Outcome]:
        """See `Exchange.ask`."""
        asking = _Asking(self, stage, frames, round_number, self.monotonic() + deadline_s, deadline_s)
        outcomes = asking.until_done()
        self._silent |= {
            site: self._seen[site].online_until
            for site, outcome in outcomes.items()
            if isinstance(outcome, Unanswered) and site in self._seen
        }
        self.wire.confirm()
        return outcomes

    def nodes(self) -> Mapping[SiteName, NodeInfo]:
        """The member sites that are online, as seen at most `_FRESH_S` ago."""
        now = self.monotonic()
        if now - self._seen_at >= _FRESH_S:
            by_key = {bytes(node.public_key): node for node in self.wire.nodes()}
            self._seen = {site: by_key[key] for site, key in self.node_keys.items() if key in by_key}
            self._seen_at = now
        return self._seen


@dataclass(frozen=True, slots=True)
class _Asked:
    """When a site was asked last, and in which of its sessions with the SuperLink."""

    at: float
    session: str


@dataclass
class _Asking:
    """One exchange in flight."""

    grid: PromptGrid
    stage: Stage
    frames: Mapping[SiteName, bytes]
    round_number: int
    deadline: float
    deadline_s: float
    outcomes: dict[SiteName, Outcome] = field(default_factory=dict)
    pending: dict[str, SiteName] = field(default_factory=dict)
    asked: dict[SiteName, _Asked] = field(default_factory=dict)

    def until_done(self) -> Mapping[SiteName, Outcome]:
        """Ask, collect, ask again who came back or stays silent, until all have answered or the deadline has passed."""
        self._ask_who_should_be()
        now = self.grid.monotonic()
        wait, look = _POLL_S, now + _LOOK_FOR_NODES_S
        while self._missing() and (now := self.grid.monotonic()) < self.deadline:
            if self.pending and self._collect():
                wait = _POLL_S
                continue
            if now >= look:
                self._ask_who_should_be()
                look = now + _LOOK_FOR_NODES_S
            self.grid.sleep(min(wait, max(0.0, self.deadline - now)))
            wait = min(wait * 1.05, _LONGEST_POLL_S)
        for site in self._missing():
            self.outcomes[site] = Unanswered(
                "did not answer before the deadline" if site in self.asked else "is not online"
            )
        return self.outcomes

    def _missing(self) -> list[SiteName]:
        return [site for site in self.frames if site not in self.outcomes]

    def _ask_who_should_be(self) -> None:
        """Ask every missing site that is online, unless it was asked a short while ago in this session of its."""
        nodes, now = self.grid.nodes(), self.grid.monotonic()
        sites = [site for site in self._missing() if site in nodes and self._is_due(site, nodes[site], now)]
        if not sites:
            return
        ttl = max(1.0, self.deadline - now) + _TTL_SPARE_S
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
        for site, message_id in zip(sites, self.grid.wire.push(messages), strict=True):
            if message_id is not None:
                self.pending[message_id] = site
                self.asked[site] = _Asked(now, nodes[site].last_activated_at)

    def _is_due(self, site: SiteName, node: NodeInfo, now: float) -> bool:
        last = self.asked.get(site)
        patience = max(_ASK_AGAIN_S, self.deadline_s / _ASKINGS)
        return last is None or last.session != node.last_activated_at or now - last.at >= patience

    def _collect(self) -> bool:
        """Take in what has come; says whether anything has."""
        waiting = [message_id for message_id, site in self.pending.items() if site not in self.outcomes]
        replies = self.grid.wire.pull(waiting)
        for message_id, reply in replies.items():
            site = self.pending.pop(message_id, None)
            if site is not None and site not in self.outcomes:
                self._judge(site, reply)
        return bool(replies)

    def _judge(self, site: SiteName, reply: Message | Unanswered) -> None:
        if isinstance(reply, Message) and reply.has_error():
            reply = Unanswered(reply.error.reason or f"error {reply.error.code}")
        if isinstance(reply, Unanswered):
            if site not in self.pending.values():
                self.outcomes[site] = reply
            return
        try:
            self.outcomes[site] = Answered(unseal(reply))
        except CodecError as error:
            self.outcomes[site] = Unanswered(str(error))
