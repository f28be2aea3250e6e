"""A site's side of secure aggregation between messages: which keys it has, and which step may follow.

1. Secrets live in memory only, but for the shares that a confirmation promises. A site that is started again keeps that promise, and takes
   part again from the next fresh keys on.
2. A state is taken out of memory before it is stepped from, so no key ever serves two requests. What is answered is in the journal
   before it leaves (`participant`), so a repeated request gets the same bytes.
3. A statement must name what this site accepted (plan, contract, member list, component), the roster that it is asked to mask for, and the
   model that this site has computed itself (`run`).
4. Keys for the next attempt are a favour: if their part of a request is wrong it goes unanswered, and the rest does not suffer. Nothing but
   keys and shares of keys rides along, because the journal guards the first step of a request and no other.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import structlog

from client.accounts.charging import Charging
from client.admission.documents import Accepted
from client.admission.requests import check_statement
from client.refusal import TaskRefused
from client.secure.promise import promise_bytes, promised
from client.secure.run import Run
from client.shared_models import KeepModel
from client.training import Session
from client.training.pace import Pace
from protos.frames import RefusalCode, SecureAnswer, SecureRequest, Statement, Task
from protos.site import SiteConfig
from strategies.errors import Refused
from strategies.ids import RunId, SiteName
from strategies.secagg.client import (
    Advertised,
    Confirmed,
    Masked,
    ProtocolAbort,
    Shared,
    advertise,
)
from strategies.secagg.identities import Sign
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
from strategies.secagg.shamir import Entropy

_KEPT_RUNS = 4
_KEPT_ATTEMPTS = 3
"""Of each run: the one that is under way, the one that its keys were made ahead for, and one that was given up."""
State = Advertised | Shared | Masked | Confirmed
S = TypeVar("S", Advertised, Shared, Masked, Confirmed)
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Held:
    """Where an attempt stands, and the run that it belongs to."""

    run: Run
    state: State


@dataclass
class SecureRounds:
    """The secure aggregation of one site."""

    config: SiteConfig
    sign: Sign
    entropy: Entropy
    accept: Callable[[Task, RunId], Accepted]
    """Judges the documents of a run."""
    require: Callable[[Accepted, RunId], None]
    """Judges whether they still hold: a newer member list may have come, and approvals run out."""
    require_all: Callable[[Collection[SiteName], RunId], None]
    """Judges whether a whole roster has witnessed a run."""
    session_of: Callable[[Accepted, RunId], Session]
    """Loads the data that a run is about."""
    charging: Charging
    promise_of: Callable[[Attempt], bytes | None]
    """Finds in the journal what this site has confirmed before it was started again."""
    keep_model: KeepModel
    """Is shown each model that this site works on."""
    pace_of: Callable[[Statement, float], Pace]
    """The pace of a computation for a statement, whose round has so many seconds."""
    _runs: OrderedDict[RunId, Run] = field(default_factory=OrderedDict)
    _attempts: OrderedDict[Attempt, _Held] = field(default_factory=OrderedDict)

    def answer(self, asked: SecureRequest) -> SecureAnswer:
        """Take the steps that are asked for. Raises `TaskRefused` where the first may not be taken."""
        first, *ahead = asked.frames
        said = [Frame(first.attempt, self._step(first, asked))]
        for frame in ahead:
            try:
                _require_keys_ahead(frame, first)
                said.append(Frame(frame.attempt, self._step(frame, SecureRequest(frames=(frame,)))))
            except Refused as refusal:
                _log.warning("no keys ahead", run=frame.attempt.run, reason=str(refusal))
        run = self._runs.get(first.attempt.run)
        return SecureAnswer(tuple(said), None if run is None else run.chain.digest)

    def _step(self, frame: Frame, asked: SecureRequest) -> Body:
        try:
            return self._dispatch(frame.attempt, frame.body, asked)
        except ProtocolAbort as abort:
            raise TaskRefused(RefusalCode.PROTOCOL, str(abort), accused=abort.accused) from abort

    def _dispatch(self, attempt: Attempt, body: Body, asked: SecureRequest) -> Body:
        match body:
            case AdvertiseRequest():
                return self._advertise(attempt, asked.task)
            case ShareRequest():
                run, advertised = self._take(attempt, Advertised)
                shared, envelopes = advertised.share(body, self.entropy)
                self._keep(attempt, run, shared)
                return envelopes
            case MaskRequest():
                return self._mask(attempt, body, asked)
            case ConfirmRequest():
                run, masked = self._take(attempt, Masked)
                self.require(run.accepted, attempt.run)
                confirmed, confirmation = masked.confirm(body)
                self._keep(attempt, run, confirmed)
                return confirmation
            case UnmaskRequest():
                return self._unmask(attempt, body)
        raise TaskRefused(RefusalCode.PROTOCOL, f"a site is not asked for a {type(body).__name__}")

    def _advertise(self, attempt: Attempt, task: Task | None) -> Body:
        run, held = self._run_of(attempt, task), self._attempts.get(attempt)
        # Keys that have masked nothing may be replaced: whoever was to share with them may have gone.
        if held is not None and isinstance(held.state, Masked | Confirmed):
            raise TaskRefused(RefusalCode.PROTOCOL, "this site has sent its input to this attempt already")
        state = advertise(run.client(attempt, self.sign), self.entropy)
        self._keep(attempt, run, state)
        return state.advertisement

    def _run_of(self, attempt: Attempt, task: Task | None) -> Run:
        """The run that `attempt` belongs to; a new one is judged by its documents."""
        known = self._runs.get(attempt.run)
        if task is not None:
            accepted = self.accept(task, attempt.run)
            if known is None or known.accepted != accepted:
                self.charging.foresee(accepted, attempt.run)
                charge = partial(self.charging.charge, accepted)
                known = Run.begin(
                    accepted,
                    self.config,
                    lambda judged: self.session_of(judged, attempt.run),
                    charge,
                    self.entropy,
                    self._pace(accepted),
                )
                self._runs[attempt.run] = known
                while len(self._runs) > _KEPT_RUNS:
                    oldest, _ = self._runs.popitem(last=False)
                    self._forget(oldest, keep=0)
        if known is None:
            raise TaskRefused(
                RefusalCode.PROTOCOL, "this site was started again, and needs the run's documents"
            )
        self.require(known.accepted, attempt.run)
        if known.accepted.plan.digest != attempt.plan:
            raise TaskRefused(RefusalCode.PROTOCOL, "the attempt names another plan than this site accepted")
        return known

    def _pace(self, accepted: Accepted) -> Callable[[Statement], Pace]:
        return lambda said: self.pace_of(said, accepted.plan.training.round_deadline)

    def _mask(self, attempt: Attempt, ask: MaskRequest, asked: SecureRequest) -> Body:
        run, shared = self._take(attempt, Shared)
        self.require(run.accepted, attempt.run)
        said = self._statement(attempt, ask, asked, run)
        shared.check(ask)
        ring, integers = run.computed(said, asked)
        if asked.scaling is not None:
            self.keep_model(run.accepted, said, run.chain.model, asked.scaling)
        masked, sent = shared.mask(ask, ring, integers)
        self._keep(attempt, run, masked)
        return sent

    def _statement(self, attempt: Attempt, ask: MaskRequest, asked: SecureRequest, run: Run) -> Statement:
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
        self.require_all(said.roster, said.run)
        return said

    def _unmask(self, attempt: Attempt, ask: UnmaskRequest) -> Body:
        state = self._promised(attempt) or self._unpromised(attempt, ask)
        if not isinstance(state, Confirmed):
            raise TaskRefused(
                RefusalCode.PROTOCOL, "shares are given only after the survivors were confirmed"
            )
        return state.unmask(ask)

    def _unpromised(self, attempt: Attempt, ask: UnmaskRequest) -> State:
        """The state of an attempt that is in memory; a semi-honest plan has no confirming of its own, so this does it."""
        held = self._take_any(attempt)
        if not isinstance(held.state, Masked):
            return held.state
        if held.state.client.parameters.adversary is not Adversary.SEMI_HONEST:
            return held.state
        self.require(held.run.accepted, attempt.run)
        confirmed, _ = held.state.confirm(ConfirmRequest(ask.survivors))
        return confirmed

    def _promised(self, attempt: Attempt) -> Confirmed | None:
        """What this site has confirmed for `attempt` in all its parts, if only its journal remembers it."""
        kept = None if attempt in self._attempts else self.promise_of(attempt)
        state = promised(kept) if kept else None
        return state if state is not None and state.bound.attempt == attempt else None

    def deadline_s(self, run: RunId) -> float:
        """How long a round of `run` takes at most; 0 for one that this site knows nothing of."""
        known = self._runs.get(run)
        return 0.0 if known is None else known.accepted.plan.training.round_deadline

    def promise(self, attempt: Attempt) -> bytes:
        """What must be on disk with the confirmation of an attempt, or nothing."""
        held = self._attempts.get(attempt)
        if held is None or not isinstance(held.state, Confirmed):
            return b""
        members = held.run.accepted.members.members
        return promise_bytes(held.state, {each.site: each.identity_key for each in members})

    def _take(self, attempt: Attempt, kind: type[S]) -> tuple[Run, S]:
        """The run and state of an attempt, which is in memory no more."""
        held = self._take_any(attempt)
        if not isinstance(held.state, kind):
            raise TaskRefused(
                RefusalCode.PROTOCOL,
                f"this site has {type(held.state).__name__.lower()} for this attempt; the step does not follow",
            )
        return held.run, held.state

    def _take_any(self, attempt: Attempt) -> _Held:
        held = self._attempts.pop(attempt, None)
        if held is None:
            raise TaskRefused(
                RefusalCode.PROTOCOL,
                "this site has no keys for this attempt: it was started again since, or has refused a step of it",
            )
        return held

    def _keep(self, attempt: Attempt, run: Run, state: State) -> None:
        self._attempts[attempt] = _Held(run, state)
        self._attempts.move_to_end(attempt)
        # A run that is under way outlives others that are only asked about.
        self._runs.move_to_end(attempt.run)
        self._forget(attempt.run, keep=_KEPT_ATTEMPTS)

    def _forget(self, run: RunId, *, keep: int) -> None:
        """Let go of the oldest attempts of a run."""
        of_run = [attempt for attempt in self._attempts if attempt.run == run]
        for attempt in of_run[: max(0, len(of_run) - keep)]:
            del self._attempts[attempt]


def _require_keys_ahead(frame: Frame, first: Frame) -> None:
    """Only steps that release nothing may ride on another, and only for another attempt of its run."""
    if not isinstance(frame.body, AdvertiseRequest | ShareRequest):
        raise TaskRefused(
            RefusalCode.PROTOCOL, f"a {type(frame.body).__name__} rides on another step; only keys ahead do"
        )
    if frame.attempt.run != first.attempt.run or frame.attempt == first.attempt:
        raise TaskRefused(RefusalCode.PROTOCOL, "keys ahead are for another attempt of the same run")
