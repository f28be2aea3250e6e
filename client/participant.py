"""One site in the rounds of its federation: judges what it is asked, computes it, and answers the same request the same way.

1. Nothing is read, and nothing computed, before the documents of the request have passed `plan_check`. Documents that have are
   remembered by digest for as long as the agent runs with one configuration.
2. An attempt at a round is answered once, and the answer is in the journal before it leaves: asked again, also after a restart,
   the site sends the same bytes; asked for another statement, it refuses.
3. A refusal that depends on rows says `contract` and nothing more; its reason goes to the site's own log.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TypeVar

import structlog

from client.data import DataError, load_table
from client.journal.answers import Answers
from client.plan_check import Accepted, TaskRefused, check_statement, check_task
from client.training import TrainingSession
from protos.codec import CodecError, decode_request, encode_reply
from protos.frames import (
    Body,
    Moments,
    Refusal,
    RefusalCode,
    Reply,
    Request,
    ScoreCounts,
    Stage,
    Update,
)
from protos.membership import RootPublic
from protos.site import SiteConfig
from strategies.encoding import sha256_hex
from strategies.errors import CovenantError
from strategies.ids import Digest, SiteName

_KEPT_SESSIONS = 4
K = TypeVar("K")
V = TypeVar("V")
_log = structlog.get_logger(__name__)


@dataclass
class Participant:
    """A site's computations, kept warm between messages."""

    config: SiteConfig
    root: RootPublic
    identity_key: str
    """The site's public identity key in base64, which the member list must name."""
    answers: Answers
    """What this site has answered already, on disk."""

    _accepted: OrderedDict[tuple[Digest, Digest, Digest], Accepted] = field(default_factory=OrderedDict)
    _sessions: OrderedDict[tuple[Digest, Digest], TrainingSession] = field(default_factory=OrderedDict)

    @property
    def site(self) -> SiteName:
        """This site's name."""
        return self.config.site

    def close(self) -> None:
        """Let go of the journal."""
        self.answers.journal.close()

    def answer(self, frame: bytes) -> bytes:
        """The reply frame to a request frame.

        Raises `CodecError` if that is no request at all, and `JournalBroken` if the reply could not be recorded: then nothing
        may leave this site any more.
        """
        request = decode_request(frame)
        try:
            kept = self.answers.kept(request.statement)
            return kept if kept is not None else self._first_answer(request)
        except TaskRefused as refusal:
            _log.error("refused", run=request.statement.run, code=refusal.code.name, reason=str(refusal))
            return self._reply(request, Refusal(refusal.code, str(refusal)))
        except DataError as trouble:
            _log.error("refused", run=request.statement.run, code="CONTRACT", reason=str(trouble))
            return self._reply(request, Refusal(RefusalCode.CONTRACT))

    def _first_answer(self, request: Request) -> bytes:
        """Judge, compute, record; raises `TaskRefused` and `DataError`, which are answers too."""
        try:
            accepted = self._accepted_task(request)
            check_statement(request.statement, accepted, site=self.site)
            body = self._compute(request, self._session(accepted))
        except (TaskRefused, DataError):
            raise
        except CovenantError as trouble:
            stage = request.statement.stage.name
            _log.error("failed", run=request.statement.run, stage=stage, reason=str(trouble))
            raise TaskRefused(
                RefusalCode.FAILED, f"could not compute the {stage.lower()} stage; the site's log says why"
            ) from trouble
        reply = self._reply(request, body)
        self.answers.record(request.statement, reply)
        return reply

    def _reply(self, request: Request, body: Body) -> bytes:
        return encode_reply(Reply(statement_digest=request.statement.digest, site=self.site, body=body))

    def _accepted_task(self, request: Request) -> Accepted:
        """The documents of `request`, judged once; their bytes hash to the statement's digests each time."""
        said, task = request.statement, request.task
        key = (sha256_hex(task.plan), sha256_hex(task.contract), sha256_hex(task.members))
        if key != (said.plan_digest, said.contract_digest, said.members_digest) or key not in self._accepted:
            accepted = check_task(request, config=self.config, root=self.root, identity_key=self.identity_key)
            _keep(self._accepted, key, accepted, _KEPT_SESSIONS)
        return self._accepted[key]

    def _session(self, accepted: Accepted) -> TrainingSession:
        """The training session of a plan on this site's data, made once."""
        key = (accepted.plan.digest, accepted.contract.digest)
        if key not in self._sessions:
            table = load_table(accepted.source, accepted.contract)
            session = TrainingSession(
                accepted.plan, accepted.contract, table, site=self.site, threads=self.config.run.cpu_threads
            )
            training, held_out = session.rows
            _log.info("data loaded", plan=accepted.plan.name, training_rows=training, held_out_rows=held_out)
            _keep(self._sessions, key, session, _KEPT_SESSIONS)
        return self._sessions[key]

    def _compute(self, request: Request, session: TrainingSession) -> Body:
        said, model, scaling = request.statement, request.model, request.scaling
        if said.stage is Stage.PREPARE:
            return Moments(session.moments())
        if model is None or scaling is None:
            raise CodecError(f"a {said.stage.name.lower()} request without model or scaling")
        if model.size != session.model.size:
            raise TaskRefused(
                RefusalCode.PROTOCOL, f"a model of {model.size} values; the plan's has {session.model.size}"
            )
        _log.info("computing", run=said.run, stage=said.stage.name, round=said.round)
        if said.stage is Stage.TRAIN:
            return Update(session.train(model, scaling, said.round))
        return ScoreCounts(session.evaluate(model, scaling))


def _keep(kept: OrderedDict[K, V], key: K, value: V, most: int) -> None:
    """Keep `value`, and let go of the oldest beyond `most`."""
    kept[key] = value
    while len(kept) > most:
        kept.popitem(last=False)
