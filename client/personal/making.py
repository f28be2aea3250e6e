"""From a shared model and a site's rows to one personal model, and whether it is offered.

1. Candidates are the fine-tuned model and mixtures; the rows for tuning choose one of them.
2. The rows of the gate have chosen nothing. The one that was chosen is offered if it is better on them than the shared model, by more than chance.
3. Seeds follow from the shared model and the site: whoever asks twice gets the same model, and not a second throw of the dice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from client.personal.blend import Blend
from client.personal.fitting import Fitted, fit, losses
from client.personal.measures import Gain, compare
from client.personal.parts import Parts
from client.shared_models import SharedModel
from strategies.encoding import Vector, digest_of
from strategies.ids import SiteName

PULLS: Final = (0.01, 0.1, 1.0)
"""Strengths of the pull to the shared model that fine-tuning tries."""
WEIGHTS: Final = (0.25, 0.5, 0.75, 1.0)
"""How much the site's own model may count in a mixture."""
_RIDGE: Final = 1e-3
"""The pull of the purely local model to zero."""
_TOP: Final = 1 << 63

Method = Literal["fine-tuned", "local"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """The personal model before the gate: whose own part is the `method`'s, and the purely local model, (d,), beside it."""

    blend: Blend
    local: Vector
    method: Method
    pull: float
    passes: int

    @property
    def words(self) -> str:
        """How it was made."""
        own = (
            f"fine-tuned with pull {self.pull:g}"
            if self.method == "fine-tuned"
            else "trained on local rows alone"
        )
        if self.blend.alpha == 1.0:
            return f"the shared model, {own}, {self.passes} passes"
        return f"{self.blend.alpha:.0%} of a model {own}, {self.passes} passes, and {1 - self.blend.alpha:.0%} of the shared one"


def choose(
    shared: SharedModel, parts: Parts, *, site: SiteName, threads: int, tell: Callable[[str], None]
) -> Chosen:
    """Train and tune; rows of the gate and held-out ones are not looked at. Raises Refused where a part has too few rows."""
    for part in (parts.train, parts.tune, parts.gate):
        part.require_enough()
    seed, shape = seed_of(shared, site, "batches"), shared.shape
    tell(f"training on {len(parts.train)} rows: the purely local model")
    alone = fit(
        shape, shape.initial(shared.plan.training.seed), np.zeros(shape.size), _RIDGE, parts.train, parts.tune,
        seed=seed, threads=threads,
    )  # fmt: skip
    tried: list[tuple[Method, float, Fitted]] = [("local", _RIDGE, alone)]
    for pull in PULLS:
        tell(f"training on {len(parts.train)} rows: fine-tuning with pull {pull:g}")
        tuned = fit(
            shape, shared.vector, shared.vector, pull, parts.train, parts.tune, seed=seed, threads=threads
        )
        tried.append(("fine-tuned", pull, tuned))
    candidates = _candidates(shared, alone.vector, tried)
    return min(candidates, key=lambda each: _tuning_loss(each, parts))


def gate(chosen: Chosen, parts: Parts, *, seed: int, looks: int) -> Gain:
    """What the personal model gains over the shared one on the rows of the gate."""
    shared = Blend(shape=chosen.blend.shape, shared=chosen.blend.shared, own=chosen.blend.own, alpha=0.0)
    scores = {"global": shared.scores(parts.gate.x), "personal": chosen.blend.scores(parts.gate.x)}
    return compare(scores, parts.gate, seed=seed, looks=looks).gain("personal", "global")


def seed_of(shared: SharedModel, site: SiteName, purpose: str) -> int:
    """A seed for one purpose, below 2^63."""
    return int(digest_of(["covenant/personal/1", shared.digest, site, purpose])[:16], 16) % _TOP


def _candidates(
    shared: SharedModel, alone: Vector, tried: list[tuple[Method, float, Fitted]]
) -> Iterator[Chosen]:
    for method, pull, fitted in tried:
        for alpha in WEIGHTS:
            if method == "local" and alpha == 1.0:
                continue  # that one is told apart, as the purely local model
            blend = Blend(shape=shared.shape, shared=shared.vector, own=fitted.vector, alpha=alpha)
            yield Chosen(blend=blend, local=alone, method=method, pull=pull, passes=fitted.passes)


def _tuning_loss(chosen: Chosen, parts: Parts) -> float:
    with np.errstate(all="ignore"):
        found = float(losses(chosen.blend.scores(parts.tune.x), parts.tune).mean())
    return found if np.isfinite(found) else np.inf
