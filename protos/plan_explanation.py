"""What a plan's privacy comes to, for whoever has to judge it: what is released, to whom, with which guarantee, and what is not protected.

1. An epsilon is a `Guarantee`, or it is not here.
2. Figures of the whole leave exemptions out, and say so.
3. What no noise protects is listed with what it protects.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from protos.contract import Contract
from protos.plan import Plan
from protos.plan_aggregation import SecureAggregation
from protos.plan_costs import (
    Spent,
    by_sites_of_a_person,
    guarantee_of,
    nobody_colludes,
    over_rounds,
    own_noise,
)
from protos.plan_privacy import Privacy
from protos.plan_releases import EVALUATE, PREPARE, TRAIN, PlannedReleases, releases_of, require_limit
from protos.plan_words import composition_words, counted_noise, mode_words, not_protected, released, seen_by
from strategies.dp.events import Mechanism, Release
from strategies.dp.units import Guarantee
from strategies.errors import UsageError

_LARGEST_TIGHT: Final = 100.0
_MOST_TIGHT_STEPS: Final = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class StageExplained:
    """One stage: `what` is released, `times` at most of which `retries` are attempts that come to nothing, and who sees it (`seen`).

    `release` and `alone`, its cost if nothing else were released, are None in privacy mode none; `alone` also where the stage is exempt.
    """

    stage: str
    what: str
    times: int
    retries: int
    seen: str
    noise: str
    release: Release | None
    alone: Guarantee | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """The figures of a private plan: of the `whole`, its `limit`, and of the whole if another assumption held.

    `over_limit` is why the plan's own check refuses it, None if it does not. `nobody_colludes` is None where colluding sites change nothing.
    `tight` holds figures by privacy loss distribution, by what they are about. `persons` are for customers at so many sites. `words` say how
    the stages add up.
    """

    words: str

    whole: Guarantee
    limit: Guarantee
    over_limit: str | None
    own_noise: Guarantee
    nobody_colludes: Guarantee | None
    persons: Mapping[int, Guarantee]
    tight: Mapping[str, Guarantee]
    rounds: tuple[Spent, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """A plan's privacy in words and numbers; `figures` is None in privacy mode none, where nothing protects."""

    plan: str
    digest: str
    mode: str
    words: str
    survivors: int
    honest: int
    stages: tuple[StageExplained, ...]
    figures: Figures | None
    not_protected: tuple[str, ...]


def explain(plan: Plan, contract: Contract, *, in_full: bool = True) -> Explanation:
    """The privacy of `plan` under `contract`, also of a plan above its own limit. Unless `in_full`, without the figures that take long: `tight` and
    `rounds` are empty.

    Raises UsageError where they do not fit, UnsupportedRelease for noise whose cost is not known.
    """
    planned = releases_of(plan, contract)
    return Explanation(
        plan=plan.name,
        digest=plan.digest,
        mode=plan.privacy.mode,
        words=mode_words(plan),
        survivors=fewest_survivors(plan),
        honest=plan.honest_survivors,
        stages=tuple(_stage(plan, planned, stage) for stage in (PREPARE, TRAIN, EVALUATE)),
        figures=_figures(plan, contract, planned, in_full=in_full),
        not_protected=not_protected(plan),
    )


def fewest_survivors(plan: Plan) -> int:
    """The fewest sites whose sum is opened; 1 where the centre sees each site's own."""
    return plan.sites.minimum if isinstance(plan.aggregation, SecureAggregation) else 1


def _stage(plan: Plan, planned: PlannedReleases | None, stage: str) -> StageExplained:
    if planned is None or not isinstance(plan.privacy, Privacy):
        rounds = range(1, plan.training.rounds + 1)
        times = {PREPARE: 1, TRAIN: len(rounds), EVALUATE: sum(plan.evaluates(number) for number in rounds)}
        return StageExplained(
            stage=stage,
            what=released(plan, stage, None),
            times=times[stage],
            retries=0,
            seen=seen_by(plan, None),
            noise="none",
            release=None,
            alone=None,
        )
    release, times_at_most = planned.of(stage), planned.times(stage)
    silent = release.mechanism is Mechanism.NONE
    return StageExplained(
        stage=stage,
        what=released(plan, stage, release),
        times=times_at_most,
        retries=times_at_most - (planned.rounds if stage == TRAIN else 1),
        seen=seen_by(plan, release),
        noise=counted_noise(plan, release),
        release=release,
        alone=None
        if silent
        else guarantee_of({release: times_at_most}, plan.privacy.limit, plan.privacy.unit.unit),
    )


def _figures(
    plan: Plan, contract: Contract, planned: PlannedReleases | None, *, in_full: bool
) -> Figures | None:
    privacy = plan.privacy
    if planned is None or not isinstance(privacy, Privacy):
        return None
    charges, limit, unit = planned.planned(), privacy.limit, privacy.unit.unit
    try:
        require_limit(plan, contract)
        over_limit = None
    except UsageError as refused:
        over_limit = str(refused)
    return Figures(
        words=composition_words(planned),
        whole=guarantee_of(charges, limit, unit),
        limit=Guarantee(epsilon=limit.epsilon, delta=limit.delta, unit=unit),
        over_limit=over_limit,
        own_noise=own_noise(charges, limit, unit),
        nobody_colludes=nobody_colludes(charges, plan.sites.minimum, limit, unit)
        if privacy.mode == "distributed"
        else None,
        persons=by_sites_of_a_person(plan, contract),
        tight=_tight(planned, privacy) if in_full else {},
        rounds=over_rounds(planned, limit, unit) if in_full else (),
    )


def _tight(planned: PlannedReleases, privacy: Privacy) -> dict[str, Guarantee]:
    """By privacy loss distribution: proved here for the site's own floating-point noise only. None where it would take minutes."""
    if planned.train.mechanism is not Mechanism.GAUSSIAN:
        return {}
    training = {planned.train: planned.times(TRAIN)}
    rough = guarantee_of(training, privacy.limit, privacy.unit.unit).epsilon
    if not rough <= _LARGEST_TIGHT or planned.train.steps * planned.times(TRAIN) > _MOST_TIGHT_STEPS:
        return {}
    from strategies.dp.accountants import PldAccountant  # a second, which other plans need not wait

    return {"training alone": PldAccountant().guarantee(training, privacy.limit.delta, privacy.unit.unit)}
