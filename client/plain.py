"""A site's side of plain aggregation: what it computes is shown to the centre as it is, so only a plan that says so is answered."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import structlog

from client.admission.documents import Accepted
from client.admission.requests import check_named, check_statement
from client.refusal import TaskRefused
from client.shared_models import KeepModel
from client.training import Session, TrainingSession
from client.training.champion import Scorer, champion_of
from client.training.pace import Pace
from protos.codec_fields import CodecError
from protos.frames import Moments, RefusalCode, Request, ScoreCounts, Stage, Statement, Task, Update
from protos.plan_panels import evaluation_cells
from strategies.ids import RunId, SiteName

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class PlainRounds:
    """The plain aggregation of one site."""

    site: SiteName
    accept: Callable[[Task, RunId], Accepted]
    """Judges the documents of a run."""
    require_all: Callable[[Collection[SiteName], RunId], None]
    """Judges whether a whole roster has witnessed a run."""
    session_of: Callable[[Accepted, RunId], Session]
    """Loads the data that a run is about."""
    keep_model: KeepModel
    """Is shown each model that this site works on."""
    pace_of: Callable[[Statement, float], Pace]
    """The pace of a computation for a statement, whose round has so many seconds."""

    def answer(self, request: Request) -> Moments | Update | ScoreCounts:
        """What the request asks for. Raises `TaskRefused`, what `accept` and `session_of` raise, and `CodecError` for a request without its parts."""
        check_named(request)
        accepted = self.accept(request.task, request.statement.run)
        check_statement(request.statement, accepted, site=self.site)
        self.require_all(request.statement.roster, request.statement.run)
        _require_plain(accepted)
        session = self.session_of(accepted, request.statement.run)
        if not isinstance(session, TrainingSession):
            raise TaskRefused(RefusalCode.PROTOCOL, "a private plan aggregates securely")
        pace = self.pace_of(request.statement, accepted.plan.training.round_deadline)
        champion = champion_of(accepted.plan, accepted.contract, request.statement.stage, request.champion)
        body = _computed(request, accepted, session, champion, pace)
        if request.model is not None and request.scaling is not None:
            self.keep_model(accepted, request.statement, request.model, request.scaling)
        return body


def _require_plain(accepted: Accepted) -> None:
    """Nothing leaves unmasked under a plan that aggregates securely."""
    if accepted.plan.aggregation.mode != "plain":
        raise TaskRefused(
            RefusalCode.PROTOCOL,
            "the plan aggregates securely; this request would show the centre what this site computes",
        )


def _computed(
    request: Request, accepted: Accepted, session: TrainingSession, champion: Scorer | None, pace: Pace
) -> Moments | Update | ScoreCounts:
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
        return Update(session.train(model, scaling, said.round, pace))
    cells, counts = (
        evaluation_cells(accepted.plan, accepted.contract),
        session.evaluate(model, scaling, champion),
    )
    # Score counts travel as whole rows, and panels in the steps of the vector.
    own = counts[: cells.scored].reshape(-1, cells.bins) // cells.steps
    return ScoreCounts(own, counts[cells.scored :])
