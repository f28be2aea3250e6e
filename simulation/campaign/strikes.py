"""Lets the misfortunes of a schedule strike a world.

Each misfortune has its own source of chance, made of the seed and its place in the schedule, so that the others strike alike when
it is taken away. After `HEALED_AFTER_S` the network is well again: what must end in spite of everything then has no excuse.
"""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from random import Random
from typing import TypeVar

import numpy as np

from protos.codec import encode_reply, encode_request
from protos.codec_fields import CodecError
from protos.frames import Reply, SecureAnswer, SecureRequest, Update, WitnessRequest
from protos.secure_codec import (
    decode_answer,
    decode_asked,
    encode_secure_reply,
    encode_secure_request,
    encode_witness_request,
)
from simulation.campaign.schedule import (
    Death,
    Delay,
    DiskFull,
    Duplication,
    FlushFails,
    Garbling,
    Loss,
    LyingCoordinator,
    LyingSite,
    Misfortune,
    Replay,
    Rot,
    Skew,
    Snapshot,
    TornWrite,
    Twin,
)
from simulation.campaign.stage import SITES
from simulation.world.storage import FAILED_FLUSH, disk_error
from simulation.world.world import LATENCY_S, Crash, Faults, World
from strategies.encoding import vector_digest
from strategies.ids import Digest, SiteName
from strategies.pieces import joined
from strategies.secagg.messages import (
    AdvertiseRequest,
    Body,
    ConfirmRequest,
    Frame,
    MaskedInput,
    MaskRequest,
    Shares,
    UnmaskRequest,
)

HEALED_AFTER_S = 600.0
_HIDING = 0.3
_NEVER = 1_000_000
Copies = list[tuple[float, bytes]]
M = TypeVar("M")


@dataclass
class Strikes(Faults):
    """The misfortunes of one seed; `only` keeps those at some places of the schedule and drops the rest."""

    seed: int
    misfortunes: Sequence[Misfortune]
    only: Collection[int] | None = None
    world: World = field(init=False)
    set_back: Callable[[SiteName, bool], None] = field(init=False)
    """Takes a snapshot of a site's machine (False) or sets it back to that (True)."""
    start_twin: Callable[[SiteName], None] = field(init=False)
    let_rot: Callable[[SiteName, float], None] = field(init=False)
    """Kills a site's process and changes one byte of its journal."""
    _steps: Counter[str] = field(default_factory=Counter)
    _commits: Counter[str] = field(default_factory=Counter)
    _all_steps: int = 0
    _seen: dict[tuple[SiteName, str], list[bytes]] = field(default_factory=dict)
    _chances: dict[int, Random] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._active = [
            (place, each)
            for place, each in enumerate(self.misfortunes)
            if self.only is None or place in self.only
        ]

    def at_step(self, party: str, what: str) -> None:
        """See `Faults.at_step`."""
        del what
        self._steps[party] += 1
        self._all_steps += 1
        for each in self._of(Snapshot):
            if self._all_steps in {each.taken, each.back}:
                later = self._all_steps == each.back
                self.world.clock.after(0.0, partial(self.set_back, each.site, later))
        for rot in self._of(Rot):
            if self._all_steps == rot.at:
                self.world.clock.after(0.0, partial(self.let_rot, rot.site, rot.place))
        for twin in self._of(Twin):
            if self._all_steps == twin.at:
                self.world.clock.after(0.0, partial(self.start_twin, twin.site))
        for death in self._of(Death):
            if (death.party, death.step) == (party, self._steps[party]):
                raise Crash(party, down_s=death.down_s, whole=death.whole)

    def at_commit(self, party: str) -> None:
        """See `Faults.at_commit`."""
        self._commits[party] += 1
        count = self._commits[party]
        if any((f.party, f.commit, f.written) == (party, count, False) for f in self._of(FlushFails)):
            raise disk_error(FAILED_FLUSH)
        if any(f.party == party and f.commit <= count < f.commit + f.times for f in self._of(DiskFull)):
            raise disk_error("SQLITE_FULL")

    def after_commit(self, party: str) -> None:
        """See `Faults.after_commit`."""
        count = self._commits[party]
        if any((f.party, f.commit, f.written) == (party, count, True) for f in self._of(FlushFails)):
            raise disk_error(FAILED_FLUSH)
        for torn in self._of(TornWrite):
            if (torn.site, torn.commit) == (party, count):
                raise Crash(party, down_s=torn.down_s, torn=torn.share)

    def at_write(self, party: str) -> None:
        """See `Faults.at_write`: the write after a commit that found the disk full finds it full too."""
        count = self._commits[party] + 1
        if any(f.party == party and f.commit <= count < f.commit + f.times for f in self._of(DiskFull)):
            raise OSError(errno.ENOSPC, "No space left on device")

    def skew_s(self, party: str) -> float:
        """See `Faults.skew_s`."""
        del party
        return sum(each.seconds for each in self._of(Skew) if self._all_steps >= each.since)

    def request(self, site: SiteName, frame: bytes) -> Copies:
        """See `Faults.request`."""
        copies: Copies = [(LATENCY_S, frame)]
        for place, each in self._active:
            if isinstance(each, LyingCoordinator) and each.site == site and self._strikes(place, each.rate):
                hides = self._chance(place).random() < _HIDING
                lie = _hidden_question(frame) if hides else _another_question(frame)
                copies = [*copies, (0.0 if each.first else 2 * LATENCY_S, lie)]
        return self._network(site, "request", copies)

    def reply(self, site: SiteName, frame: bytes) -> Copies:
        """See `Faults.reply`."""
        before = self._seen.get((site, "said"), [])
        self._seen[site, "said"] = [*before[-3:], frame]
        for place, each in self._active:
            if isinstance(each, LyingSite) and each.site == site and self._strikes(place, each.rate):
                frame = _lie(each.kind, site, frame, before)
        return self._network(site, "reply", [(LATENCY_S, frame)])

    def _network(self, site: SiteName, direction: str, copies: Copies) -> Copies:
        """What the network makes of some copies of a message."""
        if self.world.clock.now > HEALED_AFTER_S:
            return copies
        older = self._seen.setdefault((site, direction), [])
        older += [frame for _, frame in copies]
        del older[:-8]
        for place, each in self._active:
            source = self._chance(place)
            match each:
                case Loss(rate=rate):
                    copies = [copy for copy in copies if source.random() >= rate]
                case Duplication(rate=rate):
                    copies = [twice for copy in copies for twice in [copy] * (1 + (source.random() < rate))]
                case Delay(most_s=most_s):
                    copies = [(delay + source.uniform(0, most_s), frame) for delay, frame in copies]
                case Replay(rate=rate):
                    copies = [(d, source.choice(older) if source.random() < rate else f) for d, f in copies]
                case Garbling(rate=rate) if direction == "request":
                    copies = [(d, _garbled(f, source) if source.random() < rate else f) for d, f in copies]
                case _:
                    pass
        return copies

    def _of(self, kind: type[M]) -> list[M]:
        return [each for _, each in self._active if isinstance(each, kind)]

    def _strikes(self, place: int, rate: float) -> bool:
        return self._chance(place).random() < rate and self.world.clock.now <= HEALED_AFTER_S

    def _chance(self, place: int) -> Random:
        if place not in self._chances:
            self._chances[place] = Random(f"misfortune {self.seed} {place}")  # noqa: S311 (chance, not secrecy)
        return self._chances[place]


def _garbled(frame: bytes, source: Random) -> bytes:
    place = source.randrange(len(frame))
    return frame[:place] + bytes([frame[place] ^ (1 + source.randrange(255))]) + frame[place + 1 :]


def _another_question(frame: bytes) -> bytes:
    """The same attempt at the same round, about another model."""
    request = decode_asked(frame)
    if isinstance(request, SecureRequest):
        return _another_secure_question(request)
    if isinstance(request, WitnessRequest):
        return encode_witness_request(replace(request, launch=request.plan))
    if request.model is None:
        return frame
    model = request.model + 1.0
    statement = replace(request.statement, model_digest=vector_digest(model))
    return joined(encode_request(replace(request, statement=statement, model=model)))


def _hidden_question(frame: bytes) -> bytes:
    """The same steps, behind one that a site would not look at twice: keys for an attempt that will never be."""
    request = decode_asked(frame)
    if not isinstance(request, SecureRequest):
        return frame
    decoy = Frame(replace(request.frames[0].attempt, attempt=_NEVER), AdvertiseRequest())
    return joined(encode_secure_request(replace(request, frames=(decoy, *request.frames))))


def _another_secure_question(request: SecureRequest) -> bytes:
    """The same step of the same attempt, with other survivors or under another statement."""
    first, *others = request.frames
    match first.body:
        case MaskRequest() as asked if request.statement is not None:
            lied = replace(request.statement, members_digest=Digest("0" * 64))
            body: Body = replace(asked, statement=lied.digest)
            request = replace(request, statement=lied)
        case ConfirmRequest(survivors=survivors):
            body = ConfirmRequest(survivors[:-1])
        case UnmaskRequest() as asked:
            last = asked.survivors[-1:]
            body = replace(
                asked, survivors=asked.survivors[:-1], dropped=tuple(sorted((*asked.dropped, *last)))
            )
        case _:
            body = first.body
    return joined(encode_secure_request(replace(request, frames=(replace(first, body=body), *others))))


def _lie(kind: str, site: SiteName, frame: bytes, before: Sequence[bytes]) -> bytes:
    if kind == "garbage":
        return b"\xff" * 40
    if kind == "stale":
        return before[0] if before else frame
    try:
        reply = _untrue(kind, site, decode_answer(frame))
    except CodecError:
        return frame
    if isinstance(reply.body, SecureAnswer):
        return joined(encode_secure_reply(reply.statement_digest, reply.site, reply.body))
    return joined(encode_reply(reply))


def _untrue(kind: str, site: SiteName, reply: Reply) -> Reply:
    match kind, reply.body:
        case "another-name", _:
            return replace(reply, site=next(each for each in SITES if each != site))
        case "another-statement", _:
            return replace(reply, statement_digest=Digest("0" * 64))
        case "short", Update(vector=vector):
            return replace(reply, body=Update(vector[:-1]))
        case "not-a-number", Update(vector=vector):
            return replace(reply, body=Update(np.full_like(vector, np.nan)))
        case "short" | "not-a-number", SecureAnswer() as answer:
            return replace(
                reply, body=replace(answer, frames=tuple(_spoilt(kind, each) for each in answer.frames))
            )
        case _:
            return reply


def _spoilt(kind: str, frame: Frame) -> Frame:
    """A masked input that is cut short or is not what its site signed; shares that are off by one bit."""
    match frame.body:
        case MaskedInput() as sent:
            packed = joined(sent.packed)[:-1] or b"\0" if kind == "short" else bytes(len(sent.packed))
            return replace(frame, body=replace(sent, packed=packed))
        case Shares() as shares:
            wrong = {site: bytes([*share[:-1], share[-1] ^ 1]) for site, share in shares.own_seeds.items()}
            return replace(frame, body=replace(shares, own_seeds=wrong))
        case _:
            return frame
