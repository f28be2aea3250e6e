"""Sums in which the centre sees what each site sends: for development, and for plans that say so by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from coordinator.rounds.asking import Asked, Asking, TooFewSurvivors, note_missing
from coordinator.rounds.question import Pooled, Question, Receipt, RunDocuments, Settle, Settled
from coordinator.rounds.reading import pooled_moments
from coordinator.rounds.roster import because
from protos.codec import encode_request
from protos.frames import Body, Moments, Request, ScoreCounts, Stage, Task, Update
from protos.plan_panels import evaluation_cells
from strategies.aggregation import Contribution
from strategies.analytics.moments import fault_of
from strategies.dp.evaluation_cells import EvaluationCells
from strategies.errors import CovenantError
from strategies.ids import SiteName

Sent = Moments | Update | ScoreCounts


@dataclass(frozen=True, slots=True)
class PlainSums:
    """`Sums` of what sites send in the clear."""

    documents: RunDocuments
    asking: Asking
    task: Callable[[], Task]
    """The run's documents with the statements of its witnesses, as they are now."""

    def pool(self, question: Question, settle: Settle) -> Pooled:
        """See `Sums.pool`: one exchange."""
        statement = question.statement(self.documents, question.roster, with_optimizer=False)
        request = Request(
            statement=statement,
            task=self.task(),
            scaling=question.scaling,
            model=question.model,
            champion=self.documents.champion_in(question.stage),
        )
        asked = Asked(dict.fromkeys(question.roster, encode_request(request)), lambda _: statement.digest)
        bodies: dict[SiteName, Body] = {}
        missing = self.asking.ask(question.stage, question.number, asked, bodies.__setitem__)
        sent = self._fitting(question, bodies, missing)
        survivors = tuple(sorted(sent))
        settle(Settled(survivors=survivors, statement=statement.digest))
        return self._pooled(question.stage, survivors, sent)

    def reopen(self, question: Question, opening: bytes, receipt: Receipt) -> Pooled:  # noqa: ARG002 (the protocol's signature)
        """See `Sums.reopen`: what came in the clear was never closed."""
        raise CovenantError(
            f"round {question.number} has {len(opening)} bytes of a sum to open, but the plan aggregates in the clear"
        )

    def _fitting(
        self, question: Question, bodies: Mapping[SiteName, Body], missing: dict[SiteName, str]
    ) -> Mapping[SiteName, Sent]:
        """The bodies of the right kind and shape, with figures that rows can have. Raises `TooFewSurvivors`."""
        kind, shape = self._expected(question)
        fitting: dict[SiteName, Sent] = {}
        for site, body in bodies.items():
            if not isinstance(body, Moments | Update | ScoreCounts) or not isinstance(body, kind):
                missing[site] = f"sent {type(body).__name__}"
            elif _shape(body) != shape:
                missing[site] = f"sent an array of shape {_shape(body)}; this stage takes {shape}"
            elif isinstance(body, ScoreCounts) and len(body.panels) != self._panels:
                missing[site] = f"sent {len(body.panels)} cells of panels; this plan has {self._panels}"
            elif isinstance(body, ScoreCounts) and not self._is_possible(body):
                missing[site] = "sent counts of more rows than a site can have"
            elif isinstance(body, Moments) and (fault := fault_of(body.vector)) is not None:
                missing[site] = f"sent {fault}"
            else:
                fitting[site] = body
        note_missing(question.stage, question.number, missing)
        minimum = self.documents.plan.sites.minimum
        if len(fitting) < minimum:
            raise TooFewSurvivors(
                f"{len(fitting)} of at least {minimum} sites answered the {question.stage.name.lower()} stage of round"
                f" {question.number}: {because(missing)}"
            )
        return fitting

    @property
    def _cells(self) -> EvaluationCells:
        return evaluation_cells(self.documents.plan, self.documents.contract)

    @property
    def _panels(self) -> int:
        """How many cells there are behind the score counts."""
        return self._cells.dimension - self._cells.scored

    def _is_possible(self, body: ScoreCounts) -> bool:
        """Whether no cell is beyond what a site of 2^31 rows can have, so that no sum wraps."""
        most = self._cells.levels
        return bool((body.counts <= most // self._cells.steps).all() and (np.abs(body.panels) <= most).all())

    def _expected(self, question: Question) -> tuple[type[Sent], tuple[int, ...]]:
        match question.stage:
            case Stage.PREPARE:
                return Moments, (3 * len(self.documents.features.numeric),)
            case Stage.TRAIN:
                return Update, () if question.model is None else question.model.shape
            case Stage.EVALUATE:
                return ScoreCounts, (2, self._cells.scored // 2)

    def _pooled(self, stage: Stage, survivors: tuple[SiteName, ...], sent: Mapping[SiteName, Sent]) -> Pooled:
        if stage is Stage.EVALUATE:
            cells = [
                np.concatenate((body.counts.ravel() * self._cells.steps, body.panels))
                for body in sent.values()
                if isinstance(body, ScoreCounts)
            ]
            return Pooled(survivors, np.sum(cells, axis=0))
        plan = self.documents.plan
        vectors = {site: body.vector for site, body in sent.items() if not isinstance(body, ScoreCounts)}
        if stage is Stage.PREPARE:
            return pooled_moments(plan, vectors)
        updates = [Contribution(site, each, plan.weight_of(site)) for site, each in vectors.items()]
        return Pooled(survivors, plan.aggregation.update_rule.aggregate(updates))


def _shape(body: Sent) -> tuple[int, ...]:
    return body.counts.shape if isinstance(body, ScoreCounts) else body.vector.shape
