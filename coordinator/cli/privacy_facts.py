"""A plan's privacy as JSON values. An epsilon of null is unbounded: JSON has no infinity."""

from __future__ import annotations

import math
from typing import Any

from protos.plan_calibration import Calibration, values_of
from protos.plan_explanation import Explanation, Figures, StageExplained
from strategies.dp.events import Mechanism, Release
from strategies.dp.units import Guarantee

Facts = dict[str, Any]


def explanation_facts(found: Explanation) -> Facts:
    """All of an explanation; `figures` is null in privacy mode none."""
    return {
        "plan": found.plan,
        "digest": found.digest,
        "mode": found.mode,
        "words": found.words,
        "fewest_survivors": found.survivors,
        "honest_survivors": found.honest,
        "stages": [_stage_facts(each) for each in found.stages],
        "figures": None if found.figures is None else _figures_facts(found.figures),
        "not_protected": list(found.not_protected),
    }


def calibration_facts(found: Calibration, written: str | None) -> Facts:
    """What was fitted: the numbers by their keys in the document, and both costs."""
    values: Facts = {}
    for (*sections, key), value in values_of(found.plan).items():
        inner = values
        for section in sections:
            inner = inner.setdefault(section, {})
        inner[key] = value
    return {
        "plan": found.plan.name,
        "digest": found.plan.digest,
        "vary": str(found.vary),
        "before": found.before.facts(),
        "after": found.after.facts(),
        "values": values,
        "written": written,
    }


def _stage_facts(stage: StageExplained) -> Facts:
    release = stage.release
    return {
        "stage": stage.stage,
        "what": stage.what,
        "times": stage.times,
        "retries": stage.retries,
        "seen": stage.seen,
        "noise": stage.noise,
        "exempt": release is not None and release.mechanism is Mechanism.NONE,
        "release": None if release is None else _release_facts(release),
        "alone": _optional(stage.alone),
    }


def _release_facts(release: Release) -> Facts:
    return {
        **release.facts(),
        "digest": release.digest,
        "noise_multiplier": release.noise_multiplier,
        "noise_std": math.sqrt(release.variance),
    }


def _figures_facts(figures: Figures) -> Facts:
    return {
        "words": figures.words,
        "whole": figures.whole.facts(),
        "limit": figures.limit.facts(),
        "over_limit": figures.over_limit,
        "own_noise_only": figures.own_noise.facts(),
        "nobody_colludes": _optional(figures.nobody_colludes),
        "person_at_sites": {str(sites): each.facts() for sites, each in figures.persons.items()},
        "tight": {about: each.facts() for about, each in figures.tight.items()},
        "rounds": [
            {
                "after": each.number,
                "no_attempt_fails": each.smooth.facts(),
                "every_retry_used": each.at_most.facts(),
            }
            for each in figures.rounds
        ],
    }


def _optional(guarantee: Guarantee | None) -> Facts | None:
    return None if guarantee is None else guarantee.facts()
