"""What an audit is about: a plan, and the worst case that its claim covers.

1. The sum is over as few sites as must be honest in an opened sum, with their shares of noise and no other's: what is left of a sum to a
   coordinator with whom all other sites collude. Where each site adds all the noise itself, it is one site's own.
2. A person who may be known to k sites is at k of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from client.data import Table
from protos.contract import Contract
from protos.plan import Plan
from protos.plan_privacy import Privacy
from protos.plan_releases import PlannedReleases, gradient_grid, releases_of
from protos.plan_training import GradientSums, PrivateSteps
from strategies.dp.audit import MOST_CANARIES
from strategies.dp.mechanisms import centre_variance, site_variance
from strategies.dp.units import UnitKind
from strategies.errors import UsageError
from strategies.ids import SiteName

CANARIES: Final = 1000
CONFIDENCE: Final = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """What is to be audited. `seed` decides the canaries' rows; the crowd's are those of `tables`, or all alike where that is None.

    Raises UsageError where nothing is promised or a site is one unit, and for numbers outside their bounds.
    """

    plan: Plan
    contract: Contract
    canaries: int = CANARIES
    confidence: float = CONFIDENCE
    seed: int = 0
    tables: Mapping[SiteName, Table] | None = None

    def __post_init__(self) -> None:
        if self.privacy.unit.unit.kind is UnitKind.SITE:
            raise UsageError(
                f"plan {self.plan.name} protects whole sites, and has too few of them for canaries; audit a plan whose unit is a record or a"
                " customer"
            )
        if not 1 <= self.canaries <= MOST_CANARIES:
            raise UsageError(f"there are {self.canaries} canaries; use 1 to {MOST_CANARIES}")
        if not 0.0 < self.confidence < 1.0:  # phrased so that NaN is refused
            raise UsageError(
                f"the confidence is {self.confidence}; use a number above 0 and below 1, such as 0.95"
            )

    @property
    def privacy(self) -> Privacy:
        """What the plan promises."""
        if not isinstance(self.plan.privacy, Privacy):
            raise UsageError(
                f"plan {self.plan.name} has privacy mode none: it promises nothing that an audit could prove wrong; audit a private plan"
            )
        return self.plan.privacy

    @property
    def rule(self) -> GradientSums | PrivateSteps:
        """How the plan trains."""
        if not isinstance(self.plan.training, GradientSums | PrivateSteps):
            raise UsageError(f"algorithm {self.plan.training.algorithm} has no noise to audit")
        return self.plan.training

    @property
    def releases(self) -> PlannedReleases:
        """What the plan releases."""
        planned = releases_of(self.plan, self.contract)
        if planned is None:
            raise UsageError(f"plan {self.plan.name} is not private and has no releases")
        return planned

    @property
    def places(self) -> int:
        """At how many sites a canary is."""
        return min(self.privacy.unit.unit.max_sites, len(self.plan.sites.invite))

    @property
    def sites(self) -> tuple[SiteName, ...]:
        """The sites in the sum."""
        honest = 1 if isinstance(self.rule, PrivateSteps) else self.plan.honest_survivors
        return tuple(sorted(self.plan.sites.invite))[: max(honest, self.places)]

    @property
    def steps(self) -> int:
        """How often a site samples its units in one round."""
        return self.rule.local_steps if isinstance(self.rule, PrivateSteps) else 1

    @property
    def deviation(self) -> float:
        """Standard deviation of the noise on a round's sum, in clipping norms, as the plan states it."""
        release, sites = self.releases.train, len(self.sites)
        if isinstance(self.rule, PrivateSteps):
            return math.sqrt(release.variance * self.steps * sites)
        grid = gradient_grid(self.plan, self.contract)
        return math.sqrt(sites * site_variance(release) + centre_variance(release)) / grid.steps

    @property
    def uphill(self) -> float:
        """What turns an opened mean update into the sum that it was made of: in clipping norms, uphill."""
        rule = self.rule
        rate = rule.learning_rate if isinstance(rule, PrivateSteps) else 1.0
        return -rule.expected_batch * len(self.sites) / (rule.clip * rate)
