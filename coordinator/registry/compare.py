"""Two versions side by side: metrics, weights, plans in words, what each cost in privacy, and whose rows shaped them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load

from coordinator.bootstrap import Centre
from coordinator.registry.lineage import Lineage, lineage_of
from coordinator.registry.versions import WEIGHTS_FILE, ModelVersion
from protos.plan_diff import PlanDiff, diff
from strategies.dp.units import Guarantee
from strategies.errors import CovenantError


@dataclass(frozen=True, slots=True, kw_only=True)
class Distance:
    """How far the weights of two versions are apart, in float64: `l2` of the difference, the same over the norm of the first, the largest difference
    of one weight, and the cosine of the angle between them (None where one of them is all zeros)."""

    l2: float
    relative: float | None
    largest: float
    cosine: float | None
    parameters: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """`metrics` has figures that both or either have, by name; `distance` is None where the weights have other shapes."""

    first: Lineage
    second: Lineage
    metrics: dict[str, tuple[float | None, float | None]]
    distance: Distance | None
    plan: PlanDiff

    def facts(self) -> dict[str, Any]:
        """As JSON."""
        sites = set(self.first.participants), set(self.second.participants)
        return {
            "first": _side(self.first),
            "second": _side(self.second),
            "metrics": {name: {"first": one, "second": other} for name, (one, other) in self.metrics.items()},
            "weights": None
            if self.distance is None
            else {name: getattr(self.distance, name) for name in Distance.__dataclass_fields__},
            "plan": {
                "changes": [
                    {
                        "about": str(each.part),
                        "field": each.field,
                        "sentence": each.sentence,
                        "loosens": each.loosens,
                    }
                    for each in self.plan.changes
                ],
                "cost": {"first": _cost(self.plan.cost_old), "second": _cost(self.plan.cost_new)},
                "loosens": self.plan.loosens,
            },
            "participants": {
                "both": sorted(sites[0] & sites[1]),
                "first_only": sorted(sites[0] - sites[1]),
                "second_only": sorted(sites[1] - sites[0]),
            },
        }


def compare(centre: Centre, first: ModelVersion, second: ModelVersion) -> Comparison:
    """What differs from the version `first` to the version `second`. Raises `CovenantError`."""
    one, other = (lineage_of(centre, each, entries=False) for each in (first, second))
    return Comparison(
        first=one,
        second=other,
        metrics=_metrics(first.metrics or {}, second.metrics or {}),
        distance=_distance(_weights(centre, first), _weights(centre, second)),
        plan=diff(one.plan, one.contract, other.plan, other.contract),
    )


def figures(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The figures among metrics: finite numbers, by name. Lists, such as bins, are none."""
    return {
        name: float(value)
        for name, value in metrics.items()
        if isinstance(value, Real) and not isinstance(value, bool) and np.isfinite(float(value))
    }


def _metrics(
    first: Mapping[str, Any], second: Mapping[str, Any]
) -> dict[str, tuple[float | None, float | None]]:
    one, other = figures(first), figures(second)
    return {name: (one.get(name), other.get(name)) for name in sorted({**one, **other})}


def _weights(centre: Centre, version: ModelVersion) -> dict[str, Any]:
    digest = version.artifacts.get(WEIGHTS_FILE)
    if digest is None:
        return {}
    try:
        return dict(load(centre.artifacts.get(digest)))
    except SafetensorError as error:
        raise CovenantError(f"the weights of {version.ref} are no safetensors file: {error}") from error


def _distance(first: Mapping[str, Any], second: Mapping[str, Any]) -> Distance | None:
    shapes = [{name: tensor.shape for name, tensor in each.items()} for each in (first, second)]
    if shapes[0] != shapes[1] or not first:
        return None
    one, other = (
        np.concatenate([np.asarray(each[name], dtype=np.float64).ravel() for name in sorted(each)])
        for each in (first, second)
    )
    apart, norms = one - other, (float(np.linalg.norm(one)), float(np.linalg.norm(other)))
    l2 = float(np.linalg.norm(apart))
    return Distance(
        l2=l2,
        relative=l2 / norms[0] if norms[0] > 0 else None,
        largest=float(np.abs(apart).max()),
        cosine=float(one @ other) / (norms[0] * norms[1]) if min(norms) > 0 else None,
        parameters=one.size,
    )


def _side(of: Lineage) -> dict[str, Any]:
    return {
        "model": of.version.ref,
        "digest": of.version.digest,
        "stage": str(of.version.stage),
        "run": of.version.run_id,
        "plan": of.plan.digest,
        "charges": [each.facts() for each in of.charges],
    }


def _cost(cost: Guarantee | None) -> dict[str, Any] | None:
    return None if cost is None else dict(cost.facts())
