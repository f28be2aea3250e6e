"""Comparisons over several seeds, as means with their spread."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from simulation.payments.comparison import Arm, Comparison, Recall, compare
from simulation.payments.setting import Setting
from strategies.dp.units import Guarantee
from strategies.errors import UsageError
from strategies.ids import SiteName


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure of several seeds: `sd` is None of one."""

    mean: float
    sd: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Mean and sample standard deviation."""
        return cls(fmean(values), stdev(values) if len(values) > 1 else None)

    @property
    def words(self) -> str:
        """`0.903 ± 0.012`."""
        return f"{self.mean:.3f}" if self.sd is None else f"{self.mean:.3f} ± {self.sd:.3f}"


@dataclass(frozen=True, slots=True)
class StudyResult:
    """One comparison a seed, at least one."""

    comparisons: tuple[Comparison, ...]

    @property
    def arms(self) -> tuple[Arm, ...]:
        """The models that were compared."""
        return tuple(self.comparisons[0].f1)

    @property
    def guarantee(self) -> Guarantee | None:
        """What the private model costs, which no seed changes."""
        return self.comparisons[0].guarantee

    def mean(self, arm: Arm) -> Spread:
        """F1 on each bank's own later days, mean over banks."""
        return Spread.of([each.mean(arm) for each in self.comparisons])

    def mean_everywhere(self, arm: Arm) -> Spread:
        """F1 on all banks' later days, mean over banks."""
        return Spread.of([each.mean_everywhere(arm) for each in self.comparisons])

    def recalls(self) -> dict[str, Recall]:
        """What is caught, all seeds together: by typology, and of typologies that the bank had hardly seen or had seen."""
        kinds = self.comparisons[0].recall
        parts = {kind: [each.recall[kind] for each in self.comparisons] for kind in kinds}
        parts["hardly seen by the bank"] = [each.hardly_seen for each in self.comparisons]
        parts["seen by the bank"] = [each.seen for each in self.comparisons]
        return {name: _added(several) for name, several in parts.items()}

    def facts(self) -> dict[str, object]:
        """The study as one JSON object."""
        guarantee = self.guarantee
        return {
            "bench": "payments",
            "setting": self.comparisons[0].setting.facts(),
            "seeds": [each.setting.seed for each in self.comparisons],
            "payments": [each.payments for each in self.comparisons],
            "fraud_late": [each.fraud_late for each in self.comparisons],
            "mean_f1": {arm: _spread(self.mean(arm)) for arm in self.arms},
            "mean_f1_everywhere": {arm: _spread(self.mean_everywhere(arm)) for arm in self.arms},
            "f1_by_bank": [_by_bank(each.f1) for each in self.comparisons],
            "recall": {
                name: {"payments": each.payments, "caught": dict(each.caught), "shares": each.shares()}
                for name, each in self.recalls().items()
            },
            "privacy": None
            if guarantee is None
            else {
                "epsilon": guarantee.epsilon,
                "delta": guarantee.delta,
                "unit": guarantee.unit.kind.value,
                "neighbours": guarantee.neighbours.value,
                "words": guarantee.words,
            },
        }


def study(
    settings: Sequence[Setting],
    *,
    arms: Sequence[str] | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> StudyResult:
    """One comparison of each setting. Raises UsageError for an arm that there is not, and as `compare`."""
    chosen = tuple(arm for arm in Arm if not arms or arm in arms)
    strangers = [arm for arm in arms or () if arm not in set(Arm)]
    if strangers:
        *first, last = Arm
        raise UsageError(f"arm is {strangers[0]}; use {', '.join(first)} or {last}")
    return StudyResult(tuple(compare(each, arms=chosen, progress=progress) for each in settings))


def _added(parts: Sequence[Recall]) -> Recall:
    return Recall(
        payments=sum(each.payments for each in parts),
        caught={arm: sum(each.caught[arm] for each in parts) for arm in parts[0].caught},
    )


def _spread(found: Spread) -> dict[str, float | None]:
    return {"mean": found.mean, "sd": found.sd}


def _by_bank(figures: Mapping[Arm, Mapping[SiteName, float]]) -> dict[Arm, dict[str, float]]:
    return {arm: {str(bank): value for bank, value in by_bank.items()} for arm, by_bank in figures.items()}
