"""Asks the running scoring service about one real application, in the Open Inference Protocol v2."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt

from client.data import Table
from simulation.demo.report import ScoringReport
from strategies.errors import CovenantError
from strategies.features import FeatureSpec

_READY_WITHIN_S = 60.0
_REPEATS = 20


def wait_until_ready(base: str, check: Callable[[], None]) -> None:
    """Return once the service at `base` is ready; raises `CovenantError` if it is not in time."""
    deadline = time.monotonic() + _READY_WITHIN_S
    with httpx.Client(trust_env=False) as client:
        while time.monotonic() < deadline:
            check()
            try:
                if client.get(f"{base}/v2/health/ready").is_success:
                    return
            except httpx.TransportError:
                time.sleep(0.1)
    raise CovenantError(f"the scoring service at {base} was not ready within {_READY_WITHIN_S:.0f} s")


def score_one(
    base: str, model: str, version: object, features: FeatureSpec, applicants: Table
) -> ScoringReport:
    """Score the first row of `applicants`; the latency is the median of some repeats."""
    url = f"{base}/v2/models/{model}/versions/{version}/infer"
    body = {"inputs": inputs(features, applicants, np.zeros(1, dtype=np.int64))}
    with httpx.Client(trust_env=False) as client:
        latencies: list[float] = []
        answer: dict[str, Any] = {}
        for _ in range(_REPEATS):
            began = time.perf_counter()
            response = client.post(url, json=body)
            latencies.append(time.perf_counter() - began)
            if not response.is_success:
                raise CovenantError(f"{url} answered HTTP {response.status_code}: {response.text[:300]}")
            answer = response.json()
    return ScoringReport(
        url=url, latency_ms=1000 * median(latencies), probability=answer["outputs"][0]["data"][0]
    )


def inputs(features: FeatureSpec, table: Table, places: npt.NDArray[np.int64]) -> list[Mapping[str, object]]:
    """The rows of `table` at `places`, (n,), as inference inputs: numbers as FP64 (null for missing), words as BYTES."""
    numeric = {feature.name for feature in features.numeric}
    found: list[Mapping[str, object]] = []
    for feature in features.features:
        values, shape = table.columns[feature.name][places], [len(places), 1]
        if feature.name in numeric:
            data: list[object] = [None if math.isnan(value) else float(value) for value in values]
            found.append({"name": feature.name, "shape": shape, "datatype": "FP64", "data": data})
        else:
            words = [value or "" for value in values]
            found.append({"name": feature.name, "shape": shape, "datatype": "BYTES", "data": words})
    return found
