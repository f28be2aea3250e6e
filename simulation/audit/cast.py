"""Canaries and crowd of an audit's run, played through the production code.

1. The sums are the production code's (`simulation.unmasked`), and so are the models that follow from them.
2. Where the canaries fall silent because the model has learnt them, the run goes on from its first model. A claim about composed rounds covers
   whatever models a coordinator asks for.
3. Each canary is at its sites if its coin says so, and nowhere else.
4. Of a given crowd one row a unit is taken, of units that train, and no more rows than the adversary can reckon with. Fewer rows hide canaries
   less, so that leaving rows out makes no audit weaker.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from client.data import Table
from protos.frames import Stage
from simulation.audit.adversary import Adversary, Heard, Matrix, gradients
from simulation.audit.canaries import Canaries, Rows, canaries, crowd, training_keys
from simulation.audit.setting import Audit
from simulation.unmasked import UnmaskedRun
from strategies.dp.audit import Flags
from strategies.dp.events import Release
from strategies.dp.units import UnitKind
from strategies.encoding import Vector
from strategies.features import Scaling
from strategies.ids import SiteName
from strategies.sampling import held_out
from strategies.secagg.shamir import Entropy

MOST_A_RUN: Final = 128
_LOUD: Final = 0.9
"""With which share of what they had at first in gradients the canaries are heard well enough to go on."""
_LARGEST_CROWD: Final = 2000
_CROWD_NUMBERS: Final = 1 << 20
"""Gradient coordinates of a given crowd, at most: so many are looked at in each round."""


@dataclass(frozen=True, slots=True)
class Cast:
    """Canaries and crowd, at the sites in the sum."""

    setting: Audit
    canaries: Canaries
    crowds: Mapping[SiteName, Rows]

    @classmethod
    def of(cls, setting: Audit) -> Cast:
        """As many canaries as one run tells apart well, and a crowd: the given rows, or as many as the plan takes a site to have.

        Raises UsageError where no row moves the plan's model.
        """
        plan, contract = setting.plan, setting.contract
        dimension = plan.dense_model(contract.feature_spec(plan.features).width).size
        most = min(max(1, dimension // 4), MOST_A_RUN, setting.canaries)
        even = math.ceil(setting.canaries / math.ceil(setting.canaries / most))
        found = canaries(plan, contract, setting.rule.clip, even, np.random.default_rng(setting.seed))
        if setting.tables is None:
            ordinary = crowd(plan, contract, min(setting.rule.nominal_rows, _LARGEST_CROWD))
            return cls(setting, found, dict.fromkeys(setting.sites, ordinary))
        share = max(1, _CROWD_NUMBERS // (dimension * len(setting.sites)))
        given = {site: _given(setting, setting.tables[site], share) for site in setting.sites}
        return cls(setting, found, given)

    @property
    def size(self) -> int:
        """Number of canaries."""
        return len(self.canaries.lengths)

    def tables(self, included: Flags) -> dict[SiteName, Table]:
        """The sites' rows: the crowd, and those of the canaries that are `included`, (size,)."""
        setting, sites = self.setting, self.setting.sites
        names = np.array(training_keys(setting.plan, "canary", self.size), dtype=object)
        first = np.arange(self.size) % len(sites)
        tables = {}
        for place, site in enumerate(sites):
            here = included & ((place - first) % len(sites) < setting.places)
            crowd_here = self.crowds[site]
            keys = training_keys(setting.plan, "crowd", len(crowd_here.target)) + names[here].tolist()
            tables[site] = crowd_here.and_then(self.canaries.rows.take(here)).table(keys, setting.contract)
        return tables

    def play(
        self,
        included: Flags,
        listeners: Sequence[Adversary],
        entropy: Entropy,
        progress: Callable[[int], None],
    ) -> Mapping[Release, int]:
        """One run with the canaries that are `included`, whose sums `listeners` hear: what a site is charged for it."""
        plan, contract = self.setting.plan, self.setting.contract
        run = UnmaskedRun(plan, contract, self.tables(included), entropy)
        optimizer = plan.server_optimizer()
        scaling = run.prepare()
        model, state = run.initial()
        known = _Known.of(self, scaling)
        known.look_at(model)
        loud = _LOUD * known.loudness
        for number in range(1, self.setting.rounds + 1):
            known.look_at(model)
            if known.loudness < loud:
                model, state = run.initial()
                known.look_at(model)
            opened = run.pooled(Stage.TRAIN, number, model, scaling).values.astype(np.float64)
            for each in listeners:
                each.listen(known.heard(opened))
            model, state = optimizer.step(model, opened, state)
            progress(number)
        return dict(run.charges)


@dataclass
class _Known:
    """All rows as the model sees them, equal ones of the crowd once, with their number."""

    setting: Audit
    canaries: npt.NDArray[np.float32]
    labels: Vector
    crowd: npt.NDArray[np.float32]
    crowd_labels: Vector
    weights: Vector
    _canaries: Matrix = field(init=False)
    _crowd: Matrix = field(init=False)

    @classmethod
    def of(cls, cast: Cast, scaling: Scaling) -> _Known:
        setting = cast.setting
        spec = setting.contract.feature_spec(setting.plan.features)
        rows = [
            np.column_stack((spec.encode(each.columns, scaling), each.target.astype(np.float32)))
            for each in cast.crowds.values()
        ]
        alike, counts = np.unique(np.concatenate(rows), axis=0, return_counts=True)
        return cls(
            setting,
            spec.encode(cast.canaries.rows.columns, scaling),
            cast.canaries.rows.target,
            alike[:, :-1],
            alike[:, -1].astype(np.float64),
            counts.astype(np.float64),
        )

    def look_at(self, model: Vector) -> None:
        """Find all gradients at `model`, (d,)."""
        self._canaries = self._gradients(model, self.canaries, self.labels)
        self._crowd = self._gradients(model, self.crowd, self.crowd_labels)

    @property
    def loudness(self) -> float:
        """Mean length of the canaries' clipped gradients at the model looked at, in clipping norms."""
        return float(np.minimum(1.0, np.linalg.norm(self._canaries, axis=1)).mean())

    def heard(self, opened: Vector) -> Heard:
        """A round at the model looked at, whose mean update is `opened`, (d,)."""
        return Heard(
            opened=opened * self.setting.uphill,
            canaries=self._canaries,
            crowd=self._crowd,
            weights=self.weights,
        )

    def _gradients(self, model: Vector, x: npt.NDArray[np.float32], y: Vector) -> Matrix:
        plan, rule = self.setting.plan, self.setting.rule
        shape = plan.dense_model(x.shape[1])
        return np.asarray(gradients(shape, model, x, y, rule.class_weights) / rule.clip)


def _given(setting: Audit, table: Table, most: int) -> Rows:
    """At most `most` of a site's rows: the first of each unit that trains."""
    holdout, unit = setting.plan.evaluation.holdout, setting.privacy.unit.unit
    customers = unit.kind is UnitKind.CUSTOMER and table.customers is not None
    names = (table.customers if customers else table.keys) or []
    training = ~held_out(names, holdout.salt, holdout.share)
    firsts = np.zeros(len(names), dtype=np.bool_)
    firsts[list({name: place for place, name in reversed(list(enumerate(names)))}.values())] = True
    places = np.flatnonzero(training & firsts)[:most]
    columns = {name: np.asarray(table.columns[name]) for name in setting.plan.features}
    return Rows(columns, table.target).take(places)
