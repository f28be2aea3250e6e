"""Sums of which the centre sees nothing but the opened whole: secure aggregation over Flower messages.

1. A steady-state attempt takes three exchanges: masked inputs, confirmations, shares; two in semi-honest mode, which confirms nothing.
   Keys and shares for the next attempt ride on them. Any void discards those; an attempt that is not the one they were made for, or
   whose sites are others, begins with two exchanges for fresh ones.
2. A site that the protocol refuses something of counts as dropped. Below the threshold the attempt is void, and has revealed nothing.
3. Nothing is asked that opens anything before `settle` has returned. From then on there is one request for shares, which is sent again as it
   is, also by a driver after a crash: sites give shares for one attempt at a round only.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TypeVar

import structlog

from coordinator.rounds.asking import Asking, SharesMissing, StaysClosed, TooFewSurvivors
from coordinator.rounds.exchanges import Exchanges, Expected, Requests, Said
from coordinator.rounds.opened import OpenedSums
from coordinator.rounds.question import Pooled, Question, Receipt, RunDocuments, Settle, Settled
from coordinator.rounds.roster import because
from coordinator.rounds.site_models import SiteModels
from protos.codec_fields import CodecError
from protos.frames import SecureRequest, Stage, Statement, Task, Testimony, Upload
from protos.payloads import Payload, payload_of
from protos.plan_aggregation import SecureAggregation
from protos.secagg_codec import decode_opening, encode_opening
from strategies.errors import CovenantError, Refused
from strategies.ids import SiteName
from strategies.pieces import Bytes, Pieces, pieces_of
from strategies.secagg import server as central
from strategies.secagg.identities import Verify
from strategies.secagg.labels import Attempt
from strategies.secagg.messages import (
    Advertisement,
    AdvertiseRequest,
    Confirmation,
    Envelopes,
    Frame,
    MaskedInput,
    Shares,
)
from strategies.secagg.parameters import Parameters
from strategies.secagg.secrets import SECRET_BYTES

S = TypeVar("S")
_ASKINGS = 3
"""How often survivors are asked for their shares: nothing else can be asked instead."""
_log = structlog.get_logger(__name__)


@dataclass
class SecureSums:
    """`Sums` by secure aggregation."""

    documents: RunDocuments
    secure: SecureAggregation
    asking: Asking
    verify: Verify
    models: SiteModels
    opened: OpenedSums
    task: Callable[[], Task]
    """The run's documents with the statements of its witnesses, as they are now."""
    _ahead: central.Ready | None = None

    def pool(self, question: Question, settle: Settle) -> Pooled:
        """See `Sums.pool`."""
        ready, self._ahead = self._ahead, None
        attempt = self._attempt(question.stage, question.number, question.attempt)
        try:
            if ready is None or ready.cohort.attempt != attempt or ready.sites != question.roster:
                ready = self._set_up(question, attempt)
            return self._aggregate(question, ready, settle)
        except central.TooFewSites as few:
            raise TooFewSurvivors(
                f"the {question.stage.name.lower()} stage of round {question.number}: {few}"
            ) from few
        finally:
            self.asking.roster.leave_out_accused(more_than=self.secure.colluding)

    def reopen(self, question: Question, opening: bytes, receipt: Receipt) -> Pooled:
        """See `Sums.reopen`."""
        dimension = self._payload(question, self.documents.plan.sites.invite).dimension
        seed, rest = _divided(opening)
        unmasking = decode_opening(rest, self._parameters, dimension, self.verify)
        roster = tuple(sorted((*unmasking.request.survivors, *unmasking.request.dropped)))
        opened = self._opened(self._exchanges(question), unmasking, None, receipt)
        del unmasking
        return self.opened.pooled(question, self._payload(question, roster), opened, seed)

    @property
    def _parameters(self) -> Parameters:
        return self.documents.plan.secure_parameters(self.secure)

    def _attempt(self, stage: Stage, number: int, attempt: int) -> Attempt:
        return Attempt(
            suite=self.secure.suite,
            plan=self.documents.plan.digest,
            run=self.documents.run,
            stage=stage.name,
            round=number,
            attempt=attempt,
        )

    def _server(self, attempt: Attempt) -> central.Server:
        return central.Server(attempt=attempt, parameters=self._parameters, verify=self.verify)

    def _exchanges(self, question: Question) -> Exchanges:
        return Exchanges(self.asking, question.stage, question.number, self.models.note)

    def _payload(self, question: Question, roster: Collection[SiteName]) -> Payload:
        return payload_of(self.documents.plan, self.documents.contract, question.stage, roster)

    def _set_up(self, question: Question, attempt: Attempt) -> central.Ready:
        """Steps 1 and 2: fresh keys and shares, in two exchanges."""
        exchange = self._exchanges(question)
        keys = central.Advertising(self._server(attempt))
        asked = SecureRequest(frames=(Frame(attempt, AdvertiseRequest()),), task=self.task())
        exchange.ask(dict.fromkeys(question.roster, asked), Expected(attempt, Advertisement, keys.receive))
        sharing = exchange.closed(keys.close)
        request = SecureRequest(frames=(Frame(attempt, sharing.request),))
        exchange.ask(
            dict.fromkeys(sharing.cohort.sites, request), Expected(attempt, Envelopes, sharing.receive)
        )
        return exchange.closed(sharing.close)

    def _aggregate(self, question: Question, ready: central.Ready, settle: Settle) -> Pooled:
        """Steps 3 to 6, with steps 1 and 2 of the attempt that follows if all goes well."""
        exchange = self._exchanges(question)
        statement = question.statement(self.documents, ready.sites, with_optimizer=True)
        payload = self._payload(question, ready.sites)
        collecting = ready.ask(statement.digest, payload.ring, payload.dimension)
        confirming, uploads, sharing = self._collected(exchange, question, statement, collecting)
        unmasking = self._confirmed(exchange, confirming, sharing)
        seed = self.opened.drawn(payload)
        receipt = settle(
            Settled(
                survivors=confirming.survivors,
                statement=statement.digest,
                testimony=Testimony(statement=statement, cohort=ready.cohort.digest, uploads=uploads),
                opening=_joined(seed, encode_opening(unmasking)),
            )
        )
        riding = None if self._parameters.is_active else sharing
        opened = self._opened(self._exchanges(question), unmasking, riding, receipt)
        self._ahead = _unless_too_few(sharing.close) if sharing is not None else None
        del collecting, confirming, unmasking  # the masked sum: half as large as the mean that is made now
        return self.opened.pooled(question, payload, opened, seed)

    def _collected(
        self, exchange: Exchanges, question: Question, statement: Statement, collecting: central.Collecting
    ) -> tuple[central.Confirming, dict[SiteName, Upload], central.Sharing | None]:
        """Step 3, and the cohort of the next attempt from the keys that ride on it; None if they make none."""
        attempt, following = collecting.bound.attempt, self._following(question)
        requests = self._mask_requests(question, statement, collecting, following)
        uploads: dict[SiteName, Upload] = {}

        def take(item: MaskedInput) -> None:
            collecting.receive(item)
            uploads[item.site] = Upload(item.digest, item.signature)

        step = Expected(attempt, MaskedInput, take)
        if following is None:
            exchange.ask(requests, step)
            return exchange.closed(collecting.close), uploads, None
        keys = central.Advertising(self._server(following))
        exchange.ask(requests, step, Expected(following, Advertisement, keys.receive))
        return exchange.closed(collecting.close), uploads, _unless_too_few(keys.close)

    def _mask_requests(
        self,
        question: Question,
        statement: Statement,
        collecting: central.Collecting,
        following: Attempt | None,
    ) -> Requests:
        riding = () if following is None else (Frame(following, AdvertiseRequest()),)
        attempt, sites = collecting.bound.attempt, collecting.ready.sites
        leads = self.models.leads(question, sites)

        def made(site: SiteName) -> SecureRequest:
            return SecureRequest(
                frames=(Frame(attempt, collecting.request_for(site)), *riding),
                statement=statement,
                scaling=question.scaling,
                aggregate=leads[site].aggregate,
                checkpoint=leads[site].checkpoint,
                champion=self.documents.champion_in(question.stage),
            )

        return Requests(sites, made)

    def _confirmed(
        self, exchange: Exchanges, confirming: central.Confirming, sharing: central.Sharing | None
    ) -> central.Unmasking:
        """Step 4, in active mode."""
        if self._parameters.is_active:
            step = Expected(confirming.bound.attempt, Confirmation, confirming.receive)
            asked = Frame(confirming.bound.attempt, confirming.request)
            self._ask_with_shares(exchange, asked, confirming.survivors, step, sharing)
        return exchange.closed(confirming.close)

    def _opened(
        self,
        exchange: Exchanges,
        unmasking: central.Unmasking,
        riding: central.Sharing | None,
        receipt: Receipt,
    ) -> central.Opened:
        """Step 5, again for those who have not answered while the sum does not open, and step 6. Raises `StaysClosed`.

        Raises CovenantError, and asks nobody, for a receipt of another attempt.
        """
        attempt = unmasking.cohort.attempt
        if (receipt.stage.name, receipt.number, receipt.attempt) != (
            attempt.stage,
            attempt.round,
            attempt.attempt,
        ):
            raise CovenantError(
                f"attempt {attempt.attempt} at round {attempt.round} is not settled; nothing is opened before"
            )
        step, asked = Expected(attempt, Shares, unmasking.receive), Frame(attempt, unmasking.request)
        for _ in range(_ASKINGS):
            self._ask_with_shares(exchange, asked, unmasking.waiting_for, step, riding)
            try:
                return self._told_of_doubts(unmasking.open())
            except Refused as refused:
                closed = refused
            if not unmasking.waiting_for:
                break
        what = (
            f"the {exchange.stage.name.lower()} stage of round {exchange.number} cannot be opened: {closed}"
        )
        if not unmasking.waiting_for:
            raise StaysClosed(
                f"{what}. All survivors have given their shares, so asking again changes nothing: launch a new run without the site that is named"
            ) from closed
        raise SharesMissing(
            f"{what}: {because(exchange.missing)}. Bring those sites up, then `covenant run resume` sends the same request again; if their"
            " shares are lost, launch a new run",
            unmasking.waiting_for,
        ) from closed

    def _told_of_doubts(self, opened: central.Opened) -> central.Opened:
        if opened.doubted:
            _log.error(
                "shares that do not fit: these sites lie, or those whose secrets they hold",
                sites=opened.doubted,
                run=self.documents.run,
            )
        return opened

    def _ask_with_shares(
        self,
        exchange: Exchanges,
        asked: Frame,
        sites: Collection[SiteName],
        expected: Said,
        sharing: central.Sharing | None,
    ) -> None:
        """One exchange, on which shares for the next attempt ride for those who are in its cohort."""
        alone = SecureRequest(frames=(asked,))
        if sharing is None:
            exchange.ask(dict.fromkeys(sites, alone), expected)
            return
        ahead = sharing.cohort
        both = SecureRequest(frames=(asked, Frame(ahead.attempt, sharing.request)))
        requests = {site: both if site in ahead.members else alone for site in sites}
        exchange.ask(requests, expected, Expected(ahead.attempt, Envelopes, sharing.receive))

    def _following(self, question: Question) -> Attempt | None:
        """The attempt that comes next if this one succeeds."""
        plan, number = self.documents.plan, question.number
        if question.stage is Stage.TRAIN and plan.evaluates(number):
            return self._attempt(Stage.EVALUATE, number, 1)
        return self._attempt(Stage.TRAIN, number + 1, 1) if number < plan.training.rounds else None


def _unless_too_few(close: Callable[[], S]) -> S | None:
    """The next state, or None: what is made ahead may fail without harm."""
    try:
        return close()
    except Refused:
        return None


def _joined(seed: bytes, opening: Bytes) -> bytes:
    """What must be kept until a sum is committed: what opens it, and the seed of the centre's noise, if the centre adds any."""
    return Pieces((bytes([len(seed)]), seed, *pieces_of(opening).parts)).joined()


def _divided(kept: bytes) -> tuple[bytes, Bytes]:
    """What `_joined` has joined. Raises `CodecError` for anything else."""
    if not kept or kept[0] not in {0, SECRET_BYTES}:
        raise CodecError(
            "the record of how to open a sum does not begin with the length of a seed; put the database's own back"
        )
    return kept[1 : 1 + kept[0]], Pieces((memoryview(kept)[1 + kept[0] :],))
