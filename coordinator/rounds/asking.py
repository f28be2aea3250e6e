"""Asks sites for one exchange and judges what comes back, whatever it is that is asked."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

import structlog

from coordinator.rounds.exchange import Answered, Exchange, Outcome
from coordinator.rounds.progress import ANSWER, Progress
from coordinator.rounds.roster import Roster
from protos.codec_fields import CodecError
from protos.frames import MAX_REASON_CHARACTERS, REFUSAL, Body, Refusal, RefusalCode, Reply, Stage
from protos.secure_codec import decode_answer
from strategies.errors import CovenantError, Refused
from strategies.ids import Digest, SiteName
from strategies.pieces import Bytes
from strategies.secagg.identities import Verify

_log = structlog.get_logger(__name__)
_MOST_REASON: Final = 2 * MAX_REASON_CHARACTERS


class TooFewSurvivors(Refused):
    """Fewer sites answered than the plan's minimum."""


class NotYet(TooFewSurvivors):
    """Too few sites take part so far, and nothing was asked of them that is computed from rows."""


class StaysClosed(CovenantError):  # noqa: N818 (names what the sum does)
    """The survivors of an attempt are recorded, and too few of their shares came. Sites give them for no other attempt at this round."""


class SharesMissing(StaysClosed):
    """So, and some of `sites` may still give theirs: they were not heard of."""

    def __init__(self, reason: str, sites: Collection[SiteName]) -> None:
        super().__init__(reason)
        self.sites = frozenset(sites)


@dataclass(frozen=True, slots=True)
class Asked:
    """What each site is sent, and the digest that its reply must echo; asked for only after the frame was taken. `step` names what is asked."""

    frames: Mapping[SiteName, Bytes]
    echo: Callable[[SiteName], Digest]
    step: str = ANSWER


@dataclass(frozen=True, slots=True)
class Asking:
    """One run's exchanges. Sites that refuse the plan for good, in a reply that they have signed, are told to `roster`."""

    exchange: Exchange
    roster: Roster
    deadline_s: float
    verify: Verify
    judge: Callable[[SiteName, Digest, Refusal], bool]
    """Takes a refusal whose signature was checked; says whether it is for good."""
    ordered: Callable[[SiteName, bytes], None] = lambda _site, _order: None
    """Told of the order to halt that a site refuses with."""
    started: Callable[[SiteName, bytes], None] = lambda _site, _start: None
    """Told of a site that was started, and is to be vouched for before it takes part."""
    progress: Progress = field(default_factory=Progress)
    """Told of every exchange, for whoever looks at the run."""

    def ask(
        self, stage: Stage, number: int, asked: Asked, take: Callable[[SiteName, Body], None]
    ) -> dict[SiteName, str]:
        """Hand each answer that is valid and no refusal to `take` as it comes; why the other sites have said nothing of use."""
        missing: dict[SiteName, str] = {}
        frames = self.progress.asking(stage, number, asked.step, asked.frames)
        try:
            for site, outcome in self.exchange.ask(
                stage, frames, round_number=number, deadline_s=self.deadline_s
            ):
                body = self._judge(site, asked.echo, outcome)
                if isinstance(body, str):
                    missing[site] = _printable(body)
                else:
                    take(site, body)
                self.progress.heard(site, outcome, missing.get(site))
                del outcome, body  # as large as a model: gone before the next one comes
        finally:
            self.progress.done()
        return missing

    def _judge(self, site: SiteName, echo: Callable[[SiteName], Digest], outcome: Outcome) -> Body | str:
        """The body of a valid reply, or why there is none."""
        if not isinstance(outcome, Answered):
            return outcome.reason
        try:
            reply = decode_answer(outcome.frame)
        except CodecError as error:
            return f"sent {error}"
        return self._judge_reply(site, echo(site), reply)

    def _judge_reply(self, site: SiteName, echo: Digest, reply: Reply) -> Body | str:
        if reply.site != site:
            return f"answered in the name of {reply.site}"
        if reply.statement_digest != echo:
            return "answered another statement"
        if isinstance(reply.body, Refusal):
            message = reply.body.message(echo, site)
            if not self.verify(site, REFUSAL, message, reply.body.signature):
                return "sent a refusal that it has not signed"
            reason = f"refused ({reply.body.code.name.lower()}) {reply.body.reason}".strip()
            if reply.body.accused is not None:
                self.roster.accuse(reply.body.accused, by=site)
            if reply.body.code is RefusalCode.HALTED and reply.body.evidence:
                self.ordered(site, reply.body.evidence)
            if reply.body.code is RefusalCode.AWAY and reply.body.evidence:
                self.started(site, reply.body.evidence)
            if reply.body.code is RefusalCode.LATER:
                self.roster.ask_later(site)
            if self.judge(site, echo, reply.body):
                self.roster.refused[site] = _printable(reason)
            return reason
        return reply.body


def _printable(reason: str) -> str:
    """Why a site has said nothing of use, as it is recorded: a site words some of it, and databases take no text with zero bytes."""
    shown = "".join(each if each.isprintable() else " " for each in reason[:_MOST_REASON])
    return shown if len(reason) <= _MOST_REASON else f"{shown}..."


def note_missing(stage: Stage, number: int, missing: Mapping[SiteName, str]) -> None:
    """Tell the log which sites are missing from an exchange, and why."""
    if missing:
        _log.warning("sites missing", stage=stage.name, round=number, sites=dict(missing))
