"""The panels of an opened evaluation: read from the sum where it is opened, with small groups suppressed before anything is kept, and held to the plan by
whoever audits the log."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from protos.contract import Contract
from protos.plan import Plan
from protos.plan_evaluation import Explanations, Fairness
from protos.plan_panels import evaluation_cells, groups_of, part_names, profile_of
from protos.plan_releases import releases_of
from protos.windows import MOST_BINS
from strategies.analytics.groups import group_edges, hidden_groups
from strategies.analytics.histograms import metrics_from
from strategies.analytics.noisy import noisy_metrics
from strategies.analytics.panels import AttributionPanel, GroupPanel, Panels, ProfilePanel
from strategies.analytics.profiles import Profile
from strategies.dp.evaluation_cells import Blocks
from strategies.dp.mechanisms import centre_variance, site_variance
from strategies.errors import CovenantError, Refused, UsageError

Integers = npt.NDArray[np.int64]

_LABELS: Final = 2
_SAFE: Final = 2**53
"""What canonical JSON has no whole numbers from on (RFC 8785)."""
_SAME: Final = 1e-9
"""Edges and figures of two machines may differ in the last bits."""


def panels_of(plan: Plan, contract: Contract, blocks: Blocks, noise_std: float) -> Panels | None:
    """What the opened `blocks` say beside score counts; `noise_std` is that of one cell, in steps. None where the plan asks for no panels."""
    cells, asked = evaluation_cells(plan, contract), plan.evaluation
    if cells.dimension == cells.scored:
        return None
    std = noise_std / cells.steps
    fairness, explained = asked.fairness, asked.explanations
    profile = profile_of(plan, contract)
    return Panels(
        noise_std=std,
        groups=()
        if fairness is None
        else tuple(
            _group_panel(each, fairness, groups_of(contract, each), whole(block, cells.steps), std)
            for each, block in zip(plan.protected or (), blocks.groups, strict=True)
        ),
        attributions=None if explained is None else _attributions(plan, explained, blocks, cells.steps, std),
        profile=None
        if profile is None
        else _profile(
            profile,
            [whole(each, cells.profile_steps) for each in blocks.profile],
            whole(blocks.scores, cells.steps),
            noise_std / cells.profile_steps,
        ),
    )


def whole(block: Integers, steps: int) -> Integers:
    """A block of cells in steps as counts, to the nearest."""
    return block if steps == 1 else np.rint(block / steps).astype(np.int64)


def _group_panel(
    attribute: str, asked: Fairness, groups: Sequence[str], counts: Integers, std: float
) -> GroupPanel:
    sizes = {group: float(counts[place].sum()) for place, group in enumerate(groups)}
    hidden = hidden_groups(sizes, asked.minimum_group, std, counts[0].size)
    return GroupPanel(
        attribute=attribute,
        edges=tuple(group_edges(asked.decline_at, asked.bins).tolist()),
        declines=asked.bins // 2,
        counts={
            group: (tuple(counts[place, 0].tolist()), tuple(counts[place, 1].tolist()))
            for place, group in enumerate(groups)
            if group not in hidden
        },
        suppressed=hidden,
    )


def _attributions(
    plan: Plan, asked: Explanations, blocks: Blocks, steps: int, std: float
) -> AttributionPanel:
    logits = blocks.attributions * (asked.clip / steps)
    rows = blocks.part_rows if len(blocks.part_rows) else blocks.scores[0].sum()[None]
    return AttributionPanel(
        features=plan.features,
        clip=asked.clip,
        parts=part_names(asked),
        absolute=tuple(tuple(each[0].tolist()) for each in logits),
        signed=tuple(tuple(each[1].tolist()) for each in logits),
        rows=tuple(whole(rows, steps).tolist()),
        noise_std=std * asked.clip,
    )


def _profile(profile: Profile, counts: Sequence[Integers], scores: Integers, std: float) -> ProfilePanel:
    """`scores` is (models, 2, bins): the model's, and then those of a champion."""
    told = {each.name: tuple(of_one.tolist()) for each, of_one in zip(profile.features, counts, strict=True)}
    if scores.shape[-1] > MOST_BINS:
        # No window has more bins, and so many would not fit an entry of the log.
        return ProfilePanel(counts=told, labels=profile.labels, noise_std=std)
    own, *champion = (tuple(tuple(each) for each in of_one.tolist()) for of_one in scores)
    return ProfilePanel(
        counts=told,
        labels=profile.labels,
        noise_std=std,
        scores=own,
        champion=champion[0] if champion else (),
    )


def require_evaluation(
    plan: Plan, contract: Contract, metrics: Mapping[str, Any] | None, alone: Mapping[str, Any] | None
) -> None:
    """Check what was recorded of an evaluation: `metrics` with the plan's panels in them, panels `alone` where a class is hidden, or nothing. Raises Refused."""
    if metrics is not None:
        require_panels(plan, contract, metrics)
    elif alone is not None:
        require_panels(plan, contract, {"panels": alone})
        _require_hidden(plan, contract, Panels.from_facts(alone))


def _require_hidden(plan: Plan, contract: Contract, panels: Panels) -> None:
    """Check that metrics are missing because nobody can have them, where the counts that they come from are told. Raises Refused."""
    profile = panels.profile
    if profile is None or len(profile.scores) != _LABELS:
        return
    counts = np.array(profile.scores, dtype=np.int64)
    try:
        if releases_of(plan, contract) is None:
            metrics_from(counts)
        else:
            noisy_metrics(counts, panels.noise_std)
    except (Refused, UsageError):
        return
    raise Refused(f"plan {plan.name} has no metrics of an evaluation whose counts give some")


def require_panels(plan: Plan, contract: Contract, metrics: Mapping[str, Any]) -> None:
    """Check that recorded `metrics` have the panels that their plan asks for, in the shapes that it gives them, and no others. Raises Refused."""
    told = metrics.get("panels")
    champion = metrics.get("champion")
    if isinstance(champion, Mapping) and champion.get("panels") is not None:
        raise Refused("a champion has panels, which are counted of the model alone")
    cells = evaluation_cells(plan, contract)
    blank = panels_of(plan, contract, cells.blocks(np.zeros(cells.dimension, dtype=np.int64)), 0.0)
    if (told is None) != (blank is None):
        raise Refused(
            f"the evaluation has {'no ' if told is None else ''}panels, and plan {plan.name} asks for {'none' if blank is None else 'some'}"
        )
    if told is None or blank is None:
        return
    try:
        found = Panels.from_facts(told)
        known = (
            set(told) == set(asdict(blank))
            and _shape(found) == _shape(blank)
            and _is_sound(found, plan, cells.stress)
        )
    except (CovenantError, AttributeError, KeyError, TypeError, ValueError, IndexError):
        known = False
    if not known:
        raise Refused(f"the evaluation has panels of another shape than plan {plan.name} gives them")
    _require_noise(plan, contract, found.noise_std * cells.steps)


def _require_noise(plan: Plan, contract: Contract, std: float) -> None:
    """Check that sums with noise of `std`, in steps, have what `plan` gives them: intervals, and which groups are too small, follow from it. Raises Refused."""
    releases = releases_of(plan, contract)
    least = most = 0.0
    if releases is not None:
        one, centre = site_variance(releases.evaluate), centre_variance(releases.evaluate)
        least = math.sqrt(one * releases.evaluate.shares + centre)
        most = math.sqrt(one * len(plan.sites.invite) + centre)
    if not least * (1.0 - _SAME) <= std <= most * (1.0 + _SAME):
        raise Refused(
            f"the panels say that their sums have noise of standard deviation {std:g} steps; plan {plan.name} gives them {least:g} to {most:g}"
        )


def _shape(panels: Panels) -> dict[str, Any]:
    """A panel without its numbers: names, lengths and what the plan decides."""
    shown = asdict(replace(panels, noise_std=0.0))
    for group in shown["groups"]:
        group["edges"] = tuple(round(float(edge), 9) for edge in group["edges"])
        group["counts"] = sorted((*group["counts"], *group.pop("suppressed")))
    if (attributions := shown["attributions"]) is not None:
        for key in ("absolute", "signed"):
            attributions[key] = tuple(len(each) for each in attributions[key])
        attributions["rows"] = len(attributions["rows"])
        del attributions["noise_std"]
    if (profile := shown["profile"]) is not None:
        profile["counts"] = {name: len(counts) for name, counts in profile["counts"].items()}
        for key in ("scores", "champion"):
            profile[key] = tuple(len(each) for each in profile[key])
        del profile["noise_std"]
    return shown


def _is_sound(panels: Panels, plan: Plan, stress: int) -> bool:
    """Whether numbers are such as can have been counted, with one noise, and no small group is told."""
    numbers: list[float] = [panels.noise_std]
    rows: list[float] = []
    for group in panels.groups:
        if not _is_sound_group(group, plan, panels.noise_std):
            return False
        for counts in group.counts.values():
            rows += [*counts[0], *counts[1]]
    stated: list[tuple[float, float]] = []
    if (attributions := panels.attributions) is not None:
        for of_part in (*attributions.absolute, *attributions.signed):
            numbers += of_part
        rows += attributions.rows
        stated.append((attributions.noise_std, panels.noise_std * attributions.clip))
    if (profile := panels.profile) is not None:
        for of_one in (*profile.counts.values(), *profile.scores, *profile.champion):
            rows += of_one
        stated.append((profile.noise_std, panels.noise_std * stress))
    return (
        panels.noise_std >= 0.0
        and all(math.isclose(told, due, rel_tol=_SAME) for told, due in stated)
        and all(
            isinstance(each, int | float) and not isinstance(each, bool) and math.isfinite(each)
            for each in numbers
        )
        and all(type(each) is int and abs(each) < _SAFE for each in rows)
    )


def _is_sound_group(group: GroupPanel, plan: Plan, noise_std: float) -> bool:
    """Whether a group panel has the bins that its edges say, and tells of no group that is too small."""
    fairness = plan.evaluation.fairness
    assert fairness is not None  # noqa: S101 (its shape is that of the plan)
    bins = len(group.edges) - 1
    if any(len(each) != bins for counts in group.counts.values() for each in counts):
        return False
    sizes = {name: float(sum(map(sum, counts))) for name, counts in group.counts.items()}
    return not hidden_groups(sizes, fairness.minimum_group, noise_std, 2 * bins)
