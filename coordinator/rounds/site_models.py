"""Which model each site of a run has, and what leads it to the next: the aggregate, and a checkpoint where it has missed rounds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from coordinator.rounds.question import Question
from coordinator.rounds.record import Step
from protos.frames import Checkpoint, SecureAnswer, Stage
from protos.secure_codec import decode_testimony
from strategies.encoding import Vector, vector_digest
from strategies.ids import Digest, SiteName


@dataclass(frozen=True, slots=True)
class Lead:
    """What a site is sent to compute the model of a statement: nothing where it has it already, the aggregate of the `step` to it, and a checkpoint
    where it has `lost` its way. Both are read when they are sent, and held by nobody meanwhile."""

    step: Step | None = None
    lost: bool = False

    @property
    def aggregate(self) -> Vector | None:
        """The aggregate, (d,) float64."""
        return None if self.step is None else self.step.aggregate

    @property
    def checkpoint(self) -> Checkpoint | None:
        """The state before the step."""
        return None if self.step is None or not self.lost else _checkpoint(self.step)


@dataclass
class SiteModels:
    """What sites say that they have. `step_to` reads how the model after a committed round came about."""

    step_to: Callable[[int], Step]
    _holds: dict[SiteName, Digest] = field(default_factory=dict)

    def note(self, site: SiteName, answer: SecureAnswer) -> None:
        """Remember which model a site says it has."""
        if answer.holds is None:
            self._holds.pop(site, None)
        else:
            self._holds[site] = answer.holds

    def leads(self, question: Question, sites: Iterable[SiteName]) -> Mapping[SiteName, Lead]:
        """What each of `sites` is sent to be at the model of `question`. Everybody can compute the first model."""
        number = question.number - 1 if question.stage is Stage.TRAIN else question.number
        here = None if question.model is None or number < 1 else vector_digest(question.model)
        found = {site: Lead() for site in sites}
        behind = [site for site in found if here is not None and self._holds.get(site) != here]
        if behind:
            step = self.step_to(number)
            for site in behind:
                found[site] = Lead(step, lost=self._holds.get(site) != step.model)
        return found


def _checkpoint(step: Step) -> Checkpoint | None:
    """The state before `step`, with who signed that they were told of it; None for the first, which everybody can compute."""
    if step.number == 1 or step.testimony is None:
        return None
    before = step.before
    return Checkpoint(
        model=before.model,
        optimizer=before.optimizer,
        testimony=decode_testimony(step.testimony),
    )
