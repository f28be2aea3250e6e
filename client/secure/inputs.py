"""What a site adds to a sum of secure aggregation, before it is masked.

1. Under a private plan the site's own account is charged first, and the charge is on disk, before anything is drawn or computed. No receipt, no
   noise, no input.
2. Sample and noise come from fresh secrets for each attempt, which nobody keeps.
3. Nothing here refuses because of what rows hold: whoever chooses the model would learn from a refusal.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar, assert_never

import numpy as np
import structlog

from client.accounts.book import ChargeReceipt
from client.training import PrivateSession, Session, TrainingSession
from client.training.champion import Scorer, champion_of
from client.training.pace import Pace, unhurried
from protos.contract import Contract
from protos.frames import ChampionModel, Stage, Statement
from protos.payloads import payload_of, turning_seed
from protos.plan import Plan
from protos.plan_releases import gradient_grid, releases_of
from protos.plan_training import GradientSums
from strategies.dp.events import Release
from strategies.dp.mechanisms import NoisySum
from strategies.dp.noise import NoiseSeed
from strategies.encoding import Vector
from strategies.errors import UsageError
from strategies.features import Scaling
from strategies.ids import SiteName
from strategies.secagg.payloads import Counts, Integers, Moments, WeightedUpdates, dither_seed
from strategies.secagg.rings import Ring
from strategies.secagg.secrets import SECRET_BYTES, MaskSeed
from strategies.secagg.shamir import Entropy

T = TypeVar("T")
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Inputs:
    """One site's inputs to the sums of one run. `charge` charges a release for the statement that asks for it."""

    site: SiteName
    plan: Plan
    contract: Contract
    session: Session
    charge: Callable[[Release, Statement], ChargeReceipt]
    entropy: Entropy
    pace: Callable[[Statement], Pace] = lambda _: unhurried

    def compute(
        self,
        said: Statement,
        model: Vector | None,
        scaling: Scaling | None,
        sent: ChampionModel | None = None,
    ) -> tuple[Ring, Integers]:
        """The input to the attempt of `said`; `model` and `scaling` are None in the prepare stage, `sent` is the champion of a request that has one.

        Raises `TaskRefused` for another champion than the plan's, `BudgetRefused`.
        """
        champion = champion_of(self.plan, self.contract, said.stage, sent)
        receipt = self._charged(said)
        _log.info("computing", run=said.run, stage=said.stage.name, round=said.round)
        embedding = payload_of(self.plan, self.contract, said.stage, said.roster).embedding
        match embedding:
            case Moments():
                return embedding.ring, embedding.embed(self._exact().moments())
            case WeightedUpdates():
                update = self._update(said, _given(model), _given(scaling), receipt)
                return embedding.ring, self._embedded(said, embedding, update)
            case Counts():
                counts = self._exact().evaluate(_given(model), _given(scaling), champion)
                return embedding.ring, embedding.embed(counts)
            case NoisySum():
                exact = partial(self._bounded, said, model, scaling, champion)
                return embedding.ring, self._noisy(embedding, receipt, exact)
            case unreachable:
                assert_never(unreachable)

    def _charged(self, said: Statement) -> ChargeReceipt | None:
        releases = releases_of(self.plan, self.contract)
        return None if releases is None else self.charge(releases.of(said.stage.name.lower()), said)

    def _exact(self) -> TrainingSession:
        if not isinstance(self.session, TrainingSession):
            raise UsageError("a private plan has no sums without noise of this kind")
        return self.session

    def _private(self) -> PrivateSession:
        if not isinstance(self.session, PrivateSession):
            raise UsageError("a plan without privacy has no sums with noise")
        return self.session

    def _update(
        self, said: Statement, model: Vector, scaling: Scaling, receipt: ChargeReceipt | None
    ) -> Vector:
        """The update; under a private plan from noisy steps. Raises UsageError for a receipt of another release."""
        if isinstance(self.session, TrainingSession):
            return self.session.train(model, scaling, said.round, self.pace(said))
        releases = releases_of(self.plan, self.contract)
        _require(receipt, None if releases is None else releases.train)
        return self.session.local_update(
            model, scaling, MaskSeed(self.entropy(SECRET_BYTES)), self.pace(said)
        )

    def _embedded(self, said: Statement, updates: WeightedUpdates, update: Vector) -> Integers:
        clipped = int(np.count_nonzero(~(np.abs(update) <= updates.bound)))  # phrased so that NaN counts
        if clipped:
            _log.warning(
                "update clipped", run=said.run, round=said.round, coordinates=clipped, bound=updates.bound
            )
        return updates.embed(self.site, update, self._dither(said))

    def _noisy(
        self, noisy: NoisySum, receipt: ChargeReceipt | None, exact: Callable[[], Integers]
    ) -> Integers:
        """The exact sum and this site's noise. Raises UsageError for a receipt of another release, before anything is computed."""
        _require(receipt, noisy.release)
        return noisy.at_site(exact(), lambda: NoiseSeed(self.entropy(SECRET_BYTES)))

    def _bounded(
        self, said: Statement, model: Vector | None, scaling: Scaling | None, champion: Scorer | None
    ) -> Integers:
        """The exact sum of a stage, which one unit moves by no more than the release says."""
        match said.stage:
            case Stage.PREPARE:
                return self._private().moments()
            case Stage.TRAIN:
                return self._gradient_sum(said, _given(model), _given(scaling))
            case Stage.EVALUATE:
                return self._private().evaluate(_given(model), _given(scaling), champion)

    def _gradient_sum(self, said: Statement, model: Vector, scaling: Scaling) -> Integers:
        """The clipped sum over a fresh secret sample, as steps of the grid, downhill: so that servers add it."""
        plan = self.plan
        if not isinstance(plan.training, GradientSums):
            raise UsageError(f"algorithm {plan.training.algorithm} has no gradient sums")
        exact = -self._private().gradient_sum(model, scaling, MaskSeed(self.entropy(SECRET_BYTES)))
        return gradient_grid(plan, self.contract).rounded(
            exact, self._dither(said), turning_seed(plan, said.round), plan.training.expected_batch
        )

    def _dither(self, said: Statement) -> MaskSeed:
        rule = self.plan.training
        return dither_seed(rule.component, str(rule.seed), self.site, str(said.round))


def _require(receipt: ChargeReceipt | None, release: Release | None) -> None:
    if receipt is None or receipt.release != release:
        what = "this" if release is None else release.what
        raise UsageError(f"{what} has not been charged to this site's account")


def _given(value: T | None) -> T:
    if value is None:
        raise UsageError("a stage after preparation is about a model and a scaling")
    return value
