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
from dataclasses import dataclass, field

import numpy as np
import structlog

from coordinator.rounds.asking import Asking, StaysClosed, TooFewSurvivors
from coordinator.rounds.exchanges import Exchanges
from coordinator.rounds.question import Pooled, Question, RunDocuments, Settle, Settled
from coordinator.rounds.record import Step
from coordinator.rounds.roster import because
from protos.frames import Checkpoint, SecureAnswer, SecureRequest, Stage, Statement, Testimony, Upload
from protos.plan import SecureAggregation
from protos.secagg_codec import decode_opening, encode_opening
from protos.secure_codec import decode_testimony
from strategies.encoding import sha256_hex, vector_digest
from strategies.errors import Refused
from strategies.ids import Digest, SiteName
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
from strategies.secagg.payloads import Counts, Moments, WeightedUpdates

Payload = Moments | WeightedUpdates | Counts
_ASKINGS = 3
"""How often survivors are asked for their shares: nothing else can be asked instead."""
_log = structlog.get_logger(__name__)


@dataclass
class SecureSums:
    """`Sums` by secure aggregation. `step_to` reads how the model after a committed round came about."""

    documents: RunDocuments
    secure: SecureAggregation
    asking: Asking
    verify: Verify
    step_to: Callable[[int], Step]
    _ahead: central.Ready | None = None
    _holds: dict[SiteName, Digest] = field(default_factory=dict)

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

    def _set_up(self, question: Question, attempt: Attempt) -> central.Ready:
        """Steps 1 and 2: fresh keys and shares, in two exchanges."""
        exchange = Exchanges(self.asking, question.stage, question.number, self.note_holds)
        keys = central.Advertising(self._server(attempt))
        asked = SecureRequest(frames=(Frame(attempt, AdvertiseRequest()),), task=self.documents.task)
        exchange.ask(dict.fromkeys(question.roster, asked))
        exchange.receive(attempt, Advertisement, keys.receive)
        sharing = exchange.closed(keys.close)
        request = SecureRequest(frames=(Frame(attempt, sharing.request),))
        exchange.ask(dict.fromkeys(sharing.cohort.sites, request))
        exchange.receive(attempt, Envelopes, sharing.receive)
        return exchange.closed(sharing.close)

    def _aggregate(self, question: Question, ready: central.Ready, settle: Settle) -> Pooled:
        """Steps 3 to 6, with steps 1 and 2 of the attempt that follows if all goes well."""
        attempt, exchange = (
            ready.cohort.attempt,
            Exchanges(self.asking, question.stage, question.number, self.note_holds),
        )
        statement = question.statement(self.documents, ready.sites, with_optimizer=True)
        payload = self._payload(question, ready.sites)
        collecting = ready.ask(statement.digest, payload.ring, self._dimension(question))
        following = self._following(question)
        exchange.ask(
            {
                site: self._mask_request(question, statement, collecting, site, following)
                for site in ready.sites
            }
        )
        uploads: dict[SiteName, Upload] = {}

        def take(item: MaskedInput) -> None:
            collecting.receive(item)
            uploads[item.site] = Upload(sha256_hex(item.packed), item.signature)

        exchange.receive(attempt, MaskedInput, take)
        confirming = exchange.closed(collecting.close)
        sharing = self._keys_ahead(exchange, following)
        unmasking = self._confirmed(exchange, attempt, confirming, sharing)
        testimony = Testimony(statement=statement, cohort=ready.cohort.digest, uploads=uploads)
        settle(
            Settled(
                survivors=confirming.survivors,
                statement=statement.digest,
                testimony=testimony,
                opening=encode_opening(unmasking),
            )
        )
        opened = self._opened(exchange, unmasking, None if self._parameters.is_active else sharing)
        self._ahead = self._ready_ahead(sharing)
        return self._pooled(payload, opened)

    def reopen(self, question: Question, opening: bytes) -> Pooled:
        """See `Sums.reopen`."""
        unmasking = decode_opening(opening, self._parameters, self._dimension(question), self.verify)
        exchange = Exchanges(self.asking, question.stage, question.number, self.note_holds)
        roster = (*unmasking.request.survivors, *unmasking.request.dropped)
        return self._pooled(self._payload(question, roster), self._opened(exchange, unmasking, None))

    def _opened(
        self, exchange: Exchanges, unmasking: central.Unmasking, riding: central.Sharing | None
    ) -> central.Opened:
        """Step 5, again for those who have not answered, and step 6. Raises `StaysClosed`."""
        last = (Frame(unmasking.cohort.attempt, unmasking.request),)
        for _ in range(_ASKINGS):
            exchange.ask(
                {
                    site: SecureRequest(frames=self._with_shares(last, site, riding))
                    for site in unmasking.waiting_for
                }
            )
            exchange.receive(unmasking.cohort.attempt, Shares, unmasking.receive)
            self._take_shares(exchange, riding)
            if unmasking.is_enough:
                break
        try:
            opened = unmasking.open()
        except Refused as closed:
            raise StaysClosed(
                f"round {exchange.number} cannot be opened: {closed}: {because(exchange.missing)}. Bring those sites up, then `covenant run"
                " resume` sends the same request again; if their shares are lost, launch a new run"
            ) from closed
        if opened.liars:
            _log.error("shares that do not fit", sites=opened.liars, round=exchange.number)
        return opened

    def _confirmed(
        self,
        exchange: Exchanges,
        attempt: Attempt,
        confirming: central.Confirming,
        sharing: central.Sharing | None,
    ) -> central.Unmasking:
        """Step 4, in active mode."""
        if self._parameters.is_active:
            first = (Frame(attempt, confirming.request),)
            exchange.ask(
                {
                    site: SecureRequest(frames=self._with_shares(first, site, sharing))
                    for site in confirming.survivors
                }
            )
            exchange.receive(attempt, Confirmation, confirming.receive)
            self._take_shares(exchange, sharing)
        return exchange.closed(confirming.close)

    def _keys_ahead(self, exchange: Exchanges, following: Attempt | None) -> central.Sharing | None:
        """The cohort of the next attempt, from keys that came with the masked inputs; None if they make none."""
        if following is None:
            return None
        keys = central.Advertising(self._server(following))
        exchange.receive(following, Advertisement, keys.receive)
        try:
            return keys.close()
        except Refused:
            return None

    def _with_shares(
        self, frames: tuple[Frame, ...], site: SiteName, sharing: central.Sharing | None
    ) -> tuple[Frame, ...]:
        if sharing is None or site not in sharing.cohort.members:
            return frames
        return (*frames, Frame(sharing.cohort.attempt, sharing.request))

    def _take_shares(self, exchange: Exchanges, sharing: central.Sharing | None) -> None:
        if sharing is not None:
            exchange.receive(sharing.cohort.attempt, Envelopes, sharing.receive)

    @staticmethod
    def _ready_ahead(sharing: central.Sharing | None) -> central.Ready | None:
        """What is there for the next attempt, if it is enough."""
        try:
            return None if sharing is None else sharing.close()
        except Refused:
            return None

    def _mask_request(
        self,
        question: Question,
        statement: Statement,
        collecting: central.Collecting,
        site: SiteName,
        following: Attempt | None,
    ) -> SecureRequest:
        frames = [Frame(collecting.ready.cohort.attempt, collecting.request_for(site))]
        if following is not None:
            frames.append(Frame(following, AdvertiseRequest()))
        known = self._known(question, site)
        return SecureRequest(
            frames=tuple(frames),
            statement=statement,
            scaling=question.scaling,
            aggregate=None if known is None else known.aggregate,
            checkpoint=None if known is None or self._has_before(site, known) else _checkpoint(known),
        )

    def _known(self, question: Question, site: SiteName) -> Step | None:
        """The step that leads to the question's model, for a site that has not taken it."""
        number = question.number - 1 if question.stage is Stage.TRAIN else question.number
        if question.model is None or number < 1 or self._holds.get(site) == vector_digest(question.model):
            return None
        return self.step_to(number)

    def _has_before(self, site: SiteName, step: Step) -> bool:
        """Whether a site has the model before `step`: everybody can compute the first one."""
        return step.before.number == 0 or self._holds.get(site) == vector_digest(step.before.model)

    def note_holds(self, site: SiteName, answer: SecureAnswer) -> None:
        """Remember which model a site says it has."""
        if answer.holds is None:
            self._holds.pop(site, None)
        else:
            self._holds[site] = answer.holds

    def _following(self, question: Question) -> Attempt | None:
        """The attempt that comes next if this one succeeds."""
        plan, number = self.documents.plan, question.number
        if question.stage is Stage.TRAIN and plan.evaluates(number):
            return self._attempt(Stage.EVALUATE, number, 1)
        return self._attempt(Stage.TRAIN, number + 1, 1) if number < plan.training.rounds else None

    def _payload(self, question: Question, roster: Collection[SiteName]) -> Payload:
        match question.stage:
            case Stage.PREPARE:
                return Moments(len(roster))
            case Stage.TRAIN:
                weight = self.documents.plan.weight_of
                return WeightedUpdates(self.secure.update_range, {site: weight(site) for site in roster})
            case Stage.EVALUATE:
                return Counts(len(roster))

    def _dimension(self, question: Question) -> int:
        match question.stage:
            case Stage.PREPARE:
                return 3 * len(self.documents.features.numeric)
            case Stage.TRAIN:
                return 0 if question.model is None else question.model.size
            case Stage.EVALUATE:
                return 2 * self.documents.plan.evaluation.score_bins

    def _pooled(self, payload: Payload, opened: central.Opened) -> Pooled:
        match payload:
            case Moments():
                return Pooled(opened.survivors, payload.value(opened.total))
            case WeightedUpdates():
                return Pooled(opened.survivors, payload.mean(opened.total, opened.survivors))
            case Counts():
                return Pooled(opened.survivors, opened.total.reshape(2, -1).astype(np.int64))


def _checkpoint(step: Step) -> Checkpoint | None:
    if step.testimony is None:
        return None
    return Checkpoint(
        model=step.before.model,
        optimizer=step.before.optimizer,
        testimony=decode_testimony(step.testimony),
    )
