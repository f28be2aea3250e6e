"""A site's side of secure aggregation between messages: which keys it has, which model it is at, and what it computes for a sum.

1. Secrets live in memory only, but for the shares that a confirmation promises. A site that is started again keeps that promise, and takes
   part again from the next fresh keys on.
2. A state is taken out of memory before it is stepped from, so no key ever serves two requests. What is answered is in the journal
   before it leaves (`participant`), so a repeated request gets the same bytes.
3. A statement must name what this site accepted (plan, contract, member list, component), the roster that it is asked to mask for, and the
   model that this site has computed itself.
4. Keys for the next attempt are a favour: if their part of a request is wrong it goes unanswered, and the rest does not suffer.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import structlog

from client.journal.promise import promise_bytes, promised
from client.model_chain import ModelChain, Witnesses
from client.plan_check import Accepted, TaskRefused, check_statement
from client.training import TrainingSession
from protos.frames import RefusalCode, SecureAnswer, SecureRequest, Stage, Statement, Task
from protos.identities import Identities
from protos.plan import SecureAggregation
from protos.site import SiteConfig
from strategies.encoding import Vector
from strategies.features import Scaling
from strategies.ids import RunId
from strategies.secagg.client import (
    Advertised,
    Client,
    Confirmed,
    Masked,
    ProtocolAbort,
    Shared,
    advertise,
)
from strategies.secagg.identities import Peers, Sign
from strategies.secagg.labels import Attempt
from strategies.secagg.messages import (
    AdvertiseRequest,
    Body,
    ConfirmRequest,
    Frame,
    MaskRequest,
    ShareRequest,
    UnmaskRequest,
)
from strategies.secagg.parameters import Adversary
from strategies.secagg.payloads import Counts, Integers, Moments, WeightedUpdates, dither_seed
from strategies.secagg.rings import Ring
from strategies.secagg.shamir import Entropy

_KEPT_RUNS = 2
_KEPT_ATTEMPTS = 3
State = Advertised | Shared | Masked | Confirmed
S = TypeVar("S", Advertised, Shared, Masked, Confirmed)
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Run:
    """What this site knows of a run that it takes part in."""

    accepted: Accepted
    secure: SecureAggregation
    session: TrainingSession
    identities: Identities
    chain: ModelChain


@dataclass
class SecureRounds:
    """The secure aggregation of one site. `accept` judges documents, `session_of` loads the data that they are about, and
    `promise_of` finds in the journal what this site has confirmed before it was started again."""

    config: SiteConfig
    sign: Sign
    entropy: Entropy
    accept: Callable[[Task], Accepted]
    session_of: Callable[[Accepted], TrainingSession]
    promise_of: Callable[[Attempt], bytes | None]
    _runs: OrderedDict[RunId, _Run] = field(default_factory=OrderedDict)
    _states: OrderedDict[Attempt, State] = field(default_factory=OrderedDict)

    def answer(self, asked: SecureRequest) -> SecureAnswer:
        """Take the steps that are asked for. Raises `TaskRefused` where the first may not be taken."""
        first, *ahead = asked.frames
        said = [Frame(first.attempt, self._step(first, asked))]
        for frame in ahead:
            try:
                said.append(Frame(frame.attempt, self._step(frame, asked)))
            except TaskRefused as refusal:
                _log.warning("no keys ahead", run=frame.attempt.run, reason=str(refusal))
        run = self._runs.get(first.attempt.run)
        return SecureAnswer(tuple(said), None if run is None else run.chain.digest)

    def _step(self, frame: Frame, asked: SecureRequest) -> Body:
        try:
            return self._dispatch(frame.attempt, frame.body, asked)
        except ProtocolAbort as abort:
            raise TaskRefused(RefusalCode.PROTOCOL, str(abort)) from abort

    def _dispatch(self, attempt: Attempt, body: Body, asked: SecureRequest) -> Body:
        match body:
            case AdvertiseRequest():
                return self._advertise(attempt, asked.task)
            case ShareRequest():
                shared, envelopes = self._take(attempt, Advertised).share(body, self.entropy)
                self._keep(attempt, shared)
                return envelopes
            case MaskRequest():
                return self._mask(attempt, body, asked)
            case ConfirmRequest():
                confirmed, confirmation = self._take(attempt, Masked).confirm(body)
                self._keep(attempt, confirmed)
                return confirmation
            case UnmaskRequest():
                return self._unmask(attempt, body)
        raise TaskRefused(RefusalCode.PROTOCOL, f"a site is not asked for a {type(body).__name__}")

    def _advertise(self, attempt: Attempt, task: Task | None) -> Body:
        run = self._run_of(attempt, task)
        # Keys that have masked nothing may be replaced: whoever was to share with them may have gone.
        if isinstance(self._states.get(attempt), Masked | Confirmed):
            raise TaskRefused(RefusalCode.PROTOCOL, "this site has sent its input to this attempt already")
        state = advertise(self._client(attempt, run), self.entropy)
        self._keep(attempt, state)
        return state.advertisement

    def _client(self, attempt: Attempt, run: _Run) -> Client:
        return Client(
            site=self.config.site,
            attempt=attempt,
            parameters=run.accepted.plan.secure_parameters(run.secure),
            peers=self._peers,
            sign=self.sign,
            verify=run.identities.verify,
        )

    @property
    def _peers(self) -> Peers:
        peers = self.config.peers
        if peers is None:
            raise TaskRefused(
                RefusalCode.POLICY,
                "`peers` is not configured at this site, so it recognises nobody to be in a sum with",
            )
        return Peers(recognised=frozenset(peers.recognise) - {self.config.site}, at_least=peers.at_least)

    def _run_of(self, attempt: Attempt, task: Task | None) -> _Run:
        """The run that `attempt` belongs to; a new one is judged by its documents."""
        known = self._runs.get(attempt.run)
        if task is not None:
            accepted = self.accept(task)
            if known is None or known.accepted != accepted:
                known = self._begun(accepted)
                self._runs[attempt.run] = known
                while len(self._runs) > _KEPT_RUNS:
                    self._runs.popitem(last=False)
        if known is None:
            raise TaskRefused(
                RefusalCode.PROTOCOL, "this site was started again, and needs the run's documents"
            )
        if known.accepted.plan.digest != attempt.plan:
            raise TaskRefused(RefusalCode.PROTOCOL, "the attempt names another plan than this site accepted")
        return known

    def _begun(self, accepted: Accepted) -> _Run:
        plan = accepted.plan
        if not isinstance(plan.aggregation, SecureAggregation):
            raise TaskRefused(RefusalCode.PROTOCOL, "the plan is not one for secure aggregation")
        session = self.session_of(accepted)
        members = {member.site: member.identity_key for member in accepted.members.members}
        identities = Identities({site: members[site] for site in plan.sites.invite})
        return _Run(accepted, plan.aggregation, session, identities, ModelChain.begin(plan, session.model))

    def _mask(self, attempt: Attempt, ask: MaskRequest, asked: SecureRequest) -> Body:
        shared = self._take(attempt, Shared)
        run = self._run_of(attempt, None)
        said = self._statement(attempt, ask, asked, run)
        ring, integers = self._computed(run, said, asked)
        masked, sent = shared.mask(ask, ring, integers)
        self._keep(attempt, masked)
        return sent

    def _statement(self, attempt: Attempt, ask: MaskRequest, asked: SecureRequest, run: _Run) -> Statement:
        """The statement, if it is the one that the masks are bound to, of this attempt, and of what this site accepted."""
        said, accepted = asked.statement, run.accepted
        if said is None or said.digest != ask.statement:
            raise TaskRefused(
                RefusalCode.PROTOCOL, "the statement is not the one that the inputs are to be masked for"
            )
        named = (said.plan_digest, said.run, said.stage.name, said.round, said.attempt)
        if named != (attempt.plan, attempt.run, attempt.stage, attempt.round, attempt.attempt):
            raise TaskRefused(RefusalCode.PROTOCOL, "the statement is of another attempt than the keys")
        if said.roster != ask.roster:
            raise TaskRefused(RefusalCode.PROTOCOL, "the statement names another roster than the request")
        if (said.contract_digest, said.members_digest) != (accepted.contract.digest, accepted.members_digest):
            raise TaskRefused(
                RefusalCode.PROTOCOL, "the statement names other documents than this site accepted"
            )
        check_statement(said, accepted, site=self.config.site)
        return said

    def _computed(self, run: _Run, said: Statement, asked: SecureRequest) -> tuple[Ring, Integers]:
        """What this site adds to the sum, before it is masked."""
        _log.info("computing", run=said.run, stage=said.stage.name, round=said.round)
        if said.stage is Stage.PREPARE:
            moments = Moments(len(said.roster))
            return moments.ring, moments.embed(run.session.moments())
        if asked.scaling is None:
            raise TaskRefused(
                RefusalCode.PROTOCOL, f"a request to {said.stage.name.lower()} without the scaling"
            )
        witnesses = Witnesses(
            self.config.site,
            run.secure.suite,
            run.accepted.plan.secure_parameters(run.secure),
            self._peers,
            run.identities.verify,
        )
        model = run.chain.follow(said, asked.aggregate, asked.checkpoint, witnesses)
        if said.stage is Stage.TRAIN:
            return self._update(run, said, model, asked.scaling)
        counts = Counts(len(said.roster))
        return counts.ring, counts.embed(run.session.evaluate(model, asked.scaling))

    def _update(self, run: _Run, said: Statement, model: Vector, scaling: Scaling) -> tuple[Ring, Integers]:
        plan, site = run.accepted.plan, self.config.site
        updates = WeightedUpdates(
            run.secure.update_range, {each: plan.weight_of(each) for each in said.roster}
        )
        update = run.session.train(model, scaling, said.round)
        clipped = int(np.count_nonzero(np.abs(update) > updates.bound))
        if clipped:
            _log.warning(
                "update clipped", run=said.run, round=said.round, coordinates=clipped, bound=updates.bound
            )
        dither = dither_seed(plan.training.component, str(plan.training.seed), site, str(said.round))
        return updates.ring, updates.embed(site, update, dither)

    def _unmask(self, attempt: Attempt, ask: UnmaskRequest) -> Body:
        state = self._promised(attempt) or self._take_any(attempt)
        if isinstance(state, Masked) and state.client.parameters.adversary is Adversary.SEMI_HONEST:
            state, _ = state.confirm(ConfirmRequest(ask.survivors))
        if not isinstance(state, Confirmed):
            raise TaskRefused(
                RefusalCode.PROTOCOL, "shares are given only after the survivors were confirmed"
            )
        return state.unmask(ask)

    def _promised(self, attempt: Attempt) -> Confirmed | None:
        """What this site has confirmed for `attempt` in all its parts, if only its journal remembers it."""
        kept = None if attempt in self._states else self.promise_of(attempt)
        state = promised(kept) if kept else None
        return state if state is not None and state.bound.attempt == attempt else None

    def promise(self, attempt: Attempt) -> bytes:
        """What must be on disk with the confirmation of an attempt, or nothing."""
        state, run = self._states.get(attempt), self._runs.get(attempt.run)
        if not isinstance(state, Confirmed) or run is None:
            return b""
        return promise_bytes(state, {each.site: each.identity_key for each in run.accepted.members.members})

    def _take(self, attempt: Attempt, kind: type[S]) -> S:
        """The state of an attempt, which is in memory no more."""
        state = self._take_any(attempt)
        if not isinstance(state, kind):
            raise TaskRefused(
                RefusalCode.PROTOCOL,
                f"this site has {type(state).__name__.lower()} for this attempt; the step does not follow",
            )
        return state

    def _take_any(self, attempt: Attempt) -> State:
        state = self._states.pop(attempt, None)
        if state is None:
            raise TaskRefused(
                RefusalCode.PROTOCOL,
                "this site has no keys for this attempt: it was started again since, or has refused a step of it",
            )
        return state

    def _keep(self, attempt: Attempt, state: State) -> None:
        self._states[attempt] = state
        while len(self._states) > _KEPT_ATTEMPTS:
            self._states.popitem(last=False)
