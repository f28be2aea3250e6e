"""One site in the rounds of its federation: judges what it is asked, computes it, and answers the same request the same way.

1. Nothing is read, and nothing computed, before the documents of the request have passed `plan_check`. Documents that have are
   remembered by digest for as long as the agent runs with one configuration.
2. A statement is answered once: asked again, the site sends the stored reply; it never answers with other bytes.
3. A refusal that depends on rows says `contract` and nothing more; its reason goes to the site's own log.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TypeVar

import structlog

from client.data import DataError, load_table
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

_KEPT_REPLIES = 4
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

    _accepted: OrderedDict[tuple[Digest, Digest, Digest], Accepted] = field(default_factory=OrderedDict)
    _sessions: OrderedDict[tuple[Digest, Digest], TrainingSession] = field(default_factory=OrderedDict)
    _replies: OrderedDict[Digest, bytes] = field(default_factory=OrderedDict)

    @property
    def site(self) -> SiteName:
        """This site's name."""
        return self.config.site

    def answer(self, frame: bytes) -> bytes:
        """The reply frame to a request frame; raises `CodecError` if that is no request at all."""
        request = decode_request(frame)
        asked = request.statement.digest
        if asked not in self._replies:
            body = self._judge(request)
            reply = encode_reply(Reply(statement_digest=asked, site=self.site, body=body))
            _keep(self._replies, asked, reply, _KEPT_REPLIES)
        return self._replies[asked]

    def _judge(self, request: Request) -> Body:
        said = request.statement
        try:
            accepted = self._accepted_task(request)
            check_statement(said, accepted, site=self.site)
            return self._compute(request, self._session(accepted))
        except TaskRefused as refusal:
            _log.error("refused", run=said.run, code=refusal.code.name, reason=str(refusal))
            return Refusal(refusal.code, str(refusal))
        except DataError as trouble:
            _log.error("refused", run=said.run, code=RefusalCode.CONTRACT.name, reason=str(trouble))
            return Refusal(RefusalCode.CONTRACT)
        except CovenantError as trouble:
            _log.error("failed", run=said.run, stage=said.stage.name, reason=str(trouble))
            return Refusal(
                RefusalCode.FAILED,
                f"could not compute the {said.stage.name.lower()} stage; the site's log says why",
            )

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
