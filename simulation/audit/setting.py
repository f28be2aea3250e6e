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
from simulation.audit.adversary import Belief
from strategies.dp.accountants import RdpAccountant
from strategies.dp.audit import LARGEST_EPSILON, MOST_CANARIES, guesses_to_refute
from strategies.dp.events import Mechanism, Release
from strategies.dp.mechanisms import centre_variance, site_variance
from strategies.dp.units import Guarantee, UnitKind
from strategies.errors import UsageError
from strategies.ids import SiteName

AS_PLANNED: Final = Belief()
A_QUARTER: Final = Belief(scale=0.25)
NO_NOISE: Final = Belief(scale=0.0)
NO_CLIPPING: Final = Belief(clips=False)
"""What the code may really do: the power of an audit is told for each."""
BELIEFS: Final = (AS_PLANNED, A_QUARTER, NO_CLIPPING)
"""What adversaries believe, one each. Who believes that there is no noise could not allow for what is left."""
CONFIDENCE: Final = 0.95
FEWEST, MOST = 500, 1000
"""Canaries of an audit that is not told how many: at least and at most."""
_SPARE: Final = 3.5
"""Canaries to a guess that has to be right: some of them are left out of the guesses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """What is to be audited: the first `rounds` of a plan, by so many `canaries`. `seed` decides their rows; the crowd's are those of `tables`, or
    all alike where that is None.

    Raises UsageError where nothing is promised or a site is one unit, and for numbers outside their bounds.
    """

    plan: Plan
    contract: Contract
    rounds: int
    canaries: int
    confidence: float = CONFIDENCE
    seed: int = 0
    tables: Mapping[SiteName, Table] | None = None

    def __post_init__(self) -> None:
        if self.privacy.unit.unit.kind is UnitKind.SITE:
            raise UsageError(
                f"plan {self.plan.name} protects whole sites, and has too few of them for canaries; audit a plan whose unit is a record or a"
                " customer"
            )
        if not 1 <= self.rounds <= self.plan.training.rounds:
            raise UsageError(f"{self.rounds} rounds; use 1 to {self.plan.training.rounds}, as the plan has")
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
    def confidence_each(self) -> float:
        """Of each adversary's own bound, so that all of them hold with `confidence`."""
        return 1.0 - (1.0 - self.confidence) / len(BELIEFS)

    @property
    def claimed(self) -> Guarantee:
        """What the plan claims of preparation and `rounds` rounds."""
        return self.claim({self.releases.prepare: 1, self.releases.train: self.rounds})

    @property
    def needed(self) -> int:
        """How many canaries leave more guesses than prove the claim wrong if all are right."""
        return math.ceil(_SPARE * guesses_to_refute(self.claimed.epsilon, self.confidence_each))

    def claim(self, charges: Mapping[Release, int]) -> Guarantee:
        """What `charges` cost by Rényi accounting, exemptions left out. Raises UsageError where that is more than any audit could show."""
        unit, delta = self.privacy.unit.unit, self.privacy.limit.delta
        noisy = {each: count for each, count in charges.items() if each.mechanism is not Mechanism.NONE}
        claimed = RdpAccountant().guarantee(noisy, delta, unit)
        if not claimed.epsilon < LARGEST_EPSILON:  # phrased so that NaN is refused
            raise UsageError(f"plan {self.plan.name} claims {claimed.words}; no audit can prove that wrong")
        return claimed

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


def audit_of(
    plan: Plan,
    contract: Contract,
    *,
    rounds: int | None = None,
    canaries: int | None = None,
    confidence: float = CONFIDENCE,
    seed: int = 0,
    tables: Mapping[SiteName, Table] | None = None,
) -> Audit:
    """An audit with the numbers given, and else: as many rounds as few enough canaries can prove the claim of wrong, and so many canaries.

    The claim grows with the root of the rounds, and the canaries that it takes with the exponential of the claim. Raises as `Audit` does.
    """

    def of(tried: int, number: int = MOST) -> Audit:
        return Audit(
            plan=plan,
            contract=contract,
            rounds=tried,
            canaries=number,
            confidence=confidence,
            seed=seed,
            tables=tables,
        )

    if rounds is None:
        affordable = MOST if canaries is None else max(canaries, FEWEST)
        rounds, above = 1, plan.training.rounds + 1
        while above - rounds > 1:
            middle = (rounds + above) // 2
            rounds, above = (middle, above) if of(middle).needed <= affordable else (rounds, middle)
    return of(rounds, min(max(FEWEST, of(rounds).needed), MOST) if canaries is None else canaries)
