"""A version that is watched, of real documents, and windows that its places release: counts drawn from a population, with the noise that they say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from pathlib import Path
from shutil import copyfile
from typing import Any

import numpy as np
import pytest

from coordinator.db import open_database
from coordinator.db.engine import reading
from coordinator.deploy.monitoring.watched import reference_of
from coordinator.office.actors import here
from coordinator.office.monitoring import watch
from protos.contract import Contract
from protos.documents import read_document
from protos.drift import DriftReference, DriftRules
from protos.plan import Plan
from protos.windows import Counted, Monitor, Outcomes, Window
from strategies.analytics.panels import Panels, ProfilePanel
from strategies.features import CategoricalFeature
from tests.coordinator.deploy_for_tests import NAME, Works
from tests.private_plan_for_tests import CONTRACT, PLAN

BINS, SCORES = 10, 20
NOISE, REFERENCE_NOISE = 6.0, 15.0
MONITOR = f"""covenant: monitor/v1
model: {NAME}
window: 1d
profile_bins: {BINS}
score_bins: {SCORES}
score_scale: logit
privacy:
  noise: 2
  limit: {{epsilon: 40, delta: 1e-6}}
  period: 30d
"""
RULES = DriftRules(false_alarm_rate=0.01, horizon=60)
Shares = Mapping[str, np.ndarray]


def shape_of(name: str) -> tuple[str, ...]:
    """The labels of a feature's bins."""
    plan, contract = read_document(PLAN, Plan, "plan"), read_document(CONTRACT, Contract, "contract")
    feature = next(each for each in contract.feature_spec(plan.features).features if each.name == name)
    if isinstance(feature, CategoricalFeature):
        return (*feature.vocabulary, "other")
    return (*(f"{each} to {each + 1}" for each in range(BINS)), "missing")


def features() -> tuple[str, ...]:
    plan = read_document(PLAN, Plan, "plan")
    return tuple(plan.features)


def numbers() -> tuple[str, ...]:
    """Features with bins in order."""
    return tuple(each for each in features() if shape_of(each)[-1] == "missing")


@dataclass
class Population:
    """Whose decisions they are: shares of each feature's bins and of score bins, and the share of outcome 1 by score bin."""

    inputs: dict[str, np.ndarray]
    scores: np.ndarray
    outcomes: np.ndarray

    @classmethod
    def usual(cls) -> Population:
        inputs = {}
        for name in features():
            size = len(shape_of(name))
            shares = np.exp(-(((np.arange(size) - size * 0.4) / (size * 0.25)) ** 2))
            shares[-1] = 0.02
            inputs[name] = shares / shares.sum()
        scores = np.exp(-(((np.arange(SCORES) - 8) / 3.0) ** 2)) + 1e-4
        outcomes = 1.0 / (1.0 + np.exp(-(np.arange(SCORES) - 9.5) * 0.64))
        return cls(inputs, scores / scores.sum(), outcomes)


@dataclass
class Place:
    """What one place releases of a version, window by window."""

    name: str
    reference: DriftReference
    monitor: Monitor
    begins: Any
    rng: np.random.Generator
    noise: float = NOISE
    sequence: int = 0
    numbers: dict[str, int] = field(default_factory=dict)

    def decisions(self, population: Population, rows: int = 4000, **changes: Any) -> Window:
        """The next window."""
        self.numbers["decisions"] = self.numbers.get("decisions", 0) + 1
        counted = Counted(
            noise_std=self.noise,
            scores=self._noisy(population.scores, rows),
            profile={name: self._noisy(each, rows) for name, each in population.inputs.items()},
        )
        return self._window(self.numbers["decisions"], **{"counted": counted, **changes})

    def outcomes(self, population: Population, number: int, rows: int = 4000) -> Window:
        """Outcomes that have arrived for a window that there was."""
        by_bin = self.rng.multinomial(rows, population.scores)
        ones = self.rng.binomial(by_bin, population.outcomes)
        counts = tuple(self._with_noise(each) for each in (by_bin - ones, ones))
        return self._window(number, outcomes=Outcomes(noise_std=self.noise, counts=counts))

    def _noisy(self, shares: np.ndarray, rows: int) -> tuple[int, ...]:
        return self._with_noise(self.rng.multinomial(rows, shares))

    def _with_noise(self, counts: np.ndarray) -> tuple[int, ...]:
        return tuple((counts + np.rint(self.rng.normal(0.0, self.noise, counts.size)).astype(int)).tolist())

    def _window(self, number: int, **told: Any) -> Window:
        self.sequence += 1
        begins = self.begins + (number - 1) * timedelta(days=1)
        return Window(
            **{
                "place": self.name,
                "model": self.reference.model,
                "version_digest": self.reference.version_digest,
                "contract": self.reference.contract,
                "monitor": self.monitor.digest,
                "number": number,
                "sequence": self.sequence,
                "begins": begins,
                "ends": begins + timedelta(days=1),
                "spent": 1.0,
                **told,
            }
        )


def metrics_of(population: Population, rng: np.random.Generator, rows: int = 20_000) -> dict[str, Any]:
    """What an evaluation of `rows` held-out rows would have released, with noise."""

    def noisy(counts: np.ndarray) -> tuple[int, ...]:
        return tuple((counts + np.rint(rng.normal(0.0, REFERENCE_NOISE, counts.size)).astype(int)).tolist())

    by_bin = rng.multinomial(rows, population.scores)
    ones = rng.binomial(by_bin, population.outcomes)
    profile = ProfilePanel(
        counts={name: noisy(rng.multinomial(rows, each)) for name, each in population.inputs.items()},
        labels={name: shape_of(name) for name in population.inputs},
        noise_std=REFERENCE_NOISE,
        scores=(noisy(by_bin - ones), noisy(ones)),
    )
    return {"auc": 0.8, "panels": asdict(Panels(noise_std=REFERENCE_NOISE, profile=profile))}


@dataclass
class Watch:
    """A coordinator with a version that is watched and runs at `branch`, and the places that tell windows."""

    works: Works
    population: Population
    reference: DriftReference
    monitor: Monitor
    rng: np.random.Generator

    @classmethod
    def make(
        cls, works: Works, *, rules: DriftRules = RULES, places: tuple[str, ...] = ("branch",), seed: int = 5
    ) -> Watch:
        """Also deploys the version; the services of `places` need not answer any more."""
        rng, population = np.random.default_rng(seed), Population.usual()
        works.approved(1, metrics_of(population, rng))
        for place in places:
            with works.serving(place):
                works.start(1, place)
                works.drive(place)
        return cls.of(works, population, rng, rules)

    @classmethod
    def of(
        cls,
        works: Works,
        population: Population,
        rng: np.random.Generator,
        rules: DriftRules,
        *,
        protected: tuple[str, ...] = (),
    ) -> Watch:
        with reading(works.centre.engine, "looking") as session:
            reference = reference_of(session, NAME, 1)
        monitor = read_document(MONITOR, Monitor, "monitor").model_copy(update={"protected": protected})
        watch(works.centre, here(), NAME, 1, monitor, rules, "a test")
        return cls(works, population, reference, monitor, rng)

    def place(self, name: str = "branch") -> Place:
        begins = self.works.centre.clock().replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(
            days=60
        )
        return Place(name, self.reference, self.monitor, begins, self.rng)


def tilted(shares: np.ndarray, psi: float) -> np.ndarray:
    """Shares that lean to later bins, by a PSI of `psi`."""
    low, high = 0.0, 20.0
    for _ in range(60):
        middle = (low + high) / 2.0
        leaning = shares * np.exp(middle * np.linspace(-1.0, 1.0, shares.size))
        leaning = leaning / leaning.sum()
        apart = float(((leaning - shares) * np.log(leaning / shares)).sum())
        low, high = (middle, high) if apart < psi else (low, middle)
    return leaning


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, migrated_sqlite: Path) -> Path:
    """A coordinator whose version runs at two places; copied for each test."""
    folder = tmp_path_factory.mktemp("watched")
    copyfile(migrated_sqlite, folder / "covenant.db")
    works = Works.make(folder / "works", open_database(f"sqlite:///{folder / 'covenant.db'}"))
    Watch.make(works, places=("branch", "north"))
    works.centre.engine.dispose()
    return folder


@pytest.fixture
def watched(made: Path, tmp_path: Path) -> Iterator[Watch]:
    copyfile(made / "covenant.db", tmp_path / "watched.db")
    works = Works.opened(made / "works", f"sqlite:///{tmp_path / 'watched.db'}")
    rules = DriftRules(false_alarm_rate=0.01, horizon=60)
    yield Watch.of(works, Population.usual(), np.random.default_rng(8), rules)
    works.centre.engine.dispose()
