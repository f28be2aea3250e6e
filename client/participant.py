"""One site in the rounds of its federation: judges what it is asked, computes it, and answers the same request the same way.

1. Nothing that the centre asks for is read or computed before the documents of the request have passed `admission`. Documents that have are
   remembered by digest for as long as the agent runs with one configuration.
2. An attempt at a round is answered once, and the answer is in the journal before it leaves: asked again, also after a restart,
   the site sends the same bytes; asked for another statement, it refuses.
3. A refusal that depends on rows says `contract` and nothing more; its reason goes to the site's own log.
4. Nothing is computed for a run that this site, and as many others as are asked for, have not witnessed in the transparency log (`transparency`).
5. Under a halt of this site nothing is answered, and an answer that is ready does not leave. It is given once the halt is lifted. Nor is
   anything answered, shares that were promised among it, while a split of the log is known here.
6. A site that drains finishes what it has in hand, and begins nothing (`operation.drain`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Final

import structlog

from client.accounts.book import AccountBook
from client.accounts.charging import Charging
from client.admission.documents import Accepted
from client.admission.judged import Judged
from client.admission.presence import Presence
from client.admission.trust import Trust
from client.data.report import DataError
from client.data.rows import SiteRows
from client.halts import HaltBook
from client.journal.answers import Answers, question_of, secure_question
from client.journal.entries import JournalBroken
from client.limits import told_of_memory
from client.newest import Newest
from client.operation.drain import Drain
from client.operation.watching import ANSWERED, Asked
from client.plain import PlainRounds
from client.refusal import TaskRefused
from client.secure.rounds import SecureRounds
from client.shared_models import KeepModel, keep_nothing
from client.standing import StandingBook
from client.training import Session, session_for
from client.training.pace import Pace, Paced, Progress, no_progress
from client.transparency.witness import Witness
from protos.codec import encode_reply
from protos.frames import (
    REFUSAL,
    Body,
    Refusal,
    RefusalCode,
    Reply,
    Request,
    SecureAnswer,
    SecureRequest,
    Statement,
    Task,
    WitnessAnswer,
    WitnessRequest,
)
from protos.keys import Signer
from protos.secure_codec import decode_answer, decode_asked, encode_secure_reply
from protos.site import SiteConfig
from strategies.encoding import sha256_hex
from strategies.errors import CovenantError
from strategies.ids import Digest, RunId, SiteName
from strategies.pieces import Bytes
from strategies.secagg.messages import Frame, MaskRequest, UnmaskRequest
from strategies.secagg.shamir import Entropy

_KEPT_SESSIONS: Final = 4
_KEPT_SET_UPS: Final = 8
_log = structlog.get_logger(__name__)


@dataclass
class Participant:
    """A site's computations, kept warm between messages."""

    config: SiteConfig
    trust: Trust
    """The root that this site has pinned, and the newest member list that it has accepted."""
    identity: Signer
    """The site's identity key, whose public half the member list must name."""
    answers: Answers
    """What this site has answered already, on disk."""
    book: AccountBook
    """What was released of this site's populations, on disk."""
    halts: HaltBook
    """What people at this site have halted, on disk."""
    standing: StandingBook
    """Whether people at this site let it take part at all, on disk."""
    entropy: Entropy
    """Where the secrets of secure aggregation come from."""
    witness: Witness
    """What this site has signed about the transparency log, on disk."""
    rows: SiteRows
    """This site's data, judged by their contracts."""
    presence: Presence
    """Its hours, and what people here have said of plans."""
    monotonic: Callable[[], float]
    progress: Progress = no_progress
    drain: Drain = field(default_factory=Drain)
    told: Callable[[Asked, str], None] = lambda _asked, _outcome: None
    """Told of each request and what became of it: `answered`, or the code of a refusal."""
    keep_model: KeepModel = keep_nothing
    """Keeps the shared models of finished runs for people here. Nothing that answers reads them."""

    _arrived: float = 0.0
    """When the request in hand came."""
    _sessions: Newest[tuple[RunId, Digest, Digest], Session] = field(
        default_factory=lambda: Newest(_KEPT_SESSIONS)
    )
    _set_ups: Newest[Digest, Bytes] = field(default_factory=lambda: Newest(_KEPT_SET_UPS))
    """Answers that release nothing, by their requests: they are said again as they were."""
    _judged: Judged = field(init=False)
    _plain: PlainRounds = field(init=False)
    _secure: SecureRounds = field(init=False)

    def __post_init__(self) -> None:
        self._judged = Judged(
            self.config,
            self.trust,
            self.identity.public,
            self.answers,
            self.presence,
            self.witness.require_sound,
        )
        self._plain = PlainRounds(
            self.site,
            self._accepted_documents,
            self.witness.require_all,
            self._session,
            self.keep_model,
            self._pace,
        )
        self._secure = SecureRounds(
            self.config,
            self.identity.sign_raw,
            self.entropy,
            self._accepted_documents,
            self._judged.require_trust,
            self.witness.require_all,
            self._session,
            Charging(self.book, self.config.federation.name),
            lambda made: self.answers.promise(made.run, made.stage, made.round, made.attempt),
            self.keep_model,
            self._pace,
        )

    @property
    def site(self) -> SiteName:
        """This site's name."""
        return self.config.site

    def close(self) -> None:
        """Close every file that this site has open."""
        self.presence.consents.close()
        self.answers.journal.close()
        self.book.close()
        self.halts.close()
        self.standing.close()
        if self.witness.copy is not None:
            self.witness.copy.close()

    def answer(self, frame: Bytes) -> Bytes:
        """The reply frame to a request frame.

        Raises `CodecError` if that is no request at all, and `JournalBroken` if the reply could not be recorded: then nothing
        may leave this site any more.
        """
        self._arrived, request = self.monotonic(), decode_asked(frame)
        match request:
            case SecureRequest():
                run, echo = request.frames[0].attempt.run, sha256_hex(frame)
            case WitnessRequest():
                run, echo = request.run, sha256_hex(frame)
            case Request():
                run, echo = request.statement.run, request.statement.digest
        try:
            self._require_free(run)
            self.presence.require_hours(request)
            self.witness.require_sound()
            reply = self._answered(request, echo)
            self._require_free(run)
        except TaskRefused as refusal:
            said = self._said_of(refusal, request)
            self._note_refusal(request, run, said.code, refusal.local)
            return self._reply(echo, said)
        except DataError as trouble:
            self._note_refusal(request, run, RefusalCode.CONTRACT, str(trouble))
            return self._reply(echo, Refusal(RefusalCode.CONTRACT))
        self.told(request, ANSWERED)
        return reply

    def _note_refusal(self, request: Asked, run: RunId, code: RefusalCode, reason: str) -> None:
        """For this site's own people: in its log, and one that lasts in its journal."""
        _log.error("refused", run=run, code=code.name, reason=reason)
        self.answers.note_refusal(run, code, reason)
        self.told(request, code.name.lower())

    def _said_of(self, refusal: TaskRefused, request: Asked) -> Refusal:
        """The refusal. A site that was started again and lacks keys says that it is to be vouched for first, so that it is back in the next attempt."""
        fresh = self.witness.vouching.is_fresh and isinstance(request, SecureRequest)
        if refusal.code is RefusalCode.PROTOCOL and refusal.accused is None and fresh:
            start = self.witness.vouching.start()
            return Refusal(RefusalCode.AWAY, str(refusal), evidence=start.canonical)
        return Refusal(refusal.code, str(refusal), refusal.accused, evidence=refusal.evidence)

    def _answered(self, request: Asked, echo: Digest) -> Bytes:
        match request:
            case SecureRequest():
                return self._secure_answer(request, echo)
            case WitnessRequest():
                return self._reply(echo, self._witnessed(request))
            case Request():
                kept = self.answers.kept(question_of(request.statement))
                return kept if kept is not None else self._first_answer(request)

    def _require_free(self, run: RunId) -> None:
        """Raise `TaskRefused`, with the order, where people at this site have halted `run`."""
        order = self.halts.covering(run)
        if order is not None:
            raise TaskRefused(RefusalCode.HALTED, order.words, evidence=order.canonical)
        self.standing.require_taking_part(run)

    def _witnessed(self, request: WitnessRequest) -> WitnessAnswer:
        """Sign that the run was seen in the log; only of a run that this site would take part in."""
        with self._failing(request.run, "witness"):
            return self.witness.sign(request, self._judged.documents(request.task, request.run))

    def _secure_answer(self, request: SecureRequest, echo: Digest) -> Bytes:
        """Take the steps that are asked for; what leaves after a mask is in the journal first, and before one in memory."""
        question = secure_question(request)
        kept = self._set_ups.get(echo) if question is None else self.answers.kept(question)
        if kept is not None:
            return self._said_again(kept, echo)
        self.drain.require(request)
        attempt = request.frames[0].attempt
        with self._failing(attempt.run, attempt.stage):
            answer = self._secure.answer(request)
        reply = encode_secure_reply(echo, self.site, answer)
        if question is None:
            self._set_ups[echo] = reply
        else:
            self.answers.record(question, reply, self._secure.promise(attempt))
            self.drain.answered(request)
            self._note_owed(request.frames[0])
        return reply

    def _note_owed(self, asked: Frame) -> None:
        """Whoever has sent a masked input stays for the rest of that sum."""
        if isinstance(asked.body, MaskRequest):
            self.presence.begun(asked.attempt, self._secure.deadline_s(asked.attempt.run))
        elif isinstance(asked.body, UnmaskRequest):
            self.presence.finished(asked.attempt)

    def _first_answer(self, request: Request) -> Bytes:
        """Judge, compute, record; raises `TaskRefused` and `DataError`, which are answers too."""
        self.drain.require(request)
        with self._failing(request.statement.run, request.statement.stage.name):
            body = self._plain.answer(request)
        reply = self._reply(request.statement.digest, body)
        self.answers.record(question_of(request.statement), reply)
        return reply

    def _said_again(self, kept: Bytes, echo: Digest) -> Bytes:
        """The steps that were taken, to a request that asks for them again: what rides on it may be something else."""
        body = decode_answer(kept).body
        return encode_secure_reply(echo, self.site, body) if isinstance(body, SecureAnswer) else kept

    def _reply(self, echo: Digest, body: Body) -> Bytes:
        if isinstance(body, Refusal):
            signed = self.identity.sign_raw(REFUSAL, body.message(echo, self.site))
            body = replace(body, signature=signed)
        return encode_reply(Reply(statement_digest=echo, site=self.site, body=body))

    def _accepted_documents(self, task: Task, run: RunId) -> Accepted:
        """The documents of a run that was witnessed by as many sites as are asked for."""
        accepted = self._judged.documents(task, run)
        self.witness.require(task.witness, accepted, run)
        return accepted

    def _session(self, accepted: Accepted, run: RunId) -> Session:
        """The training session of a run on this site's data, which stay as they were when it began here, as long as the session is kept."""
        key = (run, accepted.plan.digest, accepted.contract.digest)
        if key not in self._sessions:
            plan = accepted.plan
            table = self.rows.table(accepted.source, accepted.contract, plan.protected_columns)
            session = session_for(
                accepted.plan, accepted.contract, table, site=self.site, threads=self.config.run.cpu_threads
            )
            training, held_out = session.rows
            _log.info("data loaded", plan=accepted.plan.name, training_rows=training, held_out_rows=held_out)
            self._sessions[key] = session
        return self._sessions[key]

    def _pace(self, said: Statement, deadline_s: float) -> Pace:
        """How long a computation for the request in hand is worth anything."""
        return Paced(
            what=f"{said.stage.name.lower()} stage of round {said.round} of {said.run}",
            began=self._arrived,
            deadline_s=deadline_s,
            monotonic=self.monotonic,
            progress=self.progress,
        )

    @contextmanager
    def _failing(self, run: RunId, stage: str) -> Iterator[None]:
        """What goes wrong in this block, memory among it, and is no refusal, is told to the site's own log alone: its words might depend on rows."""
        try:
            with told_of_memory(self.config):
                yield
        except (TaskRefused, DataError, JournalBroken):
            raise
        except CovenantError as trouble:
            _log.error("failed", run=run, stage=stage, reason=str(trouble))
            raise TaskRefused(
                RefusalCode.FAILED, f"could not compute the {stage.lower()} stage; the site's log says why"
            ) from trouble
