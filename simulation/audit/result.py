"""What an audit found: a lower bound on epsilon beside the claim, and what the audit could have found.

1. A bound above the claim proves it wrong, but for the audit's chance of error. A bound below it proves nothing: so the power is told with it.
2. The claim is what the audited rounds, and preparation, were charged as. The canaries train, so what held-out rows cost is no part of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import numpy as np

from coordinator.ledger.audits import AuditedClaim, AuditPower, KeptAudit
from protos.documents import make_document
from protos.plan_releases import forecast
from simulation.audit.adversary import Adversary, Belief, Signals
from simulation.audit.setting import A_QUARTER, AS_PLANNED, NO_CLIPPING, NO_NOISE, Audit
from strategies.dp.audit import (
    Flags,
    Guesses,
    Sample,
    epsilon_lower_bound,
    gaussian_sample,
    gaussian_separation,
    right_guesses,
    typical_bound,
)
from strategies.dp.events import Release
from strategies.dp.units import Guarantee
from strategies.encoding import Vector

_STEPS: Final = 4000
_IMAGINED_TIMES: Final = 4


@dataclass(kw_only=True)
class Attack:
    """One adversary's guesses: `made` of them, each about one of `canaries`."""

    adversary: Adversary
    canaries: int
    made: int
    delta: float
    confidence: float
    _scores: list[Vector] = field(default_factory=list)
    _included: list[Flags] = field(default_factory=list)
    _signals: list[Signals] = field(default_factory=list)

    def add(self, listener: Adversary, included: Flags) -> None:
        """What the adversary heard in a run, and which canaries were in it."""
        self._scores.append(listener.scores)
        self._included.append(included)
        self._signals.append(listener.signals)

    @property
    def guesses(self) -> Guesses:
        """How many of the guesses are right."""
        right = right_guesses(np.concatenate(self._scores), np.concatenate(self._included), self.made)
        return Guesses(canaries=self.canaries, made=self.made, right=right)

    @property
    def epsilon(self) -> float:
        """What the guesses prove."""
        return epsilon_lower_bound(self.guesses, delta=self.delta, confidence=self.confidence)

    @property
    def most(self) -> float:
        """What they would prove if all were right."""
        best = Guesses(canaries=self.canaries, made=self.made, right=self.made)
        return epsilon_lower_bound(best, delta=self.delta, confidence=self.confidence)

    def typical(self, true: Belief) -> float:
        """What they would typically prove if `true` were, with canaries as near to each other as these are; 0 if that cannot be told.

        An adversary who is wrong about clipping does not know how well it hears.
        """
        if true.clips != self.adversary.belief.clips:
            return 0.0
        signals = Signals(
            np.tile(np.concatenate([each.strength for each in self._signals], axis=1), _IMAGINED_TIMES),
            np.tile(np.concatenate([each.noise for each in self._signals], axis=1), _IMAGINED_TIMES),
        )
        return self._typical(self.adversary.imagine(signals, true.scale, np.random.default_rng(0)))

    def typical_at(self, claimed: Guarantee) -> float:
        """What they would typically prove of a Gaussian mechanism that is exactly as private as claimed."""
        return self._typical(gaussian_sample(gaussian_separation(claimed.epsilon, claimed.delta), _STEPS))

    def _typical(self, sample: Sample) -> float:
        return typical_bound(
            sample, canaries=self.canaries, made=self.made, delta=self.delta, confidence=self.confidence
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Power:
    """Lower bounds that the same audit would typically find, had it to do with something else.

    Where a round has several local steps, as if the model stood still in between: too high, above all without clipping.
    """

    at_claim: float
    """A Gaussian mechanism that is exactly as private as claimed, and canaries that do not disturb each other."""
    as_planned: float
    """This plan with its noise, and these canaries."""
    a_quarter: float
    """This plan with a quarter of its noise, and these canaries."""
    no_noise: float
    """This plan without noise, and these canaries."""
    no_clipping: float
    """This plan with its noise and without clipping, and these canaries."""
    most: float
    """Anything at all: every guess right."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditResult:
    """The audit of a plan. `epsilon` is the lower bound at `claimed`'s delta, with `confidence`; `guesses` are those that it is from."""

    plan: str
    plan_digest: str
    mode: str
    canaries: int
    runs: int
    rounds: int
    planned_rounds: int
    sites: tuple[str, ...]
    invited: int
    crowd: str
    confidence: float
    claimed: Guarantee
    """For preparation and the audited rounds."""
    whole: Guarantee
    """For all that the plan may release, by its own account."""
    exempt: tuple[str, ...]
    epsilon: float
    guesses: Guesses
    power: Power
    elapsed_s: float

    @property
    def refuted(self) -> bool:
        """Whether the claim is proved wrong."""
        return self.epsilon > self.claimed.epsilon

    def kept(self, at: datetime) -> KeptAudit:
        """The result as the coordinator's folder keeps it, made at `at`."""
        return make_document(
            KeptAudit,
            "the audit",
            plan=self.plan,
            plan_digest=self.plan_digest,
            at=at.replace(microsecond=0),
            rounds=self.rounds,
            planned_rounds=self.planned_rounds,
            canaries=self.canaries,
            runs=self.runs,
            guesses_made=self.guesses.made,
            guesses_right=self.guesses.right,
            crowd=self.crowd,
            confidence=self.confidence,
            claimed=_claim(self.claimed),
            claimed_for_all=_claim(self.whole),
            epsilon_at_least=self.epsilon,
            power=AuditPower(
                noise_as_planned=self.power.as_planned,
                a_quarter_of_the_noise=self.power.a_quarter,
                no_noise=self.power.no_noise,
                no_clipping=self.power.no_clipping,
            ),
        )

    def facts(self) -> dict[str, Any]:
        """The result as JSON values."""
        return {
            "plan": self.plan,
            "plan_digest": self.plan_digest,
            "mode": self.mode,
            "canaries": self.canaries,
            "runs": self.runs,
            "rounds": self.rounds,
            "rounds_of_the_plan": self.planned_rounds,
            "sites_in_the_sum": list(self.sites),
            "sites_invited": self.invited,
            "crowd": self.crowd,
            "confidence": self.confidence,
            "claimed": self.claimed.facts(),
            "claimed_for_all": self.whole.facts(),
            "exempt": list(self.exempt),
            "epsilon_at_least": self.epsilon,
            "guesses": {"made": self.guesses.made, "right": self.guesses.right},
            "refuted": self.refuted,
            "power": {
                "exactly_at_the_claim": self.power.at_claim,
                "noise_as_planned": self.power.as_planned,
                "a_quarter_of_the_noise": self.power.a_quarter,
                "no_noise": self.power.no_noise,
                "no_clipping": self.power.no_clipping,
                "every_guess_right": self.power.most,
            },
            "elapsed_s": self.elapsed_s,
        }


def _claim(guarantee: Guarantee) -> AuditedClaim:
    epsilon = guarantee.epsilon if math.isfinite(guarantee.epsilon) else None
    return AuditedClaim(words=guarantee.words, epsilon=epsilon, delta=guarantee.delta)


def conclude(
    setting: Audit,
    attacks: Sequence[Attack],
    runs: int,
    charges: Mapping[Release, int],
    elapsed_s: float,
) -> AuditResult:
    """What the attacks found in `runs` runs, each of which was charged `charges`."""
    best = max(attacks, key=lambda attack: attack.epsilon)
    claimed = setting.claim(charges)
    return AuditResult(
        plan=setting.plan.name,
        plan_digest=setting.plan.digest,
        mode=setting.privacy.mode,
        canaries=best.canaries,
        runs=runs,
        rounds=setting.rounds,
        planned_rounds=setting.plan.training.rounds,
        sites=setting.sites,
        invited=len(setting.plan.sites.invite),
        crowd="rows that are all alike" if setting.tables is None else "given rows",
        confidence=setting.confidence,
        claimed=claimed,
        whole=forecast(setting.releases, setting.privacy),
        exempt=tuple(each.what for each in setting.releases.exempt if each in charges),
        epsilon=best.epsilon,
        guesses=best.guesses,
        power=Power(
            at_claim=max(attack.typical_at(claimed) for attack in attacks),
            as_planned=max(attack.typical(AS_PLANNED) for attack in attacks),
            a_quarter=max(attack.typical(A_QUARTER) for attack in attacks),
            no_noise=max(attack.typical(NO_NOISE) for attack in attacks),
            no_clipping=max(attack.typical(NO_CLIPPING) for attack in attacks),
            most=max(attack.most for attack in attacks),
        ),
        elapsed_s=elapsed_s,
    )
