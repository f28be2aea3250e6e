"""Exchanges that answer promptly and survive what happens to messages and to sites.

A message is claimed on its first pull and never delivered again: an agent that restarts in mid-round would never see it, and one
whose reply was lost would never be asked for it. The grid therefore asks again, under a new message id, whoever has come online
since it was asked, and whoever has been silent for a while; a site answers a repeated request with the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field

from flwr.app import Message, MessageType, RecordDict
from flwr.proto.node_pb2 import NodeInfo

from coordinator.flower.wire import Wire
from coordinator.rounds.exchange import Answered, Outcome, Unanswered
from protos.codec_fields import CodecError
from protos.envelope import seal, unseal
from protos.frame_size import MAX_FRAME_BYTES
from protos.frames import Stage
from strategies.ids import SiteName
from strategies.pieces import Bytes

_POLL_S = 0.02
_LONGEST_POLL_S = 0.5
_LOOK_FOR_NODES_S = 2.0
_FRESH_S = 0.1
_TTL_SPARE_S = 60.0
_ASKINGS = 5
"""How often a site that stays silent is asked within one deadline."""
_ASK_AGAIN_S = 10.0
"""But not sooner than this: a site that is computing answers late, and is not helped by the question."""
_FETCH_S = 5.0
"""What came before a deadline may still be fetched for so long after it, and for what the largest replies take at `_FETCH_BYTES_A_S`."""
_FETCH_BYTES_A_S = 16 << 20
_BATCH_BYTES = 16 << 20
"""Requests that are sent together; more of them would be in memory at once."""
_MESSAGE_TYPES = {
    Stage.PREPARE: MessageType.QUERY,
    Stage.TRAIN: MessageType.TRAIN,
    Stage.EVALUATE: MessageType.EVALUATE,
}


@dataclass
class PromptGrid:
    """An `Exchange` over a wire. `node_keys` maps each site to its public node key (PEM)."""

    wire: Wire
    node_keys: Mapping[SiteName, Bytes]
    monotonic: Callable[[], float]
    sleep: Callable[[float], None]
    halted: Callable[[], Collection[SiteName]] = frozenset
    """The sites that nobody may ask; raises what ends the run. Called before anybody is asked, and at each look while waiting, and while a reply is fetched."""
    most_reply_bytes: int = MAX_FRAME_BYTES
    """The largest frame that a site has a reason to answer with; what is larger is no answer."""
    _seen: dict[SiteName, NodeInfo] = field(default_factory=dict)
    _seen_at: float = -_LOOK_FOR_NODES_S
    _silent: dict[SiteName, float] = field(default_factory=dict)

    def online(self) -> Collection[SiteName]:
        """The member sites that the SuperLink has heard of lately, and not left a request unanswered since.

        A site that dies counts as online until its heartbeats are missed. One that let a deadline pass is therefore
        left out until the SuperLink hears of it again, so a dead site costs one deadline and a slow one a heartbeat.
        """
        halted = self.halted()
        nodes = {site: node for site, node in self.nodes().items() if site not in halted}
        return [s for s, node in nodes.items() if self._silent.get(s) != node.online_until]

    def ask(
        self, stage: Stage, frames: Mapping[SiteName, Bytes], *, round_number: int, deadline_s: float
    ) -> Iterator[tuple[SiteName, Outcome]]:
        """See `Exchange.ask`."""
        asking = _Asking(self, stage, frames, round_number, self.monotonic() + deadline_s, deadline_s)
        for site, outcome in asking.until_done():
            if isinstance(outcome, Unanswered) and site in self._seen:
                self._silent[site] = self._seen[site].online_until
            yield site, outcome
            del outcome  # before the next one comes
        self.wire.confirm()

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
    """One exchange in flight. `missing` are the sites without an outcome, in the order of `frames`."""

    grid: PromptGrid
    stage: Stage
    frames: Mapping[SiteName, Bytes]
    round_number: int
    deadline: float
    deadline_s: float
    missing: list[SiteName] = field(init=False)
    pending: dict[str, SiteName] = field(default_factory=dict)
    asked: dict[SiteName, _Asked] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.missing = list(self.frames)

    def until_done(self) -> Iterator[tuple[SiteName, Outcome]]:
        """Ask, collect, ask again who came back or stays silent, until all have answered or the deadline has passed."""
        yield from self._left_out()
        self._ask_who_should_be()
        now = self.grid.monotonic()
        wait, look = _POLL_S, now + _LOOK_FOR_NODES_S
        while self.missing and (now := self.grid.monotonic()) < self.deadline:
            before = len(self.pending)
            yield from self._left_out()
            yield from self._collected()
            if len(self.pending) < before:
                wait = _POLL_S
                continue
            if now >= look:
                self._ask_who_should_be()
                look = now + _LOOK_FOR_NODES_S
            self.grid.sleep(min(wait, max(0.0, self.deadline - now)))
            wait = min(wait * 1.05, _LONGEST_POLL_S)
        for site in self.missing:
            yield site, Unanswered(self._silence_of(site))

    def _silence_of(self, site: SiteName) -> str:
        """Why nothing came of a site until the deadline."""
        if site not in self.asked:
            return "is not online"
        arriving = (
            self.grid.wire.arriving(asked) for asked, asked_of in self.pending.items() if asked_of == site
        )
        return next(filter(None, arriving), "did not answer before the deadline")

    def _left_out(self) -> Iterator[tuple[SiteName, Outcome]]:
        """The missing sites that were halted meanwhile: what they may have sent is not looked at."""
        halted = self.grid.halted()
        for site in [each for each in self.missing if each in halted]:
            self.missing.remove(site)
            yield site, Unanswered("is halted")

    def _ask_who_should_be(self) -> None:
        """Ask every missing site that is online, unless it was asked a short while ago in this session of its."""
        nodes, now = self.grid.nodes(), self.grid.monotonic()
        due = [site for site in self.missing if site in nodes and self._is_due(site, nodes[site], now)]
        for batch in self._batches(due):
            ttl = max(1.0, self.deadline - now) + _TTL_SPARE_S
            messages = [
                Message(
                    content,
                    nodes[site].node_id,
                    _MESSAGE_TYPES[self.stage],
                    ttl=ttl,
                    group_id=str(self.round_number),
                )
                for site, content in batch.items()
            ]
            for site, message_id in zip(batch, self.grid.wire.push(messages), strict=True):
                if message_id is not None:
                    self.pending[message_id] = site
                    self.asked[site] = _Asked(now, nodes[site].last_activated_at)

    def _batches(self, sites: Collection[SiteName]) -> Iterator[dict[SiteName, RecordDict]]:
        """What `sites` are sent, in batches of about `_BATCH_BYTES`; equal frames are one content."""
        batch: dict[SiteName, RecordDict] = {}
        sealed: dict[Bytes, RecordDict] = {}
        size = 0
        for site in sites:
            frame = self.frames[site]
            if frame not in sealed:
                sealed[frame] = seal(frame)
                size += len(frame)
            batch[site] = sealed[frame]
            if size >= _BATCH_BYTES:
                yield batch
                batch, sealed, size = {}, {}, 0
        if batch:
            yield batch

    def _is_due(self, site: SiteName, node: NodeInfo, now: float) -> bool:
        last = self.asked.get(site)
        patience = max(_ASK_AGAIN_S, self.deadline_s / _ASKINGS)
        return last is None or last.session != node.last_activated_at or now - last.at >= patience

    def _collected(self) -> Iterator[tuple[SiteName, Outcome]]:
        """What has come of the sites that are missing."""
        waiting = [message_id for message_id, site in self.pending.items() if site in self.missing]
        if not waiting:
            return
        for message_id, reply in self.grid.wire.pull(waiting, self._is_wanted, self.grid.most_reply_bytes):
            site = self.pending.pop(message_id, None)
            if site is None or site not in self.missing:
                continue
            outcome = self._judged(reply)
            del reply  # which is as large as a model, and would stay until the next one has come
            # A site that was asked again may still answer.
            if isinstance(outcome, Answered) or site not in self.pending.values():
                self.missing.remove(site)
                yield site, outcome
            del outcome

    def _is_wanted(self, message_id: str) -> bool:
        """Whether somebody waits for the reply to a message: not once its site is halted, or long after the deadline. Raises what ends the run."""
        site = self.pending.get(message_id)
        return (
            site in self.missing
            and site not in self.grid.halted()
            and self.grid.monotonic() < self.deadline + self._fetch_s
        )

    @property
    def _fetch_s(self) -> float:
        """Seconds after the deadline in which what had come by then can be fetched: large replies of honest sites are not lost to a slow line."""
        return _FETCH_S + len(self.frames) * self.grid.most_reply_bytes / _FETCH_BYTES_A_S

    def _judged(self, reply: Message | Unanswered) -> Outcome:
        if isinstance(reply, Unanswered):
            return reply
        if reply.has_error():
            return Unanswered(reply.error.reason or f"error {reply.error.code}")
        try:
            return Answered(unseal(reply, self.grid.most_reply_bytes))
        except CodecError as error:
            return Unanswered(str(error))
        except (ValueError, TypeError, LookupError) as error:  # flwr's records are what a site made of them
            return Unanswered(f"sent what is no frame: {type(error).__name__}")
