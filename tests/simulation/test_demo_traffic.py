"""The applicants of the full demo: a campaign that anybody's counts show, and a window of ordinary ones that they do not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from coordinator.deploy.monitoring.causes import JudgedWindow, cause_of
from coordinator.deploy.monitoring.judging import INPUT, judge
from coordinator.deploy.monitoring.watched import Watched
from coordinator.deploy.scoring.windows.account import windows_that_fit
from protos.contract import Contract
from protos.documents import load_document
from protos.drift import DriftReference, DriftRules
from protos.plan import Plan
from protos.windows import Counted, Monitor, Window
from simulation.demo import data
from simulation.demo.demonstration import applicants_of
from simulation.demo.traffic import APPLICANTS, FEATURE, LARGE, SHARE, Traffic
from strategies.analytics.profiles import Profile

REFERENCE_STD, WINDOW_STD = 21.4, 18.8
"""Of the plan's evaluation and of the monitor: 1.8 times the root of 46 in counts of a profile, 4 times the root of 22."""
DIGEST = "ab" * 32


class Counting:
    """The demo's held-out loans, counted with noise as its evaluation and its monitor do."""

    def __init__(self, folder: Path) -> None:
        self.plan = load_document(data.copy_document(data.PLAN, folder), Plan)
        self.contract = load_document(data.copy_document(data.CONTRACT, folder), Contract)
        self.monitor = load_document(data.copy_document(data.MONITOR, folder), Monitor)
        self.loans = applicants_of(self.plan, self.contract, data.tables(self.contract))
        self.profile: Profile = self.contract.profile(self.plan.features, self.monitor.profile_bins)
        self.random = np.random.default_rng(0)

    def traffic(self) -> Traffic:
        return Traffic(self.loans, self.contract.feature_spec(self.plan.features), self.contract)

    def counts(self, places: np.ndarray, std: float) -> dict[str, tuple[int, ...]]:
        exact = self.profile.counts({name: each[places] for name, each in self.loans.columns.items()})
        noisy = exact + np.rint(self.random.normal(0.0, std, exact.size)).astype(int)
        parts = np.split(noisy, np.cumsum(self.profile.sizes)[:-1])
        return {
            each.name: tuple(map(int, part)) for each, part in zip(self.profile.features, parts, strict=True)
        }

    def scores(self, places: np.ndarray) -> tuple[int, ...]:
        """Interest rates stand for scores: the riskier, the higher."""
        rates = np.asarray(self.loans.columns["int_rate"])[places]
        return tuple(np.histogram(rates, self.monitor.score_bins, (0.0, 36.0))[0].tolist())

    def watched(self) -> Watched:
        everybody = np.arange(len(self.loans.keys))
        bad = self.loans.target > 0
        reference = DriftReference(
            model="lending-default@1",
            version_digest=DIGEST,
            contract=DIGEST,
            noise_std=REFERENCE_STD / 5,
            profile_noise_std=REFERENCE_STD,
            scores=(self.scores(everybody[~bad]), self.scores(everybody[bad])),
            profile=self.counts(everybody, REFERENCE_STD),
            labels=self.profile.labels,
        )
        return Watched(
            name="lending-default", version=1, monitor=self.monitor, rules=DriftRules(), reference=reference
        )

    def window(self, places: np.ndarray) -> Window:
        return Window(
            place="branch",
            model="lending-default@1",
            version_digest=DIGEST,
            contract=DIGEST,
            monitor=self.monitor.digest,
            number=1,
            sequence=1,
            begins="2026-01-01T00:00:00Z",
            ends="2026-01-01T00:00:06Z",
            spent=1.0,
            counted=Counted(
                noise_std=WINDOW_STD, scores=self.scores(places), profile=self.counts(places, WINDOW_STD)
            ),
        )


@pytest.fixture(scope="module")
def counting(tmp_path_factory: pytest.TempPathFactory) -> Counting:
    return Counting(tmp_path_factory.mktemp("documents"))


def test_a_campaign_is_named_as_another_population_by_the_feature_that_it_is_about(
    counting: Counting,
) -> None:
    watched, traffic = counting.watched(), counting.traffic()
    for _ in range(2):
        usual = counting.window(traffic.ordinary())
        other = counting.window(traffic.campaign())

        assert judge(usual, watched.reference, watched.rules, "logit").moved == ()
        judged = judge(other, watched.reference, watched.rules, "logit")
        cause = cause_of(watched, JudgedWindow(other, judged.facts()), [])

        assert f"{INPUT}{FEATURE}" in judged.moved
        assert (cause.kind, cause.features[0].feature) == ("population shift", FEATURE)


def test_a_campaign_brings_large_loans_and_changes_none(counting: Counting) -> None:
    places = counting.traffic().campaign()
    amounts = np.asarray(counting.loans.columns[FEATURE])

    assert len(places) == APPLICANTS
    assert abs((amounts[places] >= LARGE).mean() - SHARE) < 0.04  # four standard deviations
    assert (amounts >= LARGE).mean() < 0.4


def test_the_monitor_bears_the_windows_that_the_demo_waits_for(counting: Counting) -> None:
    fits, period = windows_that_fit(counting.monitor)

    assert 20 <= fits < period  # of later ones nothing leaves the branch
