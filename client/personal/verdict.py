"""The last word: global, personal and purely local model on rows that none of them was trained or tuned on, in words that say no more than the rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from client.personal.blend import Blend
from client.personal.making import seed_of
from client.personal.measures import Comparison, Gain, Interval, compare, level
from client.personal.parts import Rows
from client.shared_models import SharedModel
from strategies.encoding import Vector
from strategies.ids import SiteName

GLOBAL, PERSONAL, LOCAL = "global", "personal", "local"
NAMES: Final = (GLOBAL, PERSONAL, LOCAL)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What `rows` held-out rows say. `comparison` has the three models by name."""

    comparison: Comparison
    rows: int
    positives: int
    is_weighted: bool

    @property
    def best(self) -> tuple[str, ...]:
        """The models that none of the others is shown to be better than; never empty, because losses are ordered."""
        found = self.comparison
        return tuple(
            name
            for name in NAMES
            if not any(found.gain(other, name).is_better for other in NAMES if other != name)
        )

    @property
    def loss_name(self) -> str:
        """What the loss is called."""
        return "loss by the plan's class weights" if self.is_weighted else "log loss"

    @property
    def sentences(self) -> list[str]:
        """For people: each model against the global one, the best, and how much this can be relied on."""
        found = self.comparison
        said = [self._against_global(name, found.gain(name, GLOBAL)) for name in (PERSONAL, LOCAL)]
        said.append(self._best())
        if found.looks > 1:
            said.append(
                f"These held-out rows have been looked at {found.looks} times. Intervals are at {level(found.looks):.2%} each, so that all looks together mislead in one"
                " of 20 cases; the more often they are looked at, the less they can say."
            )
        return said

    def _against_global(self, name: str, gain: Gain) -> str:
        title = {PERSONAL: "The personal model", LOCAL: "The purely local model"}[name]
        figures = f"{gain_words(gain, self.loss_name)}, at {level(self.comparison.looks):.2%} confidence"
        if gain.is_better:
            order = (
                ""
                if gain.auc.is_above_zero
                else " That it ranks better, they do not show: its scores are nearer to what happens."
            )
            return f"{title} is better than the global one on these {self.rows} rows: {figures}.{order}"
        if gain.is_worse:
            return f"{title} is worse than the global one on these {self.rows} rows: {figures}."
        return f"{title} and the global one: no difference that these {self.rows} rows can show ({figures})."

    def _best(self) -> str:
        best = self.best
        if len(best) == 1:
            return f"Best here: the {_title(best[0])} model, by more than chance."
        listed = f"{', '.join(map(_title, best[:-1]))} and {_title(best[-1])}"
        keep = (
            " The global model is as good as any here, and is the one that others look after."
            if GLOBAL in best
            else ""
        )
        return f"These {self.rows} rows show no difference between {listed}.{keep}"

    def facts(self) -> dict[str, Any]:
        """As JSON."""
        found = self.comparison
        return {
            "rows": self.rows,
            "positives": self.positives,
            "looks": found.looks,
            "confidence": level(found.looks),
            "loss": self.loss_name,
            "models": {
                name: {
                    "auc": _facts(each.auc),
                    "loss": _facts(each.loss),
                    "mean_score": each.mean_score,
                    "calibration_error": each.calibration_error,
                }
                for name, each in found.measured.items()
            },
            "gain_over_global": {name: gain_facts(found.gain(name, GLOBAL)) for name in (PERSONAL, LOCAL)},
            "gain_of_personal_over_local": gain_facts(found.gain(PERSONAL, LOCAL)),
            "best": list(self.best),
            "words": self.sentences,
        }


def judge(
    shared: SharedModel, personal: Blend, local: Vector, held_out: Rows, *, site: SiteName, looks: int
) -> Verdict:
    """Compare the three on the `held_out` rows. Raises Refused where these are too few."""
    held_out.require_enough()
    alone = Blend(shape=personal.shape, shared=personal.shared, own=local, alpha=1.0)
    none = Blend(shape=personal.shape, shared=personal.shared, own=local, alpha=0.0)
    scores = {
        name: each.scores(held_out.x) for name, each in zip(NAMES, (none, personal, alone), strict=True)
    }
    weights = shared.plan.training.class_weights
    return Verdict(
        compare(scores, held_out, seed=seed_of(shared, site, "held-out"), looks=looks),
        len(held_out),
        int(held_out.y.sum()),
        weights.negative != weights.positive or weights.positive != 1.0,
    )


def gain_facts(gain: Gain) -> dict[str, Any]:
    """A gain as JSON."""
    return {"loss": _facts(gain.loss), "auc": _facts(gain.auc)}


def gain_words(gain: Gain, loss_name: str) -> str:
    """A gain with its intervals."""
    return f"{loss_name} lower by {_signed(gain.loss)}, AUC changes by {_signed(gain.auc)}"


def _facts(found: Interval) -> dict[str, float]:
    return {"value": found.value, "low": found.low, "high": found.high}


def _signed(found: Interval) -> str:
    return f"{found.value:+.4f} ({found.low:+.4f} to {found.high:+.4f})"


def _title(name: str) -> str:
    return "purely local" if name == LOCAL else name
